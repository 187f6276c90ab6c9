// Steps to the tables of matching in two passes.
//
// The pass from the back: at each place, the set of steps that can be matched from there. It follows from
// what is read there and from the set one character on, so the sets are states. What a look ahead looks for
// is among the steps, and so are looks within looks; the inner ones are decided first.
//
// The pass from the front, for looks behind: the steps that were reached of anything that a look looks for
// and that began anywhere before. Which looks hold at a place is known when the next character is read, since
// they may look at it.
#include "base/hash.h"
#include "text/regex_internal.h"

enum { SLOTS = 2 * REGEX_STATES_MAX, HOLDS_MAX = 64, SYMBOLS_MAX = 2048 };

// States are sets of steps, found again by their bits.
typedef struct {
    uint64_t *sets; // [n_states][n_words], one after the other in an arena of their own
    uint32_t n_states, n_words;
    uint16_t slots[SLOTS];
} StateTable;

typedef struct {
    RegexProgram *program;
    uint32_t n_words;
    StateTable table;
    uint32_t holds[HOLDS_MAX]; // bits of the looks behind that hold together
    uint32_t n_holds;
    uint64_t set[REGEX_STEPS_MAX / 64]; // being made
    // Steps of sets that go on at the step before them are decided 64 at a time: the bits of those that take
    // a class. That makes counts of hundreds cheap.
    uint64_t *chains; // [n_classes][n_words]
    uint16_t others[REGEX_STEPS_MAX];
    uint32_t n_others;
    uint16_t loops[REGEX_STEPS_MAX]; // steps that go on at later ones
    uint32_t n_loops;
    uint16_t stack[2 * REGEX_STEPS_MAX + 1];
} TwoPass;

static inline bool has(const uint64_t *set, uint32_t step) {
    return set[step / 64] >> (step % 64) & 1u;
}

static inline void put(uint64_t *set, uint32_t step) {
    set[step / 64] |= 1ull << (step % 64);
}

static bool count_work(RegexProgram *p, uint64_t steps) {
    p->work += steps;
    return p->work <= p->work_max || regex_too_large(p);
}

// The state that is the set being made, in an arena from which nothing else is taken meanwhile.
static bool find_state(TwoPass *b, Arena *arena, uint16_t *out) {
    StateTable *t = &b->table;
    size_t size = t->n_words * sizeof *t->sets;
    uint64_t slot = hash_bytes(b->set, size) % SLOTS;
    for (; t->slots[slot]; slot = (slot + 1) % SLOTS) {
        *out = (uint16_t)(t->slots[slot] - 1);
        if (memcmp(t->sets + (size_t)*out * t->n_words, b->set, size) == 0) return true;
    }
    if (t->n_states == REGEX_STATES_MAX) return regex_too_large(b->program);
    uint64_t *copy = arena_new(arena, uint64_t, t->n_words);
    if (!copy) return regex_out_of_memory(b->program);
    if (!t->sets) t->sets = copy;
    memcpy(copy, b->set, size);
    *out = (uint16_t)t->n_states;
    t->slots[slot] = (uint16_t)++t->n_states;
    return true;
}

static void begin_states(TwoPass *b) {
    memset(&b->table, 0, sizeof b->table);
    memset(b->set, 0, sizeof b->set);
    b->table.n_words = b->n_words;
}

// ---- looks behind ----

// Follows what was reached of one look: what it reads next goes into the set being made. Returns whether it
// has matched.
static bool follow_behind(TwoPass *b, const uint64_t *reached, uint32_t look, uint32_t class_index,
                          uint32_t holds) {
    const RegexProgram *p = b->program;
    uint64_t seen[REGEX_STEPS_MAX / 64] = {0};
    uint32_t n = 0;
    bool matched = false;
    b->stack[n++] = p->behinds[look].start;
    for (uint32_t s = 0; s < p->n_steps && n < REGEX_STEPS_MAX; s++) {
        if (p->steps[s].owner == look + 1 && has(reached, s)) b->stack[n++] = (uint16_t)s;
    }
    while (n) {
        uint16_t at = b->stack[--n];
        if (has(seen, at)) continue;
        put(seen, at);
        const RegexStep *s = &p->steps[at];
        switch ((StepKind)s->kind) {
        case STEP_SET:
            if (regex_accepts(p, s, class_index)) put(b->set, s->a);
            break;
        case STEP_LOOK:
            if (regex_accepts(p, s, class_index)) b->stack[n++] = s->a;
            break;
        case STEP_BEHIND:
            if ((holds >> s->b & 1u) != s->negative) b->stack[n++] = s->a;
            break;
        case STEP_SPLIT:
            b->stack[n++] = s->b;
            b->stack[n++] = s->a;
            break;
        case STEP_MATCH: matched = true; break;
        case STEP_AHEAD: break; // refused by the parser
        }
    }
    return matched;
}

