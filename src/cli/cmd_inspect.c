// worker-orcd inspect FILE: what a person wants to know about a GGUF file, or all of it as JSON.
//
// Works on any GGUF, also where nothing here could run it: it says so then, in one sentence, and still ends
// with exit status 0. The sentence comes last, where a terminal shows it. Only a file that cannot be read
// ends with 1; with --plan and --fit also one that cannot be run, and with --fit one that does not fit. What
// the file says is printed with control characters made visible: it may come from anywhere, and a terminal
// obeys them.

#include "base/utf8.h"
#include "cli/commands.h"
#include "cli/inspect.h"
#include "model/gguf.h"
#include "os/os.h"
#include "json/json_writer.h"

#include <math.h>
#include <stdio.h>

enum {
    TABLES_BYTES = 1 << 30, // address space for the file's tables; only what is used costs memory
    OUTPUT_BYTES = 256 << 20,
    LABEL_COLUMNS = 16,
    VALUE_COLUMNS_LEAST = 20,
    NAME_COLUMNS_MAX = 44,    // longer tensor names push their row to the right
    JSON_ARRAY_ELEMENTS = 16, // longer arrays are given by their length and first elements
};

typedef struct {
    const GgufFile *file;
    const Support *support;
    Str architecture;
    StrBuf out;
    uint32_t columns;
    bool styled;
} Report;

// ---- text ----

// Spaces until the line that began at `start` is `columns` wide.
static void pad_to(StrBuf *out, size_t start, uint32_t columns) {
    size_t width = utf8_count(str_slice(strbuf_str(out), start, out->len));
    for (; width < columns; width++)
        strbuf_put_char(out, ' ');
}

static void put_heading(Report *r, const char *title) {
    strbuf_printf(&r->out, r->styled ? "\n\033[1m%s\033[0m\n" : "\n%s\n", title);
}

static void put_label(Report *r, const char *label) {
    size_t start = r->out.len;
    strbuf_printf(&r->out, "  %s", label);
    pad_to(&r->out, start, LABEL_COLUMNS + 2);
}

// "151,936 strings" and what they begin with, as far as the line goes.
static void put_array(StrBuf *out, const GgufArray *a, uint32_t columns) {
    size_t start = out->len;
    strbuf_put_char(out, '[');
    strbuf_put_count(out, a->count);
    strbuf_printf(out, " %s]", gguf_type_name(a->type));
    for (uint64_t i = 0; i < a->count && a->type != GGUF_ARRAY; i++) {
        size_t used = utf8_count(str_slice(strbuf_str(out), start, out->len));
        if (used + 12 > columns) {
            strbuf_put(out, STR(" …"));
            break;
        }
        strbuf_put_char(out, ' ');
        uint32_t left = columns - (uint32_t)used - 4;
        if (a->type == GGUF_STRING) inspect_put_text(out, gguf_array_str(a, i), left);
        else if (a->type == GGUF_F32 || a->type == GGUF_F64)
            strbuf_printf(out, "%.4g", (double)gguf_array_f32(a, i));
        else strbuf_printf(out, "%lld", (long long)gguf_array_i64(a, i));
    }
}

static void put_value(StrBuf *out, const GgufValue *v, uint32_t columns) {
    switch (v->type) {
    case GGUF_STRING: inspect_put_text(out, v->str, columns); break;
    case GGUF_ARRAY: put_array(out, &v->array, columns); break;
    default: gguf_put_value(v, out); break;
    }
}

// ---- what the metadata say ----

// One line made of those of its keys that are there; the line is left out when none is.
typedef struct {
    const char *label;
    struct {
        const char *key; // "*" stands for the architecture
        const char *before, *after;
    } parts[5];
} Line;

