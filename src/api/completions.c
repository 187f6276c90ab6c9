// POST /v1/completions, as the OpenAI API has it: texts that go on.
#include "api/openai.h"

#include "api/job_fill.h"
#include "base/utf8.h"
#include "http/sse.h"

#include <stdio.h>

// ---- requests ----

static const FieldRule rules[] = {
    GENERATE_RULES,
    {"prompt", FIELD_NODE, GENERATE_AT(prompt)},
    {"logprobs", FIELD_U64, GENERATE_AT(n_logprobs), GENERATE_GIVEN(has_n_logprobs), .most = LOGPROBS_MAX},
    {"echo", FIELD_BOOL, GENERATE_AT(echo)},
    {"add_special_tokens", FIELD_BOOL, GENERATE_AT(add_special_tokens),
     GENERATE_GIVEN(has_add_special_tokens)},
};
const FieldTable completions_fields = {rules, COUNT_OF(rules), .null_is_absent = true};

static const RefusalRule refused[] = {
    {"suffix", 0, NULL, "write the model's own fill-in-the-middle tokens into the prompt"},
    {"prompt_embeds", 0, NULL, NULL},
};

static bool is_id(const JsonNode *node) {
    return json_is_number(node);
}

// A text, ids, or an array of either.
static bool read_prompts(GenerateRequest *g, Error *err) {
    static const char wanted[] = "a string, an array of strings, or arrays of token ids";
    const JsonNode *prompt = g->prompt;
    g->n_prompts = 1;
    if (!prompt) return field_refuse(err, "prompt", "is required");
    if (json_is(prompt, JSON_STRING)) return true;
    if (!json_is(prompt, JSON_ARRAY)) return field_refuse_type(err, "prompt", wanted, prompt);
    if (prompt->length == 0) return field_refuse(err, "prompt", "must not be empty");
    g->prompt_is_ids = is_id(json_first(prompt));
    if (g->prompt_is_ids) return true;
    g->prompt_is_list = true;
    g->n_prompts = prompt->length;
    for (const JsonNode *e = json_first(prompt); e != json_end(prompt); e = json_next(e)) {
        bool is_ids = json_is(e, JSON_ARRAY) && e->length && is_id(json_first(e));
        if (!json_is(e, JSON_STRING) && !is_ids) return field_refuse_type(err, "prompt", wanted, e);
    }
    return true;
}

static uint32_t choices_of(const GenerateRequest *g) {
    return g->n ? (uint32_t)g->n : 1;
}

static bool check_count(const GenerateRequest *g, Error *err) {
    char message[96];
    uint64_t count = (uint64_t)g->n_prompts * choices_of(g);
    if (count <= REQUEST_JOBS_MAX) return true;
    snprintf(message, sizeof message, "%u prompts with %u answers each; at most %d answers are allowed",
             g->n_prompts, choices_of(g), REQUEST_JOBS_MAX);
    return field_refuse(err, "prompt", message);
}

static bool parse(const Api *api, ApiRequest *r, uint32_t nodes_max, Error *err) {
    GenerateRequest *g = &r->fields.generate;
    const JsonNode *root = fields_parse_body((Str){r->body, r->body_bytes}, nodes_max, &r->arena, err);
    if (!root || !fields_read(&completions_fields, root, &r->limits, &r->arena, g, err) ||
        !generate_refuse(generate_refused, n_generate_refused, root, err) ||
        !structured_read(g->structured_fields, &g->structured, err) ||
        !generate_refuse(refused, COUNT_OF(refused), root, err) || !openai_check_model(api, g, err) ||
        !openai_read_stream_options(root, g, err) || !read_prompts(g, err) || !check_count(g, err))
        return false;
    g->logprobs = g->has_n_logprobs;
    if (g->echo && g->logprobs)
        return field_refuse(err, "logprobs", "those of a prompt are not computed; they do not go with echo");
    return true;
}

static uint32_t n_jobs(const ApiRequest *r) {
    return r->fields.generate.n_prompts * choices_of(&r->fields.generate);
}

// ---- encoding ----

static const JsonNode *prompt_node(const GenerateRequest *g, uint32_t prompt) {
    const JsonNode *node = g->prompt;
    if (!g->prompt_is_list) return node;
    node = json_first(g->prompt);
    for (uint32_t i = 0; i < prompt; i++)
        node = json_next(node);
    return node;
}

static bool read_ids(const JsonNode *node, uint64_t vocab_size, Arena *arena, TokenIds *out, Error *err) {
    int32_t *ids = arena_new(arena, int32_t, node->length);
    size_t n = 0;
    if (!ids) return error_set(err, ERR_NO_MEMORY, "no memory for %u token ids", node->length);
    for (const JsonNode *e = json_first(node); e != json_end(node); e = json_next(e), n++) {
        uint64_t id;
        char wanted[64];
        snprintf(wanted, sizeof wanted, "a token id of 0 to %llu", (unsigned long long)vocab_size - 1);
        if (!json_read_u64(e, &id) || id >= vocab_size) return field_refuse_type(err, "prompt", wanted, e);
        ids[n] = (int32_t)id;
    }
    *out = (TokenIds){ids, n};
    return true;
}

