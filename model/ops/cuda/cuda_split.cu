// cuda_split - fp32 rows as three rows of 16-bit numbers each, for products in fp32 on tensor cores with weights that
// are read as they are stored, and the sums of these products put together.
//   split_k  x 2^shift = p0 + u p1 + u^2 p2, each p the rest rounded to the weight's type; u = 2^-11 for fp16, 1 for
//            bf16. shift takes the row's largest number to [2^14, 2^15), so that no part overflows. Of 24 binary
//            digits none is lost, in fp16 of numbers that are 2^-36 of the row's largest or more; of smaller ones what
//            is 2^-60 of the largest.
//   join_k   y (+)= bias + 2^-shift (s0 + u (s1 + u s2)) of the sums s = p W'
#include "cuda_device.h"

// Two powers, because one alone can leave fp32's range.
__device__ __forceinline__ float scaled(float v, int shift) {
    const int half = shift / 2, rest = shift - half;
    return v * __uint_as_float((unsigned)(127 + half) << 23) * __uint_as_float((unsigned)(127 + rest) << 23);
}

__device__ __forceinline__ int exponent(float v) { return (int)(__float_as_uint(v) >> 23) - 127; }

// What takes the largest number of a row into fp16's range; 0 where it is no finite number.
__device__ int shift_of(const float *__restrict__ row, int cols, float *part) {
    float most = 0;
    for (int i = (int)threadIdx.x; i < cols; i += THREADS) {
        const float size = fabsf(row[i]);
        most = fmaxf(most, size < INFINITY ? size : INFINITY);
    }
    most = block_max(most, part);
    return most < INFINITY ? 14 - exponent(most) : 0;
}

__device__ __forceinline__ unsigned short as_half(float *v) {
    const __half part = __float2half(*v);
    *v = (*v - __half2float(part)) * 0x1p11f;
    return static_cast<__half_raw>(part).x;
}
__device__ __forceinline__ unsigned short as_bfloat16(float *v) {
    const __nv_bfloat16 part = __float2bfloat16(*v);
    *v -= __bfloat162float(part);
    return static_cast<__nv_bfloat16_raw>(part).x;
}

// A block a row, N numbers of it at a time; after its `cols` numbers up to ld are not written.
template <int N>
static __global__ void __launch_bounds__(THREADS)
    split_k(unsigned short *__restrict__ to, int *__restrict__ shifts, int half, int ld, const float *__restrict__ x,
            int ld_from, int cols) {
    struct alignas(N * sizeof(float)) floats {
        float v[N];
    };
    struct alignas(N * sizeof(short)) shorts {
        unsigned short v[N];
    };
    __shared__ float part[THREADS / 32];
    const float *row = x + (size_t)blockIdx.x * ld_from;
    const size_t distance = (size_t)gridDim.x * ld;
    const int shift = shift_of(row, cols, part);
    if (threadIdx.x == 0) shifts[blockIdx.x] = shift;
    to += (size_t)blockIdx.x * ld;
    for (int i = N * (int)threadIdx.x; i < cols; i += N * THREADS) {
        floats v = *reinterpret_cast<const floats *>(row + i);
#pragma unroll
        for (int j = 0; j < N; j++) v.v[j] = scaled(v.v[j], shift);
#pragma unroll
        for (int k = 0; k < CUDA_SPLIT; k++) {
            shorts p;
#pragma unroll
            for (int j = 0; j < N; j++) p.v[j] = half ? as_half(&v.v[j]) : as_bfloat16(&v.v[j]);
            *reinterpret_cast<shorts *>(to + k * distance + i) = p;
        }
    }
}

template <int N>
static __global__ void __launch_bounds__(THREADS)
    join_k(float *__restrict__ y, int ldy, const float *__restrict__ sums, int ld, const int *__restrict__ shifts,
           int half, const void *__restrict__ bias, int bias_type, int rows, int cols, int add) {
    struct alignas(N * sizeof(float)) floats {
        float v[N];
    };
    const int i = N * (int)(blockIdx.y * THREADS + threadIdx.x);
    const float u = half ? 0x1p-11f : 1;
    if (i >= cols) return;
    for (int r = (int)blockIdx.x; r < rows; r += (int)gridDim.x) {
        const float *from = sums + (size_t)r * ld + i;
        const size_t distance = (size_t)rows * ld;
        floats *to = reinterpret_cast<floats *>(y + (size_t)r * ldy + i), v = {};
        const floats s0 = *reinterpret_cast<const floats *>(from),
                     s1 = *reinterpret_cast<const floats *>(from + distance),
                     s2 = *reinterpret_cast<const floats *>(from + 2 * distance);
        if (add) v = *to;
#pragma unroll
        for (int j = 0; j < N; j++) {
            if (bias) v.v[j] += widen(bias, bias_type, (size_t)(i + j));
            v.v[j] += scaled(s0.v[j] + u * (s1.v[j] + u * s2.v[j]), -shifts[r]);
        }
        *to = v;
    }
}

static bool in_fours(const void *a, const void *b, int ld_a, int ld_b, int cols) {
    return (reinterpret_cast<uintptr_t>(a) | reinterpret_cast<uintptr_t>(b)) % 16 == 0 && (ld_a | ld_b | cols) % 4 == 0;
}

extern "C" void cuda_launch_split(void *to, int *shifts, int half, int ld, const float *x, int ld_from, int rows,
                                  int cols, cudaStream_t st) {
    unsigned short *parts = static_cast<unsigned short *>(to);
    if (in_fours(to, x, ld, ld_from, cols))
        CU_LAUNCH((split_k<4>), rows, THREADS, 0, st, parts, shifts, half, ld, x, ld_from, cols);
    else
        CU_LAUNCH((split_k<1>), rows, THREADS, 0, st, parts, shifts, half, ld, x, ld_from, cols);
}

extern "C" void cuda_launch_join(float *y, int ldy, const float *sums, int ld, const int *shifts, int half,
                                 const void *bias, int bias_type, int rows, int cols, int add, cudaStream_t st) {
    const bool fours = in_fours(y, sums, ldy, ld, cols);
    const int wide = (fours ? 4 : 1) * THREADS;
    const dim3 grid((unsigned)rows, (unsigned)((cols + wide - 1) / wide));
    if (fours)
        CU_LAUNCH((join_k<4>), grid, THREADS, 0, st, y, ldy, sums, ld, shifts, half, bias, bias_type, rows, cols, add);
    else
        CU_LAUNCH((join_k<1>), grid, THREADS, 0, st, y, ldy, sums, ld, shifts, half, bias, bias_type, rows, cols, add);
}
