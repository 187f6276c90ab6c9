// Chat templates: against what jinja2 makes of them (vectors/template), whose text is whose, and their
// bounds.
#include "base/strbuf.h"
#include "os/os.h"
#include "runner.h"
#include "template/template.h"

#include <stdio.h>
#include <time.h>

enum { ARENA_MB = 64 };

static const uint64_t NOW_MS = 1700000000000;
static const TemplateConstant CONSTANTS[] = {{"bos_token", STR("<s>")}, {"eos_token", STR("</s>")}};

static Arena arena_of_mb(size_t mb) {
    Arena arena = os_arena(mb << 20);
    REQUIRE(arena.next != NULL);
    return arena;
}

static bool render_in(Str source, const JsonNode *variables, Arena *arena, TemplateText *out, Error *err) {
    const Template *t;
    TemplateInput input = {.variables = variables,
                           .constants = CONSTANTS,
                           .n_constants = COUNT_OF(CONSTANTS),
                           .unix_ms = NOW_MS};
    return template_compile(source, arena, &t, err) && template_render(t, &input, arena, out, err);
}

// With variables as JSON.
static bool render(const char *source, const char *variables, Arena *arena, TemplateText *out, Error *err) {
    const JsonNode *node = json_parse(str_from_c(variables), arena, &(JsonLimits){0}, err);
    REQUIRE(node != NULL);
    return render_in(str_from_c(source), node, arena, out, err);
}

TEST(template_renders_as_jinja2) {
    Arena arena = arena_of_mb(512);
    Str text;
    Error err;
    REQUIRE(os_file_read(test_data_path("vectors/template/random.jsonl"), 4 << 20, &arena, &text, &err));
    const JsonNode *variables = NULL;
    for (size_t at = 0, line = 1; at < text.len; line++) {
        const char *end = memchr(text.ptr + at, '\n', text.len - at);
        REQUIRE(end != NULL);
        TEST_CASE_LABEL("line %zu", line);
        const JsonNode *node =
            json_parse((Str){text.ptr + at, (size_t)(end - text.ptr) - at}, &arena, &(JsonLimits){0}, &err);
        REQUIRE(node != NULL);
        at = (size_t)(end - text.ptr) + 1;
        if (line == 1) {
            variables = json_get(node, STR("variables"));
            continue;
        }
        Str source, expected;
        TemplateText out;
        Arena scratch = arena;
        REQUIRE(json_read_str(json_get(node, STR("template")), &source));
        bool renders = json_read_str(json_get(node, STR("text")), &expected);
        if (!CHECK(render_in(source, variables, &scratch, &out, &err) == renders))
            printf("%s\n", err.message);
        else if (renders) CHECK_STR_EQ(expected, out.text);
    }
}

// Which parts of a rendered text the request wrote: those in brackets.
static const struct {
    const char *name, *source, *expected;
} origin_rows[] = {
    {"text and variable", "<|im_start|>{{ x }}<|im_end|>", "<|im_start|>[<a>]<|im_end|>"},
    {"constant", "{{ bos_token ~ x }}", "<s>[<a>]"},
    {"concatenation and slices", "{{ ('<b>' ~ x)[1:5] }}", "b>[<a]"},
    {"upper", "{{ ('b' ~ x)|upper }}", "B[<A>]"},
    {"replace", "{{ x|replace('a', '<c>') }}", "[<]<c>[>]"},
    {"replacement by input", "{{ '<a>'|replace('a', x) }}", "<[<a>]>"},
    {"join", "{{ ['<b>', x]|join('<j>') }}", "<b><j>[<a>]"},
    {"format", "{{ '<%s>' % x }}", "<[<a>]>"},
    {"str.format", "{{ '<{}>'.format(x) }}", "<[<a>]>"},
    {"json", "{{ {'k': x}|tojson }}", "{\"k\": [\"<a>\"]}"},
    {"json of input", "{{ m|tojson }}", "{[\"<k>\"]: [\"<v>\"]}"},
    {"repr", "{{ [x] }}", "[['<a>']]"},
    {"split and strip", "{{ ('<t>  ' ~ x).split()[1].strip('<') }}", "[a>]"},
    {"block set", "{% set y %}<{{ x }}{% endset %}{{ y }}", "<[<a>]"},
    {"macro", "{% macro f(v) %}<{{ v }}>{% endmacro %}{{ f(x) }}", "<[<a>]>"},
    {"filter block", "{% filter trim %} <{{ x }} {% endfilter %}", "<[<a>]"},
    {"characters", "{% for c in x %}{{ c }}|{% endfor %}", "[<]|[a]|[>]|"},
    {"namespace", "{% set n = namespace(s='<') %}{% set n.s = n.s + x %}{{ n.s }}", "<[<a>]"},
    {"key", "{% for k in m %}{{ k }}{% endfor %}", "[<k>]"},
};

