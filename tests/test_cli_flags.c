// The command line: values, errors, help; the table of flags walked row by row.
#include "base/strbuf.h"
#include "cli/flags.h"
#include "runner.h"

#include <ctype.h>
#include <stddef.h>
#include <stdio.h>

enum { WORDS_MAX = 64 };

// Environment of the case at hand: "NAME=value" pairs.
static const char *const *environment;

static const char *test_get_env(const char *name) {
    for (const char *const *pair = environment; pair && *pair; pair++) {
        size_t length = strlen(name);
        if (strncmp(*pair, name, length) == 0 && (*pair)[length] == '=') return *pair + length + 1;
    }
    return NULL;
}

// Splits at single spaces; words live in `memory`.
static int split(const char *line, char *memory, size_t size, char **words) {
    int n = 0;
    words[n++] = "worker-orcd";
    snprintf(memory, size, "%s", line);
    for (char *at = memory; *at && n < WORDS_MAX; at++) {
        words[n++] = at;
        at += strcspn(at, " ");
        if (!*at) break;
        *at = 0;
    }
    return n;
}

static bool parse(const char *line, Options *out, Error *err) {
    static char memory[1024];
    char *words[WORDS_MAX];
    int n = split(line, memory, sizeof memory, words);
    return flags_parse(n, words, test_get_env, out, err);
}

