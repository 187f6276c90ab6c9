#include "simulator.h"

#include "api/api_internal.h"
#include "base/hash.h"
#include "base/rng.h"
#include "engine_invariants.h"
#include "gguf_builder.h"
#include "os/os.h"
#include "sched/sched.h"

#include <stdarg.h>
#include <stdio.h>

enum {
    CLIENTS = 3000,
    CONNECTIONS = 128,
    JOBS = 24,
    CONTEXT = 128,
    PAGES = JOBS * CONTEXT / KV_PAGE_TOKENS * 2 / 3, // less than all slots together could want
    MAX_ROWS = 8, // so small that the engine has no choice in cutting prompts
    VISITS_A_STEP = 16,
    REQUEST_BYTES_MAX = 2048,
    ANSWER_BYTES_MAX = 32 * 1024,
    LARGE_BODY_BYTES = 700 * 1024,
    FAULT_AFTER_DRAWS = 2000,
};

static const uint64_t UNIX_START_MS = 1700000000000;

typedef enum { AWAY, SENDING, READING } Phase;
typedef enum { ASKS_JOB, ASKS_BAD_JOB, ASKS_CANCEL, ASKS_HEALTH, ASKS_NONSENSE, ASKS_LARGE } Asks;

typedef struct {
    Phase phase;
    uint32_t connection;
    uint64_t wake_ms; // does nothing before
    Asks asks;
    uint32_t job;       // number of the job asked for
    bool was_cancelled; // somebody has asked for it
    bool has_deadline;  // an X-Deadline
    bool is_naughty;    // stalled, or hung up half-way: need not get an answer
    uint32_t max_tokens;
    uint32_t padding_left; // of a large body, after the request's text
    uint32_t request_length, request_sent;
    uint32_t answer_length;
    char request[REQUEST_BYTES_MAX];
    char answer[ANSWER_BYTES_MAX];
} Client;

typedef struct {
    const int32_t *tokens; // of the sequence's prompt, without BOS
    uint32_t n_tokens, n_drawn;
    int32_t memory[CONTEXT];
} Script;

typedef struct {
    Backend backend; // first: the functions below get a pointer to it
    SimConfig config;
    SimReport *report;
    uint64_t draws; // of random numbers
    uint64_t now_ns;
    Arena arena;
    uint8_t *arena_mark;
    Tokenizer *tokenizer;
    Plan plan;
    Arch arch;
    Bridge bridge;
    Engine *engine;
    Sched *sched;
    Api *api;
    HttpHandler handler;
    HttpShared shared;
    HttpConnection connections[CONNECTIONS];
    uint32_t client_of[CONNECTIONS]; // UINT32_MAX: none
    uint32_t n_open;
    Client *clients; // [CLIENTS]
    uint32_t jobs_begun;
    Script scripts[JOBS];
    StepResult result;
    uint64_t tokens_drawn;
    bool fault_done;
    bool wants_wake;
    uint64_t next_tick_ms;
} Sim;

static uint64_t virtual_ns; // of the simulation that runs

static uint64_t sim_now_ns(void) {
    return virtual_ns;
}

static uint64_t sim_unix_ms(void) {
    return UNIX_START_MS + virtual_ns / 1000000;
}

static uint64_t now_ms(void) {
    return virtual_ns / 1000000;
}

// ---- chance and trouble ----

static uint32_t roll(Sim *s, uint32_t below) {
    return rng_philox(s->config.seed, s->draws++).word[0] % below;
}

static bool chance(Sim *s, uint32_t in_10000) {
    return roll(s, 10000) < in_10000;
}

PRINTF_LIKE(2, 3) static bool wrong(Sim *s, const char *format, ...) {
    if (s->report->problem[0]) return false; // the first counts
    char text[160];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    snprintf(s->report->problem, sizeof s->report->problem, "seed %llu, step %llu: %s",
             (unsigned long long)s->config.seed, (unsigned long long)s->report->steps, text);
    return false;
}

