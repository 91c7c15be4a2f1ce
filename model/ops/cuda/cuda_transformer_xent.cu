// cuda_transformer_xent - log-probabilities and the gradient of the cross-entropy, in place over the logits: there is
// no second copy of them. A block per row; a thread's sum is fp32 over some hundred columns, sums of threads are
// double. Terms of the largest logit, each 1, are counted apart: in an fp32 sum with them the others lose their digits,
// and those are all that the gradient of a well predicted target is made of.
#include "cuda_device.h"
#include <math.h>

struct row_sum {
    float top;
    double log_sum;
};  // largest logit, log of the sum of exp(x - top)

__device__ __forceinline__ row_sum log_sum_exp(const float *x, int n, double *part) {
    float top = -INFINITY;
    for (int i = (int)threadIdx.x; i < n; i += THREADS) top = x[i] > top ? x[i] : top;
#pragma unroll
    for (int o = 16; o > 0; o >>= 1) top = fmaxf(top, __shfl_xor_sync((unsigned)ALL_LANES, top, o));
    if ((threadIdx.x & 31) == 0) part[threadIdx.x >> 5] = (double)top;
    __syncthreads();
    for (int w = 0; w < THREADS / 32; w++) top = fmaxf(top, (float)part[w]);
    float sum = 0, ones = 0;
    for (int i = (int)threadIdx.x; i < n; i += THREADS)
        if (x[i] == top)
            ones += 1;
        else
            sum += expf(x[i] - top);
    return {top, log(block_sum((double)sum + (double)ones, part))};
}

// The lowest place of a number that is `least` or more, which is there. part: THREADS / 32 numbers of shared memory.
__device__ __forceinline__ int first_of(const float *x, int n, float least, int *part) {
    int first = n - 1;
    for (int i = (int)threadIdx.x; i < n; i += THREADS)
        if (x[i] >= least) {
            first = i;
            break;
        }
#pragma unroll
    for (int o = 16; o > 0; o >>= 1) first = min(first, __shfl_xor_sync((unsigned)ALL_LANES, first, o));
    if ((threadIdx.x & 31) == 0) part[threadIdx.x >> 5] = first;
    __syncthreads();
    for (int w = 0; w < THREADS / 32; w++) first = min(first, part[w]);
    return first;
}

static __global__ void __launch_bounds__(THREADS)
    logprob_k(double *__restrict__ logprob, int32_t *__restrict__ top, const float *__restrict__ logits,
              const int32_t *__restrict__ target, int V, int vocab) {
    __shared__ double part[THREADS / 32];
    __shared__ int first[THREADS / 32];
    const int row = (int)blockIdx.x;
    const float *x = logits + (size_t)row * V;
    const row_sum s = log_sum_exp(x, vocab, part);
    if (threadIdx.x == 0)
        logprob[row] = target[row] < vocab ? (double)x[target[row]] - (double)s.top - s.log_sum : -INFINITY;
    if (!top) return;
    const int best = first_of(x, vocab, s.top, first);
    if (threadIdx.x == 0) top[row] = best;
}

// A number whose order is that of the logits, of equal ones the first; what is not finite is above all.
__device__ __forceinline__ unsigned long long rank_of(float x, int place) {
    const unsigned bits = __float_as_uint(x + 0.0f);  // -0 is 0
    const unsigned up = bits >> 31 ? ~bits : bits | 0x80000000u;
    return (unsigned long long)(isfinite(x) ? up : 0xffffffffu) << 32 | (0xffffffffu - (unsigned)place);
}

// The largest of THREADS; part: THREADS / 32 numbers of shared memory.
__device__ __forceinline__ unsigned long long block_top(unsigned long long v, unsigned long long *part) {
#pragma unroll
    for (int o = 16; o > 0; o >>= 1) v = max(v, __shfl_xor_sync((unsigned)ALL_LANES, v, o));
    __syncthreads();
    if ((threadIdx.x & 31) == 0) part[threadIdx.x >> 5] = v;
    __syncthreads();
    for (int w = 0; w < THREADS / 32; w++) v = max(v, part[w]);
    return v;
}

