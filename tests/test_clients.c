// Other people's clients and routers, unmodified, against workers on this machine: the programs in clients/.
//
// Where an answer's text matters, the worker's backend repeats what the client tells it to say, so that the
// real API, template, tokenizer, scheduler and parser are between the two. Not under a sanitizer: the same
// ways through the worker have cases of their own there, and most of the time would be Python's.
#include "api_client.h"
#include "fake_worker.h"
#include "os/os.h"
#include "runner.h"
#include "worker_process.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static const char *chat_template(void) {
    Arena arena = os_arena(1 << 16);
    Error err;
    Str text;
    REQUIRE(os_file_read(test_data_path("clients/template.jinja"), 1 << 15, &arena, &text, &err));
    char *copy = arena_new(&arena, char, text.len + 1);
    REQUIRE(copy);
    memcpy(copy, text.ptr, text.len);
    return copy;
}

static FakeWorker *start(FakeConfig config) {
    config.repeats_prompt = true;
    config.chat_template = chat_template();
    config.tool_format = "hermes";
    config.context = 4096;
    return fake_worker_start(&config);
}

// The workers that most of the programs ask.
typedef struct {
    FakeWorker *quick;  // answers at once
    FakeWorker *slow;   // one job, no waiting room, 20 ms a token
    FakeWorker *strict; // wants the token "secret", and its model's name
} Workers;

static Workers start_workers(void) {
    return (Workers){
        .quick = start((FakeConfig){.n_jobs = 4, .n_queued = 64}),
        .slow = start((FakeConfig){.step_ms = 20}),
        .strict = start((FakeConfig){.tokens = "secret\n", .strict_model_name = true}),
    };
}

// Where the packages are (clients/requirements.txt); what is not there may be on the machine.
static void need(const char *module) {
    test_needs_plain_run();
    setenv("PYTHONPATH", test_root_path("build/clients"), 1);
    setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True", 1); // it asks the network otherwise
    test_needs_python_of("tests/clients/requirements.txt", module);
}

static void run_program(const char *name, const char *arguments) {
    char command[8192];
    snprintf(command, sizeof command, "exec python3 %s/%s %s", test_data_path("clients"), name, arguments);
    CHECK_INT_EQ(0, system(command));
}

static void run_with_workers(const char *name, const char *module) {
    char ports[64];
    need(module);
    Workers w = start_workers();
    snprintf(ports, sizeof ports, "%u %u %u", fake_port(w.quick), fake_port(w.slow), fake_port(w.strict));
    run_program(name, ports);
}

TEST_SLOW(clients_openai, 180) {
    run_with_workers("check_openai.py", "openai");
}

TEST_SLOW(clients_anthropic, 180) {
    run_with_workers("check_anthropic.py", "anthropic");
}

TEST_SLOW(clients_langchain, 180) {
    run_with_workers("check_langchain.py", "langchain_openai");
}

// The package and the proxy.
TEST_SLOW(clients_litellm, 400) {
    run_with_workers("check_litellm.py", "litellm");
}

// ---- routers, in front of two worker processes ----

static void run_router(const char *kind, const char *module) {
    char arguments[4096];
    need(module);
    snprintf(arguments, sizeof arguments, "%s %s %s %s", kind, test_program_path(), tiny_model_file(),
             test_data_path("clients/template.jinja"));
    run_program("check_routers.py", arguments);
}

TEST_SLOW(clients_vllm_router, 400) {
    run_router("vllm", "vllm_router");
}

TEST_SLOW(clients_sglang_router, 400) {
    run_router("sglang", "sglang_router");
}

// ---- many at once, and the end under load ----

// SOAK_CHATS=10000 for the long one. (A cache that is full after the warm-up.)
TEST_SLOW(clients_soak_leaves_no_memory, 900) {
    const char *given = getenv("SOAK_CHATS");
    uint64_t chats = 500;
    char flags[4096], command[4096];
    if (test_is_sanitized()) SKIP("memory is not the program's own there");
    if (given) REQUIRE(str_parse_u64(str_from_c(given), &chats));
    snprintf(flags, sizeof flags, "--max-jobs 8 --kv-cache-size-mb 1 --chat-template %s",
             test_data_path("clients/template.jinja"));
    Server s = server_start(tiny_model_file(), flags);
    snprintf(command, sizeof command, "exec python3 %s %u %d %llu %llu", test_data_path("clients/soak.py"),
             s.port, (int)s.process.pid, (unsigned long long)(chats < 4000 ? chats / 4 : 1000),
             (unsigned long long)chats);
    CHECK_INT_EQ(0, system(command));
    kill(s.process.pid, SIGTERM);
    CHECK_INT_EQ(0, process_wait(s.process));
}

typedef struct {
    Server server;
    OsThread thread;
    uint16_t status;
    Str answer;
} Chat;

// Of all chats of the case, so that they fit into the 30 seconds that jobs have after SIGTERM, under a
// sanitizer on a busy machine, too.
static unsigned chat_tokens(void) {
    return test_is_sanitized() ? 25 : 100;
}

static void *ask_chat(void *argument) {
    Chat *c = argument;
    char body[160];
    snprintf(body, sizeof body,
             "{\"messages\":[{\"role\":\"user\",\"content\":\"Tell me.\"}],\"max_tokens\":%u,"
             "\"ignore_eos\":true}",
             chat_tokens());
    c->answer = server_ask(c->server, "POST", "/v1/chat/completions", body, &c->status);
    return NULL;
}

static uint64_t number_after(Str text, const char *words) {
    const char *at = memmem(text.ptr, text.len, words, strlen(words));
    return CHECK(at != NULL) ? strtoull(at + strlen(words), NULL, 10) : 0;
}

// SIGTERM while chats run and wait: all are answered, and the worker ends by itself.
TEST(clients_drain_answers_what_waits) {
    enum { CHATS = 20 };
    static Chat chats[CHATS];
    char length[48];
    snprintf(length, sizeof length, "\"completion_tokens\":%u,", chat_tokens());
    Error err;
    char flags[4096];
    uint16_t status;
    snprintf(flags, sizeof flags, "--max-jobs 2 --chat-template %s",
             test_data_path("clients/template.jinja"));
    Server s = server_start(tiny_model_file(), flags);
    for (int i = 0; i < CHATS; i++) {
        chats[i].server = s;
        REQUIRE(os_thread_start(&chats[i].thread, "chat", ask_chat, &chats[i], &err));
    }
    uint64_t arrived = 0;
    for (int tries = 0; tries < 30000 && arrived < CHATS; tries++) {
        // What ends between the two questions is in neither answer, and counted next time.
        arrived = number_after(server_ask(s, "GET", "/metrics", "", &status), "outcome=\"success\"} ");
        Str health = server_ask(s, "GET", "/health", "", &status);
        arrived += number_after(health, "\"jobs_active\":") + number_after(health, "\"jobs_queued\":");
    }
    REQUIRE(arrived == CHATS);
    kill(s.process.pid, SIGTERM);
    for (int i = 0; i < CHATS; i++) {
        os_thread_join(&chats[i].thread);
        TEST_CASE_LABEL("chat %d", i);
        CHECK_INT_EQ(200, chats[i].status);
        CHECK(text_contains(chats[i].answer, length));
    }
    TEST_CASE_LABEL("%s", "");
    CHECK_INT_EQ(0, process_wait(s.process));
}
