#include "text/special.h"

bool special_init(SpecialTrie *trie, uint64_t total_bytes, Arena *arena) {
    *trie = (SpecialTrie){.n_nodes = 1};
    if (total_bytes >= UINT32_MAX) return false;
    trie->nodes_max = (uint32_t)total_bytes + 1;
    trie->nodes = arena_new(arena, SpecialNode, trie->nodes_max);
    return trie->nodes != NULL;
}

// The child of `node` by this byte, or 0.
static uint32_t find_child(const SpecialTrie *trie, uint32_t node, uint8_t byte) {
    if (node == 0) return trie->first[byte];
    uint32_t child = trie->nodes[node].child;
    while (child && trie->nodes[child].byte != byte)
        child = trie->nodes[child].sibling;
    return child;
}

void special_add(SpecialTrie *trie, Str text, int32_t id) {
    if (!text.len || text.len > SPECIAL_BYTES_MAX || text.len > trie->nodes_max - trie->n_nodes) return;
    uint32_t node = 0;
    for (size_t i = 0; i < text.len; i++) {
        uint8_t byte = (uint8_t)text.ptr[i];
        uint32_t child = find_child(trie, node, byte);
        if (!child) {
            child = trie->n_nodes++;
            trie->nodes[child] = (SpecialNode){.id = -1, .sibling = trie->nodes[node].child, .byte = byte};
            if (node == 0) trie->first[byte] = child, trie->nodes[child].sibling = 0;
            else trie->nodes[node].child = child;
        }
        node = child;
    }
    trie->nodes[node].id = id;
}

bool special_match(const SpecialTrie *trie, Str text, size_t at, size_t limit, size_t *end, int32_t *id) {
    uint32_t node = trie->first[(uint8_t)text.ptr[at]];
    bool found = false;
    for (size_t i = at + 1; node && i <= limit; i++) {
        if (trie->nodes[node].id >= 0) {
            *id = trie->nodes[node].id;
            *end = i;
            found = true;
        }
        if (i < limit) node = find_child(trie, node, (uint8_t)text.ptr[i]);
    }
    return found;
}
