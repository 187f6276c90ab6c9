// A language over characters becomes an automaton over bytes. How characters are spelled is a tree, made once
// (spelling.h). Each state of the language then has that tree with its own successors at the leaves; branches
// that come out the same are one state, so the result is as small as the language was.
#include "grammar/spelling.h"

typedef struct {
    LangMaker *m;
    const Lang *lang;
    EdgeLists tree;
    uint32_t root;
    EdgeLists inner; // states between characters: list i is state lang->n_states + i
    uint32_t *memo;  // [tree lists] what each is from the state at hand
    uint32_t *memo_state;
    // The edges of the states at the borders of characters.
    Edge *edges;
    uint32_t n_edges, edges_cap;
    uint32_t *at; // [n_states + 1]
} Speller;

static bool resolve(Speller *s, uint32_t state, uint32_t to, uint32_t *out);

// The edges of a tree's node as they are from a state. False when there is no memory.
static bool resolve_edges(Speller *s, uint32_t state, uint32_t list, EdgeBuffer *b) {
    uint32_t count;
    b->count = 0;
    if (list == SPELL_NOTHING) return true; // only the empty text is in the language
    const Edge *edges = edge_list(&s->tree, list, &count);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t to;
        if (!resolve(s, state, edges[i].to, &to)) return false;
        put_edge(b, edges[i].first, edges[i].last, to);
    }
    return true;
}

static bool resolve(Speller *s, uint32_t state, uint32_t to, uint32_t *out) {
    if (to & SPELL_LEAF) {
        uint32_t next = s->lang->next[(size_t)state * s->lang->n_classes + (to - SPELL_LEAF)];
        *out = next == LANG_NONE ? SPELL_NOTHING : next;
        return true;
    }
    if (s->memo_state[to] == state + 1) {
        *out = s->memo[to];
        return true;
    }
    EdgeBuffer b;
    uint32_t list;
    if (!resolve_edges(s, state, to, &b) || !edge_list_find(&s->inner, b.edges, b.count, &list)) return false;
    *out = list == SPELL_NOTHING ? SPELL_NOTHING : s->lang->n_states + list;
    s->memo_state[to] = state + 1;
    s->memo[to] = *out;
    return true;
}

// What an edge and a cell of the table cost, in steps of LangMaker.
enum { EDGE_WORK = 8, CELL_WORK = 1 };

static bool resolve_states(Speller *s, Error *err) {
    for (uint32_t state = 0; state < s->lang->n_states; state++) {
        EdgeBuffer b;
        uint32_t before = s->inner.n_edges;
        if (!resolve_edges(s, state, s->root, &b) ||
            !lang_grow(s->inner.arena, (void **)&s->edges, &s->edges_cap, s->n_edges + b.count, sizeof(Edge)))
            return lang_no_memory(err);
        if (b.count) memcpy(s->edges + s->n_edges, b.edges, b.count * sizeof(Edge));
        s->at[state] = s->n_edges;
        s->n_edges += b.count;
        if (s->inner.count > DFA_STATES_MAX)
            return error_set(err, ERR_TOO_LARGE, "needs an automaton of more than %d states", DFA_STATES_MAX);
        if (!lang_work(s->m, EDGE_WORK * (s->tree.n_edges + s->inner.n_edges - before), err)) return false;
    }
    s->at[s->lang->n_states] = s->n_edges;
    return true;
}

static const Edge *state_edges(const Speller *s, uint32_t state, uint32_t *count) {
    if (state >= s->lang->n_states) return edge_list(&s->inner, state - s->lang->n_states, count);
    *count = s->at[state + 1] - s->at[state];
    return *count ? s->edges + s->at[state] : NULL;
}

