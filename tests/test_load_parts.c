// The parts of the load generator that are pure: distributions, arrivals, texts, histograms, events,
// requests.
#include "json/json_reader.h"
#include "json/json_scan.h"
#include "load/arrivals.h"
#include "load/chart.h"
#include "load/chart_axis.h"
#include "load/draws.h"
#include "load/report.h"
#include "load/request.h"
#include "load/stats.h"
#include "load/words.h"
#include "os/os.h"
#include "runner.h"
#include "worker_process.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { MANY = 100000 };

static int compare(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

// ---- lengths ----

// Seeded, so these are the figures of these very numbers, within what a hundred thousand draws may be off.
TEST(load_mixes_have_their_mean_and_quantiles) {
    static const struct {
        const char *text;
        MixUse use;
        double mean, p10, p50, p90;
        uint32_t least, most;
    } rows[] = {
        {"128", MIX_OF_PROMPTS, 128, 128, 128, 128, 128, 128},
        {"10-19", MIX_OF_PROMPTS, 14.5, 10, 14.5, 19, 10, 19},
        {"1-1000", MIX_OF_OUTPUTS, 500.5, 100, 500, 900, 1, 1000},
        // exp(sigma^2 / 2), exp(+-1.2816 sigma)
        {"lognormal:200,0.5", MIX_OF_PROMPTS, 226.6, 105.4, 200, 379.6, 1, 1 << 20},
        {"lognormal:200,0", MIX_OF_PROMPTS, 200, 200, 200, 200, 200, 200},
        {"lognormal:1000,1,1000", MIX_OF_PROMPTS, 761.6, 277.6, 999, 1000, 1, 1000},
        {"sharegpt", MIX_OF_PROMPTS, 189.6, 18, 95, 503, 4, 1024},
        {"sharegpt", MIX_OF_OUTPUTS, 203.7, 36, 130, 468, 4, 1024},
    };
    static uint32_t drawn[MANY];
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].text);
        LengthMix mix;
        Error err;
        double sum = 0;
        REQUIRE(mix_parse(str_from_c(rows[i].text), rows[i].use, &mix, &err));
        for (uint32_t k = 0; k < MANY; k++) {
            drawn[k] = mix_draw(&mix, draw_key(7, DRAW_PROMPT_LENGTHS), k);
            sum += drawn[k];
        }
        qsort(drawn, MANY, sizeof drawn[0], compare);
        CHECK_NEAR(rows[i].mean, sum / MANY, rows[i].mean * 0.01);
        CHECK_NEAR(rows[i].p10, drawn[MANY / 10], 1 + rows[i].p10 * 0.02);
        CHECK_NEAR(rows[i].p50, drawn[MANY / 2], 1 + rows[i].p50 * 0.02);
        CHECK_NEAR(rows[i].p90, drawn[MANY / 10 * 9], 1 + rows[i].p90 * 0.02);
        CHECK(drawn[0] >= rows[i].least && drawn[MANY - 1] <= rows[i].most);
    }
}

TEST(load_mixes_that_are_refused) {
    static const char *const rows[] = {"",
                                       "0",
                                       "-5",
                                       "5-",
                                       "9-8",
                                       "1-2-3",
                                       "1048577",
                                       "abc",
                                       "lognormal",
                                       "lognormal:5",
                                       "lognormal:5,",
                                       "lognormal:0,1",
                                       "lognormal:5,5",
                                       "lognormal:5,1,0",
                                       "lognormal:5,1,9,9",
                                       "1.5"};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("\"%s\"", rows[i]);
        LengthMix mix;
        Error err;
        CHECK(!mix_parse(str_from_c(rows[i]), MIX_OF_PROMPTS, &mix, &err));
        CHECK_INT_EQ(ERR_USAGE, err.code);
        CHECK(strstr(err.message, "must be a length (128), a range (64-256)"));
    }
}

TEST(load_draws_are_what_they_are_called) {
    uint64_t key = draw_key(1, DRAW_CANCELS);
    double sum = 0, square = 0, exponential = 0, least = 1, most = 0;
    for (uint32_t i = 0; i < MANY; i++) {
        double normal = draw_normal(key, i), unit = draw_uniform(key, i);
        sum += normal;
        square += normal * normal;
        exponential += draw_exponential(key, i);
        least = fmin(least, unit);
        most = fmax(most, unit);
    }
    CHECK_NEAR(0, sum / MANY, 0.01);
    CHECK_NEAR(1, square / MANY, 0.02);
    CHECK_NEAR(1, exponential / MANY, 0.01);
    CHECK(least > 0 && least < 1e-4 && most < 1 && most > 0.9999);
    CHECK(draw_key(1, DRAW_CANCELS) != draw_key(1, DRAW_WORDS) &&
          draw_key(1, DRAW_WORDS) != draw_key(2, DRAW_WORDS));
}

// ---- arrivals ----

TEST(load_arrivals_are_poisson) {
    static const uint32_t bursts[] = {1, 8};
    for (size_t b = 0; b < COUNT_OF(bursts); b++) {
        TEST_CASE_LABEL("bursts of %u", bursts[b]);
        Arrivals a = arrivals_begin(50, bursts[b], 3), again = arrivals_begin(50, bursts[b], 3);
        uint64_t before = arrivals_next(&a), last = before;
        uint32_t n_groups = 0, n_long = 0;
        double mean_gap = bursts[b] / 50.0;
        CHECK_U64_EQ(0, before);
        CHECK_U64_EQ(0, arrivals_next(&again));
        for (uint32_t i = 1; i < MANY; i++) {
            last = arrivals_next(&a);
            if (i < 1000) CHECK_U64_EQ(last, arrivals_next(&again));
            if (i % bursts[b] != 0) {
                if (last != before) FAIL("arrival %u of a burst comes later", i);
            } else {
                n_groups++;
                n_long += (double)(last - before) * 1e-9 > mean_gap;
            }
            before = last;
        }
        CHECK_NEAR(50, MANY / ((double)last * 1e-9), 1.5);
        CHECK_NEAR(exp(-1), (double)n_long / n_groups, 0.02); // the share of gaps above their mean
    }
}

