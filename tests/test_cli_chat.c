// The command `chat`: keys and words as a screen shows them, and the program itself on a pseudo-terminal and
// in a pipe.
#include "cli/display_width.h"
#include "cli/line_editor.h"
#include "cli/word_wrap.h"
#include "gguf_builder.h"
#include "os/os.h"
#include "runner.h"
#include "screen.h"
#include "worker_process.h"

#include <fcntl.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>
#include <wchar.h>

// ---- words ----

static Str wrapped(const char *text, uint32_t columns, size_t piece, Screen *screen) {
    static char memory[64 * 1024];
    static WordWrap wrap;
    StrBuf out = STRBUF(memory);
    wrap = (WordWrap){.columns = columns};
    screen_begin(screen, columns, SCREEN_ROWS_MAX);
    for (Str rest = str_from_c(text); rest.len;) {
        size_t length = min_u64(piece, rest.len);
        while (length < rest.len && ((uint8_t)rest.ptr[length] & 0xC0) == 0x80)
            length++;
        word_wrap_push(&wrap, str_slice(rest, 0, length), &out);
        rest = str_slice(rest, length, rest.len);
    }
    word_wrap_flush(&wrap, &out);
    screen_write(screen, strbuf_str(&out));
    CHECK(!screen->strange);
    return screen_text(screen);
}

TEST(cli_chat_wraps_words) {
    static const struct {
        const char *label, *text;
        uint32_t columns;
        const char *expected;
    } rows[] = {
        {"short", "Hello there", 20, "Hello there\n"},
        {"words stay whole", "one two three four", 8, "one two\nthree\nfour\n"},
        {"exactly full", "12345678 123", 8, "12345678\n123\n"},
        {"full with a line end", "12345678\nx", 8, "12345678\nx\n"},
        {"a word that no line holds", "a 123456789abc d", 5, "a\n12345\n6789a\nbc d\n"},
        {"empty lines and indents stay", "a\n\n  b  c", 8, "a\n\n  b  c\n"},
        {"spaces at a break go", "abcd    efgh", 6, "abcd\nefgh\n"},
        {"wide", "日本語です", 6, "日本語\nです\n"},
        {"wide and narrow", "ab日本cd", 5, "ab日\n本cd\n"},
        {"marks",
         "e\xCC\x81"
         "e\xCC\x81"
         "e\xCC\x81 xx",
         4,
         "e\xCC\x81"
         "e\xCC\x81"
         "e\xCC\x81\nxx\n"},
        {"tabs", "a\tb", 20, "a   b\n"},
        {"what a terminal would obey", "a\x1b[2Jb\x07\xC2\x9B", 20, "a[2Jb\n"},
        {"no UTF-8", "a\xFF", 20, "a\xEF\xBF\xBD\n"},
    };
    Screen *screen = malloc(sizeof *screen);
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        for (size_t piece = 1; piece < 8; piece++) {
            TEST_CASE_LABEL("%s, in pieces of %zu", rows[i].label, piece);
            CHECK_STR_EQ(rows[i].expected, wrapped(rows[i].text, rows[i].columns, piece, screen));
        }
    free(screen);
}

// The C library's widths, which follow the same standard, for what both know.
TEST(cli_chat_widths_are_the_c_librarys) {
    setlocale(LC_CTYPE, "C.UTF-8");
    uint32_t wrong = 0, known = 0;
    for (uint32_t c = 0x20; c < 0x30000; c++) {
        int expected = wcwidth((wchar_t)c);
        if (expected < 0) continue;
        known++;
        if ((uint32_t)expected != display_width(c) && wrong++ < 10)
            printf("U+%04X: %d, not %u\n", c, expected, display_width(c));
    }
    // Versions of the standard differ in a few.
    CHECK(known > 100000 && wrong < 400);
    printf("%u of %u differ\n", wrong, known);
}

// ---- keys ----

#define LEFT "\x1b[D"
#define RIGHT "\x1b[C"
#define UP "\x1b[A"
#define DOWN "\x1b[B"
#define PASTE(text) "\x1b[200~" text "\x1b[201~"

typedef struct {
    const char *label, *keys, *text;
    uint32_t x, y; // of the cursor, at 20 columns with a prompt of two
} KeyRow;

