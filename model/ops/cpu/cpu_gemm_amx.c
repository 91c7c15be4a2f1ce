// cpu_gemm_amx - the kernels of cpu_gemm.h by Intel's AMX, with AVX-512 for the parts of numbers. A tile register holds
// 16 lines of 64 bytes. Of a panel and a step of GEMM_STEP numbers of the sum stand, part after part, two tiles: of A
// 16 rows of 32 numbers; of B, as the instruction wants it, 16 pairs of numbers for 16 columns.
#include "cpu_gemm.h"
#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TARGET __attribute__((target("amx-tile,amx-bf16,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))
#define INLINE static inline __attribute__((always_inline))

enum { LANES = 16, HALF = LANES * GEMM_STEP, PART = 2 * HALF };  // numbers of a tile, and of a part of a step

// ---------------------------------------------------------------- parts
typedef struct {
    __m512 part[GEMM_PARTS];
} split;

// To the nearest number of 8 bits, ties away from 0.
TARGET INLINE __m512 rounded(__m512 x) {
    const __m512i up = _mm512_add_epi32(_mm512_castps_si512(x), _mm512_set1_epi32(0x8000));
    return _mm512_castsi512_ps(_mm512_and_si512(up, _mm512_set1_epi32((int)0xffff0000)));
}
TARGET INLINE split parts_of(__m512 x, int parts) {
    split s = {{x, x, x}};
    for (int p = 0; p < parts - 1; p++) {
        s.part[p] = rounded(x);
        x = _mm512_sub_ps(x, s.part[p]);
    }
    s.part[parts - 1] = x;
    return s;
}

TARGET INLINE __mmask16 lanes_of(int n) {
    if (n >= LANES) return 0xffff;
    return n > 0 ? (__mmask16)((1u << n) - 1) : 0;
}

