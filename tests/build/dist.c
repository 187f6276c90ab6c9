// ./build.sh dist: what is handed over, in build/dist/ (--cublas: build/cublas/dist/). The same commit,
// toolkit and compiler give the same bytes, wherever the tree lies: debug information names files from the
// tree's root and is taken out, nothing has a date but the commit's.

#define DIST_SOURCES "tests/build/dist/"

// With a slash at its end.
static const char *dist_folder(const Build *build) {
    return text_of("%sdist/", build->program_folder);
}

static const char *dist_path(const Build *build, const char *name) {
    return text_of("%s%s", dist_folder(build), name);
}

static void dist_write(const Build *build, const char *name, const Bytes *content) {
    const char *path = dist_path(build, name);
    make_folders(path);
    unlink(path);
    file_write(path, content->data, content->size);
}

// The output of a command that must succeed.
static Bytes output_of(const char *words) {
    int status;
    List command = {0};
    list_add_words(&command, words);
    Bytes output = capture(&command, &status);
    if (status != 0) die("%s does not run:\n%s", words, output.data);
    return output;
}

static void dist_strip(const Build *build) {
    const char *program = text_of("%s%s", build->program_folder, PROGRAMS[PROGRAM_WORKER].name);
    const char *stripped = dist_path(build, PROGRAMS[PROGRAM_WORKER].name);
    output_of(text_of("strip --strip-all -o %s %s", stripped, program));
    if (chmod(stripped, 0755) != 0) die("%s: %s", stripped, strerror(errno));
}

// The SHA-256 of a file, in hexadecimal.
static const char *sha256_of(const char *path) {
    return text_of("%.64s", output_of(text_of("sha256sum -- %s", path)).data);
}

static void dist_write_sums(const Build *build) {
    List files = {0};
    Bytes sums = {0};
    find_files(text_of("%sdist", build->program_folder), "", &files);
    list_sort(&files);
    for (size_t i = 0; i < files.count; i++) {
        const char *name = files.items[i] + strlen(dist_folder(build));
        if (strcmp(name, "SHA256SUMS") == 0) continue;
        bytes_add_text(&sums, text_of("%s  %s\n", sha256_of(files.items[i]), name));
    }
    dist_write(build, "SHA256SUMS", &sums);
}

// ---- the list of parts (CycloneDX 1.6) ----

static void bom_add_component(Bytes *bom, const char *name, const char *version, const char *supplier,
                              const char *license, const char *path) {
    bytes_add_text(bom, text_of(",\n    {\n      \"type\": \"library\",\n      \"bom-ref\": \"%s\",\n"
                                "      \"supplier\": {\"name\": \"%s\"},\n      \"name\": \"%s\",\n"
                                "      \"version\": \"%s\",\n      \"licenses\": [%s]",
                                name, supplier, name, version, license));
    if (path) {
        bytes_add_text(bom, text_of(",\n      \"hashes\": [{\"alg\": \"SHA-256\", \"content\": \"%s\"}]",
                                    sha256_of(path)));
    }
    bytes_add_text(bom, "\n    }");
}

static const char *compiler_version(const Build *build) {
    Bytes version = output_of(text_of("%s -dumpfullversion -dumpversion", list_join(&build->compiler)));
    return text_of("%.*s", (int)strcspn(version.data, "\n"), version.data);
}

// Of the C library whose start-up code is linked in: "2.41".
static const char *libc_version(void) {
    unsigned major, minor;
    Bytes text = output_of("getconf GNU_LIBC_VERSION");
    if (sscanf(text.data, "glibc %u.%u", &major, &minor) != 2) die("getconf GNU_LIBC_VERSION: %s", text.data);
    return text_of("%u.%u", major, minor);
}

static void bom_add_components(const Build *build, Bytes *bom) {
    static const char gcc[] = "{\"expression\": \"GPL-3.0-or-later WITH GCC-exception-3.1\"}";
    static const char glibc[] = "{\"expression\": \"LGPL-2.1-or-later WITH GCC-exception-2.0-note\"}";
    static const char nvidia[] =
        "{\"license\": {\"name\": \"NVIDIA CUDA Toolkit End User License Agreement\"}}";
    Bytes parts = {0};
    const char *compiler = compiler_version(build);
    bom_add_component(&parts, "libgcc", compiler, "Free Software Foundation", gcc, NULL);
    if (build->cuda) bom_add_component(&parts, "libstdc++", compiler, "Free Software Foundation", gcc, NULL);
    bom_add_component(&parts, "glibc-startup", libc_version(), "Free Software Foundation", glibc, NULL);
    for (size_t i = 0; build->cuda && i < COUNT_OF(CUDA_LIBRARIES); i++) {
        bom_add_component(&parts, CUDA_LIBRARIES[i], cuda_version_text(&build->toolkit), "NVIDIA", nvidia,
                          text_of("%s/%s", build->toolkit.lib, CUDA_LIBRARIES[i]));
    }
    for (size_t i = 0; build->cublas && i < COUNT_OF(CUBLAS_LIBRARIES); i++) {
        bom_add_component(&parts, CUBLAS_LIBRARIES[i], cuda_version_text(&build->toolkit), "NVIDIA", nvidia,
                          text_of("%s/%s", build->toolkit.lib, CUBLAS_LIBRARIES[i]));
    }
    bytes_add_text(bom, parts.data + 1); // without the first comma
}

