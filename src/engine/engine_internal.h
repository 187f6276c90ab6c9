// The engine's state, for its own files: engine.c takes requests, sends steps and reads them; engine_pages.c
// has what sequences do with pages; engine_order.c says who begins, who waits and who makes room;
// engine_grammar.c holds sequences to grammars.
#pragma once

#include "engine/engine.h"
#include "engine/step_policy.h"
#include "os/pool.h"

enum {
    PIPELINE_DEPTH_MAX = 4,
    // Checkpoints of a prompt that nobody waits for are so many tokens apart at least; and there is one at
    // every multiple of so many.
    CHECKPOINT_TOKENS_MIN = 64,
    CHECKPOINT_TOKENS = 1024,
    MESSAGE_BORDERS_FIRST = 2, // of a prompt: so many of its first borders of messages…
    MESSAGE_BORDERS_MAX = 4,   // …and with the last ones so many have a checkpoint
    CHECKPOINTS_ASKED_MAX = 4, // places where other sequences wait for one
};
static_assert(MESSAGE_BORDERS_MAX + PREFILL_CHUNK_TOKENS / CHECKPOINT_TOKENS + CHECKPOINTS_ASKED_MAX + 2 <=
                  STEP_KEEPS_MAX,
              "a chunk leaves all that it may: those, before its last token and at its end");

typedef struct {
    bool used;
    bool running;        // it takes part in steps and may hold pages; else it waits for pages, or has ended
    bool ended;          // nothing more is sent for it: all is drawn, or it has failed
    bool begun;          // the backend knows of its text
    uint32_t generation; // goes up with each text that begins, or begins again, in this slot
    SamplerParams sampler;
    uint8_t salt[CACHE_SALT_BYTES];
    int32_t *tokens; // [context_length] the prompt, then what was drawn and read
    uint32_t *nodes; // [n_nodes] of kv_pages.h, that it holds
    uint32_t *pages; // [lists][list_pages] their pages: StepSequence.pages
    uint32_t n_nodes;
    uint32_t n_whole;      // of these, the first ones: all their tokens are published
    uint32_t first_window; // from this one on it holds their windows, too
    uint32_t n_prompt;
    uint32_t
        n_known; // tokens that are fed as a prompt is: the prompt, and what was drawn before it began again
    uint32_t n_sent;       // positions whose rows are in the cache, or in steps enqueued so far
    uint32_t n_drawn_sent; // draws of the text, with those in steps enqueued so far
    uint32_t n_drawn_read;
    uint32_t max_tokens;
    uint32_t n_cached; // tokens of the prompt that were taken from the cache
    CacheMiss miss;    // why the next ones were not
    uint32_t times_set_aside;
    // An older sequence that computes the same beginning, and how many tokens of it; 0: there is none.
    uint32_t leader, leader_generation, n_in_common;
    // Checkpoints of its state: places in its text, whole pages.
    uint32_t borders[MESSAGE_BORDERS_MAX], n_borders; // of messages
    uint32_t asked[CHECKPOINTS_ASKED_MAX], n_asked;   // where others wait for one
    uint32_t saved_at;                                // where it has the last one
    uint32_t n_drawn_checkpoint; // nodes up to the last one that it left while it drew; 0: none
    const Grammar *grammar;      // that it is held to; NULL: it may draw anything
    const char *grammar_field;   // what messages about it begin with, or NULL
    uint32_t matcher;            // of Engine.matchers, with a grammar
    GrammarState state;          // after the tokens drawn and read
    const uint32_t *mask;        // of that state: the matcher's. NULL without a grammar
    uint32_t mask_work;          // steps that its masks took above what its tokens allow: engine_grammar.c
} Sequence;

// A grammar's matcher, which all sequences that are held to the grammar share. It stays until its place is
// needed for another grammar.
typedef struct {
    GrammarMatcher *matcher;           // NULL: none has been made here
    uint32_t users[JOBS_MAX], n_users; // slots
    uint64_t used;                     // the lower, the longer ago somebody began to use it
} MatcherPlace;

// A token that a sequence with a grammar drew.
typedef struct {
    uint32_t slot;
    int32_t token;
    bool goes_on;  // else the engine's failures[slot] says why not
    bool complete; // nothing may follow
} Follow;

// A step under way, and what it will bring for the sequence of each of its parts.
typedef struct {
    StepChoice choice;
    struct {
        uint32_t generation; // of the slot when the step was sent
        uint32_t n_prompt_done;
        uint32_t n_draws;
    } expected[JOBS_MAX]; // by part
    uint64_t sent_ns;
} Flight;

