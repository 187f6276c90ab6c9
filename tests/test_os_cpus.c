// How many processors a process may use: affinity, and the limits of control groups.
#include "os/os.h"
#include "runner.h"

#include <sched.h>
#include <stdio.h>
#include <sys/stat.h>

typedef struct {
    const char *path, *text;
} FileRow;

enum { FILES_MAX = 4 };

static void write_tree(const char *root, const FileRow *files) {
    char path[1024];
    for (size_t i = 0; i < FILES_MAX && files[i].path; i++) {
        snprintf(path, sizeof path, "%s/%s", root, files[i].path);
        for (char *slash = path + strlen(test_tmp_path("")); (slash = strchr(slash + 1, '/'));) {
            *slash = 0;
            (void)mkdir(path, 0700);
            *slash = '/';
        }
        FILE *file = fopen(path, "w");
        REQUIRE(file != NULL);
        fputs(files[i].text, file);
        fclose(file);
    }
}

// clang-format off
#define GROUP(text) \
    { "proc/self/cgroup", text }
// clang-format on
#define V2(path) "sys/fs/cgroup/" path "cpu.max"
#define V1_QUOTA(at) "sys/fs/cgroup/" at "/cpu.cfs_quota_us"
#define V1_PERIOD(at) "sys/fs/cgroup/" at "/cpu.cfs_period_us"

TEST(os_cpu_quota_of_control_groups) {
    // clang-format off
    static const struct {
        const char *name;
        uint32_t expected;
        FileRow files[FILES_MAX];
    } rows[] = {
        {"nothing", 0, {{0}}},
        {"v2, no limit", 0, {GROUP("0::/\n"), {V2(""), "max 100000\n"}}},
        {"v2, one and a half", 2, {GROUP("0::/\n"), {V2(""), "150000 100000\n"}}},
        {"v2, less than one", 1, {GROUP("0::/\n"), {V2(""), "10000 100000\n"}}},
        {"v2, three exactly", 3, {GROUP("0::/a/b\n"), {V2("a/b/"), "300000 100000\n"}}},
        {"v2, the parent's is tighter", 2,
         {GROUP("0::/a/b\n"), {V2("a/b/"), "800000 100000\n"}, {V2("a/"), "200000 100000\n"}}},
        {"v2, named as the host does", 4, {GROUP("0::/host/pod\n"), {V2(""), "400000 100000\n"}}},
        {"v2 beside v1", 5,
         {GROUP("2:cpuset:/\n0::/x\n"), {"sys/fs/cgroup/unified/x/cpu.max", "500000 100000\n"}}},
        {"v1, no limit", 0,
         {GROUP("3:memory:/x\n2:cpu,cpuacct:/x\n"), {V1_QUOTA("cpu/x"), "-1\n"}, {V1_PERIOD("cpu/x"), "100000\n"}}},
        {"v1, two", 2,
         {GROUP("3:memory:/x\n2:cpu,cpuacct:/x\n"), {V1_QUOTA("cpu,cpuacct/x"), "200000\n"},
          {V1_PERIOD("cpu,cpuacct/x"), "100000\n"}}},
        {"v1, another controller's", 0,
         {GROUP("3:cpuset:/x\n"), {V1_QUOTA("cpu/x"), "200000\n"}, {V1_PERIOD("cpu/x"), "100000\n"}}},
        {"nonsense", 0, {GROUP(":\n\n0\n0::\n"), {V2(""), "x\n"}}},
    };
    // clang-format on
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char root[512];
        TEST_CASE_LABEL("%s", rows[i].name);
        snprintf(root, sizeof root, "%s/%zu", test_tmp_path(""), i);
        write_tree(root, rows[i].files);
        CHECK_INT_EQ(rows[i].expected, os_cpu_quota(root));
    }
}

TEST(os_cpu_count_is_of_the_affinity) {
    cpu_set_t one;
    CHECK(os_cpu_count() >= 1);
    CPU_ZERO(&one);
    CPU_SET((size_t)sched_getcpu(), &one);
    REQUIRE(sched_setaffinity(0, sizeof one, &one) == 0);
    CHECK_INT_EQ(1, os_cpu_count());
}
