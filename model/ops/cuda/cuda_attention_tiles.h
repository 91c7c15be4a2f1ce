// cuda_attention_tiles - what the attention kernels share: 32 x 32 tiles of scores, computed by 128 threads from rows
// in shared memory.
//
// DP is 32, 64 or 128, the least that holds the head size D; columns beyond D are zero. Thread (tx, ty), tx 0..7, ty
// 0..15, owns rows 2 ty and 2 ty + 1 of a tile: score columns tx, tx + 8, tx + 16, tx + 24, and of a [32, DP] result
// the columns 4 tx + 32 k .. + 3. A row's eight threads are neighbours in one warp, so row sums are shuffles. Rows are
// DP + 4 floats apart: 16-byte reads of eight rows fall on different banks.
#pragma once
#include "cuda_device.h"

enum { TILE = CUDA_TILE, TILE_THREADS = 128, P_LD = TILE + 4 };
template <int DP> __host__ __device__ constexpr int tile_floats() { return TILE * (DP + 4); }
enum { MATRIX_FLOATS = TILE * P_LD };  // a tile of scores

// rows [count, D] of distance E -> tile [32, DP], zeros elsewhere.
template <int DP> __device__ __forceinline__ void load_tile(float *tile, const float *rows, int count, int E, int D) {
    for (int i = (int)threadIdx.x; i < TILE * DP; i += TILE_THREADS) {
        const int r = i / DP, d = i % DP;
        tile[r * (DP + 4) + d] = r < count && d < D ? rows[(size_t)r * E + d] : 0;
    }
}

// The same for keys j0.. of a sequence whose first `past` are kept apart.
template <int DP>
__device__ __forceinline__ void load_keys(float *tile, const float *past_rows, const float *rows, int past, int j0,
                                          int count, int E, int D) {
    for (int i = (int)threadIdx.x; i < TILE * DP; i += TILE_THREADS) {
        const int r = i / DP, d = i % DP, j = j0 + r;
        float v = 0;
        if (r < count && d < D) v = j < past ? past_rows[(size_t)j * E + d] : rows[(size_t)(j - past) * E + d];
        tile[r * (DP + 4) + d] = v;
    }
}

// s += a b'
template <int DP>
__device__ __forceinline__ void add_products(float s[2][4], const float *a, const float *b, int tx, int ty) {
#pragma unroll 4
    for (int d = 0; d < DP; d += 4) {
        const float4 a0 = *reinterpret_cast<const float4 *>(a + (2 * ty) * (DP + 4) + d),
                     a1 = *reinterpret_cast<const float4 *>(a + (2 * ty + 1) * (DP + 4) + d);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const float4 x = *reinterpret_cast<const float4 *>(b + (tx + 8 * j) * (DP + 4) + d);
            s[0][j] += a0.x * x.x + a0.y * x.y + a0.z * x.z + a0.w * x.w;
            s[1][j] += a1.x * x.x + a1.y * x.y + a1.z * x.z + a1.w * x.w;
        }
    }
}

// o += p x, p [32, 32] by rows; or o += p' x
template <int DP, bool TRANSPOSED>
__device__ __forceinline__ void add_rows(float o[2][DP / 8], const float *p, const float *x, int tx, int ty) {
#pragma unroll 4
    for (int j = 0; j < TILE; j++) {
        const float p0 = TRANSPOSED ? p[j * P_LD + 2 * ty] : p[2 * ty * P_LD + j],
                    p1 = TRANSPOSED ? p[j * P_LD + 2 * ty + 1] : p[(2 * ty + 1) * P_LD + j];
#pragma unroll
        for (int k = 0; k < DP / 32; k++) {
            const float4 v = *reinterpret_cast<const float4 *>(x + j * (DP + 4) + 4 * tx + 32 * k);
            o[0][4 * k] += p0 * v.x, o[0][4 * k + 1] += p0 * v.y, o[0][4 * k + 2] += p0 * v.z,
                o[0][4 * k + 3] += p0 * v.w;
            o[1][4 * k] += p1 * v.x, o[1][4 * k + 1] += p1 * v.y, o[1][4 * k + 2] += p1 * v.z,
                o[1][4 * k + 3] += p1 * v.w;
        }
    }
}

