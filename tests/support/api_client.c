#include "api_client.h"

#include "base/strbuf.h"
#include "os/os.h"
#include "os/os_net.h"
#include "runner.h"
#include "worker_process.h"

#include <stdio.h>

enum { PATIENCE_MS = 60 * 1000 }; // the machine may be busy

Answer ask_with(uint16_t port, const char *method, const char *path, const char *body, HttpHeader header) {
    char url[128];
    Arena arena = os_arena(2 * HTTP_OUTPUT_BYTES_MAX);
    Answer a = {0};
    Error err;
    snprintf(url, sizeof url, "http://127.0.0.1:%u%s", port, path);
    HttpClientRequest request = {.method = method,
                                 .url = str_from_c(url),
                                 .content_type = body ? STR("application/json") : (Str){0},
                                 .body = str_from_c(body),
                                 .headers = &header,
                                 .header_count = header.name.len ? 1 : 0,
                                 .timeout_ms = 20000};
    if (!http_client_exchange(&request, &arena, &a.reply, &err)) {
        FAIL("%s %s: %s", method, path, err.message);
        test_end();
    }
    a.status = a.reply.status;
    a.body = a.reply.body;
    return a;
}

Answer ask(FakeWorker *f, const char *method, const char *path, const char *body) {
    return ask_with(fake_port(f), method, path, body, (HttpHeader){0});
}

Str answer_header(const Answer *a, const char *name) {
    const Str *value = http_client_reply_header(&a->reply, str_from_c(name));
    return value ? *value : (Str){0};
}

Str ask_raw(uint16_t port, Str request) {
    enum { ANSWER_BYTES = 64 * 1024 };
    int socket;
    Error err;
    char *text = os_reserve(ANSWER_BYTES);
    size_t length = 0, got = 0, sent = 0;
    REQUIRE(os_net_connect(STR("127.0.0.1"), port, PATIENCE_MS, &socket, &err));
    CHECK(os_net_send(socket, request, &sent) == OS_NET_OK && sent == request.len);
    while (os_net_wait_ready(socket, false, PATIENCE_MS) && length < ANSWER_BYTES &&
           os_net_receive(socket, text + length, ANSWER_BYTES - length, &got) == OS_NET_OK)
        length += got;
    os_net_close(socket);
    return (Str){text, length};
}

void shut_down(FakeWorker *f) {
    Answer a = ask(f, "POST", "/shutdown", "");
    CHECK_INT_EQ(202, a.status);
    fake_worker_join(f);
}

Stream *open_stream(FakeWorker *f, const char *body, HttpHeader header) {
    char url[64];
    Error err;
    Stream *s = os_reserve(sizeof *s);
    snprintf(url, sizeof url, "http://127.0.0.1:%u/execute", fake_port(f));
    HttpClientRequest request = {.method = "POST",
                                 .url = str_from_c(url),
                                 .content_type = STR("application/json"),
                                 .body = str_from_c(body),
                                 .headers = &header,
                                 .header_count = header.name.len ? 1 : 0,
                                 .timeout_ms = 20000};
    if (!http_client_open(&s->client, &request, &s->reply, &err)) FAIL("%s", err.message), test_end();
    return s;
}

void read_until(Stream *s, const char *part) {
    Error err;
    while (!s->ended && !(part && text_contains((Str){s->text, s->length}, part))) {
        size_t got = 0;
        if (!http_client_read(&s->client, s->text + s->length, sizeof s->text - s->length, &got, &err)) {
            FAIL("%s", err.message);
            test_end();
        }
        s->length += got;
        s->ended = got == 0;
    }
}

Str stream_text(const Stream *s) {
    return (Str){s->text, s->length};
}

Str token_events(Str stream, char memory[4096]) {
    static const char name[] = "event: token\ndata: ";
    StrBuf out = strbuf_from_memory(memory, 4096);
    const char *at, *end = stream.ptr + stream.len;
    while ((at = memmem(stream.ptr, (size_t)(end - stream.ptr), name, sizeof name - 1)) != NULL) {
        at += sizeof name - 1;
        stream.ptr = memchr(at, '\n', (size_t)(end - at));
        REQUIRE(stream.ptr != NULL);
        strbuf_put(&out, (Str){at, (size_t)(stream.ptr + 1 - at)});
    }
    CHECK(!out.truncated);
    return strbuf_str(&out);
}

uint32_t text_count(Str text, const char *part) {
    uint32_t n = 0;
    const char *at = text.ptr;
    while ((at = memmem(at, text.len - (size_t)(at - text.ptr), part, strlen(part))) != NULL) {
        at += strlen(part);
        n++;
    }
    return n;
}
