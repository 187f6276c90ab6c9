// What surrounds the worker is hostile: files that change under it, whoever started it, and what is left of
// descriptors, room on disk and signals.
#include "gguf_builder.h"
#include "os/os.h"
#include "runner.h"
#include "worker_process.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define JOB "{\"job_id\":\"a\",\"prompt\":\"Hello\",\"max_tokens\":5,\"seed\":7}"

// ---- files that are cut ----

enum { PAGE = 4096, PAGES = 8 };

typedef struct {
    MappedFile file;
    uint64_t sum;
} Reading;

static void *read_all(void *context) {
    Reading *r = context;
    for (uint64_t i = 0; i < r->file.size; i++)
        r->sum += r->file.data[i];
    return NULL;
}

// In a thread of ours, and with what the system does about signals in a new process.
static void read_cut_file(void) {
    const char *path = test_tmp_path("file");
    static char content[PAGE * PAGES];
    Reading r = {0};
    OsThread thread;
    Error err;
    memset(content, 1, sizeof content);
    CHECK(gguf_builder_save((Str){content, sizeof content}, path));
    os_begin_process();
    REQUIRE(os_file_map(path, &r.file, &err));
    REQUIRE(os_file_keep(&r.file, PAGE + 1, &err)); // two pages
    CHECK_INT_EQ(2 * PAGE, r.file.kept);
    CHECK(!os_file_was_cut());
    CHECK(truncate(path, 3 * PAGE) == 0);
    REQUIRE(os_thread_start(&thread, "reader", read_all, &r, &err));
    os_thread_join(&thread);
    CHECK_INT_EQ(3 * PAGE, r.sum);
    CHECK(os_file_was_cut());
    CHECK(truncate(path, 0) == 0);
    CHECK_INT_EQ(1, r.file.data[2 * PAGE - 1]); // kept
    os_file_unmap(&r.file);
    // A fault that has nothing to do with files is still one.
    char *memory = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, open(path, O_RDONLY), 0);
    REQUIRE(memory != MAP_FAILED);
    _exit(*(volatile char *)memory);
}

TEST(hostile_file_is_cut_while_mapped) {
    int status = 0;
    setenv("ASAN_OPTIONS", "handle_sigbus=0", 1);
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) read_cut_file();
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(test_is_sanitized() || (WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS));
}

// What was read of a model stays what it was.
TEST(hostile_model_file_is_overwritten) {
    const char *path = tiny_model_file();
    Arena arena = os_arena(64 << 20);
    const GgufFile *file;
    GgufArray tokens;
    Error err = {0};
    static const char junk[64 * 1024];
    if (!gguf_open(path, &arena, &file, &err)) FAIL("%s", err.message), test_end();
    REQUIRE(gguf_get_array(file, STR("tokenizer.ggml.tokens"), GGUF_STRING, &tokens, &err));
    int fd = open(path, O_WRONLY);
    REQUIRE(fd >= 0 && write(fd, junk, sizeof junk) == sizeof junk);
    close(fd);
    uint64_t n_bytes = 0;
    for (uint64_t i = 0; i < tokens.count; i++)
        n_bytes += gguf_array_str(&tokens, i).len;
    CHECK(n_bytes >= tokens.count);
    const GgufValue *architecture = gguf_find_value(file, STR("general.architecture"));
    CHECK(architecture && str_eq(architecture->str, STR("llama")));
    gguf_close(file);
}

// Its weights are gone: each stream ends with an error, and so does the worker, as when a device is lost.
TEST(hostile_model_file_is_cut_while_serving) {
    const char *path = tiny_model_file();
    uint16_t status;
    Server s = server_start_with(path, "--device cpu --threads 2");
    CHECK(text_contains(server_ask(s, "POST", "/execute", JOB, &status), "event: end"));
    CHECK(truncate(path, 100) == 0);
    CHECK(text_contains(server_ask(s, "GET", "/health", "", &status), "\"model\":\"Llama-tiny\""));
    CHECK_INT_EQ(200, status);
    CHECK(text_contains(server_ask(s, "POST", "/execute", JOB, &status), "file was cut"));
    CHECK_INT_EQ(3, process_wait(s.process));
    CHECK(text_contains(process_read_file(s.process.err_path), "file was cut"));
}

