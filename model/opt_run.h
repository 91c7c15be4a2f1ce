// opt_run - the workspace of a batch, shared by the forward (opt_run.c) and the gradients (opt_grad.c).
#pragma once
#include "ops.h"

// Per-layer arrays are arrays of L pointers; without OPT_TAPS all layers share one buffer.
#define OPT_ARRAYS(X)                                                                       \
    X(q, E, OPT_FORWARD) X(k, E, OPT_FORWARD) X(v, E, OPT_FORWARD) X(a, E, OPT_FORWARD)      \
    X(mid, E, OPT_FORWARD) X(x, E, OPT_FORWARD) X(z, F, OPT_FORWARD)                        \
    X(s1, E, OPT_FORWARD) X(s2, E, OPT_FORWARD) /* post-LN: the norms' inputs */            \
    X(da, E, OPT_TAPS) X(dz, F, OPT_TAPS)       /* kept per layer with OPT_TANGENT */       \
    X(dx, E, OPT_TAPS) X(dh, E, OPT_TAPS)       /* gradients at the norms' outputs (post-LN: of what leaves them) */ \
    X(tq, E, OPT_TANGENT) X(tk, E, OPT_TANGENT) X(tv, E, OPT_TANGENT)                       \
    X(tn1, E, OPT_TANGENT) X(tn2, E, OPT_TANGENT) X(tx, E, OPT_TANGENT) /* tangents of the norms' inputs, of fc1's */

struct opt_run {
    const opt *m;
    const ops *o;
    unsigned flags;
    int max_tokens, max_seqs;
    // the batch
    int n, rows;            // sequences, packed rows
    int out_rows;           // output rows of all sequences
    int32_t *tokens;        // [rows]
    span *all, *act;        // every row; the output rows
    span *out;              // the output rows, packed one after the other
    attn_seq *attn;
    int *first, *mask_from; // position of the first token; first row the mask acts at, per sequence
    const uint8_t **heads, **neurons;
    const opt_seq **seq;
    int32_t *target;        // [out_rows], -1: none
    float *seen;            // [E] a watched row, in host memory
    bool forward_only;      // rows that no output depends on are left out
    // arrays
    float **res;            // [L + 1]
#define X(name, width, flag) float **name;
    OPT_ARRAYS(X)
#undef X
    float *h, *r, *proj;           // scratch: [rows, E], [rows, F], [rows, P]
    float *dres, *dmid, *dq, *dk, *dv, *dsum;  // [rows, E]
    float *tcur, *ta, *tdres, *tdmid, *tdx, *tda, *tdz;  // tangents, of the gradients with td: [rows, E or F]
    float *y, *yp, *dy, *dyp, *ty, *typ;  // head: [rows, E or P] packed output rows
    float *logits, *tlogits;        // [logit_rows, V]
    int logit_rows;
    double *row_logprob;            // [rows]
    float *row_scale;               // [rows]
    float *g1;                      // [F, E] opt_hessian with scale_w
    void **blocks;
    int n_blocks, cap_blocks;
    size_t bytes;
};

static inline const weight *maybe(const weight *w) { return w->data ? w : NULL; }
// The output rows in pieces that fit the logits buffer: pieces never join sequences, so their products depend on one sequence only.
// Fills s (positions in the packed output rows) and returns the number of pieces of the group that begins at *row, moving *row on.
int  run_next_group(const opt_run *r, int *seq, int *row, span *s, int *rows);
// Logits of a group: y or yp rows -> out, spans rebased to 0.
void run_head(opt_run *r, const float *y, const span *s, int n, int first, float *out);
// The packed output rows of the residual that leaves the last layer, through the last norm and projection, into r->y and r->yp.
const float *run_output(opt_run *r);
