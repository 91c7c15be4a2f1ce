// ops_transformer - operations of a transformer's layers, their gradients and tangents: a group of ops.h.

// ---------------------------------------------------------------- rows
// y (rows, W cols) = embed[tokens[row]]; tokens: device memory. On a device that records, -1, which likeliest leaves
// where there is no token, counts as 0
OP(void, embed, (float *y, const int32_t *tokens, const weight *w, const span *s, int n))
// dw[tokens[row]] += dy (rows, W cols); tokens: host memory
OP(void, embed_grad, (float *dw, const float *dy, const int32_t *tokens, int cols, const span *s, int n))
// x (rows, E) += pos[first[i] + t + 2]; first: device memory
OP(void, add_positions, (float *x, const weight *pos, const int32_t *first, const span *s, int n))
// Row at[i] + t of to[i] (rows of E floats) = row t of span i of x; to[i] NULL: that span is left out. at: device
// memory
OP(void, append, (float *const *to, const float *x, int E, const int32_t *at, const span *s, int n))
// y = max(x, 0); y = x where gate > 0, else 0
OP(void, relu, (float *y, const float *x, int F, const span *s, int n))
OP(void, gate, (float *y, const float *x, const float *gate, int F, const span *s, int n))
// x (rows, units * D), in place: numbers i and i + R/2 of each unit, R columns of the table, are turned by the angle of
// the row's position, whose cosine and sine are table[first[i] + t] = (cos [R/2], sin [R/2]); back: by minus the angle.
// What a unit has after R numbers stays. first: device memory
OP(void, rotate,
   (float *x, int D, const weight *table, const int32_t *first, int units, bool back, const span *s, int n))
// r = act(g) u, element by element; its gradients dg, du from dr; its tangent; the tangents of its gradients. u NULL,
// and with it du, tu, tdu: r = act(g)
OP(void, gated, (float *r, const float *g, const float *u, activation act, int F, const span *s, int n))
OP(void, gated_back,
   (float *dg, float *du, const float *dr, const float *g, const float *u, activation act, int F, const span *s, int n))
OP(void, gated_jvp,
   (float *tr, const float *g, const float *u, const float *tg, const float *tu, activation act, int F, const span *s,
    int n))
OP(void, gated_back_jvp,
   (float *tdg, float *tdu, const float *dr, const float *tdr, const float *g, const float *u, const float *tg,
    const float *tu, activation act, int F, const span *s, int n))
// y = x; y += scale * x
OP(void, move, (float *y, const float *x, int E, const span *s, int n))
OP(void, add, (float *y, const float *x, float scale, int E, const span *s, int n))

// ---------------------------------------------------------------- linear maps
// W (out, in), x (rows, in), y (rows, out); out or in may be 0. linear and linear_back take turned weights, too.
// y = x W' + b, or y += x W' + b where add; b may be NULL
OP(void, linear, (float *y, const float *x, const weight *w, const weight *b, bool add, const span *s, int n))
// dx = dy W, or dx += dy W where add
OP(void, linear_back, (float *dx, const float *dy, const weight *w, bool add, const span *s, int n))
// dw (out, in) += dy' x and db (out) += column sums of dy, summed over the spans in order; db may be NULL
OP(void, linear_grad, (float *dw, float *db, const float *dy, const float *x, int out, int in, const span *s, int n))

// ---------------------------------------------------------------- a sublayer's maps
// Several operations in one, to the bits of these: a token of generation waits for every launch.
// Up to SUBLAYER_MAPS maps of an input, as q, k and v are; first: positions of the spans' first rows, device memory; at
// these rows caches begin. table: of rotate, or NULL
OP(void, maps,
   (const sublayer_input *in, const sublayer_map *m, int maps, const weight *table, const int32_t *first, const span *s,
    int n))
// r = act(y_0), or of two maps act(y_0) y_1, at the columns of live units; others of r are not defined. The maps' y are
// scratch
OP(void, hidden,
   (float *r, const sublayer_input *in, const sublayer_map *m, int maps, activation act, const span *s, int n))

// ---------------------------------------------------------------- norms
// y = N(x) over each row (norm_shape); b: NULL of NORM_RMS. y may be x
OP(void, norm, (float *y, const float *x, const weight *g, const weight *b, norm_shape h, const span *s, int n))
OP(void, norm_back,
   (float *dx, const float *dy, const float *x, const weight *g, norm_shape h, bool add, const span *s, int n))
OP(void, norm_grad, (float *dg, float *db, const float *dy, const float *x, norm_shape h, const span *s, int n))
OP(void, norm_jvp, (float *ty, const float *x, const float *tx, const weight *g, norm_shape h, const span *s, int n))
OP(void, norm_back_jvp,
   (float *tdx, const float *dy, const float *tdy, const float *x, const float *tx, const weight *g, norm_shape h,
    bool add, const span *s, int n))

// ---------------------------------------------------------------- attention
// Causal, over the past and the span's own tokens (attn_heads.h).
OP(void, attention,
   (float *out, const float *q, const float *k, const float *v, const attn_heads *h, const attn_seq *s, int n))
OP(void, attention_back,
   (float *dq, float *dk, float *dv, const float *dout, const float *q, const float *k, const float *v,
    const attn_heads *h, const attn_seq *s, int n))
OP(void, attention_jvp,
   (float *tout, const float *q, const float *k, const float *v, const float *tq, const float *tk, const float *tv,
    const attn_heads *h, const attn_seq *s, int n))
OP(void, attention_back_jvp,
   (float *tdq, float *tdk, float *tdv, const float *dout, const float *tdout, const float *q, const float *k,
    const float *v, const float *tq, const float *tk, const float *tv, const attn_heads *h, const attn_seq *s, int n))

// ---------------------------------------------------------------- cross-entropy
// target, scale, logprob, top: host memory.
// logits (rows, V) -> logprob[row] of target[row] and the argmax top[row] (may be NULL), over the first `vocab` columns
OP(void, logprob,
   (double *logprob, int32_t *top, const float *logits, const int32_t *target, int V, int vocab, int rows))
// token[row] = the place of the largest of a row of logits (rows, V), the first of equals, or -1 where one is NaN or
// infinite; at[row] (may be NULL) += 1. So a step of greedy decoding leaves where the next one finds its token and
// position. token, at: device memory
OP(void, likeliest, (int32_t * token, int32_t *at, const float *logits, int V, int rows))
// logits become d(-scale[row] log p[target]) / dlogits, in place
OP(void, xent_back, (float *logits, const int32_t *target, const float *scale, int V, int rows))
// tlogits becomes the tangent of that gradient; dlogits is the gradient
OP(void, xent_back_jvp,
   (float *tlogits, const float *dlogits, const int32_t *target, const float *scale, int V, int rows))
