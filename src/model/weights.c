#include "model/weights.h"

#include "base/strbuf.h"

// "[576, 1536]" or "[32, 2880, 2880]", rows before columns.
static void put_shape(StrBuf *b, const uint64_t *dims, uint32_t n_dims) {
    strbuf_put_char(b, '[');
    for (uint32_t i = n_dims; i > 0; i--) {
        strbuf_printf(b, "%llu%s", (unsigned long long)dims[i - 1], i > 1 ? ", " : "");
    }
    strbuf_put_char(b, ']');
}

static bool shape_error(const GgufFile *file, const GgufTensor *t, const WeightSpec *spec, Error *err) {
    char expected[80], found[80];
    StrBuf e = STRBUF(expected), f = STRBUF(found);
    uint64_t dims[3] = {spec->n_cols, spec->n_rows, spec->n_matrices};
    uint32_t n_dims = spec->n_matrices > 1 ? 3 : spec->n_rows > 1 ? 2 : 1;
    put_shape(&e, dims, n_dims);
    put_shape(&f, t->dims, t->n_dims);
    return gguf_tensor_error(file, t, err, "expected shape %s, found %s", expected, found);
}

static bool dtype_is_float(Dtype dtype) {
    return dtype == DTYPE_F32 || dtype == DTYPE_F16 || dtype == DTYPE_BF16;
}

bool weight_bind(const GgufFile *file, const WeightSpec *spec, Weight *out, bool *found, Error *err) {
    const GgufTensor *t = gguf_find_tensor(file, str_from_c(spec->name));
    *found = t && gguf_tensor_elements(t) > 0;
    if (!*found) return true;
    bool fits = t->dims[0] == spec->n_cols && t->dims[1] == spec->n_rows && t->dims[2] == spec->n_matrices;
    if (!fits || t->dims[3] != 1) return shape_error(file, t, spec, err);
    if (spec->is_float && !dtype_is_float(t->dtype)) {
        return gguf_tensor_error(file, t, err, "expected F32, F16 or BF16, found %s",
                                 dtype_info(t->dtype)->name);
    }
    uint64_t row_bytes = dtype_row_bytes(t->dtype, spec->col_count);
    *out = (Weight){
        .name = t->name,
        .dtype = t->dtype,
        .n_matrices = spec->n_matrices,
        .n_rows = spec->row_count,
        .n_cols = spec->col_count,
        .row_bytes = row_bytes,
        .matrix_stride = spec->n_rows * dtype_row_bytes(t->dtype, spec->n_cols),
        .strip_rows = spec->strip_rows,
        .strip_step = spec->strip_step,
        .data = t->data + spec->row_from * row_bytes + dtype_row_bytes(t->dtype, spec->col_from),
        .size_bytes = spec->n_matrices * spec->row_count * row_bytes,
    };
    if (spec->strips) {
        out->n_matrices = spec->strips;
        out->matrix_stride = spec->strip_step * row_bytes;
        out->strip_rows = out->strip_step = 0;
        out->size_bytes = out->n_matrices * out->n_rows * row_bytes;
    }
    return true;
}

bool weight_turn(Weight *w, Arena *arena) {
    const DtypeInfo *info = dtype_info(w->dtype);
    uint64_t rows = w->n_rows, cols = w->n_cols;
    float *row = arena_new(arena, float, cols);
    float *values = arena_new(arena, float, w->n_matrices *rows *cols);
    if (!row || !values) return false;
    for (uint64_t i = 0; i < w->n_matrices * rows; i++) {
        float *matrix = values + i / rows * rows * cols;
        info->dequantize(weight_row(w, i / rows, i % rows), row, cols / info->block_elements);
        for (uint64_t c = 0; c < cols; c++)
            matrix[c * rows + i % rows] = row[c];
    }
    *w = (Weight){.name = w->name,
                  .dtype = DTYPE_F32,
                  .n_matrices = w->n_matrices,
                  .n_rows = cols,
                  .n_cols = rows,
                  .row_bytes = rows * sizeof(float),
                  .matrix_stride = rows * cols * sizeof(float),
                  .data = (const uint8_t *)values,
                  .size_bytes = w->n_matrices * rows * cols * sizeof(float)};
    return true;
}

bool weight_append(const GgufFile *file, Weight *w, Weight *rest, Error *err) {
    Weight *last = w;
    while (last->rest)
        last = (Weight *)last->rest;
    if (rest->strip_rows % w->strip_rows) {
        return gguf_tensor_error(file, gguf_find_tensor(file, w->name), err,
                                 "its rows come in turns of %llu and %llu, which is not supported",
                                 (unsigned long long)w->strip_rows, (unsigned long long)rest->strip_rows);
    }
    last->rest_from = last == w ? w->n_rows : last->n_rows;
    last->rest = rest;
    w->n_rows += rest->n_rows;
    w->size_bytes += rest->size_bytes;
    return true;
}
