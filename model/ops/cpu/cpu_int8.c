// cpu_int8 - the kernel sets, rows of 8-bit numbers. Contract in cpu_int8.h, the kernels in cpu_int8_tile.h.
#include "cpu_int8.h"
#include "cpu_vec_q4k.h"
#include "simd.h"
#include <math.h>
#include <stdlib.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif
#define INLINE static inline __attribute__((always_inline))

// ---------------------------------------------------------------- rows
enum { BLOCK = 32 };

static size_t padded(int n, int unit) { return (size_t)(n + unit - 1) / (size_t)unit * (size_t)unit; }
static size_t chunk_floats(int n) { return padded(n / BLOCK, INT8_CHUNK); }

size_t int8_row_bytes(int n) { return padded(n, 64) + 2 * chunk_floats(n) * sizeof(float); }

// The largest |x| as a bit pattern: a NaN's is larger than infinity's. Of such a block q is 0, d what it has.
HOT static void make_blocks(int8_t *q, float *d, float *sum, const float *x, int blocks) {
    const float big = 12582912.0f;  // 1.5 * 2^23: adding it rounds to the nearest integer, halves to the even one
    for (int b = 0; b < blocks; b++, x += BLOCK, q += BLOCK) {
        uint32_t most = 0, bits[BLOCK];
        int32_t all = 0;
        float size;
        memcpy(bits, x, sizeof bits);
        for (int i = 0; i < BLOCK; i++) {
            const uint32_t k = bits[i] & 0x7fffffff;
            most = k > most ? k : most;
        }
        memcpy(&size, &most, sizeof size);
        d[b] = size / 127;
        if (most >= 0x7f800000) {
            memset(q, 0, BLOCK);
            sum[b] = d[b];
            continue;
        }
        const float inverse = 127 / size, c = inverse < INFINITY ? inverse : 0;
        for (int i = 0; i < BLOCK; i++) {
            const int32_t k = (int32_t)((x[i] * c + big) - big);
            q[i] = (int8_t)k;
            all += k;
        }
        sum[b] = d[b] * (float)all;
    }
}

int8_row int8_row_make(void *at, const float *x, int n) {
    const size_t floats = chunk_floats(n);
    float *d = at, *sum = d + floats;
    int8_t *q = (int8_t *)(sum + floats);
    memset(d, 0, 2 * floats * sizeof *d);
    make_blocks(q, d, sum, x, n / BLOCK);
    memset(q + n, 0, padded(n, 64) - (size_t)n);
    return (int8_row){q, d, sum};
}

// ---------------------------------------------------------------- scales, one after the other
typedef struct {
    float dw[INT8_CHUNK], m[INT8_CHUNK];
} scales;
INLINE void scales_q8_0(scales *s, const uint8_t *w, int from, int n) {
    for (int i = 0; i < n; i++) s->dw[i] = half_at(w + 34 * (from + i));
}
INLINE void scales_q4_0(scales *s, const uint8_t *w, int from, int n) {
    for (int i = 0; i < n; i++) {
        s->dw[i] = half_at(w + 18 * (from + i));
        s->m[i] = -8 * s->dw[i];
    }
}
INLINE void scales_q4_1(scales *s, const uint8_t *w, int from, int n) {
    for (int i = 0; i < n; i++) {
        s->dw[i] = half_at(w + 20 * (from + i));
        s->m[i] = half_at(w + 20 * (from + i) + 2);
    }
}
INLINE void scales_q4_k(scales *s, const uint8_t *w, int from, int n) {
    for (int i = 0; i < n; i += 8) {
        k_scales k;
        k_scales_at(&k, w, (from + i) / 8);
        for (int j = 0; j < 8; j++) s->dw[i + j] = k.step[j], s->m[i + j] = -k.less[j];
    }
}
#define SCALAR_SCALES(type, dw_, m_, w, b, n)                                                                          \
    do {                                                                                                               \
        scales s_ = {{0}, {0}};                                                                                        \
        scales_##type(&s_, w, b, n);                                                                                   \
        (dw_) = LOAD16(s_.dw), (m_) = LOAD16(s_.m);                                                                    \
    } while (0)

