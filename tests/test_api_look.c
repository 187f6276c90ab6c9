// POST /tokenize, /detokenize and /apply-template over real sockets, in the words of each of their clients.
#include "api_client.h"
#include "fake_worker.h"
#include "json_path.h"
#include "runner.h"

#include <stdio.h>

#define TEMPLATE                                                                                 \
    "{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content }}" \
    "<|eot_id|>{% endfor %}{% for t in tools or [] %}[{{ t.function.name }}]{% endfor %}"        \
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
#define HI "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"
#define HI_TEXT "<|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|>"
#define HI_MARKS "\"messages\":[{\"role\":\"user\",\"content\":\"<|eot_id|>\"}]"
#define TOOLS "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"look\",\"parameters\":{}}}]"

static FakeWorker *start(void) {
    return fake_worker_start(&(FakeConfig){
        .n_jobs = 1, .chat_template = TEMPLATE, .context = 512, .strict_model_name = true, .adds_bos = true});
}

TEST(api_look_answers) {
    static const struct {
        const char *path, *body, *at, *value;
    } rows[] = {
        // vLLM
        {"/tokenize", "{\"prompt\":\"Hi\"}", "tokens", "[1020,72,105]"},
        {"/tokenize", "{\"prompt\":\"Hi\"}", "count", "3"},
        {"/tokenize", "{\"prompt\":\"Hi\"}", "max_model_len", "512"},
        {"/tokenize", "{\"prompt\":\"Hi\"}", "token_strs", "null"},
        {"/v1/tokenize", "{\"prompt\":\"Hi\",\"model\":\"tiny\"}", "tokens", "[1020,72,105]"},
        {"/tokenize", "{\"prompt\":\"Hi\",\"add_special_tokens\":false}", "tokens", "[72,105]"},
        {"/tokenize", "{\"prompt\":\"Hi\",\"add_special_tokens\":null}", "tokens", "[1020,72,105]"},
        {"/tokenize", "{\"prompt\":\"<|begin_of_text|>Hi\"}", "tokens", "[1020,72,105]"},
        {"/tokenize", "{\"prompt\":\"<|eot_id|>\",\"add_special_tokens\":false}", "count", "1"},
        {"/tokenize", "{\"prompt\":\"Hi\",\"return_token_strs\":true}", "token_strs",
         "[\"<|begin_of_text|>\",\"H\",\"i\"]"},
        {"/tokenize", "{\"prompt\":\"\xC3\xA9\",\"add_special_tokens\":false,\"return_token_strs\":true}",
         "token_strs", "[\"\xEF\xBF\xBD\",\"\xEF\xBF\xBD\"]"},
        {"/tokenize", "{\"prompt\":\"\",\"add_special_tokens\":false}", "tokens", "[]"},
        {"/tokenize", "{" HI ",\"add_generation_prompt\":false}", "count", "10"},
        {"/tokenize", "{" HI_MARKS ",\"add_generation_prompt\":false}", "count", "18"}, // it is plain text
        {"/tokenize", "{" HI ",\"prompt\":\"not this\",\"add_generation_prompt\":false}", "count", "10"},
        // SGLang
        {"/tokenize", "{\"prompt\":[\"Hi\",\"\"]}", "tokens", "[[1020,72,105],[1020]]"},
        {"/tokenize", "{\"prompt\":[\"Hi\",\"\"]}", "count", "[3,1]"},
        {"/tokenize", "{\"prompt\":[]}", "tokens", "[]"},
        {"/detokenize", "{\"tokens\":[[72,105],[]]}", "text", "[\"Hi\",\"\"]"},
        {"/detokenize", "{\"tokens\":[72,105]}", "text", "Hi"},
        {"/detokenize", "{\"tokens\":[1020,72],\"skip_special_tokens\":true}", "text", "H"},
        // llama-server
        {"/tokenize", "{\"content\":\"Hi\"}", "tokens", "[72,105]"},
        {"/tokenize", "{\"content\":\"Hi\",\"add_special\":true}", "tokens", "[1020,72,105]"},
        {"/tokenize", "{\"content\":\"<|eot_id|>\"}", "count", "1"},
        {"/tokenize", "{\"content\":\"<|eot_id|>\",\"parse_special\":false}", "count", "10"},
        {"/tokenize", "{\"content\":\"H\xC3\xA9\",\"with_pieces\":true}", "tokens",
         "[{\"id\":72,\"piece\":\"H\"},{\"id\":195,\"piece\":[195]},{\"id\":169,\"piece\":[169]}]"},
        {"/detokenize", "{\"tokens\":[72,105]}", "content", "Hi"},
        {"/detokenize", "{\"tokens\":[1020,72]}", "content", "<|begin_of_text|>H"},
        {"/detokenize", "{\"tokens\":[195,169,195]}", "prompt", "\xC3\xA9\xEF\xBF\xBD"},
        {"/detokenize", "{\"tokens\":[]}", "prompt", ""},
        {"/apply-template", "{" HI "}", "prompt",
         HI_TEXT "<|start_header_id|>assistant<|end_header_id|>\n\n"},
        {"/apply-template", "{" HI ",\"add_generation_prompt\":false}", "prompt", HI_TEXT},
        {"/apply-template", "{" HI ",\"add_generation_prompt\":false," TOOLS "}", "prompt", HI_TEXT "[look]"},
        {"/apply-template", "{" HI ",\"add_generation_prompt\":false,\"tool_choice\":\"none\"," TOOLS "}",
         "prompt", HI_TEXT},
    };
    FakeWorker *f = start();
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s %s %s", rows[i].path, rows[i].body, rows[i].at);
        Answer a = ask(f, "POST", rows[i].path, rows[i].body);
        CHECK_INT_EQ(200, a.status);
        CHECK_STR_EQ(rows[i].value, json_text_at(json_root(a.body), rows[i].at));
    }
    shut_down(f);
}

