// jinja2's filters that read HTML and addresses: striptags and urlize.
#include "base/utf8.h"
#include "template/filters.h"
#include "template/html_tables.h"
#include "text/unicode.h"

#define FILTER(name) bool name(Run *run, Value self, const Value *bound, const Args *args, Value *out)

// Where `part` begins in t at or behind `from`; SIZE_MAX where it does not.
static size_t find(const Text *t, Str part, size_t from) {
    const char *found = from < t->len ? memmem(t->ptr + from, t->len - from, part.ptr, part.len) : NULL;
    return found ? (size_t)(found - t->ptr) : SIZE_MAX;
}

static bool is_one_of(char c, const char *signs) {
    return c && strchr(signs, c);
}

static bool add_derived(Run *run, Pieces *p, Str s, const Text *from) {
    return pieces_add_str(run, p, s, text_derived(from));
}

// ---- striptags: without comments ----

// A text in the making, whose end can be taken back.
typedef struct {
    char *bytes;
    uint8_t *origins; // NULL where all are of one origin
    size_t len;
} Kept;

static void keep(Kept *k, const Text *t, size_t from, size_t to) {
    memcpy(k->bytes + k->len, t->ptr + from, to - from);
    if (k->origins) memcpy(k->origins + k->len, t->origins + from, to - from);
    k->len += to - from;
}

// Where the comment ends that begins with the last four bytes kept: its end may share "--" with its begin.
static size_t comment_end(const Text *t, size_t at) {
    Str rest = {t->ptr + at, t->len - at};
    if (str_starts_with(rest, STR(">"))) return at + 1;
    if (str_starts_with(rest, STR("->"))) return at + 2;
    size_t end = find(t, STR("-->"), at);
    return end == SIZE_MAX ? SIZE_MAX : end + 3;
}

// Comments are looked for again where one was taken out: what was around it may be the begin of another.
static bool without_comments(Run *run, const Text *t, Text *out) {
    Kept k = {.bytes = arena_new(run->arena, char, t->len)};
    if (t->origins) k.origins = arena_new(run->arena, uint8_t, t->len);
    if (!k.bytes || (t->origins && !k.origins)) return run_full(run);
    for (size_t at = 0; at < t->len;) {
        keep(&k, t, at, at + 1);
        at++;
        if (k.len < 4 || memcmp(k.bytes + k.len - 4, "<!--", 4) != 0) continue;
        size_t end = comment_end(t, at);
        if (end == SIZE_MAX) {
            keep(&k, t, at, t->len);
            break;
        }
        k.len -= 4;
        at = end;
    }
    *out = *t;
    out->ptr = k.bytes;
    out->origins = k.origins;
    out->len = k.len;
    return true;
}

static bool without_tags(Run *run, const Text *t, Text *out) {
    Pieces p = {0};
    size_t at = 0;
    for (size_t start, end; (start = find(t, STR("<"), at)) != SIZE_MAX; at = end + 1) {
        end = find(t, STR(">"), start);
        if (end == SIZE_MAX) break;
        if (!pieces_add(run, &p, text_slice(*t, at, start))) return false;
    }
    return pieces_add(run, &p, text_slice(*t, at, t->len)) && pieces_join(run, &p, out);
}

// Words with one space between them.
static bool with_single_spaces(Run *run, const Text *t, Text *out) {
    Pieces p = {0};
    uint32_t c;
    bool was_space = false;
    for (size_t at = 0, length; at < t->len; at += length) {
        length = text_decode(t, at, &c);
        bool is_space = py_is_space(c);
        Text sign = text_slice(*t, at, at + length);
        if (!is_space && was_space && p.len && !add_derived(run, &p, STR(" "), &sign)) return false;
        if (!is_space && !pieces_add(run, &p, sign)) return false;
        was_space = is_space;
    }
    return pieces_join(run, &p, out);
}

// ---- striptags: characters by name and by number ----

static const HtmlName *find_name(Str name) {
    uint32_t low = 0, high = html_names_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        Str other = str_from_c(html_names[middle].name);
        size_t common = other.len < name.len ? other.len : name.len;
        int order = memcmp(other.ptr, name.ptr, common);
        if (order == 0) order = (other.len > name.len) - (other.len < name.len);
        if (order == 0) return &html_names[middle];
        if (order < 0) low = middle + 1;
        else high = middle;
    }
    return NULL;
}

