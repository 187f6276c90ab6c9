#include "base/log.h"

#include "base/utf8.h"

#include <inttypes.h>
#include <math.h>
#include <time.h>

static const struct {
    const char *name;
    LogLevel level;
    const char *narration;
} log_events[LOG_EVENT_COUNT] = {
#define LOG_EVENT_ROW(id, name, level, narration) [LOG_##id] = {name, LOG_LEVEL_##level, narration},
    LOG_EVENTS(LOG_EVENT_ROW)
#undef LOG_EVENT_ROW
};

static const char *const log_level_names[LOG_LEVEL_COUNT] = {
#define LOG_LEVEL_ROW(id, name) [LOG_LEVEL_##id] = name,
    LOG_LEVELS(LOG_LEVEL_ROW)
#undef LOG_LEVEL_ROW
};

static const char *const log_level_styles[LOG_LEVEL_COUNT] = {
    [LOG_LEVEL_DEBUG] = "\x1b[2m",
    [LOG_LEVEL_INFO] = "\x1b[36m",
    [LOG_LEVEL_WARN] = "\x1b[33m",
    [LOG_LEVEL_ERROR] = "\x1b[31m",
};

const char *log_event_name(LogEvent event) {
    return log_events[event].name;
}

const char *log_event_narration(LogEvent event) {
    return log_events[event].narration;
}

// A JSON string (RFC 8259); bytes that are no UTF-8 become U+FFFD.
static void put_json_str(StrBuf *out, Str s) {
    strbuf_put_char(out, '"');
    while (s.len) {
        uint32_t cp;
        size_t length = utf8_decode(s, &cp);
        if (length == 0) {
            strbuf_put(out, STR("\xEF\xBF\xBD"));
            length = 1;
        } else if (cp == '"' || cp == '\\') {
            strbuf_printf(out, "\\%c", (char)cp);
        } else if (utf8_is_control(cp)) {
            strbuf_printf(out, "\\u%04x", (unsigned)cp);
        } else {
            strbuf_put(out, str_slice(s, 0, length));
        }
        s = str_slice(s, length, s.len);
    }
    strbuf_put_char(out, '"');
}

// Control characters would let a field forge a line or drive the terminal.
static void put_text_str(StrBuf *out, Str s) {
    while (s.len) {
        uint32_t cp;
        size_t length = utf8_decode(s, &cp);
        strbuf_put(out, length == 0 || utf8_is_control(cp) ? STR(" ") : str_slice(s, 0, length));
        s = str_slice(s, length ? length : 1, s.len);
    }
}

static void put_value(StrBuf *out, const LogField *f, bool json) {
    if (f->type == LOG_FIELD_U64) {
        strbuf_printf(out, "%" PRIu64, f->u64);
    } else if (f->type == LOG_FIELD_F64) {
        strbuf_printf(out, "%.*f", f->digits, isfinite(f->f64) ? f->f64 : 0.0);
    } else if (json) {
        put_json_str(out, f->str);
    } else {
        put_text_str(out, f->str);
    }
}

static const LogField *find_field(const LogField *fields, size_t n_fields, Str name) {
    for (size_t i = 0; i < n_fields; i++) {
        if (str_eq(name, str_from_c(fields[i].name))) return &fields[i];
    }
    return NULL;
}

// The event's sentence with its {fields} filled in; one that is not there shows as "?". A sentence that a
// message ends keeps the message's full stop or question mark.
static void put_narration(StrBuf *out, const Log *log, LogEvent event, const LogField *fields,
                          size_t n_fields) {
    LogField model_ref = LOG_STR("model_ref", log->model_ref);
    for (const char *at = log_events[event].narration; *at;) {
        size_t plain = strcspn(at, "{");
        char last = out->len ? out->ptr[out->len - 1] : 0;
        bool doubled = at[0] == '.' && !at[1] && (last == '.' || last == '?');
        if (!doubled) strbuf_put(out, (Str){at, plain});
        at += plain;
        if (!*at) return;
        size_t length = strcspn(at + 1, "}");
        const LogField *f = find_field(fields, n_fields, (Str){at + 1, length});
        if (!f) f = find_field(&model_ref, 1, (Str){at + 1, length});
        if (f) put_value(out, f, false);
        else strbuf_put_char(out, '?');
        at += length + 2;
    }
}

static void put_json_member(StrBuf *out, const char *name, Str value) {
    if (value.len == 0) return;
    strbuf_printf(out, ",\"%s\":", name);
    put_json_str(out, value);
}

