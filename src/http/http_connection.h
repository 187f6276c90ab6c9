// One HTTP/1.1 connection as a pure state machine: bytes in, requests to the handler, responses as bytes out,
// time as an argument. It knows no sockets and no clock; http_server.h drives it with real ones, a simulator
// with invented ones.
//
// Requests of a connection are handled strictly one after another: the next one is not parsed before the
// response to this one is complete, whatever the client pipelines.
//
// Work is cut into turns. In a turn a connection takes in at most HTTP_READ_BYTES and begins at most
// HTTP_REQUESTS_A_TURN requests; with more of them waiting in its input it says so
// (http_connection_waits_for_turn), and the owner gives it another turn after the others had theirs.
//
// Nothing is written that the output has no room for. Whatever does not fit, be it a response, an error or a
// comment on a timer, drops the connection: its client does not read.
//
// A request ends in exactly one of two ways, seen from the handler:
//   - its response becomes complete: http_respond, or http_stream_begin … http_stream_end;
//   - on_closed: the client has gone, does not read, or the server is stopping. Nothing can be sent any more.
// on_closed is never called from within a call of the handler's own; it follows from the event loop.
//
// A client that half-closes (FIN) while its request is being answered counts as gone: HTTP clients keep their
// side open while they wait, and a FIN is all that tells a vanished one from a patient one. A response that
// was complete when the FIN was seen is still delivered.
//
// Errors in the request itself (malformed, too large, too slow, not implemented) never reach the handler: the
// connection answers with the error body of the API and closes, after discarding what the client still sends
// for a moment (else the reset that an early close causes could overtake the answer).
//
// Threads: everything here runs on the I/O thread.
#pragma once

#include "http/http_output.h"
#include "http/http_parser.h"

#include "base/strbuf.h"

typedef struct HttpConnection HttpConnection;

// A request in progress. Stays safe to use for ever: once the request is over, every call on it returns
// false.
typedef struct {
    HttpConnection *connection; // NULL for none
    uint64_t generation;
} HttpExchange;

enum { HTTP_REFUSAL_HEADERS_MAX = 5 };

typedef struct {
    void *context;
    // The head of a request whose body is still to come. Answer now to refuse it unread (the connection
    // closes after the answer), or do nothing, and on_request follows when the body is here. It may say how
    // long that may be (http_exchange_limit_body). May be NULL.
    void (*on_head)(void *context, HttpExchange exchange, const HttpRequest *request);
    // A whole request, body included; *request and all it points to are valid until its response is complete
    // or on_closed. Answer now, or keep the exchange and answer later from on_wake or on_tick.
    void (*on_request)(void *context, HttpExchange exchange, const HttpRequest *request);
    // HTTP itself refuses a request (400, 408, 413, 431, …); *request has what came of its head. Fills
    // `headers` with those that the answer shall have, at most HTTP_REFUSAL_HEADERS_MAX, and returns their
    // number; their texts stay until the next call. May write a JSON body that says `message`; where it stays
    // empty there is a plain one. May be NULL.
    uint32_t (*on_refused)(void *context, uint16_t status, Str message, const HttpRequest *request,
                           HttpHeader *headers, StrBuf *body);
    // The exchange is over without a complete response. `tag` is what http_exchange_set_tag left there.
    void (*on_closed)(void *context, HttpExchange exchange, uint64_t tag);
    // After http_server_wake, from any thread; several wakes may come as one. May be NULL, as may on_tick.
    void (*on_wake)(void *context);
    // About every HTTP_TICK_MS.
    void (*on_tick)(void *context, uint64_t now_ms);
} HttpHandler;

// ---- for the handler ----

typedef struct {
    uint16_t status;
    Str content_type;          // empty: no body
    Str body;                  // copied
    const HttpHeader *headers; // more of them; control characters in values are sent as '?'
    uint32_t header_count;
    bool close; // end the connection after this response
} HttpResponse;

// Each returns false when the exchange is over (or was answered already), and when a response does not fit
// the output buffer (HTTP_OUTPUT_BYTES_MAX) or a stream is HTTP_STREAM_BEHIND_MAX ahead of its reader; the
// connection is then lost, and on_closed follows before the next event.
bool http_respond(HttpExchange exchange, const HttpResponse *response);

