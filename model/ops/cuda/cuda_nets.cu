// cuda_nets - what nets that predict scores are trained and run with, beside cuBLAS's products: AdamW, losses, the rows
// of pooling attention, min-max normalisation. Formulas as in cpu_nets.c.
#include "cuda_device.h"
#include <math.h>

static __global__ void __launch_bounds__(THREADS)
    adamw_k(float *__restrict__ w, float *__restrict__ m, float *__restrict__ v, const float *__restrict__ g, adamw a,
            size_t n) {
    const size_t at = (size_t)blockIdx.x * CUDA_CHUNK, end = at + CUDA_CHUNK < n ? at + CUDA_CHUNK : n;
    for (size_t i = at + threadIdx.x; i < end; i += THREADS) {
        const float gi = g[i] * a.scale, mean = a.b1 * m[i] + (1 - a.b1) * gi, mi = fabsf(mean) < 1e-30f ? 0 : mean,
                    vi = a.b2 * v[i] + (1 - a.b2) * gi * gi;
        m[i] = mi;
        v[i] = vi;
        w[i] -= a.shrink * w[i] + a.rate * (mi / a.c1) / (sqrtf(vi / a.c2) + a.eps);
    }
}

// ---------------------------------------------------------------- losses
// The loss of a chunk; dy may be NULL.
static __global__ void __launch_bounds__(THREADS)
    loss_k(double *__restrict__ part, float *__restrict__ dy, const float *__restrict__ y, const float *__restrict__ t,
           int bce, double positive, float scale, size_t n) {
    __shared__ double sums[THREADS / 32];
    const size_t at = (size_t)blockIdx.x * CUDA_CHUNK, end = at + CUDA_CHUNK < n ? at + CUDA_CHUNK : n;
    double sum = 0;
    for (size_t i = at + threadIdx.x; i < end; i += THREADS) {
        float slope;
        if (bce) {
            const double z = (double)y[i], w = (double)t[i] * (1 - positive) + positive, e = exp(-fabs(z));
            sum += w * (fmax(z, 0.0) - z * (double)t[i] + log1p(e));
            slope = (float)(w * ((z >= 0 ? 1 : e) / (1 + e) - (double)t[i]));
        } else {
            slope = y[i] - t[i];
            sum += (double)slope * (double)slope;
        }
        if (dy) dy[i] = scale * slope;
    }
    const double all = block_sum(sum, sums);
    if (threadIdx.x == 0) part[blockIdx.x] = all;
}

static __global__ void __launch_bounds__(THREADS)
    loss_mean_k(double *__restrict__ mean, const double *__restrict__ part, int parts, size_t n) {
    __shared__ double sums[THREADS / 32];
    double sum = 0;
    for (int i = (int)threadIdx.x; i < parts; i += THREADS) sum += part[i];
    const double all = block_sum(sum, sums);
    if (threadIdx.x == 0) *mean = all / (double)n;
}

// ---------------------------------------------------------------- pooling attention
// A block per row of scores [rows, T], queries first.. of a span: they become the row's share of the mean over all
// tokens; lse: log of the sum of exponentials.
static __global__ void __launch_bounds__(THREADS) pool_softmax_k(float *__restrict__ score, float *__restrict__ lse,
                                                                 const float *__restrict__ count, int first, int T) {
    __shared__ float part[THREADS / 32];
    float *s = score + (size_t)blockIdx.x * T;
    float top = -INFINITY, sum = 0, tokens = 0;
    for (int j = (int)threadIdx.x; j < T; j += THREADS) top = fmaxf(top, s[j]);
    top = block_max(top, part);
    for (int j = (int)threadIdx.x; j < T; j += THREADS) {
        sum += s[j] = count[j] * expf(s[j] - top);
        tokens += count[j];
    }
    const float all = block_sum(sum, part), share = count[first + (int)blockIdx.x] / (all * block_sum(tokens, part));
    for (int j = (int)threadIdx.x; j < T; j += THREADS) s[j] *= share;
    if (threadIdx.x == 0) lse[blockIdx.x] = top + logf(all);
}

