#include "grammar/token_trie.h"

#include "base/limits.h"
#include "base/utf8.h"

#include <assert.h>

uint32_t byte_group(uint8_t byte) {
    static const char alone[] = "\t\n\r \"\\<{}[],:-_/`.'=";
    const char *found = byte ? strchr(alone, byte) : NULL;
    if (found) return (uint32_t)(found - alone);
    uint32_t rest = sizeof alone - 1;
    if (byte < 0x20) return rest;
    if (byte >= '0' && byte <= '9') return rest + 1;
    if (byte >= 'a' && byte <= 'z') return rest + 2;
    if (byte >= 'A' && byte <= 'Z') return rest + 3;
    if (byte < 0x80) return rest + 4;
    return rest + (byte < 0xC0 ? 5 : byte < 0xE0 ? 6 : byte < 0xF0 ? 7 : 8);
}

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
    TrieNode *nodes;
    uint32_t *below, *firsts;
    int32_t *same;
    uint32_t n_nodes;
    uint32_t n_tokens; // so far
    uint32_t *open;    // [depth] the nodes above the present place
    uint32_t depth;
} TrieBuild;

static size_t common_prefix(Str a, Str b) {
    size_t n = 0;
    while (n < a.len && n < b.len && a.ptr[n] == b.ptr[n])
        n++;
    return n;
}

// 1 … TRIE_PLAIN_ANY, or 0 for a token that is not plain.
static uint8_t plain_characters(Str piece) {
    uint32_t count = 0, codepoint;
    for (size_t at = 0; at < piece.len; count++) {
        size_t length = utf8_decode(str_slice(piece, at, piece.len), &codepoint);
        if (length == 0 || utf8_is_control(codepoint) || codepoint == '"' || codepoint == '\\') return 0;
        at += length;
    }
    return (uint8_t)min_u64(count, TRIE_PLAIN_ANY);
}

static const uint32_t *plain_masks(const TokenTrie *trie, const int32_t *ids, uint32_t count, Arena *arena) {
    uint32_t *masks = arena_new(arena, uint32_t, (uint64_t)TRIE_PLAIN_ANY * trie->n_words);
    if (!masks) return NULL;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t plain = plain_characters(trie->pieces[ids[i]]);
        for (uint32_t n = plain; n > 0 && n <= TRIE_PLAIN_ANY; n++)
            masks[(size_t)(n - 1) * trie->n_words + ((uint32_t)ids[i] >> 5)] |= 1u << (ids[i] & 31);
    }
    return masks;
}

static void trie_close(TrieBuild *t, size_t depth) {
    while (t->depth > depth)
        t->nodes[t->open[--t->depth]].end = t->n_nodes;
}

