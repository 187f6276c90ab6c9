// One of several objects, as alternatives of a schema have it: {"name": …, "kind": "a"} or {"name": …,
// "kind": "b"}. As a choice, a text would have a reading for each of them up to the member that tells them
// apart, times the members that may come there. Here it has one reading, whose frame has the set of objects
// that the text so far may be, each with the first of its members that may still come.
#include "grammar/grammar_compile.h"
#include "grammar/grammar_step.h"
#include "grammar/lang_internal.h"

#include <assert.h>
#include <stdlib.h>

// ---- compiling ----

typedef struct {
    GrammarNode key, value;
    uint32_t word;
} Entry;

static int compare_u32(uint32_t a, uint32_t b) {
    return (a > b) - (a < b);
}

static int compare_entries(const void *a, const void *b) {
    const Entry *x = a, *y = b;
    int by_key = compare_u32(x->key, y->key), by_value = compare_u32(x->value, y->value);
    return by_key ? by_key : by_value ? by_value : compare_u32(x->word, y->word);
}

// Whether an object's state is the first member that may still come, and nothing else.
static bool is_plain(const Node *node) {
    return node->kind == NODE_MEMBERS && !node->members->keeps_set && !node->members->any_order &&
           node->members->n_members + node->members->n_further < OBJECT_PLACES_MAX;
}

static bool is_same_frame(const MembersNode *a, const MembersNode *b) {
    return a->open == b->open && a->colon == b->colon && a->comma == b->comma && a->close == b->close;
}

// The parts of a choice that can be joined: plain objects with the punctuation of the first one.
static uint32_t find_objects(const Node *nodes, const Node *choice, GrammarNode *objects,
                             uint64_t *n_entries) {
    uint32_t n = 0;
    *n_entries = 0;
    for (uint32_t i = 0; i < choice->count; i++) {
        const Node *part = &nodes[choice->parts[i]];
        if (!is_plain(part) || (n && !is_same_frame(nodes[objects[0]].members, part->members))) continue;
        objects[n++] = choice->parts[i];
        *n_entries += part->members->n_members + part->members->n_further;
    }
    return n >= 2 && n <= OBJECTS_MAX && *n_entries <= OBJECTS_ENTRIES_MAX ? n : 0;
}

static uint32_t object_places(const MembersNode *m) {
    return m->n_members + m->n_further;
}

static GrammarNode object_key(const MembersNode *m, uint32_t place) {
    return place < m->n_members ? m->members[place].key : m->further[place - m->n_members].key;
}

static GrammarNode object_value(const MembersNode *m, uint32_t place) {
    return place < m->n_members ? m->members[place].value : m->further[place - m->n_members].value;
}

// Keys and values that say the same become the same nodes, also in objects within those that are joined.
static void share_nodes(MembersNode *m, const uint32_t *same) {
    for (uint32_t i = 0; i < m->n_members; i++) {
        m->members[i].key = same[m->members[i].key];
        m->members[i].value = same[m->members[i].value];
    }
    for (uint32_t i = 0; i < m->n_further; i++) {
        m->further[i].key = same[m->further[i].key];
        m->further[i].value = same[m->further[i].value];
    }
}

static void fill_tables(ObjectsNode *o, const Node *nodes, Entry *entries, ObjectsKey *keys,
                        uint32_t *words) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < o->count; i++) {
        const MembersNode *m = nodes[o->objects[i]].members;
        for (uint32_t place = 0; place < object_places(m); place++)
            entries[n++] = (Entry){object_key(m, place), object_value(m, place), object_word(i, place)};
    }
    qsort(entries, n, sizeof *entries, compare_entries);
    for (uint32_t i = 0; i < n; i++) {
        if (i == 0 || entries[i].key != entries[i - 1].key)
            keys[o->n_keys++] = (ObjectsKey){entries[i].key, i};
        words[i] = entries[i].word;
    }
    o->n_entries = n;
}

static const ObjectsNode *make_objects(const Node *nodes, const GrammarNode *objects, uint32_t count,
                                       uint64_t n_entries, Arena *arena, Arena scratch) {
    ObjectsNode *o = arena_new(arena, ObjectsNode, 1);
    GrammarNode *own = arena_new(arena, GrammarNode, count);
    ObjectsKey *keys = arena_new(arena, ObjectsKey, n_entries);
    uint32_t *words = arena_new(arena, uint32_t, n_entries);
    Entry *entries = arena_new(&scratch, Entry, n_entries);
    if (!o || !own || !keys || !words || !entries) return NULL;
    memcpy(own, objects, count * sizeof *own);
    *o = (ObjectsNode){.objects = own, .count = count, .keys = keys, .words = words};
    fill_tables(o, nodes, entries, keys, words);
    return o;
}

