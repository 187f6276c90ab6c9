// Prefill: the products of experts with the rows that chose them, which lie in slots (prefill_group.cuh).
//
// Grid: (tiles of units, tiles of slots) blocks; those past the table's last tile have nothing to do. A tile
// is as prefill_matmul.cuh computes it, one expert's weights with up to TILE_TOKENS of its slots; slots of
// other experts behind them are computed and dropped. Weights are those of the one expert, so they are asked
// for after the wait.
// Defines: prefill_matmul.cuh's with the slots as MAX_ROWS; EXPERT_TILES (of the table).
#ifndef EXPERT_TILES
#error "EXPERT_TILES"
#endif

// Calls run(tile, expert) where the block has something to do.
template <class Run>
DEVICE void with_expert_tile(const ExpertTile *tiles, u32 unit_tile, u32 tile, const Run &run) {
    stage_wait();
    uint4 v = load_shared_data((const uint4 *)(tiles + tile));
    if (v.y >= v.z) return;
    MatmulTile t;
    t.any = true;
    t.unit = unit_tile * TILE_UNITS + warp_index() % WARPS * WARP_UNITS;
    t.token = v.y;
    t.n_rows = v.z;
    run(t, v.x);
}
