// cuda_transformer_linear - linear maps and their gradients, by cuBLAS: one call per span, so that its shape, and with
// it cuBLAS's choice of kernel, depends on that span alone. No product is less than fp32 (no TF32, nothing is rounded
// to 16 bits) unless 16-bit activations were asked for (cuda_round.h): 16-bit weights meet rows that are split exactly
// into 16-bit parts, or are widened, exactly.
#include "cuda_host.h"
#include "cuda_round.h"
#include <limits.h>

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

// With `some` rows of W, of this type at `tile`; x: their operand, rows of distance ld; y: their result. cuBLAS counts
// by columns, so a row-major matrix is its transpose there: y' = W x' for y = x W'.
static void multiply(const product *p, float *y, const void *x, int ld, const void *tile, cudaDataType_t type, int some,
                     int rows, float beta) {
    const int in = p->back ? some : p->w->cols, out = p->back ? p->w->cols : some;
    const float one = 1;
    BLAS(cublasGemmEx(g->blas, p->back ? CUBLAS_OP_N : CUBLAS_OP_T, CUBLAS_OP_N, out, rows, in, &one, tile, type,
                      p->w->cols, x, type, ld, &beta, y, CUDA_R_32F, out_width(p), CUBLAS_COMPUTE_32F,
                      CUBLAS_GEMM_DEFAULT));
}

// Rows of a weight that fit into `bytes` with `each` bytes a number.
static int tile_rows(const weight *w, size_t bytes, size_t each) {
    const size_t rows = bytes / each / (size_t)w->cols;
    ASSERT(rows > 0);
    return rows < (size_t)w->rows ? (int)rows : w->rows;
}
static const float *operand(const product *p, int row, int j) {
    return p->x + (size_t)row * (size_t)in_width(p) + (p->back ? j : 0);
}
static float *result(const product *p, int row, int j) {
    return p->y + (size_t)row * (size_t)out_width(p) + (p->back ? 0 : j);
}
static float beta_of(const product *p, int j) { return p->add || (p->back && j) ? 1 : 0; }

// fp32 throughout; 16-bit weights are widened a tile at a time. Only spans with from .. to rows.
static void multiply_wide(const product *p, const span *s, int n, int from, int to) {
    const weight *w = p->w;
    const int step = w->type == DT_F32 ? w->rows : tile_rows(w, WORK_BYTES, sizeof(float));
    const gpu_work_point mark = gpu_work_mark();
    float *wide = w->type == DT_F32 ? NULL : gpu_work(WORK_BYTES);
    for (int j = 0, some; j < w->rows; j += some) {
        const float *tile = NULL;
        const size_t at = (size_t)j * (size_t)w->cols;
        some = w->rows - j < step ? w->rows - j : step;
        for (int i = 0; i < n; i++) {
            if (s[i].n < from || s[i].n > to) continue;
            if (!tile && w->type == DT_F32)
                tile = (const float *)w->data + at;
            else if (!tile) {
                cuda_launch_widen(wide, (const uint16_t *)w->data + at, w->type, (size_t)some * (size_t)w->cols,
                                  g->stream);
                LAUNCHED("widen");
                tile = wide;
            }
            multiply(p, result(p, s[i].row, j), operand(p, s[i].row, j), in_width(p), tile, CUDA_R_32F, some, s[i].n,
                     beta_of(p, j));
        }
    }
    gpu_work_release(mark);
}

