// Calls that the model makes where it likes: text is free until a call's mark comes, and again behind the
// call.
//
//     free (mark, what the format has behind it, free)*
//
// Where a mark is a token, or begins with one, that token is what free text lacks; else the mark's text.
#include "base/strbuf.h"
#include "chat/answer_grammar_internal.h"
#include "grammar/rx.h"

#include <stdio.h>

enum { TRIGGERS_MAX = 3 };

typedef struct {
    const CallMaker *m;
    GrammarNode calls[TRIGGERS_MAX]; // with their marks
    uint32_t n_calls;
    int32_t ids[TRIGGERS_MAX]; // tokens that begin one
    uint32_t n_ids;
    Str texts[TRIGGERS_MAX]; // … and texts
    uint32_t n_texts;
} Triggers;

// The first mark in the literal that is a token: its id, and where it stands.
static int32_t find_token(const CallMaker *m, const char *literal, size_t *at, size_t *length) {
    for (*at = 0; literal[*at]; ++*at) {
        for (uint32_t i = 0; i < FORMAT_MARKS_MAX && m->format->marks[i]; i++) {
            Str mark = str_from_c(m->format->marks[i]);
            int32_t id = tokenizer_token_by_text(m->answer->tokenizer, mark);
            *length = mark.len;
            if (id != TOKEN_NONE && str_starts_with(str_from_c(literal + *at), mark)) return id;
        }
    }
    return TOKEN_NONE;
}

static bool has_id(const Triggers *t, int32_t id) {
    for (uint32_t i = 0; i < t->n_ids; i++)
        if (t->ids[i] == id) return true;
    return false;
}

static void add_trigger(Triggers *t, const char *literal, GrammarNode behind) {
    GrammarBuilder *b = t->m->b;
    size_t at, length;
    if (!literal || behind == GRAMMAR_NEVER) return;
    int32_t id = find_token(t->m, literal, &at, &length);
    GrammarNode parts[3] = {GRAMMAR_EMPTY, GRAMMAR_EMPTY, behind};
    if (id == TOKEN_NONE) {
        t->texts[t->n_texts++] = str_from_c(literal);
        parts[0] = grammar_add_literal(b, str_from_c(literal));
    } else {
        if (!has_id(t, id)) t->ids[t->n_ids++] = id;
        parts[0] = grammar_add_tokens(b, &id, 1);
        parts[1] = call_add_frame(t->m, literal + at + length);
    }
    t->calls[t->n_calls++] = grammar_add_sequence(b, parts, COUNT_OF(parts));
}

// The first call of a section with its mark, and others.
static GrammarNode add_section(const CallMaker *m, GrammarNode call, uint32_t most) {
    GrammarNode blanks = answer_add_blanks(m->b);
    GrammarNode one[] = {blanks, call_add_frame(m, m->format->open), call_add_behind_open(m, call, 1)};
    GrammarNode parts[] = {grammar_add_repeat(m->b, grammar_add_sequence(m->b, one, COUNT_OF(one)), 1, most),
                           call_add_frame(m, m->format->section_close)};
    return grammar_add_sequence(m->b, parts, COUNT_OF(parts));
}

// Behind the opening that goes without the usual one.
static GrammarNode add_behind_other(const CallMaker *m, GrammarNode bare, GrammarNode call, uint32_t most) {
    GrammarNode end = call_add_frame(m, m->format->close), ends[] = {GRAMMAR_EMPTY, end};
    GrammarNode other = bare != GRAMMAR_NEVER ? bare : call_add_list_rest(m, call, most);
    GrammarNode parts[] = {other, grammar_add_choice(m->b, ends, COUNT_OF(ends))};
    return grammar_add_sequence(m->b, parts, COUNT_OF(parts));
}

// Text in which no call begins.
static GrammarNode add_free(const Triggers *t) {
    GrammarBuilder *b = t->m->b;
    const AnswerFormats *formats = t->m->answer->formats;
    int32_t others[ANSWER_MARKS_MAX];
    uint32_t n = 0;
    if (!t->n_texts)
        return grammar_add_repeat(b, grammar_add_tokens_except(b, t->ids, t->n_ids), 0, GRAMMAR_UNBOUNDED);
    GrammarNode text = grammar_add_text_without(b, t->texts, t->n_texts);
    for (uint32_t i = 0; i < formats->n_marks; i++) {
        int32_t id = formats->marks[i];
        if (!has_id(t, id) && !tokenizer_is_end(t->m->answer->tokenizer, id)) others[n++] = id;
    }
    if (!n) return text;
    GrammarNode next[] = {grammar_add_tokens(b, others, n), text};
    GrammarNode parts[] = {
        text, grammar_add_repeat(b, grammar_add_sequence(b, next, COUNT_OF(next)), 0, GRAMMAR_UNBOUNDED)};
    return grammar_add_sequence(b, parts, COUNT_OF(parts));
}

static GrammarNode add_turns(const Triggers *t, uint32_t most) {
    const ToolFormat *f = t->m->format;
    GrammarBuilder *b = t->m->b;
    GrammarNode free = add_free(t), call = grammar_add_choice(b, t->calls, t->n_calls);
    // An object behind an object would be read as the next call where nothing closes the first one.
    bool text_follows = f->close || f->section_close || !f->name_key;
    GrammarNode next[] = {call, text_follows ? free : answer_add_blanks(b)};
    GrammarNode parts[] = {free, grammar_add_repeat(b, grammar_add_sequence(b, next, COUNT_OF(next)), 0,
                                                    most == 1 ? 1 : GRAMMAR_UNBOUNDED)};
    return grammar_add_sequence(b, parts, COUNT_OF(parts));
}

