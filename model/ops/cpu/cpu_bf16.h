// cpu_bf16 - products of many rows of numbers rounded to bfloat16 with matrices of bfloat16 (--activations bf16) on
// processors with instructions for them: AMX, whose tiles of 16 x 32 numbers meet sixteen at a time, or AVX-512's dot
// products of pairs (BF16). Products of two such numbers are exact in fp32, and sums are of fp32. Numbers below 2^-126
// count as 0 there. Other processors round the rows and multiply fp32 numbers (cpu_round.c).
#pragma once
#include "cpu.h"

// One product: y (rows, cols) = x W' + b, W (cols, in); or, back, = x W, W (in, cols).
typedef struct {
    float *y;
    const float *x;  // (rows, in) of any numbers
    const weight *w;
    const float *b;  // [cols], or NULL
    bool add, back;  // add: to what y holds
} bf16_product;

typedef struct bf16_kernels bf16_kernels;
// The set that is faster than fp32 here, NULL: none; the set of a name, "amx" or "avx512bf16", NULL where the processor
// lacks it. Both only beside the kernels of AVX-512 (cpu_vec.h).
const bf16_kernels *bf16_set(void);
const bf16_kernels *bf16_find(const char *name);

// Whether products with w go this way.
static inline bool cpu_bf16(const weight *w) {
    return w->narrow && w->type == DT_BF16 && !w->turned && w->rows && w->cols && bf16_set();
}

// The product for the spans of at least so many rows. No number depends on threads or on other spans. Ends the program
// with `operation` and the tensor where a number of x is not finite as bfloat16.
void bf16_many(const bf16_kernels *k, const bf16_product *p, const span *s, int n, int least, const char *operation);
