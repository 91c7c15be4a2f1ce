// cpu_criteria_weights - sums over the rows of a weight's gradient, which is made a tile of rows at a time and never
// kept.
#include "cpu.h"
#include "cpu_gemm.h"
#include "simd.h"
#include <cblas.h>
#include <math.h>

enum { ROWS = 128, PANELS = ROWS / GEMM_SIDE, COLUMNS = 4 * GEMM_SIDE };

enum { LANES = 16 };

FORCE_INLINE double all_lanes(const double *sum) {
    double all = 0;
#pragma omp simd reduction(+ : all)
    for (int l = 0; l < LANES; l++) all += sum[l];
    return all;
}

// Of a row, or of some columns of it, whose gradients are g and h times `back`; add: += them.
HOT static void row_sums(double *sums, const float *w, const float *g, const float *h, double back, int n, bool add) {
    double size[LANES] = {0}, square[LANES] = {0}, with[LANES] = {0}, tangent[LANES] = {0};
    int e = 0;
    for (; e + LANES <= n; e += LANES)
        for (int l = 0; l < LANES; l++) {
            const float wl = w[e + l], gl = g[e + l];
            size[l] += fabsf(wl * gl);
            square[l] += (double)gl * gl;
            with[l] += (double)wl * gl;
        }
    for (int l = 0; e + l < n; l++) {
        const float wl = w[e + l], gl = g[e + l];
        size[l] += fabsf(wl * gl);
        square[l] += (double)gl * gl;
        with[l] += (double)wl * gl;
    }
    for (int l = 0; h && l < n; l++) tangent[l % LANES] += (double)w[l] * h[l];
    const double of[WSUMS] = {[WSUM_SIZE] = all_lanes(size) * back,
                              [WSUM_SQUARE] = all_lanes(square) * back * back,
                              [WSUM_SIGNED] = all_lanes(with) * back,
                              [WSUM_TANGENT] = all_lanes(tangent) * back};
    for (int k = 0; k < WSUMS; k++) sums[k] = (add ? sums[k] : 0) + of[k];
}

typedef struct {
    const float *d, *td;  // [T, ld] of the first row on; td: NULL allowed
    const float *x, *tx;  // [T, E]
    int ld, E, T;
    int parts;    // of d and x in panels (cpu_gemm.h)
    double back;  // d and x were multiplied by its inverse
} gradient;

// Of n <= ROWS rows from j on, by OpenBLAS.
static void tile_by_blas(double *sums, const gradient *of, const weight *w, int from, int j, int n, bool add) {
    const int E = of->E, T = of->T;
    const scratch_point mark = scratch_mark();
    const float *wide = cpu_weight_rows(w, from + j, n);
    float *g = scratch_floats((size_t)n * (size_t)E), *h = of->td ? scratch_floats((size_t)n * (size_t)E) : NULL;
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, n, E, T, 1, of->d + j, of->ld, of->x, E, 0, g, E);
    if (h) {
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, n, E, T, 1, of->td + j, of->ld, of->x, E, 0, h, E);
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, n, E, T, 1, of->d + j, of->ld, of->tx, E, 1, h, E);
    }
    for (int u = 0; u < n; u++)
        row_sums(sums + (size_t)(j + u) * WSUMS, wide + (size_t)u * (size_t)E, g + (size_t)u * (size_t)E,
                 h ? h + (size_t)u * (size_t)E : NULL, of->back, E, add);
    scratch_release(mark);
}

// The same by panels: x and tx (NULL allowed) are packed, a panel for GEMM_SIDE columns after the other.
static void tile_by_panels(double *sums, const gradient *of, const weight *w, int from, int j, int n, bool add,
                           const gemm_kernels *k, const char *x, const char *tx) {
    const int E = of->E, T = of->T;
    const size_t each = gemm_panel_bytes(T, of->parts);
    const gemm_matrix d = {of->d, (size_t)of->ld, NULL, true, of->parts},
                      td = {of->td, (size_t)of->ld, NULL, true, of->parts};
    _Alignas(64) float g[GEMM_SIDE * COLUMNS], h[GEMM_SIDE * COLUMNS];
    const scratch_point mark = scratch_mark();
    const float *wide = cpu_weight_rows(w, from + j, n);
    char *a = scratch_take(PANELS * each), *ta = tx ? scratch_take(PANELS * each) : NULL;
    for (int p = 0; p < n; p += GEMM_SIDE) {
        const int rows = n - p < GEMM_SIDE ? n - p : GEMM_SIDE;
        k->pack_a(a + (size_t)(p / GEMM_SIDE) * each, &d, j + p, rows, 0, T);
        if (ta) k->pack_a(ta + (size_t)(p / GEMM_SIDE) * each, &td, j + p, rows, 0, T);
    }
    for (int e = 0; e < E; e += COLUMNS)
        for (int p = 0; p < n; p += GEMM_SIDE) {
            const int rows = n - p < GEMM_SIDE ? n - p : GEMM_SIDE, cols = E - e < COLUMNS ? E - e : COLUMNS;
            const size_t row = (size_t)(p / GEMM_SIDE) * each;
            for (int c = 0; c < cols; c += GEMM_SIDE) {
                const size_t column = (size_t)((e + c) / GEMM_SIDE) * each;
                k->tile(g + c, COLUMNS, a + row, x + column, rows, T, of->parts, of->parts, false);
                if (!ta) continue;
                k->tile(h + c, COLUMNS, ta + row, x + column, rows, T, of->parts, of->parts, false);
                k->tile(h + c, COLUMNS, a + row, tx + column, rows, T, of->parts, of->parts, true);
            }
            for (int u = 0; u < rows; u++)
                row_sums(sums + (size_t)(j + p + u) * WSUMS, wide + (size_t)(p + u) * (size_t)E + e, g + u * COLUMNS,
                         ta ? h + u * COLUMNS : NULL, of->back, cols, add || e > 0);
        }
    scratch_release(mark);
}

