"""Random templates, for comparing the interpreter of src/template with Python's jinja2.

    python3 tests/vectors/template/random_templates.py compare RENDERER [SEED] [COUNT]
    python3 tests/vectors/template/random_templates.py layout RENDERER [SEED] [COUNT]
    python3 tests/vectors/template/random_templates.py vectors > tests/vectors/template/random.jsonl

`compare` renders COUNT templates of a seed with jinja2 and with RENDERER (tests/tools/render_templates.c) and prints
what differs; `layout` does so with those filters alone that read or lay out text. `vectors` writes some that render, with their output, which every test run replays.
"""

import json
import random as R
import subprocess
import sys

from reference import render

VARIABLES = dict(
    s="Hello World",
    e="",
    u="Ünïcödé ßtraße ΣΊΣΥΦΟΣ 日本",
    n=7,
    z=0,
    neg=-3,
    f=2.5,
    g=1e20,
    h=0.1,
    t=True,
    nil=None,
    l=[3, 1, 2],
    ls=["b", "A", "c", "a"],
    le=[],
    m=[
        {"role": "user", "content": "hi", "k": {"x": 1}},
        {"role": "assistant", "content": "yo", "k": {"x": 3}},
        {"role": "user", "content": "  sp \n", "k": {"x": 2}},
    ],
    d={"b": 1, "a": "two", "c": [1, None, True, 2.0]},
    nest={"a": {"b": {"c": [{"d": 5}]}}},
    q='it\'s "q" \\ \n\t\x07',
    html="<b>&'\"</b>",
    sp="  pad\t\n",
    num="42",
    fl="3.75",
    lines="a\nb\r\nc\n\nd",
    mix=[1, "1", True, None, 2.5],
)
NAMES = list(VARIABLES) + ["undef", "loop", "bos_token"]
STRINGS = [
    "''",
    "'a'",
    "'l'",
    "' '",
    "'\\n'",
    "'o W'",
    "'x'",
    '"it\'s"',
    "'%s'",
    "'{}'",
    "'-'",
    "'ß'",
    "'\\u00e9'",
    "','",
]


def const():
    return R.choice(
        [
            R.choice(STRINGS),
            str(R.randint(-3, 12)),
            R.choice(["0.5", "1.0", "2e3", "1e-7", "3.14159"]),
            "true",
            "none",
            "[]",
            "{}",
            "[1,2,3]",
            "['a','b']",
            "{'k':1,'j':'v'}",
            "(1,2)",
        ]
    )


