// How the cached positions of a sequence are cut into splits, each attended to by blocks of its own.
//
// A pure function of the position, so that a token's result does not depend on what else runs. Splits are
// whole pages. Defines: SPLITS_MAX, SPLIT_PAGES_MIN (smaller splits cost more to put together than they
// save), WINDOW (positions a token sees, itself included; 0: all).
#if !defined(SPLITS_MAX) || !defined(SPLIT_PAGES_MIN) || !defined(WINDOW)
#error "SPLITS_MAX, SPLIT_PAGES_MIN, WINDOW"
#endif

struct AttentionRange {
    u32 first_position;
    u32 first_page;
    u32 end_page;
    u32 split_pages;
    u32 n_splits;
};

DEVICE AttentionRange attention_range(u32 position) {
    AttentionRange r;
    r.first_position = WINDOW > 0 && position + 1 > WINDOW ? position + 1 - WINDOW : 0;
    r.first_page = r.first_position / KV_PAGE;
    r.end_page = position / KV_PAGE + 1;
    u32 n_pages = r.end_page - r.first_page;
    r.split_pages = MAX(CEIL_DIV(n_pages, (u32)SPLITS_MAX), (u32)SPLIT_PAGES_MIN);
    r.n_splits = CEIL_DIV(n_pages, r.split_pages);
    return r;
}
