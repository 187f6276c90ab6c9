// Writes small tokenizer.json texts.
#pragma once

#include "base/arena.h"

// Members are JSON texts; NULL leaves the member out.
typedef struct {
    bool characters; // tokens are <0x00> … <0xFF>, U+2581 and a … z; else the 256 of the byte-level alphabet
    const char *tokens;  // more of them, separated by spaces
    const char *merges;  // an array; NULL: an empty one
    const char *options; // more members of the model, each with a comma behind it
    const char *added_tokens, *normalizer, *pre_tokenizer, *decoder, *post_processor;
} JsonVocab;

enum { JSON_VOCAB_CHARACTERS = 256 + 27 }; // ids below are those of the alphabet

Str json_vocab_write(const JsonVocab *v, Arena *arena);

// What vocabularies of published models look like: over bytes with <|im_start|>, over bytes with Llama 3's
// markers and a BOS, over characters with Phi-3's markers, which take the white space behind them, over
// characters with Gemma's.
enum { JSON_VOCAB_SAMPLES = 4 };
extern const JsonVocab json_vocab_samples[JSON_VOCAB_SAMPLES];
