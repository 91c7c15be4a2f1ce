// ops_cpu_vec_tile - the kernels of one instruction set and weight type, a template that ops_cpu_vec.c includes once for each. It defines
//   NAME(f)               the function's name for this set and type
//   TARGET                attribute of the set
//   V, LANES, MOST        a vector of floats, its length, rows of x that share a pass over w
//   ZERO SET1(c) LOADF(p) STORE(p, v) FMA(a, b, c) FMA1(a, b, c) ADD(a, b) SUM(v)
//   W, LOAD(p), WIDEN(w)  stored type; a vector of it as floats; one number of it as float

// Fetches the lines of `next` that belong to the step at k of n: one in each quarter in turn.
TARGET INLINE void NAME(fetch)(const W *next, int k, int n) {
    const int lines = n * (int)sizeof(W) / 64, quarter = lines / 4, first = k * (int)sizeof(W) / 64, step = (int)(4 * LANES * sizeof(W)) / 64;
    const char *p = (const char *)next + first / 4 * 64;
    for (int i = 0; i < (step < 4 ? 1 : step / 4); i++)
        for (int part = 0; part < 4; part++) __builtin_prefetch(p + (part * quarter + i) * 64, 0, 2);
}

TARGET INLINE void NAME(dot_tile)(float *out, const W *w, const W *next, const float *const *x, int n, const int R) {
    V sum[VEC_ROWS][4];
    for (int r = 0; r < R; r++)
        for (int i = 0; i < 4; i++) sum[r][i] = ZERO;
    int k = 0;
    for (; k + 4 * LANES <= n; k += 4 * LANES) {
        if (next && (4 * LANES * sizeof(W) >= 256 || k % (256 / (int)sizeof(W)) == 0)) NAME(fetch)(next, k, n);
        for (int i = 0; i < 4; i++) {
            const V v = LOAD(w + k + i * LANES);
            for (int r = 0; r < R; r++) sum[r][i] = FMA(LOADF(x[r] + k + i * LANES), v, sum[r][i]);
        }
    }
    for (; k + LANES <= n; k += LANES)
        for (int r = 0; r < R; r++) sum[r][0] = FMA(LOADF(x[r] + k), LOAD(w + k), sum[r][0]);
    for (int r = 0; r < R; r++) {
        float s = SUM(ADD(ADD(sum[r][0], sum[r][1]), ADD(sum[r][2], sum[r][3])));
        for (int i = k; i < n; i++) s += x[r][i] * WIDEN(w[i]);
        out[r] = s;
    }
}

TARGET static void NAME(dot)(float *out, const void *weights, const void *following, const float *const *x, int R, int n) {
    const W *w = weights, *next = following;
    int r = 0;
    for (; r + MOST <= R; r += MOST) NAME(dot_tile)(out + r, w, r ? NULL : next, x + r, n, MOST);
    for (; r < R; r++) NAME(dot_tile)(out + r, w, r ? NULL : next, x + r, n, 1);
}

TARGET static void NAME(sum)(float *y, float c, const void *weights, const void *following, int n) {
    const W *w = weights, *next = following;
    const V cs = SET1(c);
    int i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES) {
        if (next && (4 * LANES * sizeof(W) >= 256 || i % (256 / (int)sizeof(W)) == 0)) NAME(fetch)(next, i, n);
        for (int k = 0; k < 4; k++) STORE(y + i + k * LANES, FMA(cs, LOAD(w + i + k * LANES), LOADF(y + i + k * LANES)));
    }
    for (; i + LANES <= n; i += LANES) STORE(y + i, FMA(cs, LOAD(w + i), LOADF(y + i)));
    for (; i < n; i++) y[i] = FMA1(c, WIDEN(w[i]), y[i]);
}
#undef NAME
#undef W
#undef LOAD
#undef WIDEN
