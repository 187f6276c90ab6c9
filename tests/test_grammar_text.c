// Grammars in written notations: what they take, and what is wrong with those that are refused.
#include "grammar/grammar_text_formats.h"
#include "grammar_make.h"
#include "guard.h"
#include "os/os.h"
#include "runner.h"

#include <stdio.h>

typedef struct {
    const char *name, *grammar;
    const char *yes[6], *no[6];
} Row;

typedef bool Reader(Str text, const Tokenizer *tokenizer, GrammarBuilder *b, LangMaker *maker, Arena scratch,
                    GrammarNode *root, Error *err);

static const Grammar *compile(Reader *read, Str text, Error *err) {
    static Arena keep;
    if (!keep.next) keep = os_arena(256u << 20);
    Arena scratch = grammar_arena(1), nodes = grammar_arena(0), kept = keep;
    LangMaker maker = {.keep = &kept, .scratch = grammar_arena(2), .work_max = 1 << 24};
    GrammarBuilder *b = grammar_builder_new(&nodes);
    GrammarNode root;
    const Grammar *g;
    if (!read(text, NULL, b, &maker, scratch, &root, err)) return NULL;
    return grammar_compile(b, root, &kept, scratch, &g, err) ? g : NULL;
}

static void check_row(Reader *read, const Row *row) {
    static GuardedMemory guarded;
    Error err = {0};
    TEST_CASE_LABEL("%s", row->name);
    if (!guarded.end) guarded = guard_allocate(4096);
    const Grammar *g = compile(read, guard_press(&guarded, str_from_c(row->grammar)), &err);
    if (!g) {
        FAIL("%s", err.message);
        return;
    }
    GrammarMatcher *m = grammar_start_matcher(g, grammar_byte_trie());
    for (size_t i = 0; i < COUNT_OF(row->yes) && row->yes[i]; i++)
        if (!grammar_takes(m, str_from_c(row->yes[i]))) FAIL("refuses %s", row->yes[i]);
    for (size_t i = 0; i < COUNT_OF(row->no) && row->no[i]; i++)
        if (grammar_takes(m, str_from_c(row->no[i]))) FAIL("takes %s", row->no[i]);
    CHECK(row->yes[0] != NULL);
}

static const Row gbnf[] = {
    {"texts and classes",
     "root ::= \"a\\\"b\" [0-9]? [^x-z\\n]\n",
     {"a\"b0q", "a\"bq", "a\"b1\xC3\xA9"},
     {"a\"b", "a\"bx", "a\"b1y", "a\"b1\n"}},
    {"escapes",
     "root ::= \"\\x41\\u00e9\\U0001F600\\t\\\\\" [\\]\\[\\-]",
     {"A\xC3\xA9\xF0\x9F\x98\x80\t\\]"},
     {"A"}},
    {"any character", "root ::= . .", {"ab", "\n\xC3\xA9"}, {"a", "abc", "\xFF\xFF"}},
    {"groups over lines",
     "root ::= (\n  \"a\" # one\n | \"b\"\n)+ |\n \"c\"\n\n# more\n",
     {"abab", "c"},
     {"", "ac"}},
    {"repetitions",
     "root ::= \"a\"{2} \"b\"{1,} \"c\"{0,2} \"ab\"*",
     {"aab", "aabbccababab"},
     {"ab", "aa", "aabccc"}},
    {"repeated twice", "root ::= \"a\"+? \"b\"", {"b", "aaab"}, {"a"}},
    {"empty alternatives", "root ::= ws \"x\" ws\nws ::= | \" \" ws", {"x", "  x "}, {"", " "}},
    {"optional recursion at the end", "root ::= ws \"x\"\nws ::= ([ \\t] ws)?", {"x", " \t x"}, {"x "}},
    {"recursion",
     "root ::= value\nvalue ::= \"[\" (value (\",\" value)*)? \"]\" | [0-9]+\n",
     {"[]", "[1,[22,[]],3]", "7"},
     {"[", "[1,]", "[1 ]"}},
    {"moves",
     "root ::= (num \". \" move \" \" move \"\\n\")+\nmove ::= [KQ]? [a-h] [1-8] [+#]?\nnum ::= [1-9] [0-9]?",
     {"1. e4 e5\n2. Kf3 c6+\n"},
     {"1. e4\n", "1. e9 e5\n"}},
    {"code points above the surrogates",
     "root ::= [\\x20-\\U0010FFFF]",
     {"\xEE\x80\x80", " "},
     {"\x1F", "\xED\xA0\x80"}},
};

