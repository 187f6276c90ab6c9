// What the CUDA backend does around its kernels, on a driver without a GPU (tools/fake_cuda.c): what it says
// where it cannot work, and that whatever call fails, it fails with an error and gives everything back.
#include "runner.h"

#if WORKER_ORCD_CUDA

#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/cuda_fit.h"
#include "backend/cuda/devices.h"
#include "fake_driver.h"
#include "gguf_builder.h"
#include "os/os.h"
#include "os/os_files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

static void set_number(const char *name, uint64_t value) {
    char text[32];
    snprintf(text, sizeof text, "%llu", (unsigned long long)value);
    REQUIRE(setenv(name, text, 1) == 0);
}

TEST(cuda_host_says_what_is_wrong_with_the_driver) {
    fake_driver_load();
    static const struct {
        const char *name, *variable;
        uint64_t value;
        int gpu_device;
        const char *expected[3];
    } rows[] = {
        {"too old", "FAKE_CUDA_VERSION", 11040, 0, {"supports CUDA 11.4", "CUDA 12.0 is needed", "525"}},
        {"no GPU", "FAKE_CUDA_DEVICES", 0, 0, {"no NVIDIA GPU was found"}},
        {"an old GPU", "FAKE_CUDA_SM", 70, 0, {"Fake GPU 0", "compute capability 7.0", "7.5"}},
        {"no such GPU", "FAKE_CUDA_DEVICES", 2, 2, {"there is no GPU 2", "has 2"}},
        {"does not start", "FAKE_CUDA_FAIL_CALL", 1, 0, {"does not start", "CUDA_ERROR_ILLEGAL_ADDRESS"}},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].name);
        set_number(rows[i].variable, rows[i].value);
        Arena arena = os_arena(1 << 20);
        Backend *b;
        Error err = {0};
        BackendOptions options = {.n_slots = 1, .gpu_device = rows[i].gpu_device};
        CHECK(!cuda_backend_open(&options, &arena, &b, &err));
        CHECK_INT_EQ(rows[i].gpu_device ? ERR_USAGE : ERR_NO_DEVICE, err.code);
        for (size_t k = 0; k < COUNT_OF(rows[i].expected) && rows[i].expected[k]; k++) {
            if (!strstr(err.message, rows[i].expected[k]))
                FAIL("not in \"%s\": %s", err.message, rows[i].expected[k]);
        }
        unsetenv(rows[i].variable);
    }
}

// As a user meets it: an exit code and one sentence on standard error.
TEST(cuda_host_program_ends_with_one_sentence) {
    const char *driver = fake_driver_build(NULL);
    TinyModel tiny = tiny_model_llama();
    Error err = {0};
    REQUIRE(os_file_replace(test_tmp_path("tiny.gguf"), tiny_model_build(&tiny), &err));
    static const struct {
        const char *environment, *flags;
        int code;
        const char *expected[3];
    } rows[] = {
        {"FAKE_CUDA_VERSION=11040", "", 1, {"supports CUDA 11.4", "CUDA 12.0 is needed", "525"}},
        {"FAKE_CUDA_DEVICES=0", "", 1, {"no NVIDIA GPU was found"}},
        {"FAKE_CUDA_DEVICES=2", "--gpu-device 9", 2, {"--gpu-device 9: there is no GPU 9", "has 2"}},
        {"FAKE_CUDA_SM=70", "", 1, {"Fake GPU 0", "compute capability 7.0", "7.5"}},
        {"FAKE_CUDA_FAIL_CALL=1", "", 1, {"does not start", "CUDA_ERROR_ILLEGAL_ADDRESS"}},
        {"FAKE_CUDA_FAIL_CALL=40", "", 1, {"CUDA_ERROR_ILLEGAL_ADDRESS"}}, // 3 is for a worker that was ready
        {"FAKE_CUDA_MEMORY=80000000000 FAKE_CUDA_TAKEN=79900000000",
         "",
         1,
         {"tiny.gguf needs ", "100000000 bytes", "available on Fake GPU 0"}},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s %s", rows[i].environment, rows[i].flags);
        char command[4096], out[2048];
        snprintf(command, sizeof command,
                 "env LD_LIBRARY_PATH='%s' %s '%s' run --model '%s' --prompt x --jit-cache none %s 2>&1 "
                 "</dev/null",
                 driver, rows[i].environment, test_program_path(), test_tmp_path("tiny.gguf"), rows[i].flags);
        FILE *pipe = popen(command, "r");
        REQUIRE(pipe != NULL);
        out[fread(out, 1, sizeof out - 1, pipe)] = 0;
        int status = pclose(pipe);
        if (CHECK(WIFEXITED(status))) CHECK_INT_EQ(rows[i].code, WEXITSTATUS(status));
        CHECK(str_starts_with(str_from_c(out), STR("worker-orcd: ")));
        CHECK(strchr(out, '\n') == out + strlen(out) - 1);
        for (size_t k = 0; k < COUNT_OF(rows[i].expected) && rows[i].expected[k]; k++) {
            if (!strstr(out, rows[i].expected[k])) FAIL("not in \"%s\": %s", out, rows[i].expected[k]);
        }
    }
}

