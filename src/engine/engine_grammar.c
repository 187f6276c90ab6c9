// Sequences that are held to grammars: where each is in its text, and what it may draw next.
//
// Sequences with the same grammar share a matcher, so a state's mask is made once for all of them, also for
// those that come later: a matcher stays until its place is needed. A sequence that is set aside keeps its
// state, which depends on the tokens read alone. A mask is made when a token is read, not when the next draw
// is sent, so that a text which can only end is known to be over without another step.
//
// Between two steps the masks of a step's rows are all that the GPU waits for, so several threads make them:
// each takes a grammar whose sequences have drawn, and follows them one after the other.
#include "engine/engine_internal.h"

#include "os/os.h"

enum {
    MASK_THREADS_MAX = 8,
    // Steps of masks (grammar_mask_work) that a sequence has for each token, some 4 ms. What its masks take
    // above that adds up to the steps of one mask at most: else a grammar that is slow all along would hold
    // up every step of all others.
    TOKEN_WORK = GRAMMAR_MASK_WORK_MAX / 16,
};

static bool make_trie(Engine *e, const Tokenizer *t, Error *err) {
    uint64_t text = 0, n = e->n_vocab;
    for (uint32_t i = 0; i < n; i++)
        text += tokenizer_piece(t, (int32_t)i, false).len;
    Arena keep = os_arena(n * 64 + text * 3 * sizeof(TrieNode) + (1 << 20));
    Arena scratch = os_arena(n * 64 + (1 << 20));
    if (!keep.next || !scratch.next)
        return error_set(err, ERR_NO_MEMORY, "no memory for the tree of %u tokens", e->n_vocab);
    bool ok = token_trie_from_tokenizer(t, e->n_vocab, &keep, scratch, &e->trie, err);
    os_release(scratch.next, arena_left(&scratch));
    return ok;
}

// Half of the processors, so that the threads of the server and of the device find some, too. No more than
// there may be grammars.
static uint32_t default_threads(const Engine *e) {
    uint64_t most = min_u64(e->n_slots, MASK_THREADS_MAX);
    return (uint32_t)max_u64(min_u64(os_cpu_count() / 2, most), 1);
}

bool engine_take_grammars(Engine *e, const Tokenizer *t, uint32_t n_threads, Arena *arena, Error *err) {
    if (!e->backend->info.masks) return true;
    if (!make_trie(e, t, err)) return false;
    e->matchers = arena_new(arena, MatcherPlace, e->n_slots);
    e->matcher_bytes = align_up(GRAMMAR_BYTES + e->trie.n_nodes * sizeof(uint32_t), 4096);
    e->matcher_memory = os_reserve(e->n_slots * e->matcher_bytes);
    if (!e->matchers || !e->matcher_memory)
        return error_set(err, ERR_NO_MEMORY, "no memory for %u grammars", e->n_slots);
    return pool_create(n_threads ? n_threads : default_threads(e), "masks", arena, &e->mask_makers, err);
}

void engine_end(Engine *e) {
    if (e->mask_makers) pool_destroy(e->mask_makers);
}

// ---- what cannot go on ----

// Makes it an error of the sequence's grammar.
static bool of_grammar(const Sequence *s, Error *err) {
    err->code = ERR_INVALID_REQUEST;
    return s->grammar_field ? error_of_field(err, s->grammar_field) : false;
}

static bool refuse(const Sequence *s, Error *err, const char *message) {
    error_fill(err, ERR_INVALID_REQUEST, ERROR_NO_POSITION, "%s", message);
    return of_grammar(s, err);
}

static bool refuse_room(const Sequence *s, Error *err) {
    return refuse(s, err, "the grammar leads to more states than there is room for");
}

static bool refuse_ambiguous(const MatcherPlace *p, const Sequence *s, Error *err) {
    Str name = grammar_ambiguous_name(p->matcher);
    error_fill(err, ERR_INVALID_REQUEST, ERROR_NO_POSITION,
               "%.*s%sthe text so far can be read in too many ways at once", STR_ARG(name),
               name.len ? ": " : "");
    return of_grammar(s, err);
}

// ---- states and masks ----

static bool keep_states(Engine *e, const MatcherPlace *p) {
    GrammarState *kept[JOBS_MAX];
    for (uint32_t i = 0; i < p->n_users; i++)
        kept[i] = &e->sequences[p->users[i]].state;
    return grammar_keep(p->matcher, kept, p->n_users);
}

