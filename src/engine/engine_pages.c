// What sequences do with pages: taking beginnings from the cache, and leaving their own there.
#include "engine/engine_internal.h"

#include <assert.h>

// Copying a page takes about as long as computing a row or two; fewer tokens in common are computed again.
enum { BORDER_TOKENS_MIN = 4 };

KvPlace sequence_place(const Sequence *s, uint32_t at) {
    assert(at <= s->n_whole);
    return (KvPlace){.parent = at ? s->pages[at - 1] : KV_NO_PAGE, .salt = s->salt};
}

// `page` takes the place of the sequence's at-th page, or comes behind the last one.
static void put_shared(Engine *e, Sequence *s, uint32_t at, uint32_t page) {
    kv_pages_share(&e->pages, page);
    if (at < s->n_pages) kv_pages_give_back(&e->pages, &s->pages[at], 1);
    else s->n_pages++;
    s->pages[at] = page;
}

static void count_cached(Sequence *s, uint32_t n_sent) {
    if (s->n_known == s->n_prompt) s->n_cached += n_sent - s->n_sent; // a text that goes on has been counted
    s->n_sent = n_sent;
}

void sequence_attach(Engine *e, Sequence *s) {
    // The last token's logits are needed, so it is always computed.
    for (uint32_t at = s->n_sent / KV_PAGE_TOKENS; (at + 1) * KV_PAGE_TOKENS < s->n_known; at++) {
        uint32_t page = kv_pages_find(&e->pages, sequence_place(s, at), s->tokens + at * KV_PAGE_TOKENS);
        if (page == KV_NO_PAGE) return;
        put_shared(e, s, at, page);
        s->n_whole = at + 1;
        count_cached(s, (at + 1) * KV_PAGE_TOKENS);
    }
}

bool sequence_attach_border(Engine *e, Sequence *s, Error *err) {
    uint32_t at = s->n_sent / KV_PAGE_TOKENS, first = at * KV_PAGE_TOKENS, n_common;
    uint32_t most = (uint32_t)min_u64(s->n_known - 1 - first, KV_PAGE_TOKENS);
    uint32_t page =
        kv_pages_find_beginning(&e->pages, sequence_place(s, at), s->tokens + first, most, &n_common);
    if (first + n_common <= s->n_sent) return true;
    if (first + n_common - s->n_sent < BORDER_TOKENS_MIN && n_common < most) return true;
    kv_pages_share(&e->pages, page); // so that it is not the one that is taken
    bool has_page = at < s->n_pages || kv_pages_take(&e->pages, &s->pages[at]);
    bool ok = true;
    if (has_page) {
        s->n_pages = at + 1;
        ok = e->backend->copy_page(e->backend, page, s->pages[at], err);
        count_cached(s, first + n_common);
    }
    kv_pages_give_back(&e->pages, &page, 1);
    return ok;
}

void sequence_publish(Engine *e, Sequence *s, bool rest) {
    uint32_t known = (uint32_t)min_u64(s->n_sent, s->n_prompt + s->n_drawn_read);
    while ((s->n_whole + 1) * KV_PAGE_TOKENS <= known) {
        uint32_t at = s->n_whole;
        uint32_t page = kv_pages_publish(&e->pages, s->pages[at], sequence_place(s, at),
                                         s->tokens + at * KV_PAGE_TOKENS, KV_PAGE_TOKENS);
        if (page != s->pages[at]) put_shared(e, s, at, page);
        s->n_whole = at + 1;
    }
    uint32_t first = s->n_whole * KV_PAGE_TOKENS;
    if (!rest || known <= first) return;
    kv_pages_publish(&e->pages, s->pages[s->n_whole], sequence_place(s, s->n_whole), s->tokens + first,
                     known - first);
}

static void hold_nothing(Engine *e, Sequence *s) {
    s->n_pages = s->n_whole = s->n_sent = 0;
    e->start_is_blocked = false;
}

void sequence_give_back(Engine *e, Sequence *s) {
    sequence_publish(e, s, true);
    kv_pages_give_back(&e->pages, s->pages, s->n_pages);
    hold_nothing(e, s);
}

void sequence_drop(Engine *e, Sequence *s) {
    kv_pages_give_back_spoiled(&e->pages, s->pages, s->n_pages);
    hold_nothing(e, s);
}
