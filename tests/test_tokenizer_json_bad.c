// tokenizer.json files with something wrong: a message that names the part and the place, and nothing worse.
#include "gguf_builder.h"
#include "guard.h"
#include "json_vocab.h"
#include "os/os.h"
#include "tokenizer_vectors.h"

#include <stdio.h>

static bool try_load(Str json, const GgufFile *model, Error *err) {
    Tokenizer *t;
    *err = (Error){.position = ERROR_NO_POSITION};
    return tokenizer_from_json(json, model, vectors_arena(), vectors_scratch(), &t, err);
}

static void check_refused(Str json, ErrCode code, const char *const words[3]) {
    Error err;
    if (!CHECK(!try_load(json, NULL, &err))) return;
    CHECK_INT_EQ(code, err.code);
    for (size_t k = 0; k < 3 && words[k]; k++) {
        if (!CHECK(strstr(err.message, words[k]) != NULL)) FAIL("%s", err.message);
    }
}

// ---- whole files ----

TEST(tokenizer_json_refuses_other_files) {
    static const struct {
        const char *json;
        ErrCode code;
        const char *words[3];
    } rows[] = {
        {"[]", ERR_BAD_FILE, {"byte 0", "an array, expected an object"}},
        {"{}", ERR_BAD_FILE, {"decoder", "missing"}},
        {"GGUF", ERR_BAD_FILE, {"invalid JSON at byte 0"}},
        {"{\"decoder\":{\"type\":\"Metaspace\"}}", ERR_BAD_FILE, {"model", "expected an object"}},
        {"{\"decoder\":{\"type\":\"Metaspace\"},\"model\":{\"type\":\"Unigram\"}}",
         ERR_UNSUPPORTED,
         {"model, byte 48", "\"Unigram\" is not supported", "BPE"}},
        {"{\"decoder\":{\"type\":\"Metaspace\"},\"model\":{\"type\":\"BPE\"}}",
         ERR_BAD_FILE,
         {"model, byte 40", "\"vocab\" is nothing, expected an object"}},
        {"{\"decoder\":{\"type\":\"Metaspace\"},\"model\":{\"vocab\":[]}}",
         ERR_BAD_FILE,
         {"\"vocab\" is an array"}},
        {"{\"decoder\":{\"type\":\"Metaspace\"},\"model\":{\"vocab\":{},\"merges\":[]}}",
         ERR_BAD_FILE,
         {"no tokens"}},
        {"{\"decoder\":{\"type\":\"Metaspace\"},\"model\":{\"vocab\":{\"a\":0}}}",
         ERR_BAD_FILE,
         {"\"merges\" is nothing, expected an array"}},
        {"{\"decoder\":{\"type\":\"Metaspace\"},\"model\":{\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]}}",
         ERR_BAD_FILE,
         {"model.vocab, byte 56", "\"a\" and \"b\" both have the id 0"}},
        {"{\"decoder\":{\"type\":\"Metaspace\"},\"model\":{\"vocab\":{\"a\":0,\"a\":1},\"merges\":[]}}",
         ERR_BAD_FILE,
         {"model.vocab", "\"a\" has two ids, 0 and 1"}},
        {"{\"decoder\":{\"type\":\"Metaspace\"},\"model\":{\"vocab\":{\"a\":-1},\"merges\":[]}}",
         ERR_BAD_FILE,
         {"the id of \"a\" is a number, expected a whole number"}},
        {"{\"decoder\":{\"type\":\"Metaspace\"},\"model\":{\"vocab\":{\"a\":\"0\"},\"merges\":[]}}",
         ERR_BAD_FILE,
         {"the id of \"a\" is a string"}},
        {"{\"decoder\":{\"type\":\"Metaspace\"},\"model\":{\"vocab\":{\"a\":1048575},\"merges\":[]}}",
         ERR_BAD_FILE,
         {"the id of \"a\" is 1048575, more than 1048574"}},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].json);
        check_refused(str_from_c(rows[i].json), rows[i].code, rows[i].words);
    }
}

