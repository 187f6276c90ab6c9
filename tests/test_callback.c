// The ready callback, as an orchestrator sees it: a listener here writes down what comes and answers as a
// script says.
#include "cli/callback.h"
#include "os/os.h"
#include "os/os_net.h"
#include "runner.h"
#include "worker_process.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

enum { CALLS_MAX = 4 };

typedef struct {
    char text[16 * 1024]; // the request, head and body
    size_t length;
    uint64_t at_ns;
} Call;

typedef struct {
    int listener;
    uint16_t port;
    Call calls[CALLS_MAX];
} Orchestrator;

static void listen_for_calls(Orchestrator *o) {
    Error err;
    if (!os_net_listen(STR("127.0.0.1"), 0, &o->listener, &o->port, &err))
        FAIL("%s", err.message), test_end();
}

// The next request, which gets `status`.
static void take_call(Orchestrator *o, Call *call, uint16_t status) {
    int socket;
    size_t got = 0, sent;
    char answer[128];
    REQUIRE(os_net_wait_ready(o->listener, false, 60000));
    REQUIRE(os_net_accept(o->listener, &socket) == OS_NET_OK);
    call->at_ns = os_monotonic_ns();
    while (!text_contains((Str){call->text, call->length}, "\"protocol\":\"sse\"}")) { // the body's end
        REQUIRE(os_net_wait_ready(socket, false, 60000));
        REQUIRE(os_net_receive(socket, call->text + call->length, sizeof call->text - call->length, &got) ==
                OS_NET_OK);
        call->length += got;
    }
    snprintf(answer, sizeof answer, "HTTP/1.1 %u Whatever\r\nContent-Length: 0\r\n\r\n", status);
    CHECK(os_net_send(socket, str_from_c(answer), &sent) == OS_NET_OK);
    os_net_close(socket);
}

// The value of a header as the request has it.
static Str header_of(const Call *call, const char *name) {
    const char *at = memmem(call->text, call->length, name, strlen(name));
    if (!CHECK(at != NULL)) return (Str){0};
    at += strlen(name);
    return (Str){at, strcspn(at, "\r")};
}

static Server start(const Orchestrator *o, const char *more) {
    char line[1024];
    snprintf(line, sizeof line,
             "--model %% --device cpu --threads 1 --port 0 --callback-url "
             "http://127.0.0.1:%u/workers/ready?a=b%s%s",
             o->port, *more ? " " : "", more);
    return (Server){.process = process_start(line, (const char *[]){tiny_model_file()}, NULL)};
}

// Three tries with pauses of 0.5 and 1 s between them, the same each time.
TEST(contract_callback_is_tried_again) {
    static const uint16_t answers[] = {503, 302, 204};
    Orchestrator *o = os_reserve(sizeof *o);
    const char *tokens = tmp_file_write("tokens", "# of the orchestrator\nsesame-1\nsesame-2\n");
    char more[512];
    listen_for_calls(o);
    snprintf(more, sizeof more, "--worker-id 01234567-89ab-4cde-8f01-23456789abcd --callback-token-file %s",
             tokens);
    Server s = start(o, more);
    for (size_t i = 0; i < COUNT_OF(answers); i++)
        take_call(o, &o->calls[i], answers[i]);
    Str ready = process_await_event(s.process, "ready");
    CHECK(ready.len > 0);
    Str id = header_of(&o->calls[0], "X-Correlation-Id: "), log = process_read_file(s.process.err_path);
    CHECK_INT_EQ(36, id.len);
    char member[80], uri[80];
    snprintf(member, sizeof member, "\"correlation_id\":\"%.*s\"", STR_ARG(id));
    snprintf(uri, sizeof uri, "\"uri\":\"http://127.0.0.1:%u\"", (unsigned)log_line_number(ready, "port"));
    for (size_t i = 0; i < COUNT_OF(answers); i++) {
        const Call *call = &o->calls[i];
        Str text = {call->text, call->length};
        TEST_CASE_LABEL("call %zu", i + 1);
        CHECK(str_starts_with(text, STR("POST /workers/ready?a=b HTTP/1.1\r\n")));
        CHECK_STR_EQ("Bearer sesame-1", header_of(call, "Authorization: "));
        CHECK_STR_EQ("application/json", header_of(call, "Content-Type: "));
        CHECK_STR_EQ(id, header_of(call, "X-Correlation-Id: "));
        static const char *const members[] = {
            "\r\n\r\n{\"worker_id\":\"01234567-89ab-4cde-8f01-23456789abcd\",\"model_ref\":\"file:",
            "/tiny.gguf\",\"memory_bytes\":",
            ",\"vram_bytes\":0,\"memory_architecture\":\"host\",",
            "\"worker_type\":\"cpu-reference\",\"capabilities\":[\"text-gen\"],\"protocol\":\"sse\"}",
        };
        for (size_t k = 0; k < COUNT_OF(members); k++) {
            if (!CHECK(text_contains(text, members[k]))) printf("%s\n", members[k]);
        }
        CHECK(text_contains(text, uri));
    }
    TEST_CASE_LABEL("%s", "pauses");
    CHECK(o->calls[1].at_ns - o->calls[0].at_ns >= 500 * 1000000ull);
    CHECK(o->calls[2].at_ns - o->calls[1].at_ns >= 1000 * 1000000ull);
    CHECK(text_contains(log, "answered with status 503") && text_contains(log, "answered with status 302"));
    CHECK(text_contains(log, member) && !text_contains(log, "sesame"));
    kill(s.process.pid, SIGTERM);
    CHECK_INT_EQ(0, process_wait(s.process));
}