static const KeyRow key_rows[] = {
    {"letters", "abc", "abc", 5, 0},
    {"left and right", "ac" LEFT "b" RIGHT "d", "abcd", 6, 0},
    {"begin and end",
     "bc\x01"
     "a\x05"
     "d",
     "abcd", 6, 0},
    {"home and end keys", "b\x1b[Ha\x1b[Fc\x1b[1~<\x1b[4~>", "<abc>", 7, 0},
    {"backspace", "abc\x7f\x7f", "a", 3, 0},
    {"backspace at the front", "ab\x01\x7f", "ab", 2, 0},
    {"delete", "abc\x01\x1b[3~", "bc", 2, 0},
    {"a character of several bytes", "a\xC3\xA9\xE6\x97\xA5\x7f", "a\xC3\xA9", 4, 0},
    {"a character and its marks", "ae\xCC\x81\x7f", "a", 3, 0},
    {"over marks", "ae\xCC\x81" LEFT LEFT "b", "bae\xCC\x81", 3, 0},
    {"cut to the end, and put", "abcd" LEFT LEFT "\x0b\x01\x19", "cdab", 4, 0},
    {"cut to the front", "abcd" LEFT "\x15", "d", 2, 0},
    {"cut a word", "one two  \x17", "one ", 6, 0},
    {"by words",
     "one two\x1b"
     "b\x1b"
     "bx\x1b"
     "fy",
     "xoney two", 7, 0},
    {"wide", "\xE6\x97\xA5\xE6\x9C\xAC", "\xE6\x97\xA5\xE6\x9C\xAC", 6, 0},
    {"a full row", "abcdefghijklmnopqr", "abcdefghijklmnopqr", 0, 1},
    {"two rows", "abcdefghijklmnopqrst", "abcdefghijklmnopqrst", 2, 1},
    {"back to the first row", "abcdefghijklmnopqrst\x01", "abcdefghijklmnopqrst", 2, 0},
    {"wide at the border", "abcdefghijklmnopq\xE6\x97\xA5", "abcdefghijklmnopq\xE6\x97\xA5", 2, 1},
    {"another line", "ab\x1b\rcd", "ab\ncd", 4, 1},
    {"up within the lines", "abc\x1b\rd" UP "x", "axbc\nd", 4, 0},
    {"down within the lines", "abc\x1b\rde" UP DOWN "x", "abc\ndex", 5, 1},
    {"paste", PASTE("a\r\nb\tc"), "a\nb\tc", 5, 1},
    {"paste with keys in it",
     PASTE("a\x1b[Ab\x03\x04"
           "c"),
     "abc", 5, 0},
    {"unknown keys",
     "a\x1b[99;9zb\x1bOZ"
     "c\x1b[Z",
     "abc", 5, 0},
    {"no history", "a" UP DOWN, "a", 3, 0},
};

static LineEditor *editor(void) {
    Arena arena = os_arena(64 << 20);
    LineEditor *e = arena_new(&arena, LineEditor, 1);
    REQUIRE(e && line_editor_init(e, &arena));
    e->prompt = STR("> ");
    e->more_prompt = STR("  ");
    line_editor_begin(e);
    return e;
}

// Draws, and compares the screen with one on which the text was simply written.
static void check_screen(LineEditor *e, Screen *screen, Str text, uint32_t x, uint32_t y) {
    static Screen plain;
    static char memory[256 * 1024];
    StrBuf out = STRBUF(memory);
    line_editor_draw(e, &out);
    screen_write(screen, strbuf_str(&out));
    screen_begin(&plain, screen->columns, screen->rows);
    screen_write(&plain, STR("> "));
    for (size_t i = 0; i < text.len; i++)
        screen_write(&plain, text.ptr[i] == '\n'   ? STR("\n  ")
                             : text.ptr[i] == '\t' ? STR(" ")
                                                   : str_slice(text, i, i + 1));
    static char expected[64 * 1024];
    StrBuf copy = STRBUF(expected);
    strbuf_put(&copy, screen_text(&plain));
    CHECK_STR_EQ(strbuf_str(&copy), screen_text(screen));
    CHECK(!screen->strange);
    CHECK_INT_EQ(x, screen->x);
    CHECK_INT_EQ(y, screen->y);
}

