#include "os/os_sandbox.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/ioctl.h>
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

#if defined(__x86_64__)

// Everything but this stays allowed: what drivers and C libraries call while they work is theirs to choose,
// while this list is of doors that a worker never goes through once it serves.
static const uint16_t refused[] = {
    // programs, and other processes
    SYS_execve,
    SYS_execveat,
    SYS_fork,
    SYS_vfork,
    SYS_ptrace,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
    SYS_kill,
    SYS_tkill,
    SYS_rt_sigqueueinfo,
    SYS_rt_tgsigqueueinfo,
    SYS_kcmp,
    424 /* pidfd_send_signal */,
    434 /* pidfd_open */,
    438 /* pidfd_getfd */,
    440 /* process_madvise */,
    448 /* process_mrelease */,
    SYS_migrate_pages,
    SYS_ioprio_set,
    // memory, semaphores and messages that other processes see
    SYS_shmget,
    SYS_shmat,
    SYS_shmctl,
    SYS_semget,
    SYS_semop,
    SYS_semtimedop,
    SYS_semctl,
    SYS_msgget,
    SYS_msgsnd,
    SYS_msgrcv,
    SYS_msgctl,
    SYS_mq_open,
    SYS_mq_unlink,
    // connections of our own making
    SYS_socket,
    SYS_socketpair,
    SYS_bind,
    SYS_connect,
    SYS_listen,
    // what is on disk; opening for writing is looked at below
    SYS_creat,
    437 /* openat2 */,
    SYS_truncate,
    SYS_rename,
    SYS_renameat,
    SYS_renameat2,
    SYS_link,
    SYS_linkat,
    SYS_symlink,
    SYS_symlinkat,
    SYS_unlink,
    SYS_unlinkat,
    SYS_mkdir,
    SYS_mkdirat,
    SYS_rmdir,
    SYS_mknod,
    SYS_mknodat,
    SYS_chmod,
    SYS_fchmod,
    SYS_fchmodat,
    452 /* fchmodat2 */,
    SYS_chown,
    SYS_fchown,
    SYS_lchown,
    SYS_fchownat,
    SYS_setxattr,
    SYS_lsetxattr,
    SYS_fsetxattr,
    SYS_removexattr,
    SYS_lremovexattr,
    SYS_fremovexattr,
    463 /* setxattrat */,
    466 /* removexattrat */,
    469 /* file_setattr */,
    SYS_fanotify_init,
    SYS_utime,
    SYS_utimes,
    SYS_utimensat,
    SYS_futimesat,
    SYS_name_to_handle_at,
    SYS_open_by_handle_at,
    SYS_quotactl,
    443 /* quotactl_fd */,
    SYS_acct,
    // file systems and namespaces
    SYS_mount,
    SYS_umount2,
    SYS_pivot_root,
    SYS_chroot,
    SYS_unshare,
    SYS_setns,
    428 /* open_tree */,
    429 /* move_mount */,
    430 /* fsopen */,
    431 /* fsconfig */,
    432 /* fsmount */,
    433 /* fspick */,
    442 /* mount_setattr */,
    467 /* open_tree_attr */,
    // who we are
    SYS_setuid,
    SYS_setgid,
    SYS_setreuid,
    SYS_setregid,
    SYS_setresuid,
    SYS_setresgid,
    SYS_setfsuid,
    SYS_setfsgid,
    SYS_setgroups,
    SYS_capset,
    SYS_personality,
    // the kernel's administration, and the parts of it where most of its mistakes are
    SYS_init_module,
    SYS_finit_module,
    SYS_delete_module,
    SYS_kexec_load,
    SYS_kexec_file_load,
    SYS_reboot,
    SYS_swapon,
    SYS_swapoff,
    SYS_sethostname,
    SYS_setdomainname,
    SYS_settimeofday,
    SYS_clock_settime,
    SYS_adjtimex,
    SYS_clock_adjtime,
    SYS_iopl,
    SYS_ioperm,
    SYS_syslog,
    SYS_bpf,
    SYS_perf_event_open,
    SYS_userfaultfd,
    SYS_add_key,
    SYS_request_key,
    SYS_keyctl,
    SYS_modify_ldt,
    SYS_uselib,
    SYS_nfsservctl,
    425 /* io_uring_setup: its requests pass no filter */,
    426 /* io_uring_enter */,
    427 /* io_uring_register */,
};

enum {
    // Of an open's flags: each means a file that is changed, or may be later.
    WRITING_FLAGS = O_WRONLY | O_RDWR | O_CREAT | O_TRUNC | O_APPEND | (O_TMPFILE & ~O_DIRECTORY),
    X32_BIT = 0x40000000,     // another set of numbers for the same calls
    CLONE3 = 435,             // its flags are out of a filter's reach; the C library goes on to clone()
    SET_OWNER = 0x8901,       // FIOSETOWN, as F_SETOWN
    SET_GROUP = 0x8902,       // SIOCSPGRP, the same
    OWN_PROCESS = 0x7FFFFFFF, // stands for the process's number, which is known later
};

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define ANSWER(value) BPF_STMT(BPF_RET | BPF_K, (value))
#define REFUSE(error) ANSWER(SECCOMP_RET_ERRNO | (error))
// How many instructions to jump over where it holds, and where it does not.
#define IF(test, value, then_over, else_over) \
    BPF_JUMP(BPF_JMP | BPF_K | (test), (value), (then_over), (else_over))
