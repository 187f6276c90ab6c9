#include "emulated_gpu.h"

#if WORKER_ORCD_CUDA

#include "base/embed.h"
#include "base/hash.h"
#include "base/strbuf.h"
#include "os/os.h"
#include "os/os_files.h"
#include "runner.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

enum { PATH_BYTES = 1024, COMMAND_BYTES = 8192, SOURCE_BYTES = 16384, LOG_BYTES = 65536 };
enum { KEPT_MAX = 8192, KEPT_MS = 24 * 3600 * 1000 };

static char root[PATH_BYTES], folder[PATH_BYTES]; // the project's, and what is kept
static char prelude[PATH_BYTES + 8];              // a header, compiled beside it, that all kernels begin with

// Most kernels run for a few blocks. Of 14, -Og compiles one in 0.31 s, -O1 in 0.42 and -O0 in 0.27; they run
// as fast with -Og as with -O1. (Unwind tables cost a twentieth of the time.)
#define KERNEL_FLAGS                                                       \
    "-std=c++17 -Og -ffp-contract=off -fPIC -w -fno-exceptions -fno-rtti " \
    "-fno-asynchronous-unwind-tables"

// What does not fit is dropped: a path that is too long is not found.
PRINTF_LIKE(3, 4) static void print_text(char *out, size_t size, const char *format, ...) {
    StrBuf b = strbuf_from_memory(out, size);
    va_list args;
    va_start(args, format);
    strbuf_vprintf(&b, format, args);
    va_end(args);
}

static const char *environment(const char *name, const char *fallback) {
    const char *value = getenv(name);
    return value && value[0] ? value : fallback;
}

// ---- what is kept ----

// `text` is what else it is made of. The path is without a suffix.
static void path_of(const char *const *files, Str text, char out[PATH_BYTES]) {
    char path[PATH_BYTES + 128], name[65];
    uint8_t digest[32];
    Sha256 h;
    sha256_begin(&h);
    sha256_add(&h, text.ptr, text.len);
    for (; *files; files++) {
        print_text(path, sizeof path, "%s/%s", root, *files);
        Arena arena = os_arena(1 << 20);
        uint8_t *memory = arena.next;
        Str content = {0};
        Error err;
        if (!os_file_read(path, 1 << 19, &arena, &content, &err)) fprintf(stderr, "%s\n", err.message);
        sha256_add(&h, content.ptr, content.len);
        os_release(memory, 1 << 20);
    }
    sha256_end(&h, digest);
    hex_from_bytes(digest, sizeof digest, name);
    print_text(out, PATH_BYTES, "%s/%.32s", folder, name);
}

// Makes `path` by a command that writes `part`, beside it, and says what is wrong into `part`.log.
static bool make(const char *command, const char *part, const char *path, Error *err) {
    char log[PATH_BYTES + 16];
    print_text(log, sizeof log, "%s.log", part);
    bool ok = system(command) == 0 && rename(part, path) == 0;
    if (!ok) {
        char text[LOG_BYTES] = "";
        FILE *file = fopen(log, "r");
        size_t n = file ? fread(text, 1, sizeof text - 1, file) : 0;
        if (file) fclose(file);
        text[n] = 0;
        const char *at = strstr(text, "error:");
        while (at && at > text && at[-1] != '\n')
            at--;
        if (!at) at = text;
        error_set(err, ERR_INTERNAL, "%.*s\n(all of it: %s)", (int)min_u64(strcspn(at, "\n"), 400), at, log);
        return false;
    }
    os_file_remove(log);
    return true;
}

// Forgets what was not used for a day.
static void tidy(void) {
    static OsFolderEntry entries[KEPT_MAX];
    uint32_t n = os_folder_list(folder, entries, KEPT_MAX);
    for (uint32_t i = 0; i < n; i++) {
        char path[PATH_BYTES + 160];
        print_text(path, sizeof path, "%s/%s", folder, entries[i].name);
        if (entries[i].modified_unix_ms + KEPT_MS < os_unix_ms()) os_file_remove(path);
    }
}

// ---- kernels ----

static bool program_mentions(const JitProgram *program, const char *text) {
    for (uint32_t f = 0; program->files[f]; f++) {
        for (size_t i = 0; i < embedded_file_count; i++) {
            bool is_it = strcmp(embedded_files[i].name, program->files[f]) == 0;
            bool is_prelude = strcmp(program->files[f], "prelude.cuh") == 0;
            if (is_it && !is_prelude && strstr((const char *)embedded_files[i].data, text)) return true;
        }
    }
    return false;
}

