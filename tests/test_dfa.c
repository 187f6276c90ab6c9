// Languages over characters: patterns, products, lengths, and their spelling in bytes.
#include "base/rng.h"
#include "base/strbuf.h"
#include "base/utf8.h"
#include "grammar/rx.h"
#include "os/os.h"
#include "runner.h"

enum { WORK_MAX = 20 * 1000 * 1000 };

static Arena keep;

static LangMaker test_maker(void) {
    keep = os_arena(256u << 20);
    return (LangMaker){.keep = &keep, .scratch = os_arena(256u << 20), .work_max = WORK_MAX};
}

static bool read_lang(LangMaker *m, const char *pattern, bool searched, Lang *out, Error *err) {
    Rx rx = rx_begin(m->keep);
    uint32_t root;
    return rx_read_pattern(&rx, str_from_c(pattern), searched ? RX_SEARCHED : RX_WHOLE, m, &root, err) &&
           rx_compile(&rx, root, m, out, err);
}

static const struct {
    const char *pattern, *text;
    bool matches;
} matches[] = {
    {"^a*$", "aaa", true},
    {"^a*$", "aab", false},
    {"a+", "xxaayy", true},
    {"^$", "", true},
    {"^$", "a", false},
    {"a|^b", "cb", false},
    {"a|^b", "bc", true},
    {"(a|b$)c?", "xbc", false},
    {"(a|b$)c?", "xb", true},
    {"^(foo|bar)?$", "bar", true},
    {"^[^a-c]+$", "xyz", true},
    {"^[^a-c]+$", "xbz", false},
    {"^.{2,3}$", "\xC3\xA4\xF0\x9F\x98\x80", true},
    {"^.$", "\n", false},
    {"^[\\s\\S]$", "\n", true},
    {"^\\d{3}-\\d{4}$", "555-1212", true},
    {"^\\d$", "\xD9\xA3", false},
    {"^\\w+$", "a_9", true},
    {"^\\w$", "\xC3\xA9", false},
    {"^\\s$", "\xEF\xBB\xBF", true},
    {"^\\S$", "\xC2\x85", true},
    {"^\\p{Lu}\\P{Lu}$", "\xC3\x84\xC3\xA4", true},
    {"^\\p{Script=Greek}+$", "\xCE\xB1\xCE\xB2", true},
    {"^\\p{Letter}+$", "a1", false},
    {"^\\u{1F600}\\uD83D\\uDE00\\x41\\cJ$",
     "\xF0\x9F\x98\x80\xF0\x9F\x98\x80"
     "A\n",
     true},
    {"^[\\w.-]+@[\\w-]+\\.[a-z]{2,}$", "a.b-c@example.org", true},
    {"^[\\w.-]+@[\\w-]+\\.[a-z]{2,}$", "a.b-c@example.o", false},
    {"^(?=.*[A-Z])(?=.*\\d).{4,}$", "abC1", true},
    {"^(?=.*[A-Z])(?=.*\\d).{4,}$", "abc1", false},
    {"^(?!foo).*$", "fo", true},
    {"^(?!foo).*$", "food", false},
    {"^x(?!y$)", "xy", false},
    {"^x(?!y$)", "xyz", true},
    {"a(?=b)b|c", "zab", true},
    {"a(?:x|(?=b)\\w|(?!b)-)", "zab-", true},
    {"a(?:x|(?=b)\\w|(?!b)-)", "zac", false},
    {"^P(?:W|(?!.*W)(?=\\d|T\\d)(\\dY)?(T(?=\\d)(\\dH)?(\\dM)?)?)$", "P1YT2M", true},
    {"^P(?:W|(?!.*W)(?=\\d|T\\d)(\\dY)?(T(?=\\d)(\\dH)?(\\dM)?)?)$", "P1YT", false},
    {"^P(?:W|(?!.*W)(?=\\d|T\\d)(\\dY)?(T(?=\\d)(\\dH)?(\\dM)?)?)$", "P", false},
    {"^P(?:W|(?!.*W)(?=\\d|T\\d)(\\dY)?(T(?=\\d)(\\dH)?(\\dM)?)?)$", "PT1M", true},
    {"^a(?:[)(](?!b))?$|^c", "a)", true},
    {"^(?<year>\\d{4})$", "2024", true},
    {"^(?P<year>\\d{4})$", "2024", true},
    {"\\A(?:a|b)\\Z", "a", true},
    {"\\A(?:a|b)\\Z", "ab", false},
    {"^[]$", "", false},
    {"^[^]$", "]", true},
    {"^[a\\]-]+$", "a]-", true},
    {"^(a|b)*?a(a|b){3}$", "abaabb", true},
    {"^(a|b)*?a(a|b){3}$", "abbabb", false},
};

