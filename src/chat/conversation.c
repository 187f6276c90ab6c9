#include "chat/conversation.h"

#include "template/chat_template.h"

bool conversation_from_chat(const ConversationInput *in, Arena *arena, const JsonNode **variables,
                            Error *err) {
    return chat_template_variables(in->root, arena, variables, err);
}
