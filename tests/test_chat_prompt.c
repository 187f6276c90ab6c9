// A model's template and the prompts made with it.
#include "chat/prompt.h"
#include "gguf_builder.h"
#include "runner.h"
#include "tokenizer_vectors.h"

#include <stdio.h>

static const Tokenizer *tokenizer(void) {
    return vectors_bpe(vectors_read("tokenizer/bpe.json"), "smollm");
}

static ChatModel open_model(const char *source) {
    ChatModel m;
    Error err;
    REQUIRE(chat_model_open(NULL, tokenizer(), str_from_c(source), NULL, NULL, vectors_arena(), &m, &err));
    return m;
}

// The prompt of a chat completions body, or the error's message.
static Str prompt_of(const ChatModel *m, const char *body, TemplateText *text) {
    static Error err;
    const JsonNode *variables;
    const JsonNode *root = json_parse(str_from_c(body), vectors_arena(), &(JsonLimits){0}, &err);
    REQUIRE(root);
    ConversationInput in = chat_model_input(m, root);
    *text = (TemplateText){0};
    bool ok = conversation_from_chat(&in, vectors_arena(), &variables, &err) &&
              chat_render(m, variables, 0, vectors_arena(), text, &err);
    return ok ? text->text : str_from_c(err.message);
}

static const char CHATML[] =
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

#define CONTINUED(content)                                                                    \
    "{\"continue_final_message\":true,\"messages\":[{\"role\":\"user\",\"content\":\"end\"}," \
    "{\"role\":\"assistant\",\"content\":" content "}]}"
#define BEGUN "<|im_start|>user\nend<|im_end|>\n<|im_start|>assistant\n"

TEST(chat_prompt_ends_in_the_message_that_is_continued) {
    static const char TRIMMED[] =
        "{% for m in messages %}[{{ m.content|trim }}]{% endfor %}{{ messages[0].content }}";
    static const char CHANGED[] = "{% for m in messages %}[{{ m.content|upper }}]{% endfor %}";
    static const struct {
        const char *label, *template, *body, *expected;
    } rows[] = {
        {"text", CHATML, CONTINUED("\"I think\""), BEGUN "I think"},
        {"blanks stay where they are kept", CHATML, CONTINUED("\" I \\n\""), BEGUN " I \n"},
        {"and go where they are trimmed", TRIMMED, CONTINUED("\" I \""), "[end][I"},
        {"not in the template's own words", CHATML, CONTINUED("\"im\""), BEGUN "im"},
        {"the last place counts", TRIMMED, CONTINUED("\"nd\""), "[end][nd]end"},
        {"overlapping", CHATML, CONTINUED("\"aabaa\""), BEGUN "aabaa"},
        {"no text", CHATML, CONTINUED("\" \""), "continue_final_message: the last message has no text"},
        {"changed", CHANGED, CONTINUED("\"abc\""),
         "continue_final_message: the chat template changes or leaves out the last message's text, so the "
         "prompt cannot end in it"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].label);
        ChatModel m = open_model(rows[i].template);
        TemplateText text;
        CHECK_STR_EQ(rows[i].expected, prompt_of(&m, rows[i].body, &text));
        uint64_t length = 0;
        for (uint32_t k = 0; k < text.n_spans; k++)
            length += text.spans[k].length;
        CHECK_U64_EQ(text.text.len, length);
    }
}

TEST(chat_model_learns_from_its_template) {
    static const struct {
        const char *label, *template;
        bool parts;
        const char *developer;
        bool no_null;
    } rows[] = {
        {"text", CHATML, false, "", true},
        {"parts", "{% for m in messages %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endfor %}", true,
         "", false},
        {"either",
         "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}"
         "{% for p in m.content %}{{ p.text }}{% endfor %}{% endif %}{% endfor %}",
         false, "", true}, // there is nothing in null to go through
        {"fails on null", "{% for m in messages %}{{ '<' + m.content }}{% endfor %}", false, "", true},
        {"null", "{% for m in messages %}{{ m.content or '' }}{% endfor %}", false, "", false},
        {"neither", "x", false, "", false},
        {"developer", "{% if messages[0].role == 'developer' %}{% endif %}", false, "developer", false},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].label);
        ChatModel m = open_model(rows[i].template);
        CHECK_INT_EQ(rows[i].parts, m.content_parts);
        CHECK_INT_EQ(rows[i].no_null, m.no_null_content);
        CHECK_STR_EQ(rows[i].developer, m.developer_role);
    }
}

#define ONE "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}"

static Str prompt_from_file(GgufBuilder *b, const char *body) {
    Error err;
    const char *path = test_tmp_path("model.gguf");
    REQUIRE(gguf_builder_save(gguf_builder_end(b), path));
    const GgufFile *opened;
    REQUIRE(gguf_open(path, vectors_arena(), &opened, &err));
    ChatModel m;
    REQUIRE(chat_model_open(opened, tokenizer(), (Str){0}, NULL, NULL, vectors_arena(), &m, &err));
    TemplateText text;
    return prompt_of(&m, body, &text);
}

TEST(chat_model_templates_of_a_file) {
    static const char TOOLS[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"tools\":[{\"type\":"
                                "\"function\",\"function\":{\"name\":\"f\"}}]}";
    static const struct {
        const char *label, *plain, *with_tools, *body, *expected;
    } rows[] = {
        {"one", "plain", NULL, TOOLS, "plain"},
        {"two, tools", "plain", "tools", TOOLS, "tools"},
        {"two, none", "plain", "tools", ONE, "plain"},
        {"none", NULL, NULL, ONE,
         "the file has no chat template (tokenizer.chat_template); --chat-template names a file with one"},
        {"broken", "\n{% if %}", NULL, ONE, "the chat template cannot be used: line 2: "},
        {"fails", "\n{{ raise_exception('No!') }}", NULL, ONE, "chat template: line 2: No!"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].label);
        GgufBuilder b = gguf_builder_begin();
        gguf_builder_put_str(&b, "general.architecture", "llama");
        if (rows[i].plain) gguf_builder_put_str(&b, "tokenizer.chat_template", rows[i].plain);
        if (rows[i].with_tools)
            gguf_builder_put_str(&b, "tokenizer.chat_template.tool_use", rows[i].with_tools);
        Str prompt = prompt_from_file(&b, rows[i].body);
        if (!CHECK(str_starts_with(prompt, str_from_c(rows[i].expected)))) printf("%.*s\n", STR_ARG(prompt));
    }
}

// What a request says never becomes a control token; what the template says does.
TEST(chat_prompt_ids_keep_requests_text_as_text) {
    ChatModel m = open_model(CHATML);
    Error err;
    TemplateText text;
    TokenIds ids;
    (void)prompt_of(&m, "{\"messages\":[{\"role\":\"user\",\"content\":\"<|im_end|>\"}]}", &text);
    REQUIRE(chat_encode_text(&m, &text, vectors_arena(), vectors_scratch(), &ids, &err));
    int32_t end = tokenizer_token_by_text(m.tokenizer, STR("<|im_end|>"));
    int n_ends = 0;
    for (size_t i = 0; i < ids.count; i++)
        n_ends += ids.ptr[i] == end;
    CHECK(end != TOKEN_NONE);
    CHECK_INT_EQ(1, n_ends);
}
