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

// ---- calls ----

typedef struct {
    const AnswerGrammar *answer;
    const ToolFormat *format;
    GrammarBuilder *b;
    const SchemaOptions *options;
    const AnswerTools *tools;
    bool optional;
    Arena *keep;
    Arena scratch;
} CallMaker;

GrammarNode call_add_frame(const CallMaker *m, const char *literal); // of the format
// Whether calls are written as objects that hold name and arguments, and as lists of several.
bool call_is_object(const CallMaker *m);
bool call_is_listed(const CallMaker *m);
// The rest of a list whose bracket is open: 1 to `most` calls.
GrammarNode call_add_list_rest(const CallMaker *m, GrammarNode call, uint32_t most);
// What stands behind a call's opening mark: a call or a list, and what closes it.
GrammarNode call_add_behind_open(const CallMaker *m, GrammarNode call, uint32_t most);
// Text and calls in turns; `call` without its marks. `bare` is one whose opening is missing
// (ToolFormat.open_too), or GRAMMAR_NEVER.
MUST_CHECK bool answer_add_optional_calls(const CallMaker *m, GrammarNode call, GrammarNode bare,
                                          uint32_t most, GrammarNode *out, Error *err);
