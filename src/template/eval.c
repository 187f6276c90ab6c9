// Evaluation: expressions give values, statements write text.
#include "template/functions.h"

typedef struct Variable Variable;
struct Variable {
    uint32_t symbol;
    Value value;
    Variable *next;
};

// The variables of a body; what it has not, its parent has.
typedef struct Scope Scope;
struct Scope {
    const Scope *parent;
    Variable *first;
};

struct Macro {
    const Node *node;
    Scope *scope; // where it was defined
};

// The variable `loop`.
struct Loop {
    const List *items;
    size_t index0;
    uint32_t depth0;
    const Node *node;
    Scope *scope;  // around the loop, for recursion
    Value changed; // the arguments of the last call of changed()
    bool was_called;
};

typedef enum { FLOW_NEXT, FLOW_BREAK, FLOW_CONTINUE, FLOW_FAILED } Flow;

static bool eval(Run *run, Scope *scope, const Node *n, Value *out);
static Flow exec(Run *run, Scope *scope, const Node *body);

// ---- variables ----

static Scope *new_scope(Run *run, const Scope *parent) {
    Scope *scope = arena_new(run->arena, Scope, 1);
    if (scope) scope->parent = parent;
    else run_full(run);
    return scope;
}

static Value *find_own(Run *run, const Scope *scope, uint32_t symbol) {
    uint64_t n = 0;
    Variable *v = scope->first;
    for (; v && v->symbol != symbol; v = v->next)
        n++;
    run_spend(run, n / 16);
    return v ? &v->value : NULL;
}

static Value lookup(Run *run, const Scope *scope, uint32_t symbol) {
    uint64_t n = 0;
    for (; scope; scope = scope->parent, n++) {
        const Value *found = find_own(run, scope, symbol);
        if (found) return *found;
    }
    run_spend(run, n / 16);
    return run->globals[symbol];
}

static bool set_variable(Run *run, Scope *scope, uint32_t symbol, Value value) {
    Value *there = find_own(run, scope, symbol);
    if (there) {
        *there = value;
        return true;
    }
    Variable *v = arena_new(run->arena, Variable, 1);
    if (!v) return run_full(run);
    *v = (Variable){.symbol = symbol, .value = value, .next = scope->first};
    scope->first = v;
    return true;
}

static bool assign(Run *run, Scope *scope, const Node *target, Value value);

static bool unpack(Run *run, Scope *scope, const Node *target, Value value) {
    const List *list;
    size_t wanted = 0, i = 0;
    if (value.kind == V_UNDEFINED) return run_fail(run, "'%s' is undefined", value.name);
    if (!value_iterate(run, value, &list)) return false;
    for (const Node *item = target->args; item; item = item->next)
        wanted++;
    if (list->count != wanted) return run_fail(run, "%zu values for %zu names", list->count, wanted);
    for (const Node *item = target->args; item; item = item->next) {
        if (!assign(run, scope, item, list->items[i++])) return false;
    }
    return true;
}

static bool assign(Run *run, Scope *scope, const Node *target, Value value) {
    if (target->kind == N_TUPLE) return unpack(run, scope, target, value);
    if (target->kind == N_NAME) return set_variable(run, scope, target->symbol, value);
    Value space = lookup(run, scope, target->symbol), key;
    if (space.kind != V_NAMESPACE) return run_fail(run, "cannot assign attribute on non-namespace object");
    return value_str(run, target->name, ORIGIN_TEMPLATE, &key) && dict_set(run, space.dict, key, value);
}

// ---- calls ----

static size_t count_nodes(const Node *n) {
    size_t count = 0;
    for (; n; n = n->next)
        count++;
    return count;
}

static bool eval_positional(Run *run, Scope *scope, const Node *n, Args *out) {
    size_t count = count_nodes(n->args), i = 0;
    const List *more = NULL;
    Value v;
    if (n->dyn_args && (!eval(run, scope, n->dyn_args, &v) || !value_iterate(run, v, &more))) return false;
    Value *items = arena_new(run->arena, Value, count + (more ? more->count : 0));
    if (!items) return run_full(run);
    for (const Node *arg = n->args; arg; arg = arg->next) {
        if (!eval(run, scope, arg, &items[i++])) return false;
    }
    for (size_t k = 0; more && k < more->count; k++)
        items[i++] = more->items[k];
    out->items = items;
    out->count = i;
    return true;
}

