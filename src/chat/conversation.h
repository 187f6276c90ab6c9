// What a request of each API says, as the variables that a chat template knows.
//
// The variables hold "messages" in the shape that Hugging Face's templates expect (content as a string,
// tool_calls[].function.arguments as an object, the results of tools as messages of role tool), "tools" in
// chat completions' shape or null, "documents", "add_generation_prompt", "continue_final_message", and what
// the request passes on by name: reasoning_effort, enable_thinking, chat_template_kwargs (these win).
//
// Nothing is guessed: what a text model cannot take (images, sounds, files), tools that run on a server, and
// whatever would change the answer if it were left out is refused by name. All errors of a request are
// ERR_INVALID_REQUEST, with the place as err->field and in front of the message:
//
//     messages[3].content[1].type: "image_url" is not supported; this model reads text alone
//
// Time and memory are linear in the body. Variables live in the arena; their strings point into the body or
// the arena. Any thread.
#pragma once

#include "json/json_reader.h"

enum {
    // Values in all of a request's tool arguments, which come as JSON within strings.
    CONVERSATION_ARGUMENT_NODES_MAX = 1 << 20,
};

typedef struct {
    const JsonNode *root;       // the request's body
    const char *developer_role; // what a message of role developer becomes: "developer" where the template
                                // knows it, else "system". NULL: "system"
    bool content_parts;         // the template reads content as a list of parts alone
    bool no_null_content;       // the template would print a content that is null; it gets an empty one
} ConversationInput;

// OpenAI's chat completions: messages, tools, tool_choice (where it is "none" the tools are hidden),
// documents, reasoning_effort, add_generation_prompt, continue_final_message, chat_template_kwargs.
MUST_CHECK bool conversation_from_chat(const ConversationInput *in, Arena *arena, const JsonNode **variables,
                                       Error *err);

// OpenAI's Responses: instructions; input as a string or as items (message, function_call,
// function_call_output, reasoning); tools of the flat shape; reasoning.effort. What refers to stored answers
// is refused: nothing is stored here.
MUST_CHECK bool conversation_from_responses(const ConversationInput *in, Arena *arena,
                                            const JsonNode **variables, Error *err);

// Anthropic's Messages: system as a string or as blocks; messages with text, tool_use, tool_result, thinking
// and redacted_thinking blocks; tools with input_schema; thinking; output_config.effort. A last message of
// the assistant is continued.
MUST_CHECK bool conversation_from_messages(const ConversationInput *in, Arena *arena,
                                           const JsonNode **variables, Error *err);
