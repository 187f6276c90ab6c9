// What the CUDA backend does around the stages of batches, on a driver without a GPU (tools/fake_cuda.c):
// what is sent and launched, classes that come later or not at all, and that whatever call fails, everything
// is given back.
#include "runner.h"

#if WORKER_ORCD_CUDA

#include "backend/cuda/cuda_backend.h"
#include "fake_driver.h"
#include "gguf_builder.h"
#include "os/os.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SLOTS = 20, CONTEXT_PAGES = 4 };

// Modules are none, since nothing runs. A class whose rows are `refused` does not compile.
static _Atomic uint32_t refused;

static bool compile(const JitProgram *program, uint32_t sm, uint8_t *image, Error *err) {
    char line[48];
    snprintf(line, sizeof line, "#define MAX_ROWS %u\n", refused);
    (void)sm;
    if (refused && strstr(program->defines.ptr, line))
        return error_set(err, ERR_INTERNAL, "kernel %s is refused", program->name);
    memcpy(image, "\177ELF", 4);
    return true;
}

static const JitCompiler compiler = {compile};

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

static uint32_t n_warnings;
static char warning[ERROR_MESSAGE_BYTES];

static void warn(void *context, const char *message) {
    (void)context;
    n_warnings++;
    snprintf(warning, sizeof warning, "%s", message);
}

static BackendOptions options_of(uint32_t n_slots) {
    return (BackendOptions){.n_slots = n_slots,
                            .max_rows = 64,
                            .kv_texts = n_slots,
                            .kv_text_tokens = CONTEXT_PAGES * KV_PAGE_TOKENS,
                            .jit_cache = "",
                            .model_path = "tiny.gguf",
                            .jit_compiler = &compiler,
                            .warn = warn};
}

static const int32_t prompt[40] = {1, 2, 3};

// What the slots are at, and the pages that they have.
typedef struct {
    FakeDriver fake;
    Backend *b;
    uint32_t position[SLOTS];
    uint32_t pages[SLOTS][CONTEXT_PAGES];
    SamplerParams params[SLOTS];
} Run;

static Run *run_begin(Arena *arena, uint32_t n_slots) {
    Run *r = arena_new(arena, Run, 1);
    Error err = {0};
    REQUIRE(r != NULL);
    r->fake = fake_driver_load();
    BackendOptions options = options_of(n_slots);
    Plan *plan = make_plan(arena);
    bool ok = cuda_backend_open(&options, arena, &r->b, &err) && r->b->load(r->b, plan, NULL, NULL, &err);
    if (!ok) FAIL("%s", err.message);
    REQUIRE(ok && r->b->info.rows_together > 1);
    for (uint32_t s = 0; s < n_slots; s++) {
        r->params[s] = SAMPLER_GREEDY;
        for (uint32_t i = 0; i < CONTEXT_PAGES; i++)
            r->pages[s][i] = i * n_slots + s;
    }
    return r;
}

// A text of n tokens in a slot, its first token drawn.
static void begin(Run *r, uint32_t slot, uint32_t n) {
    SequenceStart start = {.params = r->params[slot], .tokens = prompt, .n_prompt = n};
    StepSequence q = {.slot = slot, .n_rows = n, .tokens = prompt, .pages = r->pages[slot], .n_draws = 1};
    StepResult result;
    Error err = {0};
    CHECK(r->b->begin(r->b, slot, &start, &err) &&
          r->b->step(r->b, &(Step){.sequences = &q, .n_sequences = 1}, &err) &&
          r->b->read(r->b, &result, &err));
    r->position[slot] = n;
}

// One token for each of the slots first … first + n - 1. Returns how many copies the host sent for that.
static long decode(Run *r, uint32_t first, uint32_t n) {
    StepSequence q[SLOTS];
    StepResult result;
    Error err = {0};
    long before = *r->fake.sends;
    for (uint32_t i = 0; i < n; i++) {
        q[i] = (StepSequence){.slot = first + i,
                              .mode = STEP_DECODE,
                              .position = r->position[first + i]++,
                              .n_rows = 1,
                              .pages = r->pages[first + i],
                              .n_draws = 1};
    }
    CHECK(r->b->step(r->b, &(Step){.sequences = q, .n_sequences = n}, &err) &&
          r->b->read(r->b, &result, &err));
    CHECK_INT_EQ(n, result.n_runs);
    for (uint32_t i = 0; i < n; i++)
        CHECK_INT_EQ(first + i, result.runs[i].slot);
    return *r->fake.sends - before;
}

