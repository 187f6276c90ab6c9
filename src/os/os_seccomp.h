// The system calls that a sandboxed process may still make: for os_sandbox.c.
#pragma once

#include "base/error.h"

// For all threads, and for good. *n_allowed: how many calls are on the list.
MUST_CHECK bool os_seccomp_enter(uint32_t *n_allowed, Error *err);
