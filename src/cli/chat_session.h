// A conversation with a model in this process: turns, the model's answers, and what they took.
#pragma once

#include "chat/answer_parser.h"
#include "cli/model.h"
#include "cli/turns.h"
#include "engine/engine.h"
#include "text/detokenizer.h"

enum {
    CHAT_TURNS_MAX = 2048,  // that are kept; the oldest go first
    CHAT_SETTINGS_MAX = 16, // variables of the template
    CHAT_MESSAGE_BYTES_MAX = 1 << 20,
    CHAT_ANSWER_BYTES_MAX = 16 << 20,
};

typedef struct {
    const Options *options;
    Model *model;
    const ChatModel *chat;
    Engine *engine;
    Detokenizer detokenizer;
    AnswerParser *parser;
    SamplerParams sampler;
    bool keeps_seed;          // it was asked for; else each answer has one of its own
    uint32_t max_tokens;      // of an answer; 0: as many as the context has room for
    uint32_t context;         // tokens
    Arena texts, texts_empty; // of the turns; as it was at first
    Arena ids;                // scratch: a prompt's ids
    StrBuf answer, reasoning; // of the answer in the making
    StrBuf system_memory;
    ChatTurn system; // text empty: none
    ChatTurn turns[CHAT_TURNS_MAX];
    uint32_t n_turns;
    TurnsSetting settings[CHAT_SETTINGS_MAX];
    uint32_t n_settings;
} ChatSession;

// `chat` has a template. In the model's arena.
MUST_CHECK bool chat_session_init(const Options *o, Model *m, const ChatModel *chat, ChatSession *out,
                                  Error *err);

// Adds a message of the user; what is no UTF-8 in it becomes U+FFFD. ERR_USAGE: it is too long.
MUST_CHECK bool chat_session_say(ChatSession *s, Str text, Error *err);
MUST_CHECK bool chat_session_set_system(ChatSession *s, Str text, Error *err);
void chat_session_clear(ChatSession *s);
// Takes the last answer and, with `message_too`, the message before it back. False: there is none.
bool chat_session_undo(ChatSession *s, bool message_too);

// Whoever shows an answer while it comes.
typedef struct {
    void (*part)(void *context, AnswerPartKind kind, Str text); // content and reasoning
    bool (*stopped)(void *context);                             // asked between steps
    void *context;
} ChatListener;

typedef struct {
    uint32_t n_prompt, n_tokens;
    uint32_t n_dropped;                              // messages that the context had no more room for
    double first_ms;                                 // to the first token
    double per_second;                               // of those behind it
    enum { CHAT_ENDED, CHAT_STOPPED, CHAT_CUT } end; // CHAT_CUT: by max_tokens or the context
} ChatFigures;

// Has the model answer the last message, and adds the answer. After an error the message is taken back:
// ERR_USAGE (it does not fit the context), ERR_INVALID_REQUEST (the template refuses); others are for good.
MUST_CHECK bool chat_session_answer(ChatSession *s, ChatListener listener, ChatFigures *out, Error *err);
