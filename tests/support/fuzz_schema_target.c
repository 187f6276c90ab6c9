// The target of fuzz_targets.h that compiles schemas.
#include "fuzz_targets.h"
#include "schema_run.h"

#include <stdlib.h>

enum { WALKED_BYTES_MAX = 300 };

static void fuzz_require(bool ok) {
    if (!ok) abort();
}

// A way through the grammar, drawn from what the masks allow. Where it ends, it is a JSON text.
static void walk(SchemaRun *run, FuzzDice *dice) {
    static char memory[1 << 16];
    char text[WALKED_BYTES_MAX];
    size_t length = 0;
    Error err = {0};
    GrammarState state = grammar_start(run->matcher);
    while (length < WALKED_BYTES_MAX && grammar_is_state(state)) {
        if (grammar_may_end(run->matcher, state)) {
            Arena arena = arena_from_memory(memory, sizeof memory);
            const JsonNode *root = json_parse((Str){text, length}, &arena, &(JsonLimits){0}, &err);
            // A double's range, and how deep containers may be, are limits of the reader's own.
            fuzz_require(root || err.code == ERR_NO_MEMORY || strstr(err.message, "range") ||
                         strstr(err.message, "nested"));
        }
        const uint32_t *mask = grammar_mask(run->matcher, state);
        uint8_t allowed[256];
        uint32_t n = 0;
        for (uint32_t byte = 0; mask && byte < 256; byte++) {
            if (mask[byte / 32] >> (byte % 32) & 1) allowed[n++] = (uint8_t)byte;
        }
        // There is no dead end.
        fuzz_require(n > 0 || !mask || grammar_may_end(run->matcher, state));
        if (n == 0) break;
        uint8_t byte = allowed[fuzz_roll(dice, n)];
        text[length++] = (char)byte;
        state = grammar_step(run->matcher, state, byte);
        fuzz_require(state != GRAMMAR_REFUSED);
    }
}

void fuzz_schema(const uint8_t *data, size_t size) {
    SchemaRun run;
    uint8_t choice = size ? data[0] : 0;
    SchemaOptions options = {.blanks = (SchemaBlanks)(choice % 4),
                             .blank_pattern = choice & 32 ? STR("[ \\n]{0,2}") : STR("\\t?"),
                             .schema_order = choice & 4,
                             .ignore_formats = choice & 8,
                             .plain_numbers = choice & 16};
    if (!schema_run_compile(&run, (Str){(const char *)data + (size > 0), size - (size > 0)}, &options)) {
        fuzz_require(run.err.code == ERR_INVALID_REQUEST || run.err.code == ERR_TOO_LARGE ||
                     run.err.code == ERR_UNSUPPORTED || run.err.code == ERR_NO_MEMORY);
        fuzz_require(run.err.message[0] != 0);
        return;
    }
    FuzzDice dice = {.key = choice + size};
    for (int i = 0; i < 3; i++)
        walk(&run, &dice);
}
