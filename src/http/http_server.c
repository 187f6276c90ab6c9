#include "http/http_server.h"

#include "os/os.h"
#include "os/os_net.h"

#include <assert.h>
#include <time.h>

enum {
    HTTP_EVENTS_AT_ONCE = HTTP_CONNECTIONS_MAX + 2, // more come with the next look
    HTTP_ACCEPTS_AT_ONCE = 64,
    HTTP_PAGE_BYTES = 4096,
    // How long a stopping server waits for clients to take note of their last response.
    HTTP_STOP_LINGER_MS = 200,
    // Tags of poll events; connection i has HTTP_TAG_CONNECTIONS + i.
    HTTP_TAG_LISTENER = 0,
    HTTP_TAG_WAKE = 1,
    HTTP_TAG_CONNECTIONS = 2,
};

static_assert(HTTP_INPUT_BYTES % HTTP_PAGE_BYTES == 0 && HTTP_OUTPUT_BYTES_MAX % HTTP_PAGE_BYTES == 0,
              "the memory of each connection begins at a page");
static_assert(HTTP_SMALL_INPUT_BYTES % HTTP_PAGE_BYTES == 0, "what is given back begins at a page");

typedef struct HttpSlot HttpSlot;
struct HttpSlot {
    HttpConnection connection;
    int socket; // -1 for none
    uint32_t interest;
    uint64_t serial; // of the connection, counted from 1: tells which of two came first
    uint32_t events; // OS_POLL_… since its last turn
    bool is_new;     // has not had its first turn
    bool is_queued;
    uint64_t served; // the number of its last turn
    HttpSlot *next;  // in the queue
};

struct HttpServer {
    HttpShared shared;
    HttpSlot *slots;
    uint32_t slot_count;
    uint32_t open_count;
    HttpSlot *queue; // those with work to do
    HttpSlot *queue_last;
    uint64_t turns; // given so far
    int poller;
    int listener; // -1 when no longer listening
    int wake;
    uint16_t port;
    bool listener_paused; // no descriptors left: tried again at the next tick
    bool is_stopping;
    uint64_t stop_deadline_ms;
    uint64_t next_tick_ms;
    uint64_t next_date_ms;
    char *memory;
    size_t memory_bytes;
    HttpServerStats stats;
};

static uint64_t http_now_ms(void) {
    return os_monotonic_ns() / 1000000;
}

// ---- opening and closing ----

static bool http_server_reserve(HttpServer *server, Arena *arena, uint32_t count, Error *err) {
    const size_t each = (size_t)HTTP_INPUT_BYTES + HTTP_OUTPUT_BYTES_MAX;
    server->memory_bytes = each * count;
    server->memory = os_reserve(server->memory_bytes);
    server->slots = arena_new(arena, HttpSlot, count);
    if (!server->memory || !server->slots) {
        return error_set(err, ERR_NO_MEMORY, "no memory for %u HTTP connections", count);
    }
    server->slot_count = count;
    for (uint32_t i = 0; i < count; i++) {
        char *input = server->memory + i * each;
        HttpSlot *slot = &server->slots[i];
        slot->socket = -1;
        http_connection_init(&slot->connection, &server->shared, input, input + HTTP_INPUT_BYTES);
        slot->connection.owner_data = i;
    }
    return true;
}

bool http_server_open(HttpServer **out, Arena *arena, const HttpServerConfig *config, Error *err) {
    HttpServer *server = arena_new(arena, HttpServer, 1);
    if (!server) return error_set(err, ERR_NO_MEMORY, "no memory for the HTTP server");
    server->poller = server->listener = server->wake = -1;
    http_shared_init(&server->shared, &config->handler, &config->timeouts);
    uint32_t count = config->connections_max ? config->connections_max : HTTP_CONNECTIONS_MAX;
    bool ok = http_server_reserve(server, arena, count, err) &&
              os_net_listen(config->host, config->port, &server->listener, &server->port, err) &&
              os_poll_open(&server->poller, err) && os_wake_open(&server->wake, err);
    if (ok && (!os_poll_add(server->poller, server->listener, OS_POLL_RECEIVE, HTTP_TAG_LISTENER) ||
               !os_poll_add(server->poller, server->wake, OS_POLL_RECEIVE, HTTP_TAG_WAKE))) {
        ok = error_set(err, ERR_IO, "cannot wait for connections on port %u", server->port);
    }
    if (!ok) {
        http_server_close(server);
        return false;
    }
    *out = server;
    return true;
}

