#include "cli/line_editor.h"

#include "base/utf8.h"
#include "cli/display_width.h"

bool line_editor_init(LineEditor *e, Arena *arena) {
    *e = (LineEditor){.columns = 80, .rows = 24, .style = "", .plain = ""};
    e->text = arena_new(arena, char, LINE_EDITOR_BYTES_MAX);
    e->cut = arena_new(arena, char, LINE_EDITOR_BYTES_MAX);
    e->draft = arena_new(arena, char, LINE_EDITOR_BYTES_MAX);
    if (!e->text || !e->cut || !e->draft) return false;
    for (uint32_t i = 0; i < LINE_EDITOR_HISTORY_MAX; i++) {
        e->history[i] = arena_new(arena, char, LINE_EDITOR_HISTORY_BYTES_MAX);
        if (!e->history[i]) return false;
    }
    return true;
}

void line_editor_begin(LineEditor *e) {
    e->length = e->cursor = e->draft_length = 0;
    e->history_at = e->history_count;
    e->drawn_columns = e->drawn_above = 0;
    e->key_length = 0;
    e->in_paste = false;
}

// ---- places in the text ----

// The character at `at`: its length and width. A byte that is none counts as one.
static size_t character_at(const LineEditor *e, size_t at, uint32_t *width) {
    uint32_t codepoint;
    size_t length = utf8_decode((Str){e->text + at, e->length - at}, &codepoint);
    *width = length ? display_width(codepoint) : 1;
    if (length && codepoint == '\t') *width = 1; // shown as a space
    return length ? length : 1;
}

// Behind the character and the marks on it.
static size_t next_place(const LineEditor *e, size_t at) {
    uint32_t width;
    if (at >= e->length) return e->length;
    for (at += character_at(e, at, &width); at < e->length && e->text[at] != '\n';) {
        size_t length = character_at(e, at, &width);
        if (width > 0) break;
        at += length;
    }
    return at;
}

static size_t previous_place(const LineEditor *e, size_t at) {
    uint32_t width = 0;
    while (at > 0) {
        at--;
        while (at > 0 && ((uint8_t)e->text[at] & 0xC0) == 0x80)
            at--;
        (void)character_at(e, at, &width);
        if (width > 0 || e->text[at] == '\n') break;
    }
    return at;
}

static size_t line_begin(const LineEditor *e, size_t at) {
    while (at > 0 && e->text[at - 1] != '\n')
        at--;
    return at;
}

static size_t line_end(const LineEditor *e, size_t at) {
    while (at < e->length && e->text[at] != '\n')
        at++;
    return at;
}

static bool is_blank(char c) {
    return c == ' ' || c == '\n' || c == '\t';
}

static size_t word_begin(const LineEditor *e, size_t at) {
    while (at > 0 && is_blank(e->text[at - 1]))
        at--;
    while (at > 0 && !is_blank(e->text[at - 1]))
        at--;
    return at;
}

static size_t word_end(const LineEditor *e, size_t at) {
    while (at < e->length && is_blank(e->text[at]))
        at++;
    while (at < e->length && !is_blank(e->text[at]))
        at++;
    return at;
}

// ---- changes ----

static void insert(LineEditor *e, Str s) {
    if (e->length + s.len > LINE_EDITOR_BYTES_MAX) return;
    memmove(e->text + e->cursor + s.len, e->text + e->cursor, e->length - e->cursor);
    memcpy(e->text + e->cursor, s.ptr, s.len);
    e->length += s.len;
    e->cursor += s.len;
}

static void erase(LineEditor *e, size_t from, size_t to, bool keeps) {
    if (keeps && to > from) {
        memcpy(e->cut, e->text + from, to - from);
        e->cut_length = to - from;
    }
    memmove(e->text + from, e->text + to, e->length - to);
    e->length -= to - from;
    e->cursor = from;
}

// ---- earlier lines ----

static uint32_t history_slot(const LineEditor *e, uint32_t at) {
    return (e->history_first + at) % LINE_EDITOR_HISTORY_MAX;
}

void line_editor_remember(LineEditor *e) {
    uint32_t last = e->history_count ? history_slot(e, e->history_count - 1) : 0;
    Str text = line_editor_text(e);
    if (text.len == 0 || text.len > LINE_EDITOR_HISTORY_BYTES_MAX) return;
    if (e->history_count && str_eq(text, (Str){e->history[last], e->history_lengths[last]})) return;
    if (e->history_count == LINE_EDITOR_HISTORY_MAX) e->history_first = history_slot(e, 1);
    else e->history_count++;
    uint32_t slot = history_slot(e, e->history_count - 1);
    memcpy(e->history[slot], text.ptr, text.len);
    e->history_lengths[slot] = (uint32_t)text.len;
}

