// bench - what the parts of bin/bench share. bench_main.c reads options and goes over models and lengths; bench_model.c
// makes or loads a model and says what memory a measurement takes; bench_config.c lists what is compared and makes its
// masks; bench_run.c takes the times; bench_text.c gives prompts of a text; bench_peer.c asks other programs;
// bench_rows.c writes them; bench_bandwidth.c measures what the memory gives.
#pragma once
#include "child.h"
#include "decode.h"
#include "device.h"
#include "mask_options.h"
#include "model_random.h"
#include "results.h"
#include "threshold.h"

// Columns in the order of the specification, then what else belongs to a row's key, then what was measured. 1: part of
// the key. Columns that have no meaning for a time are empty. pruned_*: units that did not run in the last step, summed
// over the sequences. lists: one list of live units for a batch, or a list each.
// clang-format off
#define BENCH_COLUMNS(X)                                                                                              \
    X(mode, 1) X(model, 1) X(task, 0) X(split, 0) X(metric, 1) X(value, 0) X(stderr, 0) X(n, 0) X(mask, 1)            \
    X(criterion, 1) X(design, 1) X(target, 1) X(scope, 1) X(units, 1) X(sparsity, 1) X(dense_layers, 1)               \
    X(effective_heads, 0) X(effective_neurons, 0) X(aggregate, 1) X(mask_span, 1) X(refresh, 1) X(shots, 0)           \
    X(limit, 0) X(seed, 1) X(lag, 1) X(hidden, 1) X(predictor_weights, 1) X(features, 1) X(engine, 1) X(weights, 1)   \
    X(kv, 1) X(lists, 1) X(prompt, 1) X(tokens, 1) X(batch, 1) X(rounds, 1) X(device, 1) X(threads, 1)                \
    X(parameters, 0) X(p10, 0) X(p90, 0) X(mean, 0) X(amortised, 0) X(predict_ms, 0) X(select_ms, 0)                  \
    X(weight_bytes, 0) X(kv_bytes, 0) X(predictor_bytes, 0) X(bandwidth, 0) X(roofline, 0) X(pruned_heads, 0)         \
    X(pruned_neurons, 0) X(local_counts, 1) X(model_hash, 1) X(scores_hash, 1) X(code, 1)                             \
    X(ablate, 2) X(calibration_tokens, 2) X(group_heads, 2) X(batch_masks, 2) X(text, 2) X(sequences, 2)
// clang-format on
#define X(name, key) BENCH_##name,
enum { BENCH_COLUMNS(X) BENCH_N_COLUMNS };
#undef X
extern const results_column bench_columns[BENCH_N_COLUMNS];

enum { BENCH_FIELD = 128, BENCH_HASH_DIGITS = 12 };

typedef struct {
    char *model, *shape, *out, *peer, *wikitext;
    cli_list weights;                                             // dtypes (weight_options); none: as stored
    cli_list design, hidden, refresh, kv, prompt, tokens, batch;  // predictor_design; kv_policy
    cli_list batch_masks;                                         // batch_masks
    mask_options masks;                                           // --mask and --predictor are lists
    device_options device;
    long rounds, sequences;  // sequences 0: as many as a batch
    bool own_lists;
} bench_options;

// A model: of a shape with random weights, or of a checkpoint with weights as stored or converted.
typedef struct {
    char *name;
    model m;
    model_random random;
    const char *weights;  // a name of weight_options, "q4_1", "q4_k", "mixed"
    bool is_random;
} bench_model;

// 0, or -1 and err_set. dir NULL: random weights of `shape`. weights: a dtype, or -1: as stored (random ones: fp32).
int bench_model_open(bench_model *b, const char *dir, const char *shape, int weights, uint64_t seed, const ops *o);
void bench_model_close(bench_model *b);  // safe on {0}
// Bytes that can still be had: on the CPU what the system (and its control group) has available.
double bench_room(const ops *o);
// Refuses, with err_set, what does not fit: weights of a file (NULL: of a shape), as they are or of a type (weights),
// their transposed copies if masks want them, predictors, and the workspace and caches of the largest batch.
typedef struct {
    int prompt, tokens, batch;
    bool masked;
    kv_policy kv;
    double predictors;
} bench_need;
int bench_fits(const char *name, const model_config *c, const ckpt *file, int weights, const bench_need *n,
               const ops *o);

// One thing that is timed in a model: a mask source with its rule.
typedef struct {
    mask_kind kind;     // peers: MASK_NONE
    const char *path;   // of a mask file; of thresholds what they are on
    model_above above;  // thresholds; least NULL: none
    predictor *p;       // contextual
    bool untrained;
    mask_rule rule;
    int refresh;
    kv_policy kv;
    batch_masks batch;  // of sequences with masks of their own
    const char *criterion;
    char scores_hash[33];
    mask *fixed;  // [1], oracle: [sequences]; NULL: none
    int n_fixed;
    long pruned[UNIT_KINDS];
    // measured
    double *prefill;    // [rounds] seconds
    double *step;       // [rounds, steps] seconds
    double *loss;       // [sequences] of a text: sum of -ln p over its tokens
    double *bandwidth;  // [rounds] bytes a second, median of passes between the tokens of a round
    double replayed;    // share of the steps of a round that were replays of a recording
    // seconds of predictions and of choices: in the prompt, in all; sums over rounds
    double prompt_overhead[2], overhead[2];
    // of a token, mean over the tokens; bytes a prediction reads times predictions a token
    double weight_bytes, kv_bytes, predictor_bytes;
    int done;  // rounds
} bench_config;

