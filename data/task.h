// task - the seven few-shot tasks of ShadowLLM (piqa copa openbookqa winogrande rte hellaswag arc_easy): rows from the
// files as their authors and as the hub's JSON-lines export publish them, prompts as METHOD 3.1 to 3.4, splits,
// few-shot prefixes.
#pragma once
#include "base.h"
#include "doc_part.h"
#include "mode.h"
#include "tok.h"

enum { TASK_MAX_CHOICES = 5 };

typedef struct {
    char *id;                         // the row's own id, or "<split>/<row>"
    int n_choices, gold;              // gold -1: the split has no labels
    char *context[TASK_MAX_CHOICES];  // text before the candidate; the same pointer for all but winogrande
    char *choice[TASK_MAX_CHOICES];   // candidate with its leading space, as scored in evaluation
    char *gold_compat;                // the gold continuation as the published trace extraction writes it (METHOD 4.1)
} task_doc;

typedef struct {
    const char *name;  // of the table in task.c
    char *split;       // "train", "val", "test"
    char *file;        // the file(s) read, for provenance
    task_doc *docs;
    int n;
    bool labelled;
    char hash[33];  // of the file(s), whatever the part
    doc_part part;  // what docs are of them
} task_split;

// The seven names, NULL-terminated, in the order of METHOD 3.1.
extern const char *const split_names[];  // "train", "val", "test", NULL
extern const char *const task_names[];
enum { TASK_COUNT = 7 };
// Marks the tasks of a comma-separated list ("all": every one) in take[], which starts false. Their number, or -1 and
// err_set with the valid names.
int task_select(const char *list, bool take[TASK_COUNT]);
// Reads DIR/<name>/ ; want: "train", "val", "test", or NULL: for_score ? first of train, val, test with labels
// : the published split of METHOD 3.1 if it has labels, else val, else test, else train with a warning on stderr
// (METHOD 3.2). A malformed row: -1 and "file:line: field: what". task_close is safe on {0}.
int task_open(task_split *s, const char *dir, const char *name, const char *want, bool for_score);
void task_close(task_split *s);
// Keeps the documents of one part, with their ids, in the order of the file. 0, or -1 and err_set: it has none.
int task_keep_part(task_split *s, doc_part p);
bool task_there(const char *dir, const char *name);                      // any split of it has a file
bool task_exists(const char *dir, const char *name, const char *split);  // that split has a file, whatever is in it
// The split that few-shot examples of `target` come from: train, read into *s, if it is there with labels, else the
// target itself (then *s stays {0}). For a target that is a part, the same part of it: no prefix shows a document of
// another part. Close *s in either case. NULL and err_set if train is there but malformed, or that part of it empty.
const task_split *task_pool_open(task_split *s, const char *dir, const task_split *target);
// For tests and fuzzing: parse one file's bytes (and the labels file's, or NULL) of a task.
int task_parse(task_split *s, const char *name, const char *bytes, size_t n, const char *labels, size_t n_labels,
               const char *path);

// The order in which documents are used for --examples/--limit: a seeded permutation of 0..n-1 (a larger number extends
// a smaller one). Caller frees.
int32_t *task_order(const task_split *s, uint64_t seed);

// The few-shot examples of document `doc` of `target`, in their order: k > 0 documents of `pool` (train, else the
// target itself), without replacement, keyed by (seed, task, doc); sound leaves out the document itself and any with
// the same context and gold text. NULL and err_set if the pool is too small. Caller frees.
int32_t *task_shots(const task_split *pool, const task_split *target, int doc, int k, uint64_t seed, mode_kind mode);
// The few-shot prefix ("" for k = 0): their blocks of context + gold with its leading space, joined by blank lines,
// with a blank line at the end. NULL and err_set as task_shots. Caller frees.
char *task_prefix(const task_split *pool, const task_split *target, int doc, int k, uint64_t seed, mode_kind mode);
// Marks what the example of `doc` shows: itself in seen [target->n], its few-shot examples in pool_seen [pool->n] (the
// same array where the pool is the target). 0, or -1 and err_set as task_shots.
int task_mark(bool *seen, bool *pool_seen, const task_split *pool, const task_split *target, int doc, int k,
              uint64_t seed, mode_kind mode);

// One text with its tokens: context (prefix included) and one continuation, tokenised apart.
typedef struct {
    int32_t *tokens;
    int n, context_length;
} task_example;
// choice < 0: the gold one; compat: the published text of the gold continuation. -1 and err_set on a tokenizer failure
// or when context or continuation is empty.
int task_encode(task_example *e, const tok *t, const task_doc *d, int choice, const char *prefix, mode_kind mode);
