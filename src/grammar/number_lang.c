#include "grammar/number_lang.h"
#include "grammar/lang_internal.h"
#include "grammar/rx.h"

#include <stdio.h>

// ---- decimals ----

enum { POWER_MAX = 10000 };

// A JSON number, which a double can hold roughly: so its exponent is no large one, or its digits are zeros.
static Decimal decimal_from_text(Str text) {
    Decimal d = {.negative = text.ptr[0] == '-'};
    bool behind_point = false;
    size_t i = d.negative;
    for (; i < text.len && text.ptr[i] != 'e' && text.ptr[i] != 'E'; i++) {
        if (text.ptr[i] == '.') {
            behind_point = true;
        } else if (d.n_digits == 0 && text.ptr[i] == '0') {
            d.point -= behind_point;
        } else {
            d.digits[d.n_digits++] = text.ptr[i];
            d.point += !behind_point;
        }
    }
    bool down = i + 1 < text.len && text.ptr[i + 1] == '-';
    int32_t power = 0;
    for (; i < text.len; i++) {
        if (text.ptr[i] >= '0' && text.ptr[i] <= '9' && power < POWER_MAX)
            power = power * 10 + text.ptr[i] - '0';
    }
    d.point += down ? -power : power;
    while (d.n_digits && d.digits[d.n_digits - 1] == '0')
        d.n_digits--;
    if (d.n_digits == 0) d = (Decimal){0};
    return d;
}

Decimal decimal_from_json(const JsonNode *number) {
    char text[40];
    Str written;
    if (json_number_text(number, &written)) return decimal_from_text(written);
    // What has at most 15 digits reads back from its double.
    int n = number->type == JSON_U64 ? snprintf(text, sizeof text, "%llu", (unsigned long long)number->as.u64)
            : number->type == JSON_I64 ? snprintf(text, sizeof text, "%lld", (long long)number->as.i64)
                                       : snprintf(text, sizeof text, "%.14e", number->as.f64);
    return decimal_from_text((Str){text, (size_t)n});
}

bool decimal_is_integer(const Decimal *d) {
    return d->point >= 0 && d->n_digits <= (uint32_t)d->point;
}

// The digit at 10^place; place -1 is the first behind the point.
static uint32_t digit_at(const Decimal *d, int32_t place) {
    int32_t at = d->point - 1 - place;
    return at >= 0 && at < (int32_t)d->n_digits ? (uint32_t)(d->digits[at] - '0') : 0;
}

// Digits before the point (at least one: 0) and behind it.
static uint32_t whole_digits(const Decimal *d) {
    return d->point > 1 ? (uint32_t)d->point : 1;
}

static uint32_t fraction_digits(const Decimal *d) {
    int32_t n = (int32_t)d->n_digits - d->point;
    return n > 0 ? (uint32_t)n : 0;
}

// ---- tables ----

enum { CLASS_OTHER = 10, CLASS_MINUS, CLASS_POINT, CLASS_COUNT }; // below: digits

static const uint32_t number_first[] = {0,   '-', '.', '/', '0', '1', '2', '3',
                                        '4', '5', '6', '7', '8', '9', ':'};
static const uint16_t number_class[] = {
    CLASS_OTHER, CLASS_MINUS, CLASS_POINT, CLASS_OTHER, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, CLASS_OTHER};
static const LangAlphabet number_alphabet = {COUNT_OF(number_first), number_first, number_class, CLASS_COUNT};

static void set_next(LangTable *t, uint32_t state, uint32_t class, uint32_t to) {
    t->next[(size_t)state * CLASS_COUNT + class] = to;
}

// `accepts` is a mask of relations that hold if the text ends here.
static bool add_state(LangTable *t, bool accepts, uint32_t *state, Error *err) {
    if (!lang_table_add(t, state, err)) return false;
    t->accepts[*state] = accepts;
    return true;
}

// A point and the digits behind it, whatever they are: *point is where a '.' leads.
static bool add_any_fraction(LangTable *t, bool accepts, uint32_t *point, Error *err) {
    uint32_t digits;
    if (!add_state(t, false, point, err) || !add_state(t, accepts, &digits, err)) return false;
    for (uint32_t c = 0; c < 10; c++) {
        set_next(t, *point, c, digits);
        set_next(t, digits, c, digits);
    }
    return true;
}

// ---- comparing ----

typedef struct {
    LangTable *t;
    const Decimal *bound;
    int wanted;             // relations of the magnitude
    uint32_t less, greater; // behind a point, where the whole digits decided already
    Error *err;
} Comparer;

