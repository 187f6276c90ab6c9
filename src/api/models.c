// GET /v1/models and /v1/models/{id}: the one model that is served, as the OpenAI API lists models, with
// vLLM's max_model_len and llama-server's meta; and as the Anthropic API does, for clients that send its
// version.
#include "api/api_internal.h"

#include "os/os.h"

#include <stdio.h>

enum { MODEL_ID_BYTES_MAX = 1024 };

// Which of the two APIs a request comes from. route_error_shape cannot tell: the path is the same.
bool api_is_anthropic(const HttpRequest *request) {
    return http_request_header(request, STR("Anthropic-Version")) != NULL;
}

uint64_t api_context_length(const Api *api) {
    const Bridge *bridge = api->config.bridge; // the engine's may be shorter than the model's
    return bridge_phase(bridge) == WORKER_READY ? bridge->status.context_length : api->config.context_length;
}

static void put_openai(JsonWriter *w, const Api *api) {
    const ApiConfig *c = &api->config;
    json_open_object(w);
    json_member_str(w, "id", c->served_model);
    json_member_str(w, "object", STR("model"));
    json_member_u64(w, "created", api->created_unix_ms / 1000);
    json_member_str(w, "owned_by", STR("worker-orcd"));
    json_member_str(w, "root", c->model_ref);
    json_member_null(w, "parent");
    json_member_u64(w, "max_model_len", api_context_length(api));
    json_key(w, "meta");
    json_open_object(w);
    json_member_u64(w, "n_vocab", tokenizer_vocab_size(c->tokenizer));
    json_member_u64(w, "n_ctx", api_context_length(api));
    json_member_u64(w, "n_ctx_train", c->context_length);
    json_member_u64(w, "n_params", c->n_params);
    json_member_u64(w, "size", c->model_bytes);
    json_close_object(w);
    json_close_object(w);
}

static void put_anthropic(JsonWriter *w, const Api *api) {
    char created_at[25];
    os_format_utc(api->created_unix_ms, created_at);
    json_open_object(w);
    json_member_str(w, "type", STR("model"));
    json_member_str(w, "id", api->config.served_model);
    json_member_str(w, "display_name", api->config.model);
    json_member_str(w, "created_at", str_from_c(created_at));
    json_close_object(w);
}

void api_models(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter) {
    (void)parameter;
    bool is_anthropic = api_is_anthropic(request);
    StrBuf text = api_text(api);
    JsonWriter w = json_writer_begin(&text);
    json_open_object(&w);
    if (!is_anthropic) json_member_str(&w, "object", STR("list"));
    json_key(&w, "data");
    json_open_array(&w);
    if (is_anthropic) put_anthropic(&w, api);
    else put_openai(&w, api);
    json_close_array(&w);
    if (is_anthropic) {
        json_member_bool(&w, "has_more", false);
        json_member_str(&w, "first_id", api->config.served_model);
        json_member_str(&w, "last_id", api->config.served_model);
    }
    json_close_object(&w);
    api_reply(api, exchange, 200, "application/json", strbuf_str(&text));
}

// Another name is 404 also where requests for it are served: who looks one up wants to know what there is.
void api_model(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter) {
    char memory[MODEL_ID_BYTES_MAX];
    Str id;
    Error err;
    bool is_ours =
        route_decode_parameter(parameter, memory, sizeof memory, &id) && str_eq(id, api->config.served_model);
    if (!is_ours) {
        error_fill(&err, ERR_NOT_FOUND, ERROR_NO_POSITION, "model: this worker serves \"%.*s\" alone",
                   STR_ARG(api->config.served_model));
        snprintf(err.field, sizeof err.field, "model");
        api_reply_error(api, exchange, &err);
        return;
    }
    StrBuf text = api_text(api);
    JsonWriter w = json_writer_begin(&text);
    if (api_is_anthropic(request)) put_anthropic(&w, api);
    else put_openai(&w, api);
    api_reply(api, exchange, 200, "application/json", strbuf_str(&text));
}
