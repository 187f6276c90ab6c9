// uniqueItems: masks against all documents there are, or against a reader written for these tests, token by
// token over a whole vocabulary; and arrays of thousands of items.
#include "base/rng.h"
#include "base/strbuf.h"
#include "grammar/grammar_matcher_internal.h"
#include "os/os.h"
#include "runner.h"
#include "schema_run.h"

#include <stdio.h>

enum { TEXT_BYTES_MAX = 400 };

typedef struct {
    uint64_t key, draws;
} Dice;

static uint32_t roll(Dice *dice, uint32_t below) {
    return rng_philox(dice->key, dice->draws++).word[0] % below;
}

// ---- a vocabulary ----

// Single characters, and tokens that end items, hold whole ones, or begin the next.
static const char *const tokens[] = {"[",
                                     "]",
                                     ",",
                                     "\"",
                                     "a",
                                     "b",
                                     "c",
                                     "0",
                                     "1",
                                     "2",
                                     "3",
                                     "5",
                                     "-",
                                     ".",
                                     "t",
                                     "r",
                                     "u",
                                     "e",
                                     "f",
                                     "l",
                                     "s",
                                     "n",
                                     "[\"",
                                     "\",",
                                     "\",\"",
                                     "\"]",
                                     "a\"",
                                     "ab",
                                     "ba\"",
                                     "a\",\"",
                                     "b\",\"",
                                     "\"a\"",
                                     "\"a\",",
                                     ",\"a",
                                     "a,",
                                     ",\"b",
                                     "\"b\",1",
                                     "1,",
                                     "2,",
                                     ",1",
                                     ",2",
                                     "1,2",
                                     ",1,",
                                     ",2,1",
                                     "12",
                                     "10",
                                     "1]",
                                     "0]",
                                     "0,",
                                     ",0,",
                                     "1.0",
                                     ".0",
                                     ".5",
                                     "00",
                                     ",1.5",
                                     "1.50",
                                     "true",
                                     ",true",
                                     "true,",
                                     "false",
                                     "null",
                                     "null,",
                                     "true]",
                                     "[true",
                                     "[1",
                                     "[0,",
                                     "[\"a\"",
                                     "-1",
                                     "-0",
                                     ",-",
                                     "[]",
                                     "\"\"",
                                     ",\"\",\"",
                                     "ab\",",
                                     "\"ab",
                                     "aab",
                                     "c\",\"ab",
                                     "5,10,1",
                                     "[1,",
                                     "21",
                                     "\"],[\"a\",",
                                     "\"],[\"a\",\"a\"",
                                     "\"],[\"ab\",\"a\"]"};

enum { TOKEN_END = COUNT_OF(tokens), TOKENS };

static const TokenTrie *vocabulary(void) {
    static TokenTrie trie;
    static Str pieces[TOKENS];
    static const int32_t end = TOKEN_END;
    Error err = {0};
    if (trie.n_tokens) return &trie;
    Arena arena = os_arena(1 << 20), scratch = os_arena(1 << 20);
    for (size_t i = 0; i < COUNT_OF(tokens); i++)
        pieces[i] = str_from_c(tokens[i]);
    REQUIRE(token_trie_build(pieces, TOKENS, &end, 1, &arena, scratch, &trie, &err));
    return &trie;
}

static bool mask_has(const uint32_t *mask, uint32_t token) {
    return mask[token / 32] >> (token % 32) & 1;
}

// ---- what may come ----

// The items of a schema, as all their texts, or as kinds of which there are infinitely many.
enum { STRINGS = 1, INTEGERS = 2, WORDS = 4 };

typedef struct {
    const char *schema;
    const char *texts[20]; // none: `kinds`
    uint32_t kinds, min, max;
} Case;

#define ARRAY(items) "{\"type\":\"array\",\"uniqueItems\":true,\"items\":" items

