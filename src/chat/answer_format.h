// How a model writes tool calls and reasoning into its answers: which formats there are, and which of them a
// model uses.
//
// A format is a row of a const table (answer_format.c). Which row holds is found from the text of the model's
// chat template, which has to write earlier calls as the model does, and from the vocabulary.
//
// A format's marks ("<tool_call>") are tokens of the vocabulary in most models. Such a mark counts by its id
// alone: text that spells it stays text, since it came from elsewhere. Where the vocabulary lacks a mark, its
// text counts.
#pragma once

#include "base/strbuf.h"
#include "text/tokenizer.h"

typedef struct ToolFormat ToolFormat;
typedef struct ReasoningFormat ReasoningFormat;

enum { ANSWER_MARKS_MAX = 32 };

typedef struct {
    const ToolFormat *tools;          // NULL: the model calls no tools, or in no way that is read here
    const ReasoningFormat *reasoning; // NULL: none
    int32_t marks[ANSWER_MARKS_MAX];  // ids of the tokens that are marks of the two formats; ascending
    uint32_t n_marks;
} AnswerFormats;

// `tool_name` and `reasoning_name` are "auto", "none" or the name of a row. NULL and "auto": from the texts
// of the template and of the one for conversations with tools, which is often the same (empty: there is
// none). `t` may be NULL: all marks are text then. A name that no row has is ERR_USAGE with the flag's name
// as field, and the message lists the rows.
MUST_CHECK bool answer_formats_find(Str template_source, Str with_tools, const Tokenizer *t,
                                    const char *tool_name, const char *reasoning_name, AnswerFormats *out,
                                    Error *err);

// Whether both names are known; errors as above.
MUST_CHECK bool answer_formats_check(const char *tool_name, const char *reasoning_name, Error *err);

// The names of the rows, from index 0 on; NULL behind the last.
const char *answer_tool_format_at(uint32_t index);
const char *answer_reasoning_format_at(uint32_t index);

// The names of all tool formats, with commas between.
void answer_put_tool_formats(StrBuf *out);

// "hermes", "think", …; "none".
const char *answer_tool_format_name(const AnswerFormats *f);
const char *answer_reasoning_format_name(const AnswerFormats *f);

// Whether drawing this token is for answer_parser_push_mark.
bool answer_is_mark(const AnswerFormats *f, int32_t token);

// Where a prompt leaves the model.
typedef enum {
    ANSWER_OPENS_CONTENT,
    ANSWER_OPENS_REASONING, // the template has opened the reasoning, as with "<think>\n" at its end
    ANSWER_OPENS_HEADER,    // the model first says what follows: a channel, or a function's name
} AnswerOpening;

AnswerOpening answer_opening(const AnswerFormats *f, Str rendered_prompt);
