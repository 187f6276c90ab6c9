#include "grammar/lark_common.h"

#define INT "[0-9]+"
#define DECIMAL "[0-9]+\\.[0-9]*|\\.[0-9]+"
#define EXPONENT "[eE][-+]?[0-9]+"
#define FLOAT INT EXPONENT "|(?:" DECIMAL ")(?:" EXPONENT ")?"

static const struct {
    const char *name, *pattern;
} common[] = {
    {"DIGIT", "[0-9]"},
    {"HEXDIGIT", "[0-9a-fA-F]"},
    {"INT", INT},
    {"SIGNED_INT", "[-+]?" INT},
    {"DECIMAL", DECIMAL},
    {"FLOAT", FLOAT},
    {"SIGNED_FLOAT", "[-+]?(?:" FLOAT ")"},
    {"NUMBER", FLOAT "|" INT},
    {"SIGNED_NUMBER", "[-+]?(?:" FLOAT "|" INT ")"},
    {"ESCAPED_STRING", "\"(?:[^\"\\\\\\n]|\\\\[^\\n])*\""},
    {"LCASE_LETTER", "[a-z]"},
    {"UCASE_LETTER", "[A-Z]"},
    {"LETTER", "[A-Za-z]"},
    {"WORD", "[A-Za-z]+"},
    {"CNAME", "[A-Za-z_][A-Za-z_0-9]*"},
    {"WS_INLINE", "[ \\t]+"},
    {"WS", "[ \\t\\f\\r\\n]+"},
    {"CR", "\\r"},
    {"LF", "\\n"},
    {"NEWLINE", "(?:\\r?\\n)+"},
    {"SH_COMMENT", "#[^\\n]*"},
    {"CPP_COMMENT", "//[^\\n]*"},
    {"SQL_COMMENT", "--[^\\n]*"},
    {"C_COMMENT", "/\\*(?:[^*]|\\*+[^*/])*\\*+/"},
};

const char *lark_common_pattern(Str name) {
    for (size_t i = 0; i < COUNT_OF(common); i++)
        if (str_eq(name, str_from_c(common[i].name))) return common[i].pattern;
    return NULL;
}

static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// A letter of a class, or a range between two letters of one case, in both cases. Returns how many characters
// of the pattern that is.
static size_t put_letters(Str rest, char *out, size_t *written) {
    char first = rest.ptr[0];
    bool range =
        rest.len > 2 && rest.ptr[1] == '-' && is_letter(rest.ptr[2]) && ((first ^ rest.ptr[2]) & 0x20) == 0;
    size_t length = range ? 3 : 1;
    for (size_t k = 0; k < 2 * length; k++) {
        char c = rest.ptr[k % length];
        out[(*written)++] = k >= length && c != '-' ? (char)(c ^ 0x20) : c;
    }
    return length;
}

size_t lark_pattern_translate(Str pattern, bool any_case, bool dot_all, char *out) {
    size_t n = 0;
    bool in_class = false;
    for (size_t i = 0; i < pattern.len;) {
        char c = pattern.ptr[i];
        Str rest = str_slice(pattern, i, pattern.len);
        if (c == '\\' && rest.len > 1) {
            // A backslash and what it stands before; the names of properties and groups hold no class.
            out[n++] = c;
            out[n++] = rest.ptr[1];
            i += 2;
            while (any_case && i < pattern.len && rest.ptr[1] == 'p' && pattern.ptr[i - 1] != '}')
                out[n++] = pattern.ptr[i++];
            for (size_t k = rest.ptr[1] == 'x'   ? 2
                            : rest.ptr[1] == 'u' ? 4
                                                 : 0;
                 k > 0 && i < pattern.len; k--)
                out[n++] = pattern.ptr[i++];
            continue;
        }
        if (in_class && any_case && is_letter(c)) {
            i += put_letters(rest, out, &n);
            continue;
        }
        if (c == '[' || c == ']') in_class = c == '[';
        const char *dot = dot_all ? "[\\s\\S]" : "[^\\n]";
        if (!in_class && c == '.') {
            memcpy(out + n, dot, strlen(dot));
            n += strlen(dot);
        } else if (!in_class && any_case && is_letter(c)) {
            out[n++] = '[';
            put_letters(str_slice(rest, 0, 1), out, &n);
            out[n++] = ']';
        } else {
            out[n++] = c;
        }
        i++;
    }
    return n;
}
