#include "program_checks.h"

#if WORKER_ORCD_CUDA

#include "backend/cuda/lower.h"
#include "runner.h"

#include "../kernels_src/args.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// The value that a program exports under a name: the symbol's bytes in the cubin, which is an ELF file.
static bool read_exported(const JitImage *image, const char *name, void *out, size_t size) {
    const uint8_t *elf = image->data;
    uint64_t sections_at;
    uint16_t n_sections;
    memcpy(&sections_at, elf + 0x28, 8);
    memcpy(&n_sections, elf + 0x3C, 2);
    typedef struct {
        uint32_t name, type;
        uint64_t flags, address, offset, size;
        uint32_t link, info;
        uint64_t alignment, entry_size;
    } Section;
    typedef struct {
        uint32_t name;
        uint8_t info, other;
        uint16_t section;
        uint64_t value, size;
    } Symbol;
    Section table, names, home;
    for (uint32_t i = 0; i < n_sections; i++) {
        memcpy(&table, elf + sections_at + i * sizeof table, sizeof table);
        if (table.type != 2) continue; // SHT_SYMTAB
        memcpy(&names, elf + sections_at + table.link * sizeof names, sizeof names);
        for (uint64_t at = 0; at < table.size; at += sizeof(Symbol)) {
            Symbol symbol;
            memcpy(&symbol, elf + table.offset + at, sizeof symbol);
            if (strcmp((const char *)elf + names.offset + symbol.name, name) != 0 || symbol.size != size)
                continue;
            memcpy(&home, elf + sections_at + symbol.section * sizeof home, sizeof home);
            memcpy(out, elf + home.offset + symbol.value, size);
            return true;
        }
    }
    return false;
}

// The next line of a program's defines from `*at` on, but for numbers of rows and of blocks, which bound the
// same code. Empty at the end.
static Str next_line(const char **at) {
    static const char *const counts[] = {"#define MAX_ROWS ", "#define BLOCKS ", "#define PASSES ",
                                         "#define GROUPS_MAX "};
    for (;;) {
        Str line = {*at, strcspn(*at, "\n")};
        *at += line.len + ((*at)[line.len] == '\n');
        bool is_count = false;
        for (size_t i = 0; i < COUNT_OF(counts); i++)
            is_count |= str_starts_with(line, str_from_c(counts[i]));
        if (!is_count) return line;
    }
}

static uint32_t max_rows(const JitProgram *p) {
    static const char name[] = "#define MAX_ROWS ";
    const char *at = strstr(p->defines.ptr, name);
    return at ? (uint32_t)strtoul(at + strlen(name), NULL, 10) : 0;
}

// Whether b is a for more rows, of which there are several in both, and else the same.
static bool is_for_more_rows(const JitProgram *a, const JitProgram *b) {
    if (strcmp(a->name, b->name) != 0 || max_rows(a) < 2 || max_rows(b) <= max_rows(a)) return false;
    for (uint32_t i = 0; a->files[i] || b->files[i]; i++)
        if (!a->files[i] || !b->files[i] || strcmp(a->files[i], b->files[i]) != 0) return false;
    const char *of_a = a->defines.ptr, *of_b = b->defines.ptr;
    for (;;) {
        Str line = next_line(&of_a);
        if (!str_eq(line, next_line(&of_b))) return false;
        if (!line.len) return true;
    }
}

void programs_check(const JitProgram *all, uint32_t n_all, uint32_t sm, Arena *arena) {
    LowerTarget target = lower_target_of_sm(sm);
    JitProgram programs[JIT_PROGRAMS_MAX];
    uint32_t n = 0;
    for (uint32_t i = 0; i < n_all; i++) {
        bool has_larger = false;
        for (uint32_t k = 0; k < n_all; k++)
            has_larger |= is_for_more_rows(&all[i], &all[k]);
        if (!has_larger) programs[n++] = all[i];
    }
    JitOptions options = {.sm = sm,
                          .cache = test_root_path("build/jit-cache")}; // so that a second run takes no time
    Error err = {0};
    Jit *jit;
    REQUIRE(jit_start(&options, programs, n, arena, &jit, &err));
    for (uint32_t i = 0; i < n; i++) {
        JitImage image;
        if (!jit_wait(jit, i, &image, &err)) {
            FAIL("%s", err.message);
            continue;
        }
        if (strstr(programs[i].name, "repack_kernel")) continue;
        char name[64];
        StageInfo info;
        snprintf(name, sizeof name, "%s_info", programs[i].name);
        REQUIRE(read_exported(&image, name, &info, sizeof info));
        CHECK(info.threads >= 32 && info.threads <= 1024 && info.threads % 32 == 0);
        CHECK(info.grid[0] >= 1 && info.grid[1] >= 1);
        CHECK(info.shared_bytes <= target.shared_bytes_block);
    }
    jit_end(jit);
}

#endif
