// The configuration of a model and of one of its layers, filled from the file's metadata by the
// architecture's rows, completed and checked.
#pragma once

#include "arch/arch.h"
#include "base/error.h"

// The tables for the file: *arch, or those of its mixtures of experts where the file has experts.
MUST_CHECK bool config_pick_arch(const GgufFile *file, const Arch **arch, Error *err);

// Errors name the key. The size of the vocabulary is taken from the embedding's rows. `layer` is below
// n_layers, which every layer's configuration has; layer 0 is there in any model.
MUST_CHECK bool config_read(const GgufFile *file, const Arch *arch, uint32_t layer, ModelConfig *out,
                            Error *err);
