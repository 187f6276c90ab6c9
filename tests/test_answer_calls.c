// Calls that have to be made: whatever is drawn from the grammar of a format is read back by the reader of
// answers as calls whose arguments meet the tools' schemas, and what the format's models write is among it.
#include "answer_run.h"
#include "chat/answer_grammar.h"
#include "chat/answer_internal.h"
#include "grammar/grammar_matcher.h"
#include "os/os.h"
#include "runner.h"
#include "schema_run.h"

#include <stdio.h>
#include <stdlib.h>

enum { TEXT_BYTES = 1 << 16, STEPS_MAX = 6000, CALLS_MAX = 16 };

// Strings that look like something else, names with escapes, text and others in one parameter.
#define LOOK                                                                                                 \
    "{\"type\":\"object\",\"properties\":{\"city\":{\"type\":\"string\",\"minLength\":1,\"maxLength\":40},"  \
    "\"days\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":120},\"either\":{\"type\":[\"string\","        \
    "\"integer\",\"boolean\",\"null\"],\"maxLength\":6},\"many\":{\"anyOf\":[{\"type\":\"string\","          \
    "\"maxLength\":9},{\"type\":\"array\",\"maxItems\":3,\"items\":{\"type\":\"string\",\"maxLength\":30}}," \
    "{\"type\":\"object\",\"properties\":{\"city\":{\"type\":\"integer\",\"maximum\":9,\"minimum\":0}},"     \
    "\"additionalProperties\":false}]},\"free\":{\"maxLength\":9},\"kind\":{\"enum\":[\"a\",\"</b>\",1,"     \
    "null,true]},\"set\":{\"type\":\"array\",\"uniqueItems\":true,\"items\":{\"enum\":[true,false,null,1,2." \
    "5]}},\"at\":{\"type\":\"object\",\"properties\":{\"x y\":{\"type\":\"number\"},\"z\":{\"type\":"        \
    "\"boolean\"}},\"required\":[\"x y\"],\"additionalProperties\":{\"type\":\"string\",\"maxLength\":5},"   \
    "\"maxProperties\":3}},\"required\":[\"city\",\"many\"],\"additionalProperties\":{\"type\":\"integer\"," \
    "\"minimum\":0}}"
#define SEEK                                                                                            \
    "{\"properties\":{\"id\":{\"type\":\"string\",\"pattern\":\"^[a-z<|/>]{2,12}$\"},\"to\":{\"type\":" \
    "\"string\",\"maxLength\":700}},\"required\":[\"id\"],\"additionalProperties\":false}"

#define NO_MEMBERS "{\"additionalProperties\":false}"

typedef struct {
    const char *name;
    const char *parameters; // NULL: the tool has none
    bool strict;            // without it, calls that are not forced may have any arguments
    const char *met;        // the schema that the arguments of all other calls meet
} ToolRow;

enum { TOOLS_MAX = 8 }; // the last has no name

static const ToolRow tools[TOOLS_MAX] = {
    {"look", LOOK, true, LOOK}, {"seek", SEEK, true, SEEK}, {"look_up", "{}", false, NO_MEMBERS}};

// Each is called with an empty object, which may have blanks in it where the format writes JSON.
static const ToolRow tools_without_parameters[TOOLS_MAX] = {
    {"absent", NULL, false, NO_MEMBERS},
    {"empty", "{}", false, NO_MEMBERS},
    {"usual", "{\"type\":\"object\",\"properties\":{},\"required\":[]}", false, NO_MEMBERS},
    {"closed", "{\"type\":\"object\",\"properties\":{},\"additionalProperties\":false}", true, NO_MEMBERS},
    {"noted",
     "{\"$schema\":\"https://json-schema.org/draft/2020-12/schema\",\"title\":\"Arguments\","
     "\"description\":\"None.\",\"type\":\"object\",\"properties\":{},\"$defs\":{\"a\":{}},\"$comment\":\"\","
     "\"$id\":\"none\",\"default\":{},\"definitions\":{},\"examples\":[{}]}",
     false, NO_MEMBERS},
    {"counted", "{\"type\":\"object\",\"maxProperties\":0}", false, NO_MEMBERS}};

