// Which bytes may come behind a leaf: FIRST and FOLLOW of the usual construction of predictive parsers. Masks
// use them to pass over the ends of leaves behind which a token cannot go on.
#include "grammar/grammar_compile.h"
#include "grammar/lang_internal.h"

// Passes over all nodes until nothing changes. A grammar that needs more, which only one made for it does,
// gets sets of all bytes: they are exact enough for everything but speed.
enum { FOLLOW_PASSES = 64 };

typedef struct {
    const Node *nodes;
    uint32_t n_nodes;
    ByteSet *first, *follow;
    bool changed;
} Follow;

static void follow_join(Follow *f, ByteSet *to, const ByteSet *from) {
    if (byte_set_join(to, from)) f->changed = true;
}

static ByteSet leaf_first(const Dfa *dfa) {
    ByteSet set = {0};
    for (int byte = 0; byte < 256; byte++)
        if (dfa_step(dfa, 0, (uint8_t)byte) != DFA_NONE) byte_set_add(&set, (uint8_t)byte);
    return set;
}

static void first_of_node(Follow *f, uint32_t id) {
    const Node *node = &f->nodes[id];
    ByteSet *set = &f->first[id];
    switch ((NodeKind)node->kind) {
    case NODE_SEQUENCE:
        for (uint32_t i = 0; i < node->count; i++) {
            follow_join(f, set, &f->first[node->parts[i]]);
            if (!f->nodes[node->parts[i]].nullable) return;
        }
        return;
    case NODE_CHOICE:
        for (uint32_t i = 0; i < node->count; i++)
            follow_join(f, set, &f->first[node->parts[i]]);
        return;
    case NODE_REPEAT:
    case NODE_RULE: follow_join(f, set, &f->first[node->body]); return;
    case NODE_MEMBERS: follow_join(f, set, &f->first[node->members->open]); return;
    case NODE_ITEMS: follow_join(f, set, &f->first[node->items->open]); return;
    case NODE_OBJECTS: follow_join(f, set, &f->first[node->objects->objects[0]]); return;
    case NODE_NEVER:
    case NODE_EMPTY:
    case NODE_LEAF:
    case NODE_TOKENS: return;
    }
}

// From behind: what follows a part is what the next one begins with, and, if that may be empty, what follows
// it.
static void follow_in_sequence(Follow *f, const Node *node, const ByteSet *follow) {
    ByteSet behind = *follow;
    for (uint32_t i = node->count; i-- > 0;) {
        GrammarNode part = node->parts[i];
        follow_join(f, &f->follow[part], &behind);
        if (!f->nodes[part].nullable) behind = f->first[part];
        else byte_set_join(&behind, &f->first[part]);
    }
}

static void follow_in_members(Follow *f, const MembersNode *m, const ByteSet *follow) {
    ByteSet keys = {0}, values = {0}, end = f->first[m->close], behind_value, behind_key;
    for (uint32_t i = 0; i < m->n_members; i++) {
        byte_set_join(&keys, &f->first[m->members[i].key]);
        byte_set_join(&values, &f->first[m->members[i].value]);
    }
    for (uint32_t i = 0; i < m->n_further; i++) {
        byte_set_join(&keys, &f->first[m->further[i].key]);
        byte_set_join(&values, &f->first[m->further[i].value]);
    }
    if (f->nodes[m->close].nullable) byte_set_join(&end, follow);
    behind_value = end;
    byte_set_join(&behind_value, &f->first[m->comma]);
    if (f->nodes[m->comma].nullable) byte_set_join(&behind_value, &keys);
    byte_set_join(&values, &behind_value); // a value may be empty
    behind_key = f->first[m->colon];
    if (f->nodes[m->colon].nullable) byte_set_join(&behind_key, &values);
    follow_join(f, &f->follow[m->open], &keys);
    follow_join(f, &f->follow[m->open], &end);
    follow_join(f, &f->follow[m->comma], &keys);
    follow_join(f, &f->follow[m->colon], &values);
    follow_join(f, &f->follow[m->close], follow);
    for (uint32_t i = 0; i < m->n_members; i++) {
        follow_join(f, &f->follow[m->members[i].key], &behind_key);
        follow_join(f, &f->follow[m->members[i].value], &behind_value);
    }
    for (uint32_t i = 0; i < m->n_further; i++) {
        follow_join(f, &f->follow[m->further[i].key], &behind_key);
        follow_join(f, &f->follow[m->further[i].value], &behind_value);
    }
}

