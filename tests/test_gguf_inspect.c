// worker-orcd inspect, as a program: what it prints, and how it ends.

#include "runner.h"

#include "base/strbuf.h"
#include "gguf_builder.h"
#include "os/os.h"
#include "json/json_reader.h"

#include <stdio.h>
#include <sys/wait.h>

enum { OUTPUT_BYTES = 1 << 20, NODES = 1 << 14 };

// What the command writes to standard output, or with "2>&1" also to standard error.
static Str run_inspect(const char *path, const char *more, int *exit_code) {
    char command[1024];
    snprintf(command, sizeof command, "'%s' inspect '%s' %s", test_program_path(), path, more);
    Arena arena = os_arena(OUTPUT_BYTES);
    char *text = arena_new(&arena, char, OUTPUT_BYTES);
    FILE *pipe = popen(command, "r");
    REQUIRE(text && pipe);
    size_t length = fread(text, 1, OUTPUT_BYTES, pipe);
    int status = pclose(pipe);
    *exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    return (Str){text, length};
}

static bool contains(Str text, const char *part) {
    return memmem(text.ptr, text.len, part, strlen(part)) != NULL;
}

TEST(gguf_inspect_says_what_is_in_a_file) {
    TinyModel m = tiny_model_llama();
    tiny_model_save(&m, test_tmp_path("tiny.gguf"));
    int code;
    Str text = run_inspect(test_tmp_path("tiny.gguf"), "", &code);
    CHECK_INT_EQ(0, code);
    static const char *const parts[] = {
        "GGUF version 3, 1.1 MB, 21 tensors, 21 metadata keys\n",
        "\n  architecture    llama\n",
        "\n  parameters      1,639,680\n",
        "\n  quantisation    Q4_K\n",
        "\n  layers          2\n",
        "\n  heads           8, 2 for keys and values\n",
        "\n  context         2,048 tokens\n",
        "\n  rope            base 500000, 32 dimensions\n",
        "\n  kind            gpt2, pre-tokeniser llama-bpe\n",
        "\n  vocabulary      1,024 tokens, 49 merges\n",
        "\n  EOS             1,021  <|eot_id|>\n",
        "\n  chat template   yes, ",
        "\n  Q4_K             14         1,114,112      627 kB   59.0 %\n",
        "\n  blk.1.ffn_down.weight     Q4_K     73.7 kB  512 × 256\n",
        "\n  tokenizer.ggml.tokens = [1,024 string] ",
    };
    for (size_t i = 0; i < COUNT_OF(parts); i++)
        if (!contains(text, parts[i])) FAIL("not in it: %s", parts[i]);
}

TEST(gguf_inspect_json_is_json) {
    TinyModel m = tiny_model_llama();
    tiny_model_save(&m, test_tmp_path("tiny.gguf"));
    int code;
    Str text = run_inspect(test_tmp_path("tiny.gguf"), "--json", &code);
    CHECK_INT_EQ(0, code);
    Arena arena = os_arena(16 << 20);
    Error err = {0};
    const JsonNode *root = json_parse(text, &arena, &(JsonLimits){.nodes_max = NODES}, &err);
    if (!root) FAIL("%s", err.message);
    REQUIRE(root);
    const JsonNode *metadata = json_get(root, STR("metadata")), *tensors = json_get(root, STR("tensors"));
    const JsonNode *tokens = json_get(metadata, STR("tokenizer.ggml.tokens"));
    REQUIRE(json_is(tensors, JSON_ARRAY));
    const JsonNode *tensor = json_first(tensors);
    struct {
        const char *name;
        const JsonNode *object;
        uint64_t expected;
    } rows[] = {
        {"parameters", root, 1639680},
        {"version", root, 3},
        {"llama.context_length", metadata, 2048},
        {"tokenizer.ggml.eos_token_id", metadata, 1021},
        {"count", tokens, 1024},
        {"bytes", tensor, 1024 * 210},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].name);
        uint64_t value = 0;
        CHECK(json_read_u64(json_get(rows[i].object, str_from_c(rows[i].name)), &value));
        CHECK_U64_EQ(rows[i].expected, value);
    }
    Str kind = {0}, name = {0};
    CHECK(json_read_str(json_get(root, STR("quant_kind")), &kind));
    CHECK(json_read_str(json_get(tensor, STR("name")), &name));
    CHECK_STR_EQ("Q4_K", kind);
    CHECK_STR_EQ("token_embd.weight", name);
    CHECK_INT_EQ(21, tensors->length);
}

// A file from anywhere must not steer the terminal.
TEST(gguf_inspect_shows_control_characters) {
    GgufBuilder b = gguf_builder_begin();
    gguf_builder_put_str(&b, "general.architecture", "a\033[31mred\nb\xFF\x7F");
    REQUIRE(gguf_builder_save(gguf_builder_end(&b), test_tmp_path("evil.gguf")));
    int code;
    Str text = run_inspect(test_tmp_path("evil.gguf"), "", &code);
    CHECK_INT_EQ(0, code);
    CHECK(contains(text, "a\uFFFD[31mred␊b\uFFFD\uFFFD"));
    CHECK(!contains(text, "\033"));
}

TEST(gguf_inspect_refuses_bad_files) {
    static const struct {
        const char *name, *message;
    } rows[] = {{"cut.gguf", "but the file ends after"},
                {"missing.gguf", "cannot be opened"},
                {"", "is a directory"}};
    TinyModel m = tiny_model_llama();
    Str file = tiny_model_build(&m);
    REQUIRE(gguf_builder_save(str_slice(file, 0, 5000), test_tmp_path("cut.gguf")));
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].name);
        int code;
        Str text = run_inspect(test_tmp_path(rows[i].name), "2>&1", &code);
        CHECK_INT_EQ(1, code);
        if (!contains(text, rows[i].message)) FAIL("message: %.*s", STR_ARG(text));
    }
}
