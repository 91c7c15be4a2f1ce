// cuda_round - products with 16-bit operands (ops.h: activations).
#pragma once
#include "cuda_linear.h"

// Products of x that are alike, with 16-bit operands. A number that is not finite is said with the first one's tensor.
void gpu_multiply_rounded(const gpu_product *p, int products, const float *x, const span *s, int n,
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
