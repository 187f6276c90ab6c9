// The program itself, as a process: start-up, exit codes, signals, commands. With a tiny model of random
// weights, and where it is there, the demo's real one.
#include "api_client.h"
#include "base/strbuf.h"
#include "gguf_builder.h"
#include "json_path.h"
#include "json_vocab.h"
#include "http/http_client.h"
#include "os/os.h"
#include "runner.h"
#include "worker_process.h"
#include "json/json_reader.h"

#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

TEST(e2e_serve_one_request_and_stop) {
    Server s = server_start(tiny_model_file(), "--worker-id 01234567-89ab-4cde-8f01-23456789abcd");
    uint16_t status;
    Str body = server_ask(s, "GET", "/health", "", &status);
    CHECK_INT_EQ(200, status);
    static const char *const members[] = {
        "\"status\":\"healthy\"",
        "\"worker_id\":\"01234567-89ab-4cde-8f01-23456789abcd\"",
        "\"model\":\"",
        "\"model_ref\":\"file:/",
        "\"resident\":false",
        "\"vram_bytes_used\":0,\"vram_bytes_total\":0",
        "\"uptime_seconds\":",
        "\"quant_kind\":\"Q4_K",
        "\"kv_cache_type\":\"f16\"",
        "\"products\":\"own\"",
        "\"tokenizer_kind\":\"gguf-bpe\"",
        "\"vocab_size\":1024",
        "\"context_length\":2048",
        "\"sm\":null",
        "\"cuda_runtime_version\":null,\"driver_version\":null",
        "\"capabilities\":[\"text-gen\"],\"protocol\":\"sse\"",
        "\"jobs_active\":0,\"jobs_max\":4",
        "\"load_progress\":1.000",
    };
    for (size_t i = 0; i < COUNT_OF(members); i++) {
        TEST_CASE_LABEL("%s", members[i]);
        CHECK(text_contains(body, members[i]));
    }
    TEST_CASE_LABEL("the same request twice");
    static const char request[] =
        "{\"job_id\":\"a\",\"prompt\":\"Hello\",\"max_tokens\":20,\"seed\":7,\"top_p\":0.9}";
    Str first = server_ask(s, "POST", "/execute", request, &status),
        second = server_ask(s, "POST", "/execute", request, &status);
    char memory[2][4096];
    Str tokens[2] = {token_events(first, memory[0]), token_events(second, memory[1])};
    CHECK(text_contains(tokens[0], "\"i\":0}"));
    CHECK_STR_EQ(tokens[0], tokens[1]);
    TEST_CASE_LABEL("%s", "");
    uint64_t begin_ns = os_monotonic_ns();
    kill(s.process.pid, SIGTERM);
    CHECK_INT_EQ(0, process_wait(s.process));
    uint64_t took_ms = (os_monotonic_ns() - begin_ns) / 1000000;
    CHECK_SOON(1000, took_ms);
    Str log = process_read_file(s.process.err_path);
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
    for (int percent = 0; percent <= 100; percent += 25) {
        char member[64];
        TEST_CASE_LABEL("%d%%", percent);
        snprintf(member, sizeof member, "\"percent\":%d,", percent);
        CHECK(text_contains(log, member));
    }
}

TEST(e2e_shutdown_by_request_and_by_sigint) {
    uint16_t status;
    Server s = server_start(tiny_model_file(), "");
    CHECK(text_contains(server_ask(s, "POST", "/shutdown", "", &status), "draining"));
    CHECK_INT_EQ(202, status);
    CHECK_INT_EQ(0, process_wait(s.process));
    s = server_start(tiny_model_file(), "");
    kill(s.process.pid, SIGINT);
    CHECK_INT_EQ(0, process_wait(s.process));
}