static const struct {
    const char *line;
    const char *message;
} error_rows[] = {
    {"", "--model: required; write: worker-orcd serve PATH.gguf"},
    {"run --prompt x", "--model: required; write: worker-orcd run PATH.gguf"},
    {"perplexity text.txt", "--model: required; write: worker-orcd perplexity PATH.gguf"},
    {"--model", "--model: needs a value: --model PATH"},
    {"--model=", "--model \"\": must not be empty"},
    {"--model file:", "--model file:: must not be empty"},
    {"--model a --model b", "--model: given twice"},
    {"--modle a", "--modle: no such flag; did you mean --model?"},
    {"--frobnicate", "--frobnicate: no such flag"},
    {"--model a --temp 1", "--temp: no such flag; each request has its own: its field temperature"},
    {"run --model a --temp 1", "--temp: no such flag; write --temperature"},
    {"serve a --prot 9", "--prot: no such flag; did you mean --port?"},
    {"serve a -c 4096", "-c: no such flag; the context is the model's own; --max-tokens-in and "
                        "--max-tokens-out make prompts and "
                        "answers shorter, --kv-cache-size-mb the cache smaller"},
    {"serve a --max-model-len=4096", "--max-model-len: no such flag; the context is the model's own; "
                                     "--max-tokens-in and --max-tokens-out make "
                                     "prompts and answers shorter, --kv-cache-size-mb the cache smaller"},
    {"run a --ctx-size 4096",
     "--ctx-size: no such flag; the context is the model's own; --kv-cache-size-mb makes the cache smaller"},
    {"serve a -ngl 99",
     "-ngl: no such flag; the whole model is always on the GPU; --device cpu computes on the CPU"},
    {"chat a --n-gpu-layers 99",
     "--n-gpu-layers: no such flag; the whole model is always on the GPU; --device cpu computes on the CPU"},
    {"serve a -np 4", "-np: no such flag; write --max-jobs"},
    {"serve a --max-num-seqs 4", "--max-num-seqs: no such flag; write --max-jobs"},
    {"serve a --threads-http 4",
     "--threads-http: no such flag; one thread answers all connections, so there is no such number"},
    {"serve a -n 4", "-n: no such flag; write --max-tokens-out"},
    {"serve a --tool-call-parser hermes",
     "--tool-call-parser: no such flag; write --tool-format NAME; without it, the chat template says which"},
    {"tokenize a -ngl 4", "-ngl: no such flag; flags of more than a letter begin with two dashes"},
    {"--list-architectures --json",
     "--json: no such flag; a worker answers over HTTP; what this command prints (--list-architectures, "
     "--list-formats) is text"},
    {"-model a", "-model: write --model, with two dashes"},
    {"-port=1", "-port=1: write --port, with two dashes"},
    {"-x", "-x: no such flag; flags of more than a letter begin with two dashes"},
    {"-v", "-v: write --version, or --log-level debug for a longer log"},
    {"-m", "--model: needs a value: --model PATH"},
    {"-m a -m b", "--model: given twice"},
    {"-m a -p 99999", "--port 99999: must be a whole number from 0 to 65535"},
    {"a.gguf", "a.gguf: to serve this model, write: worker-orcd serve a.gguf"},
    {"file:a", "file:a: to serve this model, write: worker-orcd serve file:a"},
    {"nonsense", "nonsense: no such command"},
    {"help nonsense", "nonsense: no such command"},
    {"sevre a.gguf", "sevre: no such command; did you mean serve?"},
    {"--model a run", "run: this word is one too many; a command comes before everything else"},
    {"serve a b", "b: this word is one too many"},
    {"help serve extra", "extra: this word is one too many"},
    {"serve --model a b", "b: this word is one too many; the model was given already"},
    {"run a b c", "c: this word is one too many; put a text of several words in quotes"},
    {"run a b --prompt c", "b: this word would be the prompt, which a flag gives already"},
    {"run -m a b c", "c: this word is one too many; the model was given already"},
    {"perplexity a.gguf", "FILE: required; write: worker-orcd perplexity MODEL FILE"},
    {"devices a", "a: this word is one too many"},
    {"rnu --model a", "rnu: no such command; did you mean run?"},
    {"serve", "--model: required; write: worker-orcd serve PATH.gguf"},
    {"--model a --port 65536", "--port 65536: must be a whole number from 0 to 65535"},
    {"--model a --port -1", "--port -1: must be a whole number from 0 to 65535"},
    {"--model a --port 80x", "--port 80x: must be a whole number from 0 to 65535"},
    {"--model a --port 99999999999999999999",
     "--port 99999999999999999999: must be a whole number from 0 to 65535"},
    {"--model a --worker-id 42",
     "--worker-id 42: must be a UUID such as 123e4567-e89b-42d3-a456-426614174000"},
    {"--model a --worker-id 123e4567-e89b-42d3-a456-42661417400g",
     "--worker-id 123e4567-e89b-42d3-a456-42661417400g: must be a UUID such as "
     "123e4567-e89b-42d3-a456-426614174000"},
    {"--model a --device gpu", "--device gpu: must be one of cuda|cpu"},
    {"--model a --device cud", "--device cud: must be one of cuda|cpu"},
    {"--model a --log-format xml", "--log-format xml: must be one of auto|text|json"},
    {"--model a --max-jobs 0", "--max-jobs 0: must be a whole number from 1 to 64"},
    {"--model a --temperature 1",
     "--temperature: not a flag of 'worker-orcd serve'; it belongs to 'worker-orcd run'"},
    {"run --model a --port 1", "--port: not a flag of 'worker-orcd run'; it belongs to 'worker-orcd serve'"},
    {"run --model a --temperature 2.1", "--temperature 2.1: must be a number from 0 to 2"},
    {"run --model a --temperature nan", "--temperature nan: must be a number from 0 to 2"},
    {"run --model a --seed 18446744073709551616",
     "--seed 18446744073709551616: must be a whole number from 0 to 18446744073709551615"},
    {"run --model a"
     " --stop a --stop b --stop c --stop d --stop e --stop f --stop g --stop h --stop i --stop j --stop k "
     "--stop l"
     " --stop m --stop n --stop o --stop p --stop q",
     "--stop q: may be given at most 16 times"},
    {"run --model a --prompt x --file y", "--prompt, --file: give one of them, not both"},
    {"run --model a --system x", "--system: needs --chat"},
    {"run --model a --chat=perhaps", "--chat perhaps: must be true or false"},
    {"bench --model a --batch 1,,2",
     "--batch 1,,2: must be at most 16 whole numbers, separated by commas, from 1 to 64"},
    {"bench --model a --batch 1,65",
     "--batch 1,65: must be at most 16 whole numbers, separated by commas, from 1 to 64"},
    {"bench --model a --batch 1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1",
     "--batch 1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1: must be at most 16 whole numbers, separated by commas, "
     "from 1 to "
     "64"},
    {"perplexity --model a", "FILE: required; write: worker-orcd perplexity MODEL FILE"},
    {"inspect", "FILE: required; write: worker-orcd inspect FILE"},
};

