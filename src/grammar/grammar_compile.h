// The steps of grammar_compile.
#pragma once

#include "grammar/grammar_internal.h"

// Who uses a node: for node i, to[first[i]] … to[first[i + 1] - 1]. Keys and punctuation are left out, as
// they are leaves; `place` counts the others within the parent.
typedef struct {
    uint32_t *first; // [n_nodes + 1]
    struct {
        uint32_t parent, place;
    } * to;
} NodeEdges;

// The child at a place, or GRAMMAR_NEVER with false behind the last one.
bool node_child(const Node *node, uint32_t place, GrammarNode *child);
// False when the arena is full.
MUST_CHECK bool node_edges(const Node *nodes, uint32_t n_nodes, Arena *arena, NodeEdges *out);

// The need of each node [n_nodes], NEED_NEVER where it cannot complete. False when the arena is full.
// *unsupported: an object of which that cannot be said (grammar_add_members), or left alone.
MUST_CHECK bool needs_find(const GrammarBuilder *b, const NodeEdges *edges, uint16_t *need, Arena scratch,
                           GrammarNode *unsupported);
// ItemsNode's can_end, with the children that need at most need_max.
void items_table(const ItemsNode *items, const uint16_t *need, uint32_t need_max, uint8_t *cells);

// Copies what can be reached from root and can complete. ERR_NO_MEMORY, ERR_TOO_LARGE, ERR_CANCELLED, and
// what grammar_check_beginnings gives.
MUST_CHECK bool grammar_emit(GrammarBuilder *b, GrammarNode root, const uint16_t *need, Arena *arena,
                             Arena scratch, Grammar *out, Error *err);
// Sets `nullable`, and refuses a rule that can begin with itself. ERR_NO_MEMORY, ERR_INVALID_REQUEST.
MUST_CHECK bool grammar_check_beginnings(Grammar *g, Node *nodes, Arena scratch, Error *err);
// same[i]: the first node that says the same as node i [n_nodes]. ERR_NO_MEMORY, ERR_TOO_LARGE,
// ERR_CANCELLED.
MUST_CHECK bool grammar_find_alike(const Node *nodes, uint32_t n_nodes, LangMaker *work, uint32_t *same,
                                   Arena scratch, Error *err);
// Makes one node of the objects of a choice (grammar_objects.c). `nodes` may be replaced and become more.
// ERR_NO_MEMORY, ERR_TOO_LARGE, ERR_CANCELLED.
MUST_CHECK bool grammar_join_objects(Grammar *g, LangMaker *work, Arena *arena, Arena scratch, Error *err);
// Makes automata of what is regular, as far as that takes no more than its share of `work`. `nodes` may be
// replaced and become more. ERR_NO_MEMORY, ERR_TOO_LARGE, ERR_CANCELLED.
MUST_CHECK bool grammar_merge(Grammar *g, LangMaker *work, Arena *arena, Arena scratch, Error *err);
// Sets `follow`, which lives in `arena`. ERR_NO_MEMORY, ERR_TOO_LARGE, ERR_CANCELLED.
MUST_CHECK bool grammar_find_follow(Grammar *g, LangMaker *work, Arena *arena, Arena scratch, Error *err);
// grammar_digest.c. Fills g->digest. False: no memory.
MUST_CHECK bool grammar_find_digest(Grammar *g, Arena scratch);