static bool eval_named(Run *run, Scope *scope, const Node *n, Args *out) {
    Value more = value_none(), dict, key, value;
    if (n->dyn_kwargs && !eval(run, scope, n->dyn_kwargs, &more)) return false;
    if (n->dyn_kwargs && more.kind != V_DICT) return run_fail(run, "what follows ** is no dictionary");
    if (!value_dict(run, count_nodes(n->kwargs) + (n->dyn_kwargs ? more.dict->count : 0), &dict))
        return false;
    for (const Node *arg = n->kwargs; arg; arg = arg->next) {
        if (!eval(run, scope, arg->a, &value) || !value_str(run, arg->name, ORIGIN_TEMPLATE, &key))
            return false;
        if (dict_get(run, dict.dict, key))
            return run_fail(run, "the argument %s is given twice", arg->name.ptr);
        if (!dict_set(run, dict.dict, key, value)) return false;
    }
    for (size_t i = 0; n->dyn_kwargs && i < more.dict->count; i++) {
        if (more.dict->keys[i].kind != V_STRING) return run_fail(run, "keywords must be strings");
        if (dict_get(run, dict.dict, more.dict->keys[i])) return run_fail(run, "an argument is given twice");
        if (!dict_set(run, dict.dict, more.dict->keys[i], more.dict->values[i])) return false;
    }
    out->kwargs = dict.dict;
    return true;
}

static bool eval_args(Run *run, Scope *scope, const Node *n, Args *out) {
    return eval_positional(run, scope, n, out) && eval_named(run, scope, n, out);
}

// Writes a body's text to a value of its own.
static bool capture(Run *run, Scope *scope, const Node *body, Value *out) {
    Pieces own = {0}, *before = run->out;
    run->out = &own;
    Flow flow = exec(run, scope, body);
    run->out = before;
    return flow != FLOW_FAILED && pieces_value(run, &own, out);
}

// The arguments that no parameter took, as varargs and kwargs.
static bool bind_rest(Run *run, Scope *scope, const Macro *m, const Args *args, size_t n_params) {
    bool takes_more = m->node->takes_varargs, takes_named = m->node->takes_kwargs;
    size_t extra = args->count > n_params ? args->count - n_params : 0;
    if (extra && !takes_more)
        return run_fail(run, "the macro '%s' takes not more than %zu argument(s)", m->node->name.ptr,
                        n_params);
    Value rest, named;
    if (!value_list(run, V_TUPLE, extra, &rest) || !value_dict(run, args->kwargs->count, &named))
        return false;
    for (size_t i = 0; i < extra; i++)
        rest.list->items[i] = args->items[n_params + i];
    for (size_t i = 0; i < args->kwargs->count; i++) {
        Value key = args->kwargs->keys[i];
        bool is_param = str_eq(text_str(key.text), STR("caller"));
        for (const Node *p = m->node->args; p && !is_param; p = p->next)
            is_param = str_eq(p->name, text_str(key.text));
        if (is_param) continue;
        if (!takes_named)
            return run_fail(run, "the macro '%s' takes no keyword argument '%.*s'", m->node->name.ptr,
                            STR_ARG(text_str(key.text)));
        if (!dict_set(run, named.dict, key, args->kwargs->values[i])) return false;
    }
    return (!takes_more || set_variable(run, scope, SYMBOL_VARARGS, rest)) &&
           (!takes_named || set_variable(run, scope, SYMBOL_KWARGS, named));
}

static bool bind_params(Run *run, Scope *scope, const Macro *m, const Args *args) {
    size_t i = 0;
    for (const Node *p = m->node->args; p; p = p->next, i++) {
        const Value *named = dict_get_str(run, args->kwargs, p->name);
        Value value = value_undefined(p->name.ptr);
        if (named && i < args->count) return run_fail(run, "the argument %s is given twice", p->name.ptr);
        if (i < args->count) value = args->items[i];
        else if (named) value = *named;
        else if (p->b && !eval(run, scope, p->b, &value)) return false;
        if (!set_variable(run, scope, p->symbol, value)) return false;
    }
    const Value *caller = dict_get_str(run, args->kwargs, STR("caller"));
    if (caller && !set_variable(run, scope, SYMBOL_CALLER, *caller)) return false;
    return bind_rest(run, scope, m, args, i);
}

