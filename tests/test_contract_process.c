// Lines of the worker contract that the program itself keeps: its log, its phases, its flags, as a process.
#include "api_client.h"
#include "gguf_builder.h"
#include "json/json_reader.h"
#include "os/os.h"
#include "os/os_net.h"
#include "runner.h"
#include "worker_process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

// ---- log events ----

// The fields of each event beside those that all have: texts, then numbers.
static const struct {
    const char *event, *texts, *numbers;
} event_rows[] = {
    {"startup", "version url host", "port pid"},
    {"model_load_start", "model architecture quant_kind", "layers weights_mb"},
    {"model_load_progress", "", "percent"},
    {"model_load_complete", "model device", "load_seconds vram_bytes_used"},
    {"ready", "url device", "port load_seconds max_jobs"},
    {"execute_start", "job_id correlation_id", "tokens_in max_tokens"},
    {"execute_end", "job_id correlation_id stop_reason cache_miss",
     "tokens_in tokens_out tokens_cached prefill_time_ms decode_time_ms first_token_ms"},
    {"execute_rejected", "code field correlation_id", ""},
    {"error", "job_id correlation_id code message", "tokens_out"}, // a job's
    {"draining", "reason", "jobs_active"},
    {"shutdown", "reason", "uptime_seconds"},
};

static void check_members(const JsonNode *line, const char *names, const char *type) {
    for (const char *at = names; *at;) {
        size_t length = strcspn(at, " ");
        const char *found = json_type_name(json_get(line, (Str){at, length}));
        if (strcmp(type, found) != 0) FAIL("%.*s is %s", (int)length, at, found);
        at += length + (at[length] == ' ');
    }
}

static Str text_of(const JsonNode *line, const char *name) {
    Str text = {0};
    CHECK(json_read_str(json_get(line, str_from_c(name)), &text));
    return text;
}

static void check_log_line(const JsonNode *line, Str worker_id, uint32_t *seen) {
    Str event = text_of(line, "event"), ts = text_of(line, "ts"), narration = text_of(line, "narration");
    TEST_CASE_LABEL("%.*s", STR_ARG(event));
    CHECK(ts.len == 24 && ts.ptr[10] == 'T' && ts.ptr[23] == 'Z');
    Str level = text_of(line, "level");
    CHECK(str_eq(level, STR("info")) || str_eq(level, STR("warn")));
    CHECK_STR_EQ(worker_id, text_of(line, "worker_id"));
    CHECK(str_starts_with(text_of(line, "model_ref"), STR("file:/")));
    CHECK(str_ends_with(narration, STR(".")) && !text_contains(narration, "?"));
    uint64_t percent;
    for (size_t i = 0; i < COUNT_OF(event_rows); i++) {
        if (!str_eq(event, str_from_c(event_rows[i].event))) continue;
        check_members(line, event_rows[i].texts, "a string");
        check_members(line, event_rows[i].numbers, "a number");
        if (json_read_u64(json_get(line, STR("percent")), &percent)) CHECK_U64_EQ(seen[i] * 25, percent);
        seen[i]++;
    }
}

static bool is_uuid_v4(Str text) {
    return text.len == 36 && text.ptr[14] == '4' && strchr("89ab", text.ptr[19]) != NULL;
}

static uint32_t count_events(Server s, const char *event) {
    char member[64];
    snprintf(member, sizeof member, "\"event\":\"%s\"", event);
    Str log = process_read_file(s.process.err_path);
    return log.len ? text_count(log, member) : 0;
}

// A client that goes when it has read the beginning (where this process is starved: perhaps all of it).
static void leave_early(Server s) {
    static const char request[] = "POST /execute HTTP/1.1\r\nHost: localhost\r\nContent-Length: 61\r\n\r\n"
                                  "{\"job_id\":\"c\",\"prompt\":\"p\",\"max_tokens\":1900,\"temperature\":0}";
    int socket;
    size_t sent;
    uint16_t status;
    Error err;
    REQUIRE(os_net_connect(STR("127.0.0.1"), s.port, 60000, &socket, &err));
    CHECK(os_net_send(socket, str_from_c(request), &sent) == OS_NET_OK && sent == sizeof request - 1);
    CHECK(os_net_wait_ready(socket, false, 60000));
    os_net_close(socket);
    while (!text_contains(server_ask(s, "GET", "/health", "", &status), "\"jobs_active\":0"))
        os_sleep_ms(2);
}