TEST(cli_flags_errors_name_flag_value_and_what_is_allowed) {
    for (size_t i = 0; i < COUNT_OF(error_rows); i++) {
        TEST_CASE_LABEL("%s", error_rows[i].line);
        Options o;
        Error err = {0};
        CHECK(!parse(error_rows[i].line, &o, &err));
        CHECK_STR_EQ(error_rows[i].message, (const char *)err.message);
        CHECK_INT_EQ(2, error_info(err.code)->exit_code);
    }
}

TEST(cli_flags_defaults_of_the_contract) {
    Options o;
    Error err;
    REQUIRE(parse("--model file:/m/a.gguf", &o, &err));
    CHECK_INT_EQ(CMD_SERVE, o.command);
    CHECK_STR_EQ("/m/a.gguf", o.model);
    CHECK_INT_EQ(DEVICE_CUDA, o.device);
    CHECK_INT_EQ(0, o.gpu_device);
    CHECK_STR_EQ("127.0.0.1", o.host);
    CHECK_INT_EQ(8080, o.port);
    CHECK_INT_EQ(2048, o.max_tokens_out);
    CHECK_INT_EQ(0, o.max_tokens_in);
    CHECK_INT_EQ(300, o.inference_timeout_sec);
    CHECK_INT_EQ(0, o.max_jobs);
    CHECK(o.worker_id == NULL && o.callback_url == NULL && o.api_token_file == NULL);
    CHECK(!options_given(&o, FLAG_PORT) && options_given(&o, FLAG_MODEL));
}

TEST(cli_flags_values) {
    Options o;
    Error err;
    REQUIRE(parse(
        "run --model=a --chat --temperature=0.5 --top-k 7 --seed 18446744073709551615 --stop x --stop y", &o,
        &err));
    CHECK_INT_EQ(CMD_RUN, o.command);
    CHECK(o.chat);
    CHECK_NEAR(0.5, o.temperature, 0);
    CHECK_NEAR(1, o.top_p, 0);
    CHECK_INT_EQ(7, o.top_k);
    CHECK_U64_EQ(UINT64_MAX, o.seed);
    CHECK(options_given(&o, FLAG_SEED));
    REQUIRE(CHECK_INT_EQ(2, o.stop.count));
    CHECK_STR_EQ("y", o.stop.values[1]);
    REQUIRE(parse("bench --model a --context 1,20,300 --json", &o, &err));
    REQUIRE(CHECK_INT_EQ(3, o.bench_context.count));
    CHECK_INT_EQ(300, o.bench_context.values[2]);
    CHECK_INT_EQ(2, o.bench_prompt_tokens.count);
    CHECK(o.json);
    REQUIRE(parse("perplexity --model a --context 64 text.txt", &o, &err));
    CHECK_INT_EQ(64, o.ppl_context);
    CHECK_STR_EQ("text.txt", o.file);
    REQUIRE(parse("inspect -- --odd.gguf", &o, &err));
    CHECK_STR_EQ("--odd.gguf", o.file);
}

