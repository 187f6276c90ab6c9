// What sequences do with pages: taking beginnings from the cache, and leaving their own there.
#include "engine/engine_internal.h"

#include <assert.h>

// Copying a node takes about as long as computing a row or two; fewer tokens in common are computed again.
enum { BORDER_TOKENS_MIN = 4 };

KvPlace sequence_place(const Sequence *s, uint32_t at) {
    assert(at <= s->n_whole);
    return (KvPlace){.parent = at ? s->nodes[at - 1] : KV_NO_NODE, .salt = s->salt};
}

void sequence_put(Engine *e, Sequence *s, uint32_t at, uint32_t node) {
    const uint32_t *pages = kv_pages_lists(&e->pages, node);
    s->nodes[at] = node;
    if (at == s->n_nodes) s->n_nodes++;
    for (uint32_t i = 0; i < e->pages.layout.n_lists; i++)
        s->pages[(uint64_t)i * e->list_pages + at] = pages[i];
}

// ---- windows ----

// The first node whose window a sequence holds for its row at a position.
static uint32_t window_kept_from(const KvPages *p, uint32_t position) {
    uint32_t first = p->n_windows ? kv_layout_first_page(&p->layout, position) : 0;
    return first > KV_PAGES_BEHIND ? first - KV_PAGES_BEHIND : 0;
}

// Up to before a node. The end of a prompt is where the next turn of a conversation goes on, where that does
// not repeat the answer as it was.
static void pass_up_to(Engine *e, Sequence *s, uint32_t end) {
    uint32_t prompts = window_kept_from(&e->pages, s->n_prompt);
    for (; s->first_window < end; s->first_window++) {
        bool keep = s->first_window >= prompts && s->first_window <= s->n_prompt / KV_PAGE_TOKENS;
        kv_pages_pass(&e->pages, s->nodes[s->first_window], keep);
        e->start_is_blocked = false;
    }
}

void sequence_pass(Engine *e, Sequence *s) {
    pass_up_to(e, s, window_kept_from(&e->pages, s->n_sent));
}

// ---- taking beginnings ----

static void count_cached(Sequence *s, uint32_t n_sent) {
    if (s->n_known == s->n_prompt) s->n_cached += n_sent - s->n_sent; // a text that goes on has been counted
    s->n_sent = n_sent;
}

Found sequence_find(Engine *e, const Sequence *s) {
    const KvPages *p = &e->pages;
    uint32_t begin = s->n_sent / KV_PAGE_TOKENS, has_from = s->first_window;
    Found f = {.nodes = e->found, .end = begin, .first_window = has_from};
    if (!e->shares_pages) return f;
    KvPlace place = sequence_place(s, begin);
    // The last token's logits are needed, so it is always computed.
    for (uint32_t at = begin; (at + 1) * KV_PAGE_TOKENS < s->n_known; at++) {
        uint32_t node = kv_pages_find(p, place, s->tokens + at * KV_PAGE_TOKENS), next = at + 1;
        if (node == KV_NO_NODE) break;
        e->found[at - begin] = place.parent = node;
        if (!kv_pages_has_all(p, node)) has_from = next;
        f.more = p->n_windows && has_from > kv_layout_first_page(&p->layout, next * KV_PAGE_TOKENS);
        f.more |= e->has_states && kv_checkpoints_of(&p->checkpoints, node) == KV_NO_CHECKPOINT;
        if (f.more) continue;
        f.end = next;
        f.first_window = (uint32_t)max_u64(has_from, window_kept_from(p, next * KV_PAGE_TOKENS));
    }
    return f;
}

