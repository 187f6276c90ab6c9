// ./build.sh dist: what is handed over, in build/dist/. The same commit, toolkit and compiler give the same
// bytes, wherever the tree lies: debug information names files from the tree's root and is taken out, nothing
// has a date but the commit's.

#define DIST_FOLDER "build/dist/"
#define DIST_SOURCES "tests/build/dist/"

static void dist_write(const char *name, const Bytes *content) {
    const char *path = text_of(DIST_FOLDER "%s", name);
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
    output_of(text_of("strip --strip-all -o " DIST_FOLDER "worker-orcd %s", program));
    if (chmod(DIST_FOLDER "worker-orcd", 0755) != 0) die(DIST_FOLDER "worker-orcd: %s", strerror(errno));
}

// The SHA-256 of a file, in hexadecimal.
static const char *sha256_of(const char *path) {
    return text_of("%.64s", output_of(text_of("sha256sum -- %s", path)).data);
}

static void dist_write_sums(void) {
    List files = {0};
    Bytes sums = {0};
    find_files("build/dist", "", &files);
    list_sort(&files);
    for (size_t i = 0; i < files.count; i++) {
        const char *name = files.items[i] + strlen(DIST_FOLDER);
        if (strcmp(name, "SHA256SUMS") == 0) continue;
        bytes_add_text(&sums, text_of("%s  %s\n", sha256_of(files.items[i]), name));
    }
    dist_write("SHA256SUMS", &sums);
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

static void bom_add_components(const Build *build, Bytes *bom) {
    static const char gcc[] = "{\"expression\": \"GPL-3.0-or-later WITH GCC-exception-3.1\"}";
    static const char nvidia[] =
        "{\"license\": {\"name\": \"NVIDIA CUDA Toolkit End User License Agreement\"}}";
    Bytes parts = {0};
    const char *compiler = compiler_version(build);
    bom_add_component(&parts, "libgcc", compiler, "Free Software Foundation", gcc, NULL);
    if (build->cuda) bom_add_component(&parts, "libstdc++", compiler, "Free Software Foundation", gcc, NULL);
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

// When the commit was made, and what git calls it; of a tree without git, the beginning of time.
static const char *commit_time(void) {
    if (!file_exists(".git") || !have_program("git")) return "1970-01-01T00:00:00Z";
    time_t at = (time_t)strtoll(output_of("git --no-optional-locks log -1 --format=%ct").data, NULL, 10);
    char text[32];
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", gmtime(&at));
    return text_of("%s", text);
}

static void dist_write_bom(const Build *build) {
    Bytes bom = {0};
    const char *sum = sha256_of(DIST_FOLDER "worker-orcd"), *version = program_version();
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
                                 commit_time(), version, sum));
    bom_add_components(build, &bom);
    bytes_add_text(&bom, "\n  ]\n}\n");
    dist_write("worker-orcd.cdx.json", &bom);
}

// ---- all of it ----

static void dist_write_printed(const char *flags, const char *name) {
    Bytes text = output_of(text_of(DIST_FOLDER "worker-orcd %s", flags));
    dist_write(name, &text);
}

static void dist_copy(const char *name) {
    Bytes content;
    if (!file_read(text_of(DIST_SOURCES "%s", name), &content)) die("%s: %s", name, strerror(errno));
    dist_write(name, &content);
}

static int command_dist(const Build *build) {
    build_programs(build, 1u << PROGRAM_WORKER);
    int lock = lock_file("dist");
    remove_tree("build/dist");
    make_folders(DIST_FOLDER);
    dist_strip(build);
    dist_write_printed("--licenses", "LICENSES.txt");
    dist_write_printed("--manual", "worker-orcd.1");
    dist_write_printed("--completions bash", "completions/worker-orcd.bash");
    dist_write_printed("--completions zsh", "completions/_worker-orcd");
    dist_copy("worker-orcd.service");
    dist_copy("Containerfile");
    dist_write_bom(build);
    dist_write_sums();
    printf("%s", output_of("cat " DIST_FOLDER "SHA256SUMS").data);
    close(lock);
    return 0;
}
