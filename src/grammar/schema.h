// JSON Schema to grammars: the texts that a schema allows, as nodes of a grammar.
//
//     SchemaOptions options = {.blanks = SCHEMA_BLANKS_FEW};
//     if (!schema_add(builder, root, &options, &arena, scratch, &node, &err)) … refused …
//
// Draft 2020-12, with the older spellings definitions, dependencies and arrays in `items`. What is built
// takes exactly the valid documents, within what the options say; what cannot be built is refused with the
// keyword's name and a JSON pointer to it, never left out. src/grammar/README.md has the list.
//
// What is a choice here:
// - Numbers. 1.0 is an integer, as the specification says; `plain_numbers` is about what is written.
//   Exponents stand only where any number may: bounds and steps are no regular languages with them.
// - Names. Members that the schema names come at most once; others may be repeated. Where a repeated name
//   could break minProperties, the schema is refused.
// - Text is Unicode: halves of surrogate pairs alone are never taken.
// - Spelling. Every value can be written, but not in each of its spellings: a model that may write any
//   character of a name as \u0063 gets lost there. Names, and strings of which the schema says more than the
//   length (enum, const, pattern, format), are written in one way, each character as itself where JSON allows
//   that, else with the short escape, else as \u00xx. Strings that are free otherwise have all spellings.
#pragma once

#include "grammar/grammar.h"
#include "grammar/lang.h"
#include "json/json_reader.h"

// Between the tokens of a document.
typedef enum {
    // None before ":" and ",", at most one blank behind ":". Inside of brackets and behind "," one blank, or
    // a line break and up to 64 blanks or 16 tabs behind it.
    SCHEMA_BLANKS_FEW,
    SCHEMA_BLANKS_NONE,
    SCHEMA_BLANKS_ANY,     // as many as anyone likes: a model may never end them
    SCHEMA_BLANKS_PATTERN, // `blank_pattern` at all of these places
} SchemaBlanks;

// How the arguments of a call are written. Names that cannot be written so are refused where the schema lists
// them, and left out where it does not.
typedef enum {
    ARGUMENTS_JSON,
    ARGUMENTS_PYTHON, // (name="text", list=[1, True, None], object={"a": 1})
    ARGUMENTS_BRACED, // {name:<|"|>text<|"|>,list:[1,true,null],object:{a:1}}
    ARGUMENTS_MARKED, // each argument between marks: strings as they are, all else as JSON
} ArgumentsForm;

// As what the reader of answers takes the text of an argument, of ARGUMENTS_MARKED.
typedef struct {
    bool as_string;  // text is a string …
    Str not_strings; // … unless it matches this pattern (all of it); empty: always
    bool as_json;    // texts of JSON are what they are in JSON
    bool as_quoted;  // strings, too
} ArgumentReading;

typedef struct {
    ArgumentsForm form;
    Str raw_end; // text that ends a string which stands as it is; empty: a token ends it
    // ARGUMENTS_BRACED: in front of a string and behind it.
    GrammarNode quote;
    // ARGUMENTS_MARKED: key_open NAME key_close value_open VALUE value_close. Behind the name of a string
    // it is string_key_close, which may be the same.
    GrammarNode key_open, key_close, string_key_close, value_open, value_close;
    void (*read)(void *context, const Str *name, ArgumentReading *out); // NULL: a name that is not listed
    void *context;
} SchemaArguments;

typedef struct {
    SchemaBlanks blanks;
    Str blank_pattern; // SCHEMA_BLANKS_PATTERN: texts of white space, as in schema_check_blanks
    Str subject; // what messages of grammar_compile say the schema is, before its pointers; may be empty
    bool schema_order;   // named members come as the schema lists them, others behind them; else in any order
    bool ignore_formats; // `format` is an annotation
    bool plain_numbers;  // where only integers and finitely many others may stand, no zeros behind a point
    uint64_t work_max;   // steps; 0: SCHEMA_WORK_MAX
    const LangStop *stop;             // NULL, or whether it is wanted no more
    const SchemaArguments *arguments; // NULL: a JSON text. Else an object, written so
} SchemaOptions;

enum {
    SCHEMA_WORK_MAX = 100 * 1000 * 1000, // steps: about a second
    SCHEMA_DEMANDS_MAX = 1 << 15,        // different sets of schemas that one value has to meet
    SCHEMA_CASES_MAX = 512,              // alternatives of one object or array, after allOf is multiplied out
    SCHEMA_GROUPS_MAX = 256,             // of names that a schema does not list, by the patterns they match
    SCHEMA_MEMBERS_MAX = 1000,           // names of one object
    SCHEMA_PLACES_MAX = 4096,            // items of one array that have a schema of their own
    SCHEMA_BLANK_PATTERN_BYTES_MAX = 256,
    SCHEMA_ARGUMENT_NAME_BYTES_MAX =
        160, // of arguments that are not JSON; 64 characters where it is not listed
};

// Automata live in `arena`, as long as the compiled grammar; the document may go. Of `scratch` one half holds
// what is kept until the end. 4 MiB of each do for usual tools, 64 MiB for large lists and patterns. Errors:
// ERR_INVALID_REQUEST (not a schema, or refused), ERR_TOO_LARGE, ERR_NO_MEMORY, ERR_CANCELLED (`stop`).
// Every message begins with the JSON pointer that it is about. A schema that nothing satisfies is found by
// grammar_compile: its nodes have JSON pointers as names.
MUST_CHECK bool schema_add(GrammarBuilder *b, const JsonNode *root, const SchemaOptions *options,
                           Arena *arena, Arena scratch, GrammarNode *out, Error *err);
// Whether the pattern (all of a text) matches white space of JSON alone, and any text at all. Errors:
// ERR_INVALID_REQUEST, ERR_TOO_LARGE, ERR_NO_MEMORY.
MUST_CHECK bool schema_check_blanks(Str pattern, Arena scratch, Error *err);
