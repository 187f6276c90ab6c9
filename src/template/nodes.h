// A template as a tree, made once by the parser and read by every rendering.
//
// Names of variables are numbers (symbols), so that looking one up compares no text. Filters, tests and
// operators are resolved when they are parsed: one that does not exist refuses the template.
#pragma once

#include "template/value.h"

typedef enum {
    // statements; `next` links those of a body
    N_DATA,         // value: the text
    N_OUTPUT,       // a: the expression
    N_IF,           // a: condition, body, orelse
    N_FOR,          // a: target, b: iterated, c: condition or NULL, body, orelse; flag: recursive
    N_SET,          // a: target, b: value
    N_SET_BLOCK,    // a: target, filter: a chain of N_FILTER or NULL, body
    N_MACRO,        // name, symbol, args (N_NAME, each with its default in b or NULL), body
    N_CALL_BLOCK,   // a: the call, macro: the caller as N_MACRO
    N_FILTER_BLOCK, // filter, body
    N_WITH,         // args: N_SET each, body
    N_SCOPE,        // body, with variables of its own: generation, block
    N_BREAK,
    N_CONTINUE,
    // expressions
    N_CONST,  // value
    N_NAME,   // symbol
    N_NSREF,  // symbol, name: the attribute; only as a target
    N_LIST,   // args
    N_TUPLE,  // args
    N_DICT,   // args: keys and values in turn
    N_ATTR,   // a.name
    N_ITEM,   // a[b]
    N_SLICE,  // a[args]: three, N_CONST none where absent
    N_CALL,   // a(args, kwargs, *dyn_args, **dyn_kwargs)
    N_FILTER, // a | function(args, …); a is NULL at the start of a block's chain
    N_TEST,   // a is function(args, …)
    N_NOT,
    N_NEG,
    N_POS,
    N_AND,
    N_OR,
    N_BINARY,  // a op b
    N_CONCAT,  // args
    N_COMPARE, // a, then args: N_BINARY each with op and b
    N_COND,    // a if b else c (or NULL)
} NodeKind;

typedef enum {
    OP_NONE,
    OP_ADD,
    OP_SUB,
    OP_MUL,
    OP_DIV,
    OP_FLOORDIV,
    OP_MOD,
    OP_POW,
    OP_EQ,
    OP_NE,
    OP_LT,
    OP_LE,
    OP_GT,
    OP_GE,
    OP_IN,
    OP_NOT_IN,
} Operator;

typedef struct Node Node;
struct Node {
    NodeKind kind;
    uint32_t line;
    uint32_t symbol;
    uint32_t function; // of filters or tests
    Operator op;
    bool flag;
    bool takes_varargs, takes_kwargs; // of macros
    Str name;                         // zero-terminated
    Value value;
    const Node *a, *b, *c;
    const Node *args, *kwargs; // kwargs: name, a
    const Node *dyn_args, *dyn_kwargs;
    const Node *filter, *body, *orelse, *macro;
    const Node *next;
};

enum { SYMBOLS_MAX = 4096 };

// Symbols that every template has, in this order from 0 on.
enum { SYMBOL_LOOP, SYMBOL_CALLER, SYMBOL_VARARGS, SYMBOL_KWARGS, SYMBOL_SELF, SYMBOLS_FIXED };

struct Template {
    const Node *body;
    const Str *symbols; // [n_symbols] names, zero-terminated
    uint32_t n_symbols;
};

// Whether a body, or what is in it, uses a name: a macro whose body does takes arguments beyond its own.
bool node_mentions(const Node *body, uint32_t symbol);

// The index of a filter or a test by its name; UINT32_MAX where there is none.
uint32_t filter_find(Str name);
uint32_t test_find(Str name);
