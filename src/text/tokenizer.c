#include "base/utf8.h"
#include "text/byte_level.h"
#include "text/nfc.h"
#include "text/tokenizer_internal.h"
#include "text/unicode.h"

// Texts of control tokens that end a model's turn, in the chat formats of published models.
static const Str end_texts[] = {
    STR("<|im_end|>"),
    STR("<|eot_id|>"),
    STR("<|eom_id|>"),
    STR("<|end|>"),
    STR("<end_of_turn>"),
    STR("<|endoftext|>"),
    STR("<|end_of_text|>"),
    STR("<|return|>"),
    STR("<|call|>"),
    STR("<|eot|>"),
    STR("<|eom|>"),
    STR("</s>"),
    STR("<eos>"),
    STR("<|END_OF_TURN_TOKEN|>"),
    STR("<end_of_utterance>"),
    STR("<\xEF\xBD\x9C"
        "end\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>"),
};

static bool is_end_text(Str text) {
    for (size_t i = 0; i < COUNT_OF(end_texts); i++) {
        if (str_eq(text, end_texts[i])) return true;
    }
    return false;
}

static void mark_end(Tokenizer *t, int32_t id) {
    if (id != TOKEN_NONE) t->ends[id / 32] |= 1u << (id % 32);
}

bool tokenizer_index_special(Tokenizer *t, const int32_t *extra_ends, size_t n_extra_ends, Arena *arena) {
    const Vocab *v = &t->vocab;
    uint64_t user_bytes = 0, all_bytes = 0;
    for (uint32_t id = 0; id < v->count; id++) {
        if (v->types[id] == TOKEN_USER_DEFINED) user_bytes += v->texts[id].len;
        if (v->types[id] == TOKEN_USER_DEFINED || v->types[id] == TOKEN_CONTROL)
            all_bytes += v->texts[id].len;
    }
    t->ends = arena_new(arena, uint32_t, v->count / 32 + 1);
    t->special_flags = arena_new(arena, uint8_t, v->count);
    if (!t->ends || !t->special_flags || !special_init(&t->user_defined, user_bytes, arena)) return false;
    if (!special_init(&t->all_special, all_bytes, arena)) return false;
    for (uint32_t id = 0; id < v->count; id++) {
        bool control = v->types[id] == TOKEN_CONTROL, user = v->types[id] == TOKEN_USER_DEFINED;
        if (user) special_add(&t->user_defined, v->texts[id], (int32_t)id);
        if (user || control) special_add(&t->all_special, v->texts[id], (int32_t)id);
        if (control && is_end_text(v->texts[id])) mark_end(t, (int32_t)id);
    }
    for (size_t i = 0; i < n_extra_ends; i++)
        mark_end(t, extra_ends[i]);
    return true;
}

void tokenizer_index_bytes(Tokenizer *t) {
    for (uint32_t byte = 0; byte < 256; byte++) {
        char spelled[4];
        size_t length = utf8_encode(byte_level_char((uint8_t)byte), spelled);
        t->byte_ids[byte] = vocab_find(&t->vocab, (Str){spelled, length});
    }
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
    return special_lookup(&t->all_special, text);
}

bool tokenizer_strips_leading_space(const Tokenizer *t) {
    return t->adds_space_prefix;
}

// ---- encoding ----

static uint64_t plain_bytes_max(const Tokenizer *t, uint64_t text_bytes) {
    return t->nfc ? nfc_bytes_max(text_bytes) : text_bytes;
}

uint64_t tokenizer_encode_ids_bytes(const Tokenizer *t, uint64_t text_bytes) {
    return (plain_bytes_max(t, text_bytes) + 4) * sizeof(int32_t) + _Alignof(int32_t);
}

uint64_t tokenizer_encode_scratch_bytes(const Tokenizer *t, uint64_t text_bytes) {
    if (t->model == MODEL_SPM) return tokenizer_spm_scratch_bytes(t, text_bytes);
    uint64_t plain = plain_bytes_max(t, text_bytes);
    return (t->nfc ? nfc_arena_bytes(text_bytes) : 0) + pretokenizer_scan_bytes(&t->pretokenizer, plain) +
           bpe_scratch_bytes(&t->merges, plain) + 64;
}

// The token that a word is as a whole, or -1.
static int32_t find_whole_word(const Tokenizer *t, Str word) {
    enum { WORD_BYTES_MAX = 128 }; // of a spelling, where a byte is one or two
    char spelled[WORD_BYTES_MAX];
    size_t length = 0;
    if (word.len > WORD_BYTES_MAX / 2) return -1;
    for (size_t i = 0; i < word.len; i++)
        length += utf8_encode(byte_level_char((uint8_t)word.ptr[i]), spelled + length);
    return vocab_find(&t->vocab, (Str){spelled, length});
}