// Rows that are the same sequences as before need nothing from the host, however many they are.
TEST_SLOW(cuda_batch_host_rows_stay_on_the_device, 120) {
    Arena arena = os_arena((size_t)1 << 30);
    Run *r = run_begin(&arena, SLOTS);
    cuda_backend_wait_for_classes(r->b);
    for (uint32_t s = 0; s < SLOTS; s++)
        begin(r, s, 34); // page 2 of the sequence, whose number is there
    static const uint32_t groups[] = {1, 2, 8, 9, 20};
    for (size_t i = 0; i < COUNT_OF(groups); i++) {
        TEST_CASE_LABEL("%u rows", groups[i]);
        CHECK_INT_EQ(1, decode(r, 0, groups[i]));
        CHECK_INT_EQ(0, decode(r, 0, groups[i]));
    }
    TEST_CASE_LABEL("%s", "");
    CHECK_INT_EQ(1, decode(r, 0, 1)); // its class has another position
    CHECK_INT_EQ(0, decode(r, 0, 1));
    CHECK_INT_EQ(1, decode(r, 1, 1)); // another sequence
    while (r->position[1] < 48)
        decode(r, 1, 1);
    CHECK_INT_EQ(1, decode(r, 1, 1)); // a page's number
    begin(r, 1, 34);                  // another text
    CHECK_INT_EQ(1, decode(r, 1, 1));
    r->b->close(r->b);
    CHECK_INT_EQ(0, *r->fake.live);
}

// One graph a step, whatever its rows draw by; and the stages of these ways differ.
TEST_SLOW(cuda_batch_host_draws_as_sequences_ask, 120) {
    Arena arena = os_arena((size_t)1 << 30);
    Run *r = run_begin(&arena, 4);
    long launches[4];
    cuda_backend_wait_for_classes(r->b);
    r->params[1].temperature = 1;
    r->params[2].presence_penalty = 0.5f;
    for (uint32_t s = 0; s < 4; s++)
        begin(r, s, 20);
    static const struct {
        uint32_t first, n;
    } groups[] = {{0, 1}, {1, 1}, {0, 2}, {1, 3}}; // greedy, sampled, both, and with a penalty
    for (size_t i = 0; i < COUNT_OF(groups); i++) {
        launches[i] = *r->fake.launches;
        decode(r, groups[i].first, groups[i].n);
        launches[i] = *r->fake.launches - launches[i];
    }
    CHECK(launches[0] > 10);
    CHECK_INT_EQ(launches[0] + 1, launches[1]); // ranks and sampling instead of greedy
    enum { NORMS = 5 }; // of two layers and of the head, stages where rows are several
    CHECK_INT_EQ(launches[0] + NORMS + 4, launches[2]);
    CHECK_INT_EQ(launches[0] + NORMS + 4, launches[3]);
    r->b->close(r->b);
}

// Rows of a class that is not there go through smaller ones; one that does not compile is said, and the
// others come.
TEST_SLOW(cuda_batch_host_classes_come_later, 120) {
    static const struct {
        uint32_t refused;
        long sends;   // tables of 20 rows: 32; 16 and 8; 32
        int warnings; // classes: of rows that decode, and of prompts
    } rows[] = {{0, 1, 0}, {32, 2, 2}, {16, 1, 1}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%u refused", rows[i].refused);
        Arena arena = os_arena((size_t)1 << 30);
        refused = rows[i].refused;
        n_warnings = 0;
        Run *r = run_begin(&arena, SLOTS);
        for (uint32_t s = 0; s < SLOTS; s++)
            begin(r, s, 34);
        cuda_backend_wait_for_classes(r->b);
        CHECK_INT_EQ(rows[i].sends, decode(r, 0, SLOTS));
        CHECK_INT_EQ(rows[i].warnings, n_warnings);
        CHECK(!refused || strstr(warning, "is refused"));
        r->b->close(r->b);
        CHECK_INT_EQ(0, *r->fake.live);
    }
    refused = 0;
}

// Runs a step. Returns how many kernels were launched for it.
static long run_step(Run *r, const StepSequence *q, uint32_t n, StepResult *result) {
    Error err = {0};
    long before = *r->fake.launches;
    bool ok =
        r->b->step(r->b, &(Step){.sequences = q, .n_sequences = n}, &err) && r->b->read(r->b, result, &err);
    if (!ok) FAIL("%s", err.message);
    REQUIRE(ok);
    return *r->fake.launches - before;
}

