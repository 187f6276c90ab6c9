#include "answer_run.h"

#include "json_vocab.h"
#include "runner.h"
#include "tokenizer_vectors.h"

static void put_added_token(StrBuf *b, uint32_t id, Str text) {
    strbuf_printf(b, "%s{\"id\":%u,\"content\":\"", b->len > 1 ? "," : "", id);
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == '"') strbuf_put_char(b, '\\');
        strbuf_put_char(b, text.ptr[i]);
    }
    strbuf_put(b, STR("\",\"special\":true}"));
}

const Tokenizer *answer_vocabulary(const char *marks) {
    char added[4096];
    StrBuf b = STRBUF(added);
    Str rest = str_from_c(marks);
    strbuf_put_char(&b, '[');
    for (uint32_t id = 256; rest.len; id++) {
        const char *space = memchr(rest.ptr, ' ', rest.len);
        size_t end = space ? (size_t)(space - rest.ptr) : rest.len;
        put_added_token(&b, id, str_slice(rest, 0, end));
        rest = str_slice(rest, end < rest.len ? end + 1 : end, rest.len);
    }
    strbuf_put_char(&b, ']');
    JsonVocab v = {.added_tokens = added,
                   .pre_tokenizer = "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}",
                   .decoder = "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}"};
    Str json = json_vocab_write(&v, vectors_arena());
    Tokenizer *t = NULL;
    Error err = {0};
    if (!tokenizer_from_json(json, NULL, vectors_arena(), vectors_scratch(), &t, &err)) {
        FAIL("%s", err.message);
        test_end();
    }
    return t;
}

const AnswerTools *answer_tools(Str json) {
    Error err = {0};
    const AnswerTools *tools = NULL;
    const JsonNode *root = json_parse(json, vectors_arena(), &(JsonLimits){0}, &err);
    REQUIRE(root != NULL);
    REQUIRE(answer_tools_read(root, vectors_arena(), &tools, &err));
    return tools;
}

// ---- what comes out ----

typedef struct {
    StrBuf *out;
    int last; // kind, -1 before the first
    bool call_is_open;
    uint32_t calls;
} Transcript;

static void take_part(void *context, const AnswerPart *part) {
    Transcript *t = context;
    bool joins = t->last == (int)part->kind && part->kind <= ANSWER_REASONING;
    if (t->last == ANSWER_REASONING && !joins) strbuf_put_char(t->out, '}');
    if (part->kind == ANSWER_REASONING && !joins) strbuf_put(t->out, STR("{r:"));
    if (part->kind == ANSWER_CALL) {
        CHECK(!t->call_is_open && part->call == t->calls);
        strbuf_printf(t->out, "{f:%.*s|", STR_ARG(part->text));
        t->calls++;
    } else if (part->kind == ANSWER_CALL_END) {
        CHECK(t->call_is_open && part->call == t->calls - 1);
        CHECK(part->broken || part->text.len == 0);
        strbuf_put_char(t->out, '}');
    } else {
        CHECK(part->text.len > 0 && t->call_is_open == (part->kind == ANSWER_CALL_ARGUMENTS));
        strbuf_put(t->out, part->text);
    }
    if (part->kind >= ANSWER_CALL) t->call_is_open = part->kind != ANSWER_CALL_END;
    t->last = (int)part->kind;
}

// The mark at the front of the text, or TOKEN_NONE.
static int32_t mark_in_front(const AnswerRun *r, Str text, size_t *length) {
    int32_t found = TOKEN_NONE;
    *length = 0;
    for (uint32_t i = 0; i < r->formats->n_marks; i++) {
        Str mark = tokenizer_piece(r->tokenizer, r->formats->marks[i], true);
        if (mark.len <= *length || !str_starts_with(text, mark)) continue;
        found = r->formats->marks[i];
        *length = mark.len;
    }
    return found;
}

AnswerRunEnd answer_feed(const AnswerRun *r, Str text, AnswerSink sink) {
    static AnswerParser *p;
    if (!p) p = answer_parser_create(vectors_arena());
    uint64_t draws = 0;
    answer_parser_begin(p, r->formats, r->tokenizer, r->tools, r->opening);
    for (size_t at = 0; at < text.len;) {
        size_t length, piece = 0;
        Str rest = str_slice(text, at, text.len);
        int32_t mark = mark_in_front(r, rest, &length);
        if (mark != TOKEN_NONE) {
            answer_parser_push_mark(p, mark, sink);
            at += length;
            continue;
        }
        bool spelled = text.ptr[at] == ANSWER_RUN_NOT_A_MARK;
        at += spelled;
        size_t limit = r->piece_max ? 1 + rng_philox(r->seed, draws++).word[0] % r->piece_max : text.len;
        if (spelled) piece++;
        while (at + piece < text.len && piece < limit && text.ptr[at + piece] != ANSWER_RUN_NOT_A_MARK &&
               mark_in_front(r, str_slice(text, at + piece, text.len), &length) == TOKEN_NONE)
            piece++;
        answer_parser_push(p, str_slice(text, at, at + piece), sink);
        at += piece;
    }
    AnswerRunEnd end = {.reasons = answer_parser_is_reasoning(p)};
    answer_parser_end(p, r->is_cut, sink);
    end.calls = answer_parser_calls(p);
    return end;
}

AnswerRunEnd answer_run(const AnswerRun *r, Str text, StrBuf *out) {
    Transcript transcript = {.out = out, .last = -1};
    AnswerRunEnd end = answer_feed(r, text, (AnswerSink){take_part, &transcript});
    if (transcript.last == ANSWER_REASONING) strbuf_put_char(out, '}');
    CHECK(!transcript.call_is_open);
    return end;
}
