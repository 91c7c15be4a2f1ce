// sweep_run - runs points of bin/sweep: log-likelihoods of all items of a target under a mask. Contract in sweep.h.
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "compact.h"
#include "eval_batch.h"
#include "sweep.h"

// Log-likelihoods under n rules [n, target_lls]; NULL and err_set.
static double *run_target(eval *e, const target *t, const mask_source *source, const mask_rule *rule, int n,
                          eval_counts *counts) {
    int n_items;
    const eval_item *item = target_items(t, &n_items);
    const size_t each = (size_t)target_lls(t);
    double *ll = xcalloc((size_t)n * each, sizeof *ll), **per_rule = xmalloc((size_t)n * sizeof *per_rule);
    for (int i = 0; i < n; i++) per_rule[i] = ll + (size_t)i * each;
    const int bad = eval_run(e, item, n_items, source, rule, n, per_rule, counts);
    free(per_rule);
    if (!bad) return ll;
    err_set("%s: %s", t->name, err_get());
    free(ll);
    return NULL;
}

static long scored_positions(const target *t) {
    int n;
    const eval_item *item = target_items(t, &n);
    long positions = 0;
    for (int i = 0; i < n; i++) positions += eval_scored(&item[i]);
    return positions;
}

// ---------------------------------------------------------------- points by themselves
static int read_point(sweep *w, point *p, const sweep_sink *sink) {
    double *ll = xmalloc((size_t)target_lls(point_target(w, p)) * sizeof *ll);
    int bad = share_read(w, p, ll, &p->counts);
    if (!bad) bad = sink->point(w, p, ll);
    free(ll);
    return bad;
}

static int run_dense(sweep *w, point *p, const sweep_sink *sink) {
    const mask_source none = {0};
    target *t = point_target(w, p);
    p->counts = (eval_counts){.positions = scored_positions(t)};
    if (!t->dense) t->dense = run_target(w->eval, t, &none, NULL, 1, &p->counts);
    return t->dense ? sink->point(w, p, t->dense) : -1;
}

// A mask that acts everywhere is run as a compacted model, which costs what it has left, at any sparsity and any length
// of the inputs: passes over live units (model_sparse_prepare) pick their weights for every input and pay from half of
// the units on. Not on another device, not where activations are rounded (the copy's would not be), and not where it
// would take more than a quarter of the machine's memory.
static bool compacts(const sweep *w, const mask *m) {
    const double memory = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    return !w->after && w->model.o->host && w->model.o->activations == DT_F32 &&
           (double)compact_bytes(&w->model.file, m) <= memory / 4;
}

static double *run_compacted(sweep *w, const target *t, const mask *m, eval_counts *counts) {
    const mask_source none = {0};
    const model_config *c = &w->model.c;
    compact_model small;
    double heads, neurons;
    mask_effective(m, c, &heads, &neurons);
    compact_make_of(&small, &w->model, m, w->put_out ? (const double *const *)w->means.of : NULL);
    eval *e = eval_new(&small.m, w->mode, w->eval->tick, w->eval->ctx);
    if (eval_asks_misses(w->eval)) eval_ask_misses(e);
    w->token_share = layers_left(c, 1 - heads, 1 - neurons);
    double *ll = run_target(e, t, &none, NULL, 1, counts);
    eval_count(counts, m, c, counts->positions);
    w->token_share = 1;
    eval_free(e);
    compact_free(&small);
    return ll;
}

static int run_thresholds(sweep *w, point *p, const sweep_sink *sink) {
    float *least = xmalloc((size_t)w->model.c.L * sizeof *least);
    const model_above above = threshold_at(least, series_calibrated(w, p->s), &p->rule);
    const mask_source source = {.above = &above};
    double *ll = run_target(w->eval, point_target(w, p), &source, NULL, 1, &p->counts);
    const int bad = ll ? sink->point(w, p, ll) : -1;
    free(ll);
    free(least);
    return bad;
}

static int run_masked(sweep *w, point *p, const mask *m, const sweep_sink *sink) {
    const mask_source fixed = {.fixed = m, .after = w->after, .means = w->put_out};
    const target *t = point_target(w, p);
    double *ll =
        compacts(w, m) ? run_compacted(w, t, m, &p->counts) : run_target(w->eval, t, &fixed, NULL, 1, &p->counts);
    const int bad = ll ? sink->point(w, p, ll) : -1;
    free(ll);
    return bad;
}

// ---------------------------------------------------------------- the points of a series on a target
static bool is_to_run(const point *p, point_way way) { return p->work == WORK_RUN && p->way == way; }

static int count_to_run(const point *first, long n, point_way way) {
    int sum = 0;
    for (long i = 0; i < n; i++) sum += is_to_run(&first[i], way);
    return sum;
}

