// Memory that runs out: the N-th allocation fails, for N = 0, 1, 2 … until a start-up, or a request of each
// kind, gets through. Each failure is a clean error; what follows works.
#include "api/api_internal.h"
#include "backend/cpu/cpu_backend.h"
#include "gguf_builder.h"
#include "os/os.h"
#include "runner.h"
#include "sched/sched.h"

#include <stdio.h>

enum { ATTEMPTS_MAX = 5000 };

typedef struct {
    Arena arena;
    const GgufFile *file;
    Tokenizer *tokenizer;
    Plan *plan;
    Backend *backend;
    Bridge bridge;
    Engine *engine;
    Sched *sched;
    Api *api;
    HttpServer *server;
} Parts;

static Str tiny_file(void) {
    static Str file;
    TinyModel model = tiny_model_llama();
    if (!file.len) file = tiny_model_build(&model);
    return file;
}

static void ignore_wake(void *context) {
    (void)context;
}

// All that start-up allocates, in the worker's order.
static bool start_up(Parts *p, Arena arena, Arena scratch, Error *err) {
    *p = (Parts){.arena = arena};
    Str bytes = tiny_file();
    GgufPart part = {.data = (const uint8_t *)bytes.ptr, .size = bytes.len, .name = "tiny.gguf"};
    BackendOptions options = {.n_slots = 1,
                              .max_rows = 32,
                              .kv_texts = 1,
                              .kv_text_tokens = 256,
                              .n_threads = 1,
                              .model_path = "tiny.gguf"};
    if (!gguf_parse(&part, 1, &p->arena, &p->file, err) ||
        !tokenizer_from_gguf(p->file, &p->arena, scratch, &p->tokenizer, err) ||
        !plan_build(p->file, &p->arena, &p->plan, err) ||
        !cpu_backend_open(&options, &p->arena, &p->backend, err) ||
        !bridge_init(&p->bridge, 1, 0, api_job_arena_bytes(256), &p->arena, err)) {
        return false;
    }
    p->bridge.wake_io = ignore_wake;
    ApiConfig config = {.bridge = &p->bridge,
                        .tokenizer = p->tokenizer,
                        .max_tokens_out = 8,
                        .max_prompt_chars = PROMPT_CHARACTERS_MAX,
                        .inference_timeout_sec = 300,
                        .context_length = 256};
    if (!api_create(&config, &p->arena, &p->api, err)) return false;
    HttpServerConfig server = {
        .host = STR("127.0.0.1"), .connections_max = 2, .handler = api_handler(p->api)};
    if (!http_server_open(&p->server, &p->arena, &server, err) ||
        !p->backend->load(p->backend, p->plan, NULL, NULL, err) ||
        !engine_create(p->backend, p->plan, 1, &p->arena, &p->engine, err) ||
        !sched_create(&p->bridge, p->engine, p->tokenizer, &p->arena, &p->sched, err)) {
        return false;
    }
    p->bridge.status.context_length = engine_context_length(p->engine);
    bridge_set_phase(&p->bridge, WORKER_READY);
    return true;
}

static void shut_down(Parts *p) {
    if (p->engine) engine_end(p->engine);
    if (p->server) http_server_close(p->server);
    if (p->backend) p->backend->close(p->backend);
    for (uint32_t i = 0; p->bridge.jobs && i < p->bridge.n_jobs; i++) {
        Job *job = &p->bridge.jobs[i];
        if (job->arena_start) os_release(job->arena_start, (size_t)(job->arena.end - job->arena_start));
    }
}

static bool is_no_memory(const Error *err) {
    return err->code == ERR_NO_MEMORY && err->message[0];
}

TEST_SLOW(faults_every_allocation_of_start_up, 120) {
    Parts parts;
    Error err;
    uint32_t attempts = 0;
    const size_t size = 64u << 20;
    void *memory = os_reserve(size), *scratch_memory = os_reserve(size);
    REQUIRE(memory && scratch_memory);
    for (bool done = false; !done && attempts < ATTEMPTS_MAX; attempts++) {
        uint64_t countdown = attempts;
        Arena arena = arena_from_memory(memory, size), scratch = arena_from_memory(scratch_memory, size);
        arena.fail_countdown = scratch.fail_countdown = &countdown;
        err = (Error){0};
        TEST_CASE_LABEL("allocation %u", attempts);
        done = start_up(&parts, arena, scratch, &err);
        if (!done && !CHECK(is_no_memory(&err))) printf("%s\n", err.message);
        shut_down(&parts);
    }
    printf("%u allocations\n", attempts - 1);
    CHECK(attempts > 20 && attempts < ATTEMPTS_MAX);
}

// ---- requests ----

typedef struct {
    HttpShared shared;
    HttpConnection connection;
    HttpHandler handler;
    char answer[64 * 1024];
    size_t length;
} Client;

