// What cases of grammars share: memory, a vocabulary of all bytes, a matcher.
#pragma once

#include "grammar/grammar_matcher.h"

// Memory of a case, whole each time that it is asked for; `which` is 0, 1 or 2.
Arena grammar_arena(int which);
// Every byte is a token; token 256 ends a text.
const TokenTrie *grammar_byte_trie(void);
// Always in the same memory.
GrammarMatcher *grammar_start_matcher(const Grammar *g, const TokenTrie *trie);
bool grammar_takes(GrammarMatcher *m, Str text);
