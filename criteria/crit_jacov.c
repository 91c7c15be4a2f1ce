// crit_jacov - how uncorrelated the gradients of the tokens are.
// Rows: da[t] of a head, dz[t]*x[t] of a neuron; zero and constant rows left out; at most M of m (200 for a head, 32
// for a neuron), rows floor(i*m/M). C = Pearson correlation between them, lambda its n eigenvalues, mu = 0.9 lambda +
// 0.1 (C is rank deficient):
//   -1/n sum_i (ln mu_i + 1/mu_i);  n = 0: -(ln 0.1 + 10), the lower bound.
// Both sums come from one Cholesky factor of 0.9 C + 0.1 I. Jacobian covariance: Mellor et al. 2020, "Neural
// architecture search without training", version 1; as a proxy Lopes et al. 2021, "EPE-NAS".
// Compat (heads, one score per task): ten draws of 200 rows of all examples, -sum_i (ln(lambda_i + 1e-5) + 1/(lambda_i
// + 1e-5)).
#include "corr.h"
#include "criterion.h"
#include "task_stage.h"
#include <gsl/gsl_eigen.h>
#include <math.h>
#include <stdlib.h>

enum { DRAWS = 10 };

static void spectrum(float *out, const crit_in *in) {
    for (int u = 0; u < in->U; u++) {
        const double n = crit_sum(in, u, USUM_ROWS);
        out[u] = (float)(n > 0 ? -(crit_sum(in, u, USUM_LOG_DET) + crit_sum(in, u, USUM_TRACE)) / n : -(log(0.1) + 10));
    }
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
                const float *row = in->da + (size_t)r * in->A + (size_t)h * D;
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

#define COMPAT_DOC                                                                                                     \
    "mean of ten draws of 200 rows da[t]: -sum_i (ln(l_i + 1e-5) + 1/(l_i + 1e-5)), l_i eigenvalues of their "         \
    "correlation"
static const task_stage compat = {select_rows, task_heads, NULL, COMPAT_DOC, NULL};

#define DOC(rows) "-mean_i (ln m_i + 1/m_i), m_i = 0.9 l_i + 0.1, l_i eigenvalues of the correlation of " rows
enum { SPECTRUM = CRIT_SUM(USUM_ROWS) | CRIT_SUM(USUM_LOG_DET) | CRIT_SUM(USUM_TRACE) };
const criterion crit_jacov = {
    .name = "jacov",
    .about = "covariance of the tokens' gradients (Mellor 2020, Lopes 2021)",
    .unit = {{"1"}},
    .zeros_only = true,
    .sound = {spectrum, spectrum, SPECTRUM, SPECTRUM, DOC("the rows da[t]"), DOC("the rows dz[t]*x[t]"), NULL},
    .compat = {NULL, NULL, 0, 0, COMPAT_DOC, NULL, &compat}};