// A worker's life, with a job that ends, one that is refused and one whose client goes.
TEST(contract_log_events_have_their_fields) {
    Server s = server_start(tiny_model_file(), "");
    uint32_t seen[COUNT_OF(event_rows)] = {0};
    HttpHeader id = {STR("X-Correlation-Id"), STR("of-a-job")};
    ask_with(s.port, "POST", "/execute", "{\"job_id\":\"a\",\"prompt\":\"p\",\"max_tokens\":3}", id);
    ask_with(s.port, "POST", "/execute", "{\"job_id\":\"b\",\"prompt\":\"\"}", id);
    for (int i = 0; i < 20 && count_events(s, "error") == 0; i++)
        leave_early(s);
    uint16_t status;
    Str health = server_ask(s, "GET", "/health", "", &status);
    kill(s.process.pid, SIGTERM);
    CHECK_INT_EQ(0, process_wait(s.process));
    Arena arena = os_arena(16 << 20);
    Error err;
    Str log = process_read_file(s.process.err_path), worker_id = {0};
    while (log.len) {
        size_t length = strcspn(log.ptr, "\n");
        const JsonNode *line =
            json_parse(str_slice(log, 0, length), &arena, &(JsonLimits){.nodes_max = 1000}, &err);
        REQUIRE(line != NULL);
        if (!worker_id.len) worker_id = text_of(line, "worker_id");
        check_log_line(line, worker_id, seen);
        log = str_slice(log, length + 1, log.len);
    }
    for (size_t i = 0; i < COUNT_OF(event_rows); i++) {
        TEST_CASE_LABEL("%s", event_rows[i].event);
        bool is_once = strncmp(event_rows[i].event, "execute_", 8) != 0 && i != 2;
        CHECK(is_once ? seen[i] == 1 : seen[i] >= 1);
    }
    CHECK_INT_EQ(5, seen[2]);     // at 0, 25, 50, 75 and 100 percent
    CHECK(is_uuid_v4(worker_id)); // made up, since none was given
    CHECK(memmem(health.ptr, health.len, worker_id.ptr, worker_id.len) != NULL);
}

// What a person sees who starts it by hand.
TEST(contract_log_is_text_on_a_terminal) {
    int terminal = posix_openpt(O_RDWR | O_NOCTTY);
    char path[64], text[4096];
    if (terminal < 0 || grantpt(terminal) || unlockpt(terminal) || ptsname_r(terminal, path, sizeof path))
        SKIP("no terminals here");
    int other = open(path, O_RDWR | O_NOCTTY); // keeps what was written after the program has ended
    REQUIRE(other >= 0);
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        if (dup2(other, 2) < 0) _exit(126);
        execl(test_program_path(), test_program_path(), "--model", "/nowhere.gguf", "--device", "cpu",
              (char *)NULL);
        _exit(127);
    }
    CHECK_INT_EQ(1, process_wait((Process){.pid = pid}));
    REQUIRE(os_net_wait_ready(terminal, false, 60000));
    ssize_t length = read(terminal, text, sizeof text - 1);
    REQUIRE(length > 0);
    text[length] = 0;
    CHECK(strstr(text, "/nowhere.gguf") && strstr(text, "error") && !strchr(text, '{'));
    close(terminal);
    close(other);
}

// ---- starting ----

// Nothing is done for a bad file: not even the GPU, which this machine need not have, is looked for.
TEST(contract_header_is_read_before_all_else) {
    const char *text = tmp_file_write("note.txt", "not a model");
    Process p = process_start("--model % --port 0", (const char *[]){text}, NULL);
    CHECK_INT_EQ(1, process_wait(p));
    Str log = process_read_file(p.err_path);
    CHECK(text_contains(log, "\"code\":\"MODEL_LOAD_FAILED\"") && text_contains(log, "note.txt"));
    CHECK(!text_contains(log, "\"event\":\"startup\""));
}

