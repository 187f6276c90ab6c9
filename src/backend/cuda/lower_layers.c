// What must be the same in all layers, since buffers and the cache are laid out once for them all.
#include "../kernels_src/layout.h"
#include "backend/cuda/lower.h"

// Heads and caches may differ from layer to layer. A layer whose heads are fewer values than another's must
// end with a whole sheet of activations (kernels_src/rows.cuh): what wider ones leave behind it would not be
// zeros.
static bool check_attention(const Plan *plan, const Op *op, Error *err) {
    if (op->attention.key_dim != op->attention.value_dim && !plan->caches[op->attention.cache].is_latent) {
        return error_set(err, ERR_UNSUPPORTED,
                         "layer %u: values of %u beside keys of %u cannot be run on the GPU yet", op->layer,
                         op->attention.value_dim, op->attention.key_dim);
    }
    uint32_t most = plan->act_width[op->out];
    if (op->out_width % ACTIVATION_COLS == 0 || op->out_width == most) return true;
    return error_set(
        err, ERR_UNSUPPORTED,
        "layers of different sizes cannot be run on the GPU yet: layer %u has heads of %u values in "
        "all, another layer of %u",
        op->layer, op->out_width, most);
}

// Experts are of one width, and so is what layers with a state give. Other feed-forwards may be narrower than
// the widest where they end with a whole sheet of activations (kernels_src/rows.cuh): what wider ones leave
// behind it would not be zeros.
static bool check_width(const Plan *plan, const Op *op, const Op *experts, Error *err) {
    bool shares = op->out == ACT_F || op->out == ACT_PG; // a buffer
    uint32_t most = plan->act_width[op->out];
    if (shares) most = (uint32_t)max_u64(plan->act_width[ACT_F], plan->act_width[ACT_PG]);
    bool fits = shares             ? op->out_width % ACTIVATION_COLS == 0 || op->out_width == most
                : op->out == ACT_Y ? op->out_width == most
                                   : op->out_width == experts->out_width;
    if (fits) return true;
    return error_set(err, ERR_UNSUPPORTED,
                     "layers of different sizes cannot be run on the GPU yet: layer %u has a %s of %u, "
                     "another layer of %u",
                     op->layer, op->out == ACT_Y ? "state" : "feed-forward", op->out_width,
                     op->out == ACT_EF ? experts->out_width : most);
}

bool lower_check_layers(const Plan *plan, Error *err) {
    const Op *experts = NULL;
    for (uint32_t i = 0; i < plan->n_ops; i++) {
        const Op *op = &plan->ops[i];
        if (op->kind == OP_ATTENTION && !check_attention(plan, op, err)) return false;
    }
    for (uint32_t i = 0; i < plan->n_ops; i++) {
        const Op *op = &plan->ops[i];
        if (op->out == ACT_EF && !experts) experts = op;
        if ((op->out == ACT_PG || op->out == ACT_F || op->out == ACT_EF || op->out == ACT_Y) &&
            !check_width(plan, op, experts, err))
            return false;
    }
    return true;
}
