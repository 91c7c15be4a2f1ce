// corr - correlation between rows. Contract in corr.h.
#include "corr.h"
#include "simd.h"
#include <math.h>
#include <string.h>

FORCE_INLINE double mean_of(const float *row, int d) {
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int i = 0; i < d; i++) sum += row[i];
    return sum / d;
}

// The bits of |v|: their order as integers is that of the values, with NaN on top, and integer maxima vectorise.
FORCE_INLINE uint32_t magnitude(float v) {
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits & 0x7fffffff;
}

FORCE_INLINE float as_float(uint32_t bits) {
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

// A row with NaN counts as defined, so that it shows in the score.
FORCE_INLINE bool defined(const float *row, double mean, int d) {
    float centre = (float)mean;
    uint32_t most = 0, off = 0;
#pragma omp simd reduction(max : most, off)
    for (int i = 0; i < d; i++) {
        uint32_t m = magnitude(row[i]), o = magnitude(row[i] - centre);
        most = m > most ? m : most;
        off = o > off ? o : off;
    }
    return !(as_float(most) <= 1e-30f) && !(as_float(off) <= 1e-6f * as_float(most));
}

HOT bool corr_defined(const float *row, int d) { return defined(row, mean_of(row, d), d); }

HOT bool corr_row(double *y, const float *row, int d) {
    double mean = mean_of(row, d), norm = 0;
    if (!defined(row, mean, d)) return false;
#pragma omp simd reduction(+ : norm)
    for (int i = 0; i < d; i++) {
        y[i] = row[i] - mean;
        norm += y[i] * y[i];
    }
    norm = 1 / sqrt(norm);
    for (int i = 0; i < d; i++) y[i] *= norm;
    return true;
}

HOT double corr_dot(const double *y, const double *y2, int d) {
    double s = 0;
#pragma omp simd reduction(+ : s)
    for (int i = 0; i < d; i++) s += y[i] * y2[i];
    return s;
}

HOT int corr_gram(double *g, const double *y, int n, int d) {
    int side = n < d ? n : d;
    if (n < d) {
        for (int i = 0; i < n; i++)
            for (int j = 0; j <= i; j++) g[(size_t)i * n + j] = corr_dot(y + (size_t)i * d, y + (size_t)j * d, d);
    } else {
        for (size_t i = 0; i < (size_t)d * d; i++) g[i] = 0;
        for (int r = 0; r < n; r++) {
            const double *row = y + (size_t)r * d;
            for (int i = 0; i < d; i++) {
                double v = row[i], *to = g + (size_t)i * d;
#pragma omp simd
                for (int j = 0; j <= i; j++) to[j] += v * row[j];
            }
        }
    }
    for (int i = 0; i < side; i++)
        for (int j = 0; j < i; j++) g[(size_t)j * side + i] = g[(size_t)i * side + j];
    return side;
}