TEST(cuda_host_says_that_there_is_no_driver) {
    Cuda cuda;
    Error err = {0};
    if (cuda_open(&cuda, &err)) SKIP("there is one");
    CHECK_INT_EQ(ERR_NO_DEVICE, err.code);
    CHECK(str_starts_with(str_from_c(err.message),
                          STR("no NVIDIA driver was found; driver 525 or newer is needed")) ||
          strstr(err.message, "no NVIDIA GPU was found") != NULL);
}

TEST(cuda_host_lists_devices) {
    fake_driver_load();
    set_number("FAKE_CUDA_DEVICES", 3);
    Cuda cuda;
    CudaDevice devices[CUDA_DEVICES_MAX];
    uint32_t n = 0;
    Error err = {0};
    REQUIRE(cuda_open(&cuda, &err));
    REQUIRE(cuda_devices_list(&cuda, devices, &n, &err));
    REQUIRE(n == 3);
    CHECK_STR_EQ("Fake GPU 2", devices[2].name);
    CHECK_INT_EQ(90, devices[2].sm);
    CHECK_INT_EQ(132, devices[2].multiprocessors);
    CHECK_NEAR(3352.3, devices[2].memory_gb_per_second, 0.1);
    CHECK(devices[2].supported);
    cuda_close(&cuda);
}

// ---- a model's life ----

static Plan *make_plan(Arena *arena) {
    TinyModel model = tiny_model_llama();
    Str file = tiny_model_build(&model);
    GgufPart part = {(const uint8_t *)file.ptr, file.len, "tiny"};
    const GgufFile *gguf;
    Plan *plan;
    Error err = {0};
    REQUIRE(gguf_parse(&part, 1, arena, &gguf, &err) && plan_build(gguf, arena, &plan, &err));
    return plan;
}

static const int32_t prompt[40] = {1, 2, 3};
static const uint32_t pages[4] = {7, 1, 9, 3};
static const SequenceStart start = {
    .params = {.top_p = 1, .repetition_penalty = 1}, .tokens = prompt, .n_prompt = 40};

// Modules are none, since nothing runs.
static bool compile_nothing(const JitProgram *program, uint32_t sm, uint8_t *image, Error *err) {
    (void)program, (void)sm, (void)err;
    memcpy(image, "\177ELF", 4);
    return true;
}

static const JitCompiler no_compiler = {compile_nothing};

static BackendOptions live_options(void) {
    return (BackendOptions){.n_slots = 2,
                            .max_rows = 64,
                            .kv_texts = 2,
                            .kv_text_tokens = 2048,
                            .jit_cache = "",
                            .model_path = "tiny.gguf",
                            .jit_compiler = &no_compiler};
}

// Opens, loads, runs a prompt and some tokens, and closes.
static bool live_with(const BackendOptions *options, const Plan *plan, Arena arena, BackendInfo *info,
                      Error *err) {
    Backend *b;
    if (!cuda_backend_open(options, &arena, &b, err)) return false;
    bool ok = b->load(b, plan, NULL, NULL, err);
    *info = b->info;
    ok = ok && cuda_backend_check_residency(b, err) && b->begin(b, 1, &start, err);
    StepSequence q = {.slot = 1, .n_rows = 40, .tokens = prompt, .pages = pages, .n_draws = 1};
    StepResult r;
    ok = ok && b->step(b, &(Step){.sequences = &q, .n_sequences = 1}, err);
    for (uint32_t i = 0; ok && i < 4; i++) { // two at a time
        q = (StepSequence){
            .slot = 1, .mode = STEP_DECODE, .position = 40 + i, .n_rows = 1, .pages = pages, .n_draws = 1};
        ok = b->step(b, &(Step){.sequences = &q, .n_sequences = 1}, err) && b->read(b, &r, err);
    }
    ok = ok && b->read(b, &r, err);
    b->close(b);
    return ok;
}

static bool live(const Plan *plan, Arena arena, BackendInfo *info, Error *err) {
    BackendOptions options = live_options();
    return live_with(&options, plan, arena, info, err);
}