// A step may have chunks of prompts beside rows that decode: each brings what it draws, in the step's order,
// and all of them go through the layers and the head together.
TEST_SLOW(cuda_batch_host_steps_are_mixed, 120) {
    Arena arena = os_arena((size_t)1 << 30);
    Run *r = run_begin(&arena, 4);
    StepResult result;
    Error err = {0};
    cuda_backend_wait_for_classes(r->b);
    begin(r, 0, 20);
    begin(r, 2, 20);
    SequenceStart start = {.params = SAMPLER_GREEDY, .tokens = prompt, .n_prompt = 40};
    StepSequence q[4] = {
        {.slot = 0, .mode = STEP_DECODE, .position = 20, .n_rows = 1, .pages = r->pages[0], .n_draws = 1},
        {.slot = 1, .n_rows = 30, .tokens = prompt, .pages = r->pages[1]},
        {.slot = 3, .n_rows = 30, .tokens = prompt, .pages = r->pages[3], .n_draws = 1},
        {.slot = 2, .mode = STEP_DECODE, .position = 20, .n_rows = 1, .pages = r->pages[2], .n_draws = 1}};
    CHECK(r->b->begin(r->b, 1, &start, &err) && r->b->begin(r->b, 3, &start, &err));
    long launches = run_step(r, q, 4, &result);
    REQUIRE(result.n_runs == 3);
    CHECK_INT_EQ(0, result.runs[0].slot);
    CHECK_INT_EQ(3, result.runs[1].slot);
    CHECK_INT_EQ(2, result.runs[2].slot);
    // The same prompts again, without the rows that decode: a norm less, since one row draws.
    CHECK_INT_EQ(launches - 1, run_step(r, q + 1, 2, &result));
    CHECK_INT_EQ(1, result.n_runs);
    CHECK_INT_EQ(launches - 1, run_step(r, q + 2, 1, &result));
    r->b->close(r->b);
}

// A text whose draws have masks, its prompt run.
static void begin_masked(Run *r, uint32_t slot, uint32_t n, const uint32_t *mask) {
    SequenceStart start = {.params = SAMPLER_GREEDY, .tokens = prompt, .n_prompt = n, .masked = true};
    StepSequence q = {
        .slot = slot, .n_rows = n, .tokens = prompt, .pages = r->pages[slot], .n_draws = 1, .mask = mask};
    StepResult result;
    Error err = {0};
    CHECK(r->b->begin(r->b, slot, &start, &err));
    run_step(r, &q, 1, &result);
    r->position[slot] = n;
}

static StepSequence row_of(Run *r, uint32_t slot, const uint32_t *mask) {
    return (StepSequence){.slot = slot,
                          .mode = STEP_DECODE,
                          .position = r->position[slot]++,
                          .n_rows = 1,
                          .pages = r->pages[slot],
                          .n_draws = 1,
                          .mask = mask};
}

// A step's layers are launched, and its draws when its masks are there: what greedy rows with masks need. The
// masks of all slots are one copy.
TEST_SLOW(cuda_batch_host_draws_wait_for_masks, 120) {
    static uint32_t mask[32]; // of 1,024 tokens; allows nothing
    Arena arena = os_arena((size_t)1 << 30);
    Run *r = run_begin(&arena, SLOTS);
    StepResult result;
    Error err = {0};
    cuda_backend_wait_for_classes(r->b);
    begin(r, 0, 20);
    for (uint32_t s = 1; s < 4; s++)
        begin_masked(r, s, 20, mask);
    for (int round = 0; round < 3; round++) {
        TEST_CASE_LABEL("round %d", round);
        StepSequence q[4];
        const uint32_t *masks[4] = {NULL, mask, NULL, mask}; // nobody looks at what slot 2 draws
        for (uint32_t s = 0; s < 4; s++)
            q[s] = row_of(r, s, NULL);
        Step step = {.sequences = q, .n_sequences = 4, .masks_come_later = true};
        REQUIRE(r->b->step(r->b, &step, &err));
        long launches = *r->fake.launches, sends = *r->fake.sends;
        REQUIRE(r->b->draw(r->b, masks, &err));
        CHECK_INT_EQ(2, *r->fake.launches - launches);
        CHECK_INT_EQ(1, *r->fake.sends - sends);
        CHECK(r->b->read(r->b, &result, &err));
        CHECK_INT_EQ(4, result.n_runs);
    }
    TEST_CASE_LABEL("%s", "");
    // Masks that are known come with the step; the rows stay on the device.
    StepSequence one = row_of(r, 1, mask), next = row_of(r, 1, mask);
    run_step(r, &one, 1, &result);
    long sends = *r->fake.sends;
    run_step(r, &next, 1, &result);
    CHECK_INT_EQ(1, *r->fake.sends - sends);
    r->b->close(r->b);
    CHECK_INT_EQ(0, *r->fake.live);
}

