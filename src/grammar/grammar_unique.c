#include "grammar/grammar_unique.h"

#include <assert.h>

enum { LOOKS_A_STEP = 8 }; // at an item, about as long as one of Step's `work`

// ---- how many texts there are ----

typedef struct {
    uint32_t state, class;
} CountPlace;

static uint32_t count_add(uint32_t count, uint64_t times, uint32_t more) {
    return (uint32_t)min_u64(count + times * more, UINT32_MAX);
}

// left[s]: how many texts there are from state s on; UINT32_MAX: at least so many. A state is done when those
// that it leads to are. One that leads back to a state which is not done has texts without end.
static bool count_texts(const Dfa *dfa, Arena scratch, uint32_t *left) {
    enum { NEW, OPEN, DONE };
    uint32_t width[256] = {0}, depth = 1; // bytes of each class
    CountPlace *path = arena_new(&scratch, CountPlace, dfa->n_states);
    uint8_t *is = arena_new(&scratch, uint8_t, dfa->n_states);
    if (!path || !is) return false;
    for (int byte = 0; byte < 256; byte++)
        width[dfa->class_of[byte]]++;
    is[0] = OPEN;
    left[0] = dfa->accepts[0];
    while (depth) {
        CountPlace *at = &path[depth - 1];
        if (at->class == dfa->n_classes) {
            is[at->state] = DONE;
            depth--;
            continue;
        }
        uint32_t next = dfa->next[(size_t)at->state * dfa->n_classes + at->class];
        if (next != DFA_NONE && is[next] == NEW) {
            is[next] = OPEN;
            left[next] = dfa->accepts[next];
            path[depth++] = (CountPlace){.state = next};
            continue; // and back here once it is done
        }
        if (next != DFA_NONE) {
            uint32_t more = is[next] == OPEN ? UINT32_MAX : left[next];
            left[at->state] = count_add(left[at->state], width[at->class], more);
        }
        at->class ++;
    }
    return true;
}

// The place-th leaf that an item may be; false behind the last one.
static bool item_leaf(const Node *nodes, GrammarNode items, uint32_t place, GrammarNode *leaf) {
    const Node *node = &nodes[items];
    *leaf = node->kind == NODE_CHOICE && place < node->count ? node->parts[place] : items;
    return place < (node->kind == NODE_CHOICE ? node->count : 1);
}

bool unique_count_items(const Node *nodes, GrammarNode items, Arena scratch, uint32_t *count) {
    GrammarNode leaf;
    *count = 0;
    for (uint32_t place = 0; item_leaf(nodes, items, place, &leaf); place++) {
        Arena own = scratch;
        if (leaf == GRAMMAR_NEVER) continue;
        assert(nodes[leaf].kind == NODE_LEAF);
        uint32_t *left = arena_new(&own, uint32_t, nodes[leaf].dfa->n_states);
        if (!left || !count_texts(nodes[leaf].dfa, own, left)) return false;
        *count = count_add(*count, 1, left[0]);
    }
    return true;
}

static bool find_texts_of(const Grammar *g, GrammarNode items, const uint32_t **texts_left, Arena *arena,
                          Arena scratch) {
    GrammarNode leaf;
    for (uint32_t place = 0; item_leaf(g->nodes, items, place, &leaf); place++) {
        if (leaf == GRAMMAR_NEVER || texts_left[leaf]) continue;
        const Dfa *dfa = g->nodes[leaf].dfa;
        uint32_t *left = arena_new(arena, uint32_t, dfa->n_states);
        if (!left || !count_texts(dfa, scratch, left)) return false;
        texts_left[leaf] = left;
    }
    return true;
}

bool unique_find_texts(Grammar *g, Arena *arena, Arena scratch) {
    const uint32_t **texts_left = NULL;
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        if (g->nodes[i].kind != NODE_ITEMS || !g->nodes[i].items->unique) continue;
        if (!texts_left) texts_left = arena_new(arena, const uint32_t *, g->n_nodes);
        if (!texts_left || !find_texts_of(g, g->nodes[i].items->rest.other, texts_left, arena, scratch))
            return false;
    }
    g->texts_left = texts_left;
    return true;
}

// ---- items so far ----

// s->item is a text: the number of its bytes, then these, filled up with zeros to whole words.
static void cut_item(Step *s, uint32_t length) {
    uint32_t *last = s->item + 1 + length / sizeof *s->item;
    s->item[0] = length;
    memset((uint8_t *)last + length % sizeof *last, 0, sizeof *last - length % sizeof *last);
}

static void add_byte(Step *s, char byte) {
    ((char *)(s->item + 1))[s->item[0]] = byte;
    cut_item(s, s->item[0] + 1);
}

