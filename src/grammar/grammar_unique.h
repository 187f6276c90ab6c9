// Arrays whose items are all different.
//
// Which item may come next depends on all items before it. So the stack remembers them: while an item is
// open, each of its bytes is a frame (AT_BYTE) on that of its array. When it ends, they become one frame of
// the node UNIQUE_ITEM, whose `set` is the item's text and whose parent is the item before; the array's frame
// has the newest item as its `set`. These are frames and sets like all others: a state is still a number that
// says everything, and going back, keeping and masks work as ever.
//
// Items are compared as texts, so whoever builds the grammar gives each value one spelling. Only numbers may
// have zeros behind (1, 1.0, 1.00, and 1.5, 1.50: a model that cannot write 1.0 writes 1.01). When one ends,
// all spellings of it that are items are remembered.
//
// There is no dead end. An array takes another item only where fewer have come than there are:
// grammar_add_items bounds `max` by that. An item takes another byte only where, of all texts that go on so,
// fewer have come than there are. How many there are from a state of a leaf on is known (Grammar.texts_left).
// How many have come is counted by looking at all items, but only where there are at least as many items as
// texts left. In free strings that is the closing quote alone.
//
// Work: a step looks at all items so far where an item could be used up. A mask looks at all of them once,
// and follows those that begin like the present one through the tree of tokens. Tokens that end an item and
// go on behind it are looked at as if any item had ended there, since it hardly ever matters which one it
// was.
#pragma once

#include "grammar/grammar_matcher_internal.h"

#define UNIQUE_ITEM GRAMMAR_EMPTY // the node of a frame that remembers an item; no other frame has it

enum { UNIQUE_ZEROS = 2 }; // digits behind the point, up to which a number may have zeros at its end

// ---- when a grammar is made ----

// How many texts the items of a GrammarItems have, UINT32_MAX: at least so many. False when scratch is full.
MUST_CHECK bool unique_count_items(const Node *nodes, GrammarNode items, Arena scratch, uint32_t *count);
// Sets g->texts_left, which lives in `arena`. False when an arena is full.
MUST_CHECK bool unique_find_texts(Grammar *g, Arena *arena, Arena scratch);

// ---- steps ----

// Whether the reading is within an item that must differ from others.
static inline bool unique_is_item(const Step *s, const Reading *r) {
    if (!s->texts_left || !s->texts_left[r->node]) return false;
    const Frame *frame = &s->pool->frames[r->stack];
    const Node *node = &s->nodes[frame->node];
    if (node->kind != NODE_ITEMS || !node->items->unique) return false;
    return frame_phase(frame) == AT_VALUE || frame_phase(frame) == AT_BYTE;
}

// The stack with one more byte of the item.
uint32_t unique_push(Step *s, uint32_t stack, uint8_t byte);
// Whether the item can still become one that has not come. `leaf`, `dfa_state`: where it stands in its leaf.
bool unique_can_differ(Step *s, uint32_t stack, GrammarNode leaf, uint32_t dfa_state);
// The item ends. *array: the frame of its array behind it. False where the item has come before, or where
// there is no room.
bool unique_end(Step *s, uint32_t stack, Frame *array);

// ---- masks ----

uint64_t unique_bytes(const Grammar *g, const TokenTrie *trie);
// False when the arena is full.
MUST_CHECK bool unique_init(GrammarMatcher *m, Arena *arena);
// `words` are the tokens that stay within the leaf of the reading. Takes away those behind which the item
// could only become one that has come.
void unique_remove_used(GrammarMatcher *m, const Reading *r, uint32_t *words);
// Whether the item with these bytes more has come.
bool unique_is_used(GrammarMatcher *m, const Reading *r, Str bytes);
// The state behind the item, if it ends after these bytes more; or what grammar_step gives instead.
GrammarState unique_behind(GrammarMatcher *m, const Reading *r, Str bytes);
// … behind any item. Steps from there set m->step.needs_item where it matters which one it is; they are right
// only while m->step.has_any.
GrammarState unique_behind_any(GrammarMatcher *m, const Reading *r);
