// Grammars: what they take, against a plain recogniser that tries everything; masks, against trying every
// token.
#include "base/rng.h"
#include "base/strbuf.h"
#include "grammar_distance.h"
#include "grammar_make.h"
#include "os/os.h"
#include "runner.h"

#include <stdio.h>

// ---- making them ----

typedef struct {
    uint64_t key, draws;
} Dice;

static uint32_t roll(Dice *dice, uint32_t below) {
    return rng_philox(dice->key, dice->draws++).word[0] % below;
}

// A vocabulary of random texts over the letters of the samples, some of them twice, and tokens without text:
// control tokens, and two that end a text.
enum { VOCAB_TOKENS = 301, VOCAB_CONTROL = 290, VOCAB_END = 299 };

static const TokenTrie *sample_trie(Dice *dice, Arena *arena) {
    static TokenTrie trie;
    static Str pieces[VOCAB_TOKENS];
    static const int32_t ends[] = {VOCAB_END, VOCAB_END + 1};
    Error err = {0};
    for (uint32_t i = 0; i < VOCAB_TOKENS; i++) {
        char text[8];
        size_t length = i >= VOCAB_CONTROL ? 0 : 1 + roll(dice, 6);
        for (size_t k = 0; k < length; k++)
            text[k] = (char)('a' + roll(dice, 3));
        pieces[i] = arena_copy_str(arena, (Str){text, length});
    }
    REQUIRE(token_trie_build(pieces, VOCAB_TOKENS, ends, 2, arena, grammar_arena(1), &trie, &err));
    return &trie;
}

// ---- written by hand ----

static GrammarNode lit(GrammarBuilder *b, const char *text) {
    return grammar_add_literal(b, str_from_c(text));
}

static GrammarNode seq(GrammarBuilder *b, GrammarNode first, GrammarNode second) {
    return grammar_add_sequence(b, (GrammarNode[]){first, second}, 2);
}

static GrammarNode either(GrammarBuilder *b, GrammarNode first, GrammarNode second) {
    return grammar_add_choice(b, (GrammarNode[]){first, second}, 2);
}

static GrammarNode make_nested(GrammarBuilder *b) {
    GrammarNode list = grammar_add_rule(b, STR("list"));
    GrammarNode body =
        seq(b, lit(b, "("), seq(b, grammar_add_repeat(b, list, 0, GRAMMAR_UNBOUNDED), lit(b, ")")));
    grammar_set_rule(b, list, body);
    return list;
}

static GrammarNode make_nullable_turns(GrammarBuilder *b) {
    GrammarNode maybe = grammar_add_repeat(b, lit(b, "a"), 0, 1);
    return grammar_add_repeat(b, either(b, maybe, grammar_add_repeat(b, lit(b, "b"), 0, GRAMMAR_UNBOUNDED)),
                              2, 3);
}

static GrammarNode make_right_list(GrammarBuilder *b) {
    GrammarNode list = grammar_add_rule(b, STR("list"));
    grammar_set_rule(b, list, either(b, lit(b, "x"), seq(b, lit(b, "x,"), list)));
    return list;
}

static GrammarMembers json_members(GrammarBuilder *b, const GrammarMember *members, uint32_t count) {
    return (GrammarMembers){.open = lit(b, "{"),
                            .colon = lit(b, ":"),
                            .comma = lit(b, ","),
                            .close = lit(b, "}"),
                            .members = members,
                            .n_members = count,
                            .max = GRAMMAR_UNBOUNDED};
}

static GrammarNode make_ordered(GrammarBuilder *b) {
    GrammarMember members[] = {{.key = lit(b, "a"), .value = lit(b, "1"), .required = true},
                               {.key = lit(b, "b"), .value = lit(b, "2")},
                               {.key = lit(b, "c"), .value = lit(b, "3"), .required = true},
                               {.key = lit(b, "n"), .value = GRAMMAR_NEVER}};
    GrammarMembers m = json_members(b, members, 4);
    return grammar_add_members(b, &m);
}

static GrammarNode make_any_order(GrammarBuilder *b) {
    static const uint32_t needs[] = {2};
    GrammarMember members[] = {{.key = lit(b, "a"), .value = lit(b, "1"), .required = true},
                               {.key = lit(b, "b"), .value = lit(b, "2"), .needs = needs, .n_needs = 1},
                               {.key = lit(b, "c"), .value = lit(b, "3")}};
    GrammarFurther further[] = {{lit(b, "z"), lit(b, "9")}};
    GrammarMembers m = json_members(b, members, 3);
    m.any_order = true;
    m.further = further;
    m.n_further = 1;
    m.min = 2;
    m.max = 3;
    return grammar_add_members(b, &m);
}

static GrammarNode make_items(GrammarBuilder *b) {
    GrammarItem prefix[] = {{.other = lit(b, "p")}};
    GrammarItems items = {.open = lit(b, "["),
                          .comma = lit(b, ","),
                          .close = lit(b, "]"),
                          .prefix = prefix,
                          .n_prefix = 1,
                          .rest = {.other = lit(b, "o"), .match = lit(b, "m")},
                          .min = 0,
                          .max = 4,
                          .contains_min = 2,
                          .contains_max = 2};
    return grammar_add_items(b, &items);
}

static GrammarNode make_different(GrammarBuilder *b) {
    GrammarNode leaves[] = {lit(b, "0"), lit(b, "b"), lit(b, "ab")};
    GrammarItems items = {.open = lit(b, "["),
                          .comma = lit(b, ","),
                          .close = lit(b, "]"),
                          .rest = {.other = grammar_add_choice(b, leaves, COUNT_OF(leaves))},
                          .min = 1,
                          .max = 9,
                          .contains_max = GRAMMAR_UNBOUNDED,
                          .unique = true};
    return grammar_add_items(b, &items);
}

static GrammarNode make_triggered(GrammarBuilder *b) {
    static const Str marker = STR("<<");
    GrammarNode call = seq(b, grammar_add_text_until(b, &marker, 1), seq(b, lit(b, "go"), lit(b, ">>")));
    return seq(b, grammar_add_repeat(b, call, 0, GRAMMAR_UNBOUNDED), grammar_add_text_without(b, &marker, 1));
}

