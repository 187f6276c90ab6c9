// What backends ask of a step before they look at it.
#include "backend/backend.h"
#include "runner.h"

static const int32_t tokens[8] = {1, 2, 3};

// clang-format off
#define PROMPT(...) \
    { .mode = STEP_PROMPT, .n_rows = 4, .tokens = tokens, __VA_ARGS__ }
#define DECODE(rows, draws, ...) \
    { .mode = STEP_DECODE, .n_rows = (rows), .n_draws = (draws), __VA_ARGS__ }
// clang-format on

TEST(backend_step_is_checked) {
    const BackendInfo info = {.kind = "tested", .max_rows = 8, .max_draws = 2};
    static const struct {
        const char *name;
        StepSequence q[3];
        uint32_t n;
        ErrCode code;
        const char *message; // the part that names the fault
    } rows[] = {
        {"nothing", {{0}}, 0, ERR_NONE, ""},
        {"a prompt and two draws",
         {PROMPT(.n_draws = 1), DECODE(1, 1, .slot = 1), DECODE(1, 1, .slot = 2)},
         3,
         ERR_NONE,
         ""},
        {"two draws of one", {DECODE(1, 2, )}, 1, ERR_NONE, ""},
        {"a slice", {PROMPT(.n_slices = 3, .slice = 1)}, 1, ERR_NONE, ""},
        {"the last slice", {PROMPT(.n_slices = 3, .slice = 2, .n_draws = 1, .n_logits = 4)}, 1, ERR_NONE, ""},
        {"too many rows", {PROMPT(), PROMPT(.slot = 1), DECODE(1, 1, .slot = 2)}, 3, ERR_INTERNAL, "9 rows"},
        {"a slot twice", {DECODE(1, 1, .slot = 3), DECODE(1, 1, .slot = 3)}, 2, ERR_INTERNAL, "slot 3 twice"},
        {"a slot too high", {DECODE(1, 1, .slot = JOBS_MAX)}, 1, ERR_INTERNAL, "out of range"},
        {"no rows", {{.tokens = tokens}}, 1, ERR_INTERNAL, "not one of its mode"},
        {"a prompt without tokens", {{.n_rows = 1}}, 1, ERR_INTERNAL, "not one of its mode"},
        {"a draw of two rows", {DECODE(2, 1, )}, 1, ERR_INTERNAL, "not one of its mode"},
        {"a draw with tokens", {DECODE(1, 1, .tokens = tokens)}, 1, ERR_INTERNAL, "not one of its mode"},
        {"a decode that draws nothing", {DECODE(1, 0, )}, 1, ERR_INTERNAL, "not one of its mode"},
        {"a draw of an early slice", {PROMPT(.n_slices = 2, .n_draws = 1)}, 1, ERR_INTERNAL, "not one of"},
        {"more logits than rows", {PROMPT(.n_logits = 5)}, 1, ERR_INTERNAL, "not one of its mode"},
        {"logits of two", {PROMPT(.n_logits = 1), DECODE(1, 1, .slot = 1)}, 2, ERR_INTERNAL, "2 sequences"},
        {"too many draws", {DECODE(1, 3, )}, 1, ERR_UNSUPPORTED, "3 draws"},
        {"two draws of a prompt", {PROMPT(.n_draws = 2)}, 1, ERR_UNSUPPORTED, "2 draws"},
        {"guesses",
         {{.mode = STEP_VERIFY, .n_rows = 2, .tokens = tokens, .n_draws = 2}},
         1,
         ERR_UNSUPPORTED,
         "does not verify"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].name);
        Error err = {0};
        bool ok = step_check(&(Step){.sequences = rows[i].q, .n_sequences = rows[i].n}, &info, &err);
        CHECK_INT_EQ(rows[i].code, err.code);
        CHECK(ok == (rows[i].code == ERR_NONE));
        if (!strstr(err.message, rows[i].message)) FAIL("\"%s\" is not in: %s", rows[i].message, err.message);
    }
}
