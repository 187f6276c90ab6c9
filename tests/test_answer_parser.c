// Tool calls and reasoning, found while an answer streams.
#include "answer_run.h"
#include "runner.h"

static const char tools_json[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"f\"}},"
    "{\"type\":\"function\",\"function\":{\"name\":\"get_weather\",\"parameters\":{\"type\":\"object\","
    "\"properties\":{\"city\":{\"type\":\"string\"},\"days\":{\"type\":\"integer\"}}}}}]";

enum { CUTS = 12 };

// One answer, whole, byte by byte and cut at random.
static void check_answer(AnswerRun *r, const char *text, const char *expected, uint32_t calls) {
    static char memory[1 << 16];
    for (uint32_t cut = 0; cut < CUTS; cut++) {
        StrBuf out = STRBUF(memory);
        r->piece_max = cut == 0 ? 0 : cut == 1 ? 1 : 2 * cut;
        r->seed = cut;
        CHECK_INT_EQ(calls, answer_run(r, str_from_c(text), &out).calls);
        CHECK_STR_EQ(expected, strbuf_str(&out));
    }
}

typedef struct {
    const char *label, *text, *expected;
    uint32_t calls;
} AnswerCase;

static void check_answers(const AnswerRun *run, const AnswerCase *cases, size_t n_cases) {
    AnswerRun r = *run;
    for (size_t i = 0; i < n_cases; i++) {
        TEST_CASE_LABEL("%s", cases[i].label);
        check_answer(&r, cases[i].text, cases[i].expected, cases[i].calls);
    }
}

static AnswerRun run_of(const char *tool_format, const char *reasoning_format, const char *marks) {
    static AnswerFormats formats;
    Error err = {0};
    AnswerRun r = {.formats = &formats, .tokenizer = answer_vocabulary(marks)};
    r.tools = answer_tools(str_from_c(tools_json));
    REQUIRE(answer_formats_find((Str){0}, r.tokenizer, tool_format, reasoning_format, &formats, &err));
    return r;
}

#define HERMES_MARKS "<tool_call> </tool_call> <think> </think>"

TEST(answer_parser_hermes) {
    static const AnswerCase cases[] = {
        {"content", "Hello.\n", "Hello.\n", 0},
        {"reasoning", "<think>\nHm.\n</think>\n\nYes.", "{r:Hm.}Yes.", 0},
        {"call", "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>",
         "{f:f|{\"a\": 1}}", 1},
        {"two calls",
         "Look.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>\n<tool_call>\n"
         "{\"arguments\": {\"city\":\"}\"}, \"name\": \"get_weather\"}\n</tool_call>\n",
         "Look.{f:f|{}}{f:get_weather|{\"city\":\"}\"}}", 2},
        {"no arguments", "<tool_call>{\"name\": \"f\"}</tool_call>", "{f:f|{}}", 1},
        {"no closing mark", "<tool_call>{\"name\": \"f\", \"arguments\": {}}", "{f:f|{}}", 1},
        {"no tool", "A <tool_call>{\"name\": \"g\", \"arguments\": {}}</tool_call>",
         "A <tool_call>{\"name\": \"g\", \"arguments\": {}}</tool_call>", 0},
        {"no JSON", "<tool_call>\n f(1)</tool_call> ", "<tool_call>\n f(1)</tool_call> ", 0},
        {"cut off", "<tool_call>{\"name\": \"f", "<tool_call>{\"name\": \"f", 0},
        {"breaks", "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": x}}", "{f:f|{\"a\": }x}}", 0},
    };
    AnswerRun r = run_of("hermes", "think", HERMES_MARKS);
    check_answers(&r, cases, COUNT_OF(cases));
    r = run_of("hermes", "think", "");
    check_answers(&r, cases, COUNT_OF(cases));
}