TEST(template_tells_its_text_from_the_requests) {
    for (size_t i = 0; i < COUNT_OF(origin_rows); i++) {
        TEST_CASE_LABEL("%s", origin_rows[i].name);
        Arena arena = arena_of_mb(ARENA_MB);
        TemplateText out;
        Error err;
        if (!CHECK(render(origin_rows[i].source, "{\"x\":\"<a>\",\"m\":{\"<k>\":\"<v>\"}}", &arena, &out,
                          &err))) {
            printf("%s\n", err.message);
            continue;
        }
        char shown[256];
        size_t used = 0, at = 0;
        for (uint32_t k = 0; k < out.n_spans; k++) {
            const char *format = out.spans[k].from_request ? "[%.*s]" : "%.*s";
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
            used += (size_t)snprintf(shown + used, sizeof shown - used, format, (int)out.spans[k].length,
                                     out.text.ptr + at);
#pragma GCC diagnostic pop
            at += out.spans[k].length;
            CHECK(k == 0 || out.spans[k].from_request != out.spans[k - 1].from_request);
        }
        CHECK_INT_EQ(out.text.len, at);
        CHECK_STR_EQ(origin_rows[i].expected, (const char *)shown);
    }
}

// Expected: jinja2 3.1.6, markupsafe 3.0.3, Python 3.11.
static const struct {
    const char *source, *expected;
} value_rows[] = {
    {"{{ x|e + '<' }}", "&lt;a&gt;&lt;"},
    {"{{ '<' + x|e }}", "&lt;&lt;a&gt;"},
    {"{{ (x|e).upper() is escaped }}{{ (x|e)|trim is escaped }}{{ (x|e)[::-1] is escaped }}", "TrueTrueTrue"},
    {"{{ x|e ~ '<' }}{{ (x|e ~ '') is escaped }}", "&lt;a&gt;<False"},
    {"{{ (x|e).replace('a', '<') }}", "&lt;&lt;&gt;"},
    {"{{ ('<%s>'|safe) % x }}{{ '<{}>'|safe|string }}{{ ('<{}>'|safe).format(x) }}",
     "<&lt;a&gt;><{}><&lt;a&gt;>"},
    {"{{ ('<'|safe).join(['>', 'b']) }}{{ ['<', 'b']|join('>'|safe) }}", "&gt;<b<>b"},
    {"{{ (x|e * 2) is escaped }}{{ (x|e).split('a') }}", "True[Markup('&lt;'), Markup('&gt;')]"},
    {"{% if 0 %}{{ 1|nosuch }}{% endif %}{{ (1 if 1 else 2|nosuch) }}{{ (x is nosuch) if 0 }}", "1"},
    {"{{ 'Stra\\u00dfe \\u03a3\\u03a3 \\u0131 \\u1e9e \\uab70'.casefold() }}",
     "strasse \u03c3\u03c3 \u0131 ss \u13a0"},
    {"{{ m[] }}", ""},
};

TEST(template_values_are_as_in_python) {
    for (size_t i = 0; i < COUNT_OF(value_rows); i++) {
        TEST_CASE_LABEL("%s", value_rows[i].source);
        Arena arena = arena_of_mb(ARENA_MB);
        TemplateText out;
        Error err;
        if (!CHECK(render(value_rows[i].source, "{\"x\":\"<a>\",\"m\":{}}", &arena, &out, &err)))
            printf("%s\n", err.message);
        else CHECK_STR_EQ(value_rows[i].expected, out.text);
    }
}

