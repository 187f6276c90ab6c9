#include "api/api.h"
#include "api/page.h"
#include "base/uuid.h"
#include "base/version.h"
#include "cli/callback.h"
#include "cli/commands.h"
#include "cli/model.h"
#include "cli/progress.h"
#include "cli/sampling.h"
#include "cli/serve_model.h"
#include "http/http_client.h"
#include "http/http_parser.h"
#include "os/log_writer.h"
#include "os/os.h"
#include "os/os_net.h"
#include "os/os_sandbox.h"
#include "sched/sched.h"

#include <stdio.h>

enum { EXIT_CODE_BACKEND_LOST = 3 };

// How long the end waits for a log that is not read.
enum { LOG_PATIENCE_MS = 250 };

typedef struct {
    const Options *options;
    uint64_t started_ns;
    Log log;
    LogWriter log_writer;
    char worker_id[UUID_TEXT_BYTES];
    char url[CALLBACK_URI_BYTES]; // that it listens on
    char model_ref[4200];
    Model model;
    ServeModel serves;
    char token_memory[2][AUTH_MEMORY_BYTES];
    Auth api_auth;
    Auth callback_auth; // its first token is sent
    int supervisor;     // os_supervisor_open
    Bridge bridge;
    HttpServer *server;
    ApiPage page;
    Api *api;
    bool was_ready; // read after the engine thread was joined
} Worker;

static double seconds_since(uint64_t begin_ns) {
    return (double)(os_monotonic_ns() - begin_ns) / 1e9;
}

static void worker_wake_io(void *context) {
    http_server_wake(context);
}

// ---- the engine thread ----

static void report_load(void *context, uint32_t permille) {
    Bridge *bridge = context;
    atomic_store_explicit(&bridge->status.load_permille, permille, memory_order_relaxed);
}

static void log_jit(const Log *log, const BackendInfo *info) {
    log_event(log, LOG_JIT_COMPLETE, LOG_F64("jit_seconds", info->jit_seconds, 3),
              LOG_U64("compiled", info->jit_compiled), LOG_U64("from_cache", info->jit_from_cache),
              LOG_STR("slowest", str_from_c(info->jit_slowest)),
              LOG_F64("slowest_seconds", info->jit_slowest_seconds, 3));
}

static void log_cut_context(const Worker *w) {
    uint32_t holds = model_cut_context(w->options, &w->model, 0);
    if (!holds) return;
    log_event(&w->log, LOG_CONTEXT_CUT, LOG_U64("kv_cache_size_mb", w->options->kv_cache_size_mb),
              LOG_U64("context_length", holds), LOG_U64("model_context_length", w->model.plan->n_context));
}

static void log_chat(const Worker *w) {
    const ChatModel *chat = &w->serves.chat;
    if (!chat->plain) {
        log_event(&w->log, LOG_NO_CONVERSATIONS, LOG_STR("message", str_from_c(chat->missing.message)));
        return;
    }
    log_event(&w->log, LOG_CHAT_FORMATS,
              LOG_STR("tool_format", str_from_c(answer_tool_format_name(&chat->formats))),
              LOG_STR("reasoning_format", str_from_c(answer_reasoning_format_name(&chat->formats))));
}

static void log_sampling(const Worker *w) {
    char memory[ERROR_MESSAGE_BYTES];
    StrBuf text = STRBUF(memory);
    if (!w->serves.unused_sampling.len) return;
    strbuf_put(&text, STR(SAMPLING_UNUSED));
    strbuf_put(&text, w->serves.unused_sampling);
    log_event(&w->log, LOG_LOAD_WARNING, LOG_STR("message", strbuf_str(&text)));
}

static void log_products(const Worker *w) {
    char memory[256];
    StrBuf text = STRBUF(memory);
    model_write_products(&w->model, &text);
    if (text.len) log_event(&w->log, LOG_LOAD_WARNING, LOG_STR("message", strbuf_str(&text)));
}

