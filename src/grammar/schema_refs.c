// Where things are in a schema's document: JSON pointers for messages, $id, $anchor, and what $ref leads to.
#include "base/strbuf.h"
#include "base/utf8.h"
#include "grammar/schema_internal.h"
#include "json/json_writer.h"

#include <stdio.h>

// ---- messages ----

// The way from the root to a node.
static void put_pointer(StrBuf *b, const JsonNode *root, const JsonNode *at) {
    strbuf_put_char(b, '#');
    for (const JsonNode *n = root; n != at;) {
        if (n->type != JSON_OBJECT && n->type != JSON_ARRAY) return;
        const JsonNode *inner = NULL, *key = NULL;
        uint32_t index = 0;
        for (const JsonNode *e = json_first(n); e != json_end(n) && !inner; index++) {
            const JsonNode *value = n->type == JSON_OBJECT ? json_next(e) : e;
            if (at < json_next(value)) inner = value, key = e;
            e = json_next(value);
        }
        if (!inner || at < inner) return;
        strbuf_put_char(b, '/');
        if (n->type == JSON_ARRAY) strbuf_printf(b, "%u", index - 1);
        for (uint32_t i = 0; n->type == JSON_OBJECT && i < key->length; i++) {
            char c = key->as.string[i];
            if (c == '~' || c == '/') strbuf_put(b, c == '~' ? STR("~0") : STR("~1"));
            else if ((uint8_t)c < 0x20) json_escape_byte(b, (uint8_t)c);
            else strbuf_put_char(b, c);
        }
        n = inner;
    }
}

// In place; cuts whole characters out of the middle.
static Str shorten(char *text, size_t length) {
    enum { SHOWN = 80 };
    if (length <= 2 * SHOWN) return (Str){text, length};
    size_t front = utf8_valid_prefix((Str){text, SHOWN}), from = length - SHOWN;
    while (from < length && ((uint8_t)text[from] & 0xC0) == 0x80)
        from++;
    memcpy(text + front, "...", 3);
    memmove(text + front + 3, text + from, length - from);
    return (Str){text, front + 3 + length - from};
}

static bool says_nothing(Str keyword) {
    static const Str ignored[] = {STR("title"),    STR("description"), STR("default"), STR("examples"),
                                  STR("$comment"), STR("$schema"),     STR("$defs"),   STR("definitions")};
    for (size_t i = 0; i < COUNT_OF(ignored); i++)
        if (str_eq(keyword, ignored[i])) return true;
    return keyword.len > 24;
}

static void put_keywords(StrBuf *b, const JsonNode *schema) {
    enum { KEYWORDS_SHOWN = 6 };
    uint32_t n = 0;
    if (!json_is(schema, JSON_OBJECT)) return;
    for (const JsonNode *key = json_first(schema); key != json_end(schema); key = json_next(json_next(key))) {
        Str keyword;
        if (!json_read_str(key, &keyword) || says_nothing(keyword)) continue;
        if (n == KEYWORDS_SHOWN) strbuf_put(b, STR(", …"));
        else if (n < KEYWORDS_SHOWN) strbuf_put(b, n ? STR(", ") : STR(" (")), json_put_shown(b, keyword);
        n++;
    }
    if (n) strbuf_put_char(b, ')');
}

Str schema_title(SchemaReader *r, const JsonNode *at) {
    char text[2048], title[GRAMMAR_NAME_BYTES_MAX];
    StrBuf pointer = STRBUF(text), b = STRBUF(title);
    put_pointer(&pointer, r->root, at);
    Str subject = r->options->subject;
    if (subject.len) strbuf_printf(&b, "%.*s: ", STR_ARG(str_slice(subject, 0, min_u64(subject.len, 96))));
    strbuf_put(&b, shorten(text, pointer.len));
    put_keywords(&b, at);
    return arena_copy_str(&r->memory, strbuf_str(&b));
}

bool schema_place(const SchemaReader *r, const JsonNode *at) {
    char text[2048];
    StrBuf b = STRBUF(text);
    put_pointer(&b, r->root, at);
    return error_prefix(r->err, "%.*s", STR_ARG(shorten(text, b.len)));
}

bool schema_place_within(const SchemaReader *r, const JsonNode *at) {
    bool has_place = r->err->code == ERR_NONE || r->err->message[0] == '#';
    return at && !has_place ? schema_place(r, at) : false;
}

