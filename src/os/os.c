#include "os/os.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

void *os_reserve(size_t size) {
    void *memory =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

void os_release(void *memory, size_t size) {
    if (memory) munmap(memory, size);
}

void os_discard(void *memory, size_t size) {
    madvise(memory, size, MADV_DONTNEED);
}

Arena os_arena(size_t size) {
    void *memory = os_reserve(size);
    return memory ? arena_from_memory(memory, size) : (Arena){0};
}

ErrCode os_error_code(int reason) {
    switch (reason) {
    case ENOENT:
    case ENOTDIR: return ERR_NO_FILE;
    case EACCES:
    case EPERM: return ERR_PERMISSION;
    case EADDRINUSE: return ERR_ADDRESS_IN_USE;
    case EADDRNOTAVAIL: return ERR_ADDRESS;
    default: return ERR_IO;
    }
}

static bool file_open_regular(const char *path, int *fd, uint64_t *size, Error *err) {
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (*fd < 0) {
        ErrCode code = os_error_code(errno);
        return error_set(err, code == ERR_IO ? ERR_BAD_FILE : code, "%s: cannot be opened: %s", path,
                         strerror(errno));
    }
    struct stat info;
    const char *problem = NULL;
    if (fstat(*fd, &info) < 0) {
        problem = strerror(errno);
    } else if (S_ISDIR(info.st_mode)) {
        problem = "is a directory, not a file";
    } else if (!S_ISREG(info.st_mode)) {
        problem = "is not a regular file";
    } else if (info.st_size == 0) {
        problem = "is empty";
    }
    if (problem) {
        close(*fd);
        return error_set(err, ERR_BAD_FILE, "%s: %s", path, problem);
    }
    *size = (uint64_t)info.st_size;
    return true;
}

// ---- mapped files that are cut ----

// Where files are mapped. Entries are written by the threads that map and read in a signal handler.
static struct {
    _Atomic uintptr_t begin; // 0: free
    _Atomic size_t size;
} guarded[OS_FILES_GUARDED_MAX];
static _Atomic bool file_was_cut;
static struct sigaction bus_before;

static void guard_file(const void *data, size_t size) {
    for (size_t i = 0; i < COUNT_OF(guarded); i++) {
        uintptr_t none = 0;
        if (!atomic_compare_exchange_strong(&guarded[i].begin, &none, (uintptr_t)data)) continue;
        atomic_store(&guarded[i].size, size);
        return;
    }
}

static void unguard_file(const void *data) {
    for (size_t i = 0; i < COUNT_OF(guarded); i++) {
        if (atomic_load(&guarded[i].begin) != (uintptr_t)data) continue;
        atomic_store(&guarded[i].size, 0);
        atomic_store(&guarded[i].begin, 0);
        return;
    }
}

// The rest of the file becomes zeros, on which the access that failed goes on. Any other fault happens again
// when this returns, and is dealt with as if there was no handler.
static void on_bus_error(int signal_number, siginfo_t *info, void *context) {
    (void)context;
    int saved_errno = errno;
    uintptr_t page_size = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t page = (uintptr_t)info->si_addr & ~(page_size - 1);
    bool mended = false;
    for (size_t i = 0; i < COUNT_OF(guarded) && !mended; i++) {
        uintptr_t begin = atomic_load(&guarded[i].begin);
        size_t size = atomic_load(&guarded[i].size);
        if (page < begin || page - begin >= size) continue;
        atomic_store(&file_was_cut, true); // before anybody can have read the zeros
        // Not mmap(), which sanitizers replace.
        mended = syscall(SYS_mmap, page, begin + size - page, PROT_READ,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == (long)page;
    }
    if (!mended) sigaction(signal_number, &bus_before, NULL);
    errno = saved_errno;
}

bool os_file_was_cut(void) {
    return atomic_load(&file_was_cut);
}

bool os_file_map(const char *path, MappedFile *out, Error *err) {
    int fd;
    uint64_t size;
    *out = (MappedFile){0};
    if (!file_open_regular(path, &fd, &size, err)) return false;
    void *data = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    int map_errno = errno;
    close(fd);
    if (data == MAP_FAILED)
        return error_set(err, ERR_IO, "%s: cannot be mapped: %s", path, strerror(map_errno));
    *out = (MappedFile){.data = data, .size = size};
    guard_file(data, size);
    return true;
}

void os_file_unmap(MappedFile *file) {
    if (file->data) {
        unguard_file(file->data);
        munmap((void *)(uintptr_t)file->data, file->size);
    }
    *file = (MappedFile){0};
}

bool os_file_keep(MappedFile *file, uint64_t size, Error *err) {
    size_t length = (size_t)align_up(min_u64(size, file->size), (uint64_t)sysconf(_SC_PAGESIZE));
    void *at = (void *)(uintptr_t)file->data;
    if (length == 0) return true;
    char *copy = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (copy != MAP_FAILED) {
        memcpy(copy, at, (size_t)min_u64(length, file->size));
        if (mprotect(copy, length, PROT_READ) == 0 &&
            mremap(copy, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, at) == at) {
            file->kept = min_u64(length, file->size);
            return true;
        }
        munmap(copy, length);
    }
    return error_set(err, ERR_NO_MEMORY, "no memory for the first %zu bytes of a file", length);
}

// Closes it, unless it is standard input.
static bool read_descriptor(int fd, const char *path, uint64_t max_bytes, Arena *arena, Str *out,
                            Error *err) {
    size_t length = 0, room = (size_t)min_u64(max_bytes + 1, arena_left(arena));
    char *text = (char *)arena->next;
    ssize_t got = 1;
    while (got > 0 && length < room) {
        got = read(fd, text + length, room - length);
        if (got > 0) length += (size_t)got;
        if (got < 0 && errno == EINTR) got = 1;
    }
    int read_errno = errno;
    if (fd != STDIN_FILENO) close(fd);
    if (got < 0) return error_set(err, ERR_IO, "%s: cannot be read: %s", path, strerror(read_errno));
    if (length > max_bytes || length == room) {
        return error_set(err, ERR_IO, "%s: larger than %llu bytes", path, (unsigned long long)max_bytes);
    }
    arena->next += length;
    *out = (Str){text, length};
    return true;
}

bool os_file_read(const char *path, uint64_t max_bytes, Arena *arena, Str *out, Error *err) {
    int fd = strcmp(path, "-") == 0 ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_set(err, os_error_code(errno), "%s: cannot be opened: %s", path, strerror(errno));
    return read_descriptor(fd, path, max_bytes, arena, out, err);
}

bool os_file_read_regular(const char *path, uint64_t max_bytes, Arena *arena, Str *out, Error *err) {
    int fd;
    uint64_t size;
    return file_open_regular(path, &fd, &size, err) && read_descriptor(fd, path, max_bytes, arena, out, err);
}

bool os_file_read_own(const char *path, uint64_t max_bytes, Arena *arena, Str *out, Error *err) {
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) return error_set(err, ERR_IO, "%s: cannot be opened: %s", path, strerror(errno));
    bool is_own = fstat(fd, &info) == 0 && S_ISREG(info.st_mode) &&
                  (info.st_uid == geteuid() || info.st_uid == 0) && (info.st_mode & (S_IWGRP | S_IWOTH)) == 0;
    if (is_own) return read_descriptor(fd, path, max_bytes, arena, out, err);
    close(fd);
    return error_set(err, ERR_IO, "%s: others could have written it", path);
}

bool os_write(int fd, Str bytes) {
    while (bytes.len) {
        ssize_t written = write(fd, bytes.ptr, bytes.len);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return false;
        bytes = str_slice(bytes, (size_t)written, bytes.len);
    }
    return true;
}

static bool output_failed(int reason, Error *err) {
    return error_set(err, reason == EPIPE ? ERR_READER_LEFT : ERR_IO, "standard output: %s",
                     strerror(reason));
}

bool os_output(Str bytes, Error *err) {
    while (bytes.len) {
        if (!os_wait_ready(STDOUT_FILENO, true, UINT32_MAX))
            return error_set(err, ERR_CANCELLED, "stopped, and nobody reads standard output");
        // Where there is room at all there is some for this much (pipe(7)).
        ssize_t written = write(STDOUT_FILENO, bytes.ptr, (size_t)min_u64(bytes.len, PIPE_BUF));
        if (written < 0 && errno != EINTR && errno != EAGAIN) return output_failed(errno, err);
        if (written > 0) bytes = str_slice(bytes, (size_t)written, bytes.len);
    }
    return true;
}

bool os_output_close(Error *err) {
    return close(STDOUT_FILENO) == 0 || errno == EINTR || output_failed(errno, err);
}

bool os_write_soon(int fd, Str bytes) {
    enum { PATIENCE_MS = 10 };
    while (bytes.len) {
        // Where there is room at all there is some for this much (pipe(7)).
        Str part = str_slice(bytes, 0, (size_t)min_u64(bytes.len, PIPE_BUF));
        struct pollfd wait = {.fd = fd, .events = POLLOUT};
        if (poll(&wait, 1, PATIENCE_MS) == 0 || !os_write(fd, part)) return false;
        bytes = str_slice(bytes, part.len, bytes.len);
    }
    return true;
}

bool os_is_terminal(int fd) {
    return isatty(fd) == 1;
}

uint32_t os_terminal_columns(int fd) {
    struct winsize size;
    return ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col ? size.ws_col : 80;
}

static uint64_t clock_ns(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t os_monotonic_ns(void) {
    return clock_ns(CLOCK_MONOTONIC);
}

uint64_t os_processor_ns(void) {
    return clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

uint64_t os_unix_ms(void) {
    return clock_ns(CLOCK_REALTIME) / 1000000u;
}

void os_sleep_ms(uint32_t ms) {
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&t, NULL);
}

void os_format_utc(uint64_t unix_ms, char out[25]) {
    time_t seconds = (time_t)(unix_ms / 1000);
    struct tm t;
    gmtime_r(&seconds, &t);
    size_t length = strftime(out, 25, "%Y-%m-%dT%H:%M:%S", &t);
    snprintf(out + length, 25 - length, ".%03uZ", (unsigned)(unix_ms % 1000));
}

void os_random(void *out, size_t size) {
    uint8_t *at = out;
    while (size) {
        ssize_t got = getrandom(at, size, 0);
        if (got < 0) continue; // interrupted; there is no other failure for a valid buffer
        at += got;
        size -= (size_t)got;
    }
}

// All signals but those of a thread's own faults, which would end the process past their handlers.
static void block_signals(sigset_t *old) {
    static const int faults[] = {SIGBUS, SIGSEGV, SIGILL, SIGFPE, SIGTRAP, SIGSYS, SIGABRT};
    sigset_t blocked;
    sigfillset(&blocked);
    for (size_t i = 0; i < COUNT_OF(faults); i++)
        sigdelset(&blocked, faults[i]);
    pthread_sigmask(SIG_SETMASK, &blocked, old);
}

static void let_through(int signal_number) {
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, signal_number);
    pthread_sigmask(SIG_UNBLOCK, &one, NULL);
}

bool os_thread_start(OsThread *thread, const char *name, void *(*run)(void *), void *argument, Error *err) {
    sigset_t old; // signals stay with the main thread
    block_signals(&old);
    int failed = pthread_create(&thread->handle, NULL, run, argument);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (failed) return error_set(err, ERR_IO, "thread %s cannot be started: %s", name, strerror(failed));
    pthread_setname_np(thread->handle, name);
    return true;
}

void os_thread_join(OsThread *thread) {
    pthread_join(thread->handle, NULL);
}

void os_yield(void) {
    sched_yield();
}

void os_wait_word(_Atomic uint32_t *word, uint32_t expected, uint32_t timeout_ms) {
    struct timespec t = {.tv_sec = timeout_ms / 1000, .tv_nsec = (long)(timeout_ms % 1000) * 1000000};
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, timeout_ms == UINT32_MAX ? NULL : &t, NULL, 0);
}