static void note(Sim *s, uint64_t fact) {
    uint64_t both[2] = {s->report->digest, fact};
    s->report->digest = hash_bytes(both, sizeof both);
}

// ---- the executor: each prompt's tokens once more, then the end ----

static bool script_begin(Backend *b, uint32_t slot, const SequenceStart *start, Error *err) {
    (void)err;
    Sim *sim = (Sim *)b;
    Script *s = &sim->scripts[slot];
    uint32_t skipped = tokenizer_adds_bos(sim->tokenizer) ? 1 : 0;
    s->n_tokens = start->n_prompt - skipped;
    s->n_drawn = start->n_drawn;
    memcpy(s->memory, start->tokens + skipped, s->n_tokens * sizeof *s->memory);
    return true;
}

static bool script_step(Backend *b, const Step *step, Error *err) {
    Sim *sim = (Sim *)b;
    if (!step_check(step, &b->info, err)) return false;
    StepResult *r = &sim->result;
    *r = (StepResult){0};
    for (uint32_t i = 0; i < step->n_sequences; i++) {
        if (!step->sequences[i].n_draws) continue;
        uint32_t slot = step->sequences[i].slot;
        Script *s = &sim->scripts[slot];
        bool at_end = s->n_drawn == s->n_tokens;
        int32_t token = at_end ? tokenizer_eos(sim->tokenizer) : s->memory[s->n_drawn++];
        r->runs[r->n_runs++] = (StepRun){.slot = slot, .n_tokens = 1, .tokens = {token}};
        sim->tokens_drawn++;
    }
    bool differ = r->n_runs > 1 && r->runs[0].tokens[0] != r->runs[1].tokens[0];
    if (sim->config.fault == SIM_FAULT_SWAPPED_TOKENS && !sim->fault_done && differ &&
        sim->tokens_drawn > FAULT_AFTER_DRAWS) {
        int32_t first = r->runs[0].tokens[0];
        r->runs[0].tokens[0] = r->runs[1].tokens[0];
        r->runs[1].tokens[0] = first;
        sim->fault_done = true;
    }
    return true;
}

static bool script_copy_page(Backend *b, uint32_t from, uint32_t to, Error *err) {
    (void)b, (void)from, (void)to, (void)err;
    return true; // its answers do not come from pages
}

static bool script_read(Backend *b, StepResult *out, Error *err) {
    (void)err;
    *out = ((Sim *)b)->result;
    return true;
}

// ---- set-up ----

static void on_wake_io(void *context) {
    ((Sim *)context)->wants_wake = true;
}

static bool make_vocabulary(Sim *s, Error *err) {
    TinyModel model = tiny_model_llama();
    Str file = tiny_model_build(&model);
    GgufPart part = {.data = (const uint8_t *)file.ptr, .size = file.len, .name = "tiny.gguf"};
    const GgufFile *gguf;
    Arena scratch = os_arena(64u << 20);
    return gguf_parse(&part, 1, &s->arena, &gguf, err) &&
           tokenizer_from_gguf(gguf, &s->arena, scratch, &s->tokenizer, err);
}

