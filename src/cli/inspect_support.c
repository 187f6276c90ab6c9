#include "cli/inspect.h"

#include "base/utf8.h"
#include "json/json_writer.h"
#include "os/os.h"
#include "template/chat_template.h"
#include "text/tokenizer.h"

#include <math.h>

enum { SCRATCH_BYTES = 1 << 30 }; // address space; only what is used costs memory

void inspect_put_text(StrBuf *out, Str s, uint32_t columns) {
    for (uint32_t shown = 0; s.len; shown++) {
        uint32_t codepoint = 0;
        size_t length = utf8_decode(s, &codepoint);
        if (shown + 1 >= columns && s.len > length) {
            strbuf_put(out, STR("…"));
            return;
        }
        bool control = length && utf8_is_control(codepoint);
        if (codepoint == '\n' && length) strbuf_put(out, STR("␊"));
        else if (length == 0 || control) strbuf_put(out, STR("\uFFFD"));
        else strbuf_put(out, str_slice(s, 0, length));
        s = str_slice(s, length ? length : 1, s.len);
    }
}

// A format that nobody here reads is named before the plan misses its tensor.
static bool refuse_odd_tensor(const GgufFile *file, Error *err) {
    const GgufOddTensor *odd = &file->odd_tensors[0];
    const char *name = dtype_ggml_name(odd->ggml_id);
    if (!name) {
        return error_set(err, ERR_UNSUPPORTED, "tensor \"%.*s\": tensor type %u is not known",
                         STR_ARG(odd->name), odd->ggml_id);
    }
    return error_set(err, ERR_UNSUPPORTED, "tensor \"%.*s\": tensor type %s is not supported",
                     STR_ARG(odd->name), name);
}

static void check_model(const GgufFile *file, const Options *options, Arena *arena, Support *s) {
    PlanOptions plan_options = {.ignore_unknown_keys = options->ignore_unknown_keys,
                                .kv_type = options->kv_cache_type};
    Plan *plan = NULL;
    s->has_model = file->n_tensors + file->n_odd_tensors > 0;
    if (!s->has_model) return;
    s->model_ok = file->n_odd_tensors ? refuse_odd_tensor(file, &s->model_error)
                                      : plan_build_with(file, &plan_options, arena, &plan, &s->model_error);
    s->plan = plan;
    s->gpu_ok = plan && inspect_check_gpu(plan, options, arena, &s->gpu_error);
}

static void check_tokenizer(const GgufFile *file, Arena *arena, Support *s) {
    s->has_tokenizer = gguf_find_value(file, STR("tokenizer.ggml.tokens")) != NULL;
    if (!s->has_tokenizer) return;
    Arena scratch = os_arena(SCRATCH_BYTES);
    void *start = scratch.next;
    Tokenizer *tokenizer = NULL;
    s->tokenizer_ok = tokenizer_from_gguf(file, arena, scratch, &tokenizer, &s->tokenizer_error);
    s->tokenizer = tokenizer;
    os_release(start, SCRATCH_BYTES);
}

static void check_template(const GgufFile *file, const Options *options, Support *s) {
    Error ignored; // a value of another type is shown among the keys; names were checked before
    Str source, with_tools;
    const Template *template;
    s->has_template = chat_template_find(file, false, &source, &ignored);
    if (!s->has_template) return;
    if (!chat_template_find(file, true, &with_tools, &ignored) ||
        !answer_formats_find(source, with_tools, s->tokenizer, options->tool_format,
                             options->reasoning_format, &s->formats, &ignored))
        s->formats = (AnswerFormats){0};
    Arena scratch = os_arena(SCRATCH_BYTES);
    void *start = scratch.next;
    s->template_ok = template_compile(source, &scratch, &template, &s->template_error);
    os_release(start, SCRATCH_BYTES);
}

void inspect_support(const GgufFile *file, const Options *options, Arena *arena, Support *out) {
    *out = (Support){0};
    check_model(file, options, arena, out);
    check_tokenizer(file, arena, out);
    check_template(file, options, out);
    StrBuf unused = strbuf_begin_in_arena(arena);
    out->sampling = sampling_of_file(file, &unused);
    out->unused_sampling = strbuf_end_in_arena(&unused, arena);
}

