// cpu_criteria_spectra - sums over the eigenvalues of small matrices of each unit (USUM_SIGNS .. USUM_TRACE of ops.h),
// by Cholesky factors instead of eigenvalues, and the correlations of fc1's input that the neurons' come from. Serial
// but for correlate: callers share units out.
#include "chol.h"
#include "corr.h"
#include "cpu.h"
#include "gated_rows.h"
#include "simd.h"
#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

// ---------------------------------------------------------------- signs
// The identity that makes it small: with signs S = +-1, K = (S S' + D 1 1')/2, so K/D = W W' with W = [S/sqrt(2D),
// 1/sqrt 2] of D + 1 columns, and det(I_T + W W') = det(I + W' W).
HOT static double sign_det(const float *act, int ld, int D, int T) {
    const bool by_value = D + 1 < T;
    const int items = by_value ? D : T, n = by_value ? D + 1 : T, words = ((by_value ? T : D) + 63) / 64;
    uint64_t *bit = xcalloc((size_t)words * (size_t)items, sizeof *bit);  // [words, items]
    double *m = xmalloc((size_t)n * (size_t)n * sizeof *m);
    for (int t = 0; t < T; t++) {
        const float *a = act + (size_t)t * (size_t)ld;
        if (by_value)
            for (int i = 0; i < D; i++) bit[(size_t)(t / 64) * (size_t)D + (size_t)i] |= (uint64_t)(a[i] > 0) << t % 64;
        else
            for (int i = 0; i < D; i++) bit[(size_t)(i / 64) * (size_t)T + (size_t)t] |= (uint64_t)(a[i] > 0) << i % 64;
    }
    for (int i = 0; i < items; i++)
        for (int j = i; j < items; j++) {
            int differ = 0;
            for (int w = 0; w < words; w++)
                differ += __builtin_popcountll(bit[(size_t)w * (size_t)items + (size_t)i] ^
                                               bit[(size_t)w * (size_t)items + (size_t)j]);
            m[(size_t)i * (size_t)n + (size_t)j] =
                (i == j) + (by_value ? (T - 2.0 * differ) / (2.0 * D) : (D - differ) / (double)D);
        }
    if (by_value) {
        for (int i = 0; i < D; i++) {
            int ones = 0;
            for (int w = 0; w < words; w++) ones += __builtin_popcountll(bit[(size_t)w * (size_t)items + (size_t)i]);
            m[(size_t)i * (size_t)n + (size_t)D] = (2.0 * ones - T) / (2 * sqrt(D));
        }
        m[(size_t)D * (size_t)n + (size_t)D] = 1 + T / 2.0;
    }
    const double log_det = chol_factor(m, n);
    free(m);
    free(bit);
    return log_det;
}

void cpu_sign_dets(double *sums, const float *act, int ld, int D, int from, int units, const span *s, int n) {
    for (int i = 0; i < n; i++)
        for (int u = 0; u < units; u++, sums += USUMS)
            sums[USUM_SIGNS] =
                sign_det(act + (size_t)s[i].row * (size_t)ld + (size_t)(from + u) * (size_t)D, ld, D, s[i].n);
}

// ---------------------------------------------------------------- heads
static void head_spectrum(double *sums, const float *grad, int ld, int D, int T) {
    int m = 0, *keep = xmalloc((size_t)T * sizeof *keep);
    for (int t = 0; t < T; t++)
        if (corr_defined(grad + (size_t)t * (size_t)ld, D)) keep[m++] = t;
    const int n = m < HEAD_ROWS ? m : HEAD_ROWS, least = n < D ? n : D;
    double *y = xmalloc((size_t)n * (size_t)D * sizeof *y),
           *g = xmalloc((size_t)least * (size_t)(least + 1) * sizeof *g);
    for (int i = 0; i < n; i++)
        corr_row(y + (size_t)i * (size_t)D, grad + (size_t)keep[(long)i * m / n] * (size_t)ld, D);
    sums[USUM_ROWS] = n;
    sums[USUM_LOG_DET] = sums[USUM_TRACE] = 0;
    if (n > 0) {
        // eigenvalues that the smaller matrix lacks: 0.1 in M
        const int side = corr_gram(g, y, n, D), zeros = n - side;
        for (int i = 0; i < side; i++)
            for (int j = i; j < side; j++)
                g[(size_t)i * (size_t)side + (size_t)j] =
                    0.9 * g[(size_t)i * (size_t)side + (size_t)j] + (i == j) * 0.1;
        sums[USUM_LOG_DET] = chol_factor(g, side) + zeros * log(0.1);
        sums[USUM_TRACE] = chol_inverse_trace(g, side, g + (size_t)side * (size_t)side) + zeros * 10.0;
    }
    free(g);
    free(y);
    free(keep);
}

