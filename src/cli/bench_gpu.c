#include "cli/bench.h"

#if WORKER_ORCD_CUDA
#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/cuda_clock.h"
#include "backend/cuda/product_library.h"
#endif

#if WORKER_ORCD_CUDA

void bench_wait_for_classes(Bench *b) {
    if (b->options->device == DEVICE_CUDA) cuda_backend_wait_for_classes(b->model.backend);
}

bool bench_has_clock(const Bench *b) {
    return b->options->device == DEVICE_CUDA;
}

bool bench_clock_open(Bench *b, Error *err) {
    return !bench_has_clock(b) || cuda_clock_open(b->model.backend, err);
}

bool bench_clock_begin(Bench *b, Error *err) {
    return !bench_has_clock(b) || cuda_clock_begin(b->model.backend, err);
}

bool bench_clock_end(Bench *b, Error *err) {
    return !bench_has_clock(b) || cuda_clock_end(b->model.backend, err);
}

double bench_clock_take(Bench *b) {
    return bench_has_clock(b) ? cuda_clock_take(b->model.backend) : 0;
}

void bench_show_library(Bench *b) {
    char version[16], memory[512];
    StrBuf text = STRBUF(memory);
    if (!b->options->bench_stages || !product_library) return;
    product_library->version(version);
    if (b->options->json) {
        strbuf_printf(&text, "%s %s", product_library->name, version);
        json_member_str(&b->json, "library", strbuf_str(&text));
        return;
    }
    strbuf_printf(
        &text,
        "\n  %s %s: its time for the same product (rows x in x out); 0.90 of ours: in 0.90 of the\n"
        "  stage's time. It multiplies f16 rows by f16 weights, sums and results f32, in the fastest\n"
        "  way that it proposes. Its weights are dequantised already; a stage takes its own apart, and\n"
        "  also finishes: bias, activation, residual stream, and of one row the norm.\n\n",
        product_library->name, version);
    bench_put(b, strbuf_str(&text));
}

static void put_library_json(Bench *b, const StageTime *t) {
    json_member_u64(&b->json, "rows", t->n_rows);
    json_member_u64(&b->json, "in", t->n_in);
    json_member_u64(&b->json, "out", t->n_out);
    json_member_fixed(&b->json, "library_microseconds", t->library_us, 3);
    if (t->library_clock_mhz > 0) json_member_fixed(&b->json, "library_clock_mhz", t->library_clock_mhz, 0);
    if (t->library_whole_us > 0)
        json_member_fixed(&b->json, "library_microseconds_of_whole_prompt", t->library_whole_us, 3);
}

static void put_library(StrBuf *text, const StageTime *t) {
    strbuf_printf(text, "   %s %8.2f us at %.0f MHz, %.2f of ours, %u x %u x %u", product_library->name,
                  t->library_us, t->library_clock_mhz, t->library_us / t->microseconds, t->n_rows, t->n_in,
                  t->n_out);
    if (t->library_whole_us > 0) strbuf_printf(text, "; of all rows at once %.2f us", t->library_whole_us);
}

// `at`: "context", or "prompt" for the stages of a prompt of that many tokens.
static void show_stage(Bench *b, const StageTime *t, const char *at, uint32_t n) {
    double gb_per_second = (double)t->bytes / t->microseconds * 1e-3;
    double tflops = t->flops / t->microseconds * 1e-6;
    bool is_prompt = strcmp(at, "prompt") == 0;
    if (b->options->json) {
        json_open_object(&b->json);
        json_member_str(&b->json, "stage", str_from_c(t->name));
        json_member_u64(&b->json, at, n);
        json_member_u64(&b->json, "count", t->count);
        json_member_fixed(&b->json, "microseconds", t->microseconds, 3);
        if (t->clock_mhz > 0) json_member_fixed(&b->json, "clock_mhz", t->clock_mhz, 0);
        if (is_prompt && t->flops > 0) json_member_fixed(&b->json, "tflops", tflops, 1);
        if (!is_prompt) json_member_u64(&b->json, "bytes", t->bytes);
        if (t->library_us > 0) put_library_json(b, t);
        json_close_object(&b->json);
        return;
    }
    char line[256];
    StrBuf text = STRBUF(line);
    strbuf_printf(&text, "  %-20s %3u x %8.2f us at %4.0f MHz", t->name, t->count, t->microseconds,
                  t->clock_mhz);
    if (!is_prompt) strbuf_printf(&text, " %9.1f KB %8.0f GB/s", (double)t->bytes * 1e-3, gb_per_second);
    else if (t->flops > 0) strbuf_printf(&text, "              %8.0f TFLOP/s", tflops);
    if (t->library_us > 0) put_library(&text, t);
    strbuf_put_char(&text, '\n');
    bench_put(b, strbuf_str(&text));
}

