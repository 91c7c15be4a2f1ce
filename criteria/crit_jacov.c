// crit_jacov - how uncorrelated the gradients of the tokens are.
// Rows: da[t] of a head, dz[t]*x[t] of a neuron; zero and constant rows left out; at most M of m (200 for a head, 32 for a neuron),
// rows floor(i*m/M). C = Pearson correlation between them, lambda its n eigenvalues, mu = 0.9 lambda + 0.1 (C is rank deficient):
//   -1/n sum_i (ln mu_i + 1/mu_i);  n = 0: -(ln 0.1 + 10), the lower bound.
// Both sums come from one Cholesky factor of 0.9 C + 0.1 I. Jacobian covariance: Mellor et al. 2020, "Neural architecture search
// without training", version 1; as a proxy Lopes et al. 2021, "EPE-NAS".
// Compat (heads, one score per task): ten draws of 200 rows of all examples, -sum_i (ln(lambda_i + 1e-5) + 1/(lambda_i + 1e-5)).
#include "chol.h"
#include "corr.h"
#include "task_stage.h"
#include "tile.h"
#include <gsl/gsl_eigen.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { HEAD_ROWS = 200, NEURON_ROWS = 32, DRAWS = 10 };
#define LEAST (-(log(0.1) + 10))

static void heads(float *out, const crit_in *in) {
    const int T = in->T, D = in->D;
    int m = 0, *keep = xmalloc((size_t)T * sizeof *keep);
    for (int t = 0; t < T; t++)
        if (corr_defined(in->grad + (size_t)t * in->ld, D)) keep[m++] = t;
    int n = m < HEAD_ROWS ? m : HEAD_ROWS, least = n < D ? n : D;
    double *y = xmalloc((size_t)n * (size_t)D * sizeof *y), *g = xmalloc((size_t)least * (size_t)(least + 1) * sizeof *g);
    for (int i = 0; i < n; i++) corr_row(y + (size_t)i * D, in->grad + (size_t)keep[(long)i * m / n] * in->ld, D);
    if (n == 0) {
        out[0] = (float)LEAST;
    } else {
        int side = corr_gram(g, y, n, D);
        for (int i = 0; i < side; i++)
            for (int j = i; j < side; j++) g[(size_t)i * side + j] = 0.9 * g[(size_t)i * side + j] + (i == j) * 0.1;
        double log_det = chol_factor(g, side), trace = chol_inverse_trace(g, side, g + (size_t)side * side);
        int zeros = n - side;  // eigenvalues that the smaller matrix lacks: mu = 0.1
        out[0] = (float)(-(log_det + trace + zeros * (log(0.1) + 10)) / n);
    }
    free(g);
    free(y);
    free(keep);
}

// ---------------------------------------------------------------- neurons, LANES of them at a time
// C = S corr(x) S with signs S, so its eigenvalues are those of corr(x) restricted to the active tokens.
enum { LANES = 16 };
typedef float lanes __attribute__((vector_size(LANES * sizeof(float))));
#define AT(i, j) ((i) * ((i) - 1) / 2 + (j))  // j < i: strict lower triangle

// pick [LANES, NEURON_ROWS]: the rows of each neuron, n of them; rows n.. are padded with those of the identity. Float is
// enough: the condition number is at most 290.
CRIT_INLINE void score_lanes(float *out, const int (*pick)[NEURON_ROWS], const int *n, int count, const float *xcorr, int T) {
    lanes l[AT(NEURON_ROWS, 0)], v[NEURON_ROWS], inv[NEURON_ROWS];
    int most = 0;
    for (int k = 0; k < count; k++) most = n[k] > most ? n[k] : most;
    memset(l, 0, (size_t)AT(most, 0) * sizeof *l);
    for (int k = 0; k < count; k++)
        for (int i = 1; i < n[k]; i++) {
            const float *row = xcorr + (size_t)pick[k][i] * T;
            for (int j = 0; j < i; j++) l[AT(i, j)][k] = 0.9f * row[pick[k][j]];
        }
    // L D L' needs no square roots; the diagonal of 0.9 C + 0.1 I is 1.
    lanes one = (lanes){0} + 1, det = one, trace = {0};
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
        lanes live = {0};  // columns of padding stay out of the trace
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
    for (int k = 0; k < count; k++)
        out[k] = n[k] ? (float)(-(log((double)det[k]) + trace[k]) / n[k]) : (float)LEAST;
}

