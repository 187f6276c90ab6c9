// The command line: a table of flags (flags.def), one of commands, and the typed Options they fill.
//
// The first word may name a command; without one, the worker serves. "help COMMAND" is "COMMAND --help". Some
// flags have a short form of one letter (-m PATH). Words beside flags are a model's path and a prompt's text.
//
// "--flag value", "--flag=value", and an environment twin for each; a flag wins over the environment, which
// wins over the default. Every value in Options has been checked. Strings point into argv or the environment
// and live as long. A wrong command line is ERR_USAGE (exit code 2); its message names the flag or variable,
// the value, and what is allowed.
#pragma once

#include "base/error.h"
#include "base/limits.h"
#include "base/strbuf.h"

#ifndef WORKER_ORCD_VERSION
#define WORKER_ORCD_VERSION "0.1.0"
#endif

// id, name, words it takes beside flags ("" for none), summary. MODEL may be given as --model, and TEXT as
// --prompt; FILE is required.
#define COMMANDS(ROW)                                                                         \
    ROW(SERVE, "serve", "MODEL", "serve the model over HTTP")                                 \
    ROW(RUN, "run", "MODEL TEXT", "continue a prompt and print the text as it comes")         \
    ROW(CHAT, "chat", "MODEL", "talk with the model, in a terminal or through a pipe")        \
    ROW(TOKENIZE, "tokenize", "MODEL", "turn text into token ids, or ids into text")          \
    ROW(TEMPLATE, "template", "MODEL", "turn messages into a prompt")                         \
    ROW(BENCH, "bench", "MODEL", "measure how fast the model reads and writes")               \
    ROW(LOAD, "load", "", "measure a server under load")                                      \
    ROW(PERPLEXITY, "perplexity", "MODEL FILE", "measure how well the model predicts a text") \
    ROW(INSPECT, "inspect", "FILE", "show what is in a GGUF file")                            \
    ROW(DEVICES, "devices", "", "list what this build can compute on")

typedef enum {
#define COMMAND_ENUM(id, name, positional, summary) CMD_##id,
    COMMANDS(COMMAND_ENUM)
#undef COMMAND_ENUM
        CMD_COUNT
} Command;

typedef enum {
#define FLAG(id, ...) FLAG_##id,
#include "cli/flags.def"
#undef FLAG
    FLAG_COUNT
} FlagId;

// The order is that of the choices in flags.def.
typedef enum { DEVICE_CUDA, DEVICE_CPU } DeviceChoice;
typedef enum { PRODUCTS_OWN, PRODUCTS_CUBLAS } ProductsChoice;
typedef enum { SHELL_NONE, SHELL_BASH, SHELL_ZSH } ShellChoice;
typedef enum { LOG_FORMAT_AUTO, LOG_FORMAT_CHOICE_TEXT, LOG_FORMAT_CHOICE_JSON } LogFormatChoice;

enum { FLAG_LIST_MAX = 16 };

typedef struct {
    uint32_t count;
    uint32_t values[FLAG_LIST_MAX];
} U32List;

typedef struct {
    uint32_t count;
    const char *values[STOP_STRINGS_MAX];
} StrList;

typedef struct {
    bool flags[FLAG_COUNT];
} FlagSet;

