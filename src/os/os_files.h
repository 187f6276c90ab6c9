// Small files that come and go: what a cache on disk needs. Part of the operating system's header (os/os.h).
//
// Paths are zero-terminated. Errors (of os_error_code) name the path and give the system's reason.
#pragma once

#include "base/error.h"

// Makes a folder and those above it that are missing, for this user alone. One that is there already is fine.
MUST_CHECK bool os_folder_make(const char *path, Error *err);

// Writes a file so that a reader at any time, in this process or another, finds the old content, the new, or
// no file, and never a part: to a temporary name beside it first, then renamed.
MUST_CHECK bool os_file_replace(const char *path, Str content, Error *err);

// Opens a file of the user's for writing, with the permissions that the user's new files have. What it holds
// stays until os_file_finish replaces it and closes the file. So a path that cannot be written is told before
// the work begins whose outcome it is for. `is_new`: there was none, and it is empty now.
MUST_CHECK bool os_file_begin(const char *path, int *fd, bool *is_new, Error *err);
MUST_CHECK bool os_file_finish(int fd, const char *path, Str content, Error *err);

// Marks a file as used now (its modification time). Best effort.
void os_file_touch(const char *path);
// Removes a file. Best effort: another process may have been first.
void os_file_remove(const char *path);

typedef struct {
    char name[128];
    uint64_t size;
    uint64_t modified_unix_ms;
} OsFolderEntry;

// The regular files of a folder with names that fit an entry, in no order, at most `max`. A folder that
// cannot be read has none.
uint32_t os_folder_list(const char *path, OsFolderEntry *entries, uint32_t max);