// Scores of a series, or its mask file in m.
static int read_scores(unit_scores *scores, mask *m, const sweep *w, const point *p) {
    char hash[33];
    if (p->s->kind == MASK_THRESHOLD) return 0;
    if (p->s->kind == MASK_FILE) return scores_read_mask(m, hash, w, p->s);
    if (p->s->kind == MASK_STATIC) return scores_read_static(scores, hash, w, p->s, point_target(w, p)) ? -1 : 0;
    scores_random(scores, w, w->seed[p->seed]);
    return 0;
}

static int make_mask(mask *m, const sweep *w, const point *p, const unit_scores *scores) {
    if (!mask_has_rule(p->s->kind) || !mask_make(m, &w->model.c, scores->heads, scores->neurons, &p->rule)) return 0;
    const char *name = p->s->crit ? p->s->crit->name : mask_kind_names[p->s->kind];
    return err_set("%s over %s: %s", name, series_aggregate(p->s, point_target(w, p)), err_get());
}

static int run_singly(sweep *w, point *first, const sweep_sink *sink) {
    unit_scores scores = {0};
    mask m = {0};
    mask_alloc(&m, &w->model.c);
    int bad = count_to_run(first, first->n_rules, POINT_MASKED) ? read_scores(&scores, &m, w, first) : 0;
    for (point *p = first; p < first + first->n_rules && !bad; p++) {
        if (p->work == WORK_READ) {
            bad = read_point(w, p, sink);
        } else if (is_to_run(p, POINT_DENSE)) {
            bad = run_dense(w, p, sink);
        } else if (is_to_run(p, POINT_MASKED) && p->s->kind == MASK_THRESHOLD) {
            bad = run_thresholds(w, p, sink);
        } else if (is_to_run(p, POINT_MASKED)) {
            bad = make_mask(&m, w, p, &scores);
            if (!bad) bad = run_masked(w, p, &m, sink);
        }
    }
    mask_free(&m);
    free(scores.heads);
    free(scores.neurons);
    return bad;
}

static int run_together(sweep *w, point *first, predictor *with, const sweep_sink *sink) {
    const int n = count_to_run(first, first->n_rules, POINT_TOGETHER);
    if (n == 0) return 0;
    const target *t = point_target(w, first);
    const bool refers = first->s->kind == MASK_REFERENCE;
    if (!with && !refers && !w->oracle)
        w->oracle = oracle_new(&w->model, w->mode == MODE_COMPAT ? 0 : (int)w->o->masks.dense_layers);
    contextual_source context = {.p = with, .span = w->span, .refresh = (int)w->o->masks.refresh};
    reference *own = refers ? reference_new(&w->model, first->s->crit, w->mode, w->seed[first->seed]) : NULL;
    mask_source source = {.context = &context};
    if (refers)
        source = reference_source(own, w->span == SPAN_DECODE, context.refresh);
    else if (!with) {
        source = oracle_source(w->oracle);
        source.after = w->after;
    }

    source.means = w->put_out;
    mask_rule *rule = xcalloc((size_t)n, sizeof *rule);
    point **p = xcalloc((size_t)n, sizeof *p);
    eval_counts *counts = xcalloc((size_t)n, sizeof *counts);
    for (int i = 0, k = 0; i < first->n_rules; i++)
        if (is_to_run(&first[i], POINT_TOGETHER)) p[k++] = &first[i];
    for (int k = 0; k < n; k++) rule[k] = p[k]->rule;
    double *ll = run_target(w->eval, t, &source, rule, n, counts);
    int bad = ll ? 0 : -1;
    for (int k = 0; k < n && !bad; k++) {
        p[k]->counts = counts[k];
        bad = sink->point(w, p[k], ll + (size_t)k * (size_t)target_lls(t));
    }
    reference_free(own);
    free(ll);
    free(counts);
    free(p);
    free(rule);
    return bad;
}

static int run_series(sweep *w, point *first, long n, const sweep_sink *sink) {
    const bool predicts = first->s->kind == MASK_CONTEXTUAL && count_to_run(first, n, POINT_TOGETHER) > 0;
    predictor *with = predicts ? predictor_of(w, first->s, w->seed[first->seed]) : NULL;
    int bad = predicts && !with ? -1 : 0;
    for (point *p = first; p < first + n && !bad; p += first->n_rules) {
        bad = run_singly(w, p, sink);
        if (!bad) bad = run_together(w, p, with, sink);
    }
    predictor_close(with);
    return !bad && sink->series ? sink->series(w, first) : bad;
}

int run_points(sweep *w, const sweep_sink *sink) {
    int bad = 0;
    for (long i = 0, n; i < w->n_points && !bad; i += n) {
        n = (long)w->point[i].n_rules * w->n_targets;
        bad = run_series(w, &w->point[i], n, sink);
    }
    return bad;
}
