// jinja2's grammar: statements in "{% %}", expressions by falling precedence (conditional, or, and, not,
// comparisons, + -, ~, * / // %, **, sign, then what stands behind: . [] () | is).
#include "base/hash.h"
#include "template/lexer.h"
#include "template/nodes.h"

#include <stdarg.h>
#include <stdio.h>

enum { SYMBOL_SLOTS = 2 * SYMBOLS_MAX };

typedef struct {
    const Token *token; // the next one
    Arena *arena;
    Error *err;
    bool failed; // *err is filled
    uint32_t depth;
    uint32_t loops; // loops around, in the same macro
    // Within an if, what does not exist is refused when it is reached; elsewhere, when the template is read.
    bool is_lenient;
    char unknown[160]; // the message; empty for none
    Str *symbols;
    uint32_t n_symbols;
    uint16_t *slots; // [SYMBOL_SLOTS] hash table: symbol + 1
} Parser;

static Node *expression(Parser *p);
static bool statements(Parser *p, const char *const *ends, const Node **out);
static Node *unary(Parser *p, bool with_filter);

static Node *parse_fail(Parser *p, const char *format, ...) PRINTF_LIKE(2, 3);

// NULL, with the reason. The first one stays.
static Node *parse_fail(Parser *p, const char *format, ...) {
    char message[ERROR_MESSAGE_BYTES];
    va_list args;
    if (p->failed) return NULL;
    p->failed = true;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    error_fill(p->err, ERR_UNSUPPORTED, ERROR_NO_POSITION, "line %u: %s", p->token->line, message);
    return NULL;
}

static Node *parse_full(Parser *p) {
    if (!p->failed)
        error_fill(p->err, ERR_NO_MEMORY, ERROR_NO_POSITION, "the template does not fit its memory");
    p->failed = true;
    return NULL;
}

static Node *node_new(Parser *p, NodeKind kind) {
    Node *n = arena_new(p->arena, Node, 1);
    if (!n) return parse_full(p);
    n->kind = kind;
    n->line = p->token->line;
    return n;
}

// ---- tokens ----

static bool is_operator(const Parser *p, const char *text) {
    return p->token->kind == T_OPERATOR && str_eq(p->token->text, str_from_c(text));
}

static bool is_name(const Parser *p, const char *text) {
    return p->token->kind == T_NAME && str_eq(p->token->text, str_from_c(text));
}

static bool skip_operator(Parser *p, const char *text) {
    bool found = is_operator(p, text);
    p->token += found;
    return found;
}

static bool skip_name(Parser *p, const char *text) {
    bool found = is_name(p, text);
    p->token += found;
    return found;
}

static bool expect_operator(Parser *p, const char *text) {
    return skip_operator(p, text) || parse_fail(p, "expected '%s'", text);
}

static bool expect(Parser *p, TokenKind kind, const char *what) {
    if (p->token->kind != kind) return parse_fail(p, "expected %s", what);
    p->token++;
    return true;
}

// ---- names ----

// UINT32_MAX after an error.
static uint32_t symbol_of(Parser *p, Str name) {
    uint64_t slot = hash_bytes(name.ptr, name.len) % SYMBOL_SLOTS;
    for (; p->slots[slot]; slot = (slot + 1) % SYMBOL_SLOTS) {
        if (str_eq(p->symbols[p->slots[slot] - 1], name)) return p->slots[slot] - 1u;
    }
    Str kept = arena_copy_str(p->arena, name);
    if (!kept.ptr) parse_full(p);
    if (p->n_symbols == SYMBOLS_MAX) parse_fail(p, "more than %d names of variables", SYMBOLS_MAX);
    if (p->failed) return UINT32_MAX;
    p->symbols[p->n_symbols] = kept;
    p->slots[slot] = (uint16_t)(p->n_symbols + 1);
    return p->n_symbols++;
}

static Node *name_node(Parser *p, Str name) {
    Node *n = node_new(p, N_NAME);
    if (!n) return NULL;
    n->symbol = symbol_of(p, name);
    if (n->symbol == UINT32_MAX) return NULL;
    n->name = p->symbols[n->symbol];
    return n;
}