// A second signal ends at once, though a job still runs.
TEST(e2e_second_signal) {
    Server s = server_start(tiny_model_file(), "");
    char url[64];
    Error err;
    HttpClient client;
    HttpClientReply reply;
    snprintf(url, sizeof url, "http://127.0.0.1:%u/execute", s.port);
    HttpClientRequest request = {
        .method = "POST",
        .url = str_from_c(url),
        .content_type = STR("application/json"),
        .body = STR("{\"job_id\":\"a\",\"prompt\":\"p\",\"max_tokens\":2000,\"temperature\":0}"),
        .timeout_ms = 20000};
    REQUIRE(http_client_open(&client, &request, &reply, &err));
    CHECK(process_await_event(s.process, "execute_start").len > 0);
    kill(s.process.pid, SIGTERM);
    CHECK(process_await_event(s.process, "draining").len > 0);
    os_sleep_ms(250); // a second one at once would not count
    uint64_t begin_ns = os_monotonic_ns();
    kill(s.process.pid, SIGTERM);
    CHECK_INT_EQ(128 + SIGTERM, process_wait(s.process));
    CHECK_SOON(1000, (os_monotonic_ns() - begin_ns) / 1000000);
    http_client_close(&client);
}

// Ctrl-C ends a `run` that waits for its prompt.
TEST(e2e_interrupt_at_the_prompt) {
    const char *path = test_tmp_path("typed");
    REQUIRE(mkfifo(path, 0600) == 0);
    int typist = open(path, O_RDWR | O_CLOEXEC);
    REQUIRE(typist >= 0 && write(typist, "W", 1) == 1);
    Process p =
        process_start("run --device cpu --threads 1 --model %", (const char *[]){tiny_model_file()}, path);
    int unread = 1;
    for (int i = 0; i < 3000 && unread; i++) {
        usleep(10000);
        REQUIRE(ioctl(typist, FIONREAD, &unread) == 0);
    }
    CHECK_INT_EQ(0, unread); // it reads on
    kill(p.pid, SIGINT);
    usleep(300000);
    close(typist); // one that is still there would find the end of its prompt
    CHECK_INT_EQ(128 + SIGINT, process_wait(p));
}

TEST(e2e_port_in_use) {
    const char *model = tiny_model_file();
    char port[16];
    Server s = server_start(model, "");
    snprintf(port, sizeof port, "%u", s.port);
    Process p = process_start("--model % --device cpu --port %", (const char *[]){model, port}, NULL);
    CHECK_INT_EQ(1, process_wait(p));
    Str log = process_read_file(p.err_path);
    CHECK(text_contains(log, "\"event\":\"error\"") && text_contains(log, port) &&
          text_contains(log, "in use"));
    kill(s.process.pid, SIGTERM);
    CHECK_INT_EQ(0, process_wait(s.process));
}

// The server is told of nothing that listens, and of a host without an address: three tries, then exit 1; and
// of something that does.
TEST(e2e_callback) {
    const char *model = tiny_model_file();
    Process p = process_start("--model % --device cpu --port 0 --callback-url http://127.0.0.1:1/ready",
                              (const char *[]){model}, NULL);
    Process lost =
        process_start("--model % --device cpu --port 0 --callback-url http://nowhere.invalid/ready",
                      (const char *[]){model}, NULL);
    CHECK_INT_EQ(1, process_wait(p));
    Str log = process_read_file(p.err_path);
    CHECK(text_contains(log, "\"attempt\":3,\"attempts\":3") && text_contains(log, "nobody was told"));
    CHECK(!text_contains(log, "\"event\":\"ready\""));
    CHECK_INT_EQ(1, process_wait(lost));
    log = process_read_file(lost.err_path);
    CHECK(text_contains(log, "\"attempt\":3,\"attempts\":3") && text_contains(log, "nowhere.invalid"));
    // Another worker's /shutdown answers 202 to any POST.
    Server other = server_start(model, "");
    char line[160];
    snprintf(line, sizeof line, "--callback-url http://127.0.0.1:%u/shutdown", other.port);
    Server s = server_start(model, line);
    CHECK_INT_EQ(0, process_wait(other.process));
    kill(s.process.pid, SIGTERM);
    CHECK_INT_EQ(0, process_wait(s.process));
}

TEST(e2e_text_log_on_request) {
    Process p = process_start("--model % --device cpu --port 0 --log-format text",
                              (const char *[]){tiny_model_file()}, NULL);
    for (int i = 0; i < 3000 && !text_contains(process_read_file(p.err_path), "takes jobs"); i++)
        os_sleep_ms(10);
    CHECK(text_contains(process_read_file(p.err_path), "  ready                Ready after "));
    kill(p.pid, SIGTERM);
    CHECK_INT_EQ(0, process_wait(p));
    Str log = process_read_file(p.err_path);
    CHECK(!text_contains(log, "\x1b") && !text_contains(log, "?"));
}

