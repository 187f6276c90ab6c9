// For check_schemas.py: compiles schemas, tries texts, and writes random documents.
//
// Each line of standard input is a JSON array: a schema, an array of texts, how many documents are wanted,
// and a seed. The answer is a line: {"refused": "message", "us": n} or {"taken": [true], "documents": ["{}"],
// "us": n}, with the time of compiling in microseconds. A document that has not ended after 20,000 bytes is
// null.
//
// With a tokenizer.json as the argument, texts are taken token by token instead, each looked up in the mask,
// and no documents are drawn.
//
//     cc -O2 -std=c17 -D_GNU_SOURCE -Isrc -Itests/support -o /tmp/sample_schemas
//         tests/tools/sample_schemas.c tests/support/schema_run.c src/grammar/*.c src/text/*.c
//         src/model/gguf*.c src/model/dtype*.c src/json/*.c src/base/*.c src/os/os.c src/os/os_files.c -lm
#include "base/rng.h"
#include "base/strbuf.h"
#include "os/os.h"
#include "schema_run.h"

#include <stdio.h>
#include <stdlib.h>

enum { LINE_BYTES_MAX = 16 << 20, DOCUMENT_BYTES_MAX = 20000 };

typedef struct {
    uint64_t key, draws;
} Dice;

static uint32_t roll(Dice *dice, uint32_t below) {
    return rng_philox(dice->key, dice->draws++).word[0] % below;
}

// A byte that is allowed: one that closes or ends something is taken more often the longer the text is.
static int draw_byte(const uint32_t *mask, Dice *dice, size_t length) {
    static const char closing[] = "\"}]";
    for (const char *c = closing; *c; c++) {
        bool allowed = mask[(uint8_t)*c / 32] >> ((uint8_t)*c % 32) & 1;
        if (allowed && roll(dice, 400) < length + 20) return (uint8_t)*c;
    }
    // Printable bytes first: of the others there are many.
    for (int tries = 0; tries < 600; tries++) {
        uint32_t byte = tries % 8 ? 32 + roll(dice, 95) : roll(dice, 256);
        if (mask[byte / 32] >> (byte % 32) & 1) return (int)byte;
    }
    for (int byte = 0; byte < 256; byte++) {
        if (mask[byte / 32] >> (byte % 32) & 1) return byte;
    }
    return -1;
}

// False where it does not end.
static bool sample(SchemaRun *run, Dice *dice, StrBuf *out) {
    GrammarState state = grammar_start(run->matcher);
    for (;;) {
        if (grammar_may_end(run->matcher, state) && roll(dice, 4)) return true;
        const uint32_t *mask = grammar_mask(run->matcher, state);
        if (!mask && !grammar_keep(run->matcher, (GrammarState *[]){&state}, 1)) return false;
        if (!mask) continue;
        int byte = draw_byte(mask, dice, out->len);
        if (byte < 0) return grammar_may_end(run->matcher, state);
        GrammarState next = grammar_step(run->matcher, state, byte);
        if (next == GRAMMAR_FULL && grammar_keep(run->matcher, (GrammarState *[]){&state}, 1)) continue;
        if (!grammar_is_state(next)) {
            fprintf(stderr, "a byte of the mask was refused\n");
            abort();
        }
        state = next;
        strbuf_put_char(out, (char)byte);
        if (out->truncated || out->len >= DOCUMENT_BYTES_MAX) return false;
    }
}

static const Tokenizer *tokenizer;

static bool load_tokenizer(const char *path) {
    static TokenTrie trie;
    Arena arena = os_arena(2ull << 30), scratch = os_arena(4ull << 30);
    Tokenizer *t;
    Str json;
    Error err = {0};
    bool ok = os_file_read(path, 1u << 30, &arena, &json, &err) &&
              tokenizer_from_json(json, NULL, &arena, scratch, &t, &err) &&
              token_trie_from_tokenizer(t, tokenizer_vocab_size(t), &arena, scratch, &trie, &err);
    if (!ok) fprintf(stderr, "%s\n", err.message);
    tokenizer = t;
    schema_run_set_trie(&trie);
    return ok;
}

