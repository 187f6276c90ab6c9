// Token ids to text, one token at a time.
//
// Only whole UTF-8 characters come out: bytes of a character that is not complete yet wait for the next
// token, and bytes that can no longer become one turn into U+FFFD each, grouped as the Unicode standard
// recommends ("maximal subparts", chapter 3.9), which is also what Python and Rust do. Control tokens give no
// text and end no character, unless they are shown. One thread; one Detokenizer a stream.
#pragma once

#include "text/tokenizer.h"

typedef struct {
    const Tokenizer *tokenizer;
    char *buffer; // what the last call returned
    size_t buffer_bytes;
    uint8_t pending[4];
    uint8_t pending_count;
    bool at_start;      // the next piece begins a text
    bool shows_special; // control tokens give their text
} Detokenizer;

// The buffer comes from `arena`: at most 3 bytes for each byte of the longest token. False when the arena is
// full.
MUST_CHECK bool detokenizer_init(Detokenizer *d, const Tokenizer *tokenizer, Arena *arena);

// Forgets everything, for the next stream.
void detokenizer_reset(Detokenizer *d);

// The next token begins a text instead of continuing one (as generated tokens continue a prompt): the space
// that the encoder of some vocabularies puts in front of a text is dropped again.
void detokenizer_start_text(Detokenizer *d);

// From now on control tokens give their text, as others do. Off after detokenizer_reset.
void detokenizer_show_special(Detokenizer *d, bool show);

// The text that this token completes, valid until the next call; often empty. Ids out of range give nothing.
Str detokenizer_push(Detokenizer *d, int32_t id);

// What is left at the end of the stream: empty, or one U+FFFD for a character that was never completed.
Str detokenizer_flush(Detokenizer *d);
