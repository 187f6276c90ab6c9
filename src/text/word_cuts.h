// Cuts a text in which spaces are written U+2581 into words that can be merged one by one.
//
// Merging only joins neighbours, so a place that lies inside no token splits a text into two that know
// nothing of each other. Text is cut before each space that follows something else. Where a token does have a
// space behind something else, the bytes around that space are noted, and text is not cut between them.
#pragma once

#include "base/base.h"

#define WORD_SPACE "\xE2\x96\x81"
enum { WORD_SPACE_BYTES = 3 };

typedef struct {
    uint64_t crossing[65536 / 64]; // a bit for each pair of the bytes before and behind a space
} WordCuts;

// A token that merging can make.
void word_cuts_note(WordCuts *cuts, Str token);

// The end of the word that begins at `start`, and how many characters it has; a byte that is no UTF-8 is one.
size_t word_cuts_next(const WordCuts *cuts, Str text, size_t start, size_t *n_characters);

// The length of the character at `at`, or 1 for a byte that begins none.
size_t word_character_bytes(Str text, size_t at);
