// Between the parts of the reader of schemas.
//
// Everything is made of literals: "the value meets this schema", or "… does not". What one value has to meet
// is a set of them, a demand. Demands are interned, so a schema that refers to itself leads back to a demand
// that is known. A demand's scalars (null, booleans, numbers, strings) are a set, and such sets are closed
// under and, or, not. Its objects and arrays are cases: alternatives, each a list of facts about members and
// items, whose values are demands again.
#pragma once

#include "grammar/lang_internal.h"
#include "grammar/number_lang.h"
#include "grammar/schema.h"

// ---- sets of scalars ----

enum { SCALAR_NULL = 1, SCALAR_FALSE = 2, SCALAR_TRUE = 4, SCALAR_EXPONENTS = 8, SCALAR_BOOLS = 6 };

typedef struct {
    uint8_t bits;        // SCALAR_…; _EXPONENTS: numbers may have them
    const Lang *numbers; // spellings without exponents; NULL: none
    const Lang *strings; // NULL: none
    uint32_t most;       // 0, or the strings have at most so many characters besides: for long bounds
} ScalarSet;

// ---- objects and arrays ----

typedef enum {
    FACT_HAS,   // a member `key`
    FACT_LACKS, // no member `key`
    FACT_NEEDS, // a member `needed` where there is a member `key`
    FACT_EACH, // every member whose name is `key`, or in `names`, meets `literal`; of arrays, every item from
               // place `from` to before `to`
    FACT_SOME, // of the items from `from` on, min to max meet `literal`; of objects, at least one such member
} FactKind;

// Facts are lists that share their ends; none is changed once made.
typedef struct Fact {
    const struct Fact *rest;
    uint8_t kind;  // FactKind
    bool is_named; // FACT_EACH of one name
    uint32_t literal;
    uint32_t from, to; // FACT_EACH, FACT_SOME of items
    uint32_t min, max; // FACT_SOME
    Str key, needed;
    const Lang *names;
    const JsonNode *source; // the keyword, for messages
} Fact;

typedef struct {
    const Fact *facts; // the newest first
    uint32_t min, max; // members or items
    bool unique;
    const JsonNode *unique_source;
    // What unevaluatedProperties and unevaluatedItems do not speak of: names, places before seen_items, and
    // items that meet one of the literals.
    const Lang *seen_names;
    uint32_t seen_items;
    const Fact *seen_matches;
} Case;

// A disjunction of cases. Never changed once made.
typedef struct {
    const Case *cases;
    uint32_t count;
} Cases;

typedef enum { KIND_OBJECT, KIND_ARRAY } CaseKind;

// ---- literals and demands ----

typedef enum { LITERAL_SCHEMA, LITERAL_VALUE, LITERAL_ANY_OF } LiteralKind;

// A literal's number is twice an index into the table of these, plus 1 where it is negated.
typedef struct {
    LiteralKind kind;
    const JsonNode *node;   // the schema, or the value
    const uint32_t *any_of; // [n_any_of] literals
    uint32_t n_any_of;
    bool has_scalars, scalars_busy;
    ScalarSet scalars;                      // of the literal that is not negated
    bool has_cases[2][2], cases_busy[2][2]; // [CaseKind][negated]
    Cases cases[2][2];
} Literal;

#define LITERAL_TRUE 0u
#define LITERAL_FALSE 1u

typedef struct {
    const uint32_t *literals; // [count] ascending
    uint32_t count;
    bool has_node;
    GrammarNode node;
} Demand;

// ---- the reader ----

// A schema with an $id, an $anchor or a $dynamicAnchor.
typedef struct {
    Str uri; // absolute, without fragment; empty for a document without $id
    Str anchor;
    bool is_anchor, is_dynamic;
    const JsonNode *node;
} SchemaName;

// Free text of min to max characters; node 0: none.
typedef struct {
    uint32_t min, max;
    GrammarNode node;
} KnownLength;

typedef struct {
    GrammarBuilder *builder;
    const JsonNode *root;
    const SchemaOptions *options;
    LangMaker maker; // its `keep` is `memory`
    Arena memory;    // languages, facts, tables: scratch
    Arena *arena;    // automata
    Error *err;
    // [root->span] the index in `bases` of the resource that a schema belongs to, plus 1
    uint32_t *base_of;
    Str *bases;
    uint32_t n_bases, bases_cap;
    SchemaName *names;
    uint32_t n_names, names_cap;
    Literal *literals;
    uint32_t n_literals, literals_cap;
    LangPairs literal_of; // schema nodes; values come after them: 2 * index + is_value
    Demand *demands;
    uint32_t n_demands, demands_cap;
    LangPairs demand_of; // by hash
    Lang all_strings, all_numbers, exponents, integers, shortest;
    bool tracks;    // unevaluatedProperties or unevaluatedItems occur
    uint32_t depth; // of recursion
    // Which schema has taken the most work by itself, and what those within the present one have taken.
    const JsonNode *dearest;
    uint64_t dearest_work, work_within;
    GrammarNode open[2], close[2], colon, comma; // by CaseKind
    GrammarNode open_arguments, close_arguments; // of ARGUMENTS_PYTHON
    GrammarNode around;                          // SCHEMA_BLANKS_ANY: white space around the document
    KnownLength lengths[64];                     // of strings that were made, at a place that the bounds say
    GrammarNode any_string, any_number, integer; // 0 until they are used, as
    GrammarNode chunk, short_rest;               // those of long strings
} SchemaReader;

