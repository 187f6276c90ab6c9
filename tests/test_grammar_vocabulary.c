// Masks over vocabularies as models have them: text in quotes, characters cut in pieces, long tokens,
// 150,000 of them.
#include "base/rng.h"
#include "base/sort.h"
#include "base/strbuf.h"
#include "base/utf8.h"
#include "grammar/grammar_text_formats.h"
#include "grammar/rx.h"
#include "grammar_make.h"
#include "os/os.h"
#include "runner.h"

#include <stdio.h>

typedef struct {
    uint64_t key, draws;
} Dice;

static uint32_t roll(Dice *dice, uint32_t below) {
    return rng_philox(dice->key, dice->draws++).word[0] % below;
}

// `most` characters at most, counted beside the automaton; 0: no such bound.
static GrammarNode add_counted(GrammarBuilder *b, const char *pattern, uint32_t most, LangSpelling spelling,
                               const char *quote, Arena *keep) {
    Str around = str_from_c(quote);
    LangMaker maker = {.keep = keep, .scratch = grammar_arena(1), .work_max = 1 << 24};
    Rx rx = rx_begin(keep);
    Dfa *dfa = arena_new(keep, Dfa, 1);
    Lang lang;
    uint32_t root;
    Error err = {0};
    if (!rx_read_pattern(&rx, str_from_c(pattern), RX_WHOLE, &maker, &root, &err) ||
        !rx_compile(&rx, root, &maker, &lang, &err) ||
        !(most ? dfa_from_lang_counted(&maker, &lang, most, spelling, around, around, dfa, &err)
               : dfa_from_lang(&maker, &lang, spelling, around, around, dfa, &err))) {
        FAIL("%s: %s", pattern, err.message);
        return GRAMMAR_NEVER;
    }
    return grammar_add_dfa(b, dfa);
}

static GrammarNode add_pattern(GrammarBuilder *b, const char *pattern, LangSpelling spelling,
                               const char *quote, Arena *keep) {
    return add_counted(b, pattern, 0, spelling, quote, keep);
}

static bool mask_has(const uint32_t *mask, int32_t token) {
    return mask[token / 32] >> (token % 32) & 1;
}

static int32_t roll_token(Dice *dice, const TokenTrie *trie, const uint32_t *mask) {
    for (int tries = 0; tries < 1000; tries++) {
        int32_t token = (int32_t)roll(dice, trie->n_tokens);
        if (mask_has(mask, token) && !token_trie_is_end(trie, token)) return token;
    }
    for (int32_t token = 0; token < (int32_t)trie->n_tokens; token++)
        if (mask_has(mask, token)) return token;
    return TOKEN_NONE;
}

// ---- leaves that hold text ----

enum { TEXT_TOKENS = 1500 };

// Tokens of pieces that matter to quotes, escapes, characters and lengths.
static const TokenTrie *text_trie(Arena *arena) {
    static const char *const pieces_of[] = {
        "a",        "b",        "Z",  "1", "-", " ", "\"", "\\", "n", "u0",   "\xC3\xA9", "\xE2\x82",
        "\xF0\x9F", "\x98\x80", "\n", "<", "/", ">", ",",  "}",  ":", "\x85", "\xC2",     "the "};
    static TokenTrie trie;
    static Str pieces[TEXT_TOKENS + 1];
    static const int32_t end = TEXT_TOKENS;
    Dice dice = {.key = 3};
    Error err = {0};
    for (uint32_t i = 0; i < TEXT_TOKENS; i++) {
        char text[160];
        size_t length = 0, count = i < 256 ? 0 : 1 + roll(&dice, i % 50 ? 5 : 40);
        if (i < 256) text[length++] = (char)i;
        bool plain = i % 3 == 0; // letters alone
        for (size_t k = 0; k < count; k++) {
            const char *piece = pieces_of[roll(&dice, plain ? 6 : COUNT_OF(pieces_of))];
            memcpy(text + length, piece, strlen(piece));
            length += strlen(piece);
        }
        pieces[i] = arena_copy_str(arena, (Str){text, length});
    }
    REQUIRE(token_trie_build(pieces, TEXT_TOKENS + 1, &end, 1, arena, grammar_arena(1), &trie, &err));
    return &trie;
}