static const struct {
    const char *name;
    GrammarNode (*make)(GrammarBuilder *b);
    const char *yes[8], *no[8];
} hand_built[] = {
    {"nested", make_nested, {"()", "(())", "(()(()))"}, {"", "(", "())", "()()", "x"}},
    {"nullable turns", make_nullable_turns, {"", "a", "aba", "bbbb", "abba"}, {"ababab", "abab", "c"}},
    {"right list", make_right_list, {"x", "x,x", "x,x,x"}, {"", "x,", ",x", "xx"}},
    {"ordered",
     make_ordered,
     {"{a:1,c:3}", "{a:1,b:2,c:3}"},
     {"{}", "{a:1}", "{c:3,a:1}", "{a:1,c:3,b:2}", "{a:1,a:1,c:3}", "{a:1,n:", "{a:1,b:3,c:3}"}},
    {"any order",
     make_any_order,
     {"{a:1,c:3}", "{c:3,a:1}", "{b:2,c:3,a:1}", "{z:9,a:1}", "{z:9,z:9,a:1}", "{c:3,b:2,a:1}"},
     {"{a:1}", "{c:3,z:9}", "{a:1,b:2}", "{a:1,b:2,z:9}", "{a:1,c:3,z:9,z:9}", "{a:1,a:1}"}},
    {"items",
     make_items,
     {"[p,m,m]", "[p,o,m,m]", "[p,m,o,m]", "[p,m,m,o]"},
     {"[]", "[p]", "[p,m]", "[p,m,m,m]", "[p,o,o,m,m]", "[p,o,o", "[m,m]"}},
    {"items that are all different",
     make_different,
     {"[0]", "[b,0]", "[ab,b,0]", "[0,ab,b]"},
     {"[]", "[0,0]", "[b,0,b]", "[a]", "[ab,", "[ab,b,0,"}},
    {"triggered",
     make_triggered,
     {"", "free", "a<b", "a<<go>>", "a<<go>>b<<go>> <", "<<go>>"},
     {"<<", "a<<g", "<<go>", "a<<no>>", "<<<go>>"}},
};

TEST(grammar_takes_what_it_describes) {
    for (size_t i = 0; i < COUNT_OF(hand_built); i++) {
        TEST_CASE_LABEL("%s", hand_built[i].name);
        Arena scratch = grammar_arena(0), arena = grammar_arena(2);
        GrammarBuilder *b = grammar_builder_new(&scratch);
        const Grammar *g;
        Error err = {0};
        GrammarNode root = hand_built[i].make(b);
        if (!CHECK(grammar_compile(b, root, &arena, scratch, &g, &err))) continue;
        GrammarMatcher *m = grammar_start_matcher(g, grammar_byte_trie());
        for (size_t k = 0; k < COUNT_OF(hand_built[i].yes) && hand_built[i].yes[k]; k++) {
            TEST_CASE_LABEL("%s: %s", hand_built[i].name, hand_built[i].yes[k]);
            CHECK(grammar_takes(m, str_from_c(hand_built[i].yes[k])));
        }
        for (size_t k = 0; k < COUNT_OF(hand_built[i].no) && hand_built[i].no[k]; k++) {
            TEST_CASE_LABEL("%s: not %s", hand_built[i].name, hand_built[i].no[k]);
            CHECK(!grammar_takes(m, str_from_c(hand_built[i].no[k])));
        }
    }
}

// ---- random grammars, and a recogniser that tries everything ----

typedef enum { T_LIT, T_EMPTY, T_NEVER, T_SEQ, T_CHOICE, T_REPEAT, T_RULE, T_MEMBERS, T_ITEMS } Kind;

enum { T_NODES = 14, T_KIDS = 3, T_TEXT = 31 };

// Members have the keys below; kids are their values. An array's kids: its first item, others, matching ones.
typedef struct {
    Kind kind;
    const char *text;
    int kids[T_KIDS], n_kids;
    uint32_t min, max, contains_min, contains_max;
    bool required[T_KIDS], any_order, further;
    int needs[T_KIDS]; // or -1
    int different;     // of an array: 0, or which of the sets below its items are from, all different
} TNode;

typedef struct {
    TNode nodes[T_NODES];
    int n_nodes; // the last one is the root
    // ends[n][i]: where node n can end when it begins at i, a bit each
    uint32_t ends[T_NODES][T_TEXT + 1];
    const char *input;
    int length;
} Sample;

static const char *const sample_keys[] = {"a", "b", "ca"};

// Items that are all different: two leaves of texts, or any texts of a and b.
static const char *const sample_items[][2][5] = {{{0}, {0}},
                                                 {{"a", "ab", "aab"}, {"b", "ba"}},
                                                 {{"a", "b", "aa", "ab"}, {0}},
                                                 {{"ab"}, {"aab", "b"}},
                                                 {{0}, {0}}};

static uint32_t count_items(const char *const texts[5]) {
    uint32_t n = 0;
    while (n < 5 && texts[n])
        n++;
    return n;
}

static uint32_t roll_max(Dice *dice, uint32_t min) {
    return roll(dice, 3) == 0 ? GRAMMAR_UNBOUNDED : min + roll(dice, 3);
}

static void roll_node(Dice *dice, TNode *t, int below) {
    static const char *const texts[] = {"a", "b", "c", "ab", "ba", "aa"};
    static const Kind kinds[] = {T_LIT,   T_LIT,     T_LIT,     T_EMPTY,  T_NEVER,  T_SEQ,
                                 T_SEQ,   T_SEQ,     T_CHOICE,  T_CHOICE, T_REPEAT, T_REPEAT,
                                 T_ITEMS, T_MEMBERS, T_MEMBERS, T_SEQ};
    *t = (TNode){.kind = kinds[roll(dice, COUNT_OF(kinds))], .contains_max = GRAMMAR_UNBOUNDED};
    t->text = texts[roll(dice, COUNT_OF(texts))];
    t->n_kids = t->kind == T_ITEMS ? 3 : 2 + (int)roll(dice, 2);
    for (int k = 0; k < t->n_kids; k++) {
        t->kids[k] = (int)roll(dice, (uint32_t)below);
        t->required[k] = roll(dice, 3) == 0;
        t->needs[k] = roll(dice, 4) ? -1 : (int)roll(dice, (uint32_t)t->n_kids);
    }
    t->min = roll(dice, 2) ? 0 : roll(dice, 4);
    t->max = roll_max(dice, t->min);
    t->any_order = roll(dice, 2);
    t->further = roll(dice, 2);
    if (t->kind == T_ITEMS && roll(dice, 2)) t->different = 1 + (int)roll(dice, COUNT_OF(sample_items) - 1);
    if (t->kind != T_ITEMS || t->different || roll(dice, 2)) return;
    t->contains_min = roll(dice, 3);
    t->contains_max = roll_max(dice, t->contains_min);
}

