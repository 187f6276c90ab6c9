// The target of fuzz_targets.h that compiles schemas.
#include "base/hash.h"
#include "fuzz_targets.h"
#include "grammar/number_lang.h"
#include "os/os.h"
#include "schema_run.h"

#include <stdlib.h>

// What most executions take; one in RARE_EXECUTIONS takes all that a schema may, which is a second.
enum {
    WALKED_BYTES = 60,
    WALKED_BYTES_MAX = 300,
    COMPILED_WORK = 1 << 18,
    RARE_EXECUTIONS = 64,
};

static void fuzz_require(bool ok) {
    if (!ok) abort();
}

static bool is_same_scalar(const JsonNode *a, const JsonNode *b) {
    static Decimal x, y;
    if (json_is_number(a) && json_is_number(b)) {
        x = decimal_from_json(a), y = decimal_from_json(b);
        return x.negative == y.negative && x.point == y.point && x.n_digits == y.n_digits &&
               memcmp(x.digits, y.digits, x.n_digits) == 0;
    }
    if (a->type != b->type) return false;
    if (a->type == JSON_STRING) return str_eq((Str){a->as.string, a->length}, (Str){b->as.string, b->length});
    return a->type == JSON_NULL || (a->type == JSON_BOOL && a->as.boolean == b->as.boolean);
}

static void check_items_differ(const JsonNode *array) {
    for (const JsonNode *a = json_first(array); a != json_end(array); a = json_next(a))
        for (const JsonNode *b = json_next(a); b != json_end(array); b = json_next(b))
            fuzz_require(!is_same_scalar(a, b));
}

// A byte is allowed if and only if it can be read.
static void check_mask(SchemaRun *run, GrammarState state, const uint8_t *allowed, uint32_t n) {
    for (uint32_t byte = 0, next = 0; byte < 256; byte++) {
        GrammarState behind = grammar_step(run->matcher, state, (int32_t)byte);
        bool has = next < n && allowed[next] == byte;
        next += has;
        fuzz_require(behind == GRAMMAR_FULL || behind == GRAMMAR_AMBIGUOUS ||
                     has == grammar_is_state(behind));
    }
}

// A text that may end is JSON; `unique`: one whose items are all different, if it is an array.
static void check_text(Str text, bool unique) {
    static char memory[1 << 16];
    Error err = {0};
    Arena arena = arena_from_memory(memory, sizeof memory);
    const JsonNode *root = json_parse(text, &arena, &(JsonLimits){0}, &err);
    // A double's range, and how deep containers may be, are limits of the reader's own.
    fuzz_require(root || err.code == ERR_NO_MEMORY || strstr(err.message, "range") ||
                 strstr(err.message, "nested"));
    if (root && unique && root->type == JSON_ARRAY) check_items_differ(root);
}

static uint32_t allowed_bytes(const uint32_t *mask, uint8_t allowed[256]) {
    uint32_t n = 0;
    for (uint32_t word = 0; mask && word < 256 / 32; word++)
        for (uint32_t bits = mask[word]; bits; bits &= bits - 1)
            allowed[n++] = (uint8_t)(word * 32 + (uint32_t)__builtin_ctz(bits));
    return n;
}

// A way through the grammar, drawn from what the masks allow. Texts that go on where they may end, as numbers
// do, are looked at now and then.
static void walk(SchemaRun *run, FuzzDice *dice, bool unique, size_t length_max) {
    char text[WALKED_BYTES_MAX];
    size_t length = 0, ends = 0;
    GrammarState state = grammar_start(run->matcher);
    while (length < length_max && grammar_is_state(state)) {
        bool may_end = grammar_may_end(run->matcher, state);
        const uint32_t *mask = grammar_mask(run->matcher, state);
        uint8_t allowed[256];
        uint32_t n = allowed_bytes(mask, allowed);
        if (may_end && (n == 0 || ends++ % 8 == 0)) check_text((Str){text, length}, unique);
        // There is no dead end.
        fuzz_require(n > 0 || !mask || may_end);
        if (n == 0) break;
        if (length % 16 == 5) check_mask(run, state, allowed, n);
        uint8_t byte = allowed[fuzz_roll(dice, n)];
        text[length++] = (char)byte;
        state = grammar_step(run->matcher, state, byte);
        fuzz_require(state != GRAMMAR_REFUSED);
    }
}

// Whether the schema itself says that items are all different.
static bool is_unique(Str schema) {
    static Arena memory;
    Error err = {0};
    bool unique = false;
    if (!memory.next) memory = os_arena(16 << 20);
    Arena arena = memory;
    const JsonNode *root = json_parse(schema, &arena, &(JsonLimits){0}, &err);
    const JsonNode *keyword = root ? json_get(root, STR("uniqueItems")) : NULL;
    return keyword && json_read_bool(keyword, &unique) && unique;
}

void fuzz_schema(const uint8_t *data, size_t size) {
    SchemaRun run;
    Str schema = {(const char *)data + (size > 0), size - (size > 0)};
    uint8_t choice = size ? data[0] : 0;
    SchemaOptions options = {.blanks = (SchemaBlanks)(choice % 4),
                             .blank_pattern = choice & 32 ? STR("[ \\n]{0,2}") : STR("\\t?"),
                             .schema_order = choice & 4,
                             .ignore_formats = choice & 8,
                             .plain_numbers = choice & 16};
    bool is_rare = hash_bytes(data, size) % RARE_EXECUTIONS == 0;
    options.work_max = is_rare ? 0 : COMPILED_WORK;
    if (!schema_run_compile(&run, schema, &options)) {
        fuzz_require(run.err.code == ERR_INVALID_REQUEST || run.err.code == ERR_TOO_LARGE ||
                     run.err.code == ERR_UNSUPPORTED || run.err.code == ERR_NO_MEMORY);
        fuzz_require(run.err.message[0] != 0);
        return;
    }
    FuzzDice dice = {.key = choice + size};
    bool unique = is_unique(schema);
    for (int i = 0; i < 3; i++)
        walk(&run, &dice, unique, is_rare ? WALKED_BYTES_MAX : WALKED_BYTES);
}
