// predictor_score - predictions: what the nets of one criterion say of states and contexts. Contract in predictor.h.
#include "nets.h"
#include <stdlib.h>
#include <string.h>

static void widen(double *to, const float *from, size_t n) {
    for (size_t i = 0; i < n; i++) to[i] = (double)from[i];
}

void predictor_embed_rows(float *x, float *narrow, const model *m, const int32_t *id, const span *s, int n) {
    m->o->embed(narrow ? narrow : x, id, &m->embed, s, n);
    if (narrow) m->o->linear(x, narrow, &m->proj_in, NULL, false, s, n);
}

void predictor_embed(float *x, const model *m, const int32_t *tokens, int T) {
    const span all = {0, T};
    const size_t bytes = (size_t)T * (size_t)m->c.E * sizeof *x;
    m->o->use(0);
    float *wide = m->o->alloc(bytes),
          *narrow = m->proj_in.data ? m->o->alloc((size_t)T * (size_t)m->c.P * sizeof *narrow) : NULL;
    int32_t *id = m->o->alloc((size_t)T * sizeof *id);
    m->o->put(id, tokens, (size_t)T * sizeof *id);
    predictor_embed_rows(wide, narrow, m, id, &all, 1);
    m->o->release(id);
    m->o->release(narrow);
    m->o->get(x, wide, bytes);
    m->o->release(wide);
}

// Scores of a kind by the net that reads x, into y; false: the layer has no net. x may be memory of another part.
static bool forward(predictor *p, unit_kind kind, int layer, const float *x, bool raw, float *y) {
    const predictor_info *a = &p->about;
    ASSERT(p->net[kind] && a->design != PREDICTOR_SEQUENCE && (layer >= 0) == a->per_layer && layer < a->L);
    if (layer >= 0 && layer < a->lag) return false;
    const net *n = &p->net[kind][layer < 0 ? 0 : layer - a->lag];
    net_work *w = &p->work[kind];
    if (p->o->parts > 1) {
        p->o->copy(w->x, x, (size_t)n->in * sizeof *x);
        x = w->x;
    }
    if (!raw) {
        p->o->minmax(w->x, x, n->in, &(span){0, 1}, 1);
        x = w->x;
    }
    p->read[kind] = p->o->mark();
    net_predict(n, w, x, y);
    return true;
}

long predictor_read(const predictor *p, unit_kind kind) { return p->read[kind]; }

// Room for a context of T tokens, each of which counts once; it grows by doubling, because a context grows token by
// token.
static void context_room(net_work *w, const net *n, int T) {
    if (T <= w->cap) return;
    net_work_tokens(w, n, T > 2 * w->cap ? T : 2 * w->cap);
    float *ones = xmalloc((size_t)w->cap * sizeof *ones);
    for (int t = 0; t < w->cap; t++) ones[t] = 1;
    w->o->put(w->count, ones, (size_t)w->cap * sizeof *ones);
    free(ones);
}

// Scores of the sequence design from T tokens' embeddings in the work of the kind, normalised.
static const float *forward_tokens(predictor *p, unit_kind kind, int T) {
    net_work *w = &p->work[kind];
    w->s[0] = (span){0, T};
    net_forward(p->net[kind], w, 1);
    return w->y;
}

void predictor_score(predictor *p, unit_kind kind, int layer, const float *x, bool raw, float *score) {
    const size_t bytes =
        (size_t)predictor_units(&p->about, kind) * (size_t)(layer < 0 ? p->about.L : 1) * sizeof *score;
    p->o->use(0);
    if (!forward(p, kind, layer, x, raw, score)) p->o->zero(score, bytes);
}

// Embeddings of T tokens, normalised: what the nets of both kinds read.
static void context_embed(float *x, const model *m, const int32_t *id, int T) {
    const span all = {0, T};
    float *narrow = m->proj_in.data ? m->o->alloc((size_t)T * (size_t)m->c.P * sizeof *narrow) : NULL;
    predictor_embed_rows(x, narrow, m, id, &all, 1);
    m->o->minmax(x, x, m->c.E, &all, 1);
    m->o->release(narrow);
}

void predictor_score_context(predictor *p, const model *m, const int32_t *tokens, int T,
                             float *const score[UNIT_KINDS]) {
    const ops *o = p->o;
    const float *embedded = NULL;
    ASSERT(p->about.design == PREDICTOR_SEQUENCE && m->o == o);
    o->use(0);
    for (unit_kind k = UNIT_HEADS; k < UNIT_KINDS; k++) {
        if (!score[k]) continue;
        const net *n = p->net[k];
        net_work *w = &p->work[k];
        context_room(w, n, T);
        if (embedded)
            o->copy(w->tokens, embedded, (size_t)T * (size_t)n->in * sizeof *embedded);
        else {
            o->put(w->id, tokens, (size_t)T * sizeof *w->id);
            context_embed(w->tokens, m, w->id, T);
        }
        embedded = w->tokens;
        o->copy(score[k], forward_tokens(p, k, T), (size_t)n->out * sizeof **score);
    }
}

void predictor_all(predictor *p, const float *const x[UNIT_KINDS], int T, double *heads, double *neurons) {
    double *out[UNIT_KINDS] = {heads, neurons};
    ASSERT(p->o->host);
    for (unit_kind k = UNIT_HEADS; k < UNIT_KINDS; k++) {
        if (!out[k]) continue;
        const net *n = p->net[k];
        const float *y;
        if (n->kind == NET_POOL) {
            context_room(&p->work[k], n, T);
            p->o->minmax(p->work[k].tokens, x[0], n->in, &(span){0, T}, 1);
            y = forward_tokens(p, k, T);
        } else {
            y = p->work[k].y;
            forward(p, k, -1, x[k], false, p->work[k].y);
        }
        widen(out[k], y, (size_t)n->out);
    }
}

static void score_layer(predictor *p, int layer, const float *const x[UNIT_KINDS], bool raw, double *heads,
                        double *neurons) {
    double *out[UNIT_KINDS] = {heads, neurons};
    ASSERT(p->o->host);
    for (unit_kind k = UNIT_HEADS; k < UNIT_KINDS; k++) {
        if (!out[k]) continue;
        const size_t units = (size_t)predictor_units(&p->about, k);
        float *y = p->work[k].y;
        if (forward(p, k, layer, x[k], raw, y))
            widen(out[k], y, units);
        else
            memset(out[k], 0, units * sizeof *out[k]);
    }
}

void predictor_layer(predictor *p, int layer, const float *const x[UNIT_KINDS], double *heads, double *neurons) {
    score_layer(p, layer, x, false, heads, neurons);
}

void predictor_layer_raw(predictor *p, int layer, const float *const x[UNIT_KINDS], double *heads, double *neurons) {
    score_layer(p, layer, x, true, heads, neurons);
}
