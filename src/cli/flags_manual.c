#include "base/utf8.h"
#include "base/version.h"
#include "cli/flags_table.h"

// Text in the language of manual pages (groff_man(7)): dashes that can be copied, other characters than
// ASCII by their numbers, and no line that would be read as a request.
static void put_text(StrBuf *out, const char *text) {
    Str rest = str_from_c(text);
    uint32_t character;
    if (*text == '.' || *text == '\'') strbuf_put(out, STR("\\&"));
    for (size_t n; (n = utf8_decode(rest, &character)) > 0; rest = str_slice(rest, n, rest.len)) {
        if (character == '\\') strbuf_put(out, STR("\\e"));
        else if (character == '-') strbuf_put(out, STR("\\-"));
        else if (character < 0x80) strbuf_put_char(out, (char)character);
        else strbuf_printf(out, "\\[u%04X]", (unsigned)character);
    }
}

static void put_section(StrBuf *out, const char *title) {
    strbuf_printf(out, ".SH %s\n", title);
}

static void put_line(StrBuf *out, const char *text) {
    put_text(out, text);
    strbuf_put_char(out, '\n');
}

// A paragraph with a hanging term in bold.
static void put_term(StrBuf *out, const char *term, const char *text) {
    strbuf_put(out, STR(".TP\n\\fB"));
    put_text(out, term);
    strbuf_put(out, STR("\\fR\n"));
    put_line(out, text);
}

static void put_flag(StrBuf *out, FlagId id, Command command) {
    const Flag *f = &flag_rows[id];
    char letter = flag_letter(f, command);
    strbuf_put(out, STR(".TP\n\\fB\\-\\-"));
    put_text(out, f->name);
    strbuf_put(out, STR("\\fR"));
    if (letter) strbuf_printf(out, ", \\fB\\-%c\\fR", letter);
    if (*f->value_name) {
        strbuf_put(out, STR(" \\fI"));
        put_text(out, f->value_name);
        strbuf_put(out, STR("\\fR"));
    }
    strbuf_put_char(out, '\n');
    put_text(out, f->help);
    if (*f->fallback) {
        strbuf_put(out, STR(" ["));
        put_text(out, f->fallback);
        strbuf_put_char(out, ']');
    }
    strbuf_put_char(out, '\n');
}

// The first command that has a flag tells of it; serve is the first of all.
static bool is_told_of_before(FlagId id, Command command) {
    for (Command c = 0; c < command; c++)
        if (flag_has_effect(id, c)) return true;
    return false;
}

static void put_also(StrBuf *out, Command command) {
    bool any = false;
    for (FlagId id = 0; id < FLAG_COUNT; id++) {
        if (!flag_has_effect(id, command) || !is_told_of_before(id, command)) continue;
        strbuf_put(out, any ? STR(",\n\\fB\\-\\-") : STR(".PP\nAlso, as above:\n\\fB\\-\\-"));
        put_text(out, flag_rows[id].name);
        strbuf_put(out, STR("\\fR"));
        any = true;
    }
    if (any) strbuf_put(out, STR(".\n"));
}

static void put_command(StrBuf *out, Command command) {
    strbuf_printf(out, ".SS \"%s\"\n", command_name(command));
    put_line(out, command_rows[command].summary);
    for (FlagGroup group = 0; group < GROUP_COUNT; group++) {
        bool titled = false;
        for (FlagId id = 0; id < FLAG_COUNT; id++) {
            bool here = flag_rows[id].group == group && flag_has_effect(id, command);
            if (!here || is_told_of_before(id, command)) continue;
            if (!titled) strbuf_printf(out, ".PP\n%s:\n", flag_group_titles[group]);
            titled = true;
            put_flag(out, id, command);
        }
    }
    put_also(out, command);
}

static void put_synopsis(StrBuf *out) {
    put_section(out, "SYNOPSIS");
    for (Command c = 0; c < CMD_COUNT; c++) {
        strbuf_printf(out, "%s.B worker\\-orcd %s\n", c ? ".br\n" : "", command_name(c));
        if (*command_rows[c].words) strbuf_printf(out, ".I %s\n", command_rows[c].words);
        strbuf_put(out, STR("[flags]\n"));
    }
    strbuf_put(out, STR(".br\n.B worker\\-orcd help\n.I COMMAND\n"));
}

static void put_files(StrBuf *out) {
    put_section(out, "FILES");
    put_term(
        out, "$XDG_CACHE_HOME/worker-orcd, $HOME/.cache/worker-orcd",
        "Compiled GPU kernels, where --jit-cache names no other folder (the second one where the variable "
        "is not set). What is missing there is compiled again.");
}

static void put_exit_codes(StrBuf *out) {
    put_section(out, "EXIT STATUS");
    put_term(out, "0", "It did what it was asked for, or served until it was told to stop.");
    put_term(out, "1", "It could not start, or failed.");
    put_term(out, "2", "The command line was wrong.");
    put_term(out, "3", "The GPU was lost while it served.");
}

static void put_signals(StrBuf *out) {
    put_section(out, "SIGNALS");
    put_term(
        out, "SIGTERM, SIGINT",
        "The server takes no more requests, ends its jobs and then itself. A second one, 200 ms later or "
        "more, ends it at once.");
    put_term(out, "SIGHUP", "The server reads the file of --api-token-file again.");
}

void flags_write_manual(StrBuf *out) {
    strbuf_printf(out,
                  ".TH WORKER\\-ORCD 1 \"%s\" \"worker\\-orcd " WORKER_ORCD_VERSION "\" \"User Commands\"\n",
                  version_date);
    put_section(out, "NAME");
    strbuf_put(out, STR("worker\\-orcd \\- one model, one GPU, text over HTTP\n"));
    put_synopsis(out);
    put_section(out, "DESCRIPTION");
    put_line(out,
             "worker-orcd loads one GGUF model into an NVIDIA GPU's memory, compiles its kernels for that "
             "model and GPU, and serves text over HTTP. Without a command it serves.");
    strbuf_put(out, STR(".PP\n"));
    put_line(out,
             "A flag is written --flag value or --flag=value. A switch needs no value; --flag=false turns "
             "off one that is on by default or in the environment.");
    put_section(out, "COMMANDS");
    for (Command c = 0; c < CMD_COUNT; c++)
        put_command(out, c);
    put_section(out, "ENVIRONMENT");
    put_line(out,
             "Each flag but --model of load has a twin in the environment: WORKER_ORCD_MAX_JOBS stands for "
             "--max-jobs. A flag wins over it.");
    put_files(out);
    put_exit_codes(out);
    put_signals(out);
    put_section(out, "EXAMPLES");
    for (Command c = 0; c < CMD_COUNT; c++) {
        for (uint32_t i = 0; i < COMMAND_EXAMPLES; i++) {
            strbuf_put(out, c || i ? STR(".PP\n.nf\nworker\\-orcd ") : STR(".nf\nworker\\-orcd "));
            put_line(out, command_example(c, i));
            strbuf_put(out, STR(".fi\n"));
        }
    }
}
