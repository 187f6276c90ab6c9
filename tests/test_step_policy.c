// Which rows go into the next step: the decisions by themselves.
#include "base/strbuf.h"
#include "engine/step_policy.h"
#include "runner.h"

#include <stdio.h>

enum { SLOTS = 4, STEPS = 12 };

// A step as text: "2:16" is a chunk of 16 rows for slot 2, "2:16 1/3" its second of three slices, "d0" a draw
// of slot 0.
static void describe(const StepChoice *step, StrBuf *out) {
    if (step->n_parts == 0) strbuf_put(out, STR("-"));
    for (uint32_t i = 0; i < step->n_parts; i++) {
        const StepPart *part = &step->parts[i];
        if (i) strbuf_put(out, STR(","));
        if (part->prompt_rows == 0) strbuf_printf(out, "d%u", part->slot);
        else strbuf_printf(out, "%u:%u", part->slot, part->prompt_rows);
        if (part->n_slices > 1) strbuf_printf(out, " %u/%u", part->slice, part->n_slices);
    }
}

// Takes a step's work away.
static void send(SlotWork work[SLOTS], uint32_t draws_left[SLOTS], const StepChoice *step) {
    for (uint32_t i = 0; i < step->n_parts; i++) {
        const StepPart *part = &step->parts[i];
        SlotWork *w = &work[part->slot];
        if (part->prompt_rows && part->slice + 1 < part->n_slices) continue;
        w->prompt_rows -= part->prompt_rows;
        if (w->prompt_rows == 0 && draws_left[part->slot]) draws_left[part->slot]--;
        w->decodes = draws_left[part->slot] > 0;
    }
}

TEST(step_policy_chooses_rows) {
    static const struct {
        const char *name;
        uint32_t max_rows, chunk_tokens, slices;
        uint32_t prompts[SLOTS], draws[SLOTS];
        const char *expected; // the steps
    } rows[] = {
        {"nothing", 16, 0, 0, {0}, {0}, "-"},
        {"one prompt", 16, 0, 0, {40}, {3}, "0:16; 0:16; 0:8; d0; d0; -"},
        {"smaller chunks at first", 16, 4, 0, {9}, {1}, "0:4; 0:4; 0:1; -"},
        {"half for the shortest prompt", 16, 0, 0, {20, 5, 20}, {1, 1, 1}, "0:11,1:5; 0:9,2:7; 2:13; -"},
        {"at most half for it", 16, 0, 0, {20, 30, 12}, {1, 1, 1}, "0:8,2:8; 0:12,2:4; 1:16; 1:14; -"},
        {"beside draws", 16, 0, 0, {1, 40}, {4, 2}, "0:1,1:15; 1:15,d0; 1:10,d0; d0,d1; -"},
        {"all that decode", 16, 0, 0, {1, 1, 1, 1}, {3, 2, 3, 1}, "0:1,1:1,2:1,3:1; d0,d1,d2; d0,d2; -"},
        {"more of them than rows", 2, 0, 0, {0}, {2, 2, 2, 2}, "d0,d1; d2,d3; d0,d1; d2,d3; -"},
        {"an odd number of them", 2, 0, 0, {0}, {2, 2, 2, 0}, "d0,d1; d2,d0; d1,d2; -"},
        {"steps of one row", 1, 0, 0, {1, 3}, {3, 1}, "0:1; d0; 1:1; d0; 1:1; 1:1; -"},
        {"slices", 16, 0, 2, {16, 3}, {1, 1}, "0:16 0/2; 0:16 1/2; 1:3; -"},
        {"no slices for few rows", 16, 0, 3, {0, 16}, {3, 1}, "1:9,d0; 1:7,d0; d0; -"},
        {"slices beside draws",
         16,
         0,
         6,
         {0, 16},
         {3, 1},
         "1:8 0/3,d0; 1:8 1/3,d0; 1:8 2/3,d0; 1:8 0/3; 1:8 1/3; 1:8 2/3; -"},
        {"fewer slices for fewer rows", 16, 0, 8, {6}, {1}, "0:6 0/3; 0:6 1/3; 0:6 2/3; -"},
    };
    for (size_t row = 0; row < COUNT_OF(rows); row++) {
        TEST_CASE_LABEL("%s", rows[row].name);
        BackendInfo info = {.max_rows = rows[row].max_rows,
                            .chunk_tokens = rows[row].chunk_tokens,
                            .chunk_slices = rows[row].slices};
        StepPolicy policy = step_policy_for(&info);
        SlotWork work[SLOTS];
        uint32_t draws[SLOTS];
        memcpy(draws, rows[row].draws, sizeof draws);
        for (uint32_t i = 0; i < SLOTS; i++)
            work[i] = (SlotWork){.slot = i, .prompt_rows = rows[row].prompts[i], .decodes = draws[i] > 0};
        char text[256];
        StrBuf out = STRBUF(text);
        StepChoice step = {.n_parts = 1};
        for (uint32_t i = 0; i < STEPS && step.n_parts; i++) {
            step_policy_next(&policy, work, SLOTS, &step);
            if (i) strbuf_put(&out, STR("; "));
            describe(&step, &out);
            send(work, draws, &step);
        }
        CHECK_STR_EQ(rows[row].expected, text);
    }
}

