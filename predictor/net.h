// net - the small nets that predict scores: parameters in one block, forward, gradient fused with the AdamW step, on
// any device.
//   NET_MLP   y = W2 relu(W1 x + b1) + b2
//   NET_PAIR  y = W2 W1 x                                   (DejaVu's low-rank pair: no bias, no non-linearity)
//   NET_POOL  the MLP after attention pooling of T tokens X [T, E] (b1e of the whole sequence, METHOD 5.1): one head,
//             P = softmax((X Wq' + bq)(X Wk' + bk)' / sqrt(E)), x = mean over the T tokens of (P (X Wv' + bv)) Wo' + bo
// Sequences are packed one after the other, so there is no padding to mask or to average over. Since value and output
// maps are linear and the mean is taken over queries, x = Wo (Wv c + bv) + bo with c = X' p, p_s = mean_t P[t, s]: the
// same numbers without V and output rows of every token. Nothing tells one place of a sequence from another, so equal
// tokens have equal rows of P: a row stands for all n_s tokens that are equal, P[t, s] = n_s exp(score) / sum over the
// rows, p_s = sum_t n_t P[t, s] / sum_t n_t. A text of few words has few rows.
#pragma once
#include "ops.h"

typedef enum { NET_MLP, NET_PAIR, NET_POOL } net_kind;
enum { NET_TENSORS = 12 };

// (rows, cols) at w + at; a bias has cols 1
typedef struct {
    const char *name;
    int rows, cols;
    size_t at;
} net_tensor;
typedef struct {
    net_kind kind;
    int in, hidden, out;  // in: E
    const void *narrow;   // NULL, or what forward passes read instead of w: the same in another type, borrowed
    dtype type;           // of narrow
    net_tensor t[NET_TENSORS];
    int n;
    size_t floats;  // of the block: tensors begin at multiples of 16 numbers, what lies between is 0
    float *w;       // borrowed; memory of the device that computes (net_init, net_start: of the host)
} net;

// Fills all but w.
void net_shape(net *n, net_kind kind, int in, int hidden, int out);
// PyTorch's default initialisation of Linear (uniform, |w| <= 1 / sqrt(columns), biases too) and of its attention
// (Xavier for q, k, v; zero biases).
void net_init(net *n, uint64_t seed);
double net_bound(const net *n, int i);   // of tensor i; 0: it begins with zeros
uint64_t net_key(uint64_t seed, int i);  // of its numbers
// Makes a net with biases give y [out] whatever it reads: the last layer's weights 0, its bias y.
void net_start(net *n, const double *y);
// Makes output i 0 whatever is read: its row of the last layer, and its bias, 0. So it stays where its target is 0 (or,
// of a classifier, its label 1/2), because no gradient comes from it.
void net_silence(net *n, int i);
// NET_POOL: makes the value map of a new net read (c - mean) / deviation, column by column [in], where it read c, what
// is pooled.
void net_start_pool(net *n, const double *mean, const double *deviation);
// Multiply-adds of one prediction; T tokens for NET_POOL.
double net_macs(const net *n, int T);

// The parameters in a type: bytes of them all, where tensor i is, the type of its numbers. fp32 and 16 bits: all in the
// type, laid out as in w. DT_Q8_0: matrices whose rows are whole blocks, the others and biases in fp32, one after the
// other at multiples of 64 bytes. net_put writes w to that place.
size_t net_bytes(const net *n, dtype type);
size_t net_place(const net *n, int i, dtype type);
dtype net_tensor_type(const net *n, int i, dtype type);
void net_put(void *to, const net *n, dtype type);

// ---------------------------------------------------------------- batches
typedef struct {
    const ops *o;  // whose memory the arrays are, but for s
    int batch;
    // [batch, in], [batch, hidden], [batch, out], gradients of y and of the hidden layer's input
    float *x, *h, *y, *dy, *dh;
    // NET_POOL: call net_work_tokens, then fill s, tokens and count
    int cap;
    span *s;                          // [batch] rows of an example
    int32_t *id;                      // [rows] where who fills tokens may put what they are embedded from
    float *tokens, *q, *k, *dq, *dk;  // [rows, E]
    float *count, *lse, *p, *dp;      // [rows]; count: tokens that the row stands for, to be filled
    float *c, *u, *du, *dc, *dx;      // [batch, E]
    bool training;
} net_work;
void net_work_new(net_work *k, const ops *o, const net *n, int batch, bool training);
void net_work_tokens(net_work *k, const net *n, int rows);  // room for so many packed rows
void net_work_free(net_work *k);                            // safe on {0}
size_t net_work_bytes(const net *n, int batch, int rows);   // in training

// y of the first B examples from x (NET_POOL: from tokens, count and s).
void net_forward(const net *n, net_work *k, int B);
// y [out] of one example x [in]; not of NET_POOL.
void net_predict(const net *n, net_work *k, const float *x, float *y);

// An AdamW step on n->w by the gradient of the first B examples, whose dL/dy is k->dy; m, v: moments, laid out like w.
// After net_forward of the same batch. (With b1 = 0 and rate = 0 nothing but m changes, which becomes the gradient.)
typedef struct {
    adamw a;
    float *m, *v;
} net_update;
void net_backward(net *n, net_work *k, int B, const net_update *u);
