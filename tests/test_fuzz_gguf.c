// The inputs that the fuzzer of GGUF files found worth keeping, and changes of them.
#include "fuzz_targets.h"
#include "runner.h"

TEST(gguf_fuzz_corpus) {
    CHECK(fuzz_replay("gguf", fuzz_gguf, test_is_sanitized() ? 50 : 300) >= 20);
}
