// train - what bin/train does between its options and the finished predictor file: choose criteria and parts of the
// examples, stream features and targets to scratch, fit the nets of one criterion after the other, measure them on the
// test part, write. Stages: train_plan.c, train_run.c, train_report.c; glue in train_main.c.
//
// While a run lasts, OUT.work holds its plan (settings, one key=value a line), the states of nets in work (fit.h) and
// one finished HDF5 file per criterion; the same command resumes from there. The end merges the criteria into OUT, with
// those that OUT holds already.
#pragma once
#include "fit.h"
#include "nets.h"
#include "quality.h"
#include "stats.h"
#include "target.h"

#define PREDICTIONS_FORMAT "opt unit predictions 1"  // of --predictions

typedef struct {
    const char *store, *model, *criterion, *predictions, *out, *curve, *metrics, *device;
    predictor_design design;
    int target, features;  // TARGET_*, FEATURES_*; -1: the design's own
    mode_kind mode;
    long hidden, seed, epochs, batch, early_stop, dense_layers, threads;
    double lr, valid, test, top, save_every;
    bool estimate;
} train_options;
enum { TARGET_GLOBAL, TARGET_LAYER };
enum { FEATURES_SAME, FEATURES_AHEAD };

// What predicts: the nets; the mean target of all training examples; that of the training examples of the example's own
// task; the l2 norm of the layer's input. train_by: their names in files, in this order.
enum { BY_PREDICTOR, BY_STATIC, BY_TASK, BY_NORM, BY_ALL };
enum { OVER_STATIC, OVER_TASK, GAINS };  // the baselines that a gain is over: BY_STATIC + i
extern const char *const train_by[BY_ALL];

typedef struct {          // one kind of unit of one criterion
    plane target, label;  // [L, U] normalised; label: what dejavu-lowrank learns; else unused
    // [L, U] mean target of the training part; [n_tasks, L, U] the same of each task, or of all where a task has no
    // training examples
    double *mean, *task_mean;
    double *positive;  // [L] fraction of its labels that are 1
    quality q[BY_ALL];
    // paired difference of the nets' rho to the baseline's, per test example: joint, within layers
    stats_moments gain[GAINS][2];
} train_kind;

typedef struct {
    train_options o;
    const ops *device;  // where nets are trained; the sequence design's embeddings are there too
    model m;
    store *in;
    store_examples ex;
    char **criteria;          // in order of name
    bool (*has)[UNIT_KINDS];  // [n_criteria] scores of every example for heads, neurons
    int n_criteria;
    predictor_info about;      // but for has, criterion, hash
    const char *feature_name;  // "same", "ahead", or what the other designs read
    int epochs[UNIT_KINDS], batch[UNIT_KINDS];
    // rows of the store by part, ascending within a part: train, valid, test of heads, of neurons
    int *row[UNIT_KINDS], n_row[UNIT_KINDS][3];
    int *task, n_tasks;          // [ex.n] the task of each row, numbered in the order of the store
    int *task_rows[UNIT_KINDS];  // [n_tasks] training rows of each task: of heads, of neurons
    scratch features, targets;
    // normalised, of the states that the design reads: [L, E], or [E] of the layer that it reads
    plane x[STATE_KINDS];
    plane norm[UNIT_KINDS];  // [N] of L: l2 norm of what heads, what neurons read
    train_kind kind[UNIT_KINDS];
    char *settings, *work, *command;
    long trained;  // examples that nets were trained on in this run, and the seconds of it
    double train_s;
} train_job;

static inline const int *train_rows(const train_job *j, unit_kind kind, split_part p) {
    return j->row[kind] + (p > PART_TRAIN ? j->n_row[kind][0] : 0) + (p > PART_VALID ? j->n_row[kind][1] : 0);
}

// [L] how many units the layers of a compacted model have; NULL: H or F each.
static inline const int *train_units(const train_job *j, unit_kind kind) { return model_units_left(&j->m.c, kind); }

// train_plan.c. All return 0, or -1 and err_set.
int train_without_task(const train_job *j, unit_kind kind);  // test examples whose task has no training examples
int train_plan(train_job *j);
int train_features(train_job *j);                // streams the features to scratch
int train_targets(train_job *j, int criterion);  // and one criterion's scores
void train_free(train_job *j);
// a finished file that holds it, by these settings
bool train_done(const train_job *j, const char *path, const char *criterion);

// train_run.c
int train_estimate(train_job *j, int criterion, double *seconds);  // of this criterion, whose targets are there
int train_criterion(train_job *j, int criterion, void (*tick)(void *, long), void *ctx);
long train_steps(const train_job *j, int criterion);
// memory of the device that its largest net takes in training
double train_bytes(const train_job *j, int criterion);
int train_merge(train_job *j);

// train_report.c
// at most so many test examples; fills kind[].q
int train_measure(train_job *j, predictor *p, int most, double *seconds);
int train_put_quality(const train_job *j, store *s, const predictor *p);
void train_print_head(const train_job *j);
int train_print_row(const train_job *j, const store *s, const char *criterion);
int train_predictions(train_job *j, const store *out);
int train_curve(const train_job *j, const store *out);
int train_metrics(const train_job *j, const store *out);
