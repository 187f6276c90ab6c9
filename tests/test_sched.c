// The scheduler on its own thread over a scripted backend; the test is the I/O thread.
#include "base/utf8.h"
#include "fake_worker.h"
#include "runner.h"

#include <stdio.h>

// All of a job's events up to its terminal one.
typedef struct {
    char text[8192];
    uint32_t n_tokens_events, n_metrics;
    JobEvent last;
} Outcome;

static void collect(FakeWorker *f, Outcome *o) {
    *o = (Outcome){0};
    bool started = false;
    size_t length = 0;
    for (;;) {
        fake_next_event(f, &o->last);
        const JobEvent *e = &o->last;
        if (e->kind == EVENT_STARTED) {
            CHECK(!started);
            started = true;
        } else if (e->kind == EVENT_TOKEN) {
            CHECK(started && e->token.length > 0);
            CHECK_INT_EQ(e->token.length, utf8_valid_prefix((Str){e->token.text, e->token.length}));
            REQUIRE(length + e->token.length < sizeof o->text);
            memcpy(o->text + length, e->token.text, e->token.length);
            length += e->token.length;
            o->n_tokens_events++;
        } else if (e->kind == EVENT_METRICS) {
            o->n_metrics++;
        } else {
            return;
        }
    }
}

static void check_silence(FakeWorker *f) {
    JobEvent e;
    os_sleep_ms(20);
    CHECK(!ring_pop(&fake_bridge(f)->events, &e)); // one terminal event, and nothing after it
}

TEST(sched_text_and_reasons) {
    static const struct {
        const char *name, *script, *stop, *text;
        uint32_t max_tokens;
        StopReason reason;
    } rows[] = {
        {"eos", "Hello world", NULL, "Hello world", 100, STOP_EOS},
        {"characters of four bytes", "ab\xF0\x9F\x8C\x8D\xF0\x9F\x8C\x8D!", NULL,
         "ab\xF0\x9F\x8C\x8D\xF0\x9F\x8C\x8D!", 100, STOP_EOS},
        {"stop in the middle", "one two three", " two", "one", 100, STOP_STRING},
        {"stop at the start", "one two three", "one", "", 100, STOP_STRING},
        {"stop across characters", "x\xC3\xA9\xC3\xA9y z", "\xC3\xA9y", "x\xC3\xA9", 100, STOP_STRING},
        {"half a stop string at the end", "one tw", " two", "one tw", 100, STOP_EOS},
        {"a stop string that begins twice", "aab", "ab", "a", 100, STOP_STRING},
        {"length", NULL, NULL, "aaa", 3, STOP_LENGTH},
        {"length cuts a character", "\xF0\x9F\x8C\x8D", NULL, "\xEF\xBF\xBD", 1, STOP_LENGTH},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].name);
        FakeWorker *f = fake_sched_start(&(FakeConfig){.script = rows[i].script});
        Outcome o;
        fake_submit(f, "a prompt", rows[i].max_tokens, rows[i].stop);
        collect(f, &o);
        CHECK_STR_EQ(rows[i].text, (const char *)o.text);
        if (CHECK_INT_EQ(EVENT_END, o.last.kind)) CHECK_INT_EQ(rows[i].reason, o.last.end.reason);
        CHECK_INT_EQ(0, fake_pages_used(f));
        CHECK(o.last.prefill_ns > 0);
        if (rows[i].reason == STOP_LENGTH) CHECK_INT_EQ(rows[i].max_tokens, o.last.tokens_out);
        check_silence(f);
        CHECK(fake_sched_stop(f));
    }
}