static bool call_macro(Run *run, const Macro *m, const Args *args, Value *out) {
    Scope *scope = new_scope(run, m->scope);
    return scope && bind_params(run, scope, m, args) && capture(run, scope, m->node->body, out);
}

static bool run_loop(Run *run, Scope *scope, const Node *n, Value iterated, uint32_t depth0, Flow *flow);

// loop(items), in a recursive loop: its body over other items.
static bool call_loop(Run *run, Loop *loop, const Args *args, Value *out) {
    if (!loop->node->flag) return run_fail(run, "the loop is not recursive");
    if (args->count != 1) return run_fail(run, "loop() takes one argument");
    Pieces own = {0}, *before = run->out;
    Flow flow;
    run->out = &own;
    bool ok = run_loop(run, loop->scope, loop->node, args->items[0], loop->depth0 + 1, &flow);
    run->out = before;
    return ok && pieces_value(run, &own, out);
}

static bool call_joiner(Run *run, Joiner *joiner, Value *out) {
    bool was_called = joiner->was_called;
    joiner->was_called = true;
    if (!was_called) return value_str(run, STR(""), ORIGIN_TEMPLATE, out);
    *out = joiner->separator;
    return true;
}

static bool call_any(Run *run, Value callee, const Args *args, Value *out) {
    switch (callee.kind) {
    case V_MACRO: return call_macro(run, callee.macro, args, out);
    case V_LOOP: return call_loop(run, callee.loop, args, out);
    case V_FUNCTION: return function_call(run, &GLOBALS[callee.function], value_none(), args, out);
    case V_METHOD: return function_call(run, callee.method->function, callee.method->self, args, out);
    case V_JOINER: return call_joiner(run, callee.joiner, out);
    case V_UNDEFINED: return run_fail(run, "'%s' is undefined", callee.name);
    default: return run_fail(run, "'%s' object is not callable", value_type_name(callee));
    }
}

bool value_call(Run *run, Value callee, const Args *args, Value *out) {
    if (run->depth >= TEMPLATE_STACK_MAX) return run_fail(run, "calls are nested too deep");
    run->depth++;
    bool ok = run_steps(run, 1) && call_any(run, callee, args, out);
    run->depth--;
    return ok;
}

// ---- attributes ----

// In the order of jinja2's attributes of `loop`.
static bool loop_attribute(Run *run, Loop *loop, Str name, Value *out) {
    size_t n = loop->items->count, i = loop->index0;
    const struct {
        const char *name;
        Value value;
    } rows[] = {
        {"index", value_int((int64_t)i + 1)},
        {"index0", value_int((int64_t)i)},
        {"revindex", value_int((int64_t)(n - i))},
        {"revindex0", value_int((int64_t)(n - i) - 1)},
        {"first", value_bool(i == 0)},
        {"last", value_bool(i + 1 == n)},
        {"length", value_int((int64_t)n)},
        {"depth", value_int((int64_t)loop->depth0 + 1)},
        {"depth0", value_int(loop->depth0)},
        {"previtem", i ? loop->items->items[i - 1] : value_undefined("there is no previous item")},
        {"nextitem", i + 1 < n ? loop->items->items[i + 1] : value_undefined("there is no next item")},
    };
    (void)run;
    for (size_t k = 0; k < COUNT_OF(rows); k++) {
        if (!str_eq(name, str_from_c(rows[k].name))) continue;
        *out = rows[k].value;
        return true;
    }
    return false;
}

static bool macro_attribute(Run *run, const Macro *m, Str name, Value *out) {
    if (str_eq(name, STR("name"))) return value_str(run, m->node->name, ORIGIN_TEMPLATE, out);
    *out = value_undefined("the attribute");
    return true;
}

static bool group_attribute(const List *group, Str name, Value *out) {
    bool is_grouper = str_eq(name, STR("grouper"));
    if (!group->is_group || (!is_grouper && !str_eq(name, STR("list")))) return false;
    *out = group->items[is_grouper ? 0 : 1];
    return true;
}

static bool bound_method(Run *run, Value v, const Function *f, Value *out) {
    Method *m = arena_new(run->arena, Method, 1);
    if (!m) return run_full(run);
    *m = (Method){.self = v, .function = f};
    *out = (Value){.kind = V_METHOD, .method = m};
    return true;
}

