// Compiling kernels at start-up, and the cache of the results. Needs the compiler in the program, but no GPU.
#include "runner.h"

#if WORKER_ORCD_CUDA

#include "backend/cuda/jit.h"
#include "backend/cuda/jit_cache.h"
#include "os/os.h"
#include "os/os_files.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *const repack_files[] = {"prelude.cuh",      "layout.h",        "args.h",
                                           "file_entries.cuh", "tile_repack.cuh", NULL};

static JitProgram repack_program(Str defines) {
    return (JitProgram){.name = "tile_repack_kernel", .files = repack_files, .defines = defines};
}

// Compiles one program; the image is copied into the arena. NULL with *err set when it does not compile.
static JitImage compile_one(const char *cache, JitProgram program, Arena *arena, JitReport *report,
                            Error *err) {
    Jit *jit;
    JitImage image = {0};
    JitOptions options = {.sm = 90, .cache = cache, .threads = 1};
    REQUIRE(jit_start(&options, &program, 1, arena, &jit, err));
    bool ok = jit_wait(jit, 0, &image, err);
    *report = jit_report(jit);
    void *copy = ok ? arena_alloc(arena, 1, image.size, 64) : NULL;
    if (copy) memcpy(copy, image.data, image.size);
    jit_end(jit);
    return (JitImage){copy, copy ? image.size : 0};
}

TEST(cuda_jit_names_the_architecture) {
    static const struct {
        uint32_t sm;
        const char *expected;
        bool is_ptx;
    } rows[] = {
        {75, "sm_75", false}, {80, "sm_80", false},  {86, "sm_86", false},
        {89, "sm_89", false}, {90, "sm_90a", false}, {20, "", false},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("sm %u", rows[i].sm);
        char name[24];
        bool is_ptx;
        jit_architecture(rows[i].sm, name, &is_ptx);
        CHECK_STR_EQ(rows[i].expected, name);
        CHECK(is_ptx == rows[i].is_ptx);
    }
    TEST_CASE_LABEL("of the future");
    char name[24];
    bool is_ptx;
    jit_architecture(990, name, &is_ptx);
    CHECK(is_ptx && str_starts_with(str_from_c(name), STR("compute_")));
}

TEST(cuda_jit_makes_ptx_for_a_gpu_it_does_not_know) {
    Arena arena = os_arena(16 << 20);
    Error err = {0};
    Jit *jit;
    JitImage image;
    JitProgram program = repack_program(STR("#define FORMAT FORMAT_Q8_0\n"));
    REQUIRE(jit_start(&(JitOptions){.sm = 990, .cache = ""}, &program, 1, &arena, &jit, &err));
    REQUIRE(jit_wait(jit, 0, &image, &err));
    CHECK(strstr(image.data, ".entry tile_repack_kernel") != NULL);
    CHECK(((const char *)image.data)[image.size - 1] == 0);
    jit_end(jit);
}

// A sum that takes up the product before it is rounded once less: it must not depend on the compiler.
TEST(cuda_jit_rounds_products_before_sums) {
    static const char *const files[] = {"prelude.cuh", NULL};
    Arena arena = os_arena(16 << 20);
    Error err = {0};
    Jit *jit;
    JitImage image;
    JitProgram program = {.name = "sum_kernel",
                          .files = files,
                          .defines = STR("extern \"C\" __global__ void sum_kernel(float *p) {\n"
                                         "    p[0] = p[1] * p[2] + p[3];\n}\n")};
    REQUIRE(jit_start(&(JitOptions){.sm = 990, .cache = ""}, &program, 1, &arena, &jit, &err));
    REQUIRE(jit_wait(jit, 0, &image, &err));
    CHECK(strstr(image.data, "mul.rn.f32") != NULL && strstr(image.data, "add.rn.f32") != NULL);
    CHECK(strstr(image.data, "fma") == NULL);
    jit_end(jit);
}