// Flags of open and openat are an int: the low half of the argument.
#define OPENING(number, flags_argument)                                                         \
    IF(BPF_JEQ, (number), 0, 4), LOAD(args[flags_argument]), IF(BPF_JSET, WRITING_FLAGS, 0, 1), \
        REFUSE(EPERM), ANSWER(SECCOMP_RET_ALLOW)

// Allowed with this value of an argument's low half alone.
#define ONLY(number, argument, value)                                                             \
    IF(BPF_JEQ, (number), 0, 4), LOAD(args[argument]), IF(BPF_JEQ, (value), 1, 0), REFUSE(EPERM), \
        ANSWER(SECCOMP_RET_ALLOW)
// Allowed with all values of an argument's low half but two.
#define BUT_FOR(number, argument, value, other)                                    \
    IF(BPF_JEQ, (number), 0, 5), LOAD(args[argument]), IF(BPF_JEQ, (value), 1, 0), \
        IF(BPF_JEQ, (other), 0, 1), REFUSE(EPERM), ANSWER(SECCOMP_RET_ALLOW)

// The program's beginning: calls of which the arguments matter.
static const struct sock_filter tests[] = {
    LOAD(arch),
    IF(BPF_JEQ, AUDIT_ARCH_X86_64, 1, 0),
    REFUSE(EPERM),
    LOAD(nr),
    IF(BPF_JGE, X32_BIT, 0, 1),
    REFUSE(EPERM),
    IF(BPF_JEQ, CLONE3, 0, 1),
    REFUSE(ENOSYS),
    OPENING(SYS_open, 1),
    OPENING(SYS_openat, 2),
    IF(BPF_JEQ, SYS_clone, 0, 4),
    LOAD(args[0]),
    IF(BPF_JSET, CLONE_THREAD, 1, 0),
    REFUSE(EPERM),
    ANSWER(SECCOMP_RET_ALLOW),
    // Signals to oneself, as from raise(); one's own limits, priority and pages.
    ONLY(SYS_tgkill, 0, OWN_PROCESS),
    ONLY(SYS_prlimit64, 0, 0),
    ONLY(SYS_setpriority, 1, 0),
    ONLY(SYS_move_pages, 0, 0),
    // Signals to another process as news of a socket.
    BUT_FOR(SYS_fcntl, 1, F_SETOWN, F_SETOWN_EX),
    IF(BPF_JEQ, SYS_ioctl, 0, 7),
    LOAD(args[1]),
    IF(BPF_JEQ, SET_OWNER, 3, 0),
    IF(BPF_JEQ, SET_GROUP, 2, 0),
    // Keys typed into the terminal that started the worker, which its shell would obey.
    IF(BPF_JEQ, TIOCSTI, 1, 0),
    IF(BPF_JEQ, TIOCLINUX, 0, 1),
    REFUSE(EPERM),
    ANSWER(SECCOMP_RET_ALLOW),
};

enum { PROGRAM_MAX = COUNT_OF(tests) + COUNT_OF(refused) + 2 };
static_assert(COUNT_OF(refused) < 255, "a jump reaches over the whole list");

static uint32_t write_program(struct sock_filter out[PROGRAM_MAX]) {
    uint32_t n = COUNT_OF(tests), n_refused = COUNT_OF(refused);
    memcpy(out, tests, sizeof tests);
    for (uint32_t i = 0; i < n; i++)
        if (out[i].code == (BPF_JMP | BPF_K | BPF_JEQ) && out[i].k == OWN_PROCESS)
            out[i].k = (uint32_t)getpid();
    for (uint32_t i = 0; i < n_refused; i++) // to the last instruction, over the rest of the list and its end
        out[n++] = (struct sock_filter)IF(BPF_JEQ, refused[i], (uint8_t)(n_refused - i), 0);
    out[n++] = (struct sock_filter)ANSWER(SECCOMP_RET_ALLOW);
    out[n++] = (struct sock_filter)REFUSE(EPERM);
    return n;
}

bool os_sandbox_enter(uint32_t *n_refused, Error *err) {
    struct sock_filter program[PROGRAM_MAX];
    struct sock_fprog filter = {.len = (unsigned short)write_program(program), .filter = program};
    *n_refused = COUNT_OF(refused);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return error_set(err, ERR_IO, "the sandbox cannot be entered: %s", strerror(errno));
    long failed = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &filter);
    if (failed == 0) return true;
    const char *reason = failed > 0 ? "a thread has a filter of its own" : strerror(errno);
    return error_set(err, ERR_IO, "the sandbox cannot be entered: %s", reason);
}

#else

bool os_sandbox_enter(uint32_t *n_refused, Error *err) {
    *n_refused = 0;
    return error_set(err, ERR_IO, "the sandbox is made for x86-64, and this is another machine");
}

#endif
