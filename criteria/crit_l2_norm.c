// crit_l2_norm - size of a unit's output.
// Head: sqrt sum_ti a^2. Neuron: sqrt sum_t r^2, r = relu(z), or of a gated one act(g) u; compat: sqrt sum_t z^2, which
// also counts what ReLU drops.
// The label of DejaVu's head predictors: Liu et al. 2023, "Deja Vu: contextual sparsity for efficient LLMs at inference
// time".
#include "criterion.h"
#include <math.h>

static void root(float *out, const crit_in *in) {
    for (int u = 0; u < in->U; u++) out[u] = (float)sqrt(crit_sum(in, u, USUM_ACT));
}

static void neurons(float *out, const crit_in *in) {
    for (int u = 0; u < in->U; u++) out[u] = (float)sqrt(crit_sum(in, u, USUM_OUTPUT));
}

const criterion crit_l2_norm = {
    .name = "l2_norm",
    .about = "Euclidean norm of the unit's output (Liu 2023, DejaVu)",
    .unit = {{"activation"}},
    .sound = {root, neurons, CRIT_SUM(USUM_ACT), CRIT_SUM(USUM_OUTPUT), "sqrt sum_ti a^2",
              "sqrt sum_t r^2, the output r", NULL},
    .compat = {root, root, CRIT_SUM(USUM_ACT), CRIT_SUM(USUM_ACT), "sqrt sum_ti a^2", "sqrt sum_t z^2", NULL}};
