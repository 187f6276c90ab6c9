// Languages made of others: products, lengths, literals.
#include "base/utf8.h"
#include "grammar/lang_internal.h"

// ---- products ----

typedef struct {
    LangMaker *m;
    const Lang *a, *b;
    LangOp op;
    Arena scratch;
    LangAlphabet alphabet;
    uint32_t *class_a, *class_b; // [alphabet.n_classes] what a class is in each
    LangTable table;
    LangPairs states;
    uint32_t *state_a,
        *state_b; // of each state of the table; n_states of a language stands for its dead state
    uint32_t cap_a, cap_b;
} Product;

static bool merge_alphabets(Product *p) {
    const Lang *a = p->a, *b = p->b;
    uint32_t most = a->n_intervals + b->n_intervals;
    uint32_t *first = arena_new(&p->scratch, uint32_t, most);
    uint16_t *class_of = arena_new(&p->scratch, uint16_t, most);
    p->class_a = arena_new(&p->scratch, uint32_t, most);
    p->class_b = arena_new(&p->scratch, uint32_t, most);
    LangPairs classes = {.arena = &p->scratch};
    if (!first || !class_of || !p->class_a || !p->class_b) return false;
    uint32_t n = 0, i = 0, j = 0, n_classes = 0;
    for (;;) {
        uint32_t class;
        bool is_new;
        uint64_t key = (uint64_t)a->class_of[i] << 32 | b->class_of[j];
        if (!lang_pairs_find(&classes, key, n_classes, &class, &is_new)) return false;
        if (is_new) {
            p->class_a[n_classes] = a->class_of[i];
            p->class_b[n_classes++] = b->class_of[j];
        }
        first[n] = a->first[i] > b->first[j] ? a->first[i] : b->first[j];
        class_of[n++] = (uint16_t) class;
        uint32_t next_a = i + 1 < a->n_intervals ? a->first[i + 1] : UINT32_MAX;
        uint32_t next_b = j + 1 < b->n_intervals ? b->first[j + 1] : UINT32_MAX;
        if (next_a == UINT32_MAX && next_b == UINT32_MAX) break;
        i += next_a <= next_b;
        j += next_b <= next_a;
    }
    p->alphabet = (LangAlphabet){n, first, class_of, n_classes};
    return true;
}

static bool product_accepts(LangOp op, bool a, bool b) {
    switch (op) {
    case LANG_AND: return a && b;
    case LANG_OR: return a || b;
    case LANG_WITHOUT: return a && !b;
    }
    return false;
}

static uint32_t step(const Lang *l, uint32_t state, uint32_t class) {
    if (state == l->n_states) return state;
    uint32_t to = l->next[(size_t)state * l->n_classes + class];
    return to == LANG_NONE ? l->n_states : to;
}

// The pair's state; LANG_NONE where nothing can be accepted from it.
static bool pair_state(Product *p, uint32_t a, uint32_t b, uint32_t *out, Error *err) {
    bool dead_a = a == p->a->n_states, dead_b = b == p->b->n_states;
    *out = LANG_NONE;
    if (p->op == LANG_OR ? dead_a && dead_b : dead_a || (dead_b && p->op == LANG_AND)) return true;
    bool is_new;
    if (!lang_pairs_find(&p->states, (uint64_t)a << 32 | b, p->table.n_states, out, &is_new))
        return lang_no_memory(err);
    if (!is_new) return true;
    uint32_t state;
    if (!lang_table_add(&p->table, &state, err)) return false;
    if (!lang_grow(&p->scratch, (void **)&p->state_a, &p->cap_a, state + 1, sizeof(uint32_t)) ||
        !lang_grow(&p->scratch, (void **)&p->state_b, &p->cap_b, state + 1, sizeof(uint32_t)))
        return lang_no_memory(err);
    p->state_a[state] = a;
    p->state_b[state] = b;
    p->table.accepts[state] =
        product_accepts(p->op, !dead_a && p->a->accepts[a], !dead_b && p->b->accepts[b]);
    return true;
}

