// minmax - min-max normalisation. Contract in minmax.h.
#include "minmax.h"
#include "simd.h"
#include <math.h>

HOT static void rescale(float *out, const float *x, float least, float range, size_t n) {
    for (size_t i = 0; i < n; i++) out[i] = (x[i] - least) / range;
}

bool minmax(float *out, const float *x, size_t n) {
    float least = x[0], most = x[0];
    for (size_t i = 1; i < n; i++) {
        least = x[i] < least ? x[i] : least;
        most = x[i] > most ? x[i] : most;
    }
    if (!(most > least)) {
        memset(out, 0, n * sizeof *out);
        return false;
    }
    // halves: the difference of two finite numbers may overflow
    const float range = most - least;
    if (isfinite(range))
        rescale(out, x, least, range, n);
    else
        for (size_t i = 0; i < n; i++) out[i] = (x[i] / 2 - least / 2) / (most / 2 - least / 2);
    return true;
}
