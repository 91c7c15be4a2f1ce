// cuda_attention_mma - what the attention kernels on tensor cores share: products of tiles by mma.sync in fragments,
// with the accuracy of fp32, and tiles that come into shared memory by cp.async beside them.
//
// A number is split into two of tf32, which has 11 significant bits: x = hi + lo, both rounded to nearest, to within
// 2^-23 of x. A product is lo hi + hi lo + hi hi with sums in fp32, in that order; what is left out is below 2^-22 of
// it.
//
// A block of 4 warps has 64 rows of a product, a warp 16 of them and 32 columns at a time (DP of a result). In the
// fragments of m16n8k8 lane (row, t), row 0..7, t 0..3, has of each 8 columns numbers 2 t and 2 t + 1 of rows `row`, in
// [0] and [1], and row + 8, in [2] and [3]. Sums over a row are shuffles over the four t. A product's results are the
// next one's operand A as they are, if its rows k of B are taken in the order 0 2 4 6 1 3 5 7. Rows in shared memory
// are DP + 4 floats apart: lanes then read from different banks, along rows and across them.
#pragma once
#include "cuda_attention_tiles.h"

enum { MMA_ROWS = CUDA_MMA_TILE, MMA_COLS = 32, MMA_THREADS = 32 * MMA_ROWS / 16, COL_TILES = MMA_COLS / 8 };
template <int DP> __host__ __device__ constexpr int mma_floats(int rows) { return rows * (DP + 4); }

// ---------------------------------------------------------------- cp.async
// 16 bytes to shared memory, zeros where `there` is not. They are there after copies_done and a barrier.
__device__ __forceinline__ void copy16(float *to, const float *from, bool there) {
#ifdef __CUDA_ARCH__
    const unsigned at = (unsigned)__cvta_generic_to_shared(to);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(from), "r"(there ? 16 : 0) : "memory");
#else
    for (int i = 0; i < 4; i++) to[i] = there ? from[i] : 0;
#endif
}
// What was copied since the last call is a group.
__device__ __forceinline__ void copies_end() {
#ifdef __CUDA_ARCH__
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
// All groups of this thread are there but the last N.
template <int N> __device__ __forceinline__ void copies_done() {
#ifdef __CUDA_ARCH__
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
#endif
}

// Rows j0.. of a sequence whose first `past` are kept apart, each of distance E -> tile [ROWS, DP]; `count` of them,
// zeros elsewhere.
template <int DP, int ROWS>
__device__ __forceinline__ void copy_rows(float *tile, const float *past_rows, const float *rows, int past, int j0,
                                          int count, int E, int D) {
    const bool fours = D % 4 == 0 && E % 4 == 0 && reinterpret_cast<uintptr_t>(rows) % 16 == 0 &&
                       reinterpret_cast<uintptr_t>(past_rows) % 16 == 0;
    const float *old = past_rows + (size_t)j0 * E, *now = rows + ((ptrdiff_t)j0 - past) * E;
    for (int i = (int)threadIdx.x; i < ROWS * DP / 4; i += MMA_THREADS) {
        const int r = i / (DP / 4), d = i % (DP / 4) * 4;
        const float *from = (j0 + r < past ? old : now) + (ptrdiff_t)r * E + d;
        float *to = tile + r * (DP + 4) + d;
        if (fours)
            copy16(to, r < count && d < D ? from : rows, r < count && d < D);
        else
            for (int e = 0; e < 4; e++) to[e] = r < count && d + e < D ? from[e] : 0;
    }
}
template <int DP, int ROWS>
__device__ __forceinline__ void copy_rows(float *tile, const float *rows, int count, int E, int D) {
    copy_rows<DP, ROWS>(tile, rows, rows, 0, 0, count, E, D);
}

// ---------------------------------------------------------------- fragments
struct two_parts {
    unsigned hi, lo;
};
// To nearest; infinity and NaN stay what they are.
__device__ __forceinline__ unsigned to_tf32(float x) {
#ifdef __CUDA_ARCH__
    unsigned r;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(r) : "f"(x));
    return r;
#else
    const unsigned u = __float_as_uint(x);
    return (u & 0x7f800000u) == 0x7f800000u ? u : (u + 0x1000u) & ~0x1fffu;
#endif
}
__device__ __forceinline__ two_parts split_number(float x) {
    const unsigned hi = to_tf32(x);
    return {hi, to_tf32(x - __uint_as_float(hi))};
}

struct mma_lane {
    int row, t;
};
__device__ __forceinline__ mma_lane lane_of_mma() { return {(int)(threadIdx.x & 31) / 4, (int)(threadIdx.x & 31) % 4}; }

