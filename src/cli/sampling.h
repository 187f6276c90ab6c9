// The sampling that the command line asks for, and what a model's file suggests.
#pragma once

#include "api/generate_request.h"
#include "backend/sampler.h"
#include "cli/flags.h"

// Errors: ERR_USAGE (--logit-bias). Without --seed one is drawn.
MUST_CHECK bool sampling_from_options(const Options *o, SamplerParams *out, Error *err);
// As the server draws them: they fit a double.
uint64_t sampling_draw_seed(void);

// The keys of a file that are used.
typedef struct {
    const char *key;
    const char *name; // as requests and flags have it
    size_t offset;    // of a double in SamplingDefaults
    double least, most;
} SamplingKey;
enum { SAMPLING_KEYS = 7 };
extern const SamplingKey sampling_keys[SAMPLING_KEYS];

static inline double sampling_default(const SamplingDefaults *d, const SamplingKey *key) {
    double value;
    memcpy(&value, (const uint8_t *)d + key->offset, sizeof value);
    return value;
}

// What the file says of them (of NULL nothing). What no request could say is not used, and is listed in
// *unused: "general.sampling.temp is -1 (expected 0 to 2), …", which warnings have behind SAMPLING_UNUSED.
#define SAMPLING_UNUSED "sampling of the file that is out of range, and not used: "
SamplingDefaults sampling_of_file(const GgufFile *file, StrBuf *unused);
