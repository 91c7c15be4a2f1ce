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
// So many that a chunk is there from every block on.
static size_t chunk_floats(int n) { return padded(n / BLOCK, INT8_CHUNK) + INT8_CHUNK; }

size_t int8_row_bytes(int n) {
    return padded(n, 2 * BLOCK) + padded(n, 4 * BLOCK) + 2 * chunk_floats(n) * sizeof(float);
}

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

// The halves of four blocks side by side.
static void make_fours(int8_t *to, const int8_t *q, int blocks) {
    const size_t half = BLOCK / 2;
    for (int b = 0; b < blocks; b++) {
        int8_t *first = to + (size_t)(b / 4 * 4) * BLOCK + (size_t)(b % 4) * half;
        memcpy(first, q + (size_t)b * BLOCK, half);
        memcpy(first + 4 * half, q + (size_t)b * BLOCK + half, half);
    }
}

int8_row int8_row_make(void *at, const float *x, int n) {
    const size_t floats = chunk_floats(n), fours_bytes = padded(n, 4 * BLOCK);
    float *d = at, *sum = d + floats;
    int8_t *fours = (int8_t *)(sum + floats), *q = fours + fours_bytes;
    memset(d, 0, 2 * floats * sizeof *d);
    make_blocks(q, d, sum, x, n / BLOCK);
    memset(q + n, 0, padded(n, 2 * BLOCK) - (size_t)n);
    memset(fours, 0, fours_bytes);
    make_fours(fours, q, n / BLOCK);
    return (int8_row){q, fours, d, sum};
}

