#include "base/hash.h"
#include "base/strbuf.h"
#include "base/utf8.h"
#include "text/byte_level.h"
#include "text/tokenizer_internal.h"
#include "text/unicode.h"

// Texts of tokens that end a model's text or turn, in the formats of published models.
static const Str end_texts[] = {
    STR("<|im_end|>"),
    STR("<|eot_id|>"),
    STR("<|eom_id|>"),
    STR("<|end|>"),
    STR("<end_of_turn>"),
    STR("<turn|>"),
    STR("<|tool_response>"),
    STR("<|endoftext|>"),
    STR("<|end_of_text|>"),
    STR("<|return|>"),
    STR("<|call|>"),
    STR("<|calls|>"),
    STR("<|flush|>"),
    STR("<|eot|>"),
    STR("<|eom|>"),
    STR("</s>"),
    STR("<eos>"),
    STR("<EOT>"),
    STR("_<EOT>"),
    STR("[EOT]"),
    STR("[EOS]"),
    STR("[e~["),
    STR("<|END_OF_TURN_TOKEN|>"),
    STR("<end_of_utterance>"),
    STR("<\xEF\xBD\x9C"
        "end\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>"),
};

bool tokenizer_is_end_text(Str text) {
    for (size_t i = 0; i < COUNT_OF(end_texts); i++) {
        if (str_eq(text, end_texts[i])) return true;
    }
    return false;
}

void tokenizer_warn(Tokenizer *t, Arena *arena, const char *format, ...) {
    char text[ERROR_MESSAGE_BYTES];
    StrBuf message = STRBUF(text);
    va_list args;
    va_start(args, format);
    strbuf_vprintf(&message, format, args);
    va_end(args);
    Str kept = arena_copy_str(arena, strbuf_str(&message));
    if (kept.ptr && t->n_warnings < TOKENIZER_WARNINGS_MAX) t->warnings[t->n_warnings++] = kept.ptr;
}

static void mark_end(Tokenizer *t, int32_t id) {
    if (id != TOKEN_NONE) t->ends[id / 32] |= 1u << (id % 32);
}

// A token is found by its spelling, or by what the normaliser makes of it. The result may lie in scratch.
static Str special_spelling(const Tokenizer *t, uint32_t id, Arena *scratch) {
    Str text = t->vocab.texts[id];
    bool normalizes = t->special_flags[id] & SPECIAL_NORMALIZED;
    return !normalizes || normalizer_apply(&t->normalizer, text, true, scratch, &text) ? text : (Str){0};
}

static bool index_tries(Tokenizer *t, SpecialTries *tries, uint8_t flag, Arena *arena) {
    const Vocab *v = &t->vocab;
    uint64_t always_bytes = 0, parsed_bytes = 0;
    for (int round = 0; round < 2; round++) {
        if (round == 1 && (!special_init(&tries->always, always_bytes, arena) ||
                           !special_init(&tries->parsed, parsed_bytes, arena)))
            return false;
        for (uint32_t id = 0; id < v->count; id++) {
            bool user = v->types[id] == TOKEN_USER_DEFINED;
            if (!user && v->types[id] != TOKEN_CONTROL) continue;
            if ((t->special_flags[id] & SPECIAL_NORMALIZED) != flag) continue;
            Arena scratch = *arena;
            Str spelling = special_spelling(t, id, &scratch);
            always_bytes += user ? spelling.len : 0;
            parsed_bytes += spelling.len;
            if (round == 1 && user) special_add(&tries->always, spelling, (int32_t)id);
            if (round == 1) special_add(&tries->parsed, spelling, (int32_t)id);
        }
    }
    return true;
}

static bool has_token(const Tokenizer *t, Str text) {
    return vocab_find(&t->vocab, text) >= 0;
}

