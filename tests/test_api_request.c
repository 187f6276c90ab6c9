// POST /execute without sockets: the table of fields, the prompt's encoding, and what they cost.
#include "api/execute_request.h"
#include "api/job_fill.h"
#include "base/hash.h"
#include "fake_worker.h"
#include "fuzz_targets.h"
#include "runner.h"

#include <stdio.h>

static const RequestLimits limits = {.max_tokens_in = 1000,
                                     .max_tokens_out = 2048,
                                     .vocab_size = 50000,
                                     .context_length = 2048,
                                     .max_prompt_chars = PROMPT_CHARACTERS_MAX};

enum { JSON_BYTES = JSON_NODES_MAX * 32 + (1 << 20) };

static bool parse(Str body, ExecuteRequest *out, Error *err) {
    Arena arena = os_arena(JSON_BYTES);
    return execute_request_parse(body, JSON_NODES_MAX, &limits, &arena, out, err);
}

// The body {"job_id": n times 'j', "prompt": n_prompt times `unit`}.
static Str make_body(size_t n_id, const char *unit, size_t n_prompt) {
    StrBuf b = strbuf_from_memory(os_reserve(1 << 20), 1 << 20);
    strbuf_put(&b, STR("{\"job_id\":\""));
    for (size_t i = 0; i < n_id; i++)
        strbuf_put_char(&b, 'j');
    strbuf_put(&b, STR("\",\"prompt\":\""));
    for (size_t i = 0; i < n_prompt; i++)
        strbuf_put(&b, str_from_c(unit));
    strbuf_put(&b, STR("\"}"));
    REQUIRE(!b.truncated);
    return strbuf_str(&b);
}

#define WITH(members) "{\"job_id\":\"j\",\"prompt\":\"p\"," members "}"
#define IDS(array) "{\"job_id\":\"j\",\"prompt_tokens\":" array "}"

typedef struct {
    const char *body, *field, *message; // NULL: any
} Refusal;

static void check_refusals(const Refusal *rows, size_t n_rows) {
    for (size_t i = 0; i < n_rows; i++) {
        TEST_CASE_LABEL("%s", rows[i].body);
        ExecuteRequest request;
        Error err = {0};
        CHECK(!parse(str_from_c(rows[i].body), &request, &err));
        CHECK_INT_EQ(ERR_INVALID_REQUEST, err.code);
        CHECK_STR_EQ(rows[i].field, (const char *)err.field);
        if (rows[i].message) CHECK_STR_EQ(rows[i].message, (const char *)err.message);
    }
}

