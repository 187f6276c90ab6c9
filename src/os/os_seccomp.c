#include "os/os_seccomp.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)

#include <assert.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>

// ---- calls that are allowed whatever their arguments ----

// What acts within this process and on descriptors that are open already. An NVIDIA driver (580 was looked
// at) uses ioctl, mmap, futex, poll, read, write and the clocks to start kernels, to copy and to wait; the
// rest of its process is its own affair, so calls that reach nothing else are here even where nobody is known
// to make them. Numbers stand where the headers of an older system have no name.
static const uint16_t allowed[] = {
    // descriptors that are open
    SYS_read,
    SYS_write,
    SYS_readv,
    SYS_writev,
    SYS_pread64,
    SYS_preadv,
    SYS_lseek,
    SYS_close,
    436 /* close_range */,
    SYS_fstat,
    SYS_fstatfs,
    SYS_dup,
    SYS_dup2,
    SYS_dup3,
    SYS_fadvise64,
    SYS_readahead,
    SYS_getdents64,
    // what a path leads to; what is in it is held by open, below, and by landlock
    SYS_stat,
    SYS_lstat,
    SYS_newfstatat,
    SYS_statx,
    SYS_statfs,
    SYS_access,
    SYS_faccessat,
    439 /* faccessat2 */,
    SYS_readlink,
    SYS_readlinkat,
    SYS_getcwd,
    // waiting
    SYS_poll,
    SYS_ppoll,
    SYS_select,
    SYS_pselect6,
    SYS_epoll_create,
    SYS_epoll_create1,
    SYS_epoll_ctl,
    SYS_epoll_wait,
    SYS_epoll_pwait,
    441 /* epoll_pwait2 */,
    SYS_eventfd,
    SYS_eventfd2,
    SYS_pipe,
    SYS_pipe2,
    SYS_timerfd_create,
    SYS_timerfd_settime,
    SYS_timerfd_gettime,
    // connections that come
    SYS_accept,
    SYS_accept4,
    SYS_recvfrom,
    SYS_shutdown,
    SYS_getsockname,
    SYS_getpeername,
    SYS_getsockopt,
    // memory, all but making it executable
    SYS_brk,
    SYS_munmap,
    SYS_mremap,
    SYS_madvise,
    SYS_mincore,
    SYS_msync,
    SYS_mlock,
    SYS_mlock2,
    SYS_mlockall,
    SYS_munlock,
    SYS_munlockall,
    SYS_mbind,
    SYS_set_mempolicy,
    SYS_get_mempolicy,
    450 /* set_mempolicy_home_node */,
    462 /* mseal */,
    SYS_membarrier,
    // threads of this process
    SYS_futex,
    449 /* futex_waitv */,
    454 /* futex_wake */,
    455 /* futex_wait */,
    456 /* futex_requeue */,
    SYS_set_robust_list,
    SYS_set_tid_address,
    334 /* rseq */,
    SYS_exit,
    SYS_exit_group,
    SYS_wait4,
    SYS_waitid,
    SYS_sched_yield,
    SYS_sched_getaffinity,
    SYS_sched_getparam,
    SYS_sched_getscheduler,
    SYS_sched_get_priority_max,
    SYS_sched_get_priority_min,
    SYS_getpriority,
    SYS_getcpu,
    SYS_arch_prctl,
    // signals that come
    SYS_rt_sigaction,
    SYS_rt_sigprocmask,
    SYS_rt_sigreturn,
    SYS_rt_sigpending,
    SYS_rt_sigtimedwait,
    SYS_rt_sigsuspend,
    SYS_sigaltstack,
    SYS_signalfd4,
    SYS_pause,
    SYS_restart_syscall,
    // time
    SYS_clock_gettime,
    SYS_clock_getres,
    SYS_clock_nanosleep,
    SYS_nanosleep,
    SYS_gettimeofday,
    SYS_time,
    SYS_times,
    SYS_alarm,
    SYS_getitimer,
    SYS_setitimer,
    SYS_timer_create,
    SYS_timer_settime,
    SYS_timer_gettime,
    SYS_timer_getoverrun,
    SYS_timer_delete,
    // who and where we are
    SYS_getpid,
    SYS_gettid,
    SYS_getppid,
    SYS_getpgrp,
    SYS_getuid,
    SYS_geteuid,
    SYS_getgid,
    SYS_getegid,
    SYS_getresuid,
    SYS_getresgid,
    SYS_getgroups,
    SYS_capget,
    SYS_getrlimit,
    SYS_setrlimit,
    SYS_getrusage,
    SYS_sysinfo,
    SYS_uname,
    SYS_getrandom,
};