// A name that would not fit an answer or would drive a terminal is not used.
TEST(hostile_model_names) {
    static char longest[256 * 1024];
    memset(longest, 'x', sizeof longest - 1);
    const char *const names[] = {longest,
                                 "a\x1b[2Jb",
                                 "a\xC2\x9B"
                                 "2J",
                                 "a\nb",
                                 "\xFF",
                                 ""};
    uint16_t status;
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        TEST_CASE_LABEL("name %zu", i);
        TinyModel model = tiny_model_llama();
        const char *path = test_tmp_path("tiny.gguf");
        model.name = names[i];
        tiny_model_save(&model, path);
        Server s = server_start(path, "");
        CHECK(text_contains(server_ask(s, "GET", "/health", "", &status), "\"model\":\"tiny\""));
        kill(s.process.pid, SIGTERM);
        CHECK_INT_EQ(0, process_wait(s.process));
    }
    TEST_CASE_LABEL("%s", "a message");
    TinyModel model = tiny_model_llama();
    const char *path = test_tmp_path("odd.gguf");
    GgufBuilder b = gguf_builder_begin();
    tiny_model_put_metadata(&b, &model);
    tiny_model_add_tensors(&b, &model);
    gguf_builder_put_str(&b, "llama.rope.scaling.type", "\x1b[2J\xC2\x9B[2J");
    CHECK(gguf_builder_save(gguf_builder_end(&b), path));
    Process p = process_start("run --device cpu --model % --prompt x", &path, NULL);
    CHECK_INT_EQ(1, process_wait(p));
    Str message = process_read_file(p.err_path);
    CHECK(text_contains(message, "2J") && !text_contains(message, "\x1b") && !text_contains(message, "\x9B"));
}

// ---- who started it ----

TEST(hostile_standard_files_are_closed) {
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        int kept = fcntl(2, F_DUPFD_CLOEXEC, 10);
        close(0), close(1), close(2);
        os_begin_process();
        int next = open("/dev/null", O_RDONLY);
        ssize_t written = write(2, "x", 1), got = read(0, &(char){0}, 1);
        bool cannot = written < 0 && errno == EBADF && got < 0;
        dup2(kept, 2);
        CHECK(next > 2);
        CHECK(cannot);
        _exit(0);
    }
    CHECK(waitpid(child, NULL, 0) == child);
    // The program does so.
    char link[256] = "", path[64];
    const char *model = tiny_model_file();
    Process p = {.err_path = test_tmp_path("err")};
    p.pid = fork();
    REQUIRE(p.pid >= 0);
    if (p.pid == 0) {
        int err = open(p.err_path, O_WRONLY | O_CREAT, 0600);
        if (dup2(err, 2) < 0) _exit(126);
        close(0), close(err);
        execl(test_program_path(), "worker-orcd", "--model", model, "--device", "cpu", "--port", "0", NULL);
        _exit(127);
    }
    CHECK(process_await_event(p, "ready").len > 0);
    snprintf(path, sizeof path, "/proc/%d/fd/0", (int)p.pid);
    CHECK(readlink(path, link, sizeof link - 1) > 0);
    CHECK_STR_EQ("/", link);
    kill(p.pid, SIGTERM);
    CHECK_INT_EQ(0, process_wait(p));
}

TEST(hostile_signals_are_blocked) {
    static const int stops[] = {SIGTERM, SIGINT};
    sigset_t all;
    sigfillset(&all);
    for (size_t i = 0; i < COUNT_OF(stops); i++) {
        TEST_CASE_LABEL("signal %d", stops[i]);
        sigprocmask(SIG_SETMASK, &all, NULL); // what the worker inherits
        Server s = server_start(tiny_model_file(), "");
        kill(s.process.pid, stops[i]);
        CHECK_INT_EQ(0, process_wait(s.process));
    }
}

// The first process of a container, which signals without a handler do not end.
TEST(hostile_second_signal_to_a_first_process) {
    int status = 0;
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        if (unshare(CLONE_NEWUSER | CLONE_NEWPID) != 0) _exit(77);
        pid_t first = fork();
        if (first == 0) {
            os_install_stop_signals(-1);
            raise(SIGTERM);
            os_sleep_ms(250); // one at once would not count
            raise(SIGTERM);
            _exit(0);
        }
        if (first < 0 || waitpid(first, &status, 0) != first) _exit(77);
        _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 99);
    }
    REQUIRE(waitpid(child, &status, 0) == child && WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) SKIP("namespaces are not to be had here");
    CHECK_INT_EQ(128 + SIGTERM, WEXITSTATUS(status));
}

// ---- what is left ----

