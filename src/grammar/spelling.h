// How the characters of a language's classes are spelled in bytes: a tree whose edges are ranges of bytes and
// whose leaves are classes. Nodes are lists of edges, each kept once; dfa_spell.c makes automata of it.
#pragma once

#include "grammar/lang_internal.h"

// Where an edge leads: a list, SPELL_LEAF + a class, or nowhere.
enum { SPELL_LEAF = 0x40000000, SPELL_NOTHING = 0x7FFFFFFF };

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

static inline Edge *edge_list(const EdgeLists *l, uint32_t list, uint32_t *count) {
    *count = (list + 1 < l->count ? l->at[list + 1] : l->n_edges) - l->at[list];
    return l->edges + l->at[list];
}

// The list with these edges (ascending); SPELL_NOTHING for none. False when the arena is full.
MUST_CHECK bool edge_list_find(EdgeLists *l, const Edge *edges, uint32_t count, uint32_t *out);

typedef struct {
    Edge edges[256];
    uint32_t count;
} EdgeBuffer;

// Edges come in any order of bytes where letters have two cases; they are sorted when they are stored.
static inline void put_edge(EdgeBuffer *b, uint32_t first, uint32_t last, uint32_t to) {
    if (to == SPELL_NOTHING) return;
    Edge *before = b->count ? &b->edges[b->count - 1] : NULL;
    if (before && before->to == to && before->last + 1u == first) {
        before->last = (uint8_t)last;
        return;
    }
    b->edges[b->count++] = (Edge){(uint8_t)first, (uint8_t)last, to};
}

// Fills `lists`, which has its arena, with the tree of the language's characters; *root is a list, or
// SPELL_NOTHING where only the empty text is in the language. False when the arena is full.
MUST_CHECK bool spelling_tree(const Lang *lang, LangSpelling spelling, EdgeLists *lists, uint32_t *root);
