#include "chat/answer_format.h"
#include "cli/flags_table.h"

// "--name " and, where it has one, its letter "-x ".
static void put_spellings(StrBuf *out, const Flag *f, Command command) {
    char letter = flag_letter(f, command);
    strbuf_printf(out, " --%s", f->name);
    if (letter) strbuf_printf(out, " -%c", letter);
}

// The names that stand beside "auto" and "none" for a flag's value; NULL where others are allowed, or none.
typedef const char *NameAt(uint32_t index);

static NameAt *names_of(FlagId id) {
    if (id == FLAG_TOOL_FORMAT) return answer_tool_format_at;
    return id == FLAG_REASONING_FORMAT ? answer_reasoning_format_at : NULL;
}

static bool has_choices(FlagId id) {
    return flag_rows[id].type == FLAG_TYPE_CHOICE || names_of(id);
}

// The words that a flag takes, with blanks between.
static void put_choices(StrBuf *out, FlagId id) {
    NameAt *names = names_of(id);
    const char *name, *choices = names ? "auto|none" : flag_rows[id].value_name;
    for (const char *at = choices; *at; at++)
        strbuf_put_char(out, *at == '|' ? ' ' : *at);
    for (uint32_t i = 0; names && (name = names(i)); i++)
        strbuf_printf(out, " %s", name);
}

static bool takes_file(const Flag *f) {
    return f->type == FLAG_TYPE_PATH;
}

// ---- bash ----

static void put_bash_list(StrBuf *out, const char *variable, Command command, bool (*belongs)(const Flag *)) {
    strbuf_printf(out, "        %s=\"", variable);
    for (FlagId id = 0; id < FLAG_COUNT; id++) {
        if (!flag_has_effect(id, command) || (belongs && !belongs(&flag_rows[id]))) continue;
        put_spellings(out, &flag_rows[id], command);
    }
    strbuf_put(out, STR(" \"\n"));
}

static bool takes_value(const Flag *f) {
    return f->type != FLAG_TYPE_SWITCH;
}

static void put_bash_command(StrBuf *out, Command command) {
    strbuf_printf(out, "    %s)\n", command_name(command));
    put_bash_list(out, "flags", command, NULL);
    put_bash_list(out, "valued", command, takes_value);
    put_bash_list(out, "files", command, takes_file);
    strbuf_put(out, STR("        case $before in\n"));
    for (FlagId id = 0; id < FLAG_COUNT; id++) {
        if (!has_choices(id) || !flag_has_effect(id, command)) continue;
        strbuf_printf(out, "        --%s) choices=\"", flag_rows[id].name);
        put_choices(out, id);
        strbuf_put(out, STR("\" ;;\n"));
    }
    strbuf_put(out, STR("        esac\n        ;;\n"));
}

static void put_bash(StrBuf *out) {
    strbuf_put(out, STR("# What worker-orcd takes, for bash: printed by worker-orcd --completions bash.\n"
                        "# bash reads it from /usr/share/bash-completion/completions/worker-orcd, or by\n"
                        "#     source <(worker-orcd --completions bash)\n"
                        "_worker_orcd() {\n"
                        "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}\n"
                        "    local command=serve flags= valued= files= choices= words= commands=\""));
    for (Command c = 0; c < CMD_COUNT; c++)
        strbuf_printf(out, "%s ", command_name(c));
    strbuf_put(out,
               STR("help\"\n"
                   "    # \"--flag=value\" comes as three words.\n"
                   "    if [[ $word == = ]]; then word=\n"
                   "    elif [[ $before == = ]]; then before=${COMP_WORDS[COMP_CWORD-2]}\n"
                   "    fi\n"
                   "    COMPREPLY=()\n"
                   "    if ((COMP_CWORD > 1)) && [[ \" $commands \" == *\" ${COMP_WORDS[1]} \"* ]]; then\n"
                   "        command=${COMP_WORDS[1]}\n"
                   "    fi\n"
                   "    case $command in\n"));
    for (Command c = 0; c < CMD_COUNT; c++)
        put_bash_command(out, c);
    strbuf_put(out,
               STR("    help) choices=$commands ;;\n"
                   "    esac\n"
                   "    if [[ -n $choices ]]; then words=$choices\n"
                   "    elif [[ $valued == *\" $before \"* && $files != *\" $before \"* ]]; then return\n"
                   "    elif [[ $word == -* ]]; then words=$flags\n"
                   "    elif ((COMP_CWORD == 1)) && [[ -z $word ]]; then words=$commands\n"
                   "    else\n"
                   "        ((COMP_CWORD > 1)) || words=$commands\n"
                   "        compopt -o filenames 2>/dev/null\n"
                   "        mapfile -t COMPREPLY < <(compgen -f -- \"$word\")\n"
                   "    fi\n"
                   "    mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(compgen -W \"$words\" -- \"$word\")\n"
                   "}\n"
                   "complete -F _worker_orcd worker-orcd\n"));
}

