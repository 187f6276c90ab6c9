// What a line that begins with "/" does, at a terminal.
#pragma once

#include "cli/chat_session.h"

typedef enum {
    CHAT_COMMAND_DONE,
    CHAT_COMMAND_ANSWER, // the last message is to be answered (again)
    CHAT_COMMAND_QUIT,
} ChatCommandResult;

// What there is to say about it is appended to `out`: whole lines, or nothing.
ChatCommandResult chat_command(ChatSession *s, Str line, StrBuf *out);
