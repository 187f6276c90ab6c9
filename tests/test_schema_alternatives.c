// Alternatives of objects that a member tells apart which comes late: a text is read once, whatever their
// number (grammar_objects.c).
#include "base/rng.h"
#include "base/strbuf.h"
#include "runner.h"
#include "schema_run.h"

#include <stdio.h>

enum { TEXT_BYTES = 1 << 20 };

static const SchemaOptions in_order = {.schema_order = true};

typedef void Write(StrBuf *b, uint32_t i);

// Names and switches before the constant that tells them apart, and an object of its own behind it.
static void write_task(StrBuf *b, uint32_t i) {
    strbuf_printf(b,
                  "{\"type\":\"object\",\"properties\":{\"displayName\":{\"type\":\"string\"},"
                  "\"enabled\":{\"type\":\"boolean\"},\"task\":{\"const\":\"Task%u@1\"},"
                  "\"inputs\":{\"type\":\"object\",\"properties\":{\"p%u\":{\"type\":\"string\"}},"
                  "\"additionalProperties\":false}},\"required\":[\"task\"],\"additionalProperties\":false}",
                  i, i);
}

static void write_action(StrBuf *b, uint32_t i) {
    strbuf_printf(b, "{\"type\":\"object\",\"properties\":{");
    for (int k = 0; k < 8; k++)
        strbuf_printf(b, "\"o%d\":{\"type\":\"string\",\"maxLength\":20},", k);
    strbuf_printf(
        b, "\"action\":{\"enum\":[\"t%u\"]}},\"required\":[\"action\"],\"additionalProperties\":false}", i);
}

static Write *const kinds[] = {write_task, write_action};

static Str write_steps(Write *write, const char *keyword, uint32_t n) {
    static char text[TEXT_BYTES];
    StrBuf b = STRBUF(text);
    strbuf_printf(&b, "{\"type\":\"array\",\"items\":{\"%s\":[", keyword);
    for (uint32_t i = 0; i < n; i++) {
        if (i) strbuf_put_char(&b, ',');
        write(&b, i);
    }
    strbuf_printf(&b, "]}}");
    return strbuf_str(&b);
}

TEST(schema_alternatives_are_told_apart_late) {
    static const struct {
        int kind;
        const char *text;
        bool taken;
    } rows[] = {
        {0, "[{\"displayName\":\"a\",\"enabled\":true,\"task\":\"Task7@1\",\"inputs\":{\"p7\":\"x\"}}]",
         true},
        {0, "[{\"task\":\"Task0@1\"},{\"enabled\":false,\"task\":\"Task499@1\",\"inputs\":{}}]", true},
        {0, "[{\"displayName\":\"a\",\"task\":\"Task7@1\",\"inputs\":{\"p8\":\"x\"}}]", false},
        {0, "[{\"displayName\":\"a\",\"enabled\":true}]", false},
        {0, "[{\"task\":\"Task500@1\"}]", false},
        {1, "[{\"o1\":\"\",\"o7\":\"b\",\"action\":\"t499\"},{\"o0\":\"c\",\"action\":\"t0\"}]", true},
        {1, "[{\"o7\":\"\",\"o1\":\"b\",\"action\":\"t499\"}]", false},
        {1, "[{\"o1\":\"\",\"action\":\"t500\"}]", false},
        {1, "[{\"o1\":\"123456789012345678901\",\"action\":\"t1\"}]", false},
        {1, "[{\"o1\":\"\"}]", false},
    };
    for (int kind = 0; kind < 2; kind++) {
        SchemaRun run;
        REQUIRE(schema_run_compile(&run, write_steps(kinds[kind], "anyOf", 500), &in_order));
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
            TEST_CASE_LABEL("%s", rows[i].text);
            if (rows[i].kind == kind)
                CHECK(schema_run_takes(&run, str_from_c(rows[i].text)) == rows[i].taken);
        }
        // One reading for each alternative where they differ, and few elsewhere.
        CHECK(grammar_figures(run.matcher).readings_max < 520);
    }
}

// Values of one name that are different objects are not joined.
static void write_inputs(StrBuf *b, uint32_t i) {
    strbuf_printf(b, "{\"type\":\"object\",\"properties\":{\"inputs\":{\"type\":\"object\",\"properties\":{");
    for (int k = 0; k < 12; k++)
        strbuf_printf(b, "\"p%d\":{\"type\":\"string\"},", k);
    strbuf_printf(
        b,
        "\"q%u\":{\"type\":\"string\"}},\"additionalProperties\":false},\"task\":{\"const\":\"T%u\"}},"
        "\"required\":[\"task\"],\"additionalProperties\":false}",
        i, i);
}

