// cuda_few_rows - products of few rows with a weight, read once as it is stored; see cuda_few_rows.cu. low: the lowest
// bit of x that is kept, 0: all. u: the live ones of W's units, D rows each.
#pragma once
#include "cuda_host.h"

// y = x W' + b, or added to y, then ReLU, at the columns of live units; other columns stay as they are.
void gpu_few_rows(float *y, const float *x, const weight *w, unsigned low, const weight *b, bool add, bool relu, int D,
                  cuda_live u, const span *s, int n);
// y += x Wt + b over the live rows of Wt.
void gpu_few_rows_t(float *y, const float *x, const weight *wt, unsigned low, const weight *b, int D, cuda_live u,
                    const span *s, int n);
