// Tool calls and reasoning, found while an answer streams.
#include "answer_run.h"
#include "runner.h"

static const char tools_json[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"f\"}},"
    "{\"type\":\"function\",\"function\":{\"name\":\"get\"}},"
    "{\"type\":\"function\",\"function\":{\"name\":\"get_weather\",\"parameters\":{\"type\":\"object\","
    "\"properties\":{\"city\":{\"type\":\"string\"},\"days\":{\"type\":\"integer\"}}}}}]";

enum { CUTS = 12, OUT_BYTES = 1 << 17 };

// One answer, whole, byte by byte and cut at random.
static void check_answer(AnswerRun *r, const char *text, const char *expected, uint32_t calls) {
    static char memory[OUT_BYTES];
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
    REQUIRE(
        answer_formats_find((Str){0}, (Str){0}, r.tokenizer, tool_format, reasoning_format, &formats, &err));
    return r;
}

// A format's cases hold where its marks are tokens, and where they are text.
static void check_format(const char *tool_format, const char *reasoning_format, const char *marks,
                         AnswerOpening opening, const AnswerCase *cases, size_t n_cases) {
    const char *const vocabularies[] = {marks, ""};
    for (size_t i = 0; i < COUNT_OF(vocabularies); i++) {
        AnswerRun r = run_of(tool_format, reasoning_format, vocabularies[i]);
        r.opening = opening;
        check_answers(&r, cases, n_cases);
    }
}

TEST(answer_parser_hermes) {
    static const AnswerCase cases[] = {
        {"content", "Hello.\n", "Hello.\n", 0},
        {"reasoning", "<think>\nHm.\n</think>\n\nYes.", "{r:Hm.}Yes.", 0},
        {"reasoning in the middle", "A <think>b</think>", "A <think>b</think>", 0},
        {"reasoning to the end", "\n<think>\nHm. ", "{r:Hm. }", 0},
        {"call", "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>",
         "{f:f|{\"a\": 1}}", 1},
        {"two calls",
         "Look.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>\n<tool_call>\n"
         "{\"arguments\": {\"city\":\"}\"}, \"name\": \"get_weather\"}\n</tool_call>\n",
         "Look.{f:f|{}}{f:get_weather|{\"city\":\"}\"}}", 2},
        {"a list", "<tool_call>[{\"name\": \"f\", \"arguments\": {}}, {\"name\":\"f\"}]</tool_call>.",
         "{f:f|{}}{f:f|{}}.", 2},
        {"two objects", "<tool_call>{\"name\": \"f\", \"arguments\": {}}\n{\"name\": \"f\"}</tool_call>",
         "{f:f|{}}{f:f|{}}", 2},
        {"other members",
         "<tool_call>{\"id\": [1,{\"a\":\"}\"}], \"name\":\"f\",\"arguments\":{},\"x\":1e3 }", "{f:f|{}}", 1},
        {"reasoning and a call", "<think>\nHm.\n</think>\n\n<tool_call>\n{\"name\": \"f\"}\n</tool_call>",
         "{r:Hm.}{f:f|{}}", 1},
        {"a call in reasoning", "<think>\n<tool_call>{\"name\": \"f\"}</tool_call></think>",
         "{r:<tool_call>{\"name\": \"f\"}</tool_call>}", 0},
        {"no arguments", "<tool_call>{\"name\": \"f\"}</tool_call>", "{f:f|{}}", 1},
        {"no closing mark", "<tool_call>{\"name\": \"f\", \"arguments\": {}}", "{f:f|{}}", 1},
        {"no tool", "A <tool_call>{\"name\": \"g\", \"arguments\": {}}</tool_call>",
         "A <tool_call>{\"name\": \"g\", \"arguments\": {}}</tool_call>", 0},
        {"no JSON", "<tool_call>\n f(1)</tool_call> ", "<tool_call>\n f(1)</tool_call> ", 0},
        {"arguments are a list", "<tool_call>{\"name\": \"f\", \"arguments\": [1]}</tool_call>",
         "<tool_call>{\"name\": \"f\", \"arguments\": [1]}</tool_call>", 0},
        {"an opening mark twice", "<tool_call>\n<tool_call>{\"name\": \"f\"}</tool_call>",
         "<tool_call>\n{f:f|{}}", 1},
        {"cut off", "A\n<tool_call>{\"name\": \"f", "A\n<tool_call>{\"name\": \"f", 0},
        {"cut off in arguments", "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": ", "{f:f|{\"a\": }", 0},
        {"breaks", "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": x}}", "{f:f|{\"a\": }x}}", 0},
        {"breaks behind the arguments", "<tool_call>{\"name\": \"f\", \"arguments\": {}\n</tool_call>",
         "{f:f|{}}\n</tool_call>", 0},
        {"only a closing mark", "a</tool_call></think>", "a</tool_call></think>", 0},
        {"half a mark", "a <tool_c", "a <tool_c", 0},
    };
    check_format("hermes", "think", "<tool_call> </tool_call> <think> </think>", ANSWER_OPENS_CONTENT, cases,
                 COUNT_OF(cases));
}

TEST(answer_parser_reasoning_that_the_template_opens) {
    static const AnswerCase cases[] = {
        {"closed", "\nHm.\n</think>\n\nYes.\n", "{r:Hm.}Yes.\n", 0},
        {"nothing", "\n</think>\nYes.", "Yes.", 0},
        {"opened again", "<think>a</think>b", "{r:<think>a}b", 0},
        {"to the end", "Hm.", "{r:Hm.}", 0},
    };
    check_format("hermes", "think", "<think> </think>", ANSWER_OPENS_REASONING, cases, COUNT_OF(cases));
    static const struct {
        const char *reasoning, *tools, *prompt;
        AnswerOpening opening;
    } prompts[] = {
        {"think", "none", "<|im_start|>assistant\n<think>\n", ANSWER_OPENS_REASONING},
        {"think", "none", "<|im_start|>assistant\n<think>\n\n</think>\n\n", ANSWER_OPENS_CONTENT},
        {"think", "none", "<think> is a mark\n<|im_start|>assistant\n", ANSWER_OPENS_CONTENT},
        {"none", "none", "<|im_start|>assistant\n<think>\n", ANSWER_OPENS_CONTENT},
        {"apriel", "none", "<|begin_assistant|>\nHere are my reasoning steps:\n", ANSWER_OPENS_REASONING},
        {"gemma4", "none", "<|turn>model\n<|channel>thought\n<channel|>", ANSWER_OPENS_CONTENT},
        {"harmony", "none", "<|start|>assistant", ANSWER_OPENS_HEADER},
        {"none", "harmony", "<|start|>assistant", ANSWER_OPENS_HEADER},
        {"harmony", "none", "<|start|>assistant<|channel|>final<|message|>Yes", ANSWER_OPENS_CONTENT},
        {"harmony", "none", "<|start|>assistant<|channel|>analysis<|message|>", ANSWER_OPENS_REASONING},
        {"none", "functionary-v3.2", "assistant<|end_header_id|>\n\n>>>", ANSWER_OPENS_HEADER},
        {"none", "none", "", ANSWER_OPENS_CONTENT},
    };
    for (size_t i = 0; i < COUNT_OF(prompts); i++) {
        TEST_CASE_LABEL("%s", prompts[i].prompt);
        AnswerRun r = run_of(prompts[i].tools, prompts[i].reasoning, "");
        CHECK_INT_EQ(prompts[i].opening, answer_opening(r.formats, str_from_c(prompts[i].prompt)));
    }
}

// Marks of the vocabulary count by id: text that spells them is text.
TEST(answer_parser_marks_are_tokens) {
    static const AnswerCase cases[] = {
        {"spelled", "\1<tool_call>{\"name\": \"f\"}</tool_call>", "<tool_call>{\"name\": \"f\"}</tool_call>",
         0},
        {"spelled inside",
         "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": \"\1</tool_call>\"}}</tool_call>",
         "{f:f|{\"a\": \"</tool_call>\"}}", 1},
        {"a token inside", "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": \"</tool_call>",
         "{f:f|{\"a\": \"}</tool_call>", 0},
        {"reasoning", "\1<think>a\1</think>", "<think>a</think>", 0},
        {"in reasoning", "<think>\1</think></think>b", "{r:</think>}b", 0},
    };
    AnswerRun r = run_of("hermes", "think", "<tool_call> </tool_call> <think> </think>");
    check_answers(&r, cases, COUNT_OF(cases));
}

TEST(answer_parser_qwen_xml) {
    static const AnswerCase cases[] = {
        {"call",
         "<tool_call>\n<function=get_weather>\n<parameter=city>\nSan "
         "\"F\"\n</parameter>\n<parameter=days>\n2\n"
         "</parameter>\n</function>\n</tool_call>",
         "{f:get_weather|{\"city\": \"San \\\"F\\\"\", \"days\": 2}}", 1},
        {"numbers that are strings, and others",
         "<tool_call>\n<function=get_weather>\n<parameter=city>\n12\n</parameter>\n<parameter=x>\n{\"a\": "
         "[1]}\n"
         "</parameter>\n<parameter=y>\nTrue\n</parameter>\n<parameter=days>\nmany\n</parameter>\n</function>",
         "{f:get_weather|{\"city\": \"12\", \"x\": {\"a\": [1]}, \"y\": true, \"days\": \"many\"}}", 1},
        {"lines", "<tool_call>\n<function=f>\n<parameter=a>\n\n b\n\n</parameter>\n</function>\n</tool_call>",
         "{f:f|{\"a\": \"\\n b\\n\"}}", 1},
        {"lines of a string",
         "<tool_call>\n<function=get_weather>\n<parameter=city>\n\n "
         "b\n\n</parameter>\n</function>\n</tool_call>",
         "{f:get_weather|{\"city\": \"\\n b\\n\"}}", 1},
        {"no lines", "<tool_call><function=get_weather><parameter=city></parameter></function></tool_call>x",
         "{f:get_weather|{\"city\": \"\"}}x", 1},
        {"nothing around it", "Look:\n<function=f>\n</function>\n", "Look:{f:f|{}}", 1},
        {"half a closing mark", "<function=get_weather>\n<parameter=city>\n</para\n</parameter>\n</function>",
         "{f:get_weather|{\"city\": \"</para\"}}", 1},
        {"two functions", "<tool_call>\n<function=f>\n</function>\n<function=f>\n</function>\n</tool_call>",
         "{f:f|{}}{f:f|{}}", 2},
        {"no tool", "<tool_call>\n<function=g>\n</function>\n</tool_call>",
         "<tool_call>\n<function=g>\n</function>\n</tool_call>", 0},
        {"cut off", "<function=get_weather>\n<parameter=city>\nab", "{f:get_weather|{\"city\": \"ab}", 0},
        {"breaks", "<function=f>\n<parameter=a>\n1\n</parameter>\nx", "{f:f|{\"a\": 1}\nx", 0},
    };
    check_format("qwen-xml", "think", "<tool_call> </tool_call> <think> </think>", ANSWER_OPENS_CONTENT,
                 cases, COUNT_OF(cases));
}

TEST(answer_parser_other_keys_and_values) {
    static const AnswerCase seed[] = {
        {"seed",
         "<seed:think>Hm</seed:think>\n<seed:tool_call>\n<function=get_weather>\n<parameter=city>\nA</"
         "parameter>\n"
         "<parameter=days>1</parameter>\n</function>\n</seed:tool_call>",
         "{r:Hm}{f:get_weather|{\"city\": \"\\nA\", \"days\": 1}}", 1},
    };
    static const AnswerCase minimax[] = {
        {"two",
         "Look.\n\n<minimax:tool_call>\n<invoke name=\"get_weather\">\n<parameter "
         "name=\"city\">A</parameter>\n"
         "</invoke>\n<invoke name=\"f\">\n</invoke>\n</minimax:tool_call>",
         "Look.{f:get_weather|{\"city\": \"A\"}}{f:f|{}}", 2},
        {"second is no tool",
         "<minimax:tool_call>\n<invoke name=\"f\">\n</invoke>\n<invoke "
         "name=\"g\"></invoke></minimax:tool_call>",
         "{f:f|{}}<invoke name=\"g\"></invoke></minimax:tool_call>", 1},
    };
    static const AnswerCase glm[] = {
        {"lines",
         "\n<think>Hm</think>\nLook\n<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>A</"
         "arg_value>\n"
         "<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n</tool_call>",
         "{r:Hm}Look{f:get_weather|{\"city\": \"A\", \"days\": 3}}", 1},
        {"no lines",
         "<tool_call>get_weather<arg_key>city</arg_key><arg_value> A\n</arg_value></tool_call><tool_call>f"
         "</tool_call>",
         "{f:get_weather|{\"city\": \" A\\n\"}}{f:f|{}}", 2},
        {"a longer name", "<tool_call>fx</tool_call>", "<tool_call>fx</tool_call>", 0},
    };
    static const AnswerCase dsml[] = {
        {"strings and others",
         "<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"f\">\n<｜DSML｜parameter name=\"a\" "
         "string=\"true\">1"
         "</｜DSML｜parameter>\n<｜DSML｜parameter name=\"b\" string=\"false\">[1, 2]</｜DSML｜parameter>\n"
         "</｜DSML｜invoke>\n</｜DSML｜function_calls>",
         "{f:f|{\"a\": \"1\", \"b\": [1, 2]}}", 1},
    };
    check_format("seed", "seed", "<seed:think> </seed:think> <seed:tool_call> </seed:tool_call>",
                 ANSWER_OPENS_CONTENT, seed, COUNT_OF(seed));
    check_format("minimax-m2", "think", "<minimax:tool_call> </minimax:tool_call>", ANSWER_OPENS_CONTENT,
                 minimax, COUNT_OF(minimax));
    check_format("glm", "think",
                 "<think> </think> <tool_call> </tool_call> <arg_key> </arg_key> <arg_value> </arg_value>",
                 ANSWER_OPENS_CONTENT, glm, COUNT_OF(glm));
    check_format("deepseek-dsml", "think", "｜DSML｜", ANSWER_OPENS_CONTENT, dsml, COUNT_OF(dsml));
}

TEST(answer_parser_llama3) {
    static const AnswerCase cases[] = {
        {"object", "{\"name\": \"get_weather\", \"parameters\": {\"city\": \"A\"}}",
         "{f:get_weather|{\"city\": \"A\"}}", 1},
        {"type", "\n{\"type\": \"function\", \"name\": \"f\", \"parameters\": {}}", "{f:f|{}}", 1},
        {"mark", "<|python_tag|>{\"name\": \"f\", \"parameters\": {}}", "{f:f|{}}", 1},
        {"two", "{\"name\": \"f\", \"parameters\": {}}; {\"name\": \"f\", \"parameters\": {}}",
         "{f:f|{}}{f:f|{}}", 2},
        {"other JSON", "{\"city\": \"A\", \"name\": \"f\"}", "{\"city\": \"A\", \"name\": \"f\"}", 0},
        {"a name alone", "{\"name\": \"f\"}", "{\"name\": \"f\"}", 0},
        {"no tool", "{\"name\": \"Ann\", \"parameters\": {}}", "{\"name\": \"Ann\", \"parameters\": {}}", 0},
        {"not in front", "So: {\"name\": \"f\", \"parameters\": {}}",
         "So: {\"name\": \"f\", \"parameters\": {}}", 0},
        {"and then text", "{\"name\": \"f\", \"parameters\": {}};x", "{f:f|{}};x", 1},
        {"code", "<|python_tag|>print(1)", "<|python_tag|>print(1)", 0},
    };
    check_format("llama3", "none", "<|python_tag|>", ANSWER_OPENS_CONTENT, cases, COUNT_OF(cases));
}

TEST(answer_parser_python) {
    static const AnswerCase cases[] = {
        {"one", "[get_weather(city='A', days=2)]", "{f:get_weather|{\"city\": \"A\", \"days\": 2}}", 1},
        {"two", "[get_weather(city=\"A\"), f()]", "{f:get_weather|{\"city\": \"A\"}}{f:f|{}}", 2},
        {"values", "[f(a=[1, 'x', {'k': True, \"l\": None}], b=-1.5e3, c=[], d={}, e=false, )]",
         "{f:f|{\"a\": [1, \"x\", {\"k\": true, \"l\": null}], \"b\": -1.5e3, \"c\": [], \"d\": {}, \"e\": "
         "false}}",
         1},
        {"escapes", "[f(a='it\\'s \"x\"\\n\\x41\\u00e9\\\\\\d')]",
         "{f:f|{\"a\": \"it's \\\"x\\\"\\nA\xC3\xA9\\\\\\\\d\"}}", 1},
        {"no quotes", "[get_weather(city=San Francisco, days=2)]",
         "{f:get_weather|{\"city\": \"San Francisco\", \"days\": 2}}", 1},
        {"a string by its schema", "[get_weather(city=12)]", "{f:get_weather|{\"city\": \"12\"}}", 1},
        {"no tool", "[g(a=1)]", "[g(a=1)]", 0},
        {"a list", "[1, 2]", "[1, 2]", 0},
        {"no keys", "[f(1)]", "[f(1)]", 0},
        {"not in front", "See [f()]", "See [f()]", 0},
        {"cut off", "[f(a='x", "{f:f|{\"a\": \"x}", 0},
    };
    static const AnswerCase lfm2[] = {
        {"one", "<|tool_call_start|>[get_weather(city=\"A\")]<|tool_call_end|>Wait.",
         "{f:get_weather|{\"city\": \"A\"}}Wait.", 1},
        {"behind text", "Look <|tool_call_start|>[f(), f()]<|tool_call_end|>", "Look{f:f|{}}{f:f|{}}", 2},
        {"bare", "[f()]", "[f()]", 0},
    };
    check_format("pythonic", "none", "<|python_start|> <|python_end|>", ANSWER_OPENS_CONTENT, cases,
                 COUNT_OF(cases));
    check_format("lfm2", "none", "<|tool_call_start|> <|tool_call_end|>", ANSWER_OPENS_CONTENT, lfm2,
                 COUNT_OF(lfm2));
}

TEST(answer_parser_mistral) {
    static const AnswerCase cases[] = {
        {"list", "[TOOL_CALLS][{\"name\": \"f\", \"arguments\": {\"a\": 1}, \"id\": \"abc123def\"}]",
         "{f:f|{\"a\": 1}}", 1},
        {"list behind a space", "[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {}}, {\"name\": \"f\"}]",
         "{f:f|{}}{f:f|{}}", 2},
        {"names", "[TOOL_CALLS]f[ARGS]{\"a\": 1}[TOOL_CALLS]get_weather[ARGS]{}",
         "{f:f|{\"a\": 1}}{f:get_weather|{}}", 2},
        {"ids", "Look.[TOOL_CALLS]f[CALL_ID]abc123def[ARGS]{\"a\": 1}", "Look.{f:f|{\"a\": 1}}", 1},
        {"name alone", "[TOOL_CALLS]f{\"a\": 1}", "{f:f|{\"a\": 1}}", 1},
        {"reasoning", "[THINK]Hm[/THINK]Yes", "{r:Hm}Yes", 0},
        {"the other word", "[TOOL_CALLS][{\"name\": \"f\", \"parameters\": {}}]", "{f:f|{}}", 1},
        {"a name that is the beginning of another", "[TOOL_CALLS]fx[ARGS]{}", "[TOOL_CALLS]fx[ARGS]{}", 0},
        {"no tool", "[TOOL_CALLS]g[ARGS]{}", "[TOOL_CALLS]g[ARGS]{}", 0},
        {"no arguments", "[TOOL_CALLS]f[ARGS]x", "[TOOL_CALLS]f[ARGS]x", 0},
    };
    check_format("mistral", "mistral", "[TOOL_CALLS] [ARGS] [CALL_ID] [THINK] [/THINK]", ANSWER_OPENS_CONTENT,
                 cases, COUNT_OF(cases));
}

TEST(answer_parser_harmony) {
    static const AnswerCase cases[] = {
        {"reasoning, then content",
         "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Yes.<|return|"
         ">",
         "{r:Hm.}Yes.", 0},
        {"a call, recipient behind the channel",
         "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary to=functions.f "
         "<|constrain|>json<|message|>{\"a\": 1}<|call|>",
         "{r:Hm.}{f:f|{\"a\": 1}}", 1},
        {"a call, recipient in front", " to=functions.f<|channel|>commentary json<|message|>{}<|call|>",
         "{f:f|{}}", 1},
        {"a preamble",
         "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant<|channel|>commentary "
         "to=functions.get_weather<|message|>{\"city\": \"A\"}",
         "I look.{f:get_weather|{\"city\": \"A\"}}", 1},
        {"no end in front of the next", "<|channel|>analysis<|message|>Hm<|channel|>final<|message|>Yes",
         "{r:Hm}Yes", 0},
        {"no tool", "<|channel|>commentary to=browser.search<|message|>{}<|call|>",
         "<|channel|>commentary to=browser.search<|message|>{}", 0},
        {"no JSON", "<|channel|>commentary to=functions.f<|message|>x<|call|>",
         "<|channel|>commentary to=functions.f<|message|>x", 0},
        {"breaks", "<|channel|>commentary to=functions.f<|message|>{\"a\": <|call|>", "{f:f|{\"a\": }", 0},
        {"text alone", "Hello", "Hello", 0},
        {"cut off", "<|channel|>anal", "<|channel|>anal", 0},
    };
    check_format("harmony", "harmony",
                 "<|start|> <|channel|> <|message|> <|constrain|> <|end|> <|call|> <|return|>",
                 ANSWER_OPENS_HEADER, cases, COUNT_OF(cases));
}

TEST(answer_parser_names_and_json) {
    static const AnswerCase deepseek[] = {
        {"fences",
         "Look.\n<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{\"a\": 1}\n```"
         "<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{}\n```<"
         "｜tool▁call▁end｜>"
         "<｜tool▁calls▁end｜>",
         "Look.{f:f|{\"a\": 1}}{f:f|{}}", 2},
        {"no fences",
         "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"a\": 1}<｜tool▁call▁end｜>"
         "<｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
         "{f:f|{\"a\": 1}}{f:get_weather|{}}", 2},
        {"reasoning", "<think>\nHm\n</think>\n\nYes", "{r:Hm}Yes", 0},
        {"empty", "<｜tool▁calls▁begin｜><｜tool▁calls▁end｜>", "<｜tool▁calls▁begin｜><｜tool▁calls▁end｜>",
         0},
    };
    static const AnswerCase kimi[] = {
        {"two",
         "<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{\"a\": 1}"
         "<|tool_call_end|><|tool_call_begin|>functions.f:1<|tool_call_argument_begin|>{}<|tool_call_end|>"
         "<|tool_calls_section_end|>",
         "{f:f|{\"a\": 1}}{f:f|{}}", 2},
    };
    static const AnswerCase v31[] = {
        {"two", "<function=f>{\"a\": 1}</function><function=get_weather>{}</function>",
         "{f:f|{\"a\": 1}}{f:get_weather|{}}", 2},
        {"no tool", "<function=g>{}</function>", "<function=g>{}</function>", 0},
    };
    static const AnswerCase v32[] = {
        {"content", "all\nHello", "Hello", 0},
        {"a call", "f\n{\"a\": 1}", "{f:f|{\"a\": 1}}", 1},
        {"content, then calls", "all\nLook.\n>>>f\n{}\n>>>f\n{}", "Look.{f:f|{}}{f:f|{}}", 2},
        {"no tool", "g\n{}", "g\n{}", 0},
    };
    check_format("deepseek", "think",
                 "<｜tool▁calls▁begin｜> <｜tool▁calls▁end｜> <｜tool▁call▁begin｜> <｜tool▁call▁end｜> "
                 "<｜tool▁sep｜>",
                 ANSWER_OPENS_CONTENT, deepseek, COUNT_OF(deepseek));
    check_format("kimi-k2", "think",
                 "<|tool_calls_section_begin|> <|tool_calls_section_end|> <|tool_call_begin|> "
                 "<|tool_call_argument_begin|> <|tool_call_end|>",
                 ANSWER_OPENS_CONTENT, kimi, COUNT_OF(kimi));
    check_format("functionary-v3.1", "none", "", ANSWER_OPENS_CONTENT, v31, COUNT_OF(v31));
    check_format("functionary-v3.2", "none", "", ANSWER_OPENS_HEADER, v32, COUNT_OF(v32));
}

TEST(answer_parser_gemma4) {
    static const AnswerCase cases[] = {
        {"call", "<|tool_call>call:get_weather{city:<|\"|>San \"F\"<|\"|>,days:2}<tool_call|>",
         "{f:get_weather|{\"city\": \"San \\\"F\\\"\", \"days\": 2}}", 1},
        {"values",
         "<|tool_call>call:f{a:[1,<|\"|>x<|\"|>],b:{c:true,<|\"|>d e<|\"|>:None},e:{},f:-1e-05}<tool_call|>"
         "<|tool_call>call:f{}<tool_call|>",
         "{f:f|{\"a\": [1, \"x\"], \"b\": {\"c\": true, \"d e\": null}, \"e\": {}, \"f\": -1e-05}}{f:f|{}}",
         2},
        {"reasoning", "<|channel>thought\nHm\n<channel|>Yes", "{r:Hm}Yes", 0},
        {"no tool", "<|tool_call>call:g{}<tool_call|>", "<|tool_call>call:g{}<tool_call|>", 0},
        {"breaks", "<|tool_call>call:f{a:<|\"|>x<|\"|>y}<tool_call|>", "{f:f|{\"a\": \"x\"}y}<tool_call|>",
         0},
    };
    check_format("gemma4", "gemma4", "<|tool_call> <tool_call|> <|\"|> <|channel> <channel|>",
                 ANSWER_OPENS_CONTENT, cases, COUNT_OF(cases));
}

// With all control characters in the place of each "@", as themselves or escaped.
static void put_with_controls(StrBuf *out, const char *text, bool escaped) {
    static const char escapes[] =
        "\\u0000\\u0001\\u0002\\u0003\\u0004\\u0005\\u0006\\u0007\\b\\t\\n\\u000b\\f\\r"
        "\\u000e\\u000f\\u0010\\u0011\\u0012\\u0013\\u0014\\u0015\\u0016\\u0017\\u0018"
        "\\u0019\\u001a\\u001b\\u001c\\u001d\\u001e\\u001f";
    for (; *text; text++) {
        if (*text != '@') strbuf_put_char(out, *text);
        else if (escaped) strbuf_put(out, str_from_c(escapes));
        for (char c = 0; *text == '@' && !escaped && c < 0x20; c++) {
            if (c == ANSWER_RUN_NOT_A_MARK) strbuf_put_char(out, c);
            strbuf_put_char(out, c);
        }
    }
}

TEST(answer_parser_escapes_are_the_short_ones) {
    static const struct {
        const char *format, *marks, *text, *expected;
    } rows[] = {
        {"deepseek-dsml", "｜DSML｜",
         "<｜DSML｜function_calls><｜DSML｜invoke name=\"f\"><｜DSML｜parameter name=\"@\" string=\"true\">@"
         "</｜DSML｜parameter></｜DSML｜invoke></｜DSML｜function_calls>",
         "{f:f|{\"@\": \"@\"}}"},
        {"glm", "<tool_call> </tool_call> <arg_key> </arg_key> <arg_value> </arg_value>",
         "<tool_call>f<arg_key>@</arg_key><arg_value>@</arg_value></tool_call>", "{f:f|{\"@\": \"@\"}}"},
        {"pythonic", "", "[f(a='@', b={'@': \"@\\x0c\\r\"})]",
         "{f:f|{\"a\": \"@\", \"b\": {\"@\": \"@\\f\\r\"}}}"},
        {"gemma4", "<|tool_call> <tool_call|> <|\"|>",
         "<|tool_call>call:f{a:<|\"|>@<|\"|>,b:{<|\"|>@<|\"|>:1}}<tool_call|>",
         "{f:f|{\"a\": \"@\", \"b\": {\"@\": 1}}}"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char memory[3][1024];
        StrBuf text = STRBUF(memory[0]), expected = STRBUF(memory[1]);
        TEST_CASE_LABEL("%s", rows[i].format);
        AnswerRun r = run_of(rows[i].format, "none", rows[i].marks);
        put_with_controls(&text, rows[i].text, false);
        put_with_controls(&expected, rows[i].expected, true);
        for (r.piece_max = 0; r.piece_max < 8; r.piece_max++) {
            StrBuf out = STRBUF(memory[2]);
            CHECK_INT_EQ(1, answer_run(&r, strbuf_str(&text), &out).calls);
            CHECK_STR_EQ(strbuf_str(&expected), strbuf_str(&out));
        }
    }
}

TEST(answer_parser_objects_behind_other_marks) {
    static const struct {
        const char *format, *reasoning, *marks;
        AnswerCase c;
    } rows[] = {
        {"granite",
         "granite",
         "<|tool_call|>",
         {"granite", "<|tool_call|>[{\"name\": \"f\", \"arguments\": {\"a\": 1}}]", "{f:f|{\"a\": 1}}", 1}},
        {"granite",
         "granite",
         "",
         {"granite's reasoning", "Here is my thought process:\n\nHm.\n\nHere is my response:\n\nYes.",
          "{r:Hm.}Yes.", 0}},
        {"phi4-mini",
         "none",
         "<|tool_call|> <|/tool_call|>",
         {"phi4", "<|tool_call|>[{\"name\": \"f\", \"arguments\": {}}]<|/tool_call|>", "{f:f|{}}", 1}},
        {"phi4-mini", "none", "", {"phi4", "functools[{\"name\": \"f\", \"arguments\": {}}]", "{f:f|{}}", 1}},
        {"command-r",
         "command-r",
         "<|START_ACTION|> <|END_ACTION|> <|START_THINKING|> <|END_THINKING|>",
         {"command-r",
          "<|START_THINKING|>Hm.<|END_THINKING|><|START_ACTION|>[\n    {\"tool_call_id\": \"0\", "
          "\"tool_name\": "
          "\"f\", \"parameters\": {\"a\": 1}}\n]<|END_ACTION|>",
          "{r:Hm.}{f:f|{\"a\": 1}}", 1}},
        {"nemotron",
         "think",
         "",
         {"nemotron", "<TOOLCALL>[{\"name\": \"f\", \"arguments\": {}}]</TOOLCALL>", "{f:f|{}}", 1}},
        {"tool-calls",
         "think",
         "",
         {"lines",
          "<tool_calls>\n{\"name\": \"f\", \"arguments\": {}}\n{\"name\": \"f\", \"arguments\": {}}\n"
          "</tool_calls>",
          "{f:f|{}}{f:f|{}}", 2}},
        {"tool-calls",
         "apriel",
         "",
         {"apriel", "Hm\n[BEGIN FINAL RESPONSE]\nYes\n<tool_calls>[{\"name\": \"f\"}]</tool_calls>",
          "Hm\n[BEGIN FINAL RESPONSE]\nYes{f:f|{}}", 1}},
        {"granite-20b",
         "none",
         "",
         {"two", "<function_call> {\"name\": \"f\", \"arguments\": {}} <function_call> {\"name\": \"f\"}",
          "{f:f|{}}{f:f|{}}", 2}},
        {"xlam",
         "none",
         "",
         {"two", "[{\"name\": \"f\", \"arguments\": {}}, {\"name\": \"f\", \"arguments\": {}}]",
          "{f:f|{}}{f:f|{}}", 2}},
        {"none",
         "none",
         "",
         {"none", "<think>a</think><tool_call>{\"name\": \"f\"}",
          "<think>a</think><tool_call>{\"name\": \"f\"}", 0}},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        AnswerRun r = run_of(rows[i].format, rows[i].reasoning, rows[i].marks);
        check_answers(&r, &rows[i].c, 1);
    }
}

TEST(answer_parser_without_tools) {
    AnswerRun r = run_of("hermes", "think", "<tool_call> </tool_call>");
    r.tools = NULL;
    check_answer(&r, "<think>a</think>\n<tool_call>{\"name\": \"f\"}</tool_call>\n",
                 "{r:a}<tool_call>{\"name\": \"f\"}</tool_call>\n", 0);
    r = run_of("harmony", "harmony", "");
    r.tools = NULL;
    r.opening = ANSWER_OPENS_HEADER;
    check_answer(
        &r, "<|channel|>analysis<|message|>a<|end|><|start|>assistant to=functions.f<|message|>{}<|call|>",
        "{r:a}<|start|>assistant to=functions.f<|message|>{}", 0);
}

// What is longer than what can be held is content, or goes out as what it began as.
TEST(answer_parser_memory_is_bounded) {
    static char text[8 * ANSWER_HELD_BYTES_MAX], out_text[8 * ANSWER_HELD_BYTES_MAX];
    static const struct {
        const char *label, *format, *begin, *end, *out_begin, *out_end;
        char filler;
        uint32_t calls;
    } rows[] = {
        {"arguments before the name", "hermes", "<tool_call>{\"arguments\": {\"a\": \"",
         "\"}, \"name\": \"f\"}", "<tool_call>{\"arguments\": {\"a\": \"", "\"}, \"name\": \"f\"}", 'x', 0},
        {"arguments", "hermes", "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": \"", "\"}}",
         "{f:f|{\"a\": \"", "\"}}", 'x', 1},
        {"a value that may be JSON", "qwen-xml", "<function=f>\n<parameter=a>\n[",
         "1]\n</parameter>\n</function>", "{f:f|{\"a\": [", "1]}}", ' ', 1},
        {"a value that is text", "qwen-xml", "<function=f>\n<parameter=a>\n", "y\n</parameter>\n</function>",
         "{f:f|{\"a\": \"", "y\"}}", 'x', 1},
        {"a value that stops to be JSON", "qwen-xml", "<function=f>\n<parameter=a>\n[", "x]\n</parameter>\n",
         "{f:f|{\"a\": [", "}x]\n</parameter>\n", ' ', 0},
        {"white space", "hermes", "a", "b", "a", "b", ' ', 0},
        {"white space in a frame", "hermes", "<tool_call>", "{\"name\": \"f\"}", "<tool_call>",
         "{\"name\": \"f\"}", ' ', 0},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].label);
        StrBuf in = STRBUF(text), expected = STRBUF(out_text);
        strbuf_put(&in, str_from_c(rows[i].begin));
        strbuf_put(&expected, str_from_c(rows[i].out_begin));
        for (uint32_t k = 0; k < 2 * ANSWER_HELD_BYTES_MAX; k++) {
            strbuf_put_char(&in, rows[i].filler);
            strbuf_put_char(&expected, rows[i].filler);
        }
        strbuf_put(&in, str_from_c(rows[i].end));
        strbuf_put(&expected, str_from_c(rows[i].out_end));
        AnswerRun r = run_of(rows[i].format, "none", "");
        check_answer(&r, text, out_text, rows[i].calls);
    }
}