// Each key is drawn, or all at once: the end is the same.
static void press(LineEditor *e, const char *keys, bool each, Screen *screen) {
    static char memory[256 * 1024];
    for (size_t at = 0, used; keys[at]; at += used) {
        StrBuf out = STRBUF(memory);
        size_t length = each ? 1 : strlen(keys + at);
        CHECK_INT_EQ(EDIT_GOES_ON, line_editor_keys(e, (Str){keys + at, length}, &used));
        line_editor_draw(e, &out);
        if (each) screen_write(screen, strbuf_str(&out));
        if (!each) e->drawn_columns = 0;
    }
}

TEST(cli_chat_edits_lines) {
    Screen *screen = malloc(sizeof *screen);
    for (size_t i = 0; i < 2 * COUNT_OF(key_rows); i++) {
        const KeyRow *row = &key_rows[i / 2];
        TEST_CASE_LABEL("%s%s", row->label, i % 2 ? ", key by key" : "");
        LineEditor *e = editor();
        e->columns = 20;
        e->rows = 10;
        screen_begin(screen, 20, 10);
        press(e, row->keys, i % 2, screen);
        CHECK_STR_EQ(row->text, line_editor_text(e));
        check_screen(e, screen, line_editor_text(e), row->x, row->y);
    }
    free(screen);
}