// Texts and paths are NULL when not given and without default.
typedef struct {
    Command command;
    const char *file;         // the word FILE, NULL when there was none
    char *const *environment; // the process's; set by main
    FlagSet given;            // on the command line or in the environment
    FlagSet typed;            // on the command line

    const char *model; // without "file:"
    const char *tokenizer;
    bool ignore_unknown_keys;
    bool inspect_tensors;
    bool inspect_plan;
    bool inspect_fit;
    uint32_t vram_mb;
    uint32_t device; // a DeviceChoice
    uint32_t gpu_device;
    uint32_t threads;
    uint32_t kv_cache_size_mb;
    uint32_t kv_cache_type; // a KvType
    uint32_t products;      // a ProductsChoice
    uint32_t checkpoints_size_mb;
    const char *jit_cache; // NULL: the user's cache folder; "none": no folder

    const char *host;
    uint32_t port;
    const char *worker_id;
    const char *callback_url;
    const char *api_token_file;
    const char *callback_token_file;
    const char *cors_origin;
    StrList allowed_hosts; // each a comma-separated list
    bool sandbox;
    bool no_ui;

    const char *served_model_name; // NULL: by the model's
    bool strict_model_name;
    const char *tool_format;      // NULL or "auto": by the template
    const char *reasoning_format; // the same

    uint32_t max_jobs; // 0: by the KV cache
    uint32_t max_queued;
    uint32_t max_tokens_in;    // 0: the context
    uint32_t max_prompt_chars; // 0: no limit
    uint32_t max_tokens_out;
    uint32_t inference_timeout_sec;

    const char *prompt;
    const char *prompt_file;
    bool chat;
    const char *system;
    const char *chat_template; // NULL: the model's own
    uint32_t max_tokens;
    uint32_t chat_max_tokens; // 0: no limit
    double temperature;
    double top_p;
    uint32_t top_k;
    double min_p;
    double repetition_penalty;
    double presence_penalty;
    double frequency_penalty;
    const char *logit_bias; // "ID=VALUE,ID=VALUE…"
    uint64_t seed;          // random unless given
    StrList stop;
    bool ids;
    uint32_t logits;

    bool add_special;
    bool parse_special;
    bool decode;

    U32List bench_prompt_tokens;
    U32List bench_context;
    uint32_t bench_output_tokens;
    U32List bench_batch;
    uint32_t bench_runs;
    uint32_t bench_sustained; // seconds; 0: not measured
    bool bench_stages;

    const char *load_server;
    uint32_t load_api; // a LoadApi
    const char *load_model;
    StrList load_headers;
    uint32_t load_timeout_sec;
    uint32_t load_clients; // 0: not given
    double load_rate;      // 0: not given
    uint32_t load_burst, load_max_running;
    uint64_t load_requests; // 0: no limit
    double load_duration;   // 0: no limit
    const char *load_warmup;
    double load_cancel_share;
    uint64_t load_seed; // random unless given
    const char *load_prompt_tokens, *load_output_tokens;
    const char *load_trace;
    uint32_t load_shared_prefix, load_prefix_groups;
    uint32_t load_turns;
    bool load_ignore_eos, load_calibrate, load_seed_requests;
    const char *load_goodput;
    const char *load_svg;
    double load_max_failed;

    uint32_t ppl_context;
    uint32_t ppl_chunks; // 0: all

    bool json;
    uint32_t log_format; // a LogFormatChoice
    uint32_t log_level;  // a LogLevel
    bool list_architectures, list_formats;
    uint32_t completions; // a ShellChoice
    bool manual, licenses;
    bool help;
    bool version;
} Options;

static inline bool options_given(const Options *o, FlagId flag) {
    return o->given.flags[flag];
}

// Whether the program only prints what it is asked for, and ends.
static inline bool options_print(const Options *o) {
    return o->help || o->version || o->list_architectures || o->list_formats || o->completions || o->manual ||
           o->licenses;
}

// Looks up an environment variable; NULL when it is not set. getenv, or a test's table.
typedef const char *FlagsGetEnv(const char *name);

// argv[0] is skipped; argv[1] may name a command. With --help, --version and other flags that only print
// something (options_print), required values may be missing. On failure out->command is still set as far as
// it was understood, for the hint after the message.
MUST_CHECK bool flags_parse(int argc, char *const *argv, FlagsGetEnv *get_env, Options *out, Error *err);

// A variable of the environment that looks like a flag's twin and is none, from environment[*at] on: *at goes
// past it, and a sentence that names it is put into *out. False when there is no more.
bool flags_next_unknown_variable(char *const *environment, size_t *at, StrBuf *out);

// The help text of a command, wrapped to `columns`, with headings in bold when `styled`.
void flags_write_help(StrBuf *out, Command command, uint32_t columns, bool styled);

enum { FLAGS_TEXT_BYTES = 128 * 1024 }; // the longest of these texts
// What a shell reads to complete command lines. Not SHELL_NONE.
void flags_write_completions(StrBuf *out, ShellChoice shell);
// The manual page, in the language of man(7).
void flags_write_manual(StrBuf *out);

const char *command_name(Command command);
// One of the two command lines that a command's help ends with, below "worker-orcd ".
const char *command_example(Command command, uint32_t index);
