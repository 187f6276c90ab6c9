#include "api/auth.h"

#include "os/os.h"

static Str trim(Str s) {
    while (s.len && memchr(" \t\r", s.ptr[0], 3))
        s = str_slice(s, 1, s.len);
    while (s.len && memchr(" \t\r", s.ptr[s.len - 1], 3))
        s.len--;
    return s;
}

static bool is_token_text(Str s) {
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] <= 0x20 || s.ptr[i] == 0x7F) return false; // plain char: bytes from 0x80 on are negative
    }
    return true;
}

bool auth_parse(Str text, Auth *out, Error *err) {
    *out = (Auth){.required = true};
    for (uint32_t line = 1; text.len; line++) {
        const char *end = memchr(text.ptr, '\n', text.len);
        size_t length = end ? (size_t)(end - text.ptr) : text.len;
        Str token = trim(str_slice(text, 0, length));
        text = str_slice(text, length + (end != NULL), text.len);
        if (token.len == 0 || token.ptr[0] == '#') continue;
        if (!is_token_text(token)) {
            return error_set(err, ERR_USAGE, "line %u: a token is made of printable ASCII without spaces",
                             line);
        }
        if (out->n_tokens == AUTH_TOKENS_MAX) {
            return error_set(err, ERR_USAGE, "line %u: more than %d tokens", line, AUTH_TOKENS_MAX);
        }
        out->tokens[out->n_tokens++] = token;
    }
    return out->n_tokens || error_set(err, ERR_USAGE, "no token in it");
}

static bool take_tokens(const char *path, Str text, Auth *out, Error *err) {
    Auth fresh;
    if (!auth_parse(text, &fresh, err)) return error_prefix(err, "%s", path);
    *out = fresh;
    return true;
}

bool auth_read_file(const char *path, Arena memory, Auth *out, Error *err) {
    Str text;
    return os_file_read(path, AUTH_FILE_BYTES_MAX, &memory, &text, err) && take_tokens(path, text, out, err);
}

bool auth_reread_file(const char *path, Arena memory, Auth *out, Error *err) {
    Str text;
    return os_file_read_regular(path, AUTH_FILE_BYTES_MAX, &memory, &text, err) &&
           take_tokens(path, text, out, err);
}

// Looks at every byte of `given`, whatever the outcome.
static bool equal_in_constant_time(Str given, Str token) {
    unsigned char difference = given.len != token.len;
    for (size_t i = 0; i < given.len; i++) {
        difference |= (unsigned char)(given.ptr[i] ^ token.ptr[i % token.len]);
    }
    return difference == 0;
}

static bool is_token(const Auth *auth, Str given) {
    bool found = false;
    for (uint32_t i = 0; i < auth->n_tokens; i++)
        found |= equal_in_constant_time(given, auth->tokens[i]);
    return found;
}

bool auth_allows(const Auth *auth, const Str *header) {
    if (!auth->required) return true;
    if (!header || header->len < 7) return false;
    static const char scheme[] = "bearer ";
    for (size_t i = 0; i < 7; i++) { // the scheme's name in any case
        char c = header->ptr[i];
        if ((c >= 'A' && c <= 'Z' ? c + 32 : c) != scheme[i]) return false;
    }
    return is_token(auth, trim(str_slice(*header, 7, header->len)));
}

bool auth_allows_token(const Auth *auth, const Str *header) {
    return !auth->required || (header && is_token(auth, trim(*header)));
}
