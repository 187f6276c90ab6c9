#include "grammar/rx_internal.h"

Rx rx_begin(Arena *arena) {
    Rx rx = {.arena = arena};
    rx_add_kind(&rx, RX_KIND_NEVER);
    rx_add_kind(&rx, RX_KIND_EMPTY);
    return rx;
}

static uint32_t add(Rx *rx, RxNode node) {
    if (rx->full) return RX_NEVER;
    uint32_t a = rx->n_nodes && node.a < rx->n_nodes ? rx->nodes[node.a].depth : 0;
    uint32_t b = rx->n_nodes && node.b < rx->n_nodes ? rx->nodes[node.b].depth : 0;
    node.depth = (uint16_t)(1 + (a > b ? a : b));
    if (rx->n_nodes == RX_NODES_MAX) rx->full = RX_TOO_MANY;
    else if (node.depth > RX_DEPTH_MAX) rx->full = RX_TOO_DEEP;
    else if (!lang_grow(rx->arena, (void **)&rx->nodes, &rx->nodes_cap, rx->n_nodes + 1, sizeof *rx->nodes))
        rx->full = RX_NO_MEMORY;
    if (rx->full) return RX_NEVER;
    rx->nodes[rx->n_nodes] = node;
    return rx->n_nodes++;
}

bool rx_refuse_full(const Rx *rx, Error *err) {
    switch (rx->full) {
    case RX_HAS_ROOM:
    case RX_NO_MEMORY: break;
    case RX_TOO_MANY: return error_set(err, ERR_TOO_LARGE, "more than %d parts", RX_NODES_MAX);
    case RX_TOO_DEEP:
        return error_set(err, ERR_TOO_LARGE, "more than %d parts within each other", RX_DEPTH_MAX);
    }
    return lang_no_memory(err);
}

uint32_t rx_add_kind(Rx *rx, RxKind kind) {
    return add(rx, (RxNode){.kind = (uint8_t)kind});
}

uint32_t rx_sort_ranges(RxRange *ranges, uint32_t count) {
    // Shell's sort: class lists are short or sorted already.
    for (uint32_t gap = count / 2; gap; gap = gap == 2 ? 1 : gap * 5 / 11) {
        for (uint32_t i = gap; i < count; i++) {
            RxRange moved = ranges[i];
            uint32_t at = i;
            for (; at >= gap && ranges[at - gap].first > moved.first; at -= gap)
                ranges[at] = ranges[at - gap];
            ranges[at] = moved;
        }
    }
    uint32_t n = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (n && ranges[i].first <= ranges[n - 1].last + 1) {
            if (ranges[i].last > ranges[n - 1].last) ranges[n - 1].last = ranges[i].last;
        } else {
            ranges[n++] = ranges[i];
        }
    }
    return n;
}

uint32_t rx_ranges(Rx *rx, const RxRange *ranges, uint32_t count) {
    RxRange *copy = rx->full ? NULL : arena_new(rx->arena, RxRange, count);
    if (!copy && !rx->full) rx->full = RX_NO_MEMORY;
    if (rx->full || count == 0) return RX_NEVER;
    memcpy(copy, ranges, count * sizeof *copy);
    uint32_t n = rx_sort_ranges(copy, count);
    return add(rx, (RxNode){.kind = RX_KIND_SET, .min = n, .as.ranges = copy});
}

uint32_t rx_literal(Rx *rx, Str text) {
    if (text.len == 0) return RX_EMPTY;
    Str copy = rx->full || text.len > UINT32_MAX ? (Str){0} : arena_copy_str(rx->arena, text);
    if (!copy.ptr && !rx->full) rx->full = RX_NO_MEMORY;
    return add(rx, (RxNode){.kind = RX_KIND_LITERAL, .min = (uint32_t)copy.len, .as.text = copy.ptr});
}

uint32_t rx_cat(Rx *rx, uint32_t a, uint32_t b) {
    if (a == RX_NEVER || b == RX_NEVER) return RX_NEVER;
    if (a == RX_EMPTY) return b;
    if (b == RX_EMPTY) return a;
    return add(rx, (RxNode){.kind = RX_KIND_CAT, .a = a, .b = b});
}

uint32_t rx_alt(Rx *rx, uint32_t a, uint32_t b) {
    if (a == RX_NEVER || a == b) return b;
    if (b == RX_NEVER) return a;
    return add(rx, (RxNode){.kind = RX_KIND_ALT, .a = a, .b = b});
}

uint32_t rx_repeat(Rx *rx, uint32_t a, uint32_t min, uint32_t max) {
    if (max != RX_UNBOUNDED && (min > max || (a == RX_NEVER && min))) return RX_NEVER;
    if (a == RX_EMPTY || max == 0 || (a == RX_NEVER && !min)) return RX_EMPTY;
    if (min == 1 && max == 1) return a;
    return add(rx, (RxNode){.kind = RX_KIND_REPEAT, .a = a, .min = min, .max = max});
}

uint32_t rx_lang(Rx *rx, const Lang *lang) {
    if (lang_is_empty(lang)) return RX_NEVER;
    return add(rx, (RxNode){.kind = RX_KIND_LANG, .as.lang = lang});
}
