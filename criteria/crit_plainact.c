// crit_plainact - size of the first-order loss change, token by token (heads) or weight by weight (neurons).
// Head: sum_t |sum_i a*da|. Neuron: sum_e |W1*dW1|. Both modes alike.
// Molchanov et al. 2017, "Pruning convolutional neural networks for resource efficient inference", eq. 7.
#include "criterion.h"

static void heads(float *out, const crit_in *in) { out[0] = (float)crit_sum(in, 0, USUM_SIZE); }

static void neurons(float *out, const crit_in *in) {
    for (int u = 0; u < in->U; u++) out[u] = (float)in->wsums[u * WSUMS + WSUM_SIZE];
}

#define MODE                                                                                                           \
    { heads, neurons, CRIT_SUM(USUM_SIZE), CRIT_WSUMS, "sum_t |sum_i a*da|", "sum_e |W1*dW1|", NULL }
const criterion crit_plainact = {.name = "plainact",
                                 .about = "first-order change of the loss (Molchanov 2017)",
                                 .unit = {{"nats"}},
                                 .sound = MODE,
                                 .compat = MODE};