// P[t, s] = n_s exp(score - lse); dscore = n_t P (dp - sum P dp) / tokens, times scale.
static __global__ void __launch_bounds__(THREADS)
    pool_softmax_back_k(float *__restrict__ score, const float *__restrict__ lse, const float *__restrict__ dp,
                        const float *__restrict__ count, float scale, int first, int T) {
    __shared__ float part[THREADS / 32];
    float *s = score + (size_t)blockIdx.x * T;
    const float log_sum = lse[blockIdx.x];
    float sum = 0, tokens = 0;
    for (int j = (int)threadIdx.x; j < T; j += THREADS) {
        sum += (s[j] = count[j] * expf(s[j] - log_sum)) * dp[j];
        tokens += count[j];
    }
    const float mean = block_sum(sum, part), factor = scale * count[first + (int)blockIdx.x] / block_sum(tokens, part);
    for (int j = (int)threadIdx.x; j < T; j += THREADS) s[j] *= (dp[j] - mean) * factor;
}

// ---------------------------------------------------------------- min-max
// A block per span: all its numbers. y may be x.
static __global__ void __launch_bounds__(THREADS)
    minmax_k(float *y, const float *x, int width, const cuda_spans spans) {
    __shared__ float part[THREADS / 32];
    const cuda_span p = spans.s[blockIdx.x];
    const size_t at = (size_t)p.row * width, n = (size_t)p.n * width;
    float least = x[at], most = x[at];
    for (size_t i = threadIdx.x; i < n; i += THREADS) {
        least = x[at + i] < least ? x[at + i] : least;
        most = x[at + i] > most ? x[at + i] : most;
    }
    most = block_max(most, part);
    least = -block_max(-least, part);
    // halves: the difference of two finite numbers may overflow
    const float factor = isinf(most - least) ? 0.5f : 1.0f, from = least * factor, range = most * factor - from;
    for (size_t i = threadIdx.x; i < n; i += THREADS)
        y[at + i] = most > least ? (x[at + i] * factor - from) / range : 0;
}

extern "C" void cuda_launch_adamw(float *w, float *m, float *v, const float *g, const adamw *a, size_t n,
                                  cudaStream_t st) {
    CU_LAUNCH(adamw_k, (unsigned)((n + CUDA_CHUNK - 1) / CUDA_CHUNK), THREADS, 0, st, w, m, v, g, *a, n);
}
extern "C" void cuda_launch_loss(double *mean, double *part, float *dy, const float *y, const float *t, int bce,
                                 double positive, float scale, size_t n, cudaStream_t st) {
    const unsigned parts = (unsigned)((n + CUDA_CHUNK - 1) / CUDA_CHUNK);
    CU_LAUNCH(loss_k, parts, THREADS, 0, st, part, dy, y, t, bce, positive, scale, n);
    CU_LAUNCH(loss_mean_k, 1, THREADS, 0, st, mean, part, (int)parts, n);
}
extern "C" void cuda_launch_pool_softmax(float *score, float *lse, const float *count, int first, int rows, int T,
                                         cudaStream_t st) {
    CU_LAUNCH(pool_softmax_k, rows, THREADS, 0, st, score, lse, count, first, T);
}
extern "C" void cuda_launch_pool_softmax_back(float *score, const float *lse, const float *dp, const float *count,
                                              float scale, int first, int rows, int T, cudaStream_t st) {
    CU_LAUNCH(pool_softmax_back_k, rows, THREADS, 0, st, score, lse, dp, count, scale, first, T);
}
extern "C" void cuda_launch_minmax(float *y, const float *x, int width, const cuda_spans *s, cudaStream_t st) {
    CU_LAUNCH(minmax_k, s->n, THREADS, 0, st, y, x, width, *s);
}