static void roll_sample(Dice *dice, Sample *s) {
    s->n_nodes = 6 + (int)roll(dice, T_NODES - 5);
    for (int n = 0; n < s->n_nodes; n++)
        roll_node(dice, &s->nodes[n], n ? n : 1);
    // The first two are rules that mean any node.
    for (int n = 0; n < 2; n++)
        s->nodes[n] =
            (TNode){.kind = T_RULE, .kids = {2 + (int)roll(dice, (uint32_t)s->n_nodes - 2)}, .n_kids = 1};
    TNode *leaf = &s->nodes[2];
    leaf->kind = T_LIT;
}

static GrammarNode build_members(GrammarBuilder *b, const TNode *t, const GrammarNode *made) {
    GrammarMember members[T_KIDS];
    uint32_t needs[T_KIDS];
    GrammarFurther further = {lit(b, "cb"), made[t->kids[0]]};
    for (int k = 0; k < t->n_kids; k++) {
        needs[k] = (uint32_t)t->needs[k];
        members[k] = (GrammarMember){.key = lit(b, sample_keys[k]),
                                     .value = made[t->kids[k]],
                                     .required = t->required[k],
                                     .needs = &needs[k],
                                     .n_needs = t->needs[k] >= 0};
    }
    GrammarMembers m = {.open = lit(b, "b"),
                        .colon = GRAMMAR_EMPTY,
                        .comma = lit(b, "c"),
                        .close = lit(b, "b"),
                        .members = members,
                        .n_members = (uint32_t)t->n_kids,
                        .further = &further,
                        .n_further = t->further,
                        .min = t->min,
                        .max = t->max,
                        .any_order = t->any_order};
    return grammar_add_members(b, &m);
}

static GrammarNode build_different(GrammarBuilder *b, const TNode *t) {
    static const uint32_t next[] = {DFA_NONE, 1, DFA_NONE, 1};
    static const uint8_t accepts[] = {0, 1};
    static const Dfa any = {
        .n_states = 2, .n_classes = 2, .class_of = {['a'] = 1, ['b'] = 1}, .next = next, .accepts = accepts};
    GrammarNode leaves[2];
    uint32_t n = 0;
    for (int k = 0; k < 2; k++) {
        Str texts[5];
        uint32_t count = count_items(sample_items[t->different][k]);
        for (uint32_t i = 0; i < count; i++)
            texts[i] = str_from_c(sample_items[t->different][k][i]);
        if (count) leaves[n++] = grammar_add_texts(b, texts, count);
    }
    GrammarItems items = {.open = lit(b, "a"),
                          .comma = lit(b, "c"),
                          .close = lit(b, "c"),
                          .rest = {.other = n ? grammar_add_choice(b, leaves, n) : grammar_add_dfa(b, &any)},
                          .min = t->min,
                          .max = t->max,
                          .contains_max = GRAMMAR_UNBOUNDED,
                          .unique = true};
    return grammar_add_items(b, &items);
}

static GrammarNode build_items(GrammarBuilder *b, const TNode *t, const GrammarNode *made) {
    if (t->different) return build_different(b, t);
    bool contains = t->contains_min > 0 || t->contains_max != GRAMMAR_UNBOUNDED;
    GrammarNode match = contains ? made[t->kids[2]] : GRAMMAR_NEVER;
    GrammarItem prefix = {.other = made[t->kids[0]], .match = match};
    GrammarItems items = {.open = lit(b, "a"),
                          .comma = lit(b, "c"),
                          .close = lit(b, "a"),
                          .prefix = &prefix,
                          .n_prefix = 1,
                          .rest = {.other = made[t->kids[1]], .match = match},
                          .min = t->min,
                          .max = t->max,
                          .contains_min = t->contains_min,
                          .contains_max = t->contains_max};
    return grammar_add_items(b, &items);
}

static GrammarNode build_node(GrammarBuilder *b, const TNode *t, const GrammarNode *made) {
    GrammarNode kids[T_KIDS];
    for (int k = 0; k < t->n_kids; k++)
        kids[k] = made[t->kids[k]];
    switch (t->kind) {
    case T_LIT: return lit(b, t->text);
    case T_EMPTY: return GRAMMAR_EMPTY;
    case T_NEVER: return GRAMMAR_NEVER;
    case T_SEQ: return grammar_add_sequence(b, kids, (uint32_t)t->n_kids);
    case T_CHOICE: return grammar_add_choice(b, kids, (uint32_t)t->n_kids);
    case T_REPEAT: return grammar_add_repeat(b, kids[0], t->min, t->max);
    case T_RULE: return grammar_add_rule(b, STR("rule"));
    case T_MEMBERS: return build_members(b, t, made);
    case T_ITEMS: return build_items(b, t, made);
    }
    return GRAMMAR_NEVER;
}

static GrammarNode build_sample(GrammarBuilder *b, const Sample *s) {
    GrammarNode made[T_NODES];
    for (int n = 0; n < s->n_nodes; n++)
        made[n] = build_node(b, &s->nodes[n], made);
    for (int n = 0; n < 2; n++)
        grammar_set_rule(b, made[n], made[s->nodes[n].kids[0]]);
    return made[s->n_nodes - 1];
}

// ---- the recogniser ----

static uint32_t ends_of_text(const Sample *s, int at, const char *text) {
    int length = (int)strlen(text);
    return at + length <= s->length && memcmp(s->input + at, text, (size_t)length) == 0 ? 1u << (at + length)
                                                                                        : 0;
}

// Where the node can end, having begun at any place of the set.
static uint32_t ends_from(const Sample *s, int node, uint32_t from) {
    uint32_t ends = 0;
    for (int i = 0; i <= s->length; i++)
        if (from >> i & 1) ends |= s->ends[node][i];
    return ends;
}

