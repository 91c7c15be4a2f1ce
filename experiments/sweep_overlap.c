// sweep_overlap - refuses to evaluate documents that the scores or predictors of the masks have seen. Contract in sweep.h.
#include <stdlib.h>
#include <string.h>
#include "documents.h"
#include "nets.h"
#include "sweep.h"

typedef struct {
    char *text;      // "FILE has seen 3 of ...", one overlap after the other
    char *unknown;   // the first file that does not say what it has seen
    int n_unknown;   // files
} findings;

// The documents of a task that seeds first..last evaluate, with their few-shot examples, as marks of split and pool.
static int mark(bool *seen, bool *pool_seen, const sweep *w, int k, int first, int last) {
    int bad = 0;
    for (int s = first; s <= last; s++) {
        const eval_task *t = &w->targets[s][k].task;
        const task_split *pool = t->pool.docs ? &t->pool : &t->split;
        for (int i = 0; i < t->n && !bad; i++) bad = task_mark(seen, pool_seen, pool, &t->split, t->doc[i], (int)w->o->shots, w->seed[s], w->compat);
    }
    return bad;
}

static int count_marked(const bool *seen, int n) {
    int marked = 0;
    for (int i = 0; i < n; i++) marked += seen[i];
    return marked;
}

static void add_overlap(findings *f, const char *path, const char *task, long n, int of) {
    char *before = f->text;
    f->text = before ? xasprintf("%s, %ld of %d of %s", before, n, of, task)
                     : xasprintf("%s has seen documents that this sweep evaluates or shows as few-shot examples: %ld of %d of %s", path, n, of, task);
    free(before);
}

// One task against one file. 0, or -1 and err_set.
static int check_task(findings *f, bool *all_known, const sweep *w, const store *s, int k, int first, int last) {
    const eval_task *t = &w->targets[first][k].task;
    const task_split *split = &t->split, *pool = t->pool.docs ? &t->pool : split;
    bool *seen = xcalloc((size_t)split->n, sizeof *seen), *pool_seen = pool == split ? seen : xcalloc((size_t)pool->n, sizeof *pool_seen), known = true;
    long n = 0, of_pool = 0;
    int bad = mark(seen, pool_seen, w, k, first, last) || documents_overlap(&n, &known, s, split, seen) ? -1 : 0;
    int of = count_marked(seen, split->n);
    if (!bad && pool != split) {
        bad = documents_overlap(&of_pool, &known, s, pool, pool_seen);
        of += count_marked(pool_seen, pool->n);
    }
    if (!bad && n + of_pool > 0) add_overlap(f, store_path(s), t->name, n + of_pool, of);
    *all_known &= known;
    if (pool_seen != seen) free(pool_seen);
    free(seen);
    return bad;
}

// Every task against one file; takes s.
static int check_file(findings *f, const sweep *w, store *s, int first, int last) {
    bool all_known = true;
    int bad = s ? 0 : -1;
    for (int k = 0; k < w->n_targets && !bad; k++)
        if (!w->targets[first][k].is_text) bad = check_task(f, &all_known, w, s, k, first, last);
    if (!bad && !all_known && f->n_unknown++ == 0) f->unknown = xstrdup(store_path(s));
    store_close(s);
    return bad;
}

static int check_predictors(findings *f, const sweep *w) {
    int bad = 0;
    for (int i = 0; i < w->n_series && !bad; i++) {
        const series *of = &w->series[i];
        bool again = !series_is(of, "contextual");  // the criteria of a file are series one after the other
        for (int j = 0; j < i; j++) again |= series_is(&w->series[j], "contextual") && strcmp(w->series[j].path, of->path) == 0;
        for (int s = 0; s < w->n_seeds && !again && !bad && !f->text; s++) {
            char *path = sweep_predictor_path(of->path, w->seed[s]);
            bad = check_file(f, w, store_open_as(path, PREDICTOR_FORMAT, "bin/train"), s, s);
            free(path);
        }
    }
    return bad;
}

static bool any_static(const sweep *w) {
    bool any = false;
    for (int i = 0; i < w->n_series; i++) any |= series_is(&w->series[i], "static");
    return any;
}

int sweep_overlap(const sweep *w) {
    findings f = {0};
    int bad = 0;
    if (any_static(w)) bad = check_file(&f, w, store_open(w->o->scores), 0, w->n_seeds - 1);
    if (!bad && !f.text) bad = check_predictors(&f, w);
    if (!bad && f.text && !w->o->allow_overlap)
        bad = err_set("%s; score one part (score --part 1/2) and sweep another (--part 2/2), or give --allow-overlap", f.text);
    else if (!bad && w->rank == 0) {
        if (f.text) log_info("warning: %s (--allow-overlap)", f.text);
        if (f.unknown) log_info("warning: %s%s does not say which documents it was scored on, so that an overlap with those evaluated cannot be checked", f.unknown,
                                f.n_unknown > 1 ? " (like others)" : "");
    }
    free(f.text);
    free(f.unknown);
    return bad;
}