// Sets *found where values of this kind have such an attribute.
static bool find_attribute(Run *run, Value v, Str name, bool *found, Value *out) {
    *found = true;
    if (v.kind == V_NAMESPACE) {
        const Value *member = dict_get_str(run, v.dict, name);
        *out = member ? *member : value_undefined("the attribute");
        return true;
    }
    if (v.kind == V_LOOP && loop_attribute(run, v.loop, name, out)) return true;
    if (v.kind == V_TUPLE && group_attribute(v.list, name, out)) return true;
    if (v.kind == V_MACRO) return macro_attribute(run, v.macro, name, out);
    if (v.kind == V_CYCLER && str_eq(name, STR("current"))) {
        *out = v.cycler->items[v.cycler->position];
        return true;
    }
    const Function *method = method_find(v.kind, name);
    run_spend(run, 4);
    if (method) return bound_method(run, v, method, out);
    *found = false;
    return true;
}

bool value_getattr(Run *run, Value v, Str name, Value *out) {
    bool found;
    if (v.kind == V_UNDEFINED && !str_starts_with(name, STR("__")))
        return run_fail(run, "'%s' is undefined", v.name);
    if (!find_attribute(run, v, name, &found, out)) return false;
    if (found) return true;
    *out = value_undefined(name.ptr); // zero-terminated, as all names of the template's
    if (v.kind != V_DICT) return true;
    const Value *member = dict_get_str(run, v.dict, name);
    if (member) *out = *member;
    return run_steps(run, 1);
}

bool value_getitem_or_attr(Run *run, Value v, Value key, Value *out) {
    if (v.kind == V_UNDEFINED) return run_fail(run, "'%s' is undefined", v.name);
    if (!value_getitem(run, v, key, out)) return false;
    if (out->kind != V_UNDEFINED || key.kind != V_STRING) return true;
    bool found;
    Value missing = *out;
    if (!find_attribute(run, v, text_str(key.text), &found, out)) return false;
    if (!found) *out = missing;
    return true;
}

// ---- expressions ----

static bool eval_list(Run *run, Scope *scope, const Node *n, ValueKind kind, Value *out) {
    size_t i = 0;
    if (!value_list(run, kind, count_nodes(n->args), out)) return false;
    for (const Node *item = n->args; item; item = item->next) {
        if (!eval(run, scope, item, &out->list->items[i++])) return false;
    }
    return true;
}

static bool eval_dict(Run *run, Scope *scope, const Node *n, Value *out) {
    if (!value_dict(run, count_nodes(n->args) / 2, out)) return false;
    for (const Node *key = n->args; key; key = key->next->next) {
        Value k, v;
        if (!eval(run, scope, key, &k) || !eval(run, scope, key->next, &v) || !dict_set(run, out->dict, k, v))
            return false;
    }
    return true;
}

static bool eval_slice(Run *run, Scope *scope, const Node *n, Value *out) {
    Value v, bounds[3];
    size_t i = 0;
    if (!eval(run, scope, n->a, &v)) return false;
    for (const Node *bound = n->args; bound; bound = bound->next) {
        if (!eval(run, scope, bound, &bounds[i++])) return false;
    }
    return value_slice(run, v, bounds, out);
}

static bool eval_concat(Run *run, Scope *scope, const Node *n, Value *out) {
    Pieces p = {0};
    for (const Node *item = n->args; item; item = item->next) {
        Value v;
        if (!eval(run, scope, item, &v) || !value_print(run, &p, v)) return false;
    }
    return pieces_value(run, &p, out);
}

static bool compare(Run *run, Operator op, Value a, Value b, bool *out) {
    int order;
    switch (op) {
    case OP_EQ: return value_equal(run, a, b, out);
    case OP_NE:
        if (!value_equal(run, a, b, out)) return false;
        *out = !*out;
        return true;
    case OP_IN: return value_contains(run, b, a, out);
    case OP_NOT_IN:
        if (!value_contains(run, b, a, out)) return false;
        *out = !*out;
        return true;
    default: break;
    }
    if (!value_compare(run, a, b, &order)) return false;
    *out = op == OP_LT ? order < 0 : op == OP_LE ? order <= 0 : op == OP_GT ? order > 0 : order >= 0;
    // No number has an order with one that is none.
    if ((a.kind == V_FLOAT && a.real != a.real) || (b.kind == V_FLOAT && b.real != b.real)) *out = false;
    return true;
}

