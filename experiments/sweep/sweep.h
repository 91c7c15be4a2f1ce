// sweep - what the parts of bin/sweep share: options, what is measured and compared, rows. sweep_main.c reads options
// and sets up, sweep_points.c runs points, sweep_rows.c writes them.
#pragma once
#include "eval.h"
#include "parts.h"
#include "registry.h"
#include "results.h"

// Columns in the order of the specification, then what else belongs to a row's key. 1: part of the key. pruned_*: units
// that did not run, summed over scored positions; effective_*: the same as a fraction (of a mean over tasks: the mean
// of theirs).
// clang-format off
#define COLUMNS(X)                                                                                                    \
    X(mode, 1) X(model, 1) X(task, 1) X(split, 1) X(metric, 1) X(value, 0) X(stderr, 0) X(n, 0) X(mask, 1)            \
    X(criterion, 1) X(design, 1) X(target, 1) X(scope, 1) X(units, 1) X(sparsity, 1) X(dense_layers, 1)               \
    X(effective_heads, 0) X(effective_neurons, 0) X(aggregate, 1) X(mask_span, 1) X(refresh, 1) X(shots, 1)           \
    X(limit, 1) X(seed, 1) X(bos, 1) X(part, 1) X(allow_overlap, 1) X(over_long, 1) X(token_windows, 1)               \
    X(uses_label, 1) X(pruned_heads, 0) X(pruned_neurons, 0) X(local_counts, 1) X(lag, 1) X(hidden, 1)                \
    X(features, 1) X(model_hash, 1) X(tokenizer_hash, 1) X(data_hash, 1) X(scores_hash, 1) X(code, 1)
// clang-format on
#define X(name, key) COL_##name,
enum { COLUMNS(X) N_COLUMNS };
#undef X
extern const results_column sweep_columns[N_COLUMNS];

enum { MAX_TARGETS = TASK_COUNT + 2, HASH_DIGITS = 12, FIELD = 256, ORACLE_TOKENS = 2048 };

typedef struct {
    char *model, *data, *tasks, *wikitext, *mask, *scores, *criterion, *predictor, *scope, *local_counts, *units,
        *sparsity, *mask_span, *aggregate, *split, *seed, *over_long, *token_windows, *mode, *details, *out, *device,
        *activations;
    long dense_layers, refresh, shots, limit, threads;
    bool bos, list, estimate, allow_overlap;
    char *part;  // i/n
} sweep_options;

// What is measured: a task, or a text in one of its forms. dense: the log-likelihoods under no mask, once known;
// scores_hash: of the scores, predictor or mask file that the series at work has for it.
typedef struct {
    const char *name;
    eval_task task;
    eval_text text;
    bool is_text;
    double *dense;
    char scores_hash[33];
} target;

// What is compared: a kind of mask and, for static and contextual ones, a criterion. path: of the mask or predictor
// file; {seed} in it stands for the seed. pooled: static scores of a task are those over all tasks, not its own.
typedef struct {
    const char *kind;
    const criterion *crit;
    const char *path;
    unsigned units;
    bool pooled;
} series;

typedef struct {
    const sweep_options *o;
    model model;
    char *model_name;
    tok *tok;
    eval *eval;
    oracle *oracle;
    results out;
    details details;
    bool compat, all_criteria, both_aggregates;
    mask_counts counts;  // of local scopes
    unsigned units;
    mask_span span;  // of contextual masks
    int after;       // mask_source.after of the others
    series *series;
    int n_series;
    mask_scope scope[3];
    int n_scopes;
    long *sparsity;
    int n_sparsities;
    uint64_t *seed;
    int n_seeds;
    doc_part part;  // of documents and pages
    const char **task;
    int n_tasks;
    target (*targets)[MAX_TARGETS];  // [n_seeds]
    int n_targets;
    // one pass over all points, first to count, then to run
    bool counting;
    // several processes: first each runs its share of the points into parts, then process 0 makes the rows
    int rank, ranks;
    parts parts;
    bool sharing;
    long point, group;  // numbers of the point, and of its series on a target, in the pass
    long rows_present, rows_missing;
    // a token of a compacted model counts as the share of the dense one that is left of it
    double tokens_missing, tokens_done;
    double token_share;  // that share at the point in work
    progress bar;
} sweep;

// about: of the predictor of a contextual series, else NULL.
typedef struct {
    const series *s;
    mask_rule rule;
    int seed;
    const predictor_info *about;
} point;

// Of a point on a target.
typedef struct {
    eval_metric m[2];
    eval_counts counts;
    double effective[2];
    bool done;
} outcome;

static inline bool series_is(const series *s, const char *kind) { return strcmp(s->kind, kind) == 0; }
static inline bool series_has_rule(const series *s) { return !series_is(s, "none") && !series_is(s, "file"); }
// Which aggregate a series takes its static scores from: on text, which has none of its own, those over all tasks.
static inline const char *sweep_aggregate(const series *s, const target *t) {
    return t->is_text || s->pooled ? "all" : t->name;
}

// sweep_points.c: runs every point that has no rows yet, or counts them.
void sweep_visit(sweep *w, bool counting);
void sweep_count(sweep *w);  // rows_present, rows_missing, tokens_missing of the file as read last
const eval_item *sweep_items(const target *t, int *n);
char *sweep_predictor_path(const char *name, uint64_t seed);  // {seed} replaced; caller frees

// sweep_overlap.c: whether scores (static masks) or predictors (contextual ones) have seen a document that is
// evaluated, or one of its few-shot examples (documents.h). 0, or -1 and err_set, which says how many; with
// --allow-overlap a warning instead. Files that do not say what they have seen are warned of.
int sweep_overlap(const sweep *w);

// sweep_share.c: the points of a sweep that several processes share. Runs this process' share, and in process 0 waits
// for the others; 0, or -1 and err_set. Then process 0 continues with sweep_visit, which takes what is shared
// (sweep_shared) and runs what is missing.
int sweep_share(sweep *w, const char *plan);
// of process 0 of several, before the model is read: leader_begin
int sweep_lead(const sweep *w);
bool sweep_shares(const sweep *w, const char *plan);  // several processes, or what is left of them
void sweep_share_end(sweep *w);                       // removes the parts
// of process 0 that shared nothing: removes what a run killed at its end has left
void sweep_share_rest(const sweep *w, const char *plan);
bool sweep_mine(const sweep *w, long number);
void sweep_put(sweep *w, long at, uint64_t key, const double *ll, int n, const eval_counts *counts);
bool sweep_shared(sweep *w, long at, uint64_t key, double *ll, int n, eval_counts *counts);  // ll NULL: is it there?

// sweep_rows.c. A row of a point on a target, first without metric and value.
typedef struct {
    char text[N_COLUMNS][FIELD];
    const char *field[N_COLUMNS];
} row;
void row_options(row *r, const sweep *w, const point *p);
void row_target(row *r, const sweep *w, const point *p, const target *t);
int target_metric_names(const target *t, const char *name[2]);
// True when every row of the point is there; its values are then read back from them.
bool row_present(const sweep *w, row *r, const target *t, outcome *o);
uint64_t row_key(const sweep *w, row *r, const target *t);  // of its first metric
// Metrics from log-likelihoods, rows and details.
void sweep_finish(sweep *w, row *r, const target *t, const double *ll, uint64_t seed, outcome *o);
// The rows of a point's mean over the tasks, once all of them are done. o: the point's outcome on task k is o[k *
// stride].
void sweep_means(sweep *w, const point *p, const target *t, const outcome *o, int stride);
