// Giving up what a worker that serves has no use for. Part of the operating system's header (os/os.h).
//
// Two of the kernel's means hold together, where both are there:
//   seccomp   a list of the system calls that are allowed (os_seccomp.c); every other one is refused (EPERM)
//   landlock  which files may be opened, and no TCP connection (os_landlock.c); Linux 5.13, where it is
//   enabled
//
// A process that someone took over through a request can then neither start programs, nor write files, nor
// open connections, nor reach other processes or the kernel's administration. It can answer on the
// connections that come to it and use the devices that it has open. Without landlock it can also read
// whatever file its user can, and in /proc what the system shows of other processes of that user.
#pragma once

#include "base/error.h"

// Drops the capabilities of a privileged user but for the one to listen on ports below 1024, and that one,
// too, with `keep_low_ports` false. For this thread and those that it starts, so it is called before there
// are others. Files are from then on opened by the user's own rights.
MUST_CHECK bool os_sandbox_drop_capabilities(bool keep_low_ports, Error *err);

typedef struct {
    // A file that must stay readable, also when another takes its place in its folder (or in the folder that
    // it is linked into now); NULL for none. Its folder becomes readable as a whole.
    const char *readable_file;
    bool without_landlock; // as on a kernel that lacks it
} OsSandboxOptions;

typedef struct {
    uint32_t n_calls_allowed;
    uint32_t landlock_abi; // 0: landlock does not hold
    char holds[200];       // "seccomp, landlock ABI 7: files, TCP", or why landlock does not hold
} OsSandbox;

// For all threads, and for good: set-user-id programs give no rights any more, either. A kernel without
// landlock, or a thread that does not answer in time, is no error: *out says so. Needs Linux 3.17 on x86-64.
MUST_CHECK bool os_sandbox_enter(const OsSandboxOptions *options, OsSandbox *out, Error *err);
