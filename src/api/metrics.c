#include "api/metrics.h"

#include <inttypes.h>

// Upper bounds in ms, a factor of about 2 apart: from the next token of a small model on a fast GPU to a long
// job on a laptop.
static const double bucket_bounds_ms[HISTOGRAM_BUCKETS] = {
    0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 10000, 60000, 300000,
};

static const char *const outcome_names[OUTCOME_COUNT] = {
    [OUTCOME_SUCCESS] = "success", [OUTCOME_ERROR] = "error",       [OUTCOME_CANCELLED] = "cancelled",
    [OUTCOME_TIMEOUT] = "timeout", [OUTCOME_REJECTED] = "rejected",
};

static const struct {
    const char *name;
    const char *help;
} histogram_rows[HISTOGRAM_COUNT] = {
    [HISTOGRAM_INFERENCE] = {"worker_inference_duration_ms", "Time from a job's acceptance to its end."},
    [HISTOGRAM_FIRST_TOKEN] = {"worker_first_token_ms", "Time from a job's acceptance to its first token."},
    [HISTOGRAM_INTER_TOKEN] = {"worker_inter_token_ms", "Time from one token event of a job to the next."},
    [HISTOGRAM_QUEUE] = {"worker_queue_ms", "Time that a job waited for a slot."},
};

typedef enum { READ_U64, READ_U32, READ_F64 } ReadAs;

// Metrics with one value each, from Metrics or MetricsGauges.
static const struct {
    const char *name;
    const char *type;
    const char *help;
    ReadAs read;
    bool from_gauges;
    size_t offset;
} value_rows[] = {
    {"worker_vram_bytes", "gauge", "Device memory allocated by this worker.", READ_U64, true,
     offsetof(MetricsGauges, vram_bytes)},
    {"worker_tokens_in_total", "counter", "Prompt tokens of accepted jobs.", READ_U64, false,
     offsetof(Metrics, tokens_in)},
    {"worker_tokens_generated_total", "counter", "Tokens generated.", READ_U64, false,
     offsetof(Metrics, tokens_generated)},
    {"worker_uptime_seconds", "gauge", "Time since the process started.", READ_F64, true,
     offsetof(MetricsGauges, uptime_seconds)},
    {"worker_jobs_active", "gauge", "Jobs that have a slot.", READ_U32, true,
     offsetof(MetricsGauges, jobs_active)},
    {"worker_jobs_queued", "gauge", "Jobs that wait for a slot.", READ_U32, true,
     offsetof(MetricsGauges, jobs_queued)},
    {"worker_kv_used_ratio", "gauge", "Part of the KV cache that jobs hold.", READ_F64, true,
     offsetof(MetricsGauges, kv_used_ratio)},
    {"worker_load_seconds", "gauge", "Time it took to load the model.", READ_F64, true,
     offsetof(MetricsGauges, load_seconds)},
    {"worker_jit_seconds", "gauge", "Time it took to compile the kernels.", READ_F64, true,
     offsetof(MetricsGauges, jit_seconds)},
};

void metrics_observe(Metrics *m, HistogramId id, double ms) {
    Histogram *h = &m->histograms[id];
    size_t bucket = 0;
    while (bucket < HISTOGRAM_BUCKETS && ms > bucket_bounds_ms[bucket])
        bucket++;
    h->buckets[bucket]++;
    h->count++;
    h->sum_ms += ms;
}

static void put_head(StrBuf *out, const char *name, const char *type, const char *help) {
    strbuf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

// A label's value: backslash, quote and line feed are escaped.
static void put_label(StrBuf *out, const char *name, Str value) {
    strbuf_printf(out, "%s=\"", name);
    for (size_t i = 0; i < value.len; i++) {
        char c = value.ptr[i];
        if (c == '\\' || c == '"') strbuf_put_char(out, '\\');
        strbuf_put(out, c == '\n' ? STR("\\n") : (Str){&value.ptr[i], 1});
    }
    strbuf_put_char(out, '"');
}

static void put_histogram(StrBuf *out, const Histogram *h, const char *name, const char *help) {
    put_head(out, name, "histogram", help);
    uint64_t below = 0;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        below += h->buckets[i];
        strbuf_printf(out, "%s_bucket{le=\"%.9g\"} %" PRIu64 "\n", name, bucket_bounds_ms[i], below);
    }
    strbuf_printf(out, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n%s_sum %.3f\n%s_count %" PRIu64 "\n", name,
                  h->count, name, h->sum_ms, name, h->count);
}

void metrics_write(const Metrics *m, const MetricsGauges *gauges, StrBuf *out) {
    put_head(out, "worker_requests_total", "counter", "Requests for jobs, by how they ended.");
    for (size_t i = 0; i < OUTCOME_COUNT; i++) {
        strbuf_printf(out, "worker_requests_total{outcome=\"%s\"} %" PRIu64 "\n", outcome_names[i],
                      m->requests[i]);
    }
    for (size_t i = 0; i < COUNT_OF(value_rows); i++) {
        const char *base = value_rows[i].from_gauges ? (const char *)gauges : (const char *)m;
        const void *at = base + value_rows[i].offset;
        put_head(out, value_rows[i].name, value_rows[i].type, value_rows[i].help);
        strbuf_printf(out, "%s ", value_rows[i].name);
        switch (value_rows[i].read) {
        case READ_U64: strbuf_printf(out, "%" PRIu64 "\n", *(const uint64_t *)at); break;
        case READ_U32: strbuf_printf(out, "%" PRIu32 "\n", *(const uint32_t *)at); break;
        case READ_F64: strbuf_printf(out, "%.6f\n", *(const double *)at); break;
        }
    }
    for (size_t i = 0; i < HISTOGRAM_COUNT; i++) {
        put_histogram(out, &m->histograms[i], histogram_rows[i].name, histogram_rows[i].help);
    }
    char sm[16] = "";
    StrBuf sm_text = STRBUF(sm);
    if (gauges->sm) strbuf_printf(&sm_text, "%u", gauges->sm);
    put_head(out, "worker_model_info", "gauge", "The model that is served; always 1.");
    strbuf_put(out, STR("worker_model_info{"));
    put_label(out, "model", gauges->model);
    strbuf_put_char(out, ',');
    put_label(out, "quant_kind", gauges->quant_kind);
    strbuf_put_char(out, ',');
    put_label(out, "sm", strbuf_str(&sm_text));
    strbuf_put(out, STR("} 1\n"));
}