// A sequence that ends in the middle of its chunk makes room for another's.
TEST(step_policy_forgets_chunks) {
    BackendInfo info = {.max_rows = 16, .chunk_slices = 4};
    StepPolicy policy = step_policy_for(&info);
    SlotWork work[] = {{.slot = 0, .prompt_rows = 16}, {.slot = 1, .prompt_rows = 16}};
    StepChoice step;
    for (uint32_t i = 0; i < 2; i++)
        step_policy_next(&policy, work, 2, &step);
    CHECK(step.parts[0].slot == 0 && step.parts[0].slice == 1);
    step_policy_forget(&policy, 1); // another one: nothing changes
    step_policy_next(&policy, work, 2, &step);
    CHECK(step.parts[0].slot == 0 && step.parts[0].slice == 2);
    step_policy_forget(&policy, 0);
    work[0].prompt_rows = 0;
    step_policy_next(&policy, work, 2, &step);
    CHECK(step.parts[0].slot == 1 && step.parts[0].slice == 0);
}

// Steps of a long prompt, whose time is rows and slices times a cost, come near the target and stay there.
TEST(step_policy_finds_the_size_of_chunks) {
    static const struct {
        const char *name;
        uint32_t depth, slices;
        uint64_t row_ns; // of all layers
        uint32_t chunk_tokens, chunk_slices;
        bool ahead;
    } rows[] = {
        {"a fast GPU", 2, 80, 1000, 512, 1, true},
        {"chunks of more than 10 ms", 2, 80, 40000, 512, 1, false},
        {"a slow GPU", 2, 80, 700 * 1000, 512, 8, false},
        {"a very slow one", 2, 80, 11 * 1000 * 1000, 512, 80, false},
        {"a slower one", 2, 80, 20 * 1000 * 1000, 256, 80, false},
        {"a processor", 1, 0, 1000 * 1000, 32, 1, false},
        {"a fast processor", 1, 0, 20 * 1000, 512, 1, false},
        {"a processor that is too slow", 1, 0, 90 * 1000 * 1000, CHUNK_TOKENS_MIN, 1, false},
    };
    for (size_t row = 0; row < COUNT_OF(rows); row++) {
        TEST_CASE_LABEL("%s", rows[row].name);
        BackendInfo info = {
            .max_rows = 512, .chunk_slices = rows[row].slices, .pipeline_depth = rows[row].depth};
        StepPolicy policy = step_policy_for(&info);
        SlotWork work[1] = {{.prompt_rows = 1 << 20}};
        for (uint32_t i = 0; i < 400; i++) {
            StepChoice step;
            step_policy_next(&policy, work, 1, &step);
            const StepPart *part = &step.parts[0];
            step_policy_learn(&policy, &step, part->prompt_rows * rows[row].row_ns / part->n_slices);
        }
        CHECK_INT_EQ(rows[row].chunk_tokens, policy.chunk_tokens);
        CHECK_INT_EQ(rows[row].chunk_slices, policy.chunk_slices);
        CHECK(rows[row].ahead == step_policy_sends_ahead(&policy));
    }
}

