// net - see net.h. Matrix products are single-threaded tiles shared out by OpenMP, so the bits do not depend on the thread count; a tile
// of a weight's gradient is used for its AdamW step while it is in the cache and never stored.
#include "net.h"
#include "ops_cpu.h"
#include "simd.h"
#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WQ, BQ, WK, BK, WV, BV, WO, BO, POOL_TENSORS, TILE = 64 };

// ---------------------------------------------------------------- parameters
static void tensor_add(net *n, const char *name, int rows, int cols) {
    n->t[n->n++] = (net_tensor){name, rows, cols, n->floats};
    n->floats += ((size_t)rows * (size_t)cols + 15) / 16 * 16;
}

void net_shape(net *n, net_kind kind, int in, int hidden, int out) {
    *n = (net){.kind = kind, .in = in, .hidden = hidden, .out = out};
    static const char *const names[] = {"query.weight", "query.bias", "key.weight", "key.bias", "value.weight", "value.bias", "out.weight", "out.bias"};
    for (int i = 0; kind == NET_POOL && i < POOL_TENSORS; i++) tensor_add(n, names[i], in, i % 2 ? 1 : in);
    tensor_add(n, "fc1.weight", hidden, in);
    if (kind != NET_PAIR) tensor_add(n, "fc1.bias", hidden, 1);
    tensor_add(n, "fc2.weight", out, hidden);
    if (kind != NET_PAIR) tensor_add(n, "fc2.bias", out, 1);
}

static int first(const net *n) { return n->kind == NET_POOL ? POOL_TENSORS : 0; }
static int fc1(const net *n) { return first(n); }
static int fc2(const net *n) { return first(n) + (n->kind == NET_PAIR ? 1 : 2); }
static bool biased(const net *n) { return n->kind != NET_PAIR; }

static weight view(const net *n, int i) {
    const net_tensor *t = &n->t[i];
    if (n->narrow) return (weight){(const char *)n->narrow + t->at * dtype_bytes(n->type), n->type, t->rows, t->cols, NULL};
    return (weight){n->w + t->at, DT_F32, t->rows, t->cols, NULL};
}

void net_init(net *n, uint64_t seed) {
    memset(n->w, 0, n->floats * sizeof *n->w);
    for (int i = 0; i < n->n; i++) {
        const net_tensor *t = &n->t[i];
        const bool pool = i < first(n), bias = t->cols == 1 && i % 2 && biased(n);
        if (pool && bias) continue;
        const int fan_in = bias ? n->t[i - 1].cols : t->cols;
        const double bound = pool && i < WO ? sqrt(1.5 / n->in) : 1 / sqrt(fan_in);  // Xavier of the stacked (3 E, E) matrix: sqrt(6 / (E + 3 E))
        rng r = rng_make(rng_hash(seed, (uint64_t)i, 0x6e6574));
        for (size_t k = 0; k < (size_t)t->rows * (size_t)t->cols; k++) n->w[t->at + k] = (float)((2 * rng_uniform(&r) - 1) * bound);
    }
}

void net_start(net *n, const double *y) {
    const net_tensor *w = &n->t[fc2(n)];
    ASSERT(biased(n));
    memset(n->w + w->at, 0, (size_t)w->rows * (size_t)w->cols * sizeof *n->w);
    for (int i = 0; i < n->out; i++) n->w[w[1].at + (size_t)i] = (float)y[i];
}

void net_start_pool(net *n, const double *mean, const double *deviation) {
    float *w = n->w + n->t[WV].at, *b = n->w + n->t[BV].at;
    ASSERT(n->kind == NET_POOL);
    for (int i = 0; i < n->in; i++, w += n->in)
        for (int j = 0; j < n->in; j++) {
            w[j] = (float)((double)w[j] / deviation[j]);
            b[i] -= (float)((double)w[j] * mean[j]);
        }
}

double net_macs(const net *n, int T) {
    const double E = n->in, mlp = E * n->hidden + (double)n->hidden * n->out;
    return n->kind == NET_POOL ? mlp + 2 * T * E * E + (double)T * T * E + T * E + 2 * E * E : mlp;
}

