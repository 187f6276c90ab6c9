#include "cli/word_wrap.h"

#include "base/utf8.h"
#include "cli/display_width.h"

enum { TAB = 4 };

static uint32_t columns_of(const WordWrap *w) {
    return w->columns ? w->columns : 80;
}

static void end_line(WordWrap *w, StrBuf *out) {
    strbuf_put_char(out, '\n');
    w->column = w->spaces = 0;
}

// A word that no line holds is cut where the line is full.
static void put_cut(WordWrap *w, StrBuf *out) {
    Str rest = {w->word, w->length};
    for (uint32_t codepoint; rest.len;) {
        size_t length = utf8_decode(rest, &codepoint);
        uint32_t width = length ? display_width(codepoint) : 1;
        if (length == 0) length = 1;
        if (w->column + width > columns_of(w) && w->column > 0) end_line(w, out);
        strbuf_put(out, str_slice(rest, 0, length));
        w->column += width;
        rest = str_slice(rest, length, rest.len);
    }
}

static void put_word(WordWrap *w, StrBuf *out) {
    if (w->length == 0) return;
    // (Where the terminal has become narrower, a column may lie outside.)
    if (w->column + w->spaces + w->width > columns_of(w) && w->column > 0) end_line(w, out);
    if (w->spaces >= columns_of(w)) w->spaces = columns_of(w) - 1;
    for (; w->spaces > 0; w->spaces--, w->column++)
        strbuf_put_char(out, ' ');
    put_cut(w, out);
    w->length = 0;
    w->width = 0;
    w->is_wide = false;
}

static void add(WordWrap *w, Str character, uint32_t width, StrBuf *out) {
    bool marks = width == 0; // belongs to the character before it
    if (width == 2 || (w->length + character.len > WORD_BYTES_MAX && !marks)) put_word(w, out);
    if (w->length + character.len > WORD_BYTES_MAX) return; // a thousand bytes of marks on one character
    memcpy(w->word + w->length, character.ptr, character.len);
    w->length += character.len;
    w->width += width;
    w->is_wide |= width == 2;
}

void word_wrap_push(WordWrap *w, Str text, StrBuf *out) {
    for (uint32_t codepoint; text.len;) {
        size_t length = utf8_decode(text, &codepoint);
        if (length == 0) length = 1, codepoint = 0xFFFD;
        Str character = codepoint == 0xFFFD ? STR("\xEF\xBF\xBD") : str_slice(text, 0, length);
        text = str_slice(text, length, text.len);
        uint32_t width = display_width(codepoint);
        if (codepoint == '\n') {
            put_word(w, out);
            end_line(w, out);
        } else if (codepoint == ' ' || codepoint == '\t') {
            put_word(w, out);
            w->spaces += codepoint == ' ' ? 1 : TAB - (w->column + w->spaces) % TAB;
        } else if (!utf8_is_control(codepoint)) {
            if (width > 0 && w->is_wide) put_word(w, out);
            add(w, character, width, out);
        }
    }
}

void word_wrap_flush(WordWrap *w, StrBuf *out) {
    put_word(w, out);
}
