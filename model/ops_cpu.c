// ops_cpu - the CPU table of operations (ops.h). Matrix products are CBLAS calls, single-threaded each, on tiles that depend on
// one sequence only; OpenMP shares the tiles out. So the bits do not depend on the thread count or on the rest of the batch.
// 16-bit weights are widened tile by tile (exactly) before the product.
#include "ops_cpu.h"
#include "simd.h"
#include <cblas.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

double ops_seconds_gemm, ops_seconds_attention;

enum {
    ROWS = 32,    // rows of an element-wise work item
    CHUNK = 512   // rows of a 16-bit weight widened at a time in linear_back
};

// ---------------------------------------------------------------- helpers
// The spans cut into blocks of at most `size` rows; *count of them, in scratch memory.
static const span *blocks(const span *s, int n, int size, int *count) {
    int total = 0;
    for (int i = 0; i < n; i++) total += (s[i].n + size - 1) / size;
    span *b = scratch_take((size_t)total * sizeof *b);
    int k = 0;
    for (int i = 0; i < n; i++)
        for (int r = 0; r < s[i].n; r += size) b[k++] = (span){s[i].row + r, s[i].n - r < size ? s[i].n - r : size};
    *count = k;
    return b;
}

static int tile_width(int columns) { return columns <= 256 ? 256 : 384; }

#if defined(__x86_64__)
__attribute__((target("avx2,f16c"))) static size_t widen_f16c(float *to, const uint16_t *from, size_t n) {
    size_t i = 0;
    for (; i + 8 <= n; i += 8) _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(from + i))));
    return i;
}
#endif

void cpu_widen(float *to, const void *from, dtype type, size_t n) {
    size_t i = 0;
    if (type == DT_F32) {
        memcpy(to, from, n * sizeof *to);
    } else if (type == DT_BF16) {
        uint32_t *u = (uint32_t *)to;
        const uint16_t *h = from;
        for (; i < n; i++) u[i] = (uint32_t)h[i] << 16;
    } else {
        const uint16_t *h = from;
#if defined(__x86_64__)
        if (__builtin_cpu_supports("f16c") && __builtin_cpu_supports("avx2")) i = widen_f16c(to, h, n);
#endif
        for (; i < n; i++) to[i] = half_to_float(h[i]);
    }
}

const float *cpu_weight_rows(const weight *w, int row, int rows) {
    size_t at = (size_t)row * w->cols, n = (size_t)rows * w->cols;
    if (w->wide) return w->wide + at;
    if (w->type == DT_F32) return (const float *)w->data + at;
    float *out = scratch_floats(n);
    cpu_widen(out, (const char *)w->data + at * dtype_bytes(w->type), w->type, n);
    return out;
}

// A whole vector (bias, gain) in fp32.
static const float *vector(const weight *w) { return w ? cpu_weight_rows(w, 0, w->rows) : NULL; }

// ---------------------------------------------------------------- memory
static void *cpu_alloc(size_t bytes) {
    void *p = xaligned(bytes);
    memset(p, 0, bytes);
    return p;
}
static void cpu_release(void *p) { free(p); }
static void cpu_put(void *device, const void *host, size_t bytes) { memcpy(device, host, bytes); }
static void cpu_get(void *host, const void *device, size_t bytes) { memcpy(host, device, bytes); }
static void cpu_zero(void *p, size_t bytes) { memset(p, 0, bytes); }
static void cpu_copy(void *to, const void *from, size_t bytes) { memcpy(to, from, bytes); }
static size_t cpu_room(void) { return SIZE_MAX; }  // of virtual memory
static void cpu_reserve(size_t bytes) { (void)bytes; }
static const char *cpu_use(int part) { return (void)part, "cpu"; }

// ---------------------------------------------------------------- embeddings
static void cpu_embed(float *y, const int32_t *tokens, const weight *w, const span *s, int n) {
    for (int i = 0; i < n; i++)
        for (int r = s[i].row; r < s[i].row + s[i].n; r++) {
            const scratch_point mark = scratch_mark();
            memcpy(y + (size_t)r * w->cols, cpu_weight_rows(w, tokens[r], 1), sizeof(float) * (size_t)w->cols);
            scratch_release(mark);
        }
}