// ---- words ----

TEST(load_words_are_unlike_each_other) {
    static char texts[2000][16 * (WORD_BYTES_MAX + 1)];
    uint64_t key = draw_key(5, DRAW_WORDS);
    for (uint32_t i = 0; i < WORDS_COUNT; i++) {
        Str word = word_at((uint8_t)i);
        CHECK(word.len >= 2 && word.len <= WORD_BYTES_MAX);
        for (uint32_t k = 0; k < word.len; k++)
            CHECK(word.ptr[k] >= 'a' && word.ptr[k] <= 'z');
        for (uint32_t k = 0; k < i; k++)
            CHECK(!str_eq(word, word_at((uint8_t)k)));
    }
    for (uint32_t i = 0; i < COUNT_OF(texts); i++) {
        size_t length = words_write(texts[i], key, i * 7, 16);
        uint32_t n_words = 1;
        for (size_t k = 0; k < length; k++)
            n_words += texts[i][k] == ' ';
        CHECK_INT_EQ(16, n_words);
        texts[i][length] = 0;
    }
    // The first four words alone tell all of them apart.
    for (uint32_t i = 0; i < COUNT_OF(texts); i++) {
        char *at = texts[i];
        for (uint32_t word = 0; word < 4; word++)
            at = strchr(at, ' ') + 1;
        *at = 0;
    }
    qsort(texts, COUNT_OF(texts), sizeof texts[0], (int (*)(const void *, const void *))strcmp);
    for (uint32_t i = 1; i < COUNT_OF(texts); i++)
        CHECK(strcmp(texts[i - 1], texts[i]) != 0);
    char other[256], same[256], alone[256];
    size_t length = words_write(same, key, 3, 20);
    CHECK_INT_EQ(length, words_write(alone, key, 3, 20));
    CHECK_BYTES_EQ(same, length, alone, length);
    size_t other_length = words_write(other, draw_key(6, DRAW_WORDS), 3, 20);
    CHECK(length != other_length || memcmp(same, other, length) != 0);
}

// ---- histograms ----

TEST(load_histogram_is_within_its_error) {
    static Histogram all, half[2];
    static uint32_t exact[MANY];
    LengthMix mix = {MIX_LOG_NORMAL, 1, UINT32_MAX, 2e6, 2};
    for (uint32_t i = 0; i < MANY; i++) {
        exact[i] = mix_draw(&mix, 11, i);
        histogram_add(&all, exact[i]);
        histogram_add(&half[i % 2], exact[i]);
    }
    qsort(exact, MANY, sizeof exact[0], compare);
    histogram_merge(&half[0], &half[1]);
    CHECK_BYTES_EQ(&all, sizeof all, &half[0], sizeof half[0]);
    static const double shares[] = {0, 0.001, 0.1, 0.5, 0.9, 0.99, 0.999, 1};
    for (size_t i = 0; i < COUNT_OF(shares); i++) {
        TEST_CASE_LABEL("%g", shares[i]);
        uint32_t at = (uint32_t)(shares[i] * MANY);
        double right = exact[at ? at - 1 : 0];
        CHECK_NEAR(right, histogram_percentile(&all, shares[i]), right * 0.004);
    }
    CHECK_U64_EQ(exact[0], all.least);
    CHECK_U64_EQ(exact[MANY - 1], all.most);
    CHECK_U64_EQ(MANY, all.count);
    static Histogram few;
    CHECK_U64_EQ(0, histogram_percentile(&few, 0.5));
    static const uint64_t values[] = {0, 255, 256, 257, (1ull << 44) - 1, 1ull << 50};
    for (size_t i = 0; i < COUNT_OF(values); i++)
        histogram_add(&few, values[i]);
    CHECK_U64_EQ(0, histogram_percentile(&few, 0.1));
    CHECK_U64_EQ(255, histogram_percentile(&few, 2.0 / 6));
    CHECK_U64_EQ(256, histogram_percentile(&few, 0.5) & ~1ull);
    CHECK_U64_EQ(1ull << 50, few.most);
}

// ---- JSON and events ----

TEST(load_scan_finds_fields) {
    static const struct {
        const char *text, *value; // of "a"; NULL: none
        bool bad;
    } rows[] = {
        {"{\"a\":\"x\"}", "x", false},
        {" { \"b\" : {\"a\":\"no\"}, \"a\" : \"x\\\"y\\\\\" } ", "x\\\"y\\\\", false},
        {"{\"b\":[1,\"}\",[{}],\"\\\"]\"],\"a\":\"x\"}", "x", false},
        {"{\"b\":-1.5e3,\"c\":null,\"d\":true,\"a\":\"\"}", "", false},
        {"{}", NULL, false},
        {"{\"b\":1}", NULL, false},
        {"{\"a\":\"x", NULL, true},
        {"{\"b\":{\"c\":1}", NULL, true},
        {"{\"b\":", NULL, true},
        {"{\"b\"}", NULL, true},
        {"{1:2}", NULL, true},
        {"", NULL, true},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].text);
        JsonScan s = json_scan_begin(str_from_c(rows[i].text));
        Str key, value, found = {0};
        bool is_there = false;
        if (json_scan_open(&s, '{')) {
            while (json_scan_key(&s, &key)) {
                if (str_eq(key, STR("a")) && json_scan_str(&s, &value)) found = value, is_there = true;
                else json_scan_skip(&s);
            }
        }
        CHECK_INT_EQ(rows[i].bad, s.bad);
        CHECK_INT_EQ(rows[i].value != NULL, is_there);
        if (rows[i].value) CHECK_STR_EQ(rows[i].value, found);
    }
}