// M0: cancel or disconnect to an idle executor in under 100 ms; also while a prompt is processed.
TEST(sched_cancel_stops_within_100_ms) {
    static const struct {
        const char *name;
        uint32_t prompt_letters, wait_ms;
        CancelReason reason;
    } rows[] = {
        {"while writing", 4, 60, CANCEL_REQUESTED},
        {"while reading a long prompt", 1500, 30, CANCEL_REQUESTED},
        {"the client has gone", 4, 60, CANCEL_GONE},
        {"the worker stops", 4, 60, CANCEL_SHUTDOWN},
        {"at once", 4, 0, CANCEL_REQUESTED},
    };
    FakeWorker *f = fake_sched_start(&(FakeConfig){.step_ms = 10});
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char prompt[2048];
        Outcome o;
        TEST_CASE_LABEL("%s", rows[i].name);
        for (uint32_t k = 0; k < rows[i].prompt_letters; k++)
            prompt[k] = (char)('0' + k % 10);
        prompt[rows[i].prompt_letters] = 0;
        Job *job = fake_submit(f, prompt, 400, NULL);
        os_sleep_ms(rows[i].wait_ms);
        uint64_t begin_ns = os_monotonic_ns();
        bridge_cancel(fake_bridge(f), job, rows[i].reason);
        collect(f, &o);
        uint64_t took_ms = (os_monotonic_ns() - begin_ns) / 1000000;
        if (CHECK_INT_EQ(EVENT_ERROR, o.last.kind)) CHECK_INT_EQ(ERR_CANCELLED, o.last.error.code);
        uint64_t last_ns = fake_last_step_ns(f);
        CHECK_SOON(100, took_ms);
        CHECK_SOON(100, last_ns > begin_ns ? (last_ns - begin_ns) / 1000000 : 0);
        CHECK_INT_EQ(0, fake_pages_used(f));
        check_silence(f);
    }
    CHECK(fake_sched_stop(f));
}

TEST(sched_timeout_ends_a_job) {
    FakeWorker *f = fake_sched_start(&(FakeConfig){.step_ms = 5});
    Outcome o;
    Job *job = fake_submit(f, "a", 1000, NULL);
    (void)job;
    // The deadline is part of the submitted job; a second one, already over, is written before it is
    // submitted.
    bridge_cancel(fake_bridge(f), job, CANCEL_REQUESTED);
    collect(f, &o);
    Job *late = bridge_take_job(fake_bridge(f));
    static const int32_t prompt[] = {40, 41};
    late->tokens = prompt;
    late->n_tokens = 2;
    late->max_tokens = 1000;
    late->sampler = SAMPLER_GREEDY;
    late->accepted_ns = os_monotonic_ns();
    late->expires_ns = late->accepted_ns + 500 * 1000000ull; // busy or not, a step is done by then
    bridge_submit(fake_bridge(f), late);
    collect(f, &o);
    if (CHECK_INT_EQ(EVENT_ERROR, o.last.kind)) CHECK_INT_EQ(ERR_INFERENCE_TIMEOUT, o.last.error.code);
    CHECK(o.last.tokens_out > 0);
    CHECK(fake_sched_stop(f));
}

TEST(sched_metrics_at_most_every_500_ms) {
    FakeWorker *f = fake_sched_start(&(FakeConfig){.step_ms = 5});
    Outcome o;
    uint64_t begin_ns = os_monotonic_ns();
    fake_submit(f, "a", 250, NULL);
    collect(f, &o);
    uint64_t took_ms = (os_monotonic_ns() - begin_ns) / 1000000;
    CHECK(o.n_metrics >= 1);
    CHECK(o.n_metrics <= took_ms / METRICS_INTERVAL_MS);
    CHECK(fake_sched_stop(f));
}

// M0-W-1825: a job whose cache does not fit is that job's error; the next one works.
TEST(sched_vram_oom_is_one_jobs_error) {
    FakeWorker *f = fake_sched_start(&(FakeConfig){.script = "fine", .n_jobs = 2, .step_ms = 5});
    Outcome o;
    Job *first = fake_submit(f, "a", 2000, NULL);
    JobEvent e;
    fake_next_event(f, &e);
    CHECK_INT_EQ(EVENT_STARTED, e.kind);
    fake_refuse(f, ERR_VRAM_OOM);
    fake_submit(f, "b", 1000, NULL);
    do
        fake_next_event(f, &e);
    while (e.job == bridge_job_index(fake_bridge(f), first) && e.kind != EVENT_END);
    if (CHECK_INT_EQ(EVENT_ERROR, e.kind)) CHECK_INT_EQ(ERR_VRAM_OOM, e.error.code);
    do
        fake_next_event(f, &e);
    while (e.kind != EVENT_END);
    fake_refuse(f, ERR_NONE);
    fake_submit(f, "b", 1000, NULL);
    collect(f, &o);
    CHECK_INT_EQ(EVENT_END, o.last.kind);
    CHECK_STR_EQ("fine", (const char *)o.text);
    CHECK(fake_sched_stop(f));
}

