// What --sandbox leaves a worker, and what it takes: tried by a process that has entered it, and seen on a
// worker that serves in it.
#include "os/os.h"
#include "os/os_net.h"
#include "os/os_sandbox.h"
#include "runner.h"
#include "worker_process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static int listener, poller, datagrams, device;
static struct sockaddr_in service; // of somebody else

// ---- what is refused ----

// Each does what it is named after and returns what the system call returned.
static long try_exec(void) {
    char *const nothing[] = {NULL};
    return execve("/bin/true", nothing, nothing);
}
static long try_fork(void) {
    pid_t child = fork();
    if (child == 0) _exit(0);
    return child;
}
static long try_spawn(void) {
    char *const nothing[] = {NULL};
    pid_t child;
    errno = posix_spawn(&child, "/bin/true", NULL, NULL, nothing, nothing);
    return errno ? -1 : 0;
}
static long try_ptrace(void) {
    return ptrace(PTRACE_ATTACH, getppid(), NULL, NULL);
}
static long try_kill(void) {
    return kill(getppid(), 0);
}
static long try_tcp(void) {
    return socket(AF_INET, SOCK_STREAM, 0);
}
static long try_unix(void) {
    return socket(AF_UNIX, SOCK_STREAM, 0);
}
static long try_create(void) {
    return open(test_tmp_path("new"), O_WRONLY | O_CREAT, 0600);
}
static long try_append(void) {
    return open(test_tmp_path("old"), O_WRONLY | O_APPEND);
}
static long try_read_write(void) {
    return openat(AT_FDCWD, test_tmp_path("old"), O_RDWR);
}
static long try_truncate(void) {
    return open(test_tmp_path("old"), O_RDONLY | O_TRUNC);
}
static long try_temporary(void) {
    return open(test_tmp_path(""), O_TMPFILE | O_RDWR, 0600);
}
static long try_openat2(void) {
    return syscall(437, AT_FDCWD, test_tmp_path("old"), NULL, 0);
}
static long try_unlink(void) {
    return unlink(test_tmp_path("old"));
}
static long try_rename(void) {
    return rename(test_tmp_path("old"), test_tmp_path("new"));
}
static long try_mkdir(void) {
    return mkdir(test_tmp_path("folder"), 0700);
}
static long try_chmod(void) {
    return chmod(test_tmp_path("old"), 0777);
}
static long try_mount(void) {
    return mount("none", "/mnt", "tmpfs", 0, NULL);
}
static long try_unshare(void) {
    return syscall(SYS_unshare, 0x10000000 /* CLONE_NEWUSER */);
}
static long try_module(void) {
    return syscall(SYS_init_module, NULL, 0, "");
}
static long try_setuid(void) {
    return setuid(getuid());
}
static long try_bpf(void) {
    return syscall(SYS_bpf, 0, NULL, 0);
}
static long try_io_uring(void) {
    return syscall(425, 1, NULL);
}
static long try_signal_others(void) {
    return syscall(SYS_tgkill, getppid(), getppid(), 0);
}
static long try_limit_others(void) {
    struct rlimit now;
    return prlimit(getppid(), RLIMIT_CORE, NULL, &now);
}
static long try_slow_others(void) {
    return setpriority(PRIO_PROCESS, (id_t)getppid(), 1);
}
static long try_own_socket(void) {
    return fcntl(listener, F_SETOWN, getppid());
}
static long try_own_socket_otherwise(void) {
    int process = getppid();
    return ioctl(listener, 0x8901 /* FIOSETOWN */, &process);
}
static long try_type(void) {
    return ioctl(0, TIOCSTI, "x");
}
static long try_shared_memory(void) {
    return shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600);
}
static long try_queue(void) {
    return syscall(SYS_mq_open, "worker-orcd-test", O_RDONLY, 0, NULL);
}
static long try_x32(void) {
    return syscall(0x40000000 | SYS_getpid);
}

