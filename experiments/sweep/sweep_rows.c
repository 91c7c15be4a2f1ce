// sweep_rows - the rows of bin/sweep: their fields, metrics, details, means over tasks. Contract in sweep.h.
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "sweep.h"

#define X(name, key) {#name, key},
const results_column sweep_columns[N_COLUMNS] = {COLUMNS(X)};
#undef X

// A row of a point on a target, first without metric and value.
typedef struct {
    char text[N_COLUMNS][FIELD];
    const char *field[N_COLUMNS];
} row;

#define SET(r, column, ...) snprintf((r)->text[COL_##column], FIELD, __VA_ARGS__)

static void set_predictor(row *r, const sweep *w, const point *p) {
    const predictor_info *a = p->about;
    const bool both = a->has[UNIT_HEADS] && a->has[UNIT_NEURONS] && a->hidden[UNIT_HEADS] != a->hidden[UNIT_NEURONS];
    SET(r, design, "%s", predictor_design_names[a->design]);
    SET(r, target, "%s", a->target_layer ? "layer" : "global");
    if (a->per_layer) SET(r, lag, "%d", a->lag);
    if (both)
        SET(r, hidden, "%d+%d", a->hidden[UNIT_HEADS], a->hidden[UNIT_NEURONS]);
    else
        SET(r, hidden, "%d", a->hidden[predictor_first_kind(a)]);
    // a second pass has no stream of its own to look at: the first one was dense
    const contextual_features f = contextual_kind(a, &p->rule);
    SET(r, features, "%s%s",
        contextual_feature_names[f == FEATURES_STREAM && w->span != SPAN_DECODE ? FEATURES_DENSE : f],
        contextual_raw(a, &p->rule) ? " raw" : "");
}

// Whether the mask acts from the end of the context on.
static bool decodes(const sweep *w, const point *p) {
    if (p->s->kind == MASK_THRESHOLD) return false;
    return p->about || p->s->kind == MASK_REFERENCE ? w->span == SPAN_DECODE : w->after > 0;
}

static void set_options(row *r, const sweep *w, const point *p) {
    const sweep_options *o = w->o;
    for (int i = 0; i < N_COLUMNS; i++) {
        r->text[i][0] = 0;
        r->field[i] = r->text[i];
    }
    SET(r, mode, "%s", mode_names[w->mode]);
    SET(r, model, "%s", w->model_name);
    const bool by_value = p->s->kind == MASK_THRESHOLD;
    SET(r, mask, "%s%s%s", mask_kind_names[p->s->kind], by_value ? ":" : "", by_value ? p->s->path : "");
    if (by_value) SET(r, calibration_tokens, "%ld", series_calibrated(w, p->s)->tokens);
    if (p->s->crit) SET(r, criterion, "%s", p->s->crit->name);
    if (p->s->kind == MASK_ORACLE) SET(r, criterion, "removal");
    if (mask_has_rule(p->s->kind)) {
        SET(r, scope, "%s", mask_scope_names[p->rule.scope]);
        SET(r, units, "%s", mask_units_name(p->rule.units));
        SET(r, sparsity, "%.10g", (double)p->rule.sparsity / 1000);
        if (!by_value) SET(r, local_counts, "%s", mask_counts_name(&p->rule));
        SET(r, dense_layers, "%d", p->rule.dense_layers);
        if (!by_value && mask_rule_groups(&p->rule)) SET(r, group_heads, "1");
        if (p->rule.standardise && p->rule.scope != SCOPE_LOCAL) SET(r, standardised, "1");
    } else if (p->s->kind == MASK_NONE) {
        SET(r, sparsity, "0");
    }
    if (p->s->kind != MASK_NONE) SET(r, mask_span, "%s", decodes(w, p) ? "decode" : "all");
    if (w->put_out && p->s->kind != MASK_NONE && !by_value) SET(r, ablate, "mean:%.*s", HASH_DIGITS, w->means.hash);
    if (p->about) set_predictor(r, w, p);
    SET(r, shots, "%ld", o->shots);
    doc_part_text(r->text[COL_part], w->part);
    SET(r, allow_overlap, "%d", o->allow_overlap && (p->s->kind == MASK_STATIC || p->s->kind == MASK_CONTEXTUAL));
    SET(r, seed, "%llu", (unsigned long long)w->seed[p->seed]);
    SET(r, bos, "%d", w->bos);
    if (o->harness == HARNESS_TODAY) SET(r, harness, "%s", harness_names[o->harness]);
    SET(r, over_long, "%s", over_long_names[o->over]);
    SET(r, uses_label, "%d", p->s->kind == MASK_ORACLE || p->s->kind == MASK_REFERENCE);
    SET(r, model_hash, "%.*s", HASH_DIGITS, w->model.file.hash);
    SET(r, tokenizer_hash, "%.*s", HASH_DIGITS, tok_hash(w->tok));
    SET(r, code, "%s", code_version());
}

