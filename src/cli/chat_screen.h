// A conversation on a terminal: a line editor, answers that stream with words wrapped, and commands.
#pragma once

#include "cli/chat_session.h"

// Standard input and output are a terminal. Returns when the user leaves; errors are for good.
MUST_CHECK bool converse_on_screen(ChatSession *s, Error *err);

// What an answer took, on standard error where that is a terminal.
void chat_print_figures(const ChatFigures *f);

// Whether text may be styled: NO_COLOR is empty or not set.
bool chat_may_style(void);
