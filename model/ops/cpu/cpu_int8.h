// cpu_int8 - products of weights in blocks with rows of 8-bit numbers (--activations q8_0, METHOD 2.5): a row x is cut
// into blocks of 32, x = d q with d = max|x| / 127 in fp32 and q = x (127 / max|x|), rounded to nearest even. With a
// block w = dw p + m of a weight (Q8_0: m = 0; Q4_0: p from 0, m = -8 dw)
//   sum_k w_k x_k = dw d sum_k p_k q_k + m d sum_k q_k
// The sums are sums of integers: exact in any order.
//
// One set of kernels per instruction set, as in cpu_vec.h: AVX-512 with VNNI, AVX2, plain C. All sets give the same
// bits: what follows the integers is done by the same operations of fp32 in the same order, and no number depends on
// how many rows a call takes.
#pragma once
#include "cpu_vec.h"

enum { INT8_CHUNK = 16 };  // blocks whose scales are taken together

// A row of n numbers: q [n, then zeros to a multiple of 64]; fours: the same numbers, then zeros to a multiple of 128,
// of four blocks first the former halves, then the latter, as types of four bits take them; d, and sum = d times the
// sum of a block's q, [blocks, then zeros to a multiple of INT8_CHUNK].
typedef struct {
    const int8_t *q, *fours;
    const float *d, *sum;
} int8_row;

typedef struct {
    const char *name;  // as in vec_kernels
    // [dtype], types in blocks: out[i * R + r] = w_i . x_r for every row i of weights, r < R <= VEC_ROWS, n numbers
    void (*dot[DTYPES])(float *out, const vec_rows *w, const int8_row *const *x, int R, int n);
} int8_kernels;

// The set that goes with vec(): its name; AVX2's where AVX-512 lacks VNNI.
const int8_kernels *int8_set(void);
const int8_kernels *int8_find(const char *name);  // NULL: unknown, or the processor lacks it

// Bytes that a row of n numbers takes, a multiple of 64, and the row made there (aligned to 64). n: whole blocks. A NaN
// or infinity among the numbers of a block makes its d and sum NaN or infinite, and what comes of them NaN.
size_t int8_row_bytes(int n);
int8_row int8_row_make(void *at, const float *x, int n);
