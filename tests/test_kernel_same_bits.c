// A product's bits are those of its shape: they depend on neither the GPU's number of multiprocessors
// (blocks), nor the warps of a block, nor the ring, nor whether weights were unpacked before the input came.
#include "kernel_reference.h"

#include "runner.h"

#include <stdio.h>
#include <string.h>

// x += W in + b of a variant of decode_output, always of the same numbers.
static const float *output_of(const EmulatedStage *s) {
    TestRandom random = {7};
    TestMatrix w = test_matrix(&random, (Dtype)s->format[0], s->n_rows, s->n_cols);
    float *in = test_random_vector(&random, s->n_cols, 0, 2),
          *x = test_random_vector(&random, s->n_rows, 0, 1),
          *bias = test_random_vector(&random, s->n_rows, 0, 1);
    OutputArgs args = {.in = DEVICE_ADDRESS(in),
                       .weight = DEVICE_ADDRESS(w.repacked),
                       .bias = DEVICE_ADDRESS(bias),
                       .x = DEVICE_ADDRESS(x)};
    kernel_run(s, &args, sizeof args);
    return x;
}

TEST(kernel_same_bits_of_every_format) {
    for (Dtype d = 0; d < DTYPE_COUNT; d++) {
        const EmulatedStage *s = kernel_stage_of("output", d, 90);
        char other[64];
        snprintf(other, sizeof other, "%s_other", s->name);
        const EmulatedStage *o = kernel_stage(other, 90);
        TEST_CASE_LABEL("%s", s->name);
        REQUIRE(s->n_rows == o->n_rows && s->n_cols == o->n_cols && s->blocks != o->blocks);
        CHECK_BYTES_EQ(output_of(s), s->n_rows * sizeof(float), output_of(o), o->n_rows * sizeof(float));
    }
}

TEST(kernel_same_bits_on_older_gpus) {
    const EmulatedStage *s = kernel_stage("output_q4_k", 90), *o = kernel_stage("output_q4_k", 75);
    CHECK_BYTES_EQ(output_of(s), s->n_rows * sizeof(float), output_of(o), o->n_rows * sizeof(float));
}

static const float *glu_of(const EmulatedStage *s) {
    TestRandom random = {11};
    float *x = test_random_vector(&random, s->d_model, 0, 5),
          *norm = test_random_vector(&random, s->d_model, 1, 0.2f);
    TestMatrix gate = test_matrix(&random, (Dtype)s->format[0], s->d_ff, s->d_model),
               up = test_matrix(&random, (Dtype)s->format[0], s->d_ff, s->d_model);
    float *out = kernel_memory(s->d_ff * sizeof *out);
    GluArgs args = {.x = DEVICE_ADDRESS(x),
                    .norm = DEVICE_ADDRESS(norm),
                    .weight = {DEVICE_ADDRESS(gate.repacked), DEVICE_ADDRESS(up.repacked)},
                    .out = DEVICE_ADDRESS(out)};
    kernel_run(s, &args, sizeof args);
    return out;
}

static const float *head_of(const EmulatedStage *s) {
    TestRandom random = {13};
    float *x = test_random_vector(&random, s->d_model, 0, 5),
          *norm = test_random_vector(&random, s->d_model, 1, 0.2f),
          *norm_bias = test_random_vector(&random, s->d_model, 0, 0.5f);
    TestMatrix w = test_matrix(&random, (Dtype)s->format[0], s->n_vocab, s->d_model);
    float *logits = kernel_memory(s->n_vocab * sizeof *logits);
    HeadBest *best = kernel_memory(s->blocks * sizeof *best);
    StepRow *row = kernel_memory(sizeof *row);
    *row = (StepRow){.repetition_penalty = 1};
    HeadArgs args = {.row = DEVICE_ADDRESS(row),
                     .x = DEVICE_ADDRESS(x),
                     .norm = DEVICE_ADDRESS(norm),
                     .norm_bias = DEVICE_ADDRESS(norm_bias),
                     .weight = DEVICE_ADDRESS(w.repacked),
                     .logits = DEVICE_ADDRESS(logits),
                     .best = DEVICE_ADDRESS(best)};
    kernel_run(s, &args, sizeof args);
    return logits;
}

TEST(kernel_same_bits_of_norms) {
    static const char *const kinds[] = {"few", "some", "many"};
    for (size_t i = 1; i < COUNT_OF(kinds); i++) {
        char name[64];
        TEST_CASE_LABEL("%s", kinds[i]);
        const EmulatedStage *few = kernel_stage("same_glu_few", 90);
        snprintf(name, sizeof name, "same_glu_%s", kinds[i]);
        CHECK_BYTES_EQ(glu_of(few), few->d_ff * sizeof(float), glu_of(kernel_stage(name, 90)),
                       few->d_ff * sizeof(float));
        few = kernel_stage("same_head_few", 90);
        snprintf(name, sizeof name, "same_head_%s", kinds[i]);
        CHECK_BYTES_EQ(head_of(few), few->n_vocab * sizeof(float), head_of(kernel_stage(name, 90)),
                       few->n_vocab * sizeof(float));
    }
}