void os_wake_word(_Atomic uint32_t *word) {
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

enum { STOP_TOGETHER_NS = 200 * 1000 * 1000 };

static _Atomic uint32_t stop_signals;
static _Atomic uint64_t first_stop_ns; // 0: none has come
static _Atomic uint32_t hangup_signals;
static _Atomic int signal_wake_fd = -1;
static bool ends_with_terminal; // written before there are threads

static void wake_from_signal(void) {
    int saved_errno = errno;
    uint64_t one = 1;
    int fd = atomic_load(&signal_wake_fd);
    if (fd >= 0 && write(fd, &one, sizeof one) < 0) errno = saved_errno; // a full eventfd is awake anyway
    errno = saved_errno;
}

// A signal that was sent twice at once, as `timeout` sends it to its child and to the child's group, is one.
static void on_stop_signal(int signal_number) {
    uint64_t now_ns = os_monotonic_ns(), first_ns = 0;
    if (!atomic_compare_exchange_strong(&first_stop_ns, &first_ns, now_ns)) {
        if (now_ns < first_ns + STOP_TOGETHER_NS) return;
        atomic_fetch_add(&stop_signals, 1);
        signal(signal_number, SIG_DFL);
        let_through(signal_number);
        raise(signal_number);
        _exit(128 + signal_number); // the first process of a container: such signals do not end it
    }
    atomic_fetch_add(&stop_signals, 1);
    wake_from_signal();
}

static void on_hangup_signal(int signal_number) {
    (void)signal_number;
    atomic_fetch_add(&hangup_signals, 1);
    wake_from_signal();
}

uint32_t os_stop_signals(void) {
    return atomic_load(&stop_signals);
}

// The signals are blocked from the look at their count to the sleep, in which ppoll lets them through.
bool os_wait_ready(int fd, bool for_writing, uint32_t timeout_ms) {
    enum { MOMENT_MS = 100 };
    struct pollfd wait = {.fd = fd, .events = for_writing ? POLLOUT : POLLIN};
    sigset_t stops, before;
    int ready;
    sigemptyset(&stops);
    sigaddset(&stops, SIGTERM);
    sigaddset(&stops, SIGINT);
    pthread_sigmask(SIG_BLOCK, &stops, &before);
    do {
        uint64_t ms = os_stop_signals() ? min_u64(timeout_ms, MOMENT_MS) : timeout_ms;
        struct timespec limit = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
        ready = ppoll(&wait, 1, ms == UINT32_MAX ? NULL : &limit, &before);
    } while (ready < 0 && errno == EINTR);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return ready != 0; // what else is wrong the read or write says
}

void os_install_stop_signals(int wake_fd) {
    atomic_store(&signal_wake_fd, wake_fd);
    struct sigaction stop = {.sa_handler = on_stop_signal, .sa_flags = SA_RESTART};
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigaction(SIGTERM, &stop, NULL);
    sigaction(SIGINT, &stop, NULL);
    sigaction(SIGPIPE, &ignore, NULL);
    let_through(SIGTERM);
    let_through(SIGINT);
}

uint32_t os_hangup_signals(void) {
    return atomic_load(&hangup_signals);
}

static bool has_controlling_terminal(void) {
    int fd = open("/dev/tty", O_RDONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0) close(fd);
    return fd >= 0;
}

void os_install_hangup_signal(void) {
    struct sigaction hangup = {.sa_handler = on_hangup_signal, .sa_flags = SA_RESTART}, before;
    sigaction(SIGHUP, &hangup, &before);
    ends_with_terminal = before.sa_handler != SIG_IGN && has_controlling_terminal();
    let_through(SIGHUP);
}

bool os_terminal_hung_up(void) {
    return ends_with_terminal && os_hangup_signals() && !has_controlling_terminal();
}

void os_begin_process(void) {
    for (int fd = 0; fd <= 2; fd++) { // the lowest free number is the one that open gives
        if (fcntl(fd, F_GETFD) < 0 && open("/", O_PATH | O_DIRECTORY) != fd) return;
    }
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigaction(SIGXFSZ, &ignore, NULL);
    struct sigaction bus = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO};
    sigaction(SIGBUS, &bus, &bus_before);
}

