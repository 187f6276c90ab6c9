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
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int listener, poller;

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
    int file = open(test_tmp_path("old"), O_RDONLY | O_CLOEXEC);
    if (file < 0 || read(file, &byte, 1) != 1) return -1;
    return close(file);
}
static long use_wake(void) {
    int wake;
    Error err;
    if (!os_wake_open(&wake, &err)) return -1;
    os_wake_signal(wake);
    return os_net_wait_ready(wake, false, 1000) ? 0 : -1;
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
    if (os_poll_wait(poller, &event, 1, 5000) != 1) return -1;
    if (os_net_accept(listener, &connection) != OS_NET_OK) return -1;
    if (!os_poll_add(poller, connection, OS_POLL_RECEIVE, 2)) return -1;
    if (os_net_receive(connection, &byte, 1, &received) != OS_NET_OK) return -1;
    if (os_net_send(connection, STR("x"), &sent) != OS_NET_OK) return -1;
    os_net_close(connection);
    return 0;
}

typedef struct {
    const char *name;
    long (*call)(void);
    bool allowed;
} Attempt;

static const Attempt attempts[] = {
    {"exec", try_exec, false},
    {"fork", try_fork, false},
    {"spawn", try_spawn, false},
    {"ptrace", try_ptrace, false},
    {"kill", try_kill, false},
    {"a TCP socket", try_tcp, false},
    {"a UNIX socket", try_unix, false},
    {"a new file", try_create, false},
    {"appending", try_append, false},
    {"reading and writing", try_read_write, false},
    {"truncating", try_truncate, false},
    {"a file without a name", try_temporary, false},
    {"openat2", try_openat2, false},
    {"unlink", try_unlink, false},
    {"rename", try_rename, false},
    {"mkdir", try_mkdir, false},
    {"chmod", try_chmod, false},
    {"mount", try_mount, false},
    {"unshare", try_unshare, false},
    {"a kernel module", try_module, false},
    {"setuid", try_setuid, false},
    {"bpf", try_bpf, false},
    {"io_uring", try_io_uring, false},
    {"a signal to others", try_signal_others, false},
    {"limits of others", try_limit_others, false},
    {"priority of others", try_slow_others, false},
    {"signals by a socket", try_own_socket, false},
    {"signals by a socket, otherwise", try_own_socket_otherwise, false},
    {"typing", try_type, false},
    {"shared memory", try_shared_memory, false},
    {"a message queue", try_queue, false},
    {"the x32 calls", try_x32, false},
    {"a thread", use_thread, true},
    {"memory", use_memory, true},
    {"locked memory", use_locked_memory, true},
    {"reading a file", use_file, true},
    {"an eventfd", use_wake, true},
    {"clocks", use_clock, true},
    {"random bytes", use_random, true},
    {"a signal to itself", use_own_signal, true},
    {"its own limits", use_own_limits, true},
    {"flags of a file", use_file_flags, true},
    {"a connection that comes", use_accept, true},
};

// A thread that was there before does not escape.
static _Atomic uint32_t go;
static void *exec_in_old_thread(void *result) {
    os_wait_word(&go, 0, UINT32_MAX);
    *(int *)result = try_exec() < 0 ? errno : 0;
    return NULL;
}

static void live_in_sandbox(void) {
    pthread_t old_thread;
    int old_error = 0;
    uint32_t n_refused;
    Error err;
    REQUIRE(pthread_create(&old_thread, NULL, exec_in_old_thread, &old_error) == 0);
    if (!os_sandbox_drop_capabilities(false, &err) || !os_sandbox_enter(&n_refused, &err))
        FAIL("%s", err.message), test_end();
    CHECK(n_refused > 50);
    for (size_t i = 0; i < COUNT_OF(attempts); i++) {
        TEST_CASE_LABEL("%s", attempts[i].name);
        errno = 0;
        long result = attempts[i].call();
        if (attempts[i].allowed) CHECK_INT_EQ(0, result);
        else if (CHECK(result < 0)) CHECK_INT_EQ(EPERM, errno);
    }
    TEST_CASE_LABEL("a thread from before");
    atomic_store(&go, 1);
    os_wake_word(&go);
    pthread_join(old_thread, NULL);
    CHECK_INT_EQ(EPERM, old_error);
}

TEST(sandbox_refuses_and_leaves) {
    Error err;
    uint16_t port;
    int client;
    size_t sent;
    tmp_file_write("old", "content");
    REQUIRE(os_net_listen(STR("127.0.0.1"), 0, &listener, &port, &err) && os_poll_open(&poller, &err));
    REQUIRE(os_poll_add(poller, listener, OS_POLL_RECEIVE, 1));
    REQUIRE(os_net_connect(STR("127.0.0.1"), port, 1000, &client, &err));
    CHECK(os_net_send(client, STR("x"), &sent) == OS_NET_OK);
    pid_t child = fork(); // this process has yet to end as a test case does
    REQUIRE(child >= 0);
    if (child == 0) {
        live_in_sandbox();
        _exit(0);
    }
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK_INT_EQ(0, status);
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
    CHECK(log_line_number(process_await_event(s.process, "sandbox"), "system_calls_refused") > 50);
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

// Files are still read.
TEST(contract_sandbox_reads_tokens_again) {
    const char *tokens = tmp_file_write("tokens", "one\n");
    char more[512];
    setenv("ASAN_OPTIONS", "detect_leaks=0", 1);
    snprintf(more, sizeof more, "--sandbox --api-token-file %s", tokens);
    Server s = server_start(tiny_model_file(), more);
    tmp_file_write("tokens", "two\nthree\n");
    kill(s.process.pid, SIGHUP);
    CHECK_INT_EQ(2, log_line_number(process_await_event(s.process, "tokens_read"), "tokens"));
    kill(s.process.pid, SIGTERM);
    CHECK_INT_EQ(0, process_wait(s.process));
}
