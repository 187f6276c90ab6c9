// clang -g -O1 -fsanitize=fuzzer,address,undefined -std=c17 -D_GNU_SOURCE -Isrc -Itests/support -o
//     /tmp/fuzz_json tests/fuzz/fuzz_json.c tests/support/fuzz_targets.c
//     tests/support/http_harness.c tests/support/guard.c src/base/*.c src/os/os*.c src/json/*.c
//     src/http/*.c -lm
// /tmp/fuzz_json -dict=tests/fuzz/json.dict /tmp/new_inputs tests/fuzz/corpus/json
#include "fuzz_targets.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_json(data, size);
    return 0;
}
