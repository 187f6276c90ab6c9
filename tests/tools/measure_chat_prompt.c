// Measures what a chat prompt costs: a template rendered over a long conversation, then encoded.
//
//     cc -std=c17 -D_GNU_SOURCE -O2 -g -Isrc -o measure_chat_prompt tests/tools/measure_chat_prompt.c
//     src/template/*.c src/text/*.c src/model/*.c src/json/*.c src/base/*.c src/os/os*.c -lm
//     measure_chat_prompt VOCABULARY TEMPLATE TEXT [MESSAGES [BYTES]]
//
// VOCABULARY is a GGUF or a tokenizer.json. TEMPLATE is a template, or JSON whose member "chat_template"
// is one, or "-" for the one in the GGUF. TEXT is a file of prose and code: its pieces of BYTES each are
// what 200 MESSAGES say in turn. One line goes to standard output: bytes, spans, ids, the memory that
// rendering took, and the processor time of the parts, of eleven rounds the median and the slowest.
#include "json/json_writer.h"
#include "os/os.h"
#include "template/chat_template.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { ROUNDS = 11 };

typedef struct {
    double parse, compile, render, encode, all; // ms
} Times;

typedef struct {
    const Tokenizer *tokenizer;
    const GgufFile *file; // NULL for a tokenizer.json
    Str source, request;
} Prompt;

// For a tokenizer.json, which does not name them.
static const TemplateConstant NAMED[] = {{"bos_token", STR("<s>")}, {"eos_token", STR("</s>")}};

static double ms_now(void) {
    return (double)clock() / CLOCKS_PER_SEC * 1e3;
}

static bool load_vocabulary(const char *path, Arena *arena, Arena scratch, Prompt *p, Error *err) {
    Tokenizer *t;
    Str json;
    bool ok =
        str_ends_with(str_from_c(path), STR(".json"))
            ? os_file_read(path, 1u << 30, arena, &json, err) &&
                  tokenizer_from_json(json, NULL, arena, scratch, &t, err)
            : gguf_open(path, arena, &p->file, err) && tokenizer_from_gguf(p->file, arena, scratch, &t, err);
    p->tokenizer = t;
    return ok;
}

static bool load_template(const char *path, Arena *arena, Prompt *p, Error *err) {
    if (strcmp(path, "-") == 0 && p->file) return chat_template_find(p->file, false, &p->source, err);
    if (!os_file_read(path, TEMPLATE_SOURCE_BYTES_MAX, arena, &p->source, err)) return false;
    if (!str_ends_with(str_from_c(path), STR(".json"))) return true;
    const JsonNode *root = json_parse(p->source, arena, &(JsonLimits){0}, err);
    return root && (json_read_str(json_get(root, STR("chat_template")), &p->source) ||
                    error_set(err, ERR_BAD_FILE, "%s has no chat_template", path));
}

// The conversation as JSON text. Pieces begin and end between characters.
static Str make_request(Str text, uint32_t n_messages, size_t bytes, Arena *arena) {
    StrBuf out = strbuf_begin_in_arena(arena);
    JsonWriter w = json_writer_begin(&out);
    size_t at = 0;
    json_open_object(&w);
    json_key(&w, "messages");
    json_open_array(&w);
    for (uint32_t i = 0; i < n_messages; i++) {
        if (at + bytes + 8 > text.len) at = 0;
        size_t end = (size_t)min_u64(at + bytes, text.len);
        while (end < text.len && ((uint8_t)text.ptr[end] & 0xC0) == 0x80)
            end++;
        json_open_object(&w);
        json_member_str(&w, "role", i % 2 ? STR("assistant") : STR("user"));
        json_member_str(&w, "content", str_slice(text, at, end));
        json_close_object(&w);
        at = end;
    }
    json_close_array(&w);
    json_close_object(&w);
    return strbuf_end_in_arena(&out, arena);
}

static bool measure(const Prompt *p, Arena arena, Times *times, bool prints, Error *err) {
    const Template *template;
    const JsonNode *request, *variables;
    TemplateConstant constants[CHAT_TEMPLATE_CONSTANTS_MAX];
    TemplateText text;
    TokenIds ids;
    Arena scratch;
    double start = ms_now();
    request = json_parse(p->request, &arena, &(JsonLimits){.nodes_max = 16 << 20}, err);
    if (!request || !chat_template_variables(request, &arena, &variables, err)) return false;
    double parsed = ms_now();
    if (!template_compile(p->source, &arena, &template, err)) return false;
    double compiled = ms_now();
    TemplateInput input = {.variables = variables, .constants = constants, .unix_ms = 1700000000000};
    input.n_constants = chat_template_constants(p->tokenizer, p->file, constants);
    if (!p->file) input.constants = NAMED, input.n_constants = COUNT_OF(NAMED);
    uint64_t before = arena_left(&arena);
    if (!template_render(template, &input, &arena, &text, err)) return false;
    uint64_t memory = before - arena_left(&arena);
    double rendered = ms_now();
    uint64_t need = tokenizer_encode_spans_scratch_bytes(p->tokenizer, text.text.len, text.n_spans);
    if (!arena_split(&arena, (size_t)need, &scratch)) return error_set(err, ERR_NO_MEMORY, "no memory");
    if (!tokenizer_encode_spans(p->tokenizer, text.text, text.spans, text.n_spans, &arena, scratch, &ids,
                                err))
        return false;
    double end = ms_now();
    *times = (Times){parsed - start, compiled - parsed, rendered - compiled, end - rendered, end - start};
    if (prints)
        printf("%zu bytes of JSON, %zu of text, %u spans, %zu ids; rendering took %.1f MB (%.1f a byte), "
               "%.1f k steps\n",
               p->request.len, text.text.len, text.n_spans, ids.count, (double)memory / 1e6,
               (double)memory / (double)text.text.len, (double)text.steps / 1e3);
    return true;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print_times(const char *name, const Times *times, size_t offset) {
    double values[ROUNDS];
    for (int i = 0; i < ROUNDS; i++)
        memcpy(&values[i], (const char *)&times[i] + offset, sizeof(double));
    qsort(values, ROUNDS, sizeof *values, by_value);
    printf("  %s %.2f (%.2f)", name, values[ROUNDS / 2], values[ROUNDS - 1]);
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    Arena arena = os_arena(4ull << 30), scratch = os_arena(4ull << 30);
    Error err = {0};
    Prompt p = {0};
    Str text;
    Times times[ROUNDS];
    bool ok = load_vocabulary(argv[1], &arena, scratch, &p, &err) &&
              load_template(argv[2], &arena, &p, &err) &&
              os_file_read(argv[3], 64 << 20, &arena, &text, &err);
    uint32_t n_messages = argc > 4 ? (uint32_t)strtoul(argv[4], NULL, 10) : 200;
    if (ok) p.request = make_request(text, n_messages, argc > 5 ? strtoul(argv[5], NULL, 10) : 600, &arena);
    for (int i = 0; ok && i < ROUNDS; i++)
        ok = measure(&p, arena, &times[i], i == 0, &err);
    if (!ok) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    printf(" ms:");
    print_times("all", times, offsetof(Times, all));
    print_times("parse", times, offsetof(Times, parse));
    print_times("compile", times, offsetof(Times, compile));
    print_times("render", times, offsetof(Times, render));
    print_times("encode", times, offsetof(Times, encode));
    printf("\n");
    return 0;
}
