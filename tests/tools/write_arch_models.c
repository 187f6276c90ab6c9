// For tests/vectors/make_arch.py: writes the tiny model of every architecture into a folder.
//
//     cc -std=c17 -D_GNU_SOURCE -O1 -Isrc -Itests/support -o write_arch_models
//     tests/tools/write_arch_models.c tests/support/arch_*models.c tests/support/gguf_builder.c
//     src/base/*.c src/os/os*.c src/model/*.c src/arch/*.c -lm -ldl -lpthread
//     ./write_arch_models FOLDER
#include "arch_models.h"

#include <stdio.h>

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    static const ArchModel *(*const lists[])(uint32_t) = {arch_model_at,       arch_layered_model_at,
                                                          arch_state_model_at, arch_mla_model_at,
                                                          arch_gemma_model_at, arch_meta_model_at};
    for (uint32_t list = 0, i = 0; list < sizeof lists / sizeof *lists;) {
        const ArchModel *m = lists[list](i++);
        if (!m) {
            list++, i = 0;
            continue;
        }
        char path[1024];
        snprintf(path, sizeof path, "%s/%s.gguf", argv[1], arch_model_name(m));
        if (!gguf_builder_save(arch_model_build(m), path)) return 1;
        printf("%s\n", path);
    }
    return 0;
}
