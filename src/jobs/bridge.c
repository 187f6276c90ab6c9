#include "jobs/bridge.h"

#include "os/os.h"

#include <assert.h>

enum { JOB_BYTES_KEPT = 4 << 20 }; // of a job's memory, from one job to the next

const char *stop_reason_name(StopReason reason) {
    static const char *const names[] = {[STOP_EOS] = "eos", [STOP_STRING] = "stop", [STOP_LENGTH] = "length"};
    return names[reason];
}

bool bridge_init(Bridge *b, uint32_t n_slots, uint32_t n_waiting, uint64_t job_arena_bytes, Arena *arena,
                 Error *err) {
    uint32_t n_jobs = n_slots + n_waiting;
    *b = (Bridge){.n_jobs = n_jobs, .n_slots = n_slots, .now_ns = os_monotonic_ns, .unix_ms = os_unix_ms};
    b->jobs = arena_new(arena, Job, n_jobs);
    bool ok = b->jobs && ring_init(&b->submitted, arena, JOB_RING_ENTRIES, sizeof(uint32_t)) &&
              ring_init(&b->events, arena, EVENT_RING_ENTRIES, sizeof(JobEvent));
    for (uint32_t i = 0; ok && i < n_jobs; i++) { // most of it is never touched
        b->jobs[i].arena = os_arena(job_arena_bytes);
        b->jobs[i].arena_start = b->jobs[i].arena.next;
        ok = b->jobs[i].arena_start != NULL;
    }
    return ok || error_set(err, ERR_NO_MEMORY, "no memory for %u jobs at once", n_jobs);
}

Job *bridge_take_job(Bridge *b) {
    for (uint32_t i = 0; i < b->n_jobs; i++) {
        Job *job = &b->jobs[i];
        if (job->taken) continue;
        *job = (Job){.arena = job->arena, .arena_start = job->arena_start, .taken = true};
        return job;
    }
    return NULL;
}

void bridge_free_job(Bridge *b, Job *job) {
    (void)b;
    assert(job->taken);
    job->taken = false;
    size_t used = (size_t)(job->arena.next - job->arena_start);
    if (used > JOB_BYTES_KEPT) os_discard(job->arena_start, used); // a large grammar was in it
    job->arena.next = job->arena_start;
}

uint32_t bridge_jobs_taken(const Bridge *b) {
    uint32_t taken = 0;
    for (uint32_t i = 0; i < b->n_jobs; i++)
        taken += b->jobs[i].taken;
    return taken;
}

static void bridge_signal(Bridge *b) {
    atomic_fetch_add(&b->signal, 1);
    os_wake_word(&b->signal);
}

void bridge_submit(Bridge *b, Job *job) {
    uint32_t index = bridge_job_index(b, job);
    bool pushed = ring_push(&b->submitted, &index);
    assert(pushed); // one entry a job
    (void)pushed;
    bridge_signal(b);
}

void bridge_cancel(Bridge *b, Job *job, CancelReason reason) {
    uint32_t none = CANCEL_NONE;
    atomic_compare_exchange_strong(&job->cancel, &none, reason);
    bridge_signal(b);
}

void bridge_drop_cache(Bridge *b) {
    atomic_store(&b->drops_cache, true);
    bridge_signal(b);
}

void bridge_stop(Bridge *b) {
    atomic_store(&b->stop, true);
    bridge_signal(b);
}

JobEvent *bridge_begin_event(Bridge *b) {
    JobEvent *event;
    while (!(event = ring_begin_push(&b->events))) {
        b->wake_io(b->wake_context);
        os_sleep_ms(1);
    }
    return event;
}

void bridge_end_event(Bridge *b) {
    ring_end_push(&b->events);
    b->has_news = true;
}

void bridge_tell(Bridge *b) {
    if (b->has_news) b->wake_io(b->wake_context);
    b->has_news = false;
}

void bridge_cut_slots(Bridge *b, uint32_t n_slots) {
    uint32_t fewer = b->n_slots - n_slots;
    assert(n_slots && n_slots <= b->n_slots && bridge_phase(b) == WORKER_STARTING);
    b->n_slots -= fewer;
    b->n_jobs -= fewer;
}

void bridge_set_phase(Bridge *b, WorkerPhase phase) {
    atomic_store_explicit(&b->status.phase, phase, memory_order_release);
    b->wake_io(b->wake_context);
}
