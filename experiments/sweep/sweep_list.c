// sweep_list - the points of bin/sweep as one list, in the order in which their rows are written: by seed, series (a
// kind of mask, a criterion, a predictor), target, scope, sparsity; and what is left to do of them. Contract in
// sweep.h.
#include <stdlib.h>
#include <string.h>
#include "sweep.h"

// ---------------------------------------------------------------- the list
static int series_rules(const sweep *w, const series *s) {
    if (s->kind == MASK_THRESHOLD) return w->n_sparsities;  // every layer has a threshold of its own
    return mask_has_rule(s->kind) ? w->o->masks.scopes.n * w->n_sparsities : 1;
}

static mask_rule nth_rule(const sweep *w, const series *s, int i) {
    const mask_options *o = &w->o->masks;
    mask_rule rule =
        mask_options_rule(o, (mask_scope)o->scopes.at[i / w->n_sparsities], w->sparsity[i % w->n_sparsities]);
    rule.units = s->units;
    if (s->kind == MASK_THRESHOLD) rule.scope = SCOPE_LOCAL;
    rule.standardise = s->kind == MASK_STATIC && mask_options_standardise(o, s->crit->name);
    return rule;
}

static point_way way_of(const series *s, const mask_rule *rule) {
    if (s->kind == MASK_NONE || (mask_has_rule(s->kind) && rule->sparsity == 0)) return POINT_DENSE;
    const bool own = s->kind == MASK_ORACLE || s->kind == MASK_CONTEXTUAL || s->kind == MASK_REFERENCE;
    return own ? POINT_TOGETHER : POINT_MASKED;
}

// 0, 1: there are none (said), -1.
static int find_static(char hash[33], const sweep *w, const series *s, const target *t) {
    // of both aggregates, the text has one only, which the series of pooled scores measures
    if (w->both_aggregates && t->is_text && !s->pooled) return 1;
    const int found = scores_read_static(NULL, hash, w, s, t);
    if (found > 0 && !w->all_criteria) return -1;
    if (found > 0) log_info("%s on %s is left out: %s", s->crit->name, t->name, err_get());
    return found;
}

// Nets with narrowed weights are others than those of the file.
static void hash_of_nets(char hash[33], const predictor_info *about) {
    memcpy(hash, about->hash, sizeof about->hash);
    if (about->weights == DT_F32) return;
    char *text = xasprintf("%s %s", about->hash, activation_options[about->weights]);
    hash_bytes(hash, text, strlen(text));
    free(text);
}

// The hash of what a series takes its masks from on a target, "" if that is no file. Returns as find_static.
static int find_scores(char hash[33], const sweep *w, const series *s, const target *t, const predictor_info *about) {
    hash[0] = 0;
    if (s->kind == MASK_STATIC) return find_static(hash, w, s, t);
    if (s->kind == MASK_REFERENCE && w->units & UNITS_NEURONS && crit_check_neurons(s->crit, &w->model.c) != 0) {
        if (w->all_criteria) log_info("left out: %s", err_get());
        return w->all_criteria ? 1 : -1;
    }
    if (s->kind == MASK_FILE) return scores_read_mask(NULL, hash, w, s);
    if (s->kind == MASK_THRESHOLD) memcpy(hash, series_calibrated(w, s)->hash, sizeof w->calibrated->hash);
    if (s->kind == MASK_CONTEXTUAL) hash_of_nets(hash, about);
    return 0;
}

static int list_target(sweep *w, const series *s, int seed, int k, const predictor_info *about, long pass) {
    char hash[33];
    const int found = find_scores(hash, w, s, &w->targets[seed][k], about), n = series_rules(w, s);
    if (found < 0) return -1;
    for (int i = 0; i < n; i++) {
        point *p = &w->point[w->n_points];
        *p = (point){.s = s,
                     .about = about,
                     .rule = nth_rule(w, s, i),
                     .seed = seed,
                     .target = k,
                     .n_rules = n,
                     .number = w->n_points++,
                     .pass = pass};
        p->way = found ? POINT_LEFT_OUT : way_of(s, &p->rule);
        memcpy(p->scores_hash, hash, sizeof hash);
    }
    return 0;
}

// Describes the predictor of a series and seed, and checks it against all rules.
static int look_at_predictor(predictor_info *about, const sweep *w, const series *s, uint64_t seed) {
    predictor *p = predictor_of(w, s, seed);
    int bad = p ? 0 : -1;
    if (p) *about = *predictor_about(p);
    about->criterion = s->crit->name;
    predictor_close(p);
    for (int i = 0; i < series_rules(w, s) && !bad; i++) {
        const mask_rule rule = nth_rule(w, s, i);
        if (contextual_check(about, &rule)) bad = err_set("%s: %s", s->path, err_get());
    }
    return bad;
}

