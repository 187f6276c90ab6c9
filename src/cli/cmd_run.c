#include "cli/commands.h"
#include "cli/model.h"
#include "cli/progress.h"
#include "cli/sampling.h"
#include "cli/turns.h"
#include "engine/engine.h"
#include "os/os.h"
#include "text/detokenizer.h"
#include "text/stop_matcher.h"
#include "json/json_writer.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

enum { RUN_OUTPUT_MB = 256, CANDIDATES_MAX = 64 };

typedef struct {
    int32_t id;
    double logprob;
} Candidate;

typedef struct {
    const Options *options;
    Model model;
    Engine *engine;  // NULL with --logits: then the backend is driven directly
    uint32_t *pages; // of the one sequence, for that: StepSequence.pages
    uint32_t list_pages;
    Detokenizer detokenizer;
    StopMatcher stop;
    TokenIds prompt;
    SamplerParams sampler;
    uint32_t max_tokens;
    uint32_t slot;
    uint32_t tokens_out;
    Candidate candidates[CANDIDATES_MAX]; // of the last step
    uint32_t n_candidates;
    const char *stop_reason;
    uint64_t begun_ns, first_ns, last_ns;
    StrBuf text;  // --json: all of it
    StrBuf steps; // --json: the members of "tokens"
    PromptProgress progress;
    bool output_failed; // then nothing more is written
    Error output_error;
} Run;

// ---- the prompt ----

static bool read_prompt(Run *r, Str *out, Error *err) {
    const Options *o = r->options;
    *out = str_from_c(o->prompt);
    if (o->prompt) return true;
    const char *path = o->prompt_file ? o->prompt_file : "-";
    if (!o->prompt_file && os_is_terminal(0)) {
        (void)os_write(2, STR("Reading the prompt from the terminal; Ctrl-D ends it.\n"));
    }
    if (!os_file_read(path, 16 << 20, &r->model.arena, out, err)) return false;
    // What ends the last line is the shell's or the editor's, and not part of the text.
    if (str_ends_with(*out, STR("\n"))) out->len--;
    if (str_ends_with(*out, STR("\r"))) out->len--;
    return out->len || error_set(err, ERR_USAGE, "the prompt is empty");
}

// Whether a token is a stop string that names it. Control tokens give no text that could match.
static bool is_stop_token(const Run *r, int32_t token) {
    for (uint32_t i = 0; i < r->options->stop.count; i++) {
        if (tokenizer_stop_token(r->model.tokenizer, str_from_c(r->options->stop.values[i])) == token)
            return true;
    }
    return false;
}

static bool encode_prompt(Run *r, Str text, Error *err) {
    const Options *o = r->options;
    Model *m = &r->model;
    if (!o->chat) return model_encode(m, text, TOKENIZER_PROMPT, &r->prompt, err);
    ChatModel chat;
    TurnsPrompt prompt;
    ChatTurn turns[2] = {{.role = "system", .text = str_from_c(o->system)}, {.role = "user", .text = text}};
    const ChatTurn *first = o->system ? turns : turns + 1; // no message rather than an empty one
    if (!model_open_chat(o, m, &chat, err)) return false;
    if (!turns_prompt(&chat, first, o->system ? 2 : 1, NULL, 0, &m->arena, &prompt, err))
        return error_prefix(err, "--chat: %s", m->path);
    r->prompt = prompt.ids;
    return true;
}

static bool check_lengths(Run *r, Error *err) {
    const Model *m = &r->model;
    size_t context = backend_context(&m->backend->info, m->plan), n = r->prompt.count;
    if (n == 0) return error_set(err, ERR_USAGE, "the prompt gives no tokens");
    if (n >= context) {
        return error_set(err, ERR_USAGE, "the prompt has %zu token%s; the context holds %zu", n, plural_s(n),
                         context);
    }
    r->max_tokens = (uint32_t)min_u64(r->options->max_tokens, context - n);
    if (r->max_tokens < r->options->max_tokens) {
        fprintf(stderr,
                "worker-orcd: --max-tokens %u is cut to %u: the prompt has %zu token%s and the context holds "
                "%zu\n",
                r->options->max_tokens, r->max_tokens, n, plural_s(n), context);
    }
    return true;
}

// ---- tokens ----

