// Where the kernels of the tests run: here, on the emulator.
#include "kernel_reference.h"

#include "runner.h"

#include <stdlib.h>

// Freed by nobody, but reachable: the case's process ends.
typedef struct Kept {
    struct Kept *next;
    void *memory;
} Kept;
static Kept *kept;

void *kernel_memory(size_t size) {
    Kept *k = malloc(sizeof *k);
    void *memory = NULL;
    REQUIRE(k != NULL && posix_memalign(&memory, 256, size ? size : 1) == 0);
    *k = (Kept){kept, memory};
    kept = k;
    return memset(memory, 0, size);
}

void kernel_run(const EmulatedStage *stage, const void *args, size_t args_size) {
    (void)args_size;
    const StageInfo *info = &stage->info;
    if (info->cluster > 1) {
        emulator_launch_clusters(stage->kernel, args, info->grid[0], info->cluster, info->threads,
                                 info->shared_bytes);
    } else {
        emulator_launch(stage->kernel, args, info->grid[0], info->grid[1], info->threads, info->shared_bytes);
    }
}
