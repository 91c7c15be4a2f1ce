// cpu_bf16 - contract in cpu_bf16.h. Both operands are copied into blocks that the instructions load as they are: rows
// of x, 32 at a time, and columns of y, 32 at a time, each in steps of 32 numbers of the sum. A step of a block is two
// tiles of 1 KiB: of x, 16 rows of 32 numbers; of W, 16 pairs of numbers of the sum, each of 16 columns, the two of a
// pair side by side. A panel of W, some blocks wide, stays in the cache while all blocks of rows pass it.
#include "cpu_bf16.h"
#include "cpu_gemm.h"
#include "cpu_vec.h"
#include <stdatomic.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#define HAVE_BF16 1
#endif

enum { TILE = 16, STEP = GEMM_STEP, BLOCK = GEMM_SIDE, BLOCK_STEP = BLOCK * STEP, PANEL = 128, CHUNK = 16 };
enum { SMALL = 40 };  // the largest number of a row is below 2^-SMALL: products could fall below 2^-126

struct bf16_kernels {
    const char *name;
    void (*enter)(void), (*leave)(void);  // around work of a thread, or NULL
    // to [BLOCK, ld] = the product of a block of rows and one of columns
    void (*multiply)(float *to, int ld, const uint16_t *rows, const uint16_t *columns, int steps);
};

typedef struct {
    int row, n;         // of x
    float back[BLOCK];  // factors of the sums of its rows
    bool scaled;        // one of them is not 1
} row_block;

#ifdef HAVE_BF16
#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))

// ---------------------------------------------------------------- packing
// The first n of 32 numbers.
static inline __mmask32 first_of(int n) {
    if (n <= 0) return 0;
    return n >= 32 ? 0xffffffffu : (1u << n) - 1;
}

// The largest of n numbers as a bit pattern without sign.
TARGET static uint32_t largest(const float *x, int n) {
    const __m512i no_sign = _mm512_set1_epi32(0x7fffffff);
    __m512i most = _mm512_setzero_si512();
    for (int k = 0; k < n; k += TILE) {
        const __m512i v = _mm512_maskz_loadu_epi32((__mmask16)first_of(n - k), x + k);
        most = _mm512_max_epu32(most, _mm512_and_si512(v, no_sign));
    }
    return _mm512_reduce_max_epu32(most);
}

static float power_of_two(int e) {
    const union {
        uint32_t u;
        float f;
    } x = {.u = (uint32_t)(e + 127) << 23};
    return x.f;
}

// The power of two that brings a row whose largest number is `most` to 1 and more, if it is small: else 0.
static int exponent_up(uint32_t most) {
    const int e = 127 - (int)(most >> 23);
    if (!most || e <= SMALL) return 0;
    return e < 126 ? e : 126;
}

// A block of n rows, then zeros. Rows of small numbers, as gradients may be, are multiplied by a power of two, whose
// inverse goes to back[]; of others that is 1. Returns the largest number as a bit pattern without sign.
TARGET static uint32_t pack_rows(uint16_t *to, float back[BLOCK], const float *x, int in, int n) {
    uint32_t all = 0;
    for (int r = 0; r < BLOCK; r++) {
        uint16_t *at = to + r * STEP;
        const float *row = x + (size_t)r * (size_t)in;
        const uint32_t most = r < n ? largest(row, in) : 0;
        const int up = exponent_up(most);
        const __m512 scale = _mm512_set1_ps(power_of_two(up));
        back[r] = power_of_two(-up);
        all = most > all ? most : all;
        for (int k = 0; k < in; k += STEP, at += BLOCK_STEP) {
            __m512 low = _mm512_setzero_ps(), high = low;
            if (r < n) {
                low = _mm512_mul_ps(_mm512_maskz_loadu_ps((__mmask16)first_of(in - k), row + k), scale);
                high =
                    _mm512_mul_ps(_mm512_maskz_loadu_ps((__mmask16)(first_of(in - k) >> TILE), row + k + TILE), scale);
            }
            _mm512_storeu_si512(at, (__m512i)_mm512_cvtne2ps_pbh(high, low));
        }
    }
    return all;
}

// Rows i of 16 32-bit numbers become columns i.
TARGET static inline __attribute__((always_inline)) void transpose(__m512i r[TILE]) {
    __m512i t[TILE];
    for (int i = 0; i < TILE; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < TILE; i += 4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
    }
    for (int i = 0; i < 8; i++) {
        r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
    }
}

// A tile of W (cols, in): columns of y from j, n of them there are; numbers of the sum from k.
TARGET static void pack_forward(uint16_t *to, const uint16_t *w, int in, int j, int n, int k) {
    const __mmask32 there = first_of(in - k);
    __m512i r[TILE];
    for (int i = 0; i < TILE; i++)
        r[i] = _mm512_maskz_loadu_epi16(i < n ? there : 0, w + (size_t)(j + (i < n ? i : 0)) * (size_t)in + k);
    transpose(r);
    for (int i = 0; i < TILE; i++) _mm512_storeu_si512(to + i * STEP, r[i]);
}

