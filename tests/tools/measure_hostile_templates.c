// Measures how long templates can take that do all they can to take long.
//
//     cc -std=c17 -D_GNU_SOURCE -O2 -g -Isrc -o measure_hostile_templates
//     tests/tools/measure_hostile_templates.c src/template/*.c src/text/*.c src/model/*.c src/json/*.c
//     src/base/*.c src/os/os*.c -lm
//     measure_hostile_templates [MEMORY_MB [NAME]]
//
// Each row runs till its steps or its memory (512 MiB, of which every rendering begins with all) end. A
// line for each goes to standard output: processor time in ms, steps, nanoseconds a step, and how it
// ended. The slowest comes last.
#include "os/os.h"
#include "base/strbuf.h"
#include "template/template.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

// What is done as often as steps allow. `text` is 'a' 65,536 times, `long` 4 MiB of it, `list` has 10,000
// numbers, `words` as many words, `deep` is 100 lists in each other, `dict` has 1,000 members, `mixed` is
// the request's text after the template's, `messages` are 10,000.
static const struct {
    const char *name, *body;
} rows[] = {
    {"nothing", ""},
    {"names", "{% set x = text %}"},
    {"output", "{{ text }}"},
    {"output of long", "{{ long }}"},
    {"output of mixed", "{% set x %}{{ mixed }}{{ mixed }}{% endset %}"},
    {"sum", "{% if 1 + 2 * 3 - 4 // 5 %}{% endif %}"},
    {"concat", "{% set x = text ~ text %}"},
    {"plus", "{% set x = long + 'b' %}"},
    {"plus growing", "{% set ns.s = ns.s + 'b' %}"},
    {"repeat", "{% set x = text * 200 %}"},
    {"repeat one", "{% set x = 'ab' * 1000000 %}"},
    {"repeat list", "{% set x = list * 100 %}"},
    {"repeat mixed", "{% set x = mixed * 200 %}"},
    {"list plus", "{% set x = list + list %}"},
    {"list slice", "{% set x = list[1:] %}"},
    {"list slice back", "{% set x = list[::-1] %}"},
    {"messages slice", "{% set x = messages[1:] %}"},
    {"text slice", "{% set x = long[1000000:-1] %}"},
    {"text slice back", "{% set x = text[::-1] %}"},
    {"text item", "{% set x = long[-1] %}"},
    {"in text", "{% if 'b' in long %}{% endif %}"},
    {"in text, almost", "{% if almost in long %}{% endif %}"},
    {"in list", "{% if -1 in list %}{% endif %}"},
    {"in words", "{% if text in texts %}{% endif %}"},
    {"texts equal", "{% if texts == texts2 %}{% endif %}"},
    {"equal", "{% if long == long2 %}{% endif %}"},
    {"less", "{% if long < long2 %}{% endif %}"},
    {"lists equal", "{% if list == list2 %}{% endif %}"},
    {"dicts equal", "{% if dict == dict2 %}{% endif %}"},
    {"dict items", "{% set x = dict.items() %}"},
    {"dict get", "{% set x = dict.get('k999') %}"},
    {"dict item", "{% set x = dict['k999'] %}"},
    {"dict attribute", "{% set x = dict.k999 %}"},
    {"dict long key", "{% set x = longdict[long] %}"},
    {"dict literal", "{% set x = {long: 1, long2: 2, long: 3} %}"},
    {"dict()", "{% set x = dict_(dict, a=1) %}"},
    {"namespace member", "{% set big.k999 = 1 %}{% set x = big.k999 %}"},
    {"namespace of dict", "{% set x = namespace(dict) %}"},
    {"views equal", "{% if dict.keys() == dict2.keys() %}{% endif %}"},
    {"length", "{% if long|length %}{% endif %}"},
    {"upper", "{% set x = text|upper %}"},
    {"lower", "{% set x = text|lower %}"},
    {"title", "{% set x = spaced|title %}"},
    {"capitalize", "{% set x = text|capitalize %}"},
    {"casefold", "{% set x = odd.casefold() %}"},
    {"swapcase", "{% set x = odd.swapcase() %}"},
    {"upper of odd", "{% set x = odd.upper() %}"},
    {"sigmas", "{% set x = sigmas.lower() %}"},
    {"strip", "{% set x = text.strip('a') %}"},
    {"strip by many", "{% set x = text.strip(many) %}"},
    {"trim", "{% set x = blanks|trim %}"},
    {"replace", "{% set x = text.replace('a', 'bb') %}"},
    {"replace all", "{% set x = text|replace('', 'b') %}"},
    {"replace, almost", "{% set x = long|replace(almost, 'b') %}"},
    {"replace by long", "{% set x = 'a' * 1000|replace('a', text) %}"},
    {"replace few by long", "{% set x = ('a' * 100)|replace('a', text) %}"},
    {"split", "{% set x = spaced.split() %}"},
    {"split by", "{% set x = spaced.split(' ') %}"},
    {"rsplit", "{% set x = spaced.rsplit(' ') %}"},
    {"rsplit almost", "{% set x = text.rsplit('a' * 32000 ~ 'b') %}"},
    {"splitlines", "{% set x = lines.splitlines() %}"},
    {"partition", "{% set x = long.partition('b') %}"},
    {"join", "{% set x = words|join(', ') %}"},
    {"join by long", "{% set x = words.__len__ or list|join(text) %}"},
    {"join texts", "{% set x = ''.join(texts) %}"},
    {"join of text", "{% set x = '-'.join(text) %}"},
    {"find", "{% set x = long.find('b') %}"},
    {"find almost", "{% set x = long.find(almost) %}"},
    {"rfind", "{% set x = long.rfind('b') %}"},
    {"rfind almost", "{% set x = text.rfind('b' ~ 'a' * 32000) %}"},
    {"count", "{% set x = long.count('a') %}"},
    {"count pairs", "{% set x = long.count('aa', 0, -1) %}"},
    {"startswith", "{% set x = long.startswith(long2) %}"},
    {"startswith many", "{% set x = long.startswith((long2, long2, long2, long2, long2, long2)) %}"},
    {"endswith", "{% set x = long.endswith(long2) %}"},
    {"removeprefix", "{% set x = long.removeprefix(long2) %}"},
    {"isalpha", "{% set x = text.isalpha() %}"},
    {"isalpha of odd", "{% set x = odd.isalpha() %}"},
    {"isupper", "{% set x = odd.isupper() %}"},
    {"center", "{% set x = 'a'.center(1000000) %}"},
    {"zfill", "{% set x = 'a'.zfill(1000000) %}"},
    {"expandtabs", "{% set x = tabs.expandtabs(1000) %}"},
    {"indent", "{% set x = lines|indent(100) %}"},
    {"indent by long", "{% set x = lines|indent(text) %}"},
    {"wordwrap", "{% set x = spaced|wordwrap(1) %}"},
    {"wordwrap of dashes", "{% set x = dashes|wordwrap(3) %}"},
    {"wordwrap of long", "{% set x = text|wordwrap(1) %}"},
    {"wordcount", "{% set x = odd|wordcount %}"},
    {"truncate", "{% set x = long|truncate(4000000) %}"},
    {"escape", "{% set x = signs|e %}"},
    {"forceescape", "{% set x = signs|forceescape %}"},
    {"striptags", "{% set x = tags|striptags %}"},
    {"striptags, names", "{% set x = amps|striptags %}"},
    {"urlize", "{% set x = links|urlize %}"},
    {"urlize of brackets", "{% set x = brackets|urlize %}"},
    {"urlencode", "{% set x = odd|urlencode %}"},
    {"tojson of text", "{% set x = text|tojson %}"},
    {"tojson of odd", "{% set x = odd|tojson(ensure_ascii=true) %}"},
    {"tojson of list", "{% set x = list|tojson %}"},
    {"tojson of dict", "{% set x = dict|tojson(sort_keys=true) %}"},
    {"tojson of deep", "{% set x = deep|tojson(indent=1000) %}"},
    {"tojson of floats", "{% set x = floats|tojson %}"},
    {"pprint of text", "{% set x = spaced|pprint %}"},
    {"pprint of deep", "{% set x = deep|pprint %}"},
    {"pprint of dict", "{% set x = dict|pprint %}"},
    {"repr of text", "{% set x = [text]|string %}"},
    {"repr of odd", "{% set x = [odd]|string %}"},
    {"repr of list", "{% set x = list|string %}"},
    {"repr of floats", "{% set x = floats|string %}"},
    {"sort", "{% set x = words|sort %}"},
    {"sort backwards", "{% set x = list|sort(reverse=true) %}"},
    {"sort texts", "{% set x = texts|sort(case_sensitive=true) %}"},
    {"sort by attribute", "{% set x = messages|sort(attribute='role,content') %}"},
    {"sort by a long attribute", "{% set x = [1, 2, 3]|sort(attribute=commas) %}"},
    {"map by a long attribute", "{% set x = [1, 2, 3]|map(attribute=dots)|list %}"},
    {"dictsort", "{% set x = dict|dictsort %}"},
    {"groupby", "{% set x = messages|groupby('role') %}"},
    {"unique", "{% set x = list|unique|list %}"},
    {"unique texts", "{% set x = texts|unique(case_sensitive=true)|list %}"},
    {"min", "{% set x = texts|min(case_sensitive=true) %}"},
    {"sum of lists", "{% set x = lists|sum(start=[]) %}"},
    {"batch", "{% set x = list|batch(1)|list %}"},
    {"batch filled", "{% set x = [1]|batch(100000, 0)|list %}"},
    {"slice filter", "{% set x = list|slice(10000)|list %}"},
    {"list", "{% set x = text|list %}"},
    {"reverse", "{% set x = list|reverse|list %}"},
    {"map", "{% set x = words|map('upper')|list %}"},
    {"select", "{% set x = list|select('odd')|list %}"},
    {"selectattr", "{% set x = messages|selectattr('role', 'eq', 'user')|list %}"},
    {"items", "{% set x = dict|items|list %}"},
    {"xmlattr", "{% set x = dict|xmlattr %}"},
    {"int", "{% set x = digits|int %}"},
    {"int of spaces", "{% set x = blanks|int %}"},
    {"float", "{% set x = digits|float %}"},
    {"percent", "{% set x = '%s%s%s' % (text, text, text) %}"},
    {"percent wide", "{% set x = '%1000000d' % 1 %}"},
    {"percent of long", "{% set x = text % () %}"},
    {"braces", "{% set x = '{0}{0}{0}{0}'.format(text) %}"},
    {"braces wide", "{% set x = '{:>1000000}'.format('a') %}"},
    {"braces of long", "{% set x = text.format() %}"},
    {"range", "{% set x = range(100000) %}"},
    {"range slice", "{% set x = range(100000)[1:] %}"},
    {"range equal", "{% set x = range(100000) == range(100000) %}"},
    {"for over text", "{% for c in text %}{% endfor %}"},
    {"for over list", "{% for c in list %}{% endfor %}"},
    {"for with condition", "{% for c in list if c %}{% endfor %}"},
    {"for over pairs", "{% for a, b in dict.items() %}{% endfor %}"},
    {"macro", "{{ f(1, 2) }}"},
    {"macro of long", "{% set x = g() %}"},
    {"call", "{% call f(1, 2) %}a{% endcall %}"},
    {"loop", "{% for a in [1] recursive %}{{ loop([]) }}{% endfor %}"},
    {"loop.cycle", "{{ loop.cycle(1, 2) }}"},
    {"loop.changed", "{{ loop.changed(list) }}"},
    {"loop.changed texts", "{% if loop.changed(loop.index is even and texts or texts2) %}{% endif %}"},
    {"cycler", "{% set x = cycler(*list) %}"},
    {"scopes", "{% with %}{% with %}{% with %}{% with %}{{ ns.c }}{% endwith %}{% endwith %}{% endwith %}{% "
               "endwith %}"},
    {"many arguments", "{% set x = f(*[1, 2], **{'q': 1}) if 0 else dict_(**dict) %}"},
    {"filter block", "{% filter upper %}{{ text }}{% endfilter %}"},
    {"set block", "{% set x %}{{ long }}b{% endset %}"},
    {"strftime", "{% set x = strftime_now('%A %B %c %x %X %p %j %U') %}"},
    {"round", "{% set x = 1234.5678|round(300) %}"},
    {"floats", "{% set x = 1.1e300 ~ 1.1e-300 %}"},
    {"percent f", "{% set x = '%.300f' % 1e308 %}"},
};