__device__ __forceinline__ void keep_scores(float *p, const float s[2][4], int tx, int ty) {
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) p[(2 * ty + i) * P_LD + tx + 8 * j] = s[i][j];
}

// Over the eight threads of a row.
__device__ __forceinline__ float row_sum8(float v) {
    v += __shfl_xor_sync((unsigned)ALL_LANES, v, 4);
    v += __shfl_xor_sync((unsigned)ALL_LANES, v, 2);
    return v + __shfl_xor_sync((unsigned)ALL_LANES, v, 1);
}
__device__ __forceinline__ float row_max8(float v) {
    v = fmaxf(v, __shfl_xor_sync((unsigned)ALL_LANES, v, 4));
    v = fmaxf(v, __shfl_xor_sync((unsigned)ALL_LANES, v, 2));
    return fmaxf(v, __shfl_xor_sync((unsigned)ALL_LANES, v, 1));
}

// Rows 2 ty, 2 ty + 1 of o, times factor, to rows [count, D] of distance E.
template <int DP>
__device__ __forceinline__ void store_rows(float *rows, const float o[2][DP / 8], float factor, int count, int E, int D,
                                           int tx, int ty) {
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int k = 0; k < DP / 32; k++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const int d = 4 * tx + 32 * k + e;
                if (2 * ty + i < count && d < D) rows[(size_t)(2 * ty + i) * E + d] = factor * o[i][4 * k + e];
            }
}

// Sum over a row of o . rows, for row 2 ty + i.
template <int DP>
__device__ __forceinline__ float row_dot(const float *rows, const float *o, bool there, int D, int tx) {
    float sum = 0;
#pragma unroll
    for (int k = 0; k < DP / 32; k++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const int d = 4 * tx + 32 * k + e;
            if (there && d < D) sum += rows[d] * o[4 * k + e];
        }
    return row_sum8(sum);
}

// Launches kernel<DP> for a head size D of at most 128. An error is left for cudaGetLastError.
#define ATTENTION_LAUNCH(kernel, floats_of, D, tiles, heads, stream, ...)                                              \
    do {                                                                                                               \
        if ((D) <= 32)                                                                                                 \
            attention_start(kernel<32>, floats_of(32), tiles, heads, stream, __VA_ARGS__);                             \
        else if ((D) <= 64)                                                                                            \
            attention_start(kernel<64>, floats_of(64), tiles, heads, stream, __VA_ARGS__);                             \
        else                                                                                                           \
            attention_start(kernel<128>, floats_of(128), tiles, heads, stream, __VA_ARGS__);                           \
    } while (0)

// Whether a block of this device can have so much shared memory. GPUs have 99 (8.6, 8.9, 12.0), 163 (8.0) or 227 KB
// (9.0, 10.0).
static inline bool attention_fits(int floats) {
    int device = 0, bytes = 0;
    return cudaGetDevice(&device) == cudaSuccess &&
           cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device) == cudaSuccess &&
           floats * (int)sizeof(float) <= bytes;
}

template <class K, class... A>
static void attention_start(K *kernel, int floats, int tiles, int heads, cudaStream_t stream, A... args) {
    const int bytes = floats * (int)sizeof(float);
    if (bytes > 48 * 1024 && cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel),
                                                  cudaFuncAttributeMaxDynamicSharedMemorySize, bytes) != cudaSuccess)
        return;
    CU_LAUNCH(kernel, dim3((unsigned)tiles, (unsigned)heads), dim3(TILE_THREADS), (size_t)bytes, stream, args...);
}
