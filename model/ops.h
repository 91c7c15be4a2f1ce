// ops - the device seam: everything above works on device memory through one table of operations. The CPU table is ops_cpu(); that
// of a GPU comes from a library of its own, which ops_open loads when it is asked for.
//
// Arrays are row major, one row per token. A batch packs sequences; a span is the rows of one sequence that an op works on. No
// number of one span depends on another span, on the thread count or on what else is in the batch. Accumulation is fp32 or wider.
// Suffixes: _back = gradient with respect to the input; _jvp = forward tangent; _back_jvp = tangent of the gradient.
#pragma once
#include "adamw.h"
#include "lowest.h"
#include "opt.h"
#include "unit_sums.h"

typedef struct { int row, n; } span;  // rows row .. row + n - 1

typedef struct {                      // one sequence in attention
    span s;                           // its rows in q, k, v, out
    int from;                         // queries from..n-1 count (earlier rows of out or dout are zero or not wanted)
    const float *past_k, *past_v;     // [past, E] of the tokens before, or NULL
    int past;
    const int32_t *past_at;           // device memory: where a recording finds `past` at each replay; NULL: it is `past` every time
    int past_most;                    // with past_at: what it can be
    const uint8_t *past_has;          // [past, heads] live_attention only: 0 where a head has no K and V of a token; NULL: all have
} attn_seq;

// The live units of a layer: those that at least one sequence of a batch runs. Device memory.
typedef struct {
    const int32_t *unit;              // [n] ascending
    int n, seqs;
    const uint8_t *wants;             // [n, seqs] 1 where the sequence (its place among the spans) runs the unit; NULL: all run all of them
    const int32_t *n_at;              // device memory: where a recording finds n at each replay; NULL: it is n every time
} live_units;

// Sums over the columns of a row of a weight W, with its gradient G and a tangent H of that gradient (weight_sums).
enum { WSUM_SIZE, WSUM_SQUARE, WSUM_SIGNED, WSUM_TANGENT, WSUMS };  // sum |W G|, sum G G, sum W G, sum W H

// The loss of outputs y and targets t: the mean of
//   LOSS_MSE  (y - t)^2
//   LOSS_BCE  w(t) (log(1 + e^y) - t y), labels t, w = t (1 - positive) + positive: DejaVu's weighting by the fraction of positives
typedef enum { LOSS_MSE, LOSS_BCE } loss_kind;

