#include "runner.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MODEL_FILE "build/models/SmolLM2-135M-Instruct.Q4_1.gguf"

enum {
    // One more than the processors of the smallest machine: some cases sleep.
    PARALLEL_CASES = 3,
    // A case has `timeout_seconds` on a machine that has nothing else to do. It ends cases that hang, and
    // says nothing about speed: a slower machine, or one whose processors others want, too, takes several
    // times as long.
    TIMEOUT_FACTOR = 4,
    SANITIZER_TIMEOUT_FACTOR = 3 * TIMEOUT_FACTOR,
    MESSAGES_SHOWN_MAX = 30,         // failed checks printed a case
    OUTPUT_SHOWN_BYTES = 256 * 1024, // of a failing case
    PATHS_BYTES = 256 * 1024,        // all paths that one case asks for
    EXIT_SKIPPED = 77,
};

#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define SANITIZED true
#elif defined __has_feature
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED true
#endif
#endif
#ifndef SANITIZED
#define SANITIZED false
#endif

// What a case's processes tell the runner, in memory that they share.
typedef struct {
    _Atomic uint64_t checks;
    _Atomic uint32_t failures;
    char skip_reason[256];
} Report;

// A case that is running.
typedef struct {
    const TestCase *test; // NULL: the slot is free
    Report *report;
    pid_t pid;
    int output; // its standard output and error, a file in memory
    int64_t started_ms;
    char folder[512];
    bool timed_out;
} Slot;

// Cases skipped for the same reason.
typedef struct {
    char reason[sizeof((Report *)0)->skip_reason];
    const char *first; // a case's name
    uint32_t count;
} Skips;

enum { SKIP_REASONS_MAX = 16 };

typedef struct {
    uint32_t passed, failed, skipped;
    bool verbose;
    Skips skips[SKIP_REASONS_MAX];
    uint32_t n_skips;
} Totals;

// State of this process: the runner's before fork, the case's own copy after it.
static Report *report;
static const char *scratch_folder;
static char root_folder[512];
static char program_folder[512];
static _Thread_local char label[256];

// Provided by the linker: the bounds of the section that TEST puts its entries in.
extern const TestCase *const __start_test_cases[];
extern const TestCase *const __stop_test_cases[];

// --- What a case calls ---------------------------------------------------------------------------------

void test_set_label(const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(label, sizeof label, format, args);
    va_end(args);
}

void test_skip(const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(report->skip_reason, sizeof report->skip_reason, format, args);
    va_end(args);
    fflush(NULL);
    _exit(EXIT_SKIPPED); // without a search for leaks
}

void test_end(void) {
    exit(0);
}

void test_fail(const char *file, int line, const char *format, ...) {
    atomic_fetch_add(&report->checks, 1);
    uint32_t before = atomic_fetch_add(&report->failures, 1);
    if (before == MESSAGES_SHOWN_MAX) fprintf(stderr, "(more failed checks follow, not shown)\n");
    if (before >= MESSAGES_SHOWN_MAX) return;
    char message[4096];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    const char *separator = label[0] ? "] " : "";
    fprintf(stderr, "%s:%d: %s%s%s%s\n", file, line, label[0] ? "[" : "", label, separator, message);
}

// Counts a check that held.
static bool pass(void) {
    atomic_fetch_add_explicit(&report->checks, 1, memory_order_relaxed);
    return true;
}

bool test_check(bool ok, const char *file, int line, const char *text) {
    if (ok) return pass();
    test_fail(file, line, "CHECK(%s)", text);
    return false;
}

bool test_check_int(int64_t expected, int64_t actual, const char *file, int line, const char *text) {
    if (expected == actual) return pass();
    test_fail(file, line, "%s: expected %lld, got %lld", text, (long long)expected, (long long)actual);
    return false;
}

bool test_check_u64(uint64_t expected, uint64_t actual, const char *file, int line, const char *text) {
    if (expected == actual) return pass();
    test_fail(file, line, "%s: expected %llu (0x%llx), got %llu (0x%llx)", text, (unsigned long long)expected,
              (unsigned long long)expected, (unsigned long long)actual, (unsigned long long)actual);
    return false;
}

// Printable text of up to 400 bytes, the rest as \xNN.
static const char *quote(Str s, char *out, size_t out_size) {
    size_t used = 0;
    size_t shown = s.len < 400 ? s.len : 400;
    out[used++] = '"';
    for (size_t i = 0; i < shown && used + 8 < out_size; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        bool plain = c >= 0x20 && c != 0x7f && c != '"' && c != '\\';
        const char *format = plain ? "%c" : c == '\n' ? "\\n" : "\\x%02x";
        used += (size_t)snprintf(out + used, out_size - used, format, c);
    }
    snprintf(out + used, out_size - used, shown < s.len ? "\"..." : "\"");
    return out;
}

