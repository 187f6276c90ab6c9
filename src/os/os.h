// The operating system behind one header: memory, files, time, threads, signals. Sockets are in os/os_net.h.
// No other folder calls the system directly, so tests and simulators can stand in for it here.
#pragma once

#include "base/arena.h"
#include "base/error.h"

#include <pthread.h>
#include <stdatomic.h>

// ---- memory ----

// Address space whose pages cost nothing until they are touched. NULL when the system refuses.
// Released whole with os_release.
void *os_reserve(size_t size);
void os_release(void *memory, size_t size);
// Gives the pages back to the system; they read as zero afterwards. Page-aligned.
void os_discard(void *memory, size_t size);
// os_reserve as an Arena; on failure an empty one, whose first allocation fails.
Arena os_arena(size_t size);

// ---- files ----

typedef struct {
    const uint8_t *data; // NULL for none
    uint64_t size;
    uint64_t kept; // bytes at its beginning that os_file_keep made this process's own
} MappedFile;

// The code that fits a system call's failure: a file that is not there, a missing permission, an address that
// is taken or not this machine's; ERR_IO for all others.
ErrCode os_error_code(int reason);

// Maps a regular file read-only; never blocks on a FIFO. Errors name the path: missing (ERR_NO_FILE), not to
// be read (ERR_PERMISSION), a directory, not a regular file, empty (ERR_BAD_FILE). What is written into the
// file later shows in it.
MUST_CHECK bool os_file_map(const char *path, MappedFile *out, Error *err);
void os_file_unmap(MappedFile *file);
// Makes the first bytes of it (the pages that they touch) memory of this process, in place: what is done to
// the file does not change them any more. `file` is as os_file_map left it.
MUST_CHECK bool os_file_keep(MappedFile *file, uint64_t size, Error *err);
// Whether a file was cut, or its disk failed, while somebody read its mapping: they found zeros from there to
// its end, and nothing that follows from those is right. Needs os_begin_process; without it, and past
// OS_FILES_GUARDED_MAX files at once, such a reader ends the process (SIGBUS).
enum { OS_FILES_GUARDED_MAX = 600 };
bool os_file_was_cut(void);

// The whole of a file, or of standard input for "-", at most `max_bytes`, copied into the arena. Errors: as
// os_error_code says.
MUST_CHECK bool os_file_read(const char *path, uint64_t max_bytes, Arena *arena, Str *out, Error *err);

// The same of a regular file alone, for a thread that may not wait for a FIFO's writer or for somebody at a
// terminal. Errors as os_file_map's, too.
MUST_CHECK bool os_file_read_regular(const char *path, uint64_t max_bytes, Arena *arena, Str *out,
                                     Error *err);

// The same of a file that nobody but this user and root can have written: no link, nothing but a regular
// file, never blocks. Others are an error, ERR_IO like all.
MUST_CHECK bool os_file_read_own(const char *path, uint64_t max_bytes, Arena *arena, Str *out, Error *err);

// Writes all bytes to a file descriptor (1 standard output, 2 standard error); false when the other end is
// gone.
bool os_write(int fd, Str bytes);

// To standard output. ERR_IO gives the system's reason ("standard output: No space left on device");
// ERR_READER_LEFT: a pipe whose reader has gone, which is how a pipe ends (exit code 0); ERR_CANCELLED: after
// a stop signal the reader took nothing for a while.
MUST_CHECK bool os_output(Str bytes, Error *err);
// Closes standard output, which may be the first time that a file system tells of a write's failure. Errors
// as os_output's.
MUST_CHECK bool os_output_close(Error *err);

// The same for a log: what a reader that has stopped (a full pipe, a halted terminal) has no room for within
// a few milliseconds is dropped. False then, too.
bool os_write_soon(int fd, Str bytes);

bool os_is_terminal(int fd);
uint32_t os_terminal_columns(int fd); // 80 where it cannot be told

// ---- time ----

uint64_t os_monotonic_ns(void);
uint64_t os_unix_ms(void);
// Processor time of all threads of this process so far.
uint64_t os_processor_ns(void);
void os_sleep_ms(uint32_t ms);
// RFC 3339 in UTC with milliseconds: "2026-11-23T02:18:45.123Z"; out holds 25 bytes.
void os_format_utc(uint64_t unix_ms, char out[25]);

// ---- randomness ----

// From the kernel; used for seeds and identifiers.
void os_random(void *out, size_t size);

// ---- threads ----

typedef struct {
    pthread_t handle;
} OsThread;

