// cpu_transformer_attention - causal attention of one sequence and head at a time, in blocks of query rows; no T x T
// matrix is stored, the gradient and the tangents compute the probabilities of a block again. With c = 1/sqrt(D) and
// row sums over the keys j <= i:
//   S = c Q K', P = softmax(S), O = P V
//   gradient   dP = dO V', dS = P (dP - sum P dP), dQ = c dS K, dK = c dS' Q, dV = P' dO
//   tangent    tS = c (tQ K' + Q tK'), tP = P (tS - sum P tS), tO = tP V + P tV
//   tangent of the gradient: the product rule on every line above.
#include "cpu_transformer_attention.h"
#include "cpu_team.h"
#include "cpu_thin.h"
#include "simd.h"
#include <cblas.h>
#include <math.h>
#include <omp.h>
#include <stdatomic.h>

enum { BLOCK = 64 };  // query rows; 64 x 2048 floats of probabilities stay in the second-level cache

// c (m, n) = alpha a op(b) + beta c
static void nt(float *c, const float *a, const float *b, int m, int n, int k, int lda, int ldb, int ldc, float alpha,
               float beta) {
    if (m && n) cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
static void nn(float *c, const float *a, const float *b, int m, int n, int k, int lda, int ldb, int ldc, float alpha,
               float beta) {
    if (m && n && k)
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
static void tn(float *c, const float *a, const float *b, int m, int n, int k, int lda, int ldb, int ldc, float alpha,
               float beta) {
    if (m && n && k) cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

// Rows i0.. of scores, each over its first `past + i + 1` columns, become probabilities; the rest of the row becomes 0.
HOT static void softmax_rows(float *p, int rows, int columns, int visible, int ld) {
    for (int t = 0; t < rows; t++, p += ld) {
        const int n = visible + t;
        softmax_f(p, n);
        for (int j = n; j < columns; j++) p[j] = 0;
    }
}

// d = p (d - sum_j p d): the softmax's derivative, along and against it; the row sums go to `sum`. Columns with p = 0
// become 0.
HOT static void softmax_derivative(float *d, const float *p, float *sum, int rows, int columns, int ld) {
    for (int t = 0; t < rows; t++, d += ld, p += ld) {
        float s = 0;
#pragma omp simd reduction(+ : s)
        for (int j = 0; j < columns; j++) s += p[j] * d[j];
        for (int j = 0; j < columns; j++) d[j] = p[j] * (d[j] - s);
        if (sum) sum[t] = s;
    }
}

// In place: dp becomes tds = tp (dp - D) + p (tdp - tD), D = sum p dp, tD = sum (tp dp + p tdp); tdp becomes ds = p (dp
// - D).
HOT static void softmax_derivative_jvp(float *dp, float *tdp, const float *p, const float *tp, int rows, int columns,
                                       int ld) {
    for (int t = 0; t < rows; t++, dp += ld, tdp += ld, p += ld, tp += ld) {
        float s = 0, ts = 0;
#pragma omp simd reduction(+ : s, ts)
        for (int j = 0; j < columns; j++) {
            s += p[j] * dp[j];
            ts += tp[j] * dp[j] + p[j] * tdp[j];
        }
        for (int j = 0; j < columns; j++) {
            const float d = dp[j] - s, td = tdp[j] - ts;
            dp[j] = tp[j] * d + p[j] * td;
            tdp[j] = p[j] * d;
        }
    }
}

// Floats from row to row: A of q and out, W of k and v, ld of scores.
typedef struct {
    int A, W, D, ld;
    float c;
} head_shape;
static head_shape shape_of(const attn_heads *h, int columns) {
    return (head_shape){h->H * h->D, h->K * h->D, h->D, (columns + 15) / 16 * 16, 1.0f / sqrtf((float)h->D)};
}
// Where a head's first numbers are.
typedef struct {
    size_t q, kv;
} head_place;
static head_place place_of(const head_shape *h, int row, int head, int kv_head) {
    return (head_place){(size_t)row * h->A + (size_t)head * h->D, (size_t)row * h->W + (size_t)kv_head * h->D};
}
static int most_columns(const attn_seq *s, int n) {
    int m = 0;
    for (int i = 0; i < n; i++) m = s[i].past + s[i].s.n > m ? s[i].past + s[i].s.n : m;
    return m;
}

static void one_head(float *out, const float *q, const float *k, const float *v, const attn_seq *s, head_shape h,
                     int head, int kv_head) {
    const int A = h.A, W = h.W, D = h.D, past = s->past;
    const head_place at = place_of(&h, s->s.row, head, kv_head);
    const size_t at_past = (size_t)kv_head * D;
    const scratch_point mark = scratch_mark();
    float *p = scratch_floats((size_t)BLOCK * h.ld);
    for (int i = s->from; i < s->s.n; i += BLOCK) {
        const int rows = s->s.n - i < BLOCK ? s->s.n - i : BLOCK, keys = i + rows;
        const float *qi = q + at.q + (size_t)i * A;
        float *oi = out + at.q + (size_t)i * A;
        nt(p, qi, s->past_k + at_past, rows, past, D, A, W, h.ld, h.c, 0);
        nt(p + past, qi, k + at.kv, rows, keys, D, A, W, h.ld, h.c, 0);
        softmax_rows(p, rows, past + keys, past + i + 1, h.ld);
        nn(oi, p + past, v + at.kv, rows, D, keys, h.ld, W, A, 1, 0);
        nn(oi, p, s->past_v + at_past, rows, D, past, h.ld, W, A, 1, 1);
    }
    scratch_release(mark);
}

static void one_head_of(float *out, const float *q, const float *k, const float *v, const attn_heads *h,
                        const attn_seq *s, int head) {
    static const float none[1] = {0};
    attn_seq seq = *s;
    if (!seq.past) seq.past_k = seq.past_v = none;
    one_head(out, q, k, v, &seq, shape_of(h, s->past + s->s.n), head, ATTN_KV_HEAD(*h, head));
}

// The heads of the sequences, in parts: the work of threads, each of which takes the next part.
typedef struct {
    float *out;
    const float *q, *k, *v;
    const attn_heads *h;
    const live_units *u;
    const attn_seq *s;
    int n, parts;
    bool few_only;
    atomic_int taken;
} units_work;

// Part `part` of the heads that sequence i runs.
static void attend_part(const units_work *w, int i, int part) {
    const attn_seq *s = &w->s[i];
    const live_units *u = w->u;
    const int H = w->h->H, listed = u ? u->n : H;
    const bool few = s->s.n - s->from < CPU_THIN;
    if (s->from >= s->s.n || (w->few_only && !few)) return;
    const scratch_point mark = scratch_mark();
    int *mine = scratch_take((size_t)H * sizeof *mine), m = 0, all = 0;
    for (int j = 0; j < listed; j++) all += cpu_wants(u, j, i);
    for (int j = 0, at = 0; j < listed; j++) {
        if (!cpu_wants(u, j, i)) continue;
        if (at >= all * part / w->parts && at < all * (part + 1) / w->parts) mine[m++] = u ? u->unit[j] : j;
        at++;
    }
    if (few || s->past_has)
        cpu_thin_heads(w->out, w->q, w->k, w->v, w->h, s, mine, m);
    else
        for (int j = 0; j < m; j++) one_head_of(w->out, w->q, w->k, w->v, w->h, s, mine[j]);
    scratch_release(mark);
}

static void attend_share(void *of, int thread) {
    units_work *w = of;
    (void)thread;
    for (int k; (k = atomic_fetch_add(&w->taken, 1)) < w->n * w->parts;) attend_part(w, k / w->parts, k % w->parts);
}

void cpu_attention_units(float *out, const float *q, const float *k, const float *v, const attn_heads *h,
                         const live_units *u, const attn_seq *s, int n, bool few_only) {
    const int threads = omp_get_max_threads(), parts = threads < h->H ? threads : h->H;
    size_t bytes = 0;
    for (int i = 0; i < n; i++)
        if (s[i].from < s[i].s.n) bytes += (size_t)(s[i].past + s[i].s.n) * (size_t)h->H * (size_t)h->D * 2 * sizeof *q;
    units_work w = {out, q, k, v, h, u, s, n, parts, few_only, 0};
    cpu_team(bytes > CPU_SMALL ? threads : 1, attend_share, &w);
}

void cpu_attention(float *out, const float *q, const float *k, const float *v, const attn_heads *h, const attn_seq *s,
                   int n) {
    const double start = clock_s();
    bool many = false;
    for (int i = 0; i < n; i++) many |= s[i].s.n - s[i].from >= CPU_THIN;
    cpu_attention_units(out, q, k, v, h, NULL, s, n, true);
    if (many)
#pragma omp parallel for schedule(dynamic) collapse(2)
        for (int i = 0; i < n; i++)
            for (int head = 0; head < h->H; head++)
                if (s[i].s.n - s[i].from >= CPU_THIN) one_head_of(out, q, k, v, h, &s[i], head);
    ops_seconds_attention += clock_s() - start;
}

// A KV head's gradients begin as 0, and its query heads add theirs in order.
static void clear_columns(float *x, int D, int ld, int rows) {
    for (int t = 0; t < rows; t++) memset(x + (size_t)t * ld, 0, sizeof(float) * (size_t)D);
}

static void one_head_back(float *dq, float *dk, float *dv, const float *dout, const float *q, const float *k,
                          const float *v, const attn_seq *s, head_shape h, int head, int kv_head) {
    const int A = h.A, W = h.W, D = h.D, n = s->s.n;
    const head_place at = place_of(&h, s->s.row, head, kv_head);
    const scratch_point mark = scratch_mark();
    float *p = scratch_floats((size_t)BLOCK * h.ld), *d = scratch_floats((size_t)BLOCK * h.ld);
    clear_columns(dq + at.q, D, A, s->from < n ? s->from : n);
    for (int i = s->from; i < n; i += BLOCK) {
        const int rows = n - i < BLOCK ? n - i : BLOCK, keys = i + rows;
        const float *qi = q + at.q + (size_t)i * A, *doi = dout + at.q + (size_t)i * A;
        nt(p, qi, k + at.kv, rows, keys, D, A, W, h.ld, h.c, 0);
        softmax_rows(p, rows, keys, i + 1, h.ld);
        nt(d, doi, v + at.kv, rows, keys, D, A, W, h.ld, 1, 0);
        tn(dv + at.kv, p, doi, keys, D, rows, h.ld, A, W, 1, 1);
        softmax_derivative(d, p, NULL, rows, keys, h.ld);
        nn(dq + at.q + (size_t)i * A, d, k + at.kv, rows, D, keys, h.ld, W, A, h.c, 0);
        tn(dk + at.kv, d, qi, keys, D, rows, h.ld, A, W, h.c, 1);
    }
    scratch_release(mark);
}

void cpu_attention_back(float *dq, float *dk, float *dv, const float *dout, const float *q, const float *k,
                        const float *v, const attn_heads *h, const attn_seq *s, int n) {
    const double start = clock_s();
    const head_shape shape = shape_of(h, most_columns(s, n));
#pragma omp parallel for schedule(dynamic) collapse(2)
    for (int i = 0; i < n; i++)
        for (int kv_head = 0; kv_head < h->K; kv_head++) {
            const head_place at = place_of(&shape, s[i].s.row, 0, kv_head);
            clear_columns(dk + at.kv, h->D, shape.W, s[i].s.n);
            clear_columns(dv + at.kv, h->D, shape.W, s[i].s.n);
            for (int head = 0; head < h->H; head++)
                if (ATTN_KV_HEAD(*h, head) == kv_head)
                    one_head_back(dq, dk, dv, dout, q, k, v, &s[i], shape, head, kv_head);
        }
    ops_seconds_attention += clock_s() - start;
}

// Probabilities p of a block of rows, the last of which sees all `keys`, and their tangent tp. q, tq begin at the
// block's first row, k, tk at the first key.
static void probabilities_jvp(float *p, float *tp, const float *q, const float *k, const float *tq, const float *tk,
                              int rows, int keys, const head_shape *h) {
    nt(p, q, k, rows, keys, h->D, h->A, h->W, h->ld, h->c, 0);
    softmax_rows(p, rows, keys, keys - rows + 1, h->ld);
    nt(tp, tq, k, rows, keys, h->D, h->A, h->W, h->ld, h->c, 0);
    nt(tp, q, tk, rows, keys, h->D, h->A, h->W, h->ld, h->c, 1);
    softmax_derivative(tp, p, NULL, rows, keys, h->ld);
}
static void one_head_jvp(float *tout, const float *q, const float *k, const float *v, const float *tq, const float *tk,
                         const float *tv, const attn_seq *s, head_shape h, int head, int kv_head) {
    const int A = h.A, W = h.W, D = h.D, n = s->s.n;
    const head_place at = place_of(&h, s->s.row, head, kv_head);
    const scratch_point mark = scratch_mark();
    float *p = scratch_floats((size_t)BLOCK * h.ld), *tp = scratch_floats((size_t)BLOCK * h.ld);
    for (int i = s->from; i < n; i += BLOCK) {
        const int rows = n - i < BLOCK ? n - i : BLOCK, keys = i + rows;
        const size_t ai = at.q + (size_t)i * A;
        probabilities_jvp(p, tp, q + ai, k + at.kv, tq + ai, tk + at.kv, rows, keys, &h);
        nn(tout + ai, tp, v + at.kv, rows, D, keys, h.ld, W, A, 1, 0);
        nn(tout + ai, p, tv + at.kv, rows, D, keys, h.ld, W, A, 1, 1);
    }
    scratch_release(mark);
}

void cpu_attention_jvp(float *tout, const float *q, const float *k, const float *v, const float *tq, const float *tk,
                       const float *tv, const attn_heads *h, const attn_seq *s, int n) {
    const double start = clock_s();
    const head_shape shape = shape_of(h, most_columns(s, n));
#pragma omp parallel for schedule(dynamic) collapse(2)
    for (int i = 0; i < n; i++)
        for (int head = 0; head < h->H; head++)
            one_head_jvp(tout, q, k, v, tq, tk, tv, &s[i], shape, head, ATTN_KV_HEAD(*h, head));
    ops_seconds_attention += clock_s() - start;
}

static void one_head_back_jvp(float *tdq, float *tdk, float *tdv, const float *dout, const float *tdout, const float *q,
                              const float *k, const float *v, const float *tq, const float *tk, const float *tv,
                              const attn_seq *s, head_shape h, int head, int kv_head) {
    const int A = h.A, W = h.W, D = h.D, n = s->s.n;
    const head_place at = place_of(&h, s->s.row, head, kv_head);
    const scratch_point mark = scratch_mark();
    float *p = scratch_floats((size_t)BLOCK * h.ld), *tp = scratch_floats((size_t)BLOCK * h.ld);
    float *d = scratch_floats((size_t)BLOCK * h.ld), *td = scratch_floats((size_t)BLOCK * h.ld);
    clear_columns(tdq + at.q, D, A, s->from < n ? s->from : n);
    for (int i = s->from; i < n; i += BLOCK) {
        const int rows = n - i < BLOCK ? n - i : BLOCK, keys = i + rows;
        const size_t ai = at.q + (size_t)i * A;
        probabilities_jvp(p, tp, q + ai, k + at.kv, tq + ai, tk + at.kv, rows, keys, &h);
        tn(tdv + at.kv, tp, dout + ai, keys, D, rows, h.ld, A, W, 1, 1);
        tn(tdv + at.kv, p, tdout + ai, keys, D, rows, h.ld, A, W, 1, 1);
        nt(d, dout + ai, v + at.kv, rows, keys, D, A, W, h.ld, 1, 0);
        nt(td, tdout + ai, v + at.kv, rows, keys, D, A, W, h.ld, 1, 0);
        nt(td, dout + ai, tv + at.kv, rows, keys, D, A, W, h.ld, 1, 1);
        softmax_derivative_jvp(d, td, p, tp, rows, keys, h.ld);  // d is now tdS, td is dS
        nn(tdq + ai, d, k + at.kv, rows, D, keys, h.ld, W, A, h.c, 0);
        nn(tdq + ai, td, tk + at.kv, rows, D, keys, h.ld, W, A, h.c, 1);
        tn(tdk + at.kv, d, q + ai, keys, D, rows, h.ld, A, W, h.c, 1);
        tn(tdk + at.kv, td, tq + ai, keys, D, rows, h.ld, A, W, h.c, 1);
    }
    scratch_release(mark);
}

void cpu_attention_back_jvp(float *tdq, float *tdk, float *tdv, const float *dout, const float *tdout, const float *q,
                            const float *k, const float *v, const float *tq, const float *tk, const float *tv,
                            const attn_heads *h, const attn_seq *s, int n) {
    const double start = clock_s();
    const head_shape shape = shape_of(h, most_columns(s, n));
#pragma omp parallel for schedule(dynamic) collapse(2)
    for (int i = 0; i < n; i++)
        for (int kv_head = 0; kv_head < h->K; kv_head++) {
            const head_place at = place_of(&shape, s[i].s.row, 0, kv_head);
            clear_columns(tdk + at.kv, h->D, shape.W, s[i].s.n);
            clear_columns(tdv + at.kv, h->D, shape.W, s[i].s.n);
            for (int head = 0; head < h->H; head++)
                if (ATTN_KV_HEAD(*h, head) == kv_head)
                    one_head_back_jvp(tdq, tdk, tdv, dout, tdout, q, k, v, tq, tk, tv, &s[i], shape, head, kv_head);
        }
    ops_seconds_attention += clock_s() - start;
}
