#include "grammar/schema.h"

#include "grammar/rx.h"
#include "grammar/schema_internal.h"

#define ANY_BLANKS "[ \\t\\n\\r]*"

// Where white space may stand: before a colon or comma, behind a colon, where a writer may break the line.
typedef enum { PLACE_NONE, PLACE_BEFORE, PLACE_COLON, PLACE_BREAK } BlankPlace;

static Str blank_pattern(const SchemaOptions *o, BlankPlace place) {
    static const char *const few[] = {"", "", " ?", "( |\\n( {0,64}|\\t{0,16}))?"};
    if (place == PLACE_NONE) return STR("");
    switch (o->blanks) {
    case SCHEMA_BLANKS_FEW: return str_from_c(few[place]);
    case SCHEMA_BLANKS_NONE: break;
    case SCHEMA_BLANKS_ANY: return STR(ANY_BLANKS);
    case SCHEMA_BLANKS_PATTERN: return o->blank_pattern;
    }
    return STR("");
}

// The texts of white space that may stand there, for each place.
static bool add_blanks(SchemaReader *r, const Lang *blanks[PLACE_BREAK + 1]) {
    for (BlankPlace place = PLACE_NONE; place <= PLACE_BREAK; place++) {
        if (!schema_read_pattern(r, r->root, blank_pattern(r->options, place), false, &blanks[place]))
            return false;
    }
    return true;
}

// A leaf: a mark with the white space before it and behind it.
static bool add_mark(SchemaReader *r, const Lang *before, const char *mark, const Lang *behind,
                     GrammarNode *out) {
    LangMaker m = r->maker;
    Rx rx = rx_begin(&m.scratch);
    uint32_t root = rx_cat(&rx, rx_literal(&rx, str_from_c(mark)), rx_lang(&rx, behind));
    root = rx_cat(&rx, rx_lang(&rx, before), root);
    Lang lang;
    Dfa *dfa = arena_new(r->arena, Dfa, 1);
    if (!dfa) return schema_no_memory(r);
    bool ok = rx_compile(&rx, root, &m, &lang, r->err);
    m.keep = r->arena;
    ok = ok && dfa_from_lang(&m, &lang, LANG_UTF8, (Str){0}, (Str){0}, dfa, r->err);
    r->maker.work = m.work;
    *out = ok ? grammar_add_dfa(r->builder, dfa) : GRAMMAR_NEVER;
    return ok;
}

static bool add_marks(SchemaReader *r) {
    const Lang *at[PLACE_BREAK + 1];
    if (!add_blanks(r, at)) return false;
    const Lang *none = at[PLACE_NONE], *line = at[PLACE_BREAK];
    return add_mark(r, none, "{", line, &r->open[KIND_OBJECT]) &&
           add_mark(r, line, "}", none, &r->close[KIND_OBJECT]) &&
           add_mark(r, none, "[", line, &r->open[KIND_ARRAY]) &&
           add_mark(r, line, "]", none, &r->close[KIND_ARRAY]) &&
           add_mark(r, at[PLACE_BEFORE], ":", at[PLACE_COLON], &r->colon) &&
           add_mark(r, at[PLACE_BEFORE], ",", line, &r->comma) &&
           (r->options->blanks != SCHEMA_BLANKS_ANY || add_mark(r, line, "", none, &r->around)) &&
           (schema_form(r) != ARGUMENTS_PYTHON || (add_mark(r, none, "(", line, &r->open_arguments) &&
                                                   add_mark(r, line, ")", none, &r->close_arguments)));
}

static bool add_languages(SchemaReader *r) {
    LangMaker *m = &r->maker;
    return lang_length(m, 0, LANG_NONE, &r->all_strings, r->err) &&
           number_lang_all(m, &r->all_numbers, r->err) && number_lang_exponents(m, &r->exponents, r->err) &&
           number_lang_integers(m, &r->integers, r->err) && number_lang_shortest(m, &r->shortest, r->err);
}