// ---- zsh ----

// A help text within '…[here]…' of _arguments.
static void put_zsh_text(StrBuf *out, const char *text) {
    for (const char *c = text; *c; c++) {
        if (*c == '\'') strbuf_put(out, STR("'\\''"));
        else if (strchr("[]:\\", *c)) strbuf_printf(out, "\\%c", *c);
        else strbuf_put_char(out, *c);
    }
}

static void put_zsh_flag(StrBuf *out, FlagId id, char letter) {
    const Flag *f = &flag_rows[id];
    bool valued = takes_value(f);
    strbuf_put(out, STR("        '"));
    if (f->type == FLAG_TYPE_STRS) strbuf_put_char(out, '*');
    if (letter) strbuf_printf(out, "-%c[", letter);
    else strbuf_printf(out, "--%s%s[", f->name, valued ? "=" : "");
    put_zsh_text(out, f->help);
    strbuf_put_char(out, ']');
    if (valued) {
        strbuf_put_char(out, ':');
        put_zsh_text(out, f->value_name);
        strbuf_put_char(out, ':');
    }
    if (takes_file(f)) strbuf_put(out, STR("_files"));
    if (has_choices(id)) {
        strbuf_put_char(out, '(');
        put_choices(out, id);
        strbuf_put_char(out, ')');
    }
    strbuf_put(out, STR("'\n"));
}

static void put_zsh_command(StrBuf *out, Command command) {
    strbuf_printf(out, "    %s) flags=(\n", command_name(command));
    for (FlagId id = 0; id < FLAG_COUNT; id++) {
        const Flag *f = &flag_rows[id];
        if (!flag_has_effect(id, command)) continue;
        put_zsh_flag(out, id, 0);
        if (flag_letter(f, command)) put_zsh_flag(out, id, flag_letter(f, command));
    }
    strbuf_put(out, STR("        '*:file:_files'\n    ) ;;\n"));
}

static void put_zsh(StrBuf *out) {
    strbuf_put(out, STR("#compdef worker-orcd\n"
                        "# What worker-orcd takes, for zsh: printed by worker-orcd --completions zsh.\n"
                        "# zsh reads it as a file _worker-orcd in a folder of $fpath, or by\n"
                        "#     source <(worker-orcd --completions zsh)\n"
                        "_worker_orcd() {\n"
                        "    local command=serve\n"
                        "    local -a flags commands=(\n"));
    for (Command c = 0; c < CMD_COUNT; c++) {
        strbuf_printf(out, "        '%s:", command_name(c));
        put_zsh_text(out, command_rows[c].summary);
        strbuf_put(out, STR("'\n"));
    }
    strbuf_put(out, STR("        'help:show the flags of a command'\n"
                        "    )\n"
                        "    if ((CURRENT == 2)) && [[ $words[2] != -* ]]; then\n"
                        "        _describe command commands\n"
                        "        _files\n"
                        "        return\n"
                        "    fi\n"
                        "    if ((CURRENT > 2)) && [[ -n ${commands[(r)$words[2]:*]} ]]; then\n"
                        "        command=$words[2]\n"
                        "        shift words\n"
                        "        ((CURRENT--))\n"
                        "    fi\n"
                        "    case $command in\n"));
    for (Command c = 0; c < CMD_COUNT; c++)
        put_zsh_command(out, c);
    strbuf_put(out, STR("    help) _describe command commands; return ;;\n"
                        "    esac\n"
                        "    _arguments -S $flags\n"
                        "}\n"
                        "if [[ $zsh_eval_context[-1] == loadautofunc ]]; then _worker_orcd \"$@\"\n"
                        "else compdef _worker_orcd worker-orcd\n"
                        "fi\n"));
}

void flags_write_completions(StrBuf *out, ShellChoice shell) {
    if (shell == SHELL_BASH) put_bash(out);
    else put_zsh(out);
}