// What was in the cache comes with the events, and why there was no more.
TEST(sched_says_what_was_cached) {
    FakeWorker *f = fake_sched_start(&(FakeConfig){.script = "fine"});
    for (uint32_t i = 0; i < 2; i++) {
        Outcome o;
        uint32_t n_prompt = fake_submit(f, "the same words twice, and some more of them", 9, NULL)->n_tokens;
        collect(f, &o);
        CHECK_INT_EQ(EVENT_END, o.last.kind);
        CHECK(n_prompt > KV_PAGE_TOKENS);
        CHECK_INT_EQ(i ? n_prompt - 1 : 0, o.last.tokens_cached);
        CHECK_INT_EQ(i ? CACHE_MISS_NONE : CACHE_MISS_NEW, o.last.cache_miss);
    }
    CHECK(atomic_load(&fake_bridge(f)->status.kv_pages_cached) > 1);
    CHECK_INT_EQ(0, atomic_load(&fake_bridge(f)->status.kv_pages_used));
    CHECK(fake_sched_stop(f));
}

// Jobs that do not fit the cache together make room for each other, which they tell, and none fails.
TEST(sched_jobs_that_do_not_fit_together_all_end) {
    FakeWorker *f = fake_sched_start(&(FakeConfig){.n_jobs = 4, .context = 512, .n_pages = 40});
    for (uint32_t i = 0; i < 4; i++)
        fake_submit(f, (const char *[]){"a", "b", "c", "d"}[i], 500, NULL); // 32 pages each
    uint32_t n_set_aside[4] = {0};
    for (uint32_t n_ends = 0; n_ends < 4;) {
        JobEvent e;
        fake_next_event(f, &e);
        if (e.kind == EVENT_SET_ASIDE) n_set_aside[e.job]++;
        if (e.kind != EVENT_END && !CHECK(e.kind != EVENT_ERROR)) break;
        if (e.kind != EVENT_END) continue;
        n_ends++;
        CHECK_INT_EQ(500, e.tokens_out);
        CHECK_INT_EQ(STOP_LENGTH, e.end.reason);
    }
    CHECK_INT_EQ(0, n_set_aside[0]); // the oldest
    CHECK(n_set_aside[1] + n_set_aside[2] + n_set_aside[3] > 0);
    CHECK(fake_sched_stop(f));
}

// A token that the reader knows by its id comes by itself, after all text before it, and parts the texts on
// both sides: no stop string goes across.
TEST(sched_marks_have_events_of_their_own) {
    static const struct {
        const char *script, *stop, *said;
    } rows[] = {
        {"ab<|start_header_id|>cd<|end_header_id|>", NULL, "ab[]cd[]."},
        {"ab<|start_header_id|>cd", "bc", "ab[]cd."}, // held back, and let go by the mark
        {"ab<|start_header_id|>cd", "cd", "ab[]."},
        {"abc<|start_header_id|>d", "bc", "a."},
        {"<|start_header_id|><|start_header_id|>", NULL, "[][]."},
        {"a\xE2\x82<|start_header_id|>b", NULL, "a\xEF\xBF\xBD[]b."}, // a character that is cut short
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].script);
        FakeWorker *f = fake_sched_start(&(FakeConfig){.script = rows[i].script});
        int32_t marks[] = {tokenizer_token_by_text(fake_tokenizer(f), STR("<|start_header_id|>")),
                           tokenizer_token_by_text(fake_tokenizer(f), STR("<|end_header_id|>"))};
        char memory[64];
        StrBuf said = STRBUF(memory);
        JobEvent e;
        fake_set_marks(f, marks, COUNT_OF(marks));
        fake_submit(f, "x", 20, rows[i].stop);
        do {
            fake_next_event(f, &e);
            if (e.kind != EVENT_TOKEN) continue;
            strbuf_put(&said, (Str){e.token.text, e.token.length});
            if (!e.token.is_mark) continue;
            CHECK(e.token.id == marks[0] || e.token.id == marks[1]);
            strbuf_put(&said, STR("[]"));
        } while (e.kind != EVENT_END && e.kind != EVENT_ERROR);
        strbuf_put(&said, e.kind == EVENT_END ? STR(".") : STR("!"));
        CHECK_STR_EQ(rows[i].said, strbuf_str(&said));
        CHECK(fake_sched_stop(f));
    }
}