// The ways out by a socket that is open already: a listening one connects when something is sent quickly.
static long try_fast_open(void) {
    return sendto(listener, "x", 1, MSG_FASTOPEN, (const struct sockaddr *)&service, sizeof service);
}
static long try_send_elsewhere(void) {
    return sendto(datagrams, "x", 1, 0, (const struct sockaddr *)&service, sizeof service);
}
static long try_send_message(void) {
    struct iovec part = {.iov_base = "x", .iov_len = 1};
    struct msghdr message = {
        .msg_name = &service, .msg_namelen = sizeof service, .msg_iov = &part, .msg_iovlen = 1};
    return sendmsg(datagrams, &message, 0);
}
static long try_send_messages(void) {
    struct iovec part = {.iov_base = "x", .iov_len = 1};
    struct mmsghdr messages = {
        .msg_hdr = {.msg_name = &service, .msg_namelen = sizeof service, .msg_iov = &part, .msg_iovlen = 1}};
    return sendmmsg(datagrams, &messages, 1, 0);
}
static long try_connect(void) {
    return connect(datagrams, (const struct sockaddr *)&service, sizeof service);
}
static long try_fast_open_option(void) {
    int on = 1;
    return setsockopt(listener, IPPROTO_TCP, 30 /* TCP_FASTOPEN_CONNECT */, &on, sizeof on);
}
static long try_socket_filter(void) {
    return setsockopt(listener, SOL_SOCKET, 26 /* SO_ATTACH_FILTER */, "", 1);
}
// Memory of another process.
static long try_read_other(void) {
    struct iovec to = {.iov_base = (char[8]){0}, .iov_len = 8}, from = {.iov_base = &poller, .iov_len = 4};
    return syscall(SYS_process_vm_readv, getppid(), &to, 1, &from, 1, 0);
}
static long try_write_other(void) {
    struct iovec from = {.iov_base = "x", .iov_len = 1}, to = {.iov_base = &poller, .iov_len = 1};
    return syscall(SYS_process_vm_writev, getppid(), &from, 1, &to, 1, 0);
}
static long try_process_file(void) {
    return syscall(434 /* pidfd_open */, getppid(), 0);
}
static long try_others_file(void) {
    return syscall(438 /* pidfd_getfd */, 0, 0, 0);
}
static long try_compare(void) {
    return syscall(SYS_kcmp, getpid(), getppid(), 0, 0, 0);
}
static long try_advise_other(void) {
    return syscall(440 /* process_madvise */, 0, NULL, 0, 0, 0);
}
static long try_robust_list(void) {
    void *head;
    size_t size;
    return syscall(SYS_get_robust_list, getppid(), &head, &size);
}
// How others run.
static long try_processors_of_others(void) {
    cpu_set_t all;
    memset(&all, 0xFF, sizeof all);
    return sched_setaffinity(getppid(), sizeof all, &all);
}
static long try_scheduler_of_others(void) {
    return sched_setscheduler(getppid(), SCHED_BATCH, &(struct sched_param){0});
}
static long try_parameters_of_others(void) {
    return sched_setparam(getppid(), &(struct sched_param){0});
}
static long try_attributes_of_others(void) {
    return syscall(SYS_sched_setattr, getppid(), NULL, 0);
}
static long try_slow_all_of_user(void) {
    return setpriority(PRIO_USER, 0, 1);
}
static long try_slow_group(void) {
    return setpriority(PRIO_PGRP, 0, 1);
}
static long try_io_priority(void) {
    return syscall(SYS_ioprio_set, 1, getppid(), 0);
}
static long try_pages_of_others(void) {
    return syscall(SYS_migrate_pages, getppid(), 0, NULL, NULL);
}
static long try_signal_all(void) {
    return kill(0, 0);
}
static long try_signal_thread(void) {
    return syscall(SYS_tkill, getppid(), 0);
}
// Code of one's own.
static long try_executable_memory(void) {
    return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? -1 : 0;
}
static long try_making_executable(void) {
    void *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return mprotect(memory, 4096, PROT_READ | PROT_EXEC);
}
static long try_file_in_memory(void) {
    return syscall(SYS_memfd_create, "x", 0);
}
static long try_cutting_the_log(void) {
    return ftruncate(1, 0);
}
static long try_aio(void) {
    return syscall(SYS_io_setup, 1, NULL);
}
static long try_dumpable(void) {
    return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
}

