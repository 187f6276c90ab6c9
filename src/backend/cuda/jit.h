// Compiling kernels at start-up: NVRTC, which is linked into the program, in several threads, and a cache of
// the results.
//
// A program is a list of files of kernels_src/ (base/embed.h) behind a text of #defines, compiled for one
// GPU: to a cubin for its exact architecture, or, for a GPU newer than this NVRTC knows, to PTX of the newest
// it does know, which the driver translates.
//
// The cache is a folder of files named by the SHA-256 of all that the result depends on: every embedded file,
// the defines, the options, NVRTC's version, the architecture. A file is written beside its place and
// renamed, carries a hash of its content, and is used only if that holds, so processes may share the folder.
// It is kept below JIT_CACHE_BYTES_MAX by removing what was not used for longest. Nothing about the cache is
// an error: what fails is compiled again, and jit_warning says why.
//
// Threads: one calls these functions; the compiling threads are in here. Each has a process to compile in,
// which jit_start makes a copy of this one and which ends with the last program; so it comes before memory is
// pinned, but for one that was told to do with one thread. Where another Jit's thread compiles without such a
// process, jit_start waits for its program. Needs no GPU and no driver.
#pragma once

#include "base/arena.h"
#include "base/error.h"

enum { JIT_PROGRAMS_MAX = 256, JIT_THREADS_MAX = 32 };
#define JIT_CACHE_BYTES_MAX (256ull << 20)

typedef struct JitProgram {
    const char *name;         // for messages: the kernel's
    const char *const *files; // below kernels_src/, in order; the last one is NULL
    Str defines;              // "#define N_COLS 896\n…"
    // The costliest are compiled first, those of the same cost in their order; in the background all are.
    uint32_t cost;
} JitProgram;

// What compiles in the place of the compiler inside, and without its cache: for tests, whose driver runs
// kernels elsewhere. `image` has JIT_COMPILER_IMAGE_BYTES; how many of them count is the driver's business.
// Several threads call it at once.
enum { JIT_COMPILER_IMAGE_BYTES = 4096 };
typedef struct JitCompiler {
    bool (*compile)(const JitProgram *program, uint32_t sm, uint8_t *image, Error *err);
} JitCompiler;

typedef struct {
    uint32_t sm; // 90 for compute capability 9.0
    const char
        *cache;       // folder; NULL: "worker-orcd" in the user's cache folder, if there is one; "": no cache
    uint32_t threads; // 0: one a processor; 1, not in the background: in this process, which is not copied
    // Compiles nothing before jit_go, and then at the lowest priority and in their order: for programs that
    // others can stand in for. Processes compile; what they made they also put into the cache, which this
    // process may not do any more by then (os_sandbox.h).
    bool in_background;
    const JitCompiler *compiler; // NULL: the one inside
} JitOptions;

// What cuModuleLoadData takes: a cubin, or PTX with a zero behind it.
typedef struct {
    const void *data;
    size_t size;
} JitImage;

typedef struct Jit Jit;

// Starts compiling `programs`. They, and what they point to, outlive the Jit. At most JIT_PROGRAMS_MAX.
MUST_CHECK bool jit_start(const JitOptions *options, const JitProgram *programs, uint32_t n_programs,
                          Arena *arena, Jit **out, Error *err);

// Waits for one program. Error (ERR_INTERNAL): the compiler's first error with the line of source at fault.
// The image is valid until jit_end.
MUST_CHECK bool jit_wait(Jit *jit, uint32_t program, JitImage *out, Error *err);

// Lets one in the background begin. Nothing where there is nothing to compile.
void jit_go(Jit *jit);
// Whether jit_wait returns at once.
bool jit_is_done(const Jit *jit, uint32_t program);

// Waits for all threads (one in the background that is still at work is ended), tidies the cache, and frees
// the images. The Jit may be NULL.
void jit_end(Jit *jit);

// The rest may be asked between the last jit_wait and jit_end.

typedef struct {
    uint32_t compiled;
    uint32_t from_cache;
    double seconds;      // from jit_start to the last result
    const char *slowest; // the program that took longest to compile; NULL for none
    double slowest_seconds;
    char warning[ERROR_MESSAGE_BYTES]; // the first thing that went wrong with the cache; empty for none
} JitReport;

JitReport jit_report(Jit *jit);

// Version of the NVRTC inside, "12.4". Static memory is not used: `out` holds 16 bytes.
void jit_version(char out[16]);

// The architecture option's value for a GPU: "sm_90a", "sm_86", or "compute_90" (PTX, *is_ptx) for one that
// is newer than all that this NVRTC knows. Empty for one that is older. `out` holds 24 bytes.
void jit_architecture(uint32_t sm, char out[24], bool *is_ptx);
