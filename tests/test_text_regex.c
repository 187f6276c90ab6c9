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
    RegexScan scan = {.regex = re, .text = text, .trail = arena_new(&scratch, uint32_t, text.len)};
    for (size_t at = 0, start, end; at < text.len; at = end) {
        if (!regex_find(&scan, at, &start, &end)) start = end = text.len;
        if (start > at) strbuf_printf(out, "%s%.*s", at ? "^" : "", STR_ARG(str_slice(text, at, start)));
        if (end > start) strbuf_printf(out, "%s%.*s", start ? "^" : "", STR_ARG(str_slice(text, start, end)));
    }
}

// Expected pieces: tokenizers 0.23.3, pre_tokenizers.Split(Regex(pattern), "isolated"), which uses Oniguruma.
TEST(regex_cuts_as_oniguruma_does) {
    static const struct {
        const char *pattern, *text, *pieces;
    } rows[] = {
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
    };
    GuardedMemory guarded = guard_allocate(4096);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].pattern);
        Regex re;
        Error err = {0};
        char memory[256];
        StrBuf found = STRBUF(memory);
        if (!CHECK(compile(rows[i].pattern, &re, &err))) continue;
        put_pieces(&re, guard_press(&guarded, str_from_c(rows[i].text)), &found);
        CHECK_STR_EQ(rows[i].pieces, strbuf_str(&found));
    }
}

TEST(regex_refuses_what_it_does_not_do) {
    static const struct {
        const char *pattern;
        uint64_t position;
        const char *reason;
    } rows[] = {
        {"a*", ERROR_NO_POSITION, "empty string"},
        {"", ERROR_NO_POSITION, "empty string"},
        {"a|", ERROR_NO_POSITION, "empty string"},
        {"(?=a)", ERROR_NO_POSITION, "empty string"},
        {"(a", 0, "without end"},
        {"a)", 1, "without group"},
        {"[a", 0, "without end"},
        {"x[]a]", 1, "empty class"},
        {"*a", 0, "misplaced"},
        {"ab|+", 3, "misplaced"},
        {"^a", 0, "misplaced"},
        {"a{2", 1, "counts"},
        {"a{3,2}", 1, "counts"},
        {"a{9999}", 2, "too large"},
        {"\\p{Han}", 2, "property"},
        {"\\p{L", 2, "property"},
        {"\\pL", 2, "property"},
        {"\\b", 0, "escape"},
        {"a\\bb", 1, "escape"},
        {"(a)\\1", 3, "escape"},
        {"\\", 0, "backslash"},
        {"\\u12", 4, "hexadecimal"},
        {"\\x{110000}", 9, "hexadecimal"},
        {"(?<=a)b", 0, "group"},
        {"(?<n>a)", 0, "group"},
        {"(?>a)", 0, "group"},
        {"(?i)a", 0, "group"},
        {"a(?=bc)", 1, "more than one character"},
        {"(?:ab)++", 6, "possessive"},
        {"[b-a]", 1, "range"},
        {"[a-\\d]", 1, "range"},
        {"[[:alpha:]]", 1, "POSIX"},
        {"(?i:\xC3\xA9)", 6, "ASCII"},
        {"\xFF", 0, "UTF-8"},
        {"(?:(?:a{200}){200}){200}", ERROR_NO_POSITION, "too large"},
        {"(?:a|b)*a(?:a|b){14}", ERROR_NO_POSITION, "too large"},
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

TEST(regex_reports_full_arenas) {
    for (uint64_t failing = 0;; failing++) {
        uint64_t countdown = failing;
        Arena arena = test_arena(), scratch = test_arena();
        arena.fail_countdown = scratch.fail_countdown = &countdown;
        Regex re;
        Error err = {0};
        bool ok = regex_compile(STR("[a-c]+x{2}|\\p{L}++|(?i:k)(?!\\S)"), &arena, scratch, &re, &err);
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