bool test_check_str(Str expected, Str actual, const char *file, int line, const char *text) {
    if (str_eq(expected, actual)) return pass();
    char expected_text[1800], actual_text[1800];
    test_fail(file, line, "%s: expected %zu bytes\n    %s\n  got %zu bytes\n    %s", text, expected.len,
              quote(expected, expected_text, sizeof expected_text), actual.len,
              quote(actual, actual_text, sizeof actual_text));
    return false;
}

bool test_check_bytes(const void *expected, size_t expected_size, const void *actual, size_t actual_size,
                      const char *file, int line, const char *text) {
    const unsigned char *e = expected, *a = actual;
    size_t common = expected_size < actual_size ? expected_size : actual_size;
    for (size_t i = 0; i < common; i++) {
        if (e[i] == a[i]) continue;
        test_fail(file, line, "%s: byte %zu of %zu: expected 0x%02x, got 0x%02x", text, i, expected_size,
                  e[i], a[i]);
        return false;
    }
    if (expected_size == actual_size) return pass();
    test_fail(file, line, "%s: expected %zu bytes, got %zu", text, expected_size, actual_size);
    return false;
}

bool test_check_near(double expected, double actual, double tolerance, const char *file, int line,
                     const char *text) {
    if (fabs(expected - actual) <= tolerance) return pass();
    test_fail(file, line, "%s: expected %.9g within %.3g, got %.9g (off by %.3g)", text, expected, tolerance,
              actual, fabs(expected - actual));
    return false;
}

// How much longer than alone a thread takes here and now, because other programs want the processors, too.
static double slowdown(void) {
    const int64_t work_ns = 50 * 1000000;
    struct timespec begin, end, used;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    int64_t stop_ns = (int64_t)used.tv_sec * 1000000000 + used.tv_nsec + work_ns;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    do
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    while ((int64_t)used.tv_sec * 1000000000 + used.tv_nsec < stop_ns);
    clock_gettime(CLOCK_MONOTONIC, &end);
    int64_t took_ns = (int64_t)(end.tv_sec - begin.tv_sec) * 1000000000 + end.tv_nsec - begin.tv_nsec;
    return (double)took_ns / (double)work_ns;
}

// The share of the last ten seconds in which some program waited for a processor, in percent; 0 where the
// kernel does not tell.
static double waiting_percent(void) {
    double percent = 0;
    FILE *file = fopen("/proc/pressure/cpu", "r");
    if (!file) return 0;
    if (fscanf(file, "some avg10=%lf", &percent) != 1) percent = 0;
    fclose(file);
    return percent;
}

bool test_check_soon(uint64_t limit_ms, uint64_t took_ms, const char *file, int line, const char *text) {
    enum { BUSY_LIMIT_MS = 120000, BUSY_PERCENT = 5 };
    printf("%s: %llu ms, at most %llu\n", text, (unsigned long long)took_ms, (unsigned long long)limit_ms);
    if (took_ms <= limit_ms) return pass();
    bool is_busy = SANITIZED || waiting_percent() > BUSY_PERCENT || slowdown() > 1.1;
    if (is_busy && took_ms < BUSY_LIMIT_MS) return pass();
    test_fail(file, line, "%s: %llu ms, at most %llu on a machine that has nothing else to do", text,
              (unsigned long long)took_ms, (unsigned long long)limit_ms);
    return false;
}

// `folder`/`name`, or `folder` where name is empty, in memory that lives as long as the case.
static const char *join_path(const char *folder, const char *name) {
    static char paths[PATHS_BYTES];
    static size_t used;
    char *path = paths + used;
    size_t left = sizeof paths - used;
    int length = snprintf(path, left, "%s%s%s", folder, name[0] ? "/" : "", name);
    if ((size_t)length >= left) {
        test_fail(__FILE__, __LINE__, "the case asks for more than %d bytes of paths", PATHS_BYTES);
        test_end();
    }
    used += (size_t)length + 1;
    return path;
}

const char *test_tmp_path(const char *name) {
    return join_path(scratch_folder, name);
}

const char *test_root_path(const char *name) {
    return join_path(root_folder, name);
}

const char *test_data_path(const char *name) {
    return join_path(test_root_path("tests"), name);
}

const char *test_program_path(void) {
    return join_path(program_folder, "worker-orcd");
}

const char *test_model_path(void) {
    const char *path = test_root_path(MODEL_FILE);
    if (access(path, R_OK) != 0) test_skip("%s is missing: ./build.sh test fetches it", MODEL_FILE);
    return path;
}

