// model - a decoder-only transformer of the kind that arch.h describes: forward over packed variable-length batches,
// backward for the taps, Hessian-vector products, K/V cache.
//
// One layer l on a sequence of T tokens (all arrays row major, one row per token; A = heads x D, W = KV heads x D):
//   h = N1(res)                                        [T,E] res: the residual entering
//   q = h Wq' + bq                                     [T,A]
//   k, v = h Wk' + bk, h Wv' + bv                      [T,W]
//   a_h = softmax(q_h k_g' / sqrt(D), causal) v_g      [T,A] head outputs side by side; g: the KV head that h reads
//   mid = res + a Wo' + bo                             [T,E] the residual after attention
//   x = N2(mid)                                        [T,E] the FFN's input
//   z = x W1' + b1, r = act(z)                         [T,F] or (arch.gated) z = x Wg' + bg, u = x Wu' + bu,
//                                                            r = act(z) * u
//   res of l + 1 = mid + r W2' + b2                    [T,E]
// With rotary positions q and k are turned by their positions before attention; with norms of q and k (arch.qk_norm)
// each head of them goes through one before that.
// Where norms come last (arch.norm_first unset): h = res, mid = N1(res + ..), x = mid, res of l + 1 = N2(mid + ..).
// Where attention and FFN stand side by side (arch.parallel): x = N2(res).
// Units are scored on the taps a and z (or r: arch.tap) and on the loss gradients with respect to them.
//
// A batch packs N sequences one after the other. Every number of a sequence depends on that sequence alone: matrix
// products run in tiles of one sequence, single-threaded each, so the bits are the same whatever else is in the batch
// and at any thread count.
#pragma once
#include "arch.h"
#include "ops.h"

typedef struct {
    weight ln1_g, ln1_b, ln2_g, ln2_b;  // gain and bias of the layer's norms: (E)
    // A = D times the heads of the layer, W = D times its KV heads, F its neurons (model_units): the same everywhere
    // unless the model was compacted
    weight wq, wk, wv, wo, bq, bk, bv, bo;  // q (A, E), k and v (W, E) with biases (A), (W); output (E, A), (E)
    weight q_norm, k_norm;                  // (D) gains of the norms of q and k
    weight w1, b1, w2, b2;                  // (F, E), (F), gated: the gate's; (E, F), (E)
    weight wu, bu;                          // (F, E), (F) gated
    // wo and w2 transposed, (A, E), (F, E), by model_sparse_prepare; else no data. Of turned ones the very data: those
    // of another device are kept so only
    weight wo_t, w2_t;
} model_layer;

typedef struct {
    model_config c;
    arch arch;
    ckpt file;
    const struct ops *o;  // whose memory the weights are in and whose operations a run calls
    weight embed, pos, proj_in, proj_out, lnf_g, lnf_b;  // (V, P), (positions + 2, E), (E, P), (P, E), (E)
    // (V, P) of the logits: its own (not arch.tied), or embed, or a copy of it where the last layer is on another part
    weight head;
    float *turns;               // host memory: the table of rotary positions
    weight turn[OPS_PARTS];     // (positions, rotary) it on each part: cosines and sines of a position (ops: rotate)
    float *plain[OPS_PARTS];    // [2, E] ones and zeros, the gains and biases of norms that have none (not arch.affine)
    int32_t *reads[OPS_PARTS];  // config reads on each part; NULL: a rule says which KV head a query head reads
    model_layer *layer;         // L of them
    model_layer *stored;  // the same in host memory and in the checkpoint's types (without data after model_filled_on);
                          // on the CPU: layer
    float *wide;          // 16-bit weights of a small model, widened once (CPU)
    void **made;          // tensors in another form than the checkpoint's (model_weights.h), each a block of its own
    int n_made, cap_made;
    int weights;   // what the loading asked for: a dtype, or -1
    bool changed;  // some numbers are not those of the checkpoint
    // part p of the device has the layers first[p] .. first[p + 1] - 1; embeddings are on part 0
    int parts, first[OPS_PARTS + 1];
    void *block[OPS_PARTS];       // all weights of a part of another device
    void *transposed[OPS_PARTS];  // what wo_t and w2_t point into
} model;

// The weight that a line of the family's table describes; layer: of those in a layer.
static inline weight *model_slot(model *m, const tensor_spec *s, int layer) {
    return (weight *)((s->place == IN_LAYER ? (char *)&m->layer[layer] : (char *)m) + s->slot);
}
static inline double weight_bytes(const weight *w) { return w->data ? (double)weight_size(w) : 0; }

