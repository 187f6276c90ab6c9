#include "grammar/grammar_pool.h"

#include "base/hash.h"

uint64_t pool_bytes(PoolCounts max) {
    return max.frames * (sizeof(Frame) + 2 * sizeof(uint32_t)) +
           max.sets * (sizeof(PoolSet) + 2 * sizeof(uint32_t)) +
           max.states * (sizeof(PoolState) + 2 * sizeof(uint32_t)) + max.readings * sizeof(Reading) +
           max.set_words * sizeof(uint32_t) + 1024;
}

static void pool_clear_buckets(Pool *p) {
    memset(p->frame_buckets, 0xFF, p->max.frames * sizeof(uint32_t));
    memset(p->set_buckets, 0xFF, p->max.sets * sizeof(uint32_t));
    memset(p->state_buckets, 0xFF, p->max.states * sizeof(uint32_t));
}

bool pool_init(Pool *p, PoolCounts max, Arena *arena) {
    *p = (Pool){.n = {.frames = 1, .sets = 1}, .max = max};
    p->frames = arena_new_dirty(arena, Frame, max.frames);
    p->sets = arena_new_dirty(arena, PoolSet, max.sets);
    p->set_words = arena_new_dirty(arena, uint32_t, max.set_words);
    p->states = arena_new_dirty(arena, PoolState, max.states);
    p->readings = arena_new_dirty(arena, Reading, max.readings);
    p->frame_buckets = arena_new_dirty(arena, uint32_t, max.frames);
    p->set_buckets = arena_new_dirty(arena, uint32_t, max.sets);
    p->state_buckets = arena_new_dirty(arena, uint32_t, max.states);
    p->moved = arena_new_dirty(arena, uint32_t, max_u64(max.frames, max_u64(max.states, max.sets)));
    if (!p->frames || !p->sets || !p->set_words || !p->states || !p->readings || !p->frame_buckets ||
        !p->set_buckets || !p->state_buckets || !p->moved)
        return false;
    p->frames[0] = (Frame){.next = POOL_NONE};
    p->sets[0] = (PoolSet){.next = POOL_NONE};
    pool_clear_buckets(p);
    return true;
}

// ---- hashes ----

static uint64_t hash_mix(uint64_t h, uint64_t value) {
    h = (h ^ value) * 0x9E3779B97F4A7C15u;
    return h ^ (h >> 29);
}

static uint32_t frame_hash(const Pool *p, const Frame *f) {
    uint64_t h = hash_mix((uint64_t)f->parent << 32 | f->node, 1);
    h = hash_mix(h, (uint64_t)f->at << 32 | f->set);
    return (uint32_t)(h ^ h >> 32) & (p->max.frames - 1);
}

static uint32_t set_hash(const Pool *p, const uint32_t *words, uint32_t count) {
    return (uint32_t)hash_bytes(words, count * sizeof *words) & (p->max.sets - 1);
}

static uint32_t state_hash(const Pool *p, const Reading *readings, uint32_t count, bool may_end) {
    uint64_t h = may_end;
    for (uint32_t i = 0; i < count; i++)
        h = hash_mix(hash_mix(h, (uint64_t)readings[i].stack << 32 | readings[i].node),
                     readings[i].dfa_state);
    return (uint32_t)(h ^ h >> 32) & (p->max.states - 1);
}

// ---- adding ----

uint32_t pool_frame(Pool *p, uint32_t parent, uint32_t node, uint32_t at, uint32_t set) {
    Frame frame = {.parent = parent, .node = node, .at = at, .set = set};
    uint32_t *bucket = &p->frame_buckets[frame_hash(p, &frame)];
    for (uint32_t i = *bucket; i != POOL_NONE; i = p->frames[i].next) {
        const Frame *f = &p->frames[i];
        if (f->parent == parent && f->node == node && f->at == at && f->set == set) return i;
    }
    if (p->n.frames == p->max.frames) return POOL_NONE;
    frame.depth = p->frames[parent].depth + 1;
    frame.next = *bucket;
    p->frames[p->n.frames] = frame;
    return *bucket = p->n.frames++;
}

