// Syntax tree to steps, in Thompson's manner: each step says what must hold and where to go on, and splits
// say which way is preferred. Then the classes: characters that no set of the pattern tells apart.
#include "text/regex_internal.h"

bool regex_too_large(RegexProgram *p) {
    return error_set(p->err, ERR_UNSUPPORTED, "regular expression: too large: \"%.*s\"",
                     STR_ARG(p->tree->pattern));
}

bool regex_out_of_memory(RegexProgram *p) {
    return error_set(p->err, ERR_NO_MEMORY, "regular expression: out of memory");
}

// ---- steps ----

typedef struct {
    RegexProgram *program;
    uint8_t owner; // of the steps being made
} Emitter;

static bool emit(Emitter *e, uint16_t node, uint16_t next, uint16_t *out);

static bool add_step(Emitter *e, RegexStep step, uint16_t *out) {
    RegexProgram *p = e->program;
    if (p->n_steps == REGEX_STEPS_MAX) return regex_too_large(p);
    step.owner = e->owner;
    p->steps[p->n_steps] = step;
    *out = (uint16_t)p->n_steps++;
    return true;
}

static bool emit_split(Emitter *e, RegexMode mode, uint16_t body, uint16_t exit, uint16_t *out) {
    RegexStep split = {.kind = STEP_SPLIT, .a = body, .b = exit};
    if (mode == REGEX_LAZY) split.a = exit, split.b = body;
    return add_step(e, split, out);
}

// Any number of times, and then `exit`. A round that matched nothing ends the loop: so where the body may be
// empty, another split follows a round than the one that begins the first.
static bool emit_loop(Emitter *e, const RegexNode *n, uint16_t exit, uint16_t *out) {
    RegexProgram *p = e->program;
    uint16_t body;
    if (!emit_split(e, (RegexMode)n->mode, 0, exit, out) || !emit(e, n->a, *out, &body)) return false;
    if (n->mode == REGEX_LAZY) p->steps[*out].b = body;
    else p->steps[*out].a = body;
    if (!regex_may_be_empty(p->tree, n->a)) return true;
    p->has_empty_loops = true;
    return emit_split(e, (RegexMode)n->mode, body, exit, out);
}

// Giving nothing back is the same as not ending before a character that could still be taken.
static bool emit_possessive_end(Emitter *e, const RegexNode *n, uint16_t next, uint16_t *out) {
    RegexProgram *p = e->program;
    RegexTree *t = p->tree;
    CharSet outside = {arena_new(p->arena, uint32_t, t->n_intervals)};
    if (!outside.masks) return regex_out_of_memory(p);
    const CharSet *taken = &t->sets[t->nodes[n->a].set];
    for (uint32_t i = 0; i < t->n_intervals; i++)
        outside.masks[i] = ~taken->masks[i];
    uint16_t set = regex_add_set(t, outside.masks, p->arena);
    if (set == UINT16_MAX) return t->n_sets == REGEX_SETS_MAX ? regex_too_large(p) : regex_out_of_memory(p);
    return add_step(e, (RegexStep){.kind = STEP_LOOK, .at_end = true, .set = set, .a = next}, out);
}

static bool emit_repeat(Emitter *e, const RegexNode *n, uint16_t next, uint16_t *out) {
    uint16_t exit = next, body;
    if (n->mode == REGEX_POSSESSIVE && !emit_possessive_end(e, n, next, &exit)) return false;
    uint16_t at = exit;
    if (n->max == REGEX_UNBOUNDED) {
        if (!emit_loop(e, n, exit, &at)) return false;
    } else {
        for (uint32_t i = n->min; i < n->max; i++) {
            // The innermost optional round has taken all it may: what follows it is not an early exit.
            uint16_t after = i == n->min ? next : at;
            if (!emit(e, n->a, after, &body) || !emit_split(e, (RegexMode)n->mode, body, exit, &at))
                return false;
        }
        if (n->min == n->max) at = next;
    }
    for (uint32_t i = 0; i < n->min; i++) {
        if (!emit(e, n->a, at, &at)) return false;
    }
    *out = at;
    return true;
}