FILTERS = [
    "abs",
    "capitalize",
    "lower",
    "upper",
    "title",
    "trim",
    "length",
    "count",
    "first",
    "last",
    "list",
    "string",
    "int",
    "float",
    "round",
    "reverse|list",
    "sort",
    "unique|list",
    "sum",
    "min",
    "max",
    "join",
    "join(',')",
    "join('-','role')",
    "join(attribute='role')",
    "tojson",
    "tojson(indent=2)",
    "tojson(ensure_ascii=true)",
    "tojson(sort_keys=true)",
    "tojson(separators=(',',':'))",
    "default('D')",
    "d('D',true)",
    "replace('l','L')",
    "replace('','-')",
    "replace('a','',1)",
    "indent",
    "indent(2)",
    "indent(3,true)",
    "indent('>',true,true)",
    "wordcount",
    "truncate(8)",
    "truncate(5,true,'')",
    "center(20)",
    "escape",
    "e|upper",
    "urlencode",
    "filesizeformat",
    "filesizeformat(true)",
    "batch(2)|list",
    "batch(2,'x')|list",
    "slice(2)|list",
    "slice(3,0)|list",
    "groupby('role')|list",
    "groupby('k.x')|map('first')|list",
    "map('upper')|list",
    "map(attribute='role')|list",
    "map(attribute='k.x')|list",
    "map(attribute='zz',default='df')|join",
    "map('string')|join('|')",
    "map('length')|list",
    "select|list",
    "select('odd')|list",
    "select('string')|list",
    "reject('none')|list",
    "selectattr('role','equalto','user')|list",
    "selectattr('role')|map(attribute='content')|list",
    "rejectattr('role','eq','user')|list",
    "selectattr('k.x','gt',1)|list",
    "dictsort",
    "dictsort(by='value')",
    "dictsort(reverse=true)",
    "items|list",
    "attr('role')",
    "attr('upper')",
    "format(1)",
    "format('q')",
    "round(1)",
    "round(1,'floor')",
    "round(0,'ceil')",
    "int(5)",
    "int(0,16)",
    "float(1.5)",
    "sort(reverse=true)",
    "sort(attribute='content')",
    "sort(case_sensitive=true)",
    "sort(attribute='role,content')",
    "max(attribute='k.x')",
    "unique(attribute='role')|list",
    "xmlattr",
    "safe",
    "forceescape",
    "list|length",
    "trim('H ')",
    "string|length",
    "wordwrap",
    "wordwrap(5)",
    "wordwrap(9,false)",
    "wordwrap(7,true,'|')",
    "wordwrap(6,break_on_hyphens=false)",
    "wordwrap(4,wrapstring='<'|safe)",
    "striptags",
    "e|striptags",
    "urlize",
    "urlize(9,true)",
    "urlize(target='_blank',rel='b a')",
    "pprint",
]
# Texts for the filters that read or lay out text, from pieces.
TEXT_FILTERS = [
    *(f for f in FILTERS if f.startswith(("wordwrap", "striptags", "urlize", "pprint", "e|striptags"))),
    "wordwrap(1)",
    "wordwrap(2,false)",
    "wordwrap(3)",
    "wordwrap(12,break_on_hyphens=1)",
    "urlize(-2)",
    "urlize(extra_schemes=['ftp://','tel:'])",
    "urlize(3,extra_schemes=['a:','a:b:'])",
    "safe|urlize",
    "list|pprint",
    ".split()|pprint",
    ".splitlines(true)|pprint",
]
TEXT_PIECES = {
    "wordwrap": ["word", "a-b", "goof-ball", "-", "--", "---", " ", "  ", "\n", "x", "e-mail-list", "é-ü", "1-2",
                 "a1-b2", "it's", '"', "!", "--option", "\t", "\u3000", "日本-語", "aa-bb-cc", "_a-_b", "longlonglongword"],
    "striptags": ["<!--", "-->", "<b>", "</b>", "<", ">", "&amp;", "&lt;", "&gt", "&notit;", "&#65;", "&#x41", "&#0;",
                  "&#128;", "&#xD800;", "&#x110000;", "&#1;", "&", "&nosuch;", "&eacute", "&fjlig;", " ", "\n", "t", "--",
                  "!", "-", "&#", "&#x", "&#xfffe;", ";", "&amp", "é"],
    "urlize": ["http://", "https://", "HTTPS://", "www.", "Www.", "mailto:", "example", ".com", ".org", "a.b", ".", "/p",
               "?q=1", "#f", ":80", ":", "(", ")", "<", ">", ",", " ", "\n", "@", "user@host.tld", "1.2.3.4", "[::1]",
               "[1:2:3:4]", "xn--p1ai", ".ıx", "é", "%41", "-", "ftp://x", "tel:1", "a:b", "&", "'", "x"],
    "pprint": ["word", " ", "  ", "it's", '"', "\n", "\\", "é", "日本", "x" * 30, "a b c d e f g", "\x00", "\u3000"],
}


def literal(text):
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"


def text_expr():
    """A text of pieces, through one of the filters that read text."""
    name = R.choice(TEXT_FILTERS)
    kind = next(k for k in TEXT_PIECES if k in name)
    pieces = TEXT_PIECES[kind if R.random() < 0.9 else R.choice(list(TEXT_PIECES))]
    return literal("".join(R.choice(pieces) for _ in range(R.randint(0, 25)))) + ("" if name[0] == "." else "|") + name


