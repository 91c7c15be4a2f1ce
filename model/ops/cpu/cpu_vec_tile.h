// cpu_vec_tile - the kernels of one instruction set and weight type, a template that cpu_vec.c includes once for each.
// It defines
//   NAME(f)               the function's name for this set and type
//   TARGET                attribute of the set
//   V, LANES, MOST        a vector of floats, its length, rows of x that share a pass over w
//   ZERO SET1(c) LOADF(p) STORE(p, v) FMA(a, b, c) FMA1(a, b, c) ADD(a, b) SUM(v)
//   W, LOAD(p), WIDEN(w)  stored type; a vector of it as floats; one number of it as float
//   LOAD2(a, b, p)        two vectors in a row by as few reads as there can be: 16-bit weights that are read by halves
//                         of a line come at two thirds of the speed (Zen 4)

// Fetches, of rows to come, the lines that belong to the step at k.
TARGET INLINE void NAME(fetch)(const void *const *row, int k) {
    for (int line = 0; line < (int)(4 * LANES * sizeof(W)); line += 64) {
        const size_t at = (size_t)k * sizeof(W) + (size_t)line;
        if (!drops_requests) vec_fetch_line(row, (int)at);
        for (int i = VEC_APART; drops_requests && i <= VEC_AHEAD; i += VEC_APART)
            __builtin_prefetch((const char *)row[i] + at, 0, 2);
    }
}

// What is left of a row after the last whole step, fewer than 4 * LANES numbers. Out of line: in line, the branches of
// its loops cost a tenth of every row, though widths are multiples as a rule.
TARGET static __attribute__((noinline, cold)) float NAME(dot_tail)(const W *w, const float *x, int n) {
    V sum = ZERO;
    int k = 0;
    for (; k + LANES <= n; k += LANES) sum = FMA(LOADF(x + k), LOAD(w + k), sum);
    float s = SUM(sum);
    for (; k < n; k++) s += x[k] * WIDEN(w[k]);
    return s;
}

#define FETCH(row, k)                                                                                                  \
    do {                                                                                                               \
        if (row && (size_t)(k) * sizeof(W) % 64 == 0) NAME(fetch)(row, k);                                             \
    } while (0)

TARGET INLINE float NAME(dot_one)(const W *w, const void *const *soon, const float *x, int n) {
    V s0 = ZERO, s1 = ZERO, s2 = ZERO, s3 = ZERO, v0, v1, v2, v3;
    int k = 0;
    for (; k + 4 * LANES <= n; k += 4 * LANES) {
        FETCH(soon, k);
        LOAD2(v0, v1, w + k);
        LOAD2(v2, v3, w + k + 2 * LANES);
        s0 = FMA(LOADF(x + k), v0, s0);
        s1 = FMA(LOADF(x + k + LANES), v1, s1);
        s2 = FMA(LOADF(x + k + 2 * LANES), v2, s2);
        s3 = FMA(LOADF(x + k + 3 * LANES), v3, s3);
    }
    const float s = SUM(ADD(ADD(s0, s1), ADD(s2, s3)));
    return k < n ? s + NAME(dot_tail)(w + k, x + k, n - k) : s;
}

// The same numbers for several rows of x, each weight loaded once.
TARGET INLINE void NAME(dot_many)(float *out, const W *w, const void *const *soon, const float *const *x, int n) {
    V sum[MOST][4], v[4];
    for (int r = 0; r < MOST; r++)
        for (int i = 0; i < 4; i++) sum[r][i] = ZERO;
    int k = 0;
    for (; k + 4 * LANES <= n; k += 4 * LANES) {
        FETCH(soon, k);
        LOAD2(v[0], v[1], w + k);
        LOAD2(v[2], v[3], w + k + 2 * LANES);
        for (int i = 0; i < 4; i++)
            for (int r = 0; r < MOST; r++) sum[r][i] = FMA(LOADF(x[r] + k + i * LANES), v[i], sum[r][i]);
    }
    for (int r = 0; r < MOST; r++) {
        const float s = SUM(ADD(ADD(sum[r][0], sum[r][1]), ADD(sum[r][2], sum[r][3])));
        out[r] = k < n ? s + NAME(dot_tail)(w + k, x[r] + k, n - k) : s;
    }
}

