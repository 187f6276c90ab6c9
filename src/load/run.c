#include "load/run.h"

#include "load/draws.h"
#include "load/run_internal.h"
#include "os/os.h"

enum {
    TICK_NS = 20 * 1000 * 1000, // how exactly timeouts and pauses are kept
    PROGRESS_NS = 200 * 1000 * 1000,
    PAUSE_LEAST_NS = 100 * 1000 * 1000, // of a client after an error; doubles with each further one
    PAUSE_DOUBLINGS_MAX = 5,
    POLL_EVENTS = 256,
};

// ---- what may begin ----

static bool may_begin(const LoadRun *run) {
    const LoadConfig *c = run->config;
    bool are_all_sent = c->requests && run->stats->n_sent >= c->requests; // those of the warm-up not counted
    return !run->result->stopped && !are_all_sent && run->now_ns < run->stats->window_end_ns;
}

static bool may_begin_conversation(const LoadRun *run) {
    const Trace *trace = run->config->trace;
    return may_begin(run) && (!trace || run->n_conversations < trace->count);
}

static void open_window(LoadRun *run, uint64_t at_ns) {
    stats_open_window(run->stats, at_ns);
    if (run->config->duration_ns) run->stats->window_end_ns = at_ns + run->config->duration_ns;
}

static void set_running(LoadRun *run, uint32_t n) {
    stats_set_running(run->stats, n, run->now_ns);
    run->n_running = n;
}

// `history_tokens` of the conversation's earlier turns come in front of the plan's.
static void begin_request(LoadRun *run, Slot *slot, uint64_t history_tokens, uint64_t due_ns) {
    const LoadConfig *c = run->config;
    uint64_t number = run->n_begun++;
    LoadRequest *r = &slot->request;
    if (number >= c->warmup_requests && c->warmup_ns == 0 && run->stats->window_start_ns == UINT64_MAX)
        open_window(run, run->now_ns);
    *r = (LoadRequest){.is_warmup = number < c->warmup_requests, .due_ns = due_ns};
    r->sent_ns = max_u64(run->now_ns, due_ns);
    r->prompt_tokens = (uint32_t)history_tokens + slot->plan.prompt_tokens;
    if (slot->plan.turn == 0) r->prompt_tokens += c->shared_prefix;
    r->output_tokens = slot->plan.output_tokens;
    r->is_lengthened = request_is_lengthened(&run->maker, &slot->plan);
    slot->cancel_after = 0;
    if (draw_uniform(run->cancel_key, number) < c->cancel_share)
        slot->cancel_after = draw_between(run->cancel_point_key, number, 1, slot->plan.output_tokens);
    slot->state = SLOT_RUNNING;
    slot->deadline_ns = run->now_ns + c->timeout_ms * 1000000ull;
    set_running(run, run->n_running + 1);
    stats_request_sent(run->stats, r);
    Str message = request_write(&run->maker, &slot->text, &slot->plan, number);
    if (message.len) exchange_begin(run, slot, message);
    else run_request_ended(run, slot, LOAD_ENDED_ERROR, &(LoadError){.kind = LOAD_ERROR_TOO_LONG});
}

static void begin_conversation(LoadRun *run, Slot *slot, uint64_t due_ns) {
    slot->plan = request_plan(&run->maker, run->n_conversations++, 0);
    begin_request(run, slot, 0, due_ns);
}

// The tokens that the server has read and written so far are the next prompt's beginning.
static void begin_turn(LoadRun *run, Slot *slot) {
    const LoadRequest *r = &slot->request;
    uint64_t history = r->has_usage ? r->usage_prompt + r->usage_output : r->prompt_tokens + r->n_pieces;
    slot->plan = request_plan(&run->maker, slot->plan.conversation, slot->plan.turn + 1);
    begin_request(run, slot, history, run->now_ns);
}

static void free_slot(LoadRun *run, Slot *slot) {
    slot->state = SLOT_FREE;
    slot->next_free = run->free_slots;
    run->free_slots = slot;
}

static void pause_slot(LoadRun *run, Slot *slot) {
    uint64_t doublings = min_u64(slot->n_failures++, PAUSE_DOUBLINGS_MAX);
    slot->state = SLOT_PAUSED;
    slot->deadline_ns = run->now_ns + ((uint64_t)PAUSE_LEAST_NS << doublings);
}