// The prompt as it is echoed, in memory that stays.
static bool keep_echo(const Tokenizer *t, Str text, TokenIds ids, Arena *kept, Str *out, Error *err) {
    StrBuf b = strbuf_begin_in_arena(kept);
    if (text.ptr) strbuf_put(&b, text);
    for (size_t i = 0; !text.ptr && i < ids.count; i++)
        strbuf_put(&b, tokenizer_piece(t, ids.ptr[i], true));
    if (b.truncated) return field_refuse(err, "echo", "the prompts are longer than can be repeated");
    *out = strbuf_end_in_arena(&b, kept);
    return true;
}

static bool encode_prompt(Api *api, ApiRequest *r, uint32_t prompt, Job *job, Error *err) {
    GenerateRequest *g = &r->fields.generate;
    const Tokenizer *t = api->config.tokenizer;
    const JsonNode *node = prompt_node(g, prompt);
    Arena scratch = api_lane(api, r)->scratch, ids_arena, *kept = api_kept_memory(r);
    Str text = {0};
    TokenIds ids;
    bool without_bos = g->has_add_special_tokens && !g->add_special_tokens;
    uint32_t flags = without_bos ? TOKENIZER_PARSE_SPECIAL : TOKENIZER_PROMPT;
    if (json_read_str(node, &text)) {
        if (text.len == 0) return field_refuse(err, "prompt", "must not be empty");
        if (!arena_split(&scratch, tokenizer_encode_ids_bytes(t, text.len), &ids_arena))
            return error_set(err, ERR_NO_MEMORY, "no memory for the prompt's tokens");
        if (!tokenizer_encode(t, text, flags, &ids_arena, scratch, &ids, err)) return false;
    } else if (!read_ids(node, r->limits.vocab_size, &scratch, &ids, err)) {
        return false;
    }
    return job_set_prompt(job, ids, text, "prompt", &r->limits, err) &&
           (!g->echo || keep_echo(t, text, ids, kept, &g->echoed[prompt], err)) &&
           generate_fill_job(g, &api->config.sampling, &r->limits, t, api_lane(api, r)->scratch, job, err);
}

static bool encode(Api *api, ApiRequest *r, uint32_t choice, Job *job, Error *err) {
    uint32_t n = choices_of(&r->fields.generate), first = choice - choice % n;
    if (choice != first) return job_copy(job, &api->config.bridge->jobs[r->jobs[first]], choice - first, err);
    return encode_prompt(api, r, choice / n, job, err) &&
           api_hold_answer(api, r, &r->fields.generate.structured, NULL, job, err);
}

// ---- log-probabilities ----

static void put_best(JsonWriter *w, const Tokenizer *t, const TokenLogprobs *l) {
    json_open_object(w);
    for (uint32_t i = 0; i < l->n_best; i++) {
        json_key_str(w, tokenizer_piece(t, l->best[i].id, true));
        openai_put_logprob(w, l->best[i].logprob);
    }
    json_close_object(w);
}

typedef enum { LIST_TOKENS, LIST_LOGPROBS, LIST_BEST, LIST_OFFSETS, LIST_COUNT } LogprobList;

// One of the four arrays over the tokens.
static void put_list(JsonWriter *w, const Tokenizer *t, const TokenLogprobs *l, LogprobList list,
                     uint64_t offset) {
    switch (list) {
    case LIST_TOKENS: json_put_str(w, tokenizer_piece(t, l->token, true)); break;
    case LIST_LOGPROBS: openai_put_logprob(w, l->logprob); break;
    case LIST_BEST: put_best(w, t, l); break;
    case LIST_OFFSETS: json_put_u64(w, offset); break;
    case LIST_COUNT: break;
    }
}

static const char *const list_names[LIST_COUNT] = {"tokens", "token_logprobs", "top_logprobs", "text_offset"};

// Of all kept tokens, or of the one in `only`. `offset` counts characters of the text before it.
static void put_logprobs(JsonWriter *w, const Tokenizer *t, const ApiAnswer *a, const TokenLogprobs *only,
                         uint64_t offset) {
    json_key(w, "logprobs");
    if (!only && !a) {
        json_put_null(w);
        return;
    }
    json_open_object(w);
    for (int list = 0; list < LIST_COUNT; list++) {
        KeptPart part;
        uint64_t at_character = offset;
        json_key(w, list_names[list]);
        json_open_array(w);
        if (only) put_list(w, t, only, (LogprobList)list, at_character);
        for (size_t at = 0; !only && answer_next(a, &at, &part);) {
            if (part.kind != KEPT_TOKEN) continue;
            put_list(w, t, &part.logprobs, (LogprobList)list, at_character);
            at_character += utf8_count(tokenizer_piece(t, part.logprobs.token, true));
        }
        json_close_array(w);
    }
    json_close_object(w);
}

