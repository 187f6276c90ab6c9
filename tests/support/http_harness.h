// One HTTP connection without sockets or a clock, with a handler that writes down what it is given.
#pragma once

#include "base/strbuf.h"
#include "http/http_connection.h"

typedef enum {
    ANSWER_AT_ONCE, // 200 and "ok"
    ANSWER_LATER,   // the test does it, with harness.exchange
} HarnessAnswer;

enum { HARNESS_TEXT_BYTES = 256 * 1024 };

typedef struct {
    HttpShared shared;
    HttpConnection connection;
    HarnessAnswer answer;
    Str refuses;           // requests with a body whose path begins so are refused by their head; empty: none
    HttpExchange exchange; // the newest
    uint32_t requests;
    uint32_t closed; // calls of on_closed
    uint64_t closed_tag;
    StrBuf log;  // "METHOD path?query name=value… [body]" and a newline for each request
    StrBuf sent; // all that went to the client
    char log_text[HARNESS_TEXT_BYTES];
    char sent_text[HARNESS_TEXT_BYTES];
} Harness;

// A new connection at time 1000 ms. Input and output end at guard pages. One at a time.
Harness *harness_open(const HttpTimeouts *timeouts);
// Another connection in the same memory, everything else forgotten.
void harness_reopen(Harness *h);
// What the client sends, in pieces of at most `step` bytes; returns how many the connection took.
size_t harness_feed(Harness *h, Str bytes, size_t step);
// Does what a server does after each event, with as many turns as are needed; takes the output where `reads`.
void harness_settle(Harness *h, bool reads);
void harness_pass_ms(Harness *h, uint32_t ms);
// The status codes of the responses sent so far: "200 400".
const char *harness_statuses(Harness *h);
