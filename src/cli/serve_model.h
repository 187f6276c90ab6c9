// What the HTTP interface tells clients of the model, read off its file: its name, its usual sampling, its
// chat template, and what tells it from others.
#pragma once

#include "api/api.h"
#include "cli/model.h"

typedef struct {
    Str served_model;
    SamplingDefaults sampling; // `general.sampling.*` of the file
    Str unused_sampling;       // what is out of range there (sampling_of_file)
    ChatModel chat;
    uint64_t content_hash;
    uint64_t model_bytes, n_params;
} ServeModel;

// In the model's arena. Errors: --chat-template's file cannot be read, --tool-format or --reasoning-format
// name no format (ERR_USAGE). A template that does not compile is no error: ServeModel.chat.missing has it.
MUST_CHECK bool serve_model_open(const Options *o, Model *m, ServeModel *out, Error *err);
