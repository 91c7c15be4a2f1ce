// cuda_criteria_units - one pass over a layer's taps for all sums of its units: output a, gradient g, tangent h,
// another array o (unit_sums.h). In double, tokens in an order that depends on nothing but their number.
#include "cuda_device.h"
#include <math.h>

enum { GROUPS = THREADS / 32, COLUMN_SUMS = USUM_TANGENT + 1 };

__device__ __forceinline__ float value(const float *x, size_t at) { return x ? x[at] : 0; }
// The square of a neuron's output, NaN kept; whether it is on.
__device__ __forceinline__ double output2(const unit_taps &x, float a) {
    const float r = x.gate ? a : 0.5f * (a + fabsf(a));
    return (double)r * (double)r;
}
__device__ __forceinline__ int is_on(const unit_taps &x, size_t at, float a) { return (x.gate ? x.gate[at] : a) > 0; }

// Units of one value: a warp reads 32 of them side by side, the warps of a block take turns at the tokens.
static __global__ void __launch_bounds__(THREADS)
    unit_columns_k(double *__restrict__ sums, unsigned which, const unit_taps x, int from, int units,
                   const cuda_spans s) {
    __shared__ double part[COLUMN_SUMS][GROUPS][32];
    const cuda_span p = s.s[blockIdx.y];
    const int lane = (int)threadIdx.x & 31, group = (int)threadIdx.x >> 5, u = (int)blockIdx.x * 32 + lane;
    double sum[COLUMN_SUMS] = {0};
    for (int t = group; u < units && t < p.n; t += GROUPS) {
        const size_t at = (size_t)(p.row + t) * x.ld + from + u;
        const float a = value(x.act, at), g = value(x.grad, at), h = value(x.tangent, at);
        const double ag = (double)a * (double)g;
        sum[USUM_ACT] += (double)a * (double)a;
        sum[USUM_OUTPUT] += output2(x, a);
        sum[USUM_GRAD] += (double)g * (double)g;
        sum[USUM_ABS] += (double)fabsf(g);
        sum[USUM_SIGNED] += ag;
        sum[USUM_SIZE] += fabs(ag);
        sum[USUM_SQUARE] += ag * ag;
        sum[USUM_ON] += is_on(x, at, a);
        sum[USUM_TANGENT] += (double)a * (double)h;
    }
    sum[USUM_VALUES] = sum[USUM_SQUARE];  // with one value they are the same
#pragma unroll
    for (int k = 0; k < COLUMN_SUMS; k++) part[k][group][lane] = sum[k];
    __syncthreads();
    for (int k = group; k < COLUMN_SUMS; k += GROUPS) {
        double all = part[k][0][lane];
#pragma unroll
        for (int w = 1; w < GROUPS; w++) all += part[k][w][lane];
        if (u < units && which >> k & 1) sums[((size_t)p.extra * units + u) * USUMS + k] = all;
    }
}

// Units of several values: a block each, a warp per token.
static __global__ void __launch_bounds__(THREADS)
    unit_heads_k(double *__restrict__ sums, unsigned which, const unit_taps x, int from, int units,
                 const cuda_spans s) {
    __shared__ double part[GROUPS];
    const cuda_span p = s.s[blockIdx.y];
    const int lane = (int)threadIdx.x & 31, group = (int)threadIdx.x >> 5;
    double sum[USUM_OUT + 1] = {0};
    for (int t = group; t < p.n; t += GROUPS) {
        const size_t row = (size_t)(p.row + t), column = ((size_t)from + blockIdx.x) * x.D;
        double token = 0;
        for (int i = lane; i < x.D; i += 32) {
            const size_t at = row * x.ld + column + i;
            const float a = value(x.act, at), g = value(x.grad, at), h = value(x.tangent, at);
            const double ag = (double)a * (double)g;
            token += ag;
            sum[USUM_ACT] += (double)a * (double)a;
            sum[USUM_OUTPUT] += output2(x, a);
            sum[USUM_GRAD] += (double)g * (double)g;
            sum[USUM_ABS] += (double)fabsf(g);
            sum[USUM_VALUES] += ag * ag;
            sum[USUM_ON] += is_on(x, at, a);
            sum[USUM_TANGENT] += (double)a * (double)h;
            sum[USUM_OUT] += (double)fabsf(value(x.out, row * x.out_ld + column + i));
        }
        token = warp_sum(token);
        if (lane == 0) {
            sum[USUM_SIGNED] += token;
            sum[USUM_SIZE] += fabs(token);
            sum[USUM_SQUARE] += token * token;
        }
    }
#pragma unroll
    for (int k = 0; k <= USUM_OUT; k++) {
        const double all = block_sum(sum[k], part);
        if (threadIdx.x == 0 && which >> k & 1) sums[((size_t)p.extra * units + blockIdx.x) * USUMS + k] = all;
    }
}

extern "C" void cuda_launch_unit_sums(double *sums, unsigned which, const unit_taps *x, int from, int units,
                                      const cuda_spans *s, cudaStream_t st) {
    if (x->D == 1 && !(which >> USUM_OUT & 1))
        CU_LAUNCH(unit_columns_k, dim3((units + 31) / 32, s->n), THREADS, 0, st, sums, which, *x, from, units, *s);
    else
        CU_LAUNCH(unit_heads_k, dim3(units, s->n), THREADS, 0, st, sums, which, *x, from, units, *s);
}
