// Strings as nodes of a grammar.
//
// The most characters that a string may have are counted beside its automaton (DfaCount): 2,000 of them would
// be 2,000 times the states of a character, each with a mask of the vocabulary of its own. A small least
// number is part of the automaton. Where it is larger, or the string stands as text between marks, the string
// is cut in chunks: so many whole ones, and a rest that is shorter. Chunks are the same for all such strings,
// and nearly all masks are theirs.
#include "grammar/schema_internal.h"

enum { CHUNK = 64, WHOLE_MAX = 256 }; // characters

GrammarNode schema_add_leaf(SchemaReader *r, const Lang *lang, LangSpelling spelling, Str before, Str after,
                            bool *ok) {
    Dfa *dfa = arena_new(r->arena, Dfa, 1);
    LangMaker m = r->maker;
    m.keep = r->arena;
    *ok = dfa && dfa_from_lang(&m, lang, spelling, before, after, dfa, r->err);
    // What stands as text between marks must not hold the one that ends it. A part of a string has no quote
    // behind it, and the mark could begin in it and end in the next one.
    bool is_part = spelling != LANG_UTF8 && after.len == 0;
    Str mark = r->options->arguments ? r->options->arguments->raw_end : (Str){0};
    if (*ok && mark.len) *ok = dfa_without_text(&m, dfa, mark, is_part, dfa, r->err);
    r->maker.work = m.work;
    if (!dfa) (void)schema_no_memory(r);
    return *ok ? grammar_add_dfa(r->builder, dfa) : GRAMMAR_NEVER;
}

GrammarNode schema_add_name(SchemaReader *r, const Lang *lang, bool *ok) {
    return schema_add_leaf(r, lang, LANG_JSON_PLAIN, STR("\""), STR("\""), ok);
}

// A part of a string: min to max characters, and the closing quote where it is the last one.
static bool add_length(SchemaReader *r, uint32_t min, uint32_t max, bool is_last, GrammarNode *out) {
    Lang lang;
    bool ok = lang_length(&r->maker, min, max, &lang, r->err);
    *out = ok ? schema_add_leaf(r, &lang, LANG_JSON_STRING, (Str){0}, is_last ? STR("\"") : (Str){0}, &ok)
              : GRAMMAR_NEVER;
    return ok;
}

// Chunks: min_chunks to max_chunks of them, then a rest of min to max characters, below CHUNK.
static bool add_chunks(SchemaReader *r, uint32_t min_chunks, uint32_t max_chunks, uint32_t min, uint32_t max,
                       GrammarNode *out) {
    GrammarNode parts[3] = {grammar_add_literal(r->builder, STR("\"")), r->chunk, r->short_rest};
    if (!r->chunk && !add_length(r, CHUNK, CHUNK, false, &r->chunk)) return false;
    if (!r->short_rest && !add_length(r, 0, CHUNK - 1, true, &r->short_rest)) return false;
    bool is_any = min == 0 && max == CHUNK - 1;
    parts[1] = grammar_add_repeat(r->builder, r->chunk, min_chunks, max_chunks);
    parts[2] = r->short_rest;
    if (!is_any && !add_length(r, min, max, true, &parts[2])) return false;
    *out = grammar_add_sequence(r->builder, parts, COUNT_OF(parts));
    return true;
}

// By the number of chunks: the least one, those between, the greatest one.
static bool add_long(SchemaReader *r, uint32_t min, uint32_t max, GrammarNode *out) {
    uint32_t least = min / CHUNK, most = max == LANG_NONE ? GRAMMAR_UNBOUNDED : max / CHUNK, n = 0;
    GrammarNode ways[3];
    bool single = least == most;
    if (!add_chunks(r, least, least, min % CHUNK, single ? max % CHUNK : CHUNK - 1, &ways[n++])) return false;
    if (most == GRAMMAR_UNBOUNDED) {
        if (!add_chunks(r, least + 1, GRAMMAR_UNBOUNDED, 0, CHUNK - 1, &ways[n++])) return false;
    } else if (!single) {
        if (most > least + 1 && !add_chunks(r, least + 1, most - 1, 0, CHUNK - 1, &ways[n++])) return false;
        if (!add_chunks(r, most, most, 0, max % CHUNK, &ways[n++])) return false;
    }
    *out = grammar_add_choice(r->builder, ways, n);
    return true;
}

static bool add_counted(SchemaReader *r, const Lang *strings, uint32_t most, LangSpelling spelling,
                        GrammarNode *out) {
    Dfa *dfa = arena_new(r->arena, Dfa, 1);
    LangMaker m = r->maker;
    m.keep = r->arena;
    if (!dfa) return schema_no_memory(r);
    bool ok = dfa_from_lang_counted(&m, strings, most, spelling, STR("\""), STR("\""), dfa, r->err);
    r->maker.work = m.work;
    if (ok) *out = grammar_add_dfa(r->builder, dfa);
    return ok;
}

// Free text of min to max characters.
static bool add_free(SchemaReader *r, const Lang *strings, uint32_t min, uint32_t max, GrammarNode *out) {
    const SchemaArguments *a = r->options->arguments;
    bool ok = true, is_cut = a && a->raw_end.len;
    if (max != LANG_NONE && min <= WHOLE_MAX && !is_cut) {
        Lang least;
        return lang_length(&r->maker, min, LANG_NONE, &least, r->err) &&
               add_counted(r, &least, max, LANG_JSON_STRING, out);
    }
    if (strings->n_states > WHOLE_MAX) return add_long(r, min, max, out);
    *out = schema_add_leaf(r, strings, LANG_JSON_STRING, STR("\""), STR("\""), &ok);
    return ok;
}

bool schema_emit_string(SchemaReader *r, const Lang *strings, GrammarNode *out) {
    bool ok = true, is_any = strings == &r->all_strings;
    uint32_t min, max;
    if (is_any && r->any_string) {
        *out = r->any_string;
        return true;
    }
    if (schema_form(r) == ARGUMENTS_BRACED) {
        if (!schema_emit_braced_string(r, strings, out)) return false;
        if (is_any) r->any_string = *out;
        return true;
    }
    // Where the schema says which characters there are, they are written as in names; free text as one likes.
    bool is_free = lang_is_length(strings, &min, &max);
    if (!is_free) {
        *out = schema_add_name(r, strings, &ok);
        return ok;
    }
    KnownLength *known = &r->lengths[(min * 31u + max) % COUNT_OF(r->lengths)];
    if (known->node && known->min == min && known->max == max) {
        *out = known->node;
        return true;
    }
    if (!add_free(r, strings, min, max, out)) return false;
    *known = (KnownLength){min, max, *out};
    if (is_any) r->any_string = *out;
    return true;
}

bool schema_emit_strings(SchemaReader *r, const ScalarSet *set, GrammarNode *out) {
    const SchemaArguments *a = r->options->arguments;
    ScalarSet own = *set;
    *out = GRAMMAR_NEVER;
    // Strings that stand as text between marks are cut further, which no count goes with.
    if (set->most && a && (a->raw_end.len || a->form == ARGUMENTS_BRACED) && !schema_settle(r, &own))
        return false;
    if (!own.strings) return true;
    if (!own.most) return schema_emit_string(r, own.strings, out);
    return add_counted(r, own.strings, own.most, LANG_JSON_PLAIN, out);
}
