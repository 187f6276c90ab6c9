#include "text/vocab.h"

#include "base/hash.h"
#include "base/utf8.h"
#include "text/byte_level.h"

enum { SLOT_ID_BITS = 21, SLOT_ID_MASK = (1 << SLOT_ID_BITS) - 1 };

#define SPM_SPACE STR("\xE2\x96\x81")

uint64_t vocab_hash(Str text) {
    return hash_bytes(text.ptr, text.len);
}

static bool same_tag(uint64_t entry, uint64_t hash) {
    return (entry ^ hash) >> SLOT_ID_BITS == 0;
}

// The slot that holds `text`, or the empty one where it would go.
static uint64_t find_slot(const Vocab *v, Str text, uint64_t hash, bool *shares_tag) {
    uint64_t slot = hash & v->slot_mask;
    for (; v->slots[slot]; slot = (slot + 1) & v->slot_mask) {
        if (!same_tag(v->slots[slot], hash)) continue;
        if (str_eq(v->texts[(v->slots[slot] & SLOT_ID_MASK) - 1], text)) break;
        *shares_tag = true;
    }
    return slot;
}

bool vocab_build(Vocab *v, const Str *texts, const uint8_t *types, uint32_t count, Arena *arena,
                 uint32_t *first, uint32_t *second) {
    enum { AHEAD = 16 }; // slots are fetched so many tokens before they are needed
    uint64_t hashes[AHEAD] = {0};
    uint64_t n_slots = 16;
    while (n_slots < 2ull * count)
        n_slots *= 2;
    uint64_t *slots = arena_new(arena, uint64_t, n_slots);
    *v = (Vocab){.count = count, .texts = texts, .types = types, .slots = slots, .slot_mask = n_slots - 1};
    *first = *second = 0;
    if (!slots) return false;
    bool shares_tag = false;
    for (uint32_t i = 0; i < count + AHEAD; i++) {
        if (i >= AHEAD && texts[i - AHEAD].len) {
            uint32_t id = i - AHEAD;
            uint64_t hash = hashes[id % AHEAD], slot = find_slot(v, texts[id], hash, &shares_tag);
            if (slots[slot]) {
                *first = (uint32_t)(slots[slot] & SLOT_ID_MASK) - 1;
                *second = id;
                return false;
            }
            slots[slot] = (hash & ~(uint64_t)SLOT_ID_MASK) | (id + 1);
        }
        if (i < count) {
            hashes[i % AHEAD] = vocab_hash(texts[i]);
            vocab_prefetch(v, hashes[i % AHEAD]);
        }
    }
    v->tags_differ = !shares_tag;
    return true;
}

int32_t vocab_find(const Vocab *v, Str text) {
    bool shares_tag;
    uint64_t entry = v->slots[find_slot(v, text, vocab_hash(text), &shares_tag)];
    return entry ? (int32_t)(entry & SLOT_ID_MASK) - 1 : -1;
}

int32_t vocab_find_hash(const Vocab *v, uint64_t hash) {
    uint64_t slot = hash & v->slot_mask;
    while (v->slots[slot] && !same_tag(v->slots[slot], hash))
        slot = (slot + 1) & v->slot_mask;
    return v->slots[slot] ? (int32_t)(v->slots[slot] & SLOT_ID_MASK) - 1 : -1;
}

int vocab_parse_byte_token(Str text) {
    if (text.len != 6 || memcmp(text.ptr, "<0x", 3) != 0 || text.ptr[5] != '>') return -1;
    int value = 0;
    for (int i = 3; i < 5; i++) {
        char c = text.ptr[i];
        int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        if (digit < 0) return -1;
        value = value * 16 + digit;
    }
    return value;
}

// Both decoders write at most text.len bytes and return how many.
static size_t decode_byte_level(Str text, char *out) {
    size_t written = 0;
    for (size_t at = 0; at < text.len;) {
        uint32_t codepoint;
        size_t length = utf8_decode(str_slice(text, at, text.len), &codepoint);
        int byte = length ? byte_level_byte(codepoint) : -1;
        if (byte < 0) {
            memcpy(out, text.ptr, text.len);
            return text.len;
        }
        out[written++] = (char)byte;
        at += length;
    }
    return written;
}

static size_t decode_spm(Str text, TokenType type, char *out) {
    int byte = type == TOKEN_BYTE ? vocab_parse_byte_token(text) : -1;
    if (byte >= 0) {
        out[0] = (char)byte;
        return 1;
    }
    size_t written = 0;
    for (size_t at = 0; at < text.len;) {
        bool space = str_starts_with(str_slice(text, at, text.len), SPM_SPACE);
        out[written++] = space ? ' ' : text.ptr[at];
        at += space ? SPM_SPACE.len : 1;
    }
    return written;
}

bool vocab_decode_pieces(Vocab *v, PieceRule rule, Arena *arena) {
    uint64_t total = 0;
    for (uint32_t id = 0; id < v->count; id++)
        total += v->texts[id].len;
    uint32_t *starts = arena_new(arena, uint32_t, v->count + 1);
    char *pieces = arena_new(arena, char, total);
    if (!starts || !pieces || total > UINT32_MAX) return false;
    uint32_t at = 0;
    for (uint32_t id = 0; id < v->count; id++) {
        Str text = v->texts[id];
        TokenType type = (TokenType)v->types[id];
        size_t length = text.len;
        if (type == TOKEN_CONTROL || (type == TOKEN_USER_DEFINED && rule == PIECES_BYTE_LEVEL)) {
            memcpy(pieces + at, text.ptr, text.len);
        } else {
            length = rule == PIECES_SPM ? decode_spm(text, type, pieces + at)
                                        : decode_byte_level(text, pieces + at);
        }
        v->piece_bytes_max = (uint32_t)max_u64(v->piece_bytes_max, length);
        at += (uint32_t)length;
        starts[id + 1] = at;
    }
    v->pieces = pieces;
    v->piece_starts = starts;
    return true;
}
