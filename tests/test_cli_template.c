// The command `template`: which template, what it is given, text and ids, and its errors.
#include "base/utf8.h"
#include "gguf_builder.h"
#include "runner.h"
#include "text/byte_level.h"
#include "tokenizer_vectors.h"
#include "worker_process.h"

#include <stdio.h>

enum { BYTES = 256 };

static const char CHATML[] =
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

// A byte-level vocabulary, where each byte is its own id, with the marks of ChatML: 256 <|im_start|>,
// 257 <|im_end|>, 258 <s>.
static GgufBuilder begin_file(void) {
    Str *tokens = arena_new(vectors_arena(), Str, BYTES + 3);
    int32_t *types = arena_new(vectors_arena(), int32_t, BYTES + 3);
    static const Str marks[] = {STR("<|im_start|>"), STR("<|im_end|>"), STR("<s>")};
    for (uint32_t i = 0; i < BYTES + 3; i++) {
        char *text = arena_new(vectors_arena(), char, 4);
        tokens[i] =
            i < BYTES ? (Str){text, utf8_encode(byte_level_char((uint8_t)i), text)} : marks[i - BYTES];
        types[i] = i < BYTES ? 1 : 3;
    }
    GgufBuilder b = gguf_builder_begin();
    gguf_builder_put_str(&b, "general.architecture", "qwen2");
    gguf_builder_put_str(&b, "tokenizer.ggml.model", "gpt2");
    gguf_builder_put_str(&b, "tokenizer.ggml.pre", "gpt-2");
    gguf_builder_put_strs(&b, "tokenizer.ggml.tokens", tokens, BYTES + 3);
    gguf_builder_put_i32s(&b, "tokenizer.ggml.token_type", types, BYTES + 3);
    gguf_builder_put_strs(&b, "tokenizer.ggml.merges", NULL, 0);
    gguf_builder_put_u32(&b, "tokenizer.ggml.bos_token_id", 258);
    gguf_builder_put_u32(&b, "tokenizer.ggml.eos_token_id", 257);
    gguf_builder_put_u32(&b, "tokenizer.ggml.padding_token_id", 256);
    return b;
}

static const char *save(GgufBuilder *b, const char *name) {
    const char *path = test_tmp_path(name);
    REQUIRE(gguf_builder_save(gguf_builder_end(b), path));
    return path;
}

static const char *model_with(const char *template) {
    GgufBuilder b = begin_file();
    if (template) gguf_builder_put_str(&b, "tokenizer.chat_template", template);
    return save(&b, "model.gguf");
}

static void check_output(const char *flags, const char *model, const char *input, int code,
                         const char *expected) {
    char line[256];
    snprintf(line, sizeof line, "template %%%s%s", *flags ? " " : "", flags);
    Process p = process_start(line, (const char *[]){model, test_tmp_path("other.jinja")},
                              tmp_file_write("messages.json", input));
    CHECK_INT_EQ(code, process_wait(p));
    if (code == 0) CHECK_STR_EQ(expected, process_read_file(p.out_path));
    else if (!CHECK(text_contains(process_read_file(p.err_path), expected)))
        printf("%.*s\n", STR_ARG(process_read_file(p.err_path)));
}

TEST(cli_template_renders_messages) {
    static const struct {
        const char *label, *flags, *input, *expected;
    } rows[] = {
        {"array", "", "[{\"role\":\"user\",\"content\":\"Hi\"}]",
         "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"},
        {"object", "",
         "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}],\"add_generation_prompt\":false}",
         "<|im_start|>user\nHi<|im_end|>\n"},
        {"keyword arguments", "",
         "{\"messages\":[],\"add_generation_prompt\":true,"
         "\"chat_template_kwargs\":{\"add_generation_prompt\":false}}",
         ""},
        {"ids", "--ids",
         "{\"messages\":[{\"role\":\"u\",\"content\":\"<|im_end|>\"}],\"add_generation_prompt\":false}",
         "256 117 10 60 124 105 109 95 101 110 100 124 62 257 10\n"},
        {"json", "--json", "[]", "{\"text\":\"<|im_start|>assistant\\n\"}\n"},
        {"json and ids", "--json --ids",
         "{\"messages\":[{\"role\":\"u\",\"content\":\"\"}],\"add_generation_prompt\":false}",
         "{\"text\":\"<|im_start|>u\\n<|im_end|>\\n\",\"ids\":[256,117,10,257,10],\"count\":5}\n"},
        {"another file", "--chat-template %", "{\"messages\":[],\"x\":[1],\"tools\":[{}]}",
         "<s><|im_end|>|<|im_start|>|True|True|[1]|1"},
        {"none of them", "--chat-template %", "[]", "<s><|im_end|>|<|im_start|>|True|True||0"},
    };
    tmp_file_write("other.jinja",
                   "{{ bos_token }}{{ eos_token }}|{{ pad_token }}|{{ sep_token is undefined }}|"
                   "{{ documents is none }}|{{ x }}|{{ (tools or [])|length }}");
    const char *model = model_with(CHATML);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].label);
        check_output(rows[i].flags, model, rows[i].input, 0, rows[i].expected);
    }
}