static const Line model_lines[] = {
    {"layers", {{"*.block_count", "", ""}}},
    {"width", {{"*.embedding_length", "", ""}}},
    {"heads",
     {{"*.attention.head_count", "", ""},
      {"*.attention.head_count_kv", "", " for keys and values"},
      {"*.attention.key_length", "", " wide"}}},
    {"feed-forward", {{"*.feed_forward_length", "", ""}, {"*.expert_feed_forward_length", "", " an expert"}}},
    {"experts", {{"*.expert_count", "", ""}, {"*.expert_used_count", "", " used a token"}}},
    {"context",
     {{"*.context_length", "", " tokens"}, {"*.attention.sliding_window", "sliding window of ", ""}}},
    {"rope",
     {{"*.rope.freq_base", "base ", ""},
      {"*.rope.dimension_count", "", " dimensions"},
      {"*.rope.scaling.type", "scaling ", ""},
      {"*.rope.scaling.factor", "by ", ""},
      {"*.rope.scaling.original_context_length", "from ", " tokens"}}},
    {"norm",
     {{"*.attention.layer_norm_rms_epsilon", "RMS, epsilon ", ""},
      {"*.attention.layer_norm_epsilon", "layer, epsilon ", ""}}},
    {"caps", {{"*.attn_logit_softcapping", "scores ", ""}, {"*.final_logit_softcapping", "logits ", ""}}},
};

static const Line tokenizer_lines[] = {
    {"kind", {{"tokenizer.ggml.model", "", ""}, {"tokenizer.ggml.pre", "pre-tokeniser ", ""}}},
    {"adds",
     {{"tokenizer.ggml.add_bos_token", "BOS: ", ""},
      {"tokenizer.ggml.add_eos_token", "EOS: ", ""},
      {"tokenizer.ggml.add_space_prefix", "leading space: ", ""}}},
};

// Keys that hold a token's number.
static const struct {
    const char *label, *key;
} special_tokens[] = {
    {"BOS", "tokenizer.ggml.bos_token_id"},         {"EOS", "tokenizer.ggml.eos_token_id"},
    {"EOT", "tokenizer.ggml.eot_token_id"},         {"EOM", "tokenizer.ggml.eom_token_id"},
    {"unknown", "tokenizer.ggml.unknown_token_id"}, {"padding", "tokenizer.ggml.padding_token_id"},
    {"mask", "tokenizer.ggml.mask_token_id"},
};

static const GgufValue *find_value(const Report *r, const char *pattern) {
    if (pattern[0] != '*') return gguf_find_value(r->file, str_from_c(pattern));
    char name[256];
    StrBuf key = STRBUF(name);
    strbuf_put(&key, r->architecture);
    strbuf_put(&key, str_from_c(pattern + 1));
    return key.truncated ? NULL : gguf_find_value(r->file, strbuf_str(&key));
}

// Whole numbers, one for each layer: the least and the most (the metadata below have them all).
static void put_range(StrBuf *out, const GgufArray *a) {
    int64_t least = gguf_array_i64(a, 0), most = least;
    for (uint64_t i = 1; i < a->count; i++) {
        int64_t value = gguf_array_i64(a, i);
        least = value < least ? value : least;
        most = value > most ? value : most;
    }
    strbuf_printf(out, "%lld", (long long)least);
    if (most != least) strbuf_printf(out, " to %lld", (long long)most);
}

// Counts get their thousands separated, those of layers are a range; all else is as put_value has it.
static void put_figure(StrBuf *out, const GgufValue *v, uint32_t columns) {
    bool count = v->type == GGUF_U16 || v->type == GGUF_U32 || v->type == GGUF_U64;
    bool layers = v->type == GGUF_ARRAY && v->array.count > 0 &&
                  (v->array.type == GGUF_U32 || v->array.type == GGUF_I32);
    if (count) strbuf_put_count(out, v->u64);
    else if (layers) put_range(out, &v->array);
    else put_value(out, v, columns);
}

static void put_lines(Report *r, const Line *lines, size_t n_lines) {
    for (size_t i = 0; i < n_lines; i++) {
        bool begun = false;
        for (size_t k = 0; k < COUNT_OF(lines[i].parts) && lines[i].parts[k].key; k++) {
            const GgufValue *v = find_value(r, lines[i].parts[k].key);
            if (!v) continue;
            if (begun) strbuf_put(&r->out, STR(", "));
            else put_label(r, lines[i].label);
            begun = true;
            strbuf_put(&r->out, str_from_c(lines[i].parts[k].before));
            put_figure(&r->out, v, 40);
            strbuf_put(&r->out, str_from_c(lines[i].parts[k].after));
        }
        if (begun) strbuf_put_char(&r->out, '\n');
    }
}

