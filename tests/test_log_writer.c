// The thread that writes log lines: nobody waits for a log that is not read, and what is missing is said.
#include "runner.h"

#include "api_client.h"
#include "json/json_reader.h"
#include "os/log_writer.h"
#include "worker_process.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static LogWriter writer;

static Log log_to(int fd) {
    Log log = {.format = LOG_FORMAT_JSON,
               .gpu_device = -1,
               .write = log_writer_put,
               .sink = &writer,
               .now_unix_ms = os_unix_ms};
    static Log kept;
    kept = log;
    log_writer_init(&writer, fd, &kept);
    return log;
}

// All that comes until the other end is closed, or, with `until`, until that has come.
static Str read_pipe(int fd, const char *until) {
    enum { MOST = 8 << 20 };
    char *text = os_reserve(MOST);
    size_t length = 0;
    while (length < MOST && !(until && text_contains((Str){text, length}, until))) {
        ssize_t got = read(fd, text + length, MOST - length);
        if (got <= 0) break;
        length += (size_t)got;
    }
    return (Str){text, length};
}

// Each line's number, in order; the event about those that are missing stands where they are missing.
static uint64_t check_lines(Str text, uint64_t next) {
    uint64_t gaps = 0;
    while (text.len) {
        const char *end = memchr(text.ptr, '\n', text.len);
        REQUIRE(end != NULL);
        Str line = str_slice(text, 0, (size_t)(end - text.ptr));
        text = str_slice(text, line.len + 1, text.len);
        if (text_contains(line, "\"event\":\"log_lines_dropped\"")) {
            next += log_line_number(line, "lines");
            gaps++;
        } else {
            REQUIRE(log_line_number(line, "percent") == next);
            next++;
        }
    }
    printf("%llu gaps\n", (unsigned long long)gaps);
    return next;
}

TEST(log_writer_drops_what_nobody_reads) {
    enum { FIRST = 20000, LATER = 200 }; // these fit the pipe
    int ends[2];
    Error err;
    REQUIRE(pipe(ends) == 0);
    Log log = log_to(ends[1]);
    REQUIRE(log_writer_start(&writer, &err));
    uint64_t n = 0;
    while (n < FIRST) // would not end if anybody waited
        log_event(&log, LOG_MODEL_LOAD_PROGRESS, LOG_U64("percent", n++));
    CHECK(!log_writer_flush(&writer, 1));
    CHECK(writer.dropped > 0);
    // It flows again: all that was kept, the gap, and what comes after it.
    Str text = read_pipe(ends[0], "log_lines_dropped");
    while (n < FIRST + LATER) {
        log_event(&log, LOG_MODEL_LOAD_PROGRESS, LOG_U64("percent", n++));
        if (n % 100 == 0) CHECK(log_writer_flush(&writer, UINT32_MAX));
    }
    CHECK(log_writer_flush(&writer, UINT32_MAX));
    close(ends[1]);
    Str rest = read_pipe(ends[0], NULL);
    memcpy((char *)(uintptr_t)text.ptr + text.len, rest.ptr, rest.len);
    CHECK_U64_EQ(n, check_lines((Str){text.ptr, text.len + rest.len}, 0));
    // The mode of what others may share is as it was.
    CHECK_INT_EQ(0, fcntl(ends[0], F_GETFL) & O_NONBLOCK);
}

static void *log_many(void *argument) {
    for (int i = 0; i < 5000; i++)
        log_event((const Log *)argument, LOG_MODEL_LOAD_PROGRESS, LOG_U64("percent", (uint64_t)i));
    return NULL;
}

// Many threads, and the longest lines: each comes whole or not at all.
TEST(log_writer_keeps_lines_whole) {
    enum { THREADS = 4 };
    Error err;
    const char *path = test_tmp_path("log");
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    REQUIRE(fd >= 0);
    Log log = log_to(fd);
    log_event(&log, LOG_MODEL_LOAD_PROGRESS, LOG_U64("percent", 1)); // before there is a thread
    REQUIRE(log_writer_start(&writer, &err));
    OsThread threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        REQUIRE(os_thread_start(&threads[i], "test", log_many, &log, &err));
    static char message[12 * 1024];
    memset(message, 'm', sizeof message);
    for (int i = 0; i < 100; i++)
        log_event(&log, LOG_ERROR, LOG_STR("message", ((Str){message, sizeof message})));
    for (int i = 0; i < THREADS; i++)
        os_thread_join(&threads[i]);
    CHECK(log_writer_flush(&writer, UINT32_MAX));
    Arena arena = os_arena(32 << 20);
    Str text;
    REQUIRE(os_file_read(path, 16 << 20, &arena, &text, &err));
    uint64_t lines = 0, missing = 0;
    while (text.len) {
        const char *end = memchr(text.ptr, '\n', text.len);
        REQUIRE(end != NULL);
        Str line = str_slice(text, 0, (size_t)(end - text.ptr));
        text = str_slice(text, line.len + 1, text.len);
        Arena scratch = arena;
        const JsonNode *root = json_parse(line, &scratch, &(JsonLimits){.nodes_max = 100}, &err);
        REQUIRE(root != NULL);
        if (text_contains(line, "log_lines_dropped")) missing += log_line_number(line, "lines");
        else lines++;
    }
    CHECK_U64_EQ(1 + THREADS * 5000 + 100, lines + missing);
}

// A worker whose standard error is a pipe that nobody reads: it answers, it ends, and it says what is
// missing.
TEST(log_writer_of_a_worker_that_nobody_reads) {
    int ends[2];
    REQUIRE(pipe(ends) == 0);
    const char *model = tiny_model_file();
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        dup2(ends[1], 2);
        close(ends[0]);
        execl(test_program_path(), "worker-orcd", "--model", model, "--device", "cpu", "--port", "0",
              "--threads", "1", "--log-level", "debug", (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    Str start = read_pipe(ends[0], "\"event\":\"ready\"");
    const char *at = memmem(start.ptr, start.len, "\"port\":", 7);
    REQUIRE(at != NULL);
    uint16_t port = (uint16_t)strtoul(at + 7, NULL, 10);
    // More than the pipe and the queue hold. Each is logged with its path.
    for (int i = 0; i < 3000; i++)
        REQUIRE(ask_with(port, "GET", "/health", NULL, (HttpHeader){0}).status == 200);
    Str text = read_pipe(ends[0], "\"event\":\"log_lines_dropped\"");
    CHECK(text_contains(text, "\"event\":\"log_lines_dropped\""));
    kill(pid, SIGTERM);
    CHECK(text_contains(read_pipe(ends[0], NULL), "\"event\":\"shutdown\""));
    int status;
    REQUIRE(waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

// The end does not wait for ever, either.
TEST(log_writer_of_a_worker_that_ends_unread) {
    int ends[2];
    Error err;
    REQUIRE(pipe(ends) == 0);
    Log log = log_to(ends[1]);
    REQUIRE(log_writer_start(&writer, &err));
    for (int i = 0; i < 5000; i++)
        log_event(&log, LOG_MODEL_LOAD_PROGRESS, LOG_U64("percent", 1));
    CHECK(!log_writer_flush(&writer, 20));
}