static void set_target(row *r, const sweep *w, const point *p) {
    const target *t = point_target(w, p);
    SET(r, task, "%s", t->name);
    SET(r, split, "%s", t->is_text ? "" : t->task.split.split);
    SET(r, limit, "%ld", target_limit(w->o, t->is_text));
    if (t->is_text && w->o->page_words) SET(r, page_words, "%ld", w->o->page_words);
    if (t->is_text && t->text.kind != TEXT_PAGES) SET(r, token_windows, "%s", token_windows_names[w->o->windows]);
    if (p->s->kind == MASK_STATIC)
        SET(r, aggregate, "%s", strcmp(series_aggregate(p->s, t), "all") == 0 ? "all" : "task");
    if (t->is_text && p->s->kind != MASK_NONE && decodes(w, p)) SET(r, refresh, "%ld", w->o->masks.refresh);
    SET(r, data_hash, "%.*s", HASH_DIGITS, t->is_text ? t->text.hash : t->task.hash);
    SET(r, scores_hash, "%.*s", HASH_DIGITS, p->scores_hash);
}

static void make_row(row *r, const sweep *w, const point *p) {
    set_options(r, w, p);
    set_target(r, w, p);
}

static void set_counts(row *r, const point *p) {
    SET(r, effective_heads, "%.17g", p->effective[UNIT_HEADS]);
    SET(r, effective_neurons, "%.17g", p->effective[UNIT_NEURONS]);
    SET(r, pruned_heads, "%ld", p->counts.pruned[UNIT_HEADS]);
    SET(r, pruned_neurons, "%ld", p->counts.pruned[UNIT_NEURONS]);
}

static void set_value(row *r, const eval_metric *m) {
    SET(r, metric, "%s", m->name);
    SET(r, value, "%.17g", m->value);
    r->text[COL_stderr][0] = 0;  // of the metric before
    if (isfinite(m->error)) SET(r, stderr, "%.17g", m->error);
    SET(r, n, "%ld", m->n);
}

int rows_check_norms(const sweep *w) {
    for (long i = 0; i < w->out.n; i++) {
        const char *field[N_COLUMNS];
        memcpy(field, w->out.row[i], sizeof field);
        if (strcmp(field[COL_metric], "acc_norm") != 0) continue;
        field[COL_metric] = "acc_bytes";
        if (!results_find(&w->out, field))
            return err_set("%s: its acc_norm is by bytes, as an earlier version had it; name another file, or rename "
                           "it: sed -i s/,acc_norm/,acc_bytes/ FILE",
                           w->out.path);
    }
    return 0;
}

void rows_find(const sweep *w, point *p) {
    row r;
    const char *name[EVAL_METRICS];
    const int n = target_metrics(point_target(w, p), name);
    make_row(&r, w, p);
    p->done = false;
    for (int k = 0; k < n; k++) {
        SET(&r, metric, "%s", name[k]);
        char *const *old = results_find(&w->out, r.field);
        if (!old) return;
        p->m[k] = (eval_metric){name[k], atof(old[COL_value]), old[COL_stderr][0] ? atof(old[COL_stderr]) : NAN,
                                atol(old[COL_n])};
        p->effective[UNIT_HEADS] = atof(old[COL_effective_heads]);
        p->effective[UNIT_NEURONS] = atof(old[COL_effective_neurons]);
        p->counts.pruned[UNIT_HEADS] = atol(old[COL_pruned_heads]);
        p->counts.pruned[UNIT_NEURONS] = atol(old[COL_pruned_neurons]);
    }
    p->done = true;
}

