// The released program as a file: what it asks of the system that it is copied to. readelf, which is not
// ours, reads it.
#include "runner.h"

#if WORKER_ORCD_CUDA
#include <cuda.h>
#endif
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { OUTPUT_BYTES = 256 * 1024 };

// The oldest glibc that the program starts with (nob.c links it so), and the most bytes that it may have.
// NVRTC makes the size: CUDA 13's is half as large again as CUDA 12's.
enum { GLIBC_MINOR_MAX = 28 };
#if !WORKER_ORCD_CUDA
enum { PROGRAM_BYTES_MAX = 4500 * 1000 }; // 4.13 MB, of which 1.2 are debug information
#elif CUDA_VERSION < 13000
enum { PROGRAM_BYTES_MAX = 90 * 1000 * 1000 };
#else
enum { PROGRAM_BYTES_MAX = 135 * 1000 * 1000 };
#endif

// With the C library of 2.28, threads and dlopen are files of their own.
static const char *const LIBRARIES_ALLOWED[] = {"libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0",
                                                "ld-linux-x86-64.so.2"};

// Runs a shell command, whose standard output and error go to `out`, and returns its exit status.
__attribute__((format(printf, 2, 3))) static int shell(char out[static OUTPUT_BYTES], const char *format,
                                                       ...) {
    char command[4096];
    va_list args;
    va_start(args, format);
    vsnprintf(command, sizeof command, format, args);
    va_end(args);
    printf("%s\n", command);
    FILE *pipe = popen(command, "r");
    REQUIRE(pipe != NULL);
    size_t got = fread(out, 1, OUTPUT_BYTES - 1, pipe);
    out[got] = 0;
    int status = pclose(pipe);
    printf("%s", out);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void skip_other_builds(void) {
    if (!WORKER_ORCD_OLDER_LIBC) SKIP("only the release build, on x86-64 with glibc, is for older systems");
}

// What readelf says of the program with these flags. A case may ask once.
static const char *readelf(const char *flags) {
    static char out[OUTPUT_BYTES];
    skip_other_builds();
    if (shell(out, "command -v readelf") != 0) SKIP("readelf is missing (Debian: apt install binutils)");
    REQUIRE(shell(out, "LC_ALL=C readelf -W %s '%s'", flags, test_program_path()) == 0);
    return out;
}

// What stands behind the next `label` after *at, up to one of `ends`; false where there is none.
static bool next_value(const char **at, const char *label, const char *ends, char value[static 64]) {
    const char *found = strstr(*at, label);
    if (!found) return false;
    found += strlen(label);
    size_t length = strcspn(found, ends);
    if (!CHECK(length < 64)) return false;
    memcpy(value, found, length);
    value[length] = 0;
    *at = found + length;
    return true;
}

TEST(packaging_needs_only_the_c_library) {
    const char *at = readelf("--dynamic");
    CHECK(strstr(at, "RPATH") == NULL && strstr(at, "RUNPATH") == NULL);
    char name[64];
    size_t count = 0;
    for (; next_value(&at, "Shared library: [", "]", name); count++) {
        TEST_CASE_LABEL("%s", name);
        bool allowed = false;
        for (size_t i = 0; i < COUNT_OF(LIBRARIES_ALLOWED); i++)
            allowed |= strcmp(name, LIBRARIES_ALLOWED[i]) == 0;
        CHECK(allowed);
    }
    // Of those, the ones that hold what the program uses before glibc 2.34.
    CHECK(count >= 4);
}

TEST(packaging_starts_with_an_old_c_library) {
    const char *at = readelf("--version-info");
    char version[64];
    size_t count = 0;
    for (; next_value(&at, "  Name: ", " \n", version); count++) {
        TEST_CASE_LABEL("%s", version);
        unsigned major = 0, minor = 0;
        if (!CHECK(sscanf(version, "GLIBC_%u.%u", &major, &minor) == 2)) continue;
        CHECK_INT_EQ(2, major);
        CHECK(minor <= GLIBC_MINOR_MAX);
    }
    CHECK(count > 3);
}

// Its code lies anywhere, its tables are read-only once it has started, its stack is not code.
TEST(packaging_is_hardened) {
    const char *out = readelf("--file-header --program-headers --dynamic");
    CHECK(strstr(out, "DYN (Position-Independent Executable") != NULL || strstr(out, "DYN (Shared object"));
    CHECK(strstr(out, "GNU_RELRO") != NULL);
    CHECK(strstr(out, "TEXTREL") == NULL);
    const char *flags = strstr(out, "(FLAGS_1)");
    if (CHECK(flags != NULL)) CHECK(strstr(flags, "NOW") != NULL);
    const char *stack = strstr(out, "GNU_STACK");
    if (CHECK(stack != NULL)) CHECK(memmem(stack, strcspn(stack, "\n"), "RWE", 3) == NULL);
}

TEST(packaging_is_small) {
    skip_other_builds();
    struct stat info;
    REQUIRE(stat(test_program_path(), &info) == 0);
    TEST_CASE_LABEL("%.1f MB", (double)info.st_size / 1e6);
    CHECK(info.st_size < PROGRAM_BYTES_MAX);
}

// A copy of the program alone in a read-only folder, and the words before a command that make it run without
// an environment, as a user who owns nothing where this test may do that.
typedef struct {
    char program[1024], as[256];
} Elsewhere;

static Elsewhere copy_elsewhere(char out[static OUTPUT_BYTES]) {
    Elsewhere elsewhere;
    const char *folder = test_tmp_path("elsewhere");
    REQUIRE(shell(out, "mkdir '%s' && cp '%s' '%s/worker-orcd'", folder, test_program_path(), folder) == 0);
    REQUIRE(shell(out, "chmod 755 '%s' && chmod 555 '%s' '%s/worker-orcd'", test_tmp_path(""), folder,
                  folder) == 0);
    snprintf(elsewhere.program, sizeof elsewhere.program, "%s/worker-orcd", folder);
    bool changes_user = geteuid() == 0;
    snprintf(elsewhere.as, sizeof elsewhere.as, "cd / && %s env -i",
             changes_user ? "setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all" : "");
    if (changes_user && shell(out, "%s test -x '%s'", elsewhere.as, elsewhere.program) != 0) {
        SKIP("a user without rights cannot come into this folder, or setpriv is missing");
    }
    return elsewhere;
}

TEST(packaging_starts_anywhere) {
    static const struct {
        const char *arguments, *expected;
    } rows[] = {
        {"--version", "worker-orcd "},
        {"--help", "Usage"},
        {"devices", "cpu "},
        {"--list-architectures", "llama"},
    };
    static char out[OUTPUT_BYTES];
    skip_other_builds();
    Elsewhere elsewhere = copy_elsewhere(out);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].arguments);
        CHECK_INT_EQ(0, shell(out, "%s '%s' %s 2>&1", elsewhere.as, elsewhere.program, rows[i].arguments));
        CHECK(strstr(out, rows[i].expected) != NULL);
    }
}

