// Between the files that make an answer's frame a grammar.
#pragma once

#include "chat/answer_grammar.h"
#include "chat/answer_internal.h"

// White space, as far as frames take it.
GrammarNode answer_add_blanks(GrammarBuilder *b);
// A mark as its token, or as text where the vocabulary has none; *id is TOKEN_NONE then.
GrammarNode answer_add_mark(const AnswerGrammar *a, GrammarBuilder *b, const char *mark, int32_t *id);
// A literal of a format's row, its marks among those of the list; where it has a wildcard, a digit. NULL:
// empty.
GrammarNode answer_add_frame(const AnswerGrammar *a, GrammarBuilder *b, const char *const *marks,
                             uint32_t n_max, const char *literal);
// Harmony: `last` is what stands behind the last "<|start|>assistant": headers and messages. In front of it
// the model may think.
MUST_CHECK bool answer_add_harmony(const AnswerGrammar *a, GrammarBuilder *b, GrammarNode last,
                                   GrammarNode *out, Error *err);
