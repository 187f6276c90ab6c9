// Expressions to automata: steps in Thompson's manner, classes of characters that no part tells apart, then
// the construction of subsets. Anchors are steps that hold only in the first set (start) or when a set is
// asked whether it accepts (end).
#include "base/hash.h"
#include "base/sort.h"
#include "base/utf8.h"
#include "grammar/rx_internal.h"

typedef enum { STEP_SET, STEP_LANG, STEP_SPLIT, STEP_START, STEP_END, STEP_MATCH } StepKind;

typedef struct {
    uint8_t kind; // StepKind
    uint32_t atom;
    uint32_t state; // of the atom's language
    uint32_t a, b;  // where to go on; of a language: its first step, and what follows it
} Step;

// What tells characters apart: a set, or the classes of a language.
typedef struct {
    const RxRange *ranges; // [count]
    uint32_t count;
    const Lang *lang;
    uint16_t *value; // [n_classes] whether a set has the class; which class of the language it is
} Atom;

typedef struct {
    LangMaker *m;
    const Rx *rx;
    Error *err;
    Arena scratch;
    Step *steps;
    uint32_t n_steps, steps_cap;
    Atom *atoms;
    uint32_t n_atoms, atoms_cap;
    LangPairs known_atoms;
    uint32_t *atom_of; // [n_nodes of rx] a set's atom and 1, or 0: repetitions ask for it again and again
    LangAlphabet alphabet;
    uint16_t *class_of;
    uint32_t surrogates; // their class
    LangTable table;
    // The sets of steps that are states of the table.
    uint32_t *pool, n_pool, pool_cap;
    uint32_t *set_at, *set_size, at_cap, size_cap;
    uint32_t *hash_slots, n_slots; // a state and 1, or 0
    // The set in the making.
    uint64_t *seen; // [words of n_steps]
    uint32_t *stack;
    uint32_t *set, n_set;
} Compiler;

// ---- steps ----

static bool add_step(Compiler *c, Step step, uint32_t *out) {
    if (c->n_steps == RX_PROGRAM_MAX)
        return error_set(c->err, ERR_TOO_LARGE, "needs more than %d steps: repetitions are too large",
                         RX_PROGRAM_MAX);
    if (!lang_grow(&c->scratch, (void **)&c->steps, &c->steps_cap, c->n_steps + 1, sizeof step))
        return lang_no_memory(c->err);
    c->steps[c->n_steps] = step;
    *out = c->n_steps++;
    return lang_work(c->m, 1, c->err);
}

static bool find_atom(Compiler *c, const RxRange *ranges, uint32_t count, const Lang *lang, uint32_t *out) {
    bool is_new;
    uint64_t key = lang ? (uint64_t)(uintptr_t)lang : hash_bytes(ranges, count * sizeof *ranges);
    if (!lang_pairs_find(&c->known_atoms, key >> 1, c->n_atoms, out, &is_new)) return lang_no_memory(c->err);
    if (!is_new) {
        const Atom *known = &c->atoms[*out];
        if (lang ? known->lang == lang
                 : known->count == count && memcmp(known->ranges, ranges, count * sizeof *ranges) == 0)
            return true;
        *out = c->n_atoms; // two of one hash: one of them is not shared
    }
    if (!lang_grow(&c->scratch, (void **)&c->atoms, &c->atoms_cap, c->n_atoms + 1, sizeof *c->atoms))
        return lang_no_memory(c->err);
    c->atoms[c->n_atoms++] = (Atom){.ranges = ranges, .count = count, .lang = lang};
    return true;
}

static bool find_atom_of_node(Compiler *c, uint32_t node, uint32_t *out) {
    const RxNode *n = &c->rx->nodes[node];
    if (!c->atom_of[node]) {
        if (!find_atom(c, n->as.ranges, n->min, NULL, out)) return false;
        c->atom_of[node] = *out + 1;
    }
    *out = c->atom_of[node] - 1;
    return true;
}

