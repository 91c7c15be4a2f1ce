// cuda_live_rows - what products of many rows over live units copy: the live rows of a weight, one after the other, and
// the columns of live units out of rows of x or into rows of y. Numbers of a list's units, D each, from number `first`
// on, `count` of them.
#include "cuda_device.h"

// The place of number i among all of them.
__device__ __forceinline__ int number_of(const cuda_live_part &p, int i) {
    const int k = p.first + i;
    return p.unit[k / p.D] * p.D + k % p.D;
}

// A block a row; T: what divides a row and where it begins.
template <class T>
static __global__ void __launch_bounds__(THREADS)
    take_rows_k(T *__restrict__ to, const T *__restrict__ from, const cuda_live_part p, int width) {
    const T *row = from + (size_t)number_of(p, (int)blockIdx.x) * width;
    T *out = to + (size_t)blockIdx.x * width;
#pragma unroll 4
    for (int i = (int)threadIdx.x; i < width; i += THREADS) out[i] = row[i];
}

extern "C" void cuda_launch_take_rows(void *to, const void *from, size_t bytes, const cuda_live_part *p,
                                      cudaStream_t st) {
    const size_t all = bytes | (size_t)(uintptr_t)from | (size_t)(uintptr_t)to;
    if (all % sizeof(uint4) == 0)
        CU_LAUNCH((take_rows_k<uint4>), p->count, THREADS, 0, st, static_cast<uint4 *>(to),
                  static_cast<const uint4 *>(from), *p, (int)(bytes / sizeof(uint4)));
    else
        CU_LAUNCH((take_rows_k<uint16_t>), p->count, THREADS, 0, st, static_cast<uint16_t *>(to),
                  static_cast<const uint16_t *>(from), *p, (int)(bytes / sizeof(uint16_t)));
}

// Rows of x, of distance ld, to rows of count numbers.
static __global__ void __launch_bounds__(THREADS)
    take_columns_k(float *__restrict__ to, const float *__restrict__ x, int ld, const cuda_live_part p) {
    const int i = (int)(blockIdx.x * THREADS + threadIdx.x);
    if (i < p.count) to[(size_t)blockIdx.y * p.count + i] = x[(size_t)blockIdx.y * ld + number_of(p, i)];
}

// Back, with a bias (NULL: none) and ReLU where asked.
static __global__ void __launch_bounds__(THREADS)
    put_columns_k(float *__restrict__ y, int ld, const float *__restrict__ from, const void *__restrict__ bias,
                  int type, int relu, const cuda_live_part p) {
    const int i = (int)(blockIdx.x * THREADS + threadIdx.x);
    if (i >= p.count) return;
    const int at = number_of(p, i);
    float v = from[(size_t)blockIdx.y * p.count + i] + (bias ? widen(bias, type, (size_t)at) : 0.0f);
    y[(size_t)blockIdx.y * ld + at] = relu && v <= 0 ? 0 : v;
}

enum { ROWS_AT_ONCE = 32768 };  // of a launch

extern "C" void cuda_launch_take_columns(float *to, const float *x, int ld, int rows, const cuda_live_part *p,
                                         cudaStream_t st) {
    for (int t = 0; t < rows; t += ROWS_AT_ONCE) {
        const dim3 grid((unsigned)((p->count + THREADS - 1) / THREADS),
                        (unsigned)(rows - t < ROWS_AT_ONCE ? rows - t : ROWS_AT_ONCE));
        CU_LAUNCH(take_columns_k, grid, THREADS, 0, st, to + (size_t)t * p->count, x + (size_t)t * ld, ld, *p);
    }
}

extern "C" void cuda_launch_put_columns(float *y, int ld, const float *from, const void *bias, int type, int relu,
                                        int rows, const cuda_live_part *p, cudaStream_t st) {
    for (int t = 0; t < rows; t += ROWS_AT_ONCE) {
        const dim3 grid((unsigned)((p->count + THREADS - 1) / THREADS),
                        (unsigned)(rows - t < ROWS_AT_ONCE ? rows - t : ROWS_AT_ONCE));
        CU_LAUNCH(put_columns_k, grid, THREADS, 0, st, y + (size_t)t * ld, ld, from + (size_t)t * p->count, bias, type,
                  relu, *p);
    }
}
