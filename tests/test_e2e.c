// The program itself, as a process: start-up, exit codes, signals, commands. With a tiny model of random
// weights, and where it is there, the demo's real one.
#include "base/strbuf.h"
#include "gguf_builder.h"
#include "http/http_client.h"
#include "os/os.h"
#include "runner.h"
#include "json/json_reader.h"

#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ARGUMENTS_MAX = 32, OUTPUT_BYTES = 1 << 20 };

typedef struct {
    pid_t pid;
    const char *out_path, *err_path;
} Process;

static Str read_file(const char *path) {
    Arena arena = os_arena(OUTPUT_BYTES * 4);
    Str text = {0};
    Error err;
    return os_file_read(path, OUTPUT_BYTES, &arena, &text, &err) ? text : (Str){0};
}

static bool contains(Str text, const char *part) {
    return text.len && memmem(text.ptr, text.len, part, strlen(part)) != NULL;
}

// Words are separated by single spaces; "%" stands for the next of `values`.
static Process start(const char *line, const char *const *values, const char *input_path) {
    static int serial;
    char name[32], *arguments[ARGUMENTS_MAX] = {(char *)(uintptr_t)test_program_path()}, memory[1024];
    snprintf(memory, sizeof memory, "%s", line);
    int n = 1;
    for (char *at = memory; *at && n + 1 < ARGUMENTS_MAX; at++) {
        size_t length = strcspn(at, " ");
        bool last = at[length] == 0;
        at[length] = 0;
        arguments[n++] = strcmp(at, "%") == 0 ? (char *)(uintptr_t)*values++ : at;
        at += length;
        if (last) break;
    }
    Process p = {0};
    snprintf(name, sizeof name, "out%d", ++serial);
    p.out_path = test_tmp_path(name);
    snprintf(name, sizeof name, "err%d", serial);
    p.err_path = test_tmp_path(name);
    p.pid = fork();
    REQUIRE(p.pid >= 0);
    if (p.pid > 0) return p;
    int in = open(input_path ? input_path : "/dev/null", O_RDONLY);
    int out = open(p.out_path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    int err = open(p.err_path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0) _exit(126);
    execv(arguments[0], arguments);
    _exit(127);
}

// The exit code, or 128 plus the signal that ended it.
static int wait_for(Process p) {
    int status = 0;
    REQUIRE(waitpid(p.pid, &status, 0) == p.pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static const char *tiny_model(void) {
    TinyModel model = tiny_model_llama();
    const char *path = test_tmp_path("tiny.gguf");
    tiny_model_save(&model, path);
    return path;
}

static const char *write_file(const char *name, const char *text) {
    const char *path = test_tmp_path(name);
    CHECK(gguf_builder_save(str_from_c(text), path));
    return path;
}

// ---- the server ----

typedef struct {
    Process process;
    uint16_t port;
} Server;

// Waits for an event in the log, which is JSON since standard error is a file; its line, or an empty one when
// the process has ended.
static Str await_event(Process p, const char *event) {
    char member[64];
    snprintf(member, sizeof member, "\"event\":\"%s\"", event);
    for (int waited_ms = 0; waited_ms < 30000; waited_ms += 5) {
        Str log = read_file(p.err_path);
        while (log.len) {
            const char *end = memchr(log.ptr, '\n', log.len);
            if (!end) break;
            Str line = str_slice(log, 0, (size_t)(end - log.ptr));
            if (contains(line, member)) return line;
            log = str_slice(log, line.len + 1, log.len);
        }
        siginfo_t info = {0};
        if (waitid(P_PID, (id_t)p.pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == p.pid)
            break;
        os_sleep_ms(5);
    }
    return (Str){0};
}

static uint64_t line_number(Str line, const char *key) {
    Arena arena = os_arena(1 << 20);
    Error err;
    uint64_t value = 0;
    const JsonNode *root = json_parse(line, &arena, &(JsonLimits){.nodes_max = 1000}, &err);
    CHECK(root && json_read_u64(json_get(root, str_from_c(key)), &value));
    return value;
}

static Server serve(const char *model, const char *more) {
    char line[512];
    snprintf(line, sizeof line, "--model %% --device cpu --threads 1 --port 0 %s", more);
    if (!*more) line[strlen(line) - 1] = 0;
    Server s = {.process = start(line, (const char *[]){model}, NULL)};
    Str ready = await_event(s.process, "ready");
    if (ready.len == 0) FAIL("not ready:\n%s", read_file(s.process.err_path).ptr), test_end();
    s.port = (uint16_t)line_number(ready, "port");
    return s;
}

static Str ask(Server s, const char *method, const char *path, const char *body, uint16_t *status) {
    char url[128];
    Arena arena = os_arena(4 << 20);
    Error err;
    HttpClientReply reply = {0};
    snprintf(url, sizeof url, "http://127.0.0.1:%u%s", s.port, path);
    HttpClientRequest request = {.method = method,
                                 .url = str_from_c(url),
                                 .content_type = STR("application/json"),
                                 .body = str_from_c(body),
                                 .timeout_ms = 50000};
    if (!http_client_exchange(&request, &arena, &reply, &err)) FAIL("%s %s: %s", method, path, err.message);
    *status = reply.status;
    return reply.body;
}

// The data of a stream's token events, one a line.
static Str token_events(Str stream, char memory[4096]) {
    static const char name[] = "event: token\ndata: ";
    StrBuf out = strbuf_from_memory(memory, 4096);
    const char *at, *end = stream.ptr + stream.len;
    while ((at = memmem(stream.ptr, (size_t)(end - stream.ptr), name, sizeof name - 1)) != NULL) {
        at += sizeof name - 1;
        stream.ptr = memchr(at, '\n', (size_t)(end - at));
        REQUIRE(stream.ptr != NULL);
        strbuf_put(&out, (Str){at, (size_t)(stream.ptr + 1 - at)});
    }
    CHECK(!out.truncated);
    return strbuf_str(&out);
}

TEST(e2e_serve_one_request_and_stop) {
    Server s = serve(tiny_model(), "--worker-id 01234567-89ab-4cde-8f01-23456789abcd");
    uint16_t status;
    Str body = ask(s, "GET", "/health", "", &status);
    CHECK_INT_EQ(200, status);
    static const char *const members[] = {
        "\"status\":\"healthy\"",
        "\"worker_id\":\"01234567-89ab-4cde-8f01-23456789abcd\"",
        "\"resident\":false",
        "\"quant_kind\":\"Q4_K",
        "\"tokenizer_kind\":\"gguf-bpe\"",
        "\"vocab_size\":1024",
        "\"context_length\":2048",
        "\"sm\":null",
        "\"cuda_runtime_version\":null",
        "\"capabilities\":[\"text-gen\"],\"protocol\":\"sse\"",
        "\"jobs_active\":0,\"jobs_max\":1",
        "\"load_progress\":1.000",
    };
    for (size_t i = 0; i < COUNT_OF(members); i++) {
        TEST_CASE_LABEL("%s", members[i]);
        CHECK(contains(body, members[i]));
    }
    TEST_CASE_LABEL("the same request twice");
    static const char request[] =
        "{\"job_id\":\"a\",\"prompt\":\"Hello\",\"max_tokens\":20,\"seed\":7,\"top_p\":0.9}";
    Str first = ask(s, "POST", "/execute", request, &status),
        second = ask(s, "POST", "/execute", request, &status);
    char memory[2][4096];
    Str tokens[2] = {token_events(first, memory[0]), token_events(second, memory[1])};
    CHECK(contains(tokens[0], "\"i\":0}"));
    CHECK_STR_EQ(tokens[0], tokens[1]);
    TEST_CASE_LABEL("%s", "");
    uint64_t begin_ns = os_monotonic_ns();
    kill(s.process.pid, SIGTERM);
    CHECK_INT_EQ(0, wait_for(s.process));
    uint64_t took_ms = (os_monotonic_ns() - begin_ns) / 1000000;
    printf("SIGTERM to exit: %llu ms\n", (unsigned long long)took_ms);
    CHECK(took_ms < (test_is_sanitized() ? 5000 : 1000));
    Str log = read_file(s.process.err_path);
    static const char *const events[] = {
        "startup", "model_load_start", "model_load_progress", "model_load_complete",
        "ready",   "execute_start",    "execute_end",         "draining",
        "shutdown"};
    size_t at = 0;
    for (size_t i = 0; i < COUNT_OF(events); i++) { // in this order
        char member[64];
        TEST_CASE_LABEL("%s", events[i]);
        snprintf(member, sizeof member, "\"event\":\"%s\"", events[i]);
        const char *found = memmem(log.ptr + at, log.len - at, member, strlen(member));
        if (CHECK(found != NULL)) at = (size_t)(found - log.ptr);
    }
}

TEST(e2e_shutdown_by_request_and_by_sigint) {
    uint16_t status;
    Server s = serve(tiny_model(), "");
    CHECK(contains(ask(s, "POST", "/shutdown", "", &status), "draining"));
    CHECK_INT_EQ(202, status);
    CHECK_INT_EQ(0, wait_for(s.process));
    s = serve(tiny_model(), "");
    kill(s.process.pid, SIGINT);
    CHECK_INT_EQ(0, wait_for(s.process));
}

// A second signal ends at once, though a job still runs.
TEST(e2e_second_signal) {
    Server s = serve(tiny_model(), "");
    char url[64];
    Error err;
    HttpClient client;
    HttpClientReply reply;
    snprintf(url, sizeof url, "http://127.0.0.1:%u/execute", s.port);
    HttpClientRequest request = {.method = "POST",
                                 .url = str_from_c(url),
                                 .content_type = STR("application/json"),
                                 .body = STR("{\"job_id\":\"a\",\"prompt\":\"p\",\"max_tokens\":2000}"),
                                 .timeout_ms = 20000};
    REQUIRE(http_client_open(&client, &request, &reply, &err));
    CHECK(await_event(s.process, "execute_start").len > 0);
    kill(s.process.pid, SIGTERM);
    CHECK(await_event(s.process, "draining").len > 0);
    uint64_t begin_ns = os_monotonic_ns();
    kill(s.process.pid, SIGTERM);
    CHECK_INT_EQ(128 + SIGTERM, wait_for(s.process));
    CHECK((os_monotonic_ns() - begin_ns) / 1000000 < 1000);
    http_client_close(&client);
}

TEST(e2e_port_in_use) {
    const char *model = tiny_model();
    char port[16];
    Server s = serve(model, "");
    snprintf(port, sizeof port, "%u", s.port);
    Process p = start("--model % --device cpu --port %", (const char *[]){model, port}, NULL);
    CHECK_INT_EQ(1, wait_for(p));
    Str log = read_file(p.err_path);
    CHECK(contains(log, "\"event\":\"error\"") && contains(log, port) && contains(log, "in use"));
    kill(s.process.pid, SIGTERM);
    CHECK_INT_EQ(0, wait_for(s.process));
}

// The server is told of nothing that listens: three tries, then exit 1; and of something that does.
TEST(e2e_callback) {
    const char *model = tiny_model();
    Process p = start("--model % --device cpu --port 0 --callback-url http://127.0.0.1:1/ready",
                      (const char *[]){model}, NULL);
    CHECK_INT_EQ(1, wait_for(p));
    Str log = read_file(p.err_path);
    CHECK(contains(log, "\"attempt\":3,\"attempts\":3") && contains(log, "nobody was told"));
    CHECK(!contains(log, "\"event\":\"ready\""));
    // Another worker's /shutdown answers 202 to any POST.
    Server other = serve(model, "");
    char line[160];
    snprintf(line, sizeof line, "--callback-url http://127.0.0.1:%u/shutdown", other.port);
    Server s = serve(model, line);
    CHECK_INT_EQ(0, wait_for(other.process));
    kill(s.process.pid, SIGTERM);
    CHECK_INT_EQ(0, wait_for(s.process));
}

TEST(e2e_text_log_on_request) {
    Process p =
        start("--model % --device cpu --port 0 --log-format text", (const char *[]){tiny_model()}, NULL);
    for (int i = 0; i < 3000 && !contains(read_file(p.err_path), "takes jobs"); i++)
        os_sleep_ms(10);
    CHECK(contains(read_file(p.err_path), "  ready                Ready after "));
    kill(p.pid, SIGTERM);
    CHECK_INT_EQ(0, wait_for(p));
    Str log = read_file(p.err_path);
    CHECK(!contains(log, "\x1b") && !contains(log, "?"));
}

// Prometheus' own parser reads /metrics.
TEST(e2e_metrics_parse_with_prometheus_client) {
    if (system("python3 -c 'import prometheus_client.parser' >/dev/null 2>&1") != 0) {
        SKIP("python3 has no prometheus_client");
    }
    uint16_t status;
    Server s = serve(tiny_model(), "");
    ask(s, "POST", "/execute", "{\"job_id\":\"a\",\"prompt\":\"Hello\",\"max_tokens\":5}", &status);
    Str text = ask(s, "GET", "/metrics", "", &status);
    const char *path = test_tmp_path("metrics");
    CHECK(gguf_builder_save(text, path));
    char command[4096];
    snprintf(
        command, sizeof command,
        "python3 -c 'import sys; from prometheus_client.parser import text_string_to_metric_families as "
        "parse;"
        "names = {f.name: f.type for f in parse(open(sys.argv[1]).read())};"
        "sys.exit(0 if names.get(\"worker_requests\") == \"counter\" and "
        "names.get(\"worker_first_token_ms\") == \"histogram\" and len(names) == 13 else str(names))' %s",
        path);
    CHECK_INT_EQ(0, system(command));
    kill(s.process.pid, SIGTERM);
    CHECK_INT_EQ(0, wait_for(s.process));
}

// ---- commands and exit codes ----

TEST(e2e_exit_codes) {
    const char *model = tiny_model(), *text = write_file("note.txt", "not a model");
    const char *empty = write_file("tokens", "# none\n");
    const struct {
        const char *line;
        const char *values[3];
        int code;
        const char *out, *err; // parts of what is printed; NULL: nothing
    } rows[] = {
        {"--help", {0}, 0, "Usage", NULL},
        {"run --help", {0}, 0, "worker-orcd run --model PATH", NULL},
        {"--version", {0}, 0, "worker-orcd 0.", NULL},
        {"--list-architectures", {0}, 0, "llama", NULL},
        {"devices", {0}, 0, "cpu", NULL},
        {"devices --json", {0}, 0, "{\"device\":\"cpu\",\"threads\":", NULL},
        {"--port", {0}, 2, NULL, "worker-orcd: --port: needs a value, N\nSee worker-orcd --help\n"},
        {"run --port 1", {0}, 2, NULL, "\nSee worker-orcd run --help\n"},
        {"--model /nowhere.gguf --device cpu", {0}, 1, NULL, "/nowhere.gguf"},
        {"run --model /nowhere.gguf --device cpu",
         {0},
         1,
         NULL,
         "worker-orcd: /nowhere.gguf: cannot be opened"},
        {"run --model % --device cpu", {text}, 1, NULL, "note.txt"},
        {"--model % --device cpu --host nowhere.invalid", {model}, 1, NULL, "nowhere.invalid"},
        {"--model % --device cpu --port 0 --api-token-file %", {model, empty}, 2, NULL, "no token in it"},
        {"--model % --device cpu --port 0 --callback-url ftp://x", {model}, 2, NULL, "--callback-url"},
        {"perplexity --model % --device cpu %", {model, text}, 2, NULL, "do not fill a window of 512"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].line);
        Process p = start(rows[i].line, rows[i].values, NULL);
        CHECK_INT_EQ(rows[i].code, wait_for(p));
        Str out = read_file(p.out_path), err = read_file(p.err_path);
        CHECK(rows[i].out ? contains(out, rows[i].out) : out.len == 0);
        if (!CHECK(rows[i].err ? contains(err, rows[i].err) : err.len == 0)) printf("%.*s\n", STR_ARG(err));
    }
}

TEST(e2e_default_device_without_gpu) {
    if (WORKER_ORCD_CUDA && access("/dev/nvidiactl", F_OK) == 0) SKIP("there is a GPU");
    const char *model = tiny_model();
    const char *lines[] = {"run --model % --prompt a", "--model % --port 0"};
    for (size_t i = 0; i < COUNT_OF(lines); i++) {
        TEST_CASE_LABEL("%s", lines[i]);
        Process p = start(lines[i], (const char *[]){model}, NULL);
        CHECK_INT_EQ(1, wait_for(p));
        CHECK(contains(read_file(p.err_path), "--device cpu"));
    }
}

TEST(e2e_run) {
    const char *model = tiny_model(), *prompt = write_file("prompt.txt", "Hello there");
    static const char base[] = "run --model % --device cpu --threads 1 --max-tokens 8 --seed 3";
    const struct {
        const char *more;
        const char *values[3];
        const char *input;
    } rows[] = {
        {" --file %", {model, prompt}, NULL},
        {" --prompt %", {model, "Hello there"}, NULL},
        {"", {model}, prompt},
    };
    Str first = {0};
    for (size_t i = 0; i < COUNT_OF(rows); i++) { // the same prompt three ways
        char line[256];
        TEST_CASE_LABEL("run%s", rows[i].more);
        snprintf(line, sizeof line, "%s%s", base, rows[i].more);
        Process p = start(line, rows[i].values, rows[i].input);
        CHECK_INT_EQ(0, wait_for(p));
        Str out = read_file(p.out_path), err = read_file(p.err_path);
        CHECK(contains(err, "seed 3\n") && contains(err, "first token after"));
        if (i == 0) first = out;
        CHECK_STR_EQ(first, out);
        CHECK(out.len > 1);
    }
    TEST_CASE_LABEL("--ids and --json agree, and --logits does not change the draw");
    Process ids = start("run --model % --device cpu --threads 1 --max-tokens 8 --seed 3 --file % --ids",
                        rows[0].values, NULL);
    CHECK_INT_EQ(0, wait_for(ids));
    Process json =
        start("run --model % --device cpu --threads 1 --max-tokens 8 --seed 3 --file % --logits 2 --json",
              rows[0].values, NULL);
    CHECK_INT_EQ(0, wait_for(json));
    Arena arena = os_arena(1 << 20);
    Error err;
    Str answer = read_file(json.out_path);
    const JsonNode *root = json_parse(answer, &arena, &(JsonLimits){.nodes_max = 1000}, &err);
    REQUIRE(root && json_is(json_get(root, STR("tokens")), JSON_ARRAY));
    const JsonNode *tokens = json_get(root, STR("tokens"));
    CHECK_INT_EQ(8, tokens->length);
    char memory[256];
    StrBuf joined = STRBUF(memory);
    for (const JsonNode *t = json_first(tokens); t != json_end(tokens); t = json_next(t)) {
        uint64_t id = 0;
        CHECK(json_read_u64(json_get(t, STR("id")), &id));
        strbuf_printf(&joined, "%s%d", joined.len ? " " : "", (int)id);
        const JsonNode *candidates = json_get(t, STR("candidates"));
        double best, second;
        REQUIRE(json_is(candidates, JSON_ARRAY) && candidates->length == 2);
        const JsonNode *candidate = json_first(candidates);
        CHECK(json_read_f64(json_get(candidate, STR("logprob")), &best) &&
              json_read_f64(json_get(json_next(candidate), STR("logprob")), &second) && best >= second &&
              best < 0);
    }
    strbuf_put_char(&joined, '\n');
    CHECK_STR_EQ(strbuf_str(&joined), read_file(ids.out_path));
}

TEST(e2e_tokenize_and_back) {
    static const char text[] = "Hello, w\xC3\xB6rld! <|im_start|> 123";
    const char *model = tiny_model(), *input = write_file("text", text);
    Process p = start("tokenize --model %", (const char *[]){model}, input);
    CHECK_INT_EQ(0, wait_for(p));
    Str ids = read_file(p.out_path);
    CHECK(ids.len > 10);
    Process back = start("tokenize --model % --decode", (const char *[]){model}, p.out_path);
    CHECK_INT_EQ(0, wait_for(back));
    CHECK_STR_EQ(text, read_file(back.out_path));
    Process bad = start("tokenize --model % --decode", (const char *[]){model}, input);
    CHECK_INT_EQ(2, wait_for(bad));
    CHECK(contains(read_file(bad.err_path), "an id is a whole number below 1024"));
}

TEST(e2e_bench_json) {
    Process p =
        start("bench --model % --device cpu --threads 1 --prompt-tokens 8,16 --context 4 --output-tokens 4 "
              "--batch 1,3 --runs 2 --json",
              (const char *[]){tiny_model()}, NULL);
    CHECK_INT_EQ(0, wait_for(p));
    Arena arena = os_arena(1 << 20);
    Error err;
    const JsonNode *root = json_parse(read_file(p.out_path), &arena, &(JsonLimits){.nodes_max = 1000}, &err);
    REQUIRE(root && json_is(json_get(root, STR("results")), JSON_ARRAY));
    const JsonNode *results = json_get(root, STR("results"));
    CHECK_INT_EQ(4, results->length);
    for (const JsonNode *r = json_first(results); r != json_end(results); r = json_next(r)) {
        double rate = 0, least = 0, most = 0;
        CHECK(json_read_f64(json_get(r, STR("tokens_per_second")), &rate) && rate > 0);
        CHECK(json_read_f64(json_get(r, STR("least")), &least) &&
              json_read_f64(json_get(r, STR("most")), &most));
        CHECK(least <= rate && rate <= most);
    }
}

// ---- the real model ----

// The first window of the reference text against the figures of another engine (tests/vectors/README.md).
TEST_SLOW(e2e_perplexity_of_smollm2, 180) {
    if (test_is_sanitized()) SKIP("takes minutes under a sanitizer, and the tiny model takes the same way");
    const char *model = test_model_path(), *text = test_data_path("vectors/text_en.txt");
    Arena arena = os_arena(64 << 20);
    Error err;
    Str reference;
    REQUIRE(
        os_file_read(test_data_path("vectors/smollm2_perplexity.json"), 32 << 20, &arena, &reference, &err));
    const JsonNode *root = json_parse(reference, &arena, &(JsonLimits){.nodes_max = 1 << 20}, &err);
    const JsonNode *variants = json_get(root, STR("variants"));
    REQUIRE(json_is(variants, JSON_ARRAY));
    double expected = 0, found = 0; // of the first variant, whose weights are expanded to float32 as ours are
    REQUIRE(json_read_f64(json_first(json_get(json_first(variants), STR("nll_sums"))), &expected));
    Process p = start("perplexity --model % --device cpu --context 512 --chunks 1 --json %",
                      (const char *[]){model, text}, NULL);
    CHECK_INT_EQ(0, wait_for(p));
    Str answer = read_file(p.out_path);
    root = json_parse(answer, &arena, &(JsonLimits){.nodes_max = 100}, &err);
    REQUIRE(json_read_f64(json_get(root, STR("perplexity")), &found));
    CHECK_NEAR(log(found), expected / 256, 0.002);
}

TEST_SLOW(e2e_run_chat_with_smollm2, 120) {
    if (test_is_sanitized()) SKIP("takes minutes under a sanitizer, and the tiny model takes the same way");
    Process p = start("run --model % --device cpu --chat --prompt Hello! --temperature 0 --max-tokens 8",
                      (const char *[]){test_model_path()}, NULL);
    CHECK_INT_EQ(0, wait_for(p));
    CHECK(contains(read_file(p.out_path), "Hello"));
}
