#include "cli/chat_commands.h"

#include "base/edit_distance.h"

#include <math.h>

typedef ChatCommandResult Handler(ChatSession *s, Str argument, StrBuf *out);

static Str trim(Str s) {
    while (s.len && (s.ptr[0] == ' ' || s.ptr[0] == '\t'))
        s = str_slice(s, 1, s.len);
    while (s.len && (s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\t'))
        s.len--;
    return s;
}

// The first word, which is taken off.
static Str take_word(Str *rest) {
    size_t length = 0;
    while (length < rest->len && rest->ptr[length] != ' ' && rest->ptr[length] != '\t')
        length++;
    Str word = str_slice(*rest, 0, length);
    *rest = trim(str_slice(*rest, length, rest->len));
    return word;
}

// ---- /set ----

typedef struct {
    const char *name;
    size_t offset; // in SamplerParams
    bool is_float; // else a uint32_t
    double least, most;
} Setting;

static const Setting settings[] = {
    {"temperature", offsetof(SamplerParams, temperature), true, 0, 2},
    {"top_p", offsetof(SamplerParams, top_p), true, 0, 1},
    {"top_k", offsetof(SamplerParams, top_k), false, 0, VOCAB_MAX},
    {"min_p", offsetof(SamplerParams, min_p), true, 0, 1},
    {"repetition_penalty", offsetof(SamplerParams, repetition_penalty), true, 0.01, 2},
    {"presence_penalty", offsetof(SamplerParams, presence_penalty), true, -2, 2},
    {"frequency_penalty", offsetof(SamplerParams, frequency_penalty), true, -2, 2},
};

static double value_of(const ChatSession *s, const Setting *setting) {
    const char *field = (const char *)&s->sampler + setting->offset;
    return setting->is_float ? (double)*(const float *)(const void *)field
                             : (double)*(const uint32_t *)(const void *)field;
}

static void put_variable(const TurnsSetting *v, StrBuf *out) {
    double number;
    strbuf_printf(out, "%.*s ", STR_ARG(v->name));
    if (v->value.type == JSON_STRING) strbuf_printf(out, "%.*s", (int)v->value.length, v->value.as.string);
    else if (v->value.type == JSON_BOOL) strbuf_printf(out, "%s", v->value.as.boolean ? "true" : "false");
    else if (json_read_f64(&v->value, &number)) strbuf_printf(out, "%.15g", number);
    strbuf_put_char(out, '\n');
}

static void list_settings(const ChatSession *s, StrBuf *out) {
    for (size_t i = 0; i < COUNT_OF(settings); i++)
        strbuf_printf(out, "%s %.6g\n", settings[i].name, value_of(s, &settings[i]));
    strbuf_printf(out, "max_tokens %u%s\n", s->max_tokens,
                  s->max_tokens ? "" : " (as many as the context has room for)");
    if (s->keeps_seed) strbuf_printf(out, "seed %llu\n", (unsigned long long)s->sampler.seed);
    else strbuf_put(out, STR("seed random\n"));
    for (uint32_t i = 0; i < s->n_settings; i++)
        put_variable(&s->settings[i], out);
}

static bool set_number(ChatSession *s, const Setting *setting, Str value, StrBuf *out) {
    double number;
    bool ok = str_parse_f64(value, &number) && number >= setting->least && number <= setting->most &&
              (setting->is_float || number == floor(number));
    if (!ok) {
        strbuf_printf(out, "%s must be a %snumber from %g to %.10g.\n", setting->name,
                      setting->is_float ? "" : "whole ", setting->least, setting->most);
        return false;
    }
    char *field = (char *)&s->sampler + setting->offset;
    if (setting->is_float) *(float *)(void *)field = (float)number;
    else *(uint32_t *)(void *)field = (uint32_t)number;
    return true;
}

static JsonNode variable_value(Str text) {
    JsonNode node = {.type = JSON_STRING, .span = 1, .length = (uint32_t)text.len, .as.string = text.ptr};
    bool yes = str_eq(text, STR("true")) || str_eq(text, STR("on"));
    double number;
    if (yes || str_eq(text, STR("false")) || str_eq(text, STR("off")))
        node = (JsonNode){.type = JSON_BOOL, .span = 1, .as.boolean = yes};
    else if (str_parse_u64(text, &node.as.u64)) node = (JsonNode){JSON_U64, 0, 0, 1, {.u64 = node.as.u64}};
    else if (str_parse_f64(text, &number)) node = (JsonNode){JSON_F64, 0, 0, 1, {.f64 = number}};
    else node.as.string = text.ptr;
    return node;
}

// A setting that was probably meant; NULL for none.
static const char *nearest_setting(Str name) {
    static const char *const others[] = {"seed", "max_tokens"};
    const char *nearest = NULL;
    size_t best = 3; // letters apart
    for (size_t i = 0; i < COUNT_OF(settings) + COUNT_OF(others); i++) {
        const char *other = i < COUNT_OF(settings) ? settings[i].name : others[i - COUNT_OF(settings)];
        size_t distance = edit_distance(name, str_from_c(other));
        // In a short name two letters are half of it.
        if (distance >= best || (distance > 1 && strlen(other) < 6)) continue;
        best = distance, nearest = other;
    }
    return nearest;
}

// Any other name is a variable of the model's template.
static void set_variable(ChatSession *s, Str name, Str value, StrBuf *out) {
    static const char *const reserved[] = {"messages", "tools", "documents"};
    uint32_t at = 0;
    for (size_t i = 0; i < COUNT_OF(reserved); i++) {
        if (!str_eq(name, str_from_c(reserved[i]))) continue;
        strbuf_printf(out, "%s cannot be set.\n", reserved[i]);
        return;
    }
    bool is_used = memmem(s->chat->source.ptr, s->chat->source.len, name.ptr, name.len) != NULL;
    const char *meant = is_used ? NULL : nearest_setting(name);
    if (meant) {
        strbuf_printf(out, "There is no setting %.*s; did you mean %s?\n", STR_ARG(name), meant);
        return;
    }
    while (at < s->n_settings && !str_eq(s->settings[at].name, name))
        at++;
    // (Beside the model's tables: /clear does not take it away.)
    Str kept_name = arena_copy_str(&s->model->arena, name);
    Str kept_value = arena_copy_str(&s->model->arena, value);
    if (at == CHAT_SETTINGS_MAX || !kept_name.ptr || !kept_value.ptr) {
        strbuf_put(out, STR("There is no room for another variable.\n"));
        return;
    }
    s->settings[at] = (TurnsSetting){kept_name, variable_value(kept_value)};
    if (at == s->n_settings) s->n_settings++;
    if (!is_used) strbuf_printf(out, "The model's chat template does not use %.*s.\n", STR_ARG(name));
}

static ChatCommandResult do_set(ChatSession *s, Str argument, StrBuf *out) {
    Str name = take_word(&argument), value = argument;
    uint64_t whole;
    if (name.len == 0) {
        list_settings(s, out);
        return CHAT_COMMAND_DONE;
    }
    if (value.len == 0) {
        strbuf_put(out, STR("Write /set NAME VALUE, as in /set temperature 0.2.\n"));
        return CHAT_COMMAND_DONE;
    }
    if (str_eq(name, STR("seed")) && str_parse_u64(value, &whole)) {
        s->sampler.seed = whole;
        s->keeps_seed = true;
        return CHAT_COMMAND_DONE;
    }
    if (str_eq(name, STR("seed"))) {
        s->keeps_seed = !str_eq(value, STR("random"));
        if (s->keeps_seed) strbuf_put(out, STR("seed must be a whole number, or random.\n"));
        s->keeps_seed = false;
        return CHAT_COMMAND_DONE;
    }
    if (str_eq(name, STR("max_tokens"))) {
        if (str_parse_u64(value, &whole) && whole <= VOCAB_MAX) s->max_tokens = (uint32_t)whole;
        else strbuf_put(out, STR("max_tokens must be a whole number; 0 sets no limit.\n"));
        return CHAT_COMMAND_DONE;
    }
    for (size_t i = 0; i < COUNT_OF(settings); i++) {
        if (!str_eq(name, str_from_c(settings[i].name))) continue;
        (void)set_number(s, &settings[i], value, out);
        return CHAT_COMMAND_DONE;
    }
    set_variable(s, name, value, out);
    return CHAT_COMMAND_DONE;
}

// ---- the others ----

static ChatCommandResult do_clear(ChatSession *s, Str argument, StrBuf *out) {
    (void)argument;
    chat_session_clear(s);
    strbuf_put(out, STR("A new conversation.\n"));
    return CHAT_COMMAND_DONE;
}

static ChatCommandResult do_system(ChatSession *s, Str argument, StrBuf *out) {
    Error err;
    if (argument.len == 0 && s->system.text.len == 0) strbuf_put(out, STR("There is no system message.\n"));
    if (argument.len == 0 && s->system.text.len > 0) strbuf_printf(out, "%.*s\n", STR_ARG(s->system.text));
    if (argument.len == 0) return CHAT_COMMAND_DONE;
    bool takes_away = str_eq(argument, STR("none"));
    if (!chat_session_set_system(s, takes_away ? (Str){0} : argument, &err))
        strbuf_printf(out, "%s.\n", err.message);
    return CHAT_COMMAND_DONE;
}

static ChatCommandResult do_undo(ChatSession *s, Str argument, StrBuf *out) {
    (void)argument;
    bool done = chat_session_undo(s, true);
    strbuf_put(out, done ? STR("The last message and its answer are taken back.\n")
                         : STR("There is nothing to take back.\n"));
    return CHAT_COMMAND_DONE;
}

static ChatCommandResult do_regenerate(ChatSession *s, Str argument, StrBuf *out) {
    (void)argument;
    if (chat_session_undo(s, false)) return CHAT_COMMAND_ANSWER;
    strbuf_put(out, STR("There is no answer yet.\n"));
    return CHAT_COMMAND_DONE;
}

static ChatCommandResult do_quit(ChatSession *s, Str argument, StrBuf *out) {
    (void)s, (void)argument, (void)out;
    return CHAT_COMMAND_QUIT;
}

static Handler do_help;

static const struct {
    const char *name, *argument, *help;
    Handler *run;
} commands[] = {
    {"/help", "", "show this", do_help},
    {"/clear", "", "begin a new conversation", do_clear},
    {"/system", "TEXT", "set the system message; none takes it away", do_system},
    {"/set", "NAME VALUE", "temperature, top_p, max_tokens, ...; alone: show them", do_set},
    {"/undo", "", "take the last message and its answer back", do_undo},
    {"/regenerate", "", "answer the last message again", do_regenerate},
    {"/quit", "", "leave, as Ctrl-D does", do_quit},
};

static ChatCommandResult do_help(ChatSession *s, Str argument, StrBuf *out) {
    (void)s, (void)argument;
    for (size_t i = 0; i < COUNT_OF(commands); i++) {
        char words[64];
        StrBuf b = STRBUF(words);
        strbuf_printf(&b, "%s%s%s", commands[i].name, *commands[i].argument ? " " : "", commands[i].argument);
        strbuf_printf(out, "%-16s  %s\n", words, commands[i].help);
    }
    strbuf_put(out, STR("\nA line that ends in \\ goes on in the next one; so does Alt-Enter. "
                        "Ctrl-C stops an answer.\n"));
    return CHAT_COMMAND_DONE;
}

ChatCommandResult chat_command(ChatSession *s, Str line, StrBuf *out) {
    Str argument = trim(line), name = take_word(&argument);
    for (size_t i = 0; i < COUNT_OF(commands); i++)
        if (str_eq(name, str_from_c(commands[i].name))) return commands[i].run(s, argument, out);
    strbuf_printf(out, "%.*s is no command; /help lists them. To send a line that begins with /, write //.\n",
                  (int)min_u64(name.len, 40), name.ptr);
    return CHAT_COMMAND_DONE;
}
