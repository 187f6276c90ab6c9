#include "cli/commands.h"
#include "cli/model.h"
#include "os/os.h"
#include "json/json_writer.h"

#include <stdio.h>

enum { TOKENIZE_INPUT_BYTES_MAX = 64 << 20 };

static bool read_input(Arena *arena, Str *out, Error *err) {
    if (os_is_terminal(0)) (void)os_write(2, STR("Reading from the terminal; Ctrl-D ends it.\n"));
    return os_file_read("-", TOKENIZE_INPUT_BYTES_MAX, arena, out, err);
}

static bool print(StrBuf *out, Error *err) {
    if (out->truncated) return error_set(err, ERR_NO_MEMORY, "the answer is larger than its memory");
    return os_output(strbuf_str(out), err);
}

static bool encode(const Options *o, Model *m, Str text, Error *err) {
    uint32_t flags =
        (o->add_special ? TOKENIZER_ADD_SPECIAL : 0) | (o->parse_special ? TOKENIZER_PARSE_SPECIAL : 0);
    TokenIds ids;
    if (!model_encode(m, text, flags, &ids, err)) return false;
    StrBuf out = strbuf_begin_in_arena(&m->arena);
    if (o->json) strbuf_put(&out, STR("{\"ids\":["));
    for (size_t i = 0; i < ids.count; i++) {
        if (i) strbuf_put_char(&out, o->json ? ',' : ' ');
        strbuf_printf(&out, "%d", ids.ptr[i]);
    }
    if (o->json) strbuf_printf(&out, "],\"count\":%zu}", ids.count);
    strbuf_put_char(&out, '\n');
    return print(&out, err);
}

static bool is_blank(char c) {
    return c == ' ' || c == '\n' || c == '\t' || c == '\r' || c == ',';
}

// Ids separated by blanks or commas. Control tokens show as their text with --parse-special.
static bool decode(const Options *o, Model *m, Str text, Error *err) {
    StrBuf out = strbuf_begin_in_arena(&m->arena);
    uint32_t n_vocab = tokenizer_vocab_size(m->tokenizer);
    for (size_t at = 0; at < text.len;) {
        size_t end = at;
        while (end < text.len && !is_blank(text.ptr[end]))
            end++;
        Str word = str_slice(text, at, end);
        at = end + (end < text.len);
        uint64_t id;
        if (word.len == 0) continue;
        if (!str_parse_u64(word, &id) || id >= n_vocab) {
            return error_set(err, ERR_USAGE, "%.*s: an id is a whole number below %u",
                             (int)min_u64(word.len, 40), word.ptr, n_vocab);
        }
        strbuf_put(&out, tokenizer_piece(m->tokenizer, (int32_t)id, o->parse_special));
    }
    if (!o->json) return print(&out, err);
    Str bytes = strbuf_end_in_arena(&out, &m->arena);
    StrBuf json = strbuf_begin_in_arena(&m->arena);
    JsonWriter w = json_writer_begin(&json);
    json_open_object(&w);
    json_member_str(&w, "text", bytes);
    json_close_object(&w);
    strbuf_put_char(&json, '\n');
    return print(&json, err);
}

int cmd_tokenize(const Options *o) {
    Error err;
    Model model = {0};
    Str text;
    Arena input = os_arena((size_t)TOKENIZE_INPUT_BYTES_MAX + 4096);
    bool ok = model_open_vocabulary(o, &model, &err) && read_input(&input, &text, &err) &&
              (o->decode ? decode : encode)(o, &model, text, &err);
    model_close(&model);
    return ok ? 0 : cli_report_error(&err);
}