static bool make_worker(Sim *s, Error *err) {
    if (!make_vocabulary(s, err)) return false;
    s->arch.name = "script";
    s->plan.arch = &s->arch;
    s->plan.n_vocab = tokenizer_vocab_size(s->tokenizer);
    s->plan.n_context = CONTEXT;
    s->plan.kv = (KvLayout){.n_places = 1, .n_lists = 1, .n_full = 1};
    s->backend = (Backend){
        .begin = script_begin, .copy_page = script_copy_page, .step = script_step, .read = script_read};
    s->backend.info =
        (BackendInfo){.kind = "script", .n_kv_pages = PAGES, .max_rows = MAX_ROWS, .pipeline_depth = 1};
    if (!engine_create(&s->backend, &s->plan, JOBS, &s->arena, &s->engine, err) ||
        !bridge_init(&s->bridge, JOBS, 0, api_job_arena_bytes(CONTEXT), &s->arena, err)) {
        return false;
    }
    s->bridge.now_ns = sim_now_ns;
    s->bridge.unix_ms = sim_unix_ms;
    s->bridge.wake_io = on_wake_io;
    s->bridge.wake_context = s;
    if (!sched_create(&s->bridge, s->engine, s->tokenizer, &s->arena, &s->sched, err)) return false;
    ApiConfig config = {.bridge = &s->bridge,
                        .tokenizer = s->tokenizer,
                        .max_tokens_out = 64,
                        .max_prompt_chars = PROMPT_CHARACTERS_MAX,
                        .inference_timeout_sec = 300,
                        .context_length = CONTEXT,
                        .worker_id = STR("simulated"),
                        .model = STR("script"),
                        .model_ref = STR("none"),
                        .quant_kind = STR("none"),
                        .kv_cache_type = STR("f16")};
    if (!api_create(&config, &s->arena, &s->api, err)) return false;
    s->handler = api_handler(s->api);
    http_shared_init(&s->shared, &s->handler, &(HttpTimeouts){0});
    s->bridge.status.info = s->backend.info;
    s->bridge.status.context_length = engine_context_length(s->engine);
    s->bridge.status.kv_pages_total = engine_pages(s->engine)->n_pages;
    s->bridge.status.kv_tokens_total = engine_tokens_held(s->engine);
    bridge_set_phase(&s->bridge, WORKER_READY);
    return true;
}

static Sim *sim_open(const SimConfig *config, SimReport *report) {
    Arena arena = os_arena(256u << 20);
    Sim *s = arena_new(&arena, Sim, 1);
    Error err = {0};
    virtual_ns = 1000000000;
    *report = (SimReport){0};
    if (!s) return NULL;
    s->config = *config;
    s->report = report;
    s->arena = arena;
    s->clients = arena_new(&s->arena, Client, CLIENTS);
    if (!s->clients || !make_worker(s, &err)) {
        wrong(s, "the worker cannot be made: %s", err.message);
        return NULL;
    }
    for (uint32_t i = 0; i < CONNECTIONS; i++) {
        char *memory = os_reserve(HTTP_INPUT_BYTES + HTTP_OUTPUT_BYTES_MAX);
        if (!memory) return NULL;
        http_connection_init(&s->connections[i], &s->shared, memory, memory + HTTP_INPUT_BYTES);
        s->connections[i].owner_data = i;
        s->client_of[i] = UINT32_MAX;
    }
    for (uint32_t i = 0; i < CLIENTS; i++)
        s->clients[i].job = UINT32_MAX; // has asked for none yet
    s->arena_mark = s->arena.next;
    return s;
}

static void sim_close(Sim *s) {
    for (uint32_t i = 0; i < CONNECTIONS; i++)
        os_release(s->connections[i].input, HTTP_INPUT_BYTES + HTTP_OUTPUT_BYTES_MAX);
}

// ---- what clients ask ----

static void put_prompt(StrBuf *out, uint32_t job) {
    static const char *const words[] = {"plain", "\xC3\xA9t\xC3\xA9", "\xF0\x9F\x8C\x8D",
                                        "the same for everyone", "\xE2\x82\xAC 12"};
    strbuf_printf(out, "%u %s ", job, words[job % COUNT_OF(words)]);
    for (uint32_t i = 0; i < job % 3; i++)
        strbuf_printf(out, "%u,", job + i);
    strbuf_printf(out, " %u", job);
}

static void put_head(Sim *s, StrBuf *out, Client *c, const char *method, const char *path,
                     size_t body_bytes) {
    strbuf_printf(out, "%s %s HTTP/1.1\r\nHost: localhost\r\n", method, path);
    c->has_deadline = c->asks == ASKS_JOB && chance(s, 500);
    if (c->has_deadline) {
        strbuf_printf(out, "X-Deadline: %llu\r\n", (unsigned long long)(sim_unix_ms() + roll(s, 200)));
    }
    if (body_bytes) strbuf_printf(out, "Content-Length: %zu\r\n", body_bytes);
    strbuf_put(out, STR("\r\n"));
}

