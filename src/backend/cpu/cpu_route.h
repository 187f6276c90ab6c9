// The choice of a row's experts (OP_ROUTE).
#pragma once

#include "arch/arch.h"

// logits, bias [n_experts], bias NULL for none: which n_used experts the row uses and what each of them
// counts, in the order of their preference; of equal ones the first is preferred. n_experts is at most
// EXPERTS_MAX.
void cpu_route(const RouteConfig *r, const float *logits, uint32_t n_experts, const float *bias,
               uint32_t n_used, float *experts, float *weights);