// By tensor cores: x as three bf16 numbers that add up to it, fp16 weights as two, so a product in fp32 is three
// products of 16-bit operands with sums in fp32, or five (the least times the least is below fp32's last digit); the
// small ones first.
static void multiply_split(const product *p, const span *s, int n, int from) {
    const weight *w = p->w;
    const bool half = w->type == DT_F16;
    const size_t row_bytes = WORK_BYTES / 2, tile_bytes = WORK_BYTES - row_bytes;
    const int step = half ? tile_rows(w, tile_bytes, CUDA_HALF_PARTS * sizeof(uint16_t)) : w->rows;
    const gpu_work_point mark = gpu_work_mark();
    uint16_t *pieces = gpu_work(row_bytes), *tile = gpu_work(tile_bytes);
    static const struct { int row, weight; } term[] = {{2, 0}, {1, 1}, {1, 0}, {0, 1}, {0, 0}};
    for (int j = 0, some; j < w->rows; j += some) {
        bool made = false;
        some = w->rows - j < step ? w->rows - j : step;
        const size_t at = (size_t)j * (size_t)w->cols, count = (size_t)some * (size_t)w->cols;
        const int width = p->back ? some : w->cols,
                  most = (int)(row_bytes / (CUDA_ROW_PARTS * sizeof(uint16_t)) / (size_t)width);
        ASSERT(most > 0);
        for (int i = 0; i < n; i++) {
            for (int t = 0, rows; s[i].n >= from && t < s[i].n; t += rows) {
                rows = s[i].n - t < most ? s[i].n - t : most;
                if (half && !made) cuda_launch_split_half(tile, (const uint16_t *)w->data + at, count, g->stream);
                made = true;
                cuda_launch_split_rows(pieces, operand(p, s[i].row + t, j), rows, width, in_width(p), g->stream);
                LAUNCHED("split");
                float beta = beta_of(p, j);
                for (size_t k = 0; k < sizeof term / sizeof *term; k++) {
                    if (term[k].weight && !half) continue;
                    const uint16_t *with =
                        half ? tile + (size_t)term[k].weight * count : (const uint16_t *)w->data + at;
                    multiply(p, result(p, s[i].row + t, j), pieces + (size_t)term[k].row * (size_t)rows * (size_t)width,
                             width, with, CUDA_R_16BF, some, rows, beta);
                    beta = 1;
                }
            }
        }
    }
    gpu_work_release(mark);
}

// The way is chosen by a span's own rows. Products of few rows are bound by reading the weights, which fp16 ones take
// least of when widened.
static void multiply_spans(const product *p, const span *s, int n) {
    enum { FEW = 16 };
    if (p->w->narrow) {
        gpu_multiply_rounded(p->y, p->x, p->w, p->back, p->add, s, n, p->back ? "linear_back" : "linear");
        return;
    }
    int split_from = p->w->type == DT_F16 ? FEW + 1 : 1;
    if (p->w->type == DT_F32) split_from = INT_MAX;
    multiply_wide(p, s, n, 1, split_from - 1);
    if (split_from < INT_MAX) multiply_split(p, s, n, split_from);
}

void cuda_linear(float *y, const float *x, const weight *w, const weight *bias, bool add, const span *s, int n) {
    const int out = w->rows, in = w->cols;
    cuda_spans spans;
    if (bias && out) {
        EACH_CHUNK(out) cuda_launch_bias(y, bias->data, bias->type, add, out, &spans, g->stream);
        LAUNCHED("bias");
    }
    if (!in && !add && !bias) zero_rows(y, out, s, n);
    if (in && out) multiply_spans(&(product){y, x, w, false, add || bias}, s, n);
}

void cuda_linear_back(float *dx, const float *dy, const weight *w, bool add, const span *s, int n) {
    if (!w->rows && !add) zero_rows(dx, w->cols, s, n);
    if (w->rows && w->cols) multiply_spans(&(product){dx, dy, w, true, add}, s, n);
}

void cuda_linear_grad(float *dw, float *db, const float *dy, const float *x, int out, int in, const span *s, int n) {
    const float one = 1;
    for (int i = 0, next; i < n; i = next) {
        int rows = s[i].n;  // neighbouring spans make one product
        for (next = i + 1; next < n && s[next].row == s[i].row + rows; next++) rows += s[next].n;
        if (!rows || !out) continue;
        const float *dys = dy + (size_t)s[i].row * (size_t)out, *xs = x + (size_t)s[i].row * (size_t)in;
        if (in)
            BLAS(cublasSgemm(g->blas, CUBLAS_OP_N, CUBLAS_OP_T, in, out, rows, &one, xs, in, dys, out, &one, dw, in));
        if (db) cuda_launch_column_sums(db, dy, s[i].row, rows, out, g->stream);
    }
    LAUNCHED("linear_grad");
}
