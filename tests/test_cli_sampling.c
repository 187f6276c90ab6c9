// What a model's file suggests of sampling (general.sampling.*): which values are used, and what is said of
// the others.
#include "cli/sampling.h"
#include "gguf_builder.h"
#include "json_path.h"
#include "os/os.h"
#include "runner.h"
#include "worker_process.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>

typedef struct {
    const char *key, *text; // a string in place of a number
    GgufType type;
    double value;
    double used; // NAN: it is not
    const char *unused;
} Row;

static void put_value(GgufBuilder *b, const Row *row) {
    char key[64];
    snprintf(key, sizeof key, "general.sampling.%s", row->key);
    if (row->text) gguf_builder_put_str(b, key, row->text);
    else if (row->type == GGUF_BOOL) gguf_builder_put_bool(b, key, row->value != 0);
    else if (row->type == GGUF_I32) gguf_builder_put_i32(b, key, (int32_t)row->value);
    else if (row->type == GGUF_U64) gguf_builder_put_u64(b, key, (uint64_t)row->value);
    else if (row->type == GGUF_ARRAY) gguf_builder_put_f32s(b, key, (float[]){1, 2}, 2);
    else gguf_builder_put_f32(b, key, (float)row->value);
}

// The file's sampling; `unused` takes what is not used.
static SamplingDefaults sampling_with(const Row *row, StrBuf *unused) {
    Arena arena = os_arena(1 << 20);
    GgufBuilder b = gguf_builder_begin();
    const GgufFile *file;
    Error err;
    if (row) put_value(&b, row);
    Str bytes = gguf_builder_end(&b);
    GgufPart part = {.data = (const uint8_t *)bytes.ptr, .size = bytes.len, .name = "test.gguf"};
    REQUIRE(gguf_parse(&part, 1, &arena, &file, &err));
    return sampling_of_file(file, unused);
}

static const SamplingKey *key_named(const char *name) {
    const SamplingKey *found = NULL;
    for (size_t i = 0; i < SAMPLING_KEYS; i++)
        if (strcmp(sampling_keys[i].key + strlen("general.sampling."), name) == 0) found = &sampling_keys[i];
    REQUIRE(found);
    return found;
}