static bool find_holds(TwoPass *b, uint32_t holds, uint8_t *out) {
    uint32_t i = 0;
    while (i < b->n_holds && b->holds[i] != holds)
        i++;
    if (i == HOLDS_MAX) return regex_too_large(b->program);
    if (i == b->n_holds) b->holds[b->n_holds++] = holds;
    *out = (uint8_t)i;
    return true;
}

// Two tables grow row by row: they are made in scratch, where each has room for the most rows.
static bool make_behind(TwoPass *b, RegexTwoPass *out, uint32_t n_classes, Arena *arena) {
    RegexProgram *p = b->program;
    Arena scratch = *p->arena;
    uint64_t n_entries = (uint64_t)REGEX_STATES_MAX * n_classes;
    uint16_t *next = arena_new(&scratch, uint16_t, n_entries);
    uint8_t *holds = arena_new(&scratch, uint8_t, n_entries);
    if (!next || !holds) return regex_out_of_memory(p);
    uint16_t state;
    begin_states(b);
    if (!find_state(b, &scratch, &state)) return false;
    for (uint32_t s = 0; s < b->table.n_states; s++) {
        for (uint32_t class_index = 0; class_index < n_classes; class_index++) {
            uint32_t found = 0, at = s * n_classes + class_index;
            memset(b->set, 0, sizeof b->set);
            for (uint32_t look = p->n_behinds; look-- > 0;) {
                bool matched =
                    follow_behind(b, b->table.sets + (size_t)s * b->n_words, look, class_index, found);
                found |= (uint32_t)matched << look;
            }
            if (!count_work(p, (uint64_t)p->n_behinds * p->n_steps)) return false;
            if (!find_state(b, &scratch, &next[at]) || !find_holds(b, found, &holds[at])) return false;
        }
    }
    uint64_t count = (uint64_t)b->table.n_states * n_classes;
    uint16_t *kept_next = arena_new(arena, uint16_t, count);
    uint8_t *kept_holds = arena_new(arena, uint8_t, count);
    if (!kept_next || !kept_holds) return regex_out_of_memory(p);
    memcpy(kept_next, next, count * sizeof *next);
    memcpy(kept_holds, holds, count);
    out->behind_next = kept_next;
    out->behind_holds = kept_holds;
    return true;
}

// ---- the pass from the back ----

typedef struct {
    const uint64_t *after; // what can be matched from one character on
    uint32_t class_index, holds;
} Place;

static bool can_match(const TwoPass *b, const Place *place, const RegexStep *s) {
    const uint64_t *here = b->set;
    switch ((StepKind)s->kind) {
    case STEP_SET: return has(place->after, s->a) && regex_accepts(b->program, s, place->class_index);
    case STEP_LOOK: return has(here, s->a) && regex_accepts(b->program, s, place->class_index);
    case STEP_SPLIT: return has(here, s->a) || has(here, s->b);
    case STEP_AHEAD: return has(here, s->a) && has(here, s->b) != s->negative;
    case STEP_BEHIND: return has(here, s->a) && (place->holds >> s->b & 1u) != s->negative;
    case STEP_MATCH: break;
    }
    return true;
}

static bool is_missing(const TwoPass *b, const Place *place, uint32_t i) {
    return !has(b->set, i) && can_match(b, place, &b->program->steps[i]);
}

// Adds steps from `from` on until nothing changes. Most steps go on at earlier ones, so one round decides
// them; more are needed only where the loops, which go on at later ones, have news.
static bool settle(TwoPass *b, const Place *place, uint32_t from, uint32_t to) {
    uint32_t first = 0;
    while (first < b->n_others && b->others[first] < from)
        first++;
    for (bool changed = true; changed;) {
        changed = false;
        if (!count_work(b->program, b->n_others + 1)) return false;
        for (uint32_t k = first; k < b->n_others && b->others[k] < to; k++) {
            if (is_missing(b, place, b->others[k])) put(b->set, b->others[k]);
        }
        for (uint32_t k = 0; k < b->n_loops && !changed; k++)
            changed = b->loops[k] >= from && b->loops[k] < to && is_missing(b, place, b->loops[k]);
    }
    return true;
}

