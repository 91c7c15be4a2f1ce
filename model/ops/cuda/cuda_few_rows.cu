// cuda_few_rows - products of few rows with a weight, of which every number is read once, as it is stored: what a token
// of generation is made of. A unit is D rows of the matrix; those of units that no row wants are not read.
//   few_rows_k     y = x W' + b, or added to y, then ReLU, at the columns of live units: a warp per row of W, which has
//                  8 loads of 16 bytes under way in every lane
//   few_rows_t_k   parts of x Wt over the live rows of Wt: a lane has 16 bytes of columns, a warp one of FEW_SUMS parts
//                  of the rows, of which 8 are under way; the parts of a block are added in order in shared memory
//   few_rows_add_k y += b + parts, in order
// Up to R rows of x at once (1, 2, 4, 8), of whatever sequences. A row's sum is always made in one order, by the place
// in W alone: neither R, nor who else is live or in the batch, nor alignment changes a bit, and there are no atomics.
#include "cuda_device.h"

enum { WARPS = 8, DEEP = 8, PARTS = CUDA_FEW_PARTS, FEW_SUMS = PARTS * WARPS };

// ---------------------------------------------------------------- 16 bytes of a weight
template <class T> struct piece {
    enum { N = 16 / sizeof(T) };  // numbers of it
};

// A read that stays before the warp's next barrier: nvcc moves others to where they are used, and then they wait for
// one another.
__device__ __forceinline__ uint4 load16(const void *p) {
    uint4 v;
#ifdef __CUDA_ARCH__
    asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(p)
                 : "memory");
#else
    memcpy(&v, p, sizeof v);
#endif
    return v;
}

// Row of W or Wt, numbers k.. of it; 0 beyond `cols`. VEC: every row begins at a multiple of 16 bytes.
template <class T, bool VEC> __device__ __forceinline__ uint4 load_piece(const T *row, int k, int cols, bool on) {
    uint4 v = {0, 0, 0, 0};
    if constexpr (VEC) {
        if (on && k < cols) v = load16(row + k);
    } else {
        T part[piece<T>::N];
#pragma unroll
        for (int i = 0; i < piece<T>::N; i++)
            if (on && k + i < cols)
                part[i] = row[k + i];
            else
                memset(static_cast<void *>(&part[i]), 0, sizeof(T));
        memcpy(&v, part, sizeof v);
    }
    return v;
}

__device__ __forceinline__ void widen_word(float *to, unsigned word, const __half *) {
    __half2 two;
    memcpy(static_cast<void *>(&two), &word, sizeof two);
    const float2 f = __half22float2(two);
    to[0] = f.x, to[1] = f.y;
}
__device__ __forceinline__ void widen_word(float *to, unsigned word, const __nv_bfloat16 *) {
    to[0] = __uint_as_float(word << 16), to[1] = __uint_as_float(word & 0xffff0000u);
}
__device__ __forceinline__ void widen_word(float *to, unsigned word, const float *) { to[0] = __uint_as_float(word); }

template <class T> __device__ __forceinline__ void widen_piece(float *to, uint4 v) {
    enum { EACH = piece<T>::N / 4 };
    const T *type = nullptr;
    widen_word(to, v.x, type), widen_word(to + EACH, v.y, type);
    widen_word(to + 2 * EACH, v.z, type), widen_word(to + 3 * EACH, v.w, type);
}

// To nearest even, fp16's or bf16's bits at any size. low 0: as it is.
__device__ __forceinline__ float rounded(float v, unsigned low) {
    const unsigned u = __float_as_uint(v), up = (u + (low / 2 - 1) + (u & low ? 1 : 0)) & ~(low - 1);
    return low && (u & 0x7fffffff) < 0x7f800000 ? __uint_as_float(up) : v;
}