bool sequence_attach(Engine *e, Sequence *s, bool *more, Error *err) {
    Found f = sequence_find(e, s);
    uint32_t begin = s->n_sent / KV_PAGE_TOKENS;
    *more = f.more;
    if (f.end == begin) return true;
    kv_pages_give_back(&e->pages, s->nodes + begin, s->n_nodes - begin,
                       0); // its own, less than what is found
    s->n_nodes = begin;
    pass_up_to(e, s, (uint32_t)min_u64(f.first_window, begin));
    s->first_window = f.first_window;
    for (uint32_t at = begin; at < f.end; at++) {
        uint32_t node = f.nodes[at - begin];
        kv_pages_share(&e->pages, node);
        if (at >= f.first_window) kv_pages_share_window(&e->pages, node);
        sequence_put(e, s, at, node);
    }
    s->n_whole = f.end;
    count_cached(s, f.end * KV_PAGE_TOKENS);
    return !e->has_states || sequence_restore_state(e, s, s->nodes[f.end - 1], err);
}

static bool copy_node(Engine *e, uint32_t from, uint32_t to, Error *err) {
    const uint32_t *pages = kv_pages_lists(&e->pages, from), *copies = kv_pages_lists(&e->pages, to);
    bool ok = true;
    for (uint32_t i = 0; ok && i < e->pages.layout.n_lists; i++)
        ok = e->backend->copy_page(e->backend, pages[i], copies[i], err);
    return ok;
}

bool sequence_attach_border(Engine *e, Sequence *s, Error *err) {
    if (!e->shares_pages || e->has_states) return true; // in the midst of a node no state is known
    uint32_t at = s->n_sent / KV_PAGE_TOKENS, first = at * KV_PAGE_TOKENS, n_common, own;
    uint32_t most = (uint32_t)min_u64(s->n_known - 1 - first, KV_PAGE_TOKENS);
    uint32_t node =
        kv_pages_find_beginning(&e->pages, sequence_place(s, at), s->tokens + first, most, &n_common);
    if (first + n_common <= s->n_sent) return true;
    if (first + n_common - s->n_sent < BORDER_TOKENS_MIN && n_common < most) return true;
    kv_pages_share(&e->pages, node); // so that it is not the one that is taken
    kv_pages_share_window(&e->pages, node);
    bool ok = true;
    if (at == s->n_nodes && kv_pages_take(&e->pages, &own)) sequence_put(e, s, at, own);
    if (at < s->n_nodes) {
        ok = copy_node(e, node, s->nodes[at], err);
        count_cached(s, first + n_common);
    }
    kv_pages_give_back(&e->pages, &node, 1, 0);
    return ok;
}

// ---- leaving one's own ----

void sequence_publish(Engine *e, Sequence *s, bool rest) {
    if (!e->shares_pages) return;
    uint32_t known = (uint32_t)min_u64(s->n_sent, s->n_prompt + s->n_drawn_read);
    for (uint32_t first; (first = s->n_whole * KV_PAGE_TOKENS) < known; s->n_whole++) {
        uint32_t at = s->n_whole, n = (uint32_t)min_u64(known - first, KV_PAGE_TOKENS);
        if (n < KV_PAGE_TOKENS && (!rest || e->has_states)) break;
        uint32_t node = kv_pages_publish(&e->pages, s->nodes[at], sequence_place(s, at), s->tokens + first, n,
                                         at >= s->first_window);
        if (node != s->nodes[at]) sequence_put(e, s, at, node);
        if (n < KV_PAGE_TOKENS) break;
    }
}

static void hold_nothing(Engine *e, Sequence *s) {
    s->n_nodes = s->n_whole = s->first_window = s->n_sent = 0;
    s->saved_at = s->n_asked = s->n_drawn_checkpoint = 0;
    e->start_is_blocked = false;
}

void sequence_give_back(Engine *e, Sequence *s) {
    sequence_publish(e, s, true);
    kv_pages_give_back(&e->pages, s->nodes, s->n_nodes, s->first_window);
    hold_nothing(e, s);
}

void sequence_drop(Engine *e, Sequence *s) {
    for (uint32_t at = s->n_cached / KV_PAGE_TOKENS; at < s->n_nodes; at++)
        kv_checkpoints_drop(&e->pages.checkpoints, s->nodes[at]);
    kv_pages_give_back_spoiled(&e->pages, s->nodes, s->n_nodes, s->first_window);
    hold_nothing(e, s);
}
