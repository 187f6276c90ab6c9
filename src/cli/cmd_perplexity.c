#include "cli/commands.h"
#include "cli/model.h"
#include "os/os.h"
#include "json/json_writer.h"

#include <math.h>
#include <stdio.h>

enum { TEXT_BYTES_MAX = 256 << 20 };

// exp of the mean of -ln p over the scored tokens. Windows of N tokens follow each other without overlap; in
// each, the second half is scored: the logits at positions N/2 - 1 to N - 2, each on the token that follows.
// So every scored token has at least N/2 tokens before it. Where the vocabulary wants BOS, it takes the place
// of each window's first token.
typedef struct {
    const Options *options;
    Model model;
    TokenIds tokens;
    uint32_t n_window;
    uint32_t n_windows;
    int32_t *window;
    uint32_t *pages;
    uint64_t n_scored;
    double sum, sum_squared; // of -ln p
    double of_whole_windows; // the perplexity after the last of them
    // Of all scored tokens the one with the largest -ln p, for what is said of a perplexity that is infinite.
    double largest;
    uint32_t largest_window, largest_position; // of the logits
    uint32_t invalid; // the first position of the window whose logits are not numbers; UINT32_MAX: none
    bool terminal;
} Perplexity;

static void figures(const Perplexity *p, double *perplexity, double *error) {
    double n = (double)p->n_scored, mean = p->sum / n;
    double variance = fmax(0, p->sum_squared / n - mean * mean);
    *perplexity = exp(mean);
    *error = n > 1 ? exp(mean) * sqrt(variance / (n - 1)) : 0;
}

// -ln of the softmax of `logits` at `token`; NAN where one of them is NaN or infinite.
static double negative_log_probability(const float *logits, uint32_t n_vocab, int32_t token) {
    double most = logits[0];
    bool finite = true;
    for (uint32_t i = 0; i < n_vocab; i++) {
        most = fmax(most, logits[i]);
        finite &= isfinite(logits[i]) != 0;
    }
    if (!finite) return NAN;
    double sum = exp(logits[0] - most);
    for (uint32_t i = 1; i < n_vocab; i++)
        sum += exp(logits[i] - most);
    return log(sum) + most - logits[token];
}

static void score_rows(Perplexity *p, const StepResult *result, uint32_t index, uint32_t first_position) {
    uint32_t n_vocab = p->model.plan->n_vocab;
    for (uint32_t i = 0; i < result->n_logits; i++) {
        uint32_t next = first_position + i + 1;
        if (next >= p->n_window) return;
        double nll = negative_log_probability(result->logits + (size_t)i * n_vocab, n_vocab, p->window[next]);
        if (isnan(nll)) {
            p->invalid = next - 1;
            return;
        }
        if (nll > p->largest) {
            p->largest = nll;
            p->largest_window = index;
            p->largest_position = next - 1;
        }
        p->sum += nll;
        p->sum_squared += nll * nll;
        p->n_scored++;
    }
}

// Runs the window's first n rows. n_scored of them, the last ones, are scored, or, where there are none, a
// token is drawn of the last row, in *drawn.
static bool run_rows(Perplexity *p, uint32_t index, uint32_t n, uint32_t n_scored, StepRun *drawn,
                     Error *err) {
    Backend *b = p->model.backend;
    SequenceStart start = {.params = SAMPLER_GREEDY, .tokens = p->window, .n_prompt = n};
    uint32_t scored_from = n - n_scored;
    if (!b->begin(b, 0, &start, err)) return false;
    // The size that a first step has, so that a stop signal is seen soon.
    uint32_t most = b->info.chunk_tokens ? b->info.chunk_tokens : b->info.max_rows;
    for (uint32_t at = 0; at < n && p->invalid == UINT32_MAX;) {
        uint32_t rows = (uint32_t)min_u64(most, n - at);
        uint32_t first = at > scored_from ? at : scored_from; // scored position of this step
        uint32_t n_logits = at + rows > first ? at + rows - first : 0;
        StepSequence sequence = {.position = at,
                                 .n_rows = rows,
                                 .tokens = p->window + at,
                                 .pages = p->pages,
                                 .list_pages = (uint32_t)kv_pages_of(p->n_window),
                                 .n_draws = drawn && at + rows == n,
                                 .n_logits = n_logits};
        StepResult result;
        if (!b->step(b, &(Step){.sequences = &sequence, .n_sequences = 1}, err)) return false;
        if (!b->read(b, &result, err)) return false;
        if (os_stop_signals()) return error_set(err, ERR_CANCELLED, "stopped");
        if (n_logits) score_rows(p, &result, index, first);
        if (sequence.n_draws) *drawn = result.runs[0];
        at += rows;
    }
    return true;
}

// The operation is known of a row of which a token should have been drawn: the rows up to the first with such
// logits are run once more, and the last draws.
static bool refuse_invalid(Perplexity *p, uint32_t index, Error *err) {
    uint32_t position = p->invalid;
    StepRun drawn = {0};
    p->invalid = UINT32_MAX;
    if (!run_rows(p, index, position + 1, 0, &drawn, err)) return false;
    return error_set(err, ERR_INTERNAL, "window %u, position %u: the model computed NaN or infinity%s%s",
                     index, position, drawn.first_invalid ? ", first in " : "",
                     drawn.first_invalid ? drawn.first_invalid : "");
}

