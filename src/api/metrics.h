// Counters and histograms for GET /metrics, in the Prometheus text format 0.0.4.
//
// Beside our own names it has those that autoscalers and gateways look for in vLLM's, with the same values.
// All of it is kept by the I/O thread, through which every request and event passes anyway; steps are counted
// by the engine thread (bridge.h).
#pragma once

#include "base/strbuf.h"
#include "jobs/bridge.h"

typedef enum {
    OUTCOME_SUCCESS,
    OUTCOME_ERROR,
    OUTCOME_CANCELLED,
    OUTCOME_TIMEOUT,
    OUTCOME_REJECTED,
    OUTCOME_COUNT
} Outcome;

typedef enum {
    HISTOGRAM_INFERENCE,
    HISTOGRAM_FIRST_TOKEN,
    HISTOGRAM_INTER_TOKEN,
    HISTOGRAM_QUEUE,
    HISTOGRAM_COUNT
} HistogramId;

enum { HISTOGRAM_BUCKETS = 16 };

typedef struct {
    uint64_t buckets[HISTOGRAM_BUCKETS + 1]; // each alone, not summed up; the last is what lies above all
    uint64_t count;
    double sum_ms;
} Histogram;

typedef struct {
    uint64_t requests[OUTCOME_COUNT];
    uint64_t tokens_in;
    uint64_t jobs_set_aside;
    // Tokens of the prompts that were read to their end: those that were in the cache, and those that were
    // computed.
    uint64_t prompt_hits, prompt_misses;
    uint64_t tokens_generated;
    Histogram histograms[HISTOGRAM_COUNT];
} Metrics;

// What is read off the worker at the moment of the scrape.
typedef struct {
    uint64_t vram_bytes;
    double uptime_seconds;
    uint32_t jobs_active;
    uint32_t jobs_queued;
    double kv_used_ratio;
    uint32_t kv_pages_used, kv_pages_cached, kv_pages_total;
    uint64_t kv_tokens_total;
    // Checkpoints of states: places, those in use, bytes of all, and what has happened since the start.
    uint32_t checkpoints_total, checkpoints_used;
    uint64_t checkpoint_bytes, checkpoints_saved, checkpoints_restored, checkpoints_evicted;
    uint64_t batch_steps[BATCH_ROWS_BUCKETS], batch_rows; // of bridge.h
    double load_seconds;
    double jit_seconds;
    Str model;
    Str served_model;
    Str quant_kind;
    uint32_t sm;
} MetricsGauges;

void metrics_observe(Metrics *m, HistogramId id, double ms);

void metrics_write(const Metrics *m, const MetricsGauges *gauges, StrBuf *out);
