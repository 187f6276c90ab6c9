#include "api/api_internal.h"
#include "base/utf8.h"
#include "fuzz_targets.h"

#include <stdlib.h>

enum { NODES = 16 * 1024, VOCAB = 1000 };

static void require(bool ok) {
    if (!ok) abort();
}

// Not given, or in its range.
static bool is_in(double value, double least, double most) {
    return isnan(value) || (value >= least && value <= most);
}

static void check_fields(const GenerateRequest *g) {
    require(is_in(g->temperature, 0, 2) && is_in(g->top_p, 0, 1) && is_in(g->min_p, 0, 1));
    require(is_in(g->repetition_penalty, 0, 2) && g->repetition_penalty != 0);
    require(is_in(g->presence_penalty, -2, 2) && is_in(g->frequency_penalty, -2, 2));
    require(g->top_k >= -1 && g->top_k <= VOCAB && g->n <= CHOICES_MAX && g->n_logprobs <= LOGPROBS_MAX);
    require(g->max_tokens >= -1 && g->max_completion_tokens >= -1);
    require(g->logit_bias.count <= LOGIT_BIAS_MAX && g->stop.count <= STOP_STRINGS_MAX);
    for (uint32_t i = 0; i < g->logit_bias.count; i++)
        require(g->logit_bias.entries[i].token >= 0 && g->logit_bias.entries[i].token < VOCAB);
    for (uint32_t i = 0; i < g->stop.count; i++)
        require(g->stop.texts[i].len >= 1 && g->stop.texts[i].len <= STOP_STRING_BYTES_MAX);
    require(g->stop_token_ids.count <= STOP_STRINGS_MAX);
    for (uint32_t i = 0; i < g->stop_token_ids.count; i++)
        require(g->stop_token_ids.ids[i] >= 0 && g->stop_token_ids.ids[i] < VOCAB);
}

void fuzz_generate(const uint8_t *data, size_t size) {
    static const ApiDialect *const dialects[] = {&api_chat_dialect, &api_completions_dialect,
                                                 &api_responses_dialect, &api_messages_dialect};
    static Api api;
    static uint8_t space[NODES * 32 + (1 << 20)];
    static ApiRequest r;
    if (size == 0 || size > FUZZ_INPUT_BYTES_MAX) return;
    const ApiDialect *dialect = dialects[data[0] % COUNT_OF(dialects)];
    Error err = {0};
    api.config.served_model = STR("tiny");
    api.config.strict_model_name = true;
    r = (ApiRequest){.dialect = dialect,
                     .limits = {.max_tokens_in = 100,
                                .max_tokens_out = 200,
                                .vocab_size = VOCAB,
                                .context_length = 200,
                                .max_prompt_chars = 100},
                     .large = -1,
                     .arena = arena_from_memory(space, sizeof space),
                     .body = (char *)data + 1,
                     .body_bytes = size - 1};
    if (dialect->parse(&api, &r, NODES, &err)) {
        check_fields(&r.fields.generate);
        uint32_t n = dialect->n_jobs ? dialect->n_jobs(&r) : 1;
        require(n >= 1 && n <= REQUEST_JOBS_MAX);
        return;
    }
    require((err.code == ERR_INVALID_REQUEST || err.code == ERR_NOT_FOUND) && err.message[0]);
    require(utf8_valid_prefix(str_from_c(err.message)) == strlen(err.message));
    if (err.field[0]) require(str_starts_with(str_from_c(err.message), str_from_c(err.field)));
}