// The orchestrator's port takes connections and says nothing: the worker listens and is not ready yet. Each
// way to end it works now, too.
TEST(contract_starting_until_the_callback_is_answered) {
    static const struct {
        const char *name;
        int signal; // 0: POST /shutdown
    } rows[] = {{"SIGTERM", SIGTERM}, {"SIGINT", SIGINT}, {"/shutdown", 0}};
    int listener;
    uint16_t port;
    char line[160];
    Error err;
    REQUIRE(os_net_listen(STR("127.0.0.1"), 0, &listener, &port, &err));
    snprintf(line, sizeof line,
             "--model %% --device cpu --threads 1 --port 0 --callback-url http://127.0.0.1:%u/ready", port);
    const char *model = tiny_model_file();
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].name);
        Process p = process_start(line, (const char *[]){model}, NULL);
        Str startup = process_await_event(p, "startup");
        REQUIRE(startup.len > 0 && process_await_event(p, "model_load_complete").len > 0);
        uint16_t worker = (uint16_t)log_line_number(startup, "port");
        Answer a = ask_with(worker, "GET", "/health", NULL, (HttpHeader){0});
        CHECK_INT_EQ(503, a.status);
        CHECK(text_contains(a.body, "\"status\":\"starting\""));
        CHECK_INT_EQ(503, ask_with(worker, "GET", "/ready", NULL, (HttpHeader){0}).status);
        CHECK_INT_EQ(200, ask_with(worker, "GET", "/v1/health/live", NULL, (HttpHeader){0}).status);
        CHECK_INT_EQ(200, ask_with(worker, "GET", "/metrics", NULL, (HttpHeader){0}).status);
        a = ask_with(worker, "POST", "/execute", "{\"job_id\":\"a\",\"prompt\":\"p\"}", (HttpHeader){0});
        CHECK_INT_EQ(503, a.status);
        CHECK(text_contains(a.body, "\"code\":\"NOT_READY\"") && text_contains(a.body, "\"retriable\":true"));
        for (int ms = 0; ms < 20000 && !text_contains(a.body, "--callback-url is being told"); ms += 5) {
            os_sleep_ms(5); // a first token is being computed
            a = ask_with(worker, "POST", "/execute", "{\"job_id\":\"a\",\"prompt\":\"p\"}", (HttpHeader){0});
        }
        CHECK(text_contains(a.body, "the model is loaded; --callback-url is being told so"));
        CHECK(answer_header(&a, "Retry-After").len > 0);
        if (rows[i].signal) kill(p.pid, rows[i].signal);
        else CHECK_INT_EQ(202, ask_with(worker, "POST", "/shutdown", "", (HttpHeader){0}).status);
        CHECK_INT_EQ(0, process_wait(p));
        Str log = process_read_file(p.err_path);
        CHECK(text_contains(log, "\"event\":\"shutdown\"") && !text_contains(log, "\"event\":\"ready\""));
    }
    os_net_close(listener);
}

// ---- flags ----

// That they are understood is tested elsewhere; here, that they do something.
TEST(contract_flags_reach_the_worker) {
    static const struct {
        const char *body, *answer;
    } rows[] = {
        {"{\"job_id\":\"a\",\"prompt\":\"#####\"}", "prompt: 5 tokens; at most 4 are allowed"},
        {"{\"job_id\":\"a\",\"prompt\":\"p\",\"max_tokens\":8}",
         "max_tokens: 8 is out of range; allowed is 1 to 7"},
        {"{\"job_id\":\"a\",\"prompt\":\"####\",\"max_tokens\":7}", "\"tokens_in\":4"},
        // A penalty that is allowed, but by which no logit can be divided.
        {"{\"job_id\":\"a\",\"prompt\":\"##\",\"repetition_penalty\":1e-300}", "\"stop_reason\":"},
        {"{\"job_id\":\"a\",\"prompt\":\"##\",\"repetition_penalty\":1e-38,\"temperature\":0}",
         "\"stop_reason\":"},
    };
    uint16_t status;
    setenv("WORKER_ORCD_MAX_TOKENS_OUT", "7", 1);
    setenv("WORKER_ORCD_MAX_TOKENS_IN", "3", 1); // the flag wins
    Server s = server_start(tiny_model_file(), "--max-tokens-in 4 --max-jobs 3");
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].body);
        Str answer = server_ask(s, "POST", "/execute", rows[i].body, &status);
        if (!CHECK(text_contains(answer, rows[i].answer))) printf("%.*s\n", STR_ARG(answer));
    }
    CHECK(text_contains(server_ask(s, "GET", "/health", "", &status), "\"jobs_max\":3"));
    CHECK(text_contains(process_read_file(s.process.err_path), "\"max_tokens\":7"));
    kill(s.process.pid, SIGTERM);
    CHECK_INT_EQ(0, process_wait(s.process));
}

static void send_completion(int fd, const char *body) {
    char request[256];
    size_t sent;
    int length = snprintf(request, sizeof request,
                          "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n%s",
                          strlen(body), body);
    Str text = {request, (size_t)length};
    REQUIRE(os_net_send(fd, text, &sent) == OS_NET_OK && sent == text.len);
}

static uint64_t resident_pages(pid_t pid) {
    char path[64];
    unsigned long long all = 0, resident = 0;
    snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
    FILE *f = fopen(path, "r");
    if (!f) return 0;
    if (fscanf(f, "%llu %llu", &all, &resident) != 2) resident = 0;
    fclose(f);
    return resident;
}

