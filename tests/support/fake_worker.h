// A worker inside the test's process whose backend plays a script instead of computing: the real engine,
// scheduler, HTTP interface and server around it, over real sockets.
//
// The vocabulary is the tiny model's. What the backend "generates" is the script's text, token by token (so
// that characters are cut wherever the tokens cut them), then the end token. Where an answer is held to
// something, what the script says is drawn as far as it is allowed, else any token that is. One worker a test
// case.
#pragma once

#include "api/api.h"
#include "api/execute_request.h"
#include "gguf_builder.h"
#include "http/http_client.h"
#include "os/os.h"
#include "sched/sched.h"

typedef struct {
    const char *script;  // the text to generate, control tokens too; NULL: the same letter for ever
    bool repeats_prompt; // instead of the script, the prompt's last text between [say] and [/say], if any
    uint32_t n_jobs;     // 0: 1
    uint32_t n_queued;   // jobs that may wait for a slot
    const char *chat_template; // Jinja; NULL: the model has none
    const char *tool_format;   // of --tool-format; NULL: by the template
    bool strict_model_name;
    bool adds_bos;            // in front of a prompt
    uint32_t context;         // 0: 2048
    uint32_t n_pages;         // 0: enough for n_jobs contexts
    uint32_t step_ms;         // how long a step of the backend takes
    uint32_t step_us;         // or in microseconds, from the last one on
    uint32_t timeout_sec;     // 0: 300
    uint32_t grace_ms;        // 0: the usual
    uint32_t max_tokens_out;  // 0: 2048
    const char *tokens;       // bearer tokens, a line each; NULL: none required
    const char *cors_origin;  // NULL: none
    const char *allowed_host; // NULL: none
    const char *products;     // the library that the backend multiplies prompts' rows by; NULL: it does it
    bool in_vram;             // the backend says that it has a device's memory
    bool no_masks;            // the backend cannot hold draws to a set of tokens
    bool late_masks;          // it has two steps under way, and takes masks while the second one runs
    bool hold_start;          // stays in WORKER_STARTING until fake_worker_release_start
    bool hold_encoder;        // no encoder thread until fake_worker_release_encoder
    ErrCode start_error;      // what it then fails with; 0: nothing
    const Log *log;           // NULL: none
    const ApiFile *files;     // [n_files]
    uint32_t n_files;
} FakeConfig;

typedef struct FakeWorker FakeWorker;

// Without the HTTP side: only the scheduler on its thread; the test is the I/O thread and uses the bridge.
FakeWorker *fake_sched_start(const FakeConfig *config);
// With it.
FakeWorker *fake_worker_start(const FakeConfig *config);
void fake_worker_release_start(FakeWorker *f);
void fake_worker_release_encoder(FakeWorker *f);

Bridge *fake_bridge(FakeWorker *f);
Api *fake_api(FakeWorker *f);
const Tokenizer *fake_tokenizer(const FakeWorker *f);
uint16_t fake_port(const FakeWorker *f);

// From now on texts are refused with this code, which is theirs alone; ERR_NONE: no more.
void fake_refuse(FakeWorker *f, ErrCode code);
// From now on whatever is asked of the backend fails with this code.
void fake_fail(FakeWorker *f, ErrCode code);
// From now on the check of the device's memory fails.
void fake_lose_residency(FakeWorker *f);
// From now on all clocks of the worker are this much ahead.
void fake_advance_clock(FakeWorker *f, uint64_t ms);
// From now on the logits are not numbers.
void fake_emit_nan(FakeWorker *f);
// Monotonic time at which the backend last began a step.
uint64_t fake_last_step_ns(const FakeWorker *f);
uint32_t fake_pages_used(const FakeWorker *f);
// Steps that the backend was given, and times that the I/O thread was woken.
uint64_t fake_steps(const FakeWorker *f);
uint64_t fake_wakes(const FakeWorker *f);
// Processor time of its threads so far.
uint64_t fake_io_cpu_ns(const FakeWorker *f);
uint64_t fake_engine_cpu_ns(const FakeWorker *f);

// Ends the scheduler's thread; true if sched_run returned true.
bool fake_sched_stop(FakeWorker *f);
// Waits until the server has stopped by itself (after a shutdown or a failure), and ends the threads.
void fake_worker_join(FakeWorker *f);

// The next event of any job within 10 s; ends the case when there is none. It takes the part of the I/O
// thread: a terminal event frees the job.
void fake_next_event(FakeWorker *f, JobEvent *out);
// From now on jobs have these marks.
void fake_set_marks(FakeWorker *f, const int32_t *marks, uint32_t n_marks);
// A job with these fields.
Job *fake_submit_request(FakeWorker *f, const ExecuteRequest *request);
// A job with this prompt, submitted. The text is encoded as the API does.
Job *fake_submit(FakeWorker *f, const char *prompt, uint32_t max_tokens, const char *stop);