static bool emit(Compiler *c, uint32_t node, uint32_t next, uint32_t *out);

static bool emit_repeat(Compiler *c, const RxNode *n, uint32_t next, uint32_t *out) {
    *out = next;
    if (n->max == RX_UNBOUNDED) {
        uint32_t body;
        if (!add_step(c, (Step){.kind = STEP_SPLIT, .b = next}, out) || !emit(c, n->a, *out, &body))
            return false;
        c->steps[*out].a = body;
    }
    for (uint32_t i = n->max == RX_UNBOUNDED ? 0 : n->max - n->min; i > 0; i--) {
        uint32_t body;
        if (!emit(c, n->a, *out, &body) ||
            !add_step(c, (Step){.kind = STEP_SPLIT, .a = body, .b = next}, out))
            return false;
    }
    for (uint32_t i = 0; i < n->min; i++) {
        if (!emit(c, n->a, *out, out)) return false;
    }
    return true;
}

static bool emit_literal(Compiler *c, const RxNode *n, uint32_t next, uint32_t *out) {
    // From the back, since each step knows the one behind it.
    Str text = {n->as.text, n->min};
    *out = next;
    while (text.len) {
        size_t at = text.len - 1;
        while (at && ((uint8_t)text.ptr[at] & 0xC0) == 0x80)
            at--;
        uint32_t codepoint, atom;
        if (!utf8_decode(str_slice(text, at, text.len), &codepoint))
            return error_set(c->err, ERR_INVALID_REQUEST, "a text is not valid UTF-8");
        RxRange *one = arena_new(&c->scratch, RxRange, 1);
        if (!one) return lang_no_memory(c->err);
        *one = (RxRange){codepoint, codepoint};
        if (!find_atom(c, one, 1, NULL, &atom)) return false;
        if (!add_step(c, (Step){.kind = STEP_SET, .atom = atom, .a = *out}, out)) return false;
        text.len = at;
    }
    return true;
}

static bool emit_lang(Compiler *c, const Lang *lang, uint32_t next, uint32_t *out) {
    uint32_t atom, first = c->n_steps, step;
    if (!find_atom(c, NULL, 0, lang, &atom)) return false;
    for (uint32_t s = 0; s < lang->n_states; s++) {
        if (!add_step(c, (Step){.kind = STEP_LANG, .atom = atom, .state = s, .a = first, .b = next}, &step))
            return false;
    }
    *out = first;
    return true;
}

static bool emit(Compiler *c, uint32_t node, uint32_t next, uint32_t *out) {
    const RxNode *n = &c->rx->nodes[node];
    uint32_t a, b;
    switch ((RxKind)n->kind) {
    case RX_KIND_NEVER: return add_step(c, (Step){.kind = STEP_SET, .atom = 0, .a = next}, out);
    case RX_KIND_EMPTY: *out = next; return true;
    case RX_KIND_SET:
        return find_atom_of_node(c, node, &a) &&
               add_step(c, (Step){.kind = STEP_SET, .atom = a, .a = next}, out);
    case RX_KIND_LITERAL: return emit_literal(c, n, next, out);
    case RX_KIND_CAT: return emit(c, n->b, next, &b) && emit(c, n->a, b, out);
    case RX_KIND_ALT:
        return emit(c, n->a, next, &a) && emit(c, n->b, next, &b) &&
               add_step(c, (Step){.kind = STEP_SPLIT, .a = a, .b = b}, out);
    case RX_KIND_REPEAT: return emit_repeat(c, n, next, out);
    case RX_KIND_LANG: return emit_lang(c, n->as.lang, next, out);
    case RX_KIND_START: return add_step(c, (Step){.kind = STEP_START, .a = next}, out);
    case RX_KIND_END: return add_step(c, (Step){.kind = STEP_END, .a = next}, out);
    }
    return false;
}

// ---- classes ----

