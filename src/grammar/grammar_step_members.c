// Objects and arrays within a step: which member or item may come next, and when the end may.
#include "grammar/grammar_step.h"

enum { MEMBER_WORDS_MAX = (GRAMMAR_MEMBERS_MAX + 31) / 32 };

// ---- objects ----

// An object so far. Where the node keeps no set, members before `next` were there or never come.
typedef struct {
    Step *s;
    GrammarNode id;
    const MembersNode *m;
    uint32_t parent;                      // the stack around the object
    uint32_t next;                        // in order: the first member that may still come
    uint32_t words[1 + MEMBER_WORDS_MAX]; // members so far, counted up to a bound; one bit each
    bool has_bits;
    uint32_t n_missing; // required members that were not there
    uint32_t n_left;    // members that may still come, by their values
} Object;

static bool object_has(const Object *o, uint32_t i) {
    return o->has_bits ? o->words[1 + i / 32] >> (i % 32) & 1u : i < o->next;
}

// Whether a value can complete inside this object before it is too deep.
static bool object_fits(const Object *o, GrammarNode value) {
    return o->s->pool->frames[o->parent].depth + 1 + o->s->nodes[value].need <= GRAMMAR_DEPTH_MAX;
}

static void object_begin(Object *o, Step *s, const Frame *frame, uint32_t next) {
    o->s = s;
    o->id = frame->node;
    o->m = s->nodes[frame->node].members;
    o->parent = frame->parent;
    o->next = o->m->any_order ? 0 : next;
    o->has_bits = o->m->any_order || o->m->has_needs;
    uint32_t n_words = 1 + (o->has_bits ? (o->m->n_members + 31) / 32 : 0);
    memset(o->words, 0, n_words * sizeof *o->words);
    const PoolSet *set = &s->pool->sets[frame->set];
    if (o->m->keeps_set && set->count)
        memcpy(o->words, s->pool->set_words + set->first, set->count * sizeof *o->words);
    o->n_missing = o->n_left = 0;
    for (uint32_t i = o->next; i < o->m->n_members; i++) {
        if (object_has(o, i)) continue;
        o->n_missing += o->m->members[i].required;
        o->n_left += object_fits(o, o->m->members[i].value);
    }
}

// How many members have to come besides `add` (GRAMMAR_UNBOUNDED: none), once it is there; UINT32_MAX where
// one of them cannot.
static uint32_t object_forced(const Object *o, uint32_t add) {
    const MembersNode *m = o->m;
    if (!m->has_needs) return o->n_missing - (add != GRAMMAR_UNBOUNDED && m->members[add].required);
    uint32_t forced[MEMBER_WORDS_MAX] = {0}, queue[GRAMMAR_MEMBERS_MAX], n_queue = 0, count = 0;
    for (uint32_t i = 0; i < m->n_members; i++)
        if (object_has(o, i) || i == add || m->members[i].required) queue[n_queue++] = i;
    for (uint32_t q = 0; q < n_queue; q++)
        forced[queue[q] / 32] |= 1u << queue[q] % 32;
    uint32_t from = add == GRAMMAR_UNBOUNDED ? o->next : add;
    for (uint32_t q = 0; q < n_queue; q++) {
        const GrammarMember *member = &m->members[queue[q]];
        for (uint32_t k = 0; k < member->n_needs; k++) {
            uint32_t needed = member->needs[k];
            if (forced[needed / 32] >> needed % 32 & 1u) continue;
            forced[needed / 32] |= 1u << needed % 32;
            queue[n_queue++] = needed;
        }
        if (object_has(o, queue[q]) || queue[q] == add) continue;
        if ((!m->any_order && queue[q] < from) || !object_fits(o, member->value)) return UINT32_MAX;
        count++;
    }
    return count;
}

// Whether the bounds on the number of members can be met with one more, `forced` that have to follow it and
// `possible` that may.
static bool object_counts(const Object *o, uint32_t forced, uint32_t possible) {
    uint64_t count = o->words[0] + 1ull;
    if (forced == UINT32_MAX || count + forced > o->m->max) return false;
    return count + possible >= o->m->min;
}

