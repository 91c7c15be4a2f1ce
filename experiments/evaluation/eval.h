// eval - quality of a model under a mask source: accuracy of the tasks, perplexity of a text (METHOD 3, 7).
//
// Both are lists of items. An item is what runs under one mask: the candidates of a document, which share the leading
// tokens of their contexts (run once, kept as K and V), or one window of text. Items are tokenised once and evaluated
// many times. Log-probabilities come from fp32 logits and are summed in double.
#pragma once
#include "contextual.h"
#include "harness.h"
#include "task.h"
#include "tok_model.h"
#include "wikitext.h"

typedef struct {
    int n_seqs, gold;  // gold: the sequence whose loss the oracle may look at
    int shared;        // leading tokens that all sequences have in common and that score nothing
    bool window;       // of running text
    struct {
        const int32_t *tokens;  // [n + 1]: n inputs, and the target of the last one
        int n, from;            // the inputs from..n-1 have a target that is scored: the token after it
    } seq[TASK_MAX_CHOICES];
} eval_item;

// A text that has been read, whatever it was read from: a pipe is read once.
typedef struct {
    const char *path;  // for messages
    char *text;
    size_t bytes;
} text_file;

// ---------------------------------------------------------------- tasks
typedef struct {
    const char *data, *split;  // split NULL: as METHOD 3.2 chooses
    int shots;
    long limit;       // documents per task, pages of a text; 0: all
    long page_words;  // of each page of a text, from its beginning; 0: all
    doc_part part;    // of the documents and of the pages
    uint64_t seed;
    mode_kind mode;
    harness_kind harness;
    bos_choice bos;
    over_long over;  // cut: positions + 1 tokens stay (harness_cut)
} eval_options;

typedef struct {
    const char *name;
    task_split split, pool;  // pool: where few-shot documents come from, empty when shots are 0
    eval_item *item;
    int32_t *doc;   // index into split.docs of each item
    char **prefix;  // few-shot text of each item
    int n, skipped, cut;
    char hash[33];  // of the files read
} eval_task;

// Reads, chooses and tokenises. Documents longer than the model's positions: as o->over says; with OVER_LONG_STOP -1
// and their number.
int eval_task_open(eval_task *t, const char *name, const eval_options *o, const tok *tk, const model_config *c);
void eval_task_close(eval_task *t);  // safe on {0}

// The pairs of texts in a file of JSON lines, tokenised as today's harness does (harness_encode_pair): items of one
// sequence; split, doc and prefix stay empty. -1 and err_set, which names the line of a bad row.
int eval_requests_open(eval_task *t, const text_file *from, const eval_options *o, const tok *tk,
                       const model_config *c);

// ---------------------------------------------------------------- texts
// word and byte perplexity; token perplexity, both definitions
typedef enum { TEXT_PAGES, TEXT_DISJOINT, TEXT_GPTQ } text_kind;
typedef struct {
    text_kind kind;
    eval_item *item;  // windows
    int *group;       // page of each (TEXT_PAGES) or itself: what the bootstrap draws
    int n, n_groups;
    struct {
        long page, words, bytes, tokens;
    } * count;        // [n_groups]; page: its number in the file, from 0
    int32_t *tokens;  // one block, all streams
    char hash[33];
} eval_text;

// With some pages only (a limit, a part), token perplexity is that of the text which they make in the order of the
// file.
int eval_text_open(eval_text *t, const text_file *from, text_kind kind, const eval_options *o, const tok *tk,
                   const model_config *c);
void eval_text_close(eval_text *t);  // safe on {0}

// ---------------------------------------------------------------- running
typedef struct eval eval;
// tick, or NULL: told the tokens run since the last call.
eval *eval_new(const model *m, mode_kind mode, void (*tick)(void *ctx, double tokens), void *ctx);
void eval_free(eval *e);
// From now on ll[rule][item * TASK_MAX_CHOICES + EVAL_MISSES] of items with one sequence is increased by the number of
// scored tokens that are not the most probable ones: 0, if it was 0, where greedy decoding would write them all.
enum { EVAL_MISSES = 1 };
void eval_ask_misses(eval *e);
bool eval_asks_misses(const eval *e);

// How much was pruned: heads and neurons (UNIT_HEADS, UNIT_NEURONS) that did not run, summed over scored positions, and
// those positions. Integers, so that two masks can be told to have lost exactly as much.
typedef struct {
    long pruned[UNIT_KINDS], positions;
} eval_counts;
// The fraction of a kind's units that did not run, averaged over scored positions.
double eval_effective(const eval_counts *n, const model_config *c, unit_kind kind);

// Log-likelihoods of n items under n_rules masks (a fixed source has one, and needs no rule): ll[rule][item *
// TASK_MAX_CHOICES + sequence]; counts[rule].
int eval_run(eval *e, const eval_item *item, int n, const mask_source *source, const mask_rule *rule, int n_rules,
             double **ll, eval_counts *counts);
// Tokens that pass through the model for this, the source's own apart.
double eval_tokens(const eval_item *item, int n);
// The same for n_rules contextual masks at once.
double eval_context_tokens(const eval_item *item, int n, const contextual_source *source, int n_rules);

// error NaN: undefined (one document, one page)
typedef struct {
    const char *name;
    double value, error;
    long n;
} eval_metric;
enum { EVAL_METRICS = 3 };                                      // of a task; of a text fewer
extern const char *const eval_task_metric_names[EVAL_METRICS];  // acc, acc_bytes, acc_norm (METHOD 7.1)
void eval_task_metrics(eval_metric out[EVAL_METRICS], const eval_task *t, const double *ll);
int eval_text_metrics(eval_metric out[2], const eval_text *t, const double *ll, uint64_t seed);  // their number, 1 or 2
// Arithmetic and geometric mean over tasks, with the error that those of the tasks give.
eval_metric eval_mean(const char *name, const eval_metric *m, int n, bool geometric);

// JSON lines, one per document or page (TEXT_PAGES only), each beginning with `head` (an open object: {"row":"...",).
void eval_task_details(FILE *f, const char *head, const eval_task *t, const double *ll);
void eval_text_details(FILE *f, const char *head, const eval_text *t, const double *ll);
