// What becomes of a command whose output cannot be written, and of one that is told to stop.
#include "base/strbuf.h"
#include "os/os.h"
#include "runner.h"
#include "worker_process.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

// ---- output that cannot be written ----

// Runs the program with "%" of `line` replaced by the tiny model and "@" by a text, as a shell would; the
// shell's exit code. What it says is in the case's file "err".
static int run_in_shell(const char *line, const char *redirection) {
    const char *model = tiny_model_file(), *text = test_tmp_path("text");
    char command[2048];
    StrBuf b = STRBUF(command);
    strbuf_printf(&b, "'%s' ", test_program_path());
    for (const char *at = line; *at; at++) {
        if (*at == '%') strbuf_printf(&b, "'%s'", model);
        else if (*at == '@') strbuf_printf(&b, "'%s'", text);
        else strbuf_put_char(&b, *at);
    }
    strbuf_printf(&b, " 2>'%s' <'%s' %s", test_tmp_path("err"), text, redirection);
    int status = system(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static const char *const commands[] = {
    "--help",
    "run --help",
    "--version",
    "--list-architectures",
    "--list-formats",
    "devices",
    "devices --json",
    "inspect %",
    "inspect % --json",
    "tokenize --model %",
    "tokenize --model % --json",
    "template --model % --chat-template @ --json --ids",
    "run --device cpu --threads 1 --model % --prompt Hello --max-tokens 4",
    "run --device cpu --threads 1 --model % --prompt Hello --max-tokens 4 --ids",
    "run --device cpu --threads 1 --model % --prompt Hello --max-tokens 4 --logits 2",
    "run --device cpu --threads 1 --model % --prompt Hello --max-tokens 4 --json",
    "bench --device cpu --threads 1 --model % --prompt-tokens 4 --context 4 --output-tokens 2 --runs 1",
    "bench --device cpu --threads 1 --model % --prompt-tokens 4 --context 4 --output-tokens 2 --runs 1 "
    "--json",
    "perplexity --device cpu --threads 1 --model % @ --context 8 --chunks 1",
    "perplexity --device cpu --threads 1 --model % @ --context 8 --chunks 1 --json",
};

TEST_SLOW(cli_output_that_cannot_be_written, 120) {
    static const struct {
        const char *redirection;
        int code;
        const char *message; // NULL: none of standard output
    } rows[] = {
        {">/dev/full", 1, "worker-orcd: standard output: No space left on device\n"},
        {">&-", 1, "worker-orcd: standard output: Bad file descriptor\n"},
        {">/dev/null", 0, NULL},
        {"| true; true", 0, NULL}, // a pipe whose reader has gone, or goes soon
    };
    // Messages as well as a text, and a template without tags.
    tmp_file_write(
        "text", "[{\"role\":\"user\",\"content\":\"Hello there, a text of some length that goes on.\"}]\n");
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        for (size_t k = 0; k < COUNT_OF(commands); k++) {
            TEST_CASE_LABEL("%s %s", commands[k], rows[i].redirection);
            CHECK_INT_EQ(rows[i].code, run_in_shell(commands[k], rows[i].redirection));
            Str err = process_read_file(test_tmp_path("err"));
            bool said = text_contains(err, rows[i].message ? rows[i].message : "standard output");
            if (!CHECK(said == (rows[i].message != NULL))) printf("%.*s\n", STR_ARG(err));
            CHECK(!text_contains(err, "ended by interrupted")); // nobody did
            if (rows[i].code && text_contains(err, "ended by "))
                CHECK(text_contains(err, "ended by a failed write"));
        }
    }
}

// Writes to a pipe without a reader say so, and nobody is told: it is how a pipe ends.
TEST(cli_output_to_a_closed_pipe) {
    int ends[2];
    Error err;
    signal(SIGPIPE, SIG_IGN);
    REQUIRE(pipe(ends) == 0 && dup2(ends[1], 1) == 1);
    close(ends[0]);
    CHECK(!os_output(STR("x"), &err));
    CHECK_INT_EQ(ERR_READER_LEFT, err.code);
    CHECK_INT_EQ(0, error_info(err.code)->exit_code);
    CHECK(os_output_close(&err));
}

// ---- commands that are told to stop ----

// Whether the process handles this signal by now.
static bool comes_to_handle(Process p, int signal_number) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/status", (int)p.pid);
    for (int waited_ms = 0; waited_ms < 60000; waited_ms += 2) {
        Str status = process_read_file(path);
        const char *at = status.len ? strstr(status.ptr, "\nSigCgt:\t") : NULL;
        if (!at) return false;
        if (strtoull(at + 9, NULL, 16) >> (signal_number - 1) & 1u) return true;
        os_sleep_ms(2);
    }
    return false;
}

// A text whose scoring takes minutes.
TEST_SLOW(cli_stop_ends_perplexity, 120) {
    enum { BYTES = 4 << 20 };
    char *text = os_reserve(BYTES);
    REQUIRE(text != NULL);
    memset(text, 'a', BYTES - 1);
    for (size_t i = 5; i < BYTES - 1; i += 6)
        text[i] = ' ';
    const char *path = tmp_file_write("long", text);
    const int signals[] = {SIGINT, SIGTERM};
    for (size_t i = 0; i < COUNT_OF(signals); i++) {
        TEST_CASE_LABEL("signal %d", signals[i]);
        Process p = process_start("perplexity --device cpu --threads 1 --model % %",
                                  (const char *[]){tiny_model_file(), path}, NULL);
        REQUIRE(comes_to_handle(p, signals[i]));
        kill(p.pid, signals[i]);
        CHECK_INT_EQ(1, process_wait(p));
        CHECK(text_contains(process_read_file(p.err_path), "worker-orcd: stopped after "));
        CHECK_INT_EQ(0, process_read_file(p.out_path).len);
    }
}

