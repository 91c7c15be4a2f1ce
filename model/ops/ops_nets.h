// ops_nets - what nets that predict scores are trained and run with, and the choice of units by scores: a group of
// ops.h.

// An AdamW step of W (out, in) by its gradient dy' x, which is never kept; w, m, v: W and its moments. bias: the same
// of a bias, so many floats after W; 0: there is none
OP(void, linear_step,
   (float *w, float *m, float *v, const adamw *a, size_t bias, const float *dy, const float *x, int out, int in,
    int rows))
// *mean (device memory) becomes the loss of n outputs, dy [n] (may be NULL) its gradient
OP(void, loss, (double *mean, float *dy, const float *y, const float *t, loss_kind kind, double positive, size_t n))
// One head of attention, no mask, the mean over its queries: of span i, P = softmax(q k' / sqrt(E)), p [rows] = the
// mean of P's rows, c[i] = x' p. A row counts as count [rows] equal ones, as query and as key. lse [rows] is for
// pool_back, which gives dq and dk, and dp [rows].
OP(void, pool,
   (float *c, float *p, float *lse, const float *x, const float *count, const float *q, const float *k, int E,
    const span *s, int n))
OP(void, pool_back,
   (float *dq, float *dk, float *dp, const float *dc, const float *x, const float *count, const float *q,
    const float *k, const float *lse, int E, const span *s, int n))
// y = (x - min) / (max - min) over all numbers of a span together, zeros where they are equal; y may be x
OP(void, minmax, (float *y, const float *x, int E, const span *s, int n))
// cut_lowest (lowest.h) of n ranges in order, none in another. score: device memory, keep and only: host memory.
// Returns -1, or the first place in a range whose score is NaN or infinite; then that range's keep means nothing.
OP(long, cut, (uint8_t * keep, const float *score, const uint8_t *only, const cut_range *c, int n))
// The same with keep and only in device memory. *bad (device memory) becomes 1 where a score in a range is NaN or
// infinite, then keep means nothing there; else it stays as it is.
OP(void, cut_here, (uint8_t * keep, int32_t *bad, const float *score, const uint8_t *only, const cut_range *c, int n))
