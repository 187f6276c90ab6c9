// The pattern engine against Oniguruma, its refusals, and its bound on hostile text.
#include "base/strbuf.h"
#include "guard.h"
#include "os/os.h"
#include "runner.h"
#include "text/pretokenizer.h"

static Arena test_arena(void) {
    return os_arena(256u << 20);
}

static bool compile(const char *pattern, Regex *out, Error *err) {
    static Arena arena, scratch;
    if (!arena.next) arena = test_arena();
    if (!scratch.next) scratch = test_arena();
    return regex_compile(str_from_c(pattern), &arena, scratch, out, err);
}

// The pieces with ^ between: matches, and what lies between them.
static void put_pieces(const Regex *re, Str text, StrBuf *out) {
    Arena scratch = test_arena();
    Pretokenizer p = {.levels = {{.regex = *re}}, .n_levels = 1};
    PretokenizerScan scan;
    Str piece;
    REQUIRE(pretokenizer_begin(&p, text, &scratch, &scan));
    while (pretokenizer_next(&scan, &piece))
        strbuf_printf(out, "%s%.*s", piece.ptr > text.ptr ? "^" : "", STR_ARG(piece));
}

// Expected pieces: tokenizers 0.23.3, pre_tokenizers.Split(Regex(pattern), "isolated"), which uses Oniguruma.
static const struct {
    const char *pattern, *text, *pieces;
} cuts[] = {
    {"a|ab", "abab", "a^b^a^b"},
    {"ab|a", "aab", "a^ab"},
    {"(?:a|ab)(?:c|bcd)", "abcd", "abcd"},
    {"a+?b|a", "aab", "aab"},
    {"a??b", "ab", "ab"},
    {"x{2,3}", "xxxxx x", "xxx^xx^ x"},
    {"x{2}", "xxxxx", "xx^xx^x"},
    {"x{,2}y", "xxxy", "x^xxy"},
    {"x{2,}", "xxxx x", "xxxx^ x"},
    {"a{1,2}+b", "aaaab", "aaaab"},
    {"a++a|b", "aab", "aa^b"},
    {"\\p{L}++\\p{N}?+", "ab1a2", "ab1^a2"},
    {"[a-c&&[^b]]+", "abcab", "a^b^ca^b"},
    {"[^\\s\\p{L}]+", "a1 -b", "a^1^ ^-^b"},
    {"\\s+(?!\\S)|\\s+", "a   b  ", "a^  ^ ^b^  "},
    {"\\s+$", "a  \012 b  ", "a^  ^\012 b^  "},
    {".+", "a\012b\015c", "a^\012^b\015c"},
    {"(?i:'ll|k)+", "'LL'lKk\342\204\252", "'LL^'l^Kk\342\204\252"},
    {"(?i:[s])", "sS\305\277x", "s^S^\305\277^x"},
    {"\\p{Lu}\\p{Ll}+", "AbcDEf\307\205b", "Abc^D^Ef^\307\205b"},
    {"\\P{L}+", "ab1 2c", "ab^1 2^c"},
    {"\\p{^N}+", "12ab3", "12^ab^3"},
    {"\\d+", "1\331\243\302\262", "1\331\243^\302\262"},
    {"[\\d\\-\\]]+", "1-]a", "1-]^a"},
    {"\\x41\\u0042\\x{1F642}", "AB\360\237\231\202", "AB\360\237\231\202"},
    {"a(?=b)|b(?=$)", "abab\012b", "a^b^a^b^\012^b"},
    {"(?:ab){2,}c?", "ababcab", "ababc^ab"},
    {"[[a-c][x-z]]+", "abxq", "abx^q"},
    {"\\u0085|\\s", "\302\205\343\200\200\342\200\213", "\302\205^\343\200\200^\342\200\213"},
    {"\\w+", "a_1\302\262\302\275\342\223\220\314\201-\342\200\277\303\251\302\267\331\243 \342\200\215x",
     "a_1\302\262\302\275\342\223\220\314\201^-^\342\200\277\303\251^\302\267^\331\243^ \342\200\215^x"},
    {"[^\\W\\d_]+", "ab_1c\303\2512", "ab^_1^c\303\251^2"},
    {"\\W", "a.b", "a^.^b"},
    {"(a|b)+c|d", "ababcdabab", "ababc^d^abab"},
    {"\\b", "ab, cd \303\251\331\243\302\275", "ab^, ^cd^ ^\303\251\331\243\302\275"},
    {"\\B", "ab c", "a^b c"},
    {"\\bfoo\\b|\\w", "foo foobar", "foo^ ^f^o^o^b^a^r"},
    {"\\d{1,3}(?=(?:\\d{3})*\\b)", "1234567 12 a1234", "1^234^567^ ^12^ a^1^234"},
    {"(?=(\\d{3})+(?!\\d))", "1234567", "1^234^567"},
    {"a(?=bc)|b|c", "abcab", "a^b^c^a^b"},
    {"a(?!bc)|b|c", "abcab", "a^b^c^a^b"},
    {"(?<=a|bc)d", "adbcdcd", "a^d^bc^d^cd"},
    {"(?<!\\w)\\d+(?!\\w)", "1 a2 3b 44", "1^ a2 3b ^44"},
    {"(?<=a+)d", "aad ad d", "aa^d^ a^d^ d"},
    {"(?<=^|\\s)a", "a ba a\012a", "a^ ba ^a^\012^a"},
    {"\\p{Han}+|\\p{Hiragana}+|\\p{katakana}",
     "\346\274\242\345\255\227\343\201\213\343\201\252\343\202\253\343\202\277ab",
     "\346\274\242\345\255\227^\343\201\213\343\201\252^\343\202\253^\343\202\277^ab"},
    {"\\p{^Latin}+", "ab\303\251\316\2611\346\274\242", "ab\303\251^\316\2611\346\274\242"},
    {"[\\p{L}&&[^\\p{Han}]]+", "ab\346\274\242\303\251\345\255\227", "ab^\346\274\242^\303\251^\345\255\227"},
    {"[x-z--b]+", "A-xyzb~", "A-xyzb^~"},
    {"[[:alpha:]]+", "a\303\2511\302\252\331\243\342\205\247", "a\303\251^1^\302\252^\331\243^\342\205\247"},
    {"[[:^digit:]]+", "ab1\331\2432c", "ab^1\331\2432^c"},
    {"[[:punct:]]+|\\p{Punct}", "a+b,.\302\253", "a^+^b^,.\302\253"},
    {"[[:upper:]][[:lower:]]+", "Abc\303\200\303\251\307\205", "Abc^\303\200\303\251^\307\205"},
    {"^a", "a\012a\012b\012", "a^\012^a^\012b\012"},
    {"$", "a\012b\012", "a^\012b^\012"},
    {"\\Ab|\\Aa", "ab\012a", "a^b\012a"},
    {"c\\z|\\n\\z", "abc\012c\012", "abc\012c^\012"},
    {"c\\Z", "c\012c\012", "c\012^c^\012"},
    {"a*", "baac", "b^aa^c"},
    {"(?:|a)*", "aab", "a^a^b"},
    {"(?:|a)+b", "aab", "aab"},
    {"(?:a|b*)*c", "abbac", "abbac"},
    {"\\s{512}(?!\\S)|\\s{4}(?!\\S)|\\s{1,2}(?!\\S)|\\s", "a           b", "a^    ^    ^  ^ ^b"},
    {"(?=[ab]{2}c)a|(?<=a.)b", "aabcabb", "a^a^b^cab^b"},
    {"(ab)*c|(ba)*c|a|b", "ababcbabac", "ababc^babac"},
    {"(?!a|b)\\w", "abcab d", "ab^c^ab ^d"},
};

