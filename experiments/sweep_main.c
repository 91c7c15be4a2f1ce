// sweep - accuracy of the tasks and perplexity of a text over sparsities, for masks none, random, static, oracle and file.
//
// The model is loaded once and every task and text tokenised once (per seed); each point is a mask run over the same items. A point's
// rows are written when they are known, so a killed sweep goes on where it stopped.
#include <libgen.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "cli.h"
#include "eval.h"
#include "ops.h"
#include "registry.h"
#include "results.h"
#include "store.h"

// Columns in the order of the specification, then what else belongs to a row's key. 1: part of the key.
#define COLUMNS(X)                                                                                                          \
    X(mode, 1) X(model, 1) X(task, 1) X(split, 1) X(metric, 1) X(value, 0) X(stderr, 0) X(n, 0) X(mask, 1) X(criterion, 1)   \
    X(design, 1) X(target, 1) X(scope, 1) X(units, 1) X(sparsity, 1) X(dense_layers, 1) X(effective_heads, 0)                \
    X(effective_neurons, 0) X(aggregate, 1) X(mask_span, 1) X(refresh, 1) X(shots, 1) X(limit, 1) X(seed, 1) X(bos, 1)       \
    X(over_long, 1) X(token_windows, 1) X(uses_label, 1) X(model_hash, 1) X(tokenizer_hash, 1) X(data_hash, 1)               \
    X(scores_hash, 1) X(code, 1)
#define X(name, key) COL_##name,
enum { COLUMNS(X) N_COLUMNS };
#undef X
#define X(name, key) {#name, key},
static const results_column columns[] = {COLUMNS(X)};
#undef X

enum { MAX_TARGETS = TASK_COUNT + 2, HASH_DIGITS = 12, FIELD = 256, ORACLE_TOKENS = 2048 };

// ---------------------------------------------------------------- options
static char *model_dir, *data_dir, *task_list, *wikitext_file, *mask_list = "none", *scores_file, *criterion_list = "all", *scope_list = "global",
            *units_name = "both", *sparsity_list = "0,10,20,30,40,50,60,70,80,90", *aggregate = "", *split, *seed_list = "0", *over_long_name = "stop",
            *token_windows = "disjoint", *mode_name = "sound", *details_file, *out_file, *device = "cpu";
static long dense_layers = 1, shots, limit, threads;
static bool bos, list;

static const cli_option options[] = {
    {"model", CLI_STR, &model_dir, "DIR", "checkpoint directory with its tokenizer", false, NULL, 0, 0},
    {"data", CLI_STR, &data_dir, "DIR", "folder with one folder per task", false, NULL, 0, 0},
    {"tasks", CLI_STR, &task_list, "a,b|all", "tasks whose accuracy is measured", false, NULL, 0, 0},
    {"wikitext", CLI_STR, &wikitext_file, "FILE", "text whose perplexity is measured", false, NULL, 0, 0},
    {"mask", CLI_STR, &mask_list, "a,b", "masks: none, random, static, oracle, file:PATH", false, NULL, 0, 0},
    {"scores", CLI_STR, &scores_file, "FILE", "aggregates (bin/aggregate) for static masks", false, NULL, 0, 0},
    {"criterion", CLI_STR, &criterion_list, "a,b|all", "criteria of static masks", false, NULL, 0, 0},
    {"scope", CLI_STR, &scope_list, "a,b", "where units compete: local, global, hybrid", false, NULL, 0, 0},
    {"units", CLI_STR, &units_name, "UNITS", "what is pruned; oracle masks prune heads unless this is given", false, "heads|neurons|both", 0, 0},
    {"sparsity", CLI_STR, &sparsity_list, "a,b", "percentages pruned", false, NULL, 0, 0},
    {"dense-layers", CLI_INT, &dense_layers, "N", "first layers that are never pruned", false, NULL, 0, 1e6},
    {"aggregate", CLI_STR, &aggregate, "task|all", "static scores of a task: its own (default) or those over all", false, "|task|all", 0, 0},
    {"shots", CLI_INT, &shots, "K", "few-shot examples before each question", false, NULL, 0, 1000},
    {"split", CLI_STR, &split, "SPLIT", "split of the tasks instead of the usual one", false, "train|val|test", 0, 0},
    {"limit", CLI_INT, &limit, "N", "documents per task, pages of the text; 0: all", false, NULL, 0, 1e9},
    {"seed", CLI_STR, &seed_list, "a,b", "seeds: order of documents, few-shot, random masks, bootstrap", false, NULL, 0, 0},
    {"over-long", CLI_STR, &over_long_name, "WHAT", "documents longer than the model's positions", false, "stop|skip|cut", 0, 0},
    {"bos", CLI_FLAG, &bos, NULL, "put </s> before the text of a task", false, NULL, 0, 0},
    {"token-perplexity", CLI_STR, &token_windows, "WINDOWS", "definition of the text's token perplexity", false, "disjoint|gptq|none", 0, 0},
    {"mode", CLI_STR, &mode_name, "MODE", "sound definitions, or those of the published code", false, "sound|compat", 0, 0},
    {"details", CLI_STR, &details_file, "FILE", "JSON lines, one per document and page (needs --out)", false, NULL, 0, 0},
    {"out", CLI_STR, &out_file, "FILE", "CSV file, appended; rows present are skipped. Without it: standard output", false, NULL, 0, 0},
    {"threads", CLI_INT, &threads, "N", "threads; 0: as many as there are cores", false, NULL, 0, 1024},
    {"device", CLI_STR, &device, "NAME", ops_devices, false, NULL, 0, 0},
    {"list", CLI_FLAG, &list, NULL, "print the names of tasks, masks, scopes and criteria", false, NULL, 0, 0},
    {0},
};

