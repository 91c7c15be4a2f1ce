// cpu_transformer_attention - causal attention of one sequence and head at a time, in blocks of query rows; no T x T
// matrix is stored, the gradient and the tangents compute the probabilities of a block again. With c = 1/sqrt(D) and
// row sums over the keys j <= i:
//   S = c Q K', P = softmax(S), O = P V
//   gradient   dP = dO V', dS = P (dP - sum P dP), dQ = c dS K, dK = c dS' Q, dV = P' dO
//   tangent    tS = c (tQ K' + Q tK'), tP = P (tS - sum P tS), tO = tP V + P tV
//   tangent of the gradient: the product rule on every line above.
#include "cpu_transformer_attention.h"
#include "cpu_gemm.h"
#include "cpu_team.h"
#include "cpu_thin.h"
#include "simd.h"
#include <math.h>
#include <omp.h>
#include <stdatomic.h>

enum { BLOCK = 64 };  // query rows; 64 x 2048 floats of probabilities stay in the second-level cache

static int whole_tiles(int n) { return (n + GEMM_SIDE - 1) / GEMM_SIDE * GEMM_SIDE; }

// Rows i0.. of scores, each over its first `visible + t` columns: softmax(c p); the rest of the row becomes 0. A row
// has room for whole tiles, and scores of -INFINITY, whose share is 0, fill the last one: what is left of a loop over
// vectors would be computed number by number.
HOT static void softmax_rows(float *p, int rows, int columns, int visible, int ld, float c) {
    for (int t = 0; t < rows; t++, p += ld) {
        const int n = visible + t, whole = whole_tiles(n);
        for (int j = n; j < whole; j++) p[j] = -INFINITY;
        softmax_f(p, whole, c);
        for (int j = whole; j < columns; j++) p[j] = 0;
    }
}

// d = c p (d - sum_j p d): the softmax's derivative, along and against it. Columns with p = 0 become 0.
HOT static void softmax_derivative(float *d, const float *p, int rows, int columns, int ld, float c) {
    for (int t = 0; t < rows; t++, d += ld, p += ld) {
        float s = 0;
#pragma omp simd reduction(+ : s)
        for (int j = 0; j < columns; j++) s += p[j] * d[j];
        for (int j = 0; j < columns; j++) d[j] = c * p[j] * (d[j] - s);
    }
}

// In place: dp becomes c tds = c (tp (dp - D) + p (tdp - tD)), D = sum p dp, tD = sum (tp dp + p tdp); tdp becomes
// c ds = c p (dp - D).
HOT static void softmax_derivative_jvp(float *dp, float *tdp, const float *p, const float *tp, int rows, int columns,
                                       int ld, float c) {
    for (int t = 0; t < rows; t++, dp += ld, tdp += ld, p += ld, tp += ld) {
        float s = 0, ts = 0;
#pragma omp simd reduction(+ : s, ts)
        for (int j = 0; j < columns; j++) {
            s += p[j] * dp[j];
            ts += tp[j] * dp[j] + p[j] * tdp[j];
        }
        for (int j = 0; j < columns; j++) {
            const float d = dp[j] - s, td = tdp[j] - ts;
            dp[j] = c * (tp[j] * d + p[j] * td);
            tdp[j] = c * p[j] * d;
        }
    }
}