static const Case cases[] = {
    {ARRAY("{\"type\":\"string\"}}"), .kinds = STRINGS, .max = 99},
    {ARRAY("{\"type\":\"string\"},\"minItems\":2,\"maxItems\":3}"), .kinds = STRINGS, .min = 2, .max = 3},
    {ARRAY("{\"type\":\"integer\"}}"), .kinds = INTEGERS, .max = 99},
    {ARRAY("{\"type\":[\"null\",\"boolean\",\"string\",\"integer\"]}}"), .kinds = STRINGS | INTEGERS | WORDS,
     .max = 99},
    {ARRAY("{\"type\":\"boolean\"}}"), {"true", "false"}, .max = 2},
    {ARRAY("{\"type\":[\"null\",\"boolean\"]},\"minItems\":2}"),
     {"null", "true", "false"},
     .min = 2,
     .max = 3},
    {ARRAY("{\"type\":\"string\",\"pattern\":\"^[ab]$\"}}"), {"\"a\"", "\"b\""}, .max = 2},
    {ARRAY("{\"pattern\":\"^a?b?a?$\",\"type\":\"string\"},\"maxItems\":3}"),
     {"\"\"", "\"a\"", "\"b\"", "\"ab\"", "\"ba\"", "\"aa\"", "\"aba\""},
     .max = 3},
    {ARRAY("{\"type\":\"integer\",\"minimum\":-1,\"maximum\":2}}"), {"-1", "0", "1", "2"}, .max = 4},
    {ARRAY("{\"type\":\"integer\",\"minimum\":0,\"maximum\":12},\"maxItems\":3,\"minItems\":1}"),
     {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12"},
     .min = 1,
     .max = 3},
    {ARRAY("{\"type\":\"number\",\"multipleOf\":0.5,\"minimum\":0,\"maximum\":1.5}}"),
     {"0", "0.5", "1", "1.5"},
     .max = 4},
    {ARRAY("{\"enum\":[1,1.0,\"a\",\"ab\",null,12,10]},\"minItems\":4,\"maxItems\":4}"),
     {"1", "\"a\"", "\"ab\"", "null", "12", "10"},
     .min = 4,
     .max = 4},
    {ARRAY("{\"enum\":[\"a\",true,1]},\"minItems\":3}"), {"\"a\"", "true", "1"}, .min = 3, .max = 3},
    {"{\"type\":\"array\",\"uniqueItems\":true,\"prefixItems\":[{\"type\":\"boolean\"},{\"enum\":[true,false]"
     "}],"
     "\"items\":false}",
     {"true", "false"},
     .max = 2},
};

static uint32_t count_texts(const Case *c) {
    uint32_t n = 0;
    while (c->texts[n])
        n++;
    return n;
}

// Whether some document begins with the text (or is it: `whole`), by trying all documents. `done` bytes of it
// are those of the items in the set `used`.
static bool some_document(const Case *c, Str text, size_t done, uint32_t used, uint32_t count, bool whole) {
    bool is_over = done >= text.len;
    if (count >= c->min && (is_over ? !whole : text.ptr[done] == ']' && done + 1 == text.len)) return true;
    if (is_over && whole) return false;
    for (uint32_t i = 0; count < c->max && c->texts[i]; i++) {
        char item[32];
        int length = snprintf(item, sizeof item, "%s%s", count ? "," : "", c->texts[i]);
        size_t same = min_u64(text.len > done ? text.len - done : 0, (uint64_t)length);
        if (used >> i & 1 || memcmp(text.ptr + done, item, same) != 0) continue;
        if (some_document(c, text, done + (size_t)length, used | 1u << i, count + 1, whole)) return true;
    }
    return false;
}

static bool is_among(const Str *items, uint32_t n, Str item) {
    for (uint32_t i = 0; i < n; i++)
        if (str_eq(items[i], item)) return true;
    return false;
}

// Whether a text of digits, sign or letters is an item, or (`more`) the beginning of one that has not come.
static bool is_bare_item(const Case *c, Str text, bool more, const Str *items, uint32_t n) {
    static const Str words[] = {STR("null"), STR("true"), STR("false")};
    for (size_t i = 0; c->kinds & WORDS && i < COUNT_OF(words); i++)
        if ((more ? str_starts_with(words[i], text) : str_eq(words[i], text)) &&
            !is_among(items, n, words[i]))
            return true;
    if (!(c->kinds & INTEGERS)) return false;
    bool negative = text.len && text.ptr[0] == '-';
    Str digits = str_slice(text, negative, text.len);
    for (size_t i = 0; i < digits.len; i++)
        if (digits.ptr[i] < '0' || digits.ptr[i] > '9') return false;
    if (digits.len == 0) return more;
    if (digits.ptr[0] == '0') return digits.len == 1 && !negative && !is_among(items, n, text);
    return more || !is_among(items, n, text);
}

// The same for items without end.
static bool some_infinite(const Case *c, Str text, bool whole) {
    Str items[100];
    uint32_t n = 0;
    size_t at = 1;
    if (text.len == 0 || text.ptr[0] != '[') return text.len == 0 && !whole;
    for (;;) {
        bool may_end = n >= c->min;
        if (at == text.len) return !whole && (n == 0 || may_end || n < c->max);
        if (text.ptr[at] == ']') return may_end && at + 1 == text.len;
        if (n && text.ptr[at++] != ',') return false;
        if (n == c->max) return false;
        if (at == text.len) return !whole;
        size_t end = at;
        bool is_string = text.ptr[at] == '"' && c->kinds & STRINGS;
        if (is_string) {
            for (end++; end < text.len && text.ptr[end] != '"';)
                end++;
            if (end++ == text.len) return !whole;
        } else {
            while (end < text.len && text.ptr[end] != ',' && text.ptr[end] != ']')
                end++;
            if (end == text.len) return !whole && is_bare_item(c, str_slice(text, at, end), true, items, n);
        }
        items[n] = str_slice(text, at, end);
        if (is_string ? is_among(items, n, items[n]) : !is_bare_item(c, items[n], false, items, n))
            return false;
        n++;
        at = end;
    }
}

static bool is_possible(const Case *c, Str text, bool whole) {
    if (!c->texts[0]) return some_infinite(c, text, whole);
    if (text.len == 0) return !whole;
    return text.ptr[0] == '[' && some_document(c, str_slice(text, 1, text.len), 0, 0, 0, whole);
}

// ---- the comparison ----

static GrammarState compare_and_step(const Case *c, SchemaRun *run, Dice *dice, StrBuf *text,
                                     GrammarState state) {
    uint32_t mask[(TOKENS + 31) / 32], chosen = TOKENS, seen = 0;
    size_t length = text->len;
    const uint32_t *words = grammar_mask(run->matcher, state);
    REQUIRE(words);
    memcpy(mask, words, sizeof mask);
    for (uint32_t token = 0; token < TOKENS; token++) {
        bool ends = token == TOKEN_END;
        if (!ends) strbuf_put(text, str_from_c(tokens[token]));
        bool possible = is_possible(c, strbuf_str(text), ends);
        GrammarState next = grammar_step(run->matcher, state, (int32_t)token);
        if (possible != mask_has(mask, token) ||
            possible != (grammar_is_state(next) || next == GRAMMAR_ENDED))
            FAIL("%s: %s is %spossible, and %sin the mask", c->schema, text->ptr, possible ? "" : "not ",
                 mask_has(mask, token) ? "" : "not ");
        if (possible && roll(dice, ++seen) == 0) chosen = token;
        text->len = length;
        text->ptr[length] = 0;
    }
    if (!CHECK(chosen < TOKENS) || chosen == TOKEN_END) return GRAMMAR_ENDED;
    strbuf_put(text, str_from_c(tokens[chosen]));
    return grammar_step(run->matcher, state, (int32_t)chosen);
}

// Two texts in turn, which share a matcher; now and then all states but theirs are dropped.
static uint32_t compare_walks(const Case *c, SchemaRun *run, Dice *dice) {
    char memory[2][TEXT_BYTES_MAX];
    StrBuf texts[2] = {STRBUF(memory[0]), STRBUF(memory[1])};
    GrammarState states[2] = {grammar_start(run->matcher), grammar_start(run->matcher)};
    uint32_t n = 0;
    for (int step = 0; step < 40; step++) {
        int which = step % 2;
        if (!grammar_is_state(states[which])) continue;
        states[which] = compare_and_step(c, run, dice, &texts[which], states[which]);
        n++;
        GrammarState *kept[2];
        uint32_t n_kept = 0;
        for (int k = 0; k < 2; k++)
            if (grammar_is_state(states[k])) kept[n_kept++] = &states[k];
        if (roll(dice, 8) == 0) CHECK(grammar_keep(run->matcher, kept, n_kept));
        // A text that is read again leads to the same state.
        if (grammar_is_state(states[which]))
            CHECK_INT_EQ(states[which], grammar_step_bytes(run->matcher, grammar_start(run->matcher),
                                                           strbuf_str(&texts[which])));
    }
    return n;
}

TEST(schema_unique_masks_are_what_documents_allow) {
    SchemaOptions options = {.blanks = SCHEMA_BLANKS_NONE, .plain_numbers = true};
    uint32_t compared = 0;
    schema_run_set_trie(vocabulary());
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        SchemaRun run;
        TEST_CASE_LABEL("%s", cases[i].schema);
        if (!schema_run_compile(&run, str_from_c(cases[i].schema), &options)) {
            FAIL("%s", run.err.message);
            continue;
        }
        CHECK(count_texts(&cases[i]) < COUNT_OF(cases[i].texts));
        Dice dice = {.key = i};
        for (int walk = 0; walk < (test_is_sanitized() ? 4 : 12); walk++)
            compared += compare_walks(&cases[i], &run, &dice);
    }
    schema_run_set_trie(NULL);
    printf("%u masks\n", compared);
    CHECK(compared > 500);
}

