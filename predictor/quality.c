// quality - see quality.h.
#include "quality.h"
#include "base.h"
#include "stats.h"
#include <math.h>
#include <stdlib.h>

const char quality_columns[] = "mse,joint_rho,within_rho,overlap_joint_10,overlap_joint_20,overlap_joint_30,overlap_"
                               "joint_40,overlap_joint_50,overlap_joint_60,overlap_joint_70,"
                               "overlap_joint_80,overlap_joint_90,overlap_within_10,overlap_within_20,overlap_within_"
                               "30,overlap_within_40,overlap_within_50,overlap_within_60,"
                               "overlap_within_70,overlap_within_80,overlap_within_90";

// ---------------------------------------------------------------- ranks of one sorted order
typedef struct {
    double x;
    int index;
} entry;
static int lower_first(const void *a, const void *b) {
    const entry *x = a, *y = b;
    if (x->x != y->x) return x->x < y->x ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

// place[i]: how many units go before unit i does (equal scores: the lower index first); rank[i]: average rank. False:
// constant.
static bool order(int *place, double *rank, const double *x, int n, entry *e) {
    for (int i = 0; i < n; i++) e[i] = (entry){x[i], i};
    qsort(e, (size_t)n, sizeof *e, lower_first);
    for (int i = 0, j; i < n; i = j) {
        for (j = i; j < n && e[j].x == e[i].x; j++) place[e[j].index] = j;
        ASSERT(j > i);  // a NaN is equal to nothing
        for (int k = i; k < j; k++) rank[e[k].index] = 0.5 * (i + 1 + j);
    }
    return n == 0 || e[0].x == e[n - 1].x;
}

// Adds the overlaps of n units at every sparsity.
static void overlaps(double *sum, const int *a, const int *b, int n) {
    for (int s = 0; s < QUALITY_POINTS; s++) {
        const int prune = (s + 1) * 10 * n / 100;
        int both = 0;
        for (int i = 0; i < n; i++) both += a[i] >= prune && b[i] >= prune;
        sum[s] += (double)both / (n - prune);
    }
}

// The units that layers [from, L) have, one layer after the other; returns their number.
static int pack(double *to, const double *x, int from, int L, int U, const int *units) {
    int n = 0;
    for (int l = from; l < L; l++)
        for (int u = 0; u < (units ? units[l] : U); u++) to[n++] = x[(size_t)l * (size_t)U + (size_t)u];
    return n;
}

void quality_of(quality *q, const double *pred, const double *truth, int L, int U, const int *units, int first,
                int dense) {
    *q = (quality){.examples = 1};
    if (dense < first) dense = first;
    const size_t most = (size_t)(L - first) * (size_t)U;
    int *place = xmalloc(2 * most * sizeof *place), *a = place, *b = place + most, layers = 0;
    double *x = xmalloc(4 * most * sizeof *x), *y = x + most, *ra = y + most, *rb = ra + most;
    entry *e = xmalloc(most * sizeof *e);
    int n = pack(x, pred, first, L, U, units);
    pack(y, truth, first, L, U, units);
    for (int i = 0; i < n; i++) q->mse += (x[i] - y[i]) * (x[i] - y[i]) / n;
    bool constant = order(a, ra, x, n, e);
    constant |= order(b, rb, y, n, e);
    q->joint = constant ? 0 : stats_spearman_ranks(ra, rb, (size_t)n);
    q->undefined = constant;
    const int prunable = pack(x, pred, dense, L, U, units);
    pack(y, truth, dense, L, U, units);
    if (prunable > 0) {
        order(a, ra, x, prunable, e);
        order(b, rb, y, prunable, e);
        overlaps(q->overlap_joint, a, b, prunable);
    }
    for (int l = first; l < L; l++) {
        n = units ? units[l] : U;
        constant = order(a, ra, pred + (size_t)l * (size_t)U, n, e);
        constant |= order(b, rb, truth + (size_t)l * (size_t)U, n, e);
        q->layers++;
        q->constant += constant;
        if (!constant) q->within += stats_spearman_ranks(ra, rb, (size_t)n);
        if (l < dense || n == 0) continue;
        overlaps(q->overlap_within, a, b, n);
        layers++;
    }
    for (int s = 0; s < QUALITY_POINTS; s++) {
        if (prunable <= 0)
            q->overlap_joint[s] = q->overlap_within[s] = NAN;
        else
            q->overlap_within[s] /= layers;
    }
    free(place);
    free(x);
    free(e);
}

void quality_add(quality *sum, const quality *one) {
    sum->mse += one->mse;
    sum->joint += one->joint;
    sum->within += one->within;
    for (int s = 0; s < QUALITY_POINTS; s++) {
        sum->overlap_joint[s] += one->overlap_joint[s];
        sum->overlap_within[s] += one->overlap_within[s];
    }
    sum->examples += one->examples;
    sum->undefined += one->undefined;
    sum->constant += one->constant;
    sum->layers += one->layers;
}

void quality_mean(quality *q) {
    const double n = (double)q->examples;
    q->mse /= n;
    q->joint = q->undefined < q->examples ? q->joint / (double)(q->examples - q->undefined) : NAN;
    q->within = q->constant < q->layers ? q->within / (double)(q->layers - q->constant) : NAN;
    for (int s = 0; s < QUALITY_POINTS; s++) {
        q->overlap_joint[s] /= n;
        q->overlap_within[s] /= n;
    }
}

void quality_row(const quality *q, double out[QUALITY_COLUMNS]) {
    out[0] = q->mse;
    out[1] = q->joint;
    out[2] = q->within;
    for (int s = 0; s < QUALITY_POINTS; s++) {
        out[3 + s] = q->overlap_joint[s];
        out[3 + QUALITY_POINTS + s] = q->overlap_within[s];
    }
}
