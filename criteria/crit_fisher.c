// crit_fisher - second-order loss change when the unit is removed, with the empirical Fisher information for the Hessian.
// Head: 1/2 mean_t (sum_i a*da)^2. Neuron: 1/2 mean_t (z*dz)^2. Tokens count as separate samples.
// Theis et al. 2018, "Faster gaze prediction with dense networks and Fisher pruning", eq. 4.
// Compat: head sum_i mean_t (a*da)^2, neuron mean_t (z*dz)^2: the square is inside the sum over i, and the 1/2 is missing.
#include "tile.h"

CRIT_WIDE static void heads(float *out, const crit_in *in) {
    double sum = 0;
    for (int t = 0; t < in->T; t++) {
        double s = tile_dot(in->act + (size_t)t * in->ld, in->grad + (size_t)t * in->ld, in->D);
        sum += s * s;
    }
    out[0] = (float)(0.5 * sum / in->T);
}

CRIT_WIDE static void heads_compat(float *out, const crit_in *in) {
    double sum = 0;
    for (int t = 0; t < in->T; t++) {
        const float *a = in->act + (size_t)t * in->ld, *g = in->grad + (size_t)t * in->ld;
#pragma omp simd reduction(+ : sum)
        for (int i = 0; i < in->D; i++) {
            double s = (double)a[i] * g[i];
            sum += s * s;
        }
    }
    out[0] = (float)(sum / in->T);
}

// Squares in double: a gradient of 1e-20 is far above zero, its square is not in float.
CRIT_INLINE void mean_squares(float *out, const crit_in *in, double factor) {
    double sum[CRIT_TILE] = {0};
    ASSERT(in->U <= CRIT_TILE);
    for (int t = 0; t < in->T; t++) {
        const float *z = in->act + (size_t)t * in->ld, *g = in->grad + (size_t)t * in->ld;
#pragma omp simd
        for (int u = 0; u < in->U; u++) {
            double s = (double)z[u] * g[u];
            sum[u] += s * s;
        }
    }
    for (int u = 0; u < in->U; u++) out[u] = (float)(factor * sum[u] / in->T);
}

CRIT_WIDE static void neurons(float *out, const crit_in *in) { mean_squares(out, in, 0.5); }
CRIT_WIDE static void neurons_compat(float *out, const crit_in *in) { mean_squares(out, in, 1); }

enum { NEEDS = CRIT_ACT | CRIT_GRAD };
const criterion crit_fisher = {
    .name = "fisher", .about = "Fisher information of the unit's gate (Theis 2018)",
    .sound = {heads, neurons, NEEDS, NEEDS, "1/2 mean_t (sum_i a*da)^2", "1/2 mean_t (z*dz)^2", NULL},
    .compat = {heads_compat, neurons_compat, NEEDS, NEEDS, "sum_i mean_t (a*da)^2", "mean_t (z*dz)^2", NULL}};