TEST(dfa_patterns_match) {
    LangMaker m = test_maker();
    for (size_t i = 0; i < COUNT_OF(matches); i++) {
        TEST_CASE_LABEL("%s on \"%s\"", matches[i].pattern, matches[i].text);
        Lang lang;
        Error err = {0};
        if (!read_lang(&m, matches[i].pattern, true, &lang, &err)) {
            FAIL("%s", err.message);
            continue;
        }
        CHECK(lang_accepts(&lang, str_from_c(matches[i].text)) == matches[i].matches);
    }
}

TEST(dfa_whole_patterns_match_all_of_a_text) {
    LangMaker m = test_maker();
    Lang lang;
    Error err = {0};
    REQUIRE(read_lang(&m, "ab|c(?=d)d", false, &lang, &err));
    CHECK(lang_accepts(&lang, STR("ab")) && lang_accepts(&lang, STR("cd")));
    CHECK(!lang_accepts(&lang, STR("xab")) && !lang_accepts(&lang, STR("abx")) &&
          !lang_accepts(&lang, STR("c")));
}

static const struct {
    const char *pattern, *message;
} refused[] = {
    {"(a)\\1", "a back reference at byte 3 of the pattern"},
    {"\\bfoo", "a border of a word (\\b, \\B) at byte 0 of the pattern"},
    {"(?<=a)b", "a look behind at byte 0 of the pattern"},
    {"(a(?!b))c", "a look ahead in a group that is repeated or followed by more at byte 2 of the pattern"},
    {"(a(?!b))*", "a look ahead in a group that is repeated or followed by more at byte 2 of the pattern"},
    {"(a|(?=b))\\w*$",
     "a look ahead in a group that is repeated or followed by more at byte 3 of the pattern"},
    {"x(?:(?=^a)b)", "a look ahead with ^ in or behind it at byte 4 of the pattern"},
    {"(?i)a", "an unknown kind of group at byte 0 of the pattern"},
    {"(a", "a group without end at byte 0 of the pattern"},
    {"a)", "a closing parenthesis without an opening one at byte 1 of the pattern"},
    {"[a", "a class without end at byte 0 of the pattern"},
    {"[b-a]", "a range that ends before it begins at byte 1 of the pattern"},
    {"a{2,1}", "a repetition whose bounds are the wrong way round at byte 1 of the pattern"},
    {"a{99999}", "a repetition of more than 10,000 at byte 1 of the pattern"},
    {"*a", "a repetition of nothing at byte 0 of the pattern"},
    {"a**", "a repeated repetition at byte 2 of the pattern"},
    {"a*{2}", "a repeated repetition at byte 2 of the pattern"},
    {"{2}", "a repetition of nothing at byte 0 of the pattern"},
    {"a|{2,}", "a repetition of nothing at byte 2 of the pattern"},
    {"^{2}", "a repeated assertion at byte 1 of the pattern"},
    {"\\A+", "a repeated assertion at byte 2 of the pattern"},
    {"a{,3}", "a repetition without a least number (write {0,n}) at byte 1 of the pattern"},
    {"a{2", "a brace that begins no repetition (write \\{) at byte 1 of the pattern"},
    {"x{a}", "a brace that begins no repetition (write \\{) at byte 1 of the pattern"},
    {"(a{})", "a brace that begins no repetition (write \\{) at byte 2 of the pattern"},
    {"{{a}}", "a brace that begins no repetition (write \\{) at byte 0 of the pattern"},
    {"a{1,2}}", "a brace that ends no repetition (write \\}) at byte 6 of the pattern"},
    {"[[]]", "a bracket that ends no class (write \\]) at byte 3 of the pattern"},
    {"\\a", "an unknown escape at byte 0 of the pattern"},
    {"\\p{Nonsense}", "an unknown or unsupported property at byte 0 of the pattern"},
    {"\\uD800", "half of a surrogate pair at byte 0 of the pattern"},
    {"a\\", "a backslash at the end at byte 1 of the pattern"},
    {"(a{1000}){1000}", "needs more than 262144 steps: repetitions are too large"},
    {"(a|b)*a(a|b){20}", "needs an automaton of more than 65536 states"},
};

