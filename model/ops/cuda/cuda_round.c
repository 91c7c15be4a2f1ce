// cuda_round - products with 16-bit operands (ops.h: activations): one on tensor cores, with sums in fp32, where full
// precision takes three or five.
//
// fp16 operands are scaled to the middle of the type's range by a power of two that the GPU reads off the span's
// largest number, and cuBLAS takes the factor back from device memory (its alpha): no host waits, a recorded launch can
// be run again with other numbers, and no bit depends on what else is in the batch. A number that is not finite is
// noted by the kernel in host memory and said at the next copy to the host (gpu_check_numbers).
#include "cuda_round.h"
#include <limits.h>

// g->scalars: 0 and 1 for cuBLAS, alphas, then the maxima of the blocks of up to four operands.
enum { ZERO, ONE, ALPHA, PARTS = 64 };
static unsigned *parts_of(int k) { return (unsigned *)g->scalars + PARTS + k * CUDA_PARTS; }

// How the numbers of an operand are scaled: by the largest of x [n], all of its span. Operand k of a product.
static cuda_scale scale_of(int k, const weight *w, const float *x, size_t n) {
    ASSERT(n < UINT_MAX);
    if (w->type != DT_F16) return (cuda_scale){0};
    const cuda_scale s = {g->scalars + ALPHA + k, NULL, parts_of(k), cuda_launch_max(parts_of(k), x, n, g->stream)};
    LAUNCHED("max");
    return s;
}

// to: rows of distance `cols`.
static void round_rows(uint16_t *to, const weight *w, cuda_scale s, const float *x, int rows, int cols, int ld,
                       const char *operation) {
    cuda_launch_round(to, w->type, s, x, rows, cols, ld, g->fault, operation, w->narrow, g->stream);
    LAUNCHED("round");
}

// c (m columns, n rows of distance ldc) = alpha a b, or added to it; a, b as cuBLAS counts.
static void multiply(float *c, int ldc, cublasOperation_t op_a, const void *a, int lda, cublasOperation_t op_b,
                     const void *b, int ldb, int m, int n, int k, const weight *w, const float *alpha, bool add) {
    const cudaDataType_t type = w->type == DT_F16 ? CUDA_R_16F : CUDA_R_16BF;
    const float *one_zero = alpha ? g->scalars : gpu_zero_one;
    if (alpha) BLAS(cublasSetPointerMode(g->blas, CUBLAS_POINTER_MODE_DEVICE));
    BLAS(cublasGemmEx(g->blas, op_a, op_b, m, n, k, alpha ? alpha : one_zero + ONE, a, type, lda, b, type, ldb,
                      one_zero + (add ? ONE : ZERO), c, CUDA_R_32F, ldc, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
    if (alpha) BLAS(cublasSetPointerMode(g->blas, CUBLAS_POINTER_MODE_HOST));
}

// [rows] of a product whose operand was rounded. Results of a width that is no multiple of 4 floats go through the
// workspace, `sum` (cuda_transformer_linear.c has why).
static void add_rounded(const gpu_product *p, float *sum, const uint16_t *operand, const float *alpha, int row,
                        int rows) {
    const int in = gpu_in(p), out = gpu_out(p), ldy = gpu_even(out, 4);
    const bool odd = ldy != out;
    float *to = p->y + (size_t)row * (size_t)out;
    multiply(odd ? sum : to, ldy, p->back ? CUBLAS_OP_N : CUBLAS_OP_T, p->w.data, p->w.cols, CUBLAS_OP_N, operand, in,
             out, rows, in, &p->w, alpha, p->add && !odd);
    if (odd) cuda_launch_copy_rows(to, out, sum, ldy, rows, out, p->add, g->stream);
}

void gpu_multiply_rounded(const gpu_product *p, int products, const float *x, const span *s, int n,
                          const char *operation) {
    const int in = gpu_in(p);
    int widest = 0;  // of the results that go through the workspace
    for (int k = 0; k < products; k++)
        if (gpu_out(&p[k]) % 4 && gpu_even(gpu_out(&p[k]), 4) > widest) widest = gpu_even(gpu_out(&p[k]), 4);
    const int most = g->work_bytes / ((int)sizeof(uint16_t) * in + (int)sizeof(float) * widest);
    ASSERT(most > 0);
    const gpu_work_point mark = gpu_work_mark();
    uint16_t *operand = gpu_work((size_t)most * (size_t)in * sizeof *operand);
    float *sum = widest ? gpu_work((size_t)most * (size_t)widest * sizeof *sum) : NULL;
    for (int i = 0; i < n; i++) {
        if (!s[i].n) continue;
        const float *xs = x + (size_t)s[i].row * (size_t)in;
        const cuda_scale scale = scale_of(0, &p->w, xs, (size_t)s[i].n * (size_t)in);
        for (int t = 0, rows; t < s[i].n; t += rows) {
            rows = s[i].n - t < most ? s[i].n - t : most;
            round_rows(operand, &p->w, scale, xs + (size_t)t * (size_t)in, rows, in, in, operation);
            for (int k = 0; k < products; k++) add_rounded(&p[k], sum, operand, scale.alpha, s[i].row + t, rows);
        }
    }
    gpu_work_release(mark);
    LAUNCHED("multiply_rounded");
}

// ---------------------------------------------------------------- sums of a gradient's rows
enum { X_BYTES = 8 << 20, DZ_BYTES = ROUND_BYTES - X_BYTES };  // of rows of x (or of its tangent), columns of dz

void gpu_gradient_begin(gpu_gradient *r, const weight *w, const float *const dz[2], const float *const x[2],
                        const span *s) {
    const size_t E = (size_t)w->cols, F = (size_t)w->rows;
    *r = (gpu_gradient){.w = w,
                        .x16 = gpu_work(X_BYTES),
                        .dz16 = gpu_work(DZ_BYTES),
                        .T = s->n,
                        .rows = X_BYTES / (int)sizeof(uint16_t) / w->cols};
    if (r->rows > s->n) r->rows = s->n;
    for (int k = 0; k < 2 && dz[k]; k++) {
        r->dz[k] = dz[k] + (size_t)s->row * F;
        r->x[k] = x[k] + (size_t)s->row * E;
        r->of_dz[k] = scale_of(k, w, r->dz[k], (size_t)s->n * F);
        r->of_x[k] = scale_of(2 + k, w, r->x[k], (size_t)s->n * E);
    }
    r->columns = DZ_BYTES / (int)sizeof(uint16_t) / r->rows;
}

void gpu_gradient_add(gpu_gradient *r, float *to, int tdz, int tx, int from, int n, bool add) {
    const int E = r->w->cols, F = r->w->rows;
    cuda_scale both = r->of_dz[tdz];
    both.with = r->of_x[tx].alpha;
    for (int t = 0, rows; t < r->T; t += rows) {
        rows = r->T - t < r->rows ? r->T - t : r->rows;
        const float *x = r->x[tx] + (size_t)t * (size_t)E;
        if (r->held != x) round_rows(r->x16, r->w, r->of_x[tx], x, rows, E, E, "weight_sums");
        r->held = x;
        round_rows(r->dz16, r->w, both, r->dz[tdz] + (size_t)t * (size_t)F + from, rows, n, F, "weight_sums");
        multiply(to, E, CUBLAS_OP_N, r->x16, E, CUBLAS_OP_T, r->dz16, n, E, n, rows, r->w, both.alpha, add || t);
    }
}
