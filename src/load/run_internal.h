// What run.c (when requests begin), exchange.c (one request from its first byte to its end) and probe.c (what
// is asked before a run) share.
#pragma once

#include "load/arrivals.h"
#include "load/connection.h"
#include "load/request.h"
#include "load/run.h"

typedef enum {
    SLOT_FREE,
    SLOT_RUNNING,
    SLOT_PAUSED, // after an error, until deadline_ns
} SlotState;

// A client: it runs one request at a time.
typedef struct Slot {
    SlotState state;
    Connection connection;
    SseReader reader;
    char *line; // [LOAD_LINE_BYTES_MAX] of the reader, of a reply's head, or of a refusal's body
    size_t refusal_length;
    RequestText text;
    RequestPlan plan;
    Str message; // what was sent, for the case that a kept connection is gone
    LoadRequest request;
    uint64_t cancel_after; // pieces; 0: not cancelled
    uint64_t deadline_ns;
    uint64_t end_ns;     // of the last event; 0 while it has not come
    uint32_t n_failures; // in a row
    struct Slot *next_free;
} Slot;

typedef struct {
    const LoadConfig *config;
    RequestMaker maker;
    OsNetPeer peer;
    LoadStats *stats;
    LoadResult *result;
    int poller, timer;
    char *memory; // of the slots' texts and lines
    size_t memory_size;
    Slot *slots;
    uint32_t n_slots;
    Slot *free_slots;
    uint32_t n_running;
    uint64_t cancel_key, cancel_point_key;

    uint64_t start_ns, now_ns;
    uint64_t n_begun; // requests
    uint32_t n_conversations;
    Arrivals arrivals;
    uint64_t next_due_ns; // of an open loop
    uint64_t timer_ns;

    bool probing;      // a request of the probe's: not counted
    LoadEnd probe_end; // how it ended
    LoadError probe_error;
    char buffer[HTTP_READ_BYTES];
} LoadRun;

// ---- exchange.c ----

// Sends `message` as the slot's request. It may end at once.
void exchange_begin(LoadRun *run, Slot *slot, Str message);
void exchange_ready(LoadRun *run, Slot *slot, uint32_t events);
// Hangs up.
void exchange_abandon(LoadRun *run, Slot *slot, LoadEnd end);
void exchange_time_out(LoadRun *run, Slot *slot);

// ---- run.c ----

// Waits for events and deals with them, for `timeout_ms` at most.
MUST_CHECK bool run_poll(LoadRun *run, uint32_t timeout_ms, Error *err);
// A slot's request has ended; `error` for LOAD_ENDED_ERROR. Begins what comes next.
void run_request_ended(LoadRun *run, Slot *slot, LoadEnd end, const LoadError *error);

// ---- probe.c ----

// Finds the server, the model's name, and how many tokens a word is.
MUST_CHECK bool probe_server(LoadRun *run, Arena *arena, Error *err);
MUST_CHECK bool probe_words(LoadRun *run, Error *err);
