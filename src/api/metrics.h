// Counters and histograms for GET /metrics, in the Prometheus text format 0.0.4.
//
// All of it is kept by the I/O thread, through which every request and event passes anyway.
#pragma once

#include "base/strbuf.h"

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
    double load_seconds;
    double jit_seconds;
    Str model;
    Str quant_kind;
    uint32_t sm;
} MetricsGauges;

void metrics_observe(Metrics *m, HistogramId id, double ms);

void metrics_write(const Metrics *m, const MetricsGauges *gauges, StrBuf *out);
