// What a token costs on its way from the engine's step to the client's socket: real sockets, a backend that
// has its tokens at once, 64 streams.
//
// EVENT_TOKENS=20000 build/tests api_events --verbose measures longer; EVENT_STEP_US=853 lets a step take
// that long, as 64 streams at 75,000 tokens a second do.
#include "api_client.h"
#include "os/os_net.h"
#include "runner.h"

#include <stdio.h>
#include <stdlib.h>

enum { STREAMS = 64, CONTEXT = 32768, RECEIVE_BYTES = 256 * 1024 };

// A template whose prompts are short.
#define TEMPLATE "{{ messages[0].content }}"

static const struct {
    const char *name, *path, *body;
    const char *event; // that each token is
} apis[] = {
    {"execute", "/execute", "{\"job_id\":\"%u\",\"prompt\":\"p\",\"max_tokens\":%u}", "event: token\n"},
    {"completions", "/v1/completions", "{\"prompt\":\"p %u\",\"max_tokens\":%u,\"stream\":true}",
     "\"text\":\"a\""},
    {"chat", "/v1/chat/completions",
     "{\"messages\":[{\"role\":\"user\",\"content\":\"p %u\"}],\"max_tokens\":%u,\"stream\":true}",
     "\"content\":\"a\""},
    {"responses", "/v1/responses", "{\"input\":\"p %u\",\"max_output_tokens\":%u,\"stream\":true}",
     "event: response.output_text.delta\n"},
    {"messages", "/v1/messages",
     "{\"messages\":[{\"role\":\"user\",\"content\":\"p %u\"}],\"max_tokens\":%u,\"stream\":true}",
     "event: content_block_delta\n"},
};

static uint32_t setting(const char *name, uint32_t otherwise) {
    uint64_t value;
    return str_parse_u64(str_from_c(getenv(name)), &value) ? (uint32_t)value : otherwise;
}

// ---- clients ----

typedef struct {
    int sockets[STREAMS];
    uint64_t events[STREAMS]; // token events so far
    char tails[STREAMS][64];  // the last bytes of what came, since an event may come in two pieces
    size_t tail_bytes[STREAMS];
    uint32_t n_open;
    int poller;
    char *buffer;
} Clients;

static void send_request(Clients *c, uint16_t port, size_t api, uint32_t i, uint32_t n_tokens) {
    char body[256], request[512];
    Error err;
    size_t sent = 0;
    StrBuf b = STRBUF(body), head = STRBUF(request);
    strbuf_printf(&b, apis[api].body, i, n_tokens);
    strbuf_printf(&head, "POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %zu\r\n\r\n%s",
                  apis[api].path, b.len, body);
    REQUIRE(os_net_connect(STR("127.0.0.1"), port, 60000, &c->sockets[i], &err));
    REQUIRE(os_net_send(c->sockets[i], strbuf_str(&head), &sent) == OS_NET_OK && sent == head.len);
    REQUIRE(os_poll_add(c->poller, c->sockets[i], OS_POLL_RECEIVE, i));
    c->n_open++;
}

static uint64_t count_events(Str text, const char *event) {
    uint64_t n = 0;
    size_t size = strlen(event);
    for (const char *at = text.ptr, *end = text.ptr + text.len; at < end; n++) {
        at = memmem(at, (size_t)(end - at), event, size);
        if (!at) break;
        at += size;
    }
    return n;
}

// What there is to read of a stream. An event may be cut anywhere, so what was behind the last whole one is
// looked at again.
static void read_some(Clients *c, uint32_t i, const char *event) {
    static const char last_chunk[] = "\r\n0\r\n\r\n";
    size_t kept = c->tail_bytes[i], received = 0;
    memcpy(c->buffer, c->tails[i], kept);
    OsNetResult result = os_net_receive(c->sockets[i], c->buffer + kept, RECEIVE_BYTES, &received);
    REQUIRE(result == OS_NET_OK);
    Str text = {c->buffer, kept + received};
    c->events[i] += count_events(text, event);
    size_t most = min_u64(text.len, strlen(event) - 1);
    c->tail_bytes[i] = most;
    memcpy(c->tails[i], text.ptr + text.len - most, most);
    if (!str_ends_with(text, STR("\r\n0\r\n\r\n")) && !str_eq(text, str_from_c(last_chunk + 2))) return;
    os_net_close(c->sockets[i]);
    c->n_open--;
}

// All streams to their ends.
static Clients *read_streams(FakeWorker *f, size_t api, uint32_t n_tokens) {
    Arena arena = os_arena(sizeof(Clients) + 2 * RECEIVE_BYTES);
    Clients *c = arena_new(&arena, Clients, 1);
    Error err;
    OsPollEvent events[STREAMS];
    c->buffer = arena_new(&arena, char, RECEIVE_BYTES + 64);
    REQUIRE(os_poll_open(&c->poller, &err));
    for (uint32_t i = 0; i < STREAMS; i++)
        send_request(c, fake_port(f), api, i, n_tokens);
    while (c->n_open) {
        int n = os_poll_wait(c->poller, events, STREAMS, 60000);
        REQUIRE(n > 0);
        for (int k = 0; k < n; k++)
            read_some(c, (uint32_t)events[k].tag, apis[api].event);
    }
    os_net_close(c->poller);
    return c;
}

// ---- the cases ----

// Every token of 64 streams comes, in each API's words, and what it costs is shown. The bounds are of
// processor time, and several times what a token costs, so that they hold on a busy machine. The I/O thread
// is woken for a step's tokens together.
TEST(api_events_cost_little) {
    uint32_t n_tokens = setting("EVENT_TOKENS", 200), step_us = setting("EVENT_STEP_US", 0);
    for (size_t api = 0; api < COUNT_OF(apis); api++) {
        TEST_CASE_LABEL("%s", apis[api].name);
        FakeWorker *f = fake_worker_start(&(FakeConfig){.n_jobs = STREAMS,
                                                        .context = CONTEXT,
                                                        .max_tokens_out = CONTEXT,
                                                        .step_us = step_us,
                                                        .chat_template = TEMPLATE});
        uint64_t io_ns = fake_io_cpu_ns(f), engine_ns = fake_engine_cpu_ns(f), begin_ns = os_monotonic_ns();
        Clients *c = read_streams(f, api, n_tokens);
        uint64_t took_ns = os_monotonic_ns() - begin_ns, total = STREAMS * (uint64_t)n_tokens;
        double io_us = (double)(fake_io_cpu_ns(f) - io_ns) / 1e3 / (double)total;
        double engine_us = (double)(fake_engine_cpu_ns(f) - engine_ns) / 1e3 / (double)total;
        for (uint32_t i = 0; i < STREAMS; i++)
            CHECK_U64_EQ(n_tokens, c->events[i]);
        printf("%-12s %7.0f events/s; us of processor an event: I/O thread %.2f, engine thread %.2f\n",
               apis[api].name, (double)total * 1e9 / (double)took_ns, io_us, engine_us);
        CHECK(io_us < 60 && engine_us < 30);
        CHECK(fake_wakes(f) <= 2 * fake_steps(f) + 4 * STREAMS); // the encoder wakes it, too
        shut_down(f);
    }
}
