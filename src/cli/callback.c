#include "cli/callback.h"

#include "base/uuid.h"
#include "http/http_client.h"
#include "json/json_writer.h"
#include "os/os.h"
#include "os/os_net.h"

#include <stdio.h>

enum { TRIES = 3, TIMEOUT_MS = 5000, PAUSE_MS = 500, BODY_BYTES = 16 * 1024 };

void callback_write_uri(Str host, uint16_t port, char out[CALLBACK_URI_BYTES]) {
    bool is_ipv6 = host.len && memchr(host.ptr, ':', host.len);
    snprintf(out, CALLBACK_URI_BYTES, is_ipv6 ? "http://[%.*s]:%u" : "http://%.*s:%u", STR_ARG(host), port);
}

// Where the orchestrator reaches the worker.
static void find_uri(const Callback *c, char out[CALLBACK_URI_BYTES]) {
    char address[OS_NET_ADDRESS_BYTES];
    HttpUrl url;
    Str host = c->host;
    Error ignored; // then the try that follows says what is wrong with the orchestrator's address
    bool is_any = str_eq(host, STR("0.0.0.0")) || str_eq(host, STR("::"));
    if (is_any && http_url_parse(c->url, &url, &ignored) &&
        os_net_own_address(url.host, url.port, address, &ignored)) {
        host = str_from_c(address);
    }
    callback_write_uri(host, c->port, out);
}

static Str write_body(const Callback *c, char memory[BODY_BYTES]) {
    bool in_vram = c->info->vram_bytes_total != 0;
    char uri[CALLBACK_URI_BYTES];
    find_uri(c, uri);
    StrBuf body = strbuf_from_memory(memory, BODY_BYTES);
    JsonWriter json = json_writer_begin(&body);
    json_open_object(&json);
    json_member_str(&json, "worker_id", c->worker_id);
    json_member_str(&json, "model_ref", c->model_ref);
    json_member_u64(&json, "memory_bytes", c->info->vram_bytes_used);
    json_member_u64(&json, "vram_bytes", backend_vram_bytes(c->info));
    json_member_str(&json, "memory_architecture", in_vram ? STR("vram-only") : STR("host"));
    json_member_str(&json, "uri", str_from_c(uri));
    json_member_str(&json, "worker_type", in_vram ? STR("bespoke-cuda") : STR("cpu-reference"));
    json_key(&json, "capabilities");
    json_open_array(&json);
    json_put_str(&json, STR("text-gen"));
    json_close_array(&json);
    json_member_str(&json, "protocol", STR("sse"));
    json_close_object(&json);
    return strbuf_str(&body);
}

static bool try_once(const HttpClientRequest *request, Error *err) {
    uint8_t memory[16 * 1024];
    Arena arena = arena_from_memory(memory, sizeof memory);
    HttpClientReply reply;
    if (!http_client_exchange(request, &arena, &reply, err)) return false;
    if (reply.status >= 200 && reply.status < 300) return true;
    return error_set(err, ERR_IO, "%.*s: answered with status %u", STR_ARG(request->url), reply.status);
}

bool callback_send(const Callback *c, Error *err) {
    char body[BODY_BYTES], correlation_id[UUID_TEXT_BYTES];
    uint8_t random[16];
    os_random(random, sizeof random);
    uuid_from_random(random, correlation_id);
    HttpHeader header = {STR("X-Correlation-Id"), str_from_c(correlation_id)};
    HttpClientRequest request = {
        .method = "POST",
        .url = c->url,
        .bearer_token = c->bearer_token,
        .content_type = STR("application/json"),
        .body = write_body(c, body),
        .headers = &header,
        .header_count = 1,
        .timeout_ms = TIMEOUT_MS,
    };
    for (uint32_t attempt = 1;; attempt++) {
        if (try_once(&request, err)) return true;
        log_event(c->log, LOG_CALLBACK_RETRY, LOG_U64("attempt", attempt), LOG_U64("attempts", TRIES),
                  LOG_STR("message", str_from_c(err->message)), LOG_STR("correlation_id", header.value));
        if (attempt == TRIES) return error_prefix(err, "nobody was told that the worker is ready");
        os_sleep_ms((uint32_t)PAUSE_MS << (attempt - 1));
    }
}
