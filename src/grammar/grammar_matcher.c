#include "grammar/grammar_unique.h"

#include <assert.h>

// Items that must differ are kept, a set for each, and a frame for each byte of the present one.
static PoolCounts matcher_pool(const Grammar *g) {
    PoolCounts max = {
        .frames = 1 << 16, .sets = 1 << 14, .states = 1 << 15, .readings = 1 << 18, .set_words = 1 << 17};
    if (g->texts_left) max.frames *= 2, max.sets *= 2, max.set_words *= 2;
    if (g->objects_max) max.set_words *= 4; // a set has a word for each object
    return max;
}

uint64_t grammar_matcher_bytes_min(const Grammar *g, const TokenTrie *trie) {
    PoolCounts pool = matcher_pool(g);
    uint64_t nodes = g->n_nodes * (1 + sizeof(uint32_t) + sizeof(ByteSet) + 4 * sizeof(uint32_t));
    return pool_bytes(pool) + step_bytes(g, pool) + GRAMMAR_READINGS_MAX * sizeof(Reading) + nodes +
           mask_bytes_min(g, trie) + unique_bytes(g, trie) + 4096;
}

static uint8_t node_refers_to(const Grammar *g, GrammarNode id) {
    const Node *node = &g->nodes[id];
    if (node->kind == NODE_ITEMS && node->items->unique) return POOL_REFERS_TO_FRAME;
    bool has_set = node->kind == NODE_MEMBERS || node->kind == NODE_OBJECTS;
    return has_set || id == UNIQUE_ITEM ? POOL_REFERS_TO_SET : POOL_REFERS_TO_NONE;
}

static GrammarState matcher_start(GrammarMatcher *m) {
    step_begin(&m->step);
    step_enter(&m->step, 0, m->g->root, false);
    step_close(&m->step);
    return step_state(&m->step);
}

// Tokens that the vocabulary does not have would be dead ends; behind an end token nothing comes.
static bool matcher_check_tokens(const Grammar *g, const TokenTrie *trie, Error *err) {
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        const Node *node = &g->nodes[i];
        for (uint32_t k = 0; node->kind == NODE_TOKENS && k < node->count; k++) {
            int32_t token = node->tokens[k];
            if (token < 0 || (uint32_t)token >= trie->n_named)
                return error_set(err, ERR_INVALID_REQUEST,
                                 "the grammar names token %d, and the vocabulary has %u", token,
                                 trie->n_named);
            if (!node->except && token_trie_is_end(trie, token))
                return error_set(
                    err, ERR_INVALID_REQUEST,
                    "the grammar names token %d, which ends a text: leave it out, a text ends where "
                    "the grammar does",
                    token);
        }
    }
    return true;
}

bool grammar_matcher_new(const Grammar *g, const TokenTrie *trie, Arena memory, GrammarMatcher **out,
                         Error *err) {
    if (!matcher_check_tokens(g, trie, err)) return false;
    GrammarMatcher *m = arena_new(&memory, GrammarMatcher, 1);
    if (!m) goto full;
    *m = (GrammarMatcher){.g = g, .trie = trie};
    memcpy(m->digest, g->digest, sizeof m->digest);
    m->readings = arena_new_dirty(&memory, Reading, GRAMMAR_READINGS_MAX);
    m->refers_to = arena_new(&memory, uint8_t, g->n_nodes);
    if (!m->readings || !m->refers_to || !pool_init(&m->pool, matcher_pool(g), &memory) ||
        !step_init(&m->step, g, &m->pool, &memory) || !unique_init(m, &memory) || !mask_init(m, &memory))
        goto full;
    for (uint32_t i = 0; i < g->n_nodes; i++)
        m->refers_to[i] = node_refers_to(g, i);
    m->start = matcher_start(m); // state 0: pool_keep never moves it
    if (!grammar_is_state(m->start))
        return error_set(err, ERR_TOO_LARGE, "the grammar can begin in more than %d ways",
                         GRAMMAR_READINGS_MAX);
    *out = m;
    return true;
full:
    return error_set(err, ERR_NO_MEMORY, "no memory for a grammar's states and masks");
}

bool grammar_matcher_fits(const GrammarMatcher *m, const Grammar *g) {
    return memcmp(m->digest, g->digest, sizeof m->digest) == 0;
}

void grammar_matcher_move(GrammarMatcher *m, const Grammar *g) {
    assert(grammar_matcher_fits(m, g));
    m->g = g;
    step_move(&m->step, g);
}

GrammarState grammar_start(GrammarMatcher *m) {
    return m->start;
}

static const Reading *matcher_readings(const GrammarMatcher *m, GrammarState state, uint32_t *count) {
    assert(state < m->pool.n.states);
    const PoolState *s = &m->pool.states[state];
    *count = s->count;
    return m->pool.readings + s->first;
}

// Where the first and the last reading of the step part, or the nearest node with a name around that.
static GrammarNode find_ambiguous(const GrammarMatcher *m) {
    const Frame *frames = m->pool.frames;
    if (m->step.n < 2) return GRAMMAR_NEVER;
    uint32_t a = m->step.readings[0].stack, b = m->step.readings[m->step.n - 1].stack, at = a;
    while (a != b) { // a parent's number is lower than its child's
        at = (uint32_t)max_u64(a, b);
        if (a > b) a = frames[a].parent;
        else b = frames[b].parent;
    }
    while (at && !m->g->nodes[frames[at].node].name)
        at = frames[at].parent;
    return at ? frames[at].node : GRAMMAR_NEVER;
}

