// chol - Cholesky factor of a small dense symmetric positive definite matrix, and two sums over its eigenvalues without
// finding them.
#pragma once

// a [n, n] row-major, upper triangle read; becomes U with a = U' U. Returns ln det a; NaN where a is not positive
// definite.
double chol_factor(double *a, int n);
// Trace of the inverse of a = U' U, the sum of 1/eigenvalue; work [n].
double chol_inverse_trace(const double *u, int n, double *work);
