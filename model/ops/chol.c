// chol - Cholesky factor, outer-product form: every inner loop adds a multiple of one row to another. Contract in
// chol.h.
#include "chol.h"
#include "simd.h"
#include <math.h>

HOT double chol_factor(double *a, int n) {
    double log_det = 0;
    for (int k = 0; k < n; k++) {
        double *row = a + (size_t)k * n, pivot = row[k], scale = 1 / sqrt(pivot);
        if (!(pivot > 0)) return NAN;
        log_det += log(pivot);
        for (int j = k; j < n; j++) row[j] *= scale;
        for (int i = k + 1; i < n; i++) {
            double *to = a + (size_t)i * n, v = row[i];
#pragma omp simd
            for (int j = i; j < n; j++) to[j] -= v * row[j];
        }
    }
    return log_det;
}

// tr(a^-1) = |U^-1|_F^2; x solves U' x = the unit vector c, one row of U^-1.
HOT double chol_inverse_trace(const double *u, int n, double *x) {
    double trace = 0;
    for (int c = 0; c < n; c++) {
        for (int i = c; i < n; i++) x[i] = i == c;
        for (int k = c; k < n; k++) {
            const double *row = u + (size_t)k * n;
            double v = x[k] / row[k];
            trace += v * v;
#pragma omp simd
            for (int i = k + 1; i < n; i++) x[i] -= v * row[i];
        }
    }
    return trace;
}