// Every op: result, name, arguments.
#define OPS(X) \
    /* Memory of the device, which the host reads and writes through get, put, zero and copy only (the CPU's is host memory). alloc: zeroed, */ \
    /* 64-byte aligned; the program ends where it is missing. room: bytes that can still be allocated; reserve: the allocs that follow take */ \
    /* so much together, so that one block can hold them */ \
    X(void *, alloc, (size_t bytes)) \
    X(void, release, (void *p)) \
    X(void, put, (void *device, const void *host, size_t bytes)) \
    X(void, get, (void *host, const void *device, size_t bytes)) \
    X(void, zero, (void *p, size_t bytes)) \
    X(void, copy, (void *to, const void *from, size_t bytes))    /* within the device */ \
    /* Uploads beside the computation, through two buffers of `bytes` in turn. fill: host memory for what comes next; send: up to so many bytes of it on their way; take: */ \
    /* where operations find in device memory what was sent last, until the next take. What is sent and never taken is replaced by what comes next */ \
    X(struct feed *, feed_new, (size_t bytes)) \
    X(void, feed_free, (struct feed *f)) \
    X(void *, feed_fill, (struct feed *f)) \
    X(void, feed_send, (struct feed *f, size_t bytes)) \
    X(void *, feed_take, (struct feed *f)) \
    X(size_t, room, (void)) \
    X(void, reserve, (size_t bytes)) \
    /* A device of several parts (GPUs) has layers on each: what is allocated, reserved and computed from here on is of this part; the arrays of a */ \
    /* computation are all of its part; put, get, zero, copy and release find out whose memory they are given. Returns the part's name */ \
    X(const char *, use, (int part)) \
    /* n random numbers of a type, uniform within +-bound, for weights that only have to be there; number i comes from (seed, i) alone, on every kind of */ \
    /* device from another generator */ \
    X(void, random, (void *to, dtype type, size_t n, double bound, uint64_t seed)) \
    /* to (W cols, W rows) = w transposed, in its type */ \
    X(void, transpose, (void *to, const weight *w)) \
    /* the sum of the 64-bit words of p, by all of the device together; returns the seconds that reading them took */ \
    X(double, read, (uint64_t *sum, const void *p, size_t bytes)) \
    /* y (rows, W cols) = embed[tokens[row]]; tokens: device memory */ \
    X(void, embed, (float *y, const int32_t *tokens, const weight *w, const span *s, int n)) \
    /* dw[tokens[row]] += dy (rows, W cols) */ \
    X(void, embed_grad, (float *dw, const float *dy, const int32_t *tokens, int cols, const span *s, int n)) \
    /* x (rows, E) += pos[first[i] + t + 2]; first: device memory */ \
    X(void, add_positions, (float *x, const weight *pos, const int32_t *first, const span *s, int n)) \
    /* Row at[i] + t of to[i] (rows of E floats) = row t of span i of x; to[i] NULL: of no one. at: device memory */ \
    X(void, append, (float *const *to, const float *x, int E, const int32_t *at, const span *s, int n)) \
    /* y = x W' + b, or y += x W' + b where add; b may be NULL. W (out, in), x (rows, in), y (rows, out); in the three linear maps out or in may */ \
    /* be 0 */ \
    X(void, linear, (float *y, const float *x, const weight *w, const weight *b, bool add, const span *s, int n)) \
    /* dx = dy W, or dx += dy W where add */ \
    X(void, linear_back, (float *dx, const float *dy, const weight *w, bool add, const span *s, int n)) \
    /* dw (out, in) += dy' x and db (out) += column sums of dy, summed over the spans in order; db may be NULL */ \
    X(void, linear_grad, (float *dw, float *db, const float *dy, const float *x, int out, int in, const span *s, int n)) \
    /* sums [rows, WSUMS] in host memory, of rows from.. of W (F, E) over one span: G = dz' x, H = tdz' x + dz' tx (0 where tdz is NULL). May be called */ \
    /* by several threads at once where the memory is the host's */ \
    X(void, weight_sums, (double *sums, const float *dz, const float *x, const float *tdz, const float *tx, const weight *w, int from, int rows, const span *s)) \
    /* sums [n, units, USUMS], in the device's memory, of units from..: the columns that `which` names (bits 1 << USUM_..), up to USUM_OUT; the other */ \
    /* columns stay. This and the next three may be called by several threads at once where the memory is the host's */ \
    X(void, unit_sums, (double *sums, unsigned which, const unit_taps *x, int from, int units, const span *s, int n)) \
    X(void, sign_dets, (double *sums, const float *act, int ld, int D, int from, int units, const span *s, int n)) \
    /* Of the rows grad[t] of a unit that are neither zero nor constant (corr.h); more than fit, evenly spread: number floor(i m / n) of m. Of neurons */ \
    /* the rows dz[t] x[t], whose correlations are those of x but for signs: corr and most as correlate makes them */ \
    X(void, head_spectra, (double *sums, const float *grad, int ld, int D, int from, int units, const span *s, int n)) \
    X(void, neuron_spectra, (double *sums, const float *dz, const float *corr, const float *most, int F, int from, int units, const span *s, int n)) \
    /* most[row] = max |x| of a row (rows, E), 0 where it is zero or constant. corr: of every span the Pearson correlations [n, n] of its rows, one */ \
    /* span's behind the other's. work (rows, E) is scratch */ \
    X(void, correlate, (float *corr, float *most, float *work, const float *x, int E, const span *s, int n)) \
    /* y = g (x - mean) / sqrt(var + 1e-5) + b over each row of width E */ \
    X(void, norm, (float *y, const float *x, const weight *g, const weight *b, int E, const span *s, int n)) \
    X(void, norm_back, (float *dx, const float *dy, const float *x, const weight *g, int E, bool add, const span *s, int n)) \
    X(void, norm_grad, (float *dg, float *db, const float *dy, const float *x, int E, const span *s, int n)) \
    X(void, norm_jvp, (float *ty, const float *x, const float *tx, const weight *g, int E, const span *s, int n)) \
    X(void, norm_back_jvp, (float *tdx, const float *dy, const float *tdy, const float *x, const float *tx, const weight *g, int E, bool add, const span *s, int n)) \
    /* y = max(x, 0); y = x where gate > 0, else 0 */ \
    X(void, relu, (float *y, const float *x, int F, const span *s, int n)) \
    X(void, gate, (float *y, const float *x, const float *gate, int F, const span *s, int n)) \
    /* y = x, y += x, y += scale * x */ \
    X(void, move, (float *y, const float *x, int E, const span *s, int n)) \
    X(void, add, (float *y, const float *x, float scale, int E, const span *s, int n)) \
    /* x[:, u*D..] = 0 at rows from[i].. of span i for every unit u that units[i] (bytes, 1 = runs) leaves out; NULL: nothing */ \
    X(void, drop_units, (float *x, const uint8_t *const *units, const int *from, int U, int D, const span *s, int n)) \
    /* causal attention over the past and the span's own tokens */ \
    X(void, attention, (float *out, const float *q, const float *k, const float *v, int E, int H, const attn_seq *s, int n)) \
    /* The same maps where only live units (u) count: a unit is D rows of W. live_linear: y = x W' + b at the columns of live units, then ReLU */ \
    /* where asked; other columns stay as they are. live_linear_t: y += x Wt + b over the live rows of Wt (units * D, out); other columns of x */ \
    /* are not read. live_attention: heads of width D; other heads of out stay as they are */ \
    X(void, live_linear, (float *y, const float *x, const weight *w, const weight *b, bool relu, int D, const live_units *u, const span *s, int n)) \
    X(void, live_linear_t, (float *y, const float *x, const weight *wt, const weight *b, int D, const live_units *u, const span *s, int n)) \
    X(void, live_attention, (float *out, const float *q, const float *k, const float *v, int E, int D, const live_units *u, const attn_seq *s, int n)) \
    X(void, attention_back, (float *dq, float *dk, float *dv, const float *dout, const float *q, const float *k, const float *v, \
                             int E, int H, const attn_seq *s, int n)) \
    X(void, attention_jvp, (float *tout, const float *q, const float *k, const float *v, const float *tq, const float *tk, const float *tv, \
                            int E, int H, const attn_seq *s, int n)) \
    X(void, attention_back_jvp, (float *tdq, float *tdk, float *tdv, const float *dout, const float *tdout, const float *q, const float *k, \
                                 const float *v, const float *tq, const float *tk, const float *tv, int E, int H, const attn_seq *s, int n)) \
    /* logits (rows, V) -> logprob[row] of target[row] and the argmax top[row] (may be NULL), over the first `vocab` columns */ \
    X(void, logprob, (double *logprob, int32_t *top, const float *logits, const int32_t *target, int V, int vocab, int rows)) \
    /* token[row] = the place of the largest of a row of logits (rows, V), the first of equals, or -1 where one is NaN or infinite; at[row] (may be NULL) += 1: a step of */ \
    /* greedy decoding leaves where the next finds its token and position. token, at: device memory */ \
    X(void, likeliest, (int32_t *token, int32_t *at, const float *logits, int V, int rows)) \
    /* logits become d(-scale[row] log p[target]) / dlogits, in place */ \
    X(void, xent_back, (float *logits, const int32_t *target, const float *scale, int V, int rows)) \
    /* tlogits becomes the tangent of that gradient; dlogits is the gradient */ \
    X(void, xent_back_jvp, (float *tlogits, const float *dlogits, const int32_t *target, const float *scale, int V, int rows)) \
    /* An AdamW step of W (out, in) by its gradient dy' x, which is never kept; w, m, v: W and its moments. bias: the same of a bias, so many floats behind W; */ \
    /* 0: there is none */ \
    X(void, linear_step, (float *w, float *m, float *v, const adamw *a, size_t bias, const float *dy, const float *x, int out, int in, int rows)) \
    /* *mean (device memory) becomes the loss of n outputs, dy [n] (may be NULL) its gradient */ \
    X(void, loss, (double *mean, float *dy, const float *y, const float *t, loss_kind kind, double positive, size_t n)) \
    /* One head of attention, no mask, the mean over its queries: of span i, P = softmax(q k' / sqrt(E)), p [rows] = the mean of P's rows, c[i] = x' p; a row */ \
    /* stands for count [rows] equal ones, as query and as key. lse [rows] is for _back, which gives dq and dk, and dp [rows] */ \
    X(void, pool, (float *c, float *p, float *lse, const float *x, const float *count, const float *q, const float *k, int E, const span *s, int n)) \
    X(void, pool_back, (float *dq, float *dk, float *dp, const float *dc, const float *x, const float *count, const float *q, const float *k, const float *lse, int E, const span *s, int n)) \
    /* y = (x - min) / (max - min) over all numbers of a span together, zeros where they are equal; y may be x */ \
    X(void, minmax, (float *y, const float *x, int E, const span *s, int n)) \
    /* cut_lowest (lowest.h) of n ranges in order, none in another; score: device memory, keep and only: host memory. Returns -1, or the first place in a range */ \
    /* whose score is NaN or infinite; then that range's keep means nothing */ \
    X(long, cut, (uint8_t *keep, const float *score, const uint8_t *only, const cut_range *c, int n))

