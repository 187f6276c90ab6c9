// Grammars that people write: readers of their notations.
//
// They add nodes to a builder and give the root. Characters are Unicode code points, and what is matched is
// UTF-8. Errors are ERR_INVALID_REQUEST with the byte in err->position and the line in the message,
// ERR_TOO_LARGE and ERR_NO_MEMORY; what the builder notes comes out of grammar_compile.
//
// A maker (lang.h) bounds the work on characters and patterns; what it keeps must live as long as the
// compiled grammar. The tokenizer is for tokens by name and may be NULL: they are refused then. `scratch`
// takes some 40 bytes for each byte of the text.
#pragma once

#include "grammar/grammar.h"
#include "grammar/lang.h"
#include "text/tokenizer.h"

enum { GRAMMAR_TEXT_BYTES_MAX = 1 << 20 };

// GBNF as llama.cpp's server takes it (its grammars/README.md): rules `name ::= …` with "texts", [classes],
// `.`, groups, alternatives, * + ? {m,n}, comments, and tokens <name> <[id]>; the grammar is the rule
// `root`. A rule that is given twice is the last one.
MUST_CHECK bool gbnf_read(Str text, const Tokenizer *tokenizer, GrammarBuilder *b, LangMaker *maker,
                          Arena scratch, GrammarNode *root, Error *err);