CRIT_WIDE static void neurons(float *out, const crit_in *in) {
    const int T = in->T, words = (T + 31) / 32;
    ASSERT(in->U <= CRIT_TILE);
    uint32_t *bit = xcalloc((size_t)words * CRIT_TILE, sizeof *bit);  // [words, CRIT_TILE]: token 32 w + b is active
    int *active = xmalloc((size_t)T * sizeof *active), pick[LANES][NEURON_ROWS], n[LANES];
    for (int t = 0; t < T; t++) {
        const float *g = in->grad + (size_t)t * in->ld, xmax = in->xmax[t];
        uint32_t *to = bit + (size_t)(t / 32) * CRIT_TILE;
#pragma omp simd
        for (int u = 0; u < in->U; u++) to[u] |= (uint32_t)(fabsf(g[u]) * xmax > 1e-30f) << t % 32;
    }
    for (int u = 0; u < in->U; u++) {
        int m = 0, k = u % LANES;
        for (int w = 0; w < words; w++)
            for (uint32_t b = bit[(size_t)w * CRIT_TILE + u]; b; b &= b - 1) active[m++] = 32 * w + __builtin_ctz(b);
        n[k] = m < NEURON_ROWS ? m : NEURON_ROWS;
        for (int i = 0; i < n[k]; i++) pick[k][i] = active[(long)i * m / n[k]];
        if (k == LANES - 1 || u == in->U - 1) score_lanes(out + u - k, pick, n, k + 1, in->xcorr, T);
    }
    free(active);
    free(bit);
}

// ---------------------------------------------------------------- compat, per task
// Positions up to T-2 have a gradient in the inner layers; in the last layer only those that predict the continuation.
static task_row *select_rows(const task_tokens *t, uint64_t seed, int *n, const char **why) {
    task_row *out = NULL;
    int cap = 0;
    *n = 0;
    for (int last = 0; last < 2; last++) {
        task_row *all = NULL;
        int count = 0, room = 0;
        for (int e = 0; e < t->n; e++)
            for (int p = last ? t->context[e] - 1 : 0; p <= t->length[e] - 2; p++)
                VEC_PUSH(all, count, room, ((task_row){.example = e, .position = p, .kind = last}));
        int32_t *order = xmalloc((size_t)count * sizeof *order);
        bool few = count <= HEAD_ROWS;  // every draw would be the same
        for (int draw = 0; draw < (few ? 1 : DRAWS); draw++) {
            rng r = rng_make(rng_hash(seed, (uint64_t)draw, (uint64_t)last));
            rng_permutation(&r, order, count);
            for (int i = 0; i < (few ? count : HEAD_ROWS); i++) {
                task_row row = all[few ? i : order[i]];
                row.group = draw;
                VEC_PUSH(out, *n, cap, row);
            }
        }
        free(order);
        free(all);
    }
    if (*n == 0) *why = "jacov: the task has no gradient rows";
    return out;
}

static double draw_score(const double *y, int n, int d, double *g) {
    int side = corr_gram(g, y, n, d);
    gsl_matrix_view m = gsl_matrix_view_array(g, (size_t)side, (size_t)side);
    gsl_vector *lambda = gsl_vector_alloc((size_t)side);
    gsl_eigen_symm_workspace *work = gsl_eigen_symm_alloc((size_t)side);
    gsl_eigen_symm(&m.matrix, lambda, work);
    double sum = (n - side) * (log(1e-5) + 1e5);
    for (int i = 0; i < side; i++) {
        double mu = fabs(gsl_vector_get(lambda, (size_t)i)) + 1e-5;
        sum += log(mu) + 1 / mu;
    }
    gsl_eigen_symm_free(work);
    gsl_vector_free(lambda);
    return -sum;
}

static void task_heads(float *out, const task_layer *in, uint64_t seed) {
    (void)seed;
    const int D = in->D, last = in->layer == in->layers - 1;
    double *y = xmalloc((size_t)HEAD_ROWS * (size_t)D * sizeof *y), *g = xmalloc((size_t)D * (size_t)D * sizeof *g);
    for (int h = 0; h < in->H; h++) {
        double sum = 0;
        int draws = 0;
        for (int draw = 0; draw < DRAWS; draw++) {
            int n = 0;
            for (int r = 0; r < in->n; r++) {
                if (in->row[r].kind != last || in->row[r].group != draw) continue;
                const float *row = in->da + (size_t)r * in->E + (size_t)h * D;
                double total = 0;
                for (int i = 0; i < D; i++) total += row[i];
                ASSERT(n < HEAD_ROWS);
                n += total != 0 && corr_row(y + (size_t)n * D, row, D);
            }
            if (n == 0) continue;
            sum += draw_score(y, n, D, g);
            draws++;
        }
        out[h] = draws ? (float)(sum / draws) : 0;
    }
    free(g);
    free(y);
}

#define COMPAT_DOC "mean of ten draws of 200 rows da[t]: -sum_i (ln(l_i + 1e-5) + 1/(l_i + 1e-5)), l_i eigenvalues of their correlation"
static const task_stage compat = {select_rows, task_heads, NULL, COMPAT_DOC, NULL};

#define DOC(rows) "-mean_i (ln m_i + 1/m_i), m_i = 0.9 l_i + 0.1, l_i eigenvalues of the correlation of " rows
const criterion crit_jacov = {
    .name = "jacov", .about = "covariance of the tokens' gradients (Mellor 2020, Lopes 2021)",
    .sound = {heads, neurons, CRIT_GRAD, CRIT_GRAD | CRIT_XCORR, DOC("the rows da[t]"), DOC("the rows dz[t]*x[t]"), NULL},
    .compat = {NULL, NULL, 0, 0, COMPAT_DOC, NULL, &compat}};