// Sixteen lines of numbers become sixteen columns.
TARGET INLINE void transpose(__m512 r[LANES]) {
    __m512 t[LANES];
#define PAIR(i, j)                                                                                                     \
    t[i] = _mm512_unpacklo_ps(r[i], r[j]);                                                                             \
    t[j] = _mm512_unpackhi_ps(r[i], r[j]);
    for (int i = 0; i < LANES; i += 2) {
        PAIR(i, i + 1)
    }
#undef PAIR
    for (int i = 0; i < LANES; i += 4) {
        const __m512d a = _mm512_castps_pd(t[i]), b = _mm512_castps_pd(t[i + 1]), c = _mm512_castps_pd(t[i + 2]),
                      d = _mm512_castps_pd(t[i + 3]);
        r[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
        r[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
        r[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
        r[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
    }
    for (int i = 0; i < 4; i++) {  // each holds a quarter of four lines, by fours of columns
        const __m512 a = _mm512_shuffle_f32x4(r[i], r[i + 4], 0x88), b = _mm512_shuffle_f32x4(r[i], r[i + 4], 0xdd),
                     c = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0x88),
                     d = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0xdd);
        t[i] = _mm512_shuffle_f32x4(a, c, 0x88);
        t[i + 4] = _mm512_shuffle_f32x4(b, d, 0x88);
        t[i + 8] = _mm512_shuffle_f32x4(a, c, 0xdd);
        t[i + 12] = _mm512_shuffle_f32x4(b, d, 0xdd);
    }
    for (int i = 0; i < LANES; i++) r[i] = t[i];
}

// ---------------------------------------------------------------- panels
TARGET INLINE const float *line_of(const gemm_matrix *x, int line) {
    return x->at + (size_t)(x->line ? x->line[line] : line) * x->ld;
}

#define EACH_LANE _Pragma("GCC unroll 16") for (int i = 0; i < LANES; i++)
// r[i]: number i of the sum, from `from` on, of 16 lanes of the panel from `first` on; `n` lanes and `k` numbers are
// there.
TARGET INLINE void take_sums(__m512 r[LANES], const gemm_matrix *x, int first, int n, int from, int k) {
    const int line = x->across ? from : first, at = x->across ? first : from, lines = x->across ? k : n,
              wide = x->across ? n : k;
    const __mmask16 there = lanes_of(wide);
    if (lines >= LANES && !x->line) {
        const float *p = x->at + (size_t)line * x->ld + at;
        EACH_LANE r[i] = _mm512_maskz_loadu_ps(there, p + (size_t)i * x->ld);
    } else
        EACH_LANE {
            r[i] = _mm512_setzero_ps();
            if (i < lines) r[i] = _mm512_maskz_loadu_ps(there, line_of(x, line + i) + at);
        }
    if (!x->across) transpose(r);
}
// r[i]: 16 numbers of the sum of lane i.
TARGET INLINE void take_lanes(__m512 r[LANES], const gemm_matrix *x, int first, int n, int from, int k) {
    const gemm_matrix turned = {x->at, x->ld, x->line, !x->across, x->parts};
    take_sums(r, &turned, from, k, first, n);
}

TARGET INLINE void put_a(uint16_t *to, const gemm_matrix *a, int first, int n, int from, int k, int parts) {
    __m512 low[LANES], high[LANES];
    take_lanes(low, a, first, n, from, k);
    take_lanes(high, a, first, n, from + LANES, k - LANES);
    EACH_LANE {
        const split l = parts_of(low[i], parts), h = parts_of(high[i], parts);
        for (int p = 0; p < parts; p++)
            _mm512_store_si512(to + p * PART + i * GEMM_STEP, (__m512i)_mm512_cvtne2ps_pbh(h.part[p], l.part[p]));
    }
}
TARGET INLINE void put_b(uint16_t *to, const gemm_matrix *b, int first, int n, int from, int k, int parts) {
    for (int half = 0; half < 2; half++, to += HALF / 2, from += LANES, k -= LANES) {
        __m512 r[LANES];
        take_sums(r, b, first, n, from, k);
#pragma GCC unroll 8
        for (int i = 0; i < LANES; i += 2) {
            const split l = parts_of(r[i], parts), h = parts_of(r[i + 1], parts);
            for (int p = 0; p < parts; p++) {
                const __m512i even = _mm512_srli_epi32(_mm512_castps_si512(l.part[p]), 16),
                              odd =
                                  _mm512_and_si512(_mm512_castps_si512(h.part[p]), _mm512_set1_epi32((int)0xffff0000));
                _mm512_store_si512(to + p * PART + i * LANES, _mm512_or_si512(even, odd));
            }
        }
    }
}

#define PACK(side, count)                                                                                              \
    TARGET static void pack_##side##count(uint16_t *to, const gemm_matrix *x, int first, int n, int from, int k) {     \
        for (int at = 0; at < k; at += GEMM_STEP, to += (count)*PART)                                                  \
            for (int t = 0; t < 2; t++)                                                                                \
                put_##side(to + t * HALF, x, first + t * LANES, n - t * LANES, from + at, k - at, count);              \
    }
PACK(a, 1)
PACK(a, 2)
PACK(a, 3)
PACK(b, 1)
PACK(b, 2)
PACK(b, 3)
#define PACK_ALL(side)                                                                                                 \
    static void pack_##side(void *to, const gemm_matrix *x, int first, int n, int from, int k) {                       \
        static void (*const pack[])(uint16_t *, const gemm_matrix *, int, int, int,                                    \
                                    int) = {pack_##side##1, pack_##side##2, pack_##side##3};                           \
        pack[x->parts - 1](to, x, first, n, from, k);                                                                  \
    }
PACK_ALL(a)
PACK_ALL(b)
// ---------------------------------------------------------------- tiles
// Registers 0 to 3: the tile of c, by 16 rows and 16 columns; 4 and 5: rows of A; 6 and 7: columns of B.
#define LOAD_A(p)                                                                                                      \
    {                                                                                                                  \
        _tile_loadd(4, a + (p)*PART, 64);                                                                              \
        if (whole) _tile_loadd(5, a + (p)*PART + HALF, 64);                                                            \
    }
#define LOAD_B(p)                                                                                                      \
    {                                                                                                                  \
        _tile_loadd(6, b + (p)*PART, 64);                                                                              \
        _tile_loadd(7, b + (p)*PART + HALF, 64);                                                                       \
    }
#define MULTIPLY                                                                                                       \
    {                                                                                                                  \
        _tile_dpbf16ps(0, 4, 6);                                                                                       \
        _tile_dpbf16ps(1, 4, 7);                                                                                       \
        if (whole) {                                                                                                   \
            _tile_dpbf16ps(2, 5, 6);                                                                                   \
            _tile_dpbf16ps(3, 5, 7);                                                                                   \
        }                                                                                                              \
    }
// In an order in which most products load one side only. Pairs of parts that a side lacks are left out.
TARGET INLINE void multiply(const uint16_t *a, const uint16_t *b, int steps, bool whole, int a_parts, int b_parts) {
    for (int k = 0; k < steps; k++, a += a_parts * PART, b += b_parts * PART) {
        LOAD_A(0)
        if (b_parts > 2) {
            LOAD_B(2)
            MULTIPLY
        }
        if (b_parts > 1) {
            LOAD_B(1)
            MULTIPLY
        }
        if (b_parts > 1 && a_parts > 1) {
            LOAD_A(1)
            MULTIPLY
        }
        LOAD_B(0)
        if (a_parts > 1) {
            if (b_parts < 2) LOAD_A(1)
            MULTIPLY
        }
        if (a_parts > 2) {
            LOAD_A(2)
            MULTIPLY
        }
        if (a_parts > 1) LOAD_A(0)
        MULTIPLY
    }
}

TARGET INLINE void zero_c(void) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
}
TARGET INLINE void load_c(const float *c, size_t ld, bool whole) {
    _tile_loadd(0, c, ld * sizeof *c);
    _tile_loadd(1, c + LANES, ld * sizeof *c);
    if (!whole) return;
    _tile_loadd(2, c + LANES * ld, ld * sizeof *c);
    _tile_loadd(3, c + LANES * ld + LANES, ld * sizeof *c);
}
TARGET INLINE void store_c(float *c, size_t ld, bool whole) {
    _tile_stored(0, c, ld * sizeof *c);
    _tile_stored(1, c + LANES, ld * sizeof *c);
    if (!whole) return;
    _tile_stored(2, c + LANES * ld, ld * sizeof *c);
    _tile_stored(3, c + LANES * ld + LANES, ld * sizeof *c);
}
#define TILE(x, y)                                                                                                     \
    TARGET static void tile_##x##y(float *c, size_t ld, const uint16_t *a, const uint16_t *b, int rows, int steps,     \
                                   bool add) {                                                                         \
        const bool whole = rows > LANES;                                                                               \
        if (add)                                                                                                       \
            load_c(c, ld, whole);                                                                                      \
        else                                                                                                           \
            zero_c();                                                                                                  \
        if (whole)                                                                                                     \
            multiply(a, b, steps, true, x, y);                                                                         \
        else                                                                                                           \
            multiply(a, b, steps, false, x, y);                                                                        \
        store_c(c, ld, whole);                                                                                         \
    }
