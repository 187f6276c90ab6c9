// POST /execute over real sockets: bodies and prompts on their way through the encoder thread, ids and
// control tokens in its events.
#include "api_client.h"
#include "fake_worker.h"
#include "os/os.h"
#include "os/os_net.h"
#include "runner.h"
#include "worker_process.h"

#include <stdio.h>

// ---- the encoder thread ----

// A body of `bytes`: a request's fields, and blanks before them.
static Str padded_body(const char *fields, size_t bytes) {
    size_t length = strlen(fields);
    char *text = os_reserve(bytes + 1);
    REQUIRE(text && length <= bytes);
    memset(text, ' ', bytes - length);
    memcpy(text + bytes - length, fields, length);
    return (Str){text, bytes};
}

typedef struct {
    FakeWorker *f;
    const char *body;
    HttpHeader header;
    Answer answer;
    OsThread thread;
} Asking;

static void *ask_for_it(void *argument) {
    Asking *a = argument;
    a->answer = ask_with(fake_port(a->f), "POST", "/execute", a->body, a->header);
    return NULL;
}

static Asking *ask_aside(FakeWorker *f, const char *body, HttpHeader header) {
    Asking *a = os_reserve(sizeof *a);
    Error err;
    REQUIRE(a);
    *a = (Asking){.f = f, .body = body, .header = header};
    REQUIRE(os_thread_start(&a->thread, "asking", ask_for_it, a, &err));
    return a;
}

static void await_health(FakeWorker *f, const char *part) {
    for (int ms = 0; ms < 60000; ms++) {
        if (text_contains(ask(f, "GET", "/health", NULL).body, part)) return;
        os_sleep_ms(1);
    }
    FAIL("/health never said %s", part);
}

#define LARGE_BYTES (300 * 1024)

// The encoder stands still: everybody else is answered, and what waits for it waits, in its order.
TEST(api_blocked_encoder_blocks_nobody_else) {
    FakeWorker *f = fake_worker_start(&(FakeConfig){.script = "x", .n_jobs = 2, .hold_encoder = true});
    Asking *small = ask_aside(f, "{\"job_id\":\"small\",\"prompt\":\"p\"}", (HttpHeader){0});
    await_health(f, "\"jobs_active\":1");
    Asking *large = ask_aside(f, padded_body("{\"job_id\":\"large\",\"prompt\":\"p\"}", LARGE_BYTES).ptr,
                              (HttpHeader){0});
    for (int i = 0; i < 100; i++)
        CHECK_INT_EQ(200, ask(f, "GET", "/health", NULL).status);
    CHECK_INT_EQ(200, ask(f, "GET", "/metrics", NULL).status);
    CHECK_INT_EQ(400, ask(f, "POST", "/execute", "{}").status); // a small body needs no encoder to be wrong
    Answer a = ask(f, "POST", "/execute", "{\"job_id\":\"small\",\"prompt\":\"p\"}");
    CHECK(a.status == 400 && text_contains(a.body, "job_id: a job with this id is running"));
    CHECK(text_contains(ask(f, "GET", "/health", NULL).body, "\"jobs_active\":1"));
    fake_worker_release_encoder(f);
    os_thread_join(&small->thread);
    os_thread_join(&large->thread);
    CHECK_INT_EQ(200, small->answer.status);
    CHECK_INT_EQ(200, large->answer.status);
    CHECK(text_contains(large->answer.body, "event: end"));
    shut_down(f);
}

