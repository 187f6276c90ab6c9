// What a run measured. Pure: it is fed with requests and times and asks no clock.
//
// Times are nanoseconds of one clock. What counts lies in the window, which opens when the warm-up is over:
// pieces of text that come in it, and requests that were sent in it.
#pragma once

#include "base/arena.h"
#include "load/answer_event.h"
#include "load/histogram.h"

// A request on its way.
typedef struct {
    bool is_warmup;
    uint64_t due_ns; // when it should be sent: latencies count from here, which hides no delay on our side
    uint64_t sent_ns;
    uint64_t first_ns, last_ns; // pieces of text
    uint64_t longest_gap_ns;
    uint64_t n_pieces;
    uint32_t prompt_tokens, output_tokens; // as planned
    bool is_lengthened;                    // the shortest prompt that there can be is longer than planned
    bool has_usage;
    uint64_t usage_prompt, usage_output, usage_cached;
    FinishReason finish;
} LoadRequest;

typedef enum {
    LOAD_ENDED_WHOLE,
    LOAD_ENDED_CANCELLED, // by us, as planned
    LOAD_ENDED_CUT,       // by the end of the run
    LOAD_ENDED_ERROR,
} LoadEnd;

typedef enum {
    LOAD_ERROR_CONNECT, // no connection
    LOAD_ERROR_STATUS,  // refused with a status
    LOAD_ERROR_STREAM,  // an error within the stream
    LOAD_ERROR_CLOSED,  // a new connection was closed before a byte of the reply
    LOAD_ERROR_BROKEN,  // the stream ended without its last event
    LOAD_ERROR_TIMED_OUT,
    LOAD_ERROR_PROTOCOL, // what came is no stream of this API
    LOAD_ERROR_TOO_LONG, // the request does not fit this program's memory
    LOAD_ERROR_KINDS
} LoadErrorKind;

typedef struct {
    LoadErrorKind kind;
    uint16_t status;   // of LOAD_ERROR_STATUS
    char code[48];     // the server's, or empty
    char message[200]; // the first one's
    uint64_t count;
} LoadError;

// "refused with 429 BUSY", fit for a terminal
void load_error_put(StrBuf *out, const LoadError *e);

enum { TIMELINE_BINS = 240, TIMELINE_BIN_NS = 50 * 1000 * 1000 };

typedef struct {
    uint64_t n_pieces, n_ended, n_errors;
    double running_ns; // sum of running requests over time
    Histogram first_token, between;
} TimelineBin;

typedef struct {
    uint64_t window_start_ns; // UINT64_MAX during the warm-up
    uint64_t window_end_ns;   // UINT64_MAX while it is not known

    uint64_t n_sent, n_whole, n_cancelled, n_cut, n_failed; // requests that were sent in the window
    uint64_t n_warmup;
    uint64_t n_unsent;          // arrivals that were due and never sent
    uint64_t n_length, n_stop;  // why whole ones ended
    uint64_t n_cut_short;       // of n_length: with fewer tokens than they asked for
    uint64_t n_lengthened;      // requests with a longer prompt than planned
    uint64_t n_limited, n_good; // of those that can keep the limits or not: kept them
    Histogram first_token, between, whole, late;

    uint64_t pieces;                       // in the window
    uint64_t prompt_tokens;                // planned, of requests whose first token came in the window
    uint64_t usage_requests, usage_pieces; // of all requests with a usage, the warm-up's too:
    uint64_t usage_output, usage_prompt, usage_cached, usage_prompt_planned;

    LoadError errors[LOAD_ERRORS_MAX];
    uint32_t n_errors;
    uint64_t n_other_errors; // of kinds beyond these

    uint64_t bin_ns;
    uint32_t n_bins; // used
    uint32_t running;
    uint64_t running_since_ns;
    TimelineBin *bins; // [TIMELINE_BINS]; their width doubles when there are too few
    LoadLimits limits;
} LoadStats;

// NULL where the arena is full.
LoadStats *stats_create(const LoadLimits *limits, Arena *arena);
void stats_open_window(LoadStats *s, uint64_t at_ns);
// The number of running requests from now on.
void stats_set_running(LoadStats *s, uint32_t running, uint64_t now_ns);
void stats_request_sent(LoadStats *s, const LoadRequest *r);
// A piece of its text has come.
void stats_request_piece(LoadStats *s, LoadRequest *r, uint64_t now_ns);
// `error` for LOAD_ENDED_ERROR alone; it is counted with those of its kind, status and code.
void stats_request_end(LoadStats *s, const LoadRequest *r, LoadEnd end, const LoadError *error,
                       uint64_t now_ns);
// An arrival of an open loop that was due, and that the run ended before it could be sent.
void stats_arrival_unsent(LoadStats *s, uint64_t due_ns, uint64_t now_ns);
void stats_close_window(LoadStats *s, uint64_t at_ns);

// ---- figures ----

// Whether there is something to show for the run: an answer, or text of requests that still ran at its end.
bool stats_has_answers(const LoadStats *s);
double stats_seconds(const LoadStats *s);
// Of the requests that came to an end, the share that failed; 0 where none did.
double stats_failed_share(const LoadStats *s);
// "40 refused with 503 BUSY, 5 timed out": the kinds with the most failures, `kinds` of them and how many are
// of others. Fit for a terminal.
void stats_put_failures(StrBuf *out, const LoadStats *s, uint32_t kinds);
// Tokens of the window: as the servers' usage counts them where it was given (pieces of text that came in the
// window, times the tokens that a piece had on average), else as pieces of text.
double stats_output_tokens(const LoadStats *s);
double stats_prompt_tokens(const LoadStats *s);
// Output tokens a piece of text.
double stats_tokens_per_piece(const LoadStats *s);
