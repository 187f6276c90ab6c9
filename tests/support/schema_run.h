// Compiles a schema and tries texts with it, byte by byte, for the tests of schemas.
#pragma once

#include "grammar/grammar_matcher.h"
#include "grammar/schema.h"

typedef struct {
    GrammarMatcher *matcher;
    Error err; // where it is refused
} SchemaRun;

// The vocabulary of later matchers; without it every byte is a token.
void schema_run_set_trie(const TokenTrie *trie);
// False where the schema (a JSON text) is refused. Until the next call.
bool schema_run_compile(SchemaRun *run, Str schema, const SchemaOptions *options);
bool schema_run_compile_node(SchemaRun *run, const JsonNode *schema, const SchemaOptions *options);
// Whether the whole text is taken.
bool schema_run_takes(SchemaRun *run, Str text);
