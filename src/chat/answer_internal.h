// Shared by the files of answer_format.h and answer_parser.h.
//
// What streams in lies in the parser's window until it is sure what it is. The bytes in front of `at` have
// been read as part of a frame ("<tool_call>{"): they are given up once the call has begun, and come out as
// text when the frame breaks. A step is a function of the parser's state: it reads on, or says that it needs
// more, or that the frame breaks at `at`.
#pragma once

#include "chat/answer_parser.h"
#include "chat/json_check.h"
#include "grammar/schema.h"

// ---- formats ----

enum {
    FORMAT_MARKS_MAX = 12,
    REASONING_MARKS_MAX = 4,
    NEEDS_MAX = 3,
    NEED_TEXTS_MAX = 3,
    AFTER_NAMES_MAX = 3
};

// Literals of formats: a space stands for any white space, also none; "*" for up to WILDCARD_BYTES_MAX bytes.
// Those that begin something in the middle of content (sections, open) have neither.
enum { WILDCARD_BYTES_MAX = 128 };

typedef enum {
    CALLS_OBJECT,  // {"name": …, "arguments": {…}}, or a list of them
    CALLS_NAMED,   // a name, then its arguments as JSON; where it has a name_key, objects, too
    CALLS_KEYED,   // a name, then keys and values between marks
    CALLS_PYTHON,  // name(key=value, …), or a list of them
    CALLS_BRACED,  // name{key:value,…}
    CALLS_HARMONY, // messages with headers
} CallShape;

// How a call is written where one is forced (answer_grammar.h).
typedef enum {
    FORCE_NAMED, // behind its name; a list of objects where the vocabulary lacks the mark behind names
    FORCE_OBJECT,
    FORCE_LIST, // a list of objects
} CallForce;

struct ToolFormat {
    const char *name;
    CallShape shape;
    CallForce force;
    // A template has this format where all texts of one line are in it.
    const char *needs[NEEDS_MAX][NEED_TEXTS_MAX];
    const char *marks[FORMAT_MARKS_MAX];      // what may be a token of its own in the literals below
    const char *section_open, *section_close; // around all calls; may be missing
    const char *open, *open_too, *close;      // around one call; either opening; the closing may be missing
    const char *bare;                         // or a call begins with one of these bytes and the answer
    char separator;                           // between such calls
    const char *name_key;                     // CALLS_OBJECT; the arguments are "arguments" or "parameters"
    const char *arguments_key;                // of a forced call; missing: "arguments"
    const char *before_name;                  // may be missing
    const char *after_names[AFTER_NAMES_MAX]; // one of them; none or "": what is no letter of a name
    const char *after_arguments;              // may be missing
    const char *content_name;                 // CALLS_NAMED: what such a call says is content
    bool plain_too; // the second of after_names goes without before_name and after_arguments
    const char *key_open, *key_close, *value_close, *end; // CALLS_KEYED; `end` ends the arguments
    const char *string_key_close;                         // or the key of a value that is a string ends so
    bool value_lines;  // a line break at either end of a value is not of it
    const char *quote; // CALLS_BRACED: around strings
};

struct ReasoningFormat {
    const char *name;
    const char *needs[NEEDS_MAX][NEED_TEXTS_MAX];
    const char *marks[REASONING_MARKS_MAX];
    const char *open, *close;
    const char *prompt_end; // a prompt that ends so has opened it; NULL: one that ends with `open`
    bool harmony;           // channels; the rest is not used
};

// Rows by number; NULL behind the last.
const ToolFormat *answer_tool_format(uint32_t i);
const ReasoningFormat *answer_reasoning_format(uint32_t i);

// ---- tools ----

// Types that a parameter's schema allows; none: it does not say.
enum { TYPE_STRING = 1, TYPE_NUMBER = 2, TYPE_BOOLEAN = 4, TYPE_NULL = 8, TYPE_OBJECT = 16, TYPE_ARRAY = 32 };

typedef struct {
    Str name;
    uint8_t types;
} ToolParameter;

typedef struct {
    Str name;
    const ToolParameter *parameters; // [n_parameters]
    uint32_t n_parameters;
} Tool;

struct AnswerTools {
    const Tool *tools; // [n_tools]
    uint32_t n_tools;
};

enum { TOOL_NONE = UINT32_MAX };
uint32_t answer_tools_find(const AnswerTools *tools, Str name); // or TOOL_NONE
uint8_t answer_tools_types(const Tool *tool, Str parameter);    // 0 where there is none

enum { READING_PATTERN_BYTES = 192 };
// As what the text of a parameter is taken (CALLS_KEYED without string_key_close); the pattern goes into
// `memory`.
void answer_reading(uint8_t types, char *memory, size_t size, ArgumentReading *out);
bool answer_is_name_byte(char c); // of a name that ends where other bytes begin

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

enum { ANSWER_OUT_BYTES = 1024 };

