// The target of fuzz_targets.h that reads grammars and walks through them.
#include "fuzz_targets.h"

#include "base/utf8.h"
#include "grammar/grammar_matcher.h"
#include "grammar/grammar_text_formats.h"
#include "grammar/rx.h"
#include "os/os.h"

#include <stdlib.h>

// Small, so that what grows ends at once, for want of memory or of work.
enum {
    GRAMMAR_ARENA_BYTES = 16 << 20,
    GRAMMAR_WORK = 1 << 18,
    GRAMMAR_TOKENS = 256 + 24,
    GRAMMAR_END = GRAMMAR_TOKENS - 1,
    GRAMMAR_STEPS = 24,
};

static void grammar_require(bool ok) {
    if (!ok) abort();
}

static Arena fuzz_grammar_arena(int which) {
    static Arena arenas[5];
    if (!arenas[which].next) arenas[which] = os_arena(which == 4 ? 32u << 20 : GRAMMAR_ARENA_BYTES);
    return arenas[which];
}

// All bytes, some texts, two control tokens and one that ends a text.
static const TokenTrie *fuzz_grammar_trie(void) {
    static const char *const texts[] = {
        "a", "ab", "aab",      "\"a",      "\",\"", "[]",   "[[",           "12",  "1.5",     "  ", "\n",
        ",", "x,", "\xC3\xA9", "\xA9\xC3", "true",  "ba b", "\xE2\x82\xAC", "***", "/* a */", "(1)"};
    static TokenTrie trie;
    static char bytes[256];
    static Str pieces[GRAMMAR_TOKENS];
    static const int32_t end = GRAMMAR_END;
    Error err;
    if (trie.n_tokens) return &trie;
    Arena keep = os_arena(1 << 20);
    for (int i = 0; i < 256; i++) {
        bytes[i] = (char)i;
        pieces[i] = (Str){&bytes[i], 1};
    }
    for (size_t i = 0; i < COUNT_OF(texts); i++)
        pieces[256 + i] = str_from_c(texts[i]);
    grammar_require(
        token_trie_build(pieces, GRAMMAR_TOKENS, &end, 1, &keep, fuzz_grammar_arena(0), &trie, &err));
    return &trie;
}

static bool mask_has(const uint32_t *mask, uint32_t token) {
    return mask[token / 32] >> (token % 32) & 1;
}

// One of the tokens that a mask allows, the choice-th if there are so many.
static int32_t mask_choose(const uint32_t *mask, uint32_t choice) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < GRAMMAR_TOKENS; i++)
        count += mask_has(mask, i);
    grammar_require(count > 0); // every byte is a token: no state is a dead end
    choice %= count;
    for (uint32_t i = 0;; i++)
        if (mask_has(mask, i) && choice-- == 0) return (int32_t)i;
}

// Every token is allowed if and only if it can be read, as long as no text has too many readings.
static void check_mask(GrammarMatcher *m, GrammarState state, const uint32_t *allowed) {
    uint32_t mask[(GRAMMAR_TOKENS + 31) / 32];
    memcpy(mask, allowed, sizeof mask);
    for (uint32_t token = 0; token < GRAMMAR_TOKENS; token++) {
        GrammarState next = grammar_step(m, state, (int32_t)token);
        if (next == GRAMMAR_AMBIGUOUS || next == GRAMMAR_FULL) continue;
        grammar_require(mask_has(mask, token) == (grammar_is_state(next) || next == GRAMMAR_ENDED));
    }
}

static void fuzz_walk(GrammarMatcher *m, Str choices) {
    GrammarState state = grammar_start(m);
    for (size_t i = 0; i < choices.len && i < GRAMMAR_STEPS && grammar_is_state(state); i++) {
        const uint32_t *mask = grammar_mask(m, state);
        if (!mask) return;
        int32_t token = mask_choose(mask, (uint8_t)choices.ptr[i]);
        if (i % 8 == 0) check_mask(m, state, mask);
        GrammarState next = grammar_step(m, state, token);
        grammar_require(next != GRAMMAR_REFUSED);
        state = next;
    }
    if (!grammar_is_state(state)) return;
    GrammarState *kept[] = {&state};
    bool may_end = grammar_may_end(m, state);
    grammar_require(grammar_keep(m, kept, 1) && grammar_may_end(m, state) == may_end);
    const uint32_t *mask = grammar_mask(m, state);
    if (mask) grammar_require(mask_has(mask, GRAMMAR_END) == may_end);
}

