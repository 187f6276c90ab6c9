#include "chat/answer_grammar_internal.h"

enum { BLANKS_MAX = 8, HARMONY_MESSAGES_MAX = 8 };

GrammarNode answer_add_blanks(GrammarBuilder *b) {
    static const Str blanks[] = {STR(" "), STR("\n"), STR("\t"), STR("\r")};
    return grammar_add_repeat(b, grammar_add_texts(b, blanks, COUNT_OF(blanks)), 0, BLANKS_MAX);
}

GrammarNode answer_add_mark(const AnswerGrammar *a, GrammarBuilder *b, const char *mark, int32_t *id) {
    Str text = str_from_c(mark);
    *id = tokenizer_token_by_text(a->tokenizer, text);
    return *id == TOKEN_NONE ? grammar_add_literal(b, text) : grammar_add_tokens(b, id, 1);
}

// The length of the mark that the text begins with, and its node; 0: there is none.
static size_t find_mark(const AnswerGrammar *a, GrammarBuilder *b, const char *const *marks, uint32_t n_max,
                        Str text, GrammarNode *out) {
    for (uint32_t i = 0; i < n_max && marks[i]; i++) {
        int32_t id;
        if (!str_starts_with(text, str_from_c(marks[i]))) continue;
        *out = answer_add_mark(a, b, marks[i], &id);
        return strlen(marks[i]);
    }
    return 0;
}

GrammarNode answer_add_frame(const AnswerGrammar *a, GrammarBuilder *b, const char *const *marks,
                             uint32_t n_max, const char *literal) {
    static const Str digits[] = {STR("0"), STR("1"), STR("2"), STR("3"), STR("4"),
                                 STR("5"), STR("6"), STR("7"), STR("8"), STR("9")};
    enum { PARTS_MAX = 16 };
    GrammarNode parts[PARTS_MAX], mark;
    uint32_t n = 0;
    Str rest = str_from_c(literal ? literal : "");
    while (rest.len && n < PARTS_MAX) {
        size_t length = find_mark(a, b, marks, n_max, rest, &mark);
        if (length) parts[n++] = mark;
        else if (*rest.ptr == ' ') parts[n++] = answer_add_blanks(b), length = 1;
        else if (*rest.ptr == '*') parts[n++] = grammar_add_texts(b, digits, 10), length = 1;
        else {
            while (++length < rest.len && rest.ptr[length] != ' ' && rest.ptr[length] != '*' &&
                   !find_mark(a, b, marks, n_max, str_slice(rest, length, rest.len), &mark)) {
            }
            parts[n++] = grammar_add_literal(b, str_slice(rest, 0, length));
        }
        rest = str_slice(rest, length, rest.len);
    }
    return grammar_add_sequence(b, parts, n);
}

// Anything up to a mark, and the mark.
static GrammarNode add_until(const AnswerGrammar *a, GrammarBuilder *b, const char *mark) {
    int32_t id;
    Str text = str_from_c(mark);
    GrammarNode close = answer_add_mark(a, b, mark, &id);
    if (id == TOKEN_NONE) return grammar_add_text_until(b, &text, 1);
    GrammarNode other = grammar_add_tokens_except(b, &id, 1);
    GrammarNode parts[] = {grammar_add_repeat(b, other, 0, GRAMMAR_UNBOUNDED), close};
    return grammar_add_sequence(b, parts, COUNT_OF(parts));
}

// ---- Harmony ----

// The text of a message. No mark may stand in it: it could begin a message of its own.
static bool add_message_text(const AnswerGrammar *a, GrammarBuilder *b, GrammarNode *out, Error *err) {
    const char *const *marks = answer_harmony_format()->marks;
    int32_t ids[FORMAT_MARKS_MAX];
    Str texts[FORMAT_MARKS_MAX];
    uint32_t n_ids = 0, n_texts = 0;
    for (uint32_t i = 0; i < FORMAT_MARKS_MAX && marks[i]; i++) {
        int32_t id = tokenizer_token_by_text(a->tokenizer, str_from_c(marks[i]));
        if (id == TOKEN_NONE) texts[n_texts++] = str_from_c(marks[i]);
        else if (!tokenizer_is_end(a->tokenizer, id)) ids[n_ids++] = id;
    }
    if (n_ids && n_texts)
        return error_set(err, ERR_INVALID_REQUEST,
                         "answers cannot be held to anything: the vocabulary lacks %.*s, a mark of harmony",
                         STR_ARG(texts[0]));
    *out = n_texts ? grammar_add_text_without(b, texts, n_texts)
                   : grammar_add_repeat(b, grammar_add_tokens_except(b, ids, n_ids), 0, GRAMMAR_UNBOUNDED);
    return true;
}

// The rest of a message, and its end.
static GrammarNode add_message(const AnswerGrammar *a, GrammarBuilder *b, GrammarNode text) {
    int32_t end;
    GrammarNode parts[] = {text, answer_add_mark(a, b, "<|end|>", &end)};
    return grammar_add_sequence(b, parts, COUNT_OF(parts));
}

static GrammarNode add_start(const AnswerGrammar *a, GrammarBuilder *b) {
    int32_t id;
    GrammarNode parts[] = {answer_add_mark(a, b, "<|start|>", &id), grammar_add_literal(b, STR("assistant"))};
    return grammar_add_sequence(b, parts, COUNT_OF(parts));
}

