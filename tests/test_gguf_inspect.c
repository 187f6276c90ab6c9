// worker-orcd inspect, as a program: what it prints, and how it ends.

#include "runner.h"

#include "base/strbuf.h"
#include "arch_models.h"
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
    Str text = run_inspect(test_tmp_path("tiny.gguf"), "--tensors", &code);
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
    CHECK(str_ends_with(text, STR("\n\nThis model can be run.\n"))); // where a terminal shows it
    text = run_inspect(test_tmp_path("tiny.gguf"), "", &code);
    CHECK_INT_EQ(0, code);
    CHECK(!contains(text, "blk.1."));
    CHECK(str_ends_with(text, STR("\n\n--tensors lists the tensors, too.\n\nThis model can be run.\n")));
}

// Numbers that differ from layer to layer are a range; the metadata have them all.
TEST(gguf_inspect_says_between_what_layers_are) {
    static const int32_t heads[] = {0, 0, 8, 2}, alike[] = {512, 512, 512, 512};
    GgufBuilder b = gguf_builder_begin();
    gguf_builder_put_str(&b, "general.architecture", "llama");
    gguf_builder_put_u32(&b, "llama.attention.head_count", 8);
    gguf_builder_put_i32s(&b, "llama.attention.head_count_kv", heads, COUNT_OF(heads));
    gguf_builder_put_i32s(&b, "llama.feed_forward_length", alike, COUNT_OF(alike));
    gguf_builder_put_i32s(&b, "llama.expert_count", alike, 0);
    REQUIRE(gguf_builder_save(gguf_builder_end(&b), test_tmp_path("layers.gguf")));
    int code;
    Str text = run_inspect(test_tmp_path("layers.gguf"), "", &code);
    CHECK_INT_EQ(0, code);
    CHECK(contains(text, "\n  heads           8, 0 to 8 for keys and values\n"));
    CHECK(contains(text, "\n  feed-forward    512\n"));
    CHECK(contains(text, "\n  llama.attention.head_count_kv = [4 i32] 0 0 8 2\n"));
}

// What a file needs that is not here is said in one sentence, and the rest is shown all the same.
TEST(gguf_inspect_says_what_is_not_supported) {
    static const struct {
        const char *name;
        const char *architecture; // NULL: the usual one
        bool other_tokenizer;
        uint32_t odd_type; // 0: none
        const char *extra; // a tensor more
        const char *sentence;
        const char *json;
    } rows[] = {
        {"all is well", .sentence = "\nThis model can be run.\n", .json = "\"supported\":true"},
        {"architecture", .architecture = "mamba",
         .sentence =
             ": general.architecture: \"mamba\" is not supported; --list-architectures names those that "
             "are.\n",
         .json = "\"supported\":false,\"model_error\":"},
        {"tensor type", .odd_type = 9,
         .sentence = "\nThis model cannot be run: tensor \"odd\": tensor type Q8_1 is not supported.\n",
         .json = "\"unsupported_tensors\":[{\"name\":\"odd\",\"type_id\":9,\"type\":\"Q8_1\"}]"},
        {"a type of no name", .odd_type = 999,
         .sentence = "\nThis model cannot be run: tensor \"odd\": tensor type 999 is not known.\n",
         .json = "{\"name\":\"odd\",\"type_id\":999}"},
        {"tokenizer", .other_tokenizer = true, .sentence = "\nThis tokenizer cannot be used: ",
         .json = "\"supported\":false,\"tokenizer_error\":\""},
        {"a vision model in the same file", .extra = "v.blk.0.attn_q.weight",
         .sentence = "\nThis model can be run.\nTensors that the model does without: vision: 1 tensor.\n",
         .json = "\"skipped_tensors\":\"vision: 1 tensor\""},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].name);
        TinyModel m = tiny_model_llama();
        if (rows[i].architecture) m.architecture = rows[i].architecture;
        GgufBuilder b = gguf_builder_begin();
        tiny_model_put_metadata(&b, &m);
        tiny_model_add_tensors(&b, &m);
        if (rows[i].odd_type) gguf_builder_add_row(&b, STR("odd"), 1, (uint64_t[]){256}, rows[i].odd_type, 0);
        if (rows[i].extra) gguf_builder_add_tensor(&b, rows[i].extra, DTYPE_F32, 1, (uint64_t[]){8}, NULL);
        Str bytes = gguf_builder_end(&b);
        if (rows[i].other_tokenizer) {
            char *kind = memmem(bytes.ptr, bytes.len, "gpt2", 4);
            REQUIRE(kind);
            memcpy(kind, "bert", 4);
        }
        REQUIRE(gguf_builder_save(bytes, test_tmp_path("some.gguf")));
        int code;
        Str text = run_inspect(test_tmp_path("some.gguf"), "--tensors", &code);
        CHECK_INT_EQ(0, code);
        if (!contains(text, rows[i].sentence)) FAIL("not in it: %s", rows[i].sentence);
        CHECK(contains(text, "\n  layers          2\n")); // or what it can
        CHECK(contains(text, "  blk.1.ffn_down.weight     Q4_K"));
        text = run_inspect(test_tmp_path("some.gguf"), "--json", &code);
        CHECK_INT_EQ(0, code);
        if (!contains(text, rows[i].json)) FAIL("not in it: %s", rows[i].json);
    }
}

