// Structured log events: one line each on standard error, as JSON for programs or as a sentence for people.
//
// LOG_EVENTS is the whole vocabulary: name, level, and the narration, a sentence with {fields} filled in. A
// JSON line has, in this order, ts, level, event, worker_id, model_ref, gpu_device, the event's own fields,
// and narration. What a program that starts the worker reads:
//   startup  {version, url, host, port, pid}   it listens; /health answers "starting"
//   ready    {url, port, device, load_seconds, context_length, max_jobs} jobs are taken
//   error    {code, message}                   at start-up followed by the end of the process
//   shutdown {reason, uptime_seconds}          the last line of a clean end
// No event has a field for a prompt, an output text or a token, and none may be added.
//
// A Log is set up once and then only read, so any thread may write; a line is one call of its `write`.
#pragma once

#include "base/strbuf.h"

#define LOG_LEVELS(ROW) ROW(DEBUG, "debug") ROW(INFO, "info") ROW(WARN, "warn") ROW(ERROR, "error")

typedef enum {
#define LOG_LEVEL_ENUM(id, name) LOG_LEVEL_##id,
    LOG_LEVELS(LOG_LEVEL_ENUM)
#undef LOG_LEVEL_ENUM
        LOG_LEVEL_COUNT
} LogLevel;

// clang-format off
#define LOG_EVENTS(ROW) \
    ROW(STARTUP, "startup", INFO, \
        "worker-orcd {version} listens on {url} and is about to load {model_ref}.") \
    ROW(UNPROTECTED, "unprotected", WARN, \
        "Whoever reaches {url} can use this worker: it asks for no tokens. --api-token-file makes it ask.") \
    ROW(VARIABLE_UNKNOWN, "variable_unknown", WARN, \
        "{message}.") \
    ROW(MODEL_LOAD_START, "model_load_start", INFO, \
        "Loading {model}: {architecture}, layers: {layers}, {weights_mb} MB of {quant_kind} weights.") \
    ROW(KEYS_IGNORED, "keys_ignored", WARN, \
        "Keys that may change what the model computes are ignored: {keys}.") \
    ROW(TENSORS_SKIPPED, "tensors_skipped", INFO, \
        "The file holds tensors that the model does without ({tensors}).") \
    ROW(MODEL_LOAD_PROGRESS, "model_load_progress", INFO, \
        "{percent}% of the weights are loaded.") \
    ROW(CHAT_FORMATS, "chat_formats", INFO, \
        "Conversations are written by the model's template; tool calls: {tool_format}, reasoning: " \
        "{reasoning_format}.") \
    ROW(NO_CONVERSATIONS, "no_conversations", WARN, \
        "Requests with messages are refused: {message}.") \
    ROW(JIT_COMPLETE, "jit_complete", INFO, \
        "The kernels were there after {jit_seconds} s: {compiled} compiled, {from_cache} cached.") \
    ROW(LOAD_WARNING, "load_warning", WARN, \
        "Loading went on without something: {message}.") \
    ROW(CONTEXT_CUT, "context_cut", WARN, \
        "The {kv_cache_size_mb} MB of --kv-cache-size-mb hold {context_length} tokens; the model's context " \
        "has {model_context_length}.") \
    ROW(MODEL_LOAD_COMPLETE, "model_load_complete", INFO, \
        "Loaded {model} in {load_seconds} s ({device}).") \
    ROW(CALLBACK_RETRY, "callback_retry", WARN, \
        "Try {attempt} of {attempts} to report being ready failed: {message}.") \
    ROW(SANDBOX, "sandbox", INFO, \
        "From now on the worker can start no program, write no file and open no connection ({holds}).") \
    ROW(READY, "ready", INFO, \
        "Ready after {load_seconds} s: {url} takes jobs of up to {context_length} tokens, at most " \
        "{max_jobs} at once.") \
    ROW(EXECUTE_QUEUED, "execute_queued", INFO, \
        "Job {job_id} waits for a slot, as number {position} of those that do.") \
    ROW(EXECUTE_START, "execute_start", INFO, \
        "Job {job_id} begins; tokens in: {tokens_in}, out: at most {max_tokens}.") \
    ROW(EXECUTE_SET_ASIDE, "execute_set_aside", INFO, \
        "The cache is full: job {job_id} waits until older jobs leave room, and then goes on to the same " \
        "text; tokens out so far: {tokens_out}.") \
    ROW(EXECUTE_END, "execute_end", INFO, \
        "Job {job_id} is done ({stop_reason}); tokens in: {tokens_in}, {tokens_cached} of them cached; out: " \
        "{tokens_out}, {tokens_per_second} a second, the first after {first_token_ms} ms.") \
    ROW(EXECUTE_REJECTED, "execute_rejected", INFO, \
        "A request for a job was refused with {code}: {message}.") \
    ROW(JOB_ERROR, "error", WARN, \
        "Job {job_id} ended with {code} (tokens out: {tokens_out}): {message}.") \
    ROW(REQUEST, "request", DEBUG, \
        "{method} {path} was answered with {status}.") \
    ROW(REQUEST_REFUSED, "request_refused", DEBUG, \
        "What came was no request, or too long or too slow a one, and was answered with {status}.") \
    ROW(ERROR, "error", ERROR, \
        "{message}.") \
    ROW(HANGUP, "hangup", DEBUG, \
        "{signal} came and asks for nothing: there is no file of bearer tokens to read again.") \
    ROW(TOKENS_READ, "tokens_read", INFO, \
        "The file of bearer tokens was read again; tokens in it: {tokens}.") \
    ROW(TOKENS_KEPT, "tokens_kept", WARN, \
        "The bearer tokens stay as they were: {message}.") \
    ROW(LINES_DROPPED, "log_lines_dropped", WARN, \
        "Lines missing here: {lines}. They were dropped while nobody read the log.") \
    ROW(DRAINING, "draining", INFO, \
        "Shutting down ({reason}): no new jobs; jobs running: {jobs_active}.") \
    ROW(SHUTDOWN, "shutdown", INFO, \
        "Stopped ({reason}) after {uptime_seconds} s.")
