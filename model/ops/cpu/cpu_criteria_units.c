// cpu_criteria_units - sums over the tokens of each unit (USUM_.. of ops.h). In double, because a g has both signs and
// scores are small differences of large terms. Serial: callers share units out. A sum has the same bits whichever
// others are asked for.
#include "cpu.h"
#include "simd.h"
#include <math.h>
#include <string.h>

enum { COLUMNS = 128 };  // units of one value at a time
#define ASKED(column) (which >> (column)&1)

// Units of one value: tokens one by one, all units of a token side by side.
HOT static void column_sums(double *sums, unsigned which, const unit_taps *x, int from, int units, const span *s) {
    double sum[USUM_OUT][COLUMNS];
    for (int k = 0; k < USUM_OUT; k++)
        if (ASKED(k)) memset(sum[k], 0, sizeof sum[k]);
    for (int t = 0; t < s->n; t++) {
        const size_t at = (size_t)(s->row + t) * (size_t)x->ld + (size_t)from;
        const float *a = x->act ? x->act + at : NULL, *g = x->grad ? x->grad + at : NULL,
                    *h = x->tangent ? x->tangent + at : NULL, *on = x->gate ? x->gate + at : a;
#define ADD(column, term)                                                                                              \
    if (ASKED(column)) {                                                                                               \
        double *to = sum[column];                                                                                      \
        _Pragma("omp simd") for (int u = 0; u < units; u++) {                                                          \
            const double v = term;                                                                                     \
            to[u] += v;                                                                                                \
        }                                                                                                              \
    }
        // 2 relu(a) without a branch, NaN kept
        // a gradient of 1e-20 is far above zero, its square is not in float
        ADD(USUM_ACT, (double)a[u] * a[u])
        if (x->gate) {
            ADD(USUM_OUTPUT, (double)a[u] * a[u])
        } else {
            ADD(USUM_OUTPUT, 0.25 * ((double)(a[u] + fabsf(a[u])) * (a[u] + fabsf(a[u]))))
        }
        ADD(USUM_GRAD, (double)g[u] * g[u])
        ADD(USUM_ABS, fabsf(g[u]))
        ADD(USUM_SIGNED, (double)a[u] * g[u])
        ADD(USUM_SIZE, fabs((double)a[u] * g[u]))
        ADD(USUM_SQUARE, ((double)a[u] * g[u]) * ((double)a[u] * g[u]))
        ADD(USUM_VALUES, ((double)a[u] * g[u]) * ((double)a[u] * g[u]))
        ADD(USUM_ON, on[u] > 0)
        ADD(USUM_TANGENT, (double)a[u] * h[u])
#undef ADD
    }
    for (int k = 0; k < USUM_OUT; k++)
        for (int u = 0; ASKED(k) && u < units; u++) sums[(size_t)u * USUMS + (size_t)k] = sum[k][u];
}

// Over one token's values.
FORCE_INLINE double dot(const float *a, const float *b, int n) {
    double s = 0;
#pragma omp simd reduction(+ : s)
    for (int i = 0; i < n; i++) s += (double)a[i] * b[i];
    return s;
}
FORCE_INLINE double relu_squares(const float *a, int n) {
    double s = 0;
#pragma omp simd reduction(+ : s)
    for (int i = 0; i < n; i++) s += 0.25 * ((double)(a[i] + fabsf(a[i])) * (a[i] + fabsf(a[i])));
    return s;
}
FORCE_INLINE double product_squares(const float *a, const float *b, int n) {
    double s = 0;
#pragma omp simd reduction(+ : s)
    for (int i = 0; i < n; i++) s += ((double)a[i] * b[i]) * ((double)a[i] * b[i]);
    return s;
}
FORCE_INLINE double sizes(const float *a, int n) {
    double s = 0;
#pragma omp simd reduction(+ : s)
    for (int i = 0; i < n; i++) s += fabsf(a[i]);
    return s;
}
FORCE_INLINE int positive(const float *a, int n) {
    int count = 0;
#pragma omp simd reduction(+ : count)
    for (int i = 0; i < n; i++) count += a[i] > 0;
    return count;
}

HOT static void wide_sums(double *sums, unsigned which, const unit_taps *x, int unit, const span *s) {
    const int D = x->D;
    const bool products = ASKED(USUM_SIGNED) || ASKED(USUM_SIZE) || ASKED(USUM_SQUARE);
    double sum[USUM_OUT + 1] = {0};
    for (int t = 0; t < s->n; t++) {
        const size_t row = (size_t)(s->row + t), column = (size_t)unit * (size_t)D, at = row * (size_t)x->ld + column;
        const float *a = x->act ? x->act + at : NULL, *g = x->grad ? x->grad + at : NULL;
        if (products) {
            const double ag = dot(a, g, D);
            sum[USUM_SIGNED] += ag;
            sum[USUM_SIZE] += fabs(ag);
            sum[USUM_SQUARE] += ag * ag;
        }
        if (ASKED(USUM_ACT)) sum[USUM_ACT] += dot(a, a, D);
        if (ASKED(USUM_OUTPUT)) sum[USUM_OUTPUT] += x->gate ? dot(a, a, D) : relu_squares(a, D);
        if (ASKED(USUM_GRAD)) sum[USUM_GRAD] += dot(g, g, D);
        if (ASKED(USUM_ABS)) sum[USUM_ABS] += sizes(g, D);
        if (ASKED(USUM_VALUES)) sum[USUM_VALUES] += product_squares(a, g, D);
        if (ASKED(USUM_ON)) sum[USUM_ON] += positive(x->gate ? x->gate + at : a, D);
        if (ASKED(USUM_TANGENT)) sum[USUM_TANGENT] += dot(a, x->tangent + at, D);
        if (ASKED(USUM_OUT)) sum[USUM_OUT] += sizes(x->out + row * (size_t)x->out_ld + column, D);
    }
    for (int k = 0; k <= USUM_OUT; k++)
        if (ASKED(k)) sums[k] = sum[k];
}

void cpu_unit_sums(double *sums, unsigned which, const unit_taps *x, int from, int units, const span *s, int n) {
    const bool columns = x->D == 1 && !ASKED(USUM_OUT);
    for (int i = 0; i < n; i++, sums += (size_t)units * USUMS)
        for (int u = 0; u < units; u += columns ? COLUMNS : 1) {
            double *to = sums + (size_t)u * USUMS;
            if (columns)
                column_sums(to, which, x, from + u, units - u < COLUMNS ? units - u : COLUMNS, &s[i]);
            else
                wide_sums(to, which, x, from + u, &s[i]);
        }
}
