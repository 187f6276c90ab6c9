#include "cli/model.h"

#include "base/utf8.h"
#include "cli/progress.h"
#include "os/os.h"

#if WORKER_ORCD_CUDA
#include "backend/cuda/cuda_driver.h"
#include "backend/cuda/product_library.h"
#endif

#include <assert.h>
#include <stdio.h>
#include <string.h>

// Address space, not memory: pages are taken as they are used. A vocabulary of 2^20 tokens takes some 100 MB.
enum { PROCESS_ARENA_MB = 4096, SCRATCH_ARENA_MB = 1024 };
static const size_t MB = 1024 * 1024;

// A name that can stand in a log, an answer and on a terminal.
static bool is_usable_name(Str name) {
    if (name.len == 0 || name.len > MODEL_NAME_BYTES_MAX) return false;
    while (name.len) {
        uint32_t codepoint;
        size_t length = utf8_decode(name, &codepoint);
        if (length == 0 || utf8_is_control(codepoint)) return false;
        name = str_slice(name, length, name.len);
    }
    return true;
}

// What the file says, or else what it is called.
static Str model_name(const GgufFile *file, const char *path) {
    Str name = {0};
    Error ignored; // a name of another type is as good as none
    if (gguf_opt_str(file, STR("general.name"), &name, &ignored) && is_usable_name(name)) return name;
    const char *slash = strrchr(path, '/');
    name = str_from_c(slash ? slash + 1 : path);
    if (str_ends_with(name, STR(".gguf"))) name.len -= 5;
    return name;
}

// The tokenizer.json in the model's folder; NULL when the arena is full.
static const char *path_beside(const char *model, Arena *arena) {
    const char *slash = strrchr(model, '/');
    size_t folder = slash ? (size_t)(slash + 1 - model) : 0;
    const Str name = STR("tokenizer.json");
    char *path = arena_new(arena, char, folder + name.len + 1);
    if (!path) return NULL;
    memcpy(path, model, folder);
    memcpy(path + folder, name.ptr, name.len);
    return path;
}

// `file` stays for good: the tokenizer's strings lie in it. (One that is too large is refused unread.)
static bool load_json(MappedFile file, const char *path, Model *m, Arena scratch, Tokenizer **out,
                      Error *err) {
    Str json = {(const char *)file.data, (size_t)file.size};
    bool ok = (json.len > TOKENIZER_JSON_BYTES_MAX || os_file_keep(&file, file.size, err)) &&
              tokenizer_from_json(json, m->file, &m->arena, scratch, out, err);
    return ok || error_prefix(err, "%s", path);
}

// From --tokenizer, or from the model's file, or from a tokenizer.json beside a file that has no vocabulary.
static bool open_tokenizer(const Options *o, Model *m, Arena scratch, Tokenizer **out, Error *err) {
    MappedFile file;
    if (o->tokenizer)
        return os_file_map(o->tokenizer, &file, err) && load_json(file, o->tokenizer, m, scratch, out, err);
    assert(o->model && m->file); // a command line names one of them
    if (gguf_find_value(m->file, STR("tokenizer.ggml.tokens")))
        return tokenizer_from_gguf(m->file, &m->arena, scratch, out, err);
    const char *beside = path_beside(o->model, &m->arena);
    if (beside && os_file_map(beside, &file, err)) return load_json(file, beside, m, scratch, out, err);
    return error_set(err, ERR_BAD_FILE,
                     "%s: no vocabulary in the file, and no tokenizer.json beside it; --tokenizer names one",
                     o->model);
}

static bool open_file(const Options *o, Model *out, Error *err) {
    *out = (Model){.arena = os_arena(PROCESS_ARENA_MB * MB), .path = o->model};
    if (!out->arena.next) {
        return error_set(err, ERR_NO_MEMORY, "the system refuses %d MB of address space (see ulimit -v)",
                         PROCESS_ARENA_MB);
    }
    if (!o->model) return true;
    if (!gguf_open(o->model, &out->arena, &out->file, err)) return false;
    out->name = model_name(out->file, o->model);
    out->quant_kind = gguf_quant_kind(out->file);
    return true;
}