// Floats from row to row: A of q and out, W of k and v, `wide` of a head's own numbers, ld of scores, where whole tiles
// find room.
typedef struct {
    int A, W, D, wide, ld;
    float c;
} head_shape;
static head_shape shape_of(const attn_heads *h, int columns) {
    return (head_shape){
        h->H * h->D, h->K * h->D, h->D, whole_tiles(h->D), whole_tiles(columns) + GEMM_SIDE, 1.0f / sqrtf((float)h->D)};
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

// The kernels that sequences of so many rows are worth packing for; NULL: OpenBLAS. past: rows before them.
enum { WORTH_PACKING = 24 };
static const gemm_kernels *kernels_for(int rows, int past) {
    return rows >= WORTH_PACKING && !past ? gemm_set() : NULL;
}

static bool worth_sharing(const attn_seq *s, int n, const attn_heads *h) {
    double pairs = 0;
    for (int i = 0; i < n; i++) pairs += (double)s[i].s.n * (s[i].past + s[i].s.n);
    return gemm_shared(pairs, h->H, h->D);
}

static void tiles_begin(void) {
    if (gemm_set()) gemm_set()->begin();
}
static void tiles_end(void) {
    if (gemm_set()) gemm_set()->end();
}

// A head's numbers: from `rows` rows, as many apart as `wide` says, to their places.
static void put_rows(float *to, size_t ld, const float *from, int wide, int D, int rows, bool add) {
    for (int t = 0; t < rows; t++, to += ld, from += wide)
        for (int j = 0; j < D; j++) to[j] = (add ? to[j] : 0) + from[j];
}

static void one_head(float *out, const float *q, const float *k, const float *v, const attn_seq *s, head_shape h,
                     int head, int kv_head) {
    const int A = h.A, W = h.W, D = h.D, past = s->past, n = s->s.n;
    const head_place at = place_of(&h, s->s.row, head, kv_head);
    const size_t at_past = (size_t)kv_head * D;
    const gemm_kernels *g = kernels_for(n - s->from, past);
    const scratch_point mark = scratch_mark();
    float *p = scratch_floats((size_t)BLOCK * h.ld), *o = scratch_floats((size_t)BLOCK * h.wide);
    const gemm_side keys_before = gemm_side_b(g, s->past_k + at_past, W, false, past, D),
                    values_before = gemm_side_b(g, s->past_v + at_past, W, true, D, past),
                    keys = gemm_side_b(g, k + at.kv, W, false, n, D), values = gemm_side_b(g, v + at.kv, W, true, D, n);
    for (int i = s->from; i < n; i += BLOCK) {
        const int rows = n - i < BLOCK ? n - i : BLOCK, seen = i + rows;
        const scratch_point of_block = scratch_mark();
        const gemm_side queries = gemm_side_a(g, q + at.q + (size_t)i * A, A, false, rows, D);
        gemm_product(g, p, h.ld, &queries, &keys_before, rows, past, D, false);
        gemm_product(g, p + past, h.ld, &queries, &keys, rows, seen, D, false);
        softmax_rows(p, rows, past + seen, past + i + 1, h.ld, h.c);
        const gemm_side before = gemm_side_a(g, p, h.ld, false, rows, past),
                        own = gemm_side_a(g, p + past, h.ld, false, rows, seen);
        gemm_product(g, o, h.wide, &own, &values, rows, D, seen, false);
        if (past) gemm_product(g, o, h.wide, &before, &values_before, rows, D, past, true);
        put_rows(out + at.q + (size_t)i * A, (size_t)A, o, h.wide, D, rows, false);
        scratch_release(of_block);
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
    if (few || (s->past && s->past_has))
        cpu_thin_heads(w->out, w->q, w->k, w->v, w->h, s, mine, m);
    else
        for (int j = 0; j < m; j++) one_head_of(w->out, w->q, w->k, w->v, w->h, s, mine[j]);
    scratch_release(mark);
}

static void attend_share(void *of, int thread) {
    units_work *w = of;
    (void)thread;
    if (!w->few_only) tiles_begin();
    for (int k; (k = atomic_fetch_add(&w->taken, 1)) < w->n * w->parts;) attend_part(w, k / w->parts, k % w->parts);
    if (!w->few_only) tiles_end();
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
#pragma omp parallel if (worth_sharing(s, n, h))
    {
        tiles_begin();
#pragma omp for schedule(dynamic) collapse(2)
        for (int i = 0; i < n; i++)
            for (int head = 0; head < h->H; head++)
                if (s[i].s.n - s[i].from >= CPU_THIN) one_head_of(out, q, k, v, h, &s[i], head);
        tiles_end();
    }
    ops_seconds_attention += clock_s() - start;
}

static void clear_columns(float *x, int D, int ld, int rows) {
    for (int t = 0; t < rows; t++) memset(x + (size_t)t * ld, 0, sizeof(float) * (size_t)D);
}

// ---------------------------------------------------------------- gradients
// Each query head has gradients of keys and values of its own, [rows, wide]; those of a KV head are added in order.
typedef struct {
    float *k, *v;
} kv_grads;

static int tile_rows(const attn_seq *s) { return whole_tiles(s->s.n); }

// [n, H] of them, cleared.
static kv_grads *grads_of_heads(const attn_seq *s, int n, const attn_heads *h, int wide) {
    kv_grads *of = scratch_take((size_t)n * (size_t)h->H * sizeof *of);
    for (int i = 0; i < n * h->H; i++) {
        const size_t floats = (size_t)tile_rows(&s[i / h->H]) * (size_t)wide;
        of[i].k = scratch_floats(2 * floats);
        of[i].v = of[i].k + floats;
    }
    return of;
}

static void add_heads(float *dk, float *dv, const kv_grads *of, const attn_seq *s, int n, const attn_heads *h,
                      const head_shape *shape) {
#pragma omp parallel for schedule(dynamic) collapse(2)
    for (int i = 0; i < n; i++)
        for (int kv_head = 0; kv_head < h->K; kv_head++) {
            const head_place at = place_of(shape, s[i].s.row, 0, kv_head);
            clear_columns(dk + at.kv, h->D, shape->W, s[i].s.n);
            clear_columns(dv + at.kv, h->D, shape->W, s[i].s.n);
            for (int head = 0; head < h->H; head++) {
                if (ATTN_KV_HEAD(*h, head) != kv_head) continue;
                const kv_grads *d = &of[i * h->H + head];
                put_rows(dk + at.kv, (size_t)shape->W, d->k, shape->wide, h->D, s[i].s.n, true);
                put_rows(dv + at.kv, (size_t)shape->W, d->v, shape->wide, h->D, s[i].s.n, true);
            }
        }
}

static void one_head_back(float *dq, const kv_grads *d, const float *dout, const float *q, const float *k,
                          const float *v, const attn_seq *s, head_shape h, int head, int kv_head) {
    const int A = h.A, W = h.W, D = h.D, n = s->s.n;
    const head_place at = place_of(&h, s->s.row, head, kv_head);
    const gemm_kernels *g = kernels_for(n - s->from, 0);
    const scratch_point mark = scratch_mark();
    float *p = scratch_floats((size_t)BLOCK * h.ld), *ds = scratch_floats((size_t)BLOCK * h.ld),
          *o = scratch_floats((size_t)BLOCK * h.wide);
    memset(d->k, 0, (size_t)tile_rows(s) * (size_t)h.wide * sizeof *d->k);
    memset(d->v, 0, (size_t)tile_rows(s) * (size_t)h.wide * sizeof *d->v);
    clear_columns(dq + at.q, D, A, s->from < n ? s->from : n);
    const gemm_side keys = gemm_side_b(g, k + at.kv, W, false, n, D),
                    values = gemm_side_b(g, v + at.kv, W, false, n, D),
                    along_keys = gemm_side_b(g, k + at.kv, W, true, D, n);
    for (int i = s->from; i < n; i += BLOCK) {
        const int rows = n - i < BLOCK ? n - i : BLOCK, seen = i + rows;
        const float *qi = q + at.q + (size_t)i * A, *doi = dout + at.q + (size_t)i * A;
        const scratch_point of_block = scratch_mark();
        const gemm_side queries = gemm_side_a(g, qi, A, false, rows, D), along_q = gemm_side_b(g, qi, A, true, D, rows),
                        outs = gemm_side_a(g, doi, A, false, rows, D), along_do = gemm_side_b(g, doi, A, true, D, rows);
        gemm_product(g, p, h.ld, &queries, &keys, rows, seen, D, false);
        softmax_rows(p, rows, seen, i + 1, h.ld, h.c);
        const gemm_side p_turned = gemm_side_a(g, p, h.ld, true, seen, rows);
        gemm_product(g, ds, h.ld, &outs, &values, rows, seen, D, false);
        gemm_product(g, d->v, h.wide, &p_turned, &along_do, seen, D, rows, true);
        softmax_derivative(ds, p, rows, seen, h.ld, h.c);
        const gemm_side ds_rows = gemm_side_a(g, ds, h.ld, false, rows, seen),
                        ds_turned = gemm_side_a(g, ds, h.ld, true, seen, rows);
        gemm_product(g, o, h.wide, &ds_rows, &along_keys, rows, D, seen, false);
        put_rows(dq + at.q + (size_t)i * A, (size_t)A, o, h.wide, D, rows, false);
        gemm_product(g, d->k, h.wide, &ds_turned, &along_q, seen, D, rows, true);
        scratch_release(of_block);
    }
    scratch_release(mark);
}

void cpu_attention_back(float *dq, float *dk, float *dv, const float *dout, const float *q, const float *k,
                        const float *v, const attn_heads *h, const attn_seq *s, int n) {
    const double start = clock_s();
    const head_shape shape = shape_of(h, most_columns(s, n));
    const scratch_point mark = scratch_mark();
    kv_grads *d = grads_of_heads(s, n, h, shape.wide);
#pragma omp parallel if (worth_sharing(s, n, h))
    {
        tiles_begin();
#pragma omp for schedule(dynamic) collapse(2)
        for (int i = 0; i < n; i++)
            for (int head = 0; head < h->H; head++)
                one_head_back(dq, &d[i * h->H + head], dout, q, k, v, &s[i], shape, head, ATTN_KV_HEAD(*h, head));
        tiles_end();
    }
    add_heads(dk, dv, d, s, n, h, &shape);
    scratch_release(mark);
    ops_seconds_attention += clock_s() - start;
}

// ---------------------------------------------------------------- tangents
// Probabilities p of a block of rows, the last of which sees all `keys`, and their tangent tp. q, tq: the block's rows.
static void probabilities_jvp(const gemm_kernels *g, float *p, float *tp, const gemm_side *q, const gemm_side *tq,
                              const gemm_side *keys, const gemm_side *tkeys, int rows, int seen, const head_shape *h) {
    gemm_product(g, p, h->ld, q, keys, rows, seen, h->D, false);
    softmax_rows(p, rows, seen, seen - rows + 1, h->ld, h->c);
    gemm_product(g, tp, h->ld, tq, keys, rows, seen, h->D, false);
    gemm_product(g, tp, h->ld, q, tkeys, rows, seen, h->D, true);
    softmax_derivative(tp, p, rows, seen, h->ld, h->c);
}
static void one_head_jvp(float *tout, const float *q, const float *k, const float *v, const float *tq, const float *tk,
                         const float *tv, const attn_seq *s, head_shape h, int head, int kv_head) {
    const int A = h.A, W = h.W, D = h.D, n = s->s.n;
    const head_place at = place_of(&h, s->s.row, head, kv_head);
    const gemm_kernels *g = kernels_for(n - s->from, 0);
    const scratch_point mark = scratch_mark();
    float *p = scratch_floats((size_t)BLOCK * h.ld), *tp = scratch_floats((size_t)BLOCK * h.ld),
          *o = scratch_floats((size_t)BLOCK * h.wide);
    const gemm_side keys = gemm_side_b(g, k + at.kv, W, false, n, D),
                    tkeys = gemm_side_b(g, tk + at.kv, W, false, n, D),
                    values = gemm_side_b(g, v + at.kv, W, true, D, n),
                    tvalues = gemm_side_b(g, tv + at.kv, W, true, D, n);
    for (int i = s->from; i < n; i += BLOCK) {
        const int rows = n - i < BLOCK ? n - i : BLOCK, seen = i + rows;
        const size_t ai = at.q + (size_t)i * A;
        const scratch_point of_block = scratch_mark();
        const gemm_side qs = gemm_side_a(g, q + ai, A, false, rows, D),
                        tqs = gemm_side_a(g, tq + ai, A, false, rows, D);
        probabilities_jvp(g, p, tp, &qs, &tqs, &keys, &tkeys, rows, seen, &h);
        const gemm_side ps = gemm_side_a(g, p, h.ld, false, rows, seen),
                        tps = gemm_side_a(g, tp, h.ld, false, rows, seen);
        gemm_product(g, o, h.wide, &tps, &values, rows, D, seen, false);
        gemm_product(g, o, h.wide, &ps, &tvalues, rows, D, seen, true);
        put_rows(tout + ai, (size_t)A, o, h.wide, D, rows, false);
        scratch_release(of_block);
    }
    scratch_release(mark);
}

void cpu_attention_jvp(float *tout, const float *q, const float *k, const float *v, const float *tq, const float *tk,
                       const float *tv, const attn_heads *h, const attn_seq *s, int n) {
    const double start = clock_s();
    const head_shape shape = shape_of(h, most_columns(s, n));
#pragma omp parallel if (worth_sharing(s, n, h))
    {
        tiles_begin();
#pragma omp for schedule(dynamic) collapse(2)
        for (int i = 0; i < n; i++)
            for (int head = 0; head < h->H; head++)
                one_head_jvp(tout, q, k, v, tq, tk, tv, &s[i], shape, head, ATTN_KV_HEAD(*h, head));
        tiles_end();
    }
    ops_seconds_attention += clock_s() - start;
}

static void one_head_back_jvp(float *tdq, const kv_grads *td, const float *dout, const float *tdout, const float *q,
                              const float *k, const float *v, const float *tq, const float *tk, const float *tv,
                              const attn_seq *s, head_shape h, int head, int kv_head) {
    const int A = h.A, W = h.W, D = h.D, n = s->s.n;
    const head_place at = place_of(&h, s->s.row, head, kv_head);
    const gemm_kernels *g = kernels_for(n - s->from, 0);
    const scratch_point mark = scratch_mark();
    float *p = scratch_floats((size_t)BLOCK * h.ld), *tp = scratch_floats((size_t)BLOCK * h.ld);
    float *ds = scratch_floats((size_t)BLOCK * h.ld), *tds = scratch_floats((size_t)BLOCK * h.ld),
          *o = scratch_floats((size_t)BLOCK * h.wide);
    memset(td->k, 0, (size_t)tile_rows(s) * (size_t)h.wide * sizeof *td->k);
    memset(td->v, 0, (size_t)tile_rows(s) * (size_t)h.wide * sizeof *td->v);
    clear_columns(tdq + at.q, D, A, s->from < n ? s->from : n);
    const gemm_side keys = gemm_side_b(g, k + at.kv, W, false, n, D),
                    tkeys = gemm_side_b(g, tk + at.kv, W, false, n, D),
                    values = gemm_side_b(g, v + at.kv, W, false, n, D),
                    tvalues = gemm_side_b(g, tv + at.kv, W, false, n, D),
                    along_keys = gemm_side_b(g, k + at.kv, W, true, D, n),
                    along_tkeys = gemm_side_b(g, tk + at.kv, W, true, D, n);
    for (int i = s->from; i < n; i += BLOCK) {
        const int rows = n - i < BLOCK ? n - i : BLOCK, seen = i + rows;
        const size_t ai = at.q + (size_t)i * A;
        const scratch_point of_block = scratch_mark();
        const gemm_side qs = gemm_side_a(g, q + ai, A, false, rows, D),
                        tqs = gemm_side_a(g, tq + ai, A, false, rows, D),
                        dos = gemm_side_a(g, dout + ai, A, false, rows, D),
                        tdos = gemm_side_a(g, tdout + ai, A, false, rows, D),
                        along_q = gemm_side_b(g, q + ai, A, true, D, rows),
                        along_tq = gemm_side_b(g, tq + ai, A, true, D, rows),
                        along_do = gemm_side_b(g, dout + ai, A, true, D, rows),
                        along_tdo = gemm_side_b(g, tdout + ai, A, true, D, rows);
        probabilities_jvp(g, p, tp, &qs, &tqs, &keys, &tkeys, rows, seen, &h);
        const gemm_side p_turned = gemm_side_a(g, p, h.ld, true, seen, rows),
                        tp_turned = gemm_side_a(g, tp, h.ld, true, seen, rows);
        gemm_product(g, td->v, h.wide, &tp_turned, &along_do, seen, D, rows, true);
        gemm_product(g, td->v, h.wide, &p_turned, &along_tdo, seen, D, rows, true);
        gemm_product(g, ds, h.ld, &dos, &values, rows, seen, D, false);
        gemm_product(g, tds, h.ld, &tdos, &values, rows, seen, D, false);
        gemm_product(g, tds, h.ld, &dos, &tvalues, rows, seen, D, true);
        softmax_derivative_jvp(ds, tds, p, tp, rows, seen, h.ld, h.c);  // ds is now that of tdS, tds that of dS
        const gemm_side t_rows = gemm_side_a(g, ds, h.ld, false, rows, seen),
                        d_rows = gemm_side_a(g, tds, h.ld, false, rows, seen),
                        t_turned = gemm_side_a(g, ds, h.ld, true, seen, rows),
                        d_turned = gemm_side_a(g, tds, h.ld, true, seen, rows);
        gemm_product(g, o, h.wide, &t_rows, &along_keys, rows, D, seen, false);
        gemm_product(g, o, h.wide, &d_rows, &along_tkeys, rows, D, seen, true);
        put_rows(tdq + ai, (size_t)A, o, h.wide, D, rows, false);
        gemm_product(g, td->k, h.wide, &t_turned, &along_q, seen, D, rows, true);
        gemm_product(g, td->k, h.wide, &d_turned, &along_tq, seen, D, rows, true);
        scratch_release(of_block);
    }
    scratch_release(mark);
}

void cpu_attention_back_jvp(float *tdq, float *tdk, float *tdv, const float *dout, const float *tdout, const float *q,
                            const float *k, const float *v, const float *tq, const float *tk, const float *tv,
                            const attn_heads *h, const attn_seq *s, int n) {
    const double start = clock_s();
    const head_shape shape = shape_of(h, most_columns(s, n));
    const scratch_point mark = scratch_mark();
    kv_grads *d = grads_of_heads(s, n, h, shape.wide);
#pragma omp parallel if (worth_sharing(s, n, h))
    {
        tiles_begin();
#pragma omp for schedule(dynamic) collapse(2)
        for (int i = 0; i < n; i++)
            for (int head = 0; head < h->H; head++)
                one_head_back_jvp(tdq, &d[i * h->H + head], dout, tdout, q, k, v, tq, tk, tv, &s[i], shape, head,
                                  ATTN_KV_HEAD(*h, head));
        tiles_end();
    }
    add_heads(tdk, tdv, d, s, n, h, &shape);
    scratch_release(mark);
    ops_seconds_attention += clock_s() - start;
}
