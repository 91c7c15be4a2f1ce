// opt_run - the workspace of a batch, shared by the forward (opt_run.c) and the gradients (opt_grad.c).
#pragma once
#include "opt.h"

// Per-layer arrays are arrays of L pointers; without OPT_TAPS, and with OPT_RECOMPUTE, the layers of a part share one buffer, but for those that a layer is
// recomputed from.
#define OPT_ARRAYS(X)                                                                       \
    X(q, E, OPT_FORWARD) X(k, E, OPT_FORWARD) X(v, E, OPT_FORWARD) X(a, E, OPT_FORWARD)      \
    X(mid, E, OPT_FORWARD) X(x, E, OPT_FORWARD) X(z, F, OPT_FORWARD)                        \
    X(s1, E, OPT_FORWARD) X(s2, E, OPT_FORWARD) /* post-LN: the norms' inputs */            \
    X(da, E, OPT_TAPS) X(dz, F, OPT_TAPS)       /* kept per layer with OPT_TANGENT */       \
    X(dx, E, OPT_TAPS) X(dh, E, OPT_TAPS)       /* gradients at the norms' outputs (post-LN: of what leaves them) */ \
    X(tq, E, OPT_TANGENT) X(tk, E, OPT_TANGENT) X(tv, E, OPT_TANGENT)                       \
    X(tn1, E, OPT_TANGENT) X(tn2, E, OPT_TANGENT) X(tx, E, OPT_TANGENT) /* tangents of the norms' inputs, of fc1's */ \
    X(dleft, E, OPT_TANGENT | OPT_RECOMPUTE) X(tcame, E, OPT_TANGENT | OPT_RECOMPUTE) /* gradient of the residual that leaves, tangent of the one that enters */

// The live units of a layer: one list for all live sequences together, or with OPT_OWN_LISTS one for each. Where the host's memory is not the device's, those of every
// layer stay there until a mask changes; else there is one layer's.
typedef struct {
    int layers;
    int32_t *unit, *device_unit;    // [lists, 1 + U], on the device [layers, lists, 1 + U]: how many there are, then they
    uint8_t *wants, *device_wants;  // [U, N], on the device [layers, U, N]; for one list
    uint8_t *of;            // [layers, N, 1 + U] what they were made of, of each sequence: whether it is live, its mask
    live_units *every;      // [layers, lists]
    live_units *list;       // [lists] of the layer at work
} live_lists;

// Spans of all rows and of the output rows, of those sequences only that are computed from live units (live) or not (dense); the others' are
// empty.
typedef struct { span *all, *act; } span_set;

// Workspace that every part of the device has of its own; an opt_run holds that of the part at work (run_enter).
#define RUN_PART(X)                                                                                                      \
    X(live_lists, live_heads) X(live_lists, live_neurons)                                                                \
    X(int32_t *, step)                                                       /* [N] position of the first new token of each sequence, then the tokens (first and last part) */ \
    X(uint8_t *, device_has)                                                 /* [positions, H] of each sequence */       \
    X(float *, h) X(float *, r) X(float *, proj)                             /* scratch: [rows, E], [rows, F], [rows, P] */ \
    X(float *, leave)                                                        /* [rows, E] the residual that goes to the next part */ \
    X(float *, seen)                                                         /* [E] a watched row that is not as wide (compacted model) */ \
    X(float *, dres) X(float *, dmid) X(float *, dq) X(float *, dk) X(float *, dv) X(float *, dsum)      /* [rows, E] */ \
    X(float *, tcur) X(float *, ta) X(float *, tdres) X(float *, tdmid) X(float *, tdx) X(float *, tda)                  \
    X(float *, tdz)                                                          /* tangents, of the gradients with td: [rows, E or F] */ \
    X(int, held)                                                             /* the layer whose arrays the shared buffers hold */ \
    X(float *, g1)                                                           /* [F, E] opt_hessian with scale_w */
typedef struct {
#define X(type, name) type name;
    RUN_PART(X)
#undef X
} run_part;