TEST(grammar_gbnf_takes) {
    for (size_t i = 0; i < COUNT_OF(gbnf); i++)
        check_row(gbnf_read, &gbnf[i]);
}

typedef struct {
    const char *grammar, *message;
} BadRow;

static void check_bad(Reader *read, const BadRow *row) {
    Error err = {0};
    TEST_CASE_LABEL("%s", row->grammar);
    if (CHECK(!compile(read, str_from_c(row->grammar), &err))) CHECK_STR_EQ(row->message, err.message);
}

static const BadRow bad_gbnf[] = {
    {"root ::= \"a\"\nroot ::= \"b\"", "GBNF grammar, line 2: the rule \"root\" is there already"},
    {"root ::= \"a\"\n  | \"b\"",
     "GBNF grammar, line 2: outside of brackets a line cannot begin with \"|\": it ends the line before"},
    {"root ::= [^\\x00-\\U0010FFFF]", "no text matches root: it asks for a character that is none"},
    {"", "GBNF grammar, line 1: the rule \"root\" is missing"},
    {"root ::= a\n", "GBNF grammar, line 1: the rule \"a\" is missing"},
    {"root ::= \"a", "GBNF grammar, line 1: a text's closing quote is missing"},
    {"root ::= \"\\q\"", "GBNF grammar, line 1: an unknown escape"},
    {"root ::= \"\\x4\"", "GBNF grammar, line 1: an escape needs 2 hexadecimal digits"},
    {"root ::= \"\\uD800\"", "GBNF grammar, line 1: D800 is no character"},
    {"root ::= [a", "GBNF grammar, line 1: a class's \"]\" is missing"},
    {"root ::= []", "GBNF grammar, line 1: a class without characters"},
    {"root ::= [b-a]", "GBNF grammar, line 1: a range that ends before it begins"},
    {"root ::= (\"a\"", "GBNF grammar, line 1: a group's \")\" is missing"},
    {"root ::= \"a\"{3,2}", "GBNF grammar, line 1: a repetition of at least 3 and at most 2 times"},
    {"root ::= \"a\"{,2}", "GBNF grammar, line 1: a number is missing"},
    {"root ::= \"a\"{9999999}", "GBNF grammar, line 1: a number above 1048576"},
    {"\n\nroot = \"a\"", "GBNF grammar, line 3: \"::=\" is missing"},
    {"root ::= \"a\" )", "GBNF grammar, line 1: no rule can go on like this"},
    {"root ::= *", "GBNF grammar, line 1: no rule can go on like this"},
    {"root ::= <think>", "GBNF grammar, line 1: the vocabulary has no token <think>"},
    {"root ::= root \"a\" | \"b\"", "root begins with itself (left recursion)"},
    {"root ::= \"a\" root", "no text matches root: each text of it would hold another one, without end"},
    {"root ::= \xFF", "GBNF grammar, line 1: invalid UTF-8"},
};

TEST(grammar_gbnf_errors_name_the_place) {
    for (size_t i = 0; i < COUNT_OF(bad_gbnf); i++)
        check_bad(gbnf_read, &bad_gbnf[i]);
}