// Which units run: heads [L, H], neurons [L, F], 1 = runs; in the row of a layer only its own units count
// (model_units). NULL mask: all.
typedef struct {
    uint8_t *heads, *neurons;
} mask;
static inline uint8_t *mask_keep(const mask *m, unit_kind kind) { return kind == UNIT_HEADS ? m->heads : m->neurons; }

// What becomes of K and V of a head that a mask drops, in passes that compute live units only (model_sparse_prepare).
typedef enum {
    KV_COMPUTE,  // they are computed all the same
    KV_REPAIR,   // when the head becomes live again, from what the maps of K and V read, which the cache keeps: as
                 // KV_COMPUTE, later
    KV_SKIP      // never: a head that becomes live again attends to the tokens that it ran for only
} kv_policy;
extern const char *const kv_policy_names[];  // "compute", "repair", "skip", NULL

// What dropped units put out instead of 0: the mean of each of their values (METHOD 2.3), heads [L, H D], neurons
// [L, F]; of a compacted layer the first ones count. m must outlive it.
typedef struct model_means model_means;
model_means *model_means_new(const model *m, const double *heads, const double *neurons);
void model_means_free(model_means *means);  // NULL allowed

// K and V of `n` tokens of one sequence, all layers: k, v [layers of the part, cap, W] on every part of the device, W
// that of a layer that lost no head (kv_cache_rows); o: whose memory they are. in [.., cap, E] (KV_REPAIR): what the
// maps of K and V read. has [L, cap, K] in host memory (not with KV_COMPUTE): 1 where K and V of a KV head are there;
// lack [L, K]: tokens without. The rows of a layer with fewer KV heads are that much shorter and packed, in k, v and
// has.
typedef struct {
    float *k[OPS_PARTS], *v[OPS_PARTS];
    int n, cap, L, W, E;
    const struct ops *o;
    kv_policy kv;
    float *in[OPS_PARTS];
    uint8_t *has;
    int *lack, K;
    uint64_t writes;  // how often it was cleared, and passes that appended to it
} kv_cache;

// A watch is a callback that sees the hidden states of one row of a sequence during the forward pass. It may edit the
// sequence's mask for units that have not run yet; this is how contextual pruning works. At STATE_RESIDUAL of layer l
// these are heads and neurons of l and of later layers; at STATE_HEAD_OUTPUT or STATE_MID neurons of l and everything
// of later layers. In the last layer, a row's head output and mid are shown only where the row is an output row (or
// RUN_TAPS keeps all).
typedef enum {
    STATE_HEAD_OUTPUT,  // a; dropped heads are 0 in it
    STATE_RESIDUAL,     // res
    STATE_MID,          // mid
    STATE_KINDS
} model_state;
static inline int model_state_width(const model_config *c, model_state state) {
    return state == STATE_HEAD_OUTPUT ? c->H * c->D : c->E;
}
typedef struct {
    int row;          // of the sequence's new tokens
    unsigned states;  // 1 << model_state, those that are shown
    // x [model_state_width] in memory of the layer's part of the device, valid during the call (head output of a
    // compacted layer: 0 after its heads)
    void (*see)(void *self, model_state state, int layer, const float *x);
    void *self;
    // whether see only calls operations, the same ones every time, so that they can be recorded with the pass; then
    // `after`, unless NULL, is called when a pass has been asked for, replayed or not
    bool records;
    void (*after)(void *self);
    // of one that writes a mask in the device's memory (model_seq.there), as see leaves them: layers below it hold
    // their masks of this pass; by a ticket (ops.h: join) from when on what it was shown may be written again
    int ready[UNIT_KINDS];
    long read[UNIT_KINDS];
} model_watch;

// Thresholds of neurons (METHOD 6.5): a neuron runs at a token where |r| is above its layer's number, or, by gate,
// |act(z)|, which of a gated FFN is known before u is; of another one it is r.
typedef struct {
    const float *least;  // [L]
    bool gate;
} model_above;

