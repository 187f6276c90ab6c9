// Python's operators on values.
#include "template/functions.h"
#include "template/py_format.h"

#include <math.h>

enum { REPEAT_BYTES_MAX = 16 << 20 };

static bool fail_types(Run *run, const char *sign, Value a, Value b) {
    if (a.kind == V_UNDEFINED) return run_fail(run, "'%s' is undefined", a.name);
    if (b.kind == V_UNDEFINED) return run_fail(run, "'%s' is undefined", b.name);
    return run_fail(run, "unsupported operand types for %s: '%s' and '%s'", sign, value_type_name(a),
                    value_type_name(b));
}

static bool too_large(Run *run) {
    return run_fail(run, "an integer beyond 64 bits");
}

static bool join_lists(Run *run, Value a, Value b, Value *out) {
    Value joined;
    if (!value_list(run, a.kind, a.list->count + b.list->count, &joined)) return false;
    memcpy(joined.list->items, a.list->items, a.list->count * sizeof(Value));
    memcpy(joined.list->items + a.list->count, b.list->items, b.list->count * sizeof(Value));
    *out = joined;
    return true;
}

static bool add(Run *run, Value a, Value b, Value *out) {
    if (value_is_integer(a) && value_is_integer(b)) {
        int64_t sum;
        if (__builtin_add_overflow(value_integer(a), value_integer(b), &sum)) return too_large(run);
        *out = value_int(sum);
        return true;
    }
    if (value_is_number(a) && value_is_number(b)) {
        *out = value_float(value_number(a) + value_number(b));
        return true;
    }
    if (a.kind == V_STRING && b.kind == V_STRING) {
        Pieces p = {0};
        bool is_markup = a.text->is_markup || b.text->is_markup;
        if (is_markup && (!value_escape(run, &a) || !value_escape(run, &b))) return false;
        return pieces_add(run, &p, *a.text) && pieces_add(run, &p, *b.text) && pieces_value(run, &p, out) &&
               (!is_markup || value_as_markup(run, out));
    }
    if (a.kind == b.kind && (a.kind == V_LIST || a.kind == V_TUPLE)) return join_lists(run, a, b, out);
    return fail_types(run, "+", a, b);
}

static bool subtract(Run *run, Value a, Value b, Value *out) {
    if (value_is_integer(a) && value_is_integer(b)) {
        int64_t difference;
        if (__builtin_sub_overflow(value_integer(a), value_integer(b), &difference)) return too_large(run);
        *out = value_int(difference);
        return true;
    }
    if (!value_is_number(a) || !value_is_number(b)) return fail_types(run, "-", a, b);
    *out = value_float(value_number(a) - value_number(b));
    return true;
}

static bool repeat(Run *run, Value v, int64_t times, Value *out) {
    size_t n = times > 0 ? (size_t)times : 0;
    size_t size = v.kind == V_STRING ? v.text->len : v.list->count * sizeof(Value);
    if (size && n > REPEAT_BYTES_MAX / size) return run_fail(run, "a product that is too long");
    if (!run_steps(run, n)) return false;
    if (v.kind == V_STRING) {
        Pieces p = {0};
        for (size_t i = 0; size && i < n; i++) {
            if (!pieces_add(run, &p, *v.text)) return false;
        }
        return pieces_value(run, &p, out) && (!v.text->is_markup || value_as_markup(run, out));
    }
    Value repeated;
    if (!value_list(run, v.kind, v.list->count * n, &repeated)) return false;
    for (size_t i = 0; size && i < n; i++)
        memcpy(repeated.list->items + i * v.list->count, v.list->items, size);
    *out = repeated;
    return true;
}

static bool is_repeatable(Value v) {
    return v.kind == V_STRING || v.kind == V_LIST || v.kind == V_TUPLE;
}

static bool multiply(Run *run, Value a, Value b, Value *out) {
    if (value_is_integer(a) && value_is_integer(b)) {
        int64_t product;
        if (__builtin_mul_overflow(value_integer(a), value_integer(b), &product)) return too_large(run);
        *out = value_int(product);
        return true;
    }
    if (is_repeatable(a) && value_is_integer(b)) return repeat(run, a, value_integer(b), out);
    if (is_repeatable(b) && value_is_integer(a)) return repeat(run, b, value_integer(a), out);
    if (!value_is_number(a) || !value_is_number(b)) return fail_types(run, "*", a, b);
    *out = value_float(value_number(a) * value_number(b));
    return true;
}