void cpu_head_spectra(double *sums, const float *grad, int ld, int D, int from, int units, const span *s, int n) {
    for (int i = 0; i < n; i++)
        for (int u = 0; u < units; u++, sums += USUMS)
            head_spectrum(sums, grad + (size_t)s[i].row * (size_t)ld + (size_t)(from + u) * (size_t)D, ld, D, s[i].n);
}

// ---------------------------------------------------------------- neurons, LANES of them at a time
// C = S corr(x) S with signs S, so its eigenvalues are those of corr(x) restricted to the active tokens.
enum { LANES = 16, COLUMNS = 128 };
typedef float lanes __attribute__((vector_size(LANES * sizeof(float))));
#define AT(i, j) ((i) * ((i)-1) / 2 + (j))  // j < i: strict lower triangle

static int most_rows(const int *n, int count) {
    int most = 0;
    for (int k = 0; k < count; k++) most = n[k] > most ? n[k] : most;
    return most;
}

// l: the strict lower triangles of 0.9 C of `count` neurons, n [LANES] rows each; rows n.. are padded with those of the
// identity. Float is enough: the condition number is at most 290.
FORCE_INLINE void lane_spectra(double *sums, lanes *l, const int *n, int count) {
    lanes v[NEURON_ROWS], inv[NEURON_ROWS];
    const int most = most_rows(n, count);
    // L D L' needs no square roots; the diagonal of 0.9 C + 0.1 I is 1.
    const lanes one = (lanes){0} + 1;
    lanes det = one, trace = {0};
    for (int i = 0; i < most; i++) {
        lanes pivot = one;
        for (int j = 0; j < i; j++) {
            lanes s = l[AT(i, j)];
            for (int k = 0; k < j; k++) s -= v[k] * l[AT(j, k)];
            v[j] = s;
            l[AT(i, j)] = s * inv[j];
            pivot -= s * l[AT(i, j)];
        }
        inv[i] = one / pivot;
        det *= pivot;  // between 0.1^32 and 1
    }
    for (int c = 0; c < most; c++) {  // v: column c of L^-1
        lanes live = {0};             // columns of padding stay out of the trace
        for (int k = 0; k < count; k++) live[k] = (float)(c < n[k]);
        v[c] = one;
        trace += live * inv[c];
        for (int i = c + 1; i < most; i++) {
            lanes s = l[AT(i, c)];
            for (int k = c + 1; k < i; k++) s += l[AT(i, k)] * v[k];
            v[i] = -s;
            trace += s * s * inv[i];
        }
    }
    for (int k = 0; k < count; k++, sums += USUMS) {
        sums[USUM_ROWS] = n[k];
        sums[USUM_LOG_DET] = log((double)det[k]);
        sums[USUM_TRACE] = (double)trace[k];
    }
}

// The triangles of the rows pick [LANES, NEURON_ROWS] of corr.
static void pick_triangles(lanes *l, const int (*pick)[NEURON_ROWS], const int *n, int count, const float *corr,
                           int T) {
    memset(l, 0, (size_t)AT(most_rows(n, count), 0) * sizeof *l);
    for (int k = 0; k < count; k++)
        for (int i = 1; i < n[k]; i++) {
            const float *row = corr + (size_t)pick[k][i] * (size_t)T;
            for (int j = 0; j < i; j++) l[AT(i, j)][k] = 0.9f * row[pick[k][j]];
        }
}

