#include "guard.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

GuardedMemory guard_allocate(size_t size) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size = (size_t)align_up(size, page);
    uint8_t *memory = mmap(NULL, size + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory + size, page, PROT_NONE) != 0) abort();
    return (GuardedMemory){memory, memory + size};
}

Str guard_press(const GuardedMemory *memory, Str s) {
    if (s.len > (size_t)(memory->end - memory->begin)) abort();
    char *to = (char *)memory->end - s.len;
    if (s.len) memcpy(to, s.ptr, s.len);
    return (Str){to, s.len};
}