TEST(load_scan_finds_a_place) {
    static const struct {
        const char *text;
        size_t position;
        const char *pointer, *value; // NULL: no value begins there
    } rows[] = {
        {"{\"a\":1}", 0, "", "{\"a\":1}"},
        {"{\"a\":1}", 5, "/a", "1"},
        {" { \"a\" : [ 1 , \"x\" ] , \"b\" : 2 } ", 11, "/a/0", "1"},
        {" { \"a\" : [ 1 , \"x\" ] , \"b\" : 2 } ", 15, "/a/1", "\"x\""},
        {" { \"a\" : [ 1 , \"x\" ] , \"b\" : 2 } ", 29, "/b", "2"},
        {"{\"a\":{\"]\":[]},\"a\":[[],[{}]]}", 22, "/a/1", "[{}]"},
        {"{\"a\":{\"]\":[]},\"a\":[[],[{}]]}", 23, "/a/1/0", "{}"},
        {"{\"a/b~c\\\"\":true}", 12, NULL, NULL},
        {"{\"a/b~c\\\"\":true}", 11, "/a~1b~0c\\\"", "true"},
        {"{\"a\":1}", 1, NULL, NULL}, // a key
        {"{\"a\":1}", 4, NULL, NULL},
        {"{\"a\":1}", 6, NULL, NULL},
        {"{\"a\":1}", 7, NULL, NULL},
        {"{\"a\":12}", 6, NULL, NULL}, // within a value
        {"{\"a\":[", 5, NULL, NULL},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char place[64];
        StrBuf pointer = STRBUF(place);
        Str value;
        TEST_CASE_LABEL("%s at %zu", rows[i].text, rows[i].position);
        bool found = json_scan_find(str_from_c(rows[i].text), rows[i].position, &pointer, &value);
        CHECK_INT_EQ(rows[i].pointer != NULL, found);
        if (!found || !rows[i].pointer) continue;
        CHECK_STR_EQ(rows[i].pointer, strbuf_str(&pointer));
        CHECK_STR_EQ(rows[i].value, value);
    }
}

TEST(load_events_of_each_api) {
    static const struct {
        LoadApi api;
        const char *name, *data, *content;
        bool piece, end, error, malformed;
        FinishReason finish;
        uint64_t output; // of its usage; 0: none
    } rows[] = {
        {LOAD_API_CHAT, "",
         "{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\\n\"},\"finish_reason\":null}],\"usage\":"
         "null}",
         "a\\n", true, false, false, false, FINISH_NONE, 0},
        {LOAD_API_CHAT, "", "{\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}", "",
         false, false, false, false, FINISH_NONE, 0},
        {LOAD_API_CHAT, "", "{\"choices\":[{\"delta\":{\"reasoning_content\":\"hm\",\"content\":null}}]}", "",
         true, false, false, false, FINISH_NONE, 0},
        {LOAD_API_CHAT, "", "{\"choices\":[{\"delta\":{\"reasoning\":\"hm\"}}]}", "", true, false, false,
         false, FINISH_NONE, 0},
        {LOAD_API_CHAT, "", "{\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0}]}}]}", "", true, false,
         false, false, FINISH_NONE, 0},
        {LOAD_API_CHAT, "", "{\"choices\":[{\"delta\":{\"tool_calls\":[]}}]}", "", false, false, false, false,
         FINISH_NONE, 0},
        {LOAD_API_CHAT, "", "{\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}", "", false, false,
         false, false, FINISH_STOP, 0},
        {LOAD_API_CHAT, "",
         "{\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":7,\"total_tokens\":12}}", "",
         false, false, false, false, FINISH_NONE, 7},
        {LOAD_API_CHAT, "", "[DONE]", "", false, true, false, false, FINISH_NONE, 0},
        {LOAD_API_CHAT, "", "{\"error\":{\"message\":\"m\",\"code\":500}}", "", false, false, true, false,
         FINISH_NONE, 0},
        {LOAD_API_CHAT, "", "{\"choices\":[{\"delta\"", "", false, false, false, true, FINISH_NONE, 0},
        {LOAD_API_CHAT, "", "nonsense", "", false, false, false, true, FINISH_NONE, 0},
        {LOAD_API_COMPLETIONS, "", "{\"choices\":[{\"text\":\"b\",\"finish_reason\":\"length\"}]}", "b", true,
         false, false, false, FINISH_LENGTH, 0},
        {LOAD_API_EXECUTE, "token", "{\"t\":\"c\",\"i\":0}", "c", true, false, false, false, FINISH_NONE, 0},
        {LOAD_API_EXECUTE, "started", "{\"t\":\"c\",\"i\":0}", "", false, false, false, false, FINISH_NONE,
         0},
        {LOAD_API_EXECUTE, "end", "{\"tokens_out\":9,\"tokens_in\":5,\"stop_reason\":\"eos\"}", "", false,
         true, false, false, FINISH_STOP, 9},
        {LOAD_API_EXECUTE, "error", "{\"code\":\"CANCELLED\",\"message\":\"m\"}", "", false, false, true,
         false, FINISH_NONE, 0},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s %s", rows[i].name, rows[i].data);
        AnswerEvent e;
        answer_event_read(rows[i].api, &(SseEvent){str_from_c(rows[i].name), str_from_c(rows[i].data)}, &e);
        CHECK_STR_EQ(rows[i].content, e.content);
        CHECK_INT_EQ(rows[i].piece, e.has_piece);
        CHECK_INT_EQ(rows[i].end, e.is_end);
        CHECK_INT_EQ(rows[i].error, e.is_error);
        CHECK_INT_EQ(rows[i].malformed, e.is_malformed);
        CHECK_INT_EQ(rows[i].finish, e.finish);
        CHECK_INT_EQ(rows[i].output != 0, e.has_usage);
        CHECK_U64_EQ(rows[i].output, e.output_tokens);
    }
}

