// Each multiprocessor's count of clock cycles, and the time. Two readings give the mean frequency between
// them (bench).
//
//     out[m] = {cycles, ns}      m: the multiprocessor that the block runs on
//
// The time may advance in steps of a microsecond: what lies between two readings should take much longer.
//
// Grid: more blocks than there are multiprocessors, each as large as leaves room for few others, so that
// every multiprocessor has one. Where it has two, either's reading is one. Defines: BLOCKS.
#ifndef BLOCKS
#error "BLOCKS"
#endif

enum : u32 { CLOCK_THREADS = 1024 };

EXPORTED StageInfo read_clocks_info = {CLOCK_THREADS, {BLOCKS, 1}, 0};

KERNEL(CLOCK_THREADS, 1) read_clocks(ReadClocksArgs a) {
    u32 m = multiprocessor_index();
    if (thread_index() == 0 && m < READ_CLOCKS_MAX) {
        u64 ns = global_time_ns();
        a.out[m] = {clock_cycles(), ns};
    }
}
