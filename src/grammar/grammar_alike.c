// Which nodes say the same: nodes that no difference tells apart, of themselves or of what they refer to.
// All nodes begin in one class, and classes are split by what their nodes refer to, until nothing splits. So
// rules that begin again within themselves are found to be alike, too.
#include "grammar/grammar_compile.h"
#include "grammar/lang_internal.h"

#include "base/hash.h"

enum {
    ALIKE_CELLS_MAX = 1 << 14, // of automata that are compared; larger ones are alike where they are the same
    ALIKE_WORDS_WORK = 4,      // words of a description that take as long as a step of work
    ALIKE_LOOKS_MAX = 1 << 19, // nodes looked at; where that does not do, each is like itself alone
};

typedef struct {
    const Node *nodes;
    uint32_t n_nodes;
    Arena *arena;
    LangMaker *work;
    Error *err;
    uint32_t *leaf;    // [n_nodes] of a leaf: the first one with such an automaton
    uint32_t *classes; // [n_nodes]
    uint32_t *words;   // descriptions of all nodes, one behind the other
    uint32_t n_words, words_cap;
    uint32_t *first; // [n_nodes + 1] a node's words
    uint32_t *table; // [table_size] nodes by the hash of their words, with 1 added
    uint32_t table_size;
    bool failed;
} Alike;

static void put(Alike *a, const uint32_t *words, uint64_t count) {
    if (a->failed) return;
    if (!lang_grow(a->arena, (void **)&a->words, &a->words_cap, (uint32_t)(a->n_words + count),
                   sizeof *words)) {
        a->failed = !lang_no_memory(a->err);
        return;
    }
    if (count) memcpy(a->words + a->n_words, words, count * sizeof *words);
    a->n_words += (uint32_t)count;
}

static void put_class(Alike *a, GrammarNode node) {
    put(a, &a->classes[node], 1);
}

static void put_members(Alike *a, const MembersNode *m) {
    const uint32_t head[] = {m->n_members, m->n_further, m->n_required, m->min, m->max, m->any_order};
    put(a, head, COUNT_OF(head));
    put_class(a, m->open), put_class(a, m->colon), put_class(a, m->comma), put_class(a, m->close);
    for (uint32_t i = 0; i < m->n_members; i++) {
        const GrammarMember *member = &m->members[i];
        const uint32_t of[] = {a->classes[member->key], a->classes[member->value], member->required,
                               member->n_needs};
        put(a, of, COUNT_OF(of));
        put(a, member->needs, member->n_needs);
    }
    for (uint32_t i = 0; i < m->n_further; i++) {
        put_class(a, m->further[i].key);
        put_class(a, m->further[i].value);
    }
}

static void put_items(Alike *a, const ItemsNode *n) {
    const uint32_t head[] = {n->min,      n->max,    n->contains_min, n->contains_max, n->n_prefix,
                             n->contains, n->unique, n->places,       n->matches,      n->need_all};
    put(a, head, COUNT_OF(head));
    put_class(a, n->open), put_class(a, n->comma), put_class(a, n->close);
    for (uint32_t i = 0; i <= n->n_prefix; i++) {
        put_class(a, items_at(n, i)->other);
        put_class(a, items_at(n, i)->match);
    }
}

static void put_node(Alike *a, uint32_t id) {
    const Node *n = &a->nodes[id];
    const uint32_t head[] = {n->kind, n->except, n->need, n->count, n->min, n->max};
    a->first[id] = a->n_words;
    put_class(a, id); // so classes are only split
    put(a, head, COUNT_OF(head));
    switch ((NodeKind)n->kind) {
    case NODE_LEAF: put(a, &a->leaf[id], 1); return;
    case NODE_TOKENS: put(a, (const uint32_t *)n->tokens, n->count); return;
    case NODE_SEQUENCE:
    case NODE_CHOICE:
        for (uint32_t i = 0; i < n->count; i++)
            put_class(a, n->parts[i]);
        return;
    case NODE_REPEAT:
    case NODE_RULE: put_class(a, n->body); return;
    case NODE_MEMBERS: put_members(a, n->members); return;
    case NODE_ITEMS: put_items(a, n->items); return;
    case NODE_NEVER:
    case NODE_EMPTY:
    case NODE_OBJECTS: return;
    }
}

// ---- automata ----

// `least` follows from the tables.
static bool is_same_count(const DfaCount *a, const DfaCount *b) {
    return a->most == b->most && a->border == b->border && a->inner == b->inner && a->after == b->after;
}