static void take_output(Client *c) {
    for (HttpConnection *h; (h = http_shared_take_dirty(&c->shared));)
        http_connection_advance(h);
    for (Str out; (out = http_connection_output(&c->connection)).len;) {
        REQUIRE(c->length + out.len < sizeof c->answer);
        memcpy(c->answer + c->length, out.ptr, out.len);
        c->length += out.len;
        http_connection_sent(&c->connection, out.len);
    }
    for (HttpConnection *h; (h = http_shared_take_dirty(&c->shared));)
        http_connection_advance(h);
}

// Sends a request and lets the worker run until it has nothing to do; the status.
static int converse(Parts *p, Client *c, const char *method, const char *path, const char *body) {
    char request[1024];
    int length = snprintf(request, sizeof request,
                          "%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n%s", method, path,
                          strlen(body), body);
    c->length = 0;
    HttpRoom room = http_connection_input_room(&c->connection);
    REQUIRE(room.len >= (size_t)length);
    memcpy(room.ptr, request, (size_t)length);
    http_connection_received(&c->connection, (size_t)length);
    Error err;
    do {
        while (api_encoder_turn(p->api)) {
        }
        c->handler.on_wake(c->handler.context);
        take_output(c);
    } while (sched_turn(p->sched, &err) == SCHED_TURN_WORKED);
    c->handler.on_wake(c->handler.context);
    take_output(c);
    CHECK(c->length > 12 && memcmp(c->answer, "HTTP/1.1 ", 9) == 0);
    return c->length > 12 ? (c->answer[9] - '0') * 100 + (c->answer[10] - '0') * 10 + c->answer[11] - '0' : 0;
}

static void set_countdown(Parts *p, uint64_t *countdown) {
    p->api->json_arena.fail_countdown = countdown;
    p->api->requests[0].memory.fail_countdown = countdown;
    p->api->lanes[LANE_SMALL].scratch.fail_countdown = countdown;
    p->bridge.jobs[0].arena.fail_countdown = countdown;
}

TEST_SLOW(faults_every_allocation_of_each_request, 120) {
    static const struct {
        const char *method, *path, *body;
        int status;
    } rows[] = {
        {"POST", "/execute",
         "{\"job_id\":\"a\",\"prompt\":\"Hello there\",\"max_tokens\":4,\"stop\":[\"xyzzy\",\"plugh\"]}",
         200},
        {"POST", "/execute", "{\"job_id\":\"a\",\"prompt\":\"Hello \\u00e9\",\"max_tokens\":2,\"seed\":1}",
         200},
        {"POST", "/execute", "{\"job_id\":\"a\"}", 400},
        {"POST", "/cancel", "{\"job_id\":\"b\\n\"}", 202},
        {"GET", "/health", "", 200},
        {"GET", "/metrics", "", 200},
        {"GET", "/nothing", "", 404},
    };
    Parts parts, *p = &parts;
    Error err;
    Client *c = os_reserve(sizeof *c);
    char *memory = os_reserve(HTTP_INPUT_BYTES + HTTP_OUTPUT_BYTES_MAX);
    REQUIRE(c && memory);
    if (!start_up(p, os_arena(64u << 20), os_arena(64u << 20), &err)) FAIL("%s", err.message), test_end();
    c->handler = api_handler(p->api);
    http_shared_init(&c->shared, &c->handler, &(HttpTimeouts){0});
    http_connection_init(&c->connection, &c->shared, memory, memory + HTTP_INPUT_BYTES);
    http_connection_open(&c->connection);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        int status = 0;
        uint32_t n = 0;
        for (; status != rows[i].status && n < ATTEMPTS_MAX; n++) {
            uint64_t countdown = n;
            TEST_CASE_LABEL("%s %.40s, allocation %u", rows[i].path, rows[i].body, n);
            set_countdown(p, &countdown);
            status = converse(p, c, rows[i].method, rows[i].path, rows[i].body);
            set_countdown(p, NULL);
            if (status != rows[i].status) {
                c->answer[c->length] = 0;
                if (!CHECK(status == 500 && strstr(c->answer, "\"INTERNAL\""))) printf("%s\n", c->answer);
            }
            // Nothing was kept, and the next one works.
            CHECK_INT_EQ(0, bridge_jobs_taken(&p->bridge));
            CHECK_INT_EQ(0, engine_active(p->engine));
            CHECK(p->bridge.jobs[0].arena.next == p->bridge.jobs[0].arena_start);
            CHECK_INT_EQ(200, converse(p, c, rows[0].method, rows[0].path, rows[0].body));
        }
        printf("%s: %u allocations\n", rows[i].path, n - 1);
        CHECK(n < ATTEMPTS_MAX && (rows[i].body[0] == 0 || n > 1));
    }
    shut_down(p);
    os_release(memory, HTTP_INPUT_BYTES + HTTP_OUTPUT_BYTES_MAX);
}