static const struct {
    const char *source, *message;
} error_rows[] = {
    {"{% if x %}", "line 1: the template ends within a block; expected 'elif'"},
    {"a\n{{ x", "line 2: a tag has no end"},
    {"{{ 'x }}", "line 1: a string has no end"},
    {"{# x", "line 1: a comment has no end"},
    {"{% raw %}x", "line 1: a raw block has no end"},
    {"{{ (x] }}", "line 1: a bracket closes what is not open"},
    {"{{ x | nosuch }}", "line 1: there is no filter 'nosuch'"},
    {"{{ x is nosuch }}", "line 1: there is no test 'nosuch'"},
    {"{{ (x is nosuch) if 0 }}{% for i in [1] %}{{ x | nosuch }}{% endfor %}",
     "line 1: there is no filter 'nosuch'"},
    {"{% if 0 %}{{ 1 | nosuch }}{% else %}\n{{ x is nosuch }}{% endif %}",
     "line 2: there is no test 'nosuch'"},
    {"{% if 1 %}{% for i in [] %}{{ i | nosuch }}{% endfor %}{% endif %}",
     "line 1: there is no filter 'nosuch'"},
    {"{{ f(**x, a=1) }}", "line 1: invalid syntax for function call expression"},
    {"{{ 1e20|int }}", "line 1: an integer beyond 64 bits"},
    {"{% include 'x' %}", "line 1: the tag 'include' is not known or not supported"},
    {"{% break %}", "line 1: outside of a loop"},
    {"{{ 99999999999999999999 }}", "line 1: a number is too large"},
    {"{% set 1 = 2 %}", "line 1: this cannot be assigned to"},
    {"{{ raise_exception('No system role!') }}", "line 1: No system role!"},
    {"\n\n{{ a.b.c }}", "line 3: 'b' is undefined"},
    {"{{ a['b'].c }}", "line 1: 'b' is undefined"},
    {"{{ a['b'] + 1 }}", "line 1: 'b' is undefined"},
    {"{{ [1][5].c }}", "line 1: '[5]' is undefined"},
    {"{{ a[none].c }}", "line 1: 'the item' is undefined"},
    {"{{ a['aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\u00e9'].c }}",
     "line 1: 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' is undefined"},
    {"{% for i in 5 %}{% endfor %}", "line 1: 'int' object is not iterable"},
    {"{{ 1 / 0 }}", "line 1: division by zero"},
    {"{{ 'a' + 1 }}", "line 1: unsupported operand types for +: 'str' and 'int'"},
    {"{{ [].append(1) }}", "line 1: 'append' is undefined"},
    {"{{ a.pop('x') }}", "line 1: 'pop' is undefined"},
    {"{{ lipsum() }}", "line 1: lipsum() is random, which templates may not be"},
    // bounds
    {"{% for i in range(100001) %}{% endfor %}", "line 1: range() of more than 100000 numbers"},
    {"{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}",
     "the template needs more memory than it may have"},
    {"{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "line 1: expressions are nested too deep"},
    {"{{ 'x' * 99999999 * 99999999 }}", "line 1: a product that is too long"},
    {"{% set n = namespace(s='xxxxxxxx') %}{% for i in range(60) %}{% set n.s = n.s + n.s %}{% endfor %}",
     "the template needs more memory than it may have"},
    {"{{ 9223372036854775807 + 1 }}", "line 1: an integer beyond 64 bits"},
    {"{{ '%999999999d' % 1 }}", "line 1: a format's width or precision is too large"},
};

TEST(template_errors_name_line_and_reason) {
    for (size_t i = 0; i < COUNT_OF(error_rows); i++) {
        TEST_CASE_LABEL("%s", error_rows[i].source);
        Arena arena = arena_of_mb(ARENA_MB);
        TemplateText out;
        Error err;
        CHECK(!render(error_rows[i].source, "{\"x\":1,\"a\":{}}", &arena, &out, &err));
        CHECK_STR_EQ(error_rows[i].message, (const char *)err.message);
    }
}

TEST(template_steps_are_bounded) {
    static const char source[] = "{% for i in range(100) %}{% for j in range(100) %}{% endfor %}{% endfor %}";
    Arena arena = arena_of_mb(ARENA_MB);
    const Template *t;
    TemplateText out;
    Error err;
    REQUIRE(template_compile(str_from_c(source), &arena, &t, &err));
    CHECK(template_render(t, &(TemplateInput){.steps_max = 100000}, &arena, &out, &err));
    CHECK(!template_render(t, &(TemplateInput){.steps_max = 10000}, &arena, &out, &err));
    CHECK_STR_EQ("line 1: the template takes too many steps", (const char *)err.message);
}

// What is done with a long text takes as many steps as it takes time: a thousand times 64 KiB are too much.
TEST(template_steps_count_texts) {
    static const char *const rows[] = {
        "s.isalpha()",        "s.islower()",  "s.strip('x')", "s.lstrip('a')", "s.startswith(s)",
        "s is lower",         "s|trim",       "s|int(0)",     "s.rfind(part)", "s.rsplit(part)",
        "s.rpartition(part)", "s.find(part)", "s|length"};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i]);
        Arena arena = arena_of_mb(ARENA_MB);
        const Template *t;
        TemplateText out;
        Error err;
        char source[256];
        snprintf(source, sizeof source,
                 "{%% set s = 'a' * 65536 %%}{%% set part = 'b' ~ 'a' * 8000 %%}"
                 "{%% for i in range(1000) %%}{%% if %s %%}{%% endif %%}{%% endfor %%}",
                 rows[i]);
        REQUIRE(template_compile(str_from_c(source), &arena, &t, &err));
        CHECK(!template_render(t, &(TemplateInput){.steps_max = 1000000}, &arena, &out, &err));
        CHECK_STR_EQ("line 1: the template takes too many steps", (const char *)err.message);
    }
}