// Text that does not begin as a call without marks does, and has no mark of one in it.
static bool add_plain_text(const CallMaker *m, const Str *mark, GrammarNode *out, Error *err) {
    char pattern[96];
    StrBuf text = STRBUF(pattern);
    strbuf_printf(&text, "[ \\t\\n\\r]*([^ \\t\\n\\r\\%c][\\s\\S]*)?", m->format->bare[0]);
    Arena scratch = m->scratch;
    LangMaker maker = {.keep = m->keep, .work_max = SCHEMA_WORK_MAX};
    Dfa *dfa = arena_new(m->keep, Dfa, 1);
    if (!dfa || !arena_split(&scratch, arena_left(&scratch) / 2, &maker.scratch))
        return error_set(err, ERR_NO_MEMORY, "no memory for the calls");
    Rx rx = rx_begin(&scratch);
    uint32_t root;
    Lang lang;
    if (!rx_read_pattern(&rx, strbuf_str(&text), RX_WHOLE, &maker, &root, err) ||
        !rx_compile(&rx, root, &maker, &lang, err) ||
        !dfa_from_lang(&maker, &lang, LANG_UTF8, (Str){0}, (Str){0}, dfa, err) ||
        (mark && !dfa_without_text(&maker, dfa, *mark, false, dfa, err)))
        return false;
    *out = grammar_add_dfa(m->b, dfa);
    return true;
}

// An answer that begins with a bracket is a call there.
static bool add_bare(const CallMaker *m, const Triggers *t, GrammarNode call, uint32_t most, GrammarNode *out,
                     Error *err) {
    GrammarNode text, blanks = answer_add_blanks(m->b);
    if (!add_plain_text(m, t->n_texts ? &t->texts[0] : NULL, &text, err)) return false;
    GrammarNode list[] = {grammar_add_literal(m->b, STR("[")), call_add_list_rest(m, call, most)};
    GrammarNode bare[] = {blanks, call_is_listed(m) ? grammar_add_sequence(m->b, list, 2) : call};
    GrammarNode marked[] = {text,
                            grammar_add_repeat(m->b, grammar_add_choice(m->b, t->calls, t->n_calls), 0, 1)};
    GrammarNode ways[] = {grammar_add_sequence(m->b, bare, COUNT_OF(bare)),
                          t->n_calls ? grammar_add_sequence(m->b, marked, COUNT_OF(marked)) : text};
    *out = grammar_add_choice(m->b, ways, COUNT_OF(ways));
    return true;
}

// Each part has a name: that of its tool, or the one of content.
static GrammarNode add_named_parts(const CallMaker *m, GrammarNode call, uint32_t most) {
    const ToolFormat *f = m->format;
    GrammarBuilder *b = m->b;
    Str open = str_from_c(f->open);
    GrammarNode name[] = {grammar_add_literal(b, str_from_c(f->content_name)),
                          call_add_frame(m, f->after_names[0])};
    GrammarNode head = grammar_add_sequence(b, name, COUNT_OF(name));
    GrammarNode last[] = {head, grammar_add_text_without(b, &open, 1)};
    GrammarNode more[] = {head, grammar_add_text_until(b, &open, 1)};
    GrammarNode called[] = {call, answer_add_blanks(b), grammar_add_literal(b, open)};
    GrammarNode turns[] = {grammar_add_sequence(b, more, COUNT_OF(more)),
                           grammar_add_sequence(b, called, COUNT_OF(called))};
    GrammarNode ends[] = {grammar_add_sequence(b, last, COUNT_OF(last)), call};
    uint32_t before = most == 1 ? 1 : GRAMMAR_UNBOUNDED;
    GrammarNode parts[] = {grammar_add_repeat(b, grammar_add_choice(b, turns, most == 1 ? 1 : 2), 0, before),
                           grammar_add_choice(b, ends, COUNT_OF(ends))};
    GrammarNode whole = grammar_add_sequence(b, parts, COUNT_OF(parts));
    if (m->answer->opening == ANSWER_OPENS_HEADER) return whole;
    GrammarNode opened[] = {grammar_add_text_until(b, &open, 1), whole};
    GrammarNode ways[] = {grammar_add_text_without(b, &open, 1),
                          grammar_add_sequence(b, opened, COUNT_OF(opened))};
    return grammar_add_choice(b, ways, COUNT_OF(ways));
}

bool answer_add_optional_calls(const CallMaker *m, GrammarNode call, GrammarNode bare, uint32_t most,
                               GrammarNode *out, Error *err) {
    const ToolFormat *f = m->format;
    Triggers t = {.m = m};
    if (f->content_name) {
        *out = add_named_parts(m, call, most);
        return true;
    }
    if (f->section_open) add_trigger(&t, f->section_open, add_section(m, call, most));
    add_trigger(&t, f->open, f->open ? call_add_behind_open(m, call, most) : GRAMMAR_NEVER);
    char opening[32] = ""; // a word like others, where no list comes
    if (f->open_too) {
        snprintf(opening, sizeof opening, "%s%s", f->open_too, bare == GRAMMAR_NEVER ? "[" : "");
        add_trigger(&t, opening, add_behind_other(m, bare, call, most));
    }
    if (f->bare) return add_bare(m, &t, call, most, out, err);
    *out = add_turns(&t, most);
    return true;
}
