// crit_snip - |dL/dm| of a gate m = 1 on the unit.
// Head: |sum_ti a*da|. Neuron: |sum_t z*dz|.
// Lee et al. 2019, "SNIP: single-shot network pruning", eq. 6; for heads Michel et al. 2019, "Are sixteen heads really better than one?".
// Compat: head sum over t and the head's columns of |do|, o = the output of out_proj, whose columns belong to no head; neuron sum_t |dz|.
#include "tile.h"
#include <math.h>

CRIT_WIDE static void heads(float *out, const crit_in *in) { out[0] = (float)fabs(tile_dot_head(in->act, in->grad, in)); }

CRIT_WIDE static void neurons(float *out, const crit_in *in) {
    double sum[CRIT_TILE];
    tile_dots(sum, in->act, in->grad, in);
    for (int u = 0; u < in->U; u++) out[u] = (float)fabs(sum[u]);
}

CRIT_WIDE static void heads_compat(float *out, const crit_in *in) {
    double sum = 0;
    for (int t = 0; t < in->T; t++) {
        const float *g = in->out_grad + (size_t)t * in->E + (size_t)in->unit * in->D;
#pragma omp simd reduction(+ : sum)
        for (int i = 0; i < in->D; i++) sum += fabsf(g[i]);
    }
    out[0] = (float)sum;
}

CRIT_WIDE static void neurons_compat(float *out, const crit_in *in) {
    double sum[CRIT_TILE] = {0};
    ASSERT(in->U <= CRIT_TILE);
    for (int t = 0; t < in->T; t++) {
        const float *g = in->grad + (size_t)t * in->ld;
#pragma omp simd
        for (int u = 0; u < in->U; u++) sum[u] += fabsf(g[u]);
    }
    for (int u = 0; u < in->U; u++) out[u] = (float)sum[u];
}

enum { NEEDS = CRIT_ACT | CRIT_GRAD };
const criterion crit_snip = {
    .name = "snip", .about = "sensitivity of the loss to a gate on the unit (Lee 2019, Michel 2019)",
    .sound = {heads, neurons, NEEDS, NEEDS, "|sum_ti a*da|", "|sum_t z*dz|", NULL},
    .compat = {heads_compat, neurons_compat, CRIT_OUT_GRAD, CRIT_GRAD, "sum_ti |do|, o = out_proj's output", "sum_t |dz|", NULL}};
