// Telling an orchestrator's --callback-url that the worker is ready.
#pragma once

#include "backend/backend.h"
#include "base/log.h"

// Strings are those of the worker.
typedef struct {
    const Log *log; // is told of tries that failed
    Str url;
    Str bearer_token; // empty for none
    Str worker_id;
    Str model_ref;
    Str host; // that the worker listens on
    uint16_t port;
    const BackendInfo *info; // after load
} Callback;

// POSTs the worker's particulars as JSON; three tries, with a pause that doubles, and one correlation id. A
// status of 200 to 299 is success. Where the worker listens on every address (0.0.0.0, ::), `uri` has the one
// that leads to the orchestrator. Waits for at most about 17 s. Error (ERR_IO): the last try's reason.
MUST_CHECK bool callback_send(const Callback *callback, Error *err);

// "http://HOST:PORT", with an IPv6 address in brackets.
enum { CALLBACK_URI_BYTES = 320 };
void callback_write_uri(Str host, uint16_t port, char out[CALLBACK_URI_BYTES]);