typedef struct {
    const char *tools, *reasoning;
    const char *marks;
    AnswerOpening opening;
    const char *written[4]; // that models write
} FormatRow;

#define HARMONY_MARKS "<|start|> <|channel|> <|message|> <|constrain|> <|end|> <|call|> <|return|>"
#define ID_AB "{\"id\": \"ab\"}"

static const FormatRow rows[] = {
    {"harmony",
     "harmony",
     HARMONY_MARKS,
     ANSWER_OPENS_HEADER,
     {"<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary to=functions.seek "
      "<|constrain|>json<|message|>" ID_AB "<|call|>",
      " to=functions.seek<|channel|>commentary json<|message|>" ID_AB "<|call|>"}},
    {"gemma4",
     "gemma4",
     "<|tool_call> <tool_call|> <|\"|> <|channel> <channel|>",
     ANSWER_OPENS_CONTENT,
     {"<|tool_call>call:seek{id:<|\"|>ab<|\"|>}<tool_call|>",
      "<|channel>thought\nHm\n<channel|><|tool_call>call:look{city:<|\"|>San \"F\"<|\"|>,days:2,many:[<|\"|>x"
      "<|\"|>],kind:null}<tool_call|><|tool_call>call:seek{id:<|\"|>ab<|\"|>}<tool_call|>"}},
    {"deepseek-dsml",
     "think",
     "｜DSML｜ <think> </think>",
     ANSWER_OPENS_CONTENT,
     {"<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"look\">\n<｜DSML｜parameter name=\"city\" "
      "string=\"true\">A</｜DSML｜parameter>\n<｜DSML｜parameter name=\"days\" string=\"false\">2"
      "</｜DSML｜parameter>\n<｜DSML｜parameter name=\"many\" string=\"true\">[x</｜DSML｜parameter>\n"
      "</｜DSML｜invoke>\n</｜DSML｜function_calls>"}},
    {"deepseek",
     "think",
     "<｜tool▁calls▁begin｜> <｜tool▁calls▁end｜> <｜tool▁call▁begin｜> <｜tool▁call▁end｜> "
     "<｜tool▁sep｜> <think> </think>",
     ANSWER_OPENS_CONTENT,
     {"<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>seek\n```json\n" ID_AB
      "\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
      "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>seek<｜tool▁sep｜>" ID_AB
      "<｜tool▁call▁end｜><｜tool▁call▁begin｜>seek<｜tool▁sep｜>" ID_AB
      "<｜tool▁call▁end｜><｜tool▁calls▁end｜>"}},
    {"minimax-m2",
     "think",
     "<minimax:tool_call> </minimax:tool_call> <think> </think>",
     ANSWER_OPENS_REASONING,
     {"Hm\n</think>\n\n<minimax:tool_call>\n<invoke name=\"look\">\n<parameter name=\"city\">A</parameter>\n"
      "<parameter name=\"many\">[\"x\"]</parameter>\n</invoke>\n<invoke name=\"seek\">\n<parameter "
      "name=\"id\">ab</parameter>\n</invoke>\n</minimax:tool_call>"}},
    {"seed",
     "seed",
     "<seed:think> </seed:think> <seed:tool_call> </seed:tool_call>",
     ANSWER_OPENS_CONTENT,
     {"<seed:think>Hm</seed:think>\n<seed:tool_call>\n<function=seek>\n<parameter=id>ab</parameter>\n"
      "</function>\n</seed:tool_call>"}},
    {"qwen-xml",
     "think",
     "<tool_call> </tool_call> <think> </think>",
     ANSWER_OPENS_CONTENT,
     {"<tool_call>\n<function=seek>\n<parameter=id>\nab\n</parameter>\n<parameter=to>\n123 </para\n"
      "</parameter>\n</function>\n</tool_call>",
      "<think>Hm</think>\n\n<tool_call>\n<function=look>\n<parameter=city>\n12\n</parameter>\n"
      "<parameter=either>\n12\n</parameter>\n<parameter=many>\n{\"city\": 3}\n</parameter>\n"
      "<parameter=free>\nx\n</parameter>\n<parameter=at>\n{\"x y\": 1e3}\n</parameter>\n<parameter=more>\n7\n"
      "</parameter>\n</function>\n</tool_call>"}},
    {"glm",
     "think",
     "<tool_call> </tool_call> <think> </think> <arg_key> </arg_key> <arg_value> </arg_value>",
     ANSWER_OPENS_CONTENT,
     {"<think>Hm</think>\n<tool_call>look\n<arg_key>city</arg_key>\n<arg_value>A</arg_value>\n<arg_key>many"
      "</arg_key>\n<arg_value>[\"x\"]</arg_value>\n</tool_call>\n<tool_call>look_up\n</tool_call>"}},
    {"functionary-v3.2", "none", "", ANSWER_OPENS_HEADER, {"seek\n" ID_AB, "seek\n" ID_AB ">>>look_up\n{}"}},
    {"lfm2",
     "think",
     "<|tool_call_start|> <|tool_call_end|> <think> </think>",
     ANSWER_OPENS_CONTENT,
     {"<|tool_call_start|>[seek(id=\"ab\")]<|tool_call_end|>"}},
    {"pythonic",
     "none",
     "",
     ANSWER_OPENS_CONTENT,
     {"[look(city=\"A\", days=2, either=None, many=[\"x\\\"\"], kind=True, at={\"x y\": -1.5, \"z\": "
      "False})]",
      "[seek(id=\"ab\"), look_up()]"}},
    {"hermes",
     "think",
     "<tool_call> </tool_call> <think> </think>",
     ANSWER_OPENS_CONTENT,
     {"<tool_call>\n{\"name\": \"seek\", \"arguments\": " ID_AB "}\n</tool_call>"}},
    {"mistral",
     "mistral",
     "[TOOL_CALLS] [ARGS] [CALL_ID] [THINK] [/THINK]",
     ANSWER_OPENS_CONTENT,
     {"[THINK]Hm[/THINK][TOOL_CALLS]seek[ARGS]" ID_AB}},
    {"kimi-k2",
     "think",
     "<|tool_calls_section_begin|> <|tool_calls_section_end|> <|tool_call_begin|> "
     "<|tool_call_argument_begin|> <|tool_call_end|>",
     ANSWER_OPENS_CONTENT,
     {"<|tool_calls_section_begin|><|tool_call_begin|>functions.seek:0<|tool_call_argument_begin|>" ID_AB
      "<|tool_call_end|><|tool_calls_section_end|>"}},
    {"functionary-v3.1", "none", "", ANSWER_OPENS_CONTENT, {"<function=seek>" ID_AB "</function>"}},
    {"command-r",
     "none",
     "<|START_ACTION|> <|END_ACTION|>",
     ANSWER_OPENS_CONTENT,
     {"<|START_ACTION|>[{\"tool_name\": \"seek\", \"parameters\": " ID_AB "}]<|END_ACTION|>"}},
    {"llama3",
     "none",
     "<|python_tag|>",
     ANSWER_OPENS_CONTENT,
     {"{\"name\": \"seek\", \"parameters\": " ID_AB "}"}},
};

