// sweep_share - points of bin/sweep shared out over processes (mpirun, srun). What a point costs is its
// log-likelihoods, so these are what a process hands over, as a part (parts.h); rows, details and means are made of
// them by process 0 alone, in the order of a single process. Contract in sweep.h.
#include <stdlib.h>
#include <string.h>
#include "sweep.h"
#include "workers.h"

static char *parts_folder(const sweep *w) { return xasprintf("%s.parts", w->o->out); }

int share_lead(const sweep *w) {
    char *dir = parts_folder(w);
    const int bad = leader_begin(dir);
    free(dir);
    return bad;
}

bool share_exists(const sweep *w, const char *plan) {
    char *dir = w->o->out ? parts_folder(w) : NULL;
    const bool left = dir && parts_match(dir, plan);
    free(dir);
    return w->ranks > 1 || left;
}

// ---------------------------------------------------------------- parts
// A part begins with this, and continues with the log-likelihoods. key: of the row, so that a point of scores or data
// that changed since counts for nothing.
typedef struct {
    uint64_t key;
    eval_counts counts;
} part_head;

static int write_part(sweep *w, point *p, const double *ll) {
    const part_head h = {rows_key(w, p), p->counts};
    const size_t lls = (size_t)target_lls(point_target(w, p)) * sizeof *ll;
    const parts_record r = {p->number, 0, (int64_t)(sizeof h + lls)};
    char *all = xmalloc(sizeof h + lls);
    memcpy(all, &h, sizeof h);
    memcpy(all + sizeof h, ll, lls);
    const int bad = parts_add(&w->parts, &r, 1, all, sizeof h + lls);
    free(all);
    return bad;
}

// 1: there is a part of the point; 0; -1 and err_set.
static int has_part(const sweep *w, const point *p) {
    part_head h;
    if (!w->parts.dir || !parts_has(&w->parts, p->number)) return 0;
    if (parts_read((parts *)&w->parts, p->number, 0, sizeof h, &h)) return -1;
    return h.key == rows_key(w, p);
}

int share_read(sweep *w, const point *p, double *ll, eval_counts *counts) {
    part_head h;
    const size_t lls = (size_t)target_lls(point_target(w, p)) * sizeof *ll;
    if (parts_read(&w->parts, p->number, 0, sizeof h, &h)) return -1;
    *counts = h.counts;
    return parts_read(&w->parts, p->number, sizeof h, lls, ll);
}

// ---------------------------------------------------------------- what is to do
// Points go in turn; those that share a pass over a target go as a whole.
static bool is_mine(const sweep *w, const point *p) {
    return (p->way == POINT_TOGETHER ? p->pass : p->number) % w->ranks == w->rank;
}

static int choose_share(sweep *w) {
    for (long i = 0; i < w->n_points; i++) {
        point *p = &w->point[i];
        p->work = WORK_NONE;
        if (p->way == POINT_LEFT_OUT || p->done || !is_mine(w, p)) continue;
        const int has = has_part(w, p);
        if (has < 0) return -1;
        if (!has) p->work = WORK_RUN;
    }
    return 0;
}

int share_choose_rest(sweep *w) {
    for (long i = 0; i < w->n_points; i++) {
        point *p = &w->point[i];
        p->work = WORK_NONE;
        if (p->way == POINT_LEFT_OUT || p->done) continue;
        const int has = has_part(w, p);
        if (has < 0) return -1;
        p->work = has ? WORK_READ : WORK_RUN;
    }
    return 0;
}

// ---------------------------------------------------------------- processes
typedef struct {
    sweep *w;
    bool failed;  // err_set
} watcher;

// Every row stands in the file, or it cannot be read, and waiting for it is no use.
static bool is_finished(void *ctx) {
    watcher *it = ctx;
    sweep *w = it->w;
    results_close(&w->out);
    it->failed = results_read(&w->out, w->o->out, sweep_columns, N_COLUMNS) != 0;
    if (it->failed) return true;
    list_find_rows(w);
    return list_size(w).rows_missing == 0;
}

int share_run(sweep *w, const char *plan) {
    static const sweep_sink to_parts = {.point = write_part};
    char *dir = parts_folder(w);
    watcher it = {.w = w};
    const int lock = w->rank ? worker_begin(dir, plan, w->rank, is_finished, &it) : -1;
    if (lock == WORKER_LATE) {
        free(dir);
        return it.failed ? -1 : 0;
    }
    int bad = w->rank && lock < 0 ? -1 : parts_open(&w->parts, dir, plan, w->n_points);
    if (!bad) bad = choose_share(w);
    if (!bad) bad = run_points(w, &to_parts);
    if (w->rank) worker_end(dir, w->rank, lock);
    if (!bad && w->rank == 0) {
        workers_wait(dir, w->ranks);
        bad = parts_scan(&w->parts);
    }
    free(dir);
    return bad;
}

int share_end(sweep *w) {
    char *dir = parts_folder(w);
    parts_close(&w->parts);
    const int bad = parts_remove(dir);
    free(dir);
    return bad;
}

int share_remove_rest(const sweep *w, const char *plan) {
    char *dir = parts_folder(w);
    const int bad = parts_remove_rest(dir, plan);
    free(dir);
    return bad;
}