static bool node_named(Parser *p, Node *n, Str name) {
    n->name = arena_copy_str(p->arena, name);
    return n->name.ptr || parse_full(p);
}

// ---- literals ----

static Node *constant(Parser *p, Value value) {
    Node *n = node_new(p, N_CONST);
    if (n) n->value = value;
    return n;
}

static Node *string_constant(Parser *p, Str text) {
    Text *kept = arena_new(p->arena, Text, 1);
    if (!kept) return parse_full(p);
    *kept = text_of(text, ORIGIN_TEMPLATE);
    return constant(p, value_of_text(kept));
}

// Strings that follow each other are one.
static Node *string_literal(Parser *p) {
    size_t size = 0;
    const Token *end = p->token;
    for (; end->kind == T_STRING; end++)
        size += end->text.len;
    Str text = p->token->text;
    if (end > p->token + 1) {
        char *bytes = arena_new(p->arena, char, size + 1);
        if (!bytes) return parse_full(p);
        size = 0;
        for (const Token *t = p->token; t < end; size += t->text.len, t++)
            memcpy(bytes + size, t->text.ptr, t->text.len);
        text = (Str){bytes, size};
    }
    Node *n = string_constant(p, text);
    p->token = end;
    return n;
}

static bool is_tuple_end(const Parser *p, const char *end_name) {
    TokenKind kind = p->token->kind;
    return kind == T_VARIABLE_END || kind == T_BLOCK_END || is_operator(p, ")") ||
           (end_name && is_name(p, end_name));
}

typedef struct {
    bool parenthesized; // "()" may be empty
    bool simple;        // items are primaries: targets
    bool no_conditional;
    bool with_namespace;
    const char *end_name; // ends it, too
} TupleStyle;

static Node *or_expression(Parser *p);
static Node *primary(Parser *p, bool with_namespace);

// One expression, or several with commas between them.
static Node *tuple(Parser *p, TupleStyle style) {
    Node *n = node_new(p, N_TUPLE), *first = NULL, *last = NULL;
    bool is_tuple = false;
    if (!n) return NULL;
    for (;;) {
        if (last && !skip_operator(p, ",")) break;
        is_tuple |= last != NULL;
        if (is_tuple_end(p, style.end_name)) break;
        Node *item = style.simple           ? primary(p, style.with_namespace)
                     : style.no_conditional ? or_expression(p)
                                            : expression(p);
        if (!item) return NULL;
        if (last) last->next = item;
        else first = item;
        last = item;
    }
    if (!is_tuple && first) return first;
    if (!first && !style.parenthesized) return parse_fail(p, "expected an expression");
    n->args = first;
    return n;
}

static Node *list_literal(Parser *p) {
    Node *n = node_new(p, N_LIST), *last = NULL;
    p->token++;
    while (n && !is_operator(p, "]")) {
        if (last && !expect_operator(p, ",")) return NULL;
        if (is_operator(p, "]")) break;
        Node *item = expression(p);
        if (!item) return NULL;
        if (last) last->next = item;
        else n->args = item;
        last = item;
    }
    return n && expect_operator(p, "]") ? n : NULL;
}

static Node *dict_literal(Parser *p) {
    Node *n = node_new(p, N_DICT), *last = NULL;
    p->token++;
    while (n && !is_operator(p, "}")) {
        if (last && !expect_operator(p, ",")) return NULL;
        if (is_operator(p, "}")) break;
        Node *key = expression(p);
        Node *value = key && expect_operator(p, ":") ? expression(p) : NULL;
        if (!value) return NULL;
        key->next = value;
        if (last) last->next = key;
        else n->args = key;
        last = value;
    }
    return n && expect_operator(p, "}") ? n : NULL;
}

static Node *name_or_word(Parser *p, bool with_namespace) {
    Str name = p->token++->text;
    if (str_eq(name, STR("true")) || str_eq(name, STR("True"))) return constant(p, value_bool(true));
    if (str_eq(name, STR("false")) || str_eq(name, STR("False"))) return constant(p, value_bool(false));
    if (str_eq(name, STR("none")) || str_eq(name, STR("None"))) return constant(p, value_none());
    Node *n = name_node(p, name);
    if (!n || !with_namespace || !skip_operator(p, ".")) return n;
    n->kind = N_NSREF;
    Str attribute = p->token->text;
    return expect(p, T_NAME, "an attribute's name") && node_named(p, n, attribute) ? n : NULL;
}

