#include "backend/cuda/jit_cache.h"

#include "base/hash.h"
#include "os/os.h"
#include "os/os_files.h"

#include <stdio.h>
#include <stdlib.h>

#define SUFFIX ".cubin"
#define TEMPORARY_SUFFIX ".tmp"

enum { ENTRIES_MAX = 4096, CONTENT_BYTES_MAX = 64 << 20, TEMPORARY_AGE_MS = 3600 * 1000 };

// What a file begins with; the content follows.
typedef struct {
    char magic[8];
    uint64_t size;
    uint8_t sha256[32]; // of the content
} CacheHeader;

static const char magic[8] = "orcdjit1";

// "$XDG_CACHE_HOME/worker-orcd", or below $HOME/.cache; empty where neither is an absolute path.
static void default_folder(char out[JIT_CACHE_PATH_BYTES]) {
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int length = 0;
    out[0] = 0;
    if (cache && cache[0] == '/') length = snprintf(out, JIT_CACHE_PATH_BYTES, "%s/worker-orcd", cache);
    else if (home && home[0] == '/')
        length = snprintf(out, JIT_CACHE_PATH_BYTES, "%s/.cache/worker-orcd", home);
    if (length >= JIT_CACHE_PATH_BYTES) out[0] = 0;
}

bool jit_cache_open(const char *folder, JitCache *out, Error *problem) {
    *out = (JitCache){0};
    if (!folder) {
        default_folder(out->folder);
    } else if (strlen(folder) < sizeof out->folder) {
        memcpy(out->folder, folder, strlen(folder) + 1);
    } else {
        return error_set(problem, ERR_IO, "the cache folder's path is too long");
    }
    if (!out->folder[0] || os_folder_make(out->folder, problem)) return true;
    out->folder[0] = 0;
    return false;
}

static bool path_of(const JitCache *cache, const JitKey *key, char path[2 * JIT_CACHE_PATH_BYTES]) {
    char name[2 * sizeof key->bytes + 1];
    if (!cache->folder[0]) return false;
    hex_from_bytes(key->bytes, sizeof key->bytes, name);
    snprintf(path, 2 * JIT_CACHE_PATH_BYTES, "%s/%s" SUFFIX, cache->folder, name);
    return true;
}

static void hash_content(Str content, uint8_t digest[32]) {
    Sha256 h;
    sha256_begin(&h);
    sha256_add(&h, content.ptr, content.len);
    sha256_end(&h, digest);
}

// The content of a file, if its header is true.
static bool check_file(Str file, Str *content) {
    CacheHeader header;
    uint8_t digest[32];
    if (file.len < sizeof header) return false;
    memcpy(&header, file.ptr, sizeof header);
    *content = str_slice(file, sizeof header, file.len);
    if (memcmp(header.magic, magic, sizeof magic) != 0 || header.size != content->len) return false;
    hash_content(*content, digest);
    return memcmp(digest, header.sha256, sizeof digest) == 0;
}

bool jit_cache_load(const JitCache *cache, const JitKey *key, Arena *arena, Str *out, Error *problem) {
    char path[2 * JIT_CACHE_PATH_BYTES];
    problem->code = ERR_NONE;
    if (!path_of(cache, key, path)) return false;
    Arena before = *arena;
    Str file;
    Error missing; // as a rule, or not ours, which is as good: there is nothing to say about it
    arena->next = (uint8_t *)align_up((uint64_t)(uintptr_t)arena->next, 64);
    if (!os_file_read_own(path, CONTENT_BYTES_MAX, arena, &file, &missing)) {
        *arena = before;
        return false;
    }
    if (check_file(file, out)) {
        os_file_touch(path);
        return true;
    }
    *arena = before;
    return error_set(problem, ERR_IO, "%s is damaged; its kernel is compiled again", path);
}

bool jit_cache_store(const JitCache *cache, const JitKey *key, Str content, Arena scratch, Error *problem) {
    char path[2 * JIT_CACHE_PATH_BYTES];
    if (!path_of(cache, key, path)) return true;
    CacheHeader header = {.size = content.len};
    memcpy(header.magic, magic, sizeof magic);
    hash_content(content, header.sha256);
    size_t size = sizeof header + content.len;
    char *file = arena_new(&scratch, char, size);
    if (!file)
        return error_set(problem, ERR_NO_MEMORY, "a compiled kernel of %zu bytes is too large for the cache",
                         size);
    memcpy(file, &header, sizeof header);
    memcpy(file + sizeof header, content.ptr, content.len);
    return os_file_replace(path, (Str){file, size}, problem);
}

static void remove_entry(const JitCache *cache, OsFolderEntry *entry) {
    char path[2 * JIT_CACHE_PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s", cache->folder, entry->name);
    os_file_remove(path);
    entry->size = 0;
}

void jit_cache_trim(const JitCache *cache, uint64_t max_bytes, Arena scratch) {
    OsFolderEntry *entries = cache->folder[0] ? arena_new(&scratch, OsFolderEntry, ENTRIES_MAX) : NULL;
    if (!entries) return;
    uint32_t n = os_folder_list(cache->folder, entries, ENTRIES_MAX), n_kept = 0;
    uint64_t total = 0, now = os_unix_ms();
    for (uint32_t i = 0; i < n; i++) {
        Str name = str_from_c(entries[i].name);
        bool half_written = str_ends_with(name, STR(TEMPORARY_SUFFIX));
        if (half_written && entries[i].modified_unix_ms + TEMPORARY_AGE_MS < now)
            remove_entry(cache, &entries[i]);
        if (!str_ends_with(name, STR(SUFFIX))) continue; // not ours
        total += entries[i].size;
        entries[n_kept++] = entries[i];
    }
    while (total > max_bytes) {
        OsFolderEntry *oldest = &entries[0];
        for (uint32_t i = 1; i < n_kept; i++) {
            if (oldest->size == 0 ||
                (entries[i].size && entries[i].modified_unix_ms < oldest->modified_unix_ms)) {
                oldest = &entries[i];
            }
        }
        if (oldest->size == 0) return;
        total -= oldest->size;
        remove_entry(cache, oldest);
    }
}
