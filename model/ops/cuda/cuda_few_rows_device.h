// cuda_few_rows_device - what the kernels of cuda_few_rows.cu and cuda_few_columns.cu share: pieces of a weight of 16
// bytes, rounding, the rows of x that a block works on.
#pragma once
#include "cuda_device.h"

enum { DEEP = 8 };  // loads of 16 bytes that a lane has under way

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
// R of the launch's rows from number `from` on: row[t] of x and y; the sequence that it is of, the place of its span in
// the launch, and which of the span's rows it is. Returns how many there are.
template <int R> struct row_group { int row[R], seq[R], place[R], nth[R]; };
template <int R> __device__ __forceinline__ int rows_from(row_group<R> &to, const cuda_spans &s, int from) {
    const int t = (int)threadIdx.x;
    if (t < R && from + t < s.blocks) {
        const int place = find_span(s, from + t);
        const cuda_span p = s.s[place];
        to.nth[t] = from + t - p.first;
        to.row[t] = p.row + to.nth[t];
        to.seq[t] = p.extra;
        to.place[t] = place;
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
    for (int t = 0; t < n; t++)
        if (u.wants[(size_t)k * u.seqs + rows.seq[t]]) by |= 1u << t;
    return by;
}
