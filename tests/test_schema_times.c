// How long schemas take to compile: random ones of the shape that tools and answers have, and large ones.
#include "base/rng.h"
#include "runner.h"
#include "schema_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { SCHEMA_BYTES = 1 << 18, DEPTH_MAX = 4 };

typedef struct {
    StrBuf *out;
    uint64_t seed, draws;
} Maker;

static uint32_t draw(Maker *m, uint32_t below) {
    return rng_philox(m->seed, m->draws++).word[0] % below;
}

static void put_word(Maker *m) {
    static const char *const words[] = {"user",     "name", "id",     "date", "city",   "amount",
                                        "currency", "list", "status", "page", "filter", "query",
                                        "email",    "url",  "tag",    "note"};
    strbuf_put(m->out, str_from_c(words[draw(m, COUNT_OF(words))]));
    if (draw(m, 3)) strbuf_printf(m->out, "_%s", words[draw(m, COUNT_OF(words))]);
}

static void put_schema(Maker *m, int depth);

static void put_description(Maker *m) {
    strbuf_put(m->out, STR(",\"description\":\""));
    for (uint32_t i = draw(m, 12); i > 0; i--) {
        put_word(m);
        strbuf_put_char(m->out, i > 1 ? ' ' : '.');
    }
    strbuf_put_char(m->out, '"');
}

static void put_string(Maker *m) {
    static const char *const formats[] = {"date-time", "date", "email", "uri", "uuid", "ipv4"};
    static const char *const patterns[] = {"^[A-Z]{2,3}$", "^\\\\d{4}-\\\\d{2}$", "^#[0-9a-fA-F]{6}$",
                                           "^[a-z0-9]+(-[a-z0-9]+)*$", "^\\\\+?[1-9]\\\\d{1,14}$"};
    strbuf_put(m->out, STR("{\"type\":\"string\""));
    switch (draw(m, 10)) {
    case 0: strbuf_printf(m->out, ",\"format\":\"%s\"", formats[draw(m, COUNT_OF(formats))]); break;
    case 1: strbuf_printf(m->out, ",\"pattern\":\"%s\"", patterns[draw(m, COUNT_OF(patterns))]); break;
    case 2: strbuf_printf(m->out, ",\"minLength\":%u,\"maxLength\":%u", draw(m, 3), 3 + draw(m, 500)); break;
    case 3:
    case 4:
        strbuf_put(m->out, STR(",\"enum\":["));
        for (uint32_t i = 2 + draw(m, 12); i > 0; i--) {
            strbuf_put_char(m->out, '"');
            put_word(m);
            strbuf_printf(m->out, "%u\"%s", i, i > 1 ? "," : "]");
        }
        break;
    default: break;
    }
    put_description(m);
    strbuf_put_char(m->out, '}');
}

static void put_number(Maker *m) {
    strbuf_printf(m->out, "{\"type\":\"%s\"", draw(m, 2) ? "integer" : "number");
    if (draw(m, 2)) strbuf_printf(m->out, ",\"minimum\":%u", draw(m, 10));
    if (draw(m, 2)) strbuf_printf(m->out, ",\"maximum\":%u", 10 + draw(m, 100000));
    put_description(m);
    strbuf_put_char(m->out, '}');
}

static void put_object(Maker *m, int depth) {
    uint32_t n = 1 + draw(m, depth == 0 ? 14 : 6), n_required = 0;
    strbuf_put(m->out, STR("{\"type\":\"object\",\"properties\":{"));
    for (uint32_t i = 0; i < n; i++) {
        strbuf_printf(m->out, "%s\"%s_%u\":", i ? "," : "", i % 2 ? "the_member" : "value", i);
        put_schema(m, depth + 1);
    }
    strbuf_put_char(m->out, '}');
    if (draw(m, 3)) strbuf_put(m->out, STR(",\"additionalProperties\":false"));
    strbuf_put(m->out, STR(",\"required\":["));
    for (uint32_t i = 0; i < n; i += 2)
        if (draw(m, 2)) strbuf_printf(m->out, "%s\"value_%u\"", n_required++ ? "," : "", i);
    strbuf_put(m->out, STR("]}"));
}

// One of each kind.
static void put_any_of(Maker *m, int depth) {
    strbuf_put(m->out, STR("{\"anyOf\":["));
    if (draw(m, 2)) put_string(m), strbuf_put_char(m->out, ',');
    if (draw(m, 2)) put_number(m), strbuf_put_char(m->out, ',');
    if (draw(m, 2)) put_object(m, depth + 1), strbuf_put_char(m->out, ',');
    strbuf_put(m->out, STR("{\"type\":\"null\"}]}"));
}

