// cuda_transformer_norm - layer norm, its gradient, tangent, and the tangent of its gradient; formulas as in
// cpu_transformer_norm.c. A warp per row, so that a row's sums need neither shared memory nor barriers: x^ = (x - mean)
// s, s = 1 / sqrt(var + eps), y = g x^ + b; RMS norm without the means. Only norm of wide rows, which a token of
// generation waits for twice a layer, has a block per row and keeps the row in registers. Which of the two is the
// width's to say alone.
#include "cuda_norm_device.h"

// The row of this warp, or -1.
__device__ __forceinline__ int warp_row(const cuda_spans &s) {
    const cuda_span p = s.s[find_span(s, (int)blockIdx.x)];
    const int r = ((int)blockIdx.x - p.first) * CUDA_WARPS + (int)threadIdx.x / 32;
    return r < p.n ? p.row + r : -1;
}

static __global__ void __launch_bounds__(32 * CUDA_WARPS)
    norm_k(float *y, const float *x, const float *__restrict__ g, const float *__restrict__ b, norm_shape shape,
           const cuda_spans s) {
    const int E = shape.E;
    const int row = warp_row(s), lane = (int)threadIdx.x & 31;
    if (row < 0) return;
    x += (size_t)row * E;
    y += (size_t)row * E;
    const norm_stat m = stat_of(x, shape, lane);
    for (int e = lane; e < E; e += 32) y[e] = (x[e] - m.mean) * m.s * g[e] + (b ? b[e] : 0);
}

template <bool ALIGNED> __device__ __forceinline__ void store_four(float *row, int e, int E, float4 v) {
    if constexpr (ALIGNED) {
        if (e < E) *reinterpret_cast<float4 *>(row + e) = v;
    } else {
        if (e < E) row[e] = v.x;
        if (e + 1 < E) row[e + 1] = v.y;
        if (e + 2 < E) row[e + 2] = v.z;
        if (e + 3 < E) row[e + 3] = v.w;
    }
}

// N x 4 numbers a thread, all read before the first is used. y may be x.
template <int N, bool ALIGNED>
static __global__ void __launch_bounds__(THREADS)
    norm_row_k(float *y, const float *x, const float *__restrict__ g, const float *__restrict__ b, norm_shape shape,
               const cuda_spans s) {
    __shared__ float part[THREADS / 32];
    const int E = shape.E, first = 4 * (int)threadIdx.x;
    const cuda_span p = s.s[find_span(s, (int)blockIdx.x)];
    const size_t row = (size_t)(p.row + (int)blockIdx.x - p.first) * E;
    float4 have[N], gain[N], shift[N];
    float sum = 0, var = 0;
#pragma unroll
    for (int i = 0; i < N; i++) {
        have[i] = load_four<ALIGNED>(x + row, first + 4 * THREADS * i, E);
        gain[i] = load_four<ALIGNED>(g, first + 4 * THREADS * i, E);
        shift[i] = load_four<ALIGNED>(b, first + 4 * THREADS * i, b ? E : 0);
    }
#pragma unroll
    for (int i = 0; i < N; i++) sum += have[i].x + have[i].y + have[i].z + have[i].w;
    const float mean = shape.kind == NORM_RMS ? 0 : block_sum(sum, part) / (float)E;
#pragma unroll
    for (int i = 0; i < N; i++) {
        const int e = first + 4 * THREADS * i;
        var += square_of(have[i].x, mean, e < E) + square_of(have[i].y, mean, e + 1 < E) +
               square_of(have[i].z, mean, e + 2 < E) + square_of(have[i].w, mean, e + 3 < E);
    }
    const float scale = 1.0f / sqrtf(block_sum(var, part) / (float)E + shape.eps);
#pragma unroll
    for (int i = 0; i < N; i++) {
        const float4 v = {
            (have[i].x - mean) * scale * gain[i].x + shift[i].x, (have[i].y - mean) * scale * gain[i].y + shift[i].y,
            (have[i].z - mean) * scale * gain[i].z + shift[i].z, (have[i].w - mean) * scale * gain[i].w + shift[i].w};
        store_four<ALIGNED>(y + row, first + 4 * THREADS * i, E, v);
    }
}