static bool add_root(SchemaReader *r, GrammarNode *out) {
    uint32_t literal, demand;
    if (!schema_literal(r, LITERAL_SCHEMA, r->root, &literal) || !schema_demand(r, &literal, 1, &demand))
        return false;
    if (literal == LITERAL_FALSE)
        return schema_refuse(r, r->root, ERR_INVALID_REQUEST, "no text matches the schema false");
    if (r->options->arguments && schema_form(r) != ARGUMENTS_JSON)
        return schema_emit_arguments(r, demand, out);
    if (!schema_emit(r, demand, out)) return false;
    if (r->options->blanks != SCHEMA_BLANKS_ANY) return true;
    GrammarNode parts[3] = {r->around, *out, r->around};
    *out = grammar_add_sequence(r->builder, parts, COUNT_OF(parts));
    return true;
}

bool schema_check_blanks(Str pattern, Arena scratch, Error *err) {
    Arena keep;
    if (pattern.len > SCHEMA_BLANK_PATTERN_BYTES_MAX)
        return error_set(err, ERR_INVALID_REQUEST, "%zu bytes of pattern; at most %d are allowed",
                         pattern.len, SCHEMA_BLANK_PATTERN_BYTES_MAX);
    if (!arena_split(&scratch, arena_left(&scratch) / 2, &keep))
        return error_set(err, ERR_NO_MEMORY, "no memory");
    LangMaker m = {.keep = &keep, .scratch = scratch, .work_max = SCHEMA_WORK_MAX};
    const Str patterns[] = {pattern, STR(ANY_BLANKS)};
    Lang langs[2], others;
    for (size_t i = 0; i < COUNT_OF(patterns); i++) {
        LangMaker own = m;
        Rx rx = rx_begin(&own.scratch);
        uint32_t root;
        if (!rx_read_pattern(&rx, patterns[i], RX_WHOLE, &own, &root, err) ||
            !rx_compile(&rx, root, &own, &langs[i], err))
            return false;
    }
    if (!lang_combine(&m, LANG_WITHOUT, &langs[0], &langs[1], &others, err)) return false;
    if (lang_is_empty(&langs[0]) || !lang_is_empty(&others))
        return error_set(err, ERR_INVALID_REQUEST,
                         "must match blanks, tabs and line breaks, and nothing else");
    return true;
}

// After too much work: where it ended is not where most of it was.
static void tell_dearest(SchemaReader *r) {
    char message[ERROR_MESSAGE_BYTES];
    Str dearest = r->dearest ? schema_title(r, r->dearest) : (Str){0};
    memcpy(message, r->err->message, sizeof message);
    if (dearest.ptr)
        (void)error_set(r->err, ERR_TOO_LARGE, "%s, of which %llu for %.*s", message,
                        (unsigned long long)r->dearest_work, STR_ARG(dearest));
}

bool schema_add(GrammarBuilder *b, const JsonNode *root, const SchemaOptions *options, Arena *arena,
                Arena scratch, GrammarNode *out, Error *err) {
    // Half of the scratch holds what is kept until the end; the other half is each operation's own.
    SchemaReader r = {
        .builder = b, .root = root, .options = options, .arena = arena, .memory = scratch, .err = err};
    r.memory.end = scratch.next + arena_left(&scratch) / 2;
    r.maker = (LangMaker){
        .keep = &r.memory, .scratch = scratch, .work_max = options->work_max, .stop = options->stop};
    if (!r.maker.work_max) r.maker.work_max = SCHEMA_WORK_MAX;
    r.maker.scratch.next = r.memory.end;
    r.literal_of.arena = r.demand_of.arena = &r.memory;
    *out = GRAMMAR_NEVER;
    if (schema_index(&r) && add_languages(&r) && add_marks(&r) && add_root(&r, out)) return true;
    if (!grammar_builder_ok(b) && err->code == ERR_NONE) return true; // grammar_compile says what it is
    if (err->message[0] != '#') (void)error_prefix(err, "#");
    if (err->code == ERR_TOO_LARGE && r.maker.work > r.maker.work_max) tell_dearest(&r);
    (void)grammar_fail(b, err);
    return false;
}
