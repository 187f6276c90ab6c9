// The program itself as a process of a test case: starting it, asking it, reading its log.
//
// What cannot be done ends the case.
#pragma once

#include "base/base.h"

#include <sys/types.h>

typedef struct {
    pid_t pid;
    const char *out_path, *err_path;
} Process;

// Words are separated by single spaces; "%" stands for the next of `values`. `input_path` NULL: nothing to
// read.
Process process_start(const char *line, const char *const *values, const char *input_path);
// The exit code, or 128 plus the signal that ended it.
int process_wait(Process p);
// Waits for an event in the log, which is JSON since standard error is a file; its line, or an empty one when
// the process has ended.
Str process_await_event(Process p, const char *event);

Str process_read_file(const char *path);
bool text_contains(Str text, const char *part);
// A number of a line of the log.
uint64_t log_line_number(Str line, const char *key);
// A file in the case's folder.
const char *tmp_file_write(const char *name, const char *text);
// The tiny model with random weights, as a file.
const char *tiny_model_file(void);

// A worker that serves on the CPU with one thread.
typedef struct {
    Process process;
    uint16_t port;
} Server;

// `more` are further words of the command line. Waits until it is ready.
Server server_start(const char *model, const char *more);
// One with these flags, on whatever device they name.
Server server_start_with(const char *model, const char *flags);
Str server_ask(Server s, const char *method, const char *path, const char *body, uint16_t *status);
