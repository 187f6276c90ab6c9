// Tells apart what an answer is made of, while it streams: content, reasoning, tool calls.
//
//     AnswerParser *p = answer_parser_create(&arena);
//     answer_parser_begin(p, &formats, tokenizer, tools, answer_opening(&formats, prompt));
//     for each token:
//         if (answer_is_mark(&formats, id)) answer_parser_push_mark(p, id, sink);
//         else answer_parser_push(p, its text, sink);
//     answer_parser_end(p, whether max_tokens cut it, sink);
//
// How a text is cut into pieces changes how many parts come out, not what they say when joined.
//
// Calls. A call begins (ANSWER_CALL) as soon as its frame is sure: the function's name is known, and a tool
// has that name. From then on its arguments come in pieces, which joined are a JSON object. What looks like
// a call and turns out to be none, or calls what is no tool, comes out as content: all of it, the text of
// its marks included. A call that breaks after it has begun (its arguments are no JSON, or the answer ends)
// ends with ANSWER_CALL_END where it breaks; what follows is content, and the call does not count. What was
// passed on of it stays passed on; whoever keeps a whole answer can put the text in its place that comes
// with the end (none where it is longer than ANSWER_HELD_BYTES_MAX).
//
// White space at either end of reasoning, between reasoning or calls and content, and between calls is
// dropped. All other text is passed on as it is.
//
// Memory is fixed: answer_parser_bytes(). What could still become a call is held back, up to
// ANSWER_HELD_BYTES_MAX bytes and ANSWER_HELD_MARKS_MAX marks; what is longer is content. Any bytes may be
// pushed. One thread at a time.
#pragma once

#include "chat/answer_format.h"
#include "chat/answer_tools.h"

enum { ANSWER_HELD_BYTES_MAX = 16 * 1024, ANSWER_HELD_MARKS_MAX = 64 };

typedef enum {
    ANSWER_CONTENT,        // text
    ANSWER_REASONING,      // text
    ANSWER_CALL,           // a call begins: text is the function's name
    ANSWER_CALL_ARGUMENTS, // text is a piece of its arguments
    ANSWER_CALL_END,       // of one that breaks: the text that it was made of so far, marks included
} AnswerPartKind;

typedef struct {
    AnswerPartKind kind;
    uint32_t call; // from 0, of the last three
    bool broken;   // ANSWER_CALL_END: the call does not count
    Str text;      // valid during the call
} AnswerPart;

typedef struct {
    void (*part)(void *context, const AnswerPart *part);
    void *context;
} AnswerSink;

typedef struct AnswerParser AnswerParser;

uint64_t answer_parser_bytes(void);               // what one takes of an arena, all that it ever uses
AnswerParser *answer_parser_create(Arena *arena); // NULL when the arena is full

// For the next answer. `tools` NULL: only reasoning is told apart, and calls are content (as with tool_choice
// "none"). What is passed stays in place until answer_parser_end.
void answer_parser_begin(AnswerParser *p, const AnswerFormats *f, const Tokenizer *t,
                         const AnswerTools *tools, AnswerOpening opening);
void answer_parser_push(AnswerParser *p, Str text, AnswerSink sink);           // text of ordinary tokens
void answer_parser_push_mark(AnswerParser *p, int32_t token, AnswerSink sink); // one of f->marks was drawn
// What was held back goes out. `is_cut`: the answer is not whole, so the beginning of a mark, or of a call
// whose name is not known yet, is left out.
void answer_parser_end(AnswerParser *p, bool is_cut, AnswerSink sink);

bool answer_parser_is_reasoning(const AnswerParser *p); // what comes now would be, for usage.reasoning_tokens
uint32_t answer_parser_calls(const AnswerParser *p); // whole ones so far; above 0: finish_reason tool_calls
