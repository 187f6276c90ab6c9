// Requests that look at a text and draw nothing: how many tokens it has, which ones, what a template makes of
// it. They have no job and take no slot.
//
// The encoder thread makes the whole answer, in the request's own memory (look_begin_reply … look_end_reply);
// the I/O thread sends it (look_answer).
#pragma once

#include "api/chat_prompt.h"

StrBuf look_begin_reply(ApiRequest *r);
// ERR_INVALID_REQUEST: the answer is longer than the request's memory or than one answer may be.
MUST_CHECK bool look_end_reply(ApiRequest *r, StrBuf *text, Error *err);
// I/O thread: sends it.
void look_answer(Api *api, ApiRequest *r);

bool look_parse_tokenize(const Api *api, ApiRequest *r, uint32_t nodes_max, Error *err);
bool look_parse_detokenize(const Api *api, ApiRequest *r, uint32_t nodes_max, Error *err);
bool look_parse_template(const Api *api, ApiRequest *r, uint32_t nodes_max, Error *err);