static void write_source(const JitProgram *p, StrBuf *b) {
    char info[128];
    print_text(info, sizeof info, "%s_info", p->name);
    strbuf_put(b, p->defines);
    strbuf_printf(b, "namespace {\nnamespace program {\n");
    for (uint32_t i = 0; p->files[i]; i++) {
        if (strcmp(p->files[i], "prelude.cuh") != 0) strbuf_printf(b, "#include \"%s\"\n", p->files[i]);
    }
    strbuf_printf(b,
                  "}\n"
                  "template <class Args> constexpr unsigned size_of_args(void (*)(Args)) {\n"
                  "    return sizeof(Args);\n}\n"
                  "template <class Args> void call(void (*kernel)(Args), const void *args) {\n"
                  "    kernel(*(const Args *)args);\n}\n"
                  "void run(const void *args) {\n    call(program::%s, args);\n}\n}\n"
                  "extern \"C\" const struct {\n"
                  "    const char *name;\n    EmulatedKernel *run;\n    const void *info;\n"
                  "    unsigned args_size;\n"
                  "} emulated_kernel = {\"%s\", run, %s%s, size_of_args(program::%s)};\n",
                  p->name, p->name, program_mentions(p, info) ? "&program::" : "nullptr",
                  program_mentions(p, info) ? info : "", p->name);
}

static bool is_there(const uint8_t *image) {
    if (access((const char *)image, R_OK) != 0) return false;
    os_file_touch((const char *)image);
    return true;
}

// Makes image, the library at path with ".so" behind it. One caller at a time.
static bool make_image(const JitProgram *program, const char *path, Str source, const uint8_t *image,
                       Error *err) {
    char source_path[PATH_BYTES + 8], part[PATH_BYTES + 32], command[COMMAND_BYTES];
    print_text(source_path, sizeof source_path, "%s.cpp", path);
    print_text(part, sizeof part, "%s.%d", path, (int)getpid());
    // The libraries that it needs are loaded already: to link without them takes 0.04 s less.
    print_text(command, sizeof command,
               "%s " KERNEL_FLAGS " -shared -nostdlib -include '%s' -I'%s/tests' "
               "-I'%s/kernels_src' -o '%s' -x c++ '%s' -x none -lgcc > '%s.log' 2>&1",
               environment("CXX", "c++"), prelude, root, root, part, source_path, part);
    if (!os_file_replace(source_path, source, err)) return false;
    if (make(command, part, (const char *)image, err)) return true;
    Error why = *err;
    return error_set(err, ERR_INTERNAL, "kernel %s: %s", program->name, why.message);
}

static bool compile(const JitProgram *program, uint32_t sm, uint8_t *image, Error *err) {
    char source[SOURCE_BYTES], path[PATH_BYTES], lock_path[PATH_BYTES + 8];
    char names[16][64];
    const char *files[COUNT_OF(names) + 1] = {0};
    for (uint32_t i = 0; program->files[i] && i < COUNT_OF(names); i++) {
        print_text(names[i], sizeof names[i], "kernels_src/%s", program->files[i]);
        files[i] = names[i];
    }
    StrBuf b = STRBUF(source);
    strbuf_printf(&b, "// %s for sm %u\n", prelude, sm); // whose name is the hash of what is in it
    write_source(program, &b);
    if (b.truncated)
        return error_set(err, ERR_INTERNAL, "the source of kernel %s is too long", program->name);
    path_of(files, strbuf_str(&b), path);
    print_text((char *)image, JIT_COMPILER_IMAGE_BYTES, "%s.so", path);
    if (is_there(image)) return true;
    // Cases that run side by side have the same programs: the others wait for who is first.
    print_text(lock_path, sizeof lock_path, "%s.lock", path);
    int lock = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (lock < 0 || flock(lock, LOCK_EX) != 0)
        return error_set(err, ERR_INTERNAL, "%s: %s", lock_path, strerror(errno));
    bool ok = is_there(image) || make_image(program, path, strbuf_str(&b), image, err);
    close(lock);
    return ok;
}

const JitCompiler emulated_gpu_compiler = {compile};

