#include "template/nodes.h"

bool node_mentions(const Node *n, uint32_t symbol) {
    for (; n; n = n->next) {
        if (n->kind == N_NAME && n->symbol == symbol) return true;
        const Node *const parts[] = {n->a,          n->b,      n->c,    n->args,   n->kwargs, n->dyn_args,
                                     n->dyn_kwargs, n->filter, n->body, n->orelse, n->macro};
        for (size_t i = 0; i < COUNT_OF(parts); i++) {
            if (parts[i] && node_mentions(parts[i], symbol)) return true;
        }
    }
    return false;
}
