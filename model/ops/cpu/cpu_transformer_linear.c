// cpu_transformer_linear - linear maps and their gradients, as tiles of one sequence each, which OpenMP shares out. A
// tile is one CBLAS call. Sequences of few rows have another way (cpu_thin.h). Weights of 16 bits or in blocks are
// widened, exactly, a tile at a time. Of a turned weight x W' is the product with the rows that it holds, as dy W is of
// another.
#include "cpu_bf16.h"
#include "cpu_gemm.h"
#include "cpu_thin.h"
#include "simd.h"
#include <cblas.h>

enum { CHUNK = 512 };  // rows of a weight widened at a time in linear_back

// Columns j0.. of y = x W' + b, for one span.
static void linear_tile(float *y, const float *x, const weight *w, const float *b, bool add, const span *s, int j0,
                        int cols) {
    const int out = w->rows, in = w->cols, rows = s->n;
    const scratch_point mark = scratch_mark();
    const float *wt = cpu_weight_rows(w, j0, cols), *bt = b ? b + j0 : NULL, *xs = x + (size_t)s->row * in;
    float *ys = y + (size_t)s->row * out + j0;
    if (bt)
        for (int t = 0; t < rows; t++)
            for (int j = 0; j < cols; j++) ys[(size_t)t * out + j] = bt[j] + (add ? ys[(size_t)t * out + j] : 0);
    // BLAS wants a leading dimension of at least 1 even of an empty matrix
    const int ld = in ? in : 1;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, cols, in, 1, xs, ld, wt, ld, add || bt ? 1 : 0, ys, out);
    scratch_release(mark);
}

// y = x W' + b, or y += x W' + b, for the spans of many rows.
static void linear_many(float *y, const float *x, const weight *w, const float *b, bool add, const span *s, int n) {
    const int out = w->rows, width = cpu_tile_width(out), tiles = (out + width - 1) / width;
#pragma omp parallel for schedule(dynamic) collapse(2)
    for (int tile = 0; tile < tiles; tile++)
        for (int i = 0; i < n; i++) {
            const int j0 = tile * width, left = out - j0;
            if (s[i].n >= CPU_THIN) linear_tile(y, x, w, b, add, &s[i], j0, left < width ? left : width);
        }
}

// Columns k0.. of dx = dy W, for one span of at least a row.
static void linear_back_tile(float *dx, const float *dy, const weight *w, bool add, const span *s, int k0, int cols) {
    const int out = w->rows, in = w->cols, rows = s->n;
    const float *dys = dy + (size_t)s->row * out;
    float *dxs = dx + (size_t)s->row * in + k0;
    if (w->wide || w->type == DT_F32 || !out) {
        const float *whole = w->wide ? w->wide : w->data;
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, rows, cols, out, 1, dys, out ? out : 1, whole + k0, in,
                    add ? 1 : 0, dxs, in);
        return;
    }
    const scratch_point mark = scratch_mark();
    float *wide = scratch_floats((size_t)CHUNK * cols);
    for (int j0 = 0; j0 < out; j0 += CHUNK) {
        const int some = out - j0 < CHUNK ? out - j0 : CHUNK;
        for (int j = 0; j < some; j++) cpu_widen(wide + (size_t)j * cols, w, j0 + j, k0, cols);
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, rows, cols, some, 1, dys + j0, out, wide, cols,
                    add || j0 ? 1 : 0, dxs, in);
    }
    scratch_release(mark);
}

// dx = dy W, or dx += dy W, for the spans of at least so many rows.
static void linear_back_many(float *dx, const float *dy, const weight *w, bool add, const span *s, int n, int least) {
    const int in = w->cols, width = cpu_tile_width(in), tiles = (in + width - 1) / width;
#pragma omp parallel for schedule(dynamic) collapse(2)
    for (int tile = 0; tile < tiles; tile++)
        for (int i = 0; i < n; i++) {
            const int k0 = tile * width, left = in - k0;
            if (s[i].n >= least) linear_back_tile(dx, dy, w, add, &s[i], k0, left < width ? left : width);
        }
}

// The same, by kernels of our own where they take the weight.
static void many_rows(float *y, const float *x, const weight *w, const float *b, bool add, const span *s, int n) {
    if (gemm_takes(w, w->cols))
        gemm_rows(y, x, w, b, false, add, s, n, CPU_THIN);
    else
        linear_many(y, x, w, b, add, s, n);
}
static void many_back(float *dx, const float *dy, const weight *w, bool add, const span *s, int n, int least) {
    if (gemm_takes(w, w->rows))
        gemm_rows(dx, dy, w, NULL, true, add, s, n, least);
    else
        linear_back_many(dx, dy, w, add, s, n, least);
}

