#include "base/arena.h"

void *arena_alloc_dirty(Arena *arena, uint64_t count, uint64_t size, uint64_t alignment) {
    if (arena->fail_countdown) {
        if (*arena->fail_countdown == 0) return NULL;
        --*arena->fail_countdown;
    }
    uint64_t bytes;
    if (!checked_mul(count, size, &bytes)) return NULL;
    uint64_t padding = -(uint64_t)(uintptr_t)arena->next & (alignment - 1);
    if (!checked_add(bytes, padding, &bytes) || bytes > arena_left(arena)) return NULL;
    uint8_t *memory = arena->next + padding;
    arena->next += bytes;
    return memory;
}

void *arena_alloc(Arena *arena, uint64_t count, uint64_t size, uint64_t alignment) {
    void *memory = arena_alloc_dirty(arena, count, size, alignment);
    return memory ? memset(memory, 0, count * size) : NULL;
}

Str arena_copy_str(Arena *arena, Str s) {
    char *copy = arena_alloc(arena, s.len + 1, 1, 1);
    if (!copy) return (Str){0};
    if (s.len) memcpy(copy, s.ptr, s.len);
    return (Str){copy, s.len};
}

// Pages that nobody has touched stay so: most of what is split off is never used.
bool arena_split(Arena *arena, size_t size, Arena *out) {
    uint8_t *memory = arena_alloc_dirty(arena, size, 1, 64);
    if (!memory) return false;
    *out = (Arena){.next = memory, .end = memory + size, .fail_countdown = arena->fail_countdown};
    return true;
}
