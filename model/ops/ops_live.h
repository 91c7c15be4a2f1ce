// ops_live - operations of layers of which some units are pruned: a group of ops.h. Masked, which computes all units:
// drop_units clears what a pruned one has put out. Sparse: the live_ operations compute the live units (live_units of
// ops.h) only. A unit is D rows of W.

// x[:, u*D..] = value[u*D..] (device memory; NULL: 0) at rows from[i].. of span i for every unit u that units[i] (bytes
// in host memory, 1 = runs) leaves out; units[i] NULL: nothing
OP(void, drop_units,
   (float *x, const float *value, const uint8_t *const *units, const int *from, int U, int D, const span *s, int n))
// At rows of span i x = 0 where |by| (rows, F; x itself, or another array) is not above above[i] (host memory; NAN: the
// span stays as it is), and kept[row] (device memory) += how many are above
OP(void, keep_above, (float *x, const float *by, int32_t *kept, const float *above, int F, const span *s, int n))
// list (device memory) = how many of x [F] have |x| > above, and then which, ascending
OP(void, list_above, (int32_t * list, const float *x, float above, int F))
// Of U units: list [1 + U] = how many at least one of up to LIST_SEQS sequences runs, and then which, ascending; wants
// [.., seqs] (NULL: not wanted) which of the sequences run each of them. keep[i]: bytes of sequence i, 1 = runs; NULL:
// it runs none. heads NULL: they are of these units; else of query heads, and the units are KV heads, of which those
// run that a running head reads. stack: of so many layers at once, by arrays that lie so far apart; NULL: of one. All
// in device memory but keep itself, heads and stack
OP(void, list_live,
   (int32_t * list, uint8_t *wants, const uint8_t *const *keep, int seqs, int U, const attn_heads *heads,
    const list_stack *stack))
// y = x W' + b at the columns of live units, then ReLU where asked; other columns stay as they are. out or in may be 0
OP(void, live_linear,
   (float *y, const float *x, const weight *w, const weight *b, bool relu, int D, const live_units *u, const span *s,
    int n))
// y += x Wt + b over the live rows of Wt (units * D, out); other columns of x are not read
OP(void, live_linear_t,
   (float *y, const float *x, const weight *wt, const weight *b, int D, const live_units *u, const span *s, int n))
// Other heads of out stay as they are
OP(void, live_attention,
   (float *out, const float *q, const float *k, const float *v, const attn_heads *h, const live_units *u,
    const attn_seq *s, int n))
