// Values of templates, with Python's meaning: what they are equal to, how they print, what they hold.
//
// Everything lives in the arena of one rendering. Values are immutable but for namespaces, loops, cyclers and
// joiners, as in jinja2's immutable sandbox.
//
// Functions that can fail return false and have filled run->err.
#pragma once

#include "template/template.h"

// Who wrote a text: the template, or the request. MIXED has a byte each.
typedef enum { ORIGIN_TEMPLATE, ORIGIN_REQUEST, ORIGIN_MIXED } Origin;

typedef struct {
    const char *ptr; // valid UTF-8
    size_t len;
    const uint8_t *origins; // [len] of MIXED, each ORIGIN_TEMPLATE or ORIGIN_REQUEST
    Origin origin;
    bool is_markup; // jinja2's Markup: escaped already
} Text;

typedef enum {
    V_UNDEFINED,
    V_NONE,
    V_BOOL,
    V_INT,
    V_FLOAT,
    V_STRING,
    V_LIST,
    V_TUPLE,
    V_RANGE,
    V_VIEW,     // of a dictionary: keys, values or items
    V_ITERATOR, // a generator: what it gave is gone
    V_DICT,
    V_NAMESPACE,
    V_LOOP,
    V_MACRO,
    V_METHOD,
    V_FUNCTION,
    V_CYCLER,
    V_JOINER,
} ValueKind;

typedef struct Value Value;
typedef struct List List;
typedef struct Dict Dict;
typedef struct Loop Loop;
typedef struct Macro Macro;
typedef struct Method Method;
typedef struct Cycler Cycler;
typedef struct Joiner Joiner;

struct Value {
    ValueKind kind;
    union {
        bool boolean;
        int64_t integer;
        double real;
        const Text *text;
        List *list; // LIST, TUPLE, RANGE, VIEW, ITERATOR
        Dict *dict; // DICT, NAMESPACE
        Loop *loop;
        const Macro *macro;
        const Method *method;
        Cycler *cycler;
        Joiner *joiner;
        uint32_t function; // FUNCTION: index in functions
        const char *name;  // UNDEFINED: of what is not defined, for messages
    };
};

struct List {
    Value *items;
    size_t count;
    size_t taken;      // ITERATOR
    const char *name;  // VIEW: "dict_keys", …
    int64_t bounds[3]; // RANGE
    bool is_group;     // TUPLE: what groupby gives, with names for its two members
};

// In the order in which the keys came. Keys are unique.
struct Dict {
    Value *keys, *values;
    size_t count, capacity; // of a namespace, which grows
};

struct Cycler {
    const Value *items;
    size_t count, position;
};

// joiner(", "): nothing when it is called first, the separator from then on.
struct Joiner {
    Value separator;
    bool was_called;
};

// A method with what it is of.
struct Method {
    Value self;
    const struct Function *function;
};

// One rendering.
typedef struct Piece Piece;
typedef struct {
    Piece *first, *last;
    size_t len;
    bool has[2]; // of the template's, of the request's
} Pieces;

typedef struct {
    Arena *arena;
    Error *err;
    uint64_t steps_left;
    const uint8_t *counted; // memory of the arena up to here has been counted as steps
    uint32_t depth;
    uint32_t line; // of the statement or expression at work
    uint64_t unix_ms;
    const Template *template;
    Value *globals; // [n_symbols] what every scope sees: the request's variables, constants, functions
    Pieces *out;    // where statements write
} Run;

// Each is false. "line N: " is put in front of the first one's message where the error leaves. (Macros, so
// that the compiler sees the false.)
#define run_fail(run, ...) (run_set_error((run), __VA_ARGS__), error_false())
#define run_full(run) (run_set_full(run), error_false()) // the arena is

void run_set_error(Run *run, const char *format, ...) PRINTF_LIKE(2, 3);
void run_set_full(Run *run);
// Takes `n` steps and those of the memory that was taken since; false when there are none left. A step
// stands for about 50 ns: a node of the tree, a value or a piece of text, or STEP_BYTES bytes that are
// written or looked at.
bool run_steps(Run *run, uint64_t n);
// The same for what cannot fail there: the next run_steps does.
void run_spend(Run *run, uint64_t n);
enum { STEP_BYTES = 64 };

// ---- making ----