TEST(regex_cuts_as_oniguruma_does) {
    GuardedMemory guarded = guard_allocate(4096);
    for (size_t i = 0; i < COUNT_OF(cuts); i++) {
        TEST_CASE_LABEL("%s", cuts[i].pattern);
        Regex re;
        Error err = {0};
        char memory[256];
        StrBuf found = STRBUF(memory);
        if (!CHECK(compile(cuts[i].pattern, &re, &err))) continue;
        Str text = guard_press(&guarded, str_from_c(cuts[i].text));
        put_pieces(&re, text, &found);
        CHECK_STR_EQ(cuts[i].pieces, strbuf_str(&found));
        if (!re.two_pass.n_states) continue;
        re.next = NULL; // in two passes, too
        found.len = 0;
        put_pieces(&re, text, &found);
        CHECK_STR_EQ(cuts[i].pieces, strbuf_str(&found));
    }
}

TEST(regex_refuses_what_it_does_not_do) {
    static const struct {
        const char *pattern;
        uint64_t position;
        const char *reason;
    } rows[] = {
        {"(a", 0, "without end"},
        {"a)", 1, "without group"},
        {"[a", 0, "without end"},
        {"x[]a]", 1, "empty class"},
        {"*a", 0, "misplaced"},
        {"ab|+", 3, "misplaced"},
        {"a{2", 1, "counts"},
        {"a{3,2}", 1, "counts"},
        {"a{9999}", 2, "too large"},
        {"\\p{L", 2, "property"},
        {"\\pL", 2, "property"},
        {"(a)\\1", 3, "escape"},
        {"\\", 0, "backslash"},
        {"\\u12", 4, "hexadecimal"},
        {"\\x{110000}", 9, "hexadecimal"},
        {"(?<n>a)", 0, "group"},
        {"(?>a)", 0, "group"},
        {"(?:ab)++", 6, "possessive"},
        {"[b-a]", 1, "range"},
        {"[a-\\d]", 1, "range"},
        {"(?i:\xC3\xA9)", 6, "ASCII"},
        {"\xFF", 0, "UTF-8"},
        {"(?:(?:a{200}){200}){200}", ERROR_NO_POSITION, "too large: \"(?:(?:a{200}){200}){200}\""},
        {"(?:a|b)*a(?:a|b){14}c(?:a|b){14}a(?:a|b)*", ERROR_NO_POSITION, "too large: \"(?:a|b)*a"},
        {"\\p{Hann}", 2, "property"},
        {"a{1001}", 2, "too large"},
        {"(?<=a(?=bc))d", 0, "look-behind"},
        {"(?<=a++)d", 0, "look-behind"},
        {"[[:alpha]", 1, "POSIX"},
        {"[[:foo:]]", 1, "POSIX"},
        {"[\\w-a]", 0, "range"},
        {"[a--]", 0, "range"},
        {"(?:a?){2}", 6, "empty"},
        {"(?i:\\p{Lu})", 10, "case-insensitive"},
        {"(?i:[\\p{L}&&[^a]])", 12, "case-insensitive"},
        {"(?i)a", 0, "group"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].pattern);
        Regex re;
        Error err = {.position = 0};
        if (!CHECK(!compile(rows[i].pattern, &re, &err))) continue;
        CHECK_INT_EQ(ERR_UNSUPPORTED, err.code);
        CHECK_U64_EQ(rows[i].position, err.position);
        if (!CHECK(strstr(err.message, rows[i].reason) != NULL)) FAIL("%s", err.message);
    }
    char nested[400];
    StrBuf deep = STRBUF(nested);
    for (int i = 0; i < 100; i++)
        strbuf_put_char(&deep, '(');
    Regex re;
    Error err;
    CHECK(!compile(nested, &re, &err));
}