// Behind the point, where the whole digits are equal.
static bool add_fraction(Comparer *c, uint32_t *point) {
    uint32_t n = fraction_digits(c->bound), from, digits_less = 0, digits_greater = 0;
    if (!add_state(c->t, false, point, c->err)) return false;
    if (!add_state(c->t, c->wanted & NUMBER_LESS, &digits_less, c->err) ||
        !add_state(c->t, c->wanted & NUMBER_GREATER, &digits_greater, c->err))
        return false;
    for (uint32_t d = 0; d < 10; d++) {
        set_next(c->t, digits_less, d, digits_less);
        set_next(c->t, digits_greater, d, digits_greater);
    }
    from = *point;
    for (uint32_t i = 0; i <= n; i++) {
        uint32_t digit = digit_at(c->bound, -1 - (int32_t)i), same;
        int relation = i + 1 >= n ? NUMBER_EQUAL : NUMBER_LESS; // if the text ends with this digit
        if (!add_state(c->t, c->wanted & relation, &same, c->err)) return false;
        for (uint32_t d = 0; d < 10; d++)
            set_next(c->t, from, d, d < digit ? digits_less : d > digit ? digits_greater : same);
        from = same;
    }
    // Zeros behind the last digit change nothing.
    set_next(c->t, from, 0, from);
    for (uint32_t d = 1; d < 10; d++)
        set_next(c->t, from, d, digits_greater);
    return true;
}

// From `start` on, the spellings of magnitudes in one of the wanted relations to the bound's.
static bool add_magnitudes(LangTable *t, uint32_t start, const Decimal *bound, int wanted, Error *err) {
    Comparer c = {.t = t, .bound = bound, .wanted = wanted, .err = err};
    uint32_t n = whole_digits(bound), point_equal;
    if (!add_any_fraction(t, wanted & NUMBER_LESS, &c.less, err) ||
        !add_any_fraction(t, wanted & NUMBER_GREATER, &c.greater, err) || !add_fraction(&c, &point_equal))
        return false;
    int equal_now = fraction_digits(bound) ? NUMBER_LESS : NUMBER_EQUAL; // a text without a point
    // from[r]: states behind i digits, which so far are less, equal, greater than the bound's.
    uint32_t from[3] = {start, start, start};
    for (uint32_t i = 0; i < n; i++) {
        uint32_t digit = digit_at(bound, (int32_t)(n - 1 - i)), to[3];
        bool last = i + 1 == n;
        int relations[3] = {NUMBER_LESS, last ? equal_now : NUMBER_LESS, last ? NUMBER_GREATER : NUMBER_LESS};
        for (int r = 0; r < 3; r++) {
            if (!add_state(t, wanted & relations[r], &to[r], err)) return false;
            uint32_t point = last && r == 1 ? point_equal : relations[r] == NUMBER_LESS ? c.less : c.greater;
            set_next(t, to[r], CLASS_POINT, point);
        }
        for (uint32_t d = 0; d < 10; d++) {
            if (i == 0 && d == 0 && n > 1) continue; // a zero has no digits behind it; see below
            if (i) set_next(t, from[0], d, to[0]), set_next(t, from[2], d, to[2]);
            set_next(t, from[1], d, d < digit ? to[0] : d > digit ? to[2] : to[1]);
        }
        memcpy(from, to, sizeof from);
    }
    // More digits than the bound has: greater. But nothing follows a zero that is the only digit.
    uint32_t longer, zero;
    if (!add_state(t, wanted & NUMBER_GREATER, &longer, err)) return false;
    set_next(t, longer, CLASS_POINT, c.greater);
    for (uint32_t d = 0; d < 10; d++) {
        set_next(t, longer, d, longer);
        for (int r = 0; r < 3; r++)
            set_next(t, from[r], d, longer);
    }
    uint32_t like = t->next[(size_t)start * CLASS_COUNT]; // where a first 0 leads, if the bound has one digit
    if (!add_state(t, n > 1 ? wanted & NUMBER_LESS : t->accepts[like], &zero, err)) return false;
    set_next(t, zero, CLASS_POINT, n > 1 ? c.less : t->next[(size_t)like * CLASS_COUNT + CLASS_POINT]);
    set_next(t, start, 0, zero);
    return true;
}

bool number_lang_compare(LangMaker *m, const Decimal *bound, int relations, Lang *out, Error *err) {
    if (bound->point > DECIMAL_DIGITS_MAX || bound->point < -DECIMAL_DIGITS_MAX)
        return error_set(err, ERR_TOO_LARGE, "a bound of more than %d digits", DECIMAL_DIGITS_MAX);
    Arena scratch = m->scratch;
    LangTable t = lang_table(&scratch, CLASS_COUNT);
    uint32_t start, negative;
    const int all = NUMBER_LESS | NUMBER_EQUAL | NUMBER_GREATER;
    int mirrored = (relations & NUMBER_EQUAL) | (relations & NUMBER_LESS ? NUMBER_GREATER : 0) |
                   (relations & NUMBER_GREATER ? NUMBER_LESS : 0);
    // What magnitudes of positive and of negative numbers must be; -0 is 0.
    int above = !bound->negative ? relations : relations & NUMBER_GREATER ? all : 0;
    int below = bound->negative || bound->n_digits == 0 ? mirrored : relations & NUMBER_LESS ? all : 0;
    if (!add_state(&t, false, &start, err) || !add_state(&t, false, &negative, err) ||
        !add_magnitudes(&t, start, bound, above, err) || !add_magnitudes(&t, negative, bound, below, err))
        return false;
    set_next(&t, start, CLASS_MINUS, negative);
    return lang_finish(m, scratch, &t, &number_alphabet, out, err);
}

