// The official test suite of JSON Schema (tests/vectors/make_schema_suite.py): what compiles decides every
// instance rightly; what does not is refused by name.
#include "base/strbuf.h"
#include "os/os.h"
#include "runner.h"
#include "schema_run.h"

#include <stdio.h>

enum { KEYWORDS_MAX = 128 };

// What the header of schema.h says is not taken, though valid.
static const struct {
    const char *name, *text;
} departures[] = {
    {"format/time", "\"01:29:60+01:30\""}, // leap seconds with an offset
    {"format/time", "\"23:29:60+23:30\""}, {"format/time", "\"15:59:60-08:00\""},
    {"format/time", "\"00:29:60-23:30\""}, {"format/date-time", "\"1998-12-31T15:59:60.123-08:00\""},
    {"optional/float-overflow", "1e+308"}, // an integer with an exponent
};

static bool is_departure(Str name, Str text) {
    for (size_t i = 0; i < COUNT_OF(departures); i++) {
        if (str_eq(name, str_from_c(departures[i].name)) && str_eq(text, str_from_c(departures[i].text)))
            return true;
    }
    return false;
}

typedef struct {
    Str name;
    uint32_t passed, refused, wrong;
} Tally;

static Tally tallies[KEYWORDS_MAX];
static uint32_t n_tallies;

static Tally *tally_of(Str name) {
    for (uint32_t i = 0; i < n_tallies; i++) {
        if (str_eq(tallies[i].name, name)) return &tallies[i];
    }
    REQUIRE(n_tallies < KEYWORDS_MAX);
    tallies[n_tallies].name = name;
    return &tallies[n_tallies++];
}

static void run_group(Str name, const JsonNode *schema, const JsonNode *tests) {
    SchemaOptions options = {.blanks = SCHEMA_BLANKS_ANY,
                             .ignore_formats =
                                 !str_starts_with(name, STR("format/")) && !str_eq(name, STR("random"))};
    SchemaRun run;
    Tally *tally = tally_of(name);
    if (!schema_run_compile_node(&run, schema, &options)) {
        // A schema that nothing meets is refused, too, and that decides its instances.
        bool is_empty = strstr(run.err.message, "no text matches") != NULL;
        for (const JsonNode *t = json_first(tests); t != json_end(tests); t = json_next(t)) {
            bool valid = json_next(json_first(t))->as.boolean;
            if (!is_empty) tally->refused++;
            else if (valid) tally->wrong++, FAIL("%.*s: %s", STR_ARG(name), run.err.message);
            else tally->passed++;
        }
        CHECK(run.err.message[0] == '#' || is_empty);
        if (!is_empty) printf("%.*s: %s\n", STR_ARG(name), run.err.message);
        return;
    }
    for (const JsonNode *t = json_first(tests); t != json_end(tests); t = json_next(t)) {
        Str text;
        bool valid;
        REQUIRE(json_read_str(json_first(t), &text) && json_read_bool(json_next(json_first(t)), &valid));
        bool right = schema_run_takes(&run, text) == (valid && !is_departure(name, text));
        tally->passed += right;
        tally->wrong += !right;
        if (!right) FAIL("%.*s: %.*s is %s", STR_ARG(name), STR_ARG(text), valid ? "valid" : "invalid");
    }
}

// Each line of the file is a group.
static Tally run_file(const char *path) {
    Arena arena = os_arena(64 << 20);
    Error err = {0};
    Str file;
    REQUIRE(os_file_read(test_data_path(path), 4 << 20, &arena, &file, &err));
    uint32_t line = 0;
    for (size_t at = 0, end; at < file.len; at = end + 1) {
        for (end = at; end < file.len && file.ptr[end] != '\n';)
            end++;
        const JsonNode *group =
            json_parse(str_slice(file, at, end), &arena, &(JsonLimits){.nodes_max = 1 << 16}, &err);
        REQUIRE(group);
        Str name;
        const JsonNode *schema = json_next(json_first(group));
        REQUIRE(json_read_str(json_first(group), &name));
        TEST_CASE_LABEL("line %u", ++line);
        run_group(name, schema, json_next(schema));
    }
    Tally all = {0};
    for (uint32_t i = 0; i < n_tallies; i++) {
        Tally *t = &tallies[i];
        printf("%-32.*s %4u passed %4u refused %4u wrong\n", STR_ARG(t->name), t->passed, t->refused,
               t->wrong);
        all.passed += t->passed, all.refused += t->refused, all.wrong += t->wrong;
    }
    printf("all: %u passed, %u refused, %u wrong\n", all.passed, all.refused, all.wrong);
    return all;
}

TEST_SLOW(schema_suite, 120) {
    CHECK(run_file("vectors/schema_suite.txt").passed >= 1600);
}

// Random schemas and instances (tests/tools/check_schemas.py, which compares many more).
TEST_SLOW(schema_random, 120) {
    CHECK(run_file("vectors/schema_random.txt").passed >= 1000);
}
