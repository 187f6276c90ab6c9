#include "api/chat_prompt.h"

#include "api/job_fill.h"
#include "json/json_builder.h"

#include <stdio.h>

bool chat_force_calls(Str only, GenerateRequest *g, Error *err) {
    if (!g->tools) return field_refuse(err, "tool_choice", "a call needs tools");
    if (!structured_read_one(STRUCTURED_CALLS, "tool_choice", g->tools, &g->structured, err)) return false;
    g->structured.calls = (HeldCalls){.only = only, .one = only.len > 0};
    return true;
}

// {"type": "allowed_tools", "allowed_tools": {"mode": …, "tools": […]}}, or mode and tools beside the type:
// the model sees all tools, and may (auto) or has to (required) call some of these.
static bool read_allowed(const JsonNode *choice, GenerateRequest *g, Error *err) {
    const JsonNode *inner = json_get(choice, STR("allowed_tools")), *at = inner ? inner : choice;
    const JsonNode *tools = json_get(at, STR("tools"));
    Str mode = {0}, name;
    if ((inner && !json_is(inner, JSON_OBJECT)) || (!json_get(at, STR("mode")) && !tools))
        return field_refuse(err, "tool_choice", "allowed_tools: must be an object with mode and tools");
    bool is_auto = json_read_str(json_get(at, STR("mode")), &mode) && str_eq(mode, STR("auto"));
    if (!is_auto && !str_eq(mode, STR("required")))
        return field_refuse(err, "tool_choice", "allowed_tools: mode must be \"auto\" or \"required\"");
    if (!json_is(tools, JSON_ARRAY) || tools->length == 0)
        return field_refuse(err, "tool_choice", "allowed_tools: tools must be an array of one or more");
    for (const JsonNode *e = json_first(tools); e != json_end(tools); e = json_next(e))
        if (!answer_tools_read_name(e, &name))
            return field_refuse(err, "tool_choice",
                                "allowed_tools: each tool must be a function with its name");
    if (is_auto && g->structured.kind != STRUCTURED_NONE) return true; // such an answer calls nothing
    if (!chat_force_calls((Str){0}, g, err)) return false;
    g->structured.calls.allowed = tools;
    g->structured.calls.optional = is_auto;
    return true;
}

// One tool, or some of them.
static bool read_tool(const JsonNode *choice, GenerateRequest *g, Error *err) {
    Str type = {0}, name;
    bool has_type = json_read_str(json_get(choice, STR("type")), &type);
    if (has_type && str_eq(type, STR("allowed_tools"))) return read_allowed(choice, g, err);
    if (!has_type || !str_eq(type, STR("function")))
        return field_refuse(err, "tool_choice", "its type must be \"function\" or \"allowed_tools\"");
    if (!answer_tools_read_name(choice, &name))
        return field_refuse(err, "tool_choice", "needs the name of a function");
    return chat_force_calls(name, g, err);
}

static bool read_choice(const JsonNode *choice, GenerateRequest *g, Error *err) {
    Str word;
    if (!choice) return true;
    if (json_is(choice, JSON_OBJECT)) return read_tool(choice, g, err);
    if (!json_read_str(choice, &word))
        return field_refuse_type(err, "tool_choice", "a string or an object", choice);
    if (str_eq(word, STR("none"))) g->tools = NULL;
    else if (str_eq(word, STR("required")) || str_eq(word, STR("any")))
        return chat_force_calls((Str){0}, g, err);
    else if (!str_eq(word, STR("auto")))
        return field_refuse(err, "tool_choice", "must be \"none\", \"auto\", \"required\" or a tool");
    return true;
}

static bool read_switch(const JsonNode *root, const char *name, bool *out, Error *err) {
    const JsonNode *node = json_get(root, str_from_c(name));
    if (!node || json_is(node, JSON_NULL) || json_read_bool(node, out)) return true;
    return field_refuse_type(err, name, "a boolean", node);
}

