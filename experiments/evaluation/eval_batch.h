// eval_batch - what the parts of the evaluation share: the state, K and V cut from one block, sequences collected into
// batches.
#pragma once
#include "eval.h"

enum { BATCH_TOKENS = 2048, BATCH_SEQS = 512, SCORED_ITEMS = 32 };

struct eval {
    const model *m;
    model_run *run;
    int vocab, max_tokens;
    void (*tick)(void *, double);
    void *ctx;
    kv_cache cache[BATCH_SEQS];  // K and V of the shared tokens of items, cut from the block
    float *block[OPS_PARTS];     // of every part of the device
    size_t block_tokens, block_used;
    double *logprob;            // [max_tokens]
    model_seq seq[BATCH_SEQS];  // the batch that is being collected
    double *sum[BATCH_SEQS];    // what the log-probabilities of a sequence's targets are added to; NULL: it has none
    int n_seqs, n_tokens;
    const model_means *means;  // of the masks at work
    const model_above *above;  // thresholds of all sequences, or NULL
    long kept;                 // neurons that were above them, at scored positions
    int32_t *top;              // [max_tokens] the most probable token in place of each target; NULL: not asked
};

// The block becomes empty and holds at least this many tokens' K and V; then caches are cut from it.
void eval_reserve(eval *e, size_t tokens);
kv_cache eval_cut(eval *e, int cap);
// Adds a sequence to the batch, which runs first where it would not fit any more; eval_flush runs what is left.
void eval_add(eval *e, const model_seq *s, double *sum);
void eval_flush(eval *e);

// Items from `first` on whose shared tokens, and whose other tokens, fit one batch each; at least one, `most` at most.
int eval_take(const eval *e, const eval_item *item, int n, int most);
// The shared tokens of n items under their masks (m or m[i] NULL: dense) into e->cache[0..n), then the rest of every
// sequence after them; after as in mask_source.
void eval_shared(eval *e, const eval_item *item, int n, const mask *const *m);
void eval_items(eval *e, const eval_item *item, int n, const mask *const *m, int after, double *ll);
// -1 and err_set: a sum that is not a number
int eval_check(const eval_item *item, int first, int n, const double *ll);
long eval_scored(const eval_item *it);  // positions

// eval_run for masks that depend on the input's own states.
int eval_context(eval *e, const eval_item *item, int n, const contextual_source *source, const mask_rule *rule,
                 int n_rules, double **ll, eval_counts *counts);
// eval_run of windows whose segments have masks of their own scores (mask_source.refresh).
int eval_segments(eval *e, const eval_item *item, int n, const mask_source *source, const mask_rule *rule, int n_rules,
                  double **ll, eval_counts *counts);
// A window in segments of `refresh` inputs, the last one shorter: how many, how long the g-th is, how many of its
// targets are scored.
static inline int eval_segment_count(const eval_item *it, int refresh) {
    return (it->seq[0].n + refresh - 1) / refresh;
}
static inline int eval_segment_length(const eval_item *it, int refresh, int g) {
    const int left = it->seq[0].n - g * refresh;
    return left < refresh ? left : refresh;
}
static inline int eval_segment_scored(const eval_item *it, int refresh, int g) {
    const int n = eval_segment_length(it, refresh, g), end = g * refresh + n, from = it->seq[0].from;
    if (from >= end) return 0;
    return end - from < n ? end - from : n;
}
// Adds units of a mask that did not run at a number of scored positions (positions itself is counted by whoever runs
// the items).
void eval_count(eval_counts *counts, const mask *m, const model_config *c, long positions);
