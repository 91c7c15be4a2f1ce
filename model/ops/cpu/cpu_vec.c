// cpu_vec - the kernel sets and the choice among them. Contract in cpu_vec.h, the kernels themselves in cpu_vec_tile.h.
#include "cpu_vec.h"
#include "simd.h"
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define TWICE(a, b, p) ((a) = LOAD(p), (b) = LOAD((p) + LANES))
#define INLINE         static inline __attribute__((always_inline))

static inline float bf16_to_float(uint16_t h) {
    const union {
        uint32_t u;
        float f;
    } x = {.u = (uint32_t)h << 16};
    return x.f;
}

// ---------------------------------------------------------------- plain C: vectors of four floats, which the compiler
// maps to what there is
typedef float v4 __attribute__((vector_size(16)));
INLINE v4 v4_set1(float c) { return (v4){c, c, c, c}; }
INLINE v4 v4_load(const float *p) {
    v4 v;
    memcpy(&v, p, sizeof v);
    return v;
}
INLINE void v4_store(float *p, v4 v) { memcpy(p, &v, sizeof v); }
INLINE v4 v4_load_f16(const uint16_t *p) {
    return (v4){half_to_float(p[0]), half_to_float(p[1]), half_to_float(p[2]), half_to_float(p[3])};
}
INLINE v4 v4_load_bf16(const uint16_t *p) {
    return (v4){bf16_to_float(p[0]), bf16_to_float(p[1]), bf16_to_float(p[2]), bf16_to_float(p[3])};
}

#define TARGET
#define V             v4
#define LANES         4
#define MOST          1
#define ZERO          v4_set1(0)
#define SET1          v4_set1
#define LOADF         v4_load
#define STORE         v4_store
#define FMA(a, b, c)  ((a) * (b) + (c))
#define FMA1(a, b, c) ((a) * (b) + (c))
#define ADD(a, b)     ((a) + (b))
#define SUM(v)        ((v)[0] + (v)[2] + ((v)[1] + (v)[3]))
#define NAME(f)       f##_plain_f32
#define W             float
#define LOAD          v4_load
#define LOAD2         TWICE
#define WIDEN(w)      (w)
#include "cpu_vec_tile.h"
#define NAME(f) f##_plain_f16
#define W       uint16_t
#define LOAD    v4_load_f16
#define LOAD2   TWICE
#define WIDEN   half_to_float
#include "cpu_vec_tile.h"
#define NAME(f) f##_plain_bf16
#define W       uint16_t
#define LOAD    v4_load_bf16
#define LOAD2   TWICE
#define WIDEN   bf16_to_float
#include "cpu_vec_tile.h"
#include "cpu_vec_undef.h"

#if defined(__x86_64__)
// ---------------------------------------------------------------- AVX2, FMA, F16C
#define TARGET __attribute__((target("avx2,fma,f16c")))
TARGET INLINE __m256 v8_load_f16(const uint16_t *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)); }
TARGET INLINE void v8_load2_f16(__m256 *a, __m256 *b, const uint16_t *p) {
    const __m256i h = _mm256_loadu_si256((const __m256i *)p);
    *a = _mm256_cvtph_ps(_mm256_castsi256_si128(h));
    *b = _mm256_cvtph_ps(_mm256_extracti128_si256(h, 1));
}
TARGET INLINE __m256 v8_bf16(__m128i h) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16)); }
TARGET INLINE __m256 v8_load_bf16(const uint16_t *p) { return v8_bf16(_mm_loadu_si128((const __m128i *)p)); }
TARGET INLINE void v8_load2_bf16(__m256 *a, __m256 *b, const uint16_t *p) {
    const __m256i h = _mm256_loadu_si256((const __m256i *)p);
    *a = v8_bf16(_mm256_castsi256_si128(h));
    *b = v8_bf16(_mm256_extracti128_si256(h, 1));
}
TARGET INLINE float v8_sum(__m256 v) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
#define V        __m256
#define LANES    8
#define MOST     2
#define ZERO     _mm256_setzero_ps()
#define SET1     _mm256_set1_ps
#define LOADF    _mm256_loadu_ps
#define STORE    _mm256_storeu_ps
#define FMA      _mm256_fmadd_ps
#define FMA1     fmaf
#define ADD      _mm256_add_ps
#define SUM      v8_sum
#define NAME(f)  f##_avx2_f32
#define W        float
#define LOAD     _mm256_loadu_ps
#define LOAD2    TWICE
#define WIDEN(w) (w)
#include "cpu_vec_tile.h"
#define NAME(f)        f##_avx2_f16
#define W              uint16_t
#define LOAD           v8_load_f16
#define LOAD2(a, b, p) v8_load2_f16(&(a), &(b), p)
#define WIDEN          half_to_float
#include "cpu_vec_tile.h"
#define NAME(f)        f##_avx2_bf16
#define W              uint16_t
#define LOAD           v8_load_bf16
#define LOAD2(a, b, p) v8_load2_bf16(&(a), &(b), p)
#define WIDEN          bf16_to_float
#include "cpu_vec_tile.h"
#include "cpu_vec_undef.h"

