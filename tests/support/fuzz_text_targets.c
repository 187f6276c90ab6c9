// The targets of fuzz_targets.h that read patterns, vocabularies, text and messages.
#include "base/strbuf.h"
#include "base/utf8.h"
#include "fuzz_targets.h"
#include "json_vocab.h"
#include "os/os.h"
#include "template/template.h"
#include "text/detokenizer.h"
#include "text/nfc.h"
#include "text/pretokenizer.h"

#include <stdlib.h>

// Small, so that a vocabulary with an id of a million ends at once, for want of memory.
enum { FUZZ_ARENA_BYTES = 8 << 20, FUZZ_SCRATCH_BYTES = 48 << 20, FUZZ_TEXT_BYTES_MAX = 4096 };

static void fuzz_require(bool ok) {
    if (!ok) abort();
}

static Arena fuzz_arena(int which) {
    static Arena arenas[2];
    static const size_t sizes[2] = {FUZZ_ARENA_BYTES, FUZZ_SCRATCH_BYTES};
    if (!arenas[which].next) arenas[which] = os_arena(sizes[which]);
    return arenas[which];
}

// Two texts with a zero byte between; the second one is empty where there is none.
static void fuzz_split(Str input, Str *first, Str *second) {
    const char *zero = input.len ? memchr(input.ptr, 0, input.len) : NULL;
    size_t length = zero ? (size_t)(zero - input.ptr) : input.len;
    *first = str_slice(input, 0, length);
    *second = str_slice(input, zero ? length + 1 : length, input.len);
}

// ---- regular expressions ----

static void fuzz_cut(const Regex *re, Str text, SplitBehavior behavior, bool is_inverted, Arena scratch) {
    Pretokenizer p = {.levels = {{*re, behavior, is_inverted}}, .n_levels = 1};
    PretokenizerScan scan;
    Str piece;
    const char *at = text.ptr;
    fuzz_require(pretokenizer_begin(&p, text, &scratch, &scan));
    while (pretokenizer_next(&scan, &piece)) {
        fuzz_require(piece.len > 0 && piece.ptr >= at && piece.ptr + piece.len <= text.ptr + text.len);
        fuzz_require(piece.ptr == at || behavior == SPLIT_REMOVED);
        at = piece.ptr + piece.len;
    }
    fuzz_require(at == text.ptr + text.len || behavior == SPLIT_REMOVED);
}

void fuzz_regex(const uint8_t *data, size_t size) {
    Arena arena = fuzz_arena(0), scratch = fuzz_arena(1);
    Str pattern, text;
    Regex re;
    Error err = {0};
    fuzz_split((Str){(const char *)data, size}, &pattern, &text);
    if (!regex_compile(pattern, &arena, scratch, &re, &err)) {
        fuzz_require(err.code == ERR_UNSUPPORTED || err.code == ERR_NO_MEMORY);
        return;
    }
    for (int behavior = SPLIT_ISOLATED; behavior <= SPLIT_CONTIGUOUS; behavior++) {
        fuzz_cut(&re, text, (SplitBehavior)behavior, false, scratch);
        fuzz_cut(&re, text, (SplitBehavior)behavior, true, scratch);
    }
}

// ---- vocabularies ----

static void fuzz_encode(const Tokenizer *t, Arena arena, Arena scratch) {
    static const Str texts[] = {STR("a b\xFF <|im_end|>abcabc\xE2\x96\x81 12"), STR("e\xCC\x81<s> <s>x  \n"),
                                STR("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaabbbb")};
    Error err = {0};
    Detokenizer d;
    fuzz_require(detokenizer_init(&d, t, &arena));
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        Arena all = scratch, own, kept, rest = arena;
        TokenIds ids;
        if (!arena_split(&all, (size_t)tokenizer_encode_scratch_bytes(t, texts[i].len), &own) ||
            !arena_split(&rest, (size_t)tokenizer_encode_ids_bytes(t, texts[i].len), &kept))
            return;
        fuzz_require(tokenizer_encode(t, texts[i], TOKENIZER_ADD_SPECIAL | TOKENIZER_PARSE_SPECIAL, &kept,
                                      own, &ids, &err));
        for (size_t k = 0; k < ids.count; k++) {
            fuzz_require(ids.ptr[k] >= 0 && (uint32_t)ids.ptr[k] < tokenizer_vocab_size(t));
            (void)detokenizer_push(&d, ids.ptr[k]);
        }
        (void)detokenizer_flush(&d);
    }
}

