// A screen: what a terminal of so many columns and rows shows after the bytes that a program wrote. Obeys
// carriage return, line feed (which also returns), backspace, ESC [ A B C D H J K, and ignores styles and
// modes. Widths of characters are the C library's.
#pragma once

#include "base/base.h"

enum { SCREEN_COLUMNS_MAX = 132, SCREEN_ROWS_MAX = 100, SCREEN_CELL_BYTES = 24 };

typedef struct {
    uint32_t columns, rows;
    uint32_t x, y;
    bool full;    // the last column was written: the next character begins a row
    bool strange; // something was written that this screen does not know
    char cells[SCREEN_ROWS_MAX][SCREEN_COLUMNS_MAX][SCREEN_CELL_BYTES]; // a character and marks; "" is blank
    char escape[32];
    uint32_t escape_length;
    uint8_t partial[4];
    uint32_t partial_length;
} Screen;

void screen_begin(Screen *s, uint32_t columns, uint32_t rows);
void screen_write(Screen *s, Str bytes);
// Its rows without blanks at their ends, each with a line end, up to the last that is not blank. Valid until
// the next call.
Str screen_text(const Screen *s);