// What is sampled with where a request says nothing else, of the keys that can be used.
static void put_sampling(Report *r) {
    bool begun = false;
    for (size_t i = 0; i < SAMPLING_KEYS; i++) {
        double value = sampling_default(&r->support->sampling, &sampling_keys[i]);
        if (isnan(value)) continue;
        if (begun) strbuf_put(&r->out, STR(", "));
        else put_label(r, "sampling");
        begun = true;
        strbuf_printf(&r->out, "%s %.7g", sampling_keys[i].name, value);
    }
    if (begun) strbuf_put_char(&r->out, '\n');
}

static void put_model(Report *r) {
    const GgufValue *name = find_value(r, "general.name");
    uint64_t elements = 0;
    for (uint32_t i = 0; i < r->file->n_tensors; i++)
        elements += gguf_tensor_elements(&r->file->tensors[i]);
    put_heading(r, "Model");
    put_label(r, "architecture");
    inspect_put_text(&r->out, r->architecture.len ? r->architecture : STR("not given"), 60);
    strbuf_put_char(&r->out, '\n');
    if (name) {
        put_label(r, "name");
        put_value(&r->out, name, 60);
        strbuf_put_char(&r->out, '\n');
    }
    put_label(r, "parameters");
    if (elements) strbuf_put_count(&r->out, elements);
    else strbuf_put(&r->out, STR("none: only a vocabulary"));
    strbuf_put_char(&r->out, '\n');
    if (elements) {
        put_label(r, "quantisation");
        strbuf_printf(&r->out, "%s\n", gguf_quant_kind(r->file));
    }
    put_lines(r, model_lines, COUNT_OF(model_lines));
    put_sampling(r);
}

static void put_special_tokens(Report *r, const GgufArray *tokens) {
    for (size_t i = 0; i < COUNT_OF(special_tokens); i++) {
        Error ignored; // what is no number is shown among the keys
        uint32_t id = UINT32_MAX;
        if (!gguf_opt_u32(r->file, str_from_c(special_tokens[i].key), &id, &ignored) || id == UINT32_MAX)
            continue;
        put_label(r, special_tokens[i].label);
        strbuf_put_count(&r->out, id);
        if (id < tokens->count) {
            strbuf_put(&r->out, STR("  "));
            inspect_put_text(&r->out, gguf_array_str(tokens, id), 40);
        }
        strbuf_put_char(&r->out, '\n');
    }
}

static void put_template_state(Report *r) {
    const Support *s = r->support;
    if (!s->has_template) return;
    strbuf_put(&r->out, s->template_ok ? STR(", can be used") : STR(", cannot be used: "));
    if (!s->template_ok) inspect_put_text(&r->out, str_from_c(s->template_error.message), UINT32_MAX);
}

// How the model writes what is not its answer's text, by its template or as flags say.
static void put_formats_of_answers(Report *r) {
    if (!r->support->has_template) return;
    put_label(r, "tool calls");
    strbuf_printf(&r->out, "%s\n", answer_tool_format_name(&r->support->formats));
    put_label(r, "reasoning");
    strbuf_printf(&r->out, "%s\n", answer_reasoning_format_name(&r->support->formats));
}

