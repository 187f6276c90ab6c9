// What an orchestrator relies on, as a process: tokens that change, pages of other origins, supervisors,
// models that go wrong, limits of the system.
#include "fake_driver.h"
#include "gguf_builder.h"
#include "http/http_client.h"
#include "model/gguf.h"
#include "os/os.h"
#include "runner.h"
#include "worker_process.h"

#include <math.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static uint16_t status_with_token(Server s, const char *token) {
    char url[64], value[64];
    Arena arena = os_arena(1 << 20);
    HttpClientReply reply = {0};
    Error err;
    snprintf(url, sizeof url, "http://127.0.0.1:%u/metrics", s.port);
    snprintf(value, sizeof value, "Bearer %s", token);
    HttpHeader header = {STR("Authorization"), str_from_c(value)};
    HttpClientRequest request = {
        .method = "GET", .url = str_from_c(url), .headers = &header, .header_count = 1, .timeout_ms = 20000};
    if (!http_client_exchange(&request, &arena, &reply, &err)) FAIL("%s", err.message);
    return reply.status;
}

TEST(contract_sighup_rereads_the_tokens) {
    const char *tokens = tmp_file_write("tokens", "one\ntwo\n");
    char more[512];
    snprintf(more, sizeof more, "--api-token-file %s", tokens);
    Server s = server_start(tiny_model_file(), more);
    CHECK_INT_EQ(200, status_with_token(s, "one"));
    CHECK_INT_EQ(200, status_with_token(s, "two"));
    CHECK_INT_EQ(401, status_with_token(s, "three"));
    tmp_file_write("tokens", "two\nthree\n");
    CHECK_INT_EQ(401, status_with_token(s, "three")); // not before it is told
    kill(s.process.pid, SIGHUP);
    CHECK(process_await_event(s.process, "tokens_read").len > 0);
    CHECK_INT_EQ(401, status_with_token(s, "one"));
    CHECK_INT_EQ(200, status_with_token(s, "two"));
    CHECK_INT_EQ(200, status_with_token(s, "three"));
    tmp_file_write("tokens", "# none\n");
    kill(s.process.pid, SIGHUP);
    CHECK(process_await_event(s.process, "tokens_kept").len > 0);
    CHECK_INT_EQ(200, status_with_token(s, "three"));
    Str log = process_read_file(s.process.err_path);
    CHECK(!text_contains(log, "three"));
    kill(s.process.pid, SIGTERM);
    CHECK_INT_EQ(0, process_wait(s.process));
}

// A supervisor's socket, at a path or with an abstract name.
static int supervisor_open(char *name, size_t name_size, bool abstract) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (abstract) snprintf(name, name_size, "@worker-orcd-test-%d", (int)getpid());
    else snprintf(name, name_size, "/tmp/worker-orcd-test-%d", (int)getpid());
    memcpy(address.sun_path, name, strlen(name));
    if (abstract) address.sun_path[0] = 0;
    else unlink(name);
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name));
    REQUIRE(fd >= 0 && bind(fd, (const struct sockaddr *)&address, size) == 0);
    struct timeval patience = {.tv_sec = 60};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    return fd;
}

static void check_notification(int supervisor, const char *expected) {
    char text[64] = "";
    ssize_t got = recv(supervisor, text, sizeof text - 1, 0);
    CHECK_STR_EQ(expected, got < 0 ? "nothing" : (const char *)text);
}

TEST(contract_sd_notify) {
    const char *model = tiny_model_file();
    for (int abstract = 0; abstract < 2; abstract++) {
        char name[64];
        TEST_CASE_LABEL("%s", abstract ? "abstract" : "path");
        int supervisor = supervisor_open(name, sizeof name, abstract);
        setenv("NOTIFY_SOCKET", name, 1);
        Server s = server_start(model, "");
        check_notification(supervisor, "READY=1");
        kill(s.process.pid, SIGTERM);
        CHECK_INT_EQ(0, process_wait(s.process));
        check_notification(supervisor, "STOPPING=1");
        close(supervisor);
        if (!abstract) unlink(name);
    }
}