// ---------------------------------------------------------------- plain C
typedef struct {
    float v[16];
} f16x;
typedef struct {
    int32_t v[16];
} i16x;
typedef struct {
    int16_t v[64];
} p64x;
INLINE f16x x_load(const float *p) {
    f16x a;
    memcpy(a.v, p, sizeof a.v);
    return a;
}
INLINE f16x x_mul(f16x a, f16x b) {
    for (int i = 0; i < 16; i++) a.v[i] *= b.v[i];
    return a;
}
INLINE f16x x_fma(f16x a, f16x b, f16x c) {
    for (int i = 0; i < 16; i++) c.v[i] = fmaf(a.v[i], b.v[i], c.v[i]);
    return c;
}
INLINE f16x x_float(i16x a) {
    f16x b;
    for (int i = 0; i < 16; i++) b.v[i] = (float)a.v[i];
    return b;
}
INLINE f16x x_spread(f16x t, int j) {
    f16x a;
    for (int i = 0; i < 16; i++) a.v[i] = t.v[2 * j + i / 8];
    return a;
}
INLINE float x_sum(f16x a) {
    for (int half = 8; half; half /= 2)
        for (int i = 0; i < half; i++) a.v[i] += a.v[i + half];
    return a.v[0];
}
INLINE i16x x_dot(p64x p, const int8_t *q) {
    i16x a;
    for (int i = 0; i < 16; i++) {
        a.v[i] = 0;
        for (int k = 0; k < 4; k++) a.v[i] += p.v[4 * i + k] * q[4 * i + k];
    }
    return a;
}
INLINE p64x x_q8_0(const uint8_t *w, int b, bool two) {
    p64x p = {{0}};
    for (int i = 0; i < (two ? 64 : 32); i++) p.v[i] = (int8_t)w[34 * (b + i / 32) + 2 + i % 32];
    return p;
}
// Bytes of two numbers each: the lower halves are the first sixteen.
INLINE p64x x_nibbles(const uint8_t *first, const uint8_t *second) {
    p64x p = {{0}};
    for (int i = 0; i < 64; i++) {
        const uint8_t *of = i < 32 ? first : second;
        if (of) p.v[i] = of[i % 16] >> (i % 32 < 16 ? 0 : 4) & 15;
    }
    return p;
}
INLINE p64x x_q4_0(const uint8_t *w, int b, bool two) {
    return x_nibbles(w + 18 * b + 2, two ? w + 18 * b + 20 : NULL);
}
INLINE p64x x_q4_1(const uint8_t *w, int b, bool two) {
    return x_nibbles(w + 20 * b + 4, two ? w + 20 * b + 24 : NULL);
}
INLINE p64x x_q4_k(const uint8_t *w, int b, bool two) {
    const uint8_t *at = k_bytes(w, b);
    p64x p;
    (void)two;
    for (int i = 0; i < 64; i++) p.v[i] = at[i % 32] >> (i < 32 ? 0 : 4) & 15;
    return p;
}
#define TARGET
#define V16     f16x
#define P64     p64x
#define ZERO16  ((f16x){{0}})
#define LOAD16  x_load
#define MUL16   x_mul
#define FMA16   x_fma
#define FLOAT16 x_float
#define SPREAD  x_spread
#define SUM16   x_sum
#define UNROLL  false

#define NAME(f)                f##_plain_q8_0
#define SCALES(dw, m, w, b, n) SCALAR_SCALES(q8_0, dw, m, w, b, n)
#define TAKE                   x_q8_0
#define DOT                    x_dot
#define STEP_BYTES             34
#define HAS_LEAST              false
#include "cpu_int8_tile.h"
#define NAME(f)                f##_plain_q4_0
#define SCALES(dw, m, w, b, n) SCALAR_SCALES(q4_0, dw, m, w, b, n)
#define TAKE                   x_q4_0
#define DOT                    x_dot
#define STEP_BYTES             18
#define HAS_LEAST              true
#include "cpu_int8_tile.h"
#define NAME(f)                f##_plain_q4_1
#define SCALES(dw, m, w, b, n) SCALAR_SCALES(q4_1, dw, m, w, b, n)
#define TAKE                   x_q4_1
#define DOT                    x_dot
#define STEP_BYTES             20
#define HAS_LEAST              true
#include "cpu_int8_tile.h"
#define NAME(f)                f##_plain_q4_k
#define SCALES(dw, m, w, b, n) SCALAR_SCALES(q4_k, dw, m, w, b, n)
#define TAKE                   x_q4_k
#define DOT                    x_dot
#define STEP_BYTES             18
#define HAS_LEAST              true
#include "cpu_int8_tile.h"
#include "cpu_int8_undef.h"