static uint32_t texts_from(const Sample *s, const char *text, uint32_t from) {
    uint32_t ends = 0;
    for (int i = 0; i <= s->length; i++)
        if (from >> i & 1) ends |= ends_of_text(s, i, text);
    return ends;
}

// `from`: places behind the opening or a value.
static uint32_t ends_of_members(const Sample *s, const TNode *t, uint32_t from, uint32_t seen, int next,
                                uint32_t count) {
    bool complete = count >= t->min && count <= t->max;
    for (int k = 0; k < t->n_kids; k++) {
        if (t->required[k] && !(seen >> k & 1)) complete = false;
        if (seen >> k & 1 && t->needs[k] >= 0 && !(seen >> t->needs[k] & 1)) complete = false;
    }
    if (!from) return 0;
    uint32_t ends = complete ? texts_from(s, "b", from) : 0;
    uint32_t begin = count ? texts_from(s, "c", from) : from;
    if (begin == 0 || count > 8) return ends;
    for (int k = t->any_order ? 0 : next; k < t->n_kids; k++) {
        if (seen >> k & 1) continue;
        uint32_t after = ends_from(s, t->kids[k], texts_from(s, sample_keys[k], begin));
        ends |= ends_of_members(s, t, after, seen | 1u << k, k + 1, count + 1);
    }
    if (!t->further) return ends;
    uint32_t after = ends_from(s, t->kids[0], texts_from(s, "cb", begin));
    return ends | ends_of_members(s, t, after, seen, T_KIDS, count + 1);
}

static uint32_t ends_of_items(const Sample *s, const TNode *t, uint32_t from, uint32_t count,
                              uint32_t matches) {
    if (!from || matches > t->contains_max || count > t->max) return 0;
    bool contains = t->contains_min > 0 || t->contains_max != GRAMMAR_UNBOUNDED;
    uint32_t ends = count >= t->min && matches >= t->contains_min ? texts_from(s, "a", from) : 0;
    uint32_t begin = count ? texts_from(s, "c", from) : from;
    if (begin == 0 || count > 12) return ends;
    ends |= ends_of_items(s, t, ends_from(s, t->kids[count ? 1 : 0], begin), count + 1, matches);
    if (contains) ends |= ends_of_items(s, t, ends_from(s, t->kids[2], begin), count + 1, matches + 1);
    return ends;
}

static bool is_item(const TNode *t, Str text) {
    bool is_listed = false, is_any = text.len > 0;
    for (int k = 0; k < 2; k++)
        for (uint32_t i = 0; i < count_items(sample_items[t->different][k]); i++)
            is_listed |= str_eq(text, str_from_c(sample_items[t->different][k][i]));
    for (size_t i = 0; i < text.len; i++)
        is_any = is_any && text.ptr[i] != 'c';
    return sample_items[t->different][0][0] ? is_listed : is_any;
}

// `items` [count]: those so far, the last one of which ends at `from`.
static uint32_t ends_of_different(const Sample *s, const TNode *t, int from, Str *items, uint32_t count) {
    if (count > t->max) return 0;
    uint32_t ends = count >= t->min ? ends_of_text(s, from, "c") : 0;
    int begin = from + (count > 0);
    if (begin > s->length || (count && s->input[from] != 'c')) return ends;
    for (int end = begin + 1; end <= s->length; end++) {
        Str item = {s->input + begin, (size_t)(end - begin)};
        bool is_new = is_item(t, item);
        for (uint32_t i = 0; i < count; i++)
            is_new = is_new && !str_eq(items[i], item);
        items[count] = item;
        if (is_new) ends |= ends_of_different(s, t, end, items, count + 1);
    }
    return ends;
}

static uint32_t ends_of_repeat(const Sample *s, const TNode *t, uint32_t from) {
    uint32_t ends = t->min == 0 ? from : 0;
    for (uint32_t turns = 1; turns <= t->max && turns <= t->min + T_TEXT + 1; turns++) {
        from = ends_from(s, t->kids[0], from);
        if (turns >= t->min) ends |= from;
    }
    return ends;
}

static uint32_t ends_of(const Sample *s, const TNode *t, int at) {
    uint32_t here = 1u << at, ends = 0;
    switch (t->kind) {
    case T_LIT: return ends_of_text(s, at, t->text);
    case T_EMPTY: return here;
    case T_NEVER: return 0;
    case T_SEQ:
        for (int k = 0; k < t->n_kids; k++)
            here = ends_from(s, t->kids[k], here);
        return here;
    case T_CHOICE:
        for (int k = 0; k < t->n_kids; k++)
            ends |= s->ends[t->kids[k]][at];
        return ends;
    case T_REPEAT: return ends_of_repeat(s, t, here);
    case T_RULE: return s->ends[t->kids[0]][at];
    case T_MEMBERS: return ends_of_members(s, t, ends_of_text(s, at, "b"), 0, 0, 0);
    case T_ITEMS:
        if (t->different && ends_of_text(s, at, "a"))
            return ends_of_different(s, t, at + 1, (Str[T_TEXT]){0}, 0);
        return t->different ? 0 : ends_of_items(s, t, ends_of_text(s, at, "a"), 0, 0);
    }
    return 0;
}

static bool sample_takes(Sample *s, const char *input, int length) {
    s->input = input;
    s->length = length;
    memset(s->ends, 0, sizeof s->ends);
    for (bool changed = true; changed;) {
        changed = false;
        for (int n = 0; n < s->n_nodes; n++) {
            for (int at = length; at >= 0; at--) {
                uint32_t ends = ends_of(s, &s->nodes[n], at);
                changed = changed || ends != s->ends[n][at];
                s->ends[n][at] = ends;
            }
        }
    }
    return s->ends[s->n_nodes - 1][0] >> length & 1;
}

// ---- the two of them ----

static void text_of_number(uint32_t number, int length, char *out) {
    for (int i = 0; i < length; i++, number /= 3)
        out[i] = "abc"[number % 3];
}