// Whoever may wait has a connection, also where there are more of them than connections otherwise.
TEST(contract_queue_is_as_long_as_it_is_told) {
    enum { QUEUED = 560 };
    TinyModel model = tiny_model_llama();
    model.context = 1 << 17;
    const char *path = test_tmp_path("long.gguf");
    tiny_model_save(&model, path);
    char flags[80], expected[48];
    uint16_t status;
    Error err;
    int fds[QUEUED + 1];
    snprintf(flags, sizeof flags, "--max-tokens-out 100000 --max-jobs 1 --max-queued %d", QUEUED);
    snprintf(expected, sizeof expected, "\nworker_jobs_queued %d\n", QUEUED);
    Server s = server_start(path, flags);
    uint64_t resident =
        resident_pages(s.process.pid); // of 16 MiB for the answer of each, nothing is used yet
    if (!test_is_sanitized()) CHECK(resident > 0 && resident < (200u << 20) / 4096);
    for (int i = 0; i <= QUEUED; i++) {
        REQUIRE(os_net_connect(STR("127.0.0.1"), s.port, 60000, &fds[i], &err));
        send_completion(fds[i], i == 0 ? "{\"prompt\":\"a\",\"max_tokens\":100000,\"ignore_eos\":true}"
                                       : "{\"prompt\":\"a\",\"max_tokens\":1}");
        if (i == 0) os_sleep_ms(20);
    }
    Str metrics = {0};
    for (int ms = 0; ms < 20000 && !text_contains(metrics, expected); ms += 5) {
        os_sleep_ms(5);
        metrics = server_ask(s, "GET", "/metrics", "", &status);
    }
    CHECK(text_contains(metrics, expected));
    os_net_close(fds[0]); // the others' turn
    for (int i = 1; i <= QUEUED; i++) {
        char reply[13] = {0};
        REQUIRE(os_net_wait_ready(fds[i], false, 60000));
        REQUIRE(recv(fds[i], reply, sizeof reply - 1, 0) == sizeof reply - 1);
        if (strcmp(reply, "HTTP/1.1 200") != 0) FAIL("request %d: %s", i, reply);
        os_net_close(fds[i]);
    }
    kill(s.process.pid, SIGTERM);
    CHECK_INT_EQ(0, process_wait(s.process));
}

// ---- tokens ----

static uint16_t status_with_token(Server s, const char *token) {
    char value[64];
    snprintf(value, sizeof value, "Bearer %s", token);
    HttpHeader header = {STR("Authorization"), str_from_c(value)};
    return ask_with(s.port, "GET", "/metrics", NULL, header).status;
}

// Each file that cannot be read leaves the old tokens in force, and a good one that follows is taken.
TEST(contract_sighup_with_a_file_that_cannot_be_read) {
    static const char *const ways[] = {"gone", "empty", "a folder", "too large", "no token", "a FIFO"};
    static char large[70 * 1024];
    memset(large, 'x', sizeof large - 1);
    const char *path = tmp_file_write("tokens", "old\n");
    char more[512];
    snprintf(more, sizeof more, "--api-token-file %s", path);
    Server s = server_start(tiny_model_file(), more);
    for (uint32_t i = 0; i < COUNT_OF(ways); i++) {
        TEST_CASE_LABEL("%s", ways[i]);
        if (i == 0) REQUIRE(unlink(path) == 0);
        if (i == 1) tmp_file_write("tokens", "");
        if (i == 2) REQUIRE(unlink(path) == 0 && mkdir(path, 0700) == 0);
        if (i == 3) REQUIRE(rmdir(path) == 0);
        if (i == 3) tmp_file_write("tokens", large);
        if (i == 4) tmp_file_write("tokens", "# none\ntwo words\n");
        if (i == 5) REQUIRE(unlink(path) == 0 && mkfifo(path, 0600) == 0);
        kill(s.process.pid, SIGHUP);
        for (int ms = 0; ms < 20000 && count_events(s, "tokens_kept") <= i; ms += 5)
            os_sleep_ms(5);
        CHECK_INT_EQ(i + 1, count_events(s, "tokens_kept"));
        CHECK_INT_EQ(200, status_with_token(s, "old"));
        CHECK_INT_EQ(401, status_with_token(s, "new"));
    }
    REQUIRE(unlink(path) == 0);
    tmp_file_write("tokens", "new");
    kill(s.process.pid, SIGHUP);
    CHECK(process_await_event(s.process, "tokens_read").len > 0);
    CHECK_INT_EQ(401, status_with_token(s, "old"));
    CHECK_INT_EQ(200, status_with_token(s, "new"));
    kill(s.process.pid, SIGTERM);
    CHECK_INT_EQ(0, process_wait(s.process));
}

