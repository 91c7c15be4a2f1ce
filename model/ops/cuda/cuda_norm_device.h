// cuda_norm_device - the sums of a row that norms are made of, for kernels: by a warp, and, of rows that have a block
// (cuda_norm_rows), by THREADS threads, each of which has four neighbouring numbers out of every 4 THREADS.
#pragma once
#include "cuda_device.h"

struct norm_stat {
    float mean, s;
};

__device__ __forceinline__ norm_stat stat_of(const float *x, norm_shape h, int lane) {
    const int E = h.E;
    float sum = 0, var = 0;
    for (int e = lane; e < E && h.kind != NORM_RMS; e += 32) sum += x[e];
    const float mean = warp_sum(sum) / (float)E;
    for (int e = lane; e < E; e += 32) var += (x[e] - mean) * (x[e] - mean);
    return {mean, 1.0f / sqrtf(warp_sum(var) / (float)E + h.eps)};
}

// Four neighbouring numbers of a row of E, of which `e` is the first; 0 beyond it.
template <bool ALIGNED> __device__ __forceinline__ float4 load_four(const float *row, int e, int E) {
    if constexpr (ALIGNED)
        return e < E ? *reinterpret_cast<const float4 *>(row + e) : float4{0, 0, 0, 0};
    else
        return {e < E ? row[e] : 0, e + 1 < E ? row[e + 1] : 0, e + 2 < E ? row[e + 2] : 0, e + 3 < E ? row[e + 3] : 0};
}

__device__ __forceinline__ float square_of(float x, float mean, bool there) {
    return there ? (x - mean) * (x - mean) : 0;
}
