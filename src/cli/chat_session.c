#include "cli/chat_session.h"

#include "base/utf8.h"
#include "cli/progress.h"
#include "cli/sampling.h"
#include "os/os.h"

#include <math.h>
#include <stdio.h>

enum {
    TEXTS_ARENA_MB = 1024,
    IDS_ARENA_MB = 512,
    SYSTEM_BYTES_MAX = 3 * CHAT_MESSAGE_BYTES_MAX + 1, // U+FFFD for each byte
};

// ---- set-up ----

static void take_default(const Options *o, FlagId flag, double value, float *out) {
    if (!options_given(o, flag) && !isnan(value)) *out = (float)value;
}

// The file's own sampling, where the command line does not say otherwise.
static void take_defaults(const Options *o, const GgufFile *file, SamplerParams *p) {
    char memory[ERROR_MESSAGE_BYTES];
    StrBuf unused = STRBUF(memory);
    SamplingDefaults d = sampling_of_file(file, &unused);
    if (unused.len) fprintf(stderr, "worker-orcd: warning: %s%s\n", SAMPLING_UNUSED, memory);
    take_default(o, FLAG_TEMPERATURE, d.temperature, &p->temperature);
    take_default(o, FLAG_TOP_P, d.top_p, &p->top_p);
    take_default(o, FLAG_MIN_P, d.min_p, &p->min_p);
    take_default(o, FLAG_PENALTY, d.repetition_penalty, &p->repetition_penalty);
    take_default(o, FLAG_PRESENCE, d.presence_penalty, &p->presence_penalty);
    take_default(o, FLAG_FREQUENCY, d.frequency_penalty, &p->frequency_penalty);
    if (!options_given(o, FLAG_TOP_K) && !isnan(d.top_k)) p->top_k = d.top_k > 0 ? (uint32_t)d.top_k : 0;
}

static bool make_buffers(ChatSession *s, Arena *arena) {
    char *answer = arena_new(arena, char, CHAT_ANSWER_BYTES_MAX);
    char *reasoning = arena_new(arena, char, CHAT_ANSWER_BYTES_MAX);
    s->texts = s->texts_empty = os_arena((size_t)TEXTS_ARENA_MB << 20);
    s->ids = os_arena((size_t)IDS_ARENA_MB << 20);
    char *system = arena_new(arena, char, SYSTEM_BYTES_MAX);
    if (!answer || !reasoning || !system || !s->texts.next || !s->ids.next) return false;
    s->answer = strbuf_from_memory(answer, CHAT_ANSWER_BYTES_MAX);
    s->reasoning = strbuf_from_memory(reasoning, CHAT_ANSWER_BYTES_MAX);
    s->system_memory = strbuf_from_memory(system, SYSTEM_BYTES_MAX);
    s->parser = answer_parser_create(arena);
    return s->parser && detokenizer_init(&s->detokenizer, s->model->tokenizer, arena);
}

bool chat_session_init(const Options *o, Model *m, const ChatModel *chat, ChatSession *out, Error *err) {
    *out = (ChatSession){.options = o, .model = m, .chat = chat};
    out->system.role = "system";
    out->max_tokens = o->command == CMD_CHAT              ? o->chat_max_tokens
                      : options_given(o, FLAG_MAX_TOKENS) ? o->max_tokens
                                                          : 0;
    out->keeps_seed = options_given(o, FLAG_SEED);
    if (!make_buffers(out, &m->arena)) return error_set(err, ERR_NO_MEMORY, "no memory for a conversation");
    if (!sampling_from_options(o, &out->sampler, err)) return false;
    take_defaults(o, m->file, &out->sampler);
    if (!sampler_check(&out->sampler, m->plan->n_vocab, err)) {
        err->code = ERR_USAGE;
        return false;
    }
    return engine_create(m->backend, m->plan, 1, &m->arena, &out->engine, err) &&
           ((out->context = engine_context_length(out->engine)), true) &&
           (!o->system || chat_session_set_system(out, str_from_c(o->system), err));
}

// ---- turns ----

static void put_valid(StrBuf *b, Str text) {
    for (uint32_t codepoint; text.len;) {
        size_t length = utf8_decode(text, &codepoint);
        strbuf_put(b, length ? str_slice(text, 0, length) : STR("\xEF\xBF\xBD"));
        text = str_slice(text, length ? length : 1, text.len);
    }
}