def nested(d):
    """A value of lists and dictionaries, for pprint."""
    if d > 3 or R.random() < 0.3:
        pieces = TEXT_PIECES["pprint"]
        return R.choice(
            ["1", "-2.5", "none", "true", "s", "html", "undef", "range(3)", literal("".join(R.choices(pieces, k=R.randint(0, 20))))]
        )
    n, kind = R.choice([0, 1, 1, 2, 3, 5]), R.random()
    if kind < 0.4:
        return "[" + ", ".join(nested(d + 1) for _ in range(n)) + "]"
    if kind < 0.6:
        return "(" + "".join(nested(d + 1) + "," for _ in range(n)) + ")"
    keys = R.sample(["'b'", "'a'", "2", "none", "1.5", "'long key %d'" % n, "true", "(1,2)"], n)
    return "{" + ", ".join(k + ": " + nested(d + 1) for k in keys) + "}"

METHODS = [
    "upper()",
    "lower()",
    "strip()",
    "lstrip()",
    "rstrip()",
    "strip('H')",
    "split()",
    "split(',')",
    "split('l')",
    "split(' ',1)",
    "rsplit('l',1)",
    "split(None,1)",
    "rsplit(None,1)",
    "splitlines()",
    "splitlines(true)",
    "startswith('H')",
    "endswith('d')",
    "startswith(('a','H'))",
    "find('o')",
    "rfind('o')",
    "index('l')",
    "count('l')",
    "replace('l','_')",
    "replace('o','0',1)",
    "title()",
    "capitalize()",
    "swapcase()",
    "center(15,'*')",
    "ljust(14)+'|'",
    "rjust(14,'.')",
    "zfill(15)",
    "isdigit()",
    "isalpha()",
    "isalnum()",
    "isspace()",
    "isupper()",
    "islower()",
    "istitle()",
    "join(['a','b'])",
    "join(ls)",
    "partition('o')",
    "rpartition('o')",
    "removeprefix('He')",
    "removesuffix('ld')",
    "expandtabs(4)",
    "format(1,2)",
    "items()|list",
    "keys()|list",
    "values()|list",
    "get('a')",
    "get('zz')",
    "get('zz','dd')",
    "items()",
    "keys()",
    "copy()",
    "index(1)",
    "count(1)",
    "role",
    "content",
    "a",
    "b",
    "k.x",
    "a.b.c[0].d",
    "zz",
    "zz.yy",
    "items",
    "__class__",
    "append(4)",
    "pop()",
    "update({})",
    "casefold()",
    "isascii()",
    "isnumeric()",
    "isdecimal()",
]
TESTS = [
    "defined",
    "undefined",
    "none",
    "string",
    "number",
    "integer",
    "float",
    "boolean",
    "mapping",
    "sequence",
    "iterable",
    "true",
    "false",
    "odd",
    "even",
    "divisibleby 3",
    "divisibleby(2)",
    "eq 1",
    "ne 'a'",
    "gt 1",
    "lt(3)",
    "ge 1",
    "in [1,2,'a']",
    "sameas none",
    "lower",
    "upper",
    "callable",
    "not none",
    "not defined",
    "equalto 'x'",
    "== 7",
    "escaped",
    "filter",
    "test",
]


def expr(d=0):
    r = R.random()
    if d > 3 or r < 0.25:
        return R.choice(NAMES) if R.random() < 0.75 else const()
    if r < 0.40:
        return f"{expr(d+1)}|{R.choice(FILTERS)}"
    if r < 0.52:
        return f"{prim(d+1)}.{R.choice(METHODS)}"
    if r < 0.60:
        return (
            f"{expr(d+1)} {R.choice(['+','-','*','/','//','%','~','~','+','**' if R.random()<.3 else '+'])} {expr(d+1)}"
        )
    if r < 0.68:
        return f"{expr(d+1)} {R.choice(['==','!=','<','>','<=','>=','in','not in'])} {expr(d+1)}"
    if r < 0.74:
        return f"{expr(d+1)} is {R.choice(TESTS)}"
    if r < 0.80:
        return f"({expr(d+1)} {R.choice(['and','or'])} {expr(d+1)})"
    if r < 0.83:
        return f"not {expr(d+1)}"
    if r < 0.87:
        return f"({expr(d+1)} if {expr(d+1)} else {expr(d+1)})" if R.random() < 0.8 else f"({expr(d+1)} if {expr(d+1)})"
    if r < 0.92:
        return f"{prim(d+1)}[{R.choice(['0','-1','1','99',':2','1:','::-1','-2:','::2','5:1:-1',':',chr(39)+'role'+chr(39),chr(39)+'a'+chr(39),'n','neg:','z'])}]"
    if r < 0.94:
        return f"[{expr(d+1)}, {expr(d+1)}]"
    if r < 0.96:
        return "{'x': %s, 'y': %s}" % (expr(d + 1), expr(d + 1))
    if r < 0.97:
        return f"({expr(d+1)})"
    if r < 0.98:
        return f"-{prim(d+1)}"
    if r < 0.983:
        return text_expr() if R.random() < 0.8 else nested(0) + "|pprint"
    if r < 0.985:
        return "'%s:%5.2f|%-4d|%x' % (s, f, n, 255)"
    if r < 0.99:
        return "'{0:>8}|{1:<6.2f}|{a!r:^10}'.format(s, f, a=e)"
    return R.choice(
        [
            "range(3)|list",
            "range(1,8,2)",
            "dict(a=1,b=s)",
            "namespace(a=1).a",
            "cycler('a','b').next()",
            "joiner('|')()",
            "dict(d, z=2)|tojson",
            "range(5)[1:3]",
            "range(n)|sum",
        ]
    )


