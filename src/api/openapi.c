#include "api/openapi.h"

#include "base/version.h"

#include <math.h>
#include <stdio.h>

// ---- what the tables of routes and fields do not say ----

#define OBJECT(members) "{\"type\":\"object\"," members "}"
#define STATUS_ANSWER OBJECT("\"required\":[\"status\"],\"properties\":{\"status\":{\"type\":\"string\"}}")
#define TOKENS_ANSWER                                                                               \
    OBJECT("\"required\":[\"count\",\"max_model_len\",\"tokens\"],\"properties\":{"                 \
           "\"count\":{\"type\":[\"integer\",\"array\"]},\"max_model_len\":{\"type\":\"integer\"}," \
           "\"tokens\":{\"type\":\"array\"},\"token_strs\":{\"type\":[\"array\",\"null\"]}}")
#define TEXT_ANSWER                                                                                      \
    OBJECT("\"required\":[\"prompt\",\"content\",\"text\"],\"properties\":{"                             \
           "\"prompt\":{\"type\":[\"string\",\"array\"]},\"content\":{\"type\":[\"string\",\"array\"]}," \
           "\"text\":{\"type\":[\"string\",\"array\"]}}")
#define MODEL_ANSWER OBJECT("\"required\":[\"id\"],\"properties\":{\"id\":{\"type\":\"string\"}}")
#define MODELS_ANSWER                                                                                     \
    OBJECT("\"required\":[\"data\"],\"properties\":{\"data\":{\"type\":\"array\",\"items\":" MODEL_ANSWER \
           "}}")
#define CHOICES_ANSWER                                                                                      \
    OBJECT(                                                                                                 \
        "\"required\":[\"id\",\"object\",\"created\",\"model\",\"choices\",\"usage\"],\"properties\":{"     \
        "\"id\":{\"type\":\"string\"},\"object\":{\"type\":\"string\"},\"created\":{\"type\":\"integer\"}," \
        "\"model\":{\"type\":\"string\"},\"choices\":{\"type\":\"array\",\"minItems\":1},"                  \
        "\"usage\":{\"type\":\"object\"}}")

static const RouteAbout rows[] = {
    {"/health", "Health, from cached state", ABOUT_HEALTH, NULL, NULL, STATUS_ANSWER},
    {"/ready", "Whether jobs are taken", ABOUT_HEALTH, NULL, NULL, STATUS_ANSWER},
    {"/v1/health/live", "Whether the process serves", ABOUT_HEALTH, NULL, NULL, STATUS_ANSWER},
    {"/v1/health/ready", "Whether jobs are taken", ABOUT_HEALTH, NULL, NULL, STATUS_ANSWER},
    {"/metrics", "Metrics in the Prometheus text format", ABOUT_METRICS, NULL, NULL, NULL},
    {"/v1/metrics", "Metrics in the Prometheus text format", ABOUT_METRICS, NULL, NULL, NULL},
    {"/execute", "Runs a job and streams its events", ABOUT_EXECUTE, &execute_fields, NULL, NULL},
    {"/v1/chat/completions", "Answers a conversation (OpenAI)", ABOUT_GENERATE, &chat_completions_fields,
     "messages", CHOICES_ANSWER},
    {"/chat/completions", "Answers a conversation (OpenAI)", ABOUT_GENERATE, &chat_completions_fields,
     "messages", CHOICES_ANSWER},
    {"/v1/completions", "Continues texts (OpenAI)", ABOUT_GENERATE, &completions_fields, "prompt",
     CHOICES_ANSWER},
    {"/completions", "Continues texts (OpenAI)", ABOUT_GENERATE, &completions_fields, "prompt",
     CHOICES_ANSWER},
    {"/v1/responses", "Answers a conversation (OpenAI Responses)", ABOUT_GENERATE, &responses_fields, "input",
     NULL},
    {"/responses", "Answers a conversation (OpenAI Responses)", ABOUT_GENERATE, &responses_fields, "input",
     NULL},
    {"/v1/messages", "Answers a conversation (Anthropic)", ABOUT_GENERATE, &messages_fields, "messages",
     NULL},
    {"/v1/messages/count_tokens", "Counts a conversation's tokens (Anthropic)", ABOUT_LOOK, &messages_fields,
     "messages", NULL},
    {"/tokenize", "The tokens of a text or a conversation", ABOUT_LOOK, &look_tokenize_fields, NULL,
     TOKENS_ANSWER},
    {"/v1/tokenize", "The tokens of a text or a conversation", ABOUT_LOOK, &look_tokenize_fields, NULL,
     TOKENS_ANSWER},
    {"/detokenize", "The text of tokens", ABOUT_LOOK, &look_detokenize_fields, "tokens", TEXT_ANSWER},
    {"/v1/detokenize", "The text of tokens", ABOUT_LOOK, &look_detokenize_fields, "tokens", TEXT_ANSWER},
    {"/apply-template", "A conversation as its template writes it", ABOUT_LOOK, &look_template_fields,
     "messages", OBJECT("\"required\":[\"prompt\"],\"properties\":{\"prompt\":{\"type\":\"string\"}}")},
    {"/v1/models", "The model that is served", ABOUT_INFO, NULL, NULL, MODELS_ANSWER},
    {"/models", "The model that is served", ABOUT_INFO, NULL, NULL, MODELS_ANSWER},
    {"/v1/models/{id}", "The model, by its name", ABOUT_MODEL, NULL, NULL, MODEL_ANSWER},
    {"/models/{id}", "The model, by its name", ABOUT_MODEL, NULL, NULL, MODEL_ANSWER},
    {"/get_load", "Jobs that run and wait", ABOUT_INFO, NULL, NULL,
     OBJECT("\"required\":[\"load\"],\"properties\":{\"load\":{\"type\":\"integer\"}}")},
    {"/server_info", "Limits of the worker", ABOUT_INFO, NULL, NULL, NULL},
    {"/get_server_info", "Limits of the worker", ABOUT_INFO, NULL, NULL, NULL},
    {"/model_info", "Facts about the model", ABOUT_INFO, NULL, NULL, NULL},
    {"/get_model_info", "Facts about the model", ABOUT_INFO, NULL, NULL, NULL},
    {"/props", "Facts about the worker, as llama-server has them", ABOUT_INFO, NULL, NULL, NULL},
    {"/version", "The worker's version", ABOUT_INFO, NULL, NULL, NULL},
    {"/is_sleeping", "Whether the model is out of memory: never", ABOUT_INFO, NULL, NULL, NULL},
    {"/openapi.json", "This description", ABOUT_INFO, NULL, NULL, NULL},
    {"/flush_cache", "Empties the cache of prompts", ABOUT_ACTION, NULL, NULL, NULL},
    {"/cancel", "Cancels a job of /execute", ABOUT_ACCEPTED, NULL, "job_id", STATUS_ANSWER},
    {"/shutdown", "Ends the worker after its jobs", ABOUT_ACCEPTED, NULL, NULL, STATUS_ANSWER},
};

