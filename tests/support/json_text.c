#include "json_text.h"

static void put_container(JsonWriter *w, const JsonNode *node) {
    bool is_object = node->type == JSON_OBJECT;
    if (is_object) json_open_object(w);
    else json_open_array(w);
    for (const JsonNode *e = json_first(node); e != json_end(node); e = json_next(e)) {
        if (is_object) json_key_str(w, (Str){e->as.string, e->length}), e = json_next(e);
        json_text_put(w, e);
    }
    if (is_object) json_close_object(w);
    else json_close_array(w);
}

void json_text_put(JsonWriter *w, const JsonNode *node) {
    switch ((JsonType)node->type) {
    case JSON_NULL: json_put_null(w); break;
    case JSON_BOOL: json_put_bool(w, node->as.boolean); break;
    case JSON_U64: json_put_u64(w, node->as.u64); break;
    case JSON_I64: json_put_i64(w, node->as.i64); break;
    case JSON_F64: json_put_f64(w, node->as.f64); break;
    case JSON_STRING: json_put_str(w, (Str){node->as.string, node->length}); break;
    case JSON_ARRAY:
    case JSON_OBJECT: put_container(w, node); break;
    }
}
