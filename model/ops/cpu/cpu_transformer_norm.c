// cpu_transformer_norm - layer norm, its gradient and tangents.
// x^ = (x - mean) s with s = 1 / sqrt(var + 1e-5); y = g x^ + b.
// Gradient: dx = s (u - mean(u) - x^ mean(u x^)), u = g dy.
#include "cpu.h"
#include "simd.h"
#include <math.h>

typedef struct {
    float mean, s;
} norm_stat;

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
HOT static void norm_back_jvp_rows(float *tdx, const float *dy, const float *tdy, const float *x, const float *tx,
                                   const float *g, int E, bool add, int rows) {
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

void cpu_norm(float *y, const float *x, const weight *gain, const weight *bias, int E, const span *s, int n) {
    const scratch_point mark = scratch_mark();
    const float *g = cpu_vector(gain), *b = cpu_vector(bias);
    FOR_BLOCKS(s, n) norm_rows(ROW(y, E), ROW(x, E), g, b, E, COUNT);
    scratch_release(mark);
}
void cpu_norm_back(float *dx, const float *dy, const float *x, const weight *gain, int E, bool add, const span *s,
                   int n) {
    const scratch_point mark = scratch_mark();
    const float *g = cpu_vector(gain);
    FOR_BLOCKS(s, n) norm_back_rows(ROW(dx, E), ROW(dy, E), ROW(x, E), g, E, add, COUNT);
    scratch_release(mark);
}
void cpu_norm_jvp(float *ty, const float *x, const float *tx, const weight *gain, int E, const span *s, int n) {
    const scratch_point mark = scratch_mark();
    const float *g = cpu_vector(gain);
    FOR_BLOCKS(s, n) norm_jvp_rows(ROW(ty, E), ROW(x, E), ROW(tx, E), g, E, COUNT);
    scratch_release(mark);
}
void cpu_norm_back_jvp(float *tdx, const float *dy, const float *tdy, const float *x, const float *tx,
                       const weight *gain, int E, bool add, const span *s, int n) {
    const scratch_point mark = scratch_mark();
    const float *g = cpu_vector(gain);
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
void cpu_norm_grad(float *dg, float *db, const float *dy, const float *x, int E, const span *s, int n) {
    const scratch_point mark = scratch_mark();
    double *sum = scratch_take(2 * sizeof *sum * (size_t)E);
    memset(sum, 0, 2 * sizeof *sum * (size_t)E);
    for (int i = 0; i < n; i++)
        norm_grad_rows(sum, sum + E, dy + (size_t)s[i].row * E, x + (size_t)s[i].row * E, E, s[i].n);
    for (int e = 0; e < E; e++) {
        dg[e] += (float)sum[e];
        db[e] += (float)sum[E + e];
    }
    scratch_release(mark);
}
