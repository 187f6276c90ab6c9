// What the build is written with: strings and lists, files, processes. Included by nob.c, after its headers.
//
// Memory is never freed, and what goes wrong ends the process with a message.

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
