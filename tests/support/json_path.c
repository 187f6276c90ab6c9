#include "json_path.h"

#include "json/json_writer.h"
#include "os/os.h"
#include "runner.h"

#include <stdlib.h>

const JsonNode *json_root(Str text) {
    Arena arena = os_arena(64 << 20);
    Error err;
    const JsonNode *root = json_parse(text, &arena, &(JsonLimits){.nodes_max = 1 << 20}, &err);
    if (!root) FAIL("%s: %.*s", err.message, (int)min_u64(text.len, 300), text.ptr), test_end();
    return root;
}

static const JsonNode *element(const JsonNode *array, unsigned long index) {
    const JsonNode *e = json_first(array);
    for (; index && e != json_end(array); index--)
        e = json_next(e);
    return e != json_end(array) ? e : NULL;
}

const JsonNode *json_at(const JsonNode *root, const char *path) {
    while (root && *path) {
        size_t length = strcspn(path, ".");
        if (json_is(root, JSON_ARRAY)) root = element(root, strtoul(path, NULL, 10));
        else root = json_get(root, (Str){path, length});
        path += length + (path[length] == '.');
    }
    return root;
}

Str json_text_at(const JsonNode *root, const char *path) {
    const JsonNode *node = json_at(root, path);
    Str text;
    if (!node) return STR("nothing");
    if (json_read_str(node, &text)) return text;
    StrBuf b = strbuf_from_memory(os_reserve(1 << 20), 1 << 20);
    JsonWriter w = json_writer_begin(&b);
    json_put_node(&w, node);
    return strbuf_str(&b);
}

uint32_t stream_data(Str stream, Str *out, uint32_t most) {
    uint32_t n = 0;
    for (size_t at = 0; at < stream.len && n < most;) {
        const char *end = memchr(stream.ptr + at, '\n', stream.len - at);
        size_t length = end ? (size_t)(end - stream.ptr) - at : stream.len - at;
        Str line = {stream.ptr + at, length};
        if (str_starts_with(line, STR("data: "))) out[n++] = str_slice(line, 6, line.len);
        at += length + 1;
    }
    return n;
}