static const struct {
    const char *pattern;
    LangSpelling spelling;
    const char *quote, *behind; // NULL: itself up to 9 times, then a shorter one and a quote
    uint32_t most;              // add_counted
} texts[] = {
    {"[\\s\\S]*", LANG_JSON_STRING, "\"", ",\"", 0},
    {"[\\s\\S]{2,9}", LANG_JSON_STRING, "\"", ":", 0},
    {"[\\s\\S]{0,60}", LANG_JSON_PLAIN, "\"", "}", 0},
    {"[\\s\\S]{5,300}", LANG_JSON_STRING, "\"", ",", 0},
    {"([^ ]{1,20} ){2,30}", LANG_UTF8, "", "\n", 0},
    {"[^<]*", LANG_UTF8, "", "</", 0},
    {"[a-z ]+", LANG_UTF8, "", "-", 0},
    {"[^\\u0085]{3,40}", LANG_UTF8, "", "", 0},
    {"[\\s\\S]{12}", LANG_JSON_STRING, "", NULL, 0}, // chunks of a long string
    {"[\\s\\S]{3}|[\\s\\S]{7}", LANG_JSON_PLAIN, "", NULL, 0},
    {"(a|the )*1*", LANG_UTF8, "", "1", 0},
    {"[\\s\\S]*", LANG_UTF8, "", "", 0},
    {"[\\s\\S]*", LANG_JSON_STRING, "\"", ",\"", 30},
    {"[\\s\\S]*", LANG_JSON_STRING, "\"", ",\"", 300},
    {"[\\s\\S]{9,}", LANG_JSON_STRING, "\"", ",", 60},
    {"[\\s\\S]{70,}", LANG_JSON_PLAIN, "\"", "}", 70},
    {"(a|the )*1*", LANG_JSON_PLAIN, "\"", ":", 40},
    {"([^ ]{1,20} ){2,}", LANG_JSON_STRING, "\"", ":", 100},
    {"[^<]{3,}", LANG_UTF8, "", "</", 40},
    {"a*(b{70})?", LANG_UTF8, "", ",", 80}, // far from the end at once
    {"[\\s\\S]{12,}", LANG_JSON_STRING, "", NULL, 12},
};

static void compare_mask(GrammarMatcher *m, GrammarState state, const char *where, int step) {
    static uint32_t mask[TEXT_TOKENS / 32 + 1];
    memcpy(mask, grammar_mask(m, state), sizeof mask);
    for (int32_t token = 0; token <= TEXT_TOKENS; token++) {
        GrammarState next = grammar_step(m, state, token);
        if (mask_has(mask, token) == (grammar_is_state(next) || next == GRAMMAR_ENDED)) continue;
        FAIL("%s %d, token %d: %s", where, step, token, mask_has(mask, token) ? "allowed" : "missing");
    }
}

