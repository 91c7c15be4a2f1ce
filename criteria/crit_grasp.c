// crit_grasp - how much the gradient norm falls when the unit goes: theta * (H g), H the Hessian of the loss.
// Head: sum_ti a*(Hv)_a. Neuron: sum_t z*(Hv)_z. H is joint over additive perturbations of the taps of all layers, v = (da, dz).
// Wang et al. 2020, "Picking winning tickets before training by preserving gradient flow". They score -theta*Hg and remove the
// largest, so importance is +theta*Hg.
// Compat: -sum_i mean_t a*(Hu)_a and -mean_e W1*(2 dW1 + (Hu)_W1), u = (da/(T*E), dW1/(F*E)): the published sign, reversed.
#include "ops.h"
#include "tile.h"

CRIT_WIDE static void heads(float *out, const crit_in *in) { out[0] = (float)tile_dot_head(in->act, in->hv, in); }

CRIT_WIDE static void neurons(float *out, const crit_in *in) {
    double sum[CRIT_TILE];
    tile_dots(sum, in->act, in->hv, in);
    for (int u = 0; u < in->U; u++) out[u] = (float)sum[u];
}

CRIT_WIDE static void heads_compat(float *out, const crit_in *in) {
    out[0] = (float)(-tile_dot_head(in->act, in->hu, in) / in->T);
}

static void neurons_compat(float *out, const crit_in *in) {
    for (int u = 0; u < in->U; u++) out[u] = (float)(-(2 * in->wsums[u * WSUMS + WSUM_SIGNED] + in->wsums[u * WSUMS + WSUM_TANGENT]) / in->E);
}

enum { NEEDS = CRIT_ACT | CRIT_HESS };
const criterion crit_grasp = {
    .name = "grasp", .about = "fall of the gradient flow without the unit (Wang 2020)",
    .sound = {heads, neurons, NEEDS, NEEDS, "sum_ti a*(Hv)_a, v = (da, dz)", "sum_t z*(Hv)_z, v = (da, dz)", NULL},
    .compat = {heads_compat, neurons_compat, CRIT_ACT | CRIT_HESS_COMPAT, CRIT_WSUMS | CRIT_HESS_COMPAT,
               "-sum_i mean_t a*(Hu)_a", "-mean_e W1*(2 dW1 + (Hu)_W1)", NULL}};