// Prometheus' own parser reads /metrics.
TEST(e2e_metrics_parse_with_prometheus_client) {
    test_needs_python("prometheus_client.parser");
    uint16_t status;
    Server s = server_start(tiny_model_file(), "");
    server_ask(s, "POST", "/execute",
               "{\"job_id\":\"a\",\"prompt\":\"Hello\",\"max_tokens\":5,\"temperature\":0}", &status);
    server_ask(s, "POST", "/execute", "{}", &status);
    Str text = server_ask(s, "GET", "/metrics", "", &status);
    const char *path = test_tmp_path("metrics");
    CHECK(gguf_builder_save(text, path));
    static const char script[] =
        "import sys\n"
        "from prometheus_client.parser import text_string_to_metric_families as parse\n"
        "found = {f.name: f for f in parse(open(sys.argv[1]).read())}\n"
        "expected = dict(vram_bytes='gauge', requests='counter', tokens_in='counter', "
        "tokens_generated='counter',\n"
        "    inference_duration_ms='histogram', first_token_ms='histogram', inter_token_ms='histogram',\n"
        "    queue_ms='histogram', batch_rows='histogram', uptime_seconds='gauge', jobs_active='gauge',\n"
        "    jobs_queued='gauge', jobs_set_aside='counter', kv_used_ratio='gauge', kv_pages='gauge', "
        "prefix_cache_tokens='counter',\n"
        "    checkpoints='gauge', checkpoint_bytes='gauge', checkpoint_events='counter',\n"
        "    model_info='gauge', load_seconds='gauge', jit_seconds='gauge')\n"
        "vllm = dict(num_requests_running='gauge', num_requests_waiting='gauge', "
        "kv_cache_usage_perc='gauge',\n"
        "    gpu_cache_usage_perc='gauge', cache_config_info='gauge', prefix_cache_hits='counter',\n"
        "    num_preemptions='counter',\n"
        "    prefix_cache_queries='counter', gpu_prefix_cache_hits='counter', "
        "gpu_prefix_cache_queries='counter')\n"
        "expected = {'worker_' + k: v for k, v in expected.items()} | {'vllm:' + k: v for k, v in "
        "vllm.items()}\n"
        "assert {k: f.type for k, f in found.items()} == expected, set(found) ^ set(expected)\n"
        "value = {(s.name, *sorted(s.labels.values())): s.value for f in found.values() for s in f.samples}\n"
        "outcomes = {s.labels['outcome']: s.value for s in found['worker_requests'].samples}\n"
        "assert outcomes == dict(success=1, error=0, cancelled=0, timeout=0, rejected=1), outcomes\n"
        "assert value['worker_tokens_in_total',] > 0 and value['worker_tokens_generated_total',] == 5, "
        "value\n"
        "for k in 'inference_duration_ms', 'first_token_ms', 'inter_token_ms', 'batch_rows':\n"
        "    buckets = [s.value for s in found[f'worker_{k}'].samples if s.name.endswith('_bucket')]\n"
        "    assert buckets == sorted(buckets) and buckets[-1] == value[f'worker_{k}_count',] > 0, k\n"
        "tokens = value['worker_tokens_in_total',]\n"
        "sample = {k: found['vllm:' + k].samples[0] for k in vllm}\n"
        "name = sample['num_requests_running'].labels['model_name']\n"
        "assert name and all(s.labels == {'model_name': name} for k, s in sample.items() if k != "
        "'cache_config_info')\n"
        "assert sample['num_requests_running'].value == sample['num_requests_waiting'].value == 0\n"
        "assert sample['prefix_cache_queries'].value == tokens and sample['prefix_cache_hits'].value == 0\n"
        "pages = {s.labels['state']: s.value for s in found['worker_kv_pages'].samples}\n"
        "config = sample['cache_config_info'].labels\n"
        "assert config == dict(block_size='16', num_gpu_blocks=str(int(sum(pages.values())))), config\n"
        "assert pages['free'] > 0 and pages['cached'] > 0 and pages['used'] == 0, pages\n"
        "assert value['worker_batch_rows_sum',] == tokens + 4, value\n"
        "(info,) = found['worker_model_info'].samples\n"
        "assert sorted(info.labels) == ['model', 'quant_kind', 'sm'] and info.value == 1, info\n";
    char command[8192];
    snprintf(command, sizeof command, "python3 %s %s", tmp_file_write("check.py", script), path);
    CHECK_INT_EQ(0, system(command));
    kill(s.process.pid, SIGTERM);
    CHECK_INT_EQ(0, process_wait(s.process));
}