// The tokens of a text's pages, and where the windows begin that the sequences of a group take.
typedef struct {
    const char *path;
    int32_t *id;  // of all pages
    int *from;    // [pages + 1] where each begins in id
    int pages;
    int32_t first;  // the token that begins a text, or -1
    int *window;    // [sequences] in id
    char hash[33];
} bench_text;

typedef struct {
    const bench_options *o;
    const ops *device;
    bench_model *model;
    // one group: what is compared in turn
    int prompt, tokens, batch;  // tokens >= 2: the first comes with the prompt
    int sequences, steps;       // a round decodes so many, `batch` at once, in so many steps
    bench_text *text;           // NULL: random prompts, and after them the likeliest tokens
    bench_config *config;
    int n;
    char **names;                      // of --mask, which paths of mask files point into
    const model_means *means;          // --ablate mean, or NULL
    threshold calibrated[THRESHOLDS];  // of threshold masks
    struct bench_peer *peer;
    int n_peers;
    predictor **net;  // of the model
    int n_nets, cap_nets;
    results *out;
} bench_group;

// The type of a predictor's weights with a model of these: that of --predictor-weights, else the model's (mixed or in
// blocks: fp32).
dtype bench_predictor_type(const bench_options *o, const char *weights);
// Bytes of all predictors that the options ask for with this model, and beside them, while they are made, one in fp32
// (counted before). -1 and err_set: a bad list.
double bench_predictor_bytes(const bench_options *o, const model_config *c, dtype type);
// Makes or opens the predictors; lists the configurations and makes their masks. -1 and err_set.
int bench_predictors(bench_group *g);
int bench_configs(bench_group *g);
void bench_configs_free(bench_group *g);

// Takes the times of all configurations that have no rows yet, in turn, round by round. -1 and err_set.
int bench_run(bench_group *g, const bool *present);
int32_t *bench_prompt(const bench_group *g, int sequence);  // seeded, or of the text; caller frees

// The pages of a text, as the tokenizer of the checkpoint at `dir` has them. -1 and err_set; close is safe on {0}.
int bench_text_open(bench_text *t, const char *path, const char *dir, const model_config *c);
void bench_text_close(bench_text *t);
// Windows of so many tokens for the sequences; -1 and err_set: the text is too short.
int bench_text_cut(bench_text *t, int sequences, int tokens);
int32_t bench_text_token(const bench_text *t, int sequence, int at);
// exp of the mean loss over all tokens after the prompts, and its standard error over the sequences (NaN of one).
void bench_perplexity(const bench_group *g, const bench_config *c, double *value, double *error);

// Bytes a second that the device reads its memory with just now: 128 MiB of more than any cache holds, on each of its
// GPUs in turn. The buffers are made at the first call.
double bench_bandwidth(const ops *o);
size_t bench_bandwidth_bytes(const ops *o);  // of the buffers on another device

// ---------------------------------------------------------------- statistics, rows
double bench_median(const double *x, int n);
double bench_quantile(const double *x, int n, double q);  // linear between order statistics
typedef struct {
    double prefill_ms, prefill_p10, prefill_p90;
    double token_ms, p10, p90;     // over all tokens of all rounds
    double mean;                   // over the tokens of the median over rounds: refreshes count, disturbances do not
    double amortised;              // mean, and the prompt's prediction shared out over the tokens
    double predict_ms, select_ms;  // per token, the prompt's shared out
    double bandwidth;              // bytes a second, median over the rounds
    // time that reading takes / time: median over the rounds, each by its own bandwidth
    double roofline, prefill_roofline;
} bench_times;
// weights that the prompt reads: all of them until a predictor has seen it
double bench_prompt_bytes(const bench_group *g, const bench_config *c);
bench_times bench_summary(const bench_group *g, const bench_config *c);
bool bench_rows_present(const bench_group *g, const bench_config *c);
int bench_rows_write(const bench_group *g, const bench_config *c);
void bench_table(FILE *f, const bench_group *g);

// ---------------------------------------------------------------- peers
typedef struct bench_peer {
    const char *engine, *weights;  // "torch", "ctranslate2", "llama.cpp"; "fp32", "int8", those of a GGUF file
    char *about;
    child c;
    double *prefill, *token;  // [rounds] seconds; a token: mean of a round
} bench_peer;
// Starts what o->peer (a Python) can import, for this group; said on stderr what is missing. bench_peers_stop is safe
// on none.
void bench_peers_start(bench_group *g);
int bench_peers_ask(bench_group *g, int round);
void bench_peers_stop(bench_group *g);
int bench_peer_rows(const bench_group *g);