// The bytes behind "&" at the front of s that may be a name: 32 characters and a ";" at most. 0: none.
static size_t name_bytes(Str s) {
    size_t at = 0;
    for (int n = 0; at < s.len && n < HTML_NAME_BYTES_MAX && !is_one_of(s.ptr[at], "\t\n\f <&#;"); n++) {
        for (at++; at < s.len && ((uint8_t)s.ptr[at] & 0xC0) == 0x80;)
            at++;
    }
    return at + (at && at < s.len && s.ptr[at] == ';');
}

// A character by its number, as HTML reads it: 0 to leave it out.
static uint32_t numbered(uint64_t number) {
    static const uint16_t windows[32] = {// of 0x80 on, which Windows numbers otherwise
                                         0x20AC, 0x81,   0x201A, 0x192,  0x201E, 0x2026, 0x2020, 0x2021,
                                         0x2C6,  0x2030, 0x160,  0x2039, 0x152,  0x8D,   0x17D,  0x8F,
                                         0x90,   0x2018, 0x2019, 0x201C, 0x201D, 0x2022, 0x2013, 0x2014,
                                         0x2DC,  0x2122, 0x161,  0x203A, 0x153,  0x9D,   0x17E,  0x178};
    if (number == 0 || number > 0x10FFFF || (number >= 0xD800 && number <= 0xDFFF)) return 0xFFFD;
    if (number >= 0x80 && number <= 0x9F) return windows[number - 0x80];
    bool is_control = number < 0x20 && number != '\t' && number != '\n' && number != '\f' && number != '\r';
    bool is_none = (number >= 0xFDD0 && number <= 0xFDEF) || (number & 0xFFFE) == 0xFFFE;
    return is_control || number == 0x7F || is_none ? 0 : (uint32_t)number;
}

static bool add_characters(Run *run, Pieces *p, const uint32_t *characters, size_t n, const Text *from) {
    char bytes[8];
    size_t size = 0;
    for (size_t i = 0; i < n && characters[i]; i++)
        size += utf8_encode(characters[i], bytes + size);
    Str kept = arena_copy_str(run->arena, (Str){bytes, size});
    return kept.ptr ? add_derived(run, p, kept, from) : run_full(run);
}

// "#39;" or "#x27;" at `at`. *end: where it ends, or `at` where it is none.
static bool add_numbered(Run *run, Pieces *p, const Text *t, size_t at, size_t *end) {
    enum { PYTHON_DIGITS_MAX = 4300 };
    bool is_hex = at + 1 < t->len && (t->ptr[at + 1] | 0x20) == 'x';
    size_t from = at + 1 + is_hex, to = from;
    uint64_t number = 0;
    for (; to < t->len; to++) {
        char c = t->ptr[to], letter = (char)(c | 0x20);
        bool is_digit = c >= '0' && c <= '9', is_letter = is_hex && letter >= 'a' && letter <= 'f';
        if (!is_digit && !is_letter) break;
        number = number * (is_hex ? 16 : 10) + (uint64_t)(is_digit ? c - '0' : letter - 'a' + 10);
        if (number > 0x110000) number = 0x110000;
    }
    *end = at;
    if (to == from) return true;
    if (!is_hex && to - from > PYTHON_DIGITS_MAX) return run_fail(run, "a character's number is too long");
    *end = to + (to < t->len && t->ptr[to] == ';');
    Text sign = text_slice(*t, at, *end);
    uint32_t character = numbered(number);
    return !character || add_characters(run, p, &character, 1, &sign);
}

// A name at `at`, or the longest name that it begins with; what is none stays.
static bool add_named(Run *run, Pieces *p, const Text *t, size_t at, size_t *end) {
    size_t length = name_bytes((Str){t->ptr + at, t->len - at});
    *end = at + length;
    if (!run_steps(run, 2 + 3 * length)) return false; // each beginning of it is looked up
    for (size_t n = length; n > 1; n--) {
        const HtmlName *name = find_name((Str){t->ptr + at, n});
        Text sign = text_slice(*t, at, at + n);
        if (name)
            return add_characters(run, p, name->to, COUNT_OF(name->to), &sign) &&
                   pieces_add(run, p, text_slice(*t, at + n, *end));
    }
    return !length || pieces_add(run, p, text_slice(*t, at - 1, *end));
}