// Every text of up to `longest` letters. Returns how many the grammar takes.
static uint32_t compare_texts(Sample *s, GrammarMatcher *m, int longest) {
    uint32_t taken = 0;
    for (int length = 0, count = 1; length <= longest; length++, count *= 3) {
        for (int number = 0; number < count; number++) {
            char text[T_TEXT] = "";
            text_of_number((uint32_t)number, length, text);
            bool expected = sample_takes(s, text, length);
            if (expected != grammar_takes(m, (Str){text, (size_t)length}))
                FAIL("%.*s is %s", length, text, expected ? "refused" : "taken");
            taken += expected;
        }
    }
    return taken;
}

// Whether a text that came so far can be completed: always on from the state that seems nearest to its end.
static bool can_complete(GrammarMatcher *m, GrammarState from) {
    enum { QUEUE = 2000 };
    static GrammarState queue[QUEUE];
    static uint64_t far[QUEUE];
    Arena arena = grammar_arena(1);
    GrammarDistance *distance = grammar_distance_new(m, &arena);
    uint32_t n = 1;
    queue[0] = from;
    far[0] = 0;
    for (uint32_t turns = 0; turns < QUEUE; turns++) {
        uint32_t best = 0;
        for (uint32_t i = 1; i < n; i++)
            if (far[i] < far[best]) best = i;
        if (far[best] == UINT64_MAX) return false;
        if (grammar_may_end(m, queue[best])) return true;
        far[best] = UINT64_MAX; // done
        for (int c = 'a'; c <= 'c'; c++) {
            char byte = (char)c;
            GrammarState next = grammar_step_bytes(m, queue[best], (Str){&byte, 1});
            bool is_new = grammar_is_state(next) && n < QUEUE;
            for (uint32_t i = 0; i < n && is_new; i++)
                is_new = queue[i] != next;
            if (is_new) queue[n] = next, far[n++] = grammar_distance(distance, next);
        }
    }
    return false;
}

static void walk_and_complete(Dice *dice, GrammarMatcher *m) {
    GrammarState state = grammar_start(m);
    for (int step = 0; step < 12; step++) {
        char byte = (char)('a' + roll(dice, 3));
        GrammarState next = grammar_step_bytes(m, state, (Str){&byte, 1});
        if (grammar_is_state(next)) state = next;
    }
    CHECK(can_complete(m, state));
}

// The grammar of a sample in `out`; false where it is refused, which must then be for a reason.
static bool compile_sample(Sample *s, bool merges, const Grammar **out) {
    Arena scratch = grammar_arena(0), arena = grammar_arena(2);
    GrammarBuilder *b = grammar_builder_new(&scratch);
    Error err = {0};
    GrammarNode root = build_sample(b, s);
    if (merges) grammar_merge_leaves(b);
    if (grammar_compile(b, root, &arena, scratch, out, &err)) return true;
    bool empty = strstr(err.message, "no text matches") != NULL;
    CHECK(empty || strstr(err.message, "begins with itself") || err.code == ERR_UNSUPPORTED);
    for (int number = 0; empty && number < 729; number++) {
        char text[8] = "";
        text_of_number((uint32_t)number, 6, text);
        for (int length = 0; length <= 6; length++)
            if (sample_takes(s, text, length)) FAIL("empty, but it takes %.*s", length, text);
    }
    return false;
}

TEST(grammar_takes_what_a_plain_recogniser_takes) {
    uint32_t compiled = 0, taken = 0;
    for (uint64_t seed = 0; seed < (test_is_sanitized() ? 40u : 200u); seed++) {
        static Sample s;
        Dice dice = {.key = seed};
        const Grammar *g;
        TEST_CASE_LABEL("seed %llu", (unsigned long long)seed);
        roll_sample(&dice, &s);
        if (!compile_sample(&s, seed % 2, &g)) continue;
        GrammarMatcher *m = grammar_start_matcher(g, grammar_byte_trie());
        compiled++;
        taken += compare_texts(&s, m, 5);
        for (int i = 0; i < 20; i++)
            walk_and_complete(&dice, m);
    }
    CHECK(compiled > 20 && taken > compiled / 2);
    printf("%u grammars, %u texts taken\n", compiled, taken);
}

// ---- masks ----

static void compare_mask(GrammarMatcher *m, const TokenTrie *trie, GrammarState state) {
    static uint32_t mask[(VOCAB_TOKENS + 31) / 32];
    const uint32_t *words = grammar_mask(m, state);
    REQUIRE(words != NULL);
    memcpy(mask, words, sizeof mask);
    for (uint32_t token = 0; token < trie->n_tokens; token++) {
        GrammarState next = grammar_step(m, state, (int32_t)token);
        bool expected = grammar_is_state(next) || next == GRAMMAR_ENDED;
        if (expected == (mask[token / 32] >> (token % 32) & 1)) continue;
        FAIL("token %u %.*s is %s", token, STR_ARG(trie->pieces[token]), expected ? "missing" : "allowed");
    }
}

// One of the tokens that the mask allows, or TOKEN_NONE.
static int32_t roll_token(Dice *dice, const uint32_t *mask) {
    int32_t chosen = TOKEN_NONE;
    uint32_t seen = 0;
    for (int32_t token = 0; token < VOCAB_TOKENS; token++)
        if (mask[token / 32] >> (token % 32) & 1 && roll(dice, ++seen) == 0) chosen = token;
    return chosen;
}

TEST(grammar_mask_is_what_each_token_would_do) {
    uint32_t compared = 0;
    for (uint64_t seed = 0; seed < (test_is_sanitized() ? 30u : 100u); seed++) {
        static Sample s;
        Dice dice = {.key = seed + 1000000};
        const Grammar *g;
        Arena arena = grammar_arena(0);
        TEST_CASE_LABEL("seed %llu", (unsigned long long)seed);
        roll_sample(&dice, &s);
        if (!compile_sample(&s, seed % 2, &g)) continue;
        const TokenTrie *trie = sample_trie(&dice, &arena);
        GrammarMatcher *m = grammar_start_matcher(g, trie);
        for (int walk = 0; walk < 4; walk++) {
            GrammarState state = grammar_start(m);
            for (int step = 0; step < 8 && grammar_is_state(state); step++, compared++) {
                compare_mask(m, trie, state);
                int32_t token = roll_token(&dice, grammar_mask(m, state));
                if (!CHECK(token != TOKEN_NONE)) break;
                state = grammar_step(m, state, token);
            }
        }
    }
    CHECK(compared > 200);
}

