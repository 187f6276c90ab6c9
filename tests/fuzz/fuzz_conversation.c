// clang -g -O1 -fsanitize=fuzzer,address,undefined -std=c17 -D_GNU_SOURCE -Isrc -Itests/support
//     -o /tmp/fuzz_conversation tests/fuzz/fuzz_conversation.c tests/support/fuzz_conversation_target.c
//     src/chat/conversation*.c src/json/*.c src/base/*.c src/os/os.c src/os/os_files.c -lm
// /tmp/fuzz_conversation -dict=tests/fuzz/conversation.dict /tmp/new_inputs tests/fuzz/corpus/conversation
#include "fuzz_targets.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_conversation(data, size);
    return 0;
}