// ---- masks of all that may be around ----

// Arrays in arrays and in objects, and texts that can be read in two ways.
TEST(schema_unique_masks_are_what_each_token_would_do) {
    static const char *const schemas[] = {
        "{\"type\":\"array\",\"items\":" ARRAY("{\"type\":[\"string\",\"null\"]}}") "}",
        "{\"type\":\"array\",\"items\":" ARRAY("{\"enum\":[\"a\",\"ab\",1,12,10]},\"minItems\":1}") "}",
        "{\"anyOf\":[" ARRAY(
            "{\"type\":[\"string\",\"number\"]}}") ",{\"type\":\"array\",\"maxItems\":3,"
                                                   "\"items\":{\"type\":[\"integer\",\"boolean\"]}}," ARRAY(
                                                       "{\"enum\":[\"a\",\"b\",0]},\"minItems\":2}") "]}",
        ARRAY("{\"type\":\"number\"}}"),
        ARRAY("{\"type\":\"number\",\"minimum\":0,\"maximum\":1}}"),
        ARRAY("{\"type\":\"string\",\"maxLength\":1},\"maxItems\":4}"),
    };
    SchemaOptions options = {.blanks = SCHEMA_BLANKS_NONE, .plain_numbers = true};
    schema_run_set_trie(vocabulary());
    for (size_t i = 0; i < COUNT_OF(schemas); i++) {
        SchemaRun run;
        Dice dice = {.key = i};
        TEST_CASE_LABEL("%s", schemas[i]);
        REQUIRE(schema_run_compile(&run, str_from_c(schemas[i]), &options));
        GrammarState state = grammar_start(run.matcher);
        for (int step = 0; step < (test_is_sanitized() ? 60 : 200); step++) {
            uint32_t mask[(TOKENS + 31) / 32], chosen = TOKENS, seen = 0;
            memcpy(mask, grammar_mask(run.matcher, state), sizeof mask);
            for (uint32_t token = 0; token < TOKENS; token++) {
                GrammarState next = grammar_step(run.matcher, state, (int32_t)token);
                bool expected = grammar_is_state(next) || next == GRAMMAR_ENDED;
                if (expected != mask_has(mask, token))
                    FAIL("step %d: %s is %s", step, token < TOKEN_END ? tokens[token] : "the end",
                         expected ? "missing" : "allowed");
                if (expected && roll(&dice, ++seen) == 0) chosen = token;
            }
            if (!CHECK(chosen < TOKENS)) break;
            state = grammar_step(run.matcher, state, (int32_t)chosen);
            if (!grammar_is_state(state)) state = grammar_start(run.matcher); // once more
        }
    }
    schema_run_set_trie(NULL);
}

