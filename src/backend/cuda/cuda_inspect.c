// Looking into the CUDA backend: who sees the stages' values, and where a row went wrong.
#include "backend/cuda/cuda_inspect.h"

#include "backend/cuda/cuda_batch.h"
#include "backend/cuda/cuda_batch_inspect.h"

#include <math.h>

void cuda_observe(CudaBackend *b, CudaObserver *observer, void *context, CudaRunPart *run_part) {
    b->observer = observer;
    b->observer_context = context;
    b->run_part = observer ? run_part : NULL;
}

bool cuda_backend_check_residency(Backend *backend, Error *err) {
    CudaBackend *b = cuda_self(backend);
    CUresult r = b->cuda.context_use(b->context);
    return cuda_ok(&b->cuda, r, "asking where memory is", err) && device_memory_is_resident(&b->memory, err);
}

// ---- values ----

void *cuda_fetch(CudaBackend *b, CUdeviceptr from, size_t size, Arena *scratch, Error *err) {
    void *to = arena_alloc(scratch, 1, size, 64);
    if (!to) {
        error_fill(err, ERR_NO_MEMORY, ERROR_NO_POSITION, "the values of a stage do not fit their memory");
        return NULL;
    }
    CUresult r = b->cuda.copy_to_host(to, from, size, b->stream);
    if (r == CUDA_SUCCESS) r = b->cuda.stream_synchronize(b->stream);
    return cuda_ok(&b->cuda, r, "fetching a stage's values", err) ? to : NULL;
}

void cuda_backend_observe(Backend *backend, CudaObserver *observer, void *context) {
    cuda_backend_observe_rows(backend, 1, observer, context);
}

void cuda_backend_observe_rows(Backend *backend, uint32_t n_rows, CudaObserver *observer, void *context) {
    CudaBackend *b = cuda_self(backend);
    cuda_batch_wait_for_class(b, n_rows > 1 ? BATCH_CLASS_EIGHT : BATCH_CLASS_ONE);
    b->batches->watched = cuda_batch_class_for(b->batches, n_rows);
    cuda_observe(b, observer, context, cuda_batch_watch_rows);
}

void cuda_backend_observe_prompts(Backend *backend, CudaObserver *observer, void *context) {
    cuda_observe(cuda_self(backend), observer, context, cuda_batch_watch_prompts);
}

// ---- rows that went wrong ----

// An observer that keeps the first operation with a value that is no number.
static bool note_invalid(void *context, uint32_t op_index, uint32_t position, float *values, uint32_t width) {
    uint32_t *first = context;
    (void)position;
    for (uint32_t i = 0; *first == UINT32_MAX && i < width; i++) {
        if (!isfinite(values[i])) *first = op_index;
    }
    return false;
}

bool cuda_explain_invalid(CudaBackend *b, const Flight *flight, const Draw *draw, const char **out,
                          Error *err) {
    Slot *slot = &b->slots[draw->slot];
    const int32_t *drawn = flight->tokens + draw->slot * TOKEN_RING;
    int32_t token = draw->token;
    if (token == TOKEN_INVALID) token = drawn[(draw->place + TOKEN_RING - 1) % TOKEN_RING];
    // Steps that were enqueued behind a wrong one are wrong, too; those of a slot's next sequence are its
    // own.
    if (b->observer || slot->generation != draw->generation || token == TOKEN_INVALID) return true;
    CUresult r = b->cuda.context_synchronize();
    if (!cuda_ok(&b->cuda, r, "running a step once more", err)) return false;
    uint32_t first = UINT32_MAX;
    b->batches->head_ran = false; // of a step that waits for masks: its logits will not be there any more
    cuda_observe(b, note_invalid, &first, cuda_batch_watch_rows);
    bool ok = cuda_batch_show_row(b, draw->slot, token, draw->position, err);
    cuda_observe(b, NULL, NULL, NULL);
    if (!ok || first == UINT32_MAX) return ok;
    StrBuf text = STRBUF(slot->invalid_text);
    plan_name_op(&b->plan->ops[first], &text);
    *out = slot->invalid_text;
    return true;
}