int list_points(sweep *w) {
    long each = 0, pass = 0;
    for (int i = 0; i < w->n_series; i++) each += (long)series_rules(w, &w->series[i]) * w->n_targets;
    w->point = xcalloc((size_t)w->n_seeds * (size_t)each + 1, sizeof *w->point);
    w->about = xcalloc((size_t)w->n_seeds * (size_t)w->n_series, sizeof *w->about);
    for (int seed = 0; seed < w->n_seeds; seed++)
        for (int i = 0; i < w->n_series; i++) {
            const series *s = &w->series[i];
            predictor_info *about = s->kind == MASK_CONTEXTUAL ? &w->about[seed * w->n_series + i] : NULL;
            if (about && look_at_predictor(about, w, s, w->seed[seed])) return -1;
            for (int k = 0; k < w->n_targets; k++)
                if (list_target(w, s, seed, k, about, pass++)) return -1;
        }
    return 0;
}

void list_find_rows(sweep *w) {
    for (long i = 0; i < w->n_points; i++)
        if (w->point[i].way != POINT_LEFT_OUT) rows_find(w, &w->point[i]);
}

// ---------------------------------------------------------------- what is left to do
double layers_left(const model_config *c, double heads, double neurons) {
    const arch a = arch_of(c);
    // rows of E numbers: q, the output projection, k and v, which go with their query heads; a neuron's two or three
    const double of_heads = 2.0 * (a.heads + a.kv_heads) * a.head_size, of_neurons = (a.gated ? 3.0 : 2.0) * c->F;
    return (of_heads * heads + of_neurons * neurons) / (of_heads + of_neurons);
}

// A mask that acts everywhere is run as a compacted model, which costs what it has left (sweep_run.c).
static double masked_tokens(const sweep *w, const point *p, double tokens) {
    const model_config *c = &w->model.c;
    if (!mask_has_rule(p->s->kind) || p->s->kind == MASK_THRESHOLD || w->after || !w->model.o->host) return tokens;
    const double pruned = (double)p->rule.sparsity / 1e5 * (c->L - p->rule.dense_layers) / c->L;
    return tokens * layers_left(c, mask_rule_prunes(&p->rule, UNIT_HEADS) ? 1 - pruned : 1,
                                mask_rule_prunes(&p->rule, UNIT_NEURONS) ? 1 - pruned : 1);
}

// Cost of n points of a series that run in one pass over a target.
static double pass_tokens(const sweep *w, const point *p, int n) {
    int n_items;
    const eval_item *item = target_items(point_target(w, p), &n_items);
    if (p->s->kind == MASK_CONTEXTUAL) {
        const contextual_source context = {.span = w->span, .refresh = (int)w->o->masks.refresh};
        return eval_context_tokens(item, n_items, &context, n);
    }
    double tokens = n * eval_tokens(item, n_items);
    for (int k = 0; k < n_items && p->s->kind == MASK_REFERENCE; k++) {
        const int inputs = item[k].seq[item[k].gold].n;
        const long refresh = w->span == SPAN_DECODE && item[k].window ? w->o->masks.refresh : inputs;
        tokens += reference_cost(inputs) * (double)(inputs / refresh + 1) / 2;  // prefixes of growing length
    }
    if (p->s->kind == MASK_REFERENCE) return tokens;
    for (int k = 0; k < n_items; k++)
        tokens += oracle_cost(&w->model.c, w->mode == MODE_COMPAT ? 0 : (int)w->o->masks.dense_layers, p->rule.units,
                              item[k].seq[item[k].gold].n);
    return tokens;
}

sweep_size list_size(const sweep *w) {
    sweep_size size = {0};
    bool(*dense)[MAX_TARGETS] = xcalloc((size_t)w->n_seeds, sizeof *dense);  // which were counted
    int together = 0;
    for (long i = 0; i < w->n_points; i++) {
        const point *p = &w->point[i];
        const target *t = point_target(w, p);
        const char *name[EVAL_METRICS];
        if (p->way != POINT_LEFT_OUT) *(p->done ? &size.rows_present : &size.rows_missing) += target_metrics(t, name);
        if (p->way != POINT_LEFT_OUT && !p->done) {
            int n_items;
            const eval_item *item = target_items(t, &n_items);
            if (p->way == POINT_MASKED) size.tokens_missing += masked_tokens(w, p, eval_tokens(item, n_items));
            if (p->way == POINT_DENSE && !dense[p->seed][p->target]) size.tokens_missing += eval_tokens(item, n_items);
            dense[p->seed][p->target] |= p->way == POINT_DENSE;
            together += p->way == POINT_TOGETHER;
        }
        const bool last = i + 1 == w->n_points || p[1].pass != p->pass;
        if (last && together) size.tokens_missing += pass_tokens(w, p, together);
        if (last) together = 0;
    }
    free(dense);
    return size;
}
