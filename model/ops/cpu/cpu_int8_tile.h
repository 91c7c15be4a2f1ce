// cpu_int8_tile - dot products of one instruction set and type of blocks, a template that cpu_int8.c includes once for
// each. It defines, beside TARGET and the set's operations,
//   NAME(f)                   the function's name for this set and type
//   SCALES(dw, m, w, b, n)    dw and m of n blocks from block b on as vectors, 0 after the n-th
//   TAKE(w, b, two)           the numbers p of blocks b and, if two, b + 1
//   DOT(p, q)                 16 sums of four products with the 64 numbers at q, those of a block side by side
//   STEP_BYTES                bytes of a block's numbers
// and operations on vectors of 16 floats: V16, ZERO16, LOAD16(p), MUL16, FMA16(a, b, c), FLOAT16 of the sums,
// SPREAD(t, j): numbers 2j and 2j + 1 of t, eight times each, SUM16; UNROLL: whether a constant j makes that quicker.

// Fetches, of rows to come, the lines that the blocks from .. from + n begin in, or enter.
TARGET INLINE void NAME(fetch)(const void *const *row, int from, int n) {
    const int first = (from * STEP_BYTES + 63) / 64 * 64, end = (from + n) * STEP_BYTES;
    for (int i = VEC_SOON; i <= VEC_AHEAD; i += VEC_AHEAD - VEC_SOON)
        for (int at = from ? first : 0; at < end; at += 64) __builtin_prefetch((const char *)row[i] + at, 0, 2);
}

TARGET INLINE void NAME(pair)(V16 *sum, const V16 *t, const uint8_t *w, const int8_row *const *x, const int R, int from,
                              const int j, const bool two) {
    const int b = from + 2 * j;
    const P64 p = TAKE(w, b, two);
    for (int r = 0; r < R; r++) sum[r] = FMA16(FLOAT16(DOT(p, x[r]->q + 32 * b)), SPREAD(t[r], j), sum[r]);
}

TARGET INLINE void NAME(dot_rows)(float *out, const uint8_t *w, const void *const *soon, const int8_row *const *x,
                                  const int R, int n) {
    const int blocks = n / 32;
    V16 sum[VEC_ROWS], less[VEC_ROWS], t[VEC_ROWS], dw, m;
    for (int r = 0; r < R; r++) sum[r] = less[r] = ZERO16;
    for (int from = 0; from < blocks; from += INT8_CHUNK) {
        const int some = blocks - from < INT8_CHUNK ? blocks - from : INT8_CHUNK;
        if (soon) NAME(fetch)(soon, from, some);
        SCALES(dw, m, w, from, some);
        for (int r = 0; r < R; r++) {
            t[r] = MUL16(dw, LOAD16(x[r]->d + from));
            if (HAS_LEAST) less[r] = FMA16(m, LOAD16(x[r]->sum + from), less[r]);
        }
        if (UNROLL && some == INT8_CHUNK) {
#pragma GCC unroll 8
            for (int j = 0; j < INT8_CHUNK / 2; j++) NAME(pair)(sum, t, w, x, R, from, j, true);
        } else
            for (int j = 0; 2 * j < some; j++) NAME(pair)(sum, t, w, x, R, from, j, 2 * j + 1 < some);
    }
    for (int r = 0; r < R; r++) out[r] = SUM16(sum[r]) + (HAS_LEAST ? SUM16(less[r]) : 0);
}

TARGET static void NAME(dot)(float *out, const vec_rows *w, const int8_row *const *x, int R, int n) {
    for (int i = 0; i < w->n; i++) {
        const void *const *soon = w->fetch ? w->row + i : NULL;
        if (R == VEC_ROWS)
            NAME(dot_rows)(out + i * R, w->row[i], soon, x, VEC_ROWS, n);
        else
            for (int r = 0; r < R; r++) NAME(dot_rows)(out + i * R + r, w->row[i], r ? NULL : soon, x + r, 1, n);
    }
}
#undef NAME
#undef SCALES
#undef TAKE
#undef DOT
#undef STEP_BYTES
#undef HAS_LEAST