uint64_t rows_key(const sweep *w, const point *p) {
    row r;
    char key[17];
    const char *name[EVAL_METRICS];
    target_metrics(point_target(w, p), name);
    make_row(&r, w, p);
    SET(&r, metric, "%s", name[0]);
    results_key(key, &w->out, r.field);
    return strtoull(key, NULL, 16);
}

static void print_row(const row *r, const eval_metric *m) {
    const char *const part[] = {r->text[COL_mask], r->text[COL_design], r->text[COL_lag], r->text[COL_criterion],
                                r->text[COL_scope]};
    char what[4 * FIELD] = "";
    for (size_t i = 0; i < sizeof part / sizeof *part; i++)
        if (*part[i]) snprintf(what + strlen(what), sizeof what - strlen(what), "%s%s", *what ? " " : "", part[i]);
    printf("%-26s %7s %5s%%  %-11s %-17s %10.5g", what, r->text[COL_units], r->text[COL_sparsity], r->text[COL_task],
           m->name, m->value);
    if (isfinite(m->error)) printf(" +- %.3g", m->error);
    printf("\n");
    fflush(stdout);
}

// Appends the row unless it is there.
static int write_row(sweep *w, row *r, const eval_metric *m) {
    set_value(r, m);
    if (results_find(&w->out, r->field)) return 0;
    if (results_append(&w->out, r->field)) return -1;
    if (w->o->out) print_row(r, m);
    return 0;
}

// What a reader of the details needs to know of the row: the options that differ within a sweep. refresh is that of the
// sweep also where the row is a task's, so that tasks and text of one mask can be told to belong together.
static char *details_head(const sweep *w, const row *r, const char *key) {
    static const struct {
        const char *name;
        int column;
    } field[] = {{"mode", COL_mode},
                 {"mask", COL_mask},
                 {"criterion", COL_criterion},
                 {"design", COL_design},
                 {"target", COL_target},
                 {"lag", COL_lag},
                 {"hidden", COL_hidden},
                 {"scope", COL_scope},
                 {"units", COL_units},
                 {"sparsity", COL_sparsity},
                 {"mask_span", COL_mask_span},
                 {"aggregate", COL_aggregate},
                 {"local_counts", COL_local_counts},
                 {"group_heads", COL_group_heads},
                 {"part", COL_part},
                 {"seed", COL_seed},
                 {"pruned_heads", COL_pruned_heads},
                 {"pruned_neurons", COL_pruned_neurons}};
    char *text;
    size_t bytes;
    FILE *f = open_memstream(&text, &bytes);
    fprintf(f, "{\"row\":\"%s\",\"refresh\":\"", key);
    if (strcmp(r->text[COL_mask_span], "decode") == 0) fprintf(f, "%ld", w->o->masks.refresh);
    const bool by_scores = w->scored_shots && strcmp(r->text[COL_mask], mask_kind_names[MASK_STATIC]) == 0;
    fprintf(f, "\",\"scored_shots\":\"%s\",", by_scores ? w->scored_shots : "");
    for (size_t i = 0; i < sizeof field / sizeof *field; i++) {
        const bool number =
            field[i].column == COL_seed || field[i].column == COL_pruned_heads || field[i].column == COL_pruned_neurons;
        fprintf(f, "\"%s\":%s%s%s,", field[i].name, number ? "" : "\"", r->text[field[i].column], number ? "" : "\"");
    }
    fclose(f);
    return text;
}

