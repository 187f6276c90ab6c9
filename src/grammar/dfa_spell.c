// A language over characters becomes an automaton over bytes. How the characters of a language's classes are
// spelled is a tree, made once: its edges are ranges of bytes, its leaves classes. Each state of the language
// then has that tree with its own successors at the leaves; branches that come out the same are one state, so
// the result is as small as the language was.
#include "base/hash.h"
#include "grammar/lang_internal.h"

enum { LEAF = 0x40000000, NOTHING = 0x7FFFFFFF }; // a child: a node, LEAF + a class, or NOTHING

typedef struct {
    uint8_t first, last;
    uint32_t to;
} Edge;

// Lists of edges, each kept once.
typedef struct {
    Arena *arena;
    Edge *edges;
    uint32_t n_edges, edges_cap;
    uint32_t *at; // [count] where a list begins; its end is that of the next one
    uint32_t count, at_cap;
    uint32_t *slots; // a list and 1, or 0
    uint32_t n_slots;
} EdgeLists;

static Edge *list_edges(const EdgeLists *l, uint32_t list, uint32_t *count) {
    *count = (list + 1 < l->count ? l->at[list + 1] : l->n_edges) - l->at[list];
    return l->edges + l->at[list];
}

static uint64_t hash_edges(const Edge *edges, uint32_t count) {
    uint64_t h = count;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t word = (uint64_t)edges[i].to << 16 | (uint64_t)edges[i].first << 8 | edges[i].last;
        h = (h ^ word) * 0x9E3779B97F4A7C15u;
        h ^= h >> 32;
    }
    return h;
}

static bool edges_equal(const Edge *a, const Edge *b, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        if (a[i].first != b[i].first || a[i].last != b[i].last || a[i].to != b[i].to) return false;
    }
    return true;
}

static uint32_t list_slot(const EdgeLists *l, const Edge *edges, uint32_t count) {
    uint32_t slot = (uint32_t)hash_edges(edges, count) & (l->n_slots - 1);
    for (; l->slots[slot]; slot = (slot + 1) & (l->n_slots - 1)) {
        uint32_t n;
        const Edge *known = list_edges(l, l->slots[slot] - 1, &n);
        if (n == count && edges_equal(known, edges, n)) break;
    }
    return slot;
}

static bool grow_slots(EdgeLists *l) {
    l->n_slots = l->n_slots ? l->n_slots * 2 : 256;
    l->slots = arena_new(l->arena, uint32_t, l->n_slots);
    if (!l->slots) return false;
    for (uint32_t i = 0; i < l->count; i++) {
        uint32_t n;
        const Edge *edges = list_edges(l, i, &n);
        l->slots[list_slot(l, edges, n)] = i + 1;
    }
    return true;
}

// The list with these edges (ascending); NOTHING for none. False when the arena is full.
static bool list_find(EdgeLists *l, const Edge *edges, uint32_t count, uint32_t *out) {
    *out = NOTHING;
    if (count == 0) return true;
    if (l->count >= l->n_slots / 2 && !grow_slots(l)) return false;
    uint32_t slot = list_slot(l, edges, count);
    if (l->slots[slot]) {
        *out = l->slots[slot] - 1;
        return true;
    }
    if (!lang_grow(l->arena, (void **)&l->edges, &l->edges_cap, l->n_edges + count, sizeof *edges))
        return false;
    if (!lang_grow(l->arena, (void **)&l->at, &l->at_cap, l->count + 1, sizeof(uint32_t))) return false;
    memcpy(l->edges + l->n_edges, edges, count * sizeof *edges);
    l->at[l->count] = l->n_edges;
    l->n_edges += count;
    *out = l->count++;
    l->slots[slot] = *out + 1;
    return true;
}

// ---- the tree of spellings ----

typedef struct {
    const Lang *lang;
    EdgeLists lists;
    bool failed;
} Tree;

typedef struct {
    Edge edges[256];
    uint32_t count;
} EdgeBuffer;

// Edges come in any order of bytes where letters have two cases; they are sorted when they are stored.
static void put_edge(EdgeBuffer *b, uint32_t first, uint32_t last, uint32_t to) {
    if (to == NOTHING) return;
    Edge *before = b->count ? &b->edges[b->count - 1] : NULL;
    if (before && before->to == to && before->last + 1u == first) {
        before->last = (uint8_t)last;
        return;
    }
    b->edges[b->count++] = (Edge){(uint8_t)first, (uint8_t)last, to};
}