// Words beside flags, and flags of one letter.
TEST(cli_flags_words) {
    static const char *const with_model[] = {"WORKER_ORCD_MODEL=/e.gguf", NULL};
    static const struct {
        const char *line, *model, *prompt, *file;
        Command command;
        bool in_environment; // a model is
    } rows[] = {
        {"serve a", "a", NULL, NULL, CMD_SERVE, false},
        {"serve file:a --port 1", "a", NULL, NULL, CMD_SERVE, false},
        {"serve", "/e.gguf", NULL, NULL, CMD_SERVE, true},
        {"serve b.gguf", "b.gguf", NULL, NULL, CMD_SERVE, true},
        {"-m a -p 80", "a", NULL, NULL, CMD_SERVE, false},
        {"run a", "a", NULL, NULL, CMD_RUN, false},
        {"run a text", "a", "text", NULL, CMD_RUN, false},
        {"run --top-k 1 a -n 3 text -s 7", "a", "text", NULL, CMD_RUN, false},
        {"run -m a text", "a", "text", NULL, CMD_RUN, false},
        {"run -m a -p text -t 1", "a", "text", NULL, CMD_RUN, false},
        {"run text", "/e.gguf", "text", NULL, CMD_RUN, true},
        {"run b.gguf", "b.gguf", NULL, NULL, CMD_RUN, true},
        {"run b.gguf text", "b.gguf", "text", NULL, CMD_RUN, true},
        {"run a -- -text", "a", "-text", NULL, CMD_RUN, false},
        {"bench a -n 3", "a", NULL, NULL, CMD_BENCH, false},
        {"tokenize a", "a", NULL, NULL, CMD_TOKENIZE, false},
        {"perplexity a t.txt", "a", NULL, "t.txt", CMD_PERPLEXITY, false},
        {"perplexity t.txt -m a", "a", NULL, "t.txt", CMD_PERPLEXITY, false},
        {"perplexity t.txt", "/e.gguf", NULL, "t.txt", CMD_PERPLEXITY, true},
        {"inspect a.gguf", NULL, NULL, "a.gguf", CMD_INSPECT, false},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        Options o;
        Error err;
        TEST_CASE_LABEL("%s", rows[i].line);
        environment = rows[i].in_environment ? with_model : NULL;
        if (!CHECK(parse(rows[i].line, &o, &err))) {
            FAIL("%s", err.message);
            continue;
        }
        CHECK_INT_EQ(rows[i].command, o.command);
        CHECK_STR_EQ(rows[i].model, o.model);
        CHECK_STR_EQ(rows[i].prompt, o.prompt);
        CHECK_STR_EQ(rows[i].file, o.file);
        CHECK(options_given(&o, FLAG_PROMPT) == (rows[i].prompt != NULL));
    }
}

TEST(cli_flags_help_of_commands) {
    Options o;
    Error err;
    CHECK(parse("help", &o, &err) && o.help && o.command == CMD_SERVE);
    for (Command c = 0; c < CMD_COUNT; c++) {
        char line[64];
        TEST_CASE_LABEL("%s", command_name(c));
        snprintf(line, sizeof line, "help %s", command_name(c));
        CHECK(parse(line, &o, &err) && o.help && o.command == c);
    }
}

// The command lines that help texts end with are right.
TEST(cli_flags_examples_are_right) {
    for (Command c = 0; c < CMD_COUNT; c++) {
        for (uint32_t i = 0; i < 2; i++) {
            char line[256];
            Options o;
            Error err;
            REQUIRE(command_example(c, i) != NULL);
            TEST_CASE_LABEL("%s", command_example(c, i));
            snprintf(line, sizeof line, "%s", command_example(c, i));
            line[strcspn(line, "<")] = 0;
            char *quoted = strchr(line, '"');
            for (char *at = quoted; at && *at; at++) // one word
                if (*at == ' ') *at = '_';
            Str trimmed = {line, strlen(line)};
            while (trimmed.len && trimmed.ptr[trimmed.len - 1] == ' ')
                line[--trimmed.len] = 0;
            if (!CHECK(parse(line, &o, &err))) FAIL("%s", err.message);
            CHECK_INT_EQ(c, o.command);
        }
        CHECK(command_example(c, 2) == NULL);
    }
}

// Help texts break them so that they can be copied: joined at the backslashes they are whole again.
TEST(cli_flags_examples_can_be_copied) {
    static char text[32 * 1024];
    static const uint32_t widths[] = {60, 80};
    for (Command c = 0; c < CMD_COUNT; c++) {
        for (size_t w = 0; w < COUNT_OF(widths); w++) {
            char joined[1024] = "", expected[1024];
            StrBuf out = STRBUF(text), all = STRBUF(joined);
            TEST_CASE_LABEL("%s at %u", command_name(c), widths[w]);
            flags_write_help(&out, c, widths[w], false);
            const char *at = strstr(text, "\nExamples\n");
            REQUIRE(at != NULL);
            for (at += strlen("\nExamples\n"); *at; at++) {
                static const char goes_on[] = "\\\n  ";
                if (strncmp(at, goes_on, strlen(goes_on)) == 0) at += strlen(goes_on);
                strbuf_put_char(&all, *at);
            }
            snprintf(expected, sizeof expected, "  worker-orcd %s\n  worker-orcd %s\n", command_example(c, 0),
                     command_example(c, 1));
            CHECK_STR_EQ(expected, strbuf_str(&all));
        }
    }
}

