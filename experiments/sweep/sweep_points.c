// sweep_points - runs the points of bin/sweep: a series (a kind of mask, a criterion, a predictor) over scopes and
// sparsities on every target. Contract in sweep.h.
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "compact.h"
#include "eval_batch.h"
#include "mask_option.h"
#include "ops.h"
#include "sweep.h"

const eval_item *sweep_items(const target *t, int *n) {
    *n = t->is_text ? t->text.n : t->task.n;
    return t->is_text ? t->text.item : t->task.item;
}

// ---------------------------------------------------------------- scores of a series
typedef struct {
    double *heads, *neurons;
} unit_scores;

static bool read_static(const sweep *w, const series *s, target *t, unit_scores *out) {
    const model_config *c = &w->model.c;
    store_aggregate a = {0};
    bool there = store_read_aggregate(&a, w->o->scores, w->compat, sweep_aggregate(s, t), s->crit->name) == 0;
    if (there && mask_scores_check(&a, w->o->scores, c, w->o->model, w->model.file.hash)) die(1, "%s", err_get());
    if (there && (((w->units & UNITS_HEADS) && !a.heads) || ((w->units & UNITS_NEURONS) && !w->compat && !a.neurons))) {
        err_set("%s: criterion %s has no %s scores over %s", w->o->scores, s->crit->name, a.heads ? "neuron" : "head",
                sweep_aggregate(s, t));
        there = false;
    }
    if (!there && !w->all_criteria) die(1, "%s", err_get());
    if (!there && w->counting) log_info("%s on %s is left out: %s", s->crit->name, t->name, err_get());
    if (there) {
        *out = (unit_scores){a.heads, a.neurons};
        memcpy(t->scores_hash, a.hash, sizeof t->scores_hash);
        a.heads = a.neurons = NULL;
    }
    store_aggregate_free(&a);
    return there;
}

// Scores, or the mask itself; false: this series has none for this target (said, and only where all criteria were asked
// for).
static bool read_scores(const sweep *w, const series *s, target *t, uint64_t seed, unit_scores *out, mask *file) {
    const model_config *c = &w->model.c;
    *out = (unit_scores){0};
    t->scores_hash[0] = 0;
    if (series_is(s, "static")) return read_static(w, s, t, out);
    if (series_is(s, "random")) {
        out->heads = xmalloc((size_t)c->L * (size_t)c->H * sizeof *out->heads);
        out->neurons = xmalloc((size_t)c->L * (size_t)c->F * sizeof *out->neurons);
        mask_random_scores(out->heads, out->neurons, c, seed);
    } else if (series_is(s, "file")) {
        if (mask_read(file, c, s->path)) die(1, "%s", err_get());
        mask_hash(t->scores_hash, file, c);
        if (w->compat) memset(file->neurons, 1, (size_t)c->L * (size_t)c->F);  // the published FFN mask never acts
    }
    return true;
}

char *sweep_predictor_path(const char *name, uint64_t seed) {
    const char *at = strstr(name, "{seed}");
    return at ? xasprintf("%.*s%llu%s", (int)(at - name), name, (unsigned long long)seed, at + strlen("{seed}"))
              : xstrdup(name);
}

static predictor *open_predictor(const sweep *w, const series *s, uint64_t seed) {
    char *path = sweep_predictor_path(s->path, seed);
    predictor *p = predictor_open(path, s->crit->name, &w->model);
    if (!p || predictor_place(p, w->model.o) != 0) die(1, "%s", err_get());
    free(path);
    return p;
}

// ---------------------------------------------------------------- points on a target
static double *run_one(sweep *w, const target *t, const mask_source *source, const mask_rule *rule, int n,
                       eval_counts *counts) {
    int n_items;
    const eval_item *item = sweep_items(t, &n_items);
    const size_t each = (size_t)n_items * TASK_MAX_CHOICES;
    double *ll = xcalloc((size_t)n * each, sizeof *ll), **per_rule = xmalloc((size_t)n * sizeof *per_rule);
    for (int i = 0; i < n; i++) per_rule[i] = ll + (size_t)i * each;
    if (eval_run(w->eval, item, n_items, source, rule, n, per_rule, counts)) die(1, "%s: %s", t->name, err_get());
    free(per_rule);
    return ll;
}

static long scored_positions(const target *t) {
    int n;
    const eval_item *item = sweep_items(t, &n);
    long positions = 0;
    for (int i = 0; i < n; i++) positions += eval_scored(&item[i]);
    return positions;
}

static int ll_count(const target *t) {
    int n;
    sweep_items(t, &n);
    return n * TASK_MAX_CHOICES;
}

// What is known of a point becomes its rows, or goes to the process that writes them.
static void deliver(sweep *w, long at, row *r, const target *t, const double *ll, uint64_t seed, outcome *o) {
    if (w->sharing)
        sweep_put(w, at, row_key(w, r, t), ll, ll_count(t), &o->counts);
    else
        sweep_finish(w, r, t, ll, seed, o);
}

