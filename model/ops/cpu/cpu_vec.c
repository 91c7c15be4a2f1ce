// cpu_vec - the kernel sets and the choice among them. Contract in cpu_vec.h, the kernels themselves in cpu_vec_tile.h.
#include "cpu_vec.h"
#include "cpu_vec_q4k.h"
#include "simd.h"
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define TWICE(a, b, p) ((a) = LOAD(p), (b) = LOAD((p) + LANES))
#define INLINE         static inline __attribute__((always_inline))

static bool drops_requests;  // cpu_vec.h: of an AMD

static inline float bf16_to_float(uint16_t h) {
    const union {
        uint32_t u;
        float f;
    } x = {.u = (uint32_t)h << 16};
    return x.f;
}

// ---------------------------------------------------------------- blocks
// Made once for all that follow in the block.
#define K_SCALES(k, row, b, first)                                                                                     \
    if ((b) % 8 == 0 || (b) == (first)) k_scales_at(k, row, (b) / 8)

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

INLINE void halves_at(float *to, const uint8_t *w, int bytes, int n, float c) {
    for (int b = 0; b < n; b++) to[b] = c * half_at(w + bytes * b);
}
INLINE void v4_numbers(v4 *to, const int *q) {
    for (int j = 0; j < 8; j++, q += 4) to[j] = (v4){(float)q[0], (float)q[1], (float)q[2], (float)q[3]};
}
// Of bytes that hold two numbers of four bits, those less `off`.
INLINE void v4_nibbles(v4 *to, const uint8_t *p, int off) {
    int q[32];
    for (int i = 0; i < 16; i++) q[i] = (p[i] & 15) - off, q[16 + i] = (p[i] >> 4) - off;
    v4_numbers(to, q);
}
INLINE void v4_bytes(v4 *to, const uint8_t *p) {
    int q[32];
    for (int i = 0; i < 32; i++) q[i] = (int8_t)p[i];
    v4_numbers(to, q);
}
INLINE void v4_take_q8_0(v4 *to, const uint8_t *row, int b) {
    v4_bytes(to, row + 34 * b + 2);
    for (int j = 0; j < 8; j++) to[j] *= half_at(row + 34 * b);
}
INLINE void v4_take_q4_0(v4 *to, const uint8_t *row, int b) {
    v4_nibbles(to, row + 18 * b + 2, 8);
    for (int j = 0; j < 8; j++) to[j] *= half_at(row + 18 * b);
}
INLINE void v4_take_q4_1(v4 *to, const uint8_t *row, int b) {
    const uint8_t *p = row + 20 * b;
    v4_nibbles(to, p + 4, 0);
    for (int j = 0; j < 8; j++) to[j] = to[j] * half_at(p) + half_at(p + 2);
}
INLINE void v4_take_q4_k(v4 *to, const uint8_t *row, int b, const k_scales *k) {
    const uint8_t *p = k_bytes(row, b);
    int q[32];
    for (int i = 0; i < 32; i++) q[i] = p[i] >> 4 * (b % 2) & 15;
    v4_numbers(to, q);
    for (int j = 0; j < 8; j++) to[j] = to[j] * k->step[b % 8] - k->less[b % 8];
}
#define PER                 (32 / LANES)
#define NAME(f)             f##_plain_q8_0
#define NUMBERS(to, row, b) v4_bytes(to, (const uint8_t *)(row) + 34 * (b) + 2)
#define HALVES(to, w, n, c) halves_at(to, w, 34, n, c)
#define TAKE(to, row, b, k) ((void)(k), v4_take_q8_0(to, row, b))
#define NEW_SCALES(k, row, b, first)
#define STEP_BYTES 34
#include "cpu_vec_blocks.h"
#define NAME(f)             f##_plain_q4_0
#define NUMBERS(to, row, b) v4_nibbles(to, (const uint8_t *)(row) + 18 * (b) + 2, 8)
#define HALVES(to, w, n, c) halves_at(to, w, 18, n, c)
#define TAKE(to, row, b, k) ((void)(k), v4_take_q4_0(to, row, b))
#define NEW_SCALES(k, row, b, first)
#define STEP_BYTES 18
#include "cpu_vec_blocks.h"
#define NAME(f)             f##_plain_q4_1
#define TAKE(to, row, b, k) ((void)(k), v4_take_q4_1(to, row, b))
#define NEW_SCALES(k, row, b, first)
#define STEP_BYTES 20
#include "cpu_vec_blocks.h"
#define NAME(f)    f##_plain_q4_k
#define TAKE       v4_take_q4_k
#define NEW_SCALES K_SCALES
#define STEP_BYTES 18
#include "cpu_vec_blocks.h"
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