// What is looked for ahead, once for each place in the pattern that looks for it.
static bool emit_ahead(Emitter *e, const RegexNode *n, uint16_t next, uint16_t *out) {
    RegexProgram *p = e->program;
    uint32_t i = 0;
    while (i < p->n_aheads && p->aheads[i].body != n->a)
        i++;
    if (i == p->n_aheads) {
        uint16_t from = (uint16_t)p->n_steps, match, start;
        if (!add_step(e, (RegexStep){.kind = STEP_MATCH}, &match) || !emit(e, n->a, match, &start))
            return false;
        i = p->n_aheads++; // looks within it came before
        p->aheads[i].from = from;
        p->aheads[i].to = (uint16_t)p->n_steps;
        p->aheads[i].start = start;
        p->aheads[i].body = n->a;
    }
    return add_step(
        e, (RegexStep){.kind = STEP_AHEAD, .negative = n->negative, .a = next, .b = p->aheads[i].start}, out);
}

// Two looks for the same set of characters are one.
static bool is_same_body(const RegexTree *t, uint16_t a, uint16_t b) {
    return a == b || (t->nodes[a].kind == REGEX_SET && t->nodes[b].kind == REGEX_SET &&
                      t->nodes[a].set == t->nodes[b].set);
}

static bool emit_behind(Emitter *e, const RegexNode *n, uint16_t next, uint16_t *out) {
    RegexProgram *p = e->program;
    uint32_t i = e->owner; // the looks that this one is within have lower indices
    while (i < p->n_behinds && !is_same_body(p->tree, p->behinds[i].body, n->a))
        i++;
    if (i == p->n_behinds) {
        if (i == REGEX_BEHINDS_MAX) return regex_too_large(p);
        p->n_behinds++;
        p->behinds[i].body = n->a;
        uint8_t outer = e->owner;
        uint16_t match;
        e->owner = (uint8_t)(i + 1);
        if (!add_step(e, (RegexStep){.kind = STEP_MATCH}, &match) ||
            !emit(e, n->a, match, &p->behinds[i].start))
            return false;
        e->owner = outer;
    }
    return add_step(e, (RegexStep){.kind = STEP_BEHIND, .negative = n->negative, .a = next, .b = (uint16_t)i},
                    out);
}

// The steps that match `node` and go on at `next`; *out is where they begin.
static bool emit(Emitter *e, uint16_t node, uint16_t next, uint16_t *out) {
    const RegexNode *n = &e->program->tree->nodes[node];
    uint16_t a, b;
    switch ((RegexKind)n->kind) {
    case REGEX_EMPTY: *out = next; return true;
    case REGEX_SET: return add_step(e, (RegexStep){.kind = STEP_SET, .set = n->set, .a = next}, out);
    case REGEX_LOOK:
        return add_step(e, (RegexStep){.kind = STEP_LOOK, .set = n->set, .at_end = n->at_end, .a = next},
                        out);
    case REGEX_CONCAT: return emit(e, n->b, next, &b) && emit(e, n->a, b, out);
    case REGEX_ALTERNATE:
        return emit(e, n->a, next, &a) && emit(e, n->b, next, &b) &&
               add_step(e, (RegexStep){.kind = STEP_SPLIT, .a = a, .b = b}, out);
    case REGEX_REPEAT: return emit_repeat(e, n, next, out);
    case REGEX_AHEAD: return emit_ahead(e, n, next, out);
    case REGEX_BEHIND: return emit_behind(e, n, next, out);
    }
    return false;
}

// ---- classes of characters ----

