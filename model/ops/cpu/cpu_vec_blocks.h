// cpu_vec_blocks - the kernels of one instruction set and type of blocks, a template that cpu_vec.c includes once for
// each after those of cpu_vec_tile.h. It defines, beside TARGET, V, LANES, MOST and the operations on vectors,
//   NAME(f)          the function's name for this set and type
//   TAKE(to, row, b, k)  the b-th 32 numbers of a row as floats, in PER vectors
//   NEW_SCALES(k, row, b, first)  what TAKE needs of a block of 256, into *k; first: where the row is entered
//   STEP_BYTES       bytes of 32 numbers
// and of types in which x = d q
//   NUMBERS(to, row, b)  the b-th 32 q as floats, in PER vectors
//   HALVES(to, w, n, c)  c d of the n blocks at w, at most VEC_CHUNK
// A row is read in steps of 32 numbers; each vector of a step has a sum of its own. So no number depends on how many
// rows of x or of weights a call takes.

TARGET INLINE void NAME(dot_rows)(float *out, const uint8_t *w, const void *const *soon, const float *const *x,
                                  const int R, int n) {
    V sum[MOST][PER], v[PER];
    k_scales k;
    for (int r = 0; r < R; r++)
        for (int j = 0; j < PER; j++) sum[r][j] = ZERO;
    for (int b = 0; b < n / 32; b++) {
        if (soon) vec_fetch(soon, b * STEP_BYTES, STEP_BYTES);
        NEW_SCALES(&k, w, b, 0);
        TAKE(v, w, b, &k);
        for (int j = 0; j < PER; j++)
            for (int r = 0; r < R; r++) sum[r][j] = FMA(LOADF(x[r] + 32 * b + j * LANES), v[j], sum[r][j]);
    }
    for (int r = 0; r < R; r++) {
        for (int half = PER / 2; half; half /= 2)
            for (int j = 0; j < half; j++) sum[r][j] = ADD(sum[r][j], sum[r][j + half]);
        out[r] = SUM(sum[r][0]);
    }
}

TARGET static void NAME(dot)(float *out, const vec_rows *w, const float *const *x, int R, int n) {
    int r = 0;
    for (; MOST > 1 && r + MOST <= R; r += MOST)
        for (int i = 0; i < w->n; i++)
            NAME(dot_rows)(out + i * R + r, w->row[i], w->fetch && !r ? w->row + i : NULL, x + r, MOST, n);
    for (; r < R; r++)
        for (int i = 0; i < w->n; i++)
            NAME(dot_rows)(out + i * R + r, w->row[i], w->fetch && !r ? w->row + i : NULL, x + r, 1, n);
}

// y[r] += sum of c[r][i] w[i] over some rows from the first on, for R rows of y, held in registers meanwhile.
#ifdef NUMBERS
// As (c d) q: a block's d is met once, not by each vector.
TARGET INLINE void NAME(sum_rows)(float *const *y, const float *const *c, const void *const *w, const int first,
                                  bool fetch, const int rows, const int R, int n) {
    float d[MOST][4][VEC_CHUNK];
    V q[PER], s[MOST][PER];
    w += first;
    for (int from = 0; from < n / 32; from += VEC_CHUNK) {
        const int some = vec_chunk(n / 32 - from);
        for (int r = 0; r < R; r++)
            for (int i = 0; i < rows; i++)
                HALVES(d[r][i], (const uint8_t *)w[i] + from * STEP_BYTES, some, c[r][first + i]);
        for (int b = 0; b < some; b++) {
            const int at = 32 * (from + b);
            if (fetch) vec_fetch(w + b % rows, (from + b / rows * rows) * STEP_BYTES, rows * STEP_BYTES);
            for (int r = 0; r < R; r++)
                for (int j = 0; j < PER; j++) s[r][j] = LOADF(y[r] + at + j * LANES);
            for (int i = 0; i < rows; i++) {
                NUMBERS(q, w[i], from + b);
                for (int r = 0; r < R; r++)
                    for (int j = 0; j < PER; j++) s[r][j] = FMA(SET1(d[r][i][b]), q[j], s[r][j]);
            }
            for (int r = 0; r < R; r++)
                for (int j = 0; j < PER; j++) STORE(y[r] + at + j * LANES, s[r][j]);
        }
    }
}
#else
TARGET INLINE void NAME(sum_rows)(float *const *y, const float *const *c, const void *const *w, const int first,
                                  bool fetch, const int rows, const int R, int n) {
    V v[PER], s[MOST][PER];
    k_scales k[4];
    w += first;
    for (int b = 0; b < n / 32; b++) {
        const int at = 32 * b;
        for (int r = 0; r < R; r++)
            for (int j = 0; j < PER; j++) s[r][j] = LOADF(y[r] + at + j * LANES);
        for (int i = 0; i < rows; i++) {
            if (fetch) vec_fetch(w + i, b * STEP_BYTES, STEP_BYTES);
            NEW_SCALES(&k[i], w[i], b, 0);
            TAKE(v, w[i], b, &k[i]);
            for (int r = 0; r < R; r++)
                for (int j = 0; j < PER; j++) s[r][j] = FMA(SET1(c[r][first + i]), v[j], s[r][j]);
        }
        for (int r = 0; r < R; r++)
            for (int j = 0; j < PER; j++) STORE(y[r] + at + j * LANES, s[r][j]);
    }
}
#endif

TARGET INLINE void NAME(sum_many)(float *const *y, const float *const *c, const vec_rows *w, const int R, bool fetch,
                                  int n) {
    int i = 0;
    for (; i + 4 <= w->n; i += 4) NAME(sum_rows)(y, c, w->row, i, fetch, 4, R, n);
    for (; i < w->n; i++) NAME(sum_rows)(y, c, w->row, i, fetch, 1, R, n);
}
TARGET static void NAME(sum)(float *const *y, const float *const *c, int R, const vec_rows *w, int n) {
    int r = 0;
    for (; MOST > 1 && r + MOST <= R; r += MOST) NAME(sum_many)(y + r, c + r, w, MOST, w->fetch && !r, n);
    for (; r < R; r++) NAME(sum_many)(y + r, c + r, w, 1, w->fetch && !r, n);
}

TARGET static void NAME(widen)(float *to, const void *row, size_t from, size_t n) {
    V v[PER];
    k_scales k;
    const int first = (int)(from / 32), end = first + (int)(n / 32);
    for (int b = first; b < end; b++, to += 32) {
        NEW_SCALES(&k, row, b, first);
        TAKE(v, row, b, &k);
        for (int j = 0; j < PER; j++) STORE(to + j * LANES, v[j]);
    }
}
#undef NAME
#undef TAKE
#undef NUMBERS
#undef HALVES
#undef NEW_SCALES
#undef STEP_BYTES