TEST(grammar_mask_of_text_is_what_each_token_would_do) {
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        TEST_CASE_LABEL("%s %s", texts[i].pattern, texts[i].behind ? texts[i].behind : "");
        Arena nodes = grammar_arena(0), arena = grammar_arena(2);
        Dice dice = {.key = i};
        const Grammar *g;
        Error err = {0};
        GrammarBuilder *b = grammar_builder_new(&nodes);
        const TokenTrie *trie = text_trie(&arena);
        GrammarNode text =
            add_counted(b, texts[i].pattern, texts[i].most, texts[i].spelling, texts[i].quote, &arena);
        GrammarNode parts[] = {text,
                               grammar_add_literal(b, str_from_c(texts[i].behind ? texts[i].behind : ""))};
        if (!texts[i].behind) {
            parts[0] = grammar_add_repeat(b, text, 0, 9);
            parts[1] = add_pattern(b, "[\\s\\S]{0,11}\"", LANG_UTF8, "", &arena);
        }
        GrammarNode twice = grammar_add_repeat(b, grammar_add_sequence(b, parts, 2), 1, 2);
        REQUIRE(grammar_compile(b, twice, &arena, grammar_arena(1), &g, &err));
        GrammarMatcher *m = grammar_start_matcher(g, trie);
        GrammarState state = grammar_start(m);
        for (int step = 0; step < (test_is_sanitized() ? 12 : 40); step++) {
            compare_mask(m, state, "step", step);
            int32_t token = roll_token(&dice, trie, grammar_mask(m, state));
            if (!CHECK(token != TOKEN_NONE)) break;
            GrammarState next = grammar_step(m, state, token);
            state = grammar_is_state(next) ? next : grammar_start(m); // begins again behind an end
        }
    }
}

// Far from the bounds of a repetition or of an array all counts have one mask; near them each has its own.
TEST(grammar_masks_of_counts_are_shared_far_from_bounds) {
    enum { BOUND = 700 };
    Arena arena = grammar_arena(2);
    const TokenTrie *trie = text_trie(&arena);
    uint32_t longest = trie->depth_max;
    CHECK(longest > 40 && 2 * longest + 60 < BOUND);
    for (int kind = 0; kind < 3; kind++) {
        TEST_CASE_LABEL("kind %d, longest token %u", kind, longest);
        Arena nodes = grammar_arena(0), kept = arena;
        const Grammar *g;
        Error err = {0};
        GrammarBuilder *b = grammar_builder_new(&nodes);
        GrammarNode letter = add_pattern(b, "[ab]", LANG_UTF8, "", &kept);
        GrammarItems items = {.open = add_pattern(b, "a", LANG_UTF8, "", &kept),
                              .close = grammar_add_literal(b, STR("1")),
                              .comma = add_pattern(b, "b", LANG_UTF8, "", &kept),
                              .rest = {.other = add_pattern(b, "a?", LANG_UTF8, "", &kept)},
                              .min = kind == 1 ? BOUND : 0,
                              .max = kind == 1 ? GRAMMAR_UNBOUNDED : BOUND,
                              .contains_max = GRAMMAR_UNBOUNDED};
        GrammarNode root = kind == 2 ? grammar_add_repeat(b, letter, 0, BOUND) : grammar_add_items(b, &items);
        REQUIRE(grammar_compile(b, root, &kept, grammar_arena(1), &g, &err));
        GrammarMatcher *m = grammar_start_matcher(g, trie);
        GrammarState state = grammar_start(m);
        uint64_t made_far = 0;
        for (int count = 0; count <= BOUND + 3 && grammar_is_state(state); count++) {
            bool is_far = count > 3 && count + (int)longest + 4 < BOUND;
            uint64_t before = grammar_figures(m).masks - grammar_figures(m).masks_cached;
            CHECK(grammar_mask(m, state) != NULL);
            if (is_far) made_far += grammar_figures(m).masks - grammar_figures(m).masks_cached - before;
            if (!is_far || count % 50 == 0) compare_mask(m, state, "count", count);
            state = grammar_step_bytes(m, state, STR("b"));
            if (count == 0 && !grammar_is_state(state))
                state = grammar_step_bytes(m, grammar_start(m), STR("a"));
        }
        CHECK(made_far <= 2);
        GrammarState one = grammar_step_bytes(m, grammar_start(m), STR("abbbb"));
        GrammarState two = grammar_step_bytes(m, grammar_start(m), STR("abbbbbbb"));
        const uint32_t *mask = grammar_mask(m, one);
        CHECK(one != two && mask == grammar_mask(m, two));
        REQUIRE(grammar_keep(m, (GrammarState *[]){&one, &two}, 2));
        CHECK(mask == grammar_mask(m, one) && mask == grammar_mask(m, two));
        compare_mask(m, one, "kept", 1);
        compare_mask(m, two, "kept", 2);
    }
}