TEST(contract_callback_that_fails_is_the_end) {
    Orchestrator *o = os_reserve(sizeof *o);
    listen_for_calls(o);
    Server s = start(o, "--callback-token-file none");
    CHECK_INT_EQ(2, process_wait(s.process)); // no such file
    s = start(o, "");
    for (size_t i = 0; i < 3; i++)
        take_call(o, &o->calls[i], 500);
    CHECK_INT_EQ(1, process_wait(s.process));
    Str log = process_read_file(s.process.err_path);
    CHECK(text_contains(log, "\"attempt\":3,\"attempts\":3") && text_contains(log, "nobody was told"));
    CHECK(!text_contains(log, "\"event\":\"ready\""));
    CHECK(!text_contains((Str){o->calls[0].text, o->calls[0].length}, "Authorization"));
}

// "uri" is of use to others also where the worker listens on every address.
TEST(contract_callback_names_an_address) {
    Orchestrator *o = os_reserve(sizeof *o);
    listen_for_calls(o);
    Server s = start(o, "--host 0.0.0.0");
    take_call(o, &o->calls[0], 200);
    CHECK(text_contains((Str){o->calls[0].text, o->calls[0].length}, "\"uri\":\"http://127.0.0.1:"));
    CHECK(process_await_event(s.process, "ready").len > 0);
    kill(s.process.pid, SIGTERM);
    CHECK_INT_EQ(0, process_wait(s.process));
}

static void *send_callback(void *argument) {
    Error err;
    if (!callback_send(argument, &err)) FAIL("%s", err.message);
    return NULL;
}

// What a worker on a GPU says of itself, word for word.
TEST(contract_callback_of_a_worker_on_a_gpu) {
    Orchestrator *o = os_reserve(sizeof *o);
    BackendInfo info = {.vram_bytes_used = 1203765248, .vram_bytes_total = 85026275328};
    char url[64];
    OsThread thread;
    Error err;
    listen_for_calls(o);
    snprintf(url, sizeof url, "http://127.0.0.1:%u/", o->port);
    Callback callback = {.url = str_from_c(url),
                         .worker_id = STR("w"),
                         .model_ref = STR("file:/m.gguf"),
                         .host = STR("::1"),
                         .port = 8080,
                         .info = &info};
    REQUIRE(os_thread_start(&thread, "callback", send_callback, &callback, &err));
    take_call(o, &o->calls[0], 200);
    os_thread_join(&thread);
    CHECK(text_contains(
        (Str){o->calls[0].text, o->calls[0].length},
        "\r\n\r\n{\"worker_id\":\"w\",\"model_ref\":\"file:/m.gguf\",\"memory_bytes\":1203765248,"
        "\"vram_bytes\":1203765248,\"memory_architecture\":\"vram-only\",\"uri\":\"http://[::1]:8080\","
        "\"worker_type\":\"bespoke-cuda\",\"capabilities\":[\"text-gen\"],\"protocol\":\"sse\"}"));
}
