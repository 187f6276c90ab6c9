// Merges leaves: what is regular (no rule within itself but at its very end, no objects, arrays or tokens)
// becomes one automaton, by stepping through it with every byte until no new state comes. Masks are found per
// leaf, so a grammar that is written character by character needs it.
#include "grammar/grammar_compile.h"
#include "grammar/grammar_step.h"
#include "grammar/lang_internal.h"

enum {
    // How far a rule's own use is looked for, and in how many parts of a node. Beyond, the rule stays a rule.
    TAIL_DEPTH_MAX = 6,
    TAIL_PARTS_MAX = 8,
    MERGE_ALTERNATIVES = 256,     // that are merged at once; more are merged in groups first
    MERGE_STATES_MAX = 1 << 14,   // of one automaton
    MERGE_WORK_MAX = 1 << 22,     // readings stepped, of one grammar; what is left then stays as it is
    MERGE_ONE_WORK_MAX = 1 << 20, // … of one automaton, so that one that fails leaves work for others
    MERGE_LEAF_WORK = 4,          // … that take as long as a leaf in merge_classes
    MERGE_STEPS = 10,             // steps of LangMaker's work that take as long as a reading stepped
};

static const PoolCounts MERGE_POOL = {
    .frames = 1 << 14, .sets = 1, .states = 1 << 15, .readings = 1 << 17, .set_words = 1};

typedef struct {
    Grammar *g;
    Node *nodes;
    uint32_t n_nodes, nodes_cap;
    Arena *arena;
    Arena scratch;
    LangMaker *work; // what compiling may take
    bool failed;     // *err is set
    Error *err;
    uint8_t *regular; // [nodes_cap]
    uint8_t *queued;  // [nodes_cap]
    uint32_t *seen;   // [nodes_cap] the turn in which a node was looked at
    uint32_t turn;
    GrammarNode *queue; // [nodes_cap] nodes to be looked at
    uint32_t n_queue;
    GrammarNode *below; // [nodes_cap] for merge_classes
    Pool pool;
    Step step;
    uint64_t stepped; // readings, or what takes as long
} Merge;

static bool merge_no_memory(Merge *m) {
    m->failed = true;
    return error_set(m->err, ERR_NO_MEMORY, "no memory to merge a grammar of %u nodes", m->n_nodes);
}

// Counts what is to be done next. False: merging has taken its share, or compiling must end (m->failed).
static bool merge_count(Merge *m, uint64_t readings) {
    m->stepped += readings;
    if (!lang_work(m->work, readings * MERGE_STEPS, m->err)) m->failed = true;
    return !m->failed && m->stepped < MERGE_WORK_MAX;
}

// ---- what is regular ----

typedef struct {
    NodeEdges edges;
    uint32_t *left, *queue;
    uint32_t n_queue;
} Regular;

// Takes up everything that is regular because what is in the queue is.
static void regular_spread(Merge *m, Regular *r, uint32_t from) {
    for (uint32_t q = from; q < r->n_queue; q++) {
        m->regular[r->queue[q]] = 1;
        for (uint32_t e = r->edges.first[r->queue[q]]; e < r->edges.first[r->queue[q] + 1]; e++) {
            uint32_t parent = r->edges.to[e].parent;
            NodeKind kind = (NodeKind)m->nodes[parent].kind;
            if (kind == NODE_MEMBERS || kind == NODE_ITEMS || m->regular[parent]) continue;
            if (--r->left[parent] == 0) r->queue[r->n_queue++] = parent;
        }
    }
}

// Whether a node is regular but for the rule at its very end, where the rule only begins again.
static bool regular_but_for_tail(Merge *m, GrammarNode id, GrammarNode rule, bool tail, int depth) {
    const Node *node = &m->nodes[id];
    if (m->regular[id]) return true;
    if (!lang_work(m->work, 1, m->err)) m->failed = true;
    if (m->failed) return false;
    if (id == rule) return tail;
    if (depth == 0 || node->count > TAIL_PARTS_MAX) return false;
    if (node->kind == NODE_RULE) return regular_but_for_tail(m, node->body, rule, tail, depth - 1);
    if (node->kind != NODE_SEQUENCE && node->kind != NODE_CHOICE) return false;
    for (uint32_t i = 0; i < node->count; i++) {
        bool last = tail && (node->kind == NODE_CHOICE || i + 1 == node->count);
        if (!regular_but_for_tail(m, node->parts[i], rule, last, depth - 1)) return false;
    }
    return true;
}

