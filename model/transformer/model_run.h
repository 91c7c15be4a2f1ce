// model_run - the workspace of a batch, and what the files of a pass share: model_run.c (workspace, batch, outputs),
// block.c (a layer), attention.c, ffn.c (its two sublayers), kv.c (K and V of tokens that came before), live.c (lists
// of live units and products with them), model_grad.c (derivatives), model_step.c (decoding by recordings).
#pragma once
#include "model.h"

// Arrays of a layer, one row per token: name, width (model.h), the flags of runs that have it, and when such a run has
// it (pre: the model normalises what enters a sublayer; keep: taps are kept; qk: q and k have norms; gated; curved: the
// FFN is gated, or its activation is not ReLU). Without
// RUN_TAPS, and with RUN_RECOMPUTE, the layers of a part share one buffer, but for those that a layer is recomputed
// from.
#define LAYER_ARRAYS(X)                                                                                                \
    X(q, A, RUN_FORWARD, true)                                                                                         \
    X(k, W, RUN_FORWARD, true)                                                                                         \
    X(v, W, RUN_FORWARD, true)                                                                                         \
    X(q0, A, RUN_FORWARD, qk &&keep) /* q and k before their norms; else these are made in place */                    \
    X(k0, W, RUN_FORWARD, qk &&keep)                                                                                   \
    X(a, A, RUN_FORWARD, true)                                                                                         \
    X(mid, E, RUN_FORWARD, !pre || keep) /* else it is made in place, in the residual that enters */                   \
    X(x, E, RUN_FORWARD, pre)            /* else it is mid */                                                          \
    X(z, F, RUN_FORWARD, true)                                                                                         \
    X(u, F, RUN_FORWARD, gated)                                                                                        \
    X(r, F, RUN_FORWARD, curved &&keep) /* else it is scratch */                                                       \
    X(s1, E, RUN_FORWARD, !pre)         /* the norms' inputs, where norms come last */                                 \
    X(s2, E, RUN_FORWARD, !pre)                                                                                        \
    X(da, A, RUN_TAPS, true) /* kept per layer with RUN_TANGENT */                                                     \
    X(dz, F, RUN_TAPS, true)                                                                                           \
    X(du, F, RUN_TAPS, gated)                                                                                          \
    X(dr, F, RUN_TAPS, curved)                                                                                         \
    X(dh, E, RUN_TAPS, true) /* gradients at the norms' outputs */                                                     \
    X(dx, E, RUN_TAPS, true)                                                                                           \
    X(dqn, A, RUN_TANGENT, qk)                                                                                         \
    X(dkn, W, RUN_TANGENT, qk)                                                                                         \
    X(tq, A, RUN_TANGENT, true)                                                                                        \
    X(tk, W, RUN_TANGENT, true)                                                                                        \
    X(tv, W, RUN_TANGENT, true)                                                                                        \
    X(tq0, A, RUN_TANGENT, qk)                                                                                         \
    X(tk0, W, RUN_TANGENT, qk)                                                                                         \
    X(tz, F, RUN_TANGENT, curved)                                                                                      \
    X(tu, F, RUN_TANGENT, gated)                                                                                       \
    X(tn1, E, RUN_TANGENT, true) /* tangents of the norms' inputs */                                                   \
    X(tn2, E, RUN_TANGENT, true)                                                                                       \
    X(tx, E, RUN_TANGENT, true)                    /* tangent of x */                                                  \
    X(dleft, E, RUN_TANGENT | RUN_RECOMPUTE, true) /* gradient of the residual that leaves */                          \
    X(tcame, E, RUN_TANGENT | RUN_RECOMPUTE, true) /* tangent of the one that enters */
typedef struct {
#define X(name, width, flags, when) float *name;
    LAYER_ARRAYS(X)
#undef X
    float *tmid;  // the tangent of mid: tn2 or tx
} layer_arrays;