static Node *primary(Parser *p, bool with_namespace) {
    const Token *t = p->token;
    if (t->kind == T_NAME) return name_or_word(p, with_namespace);
    if (t->kind == T_STRING) return string_literal(p);
    if (t->kind == T_INTEGER || t->kind == T_FLOAT) {
        p->token++;
        return constant(p, t->kind == T_INTEGER ? value_int(t->integer) : value_float(t->real));
    }
    if (is_operator(p, "(")) {
        p->token++;
        Node *n = tuple(p, (TupleStyle){.parenthesized = true});
        return n && expect_operator(p, ")") ? n : NULL;
    }
    if (is_operator(p, "[")) return list_literal(p);
    if (is_operator(p, "{")) return dict_literal(p);
    if (t->kind == T_OPERATOR) return parse_fail(p, "unexpected '%.*s'", STR_ARG(t->text));
    return parse_fail(p, "expected an expression");
}

// ---- what stands behind an expression ----

// "(…)": positional and named arguments, *list and **dictionary.
static bool call_arguments(Parser *p, Node *n) {
    Node *last = NULL, *last_named = NULL;
    bool first = true;
    if (!expect_operator(p, "(")) return false;
    while (!is_operator(p, ")")) {
        if (!first && !expect_operator(p, ",")) return false;
        if (!first && is_operator(p, ")")) break;
        first = false;
        if (skip_operator(p, "**")) {
            if (n->dyn_kwargs || !(n->dyn_kwargs = expression(p)))
                return parse_fail(p, "invalid syntax for function call expression");
        } else if (skip_operator(p, "*")) {
            if (n->dyn_args || n->dyn_kwargs || !(n->dyn_args = expression(p)))
                return parse_fail(p, "invalid syntax for function call expression");
        } else if (p->token->kind == T_NAME && p->token[1].kind == T_OPERATOR &&
                   str_eq(p->token[1].text, STR("="))) {
            if (n->dyn_kwargs) return parse_fail(p, "invalid syntax for function call expression");
            Node *named = node_new(p, N_SET);
            if (!named || !node_named(p, named, p->token->text)) return false;
            p->token += 2;
            if (!(named->a = expression(p))) return false;
            if (last_named) last_named->next = named;
            else n->kwargs = named;
            last_named = named;
        } else {
            Node *item = expression(p);
            if (!item) return false;
            if (last_named || n->dyn_args || n->dyn_kwargs)
                return parse_fail(p, "invalid syntax for function call expression");
            if (last) last->next = item;
            else n->args = item;
            last = item;
        }
    }
    return expect_operator(p, ")");
}

// A slice's bounds, from the first ":" on; `first` is what stands before it, or NULL.
static Node *slice_bounds(Parser *p, Node *container, Node *first) {
    Node *n = node_new(p, N_SLICE), *bounds[3] = {first, NULL, NULL};
    int at = 0;
    while (n && !is_operator(p, "]")) {
        if (skip_operator(p, ":")) {
            if (++at > 2) return parse_fail(p, "expected ']'");
        } else if (bounds[at] || !(bounds[at] = expression(p))) {
            return parse_fail(p, "expected ']'");
        }
    }
    for (int i = 2; n && i >= 0; i--) {
        Node *bound = bounds[i] ? bounds[i] : constant(p, value_none());
        if (!bound) return NULL;
        bound->next = (Node *)(uintptr_t)n->args;
        n->args = bound;
    }
    if (n) n->a = container;
    return n;
}

// Inside brackets: an index, a slice, or several indices, which are a tuple.
static Node *subscript_items(Parser *p, Node *container) {
    bool is_empty = is_operator(p, "]"); // x[] is x[()]
    Node *index = is_empty ? node_new(p, N_TUPLE) : is_operator(p, ":") ? NULL : expression(p), *last = index;
    if (is_operator(p, ":")) return slice_bounds(p, container, index);
    if (!index) return NULL;
    if (is_operator(p, ",")) {
        Node *tuple_node = node_new(p, N_TUPLE);
        if (!tuple_node) return NULL;
        tuple_node->args = index;
        while (skip_operator(p, ",")) {
            Node *item = expression(p);
            if (!item) return NULL;
            last->next = item;
            last = item;
        }
        index = tuple_node;
    }
    Node *n = node_new(p, N_ITEM);
    if (!n) return NULL;
    n->a = container;
    n->b = index;
    return n;
}