static bool merge_find_regular(Merge *m, Arena scratch) {
    Regular r = {.left = arena_new(&scratch, uint32_t, m->n_nodes)};
    r.queue = arena_new(&scratch, uint32_t, m->n_nodes);
    if (!r.left || !r.queue || !node_edges(m->nodes, m->n_nodes, &scratch, &r.edges))
        return merge_no_memory(m);
    for (uint32_t i = 1; i < m->n_nodes; i++) {
        NodeKind kind = (NodeKind)m->nodes[i].kind;
        r.left[i] = kind == NODE_SEQUENCE || kind == NODE_CHOICE ? m->nodes[i].count : 1;
        if (kind == NODE_LEAF || kind == NODE_EMPTY) r.queue[r.n_queue++] = i;
    }
    regular_spread(m, &r, 0);
    for (uint32_t i = 1; i < m->n_nodes; i++) {
        if (m->nodes[i].kind != NODE_RULE || m->regular[i]) continue;
        if (!regular_but_for_tail(m, m->nodes[i].body, i, true, TAIL_DEPTH_MAX)) continue;
        r.queue[r.n_queue++] = i;
        regular_spread(m, &r, r.n_queue - 1);
    }
    return !m->failed;
}

// ---- one automaton ----

// Bytes that all leaves below a node treat alike. Returns how many classes there are, 0 where that takes too
// much work; first[c] is one of its bytes.
static uint32_t merge_classes(Merge *m, GrammarNode root, uint8_t class_of[256], uint8_t first[256]) {
    uint32_t n_below = 0, n_classes = 1;
    GrammarNode child;
    m->turn++;
    m->below[n_below++] = root;
    m->seen[root] = m->turn;
    memset(class_of, 0, 256);
    uint64_t stepped = m->stepped;
    for (uint32_t i = 0; i < n_below; i++) {
        const Node *node = &m->nodes[m->below[i]];
        uint32_t n_parts = node->kind == NODE_SEQUENCE || node->kind == NODE_CHOICE ? node->count : 1;
        uint64_t ahead = node->kind == NODE_LEAF ? MERGE_LEAF_WORK : div_up(n_parts, MERGE_STEPS);
        if (!merge_count(m, ahead) || m->stepped - stepped > MERGE_ONE_WORK_MAX) return 0;
        for (uint32_t place = 0; node_child(node, place, &child); place++)
            if (m->seen[child] != m->turn) m->seen[child] = m->turn, m->below[n_below++] = child;
        if (node->kind != NODE_LEAF) continue;
        // A byte's class is now the pair of its class so far and the leaf's.
        uint32_t pairs[256], n_pairs = 0;
        for (int byte = 0; byte < 256; byte++) {
            uint32_t pair = (uint32_t)class_of[byte] << 8 | node->dfa->class_of[byte], k = 0;
            while (k < n_pairs && pairs[k] != pair)
                k++;
            if (k == n_pairs) pairs[n_pairs++] = pair;
            class_of[byte] = (uint8_t)k;
        }
        n_classes = n_pairs;
    }
    for (int byte = 255; byte >= 0; byte--)
        first[class_of[byte]] = (uint8_t)byte;
    return n_classes;
}

static bool merge_step(Merge *m, LangTable *t, uint32_t state, uint32_t class, uint8_t byte) {
    const PoolState *from = &m->pool.states[state];
    if (!merge_count(m, from->count + 1ull)) return false;
    step_begin(&m->step);
    step_byte(&m->step, m->pool.readings + from->first, from->count, byte);
    step_close(&m->step);
    GrammarState next = step_state(&m->step);
    if (next == GRAMMAR_REFUSED) return true;
    if (!grammar_is_state(next) || next >= t->cap) return false;
    t->next[(size_t)state * t->n_classes + class] = next;
    return merge_count(m, m->step.n_tasks);
}

// Fills the table with all states; false where there are too many.
static bool merge_states(Merge *m, GrammarNode root, LangTable *t, const uint8_t *first) {
    uint64_t stepped = m->stepped;
    pool_rewind(&m->pool, (PoolCounts){.frames = 1, .sets = 1});
    step_begin(&m->step);
    step_enter(&m->step, 0, root, false);
    step_close(&m->step);
    if (!grammar_is_state(step_state(&m->step))) return false;
    memset(t->next, 0xFF, (size_t)t->cap * t->n_classes * sizeof *t->next);
    for (uint32_t state = 0; state < m->pool.n.states; state++) {
        t->accepts[state] = m->pool.states[state].may_end != 0;
        for (uint32_t c = 0; c < t->n_classes; c++)
            if (!merge_step(m, t, state, c, first[c]) || m->stepped - stepped > MERGE_ONE_WORK_MAX)
                return false;
    }
    t->n_states = m->pool.n.states;
    return true;
}

