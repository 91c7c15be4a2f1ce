// cuda_linear - products of the rows of spans with weights, several at once where they read the same rows
// (cuda_transformer_linear.c, cuda_round.c).
#pragma once
#include "cuda_host.h"

// y = x W' + bias, or (back) y = x W, or added to y. Of a turned weight w is the transpose that it holds.
typedef struct {
    float *y;
    weight w;
    const weight *bias;  // or NULL
    bool back, add;
} gpu_product;
gpu_product gpu_product_of(float *y, const weight *w, const weight *bias, bool back, bool add);
static inline int gpu_in(const gpu_product *p) { return p->back ? p->w.rows : p->w.cols; }
static inline int gpu_out(const gpu_product *p) { return p->back ? p->w.cols : p->w.rows; }
// Whether products of these weights can be made at once.
bool gpu_alike(const weight *a, const weight *b);
// Products of x [.., in] that are alike, for spans of any length: x is rounded or split once for all of them.
void gpu_multiply(const gpu_product *p, int products, const float *x, const span *s, int n);
