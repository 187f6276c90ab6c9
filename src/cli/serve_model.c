#include "cli/serve_model.h"

#include "base/hash.h"
#include "cli/sampling.h"
#include "os/os.h"

// ---- name ----

static bool is_name_character(char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
}

// "Qwen2.5 0.5B Instruct" becomes "qwen2.5-0.5b-instruct". Empty where nothing is left.
static Str slug(Str name, Arena *arena) {
    StrBuf b = strbuf_begin_in_arena(arena);
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        char lower = c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
        bool is_gap = !is_name_character(lower);
        if (is_gap && (b.len == 0 || b.ptr[b.len - 1] == '-')) continue;
        strbuf_put_char(&b, is_gap ? '-' : lower);
    }
    while (b.len && b.ptr[b.len - 1] == '-')
        b.len--;
    return strbuf_end_in_arena(&b, arena);
}

static Str served_name(const Options *o, Model *m) {
    if (o->served_model_name) return str_from_c(o->served_model_name);
    Str name = slug(m->name, &m->arena);
    return name.len ? name : STR("model");
}

// ---- content ----

enum { SAMPLES = 64, SAMPLE_BYTES = 4096 };

// A hash of the file's length, its metadata's beginning, and pieces from all over it. It tells files apart
// that were not made to be mistaken for each other, and reads next to nothing.
static uint64_t hash_content(const GgufFile *file) {
    Sha256 hash;
    uint8_t digest[32];
    uint64_t value;
    sha256_begin(&hash);
    for (uint32_t p = 0; file && p < file->n_parts; p++) {
        const GgufPart *part = &file->parts[p];
        sha256_add(&hash, &part->size, sizeof part->size);
        for (uint64_t i = 0; i < SAMPLES; i++) {
            uint64_t at = part->size / SAMPLES * i;
            sha256_add(&hash, part->data + at, (size_t)min_u64(SAMPLE_BYTES, part->size - at));
        }
    }
    sha256_end(&hash, digest);
    memcpy(&value, digest, sizeof value);
    return value;
}

static uint64_t count_parameters(const GgufFile *file) {
    uint64_t n = 0;
    for (uint32_t i = 0; file && i < file->n_tensors; i++) {
        const uint64_t *dims = file->tensors[i].dims; // checked: their product fits
        n += dims[0] * dims[1] * dims[2] * dims[3];
    }
    return n;
}

bool serve_model_open(const Options *o, Model *m, ServeModel *out, Error *err) {
    StrBuf unused = strbuf_begin_in_arena(&m->arena);
    SamplingDefaults sampling = sampling_of_file(m->file, &unused);
    Str unused_sampling = strbuf_end_in_arena(&unused, &m->arena);
    *out = (ServeModel){
        .served_model = served_name(o, m),
        .sampling = sampling,
        .unused_sampling = unused_sampling,
        .content_hash = hash_content(m->file),
        .model_bytes = m->file ? m->file->size_bytes : 0,
        .n_params = count_parameters(m->file),
    };
    if (!model_open_chat(o, m, &out->chat, err)) return false;
    if (!o->chat_template || out->chat.plain) return true;
    return error_set(err, ERR_USAGE, "--chat-template %s: %.300s", o->chat_template,
                     out->chat.missing.message);
}
