// Checks what the compiler does not: which folder may include which, what may be called where, and how long
// lines, functions and files are. lint [ROOT] prints a line for each problem and ends with status 1 where
// there is one.
//
// Lines end at 110 columns; between "// clang-format off" and "// clang-format on", where tables have their
// rows, at 160. Calls are searched in the text without its comments and strings. A file whose first line
// begins with
// "// Generated" may have any length.
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

enum {
    COLUMNS_MAX = 110,
    TABLE_COLUMNS_MAX = 160,
    FUNCTION_LINES_MAX = 70,
    FILE_LINES_WARNING = 900,
    FILE_LINES_MAX = 1200,
    PATH_BYTES_MAX = 1024,
};

// A folder of src/ includes itself and every folder of a lower rank; `also` is one of its own rank.
static const struct {
    const char *folder;
    int rank;
    const char *also;
} RANKS[] = {
    {"base", 0, NULL}, {"os", 0, "base"},    {"json", 1, NULL},   {"http", 2, NULL},     {"model", 2, NULL},
    {"arch", 3, NULL}, {"text", 3, NULL},    {"plan", 4, NULL},   {"template", 4, NULL}, {"grammar", 4, NULL},
    {"chat", 5, NULL}, {"backend", 5, NULL}, {"engine", 6, NULL}, {"jobs", 7, NULL},     {"sched", 8, NULL},
    {"api", 8, NULL},  {"load", 3, NULL},    {"cli", 9, NULL},    {"main.c", 9, "cli"},
};

// Calls that are allowed only in files whose path begins with one of `allowed`.
static const struct {
    const char *calls; // separated by spaces
    const char *allowed[6];
    const char *why;
} BANNED_CALLS[] = {
    {"strcpy strcat sprintf vsprintf gets strncpy strncat", {0}, "it knows no bound; use StrBuf or snprintf"},
    {"strtok atoi atol atoll atof rand srand", {0}, "it cannot report errors or keeps hidden state"},
    {"alloca", {0}, "the stack has no bound check; use an arena"},
    {"malloc calloc realloc free strdup strndup asprintf vasprintf",
     {"src/os/", "tests/", "nob.c"},
     "there is no heap; use an arena"},
    {"printf fprintf vprintf vfprintf puts fputs putchar fputc perror",
     {"src/cli/", "src/main.c", "tests/", "nob.c"},
     "only the command line prints; others return an error or log"},
    {"exit abort", {"src/cli/", "src/main.c", "tests/", "nob.c"}, "only the command line ends the process"},
    {"_exit",
     {"src/os/", "src/cli/", "src/main.c", "tests/", "nob.c"},
     "only the command line ends the process"},
    {"system popen fork", {"src/os/", "tests/", "nob.c"}, "only src/os speaks to the system"},
    {"clock_gettime gettimeofday time nanosleep usleep sleep",
     {"src/os/", "tests/", "nob.c"},
     "only src/os has a clock"},
};

// Headers of the operating system, for src/os alone.
static const char *const SYSTEM_HEADERS[] = {"unistd.h", "fcntl.h", "sys/",   "netinet/",
                                             "arpa/",    "netdb.h", "poll.h", "signal.h",
                                             "dirent.h", "dlfcn.h", "errno.h"};

typedef struct {
    char path[PATH_BYTES_MAX]; // below the root
    char *text;
    char *code; // the same with comments, strings and character constants blanked out
    size_t size;
} File;

typedef struct {
    unsigned files, problems;
} Totals;

__attribute__((format(printf, 4, 5))) static void problem(Totals *totals, const File *file, unsigned line,
                                                          const char *format, ...) {
    va_list args;
    va_start(args, format);
    printf("%s:%u: ", file->path, line);
    vprintf(format, args);
    putchar('\n');
    va_end(args);
    totals->problems++;
}

