// Steps on a GPU: what is sent, what is launched, what comes back.
//
// A step is rows and spans. The stages of decoding work on one row, at a fixed place on the device (StepRow
// of kernels_src/args.h), so their graphs are the same for all slots. The stage that draws makes the row its
// sequence's next one; the host sends a row only where another is wanted than that. A prompt's rows are a
// span (StepSpan), which goes through stages of its own; its rows that want logits go through the head one by
// one.
#pragma once

#include "backend/cuda/cuda_internal.h"

// Backend.begin, .step and .read.
bool cuda_begin(Backend *backend, uint32_t slot, const SequenceStart *start, Error *err);
bool cuda_step(Backend *backend, const Step *step, Error *err);
bool cuda_read(Backend *backend, StepResult *out, Error *err);

// CudaBackend.run_part, as it is while nobody looks at the stages.
MUST_CHECK bool cuda_run_part(CudaBackend *b, Cell *cell, const StepSequence *q, Flight *flight, Error *err);

// ---- what is sent ----

// The next cell, once what was sent from it last has arrived.
MUST_CHECK bool cuda_cell_take(CudaBackend *b, Cell **out, Error *err);
// Room in the cell, to be filled and sent as it lies there.
void *cuda_cell_room(Cell *cell, size_t size);
MUST_CHECK bool cuda_cell_send(CudaBackend *b, Cell *cell, CUdeviceptr to, const void *data, size_t size,
                               Error *err);
// All that is sent from it has been enqueued.
MUST_CHECK bool cuda_cell_done(CudaBackend *b, Cell *cell, Error *err);

// ---- its pieces, for those who look at each stage (cuda_inspect.c) and for the graphs ----

// The launches of a row of decoding that ends so, below END_GRAPHS. `args`, `launches` and `stages` hold
// lowered.n_stages each. Returns how many there are.
uint32_t cuda_row_launches(CudaBackend *b, RowEnd end, StageArgs *args, Launch *launches,
                           const Stage **stages);

// The index-th stage of a prompt's rows; which these are is in the span. `args` is filled, and stays as long
// as the launch.
Launch cuda_span_launch(CudaBackend *b, uint32_t index, StageArgs *args);

// Makes the device's row that of a slot's sequence at a position: with this token, or with ROW_TOKEN_DRAWN
// for the one that it drew last, where nothing is sent if the row is that one already.
MUST_CHECK bool cuda_place_row(CudaBackend *b, Cell *cell, uint32_t slot, int32_t token, uint32_t position,
                               Error *err);

// How a row of a sequence's part of a step ends.
RowEnd cuda_end_of_row(const CudaBackend *b, const StepSequence *q, uint32_t row);

// What follows the launches of a row that ends so: its logits to the host, and the token that it drew.
MUST_CHECK bool cuda_finish_row(CudaBackend *b, const StepSequence *q, uint32_t row, RowEnd end,
                                Flight *flight, Error *err);

// Sends a prompt's rows to the device.
MUST_CHECK bool cuda_send_span(CudaBackend *b, Cell *cell, const StepSequence *q, Error *err);

// The stages behind the layers for those rows of a prompt that want logits.
MUST_CHECK bool cuda_run_heads(CudaBackend *b, Cell *cell, const StepSequence *q, Flight *flight, Error *err);
