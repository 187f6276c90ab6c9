// A weight: one tensor of the file (or a run of its rows), checked against the shape that the model's tables
// expect.
//
// Weights point into the mapped file and live as long as it does, but for those that weight_turn made.
#pragma once

#include "model/dtype.h"
#include "model/gguf.h"

// What a table row expects of the file. Shapes are written as the maths does, rows first; GGUF stores them
// reversed.
typedef struct {
    const char *name;    // in the file, e.g. "blk.3.attn_q.weight"
    uint64_t n_matrices; // experts; 1 for a plain matrix or vector
    uint64_t n_rows;     // outputs; 1 for a vector
    uint64_t n_cols;     // inputs: elements of a row
    uint64_t row_from;   // this weight is rows [row_from, row_from + row_count) of each matrix: how fused
    uint64_t row_count;  // tensors (QKV, gate and up) are taken apart
    uint64_t col_from;   // and values [col_from, col_from + col_count) of each row: the whole row, except
    uint64_t col_count;  // that vectors of floats are taken apart so
    bool is_float;       // must be F32, F16 or BF16: norms, biases
    // Not 0: the rows are the first strip_rows of every strip_step from row_from on. Of one matrix only,
    // which becomes `strips` matrices of row_count rows, a strip each, where that is not 0.
    uint64_t strip_rows, strip_step, strips;
} WeightSpec;

typedef struct Weight Weight;
struct Weight {
    Str name;
    Dtype dtype;
    uint64_t n_matrices;
    uint64_t n_rows; // with those of `rest`
    uint64_t n_cols;
    uint64_t row_bytes;     // of one row of n_cols elements
    uint64_t matrix_stride; // bytes from one matrix to the next
    uint64_t strip_rows;    // rows that lie together; 0: all of a matrix
    uint64_t strip_step;    // rows from one strip to the next
    const uint8_t *data;    // [n_matrices][n_rows][n_cols] blocks of dtype, row-major, in the mapped file
    uint64_t size_bytes;    // n_matrices * n_rows * row_bytes
    // NULL, or of a tensor whose rows come in yet another order: the rows from rest_from on are these, of the
    // same tensor. Whole strips of strip_rows lie together in them, too.
    const Weight *rest;
    uint64_t rest_from;
};

// Finds and checks a tensor. *found is false, and nothing else is set, when the file has no tensor of that
// name, or one without elements. Errors (ERR_BAD_FILE, ERR_UNSUPPORTED) name the tensor, the expected and the
// found shape.
MUST_CHECK bool weight_bind(const GgufFile *file, const WeightSpec *spec, Weight *out, bool *found,
                            Error *err);

// The rows of `rest` come behind those of *w, a weight of the same tensor. False: their strips do not fit.
// `rest` lives as long as *w.
MUST_CHECK bool weight_append(const GgufFile *file, Weight *w, Weight *rest, Error *err);

// Makes *w anew in the arena, as float32 with each matrix's columns as rows. False when the arena is full.
bool weight_turn(Weight *w, Arena *arena);

// Row `row` of matrix `matrix`.
static inline const uint8_t *weight_row(const Weight *w, uint64_t matrix, uint64_t row) {
    while (w->rest && row >= w->rest_from) {
        row -= w->rest_from;
        w = w->rest;
    }
    if (w->strip_rows) row = row / w->strip_rows * w->strip_step + row % w->strip_rows;
    return w->data + matrix * w->matrix_stride + row * w->row_bytes;
}