TEST(contract_cors_origin_is_checked) {
    static const struct {
        const char *value;
        int code;
    } rows[] = {{"example.org", 2}, {"https://", 2}, {"https://a/b", 2},
                {"ftp://a", 2},     {"null", 2},     {"https://A.org", 2}};
    const char *model = tiny_model_file();
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].value);
        Process p = process_start("--model % --device cpu --port 0 --cors-origin %",
                                  (const char *[]){model, rows[i].value}, NULL);
        CHECK_INT_EQ(rows[i].code, process_wait(p));
        CHECK(text_contains(process_read_file(p.err_path), "--cors-origin"));
    }
}

// A tiny model with a value of one tensor that is no number.
static const char *spoiled_model(const char *tensor, uint64_t number) {
    TinyModel model = tiny_model_llama();
    model.embd_dtype = DTYPE_F32;
    Arena arena = os_arena(16 << 20);
    Error err;
    Str bytes = tiny_model_build(&model);
    GgufPart part = {.data = (const uint8_t *)bytes.ptr, .size = bytes.len, .name = "spoiled.gguf"};
    const GgufFile *file;
    REQUIRE(gguf_parse(&part, 1, &arena, &file, &err));
    const GgufTensor *t = gguf_find_tensor(file, str_from_c(tensor));
    REQUIRE(t && t->dtype == DTYPE_F32);
    float nan = NAN;
    memcpy((char *)(uintptr_t)bytes.ptr + (t->data - part.data) + number * sizeof nan, &nan, sizeof nan);
    const char *path = test_tmp_path("spoiled.gguf");
    CHECK(gguf_builder_save(bytes, path));
    return path;
}

// Of use to nobody: it does not become ready, and says which layer went wrong first.
TEST(contract_nan_logits_at_the_start) {
    static const struct {
        const char *tensor, *message;
    } rows[] = {
        {"blk.0.attn_norm.weight", "the first such values: layer 0, RMS_NORM with blk.0.attn_norm.weight)"},
        {"blk.1.ffn_norm.weight", "the first such values: layer 1, RMS_NORM with blk.1.ffn_norm.weight)"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].tensor);
        Process p = process_start("--model % --device cpu --port 0",
                                  (const char *[]){spoiled_model(rows[i].tensor, 0)}, NULL);
        CHECK_INT_EQ(1, process_wait(p));
        CHECK(text_contains(process_read_file(p.err_path), rows[i].message));
    }
}

// Not garbage text, but an error that names the first layer that went wrong; and the worker goes on.
TEST(contract_nan_logits_name_the_first_bad_layer) {
    enum { SPOILED = 'q' }; // a token, since single bytes are
    static const char good[] = "{\"job_id\":\"a\",\"prompt\":\"a\",\"max_tokens\":1}",
                      bad[] = "{\"job_id\":\"a\",\"prompt\":\"q\"}",
                      message[] = "the first such values: layer 0, EMBED with token_embd.weight)";
    uint16_t status;
    Server s = server_start(
        spoiled_model("token_embd.weight", SPOILED * (uint64_t)tiny_model_llama().embedding), "");
    for (int again = 0; again < 2; again++) {
        Str body = server_ask(s, "POST", "/execute", bad, &status);
        CHECK(text_contains(body, "\"code\":\"INTERNAL\"") && !text_contains(body, "event: token"));
        if (!CHECK(text_contains(body, message))) printf("%.*s\n", STR_ARG(body));
        CHECK(text_contains(server_ask(s, "POST", "/execute", good, &status), "event: end"));
    }
    CHECK(text_contains(server_ask(s, "GET", "/health", "", &status), "\"status\":\"healthy\""));
    kill(s.process.pid, SIGTERM);
    CHECK_INT_EQ(0, process_wait(s.process));
}