// With landlock: what is read.
static long read_path(const char *path) {
    char byte;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return -1;
    long got = read(file, &byte, 1);
    close(file);
    return got < 0 ? -1 : 0;
}
static long read_of_parent(const char *name) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)getppid(), name);
    return read_path(path);
}
static long try_memory_file(void) {
    return read_of_parent("mem");
}
static long try_environment(void) {
    return read_of_parent("environ");
}
static long try_command_line(void) {
    return read_of_parent("cmdline");
}
static long try_users(void) {
    return read_path("/etc/passwd");
}
static long try_program(void) {
    return read_path("/proc/self/exe");
}
static long try_root_folder(void) {
    return open("/", O_RDONLY | O_DIRECTORY);
}

// ---- what is left ----

static void *set_flag(void *flag) {
    *(bool *)flag = true;
    return NULL;
}
static long use_thread(void) {
    pthread_t thread;
    bool ran = false;
    if (pthread_create(&thread, NULL, set_flag, &ran) != 0) return -1;
    pthread_join(thread, NULL);
    return ran ? 0 : -1;
}
static long use_memory(void) {
    char *memory = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return -1;
    memory[4096] = 1;
    return (madvise(memory, 1 << 20, MADV_DONTNEED) || mprotect(memory, 4096, PROT_READ) ||
            munmap(memory, 1 << 20))
               ? -1
               : 0;
}
static long use_locked_memory(void) {
    static char memory[4096];
    return mlock(memory, sizeof memory) == 0 || errno == ENOMEM ? munlock(memory, sizeof memory) : -1;
}
static long use_file(void) {
    char byte;
    int file = open(test_tmp_path("tokens/file"), O_RDONLY | O_CLOEXEC);
    if (file < 0 || read(file, &byte, 1) != 1) return -1;
    return close(file);
}
// Another file in the place of the readable one.
static long use_new_file(void) {
    return read_path(test_tmp_path("tokens/renamed"));
}
static long use_own_facts(void) {
    return read_path("/proc/self/statm") || !os_resident_bytes() ? -1 : 0;
}
static long use_own_processors(void) {
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) || sched_setaffinity(0, sizeof set, &set) ? -1 : 0;
}
// A driver's control calls on a device that is open pass: this one refuses them by itself.
static long use_device_calls(void) {
    static const unsigned long calls[] = {0xC020462A, 0xC0104678, 33, 0x30000001};
    for (size_t i = 0; i < COUNT_OF(calls); i++) {
        errno = 0;
        if (ioctl(device, calls[i], NULL) == 0 || errno != ENOTTY) return -1;
    }
    return 0;
}
static long use_pipe(void) {
    int ends[2];
    char byte = 'x';
    if (pipe2(ends, O_CLOEXEC) || write(ends[1], &byte, 1) != 1 || read(ends[0], &byte, 1) != 1) return -1;
    return close(ends[0]) || close(ends[1]) ? -1 : 0;
}
static long use_socket_options(void) {
    int on = 1;
    return setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}
static long use_wake(void) {
    int wake;
    Error err;
    if (!os_wake_open(&wake, &err)) return -1;
    os_wake_signal(wake);
    return os_net_wait_ready(wake, false, 60000) ? 0 : -1;
}
static long use_clock(void) {
    os_sleep_ms(1);
    os_yield();
    return os_monotonic_ns() && os_unix_ms() && os_cpu_count() ? 0 : -1;
}
static long use_random(void) {
    uint8_t bytes[16];
    os_random(bytes, sizeof bytes);
    return 0;
}
static long use_own_limits(void) {
    struct rlimit now;
    return getrlimit(RLIMIT_NOFILE, &now) || setrlimit(RLIMIT_NOFILE, &now) ? -1 : 0;
}
static long use_file_flags(void) {
    return fcntl(listener, F_GETFL) < 0 ? -1 : fcntl(listener, F_SETFD, FD_CLOEXEC);
}
static long use_own_signal(void) {
    signal(SIGUSR1, SIG_IGN);
    return raise(SIGUSR1);
}

// A connection that comes: the client was there before.
static long use_accept(void) {
    int connection;
    char byte;
    size_t received = 0, sent = 0;
    OsPollEvent event;
    if (os_poll_wait(poller, &event, 1, 60000) != 1) return -1;
    if (os_net_accept(listener, &connection) != OS_NET_OK) return -1;
    if (!os_poll_add(poller, connection, OS_POLL_RECEIVE, 2)) return -1;
    if (os_net_receive(connection, &byte, 1, &received) != OS_NET_OK) return -1;
    if (os_net_send(connection, STR("x"), &sent) != OS_NET_OK) return -1;
    os_net_close(connection);
    return 0;
}