// The minimal automaton of the table in m->arena; NULL: m->failed. The start's block becomes state 0.
static const Dfa *merge_minimal(Merge *m, const LangTable *t, const uint8_t *class_of, Arena scratch) {
    uint32_t *block = arena_new(&scratch, uint32_t, t->n_states), n_blocks;
    Dfa *dfa = arena_new(m->arena, Dfa, 1);
    bool has_memory = (block && dfa) || merge_no_memory(m);
    if (!has_memory || !lang_minimise(m->work, scratch, t, block, &n_blocks, m->err)) {
        m->failed = true;
        return NULL;
    }
    uint32_t start = block[0];
    uint32_t *next = arena_new(m->arena, uint32_t, (uint64_t)n_blocks * t->n_classes);
    uint8_t *accepts = arena_new(m->arena, uint8_t, n_blocks);
    if (!next || !accepts) {
        (void)merge_no_memory(m);
        return NULL;
    }
    for (uint32_t s = 0; s < t->n_states; s++)
        block[s] = block[s] == start ? 0 : block[s] == 0 ? start : block[s];
    for (uint32_t s = 0; s < t->n_states; s++) {
        accepts[block[s]] = t->accepts[s];
        for (uint32_t c = 0; c < t->n_classes; c++) {
            uint32_t to = t->next[(size_t)s * t->n_classes + c];
            next[(size_t)block[s] * t->n_classes + c] = to == LANG_NONE ? DFA_NONE : block[to];
        }
    }
    *dfa = (Dfa){.n_states = n_blocks, .n_classes = t->n_classes, .next = next, .accepts = accepts};
    memcpy(dfa->class_of, class_of, 256);
    return dfa;
}

// Makes a regular node a leaf; false where its automaton would be too large.
static bool merge_node(Merge *m, GrammarNode id) {
    uint8_t class_of[256], first[256];
    Arena scratch = m->scratch;
    LangTable t = {.n_classes = merge_classes(m, id, class_of, first)};
    if (t.n_classes == 0) return false;
    // An eighth of the memory for the table: minimising takes more than that.
    t.cap = (uint32_t)min_u64(MERGE_STATES_MAX, arena_left(&scratch) / 8 / (t.n_classes * sizeof *t.next));
    t.next = arena_new_dirty(&scratch, uint32_t, (uint64_t)t.cap * t.n_classes);
    t.accepts = arena_new_dirty(&scratch, uint8_t, t.cap);
    if (!t.next || !t.accepts) return merge_no_memory(m);
    if (!merge_states(m, id, &t, first)) return false;
    const Dfa *dfa = merge_minimal(m, &t, class_of, scratch);
    if (!dfa) return false;
    Node *node = &m->nodes[id];
    *node = (Node){.kind = NODE_LEAF, .nullable = node->nullable, .dfa = dfa};
    return true;
}

// ---- all of a grammar ----

static void merge_queue(Merge *m, GrammarNode id) {
    if (m->nodes[id].kind <= NODE_LEAF || m->queued[id]) return;
    m->queued[id] = 1;
    m->queue[m->n_queue++] = id;
}

// A node of several regular parts, made a leaf; GRAMMAR_NEVER where that cannot be.
static GrammarNode merge_parts(Merge *m, NodeKind kind, const GrammarNode *parts, uint32_t count) {
    bool nullable = kind == NODE_SEQUENCE;
    for (uint32_t i = 0; i < count; i++) {
        bool part = m->nodes[parts[i]].nullable;
        nullable = kind == NODE_SEQUENCE ? nullable && part : nullable || part;
    }
    GrammarNode id = m->n_nodes++;
    m->nodes[id] = (Node){.kind = (uint8_t)kind, .nullable = nullable, .count = count, .parts = parts};
    for (uint32_t i = 0; i < count; i++) {
        uint32_t frames = m->nodes[parts[i]].need;
        frames += kind == NODE_SEQUENCE && i + 1 < count;
        if (frames > m->nodes[id].need) m->nodes[id].need = (uint16_t)frames;
    }
    return merge_node(m, id) ? id : GRAMMAR_NEVER;
}

// Runs of regular parts become one part each.
static void merge_sequence(Merge *m, Node *node, bool whole_failed) {
    GrammarNode *parts = arena_new(m->arena, GrammarNode, node->count);
    uint32_t n = 0;
    if (!parts) (void)merge_no_memory(m);
    for (uint32_t i = 0; i < node->count && !m->failed;) {
        uint32_t end = i;
        while (end < node->count && m->regular[node->parts[end]])
            end++;
        GrammarNode merged = GRAMMAR_NEVER;
        if (end - i >= 2 && !whole_failed) merged = merge_parts(m, NODE_SEQUENCE, node->parts + i, end - i);
        if (merged != GRAMMAR_NEVER) {
            parts[n++] = merged;
            i = end;
            continue;
        }
        for (end = end > i ? end : i + 1; i < end; i++) {
            merge_queue(m, node->parts[i]);
            parts[n++] = node->parts[i];
        }
    }
    node->parts = parts;
    node->count = n;
}

