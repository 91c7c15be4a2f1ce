// gated_rows - the incoming weights' gradient of a gated neuron, token by token: the row (dg_t x_t, du_t x_t) of 2 E
// numbers, x_t the FFN's input; its correlations from those of the rows x_t, for the CPU's operations and for criteria.
// With x_t = m_t + s_t y_t, y_t of mean 0 and norm 1, and corr_ts = y_t . y_s, the rows less their means have the inner
// products
//   (dg_t dg_s + du_t du_s) s_t s_s corr_ts + E/2 m_t m_s (dg_t - du_t)(dg_s - du_s)
// so their correlations are (a_t a_s + b_t b_s) corr_ts + c_t c_s.
#pragma once
#include "unit_sums.h"
#include <math.h>
#include <stdbool.h>

typedef struct {
    float a, b, c;
} gated_row;

static inline float gated_row_away(float most, float end, float mean) {
    const float off = fabsf(end - mean);
    return off > most ? off : most;
}
// Neither zero nor constant, as corr.h has it. stat: of x_t. Without branches, so that loops over it vectorise.
static inline bool gated_row_defined(float dg, float du, const float stat[ROW_STATS]) {
    const float g = fabsf(dg) > fabsf(du) ? fabsf(dg) : fabsf(du), least = stat[ROW_LEAST], most = stat[ROW_MOST];
    const float size = fabsf(least) > fabsf(most) ? fabsf(least) : fabsf(most),
                mean = 0.5f * (dg + du) * stat[ROW_MEAN];
    float away = gated_row_away(0, dg * least, mean);
    away = gated_row_away(away, dg * most, mean);
    away = gated_row_away(away, du * least, mean);
    away = gated_row_away(away, du * most, mean);
    return !(g * size <= 1e-30f) & !(away <= 1e-6f * g * size);
}

static inline gated_row gated_row_of(float dg, float du, const float stat[ROW_STATS], int E) {
    const double s = (double)stat[ROW_SPREAD], m = sqrt(E / 2.0) * (double)stat[ROW_MEAN] * ((double)dg - (double)du),
                 a = (double)dg * s, b = (double)du * s, scale = 1 / sqrt(a * a + b * b + m * m);
    return (gated_row){(float)(a * scale), (float)(b * scale), (float)(m * scale)};
}

// For a row x of E numbers.
static inline void row_stats_of(float stat[ROW_STATS], const float *x, int E) {
    double sum = 0, square = 0;
    float least = x[0], most = x[0];
    for (int e = 0; e < E; e++) {
        sum += (double)x[e];
        least = x[e] < least ? x[e] : least;
        most = x[e] > most ? x[e] : most;
    }
    for (int e = 0; e < E; e++) square += ((double)x[e] - sum / E) * ((double)x[e] - sum / E);
    stat[ROW_MEAN] = (float)(sum / E), stat[ROW_SPREAD] = (float)sqrt(square);
    stat[ROW_LEAST] = least, stat[ROW_MOST] = most;
}
