// Looking into batches, for cuda_inspect.c.
#pragma once

#include "backend/cuda/cuda_batch.h"
#include "backend/cuda/cuda_inspect.h"

// CudaBackend.run_part while an observer looks at rows: those of a sequence's part of a step, prompts, too,
// go through the class `watched` in groups of as many as it holds, stage by stage.
CudaRunPart cuda_batch_watch_rows;
// The same for prompts, through their own stages; other parts go as usual.
CudaRunPart cuda_batch_watch_prompts;
