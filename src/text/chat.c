#include "text/chat.h"

#include "base/strbuf.h"
#include "text/tokenizer_internal.h"

// A turn is: open, role, middle, message, close. Tokens and text are kept apart, so that a message cannot
// forge a turn.
typedef struct {
    const char *name;
    const char *open;   // control token; NULL where the role has one of its own
    const char *system; // role names, or their control tokens; system NULL: it joins the user's message
    const char *user;
    const char *assistant;
    const char *middle;      // control token after the role, or NULL
    const char *middle_text; // text after it
    const char *close;       // control token after the message
    const char *close_text;
    bool opens_with_role_only; // the assistant's turn: the model writes what follows the role itself
} ChatForm;

static const ChatForm forms[] = {
    [CHAT_PLAIN] = {.name = "plain"},
    [CHAT_CHATML] = {"chatml", "<|im_start|>", "system", "user", "assistant", NULL, "\n", "<|im_end|>", "\n",
                     false},
    [CHAT_LLAMA3] = {"llama3", "<|start_header_id|>", "system", "user", "assistant", "<|end_header_id|>",
                     "\n\n", "<|eot_id|>", "", false},
    [CHAT_GPT_OSS] = {"gpt-oss", "<|start|>", "system", "user", "assistant", "<|message|>", "", "<|end|>", "",
                      true},
    [CHAT_PHI3] = {"phi3", NULL, "<|system|>", "<|user|>", "<|assistant|>", NULL, "\n", "<|end|>", "\n",
                   false},
    [CHAT_GEMMA] = {"gemma", "<start_of_turn>", NULL, "user", "model", NULL, "\n", "<end_of_turn>", "\n",
                    false},
};

// What a form is made of: a control token's text, or plain text.
typedef struct {
    Str text;
    bool is_token;
} ChatPart;

enum { CHAT_PARTS_MAX = 24 };

typedef struct {
    ChatPart parts[CHAT_PARTS_MAX];
    uint32_t count;
} ChatParts;

static bool has_token(const Tokenizer *t, const char *text) {
    int32_t id = tokenizer_token_by_text(t, str_from_c(text));
    return id != TOKEN_NONE && tokenizer_is_special(t, id);
}

static bool form_fits(const Tokenizer *t, const ChatForm *form) {
    const char *const needed[] = {form->open,
                                  form->middle,
                                  form->close,
                                  form->open ? NULL : form->system,
                                  form->open ? NULL : form->user,
                                  form->open ? NULL : form->assistant};
    for (size_t i = 0; i < COUNT_OF(needed); i++) {
        if (needed[i] && !has_token(t, needed[i])) return false;
    }
    return true;
}

ChatStyle chat_style(const Tokenizer *t) {
    for (size_t i = CHAT_PLAIN + 1; i < COUNT_OF(forms); i++) {
        if (form_fits(t, &forms[i])) return (ChatStyle)i;
    }
    return CHAT_PLAIN;
}

enum { TEMPLATE_MARKS_MAX = 3 };

// Line ends may be written as such, or as Jinja's escape, alone or in a string of their own.
static const struct {
    const char *with[TEMPLATE_MARKS_MAX], *without[TEMPLATE_MARKS_MAX];
    const char *line_end_behind; // a mark that a line's end follows
} template_marks[] = {
    [CHAT_PLAIN] = {{0}, {0}, NULL},
    [CHAT_CHATML] = {{"<|im_start|>", "<|im_end|>"}, {"<|im_sep|>", "[/INST]"}, "<|im_end|>"},
    [CHAT_LLAMA3] = {{"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"},
                     {"GPT4 Correct", "<|user|>"},
                     NULL},
    [CHAT_GPT_OSS] = {{"<|start|>", "<|message|>", "<|end|>"}, {0}, NULL},
    [CHAT_PHI3] = {{"<|assistant|>", "<|end|>"}, {"<|im_start|>"}, "<|end|>"},
    [CHAT_GEMMA] = {{"<start_of_turn>", "<end_of_turn>"}, {0}, NULL},
};

static bool contains(Str text, const char *part) {
    return text.len && memmem(text.ptr, text.len, part, strlen(part)) != NULL;
}

static bool has_line_end_behind(Str template, const char *mark) {
    static const char *const ends[] = {"\n",         "\\n",      "' + '\\n", "'+'\\n",
                                       "\" + \"\\n", "' ~ '\\n", "'}}\n",    "' }}\n"};
    for (size_t i = 0; i < COUNT_OF(ends); i++) {
        char text[64];
        StrBuf b = STRBUF(text);
        strbuf_printf(&b, "%s%s", mark, ends[i]);
        strbuf_put_char(&b, 0);
        if (contains(template, text)) return true;
    }
    return false;
}

