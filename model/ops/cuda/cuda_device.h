// cuda_device - what the kernels share: launches, sums over warps and blocks, the span of a block. CU_LAUNCH and
// CU_DYN_SHARED are CUDA's own syntax under nvcc; tests/cuda/cu_host.h gives them another meaning to run kernels on a
// CPU.
#pragma once
#include "cuda_launch.h"
#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#define CU_LAUNCH(kernel, grid, block, shared, stream, ...) kernel<<<(grid), (block), (shared), (stream)>>>(__VA_ARGS__)
#define CU_DYN_SHARED(type, name)                                                                                      \
    extern __shared__ __align__(16) unsigned char cu_dyn_shared_[];                                                    \
    type *name = reinterpret_cast<type *>(cu_dyn_shared_)
#else
#include "cu_host.h"
#endif

enum { ALL_LANES = -1, THREADS = 256 };

template <class T> __device__ __forceinline__ T warp_sum(T v) {
#pragma unroll
    for (int o = 16; o > 0; o >>= 1) v += __shfl_xor_sync((unsigned)ALL_LANES, v, o);
    return v;
}

// Sum over a block of N threads; part: N / 32 numbers of shared memory. Every thread gets the same bits.
template <int N = THREADS, class T> __device__ __forceinline__ T block_sum(T v, T *part) {
    v = warp_sum(v);
    __syncthreads();  // part may still be read from an earlier call
    if ((threadIdx.x & 31) == 0) part[threadIdx.x >> 5] = v;
    __syncthreads();
    T sum = part[0];
#pragma unroll
    for (int w = 1; w < N / 32; w++) sum += part[w];
    return sum;
}

// The largest of THREADS.
__device__ __forceinline__ float block_max(float v, float *part) {
#pragma unroll
    for (int o = 16; o > 0; o >>= 1) v = fmaxf(v, __shfl_xor_sync((unsigned)ALL_LANES, v, o));
    __syncthreads();
    if ((threadIdx.x & 31) == 0) part[threadIdx.x >> 5] = v;
    __syncthreads();
    float top = part[0];
#pragma unroll
    for (int w = 1; w < THREADS / 32; w++) top = fmaxf(top, part[w]);
    return top;
}

// The last span or sequence that begins at or before a block.
template <class List> __device__ __forceinline__ int find_span(const List &list, int block) {
    int low = 0, high = list.n - 1;
    while (low < high) {
        const int middle = (low + high + 1) / 2;
        if (list.s[middle].first <= block)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

// What another block of this launch has written: not from a cache that is this multiprocessor's own.
template <class T> __device__ __forceinline__ T load_fresh(const T *p) {
#ifdef __CUDA_ARCH__
    return __ldcg(p);
#else
    return *p;
#endif
}

// Whether this block is the last of `blocks` that come here with this counter, which begins at 0 and is left at 0. What
// all of them wrote before can then be read by load_fresh. So a sum over blocks is made in the launch that made its
// parts, in their order, whichever block comes last.
__device__ __forceinline__ bool last_block(unsigned *counter, unsigned blocks) {
    __shared__ bool last;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        last = atomicAdd(counter, 1u) == blocks - 1;
        if (last) *counter = 0;
    }
    __syncthreads();
    if (last) __threadfence();
    return last;
}

__device__ __forceinline__ int past_of(const cuda_seq &s) { return s.past_at ? *s.past_at : s.past; }
__device__ __forceinline__ int count_of(const cuda_live &u) { return u.n_at ? *u.n_at : u.n; }
// Whether a sequence has nothing to do with the unit at place k of a list.
__device__ __forceinline__ bool idle(const cuda_live &u, int k, int seq) {
    return u.unit && (k >= count_of(u) || (u.wants && !u.wants[(size_t)k * u.seqs + seq]));
}

__device__ __forceinline__ float widen(const void *w, int type, size_t i) {  // type: dtype of ckpt.h
    if (type == 0) return static_cast<const float *>(w)[i];
    if (type == 1) return __half2float(static_cast<const __half *>(w)[i]);
    return __bfloat162float(static_cast<const __nv_bfloat16 *>(w)[i]);
}
