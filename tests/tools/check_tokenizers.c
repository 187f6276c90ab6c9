// For tests/tools/check_tokenizers.py: encodes many texts with one vocabulary.
//
//     check_tokenizers FILE FLAGS [time]
//
// FILE is a GGUF or a tokenizer.json, FLAGS those of tokenizer_encode. Standard input holds texts, each after
// its length as u32. One line of ids for each goes to standard output, then what the detokeniser makes of
// them, as hexadecimal; with "time", only the speed of each text to standard error. Each text lies at the
// very end of its memory, and scratch is what tokenizer_encode_scratch_bytes says.
#include "os/os.h"
#include "text/detokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

// Processor time, so that what else runs counts less.
static double seconds_now(void) {
    return (double)clock() / CLOCKS_PER_SEC;
}

static int fail(const Error *err) {
    fprintf(stderr, "%s\n", err->message);
    return 1;
}

static void print_result(const Tokenizer *t, TokenIds ids, Arena arena) {
    Detokenizer d;
    if (!detokenizer_init(&d, t, &arena)) return;
    detokenizer_start_text(&d);
    for (size_t i = 0; i < ids.count; i++)
        printf("%d ", ids.ptr[i]);
    printf("\n");
    for (size_t i = 0; i <= ids.count; i++) {
        Str text = i < ids.count ? detokenizer_push(&d, ids.ptr[i]) : detokenizer_flush(&d);
        for (size_t k = 0; k < text.len; k++)
            printf("%02x", (uint8_t)text.ptr[k]);
    }
    printf("\n");
}

static bool load(const char *path, Arena *arena, Arena scratch, Tokenizer **t, Error *err) {
    if (str_ends_with(str_from_c(path), STR(".json"))) {
        Str json;
        return os_file_read(path, 1u << 30, arena, &json, err) &&
               tokenizer_from_json(json, NULL, arena, scratch, t, err);
    }
    const GgufFile *file;
    return gguf_open(path, arena, &file, err) && tokenizer_from_gguf(file, arena, scratch, t, err);
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    bool timing = argc > 3;
    Arena arena = os_arena(4ull << 30), scratch = os_arena(8ull << 30);
    Error err = {0};
    Tokenizer *t;
    double start = seconds_now();
    if (!load(argv[1], &arena, scratch, &t, &err)) return fail(&err);
    if (timing) fprintf(stderr, "load %.1f ms\n", (seconds_now() - start) * 1e3);
    uint32_t size;
    while (fread(&size, sizeof size, 1, stdin) == 1) {
        char *text = malloc(size ? size : 1);
        if (!text || fread(text, 1, size, stdin) != size) return 2;
        for (int round = 0; round < (timing ? 3 : 1); round++) {
            Arena kept = arena, all = scratch, own;
            TokenIds ids;
            if (!arena_split(&all, (size_t)tokenizer_encode_scratch_bytes(t, size), &own)) return 2;
            start = seconds_now();
            if (!tokenizer_encode(t, (Str){text, size}, (uint32_t)strtoul(argv[2], NULL, 10), &kept, own,
                                  &ids, &err))
                return fail(&err);
            double seconds = seconds_now() - start;
            if (timing)
                fprintf(stderr, "%u bytes, %zu ids, %.1f MB/s\n", size, ids.count, size / seconds / 1e6);
            else print_result(t, ids, kept);
        }
        free(text);
    }
    return 0;
}