// Tool calls after free text: control tokens and texts as markers, and what the tokens in between may be.
TEST(grammar_names_control_tokens) {
    Dice dice = {.key = 5};
    Arena arena = grammar_arena(2), scratch = grammar_arena(0);
    const TokenTrie *trie = sample_trie(&dice, &arena);
    static const int32_t calls[] = {VOCAB_CONTROL + 3, VOCAB_CONTROL + 1};
    GrammarBuilder *b = grammar_builder_new(&scratch);
    GrammarNode parts[] = {grammar_add_text_without(b, NULL, 0), grammar_add_tokens(b, calls, 2),
                           lit(b, "ab")};
    const Grammar *g;
    Error err = {0};
    REQUIRE(grammar_compile(b, grammar_add_sequence(b, parts, 3), &arena, scratch, &g, &err));
    GrammarMatcher *m = grammar_start_matcher(g, trie);
    GrammarState state = grammar_start(m);
    compare_mask(m, trie, state);
    CHECK_INT_EQ(state, grammar_step(m, state, 7));
    CHECK(!grammar_is_state(grammar_step(m, state, VOCAB_CONTROL)));
    CHECK(!grammar_is_state(grammar_step(m, state, VOCAB_END)));
    state = grammar_step(m, state, VOCAB_CONTROL + 1);
    REQUIRE(grammar_is_state(state));
    compare_mask(m, trie, state);
    state = grammar_step_bytes(m, state, STR("ab"));
    CHECK(grammar_may_end(m, state));
    CHECK_U64_EQ(GRAMMAR_ENDED, grammar_step(m, state, VOCAB_END + 1));
    compare_mask(m, trie, state);
}

// A name that the vocabulary does not have would be a dead end, and nothing comes behind an end token.
TEST(grammar_tokens_must_be_there_and_end_nothing) {
    Dice dice = {.key = 6};
    Arena trie_arena = grammar_arena(2);
    const TokenTrie *trie = sample_trie(&dice, &trie_arena);
    static const int32_t wrong[] = {VOCAB_TOKENS, -1, VOCAB_END};
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        TEST_CASE_LABEL("token %d", wrong[i]);
        Arena nodes = grammar_arena(0), scratch = grammar_arena(1), arena = trie_arena;
        GrammarBuilder *b = grammar_builder_new(&nodes);
        GrammarNode root = seq(b, lit(b, "a"), grammar_add_tokens(b, &wrong[i], 1));
        const Grammar *g;
        GrammarMatcher *m;
        Error err = {0};
        REQUIRE(grammar_compile(b, root, &arena, scratch, &g, &err));
        CHECK(!grammar_matcher_new(g, trie, scratch, &m, &err));
        CHECK_INT_EQ(ERR_INVALID_REQUEST, err.code);
    }
}

// ---- bounds ----

// ((((…))))
TEST(grammar_refuses_what_is_too_deep_where_it_begins) {
    Arena scratch = grammar_arena(0), arena = grammar_arena(2);
    GrammarBuilder *b = grammar_builder_new(&scratch);
    const Grammar *g;
    Error err = {0};
    REQUIRE(grammar_compile(b, make_nested(b), &arena, scratch, &g, &err));
    GrammarMatcher *m = grammar_start_matcher(g, grammar_byte_trie());
    GrammarState state = grammar_start(m);
    int depth = 0;
    for (;; depth++) {
        GrammarState next = grammar_step_bytes(m, state, STR("("));
        if (!grammar_is_state(next)) break;
        state = next;
    }
    CHECK(depth > GRAMMAR_DEPTH_MAX / 4 && depth <= GRAMMAR_DEPTH_MAX);
    for (int i = 0; i < depth; i++) {
        CHECK(!grammar_may_end(m, state));
        state = grammar_step_bytes(m, state, STR(")"));
        REQUIRE(grammar_is_state(state));
    }
    CHECK(grammar_may_end(m, state));
}

TEST(grammar_keeps_the_states_in_use) {
    Arena scratch = grammar_arena(0), arena = grammar_arena(2);
    GrammarBuilder *b = grammar_builder_new(&scratch);
    const Grammar *g;
    Error err = {0};
    GrammarNode turns = grammar_add_repeat(b, either(b, lit(b, "a"), lit(b, "bc")), 0, 1000000);
    REQUIRE(grammar_compile(b, turns, &arena, scratch, &g, &err));
    GrammarMatcher *m = grammar_start_matcher(g, grammar_byte_trie());
    GrammarState at = grammar_start(m), first = grammar_step_bytes(m, at, STR("b"));
    uint32_t times = 0;
    for (int i = 0; i < 200000; i++) {
        GrammarState next = grammar_step_bytes(m, at, STR("a"));
        if (next == GRAMMAR_FULL) {
            GrammarState *kept[] = {&at, &first}, same = at;
            const uint32_t *mask = grammar_mask(m, at);
            uint64_t cached = grammar_figures(m).masks_cached;
            REQUIRE(grammar_keep(m, kept, 2));
            CHECK(same != at && mask == grammar_mask(m, at));
            CHECK_INT_EQ(cached + 1, grammar_figures(m).masks_cached);
            times++;
            next = grammar_step_bytes(m, at, STR("a"));
        }
        REQUIRE(grammar_is_state(next));
        at = next;
    }
    CHECK(times >= 2);
    CHECK(grammar_is_state(grammar_step_bytes(m, first, STR("c"))));
    CHECK(!grammar_is_state(grammar_step_bytes(m, first, STR("a"))));
    CHECK(grammar_may_end(m, grammar_step_bytes(m, at, STR("bca"))));
    CHECK(grammar_takes(m, STR("abc")));
}

