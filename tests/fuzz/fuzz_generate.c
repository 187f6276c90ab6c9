// clang -g -O1 -fsanitize=fuzzer,address,undefined -std=c17 -D_GNU_SOURCE -Isrc -Itests/support -o
//     /tmp/fuzz_generate tests/fuzz/fuzz_generate.c tests/support/fuzz_generate_target.c
//     $(ls src/api/*.c | grep -v page.c) src/http/*.c src/jobs/*.c src/chat/*.c src/template/*.c src/text/*.c
//     src/json/*.c src/model/*.c src/base/*.c src/os/os*.c src/backend/sampler.c -lm
// /tmp/fuzz_generate -dict=tests/fuzz/generate.dict /tmp/new_inputs tests/fuzz/corpus/generate
#include "fuzz_targets.h"

#include "base/version.h"

const char version_text[] = "0"; // which the build writes

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_generate(data, size);
    return 0;
}
