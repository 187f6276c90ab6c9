// What an answer has to be, as requests of all APIs say it: a JSON object, a document of a schema, a text of
// a pattern, of a list or of a grammar, or calls of tools. Fields are read where others are (any thread); the
// grammar is made on the encoder thread.
//
// At most one of them holds. A schema's keys come in its own order; between the tokens of a document there is
// little white space (SCHEMA_BLANKS_FEW), so that a model cannot write it for ever, unless the request has a
// pattern for it. Integers are digits alone. Errors are ERR_INVALID_REQUEST; err->field has the field's
// name, and the message also has the JSON pointer within a schema, or the line of a grammar.
#pragma once

#include "chat/answer_grammar.h"
#include "grammar/schema.h"
#include "jobs/bridge.h"

enum {
    STRUCTURED_FIELDS = 11,          // that the OpenAI and Anthropic routes share
    STRUCTURED_BYTES_MAX = 32 << 20, // of one compiled grammar
    STRUCTURED_CHOICES_MAX = 4096,
    STRUCTURED_TOOLS_BYTES_MAX = 8 << 20, // of the tools of a request that is held to calls, as JSON's nodes
    STRUCTURED_SCRATCH_BYTES = 320 << 20, // what compiling may use; most is never touched
    // What it may use where others wait behind it: ten times what usual schemas take, some 10 ms.
    STRUCTURED_QUICK_WORK = 500 * 1000,
    STRUCTURED_QUICK_BYTES = 32 << 20,
};

typedef enum {
    STRUCTURED_NONE, // any text
    STRUCTURED_OBJECT,
    STRUCTURED_SCHEMA,  // `node`, or where that is a string, the schema as text
    STRUCTURED_REGEX,   // `node` is a string: the whole answer matches
    STRUCTURED_CHOICE,  // `node` is an array of strings
    STRUCTURED_GRAMMAR, // `node` is a string: GBNF where "::=" is in it, else Lark
    STRUCTURED_CALLS,   // of tools, or where `calls` says so, text with such calls in it
} StructuredKind;

typedef struct {
    StructuredKind kind;
    const char *field; // that says so
    const JsonNode *node;
    bool no_blanks; // between the tokens of a document
    const char *blank_field;
    Str blank_pattern; // … or which; empty: SCHEMA_BLANKS_FEW
    HeldCalls calls;
} StructuredAnswer;

// The rows of the shared fields, in their order; `nodes` is an array of STRUCTURED_FIELDS.
#define STRUCTURED_RULE(name, Type, nodes, i) \
    { name, FIELD_NODE, .offset = offsetof(Type, nodes) + (i) * sizeof(const JsonNode *) }
#define STRUCTURED_RULES(Type, nodes)                                                                        \
    STRUCTURED_RULE("response_format", Type, nodes, 0),                                                      \
        STRUCTURED_RULE("structured_outputs", Type, nodes, 1),                                               \
        STRUCTURED_RULE("guided_json", Type, nodes, 2), STRUCTURED_RULE("guided_regex", Type, nodes, 3),     \
        STRUCTURED_RULE("guided_choice", Type, nodes, 4), STRUCTURED_RULE("guided_grammar", Type, nodes, 5), \
        STRUCTURED_RULE("grammar", Type, nodes, 6), STRUCTURED_RULE("json_schema", Type, nodes, 7),          \
        STRUCTURED_RULE("regex", Type, nodes, 8), STRUCTURED_RULE("ebnf", Type, nodes, 9),                   \
        STRUCTURED_RULE("guided_whitespace_pattern", Type, nodes, 10)

// Each adds what its field says to *out, and refuses a second one. Absent and null fields say nothing; empty
// ones are refused, but for an empty "grammar".
MUST_CHECK bool structured_read(const JsonNode *const nodes[STRUCTURED_FIELDS], StructuredAnswer *out,
                                Error *err);
// {"type": "text" | "json_object" | "json_schema", …} as in response_format and text.format.
MUST_CHECK bool structured_read_format(const char *field, const JsonNode *format, StructuredAnswer *out,
                                       Error *err);
MUST_CHECK bool structured_read_one(StructuredKind kind, const char *field, const JsonNode *node,
                                    StructuredAnswer *out, Error *err);

// Compiles what is not STRUCTURED_NONE into the arena, which is as before where that fails. `chat` NULL: the
// grammar is the whole answer; else the answer may reason first. All of `scratch` may be used
// (STRUCTURED_SCRATCH_BYTES), and `work_max` steps (SCHEMA_WORK_MAX), if `stop` does not end it before (an
// error like any). *too_large: it was refused for want of memory or steps; more may do.
MUST_CHECK bool structured_compile(const StructuredAnswer *a, const AnswerGrammar *chat, const Tokenizer *t,
                                   uint64_t work_max, const LangStop *stop, Arena scratch, Arena *arena,
                                   const Grammar **out, bool *too_large, Error *err);
// A digest of all that decides, for one model, what structured_compile makes or says.
void structured_key(const StructuredAnswer *a, const AnswerGrammar *chat, uint8_t key[32]);
