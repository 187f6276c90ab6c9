// Random answers, written by chat templates of the shape that published models have, are parsed back.
//
// The templates are small ones of our own; check_answers.py does the same with published ones.
#include "answer_run.h"
#include "fuzz_targets.h"
#include "json/json_writer.h"
#include "os/os.h"
#include "runner.h"
#include "template/template.h"

#include <stdio.h>

enum { ROUNDS = 40, CALLS_MAX = 3, TEXT_BYTES = 1 << 14, ARENA_BYTES = 64 << 20 };

// What a row's template can write.
enum { WITH_REASONING = 1, WITH_CONTENT = 2, WITH_BOTH_KINDS = 4, WITH_CALLS = 8, PLAIN_STRINGS = 16 };
enum { ALL = WITH_REASONING | WITH_CONTENT | WITH_BOTH_KINDS | WITH_CALLS };

typedef struct {
    const char *tools, *reasoning; // as they are found
    const char *marks;
    const char *source;
    uint32_t can;
    AnswerOpening opening;
} TemplateRow;

#define THINK "{% if reasoning %}{{ '<think>\n' + reasoning + '\n</think>\n\n' }}{% endif %}"
#define CALLS "{% for c in tool_calls %}"
#define END "{% endfor %}"
#define OBJECT "{{ '{\"name\": \"' + c.name + '\", \"arguments\": ' + c.arguments|tojson + '}' }}"
#define TEXT_OR_JSON "(v if v is string else v|tojson)"