// Each way for a job to end while its prompt is being encoded, or its body parsed.
TEST(api_ends_while_encoding) {
    enum { CANCEL, DEADLINE, DRAIN, FAIL_ENGINE };
    static const struct {
        const char *name;
        int way;
        size_t bytes; // of the body: a large one has no job yet
        uint16_t status;
        const char *code;
    } rows[] = {
        {"cancelled", CANCEL, 64, 499, "CANCELLED"},
        {"too late", DEADLINE, 64, 504, "INFERENCE_TIMEOUT"},
        {"too late, a large body", DEADLINE, LARGE_BYTES, 504, "INFERENCE_TIMEOUT"},
        {"the worker shuts down, a large body", DRAIN, LARGE_BYTES, 503, "NOT_READY"},
        {"the worker shuts down: a job is finished", DRAIN, 64, 200, "event: end"},
        {"the backend is lost", FAIL_ENGINE, 64, 500, "CUDA_ERROR"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].name);
        FakeWorker *f = fake_worker_start(&(FakeConfig){.script = "x", .n_jobs = 2, .hold_encoder = true});
        bool has_job = rows[i].bytes < LARGE_BYTES;
        char ms[32];
        snprintf(ms, sizeof ms, "%llu", (unsigned long long)os_unix_ms() + 3000);
        HttpHeader soon = {rows[i].way == DEADLINE ? STR("X-Deadline") : (Str){0}, str_from_c(ms)};
        Asking *a = ask_aside(f, padded_body("{\"job_id\":\"j\",\"prompt\":\"p\"}", rows[i].bytes).ptr, soon);
        if (has_job) await_health(f, "\"jobs_active\":1");
        else os_sleep_ms(300); // until the body is here; if not, the case shows less
        if (rows[i].way == CANCEL) {
            CHECK(text_contains(ask(f, "POST", "/cancel", "{\"job_id\":\"j\"}").body, "cancelling"));
        } else if (rows[i].way == DEADLINE) {
            fake_advance_clock(f, 4000);
        } else if (rows[i].way == DRAIN) {
            CHECK_INT_EQ(202, ask(f, "POST", "/shutdown", "").status);
        } else {
            fake_fail(f, ERR_CUDA);
        }
        fake_worker_release_encoder(f);
        os_thread_join(&a->thread);
        CHECK_INT_EQ(rows[i].status, a->answer.status);
        if (!CHECK(text_contains(a->answer.body, rows[i].code))) printf("%.*s\n", STR_ARG(a->answer.body));
        if (rows[i].way == DRAIN || rows[i].way == FAIL_ENGINE) fake_worker_join(f);
        else shut_down(f);
    }
}

static void send_and_hang_up(FakeWorker *f, Str body) {
    int socket;
    Error err;
    char head[128];
    snprintf(head, sizeof head, "POST /execute HTTP/1.1\r\nHost: h\r\nContent-Length: %zu\r\n\r\n", body.len);
    Str parts[] = {str_from_c(head), body};
    REQUIRE(os_net_connect(STR("127.0.0.1"), fake_port(f), 60000, &socket, &err));
    for (size_t i = 0; i < COUNT_OF(parts); i++) {
        while (parts[i].len) {
            size_t sent = 0;
            OsNetResult result = os_net_send(socket, parts[i], &sent);
            REQUIRE(result == OS_NET_OK || result == OS_NET_WOULD_BLOCK);
            parts[i] = str_slice(parts[i], sent, parts[i].len);
            if (parts[i].len) REQUIRE(os_net_wait_ready(socket, true, 60000));
        }
    }
    os_sleep_ms(50); // it is with the encoder, mostly
    os_net_close(socket);
}

// A client that hangs up while its body is parsed or its prompt encoded: the slot comes back, and the next
// request, whose connection may have the same memory, has its own answer.
TEST(api_hang_up_while_encoding) {
    static const size_t sizes[] = {64, LARGE_BYTES};
    FakeWorker *f = fake_worker_start(&(FakeConfig){.script = "x", .hold_encoder = true});
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        for (int k = 0; k < 3; k++) {
            send_and_hang_up(f, padded_body("{\"job_id\":\"gone\",\"prompt\":\"p\"}", sizes[i]));
        }
    }
    fake_worker_release_encoder(f);
    await_health(f, "\"jobs_active\":0");
    Answer a = ask(f, "POST", "/execute", "{\"job_id\":\"next\",\"prompt\":\"p\"}");
    CHECK(a.status == 200 && text_contains(a.body, "\"job_id\":\"next\""));
    shut_down(f);
}

