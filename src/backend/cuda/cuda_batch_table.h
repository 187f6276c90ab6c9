// The table of a class of batches, on the device and as it is sent: Batch, the numbers of the rows whose
// logits are wanted, the rows. What comes first is sent alone where there are fewer rows.
#pragma once

#include "backend/cuda/batch_lower.h"

// Rows whose logits can be wanted at once. Those of a prompt are asked for one by one.
static inline uint32_t batch_logits_max(const BatchClass *c) {
    return c->size.body == BODY_PROMPT ? 1 : c->size.max_rows;
}

static inline uint64_t batch_rows_at(const BatchClass *c) {
    return align_up(sizeof(Batch) + batch_logits_max(c) * sizeof(uint32_t), 16);
}

static inline uint64_t batch_table_bytes(const BatchClass *c, uint32_t n_rows) {
    return batch_rows_at(c) + n_rows * sizeof(BatchRow);
}
