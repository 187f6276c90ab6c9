// What has come of a job's answer: its text taken apart into content, reasoning and calls, and kept where it
// is needed whole.
//
// The parts are kept in the order in which they came, in memory of the job's own that is reserved at start-up
// and touched as far as it is used. Answers that are only streamed keep nothing. I/O thread.
#pragma once

#include "chat/answer_parser.h"
#include "jobs/bridge.h"
#include "json/json_writer.h"

enum { ANSWER_KEPT_BYTES_MAX = 16 * 1024 * 1024 }; // kept of one answer; what is longer must be streamed

// A part that is kept, or a token with its log-probabilities.
typedef enum {
    KEPT_CONTENT = ANSWER_CONTENT,
    KEPT_REASONING = ANSWER_REASONING,
    KEPT_CALL = ANSWER_CALL,
    KEPT_CALL_ARGUMENTS = ANSWER_CALL_ARGUMENTS,
    KEPT_CALL_END = ANSWER_CALL_END,
    KEPT_TOKEN = 100,
    KEPT_NOTHING, // was taken back
} KeptKind;

typedef struct {
    KeptKind kind;
    uint32_t call; // of KEPT_TOKEN: 1 where it came in reasoning
    Str text;
    TokenLogprobs logprobs; // KEPT_TOKEN
} KeptPart;

// Responses and Messages give an answer as items: runs of reasoning and of text, and calls, in the order in
// which they came.
typedef struct {
    KeptKind kind;  // KEPT_REASONING, KEPT_CONTENT or KEPT_CALL
    uint32_t index; // from 0
    uint32_t call;
    Str name;            // of the function, where it is a call
    size_t begins, ends; // its parts among what is kept; tokens in front of a part are with it
} AnswerItem;

// In front of the first item.
#define ANSWER_ITEM_NONE ((AnswerItem){.index = UINT32_MAX})

typedef struct {
    AnswerParser *parser; // used by those dialects that parse
    char *kept;           // [capacity]
    size_t size, capacity;
    size_t last;  // where the newest part begins
    bool is_full; // it did not fit: the answer is no longer whole
    bool keeps;   // this job's dialect wants it
    uint32_t reasoning_tokens;
    uint32_t tokens_seen;
    uint32_t calls;     // begun
    uint32_t tokens;    // KEPT_TOKENs
    StopReason reason;  // once the job is over
    Str stop;           // STOP_STRING: which one, as the client wrote it
    int32_t stop_token; // … the token that it is, or TOKEN_INVALID
    uint32_t tokens_out, tokens_in;
    uint32_t tokens_cached; // of tokens_in
    uint64_t prefill_ns, decode_ns;
    // of a stream that is told by items
    AnswerItem item; // the newest
    bool item_is_open;
    uint32_t n_events; // sent
    size_t told;       // the newest part that was told of, among what is kept
} ApiAnswer;

// What an answer's memory must hold.
uint64_t answer_memory_bytes(uint32_t max_tokens_out, const Tokenizer *t);
// Its places in `memory`, which has so many bytes from a page's start on, for good.
MUST_CHECK bool answer_create(ApiAnswer *a, Arena *memory);
// For a new job.
void answer_begin(ApiAnswer *a, bool keeps);
// Gives memory that was used back to the system.
void answer_release(ApiAnswer *a);

// Text behind text of the same kind becomes one part.
void answer_keep(ApiAnswer *a, KeptKind kind, uint32_t call, Str text);
// `in_reasoning`: it came where the model thought, or ended that.
void answer_keep_token(ApiAnswer *a, const TokenLogprobs *logprobs, bool in_reasoning);
// A call that broke becomes content: the text that it was made of.
void answer_unmake_call(ApiAnswer *a, uint32_t call, Str text);
// From *at = 0 on. False at the end. The text is valid as long as the answer.
bool answer_next(const ApiAnswer *a, size_t *at, KeptPart *out);
bool answer_has(const ApiAnswer *a, KeptKind kind);

// ---- items ----

// Whether a part of this kind, coming after those of `newest`, is the first of the next item.
bool answer_begins_item(const AnswerItem *newest, KeptKind kind);
// From ANSWER_ITEM_NONE on, to the next one. False at the end.
bool answer_next_item(const ApiAnswer *a, AnswerItem *item);
// From *at = item->begins on, its parts and tokens. False at the end.
bool answer_next_of_item(const ApiAnswer *a, const AnswerItem *item, size_t *at, KeptPart *out);
// Whether the arguments of a call are a whole JSON object: a call that broke off has less.
bool answer_call_is_whole(const ApiAnswer *a, const AnswerItem *call);
// All text of an item as a JSON string: of a call, its arguments.
void answer_put_item_text(JsonWriter *w, const ApiAnswer *a, const AnswerItem *item);
