// cpu_transformer_norm - layer norm, its gradient and tangents.
// x^ = (x - mean) s with s = 1 / sqrt(var + eps); y = g x^ + b.
// Gradient: dx = s (u - mean(u) - x^ mean(u x^)), u = g dy.
// RMS norm is the same with 0 in place of the means of x, u and their tangents (not of products with x^), and without
// b.
#include "cpu.h"
#include "simd.h"
#include <math.h>

typedef struct {
    float mean, s;
} norm_stat;

FORCE_INLINE norm_stat norm_row(const float *x, norm_shape h) {
    const int E = h.E;
    float sum = 0;
    if (h.kind != NORM_RMS) {
#pragma omp simd reduction(+ : sum)
        for (int e = 0; e < E; e++) sum += x[e];
    }
    const float mean = sum / (float)E;
    float var = 0;
#pragma omp simd reduction(+ : var)
    for (int e = 0; e < E; e++) var += (x[e] - mean) * (x[e] - mean);
    return (norm_stat){mean, 1.0f / sqrtf(var / (float)E + h.eps)};
}

HOT static void norm_rows(float *y, const float *x, const float *g, const float *b, norm_shape shape, int rows) {
    const int E = shape.E;
    for (int t = 0; t < rows; t++, x += E, y += E) {
        const norm_stat m = norm_row(x, shape);
        if (shape.kind == NORM_RMS)
            for (int e = 0; e < E; e++) y[e] = x[e] * m.s * g[e];
        else
            for (int e = 0; e < E; e++) y[e] = (x[e] - m.mean) * m.s * g[e] + b[e];
    }
}

HOT static void norm_back_rows(float *dx, const float *dy, const float *x, const float *g, norm_shape shape, bool add,
                               int rows) {
    const int E = shape.E;
    for (int t = 0; t < rows; t++, x += E, dy += E, dx += E) {
        const norm_stat m = norm_row(x, shape);
        float su = 0, sux = 0;
#pragma omp simd reduction(+ : su, sux)
        for (int e = 0; e < E; e++) {
            const float u = g[e] * dy[e];
            su += u;
            sux += u * (x[e] - m.mean) * m.s;
        }
        su = shape.kind == NORM_RMS ? 0 : su / (float)E;
        sux /= (float)E;
        for (int e = 0; e < E; e++) dx[e] = (add ? dx[e] : 0) + m.s * (g[e] * dy[e] - su - (x[e] - m.mean) * m.s * sux);
    }
}

// Tangent: tx^ = s (tx - mean(tx) - x^ mean(tx x^)).
HOT static void norm_jvp_rows(float *ty, const float *x, const float *tx, const float *g, norm_shape shape, int rows) {
    const int E = shape.E;
    for (int t = 0; t < rows; t++, x += E, tx += E, ty += E) {
        const norm_stat m = norm_row(x, shape);
        float st = 0, stx = 0;
#pragma omp simd reduction(+ : st, stx)
        for (int e = 0; e < E; e++) {
            st += tx[e];
            stx += tx[e] * (x[e] - m.mean) * m.s;
        }
        st = shape.kind == NORM_RMS ? 0 : st / (float)E;
        stx /= (float)E;
        for (int e = 0; e < E; e++) ty[e] = g[e] * m.s * (tx[e] - st - (x[e] - m.mean) * m.s * stx);
    }
}

