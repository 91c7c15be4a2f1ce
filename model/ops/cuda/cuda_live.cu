// cuda_live - products over the live units of a layer: weights of the others are not read. A unit is D rows of the
// matrix.
//   y = x W' + b at the columns of live units: a warp per live row of W, for up to CUDA_LIVE_ROWS rows of x at once
//   y += x Wt + b over the live rows of Wt: a thread per column; the rows are cut into CUDA_LIVE_PARTS parts by unit
//   number, whose sums are added in order, so the bits do not depend on who is live elsewhere and there are no atomics
#include "cuda_device.h"

enum { ROWS = CUDA_LIVE_ROWS, PARTS = CUDA_LIVE_PARTS };

struct row_block {
    int row, n, seq;
};
__device__ __forceinline__ row_block rows_of(const cuda_spans &s, int block) {
    const cuda_span p = s.s[find_span(s, block)];
    const int from = (block - p.first) * ROWS;
    return {p.row + from, p.n - from < ROWS ? p.n - from : (int)ROWS, p.extra};
}

// To nearest even, fp16's or bf16's bits at any size.
__device__ __forceinline__ float rounded(float v, unsigned low) {
    const unsigned u = __float_as_uint(v), up = (u + (low / 2 - 1) + (u & low ? 1 : 0)) & ~(low - 1);
    return low && (u & 0x7fffffff) < 0x7f800000 ? __uint_as_float(up) : v;
}

static __global__ void __launch_bounds__(32 * CUDA_WARPS)
    live_linear_k(float *y, const float *__restrict__ x, const void *__restrict__ w, int type, unsigned low,
                  const float *__restrict__ b, int relu, int rows, int cols, int D, cuda_live u, const cuda_spans s) {
    const int i = (int)blockIdx.x * CUDA_WARPS + (int)threadIdx.x / 32, lane = (int)threadIdx.x & 31;
    const row_block r = rows_of(s, (int)blockIdx.y);
    if (idle(u, i / D, r.seq)) return;
    const int row = u.unit[i / D] * D + i % D;
    const float *xs = x + (size_t)r.row * cols;
    float sum[ROWS] = {0};
    for (int k = lane; k < cols; k += 32) {
        const float v = widen(w, type, (size_t)row * cols + k);
#pragma unroll
        for (int t = 0; t < ROWS; t++)
            if (t < r.n) sum[t] += v * rounded(xs[(size_t)t * cols + k], low);
    }
#pragma unroll
    for (int t = 0; t < ROWS; t++) {
        const float all = warp_sum(sum[t]) + (b ? b[row] : 0);
        // in this order a NaN passes
        if (lane == 0 && t < r.n) y[(size_t)(r.row + t) * rows + row] = relu && all <= 0 ? 0 : all;
    }
}

