// Syntax tree to automaton, in two steps: a nondeterministic one with prioritised threads (Pike's
// construction), then the subset construction over ordered thread lists, which keeps the priorities (as RE2
// does for leftmost-first matching).
//
// A look-ahead depends on the next character, so a match is known only when that character, or the end of the
// text, is read: REGEX_MATCH on a transition means "a match ended before this character".
#include "base/hash.h"
#include "text/regex_internal.h"

enum { REGEX_CLASSES_MAX = 255, REGEX_LIST_POOL = 1 << 20, REGEX_STATE_SLOTS = 2 * REGEX_STATES_MAX };

typedef enum { STEP_SET, STEP_LOOK, STEP_SPLIT, STEP_MATCH } StepKind;

typedef struct {
    uint8_t kind; // StepKind
    bool at_end;
    uint16_t set;
    uint16_t a, b; // where to go on; of a split, a is tried first
} Step;

typedef struct {
    uint16_t *steps;
    uint32_t count;
} ThreadList;

typedef struct {
    RegexTree *tree;
    Arena *arena;
    Error *err;
    Step steps[REGEX_NODES_MAX];
    uint32_t n_steps;
    uint64_t class_sets[REGEX_CLASSES_MAX][REGEX_SETS_MAX / 64]; // which sets a class of characters is in
    uint32_t n_classes;
    ThreadList states[REGEX_STATES_MAX];
    uint32_t n_states;
    uint16_t slots[REGEX_STATE_SLOTS];  // hash table of states
    uint32_t in_list[REGEX_NODES_MAX];  // the last round in which a step was put on the list being built
    uint32_t in_round[REGEX_NODES_MAX]; // … in which it was followed on the character being read
    uint32_t round;
    uint16_t stack[2 * REGEX_NODES_MAX + 1];
    uint16_t list[REGEX_NODES_MAX];
    uint32_t list_count;
    bool list_closed; // it ends in a match: threads of lower priority no longer count
} Compiler;

static bool too_large(Compiler *c) {
    return error_set(c->err, ERR_UNSUPPORTED, "regular expression: too large");
}

static bool out_of_memory(Compiler *c) {
    return error_set(c->err, ERR_NO_MEMORY, "regular expression: out of memory");
}

// ---- tree to steps ----

static bool add_step(Compiler *c, Step step, uint16_t *out) {
    if (c->n_steps == REGEX_NODES_MAX) return too_large(c);
    c->steps[c->n_steps] = step;
    *out = (uint16_t)c->n_steps++;
    return true;
}

static bool emit(Compiler *c, uint16_t node, uint16_t next, uint16_t *out);

static bool emit_split(Compiler *c, RegexMode mode, uint16_t body, uint16_t exit, uint16_t *out) {
    Step split = {.kind = STEP_SPLIT, .a = body, .b = exit};
    if (mode == REGEX_LAZY) split.a = exit, split.b = body;
    return add_step(c, split, out);
}

static bool emit_repeat(Compiler *c, const RegexNode *n, uint16_t next, uint16_t *out) {
    uint16_t exit = next, body;
    if (n->mode == REGEX_POSSESSIVE) {
        // Giving nothing back is the same as not ending before a character that could still be taken.
        CharSet outside = {arena_new(c->arena, uint32_t, c->tree->n_intervals)};
        if (!outside.masks) return out_of_memory(c);
        const CharSet *taken = &c->tree->sets[c->tree->nodes[n->a].set];
        for (uint32_t i = 0; i < c->tree->n_intervals; i++)
            outside.masks[i] = ~taken->masks[i];
        uint16_t set = regex_add_set(c->tree, outside.masks, c->arena);
        if (set == UINT16_MAX) return c->tree->n_sets == REGEX_SETS_MAX ? too_large(c) : out_of_memory(c);
        if (!add_step(c, (Step){.kind = STEP_LOOK, .at_end = true, .set = set, .a = next}, &exit))
            return false;
    }
    uint16_t at = exit;
    if (n->max == REGEX_UNBOUNDED) {
        if (!emit_split(c, n->mode, 0, exit, &at) || !emit(c, n->a, at, &body)) return false;
        if (n->mode == REGEX_LAZY) c->steps[at].b = body;
        else c->steps[at].a = body;
    } else {
        for (uint32_t i = n->min; i < n->max; i++) {
            // The innermost optional round has taken all it may: what follows it is not an early exit.
            uint16_t after = i == n->min ? next : at;
            if (!emit(c, n->a, after, &body) || !emit_split(c, n->mode, body, exit, &at)) return false;
        }
        if (n->min == n->max) at = next;
    }
    for (uint32_t i = 0; i < n->min; i++) {
        if (!emit(c, n->a, at, &at)) return false;
    }
    *out = at;
    return true;
}

