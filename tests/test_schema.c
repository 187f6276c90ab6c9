// JSON Schema: what is taken in detail (numbers, strings, names, blanks, options), what is refused and how,
// and that no schema takes long.
#include "base/rng.h"
#include "base/strbuf.h"
#include "grammar/grammar_matcher_internal.h"
#include "grammar/number_lang.h"
#include "os/os.h"
#include "runner.h"
#include "schema_run.h"

#include <stdio.h>
#include <stdlib.h>

static const SchemaOptions exact = {.blanks = SCHEMA_BLANKS_ANY};

static const struct {
    const char *schema, *text;
    bool taken;
} texts[] = {
    // spellings: free text has all, texts of which the schema says more have one
    {"{\"type\":\"string\"}", "\"a\\/b\"", true},
    {"{\"minLength\":3}", "\"\\u0061/\\u0062\"", true},
    {"{\"maxLength\":2}", "\"\\ud83d\\uDE00\"", true},
    {"{\"const\":\"a/b\"}", "\"a/b\"", true},
    {"{\"const\":\"a/b\"}", "\"a\\/b\"", false},
    {"{\"enum\":[\"a/b\",\"c\"]}", "\"\\u0061/b\"", false},
    {"{\"enum\":[\"\xF0\x9F\x98\x80\\n\\u0001\\\"\"]}", "\"\xF0\x9F\x98\x80\\n\\u0001\\\"\"", true},
    {"{\"enum\":[\"\xF0\x9F\x98\x80\\n\\u0001\\\"\"]}", "\"\\ud83d\\ude00\\n\\u0001\\\"\"", false},
    {"{\"pattern\":\"^[a-z]$\"}", "\"\\u0061\"", false},
    {"{\"anyOf\":[{\"const\":\"a\"},{\"type\":\"string\"}]}", "\"\\u0061\"", true},
    {"{\"const\":\"a\"}", "\"b\"", false},
    {"{\"maxLength\":1}", "\"\\ud83d\\ude00\"", true},
    {"{\"maxLength\":1}", "\"\\ud83d\"", false},
    {"{\"properties\":{\"a\":{\"type\":\"null\"}}}", "{\"\\u0061\":null}", false},
    {"{\"properties\":{\"a\":{\"type\":\"null\"}}}", "{\"b\\n\":null}", true},
    {"{\"properties\":{\"a\":{\"type\":\"null\"}}}", "{\"\\u0062\":null}", false},
    {"{\"properties\":{\"a\":{\"type\":\"null\"}}}", "{\"\\u0061\":1}", false},
    {"{\"const\":1}", "1.00", true},
    {"{\"const\":1}", "1.01", false},
    {"{\"const\":0}", "-0.0", true},
    {"{\"const\":1.5}", "1.500", true},
    {"{\"const\":-0.001}", "-0.0010", true},
    {"{\"type\":\"integer\"}", "-12.000", true},
    {"{\"type\":\"integer\"}", "1e2", false},
    {"{\"type\":\"number\"}", "-1.5E+10", true},
    {"{\"type\":\"number\"}", "01", false},
    {"{\"type\":\"number\",\"minimum\":0}", "1e2", false},
    {"{\"type\":\"string\"}", "\"\t\"", false},
    // years begin at 0001
    {"{\"format\":\"date\"}", "\"0000-01-01\"", false},
    {"{\"format\":\"date\"}", "\"0000-02-29\"", false},
    {"{\"format\":\"date\"}", "\"0001-01-01\"", true},
    {"{\"format\":\"date\"}", "\"0004-02-29\"", true},
    {"{\"format\":\"date\"}", "\"0400-02-29\"", true},
    {"{\"format\":\"date\"}", "\"0100-02-29\"", false},
    {"{\"format\":\"date\"}", "\"0090-12-31\"", true},
    {"{\"format\":\"date\"}", "\"9999-12-31\"", true},
    {"{\"format\":\"date-time\"}", "\"0000-12-31T23:59:59Z\"", false},
    {"{\"format\":\"date-time\"}", "\"0001-01-01T00:00:00Z\"", true},
    // what no keyword holds is no schema, and may be anything
    {"{\"x-a\":{\"required\":true},\"title\":5,\"default\":{\"type\":3},\"const\":{\"required\":true}}",
     "{\"required\":true}", true},
    {"{\"properties\":{\"required\":{\"enum\":[true]},\"type\":false}}", "{\"required\":true}", true},
    // names
    {"{\"properties\":{\"a\":{\"type\":\"null\"}}}", "{\"a\":null,\"a\":null}", false},
    {"{}", "{\"a\":1,\"a\":2}", true},
    {"{\"patternProperties\":{\"^a\":{\"type\":\"null\"},\"b$\":{\"type\":[\"null\",\"string\"]}}}",
     "{\"ab\":null}", true},
    {"{\"patternProperties\":{\"^a\":{\"type\":\"null\"},\"b$\":{\"type\":[\"null\",\"string\"]}}}",
     "{\"ab\":\"\"}", false},
    {"{\"patternProperties\":{\"^a\":{\"type\":\"null\"}},\"additionalProperties\":false}", "{\"ab\":null}",
     true},
    {"{\"patternProperties\":{\"^a\":{\"type\":\"null\"}},\"additionalProperties\":false}", "{\"ba\":null}",
     false},
    {"{\"minProperties\":2,\"required\":[\"a\"]}", "{\"a\":1}", false},
    {"{\"minProperties\":2,\"required\":[\"a\"]}", "{\"b\":1,\"a\":1}", true},
    // numbers count as they are written, however long they are
    {"{\"const\":12345678901234567890123}", "12345678901234567890123", true},
    {"{\"const\":12345678901234567890123}", "12345678901234568000000", false},
    {"{\"enum\":[340282366920938463463374607431768211455]}", "340282366920938463463374607431768211455.0",
     true},
    {"{\"maximum\":12345678901234567890123}", "12345678901234567890123", true},
    {"{\"maximum\":12345678901234567890123}", "12345678901234567890124", false},
    {"{\"minimum\":0.30000000000000001}", "0.3", false},
    {"{\"minimum\":0.30000000000000001}", "0.300000000000000010", true},
    {"{\"const\":-1.2345678901234567890123e+5}", "-123456.78901234567890123", true},
    // "not an integer" excludes all spellings of integers
    {"{\"oneOf\":[{\"type\":\"integer\"},{\"type\":\"number\"}]}", "2.0", false},
    {"{\"oneOf\":[{\"type\":\"integer\"},{\"type\":\"number\"}]}", "2.5", true},
    {"{\"not\":{\"type\":\"integer\"}}", "-2.00", false},
    // values of enum, in any order
    {"{\"enum\":[{\"a\":[1,{\"b\":null}],\"c\":\"x\"}]}", " {\"c\" : \"x\", \"a\":[1.0, {\"b\":null}]}\n",
     true},
    {"{\"enum\":[{\"a\":[1,{\"b\":null}],\"c\":\"x\"}]}", "{\"c\":\"x\",\"a\":[1,{\"b\":0}]}", false},
    {"{\"not\":{\"const\":{\"a\":1}}}", "{\"a\":1}", false},
    {"{\"not\":{\"const\":{\"a\":1}}}", "{\"a\":1,\"b\":1}", true},
    {"{\"not\":{\"const\":[1,2]}}", "[1,3]", true},
    {"{\"not\":{\"const\":[1,2]}}", "[1,2]", false},
    // items that are all different
    {"{\"items\":{\"enum\":[\"a\",\"b\",null,1]},\"uniqueItems\":true}", "[\"b\", null, 1, \"a\"]", true},
    {"{\"items\":{\"enum\":[\"a\",\"b\",null,1]},\"uniqueItems\":true}", "[\"b\",\"a\",\"\\u0062\"]", false},
    {"{\"items\":{\"enum\":[\"a\",\"b\",null,1]},\"uniqueItems\":true}", "[1,1.0]", false},
    {"{\"items\":{\"enum\":[\"a\",\"b\",null,1]},\"uniqueItems\":true}", "[]", true},
    {"{\"items\":{\"multipleOf\":0.5,\"minimum\":-1,\"maximum\":1,\"type\":\"number\"},\"minItems\":2,"
     "\"uniqueItems\":true}",
     "[-1,0.5,0]", true},
    {"{\"items\":{\"multipleOf\":0.5,\"minimum\":-1,\"maximum\":1,\"type\":\"number\"},\"minItems\":2,"
     "\"uniqueItems\":true}",
     "[0,-0]", false},
    {"{\"items\":{\"multipleOf\":0.5,\"minimum\":-1,\"maximum\":1,\"type\":\"number\"},\"minItems\":2,"
     "\"uniqueItems\":true}",
     "[0]", false},
    {"{\"items\":{\"type\":\"number\"},\"uniqueItems\":true}", "[1.0, -0.5, 2.50,0.00, 2.501,-12.05]", true},
    {"{\"items\":{\"type\":\"number\"},\"uniqueItems\":true}", "[1,0,1.00]", false},
    {"{\"items\":{\"type\":\"number\"},\"uniqueItems\":true}", "[2.50,0.0,2.5]", false},
    {"{\"items\":{\"type\":\"number\"},\"uniqueItems\":true}", "[10,1.0,100,1.5]", true},
    {"{\"items\":{\"type\":\"number\"},\"uniqueItems\":true}", "[-0.0]", false},
    {"{\"items\":{\"type\":\"number\"},\"uniqueItems\":true}", "[1.500]", false},
    {"{\"items\":{\"type\":[\"number\",\"string\"]},\"uniqueItems\":true}", "[1,\"1.0\",\"1\",\"1.00\"]",
     true},
    {"{\"items\":{\"type\":\"number\",\"minimum\":0,\"maximum\":1},\"uniqueItems\":true}", "[1.0,0,0.25]",
     true},
    {"{\"items\":{\"type\":\"number\",\"minimum\":0,\"maximum\":1},\"uniqueItems\":true}", "[0,0.5,1.00,1",
     false},
    {"{\"items\":{\"type\":\"string\"},\"uniqueItems\":true}", "[\"a\\n\",\"\xC3\xA9\",\"a\",\"\"]", true},
    {"{\"items\":{\"type\":\"string\"},\"uniqueItems\":true}", "[\"a\",\"\\u0061\"]", false},
    {"{\"items\":{\"type\":\"string\",\"format\":\"date\"},\"uniqueItems\":true}",
     "[\"2024-02-29\",\"2024-02-28\"]", true},
    {"{\"items\":{\"type\":\"string\",\"format\":\"date\"},\"uniqueItems\":true}",
     "[\"2024-02-29\",\"2024-02-28\",\"2024-02-29\"]", false},
    {"{\"items\":{\"items\":{\"type\":\"string\"},\"uniqueItems\":true,\"type\":\"array\"}}",
     "[[\"a\",\"b\"],[\"a\"],[\"b\",\"a\"],[]]", true},
    {"{\"items\":{\"items\":{\"type\":\"string\"},\"uniqueItems\":true,\"type\":\"array\"}}",
     "[[\"a\",\"b\"],[\"a\",\"a\"]]", false},
    // recursion and combinations
    {"{\"$ref\":\"#/$defs/t\",\"$defs\":{\"t\":{\"type\":\"array\",\"items\":{\"$ref\":\"#/$defs/t\"}}}}",
     "[[],[[]]]", true},
    {"{\"$ref\":\"#/$defs/t\",\"$defs\":{\"t\":{\"type\":\"array\",\"items\":{\"$ref\":\"#/$defs/t\"}}}}",
     "[[1]]", false},
    {"{\"allOf\":[{\"minimum\":2},{\"maximum\":3}],\"anyOf\":[{\"multipleOf\":2},{\"const\":3}]}", "3", true},
    {"{\"allOf\":[{\"minimum\":2},{\"maximum\":3}],\"anyOf\":[{\"multipleOf\":2},{\"const\":3}]}", "2.5",
     false},
    {"{\"oneOf\":[{\"required\":[\"a\"]},{\"required\":[\"b\"]}]}", "{\"a\":1,\"b\":2}", false},
    {"{\"oneOf\":[{\"required\":[\"a\"]},{\"required\":[\"b\"]}]}", "{\"b\":2,\"c\":0}", true},
    // what must hold and, by a reference, must not
    {"{\"type\":\"object\",\"properties\":{\"d\":{\"type\":\"array\",\"items\":{\"type\":\"string\"},"
     "\"uniqueItems\":true},\"e\":{\"type\":\"string\"}},\"oneOf\":[{\"properties\":{\"d\":{\"$ref\":\"#/"
     "properties/d\"}},\"required\":[\"d\"]},{\"properties\":{\"e\":{\"$ref\":\"#/properties/"
     "e\"}},\"required\":[\"e\"]}]}",
     "{\"d\":[\"a\"]}", true},
    {"{\"type\":\"object\",\"properties\":{\"d\":{\"type\":\"array\",\"items\":{\"type\":\"string\"},"
     "\"uniqueItems\":true},\"e\":{\"type\":\"string\"}},\"oneOf\":[{\"properties\":{\"d\":{\"$ref\":\"#/"
     "properties/d\"}},\"required\":[\"d\"]},{\"properties\":{\"e\":{\"$ref\":\"#/properties/"
     "e\"}},\"required\":[\"e\"]}]}",
     "{\"e\":\"a\"}", true},
    {"{\"type\":\"object\",\"properties\":{\"d\":{\"type\":\"array\",\"items\":{\"type\":\"string\"},"
     "\"uniqueItems\":true},\"e\":{\"type\":\"string\"}},\"oneOf\":[{\"properties\":{\"d\":{\"$ref\":\"#/"
     "properties/d\"}},\"required\":[\"d\"]},{\"properties\":{\"e\":{\"$ref\":\"#/properties/"
     "e\"}},\"required\":[\"e\"]}]}",
     "{\"d\":[],\"e\":\"a\"}", false},
    {"{\"type\":\"object\",\"properties\":{\"d\":{\"type\":\"array\",\"items\":{\"type\":\"string\"},"
     "\"uniqueItems\":true},\"e\":{\"type\":\"string\"}},\"oneOf\":[{\"properties\":{\"d\":{\"$ref\":\"#/"
     "properties/d\"}},\"required\":[\"d\"]},{\"properties\":{\"e\":{\"$ref\":\"#/properties/"
     "e\"}},\"required\":[\"e\"]}]}",
     "{\"d\":[\"a\",\"a\"]}", false},
    {"{\"type\":\"object\",\"properties\":{\"d\":{\"type\":\"array\",\"items\":{\"type\":\"string\"},"
     "\"uniqueItems\":true},\"e\":{\"type\":\"string\"}},\"oneOf\":[{\"properties\":{\"d\":{\"$ref\":\"#/"
     "properties/d\"}},\"required\":[\"d\"]},{\"properties\":{\"e\":{\"$ref\":\"#/properties/"
     "e\"}},\"required\":[\"e\"]}]}",
     "{}", false},
    // some member has to break what must not hold
    {"{\"oneOf\":[{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{\"a\":{\"type\":"
     "\"string\"}}},{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{\"b\":{\"type\":"
     "\"string\"}}}]}",
     "{}", false},
    {"{\"oneOf\":[{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{\"a\":{\"type\":"
     "\"string\"}}},{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{\"b\":{\"type\":"
     "\"string\"}}}]}",
     "{\"a\":\"x\"}", true},
    {"{\"oneOf\":[{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{\"a\":{\"type\":"
     "\"string\"}}},{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{\"b\":{\"type\":"
     "\"string\"}}}]}",
     "{\"b\":\"\"}", true},
    {"{\"oneOf\":[{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{\"a\":{\"type\":"
     "\"string\"}}},{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{\"b\":{\"type\":"
     "\"string\"}}}]}",
     "{\"a\":\"x\",\"b\":\"\"}", false},
    {"{\"oneOf\":[{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{\"a\":{\"type\":"
     "\"string\"}}},{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{\"b\":{\"type\":"
     "\"string\"}}}]}",
     "{\"a\":1}", false},
    {"{\"type\":\"object\",\"properties\":{\"a\":{},\"b\":{},\"c\":{\"type\":\"null\"}},"
     "\"additionalProperties\":false,\"not\":{\"additionalProperties\":{\"type\":[\"string\",\"null\"]}}}",
     "{}", false},
    {"{\"type\":\"object\",\"properties\":{\"a\":{},\"b\":{},\"c\":{\"type\":\"null\"}},"
     "\"additionalProperties\":false,\"not\":{\"additionalProperties\":{\"type\":[\"string\",\"null\"]}}}",
     "{\"a\":\"x\"}", false},
    {"{\"type\":\"object\",\"properties\":{\"a\":{},\"b\":{},\"c\":{\"type\":\"null\"}},"
     "\"additionalProperties\":false,\"not\":{\"additionalProperties\":{\"type\":[\"string\",\"null\"]}}}",
     "{\"a\":\"x\",\"b\":2}", true},
    {"{\"type\":\"object\",\"properties\":{\"a\":{},\"b\":{},\"c\":{\"type\":\"null\"}},"
     "\"additionalProperties\":false,\"not\":{\"additionalProperties\":{\"type\":[\"string\",\"null\"]}}}",
     "{\"a\":1,\"b\":2}", true},
    {"{\"type\":\"object\",\"properties\":{\"a\":{},\"b\":{},\"c\":{\"type\":\"null\"}},"
     "\"additionalProperties\":false,\"not\":{\"additionalProperties\":{\"type\":[\"string\",\"null\"]}}}",
     "{\"c\":null}", false},
    {"{\"type\":\"object\",\"properties\":{\"a\":{},\"b\":{},\"c\":{\"type\":\"null\"}},"
     "\"additionalProperties\":false,\"not\":{\"additionalProperties\":{\"type\":[\"string\",\"null\"]}}}",
     "{\"c\":null,\"b\":\"\",\"a\":[]}", true},
    {"{\"type\":\"object\",\"properties\":{\"a\":{},\"b\":{},\"c\":{}},\"additionalProperties\":false,"
     "\"allOf\":[{\"not\":{\"properties\":{\"a\":{}},\"additionalProperties\":false}},{\"not\":{"
     "\"patternProperties\":{\"^[ab]$\":{\"type\":\"integer\"}}}}]}",
     "{\"b\":1}", false},
    {"{\"type\":\"object\",\"properties\":{\"a\":{},\"b\":{},\"c\":{}},\"additionalProperties\":false,"
     "\"allOf\":[{\"not\":{\"properties\":{\"a\":{}},\"additionalProperties\":false}},{\"not\":{"
     "\"patternProperties\":{\"^[ab]$\":{\"type\":\"integer\"}}}}]}",
     "{\"b\":\"\"}", true},
    {"{\"type\":\"object\",\"properties\":{\"a\":{},\"b\":{},\"c\":{}},\"additionalProperties\":false,"
     "\"allOf\":[{\"not\":{\"properties\":{\"a\":{}},\"additionalProperties\":false}},{\"not\":{"
     "\"patternProperties\":{\"^[ab]$\":{\"type\":\"integer\"}}}}]}",
     "{\"a\":\"x\",\"c\":1}", true},
    {"{\"type\":\"object\",\"properties\":{\"a\":{},\"b\":{},\"c\":{}},\"additionalProperties\":false,"
     "\"allOf\":[{\"not\":{\"properties\":{\"a\":{}},\"additionalProperties\":false}},{\"not\":{"
     "\"patternProperties\":{\"^[ab]$\":{\"type\":\"integer\"}}}}]}",
     "{\"a\":1,\"c\":1}", false},
    {"{\"type\":\"object\",\"properties\":{\"a\":{},\"b\":{},\"c\":{}},\"additionalProperties\":false,"
     "\"allOf\":[{\"not\":{\"properties\":{\"a\":{}},\"additionalProperties\":false}},{\"not\":{"
     "\"patternProperties\":{\"^[ab]$\":{\"type\":\"integer\"}}}}]}",
     "{\"a\":\"\"}", false},
    {"{\"oneOf\":[{\"type\":\"object\",\"propertyNames\":{\"pattern\":\"^[a-z]$\",\"not\":{\"pattern\":\"^["
     "xy]$\"}},\"minProperties\":1,\"maxProperties\":1},{\"type\":\"object\",\"additionalProperties\":false,"
     "\"properties\":{\"x\":{},\"y\":{}},\"minProperties\":1,\"maxProperties\":1}]}",
     "{}", false},
    {"{\"oneOf\":[{\"type\":\"object\",\"propertyNames\":{\"pattern\":\"^[a-z]$\",\"not\":{\"pattern\":\"^["
     "xy]$\"}},\"minProperties\":1,\"maxProperties\":1},{\"type\":\"object\",\"additionalProperties\":false,"
     "\"properties\":{\"x\":{},\"y\":{}},\"minProperties\":1,\"maxProperties\":1}]}",
     "{\"a\":1}", true},
    {"{\"oneOf\":[{\"type\":\"object\",\"propertyNames\":{\"pattern\":\"^[a-z]$\",\"not\":{\"pattern\":\"^["
     "xy]$\"}},\"minProperties\":1,\"maxProperties\":1},{\"type\":\"object\",\"additionalProperties\":false,"
     "\"properties\":{\"x\":{},\"y\":{}},\"minProperties\":1,\"maxProperties\":1}]}",
     "{\"x\":1}", true},
    {"{\"oneOf\":[{\"type\":\"object\",\"propertyNames\":{\"pattern\":\"^[a-z]$\",\"not\":{\"pattern\":\"^["
     "xy]$\"}},\"minProperties\":1,\"maxProperties\":1},{\"type\":\"object\",\"additionalProperties\":false,"
     "\"properties\":{\"x\":{},\"y\":{}},\"minProperties\":1,\"maxProperties\":1}]}",
     "{\"x\":1,\"a\":1}", false},
    {"{\"if\":{\"properties\":{\"k\":{\"const\":1}},\"required\":[\"k\"]},\"then\":{\"required\":[\"a\"]}}",
     "{\"k\":1}", false},
    {"{\"if\":{\"properties\":{\"k\":{\"const\":1}},\"required\":[\"k\"]},\"then\":{\"required\":[\"a\"]}}",
     "{\"a\":0,\"k\":1}", true},
    {"{\"if\":{\"properties\":{\"k\":{\"const\":1}},\"required\":[\"k\"]},\"then\":{\"required\":[\"a\"]}}",
     "{\"k\":2}", true},
};