static void put_tokenizer(Report *r) {
    Error ignored;
    GgufArray tokens = {.type = GGUF_STRING}, merges = {0};
    Str template = {0};
    bool readable = gguf_opt_array(r->file, STR("tokenizer.ggml.tokens"), GGUF_STRING, &tokens, &ignored) &&
                    gguf_opt_array(r->file, STR("tokenizer.ggml.merges"), GGUF_STRING, &merges, &ignored) &&
                    gguf_opt_str(r->file, STR("tokenizer.chat_template"), &template, &ignored);
    if (!readable || tokens.count == 0) return;
    put_heading(r, "Tokenizer");
    put_lines(r, tokenizer_lines, 1);
    put_label(r, "vocabulary");
    strbuf_put_count(&r->out, tokens.count);
    strbuf_put(&r->out, STR(" tokens"));
    if (merges.count) {
        strbuf_put(&r->out, STR(", "));
        strbuf_put_count(&r->out, merges.count);
        strbuf_put(&r->out, STR(" merges"));
    }
    strbuf_put_char(&r->out, '\n');
    put_special_tokens(r, &tokens);
    put_lines(r, tokenizer_lines + 1, COUNT_OF(tokenizer_lines) - 1);
    put_label(r, "chat template");
    if (template.len) {
        strbuf_put(&r->out, STR("yes, "));
        strbuf_put_count(&r->out, template.len);
        strbuf_put(&r->out, STR(" bytes"));
        put_template_state(r);
        strbuf_put_char(&r->out, '\n');
        put_formats_of_answers(r);
    } else {
        strbuf_put(&r->out, STR("none\n"));
    }
}

// ---- weights ----

static void put_right(StrBuf *out, Str text, uint32_t columns) {
    for (size_t i = utf8_count(text); i < columns; i++)
        strbuf_put_char(out, ' ');
    strbuf_put(out, text);
}

static void put_count_right(StrBuf *out, uint64_t count, uint32_t columns) {
    char text[32];
    StrBuf number = STRBUF(text);
    strbuf_put_count(&number, count);
    put_right(out, strbuf_str(&number), columns);
}

static void put_bytes_right(StrBuf *out, uint64_t bytes, uint32_t columns) {
    char text[32];
    StrBuf number = STRBUF(text);
    strbuf_put_bytes(&number, bytes);
    put_right(out, strbuf_str(&number), columns);
}

// Formats, the largest share of the bytes first.
static void put_formats(Report *r) {
    GgufTypeShare shares[DTYPE_COUNT];
    gguf_count_types(r->file, shares);
    uint64_t total = 0;
    for (unsigned i = 0; i < DTYPE_COUNT; i++)
        total += shares[i].bytes;
    if (total == 0) return;
    put_heading(r, "Weights");
    strbuf_put(&r->out, STR("  format      tensors          elements       bytes    share\n"));
    for (;;) {
        unsigned best = 0;
        for (unsigned i = 1; i < DTYPE_COUNT; i++)
            if (shares[i].bytes > shares[best].bytes) best = i;
        if (shares[best].bytes == 0) break;
        strbuf_printf(&r->out, "  %-8s", dtype_info((Dtype)best)->name);
        put_count_right(&r->out, shares[best].tensors, 11);
        put_count_right(&r->out, shares[best].elements, 18);
        put_bytes_right(&r->out, shares[best].bytes, 12);
        strbuf_printf(&r->out, "%7.1f %%\n", 100.0 * (double)shares[best].bytes / (double)total);
        shares[best].bytes = 0;
    }
}

static void put_dims(StrBuf *out, const uint64_t *dims, uint32_t n_dims) {
    for (uint32_t i = 0; i < n_dims; i++) {
        if (i) strbuf_put(out, STR(" × "));
        strbuf_put_count(out, dims[i]);
    }
}

static void put_tensors(Report *r, bool listed) {
    if (r->file->n_tensors == 0) return;
    if (!listed) {
        strbuf_put(&r->out, STR("\n--tensors lists the tensors, too.\n"));
        return;
    }
    uint32_t name_columns = 0;
    for (uint32_t i = 0; i < r->file->n_tensors; i++)
        name_columns = (uint32_t)max_u64(name_columns, utf8_count(r->file->tensors[i].name));
    name_columns = (uint32_t)min_u64(name_columns, NAME_COLUMNS_MAX);
    put_heading(r, "Tensors");
    for (uint32_t i = 0; i < r->file->n_tensors; i++) {
        const GgufTensor *t = &r->file->tensors[i];
        size_t start = r->out.len;
        strbuf_put(&r->out, STR("  "));
        inspect_put_text(&r->out, t->name, UINT32_MAX);
        pad_to(&r->out, start, 2 + name_columns + 2);
        strbuf_printf(&r->out, "%-8s", dtype_info(t->dtype)->name);
        put_bytes_right(&r->out, t->size_bytes, 8);
        strbuf_put(&r->out, STR("  "));
        put_dims(&r->out, t->dims, t->n_dims);
        strbuf_put_char(&r->out, '\n');
    }
}