// (`dict_` is the function, whose name a variable takes.)
static const char BEFORE[] =
    "{% macro f(a, b=2) %}{% endmacro %}{% macro g() %}{{ long }}b{% endmacro %}"
    "{% set ns = namespace(s='', c=0) %}{% set dict_ = dict %}"
    "{% set text = 'a' * 65536 %}{% set long = text * 64 %}{% set long2 = text * 63 ~ text %}"
    "{% set almost = 'a' * 30000 ~ 'b' ~ 'a' * 30000 %}{% set list = range(10000)|list %}{% set list2 = list "
    "+ [] %}"
    "{% set words = ('word ' * 9999 ~ 'Word').split() %}{% set spaced = 'Word ' * 13000 %}{% set lines = "
    "'a\\n' * 30000 %}"
    "{% set texts = [text] * 1000 %}{% set texts2 = [text[1:] ~ 'a'] * 1000 %}{% set lists = [[1, 2]] * 1000 "
    "%}"
    "{% set odd = 'ß\\u01c5é' * 10000 %}{% set sigmas = 'aΣ...' * 10000 %}{% set many = 'b' * 1000 %}"
    "{% set blanks = ' ' * 65536 %}{% set tabs = '\\t' * 1000 %}{% set signs = '<&\"' * 20000 %}"
    "{% set tags = '<!-- x --><b>' * 5000 %}{% set amps = '&xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' * 2000 %}"
    "{% set links = 'www.a.com/(x) ' * 5000 %}{% set brackets = '(' * 30000 ~ ')' * 30000 %}{% set digits = "
    "'1' * 60000 %}"
    "{% set dashes = 'aa-bb--' * 9000 %}{% set floats = [1.1, 2.2e-300, 1e300] * 1000 %}"
    "{% set commas = ',' * 60000 %}{% set dots = '.' * 60000 %}{% set longdict = {long2: 1} %}"
    "{% set d = namespace(v=[1]) %}{% for i in range(100) %}{% set d.v = [d.v] %}{% endfor %}{% set deep = "
    "d.v %}"
    "{% set mixed = text ~ m %}{% set big = namespace(dict) %}";