enum { ALWAYS = EPERM, BY_LANDLOCK = EACCES };

typedef struct {
    const char *name;
    long (*call)(void);
    int refused; // 0: allowed; BY_LANDLOCK: where that holds
} Attempt;

static const Attempt attempts[] = {
    {"exec", try_exec, ALWAYS},
    {"fork", try_fork, ALWAYS},
    {"spawn", try_spawn, ALWAYS},
    {"ptrace", try_ptrace, ALWAYS},
    {"kill", try_kill, ALWAYS},
    {"a TCP socket", try_tcp, ALWAYS},
    {"a UNIX socket", try_unix, ALWAYS},
    {"a new file", try_create, ALWAYS},
    {"appending", try_append, ALWAYS},
    {"reading and writing", try_read_write, ALWAYS},
    {"truncating", try_truncate, ALWAYS},
    {"a file without a name", try_temporary, ALWAYS},
    {"openat2", try_openat2, ALWAYS},
    {"unlink", try_unlink, ALWAYS},
    {"rename", try_rename, ALWAYS},
    {"mkdir", try_mkdir, ALWAYS},
    {"chmod", try_chmod, ALWAYS},
    {"mount", try_mount, ALWAYS},
    {"unshare", try_unshare, ALWAYS},
    {"a kernel module", try_module, ALWAYS},
    {"setuid", try_setuid, ALWAYS},
    {"bpf", try_bpf, ALWAYS},
    {"io_uring", try_io_uring, ALWAYS},
    {"a signal to others", try_signal_others, ALWAYS},
    {"limits of others", try_limit_others, ALWAYS},
    {"priority of others", try_slow_others, ALWAYS},
    {"signals by a socket", try_own_socket, ALWAYS},
    {"signals by a socket, otherwise", try_own_socket_otherwise, ALWAYS},
    {"typing", try_type, ALWAYS},
    {"shared memory", try_shared_memory, ALWAYS},
    {"a message queue", try_queue, ALWAYS},
    {"the x32 calls", try_x32, ALWAYS},
    {"a connection by sending", try_fast_open, ALWAYS},
    {"a datagram elsewhere", try_send_elsewhere, ALWAYS},
    {"sendmsg", try_send_message, ALWAYS},
    {"sendmmsg", try_send_messages, ALWAYS},
    {"connect", try_connect, ALWAYS},
    {"TCP_FASTOPEN_CONNECT", try_fast_open_option, ALWAYS},
    {"a socket's filter", try_socket_filter, ALWAYS},
    {"reading others' memory", try_read_other, ALWAYS},
    {"writing others' memory", try_write_other, ALWAYS},
    {"pidfd_open", try_process_file, ALWAYS},
    {"pidfd_getfd", try_others_file, ALWAYS},
    {"kcmp", try_compare, ALWAYS},
    {"process_madvise", try_advise_other, ALWAYS},
    {"get_robust_list", try_robust_list, ALWAYS},
    {"processors of others", try_processors_of_others, ALWAYS},
    {"scheduler of others", try_scheduler_of_others, ALWAYS},
    {"sched_setparam", try_parameters_of_others, ALWAYS},
    {"sched_setattr", try_attributes_of_others, ALWAYS},
    {"priority of all of the user's", try_slow_all_of_user, ALWAYS},
    {"priority of the group", try_slow_group, ALWAYS},
    {"ioprio_set", try_io_priority, ALWAYS},
    {"migrate_pages", try_pages_of_others, ALWAYS},
    {"a signal to the group", try_signal_all, ALWAYS},
    {"tkill", try_signal_thread, ALWAYS},
    {"executable memory", try_executable_memory, ALWAYS},
    {"making memory executable", try_making_executable, ALWAYS},
    {"memfd_create", try_file_in_memory, ALWAYS},
    {"ftruncate", try_cutting_the_log, ALWAYS},
    {"io_setup", try_aio, ALWAYS},
    {"PR_SET_DUMPABLE", try_dumpable, ALWAYS},
    {"/proc/PID/mem", try_memory_file, BY_LANDLOCK},
    {"/proc/PID/environ", try_environment, BY_LANDLOCK},
    {"/proc/PID/cmdline", try_command_line, BY_LANDLOCK},
    {"/etc/passwd", try_users, BY_LANDLOCK},
    {"the program's file", try_program, BY_LANDLOCK},
    {"the root folder", try_root_folder, BY_LANDLOCK},
    {"a thread", use_thread, 0},
    {"memory", use_memory, 0},
    {"locked memory", use_locked_memory, 0},
    {"reading a file", use_file, 0},
    {"an eventfd", use_wake, 0},
    {"clocks", use_clock, 0},
    {"random bytes", use_random, 0},
    {"a signal to itself", use_own_signal, 0},
    {"its own limits", use_own_limits, 0},
    {"flags of a file", use_file_flags, 0},
    {"a connection that comes", use_accept, 0},
    {"a file in the place of the readable one", use_new_file, 0},
    {"facts about itself", use_own_facts, 0},
    {"its own processors", use_own_processors, 0},
    {"a device's control calls", use_device_calls, 0},
    {"a pipe", use_pipe, 0},
    {"a socket's options", use_socket_options, 0},
};