// "--" where Oniguruma refuses it is a difference, as in Rust's regular expressions.
TEST(regex_class_differences) {
    static const struct {
        const char *pattern, *text, *pieces;
    } rows[] = {{"[\\w--\\d]+", "a1b_2", "a^1^b_^2"},
                {"[\\p{L}--\\p{Lu}]+", "abCd", "ab^C^d"},
                {"[x--[a-c]y]+", "xyz", "x^yz"},
                {"[\\d\\s--1--\\s]+", "123 4", "1^23^ ^4"}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].pattern);
        Regex re;
        Error err = {0};
        char memory[64];
        StrBuf found = STRBUF(memory);
        if (!CHECK(compile(rows[i].pattern, &re, &err))) continue;
        put_pieces(&re, str_from_c(rows[i].text), &found);
        CHECK_STR_EQ(rows[i].pieces, strbuf_str(&found));
    }
}

// Bytes looked at for a text of `size` bytes, the unit again and again.
static uint64_t count_steps(const Regex *re, const char *unit, size_t size) {
    Arena scratch = test_arena();
    char *text = arena_new(&scratch, char, size);
    for (size_t i = 0; i < size; i++)
        text[i] = unit[i % strlen(unit)];
    Pretokenizer p = {.levels = {{.regex = *re}}, .n_levels = 1};
    PretokenizerScan scan;
    Str piece;
    size_t total = 0;
    REQUIRE(pretokenizer_begin(&p, (Str){text, size}, &scratch, &scan));
    while (pretokenizer_next(&scan, &piece))
        total += piece.len;
    CHECK_U64_EQ(size, total);
    return scan.levels[0].scan.n_steps;
}