static void trie_add(TrieBuild *t, const Str *pieces, int32_t id, int32_t before) {
    Str piece = pieces[id];
    t->n_tokens++;
    size_t common = before == TOKEN_NONE ? 0 : common_prefix(piece, pieces[before]);
    if (before != TOKEN_NONE && common == piece.len && piece.len == pieces[before].len) {
        t->same[id] = t->nodes[t->n_nodes - 1].token;
        t->nodes[t->n_nodes - 1].token = id;
        return;
    }
    trie_close(t, common);
    for (size_t i = common; i < piece.len; i++) {
        uint32_t group = 1u << byte_group((uint8_t)piece.ptr[i]);
        for (uint32_t d = 0; d < t->depth; d++)
            t->below[t->open[d]] |= group;
        t->firsts[t->n_nodes] = t->n_tokens - 1;
        t->open[t->depth++] = t->n_nodes;
        t->nodes[t->n_nodes++] =
            (TrieNode){.token = TOKEN_NONE, .depth = (uint16_t)t->depth, .byte = (uint8_t)piece.ptr[i]};
    }
    t->nodes[t->n_nodes - 1].token = id;
    uint8_t plain = plain_characters(piece);
    for (uint32_t d = 0; d < t->depth; d++) {
        TrieNode *node = &t->nodes[t->open[d]];
        bool is_long = piece.len > TRIE_SHORT_BYTES;
        if (plain == 0) {
            node->other = true;
            node->other_long = node->other_long || is_long;
        } else {
            node->plain = (uint8_t)max_u64(node->plain, plain);
            if (is_long) node->plain_long = (uint8_t)max_u64(node->plain_long, plain);
        }
    }
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

static bool trie_full(const TokenTrie *trie, Error *err) {
    return error_set(err, ERR_NO_MEMORY, "no memory for the tree of %u tokens", trie->n_tokens);
}

// The tree of these tokens, which are sorted.
static bool trie_make(TokenTrie *trie, const int32_t *ids, uint32_t count, Arena *arena, Arena scratch,
                      Error *err) {
    uint64_t n_nodes;
    TrieBuild t = {.same = arena_new(arena, int32_t, trie->n_tokens)};
    if (!trie_count(trie, ids, count, &n_nodes, &trie->depth_max, err)) return false;
    t.nodes = arena_new(arena, TrieNode, n_nodes);
    t.below = arena_new(arena, uint32_t, n_nodes);
    t.firsts = arena_new(arena, uint32_t, n_nodes + 1);
    int32_t *order = arena_new(arena, int32_t, count);
    t.open = arena_new(&scratch, uint32_t, trie->depth_max + 1ull);
    if (!t.same || !t.nodes || !t.below || !t.firsts || !order || !t.open) return trie_full(trie, err);
    memcpy(order, ids, count * sizeof *ids);
    for (uint32_t i = 0; i < trie->n_tokens; i++)
        t.same[i] = TOKEN_NONE;
    for (uint32_t i = 0; i < count; i++)
        trie_add(&t, trie->pieces, ids[i], i ? ids[i - 1] : TOKEN_NONE);
    trie_close(&t, 0);
    trie->n_nodes = t.n_nodes;
    trie->nodes = t.nodes;
    trie->below = t.below;
    trie->firsts = t.firsts;
    t.firsts[t.n_nodes] = count;
    trie->order = order;
    trie->same = t.same;
    return true;
}

static bool trie_make_rare(TokenTrie *trie, int32_t *ids, uint32_t count, Arena *arena, Arena scratch,
                           Error *err) {
    TokenTrie *rare = arena_new(arena, TokenTrie, 1);
    uint32_t n = 0;
    if (!rare) return trie_full(trie, err);
    for (uint32_t i = 0; i < count; i++) {
        uint8_t plain = plain_characters(trie->pieces[ids[i]]);
        if (plain == 0 || plain > TRIE_PLAIN_MAX) ids[n++] = ids[i];
    }
    *rare = *trie;
    trie->rare = rare;
    return trie_make(rare, ids, n, arena, scratch, err);
}

bool token_trie_build(const Str *pieces, uint32_t n_tokens, const int32_t *end_tokens, uint32_t n_end_tokens,
                      Arena *arena, Arena scratch, TokenTrie *out, Error *err) {
    TokenTrie trie = {
        .n_tokens = n_tokens, .n_named = n_tokens, .n_words = (n_tokens + 31) / 32, .pieces = pieces};
    trie.end_tokens = end_tokens;
    trie.n_end_tokens = n_end_tokens;
    int32_t *ids = arena_new(&scratch, int32_t, n_tokens), *spare = arena_new(&scratch, int32_t, n_tokens);
    uint8_t *ends = arena_new(&scratch, uint8_t, n_tokens);
    if (!ids || !spare || !ends) return trie_full(&trie, err);
    for (uint32_t i = 0; i < n_end_tokens; i++) {
        assert(end_tokens[i] >= 0 && (uint32_t)end_tokens[i] < n_tokens);
        ends[end_tokens[i]] = 1;
    }
    uint32_t count = trie_list(&trie, ids, spare, ends);
    trie.plain = plain_masks(&trie, ids, count, arena);
    if (!trie.plain) return trie_full(&trie, err);
    if (!trie_make(&trie, ids, count, arena, scratch, err) ||
        !trie_make_rare(&trie, ids, count, arena, scratch, err))
        return false;
    *out = trie;
    return true;
}

bool token_trie_is_end(const TokenTrie *trie, int32_t token) {
    for (uint32_t i = 0; i < trie->n_end_tokens; i++)
        if (trie->end_tokens[i] == token) return true;
    return false;
}

static bool is_blank(Str text) {
    size_t n = 0;
    while (n < text.len && memchr(" \t\n\r", text.ptr[n], 4))
        n++;
    return n == text.len;
}

// Tokens that a file defines beside its vocabulary have no part in texts, even where they have text: whoever
// reads an answer may know them by id ("<tool_call>"). Runs of blanks mean nothing else than their text.
static Str text_of(const Tokenizer *t, int32_t id) {
    Str piece = tokenizer_piece(t, id, false);
    bool is_mark = piece.len && tokenizer_token_by_text(t, piece) == id && !is_blank(piece);
    return is_mark ? (Str){0} : piece;
}

bool token_trie_from_tokenizer(const Tokenizer *t, uint32_t n_tokens, Arena *arena, Arena scratch,
                               TokenTrie *out, Error *err) {
    Str *pieces = arena_new(arena, Str, n_tokens);
    if (!pieces) return error_set(err, ERR_NO_MEMORY, "no memory for the tree of %u tokens", n_tokens);
    for (uint32_t id = 0; id < n_tokens; id++)
        pieces[id] = text_of(t, (int32_t)id);
    TokenIds ends = tokenizer_ends(t);
    if (!token_trie_build(pieces, n_tokens, ends.ptr, (uint32_t)ends.count, arena, scratch, out, err))
        return false;
    out->n_named = (uint32_t)min_u64(n_tokens, tokenizer_vocab_size(t));
    return true;
}
