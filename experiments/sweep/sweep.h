// sweep - what the parts of bin/sweep share: options, what is measured and compared, points. sweep_options.c has the
// options, sweep_series.c makes of them what is compared; sweep_main.c sets up; sweep_list.c lists all points, once,
// and says which have rows and what the others cost; sweep_share.c chooses those of one process; sweep_run.c runs what
// is chosen; sweep_rows.c makes rows of it. All of these functions but those of sweep_main.c return errors: 0, or -1
// and err_set.
#pragma once
#include "device.h"
#include "eval.h"
#include "mask_options.h"
#include "parts.h"
#include "reference.h"
#include "registry.h"
#include "results.h"
#include "threshold.h"

// Columns in the order of the specification, then what else belongs to a row's key, then later ones. The numbers are
// RESULTS_MEASURED, RESULTS_KEY, RESULTS_LATER. pruned_*: units
// that did not run, summed over scored positions; effective_*: the same as a fraction (of a mean over tasks: the mean
// of theirs).
// clang-format off
#define COLUMNS(X)                                                                                                    \
    X(mode, 1) X(model, 1) X(task, 1) X(split, 1) X(metric, 1) X(value, 0) X(stderr, 0) X(n, 0) X(mask, 1)            \
    X(criterion, 1) X(design, 1) X(target, 1) X(scope, 1) X(units, 1) X(sparsity, 1) X(dense_layers, 1)               \
    X(effective_heads, 0) X(effective_neurons, 0) X(aggregate, 1) X(mask_span, 1) X(refresh, 1) X(shots, 1)           \
    X(limit, 1) X(seed, 1) X(bos, 1) X(part, 1) X(allow_overlap, 1) X(over_long, 1) X(token_windows, 1)               \
    X(uses_label, 1) X(pruned_heads, 0) X(pruned_neurons, 0) X(local_counts, 1) X(lag, 1) X(hidden, 1)                \
    X(features, 1) X(model_hash, 1) X(tokenizer_hash, 1) X(data_hash, 1) X(scores_hash, 1) X(code, 1)                 \
    X(standardised, 2) X(ablate, 2) X(calibration_tokens, 2) X(group_heads, 2) X(page_words, 2) X(harness, 2)
// clang-format on
#define X(name, key) COL_##name,
enum { COLUMNS(X) N_COLUMNS };
#undef X
extern const results_column sweep_columns[N_COLUMNS];

enum { MAX_TARGETS = TASK_COUNT + 2, HASH_DIGITS = 12, FIELD = 256 };

typedef enum { WINDOWS_DISJOINT, WINDOWS_GPTQ, WINDOWS_NONE } token_windows;  // --token-perplexity

typedef struct {
    char *model, *data, *tasks, *wikitext, *requests, *split, *part, *details, *out;
    cli_list aggregate;  // AGGREGATE_*
    cli_list seed;
    mask_span span;
    over_long over;
    token_windows windows;
    long shots, limit;
    long page_words;
    long pages;  // of the text; PAGES_AS_LIMIT: as many as limit
    harness_kind harness;
    bos_choice bos;
    bool list, estimate, allow_overlap;
    mask_options masks;  // --mask, --criterion and --predictor are lists
    int weights;         // a dtype, or -1
    device_options device;
} sweep_options;
enum { PAGES_AS_LIMIT = -1 };
enum { AGGREGATE_TASK, AGGREGATE_ALL };  // whose static scores a task gets: its own, those over all tasks
extern const char *const token_windows_names[];

// What is measured: a task, or a text in one of its forms. dense: the log-likelihoods under no mask, once known.
typedef struct {
    const char *name;
    eval_task task;
    eval_text text;
    bool is_text;
    double *dense;
} target;

// What is compared: a kind of mask and, for static and contextual ones, a criterion. path: of the mask or predictor
// file; {seed} in it stands for the seed. pooled: static scores of a task are those over all tasks, not its own.
typedef struct {
    mask_kind kind;
    const criterion *crit;
    const char *path;
    unsigned units;
    bool pooled;
} series;

// How log-likelihoods of a point come about: without a mask, once for all points of a target; under a mask of its own;
// or in one pass over the target with the other points of its series, because what costs (a predictor's dense pass, the
// oracle's scores) is the same for all. POINT_LEFT_OUT: the series has nothing to measure on the target.
typedef enum { POINT_LEFT_OUT, POINT_DENSE, POINT_MASKED, POINT_TOGETHER } point_way;
typedef enum { WORK_NONE, WORK_READ, WORK_RUN } point_work;  // READ: another process has left the log-likelihoods

// One mask on one target. The points of a series and seed are neighbours in the list: n_rules of them (the scopes, and
// in each the sparsities) on the first target, as many on the next, and so on.
typedef struct {
    const series *s;
    const predictor_info *about;  // of the predictor of a contextual series, else NULL
    mask_rule rule;
    int seed, target;  // places in sweep.seed, in sweep.targets[seed]
    int n_rules;
    long number, pass;  // its place in the list; the number of its series and seed on its target
    point_way way;
    point_work work;
    char scores_hash[33];  // of the scores, predictor or mask file
    // once its rows are there (done), what they say
    bool done;
    eval_metric m[EVAL_METRICS];
    eval_counts counts;
    double effective[UNIT_KINDS];
} point;

