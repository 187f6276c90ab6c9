// What `inspect` says about running a file here, beside what is in it.
#pragma once

#include "chat/answer_format.h"
#include "cli/flags.h"
#include "cli/sampling.h"
#include "json/json_writer.h"
#include "text/tokenizer.h"
#include "plan/plan.h"

// Whether a file can be run, and where not, why: one sentence each. The texts live as long as the Support.
typedef struct {
    bool has_model;     // false: a file that is only a vocabulary
    bool has_tokenizer; // a vocabulary in the file
    bool model_ok;
    bool tokenizer_ok;
    Error model_error;
    Error tokenizer_error;
    const Tokenizer *tokenizer; // where tokenizer_ok: for its warnings
    const Plan *plan;           // NULL unless model_ok
    bool gpu_ok;                // false: model_ok, but with --device cpu alone; gpu_error says why
    Error gpu_error;
    bool has_template; // a chat template in the file, for any conversation
    bool template_ok;
    Error template_error;
    AnswerFormats formats; // where there is a template
    SamplingDefaults sampling;
    Str unused_sampling;
} Support;

// Never fails: what goes wrong is what there is to say. `file` was opened to look. `arena` keeps the plan.
void inspect_support(const GgufFile *file, const Options *options, Arena *arena, Support *out);

// At most `columns` characters of s, in one line; "…" stands for the rest. What would steer a terminal is
// made visible.
void inspect_put_text(StrBuf *out, Str s, uint32_t columns);

// Lines of text, each ended: "This model can be run.", or what is missing; and what is passed over.
void inspect_put_support(const Support *s, const GgufFile *file, StrBuf *out);
// The same as members of an object.
void inspect_put_support_json(const Support *s, const GgufFile *file, JsonWriter *w);
// The operations and caches as an object on one line.
void inspect_put_plan_json(const Plan *plan, StrBuf *out);
// Whether GPUs can run it, whatever memory they have. Always true in a build without CUDA.
MUST_CHECK bool inspect_check_gpu(const Plan *plan, const Options *options, Arena *arena, Error *err);
// What the model would need of a GPU's memory, as lines or (--json) as an object on one line: for --max-jobs
// jobs, on the GPU of this machine, or one with --vram-mb of memory, or any. Where it does not fit, `out`
// says what it would need, and the error (ERR_INSUFFICIENT_VRAM) what is missing; likewise where
// --kv-cache-size-mb is less than a worker takes.
MUST_CHECK bool inspect_put_fit(const Plan *plan, const Options *options, Arena *arena, StrBuf *out,
                                Error *err);
