// What keywords say, read with their types checked.
#include "base/strbuf.h"
#include "grammar/number_lang.h"
#include "grammar/rx.h"
#include "grammar/schema_internal.h"
#include "json/json_writer.h"

// By its digits: the nearest double of 1e-400 or of 2.00000000000000000001 is an integer, and they are none.
static bool read_count(SchemaReader *r, const JsonNode *value, uint64_t *out) {
    if (!json_is_number(value)) return schema_refuse_found(r, value, "not a non-negative integer");
    Decimal d = decimal_from_json(value);
    if (d.negative || !decimal_is_integer(&d))
        return schema_refuse_found(r, value, "not a non-negative integer");
    if (!json_read_u64(value, out)) *out = UINT64_MAX; // more than a double holds exactly
    return true;
}

bool schema_read_min(SchemaReader *r, const JsonNode *schema, Str keyword, uint32_t *out) {
    const JsonNode *value = json_get(schema, keyword);
    uint64_t count;
    if (!value) return true;
    if (!read_count(r, value, &count)) return false;
    if (count > SCHEMA_COUNT_MAX)
        return schema_refuse_found(r, value, "more than any answer has (at most 1048575 may be asked for)");
    *out = (uint32_t)count;
    return true;
}

bool schema_read_max(SchemaReader *r, const JsonNode *schema, Str keyword, uint32_t *out) {
    const JsonNode *value = json_get(schema, keyword);
    uint64_t count;
    if (!value) return true;
    if (!read_count(r, value, &count)) return false;
    if (count <= SCHEMA_COUNT_MAX) *out = (uint32_t)count;
    return true;
}

static bool read_type(SchemaReader *r, const JsonNode *value, uint32_t *types) {
    static const struct {
        const char *name;
        uint32_t types;
    } names[] = {{"null", SCHEMA_NULL},       {"boolean", SCHEMA_BOOLEAN}, {"number", SCHEMA_NUMBER},
                 {"integer", SCHEMA_INTEGER}, {"string", SCHEMA_STRING},   {"array", SCHEMA_ARRAY},
                 {"object", SCHEMA_OBJECT}};
    Str name = {0};
    bool is_text = json_read_str(value, &name);
    for (size_t i = 0; is_text && i < COUNT_OF(names); i++) {
        if (!str_eq(name, str_from_c(names[i].name))) continue;
        *types |= names[i].types;
        return true;
    }
    if (!is_text) return schema_refuse_found(r, value, "not the name of a type");
    char text[44];
    StrBuf shown = STRBUF(text);
    json_put_shown(&shown, name);
    return schema_refuse(r, value, ERR_INVALID_REQUEST, "\"%s\" is not the name of a type", text);
}

static bool read_types(SchemaReader *r, const JsonNode *value, uint32_t *types) {
    *types = 0;
    if (value->type != JSON_ARRAY) return read_type(r, value, types);
    for (const JsonNode *e = json_first(value); e != json_end(value); e = json_next(e)) {
        if (!read_type(r, e, types)) return false;
    }
    return true;
}

bool schema_read_types(SchemaReader *r, const JsonNode *schema, uint32_t *types) {
    const JsonNode *value = json_get(schema, STR("type"));
    *types = SCHEMA_ANY;
    return !value || read_types(r, value, types);
}

bool schema_read_pattern(SchemaReader *r, const JsonNode *node, Str pattern, bool searched,
                         const Lang **out) {
    LangMaker m = r->maker;
    Rx rx = rx_begin(&m.scratch);
    uint32_t root;
    Lang *lang = arena_new(&r->memory, Lang, 1);
    if (!lang) return schema_no_memory(r);
    bool ok = rx_read_pattern(&rx, pattern, searched ? RX_SEARCHED : RX_WHOLE, &m, &root, r->err) &&
              rx_compile(&rx, root, &m, lang, r->err);
    r->maker.work = m.work;
    *out = lang;
    return ok || schema_place(r, node);
}

// ---- what the value of each keyword has to be ----

static bool check_type(SchemaReader *r, const JsonNode *value) {
    uint32_t types;
    return read_types(r, value, &types);
}

static bool check_count(SchemaReader *r, const JsonNode *value) {
    uint64_t count;
    return read_count(r, value, &count);
}

static bool check_number(SchemaReader *r, const JsonNode *value) {
    return json_is_number(value) || schema_refuse_found(r, value, "not a number");
}

static bool check_step(SchemaReader *r, const JsonNode *value) {
    if (!check_number(r, value)) return false;
    Decimal d = decimal_from_json(value);
    return (!d.negative && d.n_digits) || schema_refuse_found(r, value, "not above 0");
}

static bool check_string(SchemaReader *r, const JsonNode *value) {
    return json_is(value, JSON_STRING) || schema_refuse_found(r, value, "not a string");
}

static bool check_boolean(SchemaReader *r, const JsonNode *value) {
    return json_is(value, JSON_BOOL) || schema_refuse_found(r, value, "not a boolean");
}

static bool check_array(SchemaReader *r, const JsonNode *value) {
    return json_is(value, JSON_ARRAY) || schema_refuse_found(r, value, "not an array");
}