static void put_utc(StrBuf *out, uint64_t unix_ms) {
    time_t seconds = (time_t)(unix_ms / 1000);
    struct tm t;
    char text[32];
    gmtime_r(&seconds, &t);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &t);
    strbuf_printf(out, "%s.%03uZ", text, (unsigned)(unix_ms % 1000));
}

static void write_json(const Log *log, LogEvent event, const LogField *fields, size_t n_fields, StrBuf *out) {
    strbuf_put(out, STR("{\"ts\":\""));
    put_utc(out, log->now_unix_ms());
    strbuf_put_char(out, '"');
    put_json_member(out, "level", str_from_c(log_level_names[log_events[event].level]));
    put_json_member(out, "event", str_from_c(log_events[event].name));
    put_json_member(out, "worker_id", log->worker_id);
    put_json_member(out, "model_ref", log->model_ref);
    if (log->gpu_device >= 0) strbuf_printf(out, ",\"gpu_device\":%d", log->gpu_device);
    for (size_t i = 0; i < n_fields; i++) {
        if (fields[i].type == LOG_FIELD_STR && fields[i].str.len == 0) continue;
        strbuf_printf(out, ",\"%s\":", fields[i].name);
        put_value(out, &fields[i], true);
    }
    char sentence[1024];
    StrBuf narration = STRBUF(sentence);
    put_narration(&narration, log, event, fields, n_fields);
    put_json_member(out, "narration", strbuf_str(&narration));
    strbuf_put(out, STR("}\n"));
}

enum { TEXT_COLUMN = 8 + 2 + 19 + 2 }; // where sentences begin

// Breaks a sentence that begins at column `start` between words, so that no line is longer than `columns`
// (but for a longer word). Later lines begin at `indent`.
static void put_wrapped(StrBuf *out, Str text, uint32_t start, uint32_t indent, uint32_t columns) {
    uint32_t column = start;
    for (size_t at = 0; at < text.len;) {
        size_t end = at;
        uint32_t width = 0; // of the word, in characters
        for (; end < text.len && text.ptr[end] != ' '; end++)
            width += ((uint8_t)text.ptr[end] & 0xC0) != 0x80;
        bool begins_line = column == start || column == indent;
        if (!begins_line && column + 1 + width > columns) {
            strbuf_printf(out, "\n%*s", (int)indent, "");
            column = indent;
        } else if (at > 0) {
            strbuf_put_char(out, ' ');
            column++;
        }
        strbuf_put(out, str_slice(text, at, end));
        column += width;
        at = end + (end < text.len);
    }
}

// "12:34:56  ready                The sentence." In local time; on a terminal, over a progress bar's line.
static void write_text(const Log *log, LogEvent event, const LogField *fields, size_t n_fields, StrBuf *out) {
    time_t seconds = (time_t)(log->now_unix_ms() / 1000);
    struct tm t;
    char text[16];
    localtime_r(&seconds, &t);
    strftime(text, sizeof text, "%H:%M:%S", &t);
    const char *name = log_events[event].name;
    if (log->styled) {
        strbuf_printf(out, "\r\x1b[K\x1b[2m%s\x1b[0m  %s%-19s\x1b[0m  ", text,
                      log_level_styles[log_events[event].level], name);
    } else {
        strbuf_printf(out, "%s  %-19s  ", text, name);
    }
    if (!log->columns) {
        put_narration(out, log, event, fields, n_fields);
    } else {
        char sentence[2048];
        StrBuf narration = STRBUF(sentence);
        uint32_t columns = log->columns();
        uint32_t indent = columns >= 2 * TEXT_COLUMN ? TEXT_COLUMN : 2;
        put_narration(&narration, log, event, fields, n_fields);
        put_wrapped(out, strbuf_str(&narration), TEXT_COLUMN, indent, columns);
    }
    strbuf_put_char(out, '\n');
}

bool log_format(const Log *log, LogEvent event, const LogField *fields, size_t n_fields, StrBuf *out) {
    if (log_events[event].level < log->level) return false;
    if (log->format == LOG_FORMAT_JSON) write_json(log, event, fields, n_fields, out);
    else write_text(log, event, fields, n_fields, out);
    if (out->truncated) out->ptr[out->len - 1] = '\n'; // no event is that long
    return true;
}

void log_write(const Log *log, LogEvent event, const LogField *fields, size_t n_fields) {
    char line[LOG_LINE_BYTES_MAX];
    StrBuf out = STRBUF(line);
    if (!log || !log_format(log, event, fields, n_fields, &out)) return;
    (void)log->write(log->sink, strbuf_str(&out)); // one that is dropped is counted by whoever drops it
}