// The live units of a layer: one list for all live sequences together, or (RUN_OWN_LISTS, or passes of many rows on a
// device) where their masks differ one for each. Where the host's memory is not the device's, those of every layer stay
// there until a mask changes; else there is one layer's.
typedef struct {
    int layers;
    bool *each, one_each;         // [layers] whether each sequence has a list of its own; of the layer at work
    int32_t *unit, *device_unit;  // [lists, 1 + U], on the device [layers, lists, 1 + U]: how many there are, then they
    uint8_t *wants, *device_wants;  // [U, N], on the device [layers, U, N]; for one list
    uint8_t *kv;                    // [N, U] of KV heads: the masks that those of their query heads make, at this layer
    uint8_t *near;                  // [N, U] masks in memory of the first part, copied to this one: not on the first
    uint8_t *of;        // [layers, N, 1 + U] what they were made of, of each sequence: whether it is live, its mask
    uint64_t *epoch;    // [layers, N] and the mask's epoch (model_seq)
    live_units *every;  // [layers, lists]
    live_units *list;   // [lists] of the layer at work
} live_lists;

// Rows of the batch that a step computes: of every sequence a span, which may be empty. dense, live: the same apart, of
// the sequences that are computed from all units and of those that are computed from live units only; the others' spans
// are empty.
typedef struct {
    span *all, *dense, *live;  // [N]
    int n_dense, n_live;       // sequences in dense, in live
} row_set;

// Workspace on one part of the device.
typedef struct {
    int index;
    live_lists live_heads, live_neurons;
    live_lists live_kv;   // KV heads, where query heads share them (run_kv_lists)
    int32_t *step;        // [N] position of the first new token of each sequence, then the tokens (first and last part)
    uint8_t *device_has;  // [positions, K] of each sequence
    float *h, *r, *proj;  // scratch: [rows, E], [rows, F], [rows, P]
    float *leave;         // [rows, E] the residual that goes to the next part
    float *seen;          // [A] a watched row that is not as wide (compacted model)
    float *dres;          // [rows, E] gradient of the residual, at a layer's output and then at its input
    // of mid, of the attention's output; the same array where norms come first, dres where FFN and attention stand side
    // by side
    float *dmid, *dsum;
    float *dq, *dk, *dv;                 // [rows, A], [rows, W], and tangents of them
    float *tcur, *ta;                    // [rows, E], [rows, A] tangents of the residual, of a
    float *tdres, *tdmid, *tdsum, *tda;  // [rows, E], of da [rows, A]: tangents of dres, dmid, dsum, da
    float *tdx;                          // of the gradient at a sublayer's input; where norms come last it is tdmid
    float *tdz, *tdu, *tdr;              // [rows, F] the last two where gated
    float *g1;                           // [F, E] a direction on the neurons' incoming weights
    int32_t *kept;                       // [rows] neurons of the part's layers that were above (model_seq), or NULL
    int32_t *above;                      // [1 + F] those of a row: how many, then they
    int held;                            // the layer whose arrays the shared buffers hold
} run_part;

struct model_run {
    const model *m;
    const ops *o;
    unsigned flags;
    int max_tokens, max_seqs;
    // the batch
    int n, rows;              // sequences, packed rows
    int out_rows;             // output rows of all sequences
    int32_t *first, *tokens;  // [N], [rows]: position of the first token per sequence; run_part.step on the device
    int32_t *ahead;  // [2, N] positions and tokens that a model_step left there for the next, of n_ahead sequences
    int n_ahead;
    const struct step_slot *begun;  // the next has begun with them, as a replay of this recording
    uint64_t written;               // when the caches had been written so often
    row_set every, outputs;         // every row; the output rows
    row_set kv;           // every row: those whose K and V are computed for all heads (dense), for live heads (live)
    span *packed;         // [N] the output rows, one after the other
    span *heads_as_rows;  // [N] scratch
    attn_seq *attn, *attn_live;        // [N] of dense sequences, of live ones
    int *mask_from;                    // first row the mask acts at, per sequence
    float **to;                        // [2, N] scratch
    const uint8_t **heads, **neurons;  // [N] masks of the layer at work that act by zeroing, or NULL
    const model_seq **seq;
    const model_means *means;  // of the sequences with masks
    float *above;              // [N] numbers of the layer at work; NAN: a sequence without
    bool any_above;
    int32_t *target;   // [out_rows], -1: none
    uint8_t *kv_mask;  // [K] scratch
    bool *live;        // [N] sequences that are computed from live units
    int n_live;
    bool relisted;           // a list came to be of another form
    struct fetch *late;      // of the tokens that a model_step chooses
    struct step_slot *slot;  // [2] recordings of passes that nobody watches, and of watched ones (model_step.c)
    bool there;              // the masks of live sequences are in device memory
    bool chosen;             // and this pass writes them
    int listed[UNIT_KINDS];  // then layers below it have their lists, and
    long *made[UNIT_KINDS];  // [L] by a ticket (ops.h: join) when they do
    long replayed;
    // arrays
    float **res;          // [L + 1] the residual entering each layer; what leaves the last
    layer_arrays *layer;  // [L]
    run_part part[OPS_PARTS];
    float *y, *yp, *dy, *dyp, *ty, *typ;  // head, on the last part: [rows, E or P] packed output rows
    float *logits, *tlogits;              // [logit_rows, V]
    int logit_rows;
    double *row_logprob;  // [rows]
    float *row_scale;     // [rows]
    void **blocks;
    int n_blocks, cap_blocks;
    size_t bytes[OPS_PARTS];
};

