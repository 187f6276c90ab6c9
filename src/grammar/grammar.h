// Grammars over bytes and control tokens: what an answer may be, whichever language it was described in.
//
// A grammar is built from nodes, compiled once, and then only read. grammar_matcher.h runs it: states of
// sequences, masks of the tokens that may come next.
//
//     GrammarBuilder *b = grammar_builder_new(&scratch);
//     GrammarNode list = grammar_add_rule(b, STR("list"));
//     GrammarNode parts[] = {grammar_add_literal(b, STR("[")), grammar_add_repeat(b, list, 0, 3),
//                            grammar_add_literal(b, STR("]"))};
//     grammar_set_rule(b, list, grammar_add_sequence(b, parts, COUNT_OF(parts)));
//     const Grammar *g;
//     if (!grammar_compile(b, list, &arena, scratch, &g, &err)) …
//
// Errors stick: after the first failure (a limit, no memory, a node that is none) every call gives
// GRAMMAR_NEVER, and grammar_compile returns that first error. So a reader checks once, at the end.
//
// Exact, but for one bound: a compiled grammar takes a text if and only if the nodes describe it, as long as
// no more than GRAMMAR_DEPTH_MAX nodes are open at once. Alternatives that cannot complete are removed, and
// deeper ones are refused where they begin: whatever has been taken can always be completed.
//
// Threads: a builder belongs to one thread. A compiled grammar is constant; any thread may read it.
#pragma once

#include "grammar/lang.h"

typedef struct GrammarBuilder GrammarBuilder;
typedef struct Grammar Grammar;
typedef uint32_t GrammarNode;

#define GRAMMAR_NEVER 0u // matches nothing
#define GRAMMAR_EMPTY 1u // matches the empty text
#define GRAMMAR_UNBOUNDED UINT32_MAX

enum {
    GRAMMAR_NODES_MAX = 1 << 18,
    GRAMMAR_PARTS_MAX = 1 << 20,      // of all nodes: parts, alternatives, members
    GRAMMAR_MEMBERS_MAX = 1024,       // named members of one object
    GRAMMAR_COUNT_MAX = 1 << 20,      // finite bounds of repetitions, members and items
    GRAMMAR_CONTAINS_CELLS = 1 << 18, // of all arrays: (items up to the bounds) times (matches up to theirs)
    GRAMMAR_CONTAINS_PREFIX = 64,     // first items of an array that must contain something
    GRAMMAR_DEPTH_MAX = 512,          // nodes that are open at once
    GRAMMAR_NAME_BYTES_MAX = 256,     // of a node's name in messages; longer ones are cut
    GRAMMAR_COMPILE_WORK_MAX = 100 * 1000 * 1000, // steps of grammar_compile: about a second
};

// The builder and its nodes live in `arena`. NULL when that is full.
GrammarBuilder *grammar_builder_new(Arena *arena);

// Whether no call has failed so far.
bool grammar_builder_ok(const GrammarBuilder *b);

// Makes the builder fail with this error, unless it has failed before: for readers that find a mistake deep
// inside. Gives GRAMMAR_NEVER.
GrammarNode grammar_fail(GrammarBuilder *b, const Error *err);

// ---- leaves ----

// The texts of an automaton, which lives as long as the compiled grammar. No states: GRAMMAR_NEVER.
GrammarNode grammar_add_dfa(GrammarBuilder *b, const Dfa *dfa);
GrammarNode grammar_add_literal(GrammarBuilder *b, Str bytes);
// Text that ends with the first of the markers that occurs in it, at its first occurrence; with `markers` as
// the beginning of a grammar, what comes before it is free. No marker may be empty.
GrammarNode grammar_add_text_until(GrammarBuilder *b, const Str *markers, uint32_t count);
// Any text, also none, in which no marker occurs. count 0: any bytes.
GrammarNode grammar_add_text_without(GrammarBuilder *b, const Str *markers, uint32_t count);
// One token of the list, by its id: control tokens, which have no text. (A token that has text matches here,
// too, whatever its text.)
GrammarNode grammar_add_tokens(GrammarBuilder *b, const int32_t *ids, uint32_t count);
// One token of the vocabulary that is none of these and no end token.
GrammarNode grammar_add_tokens_except(GrammarBuilder *b, const int32_t *ids, uint32_t count);

// ---- combinations ----

GrammarNode grammar_add_sequence(GrammarBuilder *b, const GrammarNode *parts, uint32_t count);
GrammarNode grammar_add_choice(GrammarBuilder *b, const GrammarNode *alternatives, uint32_t count);
// One of these texts, as they are: a leaf.
GrammarNode grammar_add_texts(GrammarBuilder *b, const Str *texts, uint32_t count);
// min to max times; max GRAMMAR_UNBOUNDED: no upper bound.
GrammarNode grammar_add_repeat(GrammarBuilder *b, GrammarNode body, uint32_t min, uint32_t max);
// A node whose meaning comes later, so that it can be used inside itself. A rule that could begin with
// itself, before anything else has been read, is refused by grammar_compile.
GrammarNode grammar_add_rule(GrammarBuilder *b, Str name);
void grammar_set_rule(GrammarBuilder *b, GrammarNode rule, GrammarNode body);

