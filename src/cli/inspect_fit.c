// inspect --fit: what a model would need of a GPU's memory, and how many tokens of cache fit beside it.
#include "cli/inspect.h"
#include "cli/model.h"

#if WORKER_ORCD_CUDA

#include "backend/cuda/cuda_fit.h"
#include "backend/cuda/devices.h"

static const uint64_t MB = 1000000;

typedef struct {
    const Plan *plan;
    uint32_t n_jobs; // as asked for, and then as there can be
    const char *gpu; // whose memory and kernels are meant; NULL: any
    uint64_t vram_bytes;
    LowerTarget target;
    CudaFit fit;
    bool is_small; // --kv-cache-size-mb makes a cache that serve would refuse
} Fit;

// The GPU that --gpu-device names, if this machine has one: its kernels and, unless --vram-mb says another
// figure, its memory.
static bool find_gpu(const Options *options, CudaDevice *device) {
    Cuda cuda;
    Error ignored; // a machine without a GPU is a usual place to ask
    if (!cuda_open(&cuda, &ignored)) return false;
    bool found = cuda_device_query(&cuda, (int)options->gpu_device, device, &ignored) && device->supported;
    cuda_close(&cuda);
    return found;
}

static bool measure(const Options *options, Fit *f, Arena *arena, Error *err) {
    BackendOptions backend = {.max_rows = PREFILL_CHUNK_TOKENS};
    model_size_backend(options, f->plan, f->n_jobs, 0, &backend);
    // Where no memory is given, what the whole cache would need is the answer: one for as many jobs as there
    // may be at most need not hold a whole context for each.
    uint64_t available = f->vram_bytes ? f->vram_bytes : UINT64_MAX / 2;
    if (!f->vram_bytes && backend.slot_tokens) model_size_small_cache(f->plan, &backend);
    if (!cuda_fit(&backend, f->plan, &f->target, available, arena, &f->fit, err)) return false;
    f->n_jobs = f->fit.n_slots;
    return true;
}

// Of all jobs, where they have the same length.
static uint64_t tokens_of(const Fit *f) {
    if (!f->fit.fits) return 0;
    return kv_layout_tokens_in_all(&f->plan->kv, f->fit.n_kv_pages, f->n_jobs, PREFILL_CHUNK_TOKENS,
                                   f->plan->n_context);
}

// What one job may have, of prompt and output together.
static uint64_t job_tokens_of(const Fit *f) {
    if (!f->fit.fits) return 0;
    return kv_layout_tokens(&f->plan->kv, f->fit.n_kv_pages, PREFILL_CHUNK_TOKENS, f->plan->n_context);
}

// What each of n_jobs jobs may have at once, where they have the same length.
static uint64_t job_tokens_of_all(const Fit *f) {
    uint64_t each = f->n_jobs ? tokens_of(f) / f->n_jobs : 0;
    return min_u64(each - each % KV_PAGE_TOKENS, f->plan->n_context);
}

// How many jobs of the length that one alone may have run at once.
static uint64_t longest_jobs_of(const Fit *f) {
    if (!f->fit.fits) return 0;
    uint64_t n = kv_layout_texts(&f->plan->kv, f->fit.n_kv_pages, job_tokens_of(f), PREFILL_CHUNK_TOKENS);
    return min_u64(n, f->n_jobs);
}

static uint64_t needed_of(const Fit *f) {
    return cuda_fit_others(&f->fit) + f->fit.kv_bytes;
}

// What a token takes of the cache behind all windows, and what a job's windows take with n_rows rows in a
// step.
static uint64_t token_bytes_of(const Fit *f) {
    return f->fit.kv_page_bytes * f->plan->kv.n_full / KV_PAGE_TOKENS;
}
static uint64_t window_bytes_of(const Fit *f, uint32_t n_rows) {
    const KvLayout *l = &f->plan->kv;
    if (l->n_lists == l->n_full) return 0;
    return (l->n_lists - l->n_full) * kv_layout_window_pages(l, n_rows) * f->fit.kv_page_bytes;
}