const RouteAbout *openapi_about(const char *path) {
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        if (strcmp(rows[i].path, path) == 0) return &rows[i];
    }
    return NULL;
}

// Values that their owner looks at (FIELD_NODE).
#define MESSAGES                                                                                            \
    "{\"type\":\"array\",\"items\":{\"type\":\"object\",\"required\":[\"role\"],\"properties\":{\"role\":{" \
    "\"enum\":[\"system\",\"developer\",\"user\",\"assistant\",\"tool\"]},\"content\":{\"type\":["          \
    "\"string\",\"array\",\"null\"]}}}}"
#define OBJECTS "{\"type\":[\"array\",\"null\"],\"items\":{\"type\":\"object\"}}"
static const struct {
    const char *name, *schema;
} node_schemas[] = {
    {"messages", MESSAGES},
    {"tools", OBJECTS},
    {"tool_choice", "{\"type\":[\"string\",\"object\",\"null\"]}"},
    {"prompt", "{\"type\":[\"string\",\"array\"]}"},
    {"content", "{\"type\":[\"string\",\"null\"]}"},
    {"tokens", "{\"type\":\"array\",\"items\":{\"type\":[\"integer\",\"array\"]}}"},
    {"input", "{\"type\":[\"string\",\"array\"]}"},
    {"job_id", "{\"type\":\"string\",\"minLength\":1}"},
    {"response_format", "{\"type\":[\"object\",\"null\"],\"properties\":{\"type\":{\"enum\":[\"text\","
                        "\"json_object\",\"json_schema\"]}},\"required\":[\"type\"]}"},
    {"structured_outputs", "{\"type\":[\"object\",\"null\"]}"},
    {"guided_json", "{\"type\":[\"object\",\"string\",\"boolean\",\"null\"]}"},
    {"guided_regex", "{\"type\":[\"string\",\"null\"]}"},
    {"guided_choice", "{\"type\":[\"array\",\"null\"],\"items\":{\"type\":\"string\"}}"},
    {"guided_grammar", "{\"type\":[\"string\",\"null\"]}"},
    {"guided_whitespace_pattern", "{\"type\":[\"string\",\"null\"]}"},
    {"grammar", "{\"type\":[\"string\",\"null\"]}"},
    {"json_schema", "{\"type\":[\"object\",\"string\",\"boolean\",\"null\"]}"},
    {"schema", "{\"type\":[\"object\",\"string\",\"boolean\",\"null\"]}"},
    {"regex", "{\"type\":[\"string\",\"null\"]}"},
    {"ebnf", "{\"type\":[\"string\",\"null\"]}"},
};