struct AnswerParser {
    const AnswerFormats *formats;
    const ToolFormat *format; // NULL: calls are content
    const ReasoningFormat *reasoning;
    const Tokenizer *tokenizer;
    const AnswerTools *tools;
    int32_t format_ids[FORMAT_MARKS_MAX], reasoning_ids[REASONING_MARKS_MAX];

    AnswerSink sink;
    StepFunction *step;
    AnswerPartKind text_kind; // of text outside of calls
    bool ended;               // nothing more will come
    bool drops_space;         // white space is dropped until there is something else
    bool at_start; // of the answer, or behind reasoning or a call: reasoning and bare calls may begin
    bool after_call;
    bool call_is_open; // ANSWER_CALL was passed on, ANSWER_CALL_END not yet
    uint32_t n_begun;  // calls
    uint32_t n_whole;

    // A call in the making.
    JsonCheck check;
    ObjectValue value;
    bool in_section, in_list, is_bare;
    bool has_name, has_arguments, value_begun;
    uint32_t arguments_at, arguments_end; // in the window, where they came before the name
    uint32_t tool;
    // Arguments that are written as JSON by this program (answer_values.c).
    uint64_t objects; // a bit for each open container below the arguments: an object
    uint8_t depth;
    uint8_t types;           // of the parameter
    char quote;              // of the string; 0: the format's
    bool comma;              // one is due before what comes next
    bool as_string, as_json; // how a value is passed on while it is read
    uint32_t scan;           // the window has been looked at up to here

    char out[ANSWER_OUT_BYTES]; // text of one part that goes out
    uint32_t out_length;
    AnswerPartKind out_kind;

    char window[ANSWER_HELD_BYTES_MAX];
    uint32_t length, at;
    HeldMark marks[ANSWER_HELD_MARKS_MAX];
    uint32_t n_marks;

    char call_text[ANSWER_HELD_BYTES_MAX]; // what the open call was made of, if it fits
    uint32_t call_length;
    bool call_is_long;
};

typedef enum { MATCH_NO, MATCH_PART, MATCH_YES } Match;

// The literal at `at` of the window; *end is behind it. An empty or missing one is always there.
Match answer_match(const AnswerParser *p, uint32_t at, const char *literal, uint32_t *end);
// The same for the marks of the format of reasoning.
Match answer_match_reasoning(const AnswerParser *p, uint32_t at, const char *literal, uint32_t *end);
// Moves `at` behind the literal where it is there. MATCH_PART: it is not known yet.
Match answer_take(AnswerParser *p, const char *literal);

// Text that lasts no longer than the call.
void answer_emit(AnswerParser *p, AnswerPartKind kind, Str text);
// As what stands in a JSON string: each character in the spelling of schema.h.
void answer_emit_escaped(AnswerParser *p, Str text);
// Forgets the first bytes of the window.
void answer_drop(AnswerParser *p, uint32_t bytes);
void answer_skip_space(AnswerParser *p); // at `at`
bool answer_take_byte(AnswerParser *p, char c);
bool answer_is_space(char c);
// Whether a mark, and not text, is at `at`.
bool answer_mark_at(const AnswerParser *p, uint32_t at);
// From `at` to the next mark.
Str answer_plain_text(const AnswerParser *p);
static inline Str answer_window(const AnswerParser *p, uint32_t from, uint32_t to) {
    return (Str){p->window + from, to - from};
}
static inline Step answer_go(AnswerParser *p, StepFunction *next) {
    p->step = next;
    return STEP_AGAIN;
}

// A call of p->tool begins. The caller then drops what was read of its frame.
void answer_begin_call(AnswerParser *p);
void answer_end_call(AnswerParser *p);
// Text of p->text_kind goes out and is forgotten.
void answer_pass_on(AnswerParser *p, uint32_t end);
// Text of the window up to `end`, less white space at its end that may turn out to be dropped.
uint32_t answer_before_space(const AnswerParser *p, uint32_t end);
void answer_drop_space(AnswerParser *p);

Step answer_step_content(AnswerParser *p);
Step answer_step_section(AnswerParser *p);         // behind section_open
Step answer_step_call(AnswerParser *p);            // behind a call's opening
Step answer_step_behind_call(AnswerParser *p);     // behind its arguments
Step answer_step_arguments(AnswerParser *p);       // at arguments in JSON
Step answer_step_keyed(AnswerParser *p);           // at keys and values
Step answer_step_loose(AnswerParser *p);           // of CALLS_PYTHON and CALLS_BRACED
Step answer_step_header(AnswerParser *p);          // CALLS_HARMONY: behind <|start|>
Step answer_step_message(AnswerParser *p);         // behind <|message|>: text
Step answer_step_between(AnswerParser *p);         // behind a message
bool answer_is_cut_message(const AnswerParser *p); // a mark has begun, of which the rest is missing
bool answer_is_harmony(const AnswerFormats *f);
const ToolFormat *answer_harmony_format(void);
