#include "canned_server.h"

#include "base/strbuf.h"
#include "json/json_reader.h"
#include "os/os.h"
#include "os/os_net.h"
#include "runner.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    CONNECTIONS_MAX = 1024,
    INPUT_BYTES = 1 << 20,
    OUTPUT_BYTES = 32 * 1024,
    EVENT_BYTES_MAX = 1024,
    TURN_BYTES = 16 * 1024, // of events that are put into the output at once
};

typedef struct {
    int socket; // -1: free
    char *input;
    size_t n_input;
    char out[OUTPUT_BYTES];
    size_t out_at, out_end;
    bool answers, closes;
    CannedFault fault;
    uint32_t n_events, at_event, n_prompt; // of the answer
    uint64_t due_ns;
    uint32_t interest;
} Client;

typedef struct {
    CannedConfig config;
    int listener, poller;
    FILE *log;
    Client *clients;
    uint32_t n_requests;
    char event[EVENT_BYTES_MAX]; // a token's, as it is sent
    size_t event_bytes;
} Canned;

// ---- events ----

static void put_chunk(const Canned *s, StrBuf *out, const char *text) {
    size_t length = strlen(text);
    if (s->config.until_close) strbuf_put(out, (Str){text, length});
    else strbuf_printf(out, "%zx\r\n%s\r\n", length, text);
}

static void put_event(const Canned *s, StrBuf *out, const char *name, const char *data) {
    char text[EVENT_BYTES_MAX];
    const char *end = s->config.has_crlf ? "\r\n" : "\n";
    if (s->config.execute) snprintf(text, sizeof text, "event: %s%sdata: %s%s%s", name, end, data, end, end);
    else snprintf(text, sizeof text, "data: %s%s%s", data, end, end);
    put_chunk(s, out, text);
}

static void put_token(const Canned *s, StrBuf *out) {
    char data[EVENT_BYTES_MAX / 2];
    const char *piece = s->config.piece ? s->config.piece : " word";
    if (s->config.execute) snprintf(data, sizeof data, "{\"t\":\"%s\",\"i\":7}", piece);
    else
        snprintf(data, sizeof data,
                 "{\"id\":\"chatcmpl-17fb1bb6e5d75e66e746f3ef\",\"object\":\"chat.completion.chunk\","
                 "\"created\":1795908418,\"model\":\"canned\",\"choices\":[{\"index\":0,\"delta\":"
                 "{\"content\":\"%s\"},\"logprobs\":null,\"finish_reason\":null}]}",
                 piece);
    put_event(s, out, "token", data);
}

static void put_end(const Canned *s, const Client *c, StrBuf *out) {
    char data[EVENT_BYTES_MAX / 2];
    if (c->fault == CANNED_LEAVES_OUT_END) return;
    if (s->config.execute) {
        snprintf(data, sizeof data,
                 "{\"tokens_out\":%u,\"tokens_in\":%u,\"tokens_cached\":3,\"stop_reason\":\"length\"}",
                 c->n_events, c->n_prompt);
        put_event(s, out, "end", data);
        return;
    }
    put_event(s, out, NULL, "{\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"length\"}]}");
    snprintf(data, sizeof data,
             "{\"choices\":[],\"usage\":{\"prompt_tokens\":%u,\"completion_tokens\":%u,"
             "\"prompt_tokens_details\":{\"cached_tokens\":%u}}}",
             c->n_prompt, c->n_events, s->config.is_cached ? c->n_prompt : 3);
    if (s->config.has_usage) put_event(s, out, NULL, data);
    put_event(s, out, NULL, "[DONE]");
}

static void put_head(const Canned *s, StrBuf *out) {
    strbuf_put(out, STR("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"));
    strbuf_put(out, s->config.until_close ? STR("Connection: close\r\n\r\n")
                                          : STR("Transfer-Encoding: chunked\r\n\r\n"));
    if (s->config.execute) put_event(s, out, "started", "{\"tokens_in\":9}");
    else
        put_event(s, out, NULL,
                  "{\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}],"
                  "\"usage\":null}");
    put_chunk(s, out, ": a comment\n\n");
}

// ---- answers ----

static void put_whole(StrBuf *out, const char *head, const char *body) {
    strbuf_printf(out, "HTTP/1.1 %s\r\nContent-Length: %zu\r\n\r\n%s", head, strlen(body), body);
}