static void cpu_embed_grad(float *dw, const float *dy, const int32_t *tokens, int cols, const span *s, int n) {
    const int width = 64;  // threads own columns, so rows add up in order
#pragma omp parallel for schedule(static)
    for (int c = 0; c < cols; c += width) {
        const int end = c + width < cols ? c + width : cols;
        for (int i = 0; i < n; i++)
            for (int r = s[i].row; r < s[i].row + s[i].n; r++)
                for (int e = c; e < end; e++) dw[(size_t)tokens[r] * cols + e] += dy[(size_t)r * cols + e];
    }
}

static void cpu_add_positions(float *x, const weight *pos, const int32_t *first, const span *s, int n) {
    const int E = pos->cols;
    for (int i = 0; i < n; i++)
        for (int t = 0; t < s[i].n; t++) {
            const scratch_point mark = scratch_mark();
            const float *p = cpu_weight_rows(pos, first[i] + t + 2, 1);
            float *y = x + (size_t)(s[i].row + t) * E;
            for (int e = 0; e < E; e++) y[e] += p[e];
            scratch_release(mark);
        }
}

// ---------------------------------------------------------------- linear maps
// Columns j0.. of y = x W' + b, for one span.
static void linear_tile(float *y, const float *x, const weight *w, const float *b, bool add, const span *s, int j0, int cols) {
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

static void cpu_linear(float *y, const float *x, const weight *w, const weight *bias, bool add, const span *s, int n) {
    const double start = clock_s();
    const scratch_point mark = scratch_mark();
    const int out = w->rows, in = w->cols, width = tile_width(out), tiles = (out + width - 1) / width;
    const float *b = vector(bias);
    x = cpu_rounded(x, in, w, s, n, "linear");
    bool many = false;
    for (int i = 0; i < n; i++) many |= s[i].n >= CPU_THIN;
    cpu_thin_linear(y, x, w, b, add, s, n);
    if (many)  // as a clause it would cost each product of few rows a third of a microsecond
#pragma omp parallel for schedule(dynamic) collapse(2)
        for (int tile = 0; tile < tiles; tile++)
            for (int i = 0; i < n; i++) {
                const int j0 = tile * width, left = out - j0;
                if (s[i].n >= CPU_THIN) linear_tile(y, x, w, b, add, &s[i], j0, left < width ? left : width);
            }
    scratch_release(mark);
    ops_seconds_gemm += clock_s() - start;
}

// Columns k0.. of dx = dy W, for one span of at least a row.
static void linear_back_tile(float *dx, const float *dy, const weight *w, bool add, const span *s, int k0, int cols) {
    const int out = w->rows, in = w->cols, rows = s->n;
    const float *dys = dy + (size_t)s->row * out;
    float *dxs = dx + (size_t)s->row * in + k0;
    if (w->wide || w->type == DT_F32 || !out) {
        const float *whole = w->wide ? w->wide : w->data;
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, rows, cols, out, 1, dys, out ? out : 1, whole + k0, in, add ? 1 : 0, dxs, in);
        return;
    }
    const scratch_point mark = scratch_mark();
    const size_t each = dtype_bytes(w->type);
    float *wide = scratch_floats((size_t)CHUNK * cols);
    for (int j0 = 0; j0 < out; j0 += CHUNK) {
        const int some = out - j0 < CHUNK ? out - j0 : CHUNK;
        for (int j = 0; j < some; j++)
            cpu_widen(wide + (size_t)j * cols, (const char *)w->data + ((size_t)(j0 + j) * in + k0) * each, w->type, (size_t)cols);
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, rows, cols, some, 1, dys + j0, out, wide, cols, add || j0 ? 1 : 0, dxs, in);
    }
    scratch_release(mark);
}