// Read at the start, and later: a pipe such as `<(…)` in a shell gives its tokens once, and nobody waits for
// more of them.
TEST(contract_tokens_from_a_pipe) {
    int ends[2];
    char more[64];
    REQUIRE(pipe(ends) == 0 && write(ends[1], "old\n", 4) == 4 && close(ends[1]) == 0);
    snprintf(more, sizeof more, "--api-token-file /dev/fd/%d", ends[0]);
    Server s = server_start(tiny_model_file(), more);
    CHECK_INT_EQ(200, status_with_token(s, "old"));
    kill(s.process.pid, SIGHUP);
    CHECK(text_contains(process_await_event(s.process, "tokens_kept"), "is not a regular file"));
    CHECK_INT_EQ(200, status_with_token(s, "old"));
    kill(s.process.pid, SIGTERM);
    CHECK_INT_EQ(0, process_wait(s.process));
    close(ends[0]);
}

// A FIFO holds it up before anything else is done, until somebody writes.
TEST(contract_sighup_while_it_starts_is_no_end) {
    const char *fifo = test_tmp_path("tokens");
    REQUIRE(mkfifo(fifo, 0600) == 0);
    Process p = process_start("--model % --device cpu --threads 1 --port 0 --api-token-file %",
                              (const char *[]){tiny_model_file(), fifo}, NULL);
    int writer = open(fifo, O_WRONLY); // when it is being read
    REQUIRE(writer >= 0);
    kill(p.pid, SIGHUP);
    os_sleep_ms(20);
    CHECK(write(writer, "old\n", 4) == 4 && close(writer) == 0);
    Str ready = process_await_event(p, "ready");
    REQUIRE(ready.len > 0);
    Server s = {p, (uint16_t)log_line_number(ready, "port")};
    CHECK_INT_EQ(200, status_with_token(s, "old"));
    CHECK(text_contains(process_await_event(p, "tokens_kept"), "is not a regular file"));
    kill(p.pid, SIGTERM);
    CHECK_INT_EQ(0, process_wait(p));
}