void run_request_ended(LoadRun *run, Slot *slot, LoadEnd end, const LoadError *error) {
    slot->state = SLOT_FREE;
    if (run->probing) {
        run->probe_end = end;
        if (error) run->probe_error = *error;
        return;
    }
    stats_request_end(run->stats, &slot->request, end, error, slot->end_ns ? slot->end_ns : run->now_ns);
    set_running(run, run->n_running - 1);
    if (end != LOAD_ENDED_ERROR) slot->n_failures = 0;
    if (end == LOAD_ENDED_WHOLE && slot->plan.turn + 1 < run->config->turns && may_begin(run)) {
        begin_turn(run, slot);
    } else if (load_is_open(run->config) || !may_begin_conversation(run)) {
        free_slot(run, slot);
    } else if (end == LOAD_ENDED_ERROR) {
        pause_slot(run, slot);
    } else {
        begin_conversation(run, slot, run->now_ns);
    }
}

// ---- arrivals ----

static void find_next_arrival(LoadRun *run) {
    const Trace *trace = run->config->trace;
    bool is_timed = trace && trace->has_times;
    if (is_timed && run->n_conversations >= trace->count) run->next_due_ns = UINT64_MAX;
    else if (is_timed) run->next_due_ns = run->start_ns + trace->requests[run->n_conversations].at_ns;
    else run->next_due_ns = run->start_ns + arrivals_next(&run->arrivals);
}

// Where as many run as may, arrivals wait, and count from when they were due.
static void begin_arrivals(LoadRun *run) {
    while (run->next_due_ns <= run->now_ns && run->free_slots && may_begin_conversation(run)) {
        Slot *slot = run->free_slots;
        uint64_t due_ns = run->next_due_ns;
        run->free_slots = slot->next_free;
        begin_conversation(run, slot, due_ns);
        find_next_arrival(run);
    }
    uint64_t wake_ns = run->stats->window_end_ns;
    if (run->free_slots && may_begin_conversation(run)) wake_ns = min_u64(wake_ns, run->next_due_ns);
    if (wake_ns == UINT64_MAX) wake_ns = 0;
    if (wake_ns == run->timer_ns) return;
    run->timer_ns = wake_ns;
    os_timer_set(run->timer, wake_ns);
}

// Those that were due when the run ended, and waited for a free place.
static void count_unsent(LoadRun *run) {
    const LoadConfig *c = run->config;
    LoadStats *s = run->stats;
    uint64_t end_ns = min_u64(run->now_ns, s->window_end_ns);
    uint64_t left = c->requests ? c->requests - min_u64(s->n_sent, c->requests) : UINT64_MAX;
    if (c->trace) left = min_u64(left, c->trace->count - run->n_conversations);
    for (; left && run->next_due_ns < end_ns; left--) {
        stats_arrival_unsent(s, run->next_due_ns, end_ns);
        run->n_conversations++;
        find_next_arrival(run);
    }
}

// ---- the loop ----

bool run_poll(LoadRun *run, uint32_t timeout_ms, Error *err) {
    OsPollEvent events[POLL_EVENTS];
    int count = os_poll_wait(run->poller, events, POLL_EVENTS, timeout_ms);
    if (count < 0) return error_set(err, ERR_IO, "waiting for the server's answers failed");
    run->now_ns = os_monotonic_ns();
    for (int i = 0; i < count; i++)
        if (events[i].tag < run->n_slots) exchange_ready(run, &run->slots[events[i].tag], events[i].events);
    return true;
}

static void tick(LoadRun *run) {
    if (os_stop_signals()) run->result->stopped = true;
    for (uint32_t i = 0; i < run->n_slots; i++) {
        Slot *slot = &run->slots[i];
        if (slot->state == SLOT_FREE || run->now_ns < slot->deadline_ns) continue;
        if (slot->state == SLOT_RUNNING) {
            exchange_time_out(run, slot);
            continue;
        }
        if (may_begin_conversation(run)) begin_conversation(run, slot, run->now_ns);
        else free_slot(run, slot);
    }
    stats_set_running(run->stats, run->n_running, run->now_ns);
}

static bool is_over(const LoadRun *run) {
    if (run->result->stopped || run->now_ns >= run->stats->window_end_ns) return true;
    return run->n_running == 0 && !may_begin_conversation(run);
}

