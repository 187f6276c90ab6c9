// A conversation at the command line: turns, and the prompt that the model's chat template makes of them.
#pragma once

#include "chat/prompt.h"

typedef struct {
    const char *role; // "system", "user", "assistant"
    Str text;
    Str reasoning; // of the assistant; ptr NULL for none
} ChatTurn;

typedef struct {
    TokenIds ids;
    AnswerOpening opening;
} TurnsPrompt;

// A member of the variables that the template gets beside the turns (chat_template_kwargs).
typedef struct {
    Str name;
    JsonNode value; // no container
} TurnsSetting;

// The ids lie in the arena. Errors: the template's (ERR_INVALID_REQUEST, also where there is none),
// ERR_NO_MEMORY.
MUST_CHECK bool turns_prompt(const ChatModel *m, const ChatTurn *turns, size_t n_turns,
                             const TurnsSetting *settings, size_t n_settings, Arena *arena, TurnsPrompt *out,
                             Error *err);
