// Grammars that people write: readers of two notations.
//
// Both add nodes to a builder and give the root. Characters are Unicode code points, and what is matched is
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

// Lark's common subset (lark-parser's documentation, "Grammar Reference"): rules and terminals with
// alternatives, aliases, ? * + ~n ~n..m [optional] (groups), "texts" and "texts"i, /patterns/ as rx.h reads
// them with the flags i, s and u (the first for ASCII letters), "a".."z", tokens as in GBNF, %import
// common.NAME, %ignore, comments; the grammar is the rule `start`. It takes a text if some reading of the
// rules does: no terminal is preferred over another, as a lexer would. What %ignore names may stand in front
// of the first and behind every terminal of a rule. A rule whose alternatives begin with itself is read as a
// repetition. Refused by name: templates, %declare, %override, %extend, imports from other files, other
// flags.
MUST_CHECK bool lark_read(Str text, const Tokenizer *tokenizer, GrammarBuilder *b, LangMaker *maker,
                          Arena scratch, GrammarNode *root, Error *err);
