// stats - rank statistics over unit scores. Contract in stats.h.
#include "stats.h"
#include "base.h"
#include <gsl/gsl_sort.h>
#include <gsl/gsl_statistics_double.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

void stats_ranks(double *rank, const double *x, size_t n) {
    size_t *order = xmalloc(n * sizeof *order);
    gsl_sort_index(order, x, 1, n);
    for (size_t i = 0, j; i < n; i = j) {
        for (j = i; j < n && x[order[j]] == x[order[i]]; j++)
            ;
        ASSERT(j > i);  // a NaN is equal to nothing
        for (size_t k = i; k < j; k++) rank[order[k]] = 0.5 * (double)(i + 1 + j);
    }
    free(order);
}

static bool constant(const double *x, size_t n) {
    for (size_t i = 1; i < n; i++)
        if (x[i] != x[0]) return false;
    return true;
}

double stats_spearman_ranks(const double *rank_a, const double *rank_b, size_t n) {
    if (n < 2 || constant(rank_a, n) || constant(rank_b, n)) return NAN;
    return gsl_stats_correlation(rank_a, 1, rank_b, 1, n);
}

double stats_spearman(const double *a, const double *b, size_t n) {
    double *rank = xmalloc(2 * n * sizeof *rank);
    stats_ranks(rank, a, n);
    stats_ranks(rank + n, b, n);
    double rho = stats_spearman_ranks(rank, rank + n, n);
    free(rank);
    return rho;
}

typedef struct {
    double score;
    size_t index;
} scored;

static int lower_first(const void *a, const void *b) {
    const scored *x = a, *y = b;
    if (x->score != y->score) return x->score < y->score ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

void stats_keep(uint8_t *keep, const double *score, size_t n, size_t prune) {
    scored *s = xmalloc(n * sizeof *s);
    for (size_t i = 0; i < n; i++) s[i] = (scored){score[i], i};
    qsort(s, n, sizeof *s, lower_first);
    for (size_t i = 0; i < n; i++) keep[s[i].index] = i >= prune;
    free(s);
}

static double overlap(const double *a, const double *b, size_t n, double p) {
    size_t prune = (size_t)floor(p * (double)n / 100), both = 0;
    if (prune >= n) return NAN;
    uint8_t *keep = xmalloc(2 * n);
    stats_keep(keep, a, n, prune);
    stats_keep(keep + n, b, n, prune);
    for (size_t i = 0; i < n; i++) both += keep[i] & keep[n + i];
    free(keep);
    return (double)both / (double)(n - prune);
}

double stats_overlap(const double *a, const double *b, const int *units, int L, int U, int dense, double p,
                     bool joint) {
    if (dense >= L) return NAN;
    double *packed = xmalloc(2 * (size_t)(L - dense) * (size_t)U * sizeof *packed),
           *other = packed + (size_t)(L - dense) * (size_t)U, sum = 0;
    size_t n = 0;
    int layers = 0;
    for (int l = dense; l < L; l++) {
        const size_t here = (size_t)(units ? units[l] : U), at = (size_t)l * (size_t)U;
        if (!joint && here) sum += overlap(a + at, b + at, here, p);
        layers += here > 0;
        memcpy(packed + n, a + at, here * sizeof *packed);
        memcpy(other + n, b + at, here * sizeof *other);
        n += here;
    }
    if (joint) sum = overlap(packed, other, n, p);
    free(packed);
    if (joint) return sum;
    return layers ? sum / layers : NAN;
}

void stats_add(stats_moments *m, double x) {
    double d = x - m->mean;
    m->mean += d / (double)++m->n;
    m->m2 += d * (x - m->mean);
}

double stats_variance(const stats_moments *m) { return m->n < 2 ? NAN : m->m2 / (double)(m->n - 1); }
