// clang -g -O1 -fsanitize=fuzzer,address,undefined -std=c17 -D_GNU_SOURCE -Isrc -Itests/support -o
//     /tmp/fuzz_request tests/fuzz/fuzz_request.c tests/support/fuzz_request_target.c src/api/fields.c
//     src/api/execute_request.c src/base/*.c src/os/os*.c src/json/*.c src/text/*.c src/model/*.c
//     src/backend/sampler*.c -lm
// /tmp/fuzz_request -dict=tests/fuzz/json.dict /tmp/new_inputs tests/fuzz/corpus/request
#include "fuzz_targets.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_request(data, size);
    return 0;
}