typedef struct {
    const sweep_options *o;
    model model;
    char *model_name;
    char *scored_shots;  // few-shot examples before each scored text of --scores; NULL: it does not say
    tok *tok;
    eval *eval;
    oracle *oracle;
    mask_means means;                  // --ablate mean
    model_means *put_out;              // the same on the device, or NULL
    threshold calibrated[THRESHOLDS];  // of threshold masks
    results out;
    details details;
    mode_kind mode;
    bool bos;  // a token stands before the texts of tasks
    bool all_criteria, both_aggregates;
    unsigned units;
    mask_span span;  // of contextual masks
    int after;       // mask_source.after of the others
    series *series;
    int n_series;
    long *sparsity;
    int n_sparsities;
    uint64_t *seed;
    int n_seeds;
    doc_part part;  // of documents and pages
    const char **task;
    int n_tasks;
    target (*targets)[MAX_TARGETS];  // [n_seeds], tasks first
    text_file text;                  // while they are opened
    int n_targets;
    point *point;
    long n_points;
    predictor_info *about;  // [n_seeds][n_series], of contextual series
    // several processes: first each runs its share of the points into parts, then process 0 makes the rows
    int rank, ranks;
    parts parts;
    // a token of a compacted model counts as the share of the dense one that is left of it
    double tokens_done, token_share;  // that share at the point in work
    progress bar;
} sweep;

// What the thresholds of a series are quantiles of.
static inline const threshold *series_calibrated(const sweep *w, const series *s) {
    return &w->calibrated[threshold_named(s->path)];
}
static inline target *point_target(const sweep *w, const point *p) { return &w->targets[p->seed][p->target]; }
// Which aggregate a series takes its static scores from: on text, which has none of its own, those over all tasks.
static inline const char *series_aggregate(const series *s, const target *t) {
    return t->is_text || s->pooled ? "all" : t->name;
}

// sweep_options.c: the table of options, and w by what it has been given: o, tasks, seeds, series, sparsities. 0, or
// the exit status and err_set: 2, the options are wrong; 1, a file is.
extern const cli_option sweep_table[];
int sweep_options_read(sweep *w);
int sweep_series_choose(sweep *w);  // sweep_series.c, part of it

// sweep_list.c. Lists the points; a series that has no scores for a target is left out of it (said) where all criteria
// were asked for, else an error. The caller frees w->point and w->about.
int list_points(sweep *w);
void list_find_rows(sweep *w);  // sets done of each by w->out
typedef struct {
    long rows_present, rows_missing;
    double tokens_missing;  // that a process of its own would run, in tokens through the dense model
} sweep_size;
sweep_size list_size(const sweep *w);                                     // after list_find_rows
double layers_left(const model_config *c, double heads, double neurons);  // cost of a token, of these fractions left

// sweep_targets.c
int targets_open(sweep *w);  // of every seed
void targets_close(sweep *w);
// --limit or --pages, as a row of a task or a text says it.
long target_limit(const sweep_options *o, bool text);
const eval_item *target_items(const target *t, int *n);
int target_lls(const target *t);                                      // how many log-likelihoods a point has on it
int target_metrics(const target *t, const char *name[EVAL_METRICS]);  // their names and number: a row each

// sweep_requests.c: --requests. Reads them as the one target; runs them under the one mask and writes a line for each,
// to --out once all are there, or to standard output.
int requests_open(sweep *w);
int requests_run(sweep *w);

// sweep_scores.c: scores of random and static masks (caller frees both arrays).
typedef struct {
    double *heads, *neurons;
} unit_scores;
// 0; 1 and err_set: there are none, and other criteria may have some; -1 and err_set. out NULL: only the hash.
int scores_read_static(unit_scores *out, char hash[33], const sweep *w, const series *s, const target *t);
void scores_random(unit_scores *out, const sweep *w, uint64_t seed);
int scores_read_mask(mask *out, char hash[33], const sweep *w, const series *s);
char *predictor_path(const char *name, uint64_t seed);                    // {seed} replaced; caller frees
predictor *predictor_of(const sweep *w, const series *s, uint64_t seed);  // caller closes; NULL and err_set

// sweep_run.c: does what points have to do, in the order of the list. Where their log-likelihoods go: to rows or parts.
typedef struct {
    int (*point)(sweep *w, point *p, const double *ll);
    int (*series)(sweep *w, const point *first);  // after the last point of a series and seed; or NULL
} sweep_sink;
int run_points(sweep *w, const sweep_sink *sink);

// sweep_overlap.c: whether scores (static masks) or predictors (contextual ones) have seen a document that is
// evaluated, or one of its few-shot examples (documents.h). An error says how many; with --allow-overlap a warning
// instead. Files that do not say what they have seen are warned of.
int sweep_overlap(const sweep *w);

// sweep_share.c: the points of a sweep that several processes share.
int share_lead(const sweep *w);                       // of process 0 of several, before the model is read: leader_begin
bool share_exists(const sweep *w, const char *plan);  // several processes, or what is left of them
// Runs this process' share into parts, and in process 0 waits for the others. Then process 0 makes rows.
int share_run(sweep *w, const char *plan);
int share_choose_rest(sweep *w);  // every point without rows is to be read if it has a part, else to be run
int share_read(sweep *w, const point *p, double *ll, eval_counts *counts);  // of a point that has a part
int share_end(sweep *w);                                                    // removes the parts
// of process 0 that shared nothing: removes what a run killed at its end has left
int share_remove_rest(const sweep *w, const char *plan);

// sweep_rows.c
// Whether acc_norm means the same in w->out as here. Files of earlier versions have acc_norm by bytes and no acc_bytes:
// -1 and err_set, so that the two never stand in one file.
int rows_check_norms(const sweep *w);
void rows_find(const sweep *w, point *p);              // done and what the rows say, if all of them are there
uint64_t rows_key(const sweep *w, const point *p);     // of the first one
int rows_write(sweep *w, point *p, const double *ll);  // rows and details; p is done
int rows_write_means(sweep *w, const point *first);    // over the tasks, of every rule of a series once all are done