static void http_close_descriptor(int *fd) {
    if (*fd >= 0) os_net_close(*fd);
    *fd = -1;
}

void http_server_close(HttpServer *server) {
    for (uint32_t i = 0; i < server->slot_count; i++)
        http_close_descriptor(&server->slots[i].socket);
    http_close_descriptor(&server->listener);
    http_close_descriptor(&server->wake);
    http_close_descriptor(&server->poller);
    if (server->memory) os_release(server->memory, server->memory_bytes);
    server->memory = NULL;
}

uint16_t http_server_port(const HttpServer *server) {
    return server->port;
}

bool http_server_is_open_to_others(const HttpServer *server) {
    return !os_net_is_on_loopback(server->listener);
}

void http_server_wake(HttpServer *server) {
    os_wake_signal(server->wake);
}

int http_server_wake_fd(const HttpServer *server) {
    return server->wake;
}

HttpServerStats http_server_stats(const HttpServer *server) {
    HttpServerStats stats = server->stats;
    stats.connections = server->open_count;
    stats.responses_lost = server->shared.lost_responses;
    return stats;
}

// ---- who has the next turn ----

// Connections with work to do wait in a queue: who was served longest ago comes first. So a connection that
// asks now and then is answered at once, however much others have sent. A new connection counts as served as
// many turns ago as there may be connections, so that a stream of new ones does not keep the old ones waiting
// for ever.
static void http_server_enqueue(HttpServer *server, HttpSlot *slot) {
    if (slot->is_queued) return;
    HttpSlot **at = &server->queue;
    if (server->queue_last && server->queue_last->served <= slot->served) at = &server->queue_last->next;
    while (*at && (*at)->served <= slot->served)
        at = &(*at)->next;
    slot->is_queued = true;
    slot->next = *at;
    *at = slot;
    if (!slot->next) server->queue_last = slot;
}

static void http_server_unqueue(HttpServer *server, HttpSlot *slot) {
    HttpSlot **at = &server->queue, *before = NULL;
    while (slot->is_queued && *at != slot) {
        before = *at;
        at = &before->next;
    }
    if (!slot->is_queued) return;
    *at = slot->next;
    if (server->queue_last == slot) server->queue_last = before;
    slot->next = NULL;
    slot->is_queued = false;
}

// ---- one connection ----

static void http_slot_close(HttpServer *server, HttpSlot *slot) {
    http_close_descriptor(&slot->socket);
    http_connection_release(&slot->connection);
    http_server_unqueue(server, slot);
    slot->events = 0; // no news of this connection reaches the next one in its place
    slot->is_new = false;
    server->open_count--;
}

static uint32_t http_slot_wanted_interest(const HttpConnection *c) {
    uint32_t interest = 0;
    if (http_connection_input_room(c).len) interest |= OS_POLL_RECEIVE;
    if (http_connection_output(c).len) interest |= OS_POLL_SEND;
    bool minds_end = c->state == HTTP_CONNECTION_HANDLING || c->state == HTTP_CONNECTION_STREAMING;
    if (minds_end && !c->input_ended) interest |= OS_POLL_ENDED;
    return interest;
}

static void http_slot_send(HttpSlot *slot) {
    HttpConnection *c = &slot->connection;
    for (;;) {
        Str bytes = http_connection_output(c);
        size_t sent;
        if (bytes.len == 0) return;
        OsNetResult result = os_net_send(slot->socket, bytes, &sent);
        if (result == OS_NET_WOULD_BLOCK) return;
        if (result != OS_NET_OK) {
            http_connection_drop(c);
            return;
        }
        http_connection_sent(c, sent);
    }
}

