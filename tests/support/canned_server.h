// A server whose answers are written down, in a process of its own: what the load generator is tested and
// measured against. It speaks just enough HTTP/1.1, and does wrong what it is told to do wrong.
//
// What cannot be done ends the case.
#pragma once

#include "base/base.h"

#include <sys/types.h>

typedef enum {
    CANNED_RIGHT,
    CANNED_REFUSES_429,
    CANNED_REFUSES_500,    // with a body that is not JSON
    CANNED_BREAKS_OFF,     // closes the connection after half of the events
    CANNED_LEAVES_OUT_END, // ends the body without the stream's last event
    CANNED_ERROR_EVENT,    // after half of the events
    CANNED_SILENT,         // takes the request and never answers
    CANNED_NO_STREAM,      // one JSON body
    CANNED_BAD_JSON,       // in an event
    CANNED_BAD_CHUNK,      // in the coding of the body
    CANNED_CLOSES_KEPT,    // right, but closes the connection after the answer without a word
} CannedFault;

typedef struct {
    bool execute;         // the events of /execute; else those of chat completions
    bool until_close;     // the body ends with the connection; else it is chunked
    bool has_usage;       // the last chunk of an OpenAI stream has one
    bool is_cached;       // it says that all of a prompt was in its cache; else 3 tokens
    bool has_crlf;        // lines end with CR LF
    const char *piece;    // an event's text; NULL: " word"
    uint32_t n_events;    // of an answer; 0: as many as max_tokens says
    uint32_t first_ms;    // before the first event
    uint32_t interval_us; // between events; 0: as fast as they are taken
    uint32_t cut_bytes;   // sends no more at once, with a pause; 0: as much as goes
    CannedFault fault;
    uint32_t prompt_max;      // refuses longer prompts (n_prompt tokens) with 400; 0: takes all
    const char *model;        // in the list of models, as it stands in JSON; NULL: "canned"
    const char *refusal;      // the body of CANNED_REFUSES_500; NULL: "went astray!"
    uint32_t fault_every;     // 0 and 1: in every request; n: in each n-th
    uint32_t n_right;         // the first requests, that nothing is wrong with
    uint32_t connections_max; // more are closed; 0: as many as it has memory for
    const char *log_path;     // requests' bodies, a line each; NULL: nowhere
} CannedConfig;

typedef struct {
    pid_t pid;
    uint16_t port;
} CannedServer;

CannedServer canned_start(const CannedConfig *config);
void canned_stop(CannedServer server);
