// ops_cpu_vec - vector kernels of products with few rows, which are bound by reading the weights: dot products with a row of a matrix, and
// sums of rows. Weights are read in their stored type and accumulated in fp32.
//
// One set of kernels per instruction set: AVX-512, AVX2 (with FMA and F16C), plain C. Sets differ in the order of additions only. Within a
// set no number depends on how many rows a call takes, so the bits do not depend on the rest of a batch or on the thread count.
//
// Rows that lie one behind the other are fetched by the processor itself. Scattered ones are not: `next` is a row of the near future, fetched
// into the second-level cache meanwhile (NULL: none), four places of it in turn. Measured on Zen 4, two cores, rows of 3 KiB of which half are
// read: in large pages 29 GB/s so and 24 without, of 60 where all rows are read; in small ones 41 so, 38 in ascending order, 24 without, of 58.
#pragma once
#include "ckpt.h"

enum { VEC_ROWS = 4 };  // most rows of x of one dot

// Rows of weights: n of them at `row`; or, where row is NULL, from `first` on at a distance of `stride` bytes, which is read a tenth faster.
// next (may be NULL): a row to fetch with each, or NULL.
typedef struct {
    const void *const *row, *const *next;
    const void *first;
    size_t stride;
    int n;
} vec_rows;

typedef struct {
    const char *name;  // "avx512", "avx2", "plain"
    // [dtype]: out[i * R + r] = sum_k x[r][k] w_i[k] for every row i, r < R, k < n
    void (*dot[3])(float *out, const vec_rows *w, const float *const *x, int R, int n);
    // [dtype]: y[k] += sum_i c[i] w_i[k], added row by row
    void (*sum[3])(float *y, const float *c, const vec_rows *w, int n);
} vec_kernels;

// The widest set that the processor has. KIT_SIMD=avx512|avx2|plain in the environment takes another one, for debugging and tests; one that
// the processor lacks ends the program.
const vec_kernels *vec(void);
// The set of that name; NULL: unknown, or the processor lacks it. vec_use: vec() gives it from now on (tests).
const vec_kernels *vec_find(const char *name);
void vec_use(const vec_kernels *k);
