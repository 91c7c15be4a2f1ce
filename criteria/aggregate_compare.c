// aggregate_compare - correlation between criteria, and their agreement with exact removal.
#include "aggregate.h"
#include <stdlib.h>
#include <string.h>

static const double sparsities[] = {10, 20, 30, 40, 50, 60, 70, 80, 90};
enum { SPARSITIES = sizeof sparsities / sizeof *sparsities };

// ---------------------------------------------------------------- correlation between criteria
int aggregate_correlate(job *j, unit_kind kind) {
    const size_t n = j->n_units[kind];
    int used = 0, *which = xmalloc((size_t)j->n_crit * sizeof *which), bad = 0;
    for (int k = 0; k < j->n_crit; k++)
        if (j->crit[k].all[kind]) which[used++] = k;
    if (used == 0) {
        free(which);
        return 0;
    }
    double *rank = xmalloc((size_t)used * n * sizeof *rank),
           *rho = xmalloc(((size_t)used * (size_t)used + n) * sizeof *rho);
    char **names = xmalloc((size_t)used * sizeof *names), text[32];
    for (int a = 0; a < used; a++) {
        names[a] = j->crit[which[a]].name;
        for (size_t i = 0; i < n; i++) rho[i] = j->crit[which[a]].all[kind][j->place[kind][i]];
        stats_ranks(rank + (size_t)a * n, rho, n);
    }
    printf("\n%s, %s: rank correlation of the aggregates over all tasks\n%-10s", mode_names[j->mode], unit_names[kind],
           "");
    for (int a = 0; a < used; a++) printf(" %9.9s", names[a]);
    for (int a = 0; a < used; a++) {
        printf("\n%-10s", names[a]);
        for (int b = 0; b < used; b++) {
            double r = rho[a * used + b] = stats_spearman_ranks(rank + (size_t)a * n, rank + (size_t)b * n, n);
            if (isnan(r))
                printf(" %9s", "undefined");
            else
                printf(" %9.3f", r);
            if (j->correlation_csv.f)
                fprintf(j->correlation_csv.f, "%s,%s,%s,%s,%s\n", mode_names[j->mode], unit_names[kind], names[a],
                        names[b], number(text, r));
        }
    }
    printf("\n");
    long dim[2] = {used, used};
    char *path = xasprintf("/correlation%s/%s", mode_suffixes[j->mode], unit_names[kind]),
         *labels = xasprintf("/correlation%s/%s_criteria", mode_suffixes[j->mode], unit_names[kind]);
    bad = store_put_doubles(j->out, path, 2, dim, rho) || store_put_names(j->out, labels, used, names);
    free(labels);
    free(path);
    free(names);
    free(rho);
    free(rank);
    free(which);
    return bad ? -1 : 0;
}

// ---------------------------------------------------------------- agreement with exact removal
typedef struct {
    double rho, overlap[2][SPARSITIES];
    long n, undefined;
} agreement;  // overlap: joint, within layers

static void agree(agreement *a, const job *j, unit_kind kind, const double *x, const double *truth) {
    const size_t n = j->n_units[kind];
    double *packed = xmalloc((2 * n + 1) * sizeof *packed);
    for (size_t k = 0; k < n; k++) {
        packed[k] = x[j->place[kind][k]];
        packed[n + k] = truth[j->place[kind][k]];
    }
    const double rho = stats_spearman(packed, packed + n, n);
    free(packed);
    a->n++;
    if (isnan(rho))
        a->undefined++;
    else
        a->rho += rho;
    for (int joint = 0; joint < 2; joint++)
        for (int i = 0; i < SPARSITIES; i++)
            a->overlap[!joint][i] +=
                stats_overlap(x, truth, j->units[kind], j->L, j->U[kind], j->dense, sparsities[i], joint);
}

