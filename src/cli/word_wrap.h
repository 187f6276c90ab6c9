// Wraps a text at words while it streams to a terminal.
//
// A word is shown when it is whole: where the next white space, a wide character or the end comes. A line
// breaks at white space, which is dropped there, and beside wide characters, which languages that use them
// write without spaces. A word longer than a line is cut. What a terminal would obey instead of showing it
// (control characters) is left out; a tab goes to the next multiple of 4.
#pragma once

#include "base/strbuf.h"

enum { WORD_BYTES_MAX = 1024 }; // a longer one is shown in pieces

typedef struct {
    uint32_t columns; // of the terminal; may be changed at any time
    uint32_t column;  // where the cursor is
    uint32_t spaces;  // that wait for the word behind them
    uint32_t width;   // of the word
    bool is_wide;     // it is one wide character, and marks on it
    size_t length;
    char word[WORD_BYTES_MAX];
} WordWrap;

// Appends to `out` what can be shown now. Whole characters only.
void word_wrap_push(WordWrap *w, Str text, StrBuf *out);
// What is held back.
void word_wrap_flush(WordWrap *w, StrBuf *out);