static uint32_t store(Tree *t, EdgeBuffer *b) {
    for (uint32_t i = 1; i < b->count; i++) {
        Edge moved = b->edges[i];
        uint32_t at = i;
        for (; at && b->edges[at - 1].first > moved.first; at--)
            b->edges[at] = b->edges[at - 1];
        b->edges[at] = moved;
    }
    uint32_t n = 0;
    for (uint32_t i = 0; i < b->count; i++) {
        Edge *before = n ? &b->edges[n - 1] : NULL;
        if (before && before->to == b->edges[i].to && before->last + 1u == b->edges[i].first)
            before->last = b->edges[i].last;
        else b->edges[n++] = b->edges[i];
    }
    uint32_t out = NOTHING;
    if (!t->failed) t->failed = !list_find(&t->lists, b->edges, n, &out);
    return out;
}

static uint32_t leaf_of(const Tree *t, uint32_t codepoint) {
    if (codepoint >= 0xD800 && codepoint < 0xE000) return NOTHING;
    return LEAF + t->lang->class_of[lang_interval(t->lang->first, t->lang->n_intervals, codepoint)];
}

// Whether all characters from `first` on are of one class.
static bool is_uniform(const Tree *t, uint32_t first, uint32_t count) {
    uint32_t i = lang_interval(t->lang->first, t->lang->n_intervals, first);
    if (first < 0xE000 && first + count > 0xD800 && (first < 0xD800 || first + count > 0xE000)) return false;
    return i + 1 == t->lang->n_intervals || t->lang->first[i + 1] >= first + count;
}

// The `digits` last bytes of UTF-8, six bits each.
static uint32_t continuation(Tree *t, uint32_t first, int digits) {
    if (digits == 0) return leaf_of(t, first);
    uint32_t each = 1u << (6 * (digits - 1));
    EdgeBuffer b = {.count = 0};
    if (is_uniform(t, first, each * 64)) {
        put_edge(&b, 0x80, 0xBF, continuation(t, first, digits - 1));
    } else {
        for (uint32_t i = 0; i < 64; i++)
            put_edge(&b, 0x80 + i, 0x80 + i, continuation(t, first + i * each, digits - 1));
    }
    return store(t, &b);
}

// What may follow the lead byte of three or four where not every continuation may.
static uint32_t lead(Tree *t, uint32_t first, int digits, uint32_t from, uint32_t to) {
    uint32_t each = 1u << (6 * (digits - 1));
    EdgeBuffer b = {.count = 0};
    for (uint32_t i = from; i <= to; i++)
        put_edge(&b, 0x80 + i, 0x80 + i, continuation(t, first + i * each, digits - 1));
    return store(t, &b);
}

static void put_beyond_ascii(Tree *t, EdgeBuffer *b) {
    for (uint32_t i = 0xC2; i <= 0xDF; i++)
        put_edge(b, i, i, continuation(t, (i & 31) << 6, 1));
    put_edge(b, 0xE0, 0xE0, lead(t, 0, 2, 32, 63));
    for (uint32_t i = 0xE1; i <= 0xEF; i++) {
        uint32_t to = i == 0xED ? lead(t, 0xD000, 2, 0, 31) : continuation(t, (i & 15) << 12, 2);
        put_edge(b, i, i, to);
    }
    put_edge(b, 0xF0, 0xF0, lead(t, 0, 3, 16, 63));
    for (uint32_t i = 0xF1; i <= 0xF3; i++)
        put_edge(b, i, i, continuation(t, (i & 7) << 18, 3));
    put_edge(b, 0xF4, 0xF4, lead(t, 0x100000, 3, 0, 15));
}

static void put_hex(EdgeBuffer *b, uint32_t digit, uint32_t to) {
    uint32_t c = digit < 10 ? '0' + digit : 'a' + digit - 10;
    put_edge(b, c, c, to);
    if (digit >= 10) put_edge(b, c - 32, c - 32, to);
}