// Whether the mask allows a token that ends nothing: mostly one of its first words says so.
static bool allows_others(const TokenTrie *trie, const uint32_t *mask) {
    uint32_t others = 0;
    for (uint32_t i = 0; i < trie->n_words && others == 0; i++) {
        others = mask[i];
        for (uint32_t k = 0; others && k < trie->n_end_tokens; k++) {
            uint32_t end = (uint32_t)trie->end_tokens[k];
            if (end / 32 == i) others &= ~(1u << end % 32);
        }
    }
    return others != 0;
}

// Adds the work of the mask asked for last, whoever it was made for: where a text is refused does not depend
// on which masks were there already.
static bool add_work(const MatcherPlace *p, Sequence *s, Error *err) {
    s->mask_work += grammar_mask_work(p->matcher);
    return s->mask_work <= GRAMMAR_MASK_WORK_MAX ||
           refuse(s, err, "takes too much work: the text can be read in too many ways at once");
}

// Makes the mask of the sequence's state. *goes_on: a token may come that ends nothing; *ends: the text may
// end.
static bool make_mask(Engine *e, const MatcherPlace *p, Sequence *s, bool *goes_on, bool *ends, Error *err) {
    s->mask = grammar_mask(p->matcher, s->state);
    if (!s->mask && grammar_mask_work(p->matcher) <= GRAMMAR_MASK_WORK_MAX && keep_states(e, p))
        s->mask = grammar_mask(p->matcher, s->state);
    if (!add_work(p, s, err)) {
        s->mask = NULL;
        return false;
    }
    if (!s->mask) return refuse_room(s, err);
    *goes_on = allows_others(&e->trie, s->mask);
    *ends = grammar_may_end(p->matcher, s->state);
    return true;
}

// Masks that no draw has had yet are asked for once more, so that those made next take the place of others.
// There are more than twice as many as users: of a step's draws all stay where they are.
static void use_masks(const Engine *e, const MatcherPlace *p) {
    for (uint32_t i = 0; i < p->n_users; i++) {
        Sequence *s = &e->sequences[p->users[i]];
        if (s->mask) s->mask = grammar_mask(p->matcher, s->state);
    }
}

// ---- texts begin and end ----

static bool has_room_for_user(const MatcherPlace *p) {
    return 2 * (p->n_users + 1) < grammar_masks_kept(p->matcher);
}

// Of the grammar's matcher, where there is one; else of the one that was used longest ago, of those that
// nobody uses: there are as many as slots.
static MatcherPlace *find_place(Engine *e, const Grammar *grammar) {
    MatcherPlace *oldest = NULL;
    for (uint32_t i = 0; i < e->n_slots; i++) {
        MatcherPlace *p = &e->matchers[i];
        if (p->matcher && grammar_matcher_fits(p->matcher, grammar) && has_room_for_user(p)) return p;
        if (p->n_users == 0 && (!oldest || p->used < oldest->used)) oldest = p;
    }
    return oldest;
}

static bool take_matcher(Engine *e, MatcherPlace *p, const Sequence *s, const Grammar *grammar, Error *err) {
    uint64_t at = (uint64_t)(p - e->matchers) * e->matcher_bytes;
    Arena memory = arena_from_memory(e->matcher_memory + at, e->matcher_bytes);
    if (p->matcher && grammar_matcher_fits(p->matcher, grammar)) {
        if (p->n_users == 0) grammar_matcher_move(p->matcher, grammar);
        return true;
    }
    p->matcher = NULL;
    if (grammar_matcher_new(grammar, &e->trie, memory, &p->matcher, err)) return true;
    return err->code == ERR_NO_MEMORY ? refuse_room(s, err) : of_grammar(s, err);
}

bool sequence_hold(Engine *e, uint32_t slot, const EngineRequest *request, Error *err) {
    Sequence *s = &e->sequences[slot];
    const Grammar *grammar = request->grammar;
    bool goes_on, ends;
    if (!e->matcher_memory)
        return error_set(err, ERR_UNSUPPORTED, "the %s backend cannot hold draws to a set of tokens",
                         e->backend->info.kind);
    s->grammar_field = request->grammar_field;
    MatcherPlace *p = find_place(e, grammar);
    if (!take_matcher(e, p, s, grammar, err)) return false;
    s->grammar = grammar;
    s->matcher = (uint32_t)(p - e->matchers);
    s->state = grammar_start(p->matcher);
    s->mask_work = 0;
    p->users[p->n_users++] = slot;
    p->used = ++e->matcher_uses;
    bool is_made = make_mask(e, p, s, &goes_on, &ends, err);
    use_masks(e, p);
    if (is_made && (goes_on || (ends && e->trie.n_end_tokens))) return true;
    sequence_let_go(e, slot);
    return is_made && refuse(s, err, "no token of the vocabulary begins a text of the grammar");
}