struct ops {
#define X(type, name, args) type (*name) args;
    OPS(X)
#undef X
    // Operations between record and recorded are not done but kept, and replay does them in one call (a CUDA graph). What changes from replay to replay they
    // find in device memory (embed, add_positions, append, past_at, n_at), all else is as it was. None may take or give host memory: no put, get, alloc, release,
    // embed_grad, units to drop, cross-entropy. A recording takes what every part is given; part 0 is at work behind record, recorded and replay. NULL, all four, on a
    // device that cannot.
    void (*record)(void);
    struct recording *(*recorded)(void);
    void (*replay)(const struct recording *r);
    void (*forget)(struct recording *r);
    const char *device;  // "cpu", "cuda:0", "cuda:0,1"
    const char *about;   // what it is: the GPU's name
    bool host;           // its memory is host memory
    int parts;           // 1.. OPS_PARTS
    dtype activations;   // of a model that is loaded with this table; DT_F32: as they are
};
typedef struct ops ops;

const ops *ops_cpu(void);
// The table of a device by its name on the command line: cpu, cuda (the first GPU, or that of the process's number on its machine), cuda:1 or cuda:0,1. NULL and err_set where there is none.
const ops *ops_open(const char *device);
extern const char ops_devices[];  // help text of --device
// The same with 16-bit activations ("fp16", "bf16"; "fp32": as ops_open). What a model's matrix products multiply, activations, gradients and tangents,
// is rounded to nearest even: to 8 significant bits (bf16) or to 11 (fp16), at any size, see CUDA.md; sums, attention, norms and what is kept stay fp32. Matrices of
// another type are rounded to it when they are loaded. A number that is not finite ends the program with operation and tensor.
const ops *ops_open_as(const char *device, const char *activations);
extern const char ops_activations[];  // help text of --activations
// Before bytes[p] are allocated on every part p for `what` (a plural): nothing on the CPU; elsewhere prints the sizes, and sets each aside as one
// block. 0, or -1 and err_set where a part has too little room; then nothing is set aside.
int ops_plan(const ops *o, const size_t bytes[OPS_PARTS], const char *what);
int ops_reserve(const ops *o, const size_t bytes[OPS_PARTS], const char *what);  // the same without a line
// What the library of a GPU exports: the table of its GPUs number index[0..n), a part each (-1 - k: GPU k of those there, counted round); NULL, and why, where they cannot be used.
typedef const ops *ops_cuda_fn(const int *index, int n, char *why, size_t room);
// Seconds spent in matrix products and in attention since the program began (CPU: wall time of the calling thread).
extern double ops_seconds_gemm, ops_seconds_attention;
