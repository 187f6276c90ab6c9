// Moving the weights from the mapped file to the device.
//
// Several threads each copy a piece of a matrix (whole rows) from the mapping into one of their two pinned
// buffers, send it to a buffer on the device, and set off the kernel that moves its bits into place; while
// the device does that, the thread copies the next piece. The page cache, not the bus, is what one thread
// cannot keep up with.
#pragma once

#include "backend/backend.h"
#include "backend/cuda/placement.h"

enum {
    UPLOAD_THREADS_MAX = 8,
    UPLOAD_PIECE_BYTES = 1 << 20,     // of a piece that is as long as it should be
    UPLOAD_PIECE_BYTES_MAX = 2 << 20, // of rows that are made into tiles together
    UPLOAD_BUFFERS = 2,
};

typedef struct {
    const Cuda *cuda;
    CUcontext context;
    const Placement *placement;
    CUdeviceptr weights;            // the region's address
    CUdeviceptr staging;            // [threads][UPLOAD_BUFFERS][UPLOAD_PIECE_BYTES_MAX]
    uint32_t n_threads;             // at most UPLOAD_THREADS_MAX
    CUfunction repack[DTYPE_COUNT]; // by format; NULL for those that the plan does not have
    BackendProgressFn *progress;    // may be NULL; called on the caller's thread
    void *progress_context;
} Upload;

static inline uint64_t upload_staging_bytes(uint32_t n_threads) {
    return (uint64_t)n_threads * UPLOAD_BUFFERS * UPLOAD_PIECE_BYTES_MAX;
}

// Returns when all weights are in place. The caller's context is current. `scratch` holds the list of pieces.
MUST_CHECK bool upload_weights(const Upload *upload, Arena scratch, Error *err);