TEST(cli_flags_unknown_variables) {
    static char *const names[] = {"PATH=/bin",
                                  "WORKER_ORCD_PROT=1",
                                  "WORKER_ORCD_MODEL=a",
                                  "WORKER_ORCD_TEMPERATURE=1",
                                  "WORKER_ORCD_SERVICE_HOST=10.0.0.1",
                                  "WORKER_ORCD_PORT_8080_TCP=tcp://10.0.0.1:8080",
                                  "WORKER_ORCD_NONSENSE_OF_ITS_OWN",
                                  NULL};
    static const char *const sentences[] = {
        "WORKER_ORCD_PROT is set, and no flag is called so; did you mean WORKER_ORCD_PORT?",
        "WORKER_ORCD_NONSENSE_OF_ITS_OWN is set, and no flag is called so"};
    char text[256];
    size_t at = 0, n = 0;
    for (StrBuf out = STRBUF(text); flags_next_unknown_variable(names, &at, &out); out = STRBUF(text), n++) {
        REQUIRE(n < COUNT_OF(sentences));
        CHECK_STR_EQ(sentences[n], strbuf_str(&out));
    }
    CHECK_INT_EQ(2, n);
    static const char *const service[] = {"WORKER_ORCD_PORT=tcp://10.0.0.1:8080", NULL};
    Options o;
    Error err;
    environment = service;
    CHECK(!parse("--model a", &o, &err) && strstr(err.message, "enableServiceLinks"));
}

TEST(cli_flags_environment_twins) {
    static const char *const good[] = {"WORKER_ORCD_PORT=9000", "WORKER_ORCD_MODEL=/e.gguf",
                                       "WORKER_ORCD_TEMPERATURE=nonsense", NULL};
    static const char *const bad[] = {"WORKER_ORCD_MAX_JOBS=many", "WORKER_ORCD_MODEL=/e.gguf", NULL};
    static const char *const flag[] = {"WORKER_ORCD_JSON=yes", "WORKER_ORCD_MODEL=/e.gguf", NULL};
    Options o;
    Error err;
    environment = good; // the temperature is not a flag of serving, so its twin is not read
    REQUIRE(parse("", &o, &err));
    CHECK_INT_EQ(9000, o.port);
    CHECK_STR_EQ("/e.gguf", o.model);
    CHECK(options_given(&o, FLAG_PORT));
    REQUIRE(parse("--port 1 --model b", &o, &err));
    CHECK_INT_EQ(1, o.port);
    CHECK_STR_EQ("b", o.model);
    environment = bad;
    CHECK(!parse("", &o, &err));
    CHECK_STR_EQ("WORKER_ORCD_MAX_JOBS=many: must be a whole number from 1 to 64", (const char *)err.message);
    environment = flag;
    REQUIRE(parse("tokenize", &o, &err));
    CHECK(o.json);
}

TEST(cli_flags_help_wins_over_other_errors) {
    Options o;
    Error err;
    CHECK(parse("run --nonsense --help", &o, &err) && o.help && o.command == CMD_RUN);
    CHECK(parse("-h", &o, &err) && o.help);
    CHECK(parse("--version", &o, &err) && o.version && !o.help);
    CHECK(parse("--list-architectures", &o, &err) && o.list_architectures);
    CHECK(parse("--list-formats", &o, &err) && o.list_formats);
}