// Marks that end a text elsewhere: a turn of GPT-OSS, or of Solar, goes on behind <|end|>, which ends one of
// its messages; and </s> is no end where Gemma 4's marks are.
static bool is_no_end_here(const Tokenizer *t, Str text) {
    if (str_eq(text, STR("</s>"))) return has_token(t, STR("<|tool_response>"));
    return str_eq(text, STR("<|end|>")) &&
           ((has_token(t, STR("<|return|>")) && has_token(t, STR("<|call|>"))) ||
            (has_token(t, STR("<|flush|>")) && has_token(t, STR("<|calls|>"))));
}

static bool list_ends(Tokenizer *t, Arena *arena) {
    for (int round = 0; round < 2; round++) {
        uint32_t n = 0;
        for (uint32_t id = 0; id < t->vocab.count; id++) {
            if (!(t->ends[id / 32] >> (id % 32) & 1u)) continue;
            if (round) t->end_ids[n] = (int32_t)id;
            n++;
        }
        t->n_ends = n;
        if (!round) t->end_ids = arena_new(arena, int32_t, n);
        if (!t->end_ids) return false;
    }
    return true;
}

bool tokenizer_index_special(Tokenizer *t, const int32_t *extra_ends, size_t n_extra_ends, Arena *arena) {
    const Vocab *v = &t->vocab;
    t->ends = arena_new(arena, uint32_t, v->count / 32 + 1);
    if (!t->special_flags) t->special_flags = arena_new(arena, uint8_t, v->count);
    if (!t->ends || !t->special_flags || !index_tries(t, &t->raw, 0, arena) ||
        !index_tries(t, &t->normalized, SPECIAL_NORMALIZED, arena))
        return false;
    for (uint32_t id = 0; id < v->count; id++) {
        if (tokenizer_is_end_text(v->texts[id]) && !is_no_end_here(t, v->texts[id])) mark_end(t, (int32_t)id);
    }
    for (size_t i = 0; i < n_extra_ends; i++)
        mark_end(t, extra_ends[i]);
    return list_ends(t, arena);
}

void tokenizer_index_bytes(Tokenizer *t) {
    for (uint32_t byte = 0; byte < 256; byte++) {
        char spelled[4];
        size_t length = utf8_encode(byte_level_char((uint8_t)byte), spelled);
        int32_t id = vocab_find(&t->vocab, (Str){spelled, length});
        t->byte_ids[byte] = id >= 0 && t->vocab.types[id] != TOKEN_CONTROL ? id : -1;
    }
}

void tokenizer_index_characters(Tokenizer *t) {
    for (uint32_t byte = 0; byte < 256; byte++) {
        char digits[8];
        StrBuf text = STRBUF(digits);
        strbuf_printf(&text, "<0x%02X>", byte);
        t->byte_ids[byte] = vocab_find(&t->vocab, strbuf_str(&text));
    }
    for (uint32_t c = 0; c < 128; c++) {
        int32_t id = vocab_find(&t->vocab, (Str){(const char[]){(char)c}, 1});
        t->ascii_ids[c] = id >= 0 && tokenizer_is_plain(t, id) ? id : -1;
    }
}

bool tokenizer_index_cuts(Tokenizer *t, Arena *arena) {
    if (vocab_find(&t->vocab, STR(WORD_SPACE)) < 0) return true;
    t->cuts = arena_new(arena, WordCuts, 1);
    if (!t->cuts) return false;
    t->space_is_token = true;
    for (uint32_t id = 0; id < t->vocab.count; id++)
        word_cuts_note(t->cuts, t->vocab.texts[id]);
    return true;
}

bool tokenizer_split_merge(Str merge, MergeText *out) {
    const char *space =
        merge.len > 2 && merge.len <= TOKEN_BYTES_MAX ? memchr(merge.ptr + 1, ' ', merge.len - 1) : NULL;
    if (!space) return false;
    size_t length = (size_t)(space - merge.ptr);
    *out = (MergeText){str_slice(merge, 0, length), str_slice(merge, length + 1, merge.len)};
    return true;
}

static Str join(MergeText merge, char joined[TOKEN_BYTES_MAX]) {
    memcpy(joined, merge.left.ptr, merge.left.len);
    memcpy(joined + merge.left.len, merge.right.ptr, merge.right.len);
    return (Str){joined, merge.left.len + merge.right.len};
}