static void begin_answer(const Canned *s, Client *c, StrBuf *out) {
    c->answers = true;
    c->at_event = 0;
    c->due_ns = os_monotonic_ns() + s->config.first_ms * 1000000ull;
    switch (c->fault) {
    case CANNED_REFUSES_429:
        put_whole(out, "429 Too Many Requests",
                  "{\"error\":{\"code\":\"BUSY\",\"message\":\"all slots are taken\"}}");
        break;
    case CANNED_REFUSES_500:
        put_whole(out, "500 Oh\r\nConnection: close", s->config.refusal ? s->config.refusal : "went astray!");
        c->closes = true;
        break;
    case CANNED_NO_STREAM: put_whole(out, "200 OK\r\nContent-Type: application/json", "{}"); break;
    case CANNED_SILENT: c->due_ns = UINT64_MAX; return;
    default:
        if (!s->config.prompt_max || c->n_prompt <= s->config.prompt_max) {
            put_head(s, out);
            return;
        }
        put_whole(out, "400 Bad Request",
                  "{\"error\":{\"code\":\"TOO_LONG\",\"message\":\"beyond the context\"}}");
    }
    c->answers = false;
}

// At the event where what is wrong goes wrong; true where the answer ends with it.
static bool go_wrong(const Canned *s, Client *c, StrBuf *out) {
    switch (c->fault) {
    case CANNED_BREAKS_OFF: c->closes = true; return true;
    case CANNED_ERROR_EVENT:
        put_event(
            s, out, "error",
            s->config.execute
                ? "{\"code\":\"CUDA_ERROR\",\"message\":\"the GPU is lost\"}"
                : "{\"error\":{\"message\":\"the GPU is lost\",\"type\":\"server_error\",\"code\":null}}");
        c->closes = true;
        return true;
    case CANNED_BAD_JSON:
        put_event(s, out, "token", "{\"t\":\"x");
        c->closes = true;
        return true;
    case CANNED_BAD_CHUNK:
        strbuf_put(out, STR("zz\r\n"));
        c->closes = true;
        return true;
    default: return false;
    }
}

static void put_events(const Canned *s, Client *c, StrBuf *out, uint64_t now_ns) {
    while (c->answers && c->due_ns <= now_ns && out->len < TURN_BYTES) {
        if (c->at_event == c->n_events / 2 && go_wrong(s, c, out)) {
            c->answers = false;
        } else if (c->at_event == c->n_events) {
            put_end(s, c, out);
            if (!s->config.until_close) strbuf_put(out, STR("0\r\n\r\n"));
            c->closes = s->config.until_close || c->fault == CANNED_CLOSES_KEPT;
            c->answers = false;
        } else {
            strbuf_put(out, (Str){s->event, s->event_bytes});
            c->at_event++;
            if (s->config.interval_us) c->due_ns += s->config.interval_us * 1000ull;
        }
    }
}

// ---- requests ----

static uint64_t number_behind(Str text, const char *key) {
    const char *at = memmem(text.ptr, text.len, key, strlen(key));
    return at ? strtoull(at + strlen(key), NULL, 10) : 0;
}

static uint32_t count_spaces(Str text) {
    uint32_t n = 0;
    for (size_t i = 0; i < text.len; i++)
        n += text.ptr[i] == ' ';
    return n;
}

// Answers the request in the client's input once it is whole. A word counts as two tokens, and the template
// as ten.
static void take_request(Canned *s, Client *c) {
    Str all = {c->input, c->n_input};
    const char *end = memmem(all.ptr, all.len, "\r\n\r\n", 4);
    if (!end || c->answers || c->out_at < c->out_end) return;
    size_t head = (size_t)(end - all.ptr) + 4, size = head + number_behind(all, "Content-Length: ");
    if (all.len < size) return;
    Str body = str_slice(all, head, size);
    if (s->log) fprintf(s->log, "%.*s\n", STR_ARG(body)), fflush(s->log);
    uint32_t every = s->config.fault_every ? s->config.fault_every : 1;
    bool is_wrong = ++s->n_requests % every == 0 && s->n_requests > s->config.n_right;
    c->fault = is_wrong ? s->config.fault : CANNED_RIGHT;
    c->n_events = s->config.n_events ? s->config.n_events : (uint32_t)number_behind(body, "\"max_tokens\":");
    c->n_prompt = 10 + 2 * (count_spaces(body) + 1);
    StrBuf out = STRBUF(c->out);
    if (str_starts_with(all, STR("GET"))) {
        char models[256];
        snprintf(models, sizeof models, "{\"data\":[{\"id\":\"%s\"}]}",
                 s->config.model ? s->config.model : "canned");
        put_whole(&out, "200 OK", models);
    } else {
        begin_answer(s, c, &out);
    }
    c->out_at = 0;
    c->out_end = out.len;
    c->n_input -= size;
    memmove(c->input, c->input + size, c->n_input);
}

static void drop(Client *c) {
    os_net_close(c->socket);
    c->socket = -1;
}

