// Automata without a text: the product with the automaton of Knuth, Morris and Pratt ("Fast pattern matching
// in strings", 1977), whose state is how much of the text the last bytes are.
#include "grammar/lang_internal.h"

enum { WITHOUT_BYTES_MAX = 64 };

typedef struct {
    const Dfa *from;
    Str text;
    bool ends_clean;
    uint8_t known[WITHOUT_BYTES_MAX][256]; // bytes of the text that are read, after one more byte
    LangPairs pairs;                       // (state, bytes read) to a state of the product
    uint64_t *states;                      // [n] the reverse
    uint32_t n, cap;
} Without;

static void without_table(Without *w) {
    uint8_t fallback = 0; // what is known behind the text's second byte to its `at`-th
    for (uint32_t at = 0; at < w->text.len; at++) {
        uint8_t byte = (uint8_t)w->text.ptr[at];
        for (uint32_t b = 0; b < 256; b++)
            w->known[at][b] = at ? w->known[fallback][b] : 0;
        w->known[at][byte] = (uint8_t)(at + 1);
        if (at) fallback = w->known[fallback][byte];
    }
}

static bool without_state(Without *w, uint32_t state, uint32_t known, uint32_t *out) {
    bool is_new;
    uint64_t key = (uint64_t)state * WITHOUT_BYTES_MAX + known;
    if (!lang_pairs_find(&w->pairs, key, w->n, out, &is_new)) return false;
    if (!is_new) return true;
    if (!lang_grow(w->pairs.arena, (void **)&w->states, &w->cap, w->n + 1, sizeof *w->states)) return false;
    w->states[w->n++] = key;
    return true;
}

// Each byte of the text is a class of its own; returns the number of classes.
static uint32_t without_classes(const Without *w, uint8_t *class_of, uint8_t *byte_of) {
    uint8_t is_own[256] = {0}, number[256];
    uint32_t n = 0;
    for (size_t i = 0; i < w->text.len; i++)
        is_own[(uint8_t)w->text.ptr[i]] = 1;
    memset(number, 0xFF, sizeof number);
    for (uint32_t b = 0; b < 256; b++) {
        uint8_t *known = &number[w->from->class_of[b]], own = 0xFF;
        if (is_own[b]) known = &own;
        if (*known == 0xFF) byte_of[n] = (uint8_t)b, *known = (uint8_t)n++;
        class_of[b] = *known;
    }
    return n;
}

// Drops states from which no text ends. False: memory.
static bool without_trim(Arena *scratch, uint32_t n, uint32_t n_classes, const uint32_t *next,
                         const uint8_t *accepts, uint32_t *number, uint32_t *kept) {
    uint64_t n_edges = 0;
    for (uint64_t i = 0; i < (uint64_t)n * n_classes; i++)
        n_edges += next[i] != DFA_NONE;
    uint32_t *begin = arena_new(scratch, uint32_t, (uint64_t)n + 2);
    uint32_t *from = arena_new(scratch, uint32_t, n_edges), *queue = arena_new(scratch, uint32_t, n),
             length = 0;
    if (!begin || !from || !queue) return false;
    for (uint64_t i = 0; i < (uint64_t)n * n_classes; i++)
        if (next[i] != DFA_NONE) begin[next[i] + 2]++;
    for (uint32_t s = 0; s < n; s++)
        begin[s + 2] += begin[s + 1];
    for (uint64_t i = 0; i < (uint64_t)n * n_classes; i++)
        if (next[i] != DFA_NONE) from[begin[next[i] + 1]++] = (uint32_t)(i / n_classes);
    for (uint32_t s = 0; s < n; s++) {
        number[s] = DFA_NONE;
        if (accepts[s]) number[s] = 0, queue[length++] = s;
    }
    for (uint32_t q = 0; q < length; q++) {
        for (uint32_t e = begin[queue[q]]; e < begin[queue[q] + 1]; e++)
            if (number[from[e]] == DFA_NONE) number[from[e]] = 0, queue[length++] = from[e];
    }
    *kept = 0;
    for (uint32_t s = 0; s < n; s++)
        if (number[s] != DFA_NONE) number[s] = (*kept)++;
    return true;
}