// In three rounds over the group, so that the memory that each touches at random is on its way before it is
// needed: 446,189 merges take a third of the time that one after the other would.
bool tokenizer_add_merges(Tokenizer *t, const MergeText *merges, uint32_t count, uint32_t rank, uint32_t *bad,
                          Str *missing, char joined[TOKEN_BYTES_MAX]) {
    const Vocab *v = &t->vocab;
    uint64_t hashes[MERGE_GROUP][3];
    int32_t ids[MERGE_GROUP][3];
    for (uint32_t i = 0; i < count; i++) {
        const Str parts[3] = {merges[i].left, merges[i].right, join(merges[i], joined)};
        for (int k = 0; k < 3; k++) {
            hashes[i][k] = vocab_hash(parts[k]);
            vocab_prefetch(v, hashes[i][k]);
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        const Str parts[3] = {merges[i].left, merges[i].right, join(merges[i], joined)};
        for (int k = 0; k < 3; k++) {
            ids[i][k] = v->tags_differ ? vocab_find_hash(v, hashes[i][k]) : vocab_find(v, parts[k]);
            if (ids[i][k] >= 0) continue;
            *bad = i;
            *missing = parts[k];
            return false;
        }
        __builtin_prefetch(&t->merges.slots[bpe_slot(&t->merges, (uint32_t)ids[i][0], (uint32_t)ids[i][1])],
                           1);
    }
    for (uint32_t i = 0; i < count; i++) {
        bpe_add(&t->merges, (uint32_t)ids[i][0], (uint32_t)ids[i][1], rank + i, (uint32_t)ids[i][2]);
    }
    return true;
}

bool tokenizer_replace_spaces(Normalizer *n, Arena *arena, Arena scratch, Error *err) {
    NormalizerStep spaces = {.kind = NORMALIZE_REPLACE, .content = STR(WORD_SPACE), .pattern_size = 1};
    return regex_compile(STR(" "), arena, scratch, &spaces.pattern, err) &&
           (normalizer_add(n, &spaces) || error_set(err, ERR_UNSUPPORTED, "too many changes of the text"));
}

// ---- what is known about a vocabulary ----

const char *tokenizer_kind(const Tokenizer *t) {
    return t->kind;
}

const char *tokenizer_pre_tokenizer(const Tokenizer *t) {
    return t->pre_name;
}

uint32_t tokenizer_vocab_size(const Tokenizer *t) {
    return t->vocab.count;
}

int32_t tokenizer_bos(const Tokenizer *t) {
    return t->bos;
}

int32_t tokenizer_eos(const Tokenizer *t) {
    return t->eos;
}

bool tokenizer_adds_bos(const Tokenizer *t) {
    return t->adds_bos && t->bos != TOKEN_NONE;
}

static bool in_range(const Tokenizer *t, int32_t id) {
    return id >= 0 && (uint32_t)id < t->vocab.count;
}

bool tokenizer_is_end(const Tokenizer *t, int32_t id) {
    return in_range(t, id) && (t->ends[id / 32] >> (id % 32) & 1u);
}

TokenIds tokenizer_ends(const Tokenizer *t) {
    return (TokenIds){t->end_ids, t->n_ends};
}

int32_t tokenizer_stop_token(const Tokenizer *t, Str stop) {
    int32_t id = vocab_find(&t->vocab, stop);
    return id >= 0 && t->vocab.types[id] == TOKEN_CONTROL ? id : TOKEN_NONE;
}

uint32_t tokenizer_warning_count(const Tokenizer *t) {
    return t->n_warnings;
}

const char *tokenizer_warning(const Tokenizer *t, uint32_t i) {
    return t->warnings[i];
}

bool tokenizer_is_special(const Tokenizer *t, int32_t id) {
    return in_range(t, id) && (t->vocab.types[id] == TOKEN_CONTROL || t->vocab.types[id] == TOKEN_UNKNOWN);
}

Str tokenizer_piece(const Tokenizer *t, int32_t id, bool with_special) {
    if (!in_range(t, id) || (!with_special && tokenizer_is_special(t, id))) return (Str){0};
    return vocab_piece(&t->vocab, (uint32_t)id);
}

uint32_t tokenizer_piece_bytes_max(const Tokenizer *t) {
    return t->vocab.piece_bytes_max;
}

int32_t tokenizer_token_by_text(const Tokenizer *t, Str text) {
    int32_t id = vocab_find(&t->vocab, text);
    bool found = id >= 0 && (t->vocab.types[id] == TOKEN_CONTROL || t->vocab.types[id] == TOKEN_USER_DEFINED);
    return found ? id : TOKEN_NONE;
}

bool tokenizer_strips_leading_space(const Tokenizer *t) {
    return t->strips_leading_space;
}

// ---- encoding ----

// Most words of a long text have come before, and the ids they got then lie in the list: looking there makes
// prose up to 1.7 times as fast to encode (byte-level vocabularies; over characters up to 5 times).
enum { CACHE_SLOTS = 1 << 13, CACHE_WORD_BYTES_MAX = 32, CACHE_TEXT_BYTES_MIN = 16 * 1024 };

typedef struct {
    char word[CACHE_WORD_BYTES_MAX];
    uint32_t word_bytes; // 0 for an empty slot
    uint32_t ids, n_ids; // in the list
} CachedWord;

// What the model is given of a text, in bytes; or in symbols, for which U+2581 is one where it is a token.
static uint64_t plain_bytes_max(const Tokenizer *t, uint64_t text_bytes, bool in_symbols) {
    bool spaces_are_one = in_symbols && t->space_is_token;
    uint64_t normalized = normalizer_bytes_max(&t->normalizer, text_bytes, spaces_are_one);
    return normalizer_bytes_max(&t->inserts, normalized, spaces_are_one);
}

// Each stretch between special tokens gets its own prefix, and each takes at least a byte of the text.
uint64_t tokenizer_encode_ids_bytes(const Tokenizer *t, uint64_t text_bytes) {
    return (text_bytes * plain_bytes_max(t, 1, true) + 4) * sizeof(int32_t) + _Alignof(int32_t);
}

// Whether control tokens are looked for in normalised text, too.
static bool has_normalized_control(const Tokenizer *t) {
    return t->normalized.parsed.n_nodes > t->normalized.always.n_nodes;
}

uint64_t tokenizer_encode_scratch_bytes(const Tokenizer *t, uint64_t text_bytes) {
    uint64_t normalized = normalizer_bytes_max(&t->normalizer, text_bytes, false);
    uint64_t changes =
        normalizer_arena_bytes(&t->normalizer, text_bytes) + normalizer_arena_bytes(&t->inserts, normalized);
    uint64_t plain = plain_bytes_max(t, text_bytes, false), symbols = plain_bytes_max(t, text_bytes, true);
    uint64_t model = t->model == MODEL_SPM ? tokenizer_spm_scratch_bytes(t, symbols)
                                           : bpe_scratch_bytes(&t->merges, symbols);
    uint64_t kept = t->model == MODEL_CHAR_BPE ? plain : 0; // of what is not left out
    // (To map spans, the text is normalised once more.)
    if (has_normalized_control(t)) changes += normalizer_arena_bytes(&t->normalizer, text_bytes) + 64;
    return changes + pretokenizer_scan_bytes(&t->pretokenizer, plain) + model + kept +
           CACHE_SLOTS * sizeof(CachedWord) + 64;
}

uint64_t tokenizer_encode_spans_scratch_bytes(const Tokenizer *t, uint64_t text_bytes, uint32_t n_spans) {
    return tokenizer_encode_scratch_bytes(t, text_bytes) + (uint64_t)n_spans * sizeof(TextSpan);
}

// A token of the model's own vocabulary, or -1.
static int32_t find_plain(const Tokenizer *t, Str text) {
    int32_t id = vocab_find(&t->vocab, text);
    return id >= 0 && tokenizer_is_plain(t, id) ? id : -1;
}

// The token that a word is as a whole, or -1.
static int32_t find_whole_word(const Tokenizer *t, Str word) {
    enum { WORD_BYTES_MAX = 128 }; // of a spelling, where a byte is one or two
    char spelled[WORD_BYTES_MAX];
    size_t length = 0;
    if (t->model == MODEL_CHAR_BPE) return find_plain(t, word);
    if (word.len > WORD_BYTES_MAX / 2) return -1;
    for (size_t i = 0; i < word.len; i++)
        length += utf8_encode(byte_level_char((uint8_t)word.ptr[i]), spelled + length);
    return find_plain(t, (Str){spelled, length});
}

// Something that is no token. It is left out where there is no unknown token, as upstream does, so that its
// neighbours may merge.
static bool add_unknown(const Tokenizer *t, bool *was_unknown, IdList *out) {
    bool adds = t->unknown != TOKEN_NONE && !(t->fuses_unknown && *was_unknown);
    *was_unknown = true;
    return !adds || id_list_add(out, t->unknown);
}

static bool add_bytes(const Tokenizer *t, Str word, IdList *out) {
    bool was_unknown = false;
    for (size_t i = 0; i < word.len; i++) {
        int32_t id = t->byte_ids[(uint8_t)word.ptr[i]];
        if (id < 0 ? !add_unknown(t, &was_unknown, out) : !id_list_add(out, id)) return false;
        was_unknown = was_unknown && id < 0;
    }
    return true;
}

// The bytes of a character that is no token, if all of them are tokens.
static bool has_bytes(const Tokenizer *t, Str character) {
    for (size_t i = 0; i < character.len; i++) {
        if (t->byte_ids[(uint8_t)character.ptr[i]] < 0) return false;
    }
    return true;
}

static bool add_characters(const Tokenizer *t, Str word, IdList *out) {
    bool was_unknown = false;
    for (size_t at = 0, length; at < word.len; at += length) {
        uint8_t first = (uint8_t)word.ptr[at];
        length = first < 128 ? 1 : word_character_bytes(word, at);
        Str character = str_slice(word, at, at + length);
        int32_t id = first < 128 ? t->ascii_ids[first] : find_plain(t, character);
        bool is_known = id >= 0 || has_bytes(t, character), ok;
        if (id >= 0) ok = id_list_add(out, id);
        else ok = is_known ? add_bytes(t, character, out) : add_unknown(t, &was_unknown, out);
        if (!ok) return false;
        was_unknown = was_unknown && !is_known;
    }
    return true;
}

static bool encode_bpe_word(const Tokenizer *t, Str word, IdList *out, Arena scratch) {
    if (t->whole_words) {
        int32_t id = find_whole_word(t, word);
        if (id >= 0) return id_list_add(out, id);
    }
    // The symbols are made where the ids go, and merged there.
    size_t start = out->count;
    if (!(t->model == MODEL_CHAR_BPE ? add_characters : add_bytes)(t, word, out)) return false;
    size_t count = out->count - start;
    size_t left = bpe_merge(&t->merges, out->ids + start, count, scratch);
    out->count = start + left;
    return left > 0 || count == 0;
}

// ---- words of a text ----

// A text on its way to ids.
typedef struct {
    const Tokenizer *tokenizer;
    CachedWord *cache; // [CACHE_SLOTS], or NULL
    IdList *out;
    const TextSpan *spans; // [n_spans] of the whole text: whose control tokens count
    uint32_t n_spans;
} Encoding;

static bool add_cached(const CachedWord *cached, IdList *out) {
    if (cached->n_ids > out->capacity - out->count) return false;
    memcpy(out->ids + out->count, out->ids + cached->ids, cached->n_ids * sizeof *out->ids);
    out->count += cached->n_ids;
    return true;
}

// A word's place in the cache, or NULL. Of SentencePiece's words, one that begins with an unknown character
// may depend on what is before it; one that begins with a space that is a token does not.
static CachedWord *cache_slot(const Encoding *e, Str word) {
    const Tokenizer *t = e->tokenizer;
    if (!e->cache || word.len > CACHE_WORD_BYTES_MAX) return NULL;
    if (t->model == MODEL_SPM && !(t->space_is_token && str_starts_with(word, STR(WORD_SPACE)))) return NULL;
    return &e->cache[hash_bytes(word.ptr, word.len) % CACHE_SLOTS];
}

// `count` is the number of characters, where they are the symbols.
static bool encode_word(const Encoding *e, Str word, size_t count, Arena scratch) {
    IdList *out = e->out;
    CachedWord *cached = cache_slot(e, word);
    if (cached && str_eq(word, (Str){cached->word, cached->word_bytes})) return add_cached(cached, out);
    size_t start = out->count;
    bool ok = e->tokenizer->model == MODEL_SPM
                  ? tokenizer_spm_encode_word(e->tokenizer, word, count, out, scratch)
                  : encode_bpe_word(e->tokenizer, word, out, scratch);
    if (ok && cached && out->count <= UINT32_MAX) {
        *cached = (CachedWord){.word_bytes = (uint32_t)word.len,
                               .ids = (uint32_t)start,
                               .n_ids = (uint32_t)(out->count - start)};
        memcpy(cached->word, word.ptr, word.len);
    }
    return ok;
}

// The text without the characters that are left out, since no token stands for them: what was on both sides
// is neighbours then. False when the scratch is full.
static bool drop_unknown(const Tokenizer *t, Str *text, Arena *scratch) {
    char *kept = arena_new(scratch, char, text->len);
    size_t size = 0;
    if (!kept) return false;
    for (size_t at = 0, length; at < text->len; at += length) {
        uint8_t first = (uint8_t)text->ptr[at];
        length = first < 128 ? 1 : word_character_bytes(*text, at);
        Str character = str_slice(*text, at, at + length);
        if ((first < 128 ? t->ascii_ids[first] : find_plain(t, character)) < 0 && !has_bytes(t, character))
            continue;
        memcpy(kept + size, character.ptr, length);
        size += length;
    }
    *text = (Str){kept, size};
    return true;
}

// A piece of the pre-tokeniser. Where words are not its business, they are cut here.
static bool encode_piece(const Encoding *e, Str piece, Arena scratch) {
    const Tokenizer *t = e->tokenizer;
    if (!t->cuts || t->whole_words) return encode_word(e, piece, 0, scratch);
    if (t->model == MODEL_CHAR_BPE && t->unknown == TOKEN_NONE && !drop_unknown(t, &piece, &scratch))
        return false;
    for (size_t start = 0, end, count; start < piece.len; start = end) {
        end = word_cuts_next(t->cuts, piece, start, &count);
        if (!encode_word(e, str_slice(piece, start, end), count, scratch)) return false;
    }
    return true;
}

// A stretch of normalised text without special tokens.
static bool encode_plain(const Encoding *e, Str text, bool at_start, Arena scratch) {
    const Tokenizer *t = e->tokenizer;
    PretokenizerScan scan;
    Str piece;
    if (!normalizer_apply(&t->inserts, text, at_start, &scratch, &text) ||
        !pretokenizer_begin(&t->pretokenizer, text, &scratch, &scan))
        return false;
    while (pretokenizer_next(&scan, &piece)) {
        if (!encode_piece(e, piece, scratch)) return false;
    }
    return true;
}

// ---- special tokens in a text ----

// Control tokens are found within a span that the request did not write; user-defined ones anywhere.
typedef struct {
    const Tokenizer *tokenizer;
    const SpecialTries *tries;
    Str text;
    size_t at;
    const TextSpan *spans; // [n_spans] left, the first of them ends at span_end
    uint32_t n_spans;
    size_t span_end;
} SectionScan;

static SectionScan section_scan(const Tokenizer *t, const SpecialTries *tries, Str text,
                                const TextSpan *spans, uint32_t n_spans) {
    SectionScan s = {t, tries, text, 0, spans, n_spans, 0};
    s.span_end = n_spans ? (size_t)min_u64(spans[0].length, text.len) : text.len;
    return s;
}

// Goes to the span that holds the byte at `at`. What lies behind the last span is the request's.
static bool is_from_request(SectionScan *s, size_t at) {
    while (at >= s->span_end && s->n_spans) {
        s->spans++;
        s->n_spans--;
        s->span_end = s->n_spans ? s->span_end + (size_t)min_u64(s->spans->length, s->text.len - s->span_end)
                                 : s->text.len;
    }
    return !s->n_spans || s->spans->from_request;
}

// The first token at or after `from`; the longest of those that begin there.
static bool find_token(SectionScan *s, size_t from, size_t *start, size_t *end, int32_t *id) {
    for (size_t at = from; at < s->text.len; at++) {
        bool from_request = is_from_request(s, at), found = false;
        size_t longer;
        int32_t other;
        if (!from_request) found = special_match(&s->tries->parsed, s->text, at, s->span_end, end, id);
        if ((from_request || s->span_end < s->text.len) &&
            special_match(&s->tries->always, s->text, at, s->text.len, &longer, &other) &&
            (!found || longer > *end)) {
            found = true;
            *end = longer;
            *id = other;
        }
        *start = at;
        if (found) return true;
    }
    return false;
}

static bool is_within_word(Str text, size_t start, size_t end) {
    uint32_t before, behind;
    return (unicode_character_before(text, 0, start, &before) && unicode_is_word(before)) ||
           (utf8_decode(str_slice(text, end, text.len), &behind) && unicode_is_word(behind));
}

// The text up to the next special token, maybe empty, and that token, or TOKEN_NONE behind the last one.
// False at the end of the text.
static bool next_section(SectionScan *s, Str *plain, int32_t *id) {
    size_t start, end = s->at;
    uint8_t flags = 0;
    if (s->at == s->text.len) return false;
    do {
        if (find_token(s, end, &start, &end, id)) {
            flags = s->tokenizer->special_flags[*id];
        } else {
            start = end = s->text.len;
            *id = TOKEN_NONE;
            flags = 0;
        }
    } while ((flags & SPECIAL_SINGLE_WORD) && is_within_word(s->text, start, end));
    if (flags & SPECIAL_STRIPS_LEFT) start = unicode_space_before(s->text, s->at, start);
    if (flags & SPECIAL_STRIPS_RIGHT) end = unicode_space_behind(s->text, end);
    *plain = str_slice(s->text, s->at, start);
    s->at = end;
    return true;
}

static void spans_skip(const TextSpan **spans, uint32_t *n_spans, uint64_t *skip) {
    while (*n_spans && *skip >= (*spans)->length) {
        *skip -= (*spans)->length;
        ++*spans;
        --*n_spans;
    }
}

// The spans of normalised text: each is normalised by itself, and where all of them together do not give
// what the whole gave (a character was composed across a border), all counts as the request's, which is safe.
// `at` is where the text begins in the spans. False when the scratch is full.
static bool normalize_spans(const Encoding *e, Str text, uint64_t at, bool at_start, Str normalized,
                            Arena *scratch, TextSpan **out, uint32_t *n_out) {
    const TextSpan *spans = e->spans;
    uint32_t n_spans = e->n_spans, n = 0;
    size_t from = 0, used = 0;
    spans_skip(&spans, &n_spans, &at);
    *out = arena_new(scratch, TextSpan, n_spans + 1);
    if (!*out) return false;
    *n_out = 0;
    for (; n < n_spans && from < text.len; n++) {
        Arena free = *scratch;
        size_t end = from + (size_t)min_u64(spans[n].length - at, text.len - from);
        Str piece = str_slice(text, from, end);
        if (!normalizer_apply(&e->tokenizer->normalizer, piece, at_start && from == 0, &free, &piece))
            return false;
        if (piece.len > normalized.len - used ||
            !str_eq(piece, str_slice(normalized, used, used + piece.len)))
            return true;
        (*out)[n] = (TextSpan){piece.len, spans[n].from_request};
        used += piece.len;
        from = end;
        at = 0;
    }
    if (used == normalized.len) *n_out = n;
    return true;
}

// A stretch without those tokens that are found before normalising; it begins at `at` in the whole text.
static bool encode_section(const Encoding *e, Str text, size_t at, bool at_start, Arena scratch) {
    const Tokenizer *t = e->tokenizer;
    Str whole = text, plain;
    TextSpan *spans = NULL;
    uint32_t n_spans = 0;
    int32_t id;
    if (!normalizer_apply(&t->normalizer, whole, at_start, &scratch, &text)) return false;
    if (has_normalized_control(t) &&
        !normalize_spans(e, whole, at, at_start, text, &scratch, &spans, &n_spans))
        return false;
    SectionScan scan = section_scan(t, &t->normalized, text, spans, n_spans);
    while (next_section(&scan, &plain, &id)) {
        bool first = at_start && plain.ptr == text.ptr;
        if (plain.len && !encode_plain(e, plain, first, scratch)) return false;
        if (id != TOKEN_NONE && !id_list_add(e->out, id)) return false;
    }
    return true;
}

static bool encode_all(Encoding *e, Str text, uint32_t flags, Arena scratch) {
    const Tokenizer *t = e->tokenizer;
    IdList *out = e->out;
    if (text.len >= CACHE_TEXT_BYTES_MIN) e->cache = arena_new(&scratch, CachedWord, CACHE_SLOTS);
    bool add = flags & TOKENIZER_ADD_SPECIAL, adds_bos = add && tokenizer_adds_bos(t);
    if (adds_bos && !id_list_add(out, t->bos)) return false;
    SectionScan scan = section_scan(t, &t->raw, text, e->spans, e->n_spans);
    Str plain;
    int32_t id;
    while (next_section(&scan, &plain, &id)) {
        bool first = plain.ptr == text.ptr && !(flags & TOKENIZER_CONTINUES);
        if (plain.len && !encode_section(e, plain, (size_t)(plain.ptr - text.ptr), first, scratch))
            return false;
        if (id != TOKEN_NONE && !id_list_add(out, id)) return false;
    }
    if ((flags & TOKENIZER_ONE_BOS) && adds_bos && out->count > 1 && out->ids[1] == t->bos)
        memmove(out->ids, out->ids + 1, --out->count * sizeof *out->ids);
    return !(add && t->adds_eos && t->eos != TOKEN_NONE) || id_list_add(out, t->eos);
}

static bool encode(Encoding *e, Str text, uint32_t flags, Arena *arena, Arena scratch, TokenIds *out,
                   Error *err) {
    // The list takes all that is free, and gives back what it did not need. Nothing in the free part is read.
    int32_t *ids = arena_new(arena, int32_t, 1);
    IdList list = {.ids = ids};
    e->out = &list;
    if (ids) list.capacity = 1 + arena_left(arena) / sizeof *ids;
    if (!ids || text.len > INT32_MAX || !encode_all(e, text, flags, scratch)) {
        return error_set(err, ERR_NO_MEMORY, "no memory to encode a text of %zu bytes", text.len);
    }
    arena->next = (uint8_t *)(ids + list.count);
    *out = (TokenIds){ids, list.count};
    return true;
}

bool tokenizer_encode(const Tokenizer *t, Str text, uint32_t flags, Arena *arena, Arena scratch,
                      TokenIds *out, Error *err) {
    TextSpan all = {text.len, !(flags & TOKENIZER_PARSE_SPECIAL)};
    Encoding e = {.tokenizer = t, .spans = &all, .n_spans = 1};
    return encode(&e, text, flags, arena, scratch, out, err);
}

bool tokenizer_encode_spans(const Tokenizer *t, Str text, const TextSpan *spans, uint32_t n_spans,
                            Arena *arena, Arena scratch, TokenIds *out, Error *err) {
    Encoding e = {.tokenizer = t, .spans = spans, .n_spans = n_spans};
    return encode(&e, text, 0, arena, scratch, out, err);
}