// clang-format on

typedef enum {
#define LOG_EVENT_ENUM(id, name, level, narration) LOG_##id,
    LOG_EVENTS(LOG_EVENT_ENUM)
#undef LOG_EVENT_ENUM
        LOG_EVENT_COUNT
} LogEvent;

typedef enum { LOG_FORMAT_TEXT, LOG_FORMAT_JSON } LogFormat;

typedef struct {
    LogFormat format;
    LogLevel level; // events below it are dropped
    bool styled;    // text format: colours, for a terminal
    // Known for the whole life of the process; empty ones are left out of the line.
    Str worker_id;
    Str model_ref;
    int gpu_device; // -1 for none
    // Where lines go and what time it is: log_writer_put (os/log_writer.h) and os_unix_ms, or a test's.
    bool (*write)(void *sink, Str line);
    void *sink;
    uint64_t (*now_unix_ms)(void);
    uint32_t (*columns)(void); // of a terminal, where text lines break between words; NULL: nowhere
} Log;

// Room for two longest messages of which every byte is escaped, and the rest of the line.
enum { LOG_LINE_BYTES_MAX = 16 * 1024 };

typedef struct {
    const char *name;
    enum { LOG_FIELD_STR, LOG_FIELD_U64, LOG_FIELD_F64 } type;
    union {
        Str str;
        uint64_t u64;
        double f64;
    };
    int digits; // of f64, after the point
} LogField;

#define LOG_STR(field, value) ((LogField){.name = (field), .type = LOG_FIELD_STR, .str = (value)})
#define LOG_U64(field, value) ((LogField){.name = (field), .type = LOG_FIELD_U64, .u64 = (value)})
#define LOG_F64(field, value, places) \
    ((LogField){.name = (field), .type = LOG_FIELD_F64, .f64 = (value), .digits = (places)})

// log_event(log, LOG_READY, LOG_STR("url", url), …): one field or more. JSON leaves empty strings out.
#define log_event(log, event, ...) \
    log_write((log), (event), (const LogField[]){__VA_ARGS__}, COUNT_OF(((const LogField[]){__VA_ARGS__})))

// `log` may be NULL: nothing is written.
void log_write(const Log *log, LogEvent event, const LogField *fields, size_t n_fields);

// The line alone. False, and nothing, for an event below the log's level.
bool log_format(const Log *log, LogEvent event, const LogField *fields, size_t n_fields, StrBuf *out);

const char *log_event_name(LogEvent event);
const char *log_event_narration(LogEvent event); // with its {fields}