static bool eval_compare(Run *run, Scope *scope, const Node *n, Value *out) {
    Value left, right;
    bool holds = true;
    if (!eval(run, scope, n->a, &left)) return false;
    for (const Node *part = n->args; part && holds; part = part->next) {
        if (!eval(run, scope, part->b, &right) || !compare(run, part->op, left, right, &holds)) return false;
        left = right;
    }
    *out = value_bool(holds);
    return true;
}

static bool eval_call(Run *run, Scope *scope, const Node *n, Value *out) {
    Value callee;
    Args args = {0};
    return eval(run, scope, n->a, &callee) && eval_args(run, scope, n, &args) &&
           value_call(run, callee, &args, out);
}

static bool eval_filter(Run *run, Scope *scope, const Node *n, Value value, Value *out);

// What a filter is applied to: another filter's result, `value` where the chain begins without one of its
// own, or an expression's.
static bool eval_filtered(Run *run, Scope *scope, const Node *from, Value value, Value *out) {
    *out = value;
    if (!from) return true;
    if (from->kind != N_FILTER) return eval(run, scope, from, out);
    if (run->depth >= TEMPLATE_STACK_MAX) return run_fail(run, "filters are nested too deep");
    run->depth++;
    bool ok = eval_filter(run, scope, from, value, out);
    run->depth--;
    return ok;
}

// A chain of filters over `value`, which the innermost takes where it has none of its own.
static bool eval_filter(Run *run, Scope *scope, const Node *n, Value value, Value *out) {
    Args args = {0};
    Value self;
    if (!eval_filtered(run, scope, n->a, value, &self)) return false;
    if (n->function == UINT32_MAX) return run_fail(run, "there is no filter '%.*s'", STR_ARG(n->name));
    return eval_args(run, scope, n, &args) && run_steps(run, 1) &&
           function_call(run, &FILTERS[n->function], self, &args, out);
}

static bool eval_test(Run *run, Scope *scope, const Node *n, Value *out) {
    Args args = {0};
    Value self;
    if (n->function == UINT32_MAX) return run_fail(run, "there is no test '%.*s'", STR_ARG(n->name));
    return eval(run, scope, n->a, &self) && eval_args(run, scope, n, &args) &&
           function_call(run, &TESTS[n->function], self, &args, out);
}

static bool eval_logic(Run *run, Scope *scope, const Node *n, Value *out) {
    if (!eval(run, scope, n->a, out)) return false;
    if (n->kind == N_NOT) {
        *out = value_bool(!value_truth(*out));
        return true;
    }
    bool is_decided = value_truth(*out) == (n->kind == N_OR);
    return is_decided || eval(run, scope, n->b, out);
}

static bool eval_conditional(Run *run, Scope *scope, const Node *n, Value *out) {
    Value condition;
    if (!eval(run, scope, n->b, &condition)) return false;
    if (value_truth(condition)) return eval(run, scope, n->a, out);
    if (n->c) return eval(run, scope, n->c, out);
    *out = value_undefined("the inline if-expression without else");
    return true;
}

static bool eval_binary(Run *run, Scope *scope, const Node *n, Value *out) {
    Value a, b;
    return eval(run, scope, n->a, &a) && eval(run, scope, n->b, &b) && value_binary(run, n->op, a, b, out);
}

static bool eval_item(Run *run, Scope *scope, const Node *n, Value *out) {
    Value v, key;
    if (!eval(run, scope, n->a, &v)) return false;
    if (n->kind == N_ATTR) return value_getattr(run, v, n->name, out);
    return eval(run, scope, n->b, &key) && value_getitem_or_attr(run, v, key, out);
}

static bool eval_sign(Run *run, Scope *scope, const Node *n, Value *out) {
    if (!eval(run, scope, n->a, out)) return false;
    if (n->kind == N_NEG) return value_negate(run, *out, out);
    if (!value_is_number(*out))
        return run_fail(run, "bad operand type for unary +: '%s'", value_type_name(*out));
    if (out->kind == V_BOOL) *out = value_int(out->boolean);
    return true;
}

static bool eval_name(Run *run, Scope *scope, const Node *n, Value *out) {
    *out = lookup(run, scope, n->symbol);
    return true;
}

