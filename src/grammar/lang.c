#include "base/hash.h"
#include "base/utf8.h"
#include "grammar/lang_internal.h"

bool lang_is_wanted(LangMaker *m, Error *err) {
    if (!m->stop || !m->stop->is_over(m->stop->context)) return true;
    return error_set(err, ERR_CANCELLED, "nobody waits for it any more");
}

bool lang_work(LangMaker *m, uint64_t amount, Error *err) {
    uint64_t before = m->work / LANG_ASK_STEPS;
    m->work += amount;
    if (m->work / LANG_ASK_STEPS != before && !lang_is_wanted(m, err)) return false;
    if (m->work <= m->work_max) return true;
    return error_set(err, ERR_TOO_LARGE, "needs more than %llu steps of work",
                     (unsigned long long)m->work_max);
}

bool lang_no_memory(Error *err) {
    return error_set(err, ERR_NO_MEMORY, "no memory is left for the grammar's automata");
}

bool lang_grow(Arena *arena, void **array, uint32_t *cap, uint32_t needed, size_t size) {
    if (needed <= *cap) return true;
    uint32_t larger = *cap ? *cap * 2 : 64;
    if (larger < needed) larger = needed;
    void *grown = arena_alloc(arena, larger, size, 8);
    if (!grown) return false;
    if (*cap) memcpy(grown, *array, *cap * size);
    *array = grown;
    *cap = larger;
    return true;
}

// ---- tables ----

bool lang_table_add(LangTable *t, uint32_t *state, Error *err) {
    if (t->n_states == LANG_STATES_MAX || (uint64_t)(t->n_states + 1) * t->n_classes > LANG_CELLS_MAX) {
        return error_set(err, ERR_TOO_LARGE, "needs an automaton of more than %u states", t->n_states);
    }
    uint32_t cap = t->cap;
    if (!lang_grow(t->arena, (void **)&t->accepts, &cap, t->n_states + 1, 1)) return lang_no_memory(err);
    if (!lang_grow(t->arena, (void **)&t->next, &t->cap, t->n_states + 1, t->n_classes * sizeof(uint32_t)))
        return lang_no_memory(err);
    *state = t->n_states++;
    uint32_t *row = t->next + (size_t)*state * t->n_classes;
    for (uint32_t c = 0; c < t->n_classes; c++)
        row[c] = LANG_NONE;
    return true;
}

// ---- pairs ----

static bool pairs_grow(LangPairs *p) {
    LangPairs larger = {.arena = p->arena, .cap = p->cap ? p->cap * 2 : 256};
    larger.keys = arena_new(p->arena, uint64_t, larger.cap);
    larger.values = arena_new(p->arena, uint32_t, larger.cap);
    if (!larger.keys || !larger.values) return false;
    for (uint32_t i = 0; i < p->cap; i++) {
        uint32_t value;
        bool is_new;
        if (p->keys[i] && !lang_pairs_find(&larger, p->keys[i] - 1, p->values[i], &value, &is_new))
            return false;
    }
    *p = larger;
    return true;
}

bool lang_pairs_find(LangPairs *p, uint64_t key, uint32_t fresh, uint32_t *value, bool *is_new) {
    if (p->count >= p->cap / 2 && !pairs_grow(p)) return false;
    uint32_t at = (uint32_t)hash_bytes(&key, sizeof key) & (p->cap - 1);
    while (p->keys[at] && p->keys[at] != key + 1)
        at = (at + 1) & (p->cap - 1);
    *is_new = p->keys[at] == 0;
    if (*is_new) {
        p->keys[at] = key + 1;
        p->values[at] = fresh;
        p->count++;
    }
    *value = p->values[at];
    return true;
}

// ---- the last step of every construction ----

// Blocks in breadth-first order; order[new] = block, number[block] = new.
static uint32_t number_blocks(const LangTable *t, const uint32_t *block, const uint32_t *member,
                              const uint32_t *class_order, uint32_t *order, uint32_t *number) {
    uint32_t n = 0;
    if (block[0] == LANG_NONE) return 0;
    order[n] = block[0];
    number[block[0]] = n++;
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t *row = t->next + (size_t)member[order[i]] * t->n_classes;
        for (uint32_t c = 0; c < t->n_classes; c++) {
            uint32_t to = row[class_order[c]];
            if (to == LANG_NONE || block[to] == LANG_NONE || number[block[to]] != LANG_NONE) continue;
            order[n] = block[to];
            number[block[to]] = n++;
        }
    }
    return n;
}