static bool object_can_go_on(const Object *o) {
    for (uint32_t k = 0; k < o->m->n_further; k++)
        if (object_fits(o, o->m->further[k].value)) return true;
    return false;
}

static bool object_takes(const Object *o, uint32_t i, bool goes_on) {
    const GrammarMember *member = &o->m->members[i];
    if (object_has(o, i) || !object_fits(o, member->value)) return false;
    uint32_t possible = o->n_left - 1;
    if (!o->m->any_order) {
        // n_left counts from the first member that may come; those that this one passes never will.
        for (uint32_t k = o->next; k < i; k++) {
            if (object_has(o, k)) continue;
            if (o->m->members[k].required) return false;
            possible -= object_fits(o, o->m->members[k].value);
        }
    }
    return object_counts(o, object_forced(o, i), goes_on ? GRAMMAR_UNBOUNDED : possible);
}

static bool object_takes_further(const Object *o, uint32_t k) {
    if (!object_fits(o, o->m->further[k].value) || (!o->m->any_order && o->n_missing > 0)) return false;
    Object passed = *o;
    if (!o->m->any_order) passed.next = o->m->n_members;
    return object_counts(&passed, object_forced(&passed, GRAMMAR_UNBOUNDED), GRAMMAR_UNBOUNDED);
}

static bool object_takes_any(const Object *o) {
    bool goes_on = object_can_go_on(o);
    for (uint32_t i = o->next; i < o->m->n_members; i++)
        if (object_takes(o, i, goes_on)) return true;
    for (uint32_t k = 0; k < o->m->n_further; k++)
        if (object_takes_further(o, k)) return true;
    return false;
}

static bool object_may_end(const Object *o) {
    return o->words[0] >= o->m->min && object_forced(o, GRAMMAR_UNBOUNDED) == 0;
}

// The set with one more member; i is n_members or more for a further one.
static uint32_t object_set_with(Object *o, uint32_t i) {
    if (!o->m->keeps_set) return 0;
    uint32_t n_words = 1 + (o->has_bits ? (o->m->n_members + 31) / 32 : 0), words[1 + MEMBER_WORDS_MAX];
    memcpy(words, o->words, n_words * sizeof *words);
    bool counts = o->m->max != GRAMMAR_UNBOUNDED || words[0] < o->m->min;
    words[0] += counts;
    if (o->has_bits && i < o->m->n_members) words[1 + i / 32] |= 1u << i % 32;
    uint32_t set = pool_set(o->s->pool, words, n_words);
    if (set == POOL_NONE) step_fail(o->s, STEP_FULL);
    return set == POOL_NONE ? 0 : set;
}

static void object_open_key(Object *o, uint32_t i, GrammarNode key) {
    uint32_t frame = step_push(o->s, o->parent, o->id, frame_at(AT_KEY, i), object_set_with(o, i));
    step_enter(o->s, frame, key, true);
}

static void object_offer(Object *o) {
    bool goes_on = object_can_go_on(o);
    for (uint32_t i = o->next; i < o->m->n_members; i++)
        if (object_takes(o, i, goes_on)) object_open_key(o, i, o->m->members[i].key);
    for (uint32_t k = 0; k < o->m->n_further; k++)
        if (object_takes_further(o, k)) object_open_key(o, o->m->n_members + k, o->m->further[k].key);
}

void step_enter_members(Step *s, uint32_t stack, GrammarNode node) {
    step_enter(s, step_push(s, stack, node, frame_at(AT_OPEN, 0), 0), s->nodes[node].members->open, true);
}

