// mask_options - the options of masks that programs share: rows of their tables (cli.h), what these say, and a mask
// made by them. A program adds --mask, of which each knows its own kinds, --seed and --mode by rows of its own.
#pragma once
#include "cli.h"
#include "mask.h"
#include "mode.h"
#include "store.h"

typedef enum {
    MASK_NONE,
    MASK_RANDOM,
    MASK_STATIC,
    MASK_CONTEXTUAL,
    MASK_ORACLE,
    MASK_REFERENCE,
    MASK_THRESHOLD,
    MASK_FILE,
    MASK_KINDS
} mask_kind;
extern const char *const mask_kind_names[];  // "none", "random", ..., "file"
static inline bool mask_has_rule(mask_kind kind) { return kind != MASK_NONE && kind != MASK_FILE; }
enum {  // sets of kinds
    MASKS_FIXED = 1u << MASK_NONE | 1u << MASK_RANDOM | 1u << MASK_STATIC | 1u << MASK_FILE,
    MASKS_ALL = (1u << MASK_KINDS) - 1
};

typedef enum { ABLATE_ZERO, ABLATE_MEAN } ablate_kind;
extern const char *const ablate_names[];

typedef struct {
    char *mask;  // --mask
    char *scores, *criterion, *predictor, *calibrate;
    mask_scope scope;
    cli_list scopes;  // of programs with several masks
    mask_counts counts;
    unsigned units;
    char *sparsity;
    long dense_layers, refresh, seed;
    int predictor_weights;  // a dtype; -1: not given
    mode_kind mode;         // of scores and rules
    ablate_kind ablate;     // what pruned units put out
    bool group_heads;       // of rules
    bool raw_scores;        // also of a criterion whose scores are standardised within layers (METHOD 6.2)
} mask_options;

// Groups of rows, all of a mask_options.
extern const cli_option mask_one_rows[];        // of one mask: --scores, --criterion, --scope, --sparsity
extern const cli_option mask_several_rows[];    // of several masks: --scores, --scope, --sparsity
extern const cli_option mask_rule_rows[];       // of one or several: --local-counts, --units, ...
extern const cli_option mask_predictor_rows[];  // of one mask: --predictor, --predictor-weights, --refresh

// The kind that --mask names, one of the set `kinds`; *path: of file:PATH or threshold:NAME, in `name`, else NULL. -1
// and err_set.
int mask_kind_of(const char *name, unsigned kinds, const char **path);
char *mask_kinds_named(unsigned kinds);  // "none, random, file:PATH"; caller frees

// What the options of a program with one mask say.
typedef struct {
    mask_kind kind;
    const char *path;  // MASK_FILE
    mask_rule rule;
} mask_choice;
// -1 and err_set: --mask is not of the set `kinds`, --sparsity is no percentage, or --scores or --predictor is missing.
int mask_options_read(mask_choice *choice, const mask_options *o, unsigned kinds);
int mask_options_check_threshold(const mask_options *o);  // no text, compat, --ablate mean
int mask_options_check_means(const mask_options *o);      // --ablate mean without --scores, in compat
mask_rule mask_options_rule(const mask_options *o, mask_scope scope, long sparsity);  // thousandths of a percent
const char *mask_options_criterion(const mask_options *o);                            // of static masks
// Whether static masks of this criterion, by its name, compare standardised scores.
bool mask_options_standardise(const mask_options *o, const char *of);

// What a mask is made for; hash: ckpt.h, "": of no checkpoint.
typedef struct {
    const char *name, *hash;
    const model_config *c;
} mask_model;
// Makes a mask of a kind in MASKS_FIXED (out from mask_alloc); none: every unit runs. Scores of another model are
// refused. -1 and err_set.
int mask_options_make(mask *out, const mask_options *o, const mask_choice *choice, const mask_model *m);
// --ablate mean: the means of units' values over the examples of all tasks, as --scores has them (moments.h), [L, H D]
// and [L, F]; safe on {0}. 0, or -1 and err_set: none are there, of another model, compat.
typedef struct {
    double *of[UNIT_KINDS];
    char hash[33];
} mask_means;
int mask_options_means(mask_means *out, const mask_options *o, const mask_model *m);
void mask_means_free(mask_means *means);
// Whether aggregates read from `path` are those of this model: 0, or -1 and err_set.
int mask_scores_check(const store_aggregate *a, const char *path, const mask_model *m);