static bool load_weights(Worker *w, Error *err) {
    const Plan *plan = w->model.plan;
    Str name = w->model.name, quant_kind = str_from_c(w->model.quant_kind);
    log_event(&w->log, LOG_MODEL_LOAD_START, LOG_STR("model", name),
              LOG_STR("architecture", str_from_c(plan->arch->name)), LOG_U64("layers", plan->n_layers),
              LOG_U64("weights_mb", plan->weight_bytes / 1000000), LOG_STR("quant_kind", quant_kind));
    if (plan->ignored_keys.len) log_event(&w->log, LOG_KEYS_IGNORED, LOG_STR("keys", plan->ignored_keys));
    if (plan->n_skipped_tensors)
        log_event(&w->log, LOG_TENSORS_SKIPPED, LOG_STR("tensors", plan->skipped_tensors));
    log_chat(w);
    bool bar = w->log.format == LOG_FORMAT_TEXT && w->log.styled;
    Progress progress = progress_begin(name, bar, bar ? NULL : &w->log);
    progress.report = report_load;
    progress.context = &w->bridge;
    Backend *backend = w->model.backend;
    bool ok = backend->load(backend, plan, progress_update, &progress, err) &&
              model_check_loaded(w->options, &w->model, 0, err);
    progress_end(&progress);
    if (!ok) return false;
    const BackendInfo *info = &backend->info;
    if (info->jit_seconds > 0) log_jit(&w->log, info);
    log_products(w);
    log_sampling(w);
    if (info->warning[0]) log_event(&w->log, LOG_LOAD_WARNING, LOG_STR("message", str_from_c(info->warning)));
    for (uint32_t i = 0; i < tokenizer_warning_count(w->model.tokenizer); i++)
        log_event(&w->log, LOG_LOAD_WARNING,
                  LOG_STR("message", str_from_c(tokenizer_warning(w->model.tokenizer, i))));
    log_cut_context(w);
    log_event(&w->log, LOG_MODEL_LOAD_COMPLETE, LOG_STR("model", name),
              LOG_STR("device", str_from_c(info->device_name)),
              LOG_F64("load_seconds", info->load_seconds, 3),
              LOG_U64("vram_bytes_used", backend_vram_bytes(info)));
    return true;
}

// One token, so that the first job finds everything in place. A model whose logits are no numbers then is of
// use to nobody, so the worker does not become ready.
static bool warm_up(Worker *w, Engine *engine, Error *err) {
    int32_t token = tokenizer_bos(w->model.tokenizer);
    if (token == TOKEN_NONE) token = 0;
    EngineRequest request = {.tokens = &token, .n_prompt = 1, .max_tokens = 1, .sampler = SAMPLER_GREEDY};
    EngineOutput outputs[JOBS_MAX];
    uint32_t slot, n_outputs = 0;
    atomic_store(&w->bridge.status.start_step, START_WARM_UP);
    if (!engine_admit(engine, &request, &slot, err)) return false;
    while (n_outputs == 0) {
        if (!engine_step(engine, outputs, &n_outputs, err)) return false;
    }
    engine_release(engine, slot);
    return !outputs[0].failure ||
           error_set(err, ERR_BAD_FILE, "%s: %s", w->model.path, outputs[0].failure->message);
}

static bool call_back(Worker *w, Error *err) {
    if (!w->options->callback_url) return true;
    atomic_store(&w->bridge.status.start_step, START_CALLBACK);
    const Auth *auth = &w->callback_auth;
    Callback callback = {.log = &w->log,
                         .url = str_from_c(w->options->callback_url),
                         .bearer_token = auth->n_tokens ? auth->tokens[0] : (Str){0},
                         .worker_id = str_from_c(w->worker_id),
                         .model_ref = str_from_c(w->model_ref),
                         .host = str_from_c(w->options->host),
                         .port = http_server_port(w->server),
                         .info = &w->model.backend->info};
    return callback_send(&callback, err);
}

// The last thing before jobs are taken: what is left to do needs no more than this.
static bool enter_sandbox(Worker *w, Error *err) {
    OsSandbox sandbox;
    const OsSandboxOptions options = {.readable_file = w->options->api_token_file};
    if (!w->options->sandbox) return true;
    if (!os_sandbox_enter(&options, &sandbox, err)) return error_prefix(err, "--sandbox");
    log_event(&w->log, LOG_SANDBOX, LOG_STR("holds", str_from_c(sandbox.holds)),
              LOG_U64("system_calls_allowed", sandbox.n_calls_allowed),
              LOG_U64("landlock_abi", sandbox.landlock_abi));
    return true;
}

