// cuda_few_rows - maps of few rows of x, of whose weights W every number is read once, as it is stored: what a token of
// generation is made of. A unit is D rows of W; those of units that no row wants are not read. For each of up to three
// maps of the same x, in one launch:
//   few_rows_k     y = x W' + b, or added to y, at the columns of live units: a warp per one to four rows of W,
//                  which has 8 loads of 16 bytes under way in every lane; then
//                    an activation;
//                    pairs of rows turned by the position of x's row (rotary positions), which one warp has then;
//                    or act(y_0) y_1 of two maps (a gated FFN), whose rows take turns;
//                    and the row of a cache, beside y.
// Up to R rows of x at once (1, 2, 4, 8), of whatever sequences. HELD: a block has x in shared memory, and puts it
// through a norm there, while its first reads of W are under way; so a norm costs no launch. The numbers are those of
// cuda_transformer_norm.cu, whose order of sums this has.
// A row's sum is always made in one order, by the place in W alone: neither R, HELD, the other maps, nor who else is
// live or in the batch, nor alignment changes a bit.
#include "cuda_activation.h"
#include "cuda_few_rows_device.h"
#include "cuda_norm_device.h"

// Warps of a block, and rows of W of a warp, so that a number of x that was read serves several.
template <int R, bool HELD> struct rows_of_w {
    enum { WARPS = HELD ? THREADS / 32 : 4, PLAIN = R >= 4 ? 4 : R, N = HELD ? 2 : PLAIN, BLOCK = WARPS * N };
};

// Sums over a warp of N numbers (a power of two up to 32) of each lane; a lane gets that of number lane / (32 / N). In
// the order of warp_sum, by N - 1 exchanges instead of 5 N: halves of what is left of the numbers go to two halves of
// the lanes.
template <int N> __device__ __forceinline__ float warp_sums(float *v) {
    const int lane = (int)threadIdx.x & 31;
    int o = 16;
#pragma unroll
    for (int m = N / 2; m > 0; m /= 2, o /= 2)
#pragma unroll
        for (int i = 0; i < m; i++) {
            const float keep = lane & o ? v[i + m] : v[i], send = lane & o ? v[i] : v[i + m];
            v[i] = keep + __shfl_xor_sync((unsigned)ALL_LANES, send, o);
        }
#pragma unroll
    for (; o > 0; o /= 2) v[0] += __shfl_xor_sync((unsigned)ALL_LANES, v[0], o);
    return v[0];
}

// ---------------------------------------------------------------- x in shared memory
// y = N(x) of a row of E numbers, by THREADS threads; y: shared memory. Each thread comes back to its own numbers.
__device__ __forceinline__ void normed_row(float *y, const float *x, const cuda_map_list &a, float *part) {
    const norm_shape shape = a.shape;
    const int E = a.cols, first = 4 * (int)threadIdx.x;
    norm_stat m;
    float sum = 0, var = 0;
    for (int e = first; e < E; e += 4 * THREADS) {
        const float4 v = load_four<true>(x, e, E);
        *reinterpret_cast<float4 *>(y + e) = v;
        sum += v.x + v.y + v.z + v.w;
    }
    if (!a.gain) return;
    if (CUDA_NORM_BY_WARP(shape)) {
        __syncthreads();
        m = stat_of(y, shape, (int)threadIdx.x & 31);
        __syncthreads();
    } else {
        m.mean = shape.kind == NORM_RMS ? 0 : block_sum(sum, part) / (float)E;
        for (int e = first; e < E; e += 4 * THREADS)
            var += square_of(y[e], m.mean, true) + square_of(y[e + 1], m.mean, true) +
                   square_of(y[e + 2], m.mean, true) + square_of(y[e + 3], m.mean, true);
        m.s = 1.0f / sqrtf(block_sum(var, part) / (float)E + shape.eps);
    }
    for (int e = first; e < E; e += 4 * THREADS)
        for (int i = e; i < e + 4; i++) y[i] = (y[i] - m.mean) * m.s * a.gain[i] + (a.shift ? a.shift[i] : 0);
}

// The rows of a group, [R, cols] in shared memory; `writes`: and to a.h.
template <int R>
__device__ __forceinline__ void hold_rows(float *held, const float *x, const cuda_map_list &a, const row_group<R> &rows,
                                          int n, bool writes) {
    __shared__ float part[THREADS / 32];
    for (int t = 0; t < n; t++) {
        float *mine = held + (size_t)t * a.cols;
        normed_row(mine, x + (size_t)rows.row[t] * a.cols, a, part);
        if (!writes || !a.h) continue;
        float *to = a.h + (size_t)rows.row[t] * a.cols;
        for (int e = 4 * (int)threadIdx.x; e < a.cols; e += 4 * THREADS)
            *reinterpret_cast<float4 *>(to + e) = *reinterpret_cast<const float4 *>(mine + e);
    }
    __syncthreads();
}