// Bodies around the sizes at which they take another way, and the largest, several at once.
TEST(api_bodies_of_every_size) {
    static const size_t sizes[] = {64,          64 * 1024, 64 * 1024 + 1,      512 * 1024,
                                   1024 * 1024, 3 << 20,   HTTP_BODY_BYTES_MAX};
    FakeWorker *f = fake_worker_start(&(FakeConfig){.script = "x", .n_jobs = COUNT_OF(sizes)});
    Asking *asking[COUNT_OF(sizes)];
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        char fields[64];
        snprintf(fields, sizeof fields, "{\"job_id\":\"size-%zu\",\"prompt\":\"p\"}", i);
        asking[i] = ask_aside(f, padded_body(fields, sizes[i]).ptr, (HttpHeader){0});
    }
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        char id[32];
        TEST_CASE_LABEL("%zu bytes", sizes[i]);
        os_thread_join(&asking[i]->thread);
        snprintf(id, sizeof id, "{\"job_id\":\"size-%zu\",", i);
        CHECK_INT_EQ(200, asking[i]->answer.status);
        CHECK(text_contains(asking[i]->answer.body, id) &&
              text_contains(asking[i]->answer.body, "event: end"));
    }
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        TEST_CASE_LABEL("wrong, %zu bytes", sizes[i]);
        Answer a = ask(f, "POST", "/execute", padded_body("{\"job_id\":\"j\",\"prompt\":1}", sizes[i]).ptr);
        CHECK(a.status == 400 && text_contains(a.body, "\"field\":\"prompt\""));
    }
    shut_down(f);
}

// More requests with large bodies than are read at once: the rest is told to come back.
TEST(api_many_large_bodies) {
    enum { N = 14 }; // fewer than HTTP takes
    FakeWorker *f = fake_worker_start(&(FakeConfig){.script = "x", .n_jobs = 1, .hold_encoder = true});
    Asking *asking[N];
    for (int i = 0; i < N; i++) {
        char fields[64];
        snprintf(fields, sizeof fields, "{\"job_id\":\"%d\",\"prompt\":\"p\"}", i);
        asking[i] = ask_aside(f, padded_body(fields, LARGE_BYTES).ptr, (HttpHeader){0});
    }
    os_sleep_ms(200);
    CHECK_INT_EQ(200, ask(f, "GET", "/health", NULL).status);
    fake_worker_release_encoder(f);
    int taken = 0;
    for (int i = 0; i < N; i++) {
        os_thread_join(&asking[i]->thread);
        Answer *a = &asking[i]->answer;
        taken += a->status == 200;
        if (a->status != 200) CHECK(a->status == 503 && text_contains(a->body, "\"code\":\"BUSY\""));
    }
    CHECK(taken > 0);
    CHECK(text_contains(ask(f, "GET", "/health", NULL).body, "\"jobs_active\":0"));
    CHECK_INT_EQ(200, ask(f, "POST", "/execute", "{\"job_id\":\"j\",\"prompt\":\"p\"}").status);
    shut_down(f);
}

// ---- ids, control tokens and log-probabilities in events ----

