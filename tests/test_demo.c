// The demo of ./build.sh run: a program that starts a worker and is its client.
#include "gguf_builder.h"
#include "runner.h"
#include "worker_process.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

// The exit status of the demo with this model; what it printed, both kinds, in `out`.
static int run_demo(const char *model, char *out, size_t out_size) {
    char folder[512], command[2048];
    snprintf(folder, sizeof folder, "%s", test_program_path());
    *strrchr(folder, '/') = 0;
    snprintf(command, sizeof command, "'%s/demo' '%s' '%s' cpu '%s' 2>&1 </dev/null", folder,
             test_program_path(), model, test_tmp_path("log"));
    FILE *pipe = popen(command, "r");
    REQUIRE(pipe != NULL);
    size_t got = fread(out, 1, out_size - 1, pipe);
    out[got] = 0;
    int status = pclose(pipe);
    printf("%s", out);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void check_in_order(const char *out, const char *const *parts, size_t n_parts) {
    const char *at = out;
    for (size_t i = 0; i < n_parts; i++) {
        TEST_CASE_LABEL("%s", parts[i]);
        const char *found = strstr(at, parts[i]);
        if (CHECK(found != NULL)) at = found;
    }
}

TEST(demo_asks_shows_and_shuts_down) {
    static char out[65536];
    static const char *const parts[] = {"> Write a haiku about autumn.\n\n",
                                        " tokens in), ",
                                        " tokens/s\n",
                                        "To ask it yourself: ",
                                        "worker-orcd serve ",
                                        " --device cpu\n",
                                        "curl -N http://127.0.0.1:8080/v1/chat/completions",
                                        "\"max_tokens\":64",
                                        "from openai import OpenAI",
                                        "The worker has shut down.\n"};
    CHECK_INT_EQ(0, run_demo(tiny_model_file(), out, sizeof out));
    check_in_order(out, parts, COUNT_OF(parts));
}

// A model without a template goes on with a text.
TEST(demo_asks_a_model_without_a_template) {
    static char out[65536];
    static const char *const parts[] = {"> Write a haiku about autumn.\n\n", " tokens/s\n",
                                        "curl -N http://127.0.0.1:8080/v1/completions",
                                        "The worker has shut down.\n"};
    TinyModel model = tiny_model_llama();
    const char *path = test_tmp_path("plain.gguf");
    model.no_template = true;
    tiny_model_save(&model, path);
    CHECK_INT_EQ(0, run_demo(path, out, sizeof out));
    check_in_order(out, parts, COUNT_OF(parts));
}

TEST(demo_says_why_the_worker_ended) {
    char out[4096];
    CHECK_INT_EQ(1, run_demo(tmp_file_write("note.txt", "not a model"), out, sizeof out));
    CHECK(strstr(out, "demo: the worker ended: ") && strstr(out, "note.txt"));
}
