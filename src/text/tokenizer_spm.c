// SentencePiece's BPE (Kudo, Richardson: "SentencePiece", 2018): characters are merged as long as two
// neighbours make a token, the one with the best score first, the leftmost of equal ones. Spaces are written
// U+2581. Characters that end up as no token become bytes, or the unknown token where there are none.
#include "base/utf8.h"
#include "text/tokenizer_internal.h"

#define SPACE "\xE2\x96\x81"

enum { SPACE_BYTES = 3, SPM_SHORT = 32, NO_TOKEN = -1 };

// ---- tables ----

// Merge sort; `spare` has room for as many.
static void sort_u64(uint64_t *values, uint64_t *spare, size_t count) {
    for (size_t width = 1; width < count; width *= 2) {
        for (size_t start = 0; start < count; start += 2 * width) {
            size_t middle = (size_t)min_u64(start + width, count),
                   end = (size_t)min_u64(start + 2 * width, count);
            size_t a = start, b = middle;
            for (size_t k = start; k < end; k++) {
                bool take_a = a < middle && (b == end || values[a] <= values[b]);
                spare[k] = take_a ? values[a++] : values[b++];
            }
        }
        memcpy(values, spare, count * sizeof *values);
    }
}

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

// Text is cut into words before each space that follows something else, because merges cannot cross that
// place. Where a token does have a space behind something else, the bytes around that space are noted, and
// text is not cut between them.
static void note_crossing(uint64_t *crossing, Str text) {
    for (size_t at = 1; at + SPACE_BYTES <= text.len; at++) {
        if (memcmp(text.ptr + at, SPACE, SPACE_BYTES) != 0) continue;
        if (at >= SPACE_BYTES && memcmp(text.ptr + at - SPACE_BYTES, SPACE, SPACE_BYTES) == 0) continue;
        uint32_t row = (uint32_t)(uint8_t)text.ptr[at - 1] << 8;
        bool last = at + SPACE_BYTES == text.len;
        for (uint32_t next = 0; next < 256; next++) {
            if (!last && next != (uint8_t)text.ptr[at + SPACE_BYTES]) continue;
            crossing[(row | next) / 64] |= 1ull << ((row | next) % 64);
        }
    }
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
    uint64_t *crossing = arena_new(arena, uint64_t, 65536 / 64);
    uint64_t *sorted = arena_new(&scratch, uint64_t, count), *spare = arena_new(&scratch, uint64_t, count);
    if (!ranks || !crossing || !sorted || !spare) return false;
    for (uint32_t id = 0; id < count; id++) {
        ranks[id] = BPE_NO_RANK;
        if (!is_made_by_merging(t, id)) continue;
        sorted[n_sorted++] = (uint64_t)score_key(scores[id]) << 32 | id;
        t->spm_bytes_max = (uint32_t)max_u64(t->spm_bytes_max, t->vocab.texts[id].len);
        note_crossing(crossing, t->vocab.texts[id]);
    }
    sort_u64(sorted, spare, n_sorted);
    for (uint32_t i = 0; i < n_sorted; i++) {
        if (i == 0 || sorted[i] >> 32 != sorted[i - 1] >> 32) t->spm_n_ranks++;
        ranks[(uint32_t)sorted[i]] = t->spm_n_ranks - 1;
    }
    t->spm_ranks = ranks;
    t->spm_crossing = crossing;
    for (uint32_t c = 0; c < 128; c++)
        t->spm_ascii[c] = find_token(t, (Str){(const char[]){(char)c}, 1}, 0, 1);
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
    return first < 128 ? t->spm_ascii[first] : find_token(t, text, from, to);
}

// The length of the character, or 1 for a byte that begins none.
static size_t character_bytes(Str text, size_t at) {
    uint32_t codepoint;
    size_t length = utf8_decode(str_slice(text, at, text.len), &codepoint);
    return length ? length : 1;
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
        starts[i + 1] = starts[i] + (uint32_t)character_bytes(word, starts[i]);
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
        starts[i + 1] = starts[i] + character_bytes(word, starts[i]);
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

// ---- text to words ----

// Whether a word ends at `at`, where a space begins that something else precedes.
static bool is_cut(const Tokenizer *t, Str text, size_t at) {
    if (at + SPACE_BYTES >= text.len) return false;
    uint32_t around = (uint32_t)(uint8_t)text.ptr[at - 1] << 8 | (uint8_t)text.ptr[at + SPACE_BYTES];
    return !(t->spm_crossing[around / 64] >> (around % 64) & 1u);
}

static Str escape_spaces(const Tokenizer *t, Str text, Arena *arena) {
    char *escaped = arena_new(arena, char, text.len *SPACE_BYTES + SPACE_BYTES);
    if (!escaped) return (Str){0};
    size_t size = 0;
    if (t->adds_space_prefix) {
        memcpy(escaped, SPACE, SPACE_BYTES);
        size = SPACE_BYTES;
    }
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == ' ') {
            memcpy(escaped + size, SPACE, SPACE_BYTES);
            size += SPACE_BYTES;
        } else {
            escaped[size++] = text.ptr[i];
        }
    }
    return (Str){escaped, size};
}

bool tokenizer_spm_encode(const Tokenizer *t, Str text, IdList *out, Arena scratch) {
    Str escaped = escape_spaces(t, text, &scratch);
    if (!escaped.ptr) return false;
    for (size_t start = 0, end, count; start < escaped.len; start = end) {
        bool was_space = true;
        end = start;
        count = 0;
        while (end < escaped.len) {
            bool space = str_starts_with(str_slice(escaped, end, escaped.len), STR(SPACE));
            if (space && !was_space && is_cut(t, escaped, end)) break;
            was_space = space;
            end += space ? SPACE_BYTES : character_bytes(escaped, end);
            count++;
        }
        Str word = str_slice(escaped, start, end);
        bool ok = count <= SPM_SHORT ? encode_short_word(t, word, count, out)
                                     : encode_long_word(t, word, count, out, scratch);
        if (!ok) return false;
    }
    return true;
}

uint64_t tokenizer_spm_scratch_bytes(const Tokenizer *t, uint64_t text_bytes) {
    uint64_t symbols = text_bytes + 1;
    return text_bytes * SPACE_BYTES + SPACE_BYTES + symbols * 8 + 64 +
           bpe_queue_scratch_bytes(t->spm_n_ranks, symbols);
}
