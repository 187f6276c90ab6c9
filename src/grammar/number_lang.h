// Sets of numbers as languages of their JSON spellings without exponents: all texts of the form
// -?(0|[1-9][0-9]*)(\.[0-9]+)? whose value is in the set. Bounds are decimals, compared exactly (no rounding
// to doubles).
//
// With exponents a bound is no regular language (1e-400 against 0.0...01), so only the set of all numbers has
// a language of its own for them.
#pragma once

#include "base/limits.h"
#include "grammar/lang.h"
#include "json/json_reader.h"

enum {
    DECIMAL_DIGITS_MAX = 400, // before the point of a bound, or zeros behind it
    MULTIPLE_STATES_MAX = 20000,
};

// ±0.d1d2d3… × 10^point, with no zero first or last; no digits: zero.
typedef struct {
    bool negative;
    uint32_t n_digits;
    int32_t point;
    char digits[JSON_NUMBER_BYTES_MAX];
} Decimal;

// The value of a JSON number, exactly as it was written.
Decimal decimal_from_json(const JsonNode *number);
bool decimal_is_integer(const Decimal *d);

enum { NUMBER_LESS = 1, NUMBER_EQUAL = 2, NUMBER_GREATER = 4 };

MUST_CHECK bool number_lang_all(LangMaker *m, Lang *out, Error *err);
MUST_CHECK bool number_lang_exponents(LangMaker *m, Lang *out, Error *err); // those with an exponent
MUST_CHECK bool number_lang_integers(LangMaker *m, Lang *out, Error *err);  // by value, so that 1.0 is one
// The shortest spelling of each number: no zeros behind a fraction, no -0.
MUST_CHECK bool number_lang_shortest(LangMaker *m, Lang *out, Error *err);
// Numbers that compare with `bound` as one of `relations` (a mask of NUMBER_…).
MUST_CHECK bool number_lang_compare(LangMaker *m, const Decimal *bound, int relations, Lang *out, Error *err);
// Multiples of a positive number; ERR_TOO_LARGE where that has too many digits.
MUST_CHECK bool number_lang_multiple(LangMaker *m, const Decimal *step, Lang *out, Error *err);
