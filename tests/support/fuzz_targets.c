#include "fuzz_targets.h"

#include "base/rng.h"
#include "http_harness.h"
#include "json/json_reader.h"
#include "json/json_writer.h"
#include "os/os.h"

#include <stdlib.h>

enum { FUZZ_ARENA_BYTES = 8 << 20 };

static void fuzz_require(bool ok) {
    if (!ok) abort();
}

// ---- JSON ----

static const JsonNode *fuzz_parse(Str text, Arena *arena, Error *err) {
    *err = (Error){.position = ERROR_NO_POSITION};
    return json_parse(text, arena, &(JsonLimits){.nodes_max = 4096}, err);
}

static Str fuzz_write(const JsonNode *root, char *memory, size_t size) {
    StrBuf out = strbuf_from_memory(memory, size);
    JsonWriter w = json_writer_begin(&out);
    json_put_node(&w, root);
    fuzz_require(!out.truncated);
    return strbuf_str(&out);
}

void fuzz_json(const uint8_t *data, size_t size) {
    static Arena all;
    static char once[8 * FUZZ_INPUT_BYTES_MAX], twice[8 * FUZZ_INPUT_BYTES_MAX];
    if (size > FUZZ_INPUT_BYTES_MAX) return;
    if (!all.next) all = os_arena(FUZZ_ARENA_BYTES);
    Arena arena = all;
    Error err;
    const JsonNode *root = fuzz_parse((Str){(const char *)data, size}, &arena, &err);
    if (!root) {
        fuzz_require(err.position <= size && err.code == ERR_INVALID_REQUEST);
        fuzz_require(arena.next == all.next);
        return;
    }
    Str first = fuzz_write(root, once, sizeof once);
    const JsonNode *again = fuzz_parse(first, &arena, &err);
    fuzz_require(again != NULL);
    fuzz_require(str_eq(first, fuzz_write(again, twice, sizeof twice)));
}

// ---- HTTP ----

static void fuzz_answer(Harness *h, bool streams) {
    static const HttpResponse response = {
        .status = 200, .content_type = {"text/plain", 10}, .body = {"ok", 2}};
    while (http_exchange_is_open(h->exchange)) {
        if (streams && http_stream_begin(h->exchange, NULL, 0)) {
            fuzz_require(http_stream_send(h->exchange, STR("data: 1\n\n")));
            fuzz_require(http_stream_end(h->exchange));
        } else {
            fuzz_require(http_respond(h->exchange, &response));
        }
        harness_settle(h, true);
    }
}

// Sends all of it in pieces of 1 to `piece_max` bytes.
static void fuzz_converse(Harness *h, Str sent, uint8_t mode, uint32_t piece_max, uint64_t key) {
    FuzzDice dice = {.key = key};
    harness_reopen(h);
    h->answer = mode & 1 ? ANSWER_LATER : ANSWER_AT_ONCE;
    if (mode & 16) h->refuses = STR("/p");
    while (sent.len) {
        size_t piece = (size_t)min_u64(1 + fuzz_roll(&dice, piece_max), sent.len);
        size_t taken = harness_feed(h, str_slice(sent, 0, piece), piece);
        fuzz_answer(h, mode & 2);
        if (taken == 0) break;
        sent = str_slice(sent, taken, sent.len);
    }
    HttpConnectionState state = h->connection.state;
    fuzz_require(state == HTTP_CONNECTION_HEAD || state == HTTP_CONNECTION_BODY ||
                 state == HTTP_CONNECTION_LINGERING);
    fuzz_require(h->closed == 0);
    // The client goes away, or is too slow; nothing may stay behind.
    if (mode & 4) http_connection_input_ended(&h->connection);
    else harness_pass_ms(h, HTTP_IDLE_TIMEOUT_MS);
    harness_settle(h, true);
    harness_pass_ms(h, HTTP_LINGER_MS);
    harness_settle(h, true);
    fuzz_require(h->connection.state == HTTP_CONNECTION_CLOSED);
    fuzz_require(h->shared.large_bodies == 0 && h->shared.lost_responses == 0);
}

void fuzz_http(const uint8_t *data, size_t size) {
    static char log[HARNESS_TEXT_BYTES], answers[HARNESS_TEXT_BYTES];
    static Harness *h;
    if (size < 1 || size > FUZZ_INPUT_BYTES_MAX / 2) return;
    if (!h) h = harness_open(NULL);
    Str sent = {(const char *)data + 1, size - 1};
    fuzz_converse(h, sent, data[0], HTTP_READ_BYTES, 0);
    size_t log_len = h->log.len, answers_len = h->sent.len;
    memcpy(log, h->log_text, log_len);
    memcpy(answers, h->sent_text, answers_len);
    fuzz_converse(h, sent, data[0], data[0] & 8 ? 3 : 40, data[0]);
    fuzz_require(str_eq((Str){log, log_len}, strbuf_str(&h->log)));
    // Whether the client is told to go on depends on how much of the body has come with the head.
    if (memmem(h->sent_text, h->sent.len, " 100 ", 5)) return;
    fuzz_require(str_eq((Str){answers, answers_len}, strbuf_str(&h->sent)));
}