// ---------------------------------------------------------------- the sweep
// What is measured: a task, or a text in one of its forms. dense: the log-likelihoods under no mask, once known; scores_hash: of the
// scores or mask file that the series at work has for it.
typedef struct { const char *name; eval_task task; eval_text text; bool is_text; double *dense; char scores_hash[33]; } target;

// What is compared: a kind of mask and, for static ones, a criterion.
typedef struct { const char *kind; const criterion *crit; const char *path; unsigned units; } series;

typedef struct {
    opt model;
    char *model_name;
    tok *tok;
    eval *eval;
    oracle *oracle;
    results out;
    details details;
    bool compat, all_criteria;
    unsigned units;
    series *series;
    int n_series;
    mask_scope scope[3];
    int n_scopes;
    long *sparsity;
    int n_sparsities;
    uint64_t *seed;
    int n_seeds;
    const char **task;
    int n_tasks;
    target (*targets)[MAX_TARGETS];  // [n_seeds]
    int n_targets;
    // one pass over all points, first to count, then to run
    bool counting;
    long rows_present, rows_missing;
    double tokens_missing, tokens_done;
    progress bar;
} sweep;

typedef struct {
    const series *s;
    mask_rule rule;
    int seed;
} point;

typedef struct { eval_metric m[2]; double effective[2]; bool done; } outcome;  // of a point on a target

typedef struct { char text[N_COLUMNS][FIELD]; const char *field[N_COLUMNS]; } row;

static const char *scope_name(const point *p) { return mask_scope_names[p->rule.scope]; }
static bool is(const series *s, const char *kind) { return strcmp(s->kind, kind) == 0; }
static bool has_rule(const series *s) { return !is(s, "none") && !is(s, "file"); }
static const char *aggregate_of(const target *t) { return t->is_text || strcmp(aggregate, "all") == 0 ? "all" : t->name; }

#define SET(r, column, ...) snprintf((r)->text[COL_##column], FIELD, __VA_ARGS__)

static void set_options(row *r, const sweep *w, const point *p) {
    for (int i = 0; i < N_COLUMNS; i++) {
        r->text[i][0] = 0;
        r->field[i] = r->text[i];
    }
    SET(r, mode, "%s", mode_name);
    SET(r, model, "%s", w->model_name);
    SET(r, mask, "%s", p->s->kind);
    SET(r, criterion, "%s", p->s->crit ? p->s->crit->name : is(p->s, "oracle") ? "removal" : "");
    if (has_rule(p->s)) {
        SET(r, scope, "%s", scope_name(p));
        SET(r, units, "%s", mask_units_name(p->rule.units));
        SET(r, sparsity, "%.10g", (double)p->rule.sparsity / 1000);
        SET(r, dense_layers, "%d", p->rule.dense_layers);
        SET(r, mask_span, "all");
    } else if (is(p->s, "none")) {
        SET(r, sparsity, "0");
    }
    SET(r, shots, "%ld", shots);
    SET(r, limit, "%ld", limit);
    SET(r, seed, "%llu", (unsigned long long)w->seed[p->seed]);
    SET(r, bos, "%d", bos);
    SET(r, over_long, "%s", over_long_name);
    SET(r, uses_label, "%d", is(p->s, "oracle"));
    SET(r, model_hash, "%.*s", HASH_DIGITS, w->model.file.hash);
    SET(r, tokenizer_hash, "%.*s", HASH_DIGITS, tok_hash(w->tok));
    SET(r, code, "%s", code_version());
}

