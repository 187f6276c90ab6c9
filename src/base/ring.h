// A bounded queue from one producer thread to one consumer thread, without locks.
//
// Entries are copied in and out. Full means: push returns false and the producer decides (the job ring
// answers BUSY; the engine waits for the I/O thread to drain events). Memory comes from the arena given at
// creation.
#pragma once

#include "base/arena.h"

#include <stdatomic.h>

typedef struct {
    uint8_t *entries;
    uint32_t entry_size;
    uint32_t mask;
    _Alignas(64) _Atomic uint32_t head; // next to pop; written by the consumer
    _Alignas(64) _Atomic uint32_t tail; // next to push; written by the producer
} Ring;

// entry_count is a power of two. False when the arena is full.
MUST_CHECK bool ring_init(Ring *ring, Arena *arena, uint32_t entry_count, uint32_t entry_size);
MUST_CHECK bool ring_push(Ring *ring, const void *entry);
MUST_CHECK bool ring_pop(Ring *ring, void *entry);
// Without copies: the producer's next entry, NULL when the ring is full, which ring_end_push hands over; and
// the consumer's first, NULL when it is empty, which ring_drop gives back.
void *ring_begin_push(Ring *ring);
void ring_end_push(Ring *ring);
void *ring_front(Ring *ring);
void ring_drop(Ring *ring);
// Entries as the consumer sees them; never more than there are.
uint32_t ring_count(Ring *ring);
// Free entries as the producer sees them; never more than there are.
uint32_t ring_room(Ring *ring);