// Start-up with less and less address space: a message and exit 1, never a crash.
TEST(contract_start_up_without_memory) {
    if (test_is_sanitized()) SKIP("a sanitizer needs the address space for itself");
    const char *model = tiny_model_file();
    const uint64_t mb = 1 << 20;
    static const uint32_t limits_mb[] = {8, 16, 64, 256, 1024, 3000, 4200, 5200, 5500, 6000, 7000, 8000};
    uint32_t failed = 0;
    struct stat program; // what the program itself takes comes on top: without it the kernel ends the process
    REQUIRE(stat(test_program_path(), &program) == 0);
    for (size_t i = 0; i < COUNT_OF(limits_mb); i++) {
        TEST_CASE_LABEL("%u MB", limits_mb[i]);
        struct rlimit old, less;
        REQUIRE(getrlimit(RLIMIT_AS, &old) == 0);
        less = old;
        less.rlim_cur = limits_mb[i] * mb + 2 * (uint64_t)program.st_size;
        REQUIRE(setrlimit(RLIMIT_AS, &less) == 0);
        // The port is never listened on: the address does not exist.
        Process p = process_start("--model % --device cpu --threads 1 --host 192.0.2.1 --port 0",
                                  (const char *[]){model}, NULL);
        REQUIRE(setrlimit(RLIMIT_AS, &old) == 0);
        int code = process_wait(p);
        Str log = process_read_file(p.err_path);
        failed += code == 1;
        // The smallest do not suffice for the C library to start the program.
        if (code != 127 && CHECK_INT_EQ(1, code)) CHECK(text_contains(log, "\"event\":\"error\""));
    }
    CHECK(failed >= 8);
}

// ---- the device is lost ----

#if WORKER_ORCD_CUDA

// A worker on a driver without a GPU, whose calls all fail once there is the file *fails_by.
static Server start_on_fake_driver(const char **fails_by) {
    char flags[1024];
    *fails_by = test_tmp_path("lost");
    REQUIRE(setenv("LD_LIBRARY_PATH", fake_driver_build(NULL), 1) == 0);
    REQUIRE(setenv("FAKE_CUDA_FAIL_FILE", *fails_by, 1) == 0 && setenv("FAKE_CUDA_STEP_US", "2000", 1) == 0);
    snprintf(flags, sizeof flags, "--device cuda --max-jobs 3 --jit-cache %s",
             test_root_path("build/jit-cache"));
    return server_start_with(tiny_model_file(), flags);
}

static void open_job(Server s, HttpClient *client, const char *id) {
    char url[64], body[128];
    HttpClientReply reply;
    Error err;
    snprintf(url, sizeof url, "http://127.0.0.1:%u/execute", s.port);
    snprintf(body, sizeof body, "{\"job_id\":\"%s\",\"prompt\":\"p\",\"max_tokens\":1900}", id);
    HttpClientRequest request = {.method = "POST",
                                 .url = str_from_c(url),
                                 .content_type = STR("application/json"),
                                 .body = str_from_c(body),
                                 .timeout_ms = 20000};
    if (!http_client_open(client, &request, &reply, &err)) FAIL("%s", err.message), test_end();
}

static Str read_stream(HttpClient *client) {
    enum { STREAM_BYTES = 1 << 20 };
    char *text = os_reserve(STREAM_BYTES);
    size_t length = 0;
    Error err;
    for (size_t got = 1; got > 0; length += got) {
        if (!http_client_read(client, text + length, STREAM_BYTES - length, &got, &err))
            FAIL("%s", err.message), test_end();
    }
    return (Str){text, length};
}