// ---- calls that are allowed with certain arguments ----

enum {
    // Of an open's flags: each means a file that is changed, or may be later.
    WRITING_FLAGS = O_WRONLY | O_RDWR | O_CREAT | O_TRUNC | O_APPEND | (O_TMPFILE & ~O_DIRECTORY),
    FAST_OPEN = 0x20000000, // MSG_FASTOPEN: sends by connecting
    ANY_VALUE = ~0,
    NAME_OF_MEMORY = 0x53564D41, // PR_SET_VMA
    OWN_PROCESS = 0x7FFFFFFF,    // stands for the process's number, which is known later
    NVIDIA_TYPE = 'F',           // of the ioctls of /dev/nvidiactl and /dev/nvidia0
    WSL_TYPE = 'G',              // of those of /dev/dxg, which has that place under Windows
    UVM_START = 0x30000001,      // those of /dev/nvidia-uvm are below 256, and these two
    UVM_END = 0x30000002,
};

// Holds where (argument & mask) == value, of the argument's low half, which is all of an int, or its high
// one.
typedef struct {
    uint8_t argument;
    bool high;
    uint32_t mask, value;
} Condition;

enum { CONDITIONS_MAX = 3 };

// Allowed where all conditions hold. Several rows of one call are alternatives.
typedef struct {
    uint16_t call;
    Condition conditions[CONDITIONS_MAX]; // a mask of 0 ends them
} Rule;

// clang-format off
#define LOW(argument, mask, value) \
    { (argument), false, (uint32_t)(mask), (uint32_t)(value) }
#define HIGH(argument, mask, value) \
    { (argument), true, (uint32_t)(mask), (uint32_t)(value) }
// clang-format on
#define IS(argument, value) LOW(argument, ANY_VALUE, value)
#define NONE_OF(argument, bits) LOW(argument, bits, 0)
#define NULL_POINTER(argument) LOW(argument, ANY_VALUE, 0), HIGH(argument, ANY_VALUE, 0)
#define SOCKET_OPTION(level, option)    \
    {                                   \
        SYS_setsockopt, {               \
            IS(1, level), IS(2, option) \
        }                               \
    }