TEST(dfa_patterns_are_refused_by_name) {
    LangMaker m = test_maker();
    for (size_t i = 0; i < COUNT_OF(refused); i++) {
        TEST_CASE_LABEL("%s", refused[i].pattern);
        Lang lang;
        Error err = {0};
        m.work = 0;
        CHECK(!read_lang(&m, refused[i].pattern, true, &lang, &err));
        CHECK_STR_EQ(refused[i].message, err.message);
    }
}

// A pattern that is too large is told with the limit and the place.
TEST(dfa_patterns_of_too_many_parts_name_the_limit) {
    static const struct {
        const char *part;
        uint32_t n;
        const char *message;
    } rows[] = {
        {"ab|", 10000, NULL},
        {"a", 20000, NULL},
        {"ab|", 20000, "more than 65536 parts at byte 60001 of the pattern"},
        {"a", 70000, "more than 65536 parts at byte 65535 of the pattern"},
        {"(?=a)", 90, NULL},
    };
    static char text[1 << 17];
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        StrBuf b = STRBUF(text);
        for (uint32_t k = 0; k < rows[i].n; k++)
            strbuf_put(&b, str_from_c(rows[i].part));
        strbuf_put_char(&b, 'a');
        strbuf_put_char(&b, '\0');
        TEST_CASE_LABEL("%s %u", rows[i].part, rows[i].n);
        LangMaker m = test_maker();
        Lang lang;
        Error err = {0};
        CHECK(read_lang(&m, text, false, &lang, &err) == !rows[i].message);
        CHECK_STR_EQ(rows[i].message ? rows[i].message : "", err.message);
    }
}

// ---- products ----

static bool complement(LangMaker *m, const Lang *a, Lang *out, Error *err) {
    Lang all;
    return lang_length(m, 0, LANG_NONE, &all, err) && lang_combine(m, LANG_WITHOUT, &all, a, out, err);
}

TEST(dfa_products_are_those_of_the_sets) {
    static const char *const patterns[] = {"^a*$",    "b",  "^(ab)*$", "^.{0,2}$",
                                           "^[^b]*$", "^$", "a$|^b",   "^a?b?$"};
    static const char letters[] = "abc";
    LangMaker m = test_maker();
    Error err = {0};
    for (size_t i = 0; i < COUNT_OF(patterns) * COUNT_OF(patterns); i++) {
        Lang a, b, both, either, without, not_a, again;
        REQUIRE(read_lang(&m, patterns[i / COUNT_OF(patterns)], true, &a, &err));
        REQUIRE(read_lang(&m, patterns[i % COUNT_OF(patterns)], true, &b, &err));
        REQUIRE(lang_combine(&m, LANG_AND, &a, &b, &both, &err) &&
                lang_combine(&m, LANG_OR, &a, &b, &either, &err));
        REQUIRE(lang_combine(&m, LANG_WITHOUT, &a, &b, &without, &err));
        REQUIRE(complement(&m, &a, &not_a, &err) && complement(&m, &not_a, &again, &err));
        CHECK(lang_equal(&a, &again));
        for (uint32_t k = 0; k < 3 * 3 * 3 * 3 * 4; k++) { // texts of 0 to 3 letters, of "abc"
            char text[4];
            Str s = {text, k % 4};
            for (uint32_t c = 0, rest = k / 4; c < 4; c++, rest /= 3)
                text[c] = letters[rest % 3];
            bool in_a = lang_accepts(&a, s), in_b = lang_accepts(&b, s);
            CHECK(lang_accepts(&both, s) == (in_a && in_b) && lang_accepts(&either, s) == (in_a || in_b));
            CHECK(lang_accepts(&without, s) == (in_a && !in_b) && lang_accepts(&not_a, s) == !in_a);
        }
    }
}

TEST(dfa_languages_are_canonical) {
    static const char *const same[][2] = {{"^(a|b)*$", "^[ab]*$"},
                                          {"^(aa?)?$", "^a{0,2}$"},
                                          {"^a|b", "b|^a"},
                                          {"^(a*)*$", "^a*$"},
                                          {"^[^]*$", ""}};
    LangMaker m = test_maker();
    Error err = {0};
    for (size_t i = 0; i < COUNT_OF(same); i++) {
        TEST_CASE_LABEL("%s", same[i][0]);
        Lang a, b;
        REQUIRE(read_lang(&m, same[i][0], true, &a, &err) && read_lang(&m, same[i][1], true, &b, &err));
        CHECK(lang_equal(&a, &b));
    }
    Lang words, pattern, never;
    static const Str few[] = {{"tea", 3}, {"ten", 3}, {"", 0}, {"i\xCC\x88", 3}};
    REQUIRE(lang_words(&m, few, COUNT_OF(few), &words, &err));
    REQUIRE(read_lang(&m, "^(te[an]|i\\u0308|)$", true, &pattern, &err));
    CHECK(lang_equal(&words, &pattern) && !lang_is_infinite(&m, &words));
    REQUIRE(lang_combine(&m, LANG_WITHOUT, &words, &pattern, &never, &err));
    CHECK(lang_is_empty(&never));
    REQUIRE(read_lang(&m, "^ab*$", true, &pattern, &err));
    CHECK(lang_is_infinite(&m, &pattern));
    REQUIRE(lang_length(&m, 2, 4, &words, &err) && read_lang(&m, "^[^]{2,4}$", true, &pattern, &err));
    CHECK(lang_equal(&words, &pattern));
}