// ---------------------------------------------------------------- model_run.c
// What follows works on a part of the device, in the workspace that is returned.
run_part *run_use(model_run *r, int part);
static inline run_part *run_use_of(model_run *r, int layer) { return run_use(r, model_part(r->m, layer)); }
static inline run_part *run_last_part(model_run *r) { return &r->part[r->m->parts - 1]; }
void run_copy(model_run *r, float *to, const float *from);  // [rows, E], between parts too
static inline void run_clear(model_run *r, float *x, int width) {
    r->o->zero(x, (size_t)r->rows * (size_t)width * sizeof *x);
}

// model_forward in steps: take takes the batch, upload brings what the operations need of it to where run_is_there says
// that it is not; forward computes it; end counts the new tokens of caches.
void run_take(model_run *r, const model_seq *seqs, int n);
bool run_is_there(const model_run *r);
void run_upload(model_run *r);
void run_forward(model_run *r);
void run_end(model_run *r);
// With RUN_RECOMPUTE: a layer's arrays once more, from the residual that enters it, unless they are there.
void run_restore(model_run *r, run_part *p, int layer);
// Logits of the last row of up to logit_rows sequences into r->logits; last: those rows (run_last).
const float *run_last(model_run *r);
void run_last_logits(model_run *r, const float *last, int first, int n);
static inline const int32_t *run_tokens(const model_run *r) {
    return r->part[0].step + r->max_seqs;
}  // device memory, on part 0
// The output rows in pieces that fit the logits buffer: pieces never join sequences, so their products depend on one
// sequence only. Fills s (positions in the packed output rows) and returns the number of pieces of the group that
// begins at *row, moving *row on.
int run_next_group(const model_run *r, int *seq, int *row, span *s, int *rows);
// Logits of a group: y or yp rows -> out, spans rebased to 0.
void run_head(model_run *r, const float *y, const span *s, int n, int first, float *out);
// The packed output rows of the residual that leaves the last layer, through the last norm and projection, into r->y
// and r->yp.
const float *run_output(model_run *r);

// Keys and values are computed of every row. What leaves the last layer matters at output rows only (leaving); so does
// all that follows its keys and values when no tap is kept (inside).
static inline bool last_layer(const model_run *r, int l) { return l == r->m->c.L - 1; }
static inline const row_set *rows_leaving(const model_run *r, int l) {
    return last_layer(r, l) ? &r->outputs : &r->every;
}
static inline const row_set *rows_inside(const model_run *r, int l) {
    return last_layer(r, l) && !(r->flags & RUN_TAPS) ? &r->outputs : &r->every;
}

// Makes what the maps of a sublayer read, unless it is there.
static inline void run_enter(model_run *r, sublayer_input *in, const row_set *rows) {
    if (in->gain) r->o->norm(in->h, in->x, in->gain, in->bias, in->shape, rows->all, r->n);
    in->gain = NULL;
}

