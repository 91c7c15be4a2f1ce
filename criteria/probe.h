// probe - scores of a batch of examples: one forward-backward pass (forward alone where nothing reads a gradient; for
// grasp a Hessian-vector product too), every criterion on every tile of units while it is in cache. The seam between
// the model (model.h) and the criteria (criterion.h).
#pragma once
#include "model.h"
#include "registry.h"

typedef struct {
    const int32_t *tokens;  // [n] context ++ continuation
    int n, context;         // tokens, context tokens: 1 <= context < n <= positions
    const int32_t *next;    // a token after the last one, which is scored, too, and then context <= n; NULL: none
    uint64_t key;           // of task and id, for criteria that draw
} probe_example;

typedef struct {
    const criterion **crit;  // n_crit of them
    int n_crit;
    bool mode[MODES];  // which sets of formulas
    uint64_t seed;
    bool recompute;  // activations: less memory, the same scores (RUN_RECOMPUTE)
} probe_plan;

enum { FEAT_HEAD_OUTPUT, FEAT_RESIDUAL, FEAT_RESIDUAL_MID, FEAT_KINDS };
extern const char *const feat_names[FEAT_KINDS];  // "head_output", "residual", "residual_mid"

// Results of one example. Arrays are the caller's; a NULL one is not wanted. [m]: by mode.
typedef struct {
    double loss;  // mean cross-entropy of the continuation, nats
    // [L, E] each, head outputs [L, A], A = H x D, at position context - 1 (sound), n - 1 (compat); what the heads of a
    // compacted model do not fill stays as it is
    float *features[MODES][FEAT_KINDS];
    float **heads[MODES];    // [n_crit] -> [L, H] or NULL; units that a compacted model has lost: NaN
    float **neurons[MODES];  // [n_crit] -> [L, F] or NULL
    // [L, A + F, 2] crit_in.moments of the heads' values and then of the neurons', where a criterion is pooled; columns
    // that a compacted layer lacks stay as they are
    double *moments;
} probe_result;
static inline float **probe_scores(const probe_result *r, unit_kind kind, mode_kind mode) {
    return kind == UNIT_HEADS ? r->heads[mode] : r->neurons[mode];
}

// Rows that task-level criteria collect (side file): per wanted position of an example, in the order asked for, for
// every layer da [A], x [E], and for every neuron whether dz != 0, or where neurons are gated dz and du (see
// task_stage.h).
typedef struct {
    int example, position;  // index into the batch, token position
    float *da, *x;          // [L, A], [L, E], filled by the probe
    uint8_t *active;        // [L, F]: 1 where |dz| max|x| > 1e-30
    float *dg, *du;         // [L, F] instead, where the FFN is gated
} probe_row;

typedef struct probe probe;
// max_tokens: the largest batch (sum of tokens); at least the longest example.
probe *probe_new(const model *m, const probe_plan *plan, int max_tokens);
void probe_free(probe *p);
size_t probe_bytes(const model *m, const probe_plan *plan, int max_tokens);  // memory that probe_new takes
// Whether every part of the device has that memory free; else *need and *room, in bytes, of one that has not.
bool probe_fits(const model *m, const probe_plan *plan, int max_tokens, size_t *need, size_t *room);
// Scores n examples in one batch. 0, or -1 and err_set naming example, criterion, layer where a loss or score is NaN or
// infinite.
int probe_run(probe *p, const probe_example *ex, int n, probe_result *out, probe_row *rows, int n_rows);
// Multiply-adds of one example of n tokens, for estimates.
double probe_macs(const model *m, const probe_plan *plan, int n, int context);
// Wall-clock seconds spent so far: GEMM, attention, criteria, other.
void probe_times(const probe *p, double seconds[4]);
extern const char *const probe_time_names[4];