// y = x W' + b of a turned weight, which holds Wt = W'.
static void turned_linear(float *y, const float *x, const weight *wt, const float *b, bool add, const span *s, int n) {
    const int out = wt->cols;
    for (int i = 0; i < n; i++)
        for (int t = s[i].row; t < s[i].row + s[i].n; t++) {
            float *row = y + (size_t)t * (size_t)out;
            if (!add) memset(row, 0, sizeof *row * (size_t)out);
            for (int j = 0; j < out && b && s[i].n >= CPU_THIN; j++) row[j] += b[j];
        }
    cpu_thin_transposed(y, x, wt, b, 1, NULL, s, n);
    if (!cpu_has_many(s, n)) return;
    many_back(y, x, wt, true, s, n, CPU_THIN);
}

static void linear_rest(const cpu_product *p, const span *s, int n) {
    if (p->int8 && cpu_int8_has_panels()) {
        cpu_int8_many(p, NULL, 1, s, n);
        return;
    }
    const float *x = p->int8 ? cpu_int8_rounded(p->x, p->w->cols, s, n) : p->x;
    many_rows(p->y, x, p->w, p->b, p->add, s, n);
}

// The spans of few rows, at their places among the others, which become empty: in scratch memory of the caller's mark.
static const span *few_rows(const span *s, int n) {
    span *few = scratch_take(sizeof *few * (size_t)n);
    for (int i = 0; i < n; i++) few[i] = s[i].n < CPU_THIN ? s[i] : (span){s[i].row, 0};
    return few;
}

void cpu_linear(float *y, const float *x, const weight *w, const weight *bias, bool add, const span *s, int n) {
    const double start = clock_s();
    const scratch_point mark = scratch_mark();
    const float *b = cpu_vector(bias);
    if (cpu_has_many(s, n) && cpu_bf16(w)) {
        bf16_many(bf16_set(), &(bf16_product){y, x, w, b, add, false}, s, n, CPU_THIN, "linear");
        s = few_rows(s, n);
    }
    x = cpu_rounded(x, w->cols, w, s, n, "linear");
    if (w->turned) {
        const weight wt = weight_transpose(w);
        turned_linear(y, x, &wt, b, add, s, n);
    } else {
        const cpu_product p = {y, x, w, b, add, false, cpu_int8(w)};
        cpu_thin_product(&p, NULL, 1, s, n);
        // asked here, since as a clause of OpenMP it would cost each product of few rows a third of a microsecond
        if (cpu_has_many(s, n)) linear_rest(&p, s, n);
    }
    scratch_release(mark);
    ops_seconds_gemm += clock_s() - start;
}

static void linear_back_rounded(float *dx, const float *dy, const weight *w, bool add, const span *s, int n) {
    if (!w->turned) {
        many_back(dx, dy, w, add, s, n, 1);
        return;
    }
    const weight wt = weight_transpose(w);  // dx = dy W is the product with the rows that it holds
    cpu_thin_product(&(cpu_product){dx, dy, &wt, NULL, add, false, false}, NULL, 1, s, n);
    many_rows(dx, dy, &wt, NULL, add, s, n);
}

void cpu_linear_back(float *dx, const float *dy, const weight *w, bool add, const span *s, int n) {
    const double start = clock_s();
    const scratch_point mark = scratch_mark();
    if (cpu_bf16(w))
        bf16_many(bf16_set(), &(bf16_product){dx, dy, w, NULL, add, true}, s, n, 1, "linear_back");
    else
        linear_back_rounded(dx, cpu_rounded(dy, w->rows, w, s, n, "linear_back"), w, add, s, n);
    scratch_release(mark);
    ops_seconds_gemm += clock_s() - start;
}

HOT static void column_sums(float *to, const float *x, int rows, int cols, int ld) {
    double sum[128] = {0};
    ASSERT(cols <= 128);
    for (int t = 0; t < rows; t++)
        for (int j = 0; j < cols; j++) sum[j] += (double)x[(size_t)t * ld + j];
    for (int j = 0; j < cols; j++) to[j] += (float)sum[j];
}

void cpu_linear_grad(float *dw, float *db, const float *dy, const float *x, int out, int in, const span *s, int n) {
    const double start = clock_s();
    const int width = out <= 256 ? 64 : 128, tiles = (out + width - 1) / width;
#pragma omp parallel for schedule(dynamic)
    for (int tile = 0; tile < tiles; tile++) {
        const int j0 = tile * width, cols = out - j0 < width ? out - j0 : width;
        for (int i = 0, next; i < n; i = next) {
            int rows = s[i].n;  // neighbouring spans make one product
            for (next = i + 1; next < n && s[next].row == s[i].row + rows; next++) rows += s[next].n;
            const float *dys = dy + (size_t)s[i].row * out + j0, *xs = x + (size_t)s[i].row * in;
            cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, cols, in, rows, 1, dys, out, xs, in ? in : 1, 1,
                        dw + (size_t)j0 * in, in ? in : 1);
            if (db) column_sums(db + j0, dys, rows, cols, out);
        }
    }
    ops_seconds_gemm += clock_s() - start;
}