TEST(cuda_jit_shows_the_line_at_fault) {
    Arena arena = os_arena(16 << 20);
    JitReport report;
    Error err = {0};
    CHECK(
        !compile_one("", repack_program(STR("#define FORMAT no_such_format\n")), &arena, &report, &err).data);
    CHECK_INT_EQ(ERR_INTERNAL, err.code);
    const char *expected[] = {"kernel tile_repack_kernel for sm_90a does not compile", "error",
                              "no_such_format"};
    for (size_t i = 0; i < COUNT_OF(expected); i++) {
        TEST_CASE_LABEL("%s in: %s", expected[i], err.message);
        CHECK(strstr(err.message, expected[i]) != NULL);
    }
}

// The path of the folder's one compiled kernel.
static const char *only_file(const char *folder, char path[1200]) {
    OsFolderEntry entries[4];
    REQUIRE(os_folder_list(folder, entries, COUNT_OF(entries)) == 1);
    snprintf(path, 1200, "%s/%s", folder, entries[0].name);
    return path;
}

static void flip_byte(const char *path, long at) {
    FILE *f = fopen(path, "r+b");
    REQUIRE(f != NULL);
    REQUIRE(fseek(f, at, at < 0 ? SEEK_END : SEEK_SET) == 0);
    int c = fgetc(f);
    REQUIRE(c != EOF && fseek(f, -1, SEEK_CUR) == 0 && fputc(c ^ 1, f) != EOF);
    REQUIRE(fclose(f) == 0);
}

TEST(cuda_jit_cache_is_used_and_checked) {
    Arena arena = os_arena(64 << 20);
    const char *folder = test_tmp_path("a/new/folder");
    JitProgram program = repack_program(STR("#define FORMAT FORMAT_Q4_0\n"));
    JitReport report;
    Error err = {0};
    char path[1200];
    JitImage first = compile_one(folder, program, &arena, &report, &err);
    CHECK_INT_EQ(1, report.compiled);
    CHECK_STR_EQ("", report.warning);
    only_file(folder, path);

    JitImage again = compile_one(folder, program, &arena, &report, &err);
    CHECK_INT_EQ(1, report.from_cache);
    CHECK_INT_EQ(0, report.compiled);
    CHECK_BYTES_EQ(first.data, first.size, again.data, again.size);

    static const long places[] = {0, 8, 20, 200, -1}; // magic, size, hash, content, its last byte
    for (size_t i = 0; i < COUNT_OF(places); i++) {
        TEST_CASE_LABEL("byte %ld", places[i]);
        flip_byte(path, places[i]);
        JitImage repaired = compile_one(folder, program, &arena, &report, &err);
        CHECK_INT_EQ(1, report.compiled);
        CHECK(strstr(report.warning, "damaged") != NULL);
        CHECK_BYTES_EQ(first.data, first.size, repaired.data, repaired.size);
    }
    TEST_CASE_LABEL("other defines");
    program.defines = STR("#define FORMAT FORMAT_Q4_1\n");
    CHECK(compile_one(folder, program, &arena, &report, &err).data != NULL);
    CHECK_INT_EQ(0, report.from_cache);
}

