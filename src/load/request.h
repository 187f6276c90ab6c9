// A request's text: head and body in one piece of memory that a whole conversation uses, so that each turn
// only adds to it. The body's last fields come behind the text, where a turn writes them anew:
//
//     POST … Content-Length: N {"model":…,"messages":[{"role":"user","content":"  texts  "}],"max_tokens":64}
#pragma once

#include "load/load.h"

typedef struct {
    char *memory; // [LOAD_REQUEST_BYTES_MAX]
    size_t text_end, end;
    bool in_answer; // the text ends with an answer, not with a prompt
    bool is_full;
} RequestText;

// What is the same in all requests of a run.
typedef struct {
    const LoadConfig *config;
    Str model;
    Str head;               // up to the body's length
    double tokens_per_word; // of words.h, in this server's vocabulary
    double template_tokens; // of a prompt beside its words
    uint64_t words_key, prefix_key;
} RequestMaker;

// Which request it is, and what it should be like.
typedef struct {
    uint32_t conversation, turn;
    Str prompt;                            // as it stands in JSON; empty: words
    uint32_t prompt_tokens, output_tokens; // of a further turn: of the new message alone
} RequestPlan;

// The slices of the result lie in `memory` [LOAD_HEAD_BYTES_MAX]. Errors: ERR_USAGE for a URL or header that
// cannot be used.
MUST_CHECK bool request_maker_begin(const LoadConfig *config, Str model, char *memory, RequestMaker *out,
                                    Error *err);
// The plan of a conversation's turn, by the seed or the trace.
RequestPlan request_plan(const RequestMaker *m, uint32_t conversation, uint32_t turn);
// Whether its prompt becomes longer than planned: the chat template and a single word are more.
bool request_is_lengthened(const RequestMaker *m, const RequestPlan *plan);
// Writes a request; `number` is its own among all of the run. With turn 0 it begins, otherwise it goes on
// with what was there. An empty Str where it does not fit.
Str request_write(const RequestMaker *m, RequestText *t, const RequestPlan *plan, uint64_t number);
// A piece of the answer, as it stands in JSON. Only once the request has been sent whole.
void request_add_answer(const RequestMaker *m, RequestText *t, Str piece);
// The same with this many words alone, for finding out how many tokens they are.
Str request_write_probe(const RequestMaker *m, RequestText *t, uint32_t n_words, uint32_t number);
// Where the API's route is below the server's URL, with a path that the URL has.
void request_put_path(StrBuf *out, const LoadConfig *config, Str url_path);
