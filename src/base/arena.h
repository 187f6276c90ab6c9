// A fixed region of memory handed out front to back; nothing is freed alone.
//
// An Arena passed by pointer keeps what is allocated from it; one passed by value is scratch: the callee's
// allocations are gone when it returns. The region comes from os_reserve() (lazily committed) or from any
// buffer. Not thread-safe: one arena, one thread.
#pragma once

#include "base/base.h"

typedef struct {
    uint8_t *next;
    uint8_t *end;
    // Fault injection for tests: where not NULL, each allocation counts it down, and the one that finds 0
    // fails. A failed allocation leaves it at 0, so every later one fails too.
    uint64_t *fail_countdown;
} Arena;

static inline Arena arena_from_memory(void *memory, size_t size) {
    return (Arena){.next = memory, .end = (uint8_t *)memory + size};
}

// `count` zeroed elements of `size` bytes at a power-of-two alignment, or NULL when the region is full, when
// the product overflows, or when a test says so. count 0 gives a valid pointer.
void *arena_alloc(Arena *arena, uint64_t count, uint64_t size, uint64_t alignment);

// The same, not zeroed: for large tables that are filled as they are used.
void *arena_alloc_dirty(Arena *arena, uint64_t count, uint64_t size, uint64_t alignment);

#define arena_new_dirty(arena, Type, count) \
    ((Type *)arena_alloc_dirty((arena), (count), sizeof(Type), _Alignof(Type)))
#define arena_new(arena, Type, count) ((Type *)arena_alloc((arena), (count), sizeof(Type), _Alignof(Type)))

// A zero-terminated copy of s; an empty pointer when the arena is full.
Str arena_copy_str(Arena *arena, Str s);

static inline size_t arena_left(const Arena *arena) {
    return (size_t)(arena->end - arena->next);
}

// Cuts `size` bytes off the front as an arena of its own; false when they are not there.
MUST_CHECK bool arena_split(Arena *arena, size_t size, Arena *out);