// ---- speed ----

enum { MANY_TOKENS = 150000 };

// A vocabulary of the usual kind: bytes, words with and without a blank in front, in both cases, runs of
// blanks and line ends, digits, punctuation in a row, pieces of other scripts.
static const TokenTrie *many_trie(uint32_t n_tokens, Arena *arena) {
    static TokenTrie trie;
    static int32_t end;
    static const char marks[] = "\"'.,:;!?(){}[]<>=+-*/\\_#$%&@";
    static const char letters[] = "eeeetttaaooiinnsshhrrdlcumwfgypbvk";
    Dice dice = {.key = 9};
    Error err = {0};
    end = (int32_t)n_tokens - 1;
    Str *pieces = arena_new(arena, Str, n_tokens);
    for (uint32_t i = 0; i < n_tokens - 1; i++) {
        char text[128];
        size_t n = 0, length = 2 + roll(&dice, 5) + roll(&dice, 6), kind = roll(&dice, 100);
        if (i >= 256 && kind < 55 && roll(&dice, 2)) text[n++] = ' ';
        for (size_t k = 0; k < length; k++) {
            if (i < 256) text[0] = (char)i, n = 1;
            else if (kind < 65) text[n++] = letters[roll(&dice, sizeof letters - 1)];
            else if (kind < 90) n += utf8_encode(0x400 + roll(&dice, 0x9000), text + n);
            else if (kind < 96) text[n++] = marks[roll(&dice, sizeof marks - 1)];
            else if (kind < 98) text[n++] = "\n \t"[roll(&dice, 3)];
            else text[n++] = (char)(0x80 + roll(&dice, 0x70));
        }
        if (i >= 256 && kind < 55 && roll(&dice, 4) == 0) text[n - 1] = (char)(text[n - 1] & ~0x20);
        pieces[i] = arena_copy_str(arena, (Str){text, n});
    }
    REQUIRE(token_trie_build(pieces, n_tokens, &end, 1, arena, grammar_arena(1), &trie, &err));
    return &trie;
}

// A call's arguments: strings, one of them of limited length, a date, a number, a list, in JSON with blanks.
static GrammarNode add_call(GrammarBuilder *b, Arena *arena) {
    GrammarNode text = add_pattern(b, "[\\s\\S]*", LANG_JSON_STRING, "\"", arena);
    GrammarNode comma = add_pattern(b, "[ \\n]*,[ \\n]*", LANG_UTF8, "", arena);
    GrammarItems tags = {.open = add_pattern(b, "\\[[ \\n]*", LANG_UTF8, "", arena),
                         .comma = comma,
                         .close = add_pattern(b, "[ \\n]*\\]", LANG_UTF8, "", arena),
                         .rest = {.other = text},
                         .max = 10,
                         .contains_max = GRAMMAR_UNBOUNDED};
    GrammarMember members[] = {
        {.key = grammar_add_literal(b, STR("\"name\"")), .value = text, .required = true},
        {.key = grammar_add_literal(b, STR("\"date\"")),
         .value = add_pattern(b, "\\d{4}-\\d\\d-\\d\\d", LANG_JSON_STRING, "\"", arena),
         .required = true},
        {.key = grammar_add_literal(b, STR("\"city\"")),
         .value = add_pattern(b, "[\\s\\S]{3,200}", LANG_JSON_STRING, "\"", arena)},
        {.key = grammar_add_literal(b, STR("\"count\"")),
         .value = add_pattern(b, "-?(0|[1-9]\\d*)(\\.\\d+)?", LANG_UTF8, "", arena)},
        {.key = grammar_add_literal(b, STR("\"tags\"")), .value = grammar_add_items(b, &tags)}};
    GrammarMembers call = {.open = add_pattern(b, "\\{[ \\n]*", LANG_UTF8, "", arena),
                           .colon = add_pattern(b, "[ \\n]*:[ \\n]*", LANG_UTF8, "", arena),
                           .comma = comma,
                           .close = add_pattern(b, "[ \\n]*\\}", LANG_UTF8, "", arena),
                           .members = members,
                           .n_members = COUNT_OF(members),
                           .max = GRAMMAR_UNBOUNDED};
    return grammar_add_members(b, &call);
}

