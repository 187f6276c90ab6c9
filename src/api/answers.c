#include "api/answers.h"

#include "chat/json_check.h"
#include "os/os.h"

typedef struct {
    uint32_t kind;
    uint32_t call;
    uint32_t size; // of what follows
} Head;

// A token's text and head, and its log-probabilities, which may be wanted for each.
enum {
    KEPT_BYTES_A_TOKEN = 64 + (int)sizeof(TokenLogprobs) + 2 * (int)sizeof(Head),
    KEPT_TOUCHED = 64 * 1024,
    PAGE_BYTES = 4096
};

uint64_t answer_memory_bytes(uint32_t max_tokens_out, const Tokenizer *t) {
    uint64_t piece = max_u64(64, tokenizer_piece_bytes_max(t));
    uint64_t kept =
        min_u64(max_tokens_out * (piece + KEPT_BYTES_A_TOKEN) + KEPT_TOUCHED, ANSWER_KEPT_BYTES_MAX);
    return kept + PAGE_BYTES + answer_parser_bytes() + 64;
}

bool answer_create(ApiAnswer *a, Arena *memory) {
    uint64_t parser = answer_parser_bytes() + 64;
    Arena kept;
    *a = (ApiAnswer){0};
    if (arena_left(memory) < parser) return false;
    a->capacity = (arena_left(memory) - parser) & ~(size_t)(PAGE_BYTES - 1);
    if (!arena_split(memory, a->capacity, &kept)) return false;
    a->kept = (char *)kept.next;
    a->parser = answer_parser_create(memory);
    return a->parser != NULL;
}

void answer_begin(ApiAnswer *a, bool keeps) {
    *a = (ApiAnswer){.parser = a->parser,
                     .kept = a->kept,
                     .capacity = a->capacity,
                     .keeps = keeps,
                     .item = ANSWER_ITEM_NONE};
}

void answer_release(ApiAnswer *a) {
    if (a->size > KEPT_TOUCHED) os_discard(a->kept, a->capacity);
    a->size = a->last = 0;
}

static char *keep(ApiAnswer *a, Head head) {
    if (a->is_full || a->capacity - a->size < sizeof head + head.size) {
        a->is_full = true;
        return NULL;
    }
    a->last = a->size;
    memcpy(a->kept + a->size, &head, sizeof head);
    a->size += sizeof head + head.size;
    return a->kept + a->last + sizeof head;
}

static bool is_text(KeptKind kind) {
    return kind == KEPT_CONTENT || kind == KEPT_REASONING || kind == KEPT_CALL_ARGUMENTS;
}

// Behind the newest part, where that is of the same kind.
static bool extend(ApiAnswer *a, KeptKind kind, uint32_t call, Str text) {
    Head head;
    if (!a->size || a->is_full || !is_text(kind)) return false;
    memcpy(&head, a->kept + a->last, sizeof head);
    if (head.kind != (uint32_t)kind || head.call != call || a->capacity - a->size < text.len) return false;
    memcpy(a->kept + a->size, text.ptr, text.len);
    a->size += text.len;
    head.size += (uint32_t)text.len;
    memcpy(a->kept + a->last, &head, sizeof head);
    return true;
}

void answer_keep(ApiAnswer *a, KeptKind kind, uint32_t call, Str text) {
    if (!a->keeps || (text.len == 0 && is_text(kind)) || extend(a, kind, call, text)) return;
    char *at = keep(a, (Head){(uint32_t)kind, call, (uint32_t)text.len});
    if (at && text.len) memcpy(at, text.ptr, text.len);
}

void answer_keep_token(ApiAnswer *a, const TokenLogprobs *logprobs, bool in_reasoning) {
    if (!a->keeps) return;
    size_t size = offsetof(TokenLogprobs, best) + logprobs->n_best * sizeof logprobs->best[0];
    char *at = keep(a, (Head){KEPT_TOKEN, in_reasoning, (uint32_t)size});
    if (at) memcpy(at, logprobs, size);
    a->tokens++;
}

