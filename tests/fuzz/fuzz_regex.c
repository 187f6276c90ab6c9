// clang -g -O1 -fsanitize=fuzzer,address,undefined -std=c17 -D_GNU_SOURCE -Isrc -Itests/support
//     -o /tmp/fuzz_regex tests/fuzz/fuzz_regex.c tests/support/fuzz_text_targets.c tests/support/json_vocab.c
//     src/text/*.c src/model/gguf*.c src/model/dtype*.c src/json/*.c src/base/*.c src/os/os.c
//     src/os/os_files.c -lm
// /tmp/fuzz_regex -max_len=400 -dict=tests/fuzz/regex.dict
//     /tmp/new_inputs tests/fuzz/corpus/regex
#include "fuzz_targets.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_regex(data, size);
    return 0;
}