// Looking from the end, too, where each place almost is what is looked for.
TEST(template_steps_count_what_is_almost_found) {
    static const char source[] = "{% set s = 'a' * 500000 %}{{ s.rfind('a' * 250000 ~ 'b') }}";
    Arena arena = arena_of_mb(ARENA_MB);
    TemplateText out;
    Error err;
    CHECK(!render(source, "{}", &arena, &out, &err));
    CHECK_STR_EQ("line 1: the template takes too many steps", (const char *)err.message);
    CHECK(render("{{ 'abcabca'.rfind('bca') }} {{ 'aaa'.rfind('aa') }} {{ 'aab'.rfind('b') }} "
                 "{{ 'ab'.rfind('abc') }} {{ 'ab'.rfind('') }} {{ ''.rfind('') }} {{ 'a'.rfind('a') }}",
                 "{}", &arena, &out, &err));
    CHECK_STR_EQ("4 1 2 -1 2 0 0", out.text);
}

// What each step takes, in processor time: not much more than one of a plain loop, whatever is done. Rows
// are done in a loop with `text` of 65,536 bytes, `texts` of 1,000 equal ones, `long` of 4 MiB, a `dict`
// of 1,000 members.
static const char *const slow_rows[] = {"texts == texts2",
                                        "long == long2",
                                        "text in texts",
                                        "long < long2",
                                        "long[1:] is none",
                                        "long[-1] is none",
                                        "texts|sort(case_sensitive=true) is none",
                                        "texts|unique(case_sensitive=true)|list is none",
                                        "(' ' * 65536)|int",
                                        "text.strip(text) is none",
                                        "longdict[long2]",
                                        "dict == dict2",
                                        "dict.k999",
                                        "dict['k999']",
                                        "text|tojson is none",
                                        "[text]|string is none",
                                        "dict|tojson(sort_keys=true) is none",
                                        "text.isalpha()",
                                        "'\u00df'.__len__ or ('\u00df' * 20000).upper()",
                                        "long.count('a')",
                                        "texts|join is none",
                                        "(list + list) is none",
                                        "list[::-1] is none",
                                        "('-' * 60000)|wordwrap(3) is none",
                                        "('&xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' * 2000)|striptags is none",
                                        "('www.a.com/(x) ' * 5000)|urlize is none",
                                        "('<!-- x --><b>' * 5000)|striptags is none",
                                        "f()",
                                        "text % ()",
                                        "[1.1e300, 2.2e-300]|string is none",
                                        "1.1|round(300)",
                                        "strftime_now('%c') is none"};

static double render_ns_a_step(const char *condition, Arena fixed, const JsonNode *variables) {
    static char source[64 << 10];
    const Template *t;
    TemplateText out;
    Error err;
    size_t used = (size_t)snprintf(source, sizeof source, "{%% macro f() %%}{%% if 0 %%}");
    for (int i = 0; i < 5000; i++) // a body that is long, and of which little is done
        used += (size_t)snprintf(source + used, sizeof source - used, "{{x}}");
    snprintf(source + used, sizeof source - used,
             "{%% endif %%}{%% endmacro %%}{%% set text = 'a' * 65536 %%}{%% set long = text * 64 %%}"
             "{%% set long2 = text * 63 ~ text %%}{%% set texts = [text] * 1000 %%}"
             "{%% set texts2 = [text[1:] ~ 'a'] * 1000 %%}{%% set longdict = {long: 1} %%}"
             "{%% set list = range(10000)|list %%}{%% for i in range(90000) %%}{%% for j in range(90000) %%}"
             "{%% if %s %%}{%% endif %%}{%% endfor %%}{%% endfor %%}",
             condition);
    Arena arena = arena_of_mb(1024);
    void *start = arena.next;
    REQUIRE(template_compile(str_from_c(source), &fixed, &t, &err));
    clock_t begin = clock();
    CHECK(!template_render(t, &(TemplateInput){.variables = variables, .steps_max = 2000000}, &arena, &out,
                           &err));
    double ns = (double)(clock() - begin) / CLOCKS_PER_SEC * 1e9 / 2000000;
    CHECK_STR_EQ("line 1: the template takes too many steps", (const char *)err.message);
    os_release(start, (size_t)1024 << 20);
    return ns;
}