// As many as the matcher says, in the order in which they were asked for.
TEST(grammar_masks_stay_while_others_come) {
    enum { ASKED_MAX = 5000 };
    static GrammarState states[ASKED_MAX];
    static char text[ASKED_MAX];
    Arena scratch = grammar_arena(0), arena = grammar_arena(2);
    GrammarBuilder *b = grammar_builder_new(&scratch);
    const Grammar *g;
    Error err = {0};
    memset(text, 'a', sizeof text);
    GrammarNode letters = grammar_add_literal(b, (Str){text, sizeof text});
    REQUIRE(grammar_compile(b, letters, &arena, scratch, &g, &err));
    GrammarMatcher *m = grammar_start_matcher(g, grammar_byte_trie());
    uint32_t kept = grammar_masks_kept(m);
    REQUIRE(kept > 10 && kept < ASKED_MAX);
    states[0] = grammar_start(m);
    for (uint32_t i = 1; i < ASKED_MAX; i++)
        states[i] = grammar_step_bytes(m, states[i - 1], STR("a"));
    const uint32_t *first = grammar_mask(m, states[0]), word = first['a' / 32];
    const uint32_t *second = grammar_mask(m, states[1]);
    CHECK(first == grammar_mask(m, states[0])); // now the newest
    for (uint32_t i = 2; i < kept; i++)
        CHECK(grammar_mask(m, states[i]) != first);
    CHECK_INT_EQ(word, first['a' / 32]);
    CHECK(grammar_mask(m, states[kept]) == second); // which was the oldest
    uint64_t cached = grammar_figures(m).masks_cached;
    CHECK(first == grammar_mask(m, states[0]));
    CHECK_INT_EQ(cached + 1, grammar_figures(m).masks_cached);
    CHECK(grammar_mask(m, states[1]) != NULL);
    CHECK_INT_EQ(cached + 1, grammar_figures(m).masks_cached);
}

// A grammar with one node of each kind, for the cases that count allocations.
static const Grammar *compile_all_kinds(Arena nodes, Arena *arena, Arena scratch, Error *err) {
    GrammarBuilder *b = grammar_builder_new(&nodes);
    if (!b) {
        error_fill(err, ERR_NO_MEMORY, ERROR_NO_POSITION, "no memory for a builder");
        return NULL;
    }
    grammar_merge_leaves(b);
    static const int32_t token = 3;
    GrammarNode parts[] = {make_nested(b),    make_nullable_turns(b), make_right_list(b),
                           make_any_order(b), make_items(b),          make_different(b),
                           make_triggered(b), make_ordered(b),        grammar_add_tokens(b, &token, 1)};
    const Grammar *g;
    GrammarNode root = grammar_add_sequence(b, parts, COUNT_OF(parts));
    return grammar_compile(b, root, arena, scratch, &g, err) ? g : NULL;
}

// A matcher goes on with the same grammar in another place, after the first one's memory has been used for
// something else: it allows what a new matcher allows, all along a text.
TEST(grammar_matcher_moves_to_the_same_grammar) {
    Arena gone = os_arena(1 << 24), kept = os_arena(1 << 24), memory = os_arena(1 << 26),
          other = os_arena(1 << 26);
    Error err = {0};
    uint8_t *bytes = gone.next;
    const TokenTrie *trie = grammar_byte_trie();
    const Grammar *first = compile_all_kinds(grammar_arena(0), &gone, grammar_arena(1), &err);
    const Grammar *second = compile_all_kinds(grammar_arena(0), &kept, grammar_arena(1), &err);
    GrammarMatcher *m, *fresh;
    REQUIRE(first && second && first != second);
    REQUIRE(grammar_matcher_new(first, trie, memory, &m, &err) &&
            grammar_matcher_new(second, trie, other, &fresh, &err));
    for (uint64_t round = 0; round < 40; round++) {
        GrammarState at = grammar_start(m), same = grammar_start(fresh);
        if (round == 20) {
            REQUIRE(grammar_matcher_fits(m, second));
            memset(bytes, 0xA5, (size_t)((uint8_t *)gone.next - bytes));
            grammar_matcher_move(m, second);
        }
        for (uint64_t i = 0; i < 60; i++) {
            const uint32_t *mask = grammar_mask(m, at), *expected = grammar_mask(fresh, same);
            REQUIRE(mask && expected);
            CHECK_BYTES_EQ(expected, trie->n_words * sizeof *mask, mask, trie->n_words * sizeof *mask);
            uint32_t n_tokens = trie->n_words * 32, n = 0, token = rng_philox(round, i).word[0] % n_tokens;
            while (n < n_tokens && !(mask[token / 32] >> token % 32 & 1))
                token = (token + 1) % n_tokens, n++;
            if (n == n_tokens) break;
            GrammarState next = grammar_step(m, at, (int32_t)token);
            if (!grammar_is_state(next)) break;
            at = next, same = grammar_step(fresh, same, (int32_t)token);
            REQUIRE(grammar_is_state(same));
        }
    }
}

// Each allocation fails once: the failure is said, and nothing is read that is not there.
TEST(grammar_says_when_memory_is_missing) {
    uint64_t n = 0;
    for (;; n++) {
        uint64_t countdown = n;
        Arena nodes = grammar_arena(0), scratch = grammar_arena(1), arena = grammar_arena(2);
        Error err = {0};
        nodes.fail_countdown = scratch.fail_countdown = arena.fail_countdown = &countdown;
        if (compile_all_kinds(nodes, &arena, scratch, &err)) break;
        if (!CHECK_INT_EQ(ERR_NO_MEMORY, err.code)) break;
    }
    CHECK(n > 100);
    Arena nodes = grammar_arena(0), scratch = grammar_arena(1), arena = grammar_arena(2);
    Error err = {0};
    const Grammar *g = compile_all_kinds(nodes, &arena, scratch, &err);
    REQUIRE(g);
    for (n = 0;; n++) {
        uint64_t countdown = n;
        GrammarMatcher *m;
        Arena memory = scratch;
        memory.fail_countdown = &countdown;
        if (grammar_matcher_new(g, grammar_byte_trie(), memory, &m, &err)) break;
        if (!CHECK_INT_EQ(ERR_NO_MEMORY, err.code)) break;
    }
    CHECK(n > 20);
    const TokenTrie *bytes = grammar_byte_trie();
    TokenTrie trie;
    for (n = 0;; n++) {
        uint64_t countdown = n;
        Arena kept = grammar_arena(0), spare = grammar_arena(1);
        kept.fail_countdown = spare.fail_countdown = &countdown;
        if (token_trie_build(bytes->pieces, 257, bytes->end_tokens, 1, &kept, spare, &trie, &err)) break;
        if (!CHECK_INT_EQ(ERR_NO_MEMORY, err.code)) break;
    }
    CHECK(n >= 6);
}