static bool read_vocabulary(const Options *o, Model *m, Error *err) {
    Arena scratch = os_arena(SCRATCH_ARENA_MB * MB);
    void *scratch_start = scratch.next;
    if (!scratch_start) {
        return error_set(err, ERR_NO_MEMORY, "the system refuses %d MB of address space (see ulimit -v)",
                         SCRATCH_ARENA_MB);
    }
    Tokenizer *tokenizer = NULL;
    bool ok = open_tokenizer(o, m, scratch, &tokenizer, err);
    os_release(scratch_start, SCRATCH_ARENA_MB * MB);
    m->tokenizer = tokenizer;
    return ok;
}

bool model_open_vocabulary(const Options *o, Model *out, Error *err) {
    return open_file(o, out, err) && read_vocabulary(o, out, err);
}

// The driver starts beside the reading of the vocabulary, once the file is known to be good.
static void *start_driver(void *unused) {
#if WORKER_ORCD_CUDA
    cuda_start_early();
#endif
    return unused;
}

// The library of --products; NULL: none was asked for, or this build has none.
static const struct ProductLibrary *library_wanted(const Options *o) {
#if WORKER_ORCD_CUDA
    if (o->products == PRODUCTS_CUBLAS) return product_library;
#endif
    (void)o;
    return NULL;
}

static bool check_products(const Options *o, Error *err) {
    if (o->products == PRODUCTS_OWN) return true;
    if (o->device == DEVICE_CPU) return error_set(err, ERR_USAGE, "--products cublas is for --device cuda");
    return library_wanted(o) ||
           error_set(err, ERR_USAGE,
                     "--products cublas: this build has no cuBLAS in it; ./build.sh --cublas makes one that "
                     "has, build/cublas/worker-orcd");
}

// A prompt's tokens are rows of the embedding.
static bool check_vocabulary(const Model *m, Error *err) {
    uint32_t n = tokenizer_vocab_size(m->tokenizer);
    return n <= m->plan->n_vocab ||
           error_set(err, ERR_BAD_FILE, "%s: the vocabulary has %u tokens, and token_embd.weight rows for %u",
                     m->path, n, m->plan->n_vocab);
}

bool model_open(const Options *o, Model *out, Error *err) {
    OsThread driver;
    Error ignored;
    PlanOptions plan_options = {.ignore_unknown_keys = o->ignore_unknown_keys, .kv_type = o->kv_cache_type};
    if (!check_products(o, err) || !open_file(o, out, err)) return false;
    bool early = WORKER_ORCD_CUDA && o->device == DEVICE_CUDA &&
                 os_thread_start(&driver, "driver", start_driver, NULL, &ignored);
    // The plan first: a model that is not supported is to be named, not its vocabulary.
    bool ok = plan_build_with(out->file, &plan_options, &out->arena, &out->plan, err) &&
              read_vocabulary(o, out, err) && check_vocabulary(out, err);
    if (early) os_thread_join(&driver);
    return ok;
}

static bool open_cuda(const BackendOptions *options, Model *m, Error *err) {
#if WORKER_ORCD_CUDA
    return cuda_backend_open(options, &m->arena, &m->backend, err);
#else
    (void)options, (void)m;
    return error_set(err, ERR_NO_DEVICE, BUILD_WITHOUT_CUDA);
#endif
}

// The CPU is never chosen for the user, but they should know of it.
static bool suggest_cpu(Error *err) {
    char reason[ERROR_MESSAGE_BYTES];
    if (err->code != ERR_NO_DEVICE) return false;
    memcpy(reason, err->message, sizeof reason);
    return error_set(err, ERR_NO_DEVICE, "%.400s; --device cpu runs the model on the CPU reference", reason);
}