// Where anything changes, ascending: all borders of sets and of languages' intervals.
static bool collect_bounds(Compiler *c, uint32_t **out, uint32_t *n_out) {
    uint64_t n = 3;
    for (uint32_t i = 0; i < c->n_atoms; i++)
        n += 2ull * c->atoms[i].count + (c->atoms[i].lang ? c->atoms[i].lang->n_intervals : 0);
    uint64_t *bounds = arena_new(&c->scratch, uint64_t, n), *spare = arena_new(&c->scratch, uint64_t, n);
    *out = arena_new(&c->scratch, uint32_t, n);
    if (!bounds || !spare || !*out) return false;
    n = 0;
    bounds[n++] = 0;
    bounds[n++] = 0xD800;
    bounds[n++] = 0xE000;
    for (uint32_t i = 0; i < c->n_atoms; i++) {
        const Atom *a = &c->atoms[i];
        for (uint32_t r = 0; r < a->count; r++) {
            bounds[n++] = a->ranges[r].first;
            bounds[n++] = a->ranges[r].last + 1;
        }
        for (uint32_t r = 0; a->lang && r < a->lang->n_intervals; r++)
            bounds[n++] = a->lang->first[r];
    }
    sort_u64(bounds, spare, n);
    *n_out = 0;
    for (uint64_t i = 0; i < n; i++) {
        bool is_new = *n_out == 0 || (*out)[*n_out - 1] != bounds[i];
        if (is_new && bounds[i] < 0x110000) (*out)[(*n_out)++] = (uint32_t)bounds[i];
    }
    return true;
}

// What the atom makes of the interval that begins at `first`: *at moves on with ascending calls.
static uint16_t atom_value(const Atom *a, uint32_t first, uint32_t *at) {
    if (a->lang) {
        while (*at + 1 < a->lang->n_intervals && a->lang->first[*at + 1] <= first)
            ++*at;
        return a->lang->class_of[*at];
    }
    while (*at < a->count && a->ranges[*at].last < first)
        ++*at;
    return *at < a->count && a->ranges[*at].first <= first;
}

// Classes are split by one atom after the other.
static bool split_classes(Compiler *c) {
    LangAlphabet *alphabet = &c->alphabet;
    for (uint32_t i = 0; i < c->n_atoms; i++) {
        Arena scratch = c->scratch;
        LangPairs pairs = {.arena = &scratch};
        uint32_t n = 0, at = 0;
        if (!lang_work(c->m, alphabet->n_intervals, c->err)) return false;
        for (uint32_t k = 0; k < alphabet->n_intervals; k++) {
            uint32_t class;
            bool is_new;
            uint64_t key = (uint64_t)c->class_of[k] << 16 | atom_value(&c->atoms[i], alphabet->first[k], &at);
            if (!lang_pairs_find(&pairs, key, n, &class, &is_new)) return lang_no_memory(c->err);
            n += is_new;
            if (n > UINT16_MAX)
                return error_set(c->err, ERR_TOO_LARGE, "needs too many classes of characters");
            c->class_of[k] = (uint16_t) class;
        }
        alphabet->n_classes = n;
    }
    return true;
}

static bool make_classes(Compiler *c) {
    uint32_t *first, n;
    if (!collect_bounds(c, &first, &n)) return lang_no_memory(c->err);
    c->class_of = arena_new(&c->scratch, uint16_t, n);
    if (!c->class_of) return lang_no_memory(c->err);
    c->alphabet = (LangAlphabet){n, first, c->class_of, 2};
    for (uint32_t k = 0; k < n; k++)
        c->class_of[k] = first[k] >= 0xD800 && first[k] < 0xE000;
    if (!split_classes(c)) return false;
    c->surrogates = c->class_of[lang_interval(first, n, 0xD800)];
    for (uint32_t i = 0; i < c->n_atoms; i++) {
        Atom *a = &c->atoms[i];
        a->value = arena_new(&c->scratch, uint16_t, c->alphabet.n_classes);
        if (!a->value) return lang_no_memory(c->err);
        for (uint32_t k = 0, at = 0; k < n; k++)
            a->value[c->class_of[k]] = atom_value(a, first[k], &at);
    }
    return true;
}

