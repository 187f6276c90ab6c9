// Each stage of the CUDA backend by itself, against the CPU reference's value of the operation that it ends
// with.
#pragma once

#include "model_pair.h"

// Runs n_prompt tokens (or none) as one prompt, and those up to n one by one, in slot 0 of both backends.
// After each stage the residual stream becomes the reference's, so that errors do not add up: what a stage is
// off by is its own, of the stream only what it added. A stage that is off by more than error_max in all its
// rows together is a failure; prints a table of all of them. Returns whether there was none.
bool model_stages_compare(ModelPair *p, const int32_t *tokens, uint32_t n_prompt, uint32_t n,
                          double error_max);
// Runs n tokens as one prompt in slot 0 of `reference`, another CUDA backend of the pair's model, and of the
// pair's, and compares likewise.
bool model_stages_compare_prompts(ModelPair *p, Backend *reference, const int32_t *tokens, uint32_t n,
                                  double error_max);
// The same as the first with groups of n_together rows instead of one by one, where the backend has batches.
bool model_stages_compare_rows(ModelPair *p, const int32_t *tokens, uint32_t n_prompt, uint32_t n,
                               uint32_t n_together, double error_max);
