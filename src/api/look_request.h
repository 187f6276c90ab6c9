// Requests that look at a text and draw nothing: how many tokens it has, which ones, what a template makes of
// it. They have no job and take no slot.
//
// The encoder thread makes the whole answer, in the request's own memory; the I/O thread sends it. So an API
// that wants to count a conversation's tokens needs three lines of `encode`:
//
//     StrBuf text = look_begin_reply(r);
//     … look_count_conversation(api, r, conversation_from_messages, &count, err), write JSON to &text …
//     return look_end_reply(r, &text, err);
//
// with `answer = look_answer`.
#pragma once

#include "api/chat_prompt.h"

StrBuf look_begin_reply(ApiRequest *r);
// ERR_INVALID_REQUEST: the answer is longer than the request's memory or than one answer may be.
MUST_CHECK bool look_end_reply(ApiRequest *r, StrBuf *text, Error *err);
// I/O thread: sends it.
void look_answer(Api *api, ApiRequest *r);

// Encoder thread: the number of tokens that a conversation's prompt has.
MUST_CHECK bool look_count_conversation(Api *api, ApiRequest *r, ConversationReader read, uint64_t *count,
                                        Error *err);

bool look_parse_tokenize(const Api *api, ApiRequest *r, uint32_t nodes_max, Error *err);
bool look_parse_detokenize(const Api *api, ApiRequest *r, uint32_t nodes_max, Error *err);
bool look_parse_template(const Api *api, ApiRequest *r, uint32_t nodes_max, Error *err);