static void pack_columns(const gemm_kernels *k, char *to, const float *x, int E, int T, int parts) {
    const gemm_matrix m = {x, (size_t)E, NULL, true, parts};
#pragma omp for schedule(static)
    for (int e = 0; e < E; e += GEMM_SIDE)
        k->pack_b(to + (size_t)(e / GEMM_SIDE) * gemm_panel_bytes(T, parts), &m, e,
                  E - e < GEMM_SIDE ? E - e : GEMM_SIDE, 0, T);
}

static void all_by_panels(double *sums, const gradient *of, const weight *w, int from, int rows, bool add,
                          const gemm_kernels *k) {
    const size_t bytes = (size_t)(of->E + GEMM_SIDE - 1) / GEMM_SIDE * gemm_panel_bytes(of->T, of->parts);
    const scratch_point mark = scratch_mark();
    char *x = scratch_take(bytes), *tx = of->td ? scratch_take(bytes) : NULL;
#pragma omp parallel if (gemm_shared(rows, of->E, of->T))
    {
        pack_columns(k, x, of->x, of->E, of->T, of->parts);
        if (tx) pack_columns(k, tx, of->tx, of->E, of->T, of->parts);
        k->begin();
#pragma omp for schedule(dynamic)
        for (int j = 0; j < rows; j += ROWS)
            tile_by_panels(sums, of, w, from, j, rows - j < ROWS ? rows - j : ROWS, add, k, x, tx);
        k->end();
    }
    scratch_release(mark);
}

// Small numbers, a copy of a caller's, are multiplied by a power of two, so that none of their products falls below
// 2^-126; returns its inverse.
HOT static double raised(float *x, size_t n) {
    float most = 0;
    int e;
#pragma omp simd reduction(max : most)
    for (size_t i = 0; i < n; i++) most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    frexpf(most, &e);
    if (most == 0 || e > -40) return 1;
    if (e < -126) e = -126;
    const float by = ldexpf(1, -e);
    for (size_t i = 0; i < n; i++) x[i] *= by;
    return ldexp(1, e);
}

void cpu_weight_sums(double *sums, const float *dz, const float *x, const float *tdz, const float *tx, const weight *w,
                     int from, int rows, bool add, const span *s) {
    const bool narrow = w->narrow && !dtype_in_blocks(w->type);
    const int E = w->cols, ld = narrow ? rows : w->rows;
    const scratch_point mark = scratch_mark();
    const size_t first = (size_t)s->row * (size_t)w->rows + (size_t)from, row = (size_t)s->row * (size_t)E;
    gradient of = {.d = dz + first, .ld = ld, .E = E, .T = s->n, .parts = GEMM_PARTS, .back = 1};
    of.x = cpu_rounded(x, E, w, s, 1, "weight_sums") + row;
    if (narrow) of.d = cpu_rounded_columns(dz, w->rows, from, rows, w, s, "weight_sums");
    if (tdz) {
        of.tx = cpu_rounded(tx, E, w, s, 1, "weight_sums") + row;
        of.td = narrow ? cpu_rounded_columns(tdz, w->rows, from, rows, w, s, "weight_sums") : tdz + first;
    }
    // rounded numbers have 8 bits, or 11
    const bool rounded = narrow && !tdz && gemm_set() && s->n;
    if (rounded) {
        of.parts = w->type == DT_BF16 ? 1 : 2;
        of.back = raised((float *)(uintptr_t)of.d, (size_t)s->n * (size_t)rows) *
                  raised((float *)(uintptr_t)of.x, (size_t)s->n * (size_t)E);
    }
    if (rounded || gemm_takes(w, s->n))
        all_by_panels(sums, &of, w, from, rows, add, gemm_set());
    else
#pragma omp parallel for schedule(dynamic)
        for (int j = 0; j < rows; j += ROWS)
            tile_by_blas(sums, &of, w, from, j, rows - j < ROWS ? rows - j : ROWS, add);
    scratch_release(mark);
}
