#include "grammar/token_trie.h"

#include "base/limits.h"

static int piece_order(Str a, Str b) {
    size_t common = a.len < b.len ? a.len : b.len;
    int order = common ? memcmp(a.ptr, b.ptr, common) : 0;
    return order ? order : (a.len > b.len) - (a.len < b.len);
}

// By bytes; equal ones stay in order. A merge sort, from runs of 1 up.
static void sort_tokens(const Str *pieces, int32_t *ids, int32_t *spare, uint32_t count) {
    for (uint32_t run = 1; run < count; run *= 2) {
        for (uint32_t from = 0; from < count; from += 2 * run) {
            uint32_t a = from, a_end = (uint32_t)min_u64(from + (uint64_t)run, count);
            uint32_t b = a_end, b_end = (uint32_t)min_u64(from + 2ull * run, count);
            for (uint32_t to = from; to < b_end; to++) {
                bool first = b == b_end || (a < a_end && piece_order(pieces[ids[a]], pieces[ids[b]]) <= 0);
                spare[to] = first ? ids[a++] : ids[b++];
            }
        }
        memcpy(ids, spare, count * sizeof *ids);
    }
}

typedef struct {
    uint8_t *bytes;
    uint16_t *depths;
    uint32_t *ends;
    int32_t *tokens, *same;
    uint32_t n_nodes;
    uint32_t *open; // [depth] the nodes above the present place
    uint32_t depth;
} TrieBuild;

static size_t common_prefix(Str a, Str b) {
    size_t n = 0;
    while (n < a.len && n < b.len && a.ptr[n] == b.ptr[n])
        n++;
    return n;
}

static void trie_close(TrieBuild *t, size_t depth) {
    while (t->depth > depth)
        t->ends[t->open[--t->depth]] = t->n_nodes;
}

static void trie_add(TrieBuild *t, const Str *pieces, int32_t id, int32_t before) {
    Str piece = pieces[id];
    size_t common = before == TOKEN_NONE ? 0 : common_prefix(piece, pieces[before]);
    if (before != TOKEN_NONE && common == piece.len && piece.len == pieces[before].len) {
        t->same[id] = t->tokens[t->n_nodes - 1];
        t->tokens[t->n_nodes - 1] = id;
        return;
    }
    trie_close(t, common);
    for (size_t i = common; i < piece.len; i++) {
        t->bytes[t->n_nodes] = (uint8_t)piece.ptr[i];
        t->tokens[t->n_nodes] = TOKEN_NONE;
        t->open[t->depth++] = t->n_nodes;
        t->depths[t->n_nodes++] = (uint16_t)t->depth;
    }
    t->tokens[t->n_nodes - 1] = id;
}

// The tokens that have text and end nothing, by their bytes.
static uint32_t trie_list(const TokenTrie *trie, int32_t *ids, int32_t *spare, const uint8_t *ends) {
    uint32_t count = 0;
    for (uint32_t id = 0; id < trie->n_tokens; id++)
        if (trie->pieces[id].len > 0 && !ends[id]) ids[count++] = (int32_t)id;
    sort_tokens(trie->pieces, ids, spare, count);
    return count;
}

static bool trie_count(const TokenTrie *trie, const int32_t *ids, uint32_t count, uint64_t *n_nodes,
                       uint32_t *depth_max, Error *err) {
    *n_nodes = 0;
    *depth_max = 0;
    for (uint32_t i = 0; i < count; i++) {
        Str piece = trie->pieces[ids[i]];
        if (piece.len >= TOKEN_BYTES_MAX)
            return error_set(err, ERR_TOO_LARGE, "token %d has %zu bytes", ids[i], piece.len);
        *n_nodes += piece.len - (i ? common_prefix(piece, trie->pieces[ids[i - 1]]) : 0);
        *depth_max = (uint32_t)max_u64(*depth_max, piece.len);
    }
    if (*n_nodes < UINT32_MAX) return true;
    return error_set(err, ERR_TOO_LARGE, "the vocabulary has more than 4 GB of text");
}

bool token_trie_build(const Str *pieces, uint32_t n_tokens, const int32_t *end_tokens, uint32_t n_end_tokens,
                      Arena *arena, Arena scratch, TokenTrie *out, Error *err) {
    TokenTrie trie = {.n_tokens = n_tokens, .n_words = (n_tokens + 31) / 32, .pieces = pieces};
    trie.end_tokens = end_tokens;
    trie.n_end_tokens = n_end_tokens;
    int32_t *ids = arena_new(&scratch, int32_t, n_tokens), *spare = arena_new(&scratch, int32_t, n_tokens);
    uint8_t *ends = arena_new(&scratch, uint8_t, n_tokens);
    TrieBuild t = {.same = arena_new(arena, int32_t, n_tokens)};
    if (!ids || !spare || !ends || !t.same) goto full;
    for (uint32_t i = 0; i < n_end_tokens; i++)
        if (end_tokens[i] >= 0 && (uint32_t)end_tokens[i] < n_tokens) ends[end_tokens[i]] = 1;
    uint32_t count = trie_list(&trie, ids, spare, ends);
    uint64_t n_nodes;
    if (!trie_count(&trie, ids, count, &n_nodes, &trie.depth_max, err)) return false;
    t.bytes = arena_new(arena, uint8_t, n_nodes);
    t.depths = arena_new(arena, uint16_t, n_nodes);
    t.ends = arena_new(arena, uint32_t, n_nodes);
    t.tokens = arena_new(arena, int32_t, n_nodes);
    t.open = arena_new(&scratch, uint32_t, trie.depth_max + 1ull);
    if (!t.bytes || !t.depths || !t.ends || !t.tokens || !t.open) goto full;
    for (uint32_t i = 0; i < n_tokens; i++)
        t.same[i] = TOKEN_NONE;
    for (uint32_t i = 0; i < count; i++)
        trie_add(&t, pieces, ids[i], i ? ids[i - 1] : TOKEN_NONE);
    trie_close(&t, 0);
    trie.n_nodes = t.n_nodes;
    trie.bytes = t.bytes;
    trie.depths = t.depths;
    trie.ends = t.ends;
    trie.tokens = t.tokens;
    trie.same = t.same;
    *out = trie;
    return true;
full:
    return error_set(err, ERR_NO_MEMORY, "no memory for the tree of %u tokens", n_tokens);
}

bool token_trie_from_tokenizer(const Tokenizer *t, uint32_t n_tokens, Arena *arena, Arena scratch,
                               TokenTrie *out, Error *err) {
    Str *pieces = arena_new(arena, Str, n_tokens);
    if (!pieces) return error_set(err, ERR_NO_MEMORY, "no memory for the tree of %u tokens", n_tokens);
    for (uint32_t id = 0; id < n_tokens; id++)
        pieces[id] = tokenizer_piece(t, (int32_t)id, false);
    TokenIds ends = tokenizer_ends(t);
    return token_trie_build(pieces, n_tokens, ends.ptr, (uint32_t)ends.count, arena, scratch, out, err);
}
