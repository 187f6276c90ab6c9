// The README's blocks for Kubernetes and nginx, read by the programs that they are for or by their schemas.
#include "runner.h"
#include "worker_process.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *folder_of_case(void) {
    return test_tmp_path(".");
}

static int run_check(const char *readme, const char *out) {
    char command[2048];
    snprintf(command, sizeof command, "python3 %s %s %s >%s 2>&1",
             test_root_path("tests/support/check_manifests.py"), readme, folder_of_case(), out);
    return system(command);
}

TEST(manifests_of_the_readme) {
    test_needs_plain_run();
    test_needs_python("kubernetes_validate");
    test_needs_python("cloudcoil.models.keda.v1alpha1");
    const char *out = test_tmp_path("kinds");
    int status = run_check(test_root_path("README.md"), out);
    Str kinds = process_read_file(out);
    if (status) FAIL("%.*s", STR_ARG(kinds));
    CHECK_STR_EQ("Deployment InferencePool ScaledObject Service nginx\n", kinds);
}

// The check notices what is wrong.
TEST(manifests_that_are_wrong) {
    test_needs_plain_run();
    test_needs_python("kubernetes_validate");
    test_needs_python("cloudcoil.models.keda.v1alpha1");
    static const char *const rows[] = {
        "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {selectors: {app: a}}\n",
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {replicas: 2}\n",
        "apiVersion: keda.sh/v1alpha1\nkind: ScaledObject\nmetadata: {name: a}\nspec: {scaleTargetRef: "
        "{name: a}, minReplicas: 1, triggers: []}\n",
        "apiVersion: inference.networking.k8s.io/v1\nkind: InferencePool\nmetadata: {name: a}\nspec: "
        "{selector: {matchLabels: {app: a}}, targetPorts: [{number: 8080}]}\n",
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i]);
        char text[1024];
        snprintf(text, sizeof text, "```yaml\n%s```\n", rows[i]);
        CHECK(run_check(tmp_file_write("wrong.md", text), test_tmp_path("out")) != 0);
    }
}

TEST(manifests_nginx_takes_its_block) {
    test_needs_plain_run();
    test_needs_python("kubernetes_validate");
    test_needs_python("cloudcoil.models.keda.v1alpha1");
    test_needs_program("openssl");
    char search[4096]; // where Debian has nginx, which few users look in
    snprintf(search, sizeof search, "%s:/usr/sbin", getenv("PATH") ? getenv("PATH") : "/usr/bin");
    setenv("PATH", search, 1);
    test_needs_program("nginx");
    char command[2048];
    const char *folder = folder_of_case();
    snprintf(command, sizeof command,
             "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -keyout %s/llm.key -out "
             "%s/llm.pem 2>/dev/null",
             folder, folder);
    REQUIRE(system(command) == 0);
    REQUIRE(run_check(test_root_path("README.md"), test_tmp_path("kinds")) == 0);
    snprintf(command, sizeof command,
             "set -e; ls %s/*.conf; for f in %s/*.conf; do nginx -t -p %s/ -c $f; done", folder, folder,
             folder);
    CHECK_INT_EQ(0, system(command));
}
