// A matrix's tiles as plain rows of f16, for a library that multiplies them (--products cublas).
//
//     out[row - first_row][col] = what the tensor cores multiply of the weight (tiles.cuh): the file's weight
//                                 divided by its row's factor, rounded once to f16
//
// Grid: warps take tiles in turn. It is launched behind the work whose memory `out` is, and not beside it.
// Defines: FORMAT, BLOCKS.
#if !defined(FORMAT) || !defined(BLOCKS)
#error "FORMAT, BLOCKS"
#endif

enum : u32 { DEQUANTISE_WARPS = 8 };

template <int format> LAYOUT_FN u32 codebook_at() {
    return 0;
}

// A lane has rows g and g + 8 of a tile, and 32 columns of each half: eight at a time, 16 bytes.
DEVICE void dequantise_tile(const DequantiseArgs &a, const u8 *p, u32 band, u32 first_col) {
    u32 row = band * BAND_ROWS + lane_index() / 4;
    Tile<FORMAT> tile;
    tile.scales(p);
#pragma unroll
    for (u32 h = 0; h < Tile<FORMAT>::HALVES; h++) {
        u32 col = first_col + h * 128 + lane_index() % 4 * BLOCK_WEIGHTS;
        tile.half(p, h);
#pragma unroll
        for (u32 j = 0; j < 4; j++) {
            u32 steps[2][4];
            tile.pair(h, j, steps);
#pragma unroll
            for (u32 up = 0; up < 2; up++) {
                u32 at = row + up * 8;
                if (at >= a.n_rows || col >= a.n_cols) continue;
                uint4 v = {steps[0][up], steps[0][2 + up], steps[1][up], steps[1][2 + up]};
                *(uint4 *)(a.out + (u64)(at - a.first_row) * a.n_cols + col + j * 8) = v;
            }
        }
    }
}

EXPORTED StageInfo dequantise_info = {DEQUANTISE_WARPS * 32, {BLOCKS, 1}, layout_codebook_bytes(FORMAT)};

KERNEL(DEQUANTISE_WARPS * 32, 1) dequantise(DequantiseArgs a) {
    u32 n_tiles = CEIL_DIV(a.n_cols, layout_tile_cols(FORMAT)), first_band = a.first_row / BAND_ROWS;
    u32 n = CEIL_DIV(a.piece_rows, (u32)BAND_ROWS) * n_tiles;
    if constexpr (FORMAT_HAS_CODEBOOK(FORMAT)) {
        load_codebook<FORMAT>(shared_memory(), DEQUANTISE_WARPS * 32);
        block_sync();
    }
    for (u32 i = block_index() * DEQUANTISE_WARPS + warp_index(); i < n; i += BLOCKS * DEQUANTISE_WARPS) {
        u32 band = first_band + i / n_tiles, tile = i % n_tiles;
        dequantise_tile(a, a.matrix + layout_band_tile_at(FORMAT, a.n_cols, band, tile), band,
                        tile * layout_tile_cols(FORMAT));
    }
}
