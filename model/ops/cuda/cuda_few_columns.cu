// cuda_few_columns - products of few rows with a weight that is kept transposed, Wt (rows, cols), whose rows belong to
// units of D; those of units that no row wants are not read.
//   few_rows_t_k   y += b + parts of x Wt over the live rows of Wt: a lane has 16 bytes of columns, a warp one of
//                  FEW_SUMS parts of the rows, of which 8 are under way; the parts of a block are added in order in
//                  shared memory, those of the blocks, in order, by the last block of these columns
// Up to R rows of x at once (1, 2, 4, 8), of whatever sequences. A row's sum is always made in one order, by the place
// in W alone: neither R, nor who else is live or in the batch, nor alignment changes a bit, and nothing is added by
// atomics.
#include "cuda_few_rows_device.h"

enum { WARPS = 8, PARTS = CUDA_FEW_PARTS, FEW_SUMS = PARTS * WARPS };

// The first places in the list whose units are at least from and to; all 32 lanes of a warp look at once.
__device__ __forceinline__ void places_of(int &at_from, int &at_to, const cuda_live &u, int from, int to) {
    const int count = count_of(u), lane = (int)threadIdx.x & 31;
    int low[2] = {0, 0}, high[2] = {count, count};
    const int want[2] = {from, to};
    while (low[0] < high[0] || low[1] < high[1])
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int step = (high[i] - low[i] + 31) / 32, at = low[i] + lane * step;
            const bool below = at < high[i] && u.unit[at] < want[i];
            const int n = __popc(__ballot_sync((unsigned)ALL_LANES, below));
            const int end = low[i] + n * step;
            if (n) low[i] = end - step + 1;
            if (!n) high[i] = low[i];
            if (end < high[i]) high[i] = end;
        }
    at_from = low[0], at_to = low[1];
}

// The first row, in the order of the list's units (D rows each), that is at least `row`; k: the first place in the list
// of a unit that is at least row / D.
__device__ __forceinline__ int item_from(const cuda_live &u, int k, int row, int D) {
    return k * D + (k < count_of(u) && u.unit[k] == row / D ? row % D : 0);
}

template <int R, class T, bool VEC>
static __global__ void __launch_bounds__(32 * WARPS)
    few_rows_t_k(float *__restrict__ y, float *part, unsigned *counter, const float *__restrict__ x,
                 const T *__restrict__ wt, const few_columns_args a, cuda_live u, const cuda_spans s) {
    enum { V = piece<T>::N, WIDE = 32 * V };
    __shared__ row_group<R> rows;
    __shared__ __align__(16) float sums[WARPS][WIDE];
    const int groups = (s.blocks + R - 1) / R, group = (int)blockIdx.x % groups, tile = (int)blockIdx.x / groups;
    const int n = rows_from<R>(rows, s, group * R), lane = (int)threadIdx.x & 31, warp = (int)threadIdx.x / 32;
    const int size = (a.rows + FEW_SUMS - 1) / FEW_SUMS, from = ((int)blockIdx.y * WARPS + warp) * size,
              to = from + size < a.rows ? from + size : a.rows, column = tile * WIDE + lane * V,
              mine = column < a.cols ? column : 0;
    int item = from, end = to;
    if (u.unit) {
        places_of(item, end, u, from / a.D, to / a.D);
        item = item_from(u, item, from, a.D), end = item_from(u, end, to, a.D);
    }
    float sum[R][V] = {{0}};
    for (; item < end; item += 32) {
        // lanes after the last row have that one again, with x 0, so that no load waits for a condition
        const int place = item + lane < end ? item + lane : end - 1, k = place / a.D,
                  count = end - item < 32 ? end - item : 32, row = u.unit ? u.unit[k] * a.D + place % a.D : place;
        unsigned by = item + lane < end ? (1u << n) - 1 : 0;
        if (by && u.wants) by = wanted<R>(u, k, rows, n);
        float xs[R];
#pragma unroll
        for (int t = 0; t < R; t++) {
            const float v = by >> t & 1 ? x[(size_t)rows.row[t] * a.rows + row] : 0;
            xs[t] = a.low ? rounded(v, a.low) : v;
        }
#pragma unroll 1  // else some of the next loads wait for sums
        for (int j = 0; j < count; j += DEEP) {
            uint4 have[DEEP];
#pragma unroll
            for (int i = 0; i < DEEP; i++) {
                const T *from = wt + (size_t)__shfl_sync((unsigned)ALL_LANES, row, j + i) * a.cols;
                if constexpr (VEC)
                    have[i] = load16(from + mine);
                else
                    have[i] = load_piece<T, VEC>(from, column, a.cols, true);
            }
            __syncwarp();
#pragma unroll
            for (int i = 0; i < DEEP; i++) {
                float wide[V];
                widen_piece<T>(wide, have[i]);
#pragma unroll
                for (int t = 0; t < R; t++) {
                    const float v = __shfl_sync((unsigned)ALL_LANES, xs[t], j + i);
#pragma unroll
                    for (int e = 0; e < V; e++) sum[t][e] += wide[e] * v;
                }
            }
        }
    }
#pragma unroll
    for (int t = 0; t < R; t++) {
        if (t >= n) break;
        __syncthreads();
#pragma unroll
        for (int e = 0; e < V; e++) sums[warp][lane * V + e] = sum[t][e];
        __syncthreads();
        const int c = (int)threadIdx.x, e = tile * WIDE + c;
        if (c >= WIDE || e >= a.cols) continue;
        float all = sums[0][c];
        for (int i = 1; i < WARPS; i++) all += sums[i][c];
        part[((size_t)blockIdx.y * s.blocks + group * R + t) * a.cols + e] = all;
    }
    if (!last_block(counter + blockIdx.x, gridDim.y)) return;
    const int e = tile * WIDE + (int)threadIdx.x;
    if (threadIdx.x >= WIDE || e >= a.cols) return;
    const float bias = a.bias ? widen(a.bias, a.bias_type, (size_t)e) : 0;
    for (int t = 0; t < n; t++) {
        float have[PARTS], all = bias;
#pragma unroll
        for (int z = 0; z < PARTS; z++)
            have[z] = load_fresh(part + ((size_t)z * s.blocks + group * R + t) * a.cols + e);
#pragma unroll
        for (int z = 0; z < PARTS; z++) all += have[z];
        y[(size_t)rows.row[t] * a.cols + e] += all;
    }
}