void test_needs_python(const char *module) {
    test_needs_python_of("tests/requirements.txt", module);
}

void test_needs_python_of(const char *requirements, const char *module) {
    // Looked for, not imported, which takes some packages seconds.
    char command[512];
    snprintf(command, sizeof command,
             "python3 -c 'import sys; from importlib.util import find_spec\n"
             "sys.exit(not all(find_spec(name.strip().split(\".\")[0]) for name in \"%s\".split(\",\")))'",
             module);
    if (system(command) == 0) return;
    const char *ci = getenv("CI");
    if (!ci || !ci[0]) test_skip("python3 has no %s; %s says how it is installed", module, requirements);
    test_fail(__FILE__, __LINE__, "python3 has no %s", module);
    test_end();
}

void test_needs_program(const char *name) {
    char command[256];
    snprintf(command, sizeof command, "command -v %s >/dev/null 2>&1", name);
    if (system(command) == 0) return;
    const char *ci = getenv("CI");
    if (!ci || !ci[0]) test_skip("there is no program %s", name);
    test_fail(__FILE__, __LINE__, "there is no program %s", name);
    test_end();
}

bool test_is_sanitized(void) {
    return SANITIZED;
}

void test_needs_plain_run(void) {
    if (SANITIZED) test_skip("other people's programs: the plain run has them");
}

// --- Running cases -------------------------------------------------------------------------------------

static int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int64_t timeout_ms(const TestCase *test) {
    return (int64_t)test->timeout_seconds * 1000 * (SANITIZED ? SANITIZER_TIMEOUT_FACTOR : TIMEOUT_FACTOR);
}

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *state) {
    (void)info, (void)type, (void)state;
    return remove(path) == 0 || errno == ENOENT ? 0 : -1;
}

static void remove_folder(const char *path) {
    (void)nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

_Noreturn static void die(const char *what) {
    perror(what);
    exit(2);
}

// The life of a case: its own process group, standard input empty, output into `slot->output`.
_Noreturn static void run_in_child(const Slot *slot, pid_t runner, const sigset_t *signals_before) {
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != runner) _exit(1);
    // Whoever started the tests may ignore some (nohup, a shell's background), and programs inherit that.
    static const int usual[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE};
    for (size_t i = 0; i < sizeof usual / sizeof *usual; i++)
        signal(usual[i], SIG_DFL);
    sigprocmask(SIG_SETMASK, signals_before, NULL);
    int null = open("/dev/null", O_RDONLY);
    if (null < 0 || dup2(null, 0) < 0 || dup2(slot->output, 1) < 0 || dup2(slot->output, 2) < 0) _exit(1);
    if (null > 2) close(null);
    setvbuf(stdout, NULL, _IOLBF, 0);
    report = slot->report;
    scratch_folder = slot->folder;
    slot->test->function();
    exit(0);
}

static void start_case(Slot *slot, const TestCase *test, const sigset_t *signals_before) {
    slot->test = test;
    slot->timed_out = false;
    slot->started_ms = now_ms();
    *slot->report = (Report){0};
    remove_folder(slot->folder);
    if (mkdir(slot->folder, 0777) != 0) die(slot->folder);
    slot->output = memfd_create("test output", MFD_CLOEXEC);
    if (slot->output < 0) die("memfd_create");
    fflush(NULL);
    pid_t runner = getpid();
    slot->pid = fork();
    if (slot->pid < 0) die("fork");
    if (slot->pid == 0) run_in_child(slot, runner, signals_before);
    setpgid(slot->pid, slot->pid);
}

static void show_output(int output) {
    char buffer[4096];
    off_t size = lseek(output, 0, SEEK_END);
    off_t at = size > OUTPUT_SHOWN_BYTES ? size - OUTPUT_SHOWN_BYTES : 0;
    if (at > 0) printf("    (%lld bytes left out)\n", (long long)at);
    bool line_start = true;
    for (ssize_t got; (got = pread(output, buffer, sizeof buffer, at)) > 0; at += got) {
        for (ssize_t i = 0; i < got; i++) {
            if (line_start) printf("    ");
            putchar(buffer[i]);
            line_start = buffer[i] == '\n';
        }
    }
    if (!line_start) putchar('\n');
}