// The class of all characters of a category in an interval: those that are in the same sets share one.
static bool find_class(RegexProgram *p, uint32_t interval, uint32_t category, uint8_t *out) {
    uint64_t sets[REGEX_SETS_MAX / 64] = {0};
    for (uint32_t s = 0; s < p->tree->n_sets; s++) {
        if (char_set_has(&p->tree->sets[s], interval, category)) sets[s / 64] |= 1ull << (s % 64);
    }
    for (uint32_t k = 0; k < p->n_classes; k++) {
        if (memcmp(p->class_sets[k], sets, sizeof sets) == 0) {
            *out = (uint8_t)k;
            return true;
        }
    }
    if (p->n_classes == REGEX_CLASSES_MAX - 1) return regex_too_large(p); // one more is the end of the text
    memcpy(p->class_sets[p->n_classes], sets, sizeof sets);
    *out = (uint8_t)p->n_classes++;
    return true;
}

static bool make_classes(RegexProgram *p, Regex *re, Arena *arena) {
    const RegexTree *t = p->tree;
    uint32_t first = 0;
    for (uint32_t i = 0; i < t->n_intervals; i++) {
        uint32_t end = i + 1 < t->n_intervals ? t->bounds[i + 1] : 128;
        if (t->bounds[i] >= 128) break;
        for (uint32_t cp = t->bounds[i]; cp < end; cp++) {
            if (!find_class(p, i, unicode_category(cp), &re->ascii_class[cp])) return false;
        }
        first = i + 1;
    }
    re->n_intervals = t->n_intervals - first;
    uint32_t *bounds = arena_new(arena, uint32_t, re->n_intervals);
    uint64_t n_entries = (uint64_t)re->n_intervals * UNICODE_CATEGORY_COUNT;
    uint8_t *class_of = arena_new(arena, uint8_t, n_entries);
    if (!bounds || !class_of) return regex_out_of_memory(p);
    for (uint32_t i = 0; i < re->n_intervals; i++) {
        bounds[i] = t->bounds[first + i];
        for (uint32_t category = 0; category < UNICODE_CATEGORY_COUNT; category++) {
            if (!find_class(p, first + i, category, &class_of[i * UNICODE_CATEGORY_COUNT + category]))
                return false;
        }
    }
    re->bounds = bounds;
    re->class_of = class_of;
    re->n_classes = p->n_classes + 1;
    return true;
}

bool regex_make_steps(RegexProgram *p, Regex *re, Arena *arena) {
    Emitter e = {.program = p};
    uint16_t match;
    if (!add_step(&e, (RegexStep){.kind = STEP_MATCH}, &match) || !emit(&e, p->tree->root, match, &p->start))
        return false;
    p->matches_empty = re->matches_empty = regex_may_be_empty(p->tree, p->tree->root);
    return make_classes(p, re, arena);
}

// ---- all of it ----

// Whichever way, a text must not take longer than in proportion to its length.
static bool make_tables(RegexProgram *p, Regex *re, Arena *arena) {
    RegexVain in_vain = REGEX_VAIN_UNBOUNDED;
    Arena before = *arena;
    p->work_max = REGEX_WORK_MAX;
    if (!p->n_aheads && !p->n_behinds && !p->matches_empty && !regex_make_forward(p, re, arena, &in_vain)) {
        if (p->err->code != ERR_UNSUPPORTED) return false;
        *arena = before; // too large, but it may be small enough the other way
        re->next = NULL;
    }
    if (in_vain == REGEX_VAIN_SHORT) return true;
    if (in_vain == REGEX_VAIN_BOUNDED) p->work_max = REGEX_WORK_FOR_SPEED;
    before = *arena;
    if (regex_make_two_pass(p, re, arena)) return true;
    if (in_vain == REGEX_VAIN_UNBOUNDED || p->err->code != ERR_UNSUPPORTED) return false;
    *arena = before;
    re->two_pass = (RegexTwoPass){0};
    return true;
}

bool regex_compile(Str pattern, Arena *arena, Arena scratch, Regex *out, Error *err) {
    RegexProgram *p = arena_new(&scratch, RegexProgram, 1);
    if (!p) return error_set(err, ERR_NO_MEMORY, "regular expression: out of memory");
    p->arena = &scratch;
    p->err = err;
    *out = (Regex){0};
    return regex_parse(pattern, &scratch, &p->tree, err) && regex_make_steps(p, out, arena) &&
           make_tables(p, out, arena);
}