// The same numbers for several rows of weights, each piece of x loaded once: where x takes most of the first-level
// cache, row by row it would have to come from the second one every time (Zen 4, rows of 32 KiB: 53 GB/s, else 41).
enum { NAME(LONG) = 5 << 10 };  // floats of such an x
TARGET INLINE void NAME(dot_long)(float *out, int ld, const W *const *w, const float *x, int n) {
    V sum[MOST][4], v[4];
    for (int r = 0; r < MOST; r++)
        for (int i = 0; i < 4; i++) sum[r][i] = ZERO;
    int k = 0;
    for (; k + 4 * LANES <= n; k += 4 * LANES)
        for (int r = 0; r < MOST; r++) {
            LOAD2(v[0], v[1], w[r] + k);
            LOAD2(v[2], v[3], w[r] + k + 2 * LANES);
            for (int i = 0; i < 4; i++) sum[r][i] = FMA(LOADF(x + k + i * LANES), v[i], sum[r][i]);
        }
    for (int r = 0; r < MOST; r++) {
        const float s = SUM(ADD(ADD(sum[r][0], sum[r][1]), ADD(sum[r][2], sum[r][3])));
        out[r * ld] = k < n ? s + NAME(dot_tail)(w[r] + k, x + k, n - k) : s;
    }
}

TARGET static void NAME(dot)(float *out, const vec_rows *w, const float *const *x, int R, int n) {
    const int rows = w->n;
    int r = 0;
    for (; MOST > 1 && r + MOST <= R; r += MOST)
        for (int i = 0; i < rows; i++)
            NAME(dot_many)(out + i * R + r, w->row[i], w->fetch && !r ? w->row + i : NULL, x + r, n);
    for (; r < R; r++) {
        int i = 0;
        for (; MOST > 1 && n >= NAME(LONG) && i + MOST <= rows; i += MOST) {
            const W *p[MOST];
            for (int j = 0; j < MOST; j++) p[j] = w->row[i + j];
            NAME(dot_long)(out + i * R + r, R, p, x[r], n);
        }
        if (w->fetch && !r)
            for (; i < rows; i++) out[i * R + r] = NAME(dot_one)(w->row[i], w->row + i, x[r], n);
        else
            for (; i < rows; i++) out[i * R + r] = NAME(dot_one)(w->row[i], NULL, x[r], n);
    }
}

// Columns k .. k + 4 * LANES of all rows: y stays in registers.
TARGET INLINE void NAME(sum_columns)(float *y, const float *c, const vec_rows *w, int k) {
    V s0 = LOADF(y + k), s1 = LOADF(y + k + LANES), s2 = LOADF(y + k + 2 * LANES), s3 = LOADF(y + k + 3 * LANES), v0,
      v1, v2, v3;
    for (int i = 0; i < w->n; i++) {
        const W *p = (const W *)w->row[i] + k;
        const V cs = SET1(c[i]);
        if (w->fetch) NAME(fetch)(w->row + i, k);
        LOAD2(v0, v1, p);
        LOAD2(v2, v3, p + 2 * LANES);
        s0 = FMA(cs, v0, s0);
        s1 = FMA(cs, v1, s1);
        s2 = FMA(cs, v2, s2);
        s3 = FMA(cs, v3, s3);
    }
    STORE(y + k, s0);
    STORE(y + k + LANES, s1);
    STORE(y + k + 2 * LANES, s2);
    STORE(y + k + 3 * LANES, s3);
}

TARGET static __attribute__((noinline, cold)) void NAME(sum_tail)(float *y, float c, const W *w, int n) {
    const V cs = SET1(c);
    int k = 0;
    for (; k + LANES <= n; k += LANES) STORE(y + k, FMA(cs, LOAD(w + k), LOADF(y + k)));
    for (; k < n; k++) y[k] = FMA1(c, WIDEN(w[k]), y[k]);
}

