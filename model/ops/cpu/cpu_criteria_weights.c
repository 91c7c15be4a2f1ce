// cpu_criteria_weights - sums over the rows of a weight's gradient, which is made a tile of rows at a time and never
// kept. Serial: callers share rows out.
#include "cpu.h"
#include "simd.h"
#include <cblas.h>
#include <math.h>

enum { ROWS = 128 };

HOT static void row_sums(double *sums, const float *w, const float *g, const float *h, int n, bool add) {
    double size = 0, square = 0, with = 0, tangent = 0;
#pragma omp simd reduction(+ : size, square, with, tangent)
    for (int e = 0; e < n; e++) {
        size += fabsf(w[e] * g[e]);
        square += (double)g[e] * g[e];
        with += (double)w[e] * g[e];
        tangent += h ? (double)w[e] * h[e] : 0;
    }
    sums[WSUM_SIZE] = add ? sums[WSUM_SIZE] + size : size;
    sums[WSUM_SQUARE] = add ? sums[WSUM_SQUARE] + square : square;
    sums[WSUM_SIGNED] = add ? sums[WSUM_SIGNED] + with : with;
    sums[WSUM_TANGENT] = add ? sums[WSUM_TANGENT] + tangent : tangent;
}

void cpu_weight_sums(double *sums, const float *dz, const float *x, const float *tdz, const float *tx, const weight *w,
                     int from, int rows, bool add, const span *s) {
    const bool narrow = w->narrow && !dtype_in_blocks(w->type);
    const int E = w->cols, T = s->n, ld = narrow ? rows : w->rows;
    const scratch_point mark = scratch_mark();
    const size_t first = (size_t)s->row * (size_t)w->rows + (size_t)from;
    const float *xs = cpu_rounded(x, E, w, s, 1, "weight_sums") + (size_t)s->row * (size_t)E, *txs = NULL,
                *d = dz + first, *td = NULL;
    if (narrow) d = cpu_rounded_columns(dz, w->rows, from, rows, w, s, "weight_sums");
    if (tdz) {
        txs = cpu_rounded(tx, E, w, s, 1, "weight_sums") + (size_t)s->row * (size_t)E;
        td = narrow ? cpu_rounded_columns(tdz, w->rows, from, rows, w, s, "weight_sums") : tdz + first;
    }
    for (int j = 0, n; j < rows; j += n) {
        n = rows - j < ROWS ? rows - j : ROWS;
        const scratch_point of_tile = scratch_mark();
        const float *wide = cpu_weight_rows(w, from + j, n);
        float *g = scratch_floats((size_t)n * (size_t)E), *h = tdz ? scratch_floats((size_t)n * (size_t)E) : NULL;
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, n, E, T, 1, d + j, ld, xs, E, 0, g, E);
        if (tdz) {
            cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, n, E, T, 1, td + j, ld, xs, E, 0, h, E);
            cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, n, E, T, 1, d + j, ld, txs, E, 1, h, E);
        }
        for (int u = 0; u < n; u++)
            row_sums(sums + (size_t)(j + u) * WSUMS, wide + (size_t)u * (size_t)E, g + (size_t)u * (size_t)E,
                     h ? h + (size_t)u * (size_t)E : NULL, E, add);
        scratch_release(of_tile);
    }
    scratch_release(mark);
}