// With the compiler that is in the program: what it compiles, and what the cache has the second time.
TEST_SLOW(cuda_host_gives_everything_back, 120) {
    FakeDriver fake = fake_driver_load();
    Arena arena = os_arena((size_t)1 << 30);
    Plan *plan = make_plan(&arena);
    BackendOptions options = live_options();
    options.jit_compiler = NULL;
    options.jit_cache = test_root_path("build/jit-cache");
    BackendInfo info;
    Error err = {0};
    for (int i = 0; i < 2; i++) {
        if (!live_with(&options, plan, arena, &info, &err)) FAIL("%s", err.message);
        CHECK_INT_EQ(0, *fake.live);
        CHECK(*fake.launches > 0);
        CHECK(info.vram_bytes_used > 0 && info.n_kv_pages == 256);
        CHECK_STR_EQ("Fake GPU 0", info.device_name);
    }
}

// The cache holds the slots that there are, and one more would not fit: its state and its tokens, or, where a
// class ends, the buffers of the next one.
static void check_slots(const CudaFit *fit, const BackendOptions *options) {
    uint64_t tokens = (uint64_t)fit->n_kv_pages * KV_PAGE_TOKENS, each = options->slot_tokens;
    bool class_ends = fit->n_slots >= 8 && (fit->n_slots & (fit->n_slots - 1)) == 0;
    CHECK(fit->n_slots == 1 || tokens >= fit->n_slots * each);
    CHECK(class_ends || tokens < (fit->n_slots + 2) * each);
}

// What `inspect --fit` says without a GPU is what a load takes of one, to the byte and to the page.
TEST(cuda_host_takes_what_fit_says) {
    static const struct {
        const char *name;
        uint32_t n_slots;
        uint64_t memory, kv_bytes, kv_texts;
        bool fits;
        uint32_t slot_tokens, n_slots_got;
    } rows[] = {
        {"all that is of use", 2, 2000000000, 0, 2, true, 0, 0},
        {"more slots", 9, 2000000000, 0, 9, true, 0, 0},
        {"as many as there can be", 64, 2000000000, 0, 64, true, 0, 0},
        {"as much as was asked for", 1, 2000000000, 1000000, 2, true, 0, 0},
        {"what is left", 1, 300000000, 0, 512, true, 0, 0},
        {"less than the reserve", 1, 250000000, 0, 2, false, 0, 0},
        {"slots by the cache: all", 64, 2000000000, 0, 64, true, 2048, 64},
        {"some", 64, 318000000, 0, 64, true, 2048, 0},
        {"one class less", 64, 304000000, 0, 64, true, 2048, 0},
        {"few", 64, 300000000, 0, 64, true, 2048, 0},
        {"as a cache of this size holds", 64, 2000000000, 5000000, 64, true, 2048, 4},
        {"one, for which the cache is small", 64, 2000000000, 500000, 64, true, 2048, 1},
        {"none", 64, 250000000, 0, 64, false, 2048, 1},
    };
    fake_driver_load();
    Arena arena = os_arena((size_t)1 << 30);
    Plan *plan = make_plan(&arena);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].name);
        set_number("FAKE_CUDA_MEMORY", rows[i].memory);
        BackendOptions options = live_options();
        options.n_slots = rows[i].n_slots;
        options.slot_tokens = rows[i].slot_tokens;
        options.kv_bytes = rows[i].kv_bytes;
        options.kv_texts = rows[i].kv_texts;
        LowerTarget target = lower_target_of_sm(90);
        Arena memory = arena;
        CudaFit fit;
        Backend *b;
        Error err = {0};
        REQUIRE(cuda_fit(&options, plan, &target, rows[i].memory, &memory, &fit, &err));
        CHECK(fit.fits == rows[i].fits);
        REQUIRE(cuda_backend_open(&options, &memory, &b, &err));
        CHECK(b->load(b, plan, NULL, NULL, &err) == rows[i].fits);
        if (rows[i].fits) {
            CHECK_INT_EQ(fit.n_kv_pages, b->info.n_kv_pages);
            CHECK_INT_EQ(fit.n_slots, b->info.n_slots);
            if (rows[i].n_slots_got) CHECK_INT_EQ(rows[i].n_slots_got, fit.n_slots);
            if (rows[i].slot_tokens) check_slots(&fit, &options);
            CHECK_U64_EQ(fit.weights_bytes + fit.work_bytes + fit.states_bytes + fit.kv_bytes,
                         b->info.vram_bytes_used);
            CHECK_U64_EQ(fit.n_kv_pages * fit.kv_page_bytes, fit.kv_bytes);
        } else {
            CHECK_INT_EQ(ERR_INSUFFICIENT_VRAM, err.code);
        }
        b->close(b);
    }
}