TEST(schema_takes_texts) {
    const char *compiled = "";
    SchemaRun run;
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        TEST_CASE_LABEL("%s: %s", texts[i].schema, texts[i].text);
        if (strcmp(compiled, texts[i].schema) != 0 &&
            !schema_run_compile(&run, str_from_c(texts[i].schema), &exact)) {
            FAIL("%s", run.err.message);
            continue;
        }
        compiled = texts[i].schema;
        CHECK(schema_run_takes(&run, str_from_c(texts[i].text)) == texts[i].taken);
    }
}

TEST(schema_options_narrow_what_is_taken) {
    static const char schema[] =
        "{\"properties\":{\"a\":{\"type\":\"integer\"},\"b\":{\"format\":\"date\"},\"n\":{\"enum\":[1.5,2]},"
        "\"not\":{\"not\":{\"const\":1}},\"broken\":{\"oneOf\":[{\"type\":\"integer\"},{\"type\":\"number\"}]"
        "},"
        "\"mixed\":{\"anyOf\":[{\"type\":\"integer\"},{\"const\":0.5}]},\"any\":{\"type\":\"number\"}}}";
    static const struct {
        SchemaOptions options;
        const char *text;
        bool taken;
    } rows[] = {
        {{.blanks = SCHEMA_BLANKS_ANY}, " {\n\n} ", true},
        {{.blanks = SCHEMA_BLANKS_FEW}, "{\n\n\n}", false},
        {{.blanks = SCHEMA_BLANKS_FEW}, "{\n  \"a\": 1,\n  \"b\": \"2024-02-29\"\n}", true},
        {{.blanks = SCHEMA_BLANKS_FEW}, "{\n\t\"a\":1, \"c\": [\n\t\t1,\n\t\t[ ]\n\t]\n}", true},
        {{.blanks = SCHEMA_BLANKS_FEW}, "{\"a\" :1}", false},
        {{.blanks = SCHEMA_BLANKS_FEW}, "{\"a\"\n:1}", false},
        {{.blanks = SCHEMA_BLANKS_FEW}, "{\"a\":\n1}", false},
        {{.blanks = SCHEMA_BLANKS_FEW}, "{\"a\":1\n,\"c\":1}", false},
        {{.blanks = SCHEMA_BLANKS_FEW}, " {}", false},
        {{.blanks = SCHEMA_BLANKS_PATTERN, .blank_pattern = STR("\t?|\n")}, "{\t\"a\"\n:\n1\t}", true},
        {{.blanks = SCHEMA_BLANKS_PATTERN, .blank_pattern = STR("\t?|\n")}, "{ \"a\":1}", false},
        {{.blanks = SCHEMA_BLANKS_PATTERN, .blank_pattern = STR("^[ \n]*$")}, "{ \"a\"\n: 1\n}", true},
        {{.blanks = SCHEMA_BLANKS_PATTERN, .blank_pattern = STR("^ $")}, "{ \"a\" : 1 }", true},
        {{.blanks = SCHEMA_BLANKS_PATTERN, .blank_pattern = STR("^ $")}, "{ \"a\" :1 }", false},
        {{.blanks = SCHEMA_BLANKS_PATTERN, .blank_pattern = STR("$")}, "{\"a\":1}", true},
        {{.blanks = SCHEMA_BLANKS_PATTERN, .blank_pattern = STR("(?!\\n)[ \n]?")}, "{ \"a\":1}", true},
        {{.blanks = SCHEMA_BLANKS_PATTERN, .blank_pattern = STR("(?!\\n)[ \n]?")}, "{\n\"a\":1}", false},
        {{.blanks = SCHEMA_BLANKS_NONE}, "{\"a\":1,\"b\":\"2024-02-29\"}", true},
        {{.blanks = SCHEMA_BLANKS_NONE}, "{\"a\": 1}", false},
        {{.schema_order = true}, "{\"a\":1,\"b\":1}", true},
        {{.schema_order = true}, "{\"b\":1,\"a\":1}", false},
        {{.schema_order = true}, "{\"a\":1,\"c\":1}", true},
        {{.plain_numbers = false}, "{\"a\":1.0}", true},
        {{.plain_numbers = true}, "{\"a\":1.0}", false},
        {{.plain_numbers = false}, "{\"n\":1.50}", true},
        {{.plain_numbers = true}, "{\"n\":1.50}", false},
        {{.plain_numbers = true}, "{\"n\":1.5}", true},
        {{.plain_numbers = true}, "{\"not\":1.00}", false},
        {{.plain_numbers = true}, "{\"broken\":2.0}", false},
        {{.plain_numbers = true}, "{\"broken\":2.50}", true},
        {{.plain_numbers = true}, "{\"mixed\":2.0}", false},
        {{.plain_numbers = true}, "{\"mixed\":-2}", true},
        {{.plain_numbers = true}, "{\"mixed\":0.5}", true},
        {{.plain_numbers = true}, "{\"any\":2.0}", true},
        {{.ignore_formats = false}, "{\"b\":\"2023-02-29\"}", false},
        {{.ignore_formats = true}, "{\"b\":\"2023-02-29\"}", true},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        SchemaRun run;
        TEST_CASE_LABEL("row %zu: %s", i, rows[i].text);
        REQUIRE(schema_run_compile(&run, str_from_c(schema), &rows[i].options));
        bool taken = schema_run_takes(&run, str_from_c(rows[i].text));
        CHECK(taken == rows[i].taken);
    }
}

