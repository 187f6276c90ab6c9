// The page that the worker serves at "/": page.html with its styles and scripts put in, as one file.
//
// A line "@include FILE" stands for that file of the same folder. Scripts are modules, so that editors and
// other tools see what each takes from which; in the one script that they become, the lines that begin with
// "import " go, and so does the word "export". Their names must differ, therefore: the browser says where
// they do not.

#define PAGE_FOLDER "src/api/page/"

// The next line of a text, which is cut behind it; NULL at its end.
static char *next_line(char **rest) {
    char *line = *rest, *end = strchr(line, '\n');
    if (!line[0]) return NULL;
    *rest = end ? end + 1 : line + strlen(line);
    if (end) *end = 0;
    return line;
}

static void page_add_line(Bytes *page, const char *line) {
    bytes_add_text(page, line);
    bytes_add_text(page, "\n");
}

static void page_add_module(Bytes *page, char *text) {
    static const char export_word[] = "export ";
    for (char *line; (line = next_line(&text)) != NULL;) {
        if (starts_with(line, "import ")) continue;
        page_add_line(page, starts_with(line, export_word) ? line + strlen(export_word) : line);
    }
}

static void page_add_file(Bytes *page, const char *name) {
    const char *path = text_of(PAGE_FOLDER "%s", name);
    Bytes content;
    if (!file_read(path, &content)) die("%s: %s", path, strerror(errno));
    // The HTML parser ends a script or a style there, wherever in it that is.
    if (strstr(content.data, "</script") || strstr(content.data, "</style"))
        die("%s: \"</script\" and \"</style\" cannot be written in a script or a style", path);
    if (ends_with(name, ".js")) page_add_module(page, content.data);
    else bytes_add_text(page, content.data);
}

static Bytes join_page(void) {
    static const char include[] = "@include ", template[] = PAGE_FOLDER "page.html";
    Bytes text, page = {0};
    if (!file_read(template, &text)) die("%s: %s", template, strerror(errno));
    char *rest = text.data;
    for (char *line; (line = next_line(&rest)) != NULL;) {
        if (starts_with(line, include)) page_add_file(&page, line + strlen(include));
        else page_add_line(&page, line);
    }
    return page;
}
