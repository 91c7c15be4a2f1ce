// maps_plain - the maps of a sublayer (ops_transformer.h: maps, hidden) as the operations that they are, one by one:
// what the CPU does, and CUDA with spans of many rows.
#pragma once
#include "ops.h"

static inline void plain_input(const ops *o, const sublayer_input *in, const span *s, int n) {
    if (in->gain) o->norm(in->h, in->x, in->gain, in->bias, in->shape, s, n);
}

static inline void plain_map(const ops *o, const sublayer_map *m, const float *h, const span *s, int n) {
    if (m->u)
        o->live_linear(m->y, h, m->w, m->b, false, m->D, m->u, s, n);
    else
        o->linear(m->y, h, m->w, m->b, false, s, n);
}

// What follows q, k and v: turns and caches.
static inline void plain_places(const ops *o, const sublayer_map *m, int maps, const weight *table,
                                const int32_t *first, const span *s, int n) {
    for (int i = 0; i < maps; i++) {
        const int width = m[i].w->rows;
        if (m[i].turn && width) o->rotate(m[i].y, m[i].D, table, first, width / m[i].D, false, s, n);
        if (m[i].to && width) o->append(m[i].to, m[i].y, width, first, s, n);
    }
}

static inline void plain_maps(const ops *o, const sublayer_input *in, const sublayer_map *m, int maps,
                              const weight *table, const int32_t *first, const span *s, int n) {
    plain_input(o, in, s, n);
    for (int i = 0; i < maps; i++) plain_map(o, &m[i], in->h, s, n);
    plain_places(o, m, maps, table, first, s, n);
}

// What follows the matrices into an FFN.
static inline void plain_activation(const ops *o, float *r, const sublayer_map *m, int maps, activation act,
                                    const span *s, int n) {
    const int F = m->w->rows;
    if (maps == 1 && act == ACT_RELU)
        o->relu(r, m->y, F, s, n);
    else
        o->gated(r, m->y, maps > 1 ? m[1].y : NULL, act, F, s, n);
}

static inline void plain_hidden(const ops *o, float *r, const sublayer_input *in, const sublayer_map *m, int maps,
                                activation act, const span *s, int n) {
    plain_input(o, in, s, n);
    if (maps == 1 && act == ACT_RELU && m->u) {
        o->live_linear(r, in->h, m->w, m->b, true, m->D, m->u, s, n);
        return;
    }
    for (int i = 0; i < maps; i++) plain_map(o, &m[i], in->h, s, n);
    plain_activation(o, r, m, maps, act, s, n);
}