// <|channel|>CHANNEL<|message|>…
static GrammarNode add_on_channel(const AnswerGrammar *a, GrammarBuilder *b, GrammarNode channel,
                                  GrammarNode text) {
    int32_t id;
    GrammarNode parts[] = {answer_add_mark(a, b, "<|channel|>", &id), channel,
                           answer_add_mark(a, b, "<|message|>", &id), text};
    return grammar_add_sequence(b, parts, COUNT_OF(parts));
}

// Text or calls: what the model thinks and says on its way, and then its last words, or calls.
static bool add_harmony_optional(const AnswerGrammar *a, GrammarBuilder *b, GrammarNode calls,
                                 GrammarNode *out, Error *err) {
    static const Str channels[] = {STR("analysis"), STR("commentary")};
    GrammarNode text, start = add_start(a, b);
    if (!add_message_text(a, b, &text, err)) return false;
    GrammarNode message = add_message(a, b, text);
    GrammarNode before[] = {add_on_channel(a, b, grammar_add_texts(b, channels, COUNT_OF(channels)), message),
                            start};
    GrammarNode last[] = {add_on_channel(a, b, grammar_add_literal(b, STR("final")), text), calls};
    GrammarNode body[] = {
        grammar_add_repeat(b, grammar_add_sequence(b, before, COUNT_OF(before)), 0, HARMONY_MESSAGES_MAX),
        grammar_add_choice(b, last, COUNT_OF(last))};
    *out = grammar_add_sequence(b, body, COUNT_OF(body));
    if (a->opening == ANSWER_OPENS_HEADER) return true;
    GrammarNode behind[] = {message, start, *out};
    GrammarNode ways[] = {grammar_add_sequence(b, behind, COUNT_OF(behind)), text};
    *out = grammar_add_choice(b, ways, a->opening == ANSWER_OPENS_CONTENT ? 2 : 1);
    return true;
}

// <|channel|>analysis<|message|>…<|end|><|start|>assistant, any number of times, and then `last`.
static bool add_harmony(const AnswerGrammar *a, GrammarBuilder *b, GrammarNode last, GrammarNode *out,
                        Error *err) {
    int32_t id;
    GrammarNode text, start = add_start(a, b);
    if (!add_message_text(a, b, &text, err)) return false;
    GrammarNode message = add_message(a, b, text);
    GrammarNode thought[] = {add_on_channel(a, b, grammar_add_literal(b, STR("analysis")), message), start};
    GrammarNode thoughts =
        grammar_add_repeat(b, grammar_add_sequence(b, thought, COUNT_OF(thought)), 0, HARMONY_MESSAGES_MAX);
    // Where the prompt has opened a message, that one ends first; of content, without any more of it.
    GrammarNode end = answer_add_mark(a, b, "<|end|>", &id);
    GrammarNode rest = a->opening == ANSWER_OPENS_REASONING ? message : grammar_add_repeat(b, end, 0, 1);
    GrammarNode parts[] = {rest, start, thoughts, last};
    uint32_t skipped = a->opening == ANSWER_OPENS_HEADER ? 2 : 0;
    *out = grammar_add_sequence(b, parts + skipped, (uint32_t)COUNT_OF(parts) - skipped);
    return true;
}

static bool add_harmony_content(const AnswerGrammar *a, GrammarBuilder *b, GrammarNode content,
                                GrammarNode *out, Error *err) {
    GrammarNode last = add_on_channel(a, b, grammar_add_literal(b, STR("final")), content);
    *out = content;
    return a->opening == ANSWER_OPENS_CONTENT || add_harmony(a, b, last, out, err);
}

// ---- reasoning in front ----

bool answer_grammar_after_reasoning(const AnswerGrammar *a, GrammarBuilder *b, GrammarNode content,
                                    AnswerKind kind, GrammarNode *out, Error *err) {
    const ReasoningFormat *f = a->formats->reasoning;
    const ToolFormat *t = a->formats->tools;
    *out = content;
    if (answer_is_harmony(a->formats))
        return kind == ANSWER_MAY_CALL   ? add_harmony_optional(a, b, content, out, err)
               : kind == ANSWER_IS_CALLS ? add_harmony(a, b, content, out, err)
                                         : add_harmony_content(a, b, content, out, err);
    if (a->opening == ANSWER_OPENS_HEADER) { // only formats with a name for content have one
        GrammarNode parts[] = {grammar_add_literal(b, str_from_c(t->content_name)),
                               grammar_add_literal(b, str_from_c(t->after_names[0])), content};
        if (kind == ANSWER_IS_TEXT) *out = grammar_add_sequence(b, parts, COUNT_OF(parts));
        return true;
    }
    if (!f) return true;
    GrammarNode behind[] = {add_until(a, b, f->close), answer_add_blanks(b), content};
    GrammarNode closes = grammar_add_sequence(b, behind, COUNT_OF(behind));
    if (a->opening == ANSWER_OPENS_REASONING) {
        *out = closes;
        return true;
    }
    GrammarNode opens[] = {answer_add_frame(a, b, f->marks, REASONING_MARKS_MAX, f->open), closes};
    GrammarNode ways[] = {content, grammar_add_sequence(b, opens, COUNT_OF(opens))};
    *out = grammar_add_choice(b, ways, COUNT_OF(ways));
    return true;
}
