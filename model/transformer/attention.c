// attention - the attention sublayer, and its derivatives beside it (Pearlmutter 1994 for those of second order).
// Contracts in model_run.h.
//   q, k, v = h Wq' + bq, h Wk' + bk, h Wv' + bv     [rows, A], A = heads x D
//   a_h = softmax(q_h k_h' / sqrt(D)) v_h, causal    [rows, A] heads side by side, the tap
//   y += a Wo' + bo                                  [rows, E]
// K and V, of new tokens and of those before, are kv.c's.
#include "model_run.h"

// In the last layer only the queries of output rows count.
static void queries_from(model_run *r, int l) {
    for (int i = 0; i < r->n; i++) r->attn[i].from = rows_leaving(r, l)->all[i].row - r->every.all[i].row;
}

// ---------------------------------------------------------------- forward
void attention_heads(model_run *r, run_part *p, int l, const float *h, const row_set *rows) {
    const model_layer *w = &r->m->layer[l];
    const layer_arrays *t = &r->layer[l];
    const int D = r->m->c.D, H = heads_of(r, l);
    if (H == 0) return;
    to_units(r, t->q, h, &w->wq, &w->bq, D, &p->live_heads, rows);
    kv_attend(r, p, l, rows);
    r->o->drop_units(t->a, r->heads, r->mask_from, H, D, r->every.all, r->n);
}

void attention_out(model_run *r, run_part *p, int l, float *y, const row_set *rows) {
    const model_layer *w = &r->m->layer[l];
    from_units(r, y, r->layer[l].a, &w->wo, &w->wo_t, &w->bo, r->m->c.D, &p->live_heads, rows);
}

// ---------------------------------------------------------------- gradient
void attention_out_back(model_run *r, int l, const float *dy, const model_layer *g) {
    const model_layer *w = &r->m->layer[l];
    const layer_arrays *t = &r->layer[l];
    const span *rows = rows_leaving(r, l)->all;
    const int n = r->n, E = r->m->c.E, A = w->wq.rows;
    if (last_layer(r, l)) run_clear(r, t->da, A);
    r->o->linear_back(t->da, dy, &w->wo, false, rows, n);
    if (g) r->o->linear_grad(grad_of(&g->wo), grad_of(&g->bo), dy, t->a, E, A, rows, n);
}

// From dq, dk, dv to the gradient at h. The queries of rows that leave nothing have none.
static void inputs_back(model_run *r, const run_part *p, int l, float *dh, bool add) {
    const model_layer *w = &r->m->layer[l];
    r->o->linear_back(dh, p->dk, &w->wk, add, r->every.all, r->n);
    r->o->linear_back(dh, p->dv, &w->wv, true, r->every.all, r->n);
    r->o->linear_back(dh, p->dq, &w->wq, true, rows_leaving(r, l)->all, r->n);
}

void attention_heads_back(model_run *r, run_part *p, int l, float *dh, bool add, const float *h, const model_layer *g) {
    const layer_arrays *t = &r->layer[l];
    const span *every = r->every.all;
    const ops *o = r->o;
    const int n = r->n, E = r->m->c.E, H = heads_of(r, l), A = H * r->m->c.D;
    queries_from(r, l);
    if (A) o->attention_back(p->dq, p->dk, p->dv, t->da, t->q, t->k, t->v, A, H, r->attn, n);
    if (g) {
        o->linear_grad(grad_of(&g->wq), grad_of(&g->bq), p->dq, h, A, E, every, n);
        o->linear_grad(grad_of(&g->wk), grad_of(&g->bk), p->dk, h, A, E, every, n);
        o->linear_grad(grad_of(&g->wv), grad_of(&g->bv), p->dv, h, A, E, every, n);
    }
    inputs_back(r, p, l, dh, add);
}

// ---------------------------------------------------------------- tangent
void attention_heads_jvp(model_run *r, run_part *p, int l, const float *th, const direction *v) {
    const model_layer *w = &r->m->layer[l];
    const layer_arrays *t = &r->layer[l];
    const span *every = r->every.all, *rows = rows_leaving(r, l)->all;
    const ops *o = r->o;
    const int n = r->n, H = heads_of(r, l), A = H * r->m->c.D;
    run_clear(r, p->ta, A);
    if (th && A > 0) {
        if (last_layer(r, l)) run_clear(r, t->tq, A);
        o->linear(t->tq, th, &w->wq, NULL, false, rows, n);
        o->linear(t->tk, th, &w->wk, NULL, false, every, n);
        o->linear(t->tv, th, &w->wv, NULL, false, every, n);
        queries_from(r, l);
        o->attention_jvp(p->ta, t->q, t->k, t->v, t->tq, t->tk, t->tv, A, H, r->attn, n);
    }
    for (int i = 0; A > 0 && i < n; i++) o->add(p->ta, t->da, v->a ? v->a[i] : 1.0f, A, &rows[i], 1);
}

void attention_out_jvp(model_run *r, run_part *p, int l, float *ty) {
    r->o->linear(ty, p->ta, &r->m->layer[l].wo, NULL, true, rows_leaving(r, l)->all, r->n);
}

// ---------------------------------------------------------------- tangent of the gradient
void attention_out_back_jvp(model_run *r, run_part *p, int l, const float *tdy) {
    if (last_layer(r, l)) run_clear(r, p->tda, r->m->layer[l].wq.rows);
    r->o->linear_back(p->tda, tdy, &r->m->layer[l].wo, false, rows_leaving(r, l)->all, r->n);
}

void attention_heads_back_jvp(model_run *r, run_part *p, int l, float *tdh, bool add) {
    const layer_arrays *t = &r->layer[l];
    const int H = heads_of(r, l), A = H * r->m->c.D;
    queries_from(r, l);
    if (A)
        r->o->attention_back_jvp(p->dq, p->dk, p->dv, t->da, p->tda, t->q, t->k, t->v, t->tq, t->tk, t->tv, A, H,
                                 r->attn, r->n);
    inputs_back(r, p, l, tdh, add);
}
