#include "json/json_builder.h"

#include <assert.h>

JsonBuilder json_builder_begin(Arena *arena) {
    return (JsonBuilder){.arena = arena};
}

// `slots` more of the one array; NULL when the arena is full.
static JsonNode *take_slots(JsonBuilder *b, uint64_t slots) {
    JsonNode *nodes = b->full || b->count + slots > UINT32_MAX ? NULL : arena_new(b->arena, JsonNode, slots);
    b->full = nodes == NULL;
    if (!nodes) return NULL;
    if (!b->nodes) b->nodes = nodes;
    assert(nodes == b->nodes + b->count); // nobody else took memory of the arena
    b->count += (uint32_t)slots;
    return nodes;
}

// An array counts its elements, an object its keys.
static void count_in_parent(JsonBuilder *b, bool is_key) {
    if (b->depth == 0) return;
    JsonNode *parent = &b->nodes[b->open[b->depth - 1]];
    if ((parent->type == JSON_OBJECT) == is_key) parent->length++;
}

static JsonNode *add_node(JsonBuilder *b, JsonType type, bool is_key) {
    JsonNode *node = take_slots(b, 1);
    if (!node) return NULL;
    *node = (JsonNode){.type = (uint8_t)type, .span = 1};
    count_in_parent(b, is_key);
    return node;
}

void json_build_open(JsonBuilder *b, JsonType container) {
    assert(b->depth < JSON_BUILDER_DEPTH_MAX);
    b->open[b->depth] = b->count;
    (void)add_node(b, container, false);
    b->depth++;
}

void json_build_close(JsonBuilder *b) {
    assert(b->depth > 0);
    uint32_t index = b->open[--b->depth];
    if (!b->full) b->nodes[index].span = b->count - index;
}

static void add_string(JsonBuilder *b, Str value, bool is_key) {
    JsonNode *node = add_node(b, JSON_STRING, is_key);
    if (!node) return;
    node->length = (uint32_t)value.len;
    node->as.string = value.ptr;
}

void json_build_key(JsonBuilder *b, Str key) {
    add_string(b, key, true);
}

void json_build_str(JsonBuilder *b, Str value) {
    add_string(b, value, false);
}

void json_build_null(JsonBuilder *b) {
    (void)add_node(b, JSON_NULL, false);
}

void json_build_bool(JsonBuilder *b, bool value) {
    JsonNode *node = add_node(b, JSON_BOOL, false);
    if (node) node->as.boolean = value;
}

void json_build_node(JsonBuilder *b, const JsonNode *value) {
    JsonNode *nodes = take_slots(b, value->span);
    if (!nodes) return;
    memcpy(nodes, value, value->span * sizeof *nodes);
    count_in_parent(b, false);
}

bool json_build_parsed(JsonBuilder *b, Str text, const JsonLimits *limits, Error *err) {
    if (b->full) return true; // told at the end
    const JsonNode *value = json_parse(text, b->arena, limits, err);
    if (!value) return false;
    if (!b->nodes) b->nodes = (JsonNode *)value;
    assert(value == b->nodes + b->count); // the reader's nodes are one array, too, and it begins here
    b->count += value->span;
    count_in_parent(b, false);
    return true;
}

void json_build_take_back(JsonBuilder *b, uint32_t count) {
    if (b->full) return;
    assert(b->depth > 0 && count > 0 && b->nodes[b->open[b->depth - 1]].type == JSON_OBJECT);
    b->count = count;
    b->arena->next = (uint8_t *)(b->nodes + count);
}

// As in the reader's nodes, the text lies in the slots behind its node.
void json_build_text_begin(JsonBuilder *b) {
    b->text_at = b->count;
    add_string(b, (Str){NULL, 0}, false);
}

void json_build_text(JsonBuilder *b, Str piece) {
    if (b->full || piece.len == 0) return;
    uint64_t length = b->nodes[b->text_at].length, end = length + piece.len;
    uint64_t slots = 1 + div_up(end, sizeof(JsonNode)), held = b->count - b->text_at;
    if (end > UINT32_MAX || (slots > held && !take_slots(b, slots - held))) {
        b->full = true;
        return;
    }
    JsonNode *node = &b->nodes[b->text_at];
    memcpy((char *)(node + 1) + length, piece.ptr, piece.len);
    node->length = (uint32_t)end;
    node->span = (uint32_t)slots;
}

void json_build_text_end(JsonBuilder *b) {
    if (b->full) return;
    JsonNode *node = &b->nodes[b->text_at];
    node->as.string = (const char *)(node + 1);
}

const JsonNode *json_builder_end(JsonBuilder *b, Error *err) {
    assert(b->depth == 0);
    if (!b->full) return b->nodes;
    (void)error_set(err, ERR_NO_MEMORY, "no memory for JSON of %u values", b->count);
    return NULL;
}
