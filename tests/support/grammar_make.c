#include "grammar_make.h"

#include "os/os.h"
#include "runner.h"

enum { MATCHER_BYTES = 64 << 20 };

Arena grammar_arena(int which) {
    static Arena arenas[3];
    if (!arenas[which].next) arenas[which] = os_arena(256u << 20);
    return arenas[which];
}

const TokenTrie *grammar_byte_trie(void) {
    static TokenTrie trie;
    static char bytes[256];
    static Str pieces[257];
    static const int32_t end = 256;
    static Arena arena;
    Error err = {0};
    if (trie.n_tokens) return &trie;
    arena = os_arena(1 << 20);
    for (int i = 0; i < 256; i++) {
        bytes[i] = (char)i;
        pieces[i] = (Str){&bytes[i], 1};
    }
    REQUIRE(token_trie_build(pieces, 257, &end, 1, &arena, grammar_arena(1), &trie, &err));
    return &trie;
}

GrammarMatcher *grammar_start_matcher(const Grammar *g, const TokenTrie *trie) {
    static Arena memory;
    GrammarMatcher *m;
    Error err = {0};
    if (!memory.next) memory = os_arena(MATCHER_BYTES);
    REQUIRE(grammar_matcher_new(g, trie, memory, &m, &err));
    return m;
}

bool grammar_takes(GrammarMatcher *m, Str text) {
    GrammarState state = grammar_step_bytes(m, grammar_start(m), text);
    return grammar_is_state(state) && grammar_may_end(m, state);
}
