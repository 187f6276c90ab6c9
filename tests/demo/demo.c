// The demo of ./build.sh run: starts a worker with a model, asks it for a haiku over HTTP, and shows the text
// as it streams, how fast it came, and how to ask again.
//
//     demo PROGRAM MODEL DEVICE LOG_FILE
//
// It is a client like any other: it speaks to the worker through its port and its log alone. A model with a
// chat template is asked through /v1/chat/completions, one without through /v1/completions.
#include "http/http_client.h"
#include "json/json_reader.h"
#include "json/json_writer.h"
#include "os/os.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define QUESTION "Write a haiku about autumn."

enum { ARENA_MB = 2048, LOG_BYTES_MAX = 8 << 20, LINE_BYTES_MAX = 64 * 1024, STREAM_TIMEOUT_MS = 600 * 1000 };

typedef struct {
    const char *program, *model, *device, *log_path;
    Arena arena;
    uint64_t port;
    pid_t worker;
    uint64_t started_ns, ready_ns, asked_ns, first_token_ns;
} Demo;

__attribute__((format(printf, 1, 2))) _Noreturn static void die(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("demo: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

static double seconds_between(uint64_t from_ns, uint64_t to_ns) {
    return (double)(to_ns - from_ns) * 1e-9;
}

// ---- the worker ----

// Its log goes to a file: the terminal is the demo's.
static void start_worker(Demo *d) {
    int log = open(d->log_path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (log < 0) die("%s: %s", d->log_path, strerror(errno));
    d->started_ns = os_monotonic_ns();
    fflush(NULL);
    d->worker = fork();
    if (d->worker < 0) die("starting %s: %s", d->program, strerror(errno));
    if (d->worker == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        dup2(log, 2);
        execl(d->program, d->program, "--port", "0", "--log-format", "json", "--device", d->device, "--model",
              d->model, (char *)NULL);
        _exit(127);
    }
    close(log);
}

// The next whole line of `text`, without its end; false where there is none.
static bool take_line(Str *text, Str *line) {
    const char *end = text->len ? memchr(text->ptr, '\n', text->len) : NULL;
    if (!end) return false;
    *line = str_slice(*text, 0, (size_t)(end - text->ptr));
    *text = str_slice(*text, line->len + 1, text->len);
    return true;
}

static const JsonNode *parse(Str text, Arena *arena) {
    Error ignored;
    return json_parse(text, arena, &(JsonLimits){0}, &ignored);
}

static Str string_of(const JsonNode *object, Str key) {
    Str value = {0};
    (void)!json_read_str(json_get(object, key), &value);
    return value;
}

static double number_of(const JsonNode *object, Str key) {
    double value = 0;
    (void)!json_read_f64(json_get(object, key), &value);
    return value;
}

// Looks through the log: whether the worker is ready, on which port it listens, and its last error's message.
static bool read_log(Demo *d, Arena *scratch, Str *message) {
    Error ignored;
    Str text, line;
    bool ready = false;
    if (!os_file_read(d->log_path, LOG_BYTES_MAX, scratch, &text, &ignored)) return false;
    while (take_line(&text, &line)) {
        const JsonNode *event = parse(line, scratch);
        Str said = string_of(event, STR("message"));
        if (said.len) *message = said;
        (void)!json_read_u64(json_get(event, STR("port")), &d->port);
        ready |= str_eq(string_of(event, STR("event")), STR("ready"));
    }
    return ready;
}

static void wait_until_ready(Demo *d) {
    for (;;) {
        Arena scratch = d->arena;
        Str message = {0};
        int status;
        bool ended = waitpid(d->worker, &status, WNOHANG) != 0;
        bool ready = read_log(d, &scratch, &message);
        if (ended && message.len) die("the worker ended: %.*s", STR_ARG(message));
        if (ended) die("the worker ended; %s has what it said", d->log_path);
        if (ready) break;
        os_sleep_ms(10);
    }
    d->ready_ns = os_monotonic_ns();
}

// ---- the question ----

typedef struct {
    const char *path;
    bool is_chat;
    Str body;
} Question;

static void put_question(JsonWriter *w, bool is_chat) {
    if (!is_chat) {
        json_member_str(w, "prompt", STR(QUESTION "\n\n"));
        return;
    }
    json_key(w, "messages");
    json_open_array(w);
    json_open_object(w);
    json_member_str(w, "role", STR("user"));
    json_member_str(w, "content", STR(QUESTION));
    json_close_object(w);
    json_close_array(w);
}

static Question make_question(Demo *d, bool is_chat) {
    StrBuf out = strbuf_begin_in_arena(&d->arena);
    JsonWriter w = json_writer_begin(&out);
    json_open_object(&w);
    put_question(&w, is_chat);
    json_member_u64(&w, "max_tokens", 64);
    json_member_u64(&w, "temperature", 0);
    json_member_bool(&w, "stream", true);
    json_key(&w, "stream_options");
    json_open_object(&w);
    json_member_bool(&w, "include_usage", true);
    json_close_object(&w);
    json_close_object(&w);
    return (Question){is_chat ? "/v1/chat/completions" : "/v1/completions", is_chat,
                      strbuf_end_in_arena(&out, &d->arena)};
}

// ---- the answer ----

static void show_text(Demo *d, Str text) {
    if (!text.len) return;
    if (d->first_token_ns == 0) d->first_token_ns = os_monotonic_ns();
    fwrite(text.ptr, 1, text.len, stdout);
    fflush(stdout);
}

static void show_figures(const Demo *d, const JsonNode *usage, const JsonNode *timings) {
    printf("\n\nloaded in %.2f s, first token after %.0f ms (%.0f tokens in), %.0f tokens at %.1f tokens/s\n",
           seconds_between(d->started_ns, d->ready_ns),
           d->first_token_ns ? seconds_between(d->asked_ns, d->first_token_ns) * 1e3 : 0,
           number_of(usage, STR("prompt_tokens")), number_of(usage, STR("completion_tokens")),
           number_of(timings, STR("tokens_per_second")));
}

// One event of the stream; true for the last.
static bool show_event(Demo *d, Str data) {
    Arena scratch = d->arena;
    if (str_eq(data, STR("[DONE]"))) return true;
    const JsonNode *event = parse(data, &scratch), *error = json_get(event, STR("error"));
    const JsonNode *choices = json_get(event, STR("choices"));
    if (error) {
        Str message = string_of(error, STR("message"));
        die("the job failed: %.*s", STR_ARG(message));
    }
    if (json_is(choices, JSON_ARRAY) && choices->length) {
        const JsonNode *choice = json_first(choices), *delta = json_get(choice, STR("delta"));
        show_text(d, string_of(delta ? delta : choice, delta ? STR("content") : STR("text")));
        show_text(d, string_of(delta, STR("reasoning_content")));
    } else {
        show_figures(d, json_get(event, STR("usage")), json_get(event, STR("timings")));
    }
    return false;
}

// Shows the events in `received` that are whole and keeps the rest. True when the last one came.
static bool show_events(Demo *d, char *received, size_t *size) {
    Str left = {received, *size}, line;
    bool ended = false;
    while (!ended && take_line(&left, &line)) {
        if (str_starts_with(line, STR("data: "))) ended = show_event(d, str_slice(line, 6, line.len));
    }
    memmove(received, left.ptr, left.len);
    *size = left.len;
    return ended;
}

// False: this model takes no conversations.
static bool ask(Demo *d, const Question *question) {
    static HttpClient client;
    static char received[LINE_BYTES_MAX];
    char url[64];
    HttpClientReply reply;
    Error err;
    snprintf(url, sizeof url, "http://127.0.0.1:%llu%s", (unsigned long long)d->port, question->path);
    d->asked_ns = os_monotonic_ns();
    HttpClientRequest request = {.method = "POST",
                                 .url = str_from_c(url),
                                 .content_type = STR("application/json"),
                                 .body = question->body,
                                 .timeout_ms = STREAM_TIMEOUT_MS};
    if (!http_client_open(&client, &request, &reply, &err)) die("%s", err.message);
    if (reply.status == 400 && question->is_chat) {
        http_client_close(&client);
        return false;
    }
    if (reply.status != 200) die("the worker answered %u instead of a stream", reply.status);
    size_t size = 0, got;
    do {
        bool ok = http_client_read(&client, received + size, sizeof received - size, &got, &err);
        if (!ok || got == 0) die("the stream broke off%s%s", ok ? "" : ": ", ok ? "" : err.message);
        size += got;
    } while (!show_events(d, received, &size));
    http_client_close(&client);
    return true;
}

// ---- the end ----

static void ignore_signal(int signal) {
    (void)signal;
}

static void show_how_to_ask(const Demo *d, const Question *question, unsigned long long port, bool stays) {
    if (stays) printf("\nIts page:  http://127.0.0.1:%llu/\n\nIn a shell:\n", port);
    else // without the flag it is a GPU
        printf("\nTo ask it yourself: %s serve %s%s\nand then, in a shell\n", d->program, d->model,
               strcmp(d->device, "cpu") == 0 ? " --device cpu" : "");
    printf("\n  curl -N http://127.0.0.1:%llu%s -H 'Content-Type: application/json' -d '%.*s'\n", port,
           question->path, STR_ARG(question->body));
    if (!question->is_chat) return;
    printf("\n%s in Python (pip install openai):\n\n"
           "  from openai import OpenAI\n"
           "  client = OpenAI(base_url=\"http://127.0.0.1:%llu/v1\", api_key=\"none\")\n"
           "  print(client.chat.completions.create(model=\"any\", messages=[{\"role\": \"user\", "
           "\"content\": \"Hello\"}]).choices[0].message.content)\n",
           stays ? "Or" : "or", port);
}

// On a terminal the worker stays until Ctrl-C, which the terminal sends to it as well.
static void finish(Demo *d, const Question *question) {
    bool stays = isatty(0) && isatty(1);
    show_how_to_ask(d, question, stays ? (unsigned long long)d->port : 8080ull, stays);
    if (stays) {
        printf("\nThe worker stays up until you press Ctrl-C.\n");
        sigaction(SIGINT, &(struct sigaction){.sa_handler = ignore_signal}, NULL);
    } else {
        kill(d->worker, SIGTERM);
    }
    fflush(stdout);
    int status;
    while (waitpid(d->worker, &status, 0) < 0 && errno == EINTR)
        continue;
    if (status != 0) die("the worker did not shut down cleanly; %s has its log", d->log_path);
    printf("The worker has shut down.\n");
    unlink(d->log_path);
}

int main(int argc, char **argv) {
    os_begin_process();
    if (argc != 5) die("usage: demo PROGRAM MODEL DEVICE LOG_FILE");
    Demo d = {.program = argv[1],
              .model = argv[2],
              .device = argv[3],
              .log_path = argv[4],
              .arena = os_arena((size_t)ARENA_MB << 20)};
    if (!d.arena.next) die("the system refuses %d MB of address space", ARENA_MB);
    start_worker(&d);
    wait_until_ready(&d);
    printf("> " QUESTION "\n\n");
    Question question = make_question(&d, true);
    if (!ask(&d, &question)) {
        question = make_question(&d, false);
        (void)ask(&d, &question);
    }
    finish(&d, &question);
    return 0;
}