TEST(cli_chat_editor_events_and_history) {
    LineEditor *e = editor();
    size_t used;
    static const char *const lines[] = {"one", "two", "two", "", "three"};
    for (size_t i = 0; i < COUNT_OF(lines); i++) {
        line_editor_begin(e);
        CHECK_INT_EQ(EDIT_GOES_ON, line_editor_keys(e, str_from_c(lines[i]), &used));
        CHECK_INT_EQ(EDIT_DONE, line_editor_keys(e, STR("\rrest"), &used));
        CHECK_INT_EQ(1, used);
        line_editor_remember(e);
    }
    static const struct {
        const char *keys, *text;
    } rows[] = {
        {"draft" UP, "three"},        {"draft" UP UP, "two"},        {"draft" UP UP UP, "one"},
        {"draft" UP UP UP UP, "one"}, {"draft" UP UP DOWN, "three"}, {"draft" UP DOWN, "draft"},
        {"\x10\x10\x0e", "three"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%zu", i);
        line_editor_begin(e);
        CHECK_INT_EQ(EDIT_GOES_ON, line_editor_keys(e, str_from_c(rows[i].keys), &used));
        CHECK_STR_EQ(rows[i].text, line_editor_text(e));
    }
    TEST_CASE_LABEL("events");
    line_editor_begin(e);
    CHECK_INT_EQ(EDIT_END, line_editor_keys(e, STR("\x04"), &used));
    CHECK_INT_EQ(EDIT_INTERRUPT, line_editor_keys(e, STR("a\x03"), &used));
    CHECK_INT_EQ(EDIT_GOES_ON, line_editor_keys(e, STR("\x01\x04"), &used)); // deletes
    CHECK_STR_EQ("", line_editor_text(e));
}

// A text that is taller than the screen shows the part around the cursor.
TEST(cli_chat_editor_of_tall_texts) {
    LineEditor *e = editor();
    Screen *screen = malloc(sizeof *screen);
    size_t used;
    e->columns = 20;
    e->rows = 4;
    screen_begin(screen, 20, 4);
    CHECK_INT_EQ(EDIT_GOES_ON, line_editor_keys(e, STR(PASTE("1\n2\n3\n4\n5\n6")), &used));
    static char memory[64 * 1024];
    for (int i = 0; i < 3; i++) {
        StrBuf out = STRBUF(memory);
        line_editor_draw(e, &out);
        screen_write(screen, strbuf_str(&out));
        CHECK_STR_EQ("  3\n  4\n  5\n  6\n", screen_text(screen));
    }
    CHECK_INT_EQ(3, screen->y);
    StrBuf out = STRBUF(memory);
    CHECK_INT_EQ(EDIT_GOES_ON, line_editor_keys(e, STR(UP UP UP UP UP), &used));
    line_editor_draw(e, &out);
    screen_write(screen, strbuf_str(&out));
    CHECK_STR_EQ("> 1\n  2\n  3\n  4\n", screen_text(screen));
    CHECK_INT_EQ(0, screen->y);
    free(screen);
}

// Random keys: the screen shows the text, the cursor is on it, and the text is whole UTF-8.
TEST(cli_chat_editor_random_keys) {
    static const char *const keys[] = {"a",
                                       "b ",
                                       "\xC3\xA9",
                                       "\xE6\x97\xA5",
                                       "e\xCC\x81",
                                       LEFT,
                                       RIGHT,
                                       UP,
                                       DOWN,
                                       "\x7f",
                                       "\x1b[3~",
                                       "\x0b",
                                       "\x15",
                                       "\x17",
                                       "\x19",
                                       "\x01",
                                       "\x05",
                                       "\x1b\r",
                                       "\x1b"
                                       "b",
                                       "\x1b"
                                       "f",
                                       PASTE("x\ny"),
                                       "long-word-of-letters"};
    Screen *screen = malloc(sizeof *screen);
    uint64_t state = 12345;
    for (uint32_t round = 0; round < 40; round++) {
        LineEditor *e = editor();
        e->columns = 7 + round;
        e->rows = 60;
        screen_begin(screen, e->columns, 60);
        static char memory[256 * 1024];
        for (int i = 0; i < 60 && e->length < 200; i++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            const char *key = keys[(state >> 33) % COUNT_OF(keys)];
            size_t used;
            StrBuf out = STRBUF(memory);
            CHECK_INT_EQ(EDIT_GOES_ON, line_editor_keys(e, str_from_c(key), &used));
            line_editor_draw(e, &out);
            screen_write(screen, strbuf_str(&out));
        }
        TEST_CASE_LABEL("round %u", round);
        check_screen(e, screen, line_editor_text(e), screen->x, screen->y);
        CHECK(e->cursor <= e->length);
        os_release(e, 0);
    }
    free(screen);
}

// ---- the program on a terminal ----

typedef struct {
    int terminal;
    pid_t pid;
    Screen *screen;
    StrBuf raw; // all that was written
} Talk;

static Talk talk_begin(uint32_t columns, const char *const *arguments, const char *no_color) {
    char path[64];
    const char *argv[24] = {test_program_path()};
    for (int i = 0; arguments[i]; i++)
        argv[i + 1] = arguments[i];
    enum { RAW_BYTES = 1 << 20 };
    Talk t = {.screen = os_reserve(sizeof(Screen)),
              .raw = strbuf_from_memory(os_reserve(RAW_BYTES), RAW_BYTES)};
    REQUIRE(t.screen && t.raw.ptr);
    t.terminal = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (t.terminal < 0 || grantpt(t.terminal) || unlockpt(t.terminal) ||
        ptsname_r(t.terminal, path, sizeof path))
        SKIP("no terminals here");
    struct winsize size = {.ws_row = 40, .ws_col = (unsigned short)columns};
    screen_begin(t.screen, columns, 40);
    t.pid = fork();
    REQUIRE(t.pid >= 0);
    if (t.pid > 0) return t;
    setsid();
    int controlling = open(path, O_RDWR);
    if (controlling < 0 || ioctl(controlling, TIOCSWINSZ, &size) < 0) _exit(126);
    if (dup2(controlling, 0) < 0 || dup2(controlling, 1) < 0 || dup2(controlling, 2) < 0) _exit(126);
    setenv("TERM", "xterm", 1);
    if (no_color) setenv("NO_COLOR", no_color, 1);
    else unsetenv("NO_COLOR");
    execv(argv[0], (char *const *)(uintptr_t)argv);
    _exit(127);
}

// Reads until the screen has `part`, or what was written since `from` has it; false when the program has
// ended.
static bool talk_await(Talk *t, const char *part, size_t from) {
    for (;;) {
        Str since = str_slice(strbuf_str(&t->raw), from, t->raw.len);
        if (part && (text_contains(screen_text(t->screen), part) || text_contains(since, part))) return true;
        char bytes[4096];
        struct pollfd ready = {.fd = t->terminal, .events = POLLIN};
        if (poll(&ready, 1, 100 * 1000) <= 0) return false;
        ssize_t got = read(t->terminal, bytes, sizeof bytes);
        if (got <= 0) return false; // EIO: nobody holds the other side
        screen_write(t->screen, (Str){bytes, (size_t)got});
        strbuf_put(&t->raw, (Str){bytes, (size_t)got});
    }
}

static void talk_type(const Talk *t, const char *keys) {
    size_t length = strlen(keys);
    CHECK_INT_EQ(length, write(t->terminal, keys, length));
}

static int talk_end(Talk *t) {
    int status = 0;
    (void)talk_await(t, NULL, 0); // until it has ended
    REQUIRE(waitpid(t->pid, &status, 0) == t->pid);
    close(t->terminal);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static Str without_blanks(Str s) {
    static char memory[2][256 * 1024];
    static int turn;
    StrBuf b = STRBUF(memory[turn ^= 1]);
    for (size_t i = 0; i < s.len; i++)
        if (!memchr(" \r\n", s.ptr[i], 3)) strbuf_put_char(&b, s.ptr[i]);
    return strbuf_str(&b);
}

// The answer of the tiny model to "hi" and then "there", by a pipe.
static const char *const talk_flags[] = {"--device",      "cpu", "--threads",    "1",
                                         "--temperature", "0",   "--max-tokens", "12"};
#define PIPED "chat % --device cpu --threads 1 --temperature 0 --max-tokens 12"

TEST(cli_chat_shows_what_a_pipe_gets_at_every_width) {
    static const uint32_t widths[] = {20, 40, 80};
    const char *model = tiny_model_file();
    Process piped = process_start(PIPED, (const char *[]){model}, tmp_file_write("in", "hi\n\nthere\n"));
    CHECK_INT_EQ(0, process_wait(piped));
    Str out = process_read_file(piped.out_path);
    CHECK(out.len > 20 && !text_contains(out, "\x1b"));
    CHECK_INT_EQ(0, process_read_file(piped.err_path).len);
    for (size_t i = 0; i < COUNT_OF(widths); i++) {
        TEST_CASE_LABEL("%u columns", widths[i]);
        const char *arguments[16] = {"chat", model};
        memcpy(arguments + 2, talk_flags, sizeof talk_flags);
        Talk t = talk_begin(widths[i], arguments, NULL);
        REQUIRE(talk_await(&t, "> ", 0));
        talk_type(&t, "hi\r");
        REQUIRE(talk_await(&t, "first token", 0));
        talk_type(&t, "\x0c"); // a clean screen
        REQUIRE(talk_await(&t, "\x1b[2J", 0));
        size_t from = t.raw.len;
        talk_type(&t, "there\r");
        REQUIRE(talk_await(&t, "12 tokens", from));
        // The screen: the message, the second answer, figures.
        Str screen = without_blanks(screen_text(t.screen));
        const char *second = memchr(out.ptr, '\n', out.len);
        Str answer = without_blanks(str_slice(out, (size_t)(second + 1 - out.ptr), out.len));
        if (!CHECK(memmem(screen.ptr, screen.len, answer.ptr, answer.len) != NULL))
            printf("%.*s\nhas no\n%.*s\n", STR_ARG(screen_text(t.screen)), STR_ARG(answer));
        CHECK(str_starts_with(screen, STR(">there")) && !t.screen->strange);
        talk_type(&t, "\x04");
        CHECK_INT_EQ(0, talk_end(&t));
        CHECK(str_ends_with(strbuf_str(&t.raw), STR("\x1b[?2004l")));
    }
}

TEST(cli_chat_commands) {
    static const struct {
        const char *keys, *shown;
    } rows[] = {
        {"/help\r", "/regenerate"},
        {"/set temperature 9\r", "temperature must be a number from 0 to 2."},
        {"/set temperature 0.5\r/set\r", "temperature 0.5\r\n"},
        {"/set seed 7\r/set\r", "seed 7\r\n"},
        {"/set top_k 2.5\r", "top_k must be a whole number"},
        {"/set enable_thinking off\r", "does not use enable_thinking"},
        {"/set temprature 0\r", "There is no setting temprature; did you mean temperature?"},
        {"/set\r", "enable_thinking false\r\n"},
        {"/set tools x\r", "tools cannot be set."},
        {"/system\r", "There is no system message."},
        {"/system Be brief.\r/system\r", "Be brief.\r\n\r\n"},
        {"/undo\r", "There is nothing to take back."},
        {"/regenerate\r", "There is no answer yet."},
        {"hi\r", "first token"},
        {"/regenerate\r", "first token"},
        {"/undo\r", "are taken back."},
        {"/clear\r", "A new conversation."},
        {"/system\r", "Be brief.\r\n\r\n"}, // which stays
        {"/system none\r/system\r", "There is no system message."},
        {"/nope\r", "/nope is no command"},
        {"//x\r", "first token"},
        {"a\\\rb\r", "first token"},
    };
    const char *arguments[16] = {"chat", tiny_model_file()};
    memcpy(arguments + 2, talk_flags, sizeof talk_flags);
    Talk t = talk_begin(100, arguments, NULL);
    REQUIRE(talk_await(&t, "> ", 0));
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].keys);
        screen_begin(t.screen, 100, 40);
        size_t from = t.raw.len;
        talk_type(&t, rows[i].keys);
        if (!CHECK(talk_await(&t, rows[i].shown, from))) break;
    }
    talk_type(&t, "/quit\r");
    CHECK_INT_EQ(0, talk_end(&t));
}