// Why a case failed, or NULL.
static const char *failure_of(const Slot *slot, int status, char *text, size_t text_size) {
    uint32_t failures = atomic_load(&slot->report->failures);
    if (slot->timed_out) {
        snprintf(text, text_size, "still running after %lld s", (long long)timeout_ms(slot->test) / 1000);
    } else if (WIFSIGNALED(status)) {
        snprintf(text, text_size, "killed by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
    } else if (failures > 0) {
        snprintf(text, text_size, "%u failed check%s", failures, failures == 1 ? "" : "s");
    } else if (WEXITSTATUS(status) != 0 && WEXITSTATUS(status) != EXIT_SKIPPED) {
        snprintf(text, text_size, "exit status %d", WEXITSTATUS(status));
    } else if (WEXITSTATUS(status) == 0 && atomic_load(&slot->report->checks) == 0) {
        snprintf(text, text_size, "it checked nothing");
    } else {
        return NULL;
    }
    return text;
}

// Remembers it until all cases have ended; with more reasons than there is room for, says so at once.
static void note_skip(Totals *totals, const char *name, const char *reason) {
    totals->skipped++;
    uint32_t i = 0;
    while (i < totals->n_skips && strcmp(totals->skips[i].reason, reason) != 0)
        i++;
    if (i == SKIP_REASONS_MAX) {
        if (!totals->verbose) printf("skip %s: %s\n", name, reason);
        return;
    }
    Skips *skips = &totals->skips[i];
    if (i == totals->n_skips) {
        *skips = (Skips){.first = name};
        snprintf(skips->reason, sizeof skips->reason, "%s", reason);
        totals->n_skips++;
    }
    skips->count++;
}

static void show_skips(const Totals *totals) {
    for (uint32_t i = 0; i < totals->n_skips; i++) {
        const Skips *skips = &totals->skips[i];
        if (skips->count == 1) printf("skip %s: %s\n", skips->first, skips->reason);
        else
            printf("skip %s and %u other%s: %s\n", skips->first, skips->count - 1,
                   skips->count == 2 ? "" : "s", skips->reason);
    }
}

// User and system time of a case's process and of those that it waited for.
static double processor_seconds(const struct rusage *used) {
    double seconds = (double)(used->ru_utime.tv_sec + used->ru_stime.tv_sec);
    return seconds + (double)(used->ru_utime.tv_usec + used->ru_stime.tv_usec) / 1e6;
}

static void finish_case(Slot *slot, int status, const struct rusage *used, Totals *totals) {
    // Whatever the case started and left behind goes with it.
    kill(-slot->pid, SIGKILL);
    char text[128];
    const char *failure = failure_of(slot, status, text, sizeof text);
    const char *name = slot->test->name;
    double seconds = (double)(now_ms() - slot->started_ms) / 1000;
    if (failure) {
        totals->failed++;
        printf("FAIL %s (%s): %s, %.2f s\n", name, slot->test->file, failure, seconds);
        show_output(slot->output);
    } else if (WEXITSTATUS(status) == EXIT_SKIPPED) {
        if (totals->verbose) printf("skip %s: %s\n", name, slot->report->skip_reason);
        note_skip(totals, name, slot->report->skip_reason);
    } else {
        totals->passed++;
        if (totals->verbose) {
            printf("ok   %s, %.2f s, %.2f s of processors\n", name, seconds, processor_seconds(used));
            show_output(slot->output);
        }
    }
    close(slot->output);
    remove_folder(slot->folder);
    slot->test = NULL;
}

static Slot *slot_of(Slot *slots, pid_t pid) {
    for (int i = 0; i < PARALLEL_CASES; i++) {
        if (slots[i].test && slots[i].pid == pid) return &slots[i];
    }
    return NULL;
}

// Waits until a case ends or the next one's time is up.
static void wait_for_change(Slot *slots, Totals *totals, const sigset_t *child_signal) {
    int64_t wait_ms = INT32_MAX;
    for (int i = 0; i < PARALLEL_CASES; i++) {
        if (!slots[i].test) continue;
        int64_t left_ms = slots[i].started_ms + timeout_ms(slots[i].test) - now_ms();
        if (left_ms <= 0 && !slots[i].timed_out) {
            slots[i].timed_out = true;
            kill(-slots[i].pid, SIGKILL);
        }
        if (left_ms > 0 && left_ms < wait_ms) wait_ms = left_ms;
    }
    struct timespec wait = {.tv_sec = wait_ms / 1000, .tv_nsec = wait_ms % 1000 * 1000000};
    (void)sigtimedwait(child_signal, NULL, &wait);
    int status;
    struct rusage used;
    for (pid_t pid; (pid = wait4(-1, &status, WNOHANG, &used)) > 0;) {
        Slot *slot = slot_of(slots, pid);
        if (slot) finish_case(slot, status, &used, totals);
    }
}

static void open_slots(Slot *slots) {
    for (int i = 0; i < PARALLEL_CASES; i++) {
        void *shared = mmap(NULL, sizeof(Report), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (shared == MAP_FAILED) die("mmap");
        slots[i].report = shared;
        snprintf(slots[i].folder, sizeof slots[i].folder, "%.300s/test-tmp-%d-%d", program_folder, getpid(),
                 i);
    }
}

static void run_cases(const TestCase **cases, size_t count, Totals *totals) {
    Slot slots[PARALLEL_CASES] = {0};
    open_slots(slots);
    sigset_t child_signal, signals_before;
    sigemptyset(&child_signal);
    sigaddset(&child_signal, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child_signal, &signals_before);
    size_t next = 0, running = 0;
    do {
        running = 0;
        for (int i = 0; i < PARALLEL_CASES; i++) {
            if (!slots[i].test && next < count) start_case(&slots[i], cases[next++], &signals_before);
            running += slots[i].test != NULL;
        }
        if (running > 0) wait_for_change(slots, totals, &child_signal);
    } while (running > 0);
    sigprocmask(SIG_SETMASK, &signals_before, NULL);
}

// --- The command line ----------------------------------------------------------------------------------

// The folder that holds this program, and the first one above it that holds nob.c.
static void find_folders(void) {
    ssize_t length = readlink("/proc/self/exe", program_folder, sizeof program_folder - 1);
    if (length < 0) die("/proc/self/exe");
    program_folder[length] = 0;
    *strrchr(program_folder, '/') = 0;
    snprintf(root_folder, sizeof root_folder, "%s", program_folder);
    for (char *slash; (slash = strrchr(root_folder, '/')) != NULL; *slash = 0) {
        char marker[sizeof root_folder + 8];
        snprintf(marker, sizeof marker, "%s/nob.c", root_folder);
        if (access(marker, F_OK) == 0) return;
    }
    fprintf(stderr, "no nob.c in a folder above %s\n", program_folder);
    exit(2);
}

// Whether `word` names the file: "tests/test_ring.c", "test_ring.c" or "test_ring".
static bool names_file(const char *word, const char *path) {
    const char *slash = strrchr(path, '/');
    const char *file = slash && !strchr(word, '/') ? slash + 1 : path;
    size_t length = strlen(word);
    return strncmp(word, file, length) == 0 && (!file[length] || strcmp(file + length, ".c") == 0);
}

// By the beginning of its name or by its file; everything where no word is given.
static bool is_wanted(const TestCase *test, char **words, int n_words) {
    for (int i = 0; i < n_words; i++) {
        if (strncmp(test->name, words[i], strlen(words[i])) == 0 || names_file(words[i], test->file))
            return true;
    }
    return n_words == 0;
}

// Those allowed to take longest first, so that none of them runs alone at the end; then by name.
static int compare_cases(const void *left, const void *right) {
    const TestCase *a = *(const TestCase *const *)left, *b = *(const TestCase *const *)right;
    if (a->timeout_seconds != b->timeout_seconds) return a->timeout_seconds > b->timeout_seconds ? -1 : 1;
    return strcmp(a->name, b->name);
}

int main(int argc, char **argv) {
    Totals totals = {0};
    bool list = false;
    int first = 1;
    for (; first < argc && argv[first][0] == '-'; first++) {
        if (strcmp(argv[first], "--list") == 0) {
            list = true;
        } else if (strcmp(argv[first], "--verbose") == 0) {
            totals.verbose = true;
        } else {
            fprintf(stderr, "usage: tests [--list] [--verbose] [NAME, PREFIX or FILE]...\n");
            return 2;
        }
    }
    find_folders();
    size_t total = (size_t)(__stop_test_cases - __start_test_cases), count = 0;
    const TestCase **cases = calloc(total, sizeof *cases);
    if (!cases) die("calloc");
    for (size_t i = 0; i < total; i++) {
        if (is_wanted(__start_test_cases[i], argv + first, argc - first))
            cases[count++] = __start_test_cases[i];
    }
    qsort(cases, count, sizeof *cases, compare_cases);
    if (list) {
        for (size_t i = 0; i < count; i++)
            printf("%s %s\n", cases[i]->name, cases[i]->file);
    } else if (count == 0) {
        fprintf(stderr, "no test's name begins so, and no file is called so; %s --list names them\n",
                argv[0]);
        return 2;
    } else {
        run_cases(cases, count, &totals);
    }
    free(cases);
    if (!totals.verbose) show_skips(&totals);
    if (!list) printf("%u passed, %u failed, %u skipped\n", totals.passed, totals.failed, totals.skipped);
    return totals.failed > 0;
}