static void compose_job(Sim *s, Client *c, StrBuf *out) {
    char body_text[1024], prompt_text[512];
    StrBuf body = STRBUF(body_text), prompt = STRBUF(prompt_text);
    put_prompt(&prompt, c->job);
    c->max_tokens = chance(s, 3000) ? 1 + roll(s, 12) : 64;
    const char *last = c->asks == ASKS_BAD_JOB ? ",\"temperature\":9" : "";
    strbuf_printf(&body, "{\"job_id\":\"job-%u\",\"prompt\":\"%s\",\"seed\":%u,\"max_tokens\":%u%s}", c->job,
                  prompt_text, c->job, c->max_tokens, last);
    put_head(s, out, c, "POST", "/execute", body.len);
    strbuf_put(out, strbuf_str(&body));
}

static void compose(Sim *s, Client *c) {
    static const Asks often[] = {ASKS_JOB, ASKS_JOB, ASKS_JOB, ASKS_JOB, ASKS_JOB, ASKS_JOB, ASKS_CANCEL};
    StrBuf out = STRBUF(c->request);
    c->asks = often[roll(s, COUNT_OF(often))];
    if (chance(s, 700)) c->asks = (Asks[]){ASKS_BAD_JOB, ASKS_HEALTH, ASKS_NONSENSE}[roll(s, 3)];
    if (chance(s, 10)) c->asks = ASKS_LARGE;
    c->was_cancelled = c->is_naughty = c->has_deadline = false;
    c->job = UINT32_MAX;
    c->padding_left = 0;
    if (c->asks == ASKS_JOB) {
        c->job = s->jobs_begun++;
        compose_job(s, c, &out);
    } else if (c->asks == ASKS_BAD_JOB) {
        c->job = 4000000000u + roll(s, 1000); // a number that never runs
        compose_job(s, c, &out);
    } else if (c->asks == ASKS_CANCEL) {
        Client *other = &s->clients[roll(s, CLIENTS)];
        char body[64];
        int length = snprintf(body, sizeof body, "{\"job_id\":\"job-%u\"}", other->job);
        if (other->asks == ASKS_JOB) other->was_cancelled = true;
        put_head(s, &out, c, "POST", "/cancel", (size_t)length);
        strbuf_put(&out, str_from_c(body));
    } else if (c->asks == ASKS_LARGE) {
        c->padding_left = LARGE_BODY_BYTES;
        put_head(s, &out, c, "POST", "/execute", LARGE_BODY_BYTES);
    } else if (c->asks == ASKS_NONSENSE) {
        strbuf_put(&out, STR("GET /\x01 HTTP/1.1\r\n\r\n"));
    } else {
        put_head(s, &out, c, "GET", "/health", 0);
    }
    c->request_length = (uint32_t)out.len;
    c->request_sent = c->answer_length = 0;
    c->phase = SENDING;
    s->report->requests++;
}

// ---- what clients get ----

static bool find(Str text, const char *part, Str *after) {
    const char *at = text.len ? memmem(text.ptr, text.len, part, strlen(part)) : NULL;
    if (!at) return false;
    size_t offset = (size_t)(at - text.ptr) + strlen(part);
    *after = str_slice(text, offset, text.len);
    return true;
}