static void put_schema(Maker *m, int depth) {
    uint32_t kind = depth == 0 ? 9 : draw(m, depth < DEPTH_MAX ? 16 : 9);
    if (kind < 5) put_string(m);
    else if (kind < 7) put_number(m);
    else if (kind == 7) strbuf_put(m->out, STR("{\"type\":\"boolean\"}"));
    else if (kind == 8) strbuf_put(m->out, STR("{\"type\":[\"string\",\"null\"]}"));
    else if (kind < 12) put_object(m, depth);
    else if (kind < 15) {
        strbuf_printf(m->out, "{\"type\":\"array\",\"maxItems\":%u,\"items\":", 1 + draw(m, 50));
        put_schema(m, depth + 1);
        strbuf_put_char(m->out, '}');
    } else put_any_of(m, depth);
}

static uint64_t cpu_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t compile_ns(Str schema) {
    SchemaRun run;
    SchemaOptions options = {.blanks = SCHEMA_BLANKS_FEW, .schema_order = true, .plain_numbers = true};
    uint64_t before = cpu_ns();
    bool ok = schema_run_compile(&run, schema, &options);
    uint64_t took = cpu_ns() - before;
    if (!CHECK(ok)) printf("%s\n%.*s\n", run.err.message, STR_ARG(schema));
    return took;
}

static int compare_u64(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static char memory[SCHEMA_BYTES];

// SCHEMA_TIMES=1000: so many, from SCHEMA_SEED on. The bound only finds what has gone astray.
TEST(schema_times_of_random_tools) {
    static uint64_t times[1 << 16];
    uint64_t n, first;
    if (!str_parse_u64(str_from_c(getenv("SCHEMA_TIMES")), &n) || n == 0 || n > COUNT_OF(times)) n = 40;
    if (!str_parse_u64(str_from_c(getenv("SCHEMA_SEED")), &first)) first = 1;
    uint64_t slowest = 0;
    for (uint64_t i = 0; i < n; i++) {
        StrBuf out = STRBUF(memory);
        Maker m = {.out = &out, .seed = first + i};
        put_schema(&m, 0);
        times[i] = compile_ns(strbuf_str(&out));
        if (times[i] > times[slowest]) slowest = i;
    }
    uint64_t seed = first + slowest;
    qsort(times, n, sizeof times[0], compare_u64);
    printf("%llu schemas: median %.2f ms, 99%% %.2f ms, longest %.2f ms (seed %llu)\n", (unsigned long long)n,
           (double)times[n / 2] / 1e6, (double)times[n - 1 - n / 100] / 1e6, (double)times[n - 1] / 1e6,
           (unsigned long long)seed);
    CHECK(times[n - 1] < 2000000000u);
}

static void put_members(StrBuf *out) {
    strbuf_put(out, STR("{\"type\":\"object\",\"properties\":{"));
    for (int i = 0; i < 1000; i++)
        strbuf_printf(out, "%s\"member_%d\":{\"type\":\"%s\"}", i ? "," : "", i * 37,
                      i % 3 ? "string" : "integer");
    strbuf_put(out, STR("},\"required\":[\"member_0\",\"member_37\"]}"));
}

static void put_pattern(StrBuf *out) {
    strbuf_put(out, STR("{\"type\":\"string\",\"pattern\":\"^[ab]*a[ab]{12}$\"}"));
}

static void put_enum(StrBuf *out) {
    strbuf_put(out, STR("{\"enum\":["));
    for (int i = 0; i < 1000; i++)
        strbuf_printf(out, "%s\"value %d of %d\"", i ? "," : "", i * 7919 % 100003, i);
    strbuf_put(out, STR("]}"));
}

TEST(schema_times_of_large_ones) {
    static const struct {
        const char *label;
        void (*put)(StrBuf *out);
    } large[] = {{"1,000 members", put_members},
                 {"an enum of 1,000 strings", put_enum},
                 {"a pattern of 8,192 states", put_pattern}};
    for (size_t i = 0; i < COUNT_OF(large); i++) {
        StrBuf out = STRBUF(memory);
        large[i].put(&out);
        printf("%s: %.1f ms\n", large[i].label, (double)compile_ns(strbuf_str(&out)) / 1e6);
    }
}
