#include "backend/cuda/upload.h"

#include "../kernels_src/args.h"
#include "../kernels_src/layout.h"
#include "os/os.h"

enum { REPACK_THREADS = 256, PROGRESS_INTERVAL_MS = 20 };

// Whole rows of one matrix of a weight.
typedef struct {
    const Weight *weight;
    uint64_t matrix;
    uint64_t bytes;
    CUdeviceptr out; // the whole matrix
    uint32_t n_rows;
    uint32_t n_cols;
    uint32_t first_row, matrix_rows;
    Dtype dtype;
} Piece;

typedef struct {
    uint8_t *pinned;
    CUdeviceptr staging;
    CUevent done; // the piece that was in it is in place
} Buffer;

typedef struct Uploader Uploader;

typedef struct {
    Uploader *uploader;
    OsThread thread;
    CUstream stream;
    Buffer buffers[UPLOAD_BUFFERS];
    Error error;
    bool failed;
} Reader;

struct Uploader {
    const Upload *upload;
    const Piece *pieces;
    uint32_t n_pieces;
    uint64_t bytes;
    uint8_t *pinned; // of all readers, then the vectors
    Reader readers[UPLOAD_THREADS_MAX];
    uint32_t n_started;
    _Atomic uint32_t next;     // piece
    _Atomic uint64_t sent;     // bytes
    _Atomic uint32_t finished; // readers
    _Atomic bool stop;
};

// ---- the list of pieces ----

// Whole bands; 0 where there is no room for one.
static uint64_t rows_a_piece(const Weight *w) {
    uint64_t bands = max_u64(UPLOAD_PIECE_BYTES / w->row_bytes / BAND_ROWS, 1);
    return bands * BAND_ROWS * w->row_bytes <= UPLOAD_PIECE_BYTES_MAX ? bands * BAND_ROWS : 0;
}

static uint64_t placed_matrix_bytes(const Placement *p, const Weight *w) {
    return p->weights[w - p->plan->weights].size / w->n_matrices;
}

static void list_weight(Uploader *u, Piece *pieces, const Weight *w) {
    const Placement *p = u->upload->placement;
    CUdeviceptr out = u->upload->weights + placement_offset(p, w);
    uint64_t n_rows = w->n_rows, rows = rows_a_piece(w), matrix_bytes = placed_matrix_bytes(p, w);
    for (uint64_t at = 0; at < w->n_matrices * n_rows; u->n_pieces++) {
        uint64_t row = at % n_rows, matrix = at / n_rows;
        Piece *piece = &pieces[u->n_pieces];
        *piece = (Piece){.weight = w,
                         .matrix = matrix,
                         .out = out + matrix * matrix_bytes,
                         .n_rows = (uint32_t)min_u64(rows, n_rows - row),
                         .n_cols = (uint32_t)w->n_cols,
                         .first_row = (uint32_t)row,
                         .matrix_rows = (uint32_t)n_rows,
                         .dtype = w->dtype};
        piece->bytes = piece->n_rows * w->row_bytes;
        u->bytes += piece->bytes;
        at += piece->n_rows;
    }
}

static bool list_pieces(Uploader *u, Arena *scratch, Error *err) {
    const Placement *p = u->upload->placement;
    const Plan *plan = p->plan;
    uint64_t n = 0;
    for (uint32_t i = 0; i < plan->n_weights; i++) {
        const Weight *w = &plan->weights[i];
        if (p->weights[i].as != PLACED_MATRIX) continue;
        if (rows_a_piece(w) == 0) {
            return error_set(err, ERR_UNSUPPORTED,
                             "tensor \"%.*s\": a row of %llu bytes is longer than expected", STR_ARG(w->name),
                             (unsigned long long)w->row_bytes);
        }
        n += w->n_matrices * div_up(w->n_rows, rows_a_piece(w));
    }
    Piece *pieces = arena_new(scratch, Piece, n);
    if (!pieces || n > UINT32_MAX)
        return error_set(err, ERR_NO_MEMORY, "the list of pieces does not fit its memory");
    for (uint32_t i = 0; i < plan->n_weights; i++) {
        const Weight *w = &plan->weights[i];
        if (p->weights[i].as != PLACED_MATRIX) continue;
        list_weight(u, pieces, w);
    }
    u->pieces = pieces;
    return true;
}

