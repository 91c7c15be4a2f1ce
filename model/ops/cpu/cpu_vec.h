// cpu_vec - vector kernels of products with few rows, which are bound by reading the weights: dot products with a row
// of a matrix, and sums of rows. Weights are read in their stored type and accumulated in fp32. Blocks (ckpt.h) become
// fp32 numbers in registers, the very ones that gguf_widen makes.
//
// One set of kernels per instruction set: AVX-512, AVX2 (with FMA and F16C), plain C. Sets differ in the order of
// additions only. Within a set no number depends on how many rows a call takes, so the bits do not depend on the rest
// of a batch or on the thread count.
//
// Rows are asked for ahead. Scattered rows, of which the processor fetches nothing by itself, then come nearly as fast
// as a stretch, and a stretch comes faster, too.
//
// An AMD drops requests that find the queue full, so numbers of 16 and 32 bits are asked for again and again, into the
// second-level cache: VEC_AHEAD rows ahead and every VEC_APART from there. Zen 4, two cores, half of the rows, beside
// reading all of them without asking (medians of 31 in turn):
//     rows of             1.5 KiB  3 KiB  8 KiB
//     not asked for        0.55    0.59   0.65
//     once                 0.66    0.72   0.74
//     2, 4, 6, 8, 10 ahead 1.04    1.04   1.03
// An Intel lets a request wait, and what comes after it: there, and in rows of blocks, lines are asked for twice,
// VEC_AHEAD rows ahead into the second-level cache and VEC_SOON rows ahead into the first one, since what waits there
// for the second one takes a place in the queue once more. One core of a Sapphire Rapids, beside plain reading of 16 to
// 18 GB/s (a stretch, half of its rows):
//                                      2, 4, 6, 8, 10 ahead   4, 10 ahead
//     fp16, rows of 576 numbers         0.90  0.78             0.98  0.89
//     fp16, rows of 2048                0.89  0.82             0.97  0.87
// Q8_0 rows of 576 numbers there: not asked for 0.64 0.32, 4 and 10 ahead into the second-level cache 0.83 0.59, the
// nearer ones into the first 0.89 0.63, and a line or two between products, not those of a chunk in a burst, 0.94 0.64.
#pragma once
#include "ckpt.h"

enum {
    VEC_ROWS = 4,  // most rows of x of one dot; a sum takes any number, and reads the weights once for so many
    VEC_AHEAD = 10,
    VEC_APART = 2,  // rows
    VEC_SOON = 4,   // rows ahead, of blocks
    VEC_CHUNK = 16  // blocks whose scales are taken together
};

// Rows of weights, n of them. fetch: after them stand VEC_AHEAD more entries, rows of the near future.
typedef struct {
    const void *const *row;
    int n;
    bool fetch;
} vec_rows;

static inline int vec_chunk(int left) { return left < VEC_CHUNK ? left : VEC_CHUNK; }

// Asks for a line of rows to come, and for the lines of their bytes from .. from + n, such that pieces of a row
// ask for each once. A line or two between products: of more at once the processor's queue is full.
static inline __attribute__((always_inline)) void vec_fetch_line(const void *const *row, int at) {
    __builtin_prefetch((const char *)row[VEC_SOON] + at, 0, 3);
    __builtin_prefetch((const char *)row[VEC_AHEAD] + at, 0, 2);
}
static inline __attribute__((always_inline)) void vec_fetch(const void *const *row, int from, int n) {
    for (int at = (from + 63) / 64 * 64; at < from + n; at += 64) vec_fetch_line(row, at);
}

typedef struct {
    const char *name;  // "avx512", "avx2", "plain"
    // [dtype]: out[i * R + r] = sum_k x[r][k] w_i[k] for every row i, r < R, k < n
    void (*dot[DTYPES])(float *out, const vec_rows *w, const float *const *x, int R, int n);
    // [dtype]: y[r][k] += sum_i c[r][i] w_i[k], r < R, added row by row
    void (*sum[DTYPES])(float *const *y, const float *const *c, int R, const vec_rows *w, int n);
    // [dtype], types in blocks: numbers from .. from + n of a row, both multiples of 32
    void (*widen[DTYPES])(float *to, const void *row, size_t from, size_t n);
} vec_kernels;

// The widest set that the processor has. KIT_SIMD=avx512|avx2|plain in the environment takes another one, for debugging
// and tests; one that the processor lacks ends the program.
const vec_kernels *vec(void);
// The set of that name; NULL: unknown, or the processor lacks it. vec_use: vec() gives it from now on (tests).
const vec_kernels *vec_find(const char *name);
void vec_use(const vec_kernels *k);