static const TemplateRow rows[] = {
    {"hermes", "think", "<tool_call> </tool_call> <think> </think>",
     THINK "{{ content }}" CALLS "{{ '\n<tool_call>\n' }}" OBJECT "{{ '\n</tool_call>' }}" END, ALL,
     ANSWER_OPENS_CONTENT},
    {"qwen-xml", "think", "<tool_call> </tool_call> <think> </think>",
     THINK "{{ content }}" CALLS "{{ '\n<tool_call>\n<function=' + c.name + '>\n' }}"
           "{% for k, v in c.arguments|items %}{{ '<parameter=' + k + '>\n' }}"
           "{{ v|tojson if v is mapping or (v is sequence and v is not string) else v }}"
           "{{ '\n</parameter>\n' }}{% endfor %}{{ '</function>\n</tool_call>' }}" END,
     ALL, ANSWER_OPENS_CONTENT},
    {"glm", "think",
     "<tool_call> </tool_call> <think> </think> <arg_key> </arg_key> <arg_value> </arg_value>",
     THINK "{{ content }}" CALLS "{{ '\n<tool_call>' + c.name + '\n' }}{% for k, v in c.arguments|items %}"
           "{{ '<arg_key>' + k + '</arg_key>\n<arg_value>' }}{{ " TEXT_OR_JSON " }}{{ '</arg_value>\n' }}"
           "{% endfor %}{{ '</tool_call>' }}" END,
     ALL, ANSWER_OPENS_CONTENT},
    {"minimax-m2", "think", "<minimax:tool_call> </minimax:tool_call> <think> </think>",
     THINK "{{ content }}{% if tool_calls %}{{ '\n<minimax:tool_call>\n' }}" CALLS
           "{{ '<invoke name=\"' + c.name + '\">\n' }}{% for k, v in c.arguments|items %}"
           "{{ '<parameter name=\"' + k + '\">' }}{{ " TEXT_OR_JSON " }}{{ '</parameter>\n' }}{% endfor %}"
           "{{ '</invoke>\n' }}" END "{{ '</minimax:tool_call>' }}{% endif %}",
     ALL, ANSWER_OPENS_CONTENT},
    {"seed", "seed", "<seed:tool_call> </seed:tool_call> <seed:think> </seed:think>",
     "{% if reasoning %}{{ '<seed:think>' + reasoning + '</seed:think>' }}{% endif %}{{ content }}" CALLS
     "{{ '\n<seed:tool_call>\n<function=' + c.name + '>\n' }}{% for k, v in c.arguments|items %}"
     "{{ '<parameter=' + k + '>' }}{{ " TEXT_OR_JSON " }}{{ '</parameter>\n' }}{% endfor %}"
     "{{ '</function>\n</seed:tool_call>' }}" END,
     ALL, ANSWER_OPENS_CONTENT},
    {"deepseek-dsml", "think", "｜DSML｜ <think> </think>",
     THINK
     "{{ content }}{% if tool_calls %}{{ '\n\n<｜DSML｜function_calls>\n' }}" CALLS
     "{{ '<｜DSML｜invoke name=\"' + c.name + '\">\n' }}{% for k, v in c.arguments|items %}"
     "{{ '<｜DSML｜parameter name=\"' + k + '\" string=\"' + ('true' if v is string else 'false') + '\">' }}"
     "{{ " TEXT_OR_JSON " }}{{ '</｜DSML｜parameter>\n' }}{% endfor %}{{ '</｜DSML｜invoke>\n' }}" END
     "{{ '</｜DSML｜function_calls>' }}{% endif %}",
     ALL, ANSWER_OPENS_CONTENT},
    {"deepseek", "think",
     "<｜tool▁calls▁begin｜> <｜tool▁calls▁end｜> <｜tool▁call▁begin｜> <｜tool▁call▁end｜> <｜tool▁sep｜>",
     THINK
     "{{ content }}{% if tool_calls %}{{ '<｜tool▁calls▁begin｜>' }}" CALLS
     "{{ '<｜tool▁call▁begin｜>function<｜tool▁sep｜>' + c.name + '\n```json\n' + c.arguments|tojson + '\n```"
     "<｜tool▁call▁end｜>' }}" END "{{ '<｜tool▁calls▁end｜>' }}{% endif %}",
     ALL, ANSWER_OPENS_CONTENT},
    {"deepseek", "think", "",
     THINK "{{ content }}{% if tool_calls %}{{ '<｜tool▁calls▁begin｜>' }}" CALLS
           "{{ '<｜tool▁call▁begin｜>' + c.name + '<｜tool▁sep｜>' + c.arguments|tojson + "
           "'<｜tool▁call▁end｜>' }}" END "{{ '<｜tool▁calls▁end｜>' }}{% endif %}",
     ALL, ANSWER_OPENS_CONTENT},
    {"kimi-k2", "think",
     "<|tool_calls_section_begin|> <|tool_calls_section_end|> <|tool_call_begin|> "
     "<|tool_call_argument_begin|> "
     "<|tool_call_end|>",
     THINK
     "{{ content }}{% if tool_calls %}{{ '<|tool_calls_section_begin|>' }}" CALLS
     "{{ '<|tool_call_begin|>functions.' + c.name + ':' ~ loop.index0 ~ '<|tool_call_argument_begin|>' + "
     "c.arguments|tojson + '<|tool_call_end|>' }}" END "{{ '<|tool_calls_section_end|>' }}{% endif %}",
     ALL, ANSWER_OPENS_CONTENT},
    {"gemma4", "gemma4", "<|tool_call> <tool_call|> <|\"|> <|channel> <channel|>",
     "{% macro put(v) %}{% if v is string %}{{ '<|\"|>' + v + '<|\"|>' }}"
     "{% elif v is boolean %}{{ 'true' if v else 'false' }}"
     "{% elif v is mapping %}{{ '{' }}{% for k, w in v|items %}{{ ',' if not loop.first }}{{ k }}:{{ put(w) "
     "}}"
     "{% endfor %}{{ '}' }}"
     "{% elif v is sequence %}[{% for w in v %}{{ ',' if not loop.first }}{{ put(w) }}{% endfor %}]"
     "{% else %}{{ v }}{% endif %}{% endmacro %}"
     "{% if reasoning %}{{ '<|channel>thought\n' + reasoning + '\n<channel|>' }}{% endif %}{{ content "
     "}}" CALLS "{{ '<|tool_call>call:' + c.name }}{{ put(c.arguments) }}{{ '<tool_call|>' }}" END,
     ALL, ANSWER_OPENS_CONTENT},
    {"lfm2", "think", "<|tool_call_start|> <|tool_call_end|> <think> </think>",
     THINK
     "{{ content }}{% if tool_calls %}{{ '<|tool_call_start|>[' }}" CALLS
     "{{ ', ' if not loop.first }}{{ c.name + '(' }}{% for k, v in c.arguments|items %}"
     "{{ ', ' if not loop.first }}{{ k + '=' }}{{ \"'\" + v + \"'\" if v is string else v }}{% endfor %}"
     "{{ ')' }}" END "{{ ']<|tool_call_end|>' }}{% endif %}",
     ALL | PLAIN_STRINGS, ANSWER_OPENS_CONTENT},
    {"mistral", "mistral", "[TOOL_CALLS] [THINK] [/THINK]",
     "{% if reasoning %}{{ '[THINK]' + reasoning + '[/THINK]' }}{% endif %}{{ content }}"
     "{% if tool_calls %}{{ '[TOOL_CALLS][' }}" CALLS "{{ ', ' if not loop.first }}" OBJECT END
     "{{ ']' }}{% endif %}",
     ALL, ANSWER_OPENS_CONTENT},
    {"mistral", "mistral", "[TOOL_CALLS] [ARGS] [THINK] [/THINK]",
     "{% if reasoning %}{{ '[THINK]' + reasoning + '[/THINK]' }}{% endif %}{{ content }}" CALLS
     "{{ '[TOOL_CALLS]' + c.name + '[ARGS]' + c.arguments|tojson }}" END,
     ALL, ANSWER_OPENS_CONTENT},
    {"harmony", "harmony", "<|start|> <|channel|> <|message|> <|constrain|> <|end|> <|call|> <|return|>",
     "{% if reasoning %}{{ '<|channel|>analysis<|message|>' + reasoning + '<|end|>' }}{% endif %}"
     "{% if content %}{{ '<|start|>assistant' if reasoning }}"
     "{{ '<|channel|>final<|message|>' + content + '<|end|>' }}{% endif %}" CALLS
     "{{ '<|start|>assistant' if reasoning or content or not loop.first }}"
     "{{ ' to=functions.' + c.name + '<|channel|>commentary json<|message|>' }}"
     "{{ c.arguments|tojson }}{{ '<|call|>' }}" END,
     ALL, ANSWER_OPENS_HEADER},
    {"granite", "granite", "<|tool_call|>",
     "{% if reasoning %}{{ 'Here is my thought process:\n' + reasoning + '\nHere is my response:\n' }}{% "
     "endif %}"
     "{{ content }}{% if tool_calls %}{{ '<|tool_call|>[' }}" CALLS "{{ ', ' if not loop.first }}" OBJECT END
     "{{ ']' }}{% endif %}",
     ALL, ANSWER_OPENS_CONTENT},
    {"phi4-mini", "none", "<|tool_call|> <|/tool_call|>",
     "{# <|tool|><|/tool|> #}{{ content }}{% if tool_calls %}{{ '<|tool_call|>[' }}" CALLS
     "{{ ', ' if not loop.first }}" OBJECT END "{{ ']<|/tool_call|>' }}{% endif %}",
     WITH_CONTENT | WITH_CALLS | WITH_BOTH_KINDS, ANSWER_OPENS_CONTENT},
    {"command-r", "command-r", "<|START_ACTION|> <|END_ACTION|> <|START_THINKING|> <|END_THINKING|>",
     "{% if reasoning %}{{ '<|START_THINKING|>' + reasoning + '<|END_THINKING|>' }}{% endif %}{{ content }}"
     "{% if tool_calls %}{{ '<|START_ACTION|>[\n' }}" CALLS
     "{{ ',\n' if not loop.first }}{{ '    {\"tool_call_id\": \"' ~ loop.index0 ~ '\", \"tool_name\": \"' + "
     "c.name + "
     "'\", \"parameters\": ' + c.arguments|tojson + '}' }}" END "{{ '\n]<|END_ACTION|>' }}{% endif %}",
     ALL, ANSWER_OPENS_CONTENT},
    {"functionary-v3.1", "none", "",
     "{{ content }}" CALLS "{{ '<function=' + c.name + '>' + c.arguments|tojson + '</function>' }}" END,
     WITH_CONTENT | WITH_CALLS | WITH_BOTH_KINDS, ANSWER_OPENS_CONTENT},
    {"functionary-v3.2", "none", "",
     "{% if content %}{{ 'all\n' + content }}{% endif %}" CALLS
     "{{ '>>>' if content or not loop.first }}{{ c.name + '\n' + c.arguments|tojson }}" END "{# >>>all #}",
     WITH_CONTENT | WITH_CALLS | WITH_BOTH_KINDS, ANSWER_OPENS_HEADER},
    {"llama3", "none", "<|python_tag|>",
     "{# <|python_tag|> #}{{ content }}" CALLS "{{ '; ' if not loop.first }}{{ '{\"name\": \"' + c.name + "
     "'\", \"parameters\": ' + c.arguments|tojson + '}' }}" END,
     WITH_CONTENT | WITH_CALLS, ANSWER_OPENS_CONTENT},
    {"pythonic", "none", "",
     "{# a python list of calls #}{{ content }}{% if tool_calls %}[" CALLS
     "{{ ', ' if not loop.first }}{{ c.name + '(' }}{% for k, v in c.arguments|items %}"
     "{{ ', ' if not loop.first }}{{ k + '=' }}{{ \"'\" + v + \"'\" if v is string else v }}{% endfor %}{{ "
     "')' }}" END "]{% endif %}",
     WITH_CONTENT | WITH_CALLS | PLAIN_STRINGS, ANSWER_OPENS_CONTENT},
};

