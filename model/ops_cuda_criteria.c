// ops_cuda_criteria - the operations of the CUDA table that criteria are made of: sums over units, correlations (kernels in cuda_units.cu, cuda_spectra.cu).
#include "ops_cuda.h"

// Spans from *at on, as many as a launch takes, whole; their longest in *rows.
static bool whole_spans(cuda_spans *out, const span *s, int n, int *at, int *rows) {
    out->n = *rows = 0;
    for (; *at < n && out->n < CUDA_SPANS; ++*at) {
        out->s[out->n++] = (cuda_span){s[*at].row, s[*at].n, 0, *at};
        if (s[*at].n > *rows) *rows = s[*at].n;
    }
    return out->n > 0;
}

void cuda_unit_sums(double *sums, unsigned which, const unit_taps *x, int from, int units, const span *s, int n) {
    cuda_spans spans;
    for (int at = 0, rows; units && whole_spans(&spans, s, n, &at, &rows);) cuda_launch_unit_sums(sums, which, x, from, units, &spans, g->stream);
    LAUNCHED("unit_sums");
}

void cuda_sign_dets(double *sums, const float *act, int ld, int D, int from, int units, const span *s, int n) {
    cuda_spans spans;
    for (int at = 0, rows; units && whole_spans(&spans, s, n, &at, &rows);) cuda_launch_sign_dets(sums, act, ld, D, from, units, rows, &spans, g->stream);
    LAUNCHED("sign_dets");
}

void cuda_head_spectra(double *sums, const float *grad, int ld, int D, int from, int units, const span *s, int n) {
    cuda_spans spans;
    for (int at = 0, rows; units && whole_spans(&spans, s, n, &at, &rows);) cuda_launch_head_spectra(sums, grad, ld, D, from, units, rows, &spans, g->stream);
    LAUNCHED("head_spectra");
}

void cuda_neuron_spectra(double *sums, const float *dz, const float *corr, const float *most, int F, int from, int units, const span *s, int n) {
    for (int i = 0; i < n && units; i++, sums += (size_t)units * USUMS) {
        cuda_launch_neuron_spectra(sums, dz + (size_t)s[i].row * (size_t)F, corr, most + s[i].row, F, from, units, s[i].n, g->stream);
        corr += (size_t)s[i].n * (size_t)s[i].n;
    }
    LAUNCHED("neuron_spectra");
}

void cuda_correlate(float *corr, float *most, float *work, const float *x, int E, const span *s, int n) {
    const float one = 1, zero = 0;
    cuda_spans spans;
    for (int at = 0; gpu_spans(&spans, s, n, &at, 1, CUDA_WARPS, true);) cuda_launch_centre_rows(work, most, x, E, &spans, g->stream);
    LAUNCHED("correlate");
    for (int i = 0; i < n; corr += (size_t)s[i].n * (size_t)s[i].n, i++) {
        const float *y = work + (size_t)s[i].row * (size_t)E;
        if (s[i].n) BLAS(cublasSgemm(g->blas, CUBLAS_OP_T, CUBLAS_OP_N, s[i].n, s[i].n, E, &one, y, E, y, E, &zero, corr, s[i].n));
    }
}
