// Two hashes: a fast one for tables in memory (never stored, never trusted), and SHA-256 (FIPS 180-4) for
// content that is cached on disk or named in logs.
#pragma once

#include "base/base.h"

// FNV-1a, 64 bits, with a final mix so that the low bits are usable as a table index.
uint64_t hash_bytes(const void *data, size_t size);

typedef struct {
    uint32_t state[8];
    uint64_t length;
    uint8_t block[64];
} Sha256;

void sha256_begin(Sha256 *h);
void sha256_add(Sha256 *h, const void *data, size_t size);
void sha256_end(Sha256 *h, uint8_t digest[32]);

// Lower-case hexadecimal; out holds 2 * size + 1 bytes.
void hex_from_bytes(const uint8_t *data, size_t size, char *out);