// One sequence of a batch: `n` new tokens after the tokens already in `prefix` (NULL: none).
typedef struct {
    const int32_t *tokens;  // [n]
    int n;
    const kv_cache *prefix;
    kv_cache *append;  // K and V of the new tokens are appended here after the pass (may be the prefix); NULL: dropped
    const mask *mask;  // acts at every position >= mask_from
    // not 0: as long as a sequence at this place of the batch comes with the same number, its mask is the same and
    // holds the same, so that nobody has to look; without a watch
    uint64_t mask_epoch;
    // or the mask is here, in memory of the device's first part, and what `mask` holds does not matter. Of one new
    // token after model_sparse_prepare, for KV_COMPUTE, without means, of all sequences of a batch with masks;
    // mask_epoch is not 0. A watch that records may write it
    const mask *there;
    int mask_from;             // absolute position (prefix included)
    const model_means *means;  // of what the mask drops; NULL: 0. The same for all sequences of a batch with masks
    // or NULL: at every new token only the neurons run that are above a threshold. Without mask, taps and watch. In a
    // pass of one token of each sequence, after model_sparse_prepare, only the columns of W2 of these neurons are read,
    // and by their gates only their rows of Wu
    const model_above *above;
    const model_watch *watch;  // NULL: nobody
    int targets_from;          // rows targets_from.. are output rows: row i < n-1 has the target tokens[i+1];
    const float
        *weights;  // of the targets, in order of row: model_backward's loss counts each so many times; NULL: once
    int32_t last_target;  // row n-1: a token id, or SEQ_NO_OUTPUT: no output row, or SEQ_NO_TARGET: logits wanted,
                          // nothing scored
} model_seq;
enum { SEQ_NO_OUTPUT = -1, SEQ_NO_TARGET = -2 };

// Loads config and weights onto a device (model_load: the CPU); 0, or -1 and err_set. model_free is safe on {0}.
int model_load(model *m, const char *dir);
int model_load_on(model *m, const char *dir, const struct ops *o);
// The same with weights in a type, or (-1) as they are (model_weights.h).
int model_load_as(model *m, const char *dir, const struct ops *o, int weights);
// "as stored" where all numbers are the checkpoint's, else "in blocks" or the type.
const char *model_weights_name(const model *m);
void model_free(model *m);
// A model of a configuration without its weights, on one part of a device: for the sizes of runs. Nothing to free.
model model_unloaded(const model_config *c, const struct ops *o);
// Token embeddings of a model that the CPU has, and their projection, go to device o, where they are computed from
// then on; nothing else of the model can be. 0, or -1 and err_set.
int model_move_embeddings(model *m, const struct ops *o);
static inline int model_kv_heads(const model *m, int layer) { return m->layer[layer].wk.rows / m->c.D; }
// The part of the device that a layer is on; of layer L, the last.
static inline int model_part(const model *m, int layer) {
    int p = 0;
    while (p < m->parts - 1 && layer >= m->first[p + 1]) p++;
    return p;
}
// A model from tensors in memory (pretrain, tests, model_random.h): tensor data and the lists of *c must outlive it.
int model_from_tensors(model *m, const model_config *c, const tensor *tensors, int n);
int model_from_tensors_on(model *m, const model_config *c, const tensor *tensors, int n, const struct ops *o);
int model_from_tensors_as(model *m, const model_config *c, const tensor *tensors, int n, const struct ops *o,
                          int weights);
// The same on another device without numbers in host memory (tensor data NULL): fill makes the n numbers of each tensor
// where they will be, in the type that the device keeps; twice, if the logits have a copy of the embedding.
typedef void model_fill_fn(void *ctx, const char *name, void *to, dtype type, size_t n);
int model_filled_on(model *m, const model_config *c, const tensor *tensors, int n, const struct ops *o,
                    model_fill_fn *fill, void *ctx);

// The k-th matrix of a layer whose row j holds incoming weights of neuron j, NULL where there are fewer; in the
// device's memory, or (stored) in host memory as the checkpoint has it.
const weight *model_neuron_rows(const model *m, int layer, int k, bool stored);
// The matrix of a layer whose columns read the outputs of a kind of unit: Wo (E, A), W2 (E, F).
static inline const weight *model_reader(const model *m, int layer, unit_kind kind) {
    return kind == UNIT_HEADS ? &m->layer[layer].wo : &m->layer[layer].w2;
}

// Bytes of a layer's weights as the device keeps them, by the units that own them; of what a pass of so many tokens
// reads besides: head, norms and projections outside the layers, the rows looked up. Multiply-adds of a token in the
// linear maps of a layer.
void model_layer_bytes(const model *m, int layer, double of[OWNERS]);
double model_outer_bytes(const model *m, int tokens);
double model_layer_macs(const model_config *c, int layer);