static bool start_engine(Worker *w, Sched **sched, Error *err) {
    Engine *engine;
    Arena *arena = &w->model.arena;
    if (!load_weights(w, err)) return false;
    bridge_cut_slots(&w->bridge, w->model.backend->info.n_slots);
    if (!engine_create(w->model.backend, w->model.plan, w->bridge.n_slots, arena, &engine, err) ||
        !engine_check_residency(engine, err) ||
        !sched_create(&w->bridge, engine, w->model.tokenizer, arena, sched, err) ||
        !warm_up(w, engine, err) || !call_back(w, err) || !enter_sandbox(w, err)) {
        return false;
    }
    WorkerStatus *status = &w->bridge.status;
    status->info = w->model.backend->info;
    status->context_length = engine_context_length(engine);
    status->kv_pages_total = engine_pages(engine)->n_pages;
    status->kv_tokens_total = engine_tokens_held(engine);
    status->load_seconds = seconds_since(w->started_ns);
    return true;
}

static void *engine_thread(void *argument) {
    Worker *w = argument;
    Sched *sched;
    Error *err = &w->bridge.status.error;
    bool ok = start_engine(w, &sched, err);
    if (ok) {
        w->was_ready = true;
        bridge_set_phase(&w->bridge, WORKER_READY);
        os_supervisor_tell(w->supervisor, STR("READY=1"));
        log_event(&w->log, LOG_READY, LOG_STR("url", str_from_c(w->url)),
                  LOG_U64("port", http_server_port(w->server)),
                  LOG_STR("device", str_from_c(w->model.backend->info.kind)),
                  LOG_F64("load_seconds", w->bridge.status.load_seconds, 3),
                  LOG_U64("context_length", w->bridge.status.context_length),
                  LOG_U64("max_jobs", w->bridge.n_slots));
        ok = sched_run(sched, err);
    }
    if (!ok) {
        log_event(&w->log, LOG_ERROR, LOG_STR("code", str_from_c(error_info(err->code)->name)),
                  LOG_STR("message", str_from_c(err->message)));
    }
    bridge_set_phase(&w->bridge, ok ? WORKER_STOPPED : WORKER_FAILED);
    return NULL;
}

// ---- the main thread: set-up, then I/O ----

static uint32_t log_columns(void) {
    return os_terminal_columns(2);
}

static void set_up_log(Worker *w) {
    const Options *o = w->options;
    bool terminal = os_is_terminal(2);
    bool text = o->log_format == LOG_FORMAT_CHOICE_TEXT || (o->log_format == LOG_FORMAT_AUTO && terminal);
    if (o->worker_id) {
        snprintf(w->worker_id, sizeof w->worker_id, "%s", o->worker_id);
    } else {
        uint8_t random[16];
        os_random(random, sizeof random);
        uuid_from_random(random, w->worker_id);
    }
    snprintf(w->model_ref, sizeof w->model_ref, "file:%s", o->model);
    w->log = (Log){
        .format = text ? LOG_FORMAT_TEXT : LOG_FORMAT_JSON,
        .level = (LogLevel)o->log_level,
        .styled = terminal,
        .worker_id = str_from_c(w->worker_id),
        .model_ref = str_from_c(w->model_ref),
        .gpu_device = o->device == DEVICE_CUDA ? (int)o->gpu_device : -1,
        .write = log_writer_put,
        .sink = &w->log_writer,
        .now_unix_ms = os_unix_ms,
        .columns = terminal ? log_columns : NULL,
    };
    log_writer_init(&w->log_writer, 2, &w->log);
}

static void warn_of_variables(const Worker *w) {
    char text[256];
    StrBuf out = STRBUF(text);
    for (size_t at = 0; flags_next_unknown_variable(w->options->environment, &at, &out); out = STRBUF(text))
        log_event(&w->log, LOG_VARIABLE_UNKNOWN, LOG_STR("message", strbuf_str(&out)));
}

static bool read_tokens(const char *flag, const char *path, char memory[AUTH_MEMORY_BYTES], Auth *out,
                        Error *err) {
    if (!path || auth_read_file(path, arena_from_memory(memory, AUTH_MEMORY_BYTES), out, err)) return true;
    err->code = ERR_USAGE; // whatever keeps it from being read
    return error_prefix(err, "%s", flag);
}

static bool read_token_files(Worker *w, Error *err) {
    const Options *o = w->options;
    return read_tokens("--api-token-file", o->api_token_file, w->token_memory[0], &w->api_auth, err) &&
           read_tokens("--callback-token-file", o->callback_token_file, w->token_memory[1], &w->callback_auth,
                       err);
}