static bool begin_generation(Run *r, Error *err) {
    Model *m = &r->model;
    if (!r->options->logits) {
        EngineRequest request = {.tokens = r->prompt.ptr,
                                 .n_prompt = (uint32_t)r->prompt.count,
                                 .max_tokens = r->max_tokens,
                                 .sampler = r->sampler};
        return engine_create(m->backend, m->plan, 1, &m->arena, &r->engine, err) &&
               engine_admit(r->engine, &request, &r->slot, err);
    }
    uint64_t n_tokens = r->prompt.count + r->max_tokens;
    r->list_pages = (uint32_t)kv_pages_of(n_tokens);
    r->pages = arena_new(&m->arena, uint32_t, (uint64_t)m->plan->kv.n_lists * r->list_pages);
    if (!r->pages) return error_set(err, ERR_NO_MEMORY, "no memory for the list of pages");
    kv_layout_spread(&m->plan->kv, n_tokens, backend_chunk_rows(m->backend->info.max_rows), 0, r->pages);
    SequenceStart start = {
        .params = r->sampler, .tokens = r->prompt.ptr, .n_prompt = (uint32_t)r->prompt.count};
    return m->backend->begin(m->backend, 0, &start, err);
}

// The n most likely ids by falling logit, ties to the lower id, with the logarithm of their softmax.
static uint32_t best_candidates(const float *logits, uint32_t n_vocab, uint32_t n, Candidate *out) {
    uint32_t count = 0;
    for (uint32_t id = 0; id < n_vocab; id++) {
        double logit = logits[id];
        if (count == n && logit <= out[count - 1].logprob) continue;
        uint32_t at = count < n ? count++ : n - 1;
        for (; at > 0 && out[at - 1].logprob < logit; at--)
            out[at] = out[at - 1];
        out[at] = (Candidate){.id = (int32_t)id, .logprob = logit};
    }
    double sum = 0, most = count ? out[0].logprob : 0;
    for (uint32_t id = 0; id < n_vocab; id++)
        sum += exp((double)logits[id] - most);
    for (uint32_t i = 0; i < count; i++)
        out[i].logprob -= most + log(sum);
    return count;
}

// One step of the backend that gives logits, too: the prompt in chunks, then token by token.
static bool next_with_logits(Run *r, int32_t *token, Error *err) {
    Backend *b = r->model.backend;
    uint32_t n_prompt = (uint32_t)r->prompt.count;
    uint32_t chunk = b->info.chunk_tokens ? b->info.chunk_tokens : b->info.max_rows; // as the engine begins
    uint32_t at = r->tokens_out ? n_prompt + r->tokens_out - 1 : 0;
    uint32_t end = r->tokens_out ? at + 1 : n_prompt;
    StepResult result = {0};
    while (at < end) {
        uint32_t n = (uint32_t)min_u64(chunk, end - at);
        bool last = at + n == end;
        StepSequence sequence = {.mode = r->tokens_out ? STEP_DECODE : STEP_PROMPT,
                                 .position = at,
                                 .n_rows = n,
                                 .tokens = r->tokens_out ? NULL : r->prompt.ptr + at,
                                 .pages = r->pages,
                                 .list_pages = r->list_pages,
                                 .n_draws = last,
                                 .n_logits = last};
        if (!b->step(b, &(Step){.sequences = &sequence, .n_sequences = 1}, err)) return false;
        if (!b->read(b, &result, err)) return false;
        at += n;
        if (os_stop_signals() && !last) return error_set(err, ERR_CANCELLED, "stopped");
        if (!r->tokens_out) prompt_progress_update(&r->progress, at, n_prompt);
    }
    const StepRun *run = &result.runs[0];
    *token = run->tokens[0];
    if (*token == TOKEN_INVALID) {
        return error_set(err, ERR_INTERNAL, "the model computed NaN or infinity%s%s",
                         run->first_invalid ? ", first in " : "",
                         run->first_invalid ? run->first_invalid : "");
    }
    assert(result.logits); // they were asked for
    r->n_candidates =
        best_candidates(result.logits, r->model.plan->n_vocab, r->options->logits, r->candidates);
    return true;
}

static bool next_token(Run *r, int32_t *token, Error *err) {
    if (!r->engine) return next_with_logits(r, token, err);
    EngineOutput output = {0};
    uint32_t n_outputs;
    while (output.n_tokens == 0) {
        if (!engine_step(r->engine, &output, &n_outputs, err)) return false;
        if (output.failure) *err = *output.failure;
        if (output.failure) return false;
        if (output.n_tokens == 0 && os_stop_signals()) return error_set(err, ERR_CANCELLED, "stopped");
        prompt_progress_update(&r->progress, output.n_prompt_done, r->prompt.count);
    }
    *token = output.tokens[0];
    return true;
}

// ---- output ----

static void put_output(Run *r, Str bytes) {
    if (!r->output_failed) r->output_failed = !os_output(bytes, &r->output_error);
}

static void put_text(Run *r, Str text) {
    if (r->options->json) strbuf_put(&r->text, text);
    else if (!r->options->ids && !r->options->logits) put_output(r, text);
}