// ---- random answers ----

static const char *const rich[] = {"a",    "b", "Z",  "0",        "12",
                                   "true", " ", " ",  "\n",       "\t",
                                   "\"",   "'", "\\", "{",        "}",
                                   "[",    "]", "</", ">",        "<",
                                   ",",    ":", "=",  "\xC3\xA9", "\xF0\x9F\x98\x80",
                                   "#",    "&", "|",  "None"};
static const char *const plain[] = {"a", "b", "Z", "0", "12", "true", " ",        "{",
                                    "}", "[", "<", ",", ":",  "=",    "\xC3\xA9", "#"};
static const char *const words[] = {"Look.", "at", "it",       "(12)", "**so**",
                                    "x < y", "\n", "\xC3\xA9", "\"a\""};

static void put_text(StrBuf *out, FuzzDice *dice, const char *const *parts, uint32_t n_parts, uint32_t most) {
    for (uint32_t left = 1 + fuzz_roll(dice, most); left > 0; left--)
        strbuf_put(out, str_from_c(parts[fuzz_roll(dice, n_parts)]));
}

static void put_string(JsonWriter *w, FuzzDice *dice, bool is_plain) {
    char text[256];
    StrBuf b = STRBUF(text);
    if (is_plain) put_text(&b, dice, plain, COUNT_OF(plain), 12);
    else put_text(&b, dice, rich, COUNT_OF(rich), 12);
    json_put_str(w, strbuf_str(&b));
}

