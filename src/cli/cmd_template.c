#include "cli/commands.h"
#include "cli/model.h"
#include "json/json_writer.h"
#include "os/os.h"
#include "template/chat_template.h"

enum { TEMPLATE_INPUT_BYTES_MAX = 64 << 20, INPUT_ARENA_MB = 1024 };

static bool read_variables(Arena *arena, const JsonNode **out, Error *err) {
    Str text;
    JsonLimits limits = {.nodes_max = 16 << 20};
    if (os_is_terminal(0))
        (void)os_write(2, STR("Reading messages in JSON from the terminal; Ctrl-D ends it.\n"));
    if (!os_file_read("-", TEMPLATE_INPUT_BYTES_MAX, arena, &text, err)) return false;
    const JsonNode *request = json_parse(text, arena, &limits, err);
    return (request && chat_template_variables(request, arena, out, err)) ||
           error_prefix(err, "standard input");
}

// From --chat-template, or the model's own. *name is what messages call it.
static bool read_source(const Options *o, Model *m, const JsonNode *variables, Str *out, const char **name,
                        Error *err) {
    *name = o->chat_template ? o->chat_template : o->model;
    if (o->chat_template)
        return os_file_read(o->chat_template, TEMPLATE_SOURCE_BYTES_MAX, &m->arena, out, err);
    if (!m->file) return error_set(err, ERR_USAGE, "no model, so --chat-template must name a template");
    if (chat_template_find(m->file, chat_template_has_tools(variables), out, err)) return true;
    char reason[ERROR_MESSAGE_BYTES];
    memcpy(reason, err->message, sizeof reason);
    return error_set(err, err->code, "%s: %.300s; --chat-template names a file with one", o->model, reason);
}

static bool render(const Options *o, Model *m, const JsonNode *variables, TemplateText *out, Error *err) {
    TemplateConstant constants[CHAT_TEMPLATE_CONSTANTS_MAX];
    TemplateInput input = {.variables = variables, .constants = constants, .unix_ms = os_unix_ms()};
    const Template *template;
    const char *name;
    Str source;
    if (!read_source(o, m, variables, &source, &name, err)) return false;
    input.n_constants = chat_template_constants(m->tokenizer, m->file, constants);
    return (template_compile(source, &m->arena, &template, err) &&
            template_render(template, &input, &m->arena, out, err)) ||
           error_prefix(err, "template of %s", name);
}

static bool encode(Model *m, const TemplateText *text, TokenIds *out, Error *err) {
    size_t size = tokenizer_encode_spans_scratch_bytes(m->tokenizer, text->text.len, text->n_spans);
    Arena scratch = os_arena(size);
    void *start = scratch.next;
    if (!start) return error_set(err, ERR_NO_MEMORY, "the system refuses %zu bytes to encode a text", size);
    bool ok = tokenizer_encode_spans(m->tokenizer, text->text, text->spans, text->n_spans, &m->arena, scratch,
                                     out, err);
    os_release(start, size);
    return ok;
}

static void put_json(StrBuf *out, Str text, const TokenIds *ids) {
    JsonWriter w = json_writer_begin(out);
    json_open_object(&w);
    json_member_str(&w, "text", text);
    if (ids) {
        json_key(&w, "ids");
        json_open_array(&w);
        for (size_t i = 0; i < ids->count; i++)
            json_put_i64(&w, ids->ptr[i]);
        json_close_array(&w);
        json_member_u64(&w, "count", ids->count);
    }
    json_close_object(&w);
    strbuf_put_char(out, '\n');
}

static bool print(const Options *o, Model *m, const TemplateText *text, Error *err) {
    TokenIds ids = {0};
    if (o->ids && !encode(m, text, &ids, err)) return false;
    if (!o->ids && !o->json) return os_output(text->text, err);
    StrBuf out = strbuf_begin_in_arena(&m->arena);
    if (o->json) {
        put_json(&out, text->text, o->ids ? &ids : NULL);
    } else {
        for (size_t i = 0; i < ids.count; i++)
            strbuf_printf(&out, i ? " %d" : "%d", ids.ptr[i]);
        strbuf_put_char(&out, '\n');
    }
    if (out.truncated) return error_set(err, ERR_NO_MEMORY, "the answer is larger than its memory");
    return os_output(strbuf_str(&out), err);
}

int cmd_template(const Options *o) {
    Error err;
    Model model = {0};
    const JsonNode *variables;
    TemplateText text;
    Arena input = os_arena((size_t)INPUT_ARENA_MB << 20);
    bool ok = model_open_vocabulary(o, &model, &err) && read_variables(&input, &variables, &err) &&
              render(o, &model, variables, &text, &err) && print(o, &model, &text, &err);
    model_close(&model);
    return ok ? 0 : cli_report_error(&err);
}