// ---- streams ----

// One chunk.
static void send_chunk(Api *api, const ApiRequest *r, ApiJob *mine, Str piece, const TokenLogprobs *logprobs,
                       bool is_last) {
    const Tokenizer *t = api->config.tokenizer;
    StrBuf text = api_text(api);
    JsonWriter w = sse_event_begin(&text, NULL);
    json_open_object(&w);
    openai_put_head(&w, api, r, "text_completion");
    json_key(&w, "choices");
    json_open_array(&w);
    json_open_object(&w);
    json_member_u64(&w, "index", mine->choice);
    json_member_str(&w, "text", piece);
    put_logprobs(&w, t, NULL, logprobs, mine->characters);
    if (logprobs) mine->characters += utf8_count(tokenizer_piece(t, logprobs->token, true));
    if (is_last) openai_put_finish(&w, r, &mine->answer);
    else json_member_null(&w, "finish_reason");
    json_close_object(&w);
    json_close_array(&w);
    if (r->fields.generate.include_usage) json_member_null(&w, "usage");
    json_close_object(&w);
    openai_send(r, &text);
}

static Str echo_of(const ApiRequest *r, const ApiJob *mine) {
    const GenerateRequest *g = &r->fields.generate;
    return g->echo ? g->echoed[mine->choice / choices_of(g)] : (Str){0};
}

static void started(Api *api, ApiRequest *r, ApiJob *mine, const Job *job) {
    (void)job;
    static const AnswerFormats plain; // all of it is text
    answer_begin(&mine->answer, !r->fields.generate.stream);
    answer_parser_begin(mine->answer.parser, &plain, api->config.tokenizer, NULL, ANSWER_OPENS_CONTENT);
    if (!r->fields.generate.stream) return;
    api_begin_stream(api, r);
    if (r->fields.generate.echo) send_chunk(api, r, mine, echo_of(r, mine), NULL, false);
}

typedef struct {
    Api *api;
    ApiRequest *r;
    ApiJob *mine;
    const TokenLogprobs *logprobs; // until a chunk has them
} Context;

static void take_part(void *context, const AnswerPart *part) {
    Context *c = context;
    answer_keep(&c->mine->answer, KEPT_CONTENT, 0, part->text);
    if (c->r->fields.generate.stream) send_chunk(c->api, c->r, c->mine, part->text, c->logprobs, false);
    c->logprobs = NULL;
}

static void token(Api *api, ApiRequest *r, ApiJob *mine, const Job *job, const JobEvent *e) {
    (void)job;
    Context c = {api, r, mine, e->token.has_logprobs ? &e->token.logprobs : NULL};
    openai_take_token(mine, e, (AnswerSink){take_part, &c});
    if (c.logprobs && r->fields.generate.stream) take_part(&c, &(AnswerPart){.kind = ANSWER_CONTENT});
}

static void done(Api *api, ApiRequest *r, ApiJob *mine, const Job *job, const JobEvent *e) {
    Context c = {api, r, mine, NULL};
    openai_take_end(api, mine, job, e, (AnswerSink){take_part, &c});
    if (r->fields.generate.stream) send_chunk(api, r, mine, (Str){0}, NULL, true);
}

// ---- whole answers ----

static void put_choice(JsonWriter *w, const Api *api, const ApiRequest *r, const ApiJob *mine) {
    const ApiAnswer *a = &mine->answer;
    KeptPart part;
    json_open_object(w);
    json_member_u64(w, "index", mine->choice);
    json_key(w, "text");
    json_open_str(w);
    json_add_to_str(w, echo_of(r, mine));
    for (size_t at = 0; answer_next(a, &at, &part);) {
        if (part.kind == KEPT_CONTENT) json_add_to_str(w, part.text);
    }
    json_close_str(w);
    put_logprobs(w, api->config.tokenizer, r->fields.generate.logprobs ? a : NULL, NULL, 0);
    openai_put_finish(w, r, a);
    json_close_object(w);
}

static void answer(Api *api, ApiRequest *r) {
    openai_answer(api, r, "text_completion", "text_completion", put_choice);
}

const ApiDialect api_completions_dialect = {
    .name = "completions",
    .errors = ERRORS_OPENAI,
    .queues = true,
    .has_jobs = true,
    .parse = parse,
    .n_jobs = n_jobs,
    .id_prefix = "cmpl-",
    .encode = encode,
    .started = started,
    .token = token,
    .done = done,
    .answer = answer,
    .error = openai_error,
};

void api_completions(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter) {
    (void)parameter;
    api_accept(api, exchange, request, &api_completions_dialect);
}