static void put_value(JsonWriter *w, FuzzDice *dice, bool is_plain, uint32_t depth) {
    static const double numbers[] = {0.5, -1.25, 3, 1e-5};
    switch (fuzz_roll(dice, depth < 2 ? 6 : 4)) {
    case 0: put_string(w, dice, is_plain); break;
    case 1: json_put_i64(w, (int64_t)fuzz_roll(dice, 2000) - 1000); break;
    case 2: json_put_f64(w, numbers[fuzz_roll(dice, COUNT_OF(numbers))]); break;
    case 3: json_put_bool(w, fuzz_roll(dice, 2)); break;
    case 4:
        json_open_array(w);
        for (uint32_t left = fuzz_roll(dice, 3); left > 0; left--)
            put_value(w, dice, is_plain, depth + 1);
        json_close_array(w);
        break;
    default:
        json_open_object(w);
        for (uint32_t i = fuzz_roll(dice, 3); i > 0; i--) {
            json_key(w, i == 1 ? "k" : "key_two");
            put_value(w, dice, is_plain, depth + 1);
        }
        json_close_object(w);
        break;
    }
}

// Values of the types that the tools' schema gives the parameters.
static void put_arguments(JsonWriter *w, FuzzDice *dice, bool is_plain) {
    json_open_object(w);
    if (fuzz_roll(dice, 2)) json_member_i64(w, "count", (int64_t)fuzz_roll(dice, 100) - 50);
    if (fuzz_roll(dice, 2)) json_member_bool(w, "flag", fuzz_roll(dice, 2));
    if (fuzz_roll(dice, 2)) {
        json_key(w, "items");
        json_open_array(w);
        for (uint32_t left = fuzz_roll(dice, 3); left > 0; left--)
            put_value(w, dice, is_plain, 0);
        json_close_array(w);
    }
    if (fuzz_roll(dice, 2)) {
        json_key(w, "text");
        put_string(w, dice, is_plain);
    }
    if (fuzz_roll(dice, 3) == 0) json_member_null(w, "nothing");
    json_close_object(w);
}