// An answer that goes on for longer than a busy machine takes to press a key.
TEST(cli_chat_ctrl_c) {
    TinyModel model = tiny_model_llama();
    model.context = 1 << 17;
    const char *path = test_tmp_path("long.gguf");
    tiny_model_save(&model, path);
    const char *arguments[] = {"chat",          path, "--device",     "cpu",       "--threads", "1",
                               "--temperature", "1",  "--logit-bias", "1021=-100", NULL}; // no <|eot_id|>
    Talk t = talk_begin(80, arguments, NULL);
    REQUIRE(talk_await(&t, "> ", 0));
    talk_type(&t, "hi\r");
    REQUIRE(talk_await(&t, "filler", 0)); // the answer comes
    talk_type(&t, "kept\x03");            // what was typed ahead is in the next line
    CHECK(talk_await(&t, "stopped", 0));
    CHECK(talk_await(&t, "kept", 0));
    talk_type(&t, "a line\x03\x03");
    CHECK(talk_await(&t, "Ctrl-C once more", 0));
    talk_type(&t, "\x03");
    CHECK_INT_EQ(0, talk_end(&t));
}

// Then it is too late to stop the answer, and what was typed ahead is in the next line all the same.
TEST(cli_chat_ctrl_c_in_the_last_step) {
    const char *arguments[] = {"chat", tiny_model_file(), "--device", "cpu", "--threads",
                               "1",    "--max-tokens",    "1",        NULL};
    Talk t = talk_begin(80, arguments, NULL);
    REQUIRE(talk_await(&t, "> ", 0));
    talk_type(&t, "hi\rkept\x03"); // the last step is the first
    REQUIRE(talk_await(&t, "> kept", 0));
    talk_type(&t, ", too");
    CHECK(talk_await(&t, "> kept, too", 0));
    talk_type(&t, "\x15\x04");
    CHECK_INT_EQ(0, talk_end(&t));
}

