// What the kernel tests share: random matrices in every format, made into tiles by the upload's kernel on the
// emulator, and plain C that computes the same as the stages, in double.
#pragma once

#include "emulator/stages.h"
#include "model/dtype.h"

// The variant compiled for that GPU generation; ends the case where there is none.
const EmulatedStage *kernel_stage(const char *name, unsigned sm_arch);

// The variant "KIND_FORMAT", such as "tiles_q4_k".
const EmulatedStage *kernel_stage_of(const char *kind, Dtype dtype, unsigned sm_arch);

// Calls the stage with its own grid. Where its arguments point to is kernel_memory's.
void kernel_run(const EmulatedStage *stage, const void *args, size_t args_size);
// Memory of exactly that size, so that ASan sees what goes past it; aligned to 256 bytes, zeroed, kept till
// the case ends.
void *kernel_memory(size_t size);
double *kernel_doubles(size_t n);

// Where a pointer is a number: StageArgs on the host.
#define DEVICE_ADDRESS(pointer) ((unsigned long long)(uintptr_t)(pointer))

typedef struct {
    uint64_t state;
} TestRandom;
float test_random_uniform(TestRandom *r, float low, float high);
float test_random_normal(TestRandom *r); // about: the sum of four uniforms
float *test_random_vector(TestRandom *r, size_t n, float mean, float deviation);

typedef struct {
    Dtype dtype;
    uint32_t n_rows, n_cols;
    uint8_t *file; // as in a GGUF
    float *values; // [n_rows][n_cols] by the dequantiser
} TestMatrix;
TestMatrix test_matrix(TestRandom *random, Dtype dtype, uint32_t n_rows, uint32_t n_cols);
// Fills `values` again after a change of `file`.
void test_matrix_update(TestMatrix *m);

// The matrix in tiles (layout.h), by the kernel that repacks uploads, in pieces of `piece_rows` rows (0: in
// one).
uint8_t *test_matrix_tiles(const TestMatrix *m, uint32_t piece_rows);

// What products multiply, factor included: [n_rows][n_cols], each weight as Tile<format> makes it of the
// tiles.
float *test_tile_weights(const TestMatrix *m, const uint8_t *tiles);

// y = W x in double.
void reference_matvec(const TestMatrix *w, const float *x, double *y);

// cap tanh(x / cap); x where the cap is 0.
double reference_capped(double x, double cap);

// ||actual - expected|| / ||expected||; NaN where something is not a number.
double relative_error(const double *expected, const float *actual, size_t n);

// A check that it is less than the limit.
void kernel_check_error(const double *expected, const float *actual, size_t n, double limit);

// Where activations for max_rows rows have column `col` of a row (kernels_src/rows.cuh): written down from
// the order that products read them in.
size_t kernel_activation_place(uint32_t max_rows, uint32_t row, uint32_t col);