// ---------------------------------------------------------------- scales, one after the other
typedef struct {
    float dw[INT8_CHUNK], m[INT8_CHUNK];
} scales;
INLINE void scales_q8_0(scales *s, const uint8_t *w, int n) {
    for (int i = 0; i < n; i++) s->dw[i] = half_at(w + 34 * i);
}
INLINE void scales_q4_0(scales *s, const uint8_t *w, int n) {
    for (int i = 0; i < n; i++) {
        s->dw[i] = half_at(w + 18 * i);
        s->m[i] = -8 * s->dw[i];
    }
}
INLINE void scales_q4_1(scales *s, const uint8_t *w, int n) {
    for (int i = 0; i < n; i++) {
        s->dw[i] = half_at(w + 20 * i);
        s->m[i] = half_at(w + 20 * i + 2);
    }
}
INLINE void scales_q4_k(scales *s, const uint8_t *w, int n) {
    for (int i = 0; i < n; i += 8) {
        k_scales k;
        k_scales_at(&k, w, i / 8);
        for (int j = 0; j < 8; j++) s->dw[i + j] = k.step[j], s->m[i + j] = -k.less[j];
    }
}
#define SCALAR_SCALES(type, dw_, m_, w, n)                                                                             \
    do {                                                                                                               \
        scales s_ = {{0}, {0}};                                                                                        \
        scales_##type(&s_, w, n);                                                                                      \
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
typedef struct {
    p64x half[2];
} p128x;
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
INLINE f16x x_pairs(f16x t, int j) {
    f16x a;
    for (int i = 0; i < 16; i++) a.v[i] = t.v[2 * j + i / 8];
    return a;
}
INLINE f16x x_fours(f16x t, int j) {
    f16x a;
    for (int i = 0; i < 16; i++) a.v[i] = t.v[4 * j + i / 4];
    return a;
}
INLINE float x_sum4(const float *v) { return (v[0] + v[2]) + (v[1] + v[3]); }
INLINE float x_sum(f16x a) { return (x_sum4(a.v) + x_sum4(a.v + 8)) + (x_sum4(a.v + 4) + x_sum4(a.v + 12)); }
INLINE void x_sums(float *out, const f16x *a) {
    for (int i = 0; i < 4; i++) out[i] = x_sum(a[i]);
}
INLINE i16x x_dot_pair(p64x p, const int8_t *q) {
    i16x a;
    for (int i = 0; i < 16; i++) {
        a.v[i] = 0;
        for (int k = 0; k < 4; k++) a.v[i] += p.v[4 * i + k] * q[4 * i + k];
    }
    return a;
}
INLINE i16x x_dot_four(p128x p, const int8_t *q) {
    i16x a = x_dot_pair(p.half[0], q);
    const i16x c = x_dot_pair(p.half[1], q + 64);
    for (int i = 0; i < 16; i++) a.v[i] += c.v[i];
    return a;
}
INLINE p64x x_q8_0(const uint8_t *w, int b, int n) {
    p64x p = {{0}};
    for (int i = 0; i < 32 * n; i++) p.v[i] = (int8_t)w[34 * (b + i / 32) + 2 + i % 32];
    return p;
}
// Bytes of two numbers each: the lower halves are the first sixteen of a block. next: bytes to the block after it.
INLINE p128x x_nibbles(const uint8_t *at, int next, int n) {
    p128x p = {0};
    for (int i = 0; i < 16 * n; i++) {
        const uint8_t two = at[next * (i / 16) + i % 16];
        p.half[0].v[i] = two & 15, p.half[1].v[i] = two >> 4;
    }
    return p;
}
INLINE p128x x_q4_0(const uint8_t *w, int b, int n) { return x_nibbles(w + 18 * b + 2, 18, n); }
INLINE p128x x_q4_1(const uint8_t *w, int b, int n) { return x_nibbles(w + 20 * b + 4, 20, n); }
INLINE p64x x_q4_k(const uint8_t *w, int b, int n) {
    const uint8_t *at = k_bytes(w, b);
    p64x p;
    (void)n;
    for (int i = 0; i < 64; i++) p.v[i] = at[i % 32] >> (i < 32 ? 0 : 4) & 15;
    return p;
}
#define TARGET
#define V16     f16x
#define ZERO16  ((f16x){{0}})
#define LOAD16  x_load
#define MUL16   x_mul
#define FMA16   x_fma
#define FLOAT16 x_float
#define SUM16   x_sum
#define SUM16_4 x_sums
#define UNROLL

#define NAME(f)             f##_plain_q8_0
#define SCALES(dw, m, w, n) SCALAR_SCALES(q8_0, dw, m, w, n)
#define STEP                2
#define NUMBERS             p64x
#define REST                4
#define TAKE                x_q8_0
#define ROW                 q
#define DOT                 x_dot_pair
#define SPREAD              x_pairs
#define STEP_BYTES          34
#define HAS_LEAST           false
#include "cpu_int8_tile.h"
#define NAME(f)             f##_plain_q4_0
#define SCALES(dw, m, w, n) SCALAR_SCALES(q4_0, dw, m, w, n)
#define STEP                4
#define NUMBERS             p128x
#define REST                4
#define TAKE                x_q4_0
#define ROW                 fours
#define DOT                 x_dot_four
#define SPREAD              x_fours
#define STEP_BYTES          18
#define HAS_LEAST           true
#include "cpu_int8_tile.h"
#define NAME(f)             f##_plain_q4_1
#define SCALES(dw, m, w, n) SCALAR_SCALES(q4_1, dw, m, w, n)
#define STEP                4
#define NUMBERS             p128x
#define REST                4
#define TAKE                x_q4_1
#define ROW                 fours
#define DOT                 x_dot_four
#define SPREAD              x_fours
#define STEP_BYTES          20
#define HAS_LEAST           true
#include "cpu_int8_tile.h"
#define NAME(f)             f##_plain_q4_k
#define SCALES(dw, m, w, n) SCALAR_SCALES(q4_k, dw, m, w, n)
#define STEP                2
#define NUMBERS             p64x
#define REST                8
#define TAKE                x_q4_k
#define ROW                 q
#define DOT                 x_dot_pair
#define SPREAD              x_pairs
#define STEP_BYTES          18
#define HAS_LEAST           true
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
typedef struct {
    i2x half[2];
} i4x;
TARGET INLINE f2x y_zero(void) { return (f2x){_mm256_setzero_ps(), _mm256_setzero_ps()}; }
TARGET INLINE f2x y_load(const float *p) { return (f2x){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
TARGET INLINE f2x y_mul(f2x a, f2x b) { return (f2x){_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)}; }
TARGET INLINE f2x y_fma(f2x a, f2x b, f2x c) {
    return (f2x){_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
TARGET INLINE f2x y_float(i2x a) { return (f2x){_mm256_cvtepi32_ps(a.lo), _mm256_cvtepi32_ps(a.hi)}; }
TARGET INLINE f2x y_pairs(f2x t, int j) {
    const __m256 half = j < 4 ? t.lo : t.hi;
    const __m256i at = _mm256_set1_epi32(2 * (j % 4));
    return (f2x){_mm256_permutevar8x32_ps(half, at),
                 _mm256_permutevar8x32_ps(half, _mm256_add_epi32(at, _mm256_set1_epi32(1)))};
}
TARGET INLINE f2x y_fours(f2x t, int j) {
    const __m256 half = j < 2 ? t.lo : t.hi;
    const __m256i at = _mm256_add_epi32(_mm256_set1_epi32(4 * (j % 2)), _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1));
    return (f2x){_mm256_permutevar8x32_ps(half, at),
                 _mm256_permutevar8x32_ps(half, _mm256_add_epi32(at, _mm256_set1_epi32(2)))};
}
// Four sums of sixteen numbers each: first of every four side by side, as (v0 + v2) + (v1 + v3).
TARGET INLINE __m256 y_fours_of(__m256 a, __m256 b, __m256 c, __m256 d) {
    const __m256 ab = _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b)),
                 cd = _mm256_add_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
    return _mm256_add_ps(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xee));
}
TARGET INLINE void y_sums(float *out, const f2x *a) {
    const __m256 lo = y_fours_of(a[0].lo, a[1].lo, a[2].lo, a[3].lo),
                 hi = y_fours_of(a[0].hi, a[1].hi, a[2].hi, a[3].hi), s = _mm256_add_ps(lo, hi);
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1)));
}
TARGET INLINE float y_sum(f2x a) {
    const f2x four[4] = {a, a, a, a};
    float out[4];
    y_sums(out, four);
    return out[0];
}
// Pairs of products fit 16 bits: 2 * 128 * 127.
TARGET INLINE __m256i y_twos(__m256i p, const int8_t *q) { return _mm256_maddubs_epi16(p, LOAD256(q)); }
TARGET INLINE __m256i y_ends(__m256i twos) { return _mm256_madd_epi16(twos, _mm256_set1_epi16(1)); }
TARGET INLINE i2x y_dot_pair(i2x p, const int8_t *q) {
    return (i2x){y_ends(y_twos(p.lo, q)), y_ends(y_twos(p.hi, q + 32))};
}
// The sign of p goes to q, which is no -128, so that p has none.
TARGET INLINE __m256i y_signed(__m256i p, const int8_t *q) {
    return y_ends(_mm256_maddubs_epi16(_mm256_abs_epi8(p), _mm256_sign_epi8(LOAD256(q), p)));
}
TARGET INLINE i2x y_dot_pair_signed(i2x p, const int8_t *q) { return (i2x){y_signed(p.lo, q), y_signed(p.hi, q + 32)}; }
TARGET INLINE i2x y_dot_four(i4x p, const int8_t *q) {
    return (i2x){y_ends(_mm256_add_epi16(y_twos(p.half[0].lo, q), y_twos(p.half[1].lo, q + 64))),
                 y_ends(_mm256_add_epi16(y_twos(p.half[0].hi, q + 32), y_twos(p.half[1].hi, q + 96)))};
}
TARGET INLINE i2x y_q8_0(const uint8_t *w, int b, int n) {
    const uint8_t *at = w + 34 * b + 2;
    return (i2x){LOAD256(at), n > 1 ? LOAD256(at + 34) : _mm256_setzero_si256()};
}
// The bytes of one block or two.
TARGET INLINE __m256i y_bytes(const uint8_t *at, int next, int n) {
    const __m256i one = n > 0 ? _mm256_zextsi128_si256(LOAD128(at)) : _mm256_setzero_si256();
    return n > 1 ? _mm256_inserti128_si256(one, LOAD128(at + next), 1) : one;
}
TARGET INLINE i4x y_q4(const uint8_t *at, int next, int n) {
    const __m256i low = _mm256_set1_epi8(15), a = y_bytes(at, next, n), b = y_bytes(at + 2 * next, next, n - 2);
    return (i4x){{{_mm256_and_si256(a, low), _mm256_and_si256(b, low)},
                  {_mm256_and_si256(_mm256_srli_epi16(a, 4), low), _mm256_and_si256(_mm256_srli_epi16(b, 4), low)}}};
}
TARGET INLINE i4x y_q4_0(const uint8_t *w, int b, int n) { return y_q4(w + 18 * b + 2, 18, n); }
TARGET INLINE i4x y_q4_1(const uint8_t *w, int b, int n) { return y_q4(w + 20 * b + 4, 20, n); }
TARGET INLINE i2x y_q4_k(const uint8_t *w, int b, int n) {
    const __m256i p = LOAD256(k_bytes(w, b)), low = _mm256_set1_epi8(15);
    (void)n;
    return (i2x){_mm256_and_si256(p, low), _mm256_and_si256(_mm256_srli_epi16(p, 4), low)};
}
TARGET INLINE float y_half(const uint8_t *p) {
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(h)));
}
TARGET INLINE void y_scales(scales *s, const uint8_t *w, int bytes, int n, int least) {
    for (int i = 0; i < n; i++) {
        const uint8_t *at = w + bytes * i;
        s->dw[i] = y_half(at);
        if (least) s->m[i] = least < 0 ? (float)least * s->dw[i] : y_half(at + least);
    }
}
// least: -8, or where m is, or 0.
#define Y_SCALES(bytes, least, dw_, m_, w, n)                                                                          \
    do {                                                                                                               \
        scales s_ = {{0}, {0}};                                                                                        \
        y_scales(&s_, w, bytes, n, least);                                                                             \
        (dw_) = LOAD16(s_.dw), (m_) = LOAD16(s_.m);                                                                    \
    } while (0)