// ---- multiples ----

typedef struct {
    LangTable *t;
    uint32_t modulus, n_fraction;
    uint32_t whole;    // states behind whole digits, one for each remainder
    uint32_t fraction; // … behind j digits of the fraction: + j * modulus + remainder
    uint32_t zeros;    // behind the digits that count, where the remainder is 0
} Multiples;

static uint32_t padded_remainder(const Multiples *p, uint32_t remainder, uint32_t missing_digits) {
    uint64_t r = remainder;
    for (uint32_t i = 0; i < missing_digits; i++)
        r = r * 10 % p->modulus;
    return (uint32_t)r;
}

static bool add_multiples(Multiples *p, Error *err) {
    uint32_t state, m = p->modulus;
    p->whole = p->t->n_states;
    for (uint32_t r = 0; r < m; r++) {
        if (!add_state(p->t, padded_remainder(p, r, p->n_fraction) == 0, &state, err)) return false;
    }
    p->fraction = p->t->n_states;
    for (uint32_t j = 0; j <= p->n_fraction; j++) {
        for (uint32_t r = 0; r < m; r++) {
            bool accepts = j && padded_remainder(p, r, p->n_fraction - j) == 0;
            if (!add_state(p->t, accepts, &state, err)) return false;
        }
    }
    if (!add_state(p->t, true, &p->zeros, err)) return false;
    set_next(p->t, p->zeros, 0, p->zeros);
    for (uint32_t r = 0; r < m; r++) {
        set_next(p->t, p->whole + r, CLASS_POINT, p->fraction + r);
        for (uint32_t d = 0; d < 10; d++) {
            uint32_t then = (uint32_t)(((uint64_t)r * 10 + d) % m);
            set_next(p->t, p->whole + r, d, p->whole + then);
            for (uint32_t j = 0; j < p->n_fraction; j++)
                set_next(p->t, p->fraction + j * m + r, d, p->fraction + (j + 1) * m + then);
        }
    }
    set_next(p->t, p->fraction + p->n_fraction * m, 0, p->zeros);
    return true;
}

bool number_lang_multiple(LangMaker *m, const Decimal *step, Lang *out, Error *err) {
    // step = modulus / 10^n_fraction
    uint64_t modulus = 0;
    uint32_t n_fraction = fraction_digits(step);
    for (int32_t place = (int32_t)whole_digits(step) - 1; place >= -(int32_t)n_fraction; place--) {
        modulus = modulus * 10 + digit_at(step, place);
        if (modulus * (n_fraction + 2) > MULTIPLE_STATES_MAX)
            return error_set(err, ERR_TOO_LARGE, "its digits need an automaton of more than %d states",
                             MULTIPLE_STATES_MAX);
    }
    Arena scratch = m->scratch;
    LangTable t = lang_table(&scratch, CLASS_COUNT);
    Multiples p = {.t = &t, .modulus = (uint32_t)modulus, .n_fraction = n_fraction};
    uint32_t start, negative, zero;
    if (!add_state(&t, false, &start, err) || !add_state(&t, false, &negative, err) ||
        !add_multiples(&p, err) || !add_state(&t, true, &zero, err))
        return false;
    set_next(&t, start, CLASS_MINUS, negative);
    set_next(&t, zero, CLASS_POINT, p.fraction);
    for (uint32_t d = 0; d < 10; d++) {
        uint32_t to = d ? p.whole + d % p.modulus : zero;
        set_next(&t, start, d, to);
        set_next(&t, negative, d, to);
    }
    return lang_finish(m, scratch, &t, &number_alphabet, out, err);
}

// ---- whole sets ----

static bool from_pattern(LangMaker *m, const char *pattern, Lang *out, Error *err) {
    LangMaker inner = *m;
    Rx rx = rx_begin(&inner.scratch);
    uint32_t root;
    bool ok = rx_read_pattern(&rx, str_from_c(pattern), RX_WHOLE, &inner, &root, err) &&
              rx_compile(&rx, root, &inner, out, err);
    m->work = inner.work;
    return ok;
}

bool number_lang_all(LangMaker *m, Lang *out, Error *err) {
    return from_pattern(m, "-?(0|[1-9]\\d*)(\\.\\d+)?", out, err);
}

bool number_lang_exponents(LangMaker *m, Lang *out, Error *err) {
    return from_pattern(m, "-?(0|[1-9]\\d*)(\\.\\d+)?[eE][-+]?\\d+", out, err);
}

bool number_lang_integers(LangMaker *m, Lang *out, Error *err) {
    return from_pattern(m, "-?(0|[1-9]\\d*)(\\.0+)?", out, err);
}

bool number_lang_shortest(LangMaker *m, Lang *out, Error *err) {
    return from_pattern(m, "0|-?[1-9]\\d*|-?(0|[1-9]\\d*)\\.\\d*[1-9]", out, err);
}
