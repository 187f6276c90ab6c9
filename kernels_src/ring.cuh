// A ring of slots in shared memory, each with a barrier for those who fill it and one for those who read it
// (sm_90). Slots are used one after the other; n: the n-th use.
// Waits until a slot is there, or, before it is filled, until it has been used by all.
template <u32 slots> DEVICE void wait_full(BulkBarrier (&full)[slots], u32 n) {
    bulk_barrier_wait(&full[n % slots], n / slots % 2);
}
template <u32 slots> DEVICE void wait_read(BulkBarrier (&read)[slots], u32 n) {
    bulk_barrier_wait(&read[n % slots], n / slots % 2 ^ 1);
}
// A warp's arrival.
template <u32 slots> DEVICE void arrive_at(BulkBarrier (&b)[slots], u32 n) {
    if (lane_index() == 0) bulk_barrier_arrive(&b[n % slots]);
}
