// What glibc 2.28 (2018) lacks and the start files, libgcc and libstdc++ of newer systems ask for.
//
// The released program is linked against stubs that show each symbol of the C library at its newest version
// up to 2.28 (nob.c makes them), so that it starts on systems older than the one that built it. A symbol that
// came later has no stub; those that are needed are defined here by what 2.28 has. They get the C library's
// names by assembler labels, because its headers declare some of these names differently from release to
// release. Any thread may call them. Not linked into tests and debug builds, which use the system's library
// as it is.
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SYMBOL(name) __asm__(name)

// ---- start-up ----

// Start files from glibc 2.34 on leave the program's constructors to the C library; an older library runs
// none unless it is given a function that does. The linker sends the start file's call here (--wrap).
typedef void StartHook(int, char **, char **);
typedef int MainFunction(int, char **, char **);

extern StartHook *const compat_init_array_start[] SYMBOL("__init_array_start")
    __attribute__((visibility("hidden")));
extern StartHook *const compat_init_array_end[] SYMBOL("__init_array_end")
    __attribute__((visibility("hidden")));
void compat_crt_init(void) SYMBOL("_init");
int compat_real_start(MainFunction *, int, char **, StartHook *, void (*)(void), void (*)(void), void *)
    SYMBOL("__real___libc_start_main");
int compat_start(MainFunction *, int, char **, StartHook *, void (*)(void), void (*)(void), void *)
    SYMBOL("__wrap___libc_start_main");

static void compat_run_constructors(int argc, char **argv, char **environment) {
    compat_crt_init();
    ptrdiff_t count = compat_init_array_end - compat_init_array_start;
    for (ptrdiff_t i = 0; i < count; i++)
        compat_init_array_start[i](argc, argv, environment);
}

int compat_start(MainFunction *entry, int argc, char **argv, StartHook *init, void (*fini)(void),
                 void (*loader_fini)(void), void *stack_end) {
    StartHook *hook = init ? init : compat_run_constructors;
    return compat_real_start(entry, argc, argv, hook, fini, loader_fini, stack_end);
}

// ---- threads (2.32) ----

// A hint by which libstdc++ saves atomic operations; "not single-threaded" is always a correct answer.
extern char compat_single_threaded SYMBOL("__libc_single_threaded");
char compat_single_threaded = 0;

// ---- unwinding (2.35) ----

// glibc's struct dl_find_object on x86-64: where libgcc finds the unwind tables of the code at an address.
typedef struct {
    unsigned long long flags;
    void *map_start; // the object's first byte
    void *map_end;   // one past its last byte
    struct link_map *link_map;
    void *eh_frame; // its PT_GNU_EH_FRAME segment
    unsigned long long reserved[7];
} FoundObject;

typedef struct {
    uintptr_t address;
    FoundObject found;
} ObjectSearch;

int compat_find_object(void *address, FoundObject *found) SYMBOL("_dl_find_object");

// Called by dl_iterate_phdr: 0 goes on, 1 found, -1 is the right object but has no tables.
static int compat_match_object(struct dl_phdr_info *info, size_t size, void *context) {
    (void)size;
    ObjectSearch *search = context;
    uintptr_t low = UINTPTR_MAX, high = 0, eh_frame = 0;
    bool inside = false;
    for (size_t i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        uintptr_t start = info->dlpi_addr + segment->p_vaddr, end = start + segment->p_memsz;
        if (segment->p_type == PT_GNU_EH_FRAME) eh_frame = start;
        if (segment->p_type != PT_LOAD) continue;
        inside |= search->address >= start && search->address < end;
        if (start < low) low = start;
        if (end > high) high = end;
    }
    if (!inside) return 0;
    search->found =
        (FoundObject){.map_start = (void *)low, .map_end = (void *)high, .eh_frame = (void *)eh_frame};
    return eh_frame ? 1 : -1;
}

int compat_find_object(void *address, FoundObject *found) {
    ObjectSearch search = {.address = (uintptr_t)address};
    if (dl_iterate_phdr(compat_match_object, &search) != 1) return -1;
    Dl_info names;
    void *map = NULL;
    if (dladdr1(address, &names, &map, RTLD_DL_LINKMAP)) search.found.link_map = map;
    *found = search.found;
    return 0;
}

