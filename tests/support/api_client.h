// Asking a FakeWorker over HTTP: whole answers, and streams that are read bit by bit.
//
// What cannot be done ends the case.
#pragma once

#include "fake_worker.h"
#include "http/http_client.h"

typedef struct {
    uint16_t status;
    Str body;
    HttpClientReply reply;
} Answer;

// `body` may be NULL; a header without a name is none.
Answer ask_with(uint16_t port, const char *method, const char *path, const char *body, HttpHeader header);
Answer ask(FakeWorker *f, const char *method, const char *path, const char *body);
// The header's value, empty where there is none.
Str answer_header(const Answer *a, const char *name);

// What the worker answers to these bytes until it closes the connection, or falls silent for 5 s.
Str ask_raw(uint16_t port, Str request);

// By POST /shutdown, and waits for its end.
void shut_down(FakeWorker *f);

// A stream being read: what has come so far.
typedef struct {
    HttpClient client;
    HttpClientReply reply;
    char text[64 * 1024];
    size_t length;
    bool ended;
} Stream;

Stream *open_stream(FakeWorker *f, const char *body, HttpHeader header);
// Until `part` has come, or, where that is NULL, the stream's end.
void read_until(Stream *s, const char *part);
Str stream_text(const Stream *s);

// The data of a stream's token events, one a line.
Str token_events(Str stream, char memory[4096]);

// How often `part` is in it.
uint32_t text_count(Str text, const char *part);