static uint16_t least_need(const Node *nodes, const GrammarNode *objects, uint32_t count) {
    uint16_t need = NEED_NEVER;
    for (uint32_t i = 0; i < count; i++)
        if (nodes[objects[i]].need < need) need = nodes[objects[i]].need;
    return need;
}

// The choice's objects become one part, in the place of the first one.
static bool join_parts(Grammar *g, Node *nodes, uint32_t id, const GrammarNode *objects, uint32_t count,
                       const ObjectsNode *joined, Arena *arena) {
    Node *choice = &nodes[id];
    Node node = {.kind = NODE_OBJECTS, .objects = joined, .need = least_need(nodes, objects, count)};
    node.name = choice->name;
    node.name_bytes = choice->name_bytes;
    if (count == choice->count) {
        nodes[id] = node;
        return true;
    }
    GrammarNode *parts = arena_new(arena, GrammarNode, choice->count - count + 1ull);
    uint32_t n = 0, next = 0;
    if (!parts) return false;
    for (uint32_t i = 0; i < choice->count; i++) {
        bool is_joined = next < count && choice->parts[i] == objects[next];
        if (!is_joined) parts[n++] = choice->parts[i];
        else if (next++ == 0) parts[n++] = g->n_nodes;
    }
    choice->parts = parts;
    choice->count = n;
    nodes[g->n_nodes++] = node;
    return true;
}

bool grammar_join_objects(Grammar *g, LangMaker *work, Arena *arena, Arena scratch, Error *err) {
    uint32_t n_choices = 0, widest = 0, n_nodes = g->n_nodes;
    uint64_t n_entries;
    for (uint32_t i = 0; i < n_nodes; i++) {
        const Node *node = &g->nodes[i];
        if (node->kind != NODE_CHOICE) continue;
        uint32_t n_plain = 0;
        for (uint32_t k = 0; k < node->count; k++)
            n_plain += is_plain(&g->nodes[node->parts[k]]);
        n_choices += n_plain >= 2;
        if (n_plain >= 2 && node->count > widest) widest = node->count;
    }
    if (!n_choices) return true;
    Node *nodes = arena_new(arena, Node, (uint64_t)n_nodes + n_choices);
    uint32_t *same = arena_new(&scratch, uint32_t, n_nodes);
    GrammarNode *objects = arena_new(&scratch, GrammarNode, widest);
    if (!nodes || !same || !objects) return lang_no_memory(err);
    if (!grammar_find_alike(g->nodes, n_nodes, work, same, scratch, err)) return false;
    memcpy(nodes, g->nodes, n_nodes * sizeof *nodes);
    g->nodes = nodes;
    for (uint32_t i = 0; i < n_nodes; i++)
        if (nodes[i].kind == NODE_MEMBERS) share_nodes((MembersNode *)nodes[i].members, same);
    for (uint32_t i = 0; i < n_nodes; i++) {
        if (nodes[i].kind != NODE_CHOICE || nodes[i].count > widest) continue;
        uint32_t count = find_objects(nodes, &nodes[i], objects, &n_entries);
        if (!count) continue;
        if (!lang_work(work, 20 * n_entries, err)) return false;
        const ObjectsNode *joined = make_objects(nodes, objects, count, n_entries, arena, scratch);
        if (!joined || !join_parts(g, nodes, i, objects, count, joined, arena)) return lang_no_memory(err);
        if (count > g->objects_max) g->objects_max = count;
    }
    return true;
}

// ---- a step ----

enum { ENTRIES_A_STEP = 16 }; // for Step's `work`

// The objects that a frame's set names: for each of all, the first place that may come and the last one.
typedef struct {
    Step *s;
    const ObjectsNode *o;
    const MembersNode *any; // punctuation
    GrammarNode id;
    uint32_t parent, set;
    const uint32_t *words; // of the set
    uint32_t n_words;
} Objects;

static void objects_begin(Objects *x, Step *s, const Frame *frame) {
    const PoolSet *set = &s->pool->sets[frame->set];
    *x = (Objects){.s = s, .o = s->nodes[frame->node].objects, .id = frame->node, .parent = frame->parent};
    x->any = s->nodes[x->o->objects[0]].members;
    x->set = frame->set;
    x->words = s->pool->set_words + set->first;
    x->n_words = set->count;
    s->work += x->n_words / ENTRIES_A_STEP;
}

static const MembersNode *objects_of(const Objects *x, uint32_t word) {
    return x->s->nodes[x->o->objects[word_object(word)]].members;
}

static bool objects_fit(const Objects *x, GrammarNode value) {
    return x->s->pool->frames[x->parent].depth + 1 + x->s->nodes[value].need <= GRAMMAR_DEPTH_MAX;
}

// The last place that may come next: none passes a required member. Behind all of those the object may end.
static uint32_t last_place(const MembersNode *m, uint32_t from, bool *may_end) {
    for (uint32_t i = from; i < m->n_members; i++)
        if (m->members[i].required) return *may_end = false, i;
    *may_end = true;
    return object_places(m) - 1; // UINT32_MAX where there are none: then `from` is none, too
}