// A thread that was there before, with all signals blocked as a driver's are, does not escape.
static _Atomic uint32_t go;
typedef struct {
    int exec_error, memory_error;
} OldThread;
static void *try_in_old_thread(void *result) {
    OldThread *r = result;
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    os_wait_word(&go, 0, UINT32_MAX);
    r->exec_error = try_exec() < 0 ? errno : 0;
    r->memory_error = try_memory_file() < 0 ? errno : 0;
    return NULL;
}

static void live_in_sandbox(bool without_landlock) {
    pthread_t old_threads[3];
    OldThread old[COUNT_OF(old_threads)] = {0};
    OsSandbox sandbox;
    Error err;
    const OsSandboxOptions options = {.readable_file = test_tmp_path("tokens/file"),
                                      .without_landlock = without_landlock};
    for (size_t i = 0; i < COUNT_OF(old); i++)
        REQUIRE(pthread_create(&old_threads[i], NULL, try_in_old_thread, &old[i]) == 0);
    if (!os_sandbox_drop_capabilities(false, &err) || !os_sandbox_enter(&options, &sandbox, &err))
        FAIL("%s", err.message), test_end();
    CHECK(sandbox.n_calls_allowed > 100 && sandbox.n_calls_allowed < 200);
    CHECK(strstr(sandbox.holds, sandbox.landlock_abi ? "seccomp, landlock ABI " : "seccomp; no landlock ("));
    if (!CHECK(!without_landlock || sandbox.landlock_abi == 0)) test_end();
    for (size_t i = 0; i < COUNT_OF(attempts); i++) {
        if (attempts[i].refused == BY_LANDLOCK && !sandbox.landlock_abi) continue;
        TEST_CASE_LABEL("%s%s", attempts[i].name, sandbox.landlock_abi ? "" : ", without landlock");
        errno = 0;
        long result = attempts[i].call();
        if (!attempts[i].refused) CHECK_INT_EQ(0, result);
        else if (CHECK(result < 0)) CHECK_INT_EQ(attempts[i].refused, errno);
    }
    TEST_CASE_LABEL("threads from before");
    atomic_store(&go, 1);
    os_wake_word(&go);
    for (size_t i = 0; i < COUNT_OF(old); i++) {
        pthread_join(old_threads[i], NULL);
        CHECK_INT_EQ(EPERM, old[i].exec_error);
        if (sandbox.landlock_abi) CHECK_INT_EQ(EACCES, old[i].memory_error);
    }
}