bool chat_fits_template(const Tokenizer *t, Str template) {
    ChatStyle style = chat_style(t);
    for (size_t i = 0; i < TEMPLATE_MARKS_MAX; i++) {
        const char *with = template_marks[style].with[i], *without = template_marks[style].without[i];
        if ((with && !contains(template, with)) || (without && contains(template, without))) return false;
    }
    const char *mark = template_marks[style].line_end_behind;
    return !mark || has_line_end_behind(template, mark);
}

const char *chat_style_name(ChatStyle style) {
    return forms[style].name;
}

static void add_part(ChatParts *p, Str text, bool is_token) {
    if (text.len) p->parts[p->count++] = (ChatPart){text, is_token};
}

static void add_token(ChatParts *p, const char *token) {
    if (token) add_part(p, str_from_c(token), true);
}

static void add_turn_start(ChatParts *p, const ChatForm *form, const char *role, bool role_only) {
    add_token(p, form->open);
    add_part(p, str_from_c(role), form->open == NULL);
    if (role_only) return;
    add_token(p, form->middle);
    add_part(p, str_from_c(form->middle_text), false);
}

static void add_turn_end(ChatParts *p, const ChatForm *form) {
    add_token(p, form->close);
    add_part(p, str_from_c(form->close_text), false);
}

static ChatParts make_parts(const Tokenizer *t, Str system, Str user) {
    const ChatForm *form = &forms[chat_style(t)];
    ChatParts p = {.count = 0};
    bool system_turn = system.len && form->system;
    if (system_turn) {
        add_turn_start(&p, form, form->system, false);
        add_part(&p, system, false);
        add_turn_end(&p, form);
    }
    if (form->user) add_turn_start(&p, form, form->user, false);
    if (system.len && !system_turn) {
        add_part(&p, system, false);
        add_part(&p, STR("\n\n"), false);
    }
    add_part(&p, user, false);
    if (form->user) {
        add_turn_end(&p, form);
        add_turn_start(&p, form, form->assistant, form->opens_with_role_only);
    }
    return p;
}

bool chat_format(const Tokenizer *t, Str system, Str user, Arena *arena, Str *out) {
    ChatParts p = make_parts(t, system, user);
    StrBuf b = strbuf_begin_in_arena(arena);
    for (uint32_t i = 0; i < p.count; i++)
        strbuf_put(&b, p.parts[i].text);
    *out = strbuf_end_in_arena(&b, arena);
    return !b.truncated && b.cap > 0;
}

// Text between two control tokens is one run: it is encoded as a whole, as it would be in the finished
// prompt. `before` is the control token in front of it, which may take the white space behind itself.
static bool encode_run(const Tokenizer *t, int32_t before, const ChatPart *parts, uint32_t count,
                       Arena scratch, TokenIds *out, Error *err) {
    StrBuf b = strbuf_begin_in_arena(&scratch);
    for (uint32_t i = 0; i < count; i++)
        strbuf_put(&b, parts[i].text);
    Str text = tokenizer_text_behind(t, before, strbuf_end_in_arena(&b, &scratch));
    Arena ids;
    if (b.truncated || !arena_split(&scratch, tokenizer_encode_ids_bytes(t, text.len), &ids)) {
        return error_set(err, ERR_NO_MEMORY, "no memory to encode the chat prompt");
    }
    return tokenizer_encode(t, text, before == TOKEN_NONE ? 0 : TOKENIZER_CONTINUES, &ids, scratch, out, err);
}

bool chat_encode(const Tokenizer *t, Str system, Str user, Arena *arena, Arena scratch, TokenIds *out,
                 Error *err) {
    ChatParts p = make_parts(t, system, user);
    int32_t *ids = (int32_t *)arena_alloc(arena, 0, 1, _Alignof(int32_t));
    size_t count = 0;
    if (tokenizer_adds_bos(t)) {
        int32_t *bos = arena_new(arena, int32_t, 1);
        if (!bos) return error_set(err, ERR_NO_MEMORY, "no memory for the chat prompt");
        *bos = tokenizer_bos(t);
        count++;
    }
    int32_t token = TOKEN_NONE; // the last one
    for (uint32_t i = 0; i < p.count;) {
        TokenIds run = {&token, 1};
        uint32_t n = 1;
        if (p.parts[i].is_token) {
            token = tokenizer_token_by_text(t, p.parts[i].text);
        } else {
            while (i + n < p.count && !p.parts[i + n].is_token)
                n++;
            if (!encode_run(t, token, p.parts + i, n, scratch, &run, err)) return false;
        }
        int32_t *next = arena_new(arena, int32_t, run.count); // follows the ids before it
        if (!next) return error_set(err, ERR_NO_MEMORY, "no memory for the chat prompt");
        memcpy(next, run.ptr, run.count * sizeof *next);
        count += run.count;
        i += n;
    }
    *out = (TokenIds){ids, count};
    return true;
}
