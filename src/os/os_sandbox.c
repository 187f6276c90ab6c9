#include "os/os_sandbox.h"

#include "os/os_landlock.h"
#include "os/os_seccomp.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

bool os_sandbox_drop_capabilities(bool keep_low_ports, Error *err) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct now[_LINUX_CAPABILITY_U32S_3] = {{0}},
                                  kept[_LINUX_CAPABILITY_U32S_3] = {{0}};
    if (syscall(SYS_capget, &header, now) != 0)
        return error_set(err, ERR_IO, "the capabilities cannot be read: %s", strerror(errno));
    if (keep_low_ports) {
        kept[0].permitted = now[0].permitted & 1u << CAP_NET_BIND_SERVICE;
        kept[0].effective = kept[0].permitted;
    }
    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); // Linux 4.3; there are none before
    return syscall(SYS_capset, &header, kept) == 0 ||
           error_set(err, ERR_IO, "the capabilities cannot be dropped: %s", strerror(errno));
}

// Landlock first: its calls are not on the list of those that seccomp allows.
bool os_sandbox_enter(const OsSandboxOptions *options, OsSandbox *out, Error *err) {
    char reason[100] = "not asked for";
    *out = (OsSandbox){0};
    if (!options->without_landlock)
        out->landlock_abi = os_landlock_enter(options->readable_file, reason, sizeof reason);
    if (!os_seccomp_enter(&out->n_calls_allowed, err)) return false;
    if (out->landlock_abi) {
        snprintf(out->holds, sizeof out->holds, "seccomp, landlock ABI %u: files%s", out->landlock_abi,
                 out->landlock_abi >= OS_LANDLOCK_ABI_TCP ? ", TCP" : "");
    } else {
        snprintf(out->holds, sizeof out->holds,
                 "seccomp; no landlock (%s), so files that the user can read stay readable", reason);
    }
    return true;
}
