#include "json/json_scan.h"

static bool scan_fail(JsonScan *s) {
    s->bad = true;
    s->at = s->end;
    return false;
}

static bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

// The next byte that is no blank; 0 at the end.
static char scan_peek(JsonScan *s) {
    while (s->at < s->end && is_blank(*s->at))
        s->at++;
    return s->at < s->end ? *s->at : 0;
}

bool json_scan_open(JsonScan *s, char bracket) {
    char c = scan_peek(s);
    if (c != bracket) return c || s->bad ? false : scan_fail(s);
    s->at++;
    return true;
}

// At the next element, past a comma; false past the closing bracket.
static bool scan_next(JsonScan *s, char closing) {
    char c = scan_peek(s);
    if (c == closing) {
        s->at++;
        return false;
    }
    if (c == ',') {
        s->at++;
        c = scan_peek(s);
    }
    return c ? true : scan_fail(s);
}

bool json_scan_key(JsonScan *s, Str *key) {
    if (s->bad || !scan_next(s, '}')) return false;
    if (!json_scan_str(s, key) || scan_peek(s) != ':') return scan_fail(s);
    s->at++;
    return true;
}

bool json_scan_element(JsonScan *s) {
    return !s->bad && scan_next(s, ']');
}

bool json_scan_str(JsonScan *s, Str *raw) {
    if (scan_peek(s) != '"') return false;
    const char *start = ++s->at;
    for (; s->at < s->end; s->at++) {
        if (*s->at == '"') {
            *raw = (Str){start, (size_t)(s->at++ - start)};
            return true;
        }
        if (*s->at == '\\') s->at++;
    }
    return scan_fail(s);
}

static bool ends_scalar(char c) {
    return c == ',' || c == '}' || c == ']' || c == ':' || is_blank(c);
}

bool json_scan_u64(JsonScan *s, uint64_t *out) {
    (void)scan_peek(s);
    const char *at = s->at;
    while (at < s->end && !ends_scalar(*at))
        at++;
    if (!str_parse_u64((Str){s->at, (size_t)(at - s->at)}, out)) return false;
    s->at = at;
    return true;
}

static void scan_skip_scalar(JsonScan *s) {
    const char *start = s->at;
    while (s->at < s->end && !ends_scalar(*s->at))
        s->at++;
    if (s->at == start) scan_fail(s);
}

void json_scan_skip(JsonScan *s) {
    uint64_t depth = 0;
    do {
        char c = scan_peek(s);
        Str text;
        if (c == '{' || c == '[') {
            depth++;
            s->at++;
        } else if (depth && (c == '}' || c == ']')) {
            depth--;
            s->at++;
        } else if (depth && (c == ',' || c == ':')) {
            s->at++;
        } else if (c == '"') {
            if (!json_scan_str(s, &text)) return;
        } else {
            scan_skip_scalar(s);
        }
    } while (depth && !s->bad);
}

// ---- a value by its position ----

static void put_name(StrBuf *out, Str name) {
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        if (c == '~' || c == '/') strbuf_put(out, c == '~' ? STR("~0") : STR("~1"));
        else strbuf_put_char(out, c);
    }
}

bool json_scan_find(Str text, size_t position, StrBuf *pointer, Str *value) {
    JsonScan s = json_scan_begin(text);
    if (position >= text.len) return false;
    const char *target = text.ptr + position;
    for (;;) {
        (void)scan_peek(&s);
        const char *start = s.at;
        JsonScan behind = s;
        json_scan_skip(&behind);
        if (behind.bad || start > target) return false;
        *value = (Str){start, (size_t)(behind.at - start)};
        if (start == target) return true;
        // Into the child that the position is in.
        Str name = {0};
        uint32_t index = 0;
        bool is_object = json_scan_open(&s, '{');
        if (!is_object && !json_scan_open(&s, '[')) return false;
        for (;; index++) {
            if (!(is_object ? json_scan_key(&s, &name) : json_scan_element(&s))) return false;
            JsonScan child = s;
            json_scan_skip(&child);
            if (child.bad) return false;
            if (child.at > target) break;
            s = child;
        }
        strbuf_put_char(pointer, '/');
        if (is_object) put_name(pointer, name);
        else strbuf_printf(pointer, "%u", index);
    }
}