// Tangent of dx = s (u - m1 - x^ m2): ts = -s^2 mean(x^ tx); tm1 = mean(tu); tm2 = mean(tu x^ + u tx^);
// tdx = ts (u - m1 - x^ m2) + s (tu - tm1 - tx^ m2 - x^ tm2).
HOT static void norm_back_jvp_rows(float *tdx, const float *dy, const float *tdy, const float *x, const float *tx,
                                   const float *g, norm_shape shape, bool add, int rows) {
    const int E = shape.E;
    for (int t = 0; t < rows; t++, x += E, tx += E, dy += E, tdy += E, tdx += E) {
        const norm_stat m = norm_row(x, shape);
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
        if (shape.kind == NORM_RMS) st = su = stu = 0;
        const float inv = 1.0f / (float)E, mt = st * inv, mtx = stx * inv, m1 = su * inv, m2 = sux * inv,
                    tm1 = stu * inv;
        const float ts = -m.s * m.s * mtx;
        float suth = 0;  // sum of u tx^
#pragma omp simd reduction(+ : suth)
        for (int e = 0; e < E; e++) {
            const float h = (x[e] - m.mean) * m.s, th = m.s * (tx[e] - mt - h * mtx);
            suth += g[e] * dy[e] * th;
        }
        const float tm2 = (stux + suth) * inv;
        for (int e = 0; e < E; e++) {
            const float h = (x[e] - m.mean) * m.s, th = m.s * (tx[e] - mt - h * mtx), u = g[e] * dy[e],
                        tu = g[e] * tdy[e];
            tdx[e] = (add ? tdx[e] : 0) + ts * (u - m1 - h * m2) + m.s * (tu - tm1 - th * m2 - h * tm2);
        }
    }
}

void cpu_norm(float *y, const float *x, const weight *gain, const weight *bias, norm_shape h, const span *s, int n) {
    const scratch_point mark = scratch_mark();
    const float *g = cpu_vector(gain), *b = cpu_vector(bias);
    FOR_BLOCKS(s, n) norm_rows(ROW(y, h.E), ROW(x, h.E), g, b, h, COUNT);
    scratch_release(mark);
}
void cpu_norm_back(float *dx, const float *dy, const float *x, const weight *gain, norm_shape h, bool add,
                   const span *s, int n) {
    const scratch_point mark = scratch_mark();
    const float *g = cpu_vector(gain);
    FOR_BLOCKS(s, n) norm_back_rows(ROW(dx, h.E), ROW(dy, h.E), ROW(x, h.E), g, h, add, COUNT);
    scratch_release(mark);
}
void cpu_norm_jvp(float *ty, const float *x, const float *tx, const weight *gain, norm_shape h, const span *s, int n) {
    const scratch_point mark = scratch_mark();
    const float *g = cpu_vector(gain);
    FOR_BLOCKS(s, n) norm_jvp_rows(ROW(ty, h.E), ROW(x, h.E), ROW(tx, h.E), g, h, COUNT);
    scratch_release(mark);
}
void cpu_norm_back_jvp(float *tdx, const float *dy, const float *tdy, const float *x, const float *tx,
                       const weight *gain, norm_shape h, bool add, const span *s, int n) {
    const scratch_point mark = scratch_mark();
    const float *g = cpu_vector(gain);
    FOR_BLOCKS(s, n)
    norm_back_jvp_rows(ROW(tdx, h.E), ROW(dy, h.E), ROW(tdy, h.E), ROW(x, h.E), ROW(tx, h.E), g, h, add, COUNT);
    scratch_release(mark);
}

HOT static void norm_grad_rows(double *dg, double *db, const float *dy, const float *x, norm_shape shape, int rows) {
    const int E = shape.E;
    for (int t = 0; t < rows; t++, x += E, dy += E) {
        const norm_stat m = norm_row(x, shape);
        for (int e = 0; e < E; e++) {
            dg[e] += (double)(dy[e] * (x[e] - m.mean) * m.s);
            db[e] += (double)dy[e];
        }
    }
}
void cpu_norm_grad(float *dg, float *db, const float *dy, const float *x, norm_shape h, const span *s, int n) {
    const int E = h.E;
    const scratch_point mark = scratch_mark();
    double *sum = scratch_take(2 * sizeof *sum * (size_t)E);
    memset(sum, 0, 2 * sizeof *sum * (size_t)E);
    for (int i = 0; i < n; i++)
        norm_grad_rows(sum, sum + E, dy + (size_t)s[i].row * E, x + (size_t)s[i].row * E, h, s[i].n);
    for (int e = 0; e < E; e++) {
        dg[e] += (float)sum[e];
        if (db) db[e] += (float)sum[E + e];
    }
    scratch_release(mark);
}
