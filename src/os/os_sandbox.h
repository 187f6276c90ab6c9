// Giving up what a worker that serves has no use for. Part of the operating system's header (os/os.h).
//
// A process that someone took over through a request can then neither start programs, nor write files, nor
// reach other processes, the network or the kernel's administration; it can read the files that its user
// can, answer on the connections that come to it, and use the devices that it has open.
#pragma once

#include "base/error.h"

// Drops the capabilities of a privileged user but for the one to listen on ports below 1024, and that one,
// too, with `keep_low_ports` false. For this thread and those that it starts, so it is called before there
// are others. Files are from then on opened by the user's own rights.
MUST_CHECK bool os_sandbox_drop_capabilities(bool keep_low_ports, Error *err);

// Has the kernel refuse, with EPERM and for all threads and for good, the system calls of a list
// (os_sandbox.c), opening files for anything but reading, and new processes; set-user-id programs give no
// rights any more. *n_refused: how many calls are on the list. Needs Linux 3.17 on x86-64.
MUST_CHECK bool os_sandbox_enter(uint32_t *n_refused, Error *err);