// The frame of the array below the bytes of its open item.
static uint32_t find_array(const Pool *p, uint32_t stack) {
    while (frame_phase(&p->frames[stack]) == AT_BYTE)
        stack = p->frames[stack].parent;
    return stack;
}

// Reads the open item into s->item. Returns the frame of its array.
static uint32_t read_item(Step *s, uint32_t stack) {
    const Frame *frames = s->pool->frames;
    uint32_t array = find_array(s->pool, stack), length = frames[stack].depth - frames[array].depth;
    cut_item(s, length);
    for (uint8_t *bytes = (uint8_t *)(s->item + 1); length-- > 0; stack = frames[stack].parent)
        bytes[length] = (uint8_t)frame_index(&frames[stack]);
    return array;
}

static uint32_t item_words(const Step *s) {
    return 1 + (uint32_t)div_up(s->item[0], sizeof *s->item);
}

static Str text_of(const uint32_t *words) {
    return (Str){(const char *)(words + 1), words[0]};
}

// The text that a frame of UNIQUE_ITEM remembers.
static Str used_text(const Pool *p, uint32_t item) {
    return text_of(p->set_words + p->sets[p->frames[item].set].first);
}

// Whether the text in s->item is among the items: if it is not among all sets, it is not.
static bool is_used(Step *s, uint32_t newest) {
    const Pool *p = s->pool;
    uint32_t text = pool_find_set(p, s->item, item_words(s));
    s->needs_item |= s->has_any;
    if (text == POOL_NONE || s->has_any) return false;
    s->work += p->frames[newest].at / LOOKS_A_STEP;
    for (uint32_t item = newest; item; item = p->frames[item].parent)
        if (p->frames[item].set == text) return true;
    return false;
}

// ---- steps ----

uint32_t unique_push(Step *s, uint32_t stack, uint8_t byte) {
    Frame top = s->pool->frames[stack];
    return step_push(s, stack, top.node, frame_at(AT_BYTE, byte), top.set);
}

bool unique_can_differ(Step *s, uint32_t stack, GrammarNode leaf, uint32_t dfa_state) {
    const Pool *p = s->pool;
    uint32_t newest = p->frames[stack].set, n_left = s->texts_left[leaf][dfa_state], n_used = 0;
    if (n_left > p->frames[newest].at) return true; // than there are items
    read_item(s, stack);
    if (n_left == 1 && s->nodes[leaf].dfa->accepts[dfa_state]) return !is_used(s, newest);
    s->needs_item |= s->has_any;
    if (s->has_any) return true;
    s->work += p->frames[newest].at / LOOKS_A_STEP;
    for (uint32_t item = newest; item; item = p->frames[item].parent)
        n_used += str_starts_with(used_text(p, item), text_of(s->item));
    return n_used < n_left;
}

// Remembers the text in s->item. Returns its frame.
static uint32_t add_used(Step *s, uint32_t newest) {
    uint32_t text = pool_set(s->pool, s->item, item_words(s));
    if (text == POOL_NONE) step_fail(s, STEP_FULL);
    return text == POOL_NONE ? newest
                             : step_push(s, newest, UNIQUE_ITEM, s->pool->frames[newest].at + 1, text);
}

static bool items_take(const Step *s, GrammarNode items, Str text) {
    GrammarNode leaf;
    for (uint32_t place = 0; item_leaf(s->nodes, items, place, &leaf); place++)
        if (dfa_accepts(s->nodes[leaf].dfa, text)) return true;
    return false;
}

// Zeros that a number may have at its end without being another one: none are left in s->item. Returns how
// many may be put there, with a point in front of them where there is none.
static uint32_t cut_zeros(Step *s, bool *needs_point) {
    Str text = text_of(s->item);
    const char *point = text.len ? memchr(text.ptr, '.', text.len) : NULL;
    bool is_number = text.ptr[0] == '-' || (text.ptr[0] >= '0' && text.ptr[0] <= '9');
    if (!is_number) return 0;
    size_t digits = point ? (size_t)(text.ptr + text.len - point) - 1 : 0;
    while (digits && text.ptr[text.len - 1] == '0')
        text.len--, digits--;
    if (point && digits == 0) text.len--;
    cut_item(s, (uint32_t)text.len);
    *needs_point = digits == 0;
    return digits < UNIQUE_ZEROS ? UNIQUE_ZEROS - (uint32_t)digits : 0;
}