static bool keep_text(ChatSession *s, Str text, Str *out, Error *err) {
    StrBuf b = strbuf_begin_in_arena(&s->texts);
    put_valid(&b, text);
    bool ok = !b.truncated;
    *out = strbuf_end_in_arena(&b, &s->texts);
    return ok || error_set(err, ERR_USAGE, "the conversation's memory is full; /clear begins another");
}

static void drop_oldest(ChatSession *s, uint32_t count) {
    memmove(s->turns, s->turns + count, (s->n_turns - count) * sizeof s->turns[0]);
    s->n_turns -= count;
}

bool chat_session_say(ChatSession *s, Str text, Error *err) {
    ChatTurn turn = {.role = "user"};
    if (text.len > CHAT_MESSAGE_BYTES_MAX)
        return error_set(err, ERR_USAGE, "the message has %zu bytes; at most %d are taken", text.len,
                         CHAT_MESSAGE_BYTES_MAX);
    if (!keep_text(s, text, &turn.text, err)) return false;
    s->turns[s->n_turns++] = turn;
    return true;
}

// In memory of its own: it outlives conversations.
bool chat_session_set_system(ChatSession *s, Str text, Error *err) {
    if (text.len > CHAT_MESSAGE_BYTES_MAX) return error_set(err, ERR_USAGE, "the text is too long");
    s->system_memory.len = 0;
    put_valid(&s->system_memory, text);
    s->system.text = strbuf_str(&s->system_memory);
    return true;
}

void chat_session_clear(ChatSession *s) {
    s->n_turns = 0;
    s->texts = s->texts_empty;
}

bool chat_session_undo(ChatSession *s, bool message_too) {
    bool has_answer = s->n_turns > 0 && s->turns[s->n_turns - 1].role[0] == 'a';
    if (has_answer) s->n_turns--;
    if (message_too && s->n_turns > 0) {
        s->n_turns--;
        return true;
    }
    return has_answer;
}

// ---- the prompt ----

static bool make_prompt(ChatSession *s, Arena *arena, TurnsPrompt *out, Error *err) {
    ChatTurn all[CHAT_TURNS_MAX + 1];
    size_t n = 0;
    if (s->system.text.len) all[n++] = s->system;
    memcpy(all + n, s->turns, s->n_turns * sizeof s->turns[0]);
    return turns_prompt(s->chat, all, n + s->n_turns, s->settings, s->n_settings, arena, out, err);
}

// Drops the oldest messages until the context has room for an answer, too: an eighth of it, or what is asked
// for if that is less.
static bool fit_prompt(ChatSession *s, TurnsPrompt *out, uint32_t *n_dropped, Error *err) {
    uint32_t room = s->context / 8;
    if (s->max_tokens && s->max_tokens < room) room = s->max_tokens;
    *n_dropped = 0;
    for (;;) {
        Arena arena = s->ids;
        if (!make_prompt(s, &arena, out, err)) return false;
        bool whole = s->n_turns + 2 <= CHAT_TURNS_MAX;
        if (whole && out->ids.count > 0 && out->ids.count + room <= s->context) return true;
        if (s->n_turns > 2) {
            drop_oldest(s, 2); // a message and its answer
            *n_dropped += 2;
        } else if (out->ids.count == 0) {
            return error_set(err, ERR_USAGE, "the conversation gives no tokens");
        } else if (out->ids.count < s->context) {
            return true; // less room than usual
        } else {
            return error_set(err, ERR_USAGE, "the message does not fit: %zu tokens; the context holds %u",
                             out->ids.count, s->context);
        }
    }
}

// ---- the answer ----

typedef struct {
    ChatSession *session;
    ChatListener listener;
} AnswerWay;

static void take_part(void *context, const AnswerPart *part) {
    AnswerWay *way = context;
    bool reasoning = part->kind == ANSWER_REASONING;
    if (part->kind != ANSWER_CONTENT && !reasoning) return; // there are no tools
    strbuf_put(reasoning ? &way->session->reasoning : &way->session->answer, part->text);
    way->listener.part(way->listener.context, part->kind, part->text);
}

static void take_token(AnswerWay *way, int32_t token) {
    ChatSession *s = way->session;
    AnswerSink sink = {take_part, way};
    Str text = detokenizer_push(&s->detokenizer, token);
    if (answer_is_mark(&s->chat->formats, token)) answer_parser_push_mark(s->parser, token, sink);
    else answer_parser_push(s->parser, text, sink);
}