// ---- fields ----

static void put_bound(JsonWriter *w, const char *key, double value) {
    if (isfinite(value)) json_member_f64(w, key, value);
}

static void put_type(JsonWriter *w, const char *type, bool or_null) {
    json_key(w, "type");
    if (!or_null) {
        json_put_str(w, str_from_c(type));
        return;
    }
    json_open_array(w);
    json_put_str(w, str_from_c(type));
    json_put_str(w, STR("null"));
    json_close_array(w);
}

static void put_number(JsonWriter *w, const FieldRule *rule, double most, const char *type, bool or_null) {
    put_type(w, type, or_null);
    put_bound(w, rule->above_least ? "exclusiveMinimum" : "minimum", rule->least);
    put_bound(w, "maximum", most);
}

static void put_texts(JsonWriter *w, const FieldRule *rule, double most, bool or_null) {
    json_key(w, "type");
    json_open_array(w);
    json_put_str(w, STR("array"));
    if (rule->one_or_more) json_put_str(w, STR("string"));
    if (or_null) json_put_str(w, STR("null"));
    json_close_array(w);
    json_key(w, "items");
    json_put_raw(w, STR("{\"type\":\"string\",\"minLength\":1}"));
    put_bound(w, "maxItems", most);
    json_member_u64(w, "minLength", 1);
}

static void put_ids(JsonWriter *w, const FieldRule *rule, double most, uint64_t vocab_size, bool or_null) {
    put_type(w, "array", or_null);
    json_key(w, "items");
    json_open_object(w);
    put_type(w, "integer", false);
    json_member_u64(w, "minimum", 0);
    json_member_u64(w, "maximum", vocab_size - 1);
    json_close_object(w);
    json_member_u64(w, "minItems", !rule->may_be_empty);
    put_bound(w, "maxItems", most);
}

static void put_biases(JsonWriter *w, const FieldRule *rule, bool or_null) {
    put_type(w, "object", or_null);
    json_key(w, "propertyNames");
    json_put_raw(w, STR("{\"pattern\":\"^(0|[1-9][0-9]{0,6})$\"}"));
    json_key(w, "additionalProperties");
    json_open_object(w);
    put_type(w, "number", false);
    put_bound(w, "minimum", rule->least);
    put_bound(w, "maximum", rule->most);
    json_close_object(w);
    json_member_u64(w, "maxProperties", LOGIT_BIAS_MAX);
}

static void put_node(JsonWriter *w, const char *name) {
    for (size_t i = 0; i < COUNT_OF(node_schemas); i++) {
        if (strcmp(node_schemas[i].name, name) != 0) continue;
        json_put_raw(w, str_from_c(node_schemas[i].schema));
        return;
    }
    json_put_raw(w, STR("{}"));
}

static void put_rule(JsonWriter *w, const FieldRule *rule, const RequestLimits *limits, bool or_null) {
    double most = field_most(rule, limits);
    json_key(w, rule->name);
    if (rule->type == FIELD_NODE) {
        put_node(w, rule->name);
        return;
    }
    json_open_object(w);
    switch (rule->type) {
    case FIELD_STR:
        put_type(w, "string", or_null);
        json_member_u64(w, "minLength", !rule->may_be_empty);
        put_bound(w, "maxLength", most);
        break;
    case FIELD_BOOL: put_type(w, "boolean", or_null); break;
    case FIELD_U64:
    case FIELD_I64: put_number(w, rule, most, "integer", or_null); break;
    case FIELD_F64: put_number(w, rule, most, "number", or_null); break;
    case FIELD_TEXTS: put_texts(w, rule, most, or_null); break;
    case FIELD_IDS: put_ids(w, rule, most, limits->vocab_size, or_null); break;
    case FIELD_BIASES: put_biases(w, rule, or_null); break;
    case FIELD_NODE: break;
    }
    json_close_object(w);
}

static void put_required(JsonWriter *w, const RouteAbout *about) {
    bool any = about->required != NULL;
    for (uint32_t i = 0; about->fields && i < about->fields->n_rules; i++)
        any |= about->fields->rules[i].required;
    if (!any) return;
    json_key(w, "required");
    json_open_array(w);
    if (about->required) json_put_str(w, str_from_c(about->required));
    for (uint32_t i = 0; about->fields && i < about->fields->n_rules; i++) {
        if (about->fields->rules[i].required) json_put_str(w, str_from_c(about->fields->rules[i].name));
    }
    json_close_array(w);
}