bool chat_read_calls(const JsonNode *root, GenerateRequest *g, Error *err) {
    bool parallel = true, include_reasoning = true, separate_reasoning = true;
    if (g->tools && !json_is(g->tools, JSON_ARRAY))
        return field_refuse_type(err, "tools", "an array of tools", g->tools);
    if (g->tools && g->tools->length == 0) g->tools = NULL;
    if (!read_choice(g->tool_choice, g, err) || !read_switch(root, "parallel_tool_calls", &parallel, err) ||
        !read_switch(root, "include_reasoning", &include_reasoning, err) ||
        !read_switch(root, "separate_reasoning", &separate_reasoning, err))
        return false;
    g->one_call = !parallel;
    g->hides_reasoning = !include_reasoning;
    g->reasoning_is_content = !separate_reasoning;
    return true;
}

// ---- encoding ----

// Into the memory of the request's lane, from where *arena begins.
static bool read_and_render(Api *api, const ApiRequest *r, ConversationReader read, Arena *arena,
                            const JsonNode **variables, TemplateText *out, Error *err) {
    const ChatModel *m = api->config.chat;
    EncoderLane *lane = api_lane(api, r);
    if (!m->plain) {
        *err = m->missing;
        err->code = ERR_INVALID_REQUEST;
        return false;
    }
    ConversationInput input = chat_model_input(m, r->fields.generate.root);
    bool ok = read(&input, arena, variables, err) &&
              chat_render(m, *variables, api->config.bridge->unix_ms(), arena, out, err);
    lane->rendered = max_u64(lane->rendered, (uint64_t)(arena->next - lane->rendering.next));
    if (!ok && err->code == ERR_NO_MEMORY) // there is enough for every conversation that a context holds
        error_fill(err, ERR_TOO_LONG, ERROR_NO_POSITION,
                   "the conversation needs more than %d MiB to be written", TEMPLATE_MEMORY_MAX >> 20);
    if (!ok) return false;
    if (out->text.len > RENDERED_BYTES_MAX || out->n_spans > RENDERED_SPANS_MAX)
        return error_set(err, ERR_TOO_LONG,
                         "the conversation is %zu bytes as its template writes it; at most "
                         "%d are allowed",
                         out->text.len, RENDERED_BYTES_MAX);
    return true;
}

bool chat_render_conversation(Api *api, ApiRequest *r, ConversationReader read, TemplateText *out,
                              Error *err) {
    const JsonNode *variables;
    Arena arena = api_lane(api, r)->rendering;
    return read_and_render(api, r, read, &arena, &variables, out, err);
}

// A call can be forced all the same where it is known how the model writes calls.
static bool refuse_unseen_tools(const ChatModel *m, Error *err) {
    char text[400];
    snprintf(text, sizeof text,
             "this model's chat template has no place for them, so the model would not know of any; leave "
             "them out or send tool_choice \"none\"%s; what helps is a template that shows tools: start the "
             "worker with --chat-template FILE",
             m->formats.tools ? " (also beside a call's result), or force a call" : "");
    return field_refuse(err, "tools", text);
}