// First place in the list whose unit is at least `unit`.
__device__ __forceinline__ int first_of(const cuda_live &u, int unit) {
    int low = 0, high = count_of(u);
    while (low < high) {
        const int middle = (low + high) / 2;
        if (u.unit[middle] < unit)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static __global__ void __launch_bounds__(THREADS, 3)
    live_parts_k(float *__restrict__ part, const float *__restrict__ x, const void *__restrict__ wt, int type,
                 unsigned low, int rows, int cols, int D, cuda_live u, const cuda_spans s) {
    const int e = (int)(blockIdx.x * THREADS + threadIdx.x), size = (rows / D + PARTS - 1) / PARTS;
    const row_block r = rows_of(s, (int)blockIdx.y);
    if (e >= cols) return;
    const int from = first_of(u, (int)blockIdx.z * size), to = first_of(u, ((int)blockIdx.z + 1) * size);
    float sum[ROWS] = {0};
    for (int k = from; k < to; k++) {
        if (u.wants && !u.wants[(size_t)k * u.seqs + r.seq]) continue;
        for (int d = 0; d < D; d++) {
            const int row = u.unit[k] * D + d;
            const float v = widen(wt, type, (size_t)row * cols + e);
#pragma unroll
            for (int t = 0; t < ROWS; t++)
                if (t < r.n) sum[t] += v * rounded(x[(size_t)(r.row + t) * rows + row], low);
        }
    }
#pragma unroll
    for (int t = 0; t < ROWS; t++) part[(((size_t)blockIdx.z * gridDim.y + blockIdx.y) * ROWS + t) * cols + e] = sum[t];
}

static __global__ void __launch_bounds__(THREADS)
    live_add_k(float *__restrict__ y, const float *__restrict__ part, const float *__restrict__ b, int cols,
               const cuda_spans s) {
    const int e = (int)(blockIdx.x * THREADS + threadIdx.x);
    const row_block r = rows_of(s, (int)blockIdx.y);
    for (int t = 0; e < cols && t < r.n; t++) {
        float sum = b ? b[e] : 0;
        for (int z = 0; z < PARTS; z++) sum += part[(((size_t)z * gridDim.y + blockIdx.y) * ROWS + t) * cols + e];
        y[(size_t)(r.row + t) * cols + e] += sum;
    }
}

extern "C" void cuda_launch_live_linear(float *y, const float *x, const void *w, int type, unsigned low, const float *b,
                                        int relu, int rows, int cols, int D, cuda_live u, const cuda_spans *s,
                                        cudaStream_t st) {
    CU_LAUNCH(live_linear_k, dim3((unsigned)((u.most * D + CUDA_WARPS - 1) / CUDA_WARPS), (unsigned)s->blocks),
              32 * CUDA_WARPS, 0, st, y, x, w, type, low, b, relu, rows, cols, D, u, *s);
}
extern "C" void cuda_launch_live_linear_t(float *y, float *part, const float *x, const void *wt, int type, unsigned low,
                                          const float *b, int rows, int cols, int D, cuda_live u, const cuda_spans *s,
                                          cudaStream_t st) {
    const unsigned columns = (unsigned)((cols + THREADS - 1) / THREADS), blocks = (unsigned)s->blocks;
    CU_LAUNCH(live_parts_k, dim3(columns, blocks, (unsigned)PARTS), THREADS, 0, st, part, x, wt, type, low, rows, cols,
              D, u, *s);
    CU_LAUNCH(live_add_k, dim3(columns, blocks), THREADS, 0, st, y, part, b, cols, *s);
}

static __global__ void __launch_bounds__(THREADS)
    keep_above_k(float *x, const float *by, int32_t *__restrict__ kept, float above, int F) {  // by may be x
    __shared__ int part[THREADS / 32];
    float *row = x + (size_t)blockIdx.x * F;
    const float *value = by + (size_t)blockIdx.x * F;
    int count = 0;
    for (int j = (int)threadIdx.x; j < F; j += THREADS) {
        const bool over = fabsf(value[j]) > above;
        count += over;
        if (!over) row[j] = 0;
    }
    count = block_sum(count, part);
    if (threadIdx.x == 0) kept[blockIdx.x] += count;
}

extern "C" void cuda_launch_keep_above(float *x, const float *by, int32_t *kept, float above, int rows, int F,
                                       cudaStream_t st) {
    CU_LAUNCH(keep_above_k, rows, THREADS, 0, st, x, by, kept, above, F);
}

// One block: of THREADS numbers at a time those that are above find their places by votes.
static __global__ void __launch_bounds__(THREADS)
    list_above_k(int32_t *__restrict__ list, const float *__restrict__ x, float above, int F) {
    __shared__ int part[THREADS / 32];
    const int lane = (int)threadIdx.x & 31, warp = (int)threadIdx.x >> 5;
    int base = 0;
    for (int from = 0; from < F; from += THREADS) {
        const int j = from + (int)threadIdx.x;
        const bool over = j < F && fabsf(x[j]) > above;
        const unsigned votes = __ballot_sync((unsigned)ALL_LANES, over);
        __syncthreads();  // part may still be read
        if (lane == 0) part[warp] = __popc(votes);
        __syncthreads();
        int place = base + __popc(votes & ((1u << lane) - 1));
        for (int w = 0; w < THREADS / 32; w++) {
            if (w < warp) place += part[w];
            base += part[w];
        }
        if (over) list[1 + place] = j;
    }
    if (threadIdx.x == 0) list[0] = base;
}

extern "C" void cuda_launch_list_above(int32_t *list, const float *x, float above, int F, cudaStream_t st) {
    CU_LAUNCH(list_above_k, 1, THREADS, 0, st, list, x, above, F);
}
