#include "cli/chat_screen.h"

#include "cli/chat_commands.h"
#include "cli/line_editor.h"
#include "cli/word_wrap.h"
#include "os/os.h"
#include "os/os_terminal.h"

#include <stdio.h>
#include <stdlib.h>

enum { SCREEN_OUTPUT_BYTES = 8 << 20, KEYS_MAX = 2 << 20, LOOK_EVERY_MS = 200 };

#define DIM "\x1b[2m"
#define BOLD "\x1b[1m"
#define PLAIN "\x1b[0m"

typedef struct {
    ChatSession *session;
    OsTerminal terminal;
    LineEditor editor;
    WordWrap wrap;
    StrBuf out;
    char *keys; // [KEYS_MAX] pressed and not taken yet
    size_t n_keys;
    bool styled;
    bool in_reasoning; // the answer is, at this place
    bool has_text;     // the answer has any
    bool hung_up;      // no keys will come, or nobody sees the output
    Error error;       // the output's
} Screen;

bool chat_may_style(void) {
    const char *no_color = getenv("NO_COLOR");
    return !no_color || !*no_color;
}

void chat_print_figures(const ChatFigures *f) {
    static const char *const ends[] = {[CHAT_ENDED] = "",
                                       [CHAT_STOPPED] = "; stopped",
                                       [CHAT_CUT] = "; cut: max_tokens, or the context is full"};
    if (!os_is_terminal(2) || f->n_tokens == 0) return;
    bool styled = chat_may_style();
    char text[256];
    StrBuf b = STRBUF(text);
    strbuf_printf(&b, "%s%u token%s, %.1f/s; first token after %.0f ms%s%s\n", styled ? DIM : "", f->n_tokens,
                  plural_s(f->n_tokens), f->per_second, f->first_ms, ends[f->end], styled ? PLAIN : "");
    (void)os_write(2, strbuf_str(&b));
}

// ---- output ----

static void flush(Screen *s) {
    if (!s->hung_up && !os_output(strbuf_str(&s->out), &s->error)) s->hung_up = true;
    s->out.len = 0;
    s->out.truncated = false;
}

static void look_at_size(Screen *s) {
    s->editor.columns = s->wrap.columns = os_terminal_columns(1);
    s->editor.rows = os_terminal_rows(1);
}

static void style(Screen *s, const char *code) {
    word_wrap_flush(&s->wrap, &s->out);
    if (s->styled) strbuf_put(&s->out, str_from_c(code));
}

// Text of the program itself.
static void say(Screen *s, Str text) {
    look_at_size(s);
    style(s, DIM);
    word_wrap_push(&s->wrap, text, &s->out);
    style(s, PLAIN);
    flush(s);
}

static void say_error(Screen *s, const Error *err) {
    char text[ERROR_MESSAGE_BYTES + 8];
    StrBuf b = STRBUF(text);
    strbuf_printf(&b, "%s.\n\n", err->message);
    say(s, strbuf_str(&b));
}

// ---- keys ----

// Takes what was pressed; false when no more will come.
static bool read_keys(Screen *s, uint32_t timeout_ms) {
    char ignored[4096];
    bool full = s->n_keys == KEYS_MAX;
    long got = os_input_read(full ? ignored : s->keys + s->n_keys,
                             full ? sizeof ignored : KEYS_MAX - s->n_keys, timeout_ms);
    if (got < 0) s->hung_up = true;
    if (got > 0 && !full) s->n_keys += (size_t)got;
    // A Ctrl-C is not among what is dropped.
    if (got > 0 && full && memchr(ignored, 'C' - 64, (size_t)got)) s->keys[KEYS_MAX - 1] = 'C' - 64;
    return !s->hung_up && !os_stop_signals();
}

static void drop_keys(Screen *s, size_t count) {
    s->n_keys -= count;
    memmove(s->keys, s->keys + count, s->n_keys);
}

// What is typed while an answer comes waits for the next line, also when Ctrl-C stops the answer.
static bool answer_stopped(void *context) {
    Screen *s = context;
    if (!read_keys(s, 0)) return true;
    size_t kept = 0, typed = s->n_keys;
    for (size_t i = 0; i < typed; i++) {
        if (s->keys[i] != 'C' - 64) s->keys[kept++] = s->keys[i];
    }
    s->n_keys = kept;
    return kept < typed;
}

// ---- answers ----

static void show_part(void *context, AnswerPartKind kind, Str text) {
    Screen *s = context;
    bool reasoning = kind == ANSWER_REASONING;
    look_at_size(s);
    if (reasoning && !s->in_reasoning) {
        style(s, DIM);
        // Where it cannot be dimmed, words tell it apart.
        if (!s->styled) word_wrap_push(&s->wrap, STR("Thinking: "), &s->out);
    }
    if (!reasoning && s->in_reasoning) {
        style(s, PLAIN);
        word_wrap_push(&s->wrap, STR("\n\n"), &s->out);
    }
    s->in_reasoning = reasoning;
    s->has_text = s->has_text || text.len > 0;
    word_wrap_push(&s->wrap, text, &s->out);
    flush(s);
}

