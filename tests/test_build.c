// The build itself, and the linter: in scratch trees of a few files.
#include "base/embed.h"
#include "base/version.h"
#include "runner.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

TEST(build_version_is_set) {
    CHECK(version_text[0] != 0);
}

// The table has embedded_file_count entries, sorted by name, each with its bytes and a zero after them.
TEST(build_embeds_files) {
    CHECK(embedded_files[embedded_file_count].name == NULL);
    for (size_t i = 0; i < embedded_file_count; i++) {
        TEST_CASE_LABEL("%s", embedded_files[i].name);
        CHECK_INT_EQ(0, embedded_files[i].data[embedded_files[i].size]);
        if (i > 0) CHECK(strcmp(embedded_files[i - 1].name, embedded_files[i].name) < 0);
    }
}

// Writes a file of the case's scratch folder, and the folders above it.
static void write_file(const char *name, const char *text) {
    char path[1024];
    snprintf(path, sizeof path, "%s", test_tmp_path(name));
    for (char *slash = strchr(path + strlen(test_tmp_path("")) + 1, '/'); slash;
         slash = strchr(slash + 1, '/')) {
        *slash = 0;
        (void)mkdir(path, 0777);
        *slash = '/';
    }
    FILE *file = fopen(path, "w");
    REQUIRE(file != NULL);
    fputs(text, file);
    fclose(file);
}

