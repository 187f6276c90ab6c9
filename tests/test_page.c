// The page at "/": how it is served, and what it does in a real browser.
#include "runner.h"

#include "api/page.h"
#include "api_client.h"
#include "base/embed.h"
#include "worker_process.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

TEST(page_is_open_and_strict) {
    static ApiPage page;
    api_page_init(&page);
    FakeWorker *f = fake_worker_start(
        &(FakeConfig){.script = "x", .tokens = "secret", .files = &page.file, .n_files = 1});
    static const struct {
        const char *name, *value;
    } rows[] = {
        {"Content-Type", "text/html; charset=utf-8"},
        {"X-Content-Type-Options", "nosniff"},
        {"Referrer-Policy", "no-referrer"},
        {"Cross-Origin-Opener-Policy", "same-origin"},
        {"Cross-Origin-Resource-Policy", "same-origin"},
        {"Cache-Control", "no-cache"},
    };
    Answer a = ask(f, "GET", "/", NULL);
    CHECK_INT_EQ(200, a.status);
    CHECK_BYTES_EQ(embedded_page.data, embedded_page.size, a.body.ptr, a.body.len);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].name);
        CHECK_STR_EQ(rows[i].value, answer_header(&a, rows[i].name));
    }
    // Whether the two hashes are those of the page's script and style, the browser says below.
    static const char *const directives[] = {
        "default-src 'none'; script-src 'sha256-",
        "; style-src 'sha256-",
        "; connect-src 'self'; ",
        "; img-src data:; ",
        "; base-uri 'none'; ",
        "; form-action 'none'; ",
        "; frame-ancestors 'none'; ",
        "; require-trusted-types-for 'script'; ",
    };
    Str policy = answer_header(&a, "Content-Security-Policy");
    for (size_t i = 0; i < COUNT_OF(directives); i++) {
        TEST_CASE_LABEL("%s", directives[i]);
        CHECK(text_contains(policy, directives[i]));
    }
    CHECK(!text_contains(policy, "unsafe") && !text_contains(policy, "*"));
    // A page that is known already keeps its policy.
    HttpHeader tag = {STR("If-None-Match"), answer_header(&a, "ETag")};
    Answer known = ask_with(fake_port(f), "GET", "/", NULL, tag);
    CHECK_INT_EQ(304, known.status);
    CHECK_STR_EQ(policy, answer_header(&known, "Content-Security-Policy"));
    HttpHeader token = {STR("Authorization"), STR("Bearer secret")};
    CHECK_INT_EQ(202, ask_with(fake_port(f), "POST", "/shutdown", "", token).status);
    fake_worker_join(f);
}

TEST(page_can_be_left_out) {
    static const struct {
        const char *flags;
        uint16_t status;
    } rows[] = {{"", 200}, {"--no-ui", 404}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].flags);
        uint16_t status;
        Server s = server_start(tiny_model_file(), rows[i].flags);
        server_ask(s, "GET", "/", "", &status);
        CHECK_INT_EQ(rows[i].status, status);
        server_ask(s, "GET", "/health", "", &status);
        CHECK_INT_EQ(200, status);
        kill(s.process.pid, SIGTERM);
        CHECK_INT_EQ(0, process_wait(s.process));
    }
}

// Sending, stopping, editing, errors, hostile answers, charts, both themes on a phone and a desktop, and what
// axe-core and markdown-it-py say: each check of tests/page/check_page.py.
TEST_SLOW(page_in_a_browser, 300) {
    test_needs_plain_run();
    test_needs_program("chromium");
    test_needs_python("playwright.sync_api, axe_playwright_python, markdown_it");
    Server s = server_start(tiny_model_file(), "");
    char command[4096];
    snprintf(command, sizeof command, "python3 %s http://127.0.0.1:%u", test_data_path("page/check_page.py"),
             s.port);
    CHECK_INT_EQ(0, system(command));
    kill(s.process.pid, SIGTERM);
    CHECK_INT_EQ(0, process_wait(s.process));
}