TEST(cli_sampling_of_files_is_checked) {
    static const Row rows[] = {
        {"temp", NULL, GGUF_F32, 0.5, 0.5, ""},
        {"temp", NULL, GGUF_F32, 2, 2, ""},
        {"temp", NULL, GGUF_I32, 0, 0, ""},
        {"temp", NULL, GGUF_F32, -1, NAN, "temp is -1 (expected 0 to 2)"},
        {"temp", NULL, GGUF_F32, 2.5, NAN, "temp is 2.5 (expected 0 to 2)"},
        {"temp", NULL, GGUF_F32, NAN, NAN, "temp is nan (expected 0 to 2)"},
        {"temp", NULL, GGUF_F32, INFINITY, NAN, "temp is inf (expected 0 to 2)"},
        {"temp", "hot", GGUF_STRING, 0, NAN, "temp is \"hot\" (expected 0 to 2)"},
        {"temp", NULL, GGUF_BOOL, 1, NAN, "temp is yes (expected 0 to 2)"},
        {"temp", NULL, GGUF_ARRAY, 0, NAN, "temp is [2 f32] (expected 0 to 2)"},
        {"top_p", NULL, GGUF_F32, 0.75, 0.75, ""},
        {"top_p", NULL, GGUF_F32, 7, NAN, "top_p is 7 (expected 0 to 1)"},
        {"min_p", NULL, GGUF_F32, 0.25, 0.25, ""},
        {"min_p", NULL, GGUF_F32, -0.5, NAN, "min_p is -0.5 (expected 0 to 1)"},
        {"top_k", NULL, GGUF_I32, 20, 20, ""},
        {"top_k", NULL, GGUF_I32, -1, -1, ""}, // off, as in requests
        {"top_k", NULL, GGUF_F32, 40, 40, ""},
        {"top_k", NULL, GGUF_U64, 1e15, NAN,
         "top_k is 1000000000000000 (expected a whole number of -1 to 1048576)"},
        {"top_k", NULL, GGUF_I32, -2, NAN, "top_k is -2 (expected a whole number of -1 to 1048576)"},
        {"top_k", NULL, GGUF_F32, 2.5, NAN, "top_k is 2.5 (expected a whole number of -1 to 1048576)"},
        {"penalty_repeat", NULL, GGUF_F32, 1.5, 1.5, ""},
        {"penalty_repeat", NULL, GGUF_F32, 0, NAN, "penalty_repeat is 0 (expected 0.01 to 2)"},
        {"penalty_present", NULL, GGUF_F32, -2, -2, ""},
        {"penalty_present", NULL, GGUF_F32, 3, NAN, "penalty_present is 3 (expected -2 to 2)"},
        {"penalty_freq", NULL, GGUF_F32, 0.5, 0.5, ""},
        {"penalty_freq", NULL, GGUF_F32, -3, NAN, "penalty_freq is -3 (expected -2 to 2)"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        const Row *row = &rows[i];
        TEST_CASE_LABEL("%s, %s", row->key, row->unused);
        char text[256], expected[256] = "";
        StrBuf unused = STRBUF(text);
        SamplingDefaults d = sampling_with(row, &unused);
        if (*row->unused) snprintf(expected, sizeof expected, "general.sampling.%s", row->unused);
        CHECK_STR_EQ(expected, strbuf_str(&unused));
        for (size_t k = 0; k < SAMPLING_KEYS; k++) {
            double value = sampling_default(&d, &sampling_keys[k]);
            double wanted = &sampling_keys[k] == key_named(row->key) ? row->used : (double)NAN;
            CHECK(isnan(wanted) ? isnan(value) : value == wanted);
        }
    }
}

TEST(cli_sampling_out_of_range_is_told) {
    static const Row rows[] = {{"temp", NULL, GGUF_F32, -1, 0, ""},
                               {"top_p", NULL, GGUF_F32, 0.75, 0, ""},
                               {"top_k", "many", GGUF_STRING, 0, 0, ""}};
    static const char UNUSED[] = "general.sampling.temp is -1 (expected 0 to 2), general.sampling.top_k is "
                                 "\"many\" (expected a whole number of -1 to 1048576)";
    const char *path = test_tmp_path("sampling.gguf"), *model[] = {path};
    TinyModel tiny = tiny_model_llama();
    GgufBuilder b = gguf_builder_begin();
    tiny_model_put_metadata(&b, &tiny);
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        put_value(&b, &rows[i]);
    tiny_model_add_tensors(&b, &tiny);
    REQUIRE(gguf_builder_save(gguf_builder_end(&b), path));

    char warning[512];
    snprintf(warning, sizeof warning, SAMPLING_UNUSED "%s", UNUSED);
    Server s = server_start(path, "");
    Str line = process_await_event(s.process, "load_warning");
    CHECK_STR_EQ(warning, json_text_at(json_root(line), "message"));
    uint16_t status;
    Str answer = server_ask(s, "POST", "/v1/responses", "{\"input\":\"a\",\"max_output_tokens\":1}", &status);
    CHECK(text_contains(answer, "\"temperature\":1,") && text_contains(answer, "\"top_p\":0.75,"));
    kill(s.process.pid, SIGTERM);
    CHECK_INT_EQ(0, process_wait(s.process));

    Process chat = process_start("chat % --device cpu --threads 1", model, tmp_file_write("in", ""));
    CHECK_INT_EQ(0, process_wait(chat));
    CHECK(text_contains(process_read_file(chat.err_path), warning));
    Process inspect = process_start("inspect %", model, NULL);
    CHECK_INT_EQ(0, process_wait(inspect));
    Str report = process_read_file(inspect.out_path);
    CHECK(text_contains(report, "\n  sampling        top_p 0.75\n") && text_contains(report, UNUSED));
    Process json = process_start("inspect % --json", model, NULL);
    CHECK_INT_EQ(0, process_wait(json));
    const JsonNode *root = json_root(process_read_file(json.out_path));
    CHECK_STR_EQ(UNUSED, json_text_at(root, "unused_sampling"));
    CHECK(json_at(root, "sampling.top_p") && !json_at(root, "sampling.temperature"));
}
