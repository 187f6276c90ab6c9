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

static void run_program(const char *name, const char *arguments) {
    char command[8192];
    snprintf(command, sizeof command, "exec python3 %s/%s %s", test_data_path("clients"), name, arguments);
    CHECK_INT_EQ(0, system(command));
}

static void run_with_workers(const char *name, const char *module) {
    char ports[64];
    if (test_is_sanitized()) SKIP("other people's clients: the plain run has them");
    test_needs_python(module);
    Workers w = start_workers();
    snprintf(ports, sizeof ports, "%u %u %u", fake_port(w.quick), fake_port(w.slow), fake_port(w.strict));
    run_program(name, ports);
}

TEST_SLOW(clients_openai, 180) {
    run_with_workers("check_openai.py", "openai");
}

TEST_SLOW(clients_langchain, 180) {
    run_with_workers("check_langchain.py", "langchain_openai");
}

// The package and the proxy.
TEST_SLOW(clients_litellm, 400) {
    run_with_workers("check_litellm.py", "litellm");
}