static int write_details(sweep *w, const row *r, const target *t, const double *ll) {
    char key[17], *text;
    size_t bytes;
    if (!w->o->details || (t->is_text && t->text.kind != TEXT_PAGES)) return 0;
    results_key(key, &w->out, r->field);
    char *head = details_head(w, r, key);
    FILE *f = open_memstream(&text, &bytes);
    if (t->is_text)
        eval_text_details(f, head, &t->text, ll);
    else
        eval_task_details(f, head, &t->task, ll);
    fclose(f);
    const int bad = details_append(&w->details, text, bytes);
    free(head);
    free(text);
    return bad;
}

static int measure(eval_metric m[EVAL_METRICS], const target *t, const double *ll, uint64_t seed) {
    if (t->is_text) return eval_text_metrics(m, &t->text, ll, seed);
    eval_task_metrics(m, &t->task, ll);
    return EVAL_METRICS;
}

int rows_write(sweep *w, point *p, const double *ll) {
    row r;
    const target *t = point_target(w, p);
    const int n = measure(p->m, t, ll, w->seed[p->seed]);
    for (unit_kind kind = UNIT_HEADS; kind < UNIT_KINDS; kind++)
        p->effective[kind] = eval_effective(&p->counts, &w->model.c, kind);
    make_row(&r, w, p);
    set_counts(&r, p);
    for (int k = 0; k < n; k++) {
        SET(&r, metric, "%s", p->m[k].name);
        if (k == 0 && !results_find(&w->out, r.field) && write_details(w, &r, t, ll)) return -1;
        if (write_row(w, &r, &p->m[k])) return -1;
    }
    p->done = true;
    return 0;
}

// ---------------------------------------------------------------- means over the tasks
// The points of one mask on the tasks stand n_rules apart.
static const point *on_task(const point *first, int k) { return first + (long)k * first->n_rules; }

// Hash of the hashes of all tasks: of their scores, or of their data.
static void set_hash_of_all(char *field, const sweep *w, const point *p, bool scores) {
    char all[33 * TASK_COUNT] = "", hash[33];
    for (int k = 0; k < w->n_tasks; k++)
        snprintf(all + strlen(all), sizeof all - strlen(all), "%.32s",
                 scores ? on_task(p, k)->scores_hash : point_target(w, on_task(p, k))->task.hash);
    hash_bytes(hash, all, strlen(all));
    if (*all) snprintf(field, FIELD, "%.*s", HASH_DIGITS, hash);
}

static int write_mean(sweep *w, const point *p) {
    static const char *const geometric_name[EVAL_METRICS] = {"acc_gmean", "acc_bytes_gmean", "acc_norm_gmean"};
    row r;
    point all = {0};
    for (int k = 0; k < w->n_tasks; k++)
        for (int u = 0; u < 2; u++) {
            all.effective[u] += on_task(p, k)->effective[u] / w->n_tasks;
            all.counts.pruned[u] += on_task(p, k)->counts.pruned[u];
        }
    set_options(&r, w, p);
    SET(&r, task, "mean");
    SET(&r, limit, "%ld", target_limit(w->o, false));
    if (p->s->kind == MASK_STATIC) SET(&r, aggregate, "%s", p->s->pooled ? "all" : "task");
    set_hash_of_all(r.text[COL_data_hash], w, p, false);
    set_hash_of_all(r.text[COL_scores_hash], w, p, true);
    set_counts(&r, &all);
    for (int geometric = 0; geometric < 2; geometric++)
        for (int k = 0; k < EVAL_METRICS; k++) {
            eval_metric each[TASK_COUNT];
            for (int i = 0; i < w->n_tasks; i++) each[i] = on_task(p, i)->m[k];
            const char *name = (geometric ? geometric_name : eval_task_metric_names)[k];
            const eval_metric mean = eval_mean(name, each, w->n_tasks, geometric);
            if (write_row(w, &r, &mean)) return -1;
        }
    return 0;
}

int rows_write_means(sweep *w, const point *first) {
    for (int i = 0; i < first->n_rules; i++) {
        bool all_done = w->n_tasks > 0;
        for (int k = 0; k < w->n_tasks; k++) all_done &= on_task(first + i, k)->done;
        if (all_done && write_mean(w, first + i)) return -1;
    }
    return 0;
}