static bool eval_kind(Run *run, Scope *scope, const Node *n, Value *out) {
    switch (n->kind) {
    case N_CONST: *out = n->value; return true;
    case N_NAME: return eval_name(run, scope, n, out);
    case N_LIST: return eval_list(run, scope, n, V_LIST, out);
    case N_TUPLE: return eval_list(run, scope, n, V_TUPLE, out);
    case N_DICT: return eval_dict(run, scope, n, out);
    case N_ATTR:
    case N_ITEM: return eval_item(run, scope, n, out);
    case N_SLICE: return eval_slice(run, scope, n, out);
    case N_CALL: return eval_call(run, scope, n, out);
    case N_FILTER: return eval_filter(run, scope, n, value_none(), out);
    case N_TEST: return eval_test(run, scope, n, out);
    case N_NOT:
    case N_AND:
    case N_OR: return eval_logic(run, scope, n, out);
    case N_NEG:
    case N_POS: return eval_sign(run, scope, n, out);
    case N_BINARY: return eval_binary(run, scope, n, out);
    case N_CONCAT: return eval_concat(run, scope, n, out);
    case N_COMPARE: return eval_compare(run, scope, n, out);
    case N_COND: return eval_conditional(run, scope, n, out);
    default: return run_fail(run, "this is no expression");
    }
}

static bool eval(Run *run, Scope *scope, const Node *n, Value *out) {
    if (!run_steps(run, 1)) return false;
    if (run->depth >= TEMPLATE_STACK_MAX) return run_fail(run, "expressions are nested too deep");
    run->depth++;
    uint32_t line = run->line;
    run->line = n->line;
    bool ok = eval_kind(run, scope, n, out);
    if (ok) run->line = line; // an error keeps its place
    run->depth--;
    return ok;
}

// ---- statements ----

static Flow flow_of(bool ok) {
    return ok ? FLOW_NEXT : FLOW_FAILED;
}

static Flow exec_if(Run *run, Scope *scope, const Node *n) {
    Value condition;
    if (!eval(run, scope, n->a, &condition)) return FLOW_FAILED;
    return exec(run, scope, value_truth(condition) ? n->body : n->orelse);
}

// The items for which the loop's condition holds.
static bool filter_items(Run *run, Scope *scope, const Node *n, const List *all, const List **out) {
    Value kept, condition;
    if (!n->c) {
        *out = all;
        return true;
    }
    if (!value_list(run, V_LIST, all->count, &kept)) return false;
    size_t count = 0;
    for (size_t i = 0; i < all->count; i++) {
        Scope inner = {.parent = scope};
        if (!assign(run, &inner, n->a, all->items[i]) || !eval(run, &inner, n->c, &condition)) return false;
        if (value_truth(condition)) kept.list->items[count++] = all->items[i];
    }
    kept.list->count = count;
    *out = kept.list;
    return true;
}

static bool run_loop(Run *run, Scope *scope, const Node *n, Value iterated, uint32_t depth0, Flow *flow) {
    const List *all, *items;
    *flow = FLOW_NEXT;
    if (!value_iterate(run, iterated, &all) || !filter_items(run, scope, n, all, &items)) return false;
    Loop *loop = arena_new(run->arena, Loop, 1);
    if (!loop) return run_full(run);
    *loop = (Loop){.items = items, .depth0 = depth0, .node = n, .scope = scope};
    bool completed = false; // an iteration was, without break or continue: so jinja2 decides on the else
    for (; loop->index0 < items->count && *flow != FLOW_BREAK; loop->index0++) {
        Scope *inner = new_scope(run, scope);
        if (!inner || !run_steps(run, 1) ||
            !set_variable(run, inner, SYMBOL_LOOP, (Value){.kind = V_LOOP, .loop = loop}) ||
            !assign(run, inner, n->a, items->items[loop->index0])) {
            return false;
        }
        *flow = exec(run, inner, n->body);
        if (*flow == FLOW_FAILED) return false;
        completed |= *flow == FLOW_NEXT;
    }
    *flow = FLOW_NEXT;
    if (completed || !n->orelse) return true;
    Scope *inner = new_scope(run, scope);
    if (!inner) return false;
    *flow = exec(run, inner, n->orelse);
    return *flow != FLOW_FAILED;
}

static Flow exec_for(Run *run, Scope *scope, const Node *n) {
    Value iterated;
    Flow flow;
    if (!eval(run, scope, n->b, &iterated)) return FLOW_FAILED;
    return run_loop(run, scope, n, iterated, 0, &flow) ? flow : FLOW_FAILED;
}