// The whole answer: its body, decoded in place. False while it is not complete.
static bool take_answer(Client *c, uint32_t *status, Str *body, bool *is_stream) {
    Str all = {c->answer, c->answer_length}, rest, length_text;
    if (!find(all, "\r\n\r\n", &rest)) return false;
    Str head = {all.ptr, (size_t)(rest.ptr - all.ptr)};
    *status = (uint32_t)(head.ptr[9] - '0') * 100 + (uint32_t)(head.ptr[10] - '0') * 10 +
              (uint32_t)(head.ptr[11] - '0');
    *is_stream = find(head, "Transfer-Encoding: chunked\r\n", &length_text);
    if (*is_stream) {
        static char decoded[ANSWER_BYTES_MAX];
        HttpChunkedDecoder decoder = {0};
        HttpFault fault;
        size_t consumed, written;
        HttpParse parse =
            http_decode_chunked(&decoder, decoded, rest.ptr, rest.len, &consumed, &written, &fault);
        *body = (Str){decoded, written};
        return parse != HTTP_PARSE_INCOMPLETE;
    }
    uint64_t length = 0;
    if (find(head, "Content-Length: ", &length_text)) {
        length_text.len =
            (size_t)((const char *)memchr(length_text.ptr, '\r', length_text.len) - length_text.ptr);
        if (!str_parse_u64(length_text, &length)) return false;
    }
    *body = rest;
    return rest.len >= length;
}

// The stream of a job: `started`, the job's own text, one end.
static bool check_stream(Sim *s, Client *c, Str body) {
    char expected_text[512], id[48], got_text[512];
    StrBuf expected = STRBUF(expected_text), got = STRBUF(got_text);
    put_prompt(&expected, c->job);
    int id_length = snprintf(id, sizeof id, "event: started\ndata: {\"job_id\":\"job-%u\",", c->job);
    if (!str_starts_with(body, (Str){id, (size_t)id_length})) {
        return wrong(s, "the stream of job %u begins with another job's start", c->job);
    }
    uint32_t index = 0, terminals = 0;
    bool is_end = false;
    for (Str rest = body, event; rest.len;) {
        if (!find(rest, "\n\n", &event)) return wrong(s, "job %u: half an event", c->job);
        Str one = {rest.ptr, (size_t)(event.ptr - rest.ptr)}, data;
        rest = event;
        if (terminals) return wrong(s, "job %u: an event after the last", c->job);
        if (find(one, "event: token\ndata: {\"t\":\"", &data)) {
            Str tail;
            char wanted[32];
            snprintf(wanted, sizeof wanted, "\",\"i\":%u}", index++);
            if (!find(data, wanted, &tail))
                return wrong(s, "job %u: token %u out of order", c->job, index - 1);
            strbuf_put(&got, (Str){data.ptr, (size_t)(tail.ptr - data.ptr) - strlen(wanted)});
        } else if (str_starts_with(one, STR("event: end\n"))) {
            terminals++;
            is_end = true;
        } else if (str_starts_with(one, STR("event: error\n"))) {
            terminals++;
            bool cancelled = find(one, "\"CANCELLED\"", &data),
                 late = find(one, "\"INFERENCE_TIMEOUT\"", &data);
            if (!(cancelled && c->was_cancelled) && !(late && c->has_deadline)) {
                return wrong(s, "job %u ended with an error for no reason", c->job);
            }
        }
    }
    if (terminals != 1) return wrong(s, "job %u: %u terminal events", c->job, terminals);
    Str whole = strbuf_str(&expected), text = strbuf_str(&got);
    bool is_cut = !is_end || c->max_tokens < 64;
    // A text that max_tokens cut inside a character ends with U+FFFD instead.
    if (is_cut && str_ends_with(text, STR("\xEF\xBF\xBD"))) text.len -= 3;
    bool own = is_cut ? str_starts_with(whole, text) : str_eq(whole, text);
    if (!own) return wrong(s, "job %u got \"%.40s\", not its own text", c->job, got_text);
    s->report->ends += is_end;
    s->report->errors += !is_end;
    return true;
}