// A block has CUDA_LIKELIEST logits of a row, all under way at once; the last one compares the blocks' best.
static __global__ void __launch_bounds__(THREADS)
    likeliest_k(int32_t *__restrict__ token, int32_t *__restrict__ at, unsigned long long *part, unsigned *counter,
                const float *__restrict__ logits, int V) {
    enum { EACH = CUDA_LIKELIEST / THREADS };
    __shared__ unsigned long long shared[THREADS / 32];
    const int row = (int)blockIdx.y, first = (int)blockIdx.x * CUDA_LIKELIEST + (int)threadIdx.x;
    const float *x = logits + (size_t)row * V;
    unsigned long long *parts = part + (size_t)row * gridDim.x, best = 0;
    float have[EACH];
#pragma unroll
    for (int k = 0; k < EACH; k++) have[k] = first + k * THREADS < V ? x[first + k * THREADS] : 0;
#pragma unroll
    for (int k = 0; k < EACH; k++)
        if (first + k * THREADS < V) best = max(best, rank_of(have[k], first + k * THREADS));
    best = block_top(best, shared);
    if (threadIdx.x == 0) parts[blockIdx.x] = best;
    if (!last_block(counter + row, gridDim.x)) return;
    best = 0;
    for (int z = (int)threadIdx.x; z < (int)gridDim.x; z += THREADS) best = max(best, load_fresh(parts + z));
    best = block_top(best, shared);
    if (threadIdx.x != 0) return;
    token[row] = best >> 32 == 0xffffffffu ? -1 : (int32_t)(0xffffffffu - (unsigned)best);
    if (at) at[row]++;
}

static __global__ void __launch_bounds__(THREADS)
    xent_back_k(float *__restrict__ logits, const int32_t *__restrict__ target, const float *__restrict__ scale,
                int V) {
    __shared__ double part[THREADS / 32];
    const int row = (int)blockIdx.x, t = target[row];
    float *x = logits + (size_t)row * V;
    const float c = scale[row];
    const row_sum s = log_sum_exp(x, V, part);
    // p - 1 of the target cancels when p is near 1: expm1 keeps its digits
    const float d = (float)expm1((double)x[t] - (double)s.top - s.log_sum) * c, log_sum = (float)s.log_sum;
    __syncthreads();  // x[t] is read by all before it is written
    for (int i = (int)threadIdx.x; i < V; i += THREADS) x[i] = i == t ? d : expf(x[i] - s.top - log_sum) * c;
}

// dlogits = scale (p - [target]); tangent: scale p (t - sum p t).
static __global__ void __launch_bounds__(THREADS)
    xent_back_jvp_k(float *__restrict__ tlogits, const float *__restrict__ dlogits, const int32_t *__restrict__ target,
                    const float *__restrict__ scale, int V) {
    __shared__ double part[THREADS / 32];
    const int row = (int)blockIdx.x, t = target[row];
    float *tx = tlogits + (size_t)row * V;
    const float *d = dlogits + (size_t)row * V;
    const float c = scale[row], inv = 1.0f / c;
    double sum = 0;
    for (int i = (int)threadIdx.x; i < V; i += THREADS) sum += (double)((i == t ? d[i] * inv + 1 : d[i] * inv) * tx[i]);
    const float mean = (float)block_sum(sum, part);
    for (int i = (int)threadIdx.x; i < V; i += THREADS) tx[i] = (i == t ? d[i] + c : d[i]) * (tx[i] - mean);
}

extern "C" void cuda_launch_logprob(double *logprob, int32_t *top, const float *logits, const int32_t *target, int V,
                                    int vocab, int rows, cudaStream_t st) {
    CU_LAUNCH(logprob_k, rows, THREADS, 0, st, logprob, top, logits, target, V, vocab);
}
extern "C" void cuda_launch_likeliest(int32_t *token, int32_t *at, unsigned long long *part, unsigned *counter,
                                      const float *logits, int V, int rows, cudaStream_t st) {
    CU_LAUNCH(likeliest_k, dim3(cuda_likeliest_blocks(V), (unsigned)rows), THREADS, 0, st, token, at, part, counter,
              logits, V);
}
extern "C" void cuda_launch_xent_back(float *logits, const int32_t *target, const float *scale, int V, int rows,
                                      cudaStream_t st) {
    CU_LAUNCH(xent_back_k, rows, THREADS, 0, st, logits, target, scale, V);
}
extern "C" void cuda_launch_xent_back_jvp(float *tlogits, const float *dlogits, const int32_t *target,
                                          const float *scale, int V, int rows, cudaStream_t st) {
    CU_LAUNCH(xent_back_jvp_k, rows, THREADS, 0, st, tlogits, dlogits, target, scale, V);
}