struct opt_run {
    const opt *m;
    const ops *o;
    unsigned flags;
    int max_tokens, max_seqs;
    // the batch
    int n, rows;            // sequences, packed rows
    int out_rows;           // output rows of all sequences
    int32_t *first, *tokens; // [N], [rows]: position of the first token per sequence; r->step on the device
    int32_t *ahead;          // [2, N] positions and tokens that an opt_step left there for the next, of n_ahead sequences
    int n_ahead;
    span *all, *act;        // every row; the output rows
    span *out;              // the output rows, packed one after the other
    attn_seq *attn;
    int *mask_from;         // first row the mask acts at, per sequence
    float **to;             // [N] scratch
    const uint8_t **heads, **neurons;
    const opt_seq **seq;
    int32_t *target;        // [out_rows], -1: none
    bool forward_only;      // rows that no output depends on are left out
    // live units (opt_sparse.c)
    bool *live;             // sequences that are computed from them
    int n_live;
    span_set dense, sparse;
    span *kv_dense, *kv_sparse;  // rows whose K and V are computed for all heads, for live heads
    attn_seq *attn_sparse;
    bool relisted;          // a list came to be of another form
    struct step_kind *kind; // [N] of the last pass that could be recorded (opt_step.c), of n_kind sequences
    int n_kind;
    struct recording *recorded;
    long replayed;
    // arrays
    float **res;            // [L + 1]
#define X(name, width, flag) float **name;
    OPT_ARRAYS(X)
#undef X
#define X(type, name) type name;
    RUN_PART(X)
#undef X
    run_part part[OPS_PARTS];      // of the parts that are not at work
    int at;                        // the part at work
    float *y, *yp, *dy, *dyp, *ty, *typ;  // head, on the last part: [rows, E or P] packed output rows
    float *logits, *tlogits;        // [logit_rows, V]
    int logit_rows;
    double *row_logprob;            // [rows]
    float *row_scale;               // [rows]
    void **blocks;
    int n_blocks, cap_blocks;
    size_t bytes[OPS_PARTS];
};

// What follows works on a part of the device, in its workspace.
void run_enter(opt_run *r, int part);
// The same for the part of a layer, whose workspace gets the rows of the array *carried [rows, E] that the part at work has.
void run_carry(opt_run *r, int layer, float **carried);

// opt_forward in parts: begin takes the batch, and uploads what the operations need of it; forward computes it; end counts the new tokens of caches.
void run_begin(opt_run *r, const opt_seq *seqs, int n);
void run_forward(opt_run *r);
void run_end(opt_run *r);
// Logits of the last row of up to logit_rows sequences into r->logits; last: those rows (run_last).
const float *run_last(opt_run *r);
void run_last_logits(opt_run *r, const float *last, int first, int n);
static inline const int32_t *run_tokens(const opt_run *r) { return r->step + r->max_seqs; }  // device memory, on part 0
// With OPT_RECOMPUTE: a layer's arrays once more, from the residual that enters it, unless they are there.
void run_restore(opt_run *r, int layer);

static inline const weight *maybe(const weight *w) { return w->data ? w : NULL; }
// The output rows in pieces that fit the logits buffer: pieces never join sequences, so their products depend on one sequence only.
// Fills s (positions in the packed output rows) and returns the number of pieces of the group that begins at *row, moving *row on.
int  run_next_group(const opt_run *r, int *seq, int *row, span *s, int *rows);
// Logits of a group: y or yp rows -> out, spans rebased to 0.
void run_head(opt_run *r, const float *y, const span *s, int n, int first, float *out);
// The packed output rows of the residual that leaves the last layer, through the last norm and projection, into r->y and r->yp.
const float *run_output(opt_run *r);

void step_free(opt_run *r);  // opt_step.c

// opt_sparse.c: the part of a pass that computes live units only. begin: which sequences; heads, neurons: their lists for a layer, after the
// watch had its say; kv: K and V of a layer from h, as the caches' policies want them, and into the caches.
void sparse_alloc(opt_run *r);
void sparse_free(opt_run *r);
void sparse_begin(opt_run *r);
void sparse_heads(opt_run *r, int layer);
void sparse_neurons(opt_run *r, int layer);
void sparse_kv(opt_run *r, int layer, const float *h);
// Whether the lists of all layers are those of the masks as they are, and no head that runs lacks K or V of a token: then what sparse_* do on the host in a pass is what
// sparse_kv_noted does, for the pass's new tokens.
bool sparse_settled(opt_run *r);
void sparse_kv_noted(opt_run *r);
// Products of the live sequences over the spans s (one of r->sparse): y = x W' + b at live units, and ReLU; y += x Wt + b from them.
void sparse_linear(opt_run *r, float *y, const float *x, const weight *w, const weight *b, bool relu, const live_lists *u, int D, const span *s);
void sparse_linear_t(opt_run *r, float *y, const float *x, const weight *wt, const weight *b, const live_lists *u, int D, const span *s);
// Attention of every sequence whose queries are the rows `half`.
void sparse_attention(opt_run *r, int layer, const span *half);