// Classes in the order of their first intervals; unused ones are left out.
static uint32_t order_classes(const LangAlphabet *a, uint32_t *class_order, uint8_t *seen) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < a->n_intervals; i++) {
        if (!seen[a->class_of[i]]) seen[a->class_of[i]] = 1, class_order[n++] = a->class_of[i];
    }
    return n;
}

typedef struct {
    uint32_t n_states, n_classes;
    uint32_t *cells; // [n_states][n_classes]
} Grid;

// merged[c]: the class that c's column is the same as, numbered anew.
static bool merge_columns(const Grid *g, Arena scratch, uint16_t *merged, uint32_t *n_merged,
                          uint32_t *kept) {
    uint64_t *hashes = arena_new(&scratch, uint64_t, g->n_classes);
    LangPairs known = {.arena = &scratch};
    if (!hashes) return false;
    for (uint32_t c = 0; c < g->n_classes; c++)
        hashes[c] = 0x9E3779B97F4A7C15u;
    for (uint32_t s = 0; s < g->n_states; s++) {
        const uint32_t *row = g->cells + (size_t)s * g->n_classes;
        for (uint32_t c = 0; c < g->n_classes; c++)
            hashes[c] = (hashes[c] ^ row[c]) * 0xD6E8FEB86659FD93u ^ hashes[c] >> 29;
    }
    *n_merged = 0;
    for (uint32_t c = 0; c < g->n_classes; c++) {
        uint32_t like;
        bool is_new;
        if (!lang_pairs_find(&known, hashes[c] >> 1, *n_merged, &like, &is_new)) return false;
        bool same = !is_new;
        for (uint32_t s = 0; same && s < g->n_states; s++) {
            const uint32_t *row = g->cells + (size_t)s * g->n_classes;
            same = row[c] == row[kept[like]];
        }
        if (!same) like = *n_merged, kept[(*n_merged)++] = c; // a collision only costs a class
        merged[c] = (uint16_t)like;
    }
    return true;
}

static bool copy_out(LangMaker *m, const Grid *g, const LangAlphabet *a, const uint32_t *class_number,
                     const uint16_t *merged, const uint32_t *kept, Lang *out) {
    uint32_t *first = arena_new(m->keep, uint32_t, a->n_intervals);
    uint16_t *class_of = arena_new(m->keep, uint16_t, a->n_intervals);
    uint32_t *next = arena_new(m->keep, uint32_t, (uint64_t)g->n_states * out->n_classes);
    if (!first || !class_of || !next) return false;
    for (uint32_t i = 0; i < a->n_intervals; i++) {
        uint16_t class = merged[class_number[a->class_of[i]]];
        if (out->n_intervals && class_of[out->n_intervals - 1] == class) continue;
        first[out->n_intervals] = a->first[i];
        class_of[out->n_intervals++] = class;
    }
    for (uint32_t s = 0; s < g->n_states; s++) {
        for (uint32_t c = 0; c < out->n_classes; c++)
            next[(size_t)s * out->n_classes + c] = g->cells[(size_t)s * g->n_classes + kept[c]];
    }
    out->first = first;
    out->class_of = class_of;
    out->next = next;
    return true;
}

static bool empty_lang(LangMaker *m, Lang *out, Error *err) {
    *out = (Lang){.n_classes = 1, .n_intervals = 1};
    out->first = arena_new(m->keep, uint32_t, 1);
    out->class_of = arena_new(m->keep, uint16_t, 1);
    out->next = arena_new(m->keep, uint32_t, 1);
    out->accepts = arena_new(m->keep, uint8_t, 1);
    return out->first && out->class_of && out->next && out->accepts ? true : lang_no_memory(err);
}

