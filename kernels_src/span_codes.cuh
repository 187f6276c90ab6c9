// Attention of prompts by products of four warps (span_attention_wgmma.cuh) over a cache of 8 bits: how its
// pieces become what a cache of f16 would have brought.
//
// Four warps do it, each for one page of every tile. A warp's pieces (a page's keys of the head, or its
// values) come by bulk copies to a ring of its own, and go on into the slots of keys and values: codes of
// keys as f16, which is exact; of values code * scale, rounded to f16 (attend.cuh). Keys' scales go beside
// their slot as float32.
//
// A lane has one token of a piece, and every second unit of 16 dims: eight lanes side by side have eight
// tokens' units, which lie in different banks, of codes and of f16.
//
// Needs attend.cuh. Defines: KV_Q8.
#ifdef KV_Q8
enum : u32 {
    CODE_WARPS = TILE_PAGES,
    CODE_SLOTS = 3, // pieces of a warp that are under way
    CODE_RING_BYTES = CODE_SLOTS * KV_PIECE_BYTES,
    KEY_SCALES_BYTES = SPLIT_KEYS * 4,
    LANE_UNITS = HEAD_DIM / 32, // of a piece
};

struct CodeRing {
    u8 *slots;
    BulkBarrier *full; // of each slot
    u32 slot, parity;  // of the next piece
};
DEVICE u8 *codes_slot(const CodeRing &r, u32 slot) {
    return r.slots + slot * KV_PIECE_BYTES;
}
// Asks for a piece, to a slot that has been used.
DEVICE void ask_codes(const CodeRing &r, u32 slot, const f16 *from) {
    warp_sync(); // by all lanes
    if (is_elected()) {
        bulk_barrier_expect(&r.full[slot], KV_PIECE_BYTES);
        bulk_copy(codes_slot(r, slot), from, KV_PIECE_BYTES, &r.full[slot]);
    }
}
// The slot of the next piece, which is there.
DEVICE u32 next_codes(CodeRing *r) {
    u32 slot = r->slot;
    bulk_barrier_wait(&r->full[slot], r->parity);
    r->slot = slot + 1 < CODE_SLOTS ? slot + 1 : 0;
    if (r->slot == 0) r->parity ^= 1;
    return slot;
}

// The token of a piece that this lane has.
DEVICE u32 lane_token() {
    return lane_index() % KV_PAGE;
}
DEVICE u32 lane_scale(const u8 *codes) { // f16
    return *(const u16 *)(codes + layout_kv_scale_at(HEAD_DIM, lane_token()));
}
// Writes a piece's codes to `to`, a piece of f16, two units at a time; halves(codes, h): of four codes of a
// unit, the two of dims 8 h on.
template <class Halves> DEVICE void spread_codes(const u8 *codes, u8 *to, Halves halves) {
    u32 first = lane_index() / KV_PAGE;
    // (Of each slot all places would be worked out ahead, more than there are registers.)
    u32 code_at = not_before(kv_row_at(lane_token(), first)),
        to_at = not_before(query_row_at(lane_token(), 2 * first));
#pragma unroll
    for (u32 first_k = 0; first_k < LANE_UNITS; first_k += 2) {
        uint4 c[2];
#pragma unroll
        for (u32 k = first_k; k < MIN(first_k + 2, (u32)LANE_UNITS); k++) {
            c[k - first_k] = *(const uint4 *)(codes + kv_units_on(code_at, k));
        }
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            u32 k = first_k + i / 2, h = i % 2;
            if (k >= LANE_UNITS) break;
            const uint4 &v = c[i / 2];
            *(uint4 *)(to + (units_on<QUERY_ROW_BYTES>(to_at, 2 * k) ^ h * 16)) = {
                halves(v.x, h), halves(v.y, h), halves(v.z, h), halves(v.w, h)};
        }
    }
}
// scales: of the page.
DEVICE void spread_keys(const u8 *codes, u8 *to, float *scales) {
    // As lanes have the columns of a product, those of a page's second eight of keys behind the first's.
    u32 at = lane_token() % 8 / 2 * 4 + lane_token() / 8 * 2 + lane_token() % 2;
    if (lane_index() < KV_PAGE) scales[at] = f16_to_f32((f16)lane_scale(codes));
    u32 above = in_register(CODES_ABOVE);
    spread_codes(codes, to, [above](u32 c, u32 h) { return codes_f16(c, h ? CODES_23 : CODES_01, above); });
}
// is_there: whether there is the lane's token, whose values are zeros else: what lies there may be anything,
// and 0 times infinity is not 0. (A code is a number.)
DEVICE void spread_values(const u8 *codes, u8 *to, bool is_there) {
    u32 scale = is_there ? low_f16x2(lane_scale(codes)) : 0, above = in_register(CODES_ABOVE);
    spread_codes(codes, to, [scale, above](u32 c, u32 h) {
        return multiply_f16x2(codes_f16(c, h ? CODES_13 : CODES_02, above), scale);
    });
}

// Scales of a split's keys as a lane of a product has them: of page p {8 j + 2 c, + 1} of its two eights j.
struct KeyScales {
    float4 of[SPLIT_KEYS / KV_PAGE];
};
DEVICE void load_key_scales(const float *scales, KeyScales *out) {
#pragma unroll
    for (u32 p = 0; p < SPLIT_KEYS / KV_PAGE; p++) {
        out->of[p] = *(const float4 *)(scales + p * KV_PAGE + lane_index() % 4 * 4);
    }
}
DEVICE void scale_scores(const KeyScales &scales, float s[SPLIT_KEYS / 2]) {
#pragma unroll
    for (u32 p = 0; p < SPLIT_KEYS / KV_PAGE; p++) {
        float4 v = scales.of[p];
#pragma unroll
        for (u32 i = 0; i < 2; i++) { // rows g and g + 8
            s[8 * p + 2 * i] *= v.x, s[8 * p + 2 * i + 1] *= v.y;
            s[8 * p + 4 + 2 * i] *= v.z, s[8 * p + 4 + 2 * i + 1] *= v.w;
        }
    }
}
#endif
