// criterion - the one interface that every pruning criterion (crit_<name>.c) implements.
//
// A criterion turns the taps of one layer of one example into a score per unit; larger = more important. The driver
// (probe.c) makes one forward-backward pass, hands every criterion the same tile of units while it is in cache, and
// owns all memory. A tile is one head (U = 1, D values a token) or some neurons (D = 1). Value i of unit u at token t
// is act[t*ld + u*D + i].
//
// Most criteria are a formula over sums that operations of the device take (USUM_.., WSUM_.. of model/ops/unit_sums.h):
// they declare the sums, and no tap of another device is copied. A criterion that wants the taps themselves declares
// them, and gets them in host memory on every device.
//
// Functions are serial and re-entrant: the driver runs tiles in parallel. They read the arrays they declared, nothing
// else, and the same values give the same bits wherever the tile lies in memory and however many units it has.
#pragma once
#include "mode.h"
#include "ops.h"

enum {                       // what a criterion reads; arrays nobody asked for are NULL
    CRIT_ACT = 1,            // act
    CRIT_GRAD = 2,           // grad
    CRIT_WEIGHT = 4,         // w   (neurons only)
    CRIT_WGRAD = 8,          // dw  (neurons only); the sums over it that are wanted most come cheaper by CRIT_WSUMS
    CRIT_HESS = 16,          // hv  = (H v) of METHOD 4.2
    CRIT_XCORR = 32,         // xcorr, xmax (neurons only)
    CRIT_OUT_GRAD = 64,      // out_grad (heads only)
    CRIT_HESS_COMPAT = 128,  // hu, and hu_w with CRIT_WGRAD: the second Hessian-vector product of METHOD 4.3
    // removal: needs a forward pass per unit, so the driver runs it only for criteria asked for by name
    CRIT_REMOVAL = 256,
    CRIT_WSUMS = 512,      // wsums (neurons only)
    CRIT_AFTER_HV = 1024,  // sums with a tangent take it from H v: USUM_TANGENT = sum a (H v)_a
    CRIT_AFTER_HU = 2048,  // the same of the second product, and WSUM_TANGENT
    CRIT_MOMENTS = 4096    // moments, squares
};
#define CRIT_SUM(column)    (1u << (13 + (column)))  // that column of sums
#define CRIT_COLUMNS(needs) ((needs) >> 13 & ((1u << USUMS) - 1))

enum { CRIT_TILE = 128 };  // most units in a tile

typedef struct {
    int T, context;  // tokens; context tokens (the loss is over tokens context..T-1)
    // units (<= CRIT_TILE), values per unit and token, hidden size, floats between tokens in act, grad, hv, hu
    int U, D, E, ld;
    int layer, layers, unit;  // this layer, number of layers, index of the first unit of the tile in its layer
    const float *act;         // heads: a; neurons: their tap (arch.h), z before the activation
    const float *grad;        // dL/d act
    const float *hv, *hu;
    const float *x;         // [T, E] the FFN's input (neurons that declare an array of it or another)
    const float *w, *dw;    // [U, E] rows of the neurons' incoming weights, and their gradient in this example
    const float *hu_w;      // [U, E] with CRIT_WGRAD
    const double *wsums;    // [U, WSUMS] sums over a row of these weights and its gradient, and (CRIT_AFTER_HU) hu_w
    const double *sums;     // [U, USUMS] sums over the unit's tokens; USUM_OUT: o = dL/d(output of out_proj)
    const float *xcorr;     // [T, T] Pearson correlation between the rows of x, see xmax
    const float *xmax;      // [T] max |x_t|; 0 for a row that is constant (max |x - mean| <= 1e-6 max |x|) or zero
    const float *out_grad;  // [T, E] dL/d(output of out_proj); head h's slice is columns unit*D .. unit*D + D - 1
    const double *removal;  // [U] L(unit removed) - L
    // of each of the unit's values, as the next matrix reads them (a of heads, r of neurons), over the T tokens: the
    // mean, and the sum of the squared deviations from it
    const double *moments;  // [U, D, 2]
    const double
        *squares;        // [U, D] of each value: the squared norm of the column of that matrix (Wo, W2) that reads it
    uint64_t seed, key;  // of --seed, and of the example (its task and id)
} crit_in;

static inline double crit_sum(const crit_in *in, int u, int column) { return in->sums[u * USUMS + column]; }

typedef void crit_fn(float *out, const crit_in *in);  // out [U]

// Second stage of criteria that exist per task only (epenas, compat jacov): see task_stage.h. NULL: none.
struct task_stage;

// A layer's units of one kind, over all tokens of a task's examples.
typedef struct {
    int U, D;
    const double *variance;  // [U, D] of each value, divisor n - 1
    const double *squares;   // [U, D] as in crit_in
} crit_pooled;
typedef void crit_pooled_fn(double *out, const crit_pooled *in);  // out [U]

typedef struct {
    crit_fn *heads, *neurons;  // NULL: this criterion has no such score per example
    unsigned needs_heads, needs_neurons;
    const char *heads_doc, *neurons_doc;  // the formulas, printed by score --list
    const struct task_stage *task;
} crit_mode;

typedef struct {
    const char *name;   // command line and HDF5 name
    const char *about;  // one line: what it measures, and the paper
    int by_name_only;   // 1: not part of --criteria all
    // of a criterion that exists per task only, from the pooled moments of its tokens, in sound alone (flap); else NULL
    crit_pooled_fn *pooled;
    // its neuron scores see only at which tokens a gradient is 0, which with one matrix and an activation other than
    // ReLU is nowhere, so that all neurons of a layer score the same
    bool zeros_only;
    bool standardised;  // scores of different layers are compared after standardising within each (METHOD 6.2)
    // of the scores; NULL: as the first. nats: those of the loss, which is a mean per token
    const char *unit[MODES][UNIT_KINDS];
    crit_mode sound, compat;
} criterion;

static inline const char *crit_unit(const criterion *c, mode_kind mode, unit_kind kind) {
    return c->unit[mode][kind] ? c->unit[mode][kind] : c->unit[MODE_SOUND][UNIT_HEADS];
}

static inline const crit_mode *crit_mode_of(const criterion *c, mode_kind mode) {
    return mode == MODE_SOUND ? &c->sound : &c->compat;
}
