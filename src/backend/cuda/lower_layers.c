// What must be the same in all layers, since buffers and the cache are laid out once for them all.
#include "../kernels_src/layout.h"
#include "backend/cuda/lower.h"

static bool refuse_layer(const Op *op, const Op *first, Error *err) {
    return error_set(
        err, ERR_UNSUPPORTED,
        "layers of different sizes cannot be run on the GPU yet: layer %u has %u heads on %u, keys of %u; "
        "layer %u has %u on %u, keys of %u",
        op->layer, op->attention.n_heads, op->attention.n_kv_heads, op->attention.key_dim, first->layer,
        first->attention.n_heads, first->attention.n_kv_heads, first->attention.key_dim);
}

static bool check_attention(const Plan *plan, const Op *op, const Op *first, Error *err) {
    if (op->attention.key_dim != op->attention.value_dim && !plan->caches[op->attention.cache].is_latent) {
        return error_set(err, ERR_UNSUPPORTED,
                         "layer %u: values of %u beside keys of %u cannot be run on the GPU yet", op->layer,
                         op->attention.value_dim, op->attention.key_dim);
    }
    bool same = op->attention.n_heads == first->attention.n_heads &&
                op->attention.n_kv_heads == first->attention.n_kv_heads &&
                op->attention.key_dim == first->attention.key_dim;
    return same || refuse_layer(op, first, err);
}

// Experts are of one width, and so is what layers with a state give. Other feed-forwards may be narrower than
// the widest where they end with a whole sheet of activations (kernels_src/rows.cuh): what wider ones leave
// behind it would not be zeros.
static bool check_width(const Plan *plan, const Op *op, const Op *experts, Error *err) {
    uint32_t most = plan->act_width[op->out];
    bool fits = op->out == ACT_F   ? op->out_width % ACTIVATION_COLS == 0 || op->out_width == most
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
    const Op *attention = NULL, *experts = NULL;
    for (uint32_t i = 0; i < plan->n_ops; i++) {
        const Op *op = &plan->ops[i];
        if (op->kind == OP_ATTENTION && !attention) attention = op;
        if (op->kind == OP_ATTENTION && !check_attention(plan, op, attention, err)) return false;
    }
    for (uint32_t i = 0; i < plan->n_ops; i++) {
        const Op *op = &plan->ops[i];
        if (op->out == ACT_EF && !experts) experts = op;
        if ((op->out == ACT_F || op->out == ACT_EF || op->out == ACT_Y) &&
            !check_width(plan, op, experts, err))
            return false;
    }
    return true;
}