#define V16     f2x
#define ZERO16  y_zero()
#define LOAD16  y_load
#define MUL16   y_mul
#define FMA16   y_fma
#define FLOAT16 y_float
#define SUM16   y_sum
#define SUM16_4 y_sums
#define UNROLL  _Pragma("GCC unroll 8")

#define NAME(f)             f##_avx2_q8_0
#define SCALES(dw, m, w, n) Y_SCALES(34, 0, dw, m, w, n)
#define STEP                2
#define NUMBERS             i2x
#define REST                4
#define TAKE                y_q8_0
#define ROW                 q
#define DOT                 y_dot_pair_signed
#define SPREAD              y_pairs
#define STEP_BYTES          34
#define HAS_LEAST           false
#include "cpu_int8_tile.h"
#define NAME(f)             f##_avx2_q4_0
#define SCALES(dw, m, w, n) Y_SCALES(18, -8, dw, m, w, n)
#define STEP                4
#define NUMBERS             i4x
#define REST                4
#define TAKE                y_q4_0
#define ROW                 fours
#define DOT                 y_dot_four
#define SPREAD              y_fours
#define STEP_BYTES          18
#define HAS_LEAST           true
#include "cpu_int8_tile.h"
#define NAME(f)             f##_avx2_q4_1
#define SCALES(dw, m, w, n) Y_SCALES(20, 2, dw, m, w, n)
#define STEP                4
#define NUMBERS             i4x
#define REST                4
#define TAKE                y_q4_1
#define ROW                 fours
#define DOT                 y_dot_four
#define SPREAD              y_fours
#define STEP_BYTES          20
#define HAS_LEAST           true
#include "cpu_int8_tile.h"
#define NAME(f)             f##_avx2_q4_k
#define SCALES(dw, m, w, n) SCALAR_SCALES(q4_k, dw, m, w, n)
#define STEP                2
#define NUMBERS             i2x
#define REST                8
#define TAKE                y_q4_k
#define ROW                 q
#define DOT                 y_dot_pair
#define SPREAD              y_pairs
#define STEP_BYTES          18
#define HAS_LEAST           true
#include "cpu_int8_tile.h"
#include "cpu_int8_undef.h"

#include "cpu_int8_avx512.h"
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
