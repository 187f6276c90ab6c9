// For tests/vectors/template/random_templates.py: renders templates as they come, a JSON object a line.
//
//     cc -std=c17 -D_GNU_SOURCE -O1 -g -fsanitize=address,undefined -Isrc -o render_templates
//     tests/tools/render_templates.c src/template/*.c src/text/*.c src/model/*.c src/json/*.c
//     src/base/*.c src/os/os*.c -lm
//
// {"template", "variables"} gives {"text"} or {"error"}.
#include "json/json_writer.h"
#include "os/os.h"
#include "template/template.h"

#include <stdio.h>

enum { LINE_BYTES_MAX = 1 << 20 };

static void render(Str line, Arena arena) {
    static const TemplateConstant constants[] = {{"bos_token", STR("<s>")}, {"eos_token", STR("</s>")}};
    Error err;
    Str source = {0};
    const Template *template;
    TemplateText text;
    const JsonNode *root = json_parse(line, &arena, &(JsonLimits){0}, &err);
    TemplateInput input = {.variables = json_get(root, STR("variables")),
                           .constants = constants,
                           .n_constants = COUNT_OF(constants),
                           .unix_ms = 1700000000000};
    bool ok = root && json_read_str(json_get(root, STR("template")), &source) &&
              template_compile(source, &arena, &template, &err) &&
              template_render(template, &input, &arena, &text, &err);
    StrBuf out = strbuf_begin_in_arena(&arena);
    JsonWriter w = json_writer_begin(&out);
    json_open_object(&w);
    json_member_str(&w, ok ? "text" : "error", ok ? text.text : str_from_c(err.message));
    json_close_object(&w);
    printf("%s\n", out.ptr);
    fflush(stdout);
}

int main(void) {
    static char line[LINE_BYTES_MAX];
    Arena arena = os_arena((size_t)4 << 30);
    while (fgets(line, sizeof line, stdin))
        render(str_from_c(line), arena);
    return 0;
}