// Pages that only a large request or a long backlog needed. The rest is kept: it will be used again.
static void http_slot_give_back_memory(HttpConnection *c) {
    bool is_closed = c->state == HTTP_CONNECTION_CLOSED;
    bool input_is_small = is_closed || (c->input_end < HTTP_SMALL_INPUT_BYTES && !c->large_input);
    if (c->input_touched > HTTP_SMALL_INPUT_BYTES && input_is_small) {
        os_discard(c->input + HTTP_SMALL_INPUT_BYTES, HTTP_INPUT_BYTES - HTTP_SMALL_INPUT_BYTES);
        c->input_touched = 0;
    }
    if (c->output.touched > HTTP_READ_BYTES && (is_closed || c->output.size == 0)) {
        os_discard(c->output.bytes + HTTP_READ_BYTES, HTTP_OUTPUT_BYTES_MAX - HTTP_READ_BYTES);
        c->output.touched = 0;
    }
}

// Brings a connection that something happened to in line with its socket.
static void http_slot_settle(HttpServer *server, HttpSlot *slot) {
    HttpConnection *c = &slot->connection;
    if (c->state == HTTP_CONNECTION_FREE) return;
    http_connection_advance(c);
    http_slot_send(slot);
    http_connection_advance(c);
    if (c->state == HTTP_CONNECTION_LINGERING && !c->output_shut) {
        os_net_shut(slot->socket);
        c->output_shut = true;
    }
    http_slot_give_back_memory(c);
    if (c->state == HTTP_CONNECTION_CLOSED) {
        http_slot_close(server, slot);
        return;
    }
    if (http_connection_waits_for_turn(c)) http_server_enqueue(server, slot);
    uint32_t interest = http_slot_wanted_interest(c);
    if (interest == slot->interest) return;
    slot->interest = interest;
    if (!os_poll_change(server->poller, slot->socket, interest, HTTP_TAG_CONNECTIONS + c->owner_data)) {
        http_connection_drop(c);
    }
}

// Ends: a connection becomes dirty by input or by the handler's doing, and then at most once more by being
// sent.
static void http_server_settle(HttpServer *server) {
    HttpConnection *c;
    while ((c = http_shared_take_dirty(&server->shared)))
        http_slot_settle(server, &server->slots[c->owner_data]);
}

// ---- turns ----

static void http_slot_receive(HttpSlot *slot, uint32_t events) {
    HttpConnection *c = &slot->connection;
    OsNetResult result = OS_NET_OK;
    HttpRoom room = http_connection_input_room(c);
    size_t received = 0;
    if (room.len) {
        result = os_net_receive(slot->socket, room.ptr, room.len, &received);
        if (result == OS_NET_OK) http_connection_received(c, received);
    }
    bool is_answering = c->state == HTTP_CONNECTION_HANDLING || c->state == HTTP_CONNECTION_STREAMING;
    if (result == OS_NET_BROKEN) {
        http_connection_drop(c);
    } else if (result == OS_NET_ENDED || (is_answering && (events & OS_POLL_ENDED))) {
        http_connection_input_ended(c);
    }
}

static void http_slot_take_turn(HttpServer *server, HttpSlot *slot) {
    HttpConnection *c = &slot->connection;
    uint32_t events = slot->events;
    slot->events = 0;
    slot->is_new = false;
    slot->served = ++server->turns;
    if (c->state == HTTP_CONNECTION_FREE) return;
    http_connection_mark_dirty(c);
    if (events & OS_POLL_BROKEN) {
        http_connection_drop(c);
    } else if (http_connection_waits_for_turn(c)) {
        http_connection_turn(c);
    } else if (events & (OS_POLL_RECEIVE | OS_POLL_ENDED)) {
        http_slot_receive(slot, events);
    }
    http_server_settle(server);
}

static void http_server_serve(HttpServer *server) {
    uint64_t until_ns = os_monotonic_ns() + HTTP_TURNS_US * 1000ull;
    HttpSlot *slot;
    while ((slot = server->queue)) {
        http_server_unqueue(server, slot);
        http_slot_take_turn(server, slot);
        if (os_monotonic_ns() >= until_ns) return;
    }
}

