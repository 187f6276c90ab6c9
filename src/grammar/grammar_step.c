#include "grammar/grammar_unique.h"

static uint64_t item_words(const Grammar *g, PoolCounts max) {
    return g->texts_left ? (max.frames + TOKEN_BYTES_MAX) / sizeof(uint32_t) + 4 : 0;
}

uint64_t step_bytes(const Grammar *g, PoolCounts max) {
    return GRAMMAR_READINGS_MAX * sizeof(Reading) + GRAMMAR_WORK_MAX * sizeof(StepTask) +
           STEP_SEEN * sizeof(StepSeen) + item_words(g, max) * sizeof(uint32_t) +
           g->objects_max * (sizeof(uint32_t) + sizeof(PlaceRange)) + 64;
}

void step_move(Step *s, const Grammar *g) {
    s->nodes = g->nodes;
    s->texts_left = g->texts_left;
}

bool step_init(Step *s, const Grammar *g, Pool *pool, Arena *arena) {
    *s = (Step){.pool = pool};
    step_move(s, g);
    if (g->texts_left) {
        s->item = arena_new_dirty(arena, uint32_t, item_words(g, pool->max));
        if (!s->item) return false;
    }
    if (g->objects_max) {
        s->words = arena_new_dirty(arena, uint32_t, g->objects_max);
        s->ranges = arena_new_dirty(arena, PlaceRange, g->objects_max);
        if (!s->words || !s->ranges) return false;
    }
    s->readings = arena_new_dirty(arena, Reading, GRAMMAR_READINGS_MAX);
    s->tasks = arena_new_dirty(arena, StepTask, GRAMMAR_WORK_MAX);
    s->seen = arena_new(arena, StepSeen, STEP_SEEN);
    return s->readings && s->tasks && s->seen;
}

void step_begin(Step *s) {
    s->work += 1ull + s->n + s->n_tasks;
    s->status = STEP_OK;
    s->may_end = false;
    s->n = 0;
    s->n_tasks = 0;
    if (++s->stamp == 0) {
        memset(s->seen, 0, STEP_SEEN * sizeof *s->seen);
        s->stamp = 1;
    }
}

// Whether it is new in this step. The table is never full: tasks and readings are fewer than half of it.
static bool step_is_new(Step *s, uint32_t stack, uint32_t node, uint32_t what) {
    uint64_t h = ((uint64_t)stack << 32 | node) * 0x9E3779B97F4A7C15u;
    h = (h ^ (h >> 32) ^ what) * 0x9E3779B97F4A7C15u;
    for (uint32_t i = (uint32_t)(h >> 40);; i++) {
        StepSeen *seen = &s->seen[i % STEP_SEEN];
        if (seen->stamp != s->stamp) {
            *seen = (StepSeen){s->stamp, stack, node, what};
            return true;
        }
        if (seen->stack == stack && seen->node == node && seen->what == what) return false;
    }
}

static void step_add_task(Step *s, uint32_t stack, GrammarNode node, bool read) {
    if (s->status != STEP_OK) return;
    if (s->n_tasks == GRAMMAR_WORK_MAX) {
        step_fail(s, STEP_AMBIGUOUS);
        return;
    }
    if (!step_is_new(s, stack, node, read)) return;
    s->tasks[s->n_tasks++] = (StepTask){stack, node, read};
}

static void step_add_reading(Step *s, uint32_t stack, GrammarNode node, uint32_t dfa_state) {
    if (s->status != STEP_OK) return;
    if (s->n == GRAMMAR_READINGS_MAX) {
        step_fail(s, STEP_AMBIGUOUS);
        return;
    }
    if (!step_is_new(s, stack, node, dfa_state + 2)) return;
    s->readings[s->n++] = (Reading){stack, node, dfa_state};
}

uint32_t step_push(Step *s, uint32_t parent, GrammarNode node, uint32_t at, uint32_t set) {
    uint32_t frame = pool_frame(s->pool, parent, node, at, set);
    if (frame == POOL_NONE) step_fail(s, STEP_FULL);
    return frame == POOL_NONE ? 0 : frame;
}

bool step_fits(const Step *s, uint32_t stack, GrammarNode node) {
    return s->pool->frames[stack].depth + s->nodes[node].need <= GRAMMAR_DEPTH_MAX;
}

void step_return(Step *s, uint32_t stack, bool read) {
    if (stack == 0) s->may_end = true;
    else step_add_task(s, stack, GRAMMAR_NEVER, read);
}

void step_enter(Step *s, uint32_t stack, GrammarNode node, bool read) {
    if (node == GRAMMAR_EMPTY) step_return(s, stack, read);
    else if (node != GRAMMAR_NEVER && step_fits(s, stack, node)) step_add_task(s, stack, node, read);
}