TEST(cli_chat_puts_the_terminal_back) {
    struct termios before, after;
    const char *arguments[16] = {"run", tiny_model_file()}; // which begins a conversation, too
    memcpy(arguments + 2, talk_flags, sizeof talk_flags);
    Talk t = talk_begin(80, arguments, NULL);
    int keeps = open(ptsname(t.terminal), O_RDWR | O_NOCTTY);
    REQUIRE(keeps >= 0 && tcgetattr(keeps, &before) == 0);
    REQUIRE(talk_await(&t, "> ", 0));
    REQUIRE(tcgetattr(keeps, &after) == 0 && !(after.c_lflag & ECHO));
    kill(t.pid, SIGTERM); // also when it is told to end
    CHECK(talk_await(&t, "\x1b[?2004l", 0));
    int status;
    REQUIRE(waitpid(t.pid, &status, 0) == t.pid);
    CHECK_INT_EQ(0, status);
    REQUIRE(tcgetattr(keeps, &after) == 0);
    CHECK(after.c_lflag & ECHO && after.c_lflag & ICANON && after.c_iflag == before.c_iflag);
}

// A template that opens the reasoning, which the tiny model never closes.
TEST(cli_chat_dims_reasoning) {
    const char *template = tmp_file_write("think.jinja", "{{ messages[-1].content }}<think>\n");
    for (int no_color = 0; no_color < 2; no_color++) {
        TEST_CASE_LABEL("NO_COLOR %d", no_color);
        const char *arguments[20] = {"chat", tiny_model_file(), "--chat-template", template};
        memcpy(arguments + 4, talk_flags, sizeof talk_flags);
        Talk t = talk_begin(80, arguments, no_color ? "1" : NULL);
        REQUIRE(talk_await(&t, "> ", 0));
        size_t from = t.raw.len;
        talk_type(&t, "hi\r");
        CHECK(talk_await(&t, "first token", from));
        talk_type(&t, "\x04");
        CHECK_INT_EQ(0, talk_end(&t));
        Str raw = str_slice(strbuf_str(&t.raw), from, t.raw.len);
        CHECK_INT_EQ(no_color, text_contains(raw, "Thinking:"));
        CHECK_INT_EQ(!no_color, text_contains(raw, "\x1b[2m<filler"));
        CHECK_INT_EQ(!no_color, text_contains(raw, "m\x1b") || text_contains(raw, "\x1b[0m"));
    }
}

