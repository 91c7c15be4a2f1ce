// cpu_int8_avx512 - the kernels of AVX-512 with VNNI, rows of 8-bit numbers: a part of cpu_int8.c.
#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")))
typedef struct {
    __m512i lo, hi;
} z2x;
TARGET INLINE __m512 z_pairs(__m512 t, int j) {
    const __m512i eights = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
    return _mm512_permutexvar_ps(_mm512_add_epi32(eights, _mm512_set1_epi32(2 * j)), t);
}
TARGET INLINE __m512 z_fours(__m512 t, int j) {
    const __m512i fours = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    return _mm512_permutexvar_ps(_mm512_add_epi32(fours, _mm512_set1_epi32(4 * j)), t);
}
TARGET INLINE void z_sums(float *out, const __m512 *a) {
    const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a[0], a[1]), _mm512_unpackhi_ps(a[0], a[1])),
                 cd = _mm512_add_ps(_mm512_unpacklo_ps(a[2], a[3]), _mm512_unpackhi_ps(a[2], a[3])),
                 fours = _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee));
    const __m256 s = _mm256_add_ps(_mm512_castps512_ps256(fours), _mm512_extractf32x8_ps(fours, 1));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1)));
}
TARGET INLINE float z_sum(__m512 a) {
    const __m512 four[4] = {a, a, a, a};
    float out[4];
    z_sums(out, four);
    return out[0];
}
TARGET INLINE __m512i z_dot_pair(__m512i p, const int8_t *q) {
    return _mm512_dpbusd_epi32(_mm512_setzero_si512(), p, _mm512_loadu_si512(q));
}
TARGET INLINE __m512i z_dot_pair_signed(__m512i p, const int8_t *at) {
    const __m512i q = _mm512_loadu_si512(at);
    return _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_abs_epi8(p),
                               _mm512_mask_sub_epi8(q, _mm512_movepi8_mask(p), _mm512_setzero_si512(), q));
}
TARGET INLINE __m512i z_dot_four(z2x p, const int8_t *q) {
    const __m512i first = _mm512_dpbusd_epi32(_mm512_setzero_si512(), p.lo, _mm512_loadu_si512(q));
    return _mm512_dpbusd_epi32(first, p.hi, _mm512_loadu_si512(q + 64));
}
TARGET INLINE __m512i z_q8_0(const uint8_t *w, int b, int n) {
    const uint8_t *at = w + 34 * b + 2;
    const __m512i p = _mm512_zextsi256_si512(LOAD256(at));
    return n > 1 ? _mm512_inserti64x4(p, LOAD256(at + 34), 1) : p;
}
// What a mask leaves out is not read.
TARGET INLINE z2x z_q4(const uint8_t *at, int next, int n) {
    const __m512i low = _mm512_set1_epi8(15);
    __m512i p = _mm512_zextsi128_si512(LOAD128(at));
    p = _mm512_mask_broadcast_i32x4(p, n > 1 ? 0x00f0 : 0, LOAD128(at + next));
    p = _mm512_mask_broadcast_i32x4(p, n > 2 ? 0x0f00 : 0, LOAD128(at + 2 * next));
    p = _mm512_mask_broadcast_i32x4(p, n > 3 ? 0xf000 : 0, LOAD128(at + 3 * next));
    return (z2x){_mm512_and_si512(p, low), _mm512_and_si512(_mm512_srli_epi16(p, 4), low)};
}
TARGET INLINE z2x z_q4_0(const uint8_t *w, int b, int n) { return z_q4(w + 18 * b + 2, 18, n); }
TARGET INLINE z2x z_q4_1(const uint8_t *w, int b, int n) { return z_q4(w + 20 * b + 4, 20, n); }
TARGET INLINE __m512i z_q4_k(const uint8_t *w, int b, int n) {
    const __m512i p = _mm512_broadcast_i64x4(LOAD256(k_bytes(w, b)));
    (void)n;
    return _mm512_and_si512(_mm512_mask_srli_epi16(p, 0xffff0000, p, 4), _mm512_set1_epi8(15));
}
// Where blocks are short their scales are picked from the lines that hold sixteen of them.
TARGET INLINE __m512i z_line(const uint8_t *at, int line, int bytes) {
    const int left = bytes / 4 - 16 * line, least = left > 0 ? left : 0;
    const __mmask16 some = least < 16 ? (__mmask16)((1u << least) - 1) : 0xffff;
    return _mm512_maskz_loadu_epi32(some, at + 64 * line);
}
// d and m of n blocks of 20 bytes, five words of 32 bits.
TARGET INLINE __m512i z_heads_20(const uint8_t *at, int n) {
    const __m512i fives = _mm512_setr_epi32(0, 5, 10, 15, 20, 25, 30, 3, 8, 13, 18, 23, 28, 1, 6,
                                            11);  // in two lines, two more, the last
    const __m512i first = _mm512_permutex2var_epi32(z_line(at, 0, 20 * n), fives, z_line(at, 1, 20 * n));
    if (n <= 4) return _mm512_maskz_mov_epi32((__mmask16)((1u << n) - 1), first);
    const __m512i then = _mm512_permutex2var_epi32(z_line(at, 2, 20 * n), fives, z_line(at, 3, 20 * n));
    return _mm512_mask_permutexvar_epi32(_mm512_mask_mov_epi32(first, 0x1f80, then), 0xe000, fives,
                                         z_line(at, 4, 20 * n));
}
// The first four bytes of n blocks.
TARGET INLINE __m512i z_heads(const uint8_t *w, int bytes, int n) {
    const __m512i at = _mm512_mullo_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                                          _mm512_set1_epi32(bytes));
    const __mmask16 some = (__mmask16)((1u << n) - 1);
    if (n <= 4)
        return _mm512_zextsi128_si512(
            _mm_mmask_i32gather_epi32(_mm_setzero_si128(), (__mmask8)some, _mm512_castsi512_si128(at), w, 1));
    return _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), some, at, w, 1);
}
TARGET INLINE __m512 z_low_halves(__m512i heads) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(heads)); }
#define Z_Q8_0(dw, m, w, n) ((dw) = z_low_halves(z_heads(w, 34, n)), (m) = ZERO16)
#define Z_Q4_0(dw, m, w, n) ((dw) = z_low_halves(z_heads(w, 18, n)), (m) = _mm512_mul_ps(dw, _mm512_set1_ps(-8)))
#define Z_Q4_1(dw, m, w, n)                                                                                            \
    do {                                                                                                               \
        const __m512i heads_ = z_heads_20(w, n);                                                                       \
        (dw) = z_low_halves(heads_), (m) = z_low_halves(_mm512_srli_epi32(heads_, 16));                                \
    } while (0)
