// Inside http/: what http_response.c (the text of responses) and http_connection.c (the state machine) need
// of each other.
#pragma once

#include "http/http_connection.h"

// Appends to the output, which has room for it.
void http_connection_send(HttpConnection *connection, Str bytes);