// ---- subsets ----

static void reach(Compiler *c, uint32_t *n_stack, uint32_t step) {
    if (c->seen[step / 64] >> (step % 64) & 1) return;
    c->seen[step / 64] |= 1ull << (step % 64);
    c->stack[(*n_stack)++] = step;
}

// Adds what can be reached without reading, then leaves the steps that read or end in c->set, ascending.
static bool close_set(Compiler *c, bool at_start, bool at_end) {
    uint32_t n_stack = 0, n = c->n_set, words = (c->n_steps + 63) / 64;
    uint64_t work = words;
    for (uint32_t i = 0; i < n; i++)
        reach(c, &n_stack, c->set[i]);
    while (n_stack) {
        const Step *s = &c->steps[c->stack[--n_stack]];
        work++;
        if (s->kind == STEP_SPLIT) {
            reach(c, &n_stack, s->a);
            reach(c, &n_stack, s->b);
        } else if ((s->kind == STEP_START && at_start) || (s->kind == STEP_END && at_end)) {
            reach(c, &n_stack, s->a);
        } else if (s->kind == STEP_LANG && c->atoms[s->atom].lang->accepts[s->state]) {
            reach(c, &n_stack, s->b);
        }
    }
    c->n_set = 0;
    for (uint32_t w = 0; w < words; w++) {
        for (uint64_t bits = c->seen[w]; bits; bits &= bits - 1) {
            uint32_t step = w * 64 + (uint32_t)__builtin_ctzll(bits);
            uint8_t kind = c->steps[step].kind;
            if (kind != STEP_SPLIT && kind != STEP_START) c->set[c->n_set++] = step;
        }
        c->seen[w] = 0;
    }
    return lang_work(c->m, work, c->err);
}

static bool store_set(Compiler *c, uint32_t *state) {
    if (!lang_table_add(&c->table, state, c->err)) return false;
    if (!lang_grow(&c->scratch, (void **)&c->pool, &c->pool_cap, c->n_pool + c->n_set, sizeof(uint32_t)) ||
        !lang_grow(&c->scratch, (void **)&c->set_at, &c->at_cap, *state + 1, sizeof(uint32_t)) ||
        !lang_grow(&c->scratch, (void **)&c->set_size, &c->size_cap, *state + 1, sizeof(uint32_t)))
        return lang_no_memory(c->err);
    c->set_at[*state] = c->n_pool;
    c->set_size[*state] = c->n_set;
    memcpy(c->pool + c->n_pool, c->set, c->n_set * sizeof(uint32_t));
    c->n_pool += c->n_set;
    return true;
}

static uint32_t set_slot(const Compiler *c, const uint32_t *set, uint32_t count) {
    uint32_t at = (uint32_t)hash_bytes(set, count * sizeof *set) & (c->n_slots - 1);
    while (c->hash_slots[at]) {
        uint32_t state = c->hash_slots[at] - 1;
        if (c->set_size[state] == count && memcmp(c->pool + c->set_at[state], set, count * sizeof *set) == 0)
            break;
        at = (at + 1) & (c->n_slots - 1);
    }
    return at;
}

static bool grow_slots(Compiler *c) {
    c->n_slots = c->n_slots ? c->n_slots * 2 : 256;
    c->hash_slots = arena_new(&c->scratch, uint32_t, c->n_slots);
    if (!c->hash_slots) return lang_no_memory(c->err);
    for (uint32_t s = 1; s < c->table.n_states; s++)
        c->hash_slots[set_slot(c, c->pool + c->set_at[s], c->set_size[s])] = s + 1;
    return true;
}

