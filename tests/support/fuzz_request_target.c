#include "fuzz_targets.h"

#include "api/execute_request.h"
#include "base/utf8.h"

#include <stdlib.h>

enum { NODES = 16 * 1024, VOCAB = 1000 };

static void require(bool ok) {
    if (!ok) abort();
}

static bool is_in(double value, double least, double most) {
    return value >= least && value <= most;
}

static void check_request(const ExecuteRequest *r, const RequestLimits *limits) {
    require(r->job_id.len >= 1 && r->job_id.len <= JOB_ID_BYTES_MAX);
    require((r->prompt.len > 0) != (r->prompt_tokens.count > 0));
    require(utf8_valid_prefix(r->prompt) == r->prompt.len);
    require(utf8_count(r->prompt) <= limits->max_prompt_chars);
    require(r->prompt_tokens.count <= limits->max_tokens_in && r->max_tokens <= limits->max_tokens_out);
    for (uint32_t i = 0; i < r->prompt_tokens.count; i++)
        require(is_in(r->prompt_tokens.ids[i], 0, VOCAB - 1));
    require(is_in(r->temperature, 0, 2) && is_in(r->top_p, 0, 1) && is_in(r->min_p, 0, 1));
    require(r->top_k <= VOCAB && r->repetition_penalty > 0 && r->repetition_penalty <= 2);
    require(is_in(r->presence_penalty, -2, 2) && is_in(r->frequency_penalty, -2, 2));
    require(r->logprobs <= LOGPROBS_MAX && r->logit_bias.count <= LOGIT_BIAS_MAX);
    for (uint32_t i = 0; i < r->logit_bias.count; i++) {
        require(is_in(r->logit_bias.entries[i].token, 0, VOCAB - 1));
        require(is_in((double)r->logit_bias.entries[i].bias, -100, 100));
    }
    require(r->stop.count <= STOP_STRINGS_MAX);
    for (uint32_t i = 0; i < r->stop.count; i++)
        require(r->stop.texts[i].len >= 1 && r->stop.texts[i].len <= STOP_STRING_BYTES_MAX);
}

void fuzz_request(const uint8_t *data, size_t size) {
    static uint8_t space[NODES * 32 + (1 << 20)];
    static const RequestLimits limits = {.max_tokens_in = 100,
                                         .max_tokens_out = 200,
                                         .vocab_size = VOCAB,
                                         .context_length = 200,
                                         .max_prompt_chars = 100};
    if (size > FUZZ_INPUT_BYTES_MAX) return;
    Arena arena = arena_from_memory(space, sizeof space);
    ExecuteRequest r;
    Error err = {0};
    if (execute_request_parse((Str){(const char *)data, size}, NODES, &limits, &arena, &r, &err)) {
        check_request(&r, &limits);
        return;
    }
    require(err.code == ERR_INVALID_REQUEST && err.message[0]);
    require(utf8_valid_prefix(str_from_c(err.message)) == strlen(err.message));
    if (err.field[0]) require(str_starts_with(str_from_c(err.message), str_from_c(err.field)));
}