// One leaf of any number of regular alternatives, or GRAMMAR_NEVER.
static GrammarNode merge_alternatives(Merge *m, const GrammarNode *parts, uint32_t count) {
    if (count <= MERGE_ALTERNATIVES) return merge_parts(m, NODE_CHOICE, parts, count);
    GrammarNode *groups = arena_new(m->arena, GrammarNode, MERGE_ALTERNATIVES);
    if (!groups) {
        (void)merge_no_memory(m);
        return GRAMMAR_NEVER;
    }
    uint32_t group = (uint32_t)div_up(count, MERGE_ALTERNATIVES), n = 0;
    for (uint32_t i = 0; i < count; i += group, n++) {
        groups[n] = merge_alternatives(m, parts + i, (uint32_t)min_u64(group, count - i));
        if (groups[n] == GRAMMAR_NEVER) return GRAMMAR_NEVER;
    }
    return merge_alternatives(m, groups, n);
}

// All regular alternatives become one.
static void merge_choice(Merge *m, Node *node, bool whole_failed) {
    GrammarNode *regular = arena_new(m->arena, GrammarNode, node->count);
    GrammarNode *parts = arena_new(m->arena, GrammarNode, node->count);
    uint32_t n_regular = 0, n = 0;
    if (!regular || !parts) {
        (void)merge_no_memory(m);
        return;
    }
    for (uint32_t i = 0; i < node->count; i++)
        if (m->regular[node->parts[i]]) regular[n_regular++] = node->parts[i];
    GrammarNode merged = GRAMMAR_NEVER;
    if (n_regular >= 2 && !whole_failed) merged = merge_alternatives(m, regular, n_regular);
    if (merged != GRAMMAR_NEVER) parts[n++] = merged;
    for (uint32_t i = 0; i < node->count; i++) {
        if (merged != GRAMMAR_NEVER && m->regular[node->parts[i]]) continue;
        merge_queue(m, node->parts[i]);
        parts[n++] = node->parts[i];
    }
    node->parts = parts;
    node->count = n;
}

static void merge_look(Merge *m, GrammarNode id) {
    Node *node = &m->nodes[id];
    GrammarNode child;
    bool in_groups = node->kind == NODE_CHOICE && node->count > MERGE_ALTERNATIVES;
    bool regular = m->regular[id] && !in_groups;
    if (regular && merge_node(m, id)) return;
    if (node->kind == NODE_SEQUENCE) {
        merge_sequence(m, node, regular);
    } else if (node->kind == NODE_CHOICE) {
        merge_choice(m, node, regular);
    } else {
        for (uint32_t place = 0; node_child(node, place, &child); place++)
            merge_queue(m, child);
    }
}

bool grammar_merge(Grammar *g, LangMaker *work, Arena *arena, Arena scratch, Error *err) {
    uint64_t n_parts = 0;
    for (uint32_t i = 0; i < g->n_nodes; i++)
        if (g->nodes[i].kind == NODE_SEQUENCE || g->nodes[i].kind == NODE_CHOICE)
            n_parts += g->nodes[i].count;
    Merge m = {.g = g, .n_nodes = g->n_nodes, .nodes_cap = (uint32_t)(g->n_nodes + n_parts + 1)};
    m.arena = arena;
    m.work = work;
    m.err = err;
    m.nodes = arena_new(arena, Node, m.nodes_cap);
    m.regular = arena_new(&scratch, uint8_t, m.nodes_cap);
    m.seen = arena_new(&scratch, uint32_t, m.nodes_cap);
    m.below = arena_new(&scratch, GrammarNode, m.nodes_cap);
    m.queued = arena_new(&scratch, uint8_t, m.nodes_cap);
    m.queue = arena_new(&scratch, GrammarNode, m.nodes_cap);
    if (!m.nodes || !m.regular || !m.queued || !m.seen || !m.below || !m.queue) return merge_no_memory(&m);
    memcpy(m.nodes, g->nodes, g->n_nodes * sizeof *m.nodes);
    g->nodes = m.nodes;
    if (!pool_init(&m.pool, MERGE_POOL, &scratch) || !step_init(&m.step, g, &m.pool, &scratch))
        return merge_no_memory(&m);
    m.scratch = scratch;
    if (!merge_find_regular(&m, scratch)) return false;
    merge_queue(&m, g->root);
    for (uint32_t q = 0; q < m.n_queue && !m.failed; q++)
        merge_look(&m, m.queue[q]);
    g->n_nodes = m.n_nodes;
    return !m.failed;
}
