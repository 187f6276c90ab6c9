// Inside http/: what http_response.c (the text of responses) and http_connection.c (the state machine) need
// of each other.
#pragma once

#include "http/http_connection.h"

enum { HTTP_REFUSAL_BYTES_MAX = 2048 };

// Appends to the output, which has room for it.
void http_connection_send(HttpConnection *connection, Str bytes);

// An error response that ends the connection, with these headers beside its own. `date` may be empty.
void http_write_refusal_with(StrBuf *out, const HttpFault *fault, const char *date, const HttpHeader *headers,
                             uint32_t header_count);
