// What the three APIs' conversations share: places for messages of errors, contents, calls, tools.
#pragma once

#include "chat/conversation.h"
#include "json/json_builder.h"

// Where in the body something is: a chain from there to the root, on the stack.
typedef struct Place Place;
struct Place {
    const Place *parent; // NULL at the root
    const char *name;    // NULL: an element
    uint32_t index;
};

static inline Place place_member(const Place *parent, const char *name) {
    return (Place){parent, name, 0};
}

static inline Place place_element(const Place *parent, uint32_t index) {
    return (Place){parent, NULL, index};
}

enum { CALLS_REMEMBERED = 128 };

typedef struct {
    Str id, name;
} CallName;

typedef struct {
    const ConversationInput *in;
    JsonBuilder b;
    Error *err;
    uint32_t argument_nodes; // so far
    // The last calls of the assistant: a result names its call by id, and some templates print the name.
    CallName calls[CALLS_REMEMBERED];
    uint64_t n_calls;
    bool continues_final_message;
} Maker;

// ---- errors ----

bool fail_at(Maker *m, const Place *where, const char *format, ...) PRINTF_LIKE(3, 4);
bool fail_type(Maker *m, const Place *where, const char *expected, const JsonNode *found);
// "\"found\" <reason>", with what is too long cut.
bool fail_value(Maker *m, const Place *where, Str found, const char *reason);

// ---- reading ----

static inline Str node_str(const JsonNode *node) {
    return (Str){node->as.string, node->length};
}

// A member's value; NULL where it is missing or null.
const JsonNode *member(const JsonNode *object, const char *name);
bool read_string(Maker *m, const Place *where, const JsonNode *node, Str *out);
// A member that may be missing: out->ptr is NULL then.
bool read_optional_string(Maker *m, const Place *object_at, const JsonNode *object, const char *name,
                          Str *out);
bool read_optional_bool(Maker *m, const JsonNode *object, const char *name, bool *out);
// A member of the body that must be an array or missing (NULL).
bool read_optional_array(Maker *m, const char *name, const JsonNode **out);
// An object's member "type".
bool read_type(Maker *m, const Place *where, const JsonNode *object, Str *out);
// How hard to think: a word.
bool read_effort(Maker *m, const Place *object_at, const JsonNode *object, const char *name, Str *out);
bool is_one_of(Str name, const char *const *names); // ends with NULL

// ---- writing ----

void put_member(Maker *m, const char *key, Str value);
// The value of "content": a string, or parts (blocks) whose texts are joined. Parts of a kind in `others`
// (ends with NULL; may be NULL) are left to the caller.
bool put_content(Maker *m, const Place *where, const JsonNode *content, const char *const *others);
// The same of a text alone.
void put_content_text(Maker *m, Str text);
// Of a message of calls without any: null, which templates ask for, where the template can take it.
void put_no_content(Maker *m);
// The names under which templates look for the reasoning of an earlier turn.
void put_reasoning(Maker *m, Str text, bool with_thinking);

// An element of "tool_calls". `arguments` is an object, or a string that holds one.
bool put_call(Maker *m, const Place *arguments_at, Str id, Str name, const JsonNode *arguments);
// "role" and "tool_call_id"; and "name" where the call is known, unless the result `has_name` itself.
void put_result_head(Maker *m, Str id, bool has_name);

bool check_tool_name(Maker *m, const Place *where, Str name);
bool check_schema(Maker *m, const Place *where, const JsonNode *schema);
// A tool in chat completions' shape from the flat ones; strings and schema may be missing.
void put_tool(Maker *m, Str name, Str description, const JsonNode *schema, const JsonNode *strict);
// "tools": each checked and written by `put`; null where there are none, or where tool_choice (a string, or
// an object with a type) is "none".
typedef bool PutTool(Maker *m, const Place *at, const JsonNode *tool);
bool put_tools(Maker *m, PutTool *put);

// Opens the variables, up to the messages; `conversation_end` writes what all APIs have in common.
Maker conversation_begin(const ConversationInput *in, Arena *arena, Error *err);
// After "messages" and "tools". `effort` and `thinks` (enable_thinking: -1 leaves it to the template) may be
// missing.
bool conversation_end(Maker *m, Str effort, int thinks, const JsonNode **variables);