TEST(tokenizer_json_refuses_large_files) {
    size_t size = 100u << 20;
    char *memory = os_reserve(size);
    REQUIRE(memory != NULL);
    memset(memory, ' ', 4096);
    check_refused((Str){memory, size}, ERR_BAD_FILE, (const char *[3]){"104857600 bytes", "67108864"});
    // As many values as fit in the largest file.
    size = TOKENIZER_JSON_BYTES_MAX;
    for (size_t i = 0; i < size; i++)
        memory[i] = i % 2 ? '0' : ',';
    memory[0] = '[';
    check_refused((Str){memory, size}, ERR_BAD_FILE,
                  (const char *[3]){"more than 8388608 values", "at byte"});
    os_release(memory, 100u << 20);
}

TEST_SLOW(tokenizer_json_refuses_files_cut_short, 120) {
    GuardedMemory guarded = guard_allocate(1 << 16);
    for (uint32_t which = 0; which < JSON_VOCAB_SAMPLES; which++) {
        Str json = json_vocab_write(&json_vocab_samples[which], vectors_arena());
        Error err;
        CHECK(try_load(guard_press(&guarded, json), NULL, &err));
        for (size_t size = 0; size < json.len; size++) {
            TEST_CASE_LABEL("sample %u, %zu bytes", which, size);
            CHECK(!try_load(guard_press(&guarded, str_slice(json, 0, size)), NULL, &err));
            CHECK_INT_EQ(ERR_BAD_FILE, err.code);
            CHECK(err.position <= size && err.position + 8 > size); // where the value that is cut begins
        }
    }
}

// ---- parts ----

#define LEVEL "{\"type\":\"ByteLevel\",\"add_prefix_space\":false}"
#define SPLIT(pattern) \
    "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" pattern "\"},\"behavior\":\"Isolated\"}"
#define CHAIN(key, steps) "{\"type\":\"Sequence\",\"" key "\":[" steps "]}"

