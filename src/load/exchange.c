#include "load/run_internal.h"

#include "base/utf8.h"
#include "os/os.h"

#include <stdio.h>

// What of `text` fits, without a part of a character at its end.
static void keep_text(char *out, size_t size, Str text) {
    if (text.len >= size) {
        text.len = size - 1;
        text.len -= utf8_incomplete_tail(text);
    }
    snprintf(out, size, "%.*s", STR_ARG(text));
}

static void end_with_error(LoadRun *run, Slot *slot, LoadErrorKind kind, Str code, Str message) {
    LoadError error = {.kind = kind};
    if (kind == LOAD_ERROR_STATUS) error.status = slot->connection.status;
    keep_text(error.code, sizeof error.code, code);
    keep_text(error.message, sizeof error.message, message);
    run_request_ended(run, slot, LOAD_ENDED_ERROR, &error);
}

static void hang_up_with_error(LoadRun *run, Slot *slot, LoadErrorKind kind, Str code, Str message) {
    connection_close(&slot->connection);
    end_with_error(run, slot, kind, code, message);
}

void exchange_abandon(LoadRun *run, Slot *slot, LoadEnd end) {
    connection_close(&slot->connection);
    run_request_ended(run, slot, end, NULL);
}

static void end_of_reply(LoadRun *run, Slot *slot) {
    if (slot->end_ns || slot->request.finish != FINISH_NONE) {
        run_request_ended(run, slot, LOAD_ENDED_WHOLE, NULL);
    } else {
        hang_up_with_error(run, slot, LOAD_ERROR_BROKEN, (Str){0},
                           STR("the stream ended without its last event"));
    }
}

void exchange_time_out(LoadRun *run, Slot *slot) {
    connection_close(&slot->connection);
    if (slot->end_ns) end_of_reply(run, slot); // all had come but the body's own end
    else end_with_error(run, slot, LOAD_ERROR_TIMED_OUT, (Str){0}, STR("no end within --timeout-sec"));
}

// What a connection's failure means for its request. A kept connection that had gone is made anew.
static void on_failure(LoadRun *run, Slot *slot, ConnectionResult result) {
    Str problem = str_from_c(slot->connection.problem);
    if (result == CONNECTION_STALE) {
        run->result->n_reconnected++;
        exchange_begin(run, slot, slot->message);
    } else if (result == CONNECTION_REFUSED) {
        end_with_error(run, slot, LOAD_ERROR_CONNECT, (Str){0}, problem);
    } else if (slot->end_ns) {
        end_of_reply(run, slot);
    } else {
        LoadErrorKind kind = slot->connection.has_reply ? LOAD_ERROR_BROKEN : LOAD_ERROR_CLOSED;
        end_with_error(run, slot, kind, (Str){0}, problem);
    }
}

void exchange_begin(LoadRun *run, Slot *slot, Str message) {
    slot->message = message;
    slot->reader = sse_reader_begin(slot->line, LOAD_LINE_BYTES_MAX);
    slot->refusal_length = 0;
    slot->end_ns = 0;
    run->result->n_connections += slot->connection.state != CONNECTION_IDLE;
    ConnectionResult result = connection_send(&slot->connection, &run->peer, message);
    if (result != CONNECTION_WAITS) on_failure(run, slot, result);
}

// ---- the reply ----

static void on_refusal(LoadRun *run, Slot *slot, Str body) {
    Connection *c = &slot->connection;
    size_t taken = (size_t)min_u64(body.len, LOAD_ERROR_BODY_BYTES - slot->refusal_length);
    if (taken) memcpy(slot->line + slot->refusal_length, body.ptr, taken);
    slot->refusal_length += taken;
    if (!c->reply_body.done) return;
    Str code, message, all = {slot->line, slot->refusal_length};
    connection_finish(c);
    answer_error_read(all, &code, &message);
    end_with_error(run, slot, LOAD_ERROR_STATUS, code, message.len ? message : all);
}

// False where the request has ended with it.
static bool on_event(LoadRun *run, Slot *slot, const AnswerEvent *event) {
    LoadRequest *r = &slot->request;
    run->result->n_events++;
    if (event->is_malformed || event->is_error) {
        hang_up_with_error(run, slot, event->is_error ? LOAD_ERROR_STREAM : LOAD_ERROR_PROTOCOL,
                           event->error_code,
                           event->is_error ? event->error_message : STR("an event that is not JSON"));
        return false;
    }
    if (event->has_piece) stats_request_piece(run->stats, r, run->now_ns);
    if (event->content.len && slot->plan.turn + 1 < run->config->turns)
        request_add_answer(&run->maker, &slot->text, event->content);
    if (event->finish != FINISH_NONE) r->finish = event->finish;
    if (event->has_usage) {
        r->has_usage = true;
        r->usage_prompt = event->prompt_tokens;
        r->usage_output = event->output_tokens;
        r->usage_cached = event->cached_tokens;
    }
    if (event->is_end) slot->end_ns = run->now_ns;
    if (slot->cancel_after == 0 || r->n_pieces < slot->cancel_after || event->is_end) return true;
    exchange_abandon(run, slot, LOAD_ENDED_CANCELLED);
    return false;
}

static void on_stream(LoadRun *run, Slot *slot, Str body) {
    SseEvent event;
    AnswerEvent answer;
    SseResult result;
    while ((result = sse_reader_next(&slot->reader, &body, &event)) == SSE_EVENT) {
        answer_event_read(run->config->api, &event, &answer);
        if (!on_event(run, slot, &answer)) return;
    }
    if (result == SSE_TOO_LONG) {
        hang_up_with_error(run, slot, LOAD_ERROR_PROTOCOL, (Str){0}, STR("a line that does not end"));
    } else if (slot->connection.reply_body.done) {
        connection_finish(&slot->connection);
        end_of_reply(run, slot);
    }
}

void exchange_ready(LoadRun *run, Slot *slot, uint32_t events) {
    Connection *c = &slot->connection;
    Str body;
    bool is_idle = slot->state != SLOT_RUNNING;
    ConnectionResult result = connection_ready(c, events, run->buffer, sizeof run->buffer, &body);
    if (is_idle || result == CONNECTION_WAITS) return;
    run->now_ns = os_monotonic_ns();
    if (result != CONNECTION_GOT) {
        on_failure(run, slot, result);
    } else if (c->status != 200) {
        on_refusal(run, slot, body);
    } else if (!c->is_event_stream) {
        hang_up_with_error(run, slot, LOAD_ERROR_PROTOCOL, (Str){0},
                           STR("the reply is no text/event-stream"));
    } else {
        on_stream(run, slot, body);
    }
}