TILE(1, 1)
TILE(1, 2)
TILE(1, 3)
TILE(2, 1)
TILE(2, 2)
TILE(2, 3)
TILE(3, 1)
TILE(3, 2)
TILE(3, 3)

static void tile(float *c, size_t ld, const void *a, const void *b, int rows, int k, int a_parts, int b_parts,
                 bool add) {
    static void (*const of[GEMM_PARTS][GEMM_PARTS])(float *, size_t, const uint16_t *, const uint16_t *, int, int,
                                                    bool) = {
        {tile_11, tile_12, tile_13}, {tile_21, tile_22, tile_23}, {tile_31, tile_32, tile_33}};
    of[a_parts - 1][b_parts - 1](c, ld, a, b, rows, (k + GEMM_STEP - 1) / GEMM_STEP, add);
}

// ---------------------------------------------------------------- the processor
TARGET static void begin(void) {
    struct {
        uint8_t palette, start, none[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } config = {.palette = 1};
    for (int i = 0; i < 8; i++) config.bytes[i] = 64, config.rows[i] = LANES;
    __asm__ volatile("" ::"r"(&config) : "memory");  // GCC 12 takes the intrinsic to read 8 bytes only
    _tile_loadconfig(&config);
}
TARGET static void end(void) { _tile_release(); }

// AVX-512's bf16 and both of AMX, and the kernel's leave to use the tile registers, for all threads to come.
static bool amx_there(void) {
    enum {
        LEAF = 7,
        AMX_BF16 = 1 << 22,
        AMX_TILE = 1 << 24,
        AVX512_BF16 = 1 << 5,
        ARCH_REQ_XCOMP_PERM = 0x1023,
        TILES = 18
    };
    unsigned a, b, c, d;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512dq"))
        return false;
    __asm__("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(LEAF), "c"(0));
    if (!(d & AMX_BF16) || !(d & AMX_TILE)) return false;
    __asm__("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(LEAF), "c"(1));
    return a & AVX512_BF16 && syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILES) == 0;
}

const gemm_kernels *gemm_amx(void) {
    static const gemm_kernels amx = {"amx", pack_a, pack_b, tile, begin, end};
    static _Atomic(int) there;  // 0: not known, 1: no, 2: yes
    if (!there) there = amx_there() ? 2 : 1;
    return there == 2 ? &amx : NULL;
}
#else
const gemm_kernels *gemm_amx(void) { return NULL; }
#endif
