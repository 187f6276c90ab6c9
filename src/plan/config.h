// A model's configuration, filled from the file's metadata by the architecture's rows, completed and checked.
#pragma once

#include "arch/arch.h"
#include "base/error.h"

// Errors name the key. The size of the vocabulary is taken from the embedding's rows.
MUST_CHECK bool config_read(const GgufFile *file, const Arch *arch, ModelConfig *out, Error *err);
