// Fuzz entry of patterns and vocabularies, in the shape that libFuzzer calls:
//
//     clang -std=c17 -D_GNU_SOURCE -g -O1 -fsanitize=fuzzer,address,undefined -Isrc tests/fuzz/fuzz_text.c \
//         src/text/*.c src/model/gguf*.c src/model/dtype.c src/json/*.c src/base/*.c src/os/os.c
//         src/os/os_files.c \ -lm -o build/fuzz_text
//     build/fuzz_text -max_len=4096 CORPUS
//
// An input that begins with "GGUF" is a vocabulary, with which fixed texts are encoded; any other is a
// pattern, a zero byte, and a text that it cuts. Beside not crashing: the pieces are the text, and ids are
// tokens of the vocabulary.
#include "os/os.h"
#include "text/detokenizer.h"
#include "text/regex.h"

#include <stdlib.h>

static void promise(bool kept) {
    if (!kept) abort();
}

static void try_pattern(Str input, Arena arena, Arena scratch) {
    const char *zero = memchr(input.ptr, 0, input.len);
    size_t length = zero ? (size_t)(zero - input.ptr) : input.len;
    Str pattern = str_slice(input, 0, length), text = str_slice(input, zero ? length + 1 : length, input.len);
    Regex re;
    Error err = {0};
    if (!regex_compile(pattern, &arena, scratch, &re, &err)) {
        promise(err.code == ERR_UNSUPPORTED || err.code == ERR_NO_MEMORY);
        return;
    }
    RegexScan scan = {.regex = &re, .text = text, .trail = arena_new(&scratch, uint32_t, text.len)};
    promise(scan.trail != NULL);
    for (size_t at = 0, start, end; at < text.len; at = end) {
        if (!regex_find(&scan, at, &start, &end)) break;
        promise(start >= at && end > start && end <= text.len);
    }
}

static void try_vocabulary(Str input, Arena arena, Arena scratch) {
    static const Str texts[] = {STR("a b\xFF <|im_end|>abcabc\xE2\x96\x81 12"),
                                STR("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaabbbb")};
    const GgufPart part = {(const uint8_t *)input.ptr, input.len, "fuzz"};
    const GgufFile *file;
    Tokenizer *t;
    Error err = {0};
    if (!gguf_parse(&part, 1, &arena, &file, &err) || !tokenizer_from_gguf(file, &arena, scratch, &t, &err))
        return;
    Detokenizer d;
    promise(detokenizer_init(&d, t, &arena));
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        Arena all = scratch, own;
        TokenIds ids;
        promise(arena_split(&all, (size_t)tokenizer_encode_scratch_bytes(t, texts[i].len), &own));
        promise(tokenizer_encode(t, texts[i], TOKENIZER_ADD_SPECIAL | TOKENIZER_PARSE_SPECIAL, &arena, own,
                                 &ids, &err));
        for (size_t k = 0; k < ids.count; k++) {
            promise(ids.ptr[k] >= 0 && (uint32_t)ids.ptr[k] < tokenizer_vocab_size(t));
            (void)detokenizer_push(&d, ids.ptr[k]);
        }
        (void)detokenizer_flush(&d);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static Arena arena, scratch;
    if (!arena.next) {
        arena = os_arena(64u << 20);
        scratch = os_arena(256u << 20);
    }
    Str input = {(const char *)data, size};
    if (str_starts_with(input, STR("GGUF"))) try_vocabulary(input, arena, scratch);
    else try_pattern(input, arena, scratch);
    return 0;
}