TEST(sched_nan_logits_are_one_jobs_error) {
    FakeWorker *f = fake_sched_start(&(FakeConfig){.script = NULL});
    Outcome o;
    fake_emit_nan(f);
    fake_submit(f, "a", 10, NULL);
    collect(f, &o);
    if (CHECK_INT_EQ(EVENT_ERROR, o.last.kind)) CHECK_INT_EQ(ERR_INTERNAL, o.last.error.code);
    CHECK_STR_EQ("", (const char *)o.text);
    CHECK_INT_EQ(0, fake_pages_used(f));
    CHECK(fake_sched_stop(f));
}

TEST(sched_lost_backend_ends_every_job) {
    FakeWorker *f = fake_sched_start(&(FakeConfig){.n_jobs = 3, .step_ms = 2});
    JobEvent e;
    for (int i = 0; i < 3; i++)
        fake_submit(f, "a", 1000, NULL);
    os_sleep_ms(20);
    fake_fail(f, ERR_CUDA);
    uint32_t ended = 0;
    while (ended < 3) {
        fake_next_event(f, &e);
        if (e.kind != EVENT_ERROR) continue;
        CHECK_INT_EQ(ERR_CUDA, e.error.code);
        ended++;
    }
    check_silence(f);
    CHECK(!fake_sched_stop(f));
    CHECK_INT_EQ(WORKER_FAILED, bridge_phase(fake_bridge(f)));
}

// Nothing runs, and the next job finds out.
TEST(sched_backend_lost_while_idle) {
    FakeWorker *f = fake_sched_start(&(FakeConfig){.n_jobs = 2});
    Outcome o;
    fake_fail(f, ERR_CUDA);
    fake_submit(f, "a", 10, NULL);
    collect(f, &o);
    if (CHECK_INT_EQ(EVENT_ERROR, o.last.kind)) CHECK_INT_EQ(ERR_CUDA, o.last.error.code);
    check_silence(f);
    CHECK(!fake_sched_stop(f));
    CHECK_INT_EQ(WORKER_FAILED, bridge_phase(fake_bridge(f)));
}

// Jobs side by side: each gets its own text whole, and exactly one end.
TEST(sched_jobs_side_by_side) {
    FakeWorker *f = fake_sched_start(&(FakeConfig){.script = "the same for everyone", .n_jobs = 8});
    char memory[8][64];
    StrBuf text[8];
    for (int i = 0; i < 8; i++)
        text[i] = STRBUF(memory[i]);
    uint32_t ends[8] = {0}, total = 0;
    for (int i = 0; i < 8; i++)
        fake_submit(f, "a prompt", 100, NULL);
    while (total < 8) {
        JobEvent e;
        fake_next_event(f, &e);
        if (e.kind == EVENT_TOKEN) strbuf_put(&text[e.job], (Str){e.token.text, e.token.length});
        if (e.kind != EVENT_END) continue;
        ends[e.job]++;
        total++;
    }
    for (int i = 0; i < 8; i++) {
        CHECK_STR_EQ("the same for everyone", strbuf_str(&text[i]));
        CHECK_INT_EQ(1, ends[i]);
    }
    check_silence(f);
    CHECK(fake_sched_stop(f));
}

// The engine thread waits for a reader that has fallen behind, and loses nothing.
TEST(sched_full_event_ring_loses_nothing) {
    FakeWorker *f = fake_sched_start(&(FakeConfig){.context = 16384});
    fake_submit(f, "a", 3 * EVENT_RING_ENTRIES, NULL);
    for (int waited = 0; ring_room(&fake_bridge(f)->events) > 0 && waited < 20000; waited++)
        os_sleep_ms(1);
    CHECK_INT_EQ(0, ring_room(&fake_bridge(f)->events));
    uint64_t letters = 0;
    JobEvent e;
    do {
        fake_next_event(f, &e);
        if (e.kind == EVENT_TOKEN) letters += e.token.length;
    } while (e.kind != EVENT_END);
    CHECK_INT_EQ(3 * EVENT_RING_ENTRIES, letters);
    CHECK(fake_sched_stop(f));
}

