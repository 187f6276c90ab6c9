// The load generator's command against this worker, on the CPU, with each of the three APIs.
#include "json/json_reader.h"
#include "os/os.h"
#include "runner.h"
#include "worker_process.h"

#include <signal.h>
#include <stdio.h>

// `code` is the status that the command must end with.
static const JsonNode *load(const Server *server, const char *api, const char *more, int code, Arena *arena) {
    char line[512], url[64];
    snprintf(url, sizeof url, "http://127.0.0.1:%u", server->port);
    snprintf(line, sizeof line, "load --server %% --api %s --json %s", api, more);
    Process p = process_start(line, (const char *[]){url}, NULL);
    if (process_wait(p) != code) FAIL("%s", process_read_file(p.err_path).ptr), test_end();
    Error err;
    const JsonNode *root = json_parse(process_read_file(p.out_path), arena, &(JsonLimits){0}, &err);
    if (!root) FAIL("%s", err.message), test_end();
    return root;
}

static double number_of(const JsonNode *object, const char *key) {
    double value = -1;
    CHECK(json_read_f64(json_get(object, str_from_c(key)), &value));
    return value;
}

TEST(load_measures_this_worker) {
    static const char *const apis[] = {"chat", "completions", "execute"};
    const char *template = tmp_file_write(
        "template", "{% for m in messages %}<{{ m.role }}> {{ m.content }}\n{% endfor %}<assistant>");
    char flags[512];
    snprintf(flags, sizeof flags, "--device cpu --threads 1 --max-jobs 4 --chat-template %s", template);
    Server server = server_start_with(tiny_model_file(), flags);
    unsigned n_prompt = test_is_sanitized() ? 30 : 300; // nearly all of the time is the reading of prompts
    for (size_t i = 0; i < COUNT_OF(apis); i++) {
        TEST_CASE_LABEL("%s", apis[i]);
        Arena arena = os_arena(1 << 22);
        snprintf(flags, sizeof flags,
                 "--clients 4 --requests 12 --prompt-tokens %u --output-tokens 8 --seed 1 --seed-requests "
                 "--temperature 0.8",
                 n_prompt);
        const JsonNode *root = load(&server, apis[i], flags, 0, &arena);
        CHECK_NEAR(12, number_of(root, "answered"), 0);
        CHECK_NEAR(0, number_of(root, "failed"), 0);
        CHECK_NEAR(12, number_of(root, "ended_by_length"), 0); // ignore_eos is on
        CHECK_NEAR(12 * 8, number_of(root, "output_tokens"), 0.1);
        CHECK_NEAR(12 * n_prompt, number_of(root, "prompt_tokens"), 12 * 15); // by the calibration
        CHECK_NEAR(12, number_of(json_get(root, STR("first_token_ms")), "count"), 0);
        Str counted;
        CHECK(json_read_str(json_get(root, STR("tokens_counted_by")), &counted));
        CHECK_STR_EQ("usage", counted);
    }
    TEST_CASE_LABEL("%s", "turns");
    Arena arena = os_arena(1 << 22);
    const JsonNode *root =
        load(&server, "chat",
             "--clients 2 --requests 6 --turns 3 --prompt-tokens 60 --output-tokens 8 --seed 2", 0, &arena);
    CHECK_NEAR(6, number_of(root, "answered"), 0);
    // Two conversations: 60 tokens, 60 more behind an answer of 8, and once more. On top come the template's
    // for each turn, and an answer read again may be more tokens than it was written as.
    double least = 2 * (60 + 128 + 196), read = number_of(root, "prompt_tokens");
    CHECK(read > least && read < least + 2 * 3 * 100);
    TEST_CASE_LABEL("%s", "busy");
    arena = os_arena(1 << 22);
    snprintf(flags, sizeof flags, "--rate 500 --requests 40 --prompt-tokens %u --output-tokens 30 --seed 3",
             n_prompt);
    root = load(&server, "execute", flags, 1, &arena);
    const JsonNode *errors = json_get(root, STR("errors"));
    REQUIRE(errors && errors->length == 1);
    Str kind;
    CHECK(json_read_str(json_get(json_first(errors), STR("kind")), &kind));
    CHECK_STR_EQ("refused with 503 BUSY", kind);
    CHECK_NEAR(40, number_of(root, "answered") + number_of(root, "failed"), 0);
    kill(server.process.pid, SIGTERM);
    CHECK_INT_EQ(0, process_wait(server.process));
}