static Str make_source(const char *body, Arena *arena) {
    StrBuf out = strbuf_begin_in_arena(arena);
    strbuf_printf(
        &out, "%s{%% for i in range(90000) %%}{%% for j in range(90000) %%}%s{%% endfor %%}{%% endfor %%}",
        BEFORE, body);
    return strbuf_end_in_arena(&out, arena);
}

static const JsonNode *make_variables(Arena *arena, Error *err) {
    StrBuf out = strbuf_begin_in_arena(arena);
    strbuf_put(&out, STR("{\"m\":\"x\",\"messages\":["));
    for (int i = 0; i < 10000; i++)
        strbuf_printf(&out, "%s{\"role\":\"user\",\"content\":\"a\"}", i ? "," : "");
    strbuf_put(&out, STR("],\"dict\":{"));
    for (int i = 0; i < 1000; i++)
        strbuf_printf(&out, "%s\"k%d\":%d", i ? "," : "", i, i);
    strbuf_put(&out, STR("},\"dict2\":{"));
    for (int i = 0; i < 1000; i++)
        strbuf_printf(&out, "%s\"k%d\":%d", i ? "," : "", 999 - i, 999 - i);
    strbuf_put(&out, STR("}}"));
    Str json = strbuf_end_in_arena(&out, arena);
    return json_parse(json, arena, &(JsonLimits){.nodes_max = 1 << 20}, err);
}