TEST(template_steps_bound_the_time) {
    if (test_is_sanitized()) SKIP("a sanitizer makes some steps slower than others");
    Arena arena = arena_of_mb(ARENA_MB);
    StrBuf json = strbuf_begin_in_arena(&arena);
    Error err;
    for (int k = 0; k < 2; k++) {
        strbuf_printf(&json, k ? ",\"dict2\":{" : "{\"dict\":{");
        for (int i = 0; i < 1000; i++)
            strbuf_printf(&json, "%s\"k%d\":1", i ? "," : "", k ? 999 - i : i);
        strbuf_put(&json, STR("}"));
    }
    strbuf_put(&json, STR("}"));
    const JsonNode *variables =
        json_parse(strbuf_end_in_arena(&json, &arena), &arena, &(JsonLimits){0}, &err);
    REQUIRE(variables != NULL);
    double plain = render_ns_a_step("i + j", arena, variables);
    for (size_t i = 0; i < COUNT_OF(slow_rows); i++) {
        TEST_CASE_LABEL("%s", slow_rows[i]);
        double ns = render_ns_a_step(slow_rows[i], arena, variables);
        printf("%6.1f ns a step: %s\n", ns, slow_rows[i]);
        CHECK(ns < 25 * plain);
    }
}

// A long conversation renders within what template.h says of memory and steps.
TEST(template_renders_long_conversations) {
    static const char source[] =
        "{% set ns = namespace(last=0) %}{% for m in messages[::-1] %}{% if m['role'] == 'user' %}"
        "{% set ns.last = loop.index0 %}{% endif %}{% endfor %}{% for m in messages[1:] %}<|im_start|>{{ "
        "m.role }}\n"
        "{% if '</think>' in m.content %}{{ m.content.split('</think>')[-1].lstrip('\\n') }}"
        "{% else %}{{ m.content|trim }}{% endif %}{% if m.tool_calls is defined %}{{ m.tool_calls|tojson "
        "}}{% endif %}"
        "{{ '<|im_end|>' + '\n' }}{% endfor %}";
    enum { MESSAGES = 10000, BYTES = 1000 };
    Arena arena = arena_of_mb(256);
    StrBuf json = strbuf_begin_in_arena(&arena);
    Error err;
    char content[BYTES + 1];
    memset(content, 'a', BYTES);
    content[BYTES] = 0;
    strbuf_put(&json, STR("{\"messages\":["));
    for (int i = 0; i < MESSAGES; i++)
        strbuf_printf(&json, "%s{\"role\":\"%s\",\"content\":\"%s\"}", i ? "," : "",
                      i % 2 ? "assistant" : "user", content);
    strbuf_put(&json, STR("]}"));
    Str request = strbuf_end_in_arena(&json, &arena);
    const JsonNode *variables = json_parse(request, &arena, &(JsonLimits){.nodes_max = 1 << 20}, &err);
    REQUIRE(variables != NULL);
    const Template *t;
    TemplateText out;
    REQUIRE(template_compile(str_from_c(source), &arena, &t, &err));
    Arena memory = os_arena(TEMPLATE_MEMORY_MAX), whole = memory;
    if (!CHECK(template_render(t, &(TemplateInput){.variables = variables}, &memory, &out, &err)))
        printf("%s\n", err.message);
    else CHECK(out.text.len > (size_t)(MESSAGES - 1) * BYTES && out.steps < TEMPLATE_STEPS_MAX / 4);
    CHECK(arena_left(&whole) - arena_left(&memory) < 16 * request.len);
}

// However large the arena is.
TEST(template_memory_is_bounded) {
    static const char source[] =
        "{%% set n = namespace(s='x') %%}{%% for i in range(%d) %%}{%% set n.s = n.s ~ n.s %%}"
        "{%% endfor %%}";
    Arena arena = arena_of_mb(2048);
    for (int doublings = 26; doublings <= 28; doublings += 2) { // 2^27 and 2^29 bytes in all
        char text[sizeof source + 8];
        Arena empty = arena;
        TemplateText out;
        Error err;
        snprintf(text, sizeof text, source, doublings);
        CHECK(render(text, "{}", &empty, &out, &err) == (doublings == 26));
        CHECK(arena_left(&arena) - arena_left(&empty) < TEMPLATE_MEMORY_MAX + (1 << 16));
        if (doublings == 28)
            CHECK_STR_EQ("the template needs more memory than it may have", (const char *)err.message);
    }
}

