#include "load/mix.h"

#include "load/draws.h"

#include <math.h>

// Short conversations with a long tail: on average about 190 tokens in and 204 out, half of them below 95 and
// 130, none above 1,024.
static const LengthMix sharegpt[] = {
    [MIX_OF_PROMPTS] = {MIX_LOG_NORMAL, 4, 1024, 95, 1.3},
    [MIX_OF_OUTPUTS] = {MIX_LOG_NORMAL, 4, 1024, 130, 1.0},
};

static bool parse_tokens(Str text, uint32_t *out) {
    uint64_t value;
    if (!str_parse_u64(text, &value) || value < 1 || value > MIX_TOKENS_MAX) return false;
    *out = (uint32_t)value;
    return true;
}

static Str take_until(Str *text, char separator) {
    const char *at = text->len ? memchr(text->ptr, separator, text->len) : NULL;
    size_t length = at ? (size_t)(at - text->ptr) : text->len;
    Str part = str_slice(*text, 0, length);
    *text = str_slice(*text, at ? length + 1 : length, text->len);
    return part;
}

static bool parse_log_normal(Str text, LengthMix *out) {
    *out = (LengthMix){.kind = MIX_LOG_NORMAL, .least = 1, .most = MIX_TOKENS_MAX};
    Str median = take_until(&text, ','), sigma = take_until(&text, ',');
    return str_parse_f64(median, &out->median) && out->median >= 1 && out->median <= MIX_TOKENS_MAX &&
           str_parse_f64(sigma, &out->sigma) && out->sigma >= 0 && out->sigma <= 4 &&
           (text.len == 0 || parse_tokens(text, &out->most));
}

bool mix_parse(Str text, MixUse use, LengthMix *out, Error *err) {
    Str log_normal = STR("lognormal:"), rest = text;
    if (str_eq(text, STR("sharegpt"))) {
        *out = sharegpt[use];
        return true;
    }
    if (str_starts_with(text, log_normal)) {
        if (parse_log_normal(str_slice(text, log_normal.len, text.len), out)) return true;
    } else {
        *out = (LengthMix){.kind = MIX_FIXED};
        Str least = take_until(&rest, '-');
        if (least.len < text.len) out->kind = MIX_UNIFORM;
        if (parse_tokens(least, &out->least) &&
            parse_tokens(out->kind == MIX_FIXED ? least : rest, &out->most) && out->least <= out->most)
            return true;
    }
    return error_set(err, ERR_USAGE,
                     "%.*s: must be a length (128), a range (64-256), lognormal:MEDIAN,SIGMA or "
                     "lognormal:MEDIAN,SIGMA,MOST (sigma 0 to 4), or sharegpt; lengths are 1 to %d tokens",
                     (int)min_u64(text.len, 80), text.ptr, MIX_TOKENS_MAX);
}

uint32_t mix_draw(const LengthMix *mix, uint64_t key, uint64_t number) {
    if (mix->kind == MIX_FIXED) return mix->least;
    if (mix->kind == MIX_UNIFORM) return draw_between(key, number, mix->least, mix->most);
    double length = round(mix->median * exp(mix->sigma * draw_normal(key, number)));
    if (length < mix->least) return mix->least;
    return length > mix->most ? mix->most : (uint32_t)length;
}

void mix_put(StrBuf *out, const LengthMix *mix, const char *unit) {
    if (mix->kind == MIX_LOG_NORMAL) {
        strbuf_printf(out, "about %g%s (log-normal, sigma %g", mix->median, unit, mix->sigma);
        if (mix->most < MIX_TOKENS_MAX) strbuf_put(out, STR(", at most "));
        if (mix->most < MIX_TOKENS_MAX) strbuf_put_count(out, mix->most);
        strbuf_put_char(out, ')');
        return;
    }
    strbuf_put_count(out, mix->least);
    if (mix->kind == MIX_UNIFORM) strbuf_put(out, STR(" to "));
    if (mix->kind == MIX_UNIFORM) strbuf_put_count(out, mix->most);
    strbuf_put(out, str_from_c(unit));
}
