// crit_nwot - how many different activation patterns the tokens have.
// Head: ln det(I_T + K/d), K_ts = number of the d values whose sign [a > 0] tokens t and s share. Neuron (the same with d = 1):
// ln(1 + n1) + ln(1 + n0), n1 tokens with z > 0, n0 = T - n1.
// Mellor et al. 2021, "Neural architecture search without training"; they compare examples, here the tokens of one.
// Compat: head ln #(t,i: a <= 0), neuron ln of the fraction of tokens with z <= 0; 0 where the count is 0. A batch of one had left
// a 1 x 1 determinant.
#include "chol.h"
#include "tile.h"
#include <math.h>
#include <stdlib.h>

// The identity that makes it small: with signs S = +-1, K = (S S' + d 1 1')/2, so K/d = W W' with W = [S/sqrt(2d), 1/sqrt 2] of
// d + 1 columns, and det(I_T + W W') = det(I + W' W).
CRIT_WIDE static void heads(float *out, const crit_in *in) {
    const int T = in->T, D = in->D, by_value = D + 1 < T, items = by_value ? D : T, n = by_value ? D + 1 : T;
    const int words = ((by_value ? T : D) + 63) / 64;
    uint64_t *bit = xcalloc((size_t)words * (size_t)items, sizeof *bit);  // [words, items]
    double *m = xmalloc((size_t)n * (size_t)n * sizeof *m);
    for (int t = 0; t < T; t++) {
        const float *a = in->act + (size_t)t * in->ld;
        if (by_value)
            for (int i = 0; i < D; i++) bit[(size_t)(t / 64) * D + i] |= (uint64_t)(a[i] > 0) << t % 64;
        else
            for (int i = 0; i < D; i++) bit[(size_t)(i / 64) * T + t] |= (uint64_t)(a[i] > 0) << i % 64;
    }
    for (int i = 0; i < items; i++)
        for (int j = i; j < items; j++) {
            int differ = 0;
            for (int w = 0; w < words; w++)
                differ += __builtin_popcountll(bit[(size_t)w * items + i] ^ bit[(size_t)w * items + j]);
            m[(size_t)i * n + j] = (i == j) + (by_value ? (T - 2.0 * differ) / (2.0 * D) : (D - differ) / (double)D);
        }
    if (by_value) {
        for (int i = 0; i < D; i++) {
            int ones = 0;
            for (int w = 0; w < words; w++) ones += __builtin_popcountll(bit[(size_t)w * D + i]);
            m[(size_t)i * n + D] = (2.0 * ones - T) / (2 * sqrt(D));
        }
        m[(size_t)D * n + D] = 1 + T / 2.0;
    }
    out[0] = (float)chol_factor(m, n);
    free(m);
    free(bit);
}

CRIT_INLINE void count_positive(int *count, const crit_in *in) {
    ASSERT(in->U <= CRIT_TILE);
    for (int u = 0; u < in->U; u++) count[u] = 0;
    for (int t = 0; t < in->T; t++) {
        const float *z = in->act + (size_t)t * in->ld;
#pragma omp simd
        for (int u = 0; u < in->U; u++) count[u] += z[u] > 0;
    }
}

CRIT_WIDE static void neurons(float *out, const crit_in *in) {
    int on[CRIT_TILE];
    count_positive(on, in);
    for (int u = 0; u < in->U; u++) out[u] = (float)(log1p(on[u]) + log1p(in->T - on[u]));
}

static void heads_compat(float *out, const crit_in *in) {
    long off = 0;
    for (int t = 0; t < in->T; t++)
        for (int i = 0; i < in->D; i++) off += !(in->act[(size_t)t * in->ld + i] > 0);
    out[0] = off ? (float)log((double)off) : 0;
}

CRIT_WIDE static void neurons_compat(float *out, const crit_in *in) {
    int on[CRIT_TILE];
    count_positive(on, in);
    for (int u = 0; u < in->U; u++) out[u] = on[u] < in->T ? (float)log((in->T - on[u]) / (double)in->T) : 0;
}

const criterion crit_nwot = {
    .name = "nwot", .about = "diversity of the activation patterns of the tokens (Mellor 2021)",
    .sound = {heads, neurons, CRIT_ACT, CRIT_ACT, "ln det(I + K/d), K_ts = signs that tokens t and s share", "ln(1 + n1) + ln(1 + n0), n1 tokens with z > 0, n0 others", NULL},
    .compat = {heads_compat, neurons_compat, CRIT_ACT, CRIT_ACT, "ln #(t,i: a <= 0)", "ln mean_t [z <= 0], 0 where there is none", NULL}};
