// What the fuzzers of tests/fuzz/ do with an input, and what the tests do with the inputs kept in
// tests/fuzz/corpus/. Each aborts when the program breaks a promise of its own; a sanitizer finds the rest.
#pragma once

#include "base/base.h"
#include "base/rng.h"

enum { FUZZ_INPUT_BYTES_MAX = 64 * 1024 };

// Random numbers that are the same in every run.
typedef struct {
    uint64_t key;
    uint64_t draws;
} FuzzDice;

static inline uint32_t fuzz_roll(FuzzDice *dice, uint32_t below) {
    return rng_philox(dice->key, dice->draws++).word[0] % below;
}

// A JSON text: what is taken must come back the same after being written and read again.
void fuzz_json(const uint8_t *data, size_t size);
// The body of POST /execute: what is taken keeps to the table's ranges, and what is refused says of which
// field without repeating a text.
void fuzz_request(const uint8_t *data, size_t size);
// A byte that picks the API (chat completions, completions, Responses, Messages), and a request's body: what
// is taken keeps to the tables' ranges and asks for answers that there can be, and what is refused says of
// which field without repeating a text.
void fuzz_generate(const uint8_t *data, size_t size);
// The first byte chooses how the rest is cut into pieces and how requests are answered: the outcome must not
// depend on the pieces.
void fuzz_http(const uint8_t *data, size_t size);

// One connection, step by step: what its peer sends, reads and leaves unread, when it ends, what the handler
// answers and how time passes; http_connection.h's promises are checked after each.
void fuzz_connection(const uint8_t *data, size_t size);

// A GGUF file: what is taken keeps the header's promises, and every value, element and tensor can be read.
void fuzz_gguf(const uint8_t *data, size_t size);

// A pattern, a zero byte, and a text: its pieces are the text, whatever becomes of the matches.
void fuzz_regex(const uint8_t *data, size_t size);
// A byte that chooses GBNF or Lark, a grammar, a zero byte, and bytes that choose tokens: masks allow what
// can be read, every state goes on, what is refused says why. Or (bit 1) a pattern, a zero byte, and texts, a
// line each: automata over characters and over bytes agree on them.
void fuzz_grammar(const uint8_t *data, size_t size);
// A tokenizer.json, or a GGUF, with which texts are encoded: ids are tokens of the vocabulary.
void fuzz_tokenizer_json(const uint8_t *data, size_t size);
void fuzz_vocabulary(const uint8_t *data, size_t size);
// Any bytes, as a text to be normalised, encoded and decoded: what comes back is the text, with U+FFFD where
// it is no UTF-8, and every piece of it is whole characters.
void fuzz_text(const uint8_t *data, size_t size);
// A byte that picks the API, and a request's body: errors name a place; variables have the shape that
// templates and the reader of tools rely on.
void fuzz_conversation(const uint8_t *data, size_t size);
// A chat template, a zero byte, and its variables in JSON: spans cover what is rendered, and errors are the
// template's.
void fuzz_template(const uint8_t *data, size_t size);

// A byte that chooses options, and a schema: it is refused with a message, or what the masks allow leads to
// JSON.
void fuzz_schema(const uint8_t *data, size_t size);

// An answer of a model behind three bytes that choose its formats, where its prompt left it and how it is
// cut: the parts are the same however it is cut, arguments of calls are JSON, and nothing is invented or
// lost.
void fuzz_model_answer(const uint8_t *data, size_t size);

// Runs `target` on every file of tests/fuzz/corpus/<name>, then on mutations of them (the same ones each
// time). Returns the number of files.
size_t fuzz_replay(const char *name, void (*target)(const uint8_t *data, size_t size), uint32_t mutations);