TEST(gguf_inspect_prints_plans) {
    TinyModel m = tiny_model_llama();
    tiny_model_save(&m, test_tmp_path("tiny.gguf"));
    int code;
    Str text = run_inspect(test_tmp_path("tiny.gguf"), "--plan", &code);
    CHECK_INT_EQ(0, code);
    CHECK(str_starts_with(text, STR("  0  EMBED      X =  token_embd.weight [1024, 256] Q6_K\n")));
    CHECK(contains(text, "\n  1  ATTENTION  A = Q  cache 1, 8 heads on 2, keys of 32, values of 32\n"));
    text = run_inspect(test_tmp_path("tiny.gguf"), "--plan --json", &code);
    CHECK_INT_EQ(0, code);
    Arena arena = os_arena(16 << 20);
    Error err = {0};
    const JsonNode *root = json_parse(text, &arena, &(JsonLimits){.nodes_max = NODES}, &err);
    REQUIRE(root);
    CHECK_INT_EQ(2, json_get(root, STR("caches"))->length);
    CHECK_INT_EQ(1 + 16 * 2 + 2, json_get(root, STR("operations"))->length);
    m.architecture = "mamba";
    tiny_model_save(&m, test_tmp_path("tiny.gguf"));
    text = run_inspect(test_tmp_path("tiny.gguf"), "--plan 2>&1", &code);
    CHECK_INT_EQ(1, code);
    CHECK(contains(text, "tiny.gguf: general.architecture: \"mamba\" is not supported"));
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

#if WORKER_ORCD_CUDA
// Without a GPU: what the model would need, and what of it fits.
TEST(gguf_inspect_says_what_fits) {
    static const struct {
        const char *flags;
        uint64_t cache_tokens;
        bool fits;
        uint64_t max_jobs;
        const char *said; // of the jobs
    } rows[] = {
        {"--vram-mb 8000", 64 * 2048, true, 64, "64 of 2,048 tokens each, the model's context.\n"},
        {"--vram-mb 8000 --max-jobs 4", 4 * 2048, true, 4, "4 of 2,048 tokens each, the model's context.\n"},
        {"--vram-mb 8000 --kv-cache-size-mb 1", 1952, true, 1, "1 of 1,952 tokens.\n"}, // 122 pages of 8,192
        {"--vram-mb 8000 --kv-cache-size-mb 5", 9760, true, 4,
         "4 of 2,048 tokens each, the model's context.\n"},
        {"--vram-mb 8000 --kv-cache-size-mb 5 --max-jobs 9", 9760, true, 9,
         "9 of 1,072 tokens each, or 4 of 2,048, the model's context.\n"},        // 610 pages: 67 each
        {"--vram-mb 8000 --kv-cache-size-mb 1 --kv-cache-type q8", 3664, true, 1, // 229 pages of 4,352 bytes
         "1 of 2,048 tokens, the model's context.\n"},
        {"--vram-mb 100", 0, false, 1, NULL},
        {"--vram-mb 270", 0, false, 1, NULL},
    };
    TinyModel m = tiny_model_llama();
    tiny_model_save(&m, test_tmp_path("tiny.gguf"));
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].flags);
        char flags[96];
        int code;
        snprintf(flags, sizeof flags, "--fit --json %s", rows[i].flags);
        Str text = run_inspect(test_tmp_path("tiny.gguf"), flags, &code);
        CHECK_INT_EQ(!rows[i].fits, code);
        Arena arena = os_arena(1 << 20);
        Error err = {0};
        const JsonNode *root = json_parse(text, &arena, &(JsonLimits){.nodes_max = NODES}, &err);
        REQUIRE(root);
        uint64_t total = 0, sum = 0, tokens = 0, a_token = 0, kv = 0, jobs = 0;
        static const char *const parts[] = {"weights_bytes", "work_bytes",    "states_bytes",
                                            "staging_bytes", "reserve_bytes", "kv_bytes"};
        for (size_t p = 0; p < COUNT_OF(parts); p++) {
            uint64_t bytes = 0;
            CHECK(json_read_u64(json_get(root, str_from_c(parts[p])), &bytes) && (bytes > 0) == (p != 2));
            sum += bytes;
            kv = bytes;
        }
        CHECK(json_read_u64(json_get(root, STR("total_bytes")), &total));
        CHECK(json_read_u64(json_get(root, STR("cache_tokens")), &tokens));
        CHECK(json_read_u64(json_get(root, STR("kv_bytes_per_token")), &a_token));
        CHECK_U64_EQ(sum, total);
        CHECK_U64_EQ(strstr(rows[i].flags, "q8") ? 2 * 2 * (34 + 34) : 2 * 2 * (32 + 32) * 2, a_token);
        CHECK_U64_EQ(rows[i].cache_tokens, tokens);
        CHECK(json_read_u64(json_get(root, STR("max_jobs")), &jobs));
        CHECK_U64_EQ(rows[i].max_jobs, jobs);
        if (rows[i].fits) CHECK_U64_EQ(tokens * a_token, kv);
        snprintf(flags, sizeof flags, "--fit %s 2>&1", rows[i].flags);
        text = run_inspect(test_tmp_path("tiny.gguf"), flags, &code);
        CHECK_INT_EQ(!rows[i].fits, code);
        CHECK(contains(text, "at once; the model's context has 2,048 tokens\n"));
        CHECK(contains(text, rows[i].fits ? " hold it; the cache has room for "
                                          : " MB of VRAM do not hold it: it needs "));
        if (rows[i].said && !contains(text, rows[i].said))
            FAIL("%s is not in %.*s", rows[i].said, STR_ARG(text));
        CHECK(json_read_u64(json_get(root, STR("job_tokens_max")), &jobs));
        CHECK_U64_EQ(min_u64(tokens, 2048), jobs);
    }
}