static void send_some(const Canned *s, Client *c) {
    while (c->out_at < c->out_end) {
        size_t sent, left = c->out_end - c->out_at;
        if (s->config.cut_bytes) left = (size_t)min_u64(left, s->config.cut_bytes);
        OsNetResult result = os_net_send(c->socket, (Str){c->out + c->out_at, left}, &sent);
        if (result == OS_NET_WOULD_BLOCK) break;
        if (result != OS_NET_OK) {
            drop(c);
            return;
        }
        c->out_at += sent;
        if (s->config.cut_bytes) usleep(100);
    }
    if (c->out_at == c->out_end && c->closes) drop(c);
}

static void go_on(Canned *s, Client *c) {
    take_request(s, c);
    uint64_t now_ns = os_monotonic_ns();
    if (c->out_at == c->out_end && c->answers) {
        StrBuf out = STRBUF(c->out);
        put_events(s, c, &out, now_ns);
        c->out_at = 0;
        c->out_end = out.len;
    }
    send_some(s, c);
    if (c->socket < 0) return;
    uint32_t interest =
        OS_POLL_RECEIVE | (c->out_at < c->out_end || (c->answers && c->due_ns <= now_ns) ? OS_POLL_SEND : 0);
    if (interest != c->interest)
        (void)os_poll_change(s->poller, c->socket, interest, (uint64_t)(c - s->clients));
    c->interest = interest;
}

static void receive(Client *c) {
    size_t got;
    OsNetResult result = os_net_receive(c->socket, c->input + c->n_input, INPUT_BYTES - c->n_input, &got);
    if (result == OS_NET_OK) c->n_input += got;
    else if (result != OS_NET_WOULD_BLOCK) drop(c);
}

static void accept_all(Canned *s) {
    int socket;
    uint32_t most = s->config.connections_max ? s->config.connections_max : CONNECTIONS_MAX;
    while (os_net_accept(s->listener, &socket) == OS_NET_OK) {
        uint32_t at = 0;
        while (at < most && s->clients[at].socket >= 0)
            at++;
        if (at == most) {
            os_net_close(socket);
            return;
        }
        Client *c = &s->clients[at];
        char *input = c->input ? c->input : os_reserve(INPUT_BYTES);
        *c = (Client){.socket = socket, .input = input, .interest = OS_POLL_RECEIVE};
        if (!os_poll_add(s->poller, socket, OS_POLL_RECEIVE, at)) _exit(1);
    }
}

// ---- the process ----

static uint32_t wait_ms(const Canned *s, uint64_t now_ns) {
    uint64_t next_ns = now_ns + 1000000000ull;
    for (uint32_t i = 0; i < CONNECTIONS_MAX; i++) {
        const Client *c = &s->clients[i];
        if (c->socket >= 0 && c->answers && c->out_at == c->out_end) next_ns = min_u64(next_ns, c->due_ns);
    }
    return next_ns > now_ns ? (uint32_t)((next_ns - now_ns) / 1000000) : 0;
}

static _Noreturn void serve(Canned *s) {
    bool has_timing = s->config.interval_us || s->config.first_ms;
    for (;;) {
        OsPollEvent events[256];
        int count = os_poll_wait(s->poller, events, 256, has_timing ? wait_ms(s, os_monotonic_ns()) : 1000);
        for (int i = 0; i < count; i++) {
            if (events[i].tag == UINT64_MAX) {
                accept_all(s);
                continue;
            }
            Client *c = &s->clients[events[i].tag];
            if (c->socket >= 0 && events[i].events & (OS_POLL_RECEIVE | OS_POLL_BROKEN)) receive(c);
            if (c->socket >= 0) go_on(s, c);
        }
        for (uint32_t i = 0; has_timing && i < CONNECTIONS_MAX; i++)
            if (s->clients[i].socket >= 0 && s->clients[i].answers) go_on(s, &s->clients[i]);
    }
}

CannedServer canned_start(const CannedConfig *config) {
    static Canned s;
    Error err;
    CannedServer server;
    s = (Canned){.config = *config, .clients = os_reserve(sizeof(Client) * CONNECTIONS_MAX)};
    REQUIRE(os_net_listen(STR("127.0.0.1"), 0, &s.listener, &server.port, &err));
    server.pid = fork();
    REQUIRE(server.pid >= 0);
    if (server.pid > 0) {
        os_net_close(s.listener);
        return server;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    StrBuf event = STRBUF(s.event);
    put_token(&s, &event);
    s.event_bytes = event.len;
    if (config->log_path) s.log = fopen(config->log_path, "w");
    for (uint32_t i = 0; i < CONNECTIONS_MAX; i++)
        s.clients[i].socket = -1;
    if (!os_poll_open(&s.poller, &err) || !os_poll_add(s.poller, s.listener, OS_POLL_RECEIVE, UINT64_MAX))
        _exit(1);
    serve(&s);
}

void canned_stop(CannedServer server) {
    kill(server.pid, SIGKILL);
    waitpid(server.pid, NULL, 0);
}
