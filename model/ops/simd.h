// simd - what vector loops share: function clones per x86-64 level chosen at run time, exp for softmax, half floats.
#pragma once
#include <stdint.h>
#include <string.h>

// One clone per instruction-set level, chosen when the program starts. Sanitizers do not go with that mechanism.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#define HOT __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define HOT
#endif
#define FORCE_INLINE static inline __attribute__((always_inline))  // a helper that shall be as wide as its caller

// IEEE binary16 to fp32, exactly.
static inline float half_to_float(uint16_t h) {
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, mantissa = h & 1023;
    union {
        uint32_t u;
        float f;
    } x;
    if (exponent == 0) {
        x.f = (float)mantissa * 0x1p-24f;
        x.u |= sign;
    } else
        x.u = sign | (exponent == 31 ? 0x7f800000u : (exponent + 112) << 23) | mantissa << 13;
    return x.f;
}

// fp32 to binary16, to nearest, ties to even; beyond its range infinity.
static inline uint16_t float_to_half(float f) {
    union {
        float f;
        uint32_t u;
    } x = {.f = f};
    const uint32_t sign = x.u >> 16 & 0x8000;
    x.u &= 0x7fffffff;
    if (x.u >= 0x7f800000) return (uint16_t)(sign | 0x7c00 | (x.u > 0x7f800000 ? 0x200 : 0));
    if (x.u >= 0x477ff000) return (uint16_t)(sign | 0x7c00);
    if (x.u < 0x38800000) {  // subnormal: adding 1/2 shifts the mantissa to its place and rounds it
        x.f += 0.5f;
        return (uint16_t)(sign | (x.u - 0x3f000000));
    }
    return (uint16_t)(sign | ((x.u + 0xc8000fff + (x.u >> 13 & 1)) >> 13));
}

// fp32 to bfloat16, to nearest, ties to even. f is no NaN.
static inline uint16_t float_to_bf16(float f) {
    const union {
        float f;
        uint32_t u;
    } x = {.f = f};
    return (uint16_t)((x.u + 0x7fff + (x.u >> 16 & 1)) >> 16);
}

// exp(x) for x <= 88, 2 ulp: x = n ln 2 + r, |r| <= ln 2 / 2, degree-6 minimax polynomial (Cephes expf); below -87.3:
// 0. Written without branches so that loops over it vectorise.
static inline float exp_f(float x) {
    const float big = 12582912.0f;  // 1.5 * 2^23: adding it rounds to the nearest integer
    float c = x < -87.3f ? -87.3f : x;
    c = c > 88.0f ? 88.0f : c;
    float n = (c * 1.44269504f + big) - big;
    float r = (c - n * 0.693359375f) - n * -2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    union {
        uint32_t u;
        float f;
    } scale = {.u = (uint32_t)((int32_t)n + 127) << 23};
    return x < -87.3f ? 0.0f : p * scale.f;
}

// The largest of p[0..n), n > 0; a NaN counts for nothing. GCC vectorises a maximum of floats lane by lane only.
FORCE_INLINE float largest_f(const float *p, int n) {
    enum { LANES = 32 };
    float lane[LANES], top;
    for (int l = 0; l < LANES; l++) lane[l] = p[0];
    int j = 0;
    for (; j + LANES <= n; j += LANES)
        for (int l = 0; l < LANES; l++) lane[l] = p[j + l] > lane[l] ? p[j + l] : lane[l];
    top = lane[0];
    for (int l = 1; l < LANES; l++) top = lane[l] > top ? lane[l] : top;
    for (; j < n; j++) top = p[j] > top ? p[j] : top;
    return top;
}

// p[0..n) becomes softmax(c p), c > 0. For callers that are HOT themselves.
FORCE_INLINE void softmax_f(float *p, int n, float c) {
    const float top = largest_f(p, n);
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int j = 0; j < n; j++) {
        p[j] = exp_f(c * (p[j] - top));
        sum += p[j];
    }
    const float inv = 1.0f / sum;
    for (int j = 0; j < n; j++) p[j] *= inv;
}
