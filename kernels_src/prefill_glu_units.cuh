// Prefill: units of a product with gate and up, and what becomes of one. A unit is 8 rows of gate and the
// same of up: those that make the columns of one 16-byte unit of the activations (layout.h); UNGATED: 16 rows
// of up, for two of them.
//
// Defines: D_FF (a multiple of 8), activate.cuh's, prefill_matmul.cuh's; UNGATED; HAS_BIAS where a matrix has
// one; ROW_FORMATS where up has another format than gate.
#if !defined(D_FF) || !defined(ACTIVATION) || D_FF % 8
#error "D_FF, ACTIVATION"
#endif

// Place 8 * unit + r of 128 columns has this one (layout.h).
DEVICE u32 glu_column(u32 unit, u32 r) {
    return unit / 16 * PREFILL_COLS + unit % 16 / 4 * 4 + unit % 4 / 2 * 16 + unit % 2 + r / 2 * 32 +
           r % 2 * 2;
}

struct PrefillGluRows {
    const u8 *weight[2];
    DEVICE u32 projection(u32) const {
        return 0;
    }
    DEVICE const u8 *row(u32 unit, u32 r) const {
#ifdef UNGATED
        u32 up = MIN(glu_column(unit * 2 + r / 8, r % 8), D_FF - 1u);
        return weight[0] + (u64)up * layout_row_bytes(FORMAT_0, N_COLS);
#else
        u32 row = MIN(glu_column(unit, r % 8), D_FF - 1u);
        if (r < 8) return weight[0] + (u64)row * layout_row_bytes(FORMAT_0, N_COLS);
        return weight[1] + (u64)row * layout_row_bytes(FORMAT_1, N_COLS);
#endif
    }
};

// UNGATED: of `first` alone.
DEVICE float glu_value(const PrefillGluArgs &a, u32 col, float first, float up) {
#ifdef HAS_BIAS
    if (a.bias[0] != 0 && col < D_FF) first += a.bias[0][col];
    if (a.bias[1] != 0 && col < D_FF) up += a.bias[1][col];
#endif
    (void)a, (void)col, (void)up;
#ifdef UNGATED
    return activate(first);
#else
    return gated(first, up);
#endif
}

// Columns r and r + 1 of a unit; zeros past the last.
DEVICE u32 glu_pair(const PrefillGluArgs &a, u32 unit, u32 r, float gate, float up, float next_gate,
                    float next_up) {
    const float factor = 1.0f / PREFILL_GLU_DIVISOR;
    float v = glu_value(a, glu_column(unit, r), gate, up) * factor;
    float next = glu_value(a, glu_column(unit, r + 1), next_gate, next_up) * factor;
    if (D_FF % PREFILL_COLS) {
        v = glu_column(unit, r) < D_FF ? v : 0.0f;
        next = glu_column(unit, r + 1) < D_FF ? next : 0.0f;
    }
    return pack_f16(v, next);
}

// The eight columns of a 16-byte unit of `out`.
DEVICE void glu_store(const PrefillGluArgs &a, u32 row, u32 unit, const float4 gate[2], const float4 up[2]) {
    float4 g = gate[0], h = gate[1], u = up[0], v = up[1];
    uint4 out = {glu_pair(a, unit, 0, g.x, u.x, g.y, u.y), glu_pair(a, unit, 2, g.z, u.z, g.w, u.w),
                 glu_pair(a, unit, 4, h.x, v.x, h.y, v.y), glu_pair(a, unit, 6, h.z, v.z, h.w, v.w)};
    f16 *sheet = a.out + (u64)(unit / 8) * MAX_ROWS * 64;
    *(uint4 *)(sheet + row * 64 + (unit % 8 ^ row % 8) * 8) = out;
}