// ---- commands and exit codes ----

// With fewer rows of embeddings than tokens.
static const char *file_of_few_rows(void) {
    const char *path = test_tmp_path("rows.gguf");
    TinyModel model = tiny_model_llama();
    GgufBuilder b = gguf_builder_begin();
    tiny_model_put_metadata(&b, &model);
    model.vocab = 512;
    tiny_model_add_tensors(&b, &model);
    REQUIRE(gguf_builder_save(gguf_builder_end(&b), path));
    return path;
}

// The last matrix has scales that are not numbers.
static const char *file_without_numbers(void) {
    const char *path = test_tmp_path("nan.gguf");
    TinyModel model = tiny_model_llama();
    GgufBuilder b = gguf_builder_begin();
    tiny_model_put_metadata(&b, &model);
    tiny_model_add_tensors(&b, &model);
    memset(b.data.ptr + b.data.len - 4096, 0xFF, 4096);
    REQUIRE(gguf_builder_save(gguf_builder_end(&b), path));
    return path;
}

// The last norm makes logits that are so far apart that what follows is taken for impossible.
static const char *file_of_large_weights(void) {
    const char *path = test_tmp_path("large.gguf");
    TinyModel model = tiny_model_llama();
    GgufBuilder b = gguf_builder_begin();
    tiny_model_put_metadata(&b, &model);
    tiny_model_add_tensors(&b, &model);
    Str file = gguf_builder_end(&b);
    GgufPart part = {.data = (const uint8_t *)file.ptr, .size = file.len, .name = "large.gguf"};
    Arena arena = os_arena(1 << 22);
    const GgufFile *parsed;
    Error err;
    REQUIRE(gguf_parse(&part, 1, &arena, &parsed, &err));
    const GgufTensor *norm = gguf_find_tensor(parsed, STR("output_norm.weight"));
    REQUIRE(norm && norm->dtype == DTYPE_F32);
    const float large = 1e20f;
    for (uint64_t i = 0; i < norm->dims[0]; i++)
        memcpy((char *)file.ptr + norm->file_offset + i * sizeof large, &large, sizeof large);
    REQUIRE(gguf_builder_save(file, path));
    return path;
}

TEST(e2e_exit_codes) {
    const char *model = tiny_model_file(), *text = tmp_file_write("note.txt", "not a model");
    const char *empty = tmp_file_write("tokens", "# none\n");
    const struct {
        const char *line;
        const char *values[3];
        int code;
        const char *out, *err; // parts of what is printed; NULL: nothing
    } rows[] = {
        {"--help", {0}, 0, "Usage", NULL},
        {"run --help", {0}, 0, "worker-orcd run MODEL [TEXT]", NULL},
        {"--version", {0}, 0, "worker-orcd 0.", NULL},
        {"--list-architectures", {0}, 0, "llama", NULL},
        {"--list-formats", {0}, 0, "Q4_K      4.5000 bits a weight; compared on real weights, too\n", NULL},
        {"devices", {0}, 0, "cpu", NULL},
        {"devices --json", {0}, 0, "{\"device\":\"cpu\",\"threads\":", NULL},
        {"--port", {0}, 2, NULL, "worker-orcd: --port: needs a value: --port N\nSee worker-orcd --help\n"},
        {"run --port 1", {0}, 2, NULL, "\nSee worker-orcd run --help\n"},
        {"--model /nowhere.gguf --device cpu", {0}, 1, NULL, "/nowhere.gguf"},
        {"run --model /nowhere.gguf --device cpu",
         {0},
         1,
         NULL,
         "worker-orcd: /nowhere.gguf: cannot be opened"},
        {"run --model % --device cpu", {text}, 1, NULL, "note.txt"},
        {"run --model % --device cpu",
         {file_of_few_rows()},
         1,
         NULL,
         "rows.gguf: the vocabulary has 1024 tokens, and token_embd.weight rows for 512"},
        {"--model % --device cpu --port 0",
         {file_without_numbers()},
         1,
         NULL,
         "nan.gguf: the model computed logits that are not numbers (token 0 of the output; the first such"},
        {"--model % --device cpu --host nowhere.invalid", {model}, 1, NULL, "nowhere.invalid"},
        {"--model % --device cpu --port 0 --api-token-file %", {model, empty}, 2, NULL, "no token in it"},
        {"--model % --device cpu --port 0 --callback-url ftp://x", {model}, 2, NULL, "--callback-url"},
        {"run --model % --device cpu --chat --prompt a --chat-template %",
         {model, tmp_file_write("broken.jinja", "{% if %}")},
         1,
         NULL,
         "the chat template cannot be used: line 1: "},
        {"perplexity --model % --device cpu %", {model, text}, 2, NULL, "cannot fill a window of 512"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].line);
        Process p = process_start(rows[i].line, rows[i].values, NULL);
        CHECK_INT_EQ(rows[i].code, process_wait(p));
        Str out = process_read_file(p.out_path), err = process_read_file(p.err_path);
        CHECK(rows[i].out ? text_contains(out, rows[i].out) : out.len == 0);
        if (!CHECK(rows[i].err ? text_contains(err, rows[i].err) : err.len == 0))
            printf("%.*s\n", STR_ARG(err));
    }
}