enum { SCHEMA_RECURSION_MAX = 400, SCHEMA_UNBOUNDED = UINT32_MAX };

// ---- schema_refs.c ----

// Messages begin with the JSON pointer of `at`.
bool schema_refuse(const SchemaReader *r, const JsonNode *at, ErrCode code, const char *format, ...)
    PRINTF_LIKE(4, 5);
// "#/minLength: not a non-negative integer, found -1". Always false.
bool schema_refuse_found(const SchemaReader *r, const JsonNode *value, const char *message);
// Puts the pointer before the message that is there. What is not invalid is too large.
bool schema_place(const SchemaReader *r, const JsonNode *at);
// … of the schema `at` (or NULL) within which it came, unless it has a pointer already.
bool schema_place_within(const SchemaReader *r, const JsonNode *at);
bool schema_no_memory(const SchemaReader *r);
// What grammar_compile calls the node of a schema: the subject, the pointer (as "#/properties/a", cut in the
// middle where it is long) and the schema's keywords. In the reader's memory.
Str schema_title(SchemaReader *r, const JsonNode *at);

// Finds what is a schema, its names and bases; checks the types of keywords' values. Fails where $schema
// names another language.
MUST_CHECK bool schema_index(SchemaReader *r);
// The schema that a $ref (or $dynamicRef) of `schema` leads to; `ref` is the keyword's value.
MUST_CHECK bool schema_resolve(SchemaReader *r, const JsonNode *schema, const JsonNode *ref, bool is_dynamic,
                               const JsonNode **out);

// ---- schema_literals.c ----

MUST_CHECK bool schema_literal(SchemaReader *r, LiteralKind kind, const JsonNode *node, uint32_t *out);
MUST_CHECK bool schema_any_of(SchemaReader *r, const uint32_t *literals, uint32_t count, uint32_t *out);
// Sorts the literals, drops equal ones and LITERAL_TRUE. With LITERAL_FALSE it is just that.
MUST_CHECK bool schema_demand(SchemaReader *r, const uint32_t *literals, uint32_t count, uint32_t *out);
bool schema_enter(SchemaReader *r, const JsonNode *at); // counts recursion; r->depth-- behind it

// ---- schema_keywords.c ----

// Counts above this are more than any answer reaches: no maximum at all, and refused as a minimum.
enum { SCHEMA_COUNT_MAX = GRAMMAR_COUNT_MAX - 1 };

// The value of a keyword that has to be a count; *out is left alone without one, or without a bound.
MUST_CHECK bool schema_read_min(SchemaReader *r, const JsonNode *schema, Str keyword, uint32_t *out);
MUST_CHECK bool schema_read_max(SchemaReader *r, const JsonNode *schema, Str keyword, uint32_t *out);
// Which types a schema allows; all where it does not say.
enum {
    SCHEMA_NULL = 1,
    SCHEMA_BOOLEAN = 2,
    SCHEMA_NUMBER = 4,
    SCHEMA_INTEGER = 8,
    SCHEMA_STRING = 16,
    SCHEMA_ARRAY = 32,
    SCHEMA_OBJECT = 64,
    SCHEMA_ANY = 127,
};
MUST_CHECK bool schema_read_types(SchemaReader *r, const JsonNode *schema, uint32_t *types);
// Which schemas the value of a keyword holds: none, itself, all its items, all its members, all but lists of
// names.
typedef enum { HOLDS_NONE, HOLDS_SCHEMA, HOLDS_LIST, HOLDS_MAP, HOLDS_MAP_OR_NAMES } SchemaHolds;
// Whether the value is of the type that its keyword asks for; what is held is not looked at.
MUST_CHECK bool schema_check_keyword(SchemaReader *r, Str name, const JsonNode *value, SchemaHolds *holds);
// The language of a pattern, searched; messages are placed at `node`, a string.
MUST_CHECK bool schema_read_pattern(SchemaReader *r, const JsonNode *node, Str pattern, bool searched,
                                    const Lang **out);

// ---- schema_scalars.c ----

MUST_CHECK bool schema_scalars(SchemaReader *r, uint32_t literal, ScalarSet *out);
// Makes `strings` all that the set says of them, which may be too large: then `most` is 0.
MUST_CHECK bool schema_settle(SchemaReader *r, ScalarSet *set);
// Strings of a set, whose `most` may be given.
MUST_CHECK bool schema_emit_strings(SchemaReader *r, const ScalarSet *set, GrammarNode *out);
MUST_CHECK bool schema_demand_scalars(SchemaReader *r, const uint32_t *literals, uint32_t count,
                                      ScalarSet *out);
