#include "cli/flags_table.h"

#include "base/edit_distance.h"
#include "chat/answer_format.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

// ---- looking names up ----

// A name that is close enough to have been meant.
static bool is_near(size_t distance, size_t length) {
    return distance <= 2 && distance < length;
}

// The flag of a command that was probably meant: one that differs in a letter or two, or that begins so.
// FLAG_COUNT for none.
static FlagId flag_nearest(Str name, Command command) {
    size_t best = SIZE_MAX;
    FlagId nearest = FLAG_COUNT, begins = FLAG_COUNT;
    for (FlagId id = 0; id < FLAG_COUNT; id++) {
        Str other = str_from_c(flag_rows[id].name);
        if (!flag_belongs(id, command)) continue;
        size_t distance = edit_distance(name, other);
        if (distance < best) best = distance, nearest = id;
        if (name.len >= 3 && str_starts_with(other, name) && begins == FLAG_COUNT) begins = id;
    }
    if (begins < FLAG_COUNT || nearest == FLAG_COUNT) return begins;
    size_t length = strlen(flag_rows[nearest].name);
    // In a short name two letters are half of it.
    return best <= 1 || (length > 4 && is_near(best, length)) ? nearest : FLAG_COUNT;
}

static bool report_unknown_flag(Str name, Command command, Error *err) {
    char text[384];
    StrBuf b = STRBUF(text);
    strbuf_printf(&b, "--%.*s: ", STR_ARG(str_slice(name, 0, min_u64(name.len, 64))));
    const char *hint = flag_foreign_hint(name, command);
    if (hint) {
        strbuf_printf(&b, "no such flag; %s", hint);
        return error_set(err, ERR_USAGE, "%s", text);
    }
    for (Command other = 0; other < CMD_COUNT; other++) {
        if (flag_find(name, other) == FLAG_COUNT) continue;
        strbuf_put(&b, STR("not a flag of '"));
        command_put(&b, command);
        strbuf_put(&b, STR("'; it belongs to '"));
        command_put(&b, other);
        strbuf_put(&b, STR("'"));
        return error_set(err, ERR_USAGE, "%s", text);
    }
    strbuf_put(&b, STR("no such flag"));
    FlagId nearest = flag_nearest(name, command);
    if (nearest < FLAG_COUNT) strbuf_printf(&b, "; did you mean --%s?", flag_rows[nearest].name);
    return error_set(err, ERR_USAGE, "%s", text);
}

static bool looks_like_model(const char *word) {
    return str_ends_with(str_from_c(word), STR(".gguf")) || str_starts_with(str_from_c(word), STR("file:"));
}

static bool command_find(const char *word, Command *out, Error *err) {
    size_t best = SIZE_MAX;
    Command nearest = CMD_SERVE;
    for (Command c = 0; c < CMD_COUNT; c++) {
        size_t distance = edit_distance(str_from_c(word), str_from_c(command_rows[c].name));
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
    const char *name = command_rows[nearest].name;
    if (is_near(best, strlen(name))) {
        return error_set(err, ERR_USAGE, "%.64s: no such command; did you mean %s?", word, name);
    }
    return error_set(err, ERR_USAGE, "%.64s: no such command", word);
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
        flag_put_variable(&flag_rows[id], &b);
        if (str_eq(strbuf_str(&b), name)) return id;
    }
    return FLAG_COUNT;
}

static void put_nearest_variable(StrBuf *out, Str name) {
    size_t best = SIZE_MAX;
    char nearest[64] = "", text[64];
    for (FlagId id = 0; id < FLAG_COUNT; id++) {
        StrBuf b = STRBUF(text);
        flag_put_variable(&flag_rows[id], &b);
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
        const Flag *f = &flag_rows[id];
        if (!flag_belongs(id, o->command)) continue;
        if (*f->fallback && !store_value((Source){f, NULL}, f->fallback, o, err)) return false;
        char variable[64];
        StrBuf b = STRBUF(variable);
        flag_put_variable(f, &b);
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
    const char *hint = flag_foreign_hint(name, command);
    if (hint) return error_set(err, ERR_USAGE, "%.64s: no such flag; %s", word, hint);
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
        return error_set(err, ERR_USAGE, "%.64s: write --%s, with two dashes", word, flag_rows[meant].name);
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
    const Flag *f = &flag_rows[id];
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
        if (strcmp(word, command_rows[c].name) == 0) why = "; a command comes before everything else";
    }
    return error_set(err, ERR_USAGE, "%.100s: this word is one too many%s", word, why);
}

static bool add_word(Words *words, const char *word, Command command, Error *err) {
    uint32_t n_taken = 0;
    for (const char *at = command_rows[command].words; *at; at += strcspn(at, " "), at += *at == ' ')
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
    return store_value((Source){&flag_rows[id], NULL}, word, o, err);
}

// The model comes first, unless a flag named it already. (A variable may stand for whole sessions, so there a
// word that looks like a model's path is one.)
static bool store_words(const Words *words, const FlagSet *seen, Options *o, Error *err) {
    uint32_t at = 0;
    const char *takes = command_rows[o->command].words;
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
        return word[0] || error_set(err, ERR_USAGE, "FILE: must not be empty");
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
                         command_rows[o->command].name);
    }
    if (o->command == CMD_LOAD && !o->load_server)
        return error_set(err, ERR_USAGE,
                         "--server: required; write: worker-orcd load --server http://HOST:PORT");
    const char *words = command_rows[o->command].words;
    bool has_file = o->file || (o->command == CMD_INSPECT && o->model);
    if (strstr(words, "FILE") && !has_file) {
        return error_set(err, ERR_USAGE, "FILE: required; write: worker-orcd %s %s",
                         command_rows[o->command].name, words);
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
        if (++at < argc && !command_find(argv[at], &out->command, err)) return false;
        return at + 1 >= argc || refuse_word(argv[at + 1], "", err);
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
    if (options_print(out)) return true;
    return check_together(out, err);
}