// The tokens whose bits are set in column u of bit [words, COLUMNS]; how many.
static int active_tokens(int *active, const uint32_t *bit, int words, int u) {
    int m = 0;
    for (int w = 0; w < words; w++)
        for (uint32_t b = bit[(size_t)w * COLUMNS + (size_t)u]; b; b &= b - 1) active[m++] = 32 * w + __builtin_ctz(b);
    return m;
}

// For units <= COLUMNS neurons whose gradients begin at dz; most and corr of the span.
HOT static void column_spectra(double *sums, const float *dz, const float *corr, const float *most, int F, int units,
                               int T) {
    const int words = (T + 31) / 32;
    uint32_t *bit = xcalloc((size_t)words * COLUMNS, sizeof *bit);  // [words, COLUMNS]: token 32 w + b is active
    int *active = xmalloc((size_t)T * sizeof *active), pick[LANES][NEURON_ROWS], n[LANES];
    lanes l[AT(NEURON_ROWS, 0)];
    for (int t = 0; t < T; t++) {
        const float *g = dz + (size_t)t * (size_t)F, xmax = most[t];
        uint32_t *to = bit + (size_t)(t / 32) * COLUMNS;
#pragma omp simd
        for (int u = 0; u < units; u++) to[u] |= (uint32_t)(fabsf(g[u]) * xmax > 1e-30f) << t % 32;
    }
    for (int u = 0; u < units; u++) {
        const int k = u % LANES, m = active_tokens(active, bit, words, u);
        n[k] = m < NEURON_ROWS ? m : NEURON_ROWS;
        for (int i = 0; i < n[k]; i++) pick[k][i] = active[(long)i * m / n[k]];
        if (k < LANES - 1 && u < units - 1) continue;
        pick_triangles(l, pick, n, k + 1, corr, T);
        lane_spectra(sums + (size_t)(u - k) * USUMS, l, n, k + 1);
    }
    free(active);
    free(bit);
}

void cpu_neuron_spectra(double *sums, const float *dz, const float *corr, const float *most, int F, int from, int units,
                        const span *s, int n) {
    for (int i = 0; i < n; i++, sums += (size_t)units * USUMS) {
        const float *first = dz + (size_t)s[i].row * (size_t)F + (size_t)from;
        for (int u = 0; u < units; u += COLUMNS)
            column_spectra(sums + (size_t)u * USUMS, first + u, corr, most + s[i].row, F,
                           units - u < COLUMNS ? units - u : COLUMNS, s[i].n);
        corr += (size_t)s[i].n * (size_t)s[i].n;
    }
}

// ---------------------------------------------------------------- gated neurons (gated_rows.h)
// Of units <= COLUMNS neurons whose gradients begin at dg and du; stat and corr of the span.
HOT static void gated_columns(double *sums, const float *dg, const float *du, const float *corr, const float *stat,
                              int E, int F, int units, int T) {
    const int words = (T + 31) / 32;
    uint32_t *bit = xcalloc((size_t)words * COLUMNS, sizeof *bit);  // [words, COLUMNS]: token 32 w + b is active
    int *active = xmalloc((size_t)T * sizeof *active), n[LANES];
    lanes l[AT(NEURON_ROWS, 0)];
    for (int t = 0; t < T; t++) {
        const size_t at = (size_t)t * (size_t)F;
        uint32_t *to = bit + (size_t)(t / 32) * COLUMNS;
#pragma omp simd
        for (int u = 0; u < units; u++)
            to[u] |= (uint32_t)gated_row_defined(dg[at + (size_t)u], du[at + (size_t)u], stat + (size_t)t * ROW_STATS)
                     << t % 32;
    }
    for (int u = 0; u < units; u += LANES) {
        const int count = units - u < LANES ? units - u : LANES;
        memset(l, 0, sizeof l);
        for (int k = 0; k < count; k++) {
            int pick[NEURON_ROWS];
            gated_row row[NEURON_ROWS];
            const int m = active_tokens(active, bit, words, u + k);
            n[k] = m < NEURON_ROWS ? m : NEURON_ROWS;
            for (int i = 0; i < n[k]; i++) {
                const size_t t = (size_t)active[(long)i * m / n[k]], at = t * (size_t)F + (size_t)(u + k);
                pick[i] = (int)t;
                row[i] = gated_row_of(dg[at], du[at], stat + t * ROW_STATS, E);
                for (int j = 0; j < i; j++)
                    l[AT(i, j)][k] =
                        0.9f * ((row[i].a * row[j].a + row[i].b * row[j].b) * corr[t * (size_t)T + (size_t)pick[j]] +
                                row[i].c * row[j].c);
            }
        }
        lane_spectra(sums + (size_t)u * USUMS, l, n, count);
    }
    free(active);
    free(bit);
}

