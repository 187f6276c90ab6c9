// What the answers of chat completions and completions have in common.
#pragma once

#include "api/api_internal.h"

// ---- requests ----

// What all OpenAI and Anthropic routes check of their fields: the model's name, where it must be ours.
MUST_CHECK bool openai_check_model(const Api *api, const GenerateRequest *g, Error *err);
// stream_options, where it is given: an object, with include_usage.
MUST_CHECK bool openai_read_stream_options(const JsonNode *root, GenerateRequest *g, Error *err);

// ---- answers ----

// "finish_reason" of a job that ended: "stop", "length", or "tool_calls" where it has called tools. And, as
// vLLM has it, "stop_reason": the stop string, or the id of stop_token_ids, that ended the text, else null.
void openai_put_finish(JsonWriter *w, const ApiRequest *r, const ApiAnswer *a);
// A name for a call: nine letters and digits, which is what the strictest templates take. The same call of
// the same answer always has the same.
enum { CALL_ID_BYTES = 10 };
void openai_make_call_id(const ApiRequest *r, uint32_t choice, uint32_t call, char out[CALL_ID_BYTES]);

// id, object, created, model, system_fingerprint.
void openai_put_head(JsonWriter *w, Api *api, const ApiRequest *r, const char *object);
// What all jobs of a request took.
typedef struct {
    uint64_t tokens_in, tokens_cached, tokens_out, reasoning, prefill_ns, decode_ns, queued_ns;
    double first_token_ms;
} ApiFigures;
ApiFigures openai_add_up(const Api *api, const ApiRequest *r);
// "usage" and "timings".
void openai_put_usage(JsonWriter *w, const Api *api, const ApiRequest *r);
void openai_put_timings(JsonWriter *w, const Api *api, const ApiRequest *r);
// A token as {token, logprob, bytes, top_logprobs}.
void openai_put_logprobs(JsonWriter *w, const Api *api, const TokenLogprobs *l);
// Infinitely small ones have a number, too, since clients want one.
void openai_put_logprob(JsonWriter *w, float value);

// Sends an event of data alone: what was written to `text` since sse_event_begin.
void openai_send(const ApiRequest *r, StrBuf *text);
// The last of a stream.
void openai_end_stream(Api *api, const ApiRequest *r);
// In a stream that began, as its last event; else as the answer.
void openai_error(Api *api, ApiRequest *r, const Error *err);
// Whether all that came of a request's jobs was kept.
bool openai_is_whole(const Api *api, const ApiRequest *r);
void openai_refuse_long(Error *err);
// A whole answer; an error where it was longer than can be sent or kept.
void openai_reply(Api *api, ApiRequest *r, const StrBuf *text);

// The end of a request whose choices are all done: of a stream, its usage where that is wanted and its last
// event; else the whole answer, its choices written by `put_choice`. `object` and `chunk` are what the API
// calls the two.
void openai_answer(Api *api, ApiRequest *r, const char *object, const char *chunk,
                   void (*put_choice)(JsonWriter *w, const Api *api, const ApiRequest *r,
                                      const ApiJob *mine));

// ---- jobs' events ----

// Takes what an event says of a job's answer: its figures, and its text through the parser to the sink.
void openai_take_token(ApiJob *mine, const JobEvent *e, AnswerSink sink);
void openai_take_end(const Api *api, ApiJob *mine, const Job *job, const JobEvent *e, AnswerSink sink);