// Perplexity says what went wrong and where, and prints no figure.
TEST(e2e_perplexity_of_no_numbers) {
    const char *nan = file_without_numbers(), *large = file_of_large_weights();
    const char *text = tmp_file_write("longer.txt", "Once upon a time there was a text of some words.\n");
    const struct {
        const char *model, *more, *message;
    } rows[] = {
        {nan, "",
         "window 0, position 3: the model computed NaN or infinity, first in layer 1, RMS_NORM with blk.1."},
        {nan, " --json", ": the model computed NaN or infinity, first in layer 1, "},
        {large, "",
         "window 0: the perplexity is infinite; in window 0 the model gives the token behind position "},
        {large, " --json", "window 0: the perplexity is infinite"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s%s", rows[i].model, rows[i].more);
        char line[128];
        snprintf(line, sizeof line, "perplexity --model %% --device cpu --context 8%s %%", rows[i].more);
        Process p = process_start(line, (const char *[]){rows[i].model, text}, NULL);
        CHECK_INT_EQ(1, process_wait(p));
        CHECK_INT_EQ(0, process_read_file(p.out_path).len);
        if (!CHECK(text_contains(process_read_file(p.err_path), rows[i].message)))
            printf("%.*s\n", STR_ARG(process_read_file(p.err_path)));
    }
}

// What a model's file bars is not drawn, whoever asks.
TEST(e2e_suppressed_tokens) {
    const char *path = test_tmp_path("barred.gguf");
    int32_t barred[3] = {0};
    Str text = {0};
    for (uint32_t n = 0; n < COUNT_OF(barred); n++) { // each time what was drawn before is barred, too
        TinyModel model = tiny_model_llama();
        GgufBuilder b = gguf_builder_begin();
        tiny_model_put_metadata(&b, &model);
        if (n) gguf_builder_put_i32s(&b, "tokenizer.ggml.suppress_tokens", barred, n);
        tiny_model_add_tensors(&b, &model);
        REQUIRE(gguf_builder_save(gguf_builder_end(&b), path));
        Process p =
            process_start("run --model % --device cpu --prompt the --temperature 0 --max-tokens 1 --json",
                          (const char *[]){path}, NULL);
        CHECK_INT_EQ(0, process_wait(p));
        const JsonNode *root = json_root(process_read_file(p.out_path));
        int64_t id;
        REQUIRE(json_read_i64(json_at(root, "tokens.0.id"), &id));
        barred[n] = (int32_t)id;
        for (uint32_t i = 0; i < n; i++)
            CHECK(barred[i] != barred[n]);
        text = json_text_at(root, "text");
    }
    Server s = server_start(path, "");
    uint16_t status;
    Str answer = server_ask(s, "POST", "/v1/completions",
                            "{\"prompt\":\"the\",\"temperature\":0,\"max_tokens\":1}", &status);
    CHECK_STR_EQ(text, json_text_at(json_root(answer), "choices.0.text"));
    kill(s.process.pid, SIGTERM);
    CHECK_INT_EQ(0, process_wait(s.process));
}

TEST(e2e_default_device_without_gpu) {
    if (WORKER_ORCD_CUDA && access("/dev/nvidiactl", F_OK) == 0) SKIP("there is a GPU");
    const char *model = tiny_model_file();
    const char *lines[] = {"run --model % --prompt a", "--model % --port 0"};
    for (size_t i = 0; i < COUNT_OF(lines); i++) {
        TEST_CASE_LABEL("%s", lines[i]);
        Process p = process_start(lines[i], (const char *[]){model}, NULL);
        CHECK_INT_EQ(1, process_wait(p));
        CHECK(text_contains(process_read_file(p.err_path), "--device cpu"));
    }
}

TEST(e2e_run) {
    const char *model = tiny_model_file(), *prompt = tmp_file_write("prompt.txt", "Hello there");
    static const char base[] = "run --model % --device cpu --threads 1 --max-tokens 8 --seed 3";
    const struct {
        const char *more;
        const char *values[3];
        const char *input;
    } rows[] = {
        {" --file %", {model, prompt}, NULL},
        {" --prompt %", {model, "Hello there"}, NULL},
        {"", {model}, prompt},
        {" --chat --system there --chat-template %",
         {model, tmp_file_write("x.jinja", "{{ messages[1].content }} {{ messages[0].content }}")},
         tmp_file_write("hello.txt", "Hello")},
    };
    Str first = {0};
    for (size_t i = 0; i < COUNT_OF(rows); i++) { // the same prompt, four ways
        char line[256];
        TEST_CASE_LABEL("run%s", rows[i].more);
        snprintf(line, sizeof line, "%s%s", base, rows[i].more);
        Process p = process_start(line, rows[i].values, rows[i].input);
        CHECK_INT_EQ(0, process_wait(p));
        Str out = process_read_file(p.out_path), err = process_read_file(p.err_path);
        CHECK(text_contains(err, "seed 3\n") && text_contains(err, "first token after"));
        if (i == 0) first = out;
        CHECK_STR_EQ(first, out);
        CHECK(out.len > 1);
    }
    TEST_CASE_LABEL("--ids and --json agree, and --logits does not change the draw");
    Process ids =
        process_start("run --model % --device cpu --threads 1 --max-tokens 8 --seed 3 --file % --ids",
                      rows[0].values, NULL);
    CHECK_INT_EQ(0, process_wait(ids));
    Process json = process_start(
        "run --model % --device cpu --threads 1 --max-tokens 8 --seed 3 --file % --logits 2 --json",
        rows[0].values, NULL);
    CHECK_INT_EQ(0, process_wait(json));
    Arena arena = os_arena(1 << 20);
    Error err;
    Str answer = process_read_file(json.out_path);
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
    CHECK_STR_EQ(strbuf_str(&joined), process_read_file(ids.out_path));
}

TEST(e2e_tokenize_and_back) {
    static const char text[] = "Hello, w\xC3\xB6rld! <|im_start|> 123";
    const char *model = tiny_model_file(), *input = tmp_file_write("text", text);
    Process p = process_start("tokenize --model %", (const char *[]){model}, input);
    CHECK_INT_EQ(0, process_wait(p));
    Str ids = process_read_file(p.out_path);
    CHECK(ids.len > 10);
    Process back = process_start("tokenize --model % --decode", (const char *[]){model}, p.out_path);
    CHECK_INT_EQ(0, process_wait(back));
    CHECK_STR_EQ(text, process_read_file(back.out_path));
    Process json = process_start("tokenize --model % --json", (const char *[]){model}, input);
    CHECK_INT_EQ(0, process_wait(json));
    Str answer = process_read_file(json.out_path);
    CHECK(str_starts_with(answer, STR("{\"ids\":[")) && text_contains(answer, "],\"count\":"));
    Process bad = process_start("tokenize --model % --decode", (const char *[]){model}, input);
    CHECK_INT_EQ(2, process_wait(bad));
    CHECK(text_contains(process_read_file(bad.err_path), "an id is a whole number below 1024"));
}

// As many tokens as the tiny model has rows, most of them without a spelling.
static const char *tokenizer_json_file(const char *name, uint32_t last_id) {
    char added[128], text[16 * 1024];
    JsonVocab v = json_vocab_samples[0];
    snprintf(added, sizeof added, "[{\"id\":%u,\"content\":\"<|im_end|>\",\"special\":true}]", last_id);
    v.added_tokens = added;
    Arena arena = arena_from_memory(text, sizeof text);
    Str json = json_vocab_write(&v, &arena);
    REQUIRE(json.len > 0);
    text[json.len] = 0;
    return tmp_file_write(name, json.ptr);
}

TEST(e2e_tokenizer_json) {
    const char *model = tiny_model_file(), *good = tokenizer_json_file("tokenizer.json", 1023);
    const char *input = tmp_file_write("text", "the user\xFF<|im_end|>");
    Process alone = process_start("tokenize --tokenizer % --parse-special", (const char *[]){good}, input);
    CHECK_INT_EQ(0, process_wait(alone));
    Str ids = process_read_file(alone.out_path);
    CHECK_STR_EQ("260 32 258 255 1023\n", ids);
    Process back = process_start("tokenize --tokenizer % --decode --parse-special", (const char *[]){good},
                                 alone.out_path);
    CHECK_INT_EQ(0, process_wait(back));
    CHECK_STR_EQ("the user\xFF<|im_end|>", process_read_file(back.out_path));

    TEST_CASE_LABEL("beside a file without a vocabulary");
    const char *bare = test_tmp_path("bare.gguf");
    GgufBuilder b = gguf_builder_begin();
    gguf_builder_put_str(&b, "general.architecture", "llama");
    gguf_builder_add_tensor(&b, "token_embd.weight", DTYPE_F32, 2, (uint64_t[]){4, 1024}, NULL);
    REQUIRE(gguf_builder_save(gguf_builder_end(&b), bare));
    Process beside = process_start("tokenize --model % --parse-special", (const char *[]){bare}, input);
    CHECK_INT_EQ(0, process_wait(beside));
    CHECK_STR_EQ(ids, process_read_file(beside.out_path));
    REQUIRE(rename(good, test_tmp_path("elsewhere.json")) == 0);
    Process lost = process_start("tokenize --model %", (const char *[]){bare}, input);
    CHECK_INT_EQ(1, process_wait(lost));
    CHECK(
        text_contains(process_read_file(lost.err_path), "no vocabulary in the file, and no tokenizer.json"));
    b = gguf_builder_begin();
    gguf_builder_put_str(&b, "general.architecture", "bert"); // which is what matters
    gguf_builder_add_tensor(&b, "token_embd.weight", DTYPE_F32, 2, (uint64_t[]){4, 1024}, NULL);
    REQUIRE(gguf_builder_save(gguf_builder_end(&b), bare));
    lost = process_start("run --model % --device cpu", (const char *[]){bare}, input);
    CHECK_INT_EQ(1, process_wait(lost));
    CHECK(text_contains(process_read_file(lost.err_path), "general.architecture: \"bert\" is not supported"));
    REQUIRE(rename(test_tmp_path("elsewhere.json"), good) == 0);

    TEST_CASE_LABEL("%s", "");
    char flags[4096];
    uint16_t status;
    snprintf(flags, sizeof flags, "--tokenizer %s", good);
    Server s = server_start(model, flags);
    Str body = server_ask(s, "GET", "/health", "", &status);
    CHECK(text_contains(body, "\"tokenizer_kind\":\"hf-json\",\"vocab_size\":1024"));
    static const char request[] = "{\"job_id\":\"a\",\"prompt\":\"the user\",\"max_tokens\":3,\"seed\":7}";
    CHECK(text_contains(server_ask(s, "POST", "/execute", request, &status), "\"tokens_in\":3"));
    kill(s.process.pid, SIGTERM);
    CHECK_INT_EQ(0, process_wait(s.process));

    static const struct {
        const char *name, *text, *message;
    } bad[] = {
        {"cut.json", "{\"model\":", "cut.json: invalid JSON at byte 9: the text ends too early"},
        {"other.json", "{\"decoder\":{\"type\":\"CTC\"}}",
         "other.json: decoder, byte 11: \"CTC\" is not supported"},
        {"large.json", NULL, "token 1020 of a vocabulary of 301"},
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        TEST_CASE_LABEL("%s", bad[i].name);
        const char *path =
            bad[i].text ? tmp_file_write(bad[i].name, bad[i].text) : tokenizer_json_file(bad[i].name, 300);
        Process p = process_start("run --model % --device cpu --tokenizer % --prompt x",
                                  (const char *[]){model, path}, NULL);
        CHECK_INT_EQ(1, process_wait(p));
        Str said = process_read_file(p.err_path);
        if (!CHECK(text_contains(said, bad[i].message))) FAIL("%.*s", STR_ARG(said));
    }
}

TEST(e2e_bench_json) {
    Process p = process_start(
        "bench --model % --device cpu --threads 1 --prompt-tokens 8 --context 4 --output-tokens 4 "
        "--batch 1,3 --runs 2 --sustained 1 --json",
        (const char *[]){tiny_model_file()}, NULL);
    CHECK_INT_EQ(0, process_wait(p));
    Arena arena = os_arena(1 << 20);
    Error err;
    const JsonNode *root =
        json_parse(process_read_file(p.out_path), &arena, &(JsonLimits){.nodes_max = 1000}, &err);
    REQUIRE(root && json_is(json_get(root, STR("results")), JSON_ARRAY));
    const JsonNode *results = json_get(root, STR("results"));
    // A prompt and three prompts at once, each also sustained, and two texts.
    CHECK_INT_EQ(6, results->length);
    uint32_t n_sustained = 0;
    for (const JsonNode *r = json_first(results); r != json_end(results); r = json_next(r)) {
        double rate = 0, least = 0, most = 0;
        CHECK(json_read_f64(json_get(r, STR("tokens_per_second")), &rate) && rate > 0);
        CHECK(json_read_f64(json_get(r, STR("least")), &least) &&
              json_read_f64(json_get(r, STR("most")), &most));
        CHECK(least <= rate && rate <= most);
        n_sustained += json_is(json_get(r, STR("pace")), JSON_STRING);
    }
    CHECK_INT_EQ(2, n_sustained);
}

// Texts of a batch that fit the context one by one are measured side by side; what does not fit is named.
TEST(e2e_bench_near_the_end_of_the_context) {
    static const struct {
        uint32_t model_context;
        const char *flags;
        int code;
        const char *said;
    } rows[] = {
        {128, "--context 96 --batch 2", 0, "\"batch\":2,"},
        {128, "--context 16 --batch 64", 0, "\"step_ms_p50\":"},
        {128, "--context 125 --batch 2", 2,
         "--context 125: with 5 tokens drawn there, 130; the context holds 128"},
        {128, "--context 16 --prompt-tokens 128", 2,
         "--prompt-tokens 128: with a token drawn, 129; the context holds 128"},
        {512, "--context 500 --batch 4 --kv-cache-size-mb 1", 2,
         "--batch 4: of texts of 505 tokens the KV cache holds 1 side by side"},
    };
    const char *path = test_tmp_path("short.gguf");
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char line[256];
        TinyModel model = tiny_model_llama();
        model.context = rows[i].model_context;
        tiny_model_save(&model, path);
        TEST_CASE_LABEL("%s", rows[i].flags);
        snprintf(line, sizeof line, "bench --model %% --device cpu --output-tokens 4 --runs 1 --json %s%s",
                 strstr(rows[i].flags, "--prompt") ? "" : "--prompt-tokens 4 ", rows[i].flags);
        Process p = process_start(line, (const char *[]){path}, NULL);
        CHECK_INT_EQ(rows[i].code, process_wait(p));
        Str said = process_read_file(rows[i].code ? p.err_path : p.out_path);
        if (!CHECK(text_contains(said, rows[i].said))) FAIL("%.*s", STR_ARG(said));
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
    Process p = process_start("perplexity --model % --device cpu --context 512 --chunks 1 --json %",
                              (const char *[]){model, text}, NULL);
    CHECK_INT_EQ(0, process_wait(p));
    Str answer = process_read_file(p.out_path);
    root = json_parse(answer, &arena, &(JsonLimits){.nodes_max = 100}, &err);
    REQUIRE(json_read_f64(json_get(root, STR("perplexity")), &found));
    CHECK_NEAR(log(found), expected / 256, 0.002);
}

TEST_SLOW(e2e_run_chat_with_smollm2, 120) {
    if (test_is_sanitized()) SKIP("takes minutes under a sanitizer, and the tiny model takes the same way");
    Process p =
        process_start("run --model % --device cpu --chat --prompt Hello! --temperature 0 --max-tokens 8",
                      (const char *[]){test_model_path()}, NULL);
    CHECK_INT_EQ(0, process_wait(p));
    CHECK(text_contains(process_read_file(p.out_path), "Hello"));
}