uint32_t pool_find_set(const Pool *p, const uint32_t *words, uint32_t count) {
    for (uint32_t i = p->set_buckets[set_hash(p, words, count)]; i != POOL_NONE; i = p->sets[i].next) {
        const PoolSet *s = &p->sets[i];
        if (s->count == count && memcmp(p->set_words + s->first, words, count * sizeof *words) == 0) return i;
    }
    return POOL_NONE;
}

uint32_t pool_set(Pool *p, const uint32_t *words, uint32_t count) {
    uint32_t known = pool_find_set(p, words, count);
    if (known != POOL_NONE) return known;
    if (p->n.sets == p->max.sets || count > p->max.set_words - p->n.set_words) return POOL_NONE;
    uint32_t *bucket = &p->set_buckets[set_hash(p, words, count)];
    p->sets[p->n.sets] = (PoolSet){.first = p->n.set_words, .count = count, .next = *bucket};
    memcpy(p->set_words + p->n.set_words, words, count * sizeof *words);
    p->n.set_words += count;
    return *bucket = p->n.sets++;
}

static bool reading_before(const Reading *a, const Reading *b) {
    if (a->stack != b->stack) return a->stack < b->stack;
    return a->node != b->node ? a->node < b->node : a->dfa_state < b->dfa_state;
}

// Few readings, and mostly in order already.
static void sort_readings(Reading *readings, uint32_t count) {
    for (uint32_t i = 1; i < count; i++) {
        Reading r = readings[i];
        uint32_t k = i;
        for (; k > 0 && reading_before(&r, &readings[k - 1]); k--)
            readings[k] = readings[k - 1];
        readings[k] = r;
    }
}

uint32_t pool_state(Pool *p, Reading *readings, uint32_t count, bool may_end) {
    sort_readings(readings, count);
    uint32_t *bucket = &p->state_buckets[state_hash(p, readings, count, may_end)];
    for (uint32_t i = *bucket; i != POOL_NONE; i = p->states[i].next) {
        const PoolState *s = &p->states[i];
        if (s->count == count && s->may_end == may_end &&
            memcmp(p->readings + s->first, readings, count * sizeof *readings) == 0)
            return i;
    }
    if (p->n.states == p->max.states || count > p->max.readings - p->n.readings) return POOL_NONE;
    PoolState state = {.first = p->n.readings, .count = count, .may_end = may_end, .next = *bucket};
    memcpy(p->readings + p->n.readings, readings, count * sizeof *readings);
    p->n.readings += count;
    p->states[p->n.states] = state;
    return *bucket = p->n.states++;
}

// ---- taking back ----

// An entry is the first of its bucket as long as no newer one is there.
void pool_rewind(Pool *p, PoolCounts mark) {
    while (p->n.states > mark.states) {
        const PoolState *s = &p->states[--p->n.states];
        p->state_buckets[state_hash(p, p->readings + s->first, s->count, s->may_end)] = s->next;
    }
    while (p->n.sets > mark.sets) {
        const PoolSet *s = &p->sets[--p->n.sets];
        p->set_buckets[set_hash(p, p->set_words + s->first, s->count)] = s->next;
    }
    while (p->n.frames > mark.frames) {
        const Frame *f = &p->frames[--p->n.frames];
        p->frame_buckets[frame_hash(p, f)] = f->next;
    }
    p->n = mark;
}

// ---- keeping a few ----