// The languages over characters and over bytes that a pattern makes take the same texts: each of the lines.
static void fuzz_pattern(Str pattern, Str texts, bool searched) {
    Arena keep = fuzz_grammar_arena(1), nodes = fuzz_grammar_arena(0);
    LangMaker maker = {.keep = &keep, .scratch = fuzz_grammar_arena(3), .work_max = GRAMMAR_WORK};
    Rx rx = rx_begin(&nodes);
    uint32_t root;
    Lang lang;
    Dfa dfa;
    Error err = {.position = ERROR_NO_POSITION};
    if (!rx_read_pattern(&rx, pattern, searched ? RX_SEARCHED : RX_WHOLE, &maker, &root, &err) ||
        !rx_compile(&rx, root, &maker, &lang, &err) ||
        !dfa_from_lang(&maker, &lang, LANG_UTF8, (Str){0}, (Str){0}, &dfa, &err)) {
        grammar_require(err.code == ERR_INVALID_REQUEST || err.code == ERR_TOO_LARGE ||
                        err.code == ERR_NO_MEMORY || err.code == ERR_UNSUPPORTED);
        grammar_require(err.message[0] != 0);
        return;
    }
    while (texts.len) {
        const char *line = memchr(texts.ptr, '\n', texts.len);
        Str text = str_slice(texts, 0, line ? (size_t)(line - texts.ptr) : texts.len);
        if (utf8_valid_prefix(text) == text.len)
            grammar_require(lang_accepts(&lang, text) == dfa_accepts(&dfa, text));
        else grammar_require(!dfa_accepts(&dfa, text));
        texts = str_slice(texts, text.len + (line != NULL), texts.len);
    }
}

void fuzz_grammar(const uint8_t *data, size_t size) {
    if (size == 0) return;
    Str input = {(const char *)data + 1, size - 1};
    const char *zero = input.len ? memchr(input.ptr, 0, input.len) : NULL;
    size_t length = zero ? (size_t)(zero - input.ptr) : input.len;
    Str text = str_slice(input, 0, length), choices = str_slice(input, zero ? length + 1 : length, input.len);
    Arena nodes = fuzz_grammar_arena(0), keep = fuzz_grammar_arena(1), scratch = fuzz_grammar_arena(2);
    LangMaker maker = {.keep = &keep, .scratch = fuzz_grammar_arena(3), .work_max = GRAMMAR_WORK};
    GrammarBuilder *b = grammar_builder_new(&nodes);
    const Grammar *g;
    GrammarMatcher *m;
    GrammarNode root;
    Error err = {0};
    bool is_lark = data[0] & 1;
    if (data[0] & 2) {
        fuzz_pattern(text, choices, data[0] & 4);
        return;
    }
    bool read = is_lark ? lark_read(text, NULL, b, &maker, scratch, &root, &err)
                        : gbnf_read(text, NULL, b, &maker, scratch, &root, &err);
    if (!read || !grammar_compile(b, root, &keep, scratch, &g, &err)) {
        grammar_require(err.code == ERR_INVALID_REQUEST || err.code == ERR_TOO_LARGE ||
                        err.code == ERR_NO_MEMORY || err.code == ERR_UNSUPPORTED);
        grammar_require(err.message[0] != 0);
        return;
    }
    if (grammar_matcher_new(g, fuzz_grammar_trie(), fuzz_grammar_arena(4), &m, &err)) fuzz_walk(m, choices);
    else grammar_require(err.code == ERR_INVALID_REQUEST || err.code == ERR_TOO_LARGE);
}