static const struct {
    JsonVocab v; // over bytes: a decoder and a pre-tokeniser where there are none
    ErrCode code;
    const char *words[3];
} parts[] = {
    {{.merges = "[\"a\"]"}, ERR_BAD_FILE, {"model.merges, byte", "merge 0 is not two tokens"}},
    {{.merges = "[\"a \"]"}, ERR_BAD_FILE, {"merge 0 is not two tokens"}},
    {
        {.merges = "[\"a b\",7]"},
        ERR_BAD_FILE,
        {"merge 1 is not a pair"},
    },
    {{.tokens = "ab", .merges = "[\"a b\",[\"a\"]]"}, ERR_BAD_FILE, {"merge 1 is not a pair"}},
    {{.tokens = "ab", .merges = "[[\"a\",\"b\"],[\"a\",\"b\",\"c\"]]"},
     ERR_BAD_FILE,
     {"merge 1 is not a pair"}},
    {{.tokens = "ab", .merges = "[\"a b\",[\"a\",1]]"}, ERR_BAD_FILE, {"merge 1 is not a pair"}},
    {{.tokens = "ab", .merges = "[\"a b\",[\"\",\"b\"]]"}, ERR_BAD_FILE, {"merge 1 is not a pair"}},
    {{.tokens = "ab", .merges = "[\"a b\",\"ab zz\"]"},
     ERR_BAD_FILE,
     {"merge 1 uses \"zz\", which is no token"}},
    {{.tokens = "ab", .merges = "[\"a b\",[\"ab\",\"c\"]]"},
     ERR_BAD_FILE,
     {"merge 1 uses \"abc\", which is no token"}},
    {{.merges = "{}"}, ERR_BAD_FILE, {"model, byte", "\"merges\" is an object"}},
    {{.options = "\"dropout\":0.1,"}, ERR_UNSUPPORTED, {"dropout"}},
    {{.options = "\"continuing_subword_prefix\":\"##\","},
     ERR_UNSUPPORTED,
     {"continuing_subword_prefix", "##"}},
    {{.options = "\"end_of_word_suffix\":\"</w>\","}, ERR_UNSUPPORTED, {"end_of_word_suffix", "</w>"}},
    {{.options = "\"unk_token\":\"<unk>\","}, ERR_BAD_FILE, {"unknown token \"<unk>\" is no token"}},
    {{.options = "\"ignore_merges\":1,"},
     ERR_BAD_FILE,
     {"\"ignore_merges\" is a number, expected a boolean"}},
    {{.added_tokens = "{}"}, ERR_BAD_FILE, {"\"added_tokens\" is an object"}},
    {{.added_tokens = "[1]"}, ERR_BAD_FILE, {"added_tokens, byte", "a number, expected an object"}},
    {{.added_tokens = "[{\"id\":256}]"}, ERR_BAD_FILE, {"\"content\" is nothing, expected a string"}},
    {{.added_tokens = "[{\"content\":\"x\"}]"}, ERR_BAD_FILE, {"\"x\" has no id"}},
    {{.added_tokens = "[{\"content\":\"<x>\",\"id\":9999999}]"},
     ERR_BAD_FILE,
     {"the id of \"<x>\" is 9999999"}},
    {{.added_tokens = "[{\"content\":\"a\",\"id\":300}]"}, ERR_BAD_FILE, {"\"a\" has the id 300, but 97"}},
    {{.added_tokens = "[{\"content\":\"<x>\",\"id\":97}]"},
     ERR_BAD_FILE,
     {"\"a\" and \"<x>\" both have the id 97"}},
    {{.added_tokens = "[{\"content\":\"<x>\",\"id\":256},{\"content\":\"<x>\",\"id\":257}]"},
     ERR_BAD_FILE,
     {"\"<x>\" has two ids, 256 and 257"}},
    {{.added_tokens = "[{\"content\":\"<x>\",\"id\":256,\"lstrip\":\"no\"}]"},
     ERR_BAD_FILE,
     {"\"lstrip\" is a string"}},
    {{.normalizer = "\"NFC\""}, ERR_BAD_FILE, {"normalizer, byte", "a string, expected an object"}},
    {{.normalizer = "{\"type\":\"NFKC\"}"},
     ERR_UNSUPPORTED,
     {"\"NFKC\" is not supported", "known are: Sequence NFC"}},
    {{.normalizer = "{\"type\":\"Precompiled\"}"}, ERR_UNSUPPORTED, {"\"Precompiled\" is not supported"}},
    {{.normalizer = "{\"type\":\"Sequence\"}"},
     ERR_BAD_FILE,
     {"\"normalizers\" is nothing, expected an array"}},
    {{.normalizer = "{\"type\":\"Replace\",\"content\":\"\"}"}, ERR_BAD_FILE, {"a pattern is"}},
    {{.normalizer = "{\"type\":\"Replace\",\"content\":\"\",\"pattern\":{\"Regex\":\"x(?>a)\"}}"},
     ERR_UNSUPPORTED,
     {"normalizer, byte", "unsupported kind of group at byte 1 of \"x(?>a)\""}},
    {{.normalizer = "{\"type\":\"Replace\",\"content\":"
                    "\"0123456789012345678901234567890123456789012345678901234567890123"
                    "4567890\",\"pattern\":{\"String\":\"a\"}}"},
     ERR_UNSUPPORTED,
     {"more than 8 steps, or 64 bytes for one"}},
    {{.normalizer = CHAIN("normalizers",
                          "{\"type\":\"NFC\"},{\"type\":\"NFC\"},{\"type\":\"NFC\"},{\"type\":\"NFC\"}")},
     ERR_UNSUPPORTED,
     {"more than 8 steps, or 64 bytes for one"}},
    {{.pre_tokenizer = "{\"type\":\"UnicodeScripts\"}"},
     ERR_UNSUPPORTED,
     {"pre_tokenizer, byte", "\"UnicodeScripts\"", "Metaspace"}},
    {{.pre_tokenizer = SPLIT("a|(b")},
     ERR_UNSUPPORTED,
     {"pre_tokenizer, byte", "group without end at byte 2 of \"a|(b\""}},
    {{.pre_tokenizer = SPLIT("\\\\p{Hann}")}, ERR_UNSUPPORTED, {"unknown or unsupported property at byte 2"}},
    {{.pre_tokenizer = SPLIT("(?>x)")},
     ERR_UNSUPPORTED,
     {"pre_tokenizer, byte", "unsupported kind of group"}},
    {{.pre_tokenizer = SPLIT("(?:a|b)*a(?:a|b){14}c(?:a|b){14}a(?:a|b)*")},
     ERR_UNSUPPORTED,
     {"pre_tokenizer, byte", "too large"}},
    {{.pre_tokenizer = "{\"type\":\"Split\",\"pattern\":{\"String\":\"a\"},\"behavior\":\"Doubled\"}"},
     ERR_UNSUPPORTED,
     {"behavior \"Doubled\" is not supported"}},
    {{.pre_tokenizer = CHAIN("pretokenizers", LEVEL ",{\"type\":\"Digits\"}")},
     ERR_UNSUPPORTED,
     {"behind ByteLevel"}},
    {{.pre_tokenizer = CHAIN("pretokenizers", "{\"type\":\"Digits\"},{\"type\":\"ByteLevel\"}")},
     ERR_UNSUPPORTED,
     {"changes the text behind one that cuts it"}},
    {{.pre_tokenizer = "{\"type\":\"Metaspace\",\"replacement\":\"_\"}"},
     ERR_UNSUPPORTED,
     {"\"_\" for a space"}},
    {{.pre_tokenizer = "{\"type\":\"Metaspace\",\"prepend_scheme\":\"last\"}"},
     ERR_UNSUPPORTED,
     {"prepend_scheme \"last\""}},
    {{.decoder = "{\"type\":\"WordPiece\"}"},
     ERR_UNSUPPORTED,
     {"decoder, byte", "\"WordPiece\" is not supported"}},
    {{.decoder = "{\"type\":\"Metaspace\"}"}, ERR_UNSUPPORTED, {"does not undo what the pre_tokenizer does"}},
    {{.decoder = "{\"type\":\"Replace\",\"pattern\":{\"String\":\"_\"},\"content\":\" \"}"},
     ERR_UNSUPPORTED,
     {"Replace is not supported but of U+2581"}},
    {{.decoder = "{\"type\":\"Strip\",\"content\":\" \",\"start\":2,\"stop\":0}"},
     ERR_UNSUPPORTED,
     {"Strip is not supported but"}},
    {{.post_processor = "{\"type\":\"Other\"}"},
     ERR_UNSUPPORTED,
     {"post_processor, byte", "\"Other\" is not supported"}},
    {{.post_processor = "{\"type\":\"RobertaProcessing\",\"cls\":[\"a\",97]}"},
     ERR_BAD_FILE,
     {"\"sep\" is nothing"}},
    {{.post_processor = "{\"type\":\"BertProcessing\",\"cls\":[\"a\",256]}"},
     ERR_BAD_FILE,
     {"not the id of a token of the 256"}},
    {{.post_processor = "{\"type\":\"BertProcessing\",\"cls\":[]}"},
     ERR_BAD_FILE,
     {"\"cls\" is not a token and its id"}},
    {{.post_processor = "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"a\"}}]}"},
     ERR_BAD_FILE,
     {"\"a\" is not among the special_tokens"}},
    {{.post_processor = "{\"type\":\"TemplateProcessing\",\"single\":[]}"},
     ERR_BAD_FILE,
     {"without the text"}},
};

