// crit_grad_norm - Euclidean norm of the loss gradient.
// Head: sqrt sum_ti da^2. Neuron: norm of its row of dW1. Both modes alike.
// As a zero-cost proxy: Abdelfattah et al. 2021, "Zero-cost proxies for lightweight NAS".
#include "ops.h"
#include "tile.h"
#include <math.h>

CRIT_WIDE static void heads(float *out, const crit_in *in) {
    out[0] = (float)sqrt(tile_dot_head(in->grad, in->grad, in));
}

static void neurons(float *out, const crit_in *in) {
    for (int u = 0; u < in->U; u++) out[u] = (float)sqrt(in->wsums[u * WSUMS + WSUM_SQUARE]);
}

#define MODE {heads, neurons, CRIT_GRAD, CRIT_WSUMS, "sqrt sum_ti da^2", "sqrt sum_e dW1^2", NULL}
const criterion crit_grad_norm = {
    .name = "grad_norm", .about = "norm of the gradient (Abdelfattah 2021)", .sound = MODE, .compat = MODE};