static bool run_loop(LoadRun *run, LoadProgressFn *progress, void *context, Error *err) {
    uint64_t tick_ns = run->now_ns, progress_ns = run->now_ns;
    bool is_open = load_is_open(run->config);
    run->next_due_ns = UINT64_MAX;
    if (is_open) find_next_arrival(run);
    for (uint32_t i = 0; !is_open && i < run->n_slots; i++) {
        Slot *slot = run->free_slots;
        if (!may_begin_conversation(run)) break;
        run->free_slots = slot->next_free;
        begin_conversation(run, slot, run->now_ns);
    }
    while (!is_over(run)) {
        begin_arrivals(run);
        if (!run_poll(run, TICK_NS / 1000000, err)) return false;
        if (run->now_ns - tick_ns >= TICK_NS) {
            tick_ns = run->now_ns;
            tick(run);
        }
        if (progress && run->now_ns - progress_ns >= PROGRESS_NS) {
            progress_ns = run->now_ns;
            progress(context, run->stats, run->now_ns);
        }
    }
    if (run->now_ns < run->stats->window_start_ns)
        return error_set(err, ERR_IO, "nothing was measured: the run %s before its warm-up was over",
                         run->result->stopped ? "was stopped" : "ended");
    count_unsent(run);
    stats_close_window(run->stats, run->now_ns);
    for (uint32_t i = 0; i < run->n_slots; i++)
        if (run->slots[i].state == SLOT_RUNNING) exchange_abandon(run, &run->slots[i], LOAD_ENDED_CUT);
    return true;
}

// ---- memory ----

static bool make_slots(LoadRun *run, Arena *arena, Error *err) {
    const size_t each = LOAD_REQUEST_BYTES_MAX + LOAD_LINE_BYTES_MAX;
    const uint64_t other_files = 64;
    run->n_slots = load_is_open(run->config) ? run->config->max_running : run->config->clients;
    uint64_t needed = run->n_slots + other_files, allowed = os_raise_open_files(needed);
    if (allowed < needed)
        return error_set(err, ERR_USAGE,
                         "%u connections need %llu open files, and %llu are allowed: raise that limit "
                         "(ulimit -n) or use fewer %s",
                         run->n_slots, (unsigned long long)needed, (unsigned long long)allowed,
                         load_is_open(run->config) ? "(--max-running)" : "(--clients)");
    run->slots = arena_new(arena, Slot, run->n_slots);
    run->memory_size = run->n_slots * each;
    run->memory = os_reserve(run->memory_size);
    if (!run->slots || !run->memory)
        return error_set(err, ERR_NO_MEMORY, "no memory for %u requests at once", run->n_slots);
    for (uint32_t i = run->n_slots; i-- > 0;) {
        Slot *slot = &run->slots[i];
        slot->text.memory = run->memory + i * each;
        slot->line = slot->text.memory + LOAD_REQUEST_BYTES_MAX;
        slot->connection = connection_new(run->poller, i, slot->line, LOAD_LINE_BYTES_MAX);
        free_slot(run, slot);
    }
    return true;
}

static bool prepare(LoadRun *run, Arena *arena, Error *err) {
    const LoadConfig *c = run->config;
    run->stats = stats_create(&c->limits, arena);
    if (!run->stats) return error_set(err, ERR_NO_MEMORY, "no memory for the measurements");
    run->cancel_key = draw_key(c->seed, DRAW_CANCELS);
    run->cancel_point_key = draw_key(c->seed, DRAW_CANCEL_POINTS);
    run->arrivals = arrivals_begin(c->rate, c->burst, c->seed);
    return os_poll_open(&run->poller, err) && os_timer_open(&run->timer, err) &&
           (os_poll_add(run->poller, run->timer, OS_POLL_RECEIVE, UINT64_MAX) ||
            error_set(err, ERR_IO, "the timer cannot be waited for")) &&
           make_slots(run, arena, err) && probe_server(run, arena, err) && probe_words(run, err);
}

static void clean_up(LoadRun *run) {
    for (uint32_t i = 0; run->slots && i < run->n_slots; i++)
        connection_close(&run->slots[i].connection);
    if (run->timer >= 0) os_net_close(run->timer);
    if (run->poller >= 0) os_net_close(run->poller);
    os_release(run->memory, run->memory_size);
}

bool load_run(const LoadConfig *config, LoadProgressFn *progress, void *context, Arena *arena,
              LoadResult *out, Error *err) {
    LoadRun *run = arena_new(arena, LoadRun, 1);
    *out = (LoadResult){0};
    if (!run) return error_set(err, ERR_NO_MEMORY, "no memory for a run");
    *run = (LoadRun){.config = config, .result = out, .poller = -1, .timer = -1};
    bool ok = prepare(run, arena, err);
    if (ok) {
        run->start_ns = run->now_ns = os_monotonic_ns();
        uint64_t processor_ns = os_processor_ns();
        out->n_connections = out->n_events = 0;
        if (config->warmup_ns) open_window(run, run->start_ns + config->warmup_ns);
        ok = run_loop(run, progress, context, err);
        out->wall_ns = os_monotonic_ns() - run->start_ns;
        out->processor_ns = os_processor_ns() - processor_ns;
    }
    out->stats = run->stats;
    out->model = run->maker.model;
    out->tokens_per_word = run->maker.tokens_per_word;
    out->template_tokens = run->maker.template_tokens;
    clean_up(run);
    return ok;
}