static inline Value value_none(void) {
    return (Value){.kind = V_NONE};
}
static inline Value value_bool(bool b) {
    return (Value){.kind = V_BOOL, .boolean = b};
}
static inline Value value_int(int64_t i) {
    return (Value){.kind = V_INT, .integer = i};
}
static inline Value value_float(double f) {
    return (Value){.kind = V_FLOAT, .real = f};
}
static inline Value value_undefined(const char *name) {
    return (Value){.kind = V_UNDEFINED, .name = name};
}
static inline Value value_of_text(const Text *text) {
    return (Value){.kind = V_STRING, .text = text};
}
bool value_string(Run *run, Text text, Value *out);
bool value_str(Run *run, Str s, Origin origin, Value *out);          // the bytes stay the caller's
bool value_list(Run *run, ValueKind kind, size_t count, Value *out); // items to be filled in
bool value_dict(Run *run, size_t capacity, Value *out);
// Sets or adds; the capacity must suffice, but for a namespace.
bool dict_set(Run *run, Dict *d, Value key, Value value);
// NULL where the key is not there.
const Value *dict_get(Run *run, const Dict *d, Value key);
const Value *dict_get_str(Run *run, const Dict *d, Str key);
bool value_from_json(Run *run, const JsonNode *node, Value *out);

// ---- texts from pieces ----

struct Piece {
    Text text;
    Piece *next;
};
bool pieces_add(Run *run, Pieces *p, Text text);
// As a piece of its own, also where it is empty or follows the last; for lists of texts, not for pieces_join.
bool pieces_append(Run *run, Pieces *p, Text text);
bool pieces_add_str(Run *run, Pieces *p, Str s, Origin origin); // the bytes stay the caller's
bool pieces_printf(Run *run, Pieces *p, Origin origin, const char *format, ...) PRINTF_LIKE(4, 5);
bool pieces_join(Run *run, const Pieces *p, Text *out);
bool pieces_value(Run *run, const Pieces *p, Value *out);
// The same text as Markup, where it is a text.
bool value_as_markup(Run *run, Value *v);

Text text_slice(Text t, size_t from, size_t to); // bytes
static inline Text text_of(Str s, Origin origin) {
    return (Text){.ptr = s.ptr, .len = s.len, .origin = origin};
}
static inline Str text_str(const Text *t) {
    return (Str){t->ptr, t->len};
}
// The origin of text that is made from this one's content (digits, quotes, escapes).
Origin text_derived(const Text *t);
// The character at `at`, which is inside the text, and its length; U+FFFD for a byte that belongs to none.
size_t text_decode(const Text *t, size_t at, uint32_t *codepoint);
size_t text_characters(const Text *t);                  // characters
size_t text_offset(const Text *t, size_t n_characters); // bytes before the n-th

// ---- asking ----

const char *value_type_name(Value v); // as Python's: "str", "list", …
bool value_truth(Value v);
bool value_is_number(Value v);                  // bool, int, float
double value_number(Value v);                   // of such a one
bool value_is_integer(Value v);                 // bool, int
int64_t value_integer(Value v);                 // of such a one
static inline bool value_is_sequence(Value v) { // has items at indices
    return v.kind == V_LIST || v.kind == V_TUPLE || v.kind == V_RANGE;
}
bool value_equal(Run *run, Value a, Value b, bool *out);
// < 0, 0, > 0. An error for what Python does not order.
bool value_compare(Run *run, Value a, Value b, int *out);
bool value_contains(Run *run, Value container, Value item, bool *out);
bool value_length(Run *run, Value v, size_t *out);
// What a loop over it sees, as a list: characters of a string, keys of a dictionary. An iterator is used up.
bool value_iterate(Run *run, Value v, const List **out);
bool value_getitem(Run *run, Value v, Value key, Value *out); // v[key]; undefined where there is none
bool value_slice(Run *run, Value v, const Value bounds[3], Value *out); // absent bounds are none

// ---- printing ----

bool value_print(Run *run, Pieces *p, Value v);         // str(v)
bool value_repr(Run *run, Pieces *p, Value v);          // repr(v)
bool value_to_text(Run *run, Value v, Text *out);       // str(v)
bool loop_print(Run *run, Pieces *p, const Loop *loop); // eval.c
