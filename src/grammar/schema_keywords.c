// What keywords say, read with their types checked.
#include "base/strbuf.h"
#include "grammar/number_lang.h"
#include "grammar/rx.h"
#include "grammar/schema_internal.h"

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
    return schema_refuse(r, value, ERR_INVALID_REQUEST, "\"%.*s\" is not the name of a type",
                         (int)min_u64(name.len, 40), name.ptr);
}

bool schema_read_types(SchemaReader *r, const JsonNode *schema, uint32_t *types) {
    const JsonNode *value = json_get(schema, STR("type"));
    *types = value ? 0 : SCHEMA_ANY;
    if (!value) return true;
    if (value->type != JSON_ARRAY) return read_type(r, value, types);
    for (const JsonNode *e = json_first(value); e != json_end(value); e = json_next(e)) {
        if (!read_type(r, e, types)) return false;
    }
    return true;
}

bool schema_read_pattern(SchemaReader *r, const JsonNode *node, Str pattern, bool searched,
                         const Lang **out) {
    LangMaker m = r->maker;
    Rx rx = rx_begin(&m.scratch);
    uint32_t root;
    Lang *lang = arena_new(&r->memory, Lang, 1);
    if (!lang) return schema_no_memory(r);
    bool ok =
        rx_read_pattern(&rx, pattern, searched, &m, &root, r->err) && rx_compile(&rx, root, &m, lang, r->err);
    r->maker.work = m.work;
    *out = lang;
    return ok || schema_place(r, node);
}
