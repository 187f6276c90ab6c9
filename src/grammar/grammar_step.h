// One step of a grammar: from the readings of a text to those of the text with one more byte or token.
//
//     step_begin(&s);
//     step_byte(&s, readings, count, 'x');     or: step_enter, step_return
//     step_close(&s);
//     s.readings [s.n], s.may_end, s.status
//
// What follows a leaf that may end is followed up at once: readings are leaves (and nodes of tokens) alone.
#pragma once

#include "grammar/grammar_internal.h"
#include "grammar/grammar_matcher.h"
#include "grammar/grammar_pool.h"

// Something to be done on a stack: to enter a node, or, with GRAMMAR_NEVER, to return to the top frame.
typedef struct {
    uint32_t stack;
    GrammarNode node;
    // Whether anything has been read since the innermost repetition around began its present turn. An empty
    // turn leads nowhere.
    bool read;
} StepTask;

typedef struct {
    uint32_t stamp, stack, node, what;
} StepSeen;

enum { STEP_SEEN = 4 * GRAMMAR_WORK_MAX };

// How far the frame of an object or an array is (its `at`): what is open above it, and at which member or
// item; AT_BYTE: a byte of an item that must differ from others.
typedef enum { AT_OPEN, AT_COMMA, AT_KEY, AT_COLON, AT_VALUE, AT_BYTE } Phase;

enum { PHASE_BITS = 3 };

static inline uint32_t frame_at(Phase phase, uint32_t index) {
    return index << PHASE_BITS | (uint32_t)phase;
}

static inline Phase frame_phase(const Frame *frame) {
    return (Phase)(frame->at & ((1u << PHASE_BITS) - 1));
}

static inline uint32_t frame_index(const Frame *frame) {
    return frame->at >> PHASE_BITS;
}

// The places of an object's members that may come next; first above last: none.
typedef struct {
    uint32_t first, last;
} PlaceRange;

typedef enum { STEP_OK, STEP_AMBIGUOUS, STEP_FULL } StepStatus;

typedef struct {
    const Node *nodes;
    const uint32_t *const *texts_left; // of the grammar
    // Items that must differ (grammar_unique.h).
    uint32_t *item;  // a text of as many bytes as there are frames, and a token; NULL where there are none
    bool has_any;    // one of the items before may be any one
    bool needs_item; // … and it has mattered which one
    Pool *pool;
    StepStatus status;
    bool may_end;
    uint32_t n, n_tasks, stamp;
    uint64_t work;     // readings and tasks of all steps so far
    Reading *readings; // [GRAMMAR_READINGS_MAX]
    StepTask *tasks;   // [GRAMMAR_WORK_MAX]
    StepSeen *seen;    // [STEP_SEEN] what has been done in this step
    // Grammar.objects_max each, for grammar_objects.c; NULL where there are none.
    uint32_t *words;
    PlaceRange *ranges;
} Step;

uint64_t step_bytes(const Grammar *g, PoolCounts max);
// False when the arena is full.
MUST_CHECK bool step_init(Step *s, const Grammar *g, Pool *pool, Arena *arena);
// From now on it reads this copy of the grammar.
void step_move(Step *s, const Grammar *g);

void step_begin(Step *s);
void step_enter(Step *s, uint32_t stack, GrammarNode node, bool read);
void step_return(Step *s, uint32_t stack, bool read);
void step_byte(Step *s, const Reading *from, uint32_t count, uint8_t byte);
void step_close(Step *s);

// The state with these readings, or GRAMMAR_REFUSED (there are none), GRAMMAR_AMBIGUOUS, GRAMMAR_FULL.
GrammarState step_state(Step *s);

// ---- for grammar_step_members.c, grammar_objects.c and grammar_unique.c ----

uint32_t step_push(Step *s, uint32_t parent, GrammarNode node, uint32_t at, uint32_t set);
// Whether a node can complete on this stack before it is too deep.
bool step_fits(const Step *s, uint32_t stack, GrammarNode node);

static inline void step_fail(Step *s, StepStatus status) {
    if (s->status == STEP_OK) s->status = status;
}

void step_enter_members(Step *s, uint32_t stack, GrammarNode node);
void step_return_members(Step *s, Frame frame, bool read);
void step_enter_objects(Step *s, uint32_t stack, GrammarNode node);
void step_return_objects(Step *s, Frame frame, bool read);
void step_enter_items(Step *s, uint32_t stack, GrammarNode node);
void step_return_items(Step *s, Frame frame, bool read);
