// What templates call: filters, tests, methods of values, and global functions; each a row of a table.
#pragma once

#include "template/nodes.h"

typedef struct {
    const Value *items; // [count] positional
    size_t count;
    const Dict *kwargs;
} Args;

enum { PARAMS_MAX = 8 };

// `self` is what a filter or test is applied to, or what a method is of. `bound` has an argument for each
// parameter in order (absent ones: is_absent); `args` are all, for functions that take any number.
typedef bool FunctionCall(Run *run, Value self, const Value *bound, const Args *args, Value *out);

// What becomes of Markup that a function is applied to.
typedef enum {
    MARKUP_LOST,
    MARKUP_KEPT,           // texts in the result are Markup, too
    MARKUP_ESCAPES_SECOND, // … and the second argument is escaped
    MARKUP_ESCAPES_ALL,    // … and all arguments are, and what they hold
} MarkupRule;

typedef struct Function {
    const char *name;
    FunctionCall *call;
    const char *params; // names separated by spaces; "*": any, bound is NULL
    uint8_t required;   // of them
    MarkupRule markup;
} Function;

static inline bool is_absent(Value v) {
    return v.kind == V_UNDEFINED && !v.name;
}

// Binds the arguments and calls.
bool function_call(Run *run, const Function *f, Value self, const Args *args, Value *out);

extern const Function FILTERS[], TESTS[], GLOBALS[];
extern const uint32_t n_globals;

// The method of that name; NULL where values of the kind have none.
const Function *method_find(ValueKind kind, Str name);

// ---- arguments ----

// The text of an argument that must be a string; false after an error.
bool arg_text(Run *run, Value v, const char *name, Text *out);
// An integer, or `absent` where it is absent (or none, where that is what the default says).
bool arg_integer(Run *run, Value v, const char *name, int64_t absent, int64_t *out);
bool arg_truth(Value v, bool absent);
// The characters that are to be stripped from t; takes the steps that this can need.
bool arg_strip(Run *run, const Text *t, Value v, Text *out);

// ---- the evaluator, for functions that call back (eval.c) ----

bool value_getattr(Run *run, Value v, Str name, Value *out);          // v.name
bool value_getitem_or_attr(Run *run, Value v, Value key, Value *out); // v[key]
bool value_call(Run *run, Value callee, const Args *args, Value *out);

// Escapes a text that is no Markup, and those in a list or a dictionary; other values stay.
bool value_escape(Run *run, Value *v);

// ---- arithmetic (arithmetic.c) ----

bool value_binary(Run *run, Operator op, Value a, Value b, Value *out); // + - * / // % **
bool value_negate(Run *run, Value v, Value *out);

// ---- text, as Python's str has it (str_methods.c) ----

bool py_is_space(uint32_t codepoint);
bool py_is_word(uint32_t codepoint); // \w of regular expressions
typedef enum { CASE_LOWER, CASE_UPPER, CASE_TITLE, CASE_CAPITALIZE, CASE_SWAP, CASE_FOLD } CaseChange;
bool text_change_case(Run *run, const Text *t, CaseChange change, Value *out);
Text text_strip(const Text *t, const Text *characters, bool left, bool right); // characters NULL: white space
bool text_replace(Run *run, const Text *t, const Text *from, const Text *to, int64_t count, Value *out);

// ---- JSON, as Hugging Face's tojson writes it (to_json.c) ----

FunctionCall filter_tojson;
