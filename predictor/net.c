// net - see net.h.
#include "net.h"
#include "convert.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WQ, BQ, WK, BK, WV, BV, WO, BO, POOL_TENSORS };

// ---------------------------------------------------------------- parameters
static void tensor_add(net *n, const char *name, int rows, int cols) {
    n->t[n->n++] = (net_tensor){name, rows, cols, n->floats};
    n->floats += ((size_t)rows * (size_t)cols + 15) / 16 * 16;
}

void net_shape(net *n, net_kind kind, int in, int hidden, int out) {
    *n = (net){.kind = kind, .in = in, .hidden = hidden, .out = out};
    static const char *const names[] = {"query.weight", "query.bias", "key.weight", "key.bias",
                                        "value.weight", "value.bias", "out.weight", "out.bias"};
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

static size_t numbers(const net_tensor *t) { return (size_t)t->rows * (size_t)t->cols; }

dtype net_tensor_type(const net *n, int i, dtype type) {
    return dtype_in_blocks(type) && n->t[i].cols % (int)dtype_block(type) ? DT_F32 : type;
}

size_t net_place(const net *n, int i, dtype type) {
    if (!dtype_in_blocks(type)) return (i < n->n ? n->t[i].at : n->floats) * dtype_bytes(type);
    size_t at = 0;
    for (int j = 0; j < i; j++) at += (dtype_size(net_tensor_type(n, j, type), numbers(&n->t[j])) + 63) / 64 * 64;
    return at;
}

size_t net_bytes(const net *n, dtype type) { return net_place(n, n->n, type); }

void net_put(void *to, const net *n, dtype type) {
    memset(to, 0, net_bytes(n, type));
    for (int i = 0; i < n->n; i++)
        dtype_narrow((char *)to + net_place(n, i, type), net_tensor_type(n, i, type), n->w + n->t[i].at,
                     numbers(&n->t[i]));
}

static weight view(const net *n, int i) {
    const net_tensor *t = &n->t[i];
    if (n->narrow)
        return (weight){(const char *)n->narrow + net_place(n, i, n->type),
                        net_tensor_type(n, i, n->type),
                        t->rows,
                        t->cols,
                        NULL,
                        NULL,
                        false};
    return (weight){n->w + t->at, DT_F32, t->rows, t->cols, NULL, NULL, false};
}

double net_bound(const net *n, int i) {
    const net_tensor *t = &n->t[i];
    const bool pool = i < first(n), bias = t->cols == 1 && i % 2 && biased(n);
    if (pool && bias) return 0;
    // Xavier of the stacked (3 E, E) matrix: sqrt(6 / (E + 3 E))
    if (pool && i < WO) return sqrt(1.5 / n->in);
    return 1 / sqrt(bias ? n->t[i - 1].cols : t->cols);
}

uint64_t net_key(uint64_t seed, int i) { return rng_hash(seed, (uint64_t)i, 0x6e6574); }

void net_init(net *n, uint64_t seed) {
    memset(n->w, 0, n->floats * sizeof *n->w);
    for (int i = 0; i < n->n; i++) {
        const net_tensor *t = &n->t[i];
        const double bound = net_bound(n, i);
        if (!bound) continue;
        rng r = rng_make(net_key(seed, i));
        for (size_t k = 0; k < (size_t)t->rows * (size_t)t->cols; k++)
            n->w[t->at + k] = (float)((2 * rng_uniform(&r) - 1) * bound);
    }
}

void net_start(net *n, const double *y) {
    const net_tensor *w = &n->t[fc2(n)];
    ASSERT(biased(n));
    memset(n->w + w->at, 0, (size_t)w->rows * (size_t)w->cols * sizeof *n->w);
    for (int i = 0; i < n->out; i++) n->w[w[1].at + (size_t)i] = (float)y[i];
}

void net_silence(net *n, int i) {
    const net_tensor *w = &n->t[fc2(n)];
    memset(n->w + w->at + (size_t)i * (size_t)w->cols, 0, (size_t)w->cols * sizeof *n->w);
    if (biased(n)) n->w[w[1].at + (size_t)i] = 0;
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
static float *room(const ops *o, size_t floats) { return o->alloc(floats * sizeof(float)); }

void net_work_new(net_work *k, const ops *o, const net *n, int batch, bool training) {
    *k = (net_work){.o = o, .batch = batch, .training = training};
    const size_t B = (size_t)batch, E = (size_t)n->in;
    k->x = room(o, B * E);
    k->h = room(o, B * (size_t)n->hidden);
    k->y = room(o, B * (size_t)n->out);
    if (training) {
        k->dy = room(o, B * (size_t)n->out);
        k->dh = room(o, B * (size_t)n->hidden);
    }
    if (n->kind != NET_POOL) return;
    k->s = xcalloc(B, sizeof *k->s);
    k->c = room(o, B * E);
    k->u = room(o, B * E);
    if (!training) return;
    k->du = room(o, B * E);
    k->dc = room(o, B * E);
    k->dx = room(o, B * E);
}

void net_work_tokens(net_work *k, const net *n, int rows) {
    if (rows <= k->cap) return;
    float **wide[] = {&k->tokens, &k->q, &k->k, &k->dq, &k->dk}, **narrow[] = {&k->count, &k->lse, &k->p, &k->dp};
    for (int i = 0; i < 5; i++) {
        k->o->release(*wide[i]);
        *wide[i] = i < 3 || k->training ? room(k->o, (size_t)rows * (size_t)n->in) : NULL;
    }
    for (int i = 0; i < 4; i++) {
        k->o->release(*narrow[i]);
        *narrow[i] = room(k->o, (size_t)rows);
    }
    k->o->release(k->id);
    k->id = k->o->alloc((size_t)rows * sizeof *k->id);
    k->cap = rows;
}

void net_work_free(net_work *k) {
    void *all[] = {k->x,  k->h,     k->y,   k->dy, k->dh, k->id, k->tokens, k->q,  k->k,  k->dq,
                   k->dk, k->count, k->lse, k->p,  k->dp, k->c,  k->u,      k->du, k->dc, k->dx};
    for (size_t i = 0; k->o && i < sizeof all / sizeof *all; i++) k->o->release(all[i]);
    free(k->s);
    *k = (net_work){0};
}

size_t net_work_bytes(const net *n, int batch, int rows) {
    const size_t B = (size_t)batch, E = (size_t)n->in, mlp = B * (E + 2 * (size_t)n->hidden + 2 * (size_t)n->out);
    return 4 * (n->kind == NET_POOL ? mlp + 5 * B * E + (size_t)rows * (5 * E + 5) : mlp);
}

// ---------------------------------------------------------------- forward
static void linear(const net *n, net_work *k, int i, bool bias, float *y, const float *x, int B) {
    const weight w = view(n, i), b = bias ? view(n, i + 1) : (weight){0};
    const span all = {0, B};
    k->o->linear(y, x, &w, bias ? &b : NULL, false, &all, 1);
}

static void pool(const net *n, net_work *k, int B) {
    const weight wq = view(n, WQ), bq = view(n, BQ), wk = view(n, WK), bk = view(n, BK);
    k->o->linear(k->q, k->tokens, &wq, &bq, false, k->s, B);
    k->o->linear(k->k, k->tokens, &wk, &bk, false, k->s, B);
    k->o->pool(k->c, k->p, k->lse, k->tokens, k->count, k->q, k->k, n->in, k->s, B);
    linear(n, k, WV, true, k->u, k->c, B);
    linear(n, k, WO, true, k->x, k->u, B);
}

// y of x, through k->h.
static void layers(const net *n, net_work *k, const float *x, float *y, int B) {
    const span all = {0, B};
    const weight w = view(n, fc1(n)), b = biased(n) ? view(n, fc1(n) + 1) : (weight){0};
    const sublayer_input in = {.h = (float *)(uintptr_t)x};
    const sublayer_map m = {.y = k->h, .w = &w, .b = &b, .D = 1};
    if (biased(n))
        k->o->hidden(k->h, &in, &m, 1, ACT_RELU, &all, 1);
    else
        linear(n, k, fc1(n), false, k->h, x, B);
    linear(n, k, fc2(n), biased(n), y, k->h, B);
}

void net_forward(const net *n, net_work *k, int B) {
    ASSERT(B <= k->batch);
    if (n->kind == NET_POOL) pool(n, k, B);
    layers(n, k, k->x, k->y, B);
}

void net_predict(const net *n, net_work *k, const float *x, float *y) {
    ASSERT(n->kind != NET_POOL);
    layers(n, k, x, y, 1);
}

// ---------------------------------------------------------------- backward
// Tensor i (and the bias after it) by its gradient dy' x. dy [rows, out], x [rows, in].
static void step(const net *n, net_work *k, const net_update *u, int i, bool bias, const float *dy, const float *x,
                 int rows) {
    const net_tensor *t = &n->t[i];
    k->o->linear_step(n->w + t->at, u->m + t->at, u->v + t->at, &u->a, bias ? t[1].at - t->at : 0, dy, x, t->rows,
                      t->cols, rows);
}

static void back(const net *n, net_work *k, int i, float *dx, const float *dy, int B) {
    const weight w = view(n, i);
    k->o->linear_back(dx, dy, &w, false, &(span){0, B}, 1);
}

// From dx [B, E] to the pooling's parameters.
static void pool_back(net *n, net_work *k, int B, const net_update *u) {
    const int rows = k->s[B - 1].row + k->s[B - 1].n;
    back(n, k, WO, k->du, k->dx, B);
    back(n, k, WV, k->dc, k->du, B);
    k->o->pool_back(k->dq, k->dk, k->dp, k->dc, k->tokens, k->count, k->q, k->k, k->lse, n->in, k->s, B);
    step(n, k, u, WO, true, k->dx, k->u, B);
    step(n, k, u, WV, true, k->du, k->c, B);
    step(n, k, u, WQ, true, k->dq, k->tokens, rows);
    step(n, k, u, WK, true, k->dk, k->tokens, rows);
}

void net_backward(net *n, net_work *k, int B, const net_update *u) {
    back(n, k, fc2(n), k->dh, k->dy, B);
    if (biased(n)) k->o->gate(k->dh, k->dh, k->h, n->hidden, &(span){0, B}, 1);
    step(n, k, u, fc2(n), biased(n), k->dy, k->h, B);
    if (n->kind == NET_POOL) back(n, k, fc1(n), k->dx, k->dh, B);  // before fc1 changes
    step(n, k, u, fc1(n), biased(n), k->dh, k->x, B);
    if (n->kind == NET_POOL) pool_back(n, k, B, u);
}