static bool unescape(Run *run, const Text *t, Text *out) {
    Pieces p = {0};
    size_t at = 0;
    for (size_t sign, end; (sign = find(t, STR("&"), at)) != SIZE_MAX; at = end) {
        bool is_number = sign + 1 < t->len && t->ptr[sign + 1] == '#';
        if (!pieces_add(run, &p, text_slice(*t, at, sign)) ||
            !(is_number ? add_numbered : add_named)(run, &p, t, sign + 1, &end)) {
            return false;
        }
        if (end > sign + 1) continue;
        if (!pieces_add(run, &p, text_slice(*t, sign, sign + 1))) return false;
    }
    return pieces_add(run, &p, text_slice(*t, at, t->len)) && pieces_join(run, &p, out);
}

FILTER(filter_striptags) {
    (void)bound, (void)args;
    Text t;
    if (!value_to_text(run, self, &t)) return false;
    t.is_markup = false;
    run_spend(run, t.len / 4);
    return without_comments(run, &t, &t) && without_tags(run, &t, &t) && with_single_spaces(run, &t, &t) &&
           unescape(run, &t, &t) && value_string(run, t, out);
}

// ---- urlize: what an address is ----

// As Python's regular expressions compare them without case: four characters beyond ASCII are letters then.
static uint32_t fold(uint32_t c) {
    if (c >= 'A' && c <= 'Z') return c | 0x20;
    return c == 0x130 || c == 0x131 ? 'i' : c == 0x17F ? 's' : c == 0x212A ? 'k' : c;
}

static bool is_digit(uint32_t c) {
    return unicode_category(c) == UNICODE_ND;
}

static bool is_letter(uint32_t c) {
    return fold(c) >= 'a' && fold(c) <= 'z';
}

static bool is_hex(uint32_t c) {
    return is_digit(c) || (fold(c) >= 'a' && fold(c) <= 'f');
}

static bool is_name_sign(uint32_t c) {
    return py_is_word(c) || c == '%';
}

static bool is_label_sign(uint32_t c) {
    return is_name_sign(c) || c == '-';
}

static bool is_domain_sign(uint32_t c) {
    return py_is_word(c) || c == '-' || c == '.';
}

// Whether all of s are so, and how many they are is within bounds.
static bool all(Str s, bool (*is)(uint32_t c), size_t least, size_t most) {
    uint32_t c;
    size_t n = 0;
    for (size_t at = 0, length; at < s.len; at += length, n++) {
        length = utf8_decode(str_slice(s, at, s.len), &c);
        if (!length || !is(c)) return false;
    }
    return n >= least && n <= most;
}

// The bytes at the front of s that are `word`, whatever the case; 0 where it begins otherwise.
static size_t starts_folded(Str s, const char *word) {
    size_t at = 0;
    uint32_t c;
    for (; *word; word++) {
        size_t length = utf8_decode(str_slice(s, at, s.len), &c);
        if (!length || fold(c) != (uint32_t)*word) return 0;
        at += length;
    }
    return at;
}

static bool is_folded(Str s, const char *word) {
    return s.len && starts_folded(s, word) == s.len;
}

// The part of s up to the next `sign`; *s is what follows it. False where there is none: *part is all.
static bool cut(Str *s, char sign, Str *part) {
    const char *found = s->len ? memchr(s->ptr, sign, s->len) : NULL;
    size_t n = found ? (size_t)(found - s->ptr) : s->len;
    *part = str_slice(*s, 0, n);
    *s = str_slice(*s, found ? n + 1 : n, s->len);
    return found != NULL;
}

// a.b.tld: labels, the last of them a top level domain. Behind a scheme that is any, else one of eight.
static bool is_domain(Str host, bool has_scheme) {
    static const char *const known[] = {"com", "net", "int", "edu", "gov", "org", "info", "mil"};
    Str label;
    size_t n = 0;
    for (; cut(&host, '.', &label); n++) {
        if (!all(label, is_label_sign, has_scheme ? 1 : 2, has_scheme ? SIZE_MAX : 63)) return false;
    }
    size_t idna = starts_folded(label, "xn--");
    if (has_scheme)
        return all(label, is_letter, 2, 63) ||
               (idna && all(str_slice(label, idna, label.len), is_name_sign, 2, 59));
    for (size_t i = 0; n && i < COUNT_OF(known); i++) {
        if (is_folded(label, known[i])) return true;
    }
    return false;
}