static Node *subscript(Parser *p, Node *container) {
    if (skip_operator(p, "[")) {
        Node *n = subscript_items(p, container);
        return n && expect_operator(p, "]") ? n : NULL;
    }
    p->token++; // "."
    Node *n = node_new(p, p->token->kind == T_INTEGER ? N_ITEM : N_ATTR);
    if (!n) return NULL;
    n->a = container;
    const Token *t = p->token++;
    if (t->kind == T_INTEGER) return (n->b = constant(p, value_int(t->integer))) ? n : NULL;
    if (t->kind != T_NAME) return parse_fail(p, "expected name or number");
    return node_named(p, n, t->text) ? n : NULL;
}

static Node *call(Parser *p, Node *callee) {
    Node *n = node_new(p, N_CALL);
    if (!n) return NULL;
    n->a = callee;
    return call_arguments(p, n) ? n : NULL;
}

static Node *postfix(Parser *p, Node *n) {
    while (n) {
        if (is_operator(p, ".") || is_operator(p, "[")) n = subscript(p, n);
        else if (is_operator(p, "(")) n = call(p, n);
        else break;
    }
    return n;
}

// A dotted name, as of filters and tests.
static bool function_name(Parser *p, const char *what, Str *out) {
    *out = p->token->text;
    if (!expect(p, T_NAME, what)) return false;
    return !is_operator(p, ".") || parse_fail(p, "there is no such %s", what);
}

// A filter or a test that does not exist.
static void note_unknown(Parser *p, Node *n, const char *what, Str name) {
    n->name = name;
    if (p->is_lenient || p->unknown[0]) return;
    snprintf(p->unknown, sizeof p->unknown, "line %u: there is no %s '%.*s'", n->line, what,
             (int)min_u64(name.len, 80), name.ptr);
}

// "| name(…)", once or more. `start` true: the first "|" is not written (a filter block).
static Node *filters(Parser *p, Node *value, bool start) {
    while (start || is_operator(p, "|")) {
        p->token += !start;
        start = false;
        Node *n = node_new(p, N_FILTER);
        Str name;
        if (!n || !function_name(p, "filter", &name)) return NULL;
        n->function = filter_find(name);
        if (n->function == UINT32_MAX) note_unknown(p, n, "filter", name);
        n->a = value;
        if (is_operator(p, "(") && !call_arguments(p, n)) return NULL;
        value = n;
    }
    return value;
}

static bool starts_test_argument(const Parser *p) {
    if (p->token->kind == T_NAME) return !is_name(p, "else") && !is_name(p, "or") && !is_name(p, "and");
    return p->token->kind == T_STRING || p->token->kind == T_INTEGER || p->token->kind == T_FLOAT ||
           is_operator(p, "(") || is_operator(p, "[") || is_operator(p, "{");
}

static Node *negate(Parser *p, Node *n) {
    Node *negation = node_new(p, N_NOT);
    if (negation) negation->a = n;
    return negation;
}

static Node *test(Parser *p, Node *value) {
    p->token++; // "is"
    bool negated = skip_name(p, "not");
    Node *n = node_new(p, N_TEST);
    Str name;
    if (!n || !function_name(p, "test", &name)) return NULL;
    n->function = test_find(name);
    if (n->function == UINT32_MAX) note_unknown(p, n, "test", name);
    n->a = value;
    if (is_operator(p, "(")) {
        if (!call_arguments(p, n)) return NULL;
    } else if (starts_test_argument(p)) {
        if (is_name(p, "is")) return parse_fail(p, "tests cannot be chained with is");
        n->args = postfix(p, primary(p, false));
        if (!n->args) return NULL;
    }
    return negated ? negate(p, n) : n;
}