TEST(schema_alternatives_that_are_too_many_are_named) {
    SchemaRun run;
    REQUIRE(schema_run_compile(&run, write_steps(write_inputs, "anyOf", 20), &in_order));
    CHECK(schema_run_takes(&run, STR("[{\"inputs\":{\"p3\":\"\",\"q7\":\"\"},\"task\":\"T7\"}]")));
    CHECK(!schema_run_takes(&run, STR("[{\"inputs\":{\"p3\":\"\",\"q7\":\"\"},\"task\":\"T8\"}]")));
    REQUIRE(schema_run_compile(&run, write_steps(write_inputs, "anyOf", 120), &in_order));
    GrammarState start = grammar_start(run.matcher);
    CHECK(grammar_step_bytes(run.matcher, start, STR("[{\"inputs\":{")) == GRAMMAR_AMBIGUOUS);
    Str name = grammar_ambiguous_name(run.matcher);
    CHECK_STR_EQ("#/items (anyOf)", name);
}

static void write_constant(StrBuf *b, uint32_t i) {
    strbuf_printf(b, "{\"properties\":{\"k\":{\"const\":%u}},\"required\":[\"k\"],\"type\":\"object\"}", i);
}

static void write_value(StrBuf *b, uint32_t i) {
    strbuf_printf(b, "{\"k\":%u}", i);
}

static void write_list(StrBuf *b, uint32_t i) {
    strbuf_printf(b, i < 600 ? "[%u]" : "%u", i);
}