// ---------------------------------------------------------------- launches
template <int R, class T, bool VEC>
static void start(float *y, float *part, unsigned *counter, const float *x, const T *w, const few_columns_args *a,
                  cuda_live u, const cuda_spans *s, cudaStream_t st) {
    const unsigned groups = (unsigned)((s->blocks + R - 1) / R),
                   tiles = (unsigned)((a->cols + 32 * piece<T>::N - 1) / (32 * piece<T>::N));
    CU_LAUNCH((few_rows_t_k<R, T, VEC>), dim3(groups * tiles, (unsigned)PARTS), 32 * WARPS, 0, st, y, part, counter, x,
              w, *a, u, *s);
}

// The least R that holds all rows. Rows of a weight that are not all aligned are the exception: 8 for any number.
template <class T>
static void start_as(float *y, float *part, unsigned *counter, const float *x, const void *w, const few_columns_args *a,
                     cuda_live u, const cuda_spans *s, cudaStream_t st) {
    const T *of = static_cast<const T *>(w);
    if (a->cols % piece<T>::N || reinterpret_cast<uintptr_t>(w) % 16)
        start<8, T, false>(y, part, counter, x, of, a, u, s, st);
    else if (s->blocks > 4)
        start<8, T, true>(y, part, counter, x, of, a, u, s, st);
    else if (s->blocks > 2)
        start<4, T, true>(y, part, counter, x, of, a, u, s, st);
    else if (s->blocks > 1)
        start<2, T, true>(y, part, counter, x, of, a, u, s, st);
    else
        start<1, T, true>(y, part, counter, x, of, a, u, s, st);
}

extern "C" void cuda_launch_few_columns(float *y, float *part, unsigned *counter, const float *x, const void *w,
                                        int type, const few_columns_args *a, cuda_live u, const cuda_spans *s,
                                        cudaStream_t st) {
    if (type == 0)
        start_as<float>(y, part, counter, x, w, a, u, s, st);
    else if (type == 1)
        start_as<__half>(y, part, counter, x, w, a, u, s, st);
    else
        start_as<__nv_bfloat16>(y, part, counter, x, w, a, u, s, st);
}