static void show_stages(Bench *b, const StageTime *times, uint32_t n_times, const char *at, uint32_t n,
                        double step_us) {
    double sum_us = 0;
    for (uint32_t i = 0; i < n_times; i++) {
        show_stage(b, &times[i], at, n);
        sum_us += times[i].count * times[i].microseconds;
    }
    if (b->options->json) return;
    char line[160];
    StrBuf text = STRBUF(line);
    strbuf_printf(&text, "  %s of %u token%s: %.1f us in stages by themselves, %.1f us in whole steps\n", at,
                  n, plural_s(n), sum_us, step_us);
    bench_put(b, strbuf_str(&text));
}

bool bench_stages(Bench *b, uint32_t n_context, uint32_t batch, Error *err) {
    StageTime times[STAGE_TIMES_MAX];
    uint32_t n_times;
    double step_us;
    uint32_t runs = (uint32_t)max_u64(b->options->bench_runs, BENCH_STAGE_RUNS_LEAST);
    if (!cuda_backend_time_rows(b->model.backend, batch, n_context, runs, times, &n_times, &step_us, err))
        return false;
    show_stages(b, times, n_times, "context", n_context, step_us);
    return true;
}

static void show_products(Bench *b, const SustainedProducts *p, uint32_t n_rows) {
    if (b->options->json) {
        json_open_object(&b->json);
        json_member_str(&b->json, "products", STR("of a layer, sustained"));
        json_member_u64(&b->json, "prompt", n_rows);
        json_member_fixed(&b->json, "microseconds", p->microseconds, 3);
        if (p->clock_mhz > 0) json_member_fixed(&b->json, "clock_mhz", p->clock_mhz, 0);
        if (p->library_us > 0) json_member_fixed(&b->json, "library_microseconds", p->library_us, 3);
        if (p->library_clock_mhz > 0)
            json_member_fixed(&b->json, "library_clock_mhz", p->library_clock_mhz, 0);
        json_close_object(&b->json);
        return;
    }
    char line[256];
    StrBuf text = STRBUF(line);
    strbuf_printf(&text, "  prompt of %u tokens: a layer's products, sustained: %.1f us at %.0f MHz", n_rows,
                  p->microseconds, p->clock_mhz);
    if (p->library_us > 0)
        strbuf_printf(&text, "   %s %.1f us at %.0f MHz, %.2f of ours", product_library->name, p->library_us,
                      p->library_clock_mhz, p->library_us / p->microseconds);
    strbuf_put_char(&text, '\n');
    bench_put(b, strbuf_str(&text));
}

// Each turn of ours and of the library's takes 3 of 10 seconds of --sustained.
static bool sustain_products(Bench *b, uint32_t n_prompt, uint32_t n_rows, Error *err) {
    SustainedProducts p;
    double seconds = b->options->bench_sustained * 0.3;
    if (!cuda_backend_sustain_products(b->model.backend, n_prompt, seconds, &p, err)) return false;
    if (p.microseconds > 0) show_products(b, &p, n_rows);
    return true;
}

bool bench_prompt_stages(Bench *b, uint32_t n_prompt, Error *err) {
    StageTime times[STAGE_TIMES_MAX];
    uint32_t n_times, n = (uint32_t)min_u64(n_prompt, b->model.backend->info.max_rows);
    double step_us;
    if (!cuda_backend_time_prefill(b->model.backend, n_prompt, b->options->bench_runs, BENCH_REST_MS, times,
                                   &n_times, &step_us, err))
        return false;
    show_stages(b, times, n_times, "prompt", n, step_us);
    return !b->options->bench_sustained || sustain_products(b, n_prompt, n, err);
}

#else

void bench_wait_for_classes(Bench *b) {
    (void)b;
}

bool bench_has_clock(const Bench *b) {
    (void)b;
    return false;
}

bool bench_clock_open(Bench *b, Error *err) {
    (void)b, (void)err;
    return true;
}

bool bench_clock_begin(Bench *b, Error *err) {
    (void)b, (void)err;
    return true;
}

bool bench_clock_end(Bench *b, Error *err) {
    (void)b, (void)err;
    return true;
}

double bench_clock_take(Bench *b) {
    (void)b;
    return 0;
}

void bench_show_library(Bench *b) {
    (void)b;
}

bool bench_stages(Bench *b, uint32_t n_context, uint32_t batch, Error *err) {
    (void)b, (void)n_context, (void)batch;
    return error_set(err, ERR_USAGE, "--stages is for the GPU; " BUILD_WITHOUT_CUDA);
}

bool bench_prompt_stages(Bench *b, uint32_t n_prompt, Error *err) {
    return bench_stages(b, n_prompt, 1, err);
}

#endif