// The last `digits` digits of \uHHHH, for the characters from `first` on. Digit by digit where they differ.
static uint32_t hex(Tree *t, uint32_t first, int digits) {
    if (digits == 0) return leaf_of(t, first);
    uint32_t each = 1u << (4 * (digits - 1));
    EdgeBuffer b = {.count = 0};
    bool uniform = is_uniform(t, first, each * 16);
    uint32_t same = uniform ? hex(t, first, digits - 1) : 0;
    for (uint32_t i = 0; i < 16; i++)
        put_hex(&b, i, uniform ? same : hex(t, first + i * each, digits - 1));
    return store(t, &b);
}

// The second half of a surrogate pair: \uDC00 to \uDFFF, for the 1,024 characters from `first` on.
static uint32_t low_surrogate(Tree *t, uint32_t first) {
    EdgeBuffer b = {.count = 0};
    for (uint32_t i = 0; i < 4; i++)
        put_hex(&b, 12 + i, hex(t, first + i * 256, 2));
    uint32_t to = store(t, &b);
    static const uint8_t before[][2] = {{'D', 'd'}, {'u', 'u'}, {'\\', '\\'}};
    for (size_t i = 0; i < COUNT_OF(before); i++) {
        EdgeBuffer one = {.count = 0};
        put_edge(&one, before[i][0], before[i][0], to);
        if (before[i][1] != before[i][0]) put_edge(&one, before[i][1], before[i][1], to);
        to = store(t, &one);
    }
    return to;
}

// \uD800 to \uDBFF, by the two last digits of the first half; `third` is its third digit from the back.
static uint32_t high_surrogate(Tree *t, uint32_t third) {
    EdgeBuffer b = {.count = 0};
    for (uint32_t i = 0; i < 16; i++) {
        EdgeBuffer last = {.count = 0};
        uint32_t first = 0x10000 + (third * 256 + i * 16) * 1024;
        bool uniform = is_uniform(t, first, 16 * 1024);
        uint32_t same = uniform ? low_surrogate(t, first) : 0;
        for (uint32_t k = 0; k < 16; k++)
            put_hex(&last, k, uniform ? same : low_surrogate(t, first + k * 1024));
        put_hex(&b, i, store(t, &last));
    }
    return store(t, &b);
}

static uint32_t unicode_escape(Tree *t) {
    EdgeBuffer b = {.count = 0};
    for (uint32_t i = 0; i < 16; i++) {
        if (i != 13) {
            put_hex(&b, i, hex(t, i << 12, 3));
            continue;
        }
        EdgeBuffer d = {.count = 0};
        for (uint32_t k = 0; k < 12; k++)
            put_hex(&d, k, k < 8 ? hex(t, 0xD000 + k * 256, 2) : high_surrogate(t, k - 8));
        put_hex(&b, i, store(t, &d));
    }
    return store(t, &b);
}

static const struct {
    char name;
    uint8_t codepoint;
} escapes[] = {{'"', '"'}, {'\\', '\\'}, {'/', '/'}, {'b', 8}, {'f', 12}, {'n', 10}, {'r', 13}, {'t', 9}};

// \u00xx for the control characters without an escape of their own.
static uint32_t plain_unicode_escape(Tree *t) {
    uint32_t to = NOTHING;
    EdgeBuffer third = {.count = 0};
    for (uint32_t high = 0; high < 2; high++) {
        EdgeBuffer last = {.count = 0};
        for (uint32_t i = 0; i < 16; i++) {
            bool has_short = high == 0 && (i == 8 || i == 9 || i == 10 || i == 12 || i == 13);
            uint32_t c = i < 10 ? '0' + i : 'a' + i - 10;
            if (!has_short) put_edge(&last, c, c, leaf_of(t, high * 16 + i));
        }
        put_edge(&third, '0' + high, '0' + high, store(t, &last));
    }
    to = store(t, &third);
    for (int i = 0; i < 2; i++) {
        EdgeBuffer zero = {.count = 0};
        put_edge(&zero, '0', '0', to);
        to = store(t, &zero);
    }
    return to;
}

static uint32_t json_escape(Tree *t, LangSpelling spelling) {
    EdgeBuffer b = {.count = 0};
    for (size_t i = 0; i < COUNT_OF(escapes); i++) {
        if (escapes[i].name == '/' && spelling == LANG_JSON_PLAIN) continue;
        put_edge(&b, (uint8_t)escapes[i].name, (uint8_t)escapes[i].name, leaf_of(t, escapes[i].codepoint));
    }
    put_edge(&b, 'u', 'u', spelling == LANG_JSON_PLAIN ? plain_unicode_escape(t) : unicode_escape(t));
    return store(t, &b);
}

