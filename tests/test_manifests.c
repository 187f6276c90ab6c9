// The blocks of tests/build/dist/routers.md for Kubernetes and nginx, read by the programs that they are for
// or by their schemas.
#include "runner.h"
#include "worker_process.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// What the check says of these arguments; it ended well.
static Str run_check(const char *arguments) {
    char command[4096];
    const char *out = test_tmp_path("out"), *err = test_tmp_path("err");
    snprintf(command, sizeof command, "python3 %s %s >%s 2>%s",
             test_root_path("tests/support/check_manifests.py"), arguments, out, err);
    if (system(command) != 0) FAIL("%.*s", STR_ARG(process_read_file(err)));
    return process_read_file(out);
}

// Those, and that the check notices what is wrong.
TEST_SLOW(manifests_for_kubernetes, 180) {
    test_needs_plain_run();
    test_needs_python("kubernetes_validate");
    test_needs_python("cloudcoil.models.keda.v1alpha1");
    static const char *const wrong[] = {
        "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {selectors: {app: a}}\n",
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {replicas: 2}\n",
        "apiVersion: keda.sh/v1alpha1\nkind: ScaledObject\nmetadata: {name: a}\nspec: {scaleTargetRef: "
        "{name: a}, minReplicas: 1, triggers: []}\n",
        "apiVersion: inference.networking.k8s.io/v1\nkind: InferencePool\nmetadata: {name: a}\nspec: "
        "{selector: {matchLabels: {app: a}}, targetPorts: [{number: 8080}]}\n",
    };
    char arguments[2048];
    int length =
        snprintf(arguments, sizeof arguments, "kubernetes %s", test_root_path("tests/build/dist/routers.md"));
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        char name[16], text[1024];
        snprintf(name, sizeof name, "%zu.md", i);
        snprintf(text, sizeof text, "```yaml\n%s```\n", wrong[i]);
        length += snprintf(arguments + length, sizeof arguments - (size_t)length, " %s",
                           tmp_file_write(name, text));
    }
    CHECK_STR_EQ("Deployment InferencePool ScaledObject Service\n", run_check(arguments));
    Str found = process_read_file(test_tmp_path("err")); // a sentence for each file that is wrong
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        char name[16];
        snprintf(name, sizeof name, "/%zu.md: ", i);
        TEST_CASE_LABEL("%s", wrong[i]);
        CHECK(memmem(found.ptr, found.len, name, strlen(name)) != NULL);
    }
}

TEST(manifests_nginx_takes_its_block) {
    test_needs_plain_run();
    test_needs_program("openssl");
    char search[4096]; // where Debian has nginx, which few users look in
    snprintf(search, sizeof search, "%s:/usr/sbin", getenv("PATH") ? getenv("PATH") : "/usr/bin");
    setenv("PATH", search, 1);
    test_needs_program("nginx");
    char command[2048], arguments[2048];
    const char *folder = test_tmp_path(".");
    snprintf(command, sizeof command,
             "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -keyout %s/llm.key -out "
             "%s/llm.pem 2>/dev/null",
             folder, folder);
    REQUIRE(system(command) == 0);
    snprintf(arguments, sizeof arguments, "nginx %s %s", test_root_path("tests/build/dist/routers.md"),
             folder);
    CHECK_STR_EQ("1\n", run_check(arguments));
    snprintf(command, sizeof command,
             "set -e; ls %s/*.conf; for f in %s/*.conf; do nginx -t -p %s/ -c $f; done", folder, folder,
             folder);
    CHECK_INT_EQ(0, system(command));
}
