// ops_cpu - what the files of the CPU table share.
#pragma once
#include "ops.h"
#include "scratch.h"

// Below so many rows of a sequence a product is bound by reading the weight: dot products instead of GEMM.
enum { CPU_THIN = 8 };
// Exact conversion of n stored numbers to fp32.
void cpu_widen(float *to, const void *from, dtype type, size_t n);
// Rows of a weight in fp32: the stored ones, or widened into scratch memory of the caller's mark.
const float *cpu_weight_rows(const weight *w, int row, int rows);
// out [n] = (x - min) / (max - min), in [0, 1]; false, and zeros, where all x are equal. out may be x.
bool minmax(float *out, const float *x, size_t n);

// Rows [.., width] as products with w see them: x, or where w is for 16-bit activations a copy of the spans' rows, at
// their places, rounded to w's type, in scratch memory of the caller's mark. `operation`, or NULL: ends the program with it
// and the tensor if one of them is not finite. cpu_rounded_columns: of one span the columns from.., [rows of the span, n].
const float *cpu_rounded(const float *x, int width, const weight *w, const span *s, int n, const char *operation);
const float *cpu_rounded_columns(const float *x, int width, int from, int n, const weight *w, const span *s, const char *operation);

// y (+)= x W' + b for the spans of fewer than CPU_THIN rows; attention of the sequences with fewer queries; attention of one head, query
// rows in blocks.
void cpu_thin_linear(float *y, const float *x, const weight *w, const float *b, bool add, const span *s, int n);
void cpu_thin_attention(float *out, const float *q, const float *k, const float *v, int E, int D, const attn_seq *s, int n);
void cpu_attention_head(float *out, const float *q, const float *k, const float *v, int E, int D, const attn_seq *s, int head);

#define X(type, name, args) type cpu_##name args;
X(struct feed *, feed_new, (size_t bytes))
X(void, feed_free, (struct feed *f))
X(void *, feed_fill, (struct feed *f))
X(void, feed_send, (struct feed *f, size_t bytes))
X(void *, feed_take, (struct feed *f))
X(void, random, (void *to, dtype type, size_t n, double bound, uint64_t seed))
X(void, transpose, (void *to, const weight *w))
X(double, read, (uint64_t *sum, const void *p, size_t bytes))
X(void, weight_sums, (double *sums, const float *dz, const float *x, const float *tdz, const float *tx, const weight *w, int from, int rows, const span *s))
X(void, unit_sums, (double *sums, unsigned which, const unit_taps *x, int from, int units, const span *s, int n))
X(void, sign_dets, (double *sums, const float *act, int ld, int D, int from, int units, const span *s, int n))
X(void, head_spectra, (double *sums, const float *grad, int ld, int D, int from, int units, const span *s, int n))
X(void, neuron_spectra, (double *sums, const float *dz, const float *corr, const float *most, int F, int from, int units, const span *s, int n))
X(void, correlate, (float *corr, float *most, float *work, const float *x, int E, const span *s, int n))
X(void, live_linear, (float *y, const float *x, const weight *w, const weight *b, bool relu, int D, const live_units *u, const span *s, int n))
X(void, live_linear_t, (float *y, const float *x, const weight *w, const weight *b, int D, const live_units *u, const span *s, int n))
X(void, live_attention, (float *out, const float *q, const float *k, const float *v, int E, int D, const live_units *u, const attn_seq *s, int n))
X(void, attention, (float *out, const float *q, const float *k, const float *v, int E, int H, const attn_seq *s, int n))
X(void, attention_back, (float *dq, float *dk, float *dv, const float *dout, const float *q, const float *k, const float *v, int E, int H, const attn_seq *s, int n))
X(void, attention_jvp, (float *tout, const float *q, const float *k, const float *v, const float *tq, const float *tk, const float *tv, int E, int H, const attn_seq *s, int n))
X(void, attention_back_jvp, (float *tdq, float *tdk, float *tdv, const float *dout, const float *tdout, const float *q, const float *k, const float *v, const float *tq, const float *tk, const float *tv, int E, int H, const attn_seq *s, int n))
X(void, linear_step, (float *w, float *m, float *v, const adamw *a, size_t bias, const float *dy, const float *x, int out, int in, int rows))
X(void, loss, (double *mean, float *dy, const float *y, const float *t, loss_kind kind, double positive, size_t n))
X(void, pool, (float *c, float *p, float *lse, const float *x, const float *count, const float *q, const float *k, int E, const span *s, int n))
X(void, pool_back, (float *dq, float *dk, float *dp, const float *dc, const float *x, const float *count, const float *q, const float *k, const float *lse, int E, const span *s, int n))
X(void, minmax, (float *y, const float *x, int E, const span *s, int n))
X(long, cut, (uint8_t *keep, const float *score, const uint8_t *only, const cut_range *c, int n))
#undef X