// The same of W (in, cols).
TARGET static void pack_back(uint16_t *to, const uint16_t *w, int in, int cols, int j, int n, int k) {
    const __mmask16 there = (__mmask16)first_of(n);
    for (int i = 0; i < TILE; i++) {
        const int at = k + 2 * i;
        __m512i pair = _mm512_setzero_si512();
        if (at < in) pair = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(there, w + (size_t)at * (size_t)cols + j));
        if (at + 1 < in) {
            const __m256i next = _mm256_maskz_loadu_epi16(there, w + (size_t)(at + 1) * (size_t)cols + j);
            pair = _mm512_or_si512(pair, _mm512_slli_epi32(_mm512_cvtepu16_epi32(next), 16));
        }
        _mm512_storeu_si512(to + i * STEP, pair);
    }
}

// ---------------------------------------------------------------- AMX
// Its tiles are those of fp32 numbers of one part (cpu_gemm.h).
static void amx_enter(void) { gemm_amx()->begin(); }
static void amx_leave(void) { gemm_amx()->end(); }
static void amx_multiply(float *to, int ld, const uint16_t *rows, const uint16_t *columns, int steps) {
    gemm_amx()->tile(to, (size_t)ld, rows, columns, BLOCK, steps * STEP, 1, 1, false);
}

// ---------------------------------------------------------------- AVX-512 BF16
// Of AMD's processors an instruction does twice the work of one of fp32; Intel's take half as many.
static bool avx512_is_faster(void) { return __builtin_cpu_is("amd"); }
enum { HELD = 8 };  // rows whose sums are in registers
TARGET static void avx512_multiply(float *to, int ld, const uint16_t *rows, const uint16_t *columns, int steps) {
    for (int r = 0; r < BLOCK; r += HELD) {
        __m512 sum[HELD][2];
        for (int i = 0; i < HELD; i++) sum[i][0] = sum[i][1] = _mm512_setzero_ps();
        for (int k = 0; k < steps; k++)
            for (int pair = 0; pair < TILE; pair++) {
                const uint16_t *at = columns + k * BLOCK_STEP + pair * STEP;
                const __m512bh left = (__m512bh)_mm512_loadu_si512(at),
                               right = (__m512bh)_mm512_loadu_si512(at + TILE * STEP);
                for (int i = 0; i < HELD; i++) {
                    int32_t two;
                    memcpy(&two, rows + k * BLOCK_STEP + (r + i) * STEP + 2 * pair, sizeof two);
                    sum[i][0] = _mm512_dpbf16_ps(sum[i][0], (__m512bh)_mm512_set1_epi32(two), left);
                    sum[i][1] = _mm512_dpbf16_ps(sum[i][1], (__m512bh)_mm512_set1_epi32(two), right);
                }
            }
        for (int i = 0; i < HELD; i++) {
            _mm512_storeu_ps(to + (size_t)(r + i) * (size_t)ld, sum[i][0]);
            _mm512_storeu_ps(to + (size_t)(r + i) * (size_t)ld + TILE, sum[i][1]);
        }
    }
}

static const bf16_kernels sets[] = {{"amx", amx_enter, amx_leave, amx_multiply},
                                    {"avx512bf16", NULL, NULL, avx512_multiply}};