static bool check_object(SchemaReader *r, const JsonNode *value) {
    return json_is(value, JSON_OBJECT) || schema_refuse_found(r, value, "not an object");
}

// Draft 3 has a boolean beside each member instead.
static bool check_names(SchemaReader *r, const JsonNode *value) {
    if (!json_is(value, JSON_ARRAY)) return schema_refuse_found(r, value, "not an array of members' names");
    for (const JsonNode *e = json_first(value); e != json_end(value); e = json_next(e)) {
        if (!check_string(r, e)) return false;
    }
    return true;
}

static bool check_members_names(SchemaReader *r, const JsonNode *value, bool or_schemas) {
    if (!check_object(r, value)) return false;
    for (const JsonNode *e = json_first(value); e != json_end(value); e = json_next(e)) {
        e = json_next(e); // behind the member's own name
        bool is_schema = or_schemas && !json_is(e, JSON_ARRAY);
        if (!is_schema && !check_names(r, e)) return false;
    }
    return true;
}

static bool check_lists_of_names(SchemaReader *r, const JsonNode *value) {
    return check_members_names(r, value, false);
}

static bool check_dependencies(SchemaReader *r, const JsonNode *value) {
    return check_members_names(r, value, true);
}

static bool check_schemas(SchemaReader *r, const JsonNode *value) {
    if (!json_is(value, JSON_ARRAY)) return schema_refuse_found(r, value, "not a list of schemas");
    if (value->length) return true;
    return schema_refuse(r, value, ERR_INVALID_REQUEST, "an empty list where schemas should be");
}

static const struct {
    const char *name;
    bool (*check)(SchemaReader *r, const JsonNode *value);
    SchemaHolds holds;
} keywords[] = {
    {"type", check_type, HOLDS_NONE},
    {"enum", check_array, HOLDS_NONE},
    {"minimum", check_number, HOLDS_NONE},
    {"maximum", check_number, HOLDS_NONE},
    {"exclusiveMinimum", check_number, HOLDS_NONE},
    {"exclusiveMaximum", check_number, HOLDS_NONE},
    {"multipleOf", check_step, HOLDS_NONE},
    {"minLength", check_count, HOLDS_NONE},
    {"maxLength", check_count, HOLDS_NONE},
    {"pattern", check_string, HOLDS_NONE},
    {"format", check_string, HOLDS_NONE},
    {"minItems", check_count, HOLDS_NONE},
    {"maxItems", check_count, HOLDS_NONE},
    {"minContains", check_count, HOLDS_NONE},
    {"maxContains", check_count, HOLDS_NONE},
    {"uniqueItems", check_boolean, HOLDS_NONE},
    {"minProperties", check_count, HOLDS_NONE},
    {"maxProperties", check_count, HOLDS_NONE},
    {"required", check_names, HOLDS_NONE},
    {"dependentRequired", check_lists_of_names, HOLDS_NONE},
    {"$ref", check_string, HOLDS_NONE},
    {"$dynamicRef", check_string, HOLDS_NONE},
    {"additionalProperties", NULL, HOLDS_SCHEMA},
    {"propertyNames", NULL, HOLDS_SCHEMA},
    {"additionalItems", NULL, HOLDS_SCHEMA},
    {"contains", NULL, HOLDS_SCHEMA},
    {"not", NULL, HOLDS_SCHEMA},
    {"if", NULL, HOLDS_SCHEMA},
    {"then", NULL, HOLDS_SCHEMA},
    {"else", NULL, HOLDS_SCHEMA},
    {"unevaluatedItems", NULL, HOLDS_SCHEMA},
    {"unevaluatedProperties", NULL, HOLDS_SCHEMA},
    {"items", NULL, HOLDS_SCHEMA}, // or a list, before draft 2020-12
    {"prefixItems", check_array, HOLDS_LIST},
    {"allOf", check_schemas, HOLDS_LIST},
    {"anyOf", check_schemas, HOLDS_LIST},
    {"oneOf", check_schemas, HOLDS_LIST},
    {"properties", check_object, HOLDS_MAP},
    {"patternProperties", check_object, HOLDS_MAP},
    {"dependentSchemas", check_object, HOLDS_MAP},
    {"dependencies", check_dependencies, HOLDS_MAP_OR_NAMES},
    {"$defs", check_object, HOLDS_MAP},
    {"definitions", check_object, HOLDS_MAP},
};

bool schema_check_keyword(SchemaReader *r, Str name, const JsonNode *value, SchemaHolds *holds) {
    *holds = HOLDS_NONE;
    if (!lang_work(&r->maker, COUNT_OF(keywords), r->err)) return schema_place(r, value);
    for (size_t i = 0; i < COUNT_OF(keywords); i++) {
        if (!str_eq(name, str_from_c(keywords[i].name))) continue;
        bool is_list = str_eq(name, STR("items")) && json_is(value, JSON_ARRAY);
        *holds = is_list ? HOLDS_LIST : keywords[i].holds;
        return !keywords[i].check || keywords[i].check(r, value);
    }
    return true;
}