TEST(cuda_jit_compiles_in_the_background) {
    Arena arena = os_arena(64 << 20);
    JitProgram programs[3];
    static const char *const formats[] = {"Q4_0", "Q5_0", "Q8_0"};
    for (size_t i = 0; i < COUNT_OF(programs); i++) {
        char defines[128];
        int n = snprintf(defines, sizeof defines, "#define FORMAT FORMAT_%s\n", formats[i]);
        programs[i] = repack_program(arena_copy_str(&arena, (Str){defines, (size_t)n}));
    }
    programs[1].defines = STR("#error \"this one\"\n");
    JitOptions options = {
        .sm = 90, .cache = test_tmp_path("background"), .threads = 2, .in_background = true};
    for (uint32_t run = 0; run < 3; run++) {
        TEST_CASE_LABEL("run %u", run);
        Jit *jit;
        JitImage image;
        Error err = {0};
        REQUIRE(jit_start(&options, programs, COUNT_OF(programs), &arena, &jit, &err));
        CHECK(jit_is_done(jit, 0) == (run > 0)); // from the cache, where the helper put it
        CHECK(!jit_is_done(jit, 1));
        if (run == 2) { // not wanted any more
            jit_end(jit);
            break;
        }
        jit_go(jit);
        CHECK(jit_wait(jit, 0, &image, &err) && image.size > 1000);
        CHECK(jit_wait(jit, 2, &image, &err) && jit_is_done(jit, 2));
        CHECK(!jit_wait(jit, 1, &image, &err) && strstr(err.message, "this one"));
        jit_end(jit);
    }
    Jit *jit;
    Error err = {0};
    options.cache = "";
    REQUIRE(jit_start(&options, programs, COUNT_OF(programs), &arena, &jit, &err));
    jit_go(jit);
    jit_end(jit); // in the middle of it
    CHECK(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD);
}

// Helpers that start while another Jit compiles must not have the locks of its compiler: neither where it
// does so in this process nor where it has a single processor or lacks a single program.
TEST_SLOW(cuda_jit_starts_helpers_while_another_compiles, 60) {
    enum { FIRST = 4, LATER = 2 };
    Arena arena = os_arena(64 << 20);
    JitProgram first[FIRST], later[LATER];
    for (uint32_t i = 0; i < FIRST + LATER; i++) {
        char defines[128];
        int n = snprintf(defines, sizeof defines, "#define FORMAT FORMAT_Q8_0\n#define NUMBER %u\n", i);
        *(i < FIRST ? &first[i] : &later[i - FIRST]) =
            repack_program(arena_copy_str(&arena, (Str){defines, (size_t)n}));
    }
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET((size_t)sched_getcpu(), &one);
    REQUIRE(sched_setaffinity(0, sizeof one, &one) == 0);
    // One thread compiles here; one processor; one program.
    static const struct { uint32_t threads, n_first; } rows[] = {{1, FIRST}, {0, FIRST}, {0, 1}};
    for (uint32_t row = 0; row < COUNT_OF(rows); row++) {
        for (uint32_t delay_ms = 0; delay_ms < 60; delay_ms += 15) {
            TEST_CASE_LABEL("row %u, %u ms later", row, delay_ms);
            JitOptions options = {.sm = 90, .cache = "", .threads = rows[row].threads};
            JitOptions behind = {.sm = 90, .cache = "", .threads = LATER, .in_background = true};
            Jit *a, *b;
            JitImage image;
            Error err = {0};
            REQUIRE(jit_start(&options, first, rows[row].n_first, &arena, &a, &err));
            os_sleep_ms(delay_ms);
            REQUIRE(jit_start(&behind, later, LATER, &arena, &b, &err));
            jit_go(b);
            for (uint32_t i = 0; i < LATER; i++)
                CHECK(jit_wait(b, i, &image, &err) && image.size > 1000);
            for (uint32_t i = 0; i < rows[row].n_first; i++)
                CHECK(jit_wait(a, i, &image, &err) && image.size > 1000);
            jit_end(a);
            jit_end(b);
        }
    }
}

TEST(cuda_jit_goes_on_without_a_cache_folder) {
    Arena arena = os_arena(32 << 20);
    JitProgram program = repack_program(STR("#define FORMAT FORMAT_Q8_0\n"));
    JitReport report;
    Error err = {0};
    const char *file = test_tmp_path("file");
    REQUIRE(os_file_replace(file, STR("not a folder"), &err));
    char below[1200];
    snprintf(below, sizeof below, "%s/cache", file);
    CHECK(compile_one(below, program, &arena, &report, &err).data != NULL);
    CHECK(strstr(report.warning, "cannot be made") != NULL);
    TEST_CASE_LABEL("a folder that takes no files");
    CHECK(compile_one("/proc/self", program, &arena, &report, &err).data != NULL);
    CHECK(strstr(report.warning, "/proc/self") != NULL);
    TEST_CASE_LABEL("none wanted");
    CHECK(compile_one("", program, &arena, &report, &err).data != NULL);
    CHECK_STR_EQ("", report.warning);
}

