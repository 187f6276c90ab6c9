// A load generator for this worker and for servers of the OpenAI API: how the load is described, and what was
// measured. load_run (run.h) does it.
#pragma once

#include "base/error.h"
#include "http/http_parser.h"
#include "load/mix.h"
#include "load/trace.h"

typedef enum { LOAD_API_CHAT, LOAD_API_COMPLETIONS, LOAD_API_EXECUTE } LoadApi;

enum {
    LOAD_HEADERS_MAX = 16,
    LOAD_CLIENTS_MAX = 4096,                   // requests running at once
    LOAD_HEAD_BYTES_MAX = 20 * 1024,           // of a request
    LOAD_REQUEST_BYTES_MAX = 16 * 1024 * 1024, // with its head
    LOAD_LINE_BYTES_MAX = 256 * 1024,          // of a stream, where it comes in pieces, and of a reply's head
    LOAD_ERROR_BODY_BYTES = 4096,              // that are read of a refusal
    LOAD_ERRORS_MAX = 32,                      // kinds of errors told apart
};

// What a request must keep to count as good; 0 is no limit. Times in ms.
typedef struct {
    double first_token; // until the first token
    double between;     // mean time between its tokens
    double gap;         // longest time between two of them
    double whole;       // until its end
} LoadLimits;

// Strings and tables are the caller's and must outlive the run.
typedef struct {
    Str server; // http://HOST:PORT with an optional path
    LoadApi api;
    Str model; // empty: the first that the server lists
    Str bearer_token;
    HttpHeader headers[LOAD_HEADERS_MAX];
    uint32_t n_headers;
    uint32_t timeout_ms; // of a request

    uint32_t clients; // of a closed loop: each sends its next request when the last has ended
    double rate;      // above 0: an open loop with this many arrivals a second, whatever has ended
    uint32_t burst;   // arrivals that come together
    uint32_t max_running;
    const Trace *trace; // NULL: as below
    uint64_t requests;  // counted ones; 0: no limit
    uint64_t duration_ns;
    uint64_t warmup_requests, warmup_ns; // one of them at most

    LengthMix prompts, outputs;
    uint32_t shared_prefix; // tokens in front of each prompt, the same in a group
    uint32_t prefix_groups;
    uint32_t turns; // of a conversation
    double cancel_share;
    double temperature;
    bool seeds_requests;
    bool ignores_eos;
    bool calibrates; // finds with two requests how many tokens a word is
    uint64_t seed;
    LoadLimits limits;
} LoadConfig;

// "first_token:200,between:50": names of LoadLimits and ms.
MUST_CHECK bool load_parse_limits(Str text, LoadLimits *out, Error *err);
const char *load_api_name(LoadApi api);
static inline bool load_is_open(const LoadConfig *c) {
    return c->rate > 0 || (c->trace && c->trace->has_times);
}
static inline bool load_has_limits(const LoadLimits *l) {
    return l->first_token > 0 || l->between > 0 || l->gap > 0 || l->whole > 0;
}
// "first token 200 ms, between 50 ms"
void load_put_limits(StrBuf *out, const LoadLimits *limits);
// The settings in a line: "8 clients, prompts of 128 tokens, answers of 64; seed 1".
void load_put_settings(StrBuf *out, const LoadConfig *c);
