// cuda_round - products with 16-bit operands (ops.h: activations).
#pragma once
#include "cuda_host.h"

// y = x W' or (back) y = x W, or added to y, with 16-bit operands.
void gpu_multiply_rounded(float *y, const float *x, const weight *w, bool back, bool add, const span *s, int n,
                          const char *operation);
// The gradient dz' x of a weight (F, E) over a span and its tangent, by pieces, likewise: [0] dz, x; [1] their tangents
// or NULL. add: to [n, E] = (or +=) rows from.. of dz[tdz]' x[tx], n <= columns. begin takes ROUND_BYTES of the
// workspace.
enum { ROUND_BYTES = 10 << 20 };
typedef struct {
    const weight *w;
    const float *dz[2], *x[2], *held;  // held: the rows of x that are rounded already
    cuda_scale of_dz[2], of_x[2];
    uint16_t *x16, *dz16;  // rounded operands
    int T, rows, columns;  // at once
} gpu_gradient;
void gpu_gradient_begin(gpu_gradient *r, const weight *w, const float *const dz[2], const float *const x[2],
                        const span *s);
void gpu_gradient_add(gpu_gradient *r, float *to, int tdz, int tx, int from, int n, bool add);