static const Row lark[] = {
    {"texts",
     "start: \"a\" \"b\"i B?\nB: \"x\"..\"z\" | \"\\\"\"",
     {"ab", "aBy", "ab\""},
     {"Ab", "abw", "abyy"}},
    {"patterns",
     "start: /[a-c]+\\/./ /be/i /.x/s\n",
     {"ab/qBe\nx", "c/\rbEyx"},
     {"ab/\nbeyx", "d/qbeyx", "ab/qbxyx"}},
    {"alternatives over lines",
     "// comment\n?start: one -> first\n   | two \n  // between\n  | \"c\"\n!one.2: \"a\"\n_two: \"b\"\ntwo: "
     "_two",
     {"a", "b", "c"},
     {"", "ab"}},
    {"times",
     "start: \"a\"~2 \"b\"~1..2 [\"c\" \"d\"] (\"e\" | \"f\")*",
     {"aab", "aabbcdef"},
     {"ab", "aabbb", "aabc"}},
    {"left recursion",
     "start: sum\n?sum: term | sum \"+\" term | sum \"-\" term\nterm: NUMBER | \"(\" sum \")\"\n%import "
     "common.INT -> NUMBER",
     {"1", "1+22-3", "(1+2)-3"},
     {"", "1+", "+1", "1 + 2"}},
    {"ignored",
     "start: pair (\",\" pair)*\npair: CNAME \"=\" ESCAPED_STRING\n%import common (CNAME, ESCAPED_STRING, "
     "WS)\n"
     "%ignore WS\n%ignore /#[^\\n]*/\n",
     {"a=\"x\"", " a = \"x\\\"\" , b_1=\"\" # end", "a # c\n=\"\""},
     {"a b=\"x\"", "a=\"x", "a=\"x\",", "a_b = x"}},
    {"comments in a language",
     "start: C_COMMENT\n%import common.C_COMMENT",
     {"/* a * / **/", "/**/"},
     {"/*/", "/* */ */"}},
    {"looks ahead that their terminal decides",
     "start: /a(?!b)[a-c]/ \"b\" | NAME \"o\" | /x(?=y)y(1|22)?/ \"c\"\nNAME: /(?!foo)[a-z]{3,}/ | "
     "/(?!if;)[a-z]+;/",
     {"acb", "aab", "fobo", "barfooo", "iff;o", "xy1c"},
     {"abb", "fooo", "foobaro", "if;o", "foo", "xc"}},
    {"numbers",
     "start: SIGNED_NUMBER\n%import common.SIGNED_NUMBER",
     {"1", "-1.", "+.5e-3", "1e9"},
     {".", "1e", "-"}},
};

TEST(grammar_lark_takes) {
    for (size_t i = 0; i < COUNT_OF(lark); i++)
        check_row(lark_read, &lark[i]);
}

static const BadRow bad_lark[] = {
    {"start: \"a\"\nstart: \"b\"", "Lark grammar, line 2: the rule \"start\" is there already"},
    {"start: WS\n%import common.WS\nWS: \" \"", "Lark grammar, line 3: the rule \"WS\" is there already"},
    {"", "Lark grammar, line 1: the rule \"start\" is missing"},
    {"start: a", "Lark grammar, line 1: the rule \"a\" is missing"},
    {"start: _sep{\"a\", \"b\"}", "Lark grammar, line 1: templates are not supported"},
    {"start: \"a\"\n%declare X", "Lark grammar, line 2: %declare is not supported"},
    {"start: \"a\"\n%import .other.X", "Lark grammar, line 2: only common can be imported from"},
    {"start: X\n%import common.XYZ", "Lark grammar, line 2: common.XYZ is not known"},
    {"start: /a/x", "Lark grammar, line 1: the flag x of a pattern is not supported"},
    {"start: /a", "Lark grammar, line 1: a pattern's closing \"/\" is missing"},
    {"start: \"a\n\"", "Lark grammar, line 1: a text's closing quote is missing"},
    {"start: \"b\"..\"a\"", "Lark grammar, line 1: a range is from one character to a later one"},
    {"start: (\"a\"", "Lark grammar, line 1: a group's \")\" is missing"},
    {"start: \"a\"~3..2", "Lark grammar, line 1: a repetition of at least 3 and at most 2 times"},
    {"start \"a\"", "Lark grammar, line 1: \":\" is missing"},
    {"start: \"a\" }", "Lark grammar, line 1: no rule can go on like this"},
    {"start: /a(?!b)/ /[b]/",
     "Lark grammar, line 1: a look ahead that sees beyond the end of its terminal at byte 1 of the pattern"},
    {"start: /a(?=b)/ \"b\"",
     "Lark grammar, line 1: a look ahead that sees beyond the end of its terminal at byte 1 of the pattern"},
    {"start: A \"o\"\nA: /(?!foo)[a-z]+/",
     "Lark grammar, line 2: a look ahead that sees beyond the end of its terminal at byte 0 of the pattern"},
    {"start: /x(a|b(?!c))/ \"c\"",
     "Lark grammar, line 1: a look ahead that sees beyond the end of its terminal at byte 5 of the pattern"},
    {"start: /(?!a$)(a|b)/ \"x\"",
     "Lark grammar, line 1: a look ahead that sees beyond the end of its terminal at byte 0 of the pattern"},
    {"start: /(?=.*[0-9])[a-z0-9]+/",
     "Lark grammar, line 1: a look ahead that sees beyond the end of its terminal at byte 0 of the pattern"},
    {"start: a\na: [start] \"x\"", "a begins with itself (left recursion)"},
};