static bool has(const char *name) {
    if (strcmp(vec()->name, "avx512") != 0) return false;
    if (strcmp(name, "amx") == 0) return gemm_amx() != NULL;
    return __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

// ---------------------------------------------------------------- products
// The blocks of rows of the spans, packed.
typedef struct {
    row_block *of;
    uint16_t *data;
    int n, steps;
    size_t size;  // of a block
} packed_rows;

static packed_rows pack_all(const bf16_product *p, int in, const span *s, int n, int least, const char *operation) {
    packed_rows x = {.steps = (in + STEP - 1) / STEP};
    for (int i = 0; i < n; i++)
        if (s[i].n >= least) x.n += (s[i].n + BLOCK - 1) / BLOCK;
    x.size = (size_t)x.steps * BLOCK_STEP;
    x.of = scratch_take(sizeof *x.of * (size_t)x.n);
    x.data = scratch_take(sizeof *x.data * x.size * (size_t)x.n);
    for (int i = 0, k = 0; i < n; i++)
        for (int t = 0; s[i].n >= least && t < s[i].n; t += BLOCK)
            x.of[k++] = (row_block){.row = s[i].row + t, .n = s[i].n - t < BLOCK ? s[i].n - t : BLOCK};
    uint32_t most = 0;
#pragma omp parallel for schedule(static) reduction(max : most)
    for (int i = 0; i < x.n; i++) {
        row_block *b = &x.of[i];
        const uint32_t of =
            pack_rows(x.data + x.size * (size_t)i, b->back, p->x + (size_t)b->row * (size_t)in, in, b->n);
        for (int r = 0; r < b->n; r++) b->scaled = b->scaled || b->back[r] != 1;
        most = of > most ? of : most;
    }
    if (most >= 0x7f7f8000)  // which is rounded to infinity
        die(1, "cpu: %s with %s: a number among the rows is not finite", operation, p->w->narrow);
    return x;
}

static uint16_t *pack_panel(const bf16_product *p, int in, int cols, int j0, int width, int steps) {
    const int blocks = (width + BLOCK - 1) / BLOCK;
    uint16_t *to = scratch_take(sizeof *to * (size_t)blocks * (size_t)steps * BLOCK_STEP), *at = to;
    for (int j = j0; j < j0 + blocks * BLOCK; j += BLOCK)
        for (int k = 0; k < in; k += STEP)
            for (int half = j; half < j + BLOCK; half += TILE, at += TILE * STEP) {
                const int n = cols - half < TILE ? cols - half : TILE;
                if (n <= 0)
                    memset(at, 0, sizeof *at * TILE * STEP);
                else if (p->back)
                    pack_back(at, p->w->data, in, cols, half, n, k);
                else
                    pack_forward(at, p->w->data, in, half, n, k);
            }
    return to;
}

// n numbers of y from the sums of a row.
static void finish(const bf16_product *p, float *y, const float *sum, float back, int j, int n) {
    for (int i = 0; i < n; i++) {
        float v = sum[i] * back;
        if (p->b) v += p->b[j + i];
        y[i] = p->add ? y[i] + v : v;
    }
}

// Columns j0 .. j0 + width of y at the rows of blocks first .. end.
static void one_panel(const bf16_kernels *kernels, const bf16_product *p, const packed_rows *x, int in, int cols,
                      int j0, int width, int first, int end) {
    const scratch_point mark = scratch_mark();
    const uint16_t *w = pack_panel(p, in, cols, j0, width, x->steps);
    float *sums = scratch_floats(BLOCK * BLOCK);
    if (kernels->enter) kernels->enter();
    for (int i = first; i < end; i++) {
        const uint16_t *rows = x->data + x->size * (size_t)i;
        const uint16_t *columns = w;
        for (int j = j0; j < j0 + width; j += BLOCK, columns += x->size) {
            const int some = cols - j < BLOCK ? cols - j : BLOCK;
            float *y = p->y + (size_t)x->of[i].row * (size_t)cols + j;
            if (some == BLOCK && x->of[i].n == BLOCK && !x->of[i].scaled && !p->b && !p->add) {
                kernels->multiply(y, cols, rows, columns, x->steps);
                continue;
            }
            kernels->multiply(sums, BLOCK, rows, columns, x->steps);
            for (int r = 0; r < x->of[i].n; r++)
                finish(p, y + (size_t)r * (size_t)cols, sums + r * BLOCK, x->of[i].back[r], j, some);
        }
    }
    if (kernels->leave) kernels->leave();
    scratch_release(mark);
}

void bf16_many(const bf16_kernels *kernels, const bf16_product *p, const span *s, int n, int least,
               const char *operation) {
    const int in = p->back ? p->w->rows : p->w->cols, cols = p->back ? p->w->cols : p->w->rows;
    const scratch_point mark = scratch_mark();
    const packed_rows x = pack_all(p, in, s, n, least, operation);
    // an even number of panels as equal as blocks allow, so that threads share them evenly
    const int half = 2 * ((cols + 2 * PANEL - 1) / (2 * PANEL)), blocks = (cols + BLOCK - 1) / BLOCK,
              width = (blocks + half - 1) / half * BLOCK, panels = (cols + width - 1) / width,
              chunks = (x.n + CHUNK - 1) / CHUNK;
#pragma omp parallel for schedule(dynamic) collapse(2)
    for (int panel = 0; panel < panels; panel++)
        for (int chunk = 0; chunk < chunks; chunk++) {
            const int j0 = panel * width, left = cols - j0, end = (chunk + 1) * CHUNK;
            one_panel(kernels, p, &x, in, cols, j0, left < width ? left : width, chunk * CHUNK, end < x.n ? end : x.n);
        }
    scratch_release(mark);
}
#else
static const bf16_kernels sets[] = {{.name = ""}};
static bool has(const char *name) { return (void)name, false; }
static bool avx512_is_faster(void) { return false; }
void bf16_many(const bf16_kernels *kernels, const bf16_product *p, const span *s, int n, int least,
               const char *operation) {
    (void)kernels, (void)p, (void)s, (void)n, (void)least, (void)operation;
    ASSERT(!"no set here");
}
#endif

const bf16_kernels *bf16_find(const char *name) {
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++)
        if (strcmp(sets[i].name, name) == 0) return has(name) ? &sets[i] : NULL;
    return NULL;
}

const bf16_kernels *bf16_set(void) {
    static _Atomic(int) chosen;  // 0: not yet, 1: none, 2 + the number of a set
    int k = chosen;
    if (!k) {
        const bf16_kernels *best = bf16_find("amx");
        if (!best && avx512_is_faster()) best = bf16_find("avx512bf16");
        chosen = k = best ? 2 + (int)(best - sets) : 1;
    }
    return k < 2 ? NULL : &sets[k - 2];
}
