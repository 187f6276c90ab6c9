// Loading a model onto a GPU: what lies where in its memory, the programs, the graphs.
#pragma once

#include "backend/cuda/cuda_internal.h"

// Backend.load.
bool cuda_load(Backend *backend, const Plan *plan, BackendProgressFn *progress, void *context, Error *err);

// Gives back everything that cuda_load took, however far it came.
void cuda_unload(CudaBackend *b);