static void put_row(StrBuf *out, const char *label, uint64_t bytes, const char *note) {
    size_t start = out->len;
    strbuf_printf(out, "  %-24s", label);
    strbuf_put_bytes(out, bytes);
    while (*note && out->len < start + 36)
        strbuf_put_char(out, ' ');
    strbuf_printf(out, "%s\n", note);
}

static void put_states(const Fit *f, StrBuf *out) {
    char note[48];
    StrBuf text = STRBUF(note);
    if (!f->fit.states_bytes) return;
    strbuf_printf(&text, "with %u checkpoint%s", f->fit.n_checkpoints, plural_s(f->fit.n_checkpoints));
    put_row(out, "states of layers", f->fit.states_bytes, note);
}

// "Jobs at once, prompt and answer together: 6 of 4,176 tokens each, or 3 of 8,192, the model's context."
static void put_jobs(const Fit *f, StrBuf *out) {
    uint64_t all = job_tokens_of_all(f), longest = job_tokens_of(f);
    strbuf_put(out, STR("Jobs at once, prompt and answer together: "));
    strbuf_put_count(out, f->n_jobs);
    strbuf_put(out, STR(" of "));
    strbuf_put_count(out, all);
    strbuf_put(out, f->n_jobs > 1 ? STR(" tokens each") : STR(" tokens"));
    if (longest > all) {
        strbuf_put(out, STR(", or "));
        strbuf_put_count(out, longest_jobs_of(f));
        strbuf_put(out, STR(" of "));
        strbuf_put_count(out, longest);
    }
    if (longest == f->plan->n_context) strbuf_put(out, STR(", the model's context.\n"));
    else strbuf_put(out, STR(".\n"));
    if (longest > tokens_of(f))
        strbuf_put(out, STR("One alone has more than all of them together, whose windows take room, too.\n"));
}

static void put_text(const Fit *f, StrBuf *out) {
    const CudaFit *fit = &f->fit;
    char note[128];
    StrBuf a_token = STRBUF(note);
    strbuf_put_count(&a_token, token_bytes_of(f));
    strbuf_put(&a_token, STR(" bytes a token"));
    if (window_bytes_of(f, 1)) {
        strbuf_put(&a_token, STR(", and for a job's windows "));
        strbuf_put_bytes(&a_token, window_bytes_of(f, 1));
        strbuf_put(&a_token, STR(", while its prompt is read "));
        strbuf_put_bytes(&a_token, window_bytes_of(f, PREFILL_CHUNK_TOKENS));
    }
    strbuf_printf(out, "VRAM for %u job%s at once; the model's context has ", f->n_jobs, plural_s(f->n_jobs));
    strbuf_put_count(out, f->plan->n_context);
    strbuf_put(out, STR(" tokens\n"));
    put_row(out, "weights", fit->weights_bytes, "");
    put_row(out, "work buffers", fit->work_bytes, "");
    put_states(f, out);
    put_row(out, "staging of the upload", fit->staging_bytes, "given back when the weights are there");
    put_row(out, "reserve", fit->reserve_bytes, "left to the driver");
    put_row(out, "key and value cache", fit->kv_bytes, note);
    put_row(out, "in all", needed_of(f), fit->fits ? "" : "at least");
    if (!fit->fits || f->is_small) return;
    if (!f->vram_bytes) {
        strbuf_put(out, STR("The cache holds "));
    } else {
        strbuf_put_bytes(out, f->vram_bytes);
        if (f->gpu) strbuf_printf(out, " (%s)", f->gpu);
        strbuf_put(out, STR(" hold it; the cache has room for "));
    }
    strbuf_put_count(out, tokens_of(f));
    strbuf_put(out, STR(" tokens.\n"));
    put_jobs(f, out);
}

