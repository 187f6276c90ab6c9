// Rows of several sequences that go through the layers together: the same bits as each alone, and as a
// prompt's.
#pragma once

#include "model_pair.h"

// The first `n_together` slots' texts, which begin with parts of `prompt` of different lengths, draw n_drawn
// tokens, a row each in every step: the same tokens and log-probabilities as each alone, to the bit. Slots
// take turns in the n_params ways to draw.
void batch_check_together(ModelPair *p, const SamplerParams *params, uint32_t n_params, const int32_t *prompt,
                          uint32_t n_prompt, uint32_t n_drawn, uint32_t n_together);

// The same of texts whose prompts go through the layers in the same steps, cut at odd places, two of them
// more in each step, beside those that draw already.
void batch_check_mixed(ModelPair *p, const SamplerParams *params, uint32_t n_params, const int32_t *prompt,
                       uint32_t n_prompt, uint32_t n_drawn, uint32_t n_texts);

// A text that draws from `position` on, further on than rows may be that go through the layers with a
// prompt's, draws the same alone and beside another slot's prompt, to the bit; its first rows, too, alone
// and beside another text's, which decides whether attention divides them over their keys. (What is before
// it is one page over and over: that many rows would take the emulator too long.)
void batch_check_far(ModelPair *p, const SamplerParams *params, const int32_t *prompt, uint32_t position,
                     uint32_t n_drawn);

// Texts of which two in three have a mask for each draw, which depends on the token before it. Each draws
// alone what the reference draws from the device's own logits; and together, in steps that are sent before
// the masks are known, with a prompt's rows in every other one, the same tokens and log-probabilities.
void batch_check_masked(ModelPair *p, const SamplerParams *params, uint32_t n_params, const int32_t *prompt,
                        uint32_t n_prompt, uint32_t n_drawn, uint32_t n_together);

// A text of n tokens, those after n_prompt drawn one by one: its logits at every position are those of the
// whole text as one prompt, to the bit.
void batch_check_drawn_as_prompt(ModelPair *p, const SamplerParams *params, const int32_t *prompt,
                                 uint32_t n_prompt, uint32_t n);