// ---------------------------------------------------------------- workspace
static float *room(size_t floats) {
    float *p = xaligned(floats * sizeof *p);
    memset(p, 0, floats * sizeof *p);
    return p;
}

void net_work_new(net_work *k, const net *n, int batch, bool training) {
    *k = (net_work){.batch = batch, .training = training};
    const size_t B = (size_t)batch, E = (size_t)n->in;
    k->x = room(B * E);
    k->h = room(B * (size_t)n->hidden);
    k->y = room(B * (size_t)n->out);
    if (training) {
        k->dy = room(B * (size_t)n->out);
        k->dh = room(B * (size_t)n->hidden);
    }
    if (n->kind != NET_POOL) return;
    k->s = xcalloc(B, sizeof *k->s);
    k->c = room(B * E);
    k->u = room(B * E);
    if (!training) return;
    k->du = room(B * E);
    k->dc = room(B * E);
    k->dx = room(B * E);
}

void net_work_tokens(net_work *k, const net *n, int rows) {
    if (rows <= k->cap) return;
    float **wide[] = {&k->tokens, &k->q, &k->k, &k->dq, &k->dk}, **narrow[] = {&k->count, &k->lse, &k->p, &k->dp};
    for (int i = 0; i < 5; i++) {
        free(*wide[i]);
        *wide[i] = i < 3 || k->training ? room((size_t)rows * (size_t)n->in) : NULL;
    }
    for (int i = 0; i < 4; i++) {
        free(*narrow[i]);
        *narrow[i] = room((size_t)rows);
    }
    k->cap = rows;
}

void net_work_free(net_work *k) {
    void *all[] = {k->x, k->h, k->y, k->dy, k->dh, k->s, k->tokens, k->q, k->k, k->dq, k->dk, k->count, k->lse, k->p, k->dp, k->part, k->c, k->u, k->du, k->dc, k->dx};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    *k = (net_work){0};
}

size_t net_work_bytes(const net *n, int batch) { return (size_t)batch * 4 * (size_t)(n->in * (n->kind == NET_POOL ? 6 : 1) + 2 * n->hidden + 2 * n->out); }

// ---------------------------------------------------------------- forward
static void linear(float *y, const float *x, const net *n, int i, bool bias, int B) {
    const weight w = view(n, i), b = bias ? view(n, i + 1) : (weight){0};
    const span all = {0, B};
    ops_cpu()->linear(y, x, &w, bias ? &b : NULL, false, &all, 1);
}

// Work items of attention: TILE query rows of one example.
typedef struct { int example, row, n; size_t part; } tile;

static tile *tiles_of(const net_work *k, int B, int *count, size_t *floats) {
    int total = 0;
    for (int i = 0; i < B; i++) total += (k->s[i].n + TILE - 1) / TILE;
    tile *t = xmalloc((size_t)total * sizeof *t);
    *count = 0;
    *floats = 0;
    for (int i = 0; i < B; i++)
        for (int r = 0; r < k->s[i].n; r += TILE) {
            t[(*count)++] = (tile){i, k->s[i].row + r, k->s[i].n - r < TILE ? k->s[i].n - r : TILE, *floats};
            *floats += (size_t)k->s[i].n;
        }
    return t;
}

// Scaled scores of some queries against all T keys.
static void attend(float *score, const net *n, const net_work *k, const span *s, int row, int rows) {
    const int E = n->in;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, s->n, E, 1 / sqrtf((float)E), k->q + (size_t)row * (size_t)E, E, k->k + (size_t)s->row * (size_t)E, E, 0,
                score, s->n);
}

static float tokens_of(const net_work *k, const span *s) {
    float tokens = 0;
    for (int r = 0; r < s->n; r++) tokens += k->count[s->row + r];
    return tokens;
}