static bool starts_with(const char *text, const char *prefix) {
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static bool ends_with(const char *text, const char *suffix) {
    size_t length = strlen(text), suffix_length = strlen(suffix);
    return length >= suffix_length && strcmp(text + length - suffix_length, suffix) == 0;
}

static bool is_word(char c) {
    return isalnum((unsigned char)c) || c == '_';
}

// ---- text without comments and strings ----

// The index behind the comment, string or character constant that begins at `at`; `at` where none does.
static size_t skip_literal(const char *text, size_t size, size_t at) {
    char c = text[at], next = at + 1 < size ? text[at + 1] : 0;
    size_t end = at;
    if (c == '/' && next == '/') {
        while (end < size && text[end] != '\n')
            end++;
    } else if (c == '/' && next == '*') {
        for (end = at + 2; end < size && !(text[end - 1] == '*' && text[end] == '/' && end > at + 2);)
            end++;
        end = end < size ? end + 1 : size;
    } else if (c == '"' || (c == '\'' && (at == 0 || !isdigit((unsigned char)text[at - 1])))) {
        for (end = at + 1; end < size && text[end] != c && text[end] != '\n'; end++) {
            if (text[end] == '\\') end++;
        }
        end = end < size ? end + 1 : size;
    }
    return end;
}

static void blank_literals(File *file) {
    memcpy(file->code, file->text, file->size + 1);
    for (size_t i = 0; i < file->size;) {
        size_t end = skip_literal(file->text, file->size, i);
        if (end == i) end = i + 1;
        else {
            for (size_t k = i; k < end; k++) {
                if (file->code[k] != '\n') file->code[k] = ' ';
            }
        }
        i = end;
    }
}

// ---- lines ----

static unsigned columns_of(const char *line, size_t length) {
    unsigned columns = 0;
    for (size_t i = 0; i < length; i++)
        columns += ((unsigned char)line[i] & 0xc0) != 0x80;
    return columns;
}

static void check_line(Totals *totals, const File *file, unsigned number, const char *line, size_t length,
                       unsigned columns_max) {
    if (columns_of(line, length) > columns_max) {
        problem(totals, file, number, "%u columns, more than %u", columns_of(line, length), columns_max);
    }
    if (memchr(line, '\t', length)) problem(totals, file, number, "a tab");
    if (length > 0 && isspace((unsigned char)line[length - 1]))
        problem(totals, file, number, "a space at its end");
    static const char *const notes[] = {"TODO", "FIXME", "XXX"};
    for (size_t i = 0; i < COUNT_OF(notes) && !starts_with(file->path, "tests/lint/"); i++) {
        const char *note = memmem(line, length, notes[i], strlen(notes[i]));
        if (note) problem(totals, file, number, "%s: finish it or leave it out", notes[i]);
    }
}

static void check_lines(Totals *totals, const File *file) {
    unsigned number = 0, columns_max = COLUMNS_MAX;
    for (const char *line = file->text; *line;) {
        size_t length = strcspn(line, "\n");
        number++;
        if (memmem(line, length, "clang-format off", 16)) columns_max = TABLE_COLUMNS_MAX;
        if (memmem(line, length, "clang-format on", 15)) columns_max = COLUMNS_MAX;
        check_line(totals, file, number, line, length, columns_max);
        line += length + (line[length] == '\n');
    }
    if (file->size > 0 && file->text[file->size - 1] != '\n')
        problem(totals, file, number, "no newline at the end");
    // nob.c is the whole build by design.
    if (starts_with(file->text, "// Generated") || strcmp(file->path, "nob.c") == 0) return;
    if (number > FILE_LINES_MAX) {
        problem(totals, file, number, "%u lines, more than %d", number, FILE_LINES_MAX);
    } else if (number > FILE_LINES_WARNING) {
        printf("%s: %u lines; think of splitting it\n", file->path, number);
    }
}

// ---- functions ----

// A function is a brace at the outermost level that follows a closing parenthesis. Preprocessor lines are not
// code.
static void check_functions(Totals *totals, const File *file) {
    unsigned line = 1, first_line = 0, depth = 0;
    char before = ';';
    bool in_function = false, line_start = true;
    for (const char *at = file->code; *at; at++) {
        if (line_start && *at == '#') {
            for (; *at && !(*at == '\n' && at[-1] != '\\'); at++)
                line += *at == '\n';
            if (!*at) return;
        }
        line_start = *at == '\n';
        line += *at == '\n';
        if (isspace((unsigned char)*at)) continue;
        if (depth == 0 && (before == ';' || before == '}')) first_line = line;
        if (*at == '{' && depth++ == 0) in_function = before == ')';
        if (*at == '}' && depth > 0 && --depth == 0 && in_function) {
            unsigned lines = line - first_line + 1;
            if (lines > FUNCTION_LINES_MAX)
                problem(totals, file, first_line, "a function of %u lines", lines);
        }
        before = *at;
    }
}

// ---- calls ----

static bool is_allowed(const File *file, const char *const *allowed, size_t count) {
    for (size_t i = 0; i < count && allowed[i]; i++) {
        if (starts_with(file->path, allowed[i])) return true;
    }
    return false;
}

static bool list_has(const char *list, const char *word, size_t length) {
    for (const char *at = list; *at;) {
        size_t size = strcspn(at, " ");
        if (size == length && memcmp(at, word, length) == 0) return true;
        at += size + (at[size] == ' ');
    }
    return false;
}

static void check_call(Totals *totals, const File *file, unsigned line, const char *word, size_t length) {
    for (size_t i = 0; i < COUNT_OF(BANNED_CALLS); i++) {
        if (!list_has(BANNED_CALLS[i].calls, word, length)) continue;
        if (is_allowed(file, BANNED_CALLS[i].allowed, COUNT_OF(BANNED_CALLS[i].allowed))) continue;
        problem(totals, file, line, "%.*s() is not called here: %s", (int)length, word, BANNED_CALLS[i].why);
    }
}

static void check_calls(Totals *totals, const File *file) {
    unsigned line = 1;
    char before = 0;
    for (const char *at = file->code; *at;) {
        if (!is_word(*at)) {
            line += *at == '\n';
            if (!isspace((unsigned char)*at)) before = *at;
            at++;
            continue;
        }
        size_t length = 0;
        while (is_word(at[length]))
            length++;
        bool is_member = before == '.' || before == '>';
        if (at[length + strspn(at + length, " ")] == '(' && !is_member)
            check_call(totals, file, line, at, length);
        before = at[length - 1];
        at += length;
    }
}

// ---- includes ----

// The row of RANKS for a path below src/, or -1.
static int rank_row(const char *path) {
    for (size_t i = 0; i < COUNT_OF(RANKS); i++) {
        size_t length = strlen(RANKS[i].folder);
        bool ends = path[length] == '/' || path[length] == '"' || path[length] == 0;
        if (strncmp(path, RANKS[i].folder, length) == 0 && ends) return (int)i;
    }
    return -1;
}

static void check_own_include(Totals *totals, const File *file, unsigned line, const char *target) {
    int name_length = (int)strcspn(target, "\"");
    int from = rank_row(file->path + strlen("src/"));
    if (from < 0) return;
    int to = rank_row(target);
    bool is_kernel_header =
        starts_with(target, "../kernels_src/") && strcmp(RANKS[from].folder, "backend") == 0;
    bool is_constants =
        starts_with(target, "../kernels_src/codebooks.h\"") && strcmp(RANKS[from].folder, "model") == 0;
    if (is_kernel_header || is_constants) return; // what the program and its kernels agree on
    if (to < 0) {
        problem(totals, file, line, "\"%.*s\" does not begin with a folder of src/", name_length, target);
        return;
    }
    bool is_also = RANKS[from].also && strcmp(RANKS[from].also, RANKS[to].folder) == 0;
    if (from == to || is_also || RANKS[to].rank < RANKS[from].rank) return;
    problem(totals, file, line, "%s (rank %d) includes %s (rank %d); includes go to lower ranks only",
            RANKS[from].folder, RANKS[from].rank, RANKS[to].folder, RANKS[to].rank);
}

static void check_system_include(Totals *totals, const File *file, unsigned line, const char *target) {
    if (starts_with(file->path, "src/os/")) return;
    for (size_t i = 0; i < COUNT_OF(SYSTEM_HEADERS); i++) {
        if (!starts_with(target, SYSTEM_HEADERS[i])) continue;
        problem(totals, file, line, "<%.*s> is for src/os", (int)strcspn(target, ">"), target);
    }
}

static void check_includes(Totals *totals, const File *file) {
    bool in_src = starts_with(file->path, "src/"), has_pragma_once = false;
    unsigned number = 0;
    for (const char *line = file->text; *line; line += strcspn(line, "\n"), line += *line == '\n') {
        number++;
        has_pragma_once |= starts_with(line, "#pragma once");
        if (!in_src || !starts_with(line, "#include ")) continue;
        const char *target = line + strlen("#include ");
        if (*target == '"') check_own_include(totals, file, number, target + 1);
        if (*target == '<') check_system_include(totals, file, number, target + 1);
    }
    // The emulator's headers and those of kernels are put together by their users, some of them several
    // times.
    bool is_plain =
        in_src || (starts_with(file->path, "tests/") && !starts_with(file->path, "tests/emulator/"));
    if (is_plain && !has_pragma_once && ends_with(file->path, ".h")) {
        problem(totals, file, 1, "no #pragma once");
    }
    if (in_src && rank_row(file->path + strlen("src/")) < 0)
        problem(totals, file, 1, "its folder has no rank");
}

// ---- files ----

static void check_file(Totals *totals, const char *root, const char *path) {
    File file = {0};
    char full[2 * PATH_BYTES_MAX];
    snprintf(file.path, sizeof file.path, "%s", path);
    snprintf(full, sizeof full, "%s/%s", root, path);
    FILE *stream = fopen(full, "rb");
    struct stat info;
    if (!stream || fstat(fileno(stream), &info) != 0) {
        problem(totals, &file, 1, "%s", strerror(errno));
        if (stream) fclose(stream);
        return;
    }
    size_t size = (size_t)info.st_size;
    file.text = calloc(2, size + 1);
    if (file.text) {
        file.code = file.text + size + 1;
        file.size = fread(file.text, 1, size, stream);
        blank_literals(&file);
        check_lines(totals, &file);
        check_functions(totals, &file);
        check_calls(totals, &file);
        check_includes(totals, &file);
        totals->files++;
    }
    fclose(stream);
    free(file.text);
}

static bool is_code(const char *name) {
    static const char *const suffixes[] = {".c", ".h", ".def", ".cu", ".cuh"};
    for (size_t i = 0; i < COUNT_OF(suffixes); i++) {
        if (ends_with(name, suffixes[i])) return true;
    }
    return false;
}

// Any depth, in the order of the names.
static void check_folder(Totals *totals, const char *root, const char *folder) {
    char full[2 * PATH_BYTES_MAX];
    snprintf(full, sizeof full, "%s/%s", root, folder);
    struct dirent **entries;
    int count = scandir(full, &entries, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        const char *name = entries[i]->d_name;
        char path[PATH_BYTES_MAX];
        int length = snprintf(path, sizeof path, "%s/%s", folder, name);
        bool fits = length > 0 && (size_t)length < sizeof path;
        if (fits && name[0] != '.' && entries[i]->d_type == DT_DIR) check_folder(totals, root, path);
        if (fits && name[0] != '.' && entries[i]->d_type == DT_REG && is_code(name))
            check_file(totals, root, path);
        free(entries[i]);
    }
    if (count >= 0) free(entries);
}

int main(int argc, char **argv) {
    const char *root = argc > 1 ? argv[1] : ".";
    Totals totals = {0};
    check_file(&totals, root, "nob.c");
    check_folder(&totals, root, "src");
    check_folder(&totals, root, "tests");
    check_folder(&totals, root, "kernels_src");
    printf("lint: %u problem%s in %u files\n", totals.problems, totals.problems == 1 ? "" : "s",
           totals.files);
    return totals.problems > 0;
}