bool schema_refuse(const SchemaReader *r, const JsonNode *at, ErrCode code, const char *format, ...) {
    char text[ERROR_MESSAGE_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    (void)error_set(r->err, code, "%s", text);
    return schema_place(r, at);
}

bool schema_refuse_found(const SchemaReader *r, const JsonNode *value, const char *message) {
    enum { SHOWN_BYTES = 32 };
    char found[64];
    StrBuf b = STRBUF(found);
    JsonWriter w = json_writer_begin(&b);
    Str text;
    bool is_text = json_read_str(value, &text);
    if (is_text && text.len > SHOWN_BYTES) strbuf_put(&b, STR("a long string"));
    else if (json_is(value, JSON_ARRAY) || json_is(value, JSON_OBJECT))
        strbuf_put(&b, str_from_c(json_type_name(value)));
    else json_put_node(&w, value);
    return schema_refuse(r, value, ERR_INVALID_REQUEST, "%s, found %s", message, found);
}

bool schema_no_memory(const SchemaReader *r) {
    return error_set(r->err, ERR_NO_MEMORY, "no memory is left for the schema");
}

// ---- URIs (RFC 3986, 5.2) ----

static bool has_scheme(Str uri) {
    for (size_t i = 0; i < uri.len; i++) {
        char c = uri.ptr[i], lower = (char)(c | 32);
        if (c == ':') return i > 0;
        bool is_letter = lower >= 'a' && lower <= 'z';
        if (!is_letter && (i == 0 || !((c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.')))
            return false;
    }
    return false;
}

// Where the path of an absolute URI begins.
static size_t path_start(Str uri) {
    size_t at = 0;
    while (at < uri.len && uri.ptr[at] != ':')
        at++;
    at = at < uri.len ? at + 1 : 0;
    if (!str_starts_with(str_slice(uri, at, uri.len), STR("//"))) return at;
    for (at += 2; at < uri.len && uri.ptr[at] != '/';)
        at++;
    return at;
}

// Takes out "." and ".." as they come; b holds an absolute URI whose path begins at `from`.
static void put_segments(StrBuf *b, size_t from, Str path) {
    for (size_t at = 0; at <= path.len;) {
        size_t end = at;
        while (end < path.len && path.ptr[end] != '/')
            end++;
        Str segment = str_slice(path, at, end);
        bool last = end == path.len;
        if (str_eq(segment, STR(".."))) {
            if (b->len > from + 1) b->len--;
            while (b->len > from + 1 && b->ptr[b->len - 1] != '/')
                b->len--;
        } else if (!str_eq(segment, STR("."))) {
            strbuf_put(b, segment);
            if (!last) strbuf_put_char(b, '/');
        }
        at = end + 1;
    }
}

static bool resolve_uri(SchemaReader *r, Str base, Str ref, Str *out) {
    char text[4096];
    StrBuf b = STRBUF(text);
    if (ref.len == 0) {
        strbuf_put(&b, base);
    } else if (has_scheme(ref) || base.len == 0) {
        strbuf_put(&b, ref);
    } else {
        size_t from = path_start(base), keep = base.len;
        if (ref.ptr[0] == '/') keep = from;
        while (keep > from && base.ptr[keep - 1] != '/')
            keep--;
        strbuf_put(&b, str_slice(base, 0, keep));
        if (keep == from && ref.ptr[0] != '/') strbuf_put_char(&b, '/');
        put_segments(&b, from, ref);
    }
    *out = arena_copy_str(&r->memory, (Str){text, b.len});
    return out->ptr ? true : schema_no_memory(r);
}

// ---- the index ----

static bool add_name(SchemaReader *r, SchemaName name) {
    if (!lang_grow(&r->memory, (void **)&r->names, &r->names_cap, r->n_names + 1, sizeof name))
        return schema_no_memory(r);
    r->names[r->n_names++] = name;
    return lang_work(&r->maker, r->n_names, r->err) || schema_place(r, name.node);
}

static bool add_base(SchemaReader *r, Str uri, uint32_t *out) {
    if (!lang_grow(&r->memory, (void **)&r->bases, &r->bases_cap, r->n_bases + 1, sizeof uri))
        return schema_no_memory(r);
    r->bases[r->n_bases] = uri;
    *out = r->n_bases++;
    return true;
}

static bool index_names(SchemaReader *r, const JsonNode *schema, uint32_t *base) {
    static const struct {
        const char *keyword;
        bool is_dynamic;
    } anchors[] = {{"$anchor", false}, {"$dynamicAnchor", true}};
    const JsonNode *id = json_get(schema, STR("$id"));
    Str text, uri;
    if (id) {
        if (!json_read_str(id, &text)) return schema_refuse_found(r, id, "not a string");
        const char *hash = text.len ? memchr(text.ptr, '#', text.len) : NULL;
        Str fragment = hash ? str_slice(text, (size_t)(hash - text.ptr) + 1, text.len) : (Str){0};
        if (hash) text.len = (size_t)(hash - text.ptr);
        if (!resolve_uri(r, r->bases[*base], text, &uri)) return false;
        if (text.len && (!add_base(r, uri, base) || !add_name(r, (SchemaName){.uri = uri, .node = schema})))
            return false;
        // Older drafts write an anchor so.
        if (fragment.len &&
            !add_name(r, (SchemaName){.uri = uri, .anchor = fragment, .is_anchor = true, .node = schema}))
            return false;
    }
    for (size_t i = 0; i < COUNT_OF(anchors); i++) {
        const JsonNode *anchor = json_get(schema, str_from_c(anchors[i].keyword));
        if (!anchor) continue;
        if (!json_read_str(anchor, &text)) return schema_refuse_found(r, anchor, "not a string");
        SchemaName name = {.uri = r->bases[*base],
                           .anchor = text,
                           .is_anchor = true,
                           .is_dynamic = anchors[i].is_dynamic,
                           .node = schema};
        if (!add_name(r, name)) return false;
    }
    return true;
}

static bool check_language(SchemaReader *r, const JsonNode *schema) {
    static const char *const known[] = {"json-schema.org/draft/2020-12/schema",
                                        "json-schema.org/draft/2019-09/schema",
                                        "json-schema.org/draft-07/schema",
                                        "json-schema.org/draft-06/schema",
                                        "json-schema.org/draft-04/schema",
                                        "json-schema.org/draft-03/schema",
                                        "json-schema.org/schema"};
    static const char *const schemes[] = {"https://", "http://"};
    const JsonNode *language = json_get(schema, STR("$schema"));
    Str uri;
    if (!language) return true;
    if (!json_read_str(language, &uri)) return schema_refuse_found(r, language, "not a string");
    if (str_ends_with(uri, STR("#"))) uri.len--;
    for (size_t i = 0; i < COUNT_OF(schemes); i++) {
        if (!str_starts_with(uri, str_from_c(schemes[i]))) continue;
        uri = str_slice(uri, strlen(schemes[i]), uri.len);
        break;
    }
    for (size_t i = 0; i < COUNT_OF(known); i++) {
        if (str_eq(uri, str_from_c(known[i]))) return true;
    }
    return schema_refuse(r, language, ERR_INVALID_REQUEST, "an unknown language of schemas");
}

static bool index_schema(SchemaReader *r, const JsonNode *schema, uint32_t base);

// The schemas in the value of a keyword.
static bool index_held(SchemaReader *r, const JsonNode *value, SchemaHolds holds, uint32_t base) {
    if (holds == HOLDS_NONE) return true;
    if (holds == HOLDS_SCHEMA) return index_schema(r, value, base);
    for (const JsonNode *e = json_first(value); e != json_end(value); e = json_next(e)) {
        if (holds != HOLDS_LIST) e = json_next(e);
        if (holds == HOLDS_MAP_OR_NAMES && json_is(e, JSON_ARRAY)) continue;
        if (!index_schema(r, e, base)) return false;
    }
    return true;
}

// Keywords are checked wherever they stand, since many are never asked for: those of other types than a
// schema's `type` has, or of a schema that nothing refers to.
static bool index_schema(SchemaReader *r, const JsonNode *schema, uint32_t base) {
    if (schema->type != JSON_OBJECT && schema->type != JSON_BOOL)
        return schema_refuse(r, schema, ERR_INVALID_REQUEST, "%s where a schema should be",
                             json_type_name(schema));
    uint32_t at = (uint32_t)(schema - r->root);
    if (r->base_of[at]) return true;
    if (schema->type == JSON_OBJECT && (!check_language(r, schema) || !index_names(r, schema, &base)))
        return false;
    r->base_of[at] = base + 1;
    if (schema->type != JSON_OBJECT) return true;
    for (const JsonNode *key = json_first(schema), *value; key != json_end(schema); key = json_next(value)) {
        value = json_next(key);
        Str name = {key->as.string, key->length};
        SchemaHolds holds;
        if (str_starts_with(name, STR("unevaluated"))) r->tracks = true;
        if (!schema_check_keyword(r, name, value, &holds) || !index_held(r, value, holds, base)) return false;
    }
    return true;
}

bool schema_index(SchemaReader *r) {
    uint32_t base;
    r->base_of = arena_new(&r->memory, uint32_t, r->root->span);
    if (!r->base_of || !add_base(r, (Str){0}, &base)) return schema_no_memory(r);
    return add_name(r, (SchemaName){.node = r->root}) && index_schema(r, r->root, base);
}

// ---- references ----

static const JsonNode *find_resource(const SchemaReader *r, Str uri) {
    for (uint32_t i = r->n_names; i-- > 0;) {
        if (!r->names[i].is_anchor && str_eq(r->names[i].uri, uri)) return r->names[i].node;
    }
    return NULL;
}

static const SchemaName *find_anchor(const SchemaReader *r, Str uri, Str anchor) {
    for (uint32_t i = 0; i < r->n_names; i++) {
        const SchemaName *n = &r->names[i];
        if (n->is_anchor && str_eq(n->uri, uri) && str_eq(n->anchor, anchor)) return n;
    }
    return NULL;
}

static int hex_value(char c) {
    char lower = (char)(c | 32);
    return c >= '0' && c <= '9' ? c - '0' : lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

static Str percent_decode(Str text, char *out) {
    size_t n = 0;
    for (size_t i = 0; i < text.len; i++) {
        bool escaped = text.ptr[i] == '%' && i + 2 < text.len && hex_value(text.ptr[i + 1]) >= 0 &&
                       hex_value(text.ptr[i + 2]) >= 0;
        out[n++] =
            escaped ? (char)(hex_value(text.ptr[i + 1]) * 16 + hex_value(text.ptr[i + 2])) : text.ptr[i];
        i += escaped ? 2 : 0;
    }
    return (Str){out, n};
}

// One step of a JSON pointer (RFC 6901), decoded in place.
static const JsonNode *pointer_step(const JsonNode *at, char *token, size_t length) {
    size_t n = 0;
    for (size_t i = 0; i < length; i++) {
        bool escaped = token[i] == '~' && i + 1 < length && (token[i + 1] == '0' || token[i + 1] == '1');
        token[n++] = !escaped ? token[i] : token[i + 1] == '0' ? '~' : '/';
        i += escaped;
    }
    if (at->type == JSON_OBJECT) return json_get(at, (Str){token, n});
    uint64_t index;
    if (at->type != JSON_ARRAY || !str_parse_u64((Str){token, n}, &index) || index >= at->length) return NULL;
    const JsonNode *e = json_first(at);
    while (index--)
        e = json_next(e);
    return e;
}

static const JsonNode *follow_pointer(const JsonNode *at, Str pointer) {
    char *text = (char *)(uintptr_t)pointer.ptr; // percent_decode's own copy
    for (size_t from = 1; at && from <= pointer.len;) {
        size_t to = from;
        while (to < pointer.len && text[to] != '/')
            to++;
        at = pointer_step(at, text + from, to - from);
        from = to + 1;
    }
    return at;
}

// $dynamicRef asks for the outermost schema with that anchor on the way there. With one such schema in the
// document that is the one; with several it depends on the way.
static bool check_dynamic(SchemaReader *r, const JsonNode *ref, const SchemaName *found) {
    if (!found || !found->is_dynamic) return true;
    for (uint32_t i = 0; i < r->n_names; i++) {
        const SchemaName *n = &r->names[i];
        if (n != found && n->is_dynamic && str_eq(n->anchor, found->anchor))
            return schema_refuse(r, ref, ERR_INVALID_REQUEST,
                                 "$dynamicRef to one of several schemas with this anchor");
    }
    return true;
}

bool schema_resolve(SchemaReader *r, const JsonNode *schema, const JsonNode *ref, bool is_dynamic,
                    const JsonNode **out) {
    Str text = {ref->as.string, ref->length}, uri;
    uint32_t base = r->base_of[schema - r->root];
    const char *hash = text.len ? memchr(text.ptr, '#', text.len) : NULL;
    Str fragment = hash ? str_slice(text, (size_t)(hash - text.ptr) + 1, text.len) : (Str){0};
    if (hash) text.len = (size_t)(hash - text.ptr);
    if (!resolve_uri(r, r->bases[base ? base - 1 : 0], text, &uri)) return false;
    if (!lang_work(&r->maker, r->n_names + text.len, r->err)) return schema_place(r, ref);
    const JsonNode *resource = find_resource(r, uri);
    if (!resource && base == 1 && text.len == 0) resource = r->root;
    if (!resource) {
        char shown[256];
        StrBuf b = STRBUF(shown);
        json_put_shown(&b, uri);
        return schema_refuse(r, ref, ERR_INVALID_REQUEST, "refers to another document, \"%s\"", shown);
    }
    char *decoded = arena_new(&r->memory, char, fragment.len + 1);
    if (!decoded) return schema_no_memory(r);
    fragment = percent_decode(fragment, decoded);
    *out = resource;
    if (fragment.len && fragment.ptr[0] == '/') {
        *out = follow_pointer(resource, fragment);
    } else if (fragment.len) {
        const SchemaName *found = find_anchor(r, uri, fragment);
        if (is_dynamic && !check_dynamic(r, ref, found)) return false;
        *out = found ? found->node : NULL;
    }
    if (!*out) return schema_refuse(r, ref, ERR_INVALID_REQUEST, "refers to nothing in this document");
    if ((*out)->type != JSON_OBJECT && (*out)->type != JSON_BOOL)
        return schema_refuse(r, ref, ERR_INVALID_REQUEST, "refers to what is no schema");
    // Schemas may stand where no keyword says so.
    return index_schema(r, *out, base ? base - 1 : 0);
}