// On a GPU where there is one: then without a folder for compiled kernels.
TEST(packaging_runs_a_model_anywhere) {
    static char out[OUTPUT_BYTES];
    skip_other_builds();
    const char *model = test_model_path();
    Elsewhere elsewhere = copy_elsewhere(out);
    if (shell(out, "%s test -r '%s'", elsewhere.as, model) != 0)
        SKIP("%s: not for every user to read", model);
    bool on_gpu = WORKER_ORCD_CUDA && access("/dev/nvidiactl", F_OK) == 0;
    CHECK_INT_EQ(0, shell(out,
                          "%s '%s' run --model '%s' --device %s --temperature 0 --max-tokens 4 --prompt "
                          "'The capital of France is' 2>/dev/null",
                          elsewhere.as, elsewhere.program, model, on_gpu ? "cuda" : "cpu"));
    CHECK(strstr(out, "Paris") != NULL);
}

// What is handed over is whole, and the same to the bit when it is built in another folder. (To keep this
// short the copy has most objects already: of each kind of source some are compiled again.)
TEST_SLOW(packaging_dist_is_whole_and_reproducible, 300) {
    static char out[OUTPUT_BYTES];
    static const char again[] = "src/base src/http src/backend/cuda/jit* generated";
    skip_other_builds();
    if (!WORKER_ORCD_CUDA) SKIP("without CUDA nothing is handed over");
    const char *copy = test_tmp_path("tree");
    REQUIRE(shell(out, "./build.sh dist 2>&1") == 0);
    const char *last = strstr(out, "build/dist: worker-orcd ");
    CHECK(last && strstr(last, ", CUDA ") && strstr(last, " MB\n"));
    REQUIRE(shell(out,
                  "mkdir -p '%s/build' && tar -c --exclude=./build . | tar -x -C '%s' && "
                  "cp -al build/obj build/nob build/nob.key '%s/build/' && "
                  "{ [ ! -d build/cuda ] || ln -s \"$PWD/build/cuda\" '%s/build/cuda'; }",
                  copy, copy, copy, copy) == 0);
    static const char remove[] = "for f in build/obj/*/; do (cd \"$f\" && rm -rf %s); done";
    char command[256];
    snprintf(command, sizeof command, remove, again);
    REQUIRE(shell(out, "cd '%s' && %s", copy, command) == 0);
    REQUIRE(shell(out, "cd '%s' && ./build.sh dist --jobs 2 2>&1", copy) == 0);
    CHECK(strstr(out, "\nbuilt ") != NULL || strncmp(out, "built ", 6) == 0);
    CHECK_INT_EQ(0, shell(out, "diff build/dist/SHA256SUMS '%s/build/dist/SHA256SUMS'", copy));
    CHECK_INT_EQ(0, shell(out, "cd build/dist && sha256sum -c SHA256SUMS && readelf -n worker-orcd"));
    CHECK(strstr(out, "Build ID: ") != NULL);
    CHECK_INT_EQ(0, shell(out, "[ -z \"$(nm build/dist/worker-orcd 2>/dev/null)\" ]"));
    CHECK_INT_EQ(0, shell(out, "cat build/dist/LICENSES.txt"));
    CHECK(strstr(out, "GCC Runtime Library Exception") != NULL);
    CHECK(strstr(out, "NVIDIA") != NULL);
    // INSTALL says of each other file what it is.
    CHECK_INT_EQ(0,
                 shell(out, "cd build/dist && for f in $(find . -type f ! -name INSTALL -printf '%%f '); do "
                            "grep -qwe \"$f\" INSTALL || { echo \"$f\"; exit 1; }; done"));
    test_needs_python("cyclonedx");
    CHECK_INT_EQ(0, shell(out,
                          "build/dist/worker-orcd --version; python3 '%s' build/dist/worker-orcd.cdx.json "
                          "\"$(build/dist/worker-orcd --version)\" libgcc libstdc++ glibc-startup "
                          "libnvrtc_static.a libnvrtc-builtins_static.a libnvptxcompiler_static.a 2>&1",
                          test_data_path("support/check_bom.py")));
}