// Row by row the log of the sum of exponentials, and what each of T keys gets from all rows together. of: the rows' counts, keys: the keys'.
HOT static void softmax_sums(float *lse, float *sum, float *score, const float *of, const float *keys, int rows, int T) {
    memset(sum, 0, (size_t)T * sizeof *sum);
    for (int r = 0; r < rows; r++, score += T) {
        float most = score[0], all = 0;
        for (int j = 1; j < T; j++) most = score[j] > most ? score[j] : most;
        for (int j = 0; j < T; j++) score[j] = keys[j] * exp_f(score[j] - most);
#pragma omp simd reduction(+ : all)
        for (int j = 0; j < T; j++) all += score[j];
        lse[r] = most + logf(all);
        const float share = of[r] / all;
        for (int j = 0; j < T; j++) sum[j] += score[j] * share;
    }
}

static void pool(const net *n, net_work *k, int B) {
    const weight wq = view(n, WQ), bq = view(n, BQ), wk = view(n, WK), bk = view(n, BK);
    const int E = n->in;
    ops_cpu()->linear(k->q, k->tokens, &wq, &bq, false, k->s, B);
    ops_cpu()->linear(k->k, k->tokens, &wk, &bk, false, k->s, B);
    int count;
    size_t floats;
    tile *t = tiles_of(k, B, &count, &floats);
    if (floats > k->part_cap) {
        free(k->part);
        k->part = room(k->part_cap = floats);
    }
#pragma omp parallel for schedule(dynamic)
    for (int i = 0; i < count; i++) {
        const span *s = &k->s[t[i].example];
        float *score = cpu_scratch(4, (size_t)TILE * (size_t)s->n);
        attend(score, n, k, s, t[i].row, t[i].n);
        softmax_sums(k->lse + t[i].row, k->part + t[i].part, score, k->count + t[i].row, k->count + s->row, t[i].n, s->n);
    }
    for (int i = 0; i < B; i++) memset(k->p + k->s[i].row, 0, (size_t)k->s[i].n * sizeof *k->p);
    for (int i = 0; i < count; i++) {
        const span *s = &k->s[t[i].example];
        const float tokens = tokens_of(k, s);
        for (int j = 0; j < s->n; j++) k->p[s->row + j] += k->part[t[i].part + (size_t)j] / tokens;
    }
    free(t);
#pragma omp parallel for schedule(dynamic)
    for (int i = 0; i < B; i++) {
        const span *s = &k->s[i];
        cblas_sgemv(CblasRowMajor, CblasTrans, s->n, E, 1, k->tokens + (size_t)s->row * (size_t)E, E, k->p + s->row, 1, 0, k->c + (size_t)i * (size_t)E, 1);
    }
    linear(k->u, k->c, n, WV, true, B);
    linear(k->x, k->u, n, WO, true, B);
}

void net_forward(const net *n, net_work *k, int B) {
    ASSERT(B <= k->batch);
    if (n->kind == NET_POOL) pool(n, k, B);
    linear(k->h, k->x, n, fc1(n), biased(n), B);
    if (biased(n)) {
        const span all = {0, B};
        ops_cpu()->relu(k->h, k->h, n->hidden, &all, 1);
    }
    linear(k->y, k->h, n, fc2(n), biased(n), B);
}

// ---------------------------------------------------------------- backward
static void apply(const net *n, const net_update *u, size_t at, const float *g, size_t count) {
    if (u->grad) memcpy(u->grad + at, g, count * sizeof *g);
    else adamw_update(&u->a, n->w + at, g, u->m + at, u->v + at, count);
}

// Gradient dy' x of tensor i (and of its bias), used at once. dy [rows, out], x [rows, in].
static void step(const net *n, const net_update *u, int i, bool bias, const float *dy, const float *x, int rows) {
    const net_tensor *t = &n->t[i];
    const int in = t->cols, out = t->rows;
    const int some = in >= 4096 ? 16 : in >= 512 ? (1 << 16) / in : 128, tiles = (out + some - 1) / some;
#pragma omp parallel for schedule(dynamic)
    for (int k = 0; k < tiles; k++) {
        const int j0 = k * some, cols = out - j0 < some ? out - j0 : some;
        float *g = cpu_scratch(4, (size_t)some * (size_t)in), *gb = cpu_scratch(5, (size_t)some);
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, cols, in, rows, 1, dy + j0, out, x, in, 0, g, in);
        apply(n, u, t->at + (size_t)j0 * (size_t)in, g, (size_t)cols * (size_t)in);
        if (!bias) continue;
        for (int j = 0; j < cols; j++) {
            double sum = 0;
            for (int r = 0; r < rows; r++) sum += (double)dy[(size_t)r * (size_t)out + (size_t)(j0 + j)];
            gb[j] = (float)sum;
        }
        apply(n, u, n->t[i + 1].at + (size_t)j0, gb, (size_t)cols);
    }
}