TARGET INLINE void NAME(sum_row)(float *y, float c, const W *w, const void *const *soon, int from, int n) {
    const V cs = SET1(c);
    V v0, v1, v2, v3;
    int k = from;
    for (; k + 4 * LANES <= n; k += 4 * LANES) {
        FETCH(soon, k);
        LOAD2(v0, v1, w + k);
        LOAD2(v2, v3, w + k + 2 * LANES);
        STORE(y + k, FMA(cs, v0, LOADF(y + k)));
        STORE(y + k + LANES, FMA(cs, v1, LOADF(y + k + LANES)));
        STORE(y + k + 2 * LANES, FMA(cs, v2, LOADF(y + k + 2 * LANES)));
        STORE(y + k + 3 * LANES, FMA(cs, v3, LOADF(y + k + 3 * LANES)));
    }
    if (k < n) NAME(sum_tail)(y + k, c, w + k, n - k);
}

// Short rows: columns outside. Long ones: row by row, in the order of memory. Each y[k] adds up in the order of the
// rows either way.
TARGET static void NAME(sum_one)(float *y, const float *c, const vec_rows *w, int n) {
    int from = 0;
    if (n <= 16 * LANES)
        for (; from + 4 * LANES <= n; from += 4 * LANES) NAME(sum_columns)(y, c, w, from);
    if (from == n) return;
    if (w->fetch)
        for (int i = 0; i < w->n; i++) NAME(sum_row)(y, c[i], w->row[i], w->row + i, from, n);
    else
        for (int i = 0; i < w->n; i++) NAME(sum_row)(y, c[i], w->row[i], NULL, from, n);
}

// The same numbers for R rows of y, from `rows` rows of weights on the i-th, each weight loaded once, each y twice.
TARGET INLINE void NAME(sum_some)(float *const *y, const float *const *c, const vec_rows *w, const int i,
                                  const int rows, const int R, bool fetch, int n) {
    V s[MOST][2], v[2];
    int k = 0;
    for (; k + 2 * LANES <= n; k += 2 * LANES) {
        for (int r = 0; r < R; r++)
            for (int j = 0; j < 2; j++) s[r][j] = LOADF(y[r] + k + j * LANES);
        for (int p = 0; p < rows; p++) {
            if (fetch && k % (4 * LANES) == 0) NAME(fetch)(w->row + i + p, k);
            LOAD2(v[0], v[1], (const W *)w->row[i + p] + k);
            for (int r = 0; r < R; r++)
                for (int j = 0; j < 2; j++) s[r][j] = FMA(SET1(c[r][i + p]), v[j], s[r][j]);
        }
        for (int r = 0; r < R; r++)
            for (int j = 0; j < 2; j++) STORE(y[r] + k + j * LANES, s[r][j]);
    }
    for (int p = 0; p < rows && k < n; p++)
        for (int r = 0; r < R; r++) NAME(sum_tail)(y[r] + k, c[r][i + p], (const W *)w->row[i + p] + k, n - k);
}
TARGET INLINE void NAME(sum_many)(float *const *y, const float *const *c, const vec_rows *w, const int R, bool fetch,
                                  int n) {
    int i = 0;
    for (; i + 4 <= w->n; i += 4) NAME(sum_some)(y, c, w, i, 4, R, fetch, n);
    for (; i < w->n; i++) NAME(sum_some)(y, c, w, i, 1, R, fetch, n);
}

TARGET static void NAME(sum)(float *const *y, const float *const *c, int R, const vec_rows *w, int n) {
    int r = 0;
    for (; MOST > 1 && r + MOST <= R; r += MOST) NAME(sum_many)(y + r, c + r, w, MOST, w->fetch && !r, n);
    for (; MOST > 2 && r + 2 <= R; r += 2) NAME(sum_many)(y + r, c + r, w, 2, w->fetch && !r, n);
    for (; r < R; r++) NAME(sum_one)(y[r], c[r], &(vec_rows){w->row, w->n, w->fetch && !r}, n);
}
#undef FETCH
#undef NAME
#undef W
#undef LOAD
#undef LOAD2
#undef WIDEN