// Numbers the sets that frames still use, and moves them to the front.
static void keep_sets(Pool *p, const uint8_t *refers_to) {
    uint32_t n_sets = p->n.sets, words = 0, kept = 1;
    memset(p->moved, 0, n_sets * sizeof *p->moved);
    for (uint32_t i = 1; i < p->n.frames; i++)
        if (refers_to[p->frames[i].node] == POOL_REFERS_TO_SET) p->moved[p->frames[i].set] = 1;
    for (uint32_t i = 1; i < n_sets; i++) {
        PoolSet s = p->sets[i];
        if (!p->moved[i]) continue;
        memmove(p->set_words + words, p->set_words + s.first, s.count * sizeof *p->set_words);
        p->sets[kept] = (PoolSet){.first = words, .count = s.count};
        words += s.count;
        p->moved[i] = kept++;
    }
    p->moved[0] = 0;
    for (uint32_t i = 1; i < p->n.frames; i++)
        if (refers_to[p->frames[i].node] == POOL_REFERS_TO_SET) p->frames[i].set = p->moved[p->frames[i].set];
    p->n.sets = kept;
    p->n.set_words = words;
}

// Drops the frames that no reading stands on. A frame that another one refers to is older than that.
static void keep_frames(Pool *p, const uint8_t *refers_to) {
    memset(p->moved, 0, p->n.frames * sizeof *p->moved);
    for (uint32_t i = 0; i < p->n.readings; i++)
        p->moved[p->readings[i].stack] = 1;
    for (uint32_t i = p->n.frames; i-- > 1;) {
        const Frame *f = &p->frames[i];
        if (!p->moved[i]) continue;
        p->moved[f->parent] = 1;
        if (refers_to[f->node] == POOL_REFERS_TO_FRAME) p->moved[f->set] = 1;
    }
    uint32_t kept = 1;
    p->moved[0] = 0;
    for (uint32_t i = 1; i < p->n.frames; i++) {
        if (!p->moved[i]) continue;
        Frame f = p->frames[i];
        f.parent = p->moved[f.parent];
        if (refers_to[f.node] == POOL_REFERS_TO_FRAME) f.set = p->moved[f.set];
        p->frames[kept] = f;
        p->moved[i] = kept++;
    }
    for (uint32_t i = 0; i < p->n.readings; i++)
        p->readings[i].stack = p->moved[p->readings[i].stack];
    p->n.frames = kept;
}

static void keep_states(Pool *p, uint32_t *states[], uint32_t count) {
    memset(p->moved, 0, p->n.states * sizeof *p->moved);
    p->moved[0] = 1;
    for (uint32_t i = 0; i < count; i++)
        p->moved[*states[i]] = 1;
    uint32_t kept = 0, readings = 0;
    for (uint32_t i = 0; i < p->n.states; i++) {
        PoolState s = p->states[i];
        if (!p->moved[i]) continue;
        memmove(p->readings + readings, p->readings + s.first, s.count * sizeof *p->readings);
        s.first = readings;
        readings += s.count;
        p->states[kept] = s;
        p->moved[i] = kept++;
    }
    for (uint32_t i = 0; i < count; i++)
        *states[i] = p->moved[*states[i]];
    p->n.states = kept;
    p->n.readings = readings;
}

void pool_keep(Pool *p, uint32_t *states[], uint32_t count, const uint8_t *refers_to) {
    keep_states(p, states, count);
    keep_frames(p, refers_to);
    keep_sets(p, refers_to);
    pool_clear_buckets(p);
    for (uint32_t i = 1; i < p->n.frames; i++) {
        uint32_t *bucket = &p->frame_buckets[frame_hash(p, &p->frames[i])];
        p->frames[i].next = *bucket;
        *bucket = i;
    }
    for (uint32_t i = 1; i < p->n.sets; i++) {
        PoolSet *s = &p->sets[i];
        uint32_t *bucket = &p->set_buckets[set_hash(p, p->set_words + s->first, s->count)];
        s->next = *bucket;
        *bucket = i;
    }
    for (uint32_t i = 0; i < p->n.states; i++) {
        PoolState *s = &p->states[i];
        uint32_t *bucket = &p->state_buckets[state_hash(p, p->readings + s->first, s->count, s->may_end)];
        s->next = *bucket;
        *bucket = i;
    }
}
