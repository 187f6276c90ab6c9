// The tensors of a file that a plan does not use: those of other models in the same file, or a fault.
#pragma once

#include "plan/plan.h"

// Fills weight_bytes with the tensors that the plan uses, and skipped_tensors with those that belong to
// another model in the same file (a vision tower, layers that guess tokens ahead: blocks n_layers and up) or
// hold nothing. Any other tensor that no operation uses is refused: the file would hold another model than
// the tables describe, and the output be wrong without a word.
MUST_CHECK bool plan_sort_tensors(const GgufFile *file, Plan *plan, uint32_t n_blocks, Arena *arena,
                                  Error *err);
