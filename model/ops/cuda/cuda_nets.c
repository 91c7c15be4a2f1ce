// cuda_nets - what nets that predict scores are trained and run with (cpu_nets.c) as launches and cuBLAS calls.
#include "cuda_host.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

// A tile of W's gradient at a time: what the workspace holds is about what a GPU's cache does.
void cuda_linear_step(float *w, float *m, float *v, const adamw *a, size_t bias, const float *dy, const float *x,
                      int out, int in, int rows) {
    const float one = 1, zero = 0;
    const int most = (int)(g->work_bytes / sizeof(float) / (size_t)in);
    const gpu_work_point mark = gpu_work_mark();
    float *grad = gpu_work(g->work_bytes);  // of a tile of W, or of the bias
    ASSERT(most > 0 && (size_t)out * sizeof(float) <= g->work_bytes);
    for (int j = 0, n; j < out; j += n) {
        n = out - j < most ? out - j : most;
        const size_t at = (size_t)j * (size_t)in;
        BLAS(cublasSgemm(g->blas, CUBLAS_OP_N, CUBLAS_OP_T, in, n, rows, &one, x, in, dy + j, out, &zero, grad, in));
        cuda_launch_adamw(w + at, m + at, v + at, grad, a, (size_t)n * (size_t)in, g->stream);
    }
    if (bias) {
        cuda_zero(grad, (size_t)out * sizeof(float));
        cuda_launch_column_sums(grad, dy, 0, rows, out, g->stream);
        cuda_launch_adamw(w + bias, m + bias, v + bias, grad, a, (size_t)out, g->stream);
    }
    gpu_work_release(mark);
    LAUNCHED("linear_step");
}

void cuda_loss(double *mean, float *dy, const float *y, const float *t, loss_kind kind, double positive, size_t n) {
    ASSERT(n > 0);
    const gpu_work_point mark = gpu_work_mark();
    double *part = gpu_work((n + CUDA_CHUNK - 1) / CUDA_CHUNK * sizeof *part);
    cuda_launch_loss(mean, part, dy, y, t, kind == LOSS_BCE, positive,
                     (float)((kind == LOSS_MSE ? 2.0 : 1.0) / (double)n), n, g->stream);
    gpu_work_release(mark);
    LAUNCHED("loss");
}

// ---------------------------------------------------------------- pooling attention
// Scores of a tile of queries at a time, [rows, T]. cuBLAS counts by columns (cuda_transformer_linear.c).
enum { QUERIES = 256 };

static int queries(const span *s, int r) { return s->n - r < QUERIES ? s->n - r : QUERIES; }

// In the workspace.
static float *scores_of(const span *s) { return gpu_work((size_t)QUERIES * (size_t)s->n * sizeof(float)); }

static void attend(float *score, const float *q, const float *k, int E, const span *s, int r, int rows) {
    const float scale = 1 / sqrtf((float)E), zero = 0;
    BLAS(cublasSgemm(g->blas, CUBLAS_OP_T, CUBLAS_OP_N, s->n, rows, E, &scale, k + (size_t)s->row * (size_t)E, E,
                     q + (size_t)(s->row + r) * (size_t)E, E, &zero, score, s->n));
}

void cuda_pool(float *c, float *p, float *lse, const float *x, const float *count, const float *q, const float *k,
               int E, const span *s, int n) {
    const float one = 1, zero = 0;
    for (int i = 0; i < n; i++) {
        const int T = s[i].n;
        const gpu_work_point mark = gpu_work_mark();
        float *score = scores_of(&s[i]);
        cuda_zero(p + s[i].row, (size_t)T * sizeof *p);
        for (int r = 0, rows; r < T; r += rows) {
            rows = queries(&s[i], r);
            attend(score, q, k, E, &s[i], r, rows);
            cuda_launch_pool_softmax(score, lse + s[i].row + r, count + s[i].row, r, rows, T, g->stream);
            cuda_launch_column_sums(p + s[i].row, score, 0, rows, T, g->stream);
        }
        BLAS(cublasSgemv(g->blas, CUBLAS_OP_N, E, T, &one, x + (size_t)s[i].row * (size_t)E, E, p + s[i].row, 1, &zero,
                         c + (size_t)i * (size_t)E, 1));
        gpu_work_release(mark);
    }
    LAUNCHED("pool");
}