TEST(api_request_errors_name_field_value_and_limit) {
    static const Refusal rows[] = {
        {"", "", "the body: invalid JSON: the text is empty"},
        {"{", "", NULL},
        {"{}x", "", NULL},
        {"[]", "", "the body must be a JSON object, found an array"},
        {"{}", "job_id", "job_id: is required"},
        {"{\"job_id\":\"j\"}", "prompt", "prompt: is required, or prompt_tokens"},
        {"{\"job_id\":7,\"prompt\":\"p\"}", "job_id", "job_id: must be a string, found a number"},
        {"{\"job_id\":\"\",\"prompt\":\"p\"}", "job_id", "job_id: must not be empty"},
        {"{\"job_id\":\"j\",\"prompt\":\"\"}", "prompt", "prompt: must not be empty"},
        {"{\"job_id\":\"j\",\"prompt\":null}", "prompt", "prompt: must be a string, found null"},
        {WITH("\"max_tokens\":0"), "max_tokens", "max_tokens: 0 is out of range; allowed is 1 to 2048"},
        {WITH("\"max_tokens\":2049"), "max_tokens", "max_tokens: 2049 is out of range; allowed is 1 to 2048"},
        {WITH("\"max_tokens\":-1"), "max_tokens", "max_tokens: -1 is out of range; allowed is 1 to 2048"},
        {WITH("\"max_tokens\":1.5"), "max_tokens",
         "max_tokens: 1.5 is no whole number in digits; allowed is 1 to 2048"},
        {WITH("\"max_tokens\":\"5\""), "max_tokens", "max_tokens: must be a whole number, found a string"},
        {WITH("\"temperature\":-0.1"), "temperature", "temperature: -0.1 is out of range; allowed is 0 to 2"},
        {WITH("\"temperature\":2.01"), "temperature", "temperature: 2.01 is out of range; allowed is 0 to 2"},
        {WITH("\"temperature\":2.0000000000000004"), "temperature",
         "temperature: 2.0000000000000004 is out of range; allowed is 0 to 2"},
        {WITH("\"temperature\":true"), "temperature", "temperature: must be a number, found a boolean"},
        {WITH("\"top_p\":-0.5"), "top_p", "top_p: -0.5 is out of range; allowed is 0 to 1"},
        {WITH("\"top_p\":1.5"), "top_p", "top_p: 1.5 is out of range; allowed is 0 to 1"},
        {WITH("\"top_k\":50001"), "top_k", "top_k: 50001 is out of range; allowed is 0 to 50000"},
        {WITH("\"top_k\":-1"), "top_k", "top_k: -1 is out of range; allowed is 0 to 50000"},
        {WITH("\"top_k\":0.5"), "top_k", "top_k: 0.5 is no whole number in digits; allowed is 0 to 50000"},
        {WITH("\"min_p\":1.01"), "min_p", "min_p: 1.01 is out of range; allowed is 0 to 1"},
        {WITH("\"min_p\":-1"), "min_p", "min_p: -1 is out of range; allowed is 0 to 1"},
        {WITH("\"repetition_penalty\":0"), "repetition_penalty",
         "repetition_penalty: 0 is out of range; allowed is more than 0 and at most 2"},
        {WITH("\"repetition_penalty\":-0.1"), "repetition_penalty",
         "repetition_penalty: -0.1 is out of range; allowed is more than 0 and at most 2"},
        {WITH("\"repetition_penalty\":2.5"), "repetition_penalty",
         "repetition_penalty: 2.5 is out of range; allowed is more than 0 and at most 2"},
        {WITH("\"stop\":\"x\""), "stop", "stop: must be an array of strings, found a string"},
        {WITH("\"stop\":[\"a\",\"b\",\"c\",\"d\",\"e\"]"), "stop", "stop: 5 strings; at most 4 are allowed"},
        {WITH("\"stop\":[\"a\",\"\"]"), "stop", "stop[1]: must not be empty"},
        {WITH("\"stop\":[1]"), "stop", "stop[0]: must be a string, found a number"},
        {WITH("\"seed\":-1"), "seed", "seed: -1 is out of range; allowed is 0 to 18446744073709551615"},
        {WITH("\"seed\":18446744073709551616"), "seed",
         "seed: 1.8446744073709552e+19 is out of range; allowed is 0 to 18446744073709551615"},
        {WITH("\"seed\":1e19"), "seed",
         "seed: 1e+19 is no whole number in digits; allowed is 0 to 18446744073709551615"},
        {WITH("\"seed\":0.5"), "seed",
         "seed: 0.5 is no whole number in digits; allowed is 0 to 18446744073709551615"},
        {WITH("\"seed\":1e30"), "seed", "seed: 1e+30 is out of range; allowed is 0 to 18446744073709551615"},
    };
    check_refusals(rows, COUNT_OF(rows));
}

