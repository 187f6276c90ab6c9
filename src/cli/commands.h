// The subcommands. Each gets checked options and returns the process's exit code, having printed its answer
// to standard output and any error, once, to standard error.
#pragma once

#include "cli/model.h"

int cmd_serve(const Options *options);
int cmd_run(const Options *options);
int cmd_chat(const Options *options);
int cmd_tokenize(const Options *options);
int cmd_template(const Options *options);
int cmd_bench(const Options *options);
int cmd_load(const Options *options);
int cmd_perplexity(const Options *options);
int cmd_inspect(const Options *options); // the file is options->file or options->model
int cmd_devices(const Options *options);

// The conversation of cmd_chat, with a model that is loaded and has a template, for `run` without a prompt.
MUST_CHECK bool chat_converse(const Options *o, Model *m, const ChatModel *chat, Error *err);

// Standard output is written with os_output alone, so that no command takes a full disk for success.
//
// Prints "worker-orcd: MESSAGE" to standard error and returns the error's exit code.
int cli_report_error(const Error *err);
