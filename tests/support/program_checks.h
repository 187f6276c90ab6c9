// Kernels' programs without a GPU.
#pragma once

#include "backend/cuda/jit.h"

// Compiles the programs for an architecture, and checks that each can be launched. Of those that differ only
// in how many rows, blocks or passes there are, which bound the same code, the one for the most rows.
void programs_check(const JitProgram *programs, uint32_t n, uint32_t sm, Arena *arena);