TEST(load_refusals_of_servers) {
    static const struct {
        const char *body, *code, *message;
    } rows[] = {
        {"{\"error\":{\"code\":\"BUSY\",\"message\":\"m\"}}", "BUSY", "m"},
        {"{\"error\":{\"message\":\"m\",\"type\":\"invalid_request_error\",\"code\":null}}",
         "invalid_request_error", "m"},
        {"{\"object\":\"error\",\"message\":\"m\",\"code\":40001}", "40001", "m"},
        {"{\"error\":\"m\"}", "", "m"},
        {"{\"detail\":\"Not Found\"}", "", "Not Found"},
        {"went astray", "", ""},
        {"", "", ""},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].body);
        Str code, message;
        answer_error_read(str_from_c(rows[i].body), &code, &message);
        CHECK_STR_EQ(rows[i].code, code);
        CHECK_STR_EQ(rows[i].message, message);
    }
}

TEST(load_sse_reader_takes_any_pieces) {
    static const char stream[] =
        ": comment\n\nevent: token\r\ndata: {\"t\":\"\xc3\xa9\"}\r\n\r\ndata:x\ndata: y\n\nid: 1\n"
        "event: a-name-that-is-longer-than-thirty-one-bytes\ndata: z\n\n";
    for (size_t step = 1; step < sizeof stream; step++) {
        TEST_CASE_LABEL("pieces of %zu", step);
        char memory[64], text[256], pieces[sizeof stream];
        StrBuf out = STRBUF(text);
        SseReader r = sse_reader_begin(memory, sizeof memory);
        for (size_t at = 0; at < sizeof stream - 1; at += step) {
            Str bytes = {pieces, (size_t)min_u64(step, sizeof stream - 1 - at)};
            memcpy(pieces, stream + at, bytes.len);
            SseEvent e;
            while (sse_reader_next(&r, &bytes, &e) == SSE_EVENT)
                strbuf_printf(&out, "[%.*s|%.*s]", STR_ARG(e.name), STR_ARG(e.data));
            CHECK_INT_EQ(0, bytes.len);
            memset(pieces, '#', sizeof pieces);
        }
        CHECK_STR_EQ("[token|{\"t\":\"\xc3\xa9\"}][|x][|y][a-name-that-is-longer-than-thir|z]",
                     strbuf_str(&out));
    }
    char memory[8];
    SseReader r = sse_reader_begin(memory, sizeof memory);
    Str bytes = STR("data: longer than that");
    SseEvent e;
    CHECK_INT_EQ(SSE_TOO_LONG, sse_reader_next(&r, &bytes, &e));
}

// ---- traces ----

TEST(load_traces) {
    static const struct {
        const char *text, *error; // NULL: taken
        uint32_t count;
        bool has_times;
    } rows[] = {
        {"{\"time\":0.5,\"prompt_tokens\":3,\"output_tokens\":4}\n\n{\"time\":1,\"prompt\":\"a\\\"b\"}\n",
         NULL, 2, true},
        {"{\"timestamp\":27,\"input_length\":3,\"output_length\":4,\"hash_ids\":[1,2]}", NULL, 1, true},
        {"{\"prompt\":\"x\"}\r\n{\"output_tokens\":0}\n", NULL, 2, false},
        {"", "there is no request in it", 0, false},
        {"{\"time\":1}\n{\"time\":0.5}", "line 2: its time is before that of the line above", 0, false},
        {"{\"time\":1}\n{}", "line 2: some lines have a time and others have none", 0, false},
        {"{}\n{\"time\":1}", "line 2: some lines have a time and others have none", 0, false},
        {"{\"time\":\"now\"}", "line 1: its time must be a number, 0 or more", 0, false},
        {"{\"prompt\":5}", "line 1: prompt must be a text", 0, false},
        {"{\"prompt\":\"\"}", "line 1: prompt must not be empty", 0, false},
        {"{\"prompt_tokens\":-1}", "line 1: prompt_tokens must be a whole number up to 1048576", 0, false},
        {"[]", "line 1: must be an object", 0, false},
        {"{\"prompt_tokens\":1}\n{\"foo\":50}", "line 2: has no known field; there are time, ", 0, false},
        {"{}\nnonsense", "line 2: ", 0, false},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].text);
        Arena arena = os_arena(1 << 24);
        Trace trace;
        Error err;
        bool ok = trace_parse(str_from_c(rows[i].text), &arena, &trace, &err);
        CHECK_INT_EQ(rows[i].error == NULL, ok);
        if (!ok) CHECK_STR_EQ(rows[i].error, str_slice(str_from_c(err.message), 0, strlen(rows[i].error)));
        if (!ok) continue;
        CHECK_INT_EQ(rows[i].count, trace.count);
        CHECK_INT_EQ(rows[i].has_times, trace.has_times);
        if (i == 0) {
            CHECK_U64_EQ(0, trace.requests[0].at_ns);
            CHECK_U64_EQ(500000000, trace.requests[1].at_ns);
            CHECK_INT_EQ(0, trace.n_without_prompt);
            CHECK_INT_EQ(1, trace.n_without_output);
            CHECK_INT_EQ(3, trace.requests[0].prompt_tokens);
            CHECK_INT_EQ(4, trace.requests[0].output_tokens);
            CHECK_STR_EQ("a\\\"b", trace.requests[1].prompt);
        }
        if (i == 1) CHECK_U64_EQ(0, trace.requests[0].at_ns);
        if (i == 2) CHECK_INT_EQ(1, trace.n_without_prompt);
        if (i == 1) CHECK_INT_EQ(3, trace.requests[0].prompt_tokens);
    }
}

// ---- requests ----

static RequestMaker maker_of(const LoadConfig *c) {
    RequestMaker m;
    Error err;
    if (!request_maker_begin(c, STR("a \"model\""), os_reserve(LOAD_HEAD_BYTES_MAX), &m, &err))
        FAIL("%s", err.message), test_end();
    return m;
}