static void show_history(LineEditor *e, uint32_t at) {
    if (e->history_at == e->history_count) {
        memcpy(e->draft, e->text, e->length);
        e->draft_length = e->length;
    }
    bool is_draft = at == e->history_count;
    uint32_t slot = history_slot(e, at);
    e->length = is_draft ? e->draft_length : e->history_lengths[slot];
    memcpy(e->text, is_draft ? e->draft : e->history[slot], e->length);
    e->cursor = e->length;
    e->history_at = at;
}

// To the line of the text above or below at the same distance from its beginning, else to an earlier text.
static void go_up(LineEditor *e) {
    size_t begin = line_begin(e, e->cursor), distance = e->cursor - begin;
    if (begin > 0) {
        size_t above = line_begin(e, begin - 1);
        e->cursor = min_u64(above + distance, begin - 1);
    } else if (e->history_at > 0) {
        show_history(e, e->history_at - 1);
    }
}

static void go_down(LineEditor *e) {
    size_t end = line_end(e, e->cursor), distance = e->cursor - line_begin(e, e->cursor);
    if (end < e->length) {
        e->cursor = min_u64(end + 1 + distance, line_end(e, end + 1));
    } else if (e->history_at < e->history_count) {
        show_history(e, e->history_at + 1);
    }
}

// A place within a character after a move by bytes is none.
static void settle(LineEditor *e) {
    while (e->cursor > 0 && e->cursor < e->length && ((uint8_t)e->text[e->cursor] & 0xC0) == 0x80)
        e->cursor--;
}

// ---- keys ----

typedef enum {
    KEY_LEFT = 1,
    KEY_RIGHT,
    KEY_UP,
    KEY_DOWN,
    KEY_HOME,
    KEY_END,
    KEY_DELETE,
    KEY_BACKSPACE,
    KEY_WORD_LEFT,
    KEY_WORD_RIGHT,
    KEY_CUT_WORD,
    KEY_CUT_WORD_RIGHT,
    KEY_CUT_TO_END,
    KEY_CUT_TO_BEGIN,
    KEY_PUT,
    KEY_NEW_LINE,
    KEY_CLEAR,
    KEY_PASTE_BEGIN,
    KEY_PASTE_END,
} Key;

static const struct {
    const char *bytes; // behind ESC
    Key key;
} escapes[] = {
    {"[D", KEY_LEFT},
    {"OD", KEY_LEFT},
    {"[C", KEY_RIGHT},
    {"OC", KEY_RIGHT},
    {"[A", KEY_UP},
    {"OA", KEY_UP},
    {"[B", KEY_DOWN},
    {"OB", KEY_DOWN},
    {"[H", KEY_HOME},
    {"OH", KEY_HOME},
    {"[1~", KEY_HOME},
    {"[7~", KEY_HOME},
    {"[F", KEY_END},
    {"OF", KEY_END},
    {"[4~", KEY_END},
    {"[8~", KEY_END},
    {"[3~", KEY_DELETE},
    {"[1;5D", KEY_WORD_LEFT},
    {"[1;3D", KEY_WORD_LEFT},
    {"b", KEY_WORD_LEFT},
    {"[1;5C", KEY_WORD_RIGHT},
    {"[1;3C", KEY_WORD_RIGHT},
    {"f", KEY_WORD_RIGHT},
    {"\x7f", KEY_CUT_WORD},
    {"d", KEY_CUT_WORD_RIGHT},
    {"\r", KEY_NEW_LINE},
    {"\n", KEY_NEW_LINE},
    {"[200~", KEY_PASTE_BEGIN},
    {"[201~", KEY_PASTE_END},
};

static const Key controls[32] = {
    ['A' - 64] = KEY_HOME,         ['B' - 64] = KEY_LEFT,      ['E' - 64] = KEY_END,
    ['F' - 64] = KEY_RIGHT,        ['H' - 64] = KEY_BACKSPACE, ['K' - 64] = KEY_CUT_TO_END,
    ['U' - 64] = KEY_CUT_TO_BEGIN, ['W' - 64] = KEY_CUT_WORD,  ['Y' - 64] = KEY_PUT,
    ['L' - 64] = KEY_CLEAR,        ['P' - 64] = KEY_UP,        ['N' - 64] = KEY_DOWN,
};