static bool check_answer(Sim *s, Client *c, uint32_t status, Str body, bool is_stream) {
    Str after;
    note(s, (uint64_t)status << 32 | (uint32_t)body.len);
    if (c->is_naughty && status == 408) return true;
    s->report->busy += status == 503;
    s->report->refused += status != 503 && !is_stream;
    switch (c->asks) {
    case ASKS_JOB:
        if (is_stream && status == 200) return check_stream(s, c, body);
        if (status == 503 || (status == 499 && c->was_cancelled) || (status == 504 && c->has_deadline))
            return true;
        break;
    case ASKS_BAD_JOB:
        if (status == 400 && find(body, "\"temperature\"", &after)) return true;
        break;
    case ASKS_LARGE:
    case ASKS_NONSENSE:
        if (status == 400 || status == 503) return true;
        break;
    case ASKS_CANCEL:
        if (status == 202) return true;
        break;
    case ASKS_HEALTH:
        if (status == 200 && find(body, "\"jobs_max\":24", &after)) return true;
        break;
    }
    return wrong(s, "a request of kind %d got status %u", (int)c->asks, status);
}

// ---- what clients do ----

static void go_away(Sim *s, Client *c, uint32_t ms) {
    c->phase = AWAY;
    c->wake_ms = now_ms() + roll(s, ms);
}

// The connection is gone. One that behaved has had its answer by now.
static void connection_lost(Sim *s, Client *c) {
    if (c->phase == READING && !c->is_naughty)
        wrong(s, "a patient client was cut off (kind %d)", (int)c->asks);
    s->report->lost++;
    go_away(s, c, 200);
}

// What a server does with a connection after each event, but for sending: clients take that themselves.
static void settle(Sim *s) {
    HttpConnection *h;
    while ((h = http_shared_take_dirty(&s->shared))) {
        if (h->state == HTTP_CONNECTION_FREE) continue;
        http_connection_advance(h);
        while (http_connection_waits_for_turn(h))
            http_connection_turn(h);
        if (h->state != HTTP_CONNECTION_CLOSED) continue;
        uint32_t client = s->client_of[h->owner_data];
        s->client_of[h->owner_data] = UINT32_MAX;
        http_connection_release(h);
        s->n_open--;
        if (client != UINT32_MAX) connection_lost(s, &s->clients[client]);
    }
}

static void hang_up(Sim *s, Client *c, bool politely) {
    HttpConnection *h = &s->connections[c->connection];
    s->client_of[c->connection] = UINT32_MAX;
    if (politely) http_connection_input_ended(h);
    else http_connection_drop(h);
    // What is still to be sent goes to a socket that takes it and forgets it.
    for (Str left; (left = http_connection_output(h)).len;)
        http_connection_sent(h, left.len);
    go_away(s, c, 8000);
    settle(s);
}

static void connect_client(Sim *s, uint32_t index) {
    Client *c = &s->clients[index];
    if (s->jobs_begun >= s->config.jobs) return;
    uint32_t i = 0;
    while (i < CONNECTIONS && s->connections[i].state != HTTP_CONNECTION_FREE)
        i++;
    if (i == CONNECTIONS) {
        go_away(s, c, 1000);
        return;
    }
    http_connection_open(&s->connections[i]);
    s->client_of[i] = index;
    c->connection = i;
    s->n_open++;
    s->report->connections_most = (uint32_t)max_u64(s->report->connections_most, s->n_open);
    compose(s, c);
}

// True when the client has done something else than going on.
static bool misbehave(Sim *s, Client *c) {
    if (chance(s, 20)) {
        c->is_naughty = true;
        hang_up(s, c, chance(s, 5000));
        return true;
    }
    if (chance(s, 2)) {
        c->is_naughty = true;
        c->wake_ms = now_ms() + 5000 + roll(s, 60000); // longer than some timeouts, shorter than others
        return true;
    }
    return false;
}

static void send_some(Sim *s, Client *c) {
    HttpConnection *h = &s->connections[c->connection];
    if (misbehave(s, c)) return;
    HttpRoom room = http_connection_input_room(h);
    uint32_t left = c->request_length - c->request_sent;
    if (room.len == 0) { // it has heard enough
        c->phase = READING;
        return;
    }
    if (left) {
        size_t size = (size_t)min_u64(min_u64(left, room.len), 1 + roll(s, chance(s, 2000) ? 8 : 600));
        memcpy(room.ptr, c->request + c->request_sent, size);
        c->request_sent += (uint32_t)size;
        if (size == left && !c->padding_left) c->phase = READING;
        http_connection_received(h, size);
    } else {
        size_t size = (size_t)min_u64(min_u64(c->padding_left, room.len), 1 + roll(s, HTTP_READ_BYTES));
        memset(room.ptr, ' ', size);
        c->padding_left -= (uint32_t)size;
        if (!c->padding_left) c->phase = READING;
        http_connection_received(h, size);
    }
    settle(s);
}

