// cuda_transformer_linear - linear maps and their gradients. Of few rows by kernels of our own, which read a weight as
// it is, once for all spans (cuda_few_rows.cu); of more by cuBLAS: one call per span, so that its shape, and with it
// cuBLAS's choice of kernel, depends on that span alone. No product is less than fp32 (no TF32, nothing is rounded to
// 16 bits) unless 16-bit activations were asked for (cuda_round.h): 16-bit weights meet rows that are split exactly
// into 16-bit parts (cuda_split.cu).
//
// cuBLAS chooses by alignment, too. Rows of a width that is no multiple of 4 floats begin at another alignment in
// another place of a batch, so they pass through the workspace, where every row is aligned; parts of 16 bits and their
// sums always do.
#include "cuda_few_rows.h"
#include "cuda_linear.h"
#include "cuda_round.h"
#include "cuda_transformer_attention.h"
#include <stdlib.h>

static void zero_rows(float *y, int width, const span *s, int n) {
    for (int i = 0; i < n; i++)
        cuda_zero(y + (size_t)s[i].row * (size_t)width, (size_t)s[i].n * (size_t)width * sizeof *y);
}

gpu_product gpu_product_of(float *y, const weight *w, const weight *bias, bool back, bool add) {
    return (gpu_product){y, w->turned ? weight_transpose(w) : *w, bias, back != w->turned, add};
}

bool gpu_alike(const weight *a, const weight *b) {
    return a->type == b->type && a->cols == b->cols && !a->narrow == !b->narrow && a->turned == b->turned && a->rows &&
           b->rows && a->cols;
}

