// A line of input, edited: keys in, what the terminal shall show out. Knows no terminal, so that tests can
// press keys; the caller reads and writes.
//
// Left, right, Home, End, Ctrl-A/E/B/F, words by Alt-B/F or Ctrl-left/right; backspace, Delete, Ctrl-D,
// Ctrl-K/U/W cut and Ctrl-Y pastes it back; up, down, Ctrl-P/N go through earlier lines, and through the
// lines of a text of several; Alt-Enter begins another line; Ctrl-L draws anew. A paste that the terminal
// marks as one (bracketed paste) is text, whatever keys it holds.
#pragma once

#include "base/arena.h"
#include "base/strbuf.h"

enum {
    LINE_EDITOR_BYTES_MAX = 1 << 20,           // of a text; what is longer is not taken
    LINE_EDITOR_HISTORY_MAX = 200,             // earlier lines that are kept, and
    LINE_EDITOR_HISTORY_BYTES_MAX = 64 * 1024, // of those, which are no longer than this
    LINE_EDITOR_KEY_BYTES_MAX = 32,            // of an escape sequence
};

typedef enum {
    EDIT_GOES_ON,
    EDIT_DONE,      // Enter: the text is whole
    EDIT_INTERRUPT, // Ctrl-C; the text is as it was
    EDIT_END,       // Ctrl-D on an empty line
} EditEvent;

typedef struct {
    // what is edited
    char *text; // [LINE_EDITOR_BYTES_MAX]
    size_t length, cursor;
    char *cut; // the last text that was cut
    size_t cut_length;
    // earlier lines, the oldest at `history_first`
    char *history[LINE_EDITOR_HISTORY_MAX];
    uint32_t history_lengths[LINE_EDITOR_HISTORY_MAX];
    uint32_t history_first, history_count, history_at; // at history_count: the new line
    char *draft;                                       // the new line, while an earlier one is looked at
    size_t draft_length;
    // keys
    char key[LINE_EDITOR_KEY_BYTES_MAX];
    uint32_t key_length;
    bool in_paste, after_return; // the last byte of the paste was "\r"
    // the screen
    Str prompt, more_prompt;   // of the first line and of the others; of the same width
    const char *style, *plain; // around the prompts
    uint32_t columns, rows;
    uint32_t drawn_columns; // 0: nothing is drawn
    uint32_t drawn_above;   // rows of what is drawn above the cursor's
    bool wants_clear;       // Ctrl-L
} LineEditor;

// False when the arena is full.
MUST_CHECK bool line_editor_init(LineEditor *e, Arena *arena);

// An empty line.
void line_editor_begin(LineEditor *e);
// Takes keys until one is an event; *used is how many bytes were taken.
EditEvent line_editor_keys(LineEditor *e, Str keys, size_t *used);
// Keeps the text among the earlier lines.
void line_editor_remember(LineEditor *e);
static inline Str line_editor_text(const LineEditor *e) {
    return (Str){e->text, e->length};
}

// Draws it where it was drawn before, for a terminal of e->columns and e->rows.
void line_editor_draw(LineEditor *e, StrBuf *out);
// Leaves what is drawn, with the cursor at the beginning of the row below it.
void line_editor_leave(LineEditor *e, StrBuf *out);
