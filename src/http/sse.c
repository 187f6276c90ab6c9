#include "http/sse.h"

JsonWriter sse_event_begin(StrBuf *out, const char *name) {
    strbuf_printf(out, "event: %s\ndata: ", name);
    return json_writer_begin(out);
}

void sse_event_end(StrBuf *out) {
    strbuf_put(out, STR("\n\n"));
}

void sse_put_comment(StrBuf *out, const char *text) {
    strbuf_printf(out, ": %s\n\n", text);
}