static bool has_rule(const FieldTable *table, const char *name) {
    for (uint32_t i = 0; table && i < table->n_rules; i++) {
        if (strcmp(table->rules[i].name, name) == 0) return true;
    }
    return false;
}

static void put_body(JsonWriter *w, const RouteAbout *about, const RequestLimits *limits) {
    bool has_body = about->fields || about->required;
    if (!has_body) return;
    json_key(w, "requestBody");
    json_open_object(w);
    json_member_bool(w, "required", true);
    json_key(w, "content");
    json_open_object(w);
    json_key(w, "application/json");
    json_open_object(w);
    json_key(w, "schema");
    json_open_object(w);
    put_type(w, "object", false);
    put_required(w, about);
    json_key(w, "properties");
    json_open_object(w);
    for (uint32_t i = 0; about->fields && i < about->fields->n_rules; i++)
        put_rule(w, &about->fields->rules[i], limits, about->fields->null_is_absent);
    if (about->required && !has_rule(about->fields, about->required)) { // looked at by its owner alone
        json_key(w, about->required);
        put_node(w, about->required);
    }
    for (int depth = 0; depth < 5; depth++)
        json_close_object(w);
}

// ---- answers ----

static const struct {
    uint16_t status;
    const char *when;
    uint32_t kinds; // a bit for each AboutKind
} error_rows[] = {
#define KIND(k) (1u << ABOUT_##k)
#define WITH_BODY (KIND(LOOK) | KIND(GENERATE) | KIND(EXECUTE))
#define WITH_JOB (KIND(GENERATE) | KIND(EXECUTE))
#define ALL 0xFFFFu
    {400, "The request is wrong; the message names the field.", ALL},
    {401, "A token is required.", ALL & ~KIND(HEALTH)},
    {403, "The Host or the page's origin may not use this worker.", ALL},
    {404, "There is no such model.", KIND(MODEL) | KIND(LOOK) | KIND(GENERATE)},
    {408, "The request came too slowly.", ALL},
    {413, "The body is too large.", WITH_BODY | KIND(ACTION) | KIND(ACCEPTED)},
    {429, "All slots are taken, and the queue is full.", KIND(LOOK) | KIND(GENERATE)},
    {431, "The headers are too long.", ALL},
    {499, "The job was cancelled.", WITH_BODY},
    {500, "The worker failed.", WITH_BODY},
    {503, "The worker starts, drains, or has no free slot.", WITH_BODY},
    {504, "The time of the request was over.", WITH_BODY},
};

static void put_content(JsonWriter *w, const char *type, const char *schema) {
    json_key(w, type);
    json_open_object(w);
    json_key(w, "schema");
    json_put_raw(w, str_from_c(schema));
    json_close_object(w);
}

static void put_answer(JsonWriter *w, uint16_t status, const char *description, const RouteAbout *about,
                       const char *json_schema) {
    char code[8];
    snprintf(code, sizeof code, "%u", status);
    json_key(w, code);
    json_open_object(w);
    json_member_str(w, "description", str_from_c(description));
    json_key(w, "content");
    json_open_object(w);
    bool is_good = status < 300;
    bool streams = is_good && (about->kind == ABOUT_EXECUTE || about->kind == ABOUT_GENERATE);
    bool is_text = is_good && about->kind == ABOUT_METRICS;
    if (streams) put_content(w, "text/event-stream", "{}");
    if (is_text) put_content(w, "text/plain", "{\"type\":\"string\"}");
    else if (!is_good || about->kind != ABOUT_EXECUTE) put_content(w, "application/json", json_schema);
    json_close_object(w);
    json_close_object(w);
}

static const char *error_schema(const char *path) {
    return route_error_shape(str_from_c(path)) == ERRORS_ANTHROPIC
               ? "{\"$ref\":\"#/components/schemas/AnthropicError\"}"
               : "{\"$ref\":\"#/components/schemas/Error\"}";
}

static void put_answers(JsonWriter *w, const char *path, const RouteAbout *about) {
    const char *good = about->answer ? about->answer : "{\"type\":\"object\"}";
    json_key(w, "responses");
    json_open_object(w);
    put_answer(w, about->kind == ABOUT_ACCEPTED ? 202 : 200, "Done.", about, good);
    if (about->kind == ABOUT_HEALTH) put_answer(w, 503, "No jobs are taken.", about, good);
    for (size_t i = 0; i < COUNT_OF(error_rows); i++) {
        if (error_rows[i].kinds >> about->kind & 1)
            put_answer(w, error_rows[i].status, error_rows[i].when, about, error_schema(path));
    }
    json_close_object(w);
}