static bool is_ipv4(Str host) {
    Str part;
    for (int i = 0; i < 4; i++) {
        if (cut(&host, '.', &part) != (i < 3) || !all(part, is_digit, 1, 3)) return false;
    }
    return true;
}

// Two groups of up to four digits, each with a colon, then up to six, each with one or without.
static bool is_ipv6(Str host) {
    Str part;
    for (int i = 0; i < 2; i++) {
        if (!cut(&host, ':', &part) || !all(part, is_hex, 0, 4)) return false;
    }
    size_t n_groups = 0;
    while (host.len) {
        bool has_colon = cut(&host, ':', &part);
        if (!all(part, is_hex, 0, SIZE_MAX)) return false;
        size_t n = 0;
        for (size_t at = 0; at < part.len; at++)
            n += ((uint8_t)part.ptr[at] & 0xC0) != 0x80;
        n_groups += n ? (n + 3) / 4 : has_colon;
    }
    return n_groups <= 6;
}

// What may follow the host: a port, then a path.
static bool is_port_and_path(Str s) {
    if (!s.len || s.ptr[0] != ':') return !s.len || is_one_of(s.ptr[0], "/?#");
    size_t end = 1;
    while (end < s.len && !is_one_of(s.ptr[end], "/?#"))
        end++;
    return all(str_slice(s, 1, end), is_digit, 1, 5);
}

static bool is_url(Str s) {
    size_t http = starts_folded(s, "https://"), www = starts_folded(s, "www.");
    if (!http) http = starts_folded(s, "http://");
    Str rest = str_slice(s, http ? http : www, s.len), host = rest;
    if (http && str_starts_with(rest, STR("["))) {
        rest = str_slice(rest, 1, rest.len);
        return cut(&rest, ']', &host) && is_ipv6(host) && is_port_and_path(rest);
    }
    size_t end = 0;
    while (end < rest.len && !is_one_of(rest.ptr[end], ":/?#"))
        end++;
    if (!is_port_and_path(str_slice(rest, end, rest.len))) return false;
    host = str_slice(rest, 0, end);
    if (http) return is_domain(host, true) || is_ipv4(host);
    return (www && is_domain(host, true)) || is_domain(str_slice(s, 0, www + end), false);
}

static bool is_email(Str s) {
    const char *at = s.len ? memrchr(s.ptr, '@', s.len) : NULL;
    if (!at || at == s.ptr) return false;
    Str domain = str_slice(s, (size_t)(at - s.ptr) + 1, s.len);
    const char *dot = domain.len ? memrchr(domain.ptr, '.', domain.len) : NULL;
    if (!dot) return false;
    size_t n = (size_t)(dot - domain.ptr);
    uint32_t first = 0;
    return utf8_decode(domain, &first) && py_is_word(first) &&
           all(str_slice(domain, 0, n), is_domain_sign, 1, SIZE_MAX) &&
           all(str_slice(domain, n + 1, domain.len), py_is_word, 1, SIZE_MAX);
}

// ---- urlize: words ----

typedef struct {
    Run *run;
    Pieces out;
    Text attributes;     // rel and target, as they are written
    bool has_limit;      // of an address that is shown
    int64_t limit;       // characters
    const List *schemes; // more than those above
} Links;

// The length of the sign at the front of s that brackets may be: "(", "<" or "&lt;"; 0 where it is none.
static size_t opening(Str s) {
    if (str_starts_with(s, STR("&lt;"))) return 4;
    return s.len && (s.ptr[0] == '(' || s.ptr[0] == '<');
}

// The same for what a word may end with.
static size_t closing(Str s) {
    if (str_ends_with(s, STR("&gt;"))) return 4;
    return s.len && is_one_of(s.ptr[s.len - 1], ")>.,\n");
}

static size_t count(Str s, Str part) {
    size_t n = 0;
    for (const char *at = s.ptr, *end = s.ptr + s.len;
         (at = memmem(at, (size_t)(end - at), part.ptr, part.len)); at += part.len)
        n++;
    return n;
}

