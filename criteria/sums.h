// sums - the sums over units that criteria declare (CRIT_SUM), by operations of a device.
#pragma once
#include "criterion.h"

// Arrays of a layer in the device's memory. corr, most, dz: of neurons (correlate of ops.h; dL/dz), corr of the first
// span on; of gated ones instead of most, dz: dg, du, stat (row_stats), E.
typedef struct {
    unit_taps taps;
    const float *corr, *most, *dz, *dg, *du, *stat;
    int E;
} sum_taps;

// Sets the columns that `needs` names in sums [n, units, USUMS] (the device's memory), of units from.. over each span.
void sums_take(const ops *o, double *sums, unsigned needs, const sum_taps *x, int from, int units, const span *s,
               int n);
// Whether they need corr and most.
bool sums_correlate(unsigned needs_neurons);