static void put_json(const Fit *f, StrBuf *out) {
    const CudaFit *fit = &f->fit;
    JsonWriter writer = json_writer_begin(out), *w = &writer;
    json_open_object(w);
    json_member_u64(w, "max_jobs", f->n_jobs);
    json_member_u64(w, "context_length", f->plan->n_context);
    json_member_u64(w, "sm", f->target.sm);
    json_member_u64(w, "weights_bytes", fit->weights_bytes);
    json_member_u64(w, "work_bytes", fit->work_bytes);
    json_member_u64(w, "states_bytes", fit->states_bytes);
    json_member_u64(w, "checkpoints", fit->n_checkpoints);
    json_member_u64(w, "staging_bytes", fit->staging_bytes);
    json_member_u64(w, "reserve_bytes", fit->reserve_bytes);
    json_member_u64(w, "kv_bytes", fit->kv_bytes);
    json_member_u64(w, "kv_bytes_per_token", token_bytes_of(f));
    json_member_u64(w, "kv_window_bytes_per_job", window_bytes_of(f, 1));
    json_member_u64(w, "kv_window_bytes_per_prompt", window_bytes_of(f, PREFILL_CHUNK_TOKENS));
    json_member_u64(w, "total_bytes", needed_of(f));
    if (f->vram_bytes) json_member_u64(w, "vram_bytes", f->vram_bytes);
    json_member_bool(w, "fits", fit->fits && !f->is_small);
    json_member_u64(w, "cache_tokens", tokens_of(f));
    json_member_u64(w, "job_tokens_of_all", job_tokens_of_all(f));
    json_member_u64(w, "job_tokens_max", job_tokens_of(f));
    json_member_u64(w, "jobs_of_tokens_max", longest_jobs_of(f));
    json_close_object(w);
    strbuf_put_char(out, '\n');
}

static bool report_missing(const Fit *f, Error *err) {
    char text[128];
    StrBuf b = STRBUF(text);
    strbuf_put_bytes(&b, f->vram_bytes);
    if (f->gpu) strbuf_printf(&b, " (%s)", f->gpu);
    strbuf_put(&b, STR(" of VRAM do not hold it: it needs "));
    strbuf_put_bytes(&b, needed_of(f));
    strbuf_put(&b, STR(" at least, "));
    strbuf_put_bytes(&b, needed_of(f) - min_u64(f->vram_bytes, needed_of(f)));
    return error_set(err, ERR_INSUFFICIENT_VRAM, "%.*s more", STR_ARG(strbuf_str(&b)));
}

bool inspect_check_gpu(const Plan *plan, const Options *options, Arena *arena, Error *err) {
    Fit f = {.plan = plan, .n_jobs = 1, .target = lower_target_of_sm(90)};
    return measure(options, &f, arena, err);
}

bool inspect_put_fit(const Plan *plan, const Options *options, Arena *arena, StrBuf *out, Error *err) {
    CudaDevice device;
    Fit f = {.plan = plan, .n_jobs = options->max_jobs, .target = lower_target_of_sm(90)};
    bool has_gpu = find_gpu(options, &device);
    if (has_gpu) f.target = lower_target_of_device(&device);
    f.vram_bytes = options->vram_mb * MB;
    if (has_gpu && !f.vram_bytes) {
        f.vram_bytes = device.memory_bytes;
        f.gpu = device.name;
    }
    if (!measure(options, &f, arena, err)) return false;
    f.is_small = f.fit.fits && !model_check_cache(options, plan, (uint32_t)job_tokens_of(&f), 0, err);
    if (options->json) put_json(&f, out);
    else put_text(&f, out);
    if (f.is_small) err->code = ERR_INSUFFICIENT_VRAM; // the status of all that does not fit
    return !f.is_small && (f.fit.fits || report_missing(&f, err));
}

#else

bool inspect_check_gpu(const Plan *plan, const Options *options, Arena *arena, Error *err) {
    (void)plan, (void)options, (void)arena, (void)err;
    return true;
}

bool inspect_put_fit(const Plan *plan, const Options *options, Arena *arena, StrBuf *out, Error *err) {
    (void)plan, (void)options, (void)arena, (void)out;
    return error_set(err, ERR_NO_DEVICE, BUILD_WITHOUT_CUDA ", so it cannot say what a GPU would hold");
}

#endif
