// criteria_taps - random taps of one layer, and a criterion run on them tile by tile, as the driver runs it; for the
// tests of criteria.
#pragma once
#include "ckpt.h"
#include "registry.h"
#include "sums.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

// ---------------------------------------------------------------- one layer of random taps
typedef struct {
    int T, context, H, D, F;
} shape;
static const shape shapes[] = {{2, 1, 1, 1, 1},      {2, 1, 2, 3, 5},      {5, 3, 3, 1, 7},    {33, 20, 3, 11, 77},
                               {70, 50, 2, 16, 150}, {300, 280, 2, 5, 40}, {64, 63, 2, 71, 20}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

typedef struct {
    shape s;
    int E;
    float *a, *da, *a_hv, *a_hu, *od;  // [T, E]
    float *z, *dz, *z_hv, *z_hu;       // [T, F]
    float *x, *xcorr, *xmax;           // [T, E], [T, T], [T]
    float *w, *dw, *hu_w;              // [F, E]
    double *wsums;                     // [F, WSUMS]
    double *removal;                   // [F]
    double *squares[UNIT_KINDS];       // [E], [F] of columns of Wo, W2
} taps;

static inline float *normals(rng *r, int n, int m, double scale) {
    float *p = xmalloc((size_t)n * (size_t)m * sizeof *p);
    for (int i = 0; i < n * m; i++) p[i] = (float)(scale * rng_normal(r));
    return p;
}

static inline double correlation(const float *p, const float *q, int d) {
    double mp = 0, mq = 0, pp = 0, qq = 0, pq = 0;
    for (int i = 0; i < d; i++) mp += p[i], mq += q[i];
    mp /= d, mq /= d;
    for (int i = 0; i < d; i++) {
        pp += (p[i] - mp) * (p[i] - mp);
        qq += (q[i] - mq) * (q[i] - mq);
        pq += (p[i] - mp) * (q[i] - mq);
    }
    return pq / sqrt(pp * qq);
}

static inline bool row_counts(const float *p, int d) {
    double mean = 0, most = 0, off = 0;
    for (int i = 0; i < d; i++) mean += p[i] / (double)d, most = fmax(most, fabs(p[i]));
    for (int i = 0; i < d; i++) off = fmax(off, fabs(p[i] - mean));
    return most > 1e-30 && off > 1e-6 * most;
}

// What the driver sums over rows of the weight and its gradients.
static inline void sum_weights(double *sums, const float *w, const float *dw, const float *hu_w, int rows, int E) {
    for (int i = 0; i < rows * WSUMS; i++) sums[i] = 0;
    for (int i = 0; i < rows * E; i++) {
        double *to = sums + i / E * WSUMS;
        const double we = w[i], g = dw[i], h = hu_w[i];
        to[WSUM_SIZE] += fabs(we * g);
        to[WSUM_SQUARE] += g * g;
        to[WSUM_SIGNED] += we * g;
        to[WSUM_TANGENT] += we * h;
    }
}

static inline taps taps_make(shape s, uint64_t seed) {
    rng r = rng_make(seed);
    int T = s.T, E = s.H * s.D, F = s.F;
    taps p = {.s = s,
              .E = E,
              .a = normals(&r, T, E, 1),
              .da = normals(&r, T, E, 1e-3),
              .a_hv = normals(&r, T, E, 1e-4),
              .a_hu = normals(&r, T, E, 1e-6),
              .od = normals(&r, T, E, 1e-3),
              .z = normals(&r, T, F, 1),
              .dz = normals(&r, T, F, 1e-3),
              .z_hv = normals(&r, T, F, 1e-4),
              .z_hu = normals(&r, T, F, 1e-6),
              .x = normals(&r, T, E, 1),
              .xcorr = normals(&r, T, T, 0),
              .xmax = normals(&r, T, 1, 0),
              .w = normals(&r, F, E, 0.1),
              .dw = normals(&r, F, E, 1e-3),
              .hu_w = normals(&r, F, E, 1e-3),
              .removal = xcalloc((size_t)(F + E), sizeof(double)),
              .wsums = xcalloc((size_t)F * WSUMS, sizeof(double))};
    sum_weights(p.wsums, p.w, p.dw, p.hu_w, F, E);
    for (int i = 0; i < T * F; i++)
        if (p.z[i] <= 0.3f * (float)(i % F % 7)) p.dz[i] = p.z[i] <= 0 ? 0 : p.dz[i] * (float)(i % 2);
    for (int u = 0; u < F + E; u++) p.removal[u] = rng_normal(&r);
    for (int kind = 0; kind < UNIT_KINDS; kind++) {
        const int columns = kind == UNIT_HEADS ? E : F;
        p.squares[kind] = xmalloc((size_t)columns * sizeof *p.squares[kind]);
        for (int c = 0; c < columns; c++) p.squares[kind][c] = 0.1 + rng_uniform(&r);
    }
    for (int e = 0; e < E; e++) p.da[(T - 1) * E + e] = 0;  // the last token predicts nothing
    for (int j = 0; j < F; j++) p.dz[(T - 1) * F + j] = 0;
    // late tokens resemble each other, so that it matters which rows jacov takes
    for (int t = 2 * T / 3; t < T - 1; t++)
        for (int e = 0; e < E; e++) p.da[t * E + e] = p.da[t * E + e] / 4 + 1e-3f * (float)(e % s.D % 3);
    if (T > 10) {
        for (int e = 0; e < E; e++) {
            p.da[3 * E + e] = 0.25f;  // constant rows, one of them nearly
            p.da[8 * E + e] = e % s.D ? 0.25f : 0.2500001f;
            p.x[4 * E + e] = -0.5f;
            p.x[6 * E + e] = 0;
            p.a[7 * E + e] = 0;  // a sign that is neither
        }
        for (int t = 0; t < T; t++) p.dz[t * F] = 0;  // a dead neuron, and one that is active once
        p.z[5 * F + F - 1] = 1;
        for (int t = 0; t < T; t++) p.dz[t * F + F - 1] = t == 5 ? 1e-3f : 0;
    }
    for (int t = 0; t < T; t++) {
        bool ok = row_counts(p.x + t * E, E);
        for (int e = 0; e < E && ok; e++) p.xmax[t] = fmaxf(p.xmax[t], fabsf(p.x[t * E + e]));
        for (int q = 0; q < T; q++)
            p.xcorr[t * T + q] = ok && row_counts(p.x + q * E, E) ? (float)correlation(p.x + t * E, p.x + q * E, E) : 0;
    }
    return p;
}

static inline void taps_free(taps *p) {
    float *all[] = {p->a,    p->da, p->a_hv,  p->a_hu, p->od, p->z,  p->dz,  p->z_hv,
                    p->z_hu, p->x,  p->xcorr, p->xmax, p->w,  p->dw, p->hu_w};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    free(p->removal);
    free(p->wsums);
    for (int kind = 0; kind < UNIT_KINDS; kind++) free(p->squares[kind]);
}

// ---------------------------------------------------------------- running a criterion on tiles

// A copy of the tile's columns with ld floats between tokens, `shift` floats from alignment, NaN everywhere else.
static inline float *cut(const float *from, int T, int stride, int first, int n, int ld, int shift, float **block) {
    size_t size = (size_t)(T * ld + shift);
    float *p = *block = xmalloc(size * sizeof *p);
    for (size_t i = 0; i < size; i++) p[i] = NAN;
    for (int t = 0; t < T; t++) memcpy(p + shift + t * ld, from + t * stride + first, (size_t)n * sizeof *p);
    return p + shift;
}

// The sums that a criterion declares, of one tile, by the CPU's operations as the driver takes them; NaN in the columns
// that it did not declare.
static inline void take_sums(double *sums, unsigned needs, unit_kind kind, const crit_in *in, const float *act,
                             const float *grad, const float *hv, const float *hu, const float *out, const float *xcorr,
                             const float *xmax) {
    const unit_taps read = {.act = act,
                            .grad = grad,
                            .tangent = needs & CRIT_AFTER_HV ? hv : hu,
                            .out = out,
                            .ld = in->ld,
                            .out_ld = in->E,
                            .D = in->D};
    const sum_taps of = {.taps = read, .corr = kind == UNIT_NEURONS ? xcorr : NULL, .most = xmax, .dz = read.grad};
    const span s = {0, in->T};
    for (int i = 0; i < in->U * USUMS; i++) sums[i] = NAN;
    sums_take(ops_cpu(), sums, needs, &of, 0, in->U, &s, 1);
}

// Scores of all units of a kind, in tiles of `width` neurons; arrays that were not declared are NULL. False: it wrote
// beside out.
static inline bool run(float *out, crit_fn *f, unsigned needs, unit_kind kind, const taps *p, int width, int pad,
                       int shift, uint64_t key) {
    int T = p->s.T, E = p->E, D = kind == UNIT_HEADS ? p->s.D : 1, all = kind == UNIT_HEADS ? p->s.H : p->s.F,
        columns = all * D;
    const float *act = kind == UNIT_HEADS ? p->a : p->z, *grad = kind == UNIT_HEADS ? p->da : p->dz;
    const float *hv = kind == UNIT_HEADS ? p->a_hv : p->z_hv, *hu = kind == UNIT_HEADS ? p->a_hu : p->z_hu;
    bool inside = true;
    for (int u = 0; u < all; u += width) {
        int U = all - u < width ? all - u : width, ld = U * D + pad;
        float *block[4] = {NULL};
        crit_in in = {.T = T,
                      .context = p->s.context,
                      .U = U,
                      .D = D,
                      .E = E,
                      .ld = ld,
                      .layer = 1,
                      .layers = 3,
                      .unit = u,
                      .seed = 5,
                      .key = key};
        const float *tile[] = {cut(act, T, columns, u * D, U * D, ld, shift, &block[0]),
                               cut(grad, T, columns, u * D, U * D, ld, shift, &block[1]),
                               cut(hv, T, columns, u * D, U * D, ld, shift, &block[2]),
                               cut(hu, T, columns, u * D, U * D, ld, shift, &block[3])};
        double sums[CRIT_TILE * USUMS];
        take_sums(sums, needs, kind, &in, tile[0], tile[1], tile[2], tile[3], p->od + u * D, p->xcorr, p->xmax);
        if (CRIT_COLUMNS(needs)) in.sums = sums;
        double *moments = xmalloc(2 * (size_t)(U * D) * sizeof *moments);
        if (needs & CRIT_MOMENTS) {
            ops_cpu()->column_moments(moments, tile[0], ld, kind == UNIT_NEURONS, 0, U * D, &(span){0, T}, 1);
            in.moments = moments;
            in.squares = p->squares[kind] + (size_t)(u * D);
        }
        if (needs & CRIT_ACT) in.act = tile[0];
        if (needs & CRIT_GRAD) in.grad = tile[1];
        if (needs & CRIT_HESS) in.hv = tile[2];
        if (needs & CRIT_HESS_COMPAT) in.hu = tile[3];
        if (needs & CRIT_REMOVAL) in.removal = p->removal + u;
        if (kind == UNIT_HEADS) {
            if (needs & CRIT_OUT_GRAD) in.out_grad = p->od;
        } else {
            in.x = p->x;
            if (needs & CRIT_WEIGHT) in.w = p->w + (size_t)u * (size_t)E;
            if (needs & CRIT_WSUMS) in.wsums = p->wsums + u * WSUMS;
            if (needs & CRIT_WGRAD) in.dw = p->dw + (size_t)u * (size_t)E;
            if (needs & CRIT_HESS_COMPAT && needs & CRIT_WGRAD) in.hu_w = p->hu_w + (size_t)u * (size_t)E;
            if (needs & CRIT_XCORR) in.xcorr = p->xcorr, in.xmax = p->xmax;
        }
        float guarded[CRIT_TILE + 2];
        for (int i = 0; i < CRIT_TILE + 2; i++) guarded[i] = 12345;
        f(guarded + 1, &in);
        inside = inside && guarded[0] == 12345 && guarded[U + 1] == 12345;
        memcpy(out + u, guarded + 1, (size_t)U * sizeof *out);
        free(moments);
        for (int i = 0; i < 4; i++) free(block[i]);
    }
    return inside;
}

static inline void each_function(void (*visit)(const criterion *c, const char *mode, unit_kind kind, crit_fn *f,
                                               unsigned needs)) {
    for (int i = 0; crit_all[i]; i++)
        for (int m = 0; m < 2; m++) {
            const crit_mode *c = crit_mode_of(crit_all[i], m);
            if (c->heads) visit(crit_all[i], mode_names[m], UNIT_HEADS, c->heads, c->needs_heads);
            if (c->neurons) visit(crit_all[i], mode_names[m], UNIT_NEURONS, c->neurons, c->needs_neurons);
        }
}