// The context that is set up where so many tokens are asked for (0: the model's).
static uint32_t context_wanted(const Plan *plan, uint32_t n_context) {
    return n_context ? (uint32_t)min_u64(n_context, plan->n_context) : plan->n_context;
}

void model_size_small_cache(const Plan *plan, BackendOptions *out) {
    uint64_t context = out->kv_text_tokens, pages[2];
    for (uint32_t i = 0; i < 2; i++) {
        out->kv_texts = i == 0 ? 1 : out->n_slots;
        out->kv_text_tokens = i == 0 ? context : out->slot_tokens;
        pages[i] = backend_pages_of_use(out, &plan->kv);
    }
    if (pages[1] >= pages[0]) return;
    out->kv_texts = 1;
    out->kv_text_tokens = context;
}

void model_size_backend(const Options *o, const Plan *plan, uint32_t n_slots, uint32_t n_context,
                        BackendOptions *out) {
    uint64_t context = align_up(context_wanted(plan, n_context), KV_PAGE_TOKENS);
    bool is_cpu = o->device == DEVICE_CPU;
    out->n_slots = n_slots ? n_slots : is_cpu ? JOBS_USUAL_CPU : JOBS_MAX;
    out->slot_tokens = n_slots ? 0 : (uint32_t)min_u64(context, JOB_TOKENS_USUAL);
    out->kv_bytes = (uint64_t)o->kv_cache_size_mb * 1000000;
    out->checkpoint_bytes = (uint64_t)o->checkpoints_size_mb * 1000000;
    out->kv_texts = out->n_slots;
    out->kv_text_tokens = context;
    if (!n_slots && is_cpu) model_size_small_cache(plan, out); // memory is for other programs, too
}

static bool stop_was_asked(void) {
    return os_stop_signals() > 0;
}

static void print_warning(void *context, const char *message) {
    (void)context;
    fprintf(stderr, "worker-orcd: warning: %s\n", message);
}

bool model_open_backend(const Options *o, uint32_t n_slots, uint32_t n_context, Model *m, Error *err) {
    BackendOptions options = {
        .max_rows = PREFILL_CHUNK_TOKENS,
        .n_threads = o->threads,
        .gpu_device = (int)o->gpu_device,
        .jit_cache = o->jit_cache && strcmp(o->jit_cache, "none") == 0 ? "" : o->jit_cache,
        .products = library_wanted(o),
        .model_path = o->model,
        .warn = m->warn ? m->warn : print_warning,
        .warn_context = m->warn_context,
        .stopped = o->command == CMD_SERVE ? NULL : stop_was_asked, // a worker's jobs have time to end
    };
    model_size_backend(o, m->plan, n_slots, n_context, &options);
    if (o->device == DEVICE_CPU) return cpu_backend_open(&options, &m->arena, &m->backend, err);
    if (open_cuda(&options, m, err)) return true;
    if (err->code == ERR_USAGE) return error_prefix(err, "--gpu-device %u", o->gpu_device);
    return suggest_cpu(err);
}

uint32_t model_cut_context(const Options *o, const Model *m, uint32_t n_context) {
    uint32_t holds = backend_context(&m->backend->info, m->plan);
    return o->kv_cache_size_mb && holds * 2ull < context_wanted(m->plan, n_context) ? holds : 0;
}

void model_write_products(const Model *m, StrBuf *out) {
    const BackendInfo *info = &m->backend->info;
    if (!info->bits_vary) return;
    strbuf_printf(
        out,
        "--products cublas: %s multiplies prompts' rows: the same request may give other tokens, and "
        "no request goes on from another's cache",
        backend_products(info));
}

