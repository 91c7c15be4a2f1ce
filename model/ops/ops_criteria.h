// ops_criteria - what pruning criteria are made of: sums over the tokens of each unit. A group of ops.h. All but
// correlate and weight_sums may be called by several threads at once where the memory is the host's.

// sums [rows, WSUMS] in the device's memory (or added to them), of rows from.. of W (F, E) over one span: G = dz' x,
// H = tdz' x + dz' tx (0 where tdz is NULL)
OP(void, weight_sums,
   (double *sums, const float *dz, const float *x, const float *tdz, const float *tx, const weight *w, int from,
    int rows, bool add, const span *s))
// The next four: sums [n, units, USUMS] in the device's memory, of units from..
// The columns that `which` names (bits 1 << USUM_..), up to USUM_OUT; the other columns stay.
OP(void, unit_sums, (double *sums, unsigned which, const unit_taps *x, int from, int units, const span *s, int n))
OP(void, sign_dets, (double *sums, const float *act, int ld, int D, int from, int units, const span *s, int n))
// From the rows grad[t] of a unit that are neither zero nor constant (corr.h); where more than fit, evenly spread:
// number floor(i m / n) of m. A neuron's rows are dz[t] x[t], whose correlations are those of x but for signs: corr and
// most as correlate makes them.
OP(void, head_spectra, (double *sums, const float *grad, int ld, int D, int from, int units, const span *s, int n))
OP(void, neuron_spectra,
   (double *sums, const float *dz, const float *corr, const float *most, int F, int from, int units, const span *s,
    int n))
// most[row] = max |x| of a row (rows, E), 0 where it is zero or constant. corr: the Pearson correlations [n, n] of the
// rows of each span, one span's after the other's. work (rows, E) is scratch.
OP(void, correlate, (float *corr, float *most, float *work, const float *x, int E, const span *s, int n))
// moments [n, cols, 2] in the device's memory, of columns from.. of x (rows, ld), or of max(x, 0), over each span: the
// mean, and the sum of the squared deviations from it; 0 and 0 of a span without rows
OP(void, column_moments, (double *moments, const float *x, int ld, bool relu, int from, int cols, const span *s, int n))
// squares [cols] in host memory: of each column of W the sum of its squares
OP(void, column_squares, (double *squares, const weight *w))
// stat [rows, ROW_STATS] of rows x (rows, E) (unit_sums.h)
OP(void, row_stats, (float *stat, const float *x, int E, const span *s, int n))
// neuron_spectra of gated neurons, whose row at token t is (dg[t] x[t], du[t] x[t]), 2 E numbers; corr as correlate
// makes it of x
OP(void, gated_spectra,
   (double *sums, const float *dg, const float *du, const float *corr, const float *stat, int E, int F, int from,
    int units, const span *s, int n))
