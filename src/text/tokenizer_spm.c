// SentencePiece's BPE (Kudo, Richardson: "SentencePiece", 2018): characters are merged as long as two
// neighbours make a token, the one with the best score first, the leftmost of equal ones. Spaces are written
// U+2581. Characters that end up as no token become bytes, or the unknown token where there are none.
#include "base/sort.h"
#include "text/tokenizer_internal.h"

enum { SPM_SHORT = 32, NO_TOKEN = -1 };

// ---- tables ----

// Integers in the order of the scores, the best one least.
static uint32_t score_key(float score) {
    uint32_t bits;
    score += 0.0f; // -0 and 0 are equal
    memcpy(&bits, &score, sizeof bits);
    return bits >> 31 ? bits : ~bits & 0x7FFFFFFFu;
}

static bool is_made_by_merging(const Tokenizer *t, uint32_t id) {
    uint8_t type = t->vocab.types[id];
    return (type == TOKEN_NORMAL || type == TOKEN_USER_DEFINED) && t->vocab.texts[id].len > 0;
}

// The token that these bytes are, if merging can make it.
static int32_t find_token(const Tokenizer *t, Str text, size_t from, size_t to) {
    if (to - from > t->spm_bytes_max) return NO_TOKEN;
    int32_t id = vocab_find(&t->vocab, str_slice(text, from, to));
    return id >= 0 && t->spm_ranks[id] != BPE_NO_RANK ? id : NO_TOKEN;
}

bool tokenizer_spm_init(Tokenizer *t, const float *scores, Arena *arena, Arena scratch) {
    uint32_t count = t->vocab.count, n_sorted = 0;
    uint32_t *ranks = arena_new(arena, uint32_t, count);
    t->cuts = arena_new(arena, WordCuts, 1);
    uint64_t *sorted = arena_new(&scratch, uint64_t, count), *spare = arena_new(&scratch, uint64_t, count);
    if (!ranks || !t->cuts || !sorted || !spare) return false;
    for (uint32_t id = 0; id < count; id++) {
        ranks[id] = BPE_NO_RANK;
        if (!is_made_by_merging(t, id)) continue;
        sorted[n_sorted++] = (uint64_t)score_key(scores[id]) << 32 | id;
        t->spm_bytes_max = (uint32_t)max_u64(t->spm_bytes_max, t->vocab.texts[id].len);
        word_cuts_note(t->cuts, t->vocab.texts[id]);
    }
    sort_u64(sorted, spare, n_sorted);
    for (uint32_t i = 0; i < n_sorted; i++) {
        if (i == 0 || sorted[i] >> 32 != sorted[i - 1] >> 32) t->spm_n_ranks++;
        ranks[(uint32_t)sorted[i]] = t->spm_n_ranks - 1;
    }
    t->spm_ranks = ranks;
    t->space_is_token = find_token(t, STR(WORD_SPACE), 0, WORD_SPACE_BYTES) != NO_TOKEN;
    for (uint32_t c = 0; c < 128; c++)
        t->ascii_ids[c] = find_token(t, (Str){(const char[]){(char)c}, 1}, 0, 1);
    return true;
}

// ---- merging ----

static bool add_token(const Tokenizer *t, Str bytes, int32_t id, IdList *out) {
    if (id != NO_TOKEN) return id_list_add(out, id);
    for (size_t i = 0; i < bytes.len; i++) {
        int32_t byte = t->byte_ids[(uint8_t)bytes.ptr[i]];
        bool repeated = byte < 0 && out->count > 0 && out->ids[out->count - 1] == t->unknown;
        if (byte < 0) byte = t->unknown;
        if (byte != TOKEN_NONE && !repeated && !id_list_add(out, byte)) return false;
    }
    return true;
}

// The token that is the one character at `from`, which ends at `to`.
static int32_t find_character(const Tokenizer *t, Str text, size_t from, size_t to) {
    uint8_t first = (uint8_t)text.ptr[from];
    return first < 128 ? t->ascii_ids[first] : find_token(t, text, from, to);
}

