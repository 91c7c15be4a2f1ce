// corr - Pearson correlation between rows, by centred rows of norm 1: corr = Y Y'.
#pragma once
#include <stdbool.h>

// A row has no correlation where it is zero (max |row| <= 1e-30) or constant (max |row - mean| <= 1e-6 max |row|).
bool corr_defined(const float *row, int d);
// y [d] = row centred and scaled to norm 1; false, and y untouched, where corr_defined is false.
bool corr_row(double *y, const float *row, int d);
double corr_dot(const double *y, const double *y2, int d);
// Y Y' [n, n] and Y' Y [d, d] have the same eigenvalues but for |n - d| zeros. Writes the smaller one, full, to g;
// returns its side.
int corr_gram(double *g, const double *y, int n, int d);
