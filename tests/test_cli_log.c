// Log events: both formats, against a fixed clock.
#include "base/log.h"
#include "os/os.h"
#include "runner.h"
#include "json/json_reader.h"

#include <stdlib.h>

static char captured[64 * 1024];
static size_t captured_bytes;

static bool capture(void *sink, Str bytes) {
    (void)sink;
    if (captured_bytes + bytes.len >= sizeof captured) return false;
    memcpy(captured + captured_bytes, bytes.ptr, bytes.len);
    captured_bytes += bytes.len;
    captured[captured_bytes] = 0;
    return true;
}

static uint64_t fixed_clock(void) {
    return 1763864325123u; // 2025-11-23T02:18:45.123Z
}

static Log make_log(LogFormat format) {
    captured_bytes = 0;
    captured[0] = 0;
    setenv("TZ", "UTC", 1);
    return (Log){.format = format,
                 .level = LOG_LEVEL_DEBUG,
                 .worker_id = STR("w-1"),
                 .model_ref = STR("file:/m.gguf"),
                 .gpu_device = -1,
                 .write = capture,
                 .now_unix_ms = fixed_clock};
}

TEST(cli_log_json_line) {
    Log log = make_log(LOG_FORMAT_JSON);
    log_event(&log, LOG_READY, LOG_STR("url", STR("http://h:1")), LOG_U64("port", 1),
              LOG_STR("device", STR("")), LOG_F64("load_seconds", 1.23456, 3), LOG_U64("context_length", 512),
              LOG_U64("max_jobs", 4));
    CHECK_STR_EQ(
        "{\"ts\":\"2025-11-23T02:18:45.123Z\",\"level\":\"info\",\"event\":\"ready\",\"worker_id\":\"w-1\","
        "\"model_ref\":\"file:/m.gguf\",\"url\":\"http://h:1\",\"port\":1,\"load_seconds\":1.235,"
        "\"context_length\":512,\"max_jobs\":4,\"narration\":\"Ready after 1.235 s: http://h:1 takes jobs of "
        "up to "
        "512 tokens, at most 4 at once.\"}\n",
        (const char *)captured);
}

TEST(cli_log_text_line) {
    Log log = make_log(LOG_FORMAT_TEXT);
    log_event(&log, LOG_MODEL_LOAD_PROGRESS, LOG_U64("percent", 25));
    CHECK_STR_EQ("02:18:45  model_load_progress  25% of the weights are loaded.\n", (const char *)captured);
    log = make_log(LOG_FORMAT_TEXT);
    log_event(&log, LOG_ERROR, LOG_STR("message", STR("port 1 is\nin use.")));
    CHECK_STR_EQ("02:18:45  error                port 1 is in use.\n", (const char *)captured);
    // C1 controls, which terminals obey as they do ESC and '[', and bytes that are no character.
    log = make_log(LOG_FORMAT_TEXT);
    log_event(&log, LOG_ERROR,
              LOG_STR("message", STR("a\xC2\x9B"
                                     "2Jb\x9B"
                                     "c\xC2\xA0\xC3\xA9.")));
    CHECK_STR_EQ("02:18:45  error                a 2Jb c\xC2\xA0\xC3\xA9.\n", (const char *)captured);
    log = make_log(LOG_FORMAT_TEXT);
    log.level = LOG_LEVEL_WARN;
    log_event(&log, LOG_READY, LOG_U64("port", 1));
    CHECK_STR_EQ("", (const char *)captured);
}

static uint32_t columns_of_terminal;
static uint32_t terminal_columns(void) {
    return columns_of_terminal;
}

// On a terminal a sentence goes on below its beginning, whatever the width.
TEST(cli_log_text_breaks_between_words) {
    static const struct {
        uint32_t columns;
        const char *text;
    } rows[] = {
        {80, "02:18:45  ready                Ready after 1.235 s: http://127.0.0.1:8080 takes\n"
             "                               jobs of up to 512 tokens, at most 4 at once.\n"},
        {88, "02:18:45  ready                Ready after 1.235 s: http://127.0.0.1:8080 takes jobs of\n"
             "                               up to 512 tokens, at most 4 at once.\n"},
        {200,
         "02:18:45  ready                Ready after 1.235 s: http://127.0.0.1:8080 takes jobs of up to 512 "
         "tokens, at most 4 at once.\n"},
        {40, "02:18:45  ready                Ready\n"
             "  after 1.235 s: http://127.0.0.1:8080\n"
             "  takes jobs of up to 512 tokens, at\n"
             "  most 4 at once.\n"},
        {10, "02:18:45  ready                Ready\n"
             "  after\n"
             "  1.235 s:\n"
             "  http://127.0.0.1:8080\n"
             "  takes\n"
             "  jobs of\n"
             "  up to\n"
             "  512\n"
             "  tokens,\n"
             "  at most\n"
             "  4 at\n"
             "  once.\n"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%u columns", rows[i].columns);
        Log log = make_log(LOG_FORMAT_TEXT);
        log.columns = terminal_columns;
        columns_of_terminal = rows[i].columns;
        log_event(&log, LOG_READY, LOG_STR("url", STR("http://127.0.0.1:8080")),
                  LOG_F64("load_seconds", 1.23456, 3), LOG_U64("context_length", 512),
                  LOG_U64("max_jobs", 4));
        CHECK_STR_EQ(rows[i].text, (const char *)captured);
    }
}

// Whatever a field holds, the line is one line and strict JSON.
TEST(cli_log_fields_cannot_break_the_line) {
    static const char nasty[] = "a\"b\\c\nd\x01\x7F\xFF\xC3\xA9";
    char longest[ERROR_MESSAGE_BYTES];
    memset(longest, 1, sizeof longest); // six bytes each when escaped
    Str values[] = {{nasty, sizeof nasty - 1}, {longest, sizeof longest - 1}, STR("{job_id}")};
    Arena arena = os_arena(1 << 20);
    for (LogEvent e = 0; e < LOG_EVENT_COUNT; e++) {
        for (size_t i = 0; i < COUNT_OF(values); i++) {
            Error err;
            Arena scratch = arena;
            Log log = make_log(LOG_FORMAT_JSON);
            TEST_CASE_LABEL("%s, value %zu", log_event_name(e), i);
            log_event(&log, e, LOG_STR("job_id", values[i]), LOG_STR("message", values[i]));
            REQUIRE(captured_bytes > 0);
            CHECK(strcspn(captured, "\n") == captured_bytes - 1);
            const JsonNode *root = json_parse((Str){captured, captured_bytes - 1}, &scratch,
                                              &(JsonLimits){.nodes_max = 1000}, &err);
            REQUIRE(CHECK(root != NULL));
            Str event;
            CHECK(json_read_str(json_get(root, STR("event")), &event));
            CHECK_STR_EQ(log_event_name(e), event);
            CHECK(json_is(json_get(root, STR("narration")), JSON_STRING));
        }
    }
}

TEST(cli_log_every_event_has_a_sentence) {
    for (LogEvent e = 0; e < LOG_EVENT_COUNT; e++) {
        Str sentence = str_from_c(log_event_narration(e));
        TEST_CASE_LABEL("%s", log_event_name(e));
        CHECK(str_ends_with(sentence, STR(".")));
        // Fields that would carry what a user wrote or got; a token count is no token.
        static const char *const banned[] = {"{prompt}", "{text}", "{token}", "{output}", "{stop}"};
        for (size_t i = 0; i < COUNT_OF(banned); i++)
            CHECK(strstr(sentence.ptr, banned[i]) == NULL);
    }
}