static void put_words(JsonWriter *w, const char *key, FuzzDice *dice, bool present) {
    char text[256];
    StrBuf b = STRBUF(text);
    strbuf_put(&b, STR("Well,"));
    put_text(&b, dice, words, COUNT_OF(words), 5);
    strbuf_put(&b, STR("end"));
    json_member_str(w, key, present ? strbuf_str(&b) : STR(""));
}

// {"content", "reasoning", "tool_calls"}
static Str write_answer(const TemplateRow *row, FuzzDice *dice, Arena *arena) {
    static const char *const names[] = {"get", "get_weather", "now"};
    StrBuf out = strbuf_begin_in_arena(arena);
    JsonWriter w = json_writer_begin(&out);
    uint32_t n_calls = row->can & WITH_CALLS ? fuzz_roll(dice, CALLS_MAX + 1) : 0;
    bool content =
        (row->can & WITH_CONTENT) && (row->can & WITH_BOTH_KINDS ? fuzz_roll(dice, 2) : n_calls == 0);
    json_open_object(&w);
    put_words(&w, "content", dice, content);
    put_words(&w, "reasoning", dice, (row->can & WITH_REASONING) && fuzz_roll(dice, 2));
    json_key(&w, "tool_calls");
    json_open_array(&w);
    for (uint32_t i = 0; i < n_calls; i++) {
        json_open_object(&w);
        json_member_str(&w, "name", str_from_c(names[fuzz_roll(dice, COUNT_OF(names))]));
        json_key(&w, "arguments");
        put_arguments(&w, dice, row->can & PLAIN_STRINGS);
        json_close_object(&w);
    }
    json_close_array(&w);
    json_close_object(&w);
    return strbuf_end_in_arena(&out, arena);
}

// ---- back ----

typedef struct {
    char text[2][TEXT_BYTES], arguments[TEXT_BYTES];
    StrBuf content, reasoning, call;
    JsonWriter calls; // [{"name", "arguments"}]
    StrBuf calls_text;
} Found;

static void take_part(void *context, const AnswerPart *part) {
    Found *f = context;
    switch (part->kind) {
    case ANSWER_CONTENT: strbuf_put(&f->content, part->text); break;
    case ANSWER_REASONING: strbuf_put(&f->reasoning, part->text); break;
    case ANSWER_CALL:
        f->call = STRBUF(f->arguments);
        json_open_object(&f->calls);
        json_member_str(&f->calls, "name", part->text);
        break;
    case ANSWER_CALL_ARGUMENTS: strbuf_put(&f->call, part->text); break;
    case ANSWER_CALL_END:
        json_key(&f->calls, "arguments");
        json_put_raw(&f->calls, strbuf_str(&f->call));
        json_close_object(&f->calls);
        break;
    }
}

// The same JSON, written in one way.
static Str again(const JsonNode *node, Arena *arena) {
    StrBuf out = strbuf_begin_in_arena(arena);
    JsonWriter w = json_writer_begin(&out);
    json_put_node(&w, node);
    return strbuf_end_in_arena(&out, arena);
}

