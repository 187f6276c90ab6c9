#include "os/os_landlock.h"

#include "os/os.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

// Landlock as Documentation/userspace-api/landlock.rst of Linux has it. Its header is younger than the
// systems that this is built on.
enum {
    CALL_CREATE_RULESET = 444,
    CALL_ADD_RULE = 445,
    CALL_RESTRICT_SELF = 446,
    ASK_VERSION = 1,
    RULE_PATH_BENEATH = 1,
    READ_FILE = 1 << 2,
    READ_DIR = 1 << 3,
    TCP_BIND_AND_CONNECT = 3,
    SCOPE_ABSTRACT_UNIX_SOCKETS = 1,
};

typedef struct {
    uint64_t handled_access_fs;
    uint64_t handled_access_net;
    uint64_t scoped;
} RulesetAttributes;

typedef struct __attribute__((packed)) {
    uint64_t allowed_access;
    int32_t parent_fd;
} PathBeneathAttributes;

// What a driver and the C library may look up about this machine and this process. Nothing of other
// processes: /proc itself is not among them.
static const char *const readable[] = {
    "/proc/self",    "/proc/driver",  "/proc/devices",  "/proc/modules",       "/proc/sys",
    "/proc/cpuinfo", "/proc/meminfo", "/proc/stat",     "/proc/version",       "/sys",
    "/dev/null",     "/dev/urandom",  "/etc/localtime", "/usr/share/zoneinfo",
};

// ---- the rules ----

static uint64_t handled_files(uint32_t abi) {
    // Executing, writing, reading, removing and making are one bit each; later ABIs add moving between
    // folders, truncating, and ioctl on devices.
    uint32_t bits = abi >= 5 ? 16 : abi >= 3 ? 15 : abi == 2 ? 14 : 13;
    return (1ull << bits) - 1;
}

static bool allow_reading(int ruleset, const char *path) {
    struct stat info;
    int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0) return false;
    bool is_folder = fstat(fd, &info) == 0 && S_ISDIR(info.st_mode);
    PathBeneathAttributes rule = {.allowed_access = READ_FILE | (is_folder ? READ_DIR : 0), .parent_fd = fd};
    bool ok = syscall(CALL_ADD_RULE, ruleset, RULE_PATH_BENEATH, &rule, 0) == 0;
    close(fd);
    return ok;
}

static bool allow_folder_of(int ruleset, const char *path) {
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/');
    size_t length = !slash ? 1 : slash == path ? 1 : (size_t)(slash - path);
    if (length >= sizeof folder) return false;
    memcpy(folder, slash ? path : ".", length);
    folder[length] = 0;
    return allow_reading(ruleset, folder);
}

static int make_ruleset(uint32_t abi, const char *readable_file) {
    RulesetAttributes attributes = {.handled_access_fs = handled_files(abi)};
    if (abi >= OS_LANDLOCK_ABI_TCP) attributes.handled_access_net = TCP_BIND_AND_CONNECT;
    if (abi >= 6) attributes.scoped = SCOPE_ABSTRACT_UNIX_SOCKETS;
    int ruleset = (int)syscall(CALL_CREATE_RULESET, &attributes, sizeof attributes, 0);
    if (ruleset < 0) return -1;
    for (size_t i = 0; i < COUNT_OF(readable); i++)
        (void)allow_reading(ruleset, readable[i]); // what is not there needs no rule
    char real[PATH_MAX];
    bool ok = !readable_file || allow_folder_of(ruleset, readable_file);
    if (ok && readable_file && realpath(readable_file, real)) ok = allow_folder_of(ruleset, real);
    if (ok) return ruleset;
    int saved_errno = errno;
    close(ruleset);
    errno = saved_errno;
    return -1;
}

// ---- every thread ----

// The kernel restricts the calling thread alone. The others, a driver's among them, are interrupted by a
// signal that they cannot have blocked: the C library keeps two signals to itself, which its functions leave
// out of every mask. It uses the second one to change a process's user, which this program never does.
enum { EVERY_THREAD_SIGNAL = 33, THREADS_MAX = 2048, PASSES_MAX = 100, ANSWER_TIMEOUT_MS = 5000 };

// The kernel's struct sigaction: the C library's function refuses that signal.
typedef struct {
    void (*handler)(int);
    unsigned long flags;
    void (*restorer)(void);
    unsigned long mask;
} KernelSigaction;

static struct {
    int ruleset;
    _Atomic int failure; // an errno
    _Atomic uint32_t n_restricted;
    _Atomic int restricted[THREADS_MAX]; // their numbers
} all;

static int own_thread(void) {
    return (int)syscall(SYS_gettid);
}