TEST(tokenizer_json_refuses_what_it_does_not_do) {
    for (size_t i = 0; i < COUNT_OF(parts); i++) {
        JsonVocab v = parts[i].v;
        TEST_CASE_LABEL("%s", parts[i].words[0]);
        if (!v.decoder) v.decoder = LEVEL;
        if (!v.pre_tokenizer) v.pre_tokenizer = LEVEL;
        check_refused(json_vocab_write(&v, vectors_arena()), parts[i].code, parts[i].words);
    }
}

// ---- the model that it is for ----

static const GgufFile *model_of_rows(uint64_t rows, uint32_t eos) {
    GgufBuilder b = gguf_builder_begin();
    gguf_builder_put_u32(&b, "tokenizer.ggml.eos_token_id", eos);
    gguf_builder_add_tensor(&b, "token_embd.weight", DTYPE_F32, 2, (uint64_t[]){4, rows}, NULL);
    Str bytes = gguf_builder_end(&b);
    GgufPart *part = arena_new(vectors_arena(), GgufPart, 1); // lives as long as the file
    const GgufFile *file = NULL;
    Error err;
    *part = (GgufPart){(const uint8_t *)bytes.ptr, bytes.len, "model.gguf"};
    REQUIRE(gguf_parse(part, 1, vectors_arena(), &file, &err));
    return file;
}