TEST(api_request_errors_of_ids_and_biases) {
    static const Refusal rows[] = {
        {WITH("\"prompt_tokens\":[1]"), "prompt_tokens",
         "prompt_tokens: goes without prompt; both were given"},
        {IDS("[]"), "prompt_tokens", "prompt_tokens: must not be empty"},
        {IDS("[1,\"2\"]"), "prompt_tokens", "prompt_tokens[1]: must be a whole number, found a string"},
        {IDS("[[1]]"), "prompt_tokens", "prompt_tokens[0]: must be a whole number, found an array"},
        {IDS("[null]"), "prompt_tokens", "prompt_tokens[0]: must be a whole number, found null"},
        {IDS("[-1]"), "prompt_tokens", "prompt_tokens[0]: -1 is out of range; allowed is 0 to 49999"},
        {IDS("[0,50000]"), "prompt_tokens", "prompt_tokens[1]: 50000 is out of range; allowed is 0 to 49999"},
        {IDS("[1.5]"), "prompt_tokens",
         "prompt_tokens[0]: 1.5 is no whole number in digits; allowed is 0 to 49999"},
        {IDS("[18446744073709551615]"), "prompt_tokens",
         "prompt_tokens[0]: 1.8446744073709552e+19 is out of range; allowed is 0 to 49999"},
        {IDS("[1e400]"), "", NULL},
        {WITH("\"presence_penalty\":-2.5"), "presence_penalty",
         "presence_penalty: -2.5 is out of range; allowed is -2 to 2"},
        {WITH("\"frequency_penalty\":2.0000000000000004"), "frequency_penalty",
         "frequency_penalty: 2.0000000000000004 is out of range; allowed is -2 to 2"},
        {WITH("\"logprobs\":21"), "logprobs", "logprobs: 21 is out of range; allowed is 0 to 20"},
        {WITH("\"logprobs\":true"), "logprobs", "logprobs: must be a whole number, found a boolean"},
        {WITH("\"logprobs\":-1"), "logprobs", "logprobs: -1 is out of range; allowed is 0 to 20"},
        {WITH("\"return_tokens\":1"), "return_tokens", "return_tokens: must be a boolean, found a number"},
        {WITH("\"special_tokens\":\"true\""), "special_tokens",
         "special_tokens: must be a boolean, found a string"},
        {WITH("\"ignore_eos\":null"), "ignore_eos", "ignore_eos: must be a boolean, found null"},
        {WITH("\"cache_salt\":\"\""), "cache_salt", "cache_salt: must not be empty"},
        {WITH("\"logit_bias\":[]"), "logit_bias", "logit_bias: must be an object, found an array"},
        {WITH("\"logit_bias\":{\"1\":-100.5}"), "logit_bias",
         "logit_bias[0]: -100.5 is out of range; allowed is -100 to 100"},
        {WITH("\"logit_bias\":{\"1\":1,\"2\":\"3\"}"), "logit_bias",
         "logit_bias[1]: must be a number, found a string"},
        {WITH("\"logit_bias\":{\"50000\":1}"), "logit_bias",
         "logit_bias[0]: its key must be a token id of 0 to 49999 in digits"},
        {WITH("\"logit_bias\":{\"-1\":1}"), "logit_bias", NULL},
        {WITH("\"logit_bias\":{\"01\":1}"), "logit_bias", NULL},
        {WITH("\"logit_bias\":{\"\":1}"), "logit_bias", NULL},
        {WITH("\"logit_bias\":{\"1\\u0000\":1}"), "logit_bias", NULL},
        {WITH("\"logit_bias\":{\" 1\":1}"), "logit_bias", NULL},
        {WITH("\"logit_bias\":{\"sesame\":1}"), "logit_bias",
         "logit_bias[0]: its key must be a token id of 0 to 49999 in digits"},
        {WITH("\"logit_bias\":{\"99999999999999999999\":1}"), "logit_bias", NULL},
    };
    check_refusals(rows, COUNT_OF(rows));
}

