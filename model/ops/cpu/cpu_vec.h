// cpu_vec - vector kernels of products with few rows, which are bound by reading the weights: dot products with a row
// of a matrix, and sums of rows. Weights are read in their stored type and accumulated in fp32. Blocks (ckpt.h) become
// fp32 numbers in registers, the very ones that gguf_widen makes.
//
// One set of kernels per instruction set: AVX-512, AVX2 (with FMA and F16C), plain C. Sets differ in the order of
// additions only. Within a set no number depends on how many rows a call takes, so the bits do not depend on the rest
// of a batch or on the thread count.
//
// Rows are asked for ahead, into the second-level cache, and again and again, because requests that find the queue full
// are dropped: VEC_AHEAD rows ahead and every VEC_APART from there. Scattered rows, of which the processor fetches
// nothing by itself, then come as fast as a stretch, and a stretch comes up to a tenth faster. Zen 4, two cores, half
// of the rows, beside reading all of them without asking (medians of 31 in turn):
//     rows of             1.5 KiB  3 KiB  8 KiB
//     not asked for        0.55    0.59   0.65
//     once                 0.66    0.72   0.74
//     2, 4, 6, 8, 10 ahead 1.04    1.04   1.03
//
// Rows of blocks are short, and asking five times for each line takes more time than their arithmetic: they are asked
// for twice, VEC_SOON and VEC_AHEAD rows ahead. One core of a Sapphire Rapids, GB/s of Q4_0 rows of 2048 numbers
// against 8-bit numbers, from memory (a stretch; half of its rows) and from the second-level cache:
//     not asked for         7.2   5.4  18.0
//     2, 4, 6, 8, 10 ahead  9.5   8.9  11.9
//     4, 10 ahead          11.9  11.0  16.6
// The nearer ones are asked for into the first-level cache: a line that waits for the second one takes a place in the
// queue twice. Q8_0 rows of 576 numbers, beside plain reading of 18 GB/s (a stretch; half of its rows):
//     8-bit numbers, second-level only 0.83 0.59, both 0.89 0.63; sums of rows 0.68 0.47, 0.68 0.51
#pragma once
#include "ckpt.h"

enum {
    VEC_ROWS = 4,  // most rows of x of one dot
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

// Asks for a line of rows of blocks that are to come, and for the lines of bytes from .. from + n, such that pieces of a
// row ask for each once. A line or two between products: of more at once the processor's queue is full.
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
    // [dtype]: y[k] += sum_i c[i] w_i[k], added row by row
    void (*sum[DTYPES])(float *y, const float *c, const vec_rows *w, int n);
    // [dtype], types in blocks: numbers from .. from + n of a row, both multiples of 32
    void (*widen[DTYPES])(float *to, const void *row, size_t from, size_t n);
} vec_kernels;

// The widest set that the processor has. KIT_SIMD=avx512|avx2|plain in the environment takes another one, for debugging
// and tests; one that the processor lacks ends the program.
const vec_kernels *vec(void);
// The set of that name; NULL: unknown, or the processor lacks it. vec_use: vec() gives it from now on (tests).
const vec_kernels *vec_find(const char *name);
void vec_use(const vec_kernels *k);
