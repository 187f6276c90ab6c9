// Where a layer's keys and values are: pages of KV_PAGE tokens, each with the tokens' keys and values of
// every head (layout.h has the arithmetic, which the host uses, too).
//
// Defines: N_KV_HEADS, HEAD_DIM; KV_PAGE_STEP, halves from a page to the next where other layers' parts lie
// between.
#if !defined(N_KV_HEADS) || !defined(HEAD_DIM)
#error "N_KV_HEADS, HEAD_DIM"
#endif
#ifndef KV_PAGE_STEP
#define KV_PAGE_STEP KV_PAGE_HALVES(N_KV_HEADS, HEAD_DIM)
#endif

template <class Half> DEVICE Half *kv_page(Half *kv, u32 page) { // f16, perhaps const
    return kv + (u64)page * KV_PAGE_STEP;
}

// A page's keys of a head, then its values (layout_kv_at).
enum : u32 { KV_HEAD_HALVES = 2 * KV_TILE_HALVES(HEAD_DIM) };

template <class Half> DEVICE Half *kv_head_page(Half *kv, u32 page, u32 head) {
    return kv_page(kv, page) + head * KV_HEAD_HALVES;
}
