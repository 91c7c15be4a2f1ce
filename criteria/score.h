// score - what bin/score does between its options and the finished store: choose the examples, see what a store already
// holds, run what is missing through the probe into part files, merge. Stages: score_examples.c,
// score_plan.c, score_run.c, score_merge.c; glue in score_main.c.
//
// A field is one dataset with a row per example (or for the first examples of each task only: exact removal of neurons,
// which costs a forward pass per unit). What an example lacks depends on its class alone: whether the old store has it,
// and whether it wants or has those partial fields. A record of a part file is the missing fields of one example in
// field order, then its side rows: per position that a task-level criterion asks for da [L, E], x [L, E], active [L,
// F].
#pragma once
#include "device.h"
#include "harness.h"
#include "parts.h"
#include "probe.h"
#include "store.h"
#include "task.h"
#include "task_stage.h"

typedef struct {
    const char *model, *data, *tasks, *criteria, *out, *split, *part;
    int modes;  // bits 1 << mode_kind
    over_long over;
    dtype store_type;  // DT_F32 or DT_F16
    enum { RECOMPUTE_AUTO, RECOMPUTE_ON, RECOMPUTE_OFF } recompute;
    long shots, examples, seed, removal_neurons, batch_tokens;
    harness_kind harness;
    bos_choice bos;
    bool list, estimate;
    int weights;  // a dtype, or -1
    device_options device;
} score_options;

// FIELD_MOMENTS: of the parts alone (probe_result.moments); in the store they are pooled, by task
typedef enum { FIELD_LOSS, FIELD_MOMENTS, FIELD_FEATURE, FIELD_SCORE } field_kind;
typedef struct {
    field_kind kind;
    mode_kind mode;
    int what;        // feature or index into crit
    unit_kind unit;  // of a score
    bool some;       // only for the first examples of each task
    bool old;        // the old store has this dataset
    int U;           // numbers per layer; the loss is one double
    // of moments the group of the columns' norms, which a store has that has pooled any
    char *dataset;
} score_field;

enum { CLASS_NEW = 1, CLASS_WANTS_SOME = 2, CLASS_HAS_SOME = 4, CLASSES = 8 };

typedef struct {
    const char *name;
    task_split split, own_pool;
    const task_split *pool;  // of few-shot examples
    bool *seen, *pool_seen;  // documents of split, of pool that the examples show (task_mark); NULL: not asked
    bool asked;
    char *attr[4];        // split, files, hash, pool hash
    int considered;       // examples of the seeded order, over-long ones included
    int first, n, n_old;  // rows of the store; how many of them the old store has
    int skipped, cut;
} score_task;

typedef struct {  // a task-level criterion over one task
    int task, crit;
    mode_kind mode;
    task_row *row;  // n of them, as the stage asked; NULL: no such score, see why, or pooled
    int n;
    const char *why;
    bool copy;   // the old store's holds
    char *said;  // copy: why the old store has none
} score_stage;

typedef struct {
    const char *key;
    char *value;
    bool number;
} score_attr;
typedef struct {
    int row, n;
    int class;
} score_batch;  // rows order[row .. row + n)

typedef struct {
    score_options o;
    model *model;
    tok *tok;
    harness harness;
    const criterion **crit;
    int n_crit;
    bool mode[MODES];  // which sets of formulas
    mode_kind texts;   // of the examples
    bool recompute;
    uint64_t seed;
    doc_part part;  // of the documents
    int removal_neurons, threads;
    score_attr *attr;  // what another run into the same store must share
    int n_attr, cap_attr;
    store *old;          // NULL: none
    int64_t *old_index;  // old rows that have the partial fields, ascending
    int n_old_index;
    score_task *task;
    int n_task;
    store_examples ex;  // all rows of the finished store
    int64_t *old_row;   // [n] row in the old store, or -1
    uint8_t *class;     // [n]
    score_field *field;
    int n_field, cap_field;
    score_stage *stage;
    int n_stage, cap_stage;
    int *side_first, *side;  // [n + 1]; positions, sorted, of row i: side[side_first[i] .. side_first[i+1])
    int *order;              // rows with something missing, by class
    int n_order;
    score_batch *batch;
    int n_batch, cap_batch, max_tokens, most_side, most_rows;  // most_*: in a batch
    char *plan_text, *base_text;
} score_job;
// Scores of few rows are those of exact removal: they stay in fp32, as the truth that others are measured against.
static inline bool score_in_16_bits(const score_job *j, const score_field *f) {
    return j->o.store_type == DT_F16 && f->kind == FIELD_SCORE && !f->some;
}

// score_plan.c. All return 0, or -1 and err_set.
int score_plan(score_job *j);
int score_choose_examples(score_job *j);  // score_examples.c, part of it: tasks, ex, old_row
// its second half, where examples and tasks are given: fields, classes, side rows, batches
int score_plan_rows(score_job *j);
void score_free(score_job *j);
char *score_stage_group(const score_job *j, const score_stage *s);  // caller frees
int score_put_stage_none(const score_job *j, store *to, const score_stage *s, const char *why);
bool score_missing(const score_job *j, int class, const score_field *f);
size_t score_field_bytes(const score_job *j, const score_field *f);
// Units of every layer that the rows of a field hold; NULL: all.
static inline const int *score_units(const score_job *j, const score_field *f) {
    return f->kind == FIELD_SCORE ? model_units_left(&j->model->c, f->unit) : NULL;
}
size_t score_field_at(const score_job *j, int class, const score_field *f);  // first byte in a record
size_t score_side_bytes(const score_job *j);                                 // of one side row
size_t score_record_bytes(const score_job *j, int row);                      // what a part file holds for a row
// index[i]: of plan's criterion i in j->crit
void score_probe_plan(const score_job *j, int class, probe_plan *plan, int *index);

// score_run.c
// disk: of the finished store; other: with recomputed activations if they are kept, and the other way round
typedef struct {
    double seconds, disk, parts, memory, other_memory;
} score_cost;
// Whether activations are recomputed: as asked, or where those of the classes seen have no room otherwise. 0, or -1 and
// err_set.
int score_choose_recompute(score_job *j, const bool seen[CLASSES]);
int score_estimate(score_job *j, score_cost *cost);
void score_print_cost(const score_job *j, const score_cost *cost);
// Rows of a dataset for store_put_rows: from part files, or from a batch in memory.
typedef struct {
    const score_job *j;
    const score_field *field;
    parts *p;
    const int *row;          // [n] the store's row of the dataset's row i; NULL: the same
    const uint8_t *payload;  // of a batch, where p is NULL
    const parts_record *record;
    double rho, rho_least, overlap, overlap_least;  // of 16-bit rows to the exact ones: sums, lowest
    long rows;
} score_source;
int score_source_row(void *source, long i, float *out);
int score_run(score_job *j, parts *p, int rank, int ranks);
// One batch into a part file. {0} is a fresh engine; it holds the probe of the class of the last batch.
typedef struct {
    probe *probe;
    probe_plan plan;
    int class, *index;  // plan's criterion i is j->crit[index[i]]
} score_engine;
int score_step(score_job *j, score_engine *e, int batch, parts *p);
void score_engine_free(score_engine *e);
int score_task_stage(const score_job *j, const score_stage *s, parts *p, float *heads, float *neurons);

// score_merge.c
int score_merge(score_job *j, parts *p, const char *command);