// The body of a request, which must have the length that its head says and be JSON.
static const JsonNode *body_of(Str request, Arena *arena) {
    const char *end = memmem(request.ptr, request.len, "\r\n\r\n", 4);
    const char *length = memmem(request.ptr, request.len, "Content-Length: ", 16);
    REQUIRE(end && length);
    Str body = {end + 4, request.len - (size_t)(end + 4 - request.ptr)};
    CHECK_INT_EQ(body.len, strtoull(length + 16, NULL, 10));
    Error err;
    const JsonNode *root = json_parse(body, arena, &(JsonLimits){0}, &err);
    if (!root) FAIL("%s in %.*s", err.message, STR_ARG(body)), test_end();
    return root;
}

static Str text_at(const JsonNode *node) {
    Str text = {0};
    CHECK(json_read_str(node, &text));
    return text;
}

TEST(load_requests_are_conversations) {
    static const LoadConfig config = {.server = {"http://[::1]:9/base/", 20},
                                      .api = LOAD_API_CHAT,
                                      .bearer_token = {"secret", 6},
                                      .headers = {{{"X-A", 3}, {"b", 1}}},
                                      .n_headers = 1,
                                      .prompts = {MIX_FIXED, 4, 4, 0, 0},
                                      .outputs = {MIX_UNIFORM, 5, 6, 0, 0},
                                      .shared_prefix = 3,
                                      .prefix_groups = 2,
                                      .turns = 3,
                                      .temperature = 0.5,
                                      .ignores_eos = true,
                                      .seeds_requests = true,
                                      .seed = 1};
    RequestMaker m = maker_of(&config);
    RequestText t = {.memory = os_reserve(LOAD_REQUEST_BYTES_MAX)};
    Arena arena = os_arena(1 << 20);
    RequestPlan plan = request_plan(&m, 5, 0);
    Str request = request_write(&m, &t, &plan, 9);
    CHECK(str_starts_with(request, STR("POST /base/v1/chat/completions HTTP/1.1\r\nHost: [::1]:9\r\n")));
    Str headers = STR("\r\nAuthorization: Bearer secret\r\nX-A: b\r\n");
    CHECK(memmem(request.ptr, request.len, headers.ptr, headers.len) != NULL);
    const JsonNode *body = body_of(request, &arena), *messages = json_get(body, STR("messages"));
    uint64_t value;
    CHECK_STR_EQ("a \"model\"", text_at(json_get(body, STR("model"))));
    CHECK(json_read_u64(json_get(body, STR("max_tokens")), &value) && value == plan.output_tokens);
    CHECK(json_read_u64(json_get(body, STR("seed")), &value) && value == 10);
    CHECK_INT_EQ(1, messages->length);
    Str first = arena_copy_str(&arena, text_at(json_get(json_first(messages), STR("content"))));
    request_add_answer(&m, &t, STR("\\u00e9 and \\\"so"));
    request_add_answer(&m, &t, STR(" on\\\""));
    plan = request_plan(&m, 5, 1);
    messages = json_get(body_of(request_write(&m, &t, &plan, 10), &arena), STR("messages"));
    REQUIRE(messages && messages->length == 3);
    const JsonNode *answer = json_next(json_first(messages));
    CHECK_STR_EQ(first, text_at(json_get(json_first(messages), STR("content"))));
    CHECK_STR_EQ("assistant", text_at(json_get(answer, STR("role"))));
    CHECK_STR_EQ("\xc3\xa9 and \"so on\"", text_at(json_get(answer, STR("content"))));
    CHECK_STR_EQ("user", text_at(json_get(json_next(answer), STR("role"))));
    plan = request_plan(&m, 5, 2); // after an answer of nothing
    messages = json_get(body_of(request_write(&m, &t, &plan, 11), &arena), STR("messages"));
    CHECK(messages && messages->length == 5);
    // Another conversation of the same group shares three words with it, and no more.
    plan = request_plan(&m, 7, 0);
    messages = json_get(body_of(request_write(&m, &t, &plan, 12), &arena), STR("messages"));
    Str other = text_at(json_get(json_first(messages), STR("content")));
    size_t same = 0;
    uint32_t words = 0;
    for (; same < first.len && same < other.len && first.ptr[same] == other.ptr[same]; same++)
        words += first.ptr[same] == ' ';
    CHECK_INT_EQ(3, words);
}

TEST(load_requests_of_texts) {
    static const struct {
        LoadApi api;
        const char *url, *path;
    } rows[] = {
        {LOAD_API_COMPLETIONS, "http://h", "POST /v1/completions HTTP/1.1\r\nHost: h\r\n"},
        {LOAD_API_COMPLETIONS, "http://h:1/v1", "POST /v1/completions HTTP/1.1\r\nHost: h:1\r\n"},
        {LOAD_API_EXECUTE, "http://h:1/", "POST /execute HTTP/1.1\r\nHost: h:1\r\n"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].url);
        LoadConfig config = {.server = str_from_c(rows[i].url),
                             .api = rows[i].api,
                             .prompts = {MIX_FIXED, 100, 100, 0, 0},
                             .outputs = {MIX_FIXED, 5, 5, 0, 0},
                             .prefix_groups = 1,
                             .turns = 2};
        RequestMaker m = maker_of(&config);
        RequestText t = {.memory = os_reserve(LOAD_REQUEST_BYTES_MAX)};
        Arena arena = os_arena(1 << 20);
        m.tokens_per_word = 2;
        m.template_tokens = 20;
        RequestPlan plan = request_plan(&m, 0, 0);
        Str request = request_write(&m, &t, &plan, 0);
        CHECK(str_starts_with(request, str_from_c(rows[i].path)));
        const JsonNode *body = body_of(request, &arena);
        Str first = arena_copy_str(&arena, text_at(json_get(body, STR("prompt"))));
        uint32_t words = 1;
        for (size_t k = 0; k < first.len; k++)
            words += first.ptr[k] == ' ';
        CHECK_INT_EQ(40, words);
        CHECK_INT_EQ(rows[i].api == LOAD_API_EXECUTE, json_get(body, STR("job_id")) != NULL);
        CHECK_INT_EQ(rows[i].api != LOAD_API_EXECUTE, json_get(body, STR("stream")) != NULL);
        CHECK(!json_get(body, STR("ignore_eos")) && !json_get(body, STR("seed")));
        request_add_answer(&m, &t, STR(" an answer"));
        plan = request_plan(&m, 0, 1);
        Str second = text_at(json_get(body_of(request_write(&m, &t, &plan, 1), &arena), STR("prompt")));
        CHECK(str_starts_with(second, first));
        CHECK(str_starts_with(str_slice(second, first.len, second.len), STR(" an answer\n")));
    }
}

