// opt - an OPT model's weights: loading, K/V caches. Contract in opt.h; names and shapes are in opt_tensors.c, the passes in opt_run.c and
// opt_grad.c.
#include "ops.h"
#include "ops_cpu.h"
#include "opt_tensors.h"
#include <stdlib.h>
#include <string.h>

// 16-bit weights whose fp32 form takes at most this many bytes are widened once, for products that are bound by arithmetic; larger ones tile
// by tile in every product.
static const size_t widen_limit = (size_t)1 << 30;

// ---------------------------------------------------------------- loading
struct source { const tensor *t; int n; float *wide; size_t used, bytes; const ops *o; char *block; };

static int bind_weight(void *ctx, const char *name, int rows, int cols, weight *where) {
    struct source *s = ctx;
    const tensor *t = NULL;
    for (int i = 0; i < s->n && !t; i++)
        if (strcmp(s->t[i].name, name) == 0) t = &s->t[i];
    if (!t) return err_set("tensor %s is missing", name);
    if (t->dim[0] != rows || (cols == OPT_VECTOR ? t->rank != 1 : t->rank != 2 || t->dim[1] != cols)) return err_set("tensor %s has another shape than the configuration says", name);
    *where = (weight){t->data, t->type, rows, cols == OPT_VECTOR ? 1 : cols, NULL};
    if (!s->wide || t->type == DT_F32) return 0;
    const size_t n = (size_t)rows * (size_t)where->cols;
    cpu_widen(s->wide + s->used, t->data, t->type, n);
    where->wide = s->wide + s->used;
    s->used += n;
    return 0;
}

static int bind(opt *m, const tensor *t, int n) {
    struct source s = {.t = t, .n = n};
    size_t narrow = 0;
    for (int i = 0; i < n; i++) {
        size_t count = 1;
        for (int d = 0; d < t[i].rank; d++) count *= (size_t)t[i].dim[d];
        if (t[i].type != DT_F32) narrow += count;
    }
    if (m->o->host && narrow && narrow * sizeof(float) <= widen_limit) s.wide = m->wide = xaligned(narrow * sizeof(float));
    m->layer = m->stored = xcalloc((size_t)m->c.L, sizeof *m->layer);
    return opt_each_weight(m, bind_weight, &s);
}

// On another device matrices keep their type; vectors are fp32, so that kernels need one form of them.
static size_t device_bytes(const weight *w) {
    const size_t n = (size_t)w->rows * (size_t)w->cols * (w->cols == 1 ? sizeof(float) : dtype_bytes(w->type));
    return (n + 255) / 256 * 256;
}

static int count_weight(void *ctx, const char *name, int rows, int cols, weight *where) {
    (void)name, (void)rows, (void)cols;
    ((struct source *)ctx)->bytes += device_bytes(where);
    return 0;
}

static int put_weight(void *ctx, const char *name, int rows, int cols, weight *where) {
    (void)name, (void)cols;
    struct source *s = ctx;
    void *to = s->block + s->used;
    if (where->cols == 1) {
        float *wide = xmalloc((size_t)rows * sizeof *wide);
        cpu_widen(wide, where->data, where->type, (size_t)rows);
        s->o->put(to, wide, (size_t)rows * sizeof *wide);
        free(wide);
        where->type = DT_F32;
    } else s->o->put(to, where->data, (size_t)rows * (size_t)where->cols * dtype_bytes(where->type));
    s->used += device_bytes(where);
    where->data = to;
    return 0;
}

static int upload(opt *m) {
    struct source s = {.o = m->o};
    opt_each_weight(m, count_weight, &s);
    if (ops_plan(m->o, s.bytes, "weights") != 0) return -1;
    m->layer = xmalloc((size_t)m->c.L * sizeof *m->layer);
    memcpy(m->layer, m->stored, (size_t)m->c.L * sizeof *m->layer);
    m->block = s.block = m->o->alloc(s.bytes);
    return opt_each_weight(m, put_weight, &s);
}

int opt_load(opt *m, const char *dir) { return opt_load_on(m, dir, ops_cpu()); }

int opt_load_on(opt *m, const char *dir, const ops *o) {
    *m = (opt){.o = o};
    if (ckpt_open(&m->file, dir) != 0) return -1;
    if (ckpt_check_values(&m->file) != 0) {
        opt_free(m);
        return -1;
    }
    m->c = m->file.config;
    if (bind(m, m->file.tensors, m->file.n_tensors) == 0 && (o->host || upload(m) == 0)) return 0;
    err_prefix("%s", dir);
    opt_free(m);
    return -1;
}

int opt_from_tensors(opt *m, const opt_config *c, const tensor *tensors, int n) { return opt_from_tensors_on(m, c, tensors, n, ops_cpu()); }

int opt_from_tensors_on(opt *m, const opt_config *c, const tensor *tensors, int n, const ops *o) {
    *m = (opt){.c = *c, .o = o};
    if (bind(m, tensors, n) == 0 && (o->host || upload(m) == 0)) return 0;
    opt_free(m);
    return -1;
}

void opt_free(opt *m) {
    if (m->block) m->o->release(m->block);
    if (m->stored != m->layer) free(m->stored);
    free(m->layer);
    free(m->wide);
    if (m->transposed) m->o->release(m->transposed);
    ckpt_close(&m->file);
    *m = (opt){0};
}

// ---------------------------------------------------------------- K/V cache
const char *const kv_policy_names[] = {"compute", "repair", "skip"};

opt_cache *opt_cache_new(const opt *m, int cap) { return opt_cache_new_kv(m, cap, KV_COMPUTE); }

opt_cache *opt_cache_new_kv(const opt *m, int cap, kv_policy kv) {
    opt_cache *c = xcalloc(1, sizeof *c);
    const size_t bytes = (size_t)m->c.L * (size_t)cap * (size_t)m->c.E * sizeof(float);
    *c = (opt_cache){.k = m->o->alloc(bytes), .v = m->o->alloc(bytes), .cap = cap, .L = m->c.L, .E = m->c.E, .o = m->o, .kv = kv, .H = m->c.H};
    if (kv == KV_REPAIR) c->in = m->o->alloc(bytes);
    if (kv != KV_COMPUTE) {
        c->has = xcalloc((size_t)m->c.L * (size_t)cap, (size_t)m->c.H);
        c->lack = xcalloc((size_t)m->c.L * (size_t)m->c.H, sizeof *c->lack);
    }
    return c;
}

void opt_cache_clear(opt_cache *c) {
    c->n = 0;
    if (c->lack) memset(c->lack, 0, (size_t)c->L * (size_t)c->H * sizeof *c->lack);
}

void opt_cache_free(opt_cache *c) {
    if (!c) return;
    c->o->release(c->k);
    c->o->release(c->v);
    if (c->in) c->o->release(c->in);
    free(c->has);
    free(c->lack);
    free(c);
}
