#include "os/os_files.h"

#include "os/os.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

bool os_folder_make(const char *path, Error *err) {
    char part[PATH_MAX];
    size_t length = strlen(path);
    if (length >= sizeof part) return error_set(err, ERR_IO, "%s: the path is too long", path);
    for (size_t i = 1; i <= length; i++) {
        if (path[i] != '/' && path[i] != 0) continue;
        memcpy(part, path, i);
        part[i] = 0;
        if (mkdir(part, 0700) == 0 || errno == EEXIST) continue;
        return error_set(err, os_error_code(errno), "%s: cannot be made: %s", part, strerror(errno));
    }
    struct stat info;
    if (stat(path, &info) == 0 && S_ISDIR(info.st_mode)) return true;
    return error_set(err, ERR_IO, "%s: is not a folder", path);
}

bool os_file_replace(const char *path, Str content, Error *err) {
    char temporary[PATH_MAX];
    uint32_t random;
    os_random(&random, sizeof random);
    int length = snprintf(temporary, sizeof temporary, "%s.%08x.tmp", path, random);
    if (length < 0 || (size_t)length >= sizeof temporary) {
        return error_set(err, ERR_IO, "%s: the path is too long", path);
    }
    int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return error_set(err, os_error_code(errno), "%s: cannot be made: %s", temporary, strerror(errno));
    bool ok = os_write(fd, content);
    ok = close(fd) == 0 && ok;
    ok = ok && rename(temporary, path) == 0;
    if (ok) return true;
    error_fill(err, ERR_IO, ERROR_NO_POSITION, "%s: cannot be written: %s", path, strerror(errno));
    unlink(temporary);
    return false;
}

static bool os_file_fail(const char *path, Error *err) {
    return error_set(err, os_error_code(errno), "%s: cannot be written: %s", path, strerror(errno));
}

bool os_file_begin(const char *path, int *fd, bool *is_new, Error *err) {
    *fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    *is_new = *fd >= 0;
    if (*fd < 0 && errno == EEXIST) *fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    return *fd >= 0 || os_file_fail(path, err);
}

bool os_file_finish(int fd, const char *path, Str content, Error *err) {
    int cut = ftruncate(fd, 0); // a pipe has no length
    (void)cut;
    bool ok = os_write(fd, content);
    if (!ok) (void)os_file_fail(path, err);
    if (close(fd) != 0 && ok) ok = os_file_fail(path, err);
    return ok;
}

void os_file_touch(const char *path) {
    utimensat(AT_FDCWD, path, NULL, 0);
}

void os_file_remove(const char *path) {
    unlink(path);
}

static uint64_t modified_ms(const struct stat *info) {
    return (uint64_t)info->st_mtim.tv_sec * 1000 + (uint64_t)info->st_mtim.tv_nsec / 1000000;
}

uint32_t os_folder_list(const char *path, OsFolderEntry *entries, uint32_t max) {
    DIR *folder = opendir(path);
    if (!folder) return 0;
    uint32_t n = 0;
    for (struct dirent *entry; n < max && (entry = readdir(folder)) != NULL;) {
        OsFolderEntry *e = &entries[n];
        struct stat info;
        size_t length = strlen(entry->d_name);
        if (length >= sizeof e->name) continue;
        if (fstatat(dirfd(folder), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(info.st_mode))
            continue;
        memcpy(e->name, entry->d_name, length + 1);
        e->size = (uint64_t)info.st_size;
        e->modified_unix_ms = modified_ms(&info);
        n++;
    }
    closedir(folder);
    return n;
}