static void obey(LineEditor *e, Key key) {
    switch (key) {
    case KEY_LEFT: e->cursor = previous_place(e, e->cursor); break;
    case KEY_RIGHT: e->cursor = next_place(e, e->cursor); break;
    case KEY_UP: go_up(e); break;
    case KEY_DOWN: go_down(e); break;
    case KEY_HOME: e->cursor = line_begin(e, e->cursor); break;
    case KEY_END: e->cursor = line_end(e, e->cursor); break;
    case KEY_DELETE: erase(e, e->cursor, next_place(e, e->cursor), false); break;
    case KEY_BACKSPACE: erase(e, previous_place(e, e->cursor), e->cursor, false); break;
    case KEY_WORD_LEFT: e->cursor = word_begin(e, e->cursor); break;
    case KEY_WORD_RIGHT: e->cursor = word_end(e, e->cursor); break;
    case KEY_CUT_WORD: erase(e, word_begin(e, e->cursor), e->cursor, true); break;
    case KEY_CUT_WORD_RIGHT: erase(e, e->cursor, word_end(e, e->cursor), true); break;
    case KEY_CUT_TO_END: erase(e, e->cursor, line_end(e, e->cursor), true); break;
    case KEY_CUT_TO_BEGIN: erase(e, line_begin(e, e->cursor), e->cursor, true); break;
    case KEY_PUT: insert(e, (Str){e->cut, e->cut_length}); break;
    case KEY_NEW_LINE: insert(e, STR("\n")); break;
    case KEY_CLEAR: e->wants_clear = true; break;
    case KEY_PASTE_BEGIN:
        e->in_paste = true;
        e->after_return = false;
        break;
    case KEY_PASTE_END: e->in_paste = false; break;
    }
    settle(e);
}

// Whether the bytes behind an ESC are a whole sequence: a letter or "O" and a letter, or "[", numbers, and a
// final byte (ISO 6429).
static bool is_whole_escape(Str s) {
    if (s.len == 0) return false;
    if (s.ptr[0] == '[') return s.len > 1 && s.ptr[s.len - 1] >= 0x40 && s.ptr[s.len - 1] <= 0x7E;
    return s.ptr[0] != 'O' || s.len > 1;
}

static void obey_escape(LineEditor *e, Str s) {
    for (size_t i = 0; i < COUNT_OF(escapes); i++)
        if (str_eq(s, str_from_c(escapes[i].bytes))) {
            if (!e->in_paste || escapes[i].key == KEY_PASTE_END) obey(e, escapes[i].key);
            return;
        }
}

// Part of a paste or of a character. Line ends of other systems become one; other control characters are left
// out.
static void take_text(LineEditor *e, char c) {
    bool ends_pair = c == '\n' && e->after_return; // "\r\n" is one line end
    e->after_return = c == '\r';
    if (ends_pair) return;
    if (c == '\r') c = '\n';
    if ((uint8_t)c < 0x20 && c != '\n' && c != '\t') return;
    insert(e, (Str){&c, 1});
}

static EditEvent take_byte(LineEditor *e, char c) {
    if (e->key_length > 0 || c == 0x1B) {
        if (e->key_length == LINE_EDITOR_KEY_BYTES_MAX) e->key_length = 0; // no key that is known
        e->key[e->key_length++] = c;
        Str behind = {e->key + 1, e->key_length - 1};
        if (!is_whole_escape(behind)) return EDIT_GOES_ON;
        e->key_length = 0;
        obey_escape(e, behind);
        return EDIT_GOES_ON;
    }
    if (e->in_paste) {
        take_text(e, c);
        return EDIT_GOES_ON;
    }
    if (c == '\r' || c == '\n') return EDIT_DONE;
    if (c == 'C' - 64) return EDIT_INTERRUPT;
    if (c == 'D' - 64 && e->length == 0) return EDIT_END;
    if (c == 'D' - 64) obey(e, KEY_DELETE);
    else if (c == 0x7F) obey(e, KEY_BACKSPACE);
    else if (controls[(uint8_t)c]) obey(e, controls[(uint8_t)c]);
    return EDIT_GOES_ON;
}

EditEvent line_editor_keys(LineEditor *e, Str keys, size_t *used) {
    EditEvent event = EDIT_GOES_ON;
    size_t at = 0;
    while (at < keys.len && event == EDIT_GOES_ON) {
        size_t run = at;
        while (run < keys.len && (uint8_t)keys.ptr[run] >= 0x20 && keys.ptr[run] != 0x7F)
            run++;
        if (e->key_length > 0 || run == at) event = take_byte(e, keys.ptr[at++]);
        else {
            insert(e, str_slice(keys, at, run));
            e->after_return = false;
            at = run;
        }
    }
    *used = at;
    return event;
}

// ---- drawing ----