// ---- bytes ----

static void put_spelled(StrBuf *out, uint32_t codepoint, LangSpelling spelling, uint32_t how) {
    static const char shorts[][2] = {{'"', '"'}, {'\\', '\\'}, {'/', '/'}, {8, 'b'},
                                     {12, 'f'},  {10, 'n'},    {13, 'r'},  {9, 't'}};
    char bytes[4];
    bool must = spelling != LANG_UTF8 && (codepoint < 32 || codepoint == '"' || codepoint == '\\');
    for (size_t i = 0; spelling != LANG_UTF8 && i < COUNT_OF(shorts); i++) {
        bool wanted = spelling == LANG_JSON_PLAIN ? must : how % 3 == 1;
        if ((uint32_t)shorts[i][0] == codepoint && wanted) {
            strbuf_printf(out, "\\%c", shorts[i][1]);
            return;
        }
    }
    if (must || (spelling == LANG_JSON_STRING && how % 3 == 2)) {
        const char *format = how & 4 && spelling == LANG_JSON_STRING ? "\\u%04X" : "\\u%04x";
        if (codepoint >= 0x10000) strbuf_printf(out, format, 0xD800 + ((codepoint - 0x10000) >> 10));
        strbuf_printf(out, format,
                      codepoint >= 0x10000 ? 0xDC00 + ((codepoint - 0x10000) & 1023) : codepoint);
        return;
    }
    strbuf_put(out, (Str){bytes, utf8_encode(codepoint, bytes)});
}

static uint32_t random_character(uint32_t draw) {
    static const uint32_t few[] = {0,     8,      9,      10,     31,      '"',     '/',     '\\',
                                   'a',   'b',    'Z',    0x7F,   0x80,    0xE9,    0x3B1,   0x7FF,
                                   0x800, 0xD7FF, 0xE000, 0xFFFF, 0x10000, 0x1F600, 0x10FFFF};
    return few[draw % COUNT_OF(few)];
}

TEST(dfa_spells_what_the_language_has) {
    static const char *const patterns[] = {"",
                                           "^$",
                                           "^.*$",
                                           "^[a-z/]+$",
                                           "^[^\"\\\\]*$",
                                           "\\p{L}",
                                           "^[\\u0000-\\u{10000}]{1,3}$",
                                           "^\\P{L}$",
                                           "^.{2,5}$",
                                           "\\n|\\uD7FF|\\uE000",
                                           "^[\\u{1F600}-\\u{10FFFF}]*$"};
    LangMaker m = test_maker();
    Error err = {0};
    uint64_t draws = 0;
    uint32_t accepted = 0;
    for (size_t p = 0; p < COUNT_OF(patterns); p++) {
        Lang lang;
        REQUIRE(read_lang(&m, patterns[p], true, &lang, &err));
        for (LangSpelling spelling = LANG_UTF8; spelling <= LANG_JSON_PLAIN; spelling++) {
            Dfa dfa;
            TEST_CASE_LABEL("%s, spelling %d", patterns[p], (int)spelling);
            bool quoted = spelling != LANG_UTF8;
            Str before = quoted ? STR("<") : STR(""), after = quoted ? STR("\"") : STR("");
            REQUIRE(dfa_from_lang(&m, &lang, spelling, before, after, &dfa, &err));
            for (int i = 0; i < 2000; i++) {
                char plain[64], spelled[128], bytes[4];
                StrBuf text = STRBUF(plain), out = STRBUF(spelled);
                RngBlock r = rng_philox(7, draws++);
                strbuf_put(&out, before);
                for (uint32_t c = 0; c < r.word[0] % 6; c++) {
                    uint32_t codepoint = random_character(r.word[1] >> (5 * c));
                    strbuf_put(&text, (Str){bytes, utf8_encode(codepoint, bytes)});
                    put_spelled(&out, codepoint, spelling, r.word[2] >> (4 * c));
                }
                bool in = lang_accepts(&lang, strbuf_str(&text));
                accepted += in;
                CHECK(!quoted || !dfa_accepts(&dfa, strbuf_str(&out)));
                strbuf_put(&out, after);
                CHECK(dfa_accepts(&dfa, strbuf_str(&out)) == in);
            }
        }
    }
    CHECK(accepted > 5000);
}

