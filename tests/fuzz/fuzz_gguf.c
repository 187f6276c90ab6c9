// clang -g -O1 -fsanitize=fuzzer,address,undefined -std=c17 -D_GNU_SOURCE -Isrc -Itests/support -o
//     /tmp/fuzz_gguf tests/fuzz/fuzz_gguf.c tests/support/fuzz_gguf_target.c src/model/gguf*.c
//     src/model/dtype*.c src/model/weights.c src/arch/*.c src/plan/*.c src/base/*.c src/os/os.c -lm
// /tmp/fuzz_gguf -max_len=4096 /tmp/new_inputs tests/fuzz/corpus/gguf
#include "fuzz_targets.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_gguf(data, size);
    return 0;
}
