#include "api/files.h"

#include "base/hash.h"

void api_file_tag(const ApiFile *file, char out[API_FILE_TAG_BYTES]) {
    Sha256 hash;
    uint8_t digest[32];
    sha256_begin(&hash);
    sha256_add(&hash, file->data, file->size);
    sha256_end(&hash, digest);
    out[0] = '"';
    hex_from_bytes(digest, 8, out + 1);
    out[17] = '"';
    out[18] = 0;
}

static Str trim(Str s) {
    while (s.len && (s.ptr[0] == ' ' || s.ptr[0] == '\t'))
        s = str_slice(s, 1, s.len);
    while (s.len && (s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\t'))
        s.len--;
    return s;
}

bool api_file_is_known(Str list, Str tag) {
    while (list.len) {
        const char *comma = memchr(list.ptr, ',', list.len);
        size_t length = comma ? (size_t)(comma - list.ptr) : list.len;
        Str one = trim(str_slice(list, 0, length));
        list = str_slice(list, comma ? length + 1 : list.len, list.len);
        if (str_eq(one, STR("*"))) return true;
        if (str_starts_with(one, STR("W/"))) one = str_slice(one, 2, one.len);
        if (str_eq(one, tag)) return true;
    }
    return false;
}
