#include "backend/cpu/matmul.h"

typedef float Lanes __attribute__((vector_size(32)));
typedef float LanesInMemory __attribute__((vector_size(32), aligned(4), may_alias));
enum { LANES = 8, TILE_R = 4, TILE_T = 2 };

// Eight floats of any alignment. (A macro: functions may not pass 32-byte vectors in the baseline's calling
// convention.)
#define LOAD_LANES(at) (*(const LanesInMemory *)(at))

static inline float sum_lanes(const Lanes *v) {
    const Lanes s = *v;
    return ((s[0] + s[4]) + (s[1] + s[5])) + ((s[2] + s[6]) + (s[3] + s[7]));
}

// The last n < LANES floats, filled up with zeros.
typedef struct {
    float lane[LANES];
} Tail;

static inline Tail load_tail(const float *at, uint64_t n) {
    Tail tail = {{0}};
    memcpy(tail.lane, at, n * sizeof(float));
    return tail;
}

static inline void add_tail(Lanes *sum, const float *a, const float *b, uint64_t n) {
    Tail tail_a = load_tail(a, n), tail_b = load_tail(b, n);
    *sum += LOAD_LANES(tail_a.lane) * LOAD_LANES(tail_b.lane);
}

CPU_CLONES float dot_f32(const float *a, const float *b, uint64_t n) {
    Lanes sum = {0};
    uint64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        sum += LOAD_LANES(a + i) * LOAD_LANES(b + i);
    if (i < n) add_tail(&sum, a + i, b + i, n - i);
    return sum_lanes(&sum);
}

// sums[t][r] = w[r] · x[t] for TILE_R rows and n_t tokens. Inlined with n_t constant, the partial sums stay
// in registers.
static inline __attribute__((always_inline)) void dot_tile(const float *w, uint64_t w_stride, const float *x,
                                                           uint64_t x_stride, uint64_t n, int n_t,
                                                           float sums[TILE_T][TILE_R]) {
    Lanes part[TILE_T][TILE_R] = {0};
    uint64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (int t = 0; t < n_t; t++) {
            Lanes token = LOAD_LANES(x + (uint64_t)t * x_stride + i);
            for (int r = 0; r < TILE_R; r++)
                part[t][r] += LOAD_LANES(w + (uint64_t)r * w_stride + i) * token;
        }
    }
    for (int t = 0; t < n_t; t++) {
        for (int r = 0; r < TILE_R; r++) {
            if (i < n)
                add_tail(&part[t][r], w + (uint64_t)r * w_stride + i, x + (uint64_t)t * x_stride + i, n - i);
            sums[t][r] = sum_lanes(&part[t][r]);
        }
    }
}

CPU_CLONES static void dot_tile_one(const float *w, uint64_t w_stride, const float *x, uint64_t n,
                                    float sums[TILE_T][TILE_R]) {
    dot_tile(w, w_stride, x, 0, n, 1, sums);
}

CPU_CLONES static void dot_tile_two(const float *w, uint64_t w_stride, const float *x, uint64_t x_stride,
                                    uint64_t n, float sums[TILE_T][TILE_R]) {
    dot_tile(w, w_stride, x, x_stride, n, 2, sums);
}

static MatmulRow token_rows(const Matmul *m, uint32_t token) {
    return m->rows ? m->rows[token] : (MatmulRow){token, token};
}

// Rows [row, row + n_rows) of the product; `w` holds them expanded, w_stride apart, with whole tiles
// readable.
static void multiply_rows(const Matmul *m, const float *w, uint64_t w_stride, uint64_t row, uint32_t n_rows) {
    uint64_t n_cols = m->weight->n_cols;
    for (uint32_t t = 0; t < m->n_tokens; t += TILE_T) {
        uint32_t n_t = (uint32_t)min_u64(TILE_T, m->n_tokens - t);
        MatmulRow first = token_rows(m, t), last = token_rows(m, t + n_t - 1);
        const float *x = m->in + first.in * m->in_stride;
        uint64_t x_stride = (last.in - first.in) * m->in_stride;
        for (uint32_t r = 0; r < n_rows; r += TILE_R) {
            float sums[TILE_T][TILE_R];
            if (n_t == TILE_T) dot_tile_two(w + r * w_stride, w_stride, x, x_stride, n_cols, sums);
            else dot_tile_one(w + r * w_stride, w_stride, x, n_cols, sums);
            for (uint32_t i = 0; i < n_t; i++) {
                float *out = m->out + token_rows(m, t + i).out * m->out_stride;
                for (uint32_t j = 0; j < TILE_R && r + j < n_rows; j++) {
                    float bias = m->bias ? m->bias[row + r + j] : 0;
                    out[row + r + j] = sums[i][j] + bias;
                }
            }
        }
    }
}

static void matmul_tiles(void *context, uint32_t thread, uint32_t from, uint32_t to) {
    const Matmul *m = context;
    const Weight *weight = m->weight;
    const DtypeInfo *info = dtype_info(weight->dtype);
    float *expanded = m->scratch + thread * m->scratch_stride;
    uint64_t stride = align_up(weight->n_cols, 16);
    for (uint32_t tile = from; tile < to; tile++) {
        uint64_t row = (uint64_t)tile * MATMUL_TILE_ROWS;
        uint32_t n_rows = (uint32_t)min_u64(MATMUL_TILE_ROWS, weight->n_rows - row);
        for (uint32_t r = 0; r < n_rows; r++) {
            info->dequantize(weight_row(weight, m->matrix, row + r), expanded + r * stride,
                             weight->n_cols / info->block_elements);
        }
        multiply_rows(m, expanded, stride, row, n_rows);
    }
}

void matmul_run(Pool *pool, const Matmul *m) {
    uint32_t n_tiles = (uint32_t)div_up(m->weight->n_rows, MATMUL_TILE_ROWS);
    uint32_t pieces = pool_thread_count(pool) * 4;
    pool_run(pool, matmul_tiles, (void *)(uintptr_t)m, n_tiles, (uint32_t)div_up(n_tiles, pieces));
}
