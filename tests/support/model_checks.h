// What holds for any model on the CUDA backend, checked on a ModelPair. Each prints its figures and fails the
// case where something does not hold.
#pragma once

#include "model_pair.h"

// The logits of n tokens, of which the first n_prompt are given and the others drawn, against the reference's
// at every position: no relative error of error_max or more, but where the reference's router finds two
// experts nearly as good, so that rounding chooses. Returns at which share of positions both have the same
// best token.
double model_check_logits(ModelPair *p, const SamplerParams *params, const int32_t *prompt, uint32_t n_prompt,
                          uint32_t n, double error_max);

// The prompt in chunks of each size gives the logits of the whole, and the same next token, to the bit.
void model_check_chunks(ModelPair *p, const int32_t *prompt, uint32_t n_prompt, const uint32_t *chunks,
                        uint32_t n_chunks);

// Of a model that keeps states: a prompt goes on from each checkpoint that its steps left on the way with the
// logits of the whole, to the bit. (In two steps, so that rows begin within a page; the second one in slices,
// where the backend has them.)
void model_check_checkpoints(ModelPair *p, const int32_t *prompt, uint32_t n_prompt);

// n - n_prompt tokens drawn `runs` times, in turns in all slots and with the prompt cut in different ways,
// are the same tokens.
void model_check_repeats(ModelPair *p, const SamplerParams *params, const int32_t *prompt, uint32_t n_prompt,
                         uint32_t n, uint32_t runs);

// Sequences in all slots, of different lengths, in the same steps draw what each draws alone.
void model_check_side_by_side(ModelPair *p, const SamplerParams *params, const int32_t *prompt,
                              uint32_t n_prompt, uint32_t n);

// A text that was drawn up to each of the positions `cuts`, set aside and begun again in another slot goes on
// with the tokens that the sampler's reference draws from the logits of the text begun again: parameters,
// history and the number of the draw are those of one text. So are the log-probabilities, where they are
// asked for. A cut behind the prompt is a text begun anew. Returns how many of the tokens are those of the
// text drawn without an interruption (all, but where the last bits of its logits decide).
uint32_t model_check_resume(ModelPair *p, Backend *b, const SamplerParams *params, const int32_t *prompt,
                            uint32_t n_prompt, uint32_t n, const uint32_t *cuts, uint32_t n_cuts);

// A job whose cache does not fit fails and costs nothing: the ones before and after it draw the same tokens.
void model_check_cache_runs_out(ModelPair *p, const int32_t *prompt, uint32_t n_prompt, uint32_t n);