static Arena memory_of(int which) {
    static Arena arenas[5];
    if (!arenas[which].next) arenas[which] = os_arena(256u << 20);
    return arenas[which];
}

typedef struct {
    AnswerRun run;
    const ToolRow *tools;
    bool optional; // calls
    GrammarMatcher *matcher;
    uint32_t n_tokens;
    int32_t of_byte[256];
} Format;

static Str tools_text(const ToolRow *first) {
    static char memory[4096];
    StrBuf b = STRBUF(memory);
    for (const ToolRow *t = first; t->name; t++) {
        strbuf_printf(&b, "%c{\"type\":\"function\",\"function\":{\"name\":\"%s\",\"strict\":%s",
                      t == first ? '[' : ',', t->name, t->strict ? "true" : "false");
        if (t->parameters) strbuf_printf(&b, ",\"parameters\":%s", t->parameters);
        strbuf_put(&b, STR("}}"));
    }
    strbuf_put_char(&b, ']');
    return strbuf_str(&b);
}

// The grammar of calls in a row's format, with marks that are tokens or text.
static void prepare(const FormatRow *row, const ToolRow *called, bool marks_are_tokens, bool optional,
                    Format *out) {
    static AnswerFormats formats;
    static TokenTrie trie;
    Error err = {0};
    Arena nodes = memory_of(0), keep = memory_of(1), document = memory_of(3);
    const Grammar *grammar;
    GrammarNode root;
    *out = (Format){
        .run = {.formats = &formats, .opening = row->opening}, .tools = called, .optional = optional};
    out->run.tokenizer = answer_vocabulary(marks_are_tokens ? row->marks : "");
    out->run.tools = answer_tools(tools_text(called));
    REQUIRE(answer_formats_find((Str){0}, (Str){0}, out->run.tokenizer, row->tools, row->reasoning, &formats,
                                &err));
    AnswerGrammar frame = {&formats, out->run.tokenizer, row->opening};
    HeldCalls calls = {.tools = json_parse(tools_text(called), &document, &(JsonLimits){0}, &err),
                       .optional = optional};
    AnswerKind kind = optional ? ANSWER_MAY_CALL : ANSWER_IS_CALLS;
    SchemaOptions options = {.schema_order = true, .plain_numbers = true};
    GrammarBuilder *b = grammar_builder_new(&nodes);
    uint32_t n = tokenizer_vocab_size(out->run.tokenizer);
    bool ok = answer_grammar_calls(&frame, b, &calls, &options, &keep, memory_of(2), &root, &err) &&
              answer_grammar_after_reasoning(&frame, b, root, kind, &root, &err) &&
              grammar_compile(b, root, &keep, memory_of(2), &grammar, &err) &&
              token_trie_from_tokenizer(out->run.tokenizer, n, &keep, memory_of(2), &trie, &err) &&
              grammar_matcher_new(grammar, &trie, memory_of(4), &out->matcher, &err);
    if (!ok) printf("%s\n", err.message);
    REQUIRE(ok);
    out->n_tokens = n;
    for (uint32_t id = 0; id < n; id++) {
        Str piece = tokenizer_piece(out->run.tokenizer, (int32_t)id, false);
        if (piece.len == 1) out->of_byte[(uint8_t)piece.ptr[0]] = (int32_t)id;
    }
}