static void put_error(StrBuf *out, const char *before, const Error *err) {
    strbuf_put(out, str_from_c(before));
    inspect_put_text(out, str_from_c(err->message), UINT32_MAX);
    strbuf_put(out, STR(".\n"));
}

void inspect_put_support(const Support *s, const GgufFile *file, StrBuf *out) {
    bool runs = s->model_ok && s->tokenizer_ok;
    if (!s->has_model)
        strbuf_put(out, STR("This file is a vocabulary without a model: tokenize can use it.\n"));
    else if (runs && s->gpu_ok) strbuf_put(out, STR("This model can be run.\n"));
    else if (runs) put_error(out, "This model can be run with --device cpu alone: ", &s->gpu_error);
    else if (s->model_ok && !s->has_tokenizer)
        strbuf_put(out,
                   STR("This model can be run with a tokenizer.json, beside it or named by --tokenizer.\n"));
    if (s->has_model && !s->model_ok) put_error(out, "This model cannot be run: ", &s->model_error);
    if (s->has_tokenizer && !s->tokenizer_ok)
        put_error(out, "This tokenizer cannot be used: ", &s->tokenizer_error);
    for (uint32_t i = 0; s->tokenizer_ok && i < tokenizer_warning_count(s->tokenizer); i++) {
        strbuf_put(out, STR("Vocabulary: "));
        inspect_put_text(out, str_from_c(tokenizer_warning(s->tokenizer, i)), UINT32_MAX);
        strbuf_put(out, STR(".\n"));
    }
    if (s->plan && s->plan->n_skipped_tensors) {
        strbuf_printf(out, "Tensors that the model does without: %.*s.\n", STR_ARG(s->plan->skipped_tensors));
    }
    if (s->plan && s->plan->ignored_keys.len) {
        strbuf_put(out, STR("Keys that may change what the model computes are ignored: "));
        inspect_put_text(out, s->plan->ignored_keys, UINT32_MAX);
        strbuf_put(out, STR(".\n"));
    }
    if (s->unused_sampling.len) {
        strbuf_put(out, STR("Sampling of the file that is out of range, and not used: "));
        inspect_put_text(out, s->unused_sampling, UINT32_MAX);
        strbuf_put(out, STR(".\n"));
    }
    if (file->stale_split_count) {
        strbuf_printf(out, "The file says that it is one of %u parts, but it holds all tensors.\n",
                      file->stale_split_count);
    }
}

void inspect_put_support_json(const Support *s, const GgufFile *file, JsonWriter *w) {
    json_member_bool(w, "supported", s->model_ok && s->tokenizer_ok);
    if (s->has_model && !s->model_ok) json_member_str(w, "model_error", str_from_c(s->model_error.message));
    if (s->model_ok && !s->gpu_ok) json_member_str(w, "gpu_error", str_from_c(s->gpu_error.message));
    if (s->has_tokenizer && !s->tokenizer_ok)
        json_member_str(w, "tokenizer_error", str_from_c(s->tokenizer_error.message));
    if (s->tokenizer_ok && tokenizer_warning_count(s->tokenizer)) {
        json_key(w, "tokenizer_warnings");
        json_open_array(w);
        for (uint32_t i = 0; i < tokenizer_warning_count(s->tokenizer); i++)
            json_put_str(w, str_from_c(tokenizer_warning(s->tokenizer, i)));
        json_close_array(w);
    }
    if (s->has_template) json_member_bool(w, "chat_template_ok", s->template_ok);
    if (s->has_template && !s->template_ok)
        json_member_str(w, "chat_template_error", str_from_c(s->template_error.message));
    if (s->has_template) {
        json_member_str(w, "tool_format", str_from_c(answer_tool_format_name(&s->formats)));
        json_member_str(w, "reasoning_format", str_from_c(answer_reasoning_format_name(&s->formats)));
    }
    if (s->plan && s->plan->n_skipped_tensors)
        json_member_str(w, "skipped_tensors", s->plan->skipped_tensors);
    if (s->plan && s->plan->ignored_keys.len) json_member_str(w, "ignored_keys", s->plan->ignored_keys);
    json_key(w, "sampling");
    json_open_object(w);
    for (size_t i = 0; i < SAMPLING_KEYS; i++) {
        double value = sampling_default(&s->sampling, &sampling_keys[i]);
        if (!isnan(value)) json_member_f64(w, sampling_keys[i].name, value);
    }
    json_close_object(w);
    if (s->unused_sampling.len) json_member_str(w, "unused_sampling", s->unused_sampling);
    if (file->stale_split_count) json_member_u64(w, "stale_split_count", file->stale_split_count);
}