void fuzz_tokenizer_json(const uint8_t *data, size_t size) {
    Arena arena = fuzz_arena(0), scratch = fuzz_arena(1);
    Tokenizer *t;
    Error err = {0};
    if (tokenizer_from_json((Str){(const char *)data, size}, NULL, &arena, scratch, &t, &err)) {
        fuzz_encode(t, arena, scratch);
        return;
    }
    fuzz_require(err.code == ERR_BAD_FILE || err.code == ERR_UNSUPPORTED || err.code == ERR_NO_MEMORY);
    fuzz_require(err.message[0] != 0);
}

void fuzz_vocabulary(const uint8_t *data, size_t size) {
    Arena arena = fuzz_arena(0), scratch = fuzz_arena(1);
    const GgufPart part = {data, size, "fuzz"};
    const GgufFile *file;
    Tokenizer *t;
    Error err = {0};
    if (!gguf_parse(&part, 1, &arena, &file, &err)) return;
    if (tokenizer_from_gguf(file, &arena, scratch, &t, &err)) fuzz_encode(t, arena, scratch);
    else fuzz_require(err.code != ERR_NONE && err.message[0] != 0);
}

// ---- text ----

static const Tokenizer *fuzz_sample(uint32_t which) {
    static Tokenizer *samples[JSON_VOCAB_SAMPLES];
    static Arena arena;
    Error err = {0};
    if (!arena.next) arena = os_arena(64u << 20);
    if (samples[which]) return samples[which];
    Str json = json_vocab_write(&json_vocab_samples[which], &arena);
    fuzz_require(json.len && tokenizer_from_json(json, NULL, &arena, fuzz_arena(1), &samples[which], &err));
    return samples[which];
}

static TokenIds fuzz_encode_text(const Tokenizer *t, Str text, uint32_t flags, Arena *arena) {
    Arena scratch = fuzz_arena(1);
    TokenIds ids;
    Error err = {0};
    fuzz_require(tokenizer_encode(t, text, flags, arena, scratch, &ids, &err));
    return ids;
}

// How many bytes at the front of s begin a character: table 3-7 of the Unicode standard, row by row.
static size_t fuzz_character(Str s, bool *whole) {
    static const uint8_t rows[][4] = {// first byte from, to; second byte from, to
                                      {0xC2, 0xDF, 0x80, 0xBF}, {0xE0, 0xE0, 0xA0, 0xBF},
                                      {0xE1, 0xEC, 0x80, 0xBF}, {0xED, 0xED, 0x80, 0x9F},
                                      {0xEE, 0xEF, 0x80, 0xBF}, {0xF0, 0xF0, 0x90, 0xBF},
                                      {0xF1, 0xF3, 0x80, 0xBF}, {0xF4, 0xF4, 0x80, 0x8F}};
    const uint8_t *b = (const uint8_t *)s.ptr;
    *whole = b[0] < 0x80;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        if (b[0] < rows[i][0] || b[0] > rows[i][1]) continue;
        size_t need = b[0] < 0xE0 ? 2 : b[0] < 0xF0 ? 3 : 4, n = 1;
        if (s.len > 1 && b[1] >= rows[i][2] && b[1] <= rows[i][3]) n = 2;
        while (n > 1 && n < need && n < s.len && b[n] >= 0x80 && b[n] <= 0xBF)
            n++;
        *whole = n == need;
        return n;
    }
    return 1;
}

// The text with U+FFFD for each longest beginning of a character that is none.
static Str fuzz_repair(Str text, Arena *arena) {
    StrBuf out = strbuf_begin_in_arena(arena);
    for (size_t at = 0, n; at < text.len; at += n) {
        bool whole;
        n = fuzz_character(str_slice(text, at, text.len), &whole);
        strbuf_put(&out, whole ? str_slice(text, at, at + n) : STR("\xEF\xBF\xBD"));
    }
    return strbuf_end_in_arena(&out, arena);
}