// ---- what is read ----

typedef struct {
    StrBuf content;
    uint32_t n_calls;
    bool broken;
    struct {
        char memory[TEXT_BYTES];
        StrBuf arguments;
        char name[64];
    } calls[CALLS_MAX];
} Read;

static void take_part(void *context, const AnswerPart *part) {
    Read *r = context;
    if (part->kind == ANSWER_CONTENT) strbuf_put(&r->content, part->text);
    if (part->kind < ANSWER_CALL || !CHECK(part->call < CALLS_MAX)) return;
    if (part->kind == ANSWER_CALL) {
        snprintf(r->calls[part->call].name, sizeof r->calls[0].name, "%.*s", STR_ARG(part->text));
        r->calls[part->call].arguments = STRBUF(r->calls[part->call].memory);
    }
    if (part->kind == ANSWER_CALL_ARGUMENTS) strbuf_put(&r->calls[part->call].arguments, part->text);
    r->broken = r->broken || part->broken;
    if (part->kind == ANSWER_CALL_END) r->n_calls++;
}

static bool meets(const Format *f, const char *name, Str arguments) {
    SchemaRun run;
    SchemaOptions options = {.blanks = SCHEMA_BLANKS_ANY};
    const ToolRow *tool = f->tools;
    while (tool->name && strcmp(name, tool->name) != 0)
        tool++;
    const char *schema = f->optional && !tool->strict ? "{}" : tool->met;
    return tool->name && CHECK(schema_run_compile(&run, str_from_c(schema), &options)) &&
           schema_run_takes(&run, arguments);
}