// ---- numbers (2.38: the names that C23's strtol, scanf and their kin got, for one more prefix, "0b") ----

long compat_old_strtol(const char *, char **, int) SYMBOL("strtol");
unsigned long compat_old_strtoul(const char *, char **, int) SYMBOL("strtoul");
int compat_old_vsscanf(const char *, const char *, va_list) SYMBOL("__isoc99_vsscanf");
int compat_old_vfscanf(FILE *, const char *, va_list) SYMBOL("__isoc99_vfscanf");
long compat_strtol(const char *, char **, int) SYMBOL("__isoc23_strtol");
unsigned long compat_strtoul(const char *, char **, int) SYMBOL("__isoc23_strtoul");
long long compat_strtoll(const char *, char **, int) SYMBOL("__isoc23_strtoll")
    __attribute__((alias("__isoc23_strtol")));
unsigned long long compat_strtoull(const char *, char **, int) SYMBOL("__isoc23_strtoull")
    __attribute__((alias("__isoc23_strtoul")));
int compat_vsscanf(const char *, const char *, va_list) SYMBOL("__isoc23_vsscanf");
int compat_vfscanf(FILE *, const char *, va_list) SYMBOL("__isoc23_vfscanf");
int compat_sscanf(const char *, const char *, ...) SYMBOL("__isoc23_sscanf");
int compat_fscanf(FILE *, const char *, ...) SYMBOL("__isoc23_fscanf");

long compat_strtol(const char *text, char **end, int base) {
    return compat_old_strtol(text, end, base);
}

unsigned long compat_strtoul(const char *text, char **end, int base) {
    return compat_old_strtoul(text, end, base);
}

int compat_vsscanf(const char *text, const char *format, va_list args) {
    return compat_old_vsscanf(text, format, args);
}

int compat_vfscanf(FILE *file, const char *format, va_list args) {
    return compat_old_vfscanf(file, format, args);
}

int compat_sscanf(const char *text, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int count = compat_old_vsscanf(text, format, args);
    va_end(args);
    return count;
}

int compat_fscanf(FILE *file, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int count = compat_old_vfscanf(file, format, args);
    va_end(args);
    return count;
}

// ---- files (2.33; before, these were macros over versioned functions. stat and stat64 are one here) ----

int compat_fstatat(int folder, const char *path, struct stat *out, int flags) SYMBOL("fstatat");
int compat_stat(const char *path, struct stat *out) SYMBOL("stat");
int compat_lstat(const char *path, struct stat *out) SYMBOL("lstat");
int compat_fstat(int fd, struct stat *out) SYMBOL("fstat");
int compat_fstatat64(int, const char *, struct stat *, int) SYMBOL("fstatat64")
    __attribute__((alias("fstatat")));
int compat_stat64(const char *, struct stat *) SYMBOL("stat64") __attribute__((alias("stat")));
int compat_lstat64(const char *, struct stat *) SYMBOL("lstat64") __attribute__((alias("lstat")));
int compat_fstat64(int, struct stat *) SYMBOL("fstat64") __attribute__((alias("fstat")));

int compat_fstatat(int folder, const char *path, struct stat *out, int flags) {
    return (int)syscall(SYS_newfstatat, folder, path, out, flags);
}

int compat_stat(const char *path, struct stat *out) {
    return compat_fstatat(AT_FDCWD, path, out, 0);
}

int compat_lstat(const char *path, struct stat *out) {
    return compat_fstatat(AT_FDCWD, path, out, AT_SYMLINK_NOFOLLOW);
}

int compat_fstat(int fd, struct stat *out) {
    return (int)syscall(SYS_fstat, fd, out);
}

#if WORKER_ORCD_CUBLAS
// ---- shared memory (2.34; before, in a library of its own) ----

// The CUDA run-time library asks for them, to share memory between processes, which this program never does.
int compat_shm_open(const char *name, int flags, mode_t mode) SYMBOL("shm_open");
int compat_shm_unlink(const char *name) SYMBOL("shm_unlink");

int compat_shm_open(const char *name, int flags, mode_t mode) {
    (void)name, (void)flags, (void)mode;
    errno = ENOSYS;
    return -1;
}

int compat_shm_unlink(const char *name) {
    (void)name;
    errno = ENOSYS;
    return -1;
}
#endif