// An object's own properties, then those of what it refers to, of allOf, of alternatives, as they are listed.
TEST(schema_order_is_kept_where_schemas_are_joined) {
#define CLOSED                                                                              \
    "{\"properties\":{\"k\":{\"enum\":[\"a\",\"b\"]},\"v\":{}},\"required\":[\"k\",\"v\"]," \
    "\"additionalProperties\":false,"
#define BASE "\"$defs\":{\"base\":{\"properties\":{\"b\":{\"type\":\"null\"}},\"required\":[\"b\"]}}"
    static const char conditional[] = CLOSED "\"if\":{\"properties\":{\"k\":{\"const\":\"a\"}}},\"then\":{"
                                             "\"properties\":{\"v\":{\"type\":\"integer\"}}},"
                                             "\"else\":{\"properties\":{\"v\":{\"type\":\"boolean\"}}}}";
    static const char any_of[] = CLOSED "\"anyOf\":[{\"properties\":{\"v\":{\"minimum\":3}}},"
                                        "{\"properties\":{\"k\":{\"const\":\"a\"}}}]}";
    static const char all_of[] =
        "{\"allOf\":[{\"$ref\":\"#/$defs/base\"},{\"properties\":{\"c\":{\"type\":\"null\"}}},"
        "{\"properties\":{\"a\":{\"type\":\"null\"}}}]," BASE "}";
    static const char own[] =
        "{\"properties\":{\"o\":{\"type\":\"null\"}},\"$ref\":\"#/$defs/base\"," BASE "}";
#undef CLOSED
#undef BASE
    static const struct {
        const char *schema, *text;
        bool taken;
    } rows[] = {
        {conditional, "{\"k\":\"a\",\"v\":1}", true},
        {conditional, "{\"k\":\"b\",\"v\":true}", true},
        {conditional, "{\"v\":1,\"k\":\"a\"}", false},
        {any_of, "{\"k\":\"b\",\"v\":3}", true},
        {any_of, "{\"k\":\"a\",\"v\":0}", true},
        {any_of, "{\"v\":3,\"k\":\"b\"}", false},
        {all_of, "{\"b\":null,\"c\":null,\"a\":null}", true},
        {all_of, "{\"c\":null,\"b\":null}", false},
        {own, "{\"o\":null,\"b\":null}", true},
        {own, "{\"b\":null,\"o\":null}", false},
    };
    SchemaOptions options = {.schema_order = true};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        SchemaRun run;
        TEST_CASE_LABEL("%s: %s", rows[i].schema, rows[i].text);
        REQUIRE(schema_run_compile(&run, str_from_c(rows[i].schema), &options));
        CHECK(schema_run_takes(&run, str_from_c(rows[i].text)) == rows[i].taken);
    }
}

