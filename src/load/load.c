#include "load/load.h"

#include "load/arrivals.h"

const char *load_api_name(LoadApi api) {
    static const char *const names[] = {"chat", "completions", "execute"};
    return names[api];
}

static const struct {
    const char *name;
    size_t offset;
} limit_rows[] = {
    {"first_token", offsetof(LoadLimits, first_token)},
    {"between", offsetof(LoadLimits, between)},
    {"gap", offsetof(LoadLimits, gap)},
    {"whole", offsetof(LoadLimits, whole)},
};

static bool parse_limit(Str part, LoadLimits *out) {
    const char *colon = memchr(part.ptr, ':', part.len);
    if (!colon) return false;
    Str name = {part.ptr, (size_t)(colon - part.ptr)};
    for (size_t i = 0; i < COUNT_OF(limit_rows); i++) {
        double *field = (double *)(void *)((char *)out + limit_rows[i].offset);
        if (str_eq(name, str_from_c(limit_rows[i].name)))
            return str_parse_f64(str_slice(part, name.len + 1, part.len), field) && *field > 0;
    }
    return false;
}

bool load_parse_limits(Str text, LoadLimits *out, Error *err) {
    *out = (LoadLimits){0};
    for (Str rest = text;;) {
        const char *comma = rest.len ? memchr(rest.ptr, ',', rest.len) : NULL;
        size_t length = comma ? (size_t)(comma - rest.ptr) : rest.len;
        if (length == 0 || !parse_limit(str_slice(rest, 0, length), out)) {
            return error_set(err, ERR_USAGE,
                             "%.*s: must be limits in ms such as first_token:200,between:50; there are "
                             "first_token, between (mean time between a request's tokens), gap (the longest) "
                             "and whole",
                             (int)min_u64(text.len, 80), text.ptr);
        }
        if (!comma) return true;
        rest = str_slice(rest, length + 1, rest.len);
    }
}

void load_put_limits(StrBuf *out, const LoadLimits *limits) {
    const struct {
        const char *name;
        double ms;
    } rows[] = {{"first token", limits->first_token},
                {"between", limits->between},
                {"gap", limits->gap},
                {"whole", limits->whole}};
    const char *comma = "";
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        if (rows[i].ms <= 0) continue;
        strbuf_printf(out, "%s%s %g ms", comma, rows[i].name, rows[i].ms);
        comma = ", ";
    }
}

static void put_arrivals(StrBuf *out, const LoadConfig *c) {
    if (c->trace && c->trace->has_times) {
        strbuf_put(out, STR("arrivals of the trace"));
    } else if (c->rate > 0) {
        strbuf_printf(out, "%g requests/s", c->rate);
        if (c->burst > 1) strbuf_printf(out, " in bursts of %u", c->burst);
    } else {
        strbuf_printf(out, "%u client%s", c->clients, plural_s(c->clients));
    }
}

// Those that its lines leave open.
static void put_lengths_of_trace(StrBuf *out, const LoadConfig *c, const Trace *trace) {
    if (trace->n_without_prompt) {
        strbuf_printf(out, ", %u of them without a prompt's length: ", trace->n_without_prompt);
        mix_put(out, &c->prompts, " tokens");
    }
    if (trace->n_without_output) {
        strbuf_printf(out, ", %u of them without an answer's length: ", trace->n_without_output);
        mix_put(out, &c->outputs, " tokens");
    }
}

void load_put_settings(StrBuf *out, const LoadConfig *c) {
    put_arrivals(out, c);
    strbuf_put(out, c->trace ? STR(", trace of ") : STR(", prompts of "));
    if (c->trace) {
        strbuf_put_count(out, c->trace->count);
        strbuf_printf(out, " request%s", plural_s(c->trace->count));
        put_lengths_of_trace(out, c, c->trace);
    } else {
        mix_put(out, &c->prompts, " tokens");
        strbuf_put(out, STR(", answers of "));
        mix_put(out, &c->outputs, "");
    }
    if (c->shared_prefix) strbuf_printf(out, ", %u shared in front", c->shared_prefix);
    if (c->prefix_groups > 1) strbuf_printf(out, " in %u groups", c->prefix_groups);
    if (c->turns > 1) strbuf_printf(out, ", %u turns", c->turns);
    if (c->cancel_share > 0) strbuf_printf(out, ", %g%% cancelled", c->cancel_share * 100);
    strbuf_printf(out, "; temperature %g, seed %llu", c->temperature, (unsigned long long)c->seed);
}