// A prompt that takes seconds at least, and 2,000 of the first tokens' time on a slow machine.
TEST_SLOW(cli_stop_ends_run_in_its_prompt, 180) {
    const char *model = test_model_path();
    static char text[8 << 10];
    for (size_t i = 0; i < sizeof text - 1; i++)
        text[i] = "one two, three. "[i % 16];
    const char *path = tmp_file_write("long", text);
    static const char *const more[] = {"", " --logits 1"};
    for (size_t i = 0; i < COUNT_OF(more); i++) {
        char line[128];
        TEST_CASE_LABEL("run%s", more[i]);
        snprintf(line, sizeof line, "run --device cpu --threads 1 --model %% --file %%%s", more[i]);
        Process p = process_start(line, (const char *[]){model, path}, NULL);
        REQUIRE(comes_to_handle(p, SIGTERM));
        kill(p.pid, SIGTERM);
        CHECK_INT_EQ(1, process_wait(p));
        Str err = process_read_file(p.err_path);
        if (!CHECK(text_contains(err, "worker-orcd: stopped before the first token\n")))
            printf("%.*s\n", STR_ARG(err));
    }
}

// ---- little stack ----

// A limit that can be raised is; one that cannot is named. (Who may raise a hard limit depends on the
// system.)
TEST(cli_small_stack_is_raised_or_named) {
    const char *text = tmp_file_write("text", "Hello\n");
    static const struct {
        const char *limit;
        bool is_hard;
    } rows[] = {{"ulimit -S -s 64", false}, {"ulimit -s 64", true}, {"ulimit -s 96", true}};
    if (test_is_sanitized()) SKIP("sanitizers need more stack themselves");
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char command[1024];
        TEST_CASE_LABEL("%s", rows[i].limit);
        snprintf(command, sizeof command,
                 "%s; exec '%s' run --device cpu --threads 2 --max-tokens 2 '%s' <'%s' >'%s' 2>&1",
                 rows[i].limit, test_program_path(), tiny_model_file(), text, test_tmp_path("out"));
        int status = system(command);
        Str out = process_read_file(test_tmp_path("out"));
        bool works = WIFEXITED(status) && WEXITSTATUS(status) == 0 && text_contains(out, "output 2 tokens");
        bool is_named = WIFEXITED(status) && WEXITSTATUS(status) == 1 &&
                        text_contains(out, "worker-orcd: the stack's limit is ");
        if (!CHECK(works || (is_named && rows[i].is_hard))) printf("%d\n%.*s\n", status, STR_ARG(out));
    }
}

// ---- prompts ----

// However the prompt is given, it is the same: what ends its last line is no part of it.
TEST(cli_run_takes_the_prompt_in_many_ways) {
    const char *model = tiny_model_file();
    const char *plain = tmp_file_write("plain", "Hello there"),
               *line = tmp_file_write("line", "Hello there\n");
    const char *windows = tmp_file_write("windows", "Hello there\r\n");
    const char *two = tmp_file_write("two", "Hello there\n\n");
    const struct {
        const char *words, *values[3], *input;
        bool same;
    } rows[] = {
        {"--model % --prompt %", {model, "Hello there"}, NULL, true},
        {"% %", {model, "Hello there"}, NULL, true},
        {"-m % -p %", {model, "Hello there"}, NULL, true},
        {"-m % %", {model, "Hello there"}, NULL, true},
        {"%", {model}, plain, true},
        {"%", {model}, line, true},
        {"%", {model}, windows, true},
        {"% -f %", {model, line}, NULL, true},
        {"%", {model}, two, false},
        {"% %", {model, "Hello there\n"}, NULL, false},
    };
    Str first = {0};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char command[128];
        TEST_CASE_LABEL("row %zu, run %s", i, rows[i].words);
        snprintf(command, sizeof command, "run --device cpu --threads 1 --temperature 0 -n 4 --json %s",
                 rows[i].words);
        Process p = process_start(command, rows[i].values, rows[i].input);
        CHECK_INT_EQ(0, process_wait(p));
        Str out = process_read_file(p.out_path);
        const char *tokens_in = strstr(out.ptr, "\"tokens_in\":");
        REQUIRE(tokens_in != NULL);
        Str count = {tokens_in, strcspn(tokens_in, ",")};
        if (i == 0) first = count;
        if (rows[i].same) CHECK_STR_EQ(first, count);
        else CHECK(!str_eq(first, count));
    }
}

TEST(cli_run_cuts_max_tokens_with_a_sentence) {
    Process p = process_start("run % Hello --device cpu --threads 1 -n 99999 --seed 1",
                              (const char *[]){tiny_model_file()}, NULL);
    CHECK_INT_EQ(0, process_wait(p));
    CHECK(text_contains(process_read_file(p.err_path), "worker-orcd: --max-tokens 99999 is cut to "));
}