// Grammars that differ in anything have another digest; the same schema has the same one.
TEST(schema_grammars_are_told_apart) {
    static const char *const schemas[] = {
        "{}",
        "{\"type\":\"integer\"}",
        "{\"type\":\"integer\",\"minimum\":3}",
        "{\"type\":\"integer\",\"minimum\":4}",
        "{\"type\":\"string\",\"maxLength\":3}",
        "{\"type\":\"string\",\"maxLength\":4}",
        "{\"enum\":[\"a\",\"b\"]}",
        "{\"enum\":[\"a\",\"c\"]}",
        "{\"type\":\"array\",\"items\":{\"type\":\"integer\"}}",
        "{\"type\":\"array\",\"items\":{\"type\":\"null\"}}",
        "{\"type\":\"array\",\"items\":{\"type\":\"integer\"},\"minItems\":2}",
        "{\"type\":\"array\",\"items\":{\"type\":\"integer\"},\"minItems\":2,\"maxItems\":5}",
        "{\"type\":\"array\",\"items\":{\"type\":\"integer\"},\"contains\":{\"const\":1}}",
        "{\"type\":\"array\",\"items\":{\"type\":\"integer\"},\"contains\":{\"const\":1},\"minContains\":2}",
        "{\"type\":\"array\",\"items\":{\"enum\":[\"a\",\"b\"]}}",
        "{\"type\":\"array\",\"items\":{\"enum\":[\"a\",\"b\"]},\"maxItems\":2}",
        "{\"type\":\"array\",\"items\":{\"enum\":[\"a\",\"b\"]},\"uniqueItems\":true}",
        "{\"type\":\"array\",\"prefixItems\":[{\"type\":\"integer\"}]}",
        "{\"type\":\"object\",\"properties\":{\"a\":{},\"b\":{}},\"additionalProperties\":false}",
        "{\"type\":\"object\",\"properties\":{\"b\":{},\"a\":{}},\"additionalProperties\":false}",
        "{\"type\":\"object\",\"properties\":{\"a\":{},\"b\":{}}}",
        "{\"type\":\"object\",\"properties\":{\"a\":{},\"b\":{}},\"required\":[\"a\"]}",
        "{\"type\":\"object\",\"properties\":{\"a\":{},\"b\":{}},\"required\":[\"b\"]}",
        "{\"type\":\"object\",\"properties\":{\"a\":{},\"b\":{}},\"maxProperties\":1}",
        "{\"type\":\"object\",\"properties\":{\"a\":{},\"b\":{}},\"dependentRequired\":{\"a\":[\"b\"]}}",
    };
    uint8_t digests[COUNT_OF(schemas)][sizeof((GrammarMatcher *)0)->digest];
    for (size_t i = 0; i < COUNT_OF(schemas); i++) {
        TEST_CASE_LABEL("%s", schemas[i]);
        SchemaRun run;
        for (int times = 0; times < 2; times++) {
            REQUIRE(schema_run_compile(&run, str_from_c(schemas[i]), &(SchemaOptions){0}));
            if (times) CHECK(memcmp(digests[i], run.matcher->digest, sizeof digests[i]) == 0);
            memcpy(digests[i], run.matcher->digest, sizeof digests[i]);
        }
        for (size_t k = 0; k < i; k++)
            CHECK(memcmp(digests[i], digests[k], sizeof digests[i]) != 0);
    }
}