// A line "   7    260 ' the'   260:-0.1234 …" for people who look at a model's choices.
static void print_candidates(Run *r, int32_t token) {
    char line[8192];
    StrBuf b = STRBUF(line);
    Str piece = tokenizer_piece(r->model.tokenizer, token, true);
    strbuf_printf(&b, "%5u %7d '%.*s'\t", r->tokens_out - 1, token, STR_ARG(piece));
    for (uint32_t i = 0; i < r->n_candidates; i++) {
        strbuf_printf(&b, "%s%d:%.4f", i ? " " : "", r->candidates[i].id, r->candidates[i].logprob);
    }
    strbuf_put_char(&b, '\n');
    put_output(r, strbuf_str(&b));
}

static void put_token(Run *r, int32_t token) {
    if (r->options->json) {
        JsonWriter w = json_writer_begin(&r->steps);
        if (r->tokens_out > 1) strbuf_put_char(&r->steps, ',');
        json_open_object(&w);
        json_member_i64(&w, "id", token);
        json_member_str(&w, "text", tokenizer_piece(r->model.tokenizer, token, true));
        if (r->options->logits) json_key(&w, "candidates"), json_open_array(&w);
        for (uint32_t i = 0; i < r->n_candidates; i++) {
            json_open_object(&w);
            json_member_i64(&w, "id", r->candidates[i].id);
            json_member_f64(&w, "logprob", r->candidates[i].logprob);
            json_close_object(&w);
        }
        if (r->options->logits) json_close_array(&w);
        json_close_object(&w);
    } else if (r->options->logits) {
        print_candidates(r, token);
    } else if (r->options->ids) {
        char text[16];
        int length = snprintf(text, sizeof text, "%s%d", r->tokens_out > 1 ? " " : "", token);
        put_output(r, (Str){text, (size_t)length});
    }
}

// What ended a text that cannot be written.
static const char *failed_output(const Run *r) {
    return r->output_error.code == ERR_READER_LEFT ? "its reader" : "a failed write";
}

static bool generate(Run *r, Error *err) {
    r->begun_ns = os_monotonic_ns();
    r->progress = prompt_progress_begin();
    if (!begin_generation(r, err)) return false;
    while (!r->stop_reason) {
        int32_t token;
        bool ok = next_token(r, &token, err);
        prompt_progress_end(&r->progress);
        if (!ok && err->code == ERR_CANCELLED && r->tokens_out) {
            r->stop_reason = "interrupted";
            break;
        }
        if (!ok && err->code == ERR_CANCELLED)
            return error_set(err, ERR_CANCELLED, "stopped before the first token");
        if (!ok) return false;
        r->last_ns = os_monotonic_ns();
        if (!r->first_ns) r->first_ns = r->last_ns;
        if (tokenizer_is_end(r->model.tokenizer, token)) {
            r->stop_reason = "eos";
            break;
        }
        if (is_stop_token(r, token)) {
            r->stop_reason = "stop";
            break;
        }
        r->tokens_out++;
        put_token(r, token);
        StopOutput text = stop_matcher_push(&r->stop, detokenizer_push(&r->detokenizer, token));
        put_text(r, text.first);
        put_text(r, text.second);
        if (text.stopped) r->stop_reason = "stop";
        else if (r->tokens_out == r->max_tokens) r->stop_reason = "length";
        else if (r->output_failed) r->stop_reason = failed_output(r);
        else if (os_stop_signals()) r->stop_reason = "interrupted";
    }
    if (strcmp(r->stop_reason, "stop") != 0) {
        StopOutput tail = stop_matcher_push(&r->stop, detokenizer_flush(&r->detokenizer));
        put_text(r, tail.first);
        put_text(r, tail.second);
        if (!tail.stopped) put_text(r, stop_matcher_flush(&r->stop));
    }
    return true;
}

static double per_second(uint64_t count, uint64_t ns) {
    return ns ? (double)count * 1e9 / (double)ns : 0;
}

static void print_figures(const Run *r) {
    const BackendInfo *info = &r->model.backend->info;
    uint64_t prefill_ns = r->first_ns - r->begun_ns, decode_ns = r->last_ns - r->first_ns;
    char text[1024];
    StrBuf b = STRBUF(text);
    bool styled = os_is_terminal(2);
    strbuf_printf(&b, "\n%s%.*s %s on %s, loaded in %.2f s", styled ? "\x1b[2m" : "", STR_ARG(r->model.name),
                  r->model.quant_kind, info->kind, info->load_seconds);
    if (info->jit_compiled) {
        strbuf_printf(&b, " (%u kernel%s compiled in %.2f s, the slowest %s in %.2f s)", info->jit_compiled,
                      plural_s(info->jit_compiled), info->jit_seconds, info->jit_slowest,
                      info->jit_slowest_seconds);
    }
    strbuf_put_char(&b, '\n');
    strbuf_printf(&b, "prompt %zu token%s, %.1f/s; first token after %.0f ms; output %u token%s",
                  r->prompt.count, plural_s(r->prompt.count), per_second(r->prompt.count, prefill_ns),
                  (double)prefill_ns / 1e6, r->tokens_out, plural_s(r->tokens_out));
    // The first token's time is the prompt's.
    if (r->tokens_out > 1) strbuf_printf(&b, ", %.1f/s", per_second(r->tokens_out - 1, decode_ns));
    strbuf_printf(&b, "\nended by %s; seed %" PRIu64 "%s\n", r->stop_reason, r->sampler.seed,
                  styled ? "\x1b[0m" : "");
    (void)os_write(2, strbuf_str(&b));
}