Str grammar_ambiguous_name(const GrammarMatcher *m) {
    const Node *node = &m->g->nodes[m->ambiguous];
    return node->name ? (Str){node->name, node->name_bytes} : (Str){0};
}

// Ends a step: the state, or what was added is taken back.
static GrammarState matcher_end_step(GrammarMatcher *m, PoolCounts mark) {
    GrammarState state = step_state(&m->step);
    if (state == GRAMMAR_AMBIGUOUS) m->ambiguous = find_ambiguous(m);
    if (!grammar_is_state(state)) pool_rewind(&m->pool, mark);
    if (m->step.n > m->figures.readings_max) m->figures.readings_max = m->step.n;
    return state;
}

GrammarState matcher_step_byte(GrammarMatcher *m, GrammarState state, uint8_t byte) {
    uint32_t count;
    const Reading *from = matcher_readings(m, state, &count);
    PoolCounts mark = pool_mark(&m->pool);
    step_begin(&m->step);
    step_byte(&m->step, from, count, byte);
    step_close(&m->step);
    return matcher_end_step(m, mark);
}

// All bytes but the last one: from the state's readings to m->readings. False where none is left.
static bool matcher_run(GrammarMatcher *m, const Reading *from, uint32_t *count, Str bytes) {
    for (size_t i = 0; i < bytes.len; i++) {
        step_begin(&m->step);
        step_byte(&m->step, i ? m->readings : from, *count, (uint8_t)bytes.ptr[i]);
        step_close(&m->step);
        if (m->step.status != STEP_OK) return false;
        *count = m->step.n;
        if (*count == 0) return false;
        memcpy(m->readings, m->step.readings, *count * sizeof *m->readings);
    }
    return true;
}

static bool node_takes_token(const TokenTrie *trie, const Node *node, int32_t token) {
    if (node->except && ((uint32_t)token >= trie->n_named || token_trie_is_end(trie, token))) return false;
    uint32_t from = 0, to = node->count;
    while (from < to) {
        uint32_t middle = from + (to - from) / 2;
        if (node->tokens[middle] < token) from = middle + 1;
        else to = middle;
    }
    return (from < node->count && node->tokens[from] == token) != node->except;
}

// Nodes of tokens that name this one.
static void matcher_step_named(GrammarMatcher *m, GrammarState state, int32_t token) {
    uint32_t count;
    const Reading *from = matcher_readings(m, state, &count);
    for (uint32_t i = 0; i < count; i++) {
        const Node *node = &m->g->nodes[from[i].node];
        if (node->kind == NODE_TOKENS && node_takes_token(m->trie, node, token))
            step_return(&m->step, from[i].stack, true);
    }
}

// One step over bytes, and over a token unless it is TOKEN_NONE.
static GrammarState matcher_step(GrammarMatcher *m, GrammarState state, Str bytes, int32_t token) {
    PoolCounts mark = pool_mark(&m->pool);
    uint32_t count;
    const Reading *from = matcher_readings(m, state, &count);
    bool runs = bytes.len > 0 && matcher_run(m, from, &count, str_slice(bytes, 0, bytes.len - 1));
    if (bytes.len > 0 && !runs && m->step.status != STEP_OK) return matcher_end_step(m, mark);
    step_begin(&m->step);
    if (runs)
        step_byte(&m->step, bytes.len > 1 ? m->readings : from, count, (uint8_t)bytes.ptr[bytes.len - 1]);
    if (token != TOKEN_NONE) matcher_step_named(m, state, token);
    step_close(&m->step);
    return matcher_end_step(m, mark);
}

GrammarState grammar_step(GrammarMatcher *m, GrammarState state, int32_t token) {
    if (token < 0 || (uint32_t)token >= m->trie->n_tokens) return GRAMMAR_REFUSED;
    bool ends = token_trie_is_end(m->trie, token);
    GrammarState next = matcher_step(m, state, ends ? (Str){0} : m->trie->pieces[token], token);
    return next == GRAMMAR_REFUSED && ends && grammar_may_end(m, state) ? GRAMMAR_ENDED : next;
}

GrammarState grammar_step_bytes(GrammarMatcher *m, GrammarState state, Str bytes) {
    return bytes.len ? matcher_step(m, state, bytes, TOKEN_NONE) : state;
}

bool grammar_may_end(const GrammarMatcher *m, GrammarState state) {
    assert(state < m->pool.n.states);
    return m->pool.states[state].may_end;
}

bool grammar_keep(GrammarMatcher *m, GrammarState *states[], uint32_t count) {
    mask_begin_keep(m, states, count);
    pool_keep(&m->pool, states, count, m->refers_to);
    mask_end_keep(m, states, count);
    const PoolCounts *n = &m->pool.n, *max = &m->pool.max;
    return n->frames <= max->frames / 2 && n->sets <= max->sets / 2 && n->states <= max->states / 2 &&
           n->readings <= max->readings / 2 && n->set_words <= max->set_words / 2;
}

GrammarFigures grammar_figures(const GrammarMatcher *m) {
    GrammarFigures f = m->figures;
    f.states = m->pool.n.states;
    f.frames = m->pool.n.frames;
    return f;
}