static void dist_write_bom(const Build *build, const char *number) {
    Bytes bom = {0};
    const char *sum = sha256_of(dist_path(build, "worker-orcd"));
    const char *version =
        text_of("%s+%s", number, program_version()); // as Semantic Versioning writes a build
    // A name made of the program's own bytes (RFC 9562, version 8): another program has another one.
    bytes_add_text(&bom, text_of("{\n  \"$schema\": \"http://cyclonedx.org/schema/bom-1.6.schema.json\",\n"
                                 "  \"bomFormat\": \"CycloneDX\",\n  \"specVersion\": \"1.6\",\n"
                                 "  \"serialNumber\": \"urn:uuid:%.8s-%.4s-8%.3s-a%.3s-%.12s\",\n"
                                 "  \"version\": 1,\n",
                                 sum, sum + 8, sum + 12, sum + 15, sum + 18));
    bytes_add_text(&bom, text_of("  \"metadata\": {\n    \"timestamp\": \"%s\",\n    \"component\": {\n"
                                 "      \"type\": \"application\",\n      \"bom-ref\": \"worker-orcd\",\n"
                                 "      \"name\": \"worker-orcd\",\n      \"version\": \"%s\",\n"
                                 "      \"hashes\": [{\"alg\": \"SHA-256\", \"content\": \"%s\"}]\n    }\n"
                                 "  },\n  \"components\": [",
                                 time_text("%Y-%m-%dT%H:%M:%SZ", commit_time()), version, sum));
    bom_add_components(build, &bom);
    bytes_add_text(&bom, "\n  ]\n}\n");
    dist_write(build, "worker-orcd.cdx.json", &bom);
}

// ---- all of it ----

// What the program prints with a flag.
static Bytes dist_ask(const Build *build, const char *flag) {
    return output_of(text_of("%s %s", dist_path(build, "worker-orcd"), flag));
}

static void dist_write_printed(const Build *build, const char *flag, const char *name) {
    Bytes text = dist_ask(build, flag);
    dist_write(build, name, &text);
}

static void dist_copy(const Build *build, const char *name) {
    Bytes content;
    if (!file_read(text_of(DIST_SOURCES "%s", name), &content)) die("%s: %s", name, strerror(errno));
    dist_write(build, name, &content);
}

// The program's number, "0.1.0" of "worker-orcd 0.1.0 (…)".
static const char *dist_number(const Build *build) {
    char number[32];
    Bytes text = dist_ask(build, "--version");
    if (sscanf(text.data, "worker-orcd %31[^ ]", number) != 1) die("--version: %s", text.data);
    return text_of("%s", number);
}

static void dist_report(const Build *build, const char *number) {
    struct stat info;
    const char *program = dist_path(build, "worker-orcd");
    if (stat(program, &info) != 0) die("%s: %s", program, strerror(errno));
    printf("%sdist: worker-orcd %s (%s), CUDA %s%s, %.0f MB\n", build->program_folder, number,
           program_version(), cuda_version_text(&build->toolkit), build->cublas ? " with cuBLAS" : "",
           (double)info.st_size / 1e6);
}

static int command_dist(const Build *build) {
    static const char *const copied[] = {"INSTALL", "worker-orcd.service", "Containerfile"};
    build_programs(build, 1u << PROGRAM_WORKER);
    int lock = lock_file("dist");
    remove_tree(dist_folder(build));
    make_folders(dist_folder(build));
    dist_strip(build);
    const char *number = dist_number(build);
    dist_write_printed(build, "--licenses", "LICENSES.txt");
    dist_write_printed(build, "--manual", "worker-orcd.1");
    dist_write_printed(build, "--completions bash", "completions/worker-orcd.bash");
    dist_write_printed(build, "--completions zsh", "completions/_worker-orcd");
    for (size_t i = 0; i < COUNT_OF(copied); i++)
        dist_copy(build, copied[i]);
    dist_write_bom(build, number);
    dist_write_sums(build);
    dist_report(build, number);
    close(lock);
    return 0;
}