// What only a mistake of the engine's could ask for. Closing gives everything back while a step waits.
TEST_SLOW(cuda_batch_host_masks_out_of_turn, 120) {
    static uint32_t mask[32];
    Arena arena = os_arena((size_t)1 << 30);
    Run *r = run_begin(&arena, 4);
    StepResult result;
    Error err = {0};
    begin(r, 0, 20);
    begin_masked(r, 1, 20, mask);
    const uint32_t *masks[1] = {mask};
    StepSequence without = row_of(r, 1, NULL), with = row_of(r, 0, mask), row = row_of(r, 1, NULL);
    CHECK(!r->b->draw(r->b, masks, &err));
    CHECK_STR_EQ("no step waits for masks", err.message);
    CHECK(!r->b->step(r->b, &(Step){.sequences = &without, .n_sequences = 1}, &err));
    CHECK_STR_EQ("slot 1 draws without a mask, and did not begin so", err.message);
    CHECK(!r->b->step(r->b, &(Step){.sequences = &with, .n_sequences = 1}, &err));
    CHECK_STR_EQ("slot 0 draws with a mask, and did not begin so", err.message);
    Step step = {.sequences = &row, .n_sequences = 1, .masks_come_later = true};
    REQUIRE(r->b->step(r->b, &step, &err));
    CHECK(!r->b->read(r->b, &result, &err));
    CHECK_STR_EQ("a step that waits for its masks is read", err.message);
    CHECK(!r->b->step(r->b, &step, &err));
    CHECK_STR_EQ("a step waits for its masks", err.message);
    r->b->close(r->b);
    CHECK_INT_EQ(0, *r->fake.live);
}

// Opens, loads, runs a prompt and rows together, one of them with masks, and closes.
static bool live(const Plan *plan, Arena arena, Error *err) {
    BackendOptions options = options_of(10);
    static const uint32_t pages[2][CONTEXT_PAGES] = {{7, 1, 9, 3}, {8, 2, 10, 4}};
    static uint32_t mask[32];
    Backend *b;
    if (!cuda_backend_open(&options, &arena, &b, err)) return false;
    bool ok = b->load(b, plan, NULL, NULL, err);
    if (ok) cuda_backend_wait_for_classes(b);
    StepResult r;
    for (uint32_t s = 0; ok && s < 2; s++) {
        SequenceStart start = {.params = SAMPLER_GREEDY, .tokens = prompt, .n_prompt = 40, .masked = s == 1};
        StepSequence q = {.slot = s, .n_rows = 40, .tokens = prompt, .pages = pages[s], .n_draws = 1};
        if (s == 1) q.mask = mask;
        ok = b->begin(b, s, &start, err) && b->step(b, &(Step){.sequences = &q, .n_sequences = 1}, err) &&
             b->read(b, &r, err);
    }
    for (uint32_t i = 0; ok && i < 3; i++) {
        StepSequence q[2];
        const uint32_t *masks[2] = {NULL, mask};
        for (uint32_t s = 0; s < 2; s++)
            q[s] = (StepSequence){.slot = s,
                                  .mode = STEP_DECODE,
                                  .position = 40 + i,
                                  .n_rows = 1,
                                  .pages = pages[s],
                                  .n_draws = 1};
        Step step = {.sequences = q, .n_sequences = 2, .masks_come_later = true};
        ok = b->step(b, &step, err) && b->draw(b, masks, err) && b->read(b, &r, err);
    }
    b->close(b);
    return ok;
}

// Each call of the driver fails once, and all after it, as when a context is lost.
TEST_SLOW(cuda_batch_host_survives_the_failure_of_any_call, 300) {
    FakeDriver fake = fake_driver_load();
    Arena arena = os_arena((size_t)1 << 30);
    Plan *plan = make_plan(&arena);
    Error err = {0};
    if (!live(plan, arena, &err)) FAIL("%s", err.message);
    CHECK_INT_EQ(0, *fake.live);
    uint64_t n_calls = (uint64_t)*fake.calls;
    for (uint64_t i = 1; i <= n_calls; i += i < 40 ? 1 : 1 + n_calls / 60) {
        char number[24];
        TEST_CASE_LABEL("call %llu of %llu", (unsigned long long)i, (unsigned long long)n_calls);
        snprintf(number, sizeof number, "%llu", (unsigned long long)i);
        REQUIRE(setenv("FAKE_CUDA_FAIL_CALL", number, 1) == 0);
        *fake.calls = 0;
        err = (Error){0};
        bool ok = live(plan, arena, &err);
        CHECK(!ok || i + 20 > n_calls); // closing looks at nothing
        CHECK(ok || (err.message[0] && err.code != ERR_NONE));
        CHECK_INT_EQ(0, *fake.live);
    }
}

#else

TEST(cuda_batch_host) {
    SKIP("this build has no CUDA");
}

#endif