// ---------------------------------------------------------------- AVX-512
#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")))
TARGET INLINE __m512 v16_load_f16(const uint16_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }
TARGET INLINE void v16_load2_f16(__m512 *a, __m512 *b, const uint16_t *p) {
    const __m512i h = _mm512_loadu_si512(p);
    *a = _mm512_cvtph_ps(_mm512_castsi512_si256(h));
    *b = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(h, 1));
}
TARGET INLINE __m512 v16_bf16(__m256i h) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}
TARGET INLINE __m512 v16_load_bf16(const uint16_t *p) { return v16_bf16(_mm256_loadu_si256((const __m256i *)p)); }
TARGET INLINE void v16_load2_bf16(__m512 *a, __m512 *b, const uint16_t *p) {
    const __m512i h = _mm512_loadu_si512(p);
    *a = v16_bf16(_mm512_castsi512_si256(h));
    *b = v16_bf16(_mm512_extracti64x4_epi64(h, 1));
}
#define V        __m512
#define LANES    16
#define MOST     4
#define ZERO     _mm512_setzero_ps()
#define SET1     _mm512_set1_ps
#define LOADF    _mm512_loadu_ps
#define STORE    _mm512_storeu_ps
#define FMA      _mm512_fmadd_ps
#define FMA1     fmaf
#define ADD      _mm512_add_ps
#define SUM      _mm512_reduce_add_ps
#define NAME(f)  f##_avx512_f32
#define W        float
#define LOAD     _mm512_loadu_ps
#define LOAD2    TWICE
#define WIDEN(w) (w)
#include "cpu_vec_tile.h"
#define NAME(f)        f##_avx512_f16
#define W              uint16_t
#define LOAD           v16_load_f16
#define LOAD2(a, b, p) v16_load2_f16(&(a), &(b), p)
#define WIDEN          half_to_float
#include "cpu_vec_tile.h"
#define NAME(f)        f##_avx512_bf16
#define W              uint16_t
#define LOAD           v16_load_bf16
#define LOAD2(a, b, p) v16_load2_bf16(&(a), &(b), p)
#define WIDEN          bf16_to_float
#include "cpu_vec_tile.h"
#endif

// ---------------------------------------------------------------- choice
#define SET(set)                                                                                                       \
    {                                                                                                                  \
#set, {dot_##set##_f32, dot_##set##_f16, dot_##set##_bf16 }, {                                                 \
            sum_##set##_f32, sum_##set##_f16, sum_##set##_bf16                                                         \
        }                                                                                                              \
    }
static const vec_kernels sets[] = {
#if defined(__x86_64__)
    SET(avx512), SET(avx2),
#endif
    SET(plain)};
enum { SETS = sizeof sets / sizeof *sets };

static bool runs_here(const vec_kernels *k) {
#if defined(__x86_64__)
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
    if (strcmp(k->name, "avx2") == 0) return avx2;
    if (strcmp(k->name, "avx512") == 0)
        return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
#endif
    return strcmp(k->name, "plain") == 0;
}

const vec_kernels *vec_find(const char *name) {
    for (int i = 0; i < SETS; i++)
        if (strcmp(sets[i].name, name) == 0 && runs_here(&sets[i])) return &sets[i];
    return NULL;
}

static _Atomic(const vec_kernels *) chosen;

void vec_use(const vec_kernels *k) { atomic_store(&chosen, k); }

const vec_kernels *vec(void) {
    const vec_kernels *k = atomic_load_explicit(&chosen, memory_order_relaxed);
    if (k) return k;
    const char *asked = getenv("KIT_SIMD");
    if (asked && *asked) {
        k = vec_find(asked);
        if (!k) die(1, "KIT_SIMD=%s: not one of avx512, avx2, plain, or this processor lacks it", asked);
        log_info("KIT_SIMD: %s kernels", k->name);
    } else
        for (int i = SETS - 1; i >= 0; i--)
            if (runs_here(&sets[i])) k = &sets[i];
    atomic_store(&chosen, k);
    return k;
}
