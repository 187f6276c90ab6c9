// Names that other servers and programs for models have taught people to type, and what does it here: the
// first row of a name and a command counts.
#include "cli/flags_table.h"

#define ENGINE (1u << CMD_SERVE | 1u << CMD_RUN | 1u << CMD_CHAT | 1u << CMD_BENCH | 1u << CMD_PERPLEXITY)
#define SERVE (1u << CMD_SERVE)
#define ASK (1u << CMD_RUN | 1u << CMD_CHAT)

enum { SPELLINGS_MAX = 6 };

static const struct {
    const char *spellings[SPELLINGS_MAX]; // without dashes
    uint32_t commands;
    const char *hint;
} rows[] = {
    {{"c", "ctx-size", "max-model-len", "num-ctx"},
     SERVE,
     "the context is the model's own; --max-tokens-in and --max-tokens-out make prompts and answers shorter, "
     "--kv-cache-size-mb the cache smaller"},
    {{"c", "ctx-size", "max-model-len", "num-ctx"}, 1u << CMD_PERPLEXITY, "write --context"},
    {{"c", "ctx-size", "max-model-len", "num-ctx"},
     ENGINE,
     "the context is the model's own; --kv-cache-size-mb makes the cache smaller"},
    {{"ngl", "n-gpu-layers", "gpu-layers", "cpu-offload-gb"},
     ENGINE,
     "the whole model is always on the GPU; --device cpu computes on the CPU"},
    {{"np", "parallel", "max-num-seqs"}, SERVE, "write --max-jobs"},
    {{"threads-http", "api-server-count"},
     SERVE,
     "one thread answers all connections, so there is no such number"},
    {{"b", "batch-size", "ub", "ubatch-size", "max-num-batched-tokens"},
     SERVE,
     "the worker chooses the rows of a step itself; --max-jobs says how many jobs run at once"},
    {{"cb", "cont-batching", "fa", "flash-attn", "enable-prefix-caching", "enable-chunked-prefill"},
     ENGINE,
     "this is always on; leave it out"},
    {{"jinja", "enable-auto-tool-choice", "metrics", "slots", "props"},
     SERVE,
     "this is always on; leave it out"},
    {{"mlock", "no-mmap", "load-format"},
     ENGINE,
     "weights are read from the file into the device's memory; leave it out"},
    {{"gpu-memory-utilization", "mem-fraction-static"},
     ENGINE,
     "the cache takes what the context needs and the device has; --kv-cache-size-mb sets its size in MB"},
    {{"ctk", "cache-type-k", "ctv", "cache-type-v", "kv-cache-dtype"},
     ENGINE,
     "write --kv-cache-type f16 or q8"},
    {{"dtype", "quantization"}, ENGINE, "weights stay in the formats that the file has; leave it out"},
    {{"tensor-parallel-size", "tp", "pipeline-parallel-size", "sm", "split-mode", "ts"},
     ENGINE,
     "a model is on one GPU; --gpu-device N says which"},
    {{"mg", "main-gpu"}, ENGINE, "write --gpu-device"},
    {{"hf", "hf-repo", "hf-file", "mu", "model-url"},
     ENGINE,
     "nothing is fetched from a network: name a GGUF file with --model"},
    {{"a", "alias"}, SERVE, "write --served-model-name"},
    {{"api-key", "api-key-file"}, SERVE, "write --api-token-file FILE, with a token a line"},
    {{"chat-template-file"}, SERVE | ASK, "write --chat-template FILE"},
    {{"tool-call-parser"}, SERVE, "write --tool-format NAME; without it, the chat template says which"},
    {{"reasoning-parser"},
     SERVE | 1u << CMD_CHAT,
     "write --reasoning-format NAME; without it, the chat template says which"},
    {{"n", "n-predict", "predict"}, SERVE, "write --max-tokens-out"},
    {{"n-predict", "predict"}, ASK, "write --max-tokens"},
    {{"temp"}, SERVE, "each request has its own: its field temperature"},
    {{"temp"}, ASK, "write --temperature"},
    {{"repeat-penalty"}, ASK, "write --repetition-penalty"},
    {{"sys", "system-prompt"}, ASK, "write --system"},
    {{"cnv", "conversation", "interactive", "i"}, 1u << CMD_RUN, "write worker-orcd chat MODEL"},
    {{"json"},
     SERVE,
     "a worker answers over HTTP; what this command prints (--list-architectures, "
     "--list-formats) is text"},
    {{"trust-remote-code"}, ENGINE, "the GGUF file has all that is needed; leave it out"},
};

const char *flag_foreign_hint(Str name, Command command) {
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        if (!(rows[i].commands >> command & 1u)) continue;
        for (size_t k = 0; k < SPELLINGS_MAX && rows[i].spellings[k]; k++)
            if (str_eq(name, str_from_c(rows[i].spellings[k]))) return rows[i].hint;
    }
    return NULL;
}