// A cache that a worker would refuse to start with does not fit either: 8,192 bytes a token.
TEST(gguf_inspect_refuses_a_cache_for_nothing) {
    TinyModel m = tiny_model_llama();
    m.layers = 32;
    tiny_model_save(&m, test_tmp_path("wide.gguf"));
    int code;
    Str text = run_inspect(test_tmp_path("wide.gguf"), "--fit --kv-cache-size-mb 1 2>&1", &code);
    CHECK_INT_EQ(1, code);
    CHECK(contains(text, "\n  key and value cache "));
    CHECK(contains(text,
                   "--kv-cache-size-mb 1: holds 112 of the context's 2048 tokens, and 256 are the least"));
    CHECK(!contains(text, "Jobs at once"));
    text = run_inspect(test_tmp_path("wide.gguf"), "--fit --json --kv-cache-size-mb 1", &code);
    CHECK_INT_EQ(1, code);
    CHECK(contains(text, "\"fits\":false,\"cache_tokens\":112,"));
    (void)run_inspect(test_tmp_path("wide.gguf"), "--fit --kv-cache-size-mb 5", &code);
    CHECK_INT_EQ(0, code);
}

// Layers with windows keep those of each job, so that many jobs have less of the cache than one.
TEST(gguf_inspect_says_that_windows_take_room) {
    int code;
    REQUIRE(gguf_builder_save(arch_model_build_long(arch_model_named("gemma3"), 65536),
                              test_tmp_path("windows.gguf")));
    Str text = run_inspect(test_tmp_path("windows.gguf"), "--fit --max-jobs 8 --kv-cache-size-mb 4", &code);
    CHECK_INT_EQ(0, code);
    if (!contains(text, "\nOne alone has more than all of them together, whose windows take room, too.\n"))
        FAIL("%.*s", STR_ARG(text));
}
#else
TEST(gguf_inspect_fit_needs_a_build_with_cuda) {
    TinyModel m = tiny_model_llama();
    tiny_model_save(&m, test_tmp_path("tiny.gguf"));
    int code;
    Str text = run_inspect(test_tmp_path("tiny.gguf"), "--fit 2>&1", &code);
    CHECK_INT_EQ(1, code);
    CHECK(contains(text,
                   "no CUDA in it (./build.sh makes one with it), so it cannot say what a GPU would hold"));
}
#endif

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

