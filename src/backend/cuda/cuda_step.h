// Steps on a GPU: what is sent, and what comes back. cuda_batch_step.c launches.
#pragma once

#include "backend/cuda/cuda_internal.h"

// Backend.begin, .copy_page, .restore_state, .step, .draw and .read.
bool cuda_begin(Backend *backend, uint32_t slot, const SequenceStart *start, Error *err);
bool cuda_copy_page(Backend *backend, uint32_t from, uint32_t to, Error *err);
bool cuda_restore_state(Backend *backend, uint32_t slot, uint32_t checkpoint, Error *err);
bool cuda_step(Backend *backend, const Step *step, Error *err);
bool cuda_draw(Backend *backend, const uint32_t *const *masks, Error *err);
bool cuda_read(Backend *backend, StepResult *out, Error *err);

// ---- what is sent ----

// The next cell, once what was sent from it last has arrived.
MUST_CHECK bool cuda_cell_take(CudaBackend *b, Cell **out, Error *err);
// Room in the cell, to be filled and sent as it lies there.
void *cuda_cell_room(Cell *cell, size_t size);
MUST_CHECK bool cuda_cell_send(CudaBackend *b, Cell *cell, CUdeviceptr to, const void *data, size_t size,
                               Error *err);
// All that is sent from it has been enqueued.
MUST_CHECK bool cuda_cell_done(CudaBackend *b, Cell *cell, Error *err);