bool os_ensure_stack(Error *err) {
    enum { LEAST = 512 * 1024, USUAL = 8 * 1024 * 1024 };
    struct rlimit limit;
    if (getrlimit(RLIMIT_STACK, &limit) != 0 || limit.rlim_cur >= LEAST) return true;
    rlim_t before = limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max < USUAL ? limit.rlim_max : USUAL;
    if (limit.rlim_cur < LEAST) limit.rlim_cur = limit.rlim_max = USUAL; // for those who may
    if (setrlimit(RLIMIT_STACK, &limit) != 0) {
        return error_set(err, ERR_NO_MEMORY, "the stack's limit is %llu KB; %d KB are needed (ulimit -s %d)",
                         (unsigned long long)before / 1024, LEAST / 1024, USUAL / 1024);
    }
    pthread_attr_t threads; // their size was taken from the limit when the program started
    if (pthread_getattr_default_np(&threads) == 0) {
        if (pthread_attr_setstacksize(&threads, (size_t)limit.rlim_cur) == 0)
            (void)pthread_setattr_default_np(&threads);
        pthread_attr_destroy(&threads);
    }
    return true;
}

uint64_t os_raise_open_files(uint64_t wanted) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
    if (limit.rlim_cur < wanted) {
        limit.rlim_cur = (rlim_t)min_u64(wanted, limit.rlim_max);
        (void)setrlimit(RLIMIT_NOFILE, &limit);
        if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
    }
    return limit.rlim_cur;
}