void cuda_pool_back(float *dq, float *dk, float *dp, const float *dc, const float *x, const float *count,
                    const float *q, const float *k, const float *lse, int E, const span *s, int n) {
    const float one = 1, zero = 0;
    for (int i = 0; i < n; i++) {
        const int T = s[i].n;
        const gpu_work_point mark = gpu_work_mark();
        float *score = scores_of(&s[i]);
        const size_t at = (size_t)s[i].row * (size_t)E;
        BLAS(cublasSgemv(g->blas, CUBLAS_OP_T, E, T, &one, x + at, E, dc + (size_t)i * (size_t)E, 1, &zero,
                         dp + s[i].row, 1));
        for (int r = 0, rows; r < T; r += rows) {
            rows = queries(&s[i], r);
            const size_t from = at + (size_t)r * (size_t)E;
            attend(score, q, k, E, &s[i], r, rows);
            cuda_launch_pool_softmax_back(score, lse + s[i].row + r, dp + s[i].row, count + s[i].row,
                                          1 / sqrtf((float)E), r, rows, T, g->stream);
            BLAS(cublasSgemm(g->blas, CUBLAS_OP_N, CUBLAS_OP_N, E, rows, T, &one, k + at, E, score, T, &zero, dq + from,
                             E));
            BLAS(cublasSgemm(g->blas, CUBLAS_OP_N, CUBLAS_OP_T, E, T, rows, &one, q + from, E, score, T,
                             r ? &one : &zero, dk + at, E));
        }
        gpu_work_release(mark);
    }
    LAUNCHED("pool_back");
}

// ---------------------------------------------------------------- min-max
void cuda_minmax(float *y, const float *x, int E, const span *s, int n) {
    for (int i = 0; i < n;) {
        cuda_spans spans = {0};
        for (; i < n && spans.n < CUDA_SPANS; i++)
            if (s[i].n) spans.s[spans.n++] = (cuda_span){s[i].row, s[i].n, 0, 0};
        if (spans.n) cuda_launch_minmax(y, x, E, &spans, g->stream);
    }
    LAUNCHED("minmax");
}

// ---------------------------------------------------------------- the lowest
static void take(uint8_t *keep, const uint8_t *got, const uint8_t *only, const cut_range *c) {
    if (!only) memcpy(keep + c->first, got, (size_t)c->n);
    for (long i = 0; only && i < c->n; i++)
        if (only[c->first + i]) keep[c->first + i] = got[i];
}

void cuda_cut_here(uint8_t *keep, int32_t *bad, const float *score, const uint8_t *only, const cut_range *c, int n) {
    cuda_cuts held = {0};
    for (int i = 0; i <= n; i++) {
        const bool fits = i < n && c[i].n <= CUDA_CUT_HELD;
        if (fits) held.r[held.n++] = c[i];
        if (held.n && (i == n || held.n == CUDA_CUTS)) {
            cuda_launch_cut(keep, bad, score, only, &held, g->stream);
            held.n = 0;
        }
        if (i == n || fits) continue;
        const gpu_work_point mark = gpu_work_mark();
        cuda_launch_cut_long(gpu_work(cuda_cut_bytes(c[i].n)), keep, bad, score, only, &c[i], g->stream);
        gpu_work_release(mark);
    }
    LAUNCHED("cut");
}

// The first place in a range whose score is not finite.
static long first_bad(const float *score, const cut_range *c, int n) {
    for (int i = 0; i < n; i++) {
        float *x = xmalloc(((size_t)c[i].n + 1) * sizeof *x);
        long k = 0;
        cuda_get(x, score + c[i].first, (size_t)c[i].n * sizeof *x);
        while (k < c[i].n && isfinite(x[k])) k++;
        free(x);
        if (k < c[i].n) return c[i].first + k;
    }
    return -1;
}

// In the workspace: whether a score is bad, then bytes of the units from the first range to the last.
long cuda_cut(uint8_t *keep, const float *score, const uint8_t *only, const cut_range *c, int n) {
    const long base = n ? c[0].first : 0, units = n ? c[n - 1].first + c[n - 1].n - base : 0;
    enum { HEAD = 16 };
    if (!units) return -1;
    const gpu_work_point mark = gpu_work_mark();
    uint8_t *found = gpu_work(HEAD + (size_t)units), *which = only ? gpu_work((size_t)units) : NULL,
            *got = xmalloc(HEAD + (size_t)units);
    int32_t bad;
    cuda_zero(found, HEAD);
    if (only) cuda_put(which, only + base, (size_t)units);
    cut_range *from = xmalloc((size_t)n * sizeof *from);
    for (int i = 0; i < n; i++) from[i] = (cut_range){c[i].first - base, c[i].n, c[i].k};
    cuda_cut_here(found + HEAD, (int32_t *)(void *)found, score + base, which, from, n);
    cuda_get(got, found, HEAD + (size_t)units);
    gpu_work_release(mark);
    for (int i = 0; i < n; i++) take(keep, got + HEAD + from[i].first, only, &c[i]);
    memcpy(&bad, got, sizeof bad);
    free(from);
    free(got);
    return bad ? first_bad(score, c, n) : -1;
}
