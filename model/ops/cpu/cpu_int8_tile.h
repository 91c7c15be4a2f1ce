// cpu_int8_tile - dot products of one instruction set and type of blocks, a template that cpu_int8.c includes once for
// each. It defines, beside TARGET and the set's operations,
//   NAME(f)                   the function's name for this set and type
//   STEP_BYTES                bytes of a block
//   SCALES(dw, m, w, n)       dw and m of the n blocks at w, INT8_CHUNK or at most REST, as vectors, 0 after the n-th
//   REST                      blocks after the last whole chunk that are taken at once
//   STEP                      blocks that are multiplied at once: 2 or 4
//   NUMBERS, TAKE(w, b, n)    the numbers p of STEP blocks from block b at w on, of this type; only n are read
//   ROW                       of a row of 8-bit numbers, those that go with p: q or fours
//   DOT(p, q)                 16 sums of products with the numbers at q, 16 / STEP for each block side by side
//   SPREAD(t, j)              t, a number for each block of a chunk, in the places of the sums of the j-th STEP
// and operations on vectors of 16 floats: V16, ZERO16, LOAD16(p), MUL16, FMA16(a, b, c), FLOAT16 of the sums, SUM16,
// SUM16_4(out, v): the sums of four of them; UNROLL before a loop over a chunk or four rows.

TARGET INLINE void NAME(step)(V16 *sum, const V16 *t, const uint8_t *w, const int8_row *const *x, const int R, int from,
                              const int j, const int n) {
    const NUMBERS p = TAKE(w, STEP * j, n);
    for (int r = 0; r < R; r++)
        sum[r] = FMA16(FLOAT16(DOT(p, x[r]->ROW + 32 * (from + STEP * j))), SPREAD(t[r], j), sum[r]);
}

// n blocks at w, those from `from` on of a row, with R rows of x. soon: where vec_fetch finds rows to come, or NULL.
TARGET INLINE void NAME(chunk)(V16 *sum, const uint8_t *w, const void *const *soon, const int8_row *const *x,
                               const int R, int from, const int n) {
    enum { LINES = (INT8_CHUNK * STEP_BYTES + 63) / 64, STEPS = INT8_CHUNK / STEP };
    V16 t[VEC_ROWS], dw, m;
    SCALES(dw, m, w, n);
    for (int r = 0; r < R; r++) {
        t[r] = MUL16(dw, LOAD16(x[r]->d + from));
        if (HAS_LEAST) sum[r] = FMA16(m, LOAD16(x[r]->sum + from), sum[r]);
    }
    UNROLL
    for (int j = 0; j < n / STEP; j++) {
        for (int k = j * LINES / STEPS; soon && k < (j + 1) * LINES / STEPS; k++)
            vec_fetch_line(soon, from * STEP_BYTES + 64 * k);
        NAME(step)(sum, t, w, x, R, from, j, STEP);
    }
    if (n % STEP) NAME(step)(sum, t, w, x, R, from, n / STEP, n % STEP);
}

// W rows of weights with R of x, one or VEC_ROWS sums in all.
TARGET INLINE void NAME(dot_rows)(float *out, const void *const *w, bool fetch, const int W, const int8_row *const *x,
                                  const int R, int n) {
    const int blocks = n / 32, whole = blocks / INT8_CHUNK * INT8_CHUNK;
    V16 sum[VEC_ROWS];
    for (int i = 0; i < W * R; i++) sum[i] = ZERO16;
    for (int from = 0; from < whole; from += INT8_CHUNK) {
        UNROLL
        for (int i = 0; i < W; i++) {
            const uint8_t *at = (const uint8_t *)w[i] + from * STEP_BYTES;
            NAME(chunk)(sum + i * R, at, fetch ? w + i : NULL, x, R, from, INT8_CHUNK);
        }
    }
    for (int from = whole; from < blocks; from += REST) {
        const int rest = blocks - from < REST ? blocks - from : REST;
        UNROLL
        for (int i = 0; i < W; i++) {
            if (fetch) vec_fetch(w + i, from * STEP_BYTES, rest * STEP_BYTES);
            NAME(chunk)(sum + i * R, (const uint8_t *)w[i] + from * STEP_BYTES, NULL, x, R, from, rest);
        }
    }
    if (W * R == VEC_ROWS)
        SUM16_4(out, sum);
    else
        *out = SUM16(sum[0]);
}

TARGET static void NAME(dot)(float *out, const vec_rows *w, const int8_row *const *x, int R, int n) {
    int i = 0;
    if (R == VEC_ROWS)
        for (; i < w->n; i++) NAME(dot_rows)(out + i * R, w->row + i, w->fetch, 1, x, VEC_ROWS, n);
    if (R == 1)
        for (; i + VEC_ROWS <= w->n; i += VEC_ROWS) NAME(dot_rows)(out + i, w->row + i, w->fetch, VEC_ROWS, x, 1, n);
    for (; i < w->n; i++)
        for (int r = 0; r < R; r++) NAME(dot_rows)(out + i * R + r, w->row + i, w->fetch && !r, 1, x + r, 1, n);
}
#undef NAME
#undef SCALES
#undef REST
#undef STEP
#undef NUMBERS
#undef TAKE
#undef ROW
#undef DOT
#undef SPREAD
#undef STEP_BYTES
#undef HAS_LEAST
