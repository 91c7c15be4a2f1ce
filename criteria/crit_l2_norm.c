// crit_l2_norm - size of a unit's output.
// Head: sqrt sum_ti a^2. Neuron: sqrt sum_t relu(z)^2; compat: sqrt sum_t z^2, which also counts what ReLU drops.
// The label of DejaVu's head predictors: Liu et al. 2023, "Deja Vu: contextual sparsity for efficient LLMs at inference time".
#include "tile.h"
#include <math.h>

CRIT_WIDE static void heads(float *out, const crit_in *in) {
    out[0] = (float)sqrt(tile_dot_head(in->act, in->act, in));
}

CRIT_WIDE static void neurons(float *out, const crit_in *in) {
    double sum[CRIT_TILE] = {0};
    ASSERT(in->U <= CRIT_TILE);
    for (int t = 0; t < in->T; t++) {
        const float *z = in->act + (size_t)t * in->ld;
#pragma omp simd
        for (int u = 0; u < in->U; u++) {
            float r = z[u] + fabsf(z[u]);  // 2 relu(z) without a branch, NaN kept
            sum[u] += (double)r * r;
        }
    }
    for (int u = 0; u < in->U; u++) out[u] = (float)(0.5 * sqrt(sum[u]));
}

CRIT_WIDE static void neurons_compat(float *out, const crit_in *in) {
    double sum[CRIT_TILE];
    tile_dots(sum, in->act, in->act, in);
    for (int u = 0; u < in->U; u++) out[u] = (float)sqrt(sum[u]);
}

const criterion crit_l2_norm = {
    .name = "l2_norm", .about = "Euclidean norm of the unit's output (Liu 2023, DejaVu)",
    .sound = {heads, neurons, CRIT_ACT, CRIT_ACT, "sqrt sum_ti a^2", "sqrt sum_t relu(z)^2", NULL},
    .compat = {heads, neurons_compat, CRIT_ACT, CRIT_ACT, "sqrt sum_ti a^2", "sqrt sum_t z^2", NULL}};