// Also as a signal handler.
static void restrict_this_thread(int signal_number) {
    (void)signal_number;
    int saved_errno = errno;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || syscall(CALL_RESTRICT_SELF, all.ruleset, 0) != 0)
        atomic_store(&all.failure, errno);
    uint32_t at = atomic_load(&all.n_restricted);
    while (at < THREADS_MAX && !atomic_compare_exchange_weak(&all.n_restricted, &at, at + 1)) {
    }
    if (at < THREADS_MAX) atomic_store(&all.restricted[at], own_thread());
    errno = saved_errno;
}

static bool is_restricted(int thread) {
    uint32_t n = atomic_load(&all.n_restricted);
    for (uint32_t i = 0; i < n; i++)
        if (atomic_load(&all.restricted[i]) == thread) return true;
    return false;
}

// False where it does not answer. One that has ended needs no restriction.
static bool restrict_thread(int process, int thread) {
    uint64_t end_ns = os_monotonic_ns() + ANSWER_TIMEOUT_MS * 1000000ull;
    if (syscall(SYS_tgkill, process, thread, EVERY_THREAD_SIGNAL) != 0) return errno == ESRCH;
    while (!is_restricted(thread)) {
        if (syscall(SYS_tgkill, process, thread, 0) != 0 && errno == ESRCH) return true;
        if (os_monotonic_ns() > end_ns) return false;
        os_sleep_ms(1);
    }
    return true;
}

// One look at the process's threads. *n_new: those that were not restricted before.
static bool restrict_others_once(uint32_t *n_new, int *silent) {
    char names[4096];
    *n_new = 0;
    int folder = open("/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0) return false;
    for (long size; (size = syscall(SYS_getdents64, folder, names, sizeof names)) > 0;) {
        for (long at = 0; at < size;) {
            uint16_t length; // struct linux_dirent64: inode, offset, length, type, name
            memcpy(&length, names + at + 16, sizeof length);
            int thread = (int)strtol(names + at + 19, NULL, 10); // 0 for "." and ".."
            at += length;
            if (thread <= 0 || is_restricted(thread)) continue;
            ++*n_new;
            if (restrict_thread(getpid(), thread)) continue;
            *silent = thread;
            close(folder);
            return false;
        }
    }
    close(folder);
    return true;
}

// Until a look finds no new thread: one that was not restricted yet may have started others.
static bool restrict_others(int *silent) {
    uint32_t n_new = 1;
    for (int pass = 0; n_new && pass < PASSES_MAX; pass++)
        if (!restrict_others_once(&n_new, silent)) return false;
    return n_new == 0;
}

static bool restrict_all(char *reason, size_t reason_size) {
    struct sigaction any = {.sa_handler = restrict_this_thread, .sa_flags = SA_RESTART}, before;
    KernelSigaction ours, old;
    int silent = 0;
    // How a handler returns is the C library's knowledge: it is read off a signal that it lets one handle.
    sigaction(SIGURG, &any, &before);
    bool ok = syscall(SYS_rt_sigaction, SIGURG, NULL, &ours, sizeof ours.mask) == 0 &&
              syscall(SYS_rt_sigaction, EVERY_THREAD_SIGNAL, &ours, &old, sizeof ours.mask) == 0;
    sigaction(SIGURG, &before, NULL);
    if (ok) {
        restrict_this_thread(0);
        ok = atomic_load(&all.failure) == 0 && restrict_others(&silent) && atomic_load(&all.failure) == 0;
        // A thread that did not answer may do so yet, and without a handler that would be the process's end.
        if (!silent) (void)syscall(SYS_rt_sigaction, EVERY_THREAD_SIGNAL, &old, NULL, sizeof ours.mask);
    }
    if (ok) return true;
    if (silent) snprintf(reason, reason_size, "thread %d does not answer", silent);
    else if (all.failure) snprintf(reason, reason_size, "%s", strerror(all.failure));
    else snprintf(reason, reason_size, "the threads cannot be listed");
    return false;
}

uint32_t os_landlock_enter(const char *readable_file, char *reason, size_t reason_size) {
    long abi = syscall(CALL_CREATE_RULESET, NULL, 0, ASK_VERSION);
    if (abi <= 0) {
        snprintf(reason, reason_size, "this kernel %s", errno == ENOSYS ? "is older" : "has it switched off");
        return 0;
    }
    all.ruleset = make_ruleset((uint32_t)abi, readable_file);
    if (all.ruleset < 0) {
        snprintf(reason, reason_size, "%s", strerror(errno));
        return 0;
    }
    bool ok = restrict_all(reason, reason_size);
    close(all.ruleset);
    return ok ? (uint32_t)abi : 0;
}
