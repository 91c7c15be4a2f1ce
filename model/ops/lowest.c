// lowest - bucket selection. Contract in lowest.h.
//
// The range of the scores is divided into equal buckets, which are counted; what is not in the bucket of the k-th
// lowest is out of the running. A few passes over the scores, so that a mask can be made for every token.
#include "lowest.h"
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

enum { FEW = 48, BUCKETS = 1024, ROUNDS = 8 };

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void sort_few(double *v, long n) {
    for (long i = 1; i < n; i++) {
        const double x = v[i];
        long j = i;
        for (; j > 0 && v[j - 1] > x; j--) v[j] = v[j - 1];
        v[j] = x;
    }
}

// One round: v[0..n) becomes its values in the bucket of the k-th lowest (k from 0); *k counts from there on. Returns
// their number; n itself when buckets cannot divide the range. The bucket of x is a monotone function of x, whatever
// the rounding.
static long narrow(double *v, long n, long *k, double lo, double hi) {
    const double scale = (BUCKETS - 1) / (hi - lo);
    if (!isfinite(scale) || scale <= 0 || !isfinite(hi - lo)) return n;
    long count[BUCKETS] = {0}, below = 0, kept = 0;
    for (long i = 0; i < n; i++) count[(int)((v[i] - lo) * scale)]++;
    int at = 0;
    while (below + count[at] <= *k) below += count[at++];
    if (count[at] == n) return n;
    for (long i = 0; i < n; i++) {
        v[kept] = v[i];
        kept += (int)((v[i] - lo) * scale) == at;
    }
    *k -= below;
    return kept;
}

double kth_lowest(double *v, long n, long k, long *ties) {
    for (int round = 0; n > FEW; round++) {
        double lo = v[0], hi = v[0];
#pragma omp simd reduction(min : lo) reduction(max : hi)
        for (long i = 1; i < n; i++) {
            lo = v[i] < lo ? v[i] : lo;
            hi = v[i] > hi ? v[i] : hi;
        }
        if (lo == hi) {
            *ties = k + 1;
            return lo;
        }
        const long left = round < ROUNDS ? narrow(v, n, &k, lo, hi) : n;
        if (left == n) break;
        n = left;
    }
    if (n > FEW)
        qsort(v, (size_t)n, sizeof *v, ascending);
    else
        sort_few(v, n);
    *ties = 1;
    while (*ties <= k && v[k - *ties] == v[k]) ++*ties;
    return v[k];
}

void cut_lowest(uint8_t *keep, const double *score, const uint8_t *only, const cut_range *c, double *scratch) {
    const long end = c->first + c->n;
    long n = 0, ties = 0;
    for (long i = c->first; i < end; i++) {
        scratch[n] = score[i];
        n += only ? only[i] : 1;
    }
    const bool none = n == 0 || c->k <= 0;
    const long k = c->k < n ? c->k : n;
    const double last = none ? -INFINITY : kth_lowest(scratch, n, k - 1, &ties);
    for (long i = c->first; i < end; i++) {
        if (only && !only[i]) continue;
        const bool tied = score[i] == last && ties > 0;
        ties -= tied;
        keep[i] = !(score[i] < last || tied);
    }
}
