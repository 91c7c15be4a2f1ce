// ops_cpu_vec_tile - the kernels of one instruction set and weight type, a template that ops_cpu_vec.c includes once for each. It defines
//   NAME(f)               the function's name for this set and type
//   TARGET                attribute of the set
//   V, LANES, MOST        a vector of floats, its length, rows of x that share a pass over w
//   ZERO SET1(c) LOADF(p) STORE(p, v) FMA(a, b, c) FMA1(a, b, c) ADD(a, b) SUM(v)
//   W, LOAD(p), WIDEN(w)  stored type; a vector of it as floats; one number of it as float
//   LOAD2(a, b, p)        two vectors in a row by as few reads as there can be: 16-bit weights that are read by halves of a line come at two
//                         thirds of the speed (Zen 4)

// Fetches the lines of `next` that belong to the step at k of n: one in each quarter in turn.
TARGET INLINE void NAME(fetch)(const W *next, int k, int n) {
    const int lines = n * (int)sizeof(W) / 64, quarter = lines / 4, first = k * (int)sizeof(W) / 64, step = (int)(4 * LANES * sizeof(W)) / 64;
    const char *p = (const char *)next + first / 4 * 64;
    for (int i = 0; i < (step < 4 ? 1 : step / 4); i++)
        for (int part = 0; part < 4; part++) __builtin_prefetch(p + (part * quarter + i) * 64, 0, 2);
}

TARGET INLINE void NAME(dot_row)(float *out, const W *w, const W *next, const float *const *x, int n, const int R) {
    V sum[VEC_ROWS][4];
    for (int r = 0; r < R; r++)
        for (int i = 0; i < 4; i++) sum[r][i] = ZERO;
    int k = 0;
    for (; k + 4 * LANES <= n; k += 4 * LANES) {
        if (next && (4 * LANES * sizeof(W) >= 256 || k % (256 / (int)sizeof(W)) == 0)) NAME(fetch)(next, k, n);
        V v[4];
        LOAD2(v[0], v[1], w + k);
        LOAD2(v[2], v[3], w + k + 2 * LANES);
        for (int i = 0; i < 4; i++)
            for (int r = 0; r < R; r++) sum[r][i] = FMA(LOADF(x[r] + k + i * LANES), v[i], sum[r][i]);
    }
    for (; k + LANES <= n; k += LANES)
        for (int r = 0; r < R; r++) sum[r][0] = FMA(LOADF(x[r] + k), LOAD(w + k), sum[r][0]);
    for (int r = 0; r < R; r++) {
        float s = SUM(ADD(ADD(sum[r][0], sum[r][1]), ADD(sum[r][2], sum[r][3])));
        for (int i = k; i < n; i++) s += x[r][i] * WIDEN(w[i]);
        out[r] = s;
    }
}

TARGET INLINE void NAME(dot_rows)(float *out, int ld, const void *const *w, const void *const *next, int rows, const float *const *x, int n, const int R) {
    if (!next)
        for (int i = 0; i < rows; i++) NAME(dot_row)(out + i * ld, w[i], NULL, x, n, R);
    else
        for (int i = 0; i < rows; i++) NAME(dot_row)(out + i * ld, w[i], next[i], x, n, R);
}

TARGET static void NAME(dot)(float *out, const void *const *w, const void *const *next, int rows, const float *const *x, int R, int n) {
    int r = 0;
    for (; r + MOST <= R; r += MOST) NAME(dot_rows)(out + r, R, w, r ? NULL : next, rows, x + r, n, MOST);
    for (; r < R; r++) NAME(dot_rows)(out + r, R, w, r ? NULL : next, rows, x + r, n, 1);
}

// Columns k .. k + 4 * LANES of all rows: y stays in registers.
TARGET INLINE void NAME(sum_columns)(float *y, const float *c, const void *const *w, int rows, int k) {
    V s[4];
    for (int j = 0; j < 4; j++) s[j] = LOADF(y + k + j * LANES);
    for (int i = 0; i < rows; i++) {
        const W *p = (const W *)w[i] + k;
        const V cs = SET1(c[i]);
        V v[4];
        LOAD2(v[0], v[1], p);
        LOAD2(v[2], v[3], p + 2 * LANES);
        for (int j = 0; j < 4; j++) s[j] = FMA(cs, v[j], s[j]);
    }
    for (int j = 0; j < 4; j++) STORE(y + k + j * LANES, s[j]);
}

TARGET INLINE void NAME(sum_row)(float *y, float c, const W *w, const W *next, int from, int n) {
    const V cs = SET1(c);
    int k = from;
    for (; k + 4 * LANES <= n; k += 4 * LANES) {
        if (next && (4 * LANES * sizeof(W) >= 256 || k % (256 / (int)sizeof(W)) == 0)) NAME(fetch)(next, k, n);
        V v[4];
        LOAD2(v[0], v[1], w + k);
        LOAD2(v[2], v[3], w + k + 2 * LANES);
        for (int j = 0; j < 4; j++) STORE(y + k + j * LANES, FMA(cs, v[j], LOADF(y + k + j * LANES)));
    }
    for (; k + LANES <= n; k += LANES) STORE(y + k, FMA(cs, LOAD(w + k), LOADF(y + k)));
    for (; k < n; k++) y[k] = FMA1(c, WIDEN(w[k]), y[k]);
}

// Short rows: columns outside. Long ones: row by row, in the order of memory. Each y[k] adds up in the order of the rows either way.
TARGET static void NAME(sum)(float *y, const float *c, const void *const *w, const void *const *next, int rows, int n) {
    int from = 0;
    if (n <= 16 * LANES)
        for (; from + 4 * LANES <= n; from += 4 * LANES) NAME(sum_columns)(y, c, w, rows, from);
    if (from == n) return;
    for (int i = 0; i < rows; i++) NAME(sum_row)(y, c[i], w[i], next ? next[i] : NULL, from, n);
}
#undef NAME
#undef W
#undef LOAD
#undef LOAD2
#undef WIDEN