TEST(grammar_lark_errors_name_the_place) {
    for (size_t i = 0; i < COUNT_OF(bad_lark); i++)
        check_bad(lark_read, &bad_lark[i]);
}

// Every grammar of the tables, cut anywhere: it is taken or refused for a reason.
TEST(grammar_texts_may_end_anywhere) {
    GuardedMemory guarded = guard_allocate(4096);
    for (size_t i = 0; i < COUNT_OF(gbnf) + COUNT_OF(lark); i++) {
        const Row *row = i < COUNT_OF(gbnf) ? &gbnf[i] : &lark[i - COUNT_OF(gbnf)];
        Str text = str_from_c(row->grammar);
        TEST_CASE_LABEL("%s", row->name);
        for (size_t length = 0; length < text.len; length += 1 + length / 16) {
            Error err = {0};
            Str cut = guard_press(&guarded, str_slice(text, 0, length));
            bool taken = compile(i < COUNT_OF(gbnf) ? gbnf_read : lark_read, cut, &err) != NULL;
            CHECK(taken || (err.code == ERR_INVALID_REQUEST && err.message[0]));
        }
    }
}

static bool read_with(Reader *read, const char *text, uint64_t *countdown, Error *err) {
    Arena scratch = grammar_arena(1), nodes = grammar_arena(0), keep = grammar_arena(2);
    Arena language;
    if (!arena_split(&scratch, 64 << 20, &language)) return false;
    nodes.fail_countdown = scratch.fail_countdown = keep.fail_countdown = language.fail_countdown = countdown;
    LangMaker maker = {.keep = &keep, .scratch = language, .work_max = 1 << 24};
    GrammarBuilder *b = grammar_builder_new(&nodes);
    GrammarNode root;
    const Grammar *g;
    err->code = ERR_NO_MEMORY; // of the builder
    return b && read(str_from_c(text), NULL, b, &maker, scratch, &root, err) &&
           grammar_compile(b, root, &keep, scratch, &g, err);
}

TEST(grammar_readers_say_when_memory_is_missing) {
    static const struct {
        Reader *read;
        const char *text;
    } rows[] = {{gbnf_read, "root ::= \"a\" [^b]{1,3} (root | \"c\")?"},
                {lark_read, "start: /a+b/i X\n%ignore /c/\nX: \"d\"i | \"e\"..\"g\""}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].text);
        uint64_t n = 0;
        for (;; n++) {
            uint64_t countdown = n;
            Error err = {0};
            if (read_with(rows[i].read, rows[i].text, &countdown, &err)) break;
            // A language that is full for want of memory may be told as too large.
            if (!CHECK(err.code == ERR_NO_MEMORY || err.code == ERR_TOO_LARGE)) break;
        }
        CHECK(n > 50);
    }
}

// ---- how long it may take ----