// Begins an event stream: 200, text/event-stream, chunked (HTTP/1.0: until close), no-store, no proxy
// buffering. Where nothing was sent for HTTP_KEEPALIVE_COMMENT_MS, a comment goes out by itself, so write
// only whole events (sse.h).
bool http_stream_begin(HttpExchange exchange, const HttpHeader *headers, uint32_t header_count);
bool http_stream_send(HttpExchange exchange, Str events);
// For events that say once more what was sent before, whole: they may fill the output buffer, as other whole
// answers may.
bool http_stream_send_whole(HttpExchange exchange, Str events);
// Completes the response; the connection can then serve the next request.
bool http_stream_end(HttpExchange exchange);

bool http_exchange_is_open(HttpExchange exchange);
// The request being answered, or NULL when the exchange is over.
const HttpRequest *http_exchange_request(HttpExchange exchange);
// Whether the client's address is one of this machine's loopback addresses.
bool http_exchange_is_from_this_machine(HttpExchange exchange);
// For on_head: a body of more bytes is refused with 413 as soon as that is known. HTTP_BODY_BYTES_MAX is the
// most, and holds where nothing is said.
void http_exchange_limit_body(HttpExchange exchange, uint32_t most_bytes);
// A number of the handler's own, 0 at first.
void http_exchange_set_tag(HttpExchange exchange, uint64_t tag);
uint64_t http_exchange_tag(HttpExchange exchange);

// ---- for whoever owns the connections ----

// Zero means the default from limits.h.
typedef struct {
    uint32_t header_timeout_ms;
    uint32_t body_timeout_ms;
    uint32_t idle_timeout_ms;
    uint32_t write_timeout_ms; // a client that takes nothing for so long is lost
    uint32_t keepalive_comment_ms;
    uint32_t linger_ms; // how long input is discarded after an error response
} HttpTimeouts;

// What the connections of one server share.
typedef struct {
    HttpHandler handler;
    HttpTimeouts timeouts;
    uint64_t now_ms;             // set before every call below
    char date[32];               // the Date header's value, or empty for none
    bool draining;               // every response closes its connection
    uint32_t large_bodies;       // connections with large_input; at most HTTP_LARGE_BODIES_MAX
    uint64_t generation;         // of the newest exchange
    uint64_t lost_responses;     // given up because the client did not read
    HttpConnection *first_dirty; // connections that the handler wrote to since http_shared_take_dirty
} HttpShared;

void http_shared_init(HttpShared *shared, const HttpHandler *handler, const HttpTimeouts *timeouts);
// A connection with news for its owner (output to send, perhaps input to go on with), or NULL.
HttpConnection *http_shared_take_dirty(HttpShared *shared);

typedef enum {
    HTTP_CONNECTION_FREE, // not in use
    HTTP_CONNECTION_HEAD, // waiting for a request, or in the middle of its head
    HTTP_CONNECTION_BODY,
    HTTP_CONNECTION_HANDLING,  // the handler has the request
    HTTP_CONNECTION_STREAMING, // the handler is sending a stream
    HTTP_CONNECTION_RESPONDED, // the response is complete, its request not yet cleared away
    HTTP_CONNECTION_CLOSING,   // sends what is left, takes no more requests
    HTTP_CONNECTION_LINGERING, // all is sent and our side shut; discards input for a moment
    HTTP_CONNECTION_CLOSED,    // nothing more to do: release it
} HttpConnectionState;

enum {
    // A whole head and body, and room for a read that goes beyond them.
    HTTP_INPUT_BYTES = HTTP_HEADER_BYTES_MAX + HTTP_BODY_BYTES_MAX + HTTP_READ_BYTES,
};