static const Read *read_tokens(const Format *f, const int32_t *tokens, uint32_t n, bool is_cut) {
    static AnswerParser *parser;
    static Read read;
    static char content[TEXT_BYTES];
    if (!parser) {
        Arena arena = os_arena(answer_parser_bytes());
        parser = answer_parser_create(&arena);
    }
    read.n_calls = 0;
    read.broken = false;
    read.content = STRBUF(content);
    AnswerSink sink = {take_part, &read};
    answer_parser_begin(parser, f->run.formats, f->run.tokenizer, f->run.tools, f->run.opening);
    for (uint32_t i = 0; i < n; i++) {
        if (answer_is_mark(f->run.formats, tokens[i])) answer_parser_push_mark(parser, tokens[i], sink);
        else answer_parser_push(parser, tokenizer_piece(f->run.tokenizer, tokens[i], false), sink);
    }
    answer_parser_end(parser, is_cut, sink);
    return &read;
}

static void check_tokens(const Format *f, const int32_t *tokens, uint32_t n, Str text) {
    const Read *read = read_tokens(f, tokens, n, false);
    bool ok = CHECK(!read->broken);
    if (!f->optional) ok = ok && CHECK(read->n_calls > 0) && CHECK_STR_EQ("", strbuf_str(&read->content));
    for (uint32_t i = 0; ok && i < read->n_calls; i++) {
        Str arguments = strbuf_str(&read->calls[i].arguments);
        ok = CHECK(meets(f, read->calls[i].name, arguments));
        if (!ok) printf("%s %.*s\n", read->calls[i].name, STR_ARG(arguments));
    }
    if (!ok) printf("%.*s\n", STR_ARG(text));
}

// ---- random answers ----

static bool may_come(const uint32_t *mask, uint32_t token) {
    return mask[token / 32] >> (token % 32) & 1;
}

// Mostly what leads on in some format, else anything.
static uint32_t draw(const Format *f, const uint32_t *mask, uint64_t seed, uint32_t step) {
    static const char usual[] = "\"\"\"}])<</>|,,=:{[([ \n\\u0123456789aeilnrstTFN";
    for (uint32_t i = 0; i < 64; i++) {
        RngBlock r = rng_philox(seed, (uint64_t)step << 8 | i);
        uint32_t token = r.word[0] % f->n_tokens;
        if (r.word[1] % 8 < 3) token = (uint32_t)f->of_byte[(uint8_t)usual[r.word[2] % (sizeof usual - 1)]];
        else if (r.word[1] % 8 < 6 && f->run.formats->n_marks)
            token = (uint32_t)f->run.formats->marks[r.word[2] % f->run.formats->n_marks];
        if (may_come(mask, token)) return token;
    }
    uint32_t token = 0;
    while (token < f->n_tokens && !may_come(mask, token))
        token++;
    REQUIRE(token < f->n_tokens);
    return token;
}

static bool draw_answer(const Format *f, uint64_t seed) {
    static int32_t tokens[STEPS_MAX];
    static char memory[TEXT_BYTES];
    StrBuf text = STRBUF(memory);
    GrammarState state = grammar_start(f->matcher);
    for (uint32_t n = 0; n < STEPS_MAX; n++) {
        bool ends = grammar_may_end(f->matcher, state) && rng_philox(seed, n).word[3] % 2;
        const uint32_t *mask = ends ? NULL : grammar_mask(f->matcher, state);
        bool any = false;
        for (uint32_t i = 0; mask && i < f->n_tokens; i++)
            any = any || may_come(mask, i);
        if (any) tokens[n] = (int32_t)draw(f, mask, seed, n);
        if (!any || tokenizer_is_end(f->run.tokenizer, tokens[n])) {
            REQUIRE(grammar_may_end(f->matcher, state));
            check_tokens(f, tokens, n, strbuf_str(&text));
            return true;
        }
        strbuf_put(&text, tokenizer_piece(f->run.tokenizer, tokens[n], true));
        state = grammar_step(f->matcher, state, tokens[n]);
        REQUIRE(grammar_is_state(state));
    }
    return false;
}

