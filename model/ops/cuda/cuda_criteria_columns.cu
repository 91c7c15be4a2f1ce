// cuda_criteria_columns - mean and variance of the columns of a tap, squared norms of the columns of a weight. A warp
// reads 32 columns side by side, the warps of a block take turns at the rows. In double, rows in an order that depends
// on nothing but their number.
#include "cuda_device.h"
#include <math.h>

enum { GROUPS = THREADS / 32 };

// max(a, 0) where asked, NaN kept
__device__ __forceinline__ double tap(float a, int relu) {
    return relu ? 0.5 * ((double)a + fabs((double)a)) : (double)a;
}

// The sum over the warps of what each lane has; every thread gets that of its lane.
__device__ __forceinline__ double lane_sum(double v, double (*part)[32]) {
    const int lane = (int)threadIdx.x & 31, group = (int)threadIdx.x >> 5;
    __syncthreads();  // part may still be read from an earlier call
    part[group][lane] = v;
    __syncthreads();
    double all = part[0][lane];
#pragma unroll
    for (int w = 1; w < GROUPS; w++) all += part[w][lane];
    return all;
}

static __global__ void __launch_bounds__(THREADS)
    column_moments_k(double *__restrict__ moments, const float *__restrict__ x, int ld, int relu, int from, int cols,
                     const cuda_spans s) {
    __shared__ double part[GROUPS][32];
    const cuda_span p = s.s[blockIdx.y];
    const int lane = (int)threadIdx.x & 31, group = (int)threadIdx.x >> 5, c = (int)blockIdx.x * 32 + lane;
    const float *at = x + (size_t)p.row * ld + from + c;
    double sum = 0, off = 0;
    for (int t = group; c < cols && t < p.n; t += GROUPS) sum += tap(at[(size_t)t * ld], relu);
    const double all = lane_sum(sum, part), mean = p.n ? all / p.n : 0;
    for (int t = group; c < cols && t < p.n; t += GROUPS) {
        const double d = tap(at[(size_t)t * ld], relu) - mean;
        off += d * d;
    }
    off = lane_sum(off, part);
    if (group || c >= cols) return;
    double *to = moments + ((size_t)p.extra * cols + c) * 2;
    to[0] = mean;
    to[1] = off;
}

static __global__ void __launch_bounds__(THREADS)
    column_squares_k(double *__restrict__ squares, const void *__restrict__ w, int type, int rows, int cols,
                     size_t row_step, size_t col_step) {
    __shared__ double part[GROUPS][32];
    const int lane = (int)threadIdx.x & 31, group = (int)threadIdx.x >> 5, c = (int)blockIdx.x * 32 + lane;
    double sum = 0;
    for (int r = group; c < cols && r < rows; r += GROUPS) {
        const double v = (double)widen(w, type, (size_t)r * row_step + (size_t)c * col_step);
        sum += v * v;
    }
    sum = lane_sum(sum, part);
    if (group == 0 && c < cols) squares[c] = sum;
}

extern "C" void cuda_launch_column_moments(double *moments, const float *x, int ld, int relu, int from, int cols,
                                           const cuda_spans *s, cudaStream_t st) {
    CU_LAUNCH(column_moments_k, dim3((cols + 31) / 32, s->n), THREADS, 0, st, moments, x, ld, relu, from, cols, *s);
}

extern "C" void cuda_launch_column_squares(double *squares, const void *w, int type, int rows, int cols, int turned,
                                           cudaStream_t st) {
    CU_LAUNCH(column_squares_k, (cols + 31) / 32, THREADS, 0, st, squares, w, type, rows, cols,
              turned ? (size_t)1 : (size_t)cols, turned ? (size_t)rows : (size_t)1);
}
