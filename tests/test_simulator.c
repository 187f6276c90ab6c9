// The worker among invented clients: see simulator.h.
#include "os/os.h"
#include "runner.h"
#include "simulator.h"

#include <stdio.h>
#include <stdlib.h>

static void show(const SimReport *r) {
    printf("%llu requests in %llu steps and %llu virtual s: %u streams ended, %u with an error, %u busy, %u "
           "refused, %u cut off; at most %u connections and %u jobs\n",
           (unsigned long long)r->requests, (unsigned long long)r->steps,
           (unsigned long long)r->virtual_ms / 1000, r->ends, r->errors, r->busy, r->refused, r->lost,
           r->connections_most, r->jobs_most);
}

// SIMULATOR_SEED=n repeats a run; the seed is printed with any problem.
TEST_SLOW(simulator_100000_jobs, 240) {
    const char *given = getenv("SIMULATOR_SEED");
    SimConfig config = {.jobs = test_is_sanitized() ? 5000 : 100000};
    os_random(&config.seed, sizeof config.seed);
    config.seed %= 1000000000;
    if (given) config.seed = strtoull(given, NULL, 10);
    printf("seed %llu\n", (unsigned long long)config.seed);
    SimReport report, warm;
    SimConfig first = {.seed = config.seed, .jobs = config.jobs / 20};
    if (!sim_run(&first, &warm)) FAIL("%s", warm.problem);
    uint64_t before = os_resident_bytes();
    if (!sim_run(&config, &report)) FAIL("%s", report.problem);
    uint64_t grown = os_resident_bytes() - before;
    show(&report);
    printf("resident: %llu MB more than after a twentieth\n", (unsigned long long)grown / 1000000);
    CHECK(report.ends > config.jobs / 10 && report.errors > 0 && report.busy > 0 && report.lost > 0);
    CHECK_INT_EQ(24, report.jobs_most);
}

TEST(simulator_same_seed_same_run) {
    SimReport a, b, other;
    uint32_t jobs = test_is_sanitized() ? 300 : 3000;
    CHECK(sim_run(&(SimConfig){.seed = 7, .jobs = jobs}, &a));
    CHECK(sim_run(&(SimConfig){.seed = 7, .jobs = jobs}, &b));
    CHECK(sim_run(&(SimConfig){.seed = 8, .jobs = jobs}, &other));
    CHECK_U64_EQ(a.digest, b.digest);
    CHECK(a.digest != other.digest);
}

// What must be noticed is.
TEST(simulator_sees_faults) {
    static const struct {
        SimFault fault;
        const char *problem;
    } rows[] = {
        {SIM_FAULT_SWAPPED_TOKENS, "not its own text"},
        {SIM_FAULT_LOST_END, "job slots were lost"},
        {SIM_FAULT_LOST_SLOT, "slots of the engine"},
        {SIM_FAULT_FREED_PAGE, "a node is neither held nor free"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        SimReport report;
        TEST_CASE_LABEL("%s", rows[i].problem);
        CHECK(!sim_run(&(SimConfig){.seed = 1, .jobs = 3000, .fault = rows[i].fault}, &report));
        if (!CHECK(strstr(report.problem, rows[i].problem))) printf("%s\n", report.problem), show(&report);
    }
}