TEST(sched_stop_ends_running_jobs) {
    FakeWorker *f = fake_sched_start(&(FakeConfig){.n_jobs = 2, .step_ms = 2});
    JobEvent e;
    fake_submit(f, "a", 1000, NULL);
    fake_submit(f, "b", 1000, NULL);
    os_sleep_ms(20);
    CHECK(fake_sched_stop(f));
    uint32_t ended = 0;
    while (ring_pop(&fake_bridge(f)->events, &e)) {
        if (e.kind == EVENT_ERROR) ended += e.error.code == ERR_CANCELLED;
    }
    CHECK_INT_EQ(2, ended);
}

// ---- ids, control tokens, log-probabilities ----

static void put_event(const Tokenizer *t, const JobEvent *e, StrBuf *text, StrBuf *ids) {
    strbuf_put(text, (Str){e->token.text, e->token.length});
    if (e->token.id != TOKEN_INVALID) strbuf_put(ids, tokenizer_piece(t, e->token.id, true));
}

// `ids` is what all ids stand for, in order: none is lost, and only the one that ends the text is not there.
TEST(sched_ids_and_control_tokens) {
    static const struct {
        const char *name, *script, *stop;
        bool return_tokens, special_tokens, ignore_eos;
        const char *text, *ids;
        StopReason reason;
        const char *last; // the token that ended it
    } rows[] = {
        {"as ever", "a<|start_header_id|>b", NULL, .text = "ab", .ids = "", .reason = STOP_EOS,
         .last = "<|eot_id|>"},
        {"ids", "a<|start_header_id|>b", NULL, .return_tokens = true, .text = "ab",
         .ids = "a<|start_header_id|>b", .reason = STOP_EOS, .last = "<|eot_id|>"},
        {"control tokens are shown", "a<|start_header_id|>b<|end_header_id|>", NULL, .special_tokens = true,
         .text = "a<|start_header_id|>b<|end_header_id|>", .ids = "", .reason = STOP_EOS,
         .last = "<|eot_id|>"},
        {"both", "a<|start_header_id|>b", NULL, .return_tokens = true, .special_tokens = true,
         .text = "a<|start_header_id|>b", .ids = "a<|start_header_id|>b", .reason = STOP_EOS,
         .last = "<|eot_id|>"},
        {"text that is held back", "one tw", " two", .return_tokens = true, .text = "one tw", .ids = "one tw",
         .reason = STOP_EOS, .last = "<|eot_id|>"},
        {"a stop string", "one two three", " two", .return_tokens = true, .text = "one", .ids = "one two",
         .reason = STOP_STRING},
        {"a character of four tokens", "\xF0\x9F\x8C\x8D!", NULL, .return_tokens = true,
         .text = "\xF0\x9F\x8C\x8D!", .ids = "\xF0\x9F\x8C\x8D!", .reason = STOP_EOS, .last = "<|eot_id|>"},
        {"a stop string that is a control token", "Hi<|end_header_id|>#Z", "<|end_header_id|>", .text = "Hi",
         .ids = "", .reason = STOP_STRING, .last = "<|end_header_id|>"},
        {"and text that was held back before it", "one t<|end_header_id|>#Z", "<|end_header_id|>",
         .return_tokens = true, .text = "one t", .ids = "one t", .reason = STOP_STRING,
         .last = "<|end_header_id|>"},
        {"and half a character", "a\xF0\x9F<|end_header_id|>#", "<|end_header_id|>", .return_tokens = true,
         .text = "a\xEF\xBF\xBD", .ids = "a\xF0\x9F", .reason = STOP_STRING, .last = "<|end_header_id|>"},
        {"shown, and a stop string that begins with one", "a<|start_header_id|>b", "id|>b",
         .special_tokens = true, .text = "a<|start_header_", .ids = "", .reason = STOP_STRING},
        {"ends of text are ignored", "a", NULL, .ignore_eos = true, .return_tokens = true, .text = "a",
         .ids = "a<|eot_id|><|eot_id|><|eot_id|>", .reason = STOP_LENGTH},
        {"but not where a stop string names them", "a", "<|eot_id|>", .ignore_eos = true, .text = "a",
         .ids = "", .reason = STOP_STRING, .last = "<|eot_id|>"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].name);
        FakeWorker *f = fake_sched_start(&(FakeConfig){.script = rows[i].script});
        const Tokenizer *t = fake_tokenizer(f);
        ExecuteRequest request = {.job_id = STR("j"),
                                  .prompt = STR("p"),
                                  .max_tokens = rows[i].ignore_eos ? 4 : 100,
                                  .top_p = 1,
                                  .repetition_penalty = 1,
                                  .return_tokens = rows[i].return_tokens,
                                  .special_tokens = rows[i].special_tokens,
                                  .ignore_eos = rows[i].ignore_eos};
        if (rows[i].stop) request.stop = (FieldTexts){.texts = {str_from_c(rows[i].stop)}, .count = 1};
        fake_submit_request(f, &request);
        char text_memory[256], ids_memory[256];
        StrBuf text = STRBUF(text_memory), ids = STRBUF(ids_memory);
        JobEvent e;
        for (fake_next_event(f, &e); e.kind != EVENT_END; fake_next_event(f, &e)) {
            REQUIRE(e.kind != EVENT_ERROR);
            if (e.kind == EVENT_TOKEN) put_event(t, &e, &text, &ids);
        }
        CHECK_STR_EQ(rows[i].text, strbuf_str(&text));
        CHECK_STR_EQ(rows[i].ids, strbuf_str(&ids));
        CHECK_INT_EQ(rows[i].reason, e.end.reason);
        CHECK_STR_EQ(rows[i].last ? rows[i].last : "",
                     e.end.token == TOKEN_INVALID ? (Str){0} : tokenizer_piece(t, e.end.token, true));
        CHECK(fake_sched_stop(f));
    }
}

