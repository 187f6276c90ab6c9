#include "cli/flags_table.h"

#include <stdio.h>

enum { HELP_INDENT = 2, HELP_COLUMN = 32 };

// Words of `text` from column `start` on, continued below `start`; `joint` ends a line that goes on.
static void put_wrapped_with(StrBuf *out, const char *text, size_t start, size_t columns, const char *joint) {
    size_t column = start;
    for (const char *at = text; *at;) {
        size_t length = strcspn(at, " ");
        if (column > start && column + 1 + length > columns) {
            strbuf_printf(out, "%s\n%*s", joint, (int)start, "");
            column = start;
        } else if (column > start) {
            strbuf_put_char(out, ' ');
            column++;
        }
        strbuf_put(out, (Str){at, length});
        column += length;
        at += length;
        while (*at == ' ')
            at++;
    }
    strbuf_put_char(out, '\n');
}

static void put_wrapped(StrBuf *out, const char *text, size_t start, size_t columns) {
    put_wrapped_with(out, text, start, columns, "");
}

static void put_heading(StrBuf *out, const char *text, bool styled) {
    strbuf_printf(out, styled ? "\n\x1b[1m%s\x1b[0m\n" : "\n%s\n", text);
}

// A line "  left      right", with `right` wrapped in its column.
static void put_row(StrBuf *out, const char *left, const char *right, uint32_t columns) {
    size_t width = strlen(left) + HELP_INDENT;
    strbuf_printf(out, "%*s%s", HELP_INDENT, "", left);
    if (width + 2 > HELP_COLUMN) {
        strbuf_put_char(out, '\n');
        width = 0;
    }
    strbuf_printf(out, "%*s", (int)(HELP_COLUMN - width), "");
    put_wrapped(out, right, HELP_COLUMN, columns);
}

static void put_flag(StrBuf *out, const Flag *f, Command command, uint32_t columns) {
    char left[80], right[512], letter[8] = "", short_letter = flag_letter(f, command);
    if (short_letter) snprintf(letter, sizeof letter, ", -%c", short_letter);
    snprintf(left, sizeof left, "--%s%s%s%s", f->name, letter, *f->value_name ? " " : "", f->value_name);
    snprintf(right, sizeof right, *f->fallback ? "%s [%s]" : "%s", f->help, f->fallback);
    put_row(out, left, right, columns);
}

static void put_usage(StrBuf *out, Command command, bool styled) {
    put_heading(out, "Usage", styled);
    if (command == CMD_SERVE) {
        strbuf_put(out, STR("  worker-orcd serve MODEL [flags]\n"
                            "  worker-orcd --model PATH [flags]\n"
                            "  worker-orcd COMMAND [flags]\n"));
        return;
    }
    const char *words = command == CMD_RUN ? "MODEL [TEXT]" : command_rows[command].words;
    strbuf_put(out, STR("  "));
    command_put(out, command);
    strbuf_printf(out, "%s%s [flags]%s\n", *words ? " " : "", words,
                  command == CMD_TOKENIZE   ? " < TEXT"
                  : command == CMD_TEMPLATE ? " < MESSAGES"
                                            : "");
}

static void put_flags(StrBuf *out, Command command, uint32_t columns, bool styled) {
    for (FlagGroup group = 0; group < GROUP_COUNT; group++) {
        bool titled = false;
        for (FlagId id = 0; id < FLAG_COUNT; id++) {
            if (flag_rows[id].group != group || !flag_has_effect(id, command)) continue;
            if (!titled) put_heading(out, flag_group_titles[group], styled);
            titled = true;
            put_flag(out, &flag_rows[id], command, columns);
        }
    }
}

void flags_write_help(StrBuf *out, Command command, uint32_t columns, bool styled) {
    if (columns < 60) columns = 60;
    if (columns > 110) columns = 110;
    const char *bold = styled ? "\x1b[1m" : "", *plain = styled ? "\x1b[0m" : "";
    char name[64];
    StrBuf title = STRBUF(name);
    if (command == CMD_SERVE) strbuf_put(&title, STR("worker-orcd " WORKER_ORCD_VERSION));
    else command_put(&title, command);
    strbuf_printf(out, "%s%s%s: ", bold, name, plain);
    put_wrapped(out,
                command == CMD_SERVE ? "one model, one GPU, text over HTTP" : command_rows[command].summary,
                title.len + 2, columns);
    put_usage(out, command, styled);
    if (command == CMD_SERVE) {
        put_heading(out, "Commands", styled);
        for (Command c = 0; c < CMD_COUNT; c++) {
            put_row(out, command_rows[c].name, command_rows[c].summary, columns);
        }
        put_row(out, "help COMMAND", "show a command's flags", columns);
    }
    put_flags(out, command, columns, styled);
    strbuf_put_char(out, '\n');
    put_wrapped(out,
                command == CMD_LOAD
                    ? "Each flag but --model has an environment twin (--some-flag: WORKER_ORCD_SOME_FLAG); a "
                      "flag wins over it."
                    : "Each flag has an environment twin (--some-flag: WORKER_ORCD_SOME_FLAG); a flag wins "
                      "over it.",
                0, columns);
    put_heading(out, "Examples", styled);
    for (uint32_t i = 0; i < COMMAND_EXAMPLES; i++) {
        char line[160];
        snprintf(line, sizeof line, "worker-orcd %s", command_example(command, i));
        strbuf_put(out, STR("  "));
        put_wrapped_with(out, line, 2, columns - 2, " \\"); // as a shell takes it
    }
}
