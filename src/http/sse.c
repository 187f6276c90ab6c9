#include "http/sse.h"

JsonWriter sse_event_begin(StrBuf *out, const char *name) {
    if (name) {
        strbuf_put(out, STR("event: "));
        strbuf_put(out, str_from_c(name));
        strbuf_put_char(out, '\n');
    }
    strbuf_put(out, STR("data: "));
    return json_writer_begin(out);
}

void sse_event_end(StrBuf *out) {
    strbuf_put(out, STR("\n\n"));
}

void sse_put_comment(StrBuf *out, const char *text) {
    strbuf_printf(out, ": %s\n\n", text);
}