static Node *filters_and_tests(Parser *p, Node *n) {
    while (n) {
        if (is_operator(p, "|")) n = filters(p, n, false);
        else if (is_name(p, "is")) n = test(p, n);
        else if (is_operator(p, "(")) n = call(p, n);
        else break;
    }
    return n;
}

// ---- operators ----

// One level deeper; false when there are too many.
static bool enter(Parser *p) {
    return ++p->depth <= TEMPLATE_DEPTH_MAX || parse_fail(p, "nested deeper than %d", TEMPLATE_DEPTH_MAX);
}

static Node *signed_value(Parser *p, NodeKind kind) {
    p->token++;
    if (!enter(p)) return NULL;
    Node *n = node_new(p, kind);
    bool ok = n && (n->a = unary(p, false));
    p->depth--;
    return ok ? n : NULL;
}

static Node *unary(Parser *p, bool with_filter) {
    Node *n = is_operator(p, "-")   ? signed_value(p, N_NEG)
              : is_operator(p, "+") ? signed_value(p, N_POS)
                                    : primary(p, false);
    n = postfix(p, n);
    return with_filter ? filters_and_tests(p, n) : n;
}

typedef struct {
    const char *text;
    Operator op;
} OperatorRow;

static const OperatorRow sums[] = {{"+", OP_ADD}, {"-", OP_SUB}, {NULL, OP_NONE}};
static const OperatorRow products[] = {
    {"*", OP_MUL}, {"/", OP_DIV}, {"//", OP_FLOORDIV}, {"%", OP_MOD}, {NULL, OP_NONE}};
static const OperatorRow powers[] = {{"**", OP_POW}, {NULL, OP_NONE}};

static Operator take_operator(Parser *p, const OperatorRow *rows) {
    for (; rows->text; rows++) {
        if (skip_operator(p, rows->text)) return rows->op;
    }
    return OP_NONE;
}

static Node *unary_with_filter(Parser *p) {
    return unary(p, true);
}

// Operands with these operators between them, from left to right.
static Node *chain(Parser *p, const OperatorRow *rows, Node *(*operand)(Parser *)) {
    Node *left = operand(p);
    for (Operator op; left && (op = take_operator(p, rows)) != OP_NONE;) {
        Node *n = node_new(p, N_BINARY);
        if (!n || !(n->b = operand(p))) return NULL;
        n->op = op;
        n->a = left;
        left = n;
    }
    return left;
}

static Node *power(Parser *p) {
    return chain(p, powers, unary_with_filter);
}

static Node *product(Parser *p) {
    return chain(p, products, power);
}

static Node *concatenation(Parser *p) {
    Node *first = product(p), *last = first;
    if (!first || !is_operator(p, "~")) return first;
    Node *n = node_new(p, N_CONCAT);
    if (!n) return NULL;
    n->args = first;
    while (skip_operator(p, "~")) {
        Node *item = product(p);
        if (!item) return NULL;
        last->next = item;
        last = item;
    }
    return n;
}

static Node *sum(Parser *p) {
    return chain(p, sums, concatenation);
}

static Operator take_comparison(Parser *p) {
    static const OperatorRow rows[] = {{"==", OP_EQ}, {"!=", OP_NE}, {"<", OP_LT},   {"<=", OP_LE},
                                       {">", OP_GT},  {">=", OP_GE}, {NULL, OP_NONE}};
    if (skip_name(p, "in")) return OP_IN;
    if (is_name(p, "not") && p->token[1].kind == T_NAME && str_eq(p->token[1].text, STR("in"))) {
        p->token += 2;
        return OP_NOT_IN;
    }
    return take_operator(p, rows);
}

static Node *comparison(Parser *p) {
    Node *left = sum(p), *n = NULL, *last = NULL;
    for (Operator op; left && (op = take_comparison(p)) != OP_NONE;) {
        Node *part = node_new(p, N_BINARY);
        if (!part || !(part->b = sum(p))) return NULL;
        part->op = op;
        if (!n && !(n = node_new(p, N_COMPARE))) return NULL;
        n->a = left;
        if (last) last->next = part;
        else n->args = part;
        last = part;
    }
    return n ? n : left;
}