void cpu_gated_spectra(double *sums, const float *dg, const float *du, const float *corr, const float *stat, int E,
                       int F, int from, int units, const span *s, int n) {
    for (int i = 0; i < n; i++, sums += (size_t)units * USUMS) {
        const size_t first = (size_t)s[i].row * (size_t)F + (size_t)from;
        for (int u = 0; u < units; u += COLUMNS)
            gated_columns(sums + (size_t)u * USUMS, dg + first + u, du + first + u, corr,
                          stat + (size_t)s[i].row * ROW_STATS, E, F, units - u < COLUMNS ? units - u : COLUMNS, s[i].n);
        corr += (size_t)s[i].n * (size_t)s[i].n;
    }
}

void cpu_row_stats(float *stat, const float *x, int E, const span *s, int n) {
    for (int i = 0; i < n; i++)
#pragma omp parallel for schedule(static)
        for (int t = s[i].row; t < s[i].row + s[i].n; t++)
            row_stats_of(stat + (size_t)t * ROW_STATS, x + (size_t)t * (size_t)E, E);
}

// ---------------------------------------------------------------- correlations between the rows of fc1's input
// y = x centred and scaled to norm 1; its largest |x|, 0 where the row is zero or constant.
static float centre_row(float *y, const float *x, int E) {
    double sum = 0, square = 0;
    float most = 0, away = 0;
    for (int e = 0; e < E; e++) {
        sum += (double)x[e];
        most = fabsf(x[e]) > most ? fabsf(x[e]) : most;
    }
    const double mean = sum / E;
    for (int e = 0; e < E; e++) {
        const double d = (double)x[e] - mean;
        square += d * d;
        away = (float)fabs(d) > away ? (float)fabs(d) : away;
    }
    const double scale = square > 0 ? 1 / sqrt(square) : 0;
    for (int e = 0; e < E; e++) y[e] = (float)(((double)x[e] - mean) * scale);
    return most < 1e-30f || away <= 1e-6f * most ? 0 : most;
}

typedef struct {
    span s;
    float *corr;
    int from, rows;
} corr_block;

void cpu_correlate(float *corr, float *most, float *work, const float *x, int E, const span *s, int n) {
    const size_t width = (size_t)E;
    corr_block *block = NULL;
    int count = 0, room = 0;
    for (int i = 0; i < n; corr += (size_t)s[i].n * (size_t)s[i].n, i++)
        for (int t = 0; t < s[i].n; t += COLUMNS)
            VEC_PUSH(block, count, room, ((corr_block){s[i], corr, t, s[i].n - t < COLUMNS ? s[i].n - t : COLUMNS}));
#pragma omp parallel for schedule(dynamic)
    for (int b = 0; b < count; b++)
        for (int t = block[b].s.row + block[b].from, end = t + block[b].rows; t < end; t++)
            most[t] = centre_row(work + (size_t)t * width, x + (size_t)t * width, E);
            // blocks of rows against the rows up to their end, then mirrored
#pragma omp parallel for schedule(dynamic)
    for (int b = 0; b < count; b++) {
        const corr_block *k = &block[b];
        const float *first = work + (size_t)k->s.row * width;
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, k->rows, k->from + k->rows, E, 1,
                    first + (size_t)k->from * width, E, first, E, 0, k->corr + (size_t)k->from * (size_t)k->s.n,
                    k->s.n);
    }
#pragma omp parallel for schedule(dynamic)
    for (int b = 0; b < count; b++) {
        const size_t T = (size_t)block[b].s.n, from = (size_t)block[b].from;
        float *c = block[b].corr;
        for (size_t a = from; a < from + (size_t)block[b].rows; a++)
            for (size_t q = 0; q < a; q++) c[q * T + a] = c[a * T + q];
    }
    free(block);
}