static void set_target(row *r, const point *p, const target *t) {
    SET(r, task, "%s", t->name);
    SET(r, split, "%s", t->is_text ? "" : t->task.split.split);
    if (t->is_text && t->text.kind != TEXT_PAGES) SET(r, token_windows, "%s", token_windows);
    if (p->s->crit) SET(r, aggregate, "%s", strcmp(aggregate_of(t), "all") == 0 ? "all" : "task");
    SET(r, data_hash, "%.*s", HASH_DIGITS, t->is_text ? t->text.hash : t->task.hash);
    SET(r, scores_hash, "%.*s", HASH_DIGITS, t->scores_hash);
}

static void set_value(row *r, const eval_metric *m, const double effective[2]) {
    SET(r, metric, "%s", m->name);
    SET(r, value, "%.12g", m->value);
    if (isfinite(m->error)) SET(r, stderr, "%.6g", m->error);
    SET(r, n, "%ld", m->n);
    SET(r, effective_heads, "%.6g", effective[0]);
    SET(r, effective_neurons, "%.6g", effective[1]);
}

static int metric_names(const target *t, const char *name[2]) {
    name[0] = !t->is_text ? "acc" : t->text.kind == TEXT_PAGES ? "word_perplexity" : "token_perplexity";
    name[1] = !t->is_text ? "acc_norm" : t->text.kind == TEXT_PAGES ? "byte_perplexity" : NULL;
    return name[1] ? 2 : 1;
}

// Appends the row unless it is there, and tells a reader at the terminal.
static void write_row(sweep *w, row *r, const eval_metric *m, const double effective[2]) {
    set_value(r, m, effective);
    if (results_find(&w->out, r->field)) return;
    if (results_append(&w->out, r->field)) die(1, "%s", err_get());
    if (!out_file) return;
    char *what = xasprintf("%s%s%s%s%s", r->text[COL_mask], r->text[COL_criterion][0] ? " " : "", r->text[COL_criterion],
             r->text[COL_scope][0] ? " " : "", r->text[COL_scope]);
    printf("%-26s %7s %5s%%  %-11s %-17s %10.5g", what, r->text[COL_units], r->text[COL_sparsity], r->text[COL_task], m->name, m->value);
    if (isfinite(m->error)) printf(" +- %.3g", m->error);
    printf("\n");
    fflush(stdout);
    free(what);
}

static void write_details(sweep *w, const row *r, const target *t, const double *ll) {
    char key[17], *text;
    size_t bytes;
    if (!details_file || (t->is_text && t->text.kind != TEXT_PAGES)) return;
    results_key(key, &w->out, r->field);
    char *head = xasprintf("{\"row\":\"%s\",\"mode\":\"%s\",\"mask\":\"%s\",\"criterion\":\"%s\",\"scope\":\"%s\",\"units\":\"%s\",\"sparsity\":\"%s\",\"seed\":%s,", key,
             mode_name, r->text[COL_mask], r->text[COL_criterion], r->text[COL_scope], r->text[COL_units], r->text[COL_sparsity], r->text[COL_seed]);
    FILE *f = open_memstream(&text, &bytes);
    if (t->is_text) eval_text_details(f, head, &t->text, ll);
    else eval_task_details(f, head, &t->task, ll);
    fclose(f);
    if (details_append(&w->details, text, bytes)) die(1, "%s", err_get());
    free(head);
    free(text);
}

// ---------------------------------------------------------------- scores of a series
typedef struct { double *heads, *neurons; } unit_scores;