static void read_some(Sim *s, Client *c) {
    HttpConnection *h = &s->connections[c->connection];
    if (misbehave(s, c)) return;
    Str bytes = http_connection_output(h);
    if (bytes.len == 0) {
        // Nothing to read; the server's end of the connection may be shut.
        if (h->state == HTTP_CONNECTION_LINGERING) {
            if (!c->is_naughty) wrong(s, "no answer for a request of kind %d", (int)c->asks);
            hang_up(s, c, true);
        }
        return;
    }
    size_t size = (size_t)min_u64(bytes.len, 1 + roll(s, chance(s, 3000) ? 30 : 2000));
    if (c->answer_length + size > sizeof c->answer) {
        wrong(s, "an answer of more than %d bytes", ANSWER_BYTES_MAX);
        return;
    }
    memcpy(c->answer + c->answer_length, bytes.ptr, size);
    c->answer_length += (uint32_t)size;
    http_connection_sent(h, size);
    settle(s);
    uint32_t status;
    Str body;
    bool is_stream;
    if (c->phase != READING || !take_answer(c, &status, &body, &is_stream)) return;
    check_answer(s, c, status, body, is_stream);
    bool goes_on = h->state == HTTP_CONNECTION_HEAD && status != 503 && s->jobs_begun < s->config.jobs &&
                   chance(s, 6000);
    if (goes_on) compose(s, c);
    else hang_up(s, c, chance(s, 7000));
}

static void visit(Sim *s, uint32_t index) {
    Client *c = &s->clients[index];
    if (now_ms() < c->wake_ms) return;
    switch (c->phase) {
    case AWAY: connect_client(s, index); break;
    case SENDING: send_some(s, c); break;
    case READING: read_some(s, c); break;
    }
}

// ---- the worker's turn ----

static void break_something(Sim *s) {
    if (s->fault_done || s->tokens_drawn < FAULT_AFTER_DRAWS) return;
    if (s->config.fault == SIM_FAULT_LOST_SLOT) {
        static const int32_t token = 1;
        EngineRequest request = {.tokens = &token, .n_prompt = 1, .max_tokens = 1, .sampler = SAMPLER_GREEDY};
        uint32_t slot;
        Error err;
        // A sequence that no job owns is one that a job has left behind.
        s->fault_done = engine_active(s->engine) < JOBS - 2 && engine_admit(s->engine, &request, &slot, &err);
    } else if (s->config.fault == SIM_FAULT_FREED_PAGE) {
        KvNode *nodes = engine_pages(s->engine)->nodes;
        for (uint32_t i = 0; i < PAGES && !s->fault_done; i++) {
            s->fault_done = nodes[i].n_holders > 0 && nodes[i].n_tokens == 0;
            if (s->fault_done) nodes[i].n_holders = 0;
        }
    } else if (s->config.fault == SIM_FAULT_LOST_END) {
        JobEvent event;
        for (uint32_t n = EVENT_RING_ENTRIES - ring_room(&s->bridge.events); n > 0; n--) {
            if (!ring_pop(&s->bridge.events, &event)) return;
            bool is_last = event.kind == EVENT_END || event.kind == EVENT_ERROR;
            if (is_last && !s->fault_done) s->fault_done = true;
            else if (!ring_push(&s->bridge.events, &event)) wrong(s, "the event ring is full");
        }
    }
}

