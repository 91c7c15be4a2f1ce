// opt_tensors - every weight of a configuration, its name, shape and place in an opt.
#pragma once
#include "opt.h"

enum { OPT_VECTOR = -1 };  // columns of what is no matrix
typedef int opt_weight_fn(void *ctx, const char *name, int rows, int cols, weight *where);

// fn(ctx, name, rows, cols or OPT_VECTOR, where) for every weight, until one returns nonzero; that. m->c is set; layers may be missing in m where
// fn ignores `where`.
int opt_each_weight(opt *m, opt_weight_fn *fn, void *ctx);
