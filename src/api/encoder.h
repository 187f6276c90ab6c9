// An encoder thread: what of a request takes longer than the I/O thread may (large JSON bodies, prompts' text
// to tokens, grammars), done one piece after the other.
//
// Two bounded rings: work in, finished work out. An entry is the index of a request and what to do with it.
// From encoder_push until its entry comes back (encoder_pop), what the request holds belongs to this thread:
// its memory, its fields, and its jobs' entries in the bridge's table. Full rings: none ever is, since each
// request is in one of them at most once.
//
// One piece of work is not interrupted: it is bounded by what a request may hold. Whoever hangs up, cancels
// or is late meanwhile is looked at before and after it.
#pragma once

#include "base/limits.h"
#include "base/ring.h"

#include <stdatomic.h>

typedef enum {
    ENCODER_PARSE,   // a large body to fields
    ENCODER_ENCODE,  // text to tokens
    ENCODER_COMPILE, // what an answer is held to, into its entry of the cache
    ENCODER_CLEAR,   // gives a large body's memory back to the system
} EncoderWork;

typedef struct {
    uint32_t request; // ENCODER_CLEAR: the memory
    EncoderWork work;
    bool ok; // of finished work
} EncoderEntry;

typedef struct {
    Ring todo, done; // of EncoderEntry
    _Atomic uint32_t signal;
    _Atomic bool stop;
    bool (*run)(void *context, const EncoderEntry *entry); // one piece of work; true: it succeeded
    void (*wake_io)(void *context);                        // after finished work
    void *context;                                         // of both
} Encoder;

MUST_CHECK bool encoder_init(Encoder *e, Arena *arena);

// ---- I/O thread ----

void encoder_push(Encoder *e, uint32_t request, EncoderWork work);
MUST_CHECK bool encoder_pop(Encoder *e, EncoderEntry *out);
// The thread ends after the piece of work that it is at.
void encoder_stop(Encoder *e);

// ---- encoder thread, or a simulator ----

// One piece of work; false when there is none.
bool encoder_turn(Encoder *e);
// Until encoder_stop.
void encoder_run(Encoder *e);