#if defined(__x86_64__)
#define LOAD128(p) _mm_loadu_si128((const __m128i *)(const void *)(p))
#define LOAD256(p) _mm256_loadu_si256((const __m256i *)(const void *)(p))
// ---------------------------------------------------------------- AVX2: two halves
#define TARGET __attribute__((target("avx2,fma,f16c")))
typedef struct {
    __m256 lo, hi;
} f2x;
typedef struct {
    __m256i lo, hi;
} i2x;
TARGET INLINE f2x y_zero(void) { return (f2x){_mm256_setzero_ps(), _mm256_setzero_ps()}; }
TARGET INLINE f2x y_load(const float *p) { return (f2x){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
TARGET INLINE f2x y_mul(f2x a, f2x b) { return (f2x){_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)}; }
TARGET INLINE f2x y_fma(f2x a, f2x b, f2x c) {
    return (f2x){_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
TARGET INLINE f2x y_float(i2x a) { return (f2x){_mm256_cvtepi32_ps(a.lo), _mm256_cvtepi32_ps(a.hi)}; }
TARGET INLINE f2x y_spread(f2x t, int j) {
    const __m256 half = j < 4 ? t.lo : t.hi;
    const __m256i at = _mm256_set1_epi32(2 * (j % 4));
    return (f2x){_mm256_permutevar8x32_ps(half, at),
                 _mm256_permutevar8x32_ps(half, _mm256_add_epi32(at, _mm256_set1_epi32(1)))};
}
TARGET INLINE float sum8(__m256 v) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
TARGET INLINE float y_sum(f2x a) { return sum8(_mm256_add_ps(a.lo, a.hi)); }
// Pairs of products fit 16 bits: 2 * 128 * 127.
TARGET INLINE __m256i y_fours(__m256i p, __m256i q) {
    return _mm256_madd_epi16(_mm256_maddubs_epi16(p, q), _mm256_set1_epi16(1));
}
TARGET INLINE i2x y_dot(i2x p, const int8_t *q) {
    return (i2x){y_fours(p.lo, LOAD256(q)), y_fours(p.hi, LOAD256(q + 32))};
}
// The sign of p goes to q, which is no -128, so that p has none.
TARGET INLINE i2x y_dot_signed(i2x p, const int8_t *q) {
    return (i2x){y_fours(_mm256_abs_epi8(p.lo), _mm256_sign_epi8(LOAD256(q), p.lo)),
                 y_fours(_mm256_abs_epi8(p.hi), _mm256_sign_epi8(LOAD256(q + 32), p.hi))};
}
TARGET INLINE i2x y_q8_0(const uint8_t *w, int b, bool two) {
    const uint8_t *at = w + 34 * b + 2;
    return (i2x){LOAD256(at), two ? LOAD256(at + 34) : _mm256_setzero_si256()};
}
TARGET INLINE __m256i y_nibbles(__m128i p) {
    return _mm256_and_si256(_mm256_inserti128_si256(_mm256_castsi128_si256(p), _mm_srli_epi16(p, 4), 1),
                            _mm256_set1_epi8(15));
}
TARGET INLINE i2x y_q4(const uint8_t *at, int next, bool two) {
    return (i2x){y_nibbles(LOAD128(at)), two ? y_nibbles(LOAD128(at + next)) : _mm256_setzero_si256()};
}
TARGET INLINE i2x y_q4_0(const uint8_t *w, int b, bool two) { return y_q4(w + 18 * b + 2, 18, two); }
TARGET INLINE i2x y_q4_1(const uint8_t *w, int b, bool two) { return y_q4(w + 20 * b + 4, 20, two); }
TARGET INLINE i2x y_q4_k(const uint8_t *w, int b, bool two) {
    const __m256i p = LOAD256(k_bytes(w, b)), low = _mm256_set1_epi8(15);
    (void)two;
    return (i2x){_mm256_and_si256(p, low), _mm256_and_si256(_mm256_srli_epi16(p, 4), low)};
}
TARGET INLINE float y_half(const uint8_t *p) {
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(h)));
}
TARGET INLINE void y_scales(scales *s, const uint8_t *w, int bytes, int from, int n, int least) {
    for (int i = 0; i < n; i++) {
        const uint8_t *at = w + bytes * (from + i);
        s->dw[i] = y_half(at);
        if (least) s->m[i] = least < 0 ? (float)least * s->dw[i] : y_half(at + least);
    }
}
// least: -8, or where m is, or 0.
#define Y_SCALES(bytes, least, dw_, m_, w, b, n)                                                                       \
    do {                                                                                                               \
        scales s_ = {{0}, {0}};                                                                                        \
        y_scales(&s_, w, bytes, b, n, least);                                                                          \
        (dw_) = LOAD16(s_.dw), (m_) = LOAD16(s_.m);                                                                    \
    } while (0)
#define V16     f2x
#define P64     i2x
#define ZERO16  y_zero()
#define LOAD16  y_load
#define MUL16   y_mul
#define FMA16   y_fma
#define FLOAT16 y_float
#define SPREAD  y_spread
#define SUM16   y_sum
#define UNROLL  true

#define NAME(f)                f##_avx2_q8_0
#define SCALES(dw, m, w, b, n) Y_SCALES(34, 0, dw, m, w, b, n)
#define TAKE                   y_q8_0
#define DOT                    y_dot_signed
#define STEP_BYTES             34
#define HAS_LEAST              false
#include "cpu_int8_tile.h"
#define NAME(f)                f##_avx2_q4_0
#define SCALES(dw, m, w, b, n) Y_SCALES(18, -8, dw, m, w, b, n)
#define TAKE                   y_q4_0
#define DOT                    y_dot
#define STEP_BYTES             18
#define HAS_LEAST              true
#include "cpu_int8_tile.h"
#define NAME(f)                f##_avx2_q4_1
#define SCALES(dw, m, w, b, n) Y_SCALES(20, 2, dw, m, w, b, n)
#define TAKE                   y_q4_1
#define DOT                    y_dot
#define STEP_BYTES             20
#define HAS_LEAST              true
#include "cpu_int8_tile.h"
#define NAME(f)                f##_avx2_q4_k
#define SCALES(dw, m, w, b, n) SCALAR_SCALES(q4_k, dw, m, w, b, n)
#define TAKE                   y_q4_k
#define DOT                    y_dot
#define STEP_BYTES             18
#define HAS_LEAST              true
#include "cpu_int8_tile.h"
#include "cpu_int8_undef.h"

// ---------------------------------------------------------------- AVX-512 with VNNI
#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")))
TARGET INLINE __m512 z_spread(__m512 t, int j) {
    const __m512i eights = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
    return _mm512_permutexvar_ps(_mm512_add_epi32(eights, _mm512_set1_epi32(2 * j)), t);
}
TARGET INLINE float z_sum(__m512 a) {
    return sum8(_mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1)));
}
TARGET INLINE __m512i z_dot(__m512i p, const int8_t *q) {
    return _mm512_dpbusd_epi32(_mm512_setzero_si512(), p, _mm512_loadu_si512(q));
}
TARGET INLINE __m512i z_dot_signed(__m512i p, const int8_t *q) {
    const __m512i x = _mm512_loadu_si512(q);
    return _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_abs_epi8(p),
                               _mm512_mask_sub_epi8(x, _mm512_movepi8_mask(p), _mm512_setzero_si512(), x));
}
TARGET INLINE __m512i z_q8_0(const uint8_t *w, int b, bool two) {
    const uint8_t *at = w + 34 * b + 2;
    const __m512i p = _mm512_zextsi256_si512(LOAD256(at));
    return two ? _mm512_inserti64x4(p, LOAD256(at + 34), 1) : p;
}
TARGET INLINE __m512i z_q4(const uint8_t *at, int next, bool two) {
    __m256i both = _mm256_zextsi128_si256(LOAD128(at));
    if (two) both = _mm256_inserti128_si256(both, LOAD128(at + next), 1);
    __m512i p = _mm512_castsi256_si512(both);
    p = _mm512_shuffle_i64x2(p, p, 0x50);  // a a b b
    return _mm512_and_si512(_mm512_mask_srli_epi16(p, 0xff00ff00, p, 4), _mm512_set1_epi8(15));
}
TARGET INLINE __m512i z_q4_0(const uint8_t *w, int b, bool two) { return z_q4(w + 18 * b + 2, 18, two); }
TARGET INLINE __m512i z_q4_1(const uint8_t *w, int b, bool two) { return z_q4(w + 20 * b + 4, 20, two); }
TARGET INLINE __m512i z_q4_k(const uint8_t *w, int b, bool two) {
    const __m512i p = _mm512_broadcast_i64x4(LOAD256(k_bytes(w, b)));
    (void)two;
    return _mm512_and_si512(_mm512_mask_srli_epi16(p, 0xffff0000, p, 4), _mm512_set1_epi8(15));
}
// The first four bytes of n blocks.
TARGET INLINE __m512i z_heads(const uint8_t *w, int bytes, int from, int n) {
    const __m512i at = _mm512_mullo_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                                          _mm512_set1_epi32(bytes));
    return _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), (__mmask16)((1u << n) - 1), at, w + bytes * from, 1);
}
TARGET INLINE __m512 z_low_halves(__m512i heads) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(heads)); }
#define Z_Q8_0(dw, m, w, b, n) ((dw) = z_low_halves(z_heads(w, 34, b, n)), (m) = ZERO16)
#define Z_Q4_0(dw, m, w, b, n) ((dw) = z_low_halves(z_heads(w, 18, b, n)), (m) = _mm512_mul_ps(dw, _mm512_set1_ps(-8)))
#define Z_Q4_1(dw, m, w, b, n)                                                                                         \
    do {                                                                                                               \
        const __m512i heads_ = z_heads(w, 20, b, n);                                                                   \
        (dw) = z_low_halves(heads_), (m) = z_low_halves(_mm512_srli_epi32(heads_, 16));                                \
    } while (0)