static bool take_shared(sweep *w, long at, row *r, const target *t, uint64_t seed, outcome *o) {
    const int n = ll_count(t);
    double *ll = xmalloc((size_t)n * sizeof *ll);
    const bool there = sweep_shared(w, at, row_key(w, r, t), ll, n, &o->counts);
    if (there) sweep_finish(w, r, t, ll, seed, o);
    free(ll);
    return there;
}

static void run_dense(sweep *w, long at, row *r, target *t, uint64_t seed, outcome *o) {
    const mask_source none = {0};
    o->counts = (eval_counts){.positions = scored_positions(t)};
    if (!t->dense) t->dense = run_one(w, t, &none, NULL, 1, &o->counts);
    deliver(w, at, r, t, t->dense, seed, o);
}

// A mask that acts everywhere is run as a compacted model, which costs what it has left, at any sparsity and any length
// of the inputs: passes over live units (model_sparse_prepare) pick their weights again for every input and pay from
// half of the units on. Not on another device, and not where the copy would take more than a quarter of the machine's
// memory.
static bool compacts(const sweep *w, const mask *m) {
    const double memory = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    return !w->after && w->model.o->host && (double)compact_bytes(&w->model.file, m) <= memory / 4;
}

// Multiply-adds of a token in the layers, relative to the dense model.
static double token_share(const model_config *c, double heads_left, double neurons_left) {
    return (2.0 * c->E * heads_left + c->F * neurons_left) / (2.0 * c->E + c->F);
}

static void run_masked(sweep *w, long at, row *r, target *t, uint64_t seed, const mask *m, outcome *o) {
    const mask_source fixed = {.fixed = m, .after = w->after}, none = {0};
    const model_config *c = &w->model.c;
    double *ll;
    if (compacts(w, m)) {
        compact_model small;
        eval *whole = w->eval;
        double heads, neurons;
        mask_effective(m, c, &heads, &neurons);
        compact_make(&small, &w->model.file, m);
        w->eval = eval_new(&small.m, w->compat, whole->tick, whole->ctx);
        w->token_share = token_share(c, 1 - heads, 1 - neurons);
        ll = run_one(w, t, &none, NULL, 1, &o->counts);
        eval_count(&o->counts, m, c, o->counts.positions);
        w->token_share = 1;
        eval_free(w->eval);
        w->eval = whole;
        compact_free(&small);
    } else {
        ll = run_one(w, t, &fixed, NULL, 1, &o->counts);
    }
    deliver(w, at, r, t, ll, seed, o);
    free(ll);
}

// What is run for all rules at once, because what costs is the same for all: the oracle's scores, or a predictor's
// dense pass.
typedef struct {
    row **row;
    mask_rule *rule;
    outcome **o;
    long *point;
    int n;
} batch;

static void run_batch(sweep *w, const batch *b, target *t, uint64_t seed, predictor *p) {
    if (b->n == 0) return;
    int n_items;
    sweep_items(t, &n_items);
    if (!p && !w->oracle) w->oracle = oracle_new(&w->model, w->compat ? 0 : (int)w->o->dense_layers, ORACLE_TOKENS);
    contextual_source context = {.p = p, .span = w->span, .refresh = (int)w->o->refresh};
    mask_source source = p ? (mask_source){.context = &context} : oracle_source(w->oracle);
    source.after = w->after;
    eval_counts *counts = xcalloc((size_t)b->n, sizeof *counts);
    double *ll = run_one(w, t, &source, b->rule, b->n, counts);
    for (int i = 0; i < b->n; i++) {
        b->o[i]->counts = counts[i];
        deliver(w, b->point[i], b->row[i], t, ll + (size_t)i * (size_t)n_items * TASK_MAX_CHOICES, seed, b->o[i]);
    }
    free(ll);
    free(counts);
}

static void count_batch(sweep *w, const batch *b, const target *t, bool predicted) {
    int n;
    const eval_item *item = sweep_items(t, &n);
    const contextual_source context = {.span = w->span, .refresh = (int)w->o->refresh};
    if (b->n == 0) return;
    if (predicted) {
        w->tokens_missing += eval_context_tokens(item, n, &context, b->n);
        return;
    }
    w->tokens_missing += b->n * eval_tokens(item, n);
    for (int k = 0; k < n; k++)
        w->tokens_missing += oracle_cost(&w->model.c, w->compat ? 0 : (int)w->o->dense_layers, b->rule[0].units,
                                         item[k].seq[item[k].gold].n);
}

// rule NULL: of a mask file, or none.
static void count_point(sweep *w, target *t, const mask_rule *rule, bool dense) {
    static double known;  // stands for log-likelihoods while counting
    int n;
    const eval_item *item = sweep_items(t, &n);
    const double pruned = dense || !rule || w->after || !w->model.o->host
                              ? 0
                              : (double)rule->sparsity / 1e5 * (w->model.c.L - rule->dense_layers) / w->model.c.L;
    const double share = pruned > 0 ? token_share(&w->model.c, 1 - (mask_rule_prunes(rule, UNIT_HEADS) ? pruned : 0),
                                                  1 - (mask_rule_prunes(rule, UNIT_NEURONS) ? pruned : 0))
                                    : 1;
    if (!dense || !t->dense) w->tokens_missing += share * eval_tokens(item, n);
    if (dense) t->dense = &known;
}