// Each field with a value of each type that it does not take.
TEST(contract_execute_fields_of_wrong_types) {
    static const struct {
        const char *json, *name;
        char type; // n: a number, s: a string, a: an array, b: a boolean, o: an object, else one that no
                   // field takes
    } values[] = {{"null", "null", '-'},      {"false", "a boolean", 'b'}, {"1", "a number", 'n'},
                  {"\"1\"", "a string", 's'}, {"[]", "an array", 'a'},     {"{}", "an object", 'o'}};
    static const struct {
        const char *name;
        char type;
        const char *wanted;
    } fields[] = {
        {"job_id", 's', "a string"},
        {"prompt", 's', "a string"},
        {"max_tokens", 'n', "a whole number"},
        {"temperature", 'n', "a number"},
        {"top_p", 'n', "a number"},
        {"top_k", 'n', "a whole number"},
        {"min_p", 'n', "a number"},
        {"repetition_penalty", 'n', "a number"},
        {"stop", 'a', "an array of strings"},
        {"seed", 'n', "a whole number"},
        {"presence_penalty", 'n', "a number"},
        {"frequency_penalty", 'n', "a number"},
        {"logit_bias", 'o', "an object"},
        {"logprobs", 'n', "a whole number"},
        {"return_tokens", 'b', "a boolean"},
        {"special_tokens", 'b', "a boolean"},
        {"ignore_eos", 'b', "a boolean"},
        {"cache_salt", 's', "a string"},
    };
    for (size_t i = 0; i < COUNT_OF(fields); i++) {
        for (size_t k = 0; k < COUNT_OF(values); k++) {
            char body[256], expected[128];
            ExecuteRequest request;
            Error err = {0};
            TEST_CASE_LABEL("%s: %s", fields[i].name, values[k].json);
            bool id = strcmp(fields[i].name, "job_id") == 0, prompt = strcmp(fields[i].name, "prompt") == 0;
            snprintf(body, sizeof body, "{%s%s\"%s\":%s}", id ? "" : "\"job_id\":\"j\",",
                     prompt ? "" : "\"prompt\":\"p\",", fields[i].name, values[k].json);
            snprintf(expected, sizeof expected, "%s: must be %s, found %s", fields[i].name, fields[i].wanted,
                     values[k].name);
            bool ok = parse(str_from_c(body), &request, &err);
            CHECK(ok == (values[k].type == fields[i].type));
            if (ok) continue;
            CHECK_INT_EQ(ERR_INVALID_REQUEST, err.code);
            CHECK_STR_EQ(fields[i].name, (const char *)err.field);
            CHECK_STR_EQ(expected, (const char *)err.message);
        }
    }
}

// The least and the largest value of each number are taken.
TEST(contract_execute_fields_at_their_borders) {
    static const char *const rows[] = {
        "\"max_tokens\":1",
        "\"max_tokens\":2048",
        "\"temperature\":0",
        "\"temperature\":0.0",
        "\"temperature\":2",
        "\"temperature\":2.0",
        "\"top_p\":0",
        "\"top_p\":1.0",
        "\"top_k\":0",
        "\"top_k\":50000",
        "\"min_p\":0",
        "\"min_p\":1.0",
        "\"repetition_penalty\":2.0",
        "\"repetition_penalty\":1e-300",
        "\"stop\":[\"a\",\"b\",\"c\",\"d\"]",
        "\"seed\":0",
        "\"seed\":18446744073709551615",
        "\"presence_penalty\":-2",
        "\"presence_penalty\":2.0",
        "\"frequency_penalty\":-2",
        "\"frequency_penalty\":2",
        "\"logit_bias\":{}",
        "\"logit_bias\":{\"0\":-100,\"49999\":100}",
        "\"logprobs\":0",
        "\"logprobs\":20",
        "\"return_tokens\":true",
        "\"special_tokens\":false",
        "\"ignore_eos\":true",
        "\"cache_salt\":\"tenant 7\"",
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char body[256];
        ExecuteRequest request;
        Error err = {0};
        TEST_CASE_LABEL("%s", rows[i]);
        snprintf(body, sizeof body, "{\"job_id\":\"j\",\"prompt\":\"p\",%s}", rows[i]);
        if (!CHECK(parse(str_from_c(body), &request, &err))) printf("%s\n", err.message);
    }
}

TEST(api_request_defaults) {
    ExecuteRequest r;
    Error err;
    REQUIRE(parse(STR("{\"job_id\":\"j\",\"prompt\":\"p\",\"unknown\":{\"is\":[\"ignored\"]}}"), &r, &err));
    CHECK_STR_EQ("j", r.job_id);
    CHECK_STR_EQ("p", r.prompt);
    CHECK_INT_EQ(0, r.max_tokens);
    CHECK_NEAR(1, r.temperature, 0);
    CHECK_NEAR(1, r.top_p, 0);
    CHECK_INT_EQ(0, r.top_k);
    CHECK_NEAR(0, r.min_p, 0);
    CHECK_NEAR(1, r.repetition_penalty, 0);
    CHECK_INT_EQ(0, r.stop.count);
    CHECK(!r.has_seed);
    CHECK(!r.has_logprobs && !r.return_tokens && !r.special_tokens && !r.ignore_eos);
    CHECK_INT_EQ(0, r.prompt_tokens.count);
    CHECK_INT_EQ(0, r.logit_bias.count);
    CHECK_NEAR(0, r.presence_penalty, 0);
    CHECK_NEAR(0, r.frequency_penalty, 0);
}

