// crit_grad_norm - Euclidean norm of the loss gradient.
// Head: sqrt sum_ti da^2. Neuron: norm of its row of dW1. Both modes alike.
// As a zero-cost proxy: Abdelfattah et al. 2021, "Zero-cost proxies for lightweight NAS".
#include "criterion.h"
#include <math.h>

static void heads(float *out, const crit_in *in) { out[0] = (float)sqrt(crit_sum(in, 0, USUM_GRAD)); }

static void neurons(float *out, const crit_in *in) {
    for (int u = 0; u < in->U; u++) out[u] = (float)sqrt(in->wsums[u * WSUMS + WSUM_SQUARE]);
}

#define MODE                                                                                                           \
    { heads, neurons, CRIT_SUM(USUM_GRAD), CRIT_WSUMS, "sqrt sum_ti da^2", "sqrt sum_e dW1^2", NULL }
const criterion crit_grad_norm = {
    .name = "grad_norm",
    .about = "norm of the gradient (Abdelfattah 2021)",
    .unit = {{"nats per activation", "nats per weight"}, {"nats per activation", "nats per weight"}},
    .sound = MODE,
    .compat = MODE};