static bool read_static(const sweep *w, const series *s, target *t, unit_scores *out) {
    const opt_config *c = &w->model.c;
    store_aggregate a = {0};
    bool there = store_read_aggregate(&a, scores_file, w->compat, aggregate_of(t), s->crit->name) == 0;
    if (there && (a.L != c->L || a.H != c->H || a.F != c->F || strcmp(a.model_hash, w->model.file.hash) != 0))
        die(1, "%s: scores of another model than %s; score that model first", scores_file, model_dir);
    if (there && (((w->units & UNITS_HEADS) && !a.heads) || ((w->units & UNITS_NEURONS) && !w->compat && !a.neurons))) {
        err_set("%s: criterion %s has no %s scores over %s", scores_file, s->crit->name, a.heads ? "neuron" : "head", aggregate_of(t));
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

// Scores, or the mask itself; false: this series has none for this target (said, and only where all criteria were asked for).
static bool read_scores(const sweep *w, const series *s, target *t, uint64_t seed, unit_scores *out, mask *file) {
    const opt_config *c = &w->model.c;
    *out = (unit_scores){0};
    t->scores_hash[0] = 0;
    if (s->crit) return read_static(w, s, t, out);
    if (is(s, "random")) {
        out->heads = xmalloc((size_t)c->L * (size_t)c->H * sizeof *out->heads);
        out->neurons = xmalloc((size_t)c->L * (size_t)c->F * sizeof *out->neurons);
        mask_random_scores(out->heads, out->neurons, c, seed);
    } else if (is(s, "file")) {
        if (mask_read(file, c, s->path)) die(1, "%s", err_get());
        mask_hash(t->scores_hash, file, c);
        if (w->compat) memset(file->neurons, 1, (size_t)c->L * (size_t)c->F);  // the published FFN mask never acts
    }
    return true;
}

// ---------------------------------------------------------------- points
static const eval_item *items_of(const target *t, int *n) {
    *n = t->is_text ? t->text.n : t->task.n;
    return t->is_text ? t->text.item : t->task.item;
}

static int target_metrics(eval_metric m[2], const target *t, const double *ll, uint64_t seed) {
    if (t->is_text) return eval_text_metrics(m, &t->text, ll, seed);
    eval_task_metrics(m, &t->task, ll);
    return 2;
}

// True when every row of the point is there; its values are then read back from them.
static bool present(const sweep *w, row *r, const target *t, outcome *o) {
    const char *name[2];
    const int n = metric_names(t, name);
    for (int k = 0; k < n; k++) {
        SET(r, metric, "%s", name[k]);
        char *const *old = results_find(&w->out, r->field);
        if (!old) return false;
        o->m[k] = (eval_metric){name[k], atof(old[COL_value]), old[COL_stderr][0] ? atof(old[COL_stderr]) : NAN, atol(old[COL_n])};
        o->effective[0] = atof(old[COL_effective_heads]);
        o->effective[1] = atof(old[COL_effective_neurons]);
    }
    return true;
}

static void finish_point(sweep *w, row *r, const target *t, const double *ll, uint64_t seed, outcome *o) {
    const int n = target_metrics(o->m, t, ll, seed);
    for (int k = 0; k < n; k++) {
        SET(r, metric, "%s", o->m[k].name);
        if (k == 0 && !results_find(&w->out, r->field)) write_details(w, r, t, ll);
        write_row(w, r, &o->m[k], o->effective);
    }
    o->done = true;
}

static double *run_one(sweep *w, const target *t, const mask_source *source, const mask_rule *rule, int n, double (*effective)[2]) {
    int n_items;
    const eval_item *item = items_of(t, &n_items);
    const size_t each = (size_t)n_items * TASK_MAX_CHOICES;
    double *ll = xcalloc((size_t)n * each, sizeof *ll), **per_rule = xmalloc((size_t)n * sizeof *per_rule);
    for (int i = 0; i < n; i++) per_rule[i] = ll + (size_t)i * each;
    if (eval_run(w->eval, item, n_items, source, rule, n, per_rule, effective)) die(1, "%s: %s", t->name, err_get());
    free(per_rule);
    return ll;
}

static void run_dense(sweep *w, row *r, target *t, uint64_t seed, outcome *o) {
    const mask_source none = {0};
    double effective[1][2] = {{0, 0}};
    if (!t->dense) t->dense = run_one(w, t, &none, NULL, 1, effective);
    finish_point(w, r, t, t->dense, seed, o);
}

static void run_masked(sweep *w, row *r, target *t, uint64_t seed, const mask *m, outcome *o) {
    const mask_source fixed = {.fixed = m};
    double effective[1][2];
    double *ll = run_one(w, t, &fixed, NULL, 1, effective);
    memcpy(o->effective, effective[0], sizeof o->effective);
    finish_point(w, r, t, ll, seed, o);
    free(ll);
}

// All points at once: what costs is the oracle's scores, and they are the same for all.
static void run_oracle(sweep *w, row **r, const mask_rule *rule, int n, target *t, uint64_t seed, outcome **o) {
    if (n == 0) return;
    int n_items;
    items_of(t, &n_items);
    if (!w->oracle) w->oracle = oracle_new(&w->model, w->compat ? 0 : (int)dense_layers, ORACLE_TOKENS);
    const mask_source source = oracle_source(w->oracle);
    double (*effective)[2] = xcalloc((size_t)n, sizeof *effective), *ll = run_one(w, t, &source, rule, n, effective);
    for (int i = 0; i < n; i++) {
        memcpy(o[i]->effective, effective[i], sizeof effective[i]);
        finish_point(w, r[i], t, ll + (size_t)i * (size_t)n_items * TASK_MAX_CHOICES, seed, o[i]);
    }
    free(ll);
    free(effective);
}

static void count_missing(sweep *w, const point *p, target *t, bool dense, bool *oracle_counted) {
    static double known;  // stands for log-likelihoods while counting
    int n;
    const eval_item *item = items_of(t, &n);
    if (!dense || !t->dense) w->tokens_missing += eval_tokens(item, n);
    if (dense) t->dense = &known;
    if (dense || !is(p->s, "oracle") || *oracle_counted) return;
    *oracle_counted = true;
    for (int k = 0; k < n; k++)
        w->tokens_missing += oracle_cost(&w->model.c, w->compat ? 0 : (int)dense_layers, p->rule.units, item[k].seq[item[k].gold].n);
}

// Evaluates the points of one series and seed on one target, those that have no rows yet.
static void run_target(sweep *w, const point *p, int n, target *t, outcome *o) {
    const series *s = p->s;
    const uint64_t seed = w->seed[p->seed];
    unit_scores scores;
    mask m = {0};
    mask_alloc(&m, &w->model.c);
    row *r = xcalloc((size_t)n, sizeof *r), **late_row = xcalloc((size_t)n, sizeof *late_row);
    outcome **late = xcalloc((size_t)n, sizeof *late);
    mask_rule *late_rule = xcalloc((size_t)n, sizeof *late_rule);
    int n_late = 0;
    bool oracle_counted = false;
    const bool there = read_scores(w, s, t, seed, &scores, &m);
    for (int i = 0; i < n && there; i++) {
        const char *name[2];
        const bool dense = has_rule(s) ? p[i].rule.sparsity == 0 : is(s, "none");
        set_options(&r[i], w, &p[i]);
        set_target(&r[i], &p[i], t);
        o[i].done = present(w, &r[i], t, &o[i]);
        *(o[i].done ? &w->rows_present : &w->rows_missing) += metric_names(t, name);
        if (o[i].done) continue;
        if (w->counting) {
            count_missing(w, &p[i], t, dense, &oracle_counted);
        } else if (dense) {
            run_dense(w, &r[i], t, seed, &o[i]);
        } else if (is(s, "oracle")) {
            late_row[n_late] = &r[i];
            late_rule[n_late] = p[i].rule;
            late[n_late++] = &o[i];
        } else {
            if (has_rule(s) && mask_make(&m, &w->model.c, scores.heads, scores.neurons, &p[i].rule))
                die(1, "%s over %s: %s", s->crit ? s->crit->name : s->kind, aggregate_of(t), err_get());
            run_masked(w, &r[i], t, seed, &m, &o[i]);
        }
    }
    run_oracle(w, late_row, late_rule, n_late, t, seed, late);
    mask_free(&m);
    void *blocks[] = {r, late_row, late, late_rule, scores.heads, scores.neurons};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) free(blocks[i]);
}

// Hash of the hashes of all tasks.
static void set_hash_of_all(char *field, const sweep *w, const target *t, bool scores) {
    char all[33 * TASK_COUNT] = "", hash[33];
    for (int k = 0; k < w->n_tasks; k++) snprintf(all + strlen(all), sizeof all - strlen(all), "%.32s", scores ? t[k].scores_hash : t[k].task.hash);
    hash_bytes(hash, all, strlen(all));
    if (*all) snprintf(field, FIELD, "%.*s", HASH_DIGITS, hash);
}

// The rows of a point's mean over the tasks, once all of them are done. o: the point's outcome on task k is o[k * stride].
static void write_means(sweep *w, const point *p, const target *t, const outcome *o, int stride) {
    static const char *const name[2][2] = {{"acc", "acc_norm"}, {"acc_gmean", "acc_norm_gmean"}};
    double effective[2] = {0, 0};
    for (int k = 0; k < w->n_tasks; k++) {
        if (!o[k * stride].done) return;
        for (int u = 0; u < 2; u++) effective[u] += o[k * stride].effective[u] / w->n_tasks;
    }
    row r;
    set_options(&r, w, p);
    SET(&r, task, "mean");
    if (p->s->crit) SET(&r, aggregate, "%s", strcmp(aggregate, "all") == 0 ? "all" : "task");
    set_hash_of_all(r.text[COL_data_hash], w, t, false);
    set_hash_of_all(r.text[COL_scores_hash], w, t, true);
    for (int geometric = 0; geometric < 2; geometric++)
        for (int k = 0; k < 2; k++) {
            eval_metric each[TASK_COUNT];
            for (int i = 0; i < w->n_tasks; i++) each[i] = o[i * stride].m[k];
            const eval_metric mean = eval_mean(name[geometric][k], each, w->n_tasks, geometric);
            write_row(w, &r, &mean, effective);
        }
}

static void run_series(sweep *w, const series *s, int seed) {
    const int n = has_rule(s) ? w->n_scopes * w->n_sparsities : 1;
    point *p = xcalloc((size_t)n, sizeof *p);
    for (int i = 0; i < n; i++)
        p[i] = (point){s, {w->scope[i / w->n_sparsities], s->units, w->sparsity[i % w->n_sparsities], (int)dense_layers, w->compat}, seed};
    outcome *o = xcalloc((size_t)n * (size_t)w->n_targets, sizeof *o);
    for (int k = 0; k < w->n_targets; k++) run_target(w, p, n, &w->targets[seed][k], o + k * n);
    for (int i = 0; i < n && w->n_tasks && !w->counting; i++) write_means(w, &p[i], w->targets[seed], o + i, n);
    free(o);
    free(p);
}

static void visit(sweep *w, bool counting) {
    w->counting = counting;
    for (int seed = 0; seed < w->n_seeds; seed++)
        for (int i = 0; i < w->n_series; i++) run_series(w, &w->series[i], seed);
}

// ---------------------------------------------------------------- set-up
static void print_list(void) {
    printf("tasks:");
    for (const char *const *t = task_names; *t; t++) printf(" %s", *t);
    printf("\nmasks: none random static oracle file:PATH\nscopes: local global hybrid\ncriteria:");
    for (const criterion *const *c = crit_all; *c; c++) printf(" %s", (*c)->name);
    printf("\n");
}

static void choose_tasks(sweep *w) {
    bool take[TASK_COUNT] = {false};
    if (task_list && task_select(task_list, take) < 0) die(2, "--tasks: %s", err_get());
    w->task = xcalloc(TASK_COUNT, sizeof *w->task);
    for (int k = 0; k < TASK_COUNT; k++)
        if (take[k]) w->task[w->n_tasks++] = task_names[k];
    if (w->n_tasks && !data_dir) die(2, "--tasks needs --data DIR");
    if (w->n_tasks == 0 && !wikitext_file) die(2, "nothing to measure: name --tasks, --wikitext or both");
}

static void choose_scopes(sweep *w) {
    int n;
    char **name = cli_split(scope_list, &n);
    for (int i = 0; i < n; i++) {
        int k = 0;
        while (k < 3 && strcmp(name[i], mask_scope_names[k]) != 0) k++;
        if (k == 3) die(2, "--scope %s: not one of local, global, hybrid", name[i]);
        if (w->n_scopes == 3) die(2, "--scope %s: a scope is named twice", scope_list);
        w->scope[w->n_scopes++] = (mask_scope)k;
    }
    if (n == 0) die(2, "--scope names no scope; there are local, global, hybrid");
    free(name);
}

static void add_series(sweep *w, const char *kind, const criterion *crit, const char *path) {
    w->series = xrealloc(w->series, (size_t)(w->n_series + 1) * sizeof *w->series);
    w->series[w->n_series++] = (series){kind, crit, path, w->units};
}

// Removing every neuron of every document in turn is for small models and on request only.
static unsigned oracle_units(const sweep *w) { return cli_given(options, "units") ? w->units : UNITS_HEADS; }

static void choose_masks(sweep *w) {
    int n, n_crit;
    char **name = cli_split(mask_list, &n);
    const criterion **crit = crit_select(criterion_list, &n_crit);
    if (!crit) die(2, "--criterion: %s", err_get());
    w->all_criteria = strcmp(criterion_list, "all") == 0;
    for (int i = 0; i < n; i++) {
        if (strcmp(name[i], "none") == 0) add_series(w, "none", NULL, NULL);
        else if (strcmp(name[i], "random") == 0) add_series(w, "random", NULL, NULL);
        else if (strcmp(name[i], "oracle") == 0) {
            add_series(w, "oracle", NULL, NULL);
            w->series[w->n_series - 1].units = oracle_units(w);
        }
        else if (strncmp(name[i], "file:", 5) == 0 && name[i][5]) add_series(w, "file", NULL, xstrdup(name[i] + 5));
        else if (strcmp(name[i], "static") != 0) die(2, "--mask %s: not one of none, random, static, oracle, file:PATH", name[i]);
        else if (!scores_file) die(2, "--mask static needs --scores FILE, written by bin/aggregate");
        else for (int k = 0; k < n_crit; k++) add_series(w, "static", crit[k], NULL);
    }
    if (n == 0) die(2, "--mask names no mask; there are none, random, static, oracle, file:PATH");
    free(crit);
    free(name);
}

// The published static masks know one scope and one kind of unit; asking for another is a misunderstanding, not a wish to grant.
static void check_compat(sweep *w) {
    bool has_static = false;
    for (int i = 0; i < w->n_series; i++) has_static |= w->series[i].crit != NULL;
    if (!w->compat) return;
    if (has_static && cli_given(options, "scope") && strcmp(scope_list, "global") != 0)
        die(2, "--scope %s: published static masks are always global (their prune_style is ignored); use --mode sound for other scopes", scope_list);
    if (has_static && cli_given(options, "units") && strcmp(units_name, "heads") != 0)
        die(2, "--units %s: the published FFN mask never acted, so published static masks prune heads only; use --mode sound for neurons", units_name);
    if (w->units != UNITS_HEADS) log_info("the published FFN mask never acted: neurons all run in --mode compat");
}

static void choose_seeds(sweep *w) {
    char **name = cli_split(seed_list, &w->n_seeds), *end;
    w->seed = xcalloc((size_t)w->n_seeds + 1, sizeof *w->seed);
    for (int i = 0; i < w->n_seeds; i++) {
        w->seed[i] = strtoull(name[i], &end, 10);
        if (*end || name[i][0] == '-') die(2, "--seed %s: a whole number from 0 is wanted", name[i]);
    }
    if (w->n_seeds == 0) die(2, "--seed names no seed");
    free(name);
}

static void open_targets(sweep *w) {
    w->targets = xcalloc((size_t)w->n_seeds, sizeof *w->targets);
    for (int s = 0; s < w->n_seeds; s++) {
        const eval_options o = {.data = data_dir, .split = split, .shots = (int)shots, .limit = limit, .seed = w->seed[s], .compat = w->compat, .bos = bos,
                                .over = over_long_name[1] == 't' ? OVER_LONG_STOP : over_long_name[1] == 'k' ? OVER_LONG_SKIP : OVER_LONG_CUT};
        int n = 0;
        for (int k = 0; k < w->n_tasks; k++) {
            target *t = &w->targets[s][n++];
            t->name = w->task[k];
            if (eval_task_open(&t->task, w->task[k], &o, w->tok, &w->model.c)) die(1, "%s", err_get());
            if (s == 0) log_info("%s: %d documents of %s (%s)", t->name, t->task.n, t->task.split.split, t->task.split.file);
            if (t->task.skipped) log_info("%s: %d over-long documents are left out", t->name, t->task.skipped);
            if (t->task.cut) log_info("%s: %d over-long documents are cut from the left", t->name, t->task.cut);
        }
        const text_kind kinds[] = {TEXT_PAGES, strcmp(token_windows, "gptq") == 0 ? TEXT_GPTQ : TEXT_DISJOINT};
        for (int k = 0; wikitext_file && k < (strcmp(token_windows, "none") == 0 ? 1 : 2); k++) {
            target *t = &w->targets[s][n++];
            t->name = "wikitext";
            t->is_text = true;
            if (eval_text_open(&t->text, wikitext_file, kinds[k], &o, w->tok, &w->model.c)) die(1, "%s", err_get());
            if (s == 0 && k == 0) log_info("%s: %d pages", wikitext_file, t->text.n_groups);
        }
        w->n_targets = n;
    }
}

static char *provenance(const sweep *w, int argc, char **argv) {
    char date[32], *command = cli_command(argc, argv), *resolved = cli_resolved(options), *text;
    const time_t now = time(NULL);
    size_t bytes;
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", gmtime(&now));
    FILE *f = open_memstream(&text, &bytes);
    fprintf(f, "command: %s\noptions: %s\ncode: %s\ndate: %s\ndevice: %s, %d threads\nmodel: %s %s\ntokenizer: %s", command, resolved, code_version(), date, device,
            omp_get_max_threads(), model_dir, w->model.file.hash, tok_hash(w->tok));
    for (int k = 0; k < w->n_targets; k++) {
        const target *t = &w->targets[0][k];
        if (!t->is_text) fprintf(f, "\n%s: %s %s, %d documents", t->name, t->task.split.file, t->task.hash, t->task.n);
        else if (t->text.kind == TEXT_PAGES) fprintf(f, "\nwikitext: %s %s, %d pages", wikitext_file, t->text.hash, t->text.n_groups);
    }
    if (scores_file) fprintf(f, "\nscores: %s", scores_file);
    for (int i = 0; i < w->n_series; i++)
        if (is(&w->series[i], "oracle")) fprintf(f, "\noracle masks use the gold answer (the text itself, on text): a bound, not a method");
    fclose(f);
    free(command);
    free(resolved);
    return text;
}

// ---------------------------------------------------------------- running
static void tick(void *ctx, double tokens) {
    sweep *w = ctx;
    w->tokens_done += tokens;
    progress_at(&w->bar, (long)w->tokens_done);
}

// Tokens per second of the dense model, from at most about a second of the work itself. The first run, which touches the weights and
// the workspace for the first time, does not count.
static double measure_speed(sweep *w) {
    const mask_source none = {0};
    double effective[1][2], tokens = 0, start = clock_s();
    for (int k = -1; k < w->n_targets && (k < 1 || clock_s() - start < 1); k++) {
        int n;
        const eval_item *item = items_of(&w->targets[0][k < 0 ? 0 : k], &n);
        if (n > (k < 0 ? 1 : 16)) n = k < 0 ? 1 : 16;
        double *ll = xcalloc((size_t)n * TASK_MAX_CHOICES, sizeof *ll);
        if (eval_run(w->eval, item, n, &none, NULL, 1, &ll, effective)) die(1, "%s", err_get());
        free(ll);
        tokens += eval_tokens(item, n);
        if (k < 0) {
            tokens = 0;
            start = clock_s();
        }
    }
    return tokens / (clock_s() - start);
}

static void announce(sweep *w) {
    visit(w, true);
    for (int s = 0; s < w->n_seeds; s++)
        for (int k = 0; k < w->n_targets; k++) w->targets[s][k].dense = NULL;
    if (w->rows_present + w->rows_missing == 0) die(1, "nothing to evaluate: %s has no scores that fit", scores_file);
    if (w->rows_missing == 0) {
        log_info("%ld values, all of them present in %s", w->rows_present, w->out.path);
        return;
    }
    const double speed = measure_speed(w), seconds = w->tokens_missing / speed;
    log_info("%ld values present, %ld to compute: %.3g million tokens, about %.0f %s at %.0f tokens/s", w->rows_present, w->rows_missing,
             w->tokens_missing / 1e6, seconds < 600 ? seconds : seconds / 60, seconds < 600 ? "s" : "min", speed);
    w->tokens_done = 0;
}

int main(int argc, char **argv) {
    static sweep w;
    cli_parse(argc, argv, "accuracy and perplexity over sparsities, for masks none, random, static, oracle and file", options);
    if (list) {
        print_list();
        stdout_end();
        return 0;
    }
    if (!model_dir) die(2, "--model is required (checkpoint directory); see --help");
    if (details_file && !out_file) die(2, "--details needs --out: its lines name rows of that file");
    w.compat = strcmp(mode_name, "compat") == 0;
    w.units = strcmp(units_name, "heads") == 0 || (w.compat && !cli_given(options, "units")) ? UNITS_HEADS
              : strcmp(units_name, "neurons") == 0                                           ? UNITS_NEURONS
                                                                                             : UNITS_BOTH;
    if (threads) omp_set_num_threads((int)threads);
    choose_tasks(&w);
    choose_scopes(&w);
    choose_masks(&w);
    check_compat(&w);
    choose_seeds(&w);
    if (!(w.sparsity = mask_parse_sparsities(sparsity_list, &w.n_sparsities))) die(2, "%s", err_get());

    if (scores_file) {
        store *scores = store_open(scores_file);
        if (!scores) die(1, "%s", err_get());
        store_close(scores);
    }
    const ops *o = ops_open(device);
    if (!o || opt_load_on(&w.model, model_dir, o)) die(1, "%s", err_get());
    if (dense_layers > w.model.c.L) die(2, "--dense-layers %ld: the model has %d layers", dense_layers, w.model.c.L);
    if (!(w.tok = tok_open(model_dir, w.model.c.V))) die(1, "%s", err_get());
    char *name = realpath(model_dir, NULL);
    if (!name) die(1, "%s: cannot be resolved", model_dir);
    w.model_name = basename(name);
    w.out.fd = w.details.fd = -1;
    open_targets(&w);
    char *lines = provenance(&w, argc, argv);
    if (results_open(&w.out, out_file, columns, N_COLUMNS, lines)) die(1, "%s", err_get());
    free(lines);
    if (details_file && details_open(&w.details, details_file, &w.out)) die(1, "%s", err_get());
    w.eval = eval_new(&w.model, w.compat, tick, &w);

    announce(&w);
    progress_begin(&w.bar, "sweep, tokens", (long)w.tokens_missing);
    visit(&w, false);
    progress_end(&w.bar);

    details_close(&w.details);
    results_close(&w.out);
    oracle_free(w.oracle);
    eval_free(w.eval);
    for (int s = 0; s < w.n_seeds; s++)
        for (int k = 0; k < w.n_targets; k++) {
            free(w.targets[s][k].dense);
            eval_task_close(&w.targets[s][k].task);
            eval_text_close(&w.targets[s][k].text);
        }
    for (int i = 0; i < w.n_series; i++) free((void *)w.series[i].path);
    free(w.targets);
    free(w.series);
    free(w.sparsity);
    free(w.seed);
    free(w.task);
    free(name);
    tok_close(w.tok);
    opt_free(&w.model);
    stdout_end();
    return 0;
}