TEST(sched_logprobs_with_each_token) {
    static const uint32_t counts[] = {0, 1, 20};
    for (size_t i = 0; i < COUNT_OF(counts); i++) {
        TEST_CASE_LABEL("%u", counts[i]);
        FakeWorker *f = fake_sched_start(&(FakeConfig){.script = "a<|start_header_id|>\xF0\x9F\x8C\x8D"});
        ExecuteRequest request = {.job_id = STR("j"),
                                  .prompt = STR("p"),
                                  .max_tokens = 100,
                                  .top_p = 1,
                                  .repetition_penalty = 1,
                                  .has_logprobs = true,
                                  .logprobs = counts[i]};
        fake_submit_request(f, &request);
        uint32_t n_tokens = 0;
        JobEvent e;
        for (fake_next_event(f, &e); e.kind != EVENT_END; fake_next_event(f, &e)) {
            if (e.kind != EVENT_TOKEN) continue;
            n_tokens++;
            CHECK(e.token.has_logprobs && e.token.id == e.token.logprobs.token);
            CHECK_INT_EQ(counts[i], e.token.logprobs.n_best);
            for (uint32_t k = 0; k < e.token.logprobs.n_best; k++)
                CHECK_INT_EQ(k, e.token.logprobs.best[k].id);
        }
        CHECK_INT_EQ(e.tokens_out, n_tokens);
        CHECK(fake_sched_stop(f));
    }
}

// Each of them ends with its own error, and the worker goes on.
TEST(sched_nan_logits_of_several_jobs_at_once) {
    FakeWorker *f = fake_sched_start(&(FakeConfig){.n_jobs = 4, .step_ms = 2});
    uint32_t started = 0, ended[4] = {0};
    JobEvent e;
    for (int i = 0; i < 4; i++)
        fake_submit(f, "a", 1000, NULL);
    while (started < 4) {
        fake_next_event(f, &e);
        started += e.kind == EVENT_STARTED;
    }
    fake_emit_nan(f);
    for (int i = 0; i < 4;) {
        fake_next_event(f, &e);
        if (e.kind != EVENT_ERROR) continue;
        CHECK_INT_EQ(ERR_INTERNAL, e.error.code);
        ended[e.job]++;
        i++;
    }
    for (int i = 0; i < 4; i++)
        CHECK_INT_EQ(1, ended[i]);
    CHECK_INT_EQ(0, fake_pages_used(f));
    check_silence(f);
    CHECK(fake_sched_stop(f));
}