// clang-format off
static const Rule rules[] = {
    // files, for reading alone
    {SYS_open, {NONE_OF(1, WRITING_FLAGS)}},
    {SYS_openat, {NONE_OF(2, WRITING_FLAGS)}},
    // memory that is not executable
    {SYS_mmap, {NONE_OF(2, PROT_EXEC)}},
    {SYS_mprotect, {NONE_OF(2, PROT_EXEC)}},
    {SYS_pkey_mprotect, {NONE_OF(2, PROT_EXEC)}},
    // a thread, not a process
    {SYS_clone, {LOW(0, CLONE_THREAD, CLONE_THREAD)}},
    // signals to oneself, as from raise(); one's own limits, processors and pages
    {SYS_tgkill, {IS(0, OWN_PROCESS)}},
    {SYS_kill, {IS(0, OWN_PROCESS)}},
    {SYS_prlimit64, {IS(0, 0)}},
    {SYS_prlimit64, {IS(0, OWN_PROCESS)}},
    {SYS_sched_setaffinity, {IS(0, 0)}},
    {SYS_move_pages, {IS(0, 0)}},
    {SYS_prctl, {IS(0, PR_SET_NAME)}},
    {SYS_prctl, {IS(0, PR_GET_NAME)}},
    {SYS_prctl, {IS(0, PR_GET_DUMPABLE)}},
    {SYS_prctl, {IS(0, NAME_OF_MEMORY)}},
    // answers on a connection: no address, and no connection made by sending. (sendmsg's arguments are out of a
    // filter's reach, and nothing needs it.)
    {SYS_sendto, {NONE_OF(3, FAST_OPEN), NULL_POINTER(4)}},
    SOCKET_OPTION(SOL_SOCKET, SO_KEEPALIVE),
    SOCKET_OPTION(SOL_SOCKET, SO_LINGER),
    SOCKET_OPTION(SOL_SOCKET, SO_SNDBUF),
    SOCKET_OPTION(SOL_SOCKET, SO_RCVBUF),
    SOCKET_OPTION(IPPROTO_TCP, TCP_NODELAY),
    SOCKET_OPTION(IPPROTO_TCP, TCP_CORK),
    SOCKET_OPTION(IPPROTO_TCP, TCP_QUICKACK),
    SOCKET_OPTION(IPPROTO_TCP, TCP_KEEPIDLE),
    SOCKET_OPTION(IPPROTO_TCP, TCP_KEEPINTVL),
    SOCKET_OPTION(IPPROTO_TCP, TCP_KEEPCNT),
    SOCKET_OPTION(IPPROTO_TCP, TCP_USER_TIMEOUT),
    SOCKET_OPTION(IPPROTO_TCP, TCP_NOTSENT_LOWAT),
    // a descriptor's flags; not who is sent signals for it
    {SYS_fcntl, {IS(1, F_GETFD)}},
    {SYS_fcntl, {IS(1, F_SETFD)}},
    {SYS_fcntl, {IS(1, F_GETFL)}},
    {SYS_fcntl, {IS(1, F_SETFL)}},
    {SYS_fcntl, {IS(1, F_DUPFD)}},
    {SYS_fcntl, {IS(1, F_DUPFD_CLOEXEC)}},
    // devices, and what a program asks of a terminal or a socket; not keys typed into the terminal
    {SYS_ioctl, {LOW(1, 0xFF00, NVIDIA_TYPE << 8)}},
    {SYS_ioctl, {LOW(1, 0xFF00, WSL_TYPE << 8)}},
    {SYS_ioctl, {LOW(1, ~0xFF, 0)}},
    {SYS_ioctl, {IS(1, UVM_START)}},
    {SYS_ioctl, {IS(1, UVM_END)}},
    {SYS_ioctl, {IS(1, 0x5401 /* TCGETS */)}},
    {SYS_ioctl, {IS(1, 0x5413 /* TIOCGWINSZ */)}},
    {SYS_ioctl, {IS(1, 0x541B /* FIONREAD */)}},
    {SYS_ioctl, {IS(1, 0x5421 /* FIONBIO */)}},
    {SYS_ioctl, {IS(1, 0x5450 /* FIONCLEX */)}},
    {SYS_ioctl, {IS(1, 0x5451 /* FIOCLEX */)}},
};
// clang-format on

// ---- the program ----

enum {
    X32_BIT = 0x40000000, // another set of numbers for the same calls
    // Refused as if the kernel had none, so that the C library goes on to what came before: clone3, whose
    // flags are out of a filter's reach, and what is newer than this list.
    CLONE3 = 435,
    NEWEST_KNOWN = 470,
    HEADER_MAX = 10,
    RULE_MAX = 3 + 3 * CONDITIONS_MAX,
    PROGRAM_MAX = HEADER_MAX + 2 * COUNT_OF(allowed) + RULE_MAX * COUNT_OF(rules) + 1,
};
static_assert(PROGRAM_MAX <= BPF_MAXINSNS, "the kernel takes the program");