TEST(schema_long_strings_are_counted) {
    static const uint32_t bounds[][2] = {{0, 300},  {300, 1000},       {700, 703},    {640, 640},
                                         {64, 511}, {400, UINT32_MAX}, {60000, 65000}};
    static char text[70000 * 6];
    for (size_t i = 0; i < COUNT_OF(bounds); i++) {
        SchemaRun run;
        char schema[100];
        uint32_t min = bounds[i][0], max = bounds[i][1];
        if (max == UINT32_MAX) snprintf(schema, sizeof schema, "{\"type\":\"string\",\"minLength\":%u}", min);
        else
            snprintf(schema, sizeof schema, "{\"type\":\"string\",\"minLength\":%u,\"maxLength\":%u}", min,
                     max);
        REQUIRE(schema_run_compile(&run, str_from_c(schema), &exact));
        uint32_t around[] = {0,   63,  64,  65,      299,     300, 301,     639,
                             640, 641, min, min + 1, min - 1, max, max - 1, max + 1};
        for (size_t k = 0; k < COUNT_OF(around); k++) {
            if (around[k] > 66000) continue;
            StrBuf b = STRBUF(text);
            strbuf_put_char(&b, '"');
            for (uint32_t c = 0; c < around[k]; c++)
                strbuf_put(&b, c % 7 ? STR("x") : c % 2 ? STR("\xC3\xA9") : STR("\\u0041"));
            strbuf_put_char(&b, '"');
            TEST_CASE_LABEL("%u characters, %s", around[k], schema);
            CHECK(schema_run_takes(&run, strbuf_str(&b)) == (around[k] >= min && around[k] <= max));
        }
    }
}

static const struct {
    const char *schema, *message;
} refused[] = {
    {"{\"properties\":{\"a/b\":{\"pattern\":\"(a\"}}}",
     "#/properties/a~1b/pattern: a group without end at byte 0 of the pattern"},
    {"{\"type\":\"strin\"}", "#/type: \"strin\" is not the name of a type"},
    {"{\"minLength\":-1}", "#/minLength: not a non-negative integer, found -1"},
    {"{\"minLength\":1e-400}", "#/minLength: not a non-negative integer, found 1e-400"},
    {"{\"maxItems\":2.00000000000000000001}",
     "#/maxItems: not a non-negative integer, found 2.00000000000000000001"},
    {"{\"const\":1e-500}", "#/const: a number of more than 400 digits"},
    {"{\"enum\":[1,-1e-5000000]}", "#/enum/1: a number of more than 400 digits"},
    {"{\"items\":{\"enum\":[[1],{\"a\":[1e-500]}]}}", "#/items/enum/1/a/0: a number of more than 400 digits"},
    {"{\"items\":3}", "#/items: a number where a schema should be"},
    {"{\"anyOf\":[]}", "#/anyOf: an empty list where schemas should be"},
    {"{\"allOf\":{}}", "#/allOf: not a list of schemas, found an object"},
    {"{\"$ref\":\"other.json\"}", "#/$ref: refers to another document, \"other.json\""},
    {"{\"$ref\":\"#/$defs/no\"}", "#/$ref: refers to nothing in this document"},
    {"{\"$ref\":\"#\"}", "#: refers to itself with nothing between"},
    {"{\"uniqueItems\":true}",
     "#/uniqueItems: uniqueItems is supported where items are strings, numbers, booleans or null"},
    {"{\"properties\":{\"a\":{\"uniqueItems\":true,\"items\":{\"type\":[\"string\",\"object\"]}}}}",
     "#/properties/a/uniqueItems: uniqueItems is supported where items are strings, numbers, booleans or "
     "null"},
    {"{\"uniqueItems\":true,\"items\":{\"type\":\"string\"},\"prefixItems\":[{\"type\":\"null\"}]}",
     "#/uniqueItems: uniqueItems is supported where all items have the same schema"},
    {"{\"uniqueItems\":true,\"items\":{\"type\":\"string\"},\"contains\":{\"const\":\"a\"}}",
     "#/uniqueItems: uniqueItems together with contains is not supported"},
    {"{\"not\":{\"patternProperties\":{\"a\":{\"type\":\"null\"}}}}",
     "#/not/patternProperties/a: must not hold, so some member would have to break it"},
    {"{\"minProperties\":3}",
     "#: minProperties is more than one above the required members, where any names are allowed"},
    {"{\"allOf\":[{\"contains\":{\"const\":1}},{\"contains\":{\"const\":2}}]}",
     "#/allOf/1/contains: a second contains for the same array"},
    {"{\"multipleOf\":0}", "#/multipleOf: not above 0, found 0"},
    {"{\"multipleOf\":0.1234567}", "#/multipleOf: its digits need an automaton of more than 20000 states"},
    {"{\"exclusiveMinimum\":true}", "#/exclusiveMinimum: not a number, found true"},
    // wrong types, also where nothing asks for the keyword
    {"{\"properties\":{\"a\":{\"type\":\"boolean\",\"required\":true}}}",
     "#/properties/a/required: not an array of members' names, found true"},
    {"{\"type\":\"object\",\"required\":\"a\"}", "#/required: not an array of members' names, found \"a\""},
    {"{\"type\":\"string\",\"required\":[\"a\",1]}", "#/required/1: not a string, found 1"},
    {"{\"$defs\":{\"a\":{\"type\":5}}}", "#/$defs/a/type: not the name of a type, found 5"},
    {"{\"$defs\":{\"a\":{\"enum\":{}}}}", "#/$defs/a/enum: not an array, found an object"},
    {"{\"definitions\":[]}", "#/definitions: not an object, found an array"},
    {"{\"type\":\"null\",\"definitions\":{\"a\":{\"minimum\":\"1\"}}}",
     "#/definitions/a/minimum: not a number, found \"1\""},
    {"{\"$defs\":{\"a\":{\"multipleOf\":-1}}}", "#/$defs/a/multipleOf: not above 0, found -1"},
    {"{\"$defs\":{\"a\":{\"maxLength\":\"9\"}}}",
     "#/$defs/a/maxLength: not a non-negative integer, found \"9\""},
    {"{\"$defs\":{\"a\":{\"pattern\":1}}}", "#/$defs/a/pattern: not a string, found 1"},
    {"{\"$defs\":{\"a\":{\"format\":null}}}", "#/$defs/a/format: not a string, found null"},
    {"{\"$defs\":{\"a\":{\"$ref\":{}}}}", "#/$defs/a/$ref: not a string, found an object"},
    {"{\"type\":\"string\",\"minItems\":1.5}", "#/minItems: not a non-negative integer, found 1.5"},
    {"{\"type\":\"string\",\"minContains\":-1}", "#/minContains: not a non-negative integer, found -1"},
    {"{\"type\":\"string\",\"maxProperties\":true}",
     "#/maxProperties: not a non-negative integer, found true"},
    {"{\"type\":\"string\",\"uniqueItems\":1}", "#/uniqueItems: not a boolean, found 1"},
    {"{\"type\":\"string\",\"properties\":[\"a\"]}", "#/properties: not an object, found an array"},
    {"{\"type\":\"string\",\"properties\":{\"a\":{\"minLength\":null}}}",
     "#/properties/a/minLength: not a non-negative integer, found null"},
    {"{\"type\":\"string\",\"patternProperties\":{\"a\":1}}",
     "#/patternProperties/a: a number where a schema should be"},
    {"{\"type\":\"string\",\"items\":\"x\"}", "#/items: a string where a schema should be"},
    {"{\"type\":\"string\",\"items\":[true,null]}", "#/items/1: null where a schema should be"},
    {"{\"type\":\"string\",\"prefixItems\":{}}", "#/prefixItems: not an array, found an object"},
    {"{\"type\":\"string\",\"contains\":[]}", "#/contains: an array where a schema should be"},
    {"{\"type\":\"string\",\"additionalProperties\":\"no\"}",
     "#/additionalProperties: a string where a schema should be"},
    {"{\"type\":\"string\",\"dependentRequired\":{\"a\":\"b\"}}",
     "#/dependentRequired/a: not an array of members' names, found \"b\""},
    {"{\"type\":\"string\",\"dependencies\":{\"a\":[\"b\"],\"c\":\"b\"}}",
     "#/dependencies/c: a string where a schema should be"},
    {"{\"type\":\"string\",\"dependencies\":{\"a\":[2]}}", "#/dependencies/a/0: not a string, found 2"},
    {"{\"then\":1}", "#/then: a number where a schema should be"},
    {"{\"$defs\":{\"a\":{\"oneOf\":[]}}}", "#/$defs/a/oneOf: an empty list where schemas should be"},
    {"{\"maxLength\":1000000}", "#/maxLength: a length of 1000000 characters is above the limit of 65535"},
    {"{\"minLength\":70000}", "#/minLength: a length of 70000 characters is above the limit of 65535"},
    {"{\"items\":{\"minItems\":1000000000}}",
     "#/items/minItems: more than any answer has (at most 1048575 may be asked for), found 1000000000"},
    {"{\"minProperties\":1e30}",
     "#/minProperties: more than any answer has (at most 1048575 may be asked for), found 1e30"},
    {"{\"minLength\":2000,\"format\":\"uri\"}", "#/minLength: a length together with a pattern or format is "
                                                "too much (it needs an automaton of more than "
                                                "65536 states); leave one of them out"},
    // what no keyword alone is to blame for has the schema's pointer
    {"{\"properties\":{\"a\":{\"items\":{\"maxLength\":65000,\"pattern\":\"^.*(a|b).{13}$\"}}}}",
     "#/properties/a/items: needs an automaton that is too large to count in"},
    {"{\"items\":{\"allOf\":[{\"pattern\":\"^.*(a|b).{12}$\"},{\"pattern\":\"^.*(a|c).{12}$\"}]}}",
     "#/items: needs an automaton of more than 65536 states"},
    {"{\"items\":{\"propertyNames\":{\"maxLength\":60000,\"pattern\":\"^(ab|c)*$\"}}}",
     "#/items: needs an automaton of more than 65536 states"},
    {"{\"$schema\":\"http://json-schema.org/draft-02/schema#\"}",
     "#/$schema: an unknown language of schemas"},
    // contradictions
    {"false", "#: no text matches the schema false"},
    {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\",\"enum\":[1]}},\"required\":[\"a\"]}",
     "no text matches #/properties/a (type, enum): no value meets all that it says"},
    {"{\"type\":\"integer\",\"minimum\":3,\"maximum\":2}",
     "no text matches # (type, minimum, maximum): no value meets all that it says"},
    {"{\"type\":\"array\",\"items\":{\"not\":{}},\"minItems\":1}",
     "no text matches #/items (not): no value meets all that it says"},
    {"{\"minProperties\":1,\"type\":\"object\",\"additionalProperties\":false,\"title\":\"t\"}",
     "no text matches # (minProperties, type, additionalProperties): no object has the members it asks for"},
    {"{\"type\":\"array\",\"items\":{\"type\":\"boolean\"},\"minItems\":3,\"uniqueItems\":true}",
     "no text matches # (type, items, minItems, uniqueItems): no value meets all that it says"},
    {"{\"type\":\"array\",\"items\":{\"$ref\":\"#\"},\"minItems\":1}",
     "no text matches # (type, items, minItems): no array has the items it asks for"},
};