bool lang_combine(LangMaker *m, LangOp op, const Lang *a, const Lang *b, Lang *out, Error *err) {
    Product p = {.m = m, .a = a, .b = b, .op = op, .scratch = m->scratch};
    p.states.arena = &p.scratch;
    if (!merge_alphabets(&p)) return lang_no_memory(err);
    p.table = lang_table(&p.scratch, p.alphabet.n_classes);
    uint32_t start;
    if (!pair_state(&p, 0, 0, &start, err)) return false;
    for (uint32_t s = 0; s < p.table.n_states; s++) {
        if (!lang_work(m, p.table.n_classes, err)) return false;
        for (uint32_t c = 0; c < p.table.n_classes; c++) {
            uint32_t to;
            if (!pair_state(&p, step(a, p.state_a[s], p.class_a[c]), step(b, p.state_b[s], p.class_b[c]), &to,
                            err))
                return false;
            p.table.next[(size_t)s * p.table.n_classes + c] = to;
        }
    }
    return lang_finish(m, p.scratch, &p.table, &p.alphabet, out, err);
}

// ---- simple ones ----

// All characters; surrogates are none.
static const uint32_t text_first[] = {0, 0xD800, 0xE000};
static const uint16_t text_class[] = {0, 1, 0};
static const LangAlphabet text_alphabet = {3, text_first, text_class, 2};

bool lang_length(LangMaker *m, uint32_t min, uint32_t max, Lang *out, Error *err) {
    Arena scratch = m->scratch;
    LangTable t = lang_table(&scratch, text_alphabet.n_classes);
    uint32_t last = max == LANG_NONE ? min : max, state;
    if (last > LANG_LENGTH_MAX)
        return error_set(err, ERR_TOO_LARGE, "a length of %u characters is above the limit of %d", last,
                         LANG_LENGTH_MAX);
    for (uint32_t i = 0; min <= max && i <= last; i++) {
        if (!lang_table_add(&t, &state, err)) return false;
        t.accepts[i] = i >= min;
        if (i) t.next[(size_t)(i - 1) * 2] = i;
    }
    if (t.n_states && max == LANG_NONE) t.next[(size_t)last * 2] = last;
    return lang_finish(m, scratch, &t, &text_alphabet, out, err);
}

bool lang_is_length(const Lang *a, uint32_t *min, uint32_t *max) {
    if (a->n_states == 0 || a->n_classes != 2 || a->n_intervals != text_alphabet.n_intervals) return false;
    if (memcmp(a->first, text_first, sizeof text_first) != 0) return false;
    *min = *max = LANG_NONE;
    for (uint32_t s = 0; s < a->n_states; s++) {
        uint32_t next = a->next[(size_t)s * 2];
        bool last = s + 1 == a->n_states;
        if (a->accepts[s] && *min == LANG_NONE) *min = s;
        if ((*min != LANG_NONE && !a->accepts[s]) || a->next[(size_t)s * 2 + 1] != LANG_NONE) return false;
        if (!last && next != s + 1) return false;
        if (last && next != LANG_NONE && next != s) return false;
        if (last && next == LANG_NONE) *max = s;
    }
    return true;
}

bool lang_literal(LangMaker *m, Str text, Lang *out, Error *err) {
    return lang_words(m, &text, 1, out, err);
}

