// The test runner: each TEST below is one case that registers itself; there is no list to maintain.
//
// Every case runs in a process of its own, so a crash, a hang or a leaked descriptor is one failure and
// nothing else. What a failing case wrote to standard output and standard error is shown; a passing case's is
// dropped.
//
//     TEST(ring_refuses_when_full) {
//         static const Row rows[] = {{"one", 1}, {"odd", 7}};
//         for (size_t i = 0; i < COUNT_OF(rows); i++) {
//             TEST_CASE_LABEL("%s", rows[i].name);
//             CHECK_INT_EQ(rows[i].capacity, fill(rows[i].capacity));
//         }
//     }
//
// A CHECK that fails is reported and the case goes on, so that one run names every bad row; REQUIRE ends the
// case. A case that ends without having checked anything fails. Checks may be made from any thread and from
// child processes of the case. Arguments are evaluated once; expected comes first; every CHECK says whether
// it held.
#pragma once

#include "base/base.h"

typedef struct {
    const char *name;
    const char *file;
    void (*function)(void);
    int timeout_seconds;
} TestCase;

enum { TEST_TIMEOUT_SECONDS = 60 };

// A case that may take `seconds` on a machine that has nothing else to do. After four times as many (twelve
// under a sanitizer) it hangs: it is killed and has failed. Those with most seconds run first.
#define TEST_SLOW(test_name, seconds)                                                                  \
    static void test_##test_name(void);                                                                \
    extern const TestCase test_case_##test_name; /* external: a name used twice does not link */       \
    const TestCase test_case_##test_name = {#test_name, __FILE__, test_##test_name, (seconds)};        \
    __attribute__((section("test_cases"), used)) static const TestCase *const test_entry_##test_name = \
        &test_case_##test_name;                                                                        \
    static void test_##test_name(void)

#define TEST(test_name) TEST_SLOW(test_name, TEST_TIMEOUT_SECONDS)

// Names the table row (or whatever comes next) in the messages of this thread's later checks; "" clears it.
#define TEST_CASE_LABEL(...) test_set_label(__VA_ARGS__)

// Ends the case as skipped, with a reason (printf format) that the run's output shows. Main thread only.
#define SKIP(...) test_skip(__VA_ARGS__)

#define CHECK(condition) test_check((condition), __FILE__, __LINE__, #condition)

// As CHECK, but a failure ends the case: for what the rest of it cannot do without. Main thread only.
#define REQUIRE(condition)       \
    do {                         \
        if (!CHECK(condition)) { \
            test_end();          \
        }                        \
    } while (0)

// A failure with a message (printf format); the case goes on.
#define FAIL(...) test_fail(__FILE__, __LINE__, __VA_ARGS__)

// Integers that fit int64_t; CHECK_U64_EQ for the rest.
#define CHECK_INT_EQ(expected, actual) \
    test_check_int((int64_t)(expected), (int64_t)(actual), __FILE__, __LINE__, #actual)
#define CHECK_U64_EQ(expected, actual) \
    test_check_u64((uint64_t)(expected), (uint64_t)(actual), __FILE__, __LINE__, #actual)

// Each side is a Str or a zero-terminated string. NULL compares as empty.
#define CHECK_STR_EQ(expected, actual) \
    test_check_str(TEST_STR(expected), TEST_STR(actual), __FILE__, __LINE__, #actual)

// Sizes in bytes; shows the first difference.
#define CHECK_BYTES_EQ(expected, expected_size, actual, actual_size)                                 \
    test_check_bytes((expected), (size_t)(expected_size), (actual), (size_t)(actual_size), __FILE__, \
                     __LINE__, #actual)

// |expected - actual| <= tolerance; a NaN on either side fails.
#define CHECK_NEAR(expected, actual, tolerance) \
    test_check_near((double)(expected), (double)(actual), (double)(tolerance), __FILE__, __LINE__, #actual)

// A time that is promised to be at most `limit_ms`. It says nothing where other programs want the processors,
// too: there it may be two minutes. What was measured is printed.
#define CHECK_SOON(limit_ms, took_ms) \
    test_check_soon((uint64_t)(limit_ms), (uint64_t)(took_ms), __FILE__, __LINE__, #took_ms)

// Paths are absolute, zero-terminated, and valid until the case ends.
//
// test_tmp_path: `name` in the case's own scratch folder, which is empty when the case starts and is removed
//     when it ends. "" gives the folder itself.
// test_data_path: a file below tests/, such as "vectors/rng.txt".
// test_root_path: a file below the project's root; "" gives the root.
// test_program_path: the worker-orcd built with the same flags as this test program.
// test_model_path: the SmolLM2-135M-Instruct GGUF; skips the case where it has not been fetched.
const char *test_tmp_path(const char *name);
const char *test_data_path(const char *name);
const char *test_root_path(const char *name);
const char *test_program_path(void);
const char *test_model_path(void);

// For cases that use a Python package, `module` of tests/requirements.txt: without it the case is skipped,
// and in CI, which installs them all, it fails.
void test_needs_python(const char *module);
// The same for one of another file of requirements.
void test_needs_python_of(const char *requirements, const char *module);
// The same for a program that .ci/run installs.
void test_needs_program(const char *name);

// Under ASan, UBSan or TSan: for cases that measure time or memory, which skip or relax their limits there.
bool test_is_sanitized(void);

// For cases in which nearly all of the time is other people's programs': skips them under a sanitizer. What
// they go through in this program has cases of its own there.
void test_needs_plain_run(void);

// What the macros above call.
// clang-format off
#define TEST_STR(value) _Generic((value), Str : test_str_from_str, default : str_from_c)(value)
// clang-format on
static inline Str test_str_from_str(Str s) {
    return s;
}
void test_set_label(const char *format, ...) PRINTF_LIKE(1, 2);
_Noreturn void test_skip(const char *format, ...) PRINTF_LIKE(1, 2);
_Noreturn void test_end(void);
void test_fail(const char *file, int line, const char *format, ...) PRINTF_LIKE(3, 4);
bool test_check(bool ok, const char *file, int line, const char *text);
bool test_check_int(int64_t expected, int64_t actual, const char *file, int line, const char *text);
bool test_check_u64(uint64_t expected, uint64_t actual, const char *file, int line, const char *text);
bool test_check_str(Str expected, Str actual, const char *file, int line, const char *text);
bool test_check_bytes(const void *expected, size_t expected_size, const void *actual, size_t actual_size,
                      const char *file, int line, const char *text);
bool test_check_soon(uint64_t limit_ms, uint64_t took_ms, const char *file, int line, const char *text);
bool test_check_near(double expected, double actual, double tolerance, const char *file, int line,
                     const char *text);