static void check_sandbox(bool without_landlock) {
    Error err;
    uint16_t port;
    int client;
    size_t sent;
    REQUIRE(mkdir(test_tmp_path("tokens"), 0700) == 0);
    tmp_file_write("old", "content");
    tmp_file_write("tokens/first", "content");
    REQUIRE(symlink("first", test_tmp_path("tokens/file")) == 0);
    tmp_file_write("tokens/renamed", "content");
    REQUIRE(os_net_listen(STR("127.0.0.1"), 0, &listener, &port, &err) && os_poll_open(&poller, &err));
    REQUIRE(os_poll_add(poller, listener, OS_POLL_RECEIVE, 1));
    REQUIRE(os_net_connect(STR("127.0.0.1"), port, 60000, &client, &err));
    CHECK(os_net_send(client, STR("x"), &sent) == OS_NET_OK);
    service = (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    REQUIRE((datagrams = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)) >= 0);
    REQUIRE((device = open("/dev/null", O_RDWR | O_CLOEXEC)) >= 0);
    pid_t child = fork(); // this process has yet to end as a test case does
    REQUIRE(child >= 0);
    if (child == 0) {
        live_in_sandbox(without_landlock);
        _exit(0);
    }
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK_INT_EQ(0, status);
}

TEST(sandbox_refuses_and_leaves) {
    check_sandbox(false);
}

TEST(sandbox_refuses_and_leaves_without_landlock) {
    check_sandbox(true);
}

// ---- a worker in it ----

// Whether each of a process's threads has these lines in its status.
static void check_threads(Server s) {
    static const char *const lines[] = {"\nNoNewPrivs:\t1\n", "\nSeccomp:\t2\n",
                                        "\nCapEff:\t0000000000000000\n", "\nCapPrm:\t0000000000000000\n"};
    char path[128];
    uint32_t n_threads = 0;
    snprintf(path, sizeof path, "/proc/%d/task", (int)s.process.pid);
    DIR *folder = opendir(path);
    REQUIRE(folder != NULL);
    for (struct dirent *entry; (entry = readdir(folder));) {
        if (entry->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "/proc/%d/task/%.20s/status", (int)s.process.pid, entry->d_name);
        Str status = process_read_file(path);
        for (size_t i = 0; i < COUNT_OF(lines); i++) {
            TEST_CASE_LABEL("thread %u, %.12s", n_threads, lines[i] + 1);
            CHECK(text_contains(status, lines[i]));
        }
        n_threads++;
    }
    closedir(folder);
    TEST_CASE_LABEL("%s", "");
    CHECK(n_threads >= 2);
}

TEST(contract_sandbox_serves) {
    char path[64];
    uint16_t status;
    setenv("ASAN_OPTIONS", "detect_leaks=0", 1); // that would take another process
    Server s = server_start_with(tiny_model_file(), "--device cpu --sandbox --threads 3");
    Str line = process_await_event(s.process, "sandbox");
    CHECK(log_line_number(line, "system_calls_allowed") > 100);
    CHECK(text_contains(line, "\"holds\":\"seccomp"));
    check_threads(s);
    for (int i = 0; i < 3; i++) {
        Str body =
            server_ask(s, "POST", "/execute",
                       "{\"job_id\":\"a\",\"prompt\":\"Hello\",\"max_tokens\":20,\"seed\":7}", &status);
        CHECK(status == 200 && text_contains(body, "event: end"));
        CHECK(text_contains(server_ask(s, "GET", "/metrics", "", &status), "worker_requests_total"));
    }
    kill(s.process.pid, SIGTERM);
    CHECK_INT_EQ(0, process_wait(s.process));
    // Without the flag nothing is taken away.
    s = server_start(tiny_model_file(), "");
    snprintf(path, sizeof path, "/proc/%d/status", (int)s.process.pid);
    CHECK(text_contains(process_read_file(path), "\nSeccomp:\t0\n"));
    kill(s.process.pid, SIGTERM);
    CHECK_INT_EQ(0, process_wait(s.process));
}

// That file is still read, and the log is still written.
TEST(contract_sandbox_reads_tokens_again) {
    const char *tokens = tmp_file_write("tokens", "one\n");
    char more[512];
    setenv("ASAN_OPTIONS", "detect_leaks=0", 1);
    snprintf(more, sizeof more, "--sandbox --api-token-file %s", tokens);
    Server s = server_start(tiny_model_file(), more);
    tmp_file_write("new", "two\nthree\n"); // another file in its place, as most programs write a new version
    REQUIRE(rename(test_tmp_path("new"), tokens) == 0);
    kill(s.process.pid, SIGHUP);
    CHECK_INT_EQ(2, log_line_number(process_await_event(s.process, "tokens_read"), "tokens"));
    kill(s.process.pid, SIGTERM);
    CHECK_INT_EQ(0, process_wait(s.process));
}