TEST(contract_token_file_that_cannot_be_read_is_a_wrong_flag) {
    static const struct {
        const char *flag, *path, *reason;
    } rows[] = {
        {"--api-token-file", "/nowhere", "/nowhere: cannot be opened"},
        {"--callback-token-file", "/nowhere", "/nowhere: cannot be opened"},
        {"--api-token-file", "/", "/: cannot be read"},
        {"--callback-token-file", "/dev/null", "/dev/null: no token in it"},
        {"--api-token-file", "/dev/zero", "/dev/zero: larger than 65536 bytes"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char line[128], message[128];
        TEST_CASE_LABEL("%s %s", rows[i].flag, rows[i].path);
        // Before the model is looked at, which is not there.
        snprintf(line, sizeof line, "--model /nowhere.gguf --device cpu %s %s", rows[i].flag, rows[i].path);
        snprintf(message, sizeof message, "\"message\":\"%s: %s", rows[i].flag, rows[i].reason);
        Process p = process_start(line, NULL, NULL);
        CHECK_INT_EQ(2, process_wait(p));
        Str log = process_read_file(p.err_path);
        CHECK(text_contains(log, "\"code\":\"USAGE\"") && text_contains(log, message));
    }
}

// ---- hanging up ----

// A worker that leads the session of a terminal, as a shell's last command does. Closing *terminal hangs up.
static Process start_on_terminal(bool ignores_hangup, int *terminal) {
    const char *model = tiny_model_file();
    char path[64];
    Process p = {.err_path = test_tmp_path(ignores_hangup ? "err-nohup" : "err-terminal")};
    *terminal = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (*terminal < 0 || grantpt(*terminal) || unlockpt(*terminal) || ptsname_r(*terminal, path, sizeof path))
        SKIP("no terminals here");
    p.pid = fork();
    REQUIRE(p.pid >= 0);
    if (p.pid > 0) return p;
    setsid();
    int controlling = open(path, O_RDWR);
    int err = open(p.err_path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (controlling < 0 || dup2(controlling, 0) < 0 || dup2(err, 2) < 0) _exit(126);
    if (ignores_hangup) signal(SIGHUP, SIG_IGN);
    execl(test_program_path(), test_program_path(), "--model", model, "--device", "cpu", "--threads", "1",
          "--port", "0", "--log-level", "debug", (char *)NULL);
    _exit(127);
}

// For a service the signal means "read your files again", and there are none; whoever is logged in loses
// their worker with the terminal, unless they said nohup.
TEST(contract_sighup_ends_a_worker_whose_terminal_is_gone_and_no_other) {
    for (int ignores_hangup = 0; ignores_hangup < 2; ignores_hangup++) {
        int terminal;
        TEST_CASE_LABEL(ignores_hangup ? "nohup" : "on a terminal");
        Process p = start_on_terminal(ignores_hangup, &terminal);
        REQUIRE(process_await_event(p, "ready").len > 0);
        kill(p.pid, SIGHUP); // somebody's; the terminal is there
        CHECK(process_await_event(p, "hangup").len > 0);
        close(terminal);
        if (ignores_hangup) {
            os_sleep_ms(500); // several ticks of the server's clock
            CHECK(!text_contains(process_read_file(p.err_path), "\"event\":\"draining\""));
            kill(p.pid, SIGTERM);
        }
        CHECK_INT_EQ(0, process_wait(p));
        Str log = process_read_file(p.err_path);
        CHECK(text_contains(log, "\"event\":\"shutdown\""));
        CHECK(text_contains(log, ignores_hangup ? "\"reason\":\"stop signal\""
                                                : "\"reason\":\"the terminal is gone\""));
    }
}

// ---- the KV cache ----

// The tiny model takes 1,024 bytes a token, and has a context of 2,048.
TEST(contract_context_cut_by_the_kv_cache_is_told) {
    static const struct {
        const char *flags;
        bool is_told;
    } rows[] = {{"--kv-cache-size-mb 1", true}, {"--kv-cache-size-mb 2", false}, {"--max-jobs 2", false}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].flags);
        Server s = server_start(tiny_model_file(), rows[i].flags);
        CHECK_INT_EQ(rows[i].is_told, count_events(s, "context_cut"));
        if (rows[i].is_told) {
            Str line = process_await_event(s.process, "context_cut");
            CHECK_INT_EQ(976, log_line_number(line, "context_length"));
            CHECK_INT_EQ(2048, log_line_number(line, "model_context_length"));
        }
        kill(s.process.pid, SIGTERM);
        CHECK_INT_EQ(0, process_wait(s.process));
    }
    Process p = process_start("run --model % --device cpu --threads 1 --prompt p --max-tokens 1 "
                              "--kv-cache-size-mb 1",
                              (const char *[]){tiny_model_file()}, NULL);
    CHECK_INT_EQ(0, process_wait(p));
    Str figures = process_read_file(p.err_path);
    CHECK(text_contains(figures, "warning: --kv-cache-size-mb 1 holds 976 of the context's 2048 tokens\n"));
    CHECK(text_contains(figures, "output 1 token\n"));
}

// A cache in which next to nothing fits is refused. Of these models a token takes 16 kB.
TEST(contract_cache_for_nothing_is_refused) {
    static const struct {
        uint32_t context;
        const char *flags, *message; // NULL: it runs
    } rows[] = {
        {2048, "--kv-cache-size-mb 1",
         "--kv-cache-size-mb 1: holds 48 of the context's 2048 tokens, and 256 are"},
        {2048, "--kv-cache-size-mb 5", NULL},
        {32, "--kv-cache-size-mb 1", NULL}, // shorter than the least
    };
    const char *path = test_tmp_path("wide.gguf");
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("context of %u, %s", rows[i].context, rows[i].flags);
        TinyModel model = tiny_model_llama();
        model.layers = 32;
        model.context = rows[i].context;
        tiny_model_save(&model, path);
        static const char *const commands[] = {"run --prompt p --max-tokens 1", "serve --port 0"};
        for (size_t k = 0; k < COUNT_OF(commands) && (rows[i].message || k == 0); k++) {
            char line[256];
            snprintf(line, sizeof line, "%s --model %% --device cpu --threads 1 %s", commands[k],
                     rows[i].flags);
            Process p = process_start(line, (const char *[]){path}, NULL);
            CHECK_INT_EQ(rows[i].message ? 2 : 0, process_wait(p));
            Str said = process_read_file(p.err_path);
            if (rows[i].message && !text_contains(said, rows[i].message)) FAIL("%.*s", STR_ARG(said));
        }
    }
}

// ---- the same request, the same tokens ----

