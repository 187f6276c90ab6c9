// Minimising an automaton whose transitions are partial, after Valmari: "Fast brief practical DFA
// minimization" (2012): blocks of states and of transitions ("cords") are split by each other until nothing
// splits, in O(m log m) for m transitions.
#include "grammar/lang_internal.h"

typedef struct {
    uint32_t n_sets;
    uint32_t *elements, *place, *set_of; // elements in the order of their sets, and back
    uint32_t *from, *to;                 // of each set in elements
    uint32_t *marked;                    // how many of a set's first elements are marked
    uint32_t *touched, n_touched;
} Partition;

typedef struct {
    uint32_t n_states, n_edges;
    uint32_t *tail, *head, *label;
    uint32_t *into, *into_from; // edges by the state they lead to
} Edges;

static bool partition_init(Partition *p, Arena *arena, uint32_t count) {
    *p = (Partition){.n_sets = count > 0};
    uint32_t **arrays[] = {&p->elements, &p->place, &p->set_of, &p->from, &p->to, &p->marked, &p->touched};
    for (size_t i = 0; i < COUNT_OF(arrays); i++) {
        *arrays[i] = arena_new(arena, uint32_t, (uint64_t)count + 1);
        if (!*arrays[i]) return false;
    }
    for (uint32_t i = 0; i < count; i++)
        p->elements[i] = p->place[i] = i;
    p->to[0] = count;
    return true;
}

static void mark(Partition *p, uint32_t element) {
    uint32_t set = p->set_of[element], at = p->place[element], to = p->from[set] + p->marked[set];
    if (at < to) return;
    p->elements[at] = p->elements[to];
    p->place[p->elements[at]] = at;
    p->elements[to] = element;
    p->place[element] = to;
    if (p->marked[set]++ == 0) p->touched[p->n_touched++] = set;
}

// Each touched set is split in its marked and its other elements; the smaller part is the new set.
static void split(Partition *p) {
    while (p->n_touched) {
        uint32_t set = p->touched[--p->n_touched], border = p->from[set] + p->marked[set];
        uint32_t marked = p->marked[set];
        p->marked[set] = 0;
        if (border == p->to[set]) continue;
        uint32_t added = p->n_sets++;
        if (marked <= p->to[set] - border) {
            p->from[added] = p->from[set];
            p->to[added] = p->from[set] = border;
        } else {
            p->to[added] = p->to[set];
            p->from[added] = p->to[set] = border;
        }
        p->marked[added] = 0;
        for (uint32_t i = p->from[added]; i < p->to[added]; i++)
            p->set_of[p->elements[i]] = added;
    }
}

// Edges of the table in the order of their labels, those of useless states left out where `useful` is given.
static bool collect_edges(const LangTable *t, const uint8_t *useful, Arena *arena, Edges *e) {
    uint32_t count = 0;
    for (uint32_t s = 0; s < t->n_states; s++) {
        const uint32_t *row = t->next + (size_t)s * t->n_classes;
        for (uint32_t c = 0; c < t->n_classes; c++)
            count += row[c] != LANG_NONE && (!useful || (useful[s] && useful[row[c]]));
    }
    *e = (Edges){.n_states = t->n_states, .n_edges = count};
    e->tail = arena_new(arena, uint32_t, count);
    e->head = arena_new(arena, uint32_t, count);
    e->label = arena_new(arena, uint32_t, count);
    e->into = arena_new(arena, uint32_t, count);
    e->into_from = arena_new(arena, uint32_t, (uint64_t)t->n_states + 2);
    if (!e->tail || !e->head || !e->label || !e->into || !e->into_from) return false;
    uint32_t n = 0;
    for (uint32_t c = 0; c < t->n_classes; c++) {
        for (uint32_t s = 0; s < t->n_states; s++) {
            uint32_t to = t->next[(size_t)s * t->n_classes + c];
            if (to == LANG_NONE || (useful && (!useful[s] || !useful[to]))) continue;
            e->tail[n] = s, e->head[n] = to, e->label[n] = c, n++;
        }
    }
    for (uint32_t i = 0; i < n; i++)
        e->into_from[e->head[i] + 2]++;
    for (uint32_t s = 0; s < t->n_states; s++)
        e->into_from[s + 2] += e->into_from[s + 1];
    for (uint32_t i = 0; i < n; i++)
        e->into[e->into_from[e->head[i] + 1]++] = i;
    return true;
}

