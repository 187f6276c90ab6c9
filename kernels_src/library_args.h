// What the host passes to the kernels around a library's products (--products cublas). As args.h, which comes
// before it: C17 and CUDA C++.
#ifndef KERNELS_LIBRARY_ARGS_H
#define KERNELS_LIBRARY_ARGS_H

// dequantise.cuh: a piece of whole rows of one matrix
typedef struct {
    DEVICE_PTR(const unsigned char) matrix; // in tiles (layout.h)
    DEVICE_PTR(unsigned short) out;         // f16 [piece_rows][n_cols]
    unsigned n_rows;                        // of the matrix
    unsigned n_cols;                        // a multiple of 32
    unsigned first_row;                     // of the piece: a multiple of 16
    unsigned piece_rows;                    // a multiple of 16, or up to the matrix's last row
} DequantiseArgs;

// plain_rows.cuh
typedef struct {
    DEVICE_PTR(const Batch) batch;
    DEVICE_PTR(const unsigned short) in; // activations of n_cols columns
    DEVICE_PTR(unsigned short) out;      // f16 [MAX_ROWS][n_cols]
    unsigned n_cols;                     // a multiple of 32
    unsigned reserved;
} PlainRowsArgs;

#endif
