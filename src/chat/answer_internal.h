// Shared by the files of answer_format.h and answer_parser.h.
//
// What streams in lies in the parser's window until it is sure what it is. The bytes in front of `at` have
// been read as part of a frame ("<tool_call>{"): they are given up once the call has begun, and come out as
// text when the frame breaks. A step is a function of the parser's state: it reads on, or says that it needs
// more, or that the frame breaks at `at`.
#pragma once

#include "chat/answer_parser.h"
#include "chat/json_check.h"

enum { FORMAT_MARKS_MAX = 10, REASONING_MARKS_MAX = 4, FORMAT_NEEDS_MAX = 3 };

// In the literals below a space stands for any white space, also none.

typedef enum {
    CALLS_JSON, // an object with name and arguments, or a list of them
} CallShape;

struct ToolFormat {
    const char *name;
    CallShape shape;
    const char *needs[FORMAT_NEEDS_MAX]; // the template's text has all of these
    const char *marks[FORMAT_MARKS_MAX]; // what may be a token of its own in the literals below
    const char *open, *close;            // around a call
    const char *name_key, *arguments_key;
};

struct ReasoningFormat {
    const char *name;
    const char *needs[FORMAT_NEEDS_MAX];
    const char *marks[REASONING_MARKS_MAX];
    const char *open, *close;
};

// ---- tools ----

struct AnswerTools {
    uint32_t n_tools;
    const Str *names; // [n_tools]
};

// The tool of this name, or UINT32_MAX.
uint32_t answer_tools_find(const AnswerTools *tools, Str name);

// ---- the parser ----

typedef enum {
    STEP_AGAIN,  // the state has changed, or something was read
    STEP_MORE,   // what is here does not say yet
    STEP_BROKEN, // the frame breaks at `at`
} Step;

typedef Step StepFunction(AnswerParser *p);

typedef struct {
    uint32_t at, length; // of its text in the window
    int32_t id;
} HeldMark;

typedef enum { VALUE_OTHER, VALUE_NAME, VALUE_ARGUMENTS } ObjectValue;

struct AnswerParser {
    const AnswerFormats *formats;
    const ToolFormat *format; // NULL: calls are content
    const ReasoningFormat *reasoning;
    const Tokenizer *tokenizer;
    const AnswerTools *tools;
    int32_t format_ids[FORMAT_MARKS_MAX], reasoning_ids[REASONING_MARKS_MAX];

    AnswerSink sink;
    StepFunction *step;
    bool ended;        // nothing more will come
    bool drops_space;  // white space is dropped until there is something else
    bool may_reason;   // reasoning may begin here
    bool call_is_open; // ANSWER_CALL was passed on, ANSWER_CALL_END not yet
    uint32_t n_begun;  // calls
    uint32_t n_whole;

    // A call in the making.
    JsonCheck check;
    ObjectValue value;
    bool in_list, has_name, has_arguments, value_begun;
    uint32_t arguments_at, arguments_end; // in the window, where they came before the name
    uint32_t tool;

    char window[ANSWER_HELD_BYTES_MAX];
    uint32_t length, at;
    HeldMark marks[ANSWER_HELD_MARKS_MAX];
    uint32_t n_marks;
};

typedef enum { MATCH_NO, MATCH_PART, MATCH_YES } Match;

// The literal at `at` of the window; *end is behind it. The marks that it may hold are the format's.
Match answer_match(const AnswerParser *p, uint32_t at, const char *literal, uint32_t *end);
Match answer_match_reasoning(const AnswerParser *p, uint32_t at, const char *literal, uint32_t *end);

void answer_emit(AnswerParser *p, AnswerPartKind kind, Str text);
// Forgets the first bytes of the window.
void answer_drop(AnswerParser *p, uint32_t bytes);
// Moves `at` behind white space.
void answer_skip_space(AnswerParser *p);
bool answer_is_space(char c);
// Whether a mark, and not text, is at `at`.
bool answer_mark_at(const AnswerParser *p, uint32_t at);

// A call of p->tool begins; what was read of its frame is given up.
void answer_begin_call(AnswerParser *p);
void answer_end_call(AnswerParser *p);

Step answer_step_content(AnswerParser *p);

// What follows a format's opening mark.
Step answer_step_call(AnswerParser *p);