// ---- answers that models write ----

// Wherever max_tokens cuts it, no part of a mark or of a frame is content. (Calls without marks may be.)
static void check_cuts(const Format *f, const int32_t *tokens, uint32_t n, Str text) {
    if (text.ptr[0] == '[' || text.ptr[0] == '{') return;
    for (uint32_t cut = 0; cut < n; cut++) {
        const Read *read = read_tokens(f, tokens, cut, true);
        if (!CHECK_STR_EQ("", strbuf_str(&read->content))) printf("%u tokens of %.*s\n", cut, STR_ARG(text));
    }
}

static void check_written(const Format *f, Str text) {
    static int32_t tokens[STEPS_MAX];
    GrammarState state = grammar_start(f->matcher);
    uint32_t n = 0;
    for (size_t at = 0; at < text.len; n++) {
        tokens[n] = f->of_byte[(uint8_t)text.ptr[at]];
        size_t length = 1;
        for (uint32_t i = 0; i < f->run.formats->n_marks; i++) {
            int32_t mark = f->run.formats->marks[i];
            Str piece = tokenizer_piece(f->run.tokenizer, mark, true);
            if (str_starts_with(str_slice(text, at, text.len), piece)) tokens[n] = mark, length = piece.len;
        }
        at += length;
        bool ends = tokenizer_is_end(f->run.tokenizer, tokens[n]);
        if (ends && CHECK(grammar_may_end(f->matcher, state) && at == text.len)) break;
        GrammarState next = grammar_step(f->matcher, state, tokens[n]);
        if (!CHECK(grammar_is_state(next))) {
            printf("at %zu of %.*s\n", at, STR_ARG(text));
            return;
        }
        state = next;
    }
    CHECK(grammar_may_end(f->matcher, state));
    check_tokens(f, tokens, n, text);
    if (!f->optional) check_cuts(f, tokens, n, text);
}

static uint64_t number_of(const char *name, uint64_t otherwise) {
    uint64_t value;
    return str_parse_u64(str_from_c(getenv(name)), &value) ? value : otherwise;
}

TEST(answer_calls_that_are_forced_are_calls) {
    uint64_t first = number_of("CALLS_SEED", 1) * 1000003;
    uint32_t rounds = (uint32_t)number_of("CALLS_ROUNDS", 1), ended = 0, drawn = 0;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        for (int as_tokens = 1; as_tokens >= 0; as_tokens--) {
            Format f;
            TEST_CASE_LABEL("%s, marks are %s", rows[i].tools, as_tokens ? "tokens" : "text");
            // Mistral's, where there is no mark behind names.
            bool writes_lists = !as_tokens && strcmp(rows[i].tools, "mistral") == 0;
            prepare(&rows[i], tools, as_tokens, false, &f);
            for (uint32_t k = 0; k < 4 && rows[i].written[k] && !writes_lists; k++)
                check_written(&f, str_from_c(rows[i].written[k]));
            for (uint32_t k = 0; k < rounds; k++, drawn++)
                ended += draw_answer(&f, first + i * 1009 + k * 2 + (uint32_t)as_tokens);
        }
    }
    printf("%u of %u answers ended\n", ended, drawn);
    CHECK(2 * ended > drawn);
}

