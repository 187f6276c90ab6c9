// jinja2's filters that break lines: wordwrap, which is Python's textwrap.wrap, and pprint, which is
// Python's pprint.pformat. Widths are in characters.
#include "base/utf8.h"
#include "template/filters.h"
#include "template/py_format.h"
#include "text/unicode.h"

#define FILTER(name) bool name(Run *run, Value self, const Value *bound, const Args *args, Value *out)

// ---- wordwrap: chunks, between which a line may end ----

// The character at `at`, or 0 behind the text; *end is where it ends.
static uint32_t character_at(const Text *t, size_t at, size_t *end) {
    uint32_t c = 0;
    *end = at < t->len ? at + text_decode(t, at, &c) : at;
    return c;
}

static uint32_t character_before(const Text *t, size_t *at) {
    uint32_t c = 0;
    *at -= unicode_character_before(text_str(t), 0, *at, &c);
    return c;
}

static bool is_blank(uint32_t c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_letter(uint32_t c) {
    return py_is_word(c) && unicode_category(c) != UNICODE_ND;
}

// What may stand before a dash of two hyphens or more.
static bool is_before_dash(uint32_t c) {
    return py_is_word(c) || (c < 0x80 && c && strchr("!\"'&.,?", (int)c));
}

// The end of such a dash at `at`, with a word on both sides; `at` where there is none.
static size_t dash_end(const Text *t, size_t at) {
    size_t before = at, end = at, behind;
    if (!is_before_dash(character_before(t, &before))) return at; // also within the dash: it is read once
    while (end < t->len && t->ptr[end] == '-')
        end++;
    return end - at >= 2 && py_is_word(character_at(t, end, &behind)) ? end : at;
}

// Whether a line may end behind the hyphen at `at`: behind two letters, or a letter, a hyphen and a letter,
// and before two letters, which may have a hyphen between them.
static bool is_hyphen(const Text *t, size_t at) {
    size_t before = at, end = at + 1;
    if (!is_letter(character_before(t, &before))) return false;
    uint32_t c = character_before(t, &before);
    if (!is_letter(c) && (c != '-' || !is_letter(character_before(t, &before)))) return false;
    if (!is_letter(character_at(t, end, &end))) return false;
    end += end < t->len && t->ptr[end] == '-';
    return is_letter(character_at(t, end, &end));
}

// The end of the chunk that begins at `at`.
static size_t chunk_end(const Text *t, size_t at, bool at_hyphens) {
    size_t end = at, next;
    if (is_blank((uint8_t)t->ptr[at])) {
        while (end < t->len && is_blank((uint8_t)t->ptr[end]))
            end++;
        return end;
    }
    if (at_hyphens && (end = dash_end(t, at)) > at) return end;
    for (character_at(t, at, &end); end < t->len && !is_blank((uint8_t)t->ptr[end]); end = next) {
        next = end;
        if (at_hyphens && t->ptr[end] == '-') {
            if (is_hyphen(t, end)) return end + 1;
            if (dash_end(t, end) > end) return end;
        }
        character_at(t, end, &next);
    }
    return end;
}

// ---- wordwrap: lines ----

typedef struct {
    Run *run;
    Pieces *out;
    Text between; // lines
    int64_t width;
    bool breaks_words, at_hyphens, breaks_at_hyphens;
    // Of the line that is wrapped: the next chunk, whose front may have been taken.
    Text text;
    size_t from, to;
    int64_t chunk_width;
    size_t n_lines;
} Wrap;

static int64_t width_of(Text t) {
    return (int64_t)text_characters(&t);
}

static void next_chunk(Wrap *w) {
    w->from = w->to;
    if (w->from == w->text.len) return;
    w->to = chunk_end(&w->text, w->from, w->at_hyphens);
    w->chunk_width = width_of(text_slice(w->text, w->from, w->to));
}

static bool has_only_space(const Wrap *w, size_t from, size_t to) {
    Text part = text_slice(w->text, from, to);
    return text_strip(&part, NULL, true, false).len == 0;
}

// How much of a chunk that fits no line goes to this one: what there is room for, or up to the last
// hyphen of that which has something else before it.
static int64_t front_width(const Wrap *w, int64_t room) {
    Text chunk = text_slice(w->text, w->from, w->to);
    Text front = text_slice(chunk, 0, text_offset(&chunk, (size_t)room));
    const char *hyphen = w->breaks_at_hyphens && front.len ? memrchr(front.ptr, '-', front.len) : NULL;
    if (!hyphen) return room;
    Text before = text_slice(front, 0, (size_t)(hyphen - front.ptr));
    for (size_t i = 0; i < before.len; i++) {
        if (before.ptr[i] != '-') return width_of(before) + 1;
    }
    return room;
}

// Puts chunks into a line that begins at the next one. *last is where the last of them begins; *n counts
// them.
static void fill_line(Wrap *w, size_t *last, size_t *n) {
    int64_t used = 0;
    while (w->from < w->text.len && used + w->chunk_width <= w->width) {
        *last = w->from;
        ++*n;
        used += w->chunk_width;
        next_chunk(w);
    }
    if (w->from == w->text.len || w->chunk_width <= w->width) return;
    if (w->breaks_words) {
        int64_t width = front_width(w, w->width - used);
        Text chunk = text_slice(w->text, w->from, w->to);
        *last = w->from;
        ++*n;
        w->from += text_offset(&chunk, (size_t)width);
        w->chunk_width -= width;
    } else if (*n == 0) {
        *last = w->from;
        ++*n;
        next_chunk(w);
    }
}

// (Joined by Markup, the lines are escaped.)
static bool put_line(Wrap *w, Text line) {
    Value escaped;
    if (w->between.is_markup) {
        if (!html_escape(w->run, &line, &escaped)) return false;
        line = *escaped.text;
    }
    return (!w->n_lines++ || pieces_add(w->run, w->out, w->between)) && pieces_add(w->run, w->out, line);
}

// One line of the text to lines. Space at the end of each is dropped, and at the begin of all but the
// first.
static bool wrap_line(Wrap *w, const Text *line) {
    w->text = *line;
    run_spend(w->run, line->len / 2);
    w->to = w->n_lines = 0;
    for (next_chunk(w); w->from < w->text.len;) {
        if (w->n_lines && has_only_space(w, w->from, w->to)) next_chunk(w);
        size_t from = w->from, last = from, n = 0;
        if (!run_steps(w->run, 1)) return false;
        fill_line(w, &last, &n);
        size_t to = w->from;
        if (n && has_only_space(w, last, to)) {
            to = last;
            n--;
        }
        if (n && !put_line(w, text_slice(w->text, from, to))) return false;
    }
    return true;
}

FILTER(filter_wordwrap) {
    (void)args;
    Pieces p = {0};
    Value lines;
    const Args none = {0};
    Wrap w = {.run = run,
              .out = &p,
              .between = text_of(STR("\n"), ORIGIN_TEMPLATE),
              .breaks_words = arg_truth(bound[1], true),
              .at_hyphens = is_absent(bound[3]) || (bound[3].kind == V_BOOL && bound[3].boolean),
              .breaks_at_hyphens = arg_truth(bound[3], true)};
    bool given = !is_absent(bound[2]) && bound[2].kind != V_NONE;
    if (self.kind != V_STRING) return run_fail(run, "wordwrap wants a string, not %s", value_type_name(self));
    if (!arg_integer(run, bound[0], "width", 79, &w.width) ||
        (given && !arg_text(run, bound[2], "wrapstring", &w.between)) ||
        !function_call(run, method_find(V_STRING, STR("splitlines")), self, &none, &lines)) {
        return false;
    }
    bool is_markup = w.between.is_markup;
    if (w.width <= 0 && lines.list->count)
        return run_fail(run, "invalid width %lld (must be > 0)", (long long)w.width);
    for (size_t i = 0; i < lines.list->count; i++) {
        Text text = *lines.list->items[i].text;
        if (i && !pieces_add(run, &p, w.between)) return false;
        if (!wrap_line(&w, &text)) return false;
    }
    return pieces_value(run, &p, out) && (!is_markup || value_as_markup(run, out));
}

// ---- pprint ----

enum { PPRINT_WIDTH = 80 };

// Where a value is put: columns that are taken before it, those that must be left behind it, and how deep
// it is.
typedef struct {
    int64_t indent, allowance;
    uint32_t level;
} Place;

static bool pretty(Run *run, Pieces *p, Value v, Place place);

static bool put(Run *run, Pieces *p, Str s) {
    return pieces_add_str(run, p, s, ORIGIN_TEMPLATE);
}

static bool put_new_line(Run *run, Pieces *p, int64_t indent) {
    static const char spaces[] = "                                                                ";
    if (!put(run, p, STR("\n"))) return false;
    for (int64_t n; indent > 0; indent -= n) {
        n = indent < (int64_t)sizeof spaces - 1 ? indent : (int64_t)sizeof spaces - 1;
        if (!put(run, p, (Str){spaces, (size_t)n})) return false;
    }
    return true;
}

// Lists of plain Python types are laid out; what groupby gives is none.
static bool is_plain_list(Value v) {
    return v.kind == V_LIST || (v.kind == V_TUPLE && !v.list->is_group);
}

// The place of a key's type among keys that Python does not compare: by the type's name.
static int64_t type_order(Value v) {
    return v.kind == V_NONE ? 0 : value_is_number(v) ? 1 : v.kind == V_STRING ? 2 : 3;
}

// A dictionary's members by key.
static bool sorted_dict(Run *run, const Dict *d, Dict *out) {
    Value keys, members, ranks;
    if (!value_list(run, V_LIST, d->count, &keys) || !value_list(run, V_LIST, d->count, &members) ||
        !value_list(run, V_LIST, d->count, &ranks)) {
        return false;
    }
    for (size_t i = 0; i < d->count; i++) {
        Value *member = &members.list->items[i], *rank = &ranks.list->items[i];
        if (!value_list(run, V_TUPLE, 2, member) || !value_list(run, V_TUPLE, 2, rank)) return false;
        member->list->items[0] = d->keys[i];
        member->list->items[1] = d->values[i];
        rank->list->items[0] = value_int(type_order(d->keys[i]));
        rank->list->items[1] = d->keys[i];
    }
    if (!sort_values(run, members.list->items, ranks.list->items, d->count, false)) return false;
    *out = (Dict){.keys = keys.list->items, .values = ranks.list->items, .count = d->count};
    for (size_t i = 0; i < d->count; i++) {
        out->keys[i] = members.list->items[i].list->items[0];
        out->values[i] = members.list->items[i].list->items[1];
    }
    return true;
}

// As repr(), with dictionaries sorted.
static bool put_sorted_repr(Run *run, Pieces *p, Value v);

static bool put_items_repr(Run *run, Pieces *p, Value v) {
    bool is_list = v.kind == V_LIST;
    if (!put(run, p, is_list ? STR("[") : STR("("))) return false;
    for (size_t i = 0; i < v.list->count; i++) {
        if ((i && !put(run, p, STR(", "))) || !put_sorted_repr(run, p, v.list->items[i])) return false;
    }
    return put(run, p, is_list ? STR("]") : v.list->count == 1 ? STR(",)") : STR(")"));
}

static bool put_dict_repr(Run *run, Pieces *p, const Dict *d) {
    Dict sorted;
    if (!sorted_dict(run, d, &sorted) || !put(run, p, STR("{"))) return false;
    for (size_t i = 0; i < sorted.count; i++) {
        if ((i && !put(run, p, STR(", "))) || !put_sorted_repr(run, p, sorted.keys[i]) ||
            !put(run, p, STR(": ")) || !put_sorted_repr(run, p, sorted.values[i])) {
            return false;
        }
    }
    return put(run, p, STR("}"));
}

static bool put_sorted_repr(Run *run, Pieces *p, Value v) {
    if (!is_plain_list(v) && v.kind != V_DICT) return value_repr(run, p, v);
    if (run->depth >= TEMPLATE_STACK_MAX) return run_fail(run, "values are nested too deep");
    run->depth++;
    bool ok = v.kind == V_DICT ? put_dict_repr(run, p, v.dict) : put_items_repr(run, p, v);
    run->depth--;
    return ok;
}

static bool sorted_repr(Run *run, Value v, Text *out) {
    Pieces p = {0};
    return put_sorted_repr(run, &p, v) && pieces_join(run, &p, out);
}

static bool pretty_items(Run *run, Pieces *p, Value v, Place place) {
    bool is_list = v.kind == V_LIST;
    Str close = is_list ? STR("]") : v.list->count == 1 ? STR(",)") : STR(")");
    Place inner = {place.indent + 1, 1, place.level + 1};
    if (!put(run, p, is_list ? STR("[") : STR("("))) return false;
    for (size_t i = 0; i < v.list->count; i++) {
        if (i + 1 == v.list->count) inner.allowance = place.allowance + (int64_t)close.len;
        if ((i && (!put(run, p, STR(",")) || !put_new_line(run, p, inner.indent))) ||
            !pretty(run, p, v.list->items[i], inner)) {
            return false;
        }
    }
    return put(run, p, close);
}

static bool pretty_dict(Run *run, Pieces *p, const Dict *d, Place place) {
    Dict sorted;
    if (!sorted_dict(run, d, &sorted) || !put(run, p, STR("{"))) return false;
    for (size_t i = 0; i < sorted.count; i++) {
        Text key;
        int64_t indent = place.indent + 1, allowance = i + 1 == sorted.count ? place.allowance + 1 : 1;
        if ((i && (!put(run, p, STR(",")) || !put_new_line(run, p, indent))) ||
            !sorted_repr(run, sorted.keys[i], &key) || !pieces_add(run, p, key) || !put(run, p, STR(": ")) ||
            !pretty(run, p, sorted.values[i],
                    (Place){indent + width_of(key) + 2, allowance, place.level + 1})) {
            return false;
        }
    }
    return put(run, p, STR("}"));
}

// ---- pprint: long strings, in pieces of their lines ----

typedef struct {
    Run *run;
    Pieces *out;
    int64_t indent, width; // of a piece
    int64_t allowance;     // less of the last one
    size_t n_pieces;
} StringPieces;

// The width of repr(t). What is made on the way is given back.
static bool repr_width(Run *run, Text t, int64_t *out) {
    Arena before = *run->arena;
    Pieces p = {0};
    Text text;
    bool ok = py_str_repr(run, &p, &t) && pieces_join(run, &p, &text) && run_steps(run, 1);
    if (ok) *out = width_of(text);
    *run->arena = before;
    return ok;
}

static bool put_piece(StringPieces *s, Text t) {
    return (!s->n_pieces++ || put_new_line(s->run, s->out, s->indent)) && py_str_repr(s->run, s->out, &t);
}

// The end of a word at `at` with the space behind it.
static size_t word_end(const Text *t, size_t at) {
    uint32_t c;
    for (int is_space = 0; is_space < 2; is_space++) {
        for (size_t length; at < t->len && (length = text_decode(t, at, &c)) && py_is_space(c) == is_space;)
            at += length;
    }
    return at;
}

// A line that is too long: as many words as fit into each piece.
static bool put_words(StringPieces *s, Text line, bool is_last_line) {
    size_t from = 0, to = 0;
    for (size_t end; to < line.len; to = end) {
        int64_t width = 0;
        end = word_end(&line, to);
        int64_t room = s->width - (end == line.len && is_last_line ? s->allowance : 0);
        if (!repr_width(s->run, text_slice(line, from, end), &width)) return false;
        if (width <= room) continue;
        if (to > from && !put_piece(s, text_slice(line, from, to))) return false;
        from = to;
    }
    return from == line.len || put_piece(s, text_slice(line, from, line.len));
}

static bool put_string_pieces(StringPieces *s, const List *lines) {
    for (size_t i = 0; i < lines->count; i++) {
        Text line = *lines->items[i].text;
        bool is_last = i + 1 == lines->count;
        int64_t width = 0;
        if (!repr_width(s->run, line, &width)) return false;
        bool fits = width <= s->width - (is_last ? s->allowance : 0);
        if (!(fits ? put_piece(s, line) : put_words(s, line, is_last))) return false;
    }
    return true;
}

// In brackets where the string is not within something else and has more than one piece.
static bool pretty_string(Run *run, Pieces *p, Value v, Place place) {
    const Value keep_ends = value_bool(true);
    const Args args = {.items = &keep_ends, .count = 1};
    bool is_alone = place.level == 0;
    Pieces pieces = {0};
    Value lines;
    StringPieces s = {.run = run, .out = &pieces, .indent = place.indent + is_alone};
    s.width = PPRINT_WIDTH - s.indent;
    s.allowance = place.allowance + is_alone;
    if (v.text->len == 0) return py_str_repr(run, p, v.text);
    if (!function_call(run, method_find(V_STRING, STR("splitlines")), v, &args, &lines) ||
        !put_string_pieces(&s, lines.list)) {
        return false;
    }
    Text text;
    bool in_brackets = is_alone && s.n_pieces > 1;
    return pieces_join(run, &pieces, &text) && (!in_brackets || put(run, p, STR("("))) &&
           pieces_add(run, p, text) && (!in_brackets || put(run, p, STR(")")));
}

static bool pretty_kind(Run *run, Pieces *p, Value v, Place place) {
    Text text;
    if (!sorted_repr(run, v, &text)) return false;
    if (width_of(text) <= PPRINT_WIDTH - place.indent - place.allowance) return pieces_add(run, p, text);
    if (v.kind == V_DICT) return pretty_dict(run, p, v.dict, place);
    if (is_plain_list(v)) return pretty_items(run, p, v, place);
    if (v.kind == V_STRING && !v.text->is_markup) return pretty_string(run, p, v, place);
    return pieces_add(run, p, text);
}

static bool pretty(Run *run, Pieces *p, Value v, Place place) {
    if (run->depth >= TEMPLATE_STACK_MAX) return run_fail(run, "values are nested too deep");
    run->depth++;
    bool ok = pretty_kind(run, p, v, place);
    run->depth--;
    return ok;
}

FILTER(filter_pprint) {
    (void)bound, (void)args;
    Pieces p = {0};
    return pretty(run, &p, self, (Place){0}) && pieces_value(run, &p, out);
}