bool chat_encode_conversation(Api *api, ApiRequest *r, ConversationReader read, TokenIds *ids, Str *text,
                              Arena *scratch, Error *err) {
    GenerateRequest *g = &r->fields.generate;
    const ChatModel *m = api->config.chat;
    const JsonNode *variables, *tools;
    TemplateText rendered;
    EncoderLane *lane = api_lane(api, r);
    Arena arena = lane->rendering, ids_arena, *kept = api_kept_memory(r);
    if (!read_and_render(api, r, read, &arena, &variables, &rendered, err)) return false;
    tools = json_get(variables, STR("tools"));
    bool has_tools = g->tools && json_is(tools, JSON_ARRAY) && tools->length;
    // An answer that is held to something calls nothing, whatever it looks like.
    if (g->structured.kind == STRUCTURED_NONE && has_tools && m->formats.tools &&
        answer_tools_are_strict(tools)) {
        g->structured.kind = STRUCTURED_CALLS;
        g->structured.field = "tools";
        g->structured.calls.optional = true;
    }
    bool forces = g->structured.kind == STRUCTURED_CALLS && !g->structured.calls.optional;
    if (g->structured.kind == STRUCTURED_CALLS) g->structured.calls.tools = has_tools ? tools : NULL;
    else if (g->structured.kind != STRUCTURED_NONE) has_tools = false;
    *scratch = lane->scratch;
    if (has_tools && !m->reads_tools && !forces) return refuse_unseen_tools(m, err);
    if (has_tools && !answer_tools_read(tools, kept, &g->answer_tools, err)) {
        bool is_full = err->code == ERR_NO_MEMORY; // there is enough for every usual set of tools
        return is_full ? field_refuse(err, "tools", "their names and parameters take more than a megabyte")
                       : false;
    }
    g->opening = answer_opening(&m->formats, rendered.text);
    *text = rendered.text;
    return (arena_split(scratch, tokenizer_encode_ids_bytes(m->tokenizer, rendered.text.len), &ids_arena) ||
            error_set(err, ERR_NO_MEMORY, "no memory for the conversation's tokens")) &&
           chat_encode_text(m, &rendered, &ids_arena, *scratch, ids, err);
}

// The template's variables are gone when the calls' grammar is made.
static bool keep_tools(GenerateRequest *g, Job *job, Error *err) {
    JsonBuilder b = json_builder_begin(&job->arena);
    json_build_node(&b, g->structured.calls.tools);
    g->structured.calls.tools = json_builder_end(&b, err);
    return g->structured.calls.tools ||
           field_refuse(err, "tools", "are too large for an answer that is held to calls of them");
}

bool chat_encode_job(Api *api, ApiRequest *r, ConversationReader read, const char *field, Job *job,
                     Error *err) {
    TokenIds ids;
    Str text;
    Arena scratch;
    const ApiConfig *c = &api->config;
    if (!chat_encode_conversation(api, r, read, &ids, &text, &scratch, err) ||
        !job_set_prompt(job, ids, text, field, &r->limits, err) ||
        !generate_fill_job(&r->fields.generate, &c->sampling, &r->limits, c->tokenizer,
                           api_lane(api, r)->scratch, job, err))
        return false;
    job->marks = c->chat->formats.marks;
    job->n_marks = c->chat->formats.n_marks;
    GenerateRequest *g = &r->fields.generate;
    g->structured.calls.one |= g->one_call;
    if (g->structured.kind == STRUCTURED_CALLS && !g->structured.calls.tools)
        return field_refuse(err, "tool_choice", "a call needs tools that the model's template shows it");
    if (g->structured.kind == STRUCTURED_CALLS && !keep_tools(g, job, err)) return false;
    AnswerGrammar frame = {&c->chat->formats, c->tokenizer, g->opening};
    return api_hold_answer(api, r, &g->structured, &frame, job, err);
}

// ---- answers ----

void chat_begin_answer(Api *api, const ApiRequest *r, ApiJob *mine, bool keeps) {
    const GenerateRequest *g = &r->fields.generate;
    const ChatModel *m = api->config.chat;
    answer_begin(&mine->answer, keeps);
    answer_parser_begin(mine->answer.parser, &m->formats, m->tokenizer, g->answer_tools, g->opening);
}

bool chat_shows_part(const GenerateRequest *g, const AnswerPart *part, AnswerPart *shown) {
    *shown = *part;
    if (part->kind == ANSWER_REASONING) {
        if (g->reasoning_is_content) shown->kind = ANSWER_CONTENT;
        return !g->hides_reasoning;
    }
    return part->kind == ANSWER_CONTENT || !g->one_call || part->call == 0;
}

void chat_keep_part(const GenerateRequest *g, ApiAnswer *a, const AnswerPart *shown) {
    if (shown->kind != ANSWER_CALL_END) answer_keep(a, (KeptKind)shown->kind, shown->call, shown->text);
    else if (shown->broken && shown->text.len && !g->stream) answer_unmake_call(a, shown->call, shown->text);
    else answer_keep(a, KEPT_CALL_END, shown->call, (Str){0});
}
