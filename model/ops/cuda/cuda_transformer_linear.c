// cuda_transformer_linear - linear maps and their gradients. Of few rows by kernels of our own, which read a weight as
// it is, once for all spans (cuda_few_rows.cu); of more by cuBLAS: one call per span, so that its shape, and with it
// cuBLAS's choice of kernel, depends on that span alone. No product is less than fp32 (no TF32, nothing is rounded to
// 16 bits) unless 16-bit activations were asked for (cuda_round.h): 16-bit weights meet rows that are split exactly
// into 16-bit parts.
//
// cuBLAS chooses by alignment, too. Rows of a width that is no multiple of 4 floats begin at another alignment in
// another place of a batch, so they pass through the workspace, where every row is aligned; parts of 16 bits always do.
#include "cuda_few_rows.h"
#include "cuda_round.h"
#include <stdlib.h>

static void zero_rows(float *y, int width, const span *s, int n) {
    for (int i = 0; i < n; i++)
        cuda_zero(y + (size_t)s[i].row * (size_t)width, (size_t)s[i].n * (size_t)width * sizeof *y);
}

// y = x W', or (back) y = x W; or added to y.
typedef struct {
    float *y;
    const float *x;
    const weight *w;
    bool back, add;
} product;
static int in_width(const product *p) { return p->back ? p->w->rows : p->w->cols; }
static int out_width(const product *p) { return p->back ? p->w->cols : p->w->rows; }