// Python's float.__floordiv__ and __mod__: the remainder has the divisor's sign, and the quotient is the
// difference's.
static double float_mod(double a, double b) {
    double rest = fmod(a, b);
    if (rest != 0 && (rest < 0) != (b < 0)) rest += b;
    return rest != 0 ? rest : copysign(0, b);
}

static double float_floor_divide(double a, double b) {
    double rest = fmod(a, b), quotient = (a - rest) / b;
    if (rest != 0 && (rest < 0) != (b < 0)) quotient -= 1;
    if (quotient == 0) return copysign(0, a / b);
    double whole = floor(quotient);
    return quotient - whole > 0.5 ? whole + 1 : whole;
}

static bool divide(Run *run, Operator op, Value a, Value b, Value *out) {
    if (!value_is_number(a) || !value_is_number(b))
        return fail_types(run, op == OP_DIV ? "/" : op == OP_MOD ? "%" : "//", a, b);
    if (value_number(b) == 0) return run_fail(run, "division by zero");
    if (op == OP_DIV || !value_is_integer(a) || !value_is_integer(b)) {
        double x = value_number(a), y = value_number(b);
        *out = value_float(op == OP_DIV ? x / y : op == OP_MOD ? float_mod(x, y) : float_floor_divide(x, y));
        return true;
    }
    int64_t x = value_integer(a), y = value_integer(b);
    if (y == -1) {
        *out = value_int(0);
        return op == OP_MOD || value_negate(run, value_int(x), out);
    }
    int64_t rest = x % y, quotient = x / y;
    if (rest != 0 && (rest < 0) != (y < 0)) {
        rest += y;
        quotient--;
    }
    *out = value_int(op == OP_MOD ? rest : quotient);
    return true;
}

static bool raise_to(Run *run, Value a, Value b, Value *out) {
    if (!value_is_number(a) || !value_is_number(b)) return fail_types(run, "**", a, b);
    if (!value_is_integer(a) || !value_is_integer(b) || value_integer(b) < 0) {
        double x = value_number(a), y = value_number(b);
        if (x == 0 && y < 0) return run_fail(run, "0.0 cannot be raised to a negative power");
        double power = pow(x, y);
        if (power != power && x == x && y == y) return run_fail(run, "a complex number");
        if (isinf(power) && isfinite(x) && isfinite(y)) return run_fail(run, "a power that is too large");
        *out = value_float(power);
        return true;
    }
    int64_t base = value_integer(a), power = 1;
    for (int64_t n = value_integer(b); n > 0; n >>= 1) {
        if (n & 1 && __builtin_mul_overflow(power, base, &power)) return too_large(run);
        if (n > 1 && __builtin_mul_overflow(base, base, &base)) return too_large(run);
    }
    *out = value_int(power);
    return true;
}

bool value_binary(Run *run, Operator op, Value a, Value b, Value *out) {
    switch (op) {
    case OP_ADD: return add(run, a, b, out);
    case OP_SUB: return subtract(run, a, b, out);
    case OP_MUL: return multiply(run, a, b, out);
    case OP_POW: return raise_to(run, a, b, out);
    case OP_MOD:
        if (a.kind == V_STRING && a.text->is_markup)
            return value_escape(run, &b) && py_format_percent(run, a.text, b, out) &&
                   value_as_markup(run, out);
        if (a.kind == V_STRING) return py_format_percent(run, a.text, b, out);
        return divide(run, op, a, b, out);
    default: return divide(run, op, a, b, out);
    }
}

bool value_negate(Run *run, Value v, Value *out) {
    if (v.kind == V_FLOAT) *out = value_float(-v.real);
    else if (!value_is_integer(v)) return fail_types(run, "unary -", v, v);
    else if (value_integer(v) == INT64_MIN) return too_large(run);
    else *out = value_int(-value_integer(v));
    return true;
}
