// Inside http/: what http_response.c (the text of responses) and http_connection.c (the state machine) need
// of each other.
#pragma once

#include "http/http_connection.h"

// Appends to the output. Where it does not fit, the client does not read: the connection is dropped, and the
// result is false.
bool http_connection_send(HttpConnection *connection, Str bytes);