struct Engine {
    Backend *backend;
    uint32_t n_slots;
    uint32_t n_vocab;
    const int32_t *suppressed; // [n_suppressed] the plan's
    uint32_t n_suppressed;
    uint32_t model_context;
    uint32_t context_length;
    Sequence *sequences;      // [n_slots]
    uint32_t order[JOBS_MAX]; // [n_order] slots in use, in the order of admission
    uint32_t n_order;
    bool has_states; // sequences keep a state besides pages
    // No: sequences keep a state, and there are no checkpoints of it; or a text's values depend on how it was
    // computed (BackendInfo.bits_vary).
    bool shares_pages;
    uint32_t checkpoint_tokens_min; // CHECKPOINT_TOKENS_MIN, but for tests
    const uint32_t *marks;          // [token_set_words(n_vocab)] of engine_mark_messages; NULL: none
    bool start_is_blocked; // the pages did not suffice for who is next, and none have come free since
    KvPages pages;
    uint32_t list_pages; // of a whole context
    uint32_t *found;     // [list_pages] for engine_pages.c
    StepPolicy policy;
    Flight flights[PIPELINE_DEPTH_MAX]; // ring
    uint32_t first_flight;
    uint32_t n_flights;
    uint32_t depth;
    bool masks_wait; // the step sent last is to have its masks when the one before it has been read
    uint64_t (*now_ns)(void);
    uint64_t read_ns;         // when the last step was read
    uint32_t rows_read;       // of that step
    StepResult result;        // of that step
    Error failures[JOBS_MAX]; // by slot; of sequences that failed
    TokenTrie trie;           // of engine_take_grammars
    MatcherPlace *matchers;   // [n_slots]
    uint64_t matcher_bytes;   // of a place, whole pages
    uint8_t *matcher_memory;  // [n_slots][matcher_bytes]; NULL: no grammars
    uint64_t matcher_uses;
    Pool *mask_makers; // threads that follow tokens and make masks beside the engine's own
};

static inline bool sequence_in_prompt(const Sequence *s) {
    return s->running && s->n_sent < s->n_known;
}

// ---- engine_pages.c ----

// Where in its text the sequence's at-th node is; all before it are published.
KvPlace sequence_place(const Sequence *s, uint32_t at);
// The node takes the place of the sequence's at-th one, or comes behind the last one.
void sequence_put(Engine *e, Sequence *s, uint32_t at, uint32_t node);

// Whole nodes of the cache that continue the sequence's text, as far as the windows before their end are
// there, too, and a checkpoint at their end where the model has states.
typedef struct {
    const uint32_t
        *nodes;   // of the text: those from the sequence's n_sent / KV_PAGE_TOKENS on, to before `end`
    uint32_t end; // of the text's nodes
    uint32_t first_window; // whose window it will hold
    bool more;             // there are others behind, of which something is missing: a window, or a state
} Found;
// Valid until the next call.
Found sequence_find(Engine *e, const Sequence *s);
// Takes them. *more: there were others, as Found says.
MUST_CHECK bool sequence_attach(Engine *e, Sequence *s, bool *more, Error *err);
// Copies the beginning of the next node, where another text has one in common.
MUST_CHECK bool sequence_attach_border(Engine *e, Sequence *s, Error *err);
// Publishes whole nodes whose rows are sent and whose tokens are known, and with `rest` the one behind them.
void sequence_publish(Engine *e, Sequence *s, bool rest);
// Gives back the windows that no row to come will read.
void sequence_pass(Engine *e, Sequence *s);
// Publishes what can be, and holds no page any more. Who waits for pages may begin.
void sequence_give_back(Engine *e, Sequence *s);
// The same for one whose values are spoiled.
void sequence_drop(Engine *e, Sequence *s);

// ---- engine_states.c ----

// Whether the backend has room for checkpoints of this model's states.
bool engine_keeps_checkpoints(const Engine *e);
// Notes where its prompt's messages begin or end.
void sequence_find_borders(const Engine *e, Sequence *s);
// Another sequence waits for a checkpoint at this place, whole pages from its beginning. (Where too many
// places are asked for, those who wait for the others go on from an earlier one.)
void sequence_ask_for_checkpoint(Sequence *s, uint32_t place);
// Fills q->keeps: the checkpoints that this part of a step leaves. Its pages are there. Their places are
// nobody else's until sequence_keep_done.
void sequence_keep_states(Engine *e, StepSequence *q);
// Behind the step with this part, when its text is published.
void sequence_keep_done(Engine *e, const StepSequence *q);
// The slot's state becomes the one at the end of the sequence's last node.
MUST_CHECK bool sequence_restore_state(Engine *e, Sequence *s, uint32_t node, Error *err);

// ---- engine_grammar.c ----

// Begins the text of a request's grammar; errors as of engine_admit.
MUST_CHECK bool sequence_hold(Engine *e, uint32_t slot, const EngineRequest *request, Error *err);
// The slot's sequence ends; its grammar may be gone afterwards. Does nothing where it has none.
void sequence_let_go(Engine *e, uint32_t slot);
// Whether the mask of its next draw is known: the tokens that it depends on have been read.
bool sequence_knows_mask(const Engine *e, uint32_t slot);
// That mask; NULL: it is held to nothing.
const uint32_t *sequence_mask(const Engine *e, uint32_t slot);
// Takes the tokens that sequences drew, at most one of each, and makes the masks of their next draws.
void engine_follow(Engine *e, Follow *follows, uint32_t n);

// ---- engine_order.c ----

// Lets sequences that wait begin, in their order, as far as there are pages.
MUST_CHECK bool engine_start_waiting(Engine *e, Error *err);
// Whether it should wait for an older one to compute what both begin with.
bool engine_follows(Engine *e, uint32_t slot);
// Takes the pages for the sequence's next n_rows rows. Where none is left, the youngest that runs is set
// aside; false where this is the one.
MUST_CHECK bool engine_grow(Engine *e, uint32_t slot, uint32_t n_rows);