static void cpu_linear_back(float *dx, const float *dy, const weight *w, bool add, const span *s, int n) {
    const double start = clock_s();
    const scratch_point mark = scratch_mark();
    const int out = w->rows, in = w->cols, width = tile_width(in), tiles = (in + width - 1) / width;
    dy = cpu_rounded(dy, out, w, s, n, "linear_back");
#pragma omp parallel for schedule(dynamic) collapse(2)
    for (int tile = 0; tile < tiles; tile++)
        for (int i = 0; i < n; i++) {
            const int k0 = tile * width, left = in - k0;
            if (s[i].n) linear_back_tile(dx, dy, w, add, &s[i], k0, left < width ? left : width);
        }
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

static void cpu_linear_grad(float *dw, float *db, const float *dy, const float *x, int out, int in, const span *s, int n) {
    const double start = clock_s();
    const int width = out <= 256 ? 64 : 128, tiles = (out + width - 1) / width;
#pragma omp parallel for schedule(dynamic)
    for (int tile = 0; tile < tiles; tile++) {
        const int j0 = tile * width, cols = out - j0 < width ? out - j0 : width;
        for (int i = 0, next; i < n; i = next) {
            int rows = s[i].n;  // neighbouring spans make one product
            for (next = i + 1; next < n && s[next].row == s[i].row + rows; next++) rows += s[next].n;
            const float *dys = dy + (size_t)s[i].row * out + j0, *xs = x + (size_t)s[i].row * in;
            cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, cols, in, rows, 1, dys, out, xs, in ? in : 1, 1, dw + (size_t)j0 * in, in ? in : 1);
            if (db) column_sums(db + j0, dys, rows, cols, out);
        }
    }
    ops_seconds_gemm += clock_s() - start;
}

// ---------------------------------------------------------------- layer norm
// x^ = (x - mean) s with s = 1 / sqrt(var + 1e-5); y = g x^ + b.
// Gradient: dx = s (u - mean(u) - x^ mean(u x^)), u = g dy.
typedef struct { float mean, s; } norm_stat;

static inline norm_stat norm_row(const float *x, int E) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int e = 0; e < E; e++) sum += x[e];
    const float mean = sum / (float)E;
    float var = 0;
#pragma omp simd reduction(+ : var)
    for (int e = 0; e < E; e++) var += (x[e] - mean) * (x[e] - mean);
    return (norm_stat){mean, 1.0f / sqrtf(var / (float)E + 1e-5f)};
}

HOT static void norm_rows(float *y, const float *x, const float *g, const float *b, int E, int rows) {
    for (int t = 0; t < rows; t++, x += E, y += E) {
        const norm_stat m = norm_row(x, E);
        for (int e = 0; e < E; e++) y[e] = (x[e] - m.mean) * m.s * g[e] + b[e];
    }
}

HOT static void norm_back_rows(float *dx, const float *dy, const float *x, const float *g, int E, bool add, int rows) {
    for (int t = 0; t < rows; t++, x += E, dy += E, dx += E) {
        const norm_stat m = norm_row(x, E);
        float su = 0, sux = 0;
#pragma omp simd reduction(+ : su, sux)
        for (int e = 0; e < E; e++) {
            const float u = g[e] * dy[e];
            su += u;
            sux += u * (x[e] - m.mean) * m.s;
        }
        su /= (float)E;
        sux /= (float)E;
        for (int e = 0; e < E; e++) dx[e] = (add ? dx[e] : 0) + m.s * (g[e] * dy[e] - su - (x[e] - m.mean) * m.s * sux);
    }
}

// Tangent: tx^ = s (tx - mean(tx) - x^ mean(tx x^)).
HOT static void norm_jvp_rows(float *ty, const float *x, const float *tx, const float *g, int E, int rows) {
    for (int t = 0; t < rows; t++, x += E, tx += E, ty += E) {
        const norm_stat m = norm_row(x, E);
        float st = 0, stx = 0;
#pragma omp simd reduction(+ : st, stx)
        for (int e = 0; e < E; e++) {
            st += tx[e];
            stx += tx[e] * (x[e] - m.mean) * m.s;
        }
        st /= (float)E;
        stx /= (float)E;
        for (int e = 0; e < E; e++) ty[e] = g[e] * m.s * (tx[e] - st - (x[e] - m.mean) * m.s * stx);
    }
}