// As on a full disk: nothing of a file that could not be written whole stays.
TEST(cuda_jit_goes_on_where_the_disk_is_full) {
    Arena arena = os_arena(32 << 20);
    const char *folder = test_tmp_path("cache");
    JitProgram program = repack_program(STR("#define FORMAT FORMAT_Q8_0\n"));
    JitReport report;
    Error err = {0};
    struct rlimit little = {1000, 1000};
    signal(SIGXFSZ, SIG_IGN);
    REQUIRE(setrlimit(RLIMIT_FSIZE, &little) == 0);
    CHECK(compile_one(folder, program, &arena, &report, &err).data != NULL);
    CHECK(strstr(report.warning, folder) != NULL);
    OsFolderEntry entries[4];
    CHECK_INT_EQ(0, os_folder_list(folder, entries, COUNT_OF(entries)));
}

// Whoever may write into the folder: only what this user wrote is run, and nothing there holds a start up.
TEST(cuda_jit_cache_takes_no_kernel_of_others) {
    static const char *const kinds[] = {"own", "writable by others", "another user's", "a link", "a pipe"};
    Arena arena = os_arena(8 << 20);
    JitCache cache;
    JitKey key = {{1}};
    Str found;
    Error err = {0};
    char path[1200];
    const char *folder = test_tmp_path("cache"), *elsewhere = test_tmp_path("elsewhere");
    REQUIRE(jit_cache_open(folder, &cache, &err));
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        TEST_CASE_LABEL("%s", kinds[i]);
        REQUIRE(jit_cache_store(&cache, &key, STR("a kernel"), arena, &err));
        only_file(folder, path);
        if (i == 1) REQUIRE(chmod(path, 0666) == 0);
        if (i == 2 && chown(path, 12345, 12345) != 0) continue; // no privilege to do so
        if (i >= 3) REQUIRE(rename(path, elsewhere) == 0);
        if (i == 3) REQUIRE(symlink(elsewhere, path) == 0);
        if (i == 4) REQUIRE(mkfifo(path, 0600) == 0);
        CHECK_INT_EQ(i == 0, jit_cache_load(&cache, &key, &arena, &found, &err));
        CHECK_INT_EQ(ERR_NONE, err.code);
        CHECK(unlink(path) == 0);
    }
}

TEST(cuda_jit_cache_stays_small) {
    Arena arena = os_arena(8 << 20);
    JitCache cache;
    Error err = {0};
    REQUIRE(jit_cache_open(test_tmp_path("cache"), &cache, &err));
    static char content[1000];
    for (uint8_t i = 0; i < 10; i++) {
        JitKey key = {{i}};
        CHECK(jit_cache_store(&cache, &key, (Str){content, sizeof content}, arena, &err));
        os_sleep_ms(20); // so that the oldest is known: files' times go in steps of some milliseconds
    }
    Str found;
    CHECK(jit_cache_load(&cache, &(JitKey){{0}}, &arena, &found, &err)); // the oldest is now the latest used
    os_sleep_ms(20);
    jit_cache_trim(&cache, 5200, arena); // room for four files with their headers
    static const bool kept[10] = {true, false, false, false, false, false, false, true, true, true};
    for (uint8_t i = 0; i < 10; i++) {
        TEST_CASE_LABEL("file %u", i);
        JitKey key = {{i}};
        CHECK(jit_cache_load(&cache, &key, &arena, &found, &err) == kept[i]);
        CHECK_INT_EQ(ERR_NONE, err.code);
    }
}

#else

TEST(cuda_jit) {
    SKIP("this build has no CUDA");
}

#endif
