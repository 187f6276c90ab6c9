#include "json_again.h"

void json_write_again(JsonWriter *w, const JsonNode *n) {
    switch ((JsonType)n->type) {
    case JSON_NULL: json_put_null(w); break;
    case JSON_BOOL: json_put_bool(w, n->as.boolean); break;
    case JSON_U64: json_put_u64(w, n->as.u64); break;
    case JSON_I64: json_put_i64(w, n->as.i64); break;
    case JSON_F64: json_put_f64(w, n->as.f64); break;
    case JSON_STRING: json_put_str(w, (Str){n->as.string, n->length}); break;
    case JSON_ARRAY:
        json_open_array(w);
        for (const JsonNode *e = json_first(n); e != json_end(n); e = json_next(e))
            json_write_again(w, e);
        json_close_array(w);
        break;
    case JSON_OBJECT:
        json_open_object(w);
        for (const JsonNode *k = json_first(n); k != json_end(n); k = json_next(json_next(k))) {
            json_key_str(w, (Str){k->as.string, k->length});
            json_write_again(w, json_next(k));
        }
        json_close_object(w);
        break;
    }
}
