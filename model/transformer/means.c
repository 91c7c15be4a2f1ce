// means - what dropped units put out instead of 0, and the products over live units that allow for it. Contracts in
// model.h and model_run.h.
#include "model_run.h"
#include <stdlib.h>

typedef struct {
    float *mean, *negated;  // device memory, [units D]
    weight minus, bias;     // negated, as a bias; c of model_run.h
} layer_means;

struct model_means {
    const model *m;
    layer_means *of[UNIT_KINDS];  // [L]
};

static void make_layer(layer_means *to, const model *m, int l, unit_kind kind, const double *mean) {
    const ops *o = m->o;
    const weight *w = model_reader(m, l, kind), *b = kind == UNIT_HEADS ? &m->layer[l].bo : &m->layer[l].b2;
    const int n = w->cols, E = w->rows;
    const span one = {0, 1};
    float *host = xmalloc(2 * ((size_t)n + 1) * sizeof *host), *y;
    for (int i = 0; i < n; i++) host[i] = (float)mean[i], host[n + i] = -host[i];
    o->use(model_part(m, l));
    to->mean = o->alloc(((size_t)n + 1) * sizeof *to->mean);
    to->negated = o->alloc(((size_t)n + 1) * sizeof *to->negated);
    y = o->alloc((size_t)E * sizeof *y);
    o->put(to->mean, host, (size_t)n * sizeof *host);
    o->put(to->negated, host + n, (size_t)n * sizeof *host);
    o->linear(y, to->mean, w, maybe(b), false, &one, 1);
    to->minus = (weight){to->negated, DT_F32, n, 1, NULL, NULL, false};
    to->bias = (weight){y, DT_F32, E, 1, NULL, NULL, false};
    free(host);
}

model_means *model_means_new(const model *m, const double *heads, const double *neurons) {
    model_means *s = xcalloc(1, sizeof *s);
    const double *from[UNIT_KINDS] = {heads, neurons};
    s->m = m;
    for (unit_kind kind = UNIT_HEADS; kind < UNIT_KINDS; kind++) {
        const size_t width = (size_t)model_all_units(&m->c, kind) * (size_t)(kind == UNIT_HEADS ? m->c.D : 1);
        s->of[kind] = xcalloc((size_t)m->c.L, sizeof *s->of[kind]);
        for (int l = 0; l < m->c.L; l++) make_layer(&s->of[kind][l], m, l, kind, from[kind] + (size_t)l * width);
    }
    m->o->use(0);
    return s;
}

void model_means_free(model_means *s) {
    for (unit_kind kind = UNIT_HEADS; s && kind < UNIT_KINDS; kind++) {
        for (int l = 0; l < s->m->c.L; l++) {
            layer_means *of = &s->of[kind][l];
            s->m->o->release(of->mean);
            s->m->o->release(of->negated);
            s->m->o->release((void *)(uintptr_t)of->bias.data);
        }
        free(s->of[kind]);
    }
    free(s);
}

static const layer_means *layer_of(const model_run *r, int layer, unit_kind kind) {
    return r->means ? &r->means->of[kind][layer] : NULL;
}

const float *means_values(const model_run *r, int layer, unit_kind kind) {
    const layer_means *of = layer_of(r, layer, kind);
    return of ? of->mean : NULL;
}

const weight *means_bias(const model_run *r, int layer, unit_kind kind, const weight *b) {
    const layer_means *of = layer_of(r, layer, kind);
    return of ? &of->bias : b;
}

void means_subtract(model_run *r, int layer, unit_kind kind, float *x, const row_set *rows) {
    const layer_means *of = layer_of(r, layer, kind);
    const int n = model_reader(r->m, layer, kind)->cols;
    const weight none = {NULL, DT_F32, n, 0, NULL, NULL, false};
    if (of && rows->n_live && n) r->o->linear(x, x, &none, &of->minus, true, rows->live, r->n);
}
