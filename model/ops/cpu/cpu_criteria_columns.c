// cpu_criteria_columns - mean and variance of the columns of a tap, squared norms of the columns of a weight. In
// double; a column has the same bits whichever others are asked for. column_moments is serial: callers share columns
// out.
#include "cpu.h"
#include "simd.h"
#include <math.h>

enum { COLUMNS = 128 };  // at a time

FORCE_INLINE double rectified(float a) { return 0.5 * ((double)a + fabs((double)a)); }  // max(a, 0), NaN kept

// Two passes, since the square of the mean may be far above the variance.
HOT static void moments_of(double *moments, const float *x, int ld, bool relu, int cols, int rows) {
    double mean[COLUMNS] = {0}, off[COLUMNS] = {0};
    for (int t = 0; t < rows; t++) {
        const float *a = x + (size_t)t * (size_t)ld;
#pragma omp simd
        for (int c = 0; c < cols; c++) mean[c] += relu ? rectified(a[c]) : (double)a[c];
    }
    for (int c = 0; c < cols && rows; c++) mean[c] /= rows;
    for (int t = 0; t < rows; t++) {
        const float *a = x + (size_t)t * (size_t)ld;
#pragma omp simd
        for (int c = 0; c < cols; c++) {
            const double d = (relu ? rectified(a[c]) : (double)a[c]) - mean[c];
            off[c] += d * d;
        }
    }
    for (int c = 0; c < cols; c++) moments[2 * c] = mean[c], moments[2 * c + 1] = off[c];
}

void cpu_column_moments(double *moments, const float *x, int ld, bool relu, int from, int cols, const span *s, int n) {
    for (int i = 0; i < n; i++, moments += 2 * (size_t)cols)
        for (int c = 0; c < cols; c += COLUMNS)
            moments_of(moments + 2 * (size_t)c, x + (size_t)s[i].row * (size_t)ld + from + c, ld, relu,
                       cols - c < COLUMNS ? cols - c : COLUMNS, s[i].n);
}

// A turned weight has them as rows.
static void row_squares(double *squares, const weight *w) {
#pragma omp parallel for schedule(static)
    for (int r = 0; r < w->rows; r++) {
        const scratch_point mark = scratch_mark();
        const float *wide = cpu_weight_rows(w, r, 1);
        squares[r] = 0;
        for (int c = 0; c < w->cols; c++) squares[r] += (double)wide[c] * wide[c];
        scratch_release(mark);
    }
}

void cpu_column_squares(double *squares, const weight *w) {
    const weight held = weight_transpose(w);
    if (w->turned) {
        row_squares(squares, &held);
        return;
    }
#pragma omp parallel for schedule(static)
    for (int c = 0; c < w->cols; c += COLUMNS) {
        const int n = w->cols - c < COLUMNS ? w->cols - c : COLUMNS;
        double sum[COLUMNS] = {0};
        float wide[COLUMNS];
        for (int r = 0; r < w->rows; r++) {
            cpu_widen(wide, w, r, c, n);
            for (int k = 0; k < n; k++) sum[k] += (double)wide[k] * wide[k];
        }
        for (int k = 0; k < n; k++) squares[c + k] = sum[k];
    }
}