// ---- statistics ----

enum { MS = 1000000 };

// A request of `n` pieces, the first `first_ms` after it was sent and the others `gap_ms` apart.
static void play(LoadStats *s, uint64_t at_ms, uint32_t n, uint64_t first_ms, uint64_t gap_ms, LoadEnd end) {
    LoadRequest r = {.due_ns = at_ms * MS, .sent_ns = at_ms * MS, .prompt_tokens = 10};
    stats_request_sent(s, &r);
    stats_set_running(s, s->running + 1, r.sent_ns);
    uint64_t now_ns = r.sent_ns + first_ms * MS;
    for (uint32_t i = 0; i < n; i++, now_ns += gap_ms * MS)
        stats_request_piece(s, &r, now_ns);
    r.has_usage = end == LOAD_ENDED_WHOLE;
    r.usage_output = 2 * n;
    r.usage_prompt = 20;
    r.usage_cached = 5;
    stats_request_end(s, &r, end, &(LoadError){.kind = LOAD_ERROR_BROKEN}, r.last_ns);
    stats_set_running(s, s->running - 1, r.last_ns);
}

TEST(load_stats_count_the_window) {
    Arena arena = os_arena(LOAD_LINE_BYTES_MAX + (1 << 26));
    LoadStats *s = stats_create(&(LoadLimits){.first_token = 50, .between = 8}, &arena);
    REQUIRE(s != NULL);
    play(s, 0, 10, 500, 10, LOAD_ENDED_WHOLE); // warm-up
    stats_open_window(s, 1000ull * MS);
    s->window_end_ns = 3000ull * MS;
    play(s, 1000, 11, 40, 10, LOAD_ENDED_WHOLE);
    play(s, 1500, 11, 80, 10, LOAD_ENDED_WHOLE); // its first token comes too late
    play(s, 2000, 5, 40, 20, LOAD_ENDED_WHOLE);  // 9 tokens' times between 10 in 80 ms: too slow
    play(s, 2200, 5, 40, 10, LOAD_ENDED_ERROR);
    play(s, 2300, 2, 40, 10, LOAD_ENDED_CANCELLED);
    play(s, 2900, 20, 40, 10, LOAD_ENDED_CUT); // 6 pieces come in the window
    stats_close_window(s, 3100ull * MS);
    CHECK_NEAR(2, stats_seconds(s), 1e-9);
    CHECK_U64_EQ(1, s->n_warmup);
    CHECK_U64_EQ(6, s->n_sent);
    CHECK_U64_EQ(3, s->n_whole);
    CHECK_U64_EQ(1, s->n_cancelled);
    CHECK_U64_EQ(1, s->n_cut);
    CHECK_U64_EQ(1, s->n_failed);
    CHECK_U64_EQ(11 + 11 + 5 + 5 + 2 + 6, s->pieces);
    CHECK_NEAR(80, stats_output_tokens(s), 1e-9);
    CHECK_NEAR(120, stats_prompt_tokens(s), 1e-9);
    CHECK_U64_EQ(4, s->n_limited);
    CHECK_U64_EQ(1, s->n_good);
    CHECK_U64_EQ(6, s->first_token.count);
    CHECK_U64_EQ(80ull * MS, s->first_token.most);
    CHECK_U64_EQ(10 + 10 + 4 + 4 + 1 + 5, s->between.count);
    CHECK_U64_EQ(20ull * MS, s->between.most);
    double running_ns = 0;
    for (uint32_t i = 0; i < s->n_bins; i++)
        running_ns += s->bins[i].running_ns;
    CHECK_NEAR(140 + 180 + 120 + 80 + 50 + 100, running_ns / MS, 1e-6);
}

// Requests that hang are not good ones that happen to be missing: what is cut off or never sent is judged by
// what it has broken by then.
TEST(load_stats_judge_what_did_not_end) {
    static const struct {
        const char *name;
        LoadLimits limits;
        uint32_t n_pieces; // the first after 40 ms, the others 10 ms apart
        uint64_t cut_ms;
        bool is_limited;
    } rows[] = {
        {"no token, late", {.first_token = 50}, 0, 60, true},
        {"no token yet", {.first_token = 50}, 0, 45, false},
        {"the first came late", {.first_token = 30}, 2, 60, true},
        {"whole", {.whole = 100}, 3, 101, true},
        {"not yet whole", {.whole = 100}, 3, 99, false},
        {"a gap before", {.gap = 9}, 3, 61, true},
        {"a gap up to the end", {.gap = 15}, 3, 80, true},
        {"no gap", {.gap = 15}, 3, 70, false},
        {"between", {.between = 9}, 3, 70, true},
        {"hangs between", {.between = 20}, 3, 110, true},
        {"not yet between", {.between = 20}, 3, 90, false},
        {"no limits", {.gap = 0}, 0, 10000, false},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].name);
        Arena arena = os_arena(1 << 26);
        LoadStats *s = stats_create(&rows[i].limits, &arena);
        REQUIRE(s != NULL);
        stats_open_window(s, 0);
        LoadRequest r = {0};
        stats_request_sent(s, &r);
        for (uint64_t k = 0; k < rows[i].n_pieces; k++)
            stats_request_piece(s, &r, (40 + 10 * k) * MS);
        stats_request_end(s, &r, LOAD_ENDED_CUT, NULL, rows[i].cut_ms * MS);
        CHECK_U64_EQ(1, s->n_cut);
        CHECK_U64_EQ(rows[i].is_limited, s->n_limited);
        CHECK_U64_EQ(0, s->n_good);
    }
}