static inline const weight *maybe(const weight *w) { return w->data ? w : NULL; }
static inline float *grad_of(const weight *w) {
    return (float *)(uintptr_t)w->data;
}  // of a gradient, which is ours to write
static inline int heads_of(const model_run *r, int layer) { return r->m->layer[layer].wq.rows / r->m->c.D; }
static inline attn_heads attn_heads_of(const model_run *r, int layer) {
    const int32_t *reads = r->m->reads[model_part(r->m, layer)];
    return (attn_heads){.H = heads_of(r, layer),
                        .K = model_kv_heads(r->m, layer),
                        .D = r->m->c.D,
                        .reads = reads ? reads + layer * r->m->c.H : NULL};
}
// The norm of rows of `width` numbers.
static inline norm_shape norm_of(const model *m, int width) {
    return (norm_shape){width, m->arch.norm, (float)m->arch.norm_eps};
}
static inline bool grouped(const model_run *r) { return r->m->arch.kv_heads != r->m->arch.heads; }
static inline const live_lists *run_kv_lists(const model_run *r, const run_part *p) {
    return grouped(r) ? &p->live_kv : &p->live_heads;
}
// Whether r is more than ReLU(z): of a gated FFN, or of one with another activation.
static inline bool curved_of(const arch *a) { return a->gated || a->act != ACT_RELU; }
// r of such an FFN, or scratch.
static inline float *hidden_of(const model_run *r, const run_part *p, int layer) {
    return r->layer[layer].r ? r->layer[layer].r : p->r;
}

// ---------------------------------------------------------------- block.c: a layer
// The residual leaving layer l from the one that enters it, r->res[l]; with leave unset only the arrays of the layer.
void block_forward(model_run *r, run_part *p, int l, bool leave);
// Gradients, first to the taps: from p->dres, of the residual leaving layer l, to dz, da and p->dsum; then to p->dres,
// of the residual entering it. g: layer l of the model whose weights are gradients, or NULL.
void block_back_to_taps(model_run *r, run_part *p, int l, const model_layer *g);
void block_back_to_input(model_run *r, run_part *p, int l, const model_layer *g);
// Directions that the taps and the neurons' incoming weights are moved in: factors per sequence of da, dz and dz' x
// (model_hessian).
typedef struct {
    const float *a, *z, *w;
} direction;
// Tangents: from p->tcur, of the residual entering layer l, to p->tcur, of the one that leaves it; and of the gradients
// as above, p->tdres to p->tdz, p->tda, p->tdsum, to p->tdres.
void block_jvp(model_run *r, run_part *p, int l, const direction *v);
void block_back_to_taps_jvp(model_run *r, run_part *p, int l, const direction *v);
void block_back_to_input_jvp(model_run *r, run_part *p, int l);

// ---------------------------------------------------------------- attention.c, ffn.c: its sublayers
// Attention in two halves, about its tap: the head outputs a of h, once q, k and v are there, then y += a Wo' + bo.
// Derivatives in the same halves; dh = or (add) += the gradient at h; th NULL: h does not move.
void attention_queries(model_run *r, run_part *p, int l, const float *h, const row_set *rows);
void attention_heads(model_run *r, run_part *p, int l, const row_set *rows);
void attention_out(model_run *r, run_part *p, int l, float *y, const row_set *rows);
void attention_out_back(model_run *r, int l, const float *dy, const model_layer *g);
void attention_heads_back(model_run *r, run_part *p, int l, float *dh, bool add, const float *h,
                          const model_layer *g);  // h: only with g
void attention_heads_jvp(model_run *r, run_part *p, int l, const float *th, const direction *v);
void attention_out_jvp(model_run *r, run_part *p, int l, float *ty);
void attention_out_back_jvp(model_run *r, run_part *p, int l, const float *tdy);
void attention_heads_back_jvp(model_run *r, run_part *p, int l, float *tdh, bool add);
// Queries or keys as attention takes them, x of raw (which may be x): rows of `units` heads, through their norm where
// they have one, then turned by their positions where these are rotary.
void attention_place(model_run *r, const run_part *p, float *x, const float *raw, const weight *gain, int units,
                     const span *rows);