// The longest token that the text begins with.
static int32_t longest_token(const TokenTrie *trie, Str text) {
    int32_t token = TOKEN_NONE;
    uint32_t end = trie->n_nodes;
    for (uint32_t i = 0, depth = 0; i < end && depth < text.len;) {
        if (trie->nodes[i].byte != (uint8_t)text.ptr[depth]) {
            i = trie->nodes[i].end;
            continue;
        }
        if (trie->nodes[i].token != TOKEN_NONE) token = trie->nodes[i].token;
        end = trie->nodes[i].end;
        depth++;
        i++;
    }
    return token;
}

TEST(grammar_masks_of_150000_tokens_take_microseconds) {
    static const char text[] = "{\"name\": \"the letter that he sent to the other address, \\\"new\\\" "
                               "one\", \"date\": \"2024-11-29\", "
                               "\"city\": \"near the river and the old mill, behind the last houses of the "
                               "town\", \"count\": 12345, "
                               "\"tags\": [\"one\", \"another one\", \"the third\"]}";
    enum { TIMES_MAX = 1024 };
    static uint64_t times[TIMES_MAX], spare[TIMES_MAX];
    Arena nodes = grammar_arena(0), arena = grammar_arena(2);
    const Grammar *g;
    Error err = {0};
    GrammarBuilder *b = grammar_builder_new(&nodes);
    const TokenTrie *trie = many_trie(MANY_TOKENS, &arena);
    REQUIRE(grammar_compile(b, add_call(b, &arena), &arena, grammar_arena(1), &g, &err));
    GrammarMatcher *m = grammar_start_matcher(g, trie);
    for (int pass = 0; pass < 2; pass++) {
        GrammarState state = grammar_start(m);
        uint32_t n = 0;
        for (size_t at = 0; at < sizeof text - 1; n++) {
            REQUIRE(n < TIMES_MAX);
            uint64_t begin = os_monotonic_ns();
            const uint32_t *mask = grammar_mask(m, state);
            times[n] = os_monotonic_ns() - begin;
            int32_t token = longest_token(trie, (Str){text + at, sizeof text - 1 - at});
            REQUIRE(mask && token != TOKEN_NONE && mask_has(mask, token));
            state = grammar_step(m, state, token);
            at += trie->pieces[token].len;
        }
        CHECK(grammar_may_end(m, state));
        sort_u64(times, spare, n);
        printf("%u masks, %s: median %.1f us, of ten the slowest from %.1f us on, at most %.1f us\n", n,
               pass ? "all seen before" : "new states", (double)times[n / 2] / 1e3,
               (double)times[n * 9 / 10] / 1e3, (double)times[n - 1] / 1e3);
        CHECK_SOON(pass ? 1 : 2, times[n / 2] / 1000000);
    }
}

// ---- too much work ----

static const Grammar *many_grammar(const char *gbnf, uint64_t work_max, Arena *kept) {
    Arena nodes = grammar_arena(0), scratch = grammar_arena(1), spare;
    const Grammar *g;
    GrammarNode root;
    Error err = {0};
    GrammarBuilder *b = grammar_builder_new(&nodes);
    REQUIRE(arena_split(&scratch, arena_left(&scratch) / 2, &spare));
    LangMaker maker = {.keep = kept, .scratch = spare, .work_max = work_max};
    REQUIRE(gbnf_read(str_from_c(gbnf), NULL, b, &maker, scratch, &root, &err) &&
            grammar_compile(b, root, kept, scratch, &g, &err));
    return g;
}