// Bytes between the borders of all edges are classes; those with equal columns are joined.
static uint32_t byte_classes(const Speller *s, Str around, uint8_t *class_of) {
    uint8_t border[257] = {1};
    uint32_t n_states = s->lang->n_states + s->inner.count, count;
    for (uint32_t state = 0; state < n_states; state++) {
        const Edge *edges = state_edges(s, state, &count);
        for (uint32_t i = 0; i < count; i++)
            border[edges[i].first] = border[edges[i].last + 1] = 1;
    }
    for (size_t i = 0; i < around.len; i++)
        border[(uint8_t)around.ptr[i]] = border[(uint8_t)around.ptr[i] + 1] = 1;
    uint32_t n = 0;
    for (uint32_t b = 0; b < 256; b++) {
        n += border[b] && b;
        class_of[b] = (uint8_t)n;
    }
    return n + 1;
}

// Joins classes with equal columns, in place: a row becomes shorter.
static void join_classes(Dfa *d, uint32_t *next) {
    uint64_t hashes[256] = {0};
    uint8_t number[256], kept[256];
    uint32_t n = 0, wide = d->n_classes;
    for (size_t s = 0; s < d->n_states; s++) {
        for (uint32_t c = 0; c < wide; c++)
            hashes[c] = (hashes[c] ^ next[s * wide + c]) * 0x9E3779B97F4A7C15u ^ hashes[c] >> 31;
    }
    for (uint32_t c = 0; c < wide; c++) {
        uint32_t like = 0;
        for (; like < n; like++) {
            if (hashes[kept[like]] != hashes[c]) continue;
            size_t s = 0;
            while (s < d->n_states && next[s * wide + kept[like]] == next[s * wide + c])
                s++;
            if (s == d->n_states) break;
        }
        if (like == n) kept[n++] = (uint8_t)c;
        number[c] = (uint8_t)like;
    }
    for (size_t s = 0; s < d->n_states; s++) {
        for (uint32_t c = 0; c < n; c++)
            next[s * n + c] = next[s * wide + kept[c]];
    }
    for (uint32_t b = 0; b < 256; b++)
        d->class_of[b] = number[d->class_of[b]];
    d->n_classes = n;
}

// States in their order: those of `before`, those of the language (border states first), those of `after`.
static bool fill_table(Speller *s, Str before, Str after, Dfa *out, Error *err) {
    char around[16];
    if (before.len + after.len > sizeof around) return error_set(err, ERR_INTERNAL, "quotes are too long");
    if (before.len) memcpy(around, before.ptr, before.len);
    if (after.len) memcpy(around + before.len, after.ptr, after.len);
    uint32_t n_inner = s->lang->n_states + s->inner.count, shift = (uint32_t)before.len;
    out->n_states = n_inner + shift + (uint32_t)after.len;
    out->n_classes = byte_classes(s, (Str){around, before.len + after.len}, out->class_of);
    uint64_t cells = (uint64_t)out->n_states * out->n_classes;
    if (cells > 4 * (uint64_t)DFA_CELLS_MAX) // before equal classes are joined
        return error_set(err, ERR_TOO_LARGE, "needs an automaton of more than %u states", out->n_states - 1);
    if (!lang_work(s->m, CELL_WORK * cells, err)) return false;
    uint32_t *next = arena_new(&s->m->scratch, uint32_t, cells);
    uint8_t *accepts = arena_new(s->m->keep, uint8_t, out->n_states);
    if (!next || !accepts) return lang_no_memory(err);
    for (uint64_t i = 0; i < cells; i++)
        next[i] = DFA_NONE;
#define CELL(state, byte) next[(size_t)(state)*out->n_classes + out->class_of[(uint8_t)(byte)]]
    for (uint32_t i = 0; i < shift; i++)
        CELL(i, before.ptr[i]) = i + 1;
    for (uint32_t state = 0; state < n_inner; state++) {
        uint32_t count;
        const Edge *edges = state_edges(s, state, &count);
        for (uint32_t i = 0; i < count; i++) {
            uint32_t last = out->class_of[edges[i].last];
            for (uint32_t c = out->class_of[edges[i].first]; c <= last; c++)
                next[(size_t)(state + shift) * out->n_classes + c] = edges[i].to + shift;
        }
        bool ends = state < s->lang->n_states && s->lang->accepts[state];
        if (ends && after.len) CELL(state + shift, after.ptr[0]) = n_inner + shift;
        accepts[state + shift] = ends && !after.len;
    }
    for (uint32_t i = 1; i < after.len; i++)
        CELL(n_inner + shift + i - 1, after.ptr[i]) = n_inner + shift + i;
    if (after.len) accepts[out->n_states - 1] = 1;
#undef CELL
    join_classes(out, next);
    cells = (uint64_t)out->n_states * out->n_classes;
    if (cells > DFA_CELLS_MAX)
        return error_set(err, ERR_TOO_LARGE, "needs an automaton of more than %u states", out->n_states - 1);
    uint32_t *kept = arena_new(s->m->keep, uint32_t, cells);
    if (!kept) return lang_no_memory(err);
    memcpy(kept, next, cells * sizeof *next);
    out->next = kept;
    out->accepts = accepts;
    return true;
}