// ---- a reader ----

static bool repack(Reader *r, const Piece *piece, CUdeviceptr in, Error *err) {
    const Upload *up = r->uploader->upload;
    TileRepackArgs args = {.in = in,
                           .out = piece->out,
                           .n_rows = piece->matrix_rows,
                           .n_cols = piece->n_cols,
                           .first_row = piece->first_row,
                           .piece_rows = piece->n_rows};
    void *params[] = {&args};
    CUlaunchConfig config = {.gridDimX =
                                 layout_piece_bands(piece->matrix_rows, piece->first_row, piece->n_rows),
                             .gridDimY = (unsigned)div_up(piece->n_cols, REPACK_COLS),
                             .gridDimZ = 1,
                             .blockDimX = REPACK_THREADS,
                             .blockDimY = 1,
                             .blockDimZ = 1,
                             .sharedMemBytes = BAND_ROWS * sizeof(int32_t),
                             .hStream = r->stream};
    return cuda_ok(up->cuda, up->cuda->launch(&config, up->repack[piece->dtype], params, NULL),
                   "repacking weights", err);
}

// Rows of a strip lie together in the file.
static void copy_rows(const Piece *piece, uint8_t *out) {
    const Weight *w = piece->weight;
    uint64_t strip = w->strip_rows ? w->strip_rows : piece->matrix_rows;
    for (uint64_t row = piece->first_row, end = row + piece->n_rows, n; row < end; row += n) {
        n = min_u64(strip - row % strip, end - row);
        memcpy(out, weight_row(w, piece->matrix, row), n * w->row_bytes);
        out += n * w->row_bytes;
    }
}

static bool send(Reader *r, Buffer *b, const Piece *piece, Error *err) {
    const Cuda *cuda = r->uploader->upload->cuda;
    if (!cuda_ok(cuda, cuda->event_synchronize(b->done), "uploading weights", err)) return false;
    copy_rows(piece, b->pinned);
    CUresult result = cuda->copy_to_device(b->staging, b->pinned, piece->bytes, r->stream);
    if (!cuda_ok(cuda, result, "uploading weights", err) || !repack(r, piece, b->staging, err)) return false;
    return cuda_ok(cuda, cuda->event_record(b->done, r->stream), "uploading weights", err);
}

static void *reader_run(void *context) {
    Reader *r = context;
    Uploader *u = r->uploader;
    const Cuda *cuda = u->upload->cuda;
    bool ok = cuda_ok(cuda, cuda->context_use(u->upload->context), "uploading weights", &r->error);
    for (uint32_t turn = 0; ok && !atomic_load(&u->stop); turn++) {
        uint32_t index = atomic_fetch_add(&u->next, 1);
        if (index >= u->n_pieces) break;
        ok = send(r, &r->buffers[turn % UPLOAD_BUFFERS], &u->pieces[index], &r->error);
        atomic_fetch_add(&u->sent, u->pieces[index].bytes);
    }
    ok = ok && cuda_ok(cuda, cuda->stream_synchronize(r->stream), "uploading weights", &r->error);
    r->failed = !ok;
    if (!ok) atomic_store(&u->stop, true);
    atomic_fetch_add(&u->finished, 1);
    os_wake_word(&u->finished);
    return NULL;
}

static bool reader_init(Uploader *u, uint32_t index, Error *err) {
    const Upload *up = u->upload;
    Reader *r = &u->readers[index];
    r->uploader = u;
    CUresult result = up->cuda->stream_create(&r->stream, CU_STREAM_NON_BLOCKING);
    for (uint32_t i = 0; i < UPLOAD_BUFFERS && result == CUDA_SUCCESS; i++) {
        uint64_t at = (uint64_t)(index * UPLOAD_BUFFERS + i) * UPLOAD_PIECE_BYTES_MAX;
        r->buffers[i].pinned = u->pinned + at;
        r->buffers[i].staging = up->staging + at;
        result =
            up->cuda->event_create(&r->buffers[i].done, CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING);
    }
    return cuda_ok(up->cuda, result, "preparing the upload", err);
}