TEST(api_token_events_with_ids) {
    static const struct {
        const char *name, *fields, *part; // of the stream
    } rows[] = {
        {"as ever", "",
         "event: token\ndata: {\"t\":\"a\",\"i\":0}\n\nevent: token\ndata: {\"t\":\"b\",\"i\":1}\n"},
        {"ids", ",\"return_tokens\":true", "{\"t\":\"a\",\"i\":0,\"ids\":[@a]}"},
        {"ids of control tokens", ",\"return_tokens\":true",
         "{\"t\":\"\",\"i\":1,\"ids\":[@<|start_header_id|>]}"},
        {"the one that ended it", ",\"return_tokens\":true",
         "\"stop_reason\":\"eos\",\"stop_token\":@<|eot_id|>,"},
        {"shown", ",\"special_tokens\":true", "{\"t\":\"<|start_header_id|>\",\"i\":1}"},
        {"log-probability", ",\"logprobs\":0",
         "{\"t\":\"a\",\"i\":0,\"logprobs\":{\"id\":@a,\"logprob\":-0.5,\"best\":[]}}"},
        {"and the best", ",\"logprobs\":2,\"return_tokens\":true",
         "{\"t\":\"b\",\"i\":2,\"ids\":[@b],\"logprobs\":{\"id\":@b,\"logprob\":-0.5,\"best\":[{\"id\":0,"
         "\"logprob\":0},"
         "{\"id\":1,\"logprob\":-1}]}}"},
        {"nothing was cached", "", "\"tokens_in\":1,\"tokens_cached\":0,"},
        {"stopped by a control token", ",\"stop\":[\"<|start_header_id|>\"]", "\"tokens_out\":1,"},
        {"its reason", ",\"stop\":[\"<|start_header_id|>\"]", "\"stop_reason\":\"stop\",\"seed\""},
    };
    FakeWorker *f = fake_worker_start(&(FakeConfig){.script = "a<|start_header_id|>b"});
    const Tokenizer *t = fake_tokenizer(f);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].name);
        char body[256], memory[512];
        StrBuf part = STRBUF(memory);
        // "@token" stands for the token's id.
        for (const char *at = rows[i].part; *at;) {
            size_t plain = strcspn(at, "@");
            strbuf_put(&part, (Str){at, plain});
            at += plain;
            if (!*at) break;
            size_t length = strcspn(++at, "],");
            int32_t id = 0;
            while (!str_eq(tokenizer_piece(t, id, true), (Str){at, length}))
                id++;
            strbuf_printf(&part, "%d", id);
            at += length;
        }
        snprintf(body, sizeof body, "{\"job_id\":\"j\",\"prompt\":\"p\"%s}", rows[i].fields);
        Answer a = ask(f, "POST", "/execute", body);
        if (!CHECK(text_contains(a.body, memory))) printf("%s\n%.*s\n", memory, STR_ARG(a.body));
    }
    shut_down(f);
}

// Ids are taken as they are: no BOS, and a text that has one gets no other.
TEST(api_prompt_tokens) {
    static const struct {
        const char *fields;
        uint16_t status;
        const char *part;
    } rows[] = {
        {"\"prompt_tokens\":[5,6,7]", 200, "\"tokens_in\":3"},
        {"\"prompt_tokens\":[0]", 200, "\"tokens_in\":1"},
        {"\"prompt_tokens\":[1024]", 400, "prompt_tokens[0]: 1024 is out of range; allowed is 0 to 1023"},
        {"\"prompt_tokens\":[1],\"max_tokens\":2048", 400,
         "max_tokens: 2048 after a prompt of 1 token makes 2049; the context holds 2048"},
        {"\"prompt\":\"p\",\"prompt_tokens\":[1]", 400, "\"field\":\"prompt_tokens\""},
        {"\"logit_bias\":{\"sesame\":1},\"prompt\":\"p\"", 400, "\"field\":\"logit_bias\""},
    };
    FakeWorker *f = fake_worker_start(&(FakeConfig){.script = "x"});
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].fields);
        char body[256];
        snprintf(body, sizeof body, "{\"job_id\":\"j\",%s}", rows[i].fields);
        Answer a = ask(f, "POST", "/execute", body);
        CHECK_INT_EQ(rows[i].status, a.status);
        if (!CHECK(text_contains(a.body, rows[i].part))) printf("%.*s\n", STR_ARG(a.body));
        CHECK(!text_contains(a.body, "sesame"));
    }
    shut_down(f);
}