// Those of formats that nothing here reads.
static void put_odd_tensors(Report *r) {
    if (r->file->n_odd_tensors == 0) return;
    put_heading(r, "Tensors of types that are not supported");
    for (uint32_t i = 0; i < r->file->n_odd_tensors; i++) {
        const GgufOddTensor *t = &r->file->odd_tensors[i];
        const char *type = dtype_ggml_name(t->ggml_id);
        strbuf_put(&r->out, STR("  "));
        inspect_put_text(&r->out, t->name, UINT32_MAX);
        if (type) strbuf_printf(&r->out, "  %s  ", type);
        else strbuf_printf(&r->out, "  type %u  ", t->ggml_id);
        put_dims(&r->out, t->dims, t->n_dims);
        strbuf_put_char(&r->out, '\n');
    }
}

// Every key, a line each.
static void put_keys(Report *r) {
    if (r->file->n_values == 0) return;
    put_heading(r, "Metadata");
    for (uint32_t i = 0; i < r->file->n_values; i++) {
        const GgufValue *v = &r->file->values[i];
        size_t start = r->out.len;
        strbuf_put(&r->out, STR("  "));
        inspect_put_text(&r->out, v->key, r->columns - VALUE_COLUMNS_LEAST);
        strbuf_put(&r->out, STR(" = "));
        size_t used = utf8_count(str_slice(strbuf_str(&r->out), start, r->out.len));
        uint32_t left =
            used + VALUE_COLUMNS_LEAST < r->columns ? r->columns - (uint32_t)used : VALUE_COLUMNS_LEAST;
        put_value(&r->out, v, left);
        strbuf_put_char(&r->out, '\n');
    }
}

static void put_report(Report *r, bool lists_tensors) {
    const GgufFile *file = r->file;
    inspect_put_text(&r->out, str_from_c(file->parts[0].name), UINT32_MAX);
    strbuf_printf(&r->out, "\nGGUF version %u, ", file->version);
    strbuf_put_bytes(&r->out, file->size_bytes);
    if (file->n_parts > 1) strbuf_printf(&r->out, " in %u parts", file->n_parts);
    strbuf_printf(&r->out, ", %u tensor%s, %u metadata key%s\n", file->n_tensors, plural_s(file->n_tensors),
                  file->n_values, plural_s(file->n_values));
    put_model(r);
    put_tokenizer(r);
    put_formats(r);
    put_keys(r);
    put_tensors(r, lists_tensors);
    put_odd_tensors(r);
    strbuf_put_char(&r->out, '\n');
    inspect_put_support(r->support, file, &r->out);
}

// ---- JSON ----

static void json_put_array(JsonWriter *w, const GgufArray *a);

static void json_put_element(JsonWriter *w, const GgufArray *a, uint64_t i) {
    switch (a->type) {
    case GGUF_STRING: json_put_str(w, gguf_array_str(a, i)); break;
    case GGUF_ARRAY: json_put_array(w, &a->arrays[i]); break;
    case GGUF_F32:
    case GGUF_F64: json_put_f64(w, (double)gguf_array_f32(a, i)); break;
    case GGUF_BOOL: json_put_bool(w, gguf_array_i64(a, i) != 0); break;
    default: json_put_i64(w, gguf_array_i64(a, i)); break;
    }
}

// A long array is {"type","count","first":[…]}.
static void json_put_array(JsonWriter *w, const GgufArray *a) {
    bool summarised = a->count > JSON_ARRAY_ELEMENTS;
    if (summarised) {
        json_open_object(w);
        json_member_str(w, "type", str_from_c(gguf_type_name(a->type)));
        json_member_u64(w, "count", a->count);
        json_key(w, "first");
    }
    json_open_array(w);
    for (uint64_t i = 0; i < min_u64(a->count, JSON_ARRAY_ELEMENTS); i++)
        json_put_element(w, a, i);
    json_close_array(w);
    if (summarised) json_close_object(w);
}

