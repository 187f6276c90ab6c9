// Where a layer's keys and values are: pages of KV_PAGE tokens, each with the tokens' keys and values of
// every head (layout.h has the arithmetic, which the host uses, too).
//
// Defines: N_KV_HEADS, HEAD_DIM.
#if !defined(N_KV_HEADS) || !defined(HEAD_DIM)
#error "N_KV_HEADS, HEAD_DIM"
#endif

enum : u32 {
    KEY_TOKEN_STRIDE =
        HEAD_DIM, // halves from a token's key to the next token's; a key's dimensions are neighbours
    VALUE_DIM_STRIDE =
        KV_PAGE, // halves from a dimension to the next; the tokens of a dimension are neighbours
};

template <class Half> DEVICE Half *kv_page(Half *kv, u32 page) { // f16, perhaps const
    return kv + (u64)page * KV_PAGE_HALVES(N_KV_HEADS, HEAD_DIM);
}

// Of a token in its page.
template <class Half> DEVICE Half *kv_key(Half *kv, u32 page, u32 head, u32 token) {
    return kv_page(kv, page) + layout_key_at(HEAD_DIM, head, token, 0);
}
template <class Half> DEVICE Half *kv_value(Half *kv, u32 page, u32 head, u32 token) {
    return kv_page(kv, page) + layout_value_at(HEAD_DIM, head, token, 0);
}

// Of batches: a page's keys of a head, then its values (layout_kv_at).
enum : u32 { KV_HEAD_HALVES = 2 * KV_TILE_HALVES(HEAD_DIM) };

template <class Half> DEVICE Half *kv_head_page(Half *kv, u32 page, u32 head) {
    return kv_page(kv, page) + head * KV_HEAD_HALVES;
}