static void reader_destroy(const Cuda *cuda, Reader *r) {
    for (uint32_t i = 0; i < UPLOAD_BUFFERS; i++) {
        if (r->buffers[i].done) cuda->event_destroy(r->buffers[i].done);
    }
    if (r->stream) cuda->stream_destroy(r->stream);
}

// ---- vectors ----

static void expand_vectors(const Placement *p, uint8_t *out) {
    for (uint32_t i = 0; i < p->plan->n_weights; i++) {
        const Weight *w = &p->plan->weights[i];
        if (p->weights[i].as != PLACED_VECTOR) continue;
        const DtypeInfo *info = dtype_info(w->dtype);
        float *values = (float *)(void *)(out + (p->weights[i].offset - p->vectors_offset));
        info->dequantize(w->data, values, w->n_rows * w->n_cols / info->block_elements);
    }
    for (uint32_t i = 0; i < p->n_ropes; i++) {
        const Rope *rope = p->ropes[i];
        memcpy(out + (p->rope_offsets[i] - p->vectors_offset), rope->inv_freq,
               rope->dims / 2 * sizeof(float));
    }
}

static bool send_vectors(Uploader *u, uint8_t *pinned, Error *err) {
    const Upload *up = u->upload;
    const Placement *p = up->placement;
    expand_vectors(p, pinned);
    CUstream stream = u->readers[0].stream;
    CUresult r = up->cuda->copy_to_device(up->weights + p->vectors_offset, pinned, p->vectors_size, stream);
    return cuda_ok(up->cuda, r, "uploading norms and biases", err);
}

// ---- all of it ----

static void report(const Uploader *u) {
    const Upload *up = u->upload;
    uint64_t permille = atomic_load(&u->sent) * 1000 / max_u64(u->bytes, 1);
    if (up->progress) up->progress(up->progress_context, (uint32_t)permille);
}

static bool run(Uploader *u, Error *err) {
    const Upload *up = u->upload;
    for (uint32_t i = 0; i < up->n_threads; i++) {
        if (!reader_init(u, i, err)) return false;
    }
    if (!send_vectors(u, u->pinned + upload_staging_bytes(up->n_threads), err)) return false;
    bool ok = true;
    for (; ok && u->n_started < up->n_threads; u->n_started += ok) {
        Reader *r = &u->readers[u->n_started];
        ok = os_thread_start(&r->thread, "upload", reader_run, r, err);
    }
    if (!ok) atomic_store(&u->stop, true);
    for (uint32_t finished; (finished = atomic_load(&u->finished)) < u->n_started;) {
        report(u);
        os_wait_word(&u->finished, finished, PROGRESS_INTERVAL_MS);
    }
    for (uint32_t i = 0; i < u->n_started; i++)
        os_thread_join(&u->readers[i].thread);
    for (uint32_t i = 0; ok && i < u->n_started; i++) {
        if (!u->readers[i].failed) continue;
        *err = u->readers[i].error;
        ok = false;
    }
    if (ok) report(u);
    return ok;
}

bool upload_weights(const Upload *upload, Arena scratch, Error *err) {
    Uploader *u = arena_new(&scratch, Uploader, 1);
    if (!u) return error_set(err, ERR_NO_MEMORY, "the upload's state does not fit its memory");
    u->upload = upload;
    if (!list_pieces(u, &scratch, err)) return false;
    void *pinned = NULL;
    uint64_t pinned_bytes = upload_staging_bytes(upload->n_threads) + upload->placement->vectors_size;
    CUresult result = upload->cuda->pinned_allocate(&pinned, pinned_bytes, 0);
    if (!cuda_ok(upload->cuda, result, "allocating pinned memory", err)) return false;
    u->pinned = pinned;
    bool ok = run(u, err);
    for (uint32_t i = 0; i < upload->n_threads; i++)
        reader_destroy(upload->cuda, &u->readers[i]);
    upload->cuda->pinned_free(pinned);
    return ok;
}
