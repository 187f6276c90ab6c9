// The target of fuzz_targets.h that reads answers of models.
#include "base/strbuf.h"
#include "base/utf8.h"
#include "chat/answer_internal.h"
#include "fuzz_targets.h"
#include "json_vocab.h"
#include "os/os.h"

#include <stdlib.h>

enum { FUZZ_ARENA_BYTES = 64 << 20, FUZZ_ANSWER_BYTES_MAX = 24 * 1024, FUZZ_OUT_BYTES = 1 << 20 };

static void fuzz_require(bool ok) {
    if (!ok) abort();
}

static Arena *fuzz_memory(void) {
    static Arena arena;
    if (!arena.next) arena = os_arena(FUZZ_ARENA_BYTES);
    return &arena;
}

// ---- what all inputs share ----

static void put_mark(StrBuf *b, const char *mark, uint32_t *id) {
    char token[128];
    StrBuf content = STRBUF(token);
    for (const char *c = mark; *c; c++)
        strbuf_printf(&content, *c == '"' ? "\\%c" : "%c", *c);
    if (memmem(b->ptr, b->len, token, content.len)) return; // of another format, too
    strbuf_printf(b, "%s{\"id\":%u,\"content\":\"%s\",\"special\":true}", *id == 256 ? "" : ",", *id, token);
    ++*id;
}

// Single bytes, and all formats' marks or none.
static const Tokenizer *make_vocabulary(bool with_marks) {
    static char added[1 << 16];
    StrBuf b = STRBUF(added);
    uint32_t id = 256;
    strbuf_put_char(&b, '[');
    const ToolFormat *f;
    const ReasoningFormat *r;
    for (uint32_t i = 0; with_marks && (f = answer_tool_format(i)); i++)
        for (uint32_t k = 0; k < FORMAT_MARKS_MAX && f->marks[k]; k++)
            put_mark(&b, f->marks[k], &id);
    for (uint32_t i = 0; with_marks && (r = answer_reasoning_format(i)); i++)
        for (uint32_t k = 0; k < REASONING_MARKS_MAX && r->marks[k]; k++)
            put_mark(&b, r->marks[k], &id);
    strbuf_put_char(&b, ']');
    JsonVocab v = {.added_tokens = added,
                   .pre_tokenizer = "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}",
                   .decoder = "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}"};
    Tokenizer *t = NULL;
    Error err;
    Arena scratch;
    fuzz_require(arena_split(fuzz_memory(), 16 << 20, &scratch));
    fuzz_require(
        tokenizer_from_json(json_vocab_write(&v, fuzz_memory()), NULL, fuzz_memory(), scratch, &t, &err));
    return t;
}

static const AnswerTools *make_tools(void) {
    static const char json[] =
        "[{\"function\":{\"name\":\"f\",\"parameters\":{\"properties\":{\"s\":{\"type\":\"string\"},"
        "\"i\":{\"type\":\"integer\"},\"n\":{\"type\":[\"string\",\"null\"]},\"o\":{\"type\":\"object\"}}}}},"
        "{\"function\":{\"name\":\"fg\"}}]";
    Error err;
    const AnswerTools *tools = NULL;
    const JsonNode *root = json_parse(str_from_c(json), fuzz_memory(), &(JsonLimits){0}, &err);
    fuzz_require(root && answer_tools_read(root, fuzz_memory(), &tools, &err));
    return tools;
}

typedef struct {
    const Tokenizer *vocabularies[2];
    const AnswerTools *tools;
    AnswerParser *parser;
    uint32_t n_formats, n_reasoning;
} AnswerFixture;

static AnswerFixture *fixture(void) {
    static AnswerFixture f;
    if (f.parser) return &f;
    f.vocabularies[0] = make_vocabulary(false);
    f.vocabularies[1] = make_vocabulary(true);
    f.tools = make_tools();
    while (answer_tool_format(f.n_formats))
        f.n_formats++;
    while (answer_reasoning_format(f.n_reasoning))
        f.n_reasoning++;
    f.parser = answer_parser_create(fuzz_memory());
    return &f;
}

// ---- what comes out ----

typedef struct {
    AnswerParser *parser;
    StrBuf out;     // all of it, with a byte for each change of kind
    StrBuf content; // all text that is of no call
    JsonCheck arguments;
    bool arguments_ok, call_is_open, reasoned;
    int last;
    uint32_t calls, whole;
} AnswerRecord;

static void record_part(void *context, const AnswerPart *part) {
    AnswerRecord *r = context;
    size_t taken;
    bool text = part->kind <= ANSWER_REASONING;
    fuzz_require((part->text.len > 0) == (part->kind != ANSWER_CALL_END) || part->broken);
    fuzz_require(r->call_is_open == (part->kind == ANSWER_CALL_ARGUMENTS || part->kind == ANSWER_CALL_END));
    if (part->kind == ANSWER_CALL) {
        fuzz_require(part->call == r->calls++);
        fuzz_require(str_eq(part->text, STR("f")) || str_eq(part->text, STR("fg")));
        r->arguments = json_check_begin();
        r->arguments_ok = true;
    } else if (!text) {
        fuzz_require(part->call == r->calls - 1);
    }
    if (part->kind == ANSWER_CALL_ARGUMENTS)
        r->arguments_ok = r->arguments_ok &&
                          json_check_push(&r->arguments, part->text, &taken) != JSON_CHECK_BAD &&
                          taken == part->text.len;
    // What counts has arguments that are a JSON object; those of others are the beginning of one.
    if (part->kind == ANSWER_CALL_END) fuzz_require(r->arguments_ok);
    r->call_is_open = part->kind == ANSWER_CALL || part->kind == ANSWER_CALL_ARGUMENTS;
    r->reasoned = r->reasoned || part->kind == ANSWER_REASONING;
    if (r->last != (int)part->kind) strbuf_put_char(&r->out, (char)('0' + part->kind));
    r->last = (int)part->kind;
    strbuf_put(&r->out, part->text);
    if (text) strbuf_put(&r->content, part->text);
}