// Every row of flags.def: shown by the help of each command it belongs to, and nowhere wider than the
// terminal.
TEST(cli_flags_help_shows_every_flag) {
    static const struct {
        const char *name;
        const char *fallback;
        uint32_t commands;
        const char *help;
    } rows[] = {
#define FLAG(id, name, type, field, least, most, fallback, value_name, group, commands, help) \
    {name, fallback, commands, help},
#include "cli/flags.def"
#undef FLAG
    };
    static char text[32 * 1024];
    static const uint32_t widths[] = {60, 80, 100};
    for (Command c = 0; c < CMD_COUNT; c++) {
        for (size_t w = 0; w < COUNT_OF(widths); w++) {
            StrBuf out = STRBUF(text);
            flags_write_help(&out, c, widths[w], false);
            CHECK(!out.truncated);
            for (const char *line = text; *line; line += strcspn(line, "\n") + 1) {
                TEST_CASE_LABEL("%s at %u: %.*s", command_name(c), widths[w], (int)strcspn(line, "\n"), line);
                CHECK(strcspn(line, "\n") <= widths[w]);
            }
            for (size_t i = 0; i < COUNT_OF(rows); i++) {
                char flag[64];
                TEST_CASE_LABEL("%s in the help of '%s'", rows[i].name, command_name(c));
                snprintf(flag, sizeof flag, "\n  --%s", rows[i].name);
                const char *at = strstr(text, flag);
                bool belongs = false;
                for (size_t k = 0; k < COUNT_OF(rows);
                     k++) // two flags of different commands may share a name
                    belongs =
                        belongs || (strcmp(rows[k].name, rows[i].name) == 0 && rows[k].commands >> c & 1u);
                // Flags that all commands take are left out where they have no effect.
                bool may_miss = strcmp(rows[i].name, "model") == 0 || strcmp(rows[i].name, "device") == 0 ||
                                strcmp(rows[i].name, "gpu-device") == 0;
                while (at && strchr(" ,\n", at[strlen(flag)]) == NULL)
                    at = strstr(at + 1, flag);
                CHECK((at != NULL) == belongs || (may_miss && belongs));
                CHECK(rows[i].help[0] >= '0' && rows[i].help[0] <= 'z' &&
                      !str_ends_with(str_from_c(rows[i].help), STR(".")));
            }
        }
    }
}

// ---- each flag's environment twin ----

static const char *twin_name, *twin_value;

static const char *get_twin(const char *name) {
    return strcmp(name, twin_name) == 0 ? twin_value : NULL;
}

typedef struct {
    const char *name, *type;
    size_t offset, size; // of its field of Options
    double least;
    const char *fallback, *value_name;
    uint32_t commands;
} TwinRow;

static const TwinRow twin_rows[] = {
#define FLAG(id, name, type, field, least, most, fallback, value_name, group, commands, help)     \
    {name,       #type,   offsetof(Options, field), sizeof((Options *)0)->field, least, fallback, \
     value_name, commands},
#include "cli/flags.def"
#undef FLAG
};

// A value that is not the default, and one that is refused.
typedef struct {
    char good[64], other[64];
    const char *bad;
} TwinValues;

static TwinValues twin_values(const TwinRow *row) {
    static const struct {
        const char *type, *good, *other, *bad;
    } rows[] = {
        {"SWITCH", "true", "false", "perhaps"},
        {"F64", "0.5", "0.25", "x"},
        {"LIST", "3,4", "5", "3,"},
        {"UUID", "123e4567-e89b-42d3-a456-426614174000", "00000000-e89b-42d3-a456-426614174000", "42"},
        {"CHOICE", "", "", "neither"},
        {"U32", "", "", "x"},
        {"U64", "", "", "-1"},
        {"STR", "text", "others", ""},
        {"STRS", "text", "others", ""},
        {"PATH", "text", "others", ""},
    };
    TwinValues v = {.bad = NULL};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        if (strcmp(rows[i].type, row->type) != 0) continue;
        snprintf(v.good, sizeof v.good, "%s", rows[i].good);
        snprintf(v.other, sizeof v.other, "%s", rows[i].other);
        v.bad = rows[i].bad;
    }
    REQUIRE(v.bad != NULL);
    if (strcmp(row->name, "tool-format") == 0 || strcmp(row->name, "reasoning-format") == 0) {
        snprintf(v.good, sizeof v.good, "none"); // names of formats
        snprintf(v.other, sizeof v.other, "auto");
    }
    if (row->type[0] == 'U' && row->type[1] != 'U') {
        snprintf(v.good, sizeof v.good, "%.0f", row->least + 9);
        snprintf(v.other, sizeof v.other, "%.0f", row->least + 8);
    } else if (row->type[0] == 'C') { // the last and the first one
        snprintf(v.good, sizeof v.good, "%s", strrchr(row->value_name, '|') + 1);
        snprintf(v.other, sizeof v.other, "%.*s", (int)strcspn(row->value_name, "|"), row->value_name);
    }
    return v;
}

