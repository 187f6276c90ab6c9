// Linking for an older C library than this system's: stubs of libc's shared objects, made of what this
// system's have, without the versions that came later. Included by nob.c.

// ---- the older C library ----

// A linker notes for each symbol that it takes from a shared library the newest version there, so a program
// made here would start only on systems at least as new. The program is therefore linked against stubs:
// libraries without code that have the same symbols, each at its newest version that is old enough.
// src/os/libc_compat.c has the rest.

// The parts that the program may load. Before glibc 2.34 threads and dlopen were not in libc.so.6.
static const struct {
    const char *soname, *link_name;
} LIBC_PARTS[] = {
    {"libc.so.6", "libc-shared.so"},         {"libm.so.6", "libm.so"},
    {"libpthread.so.0", "libpthread.so"},    {"libdl.so.2", "libdl.so"},
    {"ld-linux-x86-64.so.2", "ld-linux.so"},
};

// Functions that glibc 2.34 moved into libc from libraries that the program does not load: left out, so that
// a use of one fails when it is linked here, and not when it starts elsewhere. Beginnings of names.
static const char *const MOVED_INTO_LIBC[] = {
    "aio_", "getaddrinfo_a", "gai_cancel", "gai_error", "gai_suspend", "lio_",
    "mq_",  "shm_",          "timer_",     "login_",    "forkpty",     "openpty",
};

typedef struct {
    const char *name, *version;
    unsigned version_number; // of 2.3.4: 2003004
    uint64_t value, size;
    bool is_object, is_weak;
} StubSymbol;

typedef struct {
    StubSymbol *items;
    size_t count;
} StubSymbols;

// 0 for anything but a public version.
static unsigned glibc_version_number(const char *version) {
    unsigned major = 0, minor = 0, patch = 0;
    if (sscanf(version, "GLIBC_%u.%u.%u", &major, &minor, &patch) < 2) return 0;
    return major * 1000000 + minor * 1000 + patch;
}

// By name, the newest version first.
static int compare_stub_names(const void *a, const void *b) {
    const StubSymbol *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    return order ? order : (x->version_number < y->version_number) - (x->version_number > y->version_number);
}

static int compare_stub_versions(const void *a, const void *b) {
    const StubSymbol *x = a, *y = b;
    if (x->version_number != y->version_number) return x->version_number < y->version_number ? -1 : 1;
    return strcmp(x->name, y->name);
}

// NULL where there is none.
static const Elf64_Shdr *elf_section(const char *elf, uint32_t type) {
    const Elf64_Ehdr *header = (const void *)elf;
    const Elf64_Shdr *sections = (const void *)(elf + header->e_shoff);
    for (size_t i = 0; i < header->e_shnum; i++) {
        if (sections[i].sh_type == type) return &sections[i];
    }
    return NULL;
}

// The names of the versions that a library defines, by their index.
static void read_version_names(const char *elf, const char *strings, const char *names[static 256]) {
    const Elf64_Shdr *section = elf_section(elf, SHT_GNU_verdef);
    const char *at = elf + section->sh_offset;
    for (size_t i = 0; i < section->sh_info; i++) {
        const Elf64_Verdef *definition = (const void *)at;
        const Elf64_Verdaux *name = (const void *)(at + definition->vd_aux);
        names[definition->vd_ndx & 0xff] = strings + name->vda_name;
        at += definition->vd_next;
    }
}

static bool is_stub_symbol(const StubSymbol *symbol, unsigned section) {
    if (section == SHN_UNDEF || section == SHN_ABS || symbol->version_number == 0) return false;
    for (size_t i = 0; i < COUNT_OF(MOVED_INTO_LIBC); i++) {
        if (starts_with(symbol->name, MOVED_INTO_LIBC[i])) return false;
    }
    return symbol->version_number < GLIBC_MAJOR * 1000000 + (GLIBC_MINOR + 1) * 1000;
}

// The public symbols of a part of the C library at their newest versions that are old enough, by version. The
// compiler named the file, so it is believed to be one.
static StubSymbols read_stub_symbols(const char *elf) {
    const Elf64_Shdr *sections = (const void *)(elf + ((const Elf64_Ehdr *)(const void *)elf)->e_shoff);
    const Elf64_Shdr *table = elf_section(elf, SHT_DYNSYM);
    const Elf64_Sym *symbols = (const void *)(elf + table->sh_offset);
    const Elf64_Half *versions = (const void *)(elf + elf_section(elf, SHT_GNU_versym)->sh_offset);
    const char *strings = elf + sections[table->sh_link].sh_offset;
    const char *names[256] = {0};
    read_version_names(elf, strings, names);
    size_t total = table->sh_size / sizeof *symbols, count = 0;
    StubSymbols out = {.items = grow(NULL, (total + 1) * sizeof(StubSymbol))};
    for (size_t i = 1; i < total; i++) {
        const Elf64_Sym *from = &symbols[i];
        StubSymbol symbol = {.name = strings + from->st_name, .version = names[versions[i] & 0xff]};
        if (symbol.version) symbol.version_number = glibc_version_number(symbol.version);
        symbol.value = from->st_value;
        symbol.size = from->st_size;
        symbol.is_object = ELF64_ST_TYPE(from->st_info) == STT_OBJECT;
        symbol.is_weak = ELF64_ST_BIND(from->st_info) == STB_WEAK;
        if (is_stub_symbol(&symbol, from->st_shndx)) out.items[count++] = symbol;
    }
    qsort(out.items, count, sizeof(StubSymbol), compare_stub_names);
    for (size_t i = 0; i < count; i++) {
        bool again = i > 0 && strcmp(out.items[out.count - 1].name, out.items[i].name) == 0;
        if (!again) out.items[out.count++] = out.items[i];
    }
    qsort(out.items, out.count, sizeof(StubSymbol), compare_stub_versions);
    return out;
}

