// The command `chat`: a conversation at a terminal (chat_screen.c), or through a pipe, where each line of
// standard input is a message and standard output gets the answers alone.
#include "cli/chat_screen.h"
#include "cli/commands.h"
#include "os/os.h"
#include "os/os_terminal.h"

#include <stdio.h>
#include <stdlib.h>

// ---- lines of a pipe ----

typedef struct {
    char *buffer; // [CHAT_MESSAGE_BYTES_MAX + 1] what was read and not taken
    size_t length;
    bool at_end;
} LineReader;

// The next line without its end; false at the end of the input, and where the program shall stop.
static bool read_line(LineReader *r, StrBuf *out, Error *err) {
    const size_t size = CHAT_MESSAGE_BYTES_MAX + 1;
    err->code = ERR_NONE;
    for (;;) {
        char *end = memchr(r->buffer, '\n', r->length);
        if (!end && r->length == size)
            return error_set(err, ERR_USAGE, "standard input: a line of more than %d bytes",
                             CHAT_MESSAGE_BYTES_MAX);
        if (end || (r->at_end && r->length > 0)) {
            size_t length = end ? (size_t)(end - r->buffer) : r->length, taken = length + (end != NULL);
            if (length > 0 && r->buffer[length - 1] == '\r') length--;
            strbuf_put(out, (Str){r->buffer, length});
            r->length -= taken;
            memmove(r->buffer, r->buffer + taken, r->length);
            return true;
        }
        if (r->at_end || os_stop_signals()) return false;
        long got = os_input_read(r->buffer + r->length, size - r->length, UINT32_MAX);
        if (got < 0) r->at_end = true;
        else r->length += (size_t)got;
    }
}

// A message: a line, and those that follow a backslash at its end.
static bool read_message(LineReader *r, StrBuf *out, Error *err) {
    out->len = 0;
    while (read_line(r, out, err)) {
        if (out->len == 0 || out->ptr[out->len - 1] != '\\') return true;
        out->ptr[out->len - 1] = '\n';
    }
    return err->code == ERR_NONE && out->len > 0;
}

typedef struct {
    bool failed;
    Error error;
} PipeOutput;

static void put_part(void *context, AnswerPartKind kind, Str text) {
    PipeOutput *p = context;
    if (kind == ANSWER_CONTENT && !p->failed) p->failed = !os_output(text, &p->error);
}

static bool pipe_stopped(void *context) {
    PipeOutput *p = context;
    return p->failed || os_stop_signals() > 0;
}

static bool converse_in_pipe(ChatSession *s, Error *err) {
    PipeOutput p = {0};
    Arena arena = os_arena(4u * CHAT_MESSAGE_BYTES_MAX);
    LineReader reader = {.buffer = arena_new(&arena, char, CHAT_MESSAGE_BYTES_MAX + 1)};
    StrBuf message = strbuf_begin_in_arena(&arena);
    if (!reader.buffer) return error_set(err, ERR_NO_MEMORY, "no memory for a line");
    while (!p.failed && !os_stop_signals() && read_message(&reader, &message, err)) {
        ChatFigures figures;
        if (message.len == 0) continue;
        if (!chat_session_say(s, strbuf_str(&message), err) ||
            !chat_session_answer(s, (ChatListener){put_part, pipe_stopped, &p}, &figures, err))
            return false;
        put_part(&p, ANSWER_CONTENT, STR("\n"));
        chat_print_figures(&figures);
    }
    if (p.failed) *err = p.error;
    return !p.failed && err->code == ERR_NONE;
}

// ---- the command ----

static bool is_screen(void) {
    const char *term = getenv("TERM");
    return os_is_terminal(0) && os_is_terminal(1) && !(term && strcmp(term, "dumb") == 0);
}

bool chat_converse(const Options *o, Model *m, const ChatModel *chat, Error *err) {
    ChatSession *session = arena_new(&m->arena, ChatSession, 1);
    if (!session) return error_set(err, ERR_NO_MEMORY, "no memory for a conversation");
    err->code = ERR_NONE;
    os_install_stop_signals(-1);
    if (!chat_session_init(o, m, chat, session, err)) return false;
    return is_screen() ? converse_on_screen(session, err) : converse_in_pipe(session, err);
}

int cmd_chat(const Options *o) {
    Error err;
    Model model = {0};
    ChatModel chat;
    bool ok = model_open(o, &model, &err) && model_open_chat(o, &model, &chat, &err);
    if (ok && !chat.plain) {
        err = chat.missing;
        ok = error_prefix(&err, "%s", o->model);
    }
    ok = ok && model_load_opened(o, 1, 0, &model, &err) && chat_converse(o, &model, &chat, &err);
    model_close(&model);
    return ok ? 0 : cli_report_error(&err);
}
