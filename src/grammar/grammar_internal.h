// What the files of grammar.h and grammar_matcher.h share: nodes, as built and as compiled.
#pragma once

#include "grammar/byte_set.h"
#include "grammar/grammar.h"
#include "grammar/lang.h"

typedef enum {
    NODE_NEVER,
    NODE_EMPTY,
    NODE_LEAF,     // dfa
    NODE_TOKENS,   // tokens [count], or `except` them
    NODE_SEQUENCE, // parts [count]
    NODE_CHOICE,   // parts [count]
    NODE_REPEAT,   // body, min, max
    NODE_RULE,     // body
    NODE_MEMBERS,
    NODE_ITEMS,
    NODE_OBJECTS, // one of several objects, as compiled
} NodeKind;

typedef struct MembersNode MembersNode;
typedef struct ItemsNode ItemsNode;
typedef struct ObjectsNode ObjectsNode;

enum { NEED_NEVER = UINT16_MAX };

typedef struct {
    uint8_t kind;  // a NodeKind
    bool nullable; // it takes the empty text
    bool except;
    bool own_dfa; // the automaton lies in the builder's arena
    // How many frames more than its caller's it must be able to open, at least, to complete (compiled nodes).
    uint16_t need;
    uint32_t count;
    uint32_t min, max;
    uint32_t name_bytes;
    const char *name;
    union {
        const Dfa *dfa;
        const int32_t *tokens; // ascending
        const GrammarNode *parts;
        GrammarNode body;
        const MembersNode *members;
        const ItemsNode *items;
        const ObjectsNode *objects;
    };
} Node;

// A GrammarMembers, with `required` closed under `needs`.
struct MembersNode {
    GrammarNode open, colon, comma, close;
    GrammarMember *members;
    GrammarFurther *further;
    uint32_t n_members, n_further, n_required;
    uint32_t min, max; // as compiled: 0 and GRAMMAR_UNBOUNDED where they follow from the rest
    bool any_order;
    bool has_needs;
    bool keeps_set; // as compiled: what may come next depends on which members were there
};

// A GrammarItems. Where something has to be contained, `can_end` [places + 1][matches + 1] says whether the
// array can complete behind so many items, so many of which match; `can_end_shallow` the same with only the
// children that `need` counts on.
struct ItemsNode {
    GrammarNode open, comma, close;
    GrammarItem *prefix;
    GrammarItem rest;
    uint32_t n_prefix;
    uint32_t min, max, contains_min, contains_max;
    bool contains;     // something has to be, or not too often
    bool unique;       // `max` is no more than there are different items
    uint32_t places;   // items are counted up to this
    uint32_t matches;  // … and matching ones up to this
    uint16_t need_all; // `need` of the deepest child that can be
    const uint8_t *can_end;
    const uint8_t *can_end_shallow;
};

enum {
    OBJECTS_MAX = 1 << 12,         // that are joined
    OBJECTS_ENTRIES_MAX = 1 << 15, // … members of all of them
    OBJECT_PLACES_MAX = 1 << 11,   // … of one: named ones, then further ones
};

// A key, and where its words are.
typedef struct {
    GrammarNode key;
    uint32_t first;
} ObjectsKey;

// One of several objects (grammar_objects.c): MEMBERS nodes of the same punctuation, in order, without sets.
// A word is one of them and a place in it. `words` has all places, by key, then by value.
struct ObjectsNode {
    const GrammarNode *objects; // [count]
    const ObjectsKey *keys;     // [n_keys]
    const uint32_t *words;      // [n_entries]
    uint32_t count, n_keys, n_entries;
};

static inline uint32_t object_word(uint32_t object, uint32_t place) {
    return object * OBJECT_PLACES_MAX + place;
}

static inline uint32_t word_object(uint32_t word) {
    return word / OBJECT_PLACES_MAX;
}

static inline uint32_t word_place(uint32_t word) {
    return word % OBJECT_PLACES_MAX;
}

struct GrammarBuilder {
    Arena *arena;
    Node *nodes;
    uint32_t n_nodes, nodes_cap;
    uint32_t n_parts;
    bool merges;      // grammar_merge_leaves
    uint64_t n_cells; // of tables of arrays that must contain something
    LangMaker work;   // what grammar_compile may take, and has taken: its counts alone
    Error err;        // code ERR_NONE: all is well
};

// A constant once compiled. Nodes 0 and 1 are GRAMMAR_NEVER and GRAMMAR_EMPTY.
struct Grammar {
    const Node *nodes;
    uint32_t n_nodes;
    GrammarNode root;
    uint32_t objects_max;  // of one NODE_OBJECTS
    const ByteSet *follow; // [n_nodes] the bytes that may come behind a node
    // NULL where no array's items must differ. Else [n_nodes], NULL but for the leaves of such items:
    // [n_states] how many texts there are from a state on (grammar_unique.h).
    const uint32_t *const *texts_left;
    uint8_t digest[32]; // SHA-256 of all that it says: grammars with the same one are the same
};

// Text until the first of the markers that occurs in it, or without any of them. ERR_TOO_LARGE,
// ERR_NO_MEMORY.
MUST_CHECK bool dfa_from_markers(const Str *markers, uint32_t count, bool until, Arena *arena, Dfa *out,
                                 Error *err);

// One of these texts. ERR_TOO_LARGE, ERR_NO_MEMORY.
MUST_CHECK bool dfa_from_texts(const Str *texts, uint32_t count, Arena *arena, Dfa *out, Error *err);

// The item that stands at a place, counted from 0.
static inline const GrammarItem *items_at(const ItemsNode *items, uint32_t place) {
    return place < items->n_prefix ? &items->prefix[place] : &items->rest;
}
