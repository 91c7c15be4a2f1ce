// crit_snip - |dL/dm| of a gate m = 1 on the unit.
// Head: |sum_ti a*da|. Neuron: |sum_t z*dz|.
// Lee et al. 2019, "SNIP: single-shot network pruning", eq. 6; for heads Michel et al. 2019, "Are sixteen heads really
// better than one?". Compat: head sum over t and the head's columns of |do|, o = the output of out_proj, whose columns
// belong to no head; neuron sum_t |dz|.
#include "criterion.h"
#include <math.h>

static void sound(float *out, const crit_in *in) {
    for (int u = 0; u < in->U; u++) out[u] = (float)fabs(crit_sum(in, u, USUM_SIGNED));
}

static void heads_compat(float *out, const crit_in *in) { out[0] = (float)crit_sum(in, 0, USUM_OUT); }

static void neurons_compat(float *out, const crit_in *in) {
    for (int u = 0; u < in->U; u++) out[u] = (float)crit_sum(in, u, USUM_ABS);
}

const criterion crit_snip = {
    .name = "snip",
    .about = "sensitivity of the loss to a gate on the unit (Lee 2019, Michel 2019)",
    .unit = {{"nats", "nats"}, {"nats per activation", "nats per activation"}},
    .sound = {sound, sound, CRIT_SUM(USUM_SIGNED), CRIT_SUM(USUM_SIGNED), "|sum_ti a*da|", "|sum_t z*dz|", NULL},
    .compat = {heads_compat, neurons_compat, CRIT_SUM(USUM_OUT), CRIT_SUM(USUM_ABS),
               "sum_ti |do|, o = out_proj's output", "sum_t |dz|", NULL}};