TEST(api_look_refuses_by_name) {
    static const struct {
        const char *path, *body;
        uint16_t status;
        const char *param, *message;
    } rows[] = {
        {"/tokenize", "{}", 400, "prompt", "prompt: one of prompt, content and messages is required"},
        {"/tokenize", "{\"prompt\":3}", 400, "prompt",
         "prompt: must be a string or an array of strings, found a number: /prompt is 3"},
        {"/tokenize", "{\"prompt\":[3]}", 400, "prompt",
         "prompt: must be a string or an array of strings, found a number: /prompt/0 is 3"},
        {"/tokenize", "{\"content\":[]}", 400, "content",
         "content: must be a string, found an array: /content is []"},
        {"/tokenize", "{\"messages\":\"hi\"}", 400, "messages",
         "messages: must be an array of messages, found a string: /messages is \"hi\""},
        {"/tokenize", "{\"prompt\":\"x\",\"with_pieces\":1}", 400, "with_pieces",
         "with_pieces: must be a boolean, found a number: /with_pieces is 1"},
        {"/tokenize", "{\"prompt\":\"x\",\"model\":\"other\"}", 404, "model",
         "model: this worker serves \"tiny\" alone"},
        {"/tokenize", "{" HI ",\"chat_template\":\"x\"}", 400, "chat_template",
         "chat_template: is not supported; the template is chosen when the worker starts (--chat-template)"},
        {"/tokenize", "{" HI ",\"add_special_tokens\":true}", 400, "add_special_tokens",
         "add_special_tokens: is for a prompt; a conversation's template writes them"},
        {"/detokenize", "{}", 400, "tokens", "tokens: is required"},
        {"/detokenize", "{\"tokens\":\"x\"}", 400, "tokens",
         "tokens: must be an array of token ids, or of such arrays, found a string: /tokens is \"x\""},
        {"/detokenize", "{\"tokens\":[1,-1]}", 400, "tokens",
         "tokens[1]: must be a token id of 0 to 1023, found a number: /tokens/1 is -1"},
        {"/detokenize", "{\"tokens\":[1,1024]}", 400, "tokens",
         "tokens[1]: must be a token id of 0 to 1023, found a number: /tokens/1 is 1024"},
        {"/detokenize", "{\"tokens\":[1,\"x\"]}", 400, "tokens",
         "tokens[1]: must be a token id of 0 to 1023, found a string: /tokens/1 is \"x\""},
        {"/detokenize", "{\"tokens\":[[1],2]}", 400, "tokens",
         "tokens: must be an array of arrays, found a number: /tokens/1 is 2"},
        {"/apply-template", "{}", 400, "messages", "messages: must be an array of messages, found nothing"},
        {"/apply-template", "[]", 400, "null", "the body must be a JSON object, found an array"},
    };
    FakeWorker *f = start();
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s %s", rows[i].path, rows[i].body);
        Answer a = ask(f, "POST", rows[i].path, rows[i].body);
        CHECK_INT_EQ(rows[i].status, a.status);
        CHECK_STR_EQ(rows[i].param, json_text_at(json_root(a.body), "error.param"));
        CHECK_STR_EQ(rows[i].message, json_text_at(json_root(a.body), "error.message"));
    }
    shut_down(f);
}