// ---- many items ----

// Steps over the text as the engine does: where there is no room, all states but this one are dropped.
static GrammarState step_with_room(GrammarMatcher *m, GrammarState state, Str text, uint32_t *n_kept) {
    GrammarState next = grammar_step_bytes(m, state, text);
    if (next != GRAMMAR_FULL) return next;
    REQUIRE(grammar_keep(m, (GrammarState *[]){&state}, 1));
    ++*n_kept;
    return grammar_step_bytes(m, state, text);
}

TEST(schema_unique_arrays_of_thousands) {
    enum { ITEMS = 6000 };
    SchemaOptions options = {.blanks = SCHEMA_BLANKS_FEW, .plain_numbers = true};
    SchemaRun run;
    uint32_t n_kept = 0;
    REQUIRE(schema_run_compile(&run, STR(ARRAY("{\"type\":\"string\"},\"minItems\":6000}")), &options));
    GrammarState state = grammar_start(run.matcher);
    for (uint32_t i = 0; i < ITEMS; i++) {
        char text[64];
        TEST_CASE_LABEL("item %u", i);
        int length = snprintf(text, sizeof text, "%s\"item %u of the array\"", i ? ", " : "[", i);
        if (i % 500 == 499) { // one of those before
            char again[64];
            int n = snprintf(again, sizeof again, ", \"item %u of the array", i / 3);
            GrammarState open = step_with_room(run.matcher, state, (Str){again, (size_t)n}, &n_kept);
            REQUIRE(grammar_is_state(open));
            const uint32_t *mask = grammar_mask(run.matcher, open);
            CHECK(mask && !mask_has(mask, '"') && mask_has(mask, 'x'));
            CHECK_INT_EQ(GRAMMAR_REFUSED, grammar_step_bytes(run.matcher, open, STR("\"")));
        }
        state = step_with_room(run.matcher, state, (Str){text, (size_t)length}, &n_kept);
        REQUIRE(grammar_is_state(state));
    }
    state = step_with_room(run.matcher, state, STR("]"), &n_kept);
    CHECK(grammar_is_state(state) && grammar_may_end(run.matcher, state) && n_kept > 0);
    printf("states dropped %u times\n", n_kept);
}