// All of jinja2 3.1.6's but those that are random.
TEST(template_has_all_filters_and_tests) {
    static const char source[] = "{% for f in 'abs attr batch capitalize center count d default dictsort e "
                                 "escape filesizeformat first float "
                                 "forceescape format groupby indent int items join last length list lower "
                                 "map max min pprint reject rejectattr "
                                 "replace reverse round safe select selectattr slice sort string striptags "
                                 "sum title tojson trim truncate "
                                 "unique upper urlencode urlize wordcount wordwrap xmlattr'.split() %}{% if "
                                 "f is not filter %}{{ f }} {% endif %}"
                                 "{% endfor %}{% for t in '!= < <= == > >= boolean callable defined "
                                 "divisibleby eq equalto escaped even false "
                                 "filter float ge greaterthan gt in integer iterable le lessthan lower lt "
                                 "mapping ne none number odd sameas "
                                 "sequence string test true undefined upper'.split() %}{% if t is not test "
                                 "%}{{ t }} {% endif %}{% endfor %}";
    Arena arena = arena_of_mb(ARENA_MB);
    TemplateText out;
    Error err;
    REQUIRE(render(source, "{}", &arena, &out, &err));
    CHECK_STR_EQ("", out.text);
}

TEST(template_nesting_is_bounded) {
    static const struct {
        const char *open, *close;
    } rows[] = {{"(", ")"},   {"[", "]"},    {"{% if 1 %}", "{% endif %}"}, {"- ", ""}, {"not ", ""},
                {"{1:", "}"}, {"", "|upper"}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s…%s", rows[i].open, rows[i].close);
        Arena arena = arena_of_mb(ARENA_MB);
        enum { LEVELS = 20000 };
        bool is_tag = rows[i].open[0] == '{' && rows[i].open[1] == '%';
        size_t size = LEVELS * (strlen(rows[i].open) + strlen(rows[i].close)) + 16, used = 0;
        char *source = arena_new(&arena, char, size);
        REQUIRE(source != NULL);
        if (!is_tag) used += (size_t)snprintf(source, size, "{{ ");
        for (int k = 0; k < LEVELS; k++)
            used += (size_t)snprintf(source + used, size - used, "%s", rows[i].open);
        used += (size_t)snprintf(source + used, size - used, "1");
        for (int k = 0; k < LEVELS; k++)
            used += (size_t)snprintf(source + used, size - used, "%s", rows[i].close);
        if (!is_tag) snprintf(source + used, size - used, " }}");
        TemplateText out;
        Error err;
        CHECK(!render(source, "{}", &arena, &out, &err));
        CHECK(strstr(err.message, "too deep") || strstr(err.message, "nested deeper"));
    }
}

// No allocation that fails is missed.
TEST(template_survives_full_arenas) {
    static const char source[] =
        "{% macro f(a, b=2) %}{{ a|tojson }}{% endmacro %}{% set n = namespace(c=0) %}"
        "{% for m in ms if m %}{{ loop.index ~ f(m)|upper }}{% set n.c = n.c + 1 %}{% endfor %}"
        "{{ n.c }}{{ ms|map(attribute='k')|list|sort }}{{ '%d' % 5 }}{{ 'a b'.split() }}";
    bool done = false;
    for (uint64_t n = 0; !done; n++) {
        Arena arena = arena_of_mb(ARENA_MB);
        void *start = arena.next;
        uint64_t left = n;
        TemplateText out;
        Error err;
        const JsonNode *node =
            json_parse(STR("{\"ms\":[{\"k\":\"b\"},{\"k\":\"a\"}]}"), &arena, &(JsonLimits){0}, &err);
        REQUIRE(node != NULL);
        arena.fail_countdown = &left;
        done = render_in(str_from_c(source), node, &arena, &out, &err);
        if (!done) CHECK_INT_EQ(ERR_NO_MEMORY, err.code);
        else CHECK_STR_EQ("1{\"K\": \"B\"}2{\"K\": \"A\"}2['a', 'b']5['a', 'b']", out.text);
        os_release(start, (size_t)ARENA_MB << 20);
    }
}
