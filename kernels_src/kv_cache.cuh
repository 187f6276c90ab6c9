// Where a layer's keys and values are: pages of KV_PAGE tokens, each with the tokens' keys and values of
// every head (layout.h has the arithmetic, which the host uses, too).
//
// Defines: N_KV_HEADS, HEAD_DIM; KV_Q8 (codes of 8 bits with scales; else f16); KV_PAGE_STEP, halves from a
// page to the next where other layers' parts lie between.
#if !defined(N_KV_HEADS) || !defined(HEAD_DIM)
#error "N_KV_HEADS, HEAD_DIM"
#endif
#ifdef KV_Q8
#define KV_IS_Q8 1
#else
#define KV_IS_Q8 0
#endif

enum : u32 {
    KV_PIECE_BYTES = layout_kv_piece_bytes(KV_IS_Q8, HEAD_DIM), // a page's keys of a head; its values follow
    KV_PAGE_BYTES = 2 * KV_PIECE_BYTES,
    KV_ROW_BYTES = KV_IS_Q8 ? HEAD_DIM : 2 * HEAD_DIM, // of a token, but for its scale
};
#ifndef KV_PAGE_STEP
#define KV_PAGE_STEP (N_KV_HEADS * KV_PAGE_BYTES / 2)
#endif

template <class Half> DEVICE Half *kv_page(Half *kv, u32 page) { // halves, perhaps const
    return kv + (u64)page * KV_PAGE_STEP;
}

// A page's keys of a head, then its values.
template <class Half> DEVICE Half *kv_head_page(Half *kv, u32 page, u32 head) {
    return kv_page(kv, page) + head * (KV_PAGE_BYTES / 2);
}
