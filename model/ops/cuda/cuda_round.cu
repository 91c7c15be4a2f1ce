// cuda_round - fp32 rows to the 16-bit operands of a product, [rows, cols] of distance ld. fp16 ones are scaled by a
// power of two, so that the largest of all lies in [2^14, 2^15): exact, nothing overflows, and what is 2^-28 of the
// largest still has all its bits. bf16 has fp32's range and no scale.
//   max_k    the largest as a bit pattern without sign, one for each block: 0x7f800000 and more are not finite
//   round_k  to = x 2^shift; *alpha = 2^-shift *with: the factor of the product whose other operand was scaled before
#include "cuda_device.h"

static_assert((int)CUDA_PARTS == (int)THREADS, "one thread reads one part");

__device__ __forceinline__ unsigned block_max(unsigned v, unsigned *part) {
#pragma unroll
    for (int o = 16; o > 0; o >>= 1) {
        const unsigned other = __shfl_xor_sync((unsigned)ALL_LANES, v, o);
        v = other > v ? other : v;
    }
    if ((threadIdx.x & 31) == 0) part[threadIdx.x >> 5] = v;
    __syncthreads();
    unsigned most = part[0];
#pragma unroll
    for (int w = 1; w < THREADS / 32; w++) most = part[w] > most ? part[w] : most;
    return most;
}

__device__ __forceinline__ size_t place(unsigned i, unsigned cols, unsigned ld) {
    return cols == ld ? i : (size_t)(i / cols) * ld + i % cols;
}

static __global__ void __launch_bounds__(THREADS)
    max_k(unsigned *__restrict__ part, const float *__restrict__ x, unsigned n) {
    __shared__ unsigned of_warp[THREADS / 32];
    unsigned most = 0;
    for (unsigned i = blockIdx.x * THREADS + threadIdx.x; i < n; i += gridDim.x * THREADS) {
        const unsigned size = __float_as_uint(x[i]) & 0x7fffffff;
        most = size > most ? size : most;
    }
    most = block_max(most, of_warp);
    if (threadIdx.x == 0) part[blockIdx.x] = most;
}

__device__ __forceinline__ float power_of_two(int e) { return __uint_as_float((unsigned)(127 + e) << 23); }

// Bits of v in a 16-bit type; *bad where they are no finite number.
__device__ __forceinline__ unsigned short narrow(float v, int type, bool *bad) {
    unsigned short bits, inf;
    if (type == 1)
        bits = static_cast<__half_raw>(__float2half(v)).x, inf = 0x7c00;
    else
        bits = static_cast<__nv_bfloat16_raw>(__float2bfloat16(v)).x, inf = 0x7f80;
    if ((bits & 0x7fff) >= inf) *bad = true;
    return bits;
}

static __global__ void __launch_bounds__(THREADS)
    round_k(unsigned short *__restrict__ to, int type, float *alpha, const float *with,
            const unsigned *__restrict__ part, int parts, const float *__restrict__ x, unsigned n, unsigned cols,
            unsigned ld, cuda_fault *fault, const char *operation, const char *tensor) {
    __shared__ unsigned of_warp[THREADS / 32];
    const float other = with ? *with : 1;
    int shift = 0;
    bool bad = false;
    if (part) {
        const unsigned most = block_max((int)threadIdx.x < parts ? part[threadIdx.x] : 0, of_warp);
        // *alpha >= 2^-126
        const int wanted = 14 + 127 - (int)(most >> 23), highest = (int)(__float_as_uint(other) >> 23) - 1;
        bad = most >= 0x7f800000;
        shift = wanted < highest ? wanted : highest;
        if (bad) shift = 0;
    }
    const unsigned at = blockIdx.x * CUDA_CHUNK, end = n - at < CUDA_CHUNK ? n : at + CUDA_CHUNK;
    for (unsigned i = at + threadIdx.x; i < end; i += THREADS)
        to[i] = narrow(x[place(i, cols, ld)] * power_of_two(shift), type, &bad);
    if (alpha && blockIdx.x == 0 && threadIdx.x == 0) *alpha = power_of_two(-shift) * other;
    if (bad && !fault->operation) {  // the first of a stream stays; threads of one launch write the same
        fault->tensor = tensor;
        fault->operation = operation;
    }
}

extern "C" int cuda_launch_max(unsigned *part, const float *x, size_t n, cudaStream_t st) {
    const size_t blocks = (n + CUDA_CHUNK - 1) / CUDA_CHUNK;
    const int parts = blocks < CUDA_PARTS ? (int)blocks : (int)CUDA_PARTS;
    CU_LAUNCH(max_k, (unsigned)parts, THREADS, 0, st, part, x, (unsigned)n);
    return parts;
}
extern "C" void cuda_launch_round(void *to, int type, cuda_scale s, const float *x, int rows, int cols, int ld,
                                  cuda_fault *fault, const char *operation, const char *tensor, cudaStream_t st) {
    const unsigned n = (unsigned)rows * (unsigned)cols;
    CU_LAUNCH(round_k, (n + CUDA_CHUNK - 1) / CUDA_CHUNK, THREADS, 0, st, static_cast<unsigned short *>(to), type,
              s.alpha, s.with, s.part, s.parts, x, n, (unsigned)cols, (unsigned)ld, fault, operation, tensor);
}