typedef struct {
    AnswerFormats formats;
    const Tokenizer *tokenizer;
    const AnswerTools *tools;
    AnswerOpening opening;
} AnswerSetting;

static int32_t mark_in_front(const AnswerSetting *s, Str text, size_t *length) {
    int32_t found = TOKEN_NONE;
    *length = 0;
    for (uint32_t i = 0; i < s->formats.n_marks; i++) {
        Str mark = tokenizer_piece(s->tokenizer, s->formats.marks[i], true);
        if (mark.len <= *length || !str_starts_with(text, mark)) continue;
        found = s->formats.marks[i];
        *length = mark.len;
    }
    return found;
}

// Marks are pushed as such; pieces of other text are whole characters where the text is.
static void feed(const AnswerSetting *s, Str text, uint32_t piece_max, FuzzDice *dice, AnswerRecord *r) {
    AnswerSink sink = {record_part, r};
    answer_parser_begin(r->parser, &s->formats, s->tokenizer, s->tools, s->opening);
    while (text.len) {
        size_t length, piece = 0, most = piece_max ? 1 + fuzz_roll(dice, piece_max) : text.len;
        int32_t mark = mark_in_front(s, text, &length);
        if (mark != TOKEN_NONE) {
            answer_parser_push_mark(r->parser, mark, sink);
            text = str_slice(text, length, text.len);
            continue;
        }
        do {
            uint32_t codepoint;
            size_t character = utf8_decode(str_slice(text, piece, text.len), &codepoint);
            piece += character ? character : 1;
        } while (piece < most && piece < text.len &&
                 mark_in_front(s, str_slice(text, piece, text.len), &length) == TOKEN_NONE);
        piece = (size_t)min_u64(piece, text.len);
        answer_parser_push(r->parser, str_slice(text, 0, piece), sink);
        text = str_slice(text, piece, text.len);
    }
    answer_parser_end(r->parser, false, sink);
    fuzz_require(!r->call_is_open);
    r->whole = answer_parser_calls(r->parser);
    fuzz_require(r->whole <= r->calls);
}

static bool is_subsequence(Str part, Str of) {
    size_t at = 0;
    for (size_t i = 0; i < of.len && at < part.len; i++)
        at += of.ptr[i] == part.ptr[at];
    return at == part.len;
}

void fuzz_model_answer(const uint8_t *data, size_t size) {
    static char *texts[4];
    static AnswerRecord records[2];
    AnswerFixture *f = fixture();
    AnswerSetting s;
    Error err;
    if (size < 3 || size > FUZZ_ANSWER_BYTES_MAX) return;
    const ToolFormat *tools = answer_tool_format(data[0] % (f->n_formats + 1));
    const ReasoningFormat *reasoning = answer_reasoning_format((data[1] >> 3) % (f->n_reasoning + 1));
    Str text = {(const char *)data + 3, size - 3};
    s.tokenizer = f->vocabularies[data[1] & 1];
    s.tools = data[1] & 2 ? NULL : f->tools;
    s.opening = (AnswerOpening)(data[2] % 3);
    fuzz_require(answer_formats_find((Str){0}, (Str){0}, s.tokenizer, tools ? tools->name : "none",
                                     reasoning ? reasoning->name : "none", &s.formats, &err));
    FuzzDice dice = {.key = data[2]};
    for (uint32_t i = 0; i < COUNT_OF(texts); i++)
        if (!texts[i]) fuzz_require((texts[i] = os_reserve(FUZZ_OUT_BYTES)) != NULL);
    for (uint32_t i = 0; i < COUNT_OF(records); i++) {
        records[i] = (AnswerRecord){.parser = f->parser, .last = -1};
        records[i].out = strbuf_from_memory(texts[2 * i], FUZZ_OUT_BYTES);
        records[i].content = strbuf_from_memory(texts[2 * i + 1], FUZZ_OUT_BYTES);
        feed(&s, text, i == 0 ? 0 : 1 + data[2] / 3 % 16, &dice, &records[i]);
        fuzz_require(!records[i].out.truncated);
    }
    const AnswerRecord *r = &records[0];
    // However it was cut.
    bool ascii = utf8_valid_prefix(text) == text.len && text.len < ANSWER_HELD_BYTES_MAX / 2;
    fuzz_require(!ascii ||
                 (str_eq(strbuf_str(&r->out), strbuf_str(&records[1].out)) && r->whole == records[1].whole));
    // Nothing is invented, and without calls and reasoning nothing is lost.
    fuzz_require(is_subsequence(strbuf_str(&r->content), text));
    bool plain =
        r->calls == 0 && !reasoning && !answer_is_harmony(&s.formats) && !(tools && tools->content_name);
    if (plain) fuzz_require(str_eq(strbuf_str(&r->content), text));
    if (!s.tools) fuzz_require(r->calls == 0);
}