TARGET INLINE __m256 v8_half(const uint8_t *p) {
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return _mm256_cvtph_ps(_mm_set1_epi16((short)h));
}
TARGET INLINE __m256 v8_bytes(__m128i q) { return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(q)); }
TARGET INLINE void v8_halves_at(float *to, const uint8_t *w, int bytes, int n, float c) {
    for (int b = 0; b < n; b++) {
        uint16_t h;
        memcpy(&h, w + bytes * b, sizeof h);
        to[b] = c * _cvtsh_ss(h);
    }
}
TARGET INLINE void v8_numbers_q8_0(__m256 *to, const uint8_t *row, int b) {
    const uint8_t *p = row + 34 * b + 2;
    for (int j = 0; j < 4; j++) to[j] = v8_bytes(_mm_loadl_epi64((const __m128i *)(const void *)(p + 8 * j)));
}
TARGET INLINE void v8_take_q8_0(__m256 *to, const uint8_t *row, int b) {
    const __m256 d = v8_half(row + 34 * b);
    v8_numbers_q8_0(to, row, b);
    for (int j = 0; j < 4; j++) to[j] = _mm256_mul_ps(to[j], d);
}
// Numbers of four bits in two vectors of 16 bytes.
TARGET INLINE void v8_bytes_of(__m256 *to, __m128i low, __m128i high) {
    to[0] = v8_bytes(low), to[1] = v8_bytes(_mm_srli_si128(low, 8));
    to[2] = v8_bytes(high), to[3] = v8_bytes(_mm_srli_si128(high, 8));
}
TARGET INLINE __m128i v8_nibbles(__m128i q, int shift) {
    return _mm_and_si128(_mm_srli_epi16(q, shift), _mm_set1_epi8(15));
}
TARGET INLINE void v8_numbers_q4_0(__m256 *to, const uint8_t *row, int b) {
    const __m128i q = _mm_loadu_si128((const __m128i *)(const void *)(row + 18 * b + 2)), eight = _mm_set1_epi8(8);
    v8_bytes_of(to, _mm_sub_epi8(v8_nibbles(q, 0), eight), _mm_sub_epi8(v8_nibbles(q, 4), eight));
}
TARGET INLINE void v8_take_q4_0(__m256 *to, const uint8_t *row, int b) {
    const __m256 d = v8_half(row + 18 * b);
    v8_numbers_q4_0(to, row, b);
    for (int j = 0; j < 4; j++) to[j] = _mm256_mul_ps(to[j], d);
}
TARGET INLINE void v8_take_q4_1(__m256 *to, const uint8_t *row, int b) {
    const uint8_t *p = row + 20 * b;
    const __m128i q = _mm_loadu_si128((const __m128i *)(const void *)(p + 4));
    const __m256 d = v8_half(p), m = v8_half(p + 2);
    v8_bytes_of(to, v8_nibbles(q, 0), v8_nibbles(q, 4));
    for (int j = 0; j < 4; j++) to[j] = _mm256_fmadd_ps(to[j], d, m);
}
TARGET INLINE void v8_k_scales_at(k_scales *to, const uint8_t *row, int block) {
    const uint8_t *p = row + 144 * block;
    const k_bits b = k_bits_at(p);
    const __m256i scale = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)b.scale)),
                  min = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)b.min));
    _mm256_storeu_ps(to->step, _mm256_mul_ps(v8_half(p), _mm256_cvtepi32_ps(scale)));
    _mm256_storeu_ps(to->less, _mm256_mul_ps(v8_half(p + 2), _mm256_cvtepi32_ps(min)));
}
#define V8_K_SCALES(k, row, b, first)                                                                                  \
    if ((b) % 8 == 0 || (b) == (first)) v8_k_scales_at(k, row, (b) / 8)
