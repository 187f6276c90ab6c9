// Reads the vocabularies and texts of tests/vectors/tokenizer for the tokenizer's tests.
#pragma once

#include "runner.h"
#include "text/tokenizer.h"
#include "json/json_reader.h"

// Whatever these return lives until the case ends.
Arena *vectors_arena(void);
Arena vectors_scratch(void);
const JsonNode *vectors_read(const char *name); // a file below tests/vectors
// The vocabulary of bpe.json with this pre-tokeniser, or of spm.json, as a GGUF in memory, loaded.
const Tokenizer *vectors_bpe(const JsonNode *root, const char *pre);
const Tokenizer *vectors_spm(const JsonNode *root, bool add_space_prefix);
// The vocabulary over characters of hf.json, as a GGUF of Gemma 4 has it.
const Tokenizer *vectors_gemma4(const JsonNode *root);
// The GGUF bytes of a file, loaded; REQUIREs success.
const Tokenizer *vectors_load(Str gguf);

// Encodes into the arena; REQUIREs success. Scratch is as long as tokenizer_encode_scratch_bytes says, and
// the text lies before an inaccessible page.
TokenIds vectors_encode(const Tokenizer *t, Str text, uint32_t flags);
Str vectors_decode(const Tokenizer *t, TokenIds ids);
// A string member or element, by value.
Str vectors_str(const JsonNode *node);
// A list of strings. They live as long as the list.
Str *vectors_strs(const JsonNode *list, uint32_t *count);

// A list of ids.
TokenIds vectors_ids(const JsonNode *list);
// A list of ids, or of two such lists: with control tokens as plain text, and parsed.
TokenIds vectors_expected(const JsonNode *node, bool parsed);
void vectors_check_ids(TokenIds expected, TokenIds found);
