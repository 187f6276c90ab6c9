#include "load/words.h"

#include "base/rng.h"

// clang-format off
static const char words[WORDS_COUNT][WORD_BYTES_MAX + 1] = {
    "the", "of", "and", "to", "in", "is", "you", "that", "it", "he", "was", "for", "on", "are", "as",
    "with", "his", "they", "at", "be", "this", "have", "from", "or", "one", "had", "by", "word", "but",
    "not", "what", "all", "were", "we", "when", "your", "can", "said", "there", "use", "an", "each",
    "which", "she", "do", "how", "their", "if", "will", "up", "other", "about", "out", "many", "then",
    "them", "these", "so", "some", "her", "would", "make", "like", "him", "into", "time", "has", "look",
    "two", "more", "write", "go", "see", "number", "no", "way", "could", "people", "my", "than", "first",
    "water", "been", "call", "who", "oil", "its", "now", "find", "long", "down", "day", "did", "get",
    "come", "made", "may", "part", "over", "new", "sound", "take", "only", "little", "work", "know",
    "place", "year", "live", "me", "back", "give", "most", "very", "after", "thing", "our", "just", "name",
    "good", "man", "think", "say", "great", "where", "help", "much", "before", "line", "right", "too",
    "mean", "old", "any", "same", "tell", "boy", "follow", "came", "want", "show", "also", "around", "form",
    "three", "small", "set", "put", "end", "does", "well", "large", "must", "big", "even", "such", "turn",
    "here", "why", "ask", "went", "men", "read", "need", "land", "home", "us", "move", "try", "kind",
    "hand", "again", "change", "off", "play", "air", "away", "animal", "house", "point", "page", "letter",
    "mother", "answer", "found", "study", "still", "learn", "should", "world", "high", "every", "near",
    "add", "food", "own", "below", "plant", "last", "school", "father", "keep", "tree", "never", "start",
    "city", "earth", "eye", "light", "head", "under", "story", "saw", "left", "few", "while", "along",
    "might", "close", "seem", "next", "hard", "open", "begin", "life", "always", "those", "both", "paper",
    "group", "often", "run", "until", "side", "feet", "car", "mile", "night", "walk", "white", "sea",
    "began", "grow", "took", "river", "four", "carry", "state", "once", "book", "hear", "stop", "second",
    "later", "miss", "idea",
};
// clang-format on

Str word_at(uint8_t index) {
    return str_from_c(words[index]);
}

// The words of a text come from blocks of 16 bytes. The first four are the number itself, turned by the key
// so that another seed has other texts.
static uint8_t word_index(RngBlock *block, uint64_t key, uint32_t number, uint32_t at) {
    if (at < 4) return (uint8_t)((number ^ (uint32_t)(key >> 32)) >> (8 * at));
    if (at % 16 == 4) *block = rng_philox(key ^ number, at / 16);
    return (uint8_t)(block->word[at % 16 / 4] >> (at % 4 * 8));
}

size_t words_write(char *out, uint64_t key, uint32_t number, uint32_t n_words) {
    RngBlock block = {0};
    char *at = out;
    for (uint32_t i = 0; i < n_words; i++) {
        Str word = word_at(word_index(&block, key, number, i));
        if (i) *at++ = ' ';
        memcpy(at, word.ptr, word.len);
        at += word.len;
    }
    return (size_t)(at - out);
}