TARGET INLINE void v8_take_q4_k(__m256 *to, const uint8_t *row, int b, const k_scales *k) {
    const __m128i *q = (const __m128i *)(const void *)k_bytes(row, b);
    const __m256 step = _mm256_set1_ps(k->step[b % 8]), less = _mm256_set1_ps(k->less[b % 8]);
    v8_bytes_of(to, v8_nibbles(_mm_loadu_si128(q), 4 * (b % 2)), v8_nibbles(_mm_loadu_si128(q + 1), 4 * (b % 2)));
    for (int j = 0; j < 4; j++) to[j] = _mm256_fmsub_ps(to[j], step, less);
}
#define PER                 (32 / LANES)
#define NAME(f)             f##_avx2_q8_0
#define NUMBERS(to, row, b) v8_numbers_q8_0(to, row, b)
#define HALVES(to, w, n, c) v8_halves_at(to, w, 34, n, c)
#define TAKE(to, row, b, k) ((void)(k), v8_take_q8_0(to, row, b))
#define NEW_SCALES(k, row, b, first)
#define STEP_BYTES 34
#include "cpu_vec_blocks.h"
#define NAME(f)             f##_avx2_q4_0
#define NUMBERS(to, row, b) v8_numbers_q4_0(to, row, b)
#define HALVES(to, w, n, c) v8_halves_at(to, w, 18, n, c)
#define TAKE(to, row, b, k) ((void)(k), v8_take_q4_0(to, row, b))
#define NEW_SCALES(k, row, b, first)
#define STEP_BYTES 18
#include "cpu_vec_blocks.h"
#define NAME(f)             f##_avx2_q4_1
#define TAKE(to, row, b, k) ((void)(k), v8_take_q4_1(to, row, b))
#define NEW_SCALES(k, row, b, first)
#define STEP_BYTES 20
#include "cpu_vec_blocks.h"
#define NAME(f)    f##_avx2_q4_k
#define TAKE       v8_take_q4_k
#define NEW_SCALES V8_K_SCALES
#define STEP_BYTES 18
#include "cpu_vec_blocks.h"
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