// Of both aggregates, the text has one only, which the series of pooled scores measures.
static bool measured(const sweep *w, const series *s, const target *t) {
    return !(w->both_aggregates && series_is(s, "static") && t->is_text && !s->pooled);
}

// Evaluates the points of one series and seed on one target, those that have no rows yet.
static void run_target(sweep *w, const point *p, int n, target *t, predictor *with, outcome *o) {
    const series *s = p->s;
    const uint64_t seed = w->seed[p->seed];
    unit_scores scores = {0};
    mask m = {0};
    mask_alloc(&m, &w->model.c);
    row *r = xcalloc((size_t)n, sizeof *r);
    batch late = {xcalloc((size_t)n, sizeof *late.row), xcalloc((size_t)n, sizeof *late.rule),
                  xcalloc((size_t)n, sizeof *late.o), xcalloc((size_t)n, sizeof *late.point), 0};
    const long first = w->point, group = w->group++;
    w->point += n;
    const bool there = measured(w, s, t) && read_scores(w, s, t, seed, &scores, &m);
    if (with) memcpy(t->scores_hash, p->about->hash, sizeof t->scores_hash);
    for (int i = 0; i < n && there; i++) {
        const char *name[2];
        const bool dense = series_has_rule(s) ? p[i].rule.sparsity == 0 : series_is(s, "none");
        row_options(&r[i], w, &p[i]);
        row_target(&r[i], w, &p[i], t);
        o[i].done = row_present(w, &r[i], t, &o[i]);
        *(o[i].done ? &w->rows_present : &w->rows_missing) += target_metric_names(t, name);
        if (o[i].done) continue;
        const bool together = !dense && (series_is(s, "oracle") || with);
        const long number = first + i;
        if (w->sharing && (!sweep_mine(w, together ? group : number) ||
                           sweep_shared(w, number, row_key(w, &r[i], t), NULL, 0, &o[i].counts)))
            continue;
        if (!w->counting && !w->sharing && take_shared(w, number, &r[i], t, seed, &o[i])) continue;
        if (together) {
            late.point[late.n] = number;
            late.row[late.n] = &r[i];
            late.rule[late.n] = p[i].rule;
            late.o[late.n++] = &o[i];
        } else if (w->counting) {
            count_point(w, t, series_has_rule(s) ? &p[i].rule : NULL, dense);
        } else if (dense) {
            run_dense(w, number, &r[i], t, seed, &o[i]);
        } else {
            if (series_has_rule(s) && mask_make(&m, &w->model.c, scores.heads, scores.neurons, &p[i].rule))
                die(1, "%s over %s: %s", s->crit ? s->crit->name : s->kind, sweep_aggregate(s, t), err_get());
            run_masked(w, number, &r[i], t, seed, &m, &o[i]);
        }
    }
    if (w->counting)
        count_batch(w, &late, t, with != NULL);
    else
        run_batch(w, &late, t, seed, with);
    mask_free(&m);
    void *blocks[] = {r, late.row, late.rule, late.o, late.point, scores.heads, scores.neurons};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) free(blocks[i]);
}

static void run_series(sweep *w, const series *s, int seed) {
    const int n = series_has_rule(s) ? w->n_scopes * w->n_sparsities : 1;
    predictor *with = series_is(s, "contextual") ? open_predictor(w, s, w->seed[seed]) : NULL;
    point *p = xcalloc((size_t)n, sizeof *p);
    for (int i = 0; i < n; i++) {
        const mask_rule rule = {.scope = w->scope[i / w->n_sparsities],
                                .counts = w->counts,
                                .units = s->units,
                                .sparsity = w->sparsity[i % w->n_sparsities],
                                .dense_layers = (int)w->o->dense_layers,
                                .compat = w->compat};
        p[i] = (point){s, rule, seed, with ? predictor_about(with) : NULL};
        if (with && contextual_check(p[i].about, &p[i].rule)) die(1, "%s: %s", s->path, err_get());
    }
    outcome *o = xcalloc((size_t)n * (size_t)w->n_targets, sizeof *o);
    for (int k = 0; k < w->n_targets; k++) run_target(w, p, n, &w->targets[seed][k], with, o + k * n);
    for (int i = 0; i < n && w->n_tasks && !w->counting && !w->sharing; i++)
        sweep_means(w, &p[i], w->targets[seed], o + i, n);
    free(o);
    free(p);
    predictor_close(with);
}

void sweep_visit(sweep *w, bool counting) {
    w->counting = counting;
    w->point = w->group = 0;
    for (int seed = 0; seed < w->n_seeds; seed++)
        for (int i = 0; i < w->n_series; i++) run_series(w, &w->series[i], seed);
}

void sweep_count(sweep *w) {
    w->rows_present = w->rows_missing = 0;
    w->tokens_missing = 0;
    sweep_visit(w, true);
    for (int s = 0; s < w->n_seeds; s++)
        for (int k = 0; k < w->n_targets; k++) w->targets[s][k].dense = NULL;
}
