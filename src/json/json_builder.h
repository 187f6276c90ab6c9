// Builds a tree of JsonNodes: what json_parse would give for a text that nobody wrote down.
//
//     JsonBuilder b = json_builder_begin(&arena);
//     json_build_open(&b, JSON_OBJECT);
//     json_build_key(&b, STR("role")); json_build_str(&b, STR("user"));
//     json_build_key(&b, STR("tools")); json_build_node(&b, json_get(body, STR("tools")));
//     json_build_close(&b);
//     const JsonNode *root = json_builder_end(&b, &err);
//
// Nodes are appended in document order, so building is O(n). Until json_builder_end nothing else may take
// memory of the arena: the nodes are one array. Strings are not copied unless they are made of pieces; keys,
// strings and copied nodes point to where they came from. The caller gets the nesting right; that the arena
// was full is told at the end. Not thread-safe.
#pragma once

#include "json/json_reader.h"

enum { JSON_BUILDER_DEPTH_MAX = 16 }; // containers open at once; copied nodes do not count

typedef struct {
    Arena *arena;
    JsonNode *nodes;
    uint32_t count;
    uint32_t depth;
    uint32_t open[JSON_BUILDER_DEPTH_MAX];
    uint32_t text_at; // the string in the making, 0 for none
    bool full;        // the arena was; nothing is added any more
} JsonBuilder;

JsonBuilder json_builder_begin(Arena *arena);
// The root; NULL with ERR_NO_MEMORY where the arena was full.
MUST_CHECK const JsonNode *json_builder_end(JsonBuilder *b, Error *err);

void json_build_open(JsonBuilder *b, JsonType container); // JSON_ARRAY, JSON_OBJECT
void json_build_close(JsonBuilder *b);
void json_build_key(JsonBuilder *b, Str key); // then its value
void json_build_null(JsonBuilder *b);
void json_build_bool(JsonBuilder *b, bool value);
void json_build_str(JsonBuilder *b, Str value);
void json_build_node(JsonBuilder *b, const JsonNode *value); // a copy of it and of all that it contains
// A value that stands in a text. False where json_parse refuses the text: nothing was added then.
MUST_CHECK bool json_build_parsed(JsonBuilder *b, Str text, const JsonLimits *limits, Error *err);

// Takes back what was appended since b->count was `count`: a member's value, all of it.
void json_build_take_back(JsonBuilder *b, uint32_t count);

// A string of several pieces, which are copied into the arena: begin, any number of pieces, end.
void json_build_text_begin(JsonBuilder *b);
void json_build_text(JsonBuilder *b, Str piece);
void json_build_text_end(JsonBuilder *b);
