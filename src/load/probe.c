#include "http/http_client.h"
#include "json/json_reader.h"
#include "load/run_internal.h"
#include "os/os.h"

#include <stdio.h>

enum { CONNECT_TIMEOUT_MS = 5000, SHORT_WORDS = 16, LONG_WORDS = 144, TRIES = 5, RETRY_MS = 500 };

// ---- the server ----

// The first name that /v1/models has; "any" where it says nothing of the kind.
static Str first_model(const LoadConfig *c, const HttpUrl *server, Arena *arena) {
    char url[512];
    StrBuf text = STRBUF(url);
    HttpClientReply reply;
    Error err;
    Str path = server->path, name = {0};
    while (path.len && path.ptr[path.len - 1] == '/')
        path.len--;
    strbuf_printf(&text, "http://%.*s%.*s%s/models", STR_ARG(server->authority), STR_ARG(path),
                  str_ends_with(path, STR("/v1")) ? "" : "/v1");
    HttpClientRequest request = {.method = "GET",
                                 .url = strbuf_str(&text),
                                 .bearer_token = c->bearer_token,
                                 .headers = c->headers,
                                 .header_count = c->n_headers,
                                 .timeout_ms = CONNECT_TIMEOUT_MS};
    if (!http_client_exchange(&request, arena, &reply, &err) || reply.status != 200) return STR("any");
    const JsonNode *root = json_parse(reply.body, arena, &(JsonLimits){0}, &err);
    const JsonNode *data = json_get(root, STR("data"));
    if (!json_is(data, JSON_ARRAY) || data->length == 0) return STR("any");
    return json_read_str(json_get(json_first(data), STR("id")), &name) ? name : STR("any");
}

bool probe_server(LoadRun *run, Arena *arena, Error *err) {
    const LoadConfig *c = run->config;
    HttpUrl url;
    int socket;
    char *head = arena_alloc(arena, LOAD_HEAD_BYTES_MAX, 1, 1);
    if (!head) return error_set(err, ERR_NO_MEMORY, "no memory for a request's head");
    if (!http_url_parse(c->server, &url, err)) return error_prefix(err, "--server");
    if (!os_net_connect(url.host, url.port, CONNECT_TIMEOUT_MS, &socket, err)) return false;
    bool ok = os_net_peer(socket, &run->peer, err);
    os_net_close(socket);
    if (!ok) return false;
    Str model = c->model;
    if (model.len == 0 && c->api != LOAD_API_EXECUTE) model = first_model(c, &url, arena);
    return request_maker_begin(c, model, head, &run->maker, err);
}

// ---- words ----

// One request with `n_words` words and an answer of one token.
static bool ask_once(LoadRun *run, uint32_t n_words, uint32_t number, Error *err) {
    Slot *slot = &run->slots[0];
    slot->request = (LoadRequest){0};
    slot->state = SLOT_RUNNING;
    slot->cancel_after = 0;
    run->now_ns = os_monotonic_ns();
    uint64_t end_ns = run->now_ns + run->config->timeout_ms * 1000000ull;
    exchange_begin(run, slot, request_write_probe(&run->maker, &slot->text, n_words, number));
    while (slot->state == SLOT_RUNNING) {
        if (os_stop_signals()) return error_set(err, ERR_IO, "stopped before the run began");
        if (run->now_ns >= end_ns) exchange_time_out(run, slot);
        else if (!run_poll(run, 100, err)) return false;
    }
    return true;
}

// Whether another try may go better.
static bool is_passing(const LoadError *e) {
    return e->kind == LOAD_ERROR_STATUS && (e->status == 429 || e->status == 503);
}

static bool ask(LoadRun *run, uint32_t n_words, uint32_t number, Error *err) {
    for (uint32_t i = 0; i < TRIES; i++) {
        if (i) os_sleep_ms(RETRY_MS);
        if (!ask_once(run, n_words, number, err)) return false;
        if (run->probe_end != LOAD_ENDED_ERROR) return true;
        if (!is_passing(&run->probe_error)) break;
    }
    char text[384];
    StrBuf what = STRBUF(text);
    load_error_put(&what, &run->probe_error);
    if (run->probe_error.message[0]) strbuf_put(&what, STR(": "));
    strbuf_put_shown(&what, str_from_c(run->probe_error.message));
    return error_set(err, ERR_IO, "%.*s: the first request: %s", STR_ARG(run->config->server), text);
}

// Whether the server refused the request that was asked last, as one that is too long for it.
static bool is_refused(const LoadRun *run) {
    const LoadError *e = &run->probe_error;
    return run->probe_end == LOAD_ENDED_ERROR && e->kind == LOAD_ERROR_STATUS && e->status / 100 == 4 &&
           !is_passing(e);
}

// Two prompts of different lengths give the tokens of a word and those of the template around it. They are
// also the first requests, so a server that takes none is found here. One whose context is too small for the
// longer prompt is measured without.
bool probe_words(LoadRun *run, Error *err) {
    run->probing = true;
    if (!ask(run, SHORT_WORDS, 0, err)) return false;
    LoadRequest few = run->slots[0].request;
    if (run->config->calibrates && few.has_usage) {
        bool is_answered = ask(run, LONG_WORDS, 1, err);
        run->result->refused_measuring = !is_answered && is_refused(run);
        if (!is_answered && !run->result->refused_measuring) return false;
        uint64_t many = run->slots[0].request.usage_prompt;
        double a_word = ((double)many - (double)few.usage_prompt) / (LONG_WORDS - SHORT_WORDS);
        if (is_answered && run->slots[0].request.has_usage && a_word > 0.1) {
            double beside = (double)few.usage_prompt - SHORT_WORDS * a_word;
            run->maker.tokens_per_word = a_word;
            run->maker.template_tokens = beside > 0 ? beside : 0;
            run->result->calibrated = true;
        }
    }
    run->probing = false;
    return true;
}