static bool score_window(Perplexity *p, uint32_t index, Error *err) {
    const Tokenizer *t = p->model.tokenizer;
    uint32_t n = p->n_window;
    double perplexity, error;
    memcpy(p->window, p->tokens.ptr + (size_t)index * n, n * sizeof *p->window);
    if (tokenizer_adds_bos(t)) p->window[0] = tokenizer_bos(t);
    p->invalid = UINT32_MAX;
    if (!run_rows(p, index, n, n - (n / 2 - 1), NULL, err)) return false;
    if (p->invalid != UINT32_MAX) return refuse_invalid(p, index, err);
    figures(p, &perplexity, &error);
    if (isfinite(perplexity) && isfinite(error)) return true;
    return error_set(err, ERR_INTERNAL,
                     "window %u: the perplexity is infinite; in window %u the model gives the token behind "
                     "position %u a probability of exp(-%g), as weights or scales that are far too large do",
                     index, p->largest_window, p->largest_position, p->largest);
}

static bool prepare(Perplexity *p, Error *err) {
    const Options *o = p->options;
    Model *m = &p->model;
    Str text;
    if (!model_load(o, 1, o->ppl_context, m, err)) return false;
    if (!os_file_read(o->file, TEXT_BYTES_MAX, &m->arena, &text, err)) return false;
    if (!model_encode(m, text, TOKENIZER_ADD_SPECIAL, &p->tokens, err)) return false;
    p->n_window = o->ppl_context;
    if (p->n_window > m->plan->n_context) {
        return error_set(err, ERR_USAGE, "--context %u: the model's context holds %u", p->n_window,
                         m->plan->n_context);
    }
    p->n_windows = (uint32_t)(p->tokens.count / p->n_window);
    if (o->ppl_chunks) p->n_windows = (uint32_t)min_u64(p->n_windows, o->ppl_chunks);
    if (p->n_windows == 0) {
        return error_set(err, ERR_USAGE, "%s: its %zu token%s cannot fill a window of %u; see --context",
                         o->file, p->tokens.count, plural_s(p->tokens.count), p->n_window);
    }
    uint32_t holds = backend_context(&m->backend->info, m->plan);
    if (p->n_window > holds)
        return error_set(err, ERR_VRAM_OOM, "a window of %u tokens does not fit the KV cache of %u",
                         p->n_window, holds);
    p->window = arena_new(&m->arena, int32_t, p->n_window);
    p->pages = arena_new(&m->arena, uint32_t, m->plan->kv.n_lists * kv_pages_of(p->n_window));
    if (!p->window || !p->pages) return error_set(err, ERR_NO_MEMORY, "no memory for a window");
    kv_layout_spread(&m->plan->kv, p->n_window, backend_chunk_rows(m->backend->info.max_rows), 0, p->pages);
    return true;
}

static void show_running(const Perplexity *p, uint32_t done) {
    if (!p->terminal) return;
    char line[160];
    StrBuf b = STRBUF(line);
    strbuf_printf(&b, "\r\x1b[K  window %u of %u: perplexity %.4f", done, p->n_windows, p->of_whole_windows);
    (void)os_write(2, strbuf_str(&b));
}

static bool print_result(const Perplexity *p, uint64_t took_ns, Error *err) {
    double perplexity, error, seconds = (double)took_ns / 1e9;
    double rate = (double)p->n_windows * p->n_window / seconds;
    char text[1024];
    StrBuf b = STRBUF(text);
    figures(p, &perplexity, &error);
    if (p->options->json) {
        JsonWriter w = json_writer_begin(&b);
        json_open_object(&w);
        json_member_str(&w, "model", p->model.name);
        json_member_f64(&w, "perplexity", perplexity);
        json_member_f64(&w, "standard_error", error);
        json_member_u64(&w, "context", p->n_window);
        json_member_u64(&w, "windows", p->n_windows);
        json_member_u64(&w, "tokens", p->tokens.count);
        json_member_u64(&w, "tokens_scored", p->n_scored);
        json_member_fixed(&w, "seconds", seconds, 3);
        json_close_object(&w);
        strbuf_put_char(&b, '\n');
    } else {
        strbuf_printf(&b,
                      "perplexity %.4f +/- %.4f  (%llu tokens scored in %u window%s of %u; %.1f tokens/s)\n",
                      perplexity, error, (unsigned long long)p->n_scored, p->n_windows,
                      plural_s(p->n_windows), p->n_window, rate);
    }
    return os_output(strbuf_str(&b), err);
}

static void explain_stop(const Perplexity *p, uint32_t n_done, Error *err) {
    char so_far[64] = "";
    if (n_done) snprintf(so_far, sizeof so_far, "; their perplexity is %.4f", p->of_whole_windows);
    error_fill(err, ERR_CANCELLED, ERROR_NO_POSITION, "stopped after %u of %u window%s%s", n_done,
               p->n_windows, plural_s(p->n_windows), so_far);
}

int cmd_perplexity(const Options *o) {
    Error err;
    Perplexity p = {.options = o, .terminal = os_is_terminal(2)};
    bool ok = prepare(&p, &err);
    uint64_t begin_ns = os_monotonic_ns();
    uint32_t n_done = 0;
    os_install_stop_signals(-1);
    while (ok && n_done < p.n_windows && (ok = score_window(&p, n_done, &err))) {
        double error;
        figures(&p, &p.of_whole_windows, &error);
        show_running(&p, ++n_done);
    }
    if (p.terminal) (void)os_write(2, STR("\r\x1b[K"));
    if (!ok && err.code == ERR_CANCELLED) explain_stop(&p, n_done, &err);
    ok = ok && print_result(&p, os_monotonic_ns() - begin_ns, &err);
    model_close(&p.model);
    return ok ? 0 : cli_report_error(&err);
}