#define LOAD(offset) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(offset))
#define ANSWER(value) BPF_STMT(BPF_RET | BPF_K, (value))
#define REFUSE(error) ANSWER(SECCOMP_RET_ERRNO | (error))
#define ALLOW ANSWER(SECCOMP_RET_ALLOW)
// How many instructions to jump over where it holds, and where it does not.
#define IF(test, value, then_over, else_over) \
    BPF_JUMP(BPF_JMP | BPF_K | (test), (value), (uint8_t)(then_over), (uint8_t)(else_over))

static const struct sock_filter header[] = {
    LOAD(offsetof(struct seccomp_data, arch)),
    IF(BPF_JEQ, AUDIT_ARCH_X86_64, 1, 0),
    REFUSE(EPERM),
    LOAD(offsetof(struct seccomp_data, nr)),
    IF(BPF_JGE, X32_BIT, 0, 1),
    REFUSE(EPERM),
    IF(BPF_JEQ, CLONE3, 1, 0),
    IF(BPF_JGT, NEWEST_KNOWN, 0, 1),
    REFUSE(ENOSYS),
};
static_assert(COUNT_OF(header) <= HEADER_MAX, "there is room for it");

// Where a condition fails, the rest of the rule is jumped over.
static uint32_t write_rule(const Rule *rule, struct sock_filter *out) {
    uint32_t n_conditions = 0, n = 0;
    while (n_conditions < CONDITIONS_MAX && rule->conditions[n_conditions].mask)
        n_conditions++;
    out[n++] = (struct sock_filter)LOAD(offsetof(struct seccomp_data, nr));
    out[n++] = (struct sock_filter)IF(BPF_JEQ, rule->call, 0, 3 * n_conditions + 1);
    for (uint32_t i = 0; i < n_conditions; i++) {
        const Condition *c = &rule->conditions[i];
        uint32_t value = c->value == OWN_PROCESS ? (uint32_t)getpid() : c->value;
        size_t argument = offsetof(struct seccomp_data, args) + 8 * (size_t)c->argument + 4 * c->high;
        out[n++] = (struct sock_filter)LOAD(argument);
        out[n++] = (struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K, c->mask);
        out[n++] = (struct sock_filter)IF(BPF_JEQ, value, 0, 3 * (n_conditions - 1 - i) + 1);
    }
    out[n++] = (struct sock_filter)ALLOW;
    return n;
}

static uint32_t write_program(struct sock_filter out[PROGRAM_MAX]) {
    uint32_t n = COUNT_OF(header);
    memcpy(out, header, sizeof header);
    for (uint32_t i = 0; i < COUNT_OF(allowed); i++) {
        out[n++] = (struct sock_filter)IF(BPF_JEQ, allowed[i], 0, 1);
        out[n++] = (struct sock_filter)ALLOW;
    }
    for (uint32_t i = 0; i < COUNT_OF(rules); i++)
        n += write_rule(&rules[i], out + n);
    out[n++] = (struct sock_filter)REFUSE(EPERM);
    return n;
}

static uint32_t count_calls(void) {
    uint32_t n = COUNT_OF(allowed);
    for (uint32_t i = 0; i < COUNT_OF(rules); i++)
        n += i == 0 || rules[i].call != rules[i - 1].call;
    return n;
}

bool os_seccomp_enter(uint32_t *n_allowed, Error *err) {
    struct sock_filter program[PROGRAM_MAX];
    struct sock_fprog filter = {.len = (unsigned short)write_program(program), .filter = program};
    *n_allowed = count_calls();
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return error_set(err, ERR_IO, "the sandbox cannot be entered: %s", strerror(errno));
    long failed = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &filter);
    if (failed == 0) return true;
    const char *reason = failed > 0 ? "a thread has a filter of its own" : strerror(errno);
    return error_set(err, ERR_IO, "the sandbox cannot be entered: %s", reason);
}

#else

bool os_seccomp_enter(uint32_t *n_allowed, Error *err) {
    *n_allowed = 0;
    return error_set(err, ERR_UNSUPPORTED, "the sandbox is made for x86-64, and this is another machine");
}

#endif
