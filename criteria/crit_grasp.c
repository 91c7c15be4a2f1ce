// crit_grasp - how much the gradient norm falls when the unit goes: theta * (H g), H the Hessian of the loss.
// Head: sum_ti a*(Hv)_a. Neuron: sum_t z*(Hv)_z. H is joint over additive perturbations of the taps of all layers, v =
// (da, dz). Wang et al. 2020, "Picking winning tickets before training by preserving gradient flow". They score
// -theta*Hg and remove the largest, so importance is +theta*Hg.
// Compat: -sum_i mean_t a*(Hu)_a and -mean_e W1*(2 dW1 + (Hu)_W1), u = (da/(T*E), dW1/(F*E)): the published sign,
// reversed.
#include "criterion.h"

static void sound(float *out, const crit_in *in) {
    for (int u = 0; u < in->U; u++) out[u] = (float)crit_sum(in, u, USUM_TANGENT);
}

static void heads_compat(float *out, const crit_in *in) { out[0] = (float)(-crit_sum(in, 0, USUM_TANGENT) / in->T); }

static void neurons_compat(float *out, const crit_in *in) {
    for (int u = 0; u < in->U; u++)
        out[u] = (float)(-(2 * in->wsums[u * WSUMS + WSUM_SIGNED] + in->wsums[u * WSUMS + WSUM_TANGENT]) / in->E);
}

enum { NEEDS = CRIT_SUM(USUM_TANGENT) | CRIT_AFTER_HV };
const criterion crit_grasp = {
    .name = "grasp",
    .about = "fall of the gradient flow without the unit (Wang 2020)",
    .unit = {{"nats^2 per activation^2", "nats^2 per activation^2"}, {"nats^2 per activation^2", "nats"}},
    .sound = {sound, sound, NEEDS, NEEDS, "sum_ti a*(Hv)_a, v = (da, dz)", "sum_t z*(Hv)_z, v = (da, dz)", NULL},
    .compat = {heads_compat, neurons_compat, CRIT_SUM(USUM_TANGENT) | CRIT_AFTER_HU, CRIT_WSUMS | CRIT_AFTER_HU,
               "-sum_i mean_t a*(Hu)_a", "-mean_e W1*(2 dW1 + (Hu)_W1)", NULL}};
