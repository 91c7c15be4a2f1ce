// chol - Cholesky-Banachiewicz by rows, so that every inner product runs along two rows. Contract in chol.h.
#include "chol.h"
#include "criterion.h"
#include <math.h>

CRIT_INLINE double dot(const double *a, const double *b, int n) {
    double s = 0;
#pragma omp simd reduction(+ : s)
    for (int i = 0; i < n; i++) s += a[i] * b[i];
    return s;
}

CRIT_WIDE double chol_factor(double *a, int n) {
    double log_det = 0;
    for (int i = 0; i < n; i++) {
        double *row = a + (size_t)i * n;
        for (int j = 0; j < i; j++) {
            const double *other = a + (size_t)j * n;
            row[j] = (row[j] - dot(row, other, j)) / other[j];
        }
        double pivot = row[i] - dot(row, row, i);
        if (!(pivot > 0)) return NAN;
        row[i] = sqrt(pivot);
        log_det += log(pivot);
    }
    return log_det;
}

// tr(a^-1) = |L^-1|_F^2; x is one column of L^-1 at a time.
CRIT_WIDE double chol_inverse_trace(const double *l, int n, double *x) {
    double trace = 0;
    for (int c = 0; c < n; c++) {
        x[c] = 1 / l[(size_t)c * n + c];
        trace += x[c] * x[c];
        for (int i = c + 1; i < n; i++) {
            const double *row = l + (size_t)i * n;
            x[i] = -dot(row + c, x + c, i - c) / row[i];
            trace += x[i] * x[i];
        }
    }
    return trace;
}