static bool encode_word(const Tokenizer *t, Str word, IdList *out, Arena scratch) {
    if (t->whole_words) {
        int32_t id = find_whole_word(t, word);
        if (id >= 0) return id_list_add(out, id);
    }
    // The symbols are made where the ids go, and merged there. A byte that the vocabulary lacks is left out,
    // as upstream does, so that its neighbours may merge.
    size_t start = out->count;
    for (size_t i = 0; i < word.len; i++) {
        int32_t id = t->byte_ids[(uint8_t)word.ptr[i]];
        if (id >= 0 && !id_list_add(out, id)) return false;
    }
    size_t count = out->count - start;
    size_t left = bpe_merge(&t->merges, out->ids + start, count, scratch);
    out->count = start + left;
    return left > 0 || count == 0;
}

// A stretch of text without special tokens.
static bool encode_plain(const Tokenizer *t, Str text, IdList *out, Arena scratch) {
    if (t->model == MODEL_SPM) return tokenizer_spm_encode(t, text, out, scratch);
    if (t->nfc && !nfc_is_done(text) && !nfc_normalize(text, &scratch, &text)) return false;
    PretokenizerScan scan;
    if (!pretokenizer_begin(&t->pretokenizer, text, &scratch, &scan)) return false;
    Str word;
    while (pretokenizer_next(&scan, &word)) {
        if (!encode_word(t, word, out, scratch)) return false;
    }
    return true;
}

static size_t skip_space_right(Str text, size_t at) {
    uint32_t codepoint;
    for (size_t length; (length = utf8_decode(str_slice(text, at, text.len), &codepoint)) != 0;
         at += length) {
        if (!unicode_is_space(codepoint)) break;
    }
    return at;
}

Str tokenizer_text_behind(const Tokenizer *t, int32_t token, Str text) {
    bool strips = token != TOKEN_NONE && (t->special_flags[token] & SPECIAL_STRIPS_RIGHT);
    return strips ? str_slice(text, skip_space_right(text, 0), text.len) : text;
}

static size_t skip_space_left(Str text, size_t from, size_t at) {
    while (at > from) {
        size_t previous = at - 1;
        uint32_t codepoint = 0;
        while (previous > from && ((uint8_t)text.ptr[previous] & 0xC0) == 0x80)
            previous--;
        if (utf8_decode(str_slice(text, previous, at), &codepoint) != at - previous ||
            !unicode_is_space(codepoint))
            break;
        at = previous;
    }
    return at;
}

static bool encode_all(const Tokenizer *t, Str text, uint32_t flags, IdList *out, Arena scratch) {
    const SpecialTrie *trie = flags & TOKENIZER_PARSE_SPECIAL ? &t->all_special : &t->user_defined;
    bool add = flags & TOKENIZER_ADD_SPECIAL;
    if (add && tokenizer_adds_bos(t) && !id_list_add(out, t->bos)) return false;
    for (size_t at = 0; at < text.len;) {
        size_t start = text.len, end = text.len;
        int32_t id = TOKEN_NONE;
        if (!special_find(trie, text, at, &start, &end, &id)) start = end = text.len;
        uint8_t strips = id == TOKEN_NONE ? 0 : t->special_flags[id];
        if (strips & SPECIAL_STRIPS_LEFT) start = skip_space_left(text, at, start);
        if (strips & SPECIAL_STRIPS_RIGHT) end = skip_space_right(text, end);
        Str plain = str_slice(text, at, start);
        if (plain.len && !encode_plain(t, plain, out, scratch)) return false;
        if (id != TOKEN_NONE && !id_list_add(out, id)) return false;
        at = end;
    }
    return !(add && t->adds_eos && t->eos != TOKEN_NONE) || id_list_add(out, t->eos);
}

bool tokenizer_encode(const Tokenizer *t, Str text, uint32_t flags, Arena *arena, Arena scratch,
                      TokenIds *out, Error *err) {
    // The list takes all that is free, and gives back what it did not need. Nothing in the free part is read.
    int32_t *ids = arena_new(arena, int32_t, 1);
    IdList list = {.ids = ids};
    if (ids) list.capacity = 1 + arena_left(arena) / sizeof *ids;
    if (!ids || text.len > INT32_MAX || !encode_all(t, text, flags, &list, scratch)) {
        return error_set(err, ERR_NO_MEMORY, "no memory to encode a text of %zu bytes", text.len);
    }
    arena->next = (uint8_t *)(ids + list.count);
    *out = (TokenIds){ids, list.count};
    return true;
}