static Node *not_expression(Parser *p) {
    if (!is_name(p, "not")) return comparison(p);
    p->token++;
    if (!enter(p)) return NULL;
    Node *inner = not_expression(p), *n = inner ? negate(p, inner) : NULL;
    p->depth--;
    return n;
}

static Node *logic(Parser *p, const char *word, NodeKind kind, Node *(*operand)(Parser *)) {
    Node *left = operand(p);
    while (left && skip_name(p, word)) {
        Node *n = node_new(p, kind);
        if (!n || !(n->b = operand(p))) return NULL;
        n->a = left;
        left = n;
    }
    return left;
}

static Node *and_expression(Parser *p) {
    return logic(p, "and", N_AND, not_expression);
}

static Node *or_expression(Parser *p) {
    return logic(p, "or", N_OR, and_expression);
}

static Node *expression(Parser *p) {
    if (!enter(p)) return NULL;
    bool had_unknown = p->unknown[0];
    Node *value = or_expression(p);
    while (value && skip_name(p, "if")) {
        Node *n = node_new(p, N_COND);
        if (!n || !(n->b = or_expression(p))) return NULL;
        n->a = value;
        if (skip_name(p, "else") && !(n->c = expression(p))) return NULL;
        if (!had_unknown) p->unknown[0] = 0;
        value = n;
    }
    p->depth--;
    return value;
}

// ---- statements ----

static bool can_assign(const Node *n) {
    if (n->kind == N_NSREF || n->kind == N_NAME) return true;
    if (n->kind != N_TUPLE) return false;
    for (const Node *item = n->args; item; item = item->next) {
        if (!can_assign(item)) return false;
    }
    return true;
}

static Node *target(Parser *p, bool with_namespace, const char *end_name) {
    Node *n = tuple(p, (TupleStyle){.simple = true, .with_namespace = with_namespace, .end_name = end_name});
    return !n || can_assign(n) ? n : parse_fail(p, "this cannot be assigned to");
}

// A body up to the tag that begins with one of `ends`, whose name is then the next token. *out may be NULL.
static bool body(Parser *p, const char *const *ends, const Node **out) {
    if (!expect(p, T_BLOCK_END, "the tag's end") || !enter(p)) return false;
    bool ok = statements(p, ends, out);
    p->depth--;
    return ok;
}

static bool body_to(Parser *p, const char *end, const Node **out) {
    const char *const ends[] = {end, NULL};
    bool was_lenient = p->is_lenient;
    p->is_lenient = false;
    bool ok = body(p, ends, out);
    p->is_lenient = was_lenient;
    p->token += ok;
    return ok;
}

static Node *if_parts(Parser *p) {
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    Node *n = node_new(p, N_IF);
    if (!n || !(n->a = tuple(p, (TupleStyle){.no_conditional = true})) || !body(p, ends, &n->body))
        return NULL;
    if (skip_name(p, "elif")) {
        if (!enter(p)) return NULL;
        n->orelse = if_parts(p);
        p->depth--;
        return n->orelse ? n : NULL;
    }
    if (!skip_name(p, "else")) {
        p->token++;
        return n;
    }
    if (!body(p, ends + 2, &n->orelse)) return NULL;
    p->token++;
    return n;
}

static Node *if_statement(Parser *p) {
    bool was_lenient = p->is_lenient;
    p->is_lenient = true;
    Node *n = if_parts(p);
    p->is_lenient = was_lenient;
    return n;
}

static Node *for_statement(Parser *p) {
    static const char *const ends[] = {"endfor", "else", NULL};
    Node *n = node_new(p, N_FOR);
    if (!n || !(n->a = target(p, false, "in"))) return NULL;
    if (!skip_name(p, "in")) return parse_fail(p, "expected 'in'");
    n->b = tuple(p, (TupleStyle){.no_conditional = true, .end_name = "recursive"});
    if (!n->b || (skip_name(p, "if") && !(n->c = expression(p)))) return NULL;
    n->flag = skip_name(p, "recursive");
    bool was_lenient = p->is_lenient;
    p->is_lenient = false;
    p->loops++;
    bool ok = body(p, ends, &n->body);
    p->loops--;
    p->is_lenient = was_lenient;
    if (!ok) return NULL;
    if (skip_name(p, "endfor")) return n;
    p->token++;
    return body_to(p, "endfor", &n->orelse) ? n : NULL;
}