// Which states can be reached and can accept.
static bool find_useful(const LangTable *t, Arena scratch, uint8_t *useful) {
    Edges e;
    uint32_t *queue = arena_new(&scratch, uint32_t, t->n_states);
    uint8_t *reached = arena_new(&scratch, uint8_t, t->n_states);
    if (!queue || !reached || !collect_edges(t, NULL, &scratch, &e)) return false;
    uint32_t n = 0;
    queue[n++] = 0;
    reached[0] = 1;
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t *row = t->next + (size_t)queue[i] * t->n_classes;
        for (uint32_t c = 0; c < t->n_classes; c++) {
            if (row[c] != LANG_NONE && !reached[row[c]]) reached[row[c]] = 1, queue[n++] = row[c];
        }
    }
    n = 0;
    for (uint32_t s = 0; s < t->n_states; s++) {
        if (t->accepts[s] && reached[s]) useful[s] = 1, queue[n++] = s;
    }
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t j = e.into_from[queue[i]]; j < e.into_from[queue[i] + 1]; j++) {
            uint32_t s = e.tail[e.into[j]];
            if (reached[s] && !useful[s]) useful[s] = 1, queue[n++] = s;
        }
    }
    return true;
}

static bool partition_edges(Partition *cords, const Edges *e, Arena *arena) {
    if (!partition_init(cords, arena, e->n_edges)) return false;
    if (!e->n_edges) return true;
    cords->n_sets = 0;
    for (uint32_t i = 0; i < e->n_edges; i++) {
        if (i && e->label[i] != e->label[i - 1]) {
            cords->to[cords->n_sets++] = i;
            cords->from[cords->n_sets] = i;
        }
        cords->set_of[i] = cords->n_sets;
    }
    cords->to[cords->n_sets++] = e->n_edges;
    return true;
}

bool lang_minimise(LangMaker *m, Arena scratch, const LangTable *t, uint32_t *block, uint32_t *n_blocks,
                   Error *err) {
    *n_blocks = 0;
    if (t->n_states == 0) return true;
    uint8_t *useful = arena_new(&scratch, uint8_t, t->n_states);
    Edges e;
    Partition blocks, cords;
    if (!useful || !find_useful(t, scratch, useful) || !collect_edges(t, useful, &scratch, &e) ||
        !partition_init(&blocks, &scratch, t->n_states) || !partition_edges(&cords, &e, &scratch)) {
        return lang_no_memory(err);
    }
    if (!lang_work(m, (uint64_t)t->n_states * t->n_classes + 8ull * e.n_edges, err)) return false;
    for (uint32_t s = 0; s < t->n_states; s++) {
        if (t->accepts[s]) mark(&blocks, s);
    }
    split(&blocks);
    uint32_t b = 1, unasked = 0;
    for (uint32_t c = 0; c < cords.n_sets; c++) {
        // The work is counted above; here it only asks whether it is still wanted.
        unasked += cords.to[c] - cords.from[c] + 1;
        if (unasked >= LANG_ASK_STEPS) {
            unasked = 0;
            if (!lang_is_wanted(m, err)) return false;
        }
        for (uint32_t i = cords.from[c]; i < cords.to[c]; i++)
            mark(&blocks, e.tail[cords.elements[i]]);
        split(&blocks);
        for (; b < blocks.n_sets; b++) {
            for (uint32_t i = blocks.from[b]; i < blocks.to[b]; i++) {
                uint32_t s = blocks.elements[i];
                for (uint32_t j = e.into_from[s]; j < e.into_from[s + 1]; j++)
                    mark(&cords, e.into[j]);
            }
            split(&cords);
        }
    }
    for (uint32_t s = 0; s < t->n_states; s++)
        block[s] = useful[s] ? blocks.set_of[s] : LANG_NONE;
    *n_blocks = blocks.n_sets;
    return true;
}