// ---- routes ----

// "get_v1_models_id"
static void put_operation_id(JsonWriter *w, const char *method, const char *path) {
    char memory[128];
    StrBuf id = STRBUF(memory);
    strbuf_put(&id, str_from_c(method));
    for (const char *c = path; *c; c++) {
        bool is_word = (*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9');
        if (is_word) strbuf_put_char(&id, *c);
        else if (*c != '}' && id.ptr[id.len - 1] != '_') strbuf_put_char(&id, '_');
    }
    json_member_str(w, "operationId", strbuf_str(&id));
}

static void put_parameter(JsonWriter *w, const char *path) {
    if (!strchr(path, '{')) return;
    json_key(w, "parameters");
    json_put_raw(w, STR("[{\"name\":\"id\",\"in\":\"path\",\"required\":true,\"schema\":{\"type\":\"string\","
                        "\"minLength\":1}}]"));
}

static void put_route(JsonWriter *w, const Api *api, const Route *route, const RequestLimits *limits) {
    static const RouteAbout unknown = {.summary = "", .kind = ABOUT_LOOK};
    const RouteAbout *about = openapi_about(route->path);
    const char *method = route->method == HTTP_GET ? "get" : "post";
    if (!about) about = &unknown; // which a test does not let happen
    json_key(w, method);
    json_open_object(w);
    put_operation_id(w, method, route->path);
    json_member_str(w, "summary", str_from_c(about->summary));
    if (api->config.auth.required) {
        json_key(w, "security");
        json_put_raw(w, route->open ? STR("[]") : STR("[{\"bearer\":[]},{\"key\":[]}]"));
    }
    put_parameter(w, route->path);
    put_body(w, about, limits);
    put_answers(w, route->path, about);
    json_close_object(w);
}

static void put_components(JsonWriter *w) {
    json_key(w, "components");
    json_put_raw(
        w, STR("{\"securitySchemes\":{\"bearer\":{\"type\":\"http\",\"scheme\":\"bearer\"},"
               "\"key\":{\"type\":\"apiKey\",\"in\":\"header\",\"name\":\"X-Api-Key\"}},\"schemas\":{"
               "\"Error\":{\"type\":\"object\",\"required\":[\"error\"],\"properties\":{\"error\":{"
               "\"type\":\"object\",\"required\":[\"message\",\"code\",\"retriable\",\"correlation_id\"],"
               "\"properties\":{\"message\":{\"type\":\"string\"},\"code\":{\"type\":\"string\"},"
               "\"retriable\":{\"type\":\"boolean\"},\"correlation_id\":{\"type\":\"string\"}}}}},"
               "\"AnthropicError\":{\"type\":\"object\",\"required\":[\"error\"],\"properties\":{"
               "\"type\":{\"const\":\"error\"},\"error\":{\"type\":\"object\",\"required\":[\"message\"],"
               "\"properties\":{\"type\":{\"type\":\"string\"},\"message\":{\"type\":\"string\"}}}}}}}"));
}

void openapi_write(const Api *api, StrBuf *b) {
    size_t n_routes;
    const Route *routes = api_routes(&n_routes);
    RequestLimits limits = api_request_limits(api);
    JsonWriter w = json_writer_begin(b);
    json_open_object(&w);
    json_member_str(&w, "openapi", STR("3.1.0"));
    json_key(&w, "info");
    json_open_object(&w);
    json_member_str(&w, "title", STR("worker-orcd"));
    json_member_str(&w, "version", str_from_c(version_text));
    json_member_str(&w, "description",
                    STR("One model, served. Every answer has X-Correlation-Id, the request's or one that was "
                        "made up. X-Deadline (milliseconds since 1970) ends a job that is late. Unknown "
                        "fields are ignored."));
    json_close_object(&w);
    json_key(&w, "paths");
    json_open_object(&w);
    for (size_t i = 0; i < n_routes; i++) { // each path has one method: a test says so
        json_key(&w, routes[i].path);
        json_open_object(&w);
        put_route(&w, api, &routes[i], &limits);
        json_close_object(&w);
    }
    json_close_object(&w);
    put_components(&w);
    json_close_object(&w);
}

void api_openapi(Api *api, HttpExchange exchange, const HttpRequest *request, Str parameter) {
    (void)request, (void)parameter;
    StrBuf text = api_text(api);
    openapi_write(api, &text);
    api_reply(api, exchange, 200, "application/json", strbuf_str(&text));
}
