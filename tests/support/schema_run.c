#include "schema_run.h"

#include "os/os.h"

#include <stdlib.h>

enum { MEMORY_BYTES = 256 << 20, MATCHER_BYTES = 48 << 20 };

static Arena arena_of(int which) {
    static Arena arenas[4];
    if (!arenas[which].next) arenas[which] = os_arena(MEMORY_BYTES);
    return arenas[which];
}

// Every byte is a token.
static const TokenTrie *byte_trie(void) {
    static TokenTrie trie;
    static char bytes[256];
    static Str pieces[257];
    static const int32_t end = 256;
    static Arena arena;
    Error err = {0};
    if (trie.n_tokens) return &trie;
    arena = os_arena(1 << 20);
    for (int i = 0; i < 256; i++) {
        bytes[i] = (char)i;
        pieces[i] = (Str){&bytes[i], 1};
    }
    if (!token_trie_build(pieces, 257, &end, 1, &arena, arena_of(0), &trie, &err)) abort();
    return &trie;
}

static const TokenTrie *chosen_trie;

void schema_run_set_trie(const TokenTrie *trie) {
    chosen_trie = trie;
}

bool schema_run_compile_node(SchemaRun *run, const JsonNode *schema, const SchemaOptions *options) {
    static Arena keep, nodes, memory;
    const TokenTrie *trie = chosen_trie ? chosen_trie : byte_trie();
    GrammarNode root;
    const Grammar *grammar;
    keep = arena_of(1);
    nodes = arena_of(2);
    *run = (SchemaRun){0};
    GrammarBuilder *b = grammar_builder_new(&nodes);
    if (!schema_add(b, schema, options, &keep, arena_of(0), &root, &run->err)) return false;
    if (!grammar_compile(b, root, &keep, arena_of(0), &grammar, &run->err)) return false;
    if (!memory.next) memory = os_arena(MATCHER_BYTES);
    return grammar_matcher_new(grammar, trie, memory, &run->matcher, &run->err);
}

bool schema_run_compile(SchemaRun *run, Str schema, const SchemaOptions *options) {
    static Arena document;
    document = arena_of(3);
    const JsonNode *root = json_parse(schema, &document, &(JsonLimits){.nodes_max = 1 << 20}, &run->err);
    return root && schema_run_compile_node(run, root, options);
}

bool schema_run_takes(SchemaRun *run, Str text) {
    GrammarState state = grammar_step_bytes(run->matcher, grammar_start(run->matcher), text);
    return grammar_is_state(state) && grammar_may_end(run->matcher, state);
}