static bool takes_tokens(SchemaRun *run, Str text) {
    static Arena arena, scratch;
    TokenIds ids;
    Error err = {0};
    if (!arena.next) arena = os_arena(64 << 20), scratch = os_arena(256 << 20);
    Arena kept = arena;
    if (!tokenizer_encode(tokenizer, text, 0, &kept, scratch, &ids, &err)) abort();
    GrammarState state = grammar_start(run->matcher);
    for (size_t i = 0; i < ids.count; i++) {
        const uint32_t *mask = grammar_mask(run->matcher, state);
        if (!mask || !(mask[ids.ptr[i] / 32] >> (ids.ptr[i] % 32) & 1)) return false;
        state = grammar_step(run->matcher, state, ids.ptr[i]);
        if (!grammar_is_state(state)) abort(); // the mask had it
    }
    return grammar_may_end(run->matcher, state);
}

static bool takes(SchemaRun *run, Str text) {
    return tokenizer ? takes_tokens(run, text) : schema_run_takes(run, text);
}

static void print_text(Str text) {
    static char bytes[6 * DOCUMENT_BYTES_MAX + 1024];
    StrBuf out = STRBUF(bytes);
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = (uint8_t)text.ptr[i];
        if (c == '"' || c == '\\') strbuf_printf(&out, "\\%c", c);
        else if (c < 32) strbuf_printf(&out, "\\u%04x", c);
        else strbuf_put_char(&out, (char)c);
    }
    printf("\"%s\"", bytes);
}

static void answer(const JsonNode *line) {
    static char document[DOCUMENT_BYTES_MAX + 64];
    SchemaOptions options = {.blanks = SCHEMA_BLANKS_FEW};
    const JsonNode *schema = json_first(line), *texts = json_next(schema), *count = json_next(texts);
    uint64_t wanted = 0, seed = 0;
    if (!json_read_u64(count, &wanted) || !json_read_u64(json_next(count), &seed)) abort();
    SchemaRun run;
    uint64_t start = os_monotonic_ns();
    bool compiles = schema_run_compile_node(&run, schema, &options);
    uint64_t us = (os_monotonic_ns() - start) / 1000;
    if (!compiles) {
        printf("{\"refused\":");
        print_text(str_from_c(run.err.message));
        printf(",\"us\":%llu}\n", (unsigned long long)us);
        return;
    }
    printf("{\"taken\":[");
    for (const JsonNode *t = json_first(texts); t != json_end(texts); t = json_next(t))
        printf("%s%s", t == json_first(texts) ? "" : ",",
               takes(&run, (Str){t->as.string, t->length}) ? "true" : "false");
    printf("],\"documents\":[");
    Dice dice = {.key = seed};
    for (uint64_t i = 0; !tokenizer && i < wanted; i++) {
        StrBuf out = STRBUF(document);
        bool ended = sample(&run, &dice, &out);
        printf("%s", i ? "," : "");
        if (ended) print_text(strbuf_str(&out));
        else printf("null");
    }
    printf("],\"us\":%llu}\n", (unsigned long long)us);
}

int main(int argc, char **argv) {
    static char line[LINE_BYTES_MAX];
    Arena arena = os_arena(256u << 20);
    if (argc > 1 && !load_tokenizer(argv[1])) return 1;
    while (fgets(line, sizeof line, stdin)) {
        Arena scratch = arena;
        Error err = {0};
        const JsonNode *root =
            json_parse(str_from_c(line), &scratch, &(JsonLimits){.nodes_max = 1 << 20}, &err);
        if (!root) {
            fprintf(stderr, "%s\n", err.message);
            return 1;
        }
        answer(root);
        fflush(stdout);
    }
    return 0;
}