// dx = s (u - mean(u) - x^ mean(u x^)), u = g dy. dx may be x.
static __global__ void __launch_bounds__(32 * CUDA_WARPS)
    norm_back_k(float *dx, const float *dy, const float *x, const float *__restrict__ g, norm_shape shape, int add,
                const cuda_spans s) {
    const int E = shape.E;
    const int row = warp_row(s), lane = (int)threadIdx.x & 31;
    if (row < 0) return;
    x += (size_t)row * E;
    dy += (size_t)row * E;
    dx += (size_t)row * E;
    const norm_stat m = stat_of(x, shape, lane);
    float su = 0, sux = 0;
    for (int e = lane; e < E; e += 32) {
        const float u = g[e] * dy[e];
        su += u;
        sux += u * (x[e] - m.mean) * m.s;
    }
    su = shape.kind == NORM_RMS ? 0 : warp_sum(su) / (float)E;
    sux = warp_sum(sux) / (float)E;
    for (int e = lane; e < E; e += 32) {
        const float d = m.s * (g[e] * dy[e] - su - (x[e] - m.mean) * m.s * sux);
        dx[e] = add ? dx[e] + d : d;
    }
}

// tx^ = s (tx - mean(tx) - x^ mean(tx x^)).
static __global__ void __launch_bounds__(32 * CUDA_WARPS)
    norm_jvp_k(float *ty, const float *x, const float *tx, const float *__restrict__ g, norm_shape shape,
               const cuda_spans s) {
    const int E = shape.E;
    const int row = warp_row(s), lane = (int)threadIdx.x & 31;
    if (row < 0) return;
    x += (size_t)row * E;
    tx += (size_t)row * E;
    ty += (size_t)row * E;
    const norm_stat m = stat_of(x, shape, lane);
    float st = 0, stx = 0;
    for (int e = lane; e < E; e += 32) {
        st += tx[e];
        stx += tx[e] * (x[e] - m.mean) * m.s;
    }
    st = shape.kind == NORM_RMS ? 0 : warp_sum(st) / (float)E;
    stx = warp_sum(stx) / (float)E;
    for (int e = lane; e < E; e += 32) ty[e] = g[e] * m.s * (tx[e] - st - (x[e] - m.mean) * m.s * stx);
}

// ts = -s^2 mean(x^ tx); tm1 = mean(tu); tm2 = mean(tu x^ + u tx^);
// tdx = ts (u - m1 - x^ m2) + s (tu - tm1 - tx^ m2 - x^ tm2).
static __global__ void __launch_bounds__(32 * CUDA_WARPS)
    norm_back_jvp_k(float *tdx, const float *dy, const float *tdy, const float *x, const float *tx,
                    const float *__restrict__ g, norm_shape shape, int add, const cuda_spans s) {
    const int E = shape.E;
    const int row = warp_row(s), lane = (int)threadIdx.x & 31;
    if (row < 0) return;
    x += (size_t)row * E;
    tx += (size_t)row * E;
    dy += (size_t)row * E;
    tdy += (size_t)row * E;
    tdx += (size_t)row * E;
    const norm_stat m = stat_of(x, shape, lane);
    const float inv = 1.0f / (float)E;
    float mt = 0, mtx = 0, m1 = 0, m2 = 0, tm1 = 0, tm2 = 0;
    for (int e = lane; e < E; e += 32) {
        const float h = (x[e] - m.mean) * m.s, u = g[e] * dy[e], tu = g[e] * tdy[e];
        mt += tx[e];
        mtx += tx[e] * h;
        m1 += u;
        m2 += u * h;
        tm1 += tu;
        tm2 += tu * h;
    }
    mt = warp_sum(mt) * inv;
    mtx = warp_sum(mtx) * inv;
    m1 = warp_sum(m1) * inv;
    m2 = warp_sum(m2) * inv;
    tm1 = warp_sum(tm1) * inv;
    if (shape.kind == NORM_RMS) mt = m1 = tm1 = 0;
    for (int e = lane; e < E; e += 32) {
        const float h = (x[e] - m.mean) * m.s;
        tm2 += g[e] * dy[e] * (m.s * (tx[e] - mt - h * mtx));
    }
    tm2 = warp_sum(tm2) * inv;
    const float ts = -m.s * m.s * mtx;
    for (int e = lane; e < E; e += 32) {
        const float h = (x[e] - m.mean) * m.s, th = m.s * (tx[e] - mt - h * mtx), u = g[e] * dy[e], tu = g[e] * tdy[e];
        const float d = ts * (u - m1 - h * m2) + m.s * (tu - tm1 - th * m2 - h * tm2);
        tdx[e] = add ? tdx[e] + d : d;
    }
}