#define LONGEST_TOKEN "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

TEST(schema_refusals_say_what_takes_the_most_work) {
    SchemaRun run;
    SchemaOptions options = exact;
    options.work_max = 150000;
    CHECK(!schema_run_compile(
        &run,
        STR("{\"properties\":{\"a\":{\"maxLength\":9},\"b\":{\"items\":{\"pattern\":\"^(a|b)*a(a|b){14}$\"}},"
            "\"c\":{\"maxLength\":8}}}"),
        &options));
    CHECK_INT_EQ(ERR_TOO_LARGE, run.err.code);
    const char *message = run.err.message;
    CHECK(strstr(message, "#/properties/b/items/pattern: needs more than 150000 steps of work, of which ") ==
          message);
    CHECK(strstr(message, " for #/properties/b/items (pattern)") != NULL);
    printf("%s\n", message);
}

// Bytes, and tokens of several characters.
static const TokenTrie *tokens_of_many_bytes(void) {
    static TokenTrie trie;
    static char bytes[256];
    static const char *const more[] = {"a",
                                       "aa",
                                       "aaaaaaaa",
                                       "aaaaaaaaaaaaaaa",
                                       "aaaaaaaaaaaaaaaa",
                                       "aaaaaaaaaaaaaaaaa",
                                       "aaaaaaaaaaaaaaaaaaaaaaaa",
                                       "aaaaaaaaaaaaaaaaaaaaaaaaa",
                                       LONGEST_TOKEN,
                                       "\xC3\xA9\xC3\xA9",
                                       "a\xC3",
                                       "\xA9\xC3\xA9",
                                       "\xF0\x9F",
                                       "\x98\x80",
                                       "\x98\x80"
                                       "aaaa",
                                       "\xF0\x9F\x98\x80\xF0\x9F\x98\x80",
                                       "\\u",
                                       "\\u0041",
                                       "41\\u0041a",
                                       "\\u0041\\u0041\\u0041\\u0041",
                                       "\\ud8",
                                       "3d\\ude00",
                                       "\\ude00",
                                       "\\ud83d\\ude00",
                                       "a\\ud83d\\ude00\\ud83d\\ude00",
                                       "\\n\\n\\\"",
                                       "\"}",
                                       "\"]",
                                       "\",\"",
                                       "a\",\"aaa",
                                       "aaaaaaaaaaaaaaaaaaaaaaaaaaa\",\"a"};
    static Str pieces[256 + COUNT_OF(more)];
    static const int32_t end = 0;
    static Arena arena;
    Error err = {0};
    if (trie.n_tokens) return &trie;
    arena = os_arena(1 << 20);
    for (int i = 0; i < 256; i++) {
        bytes[i] = (char)i;
        pieces[i] = (Str){&bytes[i], 1};
    }
    for (size_t i = 0; i < COUNT_OF(more); i++)
        pieces[256 + i] = str_from_c(more[i]);
    Arena scratch = os_arena(1 << 20);
    CHECK(token_trie_build(pieces, COUNT_OF(pieces), &end, 1, &arena, scratch, &trie, &err));
    os_release(scratch.next, arena_left(&scratch));
    return &trie;
}

// Each of `tokens` is in the state's mask if and only if it is taken.
static bool mask_is_right(GrammarMatcher *m, GrammarState at, uint32_t n_tokens) {
    const uint32_t *mask = grammar_mask(m, at);
    if (!mask) return false;
    for (uint32_t t = 1; t < n_tokens; t++) {
        bool allowed = mask[t / 32] >> t % 32 & 1u;
        if (allowed != grammar_is_state(grammar_step(m, at, (int32_t)t))) return false;
    }
    return true;
}

// From further away than the longest token up to the bound, within and behind characters of all spellings.
TEST(schema_masks_are_right_around_a_bound_of_characters) {
    enum { MOST = 60 };
    static const char *const items[] = {"\"maxLength\":60", "\"minLength\":50,\"maxLength\":60",
                                        "\"minLength\":60,\"maxLength\":60",
                                        "\"maxLength\":60,\"pattern\":\"^[aA\\u00e9\\ud83d\\ude00\\\\n]*$\"",
                                        "\"maxLength\":60,\"pattern\":\"^(a{9})*.?$\""};
    static const char *const parts[] = {
        "a",   "\xC3",  "\xC3\xA9", "\xF0\x9F", "\xF0\x9F\x98\x80", "\\",
        "\\n", "\\u00", "\\u0041",  "\\ud83d",  "\\ud83d\\ud",      "\\ud83d\\ude00"};
    const TokenTrie *trie = tokens_of_many_bytes();
    CHECK_INT_EQ(sizeof LONGEST_TOKEN - 1, trie->depth_max);
    schema_run_set_trie(trie);
    for (size_t i = 0; i < COUNT_OF(items); i++) {
        SchemaRun run;
        char schema[300], text[2 * MOST];
        uint32_t compared = 0;
        snprintf(schema, sizeof schema,
                 "{\"type\":\"array\",\"items\":{\"type\":\"string\",%s},\"maxItems\":40}", items[i]);
        REQUIRE(schema_run_compile(&run, str_from_c(schema), &exact));
        for (size_t left = 0; left <= sizeof LONGEST_TOKEN + 2; left++) {
            StrBuf b = STRBUF(text);
            strbuf_put(&b, STR("[\""));
            for (size_t k = left; k < MOST; k++)
                strbuf_put_char(&b, 'a');
            GrammarState before = grammar_step_bytes(run.matcher, grammar_start(run.matcher), strbuf_str(&b));
            if (!grammar_is_state(before)) continue; // the pattern has no such text
            for (size_t k = 0; k < COUNT_OF(parts); k++) {
                GrammarState at = grammar_step_bytes(run.matcher, before, str_from_c(parts[k]));
                if (left == 0) CHECK(!grammar_is_state(at));
                TEST_CASE_LABEL("%s: %zu left, then %s", schema, left, parts[k]);
                if (grammar_is_state(at)) CHECK(mask_is_right(run.matcher, at, trie->n_tokens));
                compared += grammar_is_state(at);
            }
            TEST_CASE_LABEL("%s: %zu left", schema, left);
            CHECK(mask_is_right(run.matcher, before, trie->n_tokens));
        }
        CHECK(compared > 20);
    }
    schema_run_set_trie(NULL);
}