void answer_unmake_call(ApiAnswer *a, uint32_t call, Str text) {
    for (size_t at = 0; at < a->size;) {
        Head head;
        memcpy(&head, a->kept + at, sizeof head);
        bool is_its = head.kind == KEPT_CALL || head.kind == KEPT_CALL_ARGUMENTS;
        if (is_its && head.call == call) {
            head.kind = KEPT_NOTHING;
            memcpy(a->kept + at, &head, sizeof head);
        }
        at += sizeof head + head.size;
    }
    answer_keep(a, KEPT_CONTENT, 0, text);
}

bool answer_next(const ApiAnswer *a, size_t *at, KeptPart *out) {
    Head head;
    do {
        if (*at >= a->size) return false;
        memcpy(&head, a->kept + *at, sizeof head);
        *at += sizeof head + head.size;
    } while (head.kind == KEPT_NOTHING);
    const char *bytes = a->kept + *at - head.size;
    *out = (KeptPart){.kind = (KeptKind)head.kind, .call = head.call};
    if (out->kind == KEPT_TOKEN) memcpy(&out->logprobs, bytes, head.size);
    else out->text = (Str){bytes, head.size};
    return true;
}

bool answer_has(const ApiAnswer *a, KeptKind kind) {
    KeptPart part;
    for (size_t at = 0; answer_next(a, &at, &part);) {
        if (part.kind == kind) return true;
    }
    return false;
}

// ---- items ----

bool answer_begins_item(const AnswerItem *newest, KeptKind kind) {
    if (kind == KEPT_CALL) return true;
    bool is_run = kind == KEPT_CONTENT || kind == KEPT_REASONING;
    return is_run && (newest->index == UINT32_MAX || newest->kind != kind);
}

bool answer_next_item(const ApiAnswer *a, AnswerItem *item) {
    AnswerItem next = {.index = item->index + 1, .begins = item->ends};
    KeptPart part;
    bool found = false;
    for (size_t at = item->ends; answer_next(a, &at, &part);) {
        if (part.kind == KEPT_TOKEN) continue;
        if (answer_begins_item(found ? &next : item, part.kind)) {
            if (found) break;
            found = true;
            next.kind = part.kind;
            next.call = part.call;
            if (part.kind == KEPT_CALL) next.name = part.text;
        }
        if (found) next.ends = at;
    }
    if (found) *item = next;
    return found;
}

bool answer_next_of_item(const ApiAnswer *a, const AnswerItem *item, size_t *at, KeptPart *out) {
    return *at < item->ends && answer_next(a, at, out);
}

bool answer_call_is_whole(const ApiAnswer *a, const AnswerItem *call) {
    JsonCheck check = json_check_begin();
    bool is_first = true, is_done = false;
    KeptPart part;
    for (size_t at = call->begins; answer_next_of_item(a, call, &at, &part);) {
        size_t taken;
        if (part.kind != KEPT_CALL_ARGUMENTS || part.text.len == 0) continue;
        if (is_done || (is_first && part.text.ptr[0] != '{')) return false;
        JsonCheckState state = json_check_push(&check, part.text, &taken);
        if (state == JSON_CHECK_BAD || taken < part.text.len) return false;
        is_first = false;
        is_done = state == JSON_CHECK_DONE;
    }
    return is_done;
}

void answer_put_item_text(JsonWriter *w, const ApiAnswer *a, const AnswerItem *item) {
    KeptKind kind = item->kind == KEPT_CALL ? KEPT_CALL_ARGUMENTS : item->kind;
    KeptPart part;
    json_open_str(w);
    for (size_t at = item->begins; answer_next_of_item(a, item, &at, &part);) {
        if (part.kind == kind) json_add_to_str(w, part.text);
    }
    json_close_str(w);
}