// ---- new connections ----

static void http_server_refuse(HttpServer *server, int socket) {
    static const HttpFault full = {503, HTTP_NO_POSITION, "too many connections", 0};
    char memory[HTTP_REFUSAL_BYTES_MAX];
    StrBuf out = STRBUF(memory);
    size_t sent;
    http_write_refusal(&server->shared, &full, &(HttpRequest){0}, &out);
    // A new socket's buffer takes these few bytes at once. Without having read the request, closing may reset
    // the connection, so the client perhaps sees only that.
    (void)os_net_send(socket, strbuf_str(&out), &sent);
    os_net_shut(socket);
    os_net_close(socket);
    server->stats.connections_refused++;
}

// Of those that came in one millisecond, the one that came first.
static bool waits_longer(const HttpSlot *a, const HttpSlot *b) {
    uint64_t since_a = a->connection.waits_since_ms, since_b = b->connection.waits_since_ms;
    return since_a < since_b || (since_a == since_b && a->serial < b->serial);
}

// Closes the connection that can best be spared (HttpPlace), and of those the one that has waited longest;
// NULL where there is none. One that has not had its first turn stays: its request may be here already. Where
// there is such a one, *has_new is set.
static HttpSlot *http_server_make_room(HttpServer *server, bool *has_new) {
    HttpSlot *spared = NULL;
    *has_new = false;
    for (uint32_t i = 0; i < server->slot_count; i++) {
        HttpSlot *slot = &server->slots[i];
        HttpPlace place = http_connection_place(&slot->connection);
        *has_new |= slot->is_new;
        if (slot->is_new || place == HTTP_PLACE_KEPT) continue;
        HttpPlace best = spared ? http_connection_place(&spared->connection) : HTTP_PLACE_KEPT;
        if (place < best || (place == best && waits_longer(slot, spared))) spared = slot;
    }
    if (!spared) return NULL;
    http_connection_drop(&spared->connection);
    http_slot_settle(server, spared);
    return spared;
}

static HttpSlot *http_server_free_slot(HttpServer *server) {
    for (uint32_t i = 0; i < server->slot_count; i++) {
        if (server->slots[i].connection.state == HTTP_CONNECTION_FREE) return &server->slots[i];
    }
    return NULL;
}

static void http_slot_open(HttpServer *server, HttpSlot *slot, int socket, bool from_this_machine) {
    uint64_t tag = HTTP_TAG_CONNECTIONS + slot->connection.owner_data;
    if (!os_poll_add(server->poller, socket, OS_POLL_RECEIVE, tag)) {
        os_net_close(socket);
        return;
    }
    slot->socket = socket;
    slot->interest = slot->events = OS_POLL_RECEIVE; // its request has perhaps come with it
    slot->is_new = true;
    slot->served = server->turns > server->slot_count ? server->turns - server->slot_count : 0;
    slot->serial = ++server->stats.connections_accepted;
    server->open_count++;
    http_connection_open(&slot->connection);
    slot->connection.is_from_this_machine = from_this_machine;
    http_server_enqueue(server, slot);
}

static void http_server_accept(HttpServer *server) {
    bool made_room = false; // since the last one came
    for (int i = 0; i < HTTP_ACCEPTS_AT_ONCE && server->listener >= 0; i++) {
        int socket;
        bool has_new = false, from_this_machine = false;
        HttpSlot *slot = http_server_free_slot(server);
        if (!slot) {
            if (!os_net_wait_ready(server->listener, false, 0)) return;
            slot = http_server_make_room(server, &has_new);
            if (!slot && has_new) return; // they first; this one waits in the system
        }
        OsNetResult result = os_net_accept_from(server->listener, &socket, &from_this_machine);
        if (result == OS_NET_EXHAUSTED) {
            // Without a descriptor to give, the system says so even where nobody waits.
            if (!os_net_wait_ready(server->listener, false, 0)) return;
            made_room = !made_room && http_server_make_room(server, &has_new);
            if (made_room) continue;
            server->listener_paused = os_poll_change(server->poller, server->listener, 0, HTTP_TAG_LISTENER);
        }
        if (result != OS_NET_OK) return;
        made_room = false;
        if (slot) http_slot_open(server, slot, socket, from_this_machine);
        else http_server_refuse(server, socket);
    }
}