static bool capture_filtered(Run *run, const Scope *around, const Node *n, Value *out) {
    Scope *inner = new_scope(run, around);
    if (!inner || !capture(run, inner, n->body, out)) return false;
    return !n->filter || eval_filter(run, inner, n->filter, *out, out);
}

static Flow exec_set(Run *run, Scope *scope, const Node *n) {
    Value value;
    bool ok = n->kind == N_SET ? eval(run, scope, n->b, &value) : capture_filtered(run, scope, n, &value);
    return flow_of(ok && assign(run, scope, n->a, value));
}

static bool make_macro(Run *run, Scope *scope, const Node *n, Value *out) {
    Macro *m = arena_new(run->arena, Macro, 1);
    if (!m) return run_full(run);
    *m = (Macro){.node = n, .scope = scope};
    *out = (Value){.kind = V_MACRO, .macro = m};
    return true;
}

static Flow exec_macro(Run *run, Scope *scope, const Node *n) {
    Value macro;
    return flow_of(make_macro(run, scope, n, &macro) && set_variable(run, scope, n->symbol, macro));
}

static Flow exec_call_block(Run *run, Scope *scope, const Node *n) {
    Value caller, callee, text, key, named;
    Args args = {0};
    bool ok = make_macro(run, scope, n->macro, &caller) && eval(run, scope, n->a->a, &callee) &&
              eval_args(run, scope, n->a, &args) && value_str(run, STR("caller"), ORIGIN_TEMPLATE, &key) &&
              value_dict(run, args.kwargs->count + 1, &named);
    for (size_t i = 0; ok && i < args.kwargs->count; i++)
        ok = dict_set(run, named.dict, args.kwargs->keys[i], args.kwargs->values[i]);
    if (!ok || !dict_set(run, named.dict, key, caller)) return FLOW_FAILED;
    args.kwargs = named.dict;
    return flow_of(value_call(run, callee, &args, &text) && value_print(run, run->out, text));
}

static Flow exec_output(Run *run, Scope *scope, const Node *n) {
    Value value;
    return flow_of(eval(run, scope, n->a, &value) && value_print(run, run->out, value));
}

static Flow exec_filter_block(Run *run, Scope *scope, const Node *n) {
    Value text;
    return flow_of(capture_filtered(run, scope, n, &text) && value_print(run, run->out, text));
}

// The values are computed outside of the new scope.
static Flow exec_with(Run *run, Scope *scope, const Node *n) {
    Scope *inner = new_scope(run, scope);
    if (!inner) return FLOW_FAILED;
    for (const Node *set = n->args; set; set = set->next) {
        Value value;
        if (!eval(run, scope, set->b, &value) || !assign(run, inner, set->a, value)) return FLOW_FAILED;
    }
    return exec(run, inner, n->body);
}

static Flow exec_scope(Run *run, Scope *scope, const Node *n) {
    Scope *inner = new_scope(run, scope);
    return inner ? exec(run, inner, n->body) : FLOW_FAILED;
}

static Flow exec_one(Run *run, Scope *scope, const Node *n) {
    switch (n->kind) {
    case N_DATA: return flow_of(pieces_add(run, run->out, *n->value.text));
    case N_OUTPUT: return exec_output(run, scope, n);
    case N_IF: return exec_if(run, scope, n);
    case N_FOR: return exec_for(run, scope, n);
    case N_SET:
    case N_SET_BLOCK: return exec_set(run, scope, n);
    case N_MACRO: return exec_macro(run, scope, n);
    case N_CALL_BLOCK: return exec_call_block(run, scope, n);
    case N_FILTER_BLOCK: return exec_filter_block(run, scope, n);
    case N_WITH: return exec_with(run, scope, n);
    case N_SCOPE: return exec_scope(run, scope, n);
    case N_BREAK: return FLOW_BREAK;
    case N_CONTINUE: return FLOW_CONTINUE;
    default: return flow_of(run_fail(run, "this is no statement"));
    }
}

static Flow exec(Run *run, Scope *scope, const Node *body) {
    if (run->depth >= TEMPLATE_STACK_MAX) return flow_of(run_fail(run, "statements are nested too deep"));
    run->depth++;
    Flow flow = FLOW_NEXT;
    for (const Node *n = body; n && flow == FLOW_NEXT; n = n->next) {
        run->line = n->line;
        flow = run_steps(run, 1) ? exec_one(run, scope, n) : FLOW_FAILED;
    }
    run->depth--;
    return flow;
}