// As little memory as is promised to suffice, and a vocabulary that does not fit it often.
TEST(grammar_matcher_works_in_the_least_memory) {
    Dice dice = {.key = 77};
    Arena nodes = grammar_arena(0), scratch = grammar_arena(1), arena = grammar_arena(2), memory,
          rest = scratch;
    const Grammar *g;
    GrammarMatcher *m;
    Error err = {0};
    GrammarBuilder *b = grammar_builder_new(&nodes);
    GrammarNode letters = either(b, lit(b, "a"), either(b, lit(b, "b"), lit(b, "c")));
    GrammarNode either_way = either(b, grammar_add_repeat(b, letters, 0, 500), make_different(b));
    grammar_merge_leaves(b);
    REQUIRE(grammar_compile(b, either_way, &arena, scratch, &g, &err));
    const TokenTrie *trie = sample_trie(&dice, &arena);
    REQUIRE(arena_split(&rest, (size_t)grammar_matcher_bytes_min(g, trie), &memory));
    REQUIRE(grammar_matcher_new(g, trie, memory, &m, &err));
    GrammarState state = grammar_start(m);
    int steps = 0;
    for (; steps < 100 && grammar_is_state(state); steps++) {
        compare_mask(m, trie, state);
        state = grammar_step(m, state, roll_token(&dice, grammar_mask(m, state)));
    }
    CHECK(steps > 10);
}

// ---- grammars made to be slow ----

// a | a (a | a (a | …)) and the like: as many readings of one text as possible.
static GrammarNode make_readings(GrammarBuilder *b) {
    GrammarNode a = lit(b, "a"), many = grammar_add_rule(b, STR("many"));
    grammar_set_rule(b, many, either(b, a, seq(b, a, seq(b, many, many))));
    return grammar_add_repeat(b, either(b, many, grammar_add_repeat(b, seq(b, many, many), 1, 7)), 0, 9);
}

static GrammarNode make_counts(GrammarBuilder *b) {
    GrammarNode some = grammar_add_repeat(b, lit(b, "a"), 0, 1000000);
    return grammar_add_repeat(b, grammar_add_repeat(b, some, 0, 1000), 0, 1000);
}

static GrammarNode make_chain(GrammarBuilder *b) {
    GrammarNode node = lit(b, "a");
    for (int i = 0; i < 100000; i++)
        node = grammar_add_sequence(b, (GrammarNode[]){node, GRAMMAR_EMPTY}, 2);
    return either(b, node, lit(b, "b"));
}

static const struct {
    const char *name;
    GrammarNode (*make)(GrammarBuilder *b);
} nasty[] = {{"readings", make_readings}, {"counts", make_counts}, {"chain", make_chain}};

TEST(grammar_time_is_bounded) {
    for (size_t i = 0; i < 2 * COUNT_OF(nasty); i++) {
        TEST_CASE_LABEL("%s%s", nasty[i / 2].name, i % 2 ? ", merged" : "");
        Arena nodes = grammar_arena(0), scratch = grammar_arena(1), arena = grammar_arena(2);
        Dice dice = {.key = i};
        Error err = {0};
        const Grammar *g;
        GrammarBuilder *b = grammar_builder_new(&nodes);
        GrammarNode root = nasty[i / 2].make(b);
        if (i % 2) grammar_merge_leaves(b);
        uint64_t begin_ns = os_monotonic_ns();
        if (!CHECK(grammar_compile(b, root, &arena, scratch, &g, &err))) continue;
        uint64_t compile_ms = (os_monotonic_ns() - begin_ns) / 1000000;
        GrammarMatcher *m = grammar_start_matcher(g, sample_trie(&dice, &arena));
        GrammarState state = grammar_start(m);
        begin_ns = os_monotonic_ns();
        for (int step = 0; step < 30 && grammar_is_state(state); step++) {
            const uint32_t *mask = grammar_mask(m, state);
            int32_t token = mask ? roll_token(&dice, mask) : TOKEN_NONE;
            if (token == TOKEN_NONE) break;
            state = grammar_step(m, state, token);
            CHECK(state != GRAMMAR_REFUSED);
        }
        uint64_t walk_ms = (os_monotonic_ns() - begin_ns) / 1000000;
        GrammarFigures f = grammar_figures(m);
        printf("%s%s: compiled in %llu ms, walked in %llu ms, at most %u readings\n", nasty[i / 2].name,
               i % 2 ? ", merged" : "", (unsigned long long)compile_ms, (unsigned long long)walk_ms,
               f.readings_max);
        CHECK_SOON(500, compile_ms);
        CHECK_SOON(1000, walk_ms);
        CHECK(f.readings_max <= GRAMMAR_READINGS_MAX);
    }
}

// More alternatives than readings of a text: as a list of texts, and merged; apart they are too many.
TEST(grammar_many_alternatives) {
    enum { TEXTS = 3000 };
    static Str texts[TEXTS];
    static GrammarNode parts[TEXTS];
    for (int way = 0; way < 3; way++) {
        TEST_CASE_LABEL("way %d", way);
        Arena nodes = grammar_arena(0), scratch = grammar_arena(1), arena = grammar_arena(2),
              memory = os_arena(32 << 20);
        Error err = {0};
        const Grammar *g;
        GrammarMatcher *m;
        GrammarBuilder *b = grammar_builder_new(&nodes);
        for (uint32_t i = 0; i < TEXTS; i++) {
            char text[16];
            texts[i] =
                arena_copy_str(&nodes, (Str){text, (size_t)snprintf(text, sizeof text, "%u", i * 7919)});
            parts[i] = way ? grammar_add_literal(b, texts[i]) : GRAMMAR_EMPTY;
        }
        GrammarNode root = way ? grammar_add_choice(b, parts, TEXTS) : grammar_add_texts(b, texts, TEXTS);
        if (way == 1) grammar_merge_leaves(b);
        REQUIRE(grammar_compile(b, root, &arena, scratch, &g, &err));
        bool made = grammar_matcher_new(g, grammar_byte_trie(), memory, &m, &err);
        CHECK(made == (way < 2));
        if (!made) {
            CHECK_INT_EQ(ERR_TOO_LARGE, err.code);
            continue;
        }
        for (uint32_t i = 0; i < TEXTS; i++)
            CHECK(grammar_takes(m, texts[i]));
        CHECK(!grammar_takes(m, STR("7918")) && !grammar_takes(m, STR("")));
    }
}