TEST(dfa_spells_only_valid_text) {
    static const char *const bad[] = {
        "\xC0\x80", "\xED\xA0\x80",           "\xF4\x90\x80\x80", "\xE0\x80\x80", "\x80", "\\ud800",
        "\\udc00",  "\\ud800\\u0041",         "\\ud800\\ud800",   "\\x",          "\n",   "\\u12g4",
        "\"",       "\\ud83d\xF0\x9F\x98\x80"};
    LangMaker m = test_maker();
    Error err = {0};
    Lang all;
    Dfa dfa;
    REQUIRE(lang_length(&m, 0, LANG_NONE, &all, &err));
    REQUIRE(dfa_from_lang(&m, &all, LANG_JSON_STRING, (Str){0}, (Str){0}, &dfa, &err));
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        TEST_CASE_LABEL("row %zu", i);
        CHECK(!dfa_accepts(&dfa, str_from_c(bad[i])));
    }
    CHECK(dfa_accepts(&dfa, STR("\\ud83d\\uDE00\\u0000\\/")));
    CHECK_INT_EQ(20, dfa.n_states);
    CHECK_INT_EQ(22, dfa.n_classes);
    REQUIRE(dfa_from_lang(&m, &all, LANG_UTF8, (Str){0}, (Str){0}, &dfa, &err));
    CHECK(!dfa_accepts(&dfa, STR("\xED\xA0\x80")) && dfa_accepts(&dfa, STR("\n\xED\x9F\xBF")));
}

TEST(dfa_has_no_dead_ends) {
    static const char *const patterns[] = {"^[a-z]{3}$", "\\p{Lu}", "^(?!foo).*$", "^(\\d{4}-\\d\\d)?$"};
    LangMaker m = test_maker();
    Error err = {0};
    for (size_t p = 0; p < COUNT_OF(patterns); p++) {
        Lang lang;
        Dfa d;
        TEST_CASE_LABEL("%s", patterns[p]);
        REQUIRE(read_lang(&m, patterns[p], true, &lang, &err));
        REQUIRE(dfa_from_lang(&m, &lang, LANG_JSON_STRING, STR("\""), STR("\""), &d, &err));
        // Marks go back from the states that accept until nothing changes.
        uint8_t *ends = arena_new(m.keep, uint8_t, d.n_states);
        memcpy(ends, d.accepts, d.n_states);
        for (bool changed = true; changed;) {
            changed = false;
            for (size_t i = 0; i < (size_t)d.n_states * d.n_classes; i++) {
                if (d.next[i] == DFA_NONE || !ends[d.next[i]] || ends[i / d.n_classes]) continue;
                ends[i / d.n_classes] = 1;
                changed = true;
            }
        }
        for (uint32_t s = 0; s < d.n_states; s++)
            CHECK(ends[s]);
    }
}

TEST(dfa_work_and_memory_are_bounded) {
    LangMaker m = test_maker();
    Lang lang;
    Error err = {0};
    m.work_max = 1000;
    CHECK(!read_lang(&m, "^(a|b|c){100}$", true, &lang, &err));
    CHECK_STR_EQ("needs more than 1000 steps of work", err.message);
    // Whichever allocation fails first, it is told.
    bool ended = false;
    for (uint64_t n = 0; !ended; n++) {
        uint64_t left = n, left_scratch = n;
        Arena kept = os_arena(4u << 20), scratch = os_arena(16u << 20);
        kept.fail_countdown = &left;
        scratch.fail_countdown = &left_scratch;
        LangMaker small = {.keep = &kept, .scratch = scratch, .work_max = WORK_MAX};
        Dfa dfa;
        ended = read_lang(&small, "^(?!a)\\w+x{2}$", true, &lang, &err) &&
                dfa_from_lang(&small, &lang, LANG_JSON_STRING, STR("\""), STR("\""), &dfa, &err);
        CHECK(ended || err.code == ERR_NO_MEMORY || err.code == ERR_TOO_LARGE);
    }
}