static void worker_turn(Sim *s) {
    Error err;
    if (sched_turn(s->sched, &err) == SCHED_TURN_LOST) wrong(s, "the engine was lost: %s", err.message);
    break_something(s);
    if (chance(s, 7000)) api_encoder_turn(s->api); // it has other things to do, too
    if (s->wants_wake && chance(s, 8000)) {        // now and then the news has to wait
        s->wants_wake = false;
        s->handler.on_wake(s->handler.context);
    }
    if (now_ms() < s->next_tick_ms) return;
    s->next_tick_ms = now_ms() + HTTP_TICK_MS;
    for (uint32_t i = 0; i < CONNECTIONS; i++)
        http_connection_tick(&s->connections[i]);
    s->handler.on_tick(s->handler.context, now_ms());
}

static bool check_engine(Sim *s) {
    const char *problem = engine_problem(s->engine);
    if (problem) return wrong(s, "%s", problem);
    if (engine_active(s->engine) == 0 && kv_pages_used(engine_pages(s->engine)))
        return wrong(s, "pages without a job");
    return true;
}

static bool check_invariants(Sim *s) {
    uint32_t taken = bridge_jobs_taken(&s->bridge);
    s->report->jobs_most = (uint32_t)max_u64(s->report->jobs_most, taken);
    if (engine_active(s->engine) > taken) {
        return wrong(s, "%u slots of the engine for %u jobs", engine_active(s->engine), taken);
    }
    if (!check_engine(s)) return false;
    for (uint32_t i = 0; i < JOBS; i++) {
        const Job *job = &s->bridge.jobs[i];
        if (!job->taken && job->arena.next != job->arena_start) return wrong(s, "a free job holds memory");
    }
    if (s->arena.next != s->arena_mark) return wrong(s, "the tables have grown");
    if (s->shared.large_bodies > HTTP_LARGE_BODIES_MAX) return wrong(s, "too many large bodies");
    return true;
}

static void sim_step(Sim *s) {
    s->report->steps++;
    virtual_ns += (1 + roll(s, 4)) * 250000ull;
    s->shared.now_ms = now_ms();
    for (uint32_t i = 0; i < VISITS_A_STEP; i++)
        visit(s, roll(s, CLIENTS));
    // Those with a connection get more attention than those without.
    for (uint32_t i = 0; i < CONNECTIONS; i++) {
        if (s->client_of[i] != UINT32_MAX && chance(s, 7000)) visit(s, s->client_of[i]);
    }
    worker_turn(s);
    settle(s);
    check_invariants(s);
}

// Everybody goes home: what is under way ends by itself, at the latest by the timeouts.
static void wind_down(Sim *s) {
    uint64_t until_ms = now_ms() + 200 * 1000;
    while (!s->report->problem[0] && now_ms() < until_ms && (s->n_open || bridge_jobs_taken(&s->bridge))) {
        sim_step(s);
        virtual_ns += 5 * 1000000;
    }
    if (s->n_open) wrong(s, "%u connections did not end", s->n_open);
    uint32_t taken = bridge_jobs_taken(&s->bridge);
    if (taken) wrong(s, "%u job slots were lost", taken);
    if (engine_active(s->engine) || kv_pages_used(engine_pages(s->engine)))
        wrong(s, "the engine did not become idle");
    engine_drop_cache(s->engine);
    if (engine_pages(s->engine)->n_free != PAGES) wrong(s, "pages were lost");
    if (s->shared.large_bodies) wrong(s, "large bodies did not end");
    bridge_stop(&s->bridge);
    Error err;
    if (sched_turn(s->sched, &err) != SCHED_TURN_STOPPED) wrong(s, "the scheduler does not stop");
}

bool sim_run(const SimConfig *config, SimReport *report) {
    Sim *s = sim_open(config, report);
    if (!s) return false;
    while (s->jobs_begun < config->jobs && !report->problem[0])
        sim_step(s);
    if (!report->problem[0]) wind_down(s);
    report->virtual_ms = now_ms();
    note(s, report->steps);
    sim_close(s);
    return report->problem[0] == 0;
}