// The last part takes its sequence's place on the stack: lists that go on at their end stay flat.
static void step_part(Step *s, uint32_t stack, GrammarNode id, uint32_t part, bool read) {
    const Node *node = &s->nodes[id];
    uint32_t above = part + 1 < node->count ? step_push(s, stack, id, part, 0) : stack;
    step_enter(s, above, node->parts[part], read);
}

// A repetition that has been there `count` times, or at least so often where more make no difference.
static void step_repeat(Step *s, uint32_t stack, GrammarNode id, uint32_t count, bool read) {
    const Node *node = &s->nodes[id];
    if (count >= node->min) step_return(s, stack, read);
    if (count >= node->max) return;
    if (node->max == GRAMMAR_UNBOUNDED && count > node->min) count = node->min;
    if (s->pool->frames[stack].depth + 1 + s->nodes[node->body].need > GRAMMAR_DEPTH_MAX) return;
    step_enter(s, step_push(s, stack, id, count, 0), node->body, false);
}

static void step_do_enter(Step *s, const StepTask *task) {
    const Node *node = &s->nodes[task->node];
    switch ((NodeKind)node->kind) {
    case NODE_NEVER: return;
    case NODE_EMPTY: step_return(s, task->stack, task->read); return;
    case NODE_LEAF:
        step_add_reading(s, task->stack, task->node, 0);
        if (node->dfa->accepts[0]) step_return(s, task->stack, task->read);
        return;
    case NODE_TOKENS: step_add_reading(s, task->stack, task->node, 0); return;
    case NODE_SEQUENCE: step_part(s, task->stack, task->node, 0, task->read); return;
    case NODE_CHOICE:
        for (uint32_t i = 0; i < node->count; i++)
            step_enter(s, task->stack, node->parts[i], task->read);
        return;
    case NODE_REPEAT: step_repeat(s, task->stack, task->node, 0, task->read); return;
    case NODE_RULE: step_enter(s, task->stack, node->body, task->read); return;
    case NODE_MEMBERS: step_enter_members(s, task->stack, task->node); return;
    case NODE_ITEMS: step_enter_items(s, task->stack, task->node); return;
    case NODE_OBJECTS: step_enter_objects(s, task->stack, task->node); return;
    }
}

static void step_do_return(Step *s, uint32_t stack, bool read) {
    Frame frame = s->pool->frames[stack];
    switch ((NodeKind)s->nodes[frame.node].kind) {
    case NODE_SEQUENCE: step_part(s, frame.parent, frame.node, frame.at + 1, read); return;
    case NODE_REPEAT:
        if (read) step_repeat(s, frame.parent, frame.node, frame.at + 1, true);
        return;
    case NODE_MEMBERS: step_return_members(s, frame, read); return;
    case NODE_OBJECTS: step_return_objects(s, frame, read); return;
    case NODE_ITEMS:
        if (frame_phase(&frame) != AT_BYTE || unique_end(s, stack, &frame)) step_return_items(s, frame, read);
        return;
    default: return;
    }
}

void step_close(Step *s) {
    for (uint32_t i = 0; i < s->n_tasks && s->status == STEP_OK; i++) {
        StepTask task = s->tasks[i];
        if (task.node == GRAMMAR_NEVER) step_do_return(s, task.stack, task.read);
        else step_do_enter(s, &task);
    }
}

void step_byte(Step *s, const Reading *from, uint32_t count, uint8_t byte) {
    for (uint32_t i = 0; i < count; i++) {
        const Node *node = &s->nodes[from[i].node];
        if (node->kind != NODE_LEAF) continue;
        uint32_t next = dfa_step(node->dfa, from[i].dfa_state, byte);
        uint32_t stack = from[i].stack;
        if (next == DFA_NONE) continue;
        if (unique_is_item(s, &from[i])) {
            stack = unique_push(s, stack, byte);
            if (!unique_can_differ(s, stack, from[i].node, next)) continue;
        }
        step_add_reading(s, stack, from[i].node, next);
        if (dfa_may_end(node->dfa, next)) step_return(s, stack, true);
    }
}

GrammarState step_state(Step *s) {
    if (s->status != STEP_OK) return s->status == STEP_FULL ? GRAMMAR_FULL : GRAMMAR_AMBIGUOUS;
    if (s->n == 0 && !s->may_end) return GRAMMAR_REFUSED;
    uint32_t state = pool_state(s->pool, s->readings, s->n, s->may_end);
    return state == POOL_NONE ? GRAMMAR_FULL : state;
}