static void print_warnings(const Options *o, const Model *m, uint32_t n_context) {
    uint32_t holds = model_cut_context(o, m, n_context);
    char products[256];
    StrBuf text = STRBUF(products);
    model_write_products(m, &text);
    if (text.len) fprintf(stderr, "worker-orcd: warning: %.*s\n", STR_ARG(strbuf_str(&text)));
    if (m->plan->ignored_keys.len) {
        fprintf(stderr,
                "worker-orcd: warning: keys that may change what the model computes are ignored: %.*s\n",
                STR_ARG(m->plan->ignored_keys));
    }
    for (uint32_t i = 0; i < tokenizer_warning_count(m->tokenizer); i++)
        fprintf(stderr, "worker-orcd: warning: vocabulary: %s\n", tokenizer_warning(m->tokenizer, i));
    if (m->backend->info.warning[0]) {
        fprintf(stderr, "worker-orcd: warning: %s\n", m->backend->info.warning);
    }
    if (holds) {
        fprintf(stderr, "worker-orcd: warning: --kv-cache-size-mb %u holds %u of the context's %u tokens\n",
                o->kv_cache_size_mb, holds, context_wanted(m->plan, n_context));
    }
}

bool model_check_cache(const Options *o, const Plan *plan, uint32_t holds, uint32_t n_context, Error *err) {
    uint32_t mb = o->kv_cache_size_mb;
    uint32_t least = (uint32_t)min_u64(context_wanted(plan, n_context), KV_TOKENS_LEAST);
    if (!mb || holds >= least) return true;
    return error_set(
        err, ERR_USAGE,
        "--kv-cache-size-mb %u: holds %u of the context's %u tokens, and %u are the least; 0 takes "
        "as much as the context needs",
        mb, holds, context_wanted(plan, n_context), least);
}

bool model_check_loaded(const Options *o, const Model *m, uint32_t n_context, Error *err) {
    if (os_file_was_cut()) return error_set(err, ERR_BAD_FILE, "%s: was cut while it was read", m->path);
    return model_check_cache(o, m->plan, backend_context(&m->backend->info, m->plan), n_context, err);
}

bool model_load(const Options *o, uint32_t n_slots, uint32_t n_context, Model *out, Error *err) {
    return model_open(o, out, err) && model_load_opened(o, n_slots, n_context, out, err);
}

bool model_load_opened(const Options *o, uint32_t n_slots, uint32_t n_context, Model *out, Error *err) {
    if (!model_open_backend(o, n_slots, n_context, out, err)) return false;
    Progress progress = progress_begin(out->name, os_is_terminal(2), NULL);
    bool ok = out->backend->load(out->backend, out->plan, progress_update, &progress, err) &&
              model_check_loaded(o, out, n_context, err);
    progress_end(&progress);
    if (ok) print_warnings(o, out, n_context);
    return ok;
}

void model_close(Model *m) {
    if (m->backend) m->backend->close(m->backend);
    if (m->file) gguf_close(m->file);
    m->backend = NULL;
    m->file = NULL;
}

bool model_open_chat(const Options *o, Model *m, ChatModel *out, Error *err) {
    Str source = {0};
    if (o->chat_template &&
        !os_file_read(o->chat_template, TEMPLATE_SOURCE_BYTES_MAX, &m->arena, &source, err))
        return error_prefix(err, "--chat-template");
    return chat_model_open(m->file, m->tokenizer, source, o->tool_format, o->reasoning_format, &m->arena, out,
                           err);
}

bool model_encode(Model *m, Str text, uint32_t flags, TokenIds *out, Error *err) {
    size_t size = tokenizer_encode_scratch_bytes(m->tokenizer, text.len);
    Arena scratch = os_arena(size);
    void *start = scratch.next;
    if (!start) return error_set(err, ERR_NO_MEMORY, "the system refuses %zu bytes to encode a text", size);
    bool ok = tokenizer_encode(m->tokenizer, text, flags, &m->arena, scratch, out, err);
    os_release(start, size);
    return ok;
}
