// clang -g -O1 -fsanitize=fuzzer,address,undefined -std=c17 -D_GNU_SOURCE -Isrc -Itests/support
//     -o /tmp/fuzz_connection tests/fuzz/fuzz_connection.c tests/support/fuzz_connection_target.c
//     tests/support/guard.c src/base/*.c src/os/os*.c src/json/*.c src/http/*.c -lm
// /tmp/fuzz_connection -max_len=2000 /tmp/new_inputs tests/fuzz/corpus/connection
#include "fuzz_targets.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_connection(data, size);
    return 0;
}
