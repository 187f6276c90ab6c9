#include "cli/flags_table.h"

#include <ctype.h>

const char *const flag_group_titles[GROUP_COUNT] = {
    [GROUP_MODEL] = "Model and device",
    [GROUP_SERVER] = "Server",
    [GROUP_LIMITS] = "Limits",
    [GROUP_PROMPT] = "Prompt",
    [GROUP_SAMPLING] = "Sampling",
    [GROUP_OUTPUT] = "Output",
    [GROUP_TOKENS] = "Tokens",
    [GROUP_TARGET] = "Target",
    [GROUP_LOAD] = "Load",
    [GROUP_TEXTS] = "Texts",
    [GROUP_MEASURE] = "Measuring",
    [GROUP_GENERAL] = "General",
};

const Flag flag_rows[FLAG_COUNT] = {
#define FLAG(id, name, type, field, least, most, fallback, value_name, group, commands, help) \
    [FLAG_##id] = {name,                                                                      \
                   FLAG_TYPE_##type,                                                          \
                   offsetof(Options, field),                                                  \
                   least,                                                                     \
                   most,                                                                      \
                   fallback,                                                                  \
                   value_name,                                                                \
                   GROUP_##group,                                                             \
                   commands,                                                                  \
                   help},
#include "cli/flags.def"
#undef FLAG
};

const CommandRow command_rows[CMD_COUNT] = {
#define COMMAND_ROW(id, name, words, summary) [CMD_##id] = {name, words, summary},
    COMMANDS(COMMAND_ROW)
#undef COMMAND_ROW
};

static const char *const examples[CMD_COUNT][COMMAND_EXAMPLES] = {
    [CMD_SERVE] = {"serve qwen2.5-0.5b-instruct-q4_k_m.gguf",
                   "--model model.gguf --host 0.0.0.0 --port 8080 --api-token-file tokens"},
    [CMD_RUN] = {"run model.gguf \"Once upon a time\"",
                 "run -m model.gguf --chat --temperature 0 < question.txt"},
    [CMD_CHAT] = {"chat qwen2.5-0.5b-instruct-q4_k_m.gguf",
                  "chat model.gguf --system \"Be brief.\" --temperature 0 < questions.txt"},
    [CMD_TOKENIZE] = {"tokenize model.gguf < text.txt", "tokenize model.gguf --decode < ids.txt"},
    [CMD_TEMPLATE] = {"template model.gguf < messages.json",
                      "template model.gguf --chat-template chat.jinja --ids < messages.json"},
    [CMD_BENCH] = {"bench model.gguf",
                   "bench model.gguf --prompt-tokens 512,2048 --output-tokens 128 --json"},
    [CMD_PERPLEXITY] = {"perplexity model.gguf text.txt",
                        "perplexity model.gguf text.txt --context 1024 --chunks 10"},
    [CMD_LOAD] = {"load --server http://127.0.0.1:8080 --clients 16 --duration 30",
                  "load --server http://127.0.0.1:8000 --rate 8 --prompt-tokens sharegpt "
                  "--output-tokens sharegpt --svg load.svg"},
    [CMD_INSPECT] = {"inspect model.gguf", "inspect model.gguf --json"},
    [CMD_DEVICES] = {"devices", "devices --json"},
};

const char *command_name(Command command) {
    return command_rows[command].name;
}

const char *command_example(Command command, uint32_t index) {
    return index < COMMAND_EXAMPLES ? examples[command][index] : NULL;
}

// Flags that all commands take and that some have no use for: their help leaves these out.
static const struct {
    FlagId flag;
    uint32_t commands;
} without_effect[] = {
    {FLAG_DEVICE, 1u << CMD_TOKENIZE | 1u << CMD_TEMPLATE | 1u << CMD_INSPECT | 1u << CMD_DEVICES},
    {FLAG_GPU_DEVICE, 1u << CMD_TOKENIZE | 1u << CMD_TEMPLATE | 1u << CMD_INSPECT | 1u << CMD_DEVICES},
    {FLAG_MODEL, 1u << CMD_DEVICES},
};

// What other programs have taught people to type.
const ShortFlag short_flags[SHORT_FLAGS] = {
    {'m', {"model"}},   {'p', {"prompt", "port"}}, {'n', {"max-tokens", "output-tokens"}},
    {'t', {"threads"}}, {'f', {"file"}},           {'s', {"seed"}},
    {'h', {"help"}},    {'V', {"version"}},
};

FlagId flag_find(Str name, Command command) {
    for (FlagId id = 0; id < FLAG_COUNT; id++) {
        if (flag_belongs(id, command) && str_eq(name, str_from_c(flag_rows[id].name))) return id;
    }
    return FLAG_COUNT;
}

bool flag_has_effect(FlagId id, Command command) {
    for (size_t i = 0; i < COUNT_OF(without_effect); i++)
        if (without_effect[i].flag == id && without_effect[i].commands >> command & 1u) return false;
    return flag_belongs(id, command);
}

char flag_letter(const Flag *f, Command command) {
    for (size_t i = 0; i < COUNT_OF(short_flags); i++) {
        const char *const *names = short_flags[i].names;
        bool first = strcmp(names[0], f->name) == 0;
        bool second = names[1] && strcmp(names[1], f->name) == 0 &&
                      flag_find(str_from_c(names[0]), command) == FLAG_COUNT;
        if (first || second) return short_flags[i].letter;
    }
    return 0;
}

void flag_put_variable(const Flag *f, StrBuf *out) {
    strbuf_put(out, STR("WORKER_ORCD_"));
    for (const char *c = f->name; *c; c++) {
        strbuf_put_char(out, *c == '-' ? '_' : (char)toupper((unsigned char)*c));
    }
}

void command_put(StrBuf *out, Command command) {
    strbuf_printf(out, "worker-orcd %s", command_rows[command].name);
}
