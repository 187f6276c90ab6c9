// For check_regex.py: reads pairs of a pattern and a text, each as a length of 4 bytes and so many bytes, and
// prints a line for each: where the pieces end, or why the pattern is refused. With the argument "two", texts
// are matched in two passes wherever there are tables for it.
#include "os/os.h"
#include "text/pretokenizer.h"

#include <stdio.h>
#include <stdlib.h>

static bool read_text(char *buffer, size_t size, Str *out) {
    uint32_t length;
    if (fread(&length, sizeof length, 1, stdin) != 1) return false;
    if (length > size || fread(buffer, 1, length, stdin) != length) exit(2);
    *out = (Str){buffer, length};
    return true;
}

static void print_pieces(const Regex *re, Str text, bool two_passes, Arena scratch) {
    Pretokenizer p = {.levels = {{.regex = *re}}, .n_levels = 1};
    PretokenizerScan scan;
    Str piece;
    if (two_passes && re->two_pass.n_states) p.levels[0].regex.next = NULL;
    if (!pretokenizer_begin(&p, text, &scratch, &scan)) exit(3);
    while (pretokenizer_next(&scan, &piece))
        printf("%zu ", (size_t)(piece.ptr + piece.len - text.ptr));
    printf("%s\n", re->two_pass.n_states ? re->next ? "both" : "two" : "forward");
}

int main(int argc, char **argv) {
    static char pattern_bytes[1 << 16], text_bytes[1 << 20];
    Arena arena = os_arena(64u << 20), scratch = os_arena(256u << 20);
    Str pattern, text;
    (void)argv;
    while (read_text(pattern_bytes, sizeof pattern_bytes, &pattern) &&
           read_text(text_bytes, sizeof text_bytes, &text)) {
        Arena own = arena;
        Regex re;
        Error err = {0};
        if (regex_compile(pattern, &own, scratch, &re, &err)) print_pieces(&re, text, argc > 1, scratch);
        else printf("refused %s\n", err.message);
    }
    return 0;
}
