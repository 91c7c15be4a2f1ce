// cuda_criteria_weights - sums over rows of a weight W and of its gradient's tile G (and of the gradient's tangent H,
// or NULL): a block per row.
#include "cuda_device.h"
#include <math.h>

static __global__ void __launch_bounds__(THREADS)
    weight_sums_k(double *__restrict__ sums, const void *__restrict__ w, int type, const float *__restrict__ g,
                  const float *__restrict__ h, int cols, int add) {
    __shared__ double part[THREADS / 32];
    const size_t row = (size_t)blockIdx.x * cols;
    double size = 0, square = 0, with = 0, tangent = 0;
    for (int e = (int)threadIdx.x; e < cols; e += THREADS) {
        const float we = widen(w, type, row + e), ge = g[row + e];
        size += (double)fabsf(we * ge);
        square += (double)ge * (double)ge;
        with += (double)we * (double)ge;
        if (h) tangent += (double)we * (double)h[row + e];
    }
    const double all[4] = {block_sum(size, part), block_sum(square, part), block_sum(with, part),
                           block_sum(tangent, part)};
    for (unsigned k = 0; k < 4; k++)  // by a constant index, so that all[] stays in registers
        if (threadIdx.x == k) {
            double *to = sums + (size_t)blockIdx.x * 4 + k;
            *to = add ? *to + all[k] : all[k];
        }
}

extern "C" void cuda_launch_weight_sums(double *sums, const void *w, int type, const float *g, const float *h, int rows,
                                        int cols, int add, cudaStream_t st) {
    CU_LAUNCH(weight_sums_k, rows, THREADS, 0, st, sums, w, type, g, h, cols, add);
}