// ---------------------------------------------------------------- what becomes of a sum
// Number j of a unit of D, in the order in which a warp takes its rows: where they are turned, both of a pair.
__device__ __forceinline__ int turned_row(int j, int turned) { return j < turned ? j / 2 + j % 2 * (turned / 2) : j; }

// v at column `at` of row t of x, the partner's number beside it, to where it belongs.
template <int R>
__device__ __forceinline__ void finish(float v, float other, int at, int t, const cuda_map &of, const cuda_map_list &a,
                                       const row_group<R> &rows) {
    const int position = of.turned || of.cache ? a.position[rows.seq[t]] + rows.nth[t] : 0, d = at % of.D,
              half = of.turned / 2;
    if (d < of.turned) {
        const float *angle = a.table + (size_t)position * of.turned + d % half;
        v = d < half ? v * angle[0] - other * angle[half] : v * angle[0] + other * angle[half];
    }
    float *to = of.y + (size_t)rows.row[t] * of.rows + at;
    if (a.add) v += *to;
    if (a.act >= 0) v = curve_at(a.act, v).f;
    if (a.gated) v *= other;
    *to = v;
    if (!of.cache) return;
    float *cache = a.to[of.cache - 1][rows.place[t]];
    if (cache) cache[(size_t)position * of.rows + at] = v;
}

// The DEEP pieces of NR rows that a lane reads from number k on.
template <class T, bool VEC, int NR>
__device__ __forceinline__ void load_rows(uint4 have[DEEP / NR][NR], const cuda_map_list &a, int map, const int *row,
                                          const unsigned *by, int k) {
#pragma unroll
    for (int i = 0; i < DEEP / NR; i++)
#pragma unroll
        for (int r = 0; r < NR; r++) {
            const T *w = static_cast<const T *>(a.map[a.gated ? r % 2 : map].w);
            have[i][r] = load_piece<T, VEC>(w + (size_t)row[r] * a.cols, k + 32 * piece<T>::N * i, a.cols, by[r] != 0);
        }
}

// So many blocks on a multiprocessor are asked for: left to itself, ptxas takes so few registers that it spills. At the
// least, 16 warps, they have 64 KB under way.
template <int R, class T, bool VEC, bool HELD>
static __global__ void __launch_bounds__(32 * rows_of_w<R, HELD>::WARPS, HELD || !VEC ? 2 : 4)
    few_rows_k(const float *__restrict__ x, const cuda_map_list a, const cuda_spans s) {
    enum { V = piece<T>::N, NR = rows_of_w<R, HELD>::N, STEPS = DEEP / NR };
    CU_DYN_SHARED(float, held);
    __shared__ row_group<R> rows;
    const int groups = (s.blocks + R - 1) / R, group = (int)blockIdx.x % groups, block = (int)blockIdx.x / groups;
    const int n = rows_from<R>(rows, s, group * R), lane = (int)threadIdx.x & 31, cols = a.cols;
    int map = 0;
    while (map + 1 < a.n && block >= a.map[map + 1].first) map++;
    const int first = (block - a.map[map].first) * rows_of_w<R, HELD>::BLOCK + (int)threadIdx.x / 32 * NR;
    int row[NR];
    unsigned by[NR], any = 0;
#pragma unroll
    for (int r = 0; r < NR; r++) {
        const cuda_map &of = a.map[a.gated ? r % 2 : map];
        const int item = a.gated ? (first + r) / 2 : first + r, k = item / of.D;
        by[r] = k < of.u.most ? wanted<R>(of.u, k, rows, n) : 0;
        const int unit = by[r] && of.u.unit ? of.u.unit[k] : k;
        row[r] = by[r] ? unit * of.D + turned_row(item % of.D, of.turned) : 0;
        any |= by[r];
    }
    if constexpr (HELD) {
        if (!__syncthreads_or(any != 0) && block) return;
    } else if (!any)
        return;
    uint4 have[STEPS][NR];
    if constexpr (HELD) {
        load_rows<T, VEC, NR>(have, a, map, row, by, lane * V);
        hold_rows<R>(held, x, a, rows, n, block == 0);
        if (!any) return;
    }
    float sum[NR * R] = {0};
    for (int k0 = lane * V; k0 < cols; k0 += 32 * V * STEPS) {
        if (!HELD || k0 != lane * V) load_rows<T, VEC, NR>(have, a, map, row, by, k0);
#pragma unroll
        for (int i = 0; i < STEPS; i++) {
            const int k = k0 + 32 * V * i;
            float wide[NR][V];
#pragma unroll
            for (int r = 0; r < NR; r++) widen_piece<T>(wide[r], have[i][r]);
#pragma unroll
            for (int t = 0; t < R; t++) {
                if (t >= n || k >= cols) continue;
                const float *xs = (HELD ? held + (size_t)t * cols : x + (size_t)rows.row[t] * cols) + k;
                float v[V];
                if constexpr (VEC) {
#pragma unroll
                    for (int e = 0; e < V; e += 4) {
                        const float4 four = *reinterpret_cast<const float4 *>(xs + e);
                        v[e] = four.x, v[e + 1] = four.y, v[e + 2] = four.z, v[e + 3] = four.w;
                    }
                } else {
#pragma unroll
                    for (int e = 0; e < V; e++) v[e] = k + e < cols ? xs[e] : 0;
                }
                if (a.low)
#pragma unroll
                    for (int e = 0; e < V; e++) v[e] = rounded(v[e], a.low);
#pragma unroll
                for (int r = 0; r < NR; r++)
#pragma unroll
                    for (int e = 0; e < V; e++) sum[r * R + t] += wide[r][e] * v[e];
            }
        }
    }
    enum { EACH = 32 / (NR * R) };
    const float mine = warp_sums<NR * R>(sum);
    const int t = lane / EACH % R, nth = lane / EACH / R;
    const cuda_map &of = a.map[a.gated ? nth % 2 : map];
    int at = -1;
#pragma unroll
    for (int r = 0; r < NR; r++)
        if (nth == r && by[r] >> t & 1) at = row[r];
    const float all = mine + (at >= 0 && of.bias ? widen(of.bias, of.bias_type, (size_t)at) : 0);
    float other = 0;
    if constexpr (NR > 1) other = __shfl_xor_sync((unsigned)ALL_LANES, all, EACH * R);
    if (at < 0 || lane % EACH || (a.gated && nth % 2)) return;
    finish<R>(all, other, at, t, of, a, rows);
}

