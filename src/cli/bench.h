// What the two files of `bench` share: cmd_bench.c, which measures the engine, and bench_gpu.c, which has
// what only a GPU has: stages, their products beside a library's, and the multiprocessors' clock.
#pragma once

#include "cli/model.h"
#include "engine/engine.h"
#include "json/json_writer.h"

enum {
    // How long the GPU idles before a run that is to begin at its full clock. Over which time it averages its
    // power to choose its clock is not published; this is to be several times as long. (Figures of one run
    // and of the next would differ otherwise, and their clocks would say so.)
    BENCH_REST_MS = 500,
    BENCH_STAGE_RUNS_LEAST = 20,
};

typedef struct {
    const Options *options;
    Model model;
    Engine *engine;
    int32_t *prompt;  // random tokens, as many as any measurement wants
    uint64_t n_salts; // used so far
    double *rates;    // [rate_room] of the runs of a row
    uint32_t n_rates, rate_room;
    double *step_ms; // [step_room] of the steps of all runs, in which every row drew a token
    uint32_t n_steps, step_room;
    StrBuf out;
    JsonWriter json;
    bool output_failed; // then nothing more is written
    Error output_error;
} Bench;

// To standard output, while that works.
void bench_put(Bench *b, Str text);

// ---- bench_gpu.c: on the CPU, and without CUDA, there is no clock, and nothing to wait for ----

void bench_wait_for_classes(Bench *b);

bool bench_has_clock(const Bench *b);
MUST_CHECK bool bench_clock_open(Bench *b, Error *err); // behind load, before anything is measured
// As cuda_clock_begin, cuda_clock_end and cuda_clock_take; 0 MHz without a clock.
MUST_CHECK bool bench_clock_begin(Bench *b, Error *err);
MUST_CHECK bool bench_clock_end(Bench *b, Error *err);
double bench_clock_take(Bench *b);

// The stages of a step of `batch` sequences with n_context tokens behind them.
MUST_CHECK bool bench_stages(Bench *b, uint32_t n_context, uint32_t batch, Error *err);
// The stages of a prompt, as far as one step holds it; with --sustained its products, too.
MUST_CHECK bool bench_prompt_stages(Bench *b, uint32_t n_prompt, Error *err);
// What the times of a library beside the stages' are of.
void bench_show_library(Bench *b);
