// clang -g -O1 -fsanitize=fuzzer,address,undefined -std=c17 -D_GNU_SOURCE -Isrc -Itests/support
//     -o /tmp/fuzz_schema tests/fuzz/fuzz_schema.c tests/support/fuzz_schema_target.c
//     tests/support/schema_run.c src/grammar/*.c src/text/*.c src/model/gguf*.c src/model/dtype*.c
//     src/json/*.c src/base/*.c src/os/os.c src/os/os_files.c -lm
// /tmp/fuzz_schema -max_len=2048 -timeout=20 -dict=tests/fuzz/schema.dict
//     /tmp/new_inputs tests/fuzz/corpus/schema
// Ten million executions in an hour of one core, less with a small corpus, without sanitizers (what is wrong
// aborts all the same):
// clang -g -O2 -fsanitize=fuzzer -fno-sanitize-coverage=trace-cmp … (the rest as above) and
// /tmp/fuzz_schema -runs=10000000 -entropic=0 -max_len=1000 -timeout=20 -dict=tests/fuzz/schema.dict
//     /tmp/new_inputs tests/fuzz/corpus/schema
#include "fuzz_targets.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_schema(data, size);
    return 0;
}