// A class for each character that occurs, and one for all others.
static bool words_alphabet(Arena *arena, const Str *words, uint32_t n_words, LangAlphabet *out) {
    // Most words are ASCII, and 192 bits are then enough to see where the last one ends.
    uint32_t n_codes = 192, n = 0, codepoint;
    for (uint32_t w = 0; w < n_words; w++) {
        for (size_t i = 0; i < words[w].len; i++)
            n_codes = (uint8_t)words[w].ptr[i] < 128 ? n_codes : 0x110000;
    }
    uint64_t *used = arena_new(arena, uint64_t, n_codes / 64);
    if (!used) return false;
    for (uint32_t w = 0; w < n_words; w++) {
        for (size_t at = 0, length; at < words[w].len; at += length) {
            length = utf8_decode(str_slice(words[w], at, words[w].len), &codepoint);
            if (!length) break;
            n += !(used[codepoint / 64] >> (codepoint % 64) & 1);
            used[codepoint / 64] |= 1ull << (codepoint % 64);
        }
    }
    uint32_t *first = arena_new(arena, uint32_t, 2 * (uint64_t)n + 1);
    uint16_t *class_of = arena_new(arena, uint16_t, 2 * (uint64_t)n + 1);
    if (!first || !class_of || n >= UINT16_MAX) return false;
    uint32_t intervals = 0, classes = 1;
    bool others = true;
    first[intervals] = 0, class_of[intervals++] = 0;
    for (uint32_t word = 0; word < n_codes / 64; word++) {
        if (!used[word] && others) continue;
        for (uint32_t bit = 0; bit < 64; bit++) {
            uint32_t c = word * 64 + bit;
            bool is_used = used[word] >> bit & 1;
            if (!is_used && others) continue;
            if (c) first[intervals] = c, class_of[intervals++] = 0;
            others = !is_used;
            if (is_used) class_of[intervals - 1] = (uint16_t)classes++;
        }
    }
    *out = (LangAlphabet){intervals, first, class_of, classes};
    return true;
}

bool lang_words(LangMaker *m, const Str *words, uint32_t n_words, Lang *out, Error *err) {
    Arena scratch = m->scratch;
    LangAlphabet a;
    if (!words_alphabet(&scratch, words, n_words, &a)) return lang_no_memory(err);
    uint32_t state;
    LangTable t = lang_table(&scratch, a.n_classes);
    if (!lang_table_add(&t, &state, err)) return false;
    for (uint32_t w = 0; w < n_words; w++) {
        uint32_t codepoint;
        state = 0;
        if (!lang_work(m, words[w].len + 1, err)) return false;
        for (size_t at = 0, length; at < words[w].len; at += length) {
            length = utf8_decode(str_slice(words[w], at, words[w].len), &codepoint);
            if (!length) return error_set(err, ERR_INVALID_REQUEST, "a text is not valid UTF-8");
            size_t cell =
                (size_t)state * a.n_classes + a.class_of[lang_interval(a.first, a.n_intervals, codepoint)];
            if (t.next[cell] == LANG_NONE) {
                uint32_t added;
                if (!lang_table_add(&t, &added, err)) return false;
                t.next[cell] = added;
            }
            state = t.next[cell];
        }
        t.accepts[state] = 1;
    }
    return lang_finish(m, scratch, &t, &a, out, err);
}

// ---- finite or not ----

bool lang_is_infinite(const LangMaker *m, const Lang *a) {
    // Every state is useful, so the language is infinite exactly where there is a cycle: Kahn's order, which
    // takes a state when all edges into it were seen, then ends early.
    Arena scratch = m->scratch;
    uint32_t *into = arena_new(&scratch, uint32_t, a->n_states),
             *queue = arena_new(&scratch, uint32_t, a->n_states);
    if (!into || !queue) return true;
    size_t cells = (size_t)a->n_states * a->n_classes;
    for (size_t i = 0; i < cells; i++) {
        if (a->next[i] != LANG_NONE) into[a->next[i]]++;
    }
    uint32_t n = 0;
    if (a->n_states && !into[0]) queue[n++] = 0;
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t *row = a->next + (size_t)queue[i] * a->n_classes;
        for (uint32_t c = 0; c < a->n_classes; c++) {
            if (row[c] != LANG_NONE && --into[row[c]] == 0) queue[n++] = row[c];
        }
    }
    return n < a->n_states;
}