// A word is head, middle and tail. Closing brackets go back to a middle that has more opening ones.
static size_t balance(Str word, size_t from, size_t to) {
    static const struct {
        Str open, close;
    } pairs[] = {{STR("("), STR(")")}, {STR("<"), STR(">")}, {STR("&lt;"), STR("&gt;")}};
    for (size_t i = 0; i < COUNT_OF(pairs); i++) {
        Str middle = str_slice(word, from, to), tail = str_slice(word, to, word.len);
        size_t n_open = count(middle, pairs[i].open), n_close = count(tail, pairs[i].close);
        if (n_open <= count(middle, pairs[i].close)) continue;
        for (size_t n = n_open < n_close ? n_open : n_close; n > 0; n--) {
            const char *found = memmem(word.ptr + to, word.len - to, pairs[i].close.ptr, pairs[i].close.len);
            to = (size_t)(found - word.ptr) + pairs[i].close.len;
        }
    }
    return to;
}

static bool put(Links *l, Str s) {
    return pieces_add_str(l->run, &l->out, s, ORIGIN_TEMPLATE);
}

// <a href="SCHEME TARGET" attributes>shown</a>
static bool put_link(Links *l, Str scheme, Text target, bool has_attributes, Text shown, Str behind) {
    return put(l, STR("<a href=\"")) && put(l, scheme) && pieces_add(l->run, &l->out, target) &&
           put(l, STR("\"")) && (!has_attributes || pieces_add(l->run, &l->out, l->attributes)) &&
           put(l, STR(">")) && pieces_add(l->run, &l->out, shown) && put(l, behind) && put(l, STR("</a>"));
}

static bool put_url(Links *l, Text url) {
    Str s = text_str(&url);
    bool has_scheme = str_starts_with(s, STR("https://")) || str_starts_with(s, STR("http://"));
    int64_t n = (int64_t)text_characters(&url), shown = n;
    bool is_cut = l->has_limit && n > l->limit;
    if (is_cut) shown = l->limit >= 0 ? l->limit : l->limit > -n ? n + l->limit : 0;
    return put_link(l, has_scheme ? STR("") : STR("https://"), url, true,
                    text_slice(url, 0, text_offset(&url, (size_t)shown)), is_cut ? STR("...") : STR(""));
}

// By the schemes that the template names: each wraps what the ones before made of it.
static bool put_by_schemes(Links *l, Text word) {
    if (!run_steps(l->run, 1 + l->schemes->count / 4)) return false;
    for (size_t i = 0; i < l->schemes->count; i++) {
        Str scheme = text_str(l->schemes->items[i].text), s = text_str(&word);
        if (str_eq(s, scheme) || !str_starts_with(s, scheme)) continue;
        Pieces before = l->out;
        l->out = (Pieces){0};
        if (!put_link(l, STR(""), word, true, word, STR("")) || !pieces_join(l->run, &l->out, &word))
            return false;
        l->out = before;
    }
    return pieces_add(l->run, &l->out, word);
}

static bool put_middle(Links *l, Text middle) {
    Str s = text_str(&middle), mail = STR("mailto:");
    bool is_plain = memchr(s.ptr, '@', s.len) && !str_starts_with(s, STR("www.")) &&
                    !str_starts_with(s, STR("@")) && !memchr(s.ptr, ':', s.len);
    if (is_url(s)) return put_url(l, middle);
    if (str_starts_with(s, mail) && is_email(str_slice(s, mail.len, s.len)))
        return put_link(l, STR(""), middle, false, text_slice(middle, mail.len, middle.len), STR(""));
    if (is_plain && is_email(s)) return put_link(l, mail, middle, false, middle, STR(""));
    return put_by_schemes(l, middle);
}

static bool put_word(Links *l, Text word) {
    Str s = text_str(&word);
    size_t from = 0, to = s.len, length;
    while ((length = opening(str_slice(s, from, s.len))))
        from += length;
    while ((length = closing(str_slice(s, from, to))))
        to -= length;
    to = balance(s, from, to);
    return pieces_add(l->run, &l->out, text_slice(word, 0, from)) &&
           put_middle(l, text_slice(word, from, to)) &&
           pieces_add(l->run, &l->out, text_slice(word, to, word.len));
}

// ---- urlize: arguments ----

static bool is_scheme_sign(uint32_t c) {
    return py_is_word(c) || c == '.' || c == '+' || c == '-';
}