static Node *set_statement(Parser *p) {
    Node *n = node_new(p, N_SET);
    if (!n || !(n->a = target(p, true, NULL))) return NULL;
    if (skip_operator(p, "=")) return (n->b = tuple(p, (TupleStyle){0})) ? n : NULL;
    n->kind = N_SET_BLOCK;
    if (is_operator(p, "|") && !(n->filter = filters(p, NULL, false))) return NULL;
    return body_to(p, "endset", &n->body) ? n : NULL;
}

// "(a, b=1)": N_NAME each, with its default in b.
static bool signature(Parser *p, Node *macro) {
    Node *last = NULL;
    if (!expect_operator(p, "(")) return false;
    while (!is_operator(p, ")")) {
        if (last && !expect_operator(p, ",")) return false;
        Str name = p->token->text;
        Node *arg = p->token->kind == T_NAME ? name_node(p, name) : parse_fail(p, "expected a name");
        if (!arg) return false;
        p->token++;
        if (skip_operator(p, "=")) {
            if (!(arg->b = expression(p))) return false;
        } else if (last && last->b) {
            return parse_fail(p, "non-default argument follows default argument");
        }
        if (last) last->next = arg;
        else macro->args = arg;
        last = arg;
    }
    return expect_operator(p, ")");
}

static bool macro_body(Parser *p, Node *macro, const char *end) {
    uint32_t loops = p->loops;
    p->loops = 0;
    bool ok = body_to(p, end, &macro->body);
    p->loops = loops;
    macro->takes_varargs = node_mentions(macro->body, SYMBOL_VARARGS);
    macro->takes_kwargs = node_mentions(macro->body, SYMBOL_KWARGS);
    return ok;
}

static Node *macro_statement(Parser *p) {
    if (p->token->kind != T_NAME) return parse_fail(p, "expected the macro's name");
    Node *n = name_node(p, p->token->text);
    if (!n) return NULL;
    p->token++;
    n->kind = N_MACRO;
    return signature(p, n) && macro_body(p, n, "endmacro") ? n : NULL;
}

static Node *call_statement(Parser *p) {
    Node *n = node_new(p, N_CALL_BLOCK), *caller = node_new(p, N_MACRO);
    if (!n || !caller || !node_named(p, caller, STR("caller"))) return NULL;
    caller->symbol = SYMBOL_CALLER;
    if (is_operator(p, "(") && !signature(p, caller)) return NULL;
    n->a = expression(p);
    if (!n->a) return NULL;
    if (n->a->kind != N_CALL) return parse_fail(p, "expected call");
    n->macro = caller;
    return macro_body(p, caller, "endcall") ? n : NULL;
}

static Node *filter_statement(Parser *p) {
    Node *n = node_new(p, N_FILTER_BLOCK);
    if (!n || !(n->filter = filters(p, NULL, true))) return NULL;
    return body_to(p, "endfilter", &n->body) ? n : NULL;
}

static Node *with_statement(Parser *p) {
    Node *n = node_new(p, N_WITH), *last = NULL;
    while (n && p->token->kind != T_BLOCK_END) {
        if (last && !expect_operator(p, ",")) return NULL;
        Node *set = node_new(p, N_SET);
        if (!set || !(set->a = primary(p, false)) || !expect_operator(p, "=") || !(set->b = expression(p)))
            return NULL;
        if (!can_assign(set->a)) return parse_fail(p, "this cannot be assigned to");
        if (last) last->next = set;
        else n->args = set;
        last = set;
    }
    return n && body_to(p, "endwith", &n->body) ? n : NULL;
}

static Node *generation_statement(Parser *p) {
    Node *n = node_new(p, N_SCOPE);
    return n && body_to(p, "endgeneration", &n->body) ? n : NULL;
}

static Node *block_statement(Parser *p) {
    Node *n = node_new(p, N_SCOPE);
    if (!n || !expect(p, T_NAME, "the block's name")) return NULL;
    while (skip_name(p, "scoped") || skip_name(p, "required"))
        continue;
    if (!body_to(p, "endblock", &n->body)) return NULL;
    p->token += p->token->kind == T_NAME; // its name again
    return n;
}

