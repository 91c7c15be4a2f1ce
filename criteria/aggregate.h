// aggregate - what the files of bin/aggregate share: aggregate_main.c (aggregates, ranks, files), aggregate_pooled.c
// (criteria from pooled moments) and aggregate_compare.c (criteria beside each other and beside exact removal).
#pragma once
#include "ckpt.h"
#include "mode.h"
#include "stats.h"
#include "store.h"
#include <math.h>

typedef struct {
    char *name;
    double *all[UNIT_KINDS];      // aggregate over all [L, U], NULL: none
    double variance[UNIT_KINDS];  // mean rank variance over units, NAN: none
} summary;                        // of a criterion

typedef struct {
    store *in, *out;
    int L, U[UNIT_KINDS], dense, n;
    int *units[UNIT_KINDS];     // [L] of a compacted model, NULL: U each
    size_t *place[UNIT_KINDS];  // where in [L, U] the units are that exist, [n_units]
    size_t n_units[UNIT_KINDS];
    char **task;           // n_task names, in the store's order
    int n_task, *task_of;  // [n]
    mode_kind mode;        // in work
    summary *crit;
    int n_crit;
    file_out ranks_csv, heads_csv, correlation_csv, removal_csv, stats_csv;
} job;

static inline int units_of(const job *j, unit_kind kind, int layer) {
    return j->units[kind] ? j->units[kind][layer] : j->U[kind];
}
static inline const char *number(char text[32], double x) {
    if (isnan(x)) return "";
    snprintf(text, 32, "%.9g", x);
    return text;
}

// aggregate_main.c. Rows of the store that a dataset's rows belong to; NULL: the same, or *bad. *rows: how many.
int64_t *aggregate_examples(const job *j, const char *dataset, long *rows, int *bad);
// [L, U] of a criterion into a group of the output.
int aggregate_put(job *j, const char *group, const char *task, const char *crit, const char *name, int U,
                  const double *x);
// aggregate_pooled.c. Whether the store has pooled moments of the criterion; moments of the tasks as they are, of all
// pooled, into the aggregates; the score of a kind over all [L, U] from them, caller frees, NULL and err_set.
bool aggregate_is_pooled(const job *j, const char *crit);
int aggregate_moments(job *j, const char *crit);
double *aggregate_pooled_all(const job *j, const char *crit, unit_kind kind);
// aggregate_compare.c. 0, or -1 and err_set.
int aggregate_correlate(job *j, unit_kind kind);  // criteria with each other
// truth [L, U]: the aggregate of removal; NULL: none
int aggregate_against_removal(job *j, unit_kind kind, const double *truth);
// aggregate_spread.c. Rows of score_stats.csv, for each layer and for all: how an aggregate's scores [L, U] spread.
extern const char aggregate_spread_columns[];
void aggregate_spread(job *j, const char *task, const char *crit, unit_kind kind, const double *score);