// Under the names of the release there is nothing else.
TEST(packaging_dist_is_the_release_alone) {
    static const char *const flags[] = {"--no-cuda", "--asan", "--tsan", "--debug"};
    static char out[OUTPUT_BYTES];
    for (size_t i = 0; i < COUNT_OF(flags); i++) {
        TEST_CASE_LABEL("%s", flags[i]);
        CHECK_INT_EQ(2, shell(out, "./build.sh dist %s 2>&1", flags[i]));
        CHECK(strstr(out, "build: dist hands over the optimised program with CUDA") != NULL);
    }
}

// The unit of the README is the one that is handed over.
TEST(packaging_unit_is_the_one_of_the_readme) {
    static char readme[OUTPUT_BYTES], unit[OUTPUT_BYTES];
    CHECK_INT_EQ(0, shell(readme, "cat README.md"));
    CHECK_INT_EQ(0, shell(unit, "sed -n '/^\\[Service/,/^NoNew/p' tests/build/dist/worker-orcd.service"));
    CHECK(strlen(unit) > 100 && strstr(readme, unit) != NULL);
}

TEST(packaging_manual_is_one) {
    static char out[OUTPUT_BYTES];
    test_needs_program("mandoc");
    // Its date is the commit's; a tree without git has none.
    CHECK_INT_EQ(1, shell(out, "'%s' --manual | mandoc -Tlint -Wwarning 2>&1 | grep -v 'missing date'",
                          test_program_path()));
    CHECK_INT_EQ(0, shell(out, "'%s' --manual | mandoc -Tascii | col -b", test_program_path()));
    CHECK(strstr(out, "--max-queued") && strstr(out, "EXIT STATUS") && strstr(out, "WORKER_ORCD_MAX_JOBS"));
    CHECK(strstr(out, ".cache/worker-orcd") && strstr(out, "worker-orcd help COMMAND"));
    if (shell(out, "[ -e .git ]") != 0) return;
    CHECK_INT_EQ(
        0, shell(out, "'%s' --manual | grep -x '.TH WORKER.* 1 \"20[0-9-]*\" .*'", test_program_path()));
}