static void json_put_value(JsonWriter *w, const GgufValue *v) {
    switch (v->type) {
    case GGUF_STRING: json_put_str(w, v->str); break;
    case GGUF_ARRAY: json_put_array(w, &v->array); break;
    case GGUF_F32:
    case GGUF_F64: json_put_f64(w, v->f64); break;
    case GGUF_BOOL: json_put_bool(w, v->u64 != 0); break;
    case GGUF_I8:
    case GGUF_I16:
    case GGUF_I32:
    case GGUF_I64: json_put_i64(w, v->i64); break;
    default: json_put_u64(w, v->u64); break;
    }
}

static void json_put_formats(JsonWriter *w, const GgufFile *file) {
    GgufTypeShare shares[DTYPE_COUNT];
    gguf_count_types(file, shares);
    json_key(w, "formats");
    json_open_array(w);
    for (unsigned i = 0; i < DTYPE_COUNT; i++) {
        if (shares[i].tensors == 0) continue;
        json_open_object(w);
        json_member_str(w, "type", str_from_c(dtype_info((Dtype)i)->name));
        json_member_u64(w, "tensors", shares[i].tensors);
        json_member_u64(w, "elements", shares[i].elements);
        json_member_u64(w, "bytes", shares[i].bytes);
        json_close_object(w);
    }
    json_close_array(w);
}

static void json_put_tensors(JsonWriter *w, const GgufFile *file) {
    json_key(w, "tensors");
    json_open_array(w);
    for (uint32_t i = 0; i < file->n_tensors; i++) {
        const GgufTensor *t = &file->tensors[i];
        json_open_object(w);
        json_member_str(w, "name", t->name);
        json_member_str(w, "type", str_from_c(dtype_info(t->dtype)->name));
        json_key(w, "shape");
        json_open_array(w);
        for (uint32_t d = 0; d < t->n_dims; d++)
            json_put_u64(w, t->dims[d]);
        json_close_array(w);
        json_member_u64(w, "bytes", t->size_bytes);
        json_member_u64(w, "part", t->part);
        json_member_u64(w, "offset", t->file_offset);
        json_close_object(w);
    }
    json_close_array(w);
}

static void json_put_odd_tensors(JsonWriter *w, const GgufFile *file) {
    if (file->n_odd_tensors == 0) return;
    json_key(w, "unsupported_tensors");
    json_open_array(w);
    for (uint32_t i = 0; i < file->n_odd_tensors; i++) {
        const GgufOddTensor *t = &file->odd_tensors[i];
        const char *type = dtype_ggml_name(t->ggml_id);
        json_open_object(w);
        json_member_str(w, "name", t->name);
        json_member_u64(w, "type_id", t->ggml_id);
        if (type) json_member_str(w, "type", str_from_c(type));
        json_close_object(w);
    }
    json_close_array(w);
}

static void put_json(Report *r) {
    const GgufFile *file = r->file;
    JsonWriter writer = json_writer_begin(&r->out), *w = &writer;
    uint64_t elements = 0;
    for (uint32_t i = 0; i < file->n_tensors; i++)
        elements += gguf_tensor_elements(&file->tensors[i]);
    json_open_object(w);
    json_key(w, "files");
    json_open_array(w);
    for (uint32_t i = 0; i < file->n_parts; i++)
        json_put_str(w, str_from_c(file->parts[i].name));
    json_close_array(w);
    json_member_u64(w, "version", file->version);
    json_member_u64(w, "size_bytes", file->size_bytes);
    json_member_u64(w, "alignment", file->alignment);
    json_member_str(w, "architecture", r->architecture);
    json_member_u64(w, "parameters", elements);
    json_member_str(w, "quant_kind", str_from_c(gguf_quant_kind(file)));
    inspect_put_support_json(r->support, file, w);
    json_key(w, "metadata");
    json_open_object(w);
    for (uint32_t i = 0; i < file->n_values; i++) {
        json_key_str(w, file->values[i].key);
        json_put_value(w, &file->values[i]);
    }
    json_close_object(w);
    json_put_formats(w, file);
    json_put_tensors(w, file);
    json_put_odd_tensors(w, file);
    json_close_object(w);
    strbuf_put_char(&r->out, '\n');
}

