// How long prompts and answers are: a number, a range, or a log-normal distribution.
#pragma once

#include "base/error.h"
#include "base/strbuf.h"

typedef enum { MIX_FIXED, MIX_UNIFORM, MIX_LOG_NORMAL } MixKind;
typedef enum { MIX_OF_PROMPTS, MIX_OF_OUTPUTS } MixUse;

// All lengths are of least … most.
typedef struct {
    MixKind kind;
    uint32_t least, most;
    double median, sigma; // of MIX_LOG_NORMAL, before the bounds
} LengthMix;

enum { MIX_TOKENS_MAX = 1 << 20 };

// "128", "64-256", "lognormal:MEDIAN,SIGMA" with ",MOST" where it is bounded, or "sharegpt", whose lengths
// differ for prompts and outputs. Errors (ERR_USAGE) say what is allowed.
MUST_CHECK bool mix_parse(Str text, MixUse use, LengthMix *out, Error *err);
uint32_t mix_draw(const LengthMix *mix, uint64_t key, uint64_t number);
// With `unit` behind the number: "128 tokens", "64 to 256", "about 90 tokens (log-normal, sigma 1.3, at most
// 1,024)".
void mix_put(StrBuf *out, const LengthMix *mix, const char *unit);
