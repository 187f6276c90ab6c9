// The CUDA executor beyond the Backend interface: what tests and measurements look at.
//
// A plan is lowered to stages (batch_lower.h), compiled for this GPU (jit.h), and a step of rows is one graph
// of them for each class of batches and way to draw. The sequences' state (token, position, sampler) is on
// the device, so the next step is enqueued before the last tokens are read.
#pragma once

#include "backend/backend.h"
#include "backend/cuda/batch_stages.h"

// Called on the engine's thread after each stage of each row of each step with the values that it left, as
// the CPU reference has them: `op_index` is the plan's operation that they are the result of.
//   heads               ROPE: queries; then ROPE: keys; then MATMUL: values (both as the cache holds them)
//   attention           ATTENTION
//   output, down        ADD
//   gate up             GLU
//   head                HEAD
// Returns true to have the values, which it may have changed, written back (of ADD and GLU), so that the next
// stage's error is its own.
typedef bool CudaObserver(void *context, uint32_t op_index, uint32_t position, float *values, uint32_t width);

// Lets a test see every stage; NULL ends it. While it looks, stages are launched one by one.
void cuda_backend_observe(Backend *backend, CudaObserver *observer, void *context);

// The same, of the stages that n_rows rows go through together: rows of a prompt go through them in groups of
// that class's size.
void cuda_backend_observe_rows(Backend *backend, uint32_t n_rows, CudaObserver *observer, void *context);

// As cuda_backend_observe, for prompts and the stages that they go through: after each stage its values of
// all rows, one row after the other. An operation that writes the residual stream can have it changed.
void cuda_backend_observe_prompts(Backend *backend, CudaObserver *observer, void *context);

// Waits for what is compiled in the background after load: classes of batches of more rows.
void cuda_backend_wait_for_classes(Backend *backend);

// Every device allocation is what it should be. For the health check: any thread, but one at a time, and not
// during close.
MUST_CHECK bool cuda_backend_check_residency(Backend *backend, Error *err);

typedef struct {
    const char *name;    // stage_name
    uint32_t count;      // of them in a step
    double microseconds; // of one, the median of the runs
    double clock_mhz;    // of the multiprocessors in these runs (cuda_clock.h); 0: it was not opened
    uint64_t bytes;      // of weights and cache that one reads, on average
    double flops;        // of a prompt's stages: operations of one's products and scores, on average
    // Of a stage that computes a product of n_rows rows by matrices of n_in columns and n_out rows in all:
    // what the library in this build takes for it (cuda_yardstick.h); 0: it was not asked.
    uint32_t n_rows, n_in, n_out;
    double library_us, library_clock_mhz;
    double library_whole_us; // of a prompt of several steps: its part in a product of all rows at once
} StageTime;

enum { STAGE_TIMES_MAX = BATCH_TYPES_COUNT };

// The time of each kind of stage in a step of n_rows sequences that decode side by side at `position`: all of
// the kind one after the other as a graph, right after a whole step so that the cache has none of their
// weights. Slots 0 … n_rows - 1 must be free; pages 0 … are written to. `step_us` is the mean time of greedy
// steps without a pause between them, from `position` on.
MUST_CHECK bool cuda_backend_time_rows(Backend *backend, uint32_t n_rows, uint32_t position, uint32_t runs,
                                       StageTime out[STAGE_TIMES_MAX], uint32_t *n_out, double *step_us,
                                       Error *err);

// The same of a prompt of n_tokens, as far as a step takes it; `step_us` is the median time of all stages.
// The GPU idles for rest_ms before each kind of stage, and before each of the library's products.
MUST_CHECK bool cuda_backend_time_prefill(Backend *backend, uint32_t n_tokens, uint32_t runs,
                                          uint32_t rest_ms, StageTime out[STAGE_TIMES_MAX], uint32_t *n_out,
                                          double *step_us, Error *err);

// What a layer's products take while the GPU does nothing else for seconds.
typedef struct {
    double microseconds, clock_mhz;       // 0: there are no products that a library could be asked for
    double library_us, library_clock_mhz; // 0: it was not asked
} SustainedProducts;

// Products of a prompt of n_tokens, as far as a step takes it, a layer on average: those of all layers back
// to back for `seconds`, then the library's of the same shapes for as long, and both once more. The last half
// of each time counts, when the GPU has come to the clock that it can keep up.
MUST_CHECK bool cuda_backend_sustain_products(Backend *backend, uint32_t n_tokens, double seconds,
                                              SustainedProducts *out, Error *err);
