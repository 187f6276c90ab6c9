#include "cli/sampling.h"

#include "os/os.h"

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