// What the program prints is about what is linked in alone, with whole texts (where this system has them).
TEST(packaging_licenses_are_of_what_is_linked) {
    static char out[OUTPUT_BYTES];
    static const char *const absent[] = {"OpenJDK", "cuda_gdb", "Files: debian"};
    static const struct {
        const char *text, *from; // NULL: always there
    } rows[] = {
        {"with the GCC Runtime Library Exception 3.1", NULL},
        {"2. No Weakening of GCC Copyleft.", "/usr/share/doc/libgcc-12-dev/copyright"},
        {"  15. Disclaimer of Warranty.", "/usr/share/common-licenses/GPL-3"},
        {"GNU LESSER GENERAL PUBLIC LICENSE", "/usr/share/common-licenses/LGPL-2.1"},
#if WORKER_ORCD_CUDA
        {"1.1.2. Distribution Requirements", "build/cuda/toolkit/share/doc/nvidia-cuda-dev/copyright"}
#endif
    };
    CHECK_INT_EQ(0, shell(out, "'%s' --licenses", test_program_path()));
    for (size_t i = 0; i < COUNT_OF(absent); i++)
        CHECK(strstr(out, absent[i]) == NULL);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].text);
        if (rows[i].from && access(test_root_path(rows[i].from), R_OK) != 0 &&
            access(rows[i].from, R_OK) != 0)
            continue;
        CHECK(strstr(out, rows[i].text) != NULL);
    }
}

// What bash offers for a command line whose last word is being typed.
TEST(packaging_completions_of_bash) {
    static const struct {
        const char *words, *offered;
    } rows[] = {
        {"''", "serve run chat tokenize template bench load perplexity inspect devices help"},
        {"se", "serve"},
        {"serve --dev", "--device"},
        {"serve --device ''", "cuda cpu"},
        {"serve --device = c", "cuda cpu"},
        {"--log-format j", "json"},
        {"bench --bat", "--batch"},
        {"serve --port ''", ""},
        {"serve --max-jobs 1", ""},
        {"help lo", "load"},
        {"serve --tool-format h", "harmony hermes"},
        {"chat --reasoning-format no", "none"},
        {"load --api ''", "chat completions execute"},
        {"serve READ", "README.md"},
        {"serve --model READ", "README.md"},
    };
    static char out[OUTPUT_BYTES];
    test_needs_program("bash");
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].words);
        CHECK_INT_EQ(0,
                     shell(out,
                           "bash -c 'source <(\"%s\" --completions bash); COMP_WORDS=(worker-orcd \"$@\"); "
                           "COMP_CWORD=$#; _worker_orcd; echo ${COMPREPLY[*]}' bash %s",
                           test_program_path(), rows[i].words));
        out[strcspn(out, "\n")] = 0;
        CHECK_STR_EQ(rows[i].offered, (const char *)out);
    }
}

TEST(packaging_completions_of_zsh_are_zsh) {
    static char out[OUTPUT_BYTES];
    test_needs_program("zsh");
    CHECK_INT_EQ(0, shell(out, "'%s' --completions zsh | zsh -n", test_program_path()));
    CHECK_INT_EQ(0, shell(out,
                          "'%s' --completions zsh >'%s/_worker-orcd' && zsh -fc 'fpath=(\"%s\" $fpath); "
                          "autoload -U compinit; compinit -D; print $_comps[worker-orcd]'",
                          test_program_path(), test_tmp_path(""), test_tmp_path("")));
    CHECK_STR_EQ("_worker-orcd\n", (const char *)out);
}

TEST(packaging_model_maker_says_that_it_needs_numpy) {
    test_needs_python("runpy");
    char command[1024], said[256] = "";
    snprintf(command, sizeof command,
             "python3 -c \"import runpy, sys; sys.modules['numpy'] = None; runpy.run_path('%s')\" 2>&1",
             test_data_path("make_model.py"));
    FILE *pipe = popen(command, "r");
    REQUIRE(pipe);
    said[fread(said, 1, sizeof said - 1, pipe)] = 0;
    CHECK_INT_EQ(1, WEXITSTATUS(pclose(pipe)));
    CHECK_STR_EQ("make_model.py needs numpy: pip install numpy\n", (const char *)said);
}
