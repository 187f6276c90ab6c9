// For tests/tools/check_answers.py: parses answers, a JSON object a line.
//
//     cc -std=c17 -D_GNU_SOURCE -O1 -g -fsanitize=address,undefined -Isrc -o parse_answers
//     tests/tools/parse_answers.c src/chat/answer_*.c src/chat/json_check.c src/text/*.c src/model/*.c
//     src/json/*.c src/base/*.c src/os/os*.c -lm
//
// {"template"} gives {"tools", "reasoning"}, names of formats; "tool_format" and "reasoning_format" name
// others. With "answer" also {"parts", "calls"}: "tools" are its tools, "prompt" is what is in front of it,
// "piece" how many bytes are pushed at once. Marks are text: no vocabulary is behind this.
#include "chat/answer_parser.h"
#include "json/json_writer.h"
#include "os/os.h"

#include <stdio.h>

enum { LINE_BYTES_MAX = 1 << 20 };

static const char vocabulary[] =
    "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},\"pre_tokenizer\":{\"type\":"
    "\"ByteLevel\","
    "\"add_prefix_space\":false,\"use_regex\":true},\"decoder\":{\"type\":\"ByteLevel\"}}";

static Str text_of(const JsonNode *root, const char *key) {
    Str s = {0};
    return json_read_str(json_get(root, str_from_c(key)), &s) ? s : (Str){0};
}

static const char *name_of(const JsonNode *root, const char *key, Arena *arena) {
    Str s = text_of(root, key);
    return s.len ? arena_copy_str(arena, s).ptr : "auto";
}

static void put_part(void *context, const AnswerPart *part) {
    static const char *const kinds[] = {"content", "reasoning", "call", "arguments", "end"};
    JsonWriter *w = context;
    json_open_array(w);
    json_put_str(w, str_from_c(kinds[part->kind]));
    json_put_str(w, part->text);
    json_close_array(w);
}

static void parse(const JsonNode *root, const AnswerFormats *f, const Tokenizer *t, Arena *arena,
                  JsonWriter *w) {
    Str answer = text_of(root, "answer");
    uint64_t piece = 0;
    const AnswerTools *tools;
    Error err;
    AnswerParser *p = answer_parser_create(arena);
    AnswerSink sink = {put_part, w};
    if (!answer_tools_read(json_get(root, STR("tools")), arena, &tools, &err)) return;
    if (!json_read_u64(json_get(root, STR("piece")), &piece) || piece == 0) piece = answer.len;
    answer_parser_begin(p, f, t, tools, answer_opening(f, text_of(root, "prompt")));
    json_key(w, "parts");
    json_open_array(w);
    for (size_t at = 0, end; at < answer.len; at = end) {
        end = (size_t)min_u64(at + piece, answer.len);
        while (end < answer.len && ((unsigned char)answer.ptr[end] & 0xC0) == 0x80)
            end++; // whole characters
        answer_parser_push(p, str_slice(answer, at, end), sink);
    }
    answer_parser_end(p, false, sink);
    json_close_array(w);
    json_member_u64(w, "calls", answer_parser_calls(p));
}

static void answer_line(Str line, const Tokenizer *t, Arena arena, Arena rest) {
    Error err;
    AnswerFormats f = {0};
    const JsonNode *root = json_parse(line, &arena, &(JsonLimits){0}, &err);
    const char *tools = name_of(root, "tool_format", &arena),
               *reasoning = name_of(root, "reasoning_format", &arena);
    bool ok = root && answer_formats_find(text_of(root, "template"), text_of(root, "template"), t, tools,
                                          reasoning, &f, &err);
    StrBuf out = strbuf_begin_in_arena(&arena);
    JsonWriter w = json_writer_begin(&out);
    json_open_object(&w);
    if (!ok) json_member_str(&w, "error", str_from_c(err.message));
    json_member_str(&w, "tools", str_from_c(answer_tool_format_name(&f)));
    json_member_str(&w, "reasoning", str_from_c(answer_reasoning_format_name(&f)));
    if (ok && json_get(root, STR("answer"))) parse(root, &f, t, &rest, &w);
    json_close_object(&w);
    printf("%s\n", out.ptr);
    fflush(stdout);
}

int main(void) {
    static char line[LINE_BYTES_MAX];
    Arena arena = os_arena((size_t)1 << 30), scratch = os_arena((size_t)1 << 30),
          rest = os_arena((size_t)1 << 26);
    Tokenizer *t;
    Error err;
    if (!tokenizer_from_json(str_from_c(vocabulary), NULL, &arena, scratch, &t, &err)) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    while (fgets(line, sizeof line, stdin))
        answer_line(str_from_c(line), t, arena, rest);
    return 0;
}