// They need no slot, and count nowhere as jobs.
TEST(api_look_takes_no_slot) {
    FakeWorker *f = fake_worker_start(&(FakeConfig){.n_jobs = 1, .step_ms = 5});
    Stream *s = open_stream(f, "{\"job_id\":\"a\",\"prompt\":\"x\"}", (HttpHeader){0});
    read_until(s, "event: token");
    CHECK_INT_EQ(503, ask(f, "POST", "/execute", "{\"job_id\":\"b\",\"prompt\":\"x\"}").status);
    CHECK_INT_EQ(200, ask(f, "POST", "/tokenize", "{\"prompt\":\"Hi\"}").status);
    CHECK_INT_EQ(400, ask(f, "POST", "/tokenize", "{}").status);
    Answer metrics = ask(f, "GET", "/metrics", NULL);
    CHECK(text_count(metrics.body, "worker_requests_total{outcome=\"rejected\"} 1\n") == 1);
    CHECK_INT_EQ(202, ask(f, "POST", "/cancel", "{\"job_id\":\"a\"}").status);
    read_until(s, NULL);
    shut_down(f);
}

// A body of "prompt" with so many letters.
static char *long_body(size_t letters) {
    static const char head[] = "{\"prompt\":\"", tail[] = "\",\"add_special_tokens\":false}";
    char *text = (char *)os_arena(letters + sizeof head + sizeof tail).next;
    CHECK(text != NULL);
    memcpy(text, head, sizeof head - 1);
    memset(text + sizeof head - 1, 'a', letters);
    memcpy(text + sizeof head - 1 + letters, tail, sizeof tail);
    return text;
}

// Small bodies, and those that are copied to memory of their own; the last has more tokens than an answer
// may.
TEST(api_look_long_texts) {
    static const struct {
        size_t letters;
        uint16_t status;
        const char *count; // or the error's code
    } rows[] = {
        {60000, 200, "60000"},     {70000, 200, "70000"},
        {2000000, 200, "2000000"}, {10000000, 400, "INVALID_REQUEST"},
        {70000, 200, "70000"}, // the memory is there again
    };
    FakeWorker *f = start();
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%zu", rows[i].letters);
        Answer a = ask(f, "POST", "/tokenize", long_body(rows[i].letters));
        CHECK_INT_EQ(rows[i].status, a.status);
        bool is_error = rows[i].status != 200;
        Str head = str_slice(a.body, 0, a.body.len < 64 ? a.body.len : 64);
        char expected[64];
        snprintf(expected, sizeof expected, "{\"count\":%s,", rows[i].count);
        if (is_error) CHECK_STR_EQ(rows[i].count, json_text_at(json_root(a.body), "error.code"));
        else CHECK(str_starts_with(head, str_from_c(expected)));
    }
    shut_down(f);
}