// Tangent of dx = s (u - m1 - x^ m2): ts = -s^2 mean(x^ tx); tm1 = mean(tu); tm2 = mean(tu x^ + u tx^);
// tdx = ts (u - m1 - x^ m2) + s (tu - tm1 - tx^ m2 - x^ tm2).
HOT static void norm_back_jvp_rows(float *tdx, const float *dy, const float *tdy, const float *x, const float *tx, const float *g, int E, bool add, int rows) {
    for (int t = 0; t < rows; t++, x += E, tx += E, dy += E, tdy += E, tdx += E) {
        const norm_stat m = norm_row(x, E);
        float st = 0, stx = 0, su = 0, sux = 0, stu = 0, stux = 0;
#pragma omp simd reduction(+ : st, stx, su, sux, stu, stux)
        for (int e = 0; e < E; e++) {
            const float h = (x[e] - m.mean) * m.s, u = g[e] * dy[e], tu = g[e] * tdy[e];
            st += tx[e];
            stx += tx[e] * h;
            su += u;
            sux += u * h;
            stu += tu;
            stux += tu * h;
        }
        const float inv = 1.0f / (float)E, mt = st * inv, mtx = stx * inv, m1 = su * inv, m2 = sux * inv, tm1 = stu * inv;
        const float ts = -m.s * m.s * mtx;
        float suth = 0;  // sum of u tx^
#pragma omp simd reduction(+ : suth)
        for (int e = 0; e < E; e++) {
            const float h = (x[e] - m.mean) * m.s, th = m.s * (tx[e] - mt - h * mtx);
            suth += g[e] * dy[e] * th;
        }
        const float tm2 = (stux + suth) * inv;
        for (int e = 0; e < E; e++) {
            const float h = (x[e] - m.mean) * m.s, th = m.s * (tx[e] - mt - h * mtx), u = g[e] * dy[e], tu = g[e] * tdy[e];
            tdx[e] = (add ? tdx[e] : 0) + ts * (u - m1 - h * m2) + m.s * (tu - tm1 - th * m2 - h * tm2);
        }
    }
}

// In a function that sets a mark and releases it.
#define FOR_BLOCKS(s, n)                              \
    int n_blocks_;                                    \
    const span *blocks_ = blocks(s, n, ROWS, &n_blocks_); \
    _Pragma("omp parallel for schedule(static) if (n_blocks_ > 1)") \
    for (int i_ = 0; i_ < n_blocks_; i_++)
#define ROW(p, width) ((p) + (size_t)blocks_[i_].row * (size_t)(width))
#define COUNT (blocks_[i_].n)

static void cpu_norm(float *y, const float *x, const weight *gain, const weight *bias, int E, const span *s, int n) {
    const scratch_point mark = scratch_mark();
    const float *g = vector(gain), *b = vector(bias);
    FOR_BLOCKS(s, n) norm_rows(ROW(y, E), ROW(x, E), g, b, E, COUNT);
    scratch_release(mark);
}
static void cpu_norm_back(float *dx, const float *dy, const float *x, const weight *gain, int E, bool add, const span *s, int n) {
    const scratch_point mark = scratch_mark();
    const float *g = vector(gain);
    FOR_BLOCKS(s, n) norm_back_rows(ROW(dx, E), ROW(dy, E), ROW(x, E), g, E, add, COUNT);
    scratch_release(mark);
}
static void cpu_norm_jvp(float *ty, const float *x, const float *tx, const weight *gain, int E, const span *s, int n) {
    const scratch_point mark = scratch_mark();
    const float *g = vector(gain);
    FOR_BLOCKS(s, n) norm_jvp_rows(ROW(ty, E), ROW(x, E), ROW(tx, E), g, E, COUNT);
    scratch_release(mark);
}
static void cpu_norm_back_jvp(float *tdx, const float *dy, const float *tdy, const float *x, const float *tx, const weight *gain, int E, bool add, const span *s, int n) {
    const scratch_point mark = scratch_mark();
    const float *g = vector(gain);
    FOR_BLOCKS(s, n) norm_back_jvp_rows(ROW(tdx, E), ROW(dy, E), ROW(tdy, E), ROW(x, E), ROW(tx, E), g, E, add, COUNT);
    scratch_release(mark);
}