// Variables keep their sizes and distances, because the linker copies them into the program together with
// their other names.
static Bytes stub_assembly(const StubSymbols *symbols) {
    uint64_t low = UINT64_MAX, high = 0;
    for (size_t i = 0; i < symbols->count; i++) {
        const StubSymbol *symbol = &symbols->items[i];
        if (!symbol->is_object) continue;
        if (symbol->value < low) low = symbol->value & ~UINT64_C(63);
        if (symbol->value + symbol->size > high) high = symbol->value + symbol->size;
    }
    Bytes text = {0};
    unsigned long long bytes = high > low ? high - low : 0;
    bytes_add_text(&text, text_of(".bss\n.balign 64\nvariables:\n.skip %llu + 64\n", bytes));
    bytes_add_text(&text, ".text\nfunctions:\n.skip 16\n.section .note.GNU-stack,\"\",@progbits\n");
    for (size_t i = 0; i < symbols->count; i++) {
        const StubSymbol *symbol = &symbols->items[i];
        const char *name = symbol->name;
        unsigned long long size = symbol->size, offset = symbol->value - low;
        bytes_add_text(&text, text_of("%s %s\n", symbol->is_weak ? ".weak" : ".globl", name));
        if (symbol->is_object) {
            bytes_add_text(&text, text_of(".type %s, @object\n.size %s, %llu\n.set %s, variables + %llu\n",
                                          name, name, size, name, offset));
        } else {
            bytes_add_text(&text, text_of(".type %s, @function\n.set %s, functions\n", name, name));
        }
    }
    return text;
}

static Bytes stub_version_script(const StubSymbols *symbols) {
    Bytes text = {0};
    bytes_add_text(&text, "");
    for (size_t i = 0; i < symbols->count; i++) {
        const StubSymbol *symbol = &symbols->items[i];
        bool last = i + 1 == symbols->count;
        if (i == 0 || symbol->version_number != symbol[-1].version_number) {
            bytes_add_text(&text, text_of("%s { global:\n", symbol->version));
        }
        bytes_add_text(&text, text_of("\"%s\";\n", symbol->name));
        if (last || symbol->version_number != symbol[1].version_number) {
            bytes_add_text(&text, last ? "local: *; };\n" : "};\n");
        }
    }
    return text;
}

// Makes one stub where its symbols changed. NULL, or why that does not work.
static const char *build_stub(const Build *build, const char *soname, const char *link_name) {
    int status;
    List ask = {0}, command = {0};
    list_add_words(&ask, text_of("%s -print-file-name=%s", list_join(&build->compiler), soname));
    Bytes path = capture(&ask, &status), elf;
    path.data[strcspn(path.data, "\n")] = 0;
    if (path.data[0] != '/' || !file_read(path.data, &elf))
        return text_of("the compiler finds no %s", soname);
    bool is_elf = elf.size > sizeof(Elf64_Ehdr) && memcmp(elf.data, ELFMAG, SELFMAG) == 0;
    if (!is_elf || !elf_section(elf.data, SHT_DYNSYM) || !elf_section(elf.data, SHT_GNU_verdef) ||
        !elf_section(elf.data, SHT_GNU_versym)) {
        return text_of("%s is not a library with versions", path.data);
    }
    StubSymbols symbols = read_stub_symbols(elf.data);
    Bytes assembly = stub_assembly(&symbols), versions = stub_version_script(&symbols);
    const char *assembly_path = text_of(LIBC_STUBS "%s.s", soname);
    const char *versions_path = text_of(LIBC_STUBS "%s.map", soname);
    const char *stub_path = text_of(LIBC_STUBS "%s", link_name);
    if (file_exists(stub_path) && file_holds(assembly_path, assembly.data, assembly.size) &&
        file_holds(versions_path, versions.data, versions.size)) {
        return NULL;
    }
    unlink(stub_path);
    file_write(assembly_path, assembly.data, assembly.size);
    file_write(versions_path, versions.data, versions.size);
    list_add_words(&command, list_join(&build->compiler));
    list_add_words(&command, text_of("-shared -nostdlib -o %s %s", stub_path, assembly_path));
    list_add_words(&command, text_of("-Wl,-soname,%s -Wl,--version-script=%s", soname, versions_path));
    Bytes output = capture(&command, &status);
    return status == 0 ? NULL : output.data;
}

static const char *build_stubs(const Build *build) {
    static const char libc[] = "GROUP(libc-shared.so libc_nonshared.a AS_NEEDED(ld-linux.so))\n";
    const char *why = NULL;
    make_folders(LIBC_STUBS);
    for (size_t i = 0; i < COUNT_OF(LIBC_PARTS) && !why; i++)
        why = build_stub(build, LIBC_PARTS[i].soname, LIBC_PARTS[i].link_name);
    file_write(LIBC_STUBS "libc.so", libc, strlen(libc));
    return why;
}