// Of a long string only the last characters have masks of their own.
TEST(schema_masks_of_long_strings_are_shared) {
    SchemaRun run;
    schema_run_set_trie(tokens_of_many_bytes());
    REQUIRE(schema_run_compile(&run, STR("{\"type\":\"string\",\"maxLength\":2000}"), &exact));
    GrammarState at = grammar_step_bytes(run.matcher, grammar_start(run.matcher), STR("\""));
    for (uint32_t n = 0; n <= 2000; n++) {
        CHECK(grammar_mask(run.matcher, at) != NULL);
        GrammarFigures f = grammar_figures(run.matcher);
        if (n == 1900) CHECK_U64_EQ(1, f.masks - f.masks_cached);
        if (n == 2000) CHECK(f.masks - f.masks_cached > 24 && f.masks - f.masks_cached < 50);
        at = grammar_step_bytes(run.matcher, at, STR("a"));
    }
    schema_run_set_trie(NULL);
}

// Long bounds are counted beside the automaton of a pattern or format.
TEST(schema_lengths_are_counted_beside_patterns) {
    static const struct {
        const char *schema, *head;
        uint32_t max;
    } rows[] = {
        {"{\"type\":\"string\",\"format\":\"uri\",\"minLength\":1,\"maxLength\":2083}", "http://b/", 2083},
        {"{\"anyOf\":[{\"type\":\"string\",\"format\":\"uri\",\"maxLength\":2083},{\"type\":\"null\"}]}",
         "x:", 2083},
        {"{\"allOf\":[{\"maxLength\":9000},{\"type\":\"string\",\"pattern\":\"^(?:[a-c]{2}|\\u00e9|\\n)*$\"}]"
         "}",
         "\\n\xC3\xA9", 9000},
        {"{\"type\":\"string\",\"pattern\":\"^[a-z0-9]+(?:-[a-z0-9]+)*$\",\"maxLength\":65000}", "b-",
         65000}};
    static char text[70000];
    schema_run_set_trie(tokens_of_many_bytes());
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        SchemaRun run;
        TEST_CASE_LABEL("%s", rows[i].schema);
        bool compiles = schema_run_compile(&run, str_from_c(rows[i].schema), &exact);
        if (!CHECK(compiles)) continue;
        size_t head = strlen(rows[i].head), length = strcmp(rows[i].head, "\\n\xC3\xA9") == 0 ? 2 : head;
        for (uint32_t more = 0; more < 3; more++) { // one character too few, as many as may be, one too many
            uint32_t n = rows[i].max - 1 + more, odd = i == 2 && (n - (uint32_t)length) % 2;
            StrBuf b = STRBUF(text);
            strbuf_printf(&b, "\"%s", rows[i].head);
            for (size_t k = length; k < n; k++)
                strbuf_put_char(&b, 'a');
            strbuf_put_char(&b, '"');
            CHECK(schema_run_takes(&run, strbuf_str(&b)) == (more < 2 && !odd));
        }
        // From a place before the bound on, all masks are right, and no place is a dead end.
        size_t near = rows[i].max - 40 - length + head + 1;
        GrammarState at = grammar_step_bytes(run.matcher, grammar_start(run.matcher), (Str){text, near});
        for (int k = 0; k < 41 && CHECK(grammar_is_state(at)); k++) {
            if (!CHECK(mask_is_right(run.matcher, at, tokens_of_many_bytes()->n_tokens))) break;
            GrammarState next = grammar_step(run.matcher, at, 'a');
            if (!grammar_is_state(next)) break;
            at = next;
        }
        CHECK(grammar_is_state(grammar_step(run.matcher, at, '"')));
        CHECK(!grammar_is_state(grammar_step(run.matcher, at, 'a')));
    }
    schema_run_set_trie(NULL);
}