HOT static void norm_grad_rows(double *dg, double *db, const float *dy, const float *x, int E, int rows) {
    for (int t = 0; t < rows; t++, x += E, dy += E) {
        const norm_stat m = norm_row(x, E);
        for (int e = 0; e < E; e++) {
            dg[e] += (double)(dy[e] * (x[e] - m.mean) * m.s);
            db[e] += (double)dy[e];
        }
    }
}
static void cpu_norm_grad(float *dg, float *db, const float *dy, const float *x, int E, const span *s, int n) {
    const scratch_point mark = scratch_mark();
    double *sum = scratch_take(2 * sizeof *sum * (size_t)E);
    memset(sum, 0, 2 * sizeof *sum * (size_t)E);
    for (int i = 0; i < n; i++) norm_grad_rows(sum, sum + E, dy + (size_t)s[i].row * E, x + (size_t)s[i].row * E, E, s[i].n);
    for (int e = 0; e < E; e++) {
        dg[e] += (float)sum[e];
        db[e] += (float)sum[E + e];
    }
    scratch_release(mark);
}

// ---------------------------------------------------------------- element-wise
HOT static void gate_rows(float *y, const float *x, const float *g, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = g[i] <= 0 ? 0 : x[i];  // in this order a NaN passes
}
HOT static void add_rows(float *y, const float *x, float scale, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] += scale * x[i];
}
static void cpu_gate(float *y, const float *x, const float *g, int F, const span *s, int n) {
    const scratch_point mark = scratch_mark();
    FOR_BLOCKS(s, n) gate_rows(ROW(y, F), ROW(x, F), ROW(g, F), (size_t)COUNT * (size_t)F);
    scratch_release(mark);
}
static void cpu_relu(float *y, const float *x, int F, const span *s, int n) { cpu_gate(y, x, x, F, s, n); }
static void cpu_append(float *const *to, const float *x, int E, const int32_t *at, const span *s, int n) {
    for (int i = 0; i < n; i++)
        if (to[i] && s[i].n) memcpy(to[i] + (size_t)at[i] * (size_t)E, x + (size_t)s[i].row * (size_t)E, sizeof(float) * (size_t)s[i].n * (size_t)E);
}
static void cpu_move(float *y, const float *x, int E, const span *s, int n) {
    const scratch_point mark = scratch_mark();
    FOR_BLOCKS(s, n) memcpy(ROW(y, E), ROW(x, E), sizeof(float) * (size_t)COUNT * (size_t)E);
    scratch_release(mark);
}
static void cpu_add(float *y, const float *x, float scale, int E, const span *s, int n) {
    const scratch_point mark = scratch_mark();
    FOR_BLOCKS(s, n) add_rows(ROW(y, E), ROW(x, E), scale, (size_t)COUNT * (size_t)E);
    scratch_release(mark);
}

static void cpu_drop_units(float *x, const uint8_t *const *units, const int *from, int U, int D, const span *s, int n) {
#pragma omp parallel for schedule(dynamic) if (n > 1)
    for (int i = 0; i < n; i++) {
        if (!units[i]) continue;
        for (int t = from[i]; t < s[i].n; t++) {
            float *row = x + (size_t)(s[i].row + t) * U * D;
            for (int u = 0; u < U; u++)
                if (!units[i][u]) memset(row + (size_t)u * D, 0, sizeof(float) * (size_t)D);
        }
    }
}

// ---------------------------------------------------------------- cross-entropy
// Of a row: the largest logit, and the log of the sum of exp(x - top). The terms of the largest, each 1, are counted apart: in an fp32 sum with
// them the others lose their digits, and those are all that the gradient of a well predicted target is made of.
typedef struct { float top; double log_sum; } row_sum;