// The state of c->set, which is closed. The start is no set's state but its own: anchors hold there alone.
static bool find_state(Compiler *c, uint32_t *state) {
    *state = LANG_NONE;
    if (c->n_set == 0) return true;
    if (c->table.n_states >= c->n_slots / 2 && !grow_slots(c)) return false;
    uint32_t slot = set_slot(c, c->set, c->n_set);
    if (c->hash_slots[slot]) {
        *state = c->hash_slots[slot] - 1;
        return true;
    }
    if (!store_set(c, state)) return false;
    c->hash_slots[slot] = *state + 1;
    return true;
}

static bool find_accepts(Compiler *c, uint32_t state) {
    c->n_set = c->set_size[state];
    memcpy(c->set, c->pool + c->set_at[state], c->n_set * sizeof(uint32_t));
    if (!close_set(c, state == 0, true)) return false;
    for (uint32_t i = 0; i < c->n_set; i++)
        c->table.accepts[state] |= c->steps[c->set[i]].kind == STEP_MATCH;
    return true;
}

// Where the set of a state goes with a class, not closed yet.
static void move_set(Compiler *c, uint32_t state, uint32_t class) {
    c->n_set = 0;
    for (uint32_t i = 0; i < c->set_size[state]; i++) {
        const Step *s = &c->steps[c->pool[c->set_at[state] + i]];
        if (s->kind == STEP_SET && c->atoms[s->atom].value[class]) {
            c->set[c->n_set++] = s->a;
        } else if (s->kind == STEP_LANG) {
            const Atom *a = &c->atoms[s->atom];
            uint32_t to = a->lang->next[(size_t)s->state * a->lang->n_classes + a->value[class]];
            if (to != LANG_NONE) c->set[c->n_set++] = s->a + to;
        }
    }
}

static bool make_states(Compiler *c, uint32_t start) {
    uint32_t state;
    c->set[0] = start;
    c->n_set = 1;
    if (!close_set(c, true, false) || !store_set(c, &state) || !find_accepts(c, 0)) return false;
    for (uint32_t s = 0; s < c->table.n_states; s++) {
        if (!find_accepts(c, s)) return false;
        if (!lang_work(c->m, (uint64_t)c->table.n_classes * (c->set_size[s] + 1), c->err)) return false;
        for (uint32_t k = 0; k < c->table.n_classes; k++) {
            if (k == c->surrogates) continue;
            move_set(c, s, k);
            if (c->n_set == 0) continue;
            if (!close_set(c, false, false) || !find_state(c, &state)) return false;
            c->table.next[(size_t)s * c->table.n_classes + k] = state;
        }
    }
    return true;
}

bool rx_compile(const Rx *rx, uint32_t root, LangMaker *m, Lang *out, Error *err) {
    static const RxRange none[1];
    if (rx->full) return rx_refuse_full(rx, err);
    Compiler c = {.m = m, .rx = rx, .err = err, .scratch = m->scratch};
    c.known_atoms.arena = &c.scratch;
    uint32_t match, start, atom;
    c.atom_of = arena_new(&c.scratch, uint32_t, rx->n_nodes);
    if (!c.atom_of) return lang_no_memory(err);
    if (!find_atom(&c, none, 0, NULL, &atom)) return false; // atom 0: no character
    if (!add_step(&c, (Step){.kind = STEP_MATCH}, &match) || !emit(&c, root, match, &start) ||
        !make_classes(&c))
        return false;
    c.seen = arena_new(&c.scratch, uint64_t, (uint64_t)c.n_steps / 64 + 1);
    c.stack = arena_new(&c.scratch, uint32_t, c.n_steps);
    c.set = arena_new(&c.scratch, uint32_t, c.n_steps);
    if (!c.seen || !c.stack || !c.set) return lang_no_memory(err);
    c.table = lang_table(&c.scratch, c.alphabet.n_classes);
    if (!make_states(&c, start)) return false;
    return lang_finish(m, c.scratch, &c.table, &c.alphabet, out, err);
}