static bool takes_any(const Objects *x, uint32_t word) {
    const MembersNode *m = objects_of(x, word);
    bool may_end;
    uint32_t last = last_place(m, word_place(word), &may_end);
    for (uint32_t i = word_place(word); i < object_places(m) && i <= last; i++)
        if (objects_fit(x, object_value(m, i))) return true;
    return false;
}

// The frame of these words, which lie in s->words, and what is open above it.
static void objects_open(const Objects *x, Phase phase, uint32_t n_words, GrammarNode node, bool read) {
    uint32_t set = pool_set(x->s->pool, x->s->words, n_words);
    if (set == POOL_NONE) step_fail(x->s, STEP_FULL);
    else step_enter(x->s, step_push(x->s, x->parent, x->id, frame_at(phase, 0), set), node, read);
}

static void objects_offer(const Objects *x) {
    const ObjectsNode *o = x->o;
    PlaceRange *range = x->s->ranges;
    for (uint32_t i = 0; i < o->count; i++)
        range[i] = (PlaceRange){1, 0};
    for (uint32_t i = 0; i < x->n_words; i++) {
        const MembersNode *m = objects_of(x, x->words[i]);
        uint32_t from = word_place(x->words[i]);
        bool may_end;
        if (object_places(m))
            range[word_object(x->words[i])] = (PlaceRange){from, last_place(m, from, &may_end)};
    }
    x->s->work += (o->count + o->n_entries) / ENTRIES_A_STEP;
    for (uint32_t k = 0; k < o->n_keys && x->s->status == STEP_OK; k++) {
        uint32_t n = 0, end = k + 1 < o->n_keys ? o->keys[k + 1].first : o->n_entries;
        for (uint32_t e = o->keys[k].first; e < end; e++) {
            uint32_t word = o->words[e], place = word_place(word);
            PlaceRange of = range[word_object(word)];
            if (place < of.first || place > of.last) continue;
            if (!objects_fit(x, object_value(objects_of(x, word), place))) continue;
            assert(n < o->count); // no object has a key twice
            x->s->words[n++] = word;
        }
        if (n) objects_open(x, AT_KEY, n, o->keys[k].key, true);
    }
}

// The words of a key lie in the order of their values.
static void objects_enter_values(const Objects *x, bool read) {
    for (uint32_t from = 0, end; from < x->n_words; from = end) {
        GrammarNode value = GRAMMAR_NEVER;
        uint32_t n = 0;
        for (end = from; end < x->n_words; end++) {
            const MembersNode *m = objects_of(x, x->words[end]);
            uint32_t place = word_place(x->words[end]);
            if (end > from && object_value(m, place) != value) break;
            value = object_value(m, place);
            uint32_t next = (uint32_t)min_u64(place + 1ull, m->n_members);
            x->s->words[n++] = object_word(word_object(x->words[end]), next);
        }
        objects_open(x, AT_VALUE, n, value, read);
    }
}

void step_enter_objects(Step *s, uint32_t stack, GrammarNode id) {
    const ObjectsNode *o = s->nodes[id].objects;
    Objects x = {.s = s, .o = o, .id = id, .parent = stack};
    uint32_t n = 0;
    for (uint32_t i = 0; i < o->count; i++)
        if (step_fits(s, stack, o->objects[i])) s->words[n++] = object_word(i, 0);
    s->work += o->count / ENTRIES_A_STEP;
    if (n) objects_open(&x, AT_OPEN, n, s->nodes[o->objects[0]].members->open, true);
}

void step_return_objects(Step *s, Frame frame, bool read) {
    Objects x;
    Phase phase = frame_phase(&frame);
    objects_begin(&x, s, &frame);
    if (phase == AT_KEY) {
        uint32_t above = step_push(s, x.parent, x.id, frame_at(AT_COLON, 0), x.set);
        step_enter(s, above, x.any->colon, read);
        return;
    }
    if (phase == AT_COLON) {
        objects_enter_values(&x, read);
        return;
    }
    bool may_end = false, ends = false;
    for (uint32_t i = 0; i < x.n_words && !ends; i++) {
        (void)last_place(objects_of(&x, x.words[i]), word_place(x.words[i]), &may_end);
        ends = may_end;
    }
    if (phase != AT_COMMA && ends) step_enter(s, x.parent, x.any->close, read);
    if (phase != AT_VALUE) {
        objects_offer(&x);
        return;
    }
    uint32_t n = 0;
    for (uint32_t i = 0; i < x.n_words; i++)
        if (takes_any(&x, x.words[i])) s->words[n++] = x.words[i];
    if (n) objects_open(&x, AT_COMMA, n, x.any->comma, read);
}