void step_return_members(Step *s, Frame frame, bool read) {
    const MembersNode *m = s->nodes[frame.node].members;
    uint32_t i = frame_index(&frame);
    Phase phase = frame_phase(&frame);
    if (phase == AT_KEY) {
        step_enter(s, step_push(s, frame.parent, frame.node, frame_at(AT_COLON, i), frame.set), m->colon,
                   read);
        return;
    }
    if (phase == AT_COLON) {
        GrammarNode value = i < m->n_members ? m->members[i].value : m->further[i - m->n_members].value;
        // All that counts afterwards is which members may follow.
        uint32_t next = m->any_order ? 0 : (uint32_t)min_u64(i + 1ull, m->n_members);
        step_enter(s, step_push(s, frame.parent, frame.node, frame_at(AT_VALUE, next), frame.set), value,
                   read);
        return;
    }
    Object o;
    object_begin(&o, s, &frame, i);
    if (phase != AT_COMMA && object_may_end(&o)) step_enter(s, frame.parent, m->close, read);
    if (phase != AT_VALUE) object_offer(&o);
    else if (object_takes_any(&o))
        step_enter(s, step_push(s, frame.parent, frame.node, frame_at(AT_COMMA, i), frame.set), m->comma,
                   read);
}

// ---- arrays ----

// Behind `count` items, of which `matches` match (each counted up to its bound). Where items must differ, the
// newest one stands in the place of `matches`.
typedef struct {
    Step *s;
    GrammarNode id;
    const ItemsNode *items;
    uint32_t parent, count, matches;
    uint32_t need_max; // of children
} Array;

static void array_begin(Array *a, Step *s, const Frame *frame) {
    *a = (Array){.s = s, .id = frame->node, .items = s->nodes[frame->node].items, .parent = frame->parent};
    a->count = frame_index(frame);
    a->matches = frame->set;
    uint32_t room = GRAMMAR_DEPTH_MAX - s->pool->frames[a->parent].depth - 1;
    // Where not everything fits, only what the array was entered for: that is certain to complete.
    bool shallow = a->items->contains && a->items->need_all > room;
    a->need_max = shallow ? s->nodes[a->id].need - 1u : room;
}

static bool array_takes(const Array *a, GrammarNode item, uint32_t matches) {
    const ItemsNode *items = a->items;
    if (item == GRAMMAR_NEVER || a->s->nodes[item].need > a->need_max) return false;
    if (a->count >= items->max) return false;
    if (!items->contains) return true;
    const uint8_t *table = a->need_max < items->need_all ? items->can_end_shallow : items->can_end;
    uint64_t count = min_u64(a->count + 1ull, items->places);
    return table[count * (items->matches + 1ull) + matches];
}

// What may stand at the next place, one way or the other.
static void array_next(const Array *a, bool *other, bool *match, uint32_t *matches_after) {
    const ItemsNode *items = a->items;
    const GrammarItem *item = items_at(items, a->count);
    *matches_after = (uint32_t)min_u64(a->matches + 1ull, items->matches);
    bool room = a->matches < items->matches || items->contains_max == GRAMMAR_UNBOUNDED;
    *other = array_takes(a, item->other, a->matches);
    *match = items->contains && room && array_takes(a, item->match, *matches_after);
}

static void array_offer(Array *a) {
    const GrammarItem *item = items_at(a->items, a->count);
    uint32_t count = (uint32_t)min_u64(a->count + 1ull, a->items->places), matches;
    bool other, match;
    array_next(a, &other, &match, &matches);
    if (other)
        step_enter(a->s, step_push(a->s, a->parent, a->id, frame_at(AT_VALUE, count), a->matches),
                   item->other, true);
    if (match)
        step_enter(a->s, step_push(a->s, a->parent, a->id, frame_at(AT_VALUE, count), matches), item->match,
                   true);
}

void step_enter_items(Step *s, uint32_t stack, GrammarNode node) {
    step_enter(s, step_push(s, stack, node, frame_at(AT_OPEN, 0), 0), s->nodes[node].items->open, true);
}

void step_return_items(Step *s, Frame frame, bool read) {
    Array a;
    Phase phase = frame_phase(&frame);
    array_begin(&a, s, &frame);
    bool ends = a.count >= a.items->min && a.matches >= a.items->contains_min;
    if (phase != AT_COMMA && ends) step_enter(s, frame.parent, a.items->close, read);
    if (phase != AT_VALUE) {
        array_offer(&a);
        return;
    }
    bool other, match;
    uint32_t matches;
    array_next(&a, &other, &match, &matches);
    if (other || match)
        step_enter(s, step_push(s, frame.parent, frame.node, frame_at(AT_COMMA, a.count), a.matches),
                   a.items->comma, read);
}
