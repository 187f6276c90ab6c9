#include "base/ring.h"

#include <assert.h>

bool ring_init(Ring *ring, Arena *arena, uint32_t entry_count, uint32_t entry_size) {
    assert(entry_count && (entry_count & (entry_count - 1)) == 0);
    *ring = (Ring){.entry_size = entry_size, .mask = entry_count - 1};
    ring->entries = arena_alloc(arena, entry_count, entry_size, 64);
    return ring->entries != NULL;
}

bool ring_push(Ring *ring, const void *entry) {
    uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    if (tail - atomic_load_explicit(&ring->head, memory_order_acquire) > ring->mask) return false;
    memcpy(ring->entries + (size_t)(tail & ring->mask) * ring->entry_size, entry, ring->entry_size);
    atomic_store_explicit(&ring->tail, tail + 1, memory_order_release);
    return true;
}

bool ring_pop(Ring *ring, void *entry) {
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    if (head == atomic_load_explicit(&ring->tail, memory_order_acquire)) return false;
    memcpy(entry, ring->entries + (size_t)(head & ring->mask) * ring->entry_size, ring->entry_size);
    atomic_store_explicit(&ring->head, head + 1, memory_order_release);
    return true;
}

uint32_t ring_room(Ring *ring) {
    uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    return ring->mask + 1 - (tail - atomic_load_explicit(&ring->head, memory_order_acquire));
}
