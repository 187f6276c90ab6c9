// Wraps one user message in the turn markers that a vocabulary has, for a first talk with an
// instruction-tuned model.
//
// The style follows from the control tokens present; it is not the model's own template, which may say more.
#pragma once

#include "text/tokenizer.h"

typedef enum {
    CHAT_PLAIN,   // no markers known: the message as it is
    CHAT_CHATML,  // <|im_start|>role … <|im_end|>
    CHAT_LLAMA3,  // <|start_header_id|>role<|end_header_id|> … <|eot_id|>
    CHAT_GPT_OSS, // <|start|>role<|message|> … <|end|>
    CHAT_PHI3,    // <|user|> … <|end|>
    CHAT_GEMMA,   // <start_of_turn>role … <end_of_turn>
} ChatStyle;

ChatStyle chat_style(const Tokenizer *t);
const char *chat_style_name(ChatStyle style);

// Whether a chat template (Jinja) can be the form that the vocabulary suggests: it has the marks of that
// form, and none that tell that it is another. Fine-tunes often keep the marks of a base model that they do
// not use.
bool chat_fits_template(const Tokenizer *t, Str template);

// The prompt up to and including the assistant's turn marker, as ids. Text in the messages that looks like a
// control token stays text. `system` may be empty. ERR_NO_MEMORY when an arena is full.
MUST_CHECK bool chat_encode(const Tokenizer *t, Str system, Str user, Arena *arena, Arena scratch,
                            TokenIds *out, Error *err);

// The same prompt as text, for a request whose prompt is encoded with TOKENIZER_PARSE_SPECIAL. It does not
// hold the BOS token, which TOKENIZER_ADD_SPECIAL adds. False when the arena is full.
MUST_CHECK bool chat_format(const Tokenizer *t, Str system, Str user, Arena *arena, Str *out);
