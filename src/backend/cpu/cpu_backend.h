// The CPU reference: it runs the plan's operations one by one, in float32, from the quantised blocks as they
// lie in the mapped file. It is the oracle of every kernel, so it is kept plain; the threads and the tiles of
// the matrix product are the only concessions to speed. The KV cache is float32.
#pragma once

#include "backend/backend.h"

// Called on the engine's thread after each operation of each step with what it wrote: `values`
// [n_rows][width], one row a token of the step (of HEAD: one row a token whose logits were asked for).
// KV_WRITE shows its keys.
typedef void CpuObserver(void *context, uint32_t op_index, const float *values, uint32_t n_rows,
                         uint32_t width);

// Lets a test see every value; NULL ends it.
void cpu_backend_observe(Backend *backend, CpuObserver *observer, void *context);
