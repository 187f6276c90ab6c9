// What one event of an answer's stream says, in any of the three APIs.
#pragma once

#include "http/sse_reader.h"
#include "load/load.h"

typedef enum { FINISH_NONE, FINISH_LENGTH, FINISH_STOP } FinishReason;

typedef struct {
    bool has_piece; // it brings text of the answer, of its reasoning, or of a call
    Str content;    // the answer's text in it, as it stands in JSON
    bool is_end;    // nothing follows
    FinishReason finish;
    bool has_usage;
    uint64_t prompt_tokens, output_tokens, cached_tokens;
    bool is_error;
    Str error_code, error_message;
    bool is_malformed; // no JSON
} AnswerEvent;

void answer_event_read(LoadApi api, const SseEvent *event, AnswerEvent *out);
// The code and the message of a refusal's body, in the forms that servers use; empty where there is none.
void answer_error_read(Str body, Str *code, Str *message);