// ---------------------------------------------------------------- launches
template <int R, class T, bool VEC, bool HELD>
static void start(const float *x, cuda_map_list a, const cuda_spans *s, cudaStream_t st) {
    enum { BLOCK = rows_of_w<R, HELD>::BLOCK, WARPS = rows_of_w<R, HELD>::WARPS };
    const unsigned groups = (unsigned)((s->blocks + R - 1) / R);
    int blocks = 0;
    for (int i = 0; i < a.n; i++) {
        cuda_map *m = &a.map[i];
        m->first = blocks;
        if (!a.gated || i == 0) blocks += (m->u.most * m->D * (a.gated ? 2 : 1) + BLOCK - 1) / BLOCK;
    }
    if (blocks)
        CU_LAUNCH((few_rows_k<R, T, VEC, HELD>), groups * (unsigned)blocks, 32 * WARPS,
                  HELD ? (size_t)R * a.cols * sizeof(float) : 0, st, x, a, *s);
}

// The least R that holds all rows; of pairs, two rows of W a warp at least. Rows of a weight that are not all aligned
// are the exception: 8 for any number.
template <class T> static void start_as(const float *x, const cuda_map_list *a, const cuda_spans *s, cudaStream_t st) {
    bool aligned = a->cols % piece<T>::N == 0 && a->cols % 4 == 0 && reinterpret_cast<uintptr_t>(x) % 16 == 0,
         pairs = a->gated;
    for (int i = 0; i < a->n; i++) {
        aligned &= reinterpret_cast<uintptr_t>(a->map[i].w) % 16 == 0;
        pairs |= a->map[i].turned != 0;
    }
    if (a->held && s->blocks > 1)
        start<2, T, true, true>(x, *a, s, st);
    else if (a->held)
        start<1, T, true, true>(x, *a, s, st);
    else if (!aligned)
        start<8, T, false, false>(x, *a, s, st);
    else if (s->blocks > 4)
        start<8, T, true, false>(x, *a, s, st);
    else if (s->blocks > 2)
        start<4, T, true, false>(x, *a, s, st);
    else if (s->blocks > 1 || pairs)
        start<2, T, true, false>(x, *a, s, st);
    else
        start<1, T, true, false>(x, *a, s, st);
}

extern "C" void cuda_launch_few_rows(const float *x, int type, const cuda_map_list *a, const cuda_spans *s,
                                     cudaStream_t st) {
    if (type == 0)
        start_as<float>(x, a, s, st);
    else if (type == 1)
        start_as<__half>(x, a, s, st);
    else
        start_as<__nv_bfloat16>(x, a, s, st);
}