// ---- time ----

static void http_server_update_date(HttpServer *server) {
    if (server->shared.now_ms < server->next_date_ms) return;
    server->next_date_ms = server->shared.now_ms + 1000;
    time_t now = (time_t)(os_unix_ms() / 1000);
    struct tm utc;
    if (gmtime_r(&now, &utc)) {
        strftime(server->shared.date, sizeof server->shared.date, "%a, %d %b %Y %H:%M:%S GMT", &utc);
    }
}

static void http_server_tick(HttpServer *server) {
    uint64_t now_ms = server->shared.now_ms;
    if (now_ms < server->next_tick_ms) return;
    server->next_tick_ms = now_ms + HTTP_TICK_MS;
    http_server_update_date(server);
    if (server->listener_paused) {
        server->listener_paused =
            !os_poll_change(server->poller, server->listener, OS_POLL_RECEIVE, HTTP_TAG_LISTENER);
    }
    for (uint32_t i = 0; i < server->slot_count; i++) {
        HttpConnection *c = &server->slots[i].connection;
        http_connection_tick(c);
        if (server->is_stopping && now_ms >= server->stop_deadline_ms) http_connection_drop(c);
    }
    const HttpHandler *handler = &server->shared.handler;
    if (handler->on_tick) handler->on_tick(handler->context, now_ms);
}

void http_server_stop(HttpServer *server, uint32_t grace_ms) {
    if (server->is_stopping) return;
    server->is_stopping = true;
    server->stop_deadline_ms = server->shared.now_ms + grace_ms;
    server->shared.draining = true;
    server->shared.timeouts.linger_ms = HTTP_STOP_LINGER_MS;
    http_close_descriptor(&server->listener);
    server->listener_paused = false;
    for (uint32_t i = 0; i < server->slot_count; i++) {
        HttpConnection *c = &server->slots[i].connection;
        if (http_connection_is_idle(c)) http_connection_drop(c);
    }
}

// ---- the loop ----

bool http_server_run(HttpServer *server, Error *err) {
    const HttpHandler *handler = &server->shared.handler;
    OsPollEvent events[HTTP_EVENTS_AT_ONCE];
    server->shared.now_ms = http_now_ms();
    while (!server->is_stopping || server->open_count > 0) {
        http_server_tick(server);
        http_server_settle(server);
        uint64_t now_ms = http_now_ms();
        uint64_t wait_ms = server->next_tick_ms > now_ms ? server->next_tick_ms - now_ms : 0;
        if (server->queue) wait_ms = 0;
        if (server->is_stopping && server->open_count == 0) break;
        int count = os_poll_wait(server->poller, events, HTTP_EVENTS_AT_ONCE, (uint32_t)wait_ms);
        if (count < 0) return error_set(err, ERR_IO, "cannot wait for events on port %u", server->port);
        server->shared.now_ms = http_now_ms();
        bool has_new = false;
        for (int i = 0; i < count; i++) {
            uint64_t tag = events[i].tag;
            if (tag == HTTP_TAG_LISTENER) {
                has_new = true;
            } else if (tag == HTTP_TAG_WAKE) {
                os_wake_clear(server->wake);
                if (handler->on_wake) handler->on_wake(handler->context);
            } else {
                HttpSlot *slot = &server->slots[tag - HTTP_TAG_CONNECTIONS];
                slot->events |= events[i].events;
                http_server_enqueue(server, slot);
            }
        }
        http_server_settle(server);
        // After the events, so that none that was meant for an old connection reaches a new one in its slot.
        if (has_new) http_server_accept(server);
        http_server_serve(server);
    }
    return true;
}