// M0-W-1826, by the CPU reference and over HTTP: whatever runs beside it.
TEST(contract_m0_w_1826_same_tokens_beside_other_jobs) {
    static const char request[] =
        "{\"job_id\":\"a\",\"prompt\":\"Hello\",\"max_tokens\":30,\"seed\":7,\"top_p\":0.9}";
    uint16_t status;
    HttpClient others[2];
    HttpClientReply reply;
    Error err;
    char url[64], body[128], memory[2][4096];
    Server s = server_start(tiny_model_file(), "--max-jobs 3");
    Str alone = server_ask(s, "POST", "/execute", request, &status);
    snprintf(url, sizeof url, "http://127.0.0.1:%u/execute", s.port);
    for (size_t i = 0; i < COUNT_OF(others); i++) {
        snprintf(body, sizeof body,
                 "{\"job_id\":\"other %zu\",\"prompt\":\"pp\",\"max_tokens\":1900,\"temperature\":0}", i);
        HttpClientRequest other = {.method = "POST",
                                   .url = str_from_c(url),
                                   .content_type = STR("application/json"),
                                   .body = str_from_c(body),
                                   .timeout_ms = 20000};
        REQUIRE(http_client_open(&others[i], &other, &reply, &err));
    }
    Str beside = server_ask(s, "POST", "/execute", request, &status);
    Str tokens = token_events(alone, memory[0]);
    CHECK(text_contains(tokens, "\"i\":5}"));
    CHECK_STR_EQ(tokens, token_events(beside, memory[1]));
    for (size_t i = 0; i < COUNT_OF(others); i++)
        http_client_close(&others[i]);
    kill(s.process.pid, SIGTERM);
    CHECK_INT_EQ(0, process_wait(s.process));
}

// The ids that `run` prints, and how many of them are different.
static uint32_t run_ids(const char *more, uint32_t ids[64], uint32_t *n_different) {
    char line[256];
    snprintf(line, sizeof line,
             "run --model %% --device cpu --threads 1 --prompt 0123456789 --ids --temperature 0 %s", more);
    Process p = process_start(line, (const char *[]){tiny_model_file()}, NULL);
    CHECK_INT_EQ(0, process_wait(p));
    Str out = process_read_file(p.out_path);
    uint32_t n = 0;
    *n_different = 0;
    for (const char *at = out.ptr; at < out.ptr + out.len && n < 64 && *at != '\n'; n++) {
        bool is_new = true;
        char *end;
        ids[n] = (uint32_t)strtoul(at, &end, 10);
        for (uint32_t i = 0; i < n; i++)
            is_new = is_new && ids[i] != ids[n];
        *n_different += is_new;
        at = end + (*end == ' ');
    }
    return n;
}

// The penalty is over prompt and output: one that favours what was there lets the prompt's tokens alone be
// drawn, and one that disfavours it makes the output richer.
TEST(contract_repetition_penalty_is_over_prompt_and_output) {
    uint32_t plain[64], favoured[64], rich[64], prompt[64], n_plain, n_favoured, n_rich, n_prompt = 0;
    const char *text = tmp_file_write("prompt", "0123456789");
    Process p = process_start("tokenize --model % --add-special", (const char *[]){tiny_model_file()}, text);
    CHECK_INT_EQ(0, process_wait(p));
    Str ids = process_read_file(p.out_path);
    REQUIRE(ids.len > 0);
    for (char *at = (char *)(uintptr_t)ids.ptr; *at && *at != '\n' && n_prompt < 64;)
        prompt[n_prompt++] = (uint32_t)strtoul(at, &at, 10);
    CHECK_INT_EQ(40, run_ids("--max-tokens 40", plain, &n_plain));
    CHECK_INT_EQ(1, run_ids("--max-tokens 1 --repetition-penalty 0.01", favoured, &n_favoured));
    CHECK_INT_EQ(40, run_ids("--max-tokens 40 --repetition-penalty 2", rich, &n_rich));
    printf("%u and %u different tokens\n", n_plain, n_rich);
    bool was_there = false, is_there = false;
    for (uint32_t i = 0; i < n_prompt; i++) {
        was_there = was_there || prompt[i] == plain[0];
        is_there = is_there || prompt[i] == favoured[0];
    }
    CHECK(!was_there && is_there);
    CHECK(n_rich > n_plain);
}

TEST(contract_run_takes_biases_and_penalties) {
    uint32_t plain[64], ids[64], n_plain, n_different;
    char flags[64];
    CHECK_INT_EQ(40, run_ids("--max-tokens 40", plain, &n_plain));
    snprintf(flags, sizeof flags, "--max-tokens 12 --logit-bias 1=-5,%u=100", plain[1]);
    CHECK_INT_EQ(12, run_ids(flags, ids, &n_different));
    CHECK(ids[0] == plain[1] && n_different == 1);
    snprintf(flags, sizeof flags, "--max-tokens 1 --logit-bias %u=-100", plain[0]);
    CHECK_INT_EQ(1, run_ids(flags, ids, &n_different));
    CHECK(ids[0] != plain[0]);
    CHECK_INT_EQ(40, run_ids("--max-tokens 40 --frequency-penalty 2", ids, &n_different));
    CHECK(ids[0] == plain[0] && n_different > n_plain); // nothing was drawn before the first
    CHECK_INT_EQ(40, run_ids("--max-tokens 40 --presence-penalty 2", ids, &n_different));
    CHECK(ids[0] == plain[0] && n_different > n_plain);
}