TEST(schema_takes_maxima_that_nothing_reaches) {
    static const struct {
        const char *schema, *yes, *no;
    } rows[] = {
        {"{\"type\":\"array\",\"maxItems\":2147483647}", "[1,2]", "{}"},
        {"{\"type\":\"array\",\"maxItems\":1e30}", "[1,2]", "{}"},
        {"{\"type\":\"object\",\"maxProperties\":1000000000}", "{\"a\":1}", "[]"},
        {"{\"type\":\"string\",\"maxLength\":2147483647}", "\"a\"", "1"},
        {"{\"type\":\"string\",\"maxLength\":9007199254740991,\"minLength\":1}", "\"a\"", "\"\""},
        {"{\"type\":\"array\",\"contains\":{\"const\":1},\"maxContains\":4294967295}", "[1,2]", "[2]"},
        {"{\"type\":\"array\",\"items\":{\"const\":1},\"maxItems\":1048575}", "[1,1]", "[2]"},
        {"{\"type\":\"string\",\"format\":\"email\",\"maxLength\":254}", "\"a@b.org\"", "\"a\""},
        {"{\"pattern\":\"^[A-Za-z0-9+/]*={0,2}$\",\"maxLength\":32768}", "\"QQ==\"", "\"=Q\""},
        {"{\"$schema\":\"http://json-schema.org/draft-04/schema#\",\"const\":1}", "1", "2"},
        {"{\"$schema\":\"https://json-schema.org/draft-03/schema\",\"const\":1}", "1", "2"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        SchemaRun run;
        TEST_CASE_LABEL("%s", rows[i].schema);
        if (!CHECK(schema_run_compile(&run, str_from_c(rows[i].schema), &exact))) continue;
        CHECK(schema_run_takes(&run, str_from_c(rows[i].yes)));
        CHECK(!schema_run_takes(&run, str_from_c(rows[i].no)));
    }
}

TEST(schema_is_refused_with_a_pointer) {
    for (size_t i = 0; i < COUNT_OF(refused); i++) {
        SchemaRun run;
        TEST_CASE_LABEL("%s", refused[i].schema);
        CHECK(!schema_run_compile(&run, str_from_c(refused[i].schema), &exact));
        CHECK_STR_EQ(refused[i].message, run.err.message);
    }
}

// ---- numbers ----

static Arena keep;

static LangMaker test_maker(void) {
    keep = os_arena(256u << 20);
    return (LangMaker){.keep = &keep, .scratch = os_arena(64u << 20), .work_max = 1u << 30};
}

static Decimal decimal_of(const char *text) {
    static Arena arena;
    Error err = {0};
    if (!arena.next) arena = os_arena(16 << 20);
    return decimal_from_json(json_parse(str_from_c(text), &arena, &(JsonLimits){0}, &err));
}

TEST(schema_bounds_are_those_of_the_values) {
    static const char *const bounds[] = {"0",    "1",     "-1",  "9",    "10",     "-10", "99.5",
                                         "0.05", "-0.05", "100", "1.25", "-12.05", "3"};
    static const char *const values[] = {
        "0",     "-0",   "0.0",   "0.04",  "0.05",   "0.050",  "0.0501", "-0.05",  "-0.06",   "1",    "1.0",
        "1.2",   "1.25", "1.250", "1.251", "1.3",    "2",      "3",      "3.0",    "9",       "9.99", "10",
        "10.0",  "11",   "-1",    "-9",    "-10",    "-10.5",  "-11",    "-12.05", "-12.051", "-12",  "99.5",
        "99.49", "99.6", "99",    "100",   "100.00", "100.01", "101",    "1000",   "-1000"};
    LangMaker m = test_maker();
    Error err = {0};
    for (size_t b = 0; b < COUNT_OF(bounds); b++) {
        Decimal bound = decimal_of(bounds[b]);
        for (int relations = 1; relations < 8; relations++) {
            Lang lang;
            REQUIRE(number_lang_compare(&m, &bound, relations, &lang, &err));
            CHECK(!lang_accepts(&lang, STR("01")) && !lang_accepts(&lang, STR("1.")) &&
                  !lang_accepts(&lang, STR("-")));
            CHECK(!lang_accepts(&lang, STR("00")) && !lang_accepts(&lang, STR(".5")) &&
                  !lang_accepts(&lang, STR("")));
            for (size_t v = 0; v < COUNT_OF(values); v++) {
                double value = strtod(values[v], NULL), limit = strtod(bounds[b], NULL);
                int relation = value < limit ? NUMBER_LESS : value > limit ? NUMBER_GREATER : NUMBER_EQUAL;
                TEST_CASE_LABEL("%s against %s, relations %d", values[v], bounds[b], relations);
                CHECK(lang_accepts(&lang, str_from_c(values[v])) == ((relation & relations) != 0));
            }
        }
    }
}

TEST(schema_multiples_are_those_of_the_values) {
    static const struct {
        const char *step;
        long thousandths;
    } steps[] = {{"1", 1000},   {"2", 2000},   {"7", 7000},   {"0.01", 10},
                 {"0.25", 250}, {"1.5", 1500}, {"30", 30000}, {"0.003", 3}};
    LangMaker m = test_maker();
    Error err = {0};
    for (size_t i = 0; i < COUNT_OF(steps); i++) {
        Lang lang;
        Decimal step = decimal_of(steps[i].step);
        REQUIRE(number_lang_multiple(&m, &step, &lang, &err));
        for (uint32_t n = 0; n < 3000; n++) {
            // Thousandths, with as many zeros behind as there is room for.
            char text[32];
            long value = (long)(rng_philox(3, n).word[0] % 100000);
            if (n % 3 == 0) value -= value % steps[i].thousandths;
            snprintf(text, sizeof text, "%s%ld.%03ld%s", n % 2 ? "-" : "", value / 1000, value % 1000,
                     n % 5 ? "" : "00");
            TEST_CASE_LABEL("%s of %s", text, steps[i].step);
            CHECK(lang_accepts(&lang, str_from_c(text)) == (value % steps[i].thousandths == 0));
            if (value % 1000 == 0) text[strlen(text) - (n % 5 ? 4 : 6)] = 0;
            CHECK(lang_accepts(&lang, str_from_c(text)) == (value % steps[i].thousandths == 0));
        }
    }
}

// ---- bombs ----

static void put_fan_out(StrBuf *b) {
    strbuf_printf(b, "{\"$ref\":\"#/$defs/d0\",\"$defs\":{\"d60\":{}");
    for (int i = 0; i < 60; i++)
        strbuf_printf(b, ",\"d%d\":{\"allOf\":[{\"$ref\":\"#/$defs/d%d\"},{\"$ref\":\"#/$defs/d%d\"}]}", i,
                      i + 1, i + 1);
    strbuf_printf(b, "}}");
}

static void put_products(StrBuf *b) {
    strbuf_printf(b, "{\"allOf\":[{}");
    for (int i = 0; i < 30; i++)
        strbuf_printf(b, ",{\"anyOf\":[{\"required\":[\"a%d\"]},{\"required\":[\"b%d\"]}]}", i, i);
    strbuf_printf(b, "]}");
}

static void put_large_enum(StrBuf *b) {
    strbuf_printf(b, "{\"enum\":[0");
    for (int i = 0; i < 200000; i++)
        strbuf_printf(b, ",\"%08x\"", rng_philox(1, (uint64_t)i).word[0]);
    strbuf_printf(b, "]}");
}

static void put_many_names(StrBuf *b) {
    strbuf_printf(b, "{\"properties\":{\"a\":{}");
    for (int i = 0; i < 100000; i++)
        strbuf_printf(b, ",\"a%d\":{}", i);
    strbuf_printf(b, "}}");
}

static void put_patterns(StrBuf *b) {
    strbuf_printf(b, "{\"patternProperties\":{\"a\":{}");
    for (int i = 0; i < 40; i++)
        strbuf_printf(b, ",\"x.{%d}y\":{\"const\":%d}", i, i);
    strbuf_printf(b, "}}");
}

static void put_growing(StrBuf *b) {
    // Each step down adds a schema to what the value has to meet.
    strbuf_printf(b, "{\"$defs\":{");
    for (int i = 0; i < 40; i++)
        strbuf_printf(b,
                      "\"d%d\":{\"properties\":{\"a\":{\"allOf\":[{\"$ref\":\"#/$defs/d%d\"},{\"$ref\":\"#/"
                      "$defs/d%d\"}]},\"b\":{\"$ref\":\"#/$defs/d%d\"}}},",
                      i, (i * 7 + 1) % 40, (i * 3 + 2) % 40, (i * 5 + 3) % 40);
    strbuf_printf(b, "\"x\":{}},\"$ref\":\"#/$defs/d0\"}");
}

static void put_exponential_pattern(StrBuf *b) {
    strbuf_printf(b, "{\"pattern\":\"^(a|b)*a(a|b){40}$\"}");
}

static void put_nested_not(StrBuf *b) {
    for (int i = 0; i < 20; i++)
        strbuf_printf(b, "{\"not\":{\"anyOf\":[{\"required\":[\"a%d\"]},", i);
    strbuf_printf(b, "{}");
    for (int i = 0; i < 20; i++)
        strbuf_printf(b, "]}}");
}

TEST_SLOW(schema_bombs_end_soon, 60) {
    static const struct {
        const char *name;
        void (*put)(StrBuf *b);
        bool compiles;
        uint32_t limit_ms;
    } bombs[] = {{"60 levels of two references", put_fan_out, true, 500},
                 {"2^30 products", put_products, false, 2000},
                 {"200,000 values", put_large_enum, false, 3000},
                 {"100,000 names", put_many_names, false, 1000},
                 {"2^40 sets of patterns", put_patterns, false, 8000},
                 {"growing demands", put_growing, true, 4000},
                 {"2^40 states", put_exponential_pattern, false, 4000},
                 {"nested not", put_nested_not, true, 500}};
    Arena arena = os_arena(64 << 20);
    for (size_t i = 0; i < COUNT_OF(bombs); i++) {
        Arena scratch = arena;
        StrBuf b = strbuf_begin_in_arena(&scratch);
        SchemaRun run;
        bombs[i].put(&b);
        TEST_CASE_LABEL("%s", bombs[i].name);
        REQUIRE(!b.truncated);
        uint64_t start = os_monotonic_ns();
        bool compiles = schema_run_compile(&run, strbuf_str(&b), &exact);
        uint64_t took_ms = (os_monotonic_ns() - start) / 1000000;
        printf("%-32s %6llu ms  %s\n", bombs[i].name, (unsigned long long)took_ms,
               compiles ? "" : run.err.message);
        CHECK(compiles == bombs[i].compiles);
        CHECK(compiles || run.err.message[0] == '#' || run.err.code == ERR_INVALID_REQUEST);
        CHECK_SOON(bombs[i].limit_ms, took_ms);
    }
}

static bool is_over_at_once(const void *context) {
    (void)context;
    return true;
}

// Who waits for it no more ends it, wherever it is; nobody is asked before LANG_ASK_STEPS.
TEST(schema_compiling_ends_when_nobody_waits) {
    static const LangStop stop = {is_over_at_once, NULL};
    SchemaRun run;
    CHECK(schema_run_compile(&run, STR("{\"type\":\"string\"}"), &(SchemaOptions){.stop = &stop}));
    CHECK(!schema_run_compile(&run, STR("{\"pattern\":\"^[ab]*a[ab]{16}$\"}"),
                              &(SchemaOptions){.stop = &stop}));
    CHECK_INT_EQ(ERR_CANCELLED, run.err.code);
}

TEST(schema_fails_cleanly_with_any_allocation) {
    static const char schema[] =
        "{\"type\":\"object\",\"properties\":{\"a\":{\"$ref\":\"#/$defs/"
        "x\"},\"b\":{\"enum\":[1,\"z\",[null]]},"
        "\"c\":{\"type\":\"array\",\"items\":{\"enum\":[\"p\",2.5]},\"uniqueItems\":true}},"
        "\"patternProperties\":"
        "{\"^x\":{\"maxLength\":300}},\"unevaluatedProperties\":false,\"anyOf\":[{\"required\":[\"a\"]},"
        "{\"required\":[\"b\"]}],\"not\":{\"properties\":{\"b\":{\"const\":1}},\"required\":[\"b\"]},\"$"
        "defs\":{\"x\":"
        "{\"type\":[\"number\",\"string\"],\"minimum\":0.5,\"pattern\":\"^(?!a)b\",\"format\":\"date\"}}}";
    Arena document = os_arena(1 << 20),
          memory[3] = {os_arena(16 << 20), os_arena(16 << 20), os_arena(64 << 20)};
    Error err = {0};
    const JsonNode *root = json_parse(str_from_c(schema), &document, &(JsonLimits){0}, &err);
    REQUIRE(root);
    bool ended = false;
    // Each of the first hundred, then fewer and fewer.
    for (uint64_t n = 0; !ended; n += 1 + n / 100) {
        uint64_t left = n;
        Arena nodes = memory[0], kept = memory[1], scratch = memory[2];
        nodes.fail_countdown = kept.fail_countdown = scratch.fail_countdown = &left;
        GrammarNode node;
        err = (Error){0};
        GrammarBuilder *b = grammar_builder_new(&nodes);
        ended = b && schema_add(b, root, &exact, &kept, scratch, &node, &err) && grammar_builder_ok(b);
        CHECK(ended || !b || err.code == ERR_NO_MEMORY || err.code == ERR_TOO_LARGE ||
              !grammar_builder_ok(b));
    }
    CHECK(ended);
}