// However long it takes, nothing of the timeline is lost.
TEST(load_timeline_widens) {
    Arena arena = os_arena(1 << 26);
    LoadStats *s = stats_create(&(LoadLimits){0}, &arena);
    REQUIRE(s != NULL);
    stats_open_window(s, 0);
    for (uint32_t i = 0; i < 600; i++)
        play(s, i * 100ull, 3, 10, 5, i % 10 ? LOAD_ENDED_WHOLE : LOAD_ENDED_ERROR);
    stats_close_window(s, 60000ull * MS);
    CHECK_U64_EQ((uint64_t)TIMELINE_BIN_NS * 8, s->bin_ns);
    CHECK_INT_EQ(150, s->n_bins);
    uint64_t pieces = 0, ended = 0, errors = 0, first = 0, between = 0;
    for (uint32_t i = 0; i < s->n_bins; i++) {
        const TimelineBin *bin = &s->bins[i];
        pieces += bin->n_pieces;
        ended += bin->n_ended;
        errors += bin->n_errors;
        first += bin->first_token.count;
        between += bin->between.count;
        CHECK_U64_EQ(12, bin->n_pieces);
    }
    CHECK_U64_EQ(1800, pieces);
    CHECK_U64_EQ(540, ended);
    CHECK_U64_EQ(60, errors);
    CHECK_U64_EQ(600, first);
    CHECK_U64_EQ(1200, between);
}

// What matters most stands within 80 columns, however large the figures are.
TEST(load_progress_fits_a_terminal) {
    Arena arena = os_arena(1 << 26);
    LoadStats *s = stats_create(&(LoadLimits){0}, &arena);
    char text[256];
    StrBuf line = STRBUF(text);
    REQUIRE(s != NULL);
    stats_open_window(s, 0);
    s->running = 4000;
    s->n_whole = 1234567;
    s->n_failed = 12345;
    s->pieces = 1000000;
    s->n_errors = 3;
    s->errors[0] = (LoadError){.kind = LOAD_ERROR_TIMED_OUT, .count = 345};
    s->errors[1] = (LoadError){.kind = LOAD_ERROR_BROKEN, .count = 5};
    s->errors[2] = (LoadError){.kind = LOAD_ERROR_STATUS, .status = 429, .code = "BUSY", .count = 11995};
    report_put_progress(&line, s, 0, 1000ull * MS, 100000ull * MS);
    Str first = STR("  100.0 s  4000 running  1,234,567 done  12345 failed  1,000,000 tokens/s");
    CHECK_STR_EQ(first, str_slice(strbuf_str(&line), 0, first.len));
    CHECK(first.len < 80);
    CHECK_STR_EQ("  failed: 11,995 refused with 429 BUSY, 345 timed out, 5 of other kinds",
                 str_slice(strbuf_str(&line), first.len, line.len));
}

TEST(load_failures_by_kind) {
    static const struct {
        uint32_t n_errors, kinds;
        uint64_t n_failed;
        const char *text;
    } rows[] = {
        {0, 3, 7, "7 of other kinds"},
        {1, 3, 4, "4 timed out"},
        {2, 1, 9, "5 stream broken off, 4 of other kinds"},
        {2, 3, 9, "5 stream broken off, 4 timed out"},
    };
    Arena arena = os_arena(1 << 26);
    LoadStats *s = stats_create(&(LoadLimits){0}, &arena);
    REQUIRE(s != NULL);
    CHECK_NEAR(0, stats_failed_share(s), 0);
    s->errors[0] = (LoadError){.kind = LOAD_ERROR_TIMED_OUT, .count = 4};
    s->errors[1] = (LoadError){.kind = LOAD_ERROR_BROKEN, .count = 5};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char text[128];
        StrBuf out = STRBUF(text);
        s->n_errors = rows[i].n_errors;
        s->n_failed = rows[i].n_failed;
        stats_put_failures(&out, s, rows[i].kinds);
        CHECK_STR_EQ(rows[i].text, strbuf_str(&out));
    }
    s->n_whole = 26;
    s->n_cancelled = 1;
    CHECK_NEAR(0.25, stats_failed_share(s), 1e-9);
}

// ---- the picture ----

static uint32_t count_of(Str text, const char *part) {
    uint32_t n = 0;
    for (const char *at = text.ptr; (at = memmem(at, text.len - (size_t)(at - text.ptr), part, strlen(part)));
         at++)
        n++;
    return n;
}

// A pause in which nothing comes is a gap in the latencies' curves; what was not measured is a dash.
TEST(load_chart_shows_gaps) {
    Arena arena = os_arena(1 << 26);
    LoadConfig config = {.server = {"http://h", 8}, .clients = 3, .turns = 1};
    LoadResult result = {.model = {"m", 1}};
    result.stats = stats_create(&(LoadLimits){.first_token = 50, .gap = 7}, &arena);
    REQUIRE(result.stats != NULL);
    stats_open_window(result.stats, 0);
    for (uint64_t k = 0; k < 200; k++)
        play(result.stats, k < 100 ? k * 20 : 6000 + k * 20, 3, 10, 5, LOAD_ENDED_CANCELLED);
    stats_close_window(result.stats, 10000ull * MS);
    Arena scratch = os_arena(1 << 22);
    StrBuf out = strbuf_begin_in_arena(&arena);
    chart_put_svg(&out, &config, &result, scratch);
    Str text = strbuf_str(&out);
    CHECK_INT_EQ(2, count_of(text, "<polyline class=\"curve\" stroke=\"var(--first)\""));
    CHECK_INT_EQ(1, count_of(text, "<polyline class=\"curve\" stroke=\"var(--rate)\""));
    CHECK(text_contains(text, "; limits: first token 50 ms, gap 7 ms"));
    CHECK(text_contains(text, ">\xe2\x80\x93<tspan")); // no answer was whole
}

