#include "api/encoder.h"

#include "os/os.h"

#include <assert.h>

bool encoder_init(Encoder *e, Arena *arena) {
    return ring_init(&e->todo, arena, ENCODER_RING_ENTRIES, sizeof(EncoderEntry)) &&
           ring_init(&e->done, arena, ENCODER_RING_ENTRIES, sizeof(EncoderEntry));
}

static void encoder_signal(Encoder *e) {
    atomic_fetch_add(&e->signal, 1);
    os_wake_word(&e->signal);
}

void encoder_push(Encoder *e, uint32_t request, EncoderWork work) {
    bool pushed = ring_push(&e->todo, &(EncoderEntry){.request = request, .work = work});
    assert(pushed);
    (void)pushed;
    encoder_signal(e);
}

bool encoder_pop(Encoder *e, EncoderEntry *out) {
    return ring_pop(&e->done, out);
}

void encoder_stop(Encoder *e) {
    atomic_store(&e->stop, true);
    encoder_signal(e);
}

bool encoder_turn(Encoder *e) {
    EncoderEntry entry;
    if (!ring_pop(&e->todo, &entry)) return false;
    entry.ok = e->run(e->context, &entry);
    bool pushed = ring_push(&e->done, &entry);
    assert(pushed);
    (void)pushed;
    e->wake_io(e->context);
    return true;
}

void encoder_run(Encoder *e) {
    while (!atomic_load(&e->stop)) {
        uint32_t seen = atomic_load(&e->signal);
        if (!encoder_turn(e)) os_wait_word(&e->signal, seen, UINT32_MAX);
    }
}
