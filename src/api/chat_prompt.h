// Conversations, for every API that has them: from a request's messages to a job, and which parts of an
// answer it shows.
#pragma once

#include "api/api_internal.h"
#include "chat/conversation.h"

// tools, tool_choice and parallel_tool_calls, as far as the fields go.
MUST_CHECK bool chat_read_calls(const JsonNode *root, GenerateRequest *g, Error *err);

// The answer has to be calls: of this tool, or where it is empty, of any.
MUST_CHECK bool chat_force_calls(Str only, GenerateRequest *g, Error *err);

// What turns a body into the variables of a template: conversation.h.
typedef bool (*ConversationReader)(const ConversationInput *in, Arena *arena, const JsonNode **variables,
                                   Error *err);

// Renders, encodes and fills the job of a request's first choice. `field` names the conversation in errors.
// Encoder thread.
MUST_CHECK bool chat_encode_job(Api *api, ApiRequest *r, ConversationReader read, const char *field, Job *job,
                                Error *err);
// The first step of it: the conversation as its template writes it, in the encoder's memory.
MUST_CHECK bool chat_render_conversation(Api *api, ApiRequest *r, ConversationReader read, TemplateText *out,
                                         Error *err);
// The first two steps: the conversation as ids, in the encoder's scratch, and the text that they were made
// of.
MUST_CHECK bool chat_encode_conversation(Api *api, ApiRequest *r, ConversationReader read, TokenIds *ids,
                                         Str *text, Arena *scratch, Error *err);

// I/O thread, when a job starts.
void chat_begin_answer(Api *api, const ApiRequest *r, ApiJob *mine, bool keeps);
// Keeps a part that is shown. In a whole answer a call that broke is content.
void chat_keep_part(const GenerateRequest *g, ApiAnswer *a, const AnswerPart *shown);
// Whether the client is shown a part, and as what: reasoning may be content, and of several calls the first
// may be enough.
bool chat_shows_part(const GenerateRequest *g, const AnswerPart *part, AnswerPart *shown);