// ---- methods of loops ----

bool loop_print(Run *run, Pieces *p, const Loop *loop) {
    return pieces_printf(run, p, ORIGIN_TEMPLATE, "<LoopContext %zu/%zu>", loop->index0 + 1,
                         loop->items->count);
}

// loop.cycle(a, b, …)
bool loop_cycle(Run *run, Value self, const Value *bound, const Args *args, Value *out) {
    (void)bound;
    if (args->count == 0) return run_fail(run, "no items for cycling given");
    *out = args->items[self.loop->index0 % args->count];
    return true;
}

// loop.changed(…): whether the arguments differ from those of the last call.
bool loop_changed(Run *run, Value self, const Value *bound, const Args *args, Value *out) {
    (void)bound;
    bool same = false;
    Value now;
    if (!value_list(run, V_TUPLE, args->count, &now)) return false;
    for (size_t i = 0; i < args->count; i++)
        now.list->items[i] = args->items[i];
    if (self.loop->was_called && !value_equal(run, now, self.loop->changed, &same)) return false;
    self.loop->changed = now;
    self.loop->was_called = true;
    *out = value_bool(!same);
    return true;
}

// ---- rendering ----

static bool set_globals(Run *run, const Template *t, const TemplateInput *input) {
    run->globals = arena_new(run->arena, Value, t->n_symbols);
    if (!run->globals) return run_full(run);
    for (uint32_t i = 0; i < t->n_symbols; i++) {
        Value *v = &run->globals[i];
        *v = value_undefined(t->symbols[i].ptr);
        if (!run_steps(run, 1 + (input->variables ? input->variables->length / 8 : 0))) return false;
        for (uint32_t k = 0; k < n_globals; k++) {
            if (str_eq(t->symbols[i], str_from_c(GLOBALS[k].name)))
                *v = (Value){.kind = V_FUNCTION, .function = k};
        }
        for (uint32_t k = 0; k < input->n_constants; k++) {
            if (str_eq(t->symbols[i], str_from_c(input->constants[k].name)) &&
                !value_str(run, input->constants[k].text, ORIGIN_TEMPLATE, v)) {
                return false;
            }
        }
        const JsonNode *node = json_get(input->variables, t->symbols[i]);
        if (node && !value_from_json(run, node, v)) return false;
    }
    return true;
}

static bool make_spans(Run *run, const Text *text, TemplateText *out) {
    size_t n = 0;
    for (int counting = 1; counting >= 0; counting--) {
        TextSpan *spans = counting ? NULL : arena_new(run->arena, TextSpan, n);
        if (!counting && !spans) return run_full(run);
        n = 0;
        for (size_t at = 0, from = 0; from < text->len; from = at) {
            Origin origin = text->origins ? text->origins[from] : text->origin;
            at = text->origins ? from : text->len;
            while (at < text->len && text->origins[at] == origin)
                at++;
            if (!counting) spans[n] = (TextSpan){at - from, origin == ORIGIN_REQUEST};
            n++;
        }
        out->spans = spans;
    }
    out->n_spans = (uint32_t)n;
    out->text = text_str(text);
    return true;
}

bool template_render(const Template *t, const TemplateInput *input, Arena *arena, TemplateText *out,
                     Error *err) {
    uint64_t steps_max = input->steps_max ? input->steps_max : TEMPLATE_STEPS_MAX;
    Pieces pieces = {0};
    Text text;
    Arena bounded = arena_from_memory(arena->next, min_u64(TEMPLATE_MEMORY_MAX, arena_left(arena)));
    bounded.fail_countdown = arena->fail_countdown;
    Run run = {.arena = &bounded,
               .err = err,
               .steps_left = steps_max,
               .counted = arena->next,
               .unix_ms = input->unix_ms,
               .template = t,
               .out = &pieces};
    Scope *scope = new_scope(&run, NULL);
    if (!scope) return false;
    bool ok = set_globals(&run, t, input) && exec(&run, scope, t->body) != FLOW_FAILED &&
              pieces_join(&run, &pieces, &text) && make_spans(&run, &text, out);
    arena->next = bounded.next;
    out->steps = steps_max - run.steps_left;
    if (!ok && err->code == ERR_INVALID_REQUEST && run.line) return error_prefix(err, "line %u", run.line);
    return ok;
}
