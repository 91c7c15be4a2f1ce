// lowest - the k lowest of many scores: no score is sorted where that can be avoided.
#pragma once
#include <stdint.h>

typedef struct {
    long first, n, k;
} cut_range;  // of the scores first .. first + n - 1 the k lowest

// The k-th lowest (k from 0) of v[0..n), which is overwritten; *ties: how many of the k + 1 lowest equal it.
double kth_lowest(double *v, long n, long k, long *ties);
// keep becomes 0 at the k lowest of a range (all, where there are fewer), of equal ones those in front, and 1 at the
// others; only units that `only` (NULL: all) holds count, and change. only may be keep. scratch: room for n.
void cut_lowest(uint8_t *keep, const double *score, const uint8_t *only, const cut_range *c, double *scratch);