// Of one or two blocks of Q4_K.
TARGET INLINE void z_k_scales(__m512 *dw, __m512 *m, const uint8_t *one, int n) {
    const uint8_t *two = n > 8 ? one + 144 : NULL;
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
#define Z_Q4_K(dw, m, w, n) z_k_scales(&(dw), &(m), w, n)
#define V16                 __m512
#define ZERO16              _mm512_setzero_ps()
#define LOAD16              _mm512_loadu_ps
#define MUL16               _mm512_mul_ps
#define FMA16               _mm512_fmadd_ps
#define FLOAT16             _mm512_cvtepi32_ps
#define SUM16               z_sum
#define SUM16_4             z_sums
#define UNROLL              _Pragma("GCC unroll 8")

#define NAME(f)    f##_avx512_q8_0
#define SCALES     Z_Q8_0
#define STEP       2
#define NUMBERS    __m512i
#define REST       4
#define TAKE       z_q8_0
#define ROW        q
#define DOT        z_dot_pair_signed
#define SPREAD     z_pairs
#define STEP_BYTES 34
#define HAS_LEAST  false
#include "cpu_int8_tile.h"
#define NAME(f)    f##_avx512_q4_0
#define SCALES     Z_Q4_0
#define STEP       4
#define NUMBERS    z2x
#define REST       4
#define TAKE       z_q4_0
#define ROW        fours
#define DOT        z_dot_four
#define SPREAD     z_fours
#define STEP_BYTES 18
#define HAS_LEAST  true
#include "cpu_int8_tile.h"
#define NAME(f)    f##_avx512_q4_1
#define SCALES     Z_Q4_1
#define STEP       4
#define NUMBERS    z2x
#define REST       4
#define TAKE       z_q4_1
#define ROW        fours
#define DOT        z_dot_four
#define SPREAD     z_fours
#define STEP_BYTES 20
#define HAS_LEAST  true
#include "cpu_int8_tile.h"
#define NAME(f)    f##_avx512_q4_k
#define SCALES     Z_Q4_K
#define STEP       2
#define NUMBERS    __m512i
#define REST       8
#define TAKE       z_q4_k
#define ROW        q
#define DOT        z_dot_pair
#define SPREAD     z_pairs
#define STEP_BYTES 18
#define HAS_LEAST  true
#include "cpu_int8_tile.h"
