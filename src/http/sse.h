// Server-sent events (WHATWG HTML, section 9.2): "event: NAME\ndata: JSON\n\n".
//
//     JsonWriter w = sse_event_begin(&buf, "token");
//     json_open_object(&w); … json_close_object(&w);
//     sse_event_end(&buf);
//     http_stream_send(exchange, strbuf_str(&buf));
//
// The data must be a single line, which the JSON writer's output always is.
#pragma once

#include "json/json_writer.h"

// `name` NULL: an event of data alone.
JsonWriter sse_event_begin(StrBuf *out, const char *name);
void sse_event_end(StrBuf *out);
// A line that clients ignore; keeps proxies and timeouts quiet.
void sse_put_comment(StrBuf *out, const char *text);
