// sweep_series - what a sweep compares: a series for every mask, criterion and predictor that the options name.
// Contract in sweep.h.
#include <stdlib.h>
#include <string.h>
#include "sweep.h"

static series *add_series(sweep *w, mask_kind kind, const criterion *crit, const char *path) {
    w->series = xrealloc(w->series, (size_t)(w->n_series + 1) * sizeof *w->series);
    w->series[w->n_series] = (series){.kind = kind, .crit = crit, .path = path, .units = w->units};
    return &w->series[w->n_series++];
}

static int add_static(sweep *w, const criterion *const *crit, int n_crit) {
    const cli_list *aggregate = &w->o->aggregate;
    if (!w->o->masks.scores) return err_set("--mask static needs --scores FILE, written by bin/aggregate");
    w->both_aggregates = aggregate->n == 2;
    for (int i = 0; i < aggregate->n; i++)
        for (int k = 0; k < n_crit; k++)
            add_series(w, MASK_STATIC, crit[k], NULL)->pooled = aggregate->at[i] == AGGREGATE_ALL;
    return 0;
}

// All criteria that one predictor file has, or those named.
static int add_predictor(sweep *w, const char *file, const criterion *const *crit, int n_crit) {
    int n_there;
    char *path = predictor_path(file, w->seed[0]), **there = predictor_criteria(path, &n_there);
    free(path);
    if (!there) return -1;
    for (int k = 0; k < n_crit; k++) {
        bool has = !w->all_criteria;
        for (int j = 0; j < n_there; j++) has |= strcmp(there[j], crit[k]->name) == 0;
        if (has) add_series(w, MASK_CONTEXTUAL, crit[k], xstrdup(file));
    }
    free(there);
    return 0;
}

static int add_contextual(sweep *w, const criterion *const *crit, int n_crit) {
    int n = 0, status = 0;
    char **file = w->o->masks.predictor ? cli_split_files(w->o->masks.predictor, "", &n) : NULL;
    if (n == 0) {
        err_set("--mask contextual needs --predictor FILE, written by bin/train");
        status = 2;
    }
    for (int i = 0; i < n && !status; i++) status = add_predictor(w, file[i], crit, n_crit) ? 1 : 0;
    free(file);
    return status;
}

static int add_reference(sweep *w, const criterion *const *crit, int n_crit) {
    const mask_rule rule = {.units = w->units, .mode = w->mode};
    for (int k = 0; k < n_crit; k++) {
        if (reference_check(crit[k], &rule) == 0)
            add_series(w, MASK_REFERENCE, crit[k], NULL);
        else if (!w->all_criteria)
            return -1;
        else
            log_info("left out: %s", err_get());
    }
    return 0;
}

static int add_threshold(sweep *w, const char *by) {
    if (mask_options_check_threshold(&w->o->masks) != 0) return -1;
    add_series(w, MASK_THRESHOLD, NULL, xstrdup(by))->units = UNITS_NEURONS;
    return 0;
}

static int add_masks(sweep *w, const char *name, const criterion *const *crit, int n_crit) {
    const char *path;
    const int kind = mask_kind_of(name, MASKS_ALL, &path);
    if (kind < 0) return 2;
    switch ((mask_kind)kind) {
    case MASK_STATIC: return add_static(w, crit, n_crit) ? 2 : 0;
    case MASK_CONTEXTUAL: return add_contextual(w, crit, n_crit);
    case MASK_THRESHOLD: return add_threshold(w, path) ? 2 : 0;
    case MASK_REFERENCE: return add_reference(w, crit, n_crit) ? 2 : 0;
    case MASK_ORACLE:
        // removing every neuron of every document in turn is for small models and on request only
        add_series(w, MASK_ORACLE, NULL, NULL)->units = cli_given(sweep_table, "units") ? w->units : UNITS_HEADS;
        return 0;
    default: add_series(w, (mask_kind)kind, NULL, path ? xstrdup(path) : NULL); return 0;
    }
}

int sweep_series_choose(sweep *w) {
    const mask_options *o = &w->o->masks;
    int n, n_crit, status = 0;
    const criterion **crit = crit_select(o->criterion, &n_crit);
    if (!crit) return err_prefix("--criterion"), 2;
    w->all_criteria = strcmp(o->criterion, "all") == 0;
    char **name = cli_split_files(o->mask, "file:", &n);
    for (int i = 0; i < n && !status; i++) status = add_masks(w, name[i], crit, n_crit);
    if (n == 0) {
        err_set("--mask names no mask");
        status = 2;
    }
    free(crit);
    free(name);
    return status;
}
