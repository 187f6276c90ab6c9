// What must be the same in all layers, since buffers and the cache are laid out once for them all.
#include "backend/cuda/lower.h"

static bool refuse_layer(const Op *op, const Op *first, Error *err) {
    return error_set(
        err, ERR_UNSUPPORTED,
        "layers of different sizes cannot be run on the GPU yet: layer %u has %u heads on %u, keys of %u; "
        "layer %u has %u on %u, keys of %u",
        op->layer, op->attention.n_heads, op->attention.n_kv_heads, op->attention.key_dim, first->layer,
        first->attention.n_heads, first->attention.n_kv_heads, first->attention.key_dim);
}

static bool check_attention(const Op *op, const Op *first, Error *err) {
    if (op->attention.key_dim != op->attention.value_dim) {
        return error_set(err, ERR_UNSUPPORTED,
                         "layer %u: values of %u beside keys of %u cannot be run on the GPU yet", op->layer,
                         op->attention.value_dim, op->attention.key_dim);
    }
    bool same = op->attention.n_heads == first->attention.n_heads &&
                op->attention.n_kv_heads == first->attention.n_kv_heads &&
                op->attention.key_dim == first->attention.key_dim;
    return same || refuse_layer(op, first, err);
}

static bool check_width(const Op *op, const Op *first, Error *err) {
    if (op->out_width == first->out_width && op->out == first->out) return true;
    return error_set(
        err, ERR_UNSUPPORTED,
        "layers of different sizes cannot be run on the GPU yet: layer %u has a feed-forward of %u, "
        "layer %u of %u",
        op->layer, op->out_width, first->layer, first->out_width);
}

bool lower_check_layers(const Plan *plan, Error *err) {
    const Op *attention = NULL, *feed_forward = NULL;
    for (uint32_t i = 0; i < plan->n_ops; i++) {
        const Op *op = &plan->ops[i];
        bool is_activation = op->out == ACT_F || op->out == ACT_EF;
        if (op->kind == OP_ATTENTION && !attention) attention = op;
        if (is_activation && !feed_forward) feed_forward = op;
        if (op->kind == OP_ATTENTION && !check_attention(op, attention, err)) return false;
        if (is_activation && !check_width(op, feed_forward, err)) return false;
    }
    return true;
}