// ---------------------------------------------------------------- which rows
// R of the launch's rows from number `from` on: row[t] of x and y, and the sequence that it is of; returns how many
// there are.
template <int R> struct row_group { int row[R], seq[R]; };
template <int R> __device__ __forceinline__ int rows_from(row_group<R> &to, const cuda_spans &s, int from) {
    const int t = (int)threadIdx.x;
    if (t < R && from + t < s.blocks) {
        const cuda_span p = s.s[find_span(s, from + t)];
        to.row[t] = p.row + from + t - p.first;
        to.seq[t] = p.extra;
    }
    __syncthreads();
    return s.blocks - from < R ? s.blocks - from : R;
}

// Bit t: row t wants the unit at place k of the list.
template <int R>
__device__ __forceinline__ unsigned wanted(const cuda_live &u, int k, const row_group<R> &rows, int n) {
    if (k >= count_of(u)) return 0;
    if (!u.wants) return (1u << n) - 1;
    unsigned by = 0;
    for (int t = 0; t < n; t++) by |= (u.wants[(size_t)k * u.seqs + rows.seq[t]] ? 1u : 0u) << t;
    return by;
}

// ---------------------------------------------------------------- rows of W
// NR rows of W a warp, so that a number of x that was read serves several.
template <int R> struct rows_of_w {
    enum { N = R >= 4 ? 4 : R };
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

// Four blocks on a multiprocessor are asked for: left to itself, ptxas takes so few registers that it spills.
template <int R, class T, bool VEC>
static __global__ void __launch_bounds__(32 * CUDA_WARPS, 4)
    few_rows_k(float *__restrict__ y, const float *__restrict__ x, const T *__restrict__ w, const few_rows_args a,
               cuda_live u, const cuda_spans s) {
    enum { V = piece<T>::N, NR = rows_of_w<R>::N, STEPS = DEEP / NR };
    __shared__ row_group<R> rows;
    const int groups = (s.blocks + R - 1) / R, group = (int)blockIdx.x % groups, block = (int)blockIdx.x / groups;
    const int n = rows_from<R>(rows, s, group * R), lane = (int)threadIdx.x & 31;
    const int first = (block * CUDA_WARPS + (int)threadIdx.x / 32) * NR, cols = a.cols;
    int row[NR];
    unsigned by[NR], any = 0;
#pragma unroll
    for (int r = 0; r < NR; r++) {
        const int k = (first + r) / a.D;
        by[r] = k < u.most ? wanted<R>(u, k, rows, n) : 0;
        const int unit = by[r] && u.unit ? u.unit[k] : k;
        row[r] = by[r] ? unit * a.D + (first + r) % a.D : 0;
        any |= by[r];
    }
    if (!any) return;
    float sum[NR * R] = {0};
    for (int k0 = lane * V; k0 < cols; k0 += 32 * V * STEPS) {
        uint4 have[STEPS][NR];
#pragma unroll
        for (int i = 0; i < STEPS; i++)
#pragma unroll
            for (int r = 0; r < NR; r++)
                have[i][r] = load_piece<T, VEC>(w + (size_t)row[r] * cols, k0 + 32 * V * i, cols, by[r] != 0);
#pragma unroll
        for (int i = 0; i < STEPS; i++) {
            const int k = k0 + 32 * V * i;
            float wide[NR][V];
#pragma unroll
            for (int r = 0; r < NR; r++) widen_piece<T>(wide[r], have[i][r]);
#pragma unroll
            for (int t = 0; t < R; t++) {
                if (t >= n || k >= cols) continue;
                const float *xs = x + (size_t)rows.row[t] * cols + k;
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
    const int t = lane / EACH % R;
    int at = -1;
#pragma unroll
    for (int r = 0; r < NR; r++)
        if (lane / EACH / R == r && by[r] >> t & 1) at = row[r];
    if (at < 0 || lane % EACH) return;
    float *to = y + (size_t)rows.row[t] * a.rows + at;
    float all = mine + (a.bias ? widen(a.bias, a.bias_type, (size_t)at) : 0);
    if (a.add) all += *to;
    *to = a.relu && all <= 0 ? 0 : all;  // in this order a NaN passes
}

// ---------------------------------------------------------------- rows of Wt
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
    few_rows_t_k(float *__restrict__ part, const float *__restrict__ x, const T *__restrict__ wt, const few_rows_args a,
                 cuda_live u, const cuda_spans s) {
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
}

static __global__ void __launch_bounds__(THREADS)
    few_rows_add_k(float *__restrict__ y, const float *__restrict__ part, const few_rows_args a, const cuda_spans s) {
    const int e = (int)(blockIdx.x * THREADS + threadIdx.x), t = (int)blockIdx.y;
    if (e >= a.cols) return;
    const cuda_span p = s.s[find_span(s, t)];
    float have[PARTS], sum = a.bias ? widen(a.bias, a.bias_type, (size_t)e) : 0;
#pragma unroll
    for (int z = 0; z < PARTS; z++) have[z] = part[((size_t)z * s.blocks + t) * a.cols + e];
#pragma unroll
    for (int z = 0; z < PARTS; z++) sum += have[z];
    y[(size_t)(p.row + t - p.first) * a.cols + e] += sum;
}

// ---------------------------------------------------------------- launches
template <int R, class T, bool VEC>
static void start(float *y, float *part, const float *x, const T *w, const few_rows_args *a, cuda_live u,
                  const cuda_spans *s, cudaStream_t st) {
    const unsigned groups = (unsigned)((s->blocks + R - 1) / R);
    if (!part) {
        enum { EACH = CUDA_WARPS * rows_of_w<R>::N };
        const unsigned blocks = (unsigned)((u.most * a->D + EACH - 1) / EACH);
        CU_LAUNCH((few_rows_k<R, T, VEC>), groups * blocks, 32 * CUDA_WARPS, 0, st, y, x, w, *a, u, *s);
        return;
    }
    const unsigned tiles = (unsigned)((a->cols + 32 * piece<T>::N - 1) / (32 * piece<T>::N));
    CU_LAUNCH((few_rows_t_k<R, T, VEC>), dim3(groups * tiles, (unsigned)PARTS), 32 * WARPS, 0, st, part, x, w, *a, u,
              *s);
    CU_LAUNCH(few_rows_add_k, dim3((unsigned)((a->cols + THREADS - 1) / THREADS), (unsigned)s->blocks), THREADS, 0, st,
              y, part, *a, *s);
}

// The least R that holds all rows. Rows of a weight that are not all aligned are the exception: 8 for any number.
template <class T>
static void start_as(float *y, float *part, const float *x, const void *w, const few_rows_args *a, cuda_live u,
                     const cuda_spans *s, cudaStream_t st) {
    const T *of = static_cast<const T *>(w);
    if (a->cols % piece<T>::N || reinterpret_cast<uintptr_t>(w) % 16 ||
        (!part && (a->cols % 4 || reinterpret_cast<uintptr_t>(x) % 16)))
        start<8, T, false>(y, part, x, of, a, u, s, st);
    else if (s->blocks > 4)
        start<8, T, true>(y, part, x, of, a, u, s, st);
    else if (s->blocks > 2)
        start<4, T, true>(y, part, x, of, a, u, s, st);
    else if (s->blocks > 1)
        start<2, T, true>(y, part, x, of, a, u, s, st);
    else
        start<1, T, true>(y, part, x, of, a, u, s, st);
}

extern "C" void cuda_launch_few_rows(float *y, float *part, const float *x, const void *w, int type,
                                     const few_rows_args *a, cuda_live u, const cuda_spans *s, cudaStream_t st) {
    if (type == 0)
        start_as<float>(y, part, x, w, a, u, s, st);
    else if (type == 1)
        start_as<__half>(y, part, x, w, a, u, s, st);
    else
        start_as<__nv_bfloat16>(y, part, x, w, a, u, s, st);
}