// "*", or scheme://host[:port] as browsers send it: in lower case.
static bool check_cors_origin(const Options *o, Error *err) {
    Str origin = str_from_c(o->cors_origin);
    if (origin.len == 0 || str_eq(origin, STR("*"))) return true;
    size_t scheme = http_scheme_length(origin);
    bool ok = scheme && origin.len > scheme;
    for (size_t i = 0; i < origin.len; i++) {
        char c = origin.ptr[i];
        ok = ok && c > 0x20 && c < 0x7F && !(c >= 'A' && c <= 'Z') && (i < scheme || !memchr("/?#,\"", c, 5));
    }
    return ok || error_set(err, ERR_USAGE,
                           "--cors-origin %s: must be * or an origin such as https://example.org:8443, in "
                           "lower case and without a path",
                           o->cors_origin);
}

static bool check_allowed_hosts(const Options *o, Error *err) {
    return web_hosts_are_names(o->allowed_hosts.values, o->allowed_hosts.count) ||
           error_set(err, ERR_USAGE,
                     "--allowed-host: must be host names such as worker.example.org, separated by commas, "
                     "without scheme and port");
}

static bool check_callback_url(const Options *o, Error *err) {
    HttpUrl url;
    if (!o->callback_url) return true;
    return http_url_parse(str_from_c(o->callback_url), &url, err) || error_prefix(err, "--callback-url");
}

// Whoever may wait for a slot has a connection, and there are some for those that look or cancel meanwhile.
static uint32_t connections_for(const Bridge *bridge) {
    enum { OTHERS = 64 };
    uint32_t wanted = (uint32_t)max_u64(HTTP_CONNECTIONS_MAX, bridge->n_jobs + OTHERS);
    (void)os_raise_open_files(wanted + OTHERS);
    return wanted;
}

static bool open_server(Worker *w, Error *err) {
    const Options *o = w->options;
    Arena *arena = &w->model.arena;
    ApiConfig config = {
        .bridge = &w->bridge,
        .tokenizer = w->model.tokenizer,
        .log = &w->log,
        .supervisor = w->supervisor,
        .started_ns = w->started_ns,
        .auth = w->api_auth,
        .api_token_file = o->api_token_file,
        .web = {.host = str_from_c(o->host),
                .cors_origin = str_from_c(o->cors_origin),
                .allowed_hosts = o->allowed_hosts.values,
                .n_allowed_hosts = o->allowed_hosts.count},
        .max_tokens_in = o->max_tokens_in,
        .max_prompt_chars = o->max_prompt_chars,
        .max_tokens_out = o->max_tokens_out,
        .inference_timeout_sec = o->inference_timeout_sec,
        .context_length = w->model.plan->n_context,
        .opened = w->model.backend->info,
        .chat = &w->serves.chat,
        .sampling = w->serves.sampling,
        .content_hash = w->serves.content_hash,
        .model_bytes = w->serves.model_bytes,
        .n_params = w->serves.n_params,
        .worker_id = str_from_c(w->worker_id),
        .model = w->model.name,
        .served_model = w->serves.served_model,
        .strict_model_name = o->strict_model_name,
        .model_ref = str_from_c(w->model_ref),
        .quant_kind = str_from_c(w->model.quant_kind),
        .kv_cache_type = str_from_c(kv_type_name(w->model.plan->kv_type)),
        .files = &w->page.file,
        .n_files = o->no_ui ? 0 : 1,
    };
    api_page_init(&w->page);
    if (!api_create(&config, arena, &w->api, err)) return false;
    HttpServerConfig server = {.host = str_from_c(o->host),
                               .port = (uint16_t)o->port,
                               .connections_max = connections_for(&w->bridge),
                               .handler = api_handler(w->api)};
    if (!http_server_open(&w->server, arena, &server, err)) return false;
    api_attach(w->api, w->server);
    callback_write_uri(str_from_c(o->host), http_server_port(w->server), w->url);
    return true;
}

// Before there are threads, which would keep theirs; the one for a low port goes when that is open. (The
// device's threads, which are older, keep it, and may bind no socket all the same.)
static bool drop_capabilities(const Options *o, bool is_open, Error *err) {
    bool keep_low_ports = !is_open && o->port > 0 && o->port < 1024;
    return !o->sandbox || os_sandbox_drop_capabilities(keep_low_ports, err) || error_prefix(err, "--sandbox");
}