static bool compile_small_tiles(const JitProgram *program, uint32_t sm, uint8_t *image, Error *err) {
    bool is_large = strstr(program->defines.ptr, "#define TILE_ROWS 128\n") != NULL;
    if (is_large && !strstr(program->name, "experts"))
        return error_set(err, ERR_INTERNAL, "%s is refused", program->name);
    return compile(program, sm, image, err);
}

const JitCompiler emulated_gpu_small_tiles = {compile_small_tiles};

// ---- the driver ----

// Compiled once: it takes a third of a kernel's time.
static void make_prelude(uint32_t sm) {
    static const char *const files[] = {"tests/emulator/prelude.h", "tests/emulator/emulator.h", NULL};
    char path[PATH_BYTES], text[256], compiled[PATH_BYTES + 16], part[PATH_BYTES + 32],
        command[COMMAND_BYTES];
    const char *cxx = environment("CXX", "c++");
    Error err = {0};
    print_text(text, sizeof text, "%s " KERNEL_FLAGS " sm %u", cxx, sm);
    path_of(files, str_from_c(text), path);
    print_text(prelude, sizeof prelude, "%s.h", path);
    print_text(compiled, sizeof compiled, "%s.gch", prelude);
    os_file_touch(prelude);
    os_file_touch(compiled);
    if (access(compiled, R_OK) == 0) return;
    print_text(text, sizeof text, "#define SM_ARCH %u\n#include \"emulator/prelude.h\"\n", sm);
    if (!os_file_replace(prelude, str_from_c(text), &err)) FAIL("%s", err.message);
    print_text(part, sizeof part, "%s.%d", path, (int)getpid());
    print_text(command, sizeof command,
               "%s " KERNEL_FLAGS " -I'%s/tests' -x c++-header '%s' -o '%s' > '%s.log' 2>&1", cxx, root,
               prelude, part, part);
    if (!make(command, part, compiled, &err)) FAIL("%s", err.message);
}

static void set_number(const char *name, uint32_t value) {
    char text[16];
    print_text(text, sizeof text, "%u", value);
    setenv(name, text, 1);
}

void emulated_gpu_load(uint32_t sm, uint32_t multiprocessors) {
    static const char *const files[] = {"tests/tools/fake_cuda.c",
                                        "tests/tools/fake_cuda_kernels.c",
                                        "tests/tools/fake_cuda_kernels.h",
                                        "tests/emulator/emulator.cpp",
                                        "tests/emulator/emulator.h",
                                        "src/base/f16.c",
                                        "src/base/f16.h",
                                        NULL};
    char path[PATH_BYTES], library[PATH_BYTES + 16], part[PATH_BYTES + 32], command[COMMAND_BYTES];
    print_text(root, sizeof root, "%s", test_root_path(""));
    print_text(folder, sizeof folder, "%s", test_root_path("build/emulated"));
    Error err = {0};
    REQUIRE(os_folder_make(folder, &err));
    const char *cc = environment("CC", "cc"), *cxx = environment("CXX", "c++");
    print_text(command, sizeof command, "%s --version > /dev/null 2>&1", cxx);
    if (system(command) != 0) SKIP("there is no C++ compiler");
    tidy();
    make_prelude(sm);
    print_text(command, sizeof command, "%s %s", cc, cxx);
    path_of(files, str_from_c(command), path);
    print_text(library, sizeof library, "%s.driver.so", path);
    print_text(part, sizeof part, "%s.%d", path, (int)getpid());
    print_text(command, sizeof command,
               "cd '%s' && { for f in tests/tools/fake_cuda tests/tools/fake_cuda_kernels src/base/f16; do"
               " %s -std=c17 -D_GNU_SOURCE -O2 -fPIC -Isrc -c $f.c -o '%s'.$(basename $f).o || exit 1; done;"
               " %s -std=c++17 -O3 -fPIC -shared -Wl,-soname,libcuda.so.1 -o '%s' tests/emulator/emulator.cpp"
               " '%s'.*.o && rm '%s'.*.o; } > '%s.log' 2>&1",
               root, cc, part, cxx, part, part, part, part);
    if (access(library, R_OK) != 0 && !make(command, part, library, &err)) FAIL("%s", err.message);
    void *handle = dlopen(library, RTLD_NOW | RTLD_GLOBAL);
    if (!handle) FAIL("%s", dlerror());
    REQUIRE(handle != NULL);
    os_file_touch(library);
    set_number("FAKE_CUDA_SM", sm);
    set_number("FAKE_CUDA_MULTIPROCESSORS", multiprocessors);
}

#endif