static Str text_of(const JsonNode *root, const char *key) {
    Str s = {0};
    REQUIRE(json_read_str(json_get(root, str_from_c(key)), &s));
    return s;
}

static void check_back(const AnswerRun *r, const JsonNode *said, Str written, Arena arena) {
    static Found f;
    static char calls_text[4 * TEXT_BYTES];
    Error err = {0};
    f.content = STRBUF(f.text[0]);
    f.reasoning = STRBUF(f.text[1]);
    f.calls_text = STRBUF(calls_text);
    f.calls = json_writer_begin(&f.calls_text);
    json_open_array(&f.calls);
    AnswerRunEnd end = answer_feed(r, written, (AnswerSink){take_part, &f});
    json_close_array(&f.calls);
    const JsonNode *expected = json_get(said, STR("tool_calls"));
    const JsonNode *calls = json_parse(strbuf_str(&f.calls_text), &arena, &(JsonLimits){0}, &err);
    bool ok = CHECK_INT_EQ(expected->length, end.calls) && CHECK(calls != NULL) &&
              CHECK_STR_EQ(again(expected, &arena), again(calls, &arena)) &&
              CHECK_STR_EQ(text_of(said, "content"), strbuf_str(&f.content)) &&
              CHECK_STR_EQ(text_of(said, "reasoning"), strbuf_str(&f.reasoning));
    if (!ok) printf("%.*s\n", STR_ARG(written));
}

static AnswerRun run_of(const TemplateRow *row, const char *marks, AnswerFormats *formats) {
    static const char tools[] = "{\"type\":\"object\",\"properties\":{\"text\":{\"type\":\"string\"},"
                                "\"count\":{\"type\":\"integer\"},"
                                "\"flag\":{\"type\":\"boolean\"},\"nothing\":{\"type\":[\"string\",\"null\"]}"
                                ",\"items\":{\"type\":\"array\"}}}";
    char json[2048];
    StrBuf b = STRBUF(json);
    Str source = str_from_c(row->source);
    Error err = {0};
    strbuf_printf(
        &b,
        "[{\"function\":{\"name\":\"get\",\"parameters\":%s}},{\"function\":{\"name\":\"get_weather\","
        "\"parameters\":%s}},{\"function\":{\"name\":\"now\",\"parameters\":%s}}]",
        tools, tools, tools);
    AnswerRun r = {.formats = formats, .tokenizer = answer_vocabulary(marks), .opening = row->opening};
    r.tools = answer_tools(strbuf_str(&b));
    REQUIRE(answer_formats_find(source, source, r.tokenizer, NULL, "auto", formats, &err));
    CHECK_STR_EQ(row->tools, answer_tool_format_name(formats));
    CHECK_STR_EQ(row->reasoning, answer_reasoning_format_name(formats));
    return r;
}

TEST(answer_templates_are_parsed_back) {
    Arena memory = os_arena(ARENA_BYTES);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        AnswerFormats formats[2];
        const AnswerRun runs[2] = {run_of(&rows[i], rows[i].marks, &formats[0]),
                                   run_of(&rows[i], "", &formats[1])};
        for (uint32_t round = 0; round < ROUNDS; round++) {
            TEST_CASE_LABEL("%s, template %zu, round %u", rows[i].tools, i, round);
            Arena arena = memory;
            FuzzDice dice = {.key = i << 32 | round};
            const Template *t;
            TemplateText written;
            Error err = {0};
            const JsonNode *said =
                json_parse(write_answer(&rows[i], &dice, &arena), &arena, &(JsonLimits){0}, &err);
            TemplateInput input = {.variables = said};
            REQUIRE(said != NULL);
            if (!CHECK(template_compile(str_from_c(rows[i].source), &arena, &t, &err) &&
                       template_render(t, &input, &arena, &written, &err))) {
                printf("%s\n", err.message);
                break;
            }
            AnswerRun r = runs[round % 2];
            r.seed = round;
            r.piece_max = round % 4 == 0 ? 0 : round % 8;
            check_back(&r, said, written.text, arena);
        }
    }
}