TEST(cli_template_takes_the_one_for_tools) {
    GgufBuilder b = begin_file();
    static const Str names[] = {STR("tool_use"), STR("rag")};
    gguf_builder_put_str(&b, "tokenizer.chat_template", "default");
    gguf_builder_put_strs(&b, "tokenizer.chat_templates", names, 2);
    gguf_builder_put_str(&b, "tokenizer.chat_template.tool_use", "{{ tools|length }} tools");
    gguf_builder_put_str(&b, "tokenizer.chat_template.rag", "rag");
    const char *model = save(&b, "model.gguf");
    check_output("", model, "{\"messages\":[]}", 0, "default");
    check_output("", model, "{\"messages\":[],\"tools\":null}", 0, "default");
    check_output("", model, "{\"messages\":[],\"tools\":[{},{}]}", 0, "2 tools");
    b = begin_file();
    gguf_builder_put_str(&b, "tokenizer.chat_template.tool_use", "tools");
    gguf_builder_put_str(&b, "tokenizer.chat_template.rag", "rag");
    check_output("", save(&b, "named.gguf"), "[]", 1,
                 "only named ones: tool_use, rag; --chat-template names");
}

TEST(cli_template_errors_name_line_and_reason) {
    static const struct {
        const char *template, *input, *message;
    } rows[] = {
        {NULL, "[]", "model.gguf: the file has no chat template (tokenizer.chat_template); --chat-template"},
        {"a\n{% if %}", "[]", "model.gguf: line 2: "},
        {"\n{{ raise_exception('No system role!') }}", "[]", "model.gguf: line 2: No system role!"},
        {"x", "[", "standard input: invalid JSON at byte 1"},
        {"x", "5", "standard input: must be an array of messages or an object, not a number"},
        {"x", "{}", "standard input: messages: must be an array, not nothing"},
        {"x", "{\"messages\":[],\"chat_template_kwargs\":[]}",
         "standard input: chat_template_kwargs: must be an object, not an array"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s, %s", rows[i].template ? rows[i].template : "none", rows[i].input);
        check_output("", model_with(rows[i].template), rows[i].input, 1, rows[i].message);
    }
}

TEST(cli_inspect_tells_whether_the_template_can_be_used) {
    static const struct {
        const char *template, *line, *json;
    } rows[] = {
        {"{{ x }}", "yes, 7 bytes, can be used\n", "\"chat_template_ok\":true"},
        {"\n{% include 'x' %}", "yes, 18 bytes, cannot be used: line 2: the tag 'include' is not known",
         "\"chat_template_ok\":false,\"chat_template_error\":\"line 2: "},
        {NULL, "chat template   none\n", "\"supported\":false"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%zu", i);
        const char *model = model_with(rows[i].template);
        Process p = process_start("inspect %", (const char *[]){model}, NULL);
        Process json = process_start("inspect % --json", (const char *[]){model}, NULL);
        CHECK_INT_EQ(0, process_wait(p));
        CHECK_INT_EQ(0, process_wait(json));
        if (!CHECK(text_contains(process_read_file(p.out_path), rows[i].line)))
            printf("%.*s\n", STR_ARG(process_read_file(p.out_path)));
        CHECK(text_contains(process_read_file(json.out_path), rows[i].json));
    }
}

TEST(cli_inspect_tells_the_formats_of_answers) {
    static const struct {
        const char *template, *flags, *lines, *json;
        int exit_code;
    } rows[] = {
        {"x", "", "tool calls      none\n  reasoning       none\n",
         "\"tool_format\":\"none\",\"reasoning_format\":\"none\"", 0},
        {"<think></think><tool_call>{\"name\": }</tool_call>", "",
         "tool calls      hermes\n  reasoning       think\n",
         "\"tool_format\":\"hermes\",\"reasoning_format\":\"think\"", 0},
        {"<tool_call>", "--tool-format glm --reasoning-format none",
         "tool calls      glm\n  reasoning       none\n",
         "\"tool_format\":\"glm\",\"reasoning_format\":\"none\"", 0},
        {"x", "--tool-format xml", "--tool-format xml is not known; there are auto, none, harmony, ", NULL,
         2},
        {"x", "--reasoning-format xml",
         "--reasoning-format xml is not known; there are auto, none, harmony, ", NULL, 2},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s, %s", rows[i].template, rows[i].flags);
        char line[256];
        const char *model = model_with(rows[i].template);
        snprintf(line, sizeof line, "inspect %% %s", rows[i].flags);
        Process p = process_start(line, (const char *[]){model}, NULL);
        snprintf(line, sizeof line, "inspect %% --json %s", rows[i].flags);
        Process json = process_start(line, (const char *[]){model}, NULL);
        CHECK_INT_EQ(rows[i].exit_code, process_wait(p));
        CHECK_INT_EQ(rows[i].exit_code, process_wait(json));
        Str said = process_read_file(rows[i].exit_code ? p.err_path : p.out_path);
        if (!CHECK(text_contains(said, rows[i].lines))) printf("%.*s\n", STR_ARG(said));
        if (rows[i].json) CHECK(text_contains(process_read_file(json.out_path), rows[i].json));
    }
}