void sequence_let_go(Engine *e, uint32_t slot) {
    Sequence *s = &e->sequences[slot];
    if (!s->grammar) return;
    MatcherPlace *p = &e->matchers[s->matcher];
    uint32_t at = 0;
    while (p->users[at] != slot)
        at++;
    p->users[at] = p->users[--p->n_users];
    s->grammar = NULL;
    s->mask = NULL;
    if (p->n_users) grammar_matcher_move(p->matcher, e->sequences[p->users[0]].grammar);
}

bool sequence_knows_mask(const Engine *e, uint32_t slot) {
    const Sequence *s = &e->sequences[slot];
    return !s->grammar || s->n_drawn_sent == s->n_drawn_read;
}

const uint32_t *sequence_mask(const Engine *e, uint32_t slot) {
    return e->sequences[slot].mask;
}

// ---- tokens ----

static GrammarState step(Engine *e, const MatcherPlace *p, const Sequence *s, int32_t token) {
    GrammarState next = grammar_step(p->matcher, s->state, token);
    if (next != GRAMMAR_FULL || !keep_states(e, p)) return next;
    return grammar_step(p->matcher, s->state, token);
}

static bool follow_token(Engine *e, const MatcherPlace *p, Follow *f, Error *err) {
    Sequence *s = &e->sequences[f->slot];
    bool goes_on, ends;
    GrammarState next = step(e, p, s, f->token);
    f->complete = next == GRAMMAR_ENDED;
    if (f->complete) return true;
    if (next == GRAMMAR_REFUSED)
        return error_set(err, ERR_INTERNAL, "token %d was drawn, which the grammar does not allow", f->token);
    if (next == GRAMMAR_AMBIGUOUS) return refuse_ambiguous(p, s, err);
    if (!grammar_is_state(next)) return refuse_room(s, err);
    s->state = next;
    s->mask_work -= (uint32_t)min_u64(s->mask_work, TOKEN_WORK);
    if (!make_mask(e, p, s, &goes_on, &ends, err)) return false;
    f->complete = !goes_on && ends;
    return goes_on || ends || refuse(s, err, "no token of the vocabulary goes on with a text of the grammar");
}

// What was drawn, sorted by matchers: each one's tokens are a list.
typedef struct {
    Engine *e;
    Follow *follows;
    uint32_t next[JOBS_MAX];  // of follows, in the list; JOBS_MAX: none
    uint32_t first[JOBS_MAX]; // [n_lists]
    uint32_t n_lists;
} FollowLists;

static void follow_lists(void *context, uint32_t thread, uint32_t from, uint32_t to) {
    (void)thread;
    const FollowLists *lists = context;
    Engine *e = lists->e;
    for (uint32_t k = from; k < to; k++) {
        const MatcherPlace *p = &e->matchers[e->sequences[lists->follows[lists->first[k]].slot].matcher];
        for (uint32_t i = lists->first[k]; i < JOBS_MAX; i = lists->next[i]) {
            Follow *f = &lists->follows[i];
            f->goes_on = follow_token(e, p, f, &e->failures[f->slot]);
        }
        use_masks(e, p);
    }
}

void engine_follow(Engine *e, Follow *follows, uint32_t n) {
    FollowLists lists = {.e = e, .follows = follows};
    uint32_t list_of[JOBS_MAX]; // by matcher, from 1 on
    memset(list_of, 0, sizeof list_of);
    for (uint32_t i = n; i-- > 0;) {
        uint32_t *list = &list_of[e->sequences[follows[i].slot].matcher];
        lists.next[i] = *list ? lists.first[*list - 1] : JOBS_MAX;
        if (!*list) *list = ++lists.n_lists;
        lists.first[*list - 1] = i;
    }
    if (n) pool_run(e->mask_makers, follow_lists, &lists, lists.n_lists, 1);
}
