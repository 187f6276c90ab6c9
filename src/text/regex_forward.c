// Steps to the automaton that matches forward: the subset construction over ordered lists of threads, which
// keeps the priorities (as RE2 does for leftmost-first matching).
//
// A look-ahead depends on the next character, so a match is known only when that character, or the end of the
// text, is read: REGEX_MATCH on a transition means "a match ended before this character".
#include "base/hash.h"
#include "text/regex_internal.h"

enum { STATE_SLOTS = 2 * REGEX_STATES_MAX };

typedef struct {
    uint16_t *steps;
    uint32_t count;
} ThreadList;

typedef struct {
    RegexProgram *program;
    ThreadList states[REGEX_STATES_MAX];
    uint32_t n_states;
    uint16_t slots[STATE_SLOTS];        // hash table of states
    uint32_t in_list[REGEX_STEPS_MAX];  // the last round in which a step was put on the list being built
    uint32_t in_round[REGEX_STEPS_MAX]; // … in which it was followed on the character being read
    uint32_t round;
    uint16_t stack[2 * REGEX_STEPS_MAX + 1];
    uint16_t list[REGEX_STEPS_MAX];
    uint32_t list_count;
    bool list_closed; // it ends in a match: threads of lower priority no longer count
} Forward;

// Puts on the list what can be reached from a step without reading: sets, look-aheads, a match.
static void list_add(Forward *f, uint16_t step) {
    uint32_t n_stack = 0;
    f->stack[n_stack++] = step;
    while (n_stack && !f->list_closed) {
        uint16_t at = f->stack[--n_stack];
        if (f->in_list[at] == f->round) continue;
        f->in_list[at] = f->round;
        const RegexStep *s = &f->program->steps[at];
        if (s->kind == STEP_SPLIT) {
            f->stack[n_stack++] = s->b;
            f->stack[n_stack++] = s->a;
            continue;
        }
        f->list[f->list_count++] = at;
        if (s->kind == STEP_MATCH) f->list_closed = true;
    }
}

// The state whose threads are on the list, made where it is new. State 0 is the empty list.
static bool find_state(Forward *f, uint16_t *out) {
    size_t size = f->list_count * sizeof *f->list;
    uint64_t slot = hash_bytes(f->list, size) % STATE_SLOTS;
    for (; f->slots[slot]; slot = (slot + 1) % STATE_SLOTS) {
        const ThreadList *s = &f->states[f->slots[slot] - 1];
        if (s->count == f->list_count && memcmp(s->steps, f->list, size) == 0) {
            *out = (uint16_t)(f->slots[slot] - 1);
            return true;
        }
    }
    if (f->n_states == REGEX_STATES_MAX) return regex_too_large(f->program);
    uint16_t *steps = arena_new(f->program->arena, uint16_t, f->list_count);
    if (!steps) return regex_out_of_memory(f->program);
    memcpy(steps, f->list, size);
    f->states[f->n_states] = (ThreadList){steps, f->list_count};
    f->slots[slot] = (uint16_t)++f->n_states;
    *out = (uint16_t)(f->n_states - 1);
    return true;
}

// Reads a class in a state. *matched: a match ended before it.
static bool advance(Forward *f, ThreadList from, uint32_t class, uint16_t *next, bool *matched) {
    RegexProgram *p = f->program;
    f->round++;
    f->list_count = 0;
    f->list_closed = false;
    *matched = false;
    p->work += from.count + 1;
    if (p->work > p->work_max) return regex_too_large(p);
    for (uint32_t i = 0; i < from.count && !*matched; i++) {
        uint16_t pending[2 * REGEX_STEPS_MAX + 1];
        uint32_t n_pending = 0;
        pending[n_pending++] = from.steps[i];
        while (n_pending && !*matched) {
            uint16_t at = pending[--n_pending];
            if (f->in_round[at] == f->round) continue;
            f->in_round[at] = f->round;
            const RegexStep *s = &p->steps[at];
            if (s->kind == STEP_MATCH) {
                *matched = true;
            } else if (s->kind == STEP_SPLIT) {
                pending[n_pending++] = s->b;
                pending[n_pending++] = s->a;
            } else if (regex_accepts(p, s, class)) {
                if (s->kind == STEP_LOOK) pending[n_pending++] = s->a;
                else list_add(f, s->a);
            }
        }
    }
    return find_state(f, next);
}

// How many characters can be read one after the other with no match in between: states from which so many can
// be read, for one more each round.
static RegexVain count_in_vain(const Regex *re, Arena scratch) {
    bool *can = arena_new(&scratch, bool, re->n_states), *could = arena_new(&scratch, bool, re->n_states);
    if (!can || !could) return REGEX_VAIN_UNBOUNDED;
    memset(can, 1, re->n_states);
    for (uint32_t round = 0; round <= REGEX_REPEAT_MAX; round++) {
        bool some = false;
        memcpy(could, can, re->n_states);
        for (uint32_t s = 1; s < re->n_states; s++) {
            const uint32_t *row = re->next + (size_t)s * re->n_classes;
            can[s] = false;
            for (uint32_t class = 0; class + 1 < re->n_classes && could[s] && !can[s]; class ++)
                can[s] = row[class] && !(row[class] & REGEX_MATCH) && could[row[class] / re->n_classes];
            some |= can[s];
        }
        if (!some) return round <= REGEX_IN_VAIN_MAX ? REGEX_VAIN_SHORT : REGEX_VAIN_BOUNDED;
    }
    return REGEX_VAIN_UNBOUNDED;
}

bool regex_make_forward(RegexProgram *p, Regex *re, Arena *arena, RegexVain *in_vain) {
    Arena scratch = *p->arena;
    Forward *f = arena_new(p->arena, Forward, 1);
    uint16_t state;
    if (!f) return regex_out_of_memory(p);
    f->program = p;
    f->round = 1;
    if (!find_state(f, &state)) return false; // the dead one
    list_add(f, p->start);
    if (!find_state(f, &state)) return false;
    uint32_t *table = arena_new(arena, uint32_t, 0);
    for (uint32_t s = 0; s < f->n_states; s++) {
        // Nothing else is taken from this arena meanwhile, so the rows follow each other.
        if (!arena_new(arena, uint32_t, re->n_classes)) return regex_out_of_memory(p);
        for (uint32_t class = 0; class < re->n_classes; class ++) {
            bool matched;
            if (!advance(f, f->states[s], class, &state, &matched)) return false;
            table[s * re->n_classes + class] = state * re->n_classes | (matched ? REGEX_MATCH : 0);
        }
    }
    re->next = table;
    re->n_states = f->n_states;
    *in_vain = count_in_vain(re, *p->arena);
    *p->arena = scratch;
    return true;
}