// Makes transposed copies of the matrices whose columns belong to units, in the stored type, once, and returns their
// bytes. From then on a sequence whose mask acts on all of its new tokens is computed from the weights of its live
// heads and neurons alone, in a pass that keeps no taps; the others are not read. Logits are those of the same mask by
// zeroing within 1e-5.
size_t model_sparse_prepare(model *m);
size_t model_sparse_bytes(const model *m);  // what it will take, or takes

// ---------------------------------------------------------------- a run: workspace for batches
typedef struct model_run model_run;
enum {
    RUN_FORWARD = 0,       // outputs only; nothing kept per layer
    RUN_TAPS = 1,          // keep what backward and the criteria need
    RUN_TANGENT = 2,       // and what Hessian-vector products need
    RUN_WEIGHT_GRADS = 4,  // and gradients of all weights (pretrain)
    RUN_MASK_BY_ZERO = 8,  // dropped units are computed and set to zero, even where model_sparse_prepare was called
    // with RUN_TAPS: only the residuals between the layers are kept, and each layer is computed again when its
    // gradients are, to the same bits. Taps other than model_tap_res are there during `each` of their layer only. Not
    // with caches or watches
    RUN_RECOMPUTE = 64,
    // sequences with different masks go by a list of live units each, instead of the union that reads each weight once
    RUN_OWN_LISTS = 16
};
// Room for batches of up to max_tokens tokens in all and max_seqs sequences. The caller frees it with
// model_run_free(NULL allowed).
model_run *model_run_new(const model *m, int max_tokens, int max_seqs, unsigned flags);
void model_run_free(model_run *r);
size_t model_run_bytes(const model *m, int max_tokens, int max_seqs, unsigned flags);  // what model_run_new will take
void model_run_part_bytes(const model *m, int max_tokens, int max_seqs, unsigned flags,
                          size_t bytes[OPS_PARTS]);  // of each part of the device

// Forward of a batch. Appends to caches as asked.
void model_forward(model_run *r, const model_seq *seqs, int n);
// After model_forward: log-probabilities (natural log, fp32 logits, double log-sum-exp) of every target, in order of
// sequence and row, and (if top is not NULL) the most probable token at its place, of equal ones the first. vocab: 0 =
// all rows, else only the first `vocab` logits exist.
void model_logprobs(model_run *r, double *logprob, int32_t *top, int vocab);
// After a pass of sequences with `above`: how many neurons of all layers have run, of each row of sequence i: out [n].
// Rows that the last layer computes nothing for lack its neurons.
void model_kept(model_run *r, int i, int32_t *out);
// Logits of the last row of sequence i: out [V].
void model_logits(model_run *r, int i, float *out);
// Logits of the last row of every sequence, each of which has output rows: out [n, V]. Reads the vocabulary matrix
// once.
void model_last_logits(model_run *r, float *out);
// model_forward, and the likeliest token after each sequence: top [n], the first of equals, -1 where a logit is NaN or
// infinite. Where the device can record (ops.h), a pass of one token of each sequence is launched the first time,
// recorded when one of the same kind follows (the same caches, the same sequences live, nobody watching) and replayed
// from then on, whatever tokens, positions and masks are. The numbers are the same. If the tokens of the next pass are
// these, the device has them already. more: that is likely, and nobody will ask for logits, so the next pass begins
// before this one's tokens have come to the host, where it would be a replay.
void model_step(model_run *r, const model_seq *seqs, int n, int32_t *top, bool more);
bool model_step_begun(const model_run *r);  // whether the next pass has begun
// model_last_logits after model_step, unless the next pass has begun: out [n, V].
void model_step_logits(model_run *r, float *out);
long model_replayed(const model_run *r);  // passes so far
// Continue: layers from `layer` on with the residual entering it given (device memory, packed rows, E each), used by
// the removal oracle.
void model_forward_from(model_run *r, const model_seq *seqs, int n, int layer, const float *res);