// Of one or two blocks of Q4_K.
TARGET INLINE void z_k_scales(__m512 *dw, __m512 *m, const uint8_t *w, int from, int n) {
    const uint8_t *one = w + 144 * (from / 8), *two = n > 8 ? one + 144 : NULL;
    const k_bits a = k_bits_at(one), none = {0, 0}, b = two ? k_bits_at(two) : none;
    const __m128i heads = _mm_setr_epi32((int)k_head(one), two ? (int)k_head(two) : 0, 0, 0);
    const __m512 d = _mm512_castps128_ps512(_mm_cvtph_ps(heads));
    const __m512i eights = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 2, 2, 2, 2, 2, 2);
    const __m512 steps = _mm512_permutexvar_ps(eights, d),
                 mins = _mm512_permutexvar_ps(_mm512_add_epi32(eights, _mm512_set1_epi32(1)), d);
    const __m128i scale = _mm_set_epi64x((long long)b.scale, (long long)a.scale),
                  min = _mm_set_epi64x((long long)b.min, (long long)a.min);
    *dw = _mm512_mul_ps(steps, _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(scale)));
    *m = _mm512_sub_ps(_mm512_setzero_ps(), _mm512_mul_ps(mins, _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(min))));
}
#define Z_Q4_K(dw, m, w, b, n) z_k_scales(&(dw), &(m), w, b, n)
#define V16                    __m512
#define P64                    __m512i
#define ZERO16                 _mm512_setzero_ps()
#define LOAD16                 _mm512_loadu_ps
#define MUL16                  _mm512_mul_ps
#define FMA16                  _mm512_fmadd_ps
#define FLOAT16                _mm512_cvtepi32_ps
#define SPREAD                 z_spread
#define SUM16                  z_sum
#define UNROLL                 true