static bool read_schemes(Links *l, Value v) {
    static const List none = {0};
    l->schemes = &none;
    if (is_absent(v) || v.kind == V_NONE) return true;
    if (!value_iterate(l->run, v, &l->schemes)) return false;
    for (size_t i = 0; i < l->schemes->count; i++) {
        Text scheme;
        if (!arg_text(l->run, l->schemes->items[i], "a scheme", &scheme)) return false;
        Str name, rest = text_str(&scheme);
        bool ok = cut(&rest, ':', &name) && all(name, is_scheme_sign, 2, SIZE_MAX) &&
                  (rest.len == 0 || str_eq(rest, STR("/")) || str_eq(rest, STR("//")));
        if (!ok)
            return run_fail(l->run, "'%.*s' is not a valid URI scheme prefix.", STR_ARG(text_str(&scheme)));
    }
    return true;
}

// rel: the words that are given, nofollow and noopener, sorted, each once.
static bool put_rel(Links *l, Pieces *p, Value rel, bool nofollow) {
    Run *run = l->run;
    const Args none = {0};
    Pieces all_words = {0}, sorted = {0};
    Text text;
    Value words, value, keys;
    bool given = !is_absent(rel) && value_truth(rel);
    if (given && (!arg_text(run, rel, "rel", &text) || !pieces_add(run, &all_words, text))) return false;
    if (!pieces_add_str(run, &all_words, nofollow ? STR(" nofollow noopener") : STR(" noopener"),
                        ORIGIN_TEMPLATE) ||
        !pieces_value(run, &all_words, &value) ||
        !function_call(run, method_find(V_STRING, STR("split")), value, &none, &words) ||
        !value_list(run, V_LIST, words.list->count, &keys)) {
        return false;
    }
    memcpy(keys.list->items, words.list->items, words.list->count * sizeof(Value));
    if (!sort_values(run, words.list->items, keys.list->items, words.list->count, false)) return false;
    for (size_t i = 0; i < words.list->count; i++) {
        const Text *word = words.list->items[i].text;
        if (i && str_eq(text_str(word), text_str(words.list->items[i - 1].text))) continue;
        if ((i && !pieces_add_str(run, &sorted, STR(" "), ORIGIN_TEMPLATE)) ||
            !pieces_add(run, &sorted, *word))
            return false;
    }
    return pieces_join(run, &sorted, &text) && html_escape(run, &text, &value) &&
           pieces_add_str(run, p, STR(" rel=\""), ORIGIN_TEMPLATE) && pieces_add(run, p, *value.text) &&
           pieces_add_str(run, p, STR("\""), ORIGIN_TEMPLATE);
}

static bool put_target(Links *l, Pieces *p, Value target) {
    Text text;
    if (is_absent(target) || !value_truth(target)) return true;
    if (!value_to_text(l->run, target, &text)) return false;
    Value escaped = {0};
    bool ok = text.is_markup ? value_string(l->run, text, &escaped) : html_escape(l->run, &text, &escaped);
    return ok && pieces_add_str(l->run, p, STR(" target=\""), ORIGIN_TEMPLATE) &&
           pieces_add(l->run, p, *escaped.text) && pieces_add_str(l->run, p, STR("\""), ORIGIN_TEMPLATE);
}

FILTER(filter_urlize) {
    (void)args;
    Links l = {.run = run, .has_limit = !is_absent(bound[0]) && bound[0].kind != V_NONE};
    Pieces attributes = {0};
    Text t;
    Value escaped;
    if ((l.has_limit && !arg_integer(run, bound[0], "trim_url_limit", 0, &l.limit)) ||
        !put_rel(&l, &attributes, bound[3], arg_truth(bound[1], false)) ||
        !put_target(&l, &attributes, bound[2]) || !pieces_join(run, &attributes, &l.attributes) ||
        !read_schemes(&l, bound[4]) || !value_to_text(run, self, &t) ||
        !(t.is_markup ? value_string(run, t, &escaped) : html_escape(run, &t, &escaped))) {
        return false;
    }
    t = *escaped.text;
    run_spend(run, t.len / 2);
    t.is_markup = false;
    uint32_t c;
    for (size_t at = 0, end, length; at < t.len; at = end) {
        text_decode(&t, at, &c);
        bool is_space = py_is_space(c);
        for (end = at; end < t.len && (length = text_decode(&t, end, &c)) && py_is_space(c) == is_space;)
            end += length;
        Text word = text_slice(t, at, end);
        if (!(is_space ? pieces_add(run, &l.out, word) : put_word(&l, word))) return false;
    }
    return pieces_value(run, &l.out, out);
}
