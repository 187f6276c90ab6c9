// Text to token ids and back, for every kind of vocabulary that the program reads.
//
//     gguf-bpe       byte-level BPE from a GGUF: tokenizer.ggml.model "gpt2", patterns by tokenizer.ggml.pre
//     gguf-char-bpe  BPE over characters from a GGUF: tokenizer.ggml.model "gemma4"
//     gguf-spm       SentencePiece BPE by scores from a GGUF: tokenizer.ggml.model "llama"
//     hf-json        a tokenizer.json with a BPE model, over bytes or over characters
//
// A Tokenizer is immutable once loaded: any number of threads may use it at once. Token strings are not
// copied from the file where that can be avoided, so the file stays mapped as long as the Tokenizer is used.
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "model/gguf.h"
#include "text/text_span.h"

typedef struct Tokenizer Tokenizer;

typedef struct {
    const int32_t *ptr;
    size_t count;
} TokenIds;

enum { TOKEN_NONE = -1 };

// Flags of tokenizer_encode.
enum {
    TOKENIZER_ADD_SPECIAL = 1 << 0,   // BOS and EOS, each where the vocabulary says so
    TOKENIZER_PARSE_SPECIAL = 1 << 1, // a control token's text becomes that token; otherwise it is plain text
    TOKENIZER_CONTINUES = 1 << 2, // the text follows others: no space in front where only the first gets one
    TOKENIZER_ONE_BOS = 1 << 3,   // no BOS is added to a text that begins with it already
    // A prompt, as the worker and `run` read it. (tokenize --add-special adds BOS in any case, as
    // transformers does.)
    TOKENIZER_PROMPT = TOKENIZER_ADD_SPECIAL | TOKENIZER_PARSE_SPECIAL | TOKENIZER_ONE_BOS,
};

// Reads the vocabulary of a model file. `arena` keeps the tables (about 40 bytes a token and 24 a merge) and
// lives as long as the Tokenizer; `scratch` takes up to 32 bytes a token or merge. Errors: ERR_BAD_FILE (a
// key missing, mistyped or of the wrong length, duplicate tokens, merges of unknown tokens, ids out of range:
// the message names key and index), ERR_UNSUPPORTED (a kind or a pre-tokeniser that is not known; the message
// lists those that are), ERR_NO_MEMORY.
MUST_CHECK bool tokenizer_from_gguf(const GgufFile *file, Arena *arena, Arena scratch, Tokenizer **out,
                                    Error *err);

// Reads a tokenizer.json, whose bytes stay in place as long as the Tokenizer. `model` is the file of the
// model that it is for, or NULL: its vocabulary may be a little larger (rows of the embedding that no token
// has), and it may know better which tokens end generation. Errors as above, with the part of the file and
// the byte position: what is beyond a normaliser, pre-tokeniser, decoder or post-processor that is supported;
// a regular expression outside the subset of text/regex.h; more tokens than the model has rows, or so few
// that it must be another model's. `scratch` takes 24 bytes for each value in the file.
MUST_CHECK bool tokenizer_from_json(Str json, const GgufFile *model, Arena *arena, Arena scratch,
                                    Tokenizer **out, Error *err);

const char *tokenizer_kind(const Tokenizer *t);          // "gguf-bpe", "gguf-spm", …
const char *tokenizer_pre_tokenizer(const Tokenizer *t); // "smollm", "qwen2", …; "" where there is none
uint32_t tokenizer_vocab_size(const Tokenizer *t);
int32_t tokenizer_bos(const Tokenizer *t);   // or TOKEN_NONE
int32_t tokenizer_eos(const Tokenizer *t);   // or TOKEN_NONE
bool tokenizer_adds_bos(const Tokenizer *t); // whether TOKENIZER_ADD_SPECIAL puts BOS in front

// Whether a token ends a text: what the file names so (eos, eot, eom, the array eos_token_ids, and the FIM
// tokens for padding, repositories and files), and tokens whose text is a well-known end marker (<|im_end|>,
// <|eot_id|>, <|end|>, <end_of_turn>, <|endoftext|>, <|return|>, …), whatever type the file gives them. False
// for ids out of range.
bool tokenizer_is_end(const Tokenizer *t, int32_t id);
TokenIds tokenizer_ends(const Tokenizer *t); // all of them, ascending

// The control token that a stop string is, which no text would ever match, or TOKEN_NONE.
int32_t tokenizer_stop_token(const Tokenizer *t, Str stop);

// What was wrong in the file and did no harm, a sentence each; for the log.
enum { TOKENIZER_WARNINGS_MAX = 8 };
uint32_t tokenizer_warning_count(const Tokenizer *t);
const char *tokenizer_warning(const Tokenizer *t, uint32_t i);

// Bytes that encoding `text_bytes` needs: of scratch, and of the arena that takes the ids.
uint64_t tokenizer_encode_scratch_bytes(const Tokenizer *t, uint64_t text_bytes);
uint64_t tokenizer_encode_ids_bytes(const Tokenizer *t, uint64_t text_bytes);

// The ids go into `arena`, which loses exactly the bytes that they need. The text may be any bytes: those
// that are no UTF-8 are encoded one by one and match no pattern as a letter, digit or space. Time is O(n log
// n) for any text. The only error is ERR_NO_MEMORY.
MUST_CHECK bool tokenizer_encode(const Tokenizer *t, Str text, uint32_t flags, Arena *arena, Arena scratch,
                                 TokenIds *out, Error *err);

// The same for a text that a chat template made: [n_spans] spans cover it in order. Text of the request never
// becomes a control token; the template's does, where the token's whole spelling lies within one span. All
// text between control tokens is encoded as one, so that words go across borders. No BOS or EOS is added. The
// scratch is that of tokenizer_encode_spans_scratch_bytes, the ids as above.
MUST_CHECK bool tokenizer_encode_spans(const Tokenizer *t, Str text, const TextSpan *spans, uint32_t n_spans,
                                       Arena *arena, Arena scratch, TokenIds *out, Error *err);
uint64_t tokenizer_encode_spans_scratch_bytes(const Tokenizer *t, uint64_t text_bytes, uint32_t n_spans);

// The bytes of a token, not always whole characters; they live as long as the Tokenizer. A control token
// gives its text only where `with_special`, else nothing. Empty for ids out of range.
Str tokenizer_piece(const Tokenizer *t, int32_t id, bool with_special);
// The longest piece that tokenizer_piece can give.
uint32_t tokenizer_piece_bytes_max(const Tokenizer *t);

bool tokenizer_is_special(const Tokenizer *t, int32_t id); // a control token: gives no text

// The control or user-defined token whose text is exactly `text`, or TOKEN_NONE.
int32_t tokenizer_token_by_text(const Tokenizer *t, Str text);

// Whether the first token's leading space is the encoder's own ("add space prefix") and is dropped when a
// text starts.
bool tokenizer_strips_leading_space(const Tokenizer *t);