// Runs a shell command, whose standard output and error go to `out`, and returns its exit status.
__attribute__((format(printf, 3, 4))) static int shell(char *out, size_t out_size, const char *format, ...) {
    char command[4096];
    va_list args;
    va_start(args, format);
    vsnprintf(command, sizeof command, format, args);
    va_end(args);
    FILE *pipe = popen(command, "r");
    if (!pipe) return -1;
    size_t got = fread(out, 1, out_size - 1, pipe);
    out[got] = 0;
    int status = pclose(pipe);
    printf("%s\n%s", command, out);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void check_output_has(const char *output, const char *text) {
    if (!CHECK(strstr(output, text) != NULL)) FAIL("no \"%s\" in: %s", text, output);
}

// The linter is beside this program.
static int lint(const char *root, char *out, size_t out_size) {
    const char *program = test_program_path();
    int folder_length = (int)(strrchr(program, '/') - program);
    return shell(out, out_size, "'%.*s/lint' '%s' 2>&1", folder_length, program, root);
}

TEST(lint_finds_nothing_in_this_tree) {
    static char out[256 * 1024];
    CHECK_INT_EQ(0, lint(test_root_path(""), out, sizeof out));
    check_output_has(out, "lint: 0 problems in ");
}

#define TEN_LINES \
    "    x++;\n    x++;\n    x++;\n    x++;\n    x++;\n    x++;\n    x++;\n    x++;\n    x++;\n    x++;\n"
#define FIFTY_COLUMNS "//////////////////////////////////////////////////"

// Each rule, by a file that breaks it, and one beside it that nearly does.
TEST(lint_names_each_problem) {
    static const struct {
        const char *path, *text, *expected; // NULL: nothing is wrong
    } rows[] = {
        {"src/json/a.c", "#include \"model/gguf.h\"\n", "json (rank 1) includes model (rank 2)"},
        {"src/http/a.c", "#include \"model/gguf.h\"\n", "http (rank 2) includes model (rank 2)"},
        {"src/base/a.c", "#include \"os/os.h\"\n", "base (rank 0) includes os (rank 0)"},
        {"src/os/a.c", "#include \"base/base.h\"\n#include \"os/os.h\"\n#include <fcntl.h>\n", NULL},
        {"src/main.c", "#include \"cli/flags.h\"\n#include \"api/routes.h\"\n", NULL},
        {"src/json/a.c", "#include \"json_reader.h\"\n", "does not begin with a folder of src/"},
        {"src/other/a.c", "int a;\n", "its folder has no rank"},
        {"src/json/a.c", "#include <sys/mman.h>\n", "<sys/mman.h> is for src/os"},
        {"src/json/a.h", "int a;\n", "no #pragma once"},
        {"src/json/a.c", "int a;\t// b\n", "a tab"},
        {"src/json/a.c", "int a; \n", "a space at its end"},
        {"src/json/a.c", "int a;", "no newline at the end"},
        {"src/json/a.c", FIFTY_COLUMNS FIFTY_COLUMNS "/////////\xc3\xa9\n", NULL},
        {"src/json/a.c", FIFTY_COLUMNS FIFTY_COLUMNS "//////////\xc3\xa9\n", "111 columns, more than 110"},
        {"src/json/a.c", "// clang-format off\n" FIFTY_COLUMNS FIFTY_COLUMNS FIFTY_COLUMNS "\n", NULL},
        {"src/json/a.c",
         "// FIX"
         "ME\n",
         "finish it or leave it out"},
        {"src/json/a.c", "void f(char *a) {\n    strcpy(a, a);\n}\n", "a.c:2: strcpy() is not called here"},
        {"src/json/a.c", "// strcpy(a, a)\nconst char *a = \"\\\"strcpy(a, a)\";\nint b = c->exit(1);\n",
         NULL},
        {"src/json/a.c", "/* a\n*/ void *a = malloc (1);\n", "a.c:2: malloc() is not called here"},
        {"tests/a.c", "void *a = malloc(1);\n", NULL},
        {"src/sched/a.c", "void f(void) {\n    exit(1);\n}\n", "exit() is not called here"},
        {"src/cli/a.c", "void f(void) {\n    exit(1);\n}\n", NULL},
        {"src/json/a.c",
         "int f(int x) {\n" TEN_LINES TEN_LINES TEN_LINES TEN_LINES TEN_LINES TEN_LINES
         "    if (x) {\n    }\n    x++;\n    x++;\n    x++;\n    x++;\n    x++;\n    x++;\n}\n",
         NULL},
        {"src/json/a.c",
         "static int a[] = {\n    1};\n\nint f(int y,\n      int x) {\n" TEN_LINES TEN_LINES TEN_LINES
             TEN_LINES TEN_LINES TEN_LINES
         "    if (x) {\n    }\n    x++;\n    x++;\n    x++;\n    x++;\n    x++;\n    x++;\n}\n",
         "a.c:4: a function of 71 lines"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        static char out[16 * 1024];
        TEST_CASE_LABEL("row %zu, %s", i, rows[i].path);
        CHECK_INT_EQ(0, shell(out, sizeof out, "rm -rf '%s/'*", test_tmp_path("")));
        write_file("nob.c", "int nob;\n");
        write_file(rows[i].path, rows[i].text);
        CHECK_INT_EQ(rows[i].expected != NULL, lint(test_tmp_path(""), out, sizeof out));
        check_output_has(out, rows[i].expected ? rows[i].expected : "lint: 0 problems");
    }
}

// One step of a scratch tree's life: a file that changes, and what the next build then does.
typedef struct {
    const char *name, *path, *text, *flags;
    int status;
    const char *expected;
} BuildStep;

static void run_build_step(const BuildStep *step) {
    static char out[64 * 1024];
    TEST_CASE_LABEL("%s", step->name);
    if (step->path) write_file(step->path, step->text);
    // A file that changes while a build begins is compiled once more by the next; this is not the case here.
    usleep(30 * 1000);
    int status =
        shell(out, sizeof out, "cd '%s' && ./build.sh %s --no-cuda 2>&1", test_tmp_path(""), step->flags);
    CHECK_INT_EQ(step->status, status);
    if (step->expected) check_output_has(out, step->expected);
    else CHECK_STR_EQ("", out);
    if (status != 0 || strcmp(step->flags, "build") != 0) return;
    CHECK_INT_EQ(0, shell(out, sizeof out, "'%s'", test_tmp_path("build/worker-orcd")));
}

// The page of the last build.
static void check_page(const char *expected) {
    static char page[4096];
    CHECK_INT_EQ(
        0, shell(page, sizeof page, "cat '%s'/build/obj/release*/generated/page.html", test_tmp_path("")));
    CHECK_STR_EQ(expected, page);
}

#define MAIN_C "#include \"base/a.h\"\nint main(void) {\n    return a() - A;\n}\n"

TEST_SLOW(build_compiles_what_changed, 120) {
    static char out[64 * 1024];
    CHECK_INT_EQ(0, shell(out, sizeof out, "cp '%s' '%s' '%s' && mkdir '%s' && cp -r '%s' '%s'",
                          test_root_path("build.sh"), test_root_path("nob.c"), test_tmp_path(""),
                          test_tmp_path("tests"), test_root_path("tests/build"), test_tmp_path("tests")));
    // What released programs are linked with, and headers that generated files include.
    CHECK_INT_EQ(0, shell(out, sizeof out, "mkdir -p '%s' && cp '%s' '%s'", test_tmp_path("src/os"),
                          test_root_path("src/os/libc_compat.c"), test_tmp_path("src/os")));
    write_file("src/base/embed.h",
               "#include <stddef.h>\ntypedef struct {\n    const char *name;\n    const unsigned "
               "char *data;\n    size_t size;\n} EmbeddedFile;\n");
    write_file("src/api/page/page.html", "<style>\n@include a.css\n</style>\n@include a.js\nend");
    write_file("src/api/page/a.css", "p { }\n");
    write_file("src/api/page/a.js", "import { b } from \"./b.js\";\n\nexport const a = b;\n  export");
    write_file("src/base/version.h", "extern const char version_text[];\n");
    write_file("src/base/a.h", "#pragma once\n#define A 1\nint a(void);\n");
    write_file("src/base/a.c", "#include \"base/a.h\"\nint a(void) {\n    return A;\n}\n");
    static const BuildStep steps[] = {
        {"from nothing", "src/main.c", MAIN_C, "build", 0, "built 6 of 6 files"},
        {"again", NULL, NULL, "build", 0, NULL},
        {"written but not changed", "src/main.c", MAIN_C, "build", 0, NULL},
        {"a source", "src/main.c", MAIN_C "// changed\n", "build", 0, "built 1 of 6 files"},
        {"a header", "src/base/a.h", "#pragma once\n#define A 2\nint a(void);\n", "build", 0,
         "built 2 of 6 files"},
        {"an embedded file", "kernels_src/b.cu", "b", "build", 0, "built 1 of 6 files"},
        {"the same with other bytes", "kernels_src/b.cu", "c", "build", 0, "built 1 of 6 files"},
        {"a part of the page", "src/api/page/a.css", "q { }\n", "build", 0, "built 1 of 6 files"},
        {"one that is missing", "src/api/page/page.html", "@include none.js\n", "build", 1,
         "src/api/page/none.js: No such file"},
        {"the end of a script", "src/api/page/page.html", "@include a.js\n", "build", 0,
         "built 1 of 6 files"},
        {"in a script", "src/api/page/a.js", "// </script>\n", "build", 1, "cannot be written in a script"},
        {"not in it", "src/api/page/a.js", "export const c = 1;\n", "build", 0, "built 1 of 6 files"},
        {"a new source", "src/base/c.c", "int c;\n", "build", 0, "built 1 of 7 files"},
        {"other flags", NULL, NULL, "build --debug", 0, "built 6 of 6 files"},
        {"back", NULL, NULL, "build", 0, NULL},
        {"an error", "src/base/c.c", "int c = d;\n", "build", 1, "c.c:1:9: error"},
        {"the error again", NULL, NULL, "build", 1, "src/base/c.c does not compile"},
        {"mended", "src/base/c.c", "int c;\n", "build", 0, "built 1 of 7 files"},
        {"does not link", "src/base/c.c", "int a(void);\nint a(void) {\n    return 1;\n}\n", "build", 1,
         "does not link"},
        {"links again", "src/base/c.c", "int c;\n", "build", 0, "built 1 of 7 files"},
        {"clean", NULL, NULL, "clean", 0, NULL},
        {"from nothing again", NULL, NULL, "build", 0, "built 7 of 7 files"},
        {"unknown flag", NULL, NULL, "--fast", 2, "there is no flag --fast"},
        {"unknown command", NULL, NULL, "bild", 2, "there is no command bild"},
        {"tests by name", "tests/test_d.c", "TEST(d_is_d) {\n}\n    TEST_SLOW(d_of_##name, 9) { \\\n",
         "test --list", 0, "d_is_d tests/test_d.c\nd_of_* tests/test_d.c\n"},
        {"some of them", NULL, NULL, "test --list d_of_llama", 0, "d_of_* tests/test_d.c\n"},
        {"a file of them", NULL, NULL, "test --list test_d", 0, "d_is_d tests/test_d.c\nd_of_*"},
        {"unknown test", NULL, NULL, "test d_is d_was", 2, "no test's name begins with d_was, and"},
        {"a list of nothing", NULL, NULL, "build --list", 2, "--list goes with test"},
    };
    for (size_t i = 0; i < COUNT_OF(steps); i++) {
        run_build_step(&steps[i]);
        if (i == 0) check_page("<style>\np { }\n</style>\n\nconst a = b;\n  export\nend\n");
    }
    check_page("const c = 1;\n");
#if defined(__x86_64__) && defined(__GLIBC__)
    static const BuildStep newer = {
        "a function that old C libraries lack",
        "src/base/c.c",
        "#include <sched.h>\nint c(void) {\n    return getcpu(0, 0);\n}\n",
        "build",
        0,
        "note: build/worker-orcd will not start on systems with an older C library"};
    run_build_step(&newer);
#endif
}
