// clang -g -O1 -fsanitize=fuzzer,address,undefined -std=c17 -D_GNU_SOURCE -Isrc -Itests/support
//     -o /tmp/fuzz_grammar tests/fuzz/fuzz_grammar.c tests/support/fuzz_grammar_target.c
//     src/grammar/*.c src/text/*.c src/model/gguf*.c src/model/dtype*.c src/json/*.c src/base/*.c
//     src/os/os.c src/os/os_files.c -lm
// /tmp/fuzz_grammar -max_len=300 -dict=tests/fuzz/grammar.dict
//     /tmp/new_inputs tests/fuzz/corpus/grammar
// Ten million executions in half an hour of one core, without sanitizers (what is wrong aborts all the same):
// clang -g -O2 -fsanitize=fuzzer -fno-sanitize-coverage=trace-cmp … (the rest as above) and
// /tmp/fuzz_grammar -runs=10000000 -entropic=0 -max_len=100 -dict=tests/fuzz/grammar.dict
//     /tmp/new_inputs tests/fuzz/corpus/grammar
#include "fuzz_targets.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_grammar(data, size);
    return 0;
}
