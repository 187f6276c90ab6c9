// Feeds answers to a parser and writes down what comes out.
#pragma once

#include "base/rng.h"
#include "base/strbuf.h"
#include "chat/answer_parser.h"

// A vocabulary of single bytes whose control tokens are `marks`, separated by spaces; NULL or "": none.
const Tokenizer *answer_vocabulary(const char *marks);
// Of names and, for each, its parameters' schema: chat completions' tools as JSON.
const AnswerTools *answer_tools(Str json);

typedef struct {
    const AnswerFormats *formats;
    const Tokenizer *tokenizer;
    const AnswerTools *tools;
    AnswerOpening opening;
    // How the text is cut: pieces of 1 to `piece_max` bytes, by `seed`. 0: as large as they can be.
    uint32_t piece_max;
    uint64_t seed;
    bool is_cut; // by max_tokens
} AnswerRun;

enum { ANSWER_RUN_NOT_A_MARK = 1 }; // a byte before the text of a mark that ordinary tokens spell

typedef struct {
    uint32_t calls;
    bool reasons; // at the end
} AnswerRunEnd;

AnswerRunEnd answer_feed(const AnswerRun *r, Str text, AnswerSink sink);

// Parts, neighbours of one kind joined: "text", "{r:reasoning}", "{f:name|arguments}".
AnswerRunEnd answer_run(const AnswerRun *r, Str text, StrBuf *out);