// A run that was stopped at once: all of it came at one moment.
TEST(load_chart_of_no_time) {
    Arena arena = os_arena(1 << 26);
    LoadConfig config = {.server = {"http://h", 8}, .clients = 3, .turns = 1};
    LoadResult result = {0};
    result.stats = stats_create(&(LoadLimits){0}, &arena);
    REQUIRE(result.stats != NULL);
    stats_open_window(result.stats, 1000ull * MS);
    play(result.stats, 1000, 3, 0, 0, LOAD_ENDED_WHOLE);
    play(result.stats, 1000, 3, 0, 0, LOAD_ENDED_ERROR);
    stats_close_window(result.stats, 1000ull * MS);
    CHECK_INT_EQ(1, result.stats->n_bins);
    Arena scratch = os_arena(1 << 22);
    StrBuf out = strbuf_begin_in_arena(&arena);
    chart_put_svg(&out, &config, &result, scratch);
    CHECK(!text_contains(strbuf_str(&out), "nan") && !text_contains(strbuf_str(&out), "inf"));
    CHECK(text_contains(strbuf_str(&out), "</svg>"));
}

TEST(load_chart_axes_are_round) {
    static const struct {
        double most;
        uint32_t ticks;
        double axis, step;
        const char *last;
    } rows[] = {
        {767, 3, 800, 200, "800"},     {1234, 3, 1400, 200, "1,400"}, {41, 3, 50, 10, "50"},
        {0.07, 3, 0.08, 0.02, "0.08"}, {4.08, 2, 6, 2, "6"},          {75000, 4, 80000, 10000, "80,000"},
        {1, 4, 1, 0.2, "1.0"},         {0, 3, 1, 0.2, "1.0"},         {3, 3, 3, 1, "3"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%g in %u", rows[i].most, rows[i].ticks);
        char text[32];
        StrBuf tick = STRBUF(text);
        ChartAxis axis = chart_axis(rows[i].most, rows[i].ticks);
        CHECK_NEAR(rows[i].axis, axis.most, 1e-9);
        CHECK_NEAR(rows[i].step, axis.step, 1e-9);
        chart_put_tick(&tick, axis.most, axis.step);
        CHECK_STR_EQ(rows[i].last, strbuf_str(&tick));
    }
    static const struct {
        double value;
        const char *text;
    } figures[] = {{0, "0.00"}, {1.234, "1.23"}, {12.34, "12.3"}, {999.9, "999.9"}, {1234.5, "1,235"}};
    for (size_t i = 0; i < COUNT_OF(figures); i++) {
        char text[32];
        StrBuf figure = STRBUF(text);
        chart_put_figure(&figure, figures[i].value);
        CHECK_STR_EQ(figures[i].text, strbuf_str(&figure));
    }
}

// Runs of any kind, also those with nothing in them, are pictures that a browser can read.
TEST(load_chart_is_well_formed) {
    static const uint32_t counts[] = {0, 1, 3, 500};
    for (size_t i = 0; i < COUNT_OF(counts); i++) {
        TEST_CASE_LABEL("%u requests", counts[i]);
        Arena arena = os_arena(1 << 26);
        LoadConfig config = {.server = {"http://h/?a=1&b=<2>", 19}, .clients = 3, .turns = 1};
        LoadResult result = {.model = {"<\"m\">\xff\x01&", 8}};
        result.stats = stats_create(&(LoadLimits){.first_token = counts[i]}, &arena);
        REQUIRE(result.stats != NULL);
        stats_open_window(result.stats, 0);
        for (uint32_t k = 0; k < counts[i]; k++)
            play(result.stats, k * 20ull, 3, 10, 5, k % 9 ? LOAD_ENDED_WHOLE : LOAD_ENDED_ERROR);
        stats_close_window(result.stats, counts[i] * 20ull * MS);
        Arena scratch = os_arena(1 << 22);
        StrBuf out = strbuf_begin_in_arena(&arena);
        snprintf(result.stats->errors[0].code, sizeof result.stats->errors[0].code, "<b>");
        chart_put_svg(&out, &config, &result, scratch);
        const char *path = tmp_file_write("load.svg", out.ptr);
        char command[1024];
        snprintf(command, sizeof command,
                 "python3 -c 'import sys, xml.dom.minidom; xml.dom.minidom.parse(sys.argv[1])' '%s'", path);
        CHECK_INT_EQ(0, system(command));
        Str text = strbuf_str(&out);
        CHECK(!text_contains(text, "nan") && !text_contains(text, "inf") &&
              text_contains(text, "prefers-color-scheme"));
        CHECK(text_contains(text, "&lt;&quot;m&quot;>\xef\xbf\xbd&amp;"));
        CHECK_INT_EQ(counts[i] > 0, text_contains(text, "class=\"error\""));
        // What a server calls its error is no markup.
        CHECK_INT_EQ(counts[i] > 0,
                     text_contains(text, "; failed: ") && text_contains(text, " stream broken off &lt;b><"));
    }
}

TEST(load_limits) {
    LoadLimits l;
    Error err;
    CHECK(load_parse_limits(STR("first_token:200,between:50.5,gap:300,whole:9000"), &l, &err));
    CHECK(l.first_token == 200 && l.between == 50.5 && l.gap == 300 && l.whole == 9000);
    static const char *const rows[] = {"",          "first_token", "first_token:", "ttft:5",
                                       "between:0", "between:-1",  "gap:5,",       ",gap:5"};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("\"%s\"", rows[i]);
        CHECK(!load_parse_limits(str_from_c(rows[i]), &l, &err));
        CHECK(strstr(err.message, "must be limits in ms such as first_token:200,between:50"));
    }
}
