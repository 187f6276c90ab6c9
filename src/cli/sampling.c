#include "cli/sampling.h"

#include "os/os.h"

#include <math.h>

// "ID=VALUE,ID=VALUE…"
static bool read_bias(const char *text, SamplerParams *out, Error *err) {
    for (Str rest = str_from_c(text); rest.len;) {
        const char *comma = memchr(rest.ptr, ',', rest.len);
        Str pair = str_slice(rest, 0, comma ? (size_t)(comma - rest.ptr) : rest.len);
        const char *equals = memchr(pair.ptr, '=', pair.len);
        size_t at = equals ? (size_t)(equals - pair.ptr) : 0;
        uint64_t token;
        double bias;
        bool ok = equals && str_parse_u64(str_slice(pair, 0, at), &token) && token < VOCAB_MAX &&
                  str_parse_f64(str_slice(pair, at + 1, pair.len), &bias);
        if (!ok) {
            return error_set(err, ERR_USAGE,
                             "--logit-bias %.*s: must be ID=VALUE, several of them with commas between",
                             (int)min_u64(pair.len, 100), pair.ptr);
        }
        if (!sampler_add_bias(out, (int32_t)token, (float)bias))
            return error_set(err, ERR_USAGE, "--logit-bias: at most %d tokens", LOGIT_BIAS_MAX);
        rest = str_slice(rest, min_u64(pair.len + 1, rest.len), rest.len);
    }
    return true;
}

uint64_t sampling_draw_seed(void) {
    uint64_t seed;
    os_random(&seed, sizeof seed);
    return seed >> 11;
}

bool sampling_from_options(const Options *o, SamplerParams *out, Error *err) {
    *out = (SamplerParams){.temperature = (float)o->temperature,
                           .top_p = (float)o->top_p,
                           .min_p = (float)o->min_p,
                           .repetition_penalty = (float)o->repetition_penalty,
                           .presence_penalty = (float)o->presence_penalty,
                           .frequency_penalty = (float)o->frequency_penalty,
                           .top_k = o->top_k,
                           .seed = options_given(o, FLAG_SEED) ? o->seed : sampling_draw_seed()};
    return !o->logit_bias || read_bias(o->logit_bias, out, err);
}

// ---- of a file ----

#define AT(field) offsetof(SamplingDefaults, field)
const SamplingKey sampling_keys[SAMPLING_KEYS] = {
    {"general.sampling.temp", "temperature", AT(temperature), 0, 2},
    {"general.sampling.top_p", "top_p", AT(top_p), 0, 1},
    {"general.sampling.top_k", "top_k", AT(top_k), -1, VOCAB_MAX},
    {"general.sampling.min_p", "min_p", AT(min_p), 0, 1},
    {"general.sampling.penalty_repeat", "repetition_penalty", AT(repetition_penalty), 0.01, 2},
    {"general.sampling.penalty_present", "presence_penalty", AT(presence_penalty), -2, 2},
    {"general.sampling.penalty_freq", "frequency_penalty", AT(frequency_penalty), -2, 2},
};

// NAN for what is no number.
static double number_of(const GgufValue *v) {
    switch (v->type) {
    case GGUF_F32:
    case GGUF_F64: return v->f64;
    case GGUF_I8:
    case GGUF_I16:
    case GGUF_I32:
    case GGUF_I64: return (double)v->i64;
    case GGUF_U8:
    case GGUF_U16:
    case GGUF_U32:
    case GGUF_U64: return (double)v->u64;
    default: return (double)NAN;
    }
}

SamplingDefaults sampling_of_file(const GgufFile *file, StrBuf *unused) {
    SamplingDefaults d = SAMPLING_DEFAULTS_NONE;
    for (size_t i = 0; file && i < SAMPLING_KEYS; i++) {
        const SamplingKey *key = &sampling_keys[i];
        const GgufValue *v = gguf_find_value(file, str_from_c(key->key));
        if (!v) continue;
        double value = number_of(v);
        bool is_whole = key->offset == AT(top_k);
        if (value >= key->least && value <= key->most && (!is_whole || value == floor(value))) {
            memcpy((uint8_t *)&d + key->offset, &value, sizeof value);
            continue;
        }
        strbuf_printf(unused, "%s%s is ", unused->len ? ", " : "", key->key);
        gguf_put_value(v, unused);
        strbuf_printf(unused, " (expected %s%g to %.7g)", is_whole ? "a whole number of " : "", key->least,
                      key->most);
    }
    return d;
}
