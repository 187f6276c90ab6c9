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
    [HISTOGRAM_QUEUE] =
        {"worker_queue_ms",
         "Time that a job waited: for its turn to be encoded, for a grammar, and for a slot."},
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
    {"worker_jobs_set_aside_total", "counter",
     "Times that a job had to wait in its midst, since the KV cache was full.", READ_U64, false,
     offsetof(Metrics, jobs_set_aside)},
    {"worker_kv_used_ratio", "gauge", "Part of the KV cache that jobs hold.", READ_F64, true,
     offsetof(MetricsGauges, kv_used_ratio)},
    {"worker_checkpoint_bytes", "gauge", "Memory for checkpoints of states, free or not.", READ_U64, true,
     offsetof(MetricsGauges, checkpoint_bytes)},
    {"worker_load_seconds", "gauge", "Time it took to load the model.", READ_F64, true,
     offsetof(MetricsGauges, load_seconds)},
    {"worker_jit_seconds", "gauge", "Time it took to compile the kernels.", READ_F64, true,
     offsetof(MetricsGauges, jit_seconds)},
};

// Other names of values that vLLM has, too, as existing dashboards, autoscalers and gateways spell them.
typedef enum {
    ALIAS_RUNNING,
    ALIAS_WAITING,
    ALIAS_SET_ASIDE,
    ALIAS_KV_USED,
    ALIAS_HITS,
    ALIAS_QUERIES
} AliasValue;

static const struct {
    const char *name;
    const char *type;
    const char *help;
    AliasValue value;
} alias_rows[] = {
    {"vllm:num_requests_running", "gauge", "worker_jobs_active.", ALIAS_RUNNING},
    {"vllm:num_requests_waiting", "gauge", "worker_jobs_queued.", ALIAS_WAITING},
    {"vllm:num_preemptions_total", "counter", "worker_jobs_set_aside_total.", ALIAS_SET_ASIDE},
    {"vllm:kv_cache_usage_perc", "gauge", "worker_kv_used_ratio: 1 is full.", ALIAS_KV_USED},
    {"vllm:gpu_cache_usage_perc", "gauge", "worker_kv_used_ratio: 1 is full.", ALIAS_KV_USED},
    {"vllm:prefix_cache_hits_total", "counter", "Prompt tokens that were in the cache.", ALIAS_HITS},
    {"vllm:prefix_cache_queries_total", "counter", "Prompt tokens that were looked for in the cache.",
     ALIAS_QUERIES},
    {"vllm:gpu_prefix_cache_hits_total", "counter", "Prompt tokens that were in the cache.", ALIAS_HITS},
    {"vllm:gpu_prefix_cache_queries_total", "counter", "Prompt tokens that were looked for in the cache.",
     ALIAS_QUERIES},
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

static double alias_value(const Metrics *m, const MetricsGauges *gauges, AliasValue value) {
    switch (value) {
    case ALIAS_RUNNING: return gauges->jobs_active;
    case ALIAS_WAITING: return gauges->jobs_queued;
    case ALIAS_SET_ASIDE: return (double)m->jobs_set_aside;
    case ALIAS_KV_USED: return gauges->kv_used_ratio;
    case ALIAS_HITS: return (double)m->prompt_hits;
    case ALIAS_QUERIES: break;
    }
    return (double)(m->prompt_hits + m->prompt_misses);
}

static void put_aliases(StrBuf *out, const Metrics *m, const MetricsGauges *gauges) {
    for (size_t i = 0; i < COUNT_OF(alias_rows); i++) {
        put_head(out, alias_rows[i].name, alias_rows[i].type, alias_rows[i].help);
        strbuf_printf(out, "%s{", alias_rows[i].name);
        put_label(out, "model_name", gauges->served_model);
        strbuf_printf(out, "} %.15g\n", alias_value(m, gauges, alias_rows[i].value));
    }
    put_head(out, "vllm:cache_config_info", "gauge",
             "What the KV cache holds, in blocks of tokens; always 1.");
    strbuf_printf(out, "vllm:cache_config_info{block_size=\"%d\",num_gpu_blocks=\"%" PRIu64 "\"} 1\n",
                  KV_PAGE_TOKENS, gauges->kv_tokens_total / KV_PAGE_TOKENS);
}

static void put_cache(StrBuf *out, const Metrics *m, const MetricsGauges *gauges) {
    // The engine thread writes the two one after the other: in between they may be more than all.
    uint32_t total = gauges->kv_pages_total, used = gauges->kv_pages_used;
    uint32_t cached = (uint32_t)min_u64(gauges->kv_pages_cached, total - used);
    put_head(out, "worker_kv_pages", "gauge",
             "Pages of the KV cache: free, held by jobs, or kept for texts that begin as earlier ones did.");
    strbuf_printf(out,
                  "worker_kv_pages{state=\"free\"} %u\nworker_kv_pages{state=\"used\"} %u\n"
                  "worker_kv_pages{state=\"cached\"} %u\n",
                  total - used - cached, used, cached);
    uint32_t taken = (uint32_t)min_u64(gauges->checkpoints_used, gauges->checkpoints_total);
    put_head(out, "worker_checkpoints", "gauge",
             "Places for checkpoints of the state that some models' layers keep: free, or with one.");
    strbuf_printf(out, "worker_checkpoints{state=\"free\"} %u\nworker_checkpoints{state=\"used\"} %u\n",
                  gauges->checkpoints_total - taken, taken);
    put_head(out, "worker_checkpoint_events_total", "counter",
             "Checkpoints that were saved, that a text went on from, and that made room for another one.");
    strbuf_printf(out,
                  "worker_checkpoint_events_total{event=\"saved\"} %" PRIu64 "\n"
                  "worker_checkpoint_events_total{event=\"restored\"} %" PRIu64 "\n"
                  "worker_checkpoint_events_total{event=\"evicted\"} %" PRIu64 "\n",
                  gauges->checkpoints_saved, gauges->checkpoints_restored, gauges->checkpoints_evicted);
    put_head(out, "worker_prefix_cache_tokens_total", "counter",
             "Prompt tokens, by whether they were in the cache.");
    strbuf_printf(out,
                  "worker_prefix_cache_tokens_total{result=\"hit\"} %" PRIu64 "\n"
                  "worker_prefix_cache_tokens_total{result=\"miss\"} %" PRIu64 "\n",
                  m->prompt_hits, m->prompt_misses);
}

static void put_batch_rows(StrBuf *out, const MetricsGauges *gauges) {
    static const char name[] = "worker_batch_rows";
    uint64_t below = 0;
    put_head(out, name, "histogram", "Rows of a step: tokens that were computed together.");
    for (uint32_t i = 0; i + 1 < BATCH_ROWS_BUCKETS; i++) {
        below += gauges->batch_steps[i];
        strbuf_printf(out, "%s_bucket{le=\"%u\"} %" PRIu64 "\n", name, 1u << i, below);
    }
    below += gauges->batch_steps[BATCH_ROWS_BUCKETS - 1];
    strbuf_printf(out, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n%s_sum %" PRIu64 "\n%s_count %" PRIu64 "\n", name,
                  below, name, gauges->batch_rows, name, below);
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
    put_cache(out, m, gauges);
    put_batch_rows(out, gauges);
    put_aliases(out, m, gauges);
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