int main(int argc, char **argv) {
    size_t memory = (argc > 1 ? strtoul(argv[1], NULL, 10) : 512) << 20;
    setvbuf(stdout, NULL, _IOLBF, 0);
    double slowest = 0;
    const char *name = "";
    Arena fixed = os_arena(256 << 20);
    Error err = {0};
    const JsonNode *variables = make_variables(&fixed, &err);
    if (!variables) return 1;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (argc > 2 && strcmp(argv[2], rows[i].name) != 0) continue;
        Arena compiled = fixed, arena = os_arena(memory);
        void *start = arena.next;
        const Template *t;
        TemplateText text = {0};
        Str source = make_source(rows[i].body, &compiled);
        if (!template_compile(source, &compiled, &t, &err)) {
            printf("%s: %s\n", rows[i].name, err.message);
            continue;
        }
        clock_t begin = clock();
        bool ok =
            template_render(t, &(TemplateInput){.variables = variables, .unix_ms = 1}, &arena, &text, &err);
        double ms = (double)(clock() - begin) * 1e3 / CLOCKS_PER_SEC;
        printf("%8.1f ms %9.0f k steps %7.1f ns  %-26s %s\n", ms, (double)text.steps / 1e3,
               ms * 1e6 / (double)text.steps, rows[i].name, ok ? "rendered" : err.message);
        if (ms > slowest) slowest = ms, name = rows[i].name;
        os_release(start, memory);
    }
    printf("slowest: %.1f ms, %s\n", slowest, name);
    return 0;
}