// Ids, biases and flags arrive in the job as they were given.
TEST(api_request_ids_and_biases) {
    FakeWorker *f = fake_sched_start(&(FakeConfig){0});
    ExecuteRequest r;
    Error err = {0};
    Arena scratch = os_arena(execute_scratch_bytes(fake_tokenizer(f), 1));
    REQUIRE(parse(
        STR("{\"job_id\":\"j\",\"prompt_tokens\":[7,0,3],\"max_tokens\":5,\"logprobs\":0,"
            "\"logit_bias\":{\"9\":1.5,\"2\":-100,\"9\":2.5},\"presence_penalty\":0.5,"
            "\"frequency_penalty\":-1,\"return_tokens\":true,\"special_tokens\":true,\"ignore_eos\":true}"),
        &r, &err));
    Job *job = bridge_take_job(fake_bridge(f));
    REQUIRE(execute_request_encode(&r, &limits, fake_tokenizer(f), scratch, job, &err));
    REQUIRE(CHECK_INT_EQ(3, job->n_tokens)); // no BOS
    CHECK(job->tokens[0] == 7 && job->tokens[1] == 0 && job->tokens[2] == 3);
    CHECK_INT_EQ(12, job->prompt_bytes);
    // printf '\x07\0\0\0\0\0\0\0\x03\0\0\0' | sha256sum
    CHECK_STR_EQ("db071f64a5b47009", (const char *)job->prompt_sha256);
    const SamplerParams *p = &job->sampler;
    REQUIRE(CHECK_INT_EQ(2, p->n_logit_bias));
    CHECK(p->logit_bias[0].token == 2 && p->logit_bias[0].bias == -100);
    CHECK(p->logit_bias[1].token == 9 && p->logit_bias[1].bias == 2.5f); // the last one counts
    CHECK(p->presence_penalty == 0.5f && p->frequency_penalty == -1);
    CHECK(p->logprobs && p->n_logprobs == 0);
    CHECK(job->returns_tokens && job->shows_special && job->ignores_eos);
    bridge_free_job(fake_bridge(f), job);
    CHECK(fake_sched_stop(f));
}

// A salt becomes the start of its SHA-256, for every choice of a request; none stays zeros.
TEST(api_request_cache_salt) {
    static const struct {
        const char *salt; // a JSON member
        const char *hash; // printf abc | sha256sum
    } rows[] = {
        {"", "00000000000000000000000000000000"},
        {",\"cache_salt\":\"abc\"", "ba7816bf8f01cfea414140de5dae2223"},
        {",\"cache_salt\":\"\\u0061bc\"", "ba7816bf8f01cfea414140de5dae2223"},
    };
    FakeWorker *f = fake_sched_start(&(FakeConfig){.n_jobs = 2});
    Bridge *bridge = fake_bridge(f);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char body[128], hash[2 * CACHE_SALT_BYTES + 1];
        ExecuteRequest r;
        Error err = {0};
        Arena scratch = os_arena(execute_scratch_bytes(fake_tokenizer(f), 1));
        TEST_CASE_LABEL("%s", rows[i].salt);
        snprintf(body, sizeof body, "{\"job_id\":\"j\",\"prompt\":\"p\"%s}", rows[i].salt);
        REQUIRE(parse(str_from_c(body), &r, &err));
        Job *job = bridge_take_job(bridge), *copy = bridge_take_job(bridge);
        REQUIRE(execute_request_encode(&r, &limits, fake_tokenizer(f), scratch, job, &err));
        REQUIRE(job_copy(copy, job, 1, &err));
        hex_from_bytes(job->cache_salt, CACHE_SALT_BYTES, hash);
        CHECK_STR_EQ(rows[i].hash, (const char *)hash);
        CHECK(memcmp(job->cache_salt, copy->cache_salt, CACHE_SALT_BYTES) == 0);
        bridge_free_job(bridge, job);
        bridge_free_job(bridge, copy);
    }
    CHECK(fake_sched_stop(f));
}