// The steps that match `node` and go on at `next`; *out is where they begin.
static bool emit(Compiler *c, uint16_t node, uint16_t next, uint16_t *out) {
    const RegexNode *n = &c->tree->nodes[node];
    uint16_t a, b;
    switch ((RegexKind)n->kind) {
    case REGEX_EMPTY: *out = next; return true;
    case REGEX_SET: return add_step(c, (Step){.kind = STEP_SET, .set = n->set, .a = next}, out);
    case REGEX_LOOK:
        return add_step(c, (Step){.kind = STEP_LOOK, .set = n->set, .at_end = n->at_end, .a = next}, out);
    case REGEX_CONCAT: return emit(c, n->b, next, &b) && emit(c, n->a, b, out);
    case REGEX_ALTERNATE:
        return emit(c, n->a, next, &a) && emit(c, n->b, next, &b) &&
               add_step(c, (Step){.kind = STEP_SPLIT, .a = a, .b = b}, out);
    case REGEX_REPEAT: return emit_repeat(c, n, next, out);
    }
    return false;
}

// ---- classes of characters ----

// The class of all characters of a category in an interval: those that are in the same sets share one.
static bool find_class(Compiler *c, uint32_t interval, uint32_t category, uint8_t *out) {
    uint64_t sets[REGEX_SETS_MAX / 64] = {0};
    for (uint32_t s = 0; s < c->tree->n_sets; s++) {
        if (char_set_has(&c->tree->sets[s], interval, category)) sets[s / 64] |= 1ull << (s % 64);
    }
    for (uint32_t k = 0; k < c->n_classes; k++) {
        if (memcmp(c->class_sets[k], sets, sizeof sets) == 0) {
            *out = (uint8_t)k;
            return true;
        }
    }
    if (c->n_classes == REGEX_CLASSES_MAX - 1) return too_large(c); // one more is the end of the text
    memcpy(c->class_sets[c->n_classes], sets, sizeof sets);
    *out = (uint8_t)c->n_classes++;
    return true;
}

static bool build_classes(Compiler *c, Regex *re, Arena *arena) {
    const RegexTree *t = c->tree;
    uint32_t first = 0;
    for (uint32_t i = 0; i < t->n_intervals; i++) {
        uint32_t end = i + 1 < t->n_intervals ? t->bounds[i + 1] : 128;
        if (t->bounds[i] >= 128) break;
        for (uint32_t cp = t->bounds[i]; cp < end; cp++) {
            if (!find_class(c, i, unicode_category(cp), &re->ascii_class[cp])) return false;
        }
        first = i + 1;
    }
    re->n_intervals = t->n_intervals - first;
    uint32_t *bounds = arena_new(arena, uint32_t, re->n_intervals);
    uint8_t *class_of = arena_new(arena, uint8_t, re->n_intervals * UNICODE_CATEGORY_COUNT);
    if (!bounds || !class_of) return out_of_memory(c);
    for (uint32_t i = 0; i < re->n_intervals; i++) {
        bounds[i] = t->bounds[first + i];
        for (uint32_t category = 0; category < UNICODE_CATEGORY_COUNT; category++) {
            if (!find_class(c, first + i, category, &class_of[i * UNICODE_CATEGORY_COUNT + category]))
                return false;
        }
    }
    re->bounds = bounds;
    re->class_of = class_of;
    return true;
}

// ---- subset construction ----

// Puts on the list what can be reached from a step without reading: sets, look-aheads, a match.
static void list_add(Compiler *c, uint16_t step) {
    uint32_t n_stack = 0;
    c->stack[n_stack++] = step;
    while (n_stack && !c->list_closed) {
        uint16_t at = c->stack[--n_stack];
        if (c->in_list[at] == c->round) continue;
        c->in_list[at] = c->round;
        const Step *s = &c->steps[at];
        if (s->kind == STEP_SPLIT) {
            c->stack[n_stack++] = s->b;
            c->stack[n_stack++] = s->a;
            continue;
        }
        c->list[c->list_count++] = at;
        if (s->kind == STEP_MATCH) c->list_closed = true;
    }
}