// Positions of the pairs' symbols stand for places in the text.
typedef struct {
    BpePairs pairs;
    const Tokenizer *tokenizer;
    Str text;
    const uint32_t *starts; // [count + 1]
} SpmPairs;

static uint32_t spm_rank(const BpePairs *pairs, const int32_t *symbols, size_t at, size_t next, size_t end) {
    (void)symbols;
    (void)next;
    const SpmPairs *p = (const SpmPairs *)pairs;
    int32_t id = find_token(p->tokenizer, p->text, p->starts[at], p->starts[end]);
    return id == NO_TOKEN ? BPE_NO_RANK : p->tokenizer->spm_ranks[id];
}

static int32_t spm_merged(const BpePairs *pairs, uint32_t rank, size_t at, size_t end) {
    (void)rank;
    const SpmPairs *p = (const SpmPairs *)pairs;
    return find_token(p->tokenizer, p->text, p->starts[at], p->starts[end]);
}

static bool encode_long_word(const Tokenizer *t, Str word, size_t count, IdList *out, Arena scratch) {
    uint32_t *starts = arena_new(&scratch, uint32_t, count + 1);
    int32_t *ids = arena_new(&scratch, int32_t, count);
    if (!starts || !ids) return false;
    for (size_t i = 0; i < count; i++) {
        starts[i + 1] = starts[i] + (uint32_t)word_character_bytes(word, starts[i]);
        ids[i] = find_character(t, word, starts[i], starts[i + 1]);
    }
    SpmPairs p = {{spm_rank, spm_merged, t->spm_n_ranks}, t, word, starts};
    const uint32_t *next = bpe_queue_merge(&p.pairs, ids, count, &scratch);
    if (!next) return false;
    for (size_t i = 0; i < count; i = next[i]) {
        if (!add_token(t, str_slice(word, starts[i], starts[next[i]]), ids[i], out)) return false;
    }
    return true;
}

static bool encode_short_word(const Tokenizer *t, Str word, size_t count, IdList *out) {
    size_t starts[SPM_SHORT + 1];
    int32_t ids[SPM_SHORT], pairs[SPM_SHORT]; // the token of each symbol, and of it and the next
    starts[0] = 0;
    for (size_t i = 0; i < count; i++) {
        starts[i + 1] = starts[i] + word_character_bytes(word, starts[i]);
        ids[i] = find_character(t, word, starts[i], starts[i + 1]);
    }
    for (size_t i = 0; i + 1 < count; i++)
        pairs[i] = find_token(t, word, starts[i], starts[i + 2]);
    for (;;) {
        uint32_t best_rank = BPE_NO_RANK;
        size_t best = 0;
        for (size_t i = 0; i + 1 < count; i++) {
            if (pairs[i] == NO_TOKEN || t->spm_ranks[pairs[i]] >= best_rank) continue;
            best_rank = t->spm_ranks[pairs[i]];
            best = i;
        }
        if (best_rank == BPE_NO_RANK) break;
        ids[best] = pairs[best];
        count--;
        for (size_t i = best + 1; i < count; i++)
            ids[i] = ids[i + 1];
        for (size_t i = best + 1; i + 1 < count; i++)
            pairs[i] = pairs[i + 1];
        for (size_t i = best + 1; i <= count; i++)
            starts[i] = starts[i + 1];
        if (best) pairs[best - 1] = find_token(t, word, starts[best - 1], starts[best + 1]);
        if (best + 1 < count) pairs[best] = find_token(t, word, starts[best], starts[best + 2]);
    }
    for (size_t i = 0; i < count; i++) {
        if (!add_token(t, str_slice(word, starts[i], starts[i + 1]), ids[i], out)) return false;
    }
    return true;
}

bool tokenizer_spm_encode_word(const Tokenizer *t, Str word, size_t count, IdList *out, Arena scratch) {
    return count <= SPM_SHORT ? encode_short_word(t, word, count, out)
                              : encode_long_word(t, word, count, out, scratch);
}

uint64_t tokenizer_spm_scratch_bytes(const Tokenizer *t, uint64_t text_bytes) {
    return (text_bytes + 1) * 8 + 64 + bpe_queue_scratch_bytes(t->spm_n_ranks, text_bytes);
}
