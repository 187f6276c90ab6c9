// Every bound of the program in one place. Each queue, table and buffer that input can fill has its limit
// here.
#pragma once

#include <assert.h>

enum {
    // HTTP
    HTTP_HEADER_BYTES_MAX = 32 * 1024,
    HTTP_BODY_BYTES_MAX = 10 * 1024 * 1024,
    HTTP_HEADERS_MAX = 100,
    HTTP_CONNECTIONS_MAX = 512,
    HTTP_HEADER_TIMEOUT_MS = 10 * 1000,
    HTTP_BODY_TIMEOUT_MS = 30 * 1000,
    HTTP_IDLE_TIMEOUT_MS = 60 * 1000,
    HTTP_REQUESTS_A_TURN = 1,                 // of one connection; then the others have theirs
    HTTP_TURNS_US = 500,                      // of work at most, and then news is looked for
    HTTP_OUTPUT_BYTES_MAX = 16 * 1024 * 1024, // of a connection, and so of one answer
    HTTP_STREAM_BEHIND_MAX = 1024 * 1024,     // a reader this far behind its stream loses it
    HTTP_TARGET_BYTES_MAX = 8 * 1024,
    HTTP_CHUNK_IGNORED_BYTES_MAX = 8 * 1024, // extensions and trailers of one chunked body
    HTTP_READ_BYTES = 64 * 1024,             // one receive
    HTTP_SMALL_INPUT_BYTES = 512 * 1024,     // a connection may always hold this much of a request
    HTTP_LARGE_BODIES_MAX = 16,              // connections that may hold more, up to HTTP_BODY_BYTES_MAX
    HTTP_WRITE_TIMEOUT_MS = 30 * 1000,
    HTTP_KEEPALIVE_COMMENT_MS = 15 * 1000,
    HTTP_LINGER_MS = 2 * 1000,
    HTTP_TICK_MS = 100,

    // JSON
    JSON_DEPTH_MAX = 64,
    JSON_NODES_MAX = 64 * 1024,
    JSON_NUMBER_BYTES_MAX = 512,

    // requests
    JOB_ID_BYTES_MAX = 256,
    PROMPT_CHARACTERS_MAX = 32768,
    PROMPT_BYTES_MAX = PROMPT_CHARACTERS_MAX * 4,
    STOP_STRINGS_MAX = 16, // of the OpenAI routes
    EXECUTE_STOP_STRINGS_MAX = 4,
    STOP_STRING_TOKENS_MAX = 32,
    STOP_STRING_BYTES_MAX = 1024,
    CORRELATION_ID_BYTES_MAX = 128,
    REQUEST_SMALL_BODY_BYTES = 64 * 1024,   // of JSON, that the I/O thread parses itself
    REQUEST_COPY_BYTES = 1024 * 1024,       // of larger bodies, that it copies in one turn
    REQUEST_LARGE_BODIES_MAX = 2,           // larger ones that are parsed or encoded at once
    REQUEST_LARGE_JSON_NODES_MAX = 1 << 20, // their values: ids, and 1 for each 24 bytes of escaped text
    REQUESTS_PENDING_MAX = 8,               // requests that wait for that, beside those with a job
    RENDERED_BYTES_MAX = 16 * 1024 * 1024,  // of a conversation as its template writes it
    RENDERED_SPANS_MAX = 1 << 20,           // changes between the template's text and the request's in it
    REQUEST_FIELDS_MAX = 64,                // fields that one API knows
    LOOK_SMALL_REPLY_BYTES = 1024 * 1024,   // of /tokenize and the like, to a small body
    CANCEL_BODY_BYTES_MAX = 8 * 1024,       // an id and some blanks; what says more is no cancellation
    ENCODER_RING_ENTRIES = 2048,
    API_FILE_BYTES_MAX = 512 * 1024, // one file that is served as it is
    JOBS_MAX = 64,                   // slots; --max-jobs is at most this
    JOBS_USUAL_CPU = 4,              // slots of the CPU reference where --max-jobs says nothing; on a GPU,
    JOB_TOKENS_USUAL = 4096,         // as many as the cache holds with this many tokens for each
    QUEUED_MAX = 1024,               // jobs that wait for one; --max-queued is at most this
    CHOICES_MAX = 8,                 // answers to one prompt
    REQUEST_JOBS_MAX = 32,           // jobs of one request: its prompts times its choices
    LOGIT_BIAS_MAX = 300,            // tokens whose logits a request may raise or lower
    LOGPROBS_MAX = 20,               // candidates that a request may ask for with each token