static void back(float *dx, const float *dy, const net *n, int i, int B) {
    const weight w = view(n, i);
    const span all = {0, B};
    ops_cpu()->linear_back(dx, dy, &w, false, &all, 1);
}

// P[t, s] = n_s exp(score - lse); dscore = n_t P (dp - sum P dp) / tokens, through the scale 1 / sqrt(E).
HOT static void softmax_back(float *score, const float *lse, const float *dp, const float *of, const float *keys, float scale, int rows, int T) {
    for (int r = 0; r < rows; r++, score += T) {
        float mean = 0;
        for (int j = 0; j < T; j++) score[j] = keys[j] * exp_f(score[j] - lse[r]);
#pragma omp simd reduction(+ : mean)
        for (int j = 0; j < T; j++) mean += score[j] * dp[j];
        for (int j = 0; j < T; j++) score[j] *= (dp[j] - mean) * scale * of[r];
    }
}

// From dx [B, E] to the gradients of the pooling's parameters.
static void pool_back(const net *n, net_work *k, int B, const net_update *up) {
    const int E = n->in;
    back(k->du, k->dx, n, WO, B);
    back(k->dc, k->du, n, WV, B);
#pragma omp parallel for schedule(dynamic)
    for (int i = 0; i < B; i++) {
        const span *s = &k->s[i];
        const float *x = k->tokens + (size_t)s->row * (size_t)E;
        float *dq = k->dq + (size_t)s->row * (size_t)E, *dk = k->dk + (size_t)s->row * (size_t)E, *score = cpu_scratch(4, (size_t)TILE * (size_t)s->n);
        const float scale = 1 / (sqrtf((float)E) * tokens_of(k, s));
        cblas_sgemv(CblasRowMajor, CblasNoTrans, s->n, E, 1, x, E, k->dc + (size_t)i * (size_t)E, 1, 0, k->dp + s->row, 1);
        for (int r = 0; r < s->n; r += TILE) {
            const int rows = s->n - r < TILE ? s->n - r : TILE;
            attend(score, n, k, s, s->row + r, rows);
            softmax_back(score, k->lse + s->row + r, k->dp + s->row, k->count + s->row + r, k->count + s->row, scale, rows, s->n);
            cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, rows, E, s->n, 1, score, s->n, k->k + (size_t)s->row * (size_t)E, E, 0, dq + (size_t)r * (size_t)E, E);
            cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, s->n, E, rows, 1, score, s->n, k->q + (size_t)(s->row + r) * (size_t)E, E, r ? 1 : 0, dk, E);
        }
    }
    const int rows = k->s[B - 1].row + k->s[B - 1].n;
    step(n, up, WO, true, k->dx, k->u, B);
    step(n, up, WV, true, k->du, k->c, B);
    step(n, up, WQ, true, k->dq, k->tokens, rows);
    step(n, up, WK, true, k->dk, k->tokens, rows);
}

void net_backward(net *n, net_work *k, int B, const net_update *u) {
    const span all = {0, B};
    back(k->dh, k->dy, n, fc2(n), B);
    if (biased(n)) ops_cpu()->gate(k->dh, k->dh, k->h, n->hidden, &all, 1);
    step(n, u, fc2(n), biased(n), k->dy, k->h, B);
    if (n->kind == NET_POOL) back(k->dx, k->dh, n, fc1(n), B);  // before fc1 changes
    step(n, u, fc1(n), biased(n), k->dh, k->x, B);
    if (n->kind == NET_POOL) pool_back(n, k, B, u);
}