struct parts_a {
    unsigned hi[4], lo[4];
};
struct parts_b {
    unsigned hi[2], lo[2];
};
// c += a b
__device__ __forceinline__ void add_product(float c[4], const parts_a &a, const parts_b &b) {
    const unsigned *const as[] = {a.lo, a.hi, a.hi}, *const bs[] = {b.hi, b.lo, b.hi};
#ifdef __CUDACC__
#pragma unroll
    for (int i = 0; i < 3; i++)
        asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
            "{%0, %1, %2, %3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(as[i][0]), "r"(as[i][1]), "r"(as[i][2]), "r"(as[i][3]), "r"(bs[i][0]), "r"(bs[i][1]));
#else
    cu_mma_tf32(c, as, bs, 3);
#endif
}
__device__ __forceinline__ parts_a split_a(float a0, float a1, float a2, float a3) {
    const two_parts p[4] = {split_number(a0), split_number(a1), split_number(a2), split_number(a3)};
    return {{p[0].hi, p[1].hi, p[2].hi, p[3].hi}, {p[0].lo, p[1].lo, p[2].lo, p[3].lo}};
}
__device__ __forceinline__ parts_b split_b(float b0, float b1) {
    const two_parts p[2] = {split_number(b0), split_number(b1)};
    return {{p[0].hi, p[1].hi}, {p[0].lo, p[1].lo}};
}

// Which of MMA_COLS columns a warp has to do with, the same for all of its lanes, and the head size.
struct mma_part {
    int first, end, D;
};
__device__ __forceinline__ bool takes(const mma_part &p, int j) { return 8 * j + 7 >= p.first && 8 * j < p.end; }

// Of all columns and the whole width, or (not ALL) of a part, whose other columns of s stay as they are.
template <int DP, bool ALL>
__device__ __forceinline__ void scores_of(float s[COL_TILES][4], const float *a, const float *b, const mma_part &p,
                                          mma_lane l) {
    const float *ar = a + l.row * (DP + 4) + l.t, *br = b + l.row * (DP + 4) + l.t;
#pragma unroll 2
    for (int d = 0; d < (ALL ? DP : p.D); d += 8) {
        const float *down = ar + 8 * (DP + 4) + d;
        const parts_a pa = split_a(ar[d], down[0], ar[d + 4], down[4]);
#pragma unroll
        for (int j = 0; j < COL_TILES; j++) {
            const float *to = br + 8 * j * (DP + 4) + d;
            if (ALL || takes(p, j)) add_product(s[j], pa, split_b(to[0], to[4]));
        }
    }
}
template <int DP, bool ALL>
__device__ __forceinline__ void rows_of(float o[DP / 8][4], const float w[COL_TILES][4], const float *x,
                                        const mma_part &p, mma_lane l) {
#pragma unroll
    for (int j = 0; j < COL_TILES; j++) {
        if (!ALL && !takes(p, j)) continue;
        const parts_a pa = split_a(w[j][0], w[j][2], w[j][1], w[j][3]);
        const float *xr = x + (8 * j + 2 * l.t) * (DP + 4) + l.row;
#pragma unroll
        for (int n = 0; n < DP / 8; n++)
            if (ALL || 8 * n < p.D) add_product(o[n], pa, split_b(xr[8 * n], xr[8 * n + DP + 4]));
    }
}
template <int DP> __device__ __forceinline__ bool takes_all(const mma_part &p) {
    return p.first < 8 && p.end >= MMA_COLS && p.D == DP;
}

// s += a b', a [16, DP] and b [MMA_COLS, DP] in shared memory.
template <int DP>
__device__ __forceinline__ void mma_scores(float s[COL_TILES][4], const float *a, const float *b, const mma_part &p,
                                           mma_lane l) {
    if (takes_all<DP>(p))
        scores_of<DP, true>(s, a, b, p, l);
    else
        scores_of<DP, false>(s, a, b, p, l);
}

// o += w x, w [16, MMA_COLS] as results, x [MMA_COLS, DP] in shared memory.
template <int DP>
__device__ __forceinline__ void mma_rows(float o[DP / 8][4], const float w[COL_TILES][4], const float *x,
                                         const mma_part &p, mma_lane l) {
    if (takes_all<DP>(p))
        rows_of<DP, true>(o, w, x, p, l);
    else
        rows_of<DP, false>(o, w, x, p, l);
}

// Over the four lanes of a row.
__device__ __forceinline__ float row_sum4(float v) {
    v += __shfl_xor_sync((unsigned)ALL_LANES, v, 2);
    return v + __shfl_xor_sync((unsigned)ALL_LANES, v, 1);
}
__device__ __forceinline__ float row_max4(float v) {
    v = fmaxf(v, __shfl_xor_sync((unsigned)ALL_LANES, v, 2));
    return fmaxf(v, __shfl_xor_sync((unsigned)ALL_LANES, v, 1));
}

// Rows of o, times factor, to rows [count, D] of distance E, the warp's first of them at `first`.
template <int DP>
__device__ __forceinline__ void mma_store(float *rows, const float o[DP / 8][4], float factor, int first, int count,
                                          int E, int D, mma_lane l) {
#pragma unroll
    for (int n = 0; n < DP / 8; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int r = first + l.row + i / 2 * 8, d = 8 * n + 2 * l.t + i % 2;
            if (r < count && d < D) rows[(size_t)r * E + d] = factor * o[n][i];
        }
}

// Sum over row `half` of the lane's two of o . row.
template <int DP>
__device__ __forceinline__ float mma_row_dot(const float *row, const float o[DP / 8][4], int half, bool there, int D,
                                             mma_lane l) {
    float sum = 0;
#pragma unroll
    for (int n = 0; n < DP / 8; n++)
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int d = 8 * n + 2 * l.t + i;
            if (there && d < D) sum += row[d] * o[n][2 * half + i];
        }
    return row_sum4(sum);
}
