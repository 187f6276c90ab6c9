// The waiting room before the slots: who waits, in which order, and how they leave it.
#include "api_client.h"
#include "fake_worker.h"
#include "json_path.h"
#include "os/os.h"
#include "os/os_net.h"
#include "runner.h"
#include "worker_process.h"

#include <stdio.h>

#define COMPLETIONS "/v1/completions"

typedef struct {
    FakeWorker *f;
    const char *path, *body;
    HttpHeader header;
    Answer answer;
    uint64_t answered_ns;
    OsThread thread;
} Asking;

static void *ask_for_it(void *argument) {
    Asking *a = argument;
    a->answer = ask_with(fake_port(a->f), "POST", a->path, a->body, a->header);
    a->answered_ns = os_monotonic_ns();
    return NULL;
}

static Asking *ask_aside(FakeWorker *f, const char *path, const char *body) {
    Asking *a = os_reserve(sizeof *a);
    Error err;
    REQUIRE(a);
    *a = (Asking){.f = f, .path = path, .body = body};
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

TEST(api_queue_first_come_first_served) {
    FakeWorker *f = fake_worker_start(&(FakeConfig){.script = "abcdef", .n_queued = 3, .step_ms = 20});
    Asking *all[4];
    for (int i = 0; i < 4; i++) {
        char part[32];
        all[i] = ask_aside(f, COMPLETIONS, "{\"prompt\":\"p\"}");
        snprintf(part, sizeof part, i ? "\"jobs_queued\":%d" : "\"jobs_active\":%d", i ? i : 1);
        await_health(f, part);
    }
    // It is full: these clients come back, and /execute's orchestrator goes elsewhere.
    Answer a = ask(f, "POST", COMPLETIONS, "{\"prompt\":\"p\"}");
    CHECK_INT_EQ(429, a.status);
    CHECK_STR_EQ("1", answer_header(&a, "Retry-After"));
    CHECK_STR_EQ("rate_limit_error", json_text_at(json_root(a.body), "error.type"));
    CHECK_STR_EQ("1 job runs and 3 wait, which are all that may (--max-jobs, --max-queued)",
                 json_text_at(json_root(a.body), "error.message"));
    a = ask(f, "POST", "/execute", "{\"job_id\":\"j\",\"prompt\":\"p\"}");
    CHECK_INT_EQ(503, a.status);
    CHECK_STR_EQ("BUSY", json_text_at(json_root(a.body), "error.code"));
    CHECK(text_contains(ask(f, "GET", "/metrics", NULL).body, "worker_jobs_queued 3\n"));
    for (int i = 0; i < 4; i++) {
        os_thread_join(&all[i]->thread);
        CHECK_INT_EQ(200, all[i]->answer.status);
        if (i) CHECK(all[i]->answered_ns >= all[i - 1]->answered_ns);
    }
    CHECK(text_contains(ask(f, "GET", "/metrics", NULL).body, "worker_queue_ms_count 4\n"));
    shut_down(f);
}

// More answers than there can ever be is the request's fault.
TEST(api_queue_more_choices_than_places) {
    FakeWorker *f = fake_worker_start(&(FakeConfig){.script = "abc", .n_queued = 2});
    CHECK_INT_EQ(200, ask(f, "POST", COMPLETIONS, "{\"prompt\":\"p\",\"n\":3}").status);
    Answer a = ask(f, "POST", COMPLETIONS, "{\"prompt\":\"p\",\"n\":4}");
    CHECK_INT_EQ(400, a.status);
    CHECK_STR_EQ("n", json_text_at(json_root(a.body), "error.param"));
    shut_down(f);
}

// /execute takes a slot that nobody waits for, with a waiting room and without.
TEST(api_queue_leaves_execute_as_it_is) {
    FakeWorker *f = fake_worker_start(&(FakeConfig){.script = "abc", .n_queued = 2, .step_ms = 20});
    Stream *stream = open_stream(f, "{\"job_id\":\"j\",\"prompt\":\"p\"}", (HttpHeader){0});
    CHECK_INT_EQ(503, ask(f, "POST", "/execute", "{\"job_id\":\"k\",\"prompt\":\"p\"}").status);
    CHECK_INT_EQ(200, ask(f, "POST", COMPLETIONS, "{\"prompt\":\"p\"}").status); // waits
    read_until(stream, NULL);
    CHECK(text_contains(stream_text(stream), "event: end"));
    shut_down(f);
}

// Whoever hangs up, is cancelled or late leaves at once, and the next takes the place.
TEST(api_queue_is_left_at_once) {
    FakeWorker *f = fake_worker_start(&(FakeConfig){.n_queued = 1, .step_ms = 20, .context = 4096});
    Stream *stream = open_stream(f, "{\"job_id\":\"j\",\"prompt\":\"p\"}", (HttpHeader){0});
    read_until(stream, "event: token");
    int socket;
    size_t sent;
    Error err;
    static const char request[] =
        "POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 14\r\n\r\n"
        "{\"prompt\":\"p\"}";
    for (int round = 0; round < 3; round++) {
        REQUIRE(os_net_connect(STR("127.0.0.1"), fake_port(f), 60000, &socket, &err));
        REQUIRE(os_net_send(socket, str_from_c(request), &sent) == OS_NET_OK);
        await_health(f, "\"jobs_queued\":1");
        os_net_close(socket);
        await_health(f, "\"jobs_queued\":0");
    }
    Asking *late = ask_aside(f, COMPLETIONS, "{\"prompt\":\"p\"}");
    await_health(f, "\"jobs_queued\":1");
    fake_advance_clock(f, 301 * 1000);
    os_thread_join(&late->thread);
    CHECK_INT_EQ(504, late->answer.status);
    read_until(stream, NULL);
    CHECK(text_contains(stream_text(stream), "INFERENCE_TIMEOUT"));
    shut_down(f);
}

// What waits when the worker is told to stop is answered, too.
TEST(api_queue_drains) {
    FakeWorker *f = fake_worker_start(&(FakeConfig){.script = "abcdef", .n_queued = 5, .step_ms = 10});
    Asking *all[5];
    for (int i = 0; i < 5; i++)
        all[i] = ask_aside(f, COMPLETIONS, "{\"prompt\":\"p\"}");
    await_health(f, "\"jobs_queued\":4");
    CHECK_INT_EQ(202, ask(f, "POST", "/shutdown", NULL).status);
    for (int i = 0; i < 5; i++) {
        os_thread_join(&all[i]->thread);
        CHECK_INT_EQ(200, all[i]->answer.status);
    }
    fake_worker_join(f);
}

// One error is told, and the other answers of the request end.
TEST(api_queue_request_of_several_fails_once) {
    FakeWorker *f = fake_worker_start(&(FakeConfig){.n_queued = 7, .step_ms = 5, .context = 4096});
    Asking *asking = ask_aside(f, COMPLETIONS, "{\"prompt\":\"p\",\"n\":8}");
    await_health(f, "\"jobs_queued\":7");
    fake_emit_nan(f);
    os_thread_join(&asking->thread);
    CHECK_INT_EQ(500, asking->answer.status);
    await_health(f, "\"jobs_queued\":0");
    await_health(f, "\"jobs_active\":0");
    shut_down(f);
}
