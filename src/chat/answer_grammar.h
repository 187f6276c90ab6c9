// An answer's frame as a grammar, from the same rows as answer_parser.h reads: the reasoning in front of what
// an answer is held to, and calls that have to be made.
//
// Encoder thread. Nodes go to the builder; errors are ERR_INVALID_REQUEST, with the format's name.
#pragma once

#include "chat/answer_format.h"
#include "grammar/schema.h"

typedef struct {
    const AnswerFormats *formats;
    const Tokenizer *tokenizer;
    AnswerOpening opening; // where the prompt leaves the model
} AnswerGrammar;

// What an answer is, behind the reasoning.
typedef enum {
    ANSWER_IS_TEXT,
    ANSWER_IS_CALLS, // of answer_grammar_calls; with headers of their own where the format has such
    ANSWER_MAY_CALL, // the same, with HeldCalls.optional
} AnswerKind;

// `content` behind the reasoning that the model may write, or has to where the prompt has opened it.
// Reasoning is any text up to its end's mark; blanks may stand between the two.
MUST_CHECK bool answer_grammar_after_reasoning(const AnswerGrammar *a, GrammarBuilder *b, GrammarNode content,
                                               AnswerKind kind, GrammarNode *out, Error *err);

// Which calls an answer has to consist of, or may.
typedef struct {
    const JsonNode *tools;   // an array in chat completions' shape, checked before (answer_tools.h)
    Str only;                // the one to call; empty: any of those that are
    const JsonNode *allowed; // an array, each as answer_tools_read_name takes it; NULL: all
    bool one;                // no more than one call
    // The answer is text or calls, as the model likes: nothing holds until a call's mark is written. Then it
    // is a call of a tool, whose arguments meet the parameters where the tool is `strict`.
    bool optional;
} HeldCalls;

// Whether one of the tools has "strict": true.
bool answer_tools_are_strict(const JsonNode *tools);

enum { FORCED_CALLS_MAX = 8 };

// Calls as the model's format writes them, their arguments held to the tools' schemas: an answer_parser.h
// reads at least one call of such an answer (`optional`: or none), and nothing else but reasoning
// (`optional`: and text). Where formats write a thing in several ways, one is enough. Refused: names that the
// format cannot write. Automata live in `keep`, as long as the compiled grammar.
MUST_CHECK bool answer_grammar_calls(const AnswerGrammar *a, GrammarBuilder *b, const HeldCalls *calls,
                                     const SchemaOptions *options, Arena *keep, Arena scratch,
                                     GrammarNode *out, Error *err);
