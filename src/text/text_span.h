// Runs of a text, told apart by who wrote them: a chat template, or the request whose text it wraps.
#pragma once

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    uint64_t length; // bytes
    bool from_request;
} TextSpan;
