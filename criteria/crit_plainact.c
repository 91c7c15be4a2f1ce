// crit_plainact - size of the first-order loss change, token by token (heads) or weight by weight (neurons).
// Head: sum_t |sum_i a*da|. Neuron: sum_e |W1*dW1|. Both modes alike.
// Molchanov et al. 2017, "Pruning convolutional neural networks for resource efficient inference", eq. 7.
#include "ops.h"
#include "tile.h"
#include <math.h>

CRIT_WIDE static void heads(float *out, const crit_in *in) {
    double sum = 0;
    for (int t = 0; t < in->T; t++)
        sum += fabs(tile_dot(in->act + (size_t)t * in->ld, in->grad + (size_t)t * in->ld, in->D));
    out[0] = (float)sum;
}

static void neurons(float *out, const crit_in *in) {
    for (int u = 0; u < in->U; u++) out[u] = (float)in->wsums[u * WSUMS + WSUM_SIZE];
}

#define MODE {heads, neurons, CRIT_ACT | CRIT_GRAD, CRIT_WSUMS, "sum_t |sum_i a*da|", "sum_e |W1*dW1|", NULL}
const criterion crit_plainact = {
    .name = "plainact", .about = "first-order change of the loss (Molchanov 2017)", .sound = MODE, .compat = MODE};
