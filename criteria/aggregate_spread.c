// aggregate_spread - how the scores of a criterion spread over the units, which is why they are easy or hard to
// predict: quantiles (q5: 5 %) and the same of scores that are min-max normalised as targets of predictors are (n5),
// outliers (beyond the quartiles by more than 1.5 times their distance, Tukey 1977), and units that share their score
// with another. Contract in aggregate.h. Quantiles by GSL.
#include <gsl/gsl_sort.h>
#include <gsl/gsl_statistics_double.h>
#include <stdlib.h>
#include "aggregate.h"

enum { QUANTILES = 9 };
static const double quantile[QUANTILES] = {0, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 1};
const char aggregate_spread_columns[] =
    "mode,task,criterion,units,layer,count,mean,sd,outliers,tied,q0,q5,q10,q25,q50,q75,q90,q95,q100,n5,n25,n50,n75,n95";

static size_t count_outliers(const double *x, size_t n) {
    const double low = gsl_stats_quantile_from_sorted_data(x, 1, n, 0.25),
                 high = gsl_stats_quantile_from_sorted_data(x, 1, n, 0.75), far = 1.5 * (high - low);
    size_t count = 0;
    for (size_t i = 0; i < n; i++) count += x[i] < low - far || x[i] > high + far;
    return count;
}

static size_t count_tied(const double *x, size_t n) {
    size_t count = 0;
    for (size_t i = 0; i < n; i++) count += (i > 0 && x[i] == x[i - 1]) || (i + 1 < n && x[i] == x[i + 1]);
    return count;
}

// Sorts x.
static void one_row(FILE *f, const char *start, const char *layer, double *x, size_t n) {
    if (n == 0) return;
    gsl_sort(x, 1, n);
    fprintf(f, "%s,%s,%zu,%.9g,%.9g,%zu,%zu", start, layer, n, gsl_stats_mean(x, 1, n),
            n > 1 ? gsl_stats_sd(x, 1, n) : 0.0, count_outliers(x, n), count_tied(x, n));
    for (int q = 0; q < QUANTILES; q++) fprintf(f, ",%.9g", gsl_stats_quantile_from_sorted_data(x, 1, n, quantile[q]));
    static const double normalised[] = {0.05, 0.25, 0.5, 0.75, 0.95};
    const double range = x[n - 1] - x[0];
    for (size_t q = 0; q < sizeof normalised / sizeof *normalised; q++)
        fprintf(f, ",%.9g",
                range > 0 ? (gsl_stats_quantile_from_sorted_data(x, 1, n, normalised[q]) - x[0]) / range : 0.0);
    fputc('\n', f);
}

void aggregate_spread(job *j, const char *task, const char *crit, unit_kind kind, const double *score) {
    if (!j->stats_csv.f) return;
    const int U = j->U[kind];
    double *x = xmalloc((size_t)j->L * (size_t)U * sizeof *x), *all = xmalloc((size_t)j->L * (size_t)U * sizeof *all);
    char *start = xasprintf("%s,%s,%s,%s", mode_names[j->mode], task, crit, unit_names[kind]), layer[16];
    size_t n = 0;
    for (int l = 0; l < j->L; l++) {
        const size_t here = (size_t)units_of(j, kind, l);
        for (size_t u = 0; u < here; u++) x[u] = all[n++] = score[(size_t)l * (size_t)U + u];
        snprintf(layer, sizeof layer, "%d", l);
        one_row(j->stats_csv.f, start, layer, x, here);
    }
    one_row(j->stats_csv.f, start, "all", all, n);
    free(start);
    free(all);
    free(x);
}
