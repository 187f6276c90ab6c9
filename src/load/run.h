// Runs a load against a server: one thread, one poller, no memory taken while it runs.
#pragma once

#include "load/stats.h"

typedef struct {
    LoadStats *stats;
    Str model;       // the name that requests gave; empty where the API has none
    bool calibrated; // tokens_per_word was measured; else it is a guess of 1
    bool
        refused_measuring; // the server took the first, short request, but not the longer one to measure with
    double tokens_per_word; // of the words that prompts are made of
    double template_tokens; // of a prompt beside its words
    bool stopped;           // by a signal, before its time
    uint64_t n_connections, n_reconnected;
    uint64_t n_events;     // read, of all requests
    uint64_t wall_ns;      // of the whole run with its warm-up
    uint64_t processor_ns; // of this process meanwhile
} LoadResult;

// Is told how it goes, five times a second. May be NULL.
typedef void LoadProgressFn(void *context, const LoadStats *stats, uint64_t now_ns);

// Memory comes from the arena, which must have LOAD_ARENA_BYTES; the requests' own is reserved besides. A
// stop signal (os_stop_signals) ends the run early. Errors: what makes a run senseless from the start, as a
// server that is not there, a URL that is wrong, or a refusal of the first request.
enum { LOAD_ARENA_BYTES = 64 * 1024 * 1024 };
MUST_CHECK bool load_run(const LoadConfig *config, LoadProgressFn *progress, void *context, Arena *arena,
                         LoadResult *out, Error *err);
