// Text for prompts: common short English words, most of which are one token of usual vocabularies.
//
// A text is a pure function of its key and number. Texts of one key and different numbers differ within their
// first four words, so no two share more than a few tokens at their beginning; the first word alone tells
// neighbours apart.
#pragma once

#include "base/base.h"

enum { WORDS_COUNT = 256, WORD_BYTES_MAX = 6 };

// One of the words, of lower-case letters alone.
Str word_at(uint8_t index);

// Writes `n_words` words with a space in front of each but the first to `out`, which has room for
// n_words * (WORD_BYTES_MAX + 1) bytes; how many bytes it wrote.
size_t words_write(char *out, uint64_t key, uint32_t number, uint32_t n_words);
