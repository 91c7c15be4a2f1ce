// cuda_criteria - what criteria are made of: sums over units, over rows of a weight's gradient, correlations (kernels
// in cuda_criteria_units.cu, _columns.cu, _spectra.cu, _weights.cu).
#include "cuda_host.h"
#include "cuda_round.h"
#include <limits.h>

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
    for (int at = 0, rows; units && whole_spans(&spans, s, n, &at, &rows);)
        cuda_launch_unit_sums(sums, which, x, from, units, &spans, g->stream);
    LAUNCHED("unit_sums");
}

void cuda_sign_dets(double *sums, const float *act, int ld, int D, int from, int units, const span *s, int n) {
    cuda_spans spans;
    for (int at = 0, rows; units && whole_spans(&spans, s, n, &at, &rows);)
        cuda_launch_sign_dets(sums, act, ld, D, from, units, rows, &spans, g->stream);
    LAUNCHED("sign_dets");
}

void cuda_head_spectra(double *sums, const float *grad, int ld, int D, int from, int units, const span *s, int n) {
    cuda_spans spans;
    for (int at = 0, rows; units && whole_spans(&spans, s, n, &at, &rows);)
        cuda_launch_head_spectra(sums, grad, ld, D, from, units, rows, &spans, g->stream);
    LAUNCHED("head_spectra");
}

void cuda_neuron_spectra(double *sums, const float *dz, const float *corr, const float *most, int F, int from,
                         int units, const span *s, int n) {
    for (int i = 0; i < n && units; i++, sums += (size_t)units * USUMS) {
        cuda_launch_neuron_spectra(sums, dz + (size_t)s[i].row * (size_t)F, corr, most + s[i].row, F, from, units,
                                   s[i].n, g->stream);
        corr += (size_t)s[i].n * (size_t)s[i].n;
    }
    LAUNCHED("neuron_spectra");
}

void cuda_gated_spectra(double *sums, const float *dg, const float *du, const float *corr, const float *stat, int E,
                        int F, int from, int units, const span *s, int n) {
    for (int i = 0; i < n && units; i++, sums += (size_t)units * USUMS) {
        const size_t first = (size_t)s[i].row * (size_t)F;
        cuda_launch_gated_spectra(sums, dg + first, du + first, corr, stat + (size_t)s[i].row * ROW_STATS, E, F, from,
                                  units, s[i].n, g->stream);
        corr += (size_t)s[i].n * (size_t)s[i].n;
    }
    LAUNCHED("gated_spectra");
}

void cuda_row_stats(float *stat, const float *x, int E, const span *s, int n) {
    cuda_spans spans;
    EACH_ROWS cuda_launch_row_stats(stat, x, E, &spans, g->stream);
    LAUNCHED("row_stats");
}

// Where a matrix begins among those of a batch depends on the others, and cuBLAS's choice of kernel on its alignment.
// So what cuBLAS writes is made at one place of the workspace, and rows of an odd width that it reads are copied there
// (a sequence that is too long for that, at a width that no published model has, keeps its place).

// The rows of span s of x, E floats each, to be read by cuBLAS; *ld: floats from row to row.
static const float *aligned_rows(const float *x, int E, const span *s, size_t room, int *ld) {
    const float *from = x + (size_t)s->row * (size_t)E;
    const size_t bytes = (size_t)s->n * (size_t)gpu_even(E, 4) * sizeof *x;
    *ld = E;
    if (E % 4 == 0 || !s->n || bytes > room) return from;
    *ld = gpu_even(E, 4);
    float *even = gpu_work(bytes);
    cuda_launch_copy_rows(even, *ld, from, E, s->n, E, false, g->stream);
    return even;
}

// How many rows of correlations with all n rows fit into `bytes`, from row j on.
static int correlated_rows(int n, int j, size_t bytes) {
    const int most = (int)(bytes / sizeof(float)) / gpu_even(n, 4), some = most > 64 ? most / 64 * 64 : 1;
    return n - j < some ? n - j : some;
}

void cuda_correlate(float *corr, float *most, float *work, const float *x, int E, const span *s, int n) {
    const float one = 1, zero = 0;
    cuda_spans spans;
    for (int at = 0; gpu_spans(&spans, s, n, &at, 1, CUDA_WARPS, true);)
        cuda_launch_centre_rows(work, most, x, E, &spans, g->stream);
    LAUNCHED("correlate");
    const size_t tile_bytes = E % 4 ? g->work_bytes / 2 : g->work_bytes;
    for (int i = 0; i < n; corr += (size_t)s[i].n * (size_t)s[i].n, i++) {
        const gpu_work_point mark = gpu_work_mark();
        int ld;
        float *tile = gpu_work(tile_bytes);
        const float *y = aligned_rows(work, E, &s[i], g->work_bytes - tile_bytes, &ld);
        for (int j = 0, some; j < s[i].n; j += some) {
            some = correlated_rows(s[i].n, j, tile_bytes);
            BLAS(cublasSgemm(g->blas, CUBLAS_OP_T, CUBLAS_OP_N, s[i].n, some, E, &one, y, ld,
                             y + (size_t)j * (size_t)ld, ld, &zero, tile, gpu_even(s[i].n, 4)));
            cuda_launch_copy_rows(corr + (size_t)j * (size_t)s[i].n, s[i].n, tile, gpu_even(s[i].n, 4), some, s[i].n,
                                  false, g->stream);
        }
        gpu_work_release(mark);
    }
    LAUNCHED("correlate");
}