// A walk over the rows that a text takes on a screen of so many columns.
typedef struct {
    uint32_t columns, row, column;
} Layout;

static void layout_step(Layout *l, uint32_t width) {
    if (l->column + width > l->columns) l->row++, l->column = 0;
    l->column += width;
}

// Where `place` is, in rows and columns of a screen; place > length: behind the end.
static Layout layout_of(const LineEditor *e, uint32_t columns, size_t place) {
    uint32_t prompt = (uint32_t)display_width_of(e->prompt), width;
    Layout l = {columns, 0, prompt};
    for (size_t at = 0; at < e->length && at < place;) {
        size_t length = character_at(e, at, &width);
        if (e->text[at] == '\n') l.row++, l.column = prompt;
        else layout_step(&l, width);
        at += length;
    }
    // The cursor cannot stand behind the last column.
    if (l.column >= columns) l.row++, l.column = 0;
    return l;
}

static void put_prompt(const LineEditor *e, Str prompt, StrBuf *out) {
    strbuf_printf(out, "%s%.*s%s", e->style, STR_ARG(prompt), e->plain);
}

// (A byte that is no character may be one when its others come.)
static void put_character(const LineEditor *e, size_t at, size_t length, StrBuf *out) {
    Str bytes = {e->text + at, length};
    if (bytes.ptr[0] == '\t') bytes = STR(" ");
    if (length == 1 && (uint8_t)bytes.ptr[0] >= 0x80) bytes = STR("\xEF\xBF\xBD");
    strbuf_put(out, bytes);
}

// The rows from `first` to `last`. The terminal breaks long lines itself, so that it can break them anew when
// it is made wider or narrower.
static void put_rows(const LineEditor *e, uint32_t first, uint32_t last, StrBuf *out) {
    uint32_t prompt = (uint32_t)display_width_of(e->prompt), width;
    Layout l = {e->columns, 0, prompt};
    if (first == 0) put_prompt(e, e->prompt, out);
    for (size_t at = 0; at < e->length && l.row <= last;) {
        size_t length = character_at(e, at, &width);
        bool ends = e->text[at] == '\n';
        if (ends) l.row++, l.column = prompt;
        else layout_step(&l, width);
        if (ends && l.row > first && l.row <= last) strbuf_put(out, STR("\r\n"));
        bool shown = l.row >= first && l.row <= last;
        if (ends && shown) put_prompt(e, e->more_prompt, out);
        if (!ends && shown) put_character(e, at, length, out);
        at += length;
    }
    // A terminal goes to the next row with the next character alone.
    if (l.column >= e->columns && l.row < last) strbuf_put(out, STR(" \r"));
}

// To the first row that is drawn, and everything from there on wiped. Where the terminal has another width
// than then, it has broken the lines anew.
static void go_to_top(LineEditor *e, StrBuf *out) {
    uint32_t above = e->drawn_above;
    if (e->drawn_columns && e->drawn_columns != e->columns) above = layout_of(e, e->columns, e->cursor).row;
    if (e->drawn_columns && above > 0) strbuf_printf(out, "\x1b[%uA", (unsigned)min_u64(above, e->rows));
    if (e->drawn_columns) strbuf_put(out, STR("\r\x1b[J"));
}

void line_editor_draw(LineEditor *e, StrBuf *out) {
    if (e->columns < 4) e->columns = 4;
    if (e->rows < 2) e->rows = 2;
    if (e->wants_clear) strbuf_put(out, STR("\x1b[H\x1b[2J"));
    else go_to_top(e, out);
    e->wants_clear = false;
    Layout cursor = layout_of(e, e->columns, e->cursor), end = layout_of(e, e->columns, e->length);
    // Of a text that is taller than the screen the part around the cursor.
    uint32_t first = 0, last = end.row;
    if (end.row >= e->rows) {
        first = cursor.row >= e->rows ? cursor.row - e->rows + 1 : 0;
        last = (uint32_t)min_u64(end.row, first + e->rows - 1);
    }
    put_rows(e, first, last, out);
    if (last > cursor.row) strbuf_printf(out, "\x1b[%uA", last - cursor.row);
    strbuf_put_char(out, '\r');
    if (cursor.column > 0) strbuf_printf(out, "\x1b[%uC", cursor.column);
    e->drawn_columns = e->columns;
    e->drawn_above = cursor.row - first;
}

void line_editor_leave(LineEditor *e, StrBuf *out) {
    e->cursor = e->length;
    line_editor_draw(e, out);
    strbuf_put(out, STR("\r\n"));
    e->drawn_columns = e->drawn_above = 0;
}