// As many entries, ids and members as are allowed, and one more.
TEST(api_request_counts) {
    static const struct {
        const char *name, *open, *unit, *close, *message; // NULL: accepted
        uint32_t count;
    } rows[] = {
        {"biases", "\"prompt\":\"p\",\"logit_bias\":{", "\"%u\":1", "}", NULL, 300},
        {"one bias more", "\"prompt\":\"p\",\"logit_bias\":{", "\"%u\":1", "}",
         "logit_bias: 301 entries; at most 300 are allowed", 301},
        {"biases of one token", "\"prompt\":\"p\",\"logit_bias\":{", "\"1\":1", "}", NULL, 300},
        {"ids", "\"prompt_tokens\":[", "%u", "]", NULL, 1000},
        {"one id more", "\"prompt_tokens\":[", "%u", "]",
         "prompt_tokens: 1001 tokens; at most 1000 are allowed", 1001},
        {"fields that nobody knows", "\"prompt\":\"p\",\"x\":{", "\"%u\":[]", "}", NULL, 30000},
        {"more values than a body may have", "\"prompt\":\"p\",\"x\":[", "%u", "]",
         "the body: JSON with more than 65536 values", 70000},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].name);
        StrBuf b = strbuf_from_memory(os_reserve(1 << 20), 1 << 20);
        strbuf_printf(&b, "{\"job_id\":\"j\",%s", rows[i].open);
        for (uint32_t k = 0; k < rows[i].count; k++) {
            char unit[32];
            const char *at = strstr(rows[i].unit, "%u");
            int head = (int)(at ? (size_t)(at - rows[i].unit) : strlen(rows[i].unit));
            snprintf(unit, sizeof unit, "%.*s", head, rows[i].unit);
            strbuf_printf(&b, "%s%s", k ? "," : "", unit);
            if (at) strbuf_printf(&b, "%u%s", k, at + 2);
        }
        strbuf_printf(&b, "%s}", rows[i].close);
        REQUIRE(!b.truncated);
        ExecuteRequest r;
        Error err = {0};
        bool ok = parse(strbuf_str(&b), &r, &err);
        if (!CHECK(ok == (rows[i].message == NULL))) printf("%s\n", err.message);
        if (rows[i].message) CHECK(str_starts_with(str_from_c(err.message), str_from_c(rows[i].message)));
    }
}

// A stop string that is one control token is that token; others stay texts.
TEST(api_request_stop_tokens) {
    FakeWorker *f = fake_sched_start(&(FakeConfig){0});
    const Tokenizer *t = fake_tokenizer(f);
    ExecuteRequest r = {.job_id = STR("j"), .prompt = STR("p"), .max_tokens = 1};
    r.stop = (FieldTexts){{STR("<|eot_id|>"), STR("a"), STR("<|eot_id|>b"), STR("<|end_header_id|>")}, 4};
    Arena scratch = os_arena(execute_scratch_bytes(t, 1));
    Error err;
    Job *job = bridge_take_job(fake_bridge(f));
    REQUIRE(execute_request_encode(&r, &limits, t, scratch, job, &err));
    REQUIRE(CHECK_INT_EQ(2, job->n_stop_tokens) && CHECK_INT_EQ(2, job->n_stop));
    CHECK_INT_EQ(tokenizer_token_by_text(t, STR("<|eot_id|>")), job->stop_tokens[0]);
    CHECK_INT_EQ(tokenizer_token_by_text(t, STR("<|end_header_id|>")), job->stop_tokens[1]);
    CHECK_STR_EQ("<|eot_id|>b", job->stop[1]);
    bridge_free_job(fake_bridge(f), job);
    CHECK(fake_sched_stop(f));
}

// --max-prompt-chars.
TEST(api_request_prompt_characters) {
    static const struct {
        uint64_t max;
        size_t n_prompt;
        const char *message; // NULL: accepted
    } rows[] = {
        {3, 3, NULL},
        {3, 4, "prompt: 4 characters; at most 3 are allowed"},
        {0, 100000, NULL},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%zu of %llu", rows[i].n_prompt, (unsigned long long)rows[i].max);
        RequestLimits own = limits;
        own.max_prompt_chars = rows[i].max;
        Arena arena = os_arena(JSON_BYTES);
        ExecuteRequest r;
        Error err = {0};
        Str body = make_body(1, "\xC3\xA9", rows[i].n_prompt);
        CHECK(execute_request_parse(body, JSON_NODES_MAX, &own, &arena, &r, &err) ==
              (rows[i].message == NULL));
        if (rows[i].message) CHECK_STR_EQ(rows[i].message, (const char *)err.message);
    }
}

