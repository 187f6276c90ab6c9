#include "cli/flags.h"

#include "chat/answer_format.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

typedef enum {
    FLAG_TYPE_SWITCH, // bool; no value
    FLAG_TYPE_U32,
    FLAG_TYPE_U64,
    FLAG_TYPE_F64,
    FLAG_TYPE_STR,
    FLAG_TYPE_STRS, // StrList: may be repeated
    FLAG_TYPE_PATH, // "file:" in front is taken off
    FLAG_TYPE_UUID,
    FLAG_TYPE_CHOICE, // uint32_t: the index in the value's name, split at '|'
    FLAG_TYPE_LIST,   // U32List: numbers separated by commas
} FlagType;

typedef enum {
    GROUP_MODEL,
    GROUP_SERVER,
    GROUP_LIMITS,
    GROUP_PROMPT,
    GROUP_SAMPLING,
    GROUP_OUTPUT,
    GROUP_TOKENS,
    GROUP_TARGET,
    GROUP_LOAD,
    GROUP_TEXTS,
    GROUP_MEASURE,
    GROUP_GENERAL,
    GROUP_COUNT
} FlagGroup;

static const char *const group_titles[GROUP_COUNT] = {
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

typedef struct {
    const char *name;
    FlagType type;
    size_t offset; // in Options
    double least, most;
    const char *fallback; // "" for none
    const char *value_name;
    FlagGroup group;
    uint32_t commands; // a bit for each Command
    const char *help;
} Flag;

static const Flag flags[FLAG_COUNT] = {
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

static const struct {
    const char *name;
    const char *words; // beside flags
    const char *summary;
} commands[CMD_COUNT] = {
#define COMMAND_ROW(id, name, words, summary) [CMD_##id] = {name, words, summary},
    COMMANDS(COMMAND_ROW)
#undef COMMAND_ROW
};

enum { EXAMPLES = 2 };

static const char *const examples[CMD_COUNT][EXAMPLES] = {
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
    return commands[command].name;
}

const char *command_example(Command command, uint32_t index) {
    return index < EXAMPLES ? examples[command][index] : NULL;
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

// What other programs have taught people to type. Of several names the first that the command has.
static const struct {
    char letter;
    const char *names[2];
} short_flags[] = {
    {'m', {"model"}},   {'p', {"prompt", "port"}}, {'n', {"max-tokens", "output-tokens"}},
    {'t', {"threads"}}, {'f', {"file"}},           {'s', {"seed"}},
    {'h', {"help"}},    {'V', {"version"}},
};

// ---- looking names up ----

// Levenshtein distance of short names; those longer than a row count as far apart.
static size_t edit_distance(Str a, Str b) {
    size_t row[48];
    if (b.len >= COUNT_OF(row)) return SIZE_MAX;
    for (size_t j = 0; j <= b.len; j++)
        row[j] = j;
    for (size_t i = 1; i <= a.len; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b.len; j++) {
            size_t best = diagonal + (a.ptr[i - 1] != b.ptr[j - 1]);
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[b.len];
}

// A name that is close enough to have been meant.
static bool is_near(size_t distance, size_t length) {
    return distance <= 2 && distance < length;
}

static bool flag_belongs(FlagId id, Command command) {
    return flags[id].commands >> command & 1u;
}

// Two flags of different commands may share a name. FLAG_COUNT when there is none.
static FlagId flag_find(Str name, Command command) {
    for (FlagId id = 0; id < FLAG_COUNT; id++) {
        if (flag_belongs(id, command) && str_eq(name, str_from_c(flags[id].name))) return id;
    }
    return FLAG_COUNT;
}

static void put_command(StrBuf *out, Command command) {
    strbuf_printf(out, "worker-orcd %s", commands[command].name);
}

// The flag of a command that was probably meant: one that differs in a letter or two, or that begins so.
// FLAG_COUNT for none.
static FlagId flag_nearest(Str name, Command command) {
    size_t best = SIZE_MAX;
    FlagId nearest = FLAG_COUNT, begins = FLAG_COUNT;
    for (FlagId id = 0; id < FLAG_COUNT; id++) {
        Str other = str_from_c(flags[id].name);
        if (!flag_belongs(id, command)) continue;
        size_t distance = edit_distance(name, other);
        if (distance < best) best = distance, nearest = id;
        if (name.len >= 3 && str_starts_with(other, name) && begins == FLAG_COUNT) begins = id;
    }
    if (begins < FLAG_COUNT || nearest == FLAG_COUNT) return begins;
    size_t length = strlen(flags[nearest].name);
    // In a short name two letters are half of it.
    return best <= 1 || (length > 4 && is_near(best, length)) ? nearest : FLAG_COUNT;
}

static bool report_unknown_flag(Str name, Command command, Error *err) {
    char text[256];
    StrBuf b = STRBUF(text);
    strbuf_printf(&b, "--%.*s: ", STR_ARG(str_slice(name, 0, min_u64(name.len, 64))));
    for (Command other = 0; other < CMD_COUNT; other++) {
        if (flag_find(name, other) == FLAG_COUNT) continue;
        strbuf_put(&b, STR("not a flag of '"));
        put_command(&b, command);
        strbuf_put(&b, STR("'; it belongs to '"));
        put_command(&b, other);
        strbuf_put(&b, STR("'"));
        return error_set(err, ERR_USAGE, "%s", text);
    }
    strbuf_put(&b, STR("no such flag"));
    FlagId nearest = flag_nearest(name, command);
    if (nearest < FLAG_COUNT) strbuf_printf(&b, "; did you mean --%s?", flags[nearest].name);
    return error_set(err, ERR_USAGE, "%s", text);
}

static bool looks_like_model(const char *word) {
    return str_ends_with(str_from_c(word), STR(".gguf")) || str_starts_with(str_from_c(word), STR("file:"));
}

static bool command_find(const char *word, Command *out, Error *err) {
    size_t best = SIZE_MAX;
    Command nearest = CMD_SERVE;
    for (Command c = 0; c < CMD_COUNT; c++) {
        size_t distance = edit_distance(str_from_c(word), str_from_c(commands[c].name));
        if (distance < best) {
            best = distance;
            nearest = c;
        }
    }
    *out = best == 0 ? nearest : CMD_SERVE;
    if (best == 0) return true;
    if (looks_like_model(word)) {
        return error_set(err, ERR_USAGE, "%.200s: to serve this model, write: worker-orcd serve %.200s", word,
                         word);
    }
    const char *name = commands[nearest].name;
    if (is_near(best, strlen(name))) {
        return error_set(err, ERR_USAGE, "%.64s: no such command; did you mean %s?", word, name);
    }
    return error_set(err, ERR_USAGE, "%.64s: no such command; see worker-orcd help", word);
}

// ---- values ----

// Where a value came from, as messages call it.
typedef struct {
    const Flag *flag;
    const char *variable; // NULL for the command line
} Source;

static bool reject(Source s, const char *value, Error *err, const char *allowed) {
    const char *text = *value ? value : "\"\"";
    if (s.variable) {
        error_fill(err, ERR_USAGE, ERROR_NO_POSITION, "%s=%.100s: %s", s.variable, text, allowed);
    } else {
        error_fill(err, ERR_USAGE, ERROR_NO_POSITION, "--%s %.100s: %s", s.flag->name, text, allowed);
    }
    snprintf(err->field, sizeof err->field, "%s", s.flag->name);
    return false;
}

static bool reject_number(Source s, const char *value, Error *err) {
    const Flag *f = s.flag;
    char allowed[128];
    StrBuf b = STRBUF(allowed);
    strbuf_put(&b, STR("must be "));
    if (f->type == FLAG_TYPE_LIST) {
        strbuf_printf(&b, "at most %d whole numbers, separated by commas,", FLAG_LIST_MAX);
    } else {
        strbuf_put(&b, f->type == FLAG_TYPE_F64 ? STR("a number") : STR("a whole number"));
    }
    strbuf_printf(&b, " from %.15g to ", f->least);
    if (f->type == FLAG_TYPE_U64) {
        strbuf_printf(&b, "18446744073709551615");
    } else {
        strbuf_printf(&b, "%.15g", f->most);
    }
    return reject(s, value, err, allowed);
}

static bool parse_whole(const Flag *f, Str text, uint64_t *out) {
    return str_parse_u64(text, out) && (double)*out >= f->least && (double)*out <= f->most;
}

static bool parse_list(const Flag *f, const char *value, U32List *out) {
    Str rest = str_from_c(value);
    *out = (U32List){0};
    for (;;) {
        const char *comma = rest.len ? memchr(rest.ptr, ',', rest.len) : NULL;
        size_t length = comma ? (size_t)(comma - rest.ptr) : rest.len;
        uint64_t number;
        if (out->count == FLAG_LIST_MAX || !parse_whole(f, str_slice(rest, 0, length), &number)) return false;
        out->values[out->count++] = (uint32_t)number;
        if (!comma) return true;
        rest = str_slice(rest, length + 1, rest.len);
    }
}

static bool parse_choice(const char *choices, const char *value, uint32_t *out) {
    uint32_t index = 0;
    for (const char *at = choices; *at; index++) {
        size_t length = strcspn(at, "|");
        if (str_eq((Str){at, length}, str_from_c(value))) {
            *out = index;
            return true;
        }
        at += length + (at[length] == '|');
    }
    return false;
}

static bool parse_switch(const char *value, bool *out) {
    static const char *const words[][2] = {{"false", "true"}, {"0", "1"}, {"no", "yes"}};
    for (size_t i = 0; i < COUNT_OF(words); i++) {
        for (size_t truth = 0; truth < 2; truth++) {
            if (strcmp(value, words[i][truth]) != 0) continue;
            *out = truth;
            return true;
        }
    }
    return false;
}

// 8-4-4-4-12 hexadecimal digits (RFC 9562).
static bool is_uuid(const char *text) {
    for (size_t i = 0; i < 36; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (dash ? text[i] != '-' : !isxdigit((unsigned char)text[i])) return false;
    }
    return text[36] == 0;
}

static bool store_text(Source s, const char *value, Options *o, Error *err) {
    const Flag *f = s.flag;
    const char *given = value;
    if (f->type == FLAG_TYPE_PATH && strncmp(value, "file:", 5) == 0) value += 5;
    size_t length = strlen(value);
    char allowed[128];
    if ((double)length < f->least) return reject(s, given, err, "must not be empty");
    if ((double)length > f->most) {
        snprintf(allowed, sizeof allowed, "%zu bytes are too many; at most %.0f", length, f->most);
        return reject(s, "...", err, allowed);
    }
    void *field = (char *)o + f->offset;
    if (f->type != FLAG_TYPE_STRS) {
        *(const char **)field = value;
        return true;
    }
    StrList *list = field;
    snprintf(allowed, sizeof allowed, "may be given at most %zu times", COUNT_OF(list->values));
    if (list->count == COUNT_OF(list->values)) return reject(s, value, err, allowed);
    list->values[list->count++] = value;
    return true;
}

static bool store_value(Source s, const char *value, Options *o, Error *err) {
    const Flag *f = s.flag;
    void *field = (char *)o + f->offset;
    uint64_t whole;
    char allowed[128];
    switch (f->type) {
    case FLAG_TYPE_U32:
        if (!parse_whole(f, str_from_c(value), &whole)) return reject_number(s, value, err);
        *(uint32_t *)field = (uint32_t)whole;
        return true;
    case FLAG_TYPE_U64: return parse_whole(f, str_from_c(value), field) || reject_number(s, value, err);
    case FLAG_TYPE_F64: {
        double *number = field;
        bool ok = str_parse_f64(str_from_c(value), number) && *number >= f->least && *number <= f->most;
        return ok || reject_number(s, value, err);
    }
    case FLAG_TYPE_LIST: return parse_list(f, value, field) || reject_number(s, value, err);
    case FLAG_TYPE_CHOICE:
        snprintf(allowed, sizeof allowed, "must be one of %s", f->value_name);
        return parse_choice(f->value_name, value, field) || reject(s, value, err, allowed);
    case FLAG_TYPE_SWITCH:
        return parse_switch(value, field) || reject(s, value, err, "must be true or false");
    case FLAG_TYPE_UUID:
        if (!is_uuid(value)) {
            return reject(s, value, err, "must be a UUID such as 123e4567-e89b-42d3-a456-426614174000");
        }
        *(const char **)field = value;
        return true;
    default: return store_text(s, value, o, err);
    }
}

// ---- the command line ----

static void variable_name(const Flag *f, StrBuf *out) {
    strbuf_put(out, STR("WORKER_ORCD_"));
    for (const char *c = f->name; *c; c++) {
        strbuf_put_char(out, *c == '-' ? '_' : (char)toupper((unsigned char)*c));
    }
}

// Kubernetes tells a container of every Service by such variables.
static bool explain_service(const char *value, Error *err) {
    Error first = *err;
    if (!str_starts_with(str_from_c(value), STR("tcp://"))) return false;
    error_fill(err, first.code, ERROR_NO_POSITION,
               "%.300s; Kubernetes sets this where a Service is named worker-orcd: rename that, or set "
               "enableServiceLinks: false",
               first.message);
    return false;
}

// WORKER_ORCD_MODEL is the path that other commands' --model takes; load's --model is a name for the server.
static bool has_variable(FlagId id) {
    return id != FLAG_LOAD_MODEL && id != FLAG_HELP && id != FLAG_VERSION;
}

static FlagId flag_of_variable(Str name) {
    for (FlagId id = 0; id < FLAG_COUNT; id++) {
        char text[64];
        StrBuf b = STRBUF(text);
        variable_name(&flags[id], &b);
        if (str_eq(strbuf_str(&b), name)) return id;
    }
    return FLAG_COUNT;
}

static void put_nearest_variable(StrBuf *out, Str name) {
    size_t best = SIZE_MAX;
    char nearest[64] = "", text[64];
    for (FlagId id = 0; id < FLAG_COUNT; id++) {
        StrBuf b = STRBUF(text);
        variable_name(&flags[id], &b);
        size_t distance = edit_distance(name, strbuf_str(&b));
        if (distance >= best) continue;
        best = distance;
        memcpy(nearest, text, sizeof nearest);
    }
    // (All share the beginning, so a distance of two is near whatever their length.)
    if (best <= 2) strbuf_printf(out, "; did you mean %s?", nearest);
}

bool flags_next_unknown_variable(char *const *environment, size_t *at, StrBuf *out) {
    static const Str prefix = {"WORKER_ORCD_", 12};
    while (environment[*at]) {
        const char *pair = environment[(*at)++];
        Str name = {pair, strcspn(pair, "=")};
        if (!str_starts_with(name, prefix)) continue;
        Str rest = str_slice(name, prefix.len, name.len);
        // What Kubernetes sets for a Service named worker-orcd is nobody's mistake.
        if (str_starts_with(rest, STR("SERVICE_")) || str_starts_with(rest, STR("PORT_"))) continue;
        if (flag_of_variable(name) != FLAG_COUNT) continue;
        strbuf_printf(out, "%.*s is set, and no flag is called so", (int)min_u64(name.len, 80), name.ptr);
        put_nearest_variable(out, name);
        return true;
    }
    return false;
}

// Fills every flag of the command from its default, then from the environment.
static bool parse_environment(FlagsGetEnv *get_env, Options *o, Error *err) {
    for (FlagId id = 0; id < FLAG_COUNT; id++) {
        const Flag *f = &flags[id];
        if (!flag_belongs(id, o->command)) continue;
        if (*f->fallback && !store_value((Source){f, NULL}, f->fallback, o, err)) return false;
        char variable[64];
        StrBuf b = STRBUF(variable);
        variable_name(f, &b);
        const char *value = has_variable(id) ? get_env(variable) : NULL;
        if (!value) continue;
        if (!store_value((Source){f, variable}, value, o, err)) return explain_service(value, err);
        o->given.flags[id] = true;
    }
    return true;
}

// The name that a word such as "--model", "--model=a" or "-m" gives.
static bool flag_name(const char *word, Command command, Str *out, Error *err) {
    bool is_long = word[1] == '-';
    const char *start = word + 1 + is_long;
    Str name = {start, strcspn(start, "=")};
    *out = name;
    if (is_long) return true;
    for (size_t i = 0; i < COUNT_OF(short_flags) && name.len == 1; i++) {
        if (short_flags[i].letter != name.ptr[0]) continue;
        const char *const *names = short_flags[i].names;
        *out = str_from_c(names[1] && flag_find(str_from_c(names[0]), command) == FLAG_COUNT ? names[1]
                                                                                             : names[0]);
        return true;
    }
    if (strcmp(word, "-v") == 0) {
        return error_set(err, ERR_USAGE, "-v: write --version, or --log-level debug for a longer log");
    }
    FlagId meant = flag_find(name, command);
    if (meant != FLAG_COUNT) {
        return error_set(err, ERR_USAGE, "%.64s: write --%s, with two dashes", word, flags[meant].name);
    }
    return error_set(err, ERR_USAGE, "%.64s: no such flag; flags of more than a letter begin with two dashes",
                     word);
}

// One flag at argv[*at]; *at ends at its last word.
static bool parse_flag(int argc, char *const *argv, int *at, Options *o, FlagSet *seen, Error *err) {
    Str name;
    if (!flag_name(argv[*at], o->command, &name, err)) return false;
    const char *equals = strchr(argv[*at], '=');
    FlagId id = flag_find(name, o->command);
    if (id == FLAG_COUNT) return report_unknown_flag(name, o->command, err);
    const Flag *f = &flags[id];
    bool first = !seen->flags[id];
    seen->flags[id] = true;
    o->given.flags[id] = true;
    if (f->type == FLAG_TYPE_STRS && first) *(StrList *)((char *)o + f->offset) = (StrList){0};
    if (f->type != FLAG_TYPE_STRS && !first) {
        return error_set(err, ERR_USAGE, "--%s: given twice", f->name);
    }
    Source source = {f, NULL};
    if (equals) return store_value(source, equals + 1, o, err);
    if (f->type == FLAG_TYPE_SWITCH) return store_value(source, "true", o, err);
    if (*at + 1 >= argc) {
        return error_set(err, ERR_USAGE, "--%s: needs a value: --%s %s", f->name, f->name, f->value_name);
    }
    return store_value(source, argv[++*at], o, err);
}

// ---- words beside flags ----

enum { WORDS_MAX = 2 };

typedef struct {
    uint32_t count;
    const char *values[WORDS_MAX];
} Words;

static bool refuse_word(const char *word, const char *why, Error *err) {
    for (Command c = 0; c < CMD_COUNT; c++) {
        if (strcmp(word, commands[c].name) == 0) why = "; a command comes before everything else";
    }
    return error_set(err, ERR_USAGE, "%.100s: this word is one too many%s", word, why);
}

static bool add_word(Words *words, const char *word, Command command, Error *err) {
    uint32_t n_taken = 0;
    for (const char *at = commands[command].words; *at; at += strcspn(at, " "), at += *at == ' ')
        n_taken++;
    if (words->count == n_taken)
        return refuse_word(word,
                           command == CMD_RUN    ? "; put a text of several words in quotes"
                           : command == CMD_LOAD ? "; the server's address is --server http://HOST:PORT"
                                                 : "",
                           err);
    words->values[words->count++] = word;
    return true;
}

static bool store_word(FlagId id, const char *word, Options *o, Error *err) {
    o->given.flags[id] = true;
    return store_value((Source){&flags[id], NULL}, word, o, err);
}

// The model comes first, unless a flag named it already. (A variable may stand for whole sessions, so there a
// word that looks like a model's path is one.)
static bool store_words(const Words *words, const FlagSet *seen, Options *o, Error *err) {
    uint32_t at = 0;
    const char *takes = commands[o->command].words;
    bool takes_file = strstr(takes, "FILE") != NULL;
    if (words->count > 0 && strstr(takes, "MODEL") && !seen->flags[FLAG_MODEL]) {
        const char *first = words->values[0];
        bool is_file = takes_file && words->count == 1;
        if (looks_like_model(first) || (!o->model && !is_file)) {
            if (!store_word(FLAG_MODEL, first, o, err)) return false;
            at++;
        }
    }
    if (at == words->count) return true;
    const char *word = words->values[at++];
    static const char given[] = "; the model was given already";
    if (at < words->count) return refuse_word(words->values[at], given, err);
    if (!takes_file && !strstr(takes, "TEXT")) return refuse_word(word, given, err);
    if (takes_file) {
        o->file = word;
        return true;
    }
    if (seen->flags[FLAG_PROMPT] || seen->flags[FLAG_FILE]) {
        return error_set(err, ERR_USAGE, "%.100s: this word would be the prompt, which a flag gives already",
                         word);
    }
    return store_word(FLAG_PROMPT, word, o, err);
}

// What no single value can get wrong.
static bool check_together(const Options *o, Error *err) {
    bool needs_model = o->command != CMD_INSPECT && o->command != CMD_DEVICES && o->command != CMD_LOAD &&
                       !((o->command == CMD_TOKENIZE || o->command == CMD_TEMPLATE) && o->tokenizer);
    if (needs_model && !o->model) {
        return error_set(err, ERR_USAGE, "--model: required; write: worker-orcd %s PATH.gguf",
                         commands[o->command].name);
    }
    if (o->command == CMD_LOAD && !o->load_server)
        return error_set(err, ERR_USAGE,
                         "--server: required; write: worker-orcd load --server http://HOST:PORT");
    const char *words = commands[o->command].words;
    bool has_file = o->file || (o->command == CMD_INSPECT && o->model);
    if (strstr(words, "FILE") && !has_file) {
        return error_set(err, ERR_USAGE, "FILE: required; write: worker-orcd %s %s",
                         commands[o->command].name, words);
    }
    if (o->prompt && o->prompt_file) {
        return error_set(err, ERR_USAGE, "--prompt, --file: give one of them, not both");
    }
    if (o->command == CMD_RUN && o->system && !o->chat)
        return error_set(err, ERR_USAGE, "--system: needs --chat");
    if (o->command == CMD_RUN && o->chat_template && !o->chat)
        return error_set(err, ERR_USAGE, "--chat-template: needs --chat");
    return answer_formats_check(o->tool_format, o->reasoning_format, err);
}

bool flags_parse(int argc, char *const *argv, FlagsGetEnv *get_env, Options *out, Error *err) {
    *out = (Options){0};
    int at = 1;
    if (at < argc && strcmp(argv[at], "help") == 0) {
        out->help = true;
        return ++at >= argc || command_find(argv[at], &out->command, err);
    }
    if (at < argc && argv[at][0] != '-') {
        if (!command_find(argv[at++], &out->command, err)) return false;
    }
    for (int i = at; i < argc; i++) { // help wins over whatever else is wrong
        if (strcmp(argv[i], "--help") != 0 && strcmp(argv[i], "-h") != 0) continue;
        out->help = true;
        return true;
    }
    if (!parse_environment(get_env, out, err)) return false;
    FlagSet seen = {0};
    Words words = {0};
    bool only_words = false; // after "--"
    for (; at < argc; at++) {
        if (!only_words && strcmp(argv[at], "--") == 0) {
            only_words = true;
        } else if (!only_words && argv[at][0] == '-' && argv[at][1]) {
            if (!parse_flag(argc, argv, &at, out, &seen, err)) return false;
        } else if (!add_word(&words, argv[at], out->command, err)) {
            return false;
        }
    }
    out->typed = seen;
    if (!store_words(&words, &seen, out, err)) return false;
    if (out->version || out->list_architectures) return true;
    return check_together(out, err);
}

// ---- help ----

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

static char short_form(const Flag *f, Command command) {
    for (size_t i = 0; i < COUNT_OF(short_flags); i++) {
        const char *const *names = short_flags[i].names;
        bool first = strcmp(names[0], f->name) == 0;
        bool second = names[1] && strcmp(names[1], f->name) == 0 &&
                      flag_find(str_from_c(names[0]), command) == FLAG_COUNT;
        if (first || second) return short_flags[i].letter;
    }
    return 0;
}

static void put_flag(StrBuf *out, const Flag *f, Command command, uint32_t columns) {
    char left[80], right[512], letter[8] = "", short_letter = short_form(f, command);
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
    const char *words = command == CMD_RUN ? "MODEL [TEXT]" : commands[command].words;
    strbuf_put(out, STR("  "));
    put_command(out, command);
    strbuf_printf(out, "%s%s [flags]%s\n", *words ? " " : "", words,
                  command == CMD_TOKENIZE   ? " < TEXT"
                  : command == CMD_TEMPLATE ? " < MESSAGES"
                                            : "");
}

static bool flag_has_effect(FlagId id, Command command) {
    for (size_t i = 0; i < COUNT_OF(without_effect); i++)
        if (without_effect[i].flag == id && without_effect[i].commands >> command & 1u) return false;
    return flag_belongs(id, command);
}

static void put_flags(StrBuf *out, Command command, uint32_t columns, bool styled) {
    for (FlagGroup group = 0; group < GROUP_COUNT; group++) {
        bool titled = false;
        for (FlagId id = 0; id < FLAG_COUNT; id++) {
            if (flags[id].group != group || !flag_has_effect(id, command)) continue;
            if (!titled) put_heading(out, group_titles[group], styled);
            titled = true;
            put_flag(out, &flags[id], command, columns);
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
    else put_command(&title, command);
    strbuf_printf(out, "%s%s%s: ", bold, name, plain);
    put_wrapped(out, command == CMD_SERVE ? "one model, one GPU, text over HTTP" : commands[command].summary,
                title.len + 2, columns);
    put_usage(out, command, styled);
    if (command == CMD_SERVE) {
        put_heading(out, "Commands", styled);
        for (Command c = 0; c < CMD_COUNT; c++) {
            put_row(out, commands[c].name, commands[c].summary, columns);
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
    for (uint32_t i = 0; i < EXAMPLES; i++) {
        char line[160];
        snprintf(line, sizeof line, "worker-orcd %s", examples[command][i]);
        strbuf_put(out, STR("  "));
        put_wrapped_with(out, line, 2, columns - 2, " \\"); // as a shell takes it
    }
}
