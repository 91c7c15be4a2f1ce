// aggregate_pooled - criteria from moments over the tokens of a task (flap): over all tasks the moments are pooled, so
// that the score is that of all tokens together.
#include "aggregate.h"
#include "moments.h"
#include "registry.h"
#include <stdlib.h>

static char *of_task(const job *j, int t, const char *crit) {
    return xasprintf("/task_scores%s/%s/%s", mode_suffixes[j->mode], j->task[t], crit);
}

bool aggregate_is_pooled(const job *j, const char *crit) {
    bool any = false;
    for (int t = 0; t < j->n_task && !any; t++) {
        char *group = of_task(j, t, crit);
        any = moments_there(j->in, group);
        free(group);
    }
    return any;
}

// Pools the tasks in their order; put: each, and all, into the aggregates.
static int pool(const job *j, const char *crit, moment_set *all, bool put) {
    int bad = 0;
    for (int t = 0; !bad && t < j->n_task; t++) {
        char *from = of_task(j, t, crit), *to = xasprintf("/aggregates/%s/%s", j->task[t], crit);
        moment_set m = {0};
        if (moments_there(j->in, from)) {
            bad = moments_read(&m, j->in, from);
            if (!bad && put) bad = moments_write(&m, j->out, to);
            if (!bad && !all->mean[0]) moments_alloc(all, m.L, m.width);
            if (!bad) moments_add(all, &m);
        }
        moments_free(&m);
        free(to);
        free(from);
    }
    return bad;
}

int aggregate_moments(job *j, const char *crit) {
    moment_set all = {0};
    char *to = xasprintf("/aggregates/all/%s", crit);
    int bad = pool(j, crit, &all, true);
    if (!bad) bad = moments_write(&all, j->out, to);
    free(to);
    moments_free(&all);
    return bad;
}

double *aggregate_pooled_all(const job *j, const char *crit, unit_kind kind) {
    const criterion *c = crit_find(crit);
    const int U = j->U[kind];
    moment_set all = {0};
    char *name = xasprintf("%s/%s", moments_norms, unit_names[kind]);
    double *squares = NULL, *score = xcalloc((size_t)j->L * (size_t)U, sizeof *score);
    long dim[3] = {0};
    int bad = c && c->pooled ? pool(j, crit, &all, false)
                             : err_set("%s: moments of %s, which is no pooled criterion here", store_path(j->in), crit);
    if (!bad) bad = store_shape(j->in, name, dim) == 2 ? 0 : -1;
    if (!bad && (dim[0] != j->L || dim[1] != all.width[kind]))
        bad = err_set("%s: %s has not the shape of the moments", store_path(j->in), name);
    if (!bad) {
        squares = xmalloc((size_t)(dim[0] * dim[1]) * sizeof *squares);
        bad = store_read_double(j->in, name, 0, dim[0], squares);
    }
    for (int l = 0; !bad && l < j->L; l++) {
        const size_t row = (size_t)l * (size_t)dim[1], at = (size_t)l * (size_t)U;
        const int units = units_of(j, kind, l);
        c->pooled(score + at, &(crit_pooled){units, (int)dim[1] / U, all.variance[kind] + row, squares + row});
        for (int u = units; u < U; u++) score[at + (size_t)u] = NAN;
    }
    moments_free(&all);
    free(squares);
    free(name);
    if (!bad) return score;
    free(score);
    return NULL;
}
