// Random UUIDs (RFC 9562, version 4) as text.
#pragma once

#include "base/base.h"

enum { UUID_TEXT_BYTES = 37 }; // with the terminating zero

// From 16 bytes of randomness: "123e4567-e89b-42d3-a456-426614174000".
void uuid_from_random(const uint8_t random[16], char out[UUID_TEXT_BYTES]);
