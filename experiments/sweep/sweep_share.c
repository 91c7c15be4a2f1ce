// sweep_share - points of bin/sweep shared out over processes (mpirun, srun). What a point costs is its
// log-likelihoods, so these are what a process hands over, as a part (parts.h); rows, details and means are made of
// them by process 0 alone, in the order of a single process. Contract in sweep.h.
#include <stdlib.h>
#include <string.h>
#include "sweep.h"
#include "workers.h"

// Points go in turn; a series whose points share a pass over a target (contextual, oracle) goes as a whole.
bool sweep_mine(const sweep *w, long number) { return number % w->ranks == w->rank; }

static char *folder(const sweep *w) { return xasprintf("%s.parts", w->o->out); }

int sweep_lead(const sweep *w) {
    char *dir = folder(w);
    const int bad = leader_begin(dir);
    free(dir);
    return bad;
}

bool sweep_shares(const sweep *w, const char *plan) {
    char *dir = w->o->out ? folder(w) : NULL;
    const bool left = dir && parts_match(dir, plan);
    free(dir);
    return w->ranks > 1 || left;
}

// Every row stands in the file.
static bool finished(void *ctx) {
    sweep *w = ctx;
    results_close(&w->out);
    if (results_read(&w->out, w->o->out, sweep_columns, N_COLUMNS)) die(1, "%s", err_get());
    sweep_count(w);
    return w->rows_missing == 0;
}

int sweep_share(sweep *w, const char *plan) {
    char *dir = folder(w);
    const int lock = w->rank ? worker_begin(dir, plan, w->rank, finished, w) : -1;
    if (lock == WORKER_LATE) {
        free(dir);
        return 0;
    }
    int bad = w->rank && lock < 0 ? -1 : parts_open(&w->parts, dir, plan, w->point);
    w->sharing = true;
    if (!bad) sweep_visit(w, false);
    w->sharing = false;
    if (w->rank) worker_end(dir, w->rank, lock);
    if (!bad && w->rank == 0) {
        workers_wait(dir, w->ranks);
        bad = parts_scan(&w->parts);
    }
    free(dir);
    return bad;
}

void sweep_share_end(sweep *w) {
    char *dir = folder(w);
    parts_close(&w->parts);
    if (parts_remove(dir)) die(1, "%s", err_get());
    free(dir);
}

void sweep_share_rest(const sweep *w, const char *plan) {
    char *dir = folder(w);
    if (parts_remove_rest(dir, plan)) die(1, "%s", err_get());
    free(dir);
}

// A part begins with this, and continues with the log-likelihoods. key: of the row, so that a point of scores or data
// that changed since counts for nothing.
typedef struct {
    uint64_t key;
    eval_counts counts;
} head;

void sweep_put(sweep *w, long at, uint64_t key, const double *ll, int n, const eval_counts *counts) {
    const head h = {key, *counts};
    const size_t lls = (size_t)n * sizeof *ll;
    const parts_record r = {at, 0, (int64_t)(sizeof h + lls)};
    char *all = xmalloc(sizeof h + lls);
    memcpy(all, &h, sizeof h);
    memcpy(all + sizeof h, ll, lls);
    if (parts_add(&w->parts, &r, 1, all, sizeof h + lls)) die(1, "%s", err_get());
    free(all);
}

bool sweep_shared(sweep *w, long at, uint64_t key, double *ll, int n, eval_counts *counts) {
    head h;
    if (!w->parts.dir || !parts_has(&w->parts, at)) return false;
    if (parts_read(&w->parts, at, 0, sizeof h, &h)) die(1, "%s", err_get());
    if (h.key != key) return false;
    *counts = h.counts;
    if (ll && parts_read(&w->parts, at, sizeof h, (size_t)n * sizeof *ll, ll)) die(1, "%s", err_get());
    return true;
}
