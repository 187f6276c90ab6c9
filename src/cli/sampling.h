// The sampling that the command line asks for.
#pragma once

#include "backend/sampler.h"
#include "cli/flags.h"

// Errors: ERR_USAGE (--logit-bias). Without --seed one is drawn.
MUST_CHECK bool sampling_from_options(const Options *o, SamplerParams *out, Error *err);
// As the server draws them: they fit a double.
uint64_t sampling_draw_seed(void);
