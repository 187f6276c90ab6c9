// What routers and other servers' clients ask of a worker beside its health: its load, its limits, its
// version. All of it is read off the bridge, and each answer has the members that several programs look for.
#include "api/api_internal.h"

#include "base/version.h"

static uint64_t kv_tokens_total(const Api *api) {
    const Bridge *bridge = api->config.bridge;
    return bridge_phase(bridge) == WORKER_READY ? bridge->status.kv_tokens_total : 0;
}

// As the pages in use are a part of all.
static uint64_t kv_tokens_used(const Api *api) {
    WorkerStatus *status = &api->config.bridge->status;
    uint64_t total = kv_tokens_total(api);
    if (total == 0) return 0;
    return atomic_load_explicit(&status->kv_pages_used, memory_order_relaxed) * total /
           status->kv_pages_total;
}

static void reply_object(Api *api, HttpExchange exchange, StrBuf *text, JsonWriter *w) {
    json_close_object(w);
    api_reply(api, exchange, 200, "application/json", strbuf_str(text));
}

// GET /get_load: `load` is what vllm-router's choice between two workers compares.
void api_load(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter) {
    (void)request, (void)parameter;
    StrBuf text = api_text(api);
    JsonWriter w = json_writer_begin(&text);
    json_open_object(&w);
    json_member_u64(&w, "load", api->slots_taken + api->jobs_waiting);
    json_member_u64(&w, "num_reqs", api->slots_taken);
    json_member_u64(&w, "num_waiting_reqs", api->jobs_waiting);
    json_member_u64(&w, "num_tokens", kv_tokens_used(api));
    reply_object(api, exchange, &text, &w);
}

static void put_model(JsonWriter *w, const Api *api) {
    const ApiConfig *c = &api->config;
    json_member_str(w, "model_id", c->served_model);
    json_member_str(w, "model_path", c->model_ref);
    json_member_str(w, "served_model_name", c->served_model);
    json_member_u64(w, "max_model_len", api_context_length(api));
    json_member_u64(w, "context_length", api_context_length(api));
    json_member_u64(w, "max_running_requests", c->bridge->n_slots);
}

// GET /server_info and /get_server_info.
void api_server_info(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter) {
    (void)request, (void)parameter;
    const ApiConfig *c = &api->config;
    StrBuf text = api_text(api);
    JsonWriter w = json_writer_begin(&text);
    json_open_object(&w);
    put_model(&w, api);
    json_member_str(&w, "version", str_from_c(version_text));
    json_member_str(&w, "instance_id", c->worker_id);
    json_member_u64(&w, "max_queued_requests", c->bridge->n_jobs - c->bridge->n_slots);
    json_member_u64(&w, "max_total_num_tokens", kv_tokens_total(api));
    json_member_u64(&w, "max_total_tokens", kv_tokens_total(api));
    json_member_u64(&w, "page_size", KV_PAGE_TOKENS);
    json_member_u64(&w, "block_size", KV_PAGE_TOKENS);
    json_member_u64(&w, "tp_size", 1);
    json_member_u64(&w, "dp_size", 1);
    reply_object(api, exchange, &text, &w);
}

// GET /model_info and /get_model_info.
void api_model_info(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter) {
    (void)request, (void)parameter;
    const ApiConfig *c = &api->config;
    StrBuf text = api_text(api);
    JsonWriter w = json_writer_begin(&text);
    json_open_object(&w);
    put_model(&w, api);
    json_member_bool(&w, "is_generation", true);
    json_member_u64(&w, "vocab_size", tokenizer_vocab_size(c->tokenizer));
    json_member_str(&w, "quant_kind", c->quant_kind);
    reply_object(api, exchange, &text, &w);
}

// GET /props, as llama-server has it.
void api_props(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter) {
    (void)request, (void)parameter;
    const ApiConfig *c = &api->config;
    StrBuf text = api_text(api);
    JsonWriter w = json_writer_begin(&text);
    json_open_object(&w);
    json_key(&w, "default_generation_settings");
    json_open_object(&w);
    json_member_u64(&w, "n_ctx", api_context_length(api));
    json_close_object(&w);
    json_member_u64(&w, "total_slots", c->bridge->n_slots);
    json_member_str(&w, "model_alias", c->served_model);
    json_member_str(&w, "model_path", c->model_ref);
    json_member_str(&w, "chat_template", c->chat->source);
    json_member_str(&w, "bos_token", tokenizer_piece(c->tokenizer, tokenizer_bos(c->tokenizer), true));
    json_member_str(&w, "eos_token", tokenizer_piece(c->tokenizer, tokenizer_eos(c->tokenizer), true));
    json_key(&w, "modalities");
    json_open_object(&w);
    json_member_bool(&w, "vision", false);
    json_member_bool(&w, "audio", false);
    json_close_object(&w);
    json_member_str(&w, "build_info", str_from_c(version_text));
    json_member_bool(&w, "structured_output", c->opened.masks);
    json_member_bool(&w, "is_sleeping", false);
    reply_object(api, exchange, &text, &w);
}

void api_version(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter) {
    (void)request, (void)parameter;
    StrBuf text = api_text(api);
    JsonWriter w = json_writer_begin(&text);
    json_open_object(&w);
    json_member_str(&w, "version", str_from_c(version_text));
    reply_object(api, exchange, &text, &w);
}

// The model stays in the device's memory as long as the worker lives.
void api_is_sleeping(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter) {
    (void)request, (void)parameter;
    api_reply(api, exchange, 200, "application/json", STR("{\"is_sleeping\":false}"));
}

// POST /flush_cache: what is kept of texts that are over is forgotten.
void api_flush_cache(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter) {
    (void)request, (void)parameter;
    bridge_drop_cache(api->config.bridge);
    api_reply(api, exchange, 200, "application/json",
              STR("{\"success\":true,\"message\":\"texts that are over are forgotten; the cache keeps those "
                  "of running jobs\"}"));
}
