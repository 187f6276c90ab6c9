// clang -g -O1 -fsanitize=fuzzer,address,undefined -std=c17 -D_GNU_SOURCE -Isrc -Itests/support
//     -o /tmp/fuzz_answer tests/fuzz/fuzz_answer.c tests/support/fuzz_answer_target.c
//     tests/support/json_vocab.c src/chat/answer_*.c src/chat/json_check.c src/text/*.c src/model/gguf*.c
//     src/model/dtype*.c src/json/*.c src/base/*.c src/os/os.c src/os/os_files.c -lm
// /tmp/fuzz_answer -max_len=1024 -dict=tests/fuzz/answer.dict /tmp/new_inputs tests/fuzz/corpus/answer
#include "fuzz_targets.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_model_answer(data, size);
    return 0;
}
