#include "template/chat_template.h"

#include "base/strbuf.h"

#define KEY "tokenizer.chat_template"

// ---- the file's templates ----

static bool report_none(const GgufFile *file, Error *err) {
    char text[256];
    StrBuf names = STRBUF(text);
    for (uint32_t i = 0; i < file->n_values; i++) {
        const GgufValue *v = &file->values[i];
        if (!str_starts_with(v->key, STR(KEY ".")) || v->type != GGUF_STRING) continue;
        Str name = str_slice(v->key, sizeof KEY, v->key.len);
        strbuf_printf(&names, "%s%.*s", names.len ? ", " : "", (int)min_u64(name.len, 40), name.ptr);
    }
    if (names.len == 0) return error_set(err, ERR_UNSUPPORTED, "the file has no chat template (" KEY ")");
    return error_set(err, ERR_UNSUPPORTED,
                     "the file has no chat template for every conversation (" KEY "), only named ones: %s",
                     text);
}

bool chat_template_find(const GgufFile *file, bool with_tools, Str *out, Error *err) {
    *out = (Str){0};
    if (with_tools && !gguf_opt_str(file, STR(KEY ".tool_use"), out, err)) return false;
    if (out->ptr) return true;
    return gguf_opt_str(file, STR(KEY), out, err) && (out->ptr || report_none(file, err));
}

// ---- constants ----

static int32_t token_of_key(const GgufFile *file, const char *key) {
    uint32_t id = 0;
    Error ignored; // a value of another type names no token
    if (!file || !gguf_find_value(file, str_from_c(key))) return TOKEN_NONE;
    return gguf_opt_u32(file, str_from_c(key), &id, &ignored) && id <= INT32_MAX ? (int32_t)id : TOKEN_NONE;
}

uint32_t chat_template_constants(const Tokenizer *t, const GgufFile *file,
                                 TemplateConstant out[CHAT_TEMPLATE_CONSTANTS_MAX]) {
    const struct {
        const char *name;
        int32_t id;
    } rows[CHAT_TEMPLATE_CONSTANTS_MAX] = {
        {"bos_token", tokenizer_bos(t)},
        {"eos_token", tokenizer_eos(t)},
        {"unk_token", token_of_key(file, "tokenizer.ggml.unknown_token_id")},
        {"pad_token", token_of_key(file, "tokenizer.ggml.padding_token_id")},
        {"sep_token", token_of_key(file, "tokenizer.ggml.seperator_token_id")}, // (sic)
    };
    uint32_t n = 0;
    for (size_t i = 0; i < CHAT_TEMPLATE_CONSTANTS_MAX; i++) {
        Str text = tokenizer_piece(t, rows[i].id, true);
        if (text.len) out[n++] = (TemplateConstant){rows[i].name, text};
    }
    return n;
}

// ---- variables ----

// A JSON object in the making: nodes in document order behind its root.
typedef struct {
    JsonNode *nodes; // [capacity], NULL while counting
    uint32_t count, n_members;
} ObjectBuilder;

static void add_nodes(ObjectBuilder *b, const JsonNode *nodes, uint32_t count) {
    if (b->nodes) memcpy(b->nodes + b->count, nodes, count * sizeof *nodes);
    b->count += count;
}

static void add_member(ObjectBuilder *b, Str key, const JsonNode *value) {
    JsonNode name = {.type = JSON_STRING, .length = (uint32_t)key.len, .span = 1, .as.string = key.ptr};
    add_nodes(b, &name, 1);
    add_nodes(b, value, value->span);
    b->n_members++;
}

static Str string_of(const JsonNode *node) {
    return (Str){node->as.string, node->length};
}

// All members but those that are for this program.
static void add_members(ObjectBuilder *b, const JsonNode *object) {
    for (const JsonNode *k = json_first(object), *v; k != json_end(object); k = json_next(v)) {
        v = json_next(k);
        if (!str_eq(string_of(k), STR("chat_template_kwargs"))) add_member(b, string_of(k), v);
    }
}

// (Of members of one name the last one counts.)
static void add_all(ObjectBuilder *b, const JsonNode *request, const JsonNode *kwargs) {
    static const JsonNode none = {.type = JSON_NULL, .span = 1};
    static const JsonNode yes = {.type = JSON_BOOL, .span = 1, .as.boolean = true};
    JsonNode root = {.type = JSON_OBJECT};
    add_nodes(b, &root, 1);
    add_member(b, STR("tools"), &none);
    add_member(b, STR("documents"), &none);
    add_member(b, STR("add_generation_prompt"), &yes);
    if (request->type == JSON_ARRAY) add_member(b, STR("messages"), request);
    else add_members(b, request);
    if (kwargs) add_members(b, kwargs);
    if (b->nodes) b->nodes[0].span = b->count, b->nodes[0].length = b->n_members;
}

bool chat_template_variables(const JsonNode *request, Arena *arena, const JsonNode **out, Error *err) {
    const JsonNode *kwargs = json_get(request, STR("chat_template_kwargs"));
    if (json_is(kwargs, JSON_NULL)) kwargs = NULL;
    if (request->type != JSON_ARRAY && request->type != JSON_OBJECT)
        return error_set(err, ERR_INVALID_REQUEST, "must be an array of messages or an object, not %s",
                         json_type_name(request));
    if (request->type == JSON_OBJECT && !json_is(json_get(request, STR("messages")), JSON_ARRAY))
        return error_set(err, ERR_INVALID_REQUEST, "messages: must be an array, not %s",
                         json_type_name(json_get(request, STR("messages"))));
    if (kwargs && kwargs->type != JSON_OBJECT)
        return error_set(err, ERR_INVALID_REQUEST, "chat_template_kwargs: must be an object, not %s",
                         json_type_name(kwargs));
    ObjectBuilder counted = {0}, built = {0};
    add_all(&counted, request, kwargs);
    built.nodes = arena_new(arena, JsonNode, counted.count);
    if (!built.nodes) return error_set(err, ERR_NO_MEMORY, "no memory for the variables of a template");
    add_all(&built, request, kwargs);
    *out = built.nodes;
    return true;
}

bool chat_template_has_tools(const JsonNode *variables) {
    const JsonNode *tools = json_get(variables, STR("tools"));
    return tools && tools->type != JSON_NULL;
}