// The FFN likewise: r of x, then y += r W2' + b2.
void ffn_hidden(model_run *r, run_part *p, int l, sublayer_input *x, const row_set *inside, const row_set *leaving);
void ffn_out(model_run *r, run_part *p, int l, float *y, const row_set *rows);
void ffn_back(model_run *r, run_part *p, int l, float *dx, bool add, const float *dy, const model_layer *g);
void ffn_jvp(model_run *r, run_part *p, int l, float *ty, const direction *v);
void ffn_back_jvp(model_run *r, run_part *p, int l, float *tdx, bool add, const float *tdy, const direction *v);

// ---------------------------------------------------------------- kv.c: keys and values, of new tokens and of those
// before K and V of a layer from its input, as the caches' policies want them, and into the caches. Where q can be made
// with them it is, and true is returned. Leaves what the maps read in in->h.
bool kv_forward(model_run *r, run_part *p, int l, sublayer_input *in, const row_set *inside);
// Attention of every sequence whose queries are `rows`, over new tokens and those before.
void kv_attend(model_run *r, run_part *p, int l, const row_set *rows);
// Whether some head that sequence i runs lacks K or V of a token; what a pass notes of its new tokens in caches that
// may lack some.
bool kv_lacks(const model_run *r, int i, int layer);
void kv_note_all(model_run *r);

// ---------------------------------------------------------------- live.c: lists of live units, and products with them
void live_alloc(model_run *r);
void live_free(model_run *r);
void live_begin(model_run *r);  // which sequences
// Their lists for a layer, for what follows. Those of masks that this pass writes have been made by live_list_ready, of
// all layers whose masks are ready, beside the computation.
void live_list_heads(model_run *r, run_part *p, int layer);
void live_list_neurons(model_run *r, run_part *p, int layer);
void live_list_ready(model_run *r, const run_part *p);  // p: the part at work
void live_join(model_run *r);                           // what follows comes after all of them
// How many lists the layer at work has, of how many sequences each.
int live_lists_of(const model_run *r, const live_lists *u, int *width);
const uint8_t *unit_mask_of(const model_run *r, int i, unit_kind kind,
                            int layer);  // a layer's row of sequence i's mask, or NULL
// The same of KV heads, 1 where one of its query heads runs; until the next call.
const uint8_t *live_kv_mask(const model_run *r, int i, int layer);
// Whether the lists of all layers are those of the masks as they are, and no head that runs lacks K or V of a token:
// then what a pass does on the host is kv_note_all.
bool live_settled(const model_run *r);
// What a replay leaves: lists of the masks that were chosen in it.
void live_note_all(model_run *r);
// Maps whose rows (to) or columns (from) are units of D each: y = x W' + b, y += x W' + b (wt = W'). Dense
// sequences take all units, live ones those that live, and the bias live_b.
void to_units(model_run *r, float *y, const float *x, const weight *w, const weight *b, int D, const live_lists *u,
              const row_set *rows);
void from_units(model_run *r, float *y, const float *x, const weight *w, const weight *wt, const weight *b,
                const weight *live_b, int D, const live_lists *u, const row_set *rows);
// The live sequences' part of to_units, and ReLU.
void live_to_units_relu(model_run *r, float *y, const float *x, const weight *w, const weight *b, int D,
                        const live_lists *u, const row_set *rows);

// ---------------------------------------------------------------- means.c: what dropped units put out (model_means)
// A live sequence's product is then over x - mean, and its bias holds what the means of all units add:
// y = c + sum over live j of (x_j - mean_j) W[:, j], c = sum over all j of mean_j W[:, j] + b.
// values: the means in device memory, NULL: 0. bias: c, or b where there are no means. subtract: x -= mean at rows of
// live sequences.
const float *means_values(const model_run *r, int layer, unit_kind kind);
const weight *means_bias(const model_run *r, int layer, unit_kind kind, const weight *b);
void means_subtract(model_run *r, int layer, unit_kind kind, float *x, const row_set *rows);

void step_free(model_run *r);  // model_step.c
