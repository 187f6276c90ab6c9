#include "grammar/spelling.h"

// ---- lists of edges ----

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
        const Edge *known = edge_list(l, l->slots[slot] - 1, &n);
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
        const Edge *edges = edge_list(l, i, &n);
        l->slots[list_slot(l, edges, n)] = i + 1;
    }
    return true;
}

bool edge_list_find(EdgeLists *l, const Edge *edges, uint32_t count, uint32_t *out) {
    *out = SPELL_NOTHING;
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

// ---- the tree ----

// Blocks of characters of one class: they have the same branches wherever they are.
typedef enum { BLOCK_UTF8 = 0, BLOCK_HEX = 3, BLOCK_LOW = 6, BLOCK_HIGH, BLOCK_KINDS } BlockKind;

typedef struct {
    const Lang *lang;
    EdgeLists *lists;
    uint8_t *is_dead; // [n_classes] no state goes on with it: it is left out
    uint32_t *known;  // [BLOCK_KINDS][n_classes] the node of such a block and 1, or 0
    bool failed;
} Tree;

static bool tree_init(Tree *t, const Lang *lang, EdgeLists *lists) {
    Arena *arena = lists->arena;
    *t = (Tree){.lang = lang, .lists = lists};
    t->is_dead = arena_new(arena, uint8_t, lang->n_classes);
    t->known = arena_new(arena, uint32_t, (uint64_t)BLOCK_KINDS * lang->n_classes);
    if (!t->is_dead || !t->known) return false;
    memset(t->is_dead, 1, lang->n_classes);
    for (size_t i = 0; i < (size_t)lang->n_states * lang->n_classes; i++) {
        if (lang->next[i] != LANG_NONE) t->is_dead[i % lang->n_classes] = 0;
    }
    return true;
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
    uint32_t out = SPELL_NOTHING;
    if (!t->failed) t->failed = !edge_list_find(t->lists, b->edges, n, &out);
    return out;
}

static uint32_t class_at(const Tree *t, uint32_t codepoint) {
    return t->lang->class_of[lang_interval(t->lang->first, t->lang->n_intervals, codepoint)];
}

static uint32_t leaf_of(const Tree *t, uint32_t codepoint) {
    if (codepoint >= 0xD800 && codepoint < 0xE000) return SPELL_NOTHING;
    uint32_t class = class_at(t, codepoint);
    return t->is_dead[class] ? SPELL_NOTHING : SPELL_LEAF + class;
}

// Where the node of a block is noted, if its characters are all of one class; else NULL. No block holds
// surrogates and other characters.
static uint32_t *known_block(const Tree *t, int kind, uint32_t first, uint32_t count) {
    uint32_t i = lang_interval(t->lang->first, t->lang->n_intervals, first);
    if (first < 0xE000 && first + count > 0xD800) return NULL;
    if (i + 1 < t->lang->n_intervals && t->lang->first[i + 1] < first + count) return NULL;
    return &t->known[(uint32_t)kind * t->lang->n_classes + t->lang->class_of[i]];
}

static uint32_t note(uint32_t *known, uint32_t node) {
    if (known) *known = node + 1;
    return node;
}

// The `digits` last bytes of UTF-8, six bits each.
static uint32_t continuation(Tree *t, uint32_t first, int digits) {
    if (digits == 0) return leaf_of(t, first);
    uint32_t each = 1u << (6 * (digits - 1)),
             *known = known_block(t, BLOCK_UTF8 + digits - 1, first, each * 64);
    EdgeBuffer b = {.count = 0};
    if (known && *known) return *known - 1;
    if (known) put_edge(&b, 0x80, 0xBF, continuation(t, first, digits - 1));
    for (uint32_t i = 0; !known && i < 64; i++)
        put_edge(&b, 0x80 + i, 0x80 + i, continuation(t, first + i * each, digits - 1));
    return note(known, store(t, &b));
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
    uint32_t each = 1u << (4 * (digits - 1)),
             *known = known_block(t, BLOCK_HEX + digits - 1, first, each * 16);
    EdgeBuffer b = {.count = 0};
    if (known && *known) return *known - 1;
    for (uint32_t i = 0; i < 16; i++)
        put_hex(&b, i, hex(t, first + i * each, digits - 1));
    return note(known, store(t, &b));
}

static uint32_t one_edge(Tree *t, char upper, char lower, uint32_t to) {
    EdgeBuffer b = {.count = 0};
    put_edge(&b, (uint8_t)upper, (uint8_t)upper, to);
    if (lower != upper) put_edge(&b, (uint8_t)lower, (uint8_t)lower, to);
    return store(t, &b);
}

// The second half of a surrogate pair: \uDC00 to \uDFFF, for the 1,024 characters from `first` on.
static uint32_t low_surrogate(Tree *t, uint32_t first) {
    uint32_t *known = known_block(t, BLOCK_LOW, first, 1024);
    EdgeBuffer b = {.count = 0};
    if (known && *known) return *known - 1;
    for (uint32_t i = 0; i < 4; i++)
        put_hex(&b, 12 + i, hex(t, first + i * 256, 2));
    uint32_t to = one_edge(t, 'D', 'd', store(t, &b));
    return note(known, one_edge(t, '\\', '\\', one_edge(t, 'u', 'u', to)));
}

// The last digit of a first half, \uD800 to \uDBFF, for the 16 * 1,024 characters from `first` on.
static uint32_t high_surrogate(Tree *t, uint32_t first) {
    uint32_t *known = known_block(t, BLOCK_HIGH, first, 16 * 1024);
    EdgeBuffer b = {.count = 0};
    if (known && *known) return *known - 1;
    for (uint32_t i = 0; i < 16; i++)
        put_hex(&b, i, low_surrogate(t, first + i * 1024));
    return note(known, store(t, &b));
}

// Behind \uD: characters of their own up to D7FF, first halves up to DBFF.
static uint32_t surrogate_digits(Tree *t) {
    EdgeBuffer d = {.count = 0};
    for (uint32_t i = 0; i < 8; i++)
        put_hex(&d, i, hex(t, 0xD000 + i * 256, 2));
    for (uint32_t i = 0; i < 4; i++) {
        EdgeBuffer b = {.count = 0};
        for (uint32_t k = 0; k < 16; k++)
            put_hex(&b, k, high_surrogate(t, 0x10000 + (i * 16 + k) * 16 * 1024));
        put_hex(&d, 8 + i, store(t, &b));
    }
    return store(t, &d);
}

static uint32_t unicode_escape(Tree *t) {
    EdgeBuffer b = {.count = 0};
    for (uint32_t i = 0; i < 16; i++)
        put_hex(&b, i, i == 13 ? surrogate_digits(t) : hex(t, i << 12, 3));
    return store(t, &b);
}

static const struct {
    char name;
    uint8_t codepoint;
} escapes[] = {{'"', '"'}, {'\\', '\\'}, {'/', '/'}, {'b', 8}, {'f', 12}, {'n', 10}, {'r', 13}, {'t', 9}};

// \u00xx for the control characters without an escape of their own.
static uint32_t plain_unicode_escape(Tree *t) {
    uint32_t to = SPELL_NOTHING;
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

bool spelling_tree(const Lang *lang, LangSpelling spelling, EdgeLists *lists, uint32_t *root) {
    Tree t;
    if (!tree_init(&t, lang, lists)) return false;
    *root = make_tree(&t, spelling);
    return !t.failed;
}