TEST(contract_run_refuses_wrong_biases_and_penalties) {
    static const struct {
        const char *flags, *message;
    } rows[] = {
        {"--logit-bias 5", "--logit-bias 5: must be ID=VALUE, several of them with commas between"},
        {"--logit-bias 5=1,x=2", "--logit-bias x=2: must be ID=VALUE, several of them with commas between"},
        {"--logit-bias 5=", "--logit-bias 5=: must be ID=VALUE, several of them with commas between"},
        {"--logit-bias -1=2", "--logit-bias -1=2: must be ID=VALUE, several of them with commas between"},
        {"--logit-bias 1000000=2", "logit_bias names token 1000000; the vocabulary has "},
        {"--logit-bias 5=101", "logit_bias of token 5 is 101; it must be between -100 and 100"},
        {"--presence-penalty 3", "--presence-penalty 3: must be a number from -2 to 2"},
        {"--frequency-penalty -2.5", "--frequency-penalty -2.5: must be a number from -2 to 2"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char line[256];
        TEST_CASE_LABEL("%s", rows[i].flags);
        snprintf(line, sizeof line, "run --model %% --device cpu --threads 1 --prompt 0 --max-tokens 1 %s",
                 rows[i].flags);
        Process p = process_start(line, (const char *[]){tiny_model_file()}, NULL);
        CHECK_INT_EQ(2, process_wait(p));
        CHECK(text_contains(process_read_file(p.err_path), rows[i].message));
    }
}

// What keeps a worker from starting has a code of its own.
TEST(contract_start_up_errors_have_their_codes) {
    static const struct {
        int reason;
        ErrCode code;
        const char *name;
    } codes[] = {
        {ENOENT, ERR_NO_FILE, "FILE_NOT_FOUND"},
        {ENOTDIR, ERR_NO_FILE, "FILE_NOT_FOUND"},
        {EACCES, ERR_PERMISSION, "PERMISSION_DENIED"},
        {EPERM, ERR_PERMISSION, "PERMISSION_DENIED"},
        {EADDRINUSE, ERR_ADDRESS_IN_USE, "ADDRESS_IN_USE"},
        {EADDRNOTAVAIL, ERR_ADDRESS, "ADDRESS_UNAVAILABLE"},
        {EIO, ERR_IO, "INTERNAL"},
    };
    const char *model = tiny_model_file();
    char taken[8];
    uint16_t port;
    int listener;
    Error err;
    for (size_t i = 0; i < COUNT_OF(codes); i++) {
        TEST_CASE_LABEL("%s", strerror(codes[i].reason));
        CHECK_INT_EQ(codes[i].code, os_error_code(codes[i].reason));
        CHECK_STR_EQ(codes[i].name, error_info(codes[i].code)->name);
    }
    REQUIRE(os_net_listen(STR("127.0.0.1"), 0, &listener, &port, &err));
    snprintf(taken, sizeof taken, "%u", port);
    const struct {
        const char *line, *values[2], *code;
        int exit_code;
    } rows[] = {
        {"--device cpu --port 0 --model %", {"/nowhere.gguf"}, "FILE_NOT_FOUND", 1},
        {"--device cpu --model % --port %", {model, taken}, "ADDRESS_IN_USE", 1},
        {"--device cpu --port 0 --host 192.0.2.1 --model %", {model}, "ADDRESS_UNAVAILABLE", 1},
        {"--device cpu --port 0 --host nowhere.invalid --model %", {model}, "ADDRESS_UNAVAILABLE", 1},
        {"--port 0 --model %", {model}, "NO_DEVICE", 1},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char code[64];
        TEST_CASE_LABEL("%s", rows[i].line);
        if (strcmp(rows[i].code, "NO_DEVICE") == 0 && access("/dev/nvidiactl", F_OK) == 0) continue;
        Process p = process_start(rows[i].line, rows[i].values, NULL);
        CHECK_INT_EQ(rows[i].exit_code, process_wait(p));
        snprintf(code, sizeof code, "\"code\":\"%s\"", rows[i].code);
        Str log = process_read_file(p.err_path);
        if (!CHECK(text_contains(log, code))) printf("%.*s\n", STR_ARG(log));
    }
}
