// A trace: requests that are written down, one JSON object a line.
//
//     {"time": 0.5, "prompt_tokens": 310, "output_tokens": 45}
//     {"timestamp": 1200, "input_length": 6955, "output_length": 52}      as others write them
//     {"prompt": "Why is the sky blue?", "output_tokens": 80}
//
// `time` (seconds) or `timestamp` (milliseconds) say when it arrives: the first line at once, the others as
// much later as their times are. Where no line has one, the requests come as --clients or --rate say.
// `prompt` is the text itself, `prompt_tokens` or `input_length` how long one to make up. Other fields are
// passed over, but a line that has fields and none of these is an error.
#pragma once

#include "base/arena.h"
#include "base/error.h"

typedef struct {
    uint64_t at_ns;         // since the first
    Str prompt;             // as it stands in JSON, without its quotes; empty: made up
    uint32_t prompt_tokens; // 0: as the mix says
    uint32_t output_tokens; // 0: as the mix says
} TraceRequest;

typedef struct {
    const TraceRequest *requests;
    uint32_t count;
    uint32_t n_without_prompt, n_without_output; // whose lengths are the mix's
    bool has_times;
} Trace;

enum { TRACE_BYTES_MAX = 1 << 30, TRACE_REQUESTS_MAX = 1 << 22 };

// Slices point into `text`. Times must not go back. Errors (ERR_USAGE) name the line.
MUST_CHECK bool trace_parse(Str text, Arena *arena, Trace *out, Error *err);