static bool is_same_dfa(const Dfa *a, const Dfa *b) {
    size_t cells = (size_t)a->n_states * a->n_classes;
    if (a == b) return true;
    if (!a->count != !b->count || (a->count && !is_same_count(a->count, b->count))) return false;
    if (a->n_states != b->n_states || a->n_classes != b->n_classes || cells > ALIKE_CELLS_MAX) return false;
    return memcmp(a->class_of, b->class_of, sizeof a->class_of) == 0 &&
           memcmp(a->accepts, b->accepts, a->n_states) == 0 &&
           memcmp(a->next, b->next, cells * sizeof *a->next) == 0;
}

static uint64_t dfa_hash(const Dfa *dfa) {
    size_t cells = (size_t)dfa->n_states * dfa->n_classes;
    if (cells > ALIKE_CELLS_MAX) return hash_bytes(&dfa, sizeof dfa);
    uint64_t parts[] = {hash_bytes(dfa->next, cells * sizeof *dfa->next),
                        hash_bytes(dfa->class_of, sizeof dfa->class_of)};
    return hash_bytes(parts, sizeof parts);
}

static bool find_leaves(Alike *a) {
    memset(a->table, 0, a->table_size * sizeof *a->table);
    for (uint32_t i = 0; i < a->n_nodes; i++) {
        if (a->nodes[i].kind != NODE_LEAF) continue;
        const Dfa *dfa = a->nodes[i].dfa;
        uint64_t cells = min_u64((uint64_t)dfa->n_states * dfa->n_classes, ALIKE_CELLS_MAX);
        if (!lang_work(a->work, 64 + cells, a->err)) return false;
        uint32_t at = (uint32_t)dfa_hash(dfa) & (a->table_size - 1);
        while (a->table[at] && !is_same_dfa(a->nodes[a->table[at] - 1].dfa, dfa))
            at = (at + 1) & (a->table_size - 1);
        if (!a->table[at]) a->table[at] = i + 1;
        a->leaf[i] = a->table[at] - 1;
    }
    return true;
}

// ---- classes ----

// A node's class becomes the first node with the same description. Returns how many classes there are.
static uint32_t find_classes(Alike *a) {
    uint32_t n_classes = 0;
    memset(a->table, 0, a->table_size * sizeof *a->table);
    for (uint32_t i = 0; i < a->n_nodes; i++) {
        const uint32_t *words = a->words + a->first[i], count = a->first[i + 1] - a->first[i];
        uint32_t at = (uint32_t)hash_bytes(words, count * sizeof *words) & (a->table_size - 1);
        for (; a->table[at]; at = (at + 1) & (a->table_size - 1)) {
            uint32_t other = a->table[at] - 1, other_count = a->first[other + 1] - a->first[other];
            if (other_count == count && memcmp(a->words + a->first[other], words, count * sizeof *words) == 0)
                break;
        }
        if (!a->table[at]) a->table[at] = i + 1, n_classes++;
        a->classes[i] = a->table[at] - 1;
    }
    return n_classes;
}

bool grammar_find_alike(const Node *nodes, uint32_t n_nodes, LangMaker *work, uint32_t *same, Arena scratch,
                        Error *err) {
    Alike a = {.nodes = nodes, .n_nodes = n_nodes, .arena = &scratch, .work = work, .err = err};
    a.classes = same;
    a.table_size = 64;
    while (a.table_size < 2 * n_nodes)
        a.table_size *= 2;
    a.leaf = arena_new(&scratch, uint32_t, n_nodes);
    a.first = arena_new(&scratch, uint32_t, n_nodes + 1ull);
    a.table = arena_new(&scratch, uint32_t, a.table_size);
    if (!a.leaf || !a.first || !a.table) return lang_no_memory(err);
    memset(same, 0, n_nodes * sizeof *same);
    if (!find_leaves(&a)) return false;
    uint64_t looks = 0;
    for (uint32_t n_before = 0, n_now = 1; n_now != n_before;) {
        looks += n_nodes;
        if (looks > ALIKE_LOOKS_MAX) {
            for (uint32_t i = 0; i < n_nodes; i++)
                same[i] = i;
            return true;
        }
        a.n_words = 0;
        for (uint32_t i = 0; i < n_nodes && !a.failed; i++)
            put_node(&a, i);
        if (a.failed || !lang_work(work, n_nodes + a.n_words / ALIKE_WORDS_WORK, err)) return false;
        a.first[n_nodes] = a.n_words;
        n_before = n_now;
        n_now = find_classes(&a);
    }
    return true;
}