TEST(cli_chat_in_a_pipe) {
    const char *model = tiny_model_file();
    static char many[16 * 1024];
    memset(many, 'x', sizeof many - 2);
    const struct {
        const char *label, *input, *more;
        int code;
        const char *err; // part of it; NULL: nothing is said
    } rows[] = {
        {"no line end", "hi", "", 0, NULL},
        {"nothing", "", "", 0, NULL},
        {"slashes are text", "/help\n", "", 0, NULL},
        {"no UTF-8", "a\xFF\n", "", 0, NULL},
        {"too long", many, "", 2, "the message does not fit: "},
        {"wrong flag", "hi", " --logit-bias x", 2, "--logit-bias x: must be"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char line[256];
        TEST_CASE_LABEL("%s", rows[i].label);
        snprintf(line, sizeof line, "%s%s", PIPED, rows[i].more);
        Process p = process_start(line, (const char *[]){model}, tmp_file_write("in", rows[i].input));
        CHECK_INT_EQ(rows[i].code, process_wait(p));
        Str err = process_read_file(p.err_path), out = process_read_file(p.out_path);
        if (!CHECK(rows[i].err ? text_contains(err, rows[i].err) : err.len == 0))
            printf("%.*s\n", STR_ARG(err));
        CHECK_INT_EQ(rows[i].code == 0 && *rows[i].input, out.len > 0);
    }
    TEST_CASE_LABEL("a backslash joins lines");
    const char *echo = tmp_file_write("echo.jinja", "{{ messages[-1].content|replace('\\n', '|') }}");
    const char *joined[] = {"a\\\nb\n", "a|b\n"};
    Str answers[2];
    for (int i = 0; i < 2; i++) {
        Process p = process_start(PIPED " --chat-template %", (const char *[]){model, echo},
                                  tmp_file_write("in", joined[i]));
        CHECK_INT_EQ(0, process_wait(p));
        answers[i] = process_read_file(p.out_path);
    }
    CHECK_STR_EQ(answers[0], answers[1]);
    CHECK(answers[0].len > 1);
}

TEST(cli_chat_drops_the_oldest_messages) {
    static char line[160];
    TinyModel model = tiny_model_llama();
    model.context = 512;
    const char *path = test_tmp_path("short.gguf");
    tiny_model_save(&model, path);
    const char *arguments[16] = {"chat", path};
    memcpy(arguments + 2, talk_flags, sizeof talk_flags);
    memset(line, 'x', 120);
    memcpy(line + 120, "\r", 2);
    Talk t = talk_begin(100, arguments, NULL);
    REQUIRE(talk_await(&t, "> ", 0));
    for (int i = 0; i < 6; i++) {
        size_t from = t.raw.len;
        screen_begin(t.screen, 100, 40);
        talk_type(&t, line);
        if (!CHECK(talk_await(&t, "first token", from))) break;
    }
    talk_type(&t, "\x04");
    CHECK_INT_EQ(0, talk_end(&t));
    CHECK(text_contains(strbuf_str(&t.raw), "The context is full: the oldest"));
}