def prim(d):
    r = R.random()
    if r < 0.85:
        return R.choice(NAMES)
    if r < 0.95:
        return f"({expr(d+1)})"
    return R.choice(STRINGS)


def tag(x):
    a = R.choice(["", "", "-", "-", "+"])
    b = R.choice(["", "", "-", "-", "+"])
    return "{%" + a + " " + x + " " + b + "%}"


def outp(x):
    return "{{" + R.choice(["", "-"]) + " " + x + " " + R.choice(["", "-"]) + "}}"


def data():
    return R.choice(
        [
            "\n",
            "\n  ",
            "  ",
            "a",
            "a\n",
            "\n\nb",
            "x  \n",
            "{# c #}",
            "{#- c -#}",
            " {# c #}\n",
            "\t",
            "é",
            "  {# x +#}\n",
            "{% raw %}{{x}}{% endraw %}",
            "",
            "\r\n",
        ]
    )


def body(d):
    return "".join(R.choice([data, data, lambda: stmt(d + 1), lambda: outp(expr(1))])() for _ in range(R.randint(0, 4)))


def stmt(d):
    if d > 3:
        return outp(expr(2))
    r = R.random()
    if r < 0.3:
        s = tag("if " + expr(1)) + body(d)
        if R.random() < 0.3:
            s += tag("elif " + expr(1)) + body(d)
        if R.random() < 0.5:
            s += tag("else") + body(d)
        return s + tag("endif")
    if r < 0.55:
        it = R.choice(
            [
                "l",
                "ls",
                "m",
                "d",
                "d.items()",
                "range(3)",
                "le",
                "s",
                "undef",
                "nest",
                "lines.split('\n')".replace("\n", "\\n"),
                "mix",
                "m|selectattr('role','eq','user')",
                expr(2),
            ]
        )
        tgt = R.choice(["x", "x", "x", "x, y"]) if "items" in it else "x"
        cond = R.choice([""] * 4 + [" if x", " if x is string", " if loop is defined"]) if R.random() < 0.4 else ""
        inner = R.choice(
            [
                "",
                outp("x"),
                outp("loop.index"),
                outp("loop.last ~ loop.first ~ loop.length ~ loop.revindex"),
                outp("x.role"),
                outp("loop.previtem|default('P')"),
                outp("loop.nextitem"),
                outp("loop.cycle('a','b')"),
                outp("loop.changed(x)"),
                tag("break"),
                tag("if loop.index0 == 1") + tag("continue") + tag("endif"),
                tag("set n = n + 1") + outp("n"),
                tag("set ns.c = ns.c + 1"),
                outp("x, n"),
            ]
        )
        s = tag("for " + tgt + " in " + it + cond) + body(d) + inner + body(d)
        if R.random() < 0.2:
            s += tag("else") + body(d)
        return s + tag("endfor")
    if r < 0.68:
        return tag(f"set {R.choice(['x','y','n','s','zz'])} = {expr(1)}")
    if r < 0.73:
        return tag("set y") + body(d) + tag("endset") + outp("y")
    if r < 0.76:
        return (
            tag("set y | " + R.choice(["upper", "trim", "length", "replace('a','b')"]))
            + body(d)
            + tag("endset")
            + outp("y")
        )
    if r < 0.82:
        return (
            tag("macro mm(a, b='B', c=none)")
            + R.choice(
                [
                    outp("a"),
                    outp("a ~ b ~ c"),
                    outp("varargs"),
                    outp("kwargs|tojson"),
                    outp("caller()"),
                    outp("caller() if caller else 'nc'"),
                ]
            )
            + body(d)
            + tag("endmacro")
            + outp("mm(%s)" % R.choice(["", "1", "1,2", "a=3", "b=s", "1,2,3,4", "q=1", "*l", "**{'a':5}", "s, c=n"]))
        )
    if r < 0.85:
        return (
            tag("macro cc(a)")
            + "["
            + outp("caller(1)")
            + outp("a")
            + "]"
            + tag("endmacro")
            + tag(R.choice(["call cc(2)", "call(u) cc(s)"]))
            + body(d)
            + tag("endcall")
        )
    if r < 0.89:
        return tag("with x = %s, y = 2" % expr(2)) + body(d) + outp("x") + tag("endwith")
    if r < 0.92:
        return (
            tag("filter " + R.choice(["upper", "trim", "indent(2)", "replace('a','q')|upper"]))
            + body(d)
            + tag("endfilter")
        )
    if r < 0.94:
        return tag("generation") + body(d) + tag("endgeneration")
    if r < 0.97:
        return (
            tag("set ns = namespace(c=0, s='')")
            + tag("for q in l")
            + tag("set ns.c = ns.c + q")
            + tag("endfor")
            + outp("ns.c")
        )
    return (
        tag("for node in [nest] recursive")
        + outp("loop.depth")
        + tag("for k in node")
        + outp("k")
        + tag("endfor")
        + R.choice(["", outp("loop([]) ")])
        + tag("endfor")
    )