    // rings between the I/O thread and the engine thread
    JOB_RING_ENTRIES = 256,
    EVENT_RING_ENTRIES = 4096,
    TEXT_PIECE_BYTES_MAX = 512, // one token event's text; longer tokens are split at a character

    // model files
    GGUF_METADATA_MAX = 1 << 16,
    GGUF_TENSORS_MAX = 1 << 16,
    GGUF_SPLITS_MAX = 512,
    GGUF_DIMS_MAX = 4,
    GGUF_KEY_BYTES_MAX = 65535, // the format's own limit
    GGUF_TENSOR_NAME_BYTES_MAX = 256,
    GGUF_ARRAY_DEPTH_MAX = 4,
    MODEL_NAME_BYTES_MAX = 256, // of general.name; a longer one is not used
    LAYERS_MAX = 512,
    EXPERTS_MAX = 512,
    HEAD_DIM_MAX = 1024,
    STATE_DIM_MAX = 512,  // values of a key or of a head of a state
    SUPPRESSED_MAX = 100, // tokens that a model's file bars
    CONV_TAPS_MAX = 8,    // rows that a short convolution sees
    STREAMS_MAX = 8,      // copies of the residual stream
    VOCAB_MAX = 1 << 20,
    TOKEN_BYTES_MAX = 1 << 16,
    TOKENIZER_JSON_BYTES_MAX = 64 << 20,
    TOKENIZER_JSON_NODES_MAX = 1 << 23, // 24 bytes each
    NORMALIZER_GROWTH_MAX = 64,         // bytes that normalising may make of one
    VOCAB_PADDING_MAX = 4096,           // rows of a model's embedding that have no token

    // engine
    STEP_DRAWS_MAX = 8,  // tokens that one sequence draws in a step
    STEP_KEEPS_MAX = 12, // checkpoints of a sequence's state that a step leaves
    KV_PAGE_TOKENS = 16,
    CACHE_SALT_BYTES = 16,
    PREFILL_CHUNK_TOKENS = 2048,
    CPU_THREADS_MAX = 256,
};

static_assert(JOBS_MAX <= JOB_RING_ENTRIES, "every slot's job fits the job ring");
static_assert(PREFILL_CHUNK_TOKENS % KV_PAGE_TOKENS == 0, "a chunk fills whole pages");
static_assert(PROMPT_BYTES_MAX < HTTP_BODY_BYTES_MAX / 6, "a prompt of escaped characters fits the body");
static_assert(PROMPT_BYTES_MAX + HTTP_HEADER_BYTES_MAX < HTTP_SMALL_INPUT_BYTES, "usual requests are small");
static_assert((HTTP_OUTPUT_BYTES_MAX & (HTTP_OUTPUT_BYTES_MAX - 1)) == 0, "the output is a ring");
static_assert(JOBS_MAX + QUEUED_MAX + REQUESTS_PENDING_MAX + REQUEST_LARGE_BODIES_MAX <= ENCODER_RING_ENTRIES,
              "every request and every large body's memory fits the encoder's rings");
static_assert((ENCODER_RING_ENTRIES & (ENCODER_RING_ENTRIES - 1)) == 0, "ring sizes are powers of two");
static_assert(HTTP_STREAM_BEHIND_MAX < HTTP_OUTPUT_BYTES_MAX, "a stream fits the output");
static_assert(API_FILE_BYTES_MAX < HTTP_OUTPUT_BYTES_MAX, "a file fits the output");
static_assert((EVENT_RING_ENTRIES & (EVENT_RING_ENTRIES - 1)) == 0, "ring sizes are powers of two");
static_assert((JOB_RING_ENTRIES & (JOB_RING_ENTRIES - 1)) == 0, "ring sizes are powers of two");