// ---- the command ----

static void put_everything(Report *r, const Options *options) {
    Error ignored; // a name of another type is shown among the keys
    if (!gguf_opt_str(r->file, STR("general.architecture"), &r->architecture, &ignored))
        r->architecture = (Str){0};
    if (options->json) put_json(r);
    else put_report(r, options->inspect_tensors);
}

// The operations, or what they would need of a GPU, alone.
static bool put_plan(Report *r, const Options *options, Arena *arena, Error *err) {
    const Support *s = r->support;
    if (!s->has_model)
        return error_set(err, ERR_BAD_FILE, "%s: no tensors: a vocabulary only", r->file->parts[0].name);
    if (!s->model_ok) {
        *err = s->model_error;
        return false;
    }
    if (options->inspect_fit)
        return inspect_put_fit(s->plan, options, arena, &r->out, err) ||
               error_prefix(err, "%s", r->file->parts[0].name);
    if (options->json) inspect_put_plan_json(s->plan, &r->out);
    else strbuf_put(&r->out, plan_describe(s->plan, arena));
    return true;
}

static bool inspect(const GgufFile *file, const Options *options, Arena *arena, Error *err) {
    Support support;
    inspect_support(file, options, arena, &support);
    Arena output = os_arena(OUTPUT_BYTES);
    void *start = output.next;
    Report r = {
        .file = file,
        .support = &support,
        .out = strbuf_begin_in_arena(&output),
        .columns = (uint32_t)max_u64(os_terminal_columns(1), 40),
        .styled = os_is_terminal(1),
    };
    bool ok = true;
    if (options->inspect_plan || options->inspect_fit) ok = put_plan(&r, options, arena, err);
    else put_everything(&r, options);
    if (ok && r.out.truncated) ok = error_set(err, ERR_NO_MEMORY, "the answer is larger than its memory");
    // Also what does not fit is shown; the error comes behind it.
    Error ignored;
    bool written = os_output(strbuf_str(&r.out), ok ? err : &ignored);
    os_release(start, OUTPUT_BYTES);
    return ok && written;
}

static bool check_flags(const Options *options, Error *err) {
    if (options->inspect_plan && options->inspect_fit)
        return error_set(err, ERR_USAGE, "--plan and --fit exclude each other");
    if (options->inspect_tensors && (options->inspect_plan || options->inspect_fit || options->json))
        return error_set(err, ERR_USAGE,
                         "--tensors: --plan and --fit print nothing else, and --json has them");
    static const struct {
        FlagId flag;
        const char *name;
    } of_fit[] = {{FLAG_VRAM, "vram-mb"},
                  {FLAG_MAX_JOBS, "max-jobs"},
                  {FLAG_KV_CACHE, "kv-cache-size-mb"},
                  {FLAG_KV_TYPE, "kv-cache-type"},
                  {FLAG_CHECKPOINTS, "checkpoints-size-mb"}};
    for (size_t i = 0; i < COUNT_OF(of_fit) && !options->inspect_fit; i++)
        if (options->typed.flags[of_fit[i].flag])
            return error_set(err, ERR_USAGE, "--%s: needs --fit", of_fit[i].name);
    if (options->inspect_fit && options->device == DEVICE_CPU)
        return error_set(
            err, ERR_USAGE,
            "--fit says what a GPU's memory would hold; with --device cpu there is none (and the "
            "cache takes twice as much a token)");
    return true;
}

int cmd_inspect(const Options *options) {
    Error err;
    if (!check_flags(options, &err)) return cli_report_error(&err);
    Arena arena = os_arena(TABLES_BYTES);
    const GgufFile *file;
    if (!gguf_open_to_look(options->file ? options->file : options->model, &arena, &file, &err))
        return cli_report_error(&err);
    bool ok = inspect(file, options, &arena, &err);
    gguf_close(file);
    return ok ? 0 : cli_report_error(&err);
}