static bool without_fill(Without *w, LangMaker *m, Dfa *out, Error *err) {
    uint8_t byte_of[256];
    uint32_t *next = NULL, cap = 0, start, *number, kept;
    uint32_t n_classes = without_classes(w, out->class_of, byte_of);
    if (!without_state(w, 0, 0, &start)) return lang_no_memory(err);
    for (uint32_t s = 0; s < w->n; s++) {
        uint32_t state = (uint32_t)(w->states[s] / WITHOUT_BYTES_MAX);
        uint32_t known = (uint32_t)(w->states[s] % WITHOUT_BYTES_MAX);
        if ((uint64_t)w->n * n_classes > DFA_CELLS_MAX)
            return error_set(err, ERR_TOO_LARGE, "needs an automaton of more than %u states", w->n);
        if (!lang_work(m, n_classes, err)) return false;
        if (!lang_grow(w->pairs.arena, (void **)&next, &cap, s + 1, n_classes * sizeof *next))
            return lang_no_memory(err);
        for (uint32_t c = 0; c < n_classes; c++) {
            uint32_t to = dfa_step(w->from, state, byte_of[c]), read = w->known[known][byte_of[c]];
            uint32_t *cell = &next[(size_t)s * n_classes + c];
            *cell = DFA_NONE;
            if (to != DFA_NONE && read < w->text.len && !without_state(w, to, read, cell))
                return lang_no_memory(err);
        }
    }
    uint8_t *ends = arena_new(w->pairs.arena, uint8_t, w->n);
    number = arena_new(w->pairs.arena, uint32_t, w->n);
    if (!ends || !number) return lang_no_memory(err);
    for (uint32_t s = 0; s < w->n; s++)
        ends[s] = w->from->accepts[w->states[s] / WITHOUT_BYTES_MAX] &&
                  (!w->ends_clean || w->states[s] % WITHOUT_BYTES_MAX == 0);
    if (!without_trim(w->pairs.arena, w->n, n_classes, next, ends, number, &kept)) return lang_no_memory(err);
    if (number[0] == DFA_NONE) return true; // no text is left
    uint32_t *table = arena_new(m->keep, uint32_t, (uint64_t)kept * n_classes);
    uint8_t *accepts = arena_new(m->keep, uint8_t, kept);
    if (!table || !accepts) return lang_no_memory(err);
    for (uint32_t s = 0; s < w->n; s++) {
        if (number[s] == DFA_NONE) continue;
        accepts[number[s]] = ends[s];
        for (uint32_t c = 0; c < n_classes; c++) {
            uint32_t to = next[(size_t)s * n_classes + c];
            table[(size_t)number[s] * n_classes + c] = to == DFA_NONE ? DFA_NONE : number[to];
        }
    }
    out->n_states = kept;
    out->n_classes = n_classes;
    out->next = table;
    out->accepts = accepts;
    return true;
}

bool dfa_without_text(LangMaker *m, const Dfa *from, Str text, bool ends_clean, Dfa *out, Error *err) {
    Dfa made = {.n_classes = 1};
    LangMaker inner = *m;
    if (text.len == 0 || text.len >= WITHOUT_BYTES_MAX)
        return error_set(err, ERR_INTERNAL, "a mark of %zu bytes", text.len);
    if (from->n_states) {
        Without *w = arena_new(&inner.scratch, Without, 1);
        if (!w) return lang_no_memory(err);
        *w = (Without){.from = from, .text = text, .ends_clean = ends_clean};
        w->pairs.arena = &inner.scratch;
        without_table(w);
        bool ok = without_fill(w, &inner, &made, err);
        m->work = inner.work;
        if (!ok) return false;
    }
    *out = made;
    return true;
}
