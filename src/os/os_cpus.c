#include "os/os.h"

#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

// Where the two versions of control groups are mounted, as systemd and container engines do.
static const char *const v2_folders[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};
static const char *const v1_folders[] = {"/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct",
                                         "/sys/fs/cgroup/cpuacct,cpu"};

// A short text file; false where there is none.
static bool read_small(const char *path, char *out, size_t size) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t length = read(fd, out, size - 1);
    close(fd);
    out[length > 0 ? length : 0] = 0;
    return length > 0;
}

// v1 writes -1 for no limit, and v2 a word.
static uint32_t divide_up(long long quota, long long period) {
    if (quota <= 0 || period <= 0) return 0;
    return (uint32_t)min_u64(((uint64_t)quota - 1) / (uint64_t)period + 1, UINT32_MAX);
}

// v2: "max 100000" or "150000 100000" in one file.
static uint32_t quota_v2(const char *folder) {
    char path[PATH_MAX], text[64], *end;
    if (snprintf(path, sizeof path, "%s/cpu.max", folder) >= (int)sizeof path) return 0;
    if (!read_small(path, text, sizeof text)) return 0;
    long long quota = strtoll(text, &end, 10);
    return divide_up(quota, strtoll(end, NULL, 10));
}

static uint32_t quota_v1(const char *folder) {
    char path[PATH_MAX], quota[64], period[64];
    if (snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", folder) >= (int)sizeof path) return 0;
    if (!read_small(path, quota, sizeof quota)) return 0;
    if (snprintf(path, sizeof path, "%s/cpu.cfs_period_us", folder) >= (int)sizeof path) return 0;
    if (!read_small(path, period, sizeof period)) return 0;
    return divide_up(strtoll(quota, NULL, 10), strtoll(period, NULL, 10));
}

static uint32_t tighter(uint32_t a, uint32_t b) {
    return a && (!b || a < b) ? a : b;
}

// The least of a group's and its parents' limits. A container may see its own group as the mounted folder
// while /proc names it as the host does; then only the mounted folder is there.
static uint32_t quota_upwards(const char *mounted, Str group, uint32_t (*read_quota)(const char *folder)) {
    char folder[PATH_MAX];
    uint32_t least = read_quota(mounted);
    while (group.len > 0) {
        int length = snprintf(folder, sizeof folder, "%s%.*s", mounted, STR_ARG(group));
        if (length < (int)sizeof folder) least = tighter(least, read_quota(folder));
        while (group.len > 0 && group.ptr[group.len - 1] != '/')
            group.len--;
        if (group.len > 0) group.len--; // the slash
    }
    return least;
}

static bool has_cpu_controller(Str names) {
    for (size_t begin = 0, i = 0; i <= names.len; i++) {
        if (i < names.len && names.ptr[i] != ',') continue;
        if (str_eq(str_slice(names, begin, i), STR("cpu"))) return true;
        begin = i + 1;
    }
    return false;
}

// A line of /proc/self/cgroup: "0::/group" for v2, "4:cpu,cpuacct:/group" for v1.
static uint32_t quota_of_line(const char *root, Str line) {
    const char *first = line.len ? memchr(line.ptr, ':', line.len) : NULL;
    if (!first) return 0;
    Str rest = str_slice(line, (size_t)(first + 1 - line.ptr), line.len);
    const char *second = rest.len ? memchr(rest.ptr, ':', rest.len) : NULL;
    if (!second) return 0;
    size_t length = (size_t)(second - rest.ptr);
    Str controllers = str_slice(rest, 0, length), group = str_slice(rest, length + 1, rest.len);
    bool is_v2 = controllers.len == 0;
    if (!is_v2 && !has_cpu_controller(controllers)) return 0;
    char mounted[PATH_MAX];
    uint32_t least = 0;
    for (size_t i = 0; i < (is_v2 ? COUNT_OF(v2_folders) : COUNT_OF(v1_folders)); i++) {
        snprintf(mounted, sizeof mounted, "%s%s", root, is_v2 ? v2_folders[i] : v1_folders[i]);
        least = tighter(least, quota_upwards(mounted, group, is_v2 ? quota_v2 : quota_v1));
    }
    return least;
}

uint32_t os_cpu_quota(const char *root) {
    char path[PATH_MAX], text[4096];
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    if (!read_small(path, text, sizeof text)) return 0;
    uint32_t least = 0;
    for (Str left = str_from_c(text); left.len;) {
        const char *newline = memchr(left.ptr, '\n', left.len);
        size_t length = newline ? (size_t)(newline - left.ptr) : left.len;
        least = tighter(least, quota_of_line(root, str_slice(left, 0, length)));
        left = str_slice(left, length + (newline != NULL), left.len);
    }
    return least;
}

static uint32_t affinity_count(void) {
    // The second one is for machines of more than 1,024 processors.
    static const size_t sizes[] = {sizeof(cpu_set_t), 8 * sizeof(cpu_set_t)};
    cpu_set_t sets[8];
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        memset(sets, 0, sizeof sets);
        if (sched_getaffinity(0, sizes[i], sets) == 0) return (uint32_t)CPU_COUNT_S(sizes[i], sets);
    }
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (uint32_t)online : 1;
}

uint32_t os_cpu_count(void) {
    uint32_t count = affinity_count(), quota = os_cpu_quota("");
    return quota && quota < count ? quota : count;
}