def template():
    return "".join(
        R.choice([data, lambda: stmt(0), lambda: outp(expr(0)), lambda: outp(expr(0))])()
        for _ in range(R.randint(1, 5))
    )


class Renderer:
    """tests/tools/render_templates.c as a process."""

    def __init__(self, path):
        self.process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def render(self, source, variables):
        """The text, or None; the second value says why."""
        line = json.dumps({"template": source, "variables": variables}) + "\n"
        self.process.stdin.write(line.encode())
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        return answer.get("text"), answer.get("error")


def is_comparable(text):
    """Python shows the addresses of some objects."""
    return text is None or " at 0x" not in text


def layout():
    """A template of the filters that read or lay out text alone."""
    return outp(text_expr() if R.random() < 0.7 else nested(0) + "|pprint")


def compare(path, seed, count, make=template):
    renderer, rendered, differ = Renderer(path), 0, 0
    for i in range(count):
        R.seed(seed * 1000003 + i)
        source = make()
        expected = render(source, VARIABLES)
        if not is_comparable(expected):
            continue
        text, error = renderer.render(source, VARIABLES)
        rendered += expected is not None
        if text != expected:
            differ += 1
            print(f"{i}: {source!r}\n  jinja2   {expected!r}\n  renderer {text if text is not None else error!r}")
    print(f"{count} templates, {rendered} rendered, {differ} differ")
    return differ


def vectors(count=400):
    print(json.dumps({"variables": VARIABLES}, ensure_ascii=False))
    R.seed(0)
    made = 0
    while made < count:
        source = layout() if made % 4 == 3 else template()
        text = render(source, VARIABLES)
        fails = text is None
        if not is_comparable(text) or len(source) + len(text or "") > 700 or (fails and R.random() < 0.9):
            continue
        made += 1
        print(json.dumps({"template": source, "text": text}, ensure_ascii=False))


if __name__ == "__main__":
    if sys.argv[1] == "vectors":
        vectors()
    else:
        seed = int(sys.argv[3]) if len(sys.argv) > 3 else 1
        count = int(sys.argv[4]) if len(sys.argv) > 4 else 2000
        sys.exit(compare(sys.argv[2], seed, count, layout if sys.argv[1] == "layout" else template) > 0)