// All streams get CUDA_ERROR, /health says 503, and the worker ends with 3, within 2 s.
TEST_SLOW(contract_cuda_error_while_serving, 120) {
    static const char *const ids[] = {"a", "b", "c"};
    const char *fails_by;
    uint16_t status;
    HttpClient jobs[COUNT_OF(ids)];
    Server s = start_on_fake_driver(&fails_by);
    CHECK(text_contains(server_ask(s, "GET", "/health", "", &status), "\"resident\":true"));
    for (size_t i = 0; i < COUNT_OF(ids); i++)
        open_job(s, &jobs[i], ids[i]);
    CHECK(text_contains(server_ask(s, "GET", "/health", "", &status), "\"jobs_active\":3"));
    uint64_t begin_ns = os_monotonic_ns();
    tmp_file_write("lost", "now");
    for (size_t i = 0; i < COUNT_OF(ids); i++) {
        Str stream = read_stream(&jobs[i]);
        TEST_CASE_LABEL("%s", ids[i]);
        CHECK(text_contains(stream, "event: error\ndata: {\"code\":\"CUDA_ERROR\",\"message\":\""));
        CHECK(text_contains(stream, "CUDA_ERROR_ILLEGAL_ADDRESS") && !text_contains(stream, "event: end"));
        CHECK(text_contains(stream, "\"retriable\":true,\"correlation_id\":\""));
    }
    Str health;
    do // the last stream may end a moment before
        health = server_ask(s, "GET", "/health", "", &status);
    while (status == 200);
    CHECK_INT_EQ(503, status);
    CHECK(text_contains(health, "\"status\":\"unhealthy\""));
    CHECK_INT_EQ(3, process_wait(s.process));
    uint64_t took_ms = (os_monotonic_ns() - begin_ns) / 1000000;
    CHECK_SOON(2000, took_ms);
    Str log = process_read_file(s.process.err_path);
    CHECK(text_contains(log, "\"event\":\"error\",") && text_contains(log, "\"code\":\"CUDA_ERROR\""));
    CHECK(text_contains(log, "\"gpu_device\":0,"));
    CHECK(text_contains(log, "\"event\":\"shutdown\"") && text_contains(log, "\"event\":\"jit_complete\""));
}

// Exit 1 with both numbers, the device and the model, before anything is uploaded: where the model does not
// fit, and where the cache that was asked for does not.
TEST(contract_insufficient_vram) {
    static const struct {
        const char *line, *memory;
    } rows[] = {
        {"--model % --device cuda --port 0 --jit-cache %", "250000000"}, // the reserve alone is more
        {"--model % --device cuda --port 0 --jit-cache % --max-jobs 64 --kv-cache-size-mb 1000", "335000000"},
    };
    const char *const values[] = {tiny_model_file(), test_root_path("build/jit-cache")};
    REQUIRE(setenv("LD_LIBRARY_PATH", fake_driver_build(NULL), 1) == 0);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].line);
        char available[64];
        snprintf(available, sizeof available, "%s bytes (0.", rows[i].memory);
        REQUIRE(setenv("FAKE_CUDA_MEMORY", rows[i].memory, 1) == 0);
        Process p = process_start(rows[i].line, values, NULL);
        CHECK_INT_EQ(1, process_wait(p));
        Str log = process_read_file(p.err_path);
        CHECK(text_contains(log, "\"code\":\"INSUFFICIENT_VRAM\"") &&
              text_contains(log, "/tiny.gguf needs "));
        CHECK(text_contains(log, available) && text_contains(log, "are available on Fake GPU 0"));
        CHECK(!text_contains(log, "\"percent\":25"));
    }
}

// Lost while nothing runs: the next job is told, and the worker ends. (It comes after the case above, which
// leaves its kernels compiled.)
TEST_SLOW(contract_cuda_error_while_idle, 110) {
    const char *fails_by;
    uint16_t status;
    Server s = start_on_fake_driver(&fails_by);
    tmp_file_write("lost", "now");
    CHECK_INT_EQ(200, (server_ask(s, "GET", "/health", "", &status), status)); // asks no device
    Str body = server_ask(s, "POST", "/execute", "{\"job_id\":\"a\",\"prompt\":\"p\"}", &status);
    CHECK_INT_EQ(500, status);
    CHECK(text_contains(body, "\"code\":\"CUDA_ERROR\"") && text_contains(body, "\"retriable\":true"));
    CHECK_INT_EQ(3, process_wait(s.process));
}

#endif
