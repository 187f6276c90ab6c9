#include "grammar/schema.h"

#include "base/strbuf.h"
#include "grammar/schema_internal.h"

// A mark with the blanks around it that stand there: before it, behind it.
static bool add_mark(SchemaReader *r, bool before, const char *mark, bool behind, GrammarNode *out) {
    static const char *const blanks[] = {[SCHEMA_BLANKS_ONE] = "( |\\n[ ]{0,64})?",
                                         [SCHEMA_BLANKS_NONE] = "",
                                         [SCHEMA_BLANKS_ANY] = "[ \\t\\n\\r]*"};
    char text[64];
    StrBuf b = STRBUF(text);
    const char *blank = blanks[r->options->blanks];
    strbuf_printf(&b, "%s%s%s", before ? blank : "", mark, behind ? blank : "");
    const Lang *lang;
    Dfa *dfa = arena_new(r->arena, Dfa, 1);
    if (!dfa) return schema_no_memory(r);
    if (!schema_read_pattern(r, r->root, strbuf_str(&b), false, &lang)) return false;
    LangMaker m = r->maker;
    m.keep = r->arena;
    bool ok = dfa_from_lang(&m, lang, LANG_UTF8, (Str){0}, (Str){0}, dfa, r->err);
    r->maker.work = m.work;
    *out = ok ? grammar_add_dfa(r->builder, dfa) : GRAMMAR_NEVER;
    return ok;
}

static bool add_marks(SchemaReader *r) {
    return add_mark(r, false, "\\{", true, &r->open[KIND_OBJECT]) &&
           add_mark(r, true, "\\}", false, &r->close[KIND_OBJECT]) &&
           add_mark(r, false, "\\[", true, &r->open[KIND_ARRAY]) &&
           add_mark(r, true, "\\]", false, &r->close[KIND_ARRAY]) &&
           add_mark(r, true, ":", true, &r->colon) && add_mark(r, true, ",", true, &r->comma) &&
           (schema_form(r) != ARGUMENTS_PYTHON || (add_mark(r, false, "\\(", true, &r->open_arguments) &&
                                                   add_mark(r, true, "\\)", false, &r->close_arguments)));
}

static bool add_languages(SchemaReader *r) {
    LangMaker *m = &r->maker;
    r->integer_set = &r->integers;
    return lang_length(m, 0, LANG_NONE, &r->all_strings, r->err) &&
           number_lang_all(m, &r->all_numbers, r->err) && number_lang_exponents(m, &r->exponents, r->err) &&
           number_lang_integers(m, r->options->plain_integers, &r->integers, r->err);
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
    GrammarNode parts[3] = {GRAMMAR_NEVER, *out, GRAMMAR_NEVER};
    if (!add_mark(r, true, "", false, &parts[0])) return false;
    parts[2] = parts[0];
    *out = grammar_add_sequence(r->builder, parts, COUNT_OF(parts));
    return true;
}

bool schema_add(GrammarBuilder *b, const JsonNode *root, const SchemaOptions *options, Arena *arena,
                Arena scratch, GrammarNode *out, Error *err) {
    // Half of the scratch holds what is kept until the end; the other half is each operation's own.
    SchemaReader r = {
        .builder = b, .root = root, .options = options, .arena = arena, .memory = scratch, .err = err};
    r.memory.end = scratch.next + arena_left(&scratch) / 2;
    r.maker = (LangMaker){.keep = &r.memory, .scratch = scratch, .work_max = options->work_max};
    if (!r.maker.work_max) r.maker.work_max = SCHEMA_WORK_MAX;
    r.maker.scratch.next = r.memory.end;
    r.literal_of.arena = r.demand_of.arena = &r.memory;
    *out = GRAMMAR_NEVER;
    if (schema_index(&r) && add_languages(&r) && add_marks(&r) && add_root(&r, out)) return true;
    if (!grammar_builder_ok(b) && err->code == ERR_NONE) return true; // grammar_compile says what it is
    if (err->message[0] != '#') (void)error_prefix(err, "#");
    (void)grammar_fail(b, err);
    return false;
}
