// The licences that worker-orcd --licenses prints: what is linked into the program, and the toolkit's own
// licence to the letter, from where it was installed.

static const char LICENSES_ABOUT[] =
    "worker-orcd holds no other project's source code. What is linked into this file:\n"
    "\n";
static const char LICENSES_GCC[] =
    "libgcc%s, of the GNU Compiler Collection, under the GNU General Public License, version 3 or later,\n"
    "with the GCC Runtime Library Exception 3.1, which lets programs under any terms contain it.\n"
    "Copyright (C) Free Software Foundation, Inc.\n"
    "\n"
    "Start-up code of the GNU C Library, under the GNU Lesser General Public License, version 2.1 or later,\n"
    "with permission to link it into any program. The library itself is the system's own.\n"
    "Copyright (C) Free Software Foundation, Inc.\n";
static const char LICENSES_CUDA[] =
    "\n"
    "%sNVRTC, NVRTC's built-in headers and NVIDIA's PTX compiler, of the NVIDIA CUDA Toolkit %s, under the\n"
    "NVIDIA CUDA Toolkit End User License Agreement. Copyright (C) NVIDIA Corporation.\n"
    "This software contains source code provided by NVIDIA Corporation.\n"
    "\n";

// The licence where the toolkit's packages put it; empty where they did not.
static Bytes toolkit_license(const Toolkit *kit) {
    static const char *const places[] = {"share/doc/" CUDA_PACKAGE "/copyright", "EULA.txt", "doc/EULA.txt",
                                         "LICENSE"};
    Bytes text = {0};
    for (size_t i = 0; i < COUNT_OF(places); i++)
        if (file_read(text_of("%s/%s", kit->root, places[i]), &text)) return text;
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
