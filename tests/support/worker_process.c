#include "worker_process.h"

#include "base/strbuf.h"
#include "gguf_builder.h"
#include "http/http_client.h"
#include "json/json_reader.h"
#include "os/os.h"
#include "runner.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ARGUMENTS_MAX = 32, OUTPUT_BYTES = 1 << 20 };

Str process_read_file(const char *path) {
    Arena arena = os_arena(OUTPUT_BYTES * 4);
    Str text = {0};
    Error err;
    return os_file_read(path, OUTPUT_BYTES, &arena, &text, &err) ? text : (Str){0};
}

bool text_contains(Str text, const char *part) {
    return text.len && memmem(text.ptr, text.len, part, strlen(part)) != NULL;
}

Process process_start(const char *line, const char *const *values, const char *input_path) {
    static int serial;
    char name[32], *arguments[ARGUMENTS_MAX] = {(char *)(uintptr_t)test_program_path()}, memory[1024];
    snprintf(memory, sizeof memory, "%s", line);
    int n = 1;
    for (char *at = memory; *at && n + 1 < ARGUMENTS_MAX; at++) {
        size_t length = strcspn(at, " ");
        bool last = at[length] == 0;
        at[length] = 0;
        arguments[n++] = strcmp(at, "%") == 0 ? (char *)(uintptr_t)*values++ : at;
        at += length;
        if (last) break;
    }
    Process p = {0};
    snprintf(name, sizeof name, "out%d", ++serial);
    p.out_path = test_tmp_path(name);
    snprintf(name, sizeof name, "err%d", serial);
    p.err_path = test_tmp_path(name);
    p.pid = fork();
    REQUIRE(p.pid >= 0);
    if (p.pid > 0) return p;
    int in = open(input_path ? input_path : "/dev/null", O_RDONLY);
    int out = open(p.out_path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    int err = open(p.err_path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0) _exit(126);
    execv(arguments[0], arguments);
    _exit(127);
}

int process_wait(Process p) {
    int status = 0;
    REQUIRE(waitpid(p.pid, &status, 0) == p.pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

const char *tiny_model_file(void) {
    TinyModel model = tiny_model_llama();
    const char *path = test_tmp_path("tiny.gguf");
    tiny_model_save(&model, path);
    return path;
}

const char *tmp_file_write(const char *name, const char *text) {
    const char *path = test_tmp_path(name);
    CHECK(gguf_builder_save(str_from_c(text), path));
    return path;
}

Str process_await_event(Process p, const char *event) {
    char member[64];
    snprintf(member, sizeof member, "\"event\":\"%s\"", event);
    for (int waited_ms = 0; waited_ms < 120000; waited_ms += 5) {
        Str log = process_read_file(p.err_path);
        while (log.len) {
            const char *end = memchr(log.ptr, '\n', log.len);
            if (!end) break;
            Str line = str_slice(log, 0, (size_t)(end - log.ptr));
            if (text_contains(line, member)) return line;
            log = str_slice(log, line.len + 1, log.len);
        }
        siginfo_t info = {0};
        if (waitid(P_PID, (id_t)p.pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == p.pid)
            break;
        os_sleep_ms(5);
    }
    return (Str){0};
}

uint64_t log_line_number(Str line, const char *key) {
    Arena arena = os_arena(1 << 20);
    Error err;
    uint64_t value = 0;
    const JsonNode *root = json_parse(line, &arena, &(JsonLimits){.nodes_max = 1000}, &err);
    CHECK(root && json_read_u64(json_get(root, str_from_c(key)), &value));
    return value;
}

Server server_start(const char *model, const char *more) {
    char flags[1024];
    snprintf(flags, sizeof flags, "--device cpu --threads 1%s%s", *more ? " " : "", more);
    return server_start_with(model, flags);
}

Server server_start_with(const char *model, const char *flags) {
    char line[1024];
    snprintf(line, sizeof line, "--model %% --port 0 %s", flags);
    Server s = {.process = process_start(line, (const char *[]){model}, NULL)};
    Str ready = process_await_event(s.process, "ready");
    if (ready.len == 0) FAIL("not ready:\n%s", process_read_file(s.process.err_path).ptr), test_end();
    s.port = (uint16_t)log_line_number(ready, "port");
    return s;
}

Str server_ask(Server s, const char *method, const char *path, const char *body, uint16_t *status) {
    char url[128];
    Arena arena = os_arena(4 << 20);
    Error err;
    HttpClientReply reply = {0};
    snprintf(url, sizeof url, "http://127.0.0.1:%u%s", s.port, path);
    HttpClientRequest request = {.method = method,
                                 .url = str_from_c(url),
                                 .content_type = STR("application/json"),
                                 .body = str_from_c(body),
                                 .timeout_ms = 50000};
    if (!http_client_exchange(&request, &arena, &reply, &err)) FAIL("%s %s: %s", method, path, err.message);
    *status = reply.status;
    return reply.body;
}
