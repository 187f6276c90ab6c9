// Looking into the CUDA backend, for its own files.
#pragma once

#include "backend/cuda/cuda_internal.h"

// CudaBackend.explain_invalid: where a row went wrong that drew no token: its first stage that left something
// else than numbers, for StepRun.first_invalid. *out is NULL where that cannot be told. Runs the row once
// more, stage by stage, which spoils the sequence's state: nothing but a new sequence may follow in its slot.
MUST_CHECK bool cuda_explain_invalid(CudaBackend *b, const Flight *flight, const Draw *draw, const char **out,
                                     Error *err);

// Lets `observer` see the stages that `run_part` shows to it; NULL ends it.
void cuda_observe(CudaBackend *b, CudaObserver *observer, void *context, CudaRunPart *run_part);

// `size` bytes of device memory, in the scratch arena; NULL after an error.
void *cuda_fetch(CudaBackend *b, CUdeviceptr from, size_t size, Arena *scratch, Error *err);
