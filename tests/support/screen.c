#include "screen.h"

#include "base/strbuf.h"
#include "base/utf8.h"

#include <locale.h>
#include <stdlib.h>
#include <wchar.h>

void screen_begin(Screen *s, uint32_t columns, uint32_t rows) {
    setlocale(LC_CTYPE, "C.UTF-8");
    memset(s, 0, sizeof *s);
    s->columns = columns;
    s->rows = rows;
}

static void go_down(Screen *s) {
    if (s->y + 1 < s->rows) {
        s->y++;
        return;
    }
    memmove(s->cells[0], s->cells[1], sizeof s->cells[0] * (s->rows - 1));
    memset(s->cells[s->rows - 1], 0, sizeof s->cells[0]);
}

static void add_mark(Screen *s, Str mark) {
    uint32_t x = s->full ? s->columns - 1 : s->x ? s->x - 1 : 0;
    if (x > 0 && s->cells[s->y][x][0] == 1) x--; // the right half of a wide one
    char *cell = s->cells[s->y][x];
    size_t length = strlen(cell);
    if (length + mark.len < SCREEN_CELL_BYTES) memcpy(cell + length, mark.ptr, mark.len);
}

static void put(Screen *s, Str character, uint32_t width) {
    if (width == 0) {
        add_mark(s, character);
        return;
    }
    if (s->full || s->x + width > s->columns) {
        go_down(s);
        s->x = 0;
        s->full = false;
    }
    char *cell = s->cells[s->y][s->x];
    memset(cell, 0, SCREEN_CELL_BYTES);
    memcpy(cell, character.ptr, character.len);
    if (width == 2) memset(s->cells[s->y][s->x + 1], 0, SCREEN_CELL_BYTES), s->cells[s->y][s->x + 1][0] = 1;
    s->x += width;
    s->full = s->x == s->columns;
    if (s->full) s->x--;
}

static void clear(Screen *s, uint32_t y, uint32_t from) {
    for (uint32_t x = from; x < s->columns; x++)
        memset(s->cells[y][x], 0, SCREEN_CELL_BYTES);
}

static void clear_below(Screen *s) {
    clear(s, s->y, s->x);
    for (uint32_t y = s->y + 1; y < s->rows; y++)
        clear(s, y, 0);
}

static void obey(Screen *s, char final, uint32_t n) {
    uint32_t count = n ? n : 1;
    s->full = false;
    switch (final) {
    case 'A': s->y -= (uint32_t)min_u64(count, s->y); break;
    case 'B': s->y = (uint32_t)min_u64(s->y + count, s->rows - 1); break;
    case 'C': s->x = (uint32_t)min_u64(s->x + count, s->columns - 1); break;
    case 'D': s->x -= (uint32_t)min_u64(count, s->x); break;
    case 'H': s->x = s->y = 0; break;
    case 'J':
        if (n == 2) memset(s->cells, 0, sizeof s->cells);
        else clear_below(s);
        break;
    case 'K': clear(s, s->y, s->x); break;
    case 'm':
    case 'h':
    case 'l': break;
    default: s->strange = true;
    }
}

static void take_escape(Screen *s, char c) {
    if (s->escape_length + 1 >= sizeof s->escape) s->escape_length = 0, s->strange = true;
    s->escape[s->escape_length++] = c;
    s->escape[s->escape_length] = 0;
    if (s->escape_length < 3 || c < 0x40) return;
    bool full = s->full;
    obey(s, c, (uint32_t)strtoul(s->escape + (s->escape[2] == '?' ? 3 : 2), NULL, 10));
    if (c == 'm') s->full = full;
    s->escape_length = 0;
}

static void take(Screen *s, char c) {
    if (s->escape_length > 0 || c == 0x1B) {
        take_escape(s, c);
        return;
    }
    if (c == '\r' || c == '\n' || c == '\b') {
        if (c == '\n') go_down(s);
        s->x = c == '\b' ? s->x - (s->x > 0) : 0;
        s->full = false;
        return;
    }
    if ((uint8_t)c < 0x20) {
        s->strange |= c != 7;
        return;
    }
    s->partial[s->partial_length++] = (uint8_t)c;
    uint32_t codepoint;
    Str bytes = {(const char *)s->partial, s->partial_length};
    if (!utf8_decode(bytes, &codepoint)) {
        if (s->partial_length == 4) s->partial_length = 0, s->strange = true;
        return;
    }
    int width = wcwidth((wchar_t)codepoint);
    put(s, bytes, width < 0 ? 1 : (uint32_t)width);
    s->partial_length = 0;
}

void screen_write(Screen *s, Str bytes) {
    for (size_t i = 0; i < bytes.len; i++)
        take(s, bytes.ptr[i]);
}

Str screen_text(const Screen *s) {
    static char memory[SCREEN_ROWS_MAX * SCREEN_COLUMNS_MAX * 4];
    StrBuf b = STRBUF(memory);
    size_t end = 0;
    for (uint32_t y = 0; y < s->rows; y++) {
        size_t begin = b.len, row_end = b.len;
        for (uint32_t x = 0; x < s->columns; x++) {
            const char *cell = s->cells[y][x];
            if (cell[0] == 1) continue;
            strbuf_put(&b, *cell ? str_from_c(cell) : STR(" "));
            if (*cell && *cell != ' ') row_end = b.len;
        }
        b.len = row_end;
        if (b.len > begin) end = b.len + 1;
        strbuf_put_char(&b, '\n');
    }
    return (Str){memory, end};
}