// Prompts beside draws: the step's time comes near the most that it may be, whatever rows cost.
TEST(step_policy_finds_the_rows_beside_draws) {
    static const struct {
        const char *name;
        uint32_t depth, n_draws;
        uint64_t draws_ns, pass_ns, row_ns; // a step's draws; prompts' rows: together, and each
        uint64_t least_rows, most_ns;
        uint32_t tile; // the time is that of whole tiles of all rows
    } rows[] = {
        {"a GPU", 2, 32, 4000000, 0, 20000, 96, 7600000, 0},
        {"a second pass through the layers", 2, 32, 4000000, 2000000, 20000, 32, 7600000, 0},
        {"fast draws", 2, 1, 300000, 0, 2000, 127, 570000, 0},
        {"slow draws", 2, 63, 30000000, 0, 100000, 65, 40000000, 0},
        {"rows that cost too much", 2, 8, 4000000, 9000000, 100000, 56, 19000000, 0},
        {"a long text's rows", 2, 16, 2200000, 5000000, 3000, 240, 9000000, 32},
        {"a processor", 1, 4, 20000000, 0, 1000000, 12, 37600000, 0},
        {"a slow one", 1, 4, 90000000, 0, 9000000, 8, 200000000, 0},
        {"rows for nothing", 2, 4, 2000000, 0, 1, 2000, 2100000, 0},
        {"a tile less than two", 2, 63, 3000000, 0, 20000, 65, 5600000, 128},
        {"tiles that cost too much", 2, 63, 3000000, 0, 90000, 65, 14600000, 128},
        {"small tiles", 2, 8, 1800000, 0, 12500, 56, 3400000, 32},
        {"half as many as draw", 2, 60, 3000000, 0, 30000, 68, 6900000, 32},
        {"several tiles", 2, 8, 8000000, 0, 10000, 504, 15000000, 128},
    };
    for (size_t row = 0; row < COUNT_OF(rows); row++) {
        TEST_CASE_LABEL("%s", rows[row].name);
        BackendInfo info = {.max_rows = 4096, .pipeline_depth = rows[row].depth, .rows_tile = rows[row].tile};
        StepPolicy policy = step_policy_for(&info);
        SlotWork work[JOBS_MAX] = {{.slot = 0}};
        uint64_t n_rows = 0, took_ns = 0;
        for (uint32_t i = 1; i <= rows[row].n_draws; i++)
            work[i] = (SlotWork){.slot = i, .decodes = true};
        for (uint32_t i = 0; i < 60; i++) {
            StepChoice step;
            work[0].prompt_rows = i % 3 ? 1 << 20 : 0;
            step_policy_next(&policy, work, 1 + rows[row].n_draws, &step);
            CHECK_INT_EQ(rows[row].n_draws + (i % 3 != 0), step.n_parts);
            n_rows = step.parts[0].prompt_rows;
            uint64_t counted =
                rows[row].tile && n_rows ? align_up(n_rows + rows[row].n_draws, rows[row].tile) : n_rows;
            took_ns = rows[row].draws_ns + (n_rows ? rows[row].pass_ns : 0) + counted * rows[row].row_ns;
            step_policy_learn(&policy, &step, took_ns);
        }
        CHECK(n_rows >= rows[row].least_rows);
        CHECK(took_ns <= rows[row].most_ns);
        printf("%s: %llu rows, %llu ns\n", rows[row].name, (unsigned long long)n_rows,
               (unsigned long long)took_ns);
    }
}

// Steps with fewer rows than their size has, a prompt of 128 beside 32 draws: that they take too long is
// learned from them, too.
TEST(step_policy_learns_from_steps_that_are_not_full) {
    BackendInfo info = {.max_rows = 2048, .pipeline_depth = 2, .rows_tile = 32};
    StepPolicy policy = step_policy_for(&info);
    uint32_t n_long = 0;
    for (uint32_t i = 0; i < 100; i++) {
        SlotWork work[33] = {{.slot = 0, .prompt_rows = i % 3 ? 128 : 0}};
        for (uint32_t k = 1; k < COUNT_OF(work); k++)
            work[k] = (SlotWork){.slot = k, .decodes = true};
        StepChoice step;
        step_policy_next(&policy, work, COUNT_OF(work), &step);
        uint32_t rows = 32 + step.parts[0].prompt_rows;
        step_policy_learn(&policy, &step, rows == 32 ? 660000 : rows <= 128 ? 1030000 : 1540000);
        n_long += rows > 128;
    }
    CHECK_INT_EQ(1, n_long);
}