// The state whose threads are on the list, made where it is new. State 0 is the empty list.
static bool find_state(Compiler *c, uint16_t *out) {
    size_t size = c->list_count * sizeof *c->list;
    uint64_t slot = hash_bytes(c->list, size) % REGEX_STATE_SLOTS;
    for (; c->slots[slot]; slot = (slot + 1) % REGEX_STATE_SLOTS) {
        const ThreadList *s = &c->states[c->slots[slot] - 1];
        if (s->count == c->list_count && memcmp(s->steps, c->list, size) == 0) {
            *out = (uint16_t)(c->slots[slot] - 1);
            return true;
        }
    }
    if (c->n_states == REGEX_STATES_MAX) return too_large(c);
    uint16_t *steps = arena_new(c->arena, uint16_t, c->list_count);
    if (!steps) return out_of_memory(c);
    memcpy(steps, c->list, size);
    c->states[c->n_states] = (ThreadList){steps, c->list_count};
    c->slots[slot] = (uint16_t)++c->n_states;
    *out = (uint16_t)(c->n_states - 1);
    return true;
}

static bool accepts(const Compiler *c, const Step *s, uint32_t class, bool end) {
    if (end) return s->kind == STEP_LOOK && s->at_end;
    return c->class_sets[class][s->set / 64] >> (s->set % 64) & 1u;
}

// Reads one character of a class, or the end of the text, in a state. *matched: a match ended before it.
static bool advance(Compiler *c, ThreadList from, uint32_t class, bool end, uint16_t *next, bool *matched) {
    c->round++;
    c->list_count = 0;
    c->list_closed = false;
    *matched = false;
    uint16_t pending[2 * REGEX_NODES_MAX + 1];
    for (uint32_t i = 0; i < from.count && !*matched; i++) {
        uint32_t n_pending = 0;
        pending[n_pending++] = from.steps[i];
        while (n_pending && !*matched) {
            uint16_t at = pending[--n_pending];
            if (c->in_round[at] == c->round) continue;
            c->in_round[at] = c->round;
            const Step *s = &c->steps[at];
            if (s->kind == STEP_MATCH) {
                *matched = true;
            } else if (s->kind == STEP_SPLIT) {
                pending[n_pending++] = s->b;
                pending[n_pending++] = s->a;
            } else if (accepts(c, s, class, end)) {
                if (s->kind == STEP_LOOK) pending[n_pending++] = s->a;
                else list_add(c, s->a);
            }
        }
    }
    return find_state(c, next);
}

static bool build_states(Compiler *c, uint16_t start, Regex *re, Arena *arena) {
    uint16_t state;
    re->n_classes = c->n_classes + 1;
    c->round = 1;
    if (!find_state(c, &state)) return false; // the dead one
    list_add(c, start);
    if (!find_state(c, &state)) return false;
    uint32_t *table = arena_new(arena, uint32_t, 0);
    for (uint32_t s = 0; s < c->n_states; s++) {
        // Nothing else is taken from this arena meanwhile, so the rows follow each other.
        if (!arena_new(arena, uint32_t, re->n_classes)) return out_of_memory(c);
        for (uint32_t class = 0; class < re->n_classes; class ++) {
            bool matched;
            if (!advance(c, c->states[s], class, class == c->n_classes, &state, &matched)) return false;
            if (matched && s == 1) {
                return error_set(c->err, ERR_UNSUPPORTED, "regular expression: it matches the empty string");
            }
            table[s * re->n_classes + class] = state * re->n_classes | (matched ? REGEX_MATCH : 0);
        }
    }
    re->next = table;
    re->n_states = c->n_states;
    return true;
}

bool regex_compile(Str pattern, Arena *arena, Arena scratch, Regex *out, Error *err) {
    Compiler *c = arena_new(&scratch, Compiler, 1);
    if (!c) return error_set(err, ERR_NO_MEMORY, "regular expression: out of memory");
    c->arena = &scratch;
    c->err = err;
    *out = (Regex){0};
    if (!regex_parse(pattern, &scratch, &c->tree, err)) return false;
    uint16_t match, start;
    if (!add_step(c, (Step){.kind = STEP_MATCH}, &match) || !emit(c, c->tree->root, match, &start))
        return false;
    return build_classes(c, out, arena) && build_states(c, start, out, arena);
}
