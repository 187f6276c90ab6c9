// The table of a class of batches, on the device and as it is sent: Batch, the numbers of the rows whose
// logits are wanted, of prompts the stretches, where layers keep a state the runs, the rows. What comes first
// is sent alone where there are fewer rows.
#pragma once

#include "backend/cuda/batch_lower.h"

// Of BatchLowered.cuts[cut], or behind the last.
static inline uint64_t batch_stretches_at(const BatchClass *c, uint32_t cut) {
    uint64_t n = 0;
    for (uint32_t i = 0; i < cut; i++)
        n += c->max_stretches[i];
    return align_up(sizeof(Batch) + c->max_logits * sizeof(uint32_t), 16) + n * sizeof(RowStretch);
}

static inline uint64_t batch_runs_at(const BatchClass *c) {
    return align_up(batch_stretches_at(c, STRETCH_CUTS), 16);
}

static inline uint64_t batch_rows_at(const BatchClass *c) {
    return align_up(batch_runs_at(c) + c->max_runs * sizeof(RowRun), 16);
}

static inline uint64_t batch_table_bytes(const BatchClass *c, uint32_t n_rows) {
    return batch_rows_at(c) + n_rows * sizeof(BatchRow);
}
