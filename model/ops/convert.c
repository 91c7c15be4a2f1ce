// convert - exact widening of fp16 and bf16, and rounding to them; blocks through gguf.h and quantise.h. Contract in
// convert.h.
#include "convert.h"
#include "gguf.h"
#include "quantise.h"
#include "simd.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(__x86_64__)
__attribute__((target("avx2,f16c"))) static size_t widen_f16c(float *to, const uint16_t *from, size_t n) {
    size_t i = 0;
    for (; i + 8 <= n; i += 8) _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(from + i))));
    return i;
}
#endif

void dtype_widen(float *to, const void *from, dtype type, size_t n) {
    size_t i = 0;
    if (dtype_in_blocks(type)) {
        gguf_widen(to, from, gguf_type_of(type), n);
    } else if (type == DT_F32) {
        memcpy(to, from, n * sizeof *to);
    } else if (type == DT_BF16) {
        uint32_t *u = (uint32_t *)to;
        const uint16_t *h = from;
        for (; i < n; i++) u[i] = (uint32_t)h[i] << 16;
    } else {
        const uint16_t *h = from;
#if defined(__x86_64__)
        // every processor with AVX2 has F16C, which clang 14 cannot ask for
        if (__builtin_cpu_supports("avx2")) i = widen_f16c(to, h, n);
#endif
        for (; i < n; i++) to[i] = half_to_float(h[i]);
    }
}

void dtype_narrow(void *to, dtype type, const float *from, size_t n) {
    uint16_t *h = to;
    if (dtype_in_blocks(type)) quantise(to, type, from, n);
    if (type == DT_F32) memcpy(to, from, n * sizeof *from);
    for (size_t i = 0; i < n && type == DT_F16; i++) h[i] = float_to_half(from[i]);
    for (size_t i = 0; i < n && type == DT_BF16; i++) h[i] = float_to_bf16(from[i]);
}
