// Variants of tiles.cuh and tile_repack.cuh: repacking, single weights, and
// fragments. And arithmetic of f16 pairs.
#pragma once

namespace {
#if defined(STAGE_F16X2)
void run(const void *args) {
    const F16x2Args *a = (const F16x2Args *)args;
    u32 i = block_index() * WARP + thread_index();
    a->out[i][0] = fma_f16x2(a->in[i][0], a->in[i][1], a->in[i][2]);
    a->out[i][1] = multiply_f16x2(a->in[i][0], a->in[i][1]);
    a->out[i][2] = add_f16x2(a->in[i][0], a->in[i][2]);
}
const StageInfo info = {WARP, {1, 1}, 0};
#else
#include "../kernels_src/tiles.cuh"
#include "../kernels_src/codebooks.h"
#include "../kernels_src/tiles_codebooks.cuh"
#include "../kernels_src/file_entries.cuh"
#include "../kernels_src/tile_repack.cuh"
template <int format> LAYOUT_FN u32 codebook_at() {
    return 0;
}
void run(const void *args) {
    tile_repack_kernel(*(const TileRepackArgs *)args);
}
const StageInfo info = {REPACK_THREADS, {1, 1}, 64};

void run_values(const void *args) {
    const ValuesArgs *a = (const ValuesArgs *)args;
    u32 i = block_index() * 256 + thread_index();
    if (i >= a->n_rows * a->n_cols) return;
    a->out[i] = tile_value<FORMAT>(a->weight, a->n_rows, a->n_cols, i / a->n_cols, i % a->n_cols);
}

// A warp a tile: block (band, tile).
void run_fragments(const void *args) {
    const FragmentsArgs *a = (const FragmentsArgs *)args;
    u32 band = block_index(), n = block_index_y(), lane = lane_index();
    u32 n_out = CEIL_DIV(a->n_cols, layout_tile_cols(FORMAT)) * layout_tile_cols(FORMAT);
    const u8 *p = a->matrix + layout_band_tile_at(FORMAT, a->n_cols, band, n);
    if constexpr (FORMAT_HAS_CODEBOOK(FORMAT)) {
        load_codebook<FORMAT>(shared_memory(), WARP);
        block_sync();
    }
    Tile<FORMAT> tile;
    tile.scales(p);
    for (u32 step = 0; step < tile.HALVES * 8; step++) {
        u32 h = step / 8, t = step % 8, fragments[2][4];
        if (t == 0) tile.half(p, h);
        tile.pair(h, t / 2, fragments);
        for (u32 i = 0; i < 8; i++) { // register i / 2, half i % 2
            u32 row = band * BAND_ROWS + lane / 4 + i / 2 % 2 * 8;
            u32 col = n * layout_tile_cols(FORMAT) + h * 128 + lane % 4 * 32 + t * 4 + i / 4 * 2 + i % 2;
            a->out[row * n_out + col] = (u16)(fragments[t % 2][i / 2] >> i % 2 * 16);
        }
    }
}
#endif

#include "describe.h"