static Node *loop_control(Parser *p, NodeKind kind) {
    return p->loops ? node_new(p, kind) : parse_fail(p, "outside of a loop");
}

static Node *break_statement(Parser *p) {
    return loop_control(p, N_BREAK);
}

static Node *continue_statement(Parser *p) {
    return loop_control(p, N_CONTINUE);
}

static const struct {
    const char *name;
    Node *(*parse)(Parser *p);
} STATEMENTS[] = {
    {"if", if_statement},
    {"for", for_statement},
    {"set", set_statement},
    {"macro", macro_statement},
    {"call", call_statement},
    {"filter", filter_statement},
    {"with", with_statement},
    {"generation", generation_statement},
    {"block", block_statement},
    {"break", break_statement},
    {"continue", continue_statement},
};

static Node *statement(Parser *p) {
    Str name = p->token->text;
    if (p->token->kind != T_NAME) return parse_fail(p, "expected a tag's name");
    for (size_t i = 0; i < COUNT_OF(STATEMENTS); i++) {
        if (!str_eq(name, str_from_c(STATEMENTS[i].name))) continue;
        p->token++;
        Node *n = STATEMENTS[i].parse(p);
        return n && expect(p, T_BLOCK_END, "the tag's end") ? n : NULL;
    }
    return parse_fail(p, "the tag '%.*s' is not known or not supported", STR_ARG(name));
}

// ---- bodies ----

static Node *output_statement(Parser *p) {
    p->token++;
    Node *n = node_new(p, N_OUTPUT);
    if (!n || !(n->a = tuple(p, (TupleStyle){0}))) return NULL;
    return expect(p, T_VARIABLE_END, "'}}'") ? n : NULL;
}

static Node *data_statement(Parser *p) {
    Node *n = string_constant(p, p->token->text);
    if (n) n->kind = N_DATA;
    p->token++;
    return n;
}

static bool is_end(const Parser *p, const char *const *ends) {
    for (; *ends; ends++) {
        if (p->token[1].kind == T_NAME && str_eq(p->token[1].text, str_from_c(*ends))) return true;
    }
    return false;
}

// Up to the tag that begins with one of `ends`, whose name is then the next token; without any, up to the
// template's end.
static bool statements(Parser *p, const char *const *ends, const Node **out) {
    Node *last = NULL;
    *out = NULL;
    while (p->token->kind != T_EOF) {
        Node *n;
        bool is_block = p->token->kind == T_BLOCK_BEGIN;
        if (is_block && is_end(p, ends)) {
            p->token++;
            return true;
        }
        p->token += is_block;
        if (is_block) n = statement(p);
        else n = p->token->kind == T_DATA ? data_statement(p) : output_statement(p);
        if (!n) return false;
        if (last) last->next = n;
        else *out = n;
        last = n;
    }
    return !*ends || parse_fail(p, "the template ends within a block; expected '%s'", *ends);
}

bool template_compile(Str source, Arena *arena, const Template **out, Error *err) {
    static const char *const none[] = {NULL}, *const fixed[SYMBOLS_FIXED] = {"loop", "caller", "varargs",
                                                                             "kwargs", "self"};
    Template *t = arena_new(arena, Template, 1);
    Parser p = {.arena = arena,
                .err = err,
                .symbols = arena_new(arena, Str, SYMBOLS_MAX),
                .slots = arena_new(arena, uint16_t, SYMBOL_SLOTS)};
    if (!t || !p.symbols || !p.slots)
        return error_set(err, ERR_NO_MEMORY, "the template does not fit its memory");
    if (!template_lex(source, arena, &p.token, err)) return false;
    for (size_t i = 0; i < SYMBOLS_FIXED; i++) {
        if (symbol_of(&p, str_from_c(fixed[i])) == UINT32_MAX) return false;
    }
    if (!statements(&p, none, &t->body)) return false;
    if (p.unknown[0]) return error_set(err, ERR_UNSUPPORTED, "%s", p.unknown);
    t->symbols = p.symbols;
    t->n_symbols = p.n_symbols;
    *out = t;
    return true;
}