void os_exit_now(int code) {
    _exit(code);
}

uint64_t os_process_id(void) {
    return (uint64_t)getpid();
}

uint64_t os_resident_bytes(void) {
    unsigned long long pages_total = 0, pages_resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f) return 0;
    if (fscanf(f, "%llu %llu", &pages_total, &pages_resident) != 2) pages_resident = 0;
    fclose(f);
    return pages_resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void close_all_but(int fd) {
    long max = sysconf(_SC_OPEN_MAX);
    for (int i = 0; i < (max > 0 && max < 4096 ? (int)max : 4096); i++) {
        if (i != fd) close(i);
    }
}

bool os_helper_start(OsHelper *out, void (*run)(OsHelper *maker, void *context), void *context, Error *err) {
    int ends[2];
    *out = (OsHelper){-1, -1};
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        return error_set(err, ERR_IO, "no socket for a helper: %s", strerror(errno));
    sigset_t old;
    block_signals(&old);
    pid_t process = fork();
    if (process == 0) { // with signals blocked
        close_all_but(ends[1]);
        prctl(PR_SET_NAME, "helper");
        run(&(OsHelper){ends[1], -1}, context);
        _exit(0);
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    close(ends[1]);
    *out = (OsHelper){ends[0], process};
    if (process > 0) return true;
    close(ends[0]);
    return error_set(err, ERR_IO, "no helper can be started: %s", strerror(errno));
}

bool os_helper_send(const OsHelper *helper, const void *data, size_t size) {
    const char *at = data;
    while (size > 0) {
        ssize_t n = send(helper->fd, at, size, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        at += n, size -= (size_t)n;
    }
    return true;
}

bool os_helper_receive(const OsHelper *helper, void *data, size_t size) {
    char *at = data;
    while (size > 0) {
        ssize_t n = recv(helper->fd, at, size, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        at += n, size -= (size_t)n;
    }
    return true;
}

static int maker_fd; // of a helper that stays behind

// What is noticed may be a message or a place for one, too.
static void look_for_maker(int signal) {
    struct pollfd fd = {.fd = maker_fd, .events = POLLRDHUP};
    (void)signal;
    if (poll(&fd, 1, 0) > 0 && (fd.revents & (POLLRDHUP | POLLHUP))) _exit(0);
}

void os_helper_stay_behind(const OsHelper *maker) {
    sigset_t noticed;
    struct sigaction action = {.sa_handler = look_for_maker, .sa_flags = SA_RESTART};
    maker_fd = maker->fd;
    (void)setpriority(PRIO_PROCESS, 0, 19);
    sigemptyset(&noticed);
    sigaddset(&noticed, SIGIO);
    sigaction(SIGIO, &action, NULL);
    fcntl(maker->fd, F_SETOWN, getpid());
    fcntl(maker->fd, F_SETFL, fcntl(maker->fd, F_GETFL) | O_ASYNC);
    pthread_sigmask(SIG_UNBLOCK, &noticed, NULL);
    look_for_maker(0); // it may have hung up before
}

void os_helper_hang_up(const OsHelper *helper) {
    if (helper->process > 0) shutdown(helper->fd, SHUT_RDWR);
}

void os_helper_end(OsHelper *helper) {
    if (helper->process <= 0) return;
    close(helper->fd);
    while (waitpid(helper->process, NULL, 0) < 0 && errno == EINTR) {
    }
    *helper = (OsHelper){-1, -1};
}