// y [rows, some] of distance ldy, its columns j.. = x [rows, in] of distance ld times W. cuBLAS counts by columns, so a
// row-major matrix is its transpose there: y' = W x' for y = x W'.
static void multiply(const gpu_product *p, float *y, int ldy, const void *x, int ld, cudaDataType_t type, int j,
                     int some, int rows, float beta) {
    const size_t at = p->back ? (size_t)j : (size_t)j * (size_t)p->w.cols;
    const float one = 1;
    BLAS(cublasGemmEx(g->blas, p->back ? CUBLAS_OP_N : CUBLAS_OP_T, CUBLAS_OP_N, some, rows, gpu_in(p), &one,
                      (const char *)p->w.data + at * dtype_bytes(p->w.type), type, p->w.cols, x, type, ld, &beta, y,
                      CUDA_R_32F, ldy, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
}

// fp32 weights. Rows of odd widths through the workspace, as many at a time as it holds.
static void multiply_wide(const gpu_product *p, const float *x, const span *s, int n) {
    const int in = gpu_in(p), out = gpu_out(p), ldx = gpu_even(in, 4), ldy = gpu_even(out, 4);
    const bool odd = ldx != in || ldy != out;
    const int room = g->work_bytes / (int)sizeof(float) / (ldx + ldy);
    ASSERT(room > 0);
    const gpu_work_point mark = gpu_work_mark();
    float *xs = odd ? gpu_work((size_t)room * (size_t)ldx * sizeof *xs) : NULL,
          *ys = odd ? gpu_work((size_t)room * (size_t)ldy * sizeof *ys) : NULL;
    for (int i = 0; i < n; i++)
        for (int t = 0, rows; t < s[i].n; t += rows) {
            const float *from = x + (size_t)(s[i].row + t) * (size_t)in;
            float *to = p->y + (size_t)(s[i].row + t) * (size_t)out;
            rows = odd && s[i].n - t > room ? room : s[i].n - t;
            if (odd) cuda_launch_copy_rows(xs, ldx, from, in, rows, in, false, g->stream);
            multiply(p, odd ? ys : to, ldy, odd ? xs : from, ldx, CUDA_R_32F, 0, out, rows, !odd && p->add);
            if (odd) cuda_launch_copy_rows(to, out, ys, ldy, rows, out, p->add, g->stream);
        }
    gpu_work_release(mark);
    LAUNCHED("multiply_wide");
}

// How rows of one span are split, and as many of their products' columns at a time as sums hold.
typedef struct {
    uint16_t *parts;
    int *shifts, ld;
    float *sums;
    size_t sum_bytes;
} splits;

// By tensor cores: x as three rows of 16-bit numbers, stacked, so that one product reads W once, with sums in fp32.
static void join_product(const gpu_product *p, const splits *x, int row, int rows) {
    const bool half = p->w.type == DT_F16;
    const int out = gpu_out(p), most = (int)(x->sum_bytes / sizeof(float)) / (CUDA_SPLIT * rows) / 64 * 64;
    const weight *b = p->bias;
    for (int j = 0, some; j < out; j += some) {
        some = out - j < most ? out - j : most;
        const int ld = gpu_even(some, 4);
        multiply(p, x->sums, ld, x->parts, x->ld, half ? CUDA_R_16F : CUDA_R_16BF, j, some, CUDA_SPLIT * rows, 0);
        cuda_launch_join(p->y + (size_t)row * (size_t)out + j, out, x->sums, ld, x->shifts, half,
                         b ? (const char *)b->data + (size_t)j * dtype_bytes(b->type) : NULL, b ? (int)b->type : 0,
                         rows, some, p->add, g->stream);
    }
}

static void multiply_split(const gpu_product *p, int products, const float *x, const span *s, int n) {
    const int in = gpu_in(p), ld = gpu_even(in, 8);
    const size_t part_bytes = g->work_bytes / 2, each = CUDA_SPLIT * (size_t)ld * sizeof(uint16_t) + sizeof(int),
                 sum_bytes = g->work_bytes - part_bytes, least = CUDA_SPLIT * 64 * sizeof(float);
    const size_t room = part_bytes / each < sum_bytes / least ? part_bytes / each : sum_bytes / least;
    ASSERT(room > 0);
    const gpu_work_point mark = gpu_work_mark();
    splits x3 = {.ld = ld, .sum_bytes = sum_bytes};
    x3.shifts = gpu_work(room * sizeof *x3.shifts);
    x3.parts = gpu_work(part_bytes - room * sizeof *x3.shifts);
    x3.sums = gpu_work(sum_bytes);
    for (int i = 0; i < n; i++)
        for (int t = 0, rows; t < s[i].n; t += rows) {
            rows = s[i].n - t < (int)room ? s[i].n - t : (int)room;
            cuda_launch_split(x3.parts, x3.shifts, p->w.type == DT_F16, ld, x + (size_t)(s[i].row + t) * (size_t)in, in,
                              rows, in, g->stream);
            for (int k = 0; k < products; k++) join_product(&p[k], &x3, s[i].row + t, rows);
        }
    gpu_work_release(mark);
    LAUNCHED("multiply_split");
}

// y = bias, or added to y, and the product added to that.
static gpu_product after_bias(const gpu_product *p, const span *s, int n) {
    gpu_product rest = *p;
    cuda_spans spans;
    if (!p->bias) return rest;
    for (int at = 0; gpu_spans(&spans, s, n, &at, gpu_out(p), CUDA_CHUNK, true);)
        cuda_launch_bias(p->y, p->bias->data, p->bias->type, p->add, gpu_out(p), &spans, g->stream);
    LAUNCHED("bias");
    rest.add = true;
    return rest;
}

void gpu_multiply(const gpu_product *p, int products, const float *x, const span *s, int n) {
    if (!p->w.narrow && p->w.type != DT_F32) {
        multiply_split(p, products, x, s, n);
        return;
    }
    gpu_product rest[SUBLAYER_MAPS];
    ASSERT(products <= SUBLAYER_MAPS);
    for (int k = 0; k < products; k++) rest[k] = after_bias(&p[k], s, n);
    if (p->w.narrow)
        gpu_multiply_rounded(rest, products, x, s, n, p->back ? "linear_back" : "linear");
    else
        for (int k = 0; k < products; k++) multiply_wide(&rest[k], x, s, n);
}

// Of spans of few rows, which read rows of the weight, or of the transpose that it holds.
static void multiply_few(float *y, const float *x, const weight *w, const weight *bias, bool add, const span *s,
                         int n) {
    if (!w->turned) {
        gpu_few_rows(y, x, w, 0, bias, add, false, 1, gpu_all_units(w->rows), s, n);
        return;
    }
    const weight t = weight_transpose(w);
    if (!add) zero_rows(y, w->rows, s, n);
    gpu_few_rows_t(y, x, &t, 0, bias, 1, gpu_all_units(t.rows), s, n);
}

// The way is chosen by a span's own rows.
void cuda_linear(float *y, const float *x, const weight *w, const weight *bias, bool add, const span *s, int n) {
    const int out = w->rows, in = w->cols;
    const bool ours = in && out && !w->narrow;
    const gpu_product p = gpu_product_of(y, w, bias, false, add);
    if (!out) return;
    if (!in) {
        if (!add && !bias) zero_rows(y, out, s, n);
        after_bias(&p, s, n);
        return;
    }
    span *few = ours ? gpu_spans_of(s, n, true) : NULL, *more = ours ? gpu_spans_of(s, n, false) : NULL;
    if (ours) multiply_few(y, x, w, bias, add, few, n);
    gpu_multiply(&p, 1, x, ours ? more : s, n);
    free(few);
    free(more);
}

void cuda_linear_back(float *dx, const float *dy, const weight *w, bool add, const span *s, int n) {
    const gpu_product p = gpu_product_of(dx, w, NULL, true, add);
    if (!w->rows && !add) zero_rows(dx, w->cols, s, n);
    if (w->rows && w->cols) gpu_multiply(&p, 1, dy, s, n);
}

// dw += dy' x of neighbouring rows; those of odd widths through the workspace, as many at a time as it holds.
static void add_grad(float *dw, const float *dy, const float *x, int out, int in, int rows) {
    const int ldx = gpu_even(in, 4), ldy = gpu_even(out, 4), room = g->work_bytes / (int)sizeof(float) / (ldx + ldy);
    const bool odd = ldx != in || ldy != out;
    const float one = 1;
    const gpu_work_point mark = gpu_work_mark();
    float *xs = odd ? gpu_work((size_t)room * (size_t)ldx * sizeof *xs) : NULL,
          *ys = odd ? gpu_work((size_t)room * (size_t)ldy * sizeof *ys) : NULL;
    for (int t = 0, some; t < rows; t += some, dy += (size_t)some * (size_t)out, x += (size_t)some * (size_t)in) {
        some = odd && rows - t > room ? room : rows - t;
        if (odd) {
            cuda_launch_copy_rows(xs, ldx, x, in, some, in, false, g->stream);
            cuda_launch_copy_rows(ys, ldy, dy, out, some, out, false, g->stream);
        }
        BLAS(cublasSgemm(g->blas, CUBLAS_OP_N, CUBLAS_OP_T, in, out, some, &one, odd ? xs : x, ldx, odd ? ys : dy, ldy,
                         &one, dw, in));
    }
    gpu_work_release(mark);
}

void cuda_linear_grad(float *dw, float *db, const float *dy, const float *x, int out, int in, const span *s, int n) {
    for (int i = 0, next; i < n; i = next) {
        int rows = s[i].n;  // neighbouring spans make one product
        for (next = i + 1; next < n && s[next].row == s[i].row + rows; next++) rows += s[next].n;
        if (!rows || !out) continue;
        const float *dys = dy + (size_t)s[i].row * (size_t)out, *xs = x + (size_t)s[i].row * (size_t)in;
        if (in) add_grad(dw, dys, xs, out, in, rows);
        if (db) cuda_launch_column_sums(db, dy, s[i].row, rows, out, g->stream);
    }
    LAUNCHED("linear_grad");
}
