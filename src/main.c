// Reads the command line and hands over to a command. Exit codes: 0 done, 1 could not start or failed, 2
// wrong command line, 3 the device was lost while serving.
#include "arch/arch.h"
#include "base/embed.h"
#include "base/version.h"
#include "cli/commands.h"
#include "model/dtype.h"
#include "os/os.h"

#if WORKER_ORCD_CUDA
#include "backend/cuda/product_library.h"
#endif

#include <stdio.h>
#include <stdlib.h>

static const char *get_env(const char *name) {
    return getenv(name);
}

static int print_text(const StrBuf *text) {
    Error err;
    return os_output(strbuf_str(text), &err) ? 0 : cli_report_error(&err);
}

static int print_about_flags(const Options *options) {
    char text[FLAGS_TEXT_BYTES];
    StrBuf out = STRBUF(text);
    if (options->help) flags_write_help(&out, options->command, os_terminal_columns(1), os_is_terminal(1));
    else if (options->manual) flags_write_manual(&out);
    else flags_write_completions(&out, (ShellChoice)options->completions);
    return print_text(&out);
}

static int print_version(void) {
    char text[256];
    StrBuf out = STRBUF(text);
    strbuf_printf(&out, "worker-orcd %s (%s, %s", WORKER_ORCD_VERSION, version_text,
                  WORKER_ORCD_CUDA ? "with CUDA" : "without CUDA");
#if WORKER_ORCD_CUDA
    char version[16];
    if (product_library) product_library->version(version);
    if (product_library) strbuf_printf(&out, " and %s %s", product_library->name, version);
#endif
    strbuf_put(&out, STR(")\n"));
    return print_text(&out);
}

static int print_architectures(void) {
    char text[16 * 1024];
    StrBuf out = STRBUF(text);
    const Arch *arch;
    for (uint32_t i = 0; (arch = arch_at(i)) != NULL; i++) {
        strbuf_printf(&out, "%-14s %s\n", arch->name, arch->description);
        strbuf_printf(&out, "%-14s verified: transformers on a tiny model%s%s\n", "",
                      arch->verified ? "; " : "", arch->verified ? arch->verified : "");
    }
    strbuf_put(&out,
               STR("\nThose compared with llama.cpp were compared on real weights, all others on random "
                   "ones alone.\n"));
    return print_text(&out);
}

// Those of the files with real weights whose texts and perplexity were compared (tests/vectors/README.md).
static const Dtype on_real_weights[] = {DTYPE_F32,  DTYPE_Q4_1, DTYPE_Q5_0,
                                        DTYPE_Q8_0, DTYPE_Q4_K, DTYPE_Q6_K};

static int print_formats(void) {
    char text[4 * 1024];
    StrBuf out = STRBUF(text);
    for (Dtype d = 0; d < DTYPE_COUNT; d++) {
        const DtypeInfo *info = dtype_info(d);
        bool real = false;
        for (size_t i = 0; i < COUNT_OF(on_real_weights); i++)
            real |= on_real_weights[i] == d;
        strbuf_printf(&out, "%-8s %7.4f bits a weight%s\n", info->name,
                      8.0 * info->block_bytes / info->block_elements,
                      real ? "; compared on real weights, too" : "");
    }
    strbuf_put(&out,
               STR("\nAll were compared with the gguf package, or the library behind it, on random blocks. "
                   "Any mix of them is a model.\n"));
    return print_text(&out);
}

static int print_licenses(void) {
    Error err;
    Str text = {(const char *)embedded_licenses.data, embedded_licenses.size};
    return os_output(text, &err) ? 0 : cli_report_error(&err);
}

static int print_usage_error(const Error *err, Command command) {
    char text[ERROR_MESSAGE_BYTES + 128];
    StrBuf out = STRBUF(text);
    const char *name = command == CMD_SERVE ? "" : command_name(command);
    strbuf_printf(&out, "worker-orcd: %s\nSee worker-orcd %s%s--help\n", err->message, name,
                  *name ? " " : "");
    (void)os_write(2, strbuf_str(&out));
    return error_info(err->code)->exit_code;
}

static int (*const commands[CMD_COUNT])(const Options *options) = {
    [CMD_SERVE] = cmd_serve,     [CMD_RUN] = cmd_run,           [CMD_TOKENIZE] = cmd_tokenize,
    [CMD_BENCH] = cmd_bench,     [CMD_INSPECT] = cmd_inspect,   [CMD_PERPLEXITY] = cmd_perplexity,
    [CMD_DEVICES] = cmd_devices, [CMD_TEMPLATE] = cmd_template, [CMD_CHAT] = cmd_chat,
    [CMD_LOAD] = cmd_load,
};

// A worker's log is for programs: there, it is an event (cmd_serve.c).
static void warn_of_variables(char *const *environment) {
    char text[256];
    StrBuf out = STRBUF(text);
    for (size_t at = 0; flags_next_unknown_variable(environment, &at, &out); out = STRBUF(text))
        fprintf(stderr, "worker-orcd: warning: %.*s\n", STR_ARG(strbuf_str(&out)));
}

static int run_command(const Options *options) {
    if (options->help) return print_about_flags(options);
    if (options->version) return print_version();
    if (options->list_architectures) return print_architectures();
    if (options->list_formats) return print_formats();
    if (options->licenses) return print_licenses();
    if (options_print(options)) return print_about_flags(options);
    return commands[options->command](options);
}

int main(int argc, char **argv, char **environment) {
    Options options;
    Error err;
    os_begin_process();
    if (!os_ensure_stack(&err)) return cli_report_error(&err);
    if (!flags_parse(argc, argv, get_env, &options, &err)) return print_usage_error(&err, options.command);
    options.environment = environment;
    if (options.command != CMD_SERVE) warn_of_variables(environment);
    int code = run_command(&options);
    if (code == 0 && !os_output_close(&err)) return cli_report_error(&err);
    return code;
}
