// A model opened for a command: file, plan, tokenizer, backend. In the order of the contract: the file's
// header is checked before anything else happens, then the device is opened, then the weights are loaded.
#pragma once

#include "backend/backend.h"
#include "chat/prompt.h"
#include "cli/flags.h"
#include "text/tokenizer.h"

// Why a build without CUDA does nothing on a GPU, and which one does.
#define BUILD_WITHOUT_CUDA "this build has no CUDA in it (./build.sh makes one with it)"

typedef struct {
    Arena arena; // the process arena: holds everything below
    const char *path;
    const GgufFile *file;
    const Tokenizer *tokenizer;
    Plan *plan;
    Backend *backend;
    Str name; // general.name, or the file's name
    const char *quant_kind;
    // Where the backend's warnings after load go; NULL: standard error. Set before model_open_backend.
    void (*warn)(void *context, const char *message);
    void *warn_context;
} Model;

// Maps and checks the file and reads its vocabulary, or that of --tokenizer, without which there must be a
// file; for commands that need no more.
MUST_CHECK bool model_open_vocabulary(const Options *o, Model *out, Error *err);
// That, and the plan.
MUST_CHECK bool model_open(const Options *o, Model *out, Error *err);
// How many sequences of n_context tokens each (0: the model's) a backend is for, and the most that their
// cache needs. n_slots 0: as many as the cache holds with JOB_TOKENS_USUAL tokens or one context each, at
// most JOBS_MAX, or JOBS_USUAL_CPU on the CPU.
void model_size_backend(const Options *o, const Plan *plan, uint32_t n_slots, uint32_t n_context,
                        BackendOptions *out);
// Then, where slots have a usual length: a cache for these, or for one whole context where that is more.
void model_size_small_cache(const Plan *plan, BackendOptions *out);
// Opens the device that --device names, for sequences as above.
MUST_CHECK bool model_open_backend(const Options *o, uint32_t n_slots, uint32_t n_context, Model *m,
                                   Error *err);
// After the weights were read: how much of a context of so many tokens (0: the model's) the KV cache holds,
// where --kv-cache-size-mb leaves less than half of it, which may not be what was meant; 0 elsewhere.
uint32_t model_cut_context(const Options *o, const Model *m, uint32_t n_context);
// What is given up where a library multiplies, as a sentence; nothing elsewhere.
void model_write_products(const Model *m, StrBuf *out);
// False where --kv-cache-size-mb makes a cache that holds fewer than KV_TOKENS_LEAST tokens of a text (or the
// whole context, where that is shorter): ERR_USAGE. `holds` is what it holds.
enum { KV_TOKENS_LEAST = 256 };
MUST_CHECK bool model_check_cache(const Options *o, const Plan *plan, uint32_t holds, uint32_t n_context,
                                  Error *err);
// After the weights were read: that, and false where the file was cut meanwhile.
MUST_CHECK bool model_check_loaded(const Options *o, const Model *m, uint32_t n_context, Error *err);
// All of it, with a progress bar where standard error is a terminal.
MUST_CHECK bool model_load(const Options *o, uint32_t n_slots, uint32_t n_context, Model *out, Error *err);
// The same of one that model_open has opened.
MUST_CHECK bool model_load_opened(const Options *o, uint32_t n_slots, uint32_t n_context, Model *m,
                                  Error *err);
void model_close(Model *m);

// The chat template, from --chat-template or the file. Errors: that file cannot be read, --tool-format or
// --reasoning-format name no format (ERR_USAGE). A template that is missing or does not compile is no error:
// out->missing has it.
MUST_CHECK bool model_open_chat(const Options *o, Model *m, ChatModel *out, Error *err);

// The token ids of a text, in the arena.
MUST_CHECK bool model_encode(Model *m, Str text, uint32_t flags, TokenIds *out, Error *err);
