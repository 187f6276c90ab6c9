#include "api/api_internal.h"

#include "os/os.h"

static double uptime_seconds(const Api *api) {
    return (double)(api->config.bridge->now_ns() - api->config.started_ns) / 1e9;
}

static const char *health_word(const Api *api, WorkerPhase phase, uint32_t jobs_active) {
    if (phase == WORKER_FAILED || atomic_load(&api->config.bridge->status.residency_lost)) return "unhealthy";
    if (api->drain_reason) return "draining";
    if (phase == WORKER_STARTING) return "starting";
    return jobs_active == api->config.bridge->n_slots ? "busy" : "healthy";
}

// Now, or in a moment: routers and gateways send jobs at the first 200.
static bool takes_jobs(const char *word) {
    return strcmp(word, "healthy") == 0 || strcmp(word, "busy") == 0;
}

static void member_str_or_null(JsonWriter *w, const char *key, const char *value) {
    if (value && *value) json_member_str(w, key, str_from_c(value));
    else json_member_null(w, key);
}

void api_health(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter) {
    (void)request, (void)parameter;
    const ApiConfig *c = &api->config;
    WorkerPhase phase = bridge_phase(c->bridge);
    WorkerStatus *status = &c->bridge->status;
    bool is_ready = phase == WORKER_READY;
    BackendInfo info = is_ready ? status->info : c->opened;
    uint32_t permille = atomic_load_explicit(&status->load_permille, memory_order_relaxed);
    uint32_t jobs_active = api->slots_taken;
    const char *word = health_word(api, phase, jobs_active);
    StrBuf text = api_text(api);
    JsonWriter w = json_writer_begin(&text);
    json_open_object(&w);
    json_member_str(&w, "status", str_from_c(word));
    json_member_str(&w, "model", c->model);
    json_member_str(&w, "model_ref", c->model_ref);
    json_member_str(&w, "worker_id", c->worker_id);
    bool is_lost = atomic_load(&status->residency_lost);
    json_member_bool(&w, "resident", is_ready && info.vram_bytes_total != 0 && !is_lost);
    json_member_str(&w, "quant_kind", c->quant_kind);
    json_member_str(&w, "kv_cache_type", c->kv_cache_type);
    json_member_str(&w, "products", str_from_c(backend_products(&info)));
    json_member_u64(&w, "vram_bytes_used", backend_vram_bytes(&info));
    json_member_u64(&w, "vram_bytes_total", info.vram_bytes_total);
    json_member_str(&w, "tokenizer_kind", str_from_c(tokenizer_kind(c->tokenizer)));
    json_member_u64(&w, "vocab_size", tokenizer_vocab_size(c->tokenizer));
    json_member_u64(&w, "context_length", api_context_length(api));
    json_member_u64(&w, "uptime_seconds", (uint64_t)uptime_seconds(api));
    if (info.sm) json_member_u64(&w, "sm", info.sm);
    else json_member_null(&w, "sm");
    member_str_or_null(&w, "cuda_runtime_version", info.runtime_version);
    member_str_or_null(&w, "driver_version", info.driver_version);
    json_key(&w, "capabilities");
    json_open_array(&w);
    json_put_str(&w, STR("text-gen"));
    json_close_array(&w);
    json_member_str(&w, "protocol", STR("sse"));
    json_member_u64(&w, "jobs_active", jobs_active);
    json_member_u64(&w, "jobs_max", c->bridge->n_slots);
    json_member_u64(&w, "jobs_queued", api->jobs_waiting);
    json_member_u64(&w, "checkpoints_max", info.n_checkpoints);
    json_member_u64(&w, "checkpoint_bytes", backend_checkpoint_bytes(&info));
    json_member_fixed(&w, "load_progress", is_ready ? 1.0 : (double)permille / 1000, 3);
    json_close_object(&w);
    api_reply(api, exchange, takes_jobs(word) ? 200 : 503, "application/json", strbuf_str(&text));
}

static void reply_status(Api *api, HttpExchange exchange, uint16_t status, const char *word) {
    StrBuf text = api_text(api);
    strbuf_printf(&text, "{\"status\":\"%s\"}", word);
    api_reply(api, exchange, status, "application/json", strbuf_str(&text));
}

// For probes that look at nothing but the status: whether jobs are taken at all, now or in a moment.
void api_ready(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter) {
    (void)request, (void)parameter;
    const char *word = health_word(api, bridge_phase(api->config.bridge), 0);
    reply_status(api, exchange, takes_jobs(word) ? 200 : 503, word);
}

// For probes that restart a process which does not answer: whoever reads this has an answer.
void api_live(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter) {
    (void)request, (void)parameter;
    reply_status(api, exchange, 200, "live");
}

void api_metrics(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter) {
    (void)request, (void)parameter;
    const ApiConfig *c = &api->config;
    WorkerStatus *status = &c->bridge->status;
    MetricsGauges gauges = {
        .uptime_seconds = uptime_seconds(api),
        .jobs_active = api->slots_taken,
        .jobs_queued = api->jobs_waiting,
        .model = c->model,
        .served_model = c->served_model,
        .quant_kind = c->quant_kind,
    };
    if (bridge_phase(c->bridge) == WORKER_READY) {
        uint32_t used = atomic_load_explicit(&status->kv_pages_used, memory_order_relaxed);
        gauges.kv_pages_used = used;
        gauges.kv_pages_cached = atomic_load_explicit(&status->kv_pages_cached, memory_order_relaxed);
        gauges.kv_pages_total = status->kv_pages_total;
        gauges.kv_tokens_total = status->kv_tokens_total;
        gauges.vram_bytes = backend_vram_bytes(&status->info);
        gauges.checkpoints_total = status->info.n_checkpoints;
        gauges.checkpoint_bytes = backend_checkpoint_bytes(&status->info);
        gauges.checkpoints_used = atomic_load_explicit(&status->checkpoints_used, memory_order_relaxed);
        gauges.checkpoints_saved = atomic_load_explicit(&status->checkpoints_saved, memory_order_relaxed);
        gauges.checkpoints_restored =
            atomic_load_explicit(&status->checkpoints_restored, memory_order_relaxed);
        gauges.checkpoints_evicted = atomic_load_explicit(&status->checkpoints_evicted, memory_order_relaxed);
        gauges.kv_used_ratio = status->kv_pages_total ? (double)used / status->kv_pages_total : 0;
        gauges.load_seconds = status->load_seconds;
        gauges.jit_seconds = status->info.jit_seconds;
        gauges.sm = status->info.sm;
    }
    for (uint32_t i = 0; i < BATCH_ROWS_BUCKETS; i++)
        gauges.batch_steps[i] = atomic_load_explicit(&status->batch_steps[i], memory_order_relaxed);
    gauges.batch_rows = atomic_load_explicit(&status->batch_rows, memory_order_relaxed);
    StrBuf text = api_text(api);
    metrics_write(&api->metrics, &gauges, &text);
    api_reply(api, exchange, 200, "text/plain; version=0.0.4; charset=utf-8", strbuf_str(&text));
}