static __global__ void __launch_bounds__(32 * CUDA_WARPS)
    norm_stat_k(float *__restrict__ stat, const float *__restrict__ x, norm_shape shape, int rows) {
    const int E = shape.E;
    const int row = (int)blockIdx.x * CUDA_WARPS + (int)threadIdx.x / 32, lane = (int)threadIdx.x & 31;
    if (row >= rows) return;
    const norm_stat m = stat_of(x + (size_t)row * E, shape, lane);
    if (lane == 0) {
        stat[2 * row] = m.mean;
        stat[2 * row + 1] = m.s;
    }
}

// One thread owns a column, so rows add up in order.
static __global__ void __launch_bounds__(THREADS)
    norm_grad_k(float *__restrict__ dg, float *__restrict__ db, const float *__restrict__ stat,
                const float *__restrict__ dy, const float *__restrict__ x, int E, int rows) {
    const int e = (int)(blockIdx.x * THREADS + threadIdx.x);
    if (e >= E) return;
    double sg = 0, sb = 0;
    for (int r = 0; r < rows; r++) {
        const float d = dy[(size_t)r * E + e];
        sg += (double)(d * (x[(size_t)r * E + e] - stat[2 * r]) * stat[2 * r + 1]);
        sb += (double)d;
    }
    dg[e] += (float)sg;
    if (db) db[e] += (float)sb;
}

extern "C" void cuda_launch_norm(float *y, const float *x, const float *g, const float *b, norm_shape h,
                                 const cuda_spans *s, cudaStream_t st) {
    const uintptr_t ends = reinterpret_cast<uintptr_t>(y) | reinterpret_cast<uintptr_t>(x) |
                           reinterpret_cast<uintptr_t>(g) | reinterpret_cast<uintptr_t>(b);
    const int fours = (h.E + 4 * THREADS - 1) / (4 * THREADS);
    enum { MOST = CUDA_NORM_MOST / (4 * THREADS) };
    if (cuda_norm_rows(h) > 1)
        CU_LAUNCH(norm_k, s->blocks, 32 * CUDA_WARPS, 0, st, y, x, g, b, h, *s);
    else if (h.E % 4 || ends % 16)
        CU_LAUNCH((norm_row_k<MOST, false>), s->blocks, THREADS, 0, st, y, x, g, b, h, *s);
    else if (fours <= 2)
        CU_LAUNCH((norm_row_k<2, true>), s->blocks, THREADS, 0, st, y, x, g, b, h, *s);
    else if (fours <= 5)
        CU_LAUNCH((norm_row_k<5, true>), s->blocks, THREADS, 0, st, y, x, g, b, h, *s);
    else
        CU_LAUNCH((norm_row_k<MOST, true>), s->blocks, THREADS, 0, st, y, x, g, b, h, *s);
}
extern "C" void cuda_launch_norm_back(float *dx, const float *dy, const float *x, const float *g, norm_shape h, int add,
                                      const cuda_spans *s, cudaStream_t st) {
    CU_LAUNCH(norm_back_k, s->blocks, 32 * CUDA_WARPS, 0, st, dx, dy, x, g, h, add, *s);
}
extern "C" void cuda_launch_norm_jvp(float *ty, const float *x, const float *tx, const float *g, norm_shape h,
                                     const cuda_spans *s, cudaStream_t st) {
    CU_LAUNCH(norm_jvp_k, s->blocks, 32 * CUDA_WARPS, 0, st, ty, x, tx, g, h, *s);
}
extern "C" void cuda_launch_norm_back_jvp(float *tdx, const float *dy, const float *tdy, const float *x,
                                          const float *tx, const float *g, norm_shape h, int add, const cuda_spans *s,
                                          cudaStream_t st) {
    CU_LAUNCH(norm_back_jvp_k, s->blocks, 32 * CUDA_WARPS, 0, st, tdx, dy, tdy, x, tx, g, h, add, *s);
}
extern "C" void cuda_launch_norm_grad(float *dg, float *db, float *stat, const float *dy, const float *x, norm_shape h,
                                      int first, int rows, cudaStream_t st) {
    const size_t at = (size_t)first * h.E;
    CU_LAUNCH(norm_stat_k, (rows + CUDA_WARPS - 1) / CUDA_WARPS, 32 * CUDA_WARPS, 0, st, stat, x + at, h, rows);
    CU_LAUNCH(norm_grad_k, (h.E + THREADS - 1) / THREADS, THREADS, 0, st, dg, db, stat, dy + at, x + at, h.E, rows);
}