// ---- --plan ----

static void put_op_json(JsonWriter *w, const Op *op) {
    json_open_object(w);
    json_member_u64(w, "layer", op->layer);
    json_member_str(w, "kind", str_from_c(plan_op_name(op->kind)));
    json_member_str(w, "out", str_from_c(plan_act_name(op->out)));
    json_key(w, "in");
    json_open_array(w);
    for (uint32_t i = 0; i < plan_op_inputs(op->kind); i++)
        json_put_str(w, str_from_c(plan_act_name(op->in[i])));
    json_close_array(w);
    json_member_u64(w, "out_width", op->out_width);
    if (op->weight) {
        json_member_str(w, "weight", op->weight->name);
        json_member_str(w, "type", str_from_c(dtype_info(op->weight->dtype)->name));
        json_key(w, "shape");
        json_open_array(w);
        json_put_u64(w, op->weight->n_matrices);
        json_put_u64(w, op->weight->n_rows);
        json_put_u64(w, op->weight->n_cols);
        json_close_array(w);
    }
    if (op->bias) json_member_str(w, "bias", op->bias->name);
    if (op->kind == OP_ATTENTION) {
        json_member_u64(w, "cache", op->attention.cache);
        json_member_u64(w, "heads", op->attention.n_heads);
        json_member_u64(w, "kv_heads", op->attention.n_kv_heads);
        json_member_u64(w, "key_dim", op->attention.key_dim);
        json_member_u64(w, "value_dim", op->attention.value_dim);
        json_member_u64(w, "window", op->attention.window);
    }
    json_close_object(w);
}

static void put_cache_json(JsonWriter *w, const Cache *cache) {
    json_open_object(w);
    static const char *const kinds[] = {
        [CACHE_KEYS_VALUES] = "keys_values", [CACHE_LAST_ROWS] = "last_rows", [CACHE_STATE] = "state"};
    json_member_str(w, "kind", str_from_c(kinds[cache->kind]));
    json_member_u64(w, "layer", cache->layer);
    json_member_u64(w, "heads", cache->n_heads);
    json_member_u64(w, "key_dim", cache->key_dim);
    json_member_u64(w, "value_dim", cache->value_dim);
    json_member_bool(w, "values_are_in_keys", cache->is_latent);
    json_member_u64(w, "window", cache->window);
    json_member_u64(w, "page_bytes", cache->page_bytes);
    json_member_u64(w, "slot_bytes", cache->slot_bytes);
    json_close_object(w);
}

void inspect_put_plan_json(const Plan *plan, StrBuf *out) {
    JsonWriter writer = json_writer_begin(out), *w = &writer;
    json_open_object(w);
    json_member_str(w, "architecture", str_from_c(plan->arch->name));
    json_key(w, "operations");
    json_open_array(w);
    for (uint32_t i = 0; i < plan->n_ops; i++)
        put_op_json(w, &plan->ops[i]);
    json_close_array(w);
    json_key(w, "caches");
    json_open_array(w);
    for (uint32_t i = 0; i < plan->n_caches; i++)
        put_cache_json(w, &plan->caches[i]);
    json_close_array(w);
    json_close_object(w);
    strbuf_put_char(out, '\n');
}