TARGET INLINE __m512 v16_half(const uint8_t *p) {
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return _mm512_cvtph_ps(_mm256_set1_epi16((short)h));
}
TARGET INLINE __m512i v16_bytes(const uint8_t *p) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p));
}
TARGET INLINE void v16_halves_at(float *to, const uint8_t *w, int bytes, int n, float c) {
    const __m512i sixteen = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                  at = _mm512_mullo_epi32(sixteen, _mm512_set1_epi32(bytes));
    if (n < VEC_CHUNK) {
        v8_halves_at(to, w, bytes, n, c);
        return;
    }
    const __m256i d = _mm512_cvtepi32_epi16(_mm512_i32gather_epi32(at, w, 1));
    _mm512_storeu_ps(to, _mm512_mul_ps(_mm512_cvtph_ps(d), _mm512_set1_ps(c)));
}
TARGET INLINE void v16_numbers_q8_0(__m512 *to, const uint8_t *row, int b) {
    const __m128i *p = (const __m128i *)(const void *)(row + 34 * b + 2);
    for (int j = 0; j < 2; j++) to[j] = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p + j)));
}
TARGET INLINE void v16_take_q8_0(__m512 *to, const uint8_t *row, int b) {
    const __m512 d = v16_half(row + 34 * b);
    v16_numbers_q8_0(to, row, b);
    for (int j = 0; j < 2; j++) to[j] = _mm512_mul_ps(to[j], d);
}
// Four bits are an index into the sixteen numbers that a block has: the lookup takes the low ones of an index only.
TARGET INLINE __m512 v16_sixteen(float first) {
    const __m512 n = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return _mm512_add_ps(n, _mm512_set1_ps(first));
}
TARGET INLINE void v16_nibbles(__m512 *to, const uint8_t *p, __m512 has) {
    const __m512i q = v16_bytes(p);
    to[0] = _mm512_permutexvar_ps(q, has);
    to[1] = _mm512_permutexvar_ps(_mm512_srli_epi32(q, 4), has);
}
TARGET INLINE void v16_numbers_q4_0(__m512 *to, const uint8_t *row, int b) {
    v16_nibbles(to, row + 18 * b + 2, v16_sixteen(-8));
}
TARGET INLINE void v16_take_q4_0(__m512 *to, const uint8_t *row, int b) {
    const uint8_t *p = row + 18 * b;
    v16_nibbles(to, p + 2, _mm512_mul_ps(v16_sixteen(-8), v16_half(p)));
}
TARGET INLINE void v16_take_q4_1(__m512 *to, const uint8_t *row, int b) {
    const uint8_t *p = row + 20 * b;
    const __m128 dm = _mm_cvtph_ps(_mm_loadu_si32(p));
    v16_nibbles(to, p + 4,
                _mm512_fmadd_ps(v16_sixteen(0), _mm512_broadcastss_ps(dm), _mm512_broadcastss_ps(_mm_movehdup_ps(dm))));
}
TARGET INLINE void v16_take_q4_k(__m512 *to, const uint8_t *row, int b, const k_scales *k) {
    const __m512 has = _mm512_fmsub_ps(v16_sixteen(0), _mm512_set1_ps(k->step[b % 8]), _mm512_set1_ps(k->less[b % 8]));
    const __m128i shift = _mm_cvtsi32_si128(4 * (b % 2));
    for (int j = 0; j < 2; j++)
        to[j] = _mm512_permutexvar_ps(_mm512_srl_epi32(v16_bytes(k_bytes(row, b) + 16 * j), shift), has);
}
#define PER                 (32 / LANES)
#define NAME(f)             f##_avx512_q8_0
#define NUMBERS(to, row, b) v16_numbers_q8_0(to, row, b)
#define HALVES(to, w, n, c) v16_halves_at(to, w, 34, n, c)
#define TAKE(to, row, b, k) ((void)(k), v16_take_q8_0(to, row, b))
#define NEW_SCALES(k, row, b, first)
#define STEP_BYTES 34
#include "cpu_vec_blocks.h"
#define NAME(f)             f##_avx512_q4_0
#define NUMBERS(to, row, b) v16_numbers_q4_0(to, row, b)
#define HALVES(to, w, n, c) v16_halves_at(to, w, 18, n, c)
#define TAKE(to, row, b, k) ((void)(k), v16_take_q4_0(to, row, b))
#define NEW_SCALES(k, row, b, first)
#define STEP_BYTES 18
#include "cpu_vec_blocks.h"
#define NAME(f)             f##_avx512_q4_1
#define TAKE(to, row, b, k) ((void)(k), v16_take_q4_1(to, row, b))
#define NEW_SCALES(k, row, b, first)
#define STEP_BYTES 20
#include "cpu_vec_blocks.h"
#define NAME(f)    f##_avx512_q4_k
#define TAKE       v16_take_q4_k
#define NEW_SCALES V8_K_SCALES
#define STEP_BYTES 18
#include "cpu_vec_blocks.h"
#endif

// ---------------------------------------------------------------- choice
#define ALL(f, set)                                                                                                    \
    { f##_##set##_f32, f##_##set##_f16, f##_##set##_bf16, BLOCKS(f, set) }
#define BLOCKS(f, set) f##_##set##_q8_0, f##_##set##_q4_0, f##_##set##_q4_1, f##_##set##_q4_k
#define SET(set)                                                                                                       \
    {                                                                                                                  \
        .name = #set, .dot = ALL(dot, set), .sum = ALL(sum, set), .widen = { NULL, NULL, NULL, BLOCKS(widen, set) }    \
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
#if defined(__x86_64__)
    drops_requests = __builtin_cpu_is("amd");
#endif
    atomic_store(&chosen, k);
    return k;
}