void cuda_column_moments(double *moments, const float *x, int ld, bool relu, int from, int cols, const span *s, int n) {
    cuda_spans spans;
    for (int at = 0, rows; cols && whole_spans(&spans, s, n, &at, &rows);)
        cuda_launch_column_moments(moments, x, ld, relu, from, cols, &spans, g->stream);
    LAUNCHED("column_moments");
}

void cuda_column_squares(double *squares, const weight *w) {
    if (!w->cols) return;
    const gpu_work_point mark = gpu_work_mark();
    double *on_device = gpu_work((size_t)w->cols * sizeof *on_device);
    cuda_launch_column_squares(on_device, w->data, w->type, w->rows, w->cols, w->turned, g->stream);
    LAUNCHED("column_squares");
    cuda_get(squares, on_device, (size_t)w->cols * sizeof *squares);
    gpu_work_release(mark);
}

// ---------------------------------------------------------------- rows of a weight's gradient
// dz' x of a span, or with a tangent of one of them in its place, [1].
typedef struct {
    const weight *w;
    const float *dz[2], *x[2];
    int ldx[2];
    const span *s;
    float *even;  // NULL, or room for columns of dz where its rows are not all aligned (cuda_transformer_linear.c)
} gradient;

// to [n, E] = rows from.. of it, or added to what is there.
static void add_gradient(const gradient *of, gpu_gradient *rounded, float *to, int tdz, int tx, int from, int n,
                         bool add) {
    const int E = of->w->cols, F = of->w->rows;
    const float one = 1, beta = add ? 1 : 0, *dz = of->dz[tdz] + (size_t)of->s->row * (size_t)F + from;
    if (rounded->w) {
        gpu_gradient_add(rounded, to, tdz, tx, from, n, add);
        return;
    }
    if (of->even && of->s->n) cuda_launch_copy_rows(of->even, gpu_even(n, 4), dz, F, of->s->n, n, false, g->stream);
    BLAS(cublasSgemm(g->blas, CUBLAS_OP_N, CUBLAS_OP_T, E, n, of->s->n, &one, of->x[tx], of->ldx[tx],
                     of->even ? of->even : dz, of->even ? gpu_even(n, 4) : F, &beta, to, E));
}

void cuda_weight_sums(double *sums, const float *dz, const float *x, const float *tdz, const float *tx, const weight *w,
                      int from, int rows, bool add, const span *s) {
    const int E = w->cols;
    if (!rows || !E) return;
    const gpu_work_point mark = gpu_work_mark();
    const size_t floats = (g->work_bytes - (w->narrow ? ROUND_BYTES : 0)) / sizeof(float);
    const bool odd = w->rows % 4 != 0 && !w->narrow;
    gradient of = {w, {dz, tdz}, {x, tx}, {E, E}, s, NULL};
    gpu_gradient rounded = {.columns = INT_MAX};
    if (w->narrow && s->n) gpu_gradient_begin(&rounded, w, of.dz, of.x, s);
    const size_t room = floats / 4;  // of each of x and tx; what is over is that of the sums below
    for (int k = 0; k < 2 && !w->narrow; k++)
        if (of.x[k]) of.x[k] = aligned_rows(of.x[k], E, s, room * sizeof(float), &of.ldx[k]);
    const size_t left = E % 4 && !w->narrow ? floats - 2 * room : floats;
    int step = (int)(left / (2 * (size_t)E + (odd ? (size_t)s->n : 0)));
    if (step > 64) step = step / 64 * 64;
    if (step > rounded.columns) step = rounded.columns;
    ASSERT(step > 0);
    if (odd) of.even = gpu_work((size_t)s->n * (size_t)gpu_even(step, 4) * sizeof *of.even);
    float *grad = gpu_work((size_t)step * (size_t)E * sizeof *grad),
          *tangent = gpu_work((size_t)step * (size_t)E * sizeof *grad);
    for (int j = 0, n; j < rows; j += n) {
        n = rows - j < step ? rows - j : step;
        add_gradient(&of, &rounded, grad, 0, 0, from + j, n, false);
        if (tdz) {
            add_gradient(&of, &rounded, tangent, 1, 0, from + j, n, false);
            add_gradient(&of, &rounded, tangent, 0, 1, from + j, n, true);
        }
        const char *rows_of_w = (const char *)w->data + (size_t)(from + j) * (size_t)E * dtype_bytes(w->type);
        cuda_launch_weight_sums(sums + (size_t)j * WSUMS, rows_of_w, w->type, grad, tdz ? tangent : NULL, n, E, add,
                                g->stream);
        LAUNCHED("weight_sums");
    }
    gpu_work_release(mark);
}
