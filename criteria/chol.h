// chol - Cholesky factor of a small dense symmetric positive definite matrix, and two sums over its eigenvalues without finding them.
#pragma once

// a [n, n] row-major, lower triangle read; becomes L with a = L L'. Returns ln det a; NaN where a is not positive definite.
double chol_factor(double *a, int n);
// Trace of the inverse of a = L L', the sum of 1/eigenvalue; work [n].
double chol_inverse_trace(const double *l, int n, double *work);
