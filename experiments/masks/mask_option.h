// mask_option - the mask options that programs with one mask at a time share: --mask KIND and what it is made from.
#pragma once
#include "mask.h"
#include "store.h"

typedef struct {
    const char *model;                                              // named in messages
    const char *scores, *criterion, *scope, *units, *local_counts;  // local_counts NULL: spread
    long dense_layers;
    uint64_t seed;
    mode_kind mode;  // of scores and rules
} mask_option;

// The rule of these options at a sparsity (thousandths of a percent).
mask_rule mask_option_rule(const mask_option *o, long sparsity);
// Makes the mask of `kind` (none, random, static, file:PATH; out from mask_alloc) for a model of this configuration and
// hash (ckpt.h; "": no checkpoint); none: every unit runs. static without scores, or with those of another model, is
// refused. -1 and err_set.
int mask_option_make(mask *out, const char *kind, const mask_option *o, long sparsity, const model_config *c,
                     const char *model_hash);
// Whether aggregates read from `path` are those of this model: 0, or -1 and err_set.
int mask_scores_check(const store_aggregate *a, const char *path, const model_config *c, const char *model,
                      const char *model_hash);