// ---- members of an object ----
//
//     open (member (comma member)*)? close          member: key colon value
//
// Punctuation and keys are leaves, made by grammar_add_dfa or grammar_add_literal; they hold the blanks
// around them, and quotes. `open` and keys cannot be empty; the others may be GRAMMAR_EMPTY. A key may be
// GRAMMAR_NEVER: that member cannot be.

typedef struct {
    GrammarNode key; // the keys of all members and further ones have no text in common
    GrammarNode value;
    bool required;
    const uint32_t *needs; // [n_needs] members, by index, that must be there where this one is
    uint32_t n_needs;
} GrammarMember;

// Members without names of their own: any number of them, in any order.
typedef struct {
    GrammarNode key;
    GrammarNode value;
} GrammarFurther;

typedef struct {
    GrammarNode open, colon, comma, close;
    const GrammarMember *members; // each comes at most once
    uint32_t n_members;
    const GrammarFurther *further;
    uint32_t n_further;
    uint32_t min, max; // members in all; further ones count each time, also with a key that came before
    bool any_order;    // else in the order of the array, then further ones
} GrammarMembers;

// Members that cannot be (their value matches nothing, or they need such a member) are left out; where one of
// them is required, or the bounds cannot be met, the node is GRAMMAR_NEVER to the compiler. `needs` together
// with a `min` that only optional members can reach, without further ones, is refused (ERR_UNSUPPORTED).
GrammarNode grammar_add_members(GrammarBuilder *b, const GrammarMembers *members);

// ---- items of an array ----
//
//     open (item (comma item)*)? close
//
// `open` and `comma` are leaves that are not empty, `close` may be GRAMMAR_EMPTY.
//
// Where items are `unique`, no two of them are the same text, or the same JSON number with other zeros at its
// end (1, 1.0, 1.00; further zeros make another text). Then:
// - they are a leaf, or a choice of leaves that begin with different bytes;
// - no item is empty, and no byte that may come behind one could go on with it;
// - if there are finitely many items, none is a number in two spellings;
// - there is no prefix, and nothing has to be contained.

// What may stand at one place. Where the array has to contain matching items, `match` is what counts as one
// and `other` what does not; else `match` is GRAMMAR_NEVER. The two may overlap where contains_max is
// GRAMMAR_UNBOUNDED.
typedef struct {
    GrammarNode other;
    GrammarNode match;
} GrammarItem;

typedef struct {
    GrammarNode open, comma, close;
    const GrammarItem *prefix; // the first items, place by place
    uint32_t n_prefix;
    GrammarItem rest; // every item after them
    uint32_t min, max;
    uint32_t contains_min, contains_max; // 0 and GRAMMAR_UNBOUNDED where nothing is asked for
    bool unique;
} GrammarItems;

GrammarNode grammar_add_items(GrammarBuilder *b, const GrammarItems *items);

// ---- compiling ----

// Asks grammar_compile to make one automaton of everything that is regular, as far as it stays small: for
// grammars that are written character by character, whose masks would take long otherwise. Leaves that hold
// whole strings are better left apart: what is known of one then holds wherever it is used.
void grammar_merge_leaves(GrammarBuilder *b);

// What messages call the node, such as the JSON pointer of the schema that it stands for. Of nodes inside
// each other the innermost one at fault that has a name is called.
void grammar_name(GrammarBuilder *b, GrammarNode node, Str name);

// What grammar_compile may take, in steps of 10 ns or so (LangMaker counts the same); it asks `stop`, where
// that is not NULL, within a tenth of a second. GRAMMAR_COMPILE_WORK_MAX and NULL where this is not called.
void grammar_bound_work(GrammarBuilder *b, uint64_t work_max, const LangStop *stop);

// Compiles what `root` describes. The result lives in `arena` and refers to the automata of grammar_add_dfa,
// but to nothing else of the builder's. Errors: ERR_INVALID_REQUEST (nothing matches: the message names the
// node; a rule begins with itself or has no body), ERR_TOO_LARGE (a limit, or too much work), ERR_CANCELLED
// (`stop`), ERR_UNSUPPORTED, ERR_NO_MEMORY, and what the builder noted. Scratch is linear in nodes and parts.
MUST_CHECK bool grammar_compile(GrammarBuilder *b, GrammarNode root, Arena *arena, Arena scratch,
                                const Grammar **out, Error *err);