static bool answer(Screen *s, Error *err) {
    ChatFigures figures;
    char text[200];
    StrBuf b = STRBUF(text);
    s->in_reasoning = s->has_text = false;
    s->wrap.column = 0;
    bool ok = chat_session_answer(s->session, (ChatListener){show_part, answer_stopped, s}, &figures, err);
    // A Ctrl-C during the last step came too late to stop it: it must not drop what was typed ahead either.
    (void)answer_stopped(s);
    style(s, PLAIN);
    if (s->has_text) word_wrap_push(&s->wrap, STR("\n"), &s->out);
    flush(s);
    if (!ok) {
        // What the user can do something about is no end.
        if (err->code != ERR_USAGE && err->code != ERR_INVALID_REQUEST) return false;
        say_error(s, err);
        return true;
    }
    chat_print_figures(&figures);
    if (figures.n_dropped)
        strbuf_printf(&b,
                      "The context is full: the oldest %u messages are no longer part of the "
                      "conversation.\n",
                      figures.n_dropped);
    if (!s->has_text && figures.end == CHAT_STOPPED)
        strbuf_put(&b, STR("Stopped before the first word; the message is taken back.\n"));
    strbuf_put_char(&b, '\n');
    say(s, strbuf_str(&b));
    return true;
}

// ---- messages ----

typedef enum { INPUT_MESSAGE, INPUT_INTERRUPT, INPUT_LEAVE } InputResult;

// A backslash at the end begins another line.
static bool goes_on(LineEditor *e) {
    if (e->length == 0 || e->text[e->length - 1] != '\\') return false;
    e->text[e->length - 1] = '\n';
    e->cursor = e->length;
    return true;
}

static void draw(Screen *s) {
    look_at_size(s);
    line_editor_draw(&s->editor, &s->out);
    flush(s);
}

static InputResult read_message(Screen *s) {
    LineEditor *e = &s->editor;
    line_editor_begin(e);
    draw(s);
    for (;;) {
        size_t used;
        EditEvent event = line_editor_keys(e, (Str){s->keys, s->n_keys}, &used);
        bool pressed = s->n_keys > 0;
        drop_keys(s, used);
        if (event == EDIT_DONE && goes_on(e)) event = EDIT_GOES_ON;
        if (event == EDIT_GOES_ON) {
            if (s->n_keys > 0) continue;
            if (pressed || e->columns != os_terminal_columns(1)) draw(s);
            if (read_keys(s, LOOK_EVERY_MS)) continue;
            event = EDIT_END;
        }
        line_editor_leave(e, &s->out);
        flush(s);
        if (event == EDIT_DONE) line_editor_remember(e);
        return event == EDIT_DONE ? INPUT_MESSAGE : event == EDIT_END ? INPUT_LEAVE : INPUT_INTERRUPT;
    }
}

// One message or command; *leaves when it is the last.
static bool take_message(Screen *s, Str line, bool *leaves, Error *err) {
    ChatSession *session = s->session;
    bool doubled = str_starts_with(line, STR("//"));
    if (line.len == 0) return true;
    if (line.ptr[0] == '/' && !doubled) {
        static char memory[64 * 1024];
        StrBuf said = STRBUF(memory);
        ChatCommandResult result = chat_command(session, line, &said);
        if (said.len) {
            strbuf_put_char(&said, '\n');
            say(s, strbuf_str(&said));
        }
        *leaves = result == CHAT_COMMAND_QUIT;
        return result != CHAT_COMMAND_ANSWER || answer(s, err);
    }
    if (doubled) line = str_slice(line, 1, line.len);
    if (chat_session_say(session, line, err)) return answer(s, err);
    say_error(s, err);
    return true;
}

static void greet(Screen *s) {
    char text[512];
    StrBuf b = STRBUF(text);
    const Model *m = s->session->model;
    strbuf_printf(&b, "%.*s %s on %s, context of ", STR_ARG(m->name), m->quant_kind, m->backend->info.kind);
    strbuf_put_count(&b, s->session->context);
    strbuf_put(&b, STR(" tokens. /help lists the commands, Ctrl-D leaves.\n\n"));
    say(s, strbuf_str(&b));
}

static bool converse(Screen *s, Error *err) {
    bool leaves = false, warned = false, ok = true;
    greet(s);
    while (ok && !leaves && !s->hung_up && !os_stop_signals()) {
        InputResult input = read_message(s);
        if (input == INPUT_LEAVE) break;
        if (input == INPUT_INTERRUPT) {
            if (warned && s->editor.length == 0) break;
            warned = s->editor.length == 0;
            if (warned) say(s, STR("Ctrl-C once more, or Ctrl-D, leaves.\n"));
            continue;
        }
        warned = false;
        ok = take_message(s, line_editor_text(&s->editor), &leaves, err);
    }
    return ok;
}

bool converse_on_screen(ChatSession *session, Error *err) {
    Arena arena = os_arena((size_t)128 << 20);
    Screen *s = arena_new(&arena, Screen, 1);
    char *out = arena_new(&arena, char, SCREEN_OUTPUT_BYTES);
    if (!s || !out) return error_set(err, ERR_NO_MEMORY, "no memory for a terminal");
    *s = (Screen){.session = session, .styled = chat_may_style()};
    s->out = strbuf_from_memory(out, SCREEN_OUTPUT_BYTES);
    s->keys = arena_new(&arena, char, KEYS_MAX);
    if (!s->keys || !line_editor_init(&s->editor, &arena))
        return error_set(err, ERR_NO_MEMORY, "no memory for a terminal");
    s->editor.prompt = STR("> ");
    s->editor.more_prompt = STR("  ");
    if (s->styled) s->editor.style = BOLD, s->editor.plain = PLAIN;
    if (!os_terminal_begin(&s->terminal)) return error_set(err, ERR_IO, "standard input: not a terminal");
    // Pastes are marked from now on.
    strbuf_put(&s->out, STR("\x1b[?2004h"));
    bool ok = converse(s, err);
    strbuf_put(&s->out, STR("\x1b[?2004l"));
    flush(s);
    os_terminal_end(&s->terminal);
    return ok;
}