// The number of alternatives is told where nothing but one list is too long.
TEST(schema_alternatives_beyond_the_limit_are_counted) {
    static const struct {
        Write *write;
        const char *keyword;
        uint32_t n;
        const char *message;
    } rows[] = {
        {write_constant, "anyOf", 512, NULL},
        {write_constant, "anyOf", 513,
         "#/items/anyOf: 513 alternatives that are objects; at most 512 are allowed"},
        {write_constant, "oneOf", 513,
         "#/items/oneOf: 513 alternatives that are objects; at most 512 are allowed"},
        {write_value, "enum", 512, NULL},
        {write_value, "enum", 600,
         "#/items/enum: 600 alternatives that are objects; at most 512 are allowed"},
        {write_list, "enum", 700, "#/items/enum: 600 alternatives that are arrays; at most 512 are allowed"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        SchemaRun run;
        TEST_CASE_LABEL("%s %u", rows[i].keyword, rows[i].n);
        bool ok = schema_run_compile(&run, write_steps(rows[i].write, rows[i].keyword, rows[i].n), &in_order);
        CHECK(ok == !rows[i].message);
        if (rows[i].message) CHECK_STR_EQ(rows[i].message, run.err.message);
    }
    // Where lists are joined, or an alternative is several, no list has that many.
    char text[8192], names[4096];
    StrBuf b = STRBUF(names);
    for (int i = 0; i < 513; i++)
        strbuf_printf(&b, "%s\"n%d\"", i ? "," : "", i);
    snprintf(text, sizeof text, "{\"type\":\"object\",\"not\":{\"required\":[%.*s]}}", (int)b.len, names);
    SchemaRun run;
    CHECK(!schema_run_compile(&run, str_from_c(text), &in_order));
    CHECK_STR_EQ("#/not/required/512: more than 512 alternatives that are objects or arrays",
                 run.err.message);
    b = STRBUF(text);
    strbuf_printf(&b, "{\"allOf\":[");
    for (int list = 0; list < 2; list++) {
        strbuf_printf(&b, "%s{\"anyOf\":[", list ? "," : "");
        for (int i = 0; i < 23; i++)
            strbuf_printf(&b, "%s{\"required\":[\"%c%d\"],\"type\":\"object\"}", i ? "," : "", 'a' + list, i);
        strbuf_printf(&b, "]}");
    }
    strbuf_printf(&b, "]}");
    CHECK(!schema_run_compile(&run, strbuf_str(&b), &in_order));
    CHECK_STR_EQ("#/allOf: its alternatives combine in more than 512 ways", run.err.message);
}

// ---- against each alternative alone ----

enum { ALTERNATIVES = 4, NAMES = 4, TEXTS = 60, DOCUMENT_BYTES = 256 };

static const char *const values[] = {
    "{\"type\":\"string\",\"maxLength\":2}",
    "{\"type\":\"string\",\"maxLength\":1}",
    "{\"const\":\"x\"}",
    "{\"type\":\"boolean\"}",
    "{\"type\":\"object\",\"properties\":{\"a\":{\"const\":\"x\"}},\"additionalProperties\":false}",
    "{\"anyOf\":[{\"type\":\"object\",\"properties\":{\"a\":{\"const\":\"x\"},\"b\":{\"const\":true}},"
    "\"required\":[\"b\"],\"additionalProperties\":false},{\"const\":\"x\"},"
    "{\"type\":\"object\",\"properties\":{\"a\":{\"const\":\"x\"}},\"additionalProperties\":false}]}",
    "{}"};
static const char *const documents[] = {"\"\"",  "\"x\"", "\"yy\"",        "true",        "{}",
                                        "false", "null",  "{\"a\":\"x\"}", "{\"b\":true}"};

static uint32_t draw(uint64_t *random, uint32_t n) {
    return rng_philox(5, (*random)++).word[0] % n;
}

static void write_alternative(StrBuf *b, uint64_t *random) {
    char required[64] = "";
    uint32_t n = 0;
    strbuf_printf(b, "{\"type\":\"object\",\"properties\":{");
    for (char name = 'a'; name < 'a' + NAMES; name++) {
        if (draw(random, 4) == 0) continue;
        strbuf_printf(b, "%s\"%c\":%s", n++ ? "," : "", name, values[draw(random, COUNT_OF(values))]);
        size_t length = strlen(required);
        if (draw(random, 3) == 0)
            snprintf(required + length, sizeof required - length, "%s\"%c\"", length ? "," : "", name);
    }
    strbuf_printf(b, "},\"required\":[%s],\"additionalProperties\":%s}", required,
                  draw(random, 3) ? "false" : values[draw(random, COUNT_OF(values))]);
}

// Members in order, mostly.
static void write_document(StrBuf *b, uint64_t *random) {
    uint32_t n = 0;
    strbuf_put_char(b, '{');
    for (char name = 'a'; name < 'a' + NAMES + 1; name++) {
        if (draw(random, 2)) continue;
        char written = draw(random, 20) ? name : (char)('a' + draw(random, NAMES));
        strbuf_printf(b, "%s\"%c\":%s", n++ ? "," : "", written,
                      documents[draw(random, COUNT_OF(documents))]);
    }
    strbuf_put_char(b, '}');
}

// The matcher takes the text, and each byte on the way is in the mask if and only if it is taken.
static bool takes_by_masks(GrammarMatcher *m, Str text) {
    GrammarState at = grammar_start(m);
    for (size_t i = 0; i < text.len; i++) {
        uint8_t byte = (uint8_t)text.ptr[i];
        const uint32_t *mask = grammar_mask(m, at);
        if (!CHECK(mask)) return false;
        bool allowed = mask[byte / 32] >> byte % 32 & 1u;
        at = grammar_step(m, at, byte);
        CHECK(allowed == grammar_is_state(at));
        if (!grammar_is_state(at)) return false;
    }
    return grammar_may_end(m, at);
}

TEST(schema_alternatives_together_take_what_each_takes) {
    uint64_t random = 0;
    uint32_t n_taken = 0;
    for (int round = 0; round < 60; round++) {
        static char schemas[ALTERNATIVES][2048], texts[TEXTS][DOCUMENT_BYTES], all[4 * 2048 + 64];
        bool taken[TEXTS] = {0};
        SchemaRun run;
        StrBuf joined = STRBUF(all);
        strbuf_printf(&joined, "{\"anyOf\":[");
        for (int k = 0; k < TEXTS; k++) {
            StrBuf b = STRBUF(texts[k]);
            write_document(&b, &random);
            texts[k][strbuf_str(&b).len] = 0;
        }
        for (int i = 0; i < ALTERNATIVES; i++) {
            StrBuf b = STRBUF(schemas[i]);
            write_alternative(&b, &random);
            Str schema = strbuf_str(&b);
            strbuf_printf(&joined, "%s%.*s", i ? "," : "", STR_ARG(schema));
            TEST_CASE_LABEL("round %d: %.*s", round, STR_ARG(schema));
            REQUIRE(schema_run_compile(&run, schema, &in_order));
            for (int k = 0; k < TEXTS; k++)
                taken[k] |= schema_run_takes(&run, str_from_c(texts[k]));
        }
        strbuf_printf(&joined, "]}");
        REQUIRE(schema_run_compile(&run, strbuf_str(&joined), &in_order));
        for (int k = 0; k < TEXTS; k++) {
            TEST_CASE_LABEL("round %d: %s, %.*s", round, texts[k], STR_ARG(strbuf_str(&joined)));
            CHECK(takes_by_masks(run.matcher, str_from_c(texts[k])) == taken[k]);
            n_taken += taken[k];
        }
    }
    CHECK(n_taken > 300 && n_taken < 60 * TEXTS - 300);
}