TEST(api_request_values) {
    ExecuteRequest r;
    Error err;
    REQUIRE(parse(
        STR("{\"job_id\":\"j\",\"prompt\":\"p\\u00e9\",\"max_tokens\":2048,\"temperature\":0,\"top_p\":0.5,"
            "\"top_k\":50000,\"min_p\":0.25,\"repetition_penalty\":2,\"stop\":[\"a\",\"b\\n\"],"
            "\"seed\":18446744073709551615}"),
        &r, &err));
    CHECK_STR_EQ("p\xC3\xA9", r.prompt);
    CHECK_INT_EQ(2048, r.max_tokens);
    CHECK_NEAR(0, r.temperature, 0);
    CHECK_NEAR(0.5, r.top_p, 0);
    CHECK_INT_EQ(50000, r.top_k);
    CHECK_NEAR(0.25, r.min_p, 0);
    CHECK_NEAR(2, r.repetition_penalty, 0);
    REQUIRE(CHECK_INT_EQ(2, r.stop.count));
    CHECK_STR_EQ("b\n", r.stop.texts[1]);
    CHECK(r.has_seed);
    CHECK_U64_EQ(UINT64_MAX, r.seed);
}

TEST(api_request_lengths) {
    static const struct {
        const char *name;
        size_t n_id, n_prompt;
        const char *unit, *message; // NULL: accepted
    } rows[] = {
        {"longest id", 256, 1, "p", NULL},
        {"id too long", 257, 1, "p", "job_id: 257 bytes; at most 256 are allowed"},
        {"longest prompt", 1, 32768, "p", NULL},
        {"longest prompt, characters of four bytes", 1, 32768, "\xF0\x9F\x8C\x8D", NULL},
        {"prompt too long", 1, 32769, "p", "prompt: 32769 characters; at most 32768 are allowed"},
        {"prompt too long, escaped", 1, 32769, "\\u00e9",
         "prompt: 32769 characters; at most 32768 are allowed"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].name);
        ExecuteRequest r;
        Error err = {0};
        bool ok = parse(make_body(rows[i].n_id, rows[i].unit, rows[i].n_prompt), &r, &err);
        CHECK(ok == (rows[i].message == NULL));
        if (rows[i].message) CHECK_STR_EQ(rows[i].message, (const char *)err.message);
    }
}

// ---- encoding ----

static bool encode(FakeWorker *f, ExecuteRequest *r, Job **job, Error *err) {
    Arena scratch = os_arena(execute_scratch_bytes(fake_tokenizer(f), r->prompt.len));
    *job = bridge_take_job(fake_bridge(f));
    REQUIRE(*job != NULL);
    bool ok = execute_request_encode(r, &limits, fake_tokenizer(f), scratch, *job, err);
    bridge_free_job(fake_bridge(f), *job);
    return ok;
}

static Str repeat(const char *unit, size_t count) {
    StrBuf b = strbuf_from_memory(os_reserve(1 << 20), 1 << 20);
    for (size_t i = 0; i < count; i++)
        strbuf_put(&b, str_from_c(unit));
    return strbuf_str(&b);
}