static Str fuzz_decode(const Tokenizer *t, TokenIds ids, Arena *arena) {
    Detokenizer d;
    fuzz_require(detokenizer_init(&d, t, arena));
    detokenizer_start_text(&d);
    StrBuf out = strbuf_begin_in_arena(arena);
    for (size_t i = 0; i <= ids.count; i++) {
        Str piece = i < ids.count ? detokenizer_push(&d, ids.ptr[i]) : detokenizer_flush(&d);
        fuzz_require(utf8_valid_prefix(piece) == piece.len);
        strbuf_put(&out, piece);
    }
    return strbuf_end_in_arena(&out, arena);
}

static void fuzz_normal_forms(Str text, Arena arena) {
    Str composed, decomposed, again;
    fuzz_require(nfc_normalize(text, &arena, &composed) && composed.len <= nfc_bytes_max(text.len));
    fuzz_require(nfd_normalize(text, &arena, &decomposed) && decomposed.len <= nfc_bytes_max(text.len));
    fuzz_require(nfc_normalize(composed, &arena, &again) && str_eq(composed, again));
    fuzz_require(nfc_normalize(decomposed, &arena, &again) && str_eq(composed, again));
    if (nfc_is_done(text)) fuzz_require(str_eq(text, composed));
}

void fuzz_text(const uint8_t *data, size_t size) {
    if (size > FUZZ_TEXT_BYTES_MAX) return;
    Arena arena = fuzz_arena(0);
    Str text = {(const char *)data, size};
    Str repaired = fuzz_repair(text, &arena);
    fuzz_normal_forms(text, arena);
    for (uint32_t which = 0; which < JSON_VOCAB_SAMPLES; which++) {
        Arena own = arena;
        Str expected = repaired;
        // The first one normalises, the others write spaces as a character that comes back as a space.
        if (which == 0 && !nfc_is_done(text)) continue;
        if (json_vocab_samples[which].characters && memmem(text.ptr, text.len, "\xE2\x96\x81", 3)) continue;
        const Tokenizer *t = fuzz_sample(which);
        TokenIds ids = fuzz_encode_text(t, text, 0, &own);
        // A space that was there takes the place of the one that is put in front.
        bool unmarked = which == 3 && text.len && text.ptr[0] == ' ';
        if (unmarked) expected = str_slice(expected, 1, expected.len);
        fuzz_require(str_eq(expected, fuzz_decode(t, ids, &own)));
        (void)fuzz_encode_text(t, text, TOKENIZER_PARSE_SPECIAL | TOKENIZER_ADD_SPECIAL, &own);
    }
}

// ---- chat templates ----

enum { FUZZ_TEMPLATE_STEPS = 100000 };

static void check_template_text(const TemplateText *text) {
    uint64_t total = 0;
    for (uint32_t i = 0; i < text->n_spans; i++) {
        fuzz_require(text->spans[i].length > 0);
        fuzz_require(i == 0 || text->spans[i].from_request != text->spans[i - 1].from_request);
        total += text->spans[i].length;
    }
    fuzz_require(total == text->text.len);
}

void fuzz_template(const uint8_t *data, size_t size) {
    Arena arena = fuzz_arena(0), scratch = fuzz_arena(1);
    Str source, json;
    Error err = {0};
    const Template *t;
    TemplateText text, again;
    fuzz_split((Str){(const char *)data, size}, &source, &json);
    if (!template_compile(source, &arena, &t, &err)) {
        fuzz_require(err.code == ERR_UNSUPPORTED || err.code == ERR_NO_MEMORY);
        return;
    }
    TemplateInput input = {.variables = json.len ? json_parse(json, &arena, &(JsonLimits){0}, &err) : NULL,
                           .unix_ms = 1700000000000,
                           .steps_max = FUZZ_TEMPLATE_STEPS};
    if (!template_render(t, &input, &scratch, &text, &err)) {
        fuzz_require(err.code == ERR_INVALID_REQUEST || err.code == ERR_NO_MEMORY);
        return;
    }
    check_template_text(&text);
    // A template that was rendered is as it was.
    fuzz_require(!template_render(t, &input, &scratch, &again, &err) || str_eq(text.text, again.text));
}
