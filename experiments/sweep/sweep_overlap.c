// sweep_overlap - refuses to evaluate documents that the scores or predictors of masks have seen. Contract in sweep.h.
#include <stdlib.h>
#include <string.h>
#include "documents.h"
#include "nets.h"
#include "sweep.h"

typedef struct {
    char *text;     // "FILE has seen ...: 3 of 20 of copa, ...", of the first file with an overlap; NULL: there is none
    char *unknown;  // the first file that does not say what it has seen
    int n_unknown;  // how many there are
} findings;

// Marks the documents of a task that seeds first..last evaluate, and their few-shot examples in the pool.
static int mark_evaluated(bool *seen, bool *pool_seen, const sweep *w, int k, int first, int last) {
    int bad = 0;
    for (int s = first; s <= last; s++) {
        const eval_task *t = &w->targets[s][k].task;
        const task_split *pool = t->pool.docs ? &t->pool : &t->split;
        for (int i = 0; i < t->n && !bad; i++)
            bad = task_mark(seen, pool_seen, pool, &t->split, t->doc[i], (int)w->o->shots, w->seed[s], w->mode);
    }
    return bad;
}

static int count_marked(const bool *marked, int n) {
    int sum = 0;
    for (int i = 0; i < n; i++) sum += marked[i];
    return sum;
}

static void add_overlap(findings *f, const char *path, const char *task, long n, int of) {
    char *before = f->text;
    if (!before)
        before = xasprintf("%s has seen documents that this sweep evaluates or shows as few-shot examples:", path);
    f->text = xasprintf("%s%s %ld of %d of %s", before, f->text ? "," : "", n, of, task);
    free(before);
}

// One task against one file. 0, or -1 and err_set.
static int check_task_overlap(findings *f, bool *known, const sweep *w, const store *s, int k, int first, int last) {
    const eval_task *t = &w->targets[first][k].task;
    const task_split *split = &t->split, *pool = t->pool.docs ? &t->pool : split;
    bool *seen = xcalloc((size_t)split->n, sizeof *seen), *pool_seen = seen;
    if (pool != split) pool_seen = xcalloc((size_t)pool->n, sizeof *pool_seen);
    long n = 0, of_pool = 0;
    int bad = mark_evaluated(seen, pool_seen, w, k, first, last);
    if (!bad) bad = documents_overlap(&n, known, s, split, seen);
    if (!bad && pool != split) bad = documents_overlap(&of_pool, known, s, pool, pool_seen);
    const int evaluated = count_marked(seen, split->n) + (pool != split ? count_marked(pool_seen, pool->n) : 0);
    if (!bad && n + of_pool > 0) add_overlap(f, store_path(s), t->name, n + of_pool, evaluated);
    if (pool != split) free(pool_seen);
    free(seen);
    return bad;
}

// Every task against one file, which is closed; NULL: it could not be opened, err_set.
static int check_file(findings *f, const sweep *w, store *s, int first, int last) {
    bool all_known = true;
    int bad = s ? 0 : -1;
    for (int k = 0; k < w->n_targets && !bad; k++) {
        bool known = true;
        if (w->targets[first][k].is_text) continue;  // scores are of tasks alone
        bad = check_task_overlap(f, &known, w, s, k, first, last);
        all_known &= known;
    }
    if (!bad && !all_known && f->n_unknown++ == 0) f->unknown = xstrdup(store_path(s));
    store_close(s);
    return bad;
}

// The criteria of a predictor file are series, one after the other; the file is looked at once.
static bool is_new_predictor(const sweep *w, int i) {
    if (w->series[i].kind != MASK_CONTEXTUAL) return false;
    for (int j = 0; j < i; j++)
        if (w->series[j].kind == MASK_CONTEXTUAL && strcmp(w->series[j].path, w->series[i].path) == 0) return false;
    return true;
}

static int check_predictors(findings *f, const sweep *w) {
    int bad = 0;
    for (int i = 0; i < w->n_series; i++)
        for (int s = 0; s < w->n_seeds && is_new_predictor(w, i) && !bad && !f->text; s++) {
            char *path = predictor_path(w->series[i].path, w->seed[s]);
            bad = check_file(f, w, store_open_as(path, PREDICTOR_FORMAT, "bin/train"), s, s);
            free(path);
        }
    return bad;
}

static int check_all(findings *f, const sweep *w) {
    bool any_static = false;
    for (int i = 0; i < w->n_series; i++) any_static |= w->series[i].kind == MASK_STATIC;
    if (any_static && check_file(f, w, store_open(w->o->masks.scores), 0, w->n_seeds - 1)) return -1;
    return f->text ? 0 : check_predictors(f, w);
}

static void warn_of(const findings *f) {
    if (f->text) log_info("warning: %s (--allow-overlap)", f->text);
    if (f->unknown)
        log_info("warning: %s%s does not say which documents it was scored on, so that an overlap with those evaluated "
                 "cannot be checked",
                 f->unknown, f->n_unknown > 1 ? " (like others)" : "");
}

int sweep_overlap(const sweep *w) {
    findings f = {0};
    int bad = check_all(&f, w);
    if (!bad && f.text && !w->o->allow_overlap)
        bad = err_set("%s; score one part (score --part 1/2) and sweep another (--part 2/2), or give --allow-overlap",
                      f.text);
    if (!bad && w->rank == 0) warn_of(&f);
    free(f.text);
    free(f.unknown);
    return bad;
}
