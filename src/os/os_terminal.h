// A terminal whose keys a program reads one by one.
#pragma once

#include "base/base.h"

#include <termios.h>

typedef struct {
    struct termios before;
    bool raw;
} OsTerminal;

// From now on standard input gives each key at once, shows none, and makes no signals of keys. False where
// standard input is no terminal. Output is not changed.
MUST_CHECK bool os_terminal_begin(OsTerminal *t);
// As it was before. May be called again.
void os_terminal_end(OsTerminal *t);

// Reads what is there of standard input, a terminal or not, and waits for it as os_wait_ready does. Returns
// the number of bytes; 0 after the time or a stop signal; -1 at the end.
long os_input_read(char *buffer, size_t size, uint32_t timeout_ms);

uint32_t os_terminal_rows(int fd); // 24 where it cannot be told