// Means over the examples that both have.
static int agree_rows(agreement *a, const job *j, unit_kind kind, const char *dataset, const char *truth) {
    const size_t n = (size_t)j->L * (size_t)j->U[kind];
    long rows, truth_rows;
    int bad, bad_too;
    int64_t *own = aggregate_examples(j, dataset, &rows, &bad),
            *index = aggregate_examples(j, truth, &truth_rows, &bad_too);
    float *x = xmalloc(2 * n * sizeof *x);
    double *wide = xmalloc(2 * n * sizeof *wide);
    bad |= bad_too;
    for (long i = 0; !bad && i < truth_rows; i++) {
        long row = index ? (long)index[i] : i, at = row;
        for (at = own ? 0 : row; own && at < rows && own[at] != row; at++)
            ;
        if (at >= rows) continue;
        bad = store_read(j->in, truth, i, 1, x + n) || store_read(j->in, dataset, at, 1, x) ? -1 : 0;
        for (size_t k = 0; k < 2 * n; k++) wide[k] = x[k];
        if (!bad) agree(a, j, kind, wide, wide + n);
    }
    free(wide);
    free(x);
    free(index);
    free(own);
    return bad ? -1 : 0;
}

static int report(job *j, unit_kind kind, const char *crit, const char *over, const agreement *a) {
    char text[32], *path = xasprintf("/removal%s/%s/%s", mode_suffixes[j->mode], unit_names[kind], crit);
    long defined = a->n - a->undefined;
    double rho = defined ? a->rho / (double)defined : NAN;
    char *key = xasprintf("%s_spearman", over);
    printf("%-10s %-10s ", crit, over);
    if (isnan(rho))
        printf("%9s", "undefined");
    else
        printf("%9.3f", rho);
    int bad = isnan(rho) ? 0 : store_put_number(j->out, path, key, rho);
    free(key);
    if (j->removal_csv.f)
        fprintf(j->removal_csv.f, "%s,%s,%s,%s,spearman,,%s,%ld\n", mode_names[j->mode], unit_names[kind], crit, over,
                number(text, rho), a->n);
    for (int within = 0; within < 2; within++)
        for (int i = 0; i < SPARSITIES; i++) {
            double v = a->overlap[within][i] / (double)a->n;
            const char *measure = within ? "overlap_within_layers" : "overlap";
            if (!within && i % 2 == 0) printf(" %6.3f", v);
            if (j->removal_csv.f)
                fprintf(j->removal_csv.f, "%s,%s,%s,%s,%s,%g,%s,%ld\n", mode_names[j->mode], unit_names[kind], crit,
                        over, measure, sparsities[i], number(text, v), a->n);
            key = xasprintf("%s_%s_%g", over, measure, sparsities[i]);
            if (!bad && !isnan(v)) bad = store_put_number(j->out, path, key, v);
            free(key);
        }
    printf("\n");
    free(path);
    return bad;
}

// Removal is the same in both modes; a store of mode compat has it with the published scores only.
int aggregate_against_removal(job *j, unit_kind kind, const double *truth) {
    char *exact = xasprintf("/scores/removal/%s", unit_names[kind]);
    int bad = 0;
    if (!store_has(j->in, exact)) {
        free(exact);
        exact = xasprintf("/scores_compat/removal/%s", unit_names[kind]);
    }
    if (store_has(j->in, exact) && truth) {
        printf("\n%s, %s: agreement with exact removal (layers from %d on: share of the kept units that agree, at "
               "sparsity %%)\n%-10s %-10s %9s",
               mode_names[j->mode], unit_names[kind], j->dense, "", "over", "rank corr");
        for (int i = 0; i < SPARSITIES; i += 2) printf(" %6g", sparsities[i]);
        printf("\n");
        for (int k = 0; !bad && k < j->n_crit; k++) {
            const summary *c = &j->crit[k];
            char *own = xasprintf("/scores%s/%s/%s", mode_suffixes[j->mode], c->name, unit_names[kind]);
            agreement whole = {0}, each = {0};
            if (strcmp(c->name, "removal") != 0 && c->all[kind]) {
                agree(&whole, j, kind, c->all[kind], truth);
                bad = report(j, kind, c->name, "aggregate", &whole);
                if (!bad && store_has(j->in, own)) bad = agree_rows(&each, j, kind, own, exact);
                if (!bad && each.n) bad = report(j, kind, c->name, "examples", &each);
            }
            free(own);
        }
    }
    free(exact);
    return bad;
}
