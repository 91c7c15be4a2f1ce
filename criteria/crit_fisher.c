// crit_fisher - second-order loss change when the unit is removed, with the empirical Fisher information for the
// Hessian. Head: 1/2 mean_t (sum_i a*da)^2. Neuron: 1/2 mean_t (z*dz)^2. Tokens count as separate samples.
// Theis et al. 2018, "Faster gaze prediction with dense networks and Fisher pruning", eq. 4.
// Compat: head sum_i mean_t (a*da)^2, neuron mean_t (z*dz)^2: the square is inside the sum over i, and the 1/2 is
// missing.
#include "criterion.h"

static void sound(float *out, const crit_in *in) {
    for (int u = 0; u < in->U; u++) out[u] = (float)(0.5 * crit_sum(in, u, USUM_SQUARE) / in->T);
}

static void compat(float *out, const crit_in *in) {
    for (int u = 0; u < in->U; u++) out[u] = (float)(crit_sum(in, u, USUM_VALUES) / in->T);
}

enum { SOUND = CRIT_SUM(USUM_SQUARE), COMPAT = CRIT_SUM(USUM_VALUES) };
const criterion crit_fisher = {
    .name = "fisher",
    .about = "Fisher information of the unit's gate (Theis 2018)",
    .unit = {{"nats^2"}},
    .sound = {sound, sound, SOUND, SOUND, "1/2 mean_t (sum_i a*da)^2", "1/2 mean_t (z*dz)^2", NULL},
    .compat = {compat, compat, COMPAT, COMPAT, "sum_i mean_t (a*da)^2", "mean_t (z*dz)^2", NULL}};