typedef struct {
    uint64_t begun_ns, first_ns, last_ns;
    int32_t end_token;
} AnswerTimes;

static bool run_steps(AnswerWay *way, ChatFigures *f, AnswerTimes *times, Error *err) {
    ChatSession *s = way->session;
    PromptProgress progress = prompt_progress_begin();
    for (;;) {
        EngineOutput output = {0};
        uint32_t n_outputs;
        if (!engine_step(s->engine, &output, &n_outputs, err)) return false;
        if (output.failure) {
            *err = *output.failure;
            return false;
        }
        if (output.n_tokens > 0) {
            prompt_progress_end(&progress);
            times->last_ns = os_monotonic_ns();
            if (!times->first_ns) times->first_ns = times->last_ns;
        } else {
            prompt_progress_update(&progress, output.n_prompt_done, f->n_prompt);
        }
        for (uint32_t i = 0; i < output.n_tokens; i++) {
            f->end = CHAT_ENDED;
            times->end_token = output.tokens[i];
            if (tokenizer_is_end(s->model->tokenizer, output.tokens[i])) return true;
            times->end_token = TOKEN_NONE;
            f->n_tokens++;
            take_token(way, output.tokens[i]);
        }
        f->end = output.last ? CHAT_CUT : CHAT_STOPPED;
        if (!output.last && !way->listener.stopped(way->listener.context)) continue;
        prompt_progress_end(&progress);
        return true;
    }
}

static bool generate(ChatSession *s, const TurnsPrompt *prompt, ChatListener listener, ChatFigures *f,
                     Error *err) {
    AnswerWay way = {s, listener};
    AnswerTimes times = {.begun_ns = os_monotonic_ns(), .end_token = TOKEN_NONE};
    uint32_t slot, room = s->context - (uint32_t)prompt->ids.count;
    if (!s->keeps_seed) s->sampler.seed = sampling_draw_seed();
    EngineRequest request = {.tokens = prompt->ids.ptr,
                             .n_prompt = (uint32_t)prompt->ids.count,
                             .max_tokens = s->max_tokens && s->max_tokens < room ? s->max_tokens : room,
                             .sampler = s->sampler};
    if (!engine_admit(s->engine, &request, &slot, err)) return false;
    detokenizer_reset(&s->detokenizer);
    answer_parser_begin(s->parser, &s->chat->formats, s->model->tokenizer, NULL, prompt->opening);
    bool ok = run_steps(&way, f, &times, err);
    engine_release(s->engine, slot);
    AnswerSink sink = {take_part, &way};
    answer_parser_push(s->parser, detokenizer_flush(&s->detokenizer), sink);
    answer_parser_end(s->parser, times.end_token == TOKEN_NONE, sink);
    if (times.first_ns) f->first_ms = (double)(times.first_ns - times.begun_ns) / 1e6;
    if (f->n_tokens > 1 && times.last_ns > times.first_ns)
        f->per_second = (f->n_tokens - 1) * 1e9 / (double)(times.last_ns - times.first_ns);
    return ok;
}

static bool keep_answer(ChatSession *s, Error *err) {
    ChatTurn turn = {.role = "assistant"};
    if (!keep_text(s, strbuf_str(&s->answer), &turn.text, err)) return false;
    if (s->reasoning.len && !keep_text(s, strbuf_str(&s->reasoning), &turn.reasoning, err)) return false;
    s->turns[s->n_turns++] = turn;
    return true;
}

bool chat_session_answer(ChatSession *s, ChatListener listener, ChatFigures *out, Error *err) {
    TurnsPrompt prompt;
    *out = (ChatFigures){0};
    s->answer.len = s->reasoning.len = 0;
    s->answer.truncated = s->reasoning.truncated = false;
    bool ok = fit_prompt(s, &prompt, &out->n_dropped, err);
    if (ok) out->n_prompt = (uint32_t)prompt.ids.count;
    ok = ok && generate(s, &prompt, listener, out, err);
    if (ok && (s->answer.len || s->reasoning.len || out->end != CHAT_STOPPED)) ok = keep_answer(s, err);
    else (void)chat_session_undo(s, true);
    return ok;
}