static bool make_place(TwoPass *b, const Place *place) {
    const RegexProgram *p = b->program;
    const uint64_t *chain = b->chains + (size_t)place->class_index * b->n_words;
    memset(b->set, 0, sizeof b->set);
    for (uint32_t w = 0; w < b->n_words; w++)
        b->set[w] = chain[w] & (place->after[w] << 1 | (w ? place->after[w - 1] >> 63 : 0));
    for (uint32_t i = 0; i < p->n_aheads; i++) {
        if (!settle(b, place, p->aheads[i].from, p->aheads[i].to)) return false;
    }
    return settle(b, place, 0, p->n_steps);
}

// Which steps are decided how.
static bool sort_steps(TwoPass *b, uint32_t n_classes) {
    const RegexProgram *p = b->program;
    b->chains = arena_new(p->arena, uint64_t, (uint64_t)n_classes * b->n_words);
    if (!b->chains) return regex_out_of_memory(b->program);
    for (uint32_t i = 0; i < p->n_steps; i++) {
        const RegexStep *s = &p->steps[i];
        if (s->owner) continue;
        if (s->kind == STEP_SET && i > 0 && s->a == i - 1) {
            for (uint32_t class_index = 0; class_index < n_classes; class_index++) {
                if (regex_accepts(p, s, class_index)) put(b->chains + (size_t)class_index * b->n_words, i);
            }
            continue;
        }
        b->others[b->n_others++] = (uint16_t)i;
        if (s->a > i || (s->kind == STEP_SPLIT && s->b > i)) b->loops[b->n_loops++] = (uint16_t)i;
    }
    return true;
}

static bool make_before(TwoPass *b, RegexTwoPass *out, uint32_t n_classes, Arena *arena) {
    RegexProgram *p = b->program;
    uint32_t n_symbols = n_classes * b->n_holds;
    if (n_symbols > SYMBOLS_MAX) return regex_too_large(p);
    Arena scratch = *p->arena;
    uint64_t n_entries = (uint64_t)REGEX_STATES_MAX * n_symbols;
    uint16_t *before = arena_new(&scratch, uint16_t, n_entries), state;
    if (!before) return regex_out_of_memory(p);
    begin_states(b);
    if (!find_state(b, &scratch, &state)) return false; // behind the text: nothing
    for (uint32_t s = 0; s < b->table.n_states; s++) {
        for (uint32_t symbol = 0; symbol < n_symbols; symbol++) {
            Place place = {.after = b->table.sets + (size_t)s * b->n_words,
                           .class_index = symbol / b->n_holds,
                           .holds = b->holds[symbol % b->n_holds]};
            if (!make_place(b, &place) || !find_state(b, &scratch, &before[s * n_symbols + symbol]))
                return false;
        }
    }
    uint32_t n = out->n_states = b->table.n_states;
    uint64_t n_kept = (uint64_t)n * n_symbols;
    uint16_t *kept = arena_new(arena, uint16_t, n_kept);
    uint64_t *live = arena_new(arena, uint64_t, (uint64_t)n * b->n_words);
    RegexStep *steps = arena_new(arena, RegexStep, p->n_steps);
    if (!kept || !live || !steps) return regex_out_of_memory(p);
    memcpy(kept, before, (size_t)n * n_symbols * sizeof *kept);
    memcpy(live, b->table.sets, (size_t)n * b->n_words * sizeof *live);
    memcpy(steps, p->steps, p->n_steps * sizeof *steps);
    out->before = kept;
    out->live = live;
    out->steps = steps;
    return true;
}

bool regex_make_two_pass(RegexProgram *p, Regex *re, Arena *arena) {
    RegexTwoPass *out = &re->two_pass;
    TwoPass *b = arena_new(p->arena, TwoPass, 1);
    if (!b) return regex_out_of_memory(p);
    b->program = p;
    p->work = 0;
    b->n_words = (p->n_steps + 63) / 64;
    b->n_holds = p->n_behinds ? 0 : 1;
    if (!sort_steps(b, re->n_classes)) return false;
    if (p->n_behinds && !make_behind(b, out, re->n_classes, arena)) return false;
    out->n_holds = b->n_holds;
    out->n_words = b->n_words;
    out->start = p->start;
    out->has_empty_loops = p->has_empty_loops;
    return make_before(b, out, re->n_classes, arena);
}
