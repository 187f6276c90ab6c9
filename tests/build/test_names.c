// Which tests there are, by a look at their sources: what ./build.sh test was asked for can be checked, and
// listed, before anything is compiled.

typedef struct {
    const char *name; // of a case that a macro makes for each of several models: what their names begin with
    const char *file;
    bool is_beginning;
} TestName;

typedef struct {
    TestName *items;
    size_t count;
} TestNames;

static void test_names_add(TestNames *names, TestName name) {
    names->items = realloc(names->items, (names->count + 1) * sizeof *names->items);
    if (!names->items) die("out of memory");
    names->items[names->count++] = name;
}

// A line that begins a case: TEST(name) or TEST_SLOW(name, seconds), in a macro's body, too.
static void test_names_read_line(const char *line, const char *file, TestNames *out) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789_";
    line += strspn(line, " ");
    if (starts_with(line, "TEST(")) line += strlen("TEST(");
    else if (starts_with(line, "TEST_SLOW(")) line += strlen("TEST_SLOW(");
    else return;
    size_t length = strspn(line, letters);
    if (length == 0) return;
    TestName name = {text_of("%.*s", (int)length, line), file, line[length] == '#'};
    const TestName *last = out->count > 0 ? &out->items[out->count - 1] : NULL;
    if (!last || strcmp(last->name, name.name) != 0) test_names_add(out, name);
}

static TestNames test_names_find(void) {
    TestNames names = {0};
    List files = {0};
    find_files("tests", ".c", &files);
    for (size_t i = 0; i < files.count; i++) {
        Bytes text;
        if (!file_read(files.items[i], &text)) die("%s: %s", files.items[i], strerror(errno));
        for (const char *line = text.data; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
            test_names_read_line(line, files.items[i], &names);
    }
    return names;
}

// As the test program takes words: the beginning of a name, or a file ("tests/test_ring.c", "test_ring").
static bool test_name_fits(const TestName *test, const char *word) {
    const char *slash = strrchr(test->file, '/');
    const char *file = slash && !strchr(word, '/') ? slash + 1 : test->file;
    if (starts_with(test->name, word) || (test->is_beginning && starts_with(word, test->name))) return true;
    return starts_with(file, word) && (!file[strlen(word)] || strcmp(file + strlen(word), ".c") == 0);
}

// The first word that is neither a test's nor a file's; NULL for none.
static const char *test_names_unknown(const TestNames *names, const List *words) {
    for (size_t i = 0; i < words->count; i++) {
        bool fits = false;
        for (size_t k = 0; k < names->count && !fits; k++)
            fits = test_name_fits(&names->items[k], words->items[i]);
        if (!fits) return words->items[i];
    }
    return NULL;
}

// A name and its file a line: of all tests, or of those that the words mean. An asterisk stands for the names
// of models.
static void test_names_print(const TestNames *names, const List *words) {
    for (size_t i = 0; i < names->count; i++) {
        const TestName *test = &names->items[i];
        bool fits = words->count == 0;
        for (size_t k = 0; k < words->count && !fits; k++)
            fits = test_name_fits(test, words->items[k]);
        if (fits) printf("%s%s %s\n", test->name, test->is_beginning ? "*" : "", test->file);
    }
}