// Each of hundreds of leaves needs a walk through the vocabulary of its own.
TEST(grammar_masks_give_up_too_many_walks) {
    enum { LEAVES = 400 };
    static char text[LEAVES * 64];
    StrBuf rules = STRBUF(text);
    strbuf_printf(&rules, "root ::= r0");
    for (int i = 1; i < LEAVES; i++)
        strbuf_printf(&rules, " | r%d", i);
    for (int i = 0; i < LEAVES; i++)
        strbuf_printf(&rules, "\nr%d ::= [^ ]+ \"%d\" r%d \"q\" | \"z\"", i, i, i);
    REQUIRE(!rules.truncated);
    Arena kept = grammar_arena(2);
    const TokenTrie *trie = many_trie(MANY_TOKENS, &kept);
    GrammarMatcher *m = grammar_start_matcher(many_grammar(text, 1 << 26, &kept), trie);
    CHECK(grammar_mask(m, grammar_start(m)) == NULL);
    CHECK(grammar_mask_work(m) > GRAMMAR_MASK_WORK_MAX);
    CHECK(grammar_mask_work(m) < GRAMMAR_MASK_WORK_MAX + trie->n_nodes);
}

static uint32_t work_behind(GrammarMatcher *m, const char *text) {
    CHECK(grammar_mask(m, grammar_step_bytes(m, grammar_start(m), str_from_c(text))) != NULL);
    return grammar_mask_work(m);
}

// Both masks need one walk, which is made for the first of them.
TEST(grammar_masks_work_does_not_depend_on_what_was_asked_before) {
    Arena kept = grammar_arena(2);
    const TokenTrie *trie = many_trie(20000, &kept);
    const Grammar *g = many_grammar("root ::= \"(\" root \")\" | [^()]+", 1 << 24, &kept);
    GrammarMatcher *m = grammar_start_matcher(g, trie);
    uint32_t outer = work_behind(m, "(a"), inner = work_behind(m, "((a");
    CHECK(outer > 10 && inner > 10);
    CHECK_INT_EQ(outer, work_behind(m, "(a"));
    m = grammar_start_matcher(g, trie);
    CHECK_INT_EQ(inner, work_behind(m, "((a"));
    CHECK_INT_EQ(outer, work_behind(m, "(a"));
}

// Texts of these can be read in hundreds of ways at once: their masks would take millions of steps.
TEST(grammar_masks_give_up_what_is_too_much_work) {
    static const char *const grammars[] = {
        "root ::= s\ns ::= t+ s? t*\nt ::= [^\"]+ | \"\\\"\" s \"\\\"\"",
        "root ::= w*\nw ::= [a-z]+ \" \"? | [a-z]+ w2\nw2 ::= w \"x\" | w \"y\" | \"z\"",
        "root ::= s\ns ::= x s x | y s y | z s z | \"a\"\nx ::= \"a\" | \"b\"\ny ::= \"a\" | \"b\" | \"c\"\n"
        "z ::= [a-z] | \"ab\""};
    Arena kept = grammar_arena(2);
    const TokenTrie *trie = many_trie(20000, &kept);
    for (size_t i = 0; i < COUNT_OF(grammars); i++) {
        TEST_CASE_LABEL("grammar %zu", i);
        Arena arena = kept;
        GrammarMatcher *m = grammar_start_matcher(many_grammar(grammars[i], 1 << 24, &arena), trie);
        for (int again = 0; again < 2; again++) {
            CHECK(grammar_mask(m, grammar_start(m)) == NULL);
            uint32_t work = grammar_mask_work(m);
            CHECK(work > GRAMMAR_MASK_WORK_MAX &&
                  work <= GRAMMAR_MASK_WORK_MAX + GRAMMAR_WORK_MAX + GRAMMAR_READINGS_MAX + 1);
        }
    }
}