TEST(api_request_token_limits) {
    // "0 1 2 …" and digits: the tiny vocabulary has a token for each, so a text of n bytes has at most n
    // tokens.
    static const struct {
        const char *name;
        size_t n_prompt; // characters that no merge joins
        uint64_t max_tokens;
        size_t n_stop;               // characters of the one stop string; 0: none
        const char *field, *message; // NULL: accepted
    } rows[] = {
        {"both fit exactly", 1000, 1048, 0, NULL, NULL},
        {"one over the context", 1000, 1049, 0, "max_tokens",
         "max_tokens: 1049 after a prompt of 1000 tokens makes 2049; the context holds 2048"},
        {"prompt too long", 1001, 1, 0, "prompt", "prompt: 1001 tokens; at most 1000 are allowed"},
        {"max_tokens shrinks when it was not given", 1000, 0, 0, NULL, NULL},
        {"longest stop string", 1, 1, 32, NULL, NULL},
        {"stop string too long", 1, 1, 33, "stop", "stop[0]: 33 tokens; at most 32 are allowed"},
    };
    FakeWorker *f = fake_sched_start(&(FakeConfig){0});
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].name);
        ExecuteRequest r = {.job_id = STR("j"),
                            .prompt = repeat("#", rows[i].n_prompt),
                            .max_tokens = rows[i].max_tokens,
                            .top_p = 1,
                            .repetition_penalty = 1};
        if (rows[i].n_stop) r.stop.texts[r.stop.count++] = repeat("#", rows[i].n_stop);
        Job *job;
        Error err = {0};
        bool ok = encode(f, &r, &job, &err);
        if (!CHECK(ok == (rows[i].message == NULL))) printf("%s\n", err.message);
        if (rows[i].message) {
            CHECK_STR_EQ(rows[i].message, (const char *)err.message);
            CHECK_STR_EQ(rows[i].field, (const char *)err.field);
        } else {
            CHECK_INT_EQ(rows[i].max_tokens ? rows[i].max_tokens : 1048, job->max_tokens);
        }
    }
    CHECK(fake_sched_stop(f));
}

TEST(api_request_seed_is_drawn_when_absent) {
    FakeWorker *f = fake_sched_start(&(FakeConfig){0});
    ExecuteRequest r = {.job_id = STR("j"), .prompt = STR("p"), .max_tokens = 1};
    uint64_t seeds[2];
    for (size_t i = 0; i < 2; i++) {
        Job *job;
        Error err;
        REQUIRE(encode(f, &r, &job, &err));
        seeds[i] = job->sampler.seed;
        CHECK(seeds[i] < 1ull << 53);
    }
    CHECK(seeds[0] != seeds[1]);
    CHECK(fake_sched_stop(f));
}

// "request parsed and validated: under 1 ms for a 32 KiB prompt"; the tokens come on top and are shown.
TEST(api_request_time_of_a_32_kib_prompt) {
    FakeWorker *f = fake_sched_start(&(FakeConfig){.context = 40000});
    Str body = make_body(36, "The quick brown fox jumps over it. ", 936);
    Arena arena = os_arena(JSON_BYTES);
    Arena scratch = os_arena(execute_scratch_bytes(fake_tokenizer(f), body.len));
    RequestLimits wide = {
        .max_tokens_in = 40000, .max_tokens_out = 100, .vocab_size = 10, .context_length = 40000};
    uint64_t best_parse_ns = UINT64_MAX, best_encode_ns = UINT64_MAX;
    for (int i = 0; i < 20; i++) {
        ExecuteRequest r;
        Error err;
        Arena mine = arena;
        uint64_t begin_ns = os_monotonic_ns();
        REQUIRE(execute_request_parse(body, JSON_NODES_MAX, &wide, &mine, &r, &err));
        best_parse_ns = min_u64(best_parse_ns, os_monotonic_ns() - begin_ns);
        Job *job = bridge_take_job(fake_bridge(f));
        begin_ns = os_monotonic_ns();
        REQUIRE(execute_request_encode(&r, &wide, fake_tokenizer(f), scratch, job, &err));
        best_encode_ns = min_u64(best_encode_ns, os_monotonic_ns() - begin_ns);
        bridge_free_job(fake_bridge(f), job);
    }
    printf("%zu bytes: parsed and validated in %.3f ms, encoded in %.3f ms\n", body.len,
           (double)best_parse_ns / 1e6, (double)best_encode_ns / 1e6);
    CHECK_SOON(1, best_parse_ns / 1000000);
    CHECK(fake_sched_stop(f));
}

// The inputs worth keeping of tests/fuzz/fuzz_request.c, and mutations of them.
TEST(api_request_fuzz_corpus) {
    CHECK(fuzz_replay("request", fuzz_request, 500) >= 6);
}

// The same of tests/fuzz/fuzz_generate.c.
TEST(api_generate_fuzz_corpus) {
    CHECK(fuzz_replay("generate", fuzz_generate, 500) >= 8);
}
