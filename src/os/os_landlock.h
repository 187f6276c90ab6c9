// The files that a sandboxed process may still open, and no TCP connection: for os_sandbox.c.
#pragma once

#include "base/base.h"

enum { OS_LANDLOCK_ABI_TCP = 4 }; // from this on, TCP is held, too

// Restricts every thread of the process. Returns the kernel's landlock ABI, or 0 with the reason why not all
// threads are restricted. `readable_file` may be NULL.
uint32_t os_landlock_enter(const char *readable_file, char *reason, size_t reason_size);