// A chain of n rules, each of which ends or goes on with the next one.
static Str chain(uint32_t n, Arena *arena) {
    size_t size = 32ull * n + 64, length = 0;
    char *text = arena_new(arena, char, size);
    length += (size_t)snprintf(text, size, "root::=r0\n");
    for (uint32_t i = 0; i < n; i++)
        length += (size_t)snprintf(text + length, size - length, "r%x::=\"a\"r%x|\"b\"\n", i, i + 1);
    length += (size_t)snprintf(text + length, size - length, "r%x::=\"c\"", n);
    return (Str){text, length};
}

// Asked so often, it says that nobody wants the result.
typedef struct {
    uint32_t asked, wanted;
} Client;

static bool is_gone(const void *context) {
    Client *c = (Client *)(uintptr_t)context;
    return ++c->asked > c->wanted;
}

static const Grammar *compile_bounded(Str text, uint64_t work_max, const LangStop *stop, Arena *kept,
                                      Error *err) {
    Arena nodes = grammar_arena(0);
    LangMaker maker = {.keep = kept, .scratch = grammar_arena(2), .work_max = 1 << 28};
    GrammarBuilder *b = grammar_builder_new(&nodes);
    GrammarNode root;
    const Grammar *g;
    if (!gbnf_read(text, NULL, b, &maker, grammar_arena(1), &root, err)) return NULL;
    grammar_bound_work(b, work_max, stop);
    return grammar_compile(b, root, kept, grammar_arena(1), &g, err) ? g : NULL;
}

// Chains that are too long for one automaton once took an hour: below each rule all others were looked at
// again, which nothing counted.
TEST(grammar_chains_of_rules_compile_in_time) {
    static const uint32_t lengths[] = {8000, 45000};
    Arena all = os_arena(256u << 20), texts = os_arena(4u << 20);
    for (size_t i = 0; i < COUNT_OF(lengths); i++) {
        Arena kept = all, memory = texts;
        Error err = {0};
        TEST_CASE_LABEL("%u rules", lengths[i]);
        const Grammar *g =
            compile_bounded(chain(lengths[i], &memory), GRAMMAR_COMPILE_WORK_MAX, NULL, &kept, &err);
        if (!g) {
            FAIL("%s", err.message);
            continue;
        }
        GrammarMatcher *m = grammar_start_matcher(g, grammar_byte_trie());
        CHECK(grammar_takes(m, STR("aab")) && grammar_takes(m, STR("b")));
        CHECK(!grammar_takes(m, STR("aac")) && !grammar_takes(m, STR("bb")));
    }
    os_release(all.next, arena_left(&all));
    os_release(texts.next, arena_left(&texts));
}

TEST(grammar_compiling_ends_with_its_work_or_its_client) {
    Arena all = os_arena(256u << 20), texts = os_arena(1u << 20);
    Str text = chain(20000, &texts);
    uint64_t taken = 0;
    for (uint64_t work_max = 100 * 1000; work_max <= GRAMMAR_COMPILE_WORK_MAX; work_max *= 10) {
        Arena kept = all;
        Error err = {0};
        if (compile_bounded(text, work_max, NULL, &kept, &err)) taken = taken ? taken : work_max;
        else CHECK(err.code == ERR_TOO_LARGE && !taken);
    }
    CHECK_U64_EQ(GRAMMAR_COMPILE_WORK_MAX, taken);
    // It is asked all along, so whenever the client goes, it ends.
    Client never = {.wanted = UINT32_MAX};
    LangStop stop = {is_gone, &never};
    Arena kept = all;
    Error err = {0};
    CHECK(compile_bounded(text, GRAMMAR_COMPILE_WORK_MAX, &stop, &kept, &err) != NULL);
    CHECK(never.asked > 100);
    const uint32_t wanted[] = {0, 50, never.asked - 1};
    for (size_t i = 0; i < COUNT_OF(wanted); i++) {
        Client client = {.wanted = wanted[i]};
        stop.context = &client;
        kept = all;
        CHECK(!compile_bounded(text, GRAMMAR_COMPILE_WORK_MAX, &stop, &kept, &err));
        CHECK_INT_EQ(ERR_CANCELLED, err.code);
        CHECK_INT_EQ(wanted[i] + 1, client.asked);
    }
    os_release(all.next, arena_left(&all));
    os_release(texts.next, arena_left(&texts));
}
