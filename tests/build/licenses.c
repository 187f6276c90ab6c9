// The licences that worker-orcd --licenses prints: what is linked into the program, and the texts to the
// letter, from where this system and the toolkit have them.

static const char LICENSES_ABOUT[] =
    "worker-orcd holds no other project's source code. What is linked into this file:\n"
    "\n";
static const char LICENSES_GCC[] =
    "libgcc%s, of the GNU Compiler Collection, under the GNU General Public License, version 3 or later,\n"
    "with the GCC Runtime Library Exception 3.1, which lets programs under any terms contain it.\n"
    "Copyright (C) Free Software Foundation, Inc.\n"
    "\n"
    "Start-up code of the GNU C Library, under the GNU Lesser General Public License, version 2.1 or later,\n"
    "with permission to link it into any program, under any terms. The library itself is the system's own.\n"
    "Copyright (C) Free Software Foundation, Inc.\n"
    "\n"
    "Because of these two permissions this file need not be under the licences of the GNU project, whose\n"
    "texts are at the end.\n";
static const char LICENSES_CUDA[] =
    "\n"
    "%sNVRTC, NVRTC's built-in headers and NVIDIA's PTX compiler, of the NVIDIA CUDA Toolkit %s, under the\n"
    "NVIDIA CUDA Toolkit End User License Agreement. Copyright (C) NVIDIA Corporation.\n"
    "This software contains source code provided by NVIDIA Corporation.\n"
    "\n";

// A text to the letter, cut out of the file that holds it.
typedef struct {
    const char *title;
    const char *begins, *ends; // lines of it; NULL: where the file does
    const char *places[3];     // patterns of paths: Debian's, and those of other systems
} LicenseText;

static const LicenseText LICENSE_TEXTS[] = {
    {"GCC Runtime Library Exception 3.1",
     "GCC RUNTIME LIBRARY EXCEPTION\n",
     "requirements of the license of GCC.\n",
     {"/usr/share/doc/libgcc-*-dev/copyright", "/usr/share/licenses/*gcc*/COPYING.RUNTIME"}},
    {"GNU General Public License 3",
     NULL,
     NULL,
     {"/usr/share/common-licenses/GPL-3", "/usr/share/licenses/*gcc*/COPYING3"}},
    {"GNU Lesser General Public License 2.1",
     NULL,
     NULL,
     {"/usr/share/common-licenses/LGPL-2.1", "/usr/share/licenses/glibc*/COPYING.LIB"}},
};

// From the first file that has it; empty where none has.
static Bytes license_text(const LicenseText *wanted) {
    for (size_t i = 0; i < COUNT_OF(wanted->places) && wanted->places[i]; i++) {
        glob_t found = {0};
        Bytes file, text = {0};
        if (glob(wanted->places[i], 0, NULL, &found) != 0 || !file_read(found.gl_pathv[0], &file)) continue;
        const char *start = wanted->begins ? strstr(file.data, wanted->begins) : file.data;
        const char *last = start && wanted->ends ? strstr(start, wanted->ends) : NULL;
        if (!start || (wanted->ends && !last)) continue;
        const char *end = last ? last + strlen(wanted->ends) : file.data + file.size;
        bytes_add(&text, start, (size_t)(end - start));
        return text;
    }
    return (Bytes){0};
}

static void add_license_texts(Bytes *out) {
    for (size_t i = 0; i < COUNT_OF(LICENSE_TEXTS); i++) {
        Bytes text = license_text(&LICENSE_TEXTS[i]);
        bytes_add_text(out, text_of("\n==== %s ====\n\n", LICENSE_TEXTS[i].title));
        bytes_add_text(out, text.size > 0
                                ? text.data
                                : "The system that this program was built on came without its text; "
                                  "https://www.gnu.org/licenses/ has it.\n");
    }
}

// Debian's description of a package's licences has a stanza for each group of files, between empty lines. The
// first is the agreement, for all that NVIDIA publishes; the others are of programs that are not linked in.
// Its lines have a blank in front, and a dot where they are empty.
static Bytes agreement_of_debian(const Bytes *copyright) {
    static const char begins[] = "\nLicense: other-NVIDIA-CUDA-TOOLKIT";
    const char *line = strstr(copyright->data, begins);
    Bytes text = {0};
    if (!line) return *copyright; // the agreement itself
    line = strchr(line + 1, '\n');
    while (line && line[1] == ' ') {
        line += 2;
        size_t length = strcspn(line, "\n");
        bool is_empty = length == 1 && line[0] == '.';
        bytes_add(&text, line, is_empty ? 0 : length);
        bytes_add_text(&text, "\n");
        line = strchr(line, '\n');
    }
    return text;
}

// The licence where the toolkit's packages put it; empty where they did not.
static Bytes toolkit_license(const Toolkit *kit) {
    static const char *const places[] = {"share/doc/" CUDA_PACKAGE "/copyright", "EULA.txt", "doc/EULA.txt",
                                         "LICENSE"};
    Bytes text = {0};
    for (size_t i = 0; i < COUNT_OF(places); i++)
        if (file_read(text_of("%s/%s", kit->root, places[i]), &text)) return agreement_of_debian(&text);
    return (Bytes){0};
}

// src/base/embed.h: embedded_licenses. With CUDA, and with cuBLAS, another source than without, so that none
// undoes another.
static const char *generate_licenses(const Build *build) {
    Bytes text = {0}, code = {0};
    bytes_add_text(&text, LICENSES_ABOUT);
    bytes_add_text(&text, text_of(LICENSES_GCC, build->cuda ? " and libstdc++" : ""));
    if (build->cuda) {
        Bytes license = toolkit_license(&build->toolkit);
        bytes_add_text(&text,
                       text_of(LICENSES_CUDA, build->cublas ? "cuBLAS, the CUDA run-time library, " : "",
                               cuda_version_text(&build->toolkit)));
        bytes_add_text(&text, license.size > 0 ? license.data
                                               : "The toolkit that this program was built with came without "
                                                 "its text; NVIDIA publishes it with the toolkit's "
                                                 "documentation.\n");
    }
    add_license_texts(&text);
    const char *stem = text_of("%sgenerated/licenses%s", build->object_folder,
                               build->cublas ? "-cublas"
                               : build->cuda ? "-cuda"
                                             : "");
    const char *text_path = text_of("%s.txt", stem), *path = text_of("%s.c", stem);
    make_folders(path);
    file_write(text_path, text.data, text.size);
    bytes_add_text(&code, "#include \"base/embed.h\"\n");
    embed_bytes(&code, "embedded_licenses_bytes", text_path, &text);
    bytes_add_text(&code, text_of("const EmbeddedFile embedded_licenses = {\"licenses.txt\", "
                                  "embedded_licenses_bytes, %zu};\n",
                                  text.size));
    file_write(path, code.data, code.size);
    return path;
}