static void follow_in_items(Follow *f, const ItemsNode *items, const ByteSet *follow) {
    ByteSet behind = f->first[items->close], begin = {0};
    if (f->nodes[items->close].nullable) byte_set_join(&behind, follow);
    ByteSet end = behind;
    byte_set_join(&behind, &f->first[items->comma]);
    for (uint32_t i = 0; i <= items->n_prefix; i++) {
        const GrammarItem *item = items_at(items, i);
        byte_set_join(&begin, &f->first[item->other]);
        byte_set_join(&begin, &f->first[item->match]);
        follow_join(f, &f->follow[item->other], &behind);
        follow_join(f, &f->follow[item->match], &behind);
    }
    byte_set_join(&begin, &behind); // an item may be empty
    follow_join(f, &f->follow[items->open], &begin);
    follow_join(f, &f->follow[items->comma], &begin);
    follow_join(f, &f->follow[items->open], &end);
    follow_join(f, &f->follow[items->close], follow);
}

static void follow_in_objects(Follow *f, const ObjectsNode *o, const ByteSet *follow) {
    for (uint32_t i = 0; i < o->count; i++)
        follow_join(f, &f->follow[o->objects[i]], follow);
}

static void follow_in_node(Follow *f, uint32_t id) {
    const Node *node = &f->nodes[id];
    ByteSet follow = f->follow[id];
    switch ((NodeKind)node->kind) {
    case NODE_SEQUENCE: follow_in_sequence(f, node, &follow); return;
    case NODE_CHOICE:
        for (uint32_t i = 0; i < node->count; i++)
            follow_join(f, &f->follow[node->parts[i]], &follow);
        return;
    case NODE_REPEAT: follow_join(f, &f->follow[node->body], &f->first[node->body]);
    // fall through
    case NODE_RULE: follow_join(f, &f->follow[node->body], &follow); return;
    case NODE_MEMBERS: follow_in_members(f, node->members, &follow); return;
    case NODE_ITEMS: follow_in_items(f, node->items, &follow); return;
    case NODE_OBJECTS: follow_in_objects(f, node->objects, &follow); return;
    case NODE_NEVER:
    case NODE_EMPTY:
    case NODE_LEAF:
    case NODE_TOKENS: return;
    }
}

// How many sets a pass looks at, or nodes.
static uint64_t pass_work(const Grammar *g) {
    uint64_t n = g->n_nodes;
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        const Node *node = &g->nodes[i];
        if (node->kind == NODE_SEQUENCE || node->kind == NODE_CHOICE) n += node->count;
        if (node->kind == NODE_MEMBERS) n += 4ull * (node->members->n_members + node->members->n_further);
        if (node->kind == NODE_ITEMS) n += 4ull * node->items->n_prefix;
        if (node->kind == NODE_OBJECTS) n += node->objects->count;
    }
    return n;
}

bool grammar_find_follow(Grammar *g, LangMaker *work, Arena *arena, Arena scratch, Error *err) {
    uint64_t n_looks = pass_work(g);
    Follow f = {.nodes = g->nodes, .n_nodes = g->n_nodes, .changed = true};
    f.first = arena_new(&scratch, ByteSet, g->n_nodes);
    f.follow = arena_new(arena, ByteSet, g->n_nodes);
    if (!f.first || !f.follow) return lang_no_memory(err);
    for (uint32_t i = 0; i < g->n_nodes; i++)
        if (g->nodes[i].kind == NODE_LEAF) f.first[i] = leaf_first(g->nodes[i].dfa);
    // Parents come before their children, mostly: FIRST goes up, FOLLOW goes down.
    for (int pass = 0; f.changed && pass < FOLLOW_PASSES; pass++) {
        if (!lang_work(work, n_looks, err)) return false;
        f.changed = false;
        for (uint32_t i = g->n_nodes; i-- > 0;)
            first_of_node(&f, i);
    }
    bool all = f.changed;
    f.changed = true;
    for (int pass = 0; f.changed && !all && pass < FOLLOW_PASSES; pass++) {
        if (!lang_work(work, n_looks, err)) return false;
        f.changed = false;
        for (uint32_t i = 0; i < g->n_nodes; i++)
            follow_in_node(&f, i);
    }
    if (f.changed) memset(f.follow, 0xFF, g->n_nodes * sizeof *f.follow);
    g->follow = f.follow;
    return true;
}