TEST(hostile_log_file_reaches_its_limit) {
    enum { LIMIT = 8000 };
    uint16_t status;
    const char *model = tiny_model_file();
    struct rlimit old, little;
    REQUIRE(getrlimit(RLIMIT_FSIZE, &old) == 0);
    little = (struct rlimit){LIMIT, old.rlim_max};
    signal(SIGXFSZ, SIG_DFL);
    REQUIRE(setrlimit(RLIMIT_FSIZE, &little) == 0);
    Server s = server_start(model, "");
    REQUIRE(setrlimit(RLIMIT_FSIZE, &old) == 0);
    for (int i = 0; i < 30; i++)
        CHECK(text_contains(server_ask(s, "POST", "/execute", JOB, &status), "event: end"));
    CHECK(process_read_file(s.process.err_path).len <= LIMIT);
    kill(s.process.pid, SIGTERM);
    CHECK_INT_EQ(0, process_wait(s.process));
}

// Whoever reads the log has stopped: the worker has not.
TEST(hostile_log_is_not_read) {
    uint16_t status;
    int ends[2];
    char log[16 * 1024] = "";
    size_t n = 0;
    const char *model = tiny_model_file();
    REQUIRE(pipe(ends) == 0 && fcntl(ends[1], F_SETPIPE_SZ, 4096) > 0);
    Server s = {.process.pid = fork()};
    REQUIRE(s.process.pid >= 0);
    if (s.process.pid == 0) {
        if (dup2(ends[1], 2) < 0) _exit(126);
        execl(test_program_path(), "worker-orcd", "--model", model, "--device", "cpu", "--port", "0", NULL);
        _exit(127);
    }
    char *ready = NULL; // and what is after it: all of that line, for a log is written a line at a time
    while (!ready && n + 1 < sizeof log) {
        ssize_t got = read(ends[0], log + n, sizeof log - 1 - n);
        REQUIRE(got > 0);
        n += (size_t)got;
        log[n] = 0;
        ready = strstr(log, "\"event\":\"ready\"");
    }
    REQUIRE(ready != NULL);
    while (ready > log && ready[-1] != '\n')
        ready--;
    s.port = (uint16_t)log_line_number((Str){ready, strcspn(ready, "\n")}, "port");
    for (int i = 0; i < 30; i++)
        CHECK(text_contains(server_ask(s, "POST", "/execute", JOB, &status), "event: end"));
    kill(s.process.pid, SIGTERM);
    CHECK_INT_EQ(0, process_wait(s.process));
}

static int connect_idle(uint16_t port) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(fd >= 0 && connect(fd, (const struct sockaddr *)&to, sizeof to) == 0);
    return fd;
}

// Connections that say nothing take all of the worker's descriptors: they give place.
TEST(hostile_idle_connections_take_all_descriptors) {
    enum { LIMIT = 40, IDLE = 60 };
    uint16_t status;
    struct rlimit old, little;
    REQUIRE(getrlimit(RLIMIT_NOFILE, &old) == 0);
    little = (struct rlimit){LIMIT, old.rlim_max};
    const char *model = tiny_model_file();
    REQUIRE(setrlimit(RLIMIT_NOFILE, &little) == 0);
    Server s = server_start(model, "");
    REQUIRE(setrlimit(RLIMIT_NOFILE, &old) == 0);
    int idle[IDLE];
    for (int i = 0; i < IDLE; i++)
        idle[i] = connect_idle(s.port);
    for (int i = 0; i < 3; i++)
        CHECK(text_contains(server_ask(s, "POST", "/execute", JOB, &status), "event: end"));
    for (int i = 0; i < IDLE; i++)
        close(idle[i]);
    kill(s.process.pid, SIGTERM);
    CHECK_INT_EQ(0, process_wait(s.process));
}

// What makes infinities of good logits is the request's doing, and no failure of the model.
TEST(hostile_penalties) {
    static const char *const penalties[] = {"1e-300", "5e-324", "1e-38", "1e-12", "2"};
    uint16_t status;
    Server s = server_start(tiny_model_file(), "");
    for (size_t i = 0; i < COUNT_OF(penalties); i++) {
        char job[256];
        TEST_CASE_LABEL("%s", penalties[i]);
        snprintf(job, sizeof job,
                 "{\"job_id\":\"a\",\"prompt\":\"Hello\",\"max_tokens\":9,\"temperature\":1e-300,"
                 "\"repetition_penalty\":%s}",
                 penalties[i]);
        CHECK(text_contains(server_ask(s, "POST", "/execute", job, &status), "event: end"));
    }
    kill(s.process.pid, SIGTERM);
    CHECK_INT_EQ(0, process_wait(s.process));
}
