// moments - mean and variance of every value that units put out, over the tokens of many examples: pooled exactly
// (Chan, Golub and LeVeque 1979), and the numbers that go with them. A head's values are its columns of a,
// a neuron's its column of r; they lie as [L, A] and [L, F], with NaN after the columns that a layer of a compacted
// model has.
#pragma once
#include "model.h"
#include "store.h"

// Values of a layer: A = heads x head size, or F.
static inline size_t moments_width(const model_config *c, unit_kind kind) {
    return (size_t)(kind == UNIT_HEADS ? c->H * c->D : c->F);
}
// (mean, variance) of so many tokens becomes that of those and of n more with another mean and sum of squared
// deviations. The divisor of variances is tokens - 1; that of a single token is 0.
static inline void moments_pool(double *mean, double *variance, double tokens, double other_mean, double other_off,
                                double n) {
    const double all = tokens + n, step = other_mean - *mean,
                 off = (tokens > 1 ? *variance * (tokens - 1) : 0) + other_off + step * step * (tokens * n / all);
    *mean += step * (n / all);
    *variance = all > 1 ? off / (all - 1) : 0;
}
// The squared norm of the column of the next matrix (Wo, W2) that reads each value; caller frees.
double *moments_squares(const model *m, unit_kind kind);
extern const char moments_norms[];  // group of a store with these numbers: heads, neurons

// Pooled moments in a file: GROUP/{heads, neurons}_{mean, variance}, and the attribute tokens of GROUP.
typedef struct {
    int L, width[UNIT_KINDS];
    double tokens;
    double *mean[UNIT_KINDS], *variance[UNIT_KINDS];  // [L, width]
} moment_set;
void moments_alloc(moment_set *m, int L, const int width[UNIT_KINDS]);  // of no token
void moments_free(moment_set *m);                                       // safe on {0}
bool moments_there(const store *s, const char *group);
// A {0} struct, or one of that shape, becomes what the group holds. 0, or -1 and err_set, of writing too.
int moments_read(moment_set *m, const store *s, const char *group);
int moments_write(const moment_set *m, store *s, const char *group);
void moments_add(moment_set *m, const moment_set *other);  // pools all columns