// In every format that there is.
TEST(answer_calls_without_parameters_have_no_members) {
    uint64_t first = number_of("CALLS_SEED", 1) * 1000003;
    uint32_t rounds = (uint32_t)number_of("CALLS_ROUNDS", 1) * 2, ended = 0, drawn = 0;
    const ToolFormat *t;
    for (uint32_t i = 0; (t = answer_tool_format(i)) != NULL; i++) {
        for (int as_tokens = 1; as_tokens >= 0; as_tokens--) {
            char marks[512] = "";
            StrBuf b = STRBUF(marks);
            bool has_header = t->shape == CALLS_HARMONY || t->content_name;
            FormatRow row = {.tools = t->name,
                             .reasoning = t->shape == CALLS_HARMONY ? "harmony" : "none",
                             .marks = marks,
                             .opening = has_header ? ANSWER_OPENS_HEADER : ANSWER_OPENS_CONTENT};
            for (uint32_t k = 0; k < FORMAT_MARKS_MAX && t->marks[k]; k++)
                strbuf_printf(&b, "%s%s", k ? " " : "", t->marks[k]);
            TEST_CASE_LABEL("%s, marks are %s", t->name, as_tokens ? "tokens" : "text");
            Format f;
            prepare(&row, tools_without_parameters, as_tokens, false, &f);
            for (uint32_t k = 0; k < rounds; k++, drawn++)
                ended += draw_answer(&f, first + i * 1009 + k * 2 + (uint32_t)as_tokens);
        }
    }
    printf("%u of %u answers ended\n", ended, drawn);
    CHECK(2 * ended > drawn);
}

// ---- calls that may be made ----

// Whether a call of the row comes behind text that begins so.
static void check_text_and_call(const Format *f, const FormatRow *row) {
    char memory[1024];
    StrBuf text = STRBUF(memory);
    Str call = str_from_c(row->written[0]);
    bool is_harmony = row->opening == ANSWER_OPENS_HEADER && f->run.formats->reasoning;
    const char *head = is_harmony                               ? "<|channel|>final<|message|>"
                       : row->opening == ANSWER_OPENS_HEADER    ? "all\n"
                       : row->opening == ANSWER_OPENS_REASONING ? "Hm\n</think>"
                                                                : "";
    strbuf_printf(&text, "%sWell, <b> 1 > 0 {[", head);
    check_written(f, strbuf_str(&text));
    bool is_bare = call.ptr[0] == '[' || call.ptr[0] == '{';
    if (is_harmony || is_bare || row->opening == ANSWER_OPENS_REASONING ||
        memmem(call.ptr, call.len, "Hm", 2))
        return;
    strbuf_printf(&text, "%s%.*s", row->opening == ANSWER_OPENS_HEADER ? ">>>" : "", STR_ARG(call));
    check_written(f, strbuf_str(&text));
}

// Text as well as calls; what is read as a call of a strict tool meets its schema.
TEST(answer_calls_that_may_be_made_meet_their_schemas) {
    uint64_t first = number_of("CALLS_SEED", 1) * 1000003;
    uint32_t rounds = (uint32_t)number_of("CALLS_ROUNDS", 1), ended = 0, drawn = 0;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        for (int as_tokens = 1; as_tokens >= 0; as_tokens--) {
            Format f;
            TEST_CASE_LABEL("%s, marks are %s", rows[i].tools, as_tokens ? "tokens" : "text");
            bool writes_lists = !as_tokens && strcmp(rows[i].tools, "mistral") == 0;
            prepare(&rows[i], tools, as_tokens, true, &f);
            for (uint32_t k = 0; k < 4 && rows[i].written[k] && !writes_lists; k++)
                check_written(&f, str_from_c(rows[i].written[k]));
            if (!writes_lists) check_text_and_call(&f, &rows[i]);
            for (uint32_t k = 0; k < rounds; k++, drawn++)
                ended += draw_answer(&f, first + i * 1009 + k * 2 + (uint32_t)as_tokens);
        }
    }
    printf("%u of %u answers ended\n", ended, drawn);
    CHECK(2 * ended > drawn);
}
