// One HTTP connection of the load generator, kept alive from request to request. It never waits: the poller
// says when it can go on.
#pragma once

#include "http/http_reply.h"
#include "os/os_net.h"

typedef enum {
    CONNECTION_NONE,
    CONNECTION_CONNECTING,
    CONNECTION_SENDING,
    CONNECTION_AT_HEAD, // of the reply
    CONNECTION_AT_BODY,
    CONNECTION_IDLE, // the reply is whole, and the server keeps it open
} ConnectionState;

typedef enum {
    CONNECTION_WAITS,
    CONNECTION_GOT,     // *body has bytes of the reply's body, or the body has ended: reply_body.done
    CONNECTION_REFUSED, // no connection was made
    CONNECTION_STALE,   // a connection that was kept is gone, before a byte of the reply: begin again
    CONNECTION_BROKEN,  // the server closed it too early, or sent what is not HTTP: `problem` says what
} ConnectionResult;

typedef struct {
    int poller;
    uint64_t tag; // of its events
    ConnectionState state;
    int socket;
    uint32_t interest;
    bool was_kept;  // it had a request before this one
    bool has_reply; // a byte of it
    bool keeps;     // the server will keep it after this reply
    Str unsent;
    uint16_t status;
    bool is_event_stream;
    HttpReplyBody reply_body;
    char *memory; // [capacity] for a head that comes in pieces
    size_t capacity, head_length;
    const char *problem;
} Connection;

// `memory` belongs to the connection as long as it is at a reply's head.
Connection connection_new(int poller, uint64_t tag, char *memory, size_t capacity);

// Sends a request over the connection that was kept, or over a new one to the peer. `request` stays the
// caller's and must not change until the reply has begun. CONNECTION_WAITS, or as connection_ready fails.
ConnectionResult connection_send(Connection *c, const OsNetPeer *peer, Str request);
// Goes on after an event of the poller, with one receive into `buffer` at most, where *body then lies.
ConnectionResult connection_ready(Connection *c, uint32_t events, char *buffer, size_t size, Str *body);
// The reply's body was read to its end: keeps the connection or closes it.
void connection_finish(Connection *c);
void connection_close(Connection *c);