// An item as long as there is room for.
TEST(schema_unique_items_may_be_long) {
    SchemaOptions options = {.blanks = SCHEMA_BLANKS_NONE};
    SchemaRun run;
    char text[1000];
    uint32_t n_kept = 0, length = 0;
    memset(text, 'x', sizeof text);
    REQUIRE(schema_run_compile(&run, STR(ARRAY("{\"type\":\"string\"}}")), &options));
    GrammarState state = grammar_step_bytes(run.matcher, grammar_start(run.matcher), STR("[\"x\",\""));
    for (;; length += (uint32_t)sizeof text) {
        GrammarState next = grammar_step_bytes(run.matcher, state, (Str){text, sizeof text});
        if (next == GRAMMAR_FULL) break;
        REQUIRE(grammar_is_state(next));
        state = next;
        const uint32_t *mask = length % 10000 == 0 ? grammar_mask(run.matcher, state) : NULL;
        if (mask) CHECK(mask_has(mask, '"') && mask_has(mask, 'x') && !mask_has(mask, '\n'));
    }
    CHECK(length > 64000);
    CHECK(!grammar_keep(run.matcher, (GrammarState *[]){&state}, 1));
    state = step_with_room(run.matcher, state, STR("\"]"), &n_kept);
    CHECK(grammar_is_state(state) && grammar_may_end(run.matcher, state));
    printf("%u bytes\n", length);
}