kv_cache *kv_cache_new(const model *m, int cap);  // room for cap tokens, KV_COMPUTE
kv_cache *kv_cache_new_as(const model *m, int cap, kv_policy kv);
// The first row of a layer in a cache's k or v, of width W, or in its inputs, of width E.
static inline float *kv_cache_rows(const model *m, float *const block[OPS_PARTS], const kv_cache *c, int layer) {
    const int p = model_part(m, layer), width = block == c->in ? c->E : c->W;
    return block[p] + (size_t)(layer - m->first[p]) * (size_t)c->cap * (size_t)width;
}
void kv_cache_clear(kv_cache *c);  // no tokens
void kv_cache_free(kv_cache *c);

// ---------------------------------------------------------------- gradients
// Called after the gradients of a layer are there, from the last layer to the first.
typedef void model_layer_fn(void *ctx, model_run *r, int layer);

// `each` of every layer without gradients: after model_forward with RUN_TAPS.
void model_each_layer(model_run *r, model_layer_fn *each, void *ctx);

// Gradient of sum over sequences of scale[i] * sum over targets of -log p (scale NULL: 1 / number of targets: the mean
// cross-entropy of each sequence apart). After model_forward with RUN_TAPS and no mask. logprob as model_logprobs
// (NULL: not wanted). grads (NULL: taps only; needs RUN_WEIGHT_GRADS): a model whose weights are fp32 gradients, added
// to.
void model_backward(model_run *r, const float *scale, double *logprob, model *grads, model_layer_fn *each, void *ctx);
// Device memory, during `each` (and afterwards with RUN_TANGENT): dL/da [rows, A], dL/dz [rows, F] (and where gated
// dL/du, dL/dr), dL/d(the attention's output) [rows, E]; A, F of the layer (model_layer).
const float *model_grad_a(const model_run *r, int layer);
const float *model_grad_z(const model_run *r, int layer);
const float *model_grad_u(const model_run *r, int layer);
const float *model_grad_r(const model_run *r, int layer);
const float *model_grad_out(const model_run *r, int layer);  // during `each` only
// At the output of the k-th matrix whose rows are the neurons' (model_neuron_rows): dz, or where gated dz, du; else
// NULL.
const float *model_grad_rows(const model_run *r, int layer, int k);

// Hessian-vector product, Pearlmutter 1994: H is the Hessian of each sequence's own loss with respect to additive
// perturbations of the taps. Direction: scale_a[i] * da, scale_z[i] * dz of sequence i, or dr where r is the tap (and
// scale_w[i] * G1 on W1, where scale_w is not NULL and the tap is z: G1 = dz' x of that sequence and layer). After
// model_backward with the same scale, with RUN_TANGENT. NULL scale_a, scale_z: ones.
void model_hessian(model_run *r, const float *scale, const float *scale_a, const float *scale_z, const float *scale_w,
                   model_layer_fn *each, void *ctx);
// During `each`: (H v) at a [rows, A] and z or r [rows, F]; the tangent of x [rows, E].
const float *model_hess_a(const model_run *r, int layer);
const float *model_hess_z(const model_run *r, int layer);
const float *model_tangent_x(const model_run *r, int layer);  // only where scale_w was given

// Views of the last forward's arrays, in device memory (ops.h: get copies from it); row of sequence i, token t is
// model_row(r, i) + t. NULL where not kept. In the last layer, what follows z exists at output rows only.
int model_row(const model_run *r, int i);
const float *model_tap_res(const model_run *r, int layer);  // [rows, E]; layer 0..L (L: what leaves the last layer)
const float *model_tap_a(const model_run *r, int layer);    // [rows, A], A and F of the layer (model_layer)
const float *model_tap_mid(const model_run *r, int layer);  // [rows, E]
const float *model_tap_x(const model_run *r, int layer);    // [rows, E]
const float *model_tap_z(const model_run *r, int layer);    // [rows, F]
const float *model_tap_u(const model_run *r, int layer);    // [rows, F] where gated, as r
const float *model_tap_r(const model_run *r, int layer);
// The same by kind of unit: what units are scored on, heads a, neurons the tap that the architecture names; its
// gradient; H v there. [rows, model_tap_width].
const float *model_tap(const model_run *r, unit_kind kind, int layer);
const float *model_grad_tap(const model_run *r, unit_kind kind, int layer);
const float *model_hess_tap(const model_run *r, unit_kind kind, int layer);
static inline int model_tap_width(const model_config *c, int layer, unit_kind kind) {
    return model_units(c, layer, kind) * (kind == UNIT_HEADS ? c->D : 1);
}
// During `each` of a layer: [rows, E] on its part that nothing is kept in.
float *model_scratch(model_run *r, int layer);
