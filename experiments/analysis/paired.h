// paired - two kinds of masks on the same documents: the details of bin/sweep, the pairs of configurations that may be
// compared, and the bootstrap over documents that says what their differences are worth.
//
// A configuration is one mask as the sweep ran it, on the tasks or on the text; its fields are those of the lines. Two
// configurations are a pair when chosen fields agree and both prune the same number of heads x positions and of
// neurons x positions, so that no difference of masks is one of counts. An outcome is a mean over tasks of
//     sum_d w_d value_d / sum_d w_d size_d       over the documents d of the task,
// with weights w_d = 1, or, in a draw of the bootstrap, how often d was drawn (Efron & Tibshirani 1993, ch. 13 and 16).
#pragma once
#include <stdbool.h>
#include <stdint.h>

// Value and size of a document: right or wrong, and 1; log-likelihood of the gold candidate, and its bytes;
// log-likelihood of a page, and its words. More is better in each.
enum { PAIRED_ACC, PAIRED_GOLD, PAIRED_TEXT, PAIRED_OUTCOMES };
enum { PAIRED_FIELDS = 18, PAIRED_SEED = 16 };
extern const char *const paired_field_name[PAIRED_FIELDS];
// Index of a field; -1 and err_set with the list of fields.
int paired_field(const char *name);

typedef struct {
    char *task, *id;
    int task_begin;  // first document of its task
    double size[PAIRED_OUTCOMES];
} paired_document;
// Units pruned x scored positions, over the documents of one row of the sweep.
typedef struct {
    char *task;
    long long heads, neurons;
} paired_total;
typedef struct {
    char *field[PAIRED_FIELDS];
    bool text;            // on the pages of the text; else on the tasks
    paired_total *total;  // [n_totals], one for each task
    int n_totals, cap_totals;
    double *value[PAIRED_OUTCOMES];  // [document]; NAN: not seen. NULL: not an outcome of tasks (of text)
    int view;
} paired_config;
// The documents that a configuration saw, in order, and where each task of them ends.
typedef struct {
    int *document, n, *task_end, n_tasks;
} paired_view;

typedef struct {
    paired_config *config;
    paired_document *document;  // sorted by task and id
    paired_view *view;
    int n_configs, n_documents, n_views;
} paired;

// Which prediction of a document counts: that of the log-likelihoods, of those per byte, of those per character.
typedef enum { ACCURACY, ACCURACY_BYTES, ACCURACY_NORM } paired_accuracy;
// Reads n files of details. Lines of earlier versions, without prediction_bytes, have the one per byte as
// prediction_norm and none per character. 0, or -1 and err_set; the caller frees either way.
int paired_read(paired *p, char *const *path, int n, paired_accuracy which);
void paired_free(paired *p);

// ---------------------------------------------------------------- pairs
typedef struct {
    int n, field[PAIRED_FIELDS];
    char *value[PAIRED_FIELDS];
} paired_selection;
// Adds field = value; -1 and err_set if there is no such field or it is there already.
int paired_select(paired_selection *s, const char *field, const char *value);
void paired_selection_free(paired_selection *s);
typedef struct {
    int n, field[PAIRED_FIELDS];
} paired_match;
int paired_match_add(paired_match *m, const char *field);

typedef struct {
    int a, b;
} paired_pair;  // configurations
// Both by sparsity; left_out: pairs whose totals differ.
typedef struct {
    paired_pair *pair, *left_out;
    int n, n_left_out;
} paired_list;
// Pairs of the configurations that a and b select, on the text or on the tasks. Fields that a or b name need not agree;
// sparsity 0 on both sides is no pair; on text the field aggregate is ignored, because static masks always take that of
// all tasks there. -1 and err_set where two configurations could take one place in a pair, or where the two of a pair
// saw different documents. The caller frees the list either way.
int paired_pairs(paired_list *list, const paired *p, const paired_selection *a, const paired_selection *b,
                 const paired_match *match, bool text);
void paired_list_free(paired_list *list);
const char *paired_sparsity(const paired *p, paired_pair pair);  // that of a

// ---------------------------------------------------------------- resampling
// The mean of some pairs in one outcome. Effects are a - b, so that more than 0 speaks for a.
typedef struct {
    const paired_pair *pair;  // [n], n > 0
    int n, outcome;
    double a, b, effect;         // of all documents, means over the pairs
    double seed_low, seed_high;  // least and greatest mean effect of the pairs of one seed
    int documents, fewest;       // seen by any of the pairs; of the task that has fewest
    const char *fewest_task;
    double low, high, error, p;  // 95 % percentile interval, standard error, two-sided p
} paired_cell;
// Fills in what all documents say: a to fewest_task.
void paired_measure(const paired *p, paired_cell *c);
// Fills in low to p of n cells. Each draw takes as many documents of each task (and pages) as there are, with
// replacement, whatever seed saw them; one draw serves all cells. Draw i depends on seed and i alone, so that the
// number of threads changes nothing. At least 10 documents of each task in every cell are wanted.
//     p = 2 min(1 + #{effect <= 0}, 1 + #{effect >= 0}) / (draws + 1), at most 1
void paired_resample(const paired *p, paired_cell *const *cell, int n, long draws, uint64_t seed);
