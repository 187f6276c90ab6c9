// Kernels' programs without a GPU.
#pragma once

#include "backend/cuda/jit.h"

// Compiles the programs for an architecture, and checks that each can be launched.
void programs_check(const JitProgram *programs, uint32_t n, uint32_t sm, Arena *arena);