static bool print_json(Run *r, Error *err) {
    uint64_t prefill_ns = r->first_ns - r->begun_ns, decode_ns = r->last_ns - r->first_ns;
    StrBuf out = strbuf_begin_in_arena(&r->model.arena);
    JsonWriter w = json_writer_begin(&out);
    json_open_object(&w);
    json_member_str(&w, "model", r->model.name);
    json_member_str(&w, "text", strbuf_str(&r->text));
    json_key(&w, "tokens");
    json_open_array(&w);
    json_put_raw(&w, strbuf_str(&r->steps));
    json_close_array(&w);
    json_member_u64(&w, "tokens_in", r->prompt.count);
    json_member_u64(&w, "tokens_out", r->tokens_out);
    json_member_fixed(&w, "prefill_time_ms", (double)prefill_ns / 1e6, 3);
    json_member_fixed(&w, "decode_time_ms", (double)decode_ns / 1e6, 3);
    json_member_str(&w, "stop_reason", str_from_c(r->stop_reason));
    json_member_u64(&w, "seed", r->sampler.seed);
    json_close_object(&w);
    strbuf_put_char(&out, '\n');
    if (out.truncated || r->text.truncated || r->steps.truncated) {
        return error_set(err, ERR_NO_MEMORY, "the answer is larger than its memory");
    }
    return os_output(strbuf_str(&out), err);
}

// What the model's vocabulary does not allow is a wrong flag here.
static bool check_sampler(Run *r, Error *err) {
    const Plan *plan = r->model.plan;
    if (sampler_check(&r->sampler, plan->n_vocab, err) &&
        sampler_suppress(&r->sampler, plan->suppressed, plan->n_suppressed, err))
        return true;
    err->code = ERR_USAGE;
    return false;
}

static bool prepare(Run *r, Error *err) {
    const Options *o = r->options;
    Str text, stop[STOP_STRINGS_MAX];
    Arena output = os_arena((size_t)RUN_OUTPUT_MB << 20), steps = {0};
    if (!arena_split(&output, (size_t)RUN_OUTPUT_MB << 19, &steps)) steps = (Arena){0};
    r->text = strbuf_begin_in_arena(&output);
    r->steps = strbuf_begin_in_arena(&steps);
    for (uint32_t i = 0; i < o->stop.count; i++)
        stop[i] = str_from_c(o->stop.values[i]);
    Model *m = &r->model;
    return read_prompt(r, &text, err) && encode_prompt(r, text, err) && check_lengths(r, err) &&
           check_sampler(r, err) &&
           (detokenizer_init(&r->detokenizer, m->tokenizer, &m->arena) ||
            error_set(err, ERR_NO_MEMORY, "no memory for the detokeniser")) &&
           stop_matcher_init(&r->stop, stop, o->stop.count, &m->arena, err);
}

// Whether `run` was started as one starts a conversation: at a terminal, with nothing to continue.
static bool begins_conversation(const Options *o) {
    return !o->prompt && !o->prompt_file && !o->chat && !o->ids && !o->json && !o->logits && !o->stop.count &&
           os_is_terminal(0) && os_is_terminal(1);
}

int cmd_run(const Options *o) {
    Error err;
    Run run = {.options = o};
    ChatModel chat = {0};
    bool ok = sampling_from_options(o, &run.sampler, &err) && model_load(o, 1, 0, &run.model, &err);
    if (ok && begins_conversation(o) && model_open_chat(o, &run.model, &chat, &err) && chat.plain) {
        ok = chat_converse(o, &run.model, &chat, &err);
        model_close(&run.model);
        return ok ? 0 : cli_report_error(&err);
    }
    ok = ok && prepare(&run, &err);
    os_install_stop_signals(-1); // not sooner: until then there is no text to end well
    ok = ok && generate(&run, &err);
    if (ok && o->json) ok = print_json(&run, &err);
    if (ok && !o->json) {
        if (!o->logits) put_output(&run, STR("\n"));
        print_figures(&run);
        if (run.output_failed) err = run.output_error;
        ok = !run.output_failed;
    }
    model_close(&run.model);
    return ok ? 0 : cli_report_error(&err);
}