bool lang_finish(LangMaker *m, Arena scratch, const LangTable *t, const LangAlphabet *a, Lang *out,
                 Error *err) {
    uint32_t n_blocks, *block = arena_new(&scratch, uint32_t, (uint64_t)t->n_states + 1);
    if (!block) return lang_no_memory(err);
    if (!lang_minimise(m, scratch, t, block, &n_blocks, err)) return false;
    if (t->n_states == 0 || block[0] == LANG_NONE) return empty_lang(m, out, err);

    uint32_t *member = arena_new(&scratch, uint32_t, n_blocks),
             *order = arena_new(&scratch, uint32_t, n_blocks);
    uint32_t *number = arena_new(&scratch, uint32_t, n_blocks);
    uint32_t *class_order = arena_new(&scratch, uint32_t, t->n_classes);
    uint32_t *class_number = arena_new(&scratch, uint32_t, t->n_classes);
    uint32_t *kept = arena_new(&scratch, uint32_t, t->n_classes);
    uint16_t *merged = arena_new(&scratch, uint16_t, t->n_classes);
    uint8_t *seen = arena_new(&scratch, uint8_t, t->n_classes);
    if (!member || !order || !number || !class_order || !class_number || !kept || !merged || !seen)
        return lang_no_memory(err);
    for (uint32_t s = t->n_states; s-- > 0;) {
        if (block[s] != LANG_NONE) member[block[s]] = s;
    }
    for (uint32_t b = 0; b < n_blocks; b++)
        number[b] = LANG_NONE;
    LangTable used = *t;
    uint32_t n_used = order_classes(a, class_order, seen);
    for (uint32_t i = 0, c = n_used; i < t->n_classes; i++) {
        if (!seen[i]) class_order[c++] = i;
    }
    for (uint32_t i = 0; i < t->n_classes; i++)
        class_number[class_order[i]] = i;
    Grid g = {.n_states = number_blocks(&used, block, member, class_order, order, number),
              .n_classes = n_used};
    g.cells = arena_new(&scratch, uint32_t, (uint64_t)g.n_states * g.n_classes);
    uint8_t *accepts = arena_new(m->keep, uint8_t, g.n_states);
    if (!g.cells || !accepts) return lang_no_memory(err);
    for (uint32_t s = 0; s < g.n_states; s++) {
        uint32_t from = member[order[s]];
        accepts[s] = t->accepts[from];
        for (uint32_t c = 0; c < n_used; c++) {
            uint32_t to = t->next[(size_t)from * t->n_classes + class_order[c]];
            bool dead = to == LANG_NONE || block[to] == LANG_NONE;
            g.cells[(size_t)s * n_used + c] = dead ? LANG_NONE : number[block[to]];
        }
    }
    *out = (Lang){.n_states = g.n_states, .accepts = accepts};
    if (!merge_columns(&g, scratch, merged, &out->n_classes, kept)) return lang_no_memory(err);
    return copy_out(m, &g, a, class_number, merged, kept, out) ? true : lang_no_memory(err);
}

// ---- looking ----

uint32_t lang_interval(const uint32_t *first, uint32_t n_intervals, uint32_t codepoint) {
    uint32_t low = 0, high = n_intervals;
    while (high - low > 1) {
        uint32_t middle = (low + high) / 2;
        if (first[middle] <= codepoint) low = middle;
        else high = middle;
    }
    return low;
}

bool lang_accepts(const Lang *a, Str text) {
    uint32_t state = 0, codepoint;
    if (lang_is_empty(a)) return false;
    for (size_t at = 0, length; at < text.len; at += length) {
        length = utf8_decode(str_slice(text, at, text.len), &codepoint);
        if (!length) return false;
        uint32_t class = a->class_of[lang_interval(a->first, a->n_intervals, codepoint)];
        state = a->next[(size_t)state * a->n_classes + class];
        if (state == LANG_NONE) return false;
    }
    return a->accepts[state];
}

bool lang_equal(const Lang *a, const Lang *b) {
    if (a->n_states != b->n_states) return false;
    if (a->n_states == 0) return true;
    return a->n_classes == b->n_classes && a->n_intervals == b->n_intervals &&
           memcmp(a->first, b->first, a->n_intervals * sizeof *a->first) == 0 &&
           memcmp(a->class_of, b->class_of, a->n_intervals * sizeof *a->class_of) == 0 &&
           memcmp(a->next, b->next, (size_t)a->n_states * a->n_classes * sizeof *a->next) == 0 &&
           memcmp(a->accepts, b->accepts, a->n_states) == 0;
}