// The words of a command line that lacks nothing but the flag itself.
static int twin_words(const TwinRow *row, Command c, char **words) {
    int n = 0;
    words[n++] = "worker-orcd";
    words[n++] = (char *)(uintptr_t)command_name(c);
    if (strcmp(row->name, "model") != 0) words[n++] = "--model=m";
    if (c == CMD_LOAD && strcmp(row->name, "server") != 0) words[n++] = "--server=http://h";
    bool is_of_chat = strcmp(row->name, "system") == 0 || strcmp(row->name, "chat-template") == 0;
    if (c == CMD_RUN && is_of_chat) words[n++] = "--chat";
    if (c == CMD_PERPLEXITY || c == CMD_INSPECT) words[n++] = "a-file";
    return n;
}

static void check_twin(const TwinRow *row, Command c) {
    static Options by_flag, by_twin, both;
    const char *field[] = {(char *)&by_flag + row->offset, (char *)&by_twin + row->offset,
                           (char *)&both + row->offset};
    char name[64], flag[80], start[80], *words[8];
    int n = twin_words(row, c, words);
    TwinValues v = twin_values(row);
    Error err = {0};
    StrBuf b = STRBUF(name);
    strbuf_put(&b, STR("WORKER_ORCD_"));
    for (const char *at = row->name; *at; at++)
        strbuf_put_char(&b, *at == '-' ? '_' : (char)toupper((unsigned char)*at));
    TEST_CASE_LABEL("%s of '%s'", name, command_name(c));
    snprintf(flag, sizeof flag, "--%s=%s", row->name, v.good);
    words[n] = flag;
    twin_name = "";
    REQUIRE(flags_parse(n + 1, words, get_twin, &by_flag, &err));
    // The flag wins.
    twin_name = name;
    twin_value = v.other;
    CHECK(flags_parse(n + 1, words, get_twin, &both, &err) && memcmp(field[0], field[2], row->size) == 0);
    // The twin alone does the same: with the same text, so that pointers to it are equal, too.
    twin_value = flag + strlen(row->name) + 3;
    if (!flags_parse(n, words, get_twin, &by_twin, &err)) FAIL("%s", err.message);
    CHECK(memcmp(field[0], field[1], row->size) == 0);
    CHECK_BYTES_EQ(&by_flag.given, sizeof by_flag.given, &by_twin.given, sizeof by_twin.given);
    // What is wrong is told by the twin's name.
    twin_value = v.bad;
    CHECK(!flags_parse(n, words, get_twin, &both, &err));
    snprintf(start, sizeof start, "%s=%s: ", name, *v.bad ? v.bad : "\"\"");
    CHECK_STR_EQ(start, str_slice(str_from_c(err.message), 0, strlen(start)));
    CHECK_INT_EQ(2, error_info(err.code)->exit_code);
}

// (--help and --version are for people.)
TEST(contract_every_flag_has_an_environment_twin) {
    uint32_t checked = 0;
    for (size_t i = 0; i < COUNT_OF(twin_rows); i++) {
        if (strcmp(twin_rows[i].name, "help") == 0 || strcmp(twin_rows[i].name, "version") == 0) continue;
        for (Command c = 0; c < CMD_COUNT; c++) {
            if (!(twin_rows[i].commands >> c & 1u)) continue;
            if (c == CMD_LOAD && strcmp(twin_rows[i].name, "model") == 0) continue; // below
            check_twin(&twin_rows[i], c);
            checked++;
        }
    }
    CHECK(checked > 50);
    TEST_CASE_LABEL("%s", "a path is not load's model");
    char *words[] = {(char[]){"worker-orcd"}, (char[]){"load"}, (char[]){"--server=http://h"}};
    Options o;
    Error err;
    twin_name = "WORKER_ORCD_MODEL";
    twin_value = "model.gguf";
    CHECK(flags_parse(3, words, get_twin, &o, &err) && !o.load_model && !o.model);
}
