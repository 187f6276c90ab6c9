// clang -g -O1 -fsanitize=fuzzer,address,undefined -std=c17 -D_GNU_SOURCE -Isrc -Itests/support
//     -o /tmp/fuzz_text tests/fuzz/fuzz_text.c tests/support/fuzz_text_targets.c tests/support/json_vocab.c
//     src/text/*.c src/model/gguf*.c src/model/dtype*.c src/json/*.c src/base/*.c src/os/os.c
//     src/os/os_files.c -lm
// /tmp/fuzz_text -max_len=256
//     /tmp/new_inputs tests/fuzz/corpus/text
#include "fuzz_targets.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_text(data, size);
    return 0;
}