struct HttpConnection {
    HttpShared *shared;
    HttpConnectionState state;
    // Input: the request from 0 to parsed_end (a chunked body is decoded in place), then bytes not looked at.
    char *input; // HTTP_INPUT_BYTES
    size_t parsed_end;
    size_t input_end;
    size_t input_touched; // the most ever used since the pages were given back
    HttpOutput output;
    HttpHeadParser head;
    HttpChunkedDecoder chunked;
    uint32_t body_bytes_max; // of this request
    HttpRequest request;
    uint64_t generation; // of the exchange; 0 when there is none, or its end has been told
    uint64_t tag;
    uint64_t deadline_ms;       // of the present state; UINT64_MAX for none
    uint64_t write_deadline_ms; // while there is output
    uint64_t comment_due_ms;    // while streaming
    uint64_t
        waits_since_ms;     // HEAD, BODY: for a request to begin, or for the rest of it; CLOSING: for its end
    uint32_t turn_requests; // that may still begin in this turn
    bool close_after_response;
    bool input_ended;
    bool is_from_this_machine; // the owner's, set after http_connection_open
    bool output_shut;          // the owner's: it has shut its side of the socket
    bool large_input;          // may hold more than HTTP_SMALL_INPUT_BYTES; counted in large_bodies
    bool is_dirty;
    HttpConnection *next_dirty;
    uint64_t owner_data; // the owner's: a socket, say
};

// The memory stays with the connection over its whole life; http_connection_open begins a new one in it.
void http_connection_init(HttpConnection *connection, HttpShared *shared, char *input, char *output);
void http_connection_open(HttpConnection *connection);
// Makes a closed one free for the next http_connection_open.
void http_connection_release(HttpConnection *connection);

// Where to put received bytes; length 0 while the connection takes none (then do not read either, and leave
// the rest to TCP's flow control). After writing n bytes there, call http_connection_received.
typedef struct {
    char *ptr;
    size_t len;
} HttpRoom;
HttpRoom http_connection_input_room(const HttpConnection *connection);
// Goes through the new bytes, calling the handler, as far as one turn goes.
void http_connection_received(HttpConnection *connection, size_t size);
// More requests are in the input than the last turn allowed for. Until the next one nothing more is read.
bool http_connection_waits_for_turn(const HttpConnection *connection);
// The next turn, with what is in the input.
void http_connection_turn(HttpConnection *connection);
// The client sent FIN.
void http_connection_input_ended(HttpConnection *connection);

// Bytes to send, empty when there are none; after sending n of them, call http_connection_sent.
Str http_connection_output(const HttpConnection *connection);
void http_connection_sent(HttpConnection *connection, size_t size);

// Goes on where a completed response or an emptied output allows it, and tells the handler of an exchange
// that was lost. Call it for each connection that http_shared_take_dirty gives.
void http_connection_advance(HttpConnection *connection);

// Makes http_shared_take_dirty give this connection too.
void http_connection_mark_dirty(HttpConnection *connection);

// Time has passed: applies the timeouts. Cheap; call it for every connection a few times a second.
void http_connection_tick(HttpConnection *connection);

// No request is under way.
bool http_connection_is_idle(const HttpConnection *connection);

// Which connections are closed first to make room for a new one. Among those of one kind, the one that has
// waited longest (waits_since_ms). Only those whose request is being answered keep their place.
typedef enum {
    HTTP_PLACE_OF_LINGERING,  // all was sent
    HTTP_PLACE_OF_CLOSING,    // the client is slow to take the last of what is left
    HTTP_PLACE_OF_IDLE,       // waits for a request
    HTTP_PLACE_OF_UNFINISHED, // a request is on its way, or answers are not taken
    HTTP_PLACE_KEPT,
} HttpPlace;
HttpPlace http_connection_place(const HttpConnection *connection);
// Ends the connection at once: it is broken, or no longer wanted. on_closed follows where a request is in
// progress, from http_connection_advance.
void http_connection_drop(HttpConnection *connection);

// A whole response that ends the connection, as on_refused wants it: for a request that HTTP itself refuses,
// or (*request is zero) for a connection that cannot be served at all. A plain body has the value of the
// header X-Correlation-Id, where there is one.
enum { HTTP_REFUSAL_BYTES_MAX = 2048 };
void http_write_refusal(const HttpShared *shared, const HttpFault *fault, const HttpRequest *request,
                        StrBuf *out);