HOT static row_sum log_sum_exp(const float *x, int n) {
    float top = x[0];
    for (int i = 1; i < n; i++) top = x[i] > top ? x[i] : top;
    double sum = 0;
    for (int i = 0; i < n; i += 256) {  // short fp32 sums, gathered in double
        float part = 0, ones = 0;
        const int end = i + 256 < n ? i + 256 : n;
#pragma omp simd reduction(+ : part, ones)
        for (int j = i; j < end; j++) {
            const float e = exp_f(x[j] - top);
            part += x[j] == top ? 0 : e;
            ones += x[j] == top ? 1 : 0;
        }
        sum += (double)part + (double)ones;
    }
    return (row_sum){top, log(sum)};
}

static void cpu_logprob(double *logprob, int32_t *top, const float *logits, const int32_t *target, int V, int vocab, int rows) {
#pragma omp parallel for schedule(static)
    for (int r = 0; r < rows; r++) {
        const float *x = logits + (size_t)r * V;
        const row_sum s = log_sum_exp(x, vocab);
        logprob[r] = target[r] < vocab ? (double)x[target[r]] - (double)s.top - s.log_sum : -INFINITY;
        if (!top) continue;
        int best = 0;
        while (best < vocab - 1 && !(x[best] >= s.top)) best++;
        top[r] = best;
    }
}

HOT static int32_t likeliest(const float *x, int n) {
    float top = -INFINITY;
    int bad = 0, best = 0;
    for (int i = 0; i < n; i++) {
        bad |= !(fabsf(x[i]) < INFINITY);
        top = x[i] > top ? x[i] : top;
    }
    while (!bad && x[best] < top) best++;
    return bad ? -1 : best;
}

static void cpu_likeliest(int32_t *token, int32_t *at, const float *logits, int V, int rows) {
    for (int r = 0; r < rows; r++) {
        token[r] = likeliest(logits + (size_t)r * V, V);
        if (at) at[r]++;
    }
}

HOT static void softmax_scaled(float *x, int n, row_sum s, float scale) {
    const float log_sum = (float)s.log_sum;
    for (int i = 0; i < n; i++) x[i] = exp_f(x[i] - s.top - log_sum) * scale;
}

static void cpu_xent_back(float *logits, const int32_t *target, const float *scale, int V, int rows) {
#pragma omp parallel for schedule(static)
    for (int r = 0; r < rows; r++) {
        float *x = logits + (size_t)r * V;
        const row_sum s = log_sum_exp(x, V);
        // p - 1 of the target cancels when p is near 1: expm1 keeps its digits
        const float d = (float)expm1((double)x[target[r]] - (double)s.top - s.log_sum) * scale[r];
        softmax_scaled(x, V, s, scale[r]);
        x[target[r]] = d;
    }
}

// dlogits = scale (p - [target]); tangent: scale p (t - sum p t).
HOT static void xent_back_jvp_row(float *t, const float *d, int target, float scale, int V) {
    const float inv = 1.0f / scale;
    double mean = 0;
    for (int i = 0; i < V; i++) mean += (double)((i == target ? d[i] * inv + 1 : d[i] * inv) * t[i]);
    const float m = (float)mean;
    for (int i = 0; i < V; i++) t[i] = (i == target ? d[i] + scale : d[i]) * (t[i] - m);
}
static void cpu_xent_back_jvp(float *tlogits, const float *dlogits, const int32_t *target, const float *scale, int V, int rows) {
#pragma omp parallel for schedule(static)
    for (int r = 0; r < rows; r++) xent_back_jvp_row(tlogits + (size_t)r * V, dlogits + (size_t)r * V, target[r], scale[r], V);
}

// ---------------------------------------------------------------- the table
const ops *ops_cpu(void) {
    static const ops table = {
#define X(type, name, args) .name = cpu_##name,
        OPS(X)
#undef X
        .device = "cpu", .about = "CPU", .host = true, .parts = 1};
    openblas_set_num_threads(1);
    return &table;
}