static uint32_t make_tree(Tree *t, LangSpelling spelling) {
    EdgeBuffer b = {.count = 0};
    for (uint32_t c = spelling == LANG_UTF8 ? 0 : 0x20; c < 0x80; c++) {
        if (spelling == LANG_UTF8 || (c != '"' && c != '\\')) put_edge(&b, c, c, leaf_of(t, c));
    }
    if (spelling != LANG_UTF8) put_edge(&b, '\\', '\\', json_escape(t, spelling));
    put_beyond_ascii(t, &b);
    return store(t, &b);
}

// ---- the automaton ----

typedef struct {
    LangMaker *m;
    const Lang *lang;
    Tree tree;
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
    const Edge *edges = list_edges(&s->tree.lists, list, &count);
    b->count = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t to;
        if (!resolve(s, state, edges[i].to, &to)) return false;
        put_edge(b, edges[i].first, edges[i].last, to);
    }
    return true;
}

static bool resolve(Speller *s, uint32_t state, uint32_t to, uint32_t *out) {
    if (to & LEAF) {
        uint32_t next = s->lang->next[(size_t)state * s->lang->n_classes + (to - LEAF)];
        *out = next == LANG_NONE ? NOTHING : next;
        return true;
    }
    if (s->memo_state[to] == state + 1) {
        *out = s->memo[to];
        return true;
    }
    EdgeBuffer b;
    uint32_t list;
    if (!resolve_edges(s, state, to, &b) || !list_find(&s->inner, b.edges, b.count, &list)) return false;
    *out = list == NOTHING ? NOTHING : s->lang->n_states + list;
    s->memo_state[to] = state + 1;
    s->memo[to] = *out;
    return true;
}

static bool resolve_states(Speller *s, Error *err) {
    for (uint32_t state = 0; state < s->lang->n_states; state++) {
        EdgeBuffer b;
        uint32_t before = s->inner.n_edges;
        if (!resolve_edges(s, state, s->root, &b) ||
            !lang_grow(s->inner.arena, (void **)&s->edges, &s->edges_cap, s->n_edges + b.count, sizeof(Edge)))
            return lang_no_memory(err);
        memcpy(s->edges + s->n_edges, b.edges, b.count * sizeof(Edge));
        s->at[state] = s->n_edges;
        s->n_edges += b.count;
        if (s->inner.count > DFA_STATES_MAX)
            return error_set(err, ERR_TOO_LARGE, "needs an automaton of more than %d states", DFA_STATES_MAX);
        if (!lang_work(s->m, s->tree.lists.n_edges + s->inner.n_edges - before, err)) return false;
    }
    s->at[s->lang->n_states] = s->n_edges;
    return true;
}

static const Edge *state_edges(const Speller *s, uint32_t state, uint32_t *count) {
    if (state >= s->lang->n_states) return list_edges(&s->inner, state - s->lang->n_states, count);
    *count = s->at[state + 1] - s->at[state];
    return s->edges + s->at[state];
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
    if (cells > 4 * (uint64_t)DFA_CELLS_MAX)
        return error_set(err, ERR_TOO_LARGE, "needs an automaton of more than %u states", out->n_states - 1);
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

bool dfa_from_lang(LangMaker *m, const Lang *a, LangSpelling spelling, Str before, Str after, Dfa *out,
                   Error *err) {
    *out = (Dfa){.n_classes = 1};
    if (lang_is_empty(a)) return true;
    LangMaker inner = *m;
    Arena *scratch = &inner.scratch;
    Speller s = {.m = &inner,
                 .lang = a,
                 .tree = {.lang = a, .lists = {.arena = scratch}},
                 .inner = {.arena = scratch}};
    s.root = make_tree(&s.tree, spelling);
    s.memo = arena_new(scratch, uint32_t, s.tree.lists.count);
    s.memo_state = arena_new(scratch, uint32_t, s.tree.lists.count);
    s.at = arena_new(scratch, uint32_t, (uint64_t)a->n_states + 1);
    if (s.tree.failed || !s.memo || !s.memo_state || !s.at) return lang_no_memory(err);
    if (s.root == NOTHING) return true;
    bool ok = resolve_states(&s, err) && fill_table(&s, before, after, out, err);
    m->work = inner.work;
    return ok;
}