bool unique_end(Step *s, uint32_t stack, Frame *array) {
    uint32_t newest = s->pool->frames[stack].set;
    *array = s->pool->frames[read_item(s, stack)];
    if (is_used(s, newest)) return false;
    GrammarNode items = s->nodes[array->node].items->rest.other;
    bool needs_point = false;
    uint32_t n_zeros = cut_zeros(s, &needs_point);
    array->set = add_used(s, newest);
    for (uint32_t i = 0; i < n_zeros; i++) {
        if (i == 0 && needs_point) add_byte(s, '.');
        add_byte(s, '0');
        if (items_take(s, items, text_of(s->item))) array->set = add_used(s, array->set);
    }
    return s->status == STEP_OK;
}

// ---- masks ----

uint64_t unique_bytes(const Grammar *g, const TokenTrie *trie) {
    return g->texts_left ? (trie->n_words + (uint64_t)trie->n_nodes) * sizeof(uint32_t) + 64 : 0;
}

bool unique_init(GrammarMatcher *m, Arena *arena) {
    if (!m->g->texts_left) return true;
    m->item_words = arena_new(arena, uint32_t, m->trie->n_words);
    m->used = arena_new(arena, uint32_t, m->trie->n_nodes);
    return m->item_words && m->used;
}

// The node of a byte among those from `node` to before `end` that are beside each other; `end` where there is
// none.
static uint32_t trie_find(const TokenTrie *trie, uint32_t node, uint32_t end, uint8_t byte) {
    while (node < end && trie->nodes[node].byte != byte)
        node = trie->nodes[node].end;
    return node;
}

// Follows the rest of an item that has come. First each node of the tree is told of each item that goes that
// way; then, where these are all that could, the tokens that end there are taken away.
static void follow_used(GrammarMatcher *m, const Reading *r, Str rest, bool counts, uint32_t *words) {
    const TokenTrie *trie = m->trie;
    const Dfa *dfa = m->g->nodes[r->node].dfa;
    uint32_t state = r->dfa_state, node = 0, end = trie->n_nodes;
    for (size_t i = 0; i < rest.len; i++) {
        node = trie_find(trie, node, end, (uint8_t)rest.ptr[i]);
        if (node == end) return;
        state = dfa_step(dfa, state, (uint8_t)rest.ptr[i]);
        if (state == DFA_NONE) return; // of another leaf
        if (counts) m->used[node]++;
        bool is_over = !counts && m->used[node] == m->g->texts_left[r->node][state];
        for (int32_t token = is_over ? trie->nodes[node].token : TOKEN_NONE; token != TOKEN_NONE;
             token = trie->same[token])
            words[token >> 5] &= ~(1u << (token & 31));
        if (!counts) m->used[node] = 0;
        end = trie->nodes[node++].end;
    }
}

void unique_remove_used(GrammarMatcher *m, const Reading *r, uint32_t *words) {
    const Pool *p = &m->pool;
    uint32_t newest = p->frames[r->stack].set, n = 0;
    read_item(&m->step, r->stack);
    Str begin = text_of(m->step.item);
    for (int turn = 0; turn < 2 && (turn == 0 || n); turn++) {
        for (uint32_t item = newest; item; item = p->frames[item].parent) {
            Str text = used_text(p, item);
            if (!str_starts_with(text, begin)) continue;
            follow_used(m, r, str_slice(text, begin.len, text.len), turn == 0, words);
            n++;
        }
    }
    m->step.work += n + 2 * p->frames[newest].at / LOOKS_A_STEP;
}

static uint32_t push_bytes(Step *s, uint32_t stack, Str bytes) {
    for (size_t i = 0; i < bytes.len; i++)
        stack = unique_push(s, stack, (uint8_t)bytes.ptr[i]);
    return stack;
}

bool unique_is_used(GrammarMatcher *m, const Reading *r, Str bytes) {
    read_item(&m->step, r->stack);
    for (size_t i = 0; i < bytes.len; i++)
        add_byte(&m->step, bytes.ptr[i]);
    return is_used(&m->step, m->pool.frames[r->stack].set);
}

GrammarState unique_behind(GrammarMatcher *m, const Reading *r, Str bytes) {
    step_begin(&m->step);
    step_return(&m->step, push_bytes(&m->step, r->stack, bytes), true);
    step_close(&m->step);
    return step_state(&m->step);
}

GrammarState unique_behind_any(GrammarMatcher *m, const Reading *r) {
    Pool *p = &m->pool;
    Frame array = p->frames[find_array(p, r->stack)];
    step_begin(&m->step);
    // It counts as all the texts that are remembered of one item, and its own is never looked at.
    array.set = step_push(&m->step, array.set, UNIQUE_ITEM, p->frames[array.set].at + 1 + UNIQUE_ZEROS, 0);
    step_return_items(&m->step, array, true);
    step_close(&m->step);
    return step_state(&m->step);
}