TEST(tokenizer_json_fits_the_model_or_is_refused) {
    // 264 tokens: 261 of the vocabulary, three added ones.
    Str json = json_vocab_write(&json_vocab_samples[0], vectors_arena());
    static const struct {
        uint64_t rows;
        uint32_t eos;
        const char *message; // NULL: it fits
        uint32_t n_tokens;
    } rows[] = {
        {264, 262, NULL, 264},
        {300, 262, NULL, 264}, // padding
        {263, 262, NULL, 263}, // an added token has no row
        {260, 259, "ids up to 260 do not fit the model, which has 260 tokens", 0},
        {50000, 262, "264 tokens do not fit the model, which has 50000", 0},
        {264, 264, NULL, 264}, // no token: passed over
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%llu rows", (unsigned long long)rows[i].rows);
        Tokenizer *t;
        Error err = {0};
        const GgufFile *model = model_of_rows(rows[i].rows, rows[i].eos);
        bool ok = tokenizer_from_json(json, model, vectors_arena(), vectors_scratch(), &t, &err);
        CHECK_INT_EQ(rows[i].message == NULL, ok);
        if (!ok) {
            if (!CHECK(strstr(err.message, rows[i].message) != NULL)) FAIL("%s", err.message);
            continue;
        }
        CHECK_INT_EQ(rows[i].n_tokens, tokenizer_vocab_size(t));
        CHECK(tokenizer_is_end(t, 262));
        CHECK_INT_EQ(rows[i].eos >= rows[i].n_tokens, tokenizer_warning_count(t));
        TokenIds ids = vectors_encode(t, STR("<think>"), TOKENIZER_PARSE_SPECIAL);
        CHECK_INT_EQ(rows[i].n_tokens == 264, ids.count == 1);
    }
}

TEST(tokenizer_json_reports_full_arenas) {
    for (uint32_t which = 0; which < JSON_VOCAB_SAMPLES; which++) {
        Str json = json_vocab_write(&json_vocab_samples[which], vectors_arena());
        for (uint64_t failing = 0;; failing++) {
            TEST_CASE_LABEL("sample %u, allocation %llu", which, (unsigned long long)failing);
            uint64_t countdown = failing;
            Arena arena = *vectors_arena(), scratch = vectors_scratch();
            Tokenizer *t;
            Error err = {0};
            arena.fail_countdown = scratch.fail_countdown = &countdown;
            if (tokenizer_from_json(json, NULL, &arena, scratch, &t, &err)) break;
            CHECK_INT_EQ(ERR_NO_MEMORY, err.code);
            REQUIRE(failing < 5000);
        }
    }
}
