// cuda_few_rows - products of few rows with a weight, read once as it is stored; see cuda_few_rows.cu and
// cuda_few_columns.cu. u: the live ones of W's units, D rows each.
#pragma once
#include "cuda_host.h"

enum { FEW = 16 };  // rows of a span, at most, that go this way in dense products

// Spans of few rows, or those of more; the others have none. The caller frees it.
span *gpu_spans_of(const span *s, int n, bool few);
// A launch with one map, all of whose arguments but its spans are still to be filled in.
cuda_map_list gpu_maps(int cols);
// The live ones of `units` in all. A recording covers them all, because a replay may find more of them live; blocks
// beyond the count end at once.
cuda_live gpu_live(const live_units *u, int units);
// Where a weight is for 16-bit activations: the lowest bit of x that stays; 0: all do.
unsigned gpu_kept_bits(const weight *w);
cuda_map gpu_map(float *y, const weight *w, const weight *b, int D, cuda_live u);

// y = x W' + b, or added to y, then ReLU, at the columns of live units; other columns stay as they are. low: the lowest
// bit of x that is kept, 0: all.
void gpu_few_rows(float *y, const float *x, const weight *w, unsigned low, const weight *b, bool add, bool relu, int D,
                  cuda_live u, const span *s, int n);
// y += x Wt + b over the live rows of Wt.
void gpu_few_rows_t(float *y, const float *x, const weight *wt, unsigned low, const weight *b, int D, cuda_live u,
                    const span *s, int n);