// Whatever the pattern, a text twice as long takes twice the steps.
TEST(regex_is_linear_for_every_pattern) {
    static const char *const patterns[] = {
        "(ab)*c|(ba)*c|a|b", "(?:a|b)*c|a", "a(?=[ab]*c)|b",      "a(?![ab]*c)|b",      "(?<=c[ab]*)a|b",
        "(?<!c[ab]*)a|b",    "a{1000}b|a",  "(?:a|b){500}c|[ab]", "\\b\\w+\\b(?= x)|a", "(a*)*c|a|b",
        "(?:a|ab)*?c|b|a",   "a*",          "(?=(?:ab)+c)|b"};
    static const char *const units[] = {"a", "ab", "ba", "aab", "ab ", "c"};
    for (size_t i = 0; i < COUNT_OF(patterns); i++) {
        Regex re;
        Error err = {0};
        if (!CHECK(compile(patterns[i], &re, &err))) FAIL("%s", err.message);
        for (size_t u = 0; u < COUNT_OF(units); u++) {
            TEST_CASE_LABEL("%s on %s", patterns[i], units[u]);
            uint64_t steps[3];
            for (size_t k = 0; k < 3; k++)
                steps[k] = count_steps(&re, units[u], (size_t)8000 << k);
            CHECK(steps[2] <= 16 * 32000);
            CHECK(steps[1] * 10 <= steps[0] * 21 + 80000 && steps[2] * 10 <= steps[1] * 21 + 80000);
        }
    }
}

TEST(regex_reports_full_arenas) {
    for (uint64_t failing = 0;; failing++) {
        uint64_t countdown = failing;
        Arena arena = test_arena(), scratch = test_arena();
        arena.fail_countdown = scratch.fail_countdown = &countdown;
        Regex re;
        Error err = {0};
        bool ok =
            regex_compile(STR("[a-c]+x{2}|\\p{L}++\\b(?=ab)|(?i:k)(?!\\S)"), &arena, scratch, &re, &err);
        os_release(arena.end - (256u << 20), 256u << 20);
        os_release(scratch.end - (256u << 20), 256u << 20);
        if (ok) break;
        CHECK(err.code == ERR_NO_MEMORY || err.code == ERR_UNSUPPORTED);
        REQUIRE(failing < 1000);
    }
}

// Each pre-tokeniser looks at each byte a bounded number of times, whatever the text.
TEST_SLOW(pretokenizers_are_linear, 180) {
    static const char *const units[] = {" ",
                                        "a",
                                        "A",
                                        "1",
                                        "=",
                                        "\n",
                                        " \n",
                                        "\t ",
                                        "aA",
                                        "'",
                                        " \xE3\x80\x80",
                                        "\xE4\xBB\x8A",
                                        "\xCC\x81",
                                        "\xFF",
                                        "a1",
                                        "= ",
                                        "'s",
                                        "\r\n ",
                                        "/\n"};
    size_t size = 50 * 1000;
    Arena arena = test_arena(), scratch = test_arena();
    char *memory = arena_new(&arena, char, size);
    for (uint32_t row = 0; row < pretokenizer_row_count; row++) {
        Pretokenizer p;
        Error err;
        REQUIRE(pretokenizer_compile(&pretokenizer_rows[row], &arena, scratch, &p, &err));
        for (size_t i = 0; i < COUNT_OF(units) * 2; i++) {
            TEST_CASE_LABEL("%s, text %zu", pretokenizer_rows[row].name, i);
            const char *unit = units[i / 2];
            for (size_t at = 0; at < size; at++)
                memory[at] = unit[at % strlen(unit)];
            if (i % 2) memory[size - 1] = 'x';
            Arena own = scratch;
            PretokenizerScan scan;
            REQUIRE(pretokenizer_begin(&p, (Str){memory, size}, &own, &scan));
            Str piece;
            size_t total = 0;
            while (pretokenizer_next(&scan, &piece)) {
                CHECK(piece.len > 0 && piece.ptr == memory + total);
                total += piece.len;
            }
            CHECK_U64_EQ(size, total);
            for (uint32_t level = 0; level < p.n_levels; level++) {
                CHECK(scan.levels[level].scan.n_steps <= 40 * size);
            }
        }
    }
}