// `name` is at most 15 bytes and shows in top and gdb.
MUST_CHECK bool os_thread_start(OsThread *thread, const char *name, void *(*run)(void *), void *argument,
                                Error *err);
void os_thread_join(OsThread *thread);
// Processors that this process may use: as many as its affinity has, or fewer where a control group limits
// its time (rounded up).
uint32_t os_cpu_count(void);
// How many processors' time the control groups (v1 or v2) of this process allow, rounded up; 0 for no limit.
// `root` is "", or a test's folder with its own proc/ and sys/.
uint32_t os_cpu_quota(const char *root);

// Lets another runnable thread have this processor.
void os_yield(void);

// Sleeps until *word differs from `expected`, or for `timeout_ms` (UINT32_MAX: no limit). May wake early.
void os_wait_word(_Atomic uint32_t *word, uint32_t expected, uint32_t timeout_ms);
void os_wake_word(_Atomic uint32_t *word);

// ---- signals and processes ----

// What a program does first, whatever started it: numbers 0 to 2 that are not open are taken by something
// that can be neither read nor written, so that no socket gets the number of standard error; a file that
// reaches its size limit is an error of the write, not the end; a mapped file that is cut is noticed
// (os_file_was_cut).
void os_begin_process(void);

// Raises the limit of the stack (ulimit -s) where it is too low for this program, and the size of later
// threads' stacks with it. Called with little on the stack. ERR_NO_MEMORY where the system does not allow it.
MUST_CHECK bool os_ensure_stack(Error *err);

// Counts of stop signals (SIGTERM, SIGINT) received so far.
uint32_t os_stop_signals(void);
// Waits for at most `timeout_ms` (UINT32_MAX: no limit) until a read of `fd`, or a write, does something at
// once; false after that time. After a stop signal it waits for a moment only, also where the signal came
// between the caller's look at the count and this call. For the thread that signals go to, the main one.
bool os_wait_ready(int fd, bool for_writing, uint32_t timeout_ms);
// Installs the handlers; the first stop signal also writes 8 bytes to `wake_fd` (an eventfd, or -1). One
// that comes within 200 ms of it does not count: some senders send it twice at once. A later one ends the
// process as if there was no handler, also where it is a container's first, which the system spares.
// SIGPIPE is ignored. Whoever started the process may have blocked these signals: they are let through.
void os_install_stop_signals(int wake_fd);

// Counts of SIGHUP received so far, and the handler that counts and wakes as the one for stop signals does;
// without it the signal ends the process.
uint32_t os_hangup_signals(void);
void os_install_hangup_signal(void);
// Whether SIGHUP came because the terminal that the process was started from is gone. What sent a signal
// cannot be told, but `kill` takes nobody's terminal away: the process had a controlling one when the handler
// was installed and has none now. Where standard error goes does not matter. False for a process without one
// (a service), and for one that was started with SIGHUP ignored, as by nohup, to outlive it. A shell that
// dies has the signal sent a moment before the terminal is taken away, so this may become true later.
bool os_terminal_hung_up(void);

// Ends the process now, whatever its other threads are doing.
_Noreturn void os_exit_now(int code);

uint64_t os_process_id(void);

// Raises the limit of open files towards `wanted`, as far as it may be; the limit that holds then.
uint64_t os_raise_open_files(uint64_t wanted);

uint64_t os_resident_bytes(void); // of this process, now

// A copy of this process that does `run` and ends, with nothing open but a socket to its maker: for work on
// this process's memory as it is now that threads would queue for. It takes no part in signals; it should end
// when a receive fails. Not while another thread may hold a lock that it needs.
typedef struct {
    int fd;
    int process;
} OsHelper;
MUST_CHECK bool os_helper_start(OsHelper *out, void (*run)(OsHelper *maker, void *context), void *context,
                                Error *err);
// All bytes; false when the other end is gone. Both sides have both.
MUST_CHECK bool os_helper_send(const OsHelper *helper, const void *data, size_t size);
MUST_CHECK bool os_helper_receive(const OsHelper *helper, void *data, size_t size);
// Tells it to end, and waits until it has.
void os_helper_end(OsHelper *helper);
// Of a helper, for work that nobody may wait for: it has the lowest priority from here on, and ends as soon
// as its maker hangs up or ends, whatever it is doing.
void os_helper_stay_behind(const OsHelper *maker);
// Ends the talk of both sides: whoever waits in a receive gets false, once what was sent before is read.
// os_helper_end must follow.
void os_helper_hang_up(const OsHelper *helper);