TEST(gguf_inspect_shows_warnings_of_the_vocabulary) {
    static const Str tokens[] = {STR("a"), STR("b"), STR("ab"), STR("<|im_end|>")}, merges[] = {STR("a b")};
    static const int32_t types[] = {1, 1, 1, 4};
    GgufBuilder b = gguf_builder_begin();
    gguf_builder_put_str(&b, "general.architecture", "llama");
    gguf_builder_put_str(&b, "tokenizer.ggml.model", "gpt2");
    gguf_builder_put_strs(&b, "tokenizer.ggml.tokens", tokens, COUNT_OF(tokens));
    gguf_builder_put_i32s(&b, "tokenizer.ggml.token_type", types, COUNT_OF(types));
    gguf_builder_put_strs(&b, "tokenizer.ggml.merges", merges, COUNT_OF(merges));
    REQUIRE(gguf_builder_save(gguf_builder_end(&b), test_tmp_path("warns.gguf")));
    int code;
    Str text = run_inspect(test_tmp_path("warns.gguf"), "", &code);
    CHECK_INT_EQ(0, code);
    CHECK(contains(text, "Vocabulary: the file has no tokenizer.ggml.pre; \"default\" is taken"));
    CHECK(contains(text, "they are taken as control tokens: <|im_end|> (3)."));
    text = run_inspect(test_tmp_path("warns.gguf"), "--json", &code);
    CHECK(contains(text, "\"tokenizer_warnings\":[\""));
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

TEST(gguf_inspect_refuses_flags_that_have_no_effect) {
    static const struct {
        const char *flags, *message;
    } rows[] = {{"--plan --fit --vram-mb 100 2>&1", "--plan and --fit exclude each other"},
                {"--vram-mb 100 2>&1", "--vram-mb: needs --fit"},
                {"--max-jobs 4 2>&1", "--max-jobs: needs --fit"},
                {"--kv-cache-size-mb 4 2>&1", "--kv-cache-size-mb: needs --fit"},
                {"--kv-cache-type q8 2>&1", "--kv-cache-type: needs --fit"},
                {"--checkpoints-size-mb 4 2>&1", "--checkpoints-size-mb: needs --fit"},
                {"--fit --tensors 2>&1", "--tensors: --plan and --fit print nothing else"},
                {"--json --tensors 2>&1", "--json has them"},
                {"--fit --device cpu 2>&1", "--fit says what a GPU's memory would hold"}};
    TinyModel m = tiny_model_llama();
    tiny_model_save(&m, test_tmp_path("tiny.gguf"));
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        int code;
        TEST_CASE_LABEL("%s", rows[i].flags);
        Str said = run_inspect(test_tmp_path("tiny.gguf"), rows[i].flags, &code);
        CHECK_INT_EQ(2, code);
        CHECK(contains(said, rows[i].message));
    }
    int code;
    CHECK(contains(run_inspect("", "2>&1", &code), "worker-orcd: FILE: must not be empty\n"));
    CHECK_INT_EQ(2, code);
}
