// tile - the three sums that most criteria are made of. Shapes as in criterion.h; sums in double, because a*da has both signs and
// scores are small differences of large terms.
#pragma once
#include "base.h"
#include "criterion.h"

// Sum over one token's values of a*b.
CRIT_INLINE double tile_dot(const float *a, const float *b, int n) {
    double s = 0;
#pragma omp simd reduction(+ : s)
    for (int i = 0; i < n; i++) s += (double)a[i] * b[i];
    return s;
}

// Per unit of a tile of neurons: sum over tokens of a[t,u] * b[t,u].
CRIT_INLINE void tile_dots(double *sum, const float *a, const float *b, const crit_in *in) {
    ASSERT(in->D == 1 && in->U <= CRIT_TILE);
    for (int u = 0; u < in->U; u++) sum[u] = 0;
    for (int t = 0; t < in->T; t++) {
        const float *at = a + (size_t)t * in->ld, *bt = b + (size_t)t * in->ld;
#pragma omp simd
        for (int u = 0; u < in->U; u++) sum[u] += (double)at[u] * bt[u];
    }
}

// Per head: sum over tokens and values of a*b.
CRIT_INLINE double tile_dot_head(const float *a, const float *b, const crit_in *in) {
    double sum = 0;
    for (int t = 0; t < in->T; t++) sum += tile_dot(a + (size_t)t * in->ld, b + (size_t)t * in->ld, in->D);
    return sum;
}