// How many characters it takes at least from each state to the end: rounds until nothing changes, of which
// there are as many as the longest of these is characters.
static bool find_least(LangMaker *m, const Dfa *d, const DfaCount *c, uint32_t *least, Error *err) {
    for (uint32_t s = 0; s < d->n_states; s++)
        least[s] = d->accepts[s] ? 0 : LANG_NONE;
    for (bool changed = true; changed;) {
        changed = false;
        if (!lang_work(m, (uint64_t)d->n_states * d->n_classes, err)) return false;
        for (uint32_t s = d->n_states; s-- > 0;) {
            for (uint32_t k = 0; k < d->n_classes; k++) {
                uint32_t to = d->next[(size_t)s * d->n_classes + k];
                if (to == DFA_NONE || least[to] == LANG_NONE) continue;
                uint32_t far = least[to] + dfa_begins(c, s, to);
                if (far < least[s]) least[s] = far, changed = true;
            }
        }
    }
    return true;
}

bool dfa_from_lang_counted(LangMaker *m, const Lang *a, uint32_t most, LangSpelling spelling, Str before,
                           Str after, Dfa *out, Error *err) {
    if (!dfa_from_lang(m, a, spelling, before, after, out, err)) return false;
    if (out->n_states == 0) return true;
    DfaCount *c = arena_new(m->keep, DfaCount, 1);
    uint32_t *least = arena_new(m->keep, uint32_t, out->n_states);
    if (!c || !least) return lang_no_memory(err);
    *c = (DfaCount){.most = most, .border = (uint32_t)before.len, .least = least};
    c->inner = c->border + a->n_states;
    c->after = out->n_states - (uint32_t)after.len;
    if ((most + 1ull) * out->n_states > INT32_MAX)
        return error_set(err, ERR_TOO_LARGE, "needs an automaton that is too large to count in");
    if (!find_least(m, out, c, least, err)) return false;
    for (uint32_t s = 0; s < out->n_states; s++)
        if (least[s] > c->least_max) c->least_max = least[s];
    if (least[0] > most) *out = (Dfa){.n_classes = 1};
    else out->count = c;
    return true;
}

bool dfa_from_lang(LangMaker *m, const Lang *a, LangSpelling spelling, Str before, Str after, Dfa *out,
                   Error *err) {
    *out = (Dfa){.n_classes = 1};
    if (lang_is_empty(a)) return true;
    LangMaker inner = *m;
    Arena *scratch = &inner.scratch;
    Speller s = {.m = &inner, .lang = a, .tree = {.arena = scratch}, .inner = {.arena = scratch}};
    if (!spelling_tree(a, spelling, &s.tree, &s.root)) return lang_no_memory(err);
    s.memo = arena_new(scratch, uint32_t, s.tree.count);
    s.memo_state = arena_new(scratch, uint32_t, s.tree.count);
    s.at = arena_new(scratch, uint32_t, (uint64_t)a->n_states + 1);
    if (!s.memo || !s.memo_state || !s.at) return lang_no_memory(err);
    bool ok = resolve_states(&s, err) && fill_table(&s, before, after, out, err);
    m->work = inner.work;
    return ok;
}
