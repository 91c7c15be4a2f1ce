// ops_cpu_cut - the k lowest of ranges of fp32 scores (lowest.h).
#include "ops_cpu.h"
#include <limits.h>
#include <math.h>

long cpu_cut(uint8_t *keep, const float *score, const uint8_t *only, const cut_range *c, int n) {
    long bad = LONG_MAX;
#pragma omp parallel for schedule(dynamic) reduction(min : bad) if (n > 1)
    for (int i = 0; i < n; i++) {
        const long first = c[i].first, count = c[i].n;
        const scratch_point mark = scratch_mark();
        double *wide = scratch_take(2 * (size_t)count * sizeof *wide);
        long j = 0;
        for (; j < count && isfinite(score[first + j]); j++) wide[j] = (double)score[first + j];
        if (j < count) bad = first + j < bad ? first + j : bad;
        else cut_lowest(keep + first, wide, only ? only + first : NULL, &(cut_range){0, count, c[i].k}, wide + count);
        scratch_release(mark);
    }
    return bad == LONG_MAX ? -1 : bad;
}
