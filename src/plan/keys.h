// The keys of a file that say how its model computes, and what to do about those that the architecture's rows
// do not read: a key passed over in silence would mean wrong text.
#pragma once

#include "arch/arch.h"
#include "base/error.h"
#include "base/strbuf.h"

// A key with the architecture's name put in.
typedef struct {
    char text[128];
} ArchKey;

// `pattern` has one "%s". The result lies in *key and ends with '\0'.
Str arch_key(ArchKey *key, const char *pattern, const Arch *arch);

// Refuses (ERR_UNSUPPORTED, naming key and value):
// - a key that is known to change what a model computes, where no row of the architecture reads it and its
// value is
//   another than the one that changes nothing;
// - any other key below ARCH.attention., ARCH.rope. or ARCH.expert_ that no row reads, but for a few harmless
// ones. With `ignored` nothing is refused; the keys are listed there, "llama.attention.causal = no, …".
MUST_CHECK bool keys_check(const GgufFile *file, const Arch *arch, const ModelConfig *c, StrBuf *ignored,
                           Error *err);