MUST_CHECK bool schema_combine_names(SchemaReader *r, LangOp op, const Lang *a, const Lang *b,
                                     const Lang **out);

// ---- schema_cases.c, schema_objects.c, schema_arrays.c ----

MUST_CHECK bool schema_cases(SchemaReader *r, CaseKind kind, uint32_t literal, Cases *out);
MUST_CHECK bool schema_demand_cases(SchemaReader *r, CaseKind kind, const uint32_t *literals, uint32_t count,
                                    Cases *out);
// Whether nothing meets the demand, as far as that is seen at once: false is no proof.
MUST_CHECK bool schema_is_never(SchemaReader *r, const uint32_t *literals, uint32_t count, bool *out);

// Whether a member that has to be there cannot be, as far as that is seen at once.
MUST_CHECK bool schema_case_is_never(SchemaReader *r, const Case *c, bool *out);
// schema_some.c. The names of a set that the case does not forbid; NULL: none.
MUST_CHECK bool schema_names_left(SchemaReader *r, const Case *c, const Lang *names, const Lang **out);
// Objects that must have some member of a set (FACT_SOME) become several, each with one of the
// names, where these are listed; other such facts stay.
MUST_CHECK bool schema_spell_out_some(SchemaReader *r, Cases *cases);

// What the parts of a schema are made into: each adds its facts to `cases`.
MUST_CHECK bool schema_and(SchemaReader *r, CaseKind kind, const JsonNode *at, Cases a, Cases b, Cases *out);
MUST_CHECK bool schema_or(SchemaReader *r, const JsonNode *at, Cases a, Cases b, Cases *out);
// One case of one fact, and one case without any.
MUST_CHECK bool schema_fact(SchemaReader *r, Fact fact, Cases *out);
extern const Cases schema_no_cases, schema_any_case;

MUST_CHECK bool schema_object_keywords(SchemaReader *r, const JsonNode *schema, Cases *out);
MUST_CHECK bool schema_object_negated(SchemaReader *r, const JsonNode *schema, Cases *out);
MUST_CHECK bool schema_array_keywords(SchemaReader *r, const JsonNode *schema, Cases *out);
MUST_CHECK bool schema_array_negated(SchemaReader *r, const JsonNode *schema, Cases *out);
MUST_CHECK bool schema_unevaluated(SchemaReader *r, CaseKind kind, const JsonNode *schema, Cases *cases);

// ---- schema_strings.c ----

// A leaf; GRAMMAR_NEVER where *ok is false. A name is a string with its quotes.
GrammarNode schema_add_leaf(SchemaReader *r, const Lang *lang, LangSpelling spelling, Str before, Str after,
                            bool *ok);
GrammarNode schema_add_name(SchemaReader *r, const Lang *lang, bool *ok);
MUST_CHECK bool schema_emit_string(SchemaReader *r, const Lang *strings, GrammarNode *out);

// ---- schema_arguments.c ----

static inline ArgumentsForm schema_form(const SchemaReader *r) {
    return r->options->arguments ? r->options->arguments->form : ARGUMENTS_JSON;
}
// Whether an object's name can be written; `is_argument`: the object is that of the arguments.
bool schema_can_name(const SchemaReader *r, Str name, bool is_argument);
// The leaf of names. `is_listed`: of one that can be written; else those that cannot are left out.
GrammarNode schema_add_names(SchemaReader *r, const Lang *names, bool is_argument, bool is_listed, bool *ok);
// SCALAR_NULL, _FALSE, _TRUE: a leaf. `once`: in one spelling.
GrammarNode schema_add_word(SchemaReader *r, uint8_t bit, bool once);
MUST_CHECK bool schema_emit_braced_string(SchemaReader *r, const Lang *strings, GrammarNode *out);
// ARGUMENTS_MARKED: an argument with its marks. `key` NULL: `name` stands for names that are not listed.
MUST_CHECK bool schema_emit_marked(SchemaReader *r, const Str *key, GrammarNode name, uint32_t demand,
                                   GrammarNode *out);
// The arguments of members whose values are such arguments; keys and punctuation are not used.
MUST_CHECK bool schema_add_marked_members(SchemaReader *r, const GrammarMembers *m, const JsonNode *at,
                                          GrammarNode *out);

// ---- schema_unique.c ----

// An array whose items are all different.
MUST_CHECK bool schema_emit_unique(SchemaReader *r, const Case *c, GrammarNode *out);

// ---- schema_emit.c ----

// The first place of an array from which on all have the same schema.
uint32_t schema_count_places(const Case *c);

MUST_CHECK bool schema_emit(SchemaReader *r, uint32_t demand, GrammarNode *out);
// The same without strings.
MUST_CHECK bool schema_emit_others(SchemaReader *r, uint32_t demand, GrammarNode *out);
// The object of the arguments that a call has.
MUST_CHECK bool schema_emit_arguments(SchemaReader *r, uint32_t demand, GrammarNode *out);