TEST(cuda_host_refuses_a_model_that_does_not_fit) {
    FakeDriver fake = fake_driver_load();
    Arena arena = os_arena((size_t)1 << 30);
    Plan *plan = make_plan(&arena);
    set_number("FAKE_CUDA_MEMORY", 250000000); // the reserve alone is more
    BackendInfo info;
    Error err = {0};
    CHECK(!live(plan, arena, &info, &err));
    CHECK_INT_EQ(ERR_INSUFFICIENT_VRAM, err.code);
    static const char *const expected[] = {"tiny.gguf needs ", "250000000 bytes", "available on Fake GPU 0"};
    for (size_t i = 0; i < COUNT_OF(expected); i++) {
        if (!strstr(err.message, expected[i])) FAIL("not in \"%s\": %s", err.message, expected[i]);
    }
    CHECK_INT_EQ(0, *fake.live);
}

// What is not the GPU's own memory is found out, at load and later.
TEST(cuda_host_checks_where_memory_is) {
    FakeDriver fake = fake_driver_load();
    Arena arena = os_arena((size_t)1 << 30);
    Plan *plan = make_plan(&arena);
    static const char *const kinds[] = {"host", "managed", "other"};
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        TEST_CASE_LABEL("%s", kinds[i]);
        BackendOptions options = live_options();
        BackendInfo info;
        Arena memory = arena;
        Backend *b;
        Error err = {0};
        REQUIRE(setenv("FAKE_CUDA_LOOKS_LIKE", kinds[i], 1) == 0);
        CHECK(!live(plan, memory, &info, &err));
        CHECK_STR_EQ("the weights are not resident in the memory of GPU 0", (const char *)err.message);
        unsetenv("FAKE_CUDA_LOOKS_LIKE");
        REQUIRE(cuda_backend_open(&options, &memory, &b, &err));
        REQUIRE(b->load(b, plan, NULL, NULL, &err));
        CHECK(b->check_residency(b, &err));
        REQUIRE(setenv("FAKE_CUDA_LOOKS_LIKE", kinds[i], 1) == 0);
        CHECK(!b->check_residency(b, &err));
        CHECK_INT_EQ(ERR_CUDA, err.code);
        unsetenv("FAKE_CUDA_LOOKS_LIKE");
        b->close(b);
        CHECK_INT_EQ(0, *fake.live);
    }
}

// A row that draws no token is run once more, and its stages looked at. The copies to the host of that are
// the embedding, then in each layer keys, values, attention, and what three stages add or write.
TEST(cuda_host_names_the_first_bad_layer) {
    FakeDriver fake = fake_driver_load();
    Arena arena = os_arena((size_t)1 << 30);
    Plan *plan = make_plan(&arena);
    static const struct {
        uint32_t first_bad; // of those copies
        const char *expected;
    } rows[] = {{2, "layer 0, ROPE"}, {4, "layer 0, ATTENTION"}, {5, "layer 0, ADD"},
                {6, "layer 0, GLU"},  {8, "layer 1, ROPE"},      {13, "layer 1, ADD"}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].expected);
        BackendOptions options = live_options();
        Arena memory = arena;
        Backend *b;
        StepResult r = {0};
        Error err = {0};
        set_number("FAKE_CUDA_CLEAR_WITH", 0x3C); // numbers, in float and in half
        REQUIRE(cuda_backend_open(&options, &memory, &b, &err));
        REQUIRE(b->load(b, plan, NULL, NULL, &err));
        cuda_backend_wait_for_classes(b);            // whose kernels are copies, too
        uint64_t token = (uint64_t)*fake.copies + 1; // the number of the copy that brings it
        set_number("FAKE_CUDA_SPOIL_COPY", token);
        set_number("FAKE_CUDA_SPOIL_FROM", token + rows[i].first_bad);
        StepSequence q = {.slot = 1, .n_rows = 40, .tokens = prompt, .pages = pages, .n_draws = 1};
        CHECK(b->begin(b, 1, &start, &err) && b->step(b, &(Step){.sequences = &q, .n_sequences = 1}, &err) &&
              b->read(b, &r, &err));
        CHECK_INT_EQ(TOKEN_INVALID, r.runs[0].tokens[0]);
        CHECK(str_starts_with(str_from_c(r.runs[0].first_invalid), str_from_c(rows[i].expected)));
        unsetenv("FAKE_CUDA_SPOIL_COPY");
        unsetenv("FAKE_CUDA_SPOIL_FROM");
        // The next sequence of the slot is none of that one's business.
        CHECK(b->begin(b, 1, &start, &err) && b->step(b, &(Step){.sequences = &q, .n_sequences = 1}, &err) &&
              b->read(b, &r, &err));
        CHECK(r.runs[0].tokens[0] != TOKEN_INVALID && !r.runs[0].first_invalid);
        b->close(b);
        CHECK_INT_EQ(0, *fake.live);
    }
}

#else

TEST(cuda_host) {
    SKIP("this build has no CUDA");
}

#endif