#define NAME(f)    f##_avx512_q8_0
#define SCALES     Z_Q8_0
#define TAKE       z_q8_0
#define DOT        z_dot_signed
#define STEP_BYTES 34
#define HAS_LEAST  false
#include "cpu_int8_tile.h"
#define NAME(f)    f##_avx512_q4_0
#define SCALES     Z_Q4_0
#define TAKE       z_q4_0
#define DOT        z_dot
#define STEP_BYTES 18
#define HAS_LEAST  true
#include "cpu_int8_tile.h"
#define NAME(f)    f##_avx512_q4_1
#define SCALES     Z_Q4_1
#define TAKE       z_q4_1
#define DOT        z_dot
#define STEP_BYTES 20
#define HAS_LEAST  true
#include "cpu_int8_tile.h"
#define NAME(f)    f##_avx512_q4_k
#define SCALES     Z_Q4_K
#define TAKE       z_q4_k
#define DOT        z_dot
#define STEP_BYTES 18
#define HAS_LEAST  true
#include "cpu_int8_tile.h"
#endif

// ---------------------------------------------------------------- choice
#define SET(set)                                                                                                       \
    {                                                                                                                  \
#set, { NULL, NULL, NULL, dot_##set##_q8_0, dot_##set##_q4_0, dot_##set##_q4_1, dot_##set##_q4_k }             \
    }
static const int8_kernels sets[] = {
#if defined(__x86_64__)
    SET(avx512), SET(avx2),
#endif
    SET(plain)};

const int8_kernels *int8_find(const char *name) {
#if defined(__x86_64__)
    if (strcmp(name, "avx512") == 0 && !__builtin_cpu_supports("avx512vnni")) return NULL;
#endif
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++)
        if (strcmp(sets[i].name, name) == 0 && vec_find(name)) return &sets[i];
    return NULL;
}

const int8_kernels *int8_set(void) {
    const int8_kernels *k = int8_find(vec()->name);
    return k ? k : int8_find("avx2");
}
