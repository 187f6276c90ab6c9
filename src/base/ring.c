#include "base/ring.h"

#include <assert.h>

bool ring_init(Ring *ring, Arena *arena, uint32_t entry_count, uint32_t entry_size) {
    assert(entry_count && (entry_count & (entry_count - 1)) == 0);
    *ring = (Ring){.entry_size = entry_size, .mask = entry_count - 1};
    ring->entries = arena_alloc(arena, entry_count, entry_size, 64);
    return ring->entries != NULL;
}

static void *entry_at(Ring *ring, uint32_t at) {
    return ring->entries + (size_t)(at & ring->mask) * ring->entry_size;
}

void *ring_begin_push(Ring *ring) {
    uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    bool is_full = tail - atomic_load_explicit(&ring->head, memory_order_acquire) > ring->mask;
    return is_full ? NULL : entry_at(ring, tail);
}

void ring_end_push(Ring *ring) {
    uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    atomic_store_explicit(&ring->tail, tail + 1, memory_order_release);
}

void *ring_front(Ring *ring) {
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    bool is_empty = head == atomic_load_explicit(&ring->tail, memory_order_acquire);
    return is_empty ? NULL : entry_at(ring, head);
}

void ring_drop(Ring *ring) {
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    atomic_store_explicit(&ring->head, head + 1, memory_order_release);
}

uint32_t ring_count(Ring *ring) {
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    return atomic_load_explicit(&ring->tail, memory_order_acquire) - head;
}

bool ring_push(Ring *ring, const void *entry) {
    void *at = ring_begin_push(ring);
    if (!at) return false;
    memcpy(at, entry, ring->entry_size);
    ring_end_push(ring);
    return true;
}

bool ring_pop(Ring *ring, void *entry) {
    const void *at = ring_front(ring);
    if (!at) return false;
    memcpy(entry, at, ring->entry_size);
    ring_drop(ring);
    return true;
}

uint32_t ring_room(Ring *ring) {
    uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    return ring->mask + 1 - (tail - atomic_load_explicit(&ring->head, memory_order_acquire));
}