static void log_warning(void *worker, const char *message) {
    const Worker *w = worker;
    log_event(&w->log, LOG_LOAD_WARNING, LOG_STR("message", str_from_c(message)));
}

// Everything up to listening.
static bool set_up(Worker *w, Error *err) {
    const Options *o = w->options;
    w->supervisor = os_supervisor_open();
    if (!check_callback_url(o, err) || !check_cors_origin(o, err) || !check_allowed_hosts(o, err) ||
        !drop_capabilities(o, false, err) || !read_token_files(w, err) || !model_open(o, &w->model, err) ||
        !serve_model_open(o, &w->model, &w->serves, err)) {
        return false;
    }
    w->model.warn = log_warning;
    w->model.warn_context = w;
    if (!model_open_backend(o, o->max_jobs, 0, &w->model, err)) return false;
    uint64_t job_bytes = api_job_arena_bytes(w->model.plan->n_context);
    uint32_t n_slots = w->model.backend->info.n_slots; // or fewer, once it is loaded
    if (!bridge_init(&w->bridge, n_slots, o->max_queued, job_bytes, &w->model.arena, err)) return false;
    if (!open_server(w, err) || !drop_capabilities(o, true, err) || !api_start_encoder(w->api, err))
        return false;
    w->bridge.wake_io = worker_wake_io;
    w->bridge.wake_context = w->server;
    os_install_stop_signals(http_server_wake_fd(w->server));
    if (!log_writer_start(&w->log_writer, err)) return false;
    log_event(&w->log, LOG_STARTUP, LOG_STR("version", str_from_c(WORKER_ORCD_VERSION)),
              LOG_STR("build", str_from_c(version_text)), LOG_STR("url", str_from_c(w->url)),
              LOG_STR("host", str_from_c(o->host)), LOG_U64("port", http_server_port(w->server)),
              LOG_U64("pid", os_process_id()));
    if (!w->api_auth.required && http_server_is_open_to_others(w->server))
        log_event(&w->log, LOG_UNPROTECTED, LOG_STR("url", str_from_c(w->url)));
    return true;
}

static int shut_down(Worker *w, OsThread *engine) {
    bool starting = bridge_phase(&w->bridge) == WORKER_STARTING;
    if (!starting) {
        bridge_stop(&w->bridge);
        os_thread_join(engine);
    }
    bool failed = bridge_phase(&w->bridge) == WORKER_FAILED;
    const char *reason = api_drain_reason(w->api) ? api_drain_reason(w->api) : "error";
    log_event(&w->log, LOG_SHUTDOWN, LOG_STR("reason", str_from_c(reason)),
              LOG_F64("uptime_seconds", seconds_since(w->started_ns), 1));
    (void)log_writer_flush(&w->log_writer, LOG_PATIENCE_MS);
    if (starting) os_exit_now(0); // a load cannot be interrupted, and has nothing to lose
    if (failed && w->was_ready) os_exit_now(EXIT_CODE_BACKEND_LOST); // what a lost device has is lost
    api_stop_encoder(w->api);
    http_server_close(w->server);
    model_close(&w->model);
    return failed ? error_info(w->bridge.status.error.code)->exit_code : 0;
}

static int fail(Worker *w, const Error *err) {
    log_event(&w->log, LOG_ERROR, LOG_STR("code", str_from_c(error_info(err->code)->name)),
              LOG_STR("message", str_from_c(err->message)));
    (void)log_writer_flush(&w->log_writer, LOG_PATIENCE_MS);
    return error_info(err->code)->exit_code;
}

int cmd_serve(const Options *o) {
    Error err;
    OsThread engine;
    Arena arena = os_arena(sizeof(Worker) + 64);
    Worker *w = arena_new(&arena, Worker, 1);
    if (!w) {
        error_fill(&err, ERR_NO_MEMORY, ERROR_NO_POSITION, "the system refuses %zu bytes", sizeof(Worker));
        return cli_report_error(&err);
    }
    w->options = o;
    w->started_ns = os_monotonic_ns();
    os_install_hangup_signal(); // at once: a service's log may be rotated at any time
    set_up_log(w);
    warn_of_variables(w);
    if (!set_up(w, &err) || !os_thread_start(&engine, "engine", engine_thread, w, &err)) {
        int code = fail(w, &err);
        model_close(&w->model);
        return code;
    }
    if (!http_server_run(w->server, &err)) return fail(w, &err);
    return shut_down(w, &engine);
}