// With `some` rows of W, of this type at `tile`; x: their operand, rows of distance ld; y: their result, of distance
// ldy. cuBLAS counts by columns, so a row-major matrix is its transpose there: y' = W x' for y = x W'.
static void multiply(const product *p, float *y, int ldy, const void *x, int ld, const void *tile, cudaDataType_t type,
                     int some, int rows, float beta) {
    const int in = p->back ? some : p->w->cols, out = p->back ? p->w->cols : some;
    const float one = 1;
    BLAS(cublasGemmEx(g->blas, p->back ? CUBLAS_OP_N : CUBLAS_OP_T, CUBLAS_OP_N, out, rows, in, &one, tile, type,
                      p->w->cols, x, type, ld, &beta, y, CUDA_R_32F, ldy, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
}

// Rows of a weight that fit into `bytes` with `each` bytes a number: all, or a multiple of 64, so that where a tile
// begins and how wide it is keeps what it meets aligned.
static int tile_rows(const weight *w, size_t bytes, size_t each) {
    const size_t rows = bytes / each / (size_t)w->cols;
    ASSERT(rows >= 64 || rows >= (size_t)w->rows);
    return rows < (size_t)w->rows ? (int)(rows / 64 * 64) : w->rows;
}
static const float *operand(const product *p, int row, int j) {
    return p->x + (size_t)row * (size_t)in_width(p) + (p->back ? j : 0);
}
static float *result(const product *p, int row, int j) {
    return p->y + (size_t)row * (size_t)out_width(p) + (p->back ? 0 : j);
}
static float beta_of(const product *p, int j) { return p->add || (p->back && j) ? 1 : 0; }

// fp32 weights. Rows of odd widths through the workspace, as many at a time as it holds.
static void multiply_wide(const product *p, const span *s, int n) {
    const int in = in_width(p), out = out_width(p), ldx = gpu_even(in, 4), ldy = gpu_even(out, 4);
    const bool odd = ldx != in || ldy != out;
    const int room = g->work_bytes / (int)sizeof(float) / (ldx + ldy);
    ASSERT(room > 0);
    const gpu_work_point mark = gpu_work_mark();
    float *xs = odd ? gpu_work((size_t)room * (size_t)ldx * sizeof *xs) : NULL,
          *ys = odd ? gpu_work((size_t)room * (size_t)ldy * sizeof *ys) : NULL;
    for (int i = 0; i < n; i++)
        for (int t = 0, rows; t < s[i].n; t += rows) {
            const float *from = operand(p, s[i].row + t, 0);
            float *to = result(p, s[i].row + t, 0);
            rows = odd && s[i].n - t > room ? room : s[i].n - t;
            if (odd) cuda_launch_copy_rows(xs, ldx, from, in, rows, in, false, g->stream);
            multiply(p, odd ? ys : to, ldy, odd ? xs : from, ldx, p->w->data, CUDA_R_32F, p->w->rows, rows,
                     !odd && p->add);
            if (odd) cuda_launch_copy_rows(to, out, ys, ldy, rows, out, p->add, g->stream);
        }
    gpu_work_release(mark);
    LAUNCHED("multiply_wide");
}

// By tensor cores: x as three bf16 numbers that add up to it, fp16 weights as two, so a product in fp32 is three
// products of 16-bit operands with sums in fp32, or five (the least times the least is below fp32's last digit); the
// small ones first.
static void multiply_split(const product *p, const span *s, int n) {
    const weight *w = p->w;
    const bool half = w->type == DT_F16, odd = out_width(p) % 4 != 0;
    const size_t row_bytes = g->work_bytes / 2, sum_bytes = odd ? g->work_bytes / 4 : 0,
                 tile_bytes = g->work_bytes - row_bytes - sum_bytes;
    const int step = half ? tile_rows(w, tile_bytes - WORK_ALIGN, CUDA_HALF_PARTS * sizeof(uint16_t)) : w->rows;
    const gpu_work_point mark = gpu_work_mark();
    uint16_t *pieces = gpu_work(row_bytes), *tile = half ? gpu_work(tile_bytes) : NULL;
    float *sum = odd ? gpu_work(sum_bytes) : NULL;
    static const struct { int row, weight; } term[] = {{2, 0}, {1, 1}, {1, 0}, {0, 1}, {0, 0}};
    for (int j = 0, some; j < w->rows; j += some) {
        bool made = false;
        some = w->rows - j < step ? w->rows - j : step;
        const size_t at = (size_t)j * (size_t)w->cols, count = (size_t)some * (size_t)w->cols,
                     distance = (count + 7) / 8 * 8;
        const int width = p->back ? some : w->cols, ld = gpu_even(width, 8), wide = p->back ? w->cols : some,
                  ldy = odd ? gpu_even(wide, 4) : out_width(p);
        int most = (int)(row_bytes / (CUDA_ROW_PARTS * sizeof(uint16_t)) / (size_t)ld);
        if (odd && (size_t)most * (size_t)ldy * sizeof(float) > sum_bytes)
            most = (int)(sum_bytes / sizeof(float) / (size_t)ldy);
        ASSERT(most > 0);
        for (int i = 0; i < n; i++) {
            for (int t = 0, rows; t < s[i].n; t += rows) {
                rows = s[i].n - t < most ? s[i].n - t : most;
                if (half && !made)
                    cuda_launch_split_half(tile, distance, (const uint16_t *)w->data + at, count, g->stream);
                made = true;
                cuda_launch_split_rows(pieces, ld, operand(p, s[i].row + t, j), in_width(p), rows, width, g->stream);
                LAUNCHED("split");
                float *to = result(p, s[i].row + t, j), beta = odd ? 0 : beta_of(p, j);
                for (size_t k = 0; k < sizeof term / sizeof *term; k++) {
                    if (term[k].weight && !half) continue;
                    const uint16_t *with =
                        half ? tile + (size_t)term[k].weight * distance : (const uint16_t *)w->data + at;
                    multiply(p, odd ? sum : to, ldy, pieces + (size_t)term[k].row * (size_t)rows * (size_t)ld, ld, with,
                             CUDA_R_16BF, some, rows, beta);
                    beta = 1;
                }
                if (odd) cuda_launch_copy_rows(to, out_width(p), sum, ldy, rows, wide, beta_of(p, j) != 0, g->stream);
            }
        }
    }
    gpu_work_release(mark);
    LAUNCHED("multiply_split");
}

// The way is chosen by a span's own rows.
static void multiply_spans(const product *p, const span *s, int n) {
    if (p->w->narrow)
        gpu_multiply_rounded(p->y, p->x, p->w, p->back, p->add, s, n, p->back ? "linear_back" : "linear");
    else
        (p->w->type == DT_F32 ? multiply_wide : multiply_split)(p, s, n);
}

void cuda_linear(float *y, const float *x, const weight *w, const weight *bias, bool add, const span *s, int n) {
    const int out = w->rows, in = w->cols;
    const bool ours = in && out && !w->narrow;
    if (!in && !add && !bias) zero_rows(y, out, s, n);
    if (!out) return;
    span *few = ours ? gpu_spans_of(s, n, true) : NULL, *more = ours ? gpu_spans_of(s, n, false) : NULL;
    const span *rest = ours ? more : s;
    cuda_spans spans;
    if (ours) gpu_few_rows(y, x, w, 0, bias, add, false, 1, (cuda_live){.n = out, .most = out}, few, n);
    if (bias) {
        for (int at = 0; gpu_spans(&spans, rest, n, &at, out, CUDA_CHUNK, true);)
            cuda_launch_bias(y, bias->data, bias->type, add, out, &spans, g->stream);
        LAUNCHED("bias");
    }
    if (in) multiply_spans(&(product){y, x, w, false, add || bias}, rest, n);
    free(few);
    free(more);
}

void cuda_linear_back(float *dx, const float *dy, const weight *w, bool add, const span *s, int n) {
    if (!w->rows && !add) zero_rows(dx, w->cols, s, n);
    if (w->rows && w->cols) multiply_spans(&(product){dx, dy, w, true, add}, s, n);
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
